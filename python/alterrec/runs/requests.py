"""What callers of a model pass, as numbers: sessions, filters and users by their ids."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from alterrec.errors import InputError, number_of
from alterrec.vocabulary import Vocabulary

Numbers = NDArray[np.int64]
# Item ids: one list for all sessions, or for each session a list, or None where it has no filter.
ItemFilter = Sequence[str | int] | Sequence[Sequence[str | int] | None]
# The same as item numbers.
NumberFilter = Numbers | Sequence[Numbers | None]


def session_numbers(
    sessions: Any, vocabulary: Vocabulary, *, drop_unknown: bool
) -> tuple[list[Numbers], list[list[str]]]:
    """Return the known items of each session as numbers, and the ids of its unknown ones.

    Raises:
        InputError: a session is empty or no list, or an id is neither text nor an integer; or unknown, unless
            ``drop_unknown``.

    Example:
        >>> session_numbers([["lamp", "boat"]], Vocabulary(("tent", "lamp")), drop_unknown=True)
        ([array([1])], [['boat']])
    """
    numbers, unknown = [], []
    for place, session in enumerate(listed("sessions", sessions)):
        found = [] if isinstance(session, str) else listed(f"session {place}", session)
        if not found:
            raise InputError(f"session {place} is {session!r}; expected a list of one or more item ids")
        items, others = known_items(f"session {place}", found, vocabulary, drop_unknown=drop_unknown)
        numbers.append(items)
        unknown.append(others)
    return numbers, unknown


def known_items(
    name: str, items: Sequence[Any], vocabulary: Vocabulary, *, drop_unknown: bool = False
) -> tuple[Numbers, list[str]]:
    """Return the numbers of the known ones of some items, and the ids of the others.

    Args:
        name: what the items are, for messages.
        items: ids.
        vocabulary: the catalogue.
        drop_unknown: whether unknown ids are allowed.
    """
    # Texts first: a service gets nothing else, and a message for each item would take longer than the rest.
    names = [
        item if type(item) is str else id_text(f"{name}, item {at}", item) for at, item in enumerate(items)
    ]
    if not drop_unknown:
        try:
            return vocabulary.index(names), []
        except InputError as error:
            raise InputError(f"{error} ({name})") from None
    numbers = vocabulary.find(names)
    known = numbers >= 0
    if known.all():
        return numbers, []
    return numbers[known], [name for name, found in zip(names, known.tolist(), strict=True) if not found]


def item_numbers(items: Any, vocabulary: Vocabulary) -> Numbers:
    """Return the numbers of the items of an argument ``items``; InputError if one is unknown.

    Example:
        >>> item_numbers(["lamp"], Vocabulary(("tent", "lamp")))
        array([1])
    """
    if isinstance(items, str):
        raise InputError(f"items is {items!r}; expected a list of item ids")
    return known_items("items", listed("items", items), vocabulary)[0]


def filter_numbers(
    name: str, values: ItemFilter | None, sessions: int, vocabulary: Vocabulary, *, drop_unknown: bool
) -> tuple[NumberFilter | None, list[str]]:
    """Return a filter as item numbers, and the distinct ids in it that are unknown.

    Args:
        name: name of the argument, for messages.
        values: ids, one list for all sessions or one for each. None: no filter.
        sessions: number of sessions.
        vocabulary: the catalogue.
        drop_unknown: whether unknown ids are allowed.

    Raises:
        InputError: a list for each session of another number than there are sessions, or an id as in
            :func:`session_numbers`.

    Example:
        >>> names = Vocabulary(("tent", "lamp"))
        >>> filter_numbers("only", ["lamp", "boat"], 2, names, drop_unknown=True)
        (array([1]), ['boat'])
        >>> filter_numbers("only", [["lamp"], None], 2, names, drop_unknown=False)
        ([array([1]), None], [])
    """
    if values is None:
        return None, []
    if isinstance(values, str):
        raise InputError(f"{name} is {values!r}; expected a list of item ids, or one list for each session")
    rows = listed(name, values)
    if not any(row is None or _is_list(row) for row in rows):
        return known_items(name, rows, vocabulary, drop_unknown=drop_unknown)
    if len(rows) != sessions:
        raise InputError(
            f"{name} has {number_of(len(rows), 'list')} for {number_of(sessions, 'session')}; expected one "
            "list for each session, or a list of item ids for all of them"
        )
    numbers: list[Numbers | None] = []
    unknown: dict[str, None] = {}
    for place, row in enumerate(rows):
        if row is None:
            numbers.append(None)
            continue
        own = f"{name}[{place}]"
        if isinstance(row, str):
            raise InputError(f"{own} is {row!r}; expected a list of item ids, or None")
        items, others = known_items(own, listed(own, row), vocabulary, drop_unknown=drop_unknown)
        numbers.append(items)
        unknown |= dict.fromkeys(others)
    return numbers, list(unknown)


def rows_of(items: NumberFilter | None, rows: Sequence[int]) -> NumberFilter | None:
    """Return a filter for some of the sessions.

    Example:
        >>> rows_of([None, np.array([3])], [1])
        [array([3])]
    """
    return items if items is None or isinstance(items, np.ndarray) else [items[row] for row in rows]


def user_numbers(
    users: Sequence[str | int | None] | None, sessions: int, known: Vocabulary | None
) -> Numbers | None:
    """Return the numbers of users, -1 for unknown ones; None if none are given or the model knows none.

    Raises:
        InputError: not one user for each session, or an id that is neither text nor an integer.
    """
    if users is None:
        return None
    if isinstance(users, str) or len(listed("users", users)) != sessions:
        found = repr(users) if isinstance(users, str) else f"a list of {len(users)}"
        raise InputError(
            f"users is {found} for {sessions} sessions; expected a list with one user id for each "
            "session, None where it is unknown"
        )
    # No user is called "".
    names = ["" if user is None else id_text(f"users[{at}]", user) for at, user in enumerate(users)]
    return None if known is None else known.find(names)


def listed(name: str, values: Any) -> list[Any]:
    """Return the elements of a list, an array or another collection."""
    try:
        return list(values)
    except TypeError:
        raise InputError(f"{name} is {values!r}; expected a list") from None


def id_text(name: str, value: Any) -> str:
    """Return an external id as text; integers are written out."""
    if isinstance(value, str):
        return str(value)
    if isinstance(value, int | np.integer) and not isinstance(value, bool):
        return str(int(value))
    raise InputError(f"{name} is {value!r} ({type(value).__name__}); expected an id as text or as an integer")


def _is_list(value: Any) -> bool:
    return not isinstance(value, str | bytes) and hasattr(value, "__iter__")

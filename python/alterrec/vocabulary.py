"""Numbers for items whose ids are texts; needs only numpy.

>>> from alterrec.vocabulary import Vocabulary
>>> sessions = [["tent", "lamp"], ["rug", "tent"]]
>>> vocabulary = Vocabulary.of_sessions(sessions)
>>> vocabulary.store(sessions)
SessionStore(num_sessions=2, num_interactions=4, num_items=3)
>>> vocabulary.names([2, 0])
['rug', 'tent']
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import chain, islice
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from alterrec._ranking_arguments import as_integers
from alterrec.errors import InputError, nearest, number_of
from alterrec.sessions import SessionStore

__all__ = ["Vocabulary"]


@dataclass(frozen=True)
class Vocabulary:
    """External ids by number: item ``j`` of the catalogue has the id ``item_ids[j]``.

    The ids of users are kept in the same way.

    Args:
        item_ids: the ids, each once.

    Example:
        >>> vocabulary = Vocabulary(("tent", "lamp"))
        >>> len(vocabulary), vocabulary.index(["lamp", "tent"]), vocabulary.find(["boat"])
        (2, array([1, 0]), array([-1]))
    """

    item_ids: tuple[str, ...]

    @classmethod
    def of_sessions(cls, sessions: Iterable[Iterable[str]]) -> Vocabulary:
        """Collect the ids of sessions; they are numbered in the order in which they first appear.

        Args:
            sessions: item ids of each session.

        Example:
            >>> Vocabulary.of_sessions([["tent", "lamp", "tent"], ["rug"]]).item_ids
            ('tent', 'lamp', 'rug')
        """
        return cls(tuple(dict.fromkeys(chain.from_iterable(sessions))))

    def __repr__(self) -> str:
        shown = ", ".join(repr(each) for each in self.item_ids[:3])
        return f"Vocabulary({number_of(len(self), 'id')}: {shown}{', ...' if len(self) > 3 else ''})"

    def __len__(self) -> int:
        return len(self.item_ids)

    @cached_property
    def _numbers(self) -> dict[str, int]:
        return {item: number for number, item in enumerate(self.item_ids)}

    def find(self, items: Sequence[str]) -> NDArray[np.int64]:
        """Item numbers, (N,) int64; -1 for an id that is not in the catalogue."""
        return np.fromiter((self._numbers.get(item, -1) for item in items), np.int64, len(items))

    def index(self, items: Sequence[str]) -> NDArray[np.int64]:
        """Item numbers, (N,) int64; InputError with the first unknown id and the most similar known one.

        Example:
            >>> Vocabulary(("tent", "lamp")).index(["tend"])
            Traceback (most recent call last):
                ...
            alterrec.errors.InputError: item 'tend' is not in the catalogue of 2 items; did you mean 'tent'?
        """
        numbers = self.find(items)
        unknown = np.flatnonzero(numbers < 0)
        if unknown.size:
            name = items[unknown[0]]
            raise InputError(
                f"item {name!r} is not in the catalogue of {len(self)} items{self.nearest(name)}"
            )
        return numbers

    def names(self, numbers: ArrayLike) -> list[Any]:
        """Return the ids of item numbers, as lists in the shape of the numbers.

        Args:
            numbers: integers of any shape, such as the items (B, k) of :func:`alterrec.ranking.top_ranked`;
                an array, a list or a tensor.

        Raises:
            ValueError: not integers, or a number outside the catalogue.

        Example:
            >>> Vocabulary(("tent", "lamp")).names([[0, 1], [1, 1]])
            [['tent', 'lamp'], ['lamp', 'lamp']]
        """
        places = as_integers("numbers", numbers)
        if places.size == 0:
            empty: list[Any] = places.tolist()
            return empty
        for number in (places.min(), places.max()):
            if not 0 <= number < len(self):
                raise InputError(f"item number {number} is not in the catalogue; use 0 to {len(self) - 1}")
        ids = np.empty(places.size, dtype=object)
        ids[:] = [self.item_ids[number] for number in places.ravel().tolist()]
        named: list[Any] = ids.reshape(places.shape).tolist()
        return named

    def store(self, sessions: Sequence[Sequence[str]]) -> SessionStore:
        """Store sessions of ids; session ``i`` of the store is ``sessions[i]``.

        Args:
            sessions: item ids of each session, oldest first; none may be empty.

        Raises:
            InputError: an id is not in the catalogue, or a session has no item.

        Example:
            >>> store = Vocabulary(("tent", "lamp")).store([["lamp", "tent"], ["lamp"]])
            >>> store.items.tolist(), store.offsets.tolist()
            ([1, 0, 1], [0, 2, 3])
        """
        lengths = np.fromiter(map(len, sessions), np.int64, len(sessions))
        empty = np.flatnonzero(lengths == 0)
        if empty.size:
            raise InputError(f"session {empty[0]} has no items; leave it out")
        numbers = self.index(list(chain.from_iterable(sessions)))
        return SessionStore.from_arrays(
            np.repeat(np.arange(len(sessions)), lengths), numbers, num_items=len(self)
        )

    def nearest(self, unknown: str) -> str:
        """The hint of :func:`alterrec.errors.nearest`, among ids of about the same length."""
        candidates = (item for item in self.item_ids if abs(len(item) - len(unknown)) <= 1)
        # The edit distance to all ids of a large catalogue would take minutes.
        return nearest(unknown, islice(candidates, 5000))

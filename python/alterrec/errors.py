"""The exception for wrong input, which the command line prints before it exits with code 2."""

from __future__ import annotations

import difflib
from collections.abc import Collection, Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

# Exit code of the command line for an InputError.
WRONG_INPUT = 2


class InputError(ValueError):
    """Wrong input or a wrong option: the message says what was found, what is allowed and how to fix it.

    Example:
        >>> raise InputError("schedule.gap is 0; use 1 or more")
        Traceback (most recent call last):
            ...
        alterrec.errors.InputError: schedule.gap is 0; use 1 or more
    """


class PeerError(RuntimeError):
    """Another process of a job has ended, so this one cannot go on."""


def nearest(name: str, known: Iterable[str]) -> str:
    """Return the hint ``; did you mean 'x'?`` with the most similar known name, or an empty string.

    Example:
        >>> nearest("item_idd", ["session_id", "item_id"])
        "; did you mean 'item_id'?"
        >>> nearest("zzz", ["item_id"])
        ''
    """
    return _question(difflib.get_close_matches(name, list(known), n=1))


def nearest_key(key: str, known: Collection[str]) -> str:
    """Return the hint of :func:`nearest` for a recipe key: the same field in another section comes first.

    Example:
        >>> keys = ["model.dim", "id.lr", "text.lr", "schedule.patience", "optim.batch_size"]
        >>> nearest_key("dim", keys), nearest_key("schedule.batch_size", keys)
        ("; did you mean 'model.dim'?", "; did you mean 'optim.batch_size'?")
        >>> nearest_key("lr", keys), nearest_key("batchsize", keys)
        ("; did you mean 'id.lr' or 'text.lr'?", "; did you mean 'optim.batch_size'?")
    """

    def of_field(field: str) -> list[str]:
        return [each for each in known if each.rpartition(".")[2] == field]

    field = key.rpartition(".")[2]
    if same := of_field(field):
        return _question(difflib.get_close_matches(key, same, n=1) or same)
    if close := difflib.get_close_matches(key, known, n=1):
        return _question(close)
    fields = sorted({each.rpartition(".")[2] for each in known})
    return _question(
        [each for name in difflib.get_close_matches(field, fields, n=1) for each in of_field(name)]
    )


def number_of(number: int, noun: str) -> str:
    """Return a number followed by its noun, in the plural unless the number is 1.

    Example:
        >>> number_of(1, "session"), number_of(0, "item")
        ('1 session', '0 items')
    """
    return f"{number} {noun}{'' if number == 1 else 's'}"


def _question(names: Sequence[str]) -> str:
    if not names:
        return ""
    return f"; did you mean {' or '.join(filter(None, (', '.join(map(repr, names[:-1])), repr(names[-1]))))}?"


@contextmanager
def naming(path: Path) -> Iterator[None]:
    """Put a path in front of the message of an InputError that does not contain it.

    Raises:
        InputError: the block raised one.

    Example:
        >>> with naming(Path("shop")):
        ...     raise InputError("gap is 0; expected a number above 0")
        Traceback (most recent call last):
            ...
        alterrec.errors.InputError: shop: gap is 0; expected a number above 0
    """
    try:
        yield
    except InputError as error:
        if str(path) in str(error):
            raise
        raise InputError(f"{path}: {error}") from error.__cause__

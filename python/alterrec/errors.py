"""The exception for wrong input, which the command line prints before it exits with code 2."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Iterator
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


def nearest(name: str, known: Iterable[str]) -> str:
    """Return the hint ``; did you mean 'x'?`` with the most similar known name, or an empty string.

    Example:
        >>> nearest("item_idd", ["session_id", "item_id"])
        "; did you mean 'item_id'?"
        >>> nearest("zzz", ["item_id"])
        ''
    """
    close = difflib.get_close_matches(name, list(known), n=1)
    return f"; did you mean {close[0]!r}?" if close else ""


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

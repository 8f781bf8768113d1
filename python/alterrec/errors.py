"""The one exception that means "your input": the command line prints it and exits with 2."""

from __future__ import annotations

import difflib
from collections.abc import Iterable

# The exit code that goes with it.
WRONG_INPUT = 2


class InputError(ValueError):
    """Wrong input or option: the message names what was found, what is allowed and the fix.

    Example:
        >>> raise InputError("schedule.gap is 0; allowed: 1 or more")
        Traceback (most recent call last):
            ...
        alterrec.errors.InputError: schedule.gap is 0; allowed: 1 or more
    """


def nearest(name: str, known: Iterable[str]) -> str:
    """A hint ``; did you mean 'x'?`` with the known name nearest to ``name``, or an empty string.

    Example:
        >>> nearest("item_idd", ["session_id", "item_id"])
        "; did you mean 'item_id'?"
        >>> nearest("zzz", ["item_id"])
        ''
    """
    close = difflib.get_close_matches(name, list(known), n=1)
    return f"; did you mean {close[0]!r}?" if close else ""

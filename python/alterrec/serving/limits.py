"""The limits of the HTTP service."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields

from alterrec.errors import InputError, nearest


@dataclass(frozen=True)
class Limits:
    """What one request may ask for, and how much may wait.

    Attributes:
        body: bytes of the body of a request. Default: 1 MiB.
        sessions: sessions, or items of ``/similar``, in a request. Default: 1,000.
        items: items in a session. Default: 1,000.
        k: items to recommend for each session. Default: 1,000.
        seconds: time for receiving a request, and again for answering it. Default: 10.
        waiting: sessions that may wait for the model at a time, over all requests. Default: 2,000.
        batch: sessions that are computed together, unless one request has more. Default: 256.

    Raises:
        InputError: a limit is below 1, or ``waiting`` is below ``sessions``.

    Example:
        >>> Limits.of({"sessions": "10", "seconds": "0.5"}).seconds
        0.5
        >>> Limits.of({"session": "10"})
        Traceback (most recent call last):
            ...
        alterrec.errors.InputError: 'session' is no limit; did you mean 'sessions'? The limits are body, \
sessions, items, k, seconds, waiting and batch
    """

    body: int = 2**20
    sessions: int = 1_000
    items: int = 1_000
    k: int = 1_000
    seconds: float = 10.0
    waiting: int = 2_000
    batch: int = 256

    def __post_init__(self) -> None:
        for name, value in asdict(self).items():
            if not (math.isfinite(value) and value > 0):
                least = "a number above 0" if name == "seconds" else "1 or more"
                raise InputError(f"the limit {name} is {value}; expected {least}")
        if self.waiting < self.sessions:
            raise InputError(
                f"the limit waiting is {self.waiting} and sessions is {self.sessions}; a request of "
                f"{self.sessions} sessions could never wait, so waiting must be {self.sessions} or more"
            )

    @classmethod
    def of(cls, given: Mapping[str, str]) -> Limits:
        """Return the default limits with those given as text in their place.

        Raises:
            InputError: a name is unknown, a value is no number, or as for the class.
        """
        names = [each.name for each in fields(cls)]
        values: dict[str, float] = {}
        for name, text in given.items():
            if name not in names:
                every = f"{', '.join(names[:-1])} and {names[-1]}"
                hint = nearest(name, names).rstrip("?")
                raise InputError(f"{name!r} is no limit{hint}{'?' if hint else '.'} The limits are {every}")
            try:
                values[name] = float(text) if name == "seconds" else int(text)
            except ValueError:
                kind = "a number" if name == "seconds" else "an integer"
                raise InputError(f"the limit {name} is {text!r}; expected {kind}") from None
        return cls(**values)  # type: ignore[arg-type]

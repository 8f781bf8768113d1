"""The rows of a log as sessions, and numbers for its ids; needs only numpy.

>>> from alterrec.logs import cut_sessions
>>> order, offsets = cut_sessions([1, 0, 1, 1], [50, 7, 10, 12], gap=30)
>>> [order[start:stop].tolist() for start, stop in zip(offsets, offsets[1:])]
[[1], [2, 3], [0]]
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from alterrec import _core
from alterrec._core import IdNumbers

__all__ = ["IdNumbers", "SessionCut", "cut_sessions"]


class SessionCut(NamedTuple):
    """The rows of a log as sessions: session i has the rows ``order[offsets[i]:offsets[i + 1]]``.

    Attributes:
        order: (N,) uint32, a permutation of the rows.
        offsets: (S + 1,) int64.
    """

    order: NDArray[np.uint32]
    offsets: NDArray[np.int64]


def cut_sessions(
    users: ArrayLike,
    timestamps: ArrayLike | None = None,
    gap: int | None = None,
    *,
    threads: int | None = None,
) -> SessionCut:
    """Order the rows of a log by user and time, and cut the rows of a user into sessions.

    Sessions are ordered by user, then by time. Rows of a user with equal times, or without times, keep their
    order. Users numbered from 0 as uint32 and int64 times are read as they are; other arrays are converted.

    Args:
        users: (N,) integers, the user of each row; or its session, where sessions are known.
        timestamps: (N,) integers.
        gap: a session ends where the next row of its user is more than this later. None, or no timestamps:
            one session per user.
        threads: None means one per core.

    Raises:
        ValueError: lengths differ, a dtype is not an integer, ``gap`` is negative, or N is 2**32 or more.

    Example:
        >>> order, offsets = cut_sessions([1, 0, 1, 1], [50, 7, 10, 12], gap=30)
        >>> [order[start:stop].tolist() for start, stop in zip(offsets, offsets[1:])]
        [[1], [2, 3], [0]]
    """
    return SessionCut(*_core.cut_sessions(users, timestamps, gap, threads))

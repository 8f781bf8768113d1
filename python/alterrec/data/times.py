"""The times of interactions: their unit, and the age of training sessions."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from alterrec.sessions import SessionStore

# Seconds since 1970 at the beginning of 1990 and of 2100.
YEAR_1990, YEAR_2100 = 631_152_000, 4_102_444_800


def units_per_day(time: int) -> int | None:
    """Return the length of a day in the unit of a timestamp; None if the unit is unknown.

    The timestamp is read as seconds, milliseconds, microseconds or nanoseconds since 1970. Only one of these
    units places it between 1990 and 2100, if any does.

    Example:
        >>> units_per_day(1_700_000_000), units_per_day(1_700_000_000_000), units_per_day(188_259)
        (86400, 86400000, None)
    """
    units = (10**power for power in (0, 3, 6, 9))
    return next((86_400 * unit for unit in units if YEAR_1990 <= time // unit < YEAR_2100), None)


def used_shares(store: SessionStore, half_life: float) -> NDArray[np.float64] | None:
    """Return the probability with which a sample of each session is used in an epoch of training.

    It is ``2 ** (-age / half_life)``. The age of a session is the time from its last interaction to the last
    one of all sessions, as a share of the period of all sessions. What people do changes, so recent sessions
    tell more about the next ones; docs/decisions.md has the gain.

    Args:
        store: the training sessions.
        half_life: age at which half of the samples are used, as a share of the training period; 0 for all
            samples.

    Returns:
        Probabilities (S,), or None if all samples are used: without half-life, and where the timestamps are
        missing or are no times (see :func:`units_per_day`).

    Example:
        >>> days = np.array([20_000, 20_005, 20_010]) * 86_400
        >>> store = SessionStore.from_arrays([0, 1, 2], [4, 2, 3], timestamps=days)
        >>> used_shares(store, half_life=0.5)
        array([0.25, 0.5 , 1.  ])
    """
    if not half_life or store.timestamps is None or not store.num_sessions:
        return None
    ended = store.timestamps[store.offsets[1:].astype(np.int64) - 1].astype(np.float64)
    first, last = float(ended.min()), float(ended.max())
    if units_per_day(int(last)) is None or first == last:
        return None
    shares: NDArray[np.float64] = 2.0 ** ((ended - last) / (last - first) / half_life)
    return shares

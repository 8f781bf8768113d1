"""Events become sessions: by a given id, by user and inactivity, by user and day, or one per user."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from alterrec.data.event_table import EventTable
from alterrec.data.formats.source import Choices

# Splits that treat the parts of a source as one.
POOLED = ("time", "days", "last-item")
DAY = 86_400


@dataclass(frozen=True)
class SessionTable:
    """Sessions as rows of arrays; N events in S sessions.

    Attributes:
        offsets: (S + 1,); session s has the events ``offsets[s]`` to ``offsets[s + 1] - 1``, in their order.
        item, row: (N,) item and row in the source of each event.
        time: (N,) timestamps, or None.
        user: (S,) user, -1 if unknown; None without users.
        name: (S,) number of the given session id; None if the sessions were made.
        part: (S,) index of the part of the source.
        first_row: (S,) first row in the source of the session as it was made.
    """

    offsets: NDArray[np.int64]
    item: NDArray[np.uint32]
    row: NDArray[np.uint32]
    time: NDArray[np.int64] | None
    user: NDArray[np.int32] | None
    name: NDArray[np.uint32] | None
    part: NDArray[np.uint8]
    first_row: NDArray[np.uint32]

    def __len__(self) -> int:
        return len(self.offsets) - 1

    @property
    def num_events(self) -> int:
        """Number of events, N."""
        return len(self.item)

    @property
    def num_items(self) -> int:
        """Number of distinct items."""
        return int((np.bincount(self.item) > 0).sum())

    def order(self) -> NDArray[np.int64]:
        """Sessions by time of their last event, then by first row; without times by first row."""
        ends = self.ends
        keys: list[NDArray[Any]] = [self.first_row] if ends is None else [self.first_row, ends]
        return np.lexsort(keys)

    @property
    def lengths(self) -> NDArray[np.int64]:
        """Number of events of each session, (S,)."""
        return np.diff(self.offsets)

    @property
    def ends(self) -> NDArray[np.int64] | None:
        """Time of the last event of each session, (S,), or None without times."""
        return None if self.time is None else self.time[self.offsets[1:] - 1]

    @property
    def last_row(self) -> NDArray[np.uint32]:
        """Row of the last event of each session, (S,)."""
        return self.row[self.offsets[1:] - 1]

    def take(self, sessions: NDArray[np.int64]) -> SessionTable:
        """The sessions with these numbers, in this order."""
        lengths = self.lengths[sessions]
        offsets = np.concatenate([[0], np.cumsum(lengths)])
        # HOT SPOT: an index of all events.
        events = np.repeat(self.offsets[sessions] - offsets[:-1], lengths) + np.arange(offsets[-1])
        return self._rebuilt(offsets, events, sessions)

    def keep(self, kept: NDArray[np.bool_]) -> SessionTable:
        """The sessions with only the events of a mask (N,); sessions without any are left out."""
        if kept.all():
            return self
        before = np.concatenate([[0], np.cumsum(kept)])
        lengths = np.diff(before[self.offsets])
        sessions = np.flatnonzero(lengths)
        offsets = np.concatenate([[0], np.cumsum(lengths[sessions])])
        return self._rebuilt(offsets, np.flatnonzero(kept), sessions)

    def _rebuilt(
        self, offsets: NDArray[np.int64], events: NDArray[np.int64], sessions: NDArray[np.int64]
    ) -> SessionTable:
        return SessionTable(
            offsets=offsets,
            item=self.item[events],
            row=self.row[events],
            time=None if self.time is None else self.time[events],
            user=None if self.user is None else self.user[sessions],
            name=None if self.name is None else self.name[sessions],
            part=self.part[sessions],
            first_row=self.first_row[sessions],
        )


def sessionize(table: EventTable, choices: Choices, per_second: int) -> tuple[SessionTable, int]:
    """Make sessions of events.

    The events of a session are ordered by time; equal times, and tables without times, keep the order of the
    rows. With ``gap``, a session ends where more than ``gap`` seconds pass before the user's next event.

    Returns:
        The sessions in no particular order, and how many of them have several users; their user is unknown.
    """
    given = choices.sessions == "given"
    key = table.session if given else table.user
    assert key is not None
    pooled = choices.split in POOLED and not given
    keys = [table.row, *([] if table.time is None else [table.time]), key, *([] if pooled else [table.part])]
    # HOT SPOT: a comparison sort of all events.
    order = np.lexsort(keys)
    key, row = key[order], table.row[order]
    time = None if table.time is None else table.time[order]
    first = np.ones(len(order), np.bool_)
    first[1:] = key[1:] != key[:-1]
    if not pooled:
        part = table.part[order]
        first[1:] |= part[1:] != part[:-1]
    if choices.sessions == "gap":
        assert time is not None
        assert choices.gap is not None
        # Times of one user ascend, so the difference fits into 64 bits without a sign.
        passed = time.view(np.uint64)[1:] - time.view(np.uint64)[:-1]
        first[1:] |= passed > np.uint64(choices.gap * per_second)
    elif choices.sessions == "day":
        assert time is not None
        day = time // (DAY * per_second)
        first[1:] |= day[1:] != day[:-1]
    starts = np.flatnonzero(first)
    offsets = np.append(starts, len(order))
    user, several = _users(table, order, starts, given)
    return (
        SessionTable(
            offsets=offsets,
            item=table.item[order],
            row=row,
            time=time,
            user=user,
            name=key[starts].astype(np.uint32) if given else None,
            part=table.part[order][starts],
            first_row=np.minimum.reduceat(row, starts),
        ),
        several,
    )


def _users(
    table: EventTable, order: NDArray[np.int64], starts: NDArray[np.int64], given: bool
) -> tuple[NDArray[np.int32] | None, int]:
    if table.user is None:
        return None, 0
    user = table.user[order]
    if not given:
        return user[starts], 0
    most = np.maximum.reduceat(user, starts)
    # Guests are -1; rows of a session without a user get that of the others.
    least = np.minimum.reduceat(np.where(user < 0, np.iinfo(np.int32).max, user), starts)
    several = (most >= 0) & (least != most)
    return np.where(several, -1, most).astype(np.int32), int(several.sum())

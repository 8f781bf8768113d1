"""Events become sessions: by a given id, by user and inactivity, by user and day, or one per user."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from alterrec.data.event_table import EventTable
from alterrec.data.formats.source import Choices
from alterrec.logs import cut_sessions

# Splits that treat the parts of a source as one.
POOLED = ("time", "days", "last-item")
DAY = 86_400
# Sessions whose events are copied at once.
BLOCK = 1 << 15


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
        if np.array_equal(sessions, np.arange(len(self))):
            return self
        lengths = self.lengths[sessions]
        offsets = np.concatenate([[0], np.cumsum(lengths)])
        shift = self.offsets[sessions] - offsets[:-1]
        item, row = np.empty(offsets[-1], np.uint32), np.empty(offsets[-1], np.uint32)
        time = None if self.time is None else np.empty(offsets[-1], np.int64)
        for start in range(0, len(sessions), BLOCK):
            stop = min(start + BLOCK, len(sessions))
            place = slice(offsets[start], offsets[stop])
            events = np.repeat(shift[start:stop], lengths[start:stop]) + np.arange(place.start, place.stop)
            item[place], row[place] = self.item[events], self.row[events]
            if time is not None and self.time is not None:
                time[place] = self.time[events]
        return self._with(sessions, offsets, item, row, time)

    def keep(self, kept: NDArray[np.bool_]) -> SessionTable:
        """The sessions with only the events of a mask (N,); sessions without any are left out."""
        if kept.all():
            return self
        lengths = np.add.reduceat(kept, self.offsets[:-1], dtype=np.int64)
        sessions = np.flatnonzero(lengths)
        offsets = np.concatenate([[0], np.cumsum(lengths[sessions])])
        time = None if self.time is None else self.time[kept]
        return self._with(sessions, offsets, self.item[kept], self.row[kept], time)

    def _with(
        self,
        sessions: NDArray[np.int64],
        offsets: NDArray[np.int64],
        item: NDArray[np.uint32],
        row: NDArray[np.uint32],
        time: NDArray[np.int64] | None,
    ) -> SessionTable:
        """The sessions with these numbers, with other events."""
        return SessionTable(
            offsets=offsets,
            item=item,
            row=row,
            time=time,
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
    key, gap = _keys(table, choices), None
    if choices.sessions == "gap":
        assert choices.gap is not None
        gap = min(int(choices.gap * per_second), np.iinfo(np.int64).max)
    order, offsets = cut_sessions(key, table.time, gap)
    time = None if table.time is None else table.time[order]
    if choices.sessions == "day":
        assert time is not None
        offsets = _cut_by_day(offsets, time // (DAY * per_second))
    starts = offsets[:-1]
    first = order[starts]
    # Where all rows are used, their numbers are their places.
    row = order if table.row[-1] == len(order) - 1 else table.row[order]
    user, several = _users(table, order, starts, given)
    return (
        SessionTable(
            offsets=offsets,
            item=table.item[order],
            row=row,
            time=time,
            user=user,
            name=None if table.session is None else table.session[first],
            part=table.part[first],
            first_row=np.minimum.reduceat(row, starts),
        ),
        several,
    )


def _keys(table: EventTable, choices: Choices) -> NDArray[np.uint32] | NDArray[np.int64]:
    """The number of the user or session of each event, another one for each part unless they are pooled."""
    given = choices.sessions == "given"
    key = table.session if given else table.user
    assert key is not None
    # Rows without a user are not used if sessions are those of users.
    key = key.view(np.uint32)
    parts = int(table.part.max(initial=0)) + 1
    if parts == 1 or (choices.split in POOLED and not given):
        return key
    size = int(key.max(initial=0)) + 1
    by_part: NDArray[np.int64] = table.part.astype(np.int64) * size + key
    return by_part.astype(np.uint32) if parts * size < 2**32 else by_part


def _cut_by_day(offsets: NDArray[np.int64], day: NDArray[np.int64]) -> NDArray[np.int64]:
    first = np.zeros(len(day), np.bool_)
    first[offsets[:-1]] = True
    first[1:] |= day[1:] != day[:-1]
    return np.append(np.flatnonzero(first), len(day))


def _users(
    table: EventTable, order: NDArray[np.uint32], starts: NDArray[np.int64], given: bool
) -> tuple[NDArray[np.int32] | None, int]:
    if table.user is None:
        return None, 0
    if not given:
        return table.user[order[starts]], 0
    user = table.user[order]
    most = np.maximum.reduceat(user, starts)
    # Guests are -1; rows of a session without a user get that of the others.
    least = np.minimum.reduceat(np.where(user < 0, np.iinfo(np.int32).max, user), starts)
    several = (most >= 0) & (least != most)
    return np.where(several, -1, most).astype(np.int32), int(several.sum())

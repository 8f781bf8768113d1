"""Events of a source as columns of numbers: rows that cannot be used are counted and left out."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from threading import Lock
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from alterrec.data.formats.source import PROBLEM, Choices, Source
from alterrec.errors import InputError, nearest
from alterrec.logs import IdNumbers

# Columns that no source has.
ROW, PART = "alterrec row", "alterrec part"
# Columns of events that describe the event; all others describe its item.
EVENT_COLUMNS = ("session_id", "user_id", "item_id", "timestamp", "event", PROBLEM, ROW, PART)
NO_EVENT = "no kind of event"
# Texts that are numbered at once.
PIECE = 1 << 17


@dataclass(frozen=True)
class EventIds:
    """The texts of the ids of usable events, in the order in which they first appear.

    Attributes:
        parts: names of the tables of the source, such as ``train`` and ``test``.
        item_ids, user_ids, session_ids: ids by number; None where they are not read.
    """

    parts: tuple[str, ...]
    item_ids: pl.Series
    user_ids: pl.Series | None
    session_ids: pl.Series | None


@dataclass(frozen=True)
class EventTable:
    """The usable events of a source, in the order of its rows; ids are numbers of an :class:`EventIds`.

    Attributes:
        row: (N,) number of the row in the source, over all parts.
        part: (N,) index of the table of the source.
        item: (N,) number of the item.
        user: (N,) number of the user, -1 for guests; None without users.
        session: (N,) number of the session; None unless the sessions are given.
        time: (N,) timestamps, or None.
    """

    row: NDArray[np.uint32]
    part: NDArray[np.uint8]
    item: NDArray[np.uint32]
    user: NDArray[np.int32] | None
    session: NDArray[np.uint32] | None
    time: NDArray[np.int64] | None


@dataclass(frozen=True)
class RowCounts:
    """How many rows a source has, and why some of them are not used.

    Attributes:
        rows: all rows.
        dropped: reason -> rows that cannot be used.
        kinds: kind of event -> usable rows; empty if the source has no kinds.
        used: rows that are usable and of a chosen kind.
    """

    rows: int
    dropped: dict[str, int]
    kinds: dict[str, int]
    used: int


def collect(frame: pl.LazyFrame) -> pl.DataFrame:
    """Collect a frame by the engine that reads it in pieces."""
    return frame.collect(engine="streaming")


def all_rows(source: Source) -> pl.LazyFrame:
    """The rows of all parts of a source, with their number and the index of their part."""
    parts = [
        frame.with_columns(pl.lit(number, pl.UInt8).alias(PART))
        for number, frame in enumerate(source.events.values())
    ]
    return pl.concat(parts, how="diagonal").with_row_index(ROW)


class Numbering:
    """Numbers for the texts of a column, which several threads read piece by piece.

    Example:
        >>> numbering = Numbering()
        >>> numbering(pl.Series(["tent", None, "tent"])).to_list(), numbering.texts
        ([0, 1, 0], ['tent', ''])
    """

    def __init__(self) -> None:
        self.texts: list[str] = []
        self._numbers = IdNumbers()
        self._lock = Lock()

    def __call__(self, texts: pl.Series) -> pl.Series:
        """The number of each text; null is an empty text."""
        if texts.null_count() == len(texts) > 1:
            # A column of problems has almost nothing else.
            return pl.Series(texts.name, np.repeat(self._piece(texts.slice(0, 1)), len(texts)))
        pieces = [self._piece(texts.slice(start, PIECE)) for start in range(0, len(texts), PIECE)]
        return pl.Series(texts.name, np.concatenate([np.empty(0, np.uint32), *pieces]))

    def _piece(self, texts: pl.Series) -> NDArray[np.uint32]:
        texts = texts.fill_null("")
        joined, lengths = texts.str.join("").item().encode(), texts.str.len_bytes().to_numpy()
        with self._lock:
            numbers, new = self._numbers.number(joined, lengths)
            self.texts += texts.gather(new).to_list()
        return numbers


def read_event_table(source: Source, choices: Choices) -> tuple[EventTable, EventIds, RowCounts]:
    """Read the events of a source that can be used, in one pass.

    Raises:
        InputError: a column that the choices need is missing, a kind of event does not occur, or no row can
            be used.
    """
    rows = all_rows(source)
    columns = rows.collect_schema().names()
    _check_columns(columns, choices)
    names = ["item_id", *(["session_id"] if choices.sessions == "given" else [])]
    names += [name for name in ("user_id", "event", PROBLEM) if name in columns]
    numbering = {name: Numbering() for name in names}
    numbers = [pl.col(name).map_batches(numbering[name], pl.UInt32, is_elementwise=True) for name in names]
    times = ["timestamp"] if "timestamp" in columns else []
    frame = collect(rows.select(ROW, PART, *times, *numbers))
    if not frame[ROW].is_sorted():
        frame = frame.sort(ROW)
    untimed = frame["timestamp"].is_null().to_numpy() if times else None
    # One column after the other, so that none is in memory twice.
    array = {name: frame.drop_in_place(name).fill_null(0).rechunk().to_numpy() for name in frame.columns}
    texts = {name: numbering[name].texts for name in names}
    counts, usable = _count(array, untimed, texts, choices)
    array = {name: values if usable.all() else values[usable] for name, values in array.items()}
    ids = {}
    for name in ("item_id", "session_id", "user_id"):
        if name in names:
            array[name], ids[name] = _by_appearance(array[name], pl.Series(name, texts[name], pl.String))
    table = EventTable(
        row=array[ROW],
        part=array[PART],
        item=array["item_id"].view(np.uint32),
        user=array.get("user_id"),
        session=array["session_id"].view(np.uint32) if "session_id" in names else None,
        time=array.get("timestamp"),
    )
    known = EventIds(tuple(source.events), ids["item_id"], ids.get("user_id"), ids.get("session_id"))
    return table, known, counts


def _by_appearance(numbers: NDArray[np.uint32], texts: pl.Series) -> tuple[NDArray[np.int32], pl.Series]:
    """Number ids in the order in which they first appear; the empty id is -1, and others may not appear."""
    seen = (texts == "").to_numpy()
    appeared, found = [], int(seen.sum())
    for start in range(0, len(numbers), PIECE):
        if found == len(texts):
            break
        piece = numbers[start : start + PIECE]
        new, first = np.unique(piece[~seen[piece]], return_index=True)
        seen[new] = True
        appeared.append(new[np.argsort(first)])
        found += len(new)
    order = np.concatenate([np.empty(0, np.uint32), *appeared])
    place = np.full(len(texts), -1, np.int32)
    place[order] = np.arange(len(order), dtype=np.int32)
    return place[numbers], texts.gather(order)


def _check_columns(columns: list[str], choices: Choices) -> None:
    needed = ["session_id" if choices.sessions == "given" else "user_id"]
    if choices.sessions in ("gap", "day") or choices.split == "days":
        needed.append("timestamp")
    missing = [name for name in needed if name not in columns]
    if missing:
        ways = {"session_id": "--sessions gap, day or user", "user_id": "--sessions given"}
        other = ways.get(missing[0], "--sessions user or given, and a split that needs no times")
        why = "split" if choices.split == "days" and missing[0] == "timestamp" else "sessions"
        raise InputError(
            f"{why} is {getattr(choices, why)!r}, which needs the column {missing[0]}, and the data has "
            f"none; map it with --column {missing[0]}=NAME, or choose {other}"
        )
    if choices.events and "event" not in columns:
        raise InputError("events: the data has no column with kinds of events; leave out --events")


def _count(
    array: Mapping[str, NDArray[Any]],
    untimed: NDArray[np.bool_] | None,
    texts: Mapping[str, list[str]],
    choices: Choices,
) -> tuple[RowCounts, NDArray[np.bool_]]:
    """Count rows by problem and by kind of event, and say which rows are used.

    Args:
        array: the columns of all rows; those of ``texts`` are numbers.
        untimed: rows without a time; None if there are no times.
        texts: the texts of each column of numbers.
        choices: the choices; ``sessions`` and ``events`` are read.

    Raises:
        InputError: a kind of event does not occur, or no row can be used.
    """
    usable, dropped = _usable(array, untimed, texts, choices)
    rows = len(usable)
    if not usable.any():
        found = "; ".join(f"{reason}: {count}" for reason, count in dropped.items())
        raise InputError(f"none of the {rows} rows of the data can be used ({found or 'there are none'})")
    kinds: dict[str, int] = {}
    if "event" in texts:
        kinds = _totals(array["event"][usable], [text or NO_EVENT for text in texts["event"]])
    for name in choices.events or ():
        if name not in kinds:
            raise InputError(
                f"events: {name!r} does not occur; the data has {', '.join(map(repr, kinds))}"
                f"{nearest(name, kinds)}"
            )
    if choices.events:
        chosen = np.array([(text or NO_EVENT) in choices.events for text in texts["event"]])
        usable &= chosen[array["event"]]
    return RowCounts(rows, dropped, kinds, int(usable.sum())), usable


def _usable(
    array: Mapping[str, NDArray[Any]],
    untimed: NDArray[np.bool_] | None,
    texts: Mapping[str, list[str]],
    choices: Choices,
) -> tuple[NDArray[np.bool_], dict[str, int]]:
    """Which rows can be used, and how many cannot by the first reason: what the reader says comes first."""
    usable = np.ones(len(array[ROW]), np.bool_)
    dropped: dict[str, int] = {}
    if PROBLEM in texts:
        fine = np.array([not text for text in texts[PROBLEM]], np.bool_)
        usable = fine[array[PROBLEM]]
        dropped = _totals(array[PROBLEM][~usable], texts[PROBLEM])
    key = "session_id" if choices.sessions == "given" else "user_id"
    reasons = [
        (f"an empty {name}", array[name] == texts[name].index(""))
        for name in ("item_id", key)
        if "" in texts[name]
    ]
    if untimed is not None:
        reasons.append(("no time", untimed))
    for reason, wrong in reasons:
        count = int((wrong & usable).sum())
        if count:
            dropped[reason] = dropped.get(reason, 0) + count
        usable &= ~wrong
    return usable, dict(sorted(dropped.items(), key=lambda pair: (-pair[1], pair[0])))


def _totals(numbers: NDArray[np.uint32], names: list[str]) -> dict[str, int]:
    """How often each name occurs, the most frequent first."""
    counts: Counter[str] = Counter()
    for name, count in zip(names, np.bincount(numbers, minlength=len(names)).tolist(), strict=True):
        counts[name] += count
    return {
        name: count for name, count in sorted(counts.items(), key=lambda pair: (-pair[1], pair[0])) if count
    }

"""Events of a source as columns of numbers: rows that cannot be used are counted and left out."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import polars as pl
from numpy.typing import NDArray

from alterrec.data.formats.source import PROBLEM, Choices, Source
from alterrec.errors import InputError, nearest

# Columns that no source has.
ROW, PART = "alterrec row", "alterrec part"
# Columns of events that describe the event; all others describe its item.
EVENT_COLUMNS = ("session_id", "user_id", "item_id", "timestamp", "event", PROBLEM, ROW, PART)
NO_EVENT = "no kind of event"


@dataclass(frozen=True)
class EventTable:
    """The usable events of a source, in no particular order.

    Attributes:
        parts: names of the tables of the source, such as ``train`` and ``test``.
        row: (N,) number of the row in the source, over all parts.
        part: (N,) index in ``parts``.
        item: (N,) index in ``item_ids``.
        user: (N,) index in ``user_ids``, -1 for guests; None without users.
        session: (N,) index in ``session_ids``; None unless the sessions are given.
        time: (N,) timestamps, or None.
        item_ids, user_ids, session_ids: ids by number, in the order in which they first appear.
    """

    parts: tuple[str, ...]
    row: NDArray[np.uint32]
    part: NDArray[np.uint8]
    item: NDArray[np.uint32]
    user: NDArray[np.int32] | None
    session: NDArray[np.uint32] | None
    time: NDArray[np.int64] | None
    item_ids: pl.Series
    user_ids: pl.Series | None
    session_ids: pl.Series | None


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


def read_event_table(source: Source, choices: Choices) -> tuple[EventTable, RowCounts]:
    """Read the events of a source that can be used.

    Raises:
        InputError: a column that the choices need is missing, a kind of event does not occur, or no row can
            be used.
    """
    rows = all_rows(source)
    columns = rows.collect_schema().names()
    _check_columns(columns, choices)
    rows = rows.with_columns(_problem(columns, choices).alias(PROBLEM))
    counts = _count(rows, "event" in columns, choices)
    usable = rows.filter(pl.col(PROBLEM).is_null())
    if choices.events:
        usable = usable.filter(pl.col("event").is_in(list(choices.events)))
    ids = {"item": _numbered(usable, "item_id")}
    if choices.sessions == "given":
        ids["session"] = _numbered(usable, "session_id")
    if "user_id" in columns:
        ids["user"] = _numbered(usable.filter(_filled("user_id")), "user_id")
    for name, numbered in ids.items():
        numbers = numbered.lazy().with_row_index(name)
        usable = usable.join(numbers, on=f"{name}_id", how="left")
    names = [ROW, PART, *ids, *(["timestamp"] if "timestamp" in columns else [])]
    # HOT SPOT: two passes over the source, and joins of strings.
    frame = collect(usable.select(names)).rechunk()
    array = {name: frame[name].to_numpy() for name in names if name != "user"}
    users = frame["user"].cast(pl.Int32).fill_null(-1).to_numpy() if "user" in ids else None
    table = EventTable(
        parts=tuple(source.events),
        row=array[ROW],
        part=array[PART],
        item=array["item"],
        user=users,
        session=array.get("session"),
        time=array.get("timestamp"),
        item_ids=ids["item"]["item_id"],
        user_ids=ids["user"]["user_id"] if "user" in ids else None,
        session_ids=ids["session"]["session_id"] if "session" in ids else None,
    )
    return table, counts


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


def _filled(column: str) -> pl.Expr:
    return pl.col(column).is_not_null() & (pl.col(column) != "")


def _problem(columns: list[str], choices: Choices) -> pl.Expr:
    """Why a row cannot be used, or null: what the reader says comes first."""
    key = "session_id" if choices.sessions == "given" else "user_id"
    reasons = [pl.col(PROBLEM)] if PROBLEM in columns else []
    reasons += [pl.when(~_filled(name)).then(pl.lit(f"an empty {name}")) for name in ("item_id", key)]
    if "timestamp" in columns:
        reasons.append(pl.when(pl.col("timestamp").is_null()).then(pl.lit("no time")))
    return pl.coalesce(reasons)


def _count(rows: pl.LazyFrame, has_kinds: bool, choices: Choices) -> RowCounts:
    kind = pl.col("event").fill_null(NO_EVENT) if has_kinds else pl.lit(NO_EVENT)
    # An expression without a column has one row only.
    counted = collect(
        rows.select(PROBLEM, kind=kind).group_by(PROBLEM, "kind").agg(rows=pl.len()).sort(PROBLEM, "kind")
    )
    unusable = counted.drop_nulls(PROBLEM).group_by(PROBLEM).agg(pl.col("rows").sum())
    dropped = dict(unusable.sort("rows", PROBLEM, descending=[True, False]).iter_rows())
    usable = counted.filter(pl.col(PROBLEM).is_null()).sort("rows", "kind", descending=[True, False])
    kinds: Mapping[str, int] = dict(usable.select("kind", "rows").iter_rows())
    total = int(counted["rows"].sum())
    if not kinds:
        found = "; ".join(f"{reason}: {count}" for reason, count in dropped.items())
        raise InputError(f"none of the {total} rows of the data can be used ({found or 'there are none'})")
    for name in choices.events or ():
        if name not in kinds:
            raise InputError(
                f"events: {name!r} does not occur; the data has {', '.join(map(repr, kinds))}"
                f"{nearest(name, kinds)}"
            )
    used = sum(count for name, count in kinds.items() if not choices.events or name in choices.events)
    return RowCounts(total, dropped, dict(kinds) if has_kinds else {}, used)


def _numbered(rows: pl.LazyFrame, column: str) -> pl.DataFrame:
    """The distinct ids of a column, in the order in which they first appear."""
    first = rows.group_by(column).agg(pl.col(ROW).min())
    return collect(first).sort(ROW).select(column)

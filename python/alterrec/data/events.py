"""Rows of session files: their items, times and users, checked and numbered."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import polars as pl

from alterrec.data.log_columns import likely_column, quoted
from alterrec.data.tables import ROW, DataFile, find_column, id_column
from alterrec.data.time_columns import Times, time_column
from alterrec.errors import InputError, nearest
from alterrec.vocabulary import Vocabulary

COLUMNS = ("session_id", "item_id", "timestamp", "user_id")


@dataclass(frozen=True)
class Events:
    """Rows (session_id, item, optionally times and user_id) of a session file, in file order.

    The times are the columns ``whole`` and ``billionths`` until those of all files are known; then they are
    ``timestamp``, in one unit.
    """

    file: DataFile
    frame: pl.DataFrame
    times: Times | None


def check_columns(columns: Mapping[str, str]) -> None:
    """Raise InputError if a mapped name is not one of our columns."""
    for name in columns:
        if name not in COLUMNS:
            raise InputError(
                f"columns: {name!r} cannot be mapped; choose one of {', '.join(COLUMNS)}"
                f"{nearest(name, COLUMNS)}"
            )


def read_events(
    file: DataFile,
    read: Sequence[str],
    vocabulary: Vocabulary,
    columns: Mapping[str, str],
    catalogue: str,
    *,
    drop_unknown: bool,
    drop_unreadable: bool = False,
) -> tuple[Events, list[str]]:
    """Return the rows of a session file, and one sentence for everything that was dropped or changed.

    Args:
        file: the file.
        read: the columns to read, of ``COLUMNS``.
        vocabulary: the catalogue.
        columns: our column name -> the file's.
        catalogue: what the catalogue is called in messages.
        drop_unknown: drop rows whose item is not in the catalogue instead of raising.
        drop_unreadable: drop rows with an empty id or an unreadable time, too, and take the user of a session
            with several users as unknown.

    Raises:
        InputError: a column is missing or has a wrong value.
    """
    found = {name: find_column(file, name, columns, required=name in COLUMNS[:2]) for name in read}
    data, times = {ROW: file.frame[ROW]}, None
    for name, theirs in found.items():
        if theirs and name == "timestamp":
            times = time_column(file, theirs, may_be_unreadable=drop_unreadable)
            data |= {"whole": times.whole, "billionths": times.billionths}
        elif theirs:
            # An empty user_id is a guest.
            empty = drop_unreadable or name == "user_id"
            data[name] = id_column(file, theirs, may_be_empty=empty)
    frame, notes = _readable(file, pl.DataFrame(data)) if drop_unreadable else (pl.DataFrame(data), [])
    if times is None and (how := likely_times(file, columns)):
        notes.append(f"{file.path.name}: no column 'timestamp', so the order of the rows counts; {how}")
    numbers = pl.DataFrame({"item_id": list(vocabulary.item_ids)}).with_row_index("item")
    frame = frame.join(numbers, on="item_id", how="left", maintain_order="left")
    frame, remarks = _with_users(file, frame, refuse=not drop_unreadable)
    notes += remarks
    if not drop_unreadable:
        notes += _repeated(file, frame)
    frame, remarks = _known(file, frame, vocabulary, catalogue, drop_unknown)
    return Events(file, frame.drop("item_id"), times), notes + remarks


def likely_times(file: DataFile, columns: Mapping[str, str]) -> str:
    """Return how to name the column that probably has the times of a file; empty if none is likely.

    Args:
        file: a file without a column timestamp.
        columns: our column name -> the file's.
    """
    used = {columns.get(name, name) for name in COLUMNS}
    likely = likely_column("timestamp", [name for name in file.columns if name not in used])
    if not likely:
        return ""
    return (
        f"if {likely!r} has the times, use --column timestamp={quoted(likely)} (in Python, "
        f"columns={{'timestamp': {likely!r}}})"
    )


def _readable(file: DataFile, frame: pl.DataFrame) -> tuple[pl.DataFrame, list[str]]:
    """Drop rows that lack an id or a time; raise if none is left."""
    reasons = {
        "session_id": "an empty session_id",
        "item_id": "an empty item_id",
        "whole": "no readable time",
    }
    notes = []
    kept = frame
    for column, reason in reasons.items():
        if column in frame.columns:
            lost = kept[column].null_count()
            kept = kept.drop_nulls(column)
            if lost:
                notes.append(f"{file.path.name}: dropped {lost} of {len(frame)} rows with {reason}")
    if kept.is_empty():
        raise InputError(f"{file.path}: no row can be read ({'; '.join(notes)}); expected one at least")
    lost = frame["session_id"].drop_nulls().n_unique() - kept["session_id"].n_unique()
    if lost:
        notes.append(f"{file.path.name}: sessions without a readable row: {lost}")
    return kept, notes


def _with_users(file: DataFile, frame: pl.DataFrame, *, refuse: bool) -> tuple[pl.DataFrame, list[str]]:
    """Check that a session has one user at most, and give rows without a user that of their session."""
    if "user_id" not in frame.columns:
        return frame, []
    frame = frame.with_columns(first=pl.col("user_id").drop_nulls().first().over("session_id"))
    wrong = pl.col("user_id").is_not_null() & (pl.col("user_id") != pl.col("first"))
    contradicting = frame.filter(wrong)
    name, notes = file.path.name, []
    if len(contradicting):
        row = contradicting.row(0, named=True)
        if refuse:
            raise InputError(
                f"{file.place(row[ROW])}: user_id is {row['user_id']!r}, but session {row['session_id']!r} "
                f"began with {row['first']!r}; expected one user per session"
            )
        sessions = contradicting["session_id"].unique()
        notes.append(f"{name}: sessions with several users, which count as unknown: {len(sessions)}")
        known = pl.col("session_id").is_in(sessions.to_list())
        frame = frame.with_columns(first=pl.when(~known).then("first"))
    elif refuse:
        guests = frame.filter(pl.col("first").is_null())["session_id"].n_unique()
        if guests:
            total = frame["session_id"].n_unique()
            notes.append(f"{name}: sessions of guests (user_id is empty): {guests} of {total}")
    partly = frame.filter(pl.col("user_id").is_null() & pl.col("first").is_not_null())
    if len(partly):
        notes.append(
            f"{name}: sessions with an empty user_id in some rows, which get that of the others: "
            f"{partly['session_id'].n_unique()}"
        )
    return frame.with_columns(user_id=pl.col("first")).drop("first"), notes


def _repeated(file: DataFile, frame: pl.DataFrame) -> list[str]:
    """A note about rows that equal an earlier one, such as those of a log that was written twice."""
    if "whole" not in frame.columns:
        return []
    repeated = len(frame) - frame.select("session_id", "item_id", "whole", "billionths").n_unique()
    if not repeated:
        return []
    return [
        f"{file.path.name}: rows that repeat an earlier one (same session, item and time), which are kept: "
        f"{repeated} of {len(frame)}"
    ]


def _known(
    file: DataFile, frame: pl.DataFrame, vocabulary: Vocabulary, catalogue: str, drop_unknown: bool
) -> tuple[pl.DataFrame, list[str]]:
    """The rows whose item is in the catalogue."""
    unknown = frame["item"].null_count()
    if not unknown:
        return frame, []
    first = frame.row(frame["item"].is_null().arg_max() or 0, named=True)
    hint = other_writing(first["item_id"], vocabulary)
    if not drop_unknown:
        hint = hint or vocabulary.nearest(first["item_id"]) or "."
        raise InputError(
            f"{file.place(first[ROW])}: item_id is {first['item_id']!r}, which is not in {catalogue} "
            f"({unknown} of {len(frame)} rows have such items){hint} "
            "Add the items, or drop such rows with --drop-unknown (in Python, drop_unknown=True)"
        )
    kept = frame.drop_nulls("item")
    if kept.is_empty():
        raise InputError(
            f"{file.path}: none of its {len(frame)} rows has an item of {catalogue}; the first item_id "
            f"is {first['item_id']!r}{hint}; expected ids of {catalogue}"
        )
    notes = [f"{file.path.name}: dropped {unknown} of {len(frame)} rows with unknown items{hint}"]
    lost = frame["session_id"].n_unique() - kept["session_id"].n_unique()
    if lost:
        notes.append(f"{file.path.name}: dropped sessions that have unknown items only: {lost}")
    return kept, notes


def other_writing(item: str, vocabulary: Vocabulary) -> str:
    """A hint for an id that the catalogue has without spaces around it, or without ``.0`` behind it."""
    other = item.strip().removesuffix(".0")
    if other != item and vocabulary.find([other])[0] >= 0:
        return f"; the catalogue has {other!r}, and ids are compared as text"
    return ""


def with_integer_times(events: dict[str, Events]) -> dict[str, Events]:
    """Times as Int64 in one unit that keeps those of all files: whole numbers, millionths or billionths."""
    timed = [(part, part.times) for part in events.values() if part.times]
    kinds = {times.kind: part.file.path for part, times in timed}
    if len(kinds) > 1:
        one, other = sorted(kinds, key=["number", "date with an offset", "date without an offset"].index)[:2]
        found = {
            "number": "timestamps are numbers",
            "date with an offset": "timestamps have an offset or a time zone",
        }
        has = "dates" if one == "number" else "dates without"
        raise InputError(
            f"{kinds[one]}: {found[one]}, but {kinds[other]} has {has}; use one kind in all files"
        )
    scale = max((times.scale for _, times in timed), default=1)
    for part, _ in timed:
        bounds = part.frame.select(low=pl.col("whole").min(), high=pl.col("whole").max()).row(0)
        most = max(-bounds[0], bounds[1])
        if (most + 1) * scale > 2**63:
            places = f" with up to {len(str(scale)) - 1} decimal places" if scale > 1 else ""
            raise InputError(
                f"{part.file.path}: timestamps reach {most:g}{places}; expected values below "
                f"{2.0**63 / scale:g}"
            )
    time = pl.col("whole") * scale + pl.col("billionths") // (10**9 // scale)
    return {
        name: replace(part, frame=part.frame.with_columns(timestamp=time).drop("whole", "billionths"))
        if part.times
        else part
        for name, part in events.items()
    }

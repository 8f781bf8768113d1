"""Sort a file that has a row for each item of a session into sessions, in bounded memory.

The rows of a session need not be together: a log is usually in the order of time. Rows are written to pieces
by a hash of their session, so that a piece has all rows of its sessions. The sessions of each piece are then
written in order of their first row, and read from all pieces in that order. No step has more than a piece and
the longest session in memory.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import polars as pl

from alterrec.data.assemble import check_mapping
from alterrec.data.csv_files import csv_to_parquet
from alterrec.data.events import COLUMNS
from alterrec.data.parquet_files import ADVICE, read_parquet
from alterrec.data.tables import ROW, DataFile, check_required, find_column, id_column
from alterrec.data.time_columns import time_column
from alterrec.errors import InputError
from alterrec.files import atomic_write, make_folder, read_text, reading, write_json
from alterrec.record_json import from_json, to_json
from alterrec.runs.inputs import RunCatalogue
from alterrec.serving.blocks import (
    BLOCK,
    EMPTY,
    READ,
    UNKNOWN,
    SessionBlock,
    header,
    item_numbers,
    split_items,
    user_numbers,
)
from alterrec.serving.tally import Tally

# Rows that are in memory at once.
PIECE = 2**19
# The number of an item whose row has no readable time.
LOST = -3
GROUPED = "grouped.json"


@dataclass(frozen=True)
class Grouped:
    """``grouped.json``: the sessions of a file are in the folder ``sessions`` beside it.

    Attributes:
        sessions: how many there are.
        has_users: whether the file has a column of users.
        tally: what was read and left out.
    """

    sessions: int
    has_users: bool
    tally: Tally


class SessionRows:
    """A CSV or Parquet file with session_id, item_id and optionally timestamp, user_id.

    Args:
        path: the file.
        known: the run.
        columns: our column name -> the file's.
        folder: an existing folder where the sorted sessions are written, or are already.

    Raises:
        InputError: the file cannot be read, a column is missing or has a wrong value, or there is no session.
    """

    unit = "rows"

    def __init__(self, path: Path, known: RunCatalogue, columns: Mapping[str, str], folder: Path) -> None:
        self.name = path.name
        self._known = known
        if not (folder / GROUPED).exists():
            write_json(folder / GROUPED, to_json(_Grouping(path, known, columns, folder).grouped()))
        grouped = from_json(Grouped, read_text(folder / GROUPED), str(folder / GROUPED))
        self.total: int | None = grouped.sessions
        self.has_users = grouped.has_users
        self.tally = grouped.tally
        self._frame = pl.scan_parquet(sorted((folder / "sessions").iterdir()), glob=False)

    def blocks(self, first: int = 0) -> Iterator[SessionBlock]:
        """Yield the blocks from number ``first`` on."""
        assert self.total is not None
        for start in range(first * BLOCK, self.total, READ):
            for frame in self._frame.slice(start, READ).collect().iter_slices(BLOCK):
                yield self._block(frame)

    def _block(self, frame: pl.DataFrame) -> SessionBlock:
        tally = Tally()
        lengths = frame["items"].list.len().cast(pl.Int64).to_numpy()
        numbers = frame["items"].filter(pl.Series(lengths > 0)).explode().cast(pl.Int64).to_numpy()
        users = user_numbers(frame["user_id"].to_list(), self._known.users, tally)
        names = frame["session_id"].to_list()
        tally.add("sessions", len(names))
        ends = frame["ends_unknown"].to_numpy()
        return SessionBlock(names, split_items(lengths, numbers), ends, users, tally)


class _Grouping:
    """The steps that sort the rows of a file into sessions."""

    def __init__(self, path: Path, known: RunCatalogue, columns: Mapping[str, str], folder: Path) -> None:
        self.path, self.known, self.folder = path, known, folder
        for step in ("rows", "grouped", "sessions"):
            shutil.rmtree(folder / step, ignore_errors=True)
            make_folder(folder / step)
        self.frame = _scanned(path, folder / "rows.parquet")
        names = self.frame.collect_schema().names()
        head = header(path, names)
        check_mapping([head], columns)
        check_required([(head, COLUMNS[:2])], columns)
        if ROW in names:
            raise InputError(f"{path}: a column is called {ROW!r}, which alterrec uses itself; rename it")
        self.columns = {name: find_column(head, name, columns, required=False) for name in COLUMNS}
        if known.users is None:
            self.columns["user_id"] = None
        with reading(path, ADVICE):
            self.rows = int(self.frame.select(pl.len()).collect().item())
        if not self.rows:
            raise InputError(f"{path}: has a header but no rows; expected at least one row")
        self.pieces = -(-self.rows // PIECE)
        self.tally = Tally()
        self.kinds: set[str] = set()

    def grouped(self) -> Grouped:
        """Write the sessions in order of their first row."""
        for number in range(self.pieces):
            self._write("rows", number, self._piece(number * PIECE))
        rows = pl.scan_parquet(self.folder / "rows" / "*.parquet")
        sessions = 0
        for number in range(self.pieces):
            found = self._sessions(rows.filter(pl.col("piece") == number).collect().sort(ROW))
            self._write("grouped", number, found)
            sessions += len(found)
        if not sessions:
            raise InputError(f"{self.path}: no row has a session_id; expected one at least")
        for number in range(self.pieces):
            first = pl.col("first").is_between(number * PIECE, (number + 1) * PIECE - 1)
            found = pl.scan_parquet(self.folder / "grouped" / "*.parquet").filter(first).collect()
            self._write("sessions", number, found.sort("first").drop("first"))
        for step in ("rows", "grouped"):
            shutil.rmtree(self.folder / step)
        (self.folder / "rows.parquet").unlink(missing_ok=True)
        return Grouped(sessions, self.columns["user_id"] is not None, self.tally)

    def _write(self, step: str, number: int, frame: pl.DataFrame) -> None:
        # A group of rows for each piece, so that reading one of them skips the others.
        size = max(1024, -(-len(frame) // self.pieces))
        with atomic_write(self.folder / step / f"{number:06d}.parquet") as temporary:
            frame.write_parquet(temporary, row_group_size=size)

    def _piece(self, start: int) -> pl.DataFrame:
        """Some rows, with numbers of items; ordered by the piece to which their session belongs."""
        wanted = [name for name in self.columns.values() if name]
        part = self.frame.slice(start, PIECE).with_row_index(ROW, offset=start)
        # Blank lines of a CSV file.
        part = part.filter(~pl.all_horizontal(pl.exclude(ROW).is_null()))
        with reading(self.path, ADVICE):
            file = DataFile(self.path, part.select(ROW, *dict.fromkeys(wanted)).collect())
        ids = {
            name: id_column(file, theirs, may_be_empty=True)
            for name, theirs in self.columns.items()
            if theirs and name != "timestamp"
        }
        numbers = item_numbers(ids["item_id"].to_list(), self.known.vocabulary, seen := Tally())
        self.tally.examples = seen.examples | self.tally.examples
        self.tally.add("rows", len(numbers))
        frame = pl.DataFrame({ROW: file.frame[ROW], "session_id": ids["session_id"], "item": numbers})
        if self.columns["timestamp"]:
            frame = frame.with_columns(file.frame[self.columns["timestamp"]].alias("time"))
        if "user_id" in ids:
            frame = frame.with_columns(ids["user_id"].alias("user_id"))
        self.tally.add("no session", frame["session_id"].null_count())
        piece = pl.col("session_id").hash(seed=0) % self.pieces
        return frame.drop_nulls("session_id").with_columns(piece=piece).sort("piece", maintain_order=True)

    def _sessions(self, frame: pl.DataFrame) -> pl.DataFrame:
        """The sessions of a piece: first (row), session_id, items, ends_unknown, user_id."""
        order = [ROW]
        if "time" in frame.columns:
            theirs = self.columns["timestamp"] or ""
            cells = pl.DataFrame([frame[ROW], frame["time"].alias(theirs)])
            times = time_column(DataFile(self.path, cells), theirs, may_be_unreadable=True)
            lost = times.whole.is_null() & (frame["item"] != EMPTY)
            self.tally.add("no time", lost.sum())
            # Their sessions are answered by their other rows.
            frame = frame.with_columns(
                times.whole.alias("whole"),
                times.billionths.alias("billionths"),
                frame["item"].set(lost, LOST),
            )
            order = ["whole", "billionths", ROW]
            self._check_kind(times.kind if times.whole.null_count() < len(frame) else None)
        self.tally.add("no item", (frame["item"] == EMPTY).sum())
        self.tally.add("unknown item", (frame["item"] == UNKNOWN).sum())
        if "user_id" not in frame.columns:
            frame = frame.with_columns(user_id=pl.lit(None, pl.String))
        found = (
            frame.sort(order)
            .group_by("session_id", maintain_order=True)
            .agg(
                pl.col(ROW).min().alias("first"),
                pl.col("item").filter(pl.col("item") >= 0).cast(pl.Int32).alias("items"),
                (pl.col("item").filter(pl.col("item") >= UNKNOWN).last() == UNKNOWN)
                .fill_null(False)
                .alias("ends_unknown"),
                pl.col("user_id").drop_nulls().unique().alias("users"),
            )
            .sort("first")
        )
        several = found["users"].list.len() > 1
        self.tally.add("several users", several.sum())
        user = pl.when(~several).then(pl.col("users").list.first())
        return found.select("first", "session_id", "items", "ends_unknown", user.alias("user_id"))

    def _check_kind(self, kind: str | None) -> None:
        """Refuse times of different kinds, which cannot be compared."""
        self.kinds |= {kind} if kind else set()
        if len(self.kinds) > 1:
            raise InputError(
                f"{self.path}: timestamps are a {' in some rows and a '.join(sorted(self.kinds))} in others; "
                "use one kind in all rows"
            )


def _scanned(path: Path, target: Path) -> pl.LazyFrame:
    """A CSV or Parquet file as a lazy frame that is read in slices."""
    if path.suffix == ".csv":
        with atomic_write(target) as temporary:
            csv_to_parquet(path, temporary)
        return pl.scan_parquet(target, glob=False)
    frame = pl.scan_parquet(path, glob=False, hive_partitioning=False)
    try:
        with reading(path, ADVICE):
            frame.collect_schema()
    except InputError:
        # A time zone that polars does not know, or the file is damaged.
        whole = read_parquet(path)
        with atomic_write(target) as temporary:
            whole.write_parquet(temporary)
        return pl.scan_parquet(target, glob=False)
    return frame

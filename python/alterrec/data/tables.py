"""Read one CSV or Parquet file and its columns of ids, texts and times; every error names file and line."""

from __future__ import annotations

import csv
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import polars as pl

from alterrec.errors import InputError, nearest

SUFFIXES = (".csv", ".parquet")
ROW = "alterrec row"  # a column name that no file has
TimeKind = Literal["number", "date"]


@dataclass(frozen=True)
class DataFile:
    """A file and its rows.

    Attributes:
        path: the file, for messages.
        frame: the rows. Cells of a CSV file are strings; those of a Parquet file have the file's types. The
            column ``ROW`` has each row's index in the file, from 0. A frame without it gets it, so a reader
            makes the DataFile before it drops, sorts or explodes rows.
    """

    path: Path
    frame: pl.DataFrame

    def __post_init__(self) -> None:
        if ROW not in self.frame.columns:
            object.__setattr__(self, "frame", self.frame.with_row_index(ROW))

    @property
    def columns(self) -> list[str]:
        """Names of the columns, without ``ROW``."""
        return [column for column in self.frame.columns if column != ROW]

    def place(self, row: int) -> str:
        """The place of a row: ``FILE, line 7`` in CSV (the header is line 1), else ``FILE, row 6``."""
        if self.path.suffix == ".csv":
            return f"{self.path}, line {_line_of(self.path, row)}"
        return f"{self.path}, row {row + 1}"


def find_file(folder: Path, stem: str) -> Path | None:
    """``stem.csv`` or ``stem.parquet`` in ``folder``, or None; InputError if both are there."""
    found = [path for suffix in SUFFIXES if (path := folder / f"{stem}{suffix}").is_file()]
    if len(found) > 1:
        raise InputError(f"{folder}: has both {found[0].name} and {found[1].name}; keep one of them")
    return found[0] if found else None


def read_data_file(path: Path) -> DataFile:
    """Read a CSV (UTF-8, comma, header line) or Parquet file; blank lines of a CSV file are skipped.

    Raises:
        InputError: no such file, an unknown suffix, an empty, damaged or non-UTF-8 file, a column
            named twice, or no rows.
    """
    if not path.is_file():
        others = [other.name for other in path.parent.iterdir()] if path.parent.is_dir() else []
        raise InputError(f"{path}: no such file{nearest(path.name, others)}")
    if path.suffix not in SUFFIXES:
        raise InputError(f"{path}: its suffix is {path.suffix!r}; expected {' or '.join(SUFFIXES)}")
    try:
        frame = _read_csv(path) if path.suffix == ".csv" else pl.read_parquet(path, glob=False)
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror or error})") from None
    # Some damage to a Parquet file makes polars panic rather than raise an error of its own.
    except (pl.exceptions.PolarsError, pl.exceptions.PanicException) as error:
        reason = str(error).splitlines()[0]
        raise InputError(f"{path}: damaged or not a {path.suffix[1:]} file ({reason})") from None
    frame = frame.with_row_index(ROW)
    if path.suffix == ".csv":
        frame = frame.filter(~pl.all_horizontal(pl.exclude(ROW).is_null()))
    if frame.is_empty():
        raise InputError(f"{path}: has a header but no rows; expected at least one row")
    return DataFile(path, frame)


def find_column(file: DataFile, name: str, columns: Mapping[str, str], *, required: bool) -> str | None:
    """The file's column for our ``name``: the mapped one, else ``name`` itself, else None.

    Raises:
        InputError: a required column is missing.
    """
    for candidate in (columns.get(name, name), name):
        if candidate in file.columns:
            return candidate
    if not required:
        return None
    raise InputError(
        f"{file.path}: column {name!r} is missing; its columns are "
        f"{', '.join(map(repr, file.columns))}{nearest(name, file.columns) or '.'} "
        f"Rename one, or map it with --column {name}=NAME (in Python, columns={{{name!r}: 'NAME'}})"
    )


def text_column(file: DataFile, column: str) -> pl.Series:
    """A column as text: null becomes the empty string, lists of strings are joined by spaces."""
    series = file.frame[column]
    if series.dtype == pl.List(pl.String):
        series = series.list.join(" ", ignore_nulls=True)
    elif series.dtype.is_nested() or series.dtype in (pl.Binary, pl.Object):
        raise InputError(
            f"{file.path}: column {column!r} is {series.dtype}; expected text, numbers or lists of text"
        )
    return series.cast(pl.String).fill_null("")


def id_column(file: DataFile, column: str) -> pl.Series:
    """A column of ids as strings; InputError for an empty id or a type other than text and integers."""
    series = file.frame[column]
    if not (series.dtype.is_integer() or series.dtype in (pl.String, pl.Categorical, pl.Enum, pl.Null)):
        raise InputError(f"{file.path}: column {column!r} is {series.dtype}; expected text or integers")
    series = series.cast(pl.String)
    empty = series.is_null() | (series.str.strip_chars() == "")
    if empty.any():
        row = file.frame[ROW][empty.arg_max() or 0]
        count = f" ({empty.sum()} such rows)" if empty.sum() > 1 else ""
        raise InputError(
            f"{file.place(row)}: {column} is {series.fill_null('')[empty.arg_max() or 0]!r}{count}; "
            "expected an id in every row. Fill it in or delete the row"
        )
    return series


def time_column(file: DataFile, column: str) -> tuple[pl.Series, TimeKind]:
    """A column of times and its kind: Int64 or Float64 numbers, or dates as Int64 microseconds (UTC).

    Text cells may be integers, decimal numbers or ISO 8601 dates, one kind per column.

    Raises:
        InputError: a cell is none of these, or of another kind than the rest of the column.
    """
    series = file.frame[column]
    if series.dtype == pl.String:
        numbers, dates = _numbers(series), _dates(series)
        kind: TimeKind = "number" if numbers.null_count() <= dates.null_count() else "date"
        times = numbers if kind == "number" else dates
    elif series.dtype.is_numeric():
        kind, times = "number", _numbers(series)
    elif isinstance(series.dtype, pl.Datetime | pl.Date):
        kind, times = "date", series.cast(pl.Datetime("us")).to_physical()
    else:
        raise InputError(f"{file.path}: column {column!r} is {series.dtype}; expected numbers or dates")
    if times.null_count():
        index = times.is_null().arg_max() or 0
        found = "" if series[index] is None else series[index]
        raise InputError(
            f"{file.place(file.frame[ROW][index])}: {column} is {found!r}; expected an integer, a decimal "
            "number or an ISO date such as 2024-05-01T12:30:00, one kind in all rows"
        )
    return times, kind


def _numbers(series: pl.Series) -> pl.Series:
    if series.dtype == pl.String:
        series = series.str.strip_chars()
    integers = series.cast(pl.Int64, strict=False)
    if series.dtype.is_float() or integers.null_count() > series.null_count():
        floats = series.cast(pl.Float64, strict=False)
        return floats.set(~floats.is_finite(), None)
    return integers


def _dates(series: pl.Series) -> pl.Series:
    texts = pl.DataFrame({"text": series.str.strip_chars()})
    zoned = pl.col("text").str.to_datetime("%+", time_unit="us", time_zone="UTC", strict=False)
    naive = [
        pl.col("text").str.to_datetime(form, time_unit="us", strict=False)
        for form in ("%Y-%m-%dT%H:%M:%S%.f", "%Y-%m-%d %H:%M:%S%.f", "%Y-%m-%dT%H:%M", "%Y-%m-%d %H:%M")
    ]
    days = pl.col("text").str.to_date("%Y-%m-%d", strict=False).cast(pl.Datetime("us"))
    readings = [zoned.dt.replace_time_zone(None), *naive, days]
    return texts.select(pl.coalesce(readings).to_physical()).to_series()


def _read_csv(path: Path) -> pl.DataFrame:
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            header = next(csv.reader(file), [])
        # As text, so that a message about a wrong cell can quote it.
        frame = pl.read_csv(path, infer_schema=False)
    except pl.exceptions.NoDataError:
        raise InputError(f"{path}: is empty; expected a header line and at least one row") from None
    except UnicodeDecodeError:
        raise _not_utf8(path) from None
    except pl.exceptions.ComputeError as error:
        raise _damaged_csv(path, str(error).splitlines()[0]) from None
    twice = next((name for name in header if header.count(name) > 1), None)
    if twice is not None:
        raise InputError(f"{path}, line 1: column {twice!r} appears twice; give each column its own name")
    return frame


def _not_utf8(path: Path) -> InputError:
    raw = path.read_bytes()
    try:
        raw.decode("utf-8")
    except UnicodeDecodeError as error:
        line = raw.count(b"\n", 0, error.start) + 1
        found = raw[error.start : error.start + 1]
        return InputError(
            f"{path}, line {line}: byte {found!r} is not UTF-8 text. Convert the file, for instance "
            "with `iconv -f latin1 -t utf-8`"
        )
    return InputError(f"{path}: is not UTF-8 text")


def _damaged_csv(path: Path, reason: str) -> InputError:
    """Find the fault that stopped polars by reading the file again line by line."""
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            reader = csv.reader(file)
            width = len(next(reader))
            for cells in reader:
                if len(cells) > width:
                    return InputError(
                        f"{path}, line {reader.line_num}: has {len(cells)} cells but the header has {width}; "
                        "quote a cell that contains a comma"
                    )
        with path.open(encoding="utf-8") as file:
            for number, line in enumerate(file, 1):
                if line.count('"') % 2:
                    return InputError(
                        f"{path}, line {number}: has an unpaired quote; put the cell in quotes and double "
                        "those inside it"
                    )
    except UnicodeDecodeError:
        return _not_utf8(path)
    except csv.Error as error:
        return InputError(f"{path}, line {reader.line_num}: {error}")
    return InputError(f"{path}: not a CSV file ({reason})")


def _line_of(path: Path, row: int) -> int:
    """The line on which a row begins; a cell may contain line breaks, so rows are not lines."""
    with path.open(encoding="utf-8-sig", newline="") as file:
        reader = csv.reader(file)
        line = 1
        for index, _ in enumerate(reader, -1):
            if index == row:
                break
            line = reader.line_num + 1
        return line

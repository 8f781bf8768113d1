"""Read one CSV or Parquet file and its columns of ids, texts and times; every error names file and line."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import polars as pl

from alterrec.data.csv_files import line_of, read_csv
from alterrec.data.log_columns import likely_column, quoted
from alterrec.data.parquet_files import read_parquet
from alterrec.errors import InputError, nearest
from alterrec.files import reading

SUFFIXES = (".csv", ".parquet")
ROW = "alterrec row"  # a column name that no file has


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
            return f"{self.path}, line {line_of(self.path, row)}"
        return f"{self.path}, row {row + 1}"


def find_file(folder: Path, stem: str) -> Path | None:
    """``stem.csv`` or ``stem.parquet`` in ``folder``, or None; InputError if both are there."""
    found = [path for suffix in SUFFIXES if (path := folder / f"{stem}{suffix}").is_file()]
    if len(found) > 1:
        raise InputError(f"{folder}: has both {found[0].name} and {found[1].name}; keep one of them")
    return found[0] if found else None


def check_name(path: Path) -> None:
    """Raise InputError if a name is not text in the locale's encoding; polars cannot open such a file."""
    try:
        str(path).encode()
    except UnicodeEncodeError:
        raise InputError(
            f"{str(path)!r}: its name is not text in the locale's encoding ({sys.getfilesystemencoding()}); "
            "set PYTHONUTF8=1, or rename it"
        ) from None


def read_data_file(path: Path) -> DataFile:
    """Read a CSV (UTF-8, comma, header line) or Parquet file; blank lines of a CSV file are skipped.

    Raises:
        InputError: no such file, an unknown suffix, an empty, damaged or non-UTF-8 file, a column
            named twice, or no rows.
    """
    check_name(path)
    if not path.is_file():
        others = [other.name for other in path.parent.iterdir()] if path.parent.is_dir() else []
        raise InputError(f"{path}: no such file{nearest(path.name, others)}")
    if path.suffix not in SUFFIXES:
        raise InputError(f"{path}: its suffix is {path.suffix!r}; expected {' or '.join(SUFFIXES)}")
    frame = read_csv(path) if path.suffix == ".csv" else read_parquet(path)
    if ROW in frame.columns:
        raise InputError(f"{path}: a column is called {ROW!r}, which alterrec uses itself; rename it")
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
    if required:
        check_required([(file, [name])], columns)
    return None


def check_required(needed: Sequence[tuple[DataFile, Sequence[str]]], columns: Mapping[str, str]) -> None:
    """Check that files have the columns that they need.

    Args:
        needed: files, and our names of the columns that each one needs.
        columns: our column name -> the files'.

    Raises:
        InputError: columns are missing; the message names all of them, and a likely column for each.
    """
    sentences: list[str] = []
    likely: dict[str, str] = {}
    for file, names in needed:
        missing = [name for name in names if find_column(file, name, columns, required=False) is None]
        if not missing:
            continue
        which = f"{'columns' if len(missing) > 1 else 'column'} {' and '.join(map(repr, missing))}"
        verb = "are" if len(missing) > 1 else "is"
        sentences.append(
            f"{file.path}: {which} {verb} missing; its columns are {', '.join(map(repr, file.columns))}"
        )
        for name in missing:
            likely[name] = likely.get(name) or likely_column(name, file.columns)
    if sentences:
        options = " ".join(f"--column {name}={quoted(theirs or 'NAME')}" for name, theirs in likely.items())
        mapping = {name: theirs or "NAME" for name, theirs in likely.items()}
        how = "Rename columns, or map them" if len(likely) > 1 else "Rename a column, or map it"
        raise InputError(f"{'. '.join(sentences)}. {how} with {options} (in Python, columns={mapping})")


def is_text(kind: pl.DataType) -> bool:
    """Whether :func:`text_column` reads a column of this type."""
    return kind == pl.List(pl.String) or not (kind.is_nested() or kind in (pl.Binary, pl.Object))


def text_column(file: DataFile, column: str) -> pl.Series:
    """A column as text: null becomes the empty string, lists of strings are joined by spaces."""
    series = file.frame[column]
    if series.dtype.is_temporal():
        # polars panics at dates that have no text, such as those after the year 262,000.
        with reading(file.path, f"write the column {column!r} as text"):
            return series.cast(pl.String).fill_null("")
    if not is_text(series.dtype):
        raise InputError(
            f"{file.path}: column {column!r} is {series.dtype}; expected text, numbers or lists of text"
        )
    if series.dtype == pl.List(pl.String):
        series = series.list.join(" ", ignore_nulls=True)
    return series.cast(pl.String).fill_null("")


def id_column(file: DataFile, column: str, *, may_be_empty: bool = False) -> pl.Series:
    """A column of ids as strings; numbers without a fraction, such as 123.0, are the text of the integer.

    Args:
        may_be_empty: whether an empty id is null instead of an error.

    Raises:
        InputError: an id is empty or has a fraction, or the column has another type.
    """
    series = _id_texts(file, column)
    series = series.set(series.str.strip_chars() == "", None)
    empty = series.is_null()
    if empty.any() and not may_be_empty:
        index = empty.arg_max() or 0
        count = f" ({empty.sum()} such rows)" if empty.sum() > 1 else ""
        raise InputError(
            f"{file.place(file.frame[ROW][index])}: {column} is {file.frame[column][index] or ''!r}{count}; "
            "expected an id in every row. Fill it in or delete the row"
        )
    return series


def _id_texts(file: DataFile, column: str) -> pl.Series:
    series = file.frame[column]
    kind = series.dtype
    if kind.is_integer() or kind in (pl.String, pl.Categorical, pl.Enum, pl.Null):
        return series.cast(pl.String)
    if kind.is_float():
        series = series.fill_nan(None)
        # Above 2**53 several integers have the same float.
        wrong = (series != series.round()) | ~(series.abs() <= 2.0**53)
        texts = series.set(wrong.fill_null(False), None).cast(pl.Int64).cast(pl.String)
    elif kind.is_decimal():
        texts = series.cast(pl.String).str.extract(r"^(-?\d+)(?:\.0*)?$")
    else:
        raise InputError(f"{file.path}: column {column!r} is {kind}; expected text or integers")
    lost = texts.is_null() & series.is_not_null()
    if lost.any():
        index = lost.arg_max() or 0
        raise InputError(
            f"{file.place(file.frame[ROW][index])}: {column} is {series[index]}; expected text or integers "
            "(numbers without a fraction, up to 2**53, are read as integers). Write the column as text"
        )
    return texts

"""What the readers of published files share: finding a file, its first line, its rows as text."""

from __future__ import annotations

import glob
import gzip
import zlib
from collections.abc import Mapping, Sequence
from pathlib import Path

import polars as pl

from alterrec.data.formats.source import PROBLEM, Choices
from alterrec.errors import InputError

# What most papers on sessions choose: sessions of one event and items with fewer than five events are
# dropped; the last days are test, and those before them validation. Each format says where it differs.
USUAL = Choices(
    sessions="given",
    gap=1800.0,
    events=(),
    collapse=False,
    min_item_count=5,
    min_session=2,
    split="days",
    valid=7.0,
    test=7.0,
    fraction=1,
)
# A byte that no text file contains, as the separator of files whose lines are read whole.
_NO_SEPARATOR = "\x01"
_FIRST_LINE_BYTES = 2**20


def find_published(path: Path, *names: str) -> Path | None:
    """The file of one of these names: the path itself, or the first one in the folder.

    Example:
        >>> find_published(Path("no/such/folder"), "ratings.dat") is None
        True
    """
    if path.is_file():
        return path if path.name in names else None
    return next((file for name in names if (file := path / name).is_file()), None)


def required_file(path: Path, *names: str) -> Path:
    """The file of one of these names beside or at a path.

    Raises:
        InputError: there is none; the message names the files of the folder.
    """
    found = find_published(path, *names)
    if found is None and path.is_file():
        found = find_published(path.parent, *names)
    if found is None:
        raise missing(path, " or ".join(names))
    return found


def missing(path: Path, wanted: str) -> InputError:
    """The error for a folder without a file that its format needs."""
    if not path.exists():
        return InputError(f"{path}: no such file or folder; give the folder with {wanted}")
    folder = path.parent if path.is_file() else path
    present = sorted(file.name for file in folder.iterdir())
    shown = ", ".join(present[:20]) + (", ..." if len(present) > 20 else "")
    return InputError(f"{folder}: {wanted} is missing; the folder has {shown or 'nothing'}")


def first_line(path: Path) -> str:
    """The first line of a text file, plain or gzip-compressed; empty if it cannot be read as text.

    Example:
        >>> first_line(Path("no_such_file.csv"))
        ''
    """
    try:
        with gzip.open(path) if path.suffix == ".gz" else path.open("rb") as file:
            line = file.readline(_FIRST_LINE_BYTES)
        return line.decode("utf-8-sig").rstrip("\r\n")
    except (OSError, EOFError, UnicodeDecodeError, zlib.error):
        return ""


def scan_rows(path: Path, columns: Sequence[str], separator: str, *, header: bool = False) -> pl.LazyFrame:
    """Scan a file without a header line, in which quotation marks are characters as any other."""
    return pl.scan_csv(
        path,
        separator=separator,
        quote_char=None,
        has_header=False,
        skip_rows=int(header),
        schema=dict.fromkeys(columns, pl.String),
        glob=False,
    )


def scan_lines(path: Path) -> pl.LazyFrame:
    """Scan a text file, plain or gzip-compressed, as one column ``line``."""
    return scan_rows(path, ["line"], _NO_SEPARATOR)


def scan_json(path: Path, schema: Mapping[str, pl.DataType | type[pl.DataType]]) -> pl.LazyFrame:
    """Scan fields of a file of JSON lines, plain or gzip-compressed."""
    return pl.scan_ndjson(glob.escape(str(path)), schema=dict(schema))


def first_problem(*cases: tuple[pl.Expr, str]) -> pl.Expr:
    """The column of problems: the text of the first case that holds for a row, or null.

    Example:
        >>> frame = pl.DataFrame({"item_id": ["a", None]})
        >>> frame.select(first_problem((pl.col("item_id").is_null(), "no item id"))).to_series().to_list()
        [None, 'no item id']
    """
    return pl.coalesce(pl.when(wrong).then(pl.lit(text)) for wrong, text in cases).alias(PROBLEM)


def iso_milliseconds(column: str) -> pl.Expr:
    """The milliseconds since 1970 of ISO times in UTC, with milliseconds or without.

    Example:
        >>> frame = pl.DataFrame({"time": ["1970-01-01T00:00:01.277Z", "1970-01-01T00:01:00Z", "yesterday"]})
        >>> frame.select(iso_milliseconds("time"))["time"].to_list()
        [1277, 60000, None]
    """
    text = pl.col(column)
    # polars needs three times as long for a format with a fraction.
    seconds = text.str.head(19).str.to_datetime("%Y-%m-%dT%H:%M:%S", time_unit="ms", strict=False)
    rest = text.str.slice(19)
    fraction = pl.when((rest.str.len_bytes() == 5) & rest.str.ends_with("Z")).then(rest.str.slice(1, 3))
    return (
        seconds.cast(pl.Int64) + pl.when(rest == "Z").then(0).otherwise(fraction.cast(pl.Int64, strict=False))
    ).alias(column)

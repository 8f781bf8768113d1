"""Read a CSV file as text, and find the place of what is wrong with it."""

from __future__ import annotations

import csv
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import polars as pl

from alterrec.errors import InputError

# What a file that is no text begins with.
FORMATS: dict[bytes, str] = {
    b"\x1f\x8b": "gzip-compressed; decompress it with `gunzip`",
    b"PK\x03\x04": "a zip archive, such as an Excel workbook; extract it, or save the sheet as CSV (UTF-8)",
    b"BZh": "bzip2-compressed; decompress it with `bunzip2`",
    b"\xfd7zXZ\x00": "xz-compressed; decompress it with `unxz`",
    b"\x28\xb5\x2f\xfd": "zstd-compressed; decompress it with `unzstd`",
    b"PAR1": "a Parquet file; give it the suffix .parquet",
}
UTF_16 = "UTF-16 text; convert it with `iconv -f utf-16 -t utf-8`, or save it as CSV (UTF-8)"
# A quotation mark that is escaped by a backslash. Before a comma, a line break or another quotation mark, the
# backslash may be the last character of a cell.
ESCAPED = re.compile(rb'\\"(?![,\r\n"]|\Z)')
BLOCK = 2**24
# Separators that a header line without commas may have, in place of them.
OTHER_SEPARATORS = ";\t|"
NAMES = {",": "comma", ";": "semicolon", "\t": "tab", "|": "vertical bar"}


def separator_of(path: Path) -> str:
    """Return what separates the cells of a CSV file: the comma unless the header has none but another mark.

    Example:
        >>> import tempfile
        >>> path = Path(tempfile.mkdtemp()) / "items.csv"
        >>> _ = path.write_text("item_id;title\\ntent;Red tent, for two\\n")
        >>> separator_of(path)
        ';'
    """
    with path.open(encoding="utf-8-sig", newline="") as file:
        header = file.readline(2**16)
    return "," if "," in header else next((mark for mark in OTHER_SEPARATORS if mark in header), ",")


def read_csv(path: Path) -> pl.DataFrame:
    """Read a CSV file; all cells are text. Its separator is that of :func:`separator_of`.

    Raises:
        InputError: the file is empty or damaged, is no UTF-8 text, has a column twice, escapes quotation
            marks by backslashes, or ends inside a row.
    """
    with _checked(path) as separator:
        # As text, so that a message about a wrong cell can quote it.
        frame = pl.read_csv(path, separator=separator, infer_schema=False, glob=False)
    _check_end(path, frame)
    return frame


def csv_to_parquet(path: Path, target: Path) -> None:
    """Write a CSV file, which may be larger than memory, as Parquet; as :func:`read_csv` reads it.

    Args:
        path: the CSV file.
        target: the Parquet file to write.

    Example:
        >>> import tempfile
        >>> folder = Path(tempfile.mkdtemp())
        >>> _ = (folder / "s.csv").write_text("session_id,item_id\\na,7\\n")
        >>> csv_to_parquet(folder / "s.csv", folder / "s.parquet")
        >>> pl.read_parquet(folder / "s.parquet").rows()
        [('a', '7')]
    """
    with _checked(path) as separator:
        pl.scan_csv(path, separator=separator, infer_schema=False, glob=False).sink_parquet(target)
    _check_end(path, pl.scan_parquet(target, glob=False).tail(1).collect())


@contextmanager
def _checked(path: Path) -> Iterator[str]:
    """Yield the separator of a CSV file to a block that reads it, and check what polars does not notice."""
    try:
        with path.open("rb") as raw:
            _check_format(path, raw.read(4096))
        separator = separator_of(path)
        with path.open(encoding="utf-8-sig", newline="") as file:
            header = next(csv.reader(file, delimiter=separator), [])
        yield separator
        _check_escapes(path)
    except pl.exceptions.NoDataError:
        raise InputError(f"{path}: is empty; expected a header line and at least one row") from None
    except UnicodeDecodeError:
        raise _not_utf8(path) from None
    except csv.Error as error:
        raise InputError(f"{path}, line 1: {error}; expected a header line") from None
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror or error})") from None
    except pl.exceptions.PolarsError as error:
        raise _damaged_csv(path, str(error).splitlines()[0]) from None
    twice = next((name for name in header if header.count(name) > 1), None)
    if twice is not None:
        raise InputError(f"{path}, line 1: column {twice!r} appears twice; give each column its own name")


def line_of(path: Path, row: int) -> int:
    """The line on which a row begins; a cell may contain line breaks, so rows are not lines."""
    with path.open(encoding="utf-8-sig", newline="") as file:
        reader = csv.reader(file, delimiter=separator_of(path))
        line = 1
        for index, _ in enumerate(reader, -1):
            if index == row:
                break
            line = reader.line_num + 1
        return line


def _check_format(path: Path, start: bytes) -> None:
    for magic, description in FORMATS.items():
        if start.startswith(magic):
            raise InputError(f"{path}: is {description}")
    if start.startswith((b"\xff\xfe", b"\xfe\xff")) or start[1:2] == b"\0" or start[:1] == b"\0":
        raise InputError(f"{path}: is {UTF_16}")


def _check_escapes(path: Path) -> None:
    """Refuse quotation marks that are escaped by backslashes, which polars reads as two characters."""
    line, rest = 1, b""
    with path.open("rb") as file:
        while block := file.read(BLOCK):
            # A mark at the end of a block is looked at with the next one.
            whole = rest + block
            found = ESCAPED.search(whole, 0, len(whole) - 2 if len(block) == BLOCK else len(whole))
            if found:
                line += whole.count(b"\n", 0, found.start())
                raise InputError(
                    f"{path}, line {line}: a backslash escapes a quotation mark; write those inside "
                    'a cell twice ("") instead (in Spark, option("escape", "\\""))'
                )
            rest = whole[-3:] if len(block) == BLOCK else b""
            line += whole.count(b"\n", 0, len(whole) - len(rest))


def _check_end(path: Path, frame: pl.DataFrame) -> None:
    """Refuse a file that was cut off inside its last row; polars fills the missing cells."""
    if frame.is_empty() or frame[-1, -1] is not None:
        return
    with path.open("rb") as file:
        file.seek(max(0, path.stat().st_size - BLOCK))
        last = file.read().rsplit(b"\n", 1)[-1]
    if not last.strip():
        return
    cells = next(csv.reader([last.decode("utf-8", "replace")], delimiter=separator_of(path)), [])
    if len(cells) < frame.width:
        raise InputError(
            f"{path}: ends inside a row: its last line has {len(cells)} cells but the header has "
            f"{frame.width}. Copy the file again"
        )


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
            separator = separator_of(path)
            reader = csv.reader(file, delimiter=separator)
            width = len(next(reader))
            for cells in reader:
                if len(cells) > width:
                    return InputError(
                        f"{path}, line {reader.line_num}: has {len(cells)} cells but the header has {width}; "
                        f"quote a cell that contains a {NAMES[separator]}"
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

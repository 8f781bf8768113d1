"""The dialect of a text file with columns: encoding, separator, quotation marks, header, guessed from it."""

from __future__ import annotations

import codecs
import csv
import io
import re
from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path

import polars as pl

from alterrec.data.compressed import Compression, blocks, compression
from alterrec.data.csv_files import ESCAPED, FORMATS
from alterrec.errors import InputError
from alterrec.files import reading

# In the order in which they are preferred: a comma may be a decimal comma.
SEPARATORS = {"\t": "tabs", "::": "'::'", ";": "semicolons", "|": "'|'", ",": "commas"}
# Stands for `::` where one character is needed.
UNIT_SEPARATOR = "\x1f"
SAMPLE = 2**18  # characters
SAMPLE_ROWS = 1000

SEP_LINE = re.compile(r'"?sep=(.)"?(?:\r\n|\r|\n)', re.IGNORECASE)
NUMBER = re.compile(r"[+-]?\d+(?:[.,]\d+)?(?:[eE][+-]?\d+)?")
DATE = re.compile(r"\d{1,4}[-/.]\d{1,2}[-/.]\d{1,4}\b.*")


@dataclass(frozen=True)
class Dialect:
    """How the rows of a text file are written.

    Attributes:
        names: the columns; ``column_1``, ``column_2`` ... without a header line.
        separator: between cells, one of ``SEPARATORS``, or another character that a ``sep=`` line names.
        encoding: a name that Python knows.
        quoted: whether cells may be in quotation marks; tabs often separate cells that are not.
        escapes: whether backslashes escape the quotation marks inside cells.
        header: whether the first row has the names.
        skip: lines before the first row.
        newline: what ends a line; ``\\n`` includes ``\\r\\n``.
        compression: how the file is compressed.
        bad_line: the first line that is not UTF-8, if the encoding was guessed.
    """

    names: tuple[str, ...]
    separator: str = ","
    encoding: str = "utf-8"
    quoted: bool = True
    escapes: bool = False
    header: bool = True
    skip: int = 0
    newline: str = "\n"
    compression: Compression | None = None
    bad_line: int | None = None

    def notes(self) -> list[str]:
        """What is not as in a plain CSV file, a sentence each."""
        notes = []
        if self.compression:
            notes.append(f"read as {self.compression}-compressed")
        if self.separator != ",":
            notes.append(f"cells are separated by {SEPARATORS.get(self.separator, repr(self.separator))}")
        if self.bad_line is not None:
            notes.append(
                f"line {self.bad_line} is not UTF-8, so the file is read as {self.encoding} (Western "
                "European); if letters look wrong, convert it to UTF-8"
            )
        elif self.encoding.startswith("utf-16"):
            notes.append("read as UTF-16")
        if not self.quoted and self.separator == "\t":
            notes.append("quotation marks are read as part of the text")
        if self.escapes:
            notes.append("backslashes escape quotation marks inside cells")
        if not self.header:
            notes.append(f"has no header line, so its columns are called {self.names[0]} to {self.names[-1]}")
        return notes


def guess_dialect(path: Path, *, header: bool | None = None) -> Dialect:
    """Look through a text file for its dialect.

    The whole file is read once, in blocks: bytes that are not UTF-8 and quotation marks that are escaped by
    backslashes may come late.

    Args:
        header: whether the first row has the names; None looks at its cells.

    Raises:
        InputError: the file is empty or binary, has a column twice, or ends inside a row.

    Example:
        >>> import tempfile
        >>> file = Path(tempfile.mkdtemp()) / "log.csv"
        >>> _ = file.write_bytes("Käufer;Artikel\\n7;0012\\n".encode("latin-1"))
        >>> found = guess_dialect(file)
        >>> found.names, found.separator, found.encoding, found.notes()[0]
        (('Käufer', 'Artikel'), ';', 'cp1252', 'cells are separated by semicolons')
    """
    kind = compression(path)
    found = _survey_zstd(path) if kind == "zstd" else _survey(path)
    newline = "\n" if "\n" in found.sample or "\r" not in found.sample else "\r"
    sample, skip = found.sample.removeprefix("\ufeff"), 0
    sep_line = SEP_LINE.match(sample)
    if sep_line:
        sample, skip = sample[sep_line.end() :], 1
    separator = sep_line[1] if sep_line else _separator(sample, found)
    dialect = Dialect(
        (),
        separator,
        found.encoding,
        quoted=separator != "::" and (separator != "\t" or found.tabs_quote),
        escapes=found.escapes and separator != "::",
        skip=skip,
        newline=newline,
        compression=kind,
        bad_line=found.bad_line,
    )
    first = next((cells for cells in rows_of(sample, dialect) if any(cells)), None)
    if first is None:
        raise InputError(f"{path}: is empty; expected rows of events")
    _check_end(path, found.tail, dialect, len(first))
    if header or (header is None and not _looks_like_data(first)):
        twice = next((name for name in first if first.count(name) > 1), None)
        if twice is not None:
            raise InputError(
                f"{path}, line {1 + skip}: column {twice!r} appears twice; give each column its own name"
            )
        return replace(dialect, names=tuple(first))
    return replace(dialect, names=tuple(f"column_{place + 1}" for place in range(len(first))), header=False)


def rows_of(text: str, dialect: Dialect) -> Iterator[list[str]]:
    """The cells of each row of a text; without its ``sep=`` line."""
    separator = dialect.separator
    if separator == "::":
        text, separator = text.replace("::", UNIT_SEPARATOR), UNIT_SEPARATOR
    if dialect.escapes:
        text = unescaped(text.encode()).decode()
    file = io.StringIO(text, newline="")
    if dialect.quoted:
        return csv.reader(file, delimiter=separator)
    return csv.reader(file, delimiter=separator, quoting=csv.QUOTE_NONE)


BACKSLASHES = re.compile(rb'(\\+)"')


def unescaped(text: bytes) -> bytes:
    """Write quotation marks that are escaped by a backslash twice instead, as CSV has them.

    Example:
        >>> unescaped(b'"5 \\\\" wide",C:\\\\dir')
        b'"5 "" wide",C:\\\\dir'
    """

    def pairs(found: re.Match[bytes]) -> bytes:
        count = len(found[1])
        return b"\\" * (count // 2) + (b'""' if count % 2 else b'"')

    return BACKSLASHES.sub(pairs, text)


@dataclass
class _Survey:
    """What one pass over a file finds; ``tail`` is its end as text, ``whole`` whether the sample is all."""

    sample: str
    tail: str
    whole: bool
    encoding: str = "utf-8"
    bad_line: int | None = None
    escapes: bool = False
    tabs_quote: bool = True


def _survey(path: Path) -> _Survey:
    start = next(blocks(path, 4096), b"")
    _check_binary(path, start)
    encoding = _utf16(start)
    decoder = codecs.getincrementaldecoder("utf-8" if encoding is None else encoding)()
    bad_line, lines, undefined = None, 1, False
    first, tail, size = b"", b"", 0
    escapes, opening, closing = False, 0, 0
    for block in blocks(path):
        if bad_line is None:
            try:
                decoded = decoder.decode(block)
            except UnicodeDecodeError as error:
                if encoding is not None:
                    raise InputError(
                        f"{path}: is not whole UTF-16 text ({error.reason}); save it again as CSV (UTF-8)"
                    ) from None
                bad_line = lines + block.count(b"\n", 0, error.start)
            lines += block.count(b"\n")
        if encoding is not None:
            block = decoded.encode("utf-8", "replace")
        if bad_line is not None:
            undefined = undefined or any(
                byte in block for byte in (b"\x81", b"\x8d", b"\x8f", b"\x90", b"\x9d")
            )
        if not size:
            block = block.removeprefix(codecs.BOM_UTF8)
        if len(first) < SAMPLE:
            first += block[:SAMPLE]
        size += len(block)
        seen = tail[-4:] + block
        # A mark at the very end is looked at with the next block.
        escapes = escapes or (b'\\"' in seen and ESCAPED.search(seen, 0, len(seen) - 2) is not None)
        opening += seen.count(b'\t"') + seen.count(b'\n"')
        closing += seen.count(b'"\t') + seen.count(b'"\n') + seen.count(b'"\r')
        tail = (tail + block)[-SAMPLE:] if len(block) < SAMPLE else block[-SAMPLE:]
    if encoding is None and bad_line is not None:
        encoding = "latin-1" if undefined else "cp1252"
    text_encoding = encoding if bad_line is not None and encoding else "utf-8"
    return _Survey(
        first.decode(text_encoding, "replace"),
        tail.decode(text_encoding, "replace"),
        size <= len(first),
        encoding or "utf-8",
        bad_line,
        escapes,
        tabs_quote=_marks_quote(
            first.decode(text_encoding, "replace"),
            opening + first.startswith(b'"') == closing + tail.endswith(b'"'),
        ),
    )


def _marks_quote(sample: str, balanced: bool) -> bool:
    """Whether marks at the beginning of cells between tabs have their partners at the end of cells.

    Args:
        sample: where this is looked at.
        balanced: whether as many cells begin as end with a mark, which counts if the sample has none.
    """
    if not re.search(r'(?:^|[\t\n])"', sample):
        return balanced
    try:
        for _ in csv.reader(io.StringIO(sample, newline=""), delimiter="\t", strict=True):
            pass
    except csv.Error as error:
        # A sample may end inside a cell.
        return "unexpected end" in str(error)
    return True


def _survey_zstd(path: Path) -> _Survey:
    """The same from the lines of a file that polars decompresses."""
    line = pl.col("line")
    lines = pl.scan_csv(
        path,
        has_header=False,
        separator=UNIT_SEPARATOR,
        quote_char=None,
        infer_schema=False,
        new_columns=["line"],
        glob=False,
    )
    try:
        with reading(path, "copy it again, or decompress it with `unzstd`"):
            sample = lines.head(SAMPLE_ROWS).collect()["line"].fill_null("")
            found = lines.select(
                rows=pl.len(),
                last=line.last().fill_null(""),
                escapes=line.str.contains(r'\\"[^,"]').any(),
                opening=line.str.count_matches(r'(^|\t)"').sum(),
                closing=line.str.count_matches(r'"(\t|$)').sum(),
            ).collect(engine="streaming")
    except InputError as error:
        if "utf" not in str(error).lower():
            raise
        raise InputError(
            f"{path}: is not UTF-8 text inside, which alterrec cannot read from a zstd file; decompress it "
            "with `unzstd`"
        ) from None
    rows, last, escapes, opening, closing = found.row(0)
    text = "\n".join(sample) + "\n"
    return _Survey(
        text,
        last,
        rows <= SAMPLE_ROWS,
        escapes=bool(escapes),
        tabs_quote=_marks_quote(text, opening == closing),
    )


def _utf16(start: bytes) -> str | None:
    """The name of the encoding, with or without a byte order mark."""
    if start.startswith((b"\xff\xfe", b"\xfe\xff")):
        return "utf-16"
    even, odd = start[0:1000:2], start[1:1000:2]
    if len(odd) > 1 and b"\0" in start[:1000]:
        if odd.count(0) > 0.5 * len(odd) and 0 not in even:
            return "utf-16-le"
        if even.count(0) > 0.5 * len(even) and 0 not in odd:
            return "utf-16-be"
    return None


def _check_binary(path: Path, start: bytes) -> None:
    for magic, description in FORMATS.items():
        if start.startswith(magic):
            raise InputError(f"{path}: is {description}")


def _separator(sample: str, found: _Survey) -> str:
    """The separator that gives most rows as many cells as the first one has, at least two."""
    best, chosen = 0.0, ","
    for separator in SEPARATORS:
        quoted = separator != "::" and (separator != "\t" or found.tabs_quote)
        dialect = Dialect((), separator, quoted=quoted, escapes=found.escapes and separator != "::")
        try:
            rows = [cells for cells in islice(rows_of(sample, dialect), SAMPLE_ROWS) if cells]
        except csv.Error:
            continue
        # The last row of a sample may be cut off.
        widths = [len(cells) for cells in (rows if found.whole or len(rows) == 1 else rows[:-1])]
        share = widths.count(widths[0]) / len(widths) if widths and widths[0] > 1 else 0.0
        if share > best:
            best, chosen = share, separator
    return chosen


def _looks_like_data(cells: list[str]) -> bool:
    """Whether a first row has a number or a date, which no header has; pandas numbers unnamed columns."""
    texts = [cell.strip() for cell in cells]
    numbers = [text for text in texts if NUMBER.fullmatch(text)]
    if numbers == [str(place) for place in range(len(numbers))] and len(numbers) >= len(texts) - 1 > 0:
        return False
    return bool(numbers) or any(DATE.match(text) for text in texts)


def _check_end(path: Path, tail: str, dialect: Dialect, width: int) -> None:
    """Refuse a file that was cut off inside its last row."""
    last = re.split(r"[\r\n]", tail)[-1]
    if not last.strip() or (dialect.quoted and last.count('"') % 2):
        return
    cells = next(rows_of(last, dialect), [])
    if 1 <= len(cells) < width:
        raise InputError(
            f"{path}: ends inside a row: its last line has {len(cells)} cells but the first has {width}. "
            "Copy the file again"
        )

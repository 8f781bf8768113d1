"""Lazy frames over text files with columns; dialects that polars does not know are translated in blocks."""

from __future__ import annotations

import codecs
import csv
from collections.abc import Iterator
from itertools import chain
from pathlib import Path

import polars as pl
from polars.io.plugins import register_io_source

from alterrec.data.compressed import BLOCK, POLARS_READS, blocks
from alterrec.data.dialects import UNIT_SEPARATOR, Dialect, rows_of, unescaped
from alterrec.errors import InputError


def scan_text(path: Path, dialect: Dialect) -> pl.LazyFrame:
    """A lazy frame of the rows of a file: all cells are text, an empty one is null, blank lines are left out.

    polars reads UTF-8 with one character between the cells itself. Other files are translated block by block
    while the frame is collected, so that neither kind has to fit into memory.

    Raises:
        InputError: the file is zstd-compressed, and polars does not know its dialect.

    Example:
        >>> import tempfile
        >>> from alterrec.data.dialects import guess_dialect
        >>> file = Path(tempfile.mkdtemp()) / "ratings.dat"
        >>> _ = file.write_bytes(b"1::0012::978300760\\n\\n2::NA::978302109\\n")
        >>> scan_text(file, guess_dialect(file)).collect().rows()
        [('1', '0012', '978300760'), ('2', 'NA', '978302109')]
    """
    if _known_to_polars(dialect):
        frame = pl.scan_csv(
            path,
            separator=dialect.separator,
            quote_char='"' if dialect.quoted else None,
            eol_char=dialect.newline,
            has_header=dialect.header,
            skip_rows=dialect.skip,
            schema=dict.fromkeys(dialect.names, pl.String()),
            glob=False,
        )
    elif dialect.compression == "zstd":
        raise InputError(
            f"{path}: is zstd-compressed, and {'; '.join(dialect.notes()[1:])}; decompress it with `unzstd` "
            "first"
        )
    else:
        frame = register_io_source(
            _Translated(path, dialect), schema=dict.fromkeys(dialect.names, pl.String())
        )
    if len(dialect.names) == 1:
        return frame
    return frame.filter(~pl.all_horizontal(pl.all().is_null()))


def find_damage(path: Path, dialect: Dialect) -> str | None:
    """The first row with more cells than there are columns, as a message; None if there is none."""
    if dialect.compression not in POLARS_READS[:2]:
        return None
    width, line = len(dialect.names), 1 + dialect.skip
    for block in _records(path, dialect):
        try:
            for cells in rows_of(block.decode("utf-8", "replace"), Dialect((), _separator(dialect))):
                if len(cells) > width:
                    return (
                        f"{path}, line {line}: has {len(cells)} cells but the first row has {width}; quote a "
                        "cell that contains the separator"
                    )
                line += 1 + sum(cell.count("\n") for cell in cells)
        except csv.Error as error:
            return f"{path}, line {line}: {error}"
    return None


def _known_to_polars(dialect: Dialect) -> bool:
    return (
        dialect.compression in POLARS_READS
        and dialect.encoding == "utf-8"
        and len(dialect.separator.encode()) == 1
        and not dialect.escapes
    )


def _separator(dialect: Dialect) -> str:
    return UNIT_SEPARATOR if dialect.separator == "::" else dialect.separator


class _Translated:
    """The source of a lazy frame: the rows of a file, translated to the CSV that polars reads."""

    def __init__(self, path: Path, dialect: Dialect) -> None:
        self.path, self.dialect = path, dialect

    def __call__(
        self,
        with_columns: list[str] | None,
        predicate: pl.Expr | None,
        n_rows: int | None,
        batch_size: int | None,
    ) -> Iterator[pl.DataFrame]:
        dialect = self.dialect
        header = dialect.header
        for block in _records(self.path, dialect):
            frame = pl.read_csv(
                block,
                separator=_separator(dialect),
                quote_char='"' if dialect.quoted else None,
                has_header=header,
                schema=dict.fromkeys(dialect.names, pl.String()),
            )
            header = False
            if n_rows is not None:
                frame, n_rows = frame.head(n_rows), max(0, n_rows - len(frame))
            if predicate is not None:
                frame = frame.filter(predicate)
            yield frame if with_columns is None else frame.select(with_columns)
            if n_rows == 0:
                return


def _records(path: Path, dialect: Dialect) -> Iterator[bytes]:
    """The file as UTF-8 in blocks of whole rows, each ending with a line break; without a ``sep=`` line."""
    rest, skip = b"", dialect.skip
    for text in _utf8(path, dialect):
        rest += text
        while skip and b"\n" in rest:
            rest, skip = rest.partition(b"\n")[2], skip - 1
        end = _last_row(rest, dialect.quoted)
        if end and not skip:
            yield rest[:end]
            rest = rest[end:]
    if rest.strip():
        yield rest + b"\n"


def _last_row(text: bytes, quoted: bool) -> int:
    """Where the last whole row ends; a line break between quotation marks ends none."""
    end = text.rfind(b"\n") + 1
    odd = quoted and text.count(b'"', 0, end) % 2
    while odd and end:
        before = text.rfind(b"\n", 0, end - 1) + 1
        odd = (odd + text.count(b'"', before, end)) % 2
        end = before
    return end


def _utf8(path: Path, dialect: Dialect) -> Iterator[bytes]:
    """The blocks of a file in UTF-8, with line feeds, doubled quotation marks and one-byte separators."""
    decoder = codecs.getincrementaldecoder("utf-8-sig" if dialect.encoding == "utf-8" else dialect.encoding)()
    held = b""
    for block in chain(blocks(path, BLOCK), [None]):
        text = held + decoder.decode(block or b"", final=block is None).encode()
        # A backslash or a colon at the end belongs to the first character of the next block.
        kept = len(text) if block is None else len(text.rstrip(b'\\:"'))
        text, held = text[:kept], text[kept:]
        if dialect.newline == "\r":
            text = text.replace(b"\r", b"\n")
        if dialect.escapes:
            text = unescaped(text)
        if dialect.separator == "::":
            text = text.replace(b"::", UNIT_SEPARATOR.encode())
        yield text

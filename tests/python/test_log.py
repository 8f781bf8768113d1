"""The format `log`: files of each layout, columns by name, ids and problems."""

from __future__ import annotations

import bz2
import csv
import gzip
import io
import lzma
import tempfile
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from alterrec.data import text_scan
from alterrec.data.formats.log import read_log
from alterrec.data.formats.source import PrepareOptions, Source
from alterrec.errors import InputError

TIME = 1_700_000_000
HEADER = ("user_id", "item_id", "timestamp")
ROWS = [("u1", "i1", "1700000000"), ("u1", "i2", "1700000100"), ("u2", "i1", "1700000200")]
READ = [("i1", "u1", TIME), ("i2", "u1", TIME + 100), ("i1", "u2", TIME + 200)]


def read(path: Path, **options: Any) -> Source:
    return read_log(path, PrepareOptions(**options))


def events(source: Source) -> pl.DataFrame:
    (frame,) = source.events.values()
    assert isinstance(frame, pl.LazyFrame)
    return frame.collect(engine="streaming")


def triples(path: Path, **options: Any) -> list[tuple[Any, ...]]:
    return events(read(path, **options)).select("item_id", "user_id", "timestamp").rows()


def notes(path: Path, **options: Any) -> str:
    return "\n".join(read(path, **options).notes)


def refused(path: Path, **options: Any) -> str:
    with pytest.raises(InputError) as error:
        events(read(path, **options))
    message = str(error.value)
    assert "\n" not in message
    return message


def lines(separator: str = ",", end: str = "\n", header: bool = True) -> str:
    return "".join(separator.join(row) + end for row in ([HEADER] if header else []) + ROWS)


def write(path: Path, content: str | bytes) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return path


# Dialects.


@pytest.mark.parametrize("separator", [",", ";", "\t", "|", "::"])
@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
def test_separators_and_line_ends(tmp_path: Path, separator: str, end: str) -> None:
    path = write(tmp_path / "log.csv", lines(separator, end))
    assert triples(path) == READ
    assert ("separated by" in notes(path)) == (separator != ",")


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16", "utf-16-le", "utf-16-be"])
def test_encodings_that_tell_themselves(tmp_path: Path, encoding: str) -> None:
    text = lines("\t").replace("i1", "Käse ☕")
    path = write(tmp_path / "log.txt", text.encode(encoding))
    assert triples(path)[0] == ("Käse ☕", "u1", TIME)
    assert ("UTF-16" in notes(path)) == encoding.startswith("utf-16")


def test_western_text_is_read_and_said(tmp_path: Path) -> None:
    path = write(tmp_path / "log.csv", lines(";").replace("i1", "Käse 5 €").encode("cp1252"))
    assert triples(path)[0] == ("Käse 5 €", "u1", TIME)
    assert "line 2 is not UTF-8, so the file is read as cp1252" in notes(path)


def test_a_late_letter_that_is_not_utf_8_is_found(tmp_path: Path) -> None:
    many = "".join(f"u{n},i{n},{TIME + n}\n" for n in range(20_000))
    path = write(tmp_path / "log.csv", (",".join(HEADER) + "\n" + many).encode() + b"\xfc,i,1700000000\n")
    assert events(read(path))["user_id"][-1] == "ü"
    assert "line 20002 is not UTF-8" in notes(path)


def test_a_sep_line_of_excel(tmp_path: Path) -> None:
    assert triples(write(tmp_path / "a.csv", b"\xef\xbb\xbfsep=;\r\n" + lines(";", "\r\n").encode())) == READ
    assert triples(write(tmp_path / "b.csv", "sep=^\n" + lines("^"))) == READ


def test_quoted_line_breaks_and_separators(tmp_path: Path) -> None:
    text = 'user_id,item_id,timestamp,title\nu1,i1,1700000000,"a ""red"",\r\n\nmug"\nu2,i2,1700000001,b\n'
    frame = events(read(write(tmp_path / "log.csv", text)))
    assert frame["title"].to_list() == ['a "red",\r\n\nmug', "b"]


def test_backslashes_of_spark(tmp_path: Path) -> None:
    text = (
        'user_id,item_id,timestamp,title\nu1,i1,1700000000,"say \\"hi\\", you"\nu2,i2,1700000001,"C:\\\\"\n'
    )
    path = write(tmp_path / "log.csv", text)
    assert events(read(path))["title"].to_list() == ['say "hi", you', "C:\\"]
    assert "backslashes escape quotation marks" in notes(path)


def test_marks_of_a_tsv_file_that_quote_nothing(tmp_path: Path) -> None:
    text = 'user_id\titem_id\ttimestamp\ttitle\nu1\ti1\t1700000000\t"Great" cats\nu2\ti2\t1700000001\t5"\n'
    path = write(tmp_path / "log.tsv", text)
    assert events(read(path))["title"].to_list() == ['"Great" cats', '5"']
    assert "quotation marks are read as part of the text" in notes(path)
    quoted = text.replace('"Great" cats', '"Great\tcats"').replace('5"', "5")
    assert events(read(write(path, quoted)))["title"].to_list() == ["Great\tcats", "5"]


def test_a_file_without_a_header_is_mapped_by_position(tmp_path: Path) -> None:
    path = write(tmp_path / "log.dat", "7::0012::3::978300760\n\n8::NA::1::978300761\n")
    told = refused(path)
    assert "has no header line, so its columns are called column_1 to column_4" in told
    assert "--column item_id=column_2" in told
    columns = {"user_id": "column_1", "item_id": "column_2", "timestamp": "column_4"}
    assert triples(path, columns=columns) == [("0012", "7", 978300760), ("NA", "8", 978300761)]
    # Texts alone look like a header.
    words = write(tmp_path / "words.csv", "anna,tent\nbea,lamp\n")
    assert "no column is known as the item; its columns are 'anna', 'tent'" in refused(words)
    mapped = events(read(words, columns={"user_id": "column_1", "item_id": "column_2"}))
    assert mapped["item_id"].to_list() == ["tent", "lamp"]


def test_an_index_of_pandas_is_no_sign_of_a_missing_header(tmp_path: Path) -> None:
    text = ",user_id,item_id,timestamp\n0,u1,i1,1700000000\n1,u2,i2,1700000001\n"
    frame = events(read(write(tmp_path / "log.csv", text)))
    assert (frame.columns[-1], frame["item_id"].to_list()) == ("", ["i1", "i2"])


@pytest.mark.parametrize(
    ("content", "told"),
    [
        (b"", "is empty"),
        (b"user_id,item_id\nu1,i1\nu2", "ends inside a row: its last line has 1 cells but the first has 2"),
        (b"user_id,item_id,item_id\nu1,i1,i1\n", "line 1: column 'item_id' appears twice"),
        (b"user_id,item_id\nu1,i1\nu2,i2,i3\n", "line 3: has 3 cells but the first row has 2"),
        (b"PK\x03\x04", "is a zip archive, such as an Excel workbook"),
        (gzip.compress(lines().encode(), mtime=0)[:40], "the compressed file is damaged"),
    ],
)
def test_damaged_files_are_refused(tmp_path: Path, content: bytes, told: str) -> None:
    assert told in refused(write(tmp_path / "log.csv", content))


COMPRESSED = {"gz": gzip.compress, "bz2": bz2.compress, "xz": lzma.compress}


@pytest.mark.parametrize("suffix", COMPRESSED)
@pytest.mark.parametrize("text", [lines(), lines("::"), lines(";").replace("i1", "Käse")])
def test_compressed_text(tmp_path: Path, suffix: str, text: str) -> None:
    content = text.encode("latin-1")
    path = write(tmp_path / f"log.csv.{suffix}", COMPRESSED[suffix](content))
    assert triples(path) == triples(write(tmp_path / "plain.csv", content))
    assert "compressed" in notes(path)


ZSTD = bytes.fromhex("28b52ffd")


def zstd(content: bytes) -> bytes:
    """A frame of zstd with one block that is stored as it is."""
    size = len(content)
    assert size < 2**16
    header = bytes([0x60]) + (size - 256).to_bytes(2, "little")
    return ZSTD + header + ((size << 3) | 1).to_bytes(3, "little") + content


def test_zstd_is_read_by_polars(tmp_path: Path) -> None:
    padded = lines(";") + "".join(f"u{n};i{n};{TIME + n}\n" for n in range(50))
    path = write(tmp_path / "log.csv.zst", zstd(padded.encode()))
    assert triples(path)[:3] == READ
    assert len(triples(path)) == 53
    translated = write(tmp_path / "b.csv.zst", zstd(padded.replace(";", "::").encode()))
    assert "zstd-compressed, and cells are separated by '::'; decompress it" in refused(translated)
    western = write(tmp_path / "c.csv.zst", zstd(padded.replace("i1", "ü").encode("latin-1")))
    assert "is not UTF-8 text inside" in refused(western)


@pytest.mark.parametrize("block", [1, 3, 7, 64])
def test_blocks_end_anywhere(tmp_path: Path, block: int, monkeypatch: pytest.MonkeyPatch) -> None:
    text = 'user_id,item_id,title\nu1,i1,"a\r\n\\"b\\", ü"\nu2,i2,"\\\\"\nu3,i3,☕\n'
    path = write(tmp_path / "log.csv", text)
    monkeypatch.setattr(text_scan, "BLOCK", block)
    assert events(read(path))["title"].to_list() == ['a\r\n"b", ü', "\\", "☕"]


# Python takes the separators of ASCII (1c to 1f) for white space, Unicode does not.
CELLS = st.text(
    st.characters(exclude_characters="\x00\x1c\x1d\x1e\x1f", exclude_categories=["Cs"]), max_size=6
)


@settings(max_examples=40, deadline=None)
@given(
    rows=st.lists(st.tuples(CELLS, CELLS, CELLS), min_size=1, max_size=6),
    separator=st.sampled_from(",;\t|"),
    end=st.sampled_from(["\n", "\r\n"]),
    encoding=st.sampled_from(["utf-8", "utf-8-sig", "utf-16"]),
    block=st.sampled_from([5, 2**24]),
)
def test_what_python_writes_is_read_back(
    rows: list[tuple[str, str, str]], separator: str, end: str, encoding: str, block: int
) -> None:
    """Cells of any characters, all of them quoted so that no cell may be taken for something else."""
    file = io.StringIO(newline="")
    # Cells with backslashes before marks are what Spark writes; another test has them.
    rows = [tuple(cell.replace("\\", "/") for cell in row) for row in rows]  # type: ignore[misc]
    writer = csv.writer(file, delimiter=separator, lineterminator=end, quoting=csv.QUOTE_ALL)
    writer.writerows([("user_id", "item_id", "title"), ("user", "item", "first"), *rows])
    old, text_scan.BLOCK = text_scan.BLOCK, block
    with tempfile.TemporaryDirectory() as folder:
        path = write(Path(folder) / "log.csv", file.getvalue().encode(encoding))
        try:
            frame = events(read(path))
        finally:
            text_scan.BLOCK = old
    assert frame["title"].fill_null("").to_list()[1:] == [row[2] for row in rows]
    ids = [(user if user.strip() else None, item if item.strip() else None) for user, item, _ in rows]
    assert frame.select("user_id", "item_id").rows()[1:] == ids

"""Open a file or a stream of sessions, whatever its layout."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import BinaryIO

import polars as pl

from alterrec.data.events import check_columns
from alterrec.data.tables import check_name
from alterrec.errors import InputError, nearest
from alterrec.files import atomic_write, reading
from alterrec.runs.inputs import RunCatalogue
from alterrec.serving.blocks import SessionLines, SessionLists, SessionSource, list_column
from alterrec.serving.rows import SessionRows

LINES = (".jsonl", ".ndjson")
SUFFIXES = (".csv", ".parquet", *LINES)
STANDARD_INPUT = "standard input"


def open_sessions(
    path: Path, known: RunCatalogue, folder: Path, columns: Mapping[str, str] | None = None
) -> SessionSource:
    """Open a file of sessions.

    Args:
        path: ``.csv`` or ``.parquet`` with a row for each item (session_id, item_id, optionally timestamp and
            user_id); ``.parquet`` with a row for each session (session_id, items, which is a list, optionally
            user_id); or ``.jsonl`` with such an object in each line.
        known: the run.
        folder: an existing folder, where a file with a row for each item is sorted into sessions.
        columns: our column name -> the file's; ``item_id`` also stands for ``items``.

    Raises:
        InputError: the file cannot be read, or a column is missing or has a wrong value. Lines of JSON are
            checked when they are read.
    """
    columns = dict(columns or {})
    check_columns(columns)
    check_name(path)
    if not path.is_file():
        others = [other.name for other in path.parent.iterdir()] if path.parent.is_dir() else []
        raise InputError(f"{path}: no such file{nearest(path.name, others)}")
    if path.suffix not in SUFFIXES:
        raise InputError(
            f"{path}: its suffix is {path.suffix!r}; expected {', '.join(SUFFIXES[:-1])} or {SUFFIXES[-1]}"
        )
    if path.suffix in LINES:
        return SessionLines(path, path.name, known, columns)
    if path.suffix == ".parquet" and _has_lists(path, columns):
        return SessionLists(path, known, columns)
    return SessionRows(path, known, columns, folder)


def open_stream(
    stream: BinaryIO, known: RunCatalogue, folder: Path, columns: Mapping[str, str] | None = None
) -> SessionSource:
    """Open a stream of sessions: JSON lines, which are read as they arrive, or CSV, which is read to its end.

    Args:
        stream: a buffered stream, such as ``sys.stdin.buffer``.
        known, folder, columns: as for :func:`open_sessions`.

    Raises:
        InputError: the stream is empty, or as for :func:`open_sessions`.
    """
    if _begins_with_json(stream):
        check_columns(columns or {})
        return SessionLines(stream, STANDARD_INPUT, known, columns or {})
    return open_sessions(copied(stream, folder), known, folder, columns)


def copied(stream: BinaryIO, folder: Path) -> Path:
    """Write a stream of sessions into a file of a folder; its suffix says what the stream has.

    Raises:
        InputError: the stream is empty, or the file cannot be written.
    """
    copy = folder / f"{STANDARD_INPUT}{LINES[0] if _begins_with_json(stream) else '.csv'}"
    with atomic_write(copy) as temporary, temporary.open("wb") as file:
        shutil.copyfileobj(stream, file)
    return copy


def _begins_with_json(stream: BinaryIO) -> bool:
    start = stream.peek(1)  # type: ignore[attr-defined]
    if not start:
        raise InputError(
            f"{STANDARD_INPUT} is empty; expected CSV with a header line, or a line of JSON for each session"
        )
    return start.lstrip(b"\xef\xbb\xbf \t\r\n")[:1] in (b"{", b"[")


def _has_lists(path: Path, columns: Mapping[str, str]) -> bool:
    """Whether a Parquet file has a list of items in each row; False for a file that is damaged."""
    try:
        with reading(path):
            return list_column(pl.scan_parquet(path, glob=False).collect_schema(), columns) is not None
    except InputError:
        return False

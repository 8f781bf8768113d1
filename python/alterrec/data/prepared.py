"""A folder of prepared data: its record ``dataset.json``, and reading it."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, ClassVar

import polars as pl
from pydantic import Field

from alterrec.data.choices import ChoiceRecord
from alterrec.data.dataset import SPLITS, Dataset, ItemText, Names
from alterrec.data.parquet_files import read_parquet
from alterrec.data.text_columns import choose_text_columns
from alterrec.data.vectors import load_vectors
from alterrec.errors import InputError
from alterrec.files import read_text, reading
from alterrec.record_json import from_json, to_json
from alterrec.sessions import SessionStore
from alterrec.vocabulary import Vocabulary

RECORD = "dataset.json"
ADVICE = "delete the folder and prepare it again"

Count = Annotated[int, Field(ge=0)]


@dataclass(frozen=True)
class FileRecord:
    """A file: its name within its folder, its bytes, and the SHA-256 of its content."""

    name: str
    size: Count
    sha256: str


@dataclass(frozen=True)
class StepSizes:
    """The sizes after one step of the preparation; None where they are not known yet."""

    name: str
    events: Count
    sessions: Count | None = None
    items: Count | None = None


@dataclass(frozen=True)
class PreparedRecord:
    """``dataset.json``: where the data come from, every choice, and the sizes after every step.

    Attributes:
        name: name of the data.
        version: version of alterrec.
        format: name of the format.
        sources: the files that were read.
        arguments: columns, locale, text and seed, where they were given.
        choices: the choices that were read.
        per_second: units of the timestamps in one second.
        rows: rows of the sources.
        dropped: reason -> rows that could not be used.
        kinds: kind of event -> usable rows.
        steps: sizes after each step.
        expected: published counts.
        counts: the same counts of these data, and others.
        text: the columns of ``items.parquet`` that are text.
        notes: what was left out, added or changed.
        numbered: whether the session ids are numbers that alterrec gave.
        files: the files of the folder.
    """

    LATEST_SCHEMA: ClassVar[int] = 1

    schema: Annotated[int, Field(ge=1)]
    name: str
    version: str
    format: str
    sources: list[FileRecord]
    arguments: dict[str, Any]
    choices: dict[str, ChoiceRecord]
    per_second: int
    rows: Count
    dropped: dict[str, Count]
    kinds: dict[str, Count]
    steps: list[StepSizes]
    expected: dict[str, int]
    counts: dict[str, Count]
    text: list[str]
    notes: list[str]
    numbered: bool
    files: list[FileRecord]


def parts_of_key(
    version: str,
    format: str,
    sources: Sequence[FileRecord],
    arguments: Mapping[str, Any],
    choices: Mapping[str, ChoiceRecord],
) -> dict[str, Any]:
    """Return what a preparation is made from, by name: version, format, files, arguments and choices."""
    return {
        "schema": PreparedRecord.LATEST_SCHEMA,
        "version": version,
        "format": format,
        "files": [to_json(file) for file in sources],
        **arguments,
        # Whose a choice was changes nothing.
        **{name: choice.value for name, choice in choices.items()},
    }


def preparation_key(parts: Mapping[str, Any]) -> str:
    """Return a digest of what :func:`parts_of_key` returns."""
    text = json.dumps(parts, sort_keys=True, ensure_ascii=False)
    return hashlib.blake2b(text.encode(), digest_size=16).hexdigest()


def file_record(path: Path, name: str) -> FileRecord:
    """Return the size and the hash of a file.

    Raises:
        InputError: the file cannot be read.
    """
    with reading(path, "check the file"), path.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
        return FileRecord(name, file.tell(), digest)


def is_prepared(path: Path) -> bool:
    """Whether a path is a folder of prepared data."""
    return (path / RECORD).is_file()


def read_record(folder: Path) -> PreparedRecord:
    """Read ``dataset.json``, and check that the files of the folder have the sizes that it says.

    Raises:
        InputError: it is damaged, or a file is missing or has another size.
    """
    record = from_json(PreparedRecord, read_text(folder / RECORD), str(folder / RECORD))
    for file in record.files:
        path = folder / file.name
        if not path.is_file():
            raise InputError(f"{path} is missing, but {RECORD} lists it; {ADVICE}")
        size = path.stat().st_size
        if size != file.size:
            raise InputError(f"{path} has {size} bytes, but {RECORD} says {file.size}; {ADVICE}")
    return record


def load_prepared(
    folder: Path,
    *,
    text_fields: Sequence[str] | None = None,
    vectors: str | Path | None = None,
    name: str | None = None,
) -> Dataset:
    """Read a folder of prepared data; its sessions are memory-mapped.

    Args:
        folder: the folder.
        text_fields: text columns to keep, in this order, by name or alias; None keeps all.
        vectors: a file of vectors that replace the text.
        name: name of the data set; None for that of the folder.

    Raises:
        InputError: a file is missing, damaged or has another size than ``dataset.json`` says, or a text
            column is missing.
    """
    record = read_record(folder)
    items = read_parquet(folder / "items.parquet")
    vocabulary = Vocabulary(tuple(items["item_id"]))
    chosen, remarks = choose_text_columns(
        items,
        record.text if text_fields is None else text_fields,
        name=folder / "items.parquet",
        # Vectors replace the text, so that a preset may name columns that are not there.
        may_be_missing=vectors is not None,
    )
    notes = [*record.notes, *remarks]
    given = None if vectors is None else load_vectors(vectors, vocabulary, notes=notes)
    stores = {}
    for split in SPLITS:
        with reading(folder / f"{split}.store", ADVICE):
            stores[split] = SessionStore.open(folder / f"{split}.store")
    users = None
    if (folder / "users.parquet").exists():
        users = Vocabulary(tuple(read_parquet(folder / "users.parquet")["user_id"]))
    return Dataset(
        name=name or folder.resolve().name,
        **stores,
        vocabulary=vocabulary,
        text=ItemText({field: items[field].to_list() for field in chosen}) if chosen else None,
        vectors=given,
        session_names=_session_names(folder, record, stores),
        notes=tuple(notes),
        users=users,
    )


def _session_names(
    folder: Path, record: PreparedRecord, stores: Mapping[str, SessionStore]
) -> dict[str, Sequence[str]]:
    """The external ids of the sessions of each split."""
    names: dict[str, Sequence[str]] = {}
    for split, store in stores.items():
        if record.numbered:
            first = int(store.session_ids[0]) if len(store) else 0
            names[split] = Names(pl.int_range(first, first + len(store), eager=True))
            continue
        path = folder / f"{split}.parquet"
        with reading(path, ADVICE):
            names[split] = Names(
                pl.scan_parquet(path)
                .select(pl.col("session_id").unique(maintain_order=True))
                .collect(engine="streaming")["session_id"]
            )
        if len(names[split]) != len(store):
            raise InputError(
                f"{path} has {len(names[split])} sessions, but {split}.store has {len(store)}; {ADVICE}"
            )
    return names

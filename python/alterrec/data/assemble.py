"""Turn the tables that a reader returns into a :class:`~alterrec.data.dataset.Dataset`.

The steps after reading are the same for every format: number the items and users, check every column, order
and split the sessions, and note what was dropped or cut.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import NamedTuple

import numpy as np
import polars as pl

from alterrec.data.dataset import SPLITS, Dataset, ItemText
from alterrec.data.events import (
    COLUMNS,
    Events,
    check_columns,
    likely_times,
    read_events,
    with_integer_times,
)
from alterrec.data.html_text import clean_texts
from alterrec.data.tables import (
    ROW,
    DataFile,
    check_required,
    find_column,
    id_column,
    read_data_file,
    text_column,
)
from alterrec.data.text_columns import choose_text_columns
from alterrec.data.vectors import load_vectors
from alterrec.errors import InputError, nearest
from alterrec.sessions import SessionStore
from alterrec.vocabulary import Vocabulary

INTERACTIONS = "interactions"


@dataclass(frozen=True)
class ReadOptions:
    """The arguments of :func:`~alterrec.data.readers.load_dataset` that are the same for every format."""

    columns: Mapping[str, str]
    drop_unknown: bool = False
    text_fields: Sequence[str] | None = None
    vectors: str | Path | None = None
    valid_share: float = 0.1
    test_share: float = 0.1

    def check(self) -> None:
        """Raise InputError for an unknown column name or impossible shares."""
        check_columns(self.columns)
        for name, share in (("valid_share", self.valid_share), ("test_share", self.test_share)):
            if not 0 < share < 1:
                raise InputError(f"{name} is {share}; expected a share above 0 and below 1")
        if self.valid_share + self.test_share >= 1:
            raise InputError(
                f"valid_share {self.valid_share} and test_share {self.test_share} leave nothing to train on; "
                "choose shares whose sum is below 1"
            )


class RawData(NamedTuple):
    """What a reader returns: tables with the columns that the files have.

    Attributes:
        items: a row per item with ``item_id`` and any text columns.
        sessions: ``train``, and ``valid`` and ``test`` where the data has them; or ``interactions`` alone,
            which is split by time. Rows have ``session_id``, ``item_id`` and optionally ``timestamp`` and
            ``user_id``; their order matters only where times are equal or missing.
        notes: what the reader dropped or changed, one sentence each.
    """

    items: DataFile
    sessions: Mapping[str, DataFile]
    notes: tuple[str, ...] = ()


class Sessions(NamedTuple):
    """Sessions read from one file, their external ids, and one sentence for everything that was dropped."""

    store: SessionStore
    names: list[str]
    notes: tuple[str, ...]


def assemble(name: str, raw: RawData, options: ReadOptions) -> Dataset:
    """Build a data set from the tables of a reader.

    Raises:
        InputError: a column is missing or has a wrong value, or a split has no session with a target.
    """
    check_mapping([raw.items, *raw.sessions.values()], options.columns)
    check_required(
        [(raw.items, ["item_id"]), *((file, COLUMNS[:2]) for file in raw.sessions.values())], options.columns
    )
    vocabulary = _vocabulary(raw.items, options.columns)
    text, remarks = _text(raw.items, options)
    notes = [*raw.notes, *remarks]
    vectors = None if options.vectors is None else load_vectors(options.vectors, vocabulary, notes=notes)
    events: dict[str, Events] = {}
    for split, file in raw.sessions.items():
        events[split], dropped = read_events(
            file,
            COLUMNS,
            vocabulary,
            options.columns,
            raw.items.path.name,
            drop_unknown=options.drop_unknown,
        )
        notes += dropped
    events = with_integer_times(events)
    events, cuts = _split(events, {"valid": options.valid_share, "test": options.test_share}, options.columns)
    ids = [part.frame["user_id"] for part in events.values() if "user_id" in part.frame.columns]
    # By first appearance in any of the files.
    known = pl.concat(ids).drop_nulls().unique(maintain_order=True) if ids else ()
    users = Vocabulary(tuple(known)) if len(known) else None
    stores, names = {}, {}
    for split in SPLITS:
        stores[split], names[split] = _store(events[split], len(vocabulary), users)
        if not (stores[split].lengths >= 2).any():
            raise InputError(
                f"{events[split].file.path}: no session of {split} has 2 or more items, so there is "
                "nothing to predict; expected at least one such session"
            )
    return Dataset(
        name=name,
        **stores,
        vocabulary=vocabulary,
        text=text,
        vectors=vectors,
        session_names=names,
        notes=(*notes, *cuts, *_remarks(stores, names)),
        users=users,
    )


def load_sessions(
    path: str | Path,
    vocabulary: Vocabulary,
    *,
    users: Vocabulary | None = None,
    columns: Mapping[str, str] | None = None,
    drop_unknown: bool = False,
) -> Sessions:
    """Read one session file whose items belong to a known catalogue, for instance to recommend for it.

    Args:
        path: ``.csv`` or ``.parquet`` with session_id, item_id and optionally timestamp, user_id.
        vocabulary: the catalogue.
        users: external user ids by number; other users get -1 in the store. With None the column user_id
            is not read.
        columns: our column name -> the file's.
        drop_unknown: drop rows whose item is not in the catalogue, whose ids are empty or whose time cannot
            be read (the notes count them), instead of raising.

    Raises:
        InputError: as :func:`~alterrec.data.readers.load_dataset`, and if no row is left.

    Example:
        >>> import tempfile
        >>> file = Path(tempfile.mkdtemp()) / "s.csv"
        >>> _ = file.write_text("session_id,item_id\\nnow,lamp\\nnow,boat\\n")
        >>> store, names, notes = load_sessions(file, Vocabulary(("tent", "lamp")), drop_unknown=True)
        >>> names, store.items, notes[0].split(": ")[1]
        (['now'], array([1], dtype=uint32), 'dropped 1 of 2 rows with unknown items')
    """
    columns = dict(columns or {})
    check_columns(columns)
    file = read_data_file(Path(path))
    check_mapping([file], columns)
    check_required([(file, COLUMNS[:2])], columns)
    read = COLUMNS if users else COLUMNS[:-1]
    events, notes = read_events(
        file,
        read,
        vocabulary,
        columns,
        "the catalogue",
        drop_unknown=drop_unknown,
        drop_unreadable=drop_unknown,
    )
    events = with_integer_times({"sessions": events})["sessions"]
    store, names = _store(events, len(vocabulary), users)
    if users:
        unknown = len(store) if store.users is None else int((store.users < 0).sum())
        if unknown:
            why = " (no column user_id)" if store.users is None else ""
            notes.append(f"{file.path.name}: sessions of unknown users: {unknown} of {len(store)}{why}")
    return Sessions(store, names, tuple(notes))


def check_mapping(files: Collection[DataFile], columns: Mapping[str, str]) -> None:
    """Raise InputError unless each mapped column is in some file; files may lack those of others."""
    known = sorted({column for file in files for column in file.columns})
    for name, theirs in columns.items():
        if theirs not in known:
            where = ", ".join(str(file.path) for file in files)
            raise InputError(
                f"columns {name}={theirs}: no column {theirs!r} in {where}; their columns are "
                f"{', '.join(map(repr, known))}{nearest(theirs, known)}"
            )


def _vocabulary(items: DataFile, columns: Mapping[str, str]) -> Vocabulary:
    column = find_column(items, "item_id", columns, required=True) or "item_id"
    ids = id_column(items, column)
    repeated = ~ids.is_first_distinct()
    if repeated.any():
        index = repeated.arg_max() or 0
        first = items.frame[ROW][(ids == ids[index]).arg_max() or 0]
        count = f" ({repeated.sum()} such rows)" if repeated.sum() > 1 else ""
        raise InputError(
            f"{items.place(items.frame[ROW][index])}: {column} {ids[index]!r} repeats "
            f"{items.place(first).split(', ')[-1]}{count}; expected one row per item. Delete the repetition"
        )
    if len(ids) < 2:
        raise InputError(f"{items.path}: has 1 item; expected at least 2, so that there is a choice")
    return Vocabulary(tuple(ids))


def _text(items: DataFile, options: ReadOptions) -> tuple[ItemText | None, list[str]]:
    """The text columns without HTML, and sentences about what is not read as text or was changed."""
    item_column = find_column(items, "item_id", options.columns, required=True) or "item_id"
    chosen, notes = choose_text_columns(
        items.frame,
        options.text_fields,
        name=items.path,
        skip=(item_column, "item_id"),
        # Vectors replace the text, so that a preset may name columns that are not there.
        may_be_missing=options.vectors is not None,
    )
    remarks = list(notes)
    if not chosen:
        return None, remarks
    columns, cleaned = read_texts(items, chosen)
    remarks += cleaned
    text = ItemText({name: column.to_list() for name, column in columns.items()})
    if len(set(text.joined_texts()) - {""}) == 1 and options.vectors is None:
        remarks.append(
            f"{items.path.name}: all texts are alike ({text.joined(0)[:40]!r}), so they tell nothing"
        )
    return text, remarks


def read_texts(items: DataFile, names: Sequence[str]) -> tuple[dict[str, pl.Series], list[str]]:
    """Columns as text without HTML, and a sentence about what was removed; empty cells are empty strings."""
    columns, changed = {}, 0
    for name in names:
        written = text_column(items, name).str.strip_chars()
        columns[name] = clean_texts(written)
        changed += int((columns[name] != written).sum())
    if not changed:
        return columns, []
    return columns, [f"{items.path.name}: texts from which HTML tags or entities were removed: {changed}"]


def _split(
    events: dict[str, Events], shares: Mapping[str, float], columns: Mapping[str, str]
) -> tuple[dict[str, Events], tuple[str, ...]]:
    """Split missing validation and test sessions off the end of train (or of interactions)."""
    source = INTERACTIONS if INTERACTIONS in events else "train"
    missing = [split for split in SPLITS[1:] if split not in events]
    whole = events[source]
    if not missing:
        return events, ()
    if source == INTERACTIONS and whole.times is None:
        how = likely_times(whole.file, columns) or "map it with --column timestamp=NAME, or add it"
        raise InputError(
            f"{whole.file.path}: column 'timestamp' is missing; a single file of interactions is split "
            f"by time. Its columns are {', '.join(map(repr, whole.file.columns))}: {how}, or give train, "
            "valid and test"
        )
    total = whole.frame["session_id"].n_unique()
    counts = {split: max(1, round(shares[split] * total)) for split in missing}
    kept = total - sum(counts.values())
    if kept < 1:
        raise InputError(
            f"{whole.file.path}: has {total} sessions; expected at least {len(missing) + 1}, because "
            f"{' and '.join(missing)} are split off"
        )
    place = _session_order(whole.frame)
    rows = whole.frame.join(place, on="session_id", how="left", maintain_order="left")
    bounds = np.cumsum([0, kept, *counts.values()]).tolist()
    parts = {
        split: replace(
            whole, frame=rows.filter(pl.col("session").is_between(start, stop - 1)).drop("session")
        )
        for split, start, stop in zip(["train", *missing], bounds[:-1], bounds[1:], strict=True)
    }
    order = "time of last interaction" if whole.times else "order of appearance (no timestamps)"
    sizes = ", ".join(f"{split} {count}" for split, count in ({"train": kept} | counts).items())
    note = f"{whole.file.path.name}: sessions split by {order}: {sizes}"
    return {split: parts.get(split) or events[split] for split in SPLITS}, (note,)


def _session_order(frame: pl.DataFrame) -> pl.DataFrame:
    """Columns session_id and session: its rank by time of last interaction, else by first appearance."""
    if "timestamp" not in frame.columns:
        return frame.select(pl.col("session_id").unique(maintain_order=True)).with_row_index("session")
    last = frame.group_by("session_id", maintain_order=True).agg(pl.col("timestamp").max())
    return last.sort("timestamp", maintain_order=True).select("session_id").with_row_index("session")


def _store(events: Events, num_items: int, users: Vocabulary | None) -> tuple[SessionStore, list[str]]:
    order = _session_order(events.frame)
    rows = events.frame.join(order, on="session_id", how="left", maintain_order="left")
    if users and "user_id" in rows.columns:
        numbers = pl.DataFrame({"user_id": users.item_ids, "user": np.arange(len(users))})
        rows = rows.join(numbers, on="user_id", how="left", maintain_order="left")
        rows = rows.with_columns(pl.col("user").fill_null(-1))
    rows = rows.sort("session", maintain_order=True)
    store = SessionStore.from_arrays(
        rows["session"].cast(pl.Int64).to_numpy(),
        rows["item"].cast(pl.Int64).to_numpy(),
        timestamps=rows["timestamp"].to_numpy() if "timestamp" in rows.columns else None,
        user_ids=rows["user"].to_numpy() if "user" in rows.columns else None,
        num_items=num_items,
    )
    return store, order["session_id"].to_list()


def _remarks(stores: Mapping[str, SessionStore], names: Mapping[str, list[str]]) -> list[str]:
    """Notes about cold items, sessions without a target and shared session ids."""
    counts = {split: np.asarray(store.item_counts()) for split, store in stores.items()}
    cold = counts["train"] == 0
    remarks = []
    if cold.any():
        met = int((cold & (counts["valid"] + counts["test"] > 0)).sum())
        remarks.append(
            f"items without training sessions (cold): {int(cold.sum())}, of them in valid or test: {met}"
        )
    for split, store in stores.items():
        short = int((store.lengths < 2).sum())
        if short:
            remarks.append(f"{split}: sessions with a single item, which have no target: {short}")
    for earlier, later in (("train", "valid"), ("train", "test"), ("valid", "test")):
        shared = len(set(names[earlier]) & set(names[later]))
        if shared:
            remarks.append(f"session ids in both {earlier} and {later}: {shared}")
    return remarks

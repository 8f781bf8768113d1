"""A folder of CSV or Parquet files -> :class:`~alterrec.data.dataset.Dataset`."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import NamedTuple

import numpy as np
import polars as pl

from alterrec.data.dataset import SPLITS, Dataset, ItemText, Vocabulary
from alterrec.data.tables import (
    ROW,
    DataFile,
    TimeKind,
    find_column,
    find_file,
    id_column,
    read_data_file,
    text_column,
    time_column,
)
from alterrec.data.vectors import load_vectors
from alterrec.errors import InputError, nearest
from alterrec.sessions import SessionStore

COLUMNS = ("session_id", "item_id", "timestamp", "user_id")


class Sessions(NamedTuple):
    """Sessions read from one file.

    Attributes:
        store: the sessions; items are numbers of the vocabulary, users those that were asked for.
        names: external session id by session index.
        notes: what was dropped, one sentence each.
    """

    store: SessionStore
    names: list[str]
    notes: tuple[str, ...]


@dataclass(frozen=True)
class _Events:
    """Rows (session_id, item, and where given timestamp, user_id) of a session file, in file order."""

    table: DataFile
    frame: pl.DataFrame
    time_kind: TimeKind | None

    @property
    def num_sessions(self) -> int:
        return self.frame["session_id"].n_unique()


def load_dataset(
    path: str | Path,
    *,
    columns: Mapping[str, str] | None = None,
    drop_unknown: bool = False,
    text_fields: Sequence[str] | None = None,
    vectors: str | Path | None = None,
    valid_share: float = 0.1,
    test_share: float = 0.1,
) -> Dataset:
    """Read a data folder.

    The folder has ``items`` (item_id and any text columns) and either ``train`` (and ``valid``,
    ``test``) or one file ``interactions``, each as ``.csv`` (UTF-8, comma, header line) or
    ``.parquet``. Session files have session_id, item_id and optionally timestamp (integers, decimal
    numbers or ISO dates) and user_id; rows of a session need not be neighbours. A session is
    ordered by timestamp, equal ones and files without timestamps by row. ``interactions``, and
    ``train`` where ``valid`` or ``test`` are missing, are cut by the time of each session's last
    interaction.

    Args:
        path: the folder.
        columns: our column name -> the file's, for any of session_id, item_id, timestamp, user_id.
        drop_unknown: drop rows whose item is not in ``items`` (counted in the notes) instead of
            raising.
        text_fields: text columns to keep, in this order; None keeps all columns beside item_id.
        vectors: a file of vectors to use in place of text (:func:`~alterrec.data.vectors.load_vectors`).
        valid_share, test_share: shares of the sessions that are cut where a file is missing.

    Raises:
        InputError: anything wrong with the files; the message names file, line or column, the
            value found and what is allowed.

    Example:
        >>> import tempfile
        >>> folder = Path(tempfile.mkdtemp())
        >>> _ = (folder / "items.csv").write_text("item_id,title\\na,Tent\\nb,Lamp\\n")
        >>> rows = "".join(f"{s},{i},{s}\\n" for s in range(10) for i in "ab")
        >>> _ = (folder / "interactions.csv").write_text("session_id,item_id,timestamp\\n" + rows)
        >>> data = load_dataset(folder)
        >>> data.num_items, len(data.train), data.session_names["test"]
        (2, 8, ['9'])
    """
    folder, columns = Path(path), dict(columns or {})
    _check_options(columns, valid_share, test_share)
    files = _find_files(folder)
    tables = {name: read_data_file(file) for name, file in files.items()}
    _check_mapped(tables.values(), columns)
    items = tables.pop("items")
    vocabulary = _vocabulary(items, columns)
    text = _text(items, columns, text_fields)
    given = None if vectors is None else load_vectors(vectors, vocabulary)

    notes: list[str] = []
    events: dict[str, _Events] = {}
    for name, table in tables.items():
        events[name], dropped = _read_events(table, COLUMNS, vocabulary, columns, items.path, drop_unknown)
        notes += dropped
    events = _with_integer_times(events)
    events, cuts = _split(events, {"valid": valid_share, "test": test_share})
    users = _users(events.values())
    sessions = {split: _store(events[split], len(vocabulary), users) for split in SPLITS}
    for split, (store, _) in sessions.items():
        if not (store.lengths >= 2).any():
            raise InputError(
                f"{events[split].table.path}: no session of {split} has 2 or more items, so there is nothing "
                f"to predict; allowed: at least one such session"
            )
    names = {split: names for split, (_, names) in sessions.items()}
    stores = {split: store for split, (store, _) in sessions.items()}
    return Dataset(
        name=folder.resolve().name,
        **stores,
        vocabulary=vocabulary,
        text=text,
        vectors=given,
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
    """Read one session file against a known catalogue, for instance to recommend for.

    Args:
        path: ``.csv`` or ``.parquet`` with session_id, item_id and optionally timestamp, user_id.
        vocabulary: the catalogue.
        users: external user ids by number; a user who is not among them is -1 in the store. None: nobody
            asks for users, and the column is not read.
        columns: our column name -> the file's.
        drop_unknown: drop rows whose item is not in the catalogue (counted in the notes) instead of
            raising.

    Raises:
        InputError: as :func:`load_dataset`.

    Example:
        >>> import tempfile
        >>> file = Path(tempfile.mkdtemp()) / "s.csv"
        >>> _ = file.write_text("session_id,item_id\\nnow,lamp\\nnow,boat\\n")
        >>> store, names, notes = load_sessions(file, Vocabulary(("tent", "lamp")), drop_unknown=True)
        >>> names, store.items, notes[0].split(": ")[1]
        (['now'], array([1], dtype=uint32), 'dropped 1 of 2 rows with unknown items')
    """
    columns = dict(columns or {})
    _check_columns(columns)
    table = read_data_file(Path(path))
    _check_mapped([table], columns)
    read = COLUMNS if users else COLUMNS[:-1]
    events, notes = _read_events(table, read, vocabulary, columns, Path("the catalogue"), drop_unknown)
    events = _with_integer_times({"sessions": events})["sessions"]
    store, names = _store(events, len(vocabulary), users)
    if users:
        strangers = len(store) if store.users is None else int((store.users < 0).sum())
        if strangers:
            why = " (no column user_id)" if store.users is None else ""
            notes += (f"{table.path.name}: sessions of unknown users: {strangers} of {len(store)}{why}",)
    return Sessions(store, names, notes)


def _check_options(columns: Mapping[str, str], valid_share: float, test_share: float) -> None:
    _check_columns(columns)
    for name, share in (("valid_share", valid_share), ("test_share", test_share)):
        if not 0 < share < 1:
            raise InputError(f"{name} is {share}; allowed: a share above 0 and below 1")
    if valid_share + test_share >= 1:
        raise InputError(
            f"valid_share {valid_share} and test_share {test_share} leave nothing to train on; "
            "allowed: a sum below 1"
        )


def _check_columns(columns: Mapping[str, str]) -> None:
    for name in columns:
        if name not in COLUMNS:
            raise InputError(
                f"columns: {name!r} is not a column of ours; allowed: {', '.join(COLUMNS)}"
                f"{nearest(name, COLUMNS)}"
            )


def _check_mapped(tables: Collection[DataFile], columns: Mapping[str, str]) -> None:
    """A mapping may fit some files only (items may say ``sku`` where sessions say ``item_id``), not none."""
    known = sorted({column for table in tables for column in table.columns})
    for name, theirs in columns.items():
        if theirs not in known:
            where = ", ".join(str(table.path) for table in tables)
            raise InputError(
                f"columns {name}={theirs}: no column {theirs!r} in {where}; their columns are "
                f"{', '.join(map(repr, known))}{nearest(theirs, known)}"
            )


def _find_files(folder: Path) -> dict[str, Path]:
    """The folder's files: items, and either interactions or train with what there is of valid and test."""
    if not folder.is_dir():
        siblings = [other.name for other in folder.parent.iterdir()] if folder.parent.is_dir() else []
        found = "is a file" if folder.exists() else "no such folder"
        hint = "" if folder.exists() else nearest(folder.name, siblings)
        raise InputError(f"{folder}: {found}; allowed: a folder with items and train or interactions{hint}")
    files = {stem: find_file(folder, stem) for stem in ("items", *SPLITS, "interactions")}
    present = [other.name for other in sorted(folder.iterdir())]
    if files["interactions"] and files["train"]:
        raise InputError(
            f"{folder}: has both {files['train'].name} and {files['interactions'].name}; keep one of them"
        )
    needed = ("items",) if files["interactions"] else ("items", "train")
    for stem in needed:
        if files[stem] is None:
            also = ", or interactions.csv" if stem == "train" else ""
            raise InputError(
                f"{folder}: {stem}.csv or {stem}.parquet{also} is missing; the folder has "
                f"{', '.join(present) or 'nothing'}{nearest(f'{stem}.csv', present)}"
            )
    if files["interactions"]:
        return {stem: file for stem in ("items", "interactions") if (file := files[stem])}
    return {stem: file for stem, file in files.items() if file}


def _vocabulary(items: DataFile, columns: Mapping[str, str]) -> Vocabulary:
    column = find_column(items, "item_id", columns, required=True) or "item_id"
    ids = id_column(items, column)
    twice = ~ids.is_first_distinct()
    if twice.any():
        index = twice.arg_max() or 0
        first = items.frame[ROW][(ids == ids[index]).arg_max() or 0]
        count = f" ({twice.sum()} such rows)" if twice.sum() > 1 else ""
        raise InputError(
            f"{items.place(items.frame[ROW][index])}: {column} {ids[index]!r} is there already, first in "
            f"{items.place(first).split(', ')[-1]}{count}; allowed: each item once"
        )
    if len(ids) < 2:
        raise InputError(f"{items.path}: has 1 item; allowed: 2 or more, or there is nothing to choose from")
    return Vocabulary(tuple(ids))


def _text(items: DataFile, columns: Mapping[str, str], wanted: Sequence[str] | None) -> ItemText | None:
    item_column = find_column(items, "item_id", columns, required=True)
    known = [column for column in items.columns if column not in (item_column, "item_id")]
    for name in wanted or ():
        if name not in known:
            raise InputError(
                f"{items.path}: text field {name!r} is missing; its text columns are "
                f"{', '.join(map(repr, known)) or 'none'}{nearest(name, known)}"
            )
    chosen = known if wanted is None else list(wanted)
    if not chosen:
        return None
    return ItemText({name: text_column(items, name).str.strip_chars().to_list() for name in chosen})


def _read_events(
    table: DataFile,
    read: Sequence[str],
    vocabulary: Vocabulary,
    columns: Mapping[str, str],
    catalogue: Path,
    drop_unknown: bool,
) -> tuple[_Events, tuple[str, ...]]:
    found = {name: find_column(table, name, columns, required=name in COLUMNS[:2]) for name in read}
    data = {
        ROW: table.frame[ROW],
        **{
            name: id_column(table, theirs) for name, theirs in found.items() if theirs and name != "timestamp"
        },
    }
    kind: TimeKind | None = None
    if found["timestamp"]:
        data["timestamp"], kind = time_column(table, found["timestamp"])
    catalogue_items = pl.DataFrame({"item_id": list(vocabulary.item_ids)}).with_row_index("item")
    frame = pl.DataFrame(data).join(catalogue_items, on="item_id", how="left", maintain_order="left")
    _check_users(table, frame)
    unknown = frame["item"].null_count()
    if not unknown:
        return _Events(table, frame.drop("item_id"), kind), ()
    first = frame.row(frame["item"].is_null().arg_max() or 0, named=True)
    if not drop_unknown:
        raise InputError(
            f"{table.place(first[ROW])}: item_id is {first['item_id']!r}, which is not in {catalogue.name} "
            f"({unknown} of {len(frame)} rows have such items){vocabulary.nearest(first['item_id']) or '.'} "
            "Add the items, or drop such rows with --drop-unknown (in Python, drop_unknown=True)"
        )
    kept = frame.drop_nulls("item")
    if kept.is_empty():
        raise InputError(
            f"{table.path}: none of its {len(frame)} rows has an item of {catalogue.name}; the first is "
            f"{first['item_id']!r}; allowed: ids of {catalogue.name}"
        )
    notes = [f"{table.path.name}: dropped {unknown} of {len(frame)} rows with unknown items"]
    lost = frame["session_id"].n_unique() - kept["session_id"].n_unique()
    if lost:
        notes.append(f"{table.path.name}: sessions gone because they had unknown items only: {lost}")
    return _Events(table, kept.drop("item_id"), kind), tuple(notes)


def _check_users(table: DataFile, frame: pl.DataFrame) -> None:
    if "user_id" not in frame.columns:
        return
    first = pl.col("user_id").first().over("session_id")
    wrong = frame.select(ROW, "session_id", "user_id", first=first).filter(
        pl.col("user_id") != pl.col("first")
    )
    if len(wrong):
        row = wrong.row(0, named=True)
        raise InputError(
            f"{table.place(row[ROW])}: user_id is {row['user_id']!r}, but session {row['session_id']!r} "
            f"began with {row['first']!r}; allowed: one user a session"
        )


def _with_integer_times(events: dict[str, _Events]) -> dict[str, _Events]:
    """Times as Int64 in one unit for all files: whole numbers as they are, others in millionths."""
    timed = [part for part in events.values() if part.time_kind]
    kinds = {part.time_kind: part for part in timed}
    if len(kinds) > 1:
        raise InputError(
            f"{kinds['number'].table.path}: timestamps are numbers, but {kinds['date'].table.path} has "
            "dates; allowed: one kind in all files"
        )
    whole = all((part.frame["timestamp"] % 1 == 0).all() for part in timed)
    scale = 1 if whole else 1_000_000
    for part in timed:
        most = float(np.abs(part.frame["timestamp"].to_numpy().astype(np.float64)).max()) * scale
        if most >= 2.0**63:
            raise InputError(
                f"{part.table.path}: timestamps reach {most / scale:g}; allowed: below {2.0**63 / scale:g}"
            )
    time = (pl.col("timestamp") * scale).round().cast(pl.Int64)
    return {
        name: replace(part, frame=part.frame.with_columns(time)) if part.time_kind else part
        for name, part in events.items()
    }


def _split(
    events: dict[str, _Events], shares: Mapping[str, float]
) -> tuple[dict[str, _Events], tuple[str, ...]]:
    """Cut what is missing of valid and test from the end of train (or of interactions)."""
    source = "interactions" if "interactions" in events else "train"
    missing = [split for split in SPLITS[1:] if split not in events]
    whole = events[source]
    if not missing:
        return events, ()
    if source == "interactions" and whole.time_kind is None:
        raise InputError(
            f"{whole.table.path}: column 'timestamp' is missing; a single interactions file is split by "
            "time. Add it, map it with --column timestamp=NAME, or give train, valid and test"
        )
    total = whole.num_sessions
    counts = {split: max(1, round(shares[split] * total)) for split in missing}
    kept = total - sum(counts.values())
    if kept < 1:
        raise InputError(
            f"{whole.table.path}: has {total} sessions; allowed: at least {len(missing) + 1}, to cut "
            f"{' and '.join(missing)} from them"
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
    order = "by time of last interaction" if whole.time_kind else "by order of appearance (no timestamps)"
    cut = ", ".join(f"{split} {count}" for split, count in counts.items())
    note = f"{whole.table.path.name}: sessions cut from its end {order}: {cut}; left for train: {kept}"
    return {split: parts.get(split) or events[split] for split in SPLITS}, (note,)


def _session_order(frame: pl.DataFrame) -> pl.DataFrame:
    """Columns session_id and session: its place by time of last interaction, else by first appearance."""
    if "timestamp" not in frame.columns:
        return frame.select(pl.col("session_id").unique(maintain_order=True)).with_row_index("session")
    last = frame.group_by("session_id", maintain_order=True).agg(pl.col("timestamp").max())
    return last.sort("timestamp", maintain_order=True).select("session_id").with_row_index("session")


def _users(events: Iterable[_Events]) -> Vocabulary | None:
    """The users of all files by first appearance."""
    ids = [part.frame["user_id"] for part in events if "user_id" in part.frame.columns]
    return Vocabulary(tuple(pl.concat(ids).unique(maintain_order=True))) if ids else None


def _store(events: _Events, num_items: int, users: Vocabulary | None) -> tuple[SessionStore, list[str]]:
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
    """What is worth knowing of a well-formed data set."""
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
            remarks.append(f"{split}: sessions with one item, so without a target: {short}")
    for earlier, later in (("train", "valid"), ("train", "test"), ("valid", "test")):
        shared = len(set(names[earlier]) & set(names[later]))
        if shared:
            remarks.append(f"session ids in both {earlier} and {later}: {shared}")
    return remarks

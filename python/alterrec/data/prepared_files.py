"""Write prepared sessions: for each split a Parquet file for everybody and a store that is memory-mapped."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from alterrec.data.catalogue import Catalogue
from alterrec.data.dataset import SPLITS
from alterrec.data.event_table import EventIds
from alterrec.data.formats.source import Choices
from alterrec.data.sessionize import SessionTable
from alterrec.sessions import SessionStore

# Sessions that were made have numbers as ids.
NUMBERED = ("gap", "day")


def write_sessions(
    folder: Path,
    table: EventIds,
    split: Mapping[str, SessionTable],
    catalogue: Catalogue,
    choices: Choices,
) -> dict[str, int]:
    """Write items, users, and for each split its table and its store; return their sizes.

    Sessions are in the order of their last events. Users are numbered in the order in which they first appear
    in the files.
    """
    ordered = {name: split[name].take(split[name].order()) for name in SPLITS}
    catalogue.items.write_parquet(folder / "items.parquet")
    counts = {"items": len(catalogue.items)}
    users, number_of_user = _users(table, ordered)
    if users is not None:
        users.to_frame().write_parquet(folder / "users.parquet")
        counts["users"] = len(users)
    names = None if choices.sessions in NUMBERED else _session_names(table, ordered, choices)
    first = 0
    for name, sessions in ordered.items():
        user = None if users is None or sessions.user is None else number_of_user[sessions.user]
        item = catalogue.number[sessions.item].astype(np.uint32)
        numbers = np.arange(first, first + len(sessions))
        store = SessionStore._from_columns(
            len(catalogue.items), sessions.offsets, item, numbers, sessions.time, user
        )
        store.save(folder / f"{name}.store")
        texts = {
            "session_id": pl.Series(numbers) if names is None else names[name],
            "item_id": catalogue.items["item_id"],
        }
        if users is not None and user is not None:
            guest = pl.Series("user_id", [None], dtype=pl.String)
            texts["user_id"] = pl.concat([users, guest]).gather(np.where(user < 0, len(users), user))
        _write_table(folder / f"{name}.parquet", sessions, item, texts)
        counts |= {name: len(sessions), f"{name}_events": sessions.num_events}
        first += len(sessions)
    counts["sessions"] = sum(counts[name] for name in SPLITS)
    counts["events"] = sum(counts[f"{name}_events"] for name in SPLITS)
    return counts


def _write_table(
    path: Path, sessions: SessionTable, item: NDArray[np.uint32], texts: Mapping[str, pl.Series]
) -> None:
    """Write a row for each event, with the texts of its numbers, a part of the rows at a time.

    Args:
        path: the Parquet file.
        sessions: the sessions.
        item: (N,) number of the item of each event.
        texts: ``item_id`` has the text of each item, other columns have that of each session.
    """
    of_event = np.repeat(np.arange(len(sessions), dtype=np.uint32), sessions.lengths)
    columns: dict[str, NDArray[Any]] = {name: item if name == "item_id" else of_event for name in texts}
    if sessions.time is not None:
        columns["timestamp"] = sessions.time
    order = [name for name in ("session_id", "item_id", "timestamp", "user_id") if name in columns]
    frame = pl.DataFrame({name: columns[name] for name in order}).lazy()
    given = [
        pl.col(name).map_batches(values.gather, values.dtype, is_elementwise=True)
        for name, values in texts.items()
    ]
    frame.with_columns(given).sink_parquet(path, compression="zstd", compression_level=1)


def _users(
    table: EventIds, ordered: Mapping[str, SessionTable]
) -> tuple[pl.Series | None, NDArray[np.int64]]:
    """The ids of the users of the sessions, and the number of each user of the table, at the end of -1."""
    if table.user_ids is None:
        return None, np.empty(0, np.int64)
    appeared = [part.user for part in ordered.values() if part.user is not None]
    users, first = np.unique(np.concatenate(appeared), return_index=True)
    users = users[np.argsort(first)]
    users = users[users >= 0]
    number = np.full(len(table.user_ids) + 1, -1, np.int64)
    number[users] = np.arange(len(users))
    ids = table.user_ids.gather(users).alias("user_id")
    return (ids, number) if len(users) else (None, number)


def _session_names(
    table: EventIds, ordered: Mapping[str, SessionTable], choices: Choices
) -> dict[str, pl.Series]:
    """The ids of given sessions or of users for each split, with the part before it where parts share ids."""
    given = choices.sessions == "given"
    ids = table.session_ids if given else table.user_ids
    assert ids is not None
    seen = np.zeros((len(table.parts), len(ids)), np.bool_)
    numbers: dict[str, NDArray[Any]] = {}
    for name, sessions in ordered.items():
        chosen = sessions.name if given else sessions.user
        assert chosen is not None
        numbers[name] = chosen
        seen[sessions.part, chosen] = True
    if not (seen.sum(axis=0) > 1).any():
        return {name: ids.gather(chosen) for name, chosen in numbers.items()}
    before = pl.Series([f"{part}/" for part in table.parts])
    return {name: before.gather(ordered[name].part) + ids.gather(chosen) for name, chosen in numbers.items()}

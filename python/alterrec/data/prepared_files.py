"""Write prepared sessions: for each split a Parquet file for everybody and a store that is memory-mapped."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import polars as pl
from numpy.typing import NDArray

from alterrec.data.catalogue import Catalogue
from alterrec.data.dataset import SPLITS
from alterrec.data.event_table import EventTable
from alterrec.data.formats.source import Choices
from alterrec.data.sessionize import SessionTable
from alterrec.sessions import SessionStore

# Sessions that were made have numbers as ids.
NUMBERED = ("gap", "day")


def write_sessions(
    folder: Path,
    table: EventTable,
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
    names = _given_names(table, ordered)
    first = 0
    for name, sessions in ordered.items():
        user = None if users is None or sessions.user is None else number_of_user[sessions.user]
        item = catalogue.number[sessions.item].astype(np.uint32)
        numbers = np.arange(first, first + len(sessions))
        store = SessionStore._from_columns(
            len(catalogue.items), sessions.offsets, item, numbers, sessions.time, user
        )
        store.save(folder / f"{name}.store")
        if choices.sessions == "user":
            assert table.user_ids is not None
            assert sessions.user is not None
            ids = table.user_ids.gather(sessions.user)
        else:
            ids = pl.Series(numbers) if names is None else names.gather(_places(table, sessions))
        # HOT SPOT: the texts of all ids at once.
        of_event = np.repeat(np.arange(len(sessions)), sessions.lengths)
        columns = {
            "session_id": ids.gather(of_event),
            "item_id": catalogue.items["item_id"].gather(item),
        }
        if sessions.time is not None:
            columns["timestamp"] = pl.Series(sessions.time)
        if users is not None and user is not None:
            guest = pl.Series("user_id", [None], dtype=pl.String)
            known = np.where(user < 0, len(users), user)
            columns["user_id"] = pl.concat([users, guest]).gather(known[of_event])
        pl.DataFrame(columns).write_parquet(folder / f"{name}.parquet")
        counts |= {name: len(sessions), f"{name}_events": sessions.num_events}
        first += len(sessions)
    counts["sessions"] = sum(counts[name] for name in SPLITS)
    counts["events"] = sum(counts[f"{name}_events"] for name in SPLITS)
    return counts


def _users(
    table: EventTable, ordered: Mapping[str, SessionTable]
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


def _given_names(table: EventTable, ordered: Mapping[str, SessionTable]) -> pl.Series | None:
    """The names of given sessions, with that of their part where parts share ids; see :func:`_places`."""
    if table.session_ids is None:
        return None
    seen = np.zeros((len(table.parts), len(table.session_ids)), np.bool_)
    for sessions in ordered.values():
        assert sessions.name is not None
        seen[sessions.part, sessions.name] = True
    shared = (seen.sum(axis=0) > 1).any()
    prefixes = [f"{part}/" if shared else "" for part in table.parts]
    return pl.concat([prefix + table.session_ids for prefix in prefixes])


def _places(table: EventTable, sessions: SessionTable) -> NDArray[np.int64]:
    """The places of the names of sessions in :func:`_given_names`."""
    assert sessions.name is not None
    assert table.session_ids is not None
    return sessions.part.astype(np.int64) * len(table.session_ids) + sessions.name

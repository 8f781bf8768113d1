"""The preparation against a slow, obvious version of it, on adversarial events."""

from __future__ import annotations

import shutil
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, NamedTuple

import numpy as np
import polars as pl
import pytest
from hypothesis import event, example, given, settings
from hypothesis import strategies as st
from plain_prepare import RefusedError, Row, prepare_plainly

from alterrec.data.formats import FORMATS
from alterrec.data.formats.source import Choices, Format, Source
from alterrec.data.prepare import prepare_folder
from alterrec.data.prepared import load_prepared
from alterrec.data.readers import load_dataset
from alterrec.errors import InputError

DAY = 86400
SCHEMA = {
    "session_id": pl.String,
    "user_id": pl.String,
    "item_id": pl.String,
    "timestamp": pl.Int64,
    "event": pl.String,
    "problem": pl.String,
}
ITEMS = [*["a", "b", "c", "a ", "0a", "é"] * 4, "", None]
USERS = [*["u", "v", "w", "0", "ü", " u", "y"] * 3, None, ""]
SESSIONS = [*"123456789abcdefg" * 2, "", None]
KINDS = ["view", "view", "view", "cart", None]
PROBLEMS = [*[None] * 30, "broken"]


def made_rows(rng: np.random.Generator, count: int, columns: list[str], per_second: int) -> list[Row]:
    """Rows with ties in time, guests, empty ids and unusable rows."""

    def time() -> int | None:
        kind = rng.integers(10)
        if kind == 0:
            return [None, 7, 8, 9][rng.integers(4)]
        if kind < 4:
            return int(rng.integers(-2, 5)) * DAY * per_second
        if kind < 7:
            return int(rng.integers(0, 4)) * 1800 * per_second + int(rng.integers(2))
        return int(rng.integers(-3 * DAY, 6 * DAY)) * per_second

    values: dict[str, Callable[[], Any]] = {
        "session_id": lambda: SESSIONS[rng.integers(len(SESSIONS))],
        "user_id": lambda: USERS[rng.integers(len(USERS))],
        "item_id": lambda: ITEMS[rng.integers(len(ITEMS))],
        "timestamp": time,
        "event": lambda: KINDS[rng.integers(len(KINDS))],
        "problem": lambda: PROBLEMS[rng.integers(len(PROBLEMS))],
    }
    return [{name: values[name]() for name in columns} for _ in range(count)]


class Case(NamedTuple):
    """Parts with rows of the same columns, ids of an items file or None, and how they are prepared."""

    parts: dict[str, list[Row]]
    items: list[str] | None
    per_second: int
    choices: Choices
    seed: int


def made_case(number: int) -> Case:
    """A case in which all choices are equally likely; few of them contradict each other."""
    rng = np.random.default_rng(number)

    def one_of(*values: Any) -> Any:
        return values[rng.integers(len(values))]

    per_second = one_of(1, 1000)
    columns = [name for name in SCHEMA if name != "timestamp" or rng.integers(8)]
    split = one_of("time", "days", "files", "seed", "last-item")
    given = [("train",), ("train", "test"), ("train", "valid", "test")]
    names = one_of(*given, *([] if split in ("files", "seed") else [("interactions",)] * 2))
    choices = Choices(
        sessions="user" if split == "last-item" else one_of("given", "gap", "day", "user"),
        gap=one_of(0.0, 1800.0, 90000.5),
        events=one_of(*[(), ("view",), ("cart", "view")] * 8, ("sold",)),
        collapse=one_of(True, False),
        min_item_count=one_of(0, 1, 2, 4, 9),
        min_session=one_of(1, 2, 2, 3),
        split=split,
        valid=one_of(1.0, 1.5) if split == "days" else one_of(0.2, 0.3),
        test=one_of(1.0, 1.5) if split == "days" else one_of(0.2, 0.25),
        fraction=one_of(1, 1, 1, 2, 64),
    )
    parts = {name: made_rows(rng, one_of(10, 60, 120, 250), columns, per_second) for name in names}
    items = one_of(*[None, ["b", "c", "z", "a", "b", ""]] * 8, ["z"], [])
    return Case(parts, items, per_second, choices, int(rng.integers(4)))


def source_of(path: Path, parts: dict[str, list[Row]], items: list[str] | None, **more: Any) -> Source:
    """A source in memory, which says that it was read from a file."""
    frames = {
        name: pl.LazyFrame(rows, {column: SCHEMA[column] for column in rows[0]})
        for name, rows in parts.items()
    }
    table = None if items is None else pl.LazyFrame({"item_id": items}, schema={"item_id": pl.String})
    return Source(frames, table, (path,), **more)


def check(case: Case) -> None:
    parts, items, per_second, wanted, number = case
    seed = number if wanted.split == "seed" else None
    timed = "timestamp" in next(iter(parts.values()))[0]
    with TemporaryDirectory() as name:
        folder = Path(name)
        path = folder / "events"
        path.write_text("")
        source = source_of(path, parts, items, choices=wanted, per_second=per_second)
        FORMATS["made"] = Format("", "", lambda path, options: source, lambda path: True)
        try:
            if not timed and (wanted.sessions in ("gap", "day") or wanted.split == "days"):
                raise RefusedError("no times")
            expected = prepare_plainly(parts, items, wanted, per_second, number)
            made = prepare_folder(path, folder / "out", format="made", seed=seed)
        except RefusedError as refused:
            event(f"refused: {refused}")
            with pytest.raises(InputError):
                prepare_folder(path, folder / "out", format="made", seed=seed)
            assert sorted(folder.iterdir()) == [path]
            return
        finally:
            del FORMATS["made"]
        event(f"{wanted.sessions}, {wanted.split}")
        assert Counter(made.record.dropped) == expected.dropped
        data = load_prepared(made.path)
        assert list(data.vocabulary.item_ids) == expected.catalogue
        assert data.users is not None or not any(s.user for part in expected.splits.values() for s in part)
        ids = {-1: None} | dict(enumerate(data.users.item_ids if data.users else ()))
        for split, sessions in expected.splits.items():
            store = data.splits[split]
            found = [[data.vocabulary.item_ids[i] for i in store.session(s)] for s in range(len(store))]
            assert found == [session.items for session in sessions]
            assert data.session_names[split] == [session.name for session in sessions]
            if timed:
                times = [each.time for session in sessions for each in session.events]
                assert np.asarray(store.timestamps).tolist() == times
            users = [-1] * len(store) if store.users is None else np.asarray(store.users).tolist()
            assert [ids[user] for user in users] == [session.user for session in sessions]
        # The Parquet files alone, read as a usual data folder, are the same data.
        plain = folder / "plain"
        plain.mkdir()
        for name in ("items", "train", "valid", "test"):
            shutil.copy(made.path / f"{name}.parquet", plain)
        assert load_dataset(plain).fingerprint == data.fingerprint


@settings(max_examples=25)
@given(st.integers(0, 2**40))
# A user with sessions in several parts, from which validation is drawn.
@example(243)
@example(131072)
def test_the_preparation_is_that_of_its_twin(number: int) -> None:
    check(made_case(number))


@pytest.mark.torture
@settings(max_examples=3000)
@given(st.integers(0, 2**40))
def test_the_preparation_is_that_of_its_twin_in_many_cases(number: int) -> None:
    check(made_case(number))

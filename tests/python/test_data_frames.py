"""Tables in memory: the same data as from files, and messages that name the argument and the row."""

from __future__ import annotations

import datetime
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest

import alterrec
from alterrec.data.frames import as_frame
from alterrec.data.readers import load_dataset
from alterrec.errors import InputError

pd = pytest.importorskip("pandas")

ITEMS = {"item_id": ["tent", "lamp", "mug"], "title": ["Red tent", "Oil lamp", None]}
EVENTS = {
    "session_id": [number for number in range(10) for _ in range(2)],
    "item_id": ["tent", "lamp"] * 10,
    "timestamp": [100 * (19 - number) for number in range(20)],
}


class Stream:
    """A table of a library that we do not know, such as pyarrow: it offers the Arrow PyCapsule interface."""

    def __init__(self, columns: dict[str, list[Any]]) -> None:
        self.frame = pl.DataFrame(columns)

    def __arrow_c_stream__(self, requested_schema: object = None) -> object:
        return self.frame.__arrow_c_stream__(requested_schema)


KINDS: dict[str, Callable[[dict[str, list[Any]]], Any]] = {
    "polars": pl.DataFrame,
    "lazy": pl.LazyFrame,
    "pandas": pd.DataFrame,
    "pandas of objects": lambda columns: pd.DataFrame(columns).astype(object),
    "pandas, filtered": lambda columns: pd.concat([pd.DataFrame(columns).iloc[:1], pd.DataFrame(columns)])[
        1:
    ],
    "Arrow": Stream,
}


@pytest.fixture(scope="module")
def from_files(tmp_path_factory: pytest.TempPathFactory) -> str:
    folder = tmp_path_factory.mktemp("files")
    pl.DataFrame(ITEMS).write_csv(folder / "items.csv")
    pl.DataFrame(EVENTS).write_csv(folder / "interactions.csv")
    return load_dataset(folder).fingerprint


@pytest.mark.parametrize("kind", KINDS)
def test_a_frame_is_the_same_data_as_a_file(kind: str, from_files: str) -> None:
    data = load_dataset(items=KINDS[kind](ITEMS), interactions=KINDS[kind](EVENTS))
    assert data.fingerprint == from_files
    assert data.text is not None
    assert data.text.fields == {"title": ["Red tent", "Oil lamp", ""]}
    assert data.notes[0].startswith("interactions: sessions split by time of last interaction: train 8")


def test_splits_users_and_mapped_columns() -> None:
    train = pl.DataFrame({"visit": [1, 1, 2, 2], "sku": [7, 8, 8, 7], "who": ["ann", "ann", None, None]})
    columns = {"session_id": "visit", "item_id": "sku", "user_id": "who"}
    data = load_dataset(
        items=pd.DataFrame({"sku": [8, 7]}), train=train, valid=train, test=train.lazy(), columns=columns
    )
    assert data.vocabulary.item_ids == ("8", "7")
    np.testing.assert_array_equal(data.test.items, [1, 0, 0, 1])
    np.testing.assert_array_equal(data.test.users, [0, -1])


def test_lists_of_sessions() -> None:
    train = [[355900, 17, "tent"], [], np.array([17, 355900]), ("tent", np.int32(17))]
    data = load_dataset(train=train, valid=[[17, "tent"]], test=[["tent", 355900]])
    assert data.vocabulary.item_ids == ("355900", "17", "tent")
    assert data.session_names["train"] == ["train-1", "train-3", "train-4"]
    np.testing.assert_array_equal(data.train.session(1), [1, 0])
    assert data.notes == (
        "train: sessions without items, which are left out: 1",
        "items are those of train, without texts",
    )
    cut = load_dataset(train=[[1, 2]] * 10)
    assert [len(store) for store in cut.splits.values()] == [8, 1, 1]


def test_types_of_pandas() -> None:
    frame = pd.DataFrame(
        {
            "id": pd.array([1, None, 2**60 + 1], dtype="Int64"),
            "kind": pd.Categorical(["a", "b", None]),
            "when": pd.to_datetime(["2024-05-01T12:00", None, "2024-05-02T12:00"]).astype("datetime64[s]"),
            "zoned": pd.to_datetime(["2024-05-01T12:00+02:00"] * 3),
            "price": [1.5, None, 2.0],
            "words": [["a", "b"], None, []],
            "day": [datetime.date(2024, 5, 1), None, None],
            "numbers": np.array([1, 2.5, None], dtype=object),
        },
        index=pd.Index(["x", "y", "z"], name="sku"),
    )
    notes: list[str] = []
    found = as_frame("items", frame, notes)
    assert notes == ["items: the index 'sku' is not read; reset_index() makes it a column"]
    assert found["id"].to_list() == [1, None, 2**60 + 1]
    assert found["kind"].to_list() == ["a", "b", None]
    assert found["when"].to_list()[:2] == [datetime.datetime(2024, 5, 1, 12), None]
    assert found["zoned"].dt.hour().to_list() == [10, 10, 10]
    assert found["words"].to_list() == [["a", "b"], None, []]
    assert found["day"].to_list() == [datetime.date(2024, 5, 1), None, None]
    assert found["numbers"].to_list() == [1.0, 2.5, None]


def test_an_index_of_pandas_is_no_text() -> None:
    items = pd.DataFrame({"item_id": ["a", "b", "c"], "title": ["x", "y", "z"]})
    data = load_dataset(items=items[items.item_id != "b"], train=[["a", "c"]] * 3)
    assert data.text is not None
    assert list(data.text.fields) == ["title"]


@pytest.mark.parametrize(
    ("tables", "parts"),
    [
        ({}, ["no sessions to train on", "a path, or train or interactions"]),
        ({"items": pl.DataFrame(ITEMS)}, ["no sessions to train on"]),
        ({"train": [["a", "b"]], "interactions": [["a"]]}, ["interactions and train are given"]),
        ({"train": {"item_id": [1]}}, ["train is dict; expected a DataFrame"]),
        ({"train": "sessions.csv"}, ["train is str; expected a DataFrame"]),
        ({"train": pl.Series([1])}, ["train is Series; expected a DataFrame"]),
        ({"train": ["ab", "c"]}, ["train, session 1 is 'ab'", "a list of item ids"]),
        ({"train": [["a"], ["b", None]]}, ["train, session 2: an item is None", "text or an integer"]),
        ({"train": [["a", 1.5]]}, ["train, session 1: an item is 1.5"]),
        ({"train": [["a", ""]]}, ["an item is ''"]),
        ({"train": [[], []]}, ["train has no sessions with items"]),
        ({"train": [["a", "b"]] * 3, "test": [["a", "c"]]}, ["test, row 2: item_id is 'c'", "not in train"]),
        ({"interactions": [["a", "b"]]}, ["interactions: column 'timestamp' is missing"]),
        ({"train": pl.DataFrame({"session_id": [], "item_id": []})}, ["train has no rows"]),
        ({"train": pl.DataFrame({"item_id": [1, 2]})}, ["train: column 'session_id' is missing"]),
        (
            {"train": pd.DataFrame({"session_id": [1, 1, 1], "item_id": [1, None, "b"]})},
            ["train, row 3: item_id is 'b' (text), but row 1 has 1 (number)", "one type"],
        ),
        (
            {"train": pd.DataFrame([[1, 2]], columns=["item_id", "item_id"])},
            ["train: column 'item_id' appears twice"],
        ),
        (
            {"train": pl.DataFrame({"session_id": ["s", "s"], "item_id": ["a", None]})},
            ["train, row 2: item_id is ''", "an id in every row"],
        ),
        ({"train": pl.scan_csv("/nowhere/train.csv")}, ["train cannot be read", "train.csv"]),
        ({"train": pl.LazyFrame({"a": [1]}).select("b")}, ["train cannot be read", "b"]),
    ],
)
def test_what_is_wrong_is_named(tables: dict[str, Any], parts: list[str]) -> None:
    with pytest.raises(InputError) as caught:
        load_dataset(**tables)
    assert all(part in str(caught.value) for part in parts), caught.value
    assert "\n" not in str(caught.value)


def test_fit_takes_frames_and_numbers_of_numpy(tmp_path: Path) -> None:
    run = alterrec.fit(
        model="popularity",
        items=pd.DataFrame(ITEMS),
        interactions=pl.LazyFrame(EVENTS),
        seed=np.int64(1),
        overrides={"run.report": False},
        out=tmp_path / "run",
    )
    assert run.result["data"]["name"] == "frames"
    assert run.result["seed"] == 1
    with pytest.raises(InputError, match="data and tables are given"):
        alterrec.fit(tmp_path, train=[["a", "b"]])
    with pytest.raises(InputError, match="a path and tables are given"):
        load_dataset(tmp_path, train=[["a", "b"]])


EVENTS_OF_USERS = {
    "user_id": [user for user in range(12) for _ in range(3)],
    "item_id": [101, 102, 103] * 12,
    "timestamp": [1_700_000_000 + 86_400 * user + place for user in range(12) for place in range(3)],
}
PRODUCTS = {"item_id": [101, 102, 103], "title": ["Red tent", "Oil lamp", "Wool rug"]}


def test_prepare_takes_frames(tmp_path: Path) -> None:
    pl.DataFrame(EVENTS_OF_USERS).write_csv(tmp_path / "events.csv")
    pl.DataFrame(PRODUCTS).write_csv(tmp_path / "items.csv")
    choices = {"min_item_count": 1, "times": "s"}
    whole = alterrec.prepare(tmp_path / "events.csv", tmp_path / "whole", **choices)
    for place, (events, items) in enumerate(
        [
            (pl.LazyFrame(EVENTS_OF_USERS), pl.DataFrame(PRODUCTS)),
            (pd.DataFrame(EVENTS_OF_USERS), Stream(PRODUCTS)),
        ]
    ):
        made = alterrec.prepare(events, tmp_path / f"frames{place}", items=items, **choices)
        assert made.record.name == "frames"
        assert [source.name for source in made.record.sources] == ["events.parquet", "items.parquet"]
        one, other = load_dataset(whole.path), load_dataset(made.path)
        assert other.vocabulary == one.vocabulary
        assert other.text is not None
        assert other.text == one.text
        np.testing.assert_array_equal(other.train.items, one.train.items)
        assert [len(store) for store in other.splits.values()] == [10, 1, 1]


@pytest.mark.parametrize(
    ("source", "options", "parts"),
    [
        ({"item_id": [1]}, {}, ["events is dict; expected a DataFrame"]),
        (pl.LazyFrame({"a": [1]}).select("b"), {}, ["events cannot be read", "b"]),
        (pl.DataFrame({"user_id": [1], "colour": [2]}), {}, ["events: ", "item_id"]),
        (pl.DataFrame(EVENTS_OF_USERS), {"items": [1]}, ["items is list; expected a DataFrame"]),
        (pl.DataFrame(EVENTS_OF_USERS), {"format": "otto"}, ["format is 'otto'", "frames are read as"]),
        ("nowhere", {"items": pl.DataFrame(PRODUCTS)}, ["a path and items are given"]),
    ],
)
def test_what_prepare_refuses(source: Any, options: dict[str, Any], parts: list[str]) -> None:
    with pytest.raises(InputError) as caught:
        alterrec.prepare(source, **options)
    assert all(part in str(caught.value) for part in parts), caught.value
    assert "/tmp" not in str(caught.value)

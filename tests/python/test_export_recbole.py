"""The export to RecBole, and that our reader gets back what was written."""

from __future__ import annotations

import csv
import dataclasses
from collections.abc import Callable
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from conftest import Outcome
from worlds import NUM_ITEMS, small_dataset, with_sessions

from alterrec.data import recbole_files
from alterrec.data.dataset import Dataset, ItemText
from alterrec.data.formats.recbole import read_recbole
from alterrec.data.formats.source import PrepareOptions, Source
from alterrec.data.recbole_files import write_recbole
from alterrec.errors import InputError
from alterrec.sessions import SessionStore
from alterrec.vocabulary import Vocabulary


def read(path: Path) -> Source:
    return read_recbole(path, PrepareOptions())


def sessions_of(source: Source, split: str) -> dict[str, list[str]]:
    rows = source.events[split].collect()
    assert rows["problem"].null_count() == len(rows)
    return dict(rows.group_by("session_id", maintain_order=True).agg("item_id").iter_rows())


def expected_sessions(data: Dataset, split: str) -> dict[str, list[str]]:
    store, ids = data.splits[split], np.array(data.vocabulary.item_ids)
    rows = np.split(ids[store.items], np.cumsum(store.lengths)[:-1])
    return {name: list(items) for name, items in zip(data.session_names[split], rows, strict=True)}


def test_our_reader_gets_back_sessions_times_users_and_texts(tmp_path: Path) -> None:
    titles = ['"Quoted" tent', "plain", 'say "hi"', "two\nlines\tand a tab", "", 'only "', '"', "a  b "]
    titles += [f"title {number}" for number in range(NUM_ITEMS - len(titles))]
    base = small_dataset(users=7)
    times = [np.arange(store.num_interactions) * 60 + 1_700_000_000 for store in base.splits.values()]
    stores = {
        split: SessionStore.from_arrays(
            np.repeat(store.session_ids, store.lengths),
            store.items,
            timestamps=time,
            # The first session is a guest's.
            user_ids=np.repeat(np.where(store.session_ids == 0, -1, store.users), store.lengths),
            num_items=NUM_ITEMS,
        )
        for time, (split, store) in zip(times, base.splits.items(), strict=True)
    }
    text = ItemText({"title": titles, "full name": [str(number) for number in range(NUM_ITEMS)]})
    data = dataclasses.replace(base, **stores, text=text)
    notes = write_recbole(data, tmp_path / "ring")
    assert notes == (
        "title: tabs and line breaks in 1 texts became spaces",
        "the field 'full name' is called 'full_name'",
    )
    source = read(tmp_path / "ring")
    assert source.notes == ()
    assert source.items is not None
    items = source.items.collect()
    assert items["item_id"].to_list() == list(data.vocabulary.item_ids)
    assert items["title"].fill_null("").to_list() == [
        title.replace("\n", " ").replace("\t", " ") for title in titles
    ]
    assert data.users is not None
    for split, store in data.splits.items():
        assert sessions_of(source, split) == expected_sessions(data, split)
        rows = source.events[split].collect()
        assert rows["timestamp"].to_list() == store.timestamps.tolist()
        first = rows.group_by("session_id", maintain_order=True).agg(pl.col("user_id").first())["user_id"]
        assert first.to_list() == [None if user < 0 else data.users.item_ids[user] for user in store.users]


@pytest.mark.parametrize("at_once", [1, 7, 2**17])
def test_lists_are_every_prefix_of_training_and_the_last_of_the_others(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, at_once: int
) -> None:
    monkeypatch.setattr(recbole_files, "TARGETS_AT_ONCE", at_once)
    data = with_sessions(train=[[1, 2, 3, 2], [5], [4, 4]], valid=[[1, 2, 3]], test=[[7], [8, 9]])
    write_recbole(data, tmp_path / "ring")

    def rows(split: str) -> list[list[str]]:
        text = (tmp_path / "ring" / f"ring.{split}.inter").read_text("utf-8")
        return list(csv.reader(text.splitlines()[1:], delimiter="\t"))

    assert rows("train") == [
        ["train0", "item01", "item02"],
        ["train0", "item01 item02", "item03"],
        ["train0", "item01 item02 item03", "item02"],
        ["train2", "item04", "item04"],
    ]
    assert rows("valid") == [["valid0", "item01 item02", "item03"]]
    assert rows("test") == [["test1", "item08", "item09"]]


def test_the_lists_alone_are_read_as_the_sessions(tmp_path: Path) -> None:
    """Sessions longer than the lists of RecBole too."""
    rng = np.random.default_rng(0)
    train = [rng.integers(0, NUM_ITEMS, size).tolist() for size in (3, 120, 2, 51, 52, 9)]
    data = with_sessions(train=train, valid=[[1, 2]], test=[[3, 4]])
    (note,) = write_recbole(data, tmp_path / "ring")
    assert note.startswith("lists of items are cut to the last 50; the longest session has 120 items")
    for file in (tmp_path / "ring").glob("*_events.inter"):
        file.unlink()
    source = read(tmp_path / "ring")
    assert sessions_of(source, "train") == expected_sessions(data, "train")
    assert source.notes[0].startswith(
        f"ring.train.inter: {sum(map(len, train)) - 6} rows are the prefixes of 6 "
    )


@pytest.mark.parametrize(
    ("ids", "message"),
    [
        (["a b", "c"], r"the item id 'a b' has white space or begins .* \(1 such ids\)"),
        (['"a', "c"], "begins with a quotation mark"),
        (["NA", "c"], r"the item id 'NA' is read as missing by RecBole"),
    ],
)
def test_ids_that_recbole_cannot_hold_are_refused(tmp_path: Path, ids: list[str], message: str) -> None:
    names = (*ids, *(f"item{number}" for number in range(NUM_ITEMS - 2)))
    data = dataclasses.replace(small_dataset(), vocabulary=Vocabulary(names))
    with pytest.raises(InputError, match=message):
        write_recbole(data, tmp_path / "ring")
    assert not list(tmp_path.iterdir())


def test_the_command(alterrec: Callable[..., Outcome], shop: Path) -> None:
    code, out, err = alterrec("export", shop, "--to", "recbole")
    assert code == 0, err
    files = [Path(line.split()[0]) for line in out.splitlines()]
    assert [file.name for file in files] == [
        "recbole.yaml",
        "shop.item",
        "shop.test.inter",
        "shop.test_events.inter",
        "shop.train.inter",
        "shop.train_events.inter",
        "shop.valid.inter",
        "shop.valid_events.inter",
    ]
    assert files[0].parent == Path("recbole/shop")
    assert "item: [item_id, title]" in files[0].read_text("utf-8")
    assert "items without training sessions (cold): 1" in err
    assert len(sessions_of(read(files[0].parent), "train")) == 110


def test_a_run_is_refused(alterrec: Callable[..., Outcome], tmp_path: Path) -> None:
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "recipe.toml").write_text("", "utf-8")
    code, _, err = alterrec("export", "run", "--to", "recbole")
    assert code == 2
    assert "run is a run, which has no sessions; give the data that it was trained on" in err

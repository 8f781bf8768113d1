"""Statistics of a data set worked by hand, and repeats compared with a plain loop."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from alterrec.data.dataset import Dataset, ItemText
from alterrec.data.readers import load_dataset
from alterrec.data.repeats import bin_names, repeat_distances
from alterrec.data.statistics import (
    PopularityStatistics,
    TargetStatistics,
    Texts,
    as_date,
    popularity_curve,
    statistics,
    top_share,
)
from alterrec.sessions import SessionStore
from alterrec.vocabulary import Vocabulary


def store(*sessions: list[int], users: list[int] | None = None, time: int | None = None) -> SessionStore:
    """Sessions of four items; with ``time`` interaction i is at time + i."""
    numbers = np.repeat(np.arange(len(sessions)), [len(session) for session in sessions])
    return SessionStore.from_arrays(
        numbers,
        np.concatenate(sessions),
        timestamps=None if time is None else time + np.arange(len(numbers)),
        user_ids=None if users is None else np.asarray(users)[numbers],
        num_items=4,
    )


def dataset(text: ItemText | None = None, users: list[int] | None = None) -> Dataset:
    """Item 3 is cold; train has 0 four times, 1 twice, 2 once."""
    stores = {
        "train": store([0, 1], [0, 1, 0], [2, 0], users=users, time=100),
        "valid": store([0, 3], users=users, time=200),
        "test": store([0, 1, 0], [3, 1, 3, 3, 2], users=users, time=300),
    }
    return Dataset(
        "four", **stores, vocabulary=Vocabulary(tuple("abcd")), text=text, vectors=None, session_names={}
    )


def test_sessions_and_targets_by_hand() -> None:
    found = statistics(dataset())
    assert (found.users, found.items, found.cold_items, found.text, found.fields) == (None, 4, 1, None, {})
    train, test = found.splits["train"], found.splits["test"]
    assert list(found.splits) == ["train", "valid", "test"]
    assert (train.sessions, train.interactions, train.items, train.max_length) == (3, 7, 3, 3)
    assert (train.mean_length, train.median_length) == (pytest.approx(7 / 3), 2.0)
    assert (train.lengths, test.lengths) == ({2: 2, 3: 1}, {3: 1, 5: 1})
    assert (train.first_time, train.last_time, test.first_time, test.last_time) == (100, 106, 300, 307)
    # Of 0 1 0 and 3 1 3 3 2 the last items are 0, a repeat from two places back, and 2. Of the six items that
    # follow a prefix, 0 and 3 repeat from two places back and the last 3 from one; 3 is never trained.
    assert test.last == TargetStatistics(
        2,
        repeated=0.5,
        cold=0.0,
        by_length={"1": (0, 0), "2": (1, 1), "3-4": (1, 0)},
        by_distance={"1": 0, "2": 1},
    )
    assert test.every == TargetStatistics(
        6,
        repeated=0.5,
        cold=pytest.approx(2 / 6),
        by_length={"1": (2, 0), "2": (2, 2), "3-4": (2, 1)},
        by_distance={"1": 1, "2": 2},
    )
    assert found.splits["valid"].last == TargetStatistics(1, 0.0, 1.0, {"1": (1, 0)})


def test_a_session_of_one_item_has_no_target() -> None:
    single = replace(dataset(), valid=store([3]))
    assert statistics(single).splits["valid"].last == TargetStatistics(0, 0.0, 0.0)


def test_popularity_by_hand() -> None:
    # One item of four is at least one per cent, and ten per cent, of them: it has 4 of 7 interactions.
    assert statistics(dataset()).popularity == PopularityStatistics(
        {0.01: pytest.approx(4 / 7), 0.1: pytest.approx(4 / 7)}, [(1, 4), (2, 2), (3, 1)]
    )
    counts = np.arange(1, 101)
    assert top_share(counts, 0.01) == 100 / 5050
    assert top_share(counts, 0.1) == sum(range(91, 101)) / 5050
    assert top_share(counts, 1.0) == 1.0
    assert top_share(np.zeros(3, np.int64), 0.1) == 0.0


def test_a_long_curve_is_thinned_but_keeps_both_ends() -> None:
    curve = popularity_curve(np.arange(5000, dtype=np.int64))
    assert len(curve) <= 200
    assert (curve[0], curve[-1]) == ((1, 4999), (4999, 1))
    assert all(count == 5000 - rank for rank, count in curve)
    assert popularity_curve(np.zeros(2, np.int64)) == []


def test_texts_by_hand() -> None:
    text = ItemText({"title": ["red tent", "lamp", "", ""], "brand": ["Fernhill of Oak", "", "", " "]})
    found = statistics(dataset(text))
    assert found.fields == {"title": Texts(0.5, 1.5, 0.5, 2), "brand": Texts(0.25, 3.0, 0.0, 1)}
    assert found.text == Texts(0.5, 3.0, 0.5, 2)
    assert statistics(dataset(ItemText({"title": [""] * 4}))).text == Texts(0.0, 0.0)


def test_users_are_counted_over_all_splits() -> None:
    # train has users 5, 6 and 7, valid 5, test 5 and 6.
    assert statistics(dataset(users=[5, 6, 7])).users == 3


def test_a_folder_without_timestamps(tmp_path: Path) -> None:
    (tmp_path / "items.csv").write_text("item_id,title\na,red tent\nb,\n", "utf-8")
    for split, session in (("train", "s0"), ("valid", "s1"), ("test", "s2")):
        (tmp_path / f"{split}.csv").write_text(f"session_id,item_id\n{session},a\n{session},b\n", "utf-8")
    found = statistics(load_dataset(tmp_path))
    assert (found.splits["test"].first_time, found.splits["test"].last_time) == (None, None)
    assert found.text == Texts(0.5, 2.0, 0.0, 1)


@pytest.mark.parametrize("unit", [1, 1000, 1_000_000])
def test_the_size_of_a_timestamp_gives_its_unit(unit: int) -> None:
    found = as_date(1_291_191_960 * unit)
    assert found is not None
    assert found.isoformat() == "2010-12-01T08:26:00+00:00"


@pytest.mark.parametrize("counter", [-1, 0, 198_501, 10**8, 10**17])
def test_counters_are_not_dates(counter: int) -> None:
    assert as_date(counter) is None


SESSIONS = st.lists(st.lists(st.integers(0, 3), min_size=1, max_size=7), min_size=1, max_size=6)


def distance(session: list[int], place: int) -> int:
    """How many places back the item at ``place`` last occurred; 0 if it did not."""
    before = session[:place][::-1]
    return before.index(session[place]) + 1 if session[place] in before else 0


@given(SESSIONS)
def test_repeat_distances_agree_with_a_loop(sessions: list[list[int]]) -> None:
    expected = [distance(session, place) for session in sessions for place in range(len(session))]
    assert repeat_distances(store(*sessions)).tolist() == expected


@given(SESSIONS)
def test_repeats_by_length_and_distance_agree_with_a_loop(sessions: list[list[int]]) -> None:
    found = statistics(replace(dataset(), test=store(*sessions))).splits["test"]
    for kind in ("last", "every"):
        lengths: dict[str, tuple[int, int]] = {}
        distances: dict[str, int] = {}
        for session in sessions:
            for place in range(1 if kind == "every" else max(len(session) - 1, 1), len(session)):
                back = distance(session, place)
                # The longest distance is 6.
                name, far = (
                    next(b for b in bin_names(8) if value <= int(b.split("-")[-1])) for value in (place, back)
                )
                targets, repeated = lengths.get(name, (0, 0))
                lengths[name] = (targets + 1, repeated + (back > 0))
                if back:
                    distances[far] = distances.get(far, 0) + 1
        counted = found.targets(kind)
        assert {name: pair for name, pair in counted.by_length.items() if pair[0]} == lengths
        assert {name: number for name, number in counted.by_distance.items() if number} == distances

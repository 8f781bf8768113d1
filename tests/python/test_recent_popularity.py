"""Recent popularity: which interactions count as recent, and the order of items that are equally recent."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from alterrec.models.batches import SessionBatch
from alterrec.models.neighbours import RecentPopularity, units_per_day
from alterrec.sessions import SessionStore

DAY = 86_400
NUM_ITEMS = 5
ANY_PREFIX = SessionBatch.of_prefixes(torch.tensor([[0]]), torch.tensor([1]))

TIMES = st.integers(0, 40 * DAY)
INTERACTIONS = st.lists(
    st.tuples(st.integers(0, 3), st.integers(0, NUM_ITEMS - 1), TIMES), min_size=1, max_size=30
)


def scores(store: SessionStore) -> list[np.ndarray]:
    return [model.scores(ANY_PREFIX)[0].numpy() for model in RecentPopularity.candidates(store)]


def ranking(values: np.ndarray) -> list[int]:
    return np.argsort(-values, kind="stable").tolist()


def twin(recent: list[int], every: list[int]) -> list[int]:
    """Items by recent count, then by count over all of training, then by number."""
    return sorted(range(NUM_ITEMS), key=lambda item: (-recent.count(item), -every.count(item), item))


@given(INTERACTIONS, st.sampled_from([1, 10**3, 10**6, 10**9]))
def test_days_are_those_of_the_twin_in_every_unit(rows: list[tuple[int, int, int]], unit: int) -> None:
    """The first candidate counts 7 days, the others 1, 3 and 30."""
    sessions, items, seconds = (np.array(column) for column in zip(*rows, strict=True))
    times = (seconds + 1_300_000_000) * unit
    store = SessionStore.from_arrays(sessions, items, timestamps=times, num_items=NUM_ITEMS)
    found = scores(store)
    assert len(found) == 4
    for values, days in zip(found, (7, 1, 3, 30), strict=True):
        recent = [item for _, item, second in rows if second > seconds.max() - days * DAY]
        assert ranking(values) == twin(recent, items.tolist())


@given(st.lists(st.integers(0, NUM_ITEMS - 1), min_size=1, max_size=60))
def test_without_times_the_last_tenth_counts(items: list[int]) -> None:
    store = SessionStore.from_arrays(np.arange(len(items)), items, num_items=NUM_ITEMS)
    tenth = items[len(items) - round(len(items) / 10) :]
    assert ranking(scores(store)[0]) == twin(tenth, items)


def test_ranks_in_place_of_times_order_the_interactions() -> None:
    """20 interactions: the last two by rank are of item 3, though session 0 is first in the data."""
    ranks = np.array([19, 18, *range(18)])
    items = np.array([3, 3, *[0] * 10, *[1] * 8])
    store = SessionStore.from_arrays(
        np.array([0, 0] + [1] * 18), items, timestamps=ranks, num_items=NUM_ITEMS
    )
    tenth, thirtieth, third = scores(store)
    assert tenth.tolist() == pytest.approx([10 / 21, 8 / 21, 0, 2 + 2 / 21, 0])
    assert thirtieth[3] == pytest.approx(1 + 2 / 21)
    assert third.tolist() == pytest.approx([10 / 21, 5 + 8 / 21, 0, 2 + 2 / 21, 0])


@pytest.mark.parametrize(
    ("time", "day"),
    [
        (631_152_000, DAY),  # 1990-01-01
        (631_151_999, None),
        (4_102_444_799, DAY),
        (4_102_444_800, None),  # 2100-01-01
        (631_152_000_000, DAY * 10**3),
        (1_700_000_000_000_000, DAY * 10**6),
        (1_700_000_000_000_000_000, DAY * 10**9),
        (0, None),
        (-1_700_000_000, None),
    ],
)
def test_the_unit_of_times_is_read_from_their_size(time: int, day: int | None) -> None:
    assert units_per_day(time) == day


def test_a_store_without_interactions_gives_every_item_the_same_score() -> None:
    for store in (
        SessionStore.from_arrays([], [], num_items=3),
        SessionStore.from_arrays([], [], timestamps=np.empty(0, np.int64), num_items=3),
    ):
        assert all(values.tolist() == [0, 0, 0] for values in scores(store))

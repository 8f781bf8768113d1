from __future__ import annotations

import numpy as np
import oracle_sessions as oracle
import pytest
from hypothesis import given
from hypothesis import strategies as st

from alterrec._core import ItemNeighbours, SessionNeighbours
from alterrec.sessions import SessionStore

NUM_ITEMS = 6
SESSIONS = st.lists(st.lists(st.integers(0, NUM_ITEMS - 1), min_size=1, max_size=6), max_size=10)
PREFIXES = st.lists(st.lists(st.integers(0, NUM_ITEMS - 1), max_size=5), max_size=4)


def make_store(lists):
    names = np.repeat(np.arange(len(lists)), [len(items) for items in lists])
    return SessionStore.from_arrays(names, [item for items in lists for item in items], num_items=NUM_ITEMS)


def padded(prefixes):
    """Rows padded with what is no item, so that reading the padding is an error."""
    items = np.full((len(prefixes), 5), -9)
    for row, prefix in enumerate(prefixes):
        items[row, : len(prefix)] = prefix
    return items, np.array([len(prefix) for prefix in prefixes], np.int64)


class TestItemNeighbours:
    @given(SESSIONS, st.integers(1, 7), st.sampled_from([0.0, 0.5, 10.0]))
    def test_lists_are_the_twins(self, lists, k, shrinkage):
        offsets, ids, similarities = ItemNeighbours(make_store(lists), k, shrinkage).arrays()
        expected = oracle.item_neighbours(lists, NUM_ITEMS, k, shrinkage)
        assert offsets.tolist() == np.cumsum([0] + [len(row) for row in expected]).tolist()
        found = list(zip(ids.tolist(), similarities.tolist(), strict=True))
        assert found == [(j, float(similarity)) for row in expected for j, similarity in row]

    @given(SESSIONS, PREFIXES, st.integers(1, 7), st.sampled_from([0.0, 0.3, 1.0]))
    def test_scores_are_the_twins(self, lists, prefixes, k, decay):
        neighbours = ItemNeighbours(make_store(lists), k, 2.0)
        twins = oracle.item_neighbours(lists, NUM_ITEMS, k, 2.0)
        scores = neighbours.scores(*padded(prefixes), decay)
        assert scores.shape == (len(prefixes), NUM_ITEMS)
        assert scores.dtype == np.float32
        for row, prefix in zip(scores, prefixes, strict=True):
            expected = oracle.item_neighbour_scores(twins, NUM_ITEMS, prefix, decay)
            np.testing.assert_allclose(row, expected, rtol=1e-5)

    def test_by_hand(self):
        # c_0 = 2, c_1 = 3, c_2 = 1; 0 and 1 share two sessions, 1 and 2 one; repeats count once
        store = make_store([[0, 1, 0, 1], [1, 0], [1, 2]])
        scores = ItemNeighbours(store, 5, 1.0).scores([[2, 1]], [2], 0.5)[0]
        similar_01, similar_12 = 2 / (6**0.5 + 1), 1 / (3**0.5 + 1)
        np.testing.assert_allclose(scores, [similar_01, 0.5 * similar_12, similar_12, 0, 0, 0], rtol=1e-6)

    @given(SESSIONS, PREFIXES)
    def test_arrays_make_it_again(self, lists, prefixes):
        neighbours = ItemNeighbours(make_store(lists), 3)
        again = ItemNeighbours.from_arrays(NUM_ITEMS, *neighbours.arrays())
        arguments = (*padded(prefixes), 0.5)
        np.testing.assert_array_equal(again.scores(*arguments), neighbours.scores(*arguments))

    @pytest.mark.parametrize(
        ("options", "message"),
        [
            ({"k": 0}, "k is 0; expected 1 or more"),
            ({"shrinkage": -1.0}, "shrinkage is -1; expected 0 or more, finite"),
            ({"shrinkage": float("nan")}, "shrinkage is NaN"),
            ({"threads": 0}, "threads is 0; expected 1 or more"),
        ],
    )
    def test_wrong_options(self, options, message):
        with pytest.raises(ValueError, match=message):
            ItemNeighbours(make_store([[0, 1]]), **{"k": 2, **options})

    @pytest.mark.parametrize(
        ("offsets", "ids", "similarities", "message"),
        [
            ([0, 1], [0], [1.0], r"offsets has 2 values; expected 3 \(num_items \+ 1\)"),
            ([0, 2, 1], [0], [1.0], "offsets must rise from 0 to 1"),
            ([0, 0, 2], [0], [1.0], "offsets must rise from 0 to 1"),
            ([0, 1, 1], [0], [1.0, 2.0], "similarities has 2 values, ids 1"),
            ([0, 1, 1], [2], [1.0], r"ids\[0\] is 2; expected 0 to 1"),
            ([0, 1, 1], [1], [np.nan], r"similarities\[0\] is NaN; expected a finite number"),
        ],
    )
    def test_wrong_arrays(self, offsets, ids, similarities, message):
        arrays = (np.array(offsets), np.array(ids, np.uint32), np.array(similarities, np.float32))
        with pytest.raises(ValueError, match=message):
            ItemNeighbours.from_arrays(2, *arrays)


# Sums of these weights are exact, so that the order of additions does not matter.
WEIGHTS = st.lists(st.sampled_from([0.0, 0.125, 1.0, 3.0]), max_size=7)


class TestCovisited:
    @given(SESSIONS, st.integers(1, 7), WEIGHTS, WEIGHTS)
    def test_lists_are_the_twins(self, lists, k, after, before):
        offsets, ids, similarities = ItemNeighbours.covisited(make_store(lists), k, after, before).arrays()
        expected = oracle.covisited(lists, NUM_ITEMS, k, after, before)
        assert offsets.tolist() == np.cumsum([0] + [len(row) for row in expected]).tolist()
        found = list(zip(ids.tolist(), similarities.tolist(), strict=True))
        assert found == [(j, float(similarity)) for row in expected for j, similarity in row]

    def test_by_hand(self):
        # 0 occurs three times. After it: 1 at distance 1 and 2, 2 at distance 1 and 3. Before it: 1 once.
        store = make_store([[0, 1, 0, 2], [0, 3, 1]])
        near = ItemNeighbours.covisited(store, 9, after=[4.0, 2.0, 1.0], before=[0.5])
        scores = near.scores([[0], [2]], [1, 1], 1.0)
        np.testing.assert_allclose(scores[0], [0, (4 + 2 + 0.5) / 3, (1 + 4) / 3, 4 / 3, 0, 0], rtol=1e-6)
        assert scores[1].tolist() == [0.5, 0, 0, 0, 0, 0]

    @pytest.mark.parametrize("threads", [1, 2, 5])
    def test_threads_change_nothing(self, threads):
        store = make_store([[(s * step) % NUM_ITEMS for step in range(1 + s % 5)] for s in range(200)])
        arguments = (store, 4, [1.0, 1 / 3], [0.1])
        found = ItemNeighbours.covisited(*arguments, threads=threads).arrays()
        for each, expected in zip(found, ItemNeighbours.covisited(*arguments).arrays(), strict=True):
            np.testing.assert_array_equal(each, expected)

    @pytest.mark.parametrize(
        ("options", "message"),
        [
            ({"k": 0}, "k is 0; expected 1 or more"),
            ({"after": [1.0, -0.5]}, r"after\[1\] is -0.5; expected 0 or more, finite"),
            ({"before": [float("inf")]}, r"before\[0\] is inf; expected 0 or more, finite"),
            ({"threads": 0}, "threads is 0; expected 1 or more"),
        ],
    )
    def test_wrong_options(self, options, message):
        with pytest.raises(ValueError, match=message):
            ItemNeighbours.covisited(
                make_store([[0, 1]]), **{"k": 2, "after": [1.0], "before": [1.0], **options}
            )


class TestSessionNeighbours:
    @given(SESSIONS, PREFIXES, st.integers(1, 5), st.integers(1, 8))
    def test_scores_are_the_twins(self, lists, prefixes, k, sample):
        scores = SessionNeighbours(make_store(lists), k, sample).scores(*padded(prefixes))
        assert scores.shape == (len(prefixes), NUM_ITEMS)
        assert scores.dtype == np.float32
        for row, prefix in zip(scores, prefixes, strict=True):
            expected = oracle.session_neighbour_scores(lists, NUM_ITEMS, prefix, k, sample)
            np.testing.assert_allclose(row, expected, rtol=1e-5)

    def test_by_hand(self):
        # prefix 3, 0, 3: 3 counts at position 3, 0 at position 2; session 1 shares both and is
        # nearest; sessions 0 and 2 tie at 2/3 and the later one is kept
        store = make_store([[0, 1], [0, 3, 4], [0, 5], [2]])
        scores = SessionNeighbours(store, k=2, sample=9).scores([[3, 0, 3]], [3])[0]
        np.testing.assert_allclose(scores, [5 / 3 + 2 / 3 / 2, 0, 0, 5 / 3, 5 / 3, 1 / 3], rtol=1e-6)

    @pytest.mark.parametrize("name", ["k", "sample", "threads"])
    def test_wrong_options(self, name):
        with pytest.raises(ValueError, match=f"{name} is 0; expected 1 or more"):
            SessionNeighbours(make_store([[0, 1]]), **{name: 0})


def both(threads):
    lists = [[(s * s + step * (s % 3)) % NUM_ITEMS for step in range(1 + s % 5)] for s in range(200)]
    store = make_store(lists)
    return [
        lambda items, lengths, n=neighbours, e=extra: n.scores(items, lengths, *e)
        for neighbours, extra in (
            (ItemNeighbours(store, 4, threads=threads), (0.7,)),
            (SessionNeighbours(store, 20, 50, threads=threads), ()),
        )
    ]


@pytest.mark.parametrize("threads", [1, 2, 5])
def test_threads_change_nothing(threads):
    prefixes = padded([[s % NUM_ITEMS, (s * 7) % NUM_ITEMS, 3] for s in range(100)])
    for scores, expected in zip(both(threads), both(None), strict=True):
        np.testing.assert_array_equal(scores(*prefixes), expected(*prefixes))


@pytest.mark.parametrize(
    ("items", "lengths", "message"),
    [
        ([[0, 6]], [2], r"items\[0, 1\] is 6; expected 0 to 5"),
        ([[0, 1], [-1, 1]], [2, 1], r"items\[1, 0\] is -1"),
        ([[0, 1]], [3], r"lengths\[0\] is 3; expected 0 to 2"),
        ([[0, 1]], [-1], r"lengths\[0\] is -1"),
        ([[0, 1]], [1, 1], "lengths has 2 values, items 1 rows"),
        ([0, 1], [1], "items has 1 dimensions; expected 2"),
        ([[0.0, 1.0]], [1], "items has dtype float64; expected integers"),
    ],
)
def test_wrong_prefixes(items, lengths, message):
    for scores in both(None):
        with pytest.raises(ValueError, match=message):
            scores(items, lengths)


def test_decay_outside_its_range():
    neighbours = ItemNeighbours(make_store([[0, 1]]), 1)
    for decay in (-0.1, 1.5, float("nan")):
        with pytest.raises(ValueError, match=r"decay is .*; expected 0 to 1"):
            neighbours.scores([[0]], [1], decay)


def test_an_empty_store_scores_nothing():
    store = SessionStore.from_arrays([], [], num_items=3)
    np.testing.assert_array_equal(ItemNeighbours(store, 2).scores([[0]], [1], 0.5), np.zeros((1, 3)))
    np.testing.assert_array_equal(SessionNeighbours(store).scores([[0]], [1]), np.zeros((1, 3)))

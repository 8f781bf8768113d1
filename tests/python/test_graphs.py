from __future__ import annotations

from collections import Counter
from itertools import pairwise

import numpy as np
import oracle_graphs as oracle
import pytest
from hypothesis import given
from hypothesis import strategies as st

from alterrec.graphs import session_graphs, transition_graph
from alterrec.sessions import SessionStore

NUM_ITEMS = 6
ITEMS = st.integers(0, NUM_ITEMS - 1)
PREFIXES = st.lists(st.lists(ITEMS, min_size=1, max_size=8), max_size=5)
SESSIONS = st.lists(st.lists(ITEMS, min_size=1, max_size=6), max_size=10)
HARD = [[3], [2, 2], [1, 1, 1, 1], [0, 5, 0, 5, 0], [4, 4, 2, 4, 4], list(range(NUM_ITEMS)) * 2]


def padded(prefixes):
    """Rows padded with what is no item, so that reading the padding is an error."""
    items = np.full((len(prefixes), max(map(len, prefixes), default=0) + 1), -9)
    for row, prefix in enumerate(prefixes):
        items[row, : len(prefix)] = prefix
    return items, np.array([len(prefix) for prefix in prefixes], np.int64)


def rows(adjacency):
    return [adjacency.ids[start:stop].tolist() for start, stop in pairwise(adjacency.offsets)]


def make_store(sessions, users=None):
    names = np.repeat(np.arange(len(sessions)), [len(items) for items in sessions])
    of_rows = None if users is None else np.repeat(users, [len(items) for items in sessions]).astype(np.int64)
    flat = [item for items in sessions for item in items]
    return SessionStore.from_arrays(names, flat, user_ids=of_rows, num_items=NUM_ITEMS)


class TestSessionGraphs:
    def check(self, prefixes):
        graphs = session_graphs(*padded(prefixes), NUM_ITEMS)
        before, after = rows(graphs.predecessors), rows(graphs.successors)
        assert len(before) == len(after) == len(graphs.nodes) == graphs.starts[-1]
        for row, prefix in enumerate(prefixes):
            start, stop = graphs.starts[row : row + 2].tolist()
            nodes, places, edges = oracle.session_graph(prefix)
            assert graphs.nodes[start:stop].tolist() == nodes
            assert graphs.node_of_place[row, : len(prefix)].tolist() == [start + place for place in places]
            assert not graphs.node_of_place[row, len(prefix) :].any()
            for node in range(len(nodes)):
                assert before[start + node] == sorted(start + u for u, v in edges if v == node)
                assert after[start + node] == sorted(start + v for u, v in edges if u == node)

    @given(PREFIXES)
    def test_graphs_are_the_twins(self, prefixes):
        self.check(prefixes)

    def test_repeats_one_item_and_none(self):
        self.check(HARD)
        self.check([])

    def test_by_hand(self):
        graphs = session_graphs([[1, 3, 4, 5, 3, 5]], [6], NUM_ITEMS)
        assert graphs.nodes.tolist() == [1, 3, 4, 5]
        assert graphs.node_of_place.tolist() == [[0, 1, 2, 3, 1, 3]]
        assert rows(graphs.predecessors) == [[], [0, 3], [1], [1, 2]]
        assert rows(graphs.successors) == [[1], [2, 3], [3], [1]]

    def test_another_dtype_and_layout(self):
        expected = session_graphs([[1, 2], [3, 3]], [2, 2], NUM_ITEMS)
        other = session_graphs(np.array([[1, 3], [2, 3]], np.uint8).T, np.array([2, 2], np.int32), NUM_ITEMS)
        np.testing.assert_equal(tuple(other), tuple(expected))

    @pytest.mark.parametrize(
        ("items", "lengths", "message"),
        [
            ([[0, 1]], [0], r"lengths\[0\] is 0; expected 1 to 2"),
            ([[0, 1]], [3], r"lengths\[0\] is 3; expected 0 to 2"),
            ([[0, 1]], [-1], r"lengths\[0\] is -1"),
            ([[0, 1], [2, 6]], [2, 2], r"items\[1, 1\] is 6; expected 0 to 5"),
            ([[-1]], [1], r"items\[0, 0\] is -1; expected 0 to 5"),
            ([[0, 1]], [1, 1], "lengths has 2 values, items 1 rows; both must be equal"),
            ([0, 1], [1], "items has 1 dimensions; expected 2"),
            ([[0.0]], [1], "items has dtype float64; expected integers"),
        ],
    )
    def test_wrong_prefixes(self, items, lengths, message):
        with pytest.raises(ValueError, match=message):
            session_graphs(items, lengths, NUM_ITEMS)

    def test_a_catalogue_of_nothing(self):
        with pytest.raises(ValueError, match="num_items is 0; expected 1 or more"):
            session_graphs([[0]], [1], 0)


class TestTransitionGraph:
    def check(self, sessions, users, predecessors):
        graph = transition_graph(make_store(sessions, users), predecessors)
        found = rows(graph)
        assert all(row == sorted(row) for row in found)
        edges = Counter((source, target) for target, row in enumerate(found) for source in row)
        assert edges == oracle.transition_edges(sessions, users, NUM_ITEMS, predecessors)
        assert len(found) == NUM_ITEMS + (max(users) + 1 if users else 0)
        return edges

    @given(SESSIONS, st.integers(1, 4), st.data())
    def test_edges_are_the_twins(self, sessions, predecessors, data):
        users = data.draw(
            st.none() | st.lists(st.integers(-1, 4), min_size=len(sessions), max_size=len(sessions))
        )
        edges = self.check(sessions, users, predecessors)
        assert all(edges[target, source] == count for (source, target), count in edges.items())

    def test_repeats_one_item_and_none(self):
        self.check(HARD, None, 2)
        self.check(HARD, [3, 0, 3, 0, 0, 9], 2)
        self.check([], None, 2)
        self.check([], [], 2)

    def test_by_hand(self):
        # before 2 came 1 twice, 0 once, 3 once: of two predecessors 1 and, seen first, 0 are kept
        graph = rows(transition_graph(make_store([[0, 2], [3, 2], [1, 2], [1, 2]]), 2))
        assert graph[2] == [0, 0, 1, 1, 1, 2, 3]
        assert graph[0] == [0, 2, 2]
        assert graph[1] == [1, 2, 2, 2]
        assert graph[3] == [2, 3]
        assert graph[4] == [4]

    def test_wrong_arguments(self):
        with pytest.raises(ValueError, match="predecessors is 0; expected 1 or more"):
            transition_graph(make_store([[0]]), 0)
        for user in (-2, 2**32 - 1 - NUM_ITEMS):
            message = rf"user {user} of session 1; expected 0 to {2**32 - 2 - NUM_ITEMS} \(numbers from 0"
            with pytest.raises(ValueError, match=message):
                transition_graph(make_store([[0], [1]], [0, user]))

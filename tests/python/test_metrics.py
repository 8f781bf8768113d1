"""Metrics by hand in fractions, and against the mean over tie orders."""

from __future__ import annotations

import random
from math import log2

import numpy as np
import oracle
import pytest
from hypothesis import given
from hypothesis import strategies as st

from alterrec.metrics import Ties, metric_values, metrics

NAMES = ["hits@1", "hits@10", "ndcg@1", "ndcg@10", "ndcg", "mrr@1", "mrr@10", "mrr"]
counts = st.lists(st.tuples(st.integers(0, 25), st.integers(0, 15)), min_size=1, max_size=20)


@pytest.mark.parametrize(
    ("greater", "tied", "name", "expected"),
    [
        (0, 1, "hits@1", 1.0),
        (1, 1, "hits@1", 0.0),
        (9, 1, "hits@10", 1.0),
        (10, 1, "hits@10", 0.0),
        (2, 1, "ndcg@10", 1 / 2),  # rank 3: 1 / log2(4)
        (2, 1, "mrr@10", 1 / 3),
        (10, 1, "mrr@10", 0.0),
        (10, 1, "mrr", 1 / 11),
        (6, 1, "ndcg", 1 / 3),  # rank 7: 1 / log2(8)
        (9, 4, "hits@10", 1 / 4),  # ranks 10, 11, 12, 13
        (0, 4, "hits@2", 2 / 4),
        (0, 3, "mrr", (1 + 1 / 2 + 1 / 3) / 3),
        (1, 3, "mrr@3", (1 / 2 + 1 / 3) / 3),  # ranks 2, 3, 4: the last lies beyond
        (0, 3, "ndcg@3", (1 + 1 / log2(3) + 1 / 2) / 3),
        (2, 5, "ndcg@4", (1 / 2 + 1 / log2(5)) / 5),
        (20, 5, "ndcg@20", 0.0),
        (0, 0, "hits@1", 0.0),  # not a candidate
        (0, 0, "ndcg", 0.0),
        (3, 0, "mrr", 0.0),
        (3, 0, "mrr@10", 0.0),
    ],
)
def test_by_hand(greater: int, tied: int, name: str, expected: float) -> None:
    assert metric_values([greater], [tied], name) == pytest.approx([expected], rel=1e-14, abs=0)


@given(counts, st.sampled_from(NAMES))
def test_expectation_over_tie_orders(samples: list[tuple[int, int]], name: str) -> None:
    greater, tied = np.array(samples).T
    expected = [oracle.metric(g, t, name) for g, t in samples]
    assert metric_values(greater, tied, name) == pytest.approx(expected, rel=1e-12, abs=1e-15)


@given(counts, st.sampled_from(NAMES))
def test_optimistic_and_pessimistic_are_the_ends_of_the_ties(
    samples: list[tuple[int, int]], name: str
) -> None:
    greater, tied = np.array(samples).T
    best = [oracle.metric(g, min(t, 1), name) for g, t in samples]
    worst = [oracle.metric(g + max(t, 1) - 1, min(t, 1), name) for g, t in samples]
    assert metric_values(greater, tied, name, "optimistic").tolist() == pytest.approx(best, rel=1e-14)
    assert metric_values(greater, tied, name, "pessimistic").tolist() == pytest.approx(worst, rel=1e-14)


def test_one_rank_keeps_all_digits_far_down_the_list() -> None:
    assert metric_values([999_999], [1], "mrr")[0] == 1 / 1_000_000


@pytest.mark.parametrize("ties", ["expected", "optimistic", "pessimistic"])
def test_a_target_that_is_no_candidate_lowers_the_mean(ties: Ties) -> None:
    assert metrics([0, 0], [1, 0], ["hits@1", "ndcg", "mrr"], ties) == {
        "hits@1": 0.5,
        "ndcg": 0.5,
        "mrr": 0.5,
    }
    assert metrics([7, 0], [0, 0], NAMES, ties) == dict.fromkeys(NAMES, 0.0)


def test_metrics_are_means_in_the_order_of_names() -> None:
    result = metrics([0, 2, 30], [1, 1, 1])
    assert list(result) == ["hits@10", "hits@20", "ndcg@10", "ndcg@20", "mrr@20"]
    assert result == pytest.approx(
        {"hits@10": 2 / 3, "hits@20": 2 / 3, "ndcg@10": 1 / 2, "ndcg@20": 1 / 2, "mrr@20": 4 / 9}
    )
    assert metrics([0], [2], ["hits@1"], ties="optimistic") == {"hits@1": 1.0}


def test_means_do_not_depend_on_the_order_of_samples() -> None:
    samples = [(g, t) for g in range(40) for t in range(1, 9)]
    shuffled = random.Random(0).sample(samples, len(samples))
    (greater, tied), (others_greater, others_tied) = np.array(samples).T, np.array(shuffled).T
    assert metrics(others_greater, others_tied, NAMES) == metrics(greater, tied, NAMES)


@pytest.mark.parametrize(
    ("greater", "tied", "name", "message"),
    [
        ([], [], "mrr", "nothing to average"),
        ([0], [1], "ndgc@10", r"unknown metric 'ndgc@10'; did you mean 'ndcg'\?"),
        ([0], [1], "hits@0", "cutoff '0'"),
        ([0], [1], "hits@-1", "cutoff '-1'"),
        ([0], [1], "hits@ten", "cutoff 'ten'"),
        ([0], [1], "hits", "write hits@10"),
        ([0, 1], [1], "mrr", "greater has 2 entries and tied has 1"),
        ([0.5], [1], "mrr", "greater has dtype float64"),
        ([0], [-1], "mrr", r"tied\[0\] is -1; expected 0 or more"),
        ([3, -1], [1, 1], "mrr", r"greater\[1\] is -1; expected 0 or more"),
    ],
)
def test_wrong_input_is_named(greater: list[int], tied: list[int], name: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        metrics(greater, tied, [name])


def test_unknown_tie_rule_is_named() -> None:
    with pytest.raises(ValueError, match="ties is 'mean'; choose 'expected', 'optimistic' or 'pessimistic'"):
        metric_values([0], [1], "mrr", "mean")  # type: ignore[arg-type]

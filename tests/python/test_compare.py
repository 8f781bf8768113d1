"""Paired tests: worked by hand, against plain loops, and by simulation."""

from __future__ import annotations

from itertools import product
from math import comb

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from alterrec.evaluation import comparisons as compare
from alterrec.evaluation.comparisons import (
    bootstrap_interval,
    holm,
    paired_differences,
    session_values,
    sign_flip_p,
)
from alterrec.metrics import metrics


def column(*values: float) -> np.ndarray:
    return np.array(values, np.float64)[:, None]


def p_by_loops(values: list[float]) -> float:
    """All 2^N signs, one after the other; integers, so sums are exact."""
    observed = abs(sum(values))
    signs = list(product([1, -1], repeat=len(values)))
    return sum(abs(sum(s * v for s, v in zip(row, values, strict=True))) >= observed for row in signs) / len(
        signs
    )


@pytest.mark.parametrize(
    ("values", "p"),
    [
        ([5.0], 1.0),  # one session: +5 and -5 are as far from 0
        ([1, 1], 2 / 4),
        ([1, 1, 1, 1, 1], 2 / 32),
        ([3, 2, -1], 4 / 8),  # sums of size 4 or more: 3+2+1, 3+2-1 and their negatives
        ([1, -1], 1.0),
        ([0, 0, 0], 1.0),
        ([0, 2, 0, 2, 0], 2 / 4),  # zeros change nothing
    ],
)
def test_p_of_few_sessions_by_hand(values: list[float], p: float) -> None:
    assert sign_flip_p(column(*values)) == pytest.approx([p], abs=1e-15)


@given(st.lists(st.integers(-3, 3), min_size=1, max_size=9))
def test_exact_p_is_that_of_plain_loops(values: list[int]) -> None:
    assert sign_flip_p(column(*values))[0] == p_by_loops(list(map(float, values)))


def test_columns_are_tested_on_their_own_though_zeros_differ() -> None:
    both = np.array([[1.0, 0.0], [1.0, 2.0], [1.0, 2.0], [0.0, -1.0]])
    assert sign_flip_p(both).tolist() == [p_by_loops([1, 1, 1]), p_by_loops([2, 2, -1])]


@given(st.lists(st.integers(-3, 3), min_size=2, max_size=9))
def test_sums_equal_on_paper_count_as_reached(values: list[int]) -> None:
    # Tenths have no exact sum: 0.1 + 0.2 and 0.3 differ in the last bit.
    assert sign_flip_p(column(*values) / 10)[0] == p_by_loops(list(map(float, values)))


def test_random_signs_reach_the_exact_p_within_their_error() -> None:
    # 40 wins of equal size in 60 sessions: binomial, two-sided.
    exact = 2 * sum(comb(60, wins) for wins in range(40, 61)) / 2**60
    found = sign_flip_p(column(*[1.0] * 40, *[-1.0] * 20), flips=200_000)[0]
    assert abs(found - exact) < 4 * np.sqrt(exact / 200_000)


def test_p_is_never_below_one_in_all_flips() -> None:
    assert sign_flip_p(column(*[1.0] * 200), flips=999) == [1 / 1000]


@pytest.mark.parametrize("level", [0.05, 0.2])
def test_null_data_are_rejected_as_often_as_said(level: float) -> None:
    rng = np.random.default_rng(1)
    # Skewed sizes, many ties, no difference: signs are exchangeable. 1,000 data sets at once, as columns.
    size = rng.exponential(size=(120, 1000)) * (rng.random((120, 1000)) < 0.4)
    p = sign_flip_p(size * rng.choice([-1.0, 1.0], size.shape), flips=2000)
    rejected = (p <= level).mean()
    assert abs(rejected - level) < 4 * np.sqrt(level * (1 - level) / 1000)


def test_a_shift_is_found() -> None:
    rng = np.random.default_rng(2)
    # A shift of 0.3 deviations in 200 sessions is 4.2 standard errors: power is about 0.99.
    p = sign_flip_p(rng.normal(0.3, 1.0, (200, 300)), flips=2000)
    assert (p <= 0.05).mean() > 0.95


def test_intervals_cover_the_truth_as_often_as_said() -> None:
    rng = np.random.default_rng(3)
    low, high = np.array(
        [bootstrap_interval(rng.exponential(1.0, (150, 1)), resamples=1000) for _ in range(400)]
    )[:, :, 0].T
    covered = ((low <= 1.0) & (high >= 1.0)).mean()
    # Percentile intervals of skewed data cover a little less than they say.
    assert 0.91 < covered < 0.98


def test_the_interval_by_hand() -> None:
    # Of two sessions (0 and 1) the mean is 0, 1/2, 1 with weights 1/4, 1/2, 1/4.
    low, high = bootstrap_interval(column(0.0, 1.0), level=0.4)
    assert (low[0], high[0]) == (0.5, 0.5)
    low, high = bootstrap_interval(column(0.0, 1.0), level=0.6)
    assert (low[0], high[0]) == (0.0, 1.0)


def test_chunks_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    values = np.random.default_rng(4).normal(0.1, 1.0, (97, 3))
    zeros = np.zeros_like(values)
    whole = paired_differences(values, zeros, flips=500, resamples=500)
    monkeypatch.setattr(compare, "CHUNK_VALUES", 1000)
    for ours, theirs in zip(paired_differences(values, zeros, flips=500, resamples=500), whole, strict=True):
        assert ours == pytest.approx(theirs, abs=1e-12)


def test_seeds_give_the_same_or_another_draw() -> None:
    values = np.random.default_rng(5).normal(0.1, 1.0, (80, 1))
    zeros = np.zeros_like(values)
    first, again, other = (paired_differences(values, zeros, seed=seed) for seed in (1, 1, 2))
    assert first == again
    assert first[0].p != other[0].p
    assert first[0].low != other[0].low


def test_one_session_proves_nothing() -> None:
    (found,) = paired_differences([[0.5]], [[0.2]])
    assert found == pytest.approx((0.3, 0.3, 0.3, 1.0))


@pytest.mark.parametrize(
    ("ours", "theirs", "message"),
    [
        (np.empty((0, 2)), np.empty((0, 2)), r"at least one session"),
        (np.ones((2, 1)), np.ones((3, 1)), r"\(2, 1\), theirs \(3, 1\)"),
        (np.ones(3), np.ones(3), r"expected equal shapes \(N, K\)"),
        (np.full((2, 1), np.nan), np.ones((2, 1)), "not finite"),
    ],
)
def test_wrong_values_are_refused(ours: np.ndarray, theirs: np.ndarray, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        paired_differences(ours, theirs)


@given(st.lists(st.tuples(st.integers(0, 4), st.integers(0, 30), st.integers(1, 3)), min_size=1, max_size=30))
def test_the_mean_over_sessions_is_the_metric_over_targets(rows: list[tuple[int, int, int]]) -> None:
    sessions, greater, tied = (np.array(values) for values in zip(*rows, strict=True))
    names = ["hits@10", "ndcg@20", "mrr@20"]
    values = session_values(sessions, greater, tied, names)
    assert len(values) == len(np.unique(sessions))
    assert values.mean(0) == pytest.approx(list(metrics(greater, tied, names).values()), abs=1e-12)


@pytest.mark.parametrize(
    ("p", "adjusted"),
    [
        ([0.2], [0.2]),
        ([0.01, 0.02, 0.03, 0.04, 0.05], [0.05, 0.08, 0.09, 0.09, 0.09]),
        ([0.5, 0.01], [0.5, 0.02]),
        ([0.9, 0.8], [1.0, 1.0]),
        ([], []),
    ],
)
def test_holm_by_hand(p: list[float], adjusted: list[float]) -> None:
    assert holm(p) == pytest.approx(adjusted)


def test_holm_keeps_the_family_error() -> None:
    uniform = np.random.default_rng(6).random((2000, 5))
    wrong = np.array([(holm(p) <= 0.05).any() for p in uniform]).mean()
    assert wrong < 0.05 + 4 * np.sqrt(0.05 * 0.95 / 2000)

"""Paired tests: worked by hand, against plain loops, and by simulation."""

from __future__ import annotations

from itertools import product
from math import comb

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from alterrec.evaluation import sign_flips
from alterrec.evaluation.comparisons import session_values
from alterrec.evaluation.sign_flips import flip_test, paired_differences
from alterrec.metrics import metrics


def column(*values: float) -> np.ndarray:
    return np.array(values, np.float64)[:, None]


def sign_flip_p(values: np.ndarray, flips: int = 10_000) -> np.ndarray:
    return flip_test(values, flips=flips).p_K


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
    """All five intervals of a family at once, for correlated and skewed columns."""
    rng = np.random.default_rng(3)
    covered = []
    for seed in range(400):
        values = rng.exponential(0.1, (200, 1)) + rng.normal(0.0, 0.1, (200, 5))
        found = flip_test(values, flips=400, seed=seed)
        covered.append(((found.low_K <= 0.1) & (found.high_K >= 0.1)).all())
    assert 0.91 < np.mean(covered) < 0.99


def test_the_interval_by_hand() -> None:
    # Of nine sessions with values 1 and 3 (in tenths), all 512 signs: the mean is 5/3, the variance 8/9, and
    # the statistic of a shift by x is 9 |5/3 - x| / sqrt(8 + 9 (5/3 - x)^2). No more than 25 of 512 signs
    # reach the statistics of shifts outside the interval.
    values = column(1, 1, 1, 1, 1, 1, 3, 3, 3)
    sums = sorted(
        abs(sum(s * v for s, v in zip(signs, values[:, 0], strict=True)))
        for signs in product([1, -1], repeat=9)
    )
    critical = sums[-26] / np.sqrt(33)
    half = critical * np.sqrt(8 / 9 / (9 - critical**2))
    found = flip_test(values / 10)
    wanted = ((5 / 3 - half) / 10, (5 / 3 + half) / 10)
    assert (found.low_K[0], found.high_K[0]) == pytest.approx(wanted)


@given(
    st.lists(
        st.lists(st.sampled_from([-1.0, 0.0, 0.5, 1.0]), min_size=3, max_size=3), min_size=1, max_size=30
    ),
    st.integers(0, 3),
)
def test_an_interval_excludes_zero_exactly_if_the_difference_is_shown(
    rows: list[list[float]], seed: int
) -> None:
    found = flip_test(np.array(rows), flips=100, seed=seed)
    excludes = (found.low_K > 0) | (found.high_K < 0)
    assert excludes.tolist() == (found.adjusted_K <= 0.05).tolist()
    assert (found.adjusted_K >= found.p_K - 1e-12).all()


def test_sessions_outside_a_column_do_not_count() -> None:
    values = np.random.default_rng(7).normal(0.4, 1.0, (12, 1))
    alone = flip_test(values)
    among = flip_test(np.concatenate([values, np.zeros((30, 1))]), [12])
    assert np.array(among) == pytest.approx(np.array(alone), abs=1e-12)


def test_equal_columns_cost_nothing_and_independent_ones_cost_what_they_must() -> None:
    values = np.random.default_rng(8).normal(0.25, 1.0, (100, 1))
    p = flip_test(values).adjusted_K[0]
    assert flip_test(np.repeat(values, 5, axis=1)).adjusted_K.tolist() == [p] * 5
    noise = np.random.default_rng(9).normal(0.0, 1.0, (100, 4))
    adjusted = flip_test(np.concatenate([values, noise], axis=1)).adjusted_K[0]
    # Of five independent tests, one reaches p by chance with probability 1 - (1 - p)^5.
    assert adjusted == pytest.approx(1 - (1 - p) ** 5, rel=0.25)


def test_chunks_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    values = np.random.default_rng(4).normal(0.1, 1.0, (97, 3))
    zeros = np.zeros_like(values)
    whole = paired_differences(values, zeros, flips=500)
    monkeypatch.setattr(sign_flips, "CHUNK_BYTES", 1000)
    for ours, theirs in zip(paired_differences(values, zeros, flips=500), whole, strict=True):
        assert ours == pytest.approx(theirs, abs=1e-12)


@given(st.integers(0, 70), st.integers(1, 3), st.integers(0, 2**32))
def test_subset_sums_are_those_of_the_bits(size: int, columns: int, seed: int) -> None:
    """The twin: unpacked bits times values."""
    rng = np.random.default_rng(seed)
    values = rng.integers(-9, 10, (size, columns)).astype(np.float64)
    flipped = rng.integers(0, 256, (5, -(-size // 8)), dtype=np.uint8)
    bits = np.unpackbits(flipped, axis=1, count=size).astype(np.float64)
    assert sign_flips._subset_sums(flipped, values).tolist() == (bits @ values).tolist()


@pytest.mark.parametrize("size", [0, 1, 7, 8, 9, 13])
def test_all_signs_are_every_subset_once(size: int) -> None:
    subsets = np.concatenate(list(sign_flips._all_signs(size)))
    bits = np.unpackbits(subsets, axis=1, count=size)
    assert len(np.unique(bits, axis=0)) == len(bits) == 2**size


def test_shared_signs_sum_every_session_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sign_flips, "MOST_SIGNS", 10)
    values = np.stack([2.0 ** np.arange(45), np.ones(45)], axis=1)
    shared = sign_flips._shared_signs(values, seed=1)
    # 45 sessions in 10 sets of 4 or 5. Powers of 2 show which ones: no bit twice.
    assert sorted(shared[:, 1]) == [4.0] * 5 + [5.0] * 5
    assert np.bitwise_xor.reduce(shared[:, 0].astype(np.int64)) == 2**45 - 1
    assert shared.tolist() == sign_flips._shared_signs(values, seed=1).tolist()
    assert shared.tolist() != sign_flips._shared_signs(values, seed=2).tolist()


def test_shared_signs_reject_null_data_as_often_and_agree_with_a_sign_each(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    rng = np.random.default_rng(10)
    size = rng.exponential(size=(3000, 400)) * (rng.random((3000, 400)) < 0.4)
    values = size * rng.choice([-1.0, 1.0], size.shape) + 0.02 * (rng.random(400) < 0.5)
    each = flip_test(values, flips=1000)
    monkeypatch.setattr(sign_flips, "MOST_SIGNS", 1500)
    shared = flip_test(values, flips=1000)
    null = np.abs(values).min(0) == 0
    assert abs((shared.p_K[null] <= 0.05).mean() - 0.05) < 4 * np.sqrt(0.05 * 0.95 / null.sum())
    # The error of 1,000 flips, twice, and of the sets.
    error = np.sqrt(2 * each.p_K * (1 - each.p_K) / 1000)
    assert (np.abs(shared.p_K - each.p_K) < 5 * error + 0.03).all()


def test_seeds_give_the_same_or_another_draw() -> None:
    values = np.random.default_rng(5).normal(0.1, 1.0, (80, 1))
    zeros = np.zeros_like(values)
    first, again, other = (paired_differences(values, zeros, seed=seed) for seed in (1, 1, 2))
    assert first == again
    assert first[0].p != other[0].p
    assert first[0].low != other[0].low


def test_one_session_proves_nothing() -> None:
    (found,) = paired_differences([[0.5]], [[0.2]])
    assert found == pytest.approx((0.3, -1.0, 1.0, 1.0))


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


def test_the_family_error_is_kept() -> None:
    """Null families of four columns, three of them correlated: any false claim in one of twenty."""
    rng = np.random.default_rng(6)
    wrong = 0
    for seed in range(600):
        shared = rng.normal(size=(60, 1))
        values = np.concatenate([shared + 0.5 * rng.normal(size=(60, 3)), rng.normal(size=(60, 1))], axis=1)
        wrong += bool((flip_test(values, flips=400, seed=seed).adjusted_K <= 0.05).any())
    assert wrong / 600 < 0.05 + 4 * np.sqrt(0.05 * 0.95 / 600)

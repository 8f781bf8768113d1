"""Test the difference of two systems on the same sessions, and estimate an interval for it.

The sign-flip test computes how often a difference at least as large occurs if the two systems are exchanged
at random in each session (Fisher's paired randomisation test; for rankings: Smucker, Allan and Carterette, "A
comparison of statistical significance tests for information retrieval evaluation", CIKM 2007). The interval
is the bootstrap's percentile interval over sessions (Efron and Tibshirani 1993, chapter 13). Both cover the
choice of sessions; neither covers the choice of training seeds.

Legend: N sessions, K metrics.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Literal, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from alterrec.metrics import metric_values

Floats = NDArray[np.float64]

# Purposes of random streams: each has its own.
_FLIPS, _RESAMPLES = range(2)
# Number of float64 values in a chunk of flips or resamples: 32 MiB.
CHUNK_VALUES = 2**22


Verdict = Literal["above", "below", "not shown"]


def verdict(mean: float, p_adjusted: float) -> Verdict:
    """Return the conclusion about a difference at the level 0.05.

    Example:
        >>> verdict(0.01, 0.03), verdict(-0.01, 0.03), verdict(0.01, 0.2)
        ('above', 'below', 'not shown')
    """
    if p_adjusted > 0.05:
        return "not shown"
    return "above" if mean > 0 else "below"


class Outcomes(NamedTuple):
    """Numbers of sessions in which the first of two systems is better, equal and worse."""

    wins: int
    ties: int
    losses: int


def outcomes(difference_N: ArrayLike) -> Outcomes:
    """Count sessions won, tied and lost.

    Example:
        >>> outcomes([0.5, 0.0, -0.1, 0.2])
        Outcomes(wins=2, ties=1, losses=1)
    """
    values = np.asarray(difference_N, np.float64)
    # Means over seeds that are mathematically equal may differ in their last bits.
    wins, losses = int((values > 1e-12).sum()), int((values < -1e-12).sum())
    return Outcomes(wins, len(values) - wins - losses, losses)


def seed_error(ours_S: Sequence[float], theirs_S: Sequence[float]) -> float | None:
    """Compute the standard error of the difference of two means over seeds; None if a system has one seed.

    Seeds of two systems are independent, so their variances add.

    Example:
        >>> seed_error([0.25, 0.75], [0.5, 0.5]), seed_error([0.1], [0.2, 0.3])
        (0.25, None)
    """
    if min(len(ours_S), len(theirs_S)) < 2:
        return None
    return float(np.sqrt(sum(np.var(values, ddof=1) / len(values) for values in (ours_S, theirs_S))))


class Difference(NamedTuple):
    """Mean of ours minus theirs, its bootstrap interval, and the two-sided p of the sign-flip test."""

    mean: float
    low: float
    high: float
    p: float


def session_values(sessions: ArrayLike, greater: ArrayLike, tied: ArrayLike, names: Sequence[str]) -> Floats:
    """Compute metrics of each session such that their mean over sessions is the metric over targets.

    Targets of one session are not independent, so tests are over sessions. The value of a session is the sum
    over its targets, times the number of sessions per target.

    Args:
        sessions: (targets,) the session of each target; results are in ascending order of sessions.
        greater, tied: (targets,) counts as in :func:`alterrec.metrics.metrics`.
        names: names of metrics.

    Returns:
        (N, K) float64.

    Example:
        >>> session_values([7, 7, 9], [0, 50, 0], [1, 1, 1], ["hits@20"])
        array([[0.66666667],
               [0.66666667]])
    """
    known, place = np.unique(np.asarray(sessions), return_inverse=True)
    columns = [np.bincount(place, metric_values(greater, tied, name), minlength=len(known)) for name in names]
    return np.asarray(np.stack(columns, axis=1) * (len(known) / max(len(place), 1)), np.float64)


def paired_differences(
    ours_NK: ArrayLike,
    theirs_NK: ArrayLike,
    *,
    level: float = 0.95,
    flips: int = 10_000,
    resamples: int = 10_000,
    seed: int = 0,
) -> list[Difference]:
    """Compute the difference of two systems in each metric.

    Args:
        ours_NK, theirs_NK: a value for each session and metric, with the same sessions in the same order;
            with several seeds the mean over seeds.
        level: of the interval.
        flips, resamples: number of random draws of the test and of the interval.
        seed: of both; the same seed gives the same result.

    Raises:
        ValueError: shapes differ, there are no sessions, or a value is not finite.

    Example:
        The system wins three of three sessions; 2 of 8 flips are as extreme.

        >>> paired_differences([[0.2], [0.4], [0.3]], [[0.1], [0.1], [0.1]])[0].p
        0.25
    """
    ours, theirs = np.asarray(ours_NK, np.float64), np.asarray(theirs_NK, np.float64)
    if ours.ndim != 2 or ours.shape != theirs.shape or not len(ours):
        raise ValueError(
            f"ours has shape {ours.shape}, theirs {theirs.shape}; "
            "expected equal shapes (N, K) with at least one session"
        )
    difference_NK = ours - theirs
    if not np.isfinite(difference_NK).all():
        raise ValueError("a value is not finite; expected finite values for every session and metric")
    p_K = sign_flip_p(difference_NK, flips=flips, seed=seed)
    low_K, high_K = bootstrap_interval(difference_NK, level=level, resamples=resamples, seed=seed)
    rows = zip(difference_NK.mean(0), low_K, high_K, p_K, strict=True)
    return [Difference(*map(float, row)) for row in rows]


def sign_flip_p(difference_NK: Floats, *, flips: int = 10_000, seed: int = 0) -> Floats:
    """Compute the two-sided p of the mean difference under random signs, (K,).

    All 2^N sign vectors are used if they are at most ``flips``; otherwise ``flips`` random ones and the
    observed one, so that p is never 0 (Phipson and Smyth 2010).

    Example:
        >>> sign_flip_p(np.array([[1.0], [1.0], [1.0], [-1.0]]))
        array([0.625])
    """
    # The sign of a zero difference has no effect.
    nonzero_MK = difference_NK[(difference_NK != 0).any(1)]
    total_K = nonzero_MK.sum(0)
    # Sums that are mathematically equal may differ in their last bits.
    threshold_K = np.abs(total_K) - 1e-12 * np.abs(nonzero_MK).sum(0)
    exact = len(nonzero_MK) < 63 and 2 ** len(nonzero_MK) <= flips
    signs = _all_signs(len(nonzero_MK)) if exact else _random_signs(len(nonzero_MK), flips, seed)
    reached_K = np.zeros(difference_NK.shape[1], np.int64)
    for flipped_CM in signs:
        reached_K += (np.abs(total_K - 2 * (flipped_CM @ nonzero_MK)) >= threshold_K).sum(0)
    return reached_K / 2 ** len(nonzero_MK) if exact else (1 + reached_K) / (1 + flips)


def bootstrap_interval(
    difference_NK: Floats, *, level: float = 0.95, resamples: int = 10_000, seed: int = 0
) -> tuple[Floats, Floats]:
    """Compute the percentile interval (low, high), each (K,), of the mean over resampled sessions.

    Example:
        >>> low, high = bootstrap_interval(np.array([[0.5], [0.5]]))
        >>> float(low[0]), float(high[0])
        (0.5, 0.5)
    """
    size = len(difference_NK)
    generator = np.random.Generator(_stream(seed, _RESAMPLES))
    means = []
    for rows in _chunks(resamples, size):
        drawn = generator.integers(0, size, (rows, size)) + size * np.arange(rows)[:, None]
        counts_CN = np.bincount(drawn.ravel(), minlength=rows * size).reshape(rows, size)
        means.append(counts_CN.astype(np.float64) @ difference_NK / size)
    low_K, high_K = np.quantile(np.concatenate(means), [(1 - level) / 2, (1 + level) / 2], axis=0)
    return low_K, high_K


def holm(p: ArrayLike) -> Floats:
    """Adjust p-values for multiple comparisons by Holm's step-down method (1979).

    Example:
        >>> holm([0.01, 0.04, 0.03])
        array([0.03, 0.06, 0.06])
    """
    values = np.asarray(p, np.float64)
    order = np.argsort(values, kind="stable")
    adjusted = np.empty_like(values)
    steps = values[order] * np.arange(len(values), 0, -1)
    adjusted[order] = np.minimum(np.maximum.accumulate(steps), 1.0)
    return adjusted


def _all_signs(size: int) -> Iterator[Floats]:
    """Yield every subset of ``size`` sessions to flip as 0 and 1, in chunks."""
    first = 0
    for rows in _chunks(2**size, size):
        numbers = np.arange(first, first + rows)
        yield (numbers[:, None] >> np.arange(size) & 1).astype(np.float64)
        first += rows


def _random_signs(size: int, flips: int, seed: int) -> Iterator[Floats]:
    """Yield ``flips`` random subsets, which do not depend on the size of the chunks."""
    words = -(-size // 64)
    stream = _stream(seed, _FLIPS)
    for rows in _chunks(flips, size):
        raw = stream.random_raw(rows * words).astype("<u8").view(np.uint8).reshape(rows, 8 * words)
        yield np.unpackbits(raw, axis=1, count=size).astype(np.float64)


def _chunks(total: int, width: int) -> Iterator[int]:
    most = max(1, CHUNK_VALUES // max(width, 1))
    for first in range(0, total, most):
        yield min(most, total - first)


def _stream(seed: int, purpose: int) -> np.random.Philox:
    return np.random.Philox(key=np.array([seed, purpose], np.uint64))

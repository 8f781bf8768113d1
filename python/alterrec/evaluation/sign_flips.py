"""Test mean differences of paired sessions by random signs, and the intervals that belong to the test.

The sign-flip test computes how often a difference at least as large occurs if the two systems are exchanged
at random in each session (Fisher's paired randomisation test; for rankings: Smucker, Allan and Carterette, "A
comparison of statistical significance tests for information retrieval evaluation", CIKM 2007). Comparisons of
a family are adjusted by the maximum of their statistics over the same flips (Westfall and Young 1993), which
takes into account that metrics and groups of the same sessions are correlated. The interval has all
differences that this test does not reject. It therefore excludes zero exactly if the adjusted p is at most
0.05, and all intervals of a family hold together with 95 %. Both cover the choice of sessions; neither covers
the choice of training seeds.

Above ``MOST_SIGNS`` sessions, random sets of sessions share a sign. Their level is that of a sign for each
session, because these sign vectors are a group, too (Hemerik and Goeman, "Exact testing with random
permutations", TEST 2018), and time no longer depends on the number of sessions.

Legend: N sessions, K metrics, M signs, C sign vectors in a chunk, W bytes of a sign vector.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

Floats = NDArray[np.float64]
Bytes = NDArray[np.uint8]

# Level of all tests: the probability of any false claim in a family.
ALPHA = 0.05
# Random flips of a test.
FLIPS = 10_000
# Signs of a random flip. The widths of intervals then vary with the sets of sessions by 0.4 %, which is less
# than the 1 % by which they vary with 10,000 random flips.
MOST_SIGNS = 2**15
# Bytes of a chunk of flips.
CHUNK_BYTES = 2**25
# Statistics that are equal on paper may differ in their last bits.
TOLERANCE = 1e-12
# The subsets of eight sessions by the byte that selects them; its highest bit is the first session.
SUBSETS = np.unpackbits(np.arange(256, dtype=np.uint8)[:, None], axis=1).astype(np.float64)


class Difference(NamedTuple):
    """Mean of ours minus theirs, its 95 % interval, and the two-sided p of the sign-flip test."""

    mean: float
    low: float
    high: float
    p: float


def paired_differences(
    ours_NK: ArrayLike, theirs_NK: ArrayLike, *, flips: int = FLIPS, seed: int = 0
) -> list[Difference]:
    """Compute the difference of two systems in each metric, each metric as a family of its own.

    Args:
        ours_NK, theirs_NK: a value for each session and metric, with the same sessions in the same order;
            with several seeds the mean over seeds.
        flips: number of random draws of the test.
        seed: of these draws; the same seed gives the same result.

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
    columns = np.split(difference_NK, difference_NK.shape[1], axis=1)
    tests = [flip_test(column, flips=flips, seed=seed) for column in columns]
    return [Difference(*map(float, (*test.mean_K, *test.low_K, *test.high_K, *test.p_K))) for test in tests]


class FlipTest(NamedTuple):
    """The result of :func:`flip_test`, each (K,): ``adjusted_K`` and the interval are those of the family."""

    mean_K: Floats
    low_K: Floats
    high_K: Floats
    p_K: Floats
    adjusted_K: Floats


def flip_test(
    difference_NK: Floats, sizes_K: ArrayLike | None = None, *, flips: int = FLIPS, seed: int = 0
) -> FlipTest:
    """Test K mean differences of N sessions as one family, by random signs of the sessions.

    The statistic of a column is the size of its sum, divided by the root of its sum of squares, which no sign
    changes. All 2^N sign vectors are used if they are at most ``flips``; otherwise ``flips`` random ones and
    the observed one, so that p is never 0 (Phipson and Smyth 2010). Of more than ``MOST_SIGNS`` sessions with
    a difference, random sets share a sign.

    Args:
        difference_NK: the difference in each session; 0 in sessions that do not belong to a column.
        sizes_K: number of sessions of each column; default N.
        flips, seed: as in :func:`paired_differences`.

    Example:
        >>> flip_test(np.array([[1.0], [1.0], [1.0], [-1.0]])).p_K
        array([0.625])
    """
    size_N, num_K = difference_NK.shape
    sizes = np.full(num_K, size_N) if sizes_K is None else np.asarray(sizes_K)
    squares_K = (difference_NK**2).sum(0)
    # Columns without any difference have the statistic 0. The sign of a zero difference has no effect.
    norm_K = np.sqrt(np.where(squares_K > 0, squares_K, 1.0))
    moved_MK = _shared_signs((difference_NK / norm_K)[(difference_NK != 0).any(1)], seed)
    total_K = moved_MK.sum(0)
    observed_K = np.abs(total_K) * (1 - TOLERANCE) - TOLERANCE
    exact = len(moved_MK) < 63 and 2 ** len(moved_MK) <= flips
    signs = _all_signs(len(moved_MK)) if exact else _random_signs(len(moved_MK), flips, seed)
    reached_K, highest = np.zeros(num_K, np.int64), []
    for flipped_CW in signs:
        sums_CK = np.abs(total_K - 2 * _subset_sums(flipped_CW, moved_MK))
        reached_K += (sums_CK >= observed_K).sum(0)
        highest.append(sums_CK.max(1, initial=0.0))
    maxima = np.sort(np.concatenate(highest))
    # The observed signs are one of all exact ones, and one more than the random ones.
    extra = 0 if exact else 1
    total = len(maxima) + extra
    above_K = len(maxima) - np.searchsorted(maxima, observed_K, side="left")
    mean_K = difference_NK.sum(0) / sizes
    half_K = _half_widths(maxima, int(ALPHA * total) - extra, squares_K, mean_K, sizes)
    adjusted_K = (above_K + extra) / total
    # Where rounding would let the two disagree, the test decides.
    half_K = np.where(adjusted_K > ALPHA, np.maximum(half_K, np.abs(mean_K)), half_K)
    # No difference of two metrics is larger than 1.
    limit_K = np.maximum(np.abs(mean_K), 1.0)
    low_K, high_K = (np.clip(mean_K + side * half_K, -limit_K, limit_K) for side in (-1, 1))
    return FlipTest(mean_K, low_K, high_K, (reached_K + extra) / total, adjusted_K)


def _half_widths(maxima: Floats, most: int, squares_K: Floats, mean_K: Floats, sizes_K: Floats) -> Floats:
    """Return half the width of the interval of each column, (K,).

    An interval contains the shifts that the test does not reject. A shift is rejected if at most ``most`` of
    the sorted maxima reach its statistic, which means that it exceeds the next one, c. The shifted statistic
    is n |x| / sqrt(n v + n x^2) with the distance x from the mean and the variance v, so c is reached at
    x = c sqrt(v / (n - c^2)).
    """
    critical = float(maxima[len(maxima) - 1 - most]) if 0 <= most < len(maxima) else np.inf
    variance_K = np.maximum(squares_K / sizes_K - mean_K**2, 0.0)
    freedom_K = sizes_K - critical**2
    # Where the sessions are so few that no shift is rejected, the width is infinite.
    scale_K = np.divide(variance_K, freedom_K, out=np.full(len(mean_K), np.inf), where=freedom_K > TOLERANCE)
    return np.where(np.isinf(scale_K), np.inf, min(critical, 1e9) * np.sqrt(scale_K))


def _shared_signs(moved_NK: Floats, seed: int) -> Floats:
    """Sum the sessions that share a sign, (M, K): random sets of equal size, or one session each."""
    if len(moved_NK) <= MOST_SIGNS:
        return moved_NK
    order_N = np.random.Philox(key=np.array([seed, 1], np.uint64)).random_raw(len(moved_NK)).argsort()
    return np.add.reduceat(moved_NK[order_N], np.arange(MOST_SIGNS) * len(moved_NK) // MOST_SIGNS, axis=0)


def _subset_sums(flipped_CW: Bytes, moved_MK: Floats) -> Floats:
    """Sum the rows of ``moved_MK`` that the bits of each sign vector select, (C, K)."""
    sums_CK = np.zeros((len(flipped_CW), moved_MK.shape[1]))
    for place, byte_C in enumerate(np.ascontiguousarray(flipped_CW.T)):
        eight_K = moved_MK[8 * place : 8 * place + 8]
        sums_CK += (SUBSETS[:, : len(eight_K)] @ eight_K).take(byte_C, axis=0)
    return sums_CK


def _all_signs(size: int) -> Iterator[Bytes]:
    """Yield every subset of ``size`` signs to flip as the bits of bytes (C, W), in chunks."""
    width, first = -(-size // 8), 0
    for rows in _chunks(2**size, width):
        numbers = np.arange(first, first + rows) << (8 * width - size)
        yield numbers.astype(">u8").view(np.uint8).reshape(rows, 8)[:, 8 - width :]
        first += rows


def _random_signs(size: int, flips: int, seed: int) -> Iterator[Bytes]:
    """Yield ``flips`` random subsets, which do not depend on the size of the chunks."""
    words = -(-size // 64)
    stream = np.random.Philox(key=np.array([seed, 0], np.uint64))
    for rows in _chunks(flips, 8 * words):
        raw = stream.random_raw(rows * words).astype("<u8").view(np.uint8)
        yield raw.reshape(rows, 8 * words)[:, : -(-size // 8)]


def _chunks(total: int, width: int) -> Iterator[int]:
    most = max(1, CHUNK_BYTES // max(width, 1))
    for first in range(0, total, most):
        yield min(most, total - first)

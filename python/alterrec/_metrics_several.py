"""How a metric combines the targets of a sample, exactly over all orders of tied items.

With ``greater`` and ``tied`` of each target, the order of a ranking is known up to its groups of equal
scores: targets of a sample with the same ``greater`` are in one group of ``tied`` items, in random order.

Legend: N samples, T targets of a sample.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]


class TargetGains(NamedTuple):
    """The targets of samples and the gains of ranks.

    Attributes:
        greater_NT: items above each target.
        tied_NT: items equal to it, itself included; 1 where it is not found.
        found_NT: whether it is a candidate.
        expected_NT: mean gain over its ranks; 0 where it is not found.
        sizes_N: number of targets, found or not.
        gains: gains of rank 1, 2, ..., then a 0 for all ranks beyond.
        ideal: sums of the gains of the first 0, 1, ..., T ranks, up to the cutoff.
        cutoff: None without one.
    """

    greater_NT: Ints
    tied_NT: Ints
    found_NT: NDArray[np.bool_]
    expected_NT: Floats
    sizes_N: Ints
    gains: Floats
    ideal: Floats
    cutoff: int | None


Combination = Callable[[TargetGains], Floats]


def first(targets: TargetGains) -> Floats:
    """Mean gain of the rank of the first target.

    The first of r targets in a group of n items is at place j of the group with probability
    ``C(n - j, r - 1) / C(n, r)``.
    """
    above_NT = np.where(targets.found_NT, targets.greater_NT, np.iinfo(np.int64).max)
    place_N: Ints = above_NT.argmin(1)
    rows_N = np.arange(len(place_N))
    number_N = ((above_NT == above_NT[rows_N, place_N, None]) & targets.found_NT).sum(1)
    expected_N: Floats = targets.expected_NT[rows_N, place_N]
    for row in np.flatnonzero(number_N > 1).tolist():
        number, place = int(number_N[row]), place_N[row]
        start, size = int(above_NT[row, place]), int(targets.tied_NT[row, place])
        # The last gain is the 0 beyond the table.
        deepest = max(min(size - number + 1, len(targets.gains) - 1 - start), 0)
        before = np.arange(1, deepest, dtype=np.float64)
        steps = (size - number + 1 - before) / (size - before)
        shares = number / size * np.cumprod(np.concatenate([[1.0], steps]))[:deepest]
        expected_N[row] = float(shares @ targets.gains[start : start + deepest])
    return expected_N


def total(targets: TargetGains) -> Floats:
    """Sum of the gains of all targets."""
    sums_N: Floats = targets.expected_NT.sum(1)
    return sums_N


def share_of_targets(targets: TargetGains) -> Floats:
    """Sum of the gains of all targets, divided by their number."""
    return total(targets) / targets.sizes_N


def share_of_places(targets: TargetGains) -> Floats:
    """Sum of the gains of all targets, divided by the cutoff."""
    assert targets.cutoff is not None
    return total(targets) / targets.cutoff


def share_of_ideal(targets: TargetGains) -> Floats:
    """Sum of the gains of all targets, divided by that of the best ranking."""
    shares_N: Floats = np.minimum(total(targets) / targets.ideal[targets.sizes_N], 1.0)
    return shares_N


def average_precision(targets: TargetGains) -> Floats:
    """Sum of the precisions at the ranks of the targets, divided by the most targets of a list.

    A target at place j of a group of n items with r targets has ``(r - 1) (j - 1) / (n - 1)`` others of the
    group before it on average, and all targets of better groups. Its gains are 1 / rank.
    """
    same_NT, better_NT = (np.zeros(targets.greater_NT.shape) for _ in range(2))
    for column in range(targets.greater_NT.shape[1]):
        other, known = targets.greater_NT[:, [column]], targets.found_NT[:, [column]]
        same_NT += (targets.greater_NT == other) & known
        better_NT += (targets.greater_NT > other) & known
    above, equal, depth = targets.greater_NT, targets.tied_NT, len(targets.gains) - 1
    slope_NT = np.maximum(same_NT - 1, 0) / np.maximum(equal - 1, 1)
    inside_NT = np.clip(depth - above, 0, equal) / equal
    precisions_NT = (better_NT + 1 - slope_NT * (above + 1)) * targets.expected_NT + slope_NT * inside_NT
    most_N = targets.sizes_N if targets.cutoff is None else np.minimum(targets.sizes_N, targets.cutoff)
    sums_N: Floats = np.where(targets.found_NT, precisions_NT, 0.0).sum(1)
    shares_N: Floats = np.minimum(sums_N / most_N, 1.0)
    return shares_N

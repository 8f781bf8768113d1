"""Compare systems on the same targets: one record for each system, baseline, metric and group of targets.

The sign-flip test computes how often a difference at least as large occurs if the two systems are exchanged
at random in each session (Fisher's paired randomisation test; for rankings: Smucker, Allan and Carterette, "A
comparison of statistical significance tests for information retrieval evaluation", CIKM 2007). The interval
is the bootstrap's percentile interval over sessions (Efron and Tibshirani 1993, chapter 13). Both cover the
choice of sessions; neither covers the choice of training seeds.

Legend: N sessions, K metrics.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Annotated, Literal, NamedTuple

import numpy as np
import polars as pl
from numpy.typing import ArrayLike, NDArray
from pydantic import Field

from alterrec.evaluation.saved import Mask, SavedRanks, length_groups, popularity_groups
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


KEY = ["session_id", "position", "target_id"]
# Groups are compared in one metric alone: every further comparison costs all others power.
GROUPED = "ndcg@20"
# Flips of the permutation test for each comparison of a family. At the border of Holm's first step,
# p = 0.05 / family, this makes about 20 flips extreme, so that p is known to about a fifth.
FLIPS_EACH, FEWEST_FLIPS = 400, 10_000


NO_OUTCOMES = Outcomes(0, 0, 0)


@dataclass(frozen=True)
class Comparison:
    """The difference of a system and a baseline in one metric over some targets; metrics are fractions.

    In ``study.json`` the system is called ``model`` and the baseline ``rival``. What version 0.1.0 did not
    write there has a default.

    Attributes:
        mean, low, high, p: as in :class:`Difference`.
        p_adjusted: p after Holm's correction over the family of comparisons.
        group: name of the group of targets; empty for all targets.
        group_kind: what the group is by, ``popularity`` or ``length``.
        view: the ranking that is compared.
        system_mean, baseline_mean: means over seeds and sessions.
        sessions, targets: their numbers in the group.
        outcomes: numbers of sessions in which the system is better, equal and worse.
        seed_error: standard error of the difference over seeds; None if one of the two has a single seed.
    """

    system: Annotated[str, Field(alias="model")]
    metric: str
    baseline: Annotated[str, Field(alias="rival")]
    mean: float
    low: float
    high: float
    p: float
    p_adjusted: float
    group: str = ""
    group_kind: str = "popularity"
    view: str = "score"
    system_mean: float | None = None
    baseline_mean: float | None = None
    sessions: int = 0
    targets: int = 0
    outcomes: Outcomes = NO_OUTCOMES
    seed_error: float | None = None

    @property
    def verdict(self) -> Verdict:
        """The conclusion at the level 0.05 of the whole family."""
        return verdict(self.mean, self.p_adjusted)


@dataclass(frozen=True)
class System:
    """Runs of one recipe with several seeds, and how each of them ranked the same targets.

    Attributes:
        ranks: one for each run, in the order of :func:`sorted_targets`.
    """

    name: str
    ranks: tuple[SavedRanks, ...]

    @property
    def views(self) -> tuple[str, ...]:
        """Views that all of the runs have."""
        return tuple(view for view in self.ranks[0].views if all(view in ranks.views for ranks in self.ranks))

    @cached_property
    def sessions(self) -> NDArray[np.int64]:
        """The session of each target, as a number."""
        return self.ranks[0].frame["session_id"].rank("dense").cast(pl.Int64).to_numpy()

    @property
    def all_targets(self) -> Mask:
        """A mask that selects every target."""
        return np.ones(len(self.ranks[0]), bool)

    def values(self, view: str, metrics: Sequence[str], where: Mask) -> list[Floats]:
        """Return for each seed the metrics of each session (N, K) over its targets ``where``."""
        counts = [ranks.counts(view) for ranks in self.ranks]
        return [
            session_values(self.sessions[where], greater[where], tied[where], metrics)
            for greater, tied in counts
        ]


class Pairing(NamedTuple):
    """A system and a baseline for each metric, to be compared over the targets ``where``."""

    system: System
    baselines: Sequence[System]
    metrics: Sequence[str]
    where: Mask
    view: str = "score"
    group_kind: str = "popularity"
    group: str = ""


def sorted_targets(ranks: SavedRanks) -> SavedRanks:
    """Sort targets by session, position and item, so that runs on one test set have the same order."""
    return SavedRanks(ranks.frame.sort(KEY))


def exclusive_targets(first: SavedRanks, second: SavedRanks) -> tuple[int, int]:
    """Count the targets that only the first has, and those that only the second has.

    Example:
        >>> first = pl.DataFrame({"session_id": ["a", "b"], "position": [1, 1], "target_id": ["x", "y"]})
        >>> exclusive_targets(SavedRanks(first), SavedRanks(first.with_columns(position=pl.Series([1, 2]))))
        (1, 1)
    """
    left, right = first.frame.select(KEY), second.frame.select(KEY)
    return len(left.join(right, on=KEY, how="anti")), len(right.join(left, on=KEY, how="anti"))


def pairings(
    pairs: Sequence[tuple[System, System]], views: Sequence[str], metrics: Sequence[str]
) -> list[Pairing]:
    """Pair systems in each view that both have: all metrics over all targets, and ``GROUPED`` by group.

    Args:
        pairs: (system, baseline); all rank the same targets in the same order.
        views: names of views.
        metrics: names of metrics.

    Returns:
        Pairings in the order of the arguments, all targets before their groups by popularity in training and
        by the number of items before the target.
    """
    found = []
    for system, baseline in pairs:
        ranks = system.ranks[0]
        groups = {
            "popularity": popularity_groups(ranks.column("train_count")),
            "length": length_groups(ranks.column("position")),
        }
        for view in views:
            if view in system.views and view in baseline.views:
                everything = system.all_targets
                found.append(Pairing(system, [baseline] * len(metrics), metrics, everything, view))
                found += [
                    Pairing(system, [baseline], (GROUPED,), where, view, kind, group)
                    for kind, masks in groups.items()
                    for group, where in masks.items()
                    if where.any()
                ]
    return found


def compare_systems(family: Sequence[Pairing], *, flips: int | None = None) -> list[Comparison]:
    """Compare all pairings as one family of Holm's correction.

    The value of a session is its mean over seeds, so the test and the interval are over sessions.

    Args:
        family: the pairings.
        flips: of the permutation test; by default as many as the size of the family requires.

    Returns:
        One comparison for each pairing and metric, in their order.
    """
    if flips is None:
        flips = max(FEWEST_FLIPS, FLIPS_EACH * sum(len(pairing.metrics) for pairing in family))
    found = [comparison for pairing in family for comparison in _compare(pairing, flips)]
    adjusted = holm([each.p for each in found])
    return [replace(each, p_adjusted=float(p)) for each, p in zip(found, adjusted, strict=True)]


def _compare(pairing: Pairing, flips: int) -> Iterator[Comparison]:
    system, baselines, metrics, where, view, group_kind, group = pairing
    system_SNK = system.values(view, metrics, where)
    # The values of each baseline, which serves one metric or several.
    distinct = {each.name: each for each in baselines}
    by_name = {name: each.values(view, metrics, where) for name, each in distinct.items()}
    means = {name: np.mean(values, axis=0) for name, values in by_name.items()}
    system_NK = np.mean(system_SNK, axis=0)
    baseline_NK = np.stack([means[each.name][:, k] for k, each in enumerate(baselines)], axis=1)
    differences = paired_differences(system_NK, baseline_NK, flips=flips)
    for k, (metric, baseline, each) in enumerate(zip(metrics, baselines, differences, strict=True)):
        yield Comparison(
            system=system.name,
            metric=metric,
            baseline=baseline.name,
            **each._asdict(),
            p_adjusted=each.p,
            group=group,
            group_kind=group_kind,
            view=view,
            system_mean=float(system_NK[:, k].mean()),
            baseline_mean=float(baseline_NK[:, k].mean()),
            sessions=len(system_NK),
            targets=int(where.sum()),
            outcomes=outcomes(system_NK[:, k] - baseline_NK[:, k]),
            seed_error=seed_error(
                [float(values[:, k].mean()) for values in system_SNK],
                [float(values[:, k].mean()) for values in by_name[baseline.name]],
            ),
        )

"""Compare systems on the same targets: one record for each system, baseline, metric and group of targets.

Differences are tested by random signs of the sessions (:mod:`alterrec.evaluation.sign_flips`).

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
from alterrec.evaluation.sign_flips import ALPHA, FLIPS, Floats, flip_test
from alterrec.metrics import metric_values

Verdict = Literal["above", "below", "not shown"]


def verdict(mean: float, p_adjusted: float) -> Verdict:
    """Return the conclusion about a difference at the level 0.05.

    Example:
        >>> verdict(0.01, 0.03), verdict(-0.01, 0.03), verdict(0.01, 0.2)
        ('above', 'below', 'not shown')
    """
    if p_adjusted > ALPHA:
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


def standard_error(values_N: ArrayLike) -> float:
    """Compute the standard error of a mean; 0 for a single value.

    Example:
        >>> standard_error([0.0, 1.0]), standard_error([1.0])
        (0.5, 0.0)
    """
    values = np.asarray(values_N, np.float64)
    return float(values.std(ddof=1) / np.sqrt(len(values))) if len(values) > 1 else 0.0


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


KEY = ["session_id", "position", "target_id"]
# Groups are compared in one metric alone: every further comparison costs all others power.
GROUPED = "ndcg@20"

NO_OUTCOMES = Outcomes(0, 0, 0)


@dataclass(frozen=True)
class Comparison:
    """The difference of a system and a baseline in one metric over some targets; metrics are fractions.

    In ``study.json`` the system is called ``model`` and the baseline ``rival``. What version 0.1.0 did not
    write there has a default.

    Attributes:
        mean, low, high: the difference and its interval; all intervals of the family hold together.
        p: of this comparison alone.
        p_adjusted: p adjusted over the family of comparisons.
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


def compare_systems(family: Sequence[Pairing], *, flips: int = FLIPS) -> list[Comparison]:
    """Compare all pairings as one family: p and intervals are adjusted over all of their comparisons.

    The value of a session is its mean over seeds, so the test and the interval are over sessions. All systems
    rank the same targets.

    Args:
        family: the pairings.
        flips: number of random draws of the test.

    Returns:
        One comparison for each pairing and metric, in their order.
    """
    found = [each for pairing in family for each in _compare(pairing)]
    if not found:
        return []
    test = flip_test(
        np.stack([difference_N for _, difference_N in found], axis=1),
        [each.sessions for each, _ in found],
        flips=flips,
    )
    rows = np.stack(test, axis=1).tolist()
    return [
        replace(each, mean=mean, low=low, high=high, p=p, p_adjusted=adjusted)
        for (each, _), (mean, low, high, p, adjusted) in zip(found, rows, strict=True)
    ]


def _compare(pairing: Pairing) -> Iterator[tuple[Comparison, Floats]]:
    """Yield the comparisons of a pairing before their test, each with its differences by session (N,)."""
    system, baselines, metrics, where, view, group_kind, group = pairing
    system_SNK = system.values(view, metrics, where)
    # The values of each baseline, which serves one metric or several.
    distinct = {each.name: each for each in baselines}
    by_name = {name: each.values(view, metrics, where) for name, each in distinct.items()}
    means = {name: np.mean(values, axis=0) for name, values in by_name.items()}
    system_NK = np.mean(system_SNK, axis=0)
    sessions = system.sessions
    inside = np.unique(sessions[where]) - 1
    for k, (metric, baseline) in enumerate(zip(metrics, baselines, strict=True)):
        baseline_N = means[baseline.name][:, k]
        difference_N = np.zeros(int(sessions.max()))
        difference_N[inside] = system_NK[:, k] - baseline_N
        compared = Comparison(
            system=system.name,
            metric=metric,
            baseline=baseline.name,
            mean=0.0,
            low=0.0,
            high=0.0,
            p=1.0,
            p_adjusted=1.0,
            group=group,
            group_kind=group_kind,
            view=view,
            system_mean=float(system_NK[:, k].mean()),
            baseline_mean=float(baseline_N.mean()),
            sessions=len(system_NK),
            targets=int(where.sum()),
            outcomes=outcomes(difference_N[inside]),
            seed_error=seed_error(
                [float(values[:, k].mean()) for values in system_SNK],
                [float(values[:, k].mean()) for values in by_name[baseline.name]],
            ),
        )
        yield compared, difference_N

"""Compare systems on the same targets: one record for each system, baseline, metric and group of targets.

Legend: N sessions, K metrics.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Annotated, NamedTuple

import numpy as np
import polars as pl
from numpy.typing import NDArray
from pydantic import Field

from alterrec.evaluation.saved import Mask, SavedRanks, length_groups, popularity_groups
from alterrec.evaluation.significance import (
    Floats,
    Outcomes,
    Verdict,
    holm,
    outcomes,
    paired_differences,
    seed_error,
    session_values,
    verdict,
)

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
        mean, low, high, p: as in :class:`~alterrec.evaluation.significance.Difference`.
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

"""Saved runs against each other on the same targets: every difference that is asked for, as one family.

Legend: N sessions, K metrics.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, NamedTuple

import numpy as np
import polars as pl
from numpy.typing import NDArray

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
# The metric that groups are compared in; one, for every further comparison takes power from all others.
GROUPED = "ndcg@20"
# Flips for each comparison of the family. At the border of Holm's first step, p = 0.05 / family, they count
# 20 flips as extreme, so that p is known to about a fifth.
FLIPS_EACH, FEWEST_FLIPS = 400, 10_000


@dataclass(frozen=True)
class System:
    """Runs of one recipe under several seeds: how each ranked the same targets, in the same order.

    Attributes:
        ranks: a run each, sorted by :func:`sorted_targets`.
    """

    name: str
    ranks: tuple[SavedRanks, ...]

    @property
    def views(self) -> tuple[str, ...]:
        """Views that all of its runs have."""
        return tuple(view for view in self.ranks[0].views if all(view in ranks.views for ranks in self.ranks))

    @cached_property
    def sessions(self) -> NDArray[np.int64]:
        """The session of each target, by number."""
        return self.ranks[0].frame["session_id"].rank("dense").cast(pl.Int64).to_numpy()

    def values(self, view: str, metrics: Sequence[str], where: Mask) -> list[Floats]:
        """For each seed the metrics of each session (N, K) over its targets ``where``."""
        counts = [ranks.counts(view) for ranks in self.ranks]
        return [
            session_values(self.sessions[where], greater[where], tied[where], metrics)
            for greater, tied in counts
        ]


@dataclass(frozen=True)
class Contrast:
    """A system less another in one metric over one group of targets; fractions.

    Attributes:
        of, group: ``all``; or ``popularity`` or ``length`` and the group's name.
        ours, theirs: means over seeds and sessions.
        mean, low, high, p: as in :class:`~alterrec.evaluation.significance.Difference`.
        p_adjusted: p by Holm's rule over the whole family.
        sessions, targets: of the group.
        outcomes: sessions in which the system is better, equal and worse.
        seed_error: standard error of the difference over seeds; None where one of the two has one seed.
    """

    system: str
    base: str
    view: str
    metric: str
    of: str
    group: str
    ours: float
    theirs: float
    mean: float
    low: float
    high: float
    p: float
    p_adjusted: float
    sessions: int
    targets: int
    outcomes: Outcomes
    seed_error: float | None

    @property
    def verdict(self) -> Verdict:
        """What may be said at the level 0.05 of the whole family."""
        return verdict(self.mean, self.p_adjusted)


class _Question(NamedTuple):
    ours: System
    theirs: System
    view: str
    of: str
    group: str
    where: Mask
    metrics: tuple[str, ...]


def sorted_targets(ranks: SavedRanks) -> SavedRanks:
    """The same targets by session, position and item, so that runs of one test set are in one order."""
    return SavedRanks(ranks.frame.sort(KEY))


def exclusive_targets(ours: SavedRanks, theirs: SavedRanks) -> tuple[int, int]:
    """How many targets are in the one alone, and in the other alone.

    Example:
        >>> ours = pl.DataFrame({"session_id": ["a", "b"], "position": [1, 1], "target_id": ["x", "y"]})
        >>> exclusive_targets(SavedRanks(ours), SavedRanks(ours.with_columns(position=pl.Series([1, 2]))))
        (1, 1)
    """
    left, right = ours.frame.select(KEY), theirs.frame.select(KEY)
    return len(left.join(right, on=KEY, how="anti")), len(right.join(left, on=KEY, how="anti"))


def contrasts(
    pairs: Sequence[tuple[System, System]], views: Sequence[str], metrics: Sequence[str]
) -> list[Contrast]:
    """Each pair in each view that both have: all metrics over all targets, and one of them by group.

    Targets are grouped by popularity in training and by the number of items before them. A session's value
    is its mean over seeds. All comparisons together are one family of Holm's correction.

    Args:
        pairs: (system, the one it is held against); all rank the same targets in the same order.
        views, metrics: names.

    Returns:
        In the order asked, groups after the whole.
    """
    questions = [
        question
        for ours, theirs in pairs
        for view in views
        if view in ours.views and view in theirs.views
        for question in _questions(ours, theirs, view, tuple(metrics))
    ]
    family = sum(len(question.metrics) for question in questions)
    flips = max(FEWEST_FLIPS, FLIPS_EACH * family)
    found = [contrast for question in questions for contrast in _answer(question, flips)]
    adjusted = holm([each.p for each in found])
    return [replace(each, p_adjusted=float(p)) for each, p in zip(found, adjusted, strict=True)]


def _questions(ours: System, theirs: System, view: str, metrics: tuple[str, ...]) -> Iterator[_Question]:
    ranks = ours.ranks[0]
    yield _Question(ours, theirs, view, "all", "all", np.ones(len(ranks), bool), metrics)
    grouped: Mapping[str, Mapping[str, Mask]] = {
        "popularity": popularity_groups(ranks.column("train_count")),
        "length": length_groups(ranks.column("position")),
    }
    for of, masks in grouped.items():
        for group, where in masks.items():
            if where.any():
                yield _Question(ours, theirs, view, of, group, where, (GROUPED,))


def _answer(question: _Question, flips: int) -> Iterator[Contrast]:
    ours, theirs, view, of, group, where, metrics = question
    ours_S, theirs_S = (system.values(view, metrics, where) for system in (ours, theirs))
    ours_NK, theirs_NK = np.mean(ours_S, axis=0), np.mean(theirs_S, axis=0)
    for k, (metric, each) in enumerate(
        zip(metrics, paired_differences(ours_NK, theirs_NK, flips=flips), strict=True)
    ):
        facts: dict[str, Any] = each._asdict()
        yield Contrast(
            system=ours.name,
            base=theirs.name,
            view=view,
            metric=metric,
            of=of,
            group=group,
            ours=float(ours_NK[:, k].mean()),
            theirs=float(theirs_NK[:, k].mean()),
            **facts,
            p_adjusted=each.p,
            sessions=len(ours_NK),
            targets=int(where.sum()),
            outcomes=outcomes(ours_NK[:, k] - theirs_NK[:, k]),
            seed_error=seed_error(
                [float(values[:, k].mean()) for values in ours_S],
                [float(values[:, k].mean()) for values in theirs_S],
            ),
        )

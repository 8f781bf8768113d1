"""Compare saved runs on the same targets, and report how certain the differences are."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import combinations
from pathlib import Path

import numpy as np

from alterrec.analyses.compare_page import ComparisonReport, SystemResult
from alterrec.analyses.run_summary import split_name
from alterrec.comparable import (
    counts_excluded_as_found,
    folder_name,
    group_by_system,
    reason_not_comparable,
)
from alterrec.data.repeats import SeenItems
from alterrec.errors import InputError, nearest
from alterrec.evaluation.comparisons import (
    System,
    compare_systems,
    exclusive_targets,
    pairings,
    sorted_targets,
    standard_error,
)
from alterrec.evaluation.saved import SavedRanks, read_ranks
from alterrec.metrics import common_metrics
from alterrec.report.seen_items import ByRule, seen_sentence
from alterrec.report.tables import count, listed
from alterrec.results import RunFolder, read_run, reported_split

EVERY_VIEW = "each"


def compare(
    runs: Sequence[str | Path],
    *,
    views: Sequence[str] = ("score",),
    all_pairs: bool = False,
    command: str = "",
) -> ComparisonReport:
    """Compare saved runs with the first of them on the same targets; no model is loaded.

    Runs of one recipe that differ only in their seed are one system: tests use the mean over seeds of each
    session, and the deviation over seeds is reported separately.

    Args:
        runs: paths of the folders of finished runs, of two systems or more.
        views: names of what is compared: ``score``, the final score (the default), parts such as ``id`` and
            ``text``, or ``each`` for all that any run has.
        all_pairs: whether each system is compared with every system before it. Default: with the first alone.
        command: the command to print on the page. Default: none.

    Returns:
        The comparisons, with differences in percentage points, intervals and verdicts.

    Raises:
        InputError: fewer than two systems, a run that is not finished, or runs whose test sets differ; the
            message says how.

    Example:
        >>> compare(["no/such/run", "nor/this"])
        Traceback (most recent call last):
            ...
        alterrec.errors.InputError: no run folder 'no/such/run'; give the folder that training printed last
    """
    folders = [read_run(Path(run)) for run in runs]
    named = group_by_system(folders)
    if len(named) < 2:
        what = "runs of one recipe" if len(folders) > 1 else "one run" if folders else "no runs"
        raise InputError(f"compare needs runs of at least two systems; got {what}")
    _check_seeds(named)
    first = folders[0]
    split = reported_split(first.result)
    ranks = {folder.path: sorted_targets(read_ranks(folder.path, split)) for folder in folders}
    for other in folders:
        reason = _reason_refused(first, other, exclusive_targets(ranks[first.path], ranks[other.path]))
        if reason:
            raise InputError(
                f"{folder_name(other.path)} cannot be compared with {folder_name(first.path)}: {reason}; "
                "give finished runs on the same data and targets that were ranked by one rule"
            )
    systems = [System(name, tuple(ranks[run.path] for run in own)) for name, own in named.items()]
    chosen = _chosen_views(systems, views)
    pairs = [
        (system, baseline)
        for baseline, system in combinations(systems, 2)
        if all_pairs or baseline is systems[0]
    ]
    metrics = common_metrics(folder.result.metrics for folder in folders)
    seen = first.result.data.seen
    counted = [each.repeated for each in ranks.values() if each.repeated is not None]
    return ComparisonReport(
        systems=tuple(_system_result(each, named[each.name], chosen, metrics, seen) for each in systems),
        views=tuple(chosen),
        comparisons=tuple(compare_systems(pairings(pairs, chosen, metrics))),
        data=first.result.data,
        split=split_name(first.result),
        seen=seen_sentence(first.result.data),
        sessions=len(np.unique(systems[0].sessions)),
        targets=len(systems[0].ranks[0]),
        repeated=counted[0] if counted else None,
        excluded_as_found=not counted and any(counts_excluded_as_found(run.result) for run in folders),
        command=command,
        remarks=tuple(
            f"{name}, seed {run.result.seed}: {warning}"
            for name, own in named.items()
            for run in own
            if run.result.imported_from
            for warning in run.result.warnings
        ),
    )


def _check_seeds(named: Mapping[str, Sequence[RunFolder]]) -> None:
    for name, own in named.items():
        seeds = [run.result.seed for run in own]
        twice = next((seed for seed in seeds if seeds.count(seed) > 1), None)
        if twice is not None:
            same = [folder_name(run.path) for run in own if run.result.seed == twice]
            raise InputError(
                f"{listed(same)} are both {name} with seed {twice}; give one run of each seed of a system"
            )


def _reason_refused(first: RunFolder, other: RunFolder, exclusive: tuple[int, int]) -> str:
    """Say how the test sets of two runs differ; empty if they do not."""
    ours, theirs = first.result, other.result
    reason = "interrupted" if ours.stopped == "interrupted" else reason_not_comparable(ours, theirs)
    if reason == "interrupted":
        return "one of them was interrupted (resume it with --resume)"
    details = []
    if ours.data.fingerprint != theirs.data.fingerprint:
        details.append(
            f"fingerprint {theirs.data.fingerprint[:8]} of {count(theirs.data.items)} items against "
            f"{ours.data.fingerprint[:8]} of {count(ours.data.items)} items"
        )
    if ours.data.seen != theirs.data.seen:
        details.append(f"items already in the session are {theirs.data.seen!r} against {ours.data.seen!r}")
    if ours.data.targets != theirs.data.targets:
        details.append(f"targets are {theirs.data.targets!r} against {ours.data.targets!r}")
    if any(exclusive):
        reason = reason or "other test sessions"
        details.append(
            f"{count(exclusive[1])} targets are only in {folder_name(other.path)}, "
            f"{count(exclusive[0])} only in {folder_name(first.path)}"
        )
    return f"{reason} ({', '.join(details)})" if details else reason


def _chosen_views(systems: Sequence[System], names: Sequence[str]) -> list[str]:
    known = list(dict.fromkeys(view for system in systems for view in system.views))
    if EVERY_VIEW in names:
        return known
    shared = [view for view in known if sum(view in system.views for system in systems) > 1]
    for view in names:
        if view not in shared:
            owners = [system.name for system in systems if view in system.views]
            found = f"only {owners[0]} has it" if owners else "no run has it"
            raise InputError(
                f"view {view!r}: {found}; choose a view that at least two systems have "
                f"({', '.join(shared)}), or {EVERY_VIEW}{nearest(view, shared)}"
            )
    return list(dict.fromkeys(names))


def _system_result(
    system: System,
    runs: Sequence[RunFolder],
    views: Sequence[str],
    metrics: Sequence[str],
    seen: SeenItems,
) -> SystemResult:
    values = {
        view: system.values(view, metrics, system.all_targets) for view in views if view in system.views
    }
    return SystemResult(
        name=system.name,
        runs=tuple(str(run.path) for run in runs),
        seeds=tuple(run.result.seed for run in runs),
        means={
            view: {metric: [float(each[:, k].mean()) for each in own] for k, metric in enumerate(metrics)}
            for view, own in values.items()
        },
        errors={
            view: {metric: standard_error(np.mean(own, axis=0)[:, k]) for k, metric in enumerate(metrics)}
            for view, own in values.items()
        },
        by_seen={view: [_by_rule(ranks, view, metrics, seen) for ranks in system.ranks] for view in values},
    )


def _by_rule(ranks: SavedRanks, view: str, metrics: Sequence[str], seen: SeenItems) -> ByRule:
    """Return metrics by rule for the session's own items; ``seen`` is the rule of the run."""
    if not ranks.knows_seen:
        return {}
    return {
        "kept": ranks.metrics(view, metrics, rule="kept"),
        "excluded": ranks.metrics(view, metrics, rule="excluded"),
        seen: ranks.metrics(view, metrics),
    }

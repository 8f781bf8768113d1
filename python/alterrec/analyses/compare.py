"""Read saved runs, refuse those whose test sets differ, and hold the others against each other."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from itertools import combinations
from pathlib import Path

import numpy as np

from alterrec.analyses.compare_page import METRICS, ComparisonReport, SystemResult
from alterrec.analyses.run_sections import seen_rule
from alterrec.analyses.run_summary import split_name
from alterrec.comparable import folder_name, group_by_system, reason_not_comparable
from alterrec.errors import InputError, nearest
from alterrec.evaluation.contrasts import System, contrasts, exclusive_targets, sorted_targets
from alterrec.evaluation.saved import read_ranks
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
    """Hold saved runs against the first of them, on the same targets; loads no model.

    Runs of one recipe that differ by their seed alone are one system: tests take the mean of its seeds for
    each session, and the deviation over seeds stands beside it.

    Args:
        runs: folders of finished runs.
        views: ``score``, and parts such as ``id`` and ``text``; ``each`` for all that any run has.
        all_pairs: every system against every one before it, not the first alone.
        command: what makes it again, for the page.

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
        raise InputError(f"{what} given to compare; allowed: runs of two or more systems")
    _check_seeds(named)
    base = folders[0]
    split = reported_split(base.result)
    ranks = {folder.path: sorted_targets(read_ranks(folder.path, split)) for folder in folders}
    for other in folders:
        reason = _refusal(base, other, exclusive_targets(ranks[base.path], ranks[other.path]))
        if reason:
            raise InputError(
                f"{folder_name(other.path)} cannot be held against {folder_name(base.path)}: {reason}; "
                "allowed: finished runs on the same data and targets under one rule"
            )
    systems = [System(name, tuple(ranks[run.path] for run in own)) for name, own in named.items()]
    shown = _views(systems, views)
    pairs = [(ours, theirs) for theirs, ours in combinations(systems, 2) if all_pairs or theirs is systems[0]]
    first = systems[0]
    return ComparisonReport(
        systems=tuple(_system_result(system, named[system.name], shown) for system in systems),
        views=tuple(shown),
        contrasts=tuple(contrasts(pairs, shown, METRICS)),
        data=base.result.data,
        split=split_name(base.result),
        seen=seen_rule(base.result),
        sessions=len(np.unique(first.sessions)),
        targets=len(first.ranks[0]),
        command=command,
    )


def _check_seeds(named: Mapping[str, Sequence[RunFolder]]) -> None:
    for name, own in named.items():
        seeds = [run.result.seed for run in own]
        twice = next((seed for seed in seeds if seeds.count(seed) > 1), None)
        if twice is not None:
            alike = [folder_name(run.path) for run in own if run.result.seed == twice]
            raise InputError(
                f"{listed(alike)} are {name} with seed {twice}, the same run twice; allowed: each seed once"
            )


def _refusal(base: RunFolder, other: RunFolder, alone: tuple[int, int]) -> str:
    """How the test sets of two runs differ; empty where they do not."""
    ours, theirs = base.result, other.result
    reason = "interrupted" if ours.stopped == "interrupted" else reason_not_comparable(ours, theirs)
    if reason == "interrupted":
        return "one of them was interrupted; go on with it by --resume"
    details = []
    if ours.data.fingerprint != theirs.data.fingerprint:
        details.append(
            f"fingerprint {theirs.data.fingerprint[:8]} of {count(theirs.data.items)} items against "
            f"{ours.data.fingerprint[:8]} of {count(ours.data.items)} items"
        )
    if ours.data.exclude_seen != theirs.data.exclude_seen:
        ruled = [data.exclude_seen for data in (theirs.data, ours.data)]
        details.append("exclude_seen is {} against {}".format(*(str(each).lower() for each in ruled)))
    if ours.data.targets != theirs.data.targets:
        details.append(f"targets are {theirs.data.targets!r} against {ours.data.targets!r}")
    if any(alone):
        reason = reason or "other test sessions"
        details.append(f"{count(alone[1])} targets are in it alone, {count(alone[0])} in the other alone")
    return f"{reason} ({', '.join(details)})" if details else reason


def _views(systems: Sequence[System], asked: Sequence[str]) -> list[str]:
    known = list(dict.fromkeys(view for system in systems for view in system.views))
    if EVERY_VIEW in asked:
        return known
    held = [view for view in known if sum(view in system.views for system in systems) > 1]
    for view in asked:
        if view not in held:
            alone = [system.name for system in systems if view in system.views]
            who = f"{alone[0]} alone has it" if alone else f"no run has it{nearest(view, held)}"
            raise InputError(
                f"view {view!r}: {who}; allowed: a view of two systems or more ({', '.join(held)}), "
                f"or {EVERY_VIEW}"
            )
    return list(dict.fromkeys(asked))


def _system_result(system: System, runs: Sequence[RunFolder], views: Sequence[str]) -> SystemResult:
    everything = np.ones(len(system.ranks[0]), bool)
    values = {view: system.values(view, METRICS, everything) for view in views if view in system.views}
    return SystemResult(
        name=system.name,
        runs=tuple(str(run.path) for run in runs),
        seeds=tuple(run.result.seed for run in runs),
        means={
            view: {metric: [float(each[:, k].mean()) for each in own] for k, metric in enumerate(METRICS)}
            for view, own in values.items()
        },
        errors={
            view: {metric: _standard_error(np.mean(own, axis=0)[:, k]) for k, metric in enumerate(METRICS)}
            for view, own in values.items()
        },
    )


def _standard_error(values: np.ndarray) -> float:
    return float(values.std(ddof=1)) / math.sqrt(len(values)) if len(values) > 1 else 0.0

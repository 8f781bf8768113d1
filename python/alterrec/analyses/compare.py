"""Compare saved runs on the same targets, and report how certain the differences are."""

from __future__ import annotations

import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np

from alterrec.analyses.run_summary import split_name
from alterrec.comparable import folder_name, group_by_system, reason_not_comparable
from alterrec.errors import InputError, nearest
from alterrec.evaluation.comparisons import (
    GROUPED,
    Comparison,
    System,
    compare_systems,
    exclusive_targets,
    pairings,
    sorted_targets,
)
from alterrec.evaluation.saved import read_ranks
from alterrec.metrics import common_metrics, metric_name
from alterrec.report.comparisons import (
    comparison_records,
    comparison_table,
    forest_plot,
    interval,
    signed_points,
)
from alterrec.report.presentation import DataTable, Plot, Presentation, Report, Section, renamed
from alterrec.report.seen_items import seen_sentence
from alterrec.report.tables import VIEW_NAMES, Table, count, listed, mean_and_spread
from alterrec.results import DataSummary, RunFolder, read_run, reported_split

EVERY_VIEW = "each"
PLOTTED = ("hits@20", "ndcg@20")
GROUPS = {"popularity": "By popularity of the target", "length": "By session length"}
GROUP_NOTES = {
    "popularity": "Targets are grouped by how often they occur in training. Cold targets never occur there.",
    "length": "Targets are grouped by the number of items before them in the session.",
}
LONG_LABEL = 26
# With fewer sessions, intervals cover less than 95 %: in simulations with skewed values they covered 86 % at
# 20 sessions, 92 % at 60, 94 % at 100 and at 200.
FEW_SESSIONS = 100


@dataclass(frozen=True)
class SystemResult:
    """A system of a comparison.

    Attributes:
        runs, seeds: its run folders and their seeds.
        means: view -> metric -> one mean for each seed.
        errors: view -> metric -> standard error over sessions of the mean over seeds.
    """

    name: str
    runs: tuple[str, ...]
    seeds: tuple[int, ...]
    means: Mapping[str, Mapping[str, Sequence[float]]]
    errors: Mapping[str, Mapping[str, float]]


@dataclass(frozen=True)
class ComparisonReport(Report):
    """Systems compared on the same targets. It prints as tables and shows plots in a notebook.

    Attributes:
        systems: in the order given; the first is the baseline of all others, unless all pairs were asked for.
        views: the views compared.
        comparisons: all comparisons, with p adjusted over all of them.
        data, split, seen: the data, the split, and whether items already in the session are candidates.
        sessions, targets: their numbers.
        command: the command that makes the report again.
    """

    systems: tuple[SystemResult, ...]
    views: tuple[str, ...]
    comparisons: tuple[Comparison, ...]
    data: DataSummary
    split: str
    seen: str
    sessions: int
    targets: int
    command: str = ""

    contrasts = renamed("contrasts", "comparisons")

    def to_dict(self) -> dict[str, Any]:
        """Return all numbers, for JSON."""
        return {
            "schema": 1,
            "data": {"name": self.data.name, "fingerprint": self.data.fingerprint},
            "split": self.split,
            "sessions": self.sessions,
            "targets": self.targets,
            "systems": [asdict(system) for system in self.systems],
            "comparisons": comparison_records(self.comparisons),
        }

    def presentation(self) -> Presentation:
        """Return the report: differences by metric, by popularity and by session length."""
        return Presentation(
            name="comparison",
            title=f"{listed([system.name for system in self.systems])} on {self.data.name}",
            meta=f"{count(self.targets)} {self.split} targets of {count(self.sessions)} sessions · "
            f"{self.seen}",
            findings=self.findings(),
            caveats=self.caveats(),
            sections=[
                self._systems_section(),
                self._differences_section(),
                *(self._group_section(kind) for kind in GROUPS),
                Section("How to read this", READING),
            ],
            command=self.command,
        )

    def findings(self) -> list[str]:
        """Return a sentence for each pair and view."""
        by_pair: dict[tuple[str, str, str], list[Comparison]] = {}
        for each in self._over_all_targets():
            by_pair.setdefault((each.system, each.baseline, each.view), []).append(each)
        return [self._finding(comparisons) for comparisons in by_pair.values()]

    def _over_all_targets(self) -> list[Comparison]:
        return [each for each in self.comparisons if not each.group]

    def _finding(self, comparisons: Sequence[Comparison]) -> str:
        by_verdict = {
            verdict: [metric_name(each.metric) for each in comparisons if each.verdict == verdict]
            for verdict in ("above", "below", "not shown")
        }
        phrases = {"not shown": ("no difference shown", "any metric")}
        every = f"all {len(comparisons)} metrics"
        verdicts = [
            f"{phrase} in {everywhere if len(names) == len(comparisons) else listed(names)}"
            for verdict, names in by_verdict.items()
            for phrase, everywhere in [phrases.get(verdict, (verdict, every))]
            if names
        ]
        main = next(each for each in comparisons if each.metric == GROUPED)
        wins, ties, losses = main.outcomes
        view = f" ({VIEW_NAMES.get(main.view, main.view)})" if len(self.views) > 1 else ""
        return (
            f"{main.system} against {main.baseline}{view}: {'; '.join(verdicts)}. {metric_name(GROUPED)} "
            f"differs by {signed_points(main.mean)} points, 95% interval {interval(main)}; {main.system} is "
            f"better in {count(wins)} sessions, equal in {count(ties)} and worse in {count(losses)}."
        )

    def caveats(self) -> list[str]:
        """Return the reasons to be careful with the findings."""
        found = []
        single = [system.name for system in self.systems if len(system.seeds) == 1]
        if single:
            found.append(
                f"{listed(single)} {'has one seed' if len(single) == 1 else 'have one seed each'}, so the "
                "tests do not cover how much other seeds would change the result."
            )
        fragile = [
            f"{each.system} against {each.baseline} in {metric_name(each.metric)}"
            for each in self._over_all_targets()
            if each.verdict != "not shown"
            and each.seed_error is not None
            and abs(each.mean) < 2 * each.seed_error
        ]
        if fragile:
            found.append(
                "Other seeds may reverse these differences, which are smaller than two standard errors "
                f"over seeds: {'; '.join(fragile)}."
            )
        if self.sessions < FEW_SESSIONS:
            found.append(
                f"{self.sessions} sessions are few: intervals cover less than 95%, and only large "
                "differences can be shown."
            )
        if self.split != "test":
            found.append(
                "There are no test targets. The validation targets are also those that chose the epochs, so "
                "these numbers are optimistic."
            )
        return found

    def _systems_section(self) -> Section:
        shown = [(system, view) for system in self.systems for view in self.views if view in system.means]
        metrics = list(next(iter(self.systems[0].means.values())))
        rows = [
            (
                self._with_view(system.name, view),
                str(len(system.seeds)),
                *(mean_and_spread(system.means[view][metric], 2, "") for metric in metrics),
            )
            for system, view in shown
        ]
        table = Table(("system", "seeds", *map(metric_name, metrics)), tuple(rows))
        records = [
            {
                "system": system.name,
                "view": view,
                "metric": metric,
                "seeds": len(values),
                "mean": statistics.fmean(values),
                "seed_sd": statistics.stdev(values) if len(values) > 1 else None,
                "session_se": system.errors[view][metric],
            }
            for system in self.systems
            for view, by_metric in system.means.items()
            for metric, values in by_metric.items()
        ]
        spread = [
            (
                self._with_view(system.name, view),
                metric_name(metric),
                _deviation(system.means[view][metric]),
                f"{100 * system.errors[view][metric]:.2f}",
            )
            for system, view in shown
            for metric in PLOTTED
        ]
        columns = ("system", "metric", "deviation over seeds", "standard error over sessions")
        tables = {
            "systems": DataTable(table, records),
            "spread": DataTable(Table(columns, tuple(spread), title="Two sources of uncertainty")),
        }
        return Section("The systems", [SYSTEMS_NOTE], tables=tables)

    def _differences_section(self) -> Section:
        comparisons = self._over_all_targets()
        panels: dict[str, list[tuple[str, str, Comparison]]] = {}
        for metric in PLOTTED:
            for each in comparisons:
                if each.metric == metric:
                    title = self._with_view(metric_name(metric), each.view)
                    panels.setdefault(title, []).append((_pair_label(_pair(each)), each.view, each))
        plot = forest_plot(panels, f"Differences in {listed(list(panels))} with 95% intervals.")
        return Section(
            "The differences",
            [DIFFERENCES_NOTE.format(count(len(self.comparisons)))],
            {"differences": plot},
            {"differences": self._table(comparisons, "metric")},
        )

    def _group_section(self, kind: str) -> Section:
        comparisons = [each for each in self.comparisons if each.group and each.group_kind == kind]
        return Section(
            GROUPS[kind],
            [
                f"{GROUP_NOTES[kind]} Only {metric_name(GROUPED)} is compared. "
                "Numbers in brackets are targets of the group."
            ],
            {kind: self._group_plot(comparisons, kind)},
            {kind: self._table(comparisons, "targets", "sessions")},
        )

    def _table(self, comparisons: Sequence[Comparison], *which: str) -> DataTable:
        view = ("view",) if len(self.views) > 1 else ()
        columns = ("system", "against", *view, *which, "difference", "95% interval", "verdict", "p (Holm)")
        table = comparison_table(comparisons, (*columns, "better / equal / worse", "error of seeds"))
        return DataTable(table, comparison_records(comparisons))

    def _group_plot(self, comparisons: Sequence[Comparison], kind: str) -> Plot:
        panels: dict[str, list[tuple[str, str, Comparison]]] = {}
        for each in comparisons:
            title = _pair_label(self._with_view(_pair(each), each.view))
            panels.setdefault(title, []).append((f"{each.group} ({count(each.targets)})", each.view, each))
        caption = f"Differences in {metric_name(GROUPED)} with 95% intervals, {GROUPS[kind].lower()}."
        return forest_plot(panels, f"{caption} Numbers in brackets are targets of the group.")

    def _with_view(self, name: str, view: str) -> str:
        return f"{name}, {VIEW_NAMES.get(view, view)}" if len(self.views) > 1 else name


def _pair(each: Comparison) -> str:
    return f"{each.system} vs {each.baseline}"


def _pair_label(label: str) -> str:
    """Break a long label into two lines, which leaves more width for the plot."""
    return label.replace(" vs ", " vs\n") if len(label) > LONG_LABEL else label


def _deviation(values: Sequence[float]) -> str:
    return f"{100 * statistics.stdev(values):.2f}" if len(values) > 1 else "-"


SYSTEMS_NOTE = (
    "Metrics in percent; ± is one standard deviation over seeds. The second table separates two sources of "
    "uncertainty, in percentage points: another seed of training (deviation over seeds) and other sessions "
    "(standard error over sessions)."
)
DIFFERENCES_NOTE = (
    "Differences are in percentage points, system minus baseline, over the same sessions. Filled "
    "markers are differences that are shown at the level 0.05, with p adjusted by Holm's method over all {} "
    "comparisons of this page. Hollow markers are not shown, which does not mean that the systems are equal: "
    "the interval bounds their difference."
)
READING = [
    "p: how often a difference at least as large would occur if the two systems were exchanged at random, "
    "session by session (paired permutation test; Smucker, Allan and Carterette 2007). Holm's correction "
    "keeps the probability of any false claim among all comparisons below 5%.",
    "Interval: the middle 95% of the mean difference over sessions drawn with replacement (bootstrap). It is "
    "not adjusted for multiple comparisons.",
    "Better / equal / worse: number of sessions in which the metric of the system is higher, equal or lower. "
    "With several seeds, means over seeds are compared.",
    "Error of seeds: standard error of the difference over seeds. If it is as large as the difference, train "
    "more seeds before you rely on it.",
]


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
        runs: folders of finished runs.
        views: ``score``, or parts such as ``id`` and ``text``; ``each`` for all that any run has.
        all_pairs: compare each system with every system before it, not only with the first.
        command: the command to print on the page.

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
    return ComparisonReport(
        systems=tuple(_system_result(system, named[system.name], chosen, metrics) for system in systems),
        views=tuple(chosen),
        comparisons=tuple(compare_systems(pairings(pairs, chosen, metrics))),
        data=first.result.data,
        split=split_name(first.result),
        seen=seen_sentence(first.result.data),
        sessions=len(np.unique(systems[0].sessions)),
        targets=len(systems[0].ranks[0]),
        command=command,
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
            found = f"only {owners[0]} has it" if owners else f"no run has it{nearest(view, shared)}"
            raise InputError(
                f"view {view!r}: {found}; choose a view that at least two systems have "
                f"({', '.join(shared)}), or {EVERY_VIEW}"
            )
    return list(dict.fromkeys(names))


def _system_result(
    system: System, runs: Sequence[RunFolder], views: Sequence[str], metrics: Sequence[str]
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
            view: {metric: _standard_error(np.mean(own, axis=0)[:, k]) for k, metric in enumerate(metrics)}
            for view, own in values.items()
        },
    )


def _standard_error(values: np.ndarray) -> float:
    return float(values.std(ddof=1)) / math.sqrt(len(values)) if len(values) > 1 else 0.0

"""The result of ``alterrec compare``: systems on the same targets, their differences, and their page."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from alterrec.analyses.run_summary import EXCLUDED_AS_FOUND
from alterrec.errors import number_of
from alterrec.evaluation.comparisons import GROUPED, Comparison
from alterrec.metrics import metric_name
from alterrec.report.comparisons import (
    comparison_records,
    comparison_table,
    forest_plot,
    interval,
    signed_points,
)
from alterrec.report.presentation import DataTable, Plot, Presentation, Report, Section, renamed
from alterrec.report.seen_items import TITLE, ByRule, columns_note, repeated_sentence, seen_tables
from alterrec.report.tables import (
    FIRST_ITEMS,
    HEADLINE,
    VIEW_NAMES,
    Table,
    count,
    listed,
    mean_and_spread,
)
from alterrec.results import DataSummary

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
        by_seen: view -> for each seed, rule for the session's own items -> metrics; the metrics are missing
            for runs of earlier versions.
    """

    name: str
    runs: tuple[str, ...]
    seeds: tuple[int, ...]
    means: Mapping[str, Mapping[str, Sequence[float]]]
    errors: Mapping[str, Mapping[str, float]]
    by_seen: Mapping[str, Sequence[ByRule]]


@dataclass(frozen=True, repr=False)
class ComparisonReport(Report):
    """Systems compared on the same targets. It prints as tables and shows plots in a notebook.

    Attributes:
        systems: in the order given; the first is the baseline of all others, unless all pairs were asked for.
        views: the views compared.
        comparisons: all comparisons, with p adjusted over all of them.
        data, split, seen: the data, the split, and whether items already in the session are candidates.
        sessions, targets: their numbers.
        repeated: number of targets that repeat an item of their session; None if no run counted them.
        excluded_as_found: whether such targets may be counted as found although they are no candidates.
        command: the command that makes the report again.
        remarks: what is unusual about rankings of other systems, one sentence each.
    """

    systems: tuple[SystemResult, ...]
    views: tuple[str, ...]
    comparisons: tuple[Comparison, ...]
    data: DataSummary
    split: str
    seen: str
    sessions: int
    targets: int
    repeated: int | None
    excluded_as_found: bool
    command: str = ""
    remarks: tuple[str, ...] = ()

    contrasts = renamed("contrasts", "comparisons")

    def brief(self) -> str:
        names = listed([system.name for system in self.systems])
        return f"{names} on {self.data.name}, {number_of(len(self.comparisons), 'comparison')}"

    def to_dict(self) -> dict[str, Any]:
        """Return all numbers, for JSON."""
        return {
            "schema": 1,
            "data": {"name": self.data.name, "fingerprint": self.data.fingerprint},
            "split": self.split,
            "sessions": self.sessions,
            "targets": self.targets,
            "repeated": self.repeated,
            "seen": self.data.seen,
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
            leading=self._choice_section(),
            caveats=self.caveats(),
            sections=[
                self._systems_section(),
                *self._seen_items_section(),
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

    def _choice_section(self) -> list[Section]:
        """Return which system the owner of a shop should take, one sentence for each pair."""
        conclusions = {
            "above": "Take {0}: other visits of this kind would hardly reverse this.",
            "below": "Keep {1}: other visits of this kind would hardly reverse this.",
            "not shown": "These visits do not show that one of them is better; take the cheaper one.",
        }
        sentences = [
            f"{each.system} has the next item among the first {FIRST_ITEMS} recommendations in "
            f"{1000 * each.system_mean:.0f} of 1,000 visits, {each.baseline} in "
            f"{1000 * each.baseline_mean:.0f}. {conclusions[each.verdict].format(each.system, each.baseline)}"
            for each in self._over_all_targets()
            if (each.metric, each.view) == (HEADLINE, "score")
            if each.system_mean is not None and each.baseline_mean is not None
        ]
        return [Section("Which one to take", sentences)] if sentences else []

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
        if self.excluded_as_found:
            found.append(EXCLUDED_AS_FOUND.format("Some runs were"))
        found.extend(self.remarks)
        unmeasured = [
            system.name
            for system in self.systems
            if not all(by_rule for seeds in system.by_seen.values() for by_rule in seeds)
        ]
        if unmeasured:
            found.append(
                f"Runs of {listed(unmeasured)} were made by an earlier version, which did not measure what "
                "the session's own items cost."
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

    def _seen_items_section(self) -> list[Section]:
        """Return every system with the session's own items and without; nothing if no run measured it."""
        rows = {
            self._with_view(system.name, view): by_seen
            for system in self.systems
            for view, by_seen in system.by_seen.items()
        }
        tables = seen_tables(rows, PLOTTED)
        if not tables:
            return []
        repeated = repeated_sentence(self.repeated, self.targets, self.split)
        used = f"All other metrics of this page use the rule {self.data.seen}."
        return [Section(TITLE, [repeated, f"{columns_note(rows)} {used}"], tables=tables)]

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
        columns = (
            "system",
            "against",
            *view,
            *which,
            "difference",
            "95% interval",
            "verdict",
            "p (adjusted)",
        )
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
    "markers are differences that are shown at the level 0.05, adjusted over all {} comparisons of this "
    "page: their intervals exclude zero. Hollow markers are not shown, which does not mean that the systems "
    "are equal: the interval bounds their difference."
)
READING = [
    "p: how often a difference at least as large would occur if the two systems were exchanged at random, "
    "session by session (paired permutation test; Smucker, Allan and Carterette 2007). The adjusted p "
    "compares with the largest difference among all comparisons of the page (Westfall and Young 1993), which "
    "keeps the probability of any false claim below 5%.",
    "Interval: all differences that this test does not reject. All intervals of the page hold together with "
    "95%, and an interval excludes zero exactly if the verdict is above or below.",
    "Better / equal / worse: number of sessions in which the metric of the system is higher, equal or lower. "
    "With several seeds, means over seeds are compared.",
    "Error of seeds: standard error of the difference over seeds. If it is as large as the difference, train "
    "more seeds before you rely on it.",
]

"""What a comparison of saved runs shows: differences that other sessions, or other seeds, would not undo."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from alterrec.evaluation.contrasts import GROUPED, Contrast
from alterrec.report.presentation import DataTable, Plot, Presentation, Presented, Section
from alterrec.report.tables import (
    METRIC_NAMES,
    VIEW_NAMES,
    Table,
    count,
    listed,
    mean_and_spread,
    metric_name,
)
from alterrec.results import DataSummary

METRICS = tuple(METRIC_NAMES)
PICTURED = ("hits@20", "ndcg@20")
GROUPS = {
    "popularity": "By popularity of the target",
    "length": "By session length",
}
GROUP_SAYS = {
    "popularity": "Targets by how often they occur in training; cold: never.",
    "length": "Targets by how many items of the session are known before them.",
}
LONG_LABEL = 26
# Below this, intervals cover less than they say: in simulations with skewed values those that claim 95 %
# covered 86 % at 20 sessions, 92 % at 60, 94 % at 100 and at 200.
FEW_SESSIONS = 100


@dataclass(frozen=True)
class SystemResult:
    """A system of a comparison.

    Attributes:
        runs, seeds: its run folders and their seeds.
        means: view -> metric -> one mean a seed.
        errors: view -> metric -> standard error of the mean over sessions, of the mean of its seeds.
    """

    name: str
    runs: tuple[str, ...]
    seeds: tuple[int, ...]
    means: Mapping[str, Mapping[str, Sequence[float]]]
    errors: Mapping[str, Mapping[str, float]]


@dataclass(frozen=True)
class ComparisonReport(Presented):
    """Systems on the same targets: prints as tables, draws itself, shows itself in a notebook.

    Attributes:
        systems: in the order given; the first is the base, unless all pairs were asked for.
        views: the views compared.
        contrasts: every comparison, p adjusted over all of them.
        data, split, seen: what the targets are of, and the rule about items of the session.
        sessions, targets: how many.
        command: what makes it again.
    """

    systems: tuple[SystemResult, ...]
    views: tuple[str, ...]
    contrasts: tuple[Contrast, ...]
    data: DataSummary
    split: str
    seen: str
    sessions: int
    targets: int
    command: str = ""

    def to_dict(self) -> dict[str, Any]:
        """All numbers, for JSON."""
        return {
            "schema": 1,
            "data": {"name": self.data.name, "fingerprint": self.data.fingerprint},
            "split": self.split,
            "sessions": self.sessions,
            "targets": self.targets,
            "systems": [asdict(system) for system in self.systems],
            "comparisons": [_record(each) for each in self.contrasts],
        }

    def presentation(self) -> Presentation:
        """Who is above whom, by metric, popularity and session length, and how sure that is."""
        return Presentation(
            name="comparison",
            title=f"{listed([system.name for system in self.systems])} on {self.data.name}",
            meta=f"{count(self.targets)} {self.split} targets of {count(self.sessions)} sessions · "
            f"{self.seen}",
            findings=self.findings(),
            caveats=self.caveats(),
            sections=[
                self._systems_part(),
                self._whole_part(),
                *(self._group_part(of) for of in GROUPS),
                Section("How to read this", READING),
            ],
            command=self.command,
        )

    def findings(self) -> list[str]:
        """A sentence for each pair and view."""
        whole = [each for each in self.contrasts if each.of == "all"]
        pairs = dict.fromkeys((each.system, each.base, each.view) for each in whole)
        return [
            self._finding([each for each in whole if (each.system, each.base, each.view) == pair])
            for pair in pairs
        ]

    def _finding(self, own: Sequence[Contrast]) -> str:
        by_verdict = {
            word: [metric_name(each.metric) for each in own if each.verdict == word]
            for word in ("above", "below", "not shown")
        }
        said = [
            f"{word} in {f'all {len(own)} metrics' if len(names) == len(own) else listed(names)}"
            for word, names in by_verdict.items()
            if names
        ]
        main = next(each for each in own if each.metric == GROUPED)
        wins, ties, losses = main.outcomes
        view = f" ({VIEW_NAMES.get(main.view, main.view)})" if len(self.views) > 1 else ""
        return (
            f"{main.system} against {main.base}{view}: {'; '.join(said)}. {metric_name(GROUPED)} differs by "
            f"{_points(main.mean)} points, 95% interval {_interval(main)}; {main.system} is better in "
            f"{count(wins)} sessions, equal in {count(ties)} and worse in {count(losses)}."
        )

    def caveats(self) -> list[str]:
        """What to keep in mind before believing it."""
        lone = [system.name for system in self.systems if len(system.seeds) == 1]
        found = []
        if lone:
            found.append(
                f"One seed of {listed(lone)}: how far another seed would move "
                f"{'it' if len(lone) == 1 else 'them'} is not known, and the tests say nothing of it."
            )
        fragile = [
            f"{each.system} against {each.base} in {metric_name(each.metric)}"
            for each in self.contrasts
            if each.of == "all"
            and each.verdict != "not shown"
            and each.seed_error is not None
            and abs(each.mean) < 2 * each.seed_error
        ]
        if fragile:
            found.append(
                f"Other seeds may undo what the sessions show: {'; '.join(fragile)}, where the difference is "
                "less than two standard errors over seeds."
            )
        if self.sessions < FEW_SESSIONS:
            found.append(
                f"{self.sessions} sessions are few: intervals cover less than the 95% they claim, and "
                "only large differences can be shown."
            )
        if self.split != "test":
            found.append("There are no test targets; those of validation chose the epochs, which flatters.")
        return found

    def _systems_part(self) -> Section:
        rows = [
            (
                _row_name(system.name, view, self.views),
                str(len(system.seeds)),
                *(mean_and_spread(system.means[view][metric], 2, "") for metric in METRICS),
            )
            for system in self.systems
            for view in self.views
            if view in system.means
        ]
        table = Table(("system", "seeds", *map(metric_name, METRICS)), tuple(rows))
        records = [
            {"system": system.name, "view": view, "metric": metric, "seeds": len(values)}
            | {"mean": statistics.fmean(values)}
            | {"seed_sd": statistics.stdev(values) if len(values) > 1 else None}
            | {"session_se": system.errors[view][metric]}
            for system in self.systems
            for view, row in system.means.items()
            for metric, values in row.items()
        ]
        spread = [
            (
                _row_name(system.name, view, self.views),
                metric_name(metric),
                _deviation(system.means[view][metric]),
                f"{100 * system.errors[view][metric]:.2f}",
            )
            for system in self.systems
            for view in self.views
            if view in system.means
            for metric in PICTURED
        ]
        columns = ("system", "metric", "deviation over seeds", "standard error over sessions")
        tables = {
            "systems": DataTable(table, records),
            "spread": DataTable(Table(columns, tuple(spread), title="Where the uncertainty comes from")),
        }
        return Section("The systems", [SYSTEMS_SAYS], tables=tables)

    def _whole_part(self) -> Section:
        whole = [each for each in self.contrasts if each.of == "all"]
        return Section(
            "The differences",
            [WHOLE_SAYS.format(count(len(self.contrasts)))],
            {"differences": self._whole_plot(whole)},
            {"differences": DataTable(self._table(whole, "metric"), [_record(each) for each in whole])},
        )

    def _group_part(self, of: str) -> Section:
        own = [each for each in self.contrasts if each.of == of]
        return Section(
            GROUPS[of],
            [f"{GROUP_SAYS[of]} {metric_name(GROUPED)} alone; in brackets: targets of the group."],
            {of: self._group_plot(own, of)},
            {of: DataTable(self._table(own, "group"), [_record(each) for each in own])},
        )

    def _table(self, own: Sequence[Contrast], by: str) -> Table:
        rows = tuple(
            (
                _row_name(_pair(each), each.view, self.views),
                metric_name(each.metric) if by == "metric" else each.group,
                *([count(each.sessions)] if by == "group" else []),
                _points(each.mean),
                _interval(each),
                each.verdict,
                _p(each.p_adjusted),
                " / ".join(map(count, each.outcomes)),
                "-" if each.seed_error is None else f"{100 * each.seed_error:.2f}",
            )
            for each in own
        )
        sizes = ("sessions",) if by == "group" else ()
        columns = ("systems", by, *sizes, "difference", "95% interval", "verdict", "p (Holm)")
        return Table((*columns, "better / equal / worse", "error of seeds"), rows)

    def _whole_plot(self, own: Sequence[Contrast]) -> Plot:
        panels: dict[str, list[tuple[str, Contrast]]] = {}
        for metric in PICTURED:
            for each in own:
                if each.metric == metric:
                    title = _row_name(metric_name(metric), each.view, self.views)
                    panels.setdefault(title, []).append((_in_lines(_pair(each)), each))
        return _drawn(panels, f"Differences in {listed(list(panels))} with 95% intervals.")

    def _group_plot(self, own: Sequence[Contrast], of: str) -> Plot:
        panels: dict[str, list[tuple[str, Contrast]]] = {}
        for each in own:
            title = _in_lines(_row_name(_pair(each), each.view, self.views))
            panels.setdefault(title, []).append((f"{each.group} ({count(each.targets)})", each))
        says = f"Differences in {metric_name(GROUPED)} with 95% intervals, {GROUPS[of].lower()}."
        return _drawn(panels, f"{says} In brackets: targets of the group.")


def _drawn(panels: Mapping[str, Sequence[tuple[str, Contrast]]], says: str) -> Plot:
    from alterrec.report.plots_gains import Gain, gains

    drawn = {
        title: [
            Gain(label, each.mean, each.low, each.high, each.verdict != "not shown", each.view)
            for label, each in lines
        ]
        for title, lines in panels.items()
    }
    return Plot(gains(drawn), [gains({title: lines}) for title, lines in drawn.items()], says)


def _pair(each: Contrast) -> str:
    return f"{each.system} vs {each.base}"


def _in_lines(label: str) -> str:
    """A long pair on two lines, so that names leave room for what is drawn."""
    return label.replace(" vs ", " vs\n") if len(label) > LONG_LABEL else label


def _row_name(name: str, view: str, views: Sequence[str]) -> str:
    return f"{name}, {VIEW_NAMES.get(view, view)}" if len(views) > 1 else name


def _record(each: Contrast) -> dict[str, Any]:
    facts = asdict(each)
    wins, ties, losses = facts.pop("outcomes")
    return facts | {"wins": wins, "ties": ties, "losses": losses, "verdict": each.verdict}


def _points(value: float) -> str:
    return f"{100 * value:+.2f}"


def _interval(each: Contrast) -> str:
    return f"[{_points(each.low)}, {_points(each.high)}]"


def _p(value: float) -> str:
    return "<0.001" if value < 0.001 else f"{value:.3f}"


def _deviation(values: Sequence[float]) -> str:
    return f"{100 * statistics.stdev(values):.2f}" if len(values) > 1 else "-"


SYSTEMS_SAYS = (
    "Metrics in percent; ± is one standard deviation over seeds. Two things make them uncertain, and they "
    "are apart here: another seed of training (deviation over seeds) and other sessions (standard error), "
    "both in percentage points."
)
WHOLE_SAYS = (
    "Percentage points, the first system less the second, over the same sessions. Filled: shown at the level "
    "0.05, p adjusted by Holm over all {} comparisons of this page. Hollow: not shown, which is not the same "
    "as equal; the interval says how large the difference may be."
)
READING = [
    "p: how often a difference as large would come about if the two systems were exchanged at random, "
    "session by session (paired permutation test; Smucker, Allan and Carterette 2007). Holm's correction "
    "keeps the chance of any wrong claim among all comparisons below 5%.",
    "Interval: the middle 95% of the mean difference over sessions drawn with replacement (bootstrap). It is "
    "not adjusted for being one of several.",
    "Better / equal / worse: sessions in which the metric of the first system is higher, the same, lower. Of "
    "several seeds the mean is compared.",
    "Error of seeds: the standard error of the difference from seeds alone. Where it is as large as the "
    "difference, train more seeds before you believe it.",
]

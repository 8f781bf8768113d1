"""Figure 6 of the paper: what systems gain over a reference on rare and on popular targets."""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from dataclasses import replace

from alterrec.evaluation.comparisons import Comparison
from alterrec.metrics import metric_name
from alterrec.report.comparisons import interval
from alterrec.report.figures.groups import GroupLine, group_lines
from alterrec.report.figures.style import Panel
from alterrec.report.presentation import DataTable, Plot, Presentation, Section
from alterrec.report.tables import Table, count, listed, mean_and_spread, percent
from alterrec.results import FEW_TARGETS, Group, RowResult, StudyResult
from alterrec.studies.figures import PICTURED
from alterrec.studies.words import compared, held, shown

COLOURS = {
    "alterrec": "score",
    "alterrec_aug": "neighbours",
    "nfrec_concat": "fused",
    "sasrec": "id",
    "unisrec": "text",
}
PICTURE_SAYS = (
    "Lines: a system's metric less that of REFERENCE, means over seeds; bands are one standard deviation of "
    "that difference over seeds. Bars: the share of test targets in each group, rare ones on the left. "
    f"Hollow markers rest on fewer than {FEW_TARGETS} targets; one at the edge may lie beyond it."
)
POINTS_SAY = (
    "Percentage points, where the paper has relative improvement: where the reference finds next to "
    "nothing, a ratio is large or has no value for no good reason."
)
TABLE_SAYS = "Percent; mean ± standard deviation over seeds. Groups: how often train has the target."


def longtail(study: StudyResult) -> Presentation:
    """Who gains where over the reference; lines by group, absolute values, the tests."""
    groups = groups_of(study)
    says = [PICTURE_SAYS.replace("REFERENCE", study.reference), POINTS_SAY]
    plot = {"longtail": _plot(study, groups)} if study.row(study.reference) else {}
    tests = compared(study, f"Each system less {study.reference}, group by group")
    return shown(
        study,
        title=f"Rare and popular targets on {study.data.name}: gains over {study.reference}",
        findings=findings(study),
        own_caveats=_few(groups),
        sections=[
            Section("Gain by popularity of the target (Figure 6)", says, plot),
            Section("Absolute values", [TABLE_SAYS], tables=_tables(study, groups)),
            *(replace(part, folded=True) for part in tests),
        ],
    )


def groups_of(study: StudyResult) -> list[Group]:
    """The groups of test targets that have any; they are the same in every run."""
    known = [run.groups for row in study.rows for run in row.runs if run.groups]
    return [replace(group, views={}) for group in known[0] if group.count] if known else []


def values(row: RowResult, group: str, metric: str) -> list[float]:
    """The row's metric in a group by seed."""
    return [
        each.views["score"][metric]
        for run in row.runs
        for each in run.groups
        if each.name == group and metric in each.views.get("score", {})
    ]


def gains_of(
    row: RowResult, reference: RowResult, groups: Sequence[Group], metric: str
) -> dict[str, tuple[float, float]]:
    """By group the mean over seeds less the reference's, and the deviation of a difference of two seeds."""
    gains = {}
    for group in groups:
        ours, theirs = (values(each, group.name, metric) for each in (row, reference))
        if ours and theirs:
            spread = math.hypot(*(statistics.stdev(each) for each in (ours, theirs) if len(each) > 1))
            gains[group.name] = (statistics.fmean(ours) - statistics.fmean(theirs), spread)
    return gains


def findings(study: StudyResult) -> list[str]:
    """Who gains most on the rarest targets, then what each system gains group by group."""
    if study.row(study.reference) is None:
        return [f"{study.reference}, the reference, has no numbers yet, so that nothing is held against it."]
    rivals = [row.label for row in study.rows if held(study, row.label)]
    said = [_rarest(study, rivals, metric) for metric in PICTURED]
    return [line for line in (*said, *(_of_system(study, label) for label in rivals)) if line]


def _rarest(study: StudyResult, labels: Sequence[str], metric: str) -> str:
    groups = [group for group in groups_of(study) if group.count >= FEW_TARGETS]
    known = [(label, each) for label in labels for each in _in_groups(study, label, groups[:1], metric)]
    if not known:
        return ""
    label, most = max(known, key=lambda pair: pair[1].mean)
    said = [
        f"By {metric_name(metric)}, {label} gains most over {study.reference} on the rarest targets "
        f"({_named(groups[0])}), in percentage points: {_points(most)}."
    ]
    said += [
        f"On the most popular ({_named(groups[-1])}) its gain is {_points(common)}."
        for common in _in_groups(study, label, groups[1:][-1:], metric)
    ]
    return " ".join(said)


def _of_system(study: StudyResult, label: str) -> str:
    metric = PICTURED[1]
    groups = [group for group in groups_of(study) if group.count >= FEW_TARGETS]
    whole = [each for each in held(study, label, study.reference) if each.metric == metric]
    by_group = "; ".join(
        f"{each.group or 'all targets'} {_points(each)}"
        for each in (*whole, *_in_groups(study, label, groups, metric))
    )
    return f"{label} less {study.reference} in {metric_name(metric)}: {by_group}."


def _in_groups(study: StudyResult, label: str, groups: Sequence[Group], metric: str) -> list[Comparison]:
    return [
        each
        for group in groups
        for each in held(study, label, study.reference, group.name)
        if each.metric == metric
    ]


def _points(each: Comparison) -> str:
    unsure = " (not shown)" if each.verdict == "not shown" else ""
    return f"{100 * each.mean:+.2f} {interval(each)}{unsure}"


def _named(group: Group) -> str:
    seen = "never in train" if group.name == "cold" else f"{group.name} times in train"
    return f"{seen}; {count(group.count)} targets, {percent(group.share)} of test"


def _few(groups: Sequence[Group]) -> list[str]:
    small = [f"{group.name} ({group.count})" for group in groups if group.count < FEW_TARGETS]
    if not small:
        return []
    return [
        f"Groups with fewer than {FEW_TARGETS} targets say little and are left out of the sentences above: "
        f"{listed(small)}."
    ]


def _tables(study: StudyResult, groups: Sequence[Group]) -> dict[str, DataTable]:
    """Two tables for reading, and in each .csv every number of its metric."""
    return {f"longtail_{metric.replace('@', '_')}": _table(study, groups, metric) for metric in PICTURED}


def _table(study: StudyResult, groups: Sequence[Group], metric: str) -> DataTable:
    rows: list[tuple[str, ...]] = [("targets", *(count(group.count) for group in groups))]
    records: list[dict[str, object]] = []
    for row in study.rows:
        by_group = {group.name: values(row, group.name, metric) for group in groups}
        if any(by_group.values()):
            rows.append((row.label, *map(_spread, by_group.values())))
        records += [
            {
                "system": row.label,
                "group": group.name,
                "targets": group.count,
                "share": group.share,
                "seed": run.seed,
                "metric": metric,
                "value": value,
            }
            for group in groups
            for run, value in zip(row.runs, by_group[group.name], strict=False)
        ]
    columns = (metric_name(metric), *(group.name for group in groups))
    return DataTable(Table(columns, tuple(rows)), records)


def _spread(found: Sequence[float]) -> str:
    return mean_and_spread(found, digits=2, unit="") if found else "-"


def _plot(study: StudyResult, groups: Sequence[Group]) -> Plot:
    reference = study.row(study.reference)
    metrics = {
        metric_name(metric): [
            GroupLine(row.label, COLOURS.get(row.model, "other"), gains)
            for row in study.rows
            if reference is not None and row.label != study.reference
            for gains in [gains_of(row, reference, groups, metric)]
            if gains
        ]
        for metric in PICTURED
    }
    return Plot.of(
        group_lines,
        [
            Panel(f"{name}, percentage points above {study.reference}", lines)
            for name, lines in metrics.items()
        ],
        f"Gain over {study.reference} in {listed(list(metrics))} by popularity of the target, above the "
        "share of targets in each group.",
        groups=groups,
        reference=study.reference,
    )

"""The study longtail: gains over a reference on rare and on popular targets (Figure 6 of the paper)."""

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
from alterrec.results import FEW_TARGETS, Group
from alterrec.studies.plan import ALL_SYSTEMS, Baselines, Study, StudyOptions, check_name, named_baselines
from alterrec.studies.study_report import SHOWN_METRICS, comparisons_for, comparisons_section, study_report
from alterrec.study_records import RowResult, StudyResult

SYSTEMS = ("alterrec", "alterrec_aug", "nfrec_concat", "sasrec", "unisrec", "bert4rec")
REFERENCE = "bert4rec"

COLOURS = {
    "alterrec": "score",
    "alterrec_aug": "neighbours",
    "nfrec_concat": "fused",
    "sasrec": "id",
    "unisrec": "text",
}
PLOT_NOTE = (
    "Lines show the metric of a system minus that of REFERENCE, averaged over seeds; bands are one standard "
    "deviation of this difference over seeds. Bars show the share of test targets in each group, the rarest "
    f"on the left. Hollow markers have fewer than {FEW_TARGETS} targets; a marker at the edge may be outside."
)
POINTS_NOTE = (
    "Differences are in percentage points. The paper shows relative improvement, which is large or undefined "
    "if the reference finds almost no target of a group."
)
TABLE_NOTE = (
    "Values are in percent: mean ± standard deviation over seeds. Groups are by how often the target occurs "
    "in training."
)
SMALL_NOTE = (
    f"Groups with fewer than {FEW_TARGETS} targets are too small for conclusions and are left out of the "
    "findings"
)


def report(study: StudyResult) -> Presentation:
    """Report the gain of each system over the reference in each popularity group."""
    groups = groups_of(study)
    small = [f"{group.name} ({group.count})" for group in groups if group.count < FEW_TARGETS]
    tables = {
        f"longtail_{metric.replace('@', '_')}": _table(study, groups, metric) for metric in SHOWN_METRICS
    }
    notes = [PLOT_NOTE.replace("REFERENCE", study.reference), POINTS_NOTE]
    reference = study.row(study.reference)
    plot = {"longtail": _plot(study, reference, groups)} if reference else {}
    tests = comparisons_section(study, f"Each system minus {study.reference} by group")
    return study_report(
        study,
        title=f"Rare and popular targets on {study.data.name}: gains over {study.reference}",
        findings=findings(study),
        own_caveats=[f"{SMALL_NOTE}: {listed(small)}."] if small else [],
        sections=[
            Section("Gain by popularity of the target (Figure 6)", notes, plot),
            Section("Absolute values", [TABLE_NOTE], tables=tables),
            *(replace(section, folded=True) for section in tests),
        ],
    )


def groups_of(study: StudyResult) -> list[Group]:
    """Return the popularity groups that have test targets; they are the same in every run."""
    known = [run.groups for row in study.rows for run in row.runs if run.groups]
    return [replace(group, views={}) for group in known[0] if group.count] if known else []


def values(row: RowResult, group: str, metric: str) -> list[float]:
    """Return the metric of a row in a group by seed."""
    return [
        each.views["score"][metric]
        for run in row.runs
        for each in run.groups
        if each.name == group and metric in each.views.get("score", {})
    ]


def gains_of(
    row: RowResult, reference: RowResult, groups: Sequence[Group], metric: str
) -> dict[str, tuple[float, float]]:
    """Return group -> (difference of the means over seeds, standard deviation of that difference)."""
    gains = {}
    for group in groups:
        ours, theirs = (values(each, group.name, metric) for each in (row, reference))
        if ours and theirs:
            spread = math.hypot(*(statistics.stdev(each) for each in (ours, theirs) if len(each) > 1))
            gains[group.name] = (statistics.fmean(ours) - statistics.fmean(theirs), spread)
    return gains


def findings(study: StudyResult) -> list[str]:
    """Report which system gains most on the rarest targets, then the gain of each system by group."""
    if study.row(study.reference) is None:
        return [f"The reference {study.reference} has no numbers yet, so nothing can be compared with it."]
    labels = [row.label for row in study.rows if comparisons_for(study, row.label)]
    rarest = [_rarest(study, labels, metric) for metric in SHOWN_METRICS]
    return [line for line in (*rarest, *(_of_system(study, label) for label in labels)) if line]


def _rarest(study: StudyResult, labels: Sequence[str], metric: str) -> str:
    groups = [group for group in groups_of(study) if group.count >= FEW_TARGETS]
    known = [(label, each) for label in labels for each in _in_groups(study, label, groups[:1], metric)]
    if not known:
        return ""
    label, most = max(known, key=lambda pair: pair[1].mean)
    lines = [
        f"{metric_name(metric)}: on the rarest targets ({_described(groups[0])}), {label} has the largest "
        f"gain over {study.reference}: {_points(most)} percentage points."
    ]
    lines += [
        f"On the most popular targets ({_described(groups[-1])}), its gain is {_points(common)}."
        for common in _in_groups(study, label, groups[1:][-1:], metric)
    ]
    return " ".join(lines)


def _of_system(study: StudyResult, label: str) -> str:
    metric = SHOWN_METRICS[1]
    groups = [group for group in groups_of(study) if group.count >= FEW_TARGETS]
    whole = [each for each in comparisons_for(study, label, study.reference) if each.metric == metric]
    by_group = "; ".join(
        f"{each.group or 'all targets'} {_points(each)}"
        for each in (*whole, *_in_groups(study, label, groups, metric))
    )
    return f"{label} minus {study.reference} in {metric_name(metric)}: {by_group}."


def _in_groups(study: StudyResult, label: str, groups: Sequence[Group], metric: str) -> list[Comparison]:
    return [
        each
        for group in groups
        for each in comparisons_for(study, label, study.reference, group.name)
        if each.metric == metric
    ]


def _points(each: Comparison) -> str:
    remark = " (not significant)" if each.verdict == "not shown" else ""
    return f"{100 * each.mean:+.2f} {interval(each)}{remark}"


def _described(group: Group) -> str:
    seen = "never in training" if group.name == "cold" else f"{group.name} times in training"
    return f"{seen}; {count(group.count)} targets, {percent(group.share)} of test"


def _table(study: StudyResult, groups: Sequence[Group], metric: str) -> DataTable:
    """Return a metric of each row by group; the records have the value of every seed."""
    rows: list[tuple[str, ...]] = [("targets", *(count(group.count) for group in groups))]
    records: list[dict[str, object]] = []
    for row in study.rows:
        by_group = {group.name: values(row, group.name, metric) for group in groups}
        if any(by_group.values()):
            cells = (mean_and_spread(each, 2, "") if each else "-" for each in by_group.values())
            rows.append((row.label, *cells))
        for group in groups:
            same = {"system": row.label, "group": group.name, "targets": group.count, "share": group.share}
            for run, value in zip(row.runs, by_group[group.name], strict=False):
                records.append(same | {"seed": run.seed, "metric": metric, "value": value})
    columns = (metric_name(metric), *(group.name for group in groups))
    return DataTable(Table(columns, tuple(rows)), records)


def _plot(study: StudyResult, reference: RowResult, groups: Sequence[Group]) -> Plot:
    panels = []
    for metric in SHOWN_METRICS:
        lines = [
            GroupLine(row.label, COLOURS.get(row.model, "other"), gains)
            for row in study.rows
            if row.label != reference.label and (gains := gains_of(row, reference, groups, metric))
        ]
        title = f"{metric_name(metric)}, percentage points above {reference.label}"
        panels.append(Panel(title, lines))
    caption = (
        f"Gain over {reference.label} in {listed([*map(metric_name, SHOWN_METRICS)])} by popularity of the "
        "target, and the share of targets in each group."
    )
    return Plot.of(group_lines, panels, caption, groups=groups, reference=reference.label)


def complete(options: StudyOptions) -> StudyOptions:
    """Add the reference to the systems."""
    reference = options.reference or REFERENCE
    check_name("--reference", reference, ALL_SYSTEMS)
    return replace(options, reference=reference, only=(*(options.only or SYSTEMS), reference))


def baselines(options: StudyOptions) -> Baselines:
    """Compare every other row with the reference."""
    others = [label for label in options.only if label != options.reference]
    return named_baselines(dict.fromkeys(others, (options.reference,)))


STUDY = Study(
    name="longtail",
    summary="gains of systems over a reference by popularity of the target (Figure 6)",
    systems=SYSTEMS,
    report=report,
    complete=complete,
    accepts=("reference",),
    choices=ALL_SYSTEMS,
    baselines=baselines,
    by_group=True,
)

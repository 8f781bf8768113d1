"""The study table1: every system under one protocol (Table 1 of the paper)."""

from __future__ import annotations

from dataclasses import replace

from alterrec.models.catalogue import MODELS
from alterrec.report.presentation import Presentation, Section
from alterrec.studies.joint import joint_section
from alterrec.studies.own_items import alternation_finding
from alterrec.studies.plan import ALL_SYSTEMS, Study, StudyOptions, best_baseline
from alterrec.studies.study_report import (
    SEEDS_NOTE,
    answer,
    comparisons_for,
    comparisons_section,
    differences,
    marks,
    metric_data,
    notes,
    study_report,
    systems_plot,
)
from alterrec.study_records import RowResult, StudyResult

QUICK_SYSTEMS = tuple(name for name, entry in MODELS.items() if entry.quick)
MEANINGS = {
    "score": "AlterRec",
    "id": "AlterRec without a part of it",
    "other": "other trained systems",
    "baseline": "systems without training",
}
BASELINE_NOTE = (
    "Each row of AlterRec minus the baseline with the best test mean. Choosing the baseline on test favours "
    "the baselines."
)


def report(study: StudyResult) -> Presentation:
    """Report whether AlterRec is better than all baselines."""
    return study_report(
        study,
        title=f"Table 1 on {study.data.name}",
        findings=findings(study),
        sections=[
            Section(
                "All systems",
                tables={"table1": metric_data(study, marks(study))},
                footnotes=notes(study, "the best baseline of the column"),
            ),
            Section(
                "Metrics of all systems",
                [SEEDS_NOTE],
                {"systems": systems_plot(study.rows, _colour, MEANINGS)},
            ),
            *comparisons_section(study, "Comparison with the best baseline", BASELINE_NOTE),
        ],
    )


def findings(study: StudyResult) -> list[str]:
    """Compare each row of AlterRec with the best baseline, and tell the best row and what own items cost."""
    number = len(study.kinds("baseline"))
    baselines = f"all {number} baselines" if number > 1 else "the only baseline"
    lines = []
    for row in study.kinds("ours") if study.comparisons else ():
        comparisons = comparisons_for(study, row.label)
        by_metric = "; ".join(f"{differences([each])} ({each.baseline})" for each in comparisons)
        lines.append(
            f"Is {row.label} better than {baselines}? {answer(comparisons)}. Difference from the best "
            f"baseline in each metric, in percentage points with 95% intervals: {by_metric}."
        )
    means = {row.label: row.mean("ndcg@20") or 0.0 for row in study.rows if row.runs}
    if means:
        best = max(means, key=means.__getitem__)
        lines.append(f"{best} has the highest NDCG@20, {100 * means[best]:.2f}%.")
    return [*lines, *alternation_finding(study)]


def _colour(row: RowResult) -> str:
    kinds = {"ours": "score", "ablation": "id"}
    return kinds.get(row.kind, "other" if row.trains else "baseline")


def complete(options: StudyOptions) -> StudyOptions:
    """Search the settings of all systems; ``quick`` omits some systems."""
    return replace(options, search=True, only=options.only or (QUICK_SYSTEMS if options.quick else ()))


STUDY = Study(
    name="table1",
    summary="every system under one protocol, with deviations over seeds and paired tests (Table 1)",
    systems=ALL_SYSTEMS,
    report=report,
    complete=complete,
    baselines=lambda _: best_baseline,
    joint=lambda parts: joint_section(
        "All systems", "table1", parts, marks=marks, against="the best baseline of the column"
    ),
)

"""The study ablation: the contribution of each part of AlterRec (Table 2 of the paper)."""

from __future__ import annotations

from alterrec.report.presentation import DataTable, Presentation, Section
from alterrec.report.tables import Table
from alterrec.studies.joint import joint_section
from alterrec.studies.own_items import alternation_finding
from alterrec.studies.plan import Study, named_baselines
from alterrec.studies.study_report import (
    SEEDS_NOTE,
    SHOWN_METRICS,
    answer,
    baseline_marks,
    comparisons_for,
    comparisons_section,
    differences,
    gains_section,
    metric_data,
    notes,
    study_report,
    systems_plot,
)
from alterrec.study_records import StudyResult

WHOLE = "alterrec"
# The variant with which AlterRec is compared -> the question that this answers.
QUESTIONS = {
    "alterrec_random": "Are hard negatives better than random ones?",
    "alterrec_wo_text": "Does text improve on ID alone?",
    "alterrec_wo_id": "Does ID improve on text alone?",
    "independent": "Is alternation better than training the two networks independently?",
}
VARIANTS = {
    WHOLE: "an ID and a text network trained in turn; negatives are items that the other network ranks high",
    "alterrec_random": "the same schedule with random negatives, so the networks do not interact",
    "alterrec_wo_text": "the ID network alone with random negatives",
    "alterrec_wo_id": "the text network alone with random negatives",
    "independent": "both networks, each trained on the whole catalogue; their scores are summed afterwards",
}
COLOURS = {WHOLE: "score", "alterrec_wo_text": "id", "alterrec_wo_id": "text"}
MEANINGS = {
    "score": "alterrec",
    "id": "ID alone",
    "text": "text alone",
    "other": "both parts, trained differently",
}
GAINS_NOTE = "alterrec minus each variant; right of the line, alterrec is better."
TWO_CAUSES = (
    "A single network cannot take hard negatives from another, so alterrec_wo_text and alterrec_wo_id have "
    "random ones. The gain of alterrec over them has two causes, the second modality and the negatives; the "
    "gain of alterrec_random over them has one, the modality."
)


def report(study: StudyResult) -> Presentation:
    """Report the contribution of hard negatives, of each modality and of alternation."""
    variants = [(row.label, VARIANTS[row.model]) for row in study.rows]
    gains = [
        (f"minus {variant}", COLOURS.get(variant, "other"), found)
        for variant in QUESTIONS
        for found in comparisons_for(study, WHOLE, variant)
    ]
    bars = systems_plot(study.rows, lambda row: COLOURS.get(row.model, "other"), MEANINGS)
    return study_report(
        study,
        title=f"Contribution of each part of AlterRec on {study.data.name}",
        findings=findings(study),
        own_caveats=[TWO_CAUSES] if study.row("alterrec_wo_text") or study.row("alterrec_wo_id") else [],
        rows=study.rows,
        sections=[
            Section(
                "AlterRec and its variants (Table 2)",
                tables={
                    "ablation": metric_data(study, baseline_marks(study), study.rows),
                    "variants": DataTable(Table(("system", "description"), tuple(variants), prose=True)),
                },
                footnotes=notes(study, WHOLE, study.rows),
            ),
            Section("Metrics by variant", [SEEDS_NOTE], {"systems": bars}),
            *gains_section("Contribution of each part", [GAINS_NOTE], gains),
            *comparisons_section(study, "AlterRec minus each variant"),
        ],
    )


def findings(study: StudyResult) -> list[str]:
    """Answer each question whose rows have numbers, and compare what the session's own items cost."""
    lines = [
        f"{question} {answer(found)}. {WHOLE} minus {variant}, in percentage points with 95% intervals: "
        f"{shown}."
        for variant, question in QUESTIONS.items()
        if (found := comparisons_for(study, WHOLE, variant))
        for shown in [differences([each for each in found if each.metric in SHOWN_METRICS])]
    ]
    return [*lines, *alternation_finding(study)]


STUDY = Study(
    name="ablation",
    summary="the contribution of hard negatives, each modality and alternation to AlterRec (Table 2)",
    systems=tuple(VARIANTS),
    report=report,
    baselines=lambda _: named_baselines({WHOLE: tuple(QUESTIONS)}),
    joint=lambda parts: joint_section(
        "AlterRec and its variants (Table 2)",
        "ablation",
        parts,
        marks=baseline_marks,
        against=WHOLE,
        order=lambda part: part.rows,
    ),
)

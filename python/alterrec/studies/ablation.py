"""Table 2 of the paper: what each part of AlterRec gives, and whether alternation beats training apart."""

from __future__ import annotations

from alterrec.evaluation.comparisons import Comparison
from alterrec.report.presentation import DataTable, Presentation, Section
from alterrec.report.tables import Table
from alterrec.results import RowResult, StudyResult
from alterrec.studies.figures import PICTURED, SEEDS_SAY, gains_part, systems_plot
from alterrec.studies.tables import metric_data, notes, rival_marks
from alterrec.studies.words import answer, compared, differences, held, shown

WHOLE = "alterrec"
# What the whole is held against -> what that asks.
QUESTIONS = {
    "alterrec_random": "Do hard negatives give more than random ones?",
    "alterrec_wo_text": "Does text add to ID?",
    "alterrec_wo_id": "Does ID add to text?",
    "independent": "Does alternation give more than training the two networks apart?",
}
VARIANTS = {
    WHOLE: "an ID and a text network in turns; negatives are items that the other network ranks high",
    "alterrec_random": "the same turns, negatives drawn at random: neither network tells the other anything",
    "alterrec_wo_text": "the ID network alone, random negatives",
    "alterrec_wo_id": "the text network alone, random negatives",
    "independent": "both networks, each trained on the whole catalogue, their scores summed afterwards",
}
COLOURS = {WHOLE: "score", "alterrec_wo_text": "id", "alterrec_wo_id": "text"}
PICTURE_SAYS = (
    f"{SEEDS_SAY} Blue: alterrec. Orange: ID alone. Green: text alone. Grey: both, trained in another way."
)
GAINS_SAY = "alterrec less each variant; right of the line alterrec is better."
TWO_CAUSES = (
    "A network alone has no other to take hard negatives from, so those of alterrec_wo_text and "
    "alterrec_wo_id are random. What alterrec gains over them comes of the second modality and of the "
    "negatives together; what alterrec_random gains comes of the modality alone."
)


def ablation(study: StudyResult) -> Presentation:
    """What hard negatives, each modality and alternation give; the table, the picture and the tests."""
    variants = [(row.label, VARIANTS[row.model]) for row in study.rows]
    return shown(
        study,
        title=f"What each part of AlterRec gives on {study.data.name}",
        findings=findings(study),
        own_caveats=_two_causes(study),
        sections=[
            Section(
                "AlterRec and its variants (Table 2)",
                tables={
                    "ablation": metric_data(study, rival_marks(study), study.rows),
                    "variants": DataTable(Table(("system", "what it is"), tuple(variants), prose=True)),
                },
                footnotes=notes(study, WHOLE, study.rows),
            ),
            Section("In pictures", [PICTURE_SAYS], {"systems": systems_plot(study.rows, _colour)}),
            *gains_part("What each part gives", [GAINS_SAY], _gains(study)),
            *compared(study, "AlterRec less each variant"),
        ],
    )


def findings(study: StudyResult) -> list[str]:
    """The answer to each question, as far as its rows have numbers."""
    return [
        f"{question} {answer(own)}. {WHOLE} less {rival}, in percentage points with 95% intervals: {shown}."
        for rival, question in QUESTIONS.items()
        if (own := held(study, WHOLE, rival))
        for shown in [differences([each for each in own if each.metric in PICTURED])]
    ]


def _two_causes(study: StudyResult) -> list[str]:
    return [TWO_CAUSES] if study.row("alterrec_wo_text") or study.row("alterrec_wo_id") else []


def _gains(study: StudyResult) -> list[tuple[str, str, Comparison]]:
    return [
        (f"less {rival}", COLOURS.get(rival, "other"), found)
        for rival in QUESTIONS
        for found in held(study, WHOLE, rival)
    ]


def _colour(row: RowResult) -> str:
    return COLOURS.get(row.model, "other")

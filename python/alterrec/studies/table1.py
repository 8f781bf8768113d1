"""Table 1 of the paper: every system under one protocol, in words, as tables and as a picture."""

from __future__ import annotations

from alterrec.report.presentation import Presentation, Section
from alterrec.results import RowResult, StudyResult
from alterrec.studies.figures import SEEDS_SAY, systems_plot
from alterrec.studies.tables import marks, metric_data, notes
from alterrec.studies.words import answer, compared, differences, held, shown

PICTURE_SAYS = f"{SEEDS_SAY} Coloured: AlterRec's rows. Light grey: systems that train no network."
RIVAL_SAYS = "Each row of ours less the best baseline by test mean, which favours the baselines."


def table1(study: StudyResult) -> Presentation:
    """Whether ours is above all baselines, the table, the picture, the tests and what it took."""
    return shown(
        study,
        title=f"Table 1 on {study.data.name}",
        findings=findings(study),
        sections=[
            Section(
                "Every system",
                tables={"table1": metric_data(study, marks(study))},
                footnotes=notes(study, "the best baseline of the column"),
            ),
            Section("In pictures", [PICTURE_SAYS], {"systems": systems_plot(study.rows, _colour)}),
            *compared(study, "Against the best baseline", RIVAL_SAYS),
        ],
    )


def findings(study: StudyResult) -> list[str]:
    """Whether each row of ours is above all baselines, by the numbers; and the best row."""
    said = [_claim(study, row.label) for row in study.kinds("ours") if study.comparisons]
    best = max((row for row in study.rows if row.runs), key=lambda row: row.mean("ndcg@20") or 0.0)
    shown = f"{100 * (best.mean('ndcg@20') or 0.0):.2f}%"
    return [*said, f"The highest NDCG@20 is that of {best.label}, {shown}."]


def _claim(study: StudyResult, label: str) -> str:
    own = held(study, label)
    number = len(study.kinds("baseline"))
    each_of_them = "; ".join(f"{differences([each])} ({each.baseline})" for each in own)
    asked = f"Is {label} above {f'all {number} baselines' if number > 1 else 'the one baseline'}?"
    return (
        f"{asked} {answer(own)}. "
        f"Percentage points against the best of them in each metric, with 95% intervals: {each_of_them}."
    )


def _colour(row: RowResult) -> str:
    kinds = {"ours": "score", "ablation": "id"}
    return kinds.get(row.kind, "other" if row.trains else "baseline")

"""The study fusion: models of ID and text compared with each part trained alone (Figures 2 and 8)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from alterrec.evaluation.comparisons import Comparison
from alterrec.metrics import metric_name
from alterrec.models.catalogue import MODELS
from alterrec.report.figures.bars import Bar, BarCluster, clustered_bars
from alterrec.report.figures.style import Panel
from alterrec.report.presentation import Plot, Presentation, Section
from alterrec.report.tables import listed
from alterrec.studies.joint import joint_section
from alterrec.studies.plan import Study, named_baselines
from alterrec.studies.study_report import (
    SEEDS_NOTE,
    SHOWN_METRICS,
    answer,
    comparisons_for,
    comparisons_section,
    differences,
    gains_section,
    metric_data,
    notes,
    study_report,
)
from alterrec.study_records import RowResult, StudyResult


class FusedModel(NamedTuple):
    """A model that fuses ID and text, and its parts trained alone, by the labels of their rows."""

    name: str
    fused: str
    id: str
    text: str


NAMES = {"nfrec_sum": "NFRec-sum", "nfrec_concat": "NFRec-concat", "unisrec": "UniSRec", "fdsa": "FDSA"}
FUSIONS = tuple(FusedModel(name, model, **MODELS[model].parts) for model, name in NAMES.items())
# Each fused model is compared with its parts, and each text part with its ID part.
BASELINES: dict[str, tuple[str, ...]] = {each.fused: (each.id, each.text) for each in FUSIONS}
BASELINES |= {each.text: (each.id,) for each in FUSIONS}

BARS_NOTE = f"{SEEDS_NOTE} Encoder, score and loss are the same in all three."
GAINS_NOTE = "The fused model minus each part trained alone; right of the line, fusion is better."
BETTER_NOTE = (
    "In the findings, the better part is the one with the higher test mean in that metric. Choosing it on "
    "test favours the part over the fused model."
)


def report(study: StudyResult) -> Presentation:
    """Report for each model whether fusion is better than its better part."""
    return study_report(
        study,
        title=f"Is fusing ID and text better than either alone? Results on {study.data.name}",
        findings=findings(study),
        sections=[
            Section("Fused, ID alone, text alone (Figures 2 and 8)", [BARS_NOTE], {"fusion": bars(study)}),
            *gains_section("Gain from fusion", [GAINS_NOTE, BETTER_NOTE], _gains(study)),
            Section(
                "All systems",
                tables={"rows": metric_data(study, rows=study.rows)},
                footnotes=notes(study, rows=study.rows),
            ),
            *comparisons_section(study, "Fused model minus each part, and text minus ID"),
        ],
    )


def findings(study: StudyResult) -> list[str]:
    """Count the models that gain from fusion, then give the gain and the stronger part of each model."""
    lines = [_summary(study, metric) for metric in SHOWN_METRICS]
    for each in FUSIONS:
        found = [gain for metric in SHOWN_METRICS if (gain := better_part(study, each, metric))]
        gains = ", ".join(f"{differences([gain])} over {gain.baseline}" for gain in found)
        lines.append(_answered(f"Is fusion in {each.name} better than its better part?", found, gains))
    for text in dict.fromkeys(each.text for each in FUSIONS):
        models = [each for each in FUSIONS if each.text == text]
        found = [gain for gain in comparisons_for(study, text, models[0].id) if gain.metric in SHOWN_METRICS]
        question = f"Is the text part of {listed([each.name for each in models])} better than the ID part?"
        lines.append(_answered(question, found, differences(found)))
    return [line for line in lines if line]


def _answered(question: str, comparisons: Sequence[Comparison], gains: str) -> str:
    return f"{question} {answer(comparisons)}. In percentage points: {gains}." if comparisons else ""


def better_part(study: StudyResult, each: FusedModel, metric: str) -> Comparison | None:
    """Return the comparison with the part of the higher test mean; None unless all three have numbers."""
    parts = [row for label in (each.id, each.text) if (row := study.row(label))]
    if len(parts) < 2:
        return None
    best = max(parts, key=lambda row: row.mean(metric) or 0.0)
    comparisons = comparisons_for(study, each.fused, best.label)
    return next((found for found in comparisons if found.metric == metric), None)


def bars(study: StudyResult) -> Plot:
    """Draw a cluster of three bars for each model."""
    known = [each for each in FUSIONS if study.row(each.fused)]
    panels = [
        Panel(f"{metric_name(metric)} in percent", [_cluster(study, each, metric) for each in known])
        for metric in SHOWN_METRICS
    ]
    metrics, models = listed([*map(metric_name, SHOWN_METRICS)]), listed([each.name for each in known])
    caption = f"Bars of test {metrics}: fused, ID alone and text alone of {models}."
    legend = {"ID and text fused": "score", "ID trained alone": "id", "text trained alone": "text"}
    return Plot.of(clustered_bars, panels, caption, legend)


def _cluster(study: StudyResult, each: FusedModel, metric: str) -> BarCluster:
    parts = (("fused", each.fused, "score"), ("ID", each.id, "id"), ("text", each.text, "text"))
    found = [
        Bar(name, row.values(metric), colour, bold=name == "fused", error=_error(row, metric))
        for name, label, colour in parts
        if (row := study.row(label)) and row.runs
    ]
    return BarCluster(each.name, found)


def _error(row: RowResult, metric: str) -> float | None:
    return row.runs[0].errors.get(metric) if len(row.runs) == 1 else None


def _gains(study: StudyResult) -> list[tuple[str, str, Comparison]]:
    return [
        (f"{each.name} minus {word}", part, found)
        for each in FUSIONS
        for part, word in (("id", "ID"), ("text", "text"))
        for found in comparisons_for(study, each.fused, each._asdict()[part])
    ]


def _summary(study: StudyResult, metric: str) -> str:
    verdicts = {each.name: found.verdict for each in FUSIONS if (found := better_part(study, each, metric))}
    if not verdicts:
        return ""
    above, below = (
        [name for name, verdict in verdicts.items() if verdict == each] for each in ("above", "below")
    )
    rest = len(verdicts) - len(above) - len(below)
    return (
        f"{metric_name(metric)}: fusion is above the better part in {_number(above)} of {len(verdicts)} "
        f"models and below it in {_number(below)}"
        f"{f'; in {rest} the difference is not significant' if rest else ''}."
    )


def _number(names: Sequence[str]) -> str:
    return f"{len(names)} ({listed(names)})" if names else "none"


STUDY = Study(
    name="fusion",
    summary="models that fuse ID and text, compared with each part trained alone (Figures 2 and 8)",
    systems=tuple(dict.fromkeys(row for each in FUSIONS for row in (each.fused, each.id, each.text))),
    report=report,
    baselines=lambda _: named_baselines(BASELINES),
    joint=lambda parts: joint_section("All systems", "rows", parts, order=lambda part: part.rows),
)

"""Figures 2 and 8 of the paper: models that fuse ID and text, against each part of theirs trained alone."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from alterrec.evaluation.comparisons import Comparison
from alterrec.metrics import metric_name
from alterrec.report.figures.bars import Bar, BarCluster, clustered_bars
from alterrec.report.figures.style import Panel
from alterrec.report.presentation import Plot, Presentation, Section
from alterrec.report.tables import listed
from alterrec.results import StudyResult
from alterrec.studies.figures import PICTURED, SEEDS_SAY, gains_part
from alterrec.studies.tables import metric_data, notes
from alterrec.studies.words import answer, compared, differences, held, shown


class FusedModel(NamedTuple):
    """A model that fuses, and its parts trained alone, by the labels of their rows."""

    name: str
    fused: str
    id: str
    text: str


FUSIONS = (
    FusedModel("NFRec-sum", "nfrec_sum", "id_only", "text_only"),
    FusedModel("NFRec-concat", "nfrec_concat", "id_only", "text_only"),
    FusedModel("UniSRec", "unisrec", "unisrec_id", "unisrec_text"),
    FusedModel("FDSA", "fdsa", "fdsa_id", "fdsa_text"),
)
FUSION_MODELS = tuple(dict.fromkeys(row for each in FUSIONS for row in (each.fused, each.id, each.text)))
# Each fused model against its parts, and each text part against its ID part.
FUSION_RIVALS: dict[str, tuple[str, ...]] = {each.fused: (each.id, each.text) for each in FUSIONS}
FUSION_RIVALS |= {each.text: (each.id,) for each in FUSIONS}

BARS_SAY = (
    f"{SEEDS_SAY} Blue: ID and text fused. Orange: the ID part trained alone. Green: the text part trained "
    "alone. Encoder, score and loss are the same in all three."
)
GAINS_SAY = "Fused less each part trained alone; right of the line fusing is better."
BETTER_SAYS = (
    "In the sentences at the top, the better part is the one with the higher mean on test in that metric, "
    "which favours the part: it is chosen by the numbers it is judged by."
)


def fusion(study: StudyResult) -> Presentation:
    """Whether fusing beats its better part, model by model: bars, gains, the table and the tests."""
    return shown(
        study,
        title=f"Does fusing ID and text beat either alone? On {study.data.name}",
        findings=findings(study),
        sections=[
            Section("Fused, ID alone, text alone (Figures 2 and 8)", [BARS_SAY], {"fusion": bars(study)}),
            *gains_part("What fusing gives", [GAINS_SAY, BETTER_SAYS], _gains(study)),
            Section(
                "Every row",
                tables={"rows": metric_data(study, rows=study.rows)},
                footnotes=notes(study, rows=study.rows),
            ),
            *compared(study, "Fused less each part, and text less ID"),
        ],
    )


def findings(study: StudyResult) -> list[str]:
    """How many models gain by fusing; then each: by how much, and which of its parts is stronger."""
    said = [_summary(study, metric) for metric in PICTURED]
    said += [_gain(study, each) for each in FUSIONS]
    said += [_stronger(study, text) for text in dict.fromkeys(each.text for each in FUSIONS)]
    return [line for line in said if line]


def better_part(study: StudyResult, each: FusedModel, metric: str) -> Comparison | None:
    """The fused model against that of its parts which has the higher mean on test; None without all three."""
    parts = [row for label in (each.id, each.text) if (row := study.row(label))]
    if len(parts) < 2:
        return None
    best = max(parts, key=lambda row: row.mean(metric) or 0.0)
    return next((found for found in held(study, each.fused, best.label) if found.metric == metric), None)


def bars(study: StudyResult) -> Plot:
    """A cluster of three bars a model."""
    known = [each for each in FUSIONS if study.row(each.fused)]
    panels = [
        Panel(f"{metric_name(metric)} in percent", [_cluster(study, each, metric) for each in known])
        for metric in PICTURED
    ]
    return Plot.of(
        clustered_bars,
        panels,
        f"Bars of {listed([*map(metric_name, PICTURED)])} on test: fused, ID alone and text alone of "
        f"{listed([each.name for each in known])}.",
    )


def _cluster(study: StudyResult, each: FusedModel, metric: str) -> BarCluster:
    parts = (("fused", each.fused, "score"), ("ID", each.id, "id"), ("text", each.text, "text"))
    return BarCluster(
        each.name,
        [
            Bar(name, row.values(metric), colour, bold=name == "fused")
            for name, label, colour in parts
            if (row := study.row(label))
        ],
    )


def _gains(study: StudyResult) -> list[tuple[str, str, Comparison]]:
    return [
        (f"{each.name} less {word}", part, found)
        for each in FUSIONS
        for part, word in (("id", "ID"), ("text", "text"))
        for found in held(study, each.fused, each._asdict()[part])
    ]


def _summary(study: StudyResult, metric: str) -> str:
    verdicts = {each.name: found.verdict for each in FUSIONS if (found := better_part(study, each, metric))}
    if not verdicts:
        return ""
    above = [name for name, verdict in verdicts.items() if verdict == "above"]
    below = [name for name, verdict in verdicts.items() if verdict == "below"]
    rest = len(verdicts) - len(above) - len(below)
    return (
        f"By {metric_name(metric)}, of {len(verdicts)} models fusing is above the better of its two parts in "
        f"{_some(above)} and below it in {_some(below)}{f'; in {rest} neither is shown' if rest else ''}."
    )


def _some(names: Sequence[str]) -> str:
    return f"{len(names)} ({listed(names)})" if names else "none"


def _gain(study: StudyResult, each: FusedModel) -> str:
    own = [found for metric in PICTURED if (found := better_part(study, each, metric))]
    gains = ", ".join(f"{differences([found])} over {found.baseline}" for found in own)
    asked = f"Does fusing in {each.name} beat the better part?"
    return f"{asked} {answer(own)}. In percentage points: {gains}." if own else ""


def _stronger(study: StudyResult, text: str) -> str:
    models = [each for each in FUSIONS if each.text == text]
    own = [found for found in held(study, text, models[0].id) if found.metric in PICTURED]
    if not own:
        return ""
    names = listed([each.name for each in models])
    return f"Is the text part of {names} stronger than its ID part? {answer(own)}. {differences(own)}."

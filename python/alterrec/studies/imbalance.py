"""The study imbalance: ID and text inside naive fusion, compared with each alone (Figures 3 and 9)."""

from __future__ import annotations

import statistics
from collections.abc import Iterator, Sequence

from alterrec.metrics import metric_name
from alterrec.models.catalogue import MODELS
from alterrec.report.presentation import Presentation, Section
from alterrec.report.tables import mean_and_spread, percent
from alterrec.report.training_curves import (
    BY_EPOCH,
    Measure,
    Member,
    best_epoch_table,
    exceeds_seed_noise,
    loss,
    metric_of,
    number,
    paired,
    points,
    ratios,
    training_curves_of,
)
from alterrec.studies.plan import Study
from alterrec.studies.study_report import curves_plot, study_report
from alterrec.studies.study_result import add_curves
from alterrec.study_records import StudyResult

FUSION = "nfrec_concat"
PARTS = {"id": "ID", "text": "text"}
ALONE = MODELS[FUSION].parts
CURVES_NOTE = (
    "Solid lines: NFRec, which concatenates ID and text vectors, and its parts, each scored by its own "
    "columns (Eq. 7-8). Dashed lines: each part trained alone. Training loss is the cross-entropy over the "
    "whole catalogue on one sample of training prefixes, the same for all models, without dropout; lower is "
    "better."
)
TABLE_NOTE = (
    "Values are at the epoch that validation chose for each run. Share of gradient: the share of a part in "
    "the sum of the gradient norms of the ID and the text columns of the item table, averaged over the "
    "epochs up to the best one."
)


def report(study: StudyResult) -> Presentation:
    """Report how much of its performance alone each part keeps inside naive fusion."""
    known = members(study)
    return study_report(
        study,
        title=f"Imbalance in naive fusion on {study.data.name} (Figures 3, 9)",
        findings=findings(study),
        sections=[
            Section("By epoch", [BY_EPOCH, CURVES_NOTE], curves_plot("imbalance", known, study.pictured)),
            Section(
                "At the best epoch", [TABLE_NOTE], tables={"parts": best_epoch_table(known, study.pictured)}
            ),
        ],
    )


def members(study: StudyResult) -> list[Member]:
    """Return the fused model, its parts and each part alone, if they have finished runs."""
    fused = training_curves_of(study, FUSION)
    found = [Member("NFRec", "score", "score", fused)]
    for part, name in PARTS.items():
        found.append(Member(f"{name} in NFRec", part, part, fused))
        found.append(
            Member(f"{name} only", part, "score", training_curves_of(study, ALONE[part]), alone=True)
        )
    return [member for member in found if member.curves]


def findings(study: StudyResult) -> list[str]:
    """Report what each part keeps inside fusion, which part loses more, and the gain from fusion."""
    known = {member.label: member for member in members(study)}
    measure = metric_of(study.pictured)
    name = f"validation {metric_name(study.pictured)}"
    kept: dict[str, dict[int, float]] = {}
    behind: list[str] = []
    for part, word in PARTS.items():
        inside, alone = known.get(f"{word} in NFRec"), known.get(f"{word} only")
        if inside is not None and alone is not None:
            first, second = inside.at_best(measure), alone.at_best(measure)
            kept[part] = ratios(first, second)
            if gaps := paired(first, second):
                behind.append(
                    f"{_capital(inside.label)} reaches {percent(_mean(first))} {name} at its best epoch, "
                    f"{alone.label} {percent(_mean(second))}: {points(gaps)}{_noise(gaps)}."
                )
    lines = [*_loses_more(kept, name), *behind, *_losses(known), *_gain(known, measure, name)]
    return lines or [f"{FUSION} and its parts alone have no finished runs yet, so nothing can be compared."]


def _noise(gaps: Sequence[float]) -> str:
    within = len(gaps) > 1 and not exceeds_seed_noise(gaps)
    return ", which is within the variation between seeds" if within else ""


def _loses_more(kept: dict[str, dict[int, float]], name: str) -> Iterator[str]:
    """Report which part keeps less of what it reaches alone, if the seeds agree."""
    if len(kept) < 2 or not all(kept.values()):
        return
    less, more = sorted(kept, key=lambda part: _mean(kept[part]))
    shares = {part: mean_and_spread([*values.values()], 0) for part, values in kept.items()}
    both = (
        f"{PARTS[less]} keeps {shares[less]} of what it reaches alone, {PARTS[more]} keeps {shares[more]} "
        f"({name} at the ringed epochs)"
    )
    gaps = paired(kept[more], kept[less])
    if _mean(kept[less]) >= 1:
        yield f"Neither part loses performance: inside NFRec, {both}."
    elif len(gaps) > 1 and not exceeds_seed_noise(gaps):
        yield f"The seeds do not agree on which part loses more: inside NFRec, {both}."
    else:
        only = "" if len(gaps) > 1 else " (one seed)"
        yield f"{_capital(PARTS[less])} loses more{only}: inside NFRec, {both}."


def _losses(known: dict[str, Member]) -> Iterator[str]:
    inside = {label: member for label, member in known.items() if not member.alone}
    losses = {label: [*member.at_best(loss).values()] for label, member in inside.items()}
    if not losses or not all(losses.values()):
        return
    whole, first, second = (statistics.fmean(values) for values in losses.values())
    nearer = "ID" if abs(first - whole) < abs(second - whole) else "text"
    shown = ", ".join(f"{label} {number(values, 2)}" for label, values in losses.items())
    yield f"Training loss in nats: {shown}. {_capital(nearer)} is closer to the whole model."


def _gain(known: dict[str, Member], measure: Measure, name: str) -> Iterator[str]:
    alone = [known[label] for label in ("ID only", "text only") if label in known]
    if "NFRec" not in known or not alone:
        return
    better = max(alone, key=lambda member: _mean(member.at_best(measure)))
    gaps = paired(known["NFRec"].at_best(measure), better.at_best(measure))
    if gaps:
        of_two = ", the better of the two" if len(alone) > 1 else ""
        gain = f"{points(gaps)} of {name}{_noise(gaps)}"
        yield f"NFRec as a whole compared with {better.label}{of_two}: {gain}."


def _mean(by_seed: dict[int, float]) -> float:
    return statistics.fmean(by_seed.values()) if by_seed else 0.0


def _capital(text: str) -> str:
    return text[:1].upper() + text[1:]


STUDY = Study(
    name="imbalance",
    summary="ID and text inside naive fusion, compared with each trained alone, by epoch (Figures 3 and 9)",
    systems=(FUSION, *ALONE.values()),
    report=report,
    accepts=("metric",),
    extend=add_curves,
)

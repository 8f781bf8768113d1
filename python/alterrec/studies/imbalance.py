"""Figures 3 and 9 of the paper: what ID and text learn inside naive fusion, beside each trained alone."""

from __future__ import annotations

import statistics
from collections.abc import Iterator, Sequence

from alterrec.metrics import metric_name
from alterrec.report.figures.lines import epoch_lines
from alterrec.report.presentation import Plot, Presentation, Section
from alterrec.report.tables import mean_and_spread, percent
from alterrec.report.training_curves import (
    BY_EPOCH,
    Member,
    best_epoch_table,
    exceeds_seed_noise,
    loss,
    metric_of,
    number,
    paired,
    panel,
    points,
    ratios,
    training_curves_of,
)
from alterrec.results import StudyResult
from alterrec.studies.words import shown

FUSION = "nfrec_concat"
PARTS = {"id": "ID", "text": "text"}
ALONE = {"id": "id_only", "text": "text_only"}
LOSS_SAYS = (
    "Solid: NFRec, which joins ID and text vectors, and its parts, each scored by its own columns (Eq. 7-8). "
    "Dashed: each trained by itself. Training loss is the cross-entropy over the whole catalogue on one "
    "sample of training prefixes, the same for all, without dropout; lower is better."
)
TABLE_SAYS = (
    "After the epoch that validation chose, each run its own. Share of gradient: of the norms that the loss "
    "of NFRec sends to the ID and to the text columns of the item table, mean over epochs up to the best."
)


def imbalance(study: StudyResult) -> Presentation:
    """How far each part inside naive fusion stays behind the same part alone, and which is drowned more."""
    known = members(study)
    return shown(
        study,
        title=f"Imbalance in naive fusion on {study.data.name} (Figures 3, 9)",
        findings=findings(study),
        sections=[
            Section("By epoch", [BY_EPOCH, LOSS_SAYS], plot(known, study.pictured)),
            Section(
                "At the best epoch", [TABLE_SAYS], tables={"parts": best_epoch_table(known, study.pictured)}
            ),
        ],
    )


def members(study: StudyResult) -> list[Member]:
    """The whole, its parts and each part alone, as far as they have finished runs."""
    fused = training_curves_of(study, FUSION)
    found = [Member("NFRec", "score", "score", fused)]
    for part, name in PARTS.items():
        found.append(Member(f"{name} in NFRec", part, part, fused))
        found.append(
            Member(f"{name} only", part, "score", training_curves_of(study, ALONE[part]), alone=True)
        )
    return [member for member in found if member.curves]


def plot(known: Sequence[Member], metric: str) -> dict[str, Plot]:
    """The metric and the loss by epoch."""
    panels = [
        *panel(f"{metric_name(metric)} on validation", known, metric_of(metric)),
        *panel("Training loss (nats)", known, loss, "nats"),
    ]
    if not panels:
        return {}
    says = f"Lines by epoch of {', '.join(member.label for member in known)}: {metric_name(metric)} and loss."
    return {"imbalance": Plot.of(epoch_lines, panels, says)}


def findings(study: StudyResult) -> list[str]:
    """What each part keeps, which is drowned more, which carries the loss, and what fusion gained."""
    known = {member.label: member for member in members(study)}
    measure = metric_of(study.pictured)
    name = f"validation {metric_name(study.pictured)}"
    kept: dict[str, dict[int, float]] = {}
    behind: list[str] = []
    for part, spoken in PARTS.items():
        inside, alone = known.get(f"{spoken} in NFRec"), known.get(f"{spoken} only")
        if inside is not None and alone is not None:
            kept[part] = ratios(inside.at_best(measure), alone.at_best(measure))
            behind += _behind(inside, alone, study.pictured, name)
    said = [*_drowned(kept), *behind, *_carried(known), *_gained(known, study.pictured, name)]
    return said or [f"{FUSION} and the parts alone are not finished, so there is nothing to compare yet."]


def _behind(inside: Member, alone: Member, metric: str, name: str) -> Iterator[str]:
    first, second = inside.at_best(metric_of(metric)), alone.at_best(metric_of(metric))
    differences = paired(first, second)
    if not differences:
        return
    level = "" if exceeds_seed_noise(differences) or len(differences) == 1 else ", less than seeds differ"
    yield (
        f"{_capital(inside.label)} reaches {percent(_mean(first))} {name} at its best epoch, {alone.label} "
        f"{percent(_mean(second))}: {points(differences)}{level}."
    )


def _drowned(kept: dict[str, dict[int, float]]) -> Iterator[str]:
    """Which part keeps less of what it reaches alone, where seeds agree."""
    if len(kept) < 2 or not all(kept.values()):
        return
    less, more = sorted(kept, key=lambda part: _mean(kept[part]))
    shares = {part: mean_and_spread([*values.values()], 0) for part, values in kept.items()}
    both = f"{PARTS[less]} keeps {shares[less]} of what it reaches alone, {PARTS[more]} {shares[more]}"
    gaps = paired(kept[more], kept[less])
    if _mean(kept[less]) >= 1:
        yield f"Neither part is drowned: inside NFRec {both}."
    elif len(gaps) > 1 and not exceeds_seed_noise(gaps):
        yield f"Which part is drowned more is not shown, for seeds differ as much: inside NFRec {both}."
    else:
        only = "" if len(gaps) > 1 else ", by one seed"
        yield f"{_capital(PARTS[less])} is drowned more{only}: inside NFRec {both}."


def _carried(known: dict[str, Member]) -> Iterator[str]:
    losses = {
        label: [*known[label].at_best(loss).values()]
        for label in ("NFRec", "ID in NFRec", "text in NFRec")
        if label in known
    }
    if len(losses) < 3 or not all(losses.values()):
        return
    whole, first, second = (statistics.fmean(values) for values in losses.values())
    nearer = "ID" if abs(first - whole) < abs(second - whole) else "text"
    shown = ", ".join(f"{label} {number(values, 2)}" for label, values in losses.items())
    yield f"Training loss in nats: {shown}. {_capital(nearer)} lies nearer to the whole."


def _gained(known: dict[str, Member], metric: str, name: str) -> Iterator[str]:
    alone = [known[label] for label in ("ID only", "text only") if label in known]
    if "NFRec" not in known or not alone:
        return
    rival = max(alone, key=lambda member: _mean(member.at_best(metric_of(metric))))
    differences = paired(known["NFRec"].at_best(metric_of(metric)), rival.at_best(metric_of(metric)))
    if differences:
        level = "" if exceeds_seed_noise(differences) or len(differences) == 1 else ", less than seeds differ"
        better = ", the better of the two" if len(alone) > 1 else ""
        yield f"NFRec as a whole against {rival.label}{better}: {points(differences)} of {name}{level}."


def _mean(by_seed: dict[int, float]) -> float:
    return statistics.fmean(by_seed.values()) if by_seed else 0.0


def _capital(text: str) -> str:
    return text[:1].upper() + text[1:]

"""Figure 5 of the paper: what ID and text learn as their networks take turns."""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Iterator, Sequence

from alterrec.metrics import metric_name
from alterrec.report.figures.lines import epoch_lines
from alterrec.report.presentation import Plot, Presentation, Section
from alterrec.report.tables import listed
from alterrec.report.training_curves import (
    BY_EPOCH,
    Member,
    TrainingCurve,
    best_epoch_table,
    exceeds_seed_noise,
    loss,
    metric_of,
    paired,
    panel,
    phases_of,
    points,
    training_curves_of,
)
from alterrec.results import StudyResult
from alterrec.studies.words import shown

SYSTEM = "alterrec"
HARD = "window"
PARTS = {"id": "ID", "text": "text"}
PICTURE_SAYS = (
    "Shaded: the network that an epoch trains, the other one rests. Left of the dashed line negatives are "
    "random or the whole catalogue, right of it they come from the other network's ranking. Triangles: the "
    "epoch that validation chose, one a seed."
)
LOSS_SAYS = (
    "Training loss: cross-entropy over the whole catalogue on one sample of training prefixes, without "
    "dropout; lower is better."
)


def alternation(study: StudyResult) -> Presentation:
    """Whether both networks rise as they alternate, and what the hard negatives give."""
    known = members(study)
    return shown(
        study,
        title=f"Alternating training on {study.data.name} (Figure 5)",
        findings=findings(study),
        sections=[
            Section("By epoch", [BY_EPOCH, PICTURE_SAYS, LOSS_SAYS], plot(known, study.pictured)),
            Section("At the best epoch", tables={"parts": best_epoch_table(known, study.pictured)}),
        ],
    )


def members(study: StudyResult) -> list[Member]:
    """The sum and its two parts."""
    curves = training_curves_of(study, SYSTEM)
    names = {"score": "AlterRec", "id": "ID in AlterRec", "text": "text in AlterRec"}
    return [Member(label, part, part, curves) for part, label in names.items()] if curves else []


def plot(known: Sequence[Member], metric: str) -> dict[str, Plot]:
    """The metric and the loss by epoch, phases shaded."""
    panels = [
        *panel(f"{metric_name(metric)} on validation", known, metric_of(metric)),
        *panel("Training loss (nats)", known, loss, "nats"),
    ]
    if not panels:
        return {}
    runs = known[0].curves
    phases = phases_of(runs)
    best = [curve.best for curve in runs if curve.best]
    says = f"{metric_name(metric)} and loss of {listed([member.label for member in known])} by epoch."
    return {"alternation": Plot.of(epoch_lines, panels, says, phases=phases, best=best)}


def findings(study: StudyResult) -> list[str]:
    """Whether both rise, where the best epoch lies, what hard negatives gave."""
    known = training_curves_of(study, SYSTEM)
    if not known:
        return [f"{SYSTEM} has no finished run yet."]
    turning = [curve for curve in known if curve.best and 0 < warm_up(curve) < len(curve.epochs)]
    said = [*_rises(turning, study.pictured), *_gain(turning, study.pictured)] if turning else []
    return [*said, *_best_epochs(known, study.metric)]


def warm_up(curve: TrainingCurve) -> int:
    """How many epochs come before the first with hard negatives; all of them where none has any."""
    hard = [epoch.epoch for epoch in curve.epochs if epoch.negatives == HARD]
    return min(hard) - 1 if hard else len(curve.epochs)


def _rises(turning: Sequence[TrainingCurve], metric: str) -> Iterator[str]:
    gains, shown = {}, []
    for part, name in PARTS.items():
        before = {each.seed: _value(each, warm_up(each), part, metric) for each in turning}
        after = {each.seed: _value(each, each.best or 0, part, metric) for each in turning}
        gains[part] = paired(after, before)
        change = f"{_percent(before.values())} to {_percent(after.values())}"
        shown.append(f"{name} {points(gains[part])} ({change})")
    rising = [name for part, name in PARTS.items() if _up(gains[part])]
    lead = {
        2: "Both parts rise",
        1: f"Only {''.join(rising)} is shown to rise",
        0: "Neither part is shown to rise",
    }
    yield (
        f"{lead[len(rising)]} while they alternate. Validation {metric_name(metric)} from the end of the "
        f"warm-up to the best epoch: {listed(shown)}."
    )


def _gain(turning: Sequence[TrainingCurve], metric: str) -> Iterator[str]:
    before = {each.seed: _highest(each, metric, hard=False) for each in turning}
    after = {each.seed: _highest(each, metric, hard=True) for each in turning}
    yield (
        f"AlterRec's highest validation {metric_name(metric)} with hard negatives is "
        f"{_percent(after.values())}, in the warm-up {_percent(before.values())}: "
        f"{points(paired(after, before))}. Longer training is part of that; the study ablation, where "
        "alterrec_random has random negatives throughout, tells the two apart."
    )


def _best_epochs(known: Sequence[TrainingCurve], metric: str) -> Iterator[str]:
    best = [curve for curve in known if curve.best]
    if not best:
        return
    late = sum((curve.best or 0) > warm_up(curve) for curve in best)
    epochs = listed([f"{curve.best} of {len(curve.epochs)}" for curve in best])
    ended = any(curve.best == len(curve.epochs) for curve in best)
    yield (
        f"Validation {metric_name(metric)} chose epoch {epochs}; in {late} of {len(best)} runs that is an "
        "epoch with hard negatives."
        + (" Where it is the last epoch, longer training may still help." if ended else "")
    )


def _up(gains: Sequence[float]) -> bool:
    return statistics.fmean(gains) > 0 and (exceeds_seed_noise(gains) or len(gains) == 1)


def _value(curve: TrainingCurve, epoch: int, view: str, metric: str) -> float:
    return curve.epochs[epoch - 1].valid.get(view, {}).get(metric, 0.0)


def _highest(curve: TrainingCurve, metric: str, *, hard: bool) -> float:
    return max(
        epoch.valid["score"].get(metric, 0.0) for epoch in curve.epochs if (epoch.negatives == HARD) == hard
    )


def _percent(values: Iterable[float]) -> str:
    return f"{100 * statistics.fmean(values):.1f}%"

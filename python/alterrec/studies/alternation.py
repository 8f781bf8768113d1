"""The study alternation: ID and text while their networks are trained in turn (Figure 5 of the paper)."""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Iterator, Sequence

from alterrec.metrics import metric_name
from alterrec.report.presentation import Presentation, Section
from alterrec.report.tables import listed
from alterrec.report.training_curves import (
    BY_EPOCH,
    Member,
    TrainingCurve,
    best_epoch_table,
    exceeds_seed_noise,
    paired,
    phases_of,
    points,
    training_curves_of,
)
from alterrec.studies.plan import Study
from alterrec.studies.study_report import curves_plot, study_report
from alterrec.studies.study_result import add_curves
from alterrec.study_records import StudyResult

SYSTEM = "alterrec"
HARD = "window"
PARTS = {"id": "ID", "text": "text"}
PHASES_NOTE = (
    "The shade of an epoch shows which network it trains; the other one does not change. Left of the dashed "
    "line, negatives are random or the whole catalogue; right of it, they come from the other network's "
    "ranking. Triangles mark the epoch that validation chose, one for each seed."
)
LOSS_NOTE = (
    "Training loss is the cross-entropy over the whole catalogue on one sample of training prefixes, without "
    "dropout; lower is better."
)


def report(study: StudyResult) -> Presentation:
    """Report whether both networks improve while they alternate, and the gain from hard negatives."""
    curves = training_curves_of(study, SYSTEM)
    names = {"score": "AlterRec", "id": "ID in AlterRec", "text": "text in AlterRec"}
    members = [Member(label, part, part, curves) for part, label in names.items()] if curves else []
    best = [curve.best for curve in curves if curve.best]
    shades = phases_of(curves) if curves else []
    plot = curves_plot("alternation", members, study.pictured, phases=shades, best=best)
    return study_report(
        study,
        title=f"Alternating training on {study.data.name} (Figure 5)",
        findings=findings(study),
        sections=[
            Section("By epoch", [BY_EPOCH, PHASES_NOTE, LOSS_NOTE], plot),
            Section("At the best epoch", tables={"parts": best_epoch_table(members, study.pictured)}),
        ],
    )


def findings(study: StudyResult) -> list[str]:
    """Report whether both parts improve, the gain from hard negatives, and the best epochs."""
    known = training_curves_of(study, SYSTEM)
    if not known:
        return [f"{SYSTEM} has no finished run yet."]
    turning = [curve for curve in known if curve.best and 0 < warm_up(curve) < len(curve.epochs)]
    lines = [_improvement(turning, study.pictured), _gain(turning, study.pictured)] if turning else []
    return [*lines, *_best_epochs(known, study.metric)]


def warm_up(curve: TrainingCurve) -> int:
    """Count the epochs before the first one with hard negatives; all epochs if none has any."""
    hard = [epoch.epoch for epoch in curve.epochs if epoch.negatives == HARD]
    return min(hard) - 1 if hard else len(curve.epochs)


def _improvement(turning: Sequence[TrainingCurve], metric: str) -> str:
    gains, changes = {}, []
    for part, name in PARTS.items():
        before = {each.seed: _value(each, warm_up(each), part, metric) for each in turning}
        after = {each.seed: _value(each, each.best or 0, part, metric) for each in turning}
        gains[part] = paired(after, before)
        change = f"{_percent(before.values())} to {_percent(after.values())}"
        changes.append(f"{name} {points(gains[part])} ({change})")
    improved = [
        name
        for part, name in PARTS.items()
        if statistics.fmean(gains[part]) > 0 and (exceeds_seed_noise(gains[part]) or len(turning) == 1)
    ]
    lead = {
        2: "Both parts improve",
        1: f"Only {''.join(improved)} improves by more than the variation between seeds",
        0: "Neither part improves by more than the variation between seeds",
    }
    return (
        f"{lead[len(improved)]} while they alternate. Change of validation {metric_name(metric)} from the "
        f"end of the warm-up to the best epoch: {listed(changes)}."
    )


def _gain(turning: Sequence[TrainingCurve], metric: str) -> str:
    before, after = (
        {
            curve.seed: max(
                epoch.valid["score"].get(metric, 0.0)
                for epoch in curve.epochs
                if (epoch.negatives == HARD) == hard
            )
            for curve in turning
        }
        for hard in (False, True)
    )
    return (
        f"AlterRec's highest validation {metric_name(metric)} is {_percent(after.values())} with hard "
        f"negatives and {_percent(before.values())} in the warm-up: {points(paired(after, before))}. Part of "
        "this gain comes from longer training; the study ablation separates the two, "
        "because its alterrec_random uses random negatives throughout."
    )


def _best_epochs(known: Sequence[TrainingCurve], metric: str) -> Iterator[str]:
    best = [curve for curve in known if curve.best]
    if not best:
        return
    late = sum((curve.best or 0) > warm_up(curve) for curve in best)
    epochs = listed([f"{curve.best} of {len(curve.epochs)}" for curve in best])
    ended = any(curve.best == len(curve.epochs) for curve in best)
    yield (
        f"Validation {metric_name(metric)} chose epoch {epochs}; in {late} of {len(best)} runs this epoch "
        f"has hard negatives.{' If it is the last epoch, longer training may still help.' if ended else ''}"
    )


def _value(curve: TrainingCurve, epoch: int, view: str, metric: str) -> float:
    return curve.epochs[epoch - 1].valid.get(view, {}).get(metric, 0.0)


def _percent(values: Iterable[float]) -> str:
    return f"{100 * statistics.fmean(values):.1f}%"


STUDY = Study(
    name="alternation",
    summary="ID and text while their networks are trained in turn, by epoch (Figure 5)",
    systems=(SYSTEM,),
    report=report,
    accepts=("metric",),
    extend=add_curves,
)

"""Training curves of models and of their parts: lines by epoch, numbers at the best epoch, differences."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

from alterrec.metrics import metric_name
from alterrec.report.figures.lines import Band, Line, bands
from alterrec.report.figures.style import Panel, Unit
from alterrec.report.presentation import DataTable
from alterrec.report.tables import Table, mean_and_spread
from alterrec.results import Epoch, Views
from alterrec.study_records import StudyResult

BANDS = (
    "Lines are means over seeds in a band of one standard deviation, up to the last epoch that all seeds "
    "reached. Rings mark the epoch that validation chose for each seed; the findings take their numbers "
    "there."
)
BY_EPOCH = (
    f"{BANDS} The paper plots the test metric by epoch. Here the plot shows validation, and test is measured "
    "once, at the epoch that validation chose."
)
# Value of a view after an epoch; None where it is not known.
Measure = Callable[[Epoch, str], float | None]


class TrainingCurve(NamedTuple):
    """The training of one run.

    Attributes:
        best: the epoch that validation chose, counted from 1.
        test: view -> test metrics at the best epoch.
    """

    seed: int
    best: int | None
    epochs: Sequence[Epoch]
    test: Views


class Member(NamedTuple):
    """A model, or a part of one, with the training curves of its runs.

    Attributes:
        part: ``score``, ``id`` or ``text``, which gives the colour.
        view: name of the part in its run.
        curves: one training curve per seed.
        alone: whether the model was trained for that part only.
    """

    label: str
    part: str
    view: str
    curves: Sequence[TrainingCurve]
    alone: bool = False

    def line(self, measure: Measure) -> Line | None:
        """Return the measure by epoch and seed; None where an epoch has no value."""
        seeds = [[measure(epoch, self.view) for epoch in curve.epochs] for curve in self.curves]
        known = [[value for value in seed if value is not None] for seed in seeds]
        whole = all(few and len(few) == len(seed) for few, seed in zip(known, seeds, strict=True))
        best = [curve.best or 0 for curve in self.curves]
        return Line(self.label, self.part, known, self.alone, best) if known and whole else None

    def at_best(self, measure: Measure) -> dict[int, float]:
        """Return seed -> value after the best epoch, for seeds where it is known."""
        return {
            curve.seed: value
            for curve in self.curves
            for epoch in curve.epochs
            if epoch.epoch == curve.best and (value := measure(epoch, self.view)) is not None
        }

    def until_best(self, measure: Measure) -> dict[int, float]:
        """Return seed -> mean over the epochs up to the best one, for seeds where all are known."""
        found = {}
        for curve in self.curves:
            values = [measure(each, self.view) for each in curve.epochs if each.epoch <= (curve.best or 0)]
            known = [value for value in values if value is not None]
            if known and len(known) == len(values):
                found[curve.seed] = statistics.fmean(known)
        return found

    def on_test(self, metric: str) -> dict[int, float]:
        """Return seed -> the metric on test."""
        return {
            curve.seed: curve.test[self.view][metric]
            for curve in self.curves
            if metric in curve.test.get(self.view, {})
        }


def training_curves_of(study: StudyResult, label: str) -> list[TrainingCurve]:
    """Return one training curve per finished run of a row."""
    row = study.row(label)
    return [
        TrainingCurve(run.seed, run.best_epoch, run.curve, run.views.get("test", {}))
        for run in (row.runs if row else ())
        if run.curve
    ]


def metric_of(metric: str) -> Measure:
    """Return the measure that reads a metric on validation."""
    return lambda epoch, view: epoch.valid.get(view, {}).get(metric)


def loss(epoch: Epoch, view: str) -> float | None:
    """Return the loss on the sample of training prefixes; None for runs of earlier versions."""
    return epoch.parts[view].loss if view in epoch.parts else None


def gradient(epoch: Epoch, view: str) -> float | None:
    """Return the gradient norm of the columns of a part; None for runs of earlier versions."""
    return epoch.parts[view].gradient if view in epoch.parts else None


def gradient_share(epoch: Epoch, view: str) -> float | None:
    """Return the share of a part in the sum of the gradient norms of ID and text.

    Example:
        >>> from alterrec.results import PartLoss
        >>> parts = {"id": PartLoss(6.0, 3.0), "text": PartLoss(7.0, 1.0)}
        >>> gradient_share(Epoch(1, "", "model", "full", 6.0, {}, parts=parts), "id")
        0.75
    """
    norms = [gradient(epoch, part) or 0.0 for part in ("id", "text")]
    own = gradient(epoch, view)
    return own / sum(norms) if own is not None and all(norms) else None


def trained_jointly(curves: Sequence[TrainingCurve]) -> bool:
    """Return whether one loss trains ID and text together, rather than a network each."""
    trained = {epoch.trained for curve in curves for epoch in curve.epochs}
    return trained.isdisjoint(("id", "text"))


def phases_of(curves: Sequence[TrainingCurve]) -> list[Band]:
    """Return the phases of the epochs that all seeds reached; empty if the same was trained throughout.

    Example:
        >>> epochs = [Epoch(1, "", "id", "full", 6.0, {}), Epoch(2, "", "text", "full", 6.0, {})]
        >>> [phase.trained for phase in phases_of([TrainingCurve(0, 2, epochs, {})])]
        ['id', 'text']
    """
    phases = bands(min((curve.epochs for curve in curves), key=len))
    return phases if len(phases) > 1 else []


def panel(
    title: str, members: Sequence[Member], measure: Measure, unit: Unit = "percent"
) -> list[Panel[Line]]:
    """Return a panel of the members that have the measure; empty if no member has."""
    lines = [line for member in members if (line := member.line(measure)) is not None]
    return [Panel(title, lines, unit)] if lines else []


def best_epoch_table(members: Sequence[Member], metric: str) -> DataTable:
    """Return validation, test, loss and share of the gradient of each member at its best epoch."""
    joint = trained_jointly(members[0].curves) if members else False
    name = metric_name(metric)
    head = ["", f"validation {name}", f"test {name}", "loss (nats)", "share of gradient", "best epoch"]
    rows, records = [], []
    for member in members:
        columns: dict[str, dict[int, float]] = {
            f"validation {metric}": member.at_best(metric_of(metric)),
            f"test {metric}": member.on_test(metric),
            "training_loss": member.at_best(loss),
            "gradient_share": member.until_best(gradient_share) if joint and not member.alone else {},
            "best_epoch": {curve.seed: float(curve.best) for curve in member.curves if curve.best},
        }
        valid, test, nats, share, best = ([*values.values()] for values in columns.values())
        cells = [mean_and_spread(values, 2) if values else "-" for values in (valid, test)]
        cells += [number(nats, 2), mean_and_spread(share, 0) if share else "-", number(best, 0)]
        rows.append([member.label, *cells])
        record: dict[str, Any] = {"member": member.label}
        for column, by_seed in columns.items():
            values = [*by_seed.values()]
            record[column] = statistics.fmean(values) if values else None
            record[f"{column}_sd"] = statistics.stdev(values) if len(values) > 1 else None
        records.append(record)
    shown = [place for place in range(len(head)) if not place or any(row[place] != "-" for row in rows)]
    cells_shown = tuple(tuple(row[place] for place in shown) for row in rows)
    return DataTable(Table(tuple(head[place] for place in shown), cells_shown), records)


def number(values: Sequence[float], digits: int) -> str:
    """Return mean and deviation over seeds of numbers that are no fractions; a dash for no numbers.

    Example:
        >>> number([6.0, 6.2], 2), number([], 2)
        ('6.10 ± 0.14', '-')
    """
    return mean_and_spread([value / 100 for value in values], digits, "") if values else "-"


def points(differences: Sequence[float]) -> str:
    """Return the mean with its sign and the deviation of differences by seed, in percentage points.

    Example:
        >>> points([0.01, 0.03]), points([-0.004])
        ('+2.00 ± 1.41 points', '-0.40 points')
    """
    return ("+" if statistics.fmean(differences) > 0 else "") + mean_and_spread(differences, 2, " points")


def exceeds_seed_noise(differences: Sequence[float]) -> bool:
    """Return whether the mean of differences by seed exceeds their deviation; False for one seed.

    Example:
        >>> exceeds_seed_noise([0.02, 0.03]), exceeds_seed_noise([-0.01, 0.03]), exceeds_seed_noise([0.5])
        (True, False, False)
    """
    return len(differences) > 1 and abs(statistics.fmean(differences)) > statistics.stdev(differences)


def paired(first: Mapping[int, float], second: Mapping[int, float]) -> list[float]:
    """Return first minus second for each seed that both have.

    Example:
        >>> paired({0: 3.0, 1: 5.0}, {1: 4.0, 2: 9.0})
        [1.0]
    """
    return [first[seed] - second[seed] for seed in sorted(first.keys() & second.keys())]


def ratios(first: Mapping[int, float], second: Mapping[int, float]) -> dict[int, float]:
    """Return first divided by second for each seed that both have.

    Example:
        >>> ratios({0: 3.0, 1: 5.0}, {1: 4.0, 2: 9.0})
        {1: 1.25}
    """
    return {seed: first[seed] / second[seed] for seed in sorted(first.keys() & second.keys()) if second[seed]}

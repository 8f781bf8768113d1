"""What trainings learned epoch by epoch, part by part: lines of a picture, numbers at the best epoch."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal, NamedTuple

from alterrec.report.presentation import DataTable
from alterrec.report.tables import Table, mean_and_spread, metric_name
from alterrec.results import Epoch, StudyResult, Views

BANDS = (
    "Mean over seeds in a band of one standard deviation, as far as all seeds trained; a dotted line leads "
    "to the name of one that ended earlier."
)
BY_EPOCH = (
    f"{BANDS} The paper draws test by epoch; here validation stands in its place, and test is measured once, "
    "after the epoch that validation chose."
)
Unit = Literal["percent", "nats", "norm"]
# What a view had after an epoch; None where it is not known.
Measure = Callable[[Epoch, str], float | None]


class CurveLine(NamedTuple):
    """A quantity by epoch.

    Attributes:
        label: its name, at its end.
        view: what it is of, which gives colour and marker.
        seeds: of each seed, one value an epoch.
        alone: it is of a model trained for that part alone, and dashed.
    """

    label: str
    view: str
    seeds: Sequence[Sequence[float]]
    alone: bool = False

    @property
    def means(self) -> list[float]:
        """Mean over seeds of each epoch that all of them reached.

        Example:
            >>> CurveLine("ID", "id", [[1.0, 2.0, 5.0], [3.0, 4.0]]).means
            [2.0, 3.0]
        """
        return [statistics.fmean(values) for values in zip(*self.seeds, strict=False)]

    @property
    def spreads(self) -> list[float]:
        """Standard deviation over seeds of the same epochs, 0 where there is one seed."""
        columns = list(zip(*self.seeds, strict=False))
        return [statistics.stdev(values) if len(values) > 1 else 0.0 for values in columns]


class CurvePanel(NamedTuple):
    """Lines over the same epochs, fractions where ``unit`` is percent."""

    title: str
    lines: Sequence[CurveLine]
    unit: Unit = "percent"


class TrainingCurve(NamedTuple):
    """One training.

    Attributes:
        seed: of the run.
        best: the epoch that validation chose, counted from 1.
        epochs: all of them.
        test: view -> metrics of the best one.
    """

    seed: int
    best: int | None
    epochs: Sequence[Epoch]
    test: Views


class Member(NamedTuple):
    """A model, or a part of one, by its trainings.

    Attributes:
        label: its name.
        part: ``score``, ``id`` or ``text``, which gives its colour.
        view: what it is called in its run.
        courses: a training a seed.
        alone: it was trained for that part alone.
    """

    label: str
    part: str
    view: str
    curves: Sequence[TrainingCurve]
    alone: bool = False

    def line(self, measure: Measure) -> CurveLine | None:
        """By epoch and seed; None where an epoch has no value."""
        seeds = [[measure(epoch, self.view) for epoch in curve.epochs] for curve in self.curves]
        known = [[value for value in seed if value is not None] for seed in seeds]
        whole = all(few and len(few) == len(seed) for few, seed in zip(known, seeds, strict=True))
        return CurveLine(self.label, self.part, known, self.alone) if known and whole else None

    def at_best(self, measure: Measure) -> dict[int, float]:
        """Seed -> value after the best epoch, as far as it is known."""
        return {
            curve.seed: value
            for curve in self.curves
            for epoch in curve.epochs
            if epoch.epoch == curve.best and (value := measure(epoch, self.view)) is not None
        }

    def until_best(self, measure: Measure) -> dict[int, float]:
        """Seed -> mean over the epochs up to the best one, as far as all are known."""
        found = {}
        for curve in self.curves:
            values = [measure(each, self.view) for each in curve.epochs if each.epoch <= (curve.best or 0)]
            known = [value for value in values if value is not None]
            if known and len(known) == len(values):
                found[curve.seed] = statistics.fmean(known)
        return found

    def on_test(self, metric: str) -> dict[int, float]:
        """Seed -> the metric on test."""
        return {
            curve.seed: curve.test[self.view][metric]
            for curve in self.curves
            if metric in curve.test.get(self.view, {})
        }


def training_curves_of(study: StudyResult, label: str) -> list[TrainingCurve]:
    """The trainings of a row by seed; none where it has no finished run."""
    row = study.row(label)
    return [
        TrainingCurve(run.seed, run.best_epoch, run.curve, run.views.get("test", {}))
        for run in (row.runs if row else ())
        if run.curve
    ]


def metric_of(metric: str) -> Measure:
    """A metric on validation."""
    return lambda epoch, view: epoch.valid.get(view, {}).get(metric)


def loss(epoch: Epoch, view: str) -> float | None:
    """The loss on the sample of training prefixes; runs of earlier versions have none."""
    return epoch.parts[view].loss if view in epoch.parts else None


def gradient(epoch: Epoch, view: str) -> float | None:
    """The norm of the gradient that the columns of a part get; runs of earlier versions have none."""
    return epoch.parts[view].gradient if view in epoch.parts else None


def gradient_share(epoch: Epoch, view: str) -> float | None:
    """The part's share of the norms of ID and text.

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
    """Whether one loss trains ID and text at once, rather than each its own network."""
    trained = {epoch.trained for curve in curves for epoch in curve.epochs}
    return trained.isdisjoint(("id", "text"))


def panel(
    title: str, members: Sequence[Member], measure: Measure, unit: Unit = "percent"
) -> list[CurvePanel]:
    """A panel of the members that have the measure; none where no member has."""
    lines = [line for member in members if (line := member.line(measure)) is not None]
    return [CurvePanel(title, lines, unit)] if lines else []


def best_epoch_table(members: Sequence[Member], metric: str) -> DataTable:
    """Each member at the best epoch of its runs: validation, test, loss, and its share of the gradient."""
    together = trained_jointly(members[0].curves) if members else False
    name = metric_name(metric)
    head = ["", f"validation {name}", f"test {name}", "loss (nats)", "share of gradient", "best epoch"]
    rows, records = [], []
    for member in members:
        columns: dict[str, dict[int, float]] = {
            f"validation {metric}": member.at_best(metric_of(metric)),
            f"test {metric}": member.on_test(metric),
            "training_loss": member.at_best(loss),
            "gradient_share": member.until_best(gradient_share) if together and not member.alone else {},
            "best_epoch": {curve.seed: float(curve.best) for curve in member.curves if curve.best},
        }
        valid, test, nats, share, best = ([*values.values()] for values in columns.values())
        cells = [mean_and_spread(values, 2) if values else "-" for values in (valid, test)]
        cells += [number(nats, 2), mean_and_spread(share, 0) if share else "-", number(best, 0)]
        rows.append([member.label, *cells])
        records.append(_record(member.label, columns))
    shown = [place for place in range(len(head)) if not place or any(row[place] != "-" for row in rows)]
    cells_shown = tuple(tuple(row[place] for place in shown) for row in rows)
    return DataTable(Table(tuple(head[place] for place in shown), cells_shown), records)


def number(values: Sequence[float], digits: int) -> str:
    """Mean and deviation over seeds of what is no fraction; a dash where there is none.

    Example:
        >>> number([6.0, 6.2], 2), number([], 2)
        ('6.10 ± 0.14', '-')
    """
    return mean_and_spread([value / 100 for value in values], digits, "") if values else "-"


def points(differences: Sequence[float]) -> str:
    """Differences of fractions by seed, in percentage points: mean with its sign, and deviation.

    Example:
        >>> points([0.01, 0.03]), points([-0.004])
        ('+2.00 ± 1.41 points', '-0.40 points')
    """
    return ("+" if statistics.fmean(differences) > 0 else "") + mean_and_spread(differences, 2, " points")


def exceeds_seed_noise(differences: Sequence[float]) -> bool:
    """Whether their mean over seeds is farther from nothing than their deviation; never with one seed.

    Example:
        >>> exceeds_seed_noise([0.02, 0.03]), exceeds_seed_noise([-0.01, 0.03]), exceeds_seed_noise([0.5])
        (True, False, False)
    """
    return len(differences) > 1 and abs(statistics.fmean(differences)) > statistics.stdev(differences)


def paired(first: Mapping[int, float], second: Mapping[int, float]) -> list[float]:
    """First less second, of each seed that both have.

    Example:
        >>> paired({0: 3.0, 1: 5.0}, {1: 4.0, 2: 9.0})
        [1.0]
    """
    return [first[seed] - second[seed] for seed in sorted(first.keys() & second.keys())]


def ratios(first: Mapping[int, float], second: Mapping[int, float]) -> dict[int, float]:
    """First as a share of second, of each seed that both have.

    Example:
        >>> ratios({0: 3.0, 1: 5.0}, {1: 4.0, 2: 9.0})
        {1: 1.25}
    """
    return {seed: first[seed] / second[seed] for seed in sorted(first.keys() & second.keys()) if second[seed]}


def _record(label: str, columns: Mapping[str, Mapping[int, float]]) -> dict[str, Any]:
    record: dict[str, Any] = {"member": label}
    for name, by_seed in columns.items():
        values = [*by_seed.values()]
        record[name] = statistics.fmean(values) if values else None
        record[f"{name}_sd"] = statistics.stdev(values) if len(values) > 1 else None
    return record

"""Which rows of a study belong to a sweep, and their values: shared by those who plan it and who show it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from itertools import product
from typing import Any, NamedTuple

from alterrec.results import RowResult, SeedResult, StudyResult

# Read from every run of two networks: the weight of ID in the sum needs no training of its own.
ALPHA = "fusion.alpha"


class Point(NamedTuple):
    """One setting of a sweep.

    Attributes:
        values: of its fields, in their order.
        valid, test: the metric of each seed.
        base: these are the recipe's own values.
    """

    values: tuple[Any, ...]
    valid: Sequence[float]
    test: Sequence[float]
    base: bool


def sweep_model(models: Sequence[str], keys: Sequence[str]) -> str:
    """The system whose fields are swept: the one there is, else the one of the paper on which they act.

    Example:
        >>> sweep_model(["alterrec", "alterrec_aug"], ["positives.top"])
        'alterrec_aug'
        >>> sweep_model(["alterrec", "alterrec_aug"], ["window.last"]), sweep_model(["sasrec"], ["optim.lr"])
        ('alterrec', 'sasrec')
    """
    if len(models) == 1:
        return models[0]
    return "alterrec_aug" if any(key.startswith("positives.") for key in keys) else "alterrec"


def base_row(study: StudyResult, axes: Mapping[str, Sequence[Any]]) -> RowResult:
    """The row of the recipe's own values: its settings name every field of its model that is swept."""
    bases = [row for row in study.rows if row.label == row.model]
    model = sweep_model([row.model for row in bases], list(axes))
    return next(row for row in bases if row.model == model)


def points_of(study: StudyResult, axes: Mapping[str, Sequence[Any]], metric: str) -> list[Point]:
    """Every setting of a sweep that has finished runs, the last field turning fastest."""
    base = base_row(study, axes)
    found = []
    for values in product(*axes.values()):
        wanted = dict(zip(axes, values, strict=True))
        trained = base.settings | {key: value for key, value in wanted.items() if key != ALPHA}
        rows = [row for row in study.rows if (row.model, row.settings) == (base.model, trained)]
        runs = [run for row in rows for run in row.runs]
        both = [pair for run in runs for pair in _measured(run, wanted.get(ALPHA), metric)]
        if both:
            valid, test = zip(*both, strict=True)
            found.append(Point(values, valid, test, base.settings | wanted == base.settings))
    return found


def _measured(run: SeedResult, alpha: float | None, metric: str) -> Iterator[tuple[float, float]]:
    """The metric on validation and on test, under a weight of ID where one is given."""
    pairs = [(run.valid, run.test)]
    if alpha is not None:
        pairs = [(each.valid, each.test) for each in run.alphas if abs(each.alpha - alpha) < 1e-9]
    for valid, test in pairs:
        if metric in valid and metric in test:
            yield valid[metric], test[metric]

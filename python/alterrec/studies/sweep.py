"""Figures 7, 10 and 11 of the paper: how much a metric moves as recipe fields do, one or two at a time."""

from __future__ import annotations

import statistics
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from alterrec.metrics import metric_name
from alterrec.report.figures.sweeps import HeatPanel, SweepPanel, heat_maps, sweep_lines
from alterrec.report.presentation import DataTable, Plot, Presentation, Section
from alterrec.report.tables import Table, listed, mean_and_spread, percent
from alterrec.results import StudyResult
from alterrec.studies.sweeps import ALPHA, Point, base_row, points_of
from alterrec.studies.words import shown

# What the paper calls them.
SYMBOLS = {
    ALPHA: "the weight of ID",
    "window.first": "k1",
    "window.last": "k2",
    "positives.top": "p",
    "positives.weight": "beta",
}
# Means of three seeds that differ by chance alone lie this many of their deviations apart in one case of
# twenty: 2.5 for three values, 2.9 for eleven (Tukey's range).
CHANCE = 3
Axes = Mapping[str, Sequence[Any]]
PICTURE_SAYS = (
    "Means over seeds in bands of one standard deviation: test solid, validation dashed. The dashed upright "
    "marks the recipe's own value. Fields that need training share one scale"
)
HEAT_SAYS = (
    "Percent, means over seeds; the stronger the colour, the higher. Solid frame and bold: best by "
    "validation; dashed frame: the recipe's own values."
)
RULE_SAYS = (
    f"A field matters where its means lie more than {CHANCE} standard deviations between seeds apart (pooled "
    "over its values): by chance alone the means of three seeds come near that in one case of twenty. It "
    "does not matter here where they lie less than one apart. Choose a value by validation; test is there to "
    "see whether the choice holds."
)
SAME = (
    "and seed by seed the same numbers: validation kept epochs that come before the field acts, as in the "
    "warm-up, so its effect is not in them. Longer training, a lower optim.lr or other phases may show it."
)


def sweep(study: StudyResult) -> Presentation:
    """How much each field moves the metric, held against what seeds do, and what validation would choose."""
    return shown(
        study,
        title=f"Recipe fields on {study.data.name} (Figures 7, 10, 11)",
        findings=findings(study),
        sections=[
            *_lines(study),
            *_maps(study),
            Section("Every value", [RULE_SAYS], tables={"sweep": sweep_data(study)}),
        ],
    )


def findings(study: StudyResult) -> list[str]:
    """A sentence on each sweep."""
    said = [_finding(study, axes, points) for axes, points in known(study)]
    return said or ["No value of any field has a finished run yet."]


def known(study: StudyResult) -> list[tuple[Axes, list[Point]]]:
    """Sweeps with two or more finished settings."""
    every = [(axes, points_of(study, axes, study.pictured)) for axes in study.over]
    return [(axes, points) for axes, points in every if len(points) > 1]


def named(key: str) -> str:
    """A field, with the paper's name of it.

    Example:
        >>> named("window.last"), named("optim.lr")
        ('window.last (k2)', 'optim.lr')
    """
    return f"{key} ({SYMBOLS[key]})" if key in SYMBOLS else key


def moved(points: Sequence[Point]) -> tuple[float, float | None]:
    """From the lowest to the highest mean on test, and the deviation between seeds; None with one seed.

    Example:
        >>> seeds = [0.0, 0.25, 0.5], [0.5, 0.75, 1.0]
        >>> moved([Point((value,), [], test, False) for value, test in enumerate(seeds)])
        (0.5, 0.25)
    """
    means = [statistics.fmean(point.test) for point in points]
    variances = [statistics.variance(point.test) for point in points if len(point.test) > 1]
    return max(means) - min(means), statistics.fmean(variances) ** 0.5 if variances else None


def _finding(study: StudyResult, axes: Axes, points: Sequence[Point]) -> str:
    fields = " with ".join(named(key) for key in axes)
    of = f"{fields} of {base_row(study, axes).model}"
    over = f"{len(points)} {'values' if len(axes) == 1 else 'pairs of values'}"
    if all((point.valid, point.test) == (points[0].valid, points[0].test) for point in points):
        return f"{of}: {over}, {SAME}"
    size, spread = moved(points)
    lead = f"{of}: over {over} test {metric_name(study.pictured)} moves by {100 * size:.2f} points"
    if spread is None:
        verdict = "; with one seed it is not known whether that is more than chance"
    elif size > CHANCE * spread:
        verdict = f", seeds alone by {100 * spread:.2f} (standard deviation): it matters"
    elif size > spread:
        verdict = f", seeds alone by {100 * spread:.2f} (standard deviation): it is not shown to matter"
    else:
        verdict = f", less than seeds do ({100 * spread:.2f}, standard deviation): it does not matter here"
    edge = list(axes) != [ALPHA] and len(points) > 2 and len(axes) == 1 and _at_an_end(points)
    further = " That is the end of the range, so a value beyond it may be better." if edge else ""
    return f"{lead}{verdict}. {_chosen(study, points)}{further}"


def _at_an_end(points: Sequence[Point]) -> bool:
    """Whether the best by validation is the lowest or the highest of numbers."""
    best = _best(points)
    return isinstance(best.values[0], int | float) and best in (points[0], points[-1])


def _chosen(study: StudyResult, points: Sequence[Point]) -> str:
    best = _best(points)
    base = next((point for point in points if point.base), None)
    shown = f"Best by validation: {_spoken(best)} (test {percent(statistics.fmean(best.test))})"
    if base is None:
        return f"{shown}."
    if best is base:
        return f"{shown}, the recipe's own."
    return f"{shown}; the recipe has {_spoken(base)} ({percent(statistics.fmean(base.test))})."


def _best(points: Sequence[Point]) -> Point:
    return max(points, key=lambda point: statistics.fmean(point.valid))


def _spoken(point: Point) -> str:
    return listed([str(value) for value in point.values])


def _lines(study: StudyResult) -> Iterator[Section]:
    """One panel for each field that is swept alone."""
    single = [(next(iter(axes)), points) for axes, points in known(study) if len(axes) == 1]
    if not single:
        return
    panels = {key: _panel(study, key, points) for key, points in single}
    trained = [panel.range for key, panel in panels.items() if key != ALPHA]
    shared = (min(low for low, _ in trained), max(high for _, high in trained)) if trained else (0.0, 1.0)
    own = "; the weight of ID, which needs none, has its own." if ALPHA in panels and trained else "."
    says = f"{metric_name(study.pictured)} on validation and test over values of {listed([*panels])}."
    plot = Plot.of(
        sweep_lines,
        [panel if key == ALPHA else panel._replace(limits=shared) for key, panel in panels.items()],
        says,
    )
    title = f"{metric_name(study.pictured)} by value"
    yield Section(title, [PICTURE_SAYS + own], {"sweep": plot})


def _panel(study: StudyResult, key: str, points: Sequence[Point]) -> SweepPanel:
    return SweepPanel(
        named(key),
        base_row(study, {key: ()}).model,
        [point.values[0] for point in points],
        [point.valid for point in points],
        [point.test for point in points],
        next((place for place, point in enumerate(points) if point.base), None),
    )


def _maps(study: StudyResult) -> Iterator[Section]:
    """A pair of maps for each two fields that are swept together."""
    for number, (axes, points) in enumerate(
        (axes, points) for axes, points in known(study) if len(axes) == 2
    ):
        panels = [_map(study, axes, points, split) for split in ("validation", "test")]
        says = f"{metric_name(study.pictured)} over {listed([*axes])}, each pair of values a cell."
        name = "map" if not number else f"map_{number + 1}"
        plot = Plot.of(heat_maps, panels, says)
        yield Section(
            f"{metric_name(study.pictured)} by {' and '.join(map(named, axes))}", [HEAT_SAYS], {name: plot}
        )


def _map(study: StudyResult, axes: Axes, points: Sequence[Point], split: str) -> HeatPanel:
    rows, columns = axes.values()
    means = {
        point.values: statistics.fmean(point.test if split == "test" else point.valid) for point in points
    }
    places = {(row, column): (y, x) for y, row in enumerate(rows) for x, column in enumerate(columns)}
    base = next((places[point.values] for point in points if point.base), None)
    first, second = axes
    return HeatPanel(
        f"{metric_name(study.pictured)} on {split}",
        (named(first), named(second)),
        rows,
        columns,
        [[means.get((row, column)) for column in columns] for row in rows],
        base,
        places[_best(points).values],
    )


def sweep_data(study: StudyResult) -> DataTable:
    """Each setting of each sweep: validation and test over seeds; the best by validation is bold."""
    name = metric_name(study.pictured)
    rows: list[tuple[str, ...]] = []
    best: set[tuple[int, int]] = set()
    records = []
    for axes, points in known(study):
        for point in points:
            if point is _best(points):
                best |= {(len(rows), column) for column in (1, 2)}
            value = _spoken(point) + (" (recipe)" if point.base else "")
            shown = [mean_and_spread(each, 2) for each in (point.valid, point.test)]
            rows.append((" with ".join(axes), value, *shown, str(len(point.test))))
            records.append(_record(base_row(study, axes).model, axes, point, study.pictured))
    columns = ("field", "value", f"validation {name}", f"test {name}", "seeds")
    return DataTable(Table(columns, tuple(rows), best=frozenset(best)), records)


def _record(model: str, axes: Axes, point: Point, metric: str) -> dict[str, Any]:
    record: dict[str, Any] = {"model": model, **dict(zip(axes, point.values, strict=True))}
    for split, values in (("validation", point.valid), ("test", point.test)):
        record[f"{split} {metric}"] = statistics.fmean(values)
        record[f"{split} {metric}_sd"] = statistics.stdev(values) if len(values) > 1 else None
    return record | {"seeds": len(point.test), "recipe": point.base}

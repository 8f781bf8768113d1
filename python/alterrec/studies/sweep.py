"""The study sweep: how recipe fields, one or two at a time, change a metric (Figures 7, 10 and 11)."""

from __future__ import annotations

import statistics
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import product
from typing import Any, NamedTuple

from alterrec.errors import InputError
from alterrec.metrics import metric_name
from alterrec.recipe import resolve
from alterrec.report.figures.sweeps import HeatPanel, SweepPanel, heat_maps, sweep_lines
from alterrec.report.presentation import DataTable, Plot, Presentation, Section
from alterrec.report.tables import Table, listed, mean_and_spread, percent
from alterrec.studies.plan import ALL_SYSTEMS, Grid, PlannedRow, Study, StudyOptions, plan_row
from alterrec.studies.queue import RunQueue
from alterrec.studies.study_report import study_report
from alterrec.study_records import RowResult, SeedResult, StudyResult

# The weight of ID in the sum of two networks needs no further runs: every run measures the weights ALPHAS
# (CURVE of evaluation/evaluate).
ALPHA = "fusion.alpha"
ALPHAS = tuple(step / 10 for step in range(11))
# Figures 7, 10 and 11, by the system on which a field acts.
PAPER_SWEEPS: Mapping[str, Sequence[Grid]] = {
    "alterrec": ({ALPHA: ALPHAS}, {"window.last": (0.05, 0.2, 0.5)}, {"window.first": (1, 6, 20)}),
    "alterrec_aug": ({"positives.top": (1, 5, 10)}, {"positives.weight": (0.1, 0.5, 1.0)}),
}
# The names of fields in the paper.
SYMBOLS = {
    ALPHA: "the weight of ID",
    "window.first": "k1",
    "window.last": "k2",
    "positives.top": "p",
    "positives.weight": "beta",
}
# The range of means over three seeds that differ only by chance exceeds this many standard deviations in one
# case of twenty: 2.5 for three values, 2.9 for eleven (Tukey's range).
CHANCE = 3
LINES_NOTE = (
    "Lines are means over seeds, bands one standard deviation: test solid, validation dashed. The dashed "
    "vertical line marks the recipe's own value. Fields that need further runs share one scale"
)
MAP_NOTE = (
    "Values are means over seeds in percent; a stronger colour is a higher value. The solid frame and bold "
    "print mark the best pair by validation, the dashed frame the recipe's own values."
)
RULE_NOTE = (
    f"A field matters if the range of its means exceeds {CHANCE} standard deviations between seeds (pooled "
    "over its values); by chance, means of three seeds reach about that range in one case of twenty. A field "
    "does not matter here if the range is below one standard deviation. Choose a value by validation; test "
    "shows whether the choice holds."
)
SAME_NUMBERS = (
    "with the same numbers seed by seed. Validation chose epochs before the field takes effect, for example "
    "in the warm-up. Longer training, a lower optim.lr or other phases may show its effect."
)


class Point(NamedTuple):
    """One setting of a sweep.

    Attributes:
        values: the values of its fields, in their order.
        valid, test: the metric of each seed.
        base: whether these are the recipe's own values.
    """

    values: tuple[Any, ...]
    valid: Sequence[float]
    test: Sequence[float]
    base: bool


def complete(options: StudyOptions) -> StudyOptions:
    """Fill in the systems and the values to sweep, in order and with the recipe's own value among them.

    Raises:
        InputError: a key is unknown, a value is out of range, or there is nothing to compare.
    """
    models = tuple(options.only) or tuple(PAPER_SWEEPS)
    sweeps = options.over or [axes for model in models for axes in PAPER_SWEEPS.get(model, ())]
    if not sweeps:
        raise InputError(
            f"--over is missing: the paper sweeps fields of {', '.join(PAPER_SWEEPS)} only; for "
            f"{', '.join(models)} use --over KEY=V1,V2,... with a key of `alterrec list recipes`"
        )
    if len(models) > 1 and not set(models) <= set(PAPER_SWEEPS):
        raise InputError(f"--only names {', '.join(models)}; a sweep needs one system")
    over = []
    for axes in sweeps:
        if len(axes) > 2:
            raise InputError(f"--over has {len(axes)} keys, {', '.join(axes)}; use one or two")
        if "run.seed" in axes:
            raise InputError("--over cannot sweep run.seed; use --seeds N to see the variation between seeds")
        model = sweep_model(models, list(axes))
        over.append({key: _values(key, given, model, options) for key, given in axes.items()})
    return replace(options, only=models, over=over)


def _values(key: str, given: Sequence[Any], model: str, options: StudyOptions) -> list[Any]:
    settings = [*({**options.fixed, key: value} for value in given), options.fixed]
    *values, base = [resolve(model, options.presets, each).value(key) for each in settings]
    if key == ALPHA:
        for value in values:
            if value not in ALPHAS:
                raise InputError(f"--over {ALPHA} has {value}; choose from {', '.join(map(str, ALPHAS))}")
    else:
        values = [base, *values]
    kept = list(dict.fromkeys(values))
    if len(kept) == 1:
        raise InputError(f"--over {key} has only {base}, the recipe's own value; add other values")
    numbers = all(isinstance(value, int | float) and not isinstance(value, bool) for value in kept)
    return sorted(kept) if numbers else kept


def plan(options: StudyOptions, queue: RunQueue) -> list[PlannedRow]:
    """Plan a row with the recipe's own values of each system, and one for each other setting to train."""
    rows: dict[str, PlannedRow] = {}
    grid, seeds = options.grid, options.num_seeds
    for model in options.only:
        sweeps = [axes for axes in options.over if sweep_model(options.only, list(axes)) == model]
        recipe = queue.make(model, {}, 0).recipe
        base = {key: recipe.value(key) for axes in sweeps for key in axes}
        if sweeps:
            rows[model] = plan_row(model, queue, grid, seeds, settings=base)
        for axes in sweeps:
            for values in product(*axes.values()):
                point = {key: value for key, value in zip(axes, values, strict=True) if key != ALPHA}
                if base | point == base:
                    continue
                label = ", ".join([model, *(f"{key} {value}" for key, value in point.items())])
                rows[label] = plan_row(model, queue, grid, seeds, settings=base | point, label=label)
    return list(rows.values())


def sweep_model(models: Sequence[str], keys: Sequence[str]) -> str:
    """Return the system whose fields are swept: the only one, or that of the paper on which the fields act.

    Example:
        >>> sweep_model(["alterrec", "alterrec_aug"], ["positives.top"])
        'alterrec_aug'
        >>> sweep_model(["alterrec", "alterrec_aug"], ["window.last"]), sweep_model(["sasrec"], ["optim.lr"])
        ('alterrec', 'sasrec')
    """
    if len(models) == 1:
        return models[0]
    return "alterrec_aug" if any(key.startswith("positives.") for key in keys) else "alterrec"


def report(study: StudyResult) -> Presentation:
    """Report how much each field changes the metric, compared with seeds, and what validation chooses."""
    table = Section("All values", [RULE_NOTE], tables={"sweep": sweep_data(study)})
    return study_report(
        study,
        title=f"Effect of recipe fields on {study.data.name} (Figures 7, 10, 11)",
        findings=findings(study),
        sections=[*_line_section(study), *_map_sections(study), table],
    )


def findings(study: StudyResult) -> list[str]:
    lines = [_finding(study, axes, points) for axes, points in finished_sweeps(study)]
    return lines or ["No field has finished runs of two values yet."]


def finished_sweeps(study: StudyResult) -> list[tuple[Grid, list[Point]]]:
    """Return the sweeps with at least two finished settings."""
    sweeps = [(axes, points_of(study, axes, study.pictured)) for axes in study.over]
    return [(axes, points) for axes, points in sweeps if len(points) > 1]


def base_row(study: StudyResult, axes: Grid) -> RowResult:
    """Return the row with the recipe's own values; its settings contain every swept field of its system."""
    bases = [row for row in study.rows if row.label == row.model]
    model = sweep_model([row.model for row in bases], list(axes))
    return next(row for row in bases if row.model == model)


def points_of(study: StudyResult, axes: Grid, metric: str) -> list[Point]:
    """Return the settings of a sweep that have finished runs, the last field varying fastest."""
    base = base_row(study, axes)
    points = []
    for values in product(*axes.values()):
        wanted = dict(zip(axes, values, strict=True))
        trained = base.settings | {key: value for key, value in wanted.items() if key != ALPHA}
        rows = [row for row in study.rows if (row.model, row.settings) == (base.model, trained)]
        runs = [run for row in rows for run in row.runs]
        both = [pair for run in runs for pair in _measured(run, wanted.get(ALPHA), metric)]
        if both:
            valid, test = zip(*both, strict=True)
            points.append(Point(values, valid, test, base.settings | wanted == base.settings))
    return points


def _measured(run: SeedResult, alpha: float | None, metric: str) -> Iterator[tuple[float, float]]:
    """Yield the metric on validation and on test, for a weight of ID if one is given."""
    pairs = [(run.valid, run.test)]
    if alpha is not None:
        pairs = [(each.valid, each.test) for each in run.alphas if abs(each.alpha - alpha) < 1e-9]
    for valid, test in pairs:
        if metric in valid and metric in test:
            yield valid[metric], test[metric]


def field_name(key: str) -> str:
    """Return the name of a field with its symbol in the paper.

    Example:
        >>> field_name("window.last"), field_name("optim.lr")
        ('window.last (k2)', 'optim.lr')
    """
    return f"{key} ({SYMBOLS[key]})" if key in SYMBOLS else key


def range_and_noise(points: Sequence[Point]) -> tuple[float, float | None]:
    """Return the range of the test means and the standard deviation between seeds; None for one seed.

    Example:
        >>> seeds = [0.0, 0.25, 0.5], [0.5, 0.75, 1.0]
        >>> range_and_noise([Point((value,), [], test, False) for value, test in enumerate(seeds)])
        (0.5, 0.25)
    """
    means = [statistics.fmean(point.test) for point in points]
    variances = [statistics.variance(point.test) for point in points if len(point.test) > 1]
    return max(means) - min(means), statistics.fmean(variances) ** 0.5 if variances else None


def _finding(study: StudyResult, axes: Grid, points: Sequence[Point]) -> str:
    fields = f"{' with '.join(map(field_name, axes))} of {base_row(study, axes).model}"
    number = f"{len(points)} {'values' if len(axes) == 1 else 'pairs of values'}"
    if all((point.valid, point.test) == (points[0].valid, points[0].test) for point in points):
        return f"{fields}: {number} {SAME_NUMBERS}"
    size, noise = range_and_noise(points)
    lead = f"{fields}: over {number}, test {metric_name(study.pictured)} varies by {100 * size:.2f} points"
    if noise is None:
        verdict = "with one seed, this cannot be compared with the variation between seeds"
    else:
        verdict = f"the standard deviation between seeds is {100 * noise:.2f}, "
        if size > CHANCE * noise:
            verdict += "so the field matters"
        elif size > noise:
            verdict += "so an effect of the field is not shown"
        else:
            verdict += "which is more, so the field does not matter here"
    best = _best(points)
    edge = (
        len(axes) == 1
        and ALPHA not in axes
        and len(points) > 2
        and isinstance(best.values[0], int | float)
        and best in (points[0], points[-1])
    )
    further = " This is the end of the range, so a value beyond it may be better." if edge else ""
    return f"{lead}; {verdict}. {_best_value(points)}{further}"


def _best_value(points: Sequence[Point]) -> str:
    best = _best(points)
    base = next((point for point in points if point.base), None)
    text = f"Best by validation: {_values_text(best)} (test {percent(statistics.fmean(best.test))})"
    if base is None:
        return f"{text}."
    if best is base:
        return f"{text}, the recipe's own value{'s' if len(best.values) > 1 else ''}."
    return f"{text}; the recipe has {_values_text(base)} ({percent(statistics.fmean(base.test))})."


def _best(points: Sequence[Point]) -> Point:
    return max(points, key=lambda point: statistics.fmean(point.valid))


def _values_text(point: Point) -> str:
    return listed([*map(str, point.values)])


def _line_section(study: StudyResult) -> Iterator[Section]:
    """Yield a section with one panel for each field that is swept alone, if there are any."""
    single = [(next(iter(axes)), points) for axes, points in finished_sweeps(study) if len(axes) == 1]
    if not single:
        return
    panels = {key: _panel(study, key, points) for key, points in single}
    trained = [panel.range for key, panel in panels.items() if key != ALPHA]
    shared = (min(low for low, _ in trained), max(high for _, high in trained)) if trained else (0.0, 1.0)
    own = "; the weight of ID, which needs none, has its own." if ALPHA in panels and trained else "."
    plot = Plot.of(
        sweep_lines,
        [panel if key == ALPHA else panel._replace(limits=shared) for key, panel in panels.items()],
        f"{metric_name(study.pictured)} on validation and test by the value of {listed([*panels])}.",
    )
    yield Section(f"{metric_name(study.pictured)} by value", [LINES_NOTE + own], {"sweep": plot})


def _panel(study: StudyResult, key: str, points: Sequence[Point]) -> SweepPanel:
    return SweepPanel(
        field_name(key),
        base_row(study, {key: ()}).model,
        [point.values[0] for point in points],
        [point.valid for point in points],
        [point.test for point in points],
        next((place for place, point in enumerate(points) if point.base), None),
    )


def _map_sections(study: StudyResult) -> Iterator[Section]:
    """Yield a section with two maps for each pair of fields that are swept together."""
    metric = metric_name(study.pictured)
    pairs = [(axes, points) for axes, points in finished_sweeps(study) if len(axes) == 2]
    for number, (axes, points) in enumerate(pairs, start=1):
        panels = [_map(study, axes, points, split) for split in ("validation", "test")]
        plot = Plot.of(heat_maps, panels, f"{metric} by {listed([*axes])}, one cell for each pair of values.")
        title = f"{metric} by {' and '.join(map(field_name, axes))}"
        yield Section(title, [MAP_NOTE], {"map" if number == 1 else f"map_{number}": plot})


def _map(study: StudyResult, axes: Grid, points: Sequence[Point], split: str) -> HeatPanel:
    rows, columns = axes.values()
    seeds = {point.values: point.test if split == "test" else point.valid for point in points}
    means = {values: statistics.fmean(by_seed) for values, by_seed in seeds.items()}
    cells = [[means.get((row, column)) for column in columns] for row in rows]
    places = {(row, column): (y, x) for y, row in enumerate(rows) for x, column in enumerate(columns)}
    base = next((places[point.values] for point in points if point.base), None)
    best = places[_best(points).values]
    first, second = map(field_name, axes)
    title = f"{metric_name(study.pictured)} on {split}"
    return HeatPanel(title, (first, second), rows, columns, cells, base, best)


def sweep_data(study: StudyResult) -> DataTable:
    """Return validation and test of each setting of each sweep; the best by validation is bold."""
    name = metric_name(study.pictured)
    rows: list[tuple[str, ...]] = []
    best: set[tuple[int, int]] = set()
    records = []
    for axes, points in finished_sweeps(study):
        for point in points:
            if point is _best(points):
                best |= {(len(rows), column) for column in (1, 2)}
            value = _values_text(point) + (" (recipe)" if point.base else "")
            cells = [mean_and_spread(each, 2) for each in (point.valid, point.test)]
            rows.append((" with ".join(axes), value, *cells, str(len(point.test))))
            record = {"model": base_row(study, axes).model, **dict(zip(axes, point.values, strict=True))}
            for split, values in (("validation", point.valid), ("test", point.test)):
                record[f"{split} {study.pictured}"] = statistics.fmean(values)
                record[f"{split} {study.pictured}_sd"] = statistics.stdev(values) if len(values) > 1 else None
            records.append(record | {"seeds": len(point.test), "recipe": point.base})
    columns = ("field", "value", f"validation {name}", f"test {name}", "seeds")
    return DataTable(Table(columns, tuple(rows), best=frozenset(best)), records)


STUDY = Study(
    name="sweep",
    summary="the effect of recipe fields on a metric, one or two at a time (Figures 7, 10 and 11)",
    systems=tuple(PAPER_SWEEPS),
    report=report,
    complete=complete,
    accepts=("over", "metric"),
    choices=ALL_SYSTEMS,
    plan=plan,
)

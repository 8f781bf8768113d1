"""The rows of a sweep: the recipe's own values, and each other value or pair of values."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from itertools import product
from typing import Any

from alterrec.errors import InputError
from alterrec.recipe import Recipe
from alterrec.studies.plan import Grid, Order, PlannedRow, plan_row
from alterrec.studies.queue import RunQueue, Settings
from alterrec.studies.sweeps import ALPHA, sweep_model

# The recipe of a model under settings.
Resolved = Callable[[str, Settings], Recipe]

# Weights of ID that every run measures (evaluation/choose.CURVE).
ALPHAS = tuple(step / 10 for step in range(11))
# Figures 7, 10 and 11, by the system on which a field acts.
PAPER_SWEEPS: Mapping[str, Sequence[Grid]] = {
    "alterrec": (
        {ALPHA: ALPHAS},
        {"window.last": (0.05, 0.2, 0.5)},
        {"window.first": (1, 6, 20)},
    ),
    "alterrec_aug": ({"positives.top": (1, 5, 10)}, {"positives.weight": (0.1, 0.5, 1.0)}),
}


def sweep_axes(order: Order, resolved: Resolved) -> list[Grid]:
    """What was asked for, or the paper's sweeps: values as the recipe reads them, in order, with its own.

    Raises:
        InputError: an unknown key, a value that is not allowed, or nothing to compare.
    """
    asked = order.over or [axes for model in order.models for axes in PAPER_SWEEPS.get(model, ())]
    if not asked:
        raise InputError(
            f"--over is missing; the paper sweeps fields of {', '.join(PAPER_SWEEPS)} alone; allowed for "
            f"{', '.join(order.models)}: --over KEY=V1,V2,... with any key of `alterrec list recipes`"
        )
    if len(order.models) > 1 and not set(order.models) <= set(PAPER_SWEEPS):
        raise InputError(f"--only names {', '.join(order.models)}; allowed for a sweep: one system")
    return [_completed(axes, sweep_model(order.models, list(axes)), resolved) for axes in asked]


def sweep_rows(order: Order, runs: RunQueue) -> list[PlannedRow]:
    """For each system the row of its recipe's values, then one for each other setting that is trained."""
    rows: dict[str, PlannedRow] = {}
    for model in order.models:
        own = [axes for axes in order.over if sweep_model(order.models, list(axes)) == model]
        recipe = runs.make(model, {}, 0).recipe
        base = {key: value_of(recipe, key) for axes in own for key in axes}
        if own:
            rows[model] = plan_row(model, runs, order.grid, order.seeds, settings=base)
        for axes in own:
            for values in product(*axes.values()):
                point = {key: value for key, value in zip(axes, values, strict=True) if key != ALPHA}
                if base | point == base:
                    continue
                label = ", ".join([model, *(f"{key} {value}" for key, value in point.items())])
                rows[label] = plan_row(
                    model, runs, order.grid, order.seeds, settings=base | point, label=label
                )
    return list(rows.values())


def value_of(recipe: Recipe, key: str) -> Any:
    """The value of a dotted key.

    Example:
        >>> from alterrec.recipe import resolve
        >>> value_of(resolve("alterrec", ["paper"]), "window.first")
        6
    """
    table, _, name = key.partition(".")
    return getattr(getattr(recipe, table), name)


def _completed(axes: Grid, model: str, resolved: Resolved) -> dict[str, list[Any]]:
    if len(axes) > 2:
        raise InputError(f"--over has {len(axes)} keys, {', '.join(axes)}; allowed: one or two")
    if "run.seed" in axes:
        raise InputError("--over run.seed is no field of a sweep; allowed: --seeds N, which gives the bands")
    return {key: _values(key, given, model, resolved) for key, given in axes.items()}


def _values(key: str, given: Sequence[Any], model: str, resolved: Resolved) -> list[Any]:
    values = [value_of(resolved(model, {key: value}), key) for value in given]
    base = value_of(resolved(model, {}), key)
    if key == ALPHA:
        for value in values:
            if value not in ALPHAS:
                raise InputError(f"--over {ALPHA} has {value}; allowed: {', '.join(map(str, ALPHAS))}")
    else:
        values = [base, *values]
    kept = list(dict.fromkeys(values))
    if len(kept) == 1:
        raise InputError(f"--over {key} has {base} alone, the recipe's own; allowed: others beside it")
    numbers = all(isinstance(value, int | float) and not isinstance(value, bool) for value in kept)
    return sorted(kept) if numbers else kept

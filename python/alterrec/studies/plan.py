"""A row of a table: one system, its settings chosen on validation, then several seeds."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from itertools import product
from typing import Any, NamedTuple

from alterrec.models.catalogue import lookup
from alterrec.models.reads import keys_read
from alterrec.recipe import Recipe
from alterrec.studies.queue import Failure, Plan, RunQueue, Settings, StudyRun

Grid = Mapping[str, Sequence[Any]]

# Appendix F: what the paper searched for every system.
PAPER_GRID: Grid = {"optim.lr": (0.01, 0.001), "model.dropout": (0.1, 0.3, 0.5)}


class Order(NamedTuple):
    """What a study was asked for.

    Attributes:
        models: its rows.
        seeds: of each row that trains.
        grid: settings to search.
        quick: the settings of a coarse answer; empty where the whole one is wanted.
        command: what re-makes it.
        over: fields and values of a sweep.
        reference: the system that others are held against, where a study has one.
        pictured: the metric that is drawn, where a study draws one.
    """

    models: tuple[str, ...]
    seeds: int
    grid: Grid
    quick: Settings
    command: str
    over: Sequence[Grid] = ()
    reference: str = ""
    pictured: str = "ndcg@20"


class PlannedRow(NamedTuple):
    """A system, or a setting of one, in a table.

    Attributes:
        label: its name in the table.
        model: the system.
        settings: what the study set for this row, beside what was searched.
        tried: a run for each setting, of the first seed.
        chosen: the one with the best validation score, None until all have ended.
        seeds: the chosen setting by seed.
        later: seeds whose setting is not chosen yet.
    """

    label: str
    model: str
    settings: Settings
    tried: tuple[StudyRun, ...]
    chosen: StudyRun | None
    seeds: tuple[StudyRun, ...]
    later: int


def has_dropout(recipe: Recipe, fixed: Collection[str]) -> bool:
    """Whether ``model.dropout`` changes what a system learns.

    The dropout of text changes together with it unless it is ``fixed``.

    Example:
        >>> [has_dropout(resolve(model, ["paper"]), ()) for model in ("srgnn", "sasrec", "alterrec")]
        [False, True, True]
        >>> has_dropout(resolve("alterrec", ["paper"]), ("text.dropout",))
        False
    """
    known = keys_read(recipe)
    return "model.dropout" in known or ("text.dropout" in known and _text_moves(recipe, fixed))


def plan_row(
    model: str, runs: RunQueue, grid: Grid, seeds: int, *, settings: Settings | None = None, label: str = ""
) -> PlannedRow:
    """The row as far as results allow: the search, then the seeds of what it chose.

    A system that counts has one run. The search's own run is that of the first seed. What was refused once
    is not tried in other settings.

    Args:
        model: the system.
        runs: where runs lie.
        grid: what is searched.
        seeds: how many, where the system trains.
        settings: fixed for this row.
        label: its name, default that of the system.
    """
    if not lookup(model).trains:
        grid, seeds = {}, 1
    own = dict(settings or {})
    row = PlannedRow(label or model, model, own, (), None, (), 0)
    tried = tuple(runs.make(model, own | setting, 0) for setting in _settings(model, grid, runs, own))
    refused = [run for run in tried if run in runs.failures and runs.failures[run].refused]
    if refused:
        return row._replace(tried=(refused[0],))
    ended = all(map(runs.ended, tried))
    chosen = choose(tried, runs) if ended else tried[0] if len(tried) == 1 else None
    if chosen is None:
        return row._replace(tried=tried, later=0 if ended else seeds - 1)
    by_seed = tuple(runs.make(model, chosen.settings, seed) for seed in range(seeds))
    return row._replace(tried=tried, chosen=chosen, seeds=by_seed)


def choose(tried: Sequence[StudyRun], runs: RunQueue) -> StudyRun | None:
    """The finished run with the best validation score by its own ``schedule.metric``, the first of equals."""
    finished = [run for run in tried if runs.result(run) is not None]
    return max(finished, key=lambda run: validation(run, runs), default=None)


def validation(run: StudyRun, runs: RunQueue) -> float:
    """The validation score of a finished run by its ``schedule.metric``; the test is not looked at."""
    read = runs.result(run)
    return read.result.valid["score"].get(run.recipe.schedule.metric, 0.0) if read else 0.0


def failure_of(row: PlannedRow, runs: RunQueue) -> Failure | None:
    """Why a row has no numbers, if all that it tried has failed."""
    if row.chosen is not None or not all(map(runs.ended, row.tried)):
        return None
    failed = [runs.failures[run] for run in row.tried if run in runs.failures]
    return failed[0] if failed else None


def plan_of(rows: Sequence[PlannedRow]) -> Plan:
    """All runs of the rows."""
    needed = {run.name: run for row in rows for run in (*row.tried, *row.seeds)}
    return Plan(list(needed.values()), [row.model for row in rows for _ in range(row.later)])


def _settings(model: str, grid: Grid, runs: RunQueue, own: Settings) -> Iterator[dict[str, Any]]:
    """Points of the grid; a key that the user or the row has set is no axis, and dropout that changes nothing
    has its first value alone.

    Where text has the dropout of the rest it moves with it; a model that gives text its own keeps that.
    """
    fixed = {**runs.settings, **own}
    axes = {key: values for key, values in grid.items() if key not in fixed}
    base = runs.make(model, own, 0).recipe
    if "model.dropout" in axes and not has_dropout(base, fixed):
        axes["model.dropout"] = axes["model.dropout"][:1]
    together = _text_moves(base, fixed)
    for point in product(*axes.values()):
        setting = dict(zip(axes, point, strict=True))
        if "model.dropout" in setting and together:
            setting["text.dropout"] = setting["model.dropout"]
        yield setting


def _text_moves(recipe: Recipe, fixed: Collection[str]) -> bool:
    return recipe.text.dropout == recipe.model.dropout and "text.dropout" not in fixed

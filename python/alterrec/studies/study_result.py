"""Build the record of ``study.json`` from the rows of a study and their finished runs."""

from __future__ import annotations

import statistics as stats
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from alterrec.data.statistics import Statistics
from alterrec.evaluation.comparisons import (
    FEWEST_FLIPS,
    Comparison,
    Pairing,
    System,
    compare_systems,
    sorted_targets,
)
from alterrec.evaluation.saved import Mask, SavedRanks, popularity_groups, read_ranks
from alterrec.metrics import common_metrics
from alterrec.models.catalogue import lookup
from alterrec.results import (
    SCHEMA,
    DataSummary,
    FailedRun,
    RowResult,
    SeedResult,
    StudyResult,
    TriedSetting,
)
from alterrec.studies.plan import Order, PlannedRow, failure_of, has_dropout, validation
from alterrec.studies.queue import RunQueue, StudyRun
from alterrec.studies.rivals import Rivals


def study_result(
    name: str,
    order: Order,
    rows: Sequence[PlannedRow],
    runs: RunQueue,
    rivals: Rivals,
    *,
    curves: bool = False,
    grouped: bool = False,
    data: DataSummary | None = None,
    statistics: Statistics | None = None,
) -> StudyResult:
    """Collect what is known of a study so far.

    Args:
        name: of the study.
        order: the options of the study.
        rows: its rows, as far as finished runs determine them.
        runs: the folder of its runs.
        rivals: chooses the baselines of each row.
        curves: include the epochs of each run.
        grouped: also compare by popularity of the target.
        data: summary of the data; default that of the first finished run.
        statistics: of the data, in studies of the data themselves.
    """
    known = [run for row in rows for run in (*row.seeds, *row.tried)]
    first = next((read.result for run in known if (read := runs.result(run)) is not None), None)
    data = data or (first.data if first else None)
    assert data is not None, "a study without finished runs needs a summary of its data"
    return StudyResult(
        schema=SCHEMA,
        study=name,
        command=order.command,
        complete=all(row.later == 0 and all(map(runs.ended, (*row.tried, *row.seeds))) for row in rows),
        quick=dict(order.quick),
        presets=list(runs.presets),
        settings={key: value for key, value in runs.settings.items() if key not in order.quick},
        seeds=order.seeds,
        grid={key: list(values) for key, values in order.grid.items()},
        over=[{key: list(values) for key, values in axes.items()} for axes in order.over],
        reference=order.reference,
        metric=known[0].recipe.schedule.metric if known else "",
        data=data,
        test_targets=first.targets["test"].count if first else 0,
        rows=[row_result(row, runs, curves=curves) for row in rows],
        comparisons=study_comparisons(rows, runs, rivals, grouped=grouped),
        failures=[
            FailedRun(run.label, failure.reason)
            for run, failure in runs.failures.items()
            if not failure.refused
        ],
        pictured=order.pictured,
        versions=first.versions if first else {},
        statistics=statistics,
    )


def row_result(row: PlannedRow, runs: RunQueue, *, curves: bool = False) -> RowResult:
    """Return a row: the settings that were tried and chosen, and the run of each seed."""
    failure = failure_of(row, runs)
    setting = {}
    if row.chosen is not None and lookup(row.model).trains:
        chosen = row.chosen.recipe
        setting["lr"] = chosen.optim.lr
        if has_dropout(chosen, {*runs.settings, *row.settings}):
            setting["dropout"] = chosen.model.dropout
    return RowResult(
        label=row.label,
        model=row.model,
        settings=dict(row.settings),
        kind=lookup(row.model).kind,
        trains=lookup(row.model).trains,
        refused=failure is not None and failure.refused,
        reason=failure.reason if failure else "",
        setting=setting,
        tried=[
            TriedSetting(
                run=run.name,
                setting=dict(run.settings),
                validation=validation(run, runs) if runs.result(run) is not None else None,
                chosen=run is row.chosen,
            )
            for run in row.tried
        ],
        runs=[_seed_result(run, runs, curves=curves) for run in _finished(row, runs)],
    )


def study_comparisons(
    rows: Sequence[PlannedRow], runs: RunQueue, rivals: Rivals, *, grouped: bool = False
) -> list[Comparison]:
    """Compare each row with its baselines; all comparisons of a row are one family of Holm's correction.

    With ``grouped``, rows are also compared over the targets of each popularity group.
    """
    systems = {
        row.label: System(row.label, tuple(_test_ranks(runs.path(run)) for run in finished))
        for row in rows
        if (finished := _finished(row, runs))
    }
    kinds = {row.label: lookup(row.model).kind for row in rows}
    results = [read.result for row in rows for run in row.seeds if (read := runs.result(run)) is not None]
    metrics = common_metrics(result.test.get("score", {}) for result in results)
    families: dict[str, list[Pairing]] = {}
    for group in ["", *(_groups(systems) if grouped else ())]:
        masks = {label: _mask(system, group) for label, system in systems.items()}
        values = {
            label: np.mean(system.values("score", metrics, masks[label]), axis=0)
            for label, system in systems.items()
        }
        for label, baselines in rivals(kinds, values):
            pairing = Pairing(
                systems[label], [systems[each] for each in baselines], metrics, masks[label], group=group
            )
            families.setdefault(label, []).append(pairing)
    return [
        comparison
        for family in families.values()
        for comparison in compare_systems(family, flips=FEWEST_FLIPS)
    ]


def _finished(row: PlannedRow, runs: RunQueue) -> list[StudyRun]:
    return [run for run in row.seeds if runs.result(run) is not None]


def _test_ranks(folder: Path) -> SavedRanks:
    return sorted_targets(read_ranks(folder))


def _mask(system: System, group: str) -> Mask:
    counts = system.ranks[0].column("train_count")
    return popularity_groups(counts)[group] if group else system.all_targets


def _groups(systems: Mapping[str, System]) -> list[str]:
    """Return the popularity groups that have a target, the rarest first."""
    first = next(iter(systems.values()), None)
    if first is None:
        return []
    counts = first.ranks[0].column("train_count")
    return [name for name, where in popularity_groups(counts).items() if where.any()]


def _seed_result(run: StudyRun, runs: RunQueue, *, curves: bool) -> SeedResult:
    read = runs.result(run)
    assert read is not None
    result = read.result
    epochs = [epoch.seconds for epoch in read.epochs]
    return SeedResult(
        run=run.name,
        seed=result.seed,
        valid=result.valid.get("score", {}),
        test=result.test.get("score", {}),
        epochs=result.epochs,
        best_epoch=result.best_epoch,
        seconds=result.seconds,
        seconds_per_epoch=stats.fmean(epochs) if epochs else None,
        peak_memory_bytes=result.peak_memory_bytes,
        parameters=result.parameters,
        exclude_seen=result.data.exclude_seen,
        targets=result.data.targets,
        warnings=result.warnings,
        views={"valid": result.valid, "test": result.test},
        groups=result.groups.get("test", []),
        alphas=result.alphas,
        curve=list(read.epochs) if curves else [],
    )

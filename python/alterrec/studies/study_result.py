"""Build the record of ``study.json`` from the rows of a study and their finished runs."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np

from alterrec.data.dataset import Dataset
from alterrec.evaluation.comparisons import (
    Comparison,
    Pairing,
    System,
    compare_systems,
    sorted_targets,
)
from alterrec.evaluation.saved import popularity_groups, read_ranks
from alterrec.metrics import common_metrics
from alterrec.models.catalogue import lookup
from alterrec.results import SCHEMA, DataSummary, read_run
from alterrec.studies.plan import (
    Baselines,
    PlannedRow,
    Study,
    StudyOptions,
    failure_of,
    has_dropout,
    validation,
)
from alterrec.studies.queue import RunQueue, StudyRun
from alterrec.study_records import FailedRun, RowResult, SeedResult, StudyResult, TriedSetting


def study_result(
    study: Study,
    options: StudyOptions,
    rows: Sequence[PlannedRow],
    queue: RunQueue,
    data: DataSummary | None = None,
) -> StudyResult:
    """Return the results of a study so far; ``data`` defaults to the summary in the first finished run."""
    known = [run for row in rows for run in (*row.seeds, *row.tried)]
    finished = [read.result for run in known if (read := queue.result(run)) is not None]
    first = next(iter(finished), None)
    repeated = (result.targets["test"].repeated for result in finished)
    data = data or (first.data if first else None)
    assert data is not None, "a study without finished runs needs a summary of its data"
    comparisons = []
    if study.baselines:
        comparisons = compare_rows(rows, queue, study.baselines(options), by_group=study.by_group)
    return StudyResult(
        schema=SCHEMA,
        study=study.name,
        command=options.command,
        complete=all(row.later == 0 and all(map(queue.ended, (*row.tried, *row.seeds))) for row in rows),
        quick=options.quick_settings,
        presets=list(queue.presets),
        settings={key: value for key, value in queue.settings.items() if key not in options.quick_settings},
        seeds=options.num_seeds,
        grid={key: list(values) for key, values in options.grid.items()},
        over=[{key: list(values) for key, values in axes.items()} for axes in options.over],
        reference=options.reference,
        metric=known[0].recipe.schedule.metric if known else "",
        data=data,
        test_targets=first.targets["test"].count if first else 0,
        repeated_targets=next((number for number in repeated if number is not None), None),
        rows=[row_result(row, queue) for row in rows],
        comparisons=comparisons,
        failures=[FailedRun(run.label, why.reason) for run, why in queue.failures.items() if not why.refused],
        pictured=options.metric or "ndcg@20",
        versions=first.versions if first else {},
    )


def add_curves(result: StudyResult, queue: RunQueue, _: Dataset) -> StudyResult:
    """Add the epochs of each run to the result of a study."""
    rows = []
    for row in result.rows:
        curves = [list(read_run(queue.folder / run.run).epochs) for run in row.runs]
        runs = [replace(run, curve=curve) for run, curve in zip(row.runs, curves, strict=True)]
        rows.append(replace(row, runs=runs))
    return replace(result, rows=rows)


def row_result(row: PlannedRow, queue: RunQueue) -> RowResult:
    """Return a row: the settings that were tried and chosen, and the run of each seed."""
    failure = failure_of(row, queue)
    setting = {}
    if row.chosen is not None and lookup(row.model).trains:
        chosen = row.chosen.recipe
        setting["lr"] = chosen.optim.lr
        if has_dropout(chosen, {*queue.settings, *row.settings}):
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
            TriedSetting(run.name, dict(run.settings), validation(run, queue), run is row.chosen)
            for run in row.tried
        ],
        runs=[_seed_result(run, queue) for run in _finished(row, queue)],
    )


def compare_rows(
    rows: Sequence[PlannedRow], queue: RunQueue, baselines: Baselines, *, by_group: bool = False
) -> list[Comparison]:
    """Compare each row with its baselines; all comparisons of a row are one family, which is tested together.

    With ``by_group``, rows are also compared over the targets of each popularity group.
    """
    systems = {
        row.label: System(row.label, tuple(sorted_targets(read_ranks(queue.path(run))) for run in finished))
        for row in rows
        if (finished := _finished(row, queue))
    }
    kinds = {row.label: lookup(row.model).kind for row in rows}
    results = [read.result for row in rows for run in row.seeds if (read := queue.result(run)) is not None]
    metrics = common_metrics(result.test.get("score", {}) for result in results)
    families: dict[str, list[Pairing]] = {}
    for group in ["", *(_groups(systems) if by_group else ())]:
        masks, values = {}, {}
        for label, system in systems.items():
            counts = system.ranks[0].column("train_count")
            masks[label] = popularity_groups(counts)[group] if group else system.all_targets
            values[label] = np.mean(system.values("score", metrics, masks[label]), axis=0)
        for label, chosen in baselines(kinds, values):
            pairing = Pairing(
                systems[label], [systems[each] for each in chosen], metrics, masks[label], group=group
            )
            families.setdefault(label, []).append(pairing)
    compared = [compare_systems(family) for family in families.values()]
    return [comparison for family in compared for comparison in family]


def _finished(row: PlannedRow, queue: RunQueue) -> list[StudyRun]:
    return [run for run in row.seeds if queue.result(run) is not None]


def _groups(systems: Mapping[str, System]) -> list[str]:
    """Return the popularity groups that have a target, the rarest first."""
    groups = [popularity_groups(system.ranks[0].column("train_count")) for system in systems.values()]
    return [name for name, mask in groups[0].items() if mask.any()] if groups else []


def _seed_result(run: StudyRun, queue: RunQueue) -> SeedResult:
    read = queue.result(run)
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
        seconds_per_epoch=statistics.fmean(epochs) if epochs else None,
        peak_memory_bytes=result.peak_memory_bytes,
        parameters=result.parameters,
        seen=result.data.seen,
        by_seen={rule: views["score"] for rule, views in result.by_seen.get("test", {}).items()},
        targets=result.data.targets,
        warnings=result.warnings,
        views={"valid": result.valid, "test": result.test},
        groups=result.groups.get("test", []),
        errors=result.errors.get("score", {}),
        alphas=result.alphas,
    )

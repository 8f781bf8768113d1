"""What a study writes into ``study.json``: all that its tables and its page are made of."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from alterrec.data.dataset import Dataset
from alterrec.errors import InputError
from alterrec.evaluation.saved import popularity_groups
from alterrec.evaluation.significance import Floats, holm, paired_differences, session_values
from alterrec.report.tables import METRIC_NAMES
from alterrec.results import DataSummary
from alterrec.studies.plan import Order, Row, failure_of, has_dropout, kind_of, trains, validation
from alterrec.studies.queue import Run, Runs
from alterrec.studies.rivals import Rivals

METRICS = tuple(METRIC_NAMES)


def study_facts(
    name: str,
    order: Order,
    rows: Sequence[Row],
    runs: Runs,
    rivals: Rivals,
    *,
    curves: bool = False,
    grouped: bool = False,
) -> dict[str, Any]:
    """The whole of ``study.json``.

    Args:
        name: of the study.
        order: what was asked.
        rows: its rows, as far as results say.
        runs: where runs lie.
        rivals: which rows are held against which.
        curves: with what each run was after each epoch.
        grouped: with comparisons by popularity of the target.
    """
    known = [run for row in rows for run in (*row.seeds, *row.tried)]
    first = next((read.result for run in known if (read := runs.result(run)) is not None), None)
    failed = {run.label: failure.reason for run, failure in runs.failures.items() if not failure.refused}
    return {
        "schema": 1,
        "study": name,
        "command": order.command,
        "complete": all(row.later == 0 and all(map(runs.ended, (*row.tried, *row.seeds))) for row in rows),
        "quick": dict(order.quick),
        "presets": list(runs.presets),
        "settings": {key: value for key, value in runs.settings.items() if key not in order.quick},
        "seeds": order.seeds,
        "grid": {key: list(values) for key, values in order.grid.items()},
        "over": [{key: list(values) for key, values in axes.items()} for axes in order.over],
        "reference": order.reference,
        "metric": known[0].recipe.schedule.metric if known else "",
        "data": asdict(first.data) if first else None,
        "test_targets": first.targets["test"].count if first else 0,
        "rows": [row_facts(row, runs, curves=curves) for row in rows],
        "comparisons": comparisons(rows, runs, rivals, grouped=grouped),
        "failures": [{"run": label, "reason": reason} for label, reason in failed.items()],
        "pictured": order.pictured,
        "versions": first.versions if first else {},
    }


def data_facts(data: Dataset) -> dict[str, Any]:
    """What is known of the data without any run."""
    facts = DataSummary(
        name=data.name,
        fingerprint=data.fingerprint,
        items=data.num_items,
        cold_items=int((~data.trained).sum()),
        train_sessions=data.train.num_sessions,
        valid_sessions=data.valid.num_sessions,
        test_sessions=data.test.num_sessions,
    )
    return asdict(facts)


def row_facts(row: Row, runs: Runs, *, curves: bool = False) -> dict[str, Any]:
    """A row: what it is, what was tried and chosen, and each seed's run."""
    failure = failure_of(row, runs)
    learns = trains(row.model)
    setting = {}
    if row.chosen is not None and learns:
        chosen = row.chosen.recipe
        setting["lr"] = chosen.optim.lr
        if has_dropout(chosen, {*runs.settings, *row.settings}):
            setting["dropout"] = chosen.model.dropout
    return {
        "label": row.label,
        "model": row.model,
        "settings": dict(row.settings),
        "kind": kind_of(row.model),
        "trains": learns,
        "refused": failure is not None and failure.refused,
        "reason": failure.reason if failure else "",
        "setting": setting,
        "tried": [
            {
                "run": run.name,
                "setting": dict(run.settings),
                "validation": validation(run, runs) if runs.result(run) is not None else None,
                "chosen": run is row.chosen,
            }
            for run in row.tried
        ],
        "runs": [facts for run in row.seeds for facts in _run_facts(run, runs, curves=curves)],
    }


def comparisons(
    rows: Sequence[Row], runs: Runs, rivals: Rivals, *, grouped: bool = False
) -> list[dict[str, Any]]:
    """Each row against its rivals, p adjusted over all comparisons of a row.

    Per-session values are means over seeds, so the test and the interval speak of sessions. With ``grouped``
    targets of like popularity are compared by themselves, too.
    """
    ranks = {row.label: [_test_ranks(runs.path(run)) for run in _finished(row, runs)] for row in rows}
    ranks = {label: frames for label, frames in ranks.items() if frames}
    kinds = {row.label: kind_of(row.model) for row in rows}
    found: dict[str, list[dict[str, Any]]] = {}
    for group in ["", *(_groups(ranks) if grouped else ())]:
        values = {label: _session_values(frames, group) for label, frames in ranks.items()}
        for label, against in rivals(kinds, values):
            theirs_NK = np.stack([values[rival][:, k] for k, rival in enumerate(against)], axis=1)
            differences = paired_differences(values[label], theirs_NK)
            found.setdefault(label, []).extend(
                {"model": label, "metric": metric, "rival": rival, "group": group, **each._asdict()}
                for metric, rival, each in zip(METRICS, against, differences, strict=True)
            )
    for own in found.values():
        for each, p in zip(own, holm([each["p"] for each in own]), strict=True):
            each["p_adjusted"] = float(p)
    return [each for own in found.values() for each in own]


def _finished(row: Row, runs: Runs) -> list[Run]:
    return [run for run in row.seeds if runs.result(run) is not None]


def _groups(ranks: Mapping[str, list[pl.DataFrame]]) -> list[str]:
    """Groups of targets by popularity that have a target, the rarest first."""
    counts = next((frames[0]["train_count"] for frames in ranks.values()), pl.Series([], dtype=pl.Int64))
    return [name for name, where in popularity_groups(counts).items() if where.any()]


def _session_values(frames: Sequence[pl.DataFrame], group: str = "") -> Floats:
    """Metrics of each test session (N, K), averaged over seeds; sessions in the order of their ids."""
    if group:
        frames = [frame.filter(popularity_groups(frame["train_count"])[group]) for frame in frames]
    values = [
        session_values(frame["session_id"], frame["greater_score"], frame["tied_score"], METRICS)
        for frame in frames
    ]
    return np.asarray(np.mean(values, axis=0), np.float64)


def _test_ranks(folder: Path) -> pl.DataFrame:
    path = folder / "ranks.parquet"
    columns = ["split", "session_id", "train_count", "greater_score", "tied_score"]
    try:
        frame = pl.read_parquet(path, columns=columns)
    except (OSError, pl.exceptions.PolarsError) as error:
        raise InputError(f"{path} is damaged: {error}; delete {folder} and start the study again") from None
    return frame.filter(pl.col("split") == "test")


def _run_facts(run: Run, runs: Runs, *, curves: bool) -> list[dict[str, Any]]:
    read = runs.result(run)
    if read is None:
        return []
    result = read.result
    epochs = [epoch.seconds for epoch in read.epochs]
    return [
        {
            "run": run.name,
            "seed": result.seed,
            "valid": result.valid.get("score", {}),
            "test": result.test.get("score", {}),
            "epochs": result.epochs,
            "best_epoch": result.best_epoch,
            "seconds": result.seconds,
            "seconds_per_epoch": statistics.fmean(epochs) if epochs else None,
            "peak_memory_bytes": result.peak_memory_bytes,
            "parameters": result.parameters,
            "exclude_seen": result.data.exclude_seen,
            "targets": result.data.targets,
            "warnings": result.warnings,
            "views": {"valid": result.valid, "test": result.test},
            "groups": [asdict(group) for group in result.groups.get("test", [])],
            "alphas": [asdict(each) for each in result.alphas],
            **({"curve": [asdict(epoch) for epoch in read.epochs]} if curves else {}),
        }
    ]

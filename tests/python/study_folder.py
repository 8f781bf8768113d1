"""Finished runs of a study without any training, and a `study.json` worked by hand."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import polars as pl
from report_folder import result, write_run

from alterrec.studies.queue import RunQueue, StudyRun

METRICS = ("hits@10", "hits@20", "ndcg@10", "ndcg@20", "mrr@20")


def score(values: float | dict[str, float]) -> dict[str, dict[str, float]]:
    """Metrics of the view `score`, all alike where one number is given."""
    return {"score": values if isinstance(values, dict) else dict.fromkeys(METRICS, values)}


def without_own_items(value: float) -> float:
    """What a metric is without the session's own items: two points more."""
    return round(value + 0.02, 6)


def finish(
    runs: RunQueue,
    run: StudyRun,
    valid: float | dict[str, float] = 0.2,
    test: float = 0.2,
    greater: Sequence[int] = (),
    counts: Sequence[int] = (),
    **changes: Any,
) -> None:
    """Leave the folder of a finished run: its metrics, and of each test target how many items are above it
    and how often train has it (default once)."""
    by_seen = {"kept": score(test), "excluded": score(without_own_items(test))}
    epochs = 4 if run.recipe.schedule.regime != "none" else 0
    folder = write_run(
        runs.path(run),
        seed=run.recipe.run.seed,
        epochs=epochs,
        views=("score",),
        model=run.recipe.model_name,
        **{
            "valid": score(valid),
            "test": score(test),
            "by_seen": {"test": by_seen},
            "seconds": 10.0,
            "stopped": "finished",
            **changes,
        },
    )
    ranks = list(greater) or [0] * 4
    pl.DataFrame(
        {
            "split": ["test"] * len(ranks),
            "session_id": [f"s{place}" for place in range(len(ranks))],
            "position": [1] * len(ranks),
            "target_id": ["x"] * len(ranks),
            "train_count": list(counts) or [1] * len(ranks),
            "greater_score": ranks,
            "tied_score": [1] * len(ranks),
        }
    ).write_parquet(folder / "ranks.parquet")


def row(model: str, kind: str, *seeds: Sequence[float], **changes: Any) -> dict[str, Any]:
    """A row of `study.json`: a list of the five metrics, in percent, for each seed."""
    tests = [dict(zip(METRICS, (value / 100 for value in values), strict=True)) for values in seeds]
    runs = [
        {
            "run": f"{model}-{seed}",
            "seed": seed,
            "valid": {},
            "test": test,
            "epochs": 10,
            "best_epoch": 7,
            "seconds": 60.0 + 20 * seed,
            "seconds_per_epoch": 5.0 + seed,
            "peak_memory_bytes": (700 + 100 * seed) * 2**20,
            "parameters": 12_345,
            "seen": "kept",
            "by_seen": {
                "kept": test,
                "excluded": {metric: without_own_items(value) for metric, value in test.items()},
            },
            "targets": "last",
        }
        for seed, test in enumerate(tests)
    ]
    base = {
        "label": model,
        "model": model,
        "settings": {},
        "kind": kind,
        "trains": True,
        "refused": False,
        "reason": "",
        "setting": {"lr": 0.01, "dropout": 0.3},
        "tried": [],
        "runs": runs,
    }
    return base | changes


def difference(model: str, metric: str, rival: str, mean: float, p: float) -> dict[str, Any]:
    """A comparison of `study.json` in percentage points, with an interval of one point to each side."""
    low, high = (mean - 1) / 100, (mean + 1) / 100
    return {
        "model": model,
        "metric": metric,
        "rival": rival,
        "mean": mean / 100,
        "low": low,
        "high": high,
        "p": p / 5,
        "p_adjusted": p,
    }


def write_study(folder: Path, rows: list[dict[str, Any]], **changes: Any) -> Path:
    """Write `study.json`; `changes` replace its keys."""
    study = {
        "schema": 1,
        "study": "table1",
        "command": "alterrec study table1 --data shop",
        "complete": True,
        "quick": {},
        "presets": ["paper"],
        "settings": {},
        "seeds": 2,
        "grid": {"optim.lr": [0.01, 0.001]},
        "over": [],
        "reference": "",
        "metric": "hits@20",
        "data": result()["data"] | {"seen": "kept", "seen_rule": "never"},
        "test_targets": 907,
        "rows": rows,
        "comparisons": [],
        "failures": [],
        "repeated_targets": 9,
        "versions": {"torch": "2.9.0"},
    }
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "study.json").write_text(json.dumps(study | changes), "utf-8")
    return folder

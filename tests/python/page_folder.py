"""A page of every kind that the package writes, from small fixtures."""

from __future__ import annotations

import json
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import polars as pl
import test_study_curves
import test_study_longtail
import test_study_sweep
import test_study_tables
from report_folder import write_run
from study_folder import METRICS, difference, row, write_study
from worlds import small_dataset

import alterrec
from alterrec.analyses.run_page import RunReport
from alterrec.data.statistics import statistics
from alterrec.record_json import to_json
from alterrec.report.presentation import Report
from alterrec.results import SCHEMA, read_run
from alterrec.studies.study import load_study
from alterrec.study_records import JointStudy, read_study

TARGETS = 120
LONG_NAME = "a_system_with_a_very_long_name_that_does_not_break"


def write_pages(folder: Path) -> dict[str, Path]:
    """Write all pages and return kind -> path."""
    reports = {**_of_runs(folder), **_of_data(folder), **_of_studies(folder)}
    pages = {name: folder / f"{name}.html" for name in reports}
    for name, page in pages.items():
        page.write_text(reports[name].presentation().page(), "utf-8")
    return pages


def _of_runs(folder: Path) -> dict[str, Report]:
    views = ("score", "id", "text")
    runs = [
        _ranked(write_run(folder / "runs" / name, seed, model=model, views=views), seed, views)
        for seed, (name, model) in enumerate((("first", "nfrec_concat"), ("second", LONG_NAME)))
    ]
    whole = write_run(folder / "runs" / "whole")
    _ranked(whole, 7, ("score", "fused", "id", "text", "neighbours"))
    return {
        "run": RunReport(read_run(whole), [read_run(run) for run in runs]),
        "compare": alterrec.compare(runs, views=["each"]),
        "balance": alterrec.balance(runs[:1]),
    }


def _ranked(run: Path, seed: int, views: tuple[str, ...]) -> Path:
    """Give a run ranks of 120 targets, of which few are rare or late in their sessions."""
    random = np.random.default_rng(seed)
    columns: dict[str, object] = {
        "split": ["test"] * TARGETS,
        "session_id": [f"s{place}" for place in range(TARGETS)],
        "position": [1 + place % 12 for place in range(TARGETS)],
        "target_id": [f"i{place % 40}" for place in range(TARGETS)],
        "train_count": [place % 40 * 3 for place in range(TARGETS)],
        "repeated": [False] * TARGETS,
    }
    for view in views:
        counts = {f"greater_{view}": random.integers(0, 60, TARGETS), f"tied_{view}": np.ones(TARGETS, int)}
        columns |= counts | {f"kept_{name}": values for name, values in counts.items()}
        columns |= {f"excluded_{name}": values for name, values in counts.items()}
    pl.DataFrame(columns).write_parquet(run / "ranks.parquet")
    ids = [f"i{item}" for item in range(40)]
    items = {"item_id": ids, "text": [f"item {item}" for item in ids]}
    counts = {"train_count": [item * 3 for item in range(40)], "trained": [item > 0 for item in range(40)]}
    pl.DataFrame(items | counts).write_parquet(run / "vocabulary.parquet")
    return run


def _of_data(folder: Path) -> dict[str, Report]:
    data = small_dataset(cold=2)
    source = folder / "log.csv"
    rows = [
        f"s{session},i{(session + step) % 9},{1000 * session + step}"
        for session in range(40)
        for step in range(3)
    ]
    source.write_text("\n".join(["session_id,item_id,timestamp", *rows]) + "\n", "utf-8")
    prepared = alterrec.prepare(source, folder / "prepared", format="log")
    dataset = write_study(
        folder / "dataset", [], study="dataset", statistics=json.loads(json.dumps(asdict(statistics(data))))
    )
    return {
        "audit": alterrec.audit(data, command="alterrec audit --data shop"),
        "prepare": prepared,
        "dataset": load_study(dataset),
    }


def _of_studies(folder: Path) -> dict[str, Report]:
    base = test_study_sweep.swept(test_study_sweep.BASE, [20, 22], [21, 23])
    other = test_study_sweep.BASE | {"window.last": 0.05}
    sweep = [base, test_study_sweep.swept(other, [10, 12], [11, 13], label="a")]
    trained, single = test_study_curves.trained, test_study_curves.single
    parts = [
        trained("nfrec_concat", test_study_curves.naive(0), test_study_curves.naive(1), best=2),
        trained("id_only", single(0.19), single(0.21), best=2),
        trained("text_only", single(0.10), single(0.10), best=2),
    ]
    turns = [trained("alterrec", test_study_curves.turns(0.09, 0.12), best=4)]
    first = [row("alterrec", "ours", [20, 30, 10, 12, 8]), row(LONG_NAME, "baseline", [25, 31, 9, 13, 7])]
    table1 = [difference("alterrec", metric, LONG_NAME, -1.0, 0.2) for metric in METRICS]
    longtail = {"comparisons": test_study_longtail.COMPARED, "reference": "bert4rec"}
    studies = {
        "table1": (first, {"comparisons": table1}),
        "ablation": (test_study_tables.ABLATION, {"comparisons": test_study_tables.ABLATION_COMPARED}),
        "fusion": (test_study_tables.FUSION, {"comparisons": test_study_tables.FUSION_COMPARED}),
        "sweep": (sweep, {"over": [{"window.last": [0.05, 0.5]}]}),
        "longtail": (test_study_longtail.ROWS, longtail),
        "imbalance": (parts, {}),
        "alternation": (turns, {}),
    }
    found: dict[str, Report] = {
        name: load_study(write_study(folder / name, rows, study=name, **changes))
        for name, (rows, changes) in studies.items()
    }
    for name in ("table1", "ablation", "fusion"):
        found[f"joint {name}"] = _of_several(folder, name)
    return found


def _of_several(folder: Path, name: str) -> Report:
    """The page of a study of three data sets, each with the rows of the study of one."""
    part = read_study(folder / name)
    names = ("Online Retail", "HD", "MovieTweetings")
    parts = [replace(part, data=replace(part.data, name=data)) for data in names]
    joint = folder / f"joint {name}"
    joint.mkdir()
    record = JointStudy(SCHEMA, name, f"alterrec study {name} --data A --data B", parts)
    (joint / "study.json").write_text(json.dumps(to_json(record)), "utf-8")
    return load_study(joint)

"""Folders that version 0.1.0 wrote are still read: by results, compare, evaluate, recommend and --resume."""

from __future__ import annotations

import shutil
from dataclasses import asdict
from pathlib import Path

import polars as pl
import pytest

import alterrec
from alterrec.results import read_run, read_study
from alterrec.runs.fit import evaluate_run

OLD = Path(__file__).parents[1] / "data" / "runs"
SHOP = OLD / "shop"
LATER = ("system_mean", "baseline_mean", "sessions", "targets", "outcomes", "seed_error")
MODELS = ("alterrec", "sasrec")


@pytest.mark.parametrize("model", MODELS)
def test_an_old_result_is_read(model: str) -> None:
    run = read_run(OLD / model)
    assert (run.result.model, run.result.epochs, len(run.epochs)) == (model, 6, 6)
    assert run.settings["model"]["dim"] == 8
    assert all(example.top["score"] for example in run.examples)
    assert len(run.examples) > 3
    shown = alterrec.result(OLD / model)
    assert shown.metrics["score"]["ndcg@20"] == run.result.test["score"]["ndcg@20"]
    assert "NDCG@20" in str(shown)


def test_old_runs_are_compared() -> None:
    found = alterrec.compare([OLD / "sasrec", OLD / "alterrec"])
    assert [system.name for system in found.systems] == ["sasrec", "alterrec"]
    means = {name: read_run(OLD / name).result.test["score"]["ndcg@20"] for name in MODELS}
    assert found.systems[1].means["score"]["ndcg@20"][0] == pytest.approx(means["alterrec"])


@pytest.mark.parametrize("model", MODELS)
def test_an_old_model_is_evaluated(model: str) -> None:
    measured = evaluate_run(OLD / model, SHOP)
    stored = read_run(OLD / model).result
    for split, views in (("valid", stored.valid), ("test", stored.test)):
        for view, metrics in views.items():
            assert measured[split][view] == pytest.approx(metrics)


@pytest.mark.parametrize("model", MODELS)
def test_an_old_model_recommends(model: str) -> None:
    saved = alterrec.load(OLD / model)
    sessions = pl.read_csv(SHOP / "test.csv").group_by("session_id", maintain_order=True).agg("item_id")
    prefixes = [items[:-1] for items in sessions["item_id"].to_list()]
    names = pl.read_parquet(OLD / model / "vocabulary.parquet")["item_id"].to_list()
    top = pl.read_parquet(OLD / model / "top.parquet")["items"].to_list()
    assert len(prefixes) == len(top) == 20
    for answer, rows in zip(saved.recommend(prefixes, k=5), top, strict=True):
        assert [each.item_id for each in answer] == [names[row] for row in rows[:5]]


def test_an_old_checkpoint_is_resumed(tmp_path: Path) -> None:
    folder = Path(shutil.copytree(OLD / "killed", tmp_path / "killed"))
    tiny = {"model.dim": 8, "schedule.epochs": 6, "optim.batch_size": 64, "run.threads": 1}
    alterrec.fit(SHOP, "alterrec", out=folder, overrides=tiny | {"run.report": False}, resume=True)
    run, whole = read_run(folder), read_run(OLD / "alterrec")
    assert (run.result.epochs, run.result.stopped) == (6, "finished")
    # Another processor may add in another order, so the last bits are not compared.
    assert [epoch.loss for epoch in run.epochs] == pytest.approx([e.loss for e in whole.epochs], rel=1e-3)


def test_an_old_study_is_read() -> None:
    study = read_study(OLD / "study")
    assert [row.label for row in study.rows] == ["alterrec", "popularity"]
    assert {each.system for each in study.comparisons} == {"alterrec"}
    assert (
        study.rows[0].runs[0].test == read_run(next(OLD.glob("study-runs/alterrec-*"))).result.test["score"]
    )
    assert "27.01%" in str(alterrec.load_study(OLD / "study"))


def test_an_old_study_trains_nothing_again(tmp_path: Path) -> None:
    shutil.copytree(OLD / "study-runs", tmp_path / "study-runs")
    settings = {"model.dim": 8, "schedule.epochs": 4, "optim.batch_size": 64, "run.threads": 1}
    alterrec.run_study(
        "table1",
        SHOP,
        quick=True,
        only=["alterrec", "popularity"],
        settings=settings | {"run.baselines": False},
        out=tmp_path / "study",
    )
    again, old = read_study(tmp_path / "study"), read_study(OLD / "study")
    assert again.rows == old.rows
    # What version 0.1.0 wrote of a comparison; later versions write more.
    keys = [each for each in asdict(old.comparisons[0]) if each not in LATER]
    for new, before in zip(again.comparisons, old.comparisons, strict=True):
        assert [getattr(new, key) for key in keys] == [getattr(before, key) for key in keys]
    # A run that is trained has a log.
    assert not list((tmp_path / "study-runs").glob("*.log"))

"""Folders that version 0.1.0 wrote are still read: by results, compare, evaluate, recommend and --resume."""

from __future__ import annotations

import json
import shutil
from dataclasses import asdict
from pathlib import Path

import polars as pl
import pytest
from safetensors import safe_open
from safetensors.torch import save_file

import alterrec
from alterrec import recipe
from alterrec.errors import InputError
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


@pytest.fixture
def earlier_keys(monkeypatch: pytest.MonkeyPatch) -> None:
    """Keys as if the version before had called `gap` `pause`, and had had a key `nap` that is gone."""
    monkeypatch.setattr(recipe, "RENAMED", {"schedule.pause": "schedule.gap"})
    monkeypatch.setattr(recipe, "REMOVED", {"schedule.nap": 0})


def earlier_text(text: str) -> str:
    """A recipe of that version, which did not have `loss.logq` yet."""
    assert "gap = 1\n" in text
    assert "logq = false\n" in text
    return text.replace("gap = 1\n", "pause = 1\nnap = 0\n").replace("logq = false\n", "")


def earlier_folder(name: str, tmp_path: Path) -> Path:
    folder = Path(shutil.copytree(OLD / name, tmp_path / name))
    file = folder / "recipe.toml"
    file.write_text(earlier_text(file.read_text("utf-8")), "utf-8")
    checkpoint = folder / "checkpoint" / "progress.safetensors"
    if checkpoint.exists():
        with safe_open(checkpoint, framework="pt") as content:
            state = json.loads(content.metadata()["progress"])
            tensors = {key: content.get_tensor(key) for key in content.keys()}  # noqa: SIM118
        state["recipe"] = earlier_text(state["recipe"])
        save_file(tensors, checkpoint, metadata={"progress": json.dumps(state)})
    return folder


@pytest.mark.usefixtures("earlier_keys")
def test_a_run_is_read_after_keys_were_added_renamed_and_removed(tmp_path: Path) -> None:
    folder = earlier_folder("alterrec", tmp_path)
    assert recipe.load_recipe(folder / "recipe.toml") == recipe.load_recipe(OLD / "alterrec" / "recipe.toml")
    assert read_run(folder).settings == read_run(OLD / "alterrec").settings
    assert evaluate_run(folder, SHOP)["test"]["score"] == pytest.approx(
        read_run(OLD / "alterrec").result.test["score"]
    )
    assert alterrec.load(folder).recommend([first_session()], k=3)
    with pytest.raises(
        InputError, match="compare needs runs of at least two systems; got runs of one recipe"
    ):
        alterrec.compare([folder, OLD / "alterrec"])


def first_session() -> list[str]:
    rows = pl.read_csv(SHOP / "test.csv")
    return rows.filter(pl.col("session_id") == rows["session_id"][0])["item_id"].to_list()[:-1]


@pytest.mark.usefixtures("earlier_keys")
def test_a_run_is_resumed_after_keys_were_added_renamed_and_removed(tmp_path: Path) -> None:
    folder = earlier_folder("killed", tmp_path)
    tiny = {"model.dim": 8, "schedule.epochs": 6, "optim.batch_size": 64, "run.threads": 1}
    alterrec.fit(SHOP, "alterrec", out=folder, overrides=tiny | {"run.report": False}, resume=True)
    assert read_run(folder).result.epochs == 6


@pytest.mark.usefixtures("earlier_keys")
def test_what_a_removed_key_meant_is_refused_where_it_was_used(tmp_path: Path) -> None:
    file = tmp_path / "recipe.toml"
    file.write_text('model_name = "sasrec"\n[schedule]\nnap = 3\n', "utf-8")
    with pytest.raises(InputError, match=r"schedule\.nap is 3, but this version supports only 0"):
        recipe.load_recipe(file)
    file.write_text('model_name = "sasrec"\nschema = 99\n', "utf-8")
    with pytest.raises(InputError, match="its schema is 99, but this version reads up to 1"):
        recipe.load_recipe(file)


@pytest.mark.usefixtures("earlier_keys")
def test_a_renamed_key_still_works_and_warns() -> None:
    with pytest.warns(DeprecationWarning, match=r"schedule\.pause is now schedule\.gap"):
        assert recipe.resolve("alterrec", overrides={"schedule.pause": 2}).schedule.gap == 2


def test_a_new_field_and_a_renamed_one_change_no_digest(monkeypatch: pytest.MonkeyPatch) -> None:
    run = recipe.resolve("alterrec", overrides={"schedule.gap": 2})
    # The digest of schema 1: it must never change, for the folders of studies are named by it.
    assert recipe.recipe_digest(run, "data") == "57f19efdce"
    # As if the first schema had not had `loss.logq`, a field that was added later.
    first = {key: value for key, value in recipe._first_schema().items() if key != "loss.logq"}
    monkeypatch.setattr(recipe, "_first_schema", lambda: first)
    assert recipe.recipe_digest(run, "data") == "57f19efdce"
    # As if `gap` was now called `turn`: fields and first schema keep their own names.
    before = recipe.recipe_digest(run, "data")
    fields = {
        key.replace("schedule.gap", "schedule.turn"): row for key, row in recipe.recipe_fields().items()
    }
    monkeypatch.setattr(recipe, "recipe_fields", lambda: fields)
    monkeypatch.setattr(recipe, "RENAMED", {"schedule.gap": "schedule.turn"})
    value = recipe.Recipe.value
    monkeypatch.setattr(
        recipe.Recipe, "value", lambda self, key: value(self, key.replace("schedule.turn", "schedule.gap"))
    )
    assert recipe.recipe_digest(run, "data") == before


def test_the_first_schema_has_the_defaults_of_today() -> None:
    """A default that changes needs no entry anywhere: recipes with the new value get another digest."""
    fields = recipe.recipe_fields()
    for key, value in recipe._first_schema().items():
        assert recipe._plain(fields[recipe.RENAMED.get(key, key)][1]) == value

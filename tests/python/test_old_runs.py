"""Folders that version 0.1.0 wrote are still read: by results, compare, evaluate, recommend and --resume."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from safetensors import safe_open
from safetensors.torch import save_file

import alterrec
from alterrec import recipe, recipe_digests
from alterrec.data.readers import DataSource
from alterrec.data.repeats import changed_rule
from alterrec.errors import InputError
from alterrec.results import CHECKPOINT, read_run
from alterrec.runs.measure import evaluate_run
from alterrec.sessions import SessionStore
from alterrec.studies.queue import RunQueue
from alterrec.study_records import read_study

OLD = Path(__file__).parents[1] / "data" / "runs"
SHOP = OLD / "shop"
LATER = ("system_mean", "baseline_mean", "sessions", "targets", "outcomes", "seed_error")
MODELS = ("alterrec", "sasrec")
# The defaults of version 0.1.0 that have changed since, and with them the settings of the run `killed`.
OLD_DEFAULTS: dict[str, Any] = dict(recipe.ADDED) | {
    key: value
    for key, value in recipe_digests._first_schema().items()
    if key in recipe.recipe_fields() and recipe_digests._plain(recipe.recipe_fields()[key][1]) != value
}
KILLED = OLD_DEFAULTS | {
    "model.dim": 8,
    "schedule.epochs": 6,
    "optim.batch_size": 64,
    "run.threads": 1,
    "run.report": False,
}


@pytest.mark.parametrize("model", MODELS)
def test_an_old_result_is_read(model: str) -> None:
    run = read_run(OLD / model)
    assert (run.result.model, run.result.epochs, len(run.epochs)) == (model, 6, 6)
    # It wrote a truth value, and did not count both ways.
    assert (run.result.data.seen, run.result.data.seen_rule) == ("excluded", "auto")
    assert alterrec.load(OLD / model).seen == "excluded"
    assert run.result.by_seen == {}
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
    alterrec.fit(SHOP, "alterrec", out=folder, overrides=KILLED, resume=True)
    run, whole = read_run(folder), read_run(OLD / "alterrec")
    assert (run.result.epochs, run.result.stopped) == (6, "finished")
    # Another processor adds in another order. On this small catalogue, scores that differ in their last bits
    # then give other hard negatives: 2.5 % of the loss with AVX2 instead of AVX-512. A fresh start differs by
    # 90 %.
    losses = [epoch.loss for epoch in run.epochs], [epoch.loss for epoch in whole.epochs]
    assert losses[0][:3] == pytest.approx(losses[1][:3], rel=1e-6)
    assert losses[0][3:] == pytest.approx(losses[1][3:], rel=0.05)


def with_repeats(tmp_path: Path, split: str, place: int, sessions: int) -> Path:
    """The shop with an item that occurs twice in the first sessions of a split.

    It is the last one if ``place`` is -1. Otherwise, a session ``a b ... z`` becomes ``a a b ... z``.
    """
    shop = Path(shutil.copytree(SHOP, tmp_path / "shop"))
    rows = pl.read_csv(shop / f"{split}.csv", infer_schema=False)
    changed = []
    for number, part in enumerate(rows.partition_by("session_id", maintain_order=True)):
        last = part[-1:].with_columns(item_id=pl.lit(part["item_id"][0]))
        repeated = pl.concat([part[:-1], last] if place == -1 else [part[:1], part])
        changed.append(repeated if number < sessions else part)
    pl.concat(changed).write_csv(shop / f"{split}.csv")
    return shop


def files_of(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.mark.parametrize(
    ("rule", "split", "place", "sessions", "said"),
    [
        # The earlier rule counted all positions of training: below 0.5 % it left seen items out.
        ("auto", "train", -1, 1, "were not candidates, but now they are candidates with the counted"),
        ("auto", "valid", -1, 1, "were not candidates, but now they are candidates with the counted"),
        ("auto", "train", -1, 50, "were candidates, but now they are candidates with the counted"),
        # Items that repeat inside sessions, but no target does.
        ("auto", "train", 1, 50, "were candidates, but now they are not candidates"),
        ("always", "valid", -1, 1, "counted as found, but now they count as not found"),
        # Nothing has changed here.
        ("auto", "valid", 1, 20, ""),
        ("always", "train", -1, 50, ""),
        ("never", "train", -1, 50, ""),
    ],
)
def test_a_checkpoint_of_another_way_of_training_is_refused(
    tmp_path: Path, rule: str, split: str, place: int, sessions: int, said: str
) -> None:
    folder = Path(shutil.copytree(OLD / "killed", tmp_path / "killed"))
    shop = with_repeats(tmp_path, split, place, sessions)
    data = DataSource(shop).read(recipe.resolve("alterrec")).fingerprint
    text = f'exclude_seen = "{rule}"'
    change_checkpoint(
        folder,
        lambda state: {"data": data, "recipe": state["recipe"].replace('exclude_seen = "auto"', text)},
    )
    settings = KILLED | {"data.exclude_seen": rule}
    before = files_of(folder)
    if not said:
        alterrec.fit(shop, "alterrec", out=folder, overrides=settings, resume=True)
        assert read_run(folder).result.epochs == 6
        return
    with pytest.raises(InputError) as refused:
        alterrec.fit(shop, "alterrec", out=folder, overrides=settings, resume=True)
    assert said in str(refused.value)
    assert f"data.exclude_seen = {rule}" in str(refused.value)
    assert "Start again in a new folder without --resume" in str(refused.value)
    assert files_of(folder) == before


def test_a_checkpoint_of_this_version_is_resumed_whatever_repeats(tmp_path: Path) -> None:
    shop = with_repeats(tmp_path, "train", -1, 1)
    folder = Path(shutil.copytree(OLD / "killed", tmp_path / "killed"))
    data = DataSource(shop).read(recipe.resolve("alterrec")).fingerprint
    change_checkpoint(folder, lambda state: {"data": data, "recipe": f"schema = 2\n{state['recipe']}"})
    alterrec.fit(shop, "alterrec", out=folder, overrides=KILLED, resume=True)
    assert read_run(folder).result.data.seen == "repeats"


def test_how_a_rule_has_changed_by_hand() -> None:
    # One repeat among 250 targets is below 0.5 %, one among 125 is above.
    few, more = (
        SessionStore.from_arrays([0] * (number + 1), [0, 0, *range(1, number)]) for number in (250, 125)
    )
    none = SessionStore.from_arrays([0, 0, 0], [0, 1, 2])
    assert changed_rule("auto", none, none, "every") == ""
    assert "were not candidates, but now they are candidates with" in changed_rule("auto", few, none, "every")
    assert changed_rule("auto", few, none, "last") == ""
    assert "were candidates, but now they are candidates with" in changed_rule("auto", more, none, "every")
    assert "were candidates, but now they are not candidates" in changed_rule("auto", more, none, "last")
    assert changed_rule("always", more, none, "every") == ""
    assert "now they count as not found" in changed_rule("always", none, more, "every")
    assert changed_rule("never", more, more, "every") == ""


def test_a_wrong_option_leaves_the_folder_of_a_run_as_it_was(tmp_path: Path) -> None:
    folder = Path(shutil.copytree(OLD / "killed", tmp_path / "killed"))
    before = files_of(folder)
    with pytest.raises(InputError, match=r"belongs to another recipe \(run\.threads was 1, now 2\)"):
        alterrec.fit(SHOP, "alterrec", out=folder, overrides={"run.threads": 2}, resume=True)
    assert files_of(folder) == before


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
    # What version 0.1.0 wrote of a comparison; later versions write more, and have another test.
    retested = {"low", "high", "p", "p_adjusted"}
    keys = [each for each in asdict(old.comparisons[0]) if each not in {*LATER, *retested}]
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
    if (folder / CHECKPOINT).exists():
        change_checkpoint(folder, lambda state: {"recipe": earlier_text(state["recipe"])})
    return folder


def change_checkpoint(folder: Path, change: Callable[[dict[str, Any]], dict[str, Any]]) -> None:
    """Replace parts of the state in a checkpoint."""
    with safe_open(folder / CHECKPOINT, framework="pt") as content:
        state = json.loads(content.metadata()["progress"])
        tensors = {key: content.get_tensor(key) for key in content.keys()}  # noqa: SIM118
    save_file(tensors, folder / CHECKPOINT, metadata={"progress": json.dumps(state | change(state))})


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
    alterrec.fit(SHOP, "alterrec", out=folder, overrides=KILLED, resume=True)
    assert read_run(folder).result.epochs == 6


@pytest.mark.usefixtures("earlier_keys")
def test_what_a_removed_key_meant_is_refused_where_it_was_used(tmp_path: Path) -> None:
    file = tmp_path / "recipe.toml"
    file.write_text('model_name = "sasrec"\n[schedule]\nnap = 3\n', "utf-8")
    with pytest.raises(InputError, match=r"schedule\.nap is 3, but this version supports only 0"):
        recipe.load_recipe(file)
    file.write_text('model_name = "sasrec"\nschema = 99\n', "utf-8")
    with pytest.raises(InputError, match="its schema is 99, but this version reads up to 3"):
        recipe.load_recipe(file)


@pytest.mark.usefixtures("earlier_keys")
def test_a_renamed_key_still_works_and_warns() -> None:
    with pytest.warns(DeprecationWarning, match=r"schedule\.pause is now schedule\.gap"):
        assert recipe.resolve("alterrec", overrides={"schedule.pause": 2}).schedule.gap == 2


def test_a_new_field_and_a_renamed_one_change_no_digest(monkeypatch: pytest.MonkeyPatch) -> None:
    run = recipe.resolve(
        "alterrec", overrides=OLD_DEFAULTS | {"schedule.gap": 2, "data.exclude_seen": "never"}
    )
    # The digest of schema 1: it must never change, for the folders of studies are named by it.
    assert recipe_digests.recipe_digest(run, "data") == "29ed3c7c2b"
    # As if the first schema had not had `loss.logq`, a field that was added later.
    first = {key: value for key, value in recipe_digests._first_schema().items() if key != "loss.logq"}
    monkeypatch.setattr(recipe_digests, "_first_schema", lambda: first)
    assert recipe_digests.recipe_digest(run, "data") == "29ed3c7c2b"
    # As if `gap` was now called `turn`: fields and first schema keep their own names.
    before = recipe_digests.recipe_digest(run, "data")
    fields = {
        key.replace("schedule.gap", "schedule.turn"): row for key, row in recipe.recipe_fields().items()
    }
    monkeypatch.setattr(recipe, "recipe_fields", lambda: fields)
    monkeypatch.setattr(recipe, "RENAMED", {"schedule.gap": "schedule.turn"})
    value = recipe.Recipe.value
    monkeypatch.setattr(
        recipe.Recipe, "value", lambda self, key: value(self, key.replace("schedule.turn", "schedule.gap"))
    )
    assert recipe_digests.recipe_digest(run, "data") == before


@pytest.mark.parametrize(
    ("rule", "of_schema_1", "kept"),
    [("auto", "57f19efdce", False), ("always", "234735775d", False), ("never", "29ed3c7c2b", True)],
)
def test_runs_whose_rule_for_seen_items_has_changed_have_another_digest(
    rule: str, of_schema_1: str, kept: bool
) -> None:
    run = recipe.resolve("alterrec", overrides=OLD_DEFAULTS | {"schedule.gap": 2, "data.exclude_seen": rule})
    assert (recipe_digests.recipe_digest(run, "data") == of_schema_1) == kept


@pytest.mark.parametrize(("rule", "reused"), [("auto", False), ("always", False), ("never", True)])
def test_runs_of_the_first_release_are_reused_where_their_rule_means_the_same(
    tmp_path: Path, rule: str, reused: bool
) -> None:
    def made() -> str:
        queue = RunQueue(tmp_path, DataSource(), "data", settings={"data.exclude_seen": rule})
        return queue.make("popularity", {}, 0).name

    run = RunQueue(tmp_path, DataSource(), "data", settings={"data.exclude_seen": rule})
    recipe_of_run = run.make("popularity", {}, 0).recipe
    earlier = f"popularity-{recipe_digests.first_release_digest(recipe_of_run, 'data')}"
    assert made() != earlier
    (tmp_path / earlier).mkdir()
    (tmp_path / earlier / "result.json").touch()
    assert (made() == earlier) == reused


def test_the_first_schema_has_the_defaults_of_today() -> None:
    """A default that changes needs no entry in the package: recipes with the new value get another digest."""
    fields, changed = recipe.recipe_fields(), {"window.last": 0.5, "optim.batch_size": 1024}
    for key, value in recipe_digests._first_schema().items():
        assert recipe_digests._plain(fields[recipe.RENAMED.get(key, key)][1]) == changed.get(key, value)

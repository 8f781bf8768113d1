"""Runs that continue on other sessions and items."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from run_files import comparable_files

import alterrec
from alterrec.data.dataset import Dataset, ItemText
from alterrec.data.synthetic import synthetic_dataset
from alterrec.errors import InputError
from alterrec.models.base import Recommender
from alterrec.models.reads import settings_read
from alterrec.sessions import SessionStore
from alterrec.vocabulary import Vocabulary

DATA = synthetic_dataset(items=100, sessions=300)
assert DATA.text is not None
TINY = {"model.dim": 8, "schedule.epochs": 6, "run.baselines": False, "run.report": False, "run.threads": 1}


def next_month() -> Dataset:
    """The items in another order, one of them under a new id and one gone, with their sessions."""
    order = np.random.default_rng(1).permutation(100)[:99]
    number = np.full(100, -1)
    number[order] = np.arange(99)
    assert DATA.text is not None

    def store(given: SessionStore) -> SessionStore:
        items = number[given.items]
        sessions = np.repeat(given.session_ids, given.lengths)
        return SessionStore.from_arrays(sessions[items >= 0], items[items >= 0], num_items=99)

    stores = {split: store(each) for split, each in DATA.splits.items()}
    ids = [DATA.vocabulary.item_ids[item] for item in order]
    ids[3] = "new"
    texts = {name: [texts[item] for item in order] for name, texts in DATA.text.fields.items()}
    names = {split: [str(each) for each in store.session_ids] for split, store in stores.items()}
    return dataclasses.replace(
        DATA, **stores, vocabulary=Vocabulary(tuple(ids)), text=ItemText(texts), session_names=names
    )


LATER = next_month()


def fit(data: Dataset, out: Path, model: str | None = None, **options: Any) -> Path:
    overrides = settings_read(model, ["best"], TINY) if model else {}
    return alterrec.fit(data, model, out=out, overrides=overrides, **{"progress": None, **options}).path


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return fit(DATA, tmp_path_factory.mktemp("continued") / "run", "alterrec")


def test_a_run_continues_with_its_last_settings(run: Path, tmp_path: Path) -> None:
    after = alterrec.load(fit(LATER, tmp_path / "after", continue_from=run)).recipe
    before = alterrec.load(run).recipe
    assert after.model_name == "alterrec"
    assert after.schedule.epochs == 2
    assert (after.schedule.warmup, after.model.continues) == (0, str(run))
    # Three epochs of each network: the rate has decayed twice.
    assert after.id.lr == after.text.lr == pytest.approx(before.optim.lr * before.optim.decay**2)
    curves = (tmp_path / "after/curves.jsonl").read_text("utf-8").splitlines()
    assert [json.loads(line)["negatives"] for line in curves] == ["window", "window"]
    again = alterrec.load(fit(LATER, tmp_path / "again", continue_from=tmp_path / "after")).recipe
    assert (again.id.lr, again.schedule.epochs) == (after.id.lr, 2)


def test_rows_are_kept_by_their_ids(run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without training, the model of the run is that of the beginning."""
    monkeypatch.setattr("alterrec.training.trainer.Trainer._train_epoch", lambda *given: (1.0, 1, 0.0))
    models = [alterrec.load(run), alterrec.load(fit(LATER, tmp_path / "after", continue_from=run))]
    first, second = (each.model for each in models)
    assert isinstance(first, Recommender)
    assert isinstance(second, Recommender)
    number_V = DATA.vocabulary.find(LATER.vocabulary.item_ids)
    kept = np.flatnonzero((number_V >= 0) & DATA.trained[number_V])
    for name in ("id", "text"):
        tables = [model.network(name).item_tables().outputs for model in (first, second)]
        assert torch.allclose(tables[1][kept], tables[0][number_V[kept]], atol=1e-5)
    state, given = second.state_dict(), first.state_dict()
    assert torch.equal(
        state["networks.text.items.project.weight"], given["networks.text.items.project.weight"]
    )
    assert number_V[3] == -1
    rows = second.network("id").items.rows_VD
    assert not torch.allclose(rows[3], torch.zeros(8))


def test_the_latest_sessions_alone_are_told_of(run: Path, tmp_path: Path) -> None:
    rows = LATER.train.lengths[:3].sum()
    few = SessionStore.from_arrays(
        np.repeat(np.arange(3), LATER.train.lengths[:3]), LATER.train.items[:rows], num_items=99
    )
    alone = dataclasses.replace(
        LATER, train=few, session_names={**LATER.session_names, "train": ["a", "b", "c"]}
    )
    number_V = DATA.vocabulary.find(LATER.vocabulary.item_ids)
    kept_V = (number_V >= 0) & DATA.trained[number_V]
    kept_V[few.items] = False
    said: list[str] = []
    fit(alone, tmp_path / "run", continue_from=run, progress=lambda event: said.append(event.message))
    assert [line for line in said if line.startswith(f"{kept_V.sum()} items that {run} was trained on are")]
    again: list[str] = []
    fit(LATER, tmp_path / "all", continue_from=run, progress=lambda event: again.append(event.message))
    assert not [line for line in again if "are in no training session" in line]


def test_the_same_seed_gives_the_same_run(run: Path, tmp_path: Path) -> None:
    files = [comparable_files(fit(LATER, tmp_path / name, continue_from=run)) for name in ("a", "b")]
    assert files[0] == files[1]


@pytest.mark.parametrize("model", ["sasrec", "nfrec_sum", "llm2sasrec"])
def test_other_systems_continue(model: str, tmp_path: Path) -> None:
    run = fit(DATA, tmp_path / "run", model)
    after = fit(LATER, tmp_path / "after", continue_from=run)
    assert json.loads((after / "result.json").read_text("utf-8"))["model"] == model


def test_what_cannot_continue_is_refused(run: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="is a run of alterrec, but the model is 'sasrec'; leave"):
        alterrec.fit(LATER, "sasrec", continue_from=run, out=tmp_path / "x")
    with pytest.raises(InputError, match="--preset is given, but a run continues with its own settings"):
        alterrec.fit(LATER, continue_from=run, presets=["paper"], out=tmp_path / "x")
    with pytest.raises(InputError, match="is not a finished run; give the folder that training printed last"):
        alterrec.fit(LATER, continue_from=tmp_path, out=tmp_path / "x")
    with pytest.raises(InputError, match=r"cannot be continued with these settings and data: .* has shape"):
        alterrec.fit(LATER, continue_from=run, overrides={"model.dim": 16}, out=tmp_path / "x", progress=None)
    others = dataclasses.replace(
        LATER, vocabulary=Vocabulary(tuple(f"other-{each}" for each in LATER.vocabulary.item_ids))
    )
    with pytest.raises(InputError, match=r"none of the items of .* was trained in"):
        alterrec.fit(others, continue_from=run, out=tmp_path / "x", progress=None)
    counted = fit(DATA, tmp_path / "counted", "popularity")
    with pytest.raises(InputError, match="popularity is counted, not trained; fit it again"):
        alterrec.fit(LATER, continue_from=counted, out=tmp_path / "x")
    assert not (tmp_path / "x").exists()


def test_the_command_continues_a_run(alterrec: Any, shop: Path, tmp_path: Path) -> None:
    settings = ["--set=model.dim=8", "--set=run.baselines=false", "--set=run.report=false"]
    assert (
        alterrec(
            "train", "--data", shop, "--out", tmp_path / "run", "--set=schedule.epochs=4", *settings
        ).code
        == 0
    )
    code, out, err = alterrec("train", "--from", tmp_path / "run", "--data", shop, "--out", tmp_path / "next")
    assert (code, err) == (0, "")
    assert f"continuing alterrec from {tmp_path / 'run'}: 29 items keep their rows" in out

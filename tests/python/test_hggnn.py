"""HG-GNN beyond parity: unknown users, few items, dropout, runs with and without users."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest
import torch
from conftest import Outcome
from worlds import NUM_ITEMS, plain_scores, small_dataset

from alterrec import fit, load
from alterrec.data.dataset import Dataset
from alterrec.errors import InputError
from alterrec.evaluation.evaluate import Protocol, evaluate
from alterrec.evaluation.recommend import recommend_items
from alterrec.models.base import Network, Scorer
from alterrec.models.batches import SessionBatch
from alterrec.models.catalogue import build_model
from alterrec.models.parts import ModelInputs
from alterrec.nn.graph_encoders import NodeTable
from alterrec.recipe import resolve
from alterrec.runs import model_files as run_folder
from alterrec.runs.fit import FittedRun
from alterrec.runs.measure import evaluate_run
from alterrec.training.candidates import Supervision
from alterrec.training.step import restrict_to_step_items
from alterrec.vocabulary import Vocabulary

USERS = 9
SMALL = {"model.dim": 8, "schedule.epochs": 2, "run.baselines": False, "run.report": False}
BATCH = SessionBatch.of_prefixes(torch.tensor([[3, 1, 2], [7, 0, 0], [5, 5, 0]]), torch.tensor([3, 1, 2]))


@pytest.fixture
def network() -> Network:
    torch.manual_seed(0)
    train = small_dataset(users=USERS).train
    items = ModelInputs(NUM_ITEMS, None, torch.ones(NUM_ITEMS, dtype=torch.bool), train=train)
    return build_model(resolve("hggnn", overrides=SMALL), items).network("model").eval()


def test_unknown_users_are_the_mean_of_the_known(network: Network) -> None:
    tables = network.item_tables()
    unknown = network.encode_sessions(BATCH, tables)
    for users in ([-1, -1, -1], [USERS, USERS + 1, 10**9]):
        batch = BATCH._replace(user_N=torch.tensor(users))
        assert torch.equal(network.encode_sessions(batch, tables), unknown)
    parts = [part.detach().clone() for part in tables.inputs[:3]]
    for part in parts:
        part[NUM_ITEMS + 4] = part[NUM_ITEMS:].mean(0)
    batch = BATCH._replace(user_N=torch.tensor([4, 4, 4]))
    as_user_4 = tables._replace(inputs=NodeTable(*parts, ids_U=None))
    torch.testing.assert_close(network.encode_sessions(batch, as_user_4), unknown)
    assert not torch.allclose(network.encode_sessions(batch, tables), unknown)


def test_users_change_the_session_alone_that_is_theirs(network: Network) -> None:
    one = plain_scores(network, BATCH._replace(user_N=torch.tensor([0, 1, 2])))
    other = plain_scores(network, BATCH._replace(user_N=torch.tensor([0, 3, 2])))
    assert torch.equal(one[[0, 2]], other[[0, 2]])
    assert not torch.allclose(one[1], other[1])


def test_a_step_about_few_items_has_the_scores_of_all(network: Network) -> None:
    batch = BATCH._replace(user_N=torch.tensor([8, 0, 3]))
    candidates = torch.tensor([[9, 20], [30, 1], [0, 39]])
    positives = torch.tensor([[4], [5], [6]])
    ids, few, given = restrict_to_step_items(batch, Supervision(positives, torch.ones(1), candidates))
    assert len(ids) < NUM_ITEMS
    scores = plain_scores(network, few, network.item_tables(ids)).gather(1, given.candidates)
    torch.testing.assert_close(scores, plain_scores(network, batch).gather(1, candidates))


def test_dropout_is_on_the_vectors_that_neighbours_read(network: Network) -> None:
    network.train()
    rows, dropped, mean, _ = network.item_tables().inputs
    assert rows is network.items.rows_TD
    assert 0 < (dropped == 0).float().mean() < 1
    keeps = dropped != 0
    torch.testing.assert_close(dropped[keeps], rows[keeps] / (1 - 0.2))
    of_0 = network.items.edge_ids[: network.items.edge_offsets[1]]
    torch.testing.assert_close(mean[0], dropped[of_0].mean(0))
    rows, dropped, _, _ = network.eval().item_tables().inputs
    assert torch.equal(rows, dropped)


class Fitted(NamedTuple):
    """A finished run, its data, and the model as training left it in memory."""

    run: FittedRun
    data: Dataset
    model: Scorer


@pytest.fixture(scope="module")
def fitted(tmp_path_factory: pytest.TempPathFactory) -> Fitted:
    kept: list[Scorer] = []
    save = run_folder.save_model

    def keep(run: Path, model: Scorer, protocol: Protocol) -> None:
        kept.append(model)
        save(run, model, protocol)

    data = small_dataset(users=USERS)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(run_folder, "save_model", keep)
        run = fit(data, "hggnn", out=tmp_path_factory.mktemp("hggnn") / "run", overrides=SMALL)
    return Fitted(run, data, kept[0])


def test_a_run_comes_back_without_data(fitted: Fitted) -> None:
    loaded = load(fitted.run.path)
    again = evaluate(loaded.model, fitted.data.test, loaded.protocol)
    assert again.all_metrics() == fitted.run.result["test"]
    assert loaded.users == fitted.data.users


def test_a_saved_run_recommends_for_users_by_name(fitted: Fitted) -> None:
    twice = ["item03", "item04"]
    sessions = [twice, ["item20"], ["item07", "item08", "item09"], ["boat"], twice]
    names = ["user4", "user0", "user8", "user1", "user2"]
    saved = load(fitted.run.path)
    found = saved.recommend(sessions, k=5, users=names, drop_unknown=True)
    known = [place for place in range(5) if place != 3]
    numbers = [np.array([int(item[4:]) for item in sessions[place]]) for place in known]
    wanted = recommend_items(fitted.model, numbers, 5, saved.protocol, NUM_ITEMS, np.array([4, 0, 8, 2]))
    rows = [found[place] for place in known]
    assert [[int(row.item_id[4:]) for row in answer] for answer in rows] == wanted[0].tolist()
    assert [[row.score for row in answer] for answer in rows] == wanted[1].tolist()
    assert found[3] == []
    assert found[0] != found[4]


def test_a_user_who_is_not_known_is_as_none_given(fitted: Fitted) -> None:
    session = ["item03", "item04"]
    plain, strange, none, known = (
        fitted.run.recommend([session], 5, users=users) for users in (None, ["user9"], [None], ["user4"])
    )
    assert plain == strange == none
    assert known != plain


@pytest.mark.parametrize("users", [["user1"], ["user1"] * 3, "us"])
def test_users_are_one_for_each_session(fitted: Fitted, users: list[str]) -> None:
    with pytest.raises(
        InputError, match=r"^users is ('us'|a list of \d) for 2 sessions; expected a list with one user id"
    ):
        fitted.run.recommend([["item03"], ["item04"]], 3, users=users)


def test_evaluation_knows_users_by_name_in_any_order(fitted: Fitted) -> None:
    assert fitted.data.users is not None
    turned = fitted.data.with_users(Vocabulary(fitted.data.users.item_ids[::-1]))
    assert not np.array_equal(turned.test.users, fitted.data.test.users)
    result = evaluate_run(fitted.run.path, turned)
    assert {split: result[split] for split in ("valid", "test")} == {
        split: fitted.run.result[split] for split in ("valid", "test")
    }
    strangers = replace(fitted.data, users=Vocabulary(tuple(f"stranger{user}" for user in range(USERS))))
    without = evaluate(fitted.model, small_dataset().test, load(fitted.run.path).protocol)
    unknown = evaluate_run(fitted.run.path, strangers)["test"]
    assert unknown == without.all_metrics() != fitted.run.result["test"]


def test_the_command_line_reads_users(
    fitted: Fitted, alterrec: Callable[..., Outcome], tmp_path: Path
) -> None:
    file = tmp_path / "s.csv"
    rows = "now,item03,user4\nnow,item04,user4\nnew,item03,stranger\nnew,item04,stranger\n"
    file.write_text("session_id,item_id,who\n" + rows, "utf-8")
    asked = ("recommend", fitted.run.path, "--sessions", file, "-k", 3)
    code, out, err = alterrec(*asked, "--column", "user_id=who")
    assert code == 0
    assert err == "s.csv: sessions of unknown users: 1 of 2\n"
    wanted = fitted.run.recommend([["item03", "item04"]] * 2, 3, users=["user4", None])
    assert [line.split(",")[2] for line in out.splitlines()[1:]] == [row.item_id for w in wanted for row in w]
    assert alterrec(*asked).err == "s.csv: sessions of unknown users (no column user_id): 2 of 2\n"


def test_users_of_validation_alone_are_not_in_the_run(tmp_path: Path) -> None:
    data = small_dataset(users=USERS)
    few = replace(data, train=small_dataset(users=4).train)
    run = fit(few, "hggnn", out=tmp_path / "run", overrides=SMALL)
    assert load(run.path).users == Vocabulary(("user0", "user1", "user2", "user3"))


def test_a_system_without_users_passes_over_them(tmp_path: Path) -> None:
    data = small_dataset(users=USERS)
    run = fit(data, "popularity", out=tmp_path / "run", overrides={"run.baselines": False})
    assert not (run.path / "users.parquet").exists()
    assert run.recommend([["item03"]], 3, users=["user4"]) == run.recommend([["item03"]], 3)


def test_users_without_names_are_known_by_number(tmp_path: Path) -> None:
    data = replace(small_dataset(users=USERS), users=None)
    run = fit(data, "hggnn", out=tmp_path / "run", overrides=SMALL)
    assert load(run.path).users is None
    assert evaluate_run(run.path, data)["test"] == run.result["test"]
    with pytest.raises(ValueError, match="ring: its users have no names"):
        data.with_users(Vocabulary(("user0",)))


def test_data_without_users_is_said_in_one_sentence(tmp_path: Path) -> None:
    message = (
        r"^model 'hggnn' requires user ids, but the data has none \(the paper prints N/A here\); "
        r"give a column user_id in sessions, or choose a model without users such as srgnn$"
    )
    with pytest.raises(InputError, match=message):
        fit(small_dataset(), "hggnn", out=tmp_path / "run", overrides=SMALL)
    assert not (tmp_path / "run").exists()

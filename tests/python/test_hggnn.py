"""What parity leaves open: users that are not known, few items, dropout, runs with users and without."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from worlds import NUM_ITEMS, small_dataset

from alterrec import fit, load
from alterrec.errors import InputError
from alterrec.evaluation.evaluate import evaluate
from alterrec.experiments.run_folder import load_model
from alterrec.models.base import Network, SessionBatch
from alterrec.models.catalogue import build_model
from alterrec.models.parts import Items
from alterrec.nn.global_graph import NodeTable
from alterrec.recipe import resolve
from alterrec.training.step import about
from alterrec.training.supervision import Supervision

USERS = 9
SMALL = {"model.dim": 8, "schedule.epochs": 2, "run.baselines": False}
BATCH = SessionBatch.of_prefixes(torch.tensor([[3, 1, 2], [7, 0, 0], [5, 5, 0]]), torch.tensor([3, 1, 2]))


@pytest.fixture
def network() -> Network:
    torch.manual_seed(0)
    train = small_dataset(users=USERS).train
    items = Items(NUM_ITEMS, None, torch.ones(NUM_ITEMS, dtype=torch.bool), train=train)
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
    one = network.scores(BATCH._replace(user_N=torch.tensor([0, 1, 2])))
    other = network.scores(BATCH._replace(user_N=torch.tensor([0, 3, 2])))
    assert torch.equal(one[[0, 2]], other[[0, 2]])
    assert not torch.allclose(one[1], other[1])


def test_a_step_about_few_items_has_the_scores_of_all(network: Network) -> None:
    batch = BATCH._replace(user_N=torch.tensor([8, 0, 3]))
    candidates = torch.tensor([[9, 20], [30, 1], [0, 39]])
    positives = torch.tensor([[4], [5], [6]])
    ids, few, given = about(batch, Supervision(positives, torch.ones(1), candidates))
    assert len(ids) < NUM_ITEMS
    scores = network.scores(few, network.item_tables(ids)).gather(1, given.candidates)
    torch.testing.assert_close(scores, network.scores(batch).gather(1, candidates))


def test_dropout_is_on_the_rows_that_are_heard(network: Network) -> None:
    network.train()
    rows, heard, mean, _ = network.item_tables().inputs
    assert rows is network.items.rows_TD
    assert 0 < (heard == 0).float().mean() < 1
    keeps = heard != 0
    torch.testing.assert_close(heard[keeps], rows[keeps] / (1 - 0.2))
    of_0 = network.items.edge_ids[: network.items.edge_offsets[1]]
    torch.testing.assert_close(mean[0], heard[of_0].mean(0))
    rows, heard, _, _ = network.eval().item_tables().inputs
    assert torch.equal(rows, heard)


def test_a_run_comes_back_without_data_and_recommends_without_users(tmp_path: Path) -> None:
    data = small_dataset(users=USERS)
    run = fit(data, "hggnn", out=tmp_path / "run", overrides=SMALL)
    loaded = load_model(run.path)
    again = evaluate(loaded.model, data.test, loaded.protocol)
    assert again.all_metrics() == run.result["test"]
    (answer,) = load(run.path).recommend([["item03", "item04"]], k=3)
    assert len(answer) == 3


def test_data_without_users_is_said_in_one_sentence(tmp_path: Path) -> None:
    message = (
        r"^model 'hggnn' reads who clicked, but the data has no users, for which the paper prints N/A; "
        r"allowed: a column user_id in sessions, or a model without users such as srgnn$"
    )
    with pytest.raises(InputError, match=message):
        fit(small_dataset(), "hggnn", out=tmp_path / "run", overrides=SMALL)
    assert not (tmp_path / "run").exists()

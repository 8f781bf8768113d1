"""Losses and gradients of parts, by hand and compared with autograd on the whole model."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from worlds import small_dataset, text_like_vectors

from alterrec.evaluation.evaluate import Protocol
from alterrec.evaluation.part_losses import fixed_samples, part_gradients, part_losses
from alterrec.models.base import Network, Recommender
from alterrec.models.batches import SessionBatch
from alterrec.models.catalogue import build_model
from alterrec.models.parts import ModelInputs
from alterrec.nn.session_encoders import Mean
from alterrec.recipe import resolve
from alterrec.sessions import SessionStore

PROTOCOL = Protocol("last", seen="kept", max_len=50)


class Fixed(torch.nn.Module):
    """An item encoder with a given table."""

    def __init__(self, rows: list[list[float]]) -> None:
        super().__init__()
        self.rows = torch.nn.Parameter(torch.tensor(rows))
        self.dim = self.rows.shape[1]

    def forward(self, ids_U: torch.Tensor | None = None) -> torch.Tensor:
        return self.rows if ids_U is None else self.rows[ids_U]


def test_losses_by_hand() -> None:
    # The session (0, 1): the vector is row 0, the target item 1; scores are row 0 times every row.
    store = SessionStore.from_arrays([0, 0], [0, 1], num_items=3)
    one = Network(
        Fixed([[1.0, 2.0], [1.0, 0.0], [0.0, 1.0]]), Mean(), 1.0, {"id": slice(0, 1), "text": slice(1, 2)}
    )
    model = Recommender({"model": one}, {"id": 1.0, "text": 1.0}).eval()
    losses = part_losses(model, store, PROTOCOL)
    assert losses["id"] == pytest.approx(math.log(math.e + math.e + 1) - 1)
    assert losses["text"] == pytest.approx(math.log(math.e**4 + 1 + math.e**2))
    assert losses["score"] == pytest.approx(math.log(math.e**5 + math.e + math.e**2) - 1)
    # Item 0 is in the prefix; without it, item 2 is the only other candidate.
    excluded = part_losses(model, store, Protocol("last", seen="excluded", max_len=50))
    assert excluded["id"] == pytest.approx(math.log(math.e + 1) - 1)


def test_a_target_in_its_prefix_has_a_loss_only_where_it_is_a_candidate() -> None:
    store = SessionStore.from_arrays([0, 0], [0, 0], num_items=2)
    model = Recommender({"model": Network(Fixed([[1.0], [0.0]]), Mean(), 1.0)}, {"model": 1.0}).eval()
    assert part_losses(model, store, Protocol("last", seen="excluded", max_len=50)) == {}
    losses = part_losses(model, store, Protocol("last", seen="kept", max_len=50))
    assert losses == {"score": pytest.approx(math.log(math.e + 1) - 1)}


@pytest.mark.parametrize("name", ["nfrec_concat", "independent", "id_only"])
def test_gradients_are_those_of_autograd(name: str) -> None:
    data = small_dataset()
    items = ModelInputs(
        data.num_items, torch.from_numpy(text_like_vectors()), torch.ones(data.num_items, dtype=torch.bool)
    )
    torch.manual_seed(0)
    model = build_model(resolve(name, ["paper"], {"model.dim": 8}), items).eval()
    found = part_gradients(model, data.train, PROTOCOL)
    samples = fixed_samples(data.train)
    prefixes = [data.train.session(s)[:end].astype(np.int64) for s, end in samples]
    wanted = torch.tensor([int(data.train.session(s)[end]) for s, end in samples])
    padded = torch.nn.utils.rnn.pad_sequence([torch.from_numpy(p) for p in prefixes], batch_first=True)
    batch = SessionBatch.of_prefixes(padded, torch.tensor([len(p) for p in prefixes]))
    expected = {}
    for key in model.networks:
        network = model.network(key)
        tables = network.item_tables()
        vectors = network.encode_sessions(batch, tables).detach()
        loss = torch.nn.functional.cross_entropy(vectors @ tables.outputs.T, wanted)
        (gradient,) = torch.autograd.grad(loss, tables.outputs)
        for part, columns in (network.blocks or {key: slice(None)}).items():
            expected[part] = float(gradient[:, columns].norm())
    if len(expected) == 1:
        expected = {"score": next(iter(expected.values()))}
    assert found == pytest.approx(expected, rel=1e-4)


def test_samples_are_spread_over_sessions_and_within_their_length() -> None:
    lengths = np.arange(40) % 5 + 1
    store = SessionStore.from_arrays(np.repeat(np.arange(40), lengths), np.zeros(lengths.sum(), np.int64))
    few = fixed_samples(store, most=10)
    assert len(few) == 10
    assert len(set(few[:, 0].tolist())) == 10
    assert ((few[:, 1] >= 1) & (few[:, 1] < store.lengths[few[:, 0]])).all()
    assert len(fixed_samples(store, most=1000)) == int((store.lengths > 1).sum())


def test_no_sessions_give_no_losses() -> None:
    store = SessionStore.from_arrays([0, 1], [0, 1], num_items=2)
    model = Recommender({"model": Network(Fixed([[1.0], [0.0]]), Mean(), 1.0)}, {"model": 1.0}).eval()
    assert part_losses(model, store, PROTOCOL) == {}
    assert part_gradients(model, store, PROTOCOL) == {}

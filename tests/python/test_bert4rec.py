"""BERT4Rec: where the mask token lies, which items are masked, what the loss is about."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from alterrec.errors import InputError
from alterrec.models.base import Network
from alterrec.models.batches import ObjectiveBatch, SessionBatch
from alterrec.models.bert4rec import ClozeObjective, masked_item_loss
from alterrec.models.catalogue import build_model
from alterrec.models.parts import ModelInputs
from alterrec.nn.item_encoders import BiasedItems, IdTable
from alterrec.nn.losses import ScoreBuffer
from alterrec.nn.session_encoders import Mean
from alterrec.nn.transformer import Bidirectional
from alterrec.recipe import resolve
from alterrec.recipe_systems import ClozeSettings

NUM_ITEMS, MAX_LEN = 9, 4


def network(**settings: Any) -> Network:
    sizes = {"model.dim": 4, "model.layers": 1, "model.max_len": MAX_LEN, "model.dropout": 0.0}
    recipe = resolve("bert4rec", overrides=sizes | settings)
    torch.manual_seed(0)
    items = ModelInputs(NUM_ITEMS, None, torch.ones(NUM_ITEMS, dtype=torch.bool))
    built = build_model(recipe, items).network("model").double().eval()
    with torch.no_grad():
        for value in built.parameters():
            value.normal_(std=0.5)
    return built


def vector(built: Network, *items: int) -> torch.Tensor:
    batch = SessionBatch.of_prefixes(torch.tensor([items]), torch.tensor([len(items)]))
    return built.encode_sessions(batch, built.item_tables())[0]


def inputs_of(
    items_NL: list[list[int]], lengths: list[int], targets: list[int], seen: bool = False
) -> ObjectiveBatch:
    batch = SessionBatch.of_prefixes(torch.tensor(items_NL), torch.tensor(lengths))
    return ObjectiveBatch(batch, torch.tensor(targets), np.arange(len(targets)), 0, 1, seen, ScoreBuffer())


def test_the_oldest_item_is_cut_only_where_there_is_no_room_for_the_mask() -> None:
    built = network()
    torch.testing.assert_close(vector(built, 8, 1, 2, 3), vector(built, 1, 2, 3))
    assert not torch.allclose(vector(built, 8, 1, 2), vector(built, 1, 2))


def test_the_faithful_encoder_always_cuts_it() -> None:
    built, public = network(), network(**{"model.faithful": True})
    public.load_state_dict(built.state_dict())
    torch.testing.assert_close(vector(public, 8, 1, 2), vector(built, 1, 2))
    torch.testing.assert_close(vector(public, 8, 1, 2, 3), vector(built, 1, 2, 3))
    # Of one item nothing is left but the mask token.
    torch.testing.assert_close(vector(public, 8), vector(public, 5))


def test_the_mask_token_is_no_item() -> None:
    built = network()
    before = vector(built, 1, 2)
    with torch.no_grad():
        built.items.encoder.rows_VD[0, 0] += 1
        torch.testing.assert_close(vector(built, 1, 2), before)
        built.session.mask_D[0] += 1
    assert not torch.allclose(vector(built, 1, 2), before)
    assert len(built.item_tables().outputs) == NUM_ITEMS


def test_a_masked_place_sees_both_sides_and_not_its_own_item() -> None:
    session = network().session
    assert isinstance(session, Bidirectional)
    table, masked_NL = torch.randn(NUM_ITEMS, 4).double(), torch.tensor([[False, True, False]])

    def said(*items: int) -> torch.Tensor:
        return session.masked_vectors(table, torch.tensor([items]), torch.tensor([3]), masked_NL, masked_NL)

    assert torch.equal(said(1, 2, 3), said(1, 7, 3))
    assert not torch.allclose(said(1, 2, 3), said(7, 2, 3))
    assert not torch.allclose(said(1, 2, 3), said(1, 2, 7))


def test_places_that_are_not_asked_for_change_nothing() -> None:
    built = network()
    assert isinstance(built.session, Bidirectional)
    items_NL, length_N = torch.tensor([[1, 2, 3], [4, 0, 0], [5, 6, 0]]), torch.tensor([3, 1, 2])
    masked_NL = torch.tensor([[True, False, False], [False] * 3, [True, True, False]])
    asked_NL = torch.tensor([[False, True, True], [False] * 3, [True, False, False]])
    said = [
        built.session.masked_vectors(built.items(), items_NL, length_N, masked_NL, asked)
        for asked in (asked_NL, torch.ones_like(asked_NL))
    ]
    torch.testing.assert_close(said[0], said[1][asked_NL.flatten()])


def test_masks_by_hand() -> None:
    """First draw below 1/2: the last item alone; otherwise those below 1/5, or the smallest."""
    draws = torch.tensor(
        [
            [0.4, 0.1, 0.1, 0.1, 0.1],
            [0.6, 0.1, 0.3, 0.1, 0.3],
            [0.6, 0.9, 0.8, 0.7, 0.1],
            [0.5, 0.9, 0.3, 0.8, 0.4],
        ]
    )
    masked_NL = ClozeObjective(ClozeSettings(last=0.5, ratio=0.2), faithful=False).masks(
        draws, torch.tensor([2, 4, 3, 4])
    )
    assert masked_NL.int().tolist() == [[0, 1, 0, 0], [1, 0, 1, 0], [0, 0, 1, 0], [0, 1, 0, 0]]


def test_masks_are_the_sample_s_own_whatever_the_batch() -> None:
    """The mean of a batch is that of its samples, each weighed by its masks: all four have one."""
    built = network(**{"cloze.last": 0.0, "cloze.ratio": 1e-9})
    both = inputs_of([[1, 2, 3], [4, 0, 0]], [3, 1], [5, 6])
    alone = inputs_of([[4]], [1], [6])._replace(samples_N=np.array([1]))
    first = inputs_of([[1, 2, 3]], [3], [5])
    cloze = built.objectives["cloze"]
    torch.testing.assert_close(cloze(built, both), (cloze(built, alone) + cloze(built, first)) / 2)


@pytest.mark.parametrize("exclude_seen", [False, True])
def test_the_loss_is_the_mean_over_masked_places(exclude_seen: bool) -> None:
    built = network()
    items_NL, length_N = torch.tensor([[1, 2, 3], [4, 1, 0]]), torch.tensor([3, 2])
    masked_NL = torch.tensor([[True, False, True], [False, True, False]])
    loss = masked_item_loss(built, items_NL, length_N, masked_NL, masked_NL, exclude_seen=exclude_seen)
    tables = built.item_tables()
    said = built.as_scored(
        built.session.masked_vectors(tables.inputs, items_NL, length_N, masked_NL, masked_NL), tables
    )
    shown = [[2], [2], [4]] if exclude_seen else [[], [], []]
    expected = []
    for scores_V, target, visible in zip(said @ tables.outputs.T, [1, 3, 1], shown, strict=True):
        candidates = [item for item in range(NUM_ITEMS) if item not in visible]
        expected.append(scores_V[candidates].logsumexp(0) - scores_V[target])
    torch.testing.assert_close(loss, torch.stack(expected).mean())


def test_a_masked_first_item_enters_the_loss_but_in_the_public_code() -> None:
    settings = {"cloze.last": 0.0, "cloze.ratio": 1.0}
    built, public = network(**settings), network(**settings, **{"model.faithful": True})
    public.load_state_dict(built.state_dict())
    items_NL, length_N = torch.tensor([[1, 2, 5]]), torch.tensor([3])
    all_NL, later_NL = torch.ones(2, 1, 3, dtype=torch.bool)
    later_NL[:, 0] = False
    once = inputs_of([[1, 2]], [2], [5])
    for system, asked_NL in ((built, all_NL), (public, later_NL)):
        expected = masked_item_loss(system, items_NL, length_N, all_NL, asked_NL)
        torch.testing.assert_close(system.objectives["cloze"](system, once), expected)


def test_half_precision_is_near() -> None:
    built, few = network().float(), inputs_of([[1, 2, 3], [4, 0, 0]], [3, 1], [5, 6])
    cloze = built.objectives["cloze"]
    exact = cloze(built, few)
    with torch.autocast("cpu", torch.bfloat16):
        near = cloze(built, few)
    near.backward()
    assert near.item() != exact.item()
    assert near.item() == pytest.approx(exact.item(), rel=2e-2)


def test_nothing_to_learn_is_a_loss_of_zero() -> None:
    built = network()
    one, none = torch.tensor([[True, False]]), torch.tensor([[False, False]])
    loss = masked_item_loss(built, torch.tensor([[1, 2]]), torch.tensor([2]), one, none)
    loss.backward()
    assert loss.item() == 0


def test_biases_are_added_to_scores_as_they_are() -> None:
    """Rows 2 and 6, the session is item 0: products 4 and 12 over the temperature 2, then the biases."""
    items = BiasedItems(IdTable(2, 1, norm=False), num_items=2)
    with torch.no_grad():
        items.encoder.rows_VD.copy_(torch.tensor([[2.0], [6.0]]))
        items.bias.copy_(torch.tensor([10.0, 20.0]))
    built = Network(items, Mean(), 2.0, outputs=items.scored)
    scores = built.scores(SessionBatch.of_prefixes(torch.tensor([[0]]), torch.tensor([1])))
    assert scores.tolist() == [[12.0, 26.0]]
    assert items.scored(torch.tensor([1])).tolist() == [[6.0, 20.0]]


@pytest.mark.parametrize(
    ("model", "settings", "parts"),
    [
        ("sasrec", {"schedule.objective": "cloze"}, "schedule.objective is 'cloze', but sasrec.*=next"),
        ("bert4rec", {"id.session": "mean"}, "bert4rec with id.session=mean.*id.session=bidirectional"),
        ("bert4rec", {"schedule.pretrain": 3}, "schedule.pretrain is 3, but bert4rec.*schedule.pretrain=0"),
    ],
)
def test_an_objective_that_a_system_has_not_is_named(
    model: str, settings: dict[str, Any], parts: str
) -> None:
    recipe = resolve(model, overrides=settings)
    with pytest.raises(InputError, match=parts):
        build_model(recipe, ModelInputs(NUM_ITEMS, None, torch.ones(NUM_ITEMS, dtype=torch.bool)))

"""One contract for every system of the catalogue."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from systems import SMALL, built, system
from torch.nn.utils import parameters_to_vector
from worlds import NUM_ITEMS, next_item_loss, plain_scores, small_dataset, text_like_vectors

from alterrec.data.readers import DataSource
from alterrec.errors import InputError
from alterrec.evaluation.evaluate import Protocol
from alterrec.models.base import Recommender, Scorer
from alterrec.models.batches import SessionBatch
from alterrec.models.catalogue import MODELS, build_model, lookup
from alterrec.models.neighbours import Covisitation, ItemKnn, Popularity, SessionKnn
from alterrec.models.parts import ModelInputs
from alterrec.recipe import dump_recipe, recipe_names, resolve
from alterrec.runs.model_files import save_model, write_vocabulary
from alterrec.runs.saved_model import load
from alterrec.sessions import SessionStore
from alterrec.studies.plan import has_dropout, plan_row
from alterrec.studies.queue import RunQueue

TRAINED = sorted(name for name, entry in MODELS.items() if entry.trains)
UNTRAINED = sorted(name for name, entry in MODELS.items() if not entry.trains)

BATCH = SessionBatch.of_prefixes(torch.tensor([[3, 1, 2], [7, 0, 0], [5, 5, 0]]), torch.tensor([3, 1, 2]))


EVERY_RECIPE = [(name, preset) for preset in recipe_names("presets") for name in TRAINED] + [
    (name, "original") for name in recipe_names("original")
]


def total(model: Scorer, batch: SessionBatch) -> torch.Tensor:
    with torch.no_grad():
        parts = model.summands(model.part_scores(batch, model.prepare()), batch)
    return torch.stack([model.weights[name] * part for name, part in parts.items()]).sum(0)


def test_catalogue_and_recipes_name_the_same_systems() -> None:
    assert sorted(MODELS) == list(recipe_names("models"))


@pytest.mark.parametrize("name", sorted(MODELS))
class TestContract:
    def test_scores_every_item_of_every_session(self, name: str) -> None:
        scores = total(system(name), BATCH)
        assert scores.shape == (3, NUM_ITEMS)
        assert scores.dtype == torch.float32
        assert bool(scores.isfinite().all())

    def test_parts_are_those_that_have_weights(self, name: str) -> None:
        model = system(name)
        assert list(model.part_scores(BATCH, model.prepare())) == list(model.weights)

    def test_a_session_scores_the_same_alone_or_in_a_batch_and_however_padded(self, name: str) -> None:
        model = system(name)
        together = total(model, BATCH)
        alone = total(model, SessionBatch.of_prefixes(torch.tensor([[5, 5]]), torch.tensor([2])))
        other_padding = total(
            model, SessionBatch.of_prefixes(torch.tensor([[5, 5, 9, 9]]), torch.tensor([2]))
        )
        torch.testing.assert_close(together[2:], alone, rtol=1e-5, atol=1e-5)
        torch.testing.assert_close(other_padding, alone, rtol=1e-5, atol=1e-5)

    def test_same_seed_same_model(self, name: str) -> None:
        assert torch.equal(total(system(name), BATCH), total(system(name), BATCH))


@pytest.mark.parametrize(("name", "preset"), EVERY_RECIPE)
def test_every_recipe_is_built_and_learns_in_one_step(name: str, preset: str) -> None:
    model = built(name, (preset,)).train()
    for network in model.networks:
        optimiser = torch.optim.SGD(model.network(network).parameters(), lr=1e-3)
        before = [value.clone() for value in model.network(network).parameters()]
        loss = next_item_loss(model.network(network), BATCH, torch.tensor([4, 5, 6]))
        loss.backward()
        learned = {
            name: value.grad is not None
            for name, value in model.network(network).named_parameters()
            if not name.startswith("objectives.")
        }
        assert all(learned.values()), learned
        optimiser.step()
        assert any(
            not torch.equal(a, b) for a, b in zip(before, model.network(network).parameters(), strict=True)
        )


@pytest.mark.parametrize(("name", "preset"), EVERY_RECIPE)
def test_dropout_changes_what_is_learned_or_is_not_searched(name: str, preset: str, tmp_path: Path) -> None:
    runs = RunQueue(tmp_path, DataSource(), "", (preset,))
    first = plan_row(name, runs, {"model.dropout": (0.1, 0.5)}, 1).tried[0].settings
    tables = [key.partition(".")[0] for key in first]
    learned = []
    for dropout in (0.1, 0.5):
        model = built(name, (preset,), **dict.fromkeys(tables, dropout)).train()
        optimiser = torch.optim.SGD(model.parameters(), lr=0.1)
        for _ in range(2):
            losses = [
                next_item_loss(model.network(part), BATCH, torch.tensor([4, 5, 6])) for part in model.networks
            ]
            optimiser.zero_grad()
            torch.stack(losses).sum().backward()
            optimiser.step()
        learned.append(parameters_to_vector(model.parameters()))
    assert has_dropout(resolve(name, (preset,)), ()) == (not torch.equal(*learned))


@pytest.mark.parametrize("name", TRAINED)
def test_a_saved_system_comes_back_without_data(name: str, tmp_path: Path) -> None:
    model = built(name)
    (tmp_path / "recipe.toml").write_text(dump_recipe(resolve(name, overrides=SMALL)), "utf-8")
    save_model(tmp_path, model, Protocol("last", "kept", 50))
    write_vocabulary(tmp_path, small_dataset())
    again = load(tmp_path).model
    assert isinstance(again, Recommender)
    state = model.state_dict()
    assert all(torch.equal(value, state[name]) for name, value in again.state_dict().items())
    # Where a mapped tensor begins moves the last bit of a product.
    torch.testing.assert_close(total(again, BATCH), total(model, BATCH), rtol=1e-5, atol=1e-5)


def test_equation_6_is_the_weighted_sum_of_the_parts() -> None:
    model = built("alterrec")
    model.weights = {"id": 0.25, "text": 0.75}
    parts = model.part_scores(BATCH, model.prepare())
    torch.testing.assert_close(total(model, BATCH), 0.25 * parts["id"] + 0.75 * parts["text"])


@pytest.mark.parametrize("session", ["mean", "recency", "transformer"])
def test_equation_8_parts_of_nfrec_concat_add_up(session: str) -> None:
    settings = SMALL | {"id.session": session, "id.queries": "one"}
    torch.manual_seed(0)
    items = ModelInputs(
        NUM_ITEMS, torch.from_numpy(text_like_vectors()), torch.ones(NUM_ITEMS, dtype=torch.bool)
    )
    model = build_model(resolve("nfrec_concat", overrides=settings), items).eval()
    parts = model.part_scores(BATCH, model.prepare())
    torch.testing.assert_close(parts["id"] + parts["text"], plain_scores(model.network("model"), BATCH))


def test_equation_7_by_hand() -> None:
    """The mean of joined rows is the two means side by side."""
    torch.manual_seed(0)
    items = ModelInputs(
        NUM_ITEMS, torch.from_numpy(text_like_vectors()), torch.ones(NUM_ITEMS, dtype=torch.bool)
    )
    recipe = resolve("nfrec_concat", overrides=SMALL | {"id.session": "mean", "id.temperature": 1.0})
    network = build_model(recipe, items).eval().network("model")
    tables = network.item_tables()
    rows = tables.inputs[[3, 1, 2]]
    expected = torch.cat([rows[:, :8].sum(0) / 3, rows[:, 8:].sum(0) / 3])
    torch.testing.assert_close(network.encode_sessions(BATCH, tables)[0], expected)


def test_items_without_training_are_scored_by_text_alone() -> None:
    trained = torch.ones(NUM_ITEMS, dtype=torch.bool)
    trained[-2:] = False
    model = built("alterrec", trained=trained)
    with torch.no_grad():
        parts = model.part_scores(BATCH, model.prepare())
        summands = model.summands(parts, BATCH)
    assert bool(torch.isneginf(parts["id"][:, -2:]).all())
    fused = 0.5 * summands["id"] + 0.5 * summands["text"]
    normaliser = 0.5 * parts["id"].logsumexp(1) + 0.5 * parts["text"].logsumexp(1)
    text_alone = parts["text"].log_softmax(1)
    torch.testing.assert_close((fused - normaliser[:, None])[:, -2:], text_alone[:, -2:])
    assert torch.equal(summands["id"][:, :-2], parts["id"][:, :-2])


@pytest.mark.parametrize("name", UNTRAINED)
def test_untrained_systems_come_back_from_their_tensors(name: str) -> None:
    entry = lookup(name)
    for model in entry.candidates(small_dataset().train):
        again = entry.restore(model.tensors())
        assert torch.equal(total(model, BATCH), total(again, BATCH))


def test_popularity_counts_interactions() -> None:
    store = SessionStore.from_arrays(np.array([0, 0, 0, 1]), np.array([1, 1, 2, 1]), num_items=4)
    (model,) = lookup("popularity").candidates(store)
    assert isinstance(model, Popularity)
    assert model.scores(SessionBatch.of_prefixes(torch.tensor([[2]]), torch.tensor([1])))[0].tolist() == [
        0,
        3,
        1,
        0,
    ]


def test_item_knn_by_hand() -> None:
    """c_0 = 2, c_1 = 2, c_2 = 1 sessions; c_01 = 1, c_02 = 1; decay 1/2 on the older item."""
    store = SessionStore.from_arrays(np.array([0, 0, 1, 1, 2]), np.array([0, 1, 0, 2, 1]), num_items=3)
    knn = ItemKnn.fit(store, shrinkage=1.0, decay=0.5)
    scores = knn.scores(SessionBatch.of_prefixes(torch.tensor([[1, 0]]), torch.tensor([2])))[0].tolist()
    to_0 = 1 / (2 + 1)
    assert scores == pytest.approx([0.5 * to_0, to_0, 1 / (2**0.5 + 1)], rel=1e-6)


def test_covisitation_by_hand() -> None:
    """0 occurs twice, 2 is once next and once two places later; 1 occurs once, between 0 and 2."""
    store = SessionStore.from_arrays(np.array([0, 0, 0, 1, 1]), np.array([0, 1, 2, 0, 2]), num_items=3)
    model = Covisitation.fit(store, after=(3.0, 0.1), backward=0.5, decay=0.5)
    scores = model.scores(SessionBatch.of_prefixes(torch.tensor([[0, 1]]), torch.tensor([2])))[0].tolist()
    from_0 = [0, 3 / 2, (3 + 0.1) / 2]
    from_1 = [0.5 * 3, 0, 3]
    expected = [0.5 * old + last for old, last in zip(from_0, from_1, strict=True)]
    assert scores == pytest.approx(expected, rel=1e-6)


def test_session_knn_finds_the_session_that_shares_items() -> None:
    store = SessionStore.from_arrays(np.array([0, 0, 0, 1, 1]), np.array([0, 1, 2, 3, 4]), num_items=6)
    scores = SessionKnn(store, k=5).scores(
        SessionBatch.of_prefixes(torch.tensor([[0, 1]]), torch.tensor([2]))
    )[0]
    assert scores.argmax().item() in (0, 1, 2)
    assert scores[2].item() > 0
    assert scores[3:].tolist() == [0, 0, 0]


def test_text_is_asked_for_in_words() -> None:
    items = ModelInputs(NUM_ITEMS, None, torch.ones(NUM_ITEMS, dtype=torch.bool))
    with pytest.raises(InputError, match=r"model 'alterrec' reads item text, but the data has none.*id_only"):
        build_model(resolve("alterrec"), items)


def test_unknown_models_name_the_nearest() -> None:
    with pytest.raises(InputError, match="did you mean 'alterrec_aug'"):
        lookup("alterec_aug")

"""Metrics from ranks, recommendations, and choices on validation; ``test_seen_rules.py`` tests the ranks."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pytest
import torch
from torch import Tensor
from worlds import NUM_ITEMS, TableScorer, returning_dataset, small_dataset, text_like_vectors, with_sessions

from alterrec.data.dataset import Dataset
from alterrec.data.repeats import RepeatModel, TargetKind
from alterrec.evaluation.choices import (
    alpha_curves,
    better_than_default,
    choose_scales,
    choose_system,
    choose_weights,
)
from alterrec.evaluation.evaluate import Protocol, evaluate
from alterrec.evaluation.recommend import recommend_items
from alterrec.evaluation.scales import fit_scales
from alterrec.metrics import metric_values
from alterrec.models.base import Recommender, RepeatScale, Tables
from alterrec.models.batches import SessionBatch
from alterrec.models.catalogue import build_model
from alterrec.models.neighbours import ItemKnn, Popularity
from alterrec.models.parts import ModelInputs
from alterrec.recipe import resolve
from alterrec.sessions import SessionStore

ALL = Protocol(targets="every", seen="kept", max_len=50)


def planted(part_weights: tuple[float, float] = (0.5, 0.5)) -> TableScorer:
    """Scores full of ties, in two parts."""
    rng = np.random.default_rng(1)
    tables = {name: torch.from_numpy(rng.integers(0, 4, (NUM_ITEMS, NUM_ITEMS))).float() for name in "ab"}
    return TableScorer(tables, part_weights)


def test_last_targets_are_the_last_items() -> None:
    store = small_dataset().valid
    ranks = evaluate(planted(), store, Protocol("last", "kept", 50))
    assert ranks.targets.tolist() == [int(store.session(i)[-1]) for i in range(len(store))]


def test_metrics_by_hand_from_ranks() -> None:
    counts = torch.zeros(NUM_ITEMS)
    counts[:3] = torch.tensor([9.0, 8.0, 7.0])
    store = SessionStore.from_arrays(np.array([0, 0, 1, 1]), np.array([5, 1, 5, 30]), num_items=NUM_ITEMS)
    ranks = evaluate(Popularity(counts), store, ALL)
    greater, tied = ranks.views["score"]
    assert (greater[0], tied[0]) == (1, 1)
    assert (greater[1], tied[1]) == (3, NUM_ITEMS - 3)
    assert ranks.metrics("score", np.array([False, True]))["hits@20"] == pytest.approx(17 / 37)
    assert ranks.metrics("score")["hits@20"] == pytest.approx((1 + 17 / 37) / 2)


def test_an_empty_split_has_no_metrics() -> None:
    empty = SessionStore.from_arrays(np.empty(0, np.int64), np.empty(0, np.int64), num_items=NUM_ITEMS)
    assert evaluate(planted(), empty, ALL).all_metrics() == {"score": {}}


def test_nan_scores_are_an_error_and_never_a_rank() -> None:
    model = planted()
    model.tables["a"][:, 3] = torch.nan
    with pytest.raises(ValueError, match=r"(?i)nan"):
        evaluate(model, small_dataset().valid, ALL)


def test_recommendations_are_the_best_of_the_sum() -> None:
    model = planted((0.25, 0.75))
    sessions = [np.array([4, 7]), np.array([9])]
    protocol = Protocol("last", "excluded", max_len=50)
    ids, scores = recommend_items(model, sessions, 5, protocol, NUM_ITEMS)
    for row, session in enumerate(sessions):
        total = 0.25 * model.tables["a"][session[-1]].numpy() + 0.75 * model.tables["b"][session[-1]].numpy()
        total[session] = -np.inf
        expected = np.argsort(-total, kind="stable")[:5]
        np.testing.assert_array_equal(ids[row], expected)
        np.testing.assert_array_equal(scores[row], total[expected])


def repeating(data: Dataset, targets: TargetKind = "every") -> Protocol:
    """The protocol with the repeat component of some data."""
    model = RepeatModel.counted(data.train, data.valid, targets)
    return Protocol(targets=targets, seen="repeats", max_len=50, repeats=model)


@pytest.mark.parametrize("seen", ["kept", "repeats"])
def test_the_better_system_is_chosen(seen: str) -> None:
    data = returning_dataset()
    protocol = repeating(data) if seen == "repeats" else ALL
    worse, better = Popularity(torch.ones(NUM_ITEMS)), ItemKnn.fit(data.train, 0.0, 0.8)
    assert choose_system([worse, better], data.valid, protocol, "ndcg@20") is better
    assert better.scales == choose_scales(better, data.valid, protocol, "ndcg@20")
    assert bool(better.scales) == (seen == "repeats")


def test_the_temperature_of_every_view_has_the_best_metric() -> None:
    """Against evaluations with each multiple of the fitted temperature, of all targets."""
    data = returning_dataset(sessions=300)
    protocol, knn = repeating(data), ItemKnn.fit(data.train, 0.0, 0.8)
    batch = SessionBatch.of_prefixes(
        torch.arange(NUM_ITEMS)[:, None], torch.ones(NUM_ITEMS, dtype=torch.long)
    )
    near = knn.scores(batch)
    # The fourth power of the similarities falls faster than probabilities do.
    model = TableScorer({"a": near, "b": near**4 + 1e-3 * planted().tables["b"]})
    fitted = fit_scales(model, data.valid, protocol)
    chosen = choose_scales(model, data.valid, protocol, "ndcg@20")
    multiples = {view: scale.temperature / fitted[view].temperature for view, scale in chosen.items()}
    for view, (temperature, affinity) in fitted.items():
        values = []
        for multiple in (1.0, 0.25, 0.5, 2.0):
            model.scales = {view: RepeatScale(temperature * multiple, affinity * multiple)}
            counts = evaluate(model, data.valid, protocol).views[view]
            values.append(metric_values(*counts, "ndcg@20"))
        best = better_than_default(values[0], values[1:])
        assert multiples[view] == (1.0 if best is None else (0.25, 0.5, 2.0)[best]), view
        assert chosen[view].affinity == affinity * multiples[view]
    assert set(multiples.values()) != {1.0}
    assert choose_scales(model, data.valid, ALL, "ndcg@20") == {}


class TwoParts(Recommender):
    """A recommender with planted parts: text knows the next item, ID knows nothing."""

    def __init__(self) -> None:
        super().__init__({}, {"id": 0.5, "text": 0.5})

    def part_scores(self, batch: SessionBatch, tables: Mapping[str, Tables]) -> dict[str, Tensor]:
        last = batch.items_RL[batch.row_N, batch.length_N - 1]
        following = torch.nn.functional.one_hot((last + 1) % NUM_ITEMS, NUM_ITEMS).float()
        noise = torch.from_numpy(np.random.default_rng(0).normal(size=(NUM_ITEMS, NUM_ITEMS))).float()
        parts = {"id": 2 * noise[last], "text": 2 * following}
        return parts | {part: torch.zeros_like(parts["id"]) for part in self.untrained}


@pytest.mark.parametrize("seen", ["kept", "repeats"])
def test_alpha_leaves_its_default_only_for_a_gain(seen: str) -> None:
    data, model = returning_dataset(), TwoParts()
    protocol = repeating(data) if seen == "repeats" else ALL
    assert choose_weights(model, data.valid, protocol, "ndcg@20", tune_alpha=True)["id"] < 0.5
    assert choose_weights(model, data.valid, protocol, "ndcg@20", tune_alpha=False) == {
        "id": 0.5,
        "text": 0.5,
    }


def test_useless_further_parts_get_no_weight() -> None:
    data, model = small_dataset(), TwoParts()
    useless = [Popularity(torch.zeros(NUM_ITEMS))]
    further = {"neighbours": useless, "trend": useless}
    weights = choose_weights(model, data.valid, ALL, "ndcg@20", tune_alpha=False, further=further)
    assert weights == {"id": 0.5, "text": 0.5, "neighbours": 0.0, "trend": 0.0}


def test_gain_within_its_error_is_no_gain() -> None:
    base = np.array([0.0, 1.0, 0.0, 1.0])
    assert better_than_default(base, [base[::-1].copy()]) is None
    assert better_than_default(base, [base + 0.1]) == 0
    assert better_than_default(base, []) is None


@pytest.mark.parametrize("seen", ["kept", "repeats"])
def test_the_curve_over_alpha_is_the_sum_at_each_weight(seen: str) -> None:
    data = returning_dataset()
    items = ModelInputs(
        data.num_items,
        torch.from_numpy(text_like_vectors()),
        torch.ones(data.num_items, dtype=torch.bool),
    )
    torch.manual_seed(0)
    model = build_model(resolve("independent", ["paper"], {"model.dim": 8}), items).eval()
    protocol = repeating(data, "last") if seen == "repeats" else Protocol("last", seen="kept", max_len=50)
    curves = alpha_curves(model, data.valid, data.test, protocol, "ndcg@20")
    for curve, store in zip(curves, (data.valid, data.test), strict=True):
        assert list(curve) == [round(0.1 * step, 1) for step in range(11)]
        model.weights |= {"id": 0.3, "text": 0.7}
        # Scales are those of validation, for test sessions too.
        model.scales = fit_scales(model, data.valid, protocol)
        ranks = evaluate(model, store, protocol)
        assert (curve[0.0], curve[1.0]) == (ranks.metrics("text"), ranks.metrics("id"))
        assert curve[0.3] == ranks.metrics()


def test_neighbours_in_a_sum_are_logs_and_are_saved_as_such() -> None:
    data = small_dataset()
    knn = ItemKnn.fit(data.train, shrinkage=0.0, decay=0.5)
    batch = SessionBatch.of_prefixes(torch.tensor([[3, 4]]), torch.tensor([2]))
    logs = knn.as_log(0.1)
    torch.testing.assert_close(logs.scores(batch), (knn.scores(batch) + 0.1).log())
    again = ItemKnn.from_tensors(logs.tensors())
    assert torch.equal(again.scores(batch), logs.scores(batch))
    assert torch.equal(ItemKnn.from_tensors(knn.tensors()).scores(batch), knn.scores(batch))


def test_the_best_of_several_systems_becomes_the_part() -> None:
    """Every target is item 5, so a system that favours it helps."""
    data, model = with_sessions(train=[[1, 5]], valid=[[1, 5], [2, 5]] * 20, test=[[1, 5]]), PartsOfZeros()
    helps = Popularity(torch.nn.functional.one_hot(torch.tensor(5), NUM_ITEMS).float())
    harms = Popularity(-helps.counts_V)
    further = {"trend": [harms, helps, harms]}
    weights = choose_weights(model, data.valid, ALL, "ndcg@20", tune_alpha=False, further=further)
    assert weights["trend"] > 0
    assert model.untrained["trend"] is helps


class PartsOfZeros(Recommender):
    """Two parts that know nothing."""

    def __init__(self) -> None:
        super().__init__({}, {"id": 0.5, "text": 0.5})

    def part_scores(self, batch: SessionBatch, tables: Mapping[str, Tables]) -> dict[str, Tensor]:
        nothing = {name: torch.zeros(len(batch.length_N), NUM_ITEMS) for name in ("id", "text")}
        parts = {name: system.part_scores(batch, {})["model"] for name, system in self.untrained.items()}
        return nothing | parts

"""The scales of the repeat component are those that were planted, and nothing breaks their fit."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from worlds import NUM_ITEMS, TableScorer, returning_dataset, small_dataset, store_of

from alterrec.data.repeats import BINS, RepeatModel
from alterrec.evaluation import choices
from alterrec.evaluation.choices import choose_scales
from alterrec.evaluation.evaluate import Protocol, evaluate
from alterrec.evaluation.scales import fit_scales, fit_sum_scales
from alterrec.models.base import RepeatScale
from alterrec.sessions import SessionStore

UNIFORM = RepeatModel(np.full(BINS, 0.4), np.ones(BINS))
PROTOCOL = Protocol("every", "repeats", max_len=50, repeats=UNIFORM)


def log_probabilities() -> np.ndarray:
    """Log-probability of the next item by the last one, (V, V)."""
    scores = 1.5 * np.random.default_rng(0).normal(size=(NUM_ITEMS, NUM_ITEMS))
    return np.asarray(scores - np.log(np.exp(scores).sum(1, keepdims=True)))


def drawn_sessions(affinity: float, sessions: int = 80, seed: int = 1) -> SessionStore:
    """Sessions in which two of five targets repeat, by shares ``exp(affinity * log-probability)``."""
    rng, table = np.random.default_rng(seed), log_probabilities()
    walks = []
    for _ in range(sessions):
        items = [int(rng.integers(NUM_ITEMS))]
        while len(items) < 8:
            seen = np.unique(items)
            own = rng.random() < 0.4
            candidates = seen if own else np.setdiff1d(np.arange(NUM_ITEMS), seen)
            odds = np.exp(table[items[-1], candidates] * (affinity if own else 1.0))
            items.append(int(rng.choice(candidates, p=odds / odds.sum())))
        walks.append(items)
    return store_of(walks)


def scorer(scale: float = 1.0, **others: np.ndarray) -> TableScorer:
    tables = {"a": scale * log_probabilities()} | others
    return TableScorer({name: torch.from_numpy(table).float() for name, table in tables.items()})


@pytest.mark.parametrize("planted", [0.2, 1.0, 7.0])
def test_the_temperature_is_the_planted_one(planted: float) -> None:
    scale = fit_scales(scorer(planted), drawn_sessions(0.0), PROTOCOL)["score"]
    # Neighbours on the grid differ by the root of 2.
    assert 1 / 1.5 < scale.temperature / planted < 1.5


def test_the_temperature_maximises_the_likelihood_of_new_targets() -> None:
    """Against a loop over all targets and all temperatures."""
    model, store = scorer(3.0), drawn_sessions(0.0, sessions=20)
    found = fit_scales(model, store, PROTOCOL)["score"].temperature

    def loss(temperature: float) -> float:
        total, table = 0.0, model.tables["a"].double().numpy() / temperature
        for number in range(len(store)):
            items = store.session(number).tolist()
            for end in range(1, len(items)):
                if items[end] not in items[:end]:
                    unseen = [item for item in range(NUM_ITEMS) if item not in items[:end]]
                    row = table[items[end - 1]]
                    total += np.log(np.exp(row[unseen]).sum()) - row[items[end]]
        return total

    assert loss(found) < min(loss(found * 2**0.5), loss(found / 2**0.5))


@pytest.mark.parametrize(("planted", "low", "high"), [(0.0, 0.0, 0.0), (0.5, 0.25, 0.75), (1.0, 0.75, 1.0)])
def test_the_affinity_is_the_planted_one(planted: float, low: float, high: float) -> None:
    scale = fit_scales(scorer(2.0), drawn_sessions(planted), PROTOCOL)["score"]
    assert low <= scale.affinity <= high


def test_every_view_has_a_scale_of_its_own() -> None:
    noise = np.random.default_rng(5).normal(size=(NUM_ITEMS, NUM_ITEMS))
    model, store = scorer(4.0, b=noise), drawn_sessions(1.0)
    scales = fit_scales(model, store, PROTOCOL)
    assert list(scales) == ["score", "a", "b"]
    assert scales["a"] == fit_scales(scorer(4.0), store, PROTOCOL)["score"]
    # Noise says nothing about the next item: the flattest of its distributions fits best.
    assert scales["b"].temperature > 5
    assert scales["b"].affinity == 0 < scales["a"].affinity
    rows = [{"a": 1.0, "b": 0.0}, {"a": 0.0, "b": 1.0}, {"a": 1.0, "b": 1.0}]
    assert fit_sum_scales(model, store, PROTOCOL, rows) == [scales["a"], scales["b"], scales["score"]]


@pytest.mark.parametrize("budget", [1, 2**14])
def test_scales_do_not_depend_on_the_memory_budget(budget: int) -> None:
    noise = np.random.default_rng(5).normal(size=(NUM_ITEMS, NUM_ITEMS))
    model, store = scorer(4.0, b=noise), drawn_sessions(0.5, sessions=30)
    whole = fit_scales(model, store, PROTOCOL)
    assert whole == fit_scales(model, store, PROTOCOL)
    assert fit_scales(model, store, dataclasses.replace(PROTOCOL, budget_bytes=budget)) == whole


def test_a_multiple_of_the_temperature_is_chosen_only_if_it_raises_the_metric(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    model, store = scorer(2.0, b=2.0 * log_probabilities()), drawn_sessions(0.5)
    fitted = fit_scales(model, store, PROTOCOL)
    assert choose_scales(model, store, PROTOCOL, "ndcg@20")["a"] == fitted["a"]
    # As if the likelihood had been misled: at a low temperature, items of the prefix come too far down.
    cold = fitted | {"a": RepeatScale(fitted["a"].temperature / 4, fitted["a"].affinity / 4)}
    hot = fitted | {"a": RepeatScale(fitted["a"].temperature * 4, fitted["a"].affinity * 4)}
    values = {}
    for name, scales in {"fitted": fitted, "cold": cold, "hot": hot}.items():
        monkeypatch.setattr(choices, "fit_scales", lambda *_, scales=scales: scales)
        chosen = choose_scales(model, store, PROTOCOL, "ndcg@20")
        assert chosen["b"] == fitted["b"]
        for each in (scales, chosen):
            model.scales = each
            values.setdefault(name, []).append(evaluate(model, store, PROTOCOL).metrics("a")["ndcg@20"])
    assert values["cold"][1] > values["cold"][0]
    assert values["hot"][1] >= values["hot"][0]
    assert values["fitted"][1] == values["fitted"][0]


def test_other_rules_need_no_scales() -> None:
    for rule in ("kept", "excluded"):
        protocol = Protocol("every", rule, max_len=50)  # type: ignore[arg-type]
        assert fit_scales(scorer(), drawn_sessions(0.0, sessions=5), protocol) == {}
        assert choose_scales(scorer(), drawn_sessions(0.0, sessions=5), protocol, "mrr") == {}
        assert fit_sum_scales(scorer(), store_of([]), protocol, [{"a": 1.0}]) == [RepeatScale()]


def constant() -> Tensor:
    return torch.full((NUM_ITEMS, NUM_ITEMS), 0.1)


def half_constant() -> Tensor:
    table = constant()
    table[::2] = torch.from_numpy(np.random.default_rng(0).normal(size=(NUM_ITEMS // 2, NUM_ITEMS))).float()
    return table


def cold() -> Tensor:
    """Most items cannot be scored, among them whole prefixes and their targets."""
    table = torch.from_numpy(log_probabilities()).float()
    return table.masked_fill(torch.arange(NUM_ITEMS) % 4 > 0, -torch.inf)


def unable() -> Tensor:
    """No item can be scored."""
    return torch.full((NUM_ITEMS, NUM_ITEMS), -torch.inf)


@pytest.mark.parametrize("table", [constant, half_constant, cold, unable], ids=lambda made: made.__name__)
def test_scores_that_say_little_have_ordinary_scales(table: Any) -> None:
    store = returning_dataset().valid
    model = TableScorer({"a": table(), "b": torch.from_numpy(log_probabilities()).float()})
    model.scales = fit_scales(model, store, PROTOCOL)
    for scale in model.scales.values():
        assert 0 < scale.temperature < 100
        assert 0 <= scale.affinity <= 1
    if table in (constant, unable):
        assert model.scales["a"] == RepeatScale(1.0, 0.0)
    evaluate(model, store, PROTOCOL)


def test_validation_without_new_or_without_repeated_targets() -> None:
    model = scorer(2.0)
    assert fit_scales(model, store_of([]), PROTOCOL) == {}
    assert fit_scales(model, store_of([[1], [2]]), PROTOCOL) == {}
    # There is nothing to compare scores of new items with.
    assert fit_scales(model, store_of([[1, 1], [2, 2, 2]]), PROTOCOL) == {}
    new = fit_scales(model, small_dataset().valid, PROTOCOL)["score"]
    assert new.temperature != 1
    assert new.affinity == 0


def test_one_repeated_target_does_not_choose_an_affinity() -> None:
    sessions = [small_dataset().valid.session(number).tolist() for number in range(10)]
    assert fit_scales(scorer(2.0), store_of([*sessions, [1, 2, 1]]), PROTOCOL)["score"].affinity == 0

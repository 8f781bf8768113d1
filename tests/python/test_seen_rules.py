"""The rules for seen items: ranks and recommendations against probabilities that are computed in a loop."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from worlds import NUM_ITEMS, TableScorer, returning_dataset, store_of

from alterrec.data.repeats import BINS, RepeatModel, SeenItems
from alterrec.evaluation.evaluate import Protocol, evaluate, top_items
from alterrec.evaluation.recommend import recommend_items
from alterrec.models.base import Recommender, RepeatScale, Scorer, Tables
from alterrec.models.batches import SessionBatch

STORE = returning_dataset().valid
RULES: tuple[SeenItems, ...] = ("kept", "excluded", "repeats")
RNG = np.random.default_rng(4)
MODEL = RepeatModel(RNG.uniform(0.05, 0.6, BINS), RNG.uniform(0.2, 3, BINS))
SCALES = {
    "score": RepeatScale(2.0, 0.5),
    "id": RepeatScale(0.7, 0.0),
    "text": RepeatScale(1.5, 1.0),
    "fused": RepeatScale(1.0, 0.25),
}
COLD = np.arange(NUM_ITEMS) % 9 == 0


def planted(seed: int) -> Tensor:
    """Scores in steps of one eighth, so that items tie and weighted sums are exact."""
    return torch.from_numpy(np.random.default_rng(seed).integers(-16, 16, (NUM_ITEMS, NUM_ITEMS)) / 8).float()


class Parts(Recommender):
    """Planted scores of some parts; the part id cannot score cold items."""

    def __init__(self, *names: str, cold: bool = False) -> None:
        super().__init__({}, dict(zip(names, (0.5, 0.25, 0.125), strict=False)), torch.from_numpy(COLD))
        if not cold:
            self.cold_V = None
        self.tables = {name: planted(seed) for seed, name in enumerate(names)}
        self.untrained = {
            name: TableScorer({"model": table}) for name, table in self.tables.items() if name == "neighbours"
        }

    def part_scores(self, batch: SessionBatch, tables: Mapping[str, Tables]) -> dict[str, Tensor]:
        last = batch.items_RL[batch.row_N, batch.length_N - 1]
        parts = {name: table[last] for name, table in self.tables.items()}
        if self.cold_V is not None:
            parts["id"] = parts["id"].masked_fill(self.cold_V, -torch.inf)
        return parts


SYSTEMS: dict[str, Any] = {
    "one part": lambda: TableScorer({"model": planted(0)}),
    "one part with a weight": lambda: TableScorer({"model": planted(0)}, [0.5]),
    "two parts": lambda: Parts("id", "text"),
    "cold items": lambda: Parts("id", "text", cold=True),
    "neighbours": lambda: Parts("id", "text", "neighbours"),
    "neighbours and cold items": lambda: Parts("id", "text", "neighbours", cold=True),
}


def system(name: str) -> Scorer:
    model: Scorer = SYSTEMS[name]()
    model.scales = dict(SCALES)
    return model


def protocol_for(rule: SeenItems, **changes: Any) -> Protocol:
    repeats = MODEL if rule == "repeats" else None
    return Protocol("every", rule, max_len=3, repeats=repeats, **changes)


def samples() -> list[tuple[list[int], int]]:
    """Prefix and target of every sample."""
    found = []
    for index in range(len(STORE)):
        items = STORE.session(index).tolist()
        found += [(items[:end], items[end]) for end in range(1, len(items))]
    return found


def views_of(model: Any, prefix: list[int]) -> dict[str, np.ndarray]:
    """Scores of every view, (V,) float64."""
    batch = SessionBatch.of_prefixes(torch.tensor([prefix[-3:]]), torch.tensor([len(prefix[-3:])]))
    parts = model.part_scores(batch, {})
    summands = {name: values[0].double().numpy() for name, values in model.summands(parts, batch).items()}
    views = {"score": sum(model.weights[name] * values for name, values in summands.items())}
    if len(parts) > 1:
        views |= {name: values[0].double().numpy() for name, values in parts.items()}
    if "neighbours" in parts:
        views["fused"] = sum(model.weights[name] * summands[name] for name in ("id", "text"))
    return views


def bin_of(value: int) -> int:
    return next(number for number in range(BINS) if value <= 2**number)


def probabilities(scores: np.ndarray, prefix: list[int], scale: RepeatScale) -> dict[int, float]:
    """The probability of each candidate, as the docstring of RepeatModel has it."""
    rate = MODEL.rates_B[bin_of(len(prefix))]

    # An infinite score says nothing about the shares.
    affinity = scale.affinity if np.isfinite(scores[prefix]).all() else 0.0
    seen = {}
    for item in set(prefix):
        distance = prefix[::-1].index(item) + 1
        liked = np.exp(affinity * scores[item] / scale.temperature) if affinity else 1.0
        seen[item] = MODEL.weights_B[bin_of(distance)] * liked
    unseen = {
        item: np.exp(scores[item] / scale.temperature) for item in range(NUM_ITEMS) if item not in prefix
    }
    repeated = {item: rate * share / sum(seen.values()) for item, share in seen.items()}
    return repeated | {item: (1 - rate) * each / sum(unseen.values()) for item, each in unseen.items()}


def slow_counts(
    scores: np.ndarray, prefix: list[int], target: int, rule: SeenItems, scale: RepeatScale
) -> tuple[int, int]:
    values = dict(enumerate(scores.tolist()))
    own = values[target]
    if rule == "excluded":
        values = {item: score for item, score in values.items() if item not in prefix}
    elif rule == "repeats":
        values = probabilities(scores, prefix, scale)
        own = values.get(target, 0.0)
    greater, tied = sum(s > own for s in values.values()), sum(s == own for s in values.values())
    return greater, tied if target in values else 0


@pytest.mark.parametrize("budget", [1, 2**14, 2**30])
@pytest.mark.parametrize("name", SYSTEMS)
def test_counts_equal_the_loop_for_any_chunk_size(name: str, budget: int) -> None:
    model = system(name)
    ranks = evaluate(model, STORE, protocol_for("repeats", budget_bytes=budget))
    assert set(ranks.by_rule) == set(RULES)
    views = [views_of(model, prefix) for prefix, _ in samples()]
    for rule in RULES:
        assert list(ranks.by_rule[rule]) == list(views[0])
        for view, (greater, tied) in ranks.by_rule[rule].items():
            scale = model.scales.get(view, RepeatScale())
            expected = np.array(
                [
                    slow_counts(scores[view], prefix, target, rule, scale)
                    for scores, (prefix, target) in zip(views, samples(), strict=True)
                ]
            )
            np.testing.assert_array_equal(np.stack([greater, tied], 1), expected, err_msg=f"{rule} {view}")


def test_the_rule_of_the_protocol_is_the_rule_of_the_figures() -> None:
    found = {rule: evaluate(system("cold items"), STORE, protocol_for(rule)) for rule in RULES}
    whole = found["repeats"]
    repeated = np.array([target in prefix for prefix, target in samples()])
    np.testing.assert_array_equal(whole.repeated, repeated)
    assert 0.1 < repeated.mean() < 0.5
    for rule, ranks in found.items():
        assert set(ranks.by_rule) == {rule, "kept", "excluded"}
        assert ranks.all_metrics() == whole.metrics_by_rule()[rule]
        assert ranks.metrics("text") == whole.metrics("text", rule=rule) == ranks.all_metrics()["text"]
    for view in whole.views:
        assert set(whole.metrics(view, repeated, "excluded").values()) == {0.0}
        # The other targets lose nothing when seen items are left out.
        kept, excluded = (whole.metrics(view, ~repeated, rule) for rule in ("kept", "excluded"))
        assert all(excluded[metric] >= value for metric, value in kept.items())


def test_an_empty_split_has_no_metrics_under_any_rule() -> None:
    ranks = evaluate(system("two parts"), store_of([]), protocol_for("repeats"))
    assert ranks.metrics_by_rule() == {rule: {"score": {}} for rule in RULES}


def never_repeating() -> RepeatModel:
    """A repeat component in which no session ever returns to an item."""

    class Never(RepeatModel):
        def log_rates(self, lengths_N: Any) -> np.ndarray:
            return np.full(len(np.asarray(lengths_N)), -np.inf)

    return Never(np.zeros(BINS), np.ones(BINS))


@pytest.mark.parametrize("name", SYSTEMS)
def test_a_probability_of_zero_is_exclusion(name: str) -> None:
    model = system(name)
    protocol = dataclasses.replace(protocol_for("repeats"), repeats=never_repeating())
    ranks = evaluate(model, STORE, protocol)
    for view, (greater, tied) in ranks.views.items():
        np.testing.assert_array_equal(greater, ranks.by_rule["excluded"][view][0])
        np.testing.assert_array_equal(tied, ranks.by_rule["excluded"][view][1])
    prefixes = [np.array(prefix) for prefix, _ in samples()]
    for one, other in zip(
        recommend_items(model, prefixes, 10, protocol, NUM_ITEMS),
        recommend_items(model, prefixes, 10, protocol_for("excluded"), NUM_ITEMS),
        strict=True,
    ):
        np.testing.assert_array_equal(one, other)


@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize("name", ["one part", "two parts", "neighbours and cold items"])
def test_recommendations_agree_with_the_ranks(name: str, rule: SeenItems) -> None:
    model, protocol = system(name), protocol_for(rule)
    ranks = evaluate(model, STORE, protocol)
    checked = 0
    for (prefix, target), greater, tied in zip(samples(), *ranks.views["score"], strict=True):
        candidates = NUM_ITEMS - (len(set(prefix)) if rule == "excluded" else 0)
        ids, scores = recommend_items(model, [np.array(prefix)], candidates, protocol, NUM_ITEMS)
        assert len(set(ids[0].tolist())) == candidates
        assert (np.diff(scores[0]) <= 0).all()
        if tied == 0:
            assert target not in ids[0]
            continue
        place = ids[0].tolist().index(target)
        # Items of equal scores are in the order of their numbers.
        assert greater <= place < greater + tied
        checked += int(tied == 1)
    assert checked > 20


@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize("budget", [1, 2**30])
def test_the_first_items_of_a_split_are_those_that_are_recommended(rule: SeenItems, budget: int) -> None:
    model, protocol = system("neighbours"), protocol_for(rule, budget_bytes=budget)
    prefixes = [np.array(prefix) for prefix, _ in samples()]
    ids, _ = recommend_items(model, prefixes, 7, protocol_for(rule), NUM_ITEMS)
    np.testing.assert_array_equal(top_items(model, STORE, protocol, 7), ids)

"""Counting repeats: distances, rates and weights against slow loops, by hand and by a numerical maximum."""

from __future__ import annotations

import math
from typing import Literal

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.optimize import minimize
from worlds import store_of

from alterrec.data import repeats
from alterrec.data.repeats import (
    BINS,
    RepeatModel,
    bin_names,
    count_repeats,
    last_occurrences,
    length_bins,
    luce_weights,
    repeat_distances,
    repeated_share,
    seen_items,
    target_places,
)

Sessions = list[list[int]]
Kind = Literal["last", "every"]
KINDS: tuple[Kind, ...] = ("last", "every")

# Few items, so that most of them repeat.
sessions_of = st.lists(st.lists(st.integers(0, 4), min_size=1, max_size=12), max_size=6)


def slow_distance(items: list[int], place: int) -> int:
    """Places from the last occurrence before ``place`` to it, 0 if there is none."""
    earlier = [place - before for before in range(place) if items[before] == items[place]]
    return min(earlier, default=0)


def slow_targets(sessions: Sessions, kind: Kind) -> list[tuple[int, int]]:
    """Session and place of each target."""
    return [
        (number, place)
        for number, items in enumerate(sessions)
        for place in range(1, len(items))
        if kind == "every" or place == len(items) - 1
    ]


def slow_bin(value: int) -> int:
    found = 0
    while 2**found < value:
        found += 1
    return found


@given(sessions_of)
def test_distances_equal_the_loop(sessions: Sessions) -> None:
    expected = [slow_distance(items, place) for items in sessions for place in range(len(items))]
    assert repeat_distances(store_of(sessions)).tolist() == expected


@given(sessions_of, st.sampled_from(KINDS))
def test_targets_and_their_share_of_repeats_equal_the_loop(sessions: Sessions, kind: Kind) -> None:
    store, targets = store_of(sessions), slow_targets(sessions, kind)
    places, lengths = target_places(store, kind)
    flat = [(number, place) for number, items in enumerate(sessions) for place in range(len(items))]
    assert [flat[place] for place in places.tolist()] == targets
    assert lengths.tolist() == [place for _, place in targets]
    repeated = [slow_distance(sessions[number], place) > 0 for number, place in targets]
    assert repeated_share(store, kind) == pytest.approx(sum(repeated) / max(len(repeated), 1))


def test_bins_end_at_powers_of_two() -> None:
    values = [*range(1, 70), 2**20, 2**20 + 1, 2**31 - 1]
    assert length_bins(np.array(values)).tolist() == [slow_bin(value) for value in values]
    for longest in range(1, 70):
        assert len(bin_names(longest)) == slow_bin(longest) + 1


def test_rates_and_weights_by_hand() -> None:
    train = store_of([[1, 1], [1, 2], [1, 2, 1], [1, 2, 3, 4]])
    valid = store_of([[3, 3], [3, 4], [5, 6, 5]])
    model = RepeatModel.counted(train, valid, "last")
    assert model is not None
    # By length: 2 of 4 targets after one item repeat it, 2 of 2 after two items, 0 of 1 after three or four.
    # Of all, 4 of 7; each rate gets 100 targets of that rate.
    smooth = 100 * 4 / 7
    one, two, four, none = (2 + smooth) / 104, (2 + smooth) / 102, smooth / 101, smooth / 100
    # Validation has two targets after one item and one after two; two of the three repeat.
    level = (2 + 20) / (2 * one + two + 20)
    expected = [one * level, two * level, four * level, *[none * level] * (BINS - 3)]
    np.testing.assert_allclose(model.rates_B, expected, rtol=1e-12)
    # Where there is a choice, between distances 1 and 2, it is always 2. A distance of 3 was never seen.
    assert model.weights_B[1] > model.weights_B[2] > model.weights_B[0]
    np.testing.assert_array_equal(model.weights_B[2:], model.weights_B[2])


@given(sessions_of, sessions_of, st.sampled_from(KINDS))
def test_rates_equal_the_loop(train: Sessions, valid: Sessions, kind: Kind) -> None:
    total, repeated = [0] * BINS, [0] * BINS
    for sessions in (train, valid):
        for number, place in slow_targets(sessions, kind):
            total[slow_bin(place)] += 1
            repeated[slow_bin(place)] += slow_distance(sessions[number], place) > 0
    model = RepeatModel.counted(store_of(train), store_of(valid), kind)
    if not sum(repeated):
        assert model is None
        return
    assert model is not None
    overall = sum(repeated) / sum(total)
    rates = [(r + 100 * overall) / (t + 100) for r, t in zip(repeated, total, strict=True)]
    targets = slow_targets(valid, kind)
    expected = sum(rates[slow_bin(place)] for _, place in targets)
    found = sum(slow_distance(valid[number], place) > 0 for number, place in targets)
    level = (found + 20) / (expected + 20)
    np.testing.assert_allclose(
        model.rates_B, [min(max(rate * level, 1e-6), 1 - 1e-6) for rate in rates], rtol=1e-9
    )
    assert np.isfinite(model.log_rates(np.arange(1, 100))).all()
    assert (model.weights_B > 0).all()


@given(sessions_of, st.sampled_from(KINDS))
def test_choices_are_the_distinct_items_of_prefixes_by_distance(sessions: Sessions, kind: Kind) -> None:
    expected = []
    for number, place in slow_targets(sessions, kind):
        items = sessions[number]
        if items[place] in items[:place]:
            by_bin = [0] * BINS
            for item in set(items[:place]):
                by_bin[slow_bin(slow_distance([*items[:place], item], place))] += 1
            expected.append((by_bin, slow_bin(slow_distance(items, place))))
    found = [(counts.tolist(), chosen) for counts, chosen in repeats._choices(store_of(sessions), kind)]
    assert found == expected


def log_likelihood(log_weights: np.ndarray, items_NB: np.ndarray, chosen_N: np.ndarray) -> float:
    """Luce's choice model: the weight of the chosen item divided by the sum of all weights."""
    return float((log_weights[chosen_N] - np.log(items_NB @ np.exp(log_weights))).sum())


def drawn_choices(weights: list[float], count: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Prefixes of one to four items of each of some bins, and the bin of the item that is chosen."""
    rng = np.random.default_rng(seed)
    items_NB = rng.integers(0, 5, (count, len(weights)))
    items_NB[:, 0] += items_NB.sum(1) == 0
    shares = items_NB * np.array(weights)
    chosen = [rng.choice(len(weights), p=row / row.sum()) for row in shares]
    return items_NB, np.array(chosen)


@pytest.mark.parametrize("weights", [[1.0, 1.0, 1.0], [1.0, 5.0, 0.3], [8.0, 4.0, 2.0, 1.0, 0.5]])
def test_weights_are_the_maximum_of_the_likelihood(weights: list[float]) -> None:
    items_NB, chosen_N = drawn_choices(weights, 1500, seed=3)
    found = luce_weights(items_NB, chosen_N)
    best = minimize(lambda x: -log_likelihood(x, items_NB, chosen_N), np.zeros(len(weights)), method="BFGS").x
    # The added choice of each bin is one of hundreds, or of dozens.
    np.testing.assert_allclose(found / found[0], np.exp(best - best[0]), rtol=0.04)
    np.testing.assert_allclose(found / found[0], np.array(weights) / weights[0], rtol=0.4)


@pytest.mark.parametrize("count", [1, 3, 12])
def test_few_choices_are_pulled_together_by_one_more_in_every_bin(count: int) -> None:
    """At the maximum of the likelihood with the added choices, of which each has the chance weight."""
    items_NB, chosen_N = drawn_choices([1.0, 6.0, 0.2], count, seed=5)
    found = luce_weights(items_NB, chosen_N)
    chosen_B = np.bincount(chosen_N, minlength=3)
    chances_B = sum(items / (items * found).sum() for items in items_NB)
    # The weights have a mean of 1, by how often each bin can be chosen.
    assert np.average(found, weights=chances_B + 1) == pytest.approx(1, rel=1e-3)
    scale = (len(chosen_N) + 3) / (chances_B.sum() + 3)

    def loss(x: np.ndarray) -> float:
        return float(scale * (np.log(items_NB @ np.exp(x)).sum() + np.exp(x).sum()) - (chosen_B + 1) @ x)

    best = minimize(loss, np.zeros(3), method="BFGS", options={"gtol": 1e-8}).x
    np.testing.assert_allclose(found, np.exp(best), rtol=1e-3)


def test_a_bin_without_choices_has_the_mean_weight() -> None:
    items_NB, chosen_N = drawn_choices([1.0, 1.0], 200, seed=0)
    found = luce_weights(np.pad(items_NB, ((0, 0), (0, 1))), chosen_N)
    assert found[2] == pytest.approx(1, abs=0.1)


PREFIXES = st.lists(st.lists(st.integers(0, 4), min_size=1, max_size=12), min_size=1, max_size=5)
MODEL = RepeatModel(np.linspace(0.1, 0.9, BINS), np.linspace(0.5, 3, BINS))


def padded(prefixes: Sessions, more: int) -> np.ndarray:
    places = max(map(len, prefixes)) + more
    return np.array([[*items, *[-1] * (places - len(items))] for items in prefixes], np.int64)


def slow_shares(items: list[int], scores: list[float], affinity: float) -> dict[int, float]:
    """The share of the item at each place that is the last one of its item."""
    affinity = affinity if all(map(math.isfinite, scores)) else 0.0
    places = [place for place, item in enumerate(items) if item not in items[place + 1 :]]
    weights = {
        place: MODEL.weights_B[slow_bin(len(items) - place)]
        * (math.exp(affinity * scores[place]) if affinity else 1.0)
        for place in places
    }
    return {place: weight / sum(weights.values()) for place, weight in weights.items()}


@given(PREFIXES, st.integers(0, 3), st.sampled_from([0.0, 0.5, 1.0]), st.integers(0, 2**32 - 1))
def test_odds_of_places_equal_the_loop(prefixes: Sessions, more: int, affinity: float, seed: int) -> None:
    items_NL = padded(prefixes, more)
    scores_V = np.random.default_rng(seed).normal(size=5)
    scores_V[seed % 5] = -np.inf if seed % 3 == 0 else 3.0
    scores_NL = scores_V[items_NL.clip(min=0)]
    shares = MODEL.log_shares(items_NL, scores_NL, affinity)
    odds = MODEL.log_odds(items_NL, scores_NL, affinity)
    assert odds.dtype == np.float32
    last = last_occurrences(items_NL)
    for row, items in enumerate(prefixes):
        expected = slow_shares(items, scores_NL[row, : len(items)].tolist(), affinity)
        assert np.flatnonzero(last[row]).tolist() == sorted(expected)
        rate = MODEL.rates_B[slow_bin(len(items))]
        for place in range(items_NL.shape[1]):
            share = expected.get(place, 0.0)
            assert math.exp(shares[row, place]) == pytest.approx(share)
            assert math.exp(odds[row, place]) == pytest.approx(share * rate / (1 - rate), rel=1e-5)


def test_odds_by_hand() -> None:
    rates, weights = np.full(BINS, 0.5), np.ones(BINS)
    rates[1:3], weights[:3] = (0.75, 0.9), (2.0, 3.0, 1.0)
    model = RepeatModel(rates, weights)
    found = np.exp(model.log_odds([[7, 8, 7, 9], [7, 8, -1, -1]]))
    # Distances 3, 2 and 1 of items 8, 7 and 9 weigh 1, 3 and 2; then distances 2 and 1 weigh 3 and 2.
    expected = [[0, 9 / 6, 9 * 3 / 6, 9 * 2 / 6], [3 * 3 / 5, 3 * 2 / 5, 0, 0]]
    np.testing.assert_allclose(found, expected, rtol=1e-6)
    # Item 8 has e times as much weight as before for each point of its score.
    tilted = np.exp(model.log_shares(np.array([[7, 8]]), [[0.0, 2.0]], 0.5))
    np.testing.assert_allclose(tilted, [[3 / (3 + 2 * math.e), 2 * math.e / (3 + 2 * math.e)]])


def test_counts_by_length_and_distance_by_hand() -> None:
    store = store_of([[1, 1, 2, 3, 1], [4, 5]])
    by_length, repeated, by_distance = (each[:4].tolist() for each in count_repeats(store, "every"))
    # After one to four items, and after one; the first repeated item is at distance 1, the second at 3.
    assert (by_length, repeated, by_distance) == ([2, 1, 2, 0], [1, 0, 1, 0], [1, 0, 1, 0])


def test_a_target_of_training_or_of_validation_is_enough() -> None:
    new, back = store_of([[1, 2, 3]]), store_of([[1, 2, 1]])
    for train, valid in ((new, back), (back, new)):
        seen, model = seen_items("auto", train, valid, "last")
        assert (seen, model is None) == ("repeats", False)
    assert seen_items("auto", new, new, "last") == ("excluded", None)
    assert seen_items("never", back, back, "last") == ("kept", None)
    assert seen_items("always", back, back, "last") == ("excluded", None)


def test_only_targets_of_the_protocol_decide() -> None:
    """As in Amazon-M2, where clicks inside sessions repeat and the last one never does."""
    rng = np.random.default_rng(0)
    walks = [[*rng.integers(0, 4, rng.integers(3, 8)).tolist(), 9] for _ in range(50)]
    store = store_of(walks)
    assert repeated_share(store, "every") > 0.2
    assert seen_items("auto", store, store, "last") == ("excluded", None)
    seen, model = seen_items("auto", store, store, "every")
    assert seen == "repeats"
    assert model is not None


def test_no_sessions_have_no_repeats() -> None:
    empty = store_of([])
    assert repeated_share(empty, "last") == 0
    assert seen_items("auto", empty, empty, "every") == ("excluded", None)

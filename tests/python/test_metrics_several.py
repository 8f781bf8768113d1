"""Metrics of several targets a sample: by hand, against the mean over all orders of ties, against peers."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from alterrec.metrics import METRICS, Ties, metric_values, metrics
from alterrec.ranking import target_counts

NAMES = [
    *(f"{kind}@{cutoff}" for kind in METRICS for cutoff in (1, 2, 3, 20)),
    *("ndcg", "mrr", "map"),
]


def by_definition(ranking: Sequence[int], targets: set[int], name: str) -> float:
    """A metric of one ranking without ties."""
    kind, _, cutoff = name.partition("@")
    depth = int(cutoff) if cutoff else len(ranking)
    hits = [item in targets for item in ranking[:depth]]
    places = [place for place, hit in enumerate(hits, 1) if hit]
    most = min(len(targets), depth) if cutoff else len(targets)
    return {
        "hits": float(any(hits)),
        "recall": sum(hits) / len(targets),
        "precision": sum(hits) / depth,
        "ndcg": sum(1 / math.log2(place + 1) for place in places)
        / sum(1 / math.log2(place + 1) for place in range(1, most + 1)),
        "mrr": 1 / places[0] if places else 0.0,
        "map": sum(sum(hits[:place]) / place for place in places) / most,
    }[kind]


def orders(scores: Sequence[int]) -> list[list[int]]:
    """All rankings in which items of equal score are in any order."""
    groups = [
        [item for item, score in enumerate(scores) if score == value]
        for value in sorted(set(scores), reverse=True)
    ]
    return [
        list(itertools.chain(*order))
        for order in itertools.product(*(itertools.permutations(group) for group in groups))
    ]


def counts(scores: Sequence[int], targets: Sequence[int]) -> tuple[list[int], list[int]]:
    greater = [sum(score > scores[target] for score in scores) for target in targets]
    return greater, [sum(score == scores[target] for score in scores) for target in targets]


cases = st.lists(st.integers(0, 2), min_size=2, max_size=5).flatmap(
    lambda scores: st.tuples(
        st.just(scores),
        st.lists(st.integers(0, len(scores) - 1), min_size=1, max_size=4, unique=True),
        st.integers(0, 2),
    )
)


@settings(deadline=None, max_examples=30)
@given(cases)
def test_the_mean_over_all_orders_of_ties(case: tuple[list[int], list[int], int]) -> None:
    scores, targets, unknown = case
    greater, tied = counts(scores, targets)
    # Targets that are no candidates count as targets that are never found; -1 is padding.
    padded = [[*greater, *[0] * unknown, -1]], [[*tied, *[0] * unknown, -1]]
    wanted = {*targets, *range(-unknown, 0)}
    rankings = orders(scores)
    for name in NAMES:
        expected = sum(by_definition(ranking, wanted, name) for ranking in rankings) / len(rankings)
        assert metric_values(*padded, name) == pytest.approx([expected], rel=1e-12, abs=1e-15), name


@settings(deadline=None, max_examples=30)
@given(cases, st.sampled_from(["optimistic", "pessimistic"]))
def test_the_first_and_the_last_order(case: tuple[list[int], list[int], int], ties: Ties) -> None:
    scores, targets, _ = case
    sign = 1 if ties == "optimistic" else -1
    ranking = sorted(range(len(scores)), key=lambda item: (-scores[item], -sign * (item in targets)))
    greater, tied = counts(scores, targets)
    for name in NAMES:
        expected = by_definition(ranking, set(targets), name)
        assert metric_values([greater], [tied], name, ties) == pytest.approx([expected], rel=1e-12), name


@pytest.mark.parametrize(
    ("greater", "tied", "name", "expected"),
    [
        ([0, 3], [1, 1], "recall@3", 1 / 2),
        ([0, 3], [1, 1], "precision@4", 2 / 4),
        ([0, 3], [1, 1], "hits@1", 1.0),
        ([1, 3], [1, 1], "mrr@2", 1 / 2),
        ([1, 3], [1, 1], "map@4", (1 / 2 + 2 / 4) / 2),
        ([1, 3], [1, 1], "map@1", 0.0),
        ([0, 1, 2], [1, 1, 1], "map@2", 1.0),  # min(3, 2) targets
        ([0, 1, 2], [1, 1, 1], "recall@2", 2 / 3),
        ([0, 2], [1, 1], "ndcg@3", (1 + 1 / 2) / (1 + 1 / math.log2(3))),
        # Two targets among three tied items: at ranks 1 and 2, 1 and 3, or 2 and 3.
        ([0, 0], [3, 3], "hits@1", 2 / 3),
        ([0, 0], [3, 3], "recall@1", 1 / 3),
        ([0, 0], [3, 3], "mrr", (1 + 1 + 1 / 2) / 3),
        ([0, 0], [3, 3], "map", ((1 + 1) + (1 + 2 / 3) + (1 / 2 + 2 / 3)) / 2 / 3),
        ([0, 0], [1, 0], "recall@1", 1 / 2),  # the second is not a candidate
        ([0, 0], [0, 0], "map@5", 0.0),
    ],
)
def test_by_hand(greater: list[int], tied: list[int], name: str, expected: float) -> None:
    assert metric_values([greater], [tied], name) == pytest.approx([expected], rel=1e-14, abs=0)


@pytest.mark.parametrize("name", NAMES)
def test_one_target_is_the_same_in_both_forms(name: str) -> None:
    greater, tied = np.array([[0, 1], [3, 4], [7, 2], [0, 0], [19, 3]]).T
    single = metric_values(greater, tied, name)
    assert metric_values(greater[:, None], tied[:, None], name).tolist() == single.tolist()
    padded = (np.pad(values[:, None], ((0, 0), (0, 3)), constant_values=-1) for values in (greater, tied))
    assert metric_values(*padded, name).tolist() == single.tolist()


def test_large_groups_of_ties() -> None:
    """A collapsed model: all items of a catalogue of a million are equal."""
    tied = [[1_000_000] * 3]
    found = metrics([[0] * 3], tied, ["hits@10", "recall@10", "mrr"])
    assert found["recall@10"] == pytest.approx(1e-5)
    assert found["hits@10"] == pytest.approx(1 - math.prod((1e6 - 10 - i) / (1e6 - i) for i in range(3)))
    # The first of three numbers has the mean reciprocal 3 / n (ln n - 3 / 2 + Euler's constant), nearly.
    assert found["mrr"] == pytest.approx(3e-6 * (math.log(1e6) - 1.5 + np.euler_gamma), rel=1e-3)


def test_counts_of_several_targets_agree_with_ranx_and_torchmetrics() -> None:
    import ranx
    import torch
    from torchmetrics.functional.retrieval import retrieval_average_precision as average_precision
    from torchmetrics.functional.retrieval import retrieval_normalized_dcg as normalized_dcg

    rng = np.random.default_rng(0)
    scores = rng.permuted(np.tile(np.arange(30), (25, 1)), axis=1).astype(np.float32) + 1
    targets = np.array([rng.permutation(30)[:4] for _ in scores])
    targets[::2, 3] = -1
    ours = {name: metric_values(*target_counts(scores, targets), name) for name in NAMES}
    named = [[item for item in row if item >= 0] for row in targets.tolist()]
    qrels = ranx.Qrels({f"{row:02}": {str(item): 1 for item in items} for row, items in enumerate(named)})
    run = ranx.Run(
        {f"{row:02}": {str(item): float(s) for item, s in enumerate(v)} for row, v in enumerate(scores)}
    )
    peers = {
        # ranx divides MAP by the number of targets, which is the same where the cutoff is not smaller.
        name: name.replace("hits", "hit_rate")
        for name in NAMES
        if "@" in name and (not name.startswith("map") or name == "map@20")
    }
    found = ranx.evaluate(qrels, run, list(peers.values()), return_mean=False)
    for name, peer in peers.items():
        np.testing.assert_allclose(ours[name], found[peer], rtol=1e-12, err_msg=name)
    for row, items in enumerate(named):
        relevant = torch.zeros(30, dtype=torch.bool)
        relevant[items] = True
        values = torch.from_numpy(scores[row])
        assert float(normalized_dcg(values, relevant, top_k=3)) == pytest.approx(ours["ndcg@3"][row])
        assert float(average_precision(values, relevant)) == pytest.approx(ours["map"][row])


@pytest.mark.parametrize(
    ("greater", "tied", "message"),
    [
        ([[-1, -1]], [[-1, -1]], "sample 0 has no target; leave it out"),
        ([[0, -1]], [[1, 1]], r"greater\[0, 1\] is -1 and tied\[0, 1\] is 1; expected -1 in both"),
        ([[0, 2]], [[1, -1]], r"greater\[0, 1\] is 2 and tied\[0, 1\] is -1"),
        ([[0, 0, 5]], [[1, 1, 1]], "sample 0 has 2 targets with 0 items above them, but tied is 1"),
        ([[0, -2]], [[1, -2]], r"greater\[0, 1\] is -2; expected -1 or more"),
        ([[[0]]], [[[1]]], r"greater has shape \(1, 1, 1\); expected \(N,\), .* or \(N, T\)"),
        (np.empty((2, 0), int), np.empty((2, 0), int), r"greater has shape \(2, 0\)"),
        ([[0, 1]], [[1]], r"greater has \(1, 2\) entries and tied has \(1, 1\)"),
    ],
)
def test_wrong_input_is_named(greater: object, tied: object, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        metric_values(greater, tied, "mrr")  # type: ignore[arg-type]


def test_counts_of_several_targets() -> None:
    rng = np.random.default_rng(1)
    scores = rng.integers(6, size=(40, 12)).astype(np.float32)
    targets = np.array([rng.permutation(12)[:3] for _ in scores])
    targets[rng.random(targets.shape) < 0.3] = -1
    exclude = rng.integers(-1, 12, size=(40, 4))
    for each in ("missed", "ranked"):
        greater, tied = target_counts(scores, targets, exclude=exclude, excluded_target=each)
        assert greater.shape == tied.shape == targets.shape
        for row, column in np.ndindex(*targets.shape):
            target, out = targets[row, column], set(exclude[row].tolist())
            if each == "ranked":
                out -= set(targets[row].tolist())
            values = [score for item, score in enumerate(scores[row].tolist()) if item not in out]
            if target < 0:
                expected = (-1, -1)
            else:
                own = scores[row, target]
                expected = (sum(value > own for value in values), sum(value == own for value in values))
                expected = (expected[0], 0 if target in out else expected[1])
            assert (greater[row, column], tied[row, column]) == expected


@pytest.mark.parametrize(
    ("targets", "message"),
    [
        ([[1, 1]], r"targets\[0\] has the id 1 twice; give each target once"),
        ([[1, -2]], "targets has the id -2; expected item ids, or -1 as padding"),
        ([[1, 3]], "id 3"),
        ([[1], [2]], r"targets has shape \(2, 1\); expected \(1,\) or \(1, T\)"),
        ([[[1]]], r"targets has shape \(1, 1, 1\)"),
    ],
)
def test_wrong_targets_are_named(targets: object, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        target_counts(np.zeros((1, 3), np.float32), targets)  # type: ignore[arg-type]

"""Metrics of recommendation lists: by hand, and against the mean over all orders of ties."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from alterrec.list_metrics import LIST_METRICS, ListMetrics, list_metrics

NAMES = [f"{kind}@{cutoff}" for kind in LIST_METRICS for cutoff in (2, 3)]
COUNTS = np.array([6, 3, 0, 1, 2, 4])
VECTORS = np.array([[1, 0], [2, 0], [0, 3], [1, 1], [0, 0], [-1, 0]], np.float64)


def gini(exposures: Sequence[float]) -> float:
    """Half of the mean absolute difference of two values, divided by their mean."""
    pairs = [abs(one - other) for one, other in itertools.product(exposures, exposures)]
    return sum(pairs) / len(pairs) / 2 / (sum(exposures) / len(exposures))


def pair_distances(items: Sequence[int]) -> list[float]:
    unit = [VECTORS[item] / np.linalg.norm(VECTORS[item]) for item in items if VECTORS[item].any()]
    return [1 - float(one @ other) for one, other in itertools.combinations(unit, 2)]


def by_definition(lists: list[list[int]], cutoff: int) -> dict[str, float]:
    """The sums that the metrics are made of, for lists without ties."""
    cut = [items[:cutoff] for items in lists]
    places = [item for items in cut for item in items]
    distances = [each for items in cut for each in pair_distances(items)]
    return {
        "places": len(places),
        "coverage": len(set(places)) / len(COUNTS),
        "information": sum(-math.log2(max(COUNTS[item], 1) / COUNTS.sum()) for item in places),
        "interactions": sum(COUNTS[item] for item in places),
        "distances": sum(distances),
        "pairs": len(distances),
        **{f"exposure {item}": places.count(item) for item in range(len(COUNTS))},
    }


def orders(scores: Sequence[int], excluded: set[int]) -> list[list[int]]:
    candidates = [item for item in range(len(scores)) if item not in excluded]
    values = sorted({scores[item] for item in candidates}, reverse=True)
    groups = [[item for item in candidates if scores[item] == value] for value in values]
    return [
        list(itertools.chain(*order))
        for order in itertools.product(*(list(itertools.permutations(group)) for group in groups))
    ]


rows = st.lists(st.integers(0, 3), min_size=6, max_size=6)
cases = st.lists(
    st.tuples(rows, st.lists(st.integers(-1, 5), min_size=2, max_size=2)), min_size=1, max_size=2
)


@settings(deadline=None, max_examples=20)
@given(cases, st.booleans())
def test_the_mean_over_all_orders_of_ties(case: list[tuple[list[int], list[int]]], exclude: bool) -> None:
    scores = np.array([values for values, _ in case], np.float32)
    seen = np.array([items for _, items in case])
    targets = np.arange(len(case)) % 6
    measured = ListMetrics(NAMES, 6, train_counts=COUNTS, vectors=VECTORS)
    measured.add_scores(scores, targets, exclude=seen if exclude else None)
    found = measured.values()
    out = [set(items) - {-1} if exclude else set() for items in seen.tolist()]
    # Orders that give the same lists are the same.
    for cutoff in (2, 3):
        choices = []
        for values, left_out in zip(scores.tolist(), out, strict=True):
            lists = [tuple(sorted(order[:cutoff])) for order in orders(values, left_out)]
            choices.append({each: lists.count(each) / len(lists) for each in set(lists)})
        means: dict[str, float] = {}
        for chosen in itertools.product(*choices):
            share = math.prod(choice[each] for choice, each in zip(choices, chosen, strict=True))
            for name, value in by_definition([list(each) for each in chosen], cutoff).items():
                means[name] = means.get(name, 0.0) + share * value
        popularity = means["interactions"] / means["places"]
        expected = {
            "coverage": means["coverage"],
            "novelty": means["information"] / means["places"],
            "popularity": popularity,
            "popularity_bias": popularity / COUNTS[targets].mean(),
            "gini": gini([means[f"exposure {item}"] for item in range(6)]),
        }
        if means["pairs"] > 1e-9:
            expected["diversity"] = means["distances"] / means["pairs"]
        own = {name.split("@")[0]: value for name, value in found.items() if name.endswith(f"@{cutoff}")}
        assert own == pytest.approx(expected, rel=1e-9, abs=1e-9)


def test_by_hand() -> None:
    found = list_metrics(
        [[0, 1, 3], [0, 5, 2]],
        NAMES,
        6,
        train_counts=COUNTS,
        vectors=VECTORS,
        targets=[1, 2],
    )
    half = 1 - math.sqrt(0.5)
    assert found == pytest.approx(
        {
            "coverage@2": 3 / 6,
            "coverage@3": 5 / 6,
            "novelty@2": (2 * math.log2(16 / 6) + math.log2(16 / 3) + 2) / 4,
            # An item without interactions counts as one that has one.
            "novelty@3": (2 * math.log2(16 / 6) + math.log2(16 / 3) + 4 + 2 + 4) / 6,
            "popularity@2": (6 + 3 + 6 + 4) / 4,
            "popularity@3": (6 + 3 + 1 + 6 + 4 + 0) / 6,
            "popularity_bias@2": 19 / 4 / 1.5,
            "popularity_bias@3": 20 / 6 / 1.5,
            "diversity@2": (0 + 2) / 2,
            "diversity@3": (0 + half + half + 2 + 1 + 1) / 6,
            "gini@2": gini([2, 1, 0, 0, 0, 1]),
            "gini@3": gini([2, 1, 1, 1, 0, 1]),
        }
    )
    assert list_metrics([[0, 1], [2, 3], [4, 5]], ["gini@2", "coverage@2"], 6) == {
        "gini@2": 0.0,
        "coverage@2": 1.0,
    }


def test_names_are_those_that_were_given() -> None:
    found = list_metrics(
        [[0, 1]], ["ItemCoverage@2", "ARP@1", "ILD@2"], 6, train_counts=COUNTS, vectors=VECTORS
    )
    assert found == pytest.approx({"ItemCoverage@2": 1 / 3, "ARP@1": 6.0, "ILD@2": 0.0})


@pytest.mark.parametrize("kind", ["numpy", "torch"])
def test_parts_and_types_do_not_matter(kind: str) -> None:
    import torch

    rng = np.random.default_rng(0)
    scores = rng.integers(0, 8, size=(60, 50)).astype(np.float32)
    counts, vectors = rng.integers(0, 9, 50), rng.normal(size=(50, 4)).astype(np.float16)
    targets, seen = rng.integers(50, size=60), rng.integers(-1, 50, size=(60, 5))
    names = [f"{kind}@{cutoff}" for kind in LIST_METRICS for cutoff in (2, 10, 48)]

    def measured(parts: int, given: Any) -> dict[str, float]:
        found = ListMetrics(names, 50, train_counts=counts, vectors=vectors)
        for rows in np.array_split(np.arange(60), parts):
            found.add_scores(given[rows], targets[rows], exclude=seen[rows])
        return found.values()

    once = measured(1, scores)
    assert measured(7, torch.from_numpy(scores) if kind == "torch" else scores) == pytest.approx(
        once, rel=1e-11
    )
    assert 0 < once["gini@2"] < 1
    assert once["coverage@48"] == 1


def test_large_groups_of_ties_use_the_other_items() -> None:
    """All items but three tie at the cut; the vectors of the three are subtracted from the sum of all."""
    rng = np.random.default_rng(1)
    scores, vectors = np.zeros((1, 40), np.float32), rng.normal(size=(40, 3))
    scores[0, [4, 9, 30]] = [3, 2, 1]
    measured = ListMetrics(["diversity@5"], 40, vectors=vectors)
    measured.add_scores(scores)
    unit: NDArray[np.float64] = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    certain, tied = [4, 9, 30], [item for item in range(40) if item not in (4, 9, 30)]
    distances = [
        1 - float(one @ other)
        for pair in itertools.combinations(tied, 2)
        for one, other in itertools.combinations(unit[[*certain, *pair]], 2)
    ]
    assert measured.values()["diversity@5"] == pytest.approx(np.mean(distances), rel=1e-10)


def test_what_cannot_be_said_is_left_out() -> None:
    nothing = ListMetrics(["coverage@1", "gini@1"], 3)
    assert nothing.values() == {}
    names, zeros = ["diversity@2", "popularity_bias@2"], np.zeros(3)
    assert list_metrics([[0, 1]], names, 3, train_counts=zeros, vectors=zeros[:, None], targets=[0]) == {}


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"names": ["coverage"]}, "'coverage' has no cutoff; use 1 or more, as in coverage@10"),
        ({"names": ["diversity@1"]}, "'diversity@1' has the cutoff 1; use 2 or more"),
        ({"names": ["ndcg@2"]}, "'ndcg@2' is one of targets, not allowed here; use coverage@K"),
        ({"names": ["coverge@2"]}, "unknown metric 'coverge@2'; did you mean 'coverage'"),
        ({"names": ["gini@4"]}, "'gini@4' has a cutoff above the 3 items"),
        ({"names": ["novelty@2"]}, "train_counts is missing; novelty needs it"),
        ({"names": ["diversity@2"]}, "vectors is missing; diversity needs it"),
        (
            {"names": ["novelty@2"], "train_counts": [1, 2]},
            r"train_counts has shape \(2,\); expected one row",
        ),
        ({"names": ["popularity_bias@1"], "train_counts": [1, 2, 3]}, "give targets, one id for each list"),
        ({"names": ["popularity_bias@1"], "train_counts": [1, 2, 3], "targets": [1, 2]}, "targets has shape"),
        ({"names": ["gini@3"]}, r"lists has shape \(1, 2\); expected \(N, K\) with K of 3 or more"),
        ({"names": ["gini@1"], "lists": [[3, 1]]}, "lists has the id 3; expected 0 to 2"),
    ],
)
def test_wrong_input_is_named(arguments: dict[str, Any], message: str) -> None:
    arguments = {"lists": [[0, 1]], "num_items": 3, **arguments}
    with pytest.raises(ValueError, match=message):
        list_metrics(**arguments)
    with pytest.raises(ValueError, match="scores has 4 columns; expected 3"):
        ListMetrics(["gini@1"], 3).add_scores(np.zeros((1, 4), np.float32))

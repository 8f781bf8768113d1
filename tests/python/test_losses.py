"""The one loss, by hand and against an obvious loop."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from alterrec.nn.losses import candidate_cross_entropy, seen_mask

SCORES = torch.tensor([[2.0, 1.0, 0.0, -1.0], [0.0, 0.0, 0.0, 0.0]], dtype=torch.float64)


def one(count: int = 1) -> torch.Tensor:
    return torch.ones(count, dtype=torch.float64)


def test_whole_catalogue_by_hand() -> None:
    loss = candidate_cross_entropy(SCORES, torch.tensor([[0], [3]]), one(), None)
    first = math.log(math.e**2 + math.e + 1 + 1 / math.e) - 2
    assert loss.item() == pytest.approx((first + math.log(4)) / 2, rel=1e-12)


def test_equation_2_and_3_by_hand() -> None:
    """Softmax over the target and the hard negatives {1, 3} and {0, 1}."""
    loss = candidate_cross_entropy(SCORES, torch.tensor([[0], [3]]), one(), torch.tensor([[1, 3], [0, 1]]))
    first = math.log(1 + math.exp(-1) + math.exp(-3))
    assert loss.item() == pytest.approx((first + math.log(3)) / 2, rel=1e-12)


def test_equation_4_and_5_by_hand() -> None:
    """Target 0 and augmented positive 1, each alone against negative 3; beta = 0.5."""
    scores = SCORES[:1]
    weights = torch.tensor([1.0, 0.5], dtype=torch.float64)
    loss = candidate_cross_entropy(scores, torch.tensor([[0, 1]]), weights, torch.tensor([[3]]))
    expected = math.log(1 + math.exp(-3)) + 0.5 * math.log(1 + math.exp(-2))
    assert loss.item() == pytest.approx(expected, rel=1e-12)


def test_a_positive_is_never_its_negative_and_duplicates_count() -> None:
    scores = SCORES[:1]
    loss = candidate_cross_entropy(scores, torch.tensor([[0]]), one(), torch.tensor([[0, 2, 2, -1]]))
    assert loss.item() == pytest.approx(math.log(1 + 2 * math.exp(-2)), rel=1e-12)


def test_no_candidate_left_is_no_loss_and_a_finite_gradient() -> None:
    scores = SCORES[:1].clone().requires_grad_()
    for candidates in (torch.tensor([[0, -1]]), torch.tensor([[True, False, False, False]])):
        loss = candidate_cross_entropy(scores, torch.tensor([[0]]), one(), candidates)
        (gradient,) = torch.autograd.grad(loss, scores)
        assert loss.item() == 0
        assert torch.equal(gradient, torch.zeros_like(scores))


def slow_loss(
    scores: np.ndarray, positives: np.ndarray, weights: np.ndarray, candidates: list[list[int]]
) -> float:
    total = 0.0
    for row, items, negatives in zip(scores, positives, candidates, strict=True):
        kept = [row[j] for j in negatives if j not in items]
        for item, weight in zip(items, weights, strict=True):
            total -= weight * math.log(math.exp(row[item]) / sum(math.exp(s) for s in [row[item], *kept]))
    return total / len(scores)


@given(st.data())
def test_ids_and_mask_equal_the_loop(data: st.DataObject) -> None:
    num_items = data.draw(st.integers(1, 8))
    rows = data.draw(st.integers(1, 3))
    top = data.draw(st.integers(1, min(2, num_items)))
    floats = st.floats(-5, 5)
    scores = np.array([[data.draw(floats) for _ in range(num_items)] for _ in range(rows)])
    positives = np.array([data.draw(st.permutations(range(num_items)))[:top] for _ in range(rows)])
    candidates = [
        data.draw(st.lists(st.integers(0, num_items - 1), max_size=num_items, unique=True))
        for _ in range(rows)
    ]
    weights = np.array([1.0, 0.5][:top])
    expected = slow_loss(scores, positives, weights, candidates)
    mask = torch.zeros(rows, num_items, dtype=torch.bool)
    width = max(1, *map(len, candidates))
    ids = torch.full((rows, width), -1)
    for row, items in enumerate(candidates):
        mask[row, items] = True
        ids[row, : len(items)] = torch.tensor(items, dtype=torch.int64)
    for form in (ids, mask):
        loss = candidate_cross_entropy(
            torch.from_numpy(scores), torch.from_numpy(positives), torch.from_numpy(weights), form
        )
        assert loss.item() == pytest.approx(expected, rel=1e-9, abs=1e-12)


def test_hidden_items_are_no_candidates_and_a_hidden_target_is_one() -> None:
    """Items 1 and, in vain, target 0 are hidden; 2 and 3 are left."""
    hidden = torch.tensor([[True, True, False, False]])
    expected = math.log(1 + math.exp(-2) + math.exp(-3))
    for candidates in (None, torch.tensor([[1, 2, 3]]), torch.tensor([[False, True, True, True]])):
        loss = candidate_cross_entropy(SCORES[:1], torch.tensor([[0]]), one(), candidates, hidden)
        assert loss.item() == pytest.approx(expected, rel=1e-12)


def test_seen_mask_marks_real_places_only() -> None:
    mask = seen_mask(torch.tensor([[3, 1, 0], [2, 0, 0]]), torch.tensor([2, 1]), num_items=4)
    assert mask.tolist() == [[False, True, False, True], [False, False, True, False]]

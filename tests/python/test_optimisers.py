"""The rules of ID tables against slow versions in numpy, and how a network's optimiser is made of them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from alterrec.nn.item_encoders import IdTable
from alterrec.training.optimisers import RULES, NetworkOptimiser


def rowwise_adagrad(table: np.ndarray, gradients: list[np.ndarray], lr: float, decay: float) -> np.ndarray:
    """Row by row: the sum of mean squares, then the division by its root."""
    sums = np.zeros(len(table))
    for gradient in gradients:
        for row, values in enumerate(gradient):
            if values.any():
                values = values + decay * table[row]
                sums[row] += (values**2).mean()
                table[row] -= lr * values / (np.sqrt(sums[row]) + 1e-8)
    return table


def lazy_adam(table: np.ndarray, gradients: list[np.ndarray], lr: float, decay: float) -> np.ndarray:
    """Row by row: moments that decay only where there is a gradient; the bias counts all steps."""
    first, second = np.zeros_like(table), np.zeros_like(table)
    for step, gradient in enumerate(gradients, start=1):
        for row, values in enumerate(gradient):
            if values.any():
                values = values + decay * table[row]
                first[row] = 0.9 * first[row] + 0.1 * values
                second[row] = 0.999 * second[row] + 0.001 * values**2
                root = np.sqrt(second[row] / (1 - 0.999**step)) + 1e-8
                table[row] -= lr * first[row] / (1 - 0.9**step) / root
    return table


TWINS: Mapping[str, Callable[..., np.ndarray]] = {"rowwise_adagrad": rowwise_adagrad, "lazy_adam": lazy_adam}


@pytest.mark.parametrize("rule", TWINS)
@settings(max_examples=30)
@given(seed=st.integers(0, 2**32 - 1), sparse=st.booleans(), decay=st.sampled_from([0.0, 0.1]))
def test_rules_are_those_of_their_twins(rule: str, seed: int, sparse: bool, decay: float) -> None:
    """Sparse gradients have rows several times; some rows have none, or one that is zero."""
    rng = np.random.default_rng(seed)
    start, dense = rng.normal(size=(7, 3)), []
    table = nn.Parameter(torch.from_numpy(start.copy()))
    optimiser = RULES[rule]([table], 0.1, decay)
    for _ in range(4):
        ids = torch.from_numpy(rng.integers(0, 6, rng.integers(0, 9)))
        values = torch.from_numpy(rng.normal(size=(len(ids), 3)) * rng.choice([0.0, 1e-3, 1.0, 50.0]))
        whole = torch.zeros(7, 3, dtype=torch.float64).index_add_(0, ids, values)
        dense.append(whole.numpy())
        table.grad = whole
        if sparse:
            table.grad = torch.sparse_coo_tensor(ids[None], values, (7, 3), check_invariants=True)
        optimiser.step()
    expected = TWINS[rule](start, dense, 0.1, decay)
    np.testing.assert_allclose(table.detach().numpy(), expected, rtol=1e-6, atol=1e-9)


@pytest.mark.parametrize("rule", TWINS)
def test_many_rows_are_updated_in_parts(rule: str, monkeypatch: pytest.MonkeyPatch) -> None:
    gradient, found = torch.randn(50, 2), []
    for part in (7, 1000):
        monkeypatch.setattr("alterrec.training.optimisers.PART", part)
        table = nn.Parameter(torch.ones(50, 2))
        table.grad = gradient.clone()
        RULES[rule]([table], 0.1).step()
        found.append(table.detach())
    assert torch.equal(*found)


@pytest.mark.parametrize("rule", ["adam", *TWINS])
def test_only_id_tables_have_another_rule_and_gradients_are_freed(rule: str) -> None:
    torch.manual_seed(0)
    network = nn.Sequential(IdTable(9, 4, sparse=rule != "adam"), nn.Linear(4, 2))
    before = network[0].rows_VD.detach().clone()
    optimiser = NetworkOptimiser(network, rule, lr=0.1)
    for _ in range(2):
        network(torch.tensor([1, 5])).square().sum().backward()
        assert network[0].rows_VD.grad.is_sparse == (rule != "adam")
        optimiser.step()
    assert all(value.grad is None for value in network.parameters())
    state = optimiser.tensors()
    assert list(state[1]) == ["step", "exp_avg", "exp_avg_sq"]
    assert set(state[0]) == ({"sum"} if rule == "rowwise_adagrad" else {"step", "exp_avg", "exp_avg_sq"})
    changed = (network[0].rows_VD != before).any(1).nonzero()[:, 0].tolist()
    assert changed == [1, 5]
    optimiser.set_rate(0.0)
    held = [value.detach().clone() for value in network.parameters()]
    network(torch.tensor([1])).sum().backward()
    optimiser.step()
    assert all(torch.equal(*pair) for pair in zip(network.parameters(), held, strict=True))


@pytest.mark.parametrize("rule", ["adam", *TWINS])
def test_a_restored_optimiser_continues_as_the_first_one(rule: str) -> None:
    def learned(stop: int) -> list[Any]:
        torch.manual_seed(0)
        network = nn.Sequential(IdTable(9, 4, sparse=rule != "adam"), nn.Linear(4, 2))
        optimiser = NetworkOptimiser(network, rule, lr=0.1)
        for step in range(5):
            if step == stop:
                held = {
                    index: {k: v.clone() for k, v in s.items()} for index, s in optimiser.tensors().items()
                }
                optimiser = NetworkOptimiser(network, rule, lr=0.1)
                optimiser.restore(held)
            network(torch.tensor([step, 5])).square().sum().backward()
            optimiser.step()
        return [value.detach() for value in network.parameters()]

    assert all(torch.equal(*pair) for pair in zip(learned(9), learned(3), strict=True))


def test_state_of_another_rule_is_refused() -> None:
    network = nn.Sequential(IdTable(9, 4), nn.Linear(4, 2))
    first, second = (NetworkOptimiser(network, rule, lr=0.1) for rule in ("lazy_adam", "rowwise_adagrad"))
    network(torch.tensor([1])).sum().backward()
    first.step()
    with pytest.raises(ValueError, match="the moments of parameter 0 are not those of its optimiser"):
        second.restore(first.tensors())

"""Dropout: how many values are lost, how the others grow, what the draws depend on."""

from __future__ import annotations

import pytest
import torch

from alterrec.nn.layers import Dropout, dropout_mask


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16])
@pytest.mark.parametrize("share", [0.1, 0.5, 0.9])
def test_a_share_of_values_is_lost_and_the_others_grow(dtype: torch.dtype, share: float) -> None:
    torch.manual_seed(0)
    x = torch.full((100, 1001), 3.0, dtype=dtype)
    thinned = Dropout(share)(x)
    assert thinned.dtype == dtype
    alive = thinned != 0
    # Five deviations of a binomial of 100,100 draws.
    assert abs(alive.double().mean().item() - (1 - share)) < 5 * (share * (1 - share) / x.numel()) ** 0.5
    torch.testing.assert_close(thinned[alive].double().mean().item(), 3 / (1 - share), rtol=1e-2, atol=0.0)


def test_values_are_drawn_independently() -> None:
    """Four draws are cut from one word: no two of them are more alike than others."""
    torch.manual_seed(0)
    kept_N4 = dropout_mask(torch.empty(100_000, 4), 0.5)
    correlations = torch.corrcoef(kept_N4.T) - torch.eye(4)
    assert correlations.abs().max().item() < 5 / 100_000**0.5


@pytest.mark.parametrize("size", [0, 1, 3, 4, 7])
def test_any_number_of_values(size: int) -> None:
    assert Dropout(0.5)(torch.ones(size)).shape == (size,)


def test_gradients_go_where_values_stayed() -> None:
    x = torch.ones(1000, requires_grad=True)
    thinned = Dropout(0.25)(x)
    thinned.sum().backward()
    torch.testing.assert_close(x.grad, thinned.detach())


def test_draws_follow_the_seed_of_torch_and_evaluation_loses_nothing() -> None:
    layer, x = Dropout(0.5), torch.randn(64)
    draws = []
    for seed in (1, 1, 2):
        torch.manual_seed(seed)
        draws.append(layer(x))
    assert torch.equal(draws[0], draws[1])
    assert not torch.equal(draws[0], draws[2])
    assert torch.equal(layer.eval()(x), x)
    assert torch.equal(Dropout(0.0)(x), x)

"""Rank windows as operators of torch: equal to `alterrec.ranking`, and usable in compiled functions."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from alterrec import ranking, torch_ops

SCORES = torch.from_numpy(np.random.default_rng(0).normal(size=(6, 21)).astype(np.float32))
TARGETS = torch.arange(6)
SAMPLES: list[tuple[Any, ...]] = [
    (SCORES, 2, 9, None, None, 0, None),
    (SCORES, 2, 9, TARGETS, 3, 5, TARGETS + 40),
    (SCORES, 0, 0, TARGETS[:, None], None, 0, None),
]


@pytest.mark.parametrize("arguments", SAMPLES)
def test_the_operators_are_declared_correctly(arguments: tuple[Any, ...]) -> None:
    torch.library.opcheck(torch.ops.alterrec.rank_window.default, arguments)
    for name in ("rank_window_mask", "rank_window_bits"):
        torch.library.opcheck(getattr(torch.ops.alterrec, name).default, arguments[:4])


@pytest.mark.parametrize("seed", [0, 7, 2**63 - 1, 2**63, 2**64 - 1])
def test_they_equal_the_functions_of_ranking(seed: int) -> None:
    drawn = {"sample": 4, "seed": seed, "rows": TARGETS + 3}
    for exclude in (None, TARGETS, TARGETS[:, None], TARGETS.tolist()):
        whole, part = (module.rank_window(SCORES, 2, 9, exclude=exclude) for module in (torch_ops, ranking))
        assert torch.equal(whole, part)
        ours, theirs = (
            module.rank_window(SCORES, 2, 9, exclude=exclude, **drawn) for module in (torch_ops, ranking)
        )
        assert torch.equal(ours, theirs)
        for name in ("rank_window_mask", "rank_window_bits"):
            ours, theirs = (
                getattr(module, name)(SCORES, 2, 9, exclude=exclude) for module in (torch_ops, ranking)
            )
            assert torch.equal(ours, theirs)
            assert ours.dtype == theirs.dtype


def test_a_training_step_compiles_into_one_graph() -> None:
    torch.manual_seed(0)
    users, items = torch.nn.Embedding(5, 8), torch.nn.Embedding(30, 8)

    def loss(user: torch.Tensor, target: torch.Tensor, step: int) -> torch.Tensor:
        scores = users(user) @ items.weight.T
        negatives = torch_ops.rank_window(scores, 2, 20, exclude=target, sample=6, seed=step, rows=user)
        candidates = torch.cat([target[:, None], negatives], dim=1)
        logits = torch.einsum("bd,bcd->bc", users(user), items(candidates))
        return torch.nn.functional.cross_entropy(logits, torch.zeros_like(target))

    torch.compiler.reset()
    compiled = torch.compile(loss, fullgraph=True, backend="aot_eager")
    user, target = torch.arange(5), torch.tensor([4, 0, 29, 7, 7])
    for step in (0, 1, 2, 2**40):
        for chosen in (slice(0, 5), slice(1, 4)):
            results = []
            for function in (loss, compiled):
                users.weight.grad = None
                value = function(user[chosen], target[chosen], step)
                value.backward()
                results.append((value.item(), users.weight.grad.clone()))
            assert results[0][0] == pytest.approx(results[1][0], rel=1e-6)
            assert torch.allclose(results[0][1], results[1][1], atol=1e-6)


def test_masks_and_bits_compile_with_changing_shapes() -> None:
    def both(scores: torch.Tensor, stop: int) -> tuple[torch.Tensor, torch.Tensor]:
        arguments = (scores, 1, stop)
        return torch_ops.rank_window_mask(*arguments), torch_ops.rank_window_bits(
            *arguments, exclude=[0, 1, 2]
        )

    torch.compiler.reset()
    compiled = torch.compile(both, fullgraph=True, backend="aot_eager")
    for width, stop in ((21, 5), (16, 6), (17, 9)):
        scores = SCORES[:3, :width]
        for ours, theirs in zip(compiled(scores, stop), both(scores, stop), strict=True):
            assert torch.equal(ours, theirs)


def test_a_program_with_them_can_be_exported() -> None:
    class Window(torch.nn.Module):
        def forward(self, scores: torch.Tensor) -> torch.Tensor:
            return torch_ops.rank_window(scores, 1, 5)

    program = torch.export.export(Window(), (SCORES,))
    assert torch.equal(program.module()(SCORES), ranking.rank_window(SCORES, 1, 5))


def test_ids_have_no_gradient() -> None:
    scores = SCORES.clone().requires_grad_()
    assert not torch_ops.rank_window(scores, 1, 5).requires_grad
    assert not torch_ops.rank_window_mask(scores, 1, 5).requires_grad


def test_wrong_arguments_raise_as_in_ranking() -> None:
    with pytest.raises(ValueError, match="stop is 22, but scores has only 21 candidates"):
        torch_ops.rank_window(SCORES, 1, 22)
    with pytest.raises(ValueError, match="NaN at row 0, column 0"):
        torch_ops.rank_window_bits(torch.full((1, 3), torch.nan), 0, 1)
    for seed in (-1, 2**64):
        with pytest.raises(ValueError, match=rf"seed is {seed}; expected 0 to 2\*\*64 - 1"):
            torch_ops.rank_window(SCORES, 1, 5, sample=2, seed=seed)

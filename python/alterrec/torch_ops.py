"""Rank windows as operators of torch, for `torch.compile` and `torch.export`; needs numpy and torch.

The functions equal those of the same name in `alterrec.ranking`, which a compiler cannot look into. A
compiled function may call these without a break in its graph:

>>> import torch
>>> from alterrec.torch_ops import rank_window
>>> @torch.compile(fullgraph=True, backend="eager")
... def hard_negatives(vectors, table, targets, step):
...     return rank_window(vectors @ table.T, 1, 4, exclude=targets, sample=2, seed=step, rows=targets)
>>> hard_negatives(torch.ones(3, 2), torch.ones(5, 2), torch.tensor([0, 1, 2]), 7).shape
torch.Size([3, 2])

The operators are ``torch.ops.alterrec.rank_window``, ``rank_window_mask`` and ``rank_window_bits``. They
have no gradient, because ids have none.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.library import custom_op

from alterrec import ranking

__all__ = ["rank_window", "rank_window_bits", "rank_window_mask"]


def rank_window(
    scores: Tensor,
    start: int,
    stop: int,
    *,
    exclude: Any = None,
    sample: int | None = None,
    seed: int = 0,
    rows: Any = None,
) -> Tensor:
    """Return the items at ranks ``start`` to ``stop - 1``, as :func:`alterrec.ranking.rank_window` does.

    Args:
        scores: (B, V) tensor of scores.
        start, stop: ranks, counted from 0.
        exclude: (B,) or (B, E) integer ids that are not candidates, a tensor or a list; -1 is padding.
            Default: no item is excluded.
        sample: number of items to draw from the window. Default: the whole window is returned.
        seed: seed of ``sample``, 0 to 2**64 - 1.
        rows: (B,) integers that identify the rows for ``sample``, a tensor or a list. Default: 0 to B - 1.

    Returns:
        Item ids (B, stop - start), or (B, sample), int64, ascending in each row.

    Raises:
        ValueError: as in :func:`alterrec.ranking.rank_window`, when the operator runs.

    Example:
        >>> rank_window(torch.tensor([[0.1, 0.9, 0.5, 0.9, 0.7]]), 1, 4, exclude=[3])
        tensor([[0, 2, 4]])
    """
    if not 0 <= seed < 2**64:
        raise ValueError(f"seed is {seed}; expected 0 to 2**64 - 1")
    # Integers of operators are int64.
    word = seed - 2**64 if seed >= 2**63 else seed
    return _rank_window(scores.detach(), start, stop, _ids(exclude), sample, word, _ids(rows))


def rank_window_mask(scores: Tensor, start: int, stop: int, *, exclude: Any = None) -> Tensor:
    """Return for each item whether it is in the rank window.

    Args:
        scores: (B, V) tensor of scores.
        start, stop: ranks, counted from 0.
        exclude: as in :func:`rank_window`.

    Returns:
        Mask (B, V), bool.

    Example:
        >>> rank_window_mask(torch.tensor([[0.1, 0.9, 0.5]]), 0, 2)
        tensor([[False,  True,  True]])
    """
    return _rank_window_mask(scores.detach(), start, stop, _ids(exclude))


def rank_window_bits(scores: Tensor, start: int, stop: int, *, exclude: Any = None) -> Tensor:
    """Return :func:`rank_window_mask` as bits, as :func:`alterrec.ranking.rank_window_bits` does.

    Args:
        scores: (B, V) tensor of scores.
        start, stop: ranks, counted from 0.
        exclude: as in :func:`rank_window`.

    Returns:
        Bits (B, ceil(V / 8)), uint8.

    Example:
        >>> rank_window_bits(torch.tensor([[0.1, 0.9, 0.5]]), 0, 2)
        tensor([[6]], dtype=torch.uint8)
    """
    return _rank_window_bits(scores.detach(), start, stop, _ids(exclude))


def _ids(values: Any) -> Tensor | None:
    return None if values is None else torch.as_tensor(values)


_WINDOW = "(Tensor scores, SymInt start, SymInt stop, Tensor? exclude{}) -> Tensor"
_DRAW = ", SymInt? sample, SymInt seed, Tensor? rows"


@custom_op("alterrec::rank_window", mutates_args=(), schema=_WINDOW.format(_DRAW))
def _rank_window(
    scores: Tensor,
    start: int,
    stop: int,
    exclude: Tensor | None,
    sample: int | None,
    seed: int,
    rows: Tensor | None,
) -> Tensor:
    return ranking.rank_window(
        scores, start, stop, exclude=exclude, sample=sample, seed=seed % 2**64, rows=rows
    )


@_rank_window.register_fake
def _(
    scores: Tensor,
    start: int,
    stop: int,
    exclude: Tensor | None,
    sample: int | None,
    seed: int,
    rows: Tensor | None,
) -> Tensor:
    width = stop - start if sample is None else sample
    return scores.new_empty((scores.shape[0], width), dtype=torch.int64)


@custom_op("alterrec::rank_window_mask", mutates_args=(), schema=_WINDOW.format(""))
def _rank_window_mask(scores: Tensor, start: int, stop: int, exclude: Tensor | None) -> Tensor:
    return ranking.rank_window_mask(scores, start, stop, exclude=exclude)


@_rank_window_mask.register_fake
def _(scores: Tensor, start: int, stop: int, exclude: Tensor | None) -> Tensor:
    return scores.new_empty(scores.shape, dtype=torch.bool)


@custom_op("alterrec::rank_window_bits", mutates_args=(), schema=_WINDOW.format(""))
def _rank_window_bits(scores: Tensor, start: int, stop: int, exclude: Tensor | None) -> Tensor:
    return ranking.rank_window_bits(scores, start, stop, exclude=exclude)


@_rank_window_bits.register_fake
def _(scores: Tensor, start: int, stop: int, exclude: Tensor | None) -> Tensor:
    return scores.new_empty((scores.shape[0], (scores.shape[1] + 7) // 8), dtype=torch.uint8)

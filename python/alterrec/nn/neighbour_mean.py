"""The mean over each node's neighbours, forward and backward in one pass over the edges.

Legend: T nodes, D width.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from alterrec.graphs import Adjacency
from alterrec.nn.device import on_device


class Edges(NamedTuple):
    """An ``Adjacency`` as tensors: node t takes the mean of ``ids[offsets[t]:offsets[t + 1]]``."""

    offsets: Tensor
    ids: Tensor

    @classmethod
    def of(cls, adjacency: Adjacency, device: str) -> Edges:
        """Edges on a device."""
        return cls(*(on_device(values, device) for values in adjacency))


def neighbour_mean(states_TD: Tensor, edges: Edges, turned: Edges) -> Tensor:
    """Means (T, D) of neighbours' states; 0 where there are none.

    Args:
        states_TD: floating states of the nodes.
        edges: of each node the nodes it takes the mean of, any of them as often as it counts.
        turned: the same edges turned round, by which gradients go back: with their help the backward pass is
            as fast as the forward, where autograd's own sorts the edges anew (alterrec.graphs has figures).

    Example:
        >>> edges, turned = (Edges(torch.tensor(o), torch.tensor(i)) for o, i in (([0, 0, 2], [0, 1]),
        ...                  ([0, 1, 2], [1, 1])))
        >>> neighbour_mean(torch.tensor([[1.0], [3.0]]), edges, turned)
        tensor([[0.],
                [2.]])
    """
    means_TD: Tensor = _NeighbourMean.apply(states_TD, *edges, *turned)
    return means_TD


class _NeighbourMean(torch.autograd.Function):
    @staticmethod
    def forward(
        context: torch.autograd.function.FunctionCtx,
        states_TD: Tensor,
        offsets: Tensor,
        ids: Tensor,
        turned_offsets: Tensor,
        turned_ids: Tensor,
    ) -> Tensor:
        context.save_for_backward(offsets, turned_offsets, turned_ids)
        return F.embedding_bag(ids, states_TD, offsets, mode="mean", include_last_offset=True)

    @staticmethod
    def backward(
        context: torch.autograd.function.FunctionCtx, gradient_TD: Tensor
    ) -> tuple[Tensor, None, None, None, None]:
        offsets, turned_offsets, turned_ids = context.saved_tensors  # type: ignore[attr-defined]
        shares_TD = gradient_TD / offsets.diff().clamp(min=1)[:, None].to(gradient_TD)
        back_TD = F.embedding_bag(turned_ids, shares_TD, turned_offsets, mode="sum", include_last_offset=True)
        return back_TD, None, None, None, None

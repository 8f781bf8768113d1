"""SR-GNN's session encoder: a gated graph neural network over the graph of each prefix.

Legend: N prefixes, L places, T nodes of all prefixes, V items, D width.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from alterrec.graphs import session_graphs
from alterrec.nn.device import on_device
from alterrec.nn.neighbour_mean import Edges, neighbour_mean
from alterrec.nn.sequences import real_places


class PrefixGraphs(NamedTuple):
    """``SessionGraphs`` as tensors: items of nodes, nodes of places, and the edges both ways."""

    nodes_T: Tensor
    node_of_place_NL: Tensor
    before: Edges
    after: Edges

    @classmethod
    def of(cls, items: np.ndarray, lengths: np.ndarray, num_items: int, device: str) -> PrefixGraphs:
        """Graphs of right-padded prefixes (N, L) and their lengths (N,), on a device that need not wait."""
        graphs = session_graphs(items, lengths, num_items)
        return cls(
            on_device(graphs.nodes, device),
            on_device(graphs.node_of_place, device),
            Edges.of(graphs.predecessors, device),
            Edges.of(graphs.successors, device),
        )

    @classmethod
    def fetched(cls, items_NL: Tensor, length_N: Tensor, num_items: int) -> PrefixGraphs:
        """The same where the items are tensors: the core builds graphs, so a device is waited for."""
        return cls.of(items_NL.cpu().numpy(), length_N.cpu().numpy(), num_items, str(items_NL.device))


class Messages(nn.Module):
    """What nodes hear from their neighbours: the mean of their states through a linear layer, and a bias.

    A node without neighbours hears the bias alone, not the layer's own.
    """

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.linear = nn.Linear(dim, dim)
        self.bias = nn.Parameter(torch.zeros(dim))

    def forward(self, states_TD: Tensor, edges: Edges, turned: Edges) -> Tensor:
        """Messages (T, D); the edges as in :func:`~alterrec.nn.neighbour_mean.neighbour_mean`."""
        return neighbour_mean(self.linear(states_TD), edges, turned) + self.bias


class GatedGraph(nn.Module):
    """States of a prefix's items after ``steps`` rounds of messages along its transitions, summed by weights
    that the last item asks for (no softmax: they are no shares), joined with the last item's own state.

    Wu et al., "Session-based Recommendation with Graph Neural Networks", AAAI 2019; differences are named in
    :func:`alterrec.models.graphs.srgnn`.

    Example:
        >>> encoder = GatedGraph(dim=4, steps=1)
        >>> encoder(torch.randn(5, 4), torch.tensor([[1, 2, 1], [3, 0, 0]]), torch.tensor([3, 1])).shape
        torch.Size([2, 4])
    """

    reads_prefixes = True
    reads_graphs = True

    def __init__(self, dim: int, steps: int) -> None:
        super().__init__()
        self.steps = steps
        self.message_in = Messages(dim)
        self.message_out = Messages(dim)
        self.gates = nn.GRUCell(2 * dim, dim)
        self.attn_last = nn.Linear(dim, dim)
        self.attn_each = nn.Linear(dim, dim)
        self.attn_score = nn.Linear(dim, 1, bias=False)
        self.combine = nn.Linear(2 * dim, dim)

    def forward(
        self, table_VD: Tensor, items_NL: Tensor, length_N: Tensor, graphs: PrefixGraphs | None = None
    ) -> Tensor:
        """Session vectors (N, D); the graphs of the prefixes are made where they are not given."""
        graphs = graphs or PrefixGraphs.fetched(items_NL, length_N, len(table_VD))
        nodes_T, node_of_place_NL, before, after = graphs
        states_TD = self.node_states(F.embedding(nodes_T, table_VD), before, after)
        each_NLD = F.embedding(node_of_place_NL, states_TD)
        last_ND = each_NLD[torch.arange(len(length_N), device=length_N.device), length_N - 1]
        asked_NLD = (
            F.embedding(node_of_place_NL, self.attn_each(states_TD)) + self.attn_last(last_ND)[:, None]
        )
        padding_NL = ~real_places(items_NL, length_N)
        weight_NL1 = self.attn_score(asked_NLD.sigmoid()).masked_fill(padding_NL[:, :, None], 0.0)
        whole_ND = (weight_NL1 * each_NLD).sum(1)
        session_ND: Tensor = self.combine(torch.cat([whole_ND, last_ND], dim=1))
        return session_ND

    def node_states(self, states_TD: Tensor, before: Edges, after: Edges) -> Tensor:
        """States (T, D) of nodes after all rounds, from those before the first."""
        for _ in range(self.steps):
            heard = [self.message_in(states_TD, before, after), self.message_out(states_TD, after, before)]
            states_TD = self.gates(torch.cat(heard, dim=1), states_TD)
        return states_TD

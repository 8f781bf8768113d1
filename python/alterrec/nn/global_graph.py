"""HG-GNN's encoders: items and users in one graph of all transitions, and sessions of a user's items.

Legend: N prefixes, L places, V items, U items asked for, T nodes (items, then users), D width.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from alterrec.graphs import Adjacency
from alterrec.nn.dropout import Dropout
from alterrec.nn.neighbour_mean import Edges, neighbour_mean
from alterrec.nn.sequences import real_places


class NodeTable(NamedTuple):
    """What a session encoder reads of all nodes, (T, D) each: rows, rows under dropout, neighbours' means of
    these. Item i is node i, or ``ids_U[i]`` where that is given; users are the last nodes.

    Three tables, not one of three widths: putting them side by side would cost as much as making them.
    """

    rows_TD: Tensor
    heard_TD: Tensor
    mean_TD: Tensor
    ids_U: Tensor | None


class GraphNodes(nn.Module):
    """A learned row for each item and user, and the mean of its neighbours' rows in the global graph.

    The graph must be its own transpose, as ``transition_graph`` gives it.

    Example:
        >>> from alterrec.graphs import transition_graph
        >>> from alterrec.sessions import SessionStore
        >>> store = SessionStore.from_arrays([0, 0, 1], [0, 1, 2], user_ids=[1, 1, 0])
        >>> nodes = GraphNodes(num_items=3, graph=transition_graph(store), dim=4, dropout=0.5)
        >>> nodes().mean_TD.shape, nodes.items().shape
        (torch.Size([5, 4]), torch.Size([3, 4]))
    """

    edge_offsets: Tensor
    edge_ids: Tensor

    def __init__(self, num_items: int, graph: Adjacency, dim: int, dropout: float) -> None:
        super().__init__()
        self.num_items = num_items
        self.num_nodes = len(graph.offsets) - 1
        self.rows_TD = nn.Parameter(torch.empty(self.num_nodes, dim))
        self.register_buffer("edge_offsets", torch.from_numpy(graph.offsets))
        self.register_buffer("edge_ids", torch.from_numpy(graph.ids))
        self.dropout = Dropout(dropout)
        self.dim = dim
        nn.init.normal_(self.rows_TD, std=0.02)

    def forward(self, ids_U: Tensor | None = None) -> NodeTable:
        """All nodes, items being those of ``ids_U`` where it is given."""
        edges = Edges(self.edge_offsets, self.edge_ids)
        heard_TD = self.dropout(self.rows_TD)
        return NodeTable(self.rows_TD, heard_TD, neighbour_mean(heard_TD, edges, edges), ids_U)

    def items(self, ids_U: Tensor | None = None) -> Tensor:
        """Rows of the items alone, as they are scored: (V, D), or (U, D)."""
        return self.rows_TD[: self.num_items] if ids_U is None else F.embedding(ids_U, self.rows_TD)


class AskedSum(nn.Module):
    """A sum of states by weights that a context asks for; no softmax, so they are no shares."""

    def __init__(self, width: int, dim: int) -> None:
        super().__init__()
        self.mix = nn.Linear(width, dim, bias=False)
        self.gate = nn.Linear(dim, dim)
        self.context_gate = nn.Linear(dim, dim, bias=False)
        self.score = nn.Linear(dim, 1, bias=False)

    def forward(
        self, states_NLD: Tensor, seen_NLW: Tensor, context_ND: Tensor, padding_NL1: Tensor
    ) -> Tensor:
        """Sums (N, D) of ``states_NLD``, weighted by what is seen of each (W = ``width``)."""
        mixed_NLD = self.gate(self.mix(seen_NLW).tanh()) + self.context_gate(context_ND)[:, None]
        weight_NL1 = self.score(mixed_NLD.sigmoid()).masked_fill(padding_NL1, 0.0)
        summed_ND: Tensor = (weight_NL1 * states_NLD).sum(1)
        return summed_ND


class PersonalSession(nn.Module):
    """A prefix's items as their order and mean ask for them, and as its user does, gated, beside the user.

    Reads the table of :class:`GraphNodes` and makes node states of it: half a node's own row, half what a
    mean convolution (GraphSAGE) makes of it. A user that is not in the graph is the mean of those that are.

    Pang et al., "Heterogeneous Global Graph Neural Networks for Personalized Session-based Recommendation",
    WSDM 2022; differences are named in :func:`alterrec.models.graphs.hggnn`.

    Example:
        >>> encoder = PersonalSession(dim=4, max_len=3, num_users=2)
        >>> table = NodeTable(*torch.randn(3, 5 + 2, 4), ids_U=None)
        >>> encoder(table, torch.tensor([[1, 2, 1]]), torch.tensor([3]), torch.tensor([1])).shape
        torch.Size([1, 4])
    """

    reads_prefixes = True
    reads_users = True

    def __init__(self, dim: int, max_len: int, num_users: int) -> None:
        super().__init__()
        self.num_users = num_users
        self.neighbour = nn.Linear(dim, dim, bias=False)
        self.own = nn.Linear(dim, dim)
        self.positions_LD = nn.Parameter(torch.empty(max_len, dim))
        self.sequence = AskedSum(2 * dim, dim)
        self.personal = AskedSum(dim, dim)
        self.fuse = nn.Linear(2 * dim, 1)
        nn.init.normal_(self.positions_LD, std=0.02)

    def forward(
        self, table: NodeTable, items_NL: Tensor, length_N: Tensor, user_N: Tensor | None = None
    ) -> Tensor:
        """Session vectors (N, D); users that are unknown, or all where None, are the users' mean."""
        places_L = torch.arange(items_NL.shape[1], device=items_NL.device)
        padding_NL1 = ~real_places(items_NL, length_N)[:, :, None]
        nodes_NL = items_NL if table.ids_U is None else table.ids_U[items_NL]
        states_NLD = self.states(*(F.embedding(nodes_NL, part_TD) for part_TD in table[:3]))
        user_ND = self.user_states(table, torch.full_like(length_N, -1) if user_N is None else user_N)
        mean_ND = states_NLD.masked_fill(padding_NL1, 0.0).sum(1) / length_N[:, None].to(states_NLD)
        # Counted from the end: the last item of every prefix has the same.
        back_NL = (length_N[:, None] - 1 - places_L).clamp(min=0)
        placed_NLW = torch.cat([F.embedding(back_NL, self.positions_LD), states_NLD], dim=2)
        sequence_ND = self.sequence(states_NLD, placed_NLW, mean_ND, padding_NL1)
        personal_ND = self.personal(states_NLD, states_NLD, user_ND, padding_NL1)
        share_N1 = self.fuse(torch.cat([sequence_ND, personal_ND], dim=1)).sigmoid()
        session_ND: Tensor = user_ND + share_N1 * sequence_ND + (1 - share_N1) * personal_ND
        return session_ND

    def convolved(self, heard_D: Tensor, mean_D: Tensor) -> Tensor:
        """The mean convolution before its ReLU, (..., D)."""
        out_D: Tensor = self.neighbour(mean_D) + self.own(heard_D)
        return out_D

    def states(self, row_D: Tensor, heard_D: Tensor, mean_D: Tensor) -> Tensor:
        """Node states (..., D)."""
        return (self.convolved(heard_D, mean_D).relu() + row_D) / 2

    def user_states(self, table: NodeTable, user_N: Tensor) -> Tensor:
        """Node states (N, D) of users."""
        first = len(table.rows_TD) - self.num_users
        known_N = (user_N >= 0) & (user_N < self.num_users)
        nodes_N = first + user_N.where(known_N, 0)
        states_ND = self.states(*(F.embedding(nodes_N, part_TD) for part_TD in table[:3]))
        mean_1D = self.states(*(part_TD[first:].mean(0, keepdim=True) for part_TD in table[:3]))
        return states_ND.where(known_N[:, None], mean_1D)

"""Graph encoders: SR-GNN over the graph of each prefix, HG-GNN over one graph of all items and users.

Legend: N prefixes, L places, T nodes, V items, U requested items, D width.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from alterrec.graphs import Adjacency, session_graphs
from alterrec.nn.dropout import Dropout
from alterrec.nn.layers import SessionEncoder, on_device, real_places


class Edges(NamedTuple):
    """An ``Adjacency`` as tensors: the neighbours of node t are ``ids[offsets[t]:offsets[t + 1]]``."""

    offsets: Tensor
    ids: Tensor

    @classmethod
    def of(cls, adjacency: Adjacency, device: str) -> Edges:
        return cls(*(on_device(values, device) for values in adjacency))


def neighbour_mean(states_TD: Tensor, edges: Edges, reversed_edges: Edges) -> Tensor:
    """Return the mean (T, D) of the neighbours' states of each node; 0 for nodes without neighbours.

    Args:
        states_TD: floating-point states of the nodes.
        edges: the neighbours of each node; parallel edges count several times.
        reversed_edges: the same edges reversed, for the gradient. They make the backward pass as fast as the
            forward pass, while that of autograd would sort the edges each time (see alterrec.graphs).

    Example:
        >>> edges, reversed_edges = (Edges(torch.tensor(o), torch.tensor(i)) for o, i in (([0, 0, 2], [0, 1]),
        ...                  ([0, 1, 2], [1, 1])))
        >>> neighbour_mean(torch.tensor([[1.0], [3.0]]), edges, reversed_edges)
        tensor([[0.],
                [2.]])
    """
    return _NeighbourMean.apply(states_TD, *edges, *reversed_edges)


class _NeighbourMean(torch.autograd.Function):
    @staticmethod
    def forward(
        context: torch.autograd.function.FunctionCtx,
        states_TD: Tensor,
        offsets: Tensor,
        ids: Tensor,
        reversed_offsets: Tensor,
        reversed_ids: Tensor,
    ) -> Tensor:
        context.save_for_backward(offsets, reversed_offsets, reversed_ids)
        return F.embedding_bag(ids, states_TD, offsets, mode="mean", include_last_offset=True)

    @staticmethod
    def backward(
        context: torch.autograd.function.FunctionCtx, gradient_TD: Tensor
    ) -> tuple[Tensor, None, None, None, None]:
        offsets, reversed_offsets, reversed_ids = context.saved_tensors  # type: ignore[attr-defined]
        shares_TD = gradient_TD / offsets.diff().clamp(min=1)[:, None].to(gradient_TD)
        back_TD = F.embedding_bag(
            reversed_ids, shares_TD, reversed_offsets, mode="sum", include_last_offset=True
        )
        return back_TD, None, None, None, None


class PrefixGraphs(NamedTuple):
    """``SessionGraphs`` as tensors: items of nodes, nodes of places, and edges in both directions."""

    nodes_T: Tensor
    node_of_place_NL: Tensor
    before: Edges
    after: Edges

    @classmethod
    def of(cls, items: np.ndarray, lengths: np.ndarray, num_items: int, device: str) -> PrefixGraphs:
        """Build graphs of right-padded prefixes (N, L) with lengths (N,); does not wait for the device."""
        graphs = session_graphs(items, lengths, num_items)
        return cls(
            on_device(graphs.nodes, device),
            on_device(graphs.node_of_place, device),
            Edges.of(graphs.predecessors, device),
            Edges.of(graphs.successors, device),
        )

    @classmethod
    def fetched(cls, items_NL: Tensor, length_N: Tensor, num_items: int) -> PrefixGraphs:
        """Build graphs of prefixes given as tensors; waits for the device, as the host builds graphs."""
        return cls.of(items_NL.cpu().numpy(), length_N.cpu().numpy(), num_items, str(items_NL.device))


class Messages(nn.Module):
    """Messages from neighbours: the mean of their linearly transformed states, plus a bias.

    A node without neighbours gets only this bias, without the bias of the linear layer.
    """

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.linear = nn.Linear(dim, dim)
        self.bias = nn.Parameter(torch.zeros(dim))

    def forward(self, states_TD: Tensor, edges: Edges, reversed_edges: Edges) -> Tensor:
        return neighbour_mean(self.linear(states_TD), edges, reversed_edges) + self.bias


class GatedGraph(SessionEncoder):
    """A gated graph neural network over the graph of each prefix: the encoder of SR-GNN.

    Item states are updated by ``steps`` rounds of messages along the transitions of the prefix. They are
    summed with attention weights (without softmax) that depend on the last item, and combined with the state
    of the last item.

    Wu et al., "Session-based Recommendation with Graph Neural Networks", AAAI 2019; see
    :func:`alterrec.models.sequential.srgnn` for differences.

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
        """Return session vectors (N, D); graphs of the prefixes are built if they are not given."""
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
        return self.combine(torch.cat([whole_ND, last_ND], dim=1))

    def node_states(self, states_TD: Tensor, before: Edges, after: Edges) -> Tensor:
        """Return the states (T, D) of nodes after all rounds of messages."""
        for _ in range(self.steps):
            messages = [self.message_in(states_TD, before, after), self.message_out(states_TD, after, before)]
            states_TD = self.gates(torch.cat(messages, dim=1), states_TD)
        return states_TD


class NodeTable(NamedTuple):
    """The input of :class:`PersonalSession`: three tables (T, D) over all nodes, items first, users last.

    They are separate because concatenating them would take as long as computing them.

    Attributes:
        rows_TD: vectors of the nodes.
        dropped_TD: the vectors after dropout.
        mean_TD: mean of ``dropped_TD`` over the neighbours of each node.
        ids_U: node of each item, if only some items are encoded. None: item i is node i.
    """

    rows_TD: Tensor
    dropped_TD: Tensor
    mean_TD: Tensor
    ids_U: Tensor | None


class GraphNodes(nn.Module):
    """A learned vector for each item and user, and the mean of its neighbours' vectors in a global graph.

    The graph must be its own transpose, like the result of ``transition_graph``.

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
        """Return the tables of all nodes, for the items ``ids_U`` or for all items."""
        edges = Edges(self.edge_offsets, self.edge_ids)
        dropped_TD = self.dropout.items(self.rows_TD)
        return NodeTable(self.rows_TD, dropped_TD, neighbour_mean(dropped_TD, edges, edges), ids_U)

    def items(self, ids_U: Tensor | None = None) -> Tensor:
        """Return the vectors of the items, which are scored: (V, D), or (U, D)."""
        return self.rows_TD[: self.num_items] if ids_U is None else F.embedding(ids_U, self.rows_TD)


class AttentionSum(nn.Module):
    """A weighted sum of states; the weights depend on a context vector and are not normalised."""

    def __init__(self, width: int, dim: int) -> None:
        super().__init__()
        self.mix = nn.Linear(width, dim, bias=False)
        self.gate = nn.Linear(dim, dim)
        self.context_gate = nn.Linear(dim, dim, bias=False)
        self.score = nn.Linear(dim, 1, bias=False)

    def forward(
        self, states_NLD: Tensor, inputs_NLW: Tensor, context_ND: Tensor, padding_NL1: Tensor
    ) -> Tensor:
        """Return weighted sums (N, D).

        Args:
            states_NLD: the states to sum.
            inputs_NLW: inputs of the weights, of width W = ``width``.
            context_ND: the context.
            padding_NL1: bool, places with weight 0.
        """
        mixed_NLD = self.gate(self.mix(inputs_NLW).tanh()) + self.context_gate(context_ND)[:, None]
        weight_NL1 = self.score(mixed_NLD.sigmoid()).masked_fill(padding_NL1, 0.0)
        return (weight_NL1 * states_NLD).sum(1)


class PersonalSession(SessionEncoder):
    """The session encoder of HG-GNN, which depends on the user.

    It computes node states from the tables of :class:`GraphNodes`: the mean of the vector of a node and of a
    mean convolution (GraphSAGE). Two weighted sums of the items of the prefix, one depending on their order
    and mean and one on the user, are combined by a gate and added to the state of the user. An unknown user
    has the mean of the users in the graph.

    Pang et al., "Heterogeneous Global Graph Neural Networks for Personalized Session-based Recommendation",
    WSDM 2022; see :func:`alterrec.models.sequential.hggnn` for differences.

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
        self.sequence = AttentionSum(2 * dim, dim)
        self.personal = AttentionSum(dim, dim)
        self.fuse = nn.Linear(2 * dim, 1)
        nn.init.normal_(self.positions_LD, std=0.02)

    def forward(
        self, table: NodeTable, items_NL: Tensor, length_N: Tensor, user_N: Tensor | None = None
    ) -> Tensor:
        """Return session vectors (N, D); ``user_N`` is -1 for unknown users, or None if all are unknown."""
        places_L = torch.arange(items_NL.shape[1], device=items_NL.device)
        padding_NL1 = ~real_places(items_NL, length_N)[:, :, None]
        nodes_NL = items_NL if table.ids_U is None else table.ids_U[items_NL]
        states_NLD = self.states(*(F.embedding(nodes_NL, part_TD) for part_TD in table[:3]))
        user_ND = self.user_states(table, torch.full_like(length_N, -1) if user_N is None else user_N)
        mean_ND = states_NLD.masked_fill(padding_NL1, 0.0).sum(1) / length_N[:, None].to(states_NLD)
        # Positions are counted from the end: the last item of every prefix has position 0.
        back_NL = (length_N[:, None] - 1 - places_L).clamp(min=0)
        placed_NLW = torch.cat([F.embedding(back_NL, self.positions_LD), states_NLD], dim=2)
        sequence_ND = self.sequence(states_NLD, placed_NLW, mean_ND, padding_NL1)
        personal_ND = self.personal(states_NLD, states_NLD, user_ND, padding_NL1)
        share_N1 = self.fuse(torch.cat([sequence_ND, personal_ND], dim=1)).sigmoid()
        return user_ND + share_N1 * sequence_ND + (1 - share_N1) * personal_ND

    def convolved(self, dropped_D: Tensor, mean_D: Tensor) -> Tensor:
        return self.neighbour(mean_D) + self.own(dropped_D)

    def states(self, row_D: Tensor, dropped_D: Tensor, mean_D: Tensor) -> Tensor:
        return (self.convolved(dropped_D, mean_D).relu() + row_D) / 2

    def user_states(self, table: NodeTable, user_N: Tensor) -> Tensor:
        first = len(table.rows_TD) - self.num_users
        known_N = (user_N >= 0) & (user_N < self.num_users)
        nodes_N = first + user_N.where(known_N, 0)
        states_ND = self.states(*(F.embedding(nodes_N, part_TD) for part_TD in table[:3]))
        mean_1D = self.states(*(part_TD[first:].mean(0, keepdim=True) for part_TD in table[:3]))
        return states_ND.where(known_N[:, None], mean_1D)

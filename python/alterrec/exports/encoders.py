"""Session encoders that torch can trace: the same vectors without code that runs outside of torch.

Legend: N prefixes, L places, V items, D width, E columns of the scored table.
"""

from __future__ import annotations

import copy
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from alterrec.models.base import Network, Tables
from alterrec.nn.graph_encoders import GatedGraph, Messages, NodeTable
from alterrec.nn.layers import SessionEncoder, at_places, real_places
from alterrec.nn.transformer import Bidirectional, EncoderWithHead


class DenseGatedGraph(SessionEncoder):
    """:class:`~alterrec.nn.graph_encoders.GatedGraph` whose nodes are the places of the prefix.

    Places with the same item have the same state, so a matrix over places replaces the graph, which the
    package builds in Rust. It costs L * L * D per prefix.

    Example:
        >>> encoder = GatedGraph(dim=4, steps=2)
        >>> given = torch.randn(5, 4), torch.tensor([[1, 2, 1, 3]]), torch.tensor([3])
        >>> torch.allclose(DenseGatedGraph(encoder)(*given), encoder(*given), atol=1e-6)
        True
    """

    reads_prefixes = True

    def __init__(self, encoder: GatedGraph) -> None:
        super().__init__()
        self.encoder = encoder

    def forward(self, table_VD: Tensor, items_NL: Tensor, length_N: Tensor) -> Tensor:
        own, real_NL = self.encoder, real_places(items_NL, length_N)
        same_NLL = (items_NL[:, :, None] == items_NL[:, None]) & real_NL[:, :, None] & real_NL[:, None]
        before_NLL, after_NLL = _neighbours(same_NLL)
        states_NLD = F.embedding(items_NL, table_VD)
        for _ in range(own.steps):
            messages_NLW = torch.cat(
                [
                    _messages(own.message_in, states_NLD, before_NLL),
                    _messages(own.message_out, states_NLD, after_NLL),
                ],
                dim=2,
            )
            states_NLD = own.gates(messages_NLW.flatten(0, 1), states_NLD.flatten(0, 1)).view_as(states_NLD)
        last_ND = at_places(states_NLD, length_N[:, None] - 1)[:, 0]
        asked_NLD = own.attn_each(states_NLD) + own.attn_last(last_ND)[:, None]
        weight_NL1 = own.attn_score(asked_NLD.sigmoid()).masked_fill(~real_NL[:, :, None], 0.0)
        vector_ND: Tensor = own.combine(torch.cat([(weight_NL1 * states_NLD).sum(1), last_ND], dim=1))
        return vector_ND


def _neighbours(same_NLL: Tensor) -> tuple[Tensor, Tensor]:
    """Return which places stand for the distinct items before and after the item of each place, 0 or 1.

    An item is represented by its first place.
    """
    number_NLL = same_NLL.float()
    first_NL = (number_NLL.tril(-1).sum(2) == 0).float()
    # Row p has the places before (after) all places with the item of p, then all places with their items.
    before_NLL = F.pad(number_NLL[:, :, 1:], (0, 1)) @ number_NLL
    after_NLL = F.pad(number_NLL[:, :, :-1], (1, 0)) @ number_NLL
    before_NLL, after_NLL = ((found > 0).float() * first_NL[:, None] for found in (before_NLL, after_NLL))
    return before_NLL, after_NLL


def _messages(messages: Messages, states_NLD: Tensor, edges_NLL: Tensor) -> Tensor:
    count_NL1 = edges_NLL.sum(2, keepdim=True).clamp(min=1)
    sums_NLD: Tensor = edges_NLL @ messages.linear(states_NLD)
    return sums_NLD / count_NL1 + messages.bias


class LastMasked(SessionEncoder):
    """:class:`~alterrec.nn.transformer.Bidirectional` for prefixes alone: one mask token, at the end.

    Example:
        >>> from alterrec.nn.transformer import TransformerSizes
        >>> encoder = Bidirectional(TransformerSizes(4, max_len=3, layers=1, heads=2, inner=8, dropout=0.0))
        >>> given = torch.randn(5, 4), torch.tensor([[1, 2, 3], [4, 0, 0]]), torch.tensor([3, 1])
        >>> torch.allclose(LastMasked(encoder)(*given), encoder(*given), atol=1e-6)
        True
    """

    reads_prefixes = True

    def __init__(self, encoder: Bidirectional) -> None:
        super().__init__()
        self.transformer = copy.deepcopy(encoder.transformer)
        # A prefix of max_len items has one column more, with the token, before its first item is cut.
        positions_LD = F.pad(encoder.transformer.entrance.positions_LD.detach(), (0, 0, 0, 1))
        self.transformer.entrance.positions_LD = nn.Parameter(positions_LD)
        self.mask_D, self.head = encoder.mask_D, encoder.head
        self.max_len, self.cuts_first = encoder.max_len, encoder.cuts_first

    def forward(self, table_VD: Tensor, items_NL: Tensor, length_N: Tensor) -> Tensor:
        if self.cuts_first:
            items_NL, length_N = items_NL[:, 1:], length_N - 1
        items_NL = F.pad(items_NL, (0, 1))
        kept_N = (length_N + 1).clamp(max=self.max_len)
        places_L = torch.arange(items_NL.shape[1], device=items_NL.device)
        from_NL = places_L + (length_N + 1 - kept_N)[:, None]
        items_NL = items_NL.gather(1, from_NL.clamp(max=items_NL.shape[1] - 1))
        last_NL1 = (places_L == kept_N[:, None] - 1)[..., None]
        rows_NLD = torch.where(last_NL1, self.mask_D, F.embedding(items_NL, table_VD))
        real_N11L = real_places(items_NL, kept_N)[:, None, None]
        states_N1D = self.transformer.states(rows_NLD, real_N11L, kept_N[:, None] - 1)
        vector_ND: Tensor = self.head(states_N1D[:, 0])
        return vector_ND


def traceable(session: SessionEncoder) -> SessionEncoder:
    """Return a session encoder that torch can trace and that returns the same vectors of prefixes."""
    if isinstance(session, GatedGraph):
        return DenseGatedGraph(session)
    if isinstance(session, Bidirectional):
        return LastMasked(session)
    if isinstance(session, EncoderWithHead):
        return EncoderWithHead(traceable(session.encoder), session.head)
    return session


class TracedNetwork(nn.Module):
    """A network with the item tables as constants: from items of prefixes to vectors and scores.

    Args:
        network: a trained network.
        tables: its item tables.
    """

    outputs_VE: Tensor

    def __init__(self, network: Network, tables: Tables) -> None:
        super().__init__()
        self.session = traceable(network.session)
        self.queries = network.queries
        self.cosine = network.cosine
        self.temperature = network.log_temperature.exp().item()
        inputs = tables.inputs[:3] if isinstance(tables.inputs, NodeTable) else [tables.inputs]
        # One table is often read and scored; it is then in the graph once.
        self.tables = nn.ParameterList(nn.Parameter(table, requires_grad=False) for table in inputs)
        shared = len(inputs) == 1 and tables.outputs is tables.inputs
        self.register_buffer("outputs_VE", self.tables[0].data if shared else tables.outputs)
        self.is_graph = isinstance(tables.inputs, NodeTable)

    def vector(self, items_NL: Tensor, length_N: Tensor, user_N: Tensor | None) -> Tensor:
        """Return session vectors (N, E), divided by the temperature."""
        table: Any = (
            NodeTable(self.tables[0], self.tables[1], self.tables[2], None)
            if self.is_graph
            else self.tables[0]
        )
        session = self.session
        if session.reads_users:
            vector_ND = session(table, items_NL, length_N, user_N)
        elif session.reads_prefixes:
            vector_ND = session(table, items_NL, length_N)
        elif session.encodes_last:
            vector_ND = session.last(table, items_NL, length_N)
        else:
            vector_ND = at_places(session(table, items_NL), length_N[:, None] - 1)[:, 0]
        return self._as_scored(vector_ND)

    def scores(self, items_NL: Tensor, length_N: Tensor, user_N: Tensor | None, columns: slice) -> Tensor:
        """Return scores (N, V) by some columns of the tables; with several queries those of their mixture."""
        if self.queries is None:
            vector_NE = self.vector(items_NL, length_N, user_N)
            return vector_NE[:, columns] @ self.outputs_VE[:, columns].T
        return self._mixture(items_NL, length_N, user_N)

    def _mixture(self, items_NL: Tensor, length_N: Tensor, user_N: Tensor | None) -> Tensor:
        """Return the logs of the mixed softmaxes, one for each place; see :mod:`alterrec.nn.mixtures`."""
        queries = self.queries
        assert queries is not None
        real_NL = real_places(items_NL, length_N)
        query_NLE = self._as_scored(F.embedding(items_NL, self.tables[0]))
        score_NLV = query_NLE @ self.outputs_VE.T
        if queries.excludes_seen:
            score_NLV = score_NLV.scatter(2, items_NL[..., None], -torch.inf)
        weight_NJ = queries.log_weights(length_N, items_NL.shape[1]).exp()
        start = 0 if queries.vector_logit is None else 1
        distance_NL = length_N[:, None] - 1 - torch.arange(items_NL.shape[1], device=items_NL.device)
        weight_NL = weight_NJ[:, start:].gather(1, distance_NL.clamp(min=0)).masked_fill(~real_NL, 0.0)
        chance_NV = (weight_NL[:, None] @ score_NLV.softmax(2))[:, 0]
        if start:
            vector_NV = self.vector(items_NL, length_N, user_N) @ self.outputs_VE.T
            if queries.excludes_seen:
                # Padding repeats the first item, which excludes no further one.
                seen_NL = items_NL.where(real_NL, items_NL[:, :1])
                vector_NV = vector_NV.scatter(1, seen_NL, -torch.inf)
            chance_NV = chance_NV + weight_NJ[:, :1] * vector_NV.softmax(1)
        return chance_NV.clamp(min=torch.finfo(torch.float32).tiny).log()

    def _as_scored(self, vector_NE: Tensor) -> Tensor:
        """Return vectors whose product with the scored table are scores; further columns are biases."""
        if self.cosine:
            vector_NE = F.normalize(vector_NE, dim=-1)
        vector_NE = vector_NE / self.temperature
        biases = self.outputs_VE.shape[1] - vector_NE.shape[-1]
        return F.pad(vector_NE, (0, biases), value=1.0) if biases else vector_NE

"""Means over neighbours against a dense product, and the session encoder that uses them."""

from __future__ import annotations

import numpy as np
import oracle_graphs as oracle
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from worlds import small_dataset

from alterrec.graphs import session_graphs
from alterrec.models.batches import SessionBatch
from alterrec.nn.graph_encoders import Edges, GatedGraph, neighbour_mean
from alterrec.sessions import PrefixBatches

NUM_ITEMS = 6
PREFIXES = st.lists(st.lists(st.integers(0, NUM_ITEMS - 1), min_size=1, max_size=6), min_size=1, max_size=4)


def batch_of(prefixes):
    items = torch.nn.utils.rnn.pad_sequence([torch.tensor(prefix) for prefix in prefixes], batch_first=True)
    return items, torch.tensor([len(prefix) for prefix in prefixes])


def dense(edges):
    """(T, T) means as a matrix."""
    counts = edges.offsets.diff()
    matrix = torch.zeros(len(counts), len(counts), dtype=torch.float64)
    for node, (start, stop) in enumerate(zip(edges.offsets, edges.offsets[1:], strict=False)):
        for other in edges.ids[start:stop]:
            matrix[node, other] += 1 / counts[node]
    return matrix


class TestNeighbourMean:
    @given(PREFIXES)
    def test_values_and_gradients_are_those_of_a_dense_product(self, prefixes):
        items, lengths = batch_of(prefixes)
        graphs = session_graphs(items.numpy(), lengths.numpy(), NUM_ITEMS)
        before, after = Edges.of(graphs.predecessors, "cpu"), Edges.of(graphs.successors, "cpu")
        for edges, turned in ((before, after), (after, before)):
            states = torch.randn(len(graphs.nodes), 3, dtype=torch.float64, requires_grad=True)
            weights = torch.randn_like(states)
            means = neighbour_mean(states, edges, turned)
            torch.testing.assert_close(means, dense(edges) @ states)
            (gradient,) = torch.autograd.grad((means * weights).sum(), states)
            torch.testing.assert_close(gradient, dense(edges).T @ weights)

    def test_parallel_edges_weigh_the_mean(self):
        """Node 0 has node 0 once and node 1 three times as neighbours, node 1 has none."""
        edges = Edges(torch.tensor([0, 4, 4]), torch.tensor([0, 1, 1, 1]))
        turned = Edges(torch.tensor([0, 1, 4]), torch.tensor([0, 0, 0, 0]))
        states = torch.tensor([[4.0], [8.0]], requires_grad=True)
        means = neighbour_mean(states, edges, turned)
        assert means.tolist() == [[7.0], [0.0]]
        means.sum().backward()
        assert states.grad.tolist() == [[0.25], [0.75]]

    @pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32, torch.float64])
    def test_keeps_the_type(self, dtype):
        edges = Edges(torch.tensor([0, 1, 2]), torch.tensor([1, 0]))
        states = torch.tensor([[1.0], [2.0]], dtype=dtype, requires_grad=True)
        means = neighbour_mean(states, edges, edges)
        means.sum().backward()
        assert means.dtype == states.grad.dtype == dtype
        assert means.tolist() == [[2.0], [1.0]]

    def test_no_nodes_and_no_edges(self):
        nothing = Edges(torch.zeros(1, dtype=torch.int64), torch.zeros(0, dtype=torch.int64))
        assert neighbour_mean(torch.zeros(0, 3), nothing, nothing).shape == (0, 3)
        alone = nothing._replace(offsets=torch.zeros(2, dtype=torch.int64))
        assert neighbour_mean(torch.ones(1, 3), alone, alone).tolist() == [[0.0, 0.0, 0.0]]


def slow_session(encoder, table, prefix):
    """The vector of one prefix over a dense adjacency, place by place."""
    nodes, places, edges = oracle.session_graph(prefix)
    step = torch.zeros(len(nodes), len(nodes))
    for u, v in edges:
        step[u, v] = 1.0
    states = table[nodes]
    for _ in range(encoder.steps):
        heard = []
        for messages, links in ((encoder.message_in, step.T), (encoder.message_out, step)):
            shares = links / links.sum(1, keepdim=True).clamp(min=1)
            heard.append(shares @ messages.linear(states) + messages.bias)
        states = encoder.gates(torch.cat(heard, 1), states)
    last, whole = states[places[-1]], torch.zeros(table.shape[1])
    for place in places:
        asked = torch.sigmoid(encoder.attn_last(last) + encoder.attn_each(states[place]))
        whole = whole + encoder.attn_score(asked) * states[place]
    return encoder.combine(torch.cat([whole, last]))


class TestGatedGraph:
    @pytest.mark.parametrize("steps", [1, 2])
    @given(prefixes=PREFIXES)
    def test_vectors_are_those_of_each_prefix_alone(self, steps, prefixes):
        torch.manual_seed(0)
        encoder, table = GatedGraph(4, steps), torch.randn(NUM_ITEMS, 4)
        torch.nn.init.normal_(encoder.message_in.bias)
        vectors = encoder(table, *batch_of(prefixes))
        expected = torch.stack([slow_session(encoder, table, prefix) for prefix in prefixes])
        torch.testing.assert_close(vectors, expected, rtol=1e-5, atol=1e-5)

    @pytest.mark.parametrize("layout", ["padded", "by_session"])
    def test_graphs_of_arrays_are_those_of_the_tensors(self, layout):
        """Behind a prefix arrays may have the rest of the session."""
        store = small_dataset().train
        for arrays in PrefixBatches(store, 50, 4, shuffle=False, layout=layout):
            batch = SessionBatch.of(arrays, "cpu")
            graphs, fetched = (each.graphs(store.num_items) for each in (batch, batch._replace(arrays=None)))
            for one, other in zip(graphs[:2], fetched[:2], strict=True):
                assert torch.equal(one, other)
            for one, other in zip(graphs[2:], fetched[2:], strict=True):
                assert torch.equal(one.offsets, other.offsets)
                assert torch.equal(one.ids, other.ids)

    def test_a_batch_without_samples(self):
        nothing = torch.zeros(0, dtype=torch.int64)
        assert GatedGraph(4, 1)(torch.randn(3, 4), nothing[:, None], nothing).shape == (0, 4)

    def test_repeats_are_edges_once(self):
        """1, 2, 1, 2 has the graph of 1, 2, 1 and ends elsewhere; its nodes have the same states."""
        graphs = [
            session_graphs(np.array([prefix]), [len(prefix)], 3) for prefix in ([1, 2, 1, 2], [1, 2, 1])
        ]
        np.testing.assert_equal(tuple(graphs[0].predecessors), tuple(graphs[1].predecessors))
        np.testing.assert_equal(tuple(graphs[0].successors), tuple(graphs[1].successors))

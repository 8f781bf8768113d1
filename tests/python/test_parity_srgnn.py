"""`srgnn` against the numbers of RecBole and of the authors' code, in float64."""

from __future__ import annotations

from pathlib import Path

import parity
import pytest
import torch
from parity import close

from alterrec.graphs import session_graphs
from alterrec.models.base import Network
from alterrec.models.catalogue import build_model
from alterrec.models.parts import ModelInputs
from alterrec.nn.graph_encoders import Edges
from alterrec.nn.losses import candidate_cross_entropy
from alterrec.recipe import resolve

FILES = [*parity.files("srgnn"), *parity.files("srgnn_original")]


def names_of(arrays: parity.Arrays) -> dict[str, str]:
    names = {"items.rows_VD": "item"}
    for way in ("in", "out"):
        names |= parity.layer_names(arrays, f"session.message_{way}.linear", f"message_{way}")
        names[f"session.message_{way}.bias"] = f"message_{way}.extra_bias"
    for ours, theirs in (("ih", "gate_in"), ("hh", "gate_state")):
        names |= {f"session.gates.weight_{ours}": f"{theirs}.W", f"session.gates.bias_{ours}": f"{theirs}.b"}
    for layer in ("attn_last", "attn_each", "attn_score", "combine"):
        names |= parity.layer_names(arrays, f"session.{layer}", layer)
    return names


class Instance:
    """One file, our network with its weights, and what of its scores are items'."""

    def __init__(self, path: Path) -> None:
        self.arrays = parity.Arrays(path)
        self.original = path in parity.files("srgnn_original")
        sizes = {"model.dim": self.arrays.setting("dim"), "graph.steps": self.arrays.setting("steps")}
        num_items = int(self.arrays.setting("items"))
        items = ModelInputs(num_items, None, torch.ones(num_items, dtype=torch.bool))
        model = build_model(resolve("srgnn", ["paper"], sizes), items)
        self.network: Network = model.network("model").double().eval()
        parity.set_weights(self.network, self.arrays, names_of(self.arrays))
        if not self.original:
            self.turn_update_gate()

    def turn_update_gate(self) -> None:
        """1 - sigmoid(x) is sigmoid(-x): RecBole's update of a node is ours with these rows negated."""
        gates = self.network.session.gates
        for values in gates.parameters():
            with torch.no_grad():
                values.chunk(3)[1].neg_()

    def scores(self) -> torch.Tensor:
        return self.arrays["output.scores"] if self.original else self.arrays.columns()

    def loss(self) -> torch.Tensor:
        return self.arrays["output.loss" if self.original else "output.loss_without_padding"]


@pytest.fixture(params=FILES, ids=lambda path: path.stem)
def instance(request: pytest.FixtureRequest) -> Instance:
    return Instance(request.param)


def test_parity_nodes_adjacency_and_states(instance: Instance) -> None:
    """The public graphs have padding as a node where there is some; ours have none."""
    arrays, batch = instance.arrays, instance.arrays.batch()
    num_items = int(arrays.setting("items"))
    graphs = session_graphs(batch.items_RL.numpy(), batch.length_N.numpy(), num_items)
    before, after = Edges.of(graphs.predecessors, "cpu"), Edges.of(graphs.successors, "cpu")
    rows_TD = instance.network.items()[torch.from_numpy(graphs.nodes)]
    states_TD = instance.network.session.node_states(rows_TD, before, after)
    means = arrays["stage.adjacency"]
    width = means.shape[1]
    for session, (start, stop) in enumerate(zip(graphs.starts, graphs.starts[1:], strict=False)):
        public = arrays["stage.node_ids"][session]
        where = {item.item() - 1: node for node, item in reversed(list(enumerate(public)))}
        nodes = [where[item] for item in graphs.nodes[start:stop].tolist()]
        close(states_TD[start:stop], arrays["stage.nodes"][session][nodes])
        for way, edges in enumerate((before, after)):
            for node in range(start, stop):
                ids = edges.ids[edges.offsets[node] : edges.offsets[node + 1]] - start
                expected = torch.zeros(width, dtype=torch.float64)
                expected[[nodes[other] for other in ids.tolist()]] = 1 / max(len(ids), 1)
                close(expected, means[session, nodes[node - start], way * width : (way + 1) * width])


def test_parity_session_and_scores(instance: Instance) -> None:
    network, batch = instance.network, instance.arrays.batch()
    close(network.encode_sessions(batch, network.item_tables()), instance.arrays["output.session"])
    close(network.scores(batch), instance.scores())


def test_parity_loss_and_gradients(instance: Instance) -> None:
    network, arrays = instance.network, instance.arrays
    tables = network.item_tables()
    vectors_ND = network.encode_sessions(arrays.batch(), tables)
    targets_N1 = arrays["input.targets"][:, None] - 1
    loss = candidate_cross_entropy(vectors_ND, tables.outputs, targets_N1, torch.ones(1).double(), None)
    close(loss, instance.loss())
    loss.backward()
    parity.gradients_close(network, arrays, "" if instance.original else "without_padding", names_of(arrays))

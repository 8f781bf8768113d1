"""`hggnn` against the public code's numbers, in float64, over a graph that ours makes of its sessions."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import parity
import pytest
import torch
from parity import close

from alterrec.models.base import Network
from alterrec.models.batches import SessionBatch
from alterrec.models.catalogue import build_model
from alterrec.models.parts import ModelInputs
from alterrec.nn.losses import candidate_cross_entropy
from alterrec.recipe import resolve
from alterrec.sessions import SessionStore

# Ours -> theirs: linear layers, then matrices that are stored the other way round.
LAYERS = {
    "neighbour": "neighbour",
    "own": "own",
    "fuse": "fuse",
    "sequence.gate": "seq_gate",
    "sequence.context_gate": "seq_mean_gate",
    "personal.gate": "user_gate",
    "personal.context_gate": "user_vector_gate",
}
TURNED = {
    "sequence.mix": "seq_mix",
    "sequence.score": "seq_score",
    "personal.mix": "user_mix",
    "personal.score": "user_score",
}


def names_of(arrays: parity.Arrays) -> dict[str, str]:
    names = {"items.rows_TD": "node", "session.positions_LD": "pos"}
    for ours, theirs in LAYERS.items():
        names |= parity.layer_names(arrays, f"session.{ours}", theirs)
    return names | {f"session.{ours}.weight": f"{theirs}.W_in_out" for ours, theirs in TURNED.items()}


class Instance:
    """One file, its sessions as a store, and our network with its weights."""

    def __init__(self, path: Path) -> None:
        self.arrays = arrays = parity.Arrays(path)
        self.num_items, self.offset = int(arrays.setting("items")), int(arrays.setting("user_offset"))
        # Public nodes of ours: all but its padding node and its user 0.
        self.nodes = torch.tensor(
            [*range(1, self.num_items + 1), *range(self.offset + 1, int(arrays.setting("nodes")))]
        )
        items = ModelInputs(
            self.num_items, None, torch.ones(self.num_items, dtype=torch.bool), train=self._train()
        )
        sizes = {
            "model.dim": arrays.setting("dim"),
            "model.max_len": len(arrays["weight.pos"]),
            "graph.predecessors": arrays.setting("neighbours_kept"),
        }
        model = build_model(resolve("hggnn", ["paper"], sizes), items)
        self.network: Network = model.network("model").double().eval()
        self._set_weights()
        users_N = arrays["input.users"] - 1
        self.batch: SessionBatch = arrays.batch()._replace(user_N=users_N)

    def _train(self) -> SessionStore:
        sessions, users = (self.arrays[f"input.graph_{name}"].numpy() for name in ("sessions", "users"))
        real = sessions > 0
        return SessionStore.from_arrays(
            np.nonzero(real)[0],
            sessions[real] - 1,
            user_ids=np.repeat(users - 1, real.sum(1)),
            num_items=self.num_items,
        )

    def _set_weights(self) -> None:
        parameters = dict(self.network.named_parameters())
        names = names_of(self.arrays)
        assert parameters.keys() == names.keys()
        with torch.no_grad():
            for ours, theirs in names.items():
                value = self.arrays[f"weight.{theirs}"]
                value = value[self.nodes] if theirs == "node" else value
                value = value.T if theirs.endswith("W_in_out") else value
                assert parameters[ours].shape == value.shape
                parameters[ours].copy_(value)


@pytest.fixture(params=parity.files("hggnn"), ids=lambda path: path.stem)
def instance(request: pytest.FixtureRequest) -> Instance:
    return Instance(request.param)


def test_parity_convolution_and_user_states(instance: Instance) -> None:
    network, arrays = instance.network, instance.arrays
    table = network.item_tables().inputs
    convolved = network.session.convolved(table.dropped_TD, table.mean_TD)
    close(convolved, arrays["stage.convolved_before_relu"][instance.nodes])
    close(network.session.user_states(table, instance.batch.user_N), arrays["stage.user_vector"])


def test_parity_parts_of_the_session_vector(instance: Instance) -> None:
    network, seen = instance.network, {}
    for name in ("sequence", "personal", "fuse"):
        getattr(network.session, name).register_forward_hook(
            lambda module, arguments, result, name=name: seen.update({name: result})
        )
    network.encode_sessions(instance.batch, network.item_tables())
    close(seen["sequence"], instance.arrays["stage.sequence_vector"])
    close(seen["personal"], instance.arrays["stage.session_user_vector"])
    close(seen["fuse"][:, 0].sigmoid(), instance.arrays["stage.fuse"])


def test_parity_session_and_scores_of_items(instance: Instance) -> None:
    """Column j of the public scores is node j + 1; what is behind the items are users."""
    network, batch = instance.network, instance.batch
    close(network.encode_sessions(batch, network.item_tables()), instance.arrays["output.session"])
    close(network.scores(batch), instance.arrays["output.scores"][:, : instance.num_items])


def test_parity_loss_over_items_and_gradients(instance: Instance) -> None:
    network, arrays = instance.network, instance.arrays
    tables = network.item_tables()
    vectors_ND = network.encode_sessions(instance.batch, tables)
    targets_N1 = arrays["input.targets"][:, None] - 1
    loss = candidate_cross_entropy(vectors_ND, tables.outputs, targets_N1, torch.ones(1).double(), None)
    close(loss, arrays["output.loss_items_only"])
    loss.backward()
    parity.gradients_close(network, arrays, "items_only", names_of(arrays))

"""`sasrec` against RecBole's numbers, in float64."""

from __future__ import annotations

from pathlib import Path

import parity
import pytest
import torch
from parity import close

from alterrec.models.base import Network
from alterrec.models.catalogue import build_model
from alterrec.models.parts import Items
from alterrec.nn.losses import candidate_cross_entropy
from alterrec.recipe import resolve


def names_of(arrays: parity.Arrays) -> dict[str, str]:
    return {"items.rows_VD": "item"} | parity.transformer_names(arrays, "session")


def network_of(arrays: parity.Arrays) -> Network:
    sizes = ("dim", "layers", "heads", "max_len", "inner")
    recipe = resolve("sasrec", ["paper"], {f"model.{name}": arrays.setting(name) for name in sizes})
    num_items = int(arrays.setting("items"))
    model = build_model(recipe, Items(num_items, None, torch.ones(num_items, dtype=torch.bool)))
    network = model.network("model").double().eval()
    parity.set_weights(network, arrays, names_of(arrays))
    return network


@pytest.fixture(params=parity.files("sasrec"), ids=lambda path: path.stem)
def arrays(request: pytest.FixtureRequest) -> parity.Arrays:
    path: Path = request.param
    return parity.Arrays(path)


def test_parity_stages_session_and_scores(arrays: parity.Arrays) -> None:
    network, batch = network_of(arrays), arrays.batch()
    real_NL = torch.arange(batch.items_RL.shape[1]) < batch.length_N[:, None]
    x = network.session.entrance(network.items()[batch.items_RL])
    close(x[real_NL], arrays["stage.embedded"][real_NL])
    for layer, block in enumerate(network.session.blocks):
        x = block(x)
        close(x[real_NL], arrays[f"stage.layer{layer}"][real_NL])
    tables = network.item_tables()
    close(network.encode_sessions(batch, tables), arrays["output.session"])
    close(network.scores(batch), arrays.columns())


def test_parity_loss_and_gradients(arrays: parity.Arrays) -> None:
    network = network_of(arrays)
    tables = network.item_tables()
    vectors_ND = network.encode_sessions(arrays.batch(), tables)
    targets_N1 = arrays["input.targets"][:, None] - 1
    loss = candidate_cross_entropy(vectors_ND, tables.outputs, targets_N1, torch.ones(1).double(), None)
    close(loss, arrays["output.loss_without_padding"])
    loss.backward()
    parity.gradients_close(network, arrays, "without_padding", names_of(arrays))

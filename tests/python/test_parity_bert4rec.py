"""`bert4rec` with ``model.faithful`` against RecBole's numbers, in float64."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import parity
import pytest
import torch
from parity import close

from alterrec.models.base import Network
from alterrec.models.bert4rec import masked_item_loss
from alterrec.models.catalogue import build_model
from alterrec.models.parts import ModelInputs
from alterrec.nn.losses import candidate_cross_entropy
from alterrec.recipe import resolve


def names_of(arrays: parity.Arrays) -> dict[str, str]:
    names = {"items.encoder.rows_VD": "item", "items.bias": "item_bias", "session.mask_D": "mask"}
    names |= parity.transformer_names(arrays, "session.transformer")
    names |= parity.layer_names(arrays, "session.head.linear", "head")
    return names | parity.layer_names(arrays, "session.head.norm", "head_norm")


def network_of(arrays: parity.Arrays) -> Network:
    sizes = ("dim", "layers", "heads", "max_len", "inner")
    sizes_of = {f"model.{name}": arrays.setting(name) for name in sizes}
    recipe = resolve("bert4rec", ["paper"], sizes_of | {"model.faithful": True})
    num_items = int(arrays.setting("items"))
    model = build_model(recipe, ModelInputs(num_items, None, torch.ones(num_items, dtype=torch.bool)))
    network = model.network("model").double().eval()
    parity.set_weights(network, arrays, names_of(arrays))
    return network


@pytest.fixture(params=parity.files("bert4rec"), ids=lambda path: path.stem)
def arrays(request: pytest.FixtureRequest) -> parity.Arrays:
    path: Path = request.param
    arrays = parity.Arrays(path)
    # Their mask token is the last row of the item table; ours is a parameter of the encoder.
    arrays.arrays["weight.mask"] = arrays.arrays["weight.item"][int(arrays.setting("mask_id"))]
    return arrays


def masks(arrays: parity.Arrays) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Sessions, their masked places, and those whose items enter the loss: never the first place."""
    items_NL, masked_NL = arrays.items(), arrays["input.masked_sessions"] == arrays.setting("mask_id")
    asked_NL = torch.zeros_like(masked_NL)
    rows, columns = (arrays["input.masked_positions"] > 0).nonzero().T
    places = arrays["input.masked_positions"][rows, columns]
    asked_NL[rows, places] = True
    assert torch.equal(items_NL[rows, places] + 1, arrays["input.masked_targets"][rows, columns])
    return items_NL, masked_NL, asked_NL


def test_parity_stages_session_and_scores(arrays: parity.Arrays) -> None:
    network, batch = network_of(arrays), arrays.batch()
    session = network.session
    read_NL = arrays["output.test_input"]
    table = torch.cat([network.items(), session.mask_D[None]])
    real_NL = read_NL > 0
    x = session.transformer.entrance(table[(read_NL - 1).clamp(min=0)])
    close(x[real_NL], arrays["stage.embedded"][real_NL])
    for layer, block in enumerate(session.transformer.blocks):
        x = block(x, real_NL[:, None, None, :])
        close(x[real_NL], arrays[f"stage.layer{layer}"][real_NL])
    close(session.head(x)[real_NL], arrays["stage.head"][real_NL])
    vectors_NE = network.encode_sessions(batch, network.item_tables())
    close(vectors_NE[:, :-1], arrays["output.session"])
    assert bool((vectors_NE[:, -1] == 1).all())
    close(network.scores(batch), arrays.columns())


def test_parity_next_item_loss(arrays: parity.Arrays) -> None:
    network = network_of(arrays)
    tables = network.item_tables()
    vectors_NE = network.encode_sessions(arrays.batch(), tables)
    targets_N1 = arrays["input.targets"][:, None] - 1
    loss = candidate_cross_entropy(vectors_NE, tables.outputs, targets_N1, torch.ones(1).double(), None)
    close(loss, arrays["output.next_item_loss_without_padding"])


def test_parity_masked_places(arrays: parity.Arrays) -> None:
    network = network_of(arrays)
    items_NL, masked_NL, _ = masks(arrays)
    lengths_N = arrays["input.lengths"]
    real_NL = torch.arange(items_NL.shape[1]) < lengths_N[:, None]
    vectors = network.session.masked_vectors(network.items(), items_NL, lengths_N, masked_NL, real_NL)
    close(vectors, arrays["output.masked_hidden"][real_NL])


def test_parity_cloze_loss_and_gradients(arrays: parity.Arrays) -> None:
    network, names = network_of(arrays), names_of(arrays)
    items_NL, masked_NL, asked_NL = masks(arrays)
    loss = masked_item_loss(network, items_NL, arrays["input.lengths"], masked_NL, asked_NL)
    close(loss, arrays["output.loss_without_padding"])
    loss.backward()
    # The public table has the mask token's row too.
    own = [network.items.encoder.rows_VD, network.session.mask_D]
    norm = torch.cat([value.grad.flatten() for value in own]).norm().item()
    np.testing.assert_allclose(norm, arrays["gradnorm.without_padding.item"].item(), rtol=1e-6)
    del names["items.encoder.rows_VD"]
    parity.gradients_close(network, arrays, "without_padding", names)

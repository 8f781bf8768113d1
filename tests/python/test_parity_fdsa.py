"""`fdsa` against the numbers of UniSRec's repository (text) and RecBole (attributes), in float64."""

from __future__ import annotations

from pathlib import Path

import parity
import pytest
import torch
from parity import close

from alterrec.models.base import Network
from alterrec.models.catalogue import build_model
from alterrec.models.parts import ModelInputs
from alterrec.recipe import resolve

FILES = parity.files("fdsa") + parity.files("fdsa_attributes")
FIELDS = ("single", "multi")


def names_of(arrays: parity.Arrays) -> dict[str, str]:
    names = {"items.encoders.0.rows_VD": "item", "session.entrance.positions_LD": "pos"}
    names |= parity.layer_names(arrays, "session.entrance.norm", "in_norm")
    names |= parity.layer_names(arrays, "session.concat", "concat")
    for stream in ("item", "feature"):
        for layer in range(int(arrays.setting("layers"))):
            names |= parity.block_names(arrays, f"session.{stream}_blocks.{layer}", f"{stream}_layer{layer}")
    if "input.text" in arrays:
        return names | parity.layer_names(arrays, "items.encoders.1.project", "project")
    names |= {f"items.encoders.1.rows.{field}": name for field, name in enumerate(FIELDS)}
    names |= parity.layer_names(arrays, "items.encoders.1.hidden", "field_hidden")
    return names | parity.layer_names(arrays, "items.encoders.1.score", "field_score")


def categories(arrays: parity.Arrays) -> torch.Tensor:
    """Public values 1.., 0 for none, as ours: 0.., -1 for none."""
    single_VK, multi_VK = (
        arrays.table(f"input.item_{name}").reshape(int(arrays.setting("items")), -1) - 1 for name in FIELDS
    )
    width = multi_VK.shape[1]
    single_VK = torch.nn.functional.pad(single_VK, (0, width - single_VK.shape[1]), value=-1)
    return torch.stack([single_VK, multi_VK], dim=1)


def network_of(arrays: parity.Arrays) -> Network:
    sizes = ("dim", "layers", "heads", "max_len", "inner")
    settings = {f"model.{name}": arrays.setting(name) for name in sizes}
    num_items = int(arrays.setting("items"))
    trained = torch.ones(num_items, dtype=torch.bool)
    if "input.text" in arrays:
        items = ModelInputs(num_items, arrays.table("input.text"), trained)
    else:
        settings["fdsa.features"] = "attributes"
        unread = torch.zeros(num_items, 1)
        items = ModelInputs(num_items, unread, trained, categories_VCK=categories(arrays))
    network = build_model(resolve("fdsa", ["paper"], settings), items).network("model").double().eval()
    parity.set_weights(network, arrays, names_of(arrays))
    return network


def load(path: Path) -> parity.Arrays:
    """An instance whose tables of values have lost the row of padding, and rows that no item has."""
    arrays = parity.Arrays(path)
    for name in FIELDS:
        if f"weight.{name}" in arrays:
            used = int(arrays[f"input.item_{name}"].max())
            arrays.arrays[f"weight.{name}"] = arrays.arrays[f"weight.{name}"][1 : used + 1]
    return arrays


@pytest.fixture(params=FILES, ids=lambda path: path.stem)
def arrays(request: pytest.FixtureRequest) -> parity.Arrays:
    path: Path = request.param
    return load(path)


def test_parity_streams_session_and_scores(arrays: parity.Arrays) -> None:
    network, batch = network_of(arrays), arrays.batch()
    real_NL = torch.arange(batch.items_RL.shape[1]) < batch.length_N[:, None]
    rows = network.items()[batch.items_RL].chunk(2, dim=-1)
    for stream, x in zip(("item", "feature"), rows, strict=True):
        x = network.session.entrance(x)
        close(x[real_NL], arrays[f"stage.{stream}.embedded"][real_NL])
        for layer, block in enumerate(getattr(network.session, f"{stream}_blocks")):
            x = block(x)
            close(x[real_NL], arrays[f"stage.{stream}.layer{layer}"][real_NL])
    tables = network.item_tables()
    close(network.encode_sessions(batch, tables), arrays["output.session"])
    close(network.scores(batch), arrays.columns())


def test_parity_loss_and_gradients(arrays: parity.Arrays) -> None:
    parity.next_item_loss_close(network_of(arrays), arrays, names_of(arrays))


@pytest.mark.parametrize("path", parity.files("fdsa_attributes"), ids=lambda path: path.stem)
def test_parity_attention_over_fields(path: Path) -> None:
    arrays = load(path)
    features, batch = network_of(arrays).items.encoders[1], arrays.batch()
    real_NL = torch.arange(batch.items_RL.shape[1]) < batch.length_N[:, None]
    weights_VC = features.weights(features.fields())[:, :, 0]
    close(weights_VC[batch.items_RL][real_NL], arrays["stage.field_weight"][real_NL])
    close(features()[batch.items_RL][real_NL], arrays["stage.feature"][real_NL])

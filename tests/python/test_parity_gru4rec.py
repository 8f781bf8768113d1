"""`gru4rec` against RecBole's numbers, in float64."""

from __future__ import annotations

from pathlib import Path

import parity
import pytest
import torch
from parity import close

from alterrec.models.base import Network


def names_of(arrays: parity.Arrays) -> dict[str, str]:
    names = {"items.rows_VD": "item"} | parity.layer_names(arrays, "session.out", "out")
    for layer in range(int(arrays.setting("gru_layers"))):
        names[f"session.units.weight_ih_l{layer}"] = f"gru{layer}.input.W"
        names[f"session.units.weight_hh_l{layer}"] = f"gru{layer}.state.W"
    return names


def network_of(arrays: parity.Arrays) -> Network:
    settings = parity.SIZES | {"model.layers": "gru_layers", "gru.hidden": "hidden"}
    return parity.network_of("gru4rec", arrays, names_of(arrays), settings)


@pytest.fixture(params=parity.files("gru4rec"), ids=lambda path: path.stem)
def arrays(request: pytest.FixtureRequest) -> parity.Arrays:
    path: Path = request.param
    return parity.Arrays(path)


def test_parity_states_session_and_scores(arrays: parity.Arrays) -> None:
    network, batch = network_of(arrays), arrays.batch()
    real_NL = torch.arange(batch.items_RL.shape[1]) < batch.length_N[:, None]
    hidden_NLH, _ = network.session.units(network.items()[batch.items_RL])
    close(hidden_NLH[real_NL], arrays["stage.states"][real_NL])
    close(network.encode_sessions(batch, network.item_tables()), arrays["output.session"])
    close(network.scores(batch), arrays.columns())


def test_parity_loss_and_gradients(arrays: parity.Arrays) -> None:
    parity.next_item_loss_close(network_of(arrays), arrays, names_of(arrays))

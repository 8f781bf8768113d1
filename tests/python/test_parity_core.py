"""`core` and its variant without a Transformer against RecBole's and RUCAIBox/CORE's numbers, in float64."""

from __future__ import annotations

from pathlib import Path

import parity
import pytest
import torch
from parity import close

from alterrec.models.base import Network


def names_of(arrays: parity.Arrays) -> dict[str, str]:
    names = {"items.rows_VD": "item"}
    if "weight.alpha.W" in arrays:
        names |= parity.transformer_names(arrays, "session.transformer")
        names |= parity.layer_names(arrays, "session.weigh", "alpha")
    return names


def network_of(arrays: parity.Arrays) -> Network:
    session = "weighted" if "weight.alpha.W" in arrays else "mean"
    settings = parity.SIZES | {"id.temperature": "temperature"}
    return parity.network_of("core", arrays, names_of(arrays), settings, {"id.session": session})


@pytest.mark.parametrize(
    "path", [*parity.files("core_trm"), *parity.files("core_ave")], ids=lambda path: path.stem
)
class TestBothVariants:
    def test_parity_session_and_scores(self, path: Path) -> None:
        arrays = parity.Arrays(path)
        network, batch = network_of(arrays), arrays.batch()
        vectors_ND = network.encode_sessions(batch, network.item_tables())
        close(vectors_ND * arrays.setting("temperature"), arrays["output.session"])
        close(network.scores(batch), arrays.columns())

    def test_parity_loss_and_gradients(self, path: Path) -> None:
        arrays = parity.Arrays(path)
        parity.next_item_loss_close(network_of(arrays), arrays, names_of(arrays))


@pytest.mark.parametrize("path", parity.files("core_trm"), ids=lambda path: path.stem)
def test_parity_stages_and_weights_of_places(path: Path) -> None:
    arrays = parity.Arrays(path)
    network, batch = network_of(arrays), arrays.batch()
    rows_NLD = network.items()[batch.items_RL]
    real_NL = torch.arange(batch.items_RL.shape[1]) < batch.length_N[:, None]
    x = network.session.transformer.entrance(rows_NLD)
    close(x[real_NL], arrays["stage.embedded"][real_NL])
    for layer, block in enumerate(network.session.transformer.blocks):
        x = block(x)
        close(x[real_NL], arrays[f"stage.layer{layer}"][real_NL])
    weights_NL = network.session.weights(rows_NLD)[batch.row_N, batch.length_N - 1]
    close(weights_NL, arrays["stage.alpha"])

"""`sasrec` against RecBole's numbers, in float64."""

from __future__ import annotations

from pathlib import Path

import parity
import pytest
import torch
from parity import close


def names_of(arrays: parity.Arrays) -> dict[str, str]:
    return {"items.rows_VD": "item"} | parity.transformer_names(arrays, "session")


@pytest.fixture(params=parity.files("sasrec"), ids=lambda path: path.stem)
def arrays(request: pytest.FixtureRequest) -> parity.Arrays:
    path: Path = request.param
    return parity.Arrays(path)


def test_parity_stages_session_and_scores(arrays: parity.Arrays) -> None:
    network, batch = parity.network_of("sasrec", arrays, names_of(arrays)), arrays.batch()
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
    network = parity.network_of("sasrec", arrays, names_of(arrays))
    parity.next_item_loss_close(network, arrays, names_of(arrays))

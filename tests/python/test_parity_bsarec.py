"""`bsarec` with its faults against the authors' numbers, in float64."""

from __future__ import annotations

from pathlib import Path

import parity
import pytest
from parity import close

from alterrec.models.base import Network


def names_of(arrays: parity.Arrays) -> dict[str, str]:
    names = {"items.rows_VD": "item"} | parity.transformer_names(arrays, "session")
    for layer in range(int(arrays.setting("layers"))):
        ours, theirs = f"session.blocks.{layer}.filter", f"layer{layer}"
        names[f"{ours}.sqrt_beta_D"] = f"{theirs}.sqrt_beta"
        names |= parity.layer_names(arrays, f"{ours}.norm", f"{theirs}.filter_norm")
    return names


def network_of(arrays: parity.Arrays) -> Network:
    settings = parity.SIZES | {"frequency.alpha": "alpha", "frequency.low": "c"}
    network = parity.network_of("bsarec", arrays, names_of(arrays), settings, {"model.faithful": True})
    network.session.padding_D.copy_(arrays["weight.item"][0])
    return network


@pytest.fixture(params=parity.files("bsarec"), ids=lambda path: path.stem)
def arrays(request: pytest.FixtureRequest) -> parity.Arrays:
    path: Path = request.param
    return parity.Arrays(path)


def test_parity_stages_of_all_places_session_and_scores(arrays: parity.Arrays) -> None:
    network, batch = network_of(arrays), arrays.batch()
    tables = network.item_tables()
    rows, waves, mask = network.session.prefixes(tables.inputs, batch.items_RL, batch.length_N)
    assert waves.shape[-1] == 2 * arrays.setting("low_bins") - 1
    x = network.session.entrance(rows)
    close(x, arrays["stage.embedded"])
    for layer, block in enumerate(network.session.blocks):
        close(block.filter(x, waves), arrays[f"stage.layer{layer}.filter"])
        close(block.attn_norm(x + block.attention(x, mask)), arrays[f"stage.layer{layer}.attention"])
        x = block(x, waves, mask)
        close(x, arrays[f"stage.layer{layer}"])
    close(network.encode_sessions(batch, tables), arrays["output.session"])
    close(network.scores(batch), arrays.columns())


def test_parity_loss_and_gradients(arrays: parity.Arrays) -> None:
    parity.next_item_loss_close(network_of(arrays), arrays, names_of(arrays))


def test_parity_is_a_matter_of_the_faults(arrays: parity.Arrays) -> None:
    """The mended model with the same weights gives other scores, but where the session fills all places."""
    network, batch = network_of(arrays), arrays.batch()
    network.session.faithful = False
    full_N = batch.length_N == arrays.setting("max_len")
    scores = network.scores(batch)
    assert bool(full_N.any())
    close(scores[full_N], arrays.columns()[full_N])
    assert (scores - arrays.columns())[~full_N].abs().amax(1).min().item() > 1e-3

"""`unisrec` and `unisrec_text` against the numbers of UniSRec's public code, in float64."""

from __future__ import annotations

from pathlib import Path

import parity
import pytest
import torch
from parity import close

from alterrec.models.base import Network
from alterrec.models.catalogue import build_model
from alterrec.models.parts import ModelInputs
from alterrec.models.unisrec import ContrastiveObjective, without_items
from alterrec.nn.item_encoders import MixtureAdapter
from alterrec.nn.losses import candidate_cross_entropy
from alterrec.recipe import resolve

SETTINGS = {"inductive": "unisrec_text", "transductive": "unisrec"}
EXPERTS = {"experts_EDF": "W", "shifts_EF": "shift"}


def adapter_of(network: Network) -> MixtureAdapter:
    found = [part for part in network.items.modules() if isinstance(part, MixtureAdapter)]
    (adapter,) = found
    return adapter


def names_of(network: Network, arrays: parity.Arrays) -> dict[str, str]:
    """All parameters but the experts, which the file has one by one and we in one block."""
    names = parity.transformer_names(arrays, "session")
    within = "items" if isinstance(network.items, MixtureAdapter) else "items.encoders.1"
    if within != "items":
        names["items.encoders.0.rows_VD"] = "item"
    return names | {f"{within}.gates_FE": "gate.W_in_out", f"{within}.noise_FE": "gate_noise.W_in_out"}


def network_of(arrays: parity.Arrays, setting: str) -> Network:
    sizes = ("dim", "layers", "heads", "max_len", "inner")
    choices = {f"model.{name}": arrays.setting(name) for name in sizes} | {
        "model.faithful": True,
        "text.experts": arrays.setting("experts"),
        "id.temperature": arrays.setting("temperature"),
        "unisrec.sequence_weight": arrays.setting("sequence_weight"),
        "schedule.pretrain": 1,
    }
    num_items = int(arrays.setting("items"))
    items = ModelInputs(
        num_items,
        arrays.table("input.text"),
        torch.ones(num_items, dtype=torch.bool),
        shortened_VF=arrays.table("input.text_augmented"),
    )
    recipe = resolve(SETTINGS[setting], ["paper"], choices)
    network = build_model(recipe, items).network("model").double().eval()
    adapter = adapter_of(network)
    with torch.no_grad():
        for ours, theirs in EXPERTS.items():
            for expert, value in enumerate(getattr(adapter, ours)):
                value.copy_(arrays[f"weight.expert{expert}.{theirs}"])
    experts = {name for name in dict(network.named_parameters()) if name.endswith(tuple(EXPERTS))}
    parity.set_weights(network, arrays, names_of(network, arrays), besides=experts)
    return network


def gradients_close(network: Network, arrays: parity.Arrays, loss: str) -> None:
    parity.gradients_close(network, arrays, loss, names_of(network, arrays))
    adapter = adapter_of(network)
    for ours, theirs in EXPERTS.items():
        for expert, gradient in enumerate(getattr(adapter, ours).grad):
            expected = arrays[f"gradnorm.{loss}.expert{expert}.{theirs}"]
            torch.testing.assert_close(gradient.norm(), expected, rtol=1e-6, atol=0.0)


@pytest.fixture(params=parity.files("unisrec"), ids=lambda path: path.stem)
def arrays(request: pytest.FixtureRequest) -> parity.Arrays:
    path: Path = request.param
    return parity.Arrays(path)


def test_parity_mixture_with_and_without_noise(arrays: parity.Arrays) -> None:
    adapter = adapter_of(network_of(arrays, "inductive"))
    close(adapter(), arrays.table("output.adapted"))
    noise_VE = arrays.table("input.gate_noise")
    noisy_VD = adapter.mixed(adapter.vectors_VF, adapter.gates(adapter.vectors_VF, noise_VE))
    close(noisy_VD, arrays.table("output.adapted_with_gate_noise"))


@pytest.mark.parametrize("setting", SETTINGS)
def test_parity_stages_sessions_and_scores(arrays: parity.Arrays, setting: str) -> None:
    network, batch = network_of(arrays, setting), arrays.batch()
    real_NL = torch.arange(batch.items_RL.shape[1]) < batch.length_N[:, None]
    x = network.session.entrance(network.items()[batch.items_RL])
    close(x[real_NL], arrays[f"stage.{setting}.embedded"][real_NL])
    for layer, block in enumerate(network.session.blocks):
        x = block(x)
        close(x[real_NL], arrays[f"stage.{setting}.layer{layer}"][real_NL])
    close(x[batch.row_N, batch.length_N - 1], arrays[f"output.{setting}.session_raw"])
    # The public code leaves the temperature out in evaluation.
    cosines_NV = network.scores(batch) * arrays.setting("temperature")
    close(cosines_NV, arrays.columns(f"output.{setting}.scores"))


@pytest.mark.parametrize("setting", SETTINGS)
def test_parity_loss_and_gradients(arrays: parity.Arrays, setting: str) -> None:
    network = network_of(arrays, setting)
    tables = network.item_tables()
    vectors_ND = network.encode_sessions(arrays.batch(), tables)
    targets_N1 = arrays["input.targets"][:, None] - 1
    loss = candidate_cross_entropy(vectors_ND, tables.outputs, targets_N1, torch.ones(1).double(), None)
    close(loss, arrays[f"output.{setting}.loss_without_padding"])
    loss.backward()
    gradients_close(network, arrays, f"{setting}.loss_without_padding")


@pytest.mark.parametrize("setting", SETTINGS)
@pytest.mark.parametrize("kind", ["item_drop", "word_drop"])
def test_parity_pretraining(arrays: parity.Arrays, setting: str, kind: str) -> None:
    """Pretraining reads text alone, so item rows change nothing."""
    network, batch = network_of(arrays, setting), arrays.batch()
    contrast = network.objectives["pretrain"]
    assert isinstance(contrast, ContrastiveObjective)
    stage, keep_NL = f"pretrain_{kind}", arrays["input.keep"].bool()
    to_items, to_sessions = contrast.losses(
        network, batch, arrays["input.targets"] - 1, keep_NL, words=kind == "word_drop"
    )
    close(to_items, arrays[f"output.{stage}.loss_sequence_item"])
    close(to_sessions, arrays[f"output.{stage}.loss_sequence_sequence"])
    loss = to_items + arrays.setting("sequence_weight") * to_sessions
    close(loss, arrays[f"output.{stage}.loss"])
    loss.backward()
    gradients_close(network, arrays, f"{stage}.loss")


def test_parity_item_drop(arrays: parity.Arrays) -> None:
    items_NL, length_N = without_items(
        arrays["input.sessions"], arrays["input.lengths"], arrays["input.keep"].bool(), faithful=True
    )
    assert torch.equal(length_N, arrays["output.pretrain_item_drop.augmented_lengths"])
    for row, expected, length in zip(
        items_NL, arrays["output.pretrain_item_drop.augmented_sessions"], length_N, strict=True
    ):
        assert row[:length].tolist() == expected[:length].tolist()

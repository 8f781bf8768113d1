"""Numbers of public models: one tiny instance a file, read for a comparison in float64.

What the arrays mean is said in ``tests/data/parity/README.md``.
"""

from __future__ import annotations

import os
import re
from collections.abc import Collection
from pathlib import Path
from typing import Any

import numpy as np
import torch

from alterrec.models.base import Network
from alterrec.models.batches import SessionBatch
from alterrec.models.catalogue import build_model
from alterrec.models.parts import ModelInputs
from alterrec.nn.losses import candidate_cross_entropy
from alterrec.recipe import resolve

FOLDER = Path(os.environ.get("ALTERREC_PARITY", Path(__file__).parents[1] / "data" / "parity"))


def files(model: str) -> list[Path]:
    """The instances of a public model, ``MODEL_<letter>.npz``; at least one."""
    found = sorted(path for path in FOLDER.glob("*.npz") if re.fullmatch(rf"{model}_[a-z]+", path.stem))
    found = [path for path in found if re.sub(r"_[a-z]$", "", path.stem) == model]
    assert found, f"no {model}_*.npz in {FOLDER}"
    return found


class Arrays:
    """The arrays of one file, floating ones as float64 tensors."""

    def __init__(self, path: Path) -> None:
        with np.load(path, allow_pickle=False) as file:
            self.arrays = {name: file[name] for name in file.files}

    def __contains__(self, name: str) -> bool:
        return name in self.arrays

    def __getitem__(self, name: str) -> torch.Tensor:
        values = torch.from_numpy(self.arrays[name])
        return values.double() if values.is_floating_point() else values

    def setting(self, name: str) -> int | float:
        """A size or constant of the instance."""
        number: int | float = self.arrays[f"setting.{name}"].item()
        return number

    def items(self, name: str = "input.sessions") -> torch.Tensor:
        """Public ids 1..V as ours, 0..V-1; padding becomes 0."""
        return (self[name] - 1).clamp(min=0)

    def batch(self) -> SessionBatch:
        """The sessions of the file, right-padded as ours are."""
        items_NL, length_N = self.items(), self["input.lengths"]
        if "setting.low_bins" in self:  # BSARec's are padded on the left.
            places_L = torch.arange(items_NL.shape[1])
            items_NL = items_NL.gather(1, (places_L - length_N[:, None]) % items_NL.shape[1])
            items_NL = items_NL.masked_fill(places_L >= length_N[:, None], 0)
        return SessionBatch.of_prefixes(items_NL, length_N)

    def table(self, name: str = "weight.item") -> torch.Tensor:
        """A table of public ids without the rows of padding and mask tokens: (V, ...)."""
        return self[name][1 : int(self.setting("items")) + 1]

    def columns(self, name: str = "output.scores") -> torch.Tensor:
        """Scores of the V items alone."""
        return self[name][:, 1 : int(self.setting("items")) + 1]


# Recipe keys and the settings of a file that they take their values from.
SIZES = {f"model.{name}": name for name in ("dim", "layers", "heads", "max_len", "inner")}


def network_of(
    model: str,
    arrays: Arrays,
    names: dict[str, str],
    settings: dict[str, str] = SIZES,
    overrides: dict[str, Any] | None = None,
) -> Network:
    """The one network of a system with the sizes and the weights of a file; ``names``: ours -> theirs."""
    given = {key: arrays.setting(name) for key, name in settings.items() if f"setting.{name}" in arrays}
    num_items = int(arrays.setting("items"))
    recipe = resolve(model, ["paper"], given | (overrides or {}))
    items = ModelInputs(num_items, None, torch.ones(num_items, dtype=torch.bool))
    network = build_model(recipe, items).network("model").double().eval()
    set_weights(network, arrays, names)
    return network


def set_weights(
    module: torch.nn.Module, arrays: Arrays, names: dict[str, str], besides: Collection[str] = ()
) -> None:
    """Give ``module`` the weights of a file, all of them and no other; ``names``: ours -> theirs.

    Those in ``besides`` the caller sets, for they are laid out otherwise.

    Tables of theirs over public ids lose the rows of padding and mask tokens where ours have none.
    """
    parameters = dict(module.named_parameters())
    assert parameters.keys() - set(besides) == names.keys(), (parameters.keys() - set(besides)) ^ names.keys()
    with torch.no_grad():
        for ours, theirs in names.items():
            value = arrays[f"weight.{theirs}"]
            if len(value) != len(parameters[ours]) == arrays.setting("items"):
                value = arrays.table(f"weight.{theirs}")
            assert parameters[ours].shape == value.shape, (ours, parameters[ours].shape, value.shape)
            parameters[ours].copy_(value)


def layer_names(arrays: Arrays, ours: str, theirs: str) -> dict[str, str]:
    """Parameters of a linear layer or a norm: ours -> theirs, as far as the file has them."""
    ends = {"W": "weight", "b": "bias", "gain": "weight", "bias": "bias"}
    return {
        f"{ours}.{end}": f"{theirs}.{kind}"
        for kind, end in ends.items()
        if f"weight.{theirs}.{kind}" in arrays
    }


def block_names(arrays: Arrays, ours: str, theirs: str) -> dict[str, str]:
    """Parameters of a Transformer block: ours -> theirs."""
    layers = {name: f"attention.{name}" for name in "qkvo"} | {"up": "ffn.up", "down": "ffn.down"}
    layers |= {name: name for name in ("attn_norm", "ffn_norm")}
    names: dict[str, str] = {}
    for public, own in layers.items():
        names |= layer_names(arrays, f"{ours}.{own}", f"{theirs}.{public}")
    return names


def transformer_names(arrays: Arrays, ours: str, theirs: str = "layer") -> dict[str, str]:
    """Parameters of a ``Transformer``: ours -> theirs."""
    names = {f"{ours}.entrance.positions_LD": "pos"}
    names |= layer_names(arrays, f"{ours}.entrance.norm", "in_norm")
    for layer in range(int(arrays.setting("layers"))):
        names |= block_names(arrays, f"{ours}.blocks.{layer}", f"{theirs}{layer}")
    return names


def close(ours: torch.Tensor, expected: torch.Tensor) -> None:
    """Equal to 1e-10 of the largest expected value."""
    scale = expected.abs().max().item()
    np.testing.assert_allclose(ours.detach().numpy(), expected.numpy(), rtol=1e-10, atol=1e-10 * scale)


def gradients_close(module: torch.nn.Module, arrays: Arrays, loss: str, names: dict[str, str]) -> None:
    """Gradient norms of our parameters equal ``gradnorm.<loss>.<theirs>``, all that the file has."""
    parameters = dict(module.named_parameters())
    prefix = f"gradnorm.{loss}." if loss else "gradnorm."
    compared = 0
    for ours, theirs in names.items():
        if prefix + theirs not in arrays:
            continue
        gradient = parameters[ours].grad
        assert gradient is not None, ours
        expected = arrays[prefix + theirs].item()
        # A key's bias moves all logits of a query alike: its gradient is rounding alone.
        np.testing.assert_allclose(gradient.norm().item(), expected, rtol=1e-6, atol=1e-12, err_msg=ours)
        compared += 1
    assert compared


def next_item_loss_close(network: Network, arrays: Arrays, names: dict[str, str]) -> None:
    """Cross-entropy of the targets over the V items and its gradients' norms; ``names``: ours -> theirs."""
    tables = network.item_tables()
    vectors_ND = network.encode_sessions(arrays.batch(), tables)
    targets_N1 = arrays["input.targets"][:, None] - 1
    loss = candidate_cross_entropy(vectors_ND, tables.outputs, targets_N1, torch.ones(1).double(), None)
    close(loss, arrays["output.loss_without_padding"])
    loss.backward()
    gradients_close(network, arrays, "without_padding", names)

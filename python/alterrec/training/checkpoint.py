"""All that a run needs to go on after a kill, in one file that is replaced whole."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor

from alterrec.errors import InputError
from alterrec.files import atomic_write


@dataclass
class Progress:
    """The state of a training run after a whole epoch.

    Attributes:
        recipe: the resolved recipe as text; a checkpoint goes on only under the same.
        data: fingerprint of the data; likewise.
        epoch: epochs done.
        best_epoch: the epoch with the best validation so far, 0 before the first.
        best_value: its metric.
        curves: one record an epoch.
        warnings: what the user should know.
        seconds: training time so far.
        parameters, best: parameter values now and at the best epoch.
        optimisers: network -> parameter index -> Adam's tensors.
    """

    recipe: str
    data: str = ""
    epoch: int = 0
    best_epoch: int = 0
    best_value: float = float("-inf")
    curves: list[dict[str, Any]] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)
    seconds: float = 0.0
    parameters: dict[str, Tensor] = field(default_factory=dict)
    best: dict[str, Tensor] = field(default_factory=dict)
    optimisers: dict[str, dict[int, dict[str, Tensor]]] = field(default_factory=dict)

    def save(self, path: Path) -> None:
        """Write atomically: a kill leaves the earlier checkpoint whole."""
        tensors = {f"parameters/{name}": value for name, value in self.parameters.items()}
        tensors |= {f"best/{name}": value for name, value in self.best.items()}
        for network, states in self.optimisers.items():
            for index, state in states.items():
                tensors |= {f"optimiser/{network}/{index}/{key}": value for key, value in state.items()}
        facts = {name: getattr(self, name) for name in _FACTS}
        contiguous = {name: value.detach().cpu().contiguous() for name, value in tensors.items()}
        with atomic_write(path) as temporary:
            save_file(contiguous, temporary, metadata={"progress": json.dumps(facts)})

    @classmethod
    def load(cls, path: Path, recipe: str, data: str) -> Progress:
        """The state of an interrupted run.

        Raises:
            InputError: the file is damaged, or belongs to another recipe (the first difference is named) or
                to other data.
        """
        try:
            with safe_open(path, framework="pt") as file:
                facts = json.loads(file.metadata()["progress"])
                tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        except Exception as error:
            raise InputError(f"{path}: not a checkpoint ({error}); start anew without --resume") from None
        if facts["recipe"] != recipe:
            old, new = facts["recipe"].splitlines(), recipe.splitlines()
            changed = next(
                (f"{a!r} then, {b!r} now" for a, b in zip(old, new, strict=False) if a != b), "length"
            )
            raise InputError(f"{path}: belongs to another recipe ({changed}); use the same options to resume")
        if facts["data"] != data:
            raise InputError(f"{path}: belongs to other data; resume with the same files, or start anew")
        progress = cls(**facts)
        for record in progress.curves:
            # Version 0.1.0 wrote the name of the trained network as a list of one name.
            if isinstance(record["trained"], list):
                (record["trained"],) = record["trained"]
        for name, value in tensors.items():
            kind, _, rest = name.partition("/")
            if kind == "optimiser":
                network, index, key = rest.split("/")
                progress.optimisers.setdefault(network, {}).setdefault(int(index), {})[key] = value
            else:
                getattr(progress, kind)[rest] = value
        return progress


_FACTS = ("recipe", "data", "epoch", "best_epoch", "best_value", "curves", "warnings", "seconds")


def parameters_of(model: torch.nn.Module) -> dict[str, Tensor]:
    """A copy of every parameter by name; buffers (frozen text vectors) are rebuilt from data."""
    return {name: value.detach().clone() for name, value in model.named_parameters()}


def set_parameters(model: torch.nn.Module, values: Mapping[str, Tensor]) -> None:
    """Copy values into the parameters of the same names."""
    with torch.no_grad():
        for name, value in model.named_parameters():
            value.copy_(values[name])

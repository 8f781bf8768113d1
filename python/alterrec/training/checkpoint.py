"""Checkpoints: what a run needs to resume after it was killed, in one file that is replaced atomically."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor

from alterrec.errors import InputError
from alterrec.files import atomic_write
from alterrec.recipe import recipe_changes
from alterrec.results import Epoch, from_json, to_json


@dataclass
class TrainingState:
    """The state of a training run after an epoch.

    Attributes:
        recipe: the resolved recipe as text; a checkpoint can be resumed only with the same recipe.
        data: fingerprint of the data; a checkpoint can be resumed only with the same data.
        epoch: number of finished epochs.
        best_epoch: the epoch with the best validation so far, 0 before the first.
        best_value: validation metric of the best epoch.
        curves: the epochs so far.
        warnings: warnings for the user.
        seconds: training time so far.
        parameters, best: parameter values now and at the best epoch.
        optimisers: network -> parameter index -> tensors of Adam.
    """

    recipe: str
    data: str = ""
    epoch: int = 0
    best_epoch: int = 0
    best_value: float = float("-inf")
    curves: list[Epoch] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)
    seconds: float = 0.0
    parameters: dict[str, Tensor] = field(default_factory=dict)
    best: dict[str, Tensor] = field(default_factory=dict)
    optimisers: dict[str, dict[int, dict[str, Tensor]]] = field(default_factory=dict)

    def save(self, path: Path) -> None:
        """Write the file atomically: if the process is killed, the previous checkpoint is still there."""
        tensors = {f"parameters/{name}": value for name, value in self.parameters.items()}
        tensors |= {f"best/{name}": value for name, value in self.best.items()}
        for network, states in self.optimisers.items():
            for index, state in states.items():
                tensors |= {f"optimiser/{network}/{index}/{key}": value for key, value in state.items()}
        metadata = {name: getattr(self, name) for name in _METADATA} | {"curves": to_json(self.curves)}
        contiguous = {name: value.detach().cpu().contiguous() for name, value in tensors.items()}
        with atomic_write(path) as temporary:
            save_file(contiguous, temporary, metadata={"progress": json.dumps(metadata)})

    @classmethod
    def load(cls, path: Path, recipe: str, data: str) -> TrainingState:
        """Read the state of an interrupted run.

        Args:
            path: the checkpoint.
            recipe: the resolved recipe of the run to resume.
            data: fingerprint of its data.

        Raises:
            InputError: the file is damaged, or belongs to another recipe (the message names the first
                difference) or to other data.
        """
        try:
            with safe_open(path, framework="pt") as file:
                metadata = json.loads(file.metadata()["progress"])
                tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        except Exception as error:
            raise InputError(f"{path} is not a checkpoint ({error}); start again without --resume") from None
        changed = recipe_changes(metadata["recipe"], recipe)
        if changed:
            raise InputError(
                f"{path} belongs to another recipe ({changed[0]}); use the same options to resume"
            )
        if metadata["data"] != data:
            raise InputError(f"{path} belongs to other data; resume with the same files, or start a new run")
        curves = json.dumps(metadata.pop("curves"))
        epochs = from_json(tuple[Epoch, ...], curves, str(path))
        state = cls(**metadata | {"recipe": recipe, "curves": list(epochs)})
        for name, value in tensors.items():
            kind, _, rest = name.partition("/")
            if kind == "optimiser":
                network, index, key = rest.split("/")
                state.optimisers.setdefault(network, {}).setdefault(int(index), {})[key] = value
            else:
                getattr(state, kind)[rest] = value
        return state


_METADATA = ("recipe", "data", "epoch", "best_epoch", "best_value", "curves", "warnings", "seconds")


def parameters_of(model: torch.nn.Module) -> dict[str, Tensor]:
    """Return a copy of every parameter by name; buffers (frozen text vectors) are rebuilt from the data."""
    return {name: value.detach().clone() for name, value in model.named_parameters()}


def set_parameters(model: torch.nn.Module, values: Mapping[str, Tensor]) -> None:
    """Copy values into the parameters with the same names."""
    with torch.no_grad():
        for name, value in model.named_parameters():
            value.copy_(values[name])

"""The state of a training run, how it is saved, and whether a run may continue from it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import MappingProxyType
from typing import Any

from safetensors import safe_open
from torch import Tensor

from alterrec import parallel
from alterrec.data.dataset import Dataset
from alterrec.data.repeats import changed_rule
from alterrec.errors import InputError
from alterrec.files import reading
from alterrec.models.base import Recommender
from alterrec.nn.item_encoders import divided_tensors
from alterrec.recipe import (
    SEEN_ITEMS_SCHEMA,
    Recipe,
    changeable_keys,
    dump_recipe,
    recipe_changes,
    recipe_schema,
)
from alterrec.record_json import from_json, to_json
from alterrec.results import Epoch
from alterrec.shards import Shard
from alterrec.tensor_files import CHECKSUM, check_sum, read_tensors, write_tensors

# What a checkpoint holds besides tensors and curves; within an epoch, also ``partial``.
_PROGRESS: Mapping[str, Any] = {
    "recipe": str,
    "data": str,
    "epoch": int,
    "best_epoch": int,
    "best_value": int | float,
    "warnings": list,
    "seconds": int | float,
}
_PARTIAL: Mapping[str, Any] = {"batches": int, "samples": int, "seconds": int | float}
START_AGAIN = "start again without --resume"
# What an optimiser keeps for each row of a table.
_MOMENTS = ("exp_avg", "exp_avg_sq", "sum")


@dataclass(frozen=True)
class PartialEpoch:
    """The state within an epoch, after some of its batches.

    Attributes:
        batches, samples: number of batches and samples so far.
        seconds: training time of the epoch so far.
        losses: summed loss of each batch with samples.
        parameters: parameter values now.
    """

    batches: int
    samples: int
    seconds: float
    losses: Tensor
    parameters: Mapping[str, Tensor]

    def tensors(self) -> dict[str, Tensor]:
        """Return the tensors under the names of the checkpoint."""
        values = {f"partial/parameters/{name}": value for name, value in self.parameters.items()}
        return values | {"partial/losses": self.losses}

    @classmethod
    def of(cls, numbers: Mapping[str, Any], tensors: Mapping[str, Tensor]) -> PartialEpoch:
        """Return the state from the metadata and the tensors of a checkpoint."""
        prefix = "partial/parameters/"
        names = [name for name in tensors if name.startswith(prefix)]
        parameters = {name.removeprefix(prefix): tensors[name] for name in names}
        return cls(**numbers, losses=tensors["partial/losses"], parameters=parameters)


@dataclass(frozen=True)
class TrainingState:
    """The state of a training run after an epoch, or within one.

    Attributes:
        recipe: the resolved recipe as text; a checkpoint can be resumed only with the same recipe, apart from
            :func:`~alterrec.recipe.changeable_keys`.
        data: fingerprint of the data; a checkpoint can be resumed only with the same data.
        epoch: number of finished epochs.
        best_epoch: the epoch with the best validation so far, 0 before the first.
        best_value: validation metric of the best epoch.
        curves: the epochs so far.
        warnings: warnings for the user.
        seconds: training time of the finished epochs.
        parameters, best: parameter values after the last finished epoch and after the best one; the same
            mapping if they are one epoch, so that neither memory nor the file has them twice.
        optimisers: network -> parameter index -> tensors of Adam.
        partial: the state within the next epoch, if it has begun.
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
    partial: PartialEpoch | None = None

    def save(self, path: Path, shards: Mapping[str, Shard] = MappingProxyType({})) -> None:
        """Write the file atomically: if the process is killed, the previous checkpoint is still there.

        Args:
            path: the file; only the first process of a job writes it.
            shards: :func:`checkpoint_shards` of the model. If there are any, all processes save together.
        """
        tensors = {f"parameters/{name}": value for name, value in self.parameters.items()}
        if self.best is not self.parameters:
            tensors |= {f"best/{name}": value for name, value in self.best.items()}
        for network, states in self.optimisers.items():
            for index, state in states.items():
                tensors |= {f"optimiser/{network}/{index}/{key}": value for key, value in state.items()}
        metadata = {name: getattr(self, name) for name in _PROGRESS} | {"curves": to_json(self.curves)}
        if self.partial is not None:
            tensors |= self.partial.tensors()
            metadata["partial"] = {name: getattr(self.partial, name) for name in _PARTIAL}
        write_tensors(path, tensors, {"progress": json.dumps(metadata)}, shards, checksum=True)

    @classmethod
    def load(
        cls, path: Path, recipe: str, data: str, shards: Mapping[str, Shard] = MappingProxyType({})
    ) -> TrainingState:
        """Read the state of an interrupted run.

        Args:
            path: the checkpoint.
            recipe: the resolved recipe of the run to resume.
            data: fingerprint of its data.
            shards: :func:`checkpoint_shards` of the model; other rows of these tensors are not read.

        Raises:
            InputError: the file is damaged, or belongs to another recipe (the message names the first
                difference) or to other data.
        """
        metadata = _checkpoint_metadata(path, recipe, data)
        tensors, _ = read_tensors(path, START_AGAIN, shards)
        partial = metadata.pop("partial", None)
        curves = json.dumps(metadata.pop("curves"))
        epochs = from_json(tuple[Epoch, ...], curves, str(path))
        state = cls(**metadata | {"recipe": recipe, "curves": list(epochs)})
        with reading(path, START_AGAIN):
            for name, value in tensors.items():
                kind, _, rest = name.partition("/")
                if kind == "optimiser":
                    network, index, key = rest.split("/")
                    state.optimisers.setdefault(network, {}).setdefault(int(index), {})[key] = value
                elif kind != "partial":
                    {"parameters": state.parameters, "best": state.best}[kind][rest] = value
            if state.best_epoch == state.epoch > 0 and not state.best:
                state = replace(state, best=state.parameters)
            return replace(state, partial=PartialEpoch.of(partial, tensors)) if partial else state


def checkpoint_shards(model: Recommender) -> dict[str, Shard]:
    """Return the tensors of a checkpoint of which this process has some rows, by their names in the file."""
    found = {
        f"{kind}/{name}": shard
        for name, shard in divided_tensors(model).items()
        for kind in ("parameters", "best", "partial/parameters")
    }
    for network in model.networks:
        shards = divided_tensors(model.network(network))
        for index, (name, _) in enumerate(model.network(network).named_parameters()):
            if name in shards:
                found |= {f"optimiser/{network}/{index}/{key}": shards[name] for key in _MOMENTS}
    return found


def check_checkpoint(path: Path, recipe: Recipe, dataset: Dataset, epochs: int) -> None:
    """Check that a run can continue from a checkpoint, before anything is written.

    Args:
        path: the checkpoint.
        recipe: the resolved recipe of the run to resume.
        dataset: its data.
        epochs: number of epochs of its plan.

    Raises:
        InputError: the file is damaged, or belongs to another recipe or to other data; more epochs than those
            of the plan are trained; or an earlier version wrote it, which treated the items of a prefix in
            another way on these data.
    """
    metadata = _checkpoint_metadata(path, dump_recipe(recipe), dataset.fingerprint)
    if metadata["epoch"] > epochs:
        pretraining = metadata["epoch"] - recipe.schedule.pretrain
        raise InputError(
            f"schedule.epochs is {recipe.schedule.epochs}, but {pretraining} epochs are trained already; use "
            f"{pretraining} or more to resume, or start a new run"
        )
    if recipe_schema(metadata["recipe"]) >= SEEN_ITEMS_SCHEMA:
        return
    changed = changed_rule(recipe.data.exclude_seen, dataset.train, dataset.valid, recipe.data.targets)
    if changed:
        raise InputError(
            f"{path} was written by an earlier version of alterrec. With data.exclude_seen = "
            f"{recipe.data.exclude_seen} on these data, {changed}. Start again in a new folder without "
            "--resume, or finish the run with the version that began it"
        )


def checkpoint_epochs(path: Path) -> tuple[Epoch, ...]:
    """Return the finished epochs of a checkpoint; InputError if it is damaged."""
    return from_json(tuple[Epoch, ...], json.dumps(_read_metadata(path)["curves"]), str(path))


def check_same_recipe(old: str, new: str, where: Path) -> None:
    """Raise InputError if a run may not resume with a recipe, because a field that decides results differs.

    Args:
        old: the recipe as text with which the run began.
        new: the recipe with which it would resume.
        where: the file or folder to name in the message.
    """
    try:
        changed = recipe_changes(old, new, but=changeable_keys())
    except InputError as error:
        raise InputError(f"{where}: {error}; start a new run") from None
    if changed:
        raise InputError(
            f"{where} belongs to another recipe ({changed[0]}); use the same options to resume. Only "
            f"{', '.join(sorted(changeable_keys()))} may change"
        )


def _read_metadata(path: Path) -> dict[str, Any]:
    if not path.exists():
        raise InputError(f"there is no checkpoint {path}; {START_AGAIN}")
    with reading(path, START_AGAIN):
        with safe_open(path, framework="pt") as file:
            texts = file.metadata()
        if texts.keys() - {CHECKSUM} != {"progress"}:
            raise ValueError("its metadata have other names")
        metadata: dict[str, Any] = json.loads(texts["progress"])
        if metadata.keys() - {"partial"} != {*_PROGRESS, "curves"}:
            raise ValueError("its progress has other fields")
        for values, kinds in ((metadata, _PROGRESS), (metadata.get("partial"), _PARTIAL)):
            if values is not None:
                _check_kinds(values, kinds)
    return metadata


def _check_kinds(values: Mapping[str, Any], kinds: Mapping[str, Any]) -> None:
    for name, kind in kinds.items():
        if not isinstance(values[name], kind):
            raise ValueError(f"its {name} is of another type")


def _checkpoint_metadata(path: Path, recipe: str, data: str) -> dict[str, Any]:
    """Return everything but the tensors; InputError if the file is damaged or belongs to another run."""
    metadata = _read_metadata(path)
    if parallel.job().is_first:
        check_sum(path, START_AGAIN)
    check_same_recipe(metadata["recipe"], recipe, path)
    if metadata["data"] != data:
        raise InputError(f"{path} belongs to other data; resume with the same files, or start a new run")
    return metadata

"""Rebuild the system of a run folder from its tensors and metadata, which may be those of another run.

Nothing is allocated by sizes that only the recipe names: the tensors are compared with a model without memory
before the model is built.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import Field, TypeAdapter
from torch import Tensor

from alterrec.data.repeats import RepeatModel, SeenItems
from alterrec.errors import InputError
from alterrec.files import first_line, parse_json
from alterrec.graphs import Adjacency
from alterrec.models.base import Recommender, RepeatScale, Scorer
from alterrec.models.batches import SessionBatch
from alterrec.models.catalogue import lookup
from alterrec.models.gate import FEATURES, Gate
from alterrec.models.neighbours import NeighbourLists, Trend, Untrained
from alterrec.models.parts import ModelInputs
from alterrec.nn.item_encoders import IdTable, TextItems
from alterrec.recipe import Recipe
from alterrec.shards import Shard
from alterrec.tensor_files import names_in

# The fields of a gate but its parts, which are metadata.
GATE_TENSORS = Gate._fields[1:]
# The parts of a sum that are not trained. Item-kNN and co-visitation are both stored as lists of neighbours.
UNTRAINED_PARTS: Mapping[str, type[NeighbourLists | Trend]] = {
    "neighbours": NeighbourLists,
    "trend": Trend,
}

Number = Annotated[float, Field(allow_inf_nan=False)]
_WEIGHTS = TypeAdapter(dict[str, Number])
_SCALES = TypeAdapter(dict[str, tuple[Annotated[Number, Field(gt=0)], Number]])
_GATE_PARTS = TypeAdapter(tuple[str, ...])
_SEEN = TypeAdapter[SeenItems](Literal["kept", "excluded", "repeats"])
_EXCLUDE_SEEN = TypeAdapter(bool)


def check_device(name: str) -> None:
    """Check that a device of torch can compute; InputError if it cannot.

    Example:
        >>> check_device("cpu")
    """
    try:
        torch.zeros(1, device=name).item()
    # Names, drivers and builds fail in different ways; a name of a build that is absent fails on import.
    except (RuntimeError, AssertionError, ValueError, OverflowError, ImportError) as error:
        raise InputError(
            f"run.device is {name!r}, which cannot be used ({first_line(error)}); use cpu, or a device of "
            "this machine"
        ) from None


def shards_in(file: Path, shard: Shard) -> dict[str, Shard]:
    """Return the tensors of ``model.safetensors`` of which a process keeps some rows, with these rows."""
    return {name: shard for name in names_in(file) if name.endswith((IdTable.divided, TextItems.divided))}


class StoredModel:
    """The content of ``model.safetensors``.

    Args:
        file: its path, for messages.
        tensors: its tensors.
        metadata: its metadata: weights, the rule for seen items, scales and the parts of a gate, as JSON.
        shard: the rows of item tables in ``tensors``; None: all.
    """

    def __init__(
        self,
        file: Path,
        tensors: Mapping[str, Tensor],
        metadata: Mapping[str, str],
        shard: Shard | None = None,
    ) -> None:
        self.file = file
        self.tensors = tensors
        self.metadata = metadata
        self.shard = shard

    def under(self, prefix: str) -> dict[str, Tensor]:
        """Return the tensors whose names start with ``prefix``, under the rest of their names."""
        return {
            name.removeprefix(prefix): value
            for name, value in self.tensors.items()
            if name.startswith(prefix)
        }

    def seen(self) -> SeenItems:
        """Return the rule for seen items; earlier versions wrote whether they are excluded."""
        if "seen" in self.metadata or "exclude_seen" not in self.metadata:
            rule: SeenItems = self._value("seen", _SEEN)
            return rule
        return "excluded" if self._value("exclude_seen", _EXCLUDE_SEEN) else "kept"

    def repeats(self) -> RepeatModel | None:
        """Return the repeat component, None if there is none."""
        found = self.under("repeats/")
        if not found:
            self._require(self.seen() != "repeats", "has no repeat component, but its rule needs it")
            return None
        rates_B, weights_B = (found[name].numpy() for name in ("rates", "weights"))
        sound = rates_B.ndim == 1 and len(rates_B) > 0 and rates_B.shape == weights_B.shape
        sound = sound and all(values.dtype == np.float64 for values in (rates_B, weights_B))
        sound = sound and bool((rates_B >= 0).all() and (rates_B <= 1).all() and (weights_B > 0).all())
        self._require(sound, "has rates or weights of repeats that are no probabilities")
        return RepeatModel(rates_B, weights_B)

    def model(self, recipe: Recipe, trained: NDArray[np.bool_]) -> Scorer:
        """Return the system, ready to score.

        Raises:
            InputError: the tensors or the metadata are not those of a model of this recipe and catalogue.
                Errors of other types occur where tensors differ in ways that are not checked here.
        """
        entry = lookup(recipe.model_name)
        if entry.trains:
            model: Scorer = self._recommender(recipe, trained)
            assert isinstance(model, Recommender)
            systems = list(model.untrained.values())
        else:
            model = entry.restore(self.under("untrained/"))
            systems = [model]
        self._check_catalogue(systems, len(trained))
        model.removed = self._removed(len(trained))
        weights = self._value("weights", _WEIGHTS)
        known = {*model.weights, *(model.untrained if isinstance(model, Recommender) else ())}
        self._require(bool(weights) and weights.keys() <= known, "has weights of parts that the model lacks")
        model.weights.clear()
        model.weights.update(weights)
        if "scales" in self.metadata:
            scales = self._value("scales", _SCALES)
            model.scales = {view: RepeatScale(*scale) for view, scale in scales.items()}
        if isinstance(model, Recommender) and "gate" in self.metadata:
            model.gate = self._gate(len(trained), model)
        return model

    def _recommender(self, recipe: Recipe, trained: NDArray[np.bool_]) -> Recommender:
        entry, state = lookup(recipe.model_name), self.under("model/")
        vectors, categories, offsets, ids = (
            next((value for name, value in state.items() if name.endswith(buffer)), None)
            for buffer in ("vectors_VF", "categories_VCK", "edge_offsets", "edge_ids")
        )
        graph = None if offsets is None or ids is None else Adjacency(offsets.numpy(), ids.numpy())
        with torch.random.fork_rng(devices=[]):
            items = ModelInputs(
                len(trained),
                vectors,
                torch.from_numpy(trained.copy()),
                categories_VCK=categories,
                graph=graph,
                shard=self.shard,
            )
            with torch.device("meta"):
                self._compare(state, entry.build(recipe, items).state_dict())
            model = entry.build(recipe, items)
        model.load_state_dict(state)
        for part, kind in UNTRAINED_PARTS.items():
            if own := self.under(f"{part}/"):
                model.untrained[part] = kind.from_tensors(own)
        return model.to(recipe.run.device).eval()

    def _compare(self, state: Mapping[str, Tensor], expected: Mapping[str, Any]) -> None:
        missing, further = sorted(expected.keys() - state.keys()), sorted(state.keys() - expected.keys())
        self._require(not missing, f"has no tensor {missing[:1]}, which the recipe's model has")
        self._require(not further, f"has the tensor {further[:1]}, which the recipe's model lacks")
        for name, value in state.items():
            found, wanted = ((tuple(each.shape), each.dtype) for each in (value, expected[name]))
            self._require(
                found == wanted,
                f"has {name} of shape {found[0]} and {found[1]}, but the recipe's model has shape "
                f"{wanted[0]} and {wanted[1]}",
            )

    def _check_catalogue(self, systems: list[Any], num_items: int) -> None:
        batch = SessionBatch.of_prefixes(
            torch.zeros(1, 1, dtype=torch.int64), torch.ones(1, dtype=torch.int64)
        )
        for system in systems:
            assert isinstance(system, Untrained)
            with torch.inference_mode():
                found = system.scores(batch).shape[1]
            self._require(found == num_items, f"scores {found} items, but the catalogue has {num_items}")

    def _gate(self, num_items: int, model: Recommender) -> Gate:
        parts = self._value("gate", _GATE_PARTS)
        fields = self.under("gate/")
        gate = Gate(parts, *(fields[name] for name in GATE_TENSORS))
        features = len(FEATURES)
        shapes = [(len(parts), features), (features,), (features,), (num_items,)]
        sound = [tuple(value.shape) for value in gate[1:]] == shapes and bool((gate.spread_F > 0).all())
        self._require(sound and {*parts} <= model.weights.keys(), "has a gate that does not fit the model")
        return gate

    def _removed(self, num_items: int) -> Tensor | None:
        removed = self.tensors.get("removed")
        if removed is not None:
            found = removed.numpy()
            sound = found.dtype == np.int64 and 0 < len(np.unique(found)) == found.size < num_items
            sound = sound and bool((found >= 0).all() and (found < num_items).all())
            self._require(sound, "has removed items that are not in the catalogue")
        return removed

    def _value(self, name: str, kind: TypeAdapter[Any]) -> Any:
        self._require(name in self.metadata, f"has no {name} in its metadata")
        return parse_json(kind, self.metadata[name], f"{self.file}, {name},")

    def _require(self, sound: bool, what: str) -> None:
        if not sound:
            raise InputError(f"{self.file} {what}; copy the folder again or repeat the run")

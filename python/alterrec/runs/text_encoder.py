"""The text encoder of a run: how its items' texts became vectors, kept so that further items can be encoded.

Legend: V items, F columns of text vectors.
"""

from __future__ import annotations

import json
import time
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import TypeAdapter

from alterrec.data.dataset import Dataset, ItemText
from alterrec.data.lsa import LsaSpace
from alterrec.data.text import (
    column_scale,
    encoded_fields,
    lsa_space,
    standardised,
    text_vectors,
    without_words,
)
from alterrec.errors import InputError
from alterrec.files import parse_json, reading
from alterrec.nn.vector_statistics import linear_map, whitening
from alterrec.progress import Event, Listener, ignore
from alterrec.recipe import Recipe
from alterrec.tensor_files import read_tensors, write_tensors

# The file of a run folder.
ENCODER = "encoder.safetensors"
# Seconds between two messages about the encoding of texts.
MESSAGE_EVERY = 10

_NAMES = TypeAdapter(tuple[str, ...])


@dataclass(frozen=True, eq=False)
class TextEncoder:
    """How the texts of a run's items became the vectors that its model reads.

    Attributes:
        recipe: the recipe of the run, which names the encoder.
        columns: the text columns of its items, in the order in which their texts are joined.
        fields: those of them that are encoded; empty if vectors were given in place of texts.
        space: the fitted space of ``lsa``; None with other encoders.
        mean_F: float64 mean of each column of the vectors, which is subtracted; None if vectors are read as
            they are, or are of half precision, which the model scales itself.
        scale: float64 deviations (F,) by which columns are divided, 0 for constant ones; or the matrix (F, F)
            that whitens.
    """

    recipe: Recipe
    columns: tuple[str, ...]
    fields: tuple[str, ...]
    space: LsaSpace | None = field(default=None, repr=False)
    mean_F: NDArray[np.float64] | None = field(default=None, repr=False)
    scale: NDArray[np.float64] | None = field(default=None, repr=False)

    @classmethod
    def fit(cls, dataset: Dataset, recipe: Recipe, progress: Listener = ignore) -> tuple[TextEncoder, Any]:
        """Fit the encoder of a run to its data; return it and the vectors (V, F) that the model reads.

        Raises:
            InputError: the data have neither vectors nor texts that can be encoded.
        """
        text = dataset.text
        columns = () if text is None else tuple(text.fields)
        if dataset.vectors is not None:
            encoder, vectors = cls(recipe, columns, ()), dataset.vectors
        else:
            assert text is not None
            fields = encoded_fields(text, recipe.data.text_fields)
            space = None
            if recipe.text.encoder == "lsa":
                space = lsa_space(text, fields=fields, truncate_dim=recipe.text.truncate_dim or None)
            encoder = cls(recipe, columns, fields, space)
            vectors = encoder.encode(text, progress)
        encoder = encoder._scaled_to(vectors)
        return encoder, encoder.prepared(vectors)

    def _scaled_to(self, vectors: NDArray[np.floating]) -> TextEncoder:
        text, half = self.recipe.text, vectors.dtype == np.float16
        if text.whiten:
            given = torch.from_numpy(vectors if half else np.array(vectors, np.float32))
            mean_F, scale = (values.numpy() for values in whitening(given))
        elif half or not text.standardise:
            return self
        else:
            mean_F, scale = column_scale(np.array(vectors, np.float32))
        return replace(self, mean_F=mean_F, scale=scale)

    def of(self, dataset: Dataset, progress: Listener = ignore) -> tuple[TextEncoder, NDArray[np.floating]]:
        """Return the encoder of a run that continues on other data, and their vectors (V, F) for the model.

        Raises:
            InputError: the data lack a text column, or vectors.
        """
        text = dataset.text
        if not self.fields:
            if dataset.vectors is None:
                raise InputError(
                    f"the run that continues was trained with vectors in place of texts, but {dataset.name} "
                    "has none; give them with --set data.vectors=FILE"
                )
            vectors = dataset.vectors
        else:
            missing = [name for name in self.fields if text is None or name not in text.fields]
            if missing or text is None:
                raise InputError(
                    f"{dataset.name} has no text column {missing[0]!r}, which the run that continues was "
                    "trained on; add it"
                )
            vectors = self.encode(text, progress)
            choices = self.recipe.text
            if self.mean_F is None and choices.standardise and not choices.whiten:
                # The model scales vectors of half precision only.
                vectors = vectors.astype(np.float16, copy=False)
        columns = () if text is None else tuple(text.fields)
        return replace(self, columns=columns), self.prepared(vectors)

    def encode(self, text: ItemText, progress: Listener = ignore) -> NDArray[np.floating]:
        """Return the vectors (V, F) of texts as the encoder gives them; an item without text has zeros.

        Args:
            text: texts of any items, with the columns ``fields``.
            progress: gets messages.
        """
        return encode(
            ItemText({name: text.fields[name] for name in self.fields}), self.recipe, progress, self.space
        )

    def encode_shortened(self, text: ItemText, progress: Listener) -> NDArray[np.floating]:
        """Return the vectors of texts from which some words are removed."""
        kept = ItemText({name: text.fields[name] for name in self.fields})
        return encode(kept, self.recipe, progress, self.space, of=without_words(kept))

    def prepared(self, vectors: NDArray[np.floating]) -> NDArray[np.floating]:
        """Return vectors (V, F) as the model reads them, scaled as those that the encoder was fitted to.

        Whitened ones are a copy in memory. Otherwise, vectors of half precision stay where they are, in a
        mapped file, and the model standardises them on the way; others are float32.
        """
        if self.recipe.text.whiten:
            assert self.mean_F is not None
            assert self.scale is not None
            given = torch.from_numpy(
                vectors if vectors.dtype == np.float16 else np.array(vectors, np.float32)
            )
            white: NDArray[np.floating] = linear_map(
                given, torch.from_numpy(self.mean_F), torch.from_numpy(self.scale)
            ).numpy()
            return white
        if self.mean_F is None or self.scale is None:
            return vectors if vectors.dtype == np.float16 else np.array(vectors, np.float32)
        return standardised(np.array(vectors, np.float32), self.mean_F, self.scale)

    def write(self, run: Path) -> None:
        """Write ``encoder.safetensors`` in a run folder."""
        tensors: dict[str, NDArray[Any]] = {}
        if self.space is not None:
            tensors |= {f"lsa/{name}": value for name, value in self.space.tensors().items()}
        if self.mean_F is not None and self.scale is not None:
            tensors |= {"mean": self.mean_F, "scale": self.scale}
        write_tensors(
            run / ENCODER,
            {name: torch.from_numpy(np.array(value)) for name, value in tensors.items()},
            {"columns": json.dumps(self.columns), "fields": json.dumps(self.fields)},
        )

    @classmethod
    def read(cls, run: Path, recipe: Recipe) -> TextEncoder:
        """Read the encoder of a run.

        Raises:
            InputError: the run has none, because an earlier version wrote it or because it reads no texts; or
                the file is damaged.
        """
        path = run / ENCODER
        if not path.exists():
            raise InputError(
                f"{run} has no {ENCODER}, which encodes texts of further items: its system reads no text, or "
                "an earlier version of alterrec wrote it; repeat the run"
            )
        tensors, metadata = read_tensors(path)
        with reading(path):
            columns, fields = (
                parse_json(_NAMES, metadata[name], f"{path}, {name},") for name in ("columns", "fields")
            )
            own = {
                name.removeprefix("lsa/"): value.numpy()
                for name, value in tensors.items()
                if name.startswith("lsa/")
            }
            space = LsaSpace.from_tensors(own) if own else None
            mean_F, scale = (tensors[name].numpy() if name in tensors else None for name in ("mean", "scale"))
        return cls(recipe, columns, fields, space, mean_F, scale)


def encode(
    text: ItemText,
    recipe: Recipe,
    progress: Listener,
    space: LsaSpace | None = None,
    *,
    of: ItemText | None = None,
) -> NDArray[np.floating]:
    """Encode item texts with the encoder of a recipe; ``of``: encode these texts instead."""
    last = time.monotonic()

    def report(done: int, total: int) -> None:
        nonlocal last
        if time.monotonic() - last > MESSAGE_EVERY:
            last = time.monotonic()
            progress(Event("notice", f"encoded {done} of {total} texts"))

    vectors = text_vectors(
        text,
        recipe.text.encoder,
        fields=recipe.data.text_fields or None,
        device=recipe.run.device,
        batch_size=recipe.text.encode_batch,
        prompt=recipe.text.prompt or None,
        truncate_dim=recipe.text.truncate_dim or None,
        of=of,
        space=space,
        progress=report,
        say=lambda sentence: progress(Event("notice", sentence)),
    )
    if recipe.text.truncate_dim > vectors.shape[1]:
        raise InputError(
            f"text.truncate_dim is {recipe.text.truncate_dim}, but {recipe.text.encoder} gives vectors of "
            f"{vectors.shape[1]} columns for these {len(vectors)} items; use at most {vectors.shape[1]}, or 0"
        )
    return vectors

"""Build the model of a recipe for a data set: encode item texts and collect what the model needs to know."""

from __future__ import annotations

import time

import numpy as np
import torch
from numpy.typing import NDArray

from alterrec.data.dataset import Dataset, ItemText, category_ids
from alterrec.data.text import standardise, text_vectors, without_words
from alterrec.errors import InputError
from alterrec.models.base import Recommender
from alterrec.models.catalogue import build_model, lookup, reads_text
from alterrec.models.parts import ModelInputs
from alterrec.nn.item_encoders import whitened
from alterrec.progress import Event, Listener
from alterrec.recipe import Recipe
from alterrec.runs.pretrained import start_from

# Seconds between two messages about the encoding of texts.
MESSAGE_EVERY = 10


def build(recipe: Recipe, dataset: Dataset, progress: Listener) -> Recommender | None:
    """Return the untrained model, or None for a non-neural baseline."""
    entry = lookup(recipe.model_name)
    if not entry.trains:
        return None
    vectors = dataset.vectors if reads_text(recipe) else None
    if reads_text(recipe) and vectors is None and dataset.text is not None:
        progress(Event("notice", f"encoding item text with {recipe.text.encoder}"))
        vectors = encode(dataset.text, recipe, progress)
    shortened = None
    if entry.reads_shortened and recipe.schedule.pretrain:
        shortened = _encode_shortened(dataset, recipe, progress)
    if shortened is not None:
        shortened = _prepared(shortened, recipe, like=vectors)
    if vectors is not None:
        vectors = _prepared(vectors, recipe)
    categories = None
    if entry.reads_categories and dataset.text is not None:
        categories = category_ids(dataset.text, recipe.data.categories)
    inputs = ModelInputs(
        dataset.num_items,
        None if vectors is None else torch.from_numpy(vectors),
        torch.from_numpy(dataset.trained.copy()),
        train=dataset.train,
        categories_VCK=None if categories is None else torch.from_numpy(categories),
        shortened_VF=None if shortened is None else torch.from_numpy(shortened),
    )
    return build_model(recipe, inputs).to(recipe.run.device)


def load_pretrained(model: Recommender | None, recipe: Recipe, dataset: Dataset, progress: Listener) -> None:
    """Give the model the weights of ``model.init_from``."""
    if model is None:
        raise InputError(
            f"model.init_from is set, but {recipe.model_name} is not trained; choose a neural system or "
            "unset model.init_from"
        )
    start_from(recipe.model.init_from, model, recipe)
    if recipe.text.encoder == "lsa" and dataset.vectors is None:
        message = (
            "lsa is fitted to each data set, so the pretrained weights see other text vectors here; choose a "
            "sentence encoder (text.encoder) to have the same vectors in both runs"
        )
        progress(Event("notice", message))
    if recipe.text.whiten:
        message = (
            "text vectors are whitened on each data set by itself, so the pretrained weights see other text "
            "vectors here; set text.whiten=false to have the same vectors in both runs"
        )
        progress(Event("notice", message))


def _prepared(
    vectors: NDArray[np.floating], recipe: Recipe, like: NDArray[np.floating] | None = None
) -> NDArray[np.floating]:
    """Return text vectors as the model reads them.

    Whitened ones are a copy in memory. Otherwise, vectors of half precision stay where they are, in a mapped
    file, and the model standardises them on the way; others are converted to float32 and standardised.
    """
    if recipe.text.whiten:
        given = torch.from_numpy(vectors if vectors.dtype == np.float16 else np.array(vectors, np.float32))
        white: NDArray[np.floating] = whitened(
            given, None if like is None else torch.from_numpy(like)
        ).numpy()
        return white
    if vectors.dtype == np.float16:
        return vectors
    single = np.array(vectors, np.float32)
    if not recipe.text.standardise:
        return single
    return standardise(single, None if like is None else np.asarray(like, np.float32))


def _encode_shortened(dataset: Dataset, recipe: Recipe, progress: Listener) -> NDArray[np.floating] | None:
    if dataset.vectors is not None or dataset.text is None:
        progress(Event("notice", "text vectors are given, so pretraining drops items but no words"))
        return None
    progress(Event("notice", f"encoding item text without some of its words with {recipe.text.encoder}"))
    return encode(dataset.text, recipe, progress, of=without_words(dataset.text))


def encode(
    text: ItemText, recipe: Recipe, progress: Listener, of: ItemText | None = None
) -> NDArray[np.floating]:
    """Return the vectors of item texts by the encoder of a recipe; ``of`` replaces the texts."""
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
        progress=report,
        say=lambda sentence: progress(Event("notice", sentence)),
    )
    if recipe.text.truncate_dim > vectors.shape[1]:
        raise InputError(
            f"text.truncate_dim is {recipe.text.truncate_dim}, but {recipe.text.encoder} gives vectors of "
            f"{vectors.shape[1]} columns for these {len(vectors)} items; use at most {vectors.shape[1]}, or 0"
        )
    return vectors

"""Build the model of a recipe for a data set: encode item texts and collect what the model needs to know."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from alterrec import parallel
from alterrec.data.dataset import Dataset, category_ids
from alterrec.errors import InputError
from alterrec.models.base import Recommender
from alterrec.models.catalogue import build_model, check_inputs, division_problem, lookup, reads_text
from alterrec.models.parts import ModelInputs
from alterrec.progress import Event, Listener
from alterrec.recipe import Recipe
from alterrec.runs.continued import continue_run
from alterrec.runs.pretrained import start_from
from alterrec.runs.text_encoder import TextEncoder
from alterrec.shards import Shard


def build(
    recipe: Recipe,
    dataset: Dataset,
    progress: Listener,
    plan: Callable[[Recommender, int], object] = lambda model, further: None,
) -> tuple[Recommender | None, TextEncoder | None]:
    """Return the untrained model, None for a non-neural baseline; and its text encoder, if it reads texts.

    Args:
        recipe: the resolved recipe.
        dataset: the data.
        progress: called with remarks about the encoding of texts.
        plan: raises InputError for a model that does not fit into memory, of which so many further bytes are
            still to be allocated. Its item tables are then divided among the processes of the job, if there
            are several.
    """
    entry = lookup(recipe.model_name)
    if not entry.trains:
        return None, None
    vectors = shortened = encoder = None
    if reads_text(recipe) and (dataset.vectors is not None or dataset.text is not None):
        if dataset.vectors is None:
            progress(Event("notice", f"encoding item text with {recipe.text.encoder}"))
        if recipe.model.continues:
            earlier = TextEncoder.read(Path(recipe.model.continues), recipe)
            encoder, vectors = earlier.of(dataset, progress)
        else:
            encoder, vectors = TextEncoder.fit(dataset, recipe, progress)
        if entry.reads_shortened and recipe.schedule.pretrain:
            shortened = _encode_shortened(encoder, dataset, progress)
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
    check_inputs(recipe, inputs)
    if parallel.from_first(lambda: _divides_tables(recipe, inputs, plan)):
        inputs = replace(inputs, shard=Shard.own(dataset.num_items))
        most = max(each.size for each in Shard.of_each(dataset.num_items))
        processes = parallel.job().world
        progress(
            Event("plan", f"item tables are divided among {processes} processes: up to {most} rows each")
        )
    return build_model(recipe, inputs).to(recipe.run.device), encoder


def _divides_tables(recipe: Recipe, inputs: ModelInputs, plan: Callable[[Recommender, int], object]) -> bool:
    """Whether processes divide item tables: because the recipe says so, or because they do not fit."""
    if recipe.run.shard_items or not recipe.run.memory_budget or parallel.job().world == 1:
        return recipe.run.shard_items and parallel.job().world > 1
    vectors = inputs.vectors_VF
    with torch.device("meta"), torch.random.fork_rng(devices=[]):
        outline = replace(inputs, vectors_VF=None if vectors is None else vectors.to("meta"))
        model = lookup(recipe.model_name).build(recipe, outline)
    try:
        plan(model, sum(value.numel() * value.element_size() for value in model.parameters()))
    except InputError:
        return not division_problem(model, recipe)
    return False


def load_weights(model: Recommender | None, recipe: Recipe, dataset: Dataset, progress: Listener) -> None:
    """Give the model the weights of ``model.continues`` or of ``model.init_from``, if there are any."""
    if recipe.model.continues and model is not None:
        continue_run(model, recipe, dataset, progress)
    if not recipe.model.init_from:
        return
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


def _encode_shortened(
    encoder: TextEncoder, dataset: Dataset, progress: Listener
) -> NDArray[np.floating] | None:
    if dataset.vectors is not None or dataset.text is None:
        progress(Event("notice", "text vectors are given, so pretraining drops items but no words"))
        return None
    name = encoder.recipe.text.encoder
    progress(Event("notice", f"encoding item text without some of its words with {name}"))
    return encoder.prepared(encoder.encode_shortened(dataset.text, progress))

"""Continue a finished run on other sessions and items: its last settings, and its weights by item id."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from alterrec.data.dataset import Dataset
from alterrec.errors import InputError
from alterrec.files import read_text
from alterrec.models.catalogue import lookup
from alterrec.models.reads import check_read
from alterrec.progress import Event, Listener
from alterrec.recipe import Recipe, load_recipe, recipe_fields, resolve
from alterrec.record_json import from_json
from alterrec.results import Epoch

if TYPE_CHECKING:
    from alterrec.models.base import Recommender

# The share of the epochs of the run that it is continued for.
SHARE = 1 / 3
# State that belongs to the items of a data set, and is built from it.
_OF_DATA = ("vectors_VF", "cold_V")


def continued_recipe(
    run: Path, model: str | None, presets: Sequence[str], overrides: Mapping[str, Any]
) -> Recipe:
    """Return the recipe with which a run continues: its own, from where its schedule ended.

    There is no warm-up and no pretraining, learning rates are those of the last epochs, and there are a third
    as many epochs. A run that was continued itself is continued in the same way again.

    Args:
        run: the folder of the run.
        model: name of the system that the user asks for; None for that of the run.
        presets: presets that the user asks for besides the default.
        overrides: the user's overrides.

    Raises:
        InputError: it is no finished run of a trained system, the system is another one, presets are given,
            or an override is not read.
    """
    if not (run / "recipe.toml").is_file() or not (run / "model.safetensors").is_file():
        raise InputError(f"{run} is not a finished run; give the folder that training printed last")
    recipe = load_recipe(run / "recipe.toml")
    name = recipe.model_name
    if model not in (None, name):
        raise InputError(f"{run} is a run of {name}, but the model is {model!r}; leave the model out")
    if presets:
        raise InputError("--preset is given, but a run continues with its own settings; leave it out")
    if not lookup(name).trains:
        raise InputError(f"{name} is counted, not trained; fit it again to the new sessions")
    entry = lookup(name)
    if entry.reads_users or any(recipe.value(key) != "text" for key in entry.text_unless):
        raise InputError(
            f"{name} learns rows of {'users' if entry.reads_users else 'categories'}, whose numbers depend "
            "on the data, so it cannot be continued; train it again"
        )
    settings = _flat(recipe) | {"model.continues": str(run), "model.init_from": "", "schedule.pretrain": 0}
    if not recipe.model.continues:
        settings |= _at_the_end(run, recipe)
    found = resolve(name, recipe.presets, {**settings, **overrides})
    check_read(found, overrides)
    return found


def _flat(recipe: Recipe) -> dict[str, Any]:
    """The values of all keys; texts are quoted, because an override that is a text is parsed as TOML."""
    found = {}
    for key in recipe_fields():
        value = recipe.value(key)
        if value is not None:
            found[key] = json.dumps(value) if isinstance(value, str) else value
    return found


def _at_the_end(run: Path, recipe: Recipe) -> dict[str, Any]:
    """Return the settings in which the end of a run differs from its beginning."""
    lines = read_text(run / "curves.jsonl").splitlines()
    epochs = [from_json(Epoch, line, str(run / "curves.jsonl")) for line in lines]
    networks = lookup(recipe.model_name).networks
    found: dict[str, Any] = {
        "schedule.warmup": 0,
        "schedule.epochs": max(round(SHARE * recipe.schedule.epochs), recipe.schedule.gap * len(networks)),
    }
    for table in networks:
        own = getattr(recipe, table)
        trained = table if len(networks) > 1 else "model"
        objective = recipe.schedule.objective
        done = sum(each.trained == trained and each.objective == objective for each in epochs)
        every = own.decay_every or recipe.optim.decay_every
        rate = own.lr or recipe.optim.lr
        found[f"{table}.lr"] = rate * recipe.optim.decay ** (max(done - 1, 0) // every)
    return found


def continue_run(model: Recommender, recipe: Recipe, dataset: Dataset, progress: Listener) -> None:
    """Give a model the weights of the run that it continues; rows of items by their ids.

    Rows of items that the run was not trained on are the mean of the trained items with the nearest texts,
    or as drawn if the system reads no texts.

    Raises:
        InputError: the run has other sizes, or none of its items is in the data.
    """
    # Not before torch is needed: settings and data are checked first.
    import torch

    from alterrec.models.growth import item_parameters, nearest_items, text_items_of
    from alterrec.runs.inputs import read_catalogue
    from alterrec.tensor_files import read_tensors

    known = read_catalogue(recipe.model.continues)
    tensors, _ = read_tensors(known.path / "model.safetensors")
    state = {
        name.removeprefix("model/"): value for name, value in tensors.items() if name.startswith("model/")
    }
    number_V = known.vocabulary.find(dataset.vocabulary.item_ids)
    kept_V = (number_V >= 0) & known.trained[number_V]
    if not kept_V.any():
        raise InputError(
            f"none of the items of {dataset.name} was trained in {known.path}, whose ids are such as "
            f"{known.vocabulary.item_ids[0]!r}; give data with the same ids"
        )
    by_item = set(item_parameters(model))
    own = model.state_dict()
    for name, value in own.items():
        if name.rpartition(".")[2] in _OF_DATA:
            continue
        given = state.get(name)
        rows = slice(1, None) if name in by_item else slice(None)
        if given is None or given.shape[rows] != value.shape[rows]:
            found = "no such tensor" if given is None else f"shape {tuple(given.shape)}"
            raise InputError(
                f"{known.path} cannot be continued with these settings and data: {name} has {found} there, "
                f"and shape {tuple(value.shape)} here; continue it with its own settings"
            )
        if name not in by_item:
            value.copy_(given)
    places = torch.from_numpy(np.flatnonzero(kept_V))
    sources = torch.from_numpy(number_V[kept_V])
    for name in by_item:
        own[name][places] = state[name][sources].to(own[name])
    new_V = np.flatnonzero(~kept_V)
    text = text_items_of(model)
    how = "as drawn"
    if text is not None and len(new_V):
        how = "means of those with the nearest texts"
        with torch.inference_mode():
            table_VD = text.eval().encode(text.vectors_VF).cpu()
        near_NV = nearest_items(table_VD, table_VD[torch.from_numpy(new_V)], kept_V)
        for name in by_item:
            mean = near_NV @ own[name].detach().cpu().double().numpy().reshape(len(kept_V), -1)
            own[name][torch.from_numpy(new_V)] = (
                torch.from_numpy(mean).to(own[name]).reshape(len(new_V), *own[name].shape[1:])
            )
        text.train()
    unseen = int((kept_V & ~dataset.trained).sum())
    if unseen:
        progress(
            Event(
                "notice",
                f"{unseen} items that {known.path} was trained on are in no training session of "
                f"{dataset.name}, so they count as items without training, and item neighbours do not know "
                "them; give all sessions that a new run would be trained on, not the latest ones alone",
            )
        )
    gone = len(known.vocabulary) - int((number_V >= 0).sum())
    progress(
        Event(
            "notice",
            f"continuing {recipe.model_name} from {known.path}: {int(kept_V.sum())} items keep their rows, "
            f"{len(new_V)} rows of further items are {how}, {gone} items are gone",
        )
    )

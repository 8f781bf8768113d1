"""Every system of the catalogue, small and untrained."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from worlds import NUM_ITEMS, small_dataset, text_like_vectors

from alterrec.models.base import Recommender, Scorer
from alterrec.models.catalogue import build_model, lookup
from alterrec.models.parts import ModelInputs
from alterrec.recipe import resolve

SMALL = {"model.dim": 8, "window.first": 1, "window.last": 0.2}


def built(
    name: str,
    presets: tuple[str, ...] = ("best",),
    trained: torch.Tensor | None = None,
    settings: Mapping[str, str] | None = None,
    **dropout: float,
) -> Recommender:
    torch.manual_seed(0)
    trained = torch.ones(NUM_ITEMS, dtype=torch.bool) if trained is None else trained
    items = ModelInputs(
        NUM_ITEMS,
        torch.from_numpy(text_like_vectors()),
        trained,
        train=small_dataset(users=9).train,
        categories_VCK=torch.arange(NUM_ITEMS)[:, None, None] % 5,
    )
    own = {f"{table}.dropout": value for table, value in dropout.items()}
    return build_model(resolve(name, presets, {**SMALL, **(settings or {}), **own}), items).eval()


def system(name: str) -> Scorer:
    entry = lookup(name)
    return built(name) if entry.trains else next(entry.candidates(small_dataset().train))

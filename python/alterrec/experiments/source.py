"""The data of a run, read as its recipe asks; needs no torch."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from alterrec.data.dataset import Dataset
from alterrec.data.readers import load_dataset
from alterrec.data.synthetic import synthetic_dataset
from alterrec.recipe import Recipe


def read_data(
    recipe: Recipe, data: str | Path | Dataset | None, columns: Mapping[str, str] | None, drop_unknown: bool
) -> Dataset:
    """A data set as it is, the folder ``data``, or the built-in catalogue where it is None."""
    if isinstance(data, Dataset):
        return data
    if data is None:
        return synthetic_dataset()
    return load_dataset(
        data,
        columns=columns or {},
        drop_unknown=drop_unknown,
        text_fields=_columns(recipe) or None,
        vectors=recipe.data.vectors or None,
    )


def _columns(recipe: Recipe) -> tuple[str, ...]:
    """Text columns to read; empty for all of them."""
    fields, categories = recipe.data.text_fields, recipe.data.categories
    return tuple(dict.fromkeys((*fields, *categories))) if fields else ()

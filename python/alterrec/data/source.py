"""The data of a run, read as its recipe asks, and its rule about seen items; needs no torch."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from alterrec.data.dataset import Dataset
from alterrec.data.readers import load_dataset
from alterrec.data.synthetic import synthetic_dataset
from alterrec.recipe import Recipe

# `auto` excludes the prefix's items where fewer training targets than this repeat one (spec, section 4).
SEEN_SHARE = 0.005


def seen_excluded(rule: str, repeat_share: float) -> bool:
    """Whether items of the prefix are left out of the candidates.

    Args:
        rule: ``never``, ``always`` or ``auto``.
        repeat_share: share of training targets that repeat an item of their prefix.

    Example:
        >>> seen_excluded("auto", 0.001), seen_excluded("auto", 0.2), seen_excluded("never", 0.001)
        (True, False, False)
    """
    return rule == "always" or (rule == "auto" and repeat_share < SEEN_SHARE)


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

"""Category ids of items, from text columns that hold categories."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from alterrec.data.dataset import ItemText
from alterrec.errors import InputError, nearest

CATEGORY_COLUMNS = ("category", "categories", "brand", "taxonomy")


def category_ids(text: ItemText, fields: Sequence[str] = ()) -> NDArray[np.int64] | None:
    """Return category ids, (V, C, K) int64, by item and field, padded with -1; None without such fields.

    A cell holds values separated by commas. The values of a field are numbered from 0 in alphabetical order,
    so the number of values of a field is its largest id plus 1.

    Args:
        text: text fields of the catalogue.
        fields: the fields that hold categories; if empty, those called category, categories, brand or
            taxonomy.

    Raises:
        InputError: a field does not exist or has no value at all.

    Example:
        >>> text = ItemText({"title": ["Jaws", "Up"], "category": ["Horror, Drama", "Comedy"]})
        >>> category_ids(text).tolist()
        [[[1, 2]], [[0, -1]]]
    """
    for name in fields:
        if name not in text.fields:
            raise InputError(
                f"data.categories: column {name!r} is missing; choose among {', '.join(text.fields)}"
                f"{nearest(name, text.fields)}"
            )
    chosen = fields or [name for name in text.fields if name.lower() in CATEGORY_COLUMNS]
    columns = [[_values(cell) for cell in text.fields[name]] for name in chosen]
    columns = [column for name, column in zip(chosen, columns, strict=True) if _filled(name, column, fields)]
    if not columns:
        return None
    width = max(len(values) for column in columns for values in column)
    ids_VCK = np.full((len(text), len(columns), width), -1, dtype=np.int64)
    for field, column in enumerate(columns):
        numbers = {value: id for id, value in enumerate(sorted(set().union(*column)))}
        for item, values in enumerate(column):
            ids_VCK[item, field, : len(values)] = [numbers[value] for value in values]
    return ids_VCK


def _values(cell: str) -> list[str]:
    return sorted({value.strip() for value in cell.split(",")} - {""})


def _filled(name: str, column: list[list[str]], asked: Sequence[str]) -> bool:
    filled = any(column)
    if not filled and name in asked:
        raise InputError(f"data.categories: column {name!r} is empty; expected values separated by commas")
    return filled

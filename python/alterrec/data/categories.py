"""Text columns that hold categories -> ids of their values, item by item."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from alterrec.data.dataset import ItemText
from alterrec.errors import InputError, nearest

USUAL = ("category", "categories", "brand", "taxonomy")


def category_ids(text: ItemText, fields: Sequence[str] = ()) -> NDArray[np.int64] | None:
    """Values of categorical fields, (V, C, K) int64: of each item and field, then -1; None without fields.

    A cell holds values between commas. Those of a field count from 0 in the order of their names, and all
    of them occur, so a field has as many as its largest id says.

    Args:
        text: text fields of the catalogue.
        fields: which of them are categories; empty for those called category, categories, brand or taxonomy.

    Raises:
        InputError: a field that the text has not, or one without any value.

    Example:
        >>> text = ItemText({"title": ["Jaws", "Up"], "category": ["Horror, Drama", "Comedy"]})
        >>> category_ids(text).tolist()
        [[[1, 2]], [[0, -1]]]
    """
    for name in fields:
        if name not in text.fields:
            raise InputError(
                f"data.categories: column {name!r} is missing; allowed: {', '.join(text.fields)}"
                f"{nearest(name, text.fields)}"
            )
    chosen = fields or [name for name in text.fields if name.lower() in USUAL]
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
        raise InputError(f"data.categories: column {name!r} is empty; allowed: values between commas")
    return filled

"""Names of text columns: the usual ones, and different names for the same thing."""

from __future__ import annotations

import re
from collections.abc import Collection

# Names of one thing, the usual one first.
ALIASES: tuple[tuple[str, ...], ...] = (
    ("title", "name", "product_title", "product_name", "prod_name", "item_title", "item_name", "movie_title"),
    (
        *("description", "desc", "descr", "product_description", "item_description", "detail_desc"),
        *("long_description", "abstract", "summary"),
    ),
    ("brand", "brand_name"),
    ("category", "categories", "category_name", "product_category"),
    ("taxonomy",),
    ("genres", "genre"),
)
# Columns with values separated by commas that are read as categories, too.
CATEGORY_COLUMNS = ("category", "categories", "brand", "taxonomy")


def find_text_column(wanted: str, columns: Collection[str]) -> str | None:
    """Return the column that is meant by a name: of this name, in other letters, or by an alias; else None.

    Example:
        >>> columns = ["id", "Product-Title", "desc"]
        >>> find_text_column("title", columns), find_text_column("description", columns)
        ('Product-Title', 'desc')
        >>> find_text_column("brand", columns) is None
        True
    """
    if wanted in columns:
        return wanted
    by_key = {_key(column): column for column in reversed(list(columns))}
    group = next((group for group in ALIASES if _key(wanted) in group), ())
    return next((by_key[key] for key in (_key(wanted), *group) if key in by_key), None)


def is_usual(column: str) -> bool:
    """Whether a column has one of the usual names of text columns.

    Example:
        >>> is_usual("Product Title"), is_usual("weight")
        (True, False)
    """
    return any(_key(column) in group for group in ALIASES)


def _key(name: str) -> str:
    """Lower case, words joined by underscores: ``Product-Title`` and ``productTitle`` are the same."""
    parted = re.sub(r"(?<=[a-z])(?=[A-Z])", "_", name.strip())
    return re.sub(r"[\s_.-]+", "_", parted).lower()

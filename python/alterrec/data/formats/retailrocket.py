"""The Retailrocket data: ``events.csv``, ``item_properties_part*.csv`` and ``category_tree.csv``."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import polars as pl

from alterrec.data.damaged_sources import reading_sources
from alterrec.data.formats.published import (
    USUAL,
    find_published,
    first_line,
    first_problem,
    required_file,
)
from alterrec.data.formats.source import INTERACTIONS, PrepareOptions, Source
from alterrec.data.formats.text_tables import scan_text

EVENTS = "events.csv"
COLUMNS = ("timestamp", "visitorid", "event", "itemid")
PROPERTIES = ("item_properties_part1.csv", "item_properties_part2.csv", "item_properties.csv")
TREE = "category_tree.csv"
CATEGORY = "categoryid"
# A property that changes with the stock, not with the item.
AVAILABLE = "available"
# Views, in sessions that 30 minutes without a view end; a view that repeats the last one is the same visit of
# a page. The last seven days are test, the seven days before validation.
CHOICES = replace(USUAL, sessions="gap", events=("view",), collapse=True)


def read_retailrocket(path: Path, options: PrepareOptions) -> Source:
    """Read the events at a path, and the properties of items where they are there.

    Properties change over time. The first value of each property of an item is kept: the last one was written
    during the days of validation and test, and would tell training what was not known yet.

    Raises:
        InputError: the file of events is missing or has other columns.
    """
    file = required_file(path, EVENTS)
    events = (
        scan_text(file, COLUMNS)
        .with_columns(time=pl.col("timestamp").cast(pl.Int64, strict=False))
        .select(
            pl.col("visitorid").alias("user_id"),
            pl.col("itemid").alias("item_id"),
            pl.col("time").alias("timestamp"),
            "event",
            first_problem(
                (pl.col("visitorid").is_null(), "no visitor id"),
                (pl.col("itemid").is_null(), "no item id"),
                (pl.col("time").is_null(), "the timestamp is not a number"),
            ),
        )
    )
    properties = [part for name in PROPERTIES if (part := find_published(file.parent, name))]
    tree = find_published(file.parent, TREE) if properties else None
    notes = ["a property of an item has its first value, because later ones would leak from the test days"]
    if not properties:
        notes = ["item_properties_part1.csv and item_properties_part2.csv are missing; items have no text"]
    return Source(
        events={INTERACTIONS: events},
        items=_items(properties, tree) if properties else None,
        files=tuple(each for each in (file, *properties, tree) if each),
        choices=CHOICES,
        per_second=1000,
        text=("category", "properties") if properties else (),
        notes=tuple(notes),
        expected={"rows": 2_756_101},
    )


def recognises_retailrocket(path: Path) -> bool:
    """Whether a path is the file of events or a folder with it."""
    file = find_published(path, EVENTS)
    return file is not None and first_line(file).startswith(",".join(COLUMNS))


def _items(files: list[Path], tree: Path | None) -> pl.LazyFrame:
    """The category of each item with those above it, and the words of its other properties."""
    parts = [scan_text(file, ("timestamp", "itemid", "property", "value")) for file in files]
    values = (
        pl.concat(parts)
        .filter(pl.col("property") != AVAILABLE)
        .select(
            pl.col("itemid").alias("item_id"),
            "property",
            pl.col("timestamp").cast(pl.Int64, strict=False),
            _words(),
        )
        .drop_nulls()
        .filter(pl.col("value") != "")
        .group_by("item_id", "property")
        .agg(pl.col("value").sort_by("timestamp").first())
    )
    words = (
        values.filter(pl.col("property") != CATEGORY)
        .group_by("item_id")
        .agg(pl.col("value").sort_by("property").str.join(" ").alias("properties"))
    )
    above = _with_parents(tree)
    category = values.filter(pl.col("property") == CATEGORY).select(
        "item_id", category=pl.col("value").replace_strict(above, default="category" + pl.col("value"))
    )
    return category.join(words, on="item_id", how="full", coalesce=True)


def _words() -> pl.Expr:
    """The hashed words of a value; numbers, which begin with n, are prices and measures and no words."""
    return (
        pl.col("value").str.replace_all(r"\bn-?\d[\d.]*", "").str.replace_all(r"\s+", " ").str.strip_chars()
    )


def _with_parents(tree: Path | None) -> dict[str, str]:
    """Each category of the tree -> its name, followed by the names of the categories above it."""
    if tree is None:
        return {}
    with reading_sources([tree]):
        table = scan_text(tree, ("categoryid", "parentid")).collect()
    parents = dict(table.drop_nulls().iter_rows())
    named = {}
    for category in table["categoryid"].drop_nulls():
        path = [category]
        while (parent := parents.get(path[-1])) and parent not in path:
            path.append(parent)
        named[category] = " ".join(f"category{each}" for each in path)
    return named

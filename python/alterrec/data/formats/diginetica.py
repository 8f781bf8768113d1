"""The item views of the CIKM Cup 2016, track 2: ``train-item-views.csv`` and the files on products."""

from __future__ import annotations

from pathlib import Path

import polars as pl

from alterrec.data.formats.published import (
    USUAL,
    find_published,
    first_line,
    first_problem,
    required_file,
)
from alterrec.data.formats.source import INTERACTIONS, PrepareOptions, Source
from alterrec.data.formats.text_tables import scan_text

VIEWS = "train-item-views.csv"
PRODUCTS = "products.csv"
CATEGORIES = "product-categories.csv"
COLUMNS = ("sessionId", "userId", "itemId", "timeframe", "eventdate")
# Copies for the code of SR-GNN have these names.
OTHER_COLUMNS = ("session_id", "user_id", "item_id", "timeframe", "eventdate")
DAY = 86_400_000
# As in SR-GNN: the last seven days are test; the seven days before are validation.
CHOICES = USUAL


def read_diginetica(path: Path, options: PrepareOptions) -> Source:
    """Read the views at a path, and the names and categories of products where they are there.

    Raises:
        InputError: the file of views is missing or has other columns.
    """
    views = required_file(path, VIEWS)
    products, categories = (find_published(views.parent, name) for name in (PRODUCTS, CATEGORIES))
    columns = OTHER_COLUMNS if first_line(views).startswith(OTHER_COLUMNS[0]) else COLUMNS
    session, user, item, *_ = columns
    day = pl.col("eventdate").str.to_date("%Y-%m-%d", strict=False).cast(pl.Int64)
    events = (
        scan_text(views, columns, separator=";")
        # `timeframe` is the time since the session began, in milliseconds.
        .with_columns(timestamp=day * DAY + pl.col("timeframe").cast(pl.Int64, strict=False))
        .select(
            pl.col(session).alias("session_id"),
            pl.col(item).alias("item_id"),
            pl.when(pl.col(user) != "NA").then(user).alias("user_id"),
            "timestamp",
            first_problem(
                (pl.col(session).is_null(), "no session id"),
                (pl.col(item).is_null(), "no item id"),
                (pl.col("timestamp").is_null(), "eventdate is not a date or timeframe is not a number"),
            ),
        )
    )
    absent = [name for name, file in ((PRODUCTS, products), (CATEGORIES, categories)) if file is None]
    return Source(
        events={INTERACTIONS: events},
        items=_items(products, categories),
        files=tuple(file for file in (views, products, categories) if file),
        choices=CHOICES,
        per_second=1000,
        text=tuple(name for name, file in (("name", products), ("category", categories)) if file),
        notes=tuple(f"{name} is missing; items have no text from it" for name in absent),
        expected={"rows": 1_235_380, "read_sessions": 310_324, "read_items": 122_993},
    )


def recognises_diginetica(path: Path) -> bool:
    """Whether a path is the file of views or a folder with it."""
    file = find_published(path, VIEWS)
    return file is not None and ";" in first_line(file)


def _items(products: Path | None, categories: Path | None) -> pl.LazyFrame | None:
    """The words of each product's name, which are published as numbers, and its categories."""
    frames = []
    if products is not None:
        table = scan_text(products, ("itemId", "product.name.tokens"), separator=";")
        frames.append(
            table.select(item_id="itemId", name=pl.col("product.name.tokens").str.replace_all(",", " "))
            .drop_nulls("item_id")
            .unique("item_id", keep="first", maintain_order=True)
        )
    if categories is not None:
        table = scan_text(categories, ("itemId", "categoryId"), separator=";")
        # Words of names are numbers too, so that a category must not look like one.
        category = ("category" + pl.col("categoryId")).alias("category")
        frames.append(
            table.select(pl.col("itemId").alias("item_id"), category)
            .drop_nulls()
            .group_by("item_id")
            .agg(pl.col("category").unique().sort().str.join(" "))
        )
    if not frames:
        return None
    items = frames[0]
    return items.join(frames[1], on="item_id", how="full", coalesce=True) if frames[1:] else items

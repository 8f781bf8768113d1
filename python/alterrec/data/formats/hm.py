"""H&M Personalized Fashion Recommendations: ``transactions_train.csv`` and ``articles.csv``."""

from __future__ import annotations

from dataclasses import replace
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

TRANSACTIONS = "transactions_train.csv"
ARTICLES = "articles.csv"
TEXT = (
    "prod_name",
    "product_type_name",
    "product_group_name",
    "graphical_appearance_name",
    "colour_group_name",
    "department_name",
    "index_name",
    "section_name",
    "garment_group_name",
    "detail_desc",
)
DAY = 86_400
# A basket is what a customer bought on one day. The last week is test, as in the competition.
CHOICES = replace(USUAL, sessions="day", collapse=True)


def read_hm(path: Path, options: PrepareOptions) -> Source:
    """Read the transactions and articles at a path.

    Raises:
        InputError: a file is missing or has other columns.
    """
    transactions, articles = required_file(path, TRANSACTIONS), required_file(path, ARTICLES)
    date = pl.col("t_dat").str.to_date("%Y-%m-%d", strict=False)
    events = scan_text(transactions, ("t_dat", "customer_id", "article_id")).select(
        pl.col("customer_id").alias("user_id"),
        pl.col("article_id").alias("item_id"),
        (date.cast(pl.Int64) * DAY).alias("timestamp"),
        first_problem(
            (pl.col("customer_id").is_null(), "no customer id"),
            (pl.col("article_id").is_null(), "no article id"),
            (date.is_null(), "t_dat is not a date"),
        ),
    )
    items = scan_text(articles, ("article_id", "prod_name"))
    text = tuple(name for name in TEXT if name in items.collect_schema().names())
    return Source(
        events={INTERACTIONS: events},
        items=items.rename({"article_id": "item_id"}).select("item_id", *text),
        files=(transactions, articles),
        choices=CHOICES,
        text=text,
        notes=("transactions have dates without times; the order within a basket is that of the rows",),
        expected={"rows": 31_788_324, "read_users": 1_362_281, "read_items": 104_547},
    )


def recognises_hm(path: Path) -> bool:
    """Whether a path is the file of transactions or a folder with it."""
    file = find_published(path, TRANSACTIONS)
    return file is not None and "article_id" in first_line(file)

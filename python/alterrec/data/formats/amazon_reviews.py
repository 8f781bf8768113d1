"""Amazon Reviews of 2018 and 2023: one file of reviews of a category, and one file on its products."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import polars as pl

from alterrec.data.formats.published import (
    USUAL,
    first_line,
    first_problem,
    missing,
    scan_json,
    scan_lines,
)
from alterrec.data.formats.source import INTERACTIONS, PrepareOptions, Source
from alterrec.data.formats.text_tables import scan_text
from alterrec.errors import InputError

FILES = "CATEGORY.jsonl[.gz] (2023), CATEGORY_5.json[.gz] (2018), and meta_CATEGORY with the same ending"
SUFFIXES = (".json", ".jsonl", ".json.gz", ".jsonl.gz", ".csv", ".csv.gz")
META = "meta_"
# Folders of the release of 2023 as it is on the Hugging Face hub.
REVIEWS_FOLDER, META_FOLDER = "review_categories", "meta_categories"
# Columns of a review: user, item, time, stars.
COLUMNS_2018 = ("reviewerID", "asin", "unixReviewTime", "overall")
COLUMNS_2023 = ("user_id", "parent_asin", "timestamp", "rating")
TYPES = (pl.String, pl.String, pl.Int64, pl.Float64)
# Columns of a product; the first is its id.
META_2018 = ("asin", "title", "brand", "category", "description", "feature")
META_2023 = ("parent_asin", "title", "store", "categories", "description", "features")
# Parts of these are names, and of other lists sentences.
CATEGORIES = ("category", "categories")
# The sequence of each user, of which the last item is the target of test and the one before that of
# validation. Users with three reviews left in training have five (5-core). Reviews of two variants of a
# product that follow one another, and reviews that are there twice, are one event.
CHOICES = replace(
    USUAL, sessions="user", collapse=True, min_session=3, split="last-item", valid=0.1, test=0.1
)


def read_amazon_reviews(path: Path, options: PrepareOptions) -> Source:
    """Read the reviews of one category, and the file on its products beside it.

    Args:
        path: the file of reviews, or a folder with one.
        options: not read.

    Raises:
        InputError: there are no reviews or several files of them, or the products are those of 2014.
    """
    reviews = _reviews(path)
    line = first_line(reviews)
    columns = COLUMNS_2018 if '"reviewerID"' in line else COLUMNS_2023
    if reviews.name.removesuffix(".gz").endswith(".csv"):
        table = scan_text(reviews, columns)
    else:
        table = scan_json(reviews, dict(zip(columns, TYPES, strict=True)))
    user, item, time, stars = columns
    events = table.select(
        pl.col(user).alias("user_id"),
        pl.col(item).alias("item_id"),
        pl.col(time).cast(pl.Int64, strict=False).alias("timestamp"),
        pl.col(stars).cast(pl.String).alias("event"),
    ).with_columns(
        first_problem(
            (pl.col("user_id").is_null(), f"no {user}"),
            (pl.col("item_id").is_null(), f"no {item}"),
            (pl.col("timestamp").is_null(), f"{time} is not a number"),
        )
    )
    meta = _meta(reviews)
    fields = META_2018 if columns is COLUMNS_2018 else META_2023
    source = Source(
        events={INTERACTIONS: events},
        items=None,
        files=(reviews,),
        choices=CHOICES,
        per_second=1 if columns is COLUMNS_2018 else 1000,
        text=(),
        notes=(f"{META}{_category(reviews)}.jsonl.gz is missing; items have no text",),
    )
    if meta is None:
        return source
    # Features repeat the description in most products: they are read, but are no text by default.
    return replace(source, items=_items(meta, fields), files=(reviews, meta), text=fields[1:-1], notes=())


def recognises_amazon_reviews(path: Path) -> bool:
    """Whether a path is a file of reviews or a folder with one."""
    return bool(_candidates(path))


def _reviews(path: Path) -> Path:
    found = _candidates(path)
    if not found:
        raise missing(path, "a file of reviews such as All_Beauty.jsonl.gz or All_Beauty_5.json.gz")
    if len(found) > 1:
        raise InputError(
            f"{path}: has {len(found)} files of reviews ({', '.join(file.name for file in found[:10])}); "
            "give one of these files instead of the folder"
        )
    return found[0]


def _candidates(path: Path) -> list[Path]:
    """The files of reviews at a path, known by their first lines."""
    if path.is_file():
        return [path] if _has_reviews(path) else []
    folders = [folder for folder in (path, path / REVIEWS_FOLDER) if folder.is_dir()]
    return [file for folder in folders for file in sorted(folder.iterdir()) if _has_reviews(file)]


def _has_reviews(file: Path) -> bool:
    if not file.name.endswith(SUFFIXES) or file.name.startswith(META) or not file.is_file():
        return False
    line = first_line(file)
    if line.startswith("{"):
        names = [f'"{name}"' for name in COLUMNS_2018], [f'"{name}"' for name in COLUMNS_2023]
        return any(all(name in line for name in each) for each in names)
    return set(COLUMNS_2023) <= set(line.split(","))


def _category(reviews: Path) -> str:
    """The category of a file such as ``All_Beauty_5.json.gz`` or, in 2014, ``reviews_Beauty_5.json.gz``.

    Example:
        >>> _category(Path("All_Beauty_5.json.gz"))
        'All_Beauty'
    """
    return reviews.name.split(".")[0].removesuffix("_5").removeprefix("reviews_")


def _meta(reviews: Path) -> Path | None:
    names = [f"{META}{_category(reviews)}{suffix}" for suffix in SUFFIXES[:4]]
    folders = (reviews.parent, reviews.parent.parent / META_FOLDER)
    files = [file for folder in folders for name in names if (file := folder / name).is_file()]
    if not files:
        return None
    if first_line(files[0]).startswith("{'"):
        raise InputError(
            f"{files[0]}: has lines of Python instead of JSON, as the release of 2014; use that "
            "of 2018 or 2023, or write each line anew as JSON"
        )
    return files[0]


def _items(meta: Path, fields: tuple[str, ...]) -> pl.LazyFrame:
    """A row per product; the release of 2018 has some products twice, of which the first one is kept."""
    dtype = pl.Struct(dict.fromkeys(fields, pl.String))

    def parse(lines: pl.Series) -> pl.Series:
        # Fields are text in one line and a list in another one, which no schema allows.
        return pl.Series([_product(line, fields, meta) for line in lines], dtype=dtype)

    return (
        scan_lines(meta)
        .filter(pl.col("line").is_not_null())
        .select(pl.col("line").map_batches(parse, return_dtype=dtype, is_elementwise=True))
        .unnest("line")
        .rename({fields[0]: "item_id"})
        .drop_nulls("item_id")
        .unique("item_id", keep="first", maintain_order=True)
    )


def _product(line: str, fields: tuple[str, ...], meta: Path) -> dict[str, str | None]:
    try:
        product = json.loads(line)
    except ValueError as error:
        raise InputError(f"{meta}: {line[:60]!r}... is not JSON ({error}); copy the file again") from None
    return {name: _text(product.get(name), ", " if name in CATEGORIES else " ") for name in fields}


def _text(value: Any, separator: str) -> str | None:
    """A text or the texts of a list; null if there are none.

    Example:
        >>> _text(["Soft.", "", ["Warm."]], " "), _text([], " "), _text({"large": "image.jpg"}, " ")
        ('Soft. Warm.', None, None)
    """
    if isinstance(value, list):
        return separator.join(text for each in value if (text := _text(each, separator))) or None
    return (value.strip() or None) if isinstance(value, str) else None

"""MIND, the Microsoft News Dataset: ``behaviors.tsv`` and ``news.tsv`` of training and development."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import polars as pl

from alterrec.data.formats.published import (
    USUAL,
    find_published,
    first_line,
    first_problem,
    missing,
    scan_rows,
)
from alterrec.data.formats.source import INTERACTIONS, PrepareOptions, Source

FILES = "behaviors.tsv and news.tsv, in MINDsmall_train and MINDsmall_dev or in one folder"
BEHAVIORS = "behaviors.tsv"
NEWS = "news.tsv"
IMPRESSION = ("impression", "user", "time", "history", "impressions")
ARTICLE = (
    "item_id",
    "category",
    "subcategory",
    "title",
    "abstract",
    "url",
    "title_entities",
    "abstract_entities",
)
TEXT = ("title", "abstract", "category", "subcategory")
SPLITS = {"train": ("train",), "test": ("dev", "valid", "validation")}
# The labels of the published test part are secret, so that the development part is test, as in most papers,
# and validation is a share of training. News are new: none is dropped for its count.
CHOICES = replace(USUAL, min_item_count=1, split="seed", valid=0.1, test=0.1)
CHOICES_OF_ONE_PART = replace(CHOICES, split="time")


def read_mind(path: Path, options: PrepareOptions) -> Source:
    """Read the behaviours and news at a path.

    A session is one click on an impression: the user's history, then the news that was clicked. An impression
    with two clicks gives two sessions, and one without clicks gives none.

    Raises:
        InputError: a file is missing.
    """
    parts = _parts(path)
    if not parts:
        raise missing(path, f"{BEHAVIORS}, or folders such as MINDsmall_train and MINDsmall_dev with it,")
    news = []
    for folder in parts.values():
        file = find_published(folder, NEWS)
        if file is None:
            raise missing(folder, NEWS)
        news.append(file)
    choices = CHOICES if "test" in parts else CHOICES_OF_ONE_PART
    notes = ["a session is a user's history and one clicked news; an impression with two clicks gives two"]
    if path.is_dir():
        unread = [child.name for child in sorted(path.iterdir()) if child.name.lower().endswith("_test")]
        notes += [f"{name} is not read, because its clicks are not published" for name in unread]
    return Source(
        events={split: _sessions(folder / BEHAVIORS, split) for split, folder in parts.items()},
        items=_articles(news),
        files=tuple(file for folder in parts.values() for file in (folder / BEHAVIORS, folder / NEWS)),
        choices=choices,
        text=TEXT,
        notes=tuple(notes),
    )


def recognises_mind(path: Path) -> bool:
    """Whether a path is a folder with behaviours and news, or with such folders."""
    parts = _parts(path)
    return any(first_line(folder / BEHAVIORS).count("\t") == len(IMPRESSION) - 1 for folder in parts.values())


def _parts(path: Path) -> dict[str, Path]:
    """``train`` and ``test`` -> their folders, or ``interactions`` -> the one folder that is there."""
    folder = path.parent if path.is_file() else path
    if (folder / BEHAVIORS).is_file():
        return {INTERACTIONS: folder}
    if not folder.is_dir():
        return {}
    found = {
        split: child
        for split, ends in SPLITS.items()
        for child in sorted(folder.iterdir())
        if child.name.lower().endswith(ends) and (child / BEHAVIORS).is_file()
    }
    return found if "train" in found else dict(zip([INTERACTIONS], found.values(), strict=False))


def _sessions(file: Path, part: str) -> pl.LazyFrame:
    time = pl.col("time").str.to_datetime("%m/%d/%Y %I:%M:%S %p", time_unit="ms", strict=False)
    clicked = (
        pl.col("impressions").str.split(" ").list.eval(pl.element().filter(pl.element().str.ends_with("-1")))
    )
    history = pl.col("history").fill_null("").str.split(" ")
    return (
        scan_rows(file, IMPRESSION, "\t")
        .with_columns(clicked=clicked, timestamp=time.cast(pl.Int64) // 1000)
        .explode("clicked")
        .filter(pl.col("clicked").is_not_null())
        .with_columns(pl.col("clicked").str.strip_suffix("-1"))
        .select(
            # Impressions are numbered from 1 in each part.
            session_id=pl.concat_str(pl.lit(part), "impression", "clicked", separator="-"),
            item_id=pl.concat_list(history, "clicked"),
            user_id="user",
            timestamp="timestamp",
        )
        .explode("item_id")
        .filter(pl.col("item_id") != "")
        .with_columns(
            first_problem(
                (pl.col("session_id").is_null(), "no impression id"),
                (pl.col("timestamp").is_null(), "the time is not as 11/11/2019 9:05:58 AM"),
            )
        )
    )


def _articles(files: list[Path]) -> pl.LazyFrame:
    """The news of all parts, which share most of them."""
    return (
        pl.concat([scan_rows(file, ARTICLE, "\t") for file in files])
        .select("item_id", *TEXT)
        .drop_nulls("item_id")
        .unique("item_id", keep="first", maintain_order=True)
    )

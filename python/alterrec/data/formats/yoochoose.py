"""The clicks of the RecSys Challenge 2015: ``yoochoose-clicks.dat``."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import polars as pl

from alterrec.data.formats.published import (
    USUAL,
    find_published,
    first_line,
    first_problem,
    iso_milliseconds,
    required_file,
    scan_rows,
)
from alterrec.data.formats.source import INTERACTIONS, PrepareOptions, Source

FILE = "yoochoose-clicks.dat"
COLUMNS = ("session", "time", "item", "category")
# As in GRU4Rec and SR-GNN, the sessions that end in the last 24 hours are test; the day before is validation.
# `fraction=64` and `fraction=4` give what papers call Yoochoose 1/64 and 1/4.
CHOICES = replace(USUAL, valid=1.0, test=1.0)


def read_yoochoose(path: Path, options: PrepareOptions) -> Source:
    """Read the clicks at a path.

    Raises:
        InputError: the file is missing.
    """
    file = required_file(path, FILE)
    # Some copies have a header line, which the code of SR-GNN expects.
    header = "item" in first_line(file).lower()
    # Categories cost a pass over 33 million rows.
    described = ["category"] if "category" in (options.text or ()) else []
    events = (
        scan_rows(file, COLUMNS, ",", header=header)
        .select(*described, session_id="session", item_id="item", timestamp=iso_milliseconds("time"))
        .with_columns(
            first_problem(
                (pl.col("session_id").is_null(), "no session id"),
                (pl.col("item_id").is_null(), "no item id"),
                (pl.col("timestamp").is_null(), "the time is not as 2014-04-07T10:51:09.277Z"),
            )
        )
    )
    unread = [name for name in ("yoochoose-buys.dat", "yoochoose-test.dat") if (file.parent / name).exists()]
    return Source(
        events={INTERACTIONS: events},
        items=None,
        files=(file,),
        choices=CHOICES,
        per_second=1000,
        text=(),
        notes=(
            "yoochoose has no texts; --text category reads the most frequent category of each item as one",
            *(f"{name} is not read" for name in unread),
        ),
        expected={"rows": 33_003_944, "read_sessions": 9_249_729, "read_items": 52_739},
    )


def recognises_yoochoose(path: Path) -> bool:
    """Whether a path is the file of clicks or a folder with it."""
    return find_published(path, FILE) is not None

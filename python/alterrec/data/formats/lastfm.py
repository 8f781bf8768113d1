"""Last.fm 1K: ``userid-timestamp-artid-artname-traid-traname.tsv``, the tracks that users heard."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import polars as pl

from alterrec.data.formats.published import (
    USUAL,
    find_published,
    first_problem,
    iso_milliseconds,
    required_file,
    scan_lines,
)
from alterrec.data.formats.source import INTERACTIONS, PrepareOptions, Source
from alterrec.errors import InputError

FILE = "userid-timestamp-artid-artname-traid-traname.tsv"
COLUMNS = ("userid", "timestamp", "artid", "artname", "traid", "traname")
# Column that `--column item_id=NAME` names -> columns of the text of such an item.
ITEMS = {"traid": ("artist", "track"), "artid": ("artist",)}
# As in the studies of session-rec: 30 minutes without a track end a session.
CHOICES = replace(USUAL, sessions="gap", split="time", valid=0.1, test=0.1)


def read_lastfm(path: Path, options: PrepareOptions) -> Source:
    """Read the listening at a path; items are tracks, or artists with ``columns={"item_id": "artid"}``.

    Raises:
        InputError: the file is missing, or ``columns`` names another column.
    """
    file = required_file(path, FILE)
    columns = dict(options.columns)
    kind = columns.pop("item_id", "traid")
    if columns or kind not in ITEMS:
        raise InputError(
            f"lastfm reads item_id from traid (tracks) or artid (artists), and no other column can be named; "
            f"found {', '.join(f'{ours}={theirs}' for ours, theirs in options.columns.items())}"
        )
    # A few names contain tabs: everything after the fifth one is the name of the track.
    cells = pl.col("line").str.splitn("\t", len(COLUMNS)).struct.rename_fields(COLUMNS)
    artist, track = pl.col("artname"), pl.col("traname")
    # Tracks and artists that MusicBrainz does not have are known by their names.
    by_name = artist if kind == "artid" else artist + " / " + track
    events = (
        scan_lines(file)
        .select(cells)
        .unnest("line")
        .with_columns(pl.when(pl.col(COLUMNS) != "").then(pl.col(COLUMNS)))
        .with_columns(time=iso_milliseconds("timestamp"), item_id=pl.coalesce(kind, by_name))
        .select(
            pl.col("userid").alias("user_id"),
            "item_id",
            pl.col("time").alias("timestamp"),
            artist.alias("artist"),
            *([track.alias("track")] if kind == "traid" else []),
            first_problem(
                (pl.col("userid").is_null(), "no user id"),
                (pl.col("item_id").is_null(), "neither an id nor a name of the item"),
                (pl.col("time").is_null(), "the time is not as 2009-04-08T01:57:47Z"),
            ),
        )
    )
    return Source(
        events={INTERACTIONS: events},
        items=None,
        files=(file,),
        choices=CHOICES,
        per_second=1000,
        text=ITEMS[kind],
        notes=(f"items without {kind} are known by their names",),
        expected={"rows": 19_150_868, "read_users": 992},
    )


def recognises_lastfm(path: Path) -> bool:
    """Whether a path is the file of listening or a folder with it."""
    return find_published(path, FILE) is not None

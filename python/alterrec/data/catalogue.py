"""The catalogue of prepared data: its items, their numbers and their texts, all from training alone."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import polars as pl
from numpy.typing import NDArray

from alterrec.data.assemble import read_texts
from alterrec.data.event_table import EVENT_COLUMNS, ROW, EventIds, all_rows, collect
from alterrec.data.formats.source import Source
from alterrec.data.sessionize import SessionTable
from alterrec.data.tables import DataFile
from alterrec.data.text_columns import choose_text_columns
from alterrec.errors import InputError, nearest

NEW = "alterrec number"
# A column of a log tells nothing about its items if this share of them has one value, such as the country
# of most customers.
SAME = 0.9


@dataclass(frozen=True)
class Catalogue:
    """The items that are kept.

    Attributes:
        items: item_id and the text columns, by number.
        number: (V,) number in the catalogue of each item of the event table; -1 if it is not in it.
        notes: what was left out or added, one sentence each.
    """

    items: pl.DataFrame
    number: NDArray[np.int64]
    notes: tuple[str, ...]


def build_catalogue(
    source: Source,
    table: EventIds,
    training: SessionTable,
    counts: NDArray[np.int64],
    min_item_count: int,
    text: Sequence[str] | None,
) -> Catalogue:
    """Choose the items of the catalogue, and their text.

    Args:
        source: the source.
        table: the ids of its events.
        training: the training sessions that are kept.
        counts: (V,) events of each item of the table in all training sessions, before a fraction of them was
            taken.
        min_item_count: items of an items file with fewer events are left out.
        text: the columns that the user wants as text; None chooses them.

    Raises:
        InputError: there are fewer than 2 items, or no event has an item of the items file.
    """
    notes: list[str] = []
    # In the order of the training rows, so that no other row has an influence.
    first = np.full(len(table.item_ids), np.iinfo(np.uint32).max, np.uint32)
    np.minimum.at(first, training.item, training.row)
    trained = np.argsort(first, kind="stable")[: int((first < np.iinfo(np.uint32).max).sum())]
    if source.items is None:
        ids = table.item_ids.gather(trained)
        columns = [name for name in all_rows(source).collect_schema() if name not in EVENT_COLUMNS]
        frame = ids.to_frame()
        if columns:
            described = _most_frequent(source, training, ids, columns)
            if text is None and source.text is None:
                described, notes = _telling(described)
            frame = pl.concat([frame, described], how="horizontal")
    else:
        frame, notes = _with_items(source.items, table, trained, counts, min_item_count)
    frame, remarks = _with_text(frame, text if text is not None else source.text)
    if len(frame) < 2:
        raise InputError(
            f"{len(frame)} items are left; expected at least 2, so that there is a choice. Use weaker filters"
        )
    numbers = frame.select("item_id").with_row_index(NEW)
    number = table.item_ids.to_frame().join(numbers, on="item_id", how="left", maintain_order="left")[NEW]
    return Catalogue(frame, number.cast(pl.Int64).fill_null(-1).to_numpy(), (*notes, *remarks))


def _with_items(
    items: pl.LazyFrame,
    table: EventIds,
    trained: NDArray[np.int64],
    counts: NDArray[np.int64],
    min_item_count: int,
) -> tuple[pl.DataFrame, list[str]]:
    """The items of an items file, and those of training that are not in it."""
    frame, notes = collect(items), []
    named = frame.filter(pl.col("item_id").is_not_null() & (pl.col("item_id") != ""))
    if len(named) < len(frame):
        notes.append(f"rows of items without an item_id, which are left out: {len(frame) - len(named)}")
    distinct = named.unique("item_id", keep="first", maintain_order=True)
    if len(distinct) < len(named):
        notes.append(
            f"rows of items that repeat the item_id of an earlier row, which are left out: "
            f"{len(named) - len(distinct)}"
        )
    numbers = pl.DataFrame({"item_id": table.item_ids, "count": counts})
    distinct = distinct.join(numbers, on="item_id", how="left", maintain_order="left")
    if distinct["count"].null_count() == len(distinct):
        known = distinct["item_id"].to_list()[:5000]
        raise InputError(
            f"no event has an item of the items file: events have {table.item_ids[0]!r}, items "
            f"{known[0] if known else 'nothing'!r}. Ids are compared as text"
            f"{nearest(table.item_ids[0], known)}"
        )
    kept = distinct.filter(pl.col("count").fill_null(0) >= min_item_count).drop("count")
    if min_item_count and len(kept) < len(distinct):
        notes.append(
            f"items with fewer than {min_item_count} events in training, which are left out: "
            f"{len(distinct) - len(kept)} of {len(distinct)}"
        )
    ids = table.item_ids.gather(trained).to_frame()
    extra = ids.join(distinct.select("item_id"), on="item_id", how="anti", maintain_order="left")
    if len(extra):
        notes.append(
            f"items of training that are not in the items file, which are kept without text: {len(extra)}, "
            f"such as {extra['item_id'][0]!r}"
        )
    return pl.concat([kept, extra], how="diagonal"), notes


def _most_frequent(
    source: Source, training: SessionTable, ids: pl.Series, columns: Sequence[str]
) -> pl.DataFrame:
    """The most frequent value of each column among the training rows of an item; the earliest of ties."""
    in_training = np.zeros(int(training.row.max()) + 1, np.bool_)
    in_training[training.row] = True

    def used(rows: pl.Series) -> pl.Series:
        numbers = rows.to_numpy()
        inside = numbers < len(in_training)
        return pl.Series(inside & in_training[np.where(inside, numbers, 0)])

    rows = all_rows(source).filter(pl.col(ROW).map_batches(used, pl.Boolean, is_elementwise=True))
    found = ids.to_frame()
    for column in columns:
        values = rows.select("item_id", column, ROW).drop_nulls(column)
        if rows.collect_schema()[column] == pl.String:
            values = values.filter(pl.col(column) != "")
        counted = collect(values.group_by("item_id", column).agg(count=pl.len(), first=pl.col(ROW).min()))
        best = counted.sort("count", "first", descending=[True, False]).unique(
            "item_id", keep="first", maintain_order=True
        )
        found = found.join(best.select("item_id", column), on="item_id", how="left", maintain_order="left")
    return found.drop("item_id")


def _telling(described: pl.DataFrame) -> tuple[pl.DataFrame, list[str]]:
    """The columns of a log that differ between its items, and a note about the others."""
    most = {column.name: max(column.drop_nulls().unique_counts(), default=0) for column in described}
    same = [name for name, count in most.items() if count >= SAME * len(described)]
    if not same:
        return described, []
    return described.drop(same), [
        f"columns that have one value for most of the items, which are not read as text: "
        f"{', '.join(map(repr, same))}; --text NAME,... chooses columns"
    ]


def _with_text(frame: pl.DataFrame, wanted: Sequence[str] | None) -> tuple[pl.DataFrame, list[str]]:
    """The columns item_id and those of text, without HTML; a sentence about what is not read as text."""
    chosen, notes = choose_text_columns(frame, wanted)
    columns, remarks = read_texts(DataFile(Path("items"), frame), chosen)
    texts = [column.alias(name) for name, column in columns.items()]
    return frame.select("item_id", *texts), [*notes, *remarks]

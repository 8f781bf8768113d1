"""Write a data set as atomic files of RecBole; :mod:`alterrec.data.formats.recbole` reads them back."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import polars as pl
from numpy.typing import NDArray

from alterrec.data.dataset import SPLITS, Dataset
from alterrec.errors import InputError
from alterrec.files import make_folder, replace_together, write_text
from alterrec.sessions import SessionStore

CONFIG = "recbole.yaml"
# RecBole's default for MAX_ITEM_LIST_LENGTH.
LONGEST = 50
TARGETS_AT_ONCE = 2**17
# Ids that pandas, and so RecBole, reads as missing.
MISSING = ("", "#N/A", "<NA>", "N/A", "NA", "NULL", "NaN", "None", "n/a", "nan", "null")
_CONFIG = """\
# Settings with which RecBole 1.2.1 trains models of sequences on these files, such as
#   run_recbole(model="SASRec", dataset="{name}", config_file_list=["{config}"])
# where data_path is the folder that contains the folder {name}.
benchmark_filename: [train, valid, test]
load_col:
  inter: [session_id, item_id_list, item_id]
  item: [{fields}]
USER_ID_FIELD: session_id
ITEM_ID_FIELD: item_id
alias_of_item_id: [item_id_list]
MAX_ITEM_LIST_LENGTH: {longest}
# General models, such as Pop and ItemKNN, read one event per row:
#   benchmark_filename: [train_events, valid_events, test_events]
#   load_col: {{inter: [session_id, item_id]}}
"""


def write_recbole(data: Dataset, folder: Path) -> tuple[str, ...]:
    """Write a data set as atomic files; the name of the folder is the name of the data set.

    Each split is written in both shapes of RecBole. ``NAME.train_events.inter`` has one event per row and all
    that the data have. ``NAME.train.inter`` has one target per row with the list of the (at most 50) items
    before it: a target is every item of a training session but the first, and the last item of the others.
    ``NAME.item`` has the texts, and ``recbole.yaml`` the settings that read these files.

    Args:
        data: the data set.
        folder: is created; files of an earlier export are replaced.

    Returns:
        What was changed, one sentence each.

    Raises:
        InputError: an id has characters that separate cells or items, or the folder cannot be written to.

    Example:
        >>> import tempfile
        >>> from alterrec.data.synthetic import synthetic_dataset
        >>> folder = Path(tempfile.mkdtemp()) / "shop"
        >>> _ = write_recbole(synthetic_dataset(items=300, sessions=500), folder)
        >>> (folder / "shop.item").read_text().splitlines()[0].replace(chr(9), " ")
        'item_id:token title:token_seq description:token_seq'
    """
    _check_ids("item", data.vocabulary.item_ids, r"\s")
    if data.users is not None:
        _check_ids("user", data.users.item_ids, r"[\t\r\n]")
    notes: list[str] = []
    name = folder.resolve().name
    make_folder(folder)
    with replace_together(folder, last=[CONFIG]) as new:
        make_folder(new)
        items = _items(data, notes)
        _write(items, new / f"{name}.item")
        for split in SPLITS:
            events = _events(data, split)
            _write(events, new / f"{name}.{split}_events.inter")
            _write_targets(data, split, new / f"{name}.{split}.inter")
        fields = ", ".join(column.split(":")[0] for column in items.columns)
        config = _CONFIG.format(name=name, config=f"{name}/{CONFIG}", fields=fields, longest=LONGEST)
        write_text(new / CONFIG, config)
    longest = max(int(store.lengths.max(initial=0)) for store in data.splits.values())
    if longest > LONGEST + 1:
        notes.append(
            f"lists of items are cut to the last {LONGEST}; the longest session has {longest} items, which "
            "are all in the files of events"
        )
    return tuple(notes)


def _check_ids(kind: str, ids: Sequence[str], forbidden: str) -> None:
    series = pl.Series(ids, dtype=pl.String)
    wrong = series.str.contains(forbidden) | series.str.starts_with('"')
    if wrong.any():
        what = "white space" if forbidden == r"\s" else "a tab or a line break"
        raise InputError(
            f"the {kind} id {series[wrong.arg_max() or 0]!r} has {what} or begins with a quotation mark; "
            f"RecBole cannot read it ({wrong.sum()} such ids). Replace these characters in the data"
        )
    missing = series.is_in(MISSING)
    if missing.any():
        raise InputError(
            f"the {kind} id {series[missing.arg_max() or 0]!r} is read as missing by RecBole "
            f"({missing.sum()} such ids). Write another id in the data"
        )


def _items(data: Dataset, notes: list[str]) -> pl.DataFrame:
    columns = {"item_id:token": pl.Series(data.vocabulary.item_ids, dtype=pl.String)}
    for field, texts in (data.text.fields if data.text else {}).items():
        given = pl.Series(texts, dtype=pl.String)
        # A cell is one line, and a colon ends the name of a field.
        plain = given.str.replace_all(r"[\t\r\n]+", " ")
        column = re.sub(r"[:\s]+", "_", field)
        changed = int((plain != given).sum())
        if changed:
            notes.append(f"{field}: tabs and line breaks in {changed} texts became spaces")
        if column != field:
            notes.append(f"the field {field!r} is called {column!r}")
        quoted = pl.concat_str(pl.lit('"'), pl.col("x").str.replace_all('"', '""', literal=True), pl.lit('"'))
        cell = pl.when(pl.col("x").str.starts_with('"')).then(quoted).otherwise(pl.col("x"))
        columns[f"{column}:token_seq"] = pl.DataFrame({"x": plain}).select(cell).to_series()
    return pl.DataFrame(columns)


def _events(data: Dataset, split: str) -> pl.DataFrame:
    """One row per event, session by session."""
    store, names = data.splits[split], data.session_names[split]
    _check_ids("session", names, r"[\t\r\n]")
    columns = {
        "session_id:token": pl.Series(names, dtype=pl.String).gather(_sessions(store)),
        "item_id:token": pl.Series(data.vocabulary.item_ids, dtype=pl.String).gather(store.items),
    }
    if store.timestamps is not None:
        columns["timestamp:float"] = pl.Series(store.timestamps)
    if store.users is not None and data.users is not None:
        known = pl.Series([*data.users.item_ids, ""], dtype=pl.String)
        # The number -1 of an unknown user is the last of these.
        columns["user_id:token"] = known.gather(store.users % len(known)).gather(_sessions(store))
    return pl.DataFrame(columns)


def _sessions(store: SessionStore) -> NDArray[np.int64]:
    """The session of each interaction."""
    return np.repeat(np.arange(len(store)), store.lengths)


def _write(frame: pl.DataFrame, path: Path) -> None:
    frame.write_csv(path, separator="\t", quote_style="never")


def _write_targets(data: Dataset, split: str, path: Path) -> None:
    """Write one row per target: all items but the first of a training session, else the last."""
    items = pl.Series(data.vocabulary.item_ids, dtype=pl.String)
    names = pl.Series(data.session_names[split], dtype=pl.String)
    with path.open("wb") as file:
        file.write(b"session_id:token\titem_id_list:token_seq\titem_id:token\n")
        for session, start, stop in _targets(data, split):
            # Row r has the items before its target, at the places start[r] to stop[r] - 1.
            lengths = stop - start
            row = np.repeat(np.arange(len(stop)), lengths)
            place = np.arange(lengths.sum()) - np.repeat(lengths.cumsum() - lengths, lengths) + start[row]
            lists = (
                pl.DataFrame({"row": row, "item": items.gather(data.splits[split].items[place])})
                .group_by("row", maintain_order=True)
                .agg(pl.col("item").str.join(" "))["item"]
            )
            targets = items.gather(data.splits[split].items[stop])
            frame = pl.DataFrame(
                [names.gather(session), lists, targets], schema=["session", "list", "target"]
            )
            frame.write_csv(file, separator="\t", quote_style="never", include_header=False)


def _targets(
    data: Dataset, split: str
) -> Iterator[tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]]:
    """For targets in groups: their sessions, the places of the first item before them, and their own."""
    store = data.splits[split]
    session = _sessions(store)
    begin = store.offsets[:-1].astype(np.int64)[session]
    place = np.arange(store.num_interactions)
    target = place > begin
    if split != "train":
        target &= np.isin(place, store.offsets[1:].astype(np.int64) - 1)
    found = np.flatnonzero(target)
    for first in range(0, len(found), TARGETS_AT_ONCE):
        stop = found[first : first + TARGETS_AT_ONCE]
        yield session[stop], np.maximum(begin[stop], stop - LONGEST), stop

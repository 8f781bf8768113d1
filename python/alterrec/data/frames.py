"""Tables that are in memory already: frames of polars and pandas, Arrow tables, and lists of sessions."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import polars as pl

from alterrec.data.assemble import INTERACTIONS, RawData
from alterrec.data.dataset import SPLITS
from alterrec.data.tables import ROW, DataFile, find_column, id_column
from alterrec.errors import InputError
from alterrec.files import first_line, is_panic

ACCEPTED = "a DataFrame or LazyFrame of polars, a DataFrame of pandas or an Arrow table"
Values = list[Any]


@dataclass(frozen=True, eq=False)
class Frames:
    """The tables of a data set as the arguments of :func:`~alterrec.data.readers.load_dataset` give them.

    Attributes:
        items: a row per item; None takes the items of the interactions, or of train.
        interactions: sessions that are split by time.
        train, valid, test: the sessions of the splits.

    Each may be any frame that :func:`as_frame` reads; sessions may also be lists of lists of item ids.
    """

    items: Any = None
    interactions: Any = None
    train: Any = None
    valid: Any = None
    test: Any = None

    def __bool__(self) -> bool:
        return any(value is not None for value in vars(self).values())

    def read(self, columns: Mapping[str, str]) -> RawData:
        """Return the tables, whose messages name the argument and the row.

        Raises:
            InputError: an argument is missing or of another type, or two arguments exclude each other.
        """
        given = {name: value for name, value in vars(self).items() if name != "items" and value is not None}
        if INTERACTIONS in given and len(given) > 1:
            others = " and ".join(name for name in given if name != INTERACTIONS)
            raise InputError(
                f"{INTERACTIONS} and {others} are given; give {INTERACTIONS} alone, which is split by "
                "time, or train, valid and test"
            )
        if INTERACTIONS not in given and "train" not in given:
            raise InputError(
                f"no sessions to train on; give a path, or train or {INTERACTIONS} as {ACCEPTED}"
            )
        notes: list[str] = []
        sessions = {name: _session_file(name, value, notes) for name, value in given.items()}
        if self.items is None:
            source = sessions[INTERACTIONS if INTERACTIONS in sessions else SPLITS[0]]
            notes.append(f"items are those of {source.path.name}, without texts")
            return RawData(_items_of(source, columns), sessions, tuple(notes))
        return RawData(_data_file("items", self.items, notes), sessions, tuple(notes))


@contextmanager
def frames_as_log(events: Any, items: Any, listen: Callable[[str], None]) -> Iterator[Path]:
    """Write frames to a temporary folder that the format ``log`` reads; messages name the arguments.

    Args:
        events: the events, any frame that :func:`as_frame` reads; a LazyFrame is written as it is computed.
        items: the items, likewise, or None.
        listen: called with a sentence about what is not read.

    Example:
        >>> with frames_as_log(pl.DataFrame({"item_id": [7]}), None, print) as folder:
        ...     sorted(path.name for path in folder.iterdir())
        ['events.parquet']
    """
    notes: list[str] = []
    with TemporaryDirectory() as temporary:
        folder = Path(temporary) / "frames"
        folder.mkdir()
        for name, value in (("events", events), ("items", items)):
            if value is not None:
                _write(name, value, folder / f"{name}.parquet", notes)
        for note in notes:
            listen(note)
        try:
            yield folder
        except InputError as error:
            message = str(error).replace(f"{folder}{os.sep}", "").replace(str(folder), "frames")
            raise InputError(re.sub(r"\b(events|items)\.parquet", r"\1", message)) from None


def _write(name: str, value: Any, path: Path, notes: list[str]) -> None:
    try:
        if isinstance(value, pl.LazyFrame):
            value.sink_parquet(path)
            return
        frame = as_frame(name, value, notes)
        odd = [column for column, kind in frame.schema.items() if kind == pl.Object]
        if odd:
            notes.append(f"{name}: columns that are not read: {', '.join(odd)}")
        frame.drop(odd).write_parquet(path)
    except pl.exceptions.PolarsError as error:
        raise InputError(f"{name} cannot be read ({first_line(error)}); expected {ACCEPTED}") from None


def as_frame(name: str, value: Any, notes: list[str] | None = None) -> pl.DataFrame:
    """Return a table as a polars DataFrame.

    pandas and pyarrow are not imported: a DataFrame of pandas is read by its own methods, and any other table
    through the Arrow PyCapsule interface. The index of a pandas DataFrame is no column.

    Args:
        name: name of the argument, for messages.
        value: a DataFrame or LazyFrame of polars, a DataFrame of pandas, or another object with
            ``__arrow_c_stream__``, such as a table of pyarrow or DuckDB.
        notes: gets a sentence about what is not read.

    Raises:
        InputError: the type is another one, a column occurs twice, or has values of several types.

    Example:
        >>> as_frame("items", pl.LazyFrame({"item_id": [7]})).rows()
        [(7,)]
        >>> as_frame("items", {"item_id": [7]})  # doctest: +ELLIPSIS
        Traceback (most recent call last):
            ...
        alterrec.errors.InputError: items is dict; expected a DataFrame or LazyFrame of polars, ...
    """
    if _is_pandas(value):
        return _from_pandas(name, value, [] if notes is None else notes)
    try:
        frame = _by_polars(value)
    # Streams of other libraries, queries and unknown types fail with errors of many kinds, or panic.
    except BaseException as error:
        if not isinstance(error, Exception) and not is_panic(error):
            raise
        raise InputError(f"{name} cannot be read ({first_line(error)}); expected {ACCEPTED}") from None
    if frame is None:
        raise InputError(f"{name} is {type(value).__name__}; expected {ACCEPTED}")
    objects = [
        _series(name, column, frame[column].to_list())
        for column, kind in frame.schema.items()
        if kind == pl.Object
    ]
    return frame.with_columns(objects) if objects else frame


def _by_polars(value: Any) -> pl.DataFrame | None:
    if isinstance(value, pl.DataFrame):
        return value
    if isinstance(value, pl.LazyFrame):
        return value.collect()
    if isinstance(value, pl.Series):
        return None
    return pl.DataFrame(value) if hasattr(value, "__arrow_c_stream__") else None


def _is_pandas(value: Any) -> bool:
    return any(
        kind.__name__ == "DataFrame" and kind.__module__.split(".")[0] == "pandas"
        for kind in type(value).__mro__
    )


def _from_pandas(name: str, frame: Any, notes: list[str]) -> pl.DataFrame:
    columns = [str(column) for column in frame.columns]
    twice = next((column for column in columns if columns.count(column) > 1), None)
    if twice is not None:
        raise InputError(f"{name}: column {twice!r} appears twice; give each column its own name")
    index = [str(level) for level in frame.index.names if level is not None]
    if index:
        notes.append(
            f"{name}: the index {', '.join(map(repr, index))} is not read; reset_index() makes it a column"
        )
    # By position, because labels of columns may be of any type.
    return pl.DataFrame(
        [_pandas_column(name, column, frame.iloc[:, place]) for place, column in enumerate(columns)]
    )


def _pandas_column(name: str, column: str, values: Any) -> pl.Series:
    if getattr(values.dtype, "tz", None) is not None:
        naive = values.dt.tz_convert("UTC").dt.tz_localize(None)
        return _pandas_column(name, column, naive).dt.replace_time_zone("UTC")
    if isinstance(values.dtype, np.dtype) and values.dtype.kind in "iufbmM":
        array = values.to_numpy()
        # polars has no times in whole seconds.
        seconds = array.dtype.kind in "mM" and np.datetime_data(array.dtype)[0] == "s"
        return pl.Series(column, array.astype(f"{array.dtype.kind}8[ms]") if seconds else array)
    missing = values.isna().tolist()
    return _series(
        name,
        column,
        [None if gone else value for gone, value in zip(missing, values.tolist(), strict=True)],
    )


def _series(name: str, column: str, values: Values) -> pl.Series:
    """Return a column of Python objects, which must be of one type; numbers may be mixed."""
    plain = [value.item() if isinstance(value, np.generic) else value for value in values]
    first: dict[str, int] = {}
    for place, value in enumerate(plain):
        if value is not None:
            first.setdefault(_kind(value), place)
    if len(first) > 1:
        (kind, place), (other, later) = list(first.items())[:2]
        raise InputError(
            f"{name}, row {later + 1}: {column} is {plain[later]!r} ({other}), but row {place + 1} has "
            f"{plain[place]!r} ({kind}); give the column one type, such as text, or leave it out"
        )
    try:
        kinds = {type(value) for value in plain if value is not None}
        return pl.Series(column, plain, pl.Float64 if kinds == {int, float} else None)
    except (pl.exceptions.PolarsError, TypeError, ValueError, OverflowError):
        # Of a type that polars does not have; whoever reads the column refuses it.
        return pl.Series(column, plain, pl.Object)


def _kind(value: Any) -> str:
    """The name of a value's type; all numbers are of one, and all lists."""
    if isinstance(value, bool):
        return "bool"
    if isinstance(value, int | float | Decimal):
        return "number"
    if isinstance(value, str):
        return "text"
    return "list" if isinstance(value, list | tuple | np.ndarray) else type(value).__name__


def _data_file(name: str, value: Any, notes: list[str]) -> DataFile:
    frame = as_frame(name, value, notes)
    if ROW in frame.columns:
        raise InputError(f"{name}: a column is called {ROW!r}, which alterrec uses itself; rename it")
    if frame.is_empty():
        raise InputError(f"{name} has no rows; expected at least one row")
    return DataFile(Path(name), frame)


def _session_file(name: str, value: Any, notes: list[str]) -> DataFile:
    if isinstance(value, Sequence | np.ndarray) and not isinstance(value, str | bytes | pl.Series):
        return DataFile(Path(name), _from_sessions(name, value, notes))
    return _data_file(name, value, notes)


def _from_sessions(name: str, sessions: Iterable[Any], notes: list[str]) -> pl.DataFrame:
    """The rows of sessions that are lists of item ids; a session is named after its place in the list."""
    names, items, empty = [], [], 0
    for number, session in enumerate(sessions, 1):
        if isinstance(session, str | bytes | Mapping) or not isinstance(session, Iterable):
            raise InputError(
                f"{name}, session {number} is {session!r}; expected a list of item ids for each session"
            )
        ids = [_item_id(item, f"{name}, session {number}") for item in session]
        empty += not ids
        names += [f"{name}-{number}"] * len(ids)
        items += ids
    if not items:
        raise InputError(f"{name} has no sessions with items; expected at least one")
    if empty:
        notes.append(f"{name}: sessions without items, which are left out: {empty}")
    return pl.DataFrame({"session_id": names, "item_id": items})


def _item_id(item: Any, place: str) -> str:
    if isinstance(item, str) and item.strip():
        return item
    if isinstance(item, int | np.integer) and not isinstance(item, bool):
        return str(item)
    raise InputError(f"{place}: an item is {item!r}; expected text or an integer")


def _items_of(sessions: DataFile, columns: Mapping[str, str]) -> DataFile:
    column = find_column(sessions, "item_id", columns, required=True) or "item_id"
    ids = id_column(sessions, column).unique(maintain_order=True)
    return DataFile(sessions.path, pl.DataFrame({"item_id": ids}))

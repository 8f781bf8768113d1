"""Sessions to recommend for, a block at a time: from JSON lines and from Parquet files with lists.

Files with a row for each item are sorted into sessions by :mod:`alterrec.serving.rows` first.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain, islice
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple, Protocol

import numpy as np
import polars as pl
import pydantic_core
from numpy.typing import NDArray

from alterrec.data.assemble import check_mapping
from alterrec.data.parquet_files import ADVICE
from alterrec.data.tables import ROW, DataFile, check_required, id_column
from alterrec.errors import InputError
from alterrec.files import first_line, reading
from alterrec.runs.inputs import RunCatalogue
from alterrec.serving.tally import Tally
from alterrec.vocabulary import Vocabulary

# Sessions that are answered together. The result of a session can depend on the others by rounding errors, so
# blocks are the same however often a command is interrupted.
BLOCK = 8192
# Sessions of a Parquet file that are read together: a file may have a million of them in one row group, which
# is read as a whole for each of them.
READ = 16 * BLOCK
# Bytes of a line, and of what is read at once from a stream.
LONGEST_LINE = 2**24
ARRIVED = 2**20
LINE = 'a session, such as {"session_id": "now", "items": ["tent", "lamp"]}'
# Numbers of items that are not in the catalogue, and of ids that are empty.
UNKNOWN, EMPTY = -1, -2


class SessionBlock(NamedTuple):
    """Some sessions.

    Attributes:
        names: their ids.
        items: int64 numbers of the known items of each, oldest first; may be empty.
        ends_unknown: (N,) whether the last item of each is unknown, so that it is not in ``items``.
        users: (N,) int64 numbers of users, -1 for unknown ones; None if the run knows none.
        tally: what was read and left out.
    """

    names: Sequence[str]
    items: Sequence[NDArray[np.int64]]
    ends_unknown: NDArray[np.bool_]
    users: NDArray[np.int64] | None
    tally: Tally


class SessionSource(Protocol):
    """Where sessions come from.

    Attributes:
        name: the file, for messages.
        unit: what is counted: ``rows`` or ``items``.
        total: number of sessions; None if it is not known.
        tally: what was left out before the first block.
        has_users: whether there is a column of users.
    """

    name: str
    unit: str
    total: int | None
    tally: Tally
    has_users: bool

    def blocks(self, first: int = 0) -> Iterator[SessionBlock]:
        """Yield the blocks from number ``first`` on."""
        ...


def split_items(lengths: NDArray[np.int64], numbers: NDArray[np.int64]) -> list[NDArray[np.int64]]:
    """Return the known items of each session from those of all sessions.

    Args:
        lengths: (N,) number of items of each session.
        numbers: item numbers of all sessions, one after the other; negative ones are left out.

    Example:
        >>> [items.tolist() for items in split_items(np.array([2, 0, 2]), np.array([7, -1, 8, 9]))]
        [[7], [], [8, 9]]
    """
    known = numbers >= 0
    owners = np.repeat(np.arange(len(lengths)), lengths)[known]
    ends = np.cumsum(np.bincount(owners, minlength=len(lengths)))
    return np.split(numbers[known], ends[:-1]) if len(lengths) else []


def ends_unknown(lengths: NDArray[np.int64], numbers: NDArray[np.int64]) -> NDArray[np.bool_]:
    """Return whether the last item of each session is unknown; items whose id is empty are none.

    Args:
        lengths, numbers: as for :func:`split_items`, with UNKNOWN and EMPTY.

    Example:
        >>> ends_unknown(np.array([2, 0, 3, 2]), np.array([7, -1, -1, 8, -2, -1, -2])).tolist()
        [True, False, False, True]
    """
    given = numbers != EMPTY
    counts = np.bincount(np.repeat(np.arange(len(lengths)), lengths)[given], minlength=len(lengths))
    found = np.zeros(len(lengths), np.bool_)
    found[counts > 0] = numbers[given][np.cumsum(counts)[counts > 0] - 1] == UNKNOWN
    return found


def item_numbers(ids: Sequence[Any], vocabulary: Vocabulary, tally: Tally) -> NDArray[np.int64]:
    """Return the number of each item id, UNKNOWN or EMPTY if it has none, and count these in the tally.

    Example:
        >>> item_numbers(["lamp", None, "boat"], Vocabulary(("tent", "lamp")), Tally()).tolist()
        [1, -2, -1]
    """
    numbers = vocabulary.find(ids)
    numbers[np.fromiter((each is None for each in ids), np.bool_, len(ids))] = EMPTY
    tally.add("rows", len(ids))
    tally.add("no item", (numbers == EMPTY).sum())
    unknown = numbers == UNKNOWN
    if unknown.any():
        tally.add("unknown item", unknown.sum(), ids[int(unknown.argmax())] or "")
    return numbers


def user_numbers(
    ids: Sequence[str | None], users: Vocabulary | None, tally: Tally
) -> NDArray[np.int64] | None:
    """Return the numbers of users, -1 for unknown ones; None if the run knows none."""
    if users is None:
        return None
    numbers = users.find(["" if each is None else each for each in ids])
    tally.add("unknown user", (numbers < 0).sum())
    return numbers


@dataclass
class SessionLists:
    """A Parquet file with a row for each session: its id, and a list of items.

    Args:
        path: the file.
        known: the run.
        columns: our column name -> the file's.
    """

    path: Path
    known: RunCatalogue
    columns: Mapping[str, str]

    unit = "items"

    def __post_init__(self) -> None:
        self.name = self.path.name
        self.tally = Tally()
        with reading(self.path, ADVICE):
            self._frame = pl.scan_parquet(self.path, glob=False, hive_partitioning=False)
            names = self._frame.collect_schema().names()
            self.total: int | None = int(self._frame.select(pl.len()).collect().item())
        check_mapping([header(self.path, names)], self.columns)
        check_required([(header(self.path, names), ["session_id"])], self.columns)
        self._session = _name_of("session_id", self.columns, names) or ""
        self._items = list_column(self._frame.collect_schema(), self.columns) or ""
        self._user = _name_of("user_id", self.columns, names)
        self.has_users = self._user is not None
        if not self.total:
            raise InputError(f"{self.path}: has no rows; expected at least one session")

    def blocks(self, first: int = 0) -> Iterator[SessionBlock]:
        """Yield the blocks from number ``first`` on."""
        assert self.total is not None
        chosen = [self._session, self._items, *([self._user] if self._user else [])]
        for start in range(first * BLOCK, self.total, READ):
            with reading(self.path, ADVICE):
                frame = self._frame.slice(start, READ).select(chosen).collect()
            frame = frame.with_row_index(ROW, offset=start)
            yield from map(self._block, frame.iter_slices(BLOCK))

    def _block(self, frame: pl.DataFrame) -> SessionBlock:
        tally = Tally()
        file = DataFile(self.path, frame)
        names = id_column(file, self._session).to_list()
        lists = frame[self._items].cast(pl.List(_inner(frame.schema[self._items])))
        lengths = lists.list.len().fill_null(0).cast(pl.Int64).to_numpy()
        rows = frame[ROW].to_numpy().repeat(lengths)
        # An empty list would become a null.
        cells = lists.filter(pl.Series(lengths > 0)).explode().alias(self._items)
        items = id_column(
            DataFile(self.path, pl.DataFrame([pl.Series(ROW, rows), cells])), self._items, may_be_empty=True
        )
        numbers = item_numbers(items.to_list(), self.known.vocabulary, tally)
        people = (
            id_column(file, self._user, may_be_empty=True).to_list() if self._user else [None] * len(names)
        )
        users = user_numbers(people, self.known.users, tally)
        tally.add("sessions", len(names))
        known = split_items(lengths, numbers)
        return SessionBlock(names, known, ends_unknown(lengths, numbers), users, tally)


def header(path: Path, names: Sequence[str]) -> DataFile:
    """Return a file without rows, for checks of its columns."""
    return DataFile(path, pl.DataFrame(schema=dict.fromkeys(names, pl.Null)))


def _name_of(name: str, columns: Mapping[str, str], names: Sequence[str]) -> str | None:
    return next((each for each in (columns.get(name, name), name) if each in names), None)


def list_column(schema: Mapping[str, pl.DataType], columns: Mapping[str, str]) -> str | None:
    """Return the column that has lists of items: the one mapped to item_id, or ``items``; None without one.

    Example:
        >>> list_column({"session_id": pl.String(), "items": pl.List(pl.String)}, {})
        'items'
    """
    for name in (columns.get("item_id", "items"), "items", "item_id"):
        if isinstance(schema.get(name), pl.List | pl.Array):
            return name
    return None


def _inner(kind: pl.DataType) -> Any:
    assert isinstance(kind, pl.List | pl.Array)
    return kind.inner


@dataclass
class SessionLines:
    """JSON lines, one session in each: an object with ``session_id``, ``items`` and optionally ``user_id``.

    Args:
        source: a file, or a stream such as standard input, which is read as its lines arrive.
        name: what it is called in messages.
        known: the run.
        columns: our name -> the key in the lines; ``item_id`` stands for ``items``.
    """

    source: Path | BinaryIO
    name: str
    known: RunCatalogue
    columns: Mapping[str, str]

    unit = "items"
    total: int | None = None

    def __post_init__(self) -> None:
        self.tally = Tally()
        self.has_users = True
        self._keys = {
            "session_id": self.columns.get("session_id", "session_id"),
            "items": self.columns.get("item_id", "items"),
            "user_id": self.columns.get("user_id", "user_id"),
        }

    def blocks(self, first: int = 0) -> Iterator[SessionBlock]:
        """Yield the blocks from number ``first`` on; a block of a stream has the lines that are there."""
        if isinstance(self.source, Path):
            with reading(self.source), self.source.open("rb") as file:
                lines = islice(self._lines(_all_lines(file)), first * BLOCK, None)
                while block := list(islice(lines, BLOCK)):
                    yield self._block(block)
            return
        number = 0
        for arrived in _arriving(self.source):
            if block := list(self._lines(arrived, number)):
                yield self._block(block)
            number += len(arrived)

    def _lines(self, lines: Iterable[bytes], before: int = 0) -> Iterator[tuple[int, bytes]]:
        """The lines that are not blank, with their numbers from 1."""
        for number, line in enumerate(lines, before + 1):
            if len(line) >= LONGEST_LINE:
                raise InputError(
                    f"{self.name}, line {number}: has more than {LONGEST_LINE // 2**20} MiB; expected a "
                    "line of JSON for each session"
                )
            if line := line.strip(b"\xef\xbb\xbf \t\r\n"):
                yield number, line

    def _block(self, lines: Sequence[tuple[int, bytes]]) -> SessionBlock:
        tally = Tally()
        names, ids, people = [], [], []
        for number, line in lines:
            name, items, user = self._session(f"{self.name}, line {number}", line)
            names.append(name)
            ids.append(items)
            people.append(user)
        lengths = np.fromiter(map(len, ids), np.int64, len(ids))
        numbers = item_numbers(list(chain.from_iterable(ids)), self.known.vocabulary, tally)
        users = user_numbers(people, self.known.users, tally)
        tally.add("sessions", len(names))
        known = split_items(lengths, numbers)
        return SessionBlock(names, known, ends_unknown(lengths, numbers), users, tally)

    def _session(self, place: str, line: bytes) -> tuple[str, list[str | None], str | None]:
        try:
            value = pydantic_core.from_json(line)
        except ValueError as error:
            raise InputError(f"{place}: {first_line(error)}; expected {LINE}") from None
        if not isinstance(value, dict):
            raise InputError(f"{place}: is {line[:60].decode('utf-8', 'replace')}; expected {LINE}")
        session, items = self._keys["session_id"], self._keys["items"]
        for key in (session, items):
            if key not in value:
                found = ", ".join(map(repr, value)) or "none"
                raise InputError(f"{place}: has no key {key!r}, its keys are {found}; expected {LINE}")
        if not isinstance(value[items], list):
            raise InputError(f"{place}: {items} is {value[items]!r}; expected a list of item ids")
        name = json_id(f"{place}: {session}", value[session])
        if name is None:
            raise InputError(f"{place}: {session} is empty; expected an id")
        ids = [
            each if isinstance(each, str) and each else json_id(f"{place}: an item", each)
            for each in value[items]
        ]
        user = value.get(self._keys["user_id"])
        return name, ids, None if user is None else json_id(f"{place}: {self._keys['user_id']}", user)


def json_id(name: str, value: Any) -> str | None:
    """Return an id of JSON as text, None if it is empty; as :func:`~alterrec.data.tables.id_column`.

    Example:
        >>> json_id("item", "tent"), json_id("item", 7), json_id("item", 7.0), json_id("item", " ")
        ('tent', '7', '7', None)
    """
    if value is None:
        return None
    if isinstance(value, str):
        return value if value.strip() else None
    if isinstance(value, float) and value.is_integer() and abs(value) <= 2.0**53:
        value = int(value)
    if isinstance(value, int) and not isinstance(value, bool):
        return str(value)
    raise InputError(f"{name} is {value!r}; expected text or an integer")


def _all_lines(file: BinaryIO) -> Iterator[bytes]:
    return iter(lambda: file.readline(LONGEST_LINE), b"")


def _arriving(stream: BinaryIO) -> Iterator[list[bytes]]:
    """Yield the lines of a stream, all that have arrived at a time."""
    rest = b""
    while chunk := stream.read1(ARRIVED):  # type: ignore[attr-defined]
        *lines, rest = (rest + chunk).split(b"\n")
        if len(rest) >= LONGEST_LINE:
            lines.append(rest)
        if lines:
            yield lines
    if rest:
        yield [rest]

"""Atomic files of RecBole: ``NAME.inter`` and ``NAME.item``, with ``field:type`` in the header.

There are two shapes of ``.inter``: one event per row, or one target per row with the list of the items
before it in ``item_id_list``. Files of the second shape often have a row for every prefix of a session; such
rows are joined to the session that they were made from.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

import polars as pl

from alterrec.data.formats.published import USUAL, scan_lines
from alterrec.data.formats.source import INTERACTIONS, PROBLEM, Choices, PrepareOptions, Source
from alterrec.data.formats.text_tables import ADVICE, id_text
from alterrec.errors import InputError, nearest, number_of
from alterrec.files import reading

FILES = "NAME.inter, or NAME.train.inter, NAME.valid.inter, NAME.test.inter; NAME.item"
SPLITS = ("train", "valid", "test")
# What follows the name of a split where our export writes one event per row.
EVENTS = "_events"
LIST_SUFFIX = "_list"
COLUMNS = ("session_id", "user_id", "item_id", "timestamp")
# Other atomic files, which have no meaning for sessions.
UNREAD = (".user", ".kg", ".link", ".net")
# Nothing is filtered: the files are usually what the filters of another program left.
CHOICES = Choices(min_item_count=0, split="time", valid=0.1, test=0.1).over(USUAL)
_TYPE = re.compile(r":(token_seq|float_seq|token|float)(?!\w)")
SEPARATORS = "\t ,;|^~&:"
_LIST_SEPARATORS = (" ", ",", "|", ";", "^")
# If no session id repeats, rows are prefixes where nearly all that could continue their neighbour do.
_LINKED_SHARE = 0.9


class _Table(NamedTuple):
    """An atomic file: its rows as text, and the type of each field."""

    path: Path
    frame: pl.LazyFrame
    types: Mapping[str, str]


class _Links(NamedTuple):
    """How the rows of a file with lists continue one another."""

    ascending: int
    descending: int
    keys: int
    rows: int
    longer: int
    longest: int


def recognises_recbole(path: Path) -> bool:
    """Whether a path is an ``.inter`` file or a folder with one."""
    return path.suffix == ".inter" if path.is_file() else any(path.glob("*.inter"))


def read_recbole(path: Path, options: PrepareOptions) -> Source:
    """Read a data set of RecBole from its folder, or from the path of one of its ``.inter`` files.

    Where there are ``NAME.train.inter`` and so on, the splits are theirs. Otherwise ``NAME.inter`` is read,
    whose sessions are those of ``session_id``; without that field each user is one session, unless
    ``options.choices`` says otherwise.

    Args:
        path: the folder, or an ``.inter`` file.
        options: ``columns`` are the names of the fields, where they are not session_id, user_id, item_id and
            timestamp.

    Raises:
        InputError: no ``.inter`` file, several data sets in one folder, a header that is not one of atomic
            files, a missing field, or rows with another number of cells than the header.

    Example:
        >>> import tempfile
        >>> folder = Path(tempfile.mkdtemp())
        >>> rows = "session_id:token\\titem_id_list:token_seq\\titem_id:token\\n1\\ta\\tb\\n1\\ta b\\tc\\n"
        >>> _ = (folder / "shop.train.inter").write_text(rows)
        >>> source = read_recbole(folder, PrepareOptions())
        >>> source.events["train"].collect()["item_id"].to_list(), source.choices.split
        (['a', 'b', 'c'], 'files')
        >>> source.notes
        ('shop.train.inter: 2 rows are the prefixes of 1 session; whole sessions are read instead',)
    """
    folder, name = _name(path)
    notes: list[str] = []
    files = _interaction_files(folder, name, notes)
    tables = {split: _table(file) for split, file in files.items()}
    names = _columns(tables, options.columns)
    listed = f"{names['item_id']}{LIST_SUFFIX}"
    scale, per_second = _time_unit(tables, names, notes)
    events = {}
    for split, table in tables.items():
        if listed in table.types:
            events[split] = _from_lists(table, names, listed, split, scale, notes)
        else:
            events[split] = _from_rows(table, names, scale)
    items = _items(folder / f"{name}.item", names["item_id"], notes)
    unread = [file.name for suffix in UNREAD if (file := folder / f"{name}{suffix}").is_file()]
    if unread:
        notes.append(f"not read, as no system uses it: {', '.join(unread)}")
    own = {
        "sessions": "given" if "session_id" in names or listed in tables[next(iter(files))].types else "user"
    }
    if INTERACTIONS not in events:
        own["split"] = "files"
    return Source(
        events=events,
        items=None if items is None else items.frame,
        files=(*files.values(), *([] if items is None else [items.path])),
        choices=Choices(**own).over(CHOICES),  # type: ignore[arg-type]
        per_second=per_second,
        notes=tuple(notes),
    )


def _name(path: Path) -> tuple[Path, str]:
    """The folder and the name of a data set."""
    if path.is_file():
        return path.parent, path.name.split(".")[0]
    names = sorted({file.name.split(".")[0] for file in path.glob("*.inter")})
    if path.resolve().name in names:
        return path, path.resolve().name
    if len(names) == 1:
        return path, names[0]
    if not names:
        raise InputError(f"{path}: has no .inter file; expected NAME.inter or NAME.train.inter")
    raise InputError(
        f"{path}: has the data sets {', '.join(names)}; give the path of one file, such as "
        f"{path / names[0]}.inter"
    )


def _interaction_files(folder: Path, name: str, notes: list[str]) -> dict[str, Path]:
    """Split -> file, or ``interactions`` -> file; a note about the others."""
    present = sorted(folder.glob(f"{name}.*inter"))
    for suffix in (EVENTS, ""):
        files = {
            split: file for split in SPLITS if (file := folder / f"{name}.{split}{suffix}.inter").is_file()
        }
        if "train" in files:
            break
    else:
        file = folder / f"{name}.inter"
        if not file.is_file():
            raise InputError(
                f"{folder}: {name}.inter and {name}.train.inter are missing; the folder has "
                f"{', '.join(other.name for other in present)}"
            )
        files = {INTERACTIONS: file}
    unread = [file.name for file in present if file not in files.values()]
    if unread and EVENTS not in next(iter(files.values())).name:
        notes.append(f"not read: {', '.join(unread)}")
    return files


def _table(path: Path) -> _Table:
    """Scan an atomic file: every cell is text, without the quotes that some writers put around cells."""
    with reading(path, ADVICE), path.open(encoding="utf-8-sig", newline="") as file:
        header = file.readline().rstrip("\r\n")
    parts = _TYPE.split(header)
    fields, types, rest = parts[:-1:2], parts[1::2], parts[-1]
    if not types or rest:
        raise InputError(
            f"{path}, line 1: is {header[:60]!r}; expected fields with their types, such as "
            "session_id:token and item_id:token"
        )
    separators = {field[: len(field) - len(field.lstrip(SEPARATORS))] for field in fields[1:]} or {"\t"}
    separator = separators.pop()
    if separators or len(separator) != 1:
        raise InputError(
            f"{path}, line 1: the fields are separated by {separator!r}; expected one character, the same "
            "between all of them, such as a tab"
        )
    fields = [fields[0], *(field[1:] for field in fields[1:])]
    frame = pl.scan_csv(
        path,
        separator=separator,
        quote_char=_quote(path, separator, len(fields)),
        has_header=False,
        skip_rows=1,
        schema=dict.fromkeys(fields, pl.String),
        glob=False,
    )
    return _Table(path, frame.with_columns(map(_unquoted, fields)), dict(zip(fields, types, strict=True)))


def _quote(path: Path, separator: str, width: int) -> str | None:
    """The quotation mark by which rows must be read; None if every line is a row.

    RecBole writes cells as they are, so that a quotation mark in a title is a character. pandas puts cells
    with separators or line breaks in quotes.
    """
    line = pl.col("line")
    wrong = (line.str.count_matches(separator, literal=True) != width - 1).fill_null(False)
    with reading(path, ADVICE):
        rows, count, first, quoted = (
            scan_lines(path)
            .with_row_index("row")
            .select(
                pl.len().alias("rows"),
                wrong.sum().alias("wrong"),
                pl.col("row").filter(wrong).first(),
                line.filter(wrong).str.contains('"', literal=True).any(),
            )
            .collect()
            .row(0)
        )
    if rows < 2:
        raise InputError(f"{path}: has a header but no rows; expected at least one row")
    if count and not quoted:
        raise InputError(
            f"{path}, line {first + 1}: has another number of cells than the header, which has {width} "
            f"({count} such lines). Separate the cells by {separator!r}"
        )
    return '"' if count else None


def _unquoted(column: str) -> pl.Expr:
    """A column without the quotes around whole cells, as pandas reads it."""
    text = pl.col(column)
    inside = text.str.slice(1, text.str.len_chars() - 2).str.replace_all('""', '"', literal=True)
    return (
        pl.when(text.str.contains(r'^".*"$') & (text.str.len_chars() > 1))
        .then(inside)
        .otherwise(text)
        .alias(column)
    )


def _columns(tables: Mapping[str, _Table], mapped: Mapping[str, str]) -> dict[str, str]:
    """Our column name -> the field of the files, for those that all files have."""
    names = {}
    for ours in COLUMNS:
        theirs = mapped.get(ours, ours)
        without = [table for table in tables.values() if theirs not in table.types]
        if not without:
            names[ours] = theirs
        elif ours in mapped or ours == "item_id":
            table = without[0]
            raise InputError(
                f"{table.path}: the field {theirs!r} is missing; its fields are "
                f"{', '.join(map(repr, table.types))}{nearest(theirs, table.types)}. Map it with "
                f"--column {ours}=NAME"
            )
    for table in tables.values():
        if (
            not {"session_id", "user_id"} & names.keys()
            and f"{names['item_id']}{LIST_SUFFIX}" not in table.types
        ):
            raise InputError(
                f"{table.path}: the field 'session_id' is missing, and 'user_id' too; its fields are "
                f"{', '.join(map(repr, table.types))}. Map one with --column session_id=NAME or user_id=NAME"
            )
    return names


def _time_unit(tables: Mapping[str, _Table], names: Mapping[str, str], notes: list[str]) -> tuple[int, int]:
    """By how much times are multiplied to be integers, and how many of the results are a second."""
    if "timestamp" not in names:
        return 1, 1
    number = pl.col(names["timestamp"]).cast(pl.Float64, strict=False)
    largest, fractions = 0.0, False
    for table in tables.values():
        with reading(table.path, ADVICE):
            row = (
                table.frame.select(number.max(), (number % 1 != 0).any().alias("fractions")).collect().row(0)
            )
        largest, fractions = max(largest, row[0] or 0.0), fractions or bool(row[1])
    # Today is 1.8e9 in seconds, so that larger numbers are parts of a second.
    per_second = next((10**power for power in (0, 3, 6) if largest < 10 ** (power + 11)), 10**9)
    scale = 1000 if fractions else 1
    if per_second > 1 or fractions:
        unit = {1: "seconds", 10**3: "milliseconds", 10**6: "microseconds"}.get(per_second, "nanoseconds")
        notes.append(
            f"{names['timestamp']}: read as {unit}, by the size of the numbers"
            + (", and rounded to thousandths" if fractions else "")
        )
    return scale, per_second * scale


def _time(names: Mapping[str, str], scale: int) -> tuple[list[pl.Expr], pl.Expr]:
    """The column of times, if there is one, and the problem of a row whose time is no number."""
    if "timestamp" not in names:
        return [], pl.lit(None, pl.String)
    text = pl.col(names["timestamp"]).str.strip_chars()
    number = (text.cast(pl.Float64, strict=False) * scale).round().cast(pl.Int64, strict=False)
    exact = text.cast(pl.Int64, strict=False) * scale
    time = pl.coalesce(exact, number).alias("timestamp")
    return [time], pl.when(time.is_null()).then(pl.lit("timestamp is not a number"))


def _problem(timed: pl.Expr, *ids: str) -> pl.Expr:
    """Why a row cannot be used: an empty id, or a time that is no number."""
    expression = timed
    for id in reversed(ids):
        expression = pl.when(pl.col(id).is_null()).then(pl.lit(f"{id} is empty")).otherwise(expression)
    return expression.alias(PROBLEM)


def _from_rows(table: _Table, names: Mapping[str, str], scale: int) -> pl.LazyFrame:
    """Events of a file with one event per row."""
    times, timed = _time(names, scale)
    ids = [id_text(names[ours]).alias(ours) for ours in COLUMNS[:3] if ours in names]
    required = ["session_id" if "session_id" in names else "user_id", "item_id"]
    rows = table.frame.select(*ids, *times, timed.alias(PROBLEM))
    return rows.with_columns(_problem(pl.col(PROBLEM), *required))


def _from_lists(
    table: _Table, names: Mapping[str, str], listed: str, split: str, scale: int, notes: list[str]
) -> pl.LazyFrame:
    """Events of a file whose rows have a target and the items before it; rows of prefixes are joined."""
    separator = _list_separator(table, listed)
    if separator != " ":
        notes.append(f"{table.path.name}: the items of {listed} are separated by {separator!r}")
    times, timed = _time(names, scale)
    key = names.get("session_id", names.get("user_id"))
    rows = table.frame.with_row_index("row").select(
        "row",
        (pl.format("{}-{}", pl.lit(split), "row") if key is None else id_text(key)).alias("session_id"),
        *([id_text(names["user_id"]).alias("user_id")] if "user_id" in names else []),
        id_text(names["item_id"]).alias("item_id"),
        pl.col(listed).str.strip_chars().fill_null("").alias("list"),
        *times,
        timed.alias(PROBLEM),
    )
    list_, item = pl.col("list"), pl.col("item_id")
    whole = pl.when(list_ == "").then(item).otherwise(pl.concat_str(list_, pl.lit(separator), item))
    size = pl.when(list_ == "").then(0).otherwise(list_.str.count_matches(separator, literal=True) + 1)
    rows = rows.with_columns(
        _problem(pl.col(PROBLEM), "session_id", "item_id"), whole.alias("whole"), size.alias("size")
    )
    links = _links(table.path, rows)
    repeated = links.keys < links.rows
    rows = _ordered(rows, links, repeated)
    follows = _follows(separator, links.longest)
    if repeated:
        follows &= pl.col("session_id") == pl.col("session_id").shift(1)
    elif max(links.ascending, links.descending) < _LINKED_SHARE * max(1, links.longer):
        follows = pl.lit(False)
    rows = rows.with_columns(follows.fill_null(False).alias("follows"))
    with reading(table.path, ADVICE):
        joined = rows.select(pl.col("follows").sum()).collect().item()
    if joined:
        notes.append(
            f"{table.path.name}: {links.rows} rows are the prefixes of "
            f"{number_of(links.rows - joined, 'session')}; whole sessions are read instead"
        )
    return _exploded(rows, separator, repeated)


def _list_separator(table: _Table, listed: str) -> str:
    """What separates the items of a list, by the first rows."""
    with reading(table.path, ADVICE):
        sample = table.frame.select(pl.col(listed).str.strip_chars()).head(10_000).collect()[listed]
    for separator in _LIST_SEPARATORS:
        if sample.str.contains(separator, literal=True).any():
            return separator
    return " "


def _links(path: Path, rows: pl.LazyFrame) -> _Links:
    """Count how often a row has the whole of its neighbour as its list."""
    before, after = pl.col("whole").shift(1), pl.col("list").shift(1)
    filled = pl.col("size") > 0
    with reading(path, ADVICE):
        counts = rows.select(
            (filled & (pl.col("list") == before)).sum().alias("ascending"),
            (filled.shift(1) & (pl.col("whole") == after)).sum().alias("descending"),
            pl.col("session_id").n_unique().alias("keys"),
            pl.len().alias("rows"),
            (pl.col("size") > 1).sum().alias("longer"),
            pl.col("size").max().fill_null(0).alias("longest"),
        ).collect()
    return _Links(*counts.row(0))


def _ordered(rows: pl.LazyFrame, links: _Links, repeated: bool) -> pl.LazyFrame:
    """The rows with the prefixes of a session together, shorter ones first."""
    if repeated:
        place = pl.col("row").min().over("session_id")
        row = -pl.col("row").cast(pl.Int64) if links.descending > links.ascending else pl.col("row")
        return rows.sort(place, "size", row)
    return rows.sort("row", descending=True) if links.descending > links.ascending else rows


def _follows(separator: str, longest: int) -> pl.Expr:
    """Whether a row continues the one before it: its list is the whole of that row, or the end of it.

    Writers cut lists to a largest length, from which on every list is the end of the row before.
    """
    before = pl.col("whole").shift(1)
    ending = before.str.ends_with(pl.concat_str(pl.lit(separator), "list"))
    cut = (pl.col("size") == longest) & (pl.col("size").shift(1) == longest) & (longest > 1) & ending
    return (pl.col("size") > 0) & ((pl.col("list") == before) | cut)


def _exploded(rows: pl.LazyFrame, separator: str, repeated: bool) -> pl.LazyFrame:
    """One row per item: of the first row of a session all items, of those that follow it the target."""
    own = (
        pl.when(pl.col("follows") | (pl.col("list") == "") | pl.col(PROBLEM).is_not_null())
        .then(pl.concat_list("item_id"))
        .otherwise(pl.concat_list(pl.col("list").str.split(separator), "item_id"))
    )
    first = pl.col("session_id").filter(~pl.col("follows")).first()
    rows = rows.with_columns(((~pl.col("follows")).cum_sum()).alias("chain"), own.alias("items"))
    if repeated:
        # Several sessions of one id get numbers.
        place = pl.col("chain").rank("dense").over("session_id")
        named = pl.when(place == 1).then("session_id").otherwise(pl.format("{}/{}", "session_id", place))
    else:
        named = first.over("chain")
    kept = [name for name in ("user_id", "timestamp") if name in rows.collect_schema().names()]
    rows = rows.select(named.alias("session_id"), *kept, pl.col("items").alias("item_id"), PROBLEM)
    rows = rows.explode("item_id")
    item = pl.col("item_id").str.strip_chars()
    # Two separators in a row leave an empty item.
    return rows.with_columns(item).filter((item != "") | item.is_null())


def _items(path: Path, item_id: str, notes: list[str]) -> _Table | None:
    """The items, with numbers as numbers; sequences of numbers are left out."""
    if not path.is_file():
        return None
    table = _table(path)
    if item_id not in table.types:
        raise InputError(
            f"{path}: the field {item_id!r} is missing; its fields are {', '.join(map(repr, table.types))}"
        )
    kinds = table.types
    left_out = [name for name, kind in kinds.items() if kind == "float_seq"]
    if left_out:
        notes.append(f"{path.name}: sequences of numbers are left out: {', '.join(left_out)}")
    columns = [id_text(item_id).alias("item_id")]
    for name, kind in kinds.items():
        if kind == "float":
            columns.append(pl.col(name).cast(pl.Float64, strict=False))
        elif kind != "float_seq" and name != item_id:
            columns.append(pl.col(name))
    return table._replace(frame=table.frame.select(columns))

"""One lazy frame over all files of a log, whatever their kinds, with the same columns and types."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import polars as pl

from alterrec.data.compressed import POLARS_READS, blocks, compression, first_bytes
from alterrec.data.dialects import Dialect, guess_dialect
from alterrec.data.log_files import JSON_SUFFIXES, LogFile, data_suffix
from alterrec.data.parquet_files import read_parquet
from alterrec.data.tables import check_name
from alterrec.data.text_scan import find_damage, scan_text
from alterrec.errors import InputError
from alterrec.files import reading

SPLIT = "alterrec split"  # a column name that no file has
Kind = Literal["parquet", "json", "text"]


@dataclass(frozen=True)
class LogFrame:
    """A log as one lazy frame.

    Attributes:
        frame: its rows in the order of the files; ``SPLIT`` has the split of each, if the files are splits.
        files: its files.
        names: its columns, without ``SPLIT``.
        notes: how the files were read, one sentence each.
        dialects: of the files with text.
    """

    frame: pl.LazyFrame
    files: tuple[LogFile, ...]
    names: tuple[str, ...]
    notes: tuple[str, ...]
    dialects: Mapping[Path, Dialect]

    @property
    def where(self) -> str:
        """The log in messages: its file, or the folder of its parts."""
        path = self.files[0].path
        return str(path if len(self.files) == 1 else path.parent)

    @contextmanager
    def collecting(self) -> Iterator[None]:
        """Turn the errors of polars while the frame is collected into an InputError that names the fault."""
        try:
            yield
        except pl.exceptions.PolarsError as error:
            for path, dialect in self.dialects.items():
                damage = find_damage(path, dialect)
                if damage:
                    raise InputError(damage) from None
            reason = str(error).splitlines()[0]
            raise InputError(f"{self.where}: cannot be read as a log ({reason})") from None


def open_log(files: Sequence[LogFile], mapped: Mapping[str, str]) -> LogFrame:
    """Open all files of a log; nothing is loaded but what is needed to know their columns.

    Args:
        files: as :func:`~alterrec.data.log_files.find_log_files` has them.
        mapped: our column name -> the log's. Names such as ``column_2`` say that there is no header line.

    Raises:
        InputError: a file cannot be read, or the files have different columns.
    """
    for file in files:
        check_name(file.path)
    by_position = bool(mapped) and all(_is_position(name) for name in mapped.values())
    opened, dialects = [], {}
    kinds = {file.path: _kind(file.path) for file in files}
    json_types = _json_types([path for path, kind in kinds.items() if kind == "json"])
    for file in files:
        kind = kinds[file.path]
        if kind == "parquet":
            frame = _scan_parquet(file.path)
        elif kind == "json":
            frame = _scan_json(file.path, json_types)
        else:
            dialect = guess_dialect(file.path, header=False if by_position else None)
            dialects[file.path] = dialect
            frame = scan_text(file.path, dialect)
        opened.append(frame)
    notes = _dialect_notes(dialects)
    _check_columns(files, opened)
    opened = _same_types(files, opened)
    for place, file in enumerate(files):
        extra = dict(file.partition) | ({SPLIT: file.split} if file.split else {})
        opened[place] = opened[place].with_columns(
            pl.lit(value, pl.String).alias(name) for name, value in extra.items()
        )
    frame = _joined(opened)
    names = tuple(name for name in frame.collect_schema().names() if name != SPLIT)
    return LogFrame(frame, tuple(files), names, tuple(notes), dialects)


def _is_position(name: str) -> bool:
    return name.startswith("column_") and name.removeprefix("column_").isdigit()


def _kind(path: Path) -> Kind:
    if first_bytes(path, 4) == b"PAR1":
        return "parquet"
    if compression(path) == "zstd":
        return "json" if data_suffix(path) in JSON_SUFFIXES else "text"
    start = next(blocks(path, 4096), b"").removeprefix(b"\xef\xbb\xbf").lstrip()
    if start.startswith(b"{"):
        return "json"
    if start.startswith(b"[") and data_suffix(path) in JSON_SUFFIXES:
        raise InputError(
            f"{path}: is one JSON list; expected JSON lines, one object a line. Convert it, for instance "
            "with `jq -c '.[]'`"
        )
    return "text"


# Parquet


def _scan_parquet(path: Path) -> pl.LazyFrame:
    frame = pl.scan_parquet(path, glob=False, hive_partitioning=False)
    try:
        with reading(path, "write it again"):
            frame.collect_schema()
            frame.head(0).collect()
    except InputError as error:
        if "time zone" not in str(error):
            raise
        # polars does not know the name of a zone, which only loading the file can replace.
        return read_parquet(path).lazy()
    return frame


# JSON lines


def _json_types(paths: Sequence[Path]) -> dict[str, pl.DataType]:
    """The columns of all files together: text, as it stands in the file, unless values are nested."""
    types: dict[str, pl.DataType] = {}
    for path in paths:
        with reading(path, "expected one JSON object a line"):
            schema = _ndjson(path, None).collect_schema()
        for name, kind in schema.items():
            if not kind.is_nested():
                types.setdefault(name, pl.String())
            elif types.get(name, kind) == kind:
                types[name] = kind
            else:
                # Text in one file and nested in another: its JSON as text.
                types[name] = pl.String()
    return types


def _scan_json(path: Path, types: Mapping[str, pl.DataType]) -> pl.LazyFrame:
    return _ndjson(path, types).filter(~pl.all_horizontal(pl.all().is_null()))


def _ndjson(path: Path, schema: Mapping[str, pl.DataType] | None) -> pl.LazyFrame:
    if compression(path) in POLARS_READS:
        return pl.scan_ndjson(path, schema=schema, infer_schema_length=None)
    return pl.read_ndjson(b"".join(blocks(path)), schema=schema, infer_schema_length=None).lazy()


# Parts


def _dialect_notes(dialects: Mapping[Path, Dialect]) -> list[str]:
    """The notes about each dialect; parts with the same ones are named once."""
    by_notes: dict[tuple[str, ...], list[str]] = {}
    for path, dialect in dialects.items():
        by_notes.setdefault(tuple(dialect.notes()), []).append(path.name)
    return [
        f"{names[0]}{f' and {len(names) - 1} more' if len(names) > 1 else ''}: {'; '.join(notes)}"
        for notes, names in by_notes.items()
        if notes
    ]


def _check_columns(files: Sequence[LogFile], opened: Sequence[pl.LazyFrame]) -> None:
    first = opened[0].collect_schema().names()
    if SPLIT in first:
        raise InputError(
            f"{files[0].path}: a column is called {SPLIT!r}, which alterrec uses itself; rename it"
        )
    for file, frame in zip(files[1:], opened[1:], strict=True):
        names = frame.collect_schema().names()
        if set(names) != set(first):
            raise InputError(
                f"{file.path}: has the columns {', '.join(map(repr, names))}, but {files[0].path} has "
                f"{', '.join(map(repr, first))}; the parts of a log have the same columns. Give the file of "
                "the log alone, or a folder with nothing else"
            )
        if dict(file.partition).keys() != dict(files[0].partition).keys():
            raise InputError(
                f"{file.path}: is in a folder for {_listed(file)}, but {files[0].path} is in one for "
                f"{_listed(files[0])}; the parts of a log are divided by the same columns"
            )


def _listed(file: LogFile) -> str:
    return ", ".join(name for name, _ in file.partition) or "nothing"


def _same_types(files: Sequence[LogFile], opened: Sequence[pl.LazyFrame]) -> list[pl.LazyFrame]:
    """Give each column one type in all parts, without a change to any value.

    pandas writes integers with gaps as floats, so that a part with gaps has another type than one without.
    """
    schemas = [frame.collect_schema() for frame in opened]
    if all(schema == schemas[0] for schema in schemas):
        return list(opened)
    casts: dict[str, pl.DataType] = {}
    for name in schemas[0]:
        kinds = {schema[name] for schema in schemas} - {pl.Null()}
        dates = [kind for kind in kinds if isinstance(kind, pl.Datetime)]
        units = [kind.time_unit for kind in dates]
        if len(kinds) == 1:
            casts[name] = kinds.pop()
        elif len(dates) == len(kinds) and len({kind.time_zone is None for kind in dates}) == 1:
            unit = next(unit for unit in ("ns", "us", "ms") if unit in units)
            casts[name] = pl.Datetime(unit, dates[0].time_zone)
        elif kinds and not any(kind.is_temporal() or kind.is_nested() for kind in kinds):
            casts[name] = pl.String()
        elif kinds:
            _refuse_types(files, schemas, name)
    return [
        frame.select(_as(name, schema[name], casts.get(name, schema[name])) for name in schemas[0])
        for frame, schema in zip(opened, schemas, strict=True)
    ]


def _as(name: str, kind: pl.DataType, wanted: pl.DataType) -> pl.Expr:
    column = pl.col(name)
    if wanted == pl.String and kind.is_float():
        whole = (column == column.round()) & (column.abs() <= 2.0**53)
        text = column.cast(pl.Int64, strict=False).cast(pl.String)
        return pl.when(whole).then(text).otherwise(column.fill_nan(None).cast(pl.String)).alias(name)
    return column if kind == wanted else column.cast(wanted)


def _refuse_types(files: Sequence[LogFile], schemas: Sequence[pl.Schema], name: str) -> None:
    other = next(place for place, schema in enumerate(schemas) if schema[name] != schemas[0][name])
    raise InputError(
        f"{files[other].path}: column {name!r} is {schemas[other][name]}, but in {files[0].path} it is "
        f"{schemas[0][name]}; write the parts of a log with the same types"
    )


def _joined(opened: Sequence[pl.LazyFrame]) -> pl.LazyFrame:
    names = opened[0].collect_schema().names()
    return opened[0] if len(opened) == 1 else pl.concat([frame.select(names) for frame in opened])

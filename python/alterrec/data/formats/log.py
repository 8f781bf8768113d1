"""Any log of events: CSV, TSV, JSON lines or Parquet, compressed or not, in one file or in parts."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Literal

import polars as pl

from alterrec.data.formats.source import INTERACTIONS, PROBLEM, Choices, PrepareOptions, Source
from alterrec.data.log_columns import OURS, find_columns, item_column
from alterrec.data.log_facts import Facts
from alterrec.data.log_files import LogFile, data_suffix, find_log_files
from alterrec.data.log_frames import SPLIT, LogFrame, open_log
from alterrec.data.log_ids import LogIds
from alterrec.data.log_numbers import LogTimes
from alterrec.data.log_times import read_log_times
from alterrec.errors import InputError

FILES = "a CSV, TSV, JSON lines or Parquet file, also .gz or .zst, or a folder of parts; optionally items.*"
GAP = 1800.0
CHOICES = Choices(
    sessions="given",
    gap=GAP,
    events=(),
    collapse=True,
    min_item_count=5,
    min_session=2,
    split="time",
    valid=0.1,
    test=0.1,
    fraction=1,
)
SessionKind = Literal["given", "gap", "user"]
TIME = "alterrec time"  # a column name that no file has
IDS = ("session_id", "user_id", "item_id", "event")


def recognises_log(path: Path) -> bool:
    """Whether a path is a file with a suffix of a log, or a folder that has one."""
    if path.is_dir():
        return any(data_suffix(file) and not file.name.startswith((".", "_")) for file in path.rglob("*"))
    return bool(data_suffix(path))


def read_log(path: Path, options: PrepareOptions) -> Source:
    """Read a log of events with any columns, in any usual form.

    Columns are mapped by ``options.columns`` or known by their names. Times, ids and the dialects of CSV
    files are recognised from the whole column or file; notes say what was found. A row without an item,
    without the session or user that sessions are made from, or with an unreadable time has a ``problem``.

    Raises:
        InputError: a file cannot be read, or something in it can be understood in two ways.

    Example:
        >>> import tempfile
        >>> file = Path(tempfile.mkdtemp()) / "log.csv"
        >>> _ = file.write_text("CustomerID;sku;InvoiceDate\\n17850.0;0071;01.12.2010 08:26\\n;;\\n;22;\\n")
        >>> source = read_log(file, PrepareOptions())
        >>> for row in source.events["interactions"].collect().rows():
        ...     print(row)
        ('0071', '17850', 1291191960, None)
        ('22', None, None, 'no user and no session')
        >>> source.choices.sessions, source.choices.gap, source.per_second
        ('gap', 1800.0, 1)
        >>> print(*source.notes[:3], sep="\\n")
        log.csv: cells are separated by semicolons
        columns known by their names: user_id is 'CustomerID', item_id is 'sku', timestamp is 'InvoiceDate'
        timestamp: dates such as '01.12.2010 08:26' with the day first, read as UTC
    """
    files = find_log_files(path)
    log = open_log(files.log, options.columns)
    found, notes = find_columns(log.names, options.columns, log.where)
    facts = Facts(log)
    schema = log.frame.collect_schema()
    ids = [LogIds(found[ours], schema[found[ours]], ours) for ours in IDS if ours in found]
    for each in ids:
        each.ask(facts)
    times = read_log_times(facts, found["timestamp"], options.times) if "timestamp" in found else None
    if "timestamp" not in found:
        notes.append(_no_times(schema))
    elif times is None:
        notes.append(f"timestamp: the column {found['timestamp']!r} is empty, so there are no times")
    else:
        notes += [note.replace(found["timestamp"], "timestamp", 1) for note in times.notes]
    if times is None and options.times:
        raise InputError(f"times is {options.times!r}, but {log.where} has no times; leave it out")
    columns: dict[str, pl.Expr] = {}
    for each in ids:
        columns[each.ours], remarks = each.read(facts)
        notes += remarks
    choices = _choices(log, found, times, options.choices)
    events, remarks = _events(log, found, columns, times, options.choices.sessions or choices.sessions)
    items, item_files, more = _items(files.items, options.columns)
    if files.others:
        remarks.append(f"not read: {', '.join(sorted({file.name for file in files.others}))}")
    return Source(
        events=events,
        items=items,
        files=(*(file.path for file in log.files), *item_files),
        choices=replace(choices, split="files") if len(events) > 1 else choices,
        per_second=times.per_second if times else 1,
        notes=(*log.notes, *notes, *remarks, *more),
    )


def _no_times(schema: pl.Schema) -> str:
    """Say that no column has the times, and which one may have them."""
    dated = [name for name, kind in schema.items() if kind in (pl.Datetime, pl.Date)]
    which = f"{', '.join(map(repr, dated))} has dates; use" if dated else "if one has the times, use"
    return f"no column is known by its name as the time; {which} --column timestamp=NAME"


def _choices(log: LogFrame, found: Mapping[str, str], times: LogTimes | None, wanted: Choices) -> Choices:
    """The usual choices for the columns that there are; the user's have to be possible with them."""
    sessions: SessionKind = "given" if "session_id" in found else "gap" if times else "user"
    kind = wanted.sessions or sessions
    if kind == "given" and "session_id" not in found:
        raise InputError(
            f"{log.where}: sessions is 'given', but no column is known as the session; map it with --column "
            "session_id=NAME, or make sessions of users with --sessions gap"
        )
    if kind != "given" and "user_id" not in found:
        raise InputError(
            f"{log.where}: sessions is {kind!r}, but no column is known as the user; map it with --column "
            "user_id=NAME (in Python, columns={'user_id': 'NAME'})"
        )
    if kind in ("gap", "day"):
        if times is None:
            raise InputError(
                f"{log.where}: sessions is {kind!r}, but no column is known as the time; map it with "
                "--column timestamp=NAME, or use --sessions user"
            )
        if not times.known_unit:
            raise InputError(
                f"{log.where}: the unit of the times ({found['timestamp']!r}) is unknown, so {kind!r} makes "
                "no sessions; say it with --times s (or ms, us, ns), or use --sessions user"
            )
    return replace(CHOICES, sessions=sessions)


def _events(
    log: LogFrame,
    found: Mapping[str, str],
    columns: dict[str, pl.Expr],
    times: LogTimes | None,
    sessions: str | None,
) -> tuple[dict[str, pl.LazyFrame], list[str]]:
    """The frames of events by split, and a note about columns that are left out."""
    problems = [pl.when(columns["item_id"].is_null()).then(pl.lit("no item"))]
    user = columns.get("user_id", pl.lit(None, pl.String))
    session = columns.get("session_id", pl.lit(None, pl.String))
    wanted, name = (session, "session") if sessions == "given" else (user, "user")
    problems.insert(
        0, pl.when(wanted.is_null() & ~(user.is_null() & session.is_null())).then(pl.lit(f"no {name}"))
    )
    problems.insert(0, pl.when(user.is_null() & session.is_null()).then(pl.lit("no user and no session")))
    if times is not None:
        columns = {**columns, "timestamp": pl.col(TIME)}
        blank = pl.col(found["timestamp"]).is_null()
        if log.frame.collect_schema()[found["timestamp"]] == pl.String:
            blank = blank | (pl.col(found["timestamp"]).str.strip_chars() == "")
        problems.append(pl.when(pl.col(TIME).is_null() & blank).then(pl.lit("no time")))
        problems.append(pl.when(pl.col(TIME).is_null()).then(pl.lit("unreadable time")))
    further = [name for name in log.names if name not in found.values()]
    lost = [name for name in further if name in (*OURS, PROBLEM)]
    order = [ours for ours in ("session_id", "item_id", "user_id", "timestamp", "event") if ours in columns]
    # Computed once, for the times and for their problems.
    timed = log.frame.with_columns(times.value.alias(TIME)) if times else log.frame
    frame = timed.select(
        *(columns[ours].alias(ours) for ours in order),
        pl.coalesce(problems).alias(PROBLEM),
        *(pl.col(name) for name in further if name not in lost),
        *([SPLIT] if log.files[0].split else []),
    )
    notes = [f"columns that are left out: {', '.join(map(repr, lost))}"] if lost else []
    if not log.files[0].split:
        return {INTERACTIONS: frame}, notes
    splits = dict.fromkeys(file.split for file in log.files)
    return {split: frame.filter(pl.col(SPLIT) == split).drop(SPLIT) for split in splits}, notes


def _items(
    files: tuple[LogFile, ...], mapped: Mapping[str, str]
) -> tuple[pl.LazyFrame | None, tuple[Path, ...], list[str]]:
    """The items, their files, and sentences about them."""
    if not files:
        return None, (), []
    log = open_log(files, {})
    name = item_column(log.names, mapped, log.where)
    facts = Facts(log)
    ids = LogIds(name, log.frame.collect_schema()[name], "item_id")
    ids.ask(facts)
    text, notes = ids.read(facts)
    frame = log.frame.with_columns(text.alias("item_id"))
    if name != "item_id":
        frame = frame.drop(name)
    where = Path(log.where).name
    return (
        frame,
        tuple(file.path for file in log.files),
        [
            *log.notes,
            f"{where}: read as the items, whose ids are in {name!r}",
            *(f"{where}: {note}" for note in notes),
        ],
    )

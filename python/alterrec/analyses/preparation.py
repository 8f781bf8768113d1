"""Prepare a data set and show what was done: sizes by step, published counts, choices, dropped rows."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from alterrec.data.choices import ChoiceRecord
from alterrec.data.dataset import SPLITS, Dataset
from alterrec.data.formats.source import Choices, PrepareOptions
from alterrec.data.frames import frames_as_log
from alterrec.data.prepare import prepare_folder
from alterrec.data.prepared import PreparedRecord, load_prepared
from alterrec.errors import InputError
from alterrec.record_json import to_json
from alterrec.report.presentation import DataTable, Presentation, Report, Section
from alterrec.report.tables import Table, count, duration, listed

NAMES = {"events": "events", "items": "items", "sessions": "sessions", "users": "users"}
NAMES |= {"rows": "rows of the files", "read_sessions": "sessions before splits and filters"}
NAMES |= {"read_items": "items before filters", "read_users": "users before filters"}
NAMES |= {split: f"sessions of {split}" for split in SPLITS}
NAMES |= {f"{split}_events": f"events of {split}" for split in SPLITS}
ORIGINS = {"user": "you", "format": "the format", "default": "default"}


@dataclass(frozen=True, repr=False)
class Preparation(Report):
    """What :func:`alterrec.prepare` has done.

    Attributes:
        path: the folder.
        record: the content of its ``dataset.json``.
        was_there: whether the folder had been prepared before from the same files by the same choices, so
            that nothing was done.
    """

    path: Path
    record: PreparedRecord
    was_there: bool = False

    def brief(self) -> str:
        sizes = ", ".join(f"{name} {self.record.counts[name]}" for name in (*SPLITS, "items"))
        return f"{str(self.path)!r}: {sizes}"

    def load(self) -> Dataset:
        """Read the folder as a data set."""
        return load_prepared(self.path)

    def to_dict(self) -> dict[str, Any]:
        """The content of ``dataset.json``, with the folder and whether it was there before."""
        found: dict[str, Any] = to_json(self.record)
        return {"path": str(self.path), "was_there": self.was_there, **found}

    def presentation(self) -> Presentation:
        """Sizes by step, published counts beside ours, choices and dropped rows."""
        record = self.record
        sizes = [f"{count(record.counts[split])} sessions in {split}" for split in SPLITS]
        events = f"{count(record.counts['events'])} events of {count(record.counts['items'])} items"
        text = f"Text of the items: {listed(record.text)}." if record.text else "The items have no text."
        findings = [f"{listed(sizes)}: {events}.", text]
        if self.was_there:
            findings.append("The folder was prepared before from the same files by the same choices.")
        return Presentation(
            name="preparation",
            title=f"{record.name}: data prepared from format {record.format}",
            meta=f"alterrec {record.version} · {count(len(record.sources))} files",
            findings=findings,
            caveats=record.notes,
            sections=[
                Section("Sizes by step", tables={"steps": _steps(record)}),
                *_dropped(record),
                *_published(record),
                Section("Choices", tables={"choices": _choices(record.choices)}),
            ],
        )


def prepare(
    source: Any,
    out: str | Path | None = None,
    *,
    items: Any = None,
    format: str | None = None,
    columns: Mapping[str, str] | None = None,
    locale: str | None = None,
    times: Literal["s", "ms", "us", "ns", "excel", "day-first", "month-first"] | None = None,
    text: Sequence[str] | None = None,
    sessions: Literal["given", "gap", "day", "user"] | None = None,
    gap: float | None = None,
    events: Sequence[str] | None = None,
    collapse: bool | None = None,
    min_item_count: int | None = None,
    min_session: int | None = None,
    split: Literal["time", "days", "files", "seed", "last-item"] | None = None,
    valid: float | None = None,
    test: float | None = None,
    fraction: int | None = None,
    seed: int | None = None,
    listen: Callable[[str], None] = lambda line: None,
) -> Preparation:
    """Turn files of a published format, or a raw log, into a folder that every command reads.

    Rows that cannot be used are dropped and counted. Events become sessions, which are split into training,
    validation and test. Then items and sessions of training are filtered until nothing changes. Validation
    and test have no influence on filters, on the catalogue or on its texts; their items that are not in the
    catalogue are dropped. docs/data.md explains every choice.

    Args:
        source: the file or folder as published, or the events as a DataFrame or LazyFrame of polars, a
            DataFrame of pandas or an Arrow table, which are read as the format ``log`` reads its files.
        out: the new folder; None for one in the cache.
        items: the items, if ``source`` is a frame.
        format: name of the format (``alterrec list formats``); None recognises it.
        columns: our column name -> the file's, for any of session_id, item_id, timestamp, user_id, event.
        locale: the part of a multilingual source, such as ``"FR"``, or ``"all"``.
        times: how times are written where their values leave it open.
        text: item columns to keep as text, by name or alias; None chooses them by name and content.
        sessions: ``given`` (by session_id), ``gap`` (by user, until ``gap`` seconds pass without an event),
            ``day`` (by user and day in UTC) or ``user`` (one per user).
        gap: seconds without an event that end a session.
        events: kinds of events to keep, such as ``("view", "cart")``; empty keeps all.
        collapse: whether equal items that follow one another in a session are one event.
        min_item_count: items with fewer events in training are dropped.
        min_session: sessions with fewer events are dropped.
        split: ``time`` (the last sessions by their last event), ``days`` (the last days), ``files`` (as the
            source has them), ``seed`` (validation is drawn) or ``last-item`` (the last two items of a user).
        valid, test: shares of the sessions, or numbers of days with ``split="days"``.
        fraction: only the last 1/fraction of the training sessions is kept.
        seed: seed of ``split="seed"``; default 0.
        listen: called with a line before each long step.

    Raises:
        InputError: the files, an option or a choice is wrong, or ``out`` has other content.

    Example:
        >>> import tempfile
        >>> folder = Path(tempfile.mkdtemp())
        >>> rows = "".join(f'{{"session": {n}, "events": [{{"aid": 1, "ts": {n}000, "type": "clicks"}}, '
        ...                f'{{"aid": 2, "ts": {n}001, "type": "clicks"}}]}}\\n' for n in range(1, 11))
        >>> _ = (folder / "train.jsonl").write_text(rows)
        >>> prepare(folder / "train.jsonl", folder / "out", format="otto", split="time")  # doctest: +ELLIPSIS
        Preparation('.../out': train 8, valid 1, test 1, items 2)
    """
    choices = Choices(
        sessions=sessions,
        gap=gap,
        events=None if events is None else tuple(events),
        collapse=collapse,
        min_item_count=min_item_count,
        min_session=min_session,
        split=split,
        valid=valid,
        test=test,
        fraction=fraction,
    )
    wanted = None if text is None else tuple(text)
    options = PrepareOptions(dict(columns or {}), locale, wanted, choices=choices, times=times)
    if isinstance(source, str | Path):
        if items is not None:
            raise InputError(
                "a path and items are given; give the path alone, or a frame of events and items"
            )
        made = prepare_folder(source, out, format=format, options=options, seed=seed, listen=listen)
    else:
        if format not in (None, "log"):
            raise InputError(f"format is {format!r}, but frames are read as the format log; leave it out")
        with frames_as_log(source, items, listen) as folder:
            made = prepare_folder(folder, out, format="log", options=options, seed=seed)
    return Preparation(made.path, made.record, made.was_there)


def _steps(record: PreparedRecord) -> DataTable:
    def cell(number: int | None) -> str:
        return "" if number is None else count(number)

    rows = [(step.name, cell(step.events), cell(step.sessions), cell(step.items)) for step in record.steps]
    return DataTable(
        Table(("step", "events", "sessions", "items"), tuple(rows)), [to_json(step) for step in record.steps]
    )


def _dropped(record: PreparedRecord) -> list[Section]:
    """Rows that could not be used by reason, and usable rows by kind of event."""
    sections = []
    if record.dropped:
        rows = tuple((reason, count(number)) for reason, number in record.dropped.items())
        table = Table(("rows that cannot be used", "rows"), rows)
        sections.append(Section("Rows that cannot be used", tables={"dropped": DataTable(table)}))
    if record.kinds:
        rows = tuple((kind, count(number)) for kind, number in record.kinds.items())
        table = Table(("kind of event", "usable rows"), rows)
        sections.append(Section("Kinds of events", tables={"kinds": DataTable(table)}))
    return sections


def _published(record: PreparedRecord) -> list[Section]:
    if not record.expected:
        return []
    rows = []
    for name, published in record.expected.items():
        ours = record.counts.get(name)
        change = "" if ours is None or not published else f"{100 * (ours / published - 1):+.1f}%"
        rows.append((NAMES.get(name, name), count(published), "" if ours is None else count(ours), change))
    table = Table(("count", "published", "here", "difference"), tuple(rows))
    return [Section("Published counts", tables={"published": DataTable(table)})]


def _choices(choices: Mapping[str, ChoiceRecord]) -> DataTable:
    rows = [(name, _shown(name, choice.value), ORIGINS[choice.origin]) for name, choice in choices.items()]
    return DataTable(Table(("choice", "value", "from"), tuple(rows), prose=True))


def _shown(name: str, value: str | float | list[str]) -> str:
    """A value as the command line takes it."""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, list):
        return ", ".join(value) or "all"
    return duration(value) if name == "gap" and isinstance(value, int | float) else f"{value}"

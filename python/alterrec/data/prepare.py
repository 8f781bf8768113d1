"""Prepare a data set: from the files of a published format to a folder that every command reads."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from alterrec import __version__
from alterrec.data.catalogue import build_catalogue
from alterrec.data.choices import ChoiceRecord, resolve_choices
from alterrec.data.damaged_sources import reading_sources
from alterrec.data.dataset import SPLITS
from alterrec.data.event_table import read_event_table
from alterrec.data.filters import collapsed, filter_held_out, filter_training
from alterrec.data.formats import FORMATS, GENERAL
from alterrec.data.formats.source import Choices, Format, PrepareOptions, Source
from alterrec.data.prepared import (
    RECORD,
    FileRecord,
    PreparedRecord,
    StepSizes,
    file_record,
    is_prepared,
    parts_of_key,
    preparation_key,
    read_record,
)
from alterrec.data.prepared_files import NUMBERED, write_sessions
from alterrec.data.sessionize import SessionTable, sessionize
from alterrec.data.splitting import last_share, split_sessions
from alterrec.data.tables import find_file
from alterrec.data.vector_cache import default_cache_dir
from alterrec.errors import InputError, naming, nearest
from alterrec.files import atomic_folder, reading, write_json
from alterrec.record_json import to_json

Listen = Callable[[str], None]


@dataclass(frozen=True)
class PreparedFolder:
    """A folder of prepared data.

    Attributes:
        path: the folder.
        record: the content of its ``dataset.json``.
        was_there: whether it had been prepared before, so that nothing was done.
    """

    path: Path
    record: PreparedRecord
    was_there: bool = False


def find_format(path: Path, format: str | None = None) -> str:
    """Return the published format that is named, or else the one that recognises a path.

    The general format is chosen only if no other one recognises the path.

    Raises:
        InputError: no such path or format, no format recognises the path, or several do.

    Example:
        >>> find_format(Path("."), "yoochose")  # doctest: +ELLIPSIS
        Traceback (most recent call last):
            ...
        alterrec.errors.InputError: unknown data format 'yoochose'; did you mean 'yoochoose'? `...
    """
    if format is not None and format not in FORMATS:
        hint = nearest(format, FORMATS) or ";"
        raise InputError(f"unknown data format {format!r}{hint} `alterrec list formats` shows all")
    if not path.exists():
        siblings = [other.name for other in path.parent.iterdir()] if path.parent.is_dir() else []
        raise InputError(f"{path}: no such file or folder{nearest(path.name, siblings)}")
    if format is not None:
        return format
    if is_prepared(path):
        raise InputError(f"{path}: is prepared already; give it to other commands as --data")
    found = recognised(path)
    if found in ([], [GENERAL]) and path.is_dir() and find_file(path, "items"):
        raise InputError(
            f"{path}: has an items file, as data folders have that need no preparation; give it to other "
            "commands as --data, or name its format with --format NAME"
        )
    if len(found) > 1:
        raise InputError(
            f"{path}: several data formats fit: {', '.join(found)}; choose one with --format NAME (in "
            "Python, format=NAME)"
        )
    if not found:
        known = "; ".join(f"{name}: {entry.files}" for name, entry in FORMATS.items())
        raise InputError(f"{path}: no data format recognises it; choose one with --format NAME ({known})")
    return found[0]


def recognised(path: Path) -> list[str]:
    """The published formats that recognise a path; the general one only if it is the only one."""
    found = [name for name, entry in FORMATS.items() if entry.recognises(path)]
    return [name for name in found if name != GENERAL] or found


def prepare_folder(
    path: str | Path,
    out: str | Path | None = None,
    *,
    format: str | None = None,
    options: PrepareOptions | None = None,
    seed: int | None = None,
    listen: Listen = lambda line: None,
) -> PreparedFolder:
    """Prepare a data set from files of a published format.

    Args:
        path: the file or folder.
        out: the new folder; None for one in the cache, which is named by what it is made from.
        format: name of the format; None recognises it.
        options: columns, locale, text and choices.
        seed: seed of a split by seed, default 0; refused with other splits.
        listen: called with a line before each long step.

    Raises:
        InputError: the files, an option or a choice is wrong, or ``out`` is a folder with other content.
    """
    path = Path(path)
    with naming(path):
        return _prepare(path, out, format, options or PrepareOptions(), seed, listen)


def _prepare(
    path: Path,
    out: str | Path | None,
    format: str | None,
    options: PrepareOptions,
    seed: int | None,
    listen: Listen,
) -> PreparedFolder:
    name = find_format(path, format)
    listen(f"{path}: read as {name}{'' if format else ', recognised by its files'}")
    _check_options(name, FORMATS[name], options)
    _check_out(out)
    options = replace(options, seed=seed or 0)
    source = FORMATS[name].read(path, options)
    choices, made = resolve_choices(options.choices, source.choices, tuple(source.events))
    if seed is not None and choices.split != "seed":
        raise InputError(f"seed is not read, because split is {choices.split!r}; leave out --seed")
    arguments = _arguments(options, choices)
    before = [_state(file) for file in source.files]
    files = _hash_files(path, source)
    wanted = parts_of_key(__version__, name, files, arguments, made)
    folder = Path(out) if out is not None else default_cache_dir() / "prepared" / preparation_key(wanted)
    known = _existing(folder, wanted)
    if known is not None:
        return known
    try:
        with atomic_folder(folder) as new:
            record = replace(
                _write(new, source, choices, options, listen),
                name=_name(path, options),
                format=name,
                sources=files,
                arguments=arguments,
                choices=made,
            )
            for file, state in zip(source.files, before, strict=True):
                if _state(file) != state:
                    raise InputError(f"{file}: has changed while it was read; prepare it again")
            write_json(new / RECORD, to_json(record))
    except FileExistsError:
        # Another process has prepared the same meanwhile.
        known = _existing(folder, wanted)
        if known is None:
            raise InputError(f"{folder} is not empty; choose a new folder") from None
        return known
    return PreparedFolder(folder, record)


def _check_options(name: str, format: Format, options: PrepareOptions) -> None:
    flags = {"columns": "--column", "locale": "--locale", "times": "--times"}
    for option, flag in flags.items():
        if getattr(options, option) and option not in format.reads:
            others = [other for other, entry in FORMATS.items() if option in entry.reads]
            raise InputError(
                f"format {name} does not read {flag}; leave it out (formats that read it: "
                f"{', '.join(others) or 'none'})"
            )


def _arguments(options: PrepareOptions, choices: Choices) -> dict[str, Any]:
    """The options that were given, for the record."""
    found: dict[str, Any] = {}
    if options.columns:
        found["columns"] = dict(options.columns)
    for option in ("locale", "times"):
        if getattr(options, option) is not None:
            found[option] = getattr(options, option)
    if options.text is not None:
        found["text"] = list(options.text)
    if choices.split == "seed":
        found["seed"] = options.seed
    return found


def _name(path: Path, options: PrepareOptions) -> str:
    """The name of the folder, or of the file without its suffixes, and the locale."""
    name = path.resolve().name
    if path.is_file():
        name = name.split(".")[0] or name
    return f"{name}-{options.locale}" if options.locale else name


def _state(file: Path) -> tuple[int, int]:
    """Size and time of the last change, which tell whether a file has changed."""
    with reading(file, "check the file"):
        status = file.stat()
    return status.st_size, status.st_mtime_ns


def _hash_files(path: Path, source: Source) -> list[FileRecord]:
    def name(file: Path) -> str:
        return file.relative_to(path).as_posix() if file.is_relative_to(path) and file != path else file.name

    # Hashing releases the interpreter; two threads are as fast as disks usually are.
    with ThreadPoolExecutor(2) as pool:
        return list(pool.map(lambda file: file_record(file, name(file)), source.files))


def _check_out(out: str | Path | None) -> None:
    """Refuse a folder with other content, before files are read."""
    if out is None:
        return
    out = Path(out)
    if out.exists() and not out.is_dir():
        raise InputError(f"{out} is a file; choose a new folder")
    if out.is_dir() and any(out.iterdir()) and not is_prepared(out):
        raise InputError(f"{out} is not empty; choose a new folder")


def _existing(folder: Path, wanted: Mapping[str, Any]) -> PreparedFolder | None:
    """The folder, if it was prepared from the same sources by the same choices; None if there is none.

    Raises:
        InputError: it was prepared from others, or is damaged.
    """
    if not is_prepared(folder):
        return None
    record = read_record(folder)
    there = parts_of_key(record.version, record.format, record.sources, record.arguments, record.choices)
    if there != wanted:
        names = [name for name in {**there, **wanted} if there.get(name) != wanted.get(name)]
        raise InputError(
            f"{folder} was prepared from other files or by other choices; what differs: {', '.join(names)}. "
            "Choose a new folder, or delete this one"
        )
    return PreparedFolder(folder, record, was_there=True)


def _write(
    folder: Path, source: Source, choices: Choices, options: PrepareOptions, listen: Listen
) -> PreparedRecord:
    """Write the tables and stores of a source; return what is known of them."""
    listen("reading the events")
    with reading_sources(source.files):
        events, ids, rows = read_event_table(source, choices)
    steps = [StepSizes("rows read", rows.rows), StepSizes("rows used", rows.used)]
    notes = list(source.notes)

    def step(name: str, *parts: SessionTable) -> None:
        items = np.zeros(len(ids.item_ids), np.bool_)
        for part in parts:
            items[part.item] = True
        events, sessions = sum(part.num_events for part in parts), sum(len(part) for part in parts)
        steps.append(StepSizes(name, events, sessions, int(items.sum())))

    listen("making sessions")
    sessions, several = sessionize(events, choices, source.per_second)
    del events
    if several:
        notes.append(f"sessions with several users, which count as unknown: {several}")
    step("sessions", sessions)
    read = {"rows": rows.rows, "read_sessions": len(sessions), "read_items": len(ids.item_ids)}
    if ids.user_ids is not None:
        read["read_users"] = len(ids.user_ids)
    if choices.collapse:
        sessions = collapsed(sessions)
        step("repeats collapsed", sessions)
    split, remarks = split_sessions(sessions, tuple(source.events), choices, source.per_second, options.seed)
    del sessions
    notes += remarks
    for name in SPLITS:
        step(f"split: {name}", split[name])
    listen("filtering items and sessions")
    split["train"], rounds = filter_training(split["train"], choices, len(ids.item_ids))
    counts = np.bincount(split["train"].item, minlength=len(ids.item_ids))
    if rounds:
        step(f"filters: train ({rounds} {'rounds' if rounds > 1 else 'round'})", split["train"])
    if choices.fraction and choices.fraction > 1:
        split["train"] = last_share(split["train"], choices.fraction)
        step(f"last 1/{choices.fraction}: train", split["train"])
    _check_sessions("train", split["train"])
    with reading_sources(source.files):
        catalogue = build_catalogue(
            source, ids, split["train"], counts, choices.min_item_count or 0, options.text
        )
    for name in SPLITS[1:]:
        split[name] = filter_held_out(split[name], choices, catalogue.number >= 0)
        step(f"items and lengths: {name}", split[name])
        _check_sessions(name, split[name])
    listen("writing")
    counted = write_sessions(folder, ids, split, catalogue, choices)
    step("prepared", *split.values())
    return PreparedRecord(
        schema=PreparedRecord.LATEST_SCHEMA,
        name="",
        version=__version__,
        format="",
        sources=[],
        arguments={},
        choices=dict[str, ChoiceRecord](),
        per_second=source.per_second,
        rows=rows.rows,
        dropped=rows.dropped,
        kinds=rows.kinds,
        steps=steps,
        expected=dict(source.expected),
        counts=counted | read,
        text=catalogue.items.columns[1:],
        notes=[*notes, *catalogue.notes],
        numbered=choices.sessions in NUMBERED,
        files=[file_record(path, path.name) for path in sorted(folder.iterdir())],
    )


def _check_sessions(name: str, sessions: SessionTable) -> None:
    if not (sessions.lengths >= 2).any():
        raise InputError(
            f"no session of {name} has 2 or more events, so there is nothing to predict; use weaker filters, "
            "longer sessions or another split"
        )

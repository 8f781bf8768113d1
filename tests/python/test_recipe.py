"""Recipes: every shipped one resolves, every wrong key and value has its message."""

from __future__ import annotations

import tomllib
from importlib import resources
from pathlib import Path
from typing import Any

import pytest

from alterrec.errors import InputError
from alterrec.recipe import (
    Recipe,
    differences,
    dump_recipe,
    load_recipe,
    recipe_fields,
    recipe_names,
    resolve,
)
from alterrec.recipe_settings import parse_bytes

RECIPES = Path(str(resources.files("alterrec") / "recipes"))
SHIPPED = sorted(path.relative_to(RECIPES).as_posix() for path in RECIPES.rglob("*.toml"))
KINDS = ("models", "original", "presets", "data")
PRESETS = [("best",), ("paper",), ("authors",), ("paper", "hd"), ("paper", "amazon-m2"), ("authors", "hd")]


def test_the_names_are_the_files() -> None:
    assert len(SHIPPED) >= 18
    found = {f"{kind}/{name}.toml" for kind in KINDS for name in recipe_names(kind)}
    assert found == set(SHIPPED)


@pytest.mark.parametrize("file", SHIPPED)
def test_a_shipped_recipe_gives_its_reason(file: str) -> None:
    assert (RECIPES / file).read_text("utf-8").startswith("# ")


@pytest.mark.parametrize("presets", PRESETS)
@pytest.mark.parametrize("model", recipe_names("models"))
def test_every_model_resolves_under_every_preset_and_reads_back(
    model: str, presets: tuple[str, ...], tmp_path: Path
) -> None:
    recipe = resolve(model, presets)
    assert (recipe.model_name, recipe.presets) == (model, presets)
    file = tmp_path / "recipe.toml"
    file.write_text(dump_recipe(recipe), "utf-8")
    assert load_recipe(file) == recipe


@pytest.mark.parametrize("model", recipe_names("original"))
def test_a_model_of_its_own_paper_wins_over_other_presets_and_reads_back(model: str, tmp_path: Path) -> None:
    recipe = resolve(model, ("paper", "original"))
    assert recipe != resolve(model, ("paper",))
    file = tmp_path / "recipe.toml"
    file.write_text(dump_recipe(recipe), "utf-8")
    assert load_recipe(file) == recipe


def test_a_model_without_a_paper_of_its_own_has_no_original() -> None:
    with pytest.raises(InputError, match=r"preset 'original' does not exist for model .alterrec.; .*sasrec"):
        resolve("alterrec", ("original",))


@pytest.mark.parametrize("file", SHIPPED)
def test_a_shipped_delta_has_known_keys_alone(file: str) -> None:
    tables = tomllib.loads((RECIPES / file).read_text("utf-8"))
    assert not {f"{table}.{key}" for table, row in tables.items() for key in row} - recipe_fields().keys()


def test_best_is_the_defaults() -> None:
    assert resolve("alterrec", ("best",)) == Recipe(model_name="alterrec", presets=("best",))


def test_later_layers_win() -> None:
    recipe = resolve("alterrec", ("paper", "hd"), {"window.first": "3", "optim.lr": 0.5})
    assert (recipe.window.first, recipe.window.last) == (3, 2000)
    assert recipe.optim.lr == 0.5
    assert recipe.schedule.epochs == resolve("alterrec", ("paper",)).schedule.epochs == 30


@pytest.mark.parametrize(
    ("key", "text", "value"),
    [
        ("schedule.gap", "4", 4),
        ("schedule.metric", "hits@5", "hits@5"),
        ("run.metrics", "mrr@10, hits@5", ("mrr@10", "hits@5")),
        ("optim.lr", "1", 1.0),
        ("window.last", "0.25", 0.25),
        ("window.last", "200", 200),
        ("fusion.tune", "false", False),
        ("id.temperature", "learned", "learned"),
        ("id.temperature", "2", 2.0),
        ("id.dropout", "0", 0.0),
        ("text.encoder", "all-MiniLM-L6-v2", "all-MiniLM-L6-v2"),
        ("data.text_fields", "title, brand", ("title", "brand")),
        ("run.memory_budget", "512MiB", "512MiB"),
    ],
)
def test_a_value_given_as_text_is_read_as_the_field_is(key: str, text: str, value: object) -> None:
    table, field = key.split(".")
    found = getattr(getattr(resolve("alterrec", overrides={key: text}), table), field)
    assert found == value
    assert type(found) is type(value)


@pytest.mark.parametrize(
    ("key", "value", "parts"),
    [
        ("schedule.gapp", "4", ["'schedule.gapp' is unknown", "did you mean 'schedule.gap'"]),
        ("gap", "4", ["'gap' is unknown", "alterrec list recipes"]),
        ("schedule.gap", "0", ["schedule.gap is 0", "greater than or equal to 1", "m_gap"]),
        ("schedule.gap", "2.5", ["schedule.gap is 2.5", "integer"]),
        ("schedule.gap", "often", ["schedule.gap is 'often'", "integer"]),
        ("schedule.gap", "true", ["schedule.gap is True", "integer"]),
        ("schedule.metric", "auc@7", ["schedule.metric is 'auc@7'", "hits@K"]),
        ("schedule.metric", "coverage@7", ["is one of lists, not allowed here", "hits@K"]),
        ("run.metrics", "diversity@1", ["has the cutoff 1; use 2 or more"]),
        ("schedule.metric", "hits@0", ["schedule.metric is 'hits@0'", "1 or more"]),
        ("run.metrics", "mrr@20,hts@5", ["run.metrics is", "did you mean 'hits'"]),
        ("schedule.negatives", "hard", ["schedule.negatives is 'hard'", "'window'"]),
        ("window.last", "0", ["window.last is 0", "a rank (1, 2, ...) or a fraction"]),
        ("window.first", "1.5", ["window.first is 1.5", "a rank (1, 2, ...) or a fraction"]),
        ("window.random_share", "2", ["window.random_share is 2;", "less than or equal to 1"]),
        ("fusion.alpha", "-0.1", ["fusion.alpha is -0.1", "greater than or equal to 0"]),
        ("optim.lr", "0", ["optim.lr is 0;", "greater than 0"]),
        ("model.dropout", "1", ["model.dropout is 1;", "less than 1"]),
        ("model.heads", "3", ["dim is 64 and heads is 3", "heads that divide dim"]),
        ("id.temperature", "0", ["id.temperature is 0", "above 0, or 'learned'"]),
        ("run.memory_budget", "plenty", ["run.memory_budget is 'plenty'", "512MiB"]),
        ("run.seed", "-1", ["run.seed is -1", "greater than or equal to 0"]),
    ],
)
def test_a_wrong_key_or_value_is_named_with_what_is_allowed(key: str, value: str, parts: list[str]) -> None:
    with pytest.raises(InputError) as error:
        resolve("alterrec", overrides={key: value})
    message = str(error.value)
    assert all(part in message for part in parts), message
    assert "\n" not in message


@pytest.mark.parametrize(
    ("arguments", "parts"),
    [
        ({"model": "alterec"}, ["model 'alterec' is unknown", "did you mean 'alterrec'"]),
        ({"model": "alterrec", "presets": ["papr"]}, ["preset 'papr' is unknown", "did you mean 'paper'"]),
        ({"model": "alterrec", "presets": ["../models/x"]}, ["preset '../models/x' is unknown"]),
    ],
)
def test_an_unknown_name_is_answered_with_the_nearest(arguments: dict[str, Any], parts: list[str]) -> None:
    with pytest.raises(InputError) as error:
        resolve(**arguments)
    assert all(part in str(error.value) for part in parts), error.value


@pytest.mark.parametrize(
    ("content", "part"),
    [
        (None, "no recipe.toml in"),
        (b"[schedule\n", "not TOML"),
        (b"\xff\xfe", "not UTF-8 at byte 0"),
        (b"[schedule]\ngapp = 3\n", "schedule.gapp"),
        (b"[timetable]\ngap = 3\n", "timetable"),
        (b"schedule = 3\n", "schedule is 3; expected a table"),
        (b"schema = 'new'\n", "schema is 'new'; expected a whole number"),
        (b"schema = 9\n", "reads up to 3; install a newer alterrec"),
        (b"presets = 3\n", "presets is 3"),
        (b"[optim]\nlr = inf\n", "optim.lr is inf"),
        (b"[optim]\nlr = nan\n", "optim.lr is nan"),
        (b"[model]\ndim = 9223372036854775808\n", "model.dim is 9223372036854775808"),
        (b"[run]\nseed = 18446744073709551616\n", "run.seed is 18446744073709551616"),
        (b"[window]\nsample = 4294967296\n", "window.sample is 4294967296; use a number of at most"),
        (b"a = " + b"9" * 5000, "not TOML"),
        (b"a = " + b"[" * 5000 + b"]" * 5000, "nested too deeply"),
    ],
)
def test_a_damaged_recipe_file_is_an_input_error(content: bytes | None, part: str, tmp_path: Path) -> None:
    file = tmp_path / "recipe.toml"
    if content is not None:
        file.write_bytes(content)
    with pytest.raises(InputError, match=part):
        load_recipe(file)


def test_every_field_has_a_description() -> None:
    fields = recipe_fields()
    assert len(fields) > 40
    assert not [key for key, (description, _) in fields.items() if not description]


def test_differences_are_the_changed_keys() -> None:
    changed = resolve("alterrec", overrides={"schedule.gap": 4, "data.text_fields": ("title",)})
    assert list(differences(changed, resolve("alterrec"))) == [
        'data.text_fields = ["title"]',
        "schedule.gap = 4",
    ]


@pytest.mark.parametrize(("text", "size"), [("1GiB", 2**30), ("1.5KiB", 1536), ("2MB", 2_000_000), ("7", 7)])
def test_sizes(text: str, size: int) -> None:
    assert parse_bytes(text) == size

"""Digests of recipes. Studies name the folders of their runs by them, so they must never change."""

from __future__ import annotations

import functools
import hashlib
import json
from importlib import resources
from typing import Any

from alterrec import recipe as recipes
from alterrec.recipe import toml_value


def recipe_digest(recipe: recipes.Recipe, data: str) -> str:
    """Return a short digest of a recipe and the fingerprint of the data; a study names runs by it.

    It covers what differs from the defaults of the first schema, under the names of that schema. Rules for
    seen items whose meaning has changed since then are marked by the schema that changed it.

    Example:
        >>> from alterrec.recipe import resolve
        >>> recipe_digest(resolve("sasrec"), "data") == recipe_digest(resolve("sasrec"), "other data")
        False
    """
    first, changed = _first_schema(), {}
    names = {new: old for old, new in recipes.RENAMED.items()}
    for key, (_, default) in recipes.recipe_fields().items():
        value, name = _plain(recipe.value(key)), names.get(key, key)
        if value != first.get(name, _plain(recipes.ADDED.get(key, default))):
            changed[name] = value
    changed |= {name: value for name, value in recipes.REMOVED.items() if value != first.get(name, value)}
    if recipe.data.exclude_seen != "never":
        changed["schema"] = recipes.SEEN_ITEMS_SCHEMA
    return _digest(json.dumps([recipe.model_name, list(recipe.presets), changed, data], sort_keys=True))


def first_release_digest(recipe: recipes.Recipe, data: str) -> str:
    """Return the digest that version 0.1.0 gave to a run, so that studies find its folders.

    The digest does not say that the run would now be the same; see ``SEEN_ITEMS_SCHEMA``.
    """
    lines = [
        f"model_name = {toml_value(recipe.model_name)}",
        f"presets = {toml_value(recipe.presets)}",
    ]
    table = ""
    for name in _first_schema():
        if name.partition(".")[0] != table:
            table = name.partition(".")[0]
            lines += ["", f"[{table}]"]
        value = (
            recipes.REMOVED[name]
            if name in recipes.REMOVED
            else recipe.value(recipes.RENAMED.get(name, name))
        )
        if value is not None:
            lines.append(f"{name.partition('.')[2]} = {toml_value(value)}")
    # No run of that version has other values, so with them nothing is found.
    lines += [
        f"{key} = {toml_value(recipe.value(key))}"
        for key in recipes.ADDED
        if recipe.value(key) != recipes.ADDED[key]
    ]
    return _digest("\n".join(lines) + "\n" + data)


@functools.cache
def _first_schema() -> dict[str, Any]:
    return recipes.flat_tables(
        json.loads((resources.files("alterrec") / "recipes" / "schema-1.json").read_text("utf-8"))
    )


def _plain(value: Any) -> Any:
    return list(value) if isinstance(value, tuple) else value


def _digest(text: str) -> str:
    return hashlib.blake2b(text.encode(), digest_size=5).hexdigest()

"""Which runs may stand beside each other, and which are one system under several seeds."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from alterrec.results import RunFolder, RunResult, reported_split

# Settings that a system may be named by where several have one label.
MOST_SETTINGS = 3


def folder_name(path: Path) -> str:
    """A run by the name of its folder."""
    return path.resolve().name


def reason_not_comparable(ours: RunResult, theirs: RunResult) -> str:
    """Why two runs cannot be compared; empty where they can."""
    if theirs.stopped == "interrupted":
        return "interrupted"
    if theirs.data.fingerprint != ours.data.fingerprint:
        return f"other data: {theirs.data.name}"
    if theirs.data.exclude_seen != ours.data.exclude_seen:
        return "another rule for items already in the session"
    if theirs.data.targets != ours.data.targets:
        return "other targets"
    return "" if reported_split(theirs) == reported_split(ours) else "no test numbers"


def recipe_without_seed(run: RunFolder) -> str:
    """What runs that differ only by their seed, device or threads have in common."""
    settings = {name: table for name, table in run.settings.items() if name != "run"}
    precision = run.settings.get("run", {}).get("precision")
    return json.dumps(
        [run.result.model, run.result.presets, settings, precision], sort_keys=True, default=str
    )


def runs_of_same_recipe(run: RunFolder, rivals: Sequence[RunFolder]) -> list[RunFolder]:
    """The run, and those of its rivals that are other seeds of it."""
    return [run, *(rival for rival in rivals if recipe_without_seed(rival) == recipe_without_seed(run))]


def group_by_system(runs: Sequence[RunFolder]) -> dict[str, list[RunFolder]]:
    """Runs of each system, the seeds in ascending order; systems of one label are named by what differs."""
    groups: dict[str, list[RunFolder]] = {}
    for run in runs:
        groups.setdefault(recipe_without_seed(run), []).append(run)
    systems = list(groups.values())
    # What all have in common tells nothing apart.
    one_preset = len({tuple(run.result.presets) for run in runs}) == 1
    labels = [own[0].result.model if one_preset else system_label(own[0]) for own in systems]
    named = {}
    for own, label in zip(systems, labels, strict=True):
        alike = [other for other, name in zip(systems, labels, strict=True) if name == label]
        name = label if len(alike) == 1 else f"{label} ({_what_differs(own, alike)})"
        named[name] = sorted(own, key=lambda run: run.result.seed)
    return named


def _what_differs(own: Sequence[RunFolder], alike: Sequence[Sequence[RunFolder]]) -> str:
    """The settings that no other system of the same label shares; the folder where they are many or few."""
    settings = [_flat(other[0]) for other in alike]
    mine = _flat(own[0])
    keys = [key for key in mine if any(other.get(key) != mine[key] for other in settings)]
    if not 1 <= len(keys) <= MOST_SETTINGS:
        return folder_name(own[0].path)
    return ", ".join(f"{key} {mine[key]}" for key in keys)


def _flat(run: RunFolder) -> dict[str, Any]:
    return {
        f"{table}.{key}": value
        for table, values in run.settings.items()
        if isinstance(values, dict) and table != "run"
        for key, value in values.items()
    }


def system_label(run: RunFolder) -> str:
    """A run by its system and presets."""
    presets = ", ".join(run.result.presets)
    return f"{run.result.model} ({presets})" if presets else run.result.model

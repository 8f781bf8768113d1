"""Decide which runs can be compared, and which are seeds of one system."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from alterrec.recipe import flat_tables
from alterrec.results import RunFolder, RunResult, reported_split
from alterrec.study_records import StudyResult

# A system is named by the settings in which it differs from others if there are at most this many.
MOST_SETTINGS = 3
# Since this schema of result.json, a target that repeats an excluded item counts as not found.
HONEST_SCHEMA = 3


def folder_name(path: Path) -> str:
    """Return the name of a run folder."""
    return path.resolve().name


def counts_excluded_as_found(result: RunResult | StudyResult) -> bool:
    """Return whether targets that repeat an excluded item counted as found, as in earlier versions."""
    return result.schema < HONEST_SCHEMA and result.data.seen == "excluded"


def reason_not_comparable(run: RunResult, other: RunResult) -> str:
    """Return why another run cannot be compared with a run; empty if it can."""
    if other.stopped == "interrupted":
        return "interrupted"
    if other.data.fingerprint != run.data.fingerprint:
        return f"other data: {other.data.name}"
    if other.data.seen != run.data.seen:
        return "another rule for items already in the session"
    # Only runs of this version know how many targets repeat an item.
    repeated = any(targets.repeated for each in (run, other) for targets in each.targets.values())
    if counts_excluded_as_found(run) != counts_excluded_as_found(other) and repeated:
        return "an earlier version counted targets that repeat an excluded item as found"
    if other.data.targets != run.data.targets:
        return "other targets"
    return "" if reported_split(other) == reported_split(run) else "no test numbers"


def recipe_without_seed(run: RunFolder) -> str:
    """Return a text that is equal for runs that differ only in their seed, device or threads."""
    settings = {name: table for name, table in run.settings.items() if name != "run"}
    precision = run.settings.get("run", {}).get("precision")
    return json.dumps(
        [run.result.model, run.result.presets, settings, precision], sort_keys=True, default=str
    )


def seeds_of_recipes(runs: Sequence[RunFolder]) -> list[list[RunFolder]]:
    """Return the runs of each recipe, in the order in which the recipes occur."""
    groups: dict[str, list[RunFolder]] = {}
    for run in runs:
        groups.setdefault(recipe_without_seed(run), []).append(run)
    return list(groups.values())


def group_by_system(runs: Sequence[RunFolder]) -> dict[str, list[RunFolder]]:
    """Group runs by recipe, with seeds in ascending order.

    A system is named by its model, by its presets if these differ between runs, and by the settings in which
    it differs from others of the same name.
    """
    systems = seeds_of_recipes(runs)
    one_preset = len({tuple(run.result.presets) for run in runs}) == 1
    labels = [own[0].result.model if one_preset else system_label(own[0]) for own in systems]
    named = {}
    for own, label in zip(systems, labels, strict=True):
        same_label = [other[0] for other, name in zip(systems, labels, strict=True) if name == label]
        name = label if len(same_label) == 1 else f"{label} ({_differing_settings(own[0], same_label)})"
        named[name] = sorted(own, key=lambda run: run.result.seed)
    return named


def _differing_settings(run: RunFolder, others: Sequence[RunFolder]) -> str:
    """Return the settings in which a run differs from others, or its folder's name if they are too many."""
    settings = _flat_settings(run)
    other_settings = [_flat_settings(other) for other in others]
    keys = [
        key for key, value in settings.items() if any(other.get(key) != value for other in other_settings)
    ]
    if not 1 <= len(keys) <= MOST_SETTINGS:
        return folder_name(run.path)
    return ", ".join(f"{key} {settings[key]}" for key in keys)


def _flat_settings(run: RunFolder) -> dict[str, Any]:
    tables = {
        name: table for name, table in run.settings.items() if isinstance(table, dict) and name != "run"
    }
    return flat_tables(tables)


def system_label(run: RunFolder) -> str:
    """Return the name of a run's system, with its presets."""
    presets = ", ".join(run.result.presets)
    return f"{run.result.model} ({presets})" if presets else run.result.model

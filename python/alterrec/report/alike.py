"""Which runs may stand beside each other, and which are one system under several seeds."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

from alterrec.report.run_folder import Result, RunFolder
from alterrec.report.summary import split_shown


def folder_name(path: Path) -> str:
    """A run by the name of its folder."""
    return path.resolve().name


def why_not(ours: Result, theirs: Result) -> str:
    """Why two runs cannot be compared; empty where they can."""
    if theirs.stopped == "interrupted":
        return "interrupted"
    if theirs.data.fingerprint != ours.data.fingerprint:
        return f"other data: {theirs.data.name}"
    if theirs.data.exclude_seen != ours.data.exclude_seen:
        return "another rule for items already in the session"
    if theirs.data.targets != ours.data.targets:
        return "other targets"
    return "" if split_shown(theirs) == split_shown(ours) else "no test numbers"


def same_recipe(run: RunFolder) -> str:
    """What runs that differ only by their seed, device or threads have in common."""
    settings = {name: table for name, table in run.settings.items() if name != "run"}
    precision = run.settings.get("run", {}).get("precision")
    return json.dumps(
        [run.result.model, run.result.presets, settings, precision], sort_keys=True, default=str
    )


def seeds_of(run: RunFolder, rivals: Sequence[RunFolder]) -> list[RunFolder]:
    """The run, and those of its rivals that are other seeds of it."""
    return [run, *(rival for rival in rivals if same_recipe(rival) == same_recipe(run))]


def system_label(run: RunFolder) -> str:
    """A run by its system and presets."""
    presets = ", ".join(run.result.presets)
    return f"{run.result.model} ({presets})" if presets else run.result.model

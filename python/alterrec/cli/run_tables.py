"""Tables of one run in the terminal: its metrics, an evaluation, the time of its steps."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from alterrec.analyses.run_sections import group_table
from alterrec.console import print_line, print_wrapped
from alterrec.metrics import metric_name
from alterrec.report.live import EPOCH_METRIC
from alterrec.report.plain import show
from alterrec.report.seen_items import ByRule, repeated_sentence, rows_by_view, seen_tables
from alterrec.report.tables import (
    BASELINE_NAMES,
    VIEW_NAMES,
    Table,
    count,
    duration,
    list_table,
    metric_table,
    normal_interval,
    percent,
)
from alterrec.results import Group

SPLITS = {"valid": "validation", "test": "test", "new": "new"}
SEEN_TITLE = "NDCG@20 with the session's own items as candidates (kept) and without them (excluded)"
SEEN_REPEATS = ", and with the counted probability of a repeat (repeats)"


def show_result(result: Mapping[str, Any]) -> None:
    """Print the metrics of ``result.json`` by view and those of the baselines, on test if the run has one."""
    split = "test" if result["test"].get("score") else "valid"
    baselines = {name: splits.get(split, {}) for name, splits in result["baselines"].items()}
    targets = count(result["targets"][split]["count"])
    title = f"{result['model']}, {targets} {SPLITS[split]} targets"
    rows = named(VIEW_NAMES, result[split]) | named(BASELINE_NAMES, baselines)
    show(metric_table(rows, title=title, strong=[VIEW_NAMES["score"]]))
    rows_of_baselines: dict[str, list[ByRule]] = {
        BASELINE_NAMES.get(name, name): [splits[split]]
        for name, splits in result.get("baselines_by_seen", {}).items()
        if split in splits
    }
    _show_lists(result.get("lists", {}).get(split, {}), SPLITS[split])
    views = rows_by_view(result.get("by_seen", {}).get(split, {}))
    _show_seen_items(views | rows_of_baselines, result["targets"][split], SPLITS[split])


def _show_lists(values: Mapping[str, float], split: str) -> None:
    """Print metrics of recommendation lists, if there are any."""
    if values:
        print_line("")
        show(list_table(values, title=f"recommendations for the {split} targets"))


def _show_seen_items(rows: Mapping[str, Sequence[ByRule]], targets: Mapping[str, Any], split: str) -> None:
    """Print NDCG@20 with the session's own items as candidates and without them, where it was measured."""
    for data in seen_tables(rows, [EPOCH_METRIC], strong=[VIEW_NAMES["score"]]).values():
        print_line("")
        print_wrapped(repeated_sentence(targets["repeated"], targets["count"], split))
        repeats = SEEN_REPEATS if "repeats" in data.table.columns else ""
        show(replace(data.table, title=f"{SEEN_TITLE}{repeats}"))


def show_profile(seconds: Mapping[str, float]) -> None:
    """Print the time of each part of the training steps, the longest first."""
    total = sum(seconds.values()) or 1.0
    rows = tuple(
        (part, duration(spent) if spent >= 60 else f"{spent:.2f} s", percent(spent / total))
        for part, spent in sorted(seconds.items(), key=lambda row: -row[1])
    )
    show(Table(("part of a step", "time", "share"), rows))


def show_evaluation(numbers: Mapping[str, Any]) -> None:
    """Print an evaluation: metrics by view and by popularity of the target, for each split that it has."""
    for split, spoken in SPLITS.items():
        if split not in numbers:
            continue
        targets = numbers["targets"][split]
        title = f"{spoken}: {count(targets['count'])} targets, {count(targets['cold'])} of them cold"
        show(metric_table(named(VIEW_NAMES, numbers[split]), title=title, strong=[VIEW_NAMES["score"]]))
        if split in numbers.get("errors", {}):
            _show_intervals(numbers[split]["score"], numbers["errors"][split]["score"])
        _show_lists(numbers["lists"].get(split, {}), spoken)
        _show_seen_items(rows_by_view(numbers["by_seen"][split]), targets, spoken)
        print_line("")
        groups = [Group(**group) for group in numbers["groups"][split]]
        show(group_table("times in training", groups, f"{spoken}, by popularity of the target: "))
        print_line("")


def _show_intervals(values: Mapping[str, float], errors: Mapping[str, float]) -> None:
    """Print 95% intervals of the final score: 1.96 standard errors over sessions to both sides."""
    intervals = [
        f"{metric_name(name)} {normal_interval(value, errors[name])}" for name, value in values.items()
    ]
    print_wrapped(f"95% intervals of the final score, over sessions: {', '.join(intervals)}.")


def named(
    names: Mapping[str, str], values: Mapping[str, Mapping[str, float]]
) -> dict[str, Mapping[str, float]]:
    """Rename the rows for display and leave out those without numbers.

    Example:
        >>> named(VIEW_NAMES, {"id": {"hits@20": 0.5}, "text": {}})
        {'ID alone': {'hits@20': 0.5}}
    """
    return {names.get(name, name): metrics for name, metrics in values.items() if metrics}

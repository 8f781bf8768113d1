"""Metrics of each system with and without the session's own items, which every study of runs shows."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from typing import Any

from alterrec.data.repeats import SeenItems
from alterrec.metrics import metric_name
from alterrec.report.presentation import DataTable, Section
from alterrec.report.seen_items import repeated_sentence
from alterrec.report.tables import Table, listed, mean_and_spread
from alterrec.report.training_curves import exceeds_seed_noise, paired
from alterrec.study_records import RowResult, StudyResult

TITLE = "NDCG with and without the session's own items"
# The sentences are about the first one.
METRICS = ("ndcg@20", "hits@20")
NOTE = (
    "kept: the items of the session are candidates. excluded: they are not, and a target that repeats one "
    "counts as not found. cost: excluded minus kept, in percentage points. Both are counted on the same "
    "scores, so a cost above 0 means that the session's own items stand above the right item."
)
REPEATS_NOTE = (
    "repeats: the session's own items are candidates with the counted probability of a repeat. The other "
    "tables of this page are measured in this way."
)
SPREAD_NOTE = (
    "If rows differ much with the session's own items and little without them, they differ mainly in how far "
    "they push these items down."
)
ALTERNATING, INDEPENDENT = "alterrec", "independent"


def own_items_section(study: StudyResult, rows: Sequence[RowResult]) -> Section:
    """Return the table of metrics with and without the session's own items, and how far the rows differ.

    Args:
        study: the study.
        rows: its rows in the order of the main table; those without runs are left out.
    """
    rows = [row for row in rows if row.runs]
    repeats = any("repeats" in run.by_seen for row in rows for run in row.runs)
    earlier = [row.label for row in rows if any(not run.by_seen for run in row.runs)]
    notes = [NOTE, *([REPEATS_NOTE] if repeats else [])]
    if study.repeated_targets is not None:
        notes.append(repeated_sentence(study.repeated_targets, study.test_targets, "test"))
    if earlier:
        notes.append(
            f"These rows have runs of an earlier version, which did not count both: {listed(earlier)}."
        )
    spread = _spread(rows)
    rules: list[SeenItems] = ["kept", "excluded", "repeats"] if repeats else ["kept", "excluded"]
    return Section(
        TITLE,
        notes,
        tables={"own_items": _table(rows, rules)},
        footnotes=[*spread, SPREAD_NOTE] if spread else [],
    )


def alternation_finding(study: StudyResult) -> list[str]:
    """Compare the cost of the session's own items with and without alternation; empty without both rows."""
    ours, other = study.row(ALTERNATING), study.row(INDEPENDENT)
    if ours is None or other is None:
        return []
    metric = METRICS[0]
    costs = [_costs(row, metric) for row in (ours, other)]
    if not all(costs):
        return []
    our_cost, other_cost = (statistics.fmean(cost.values()) for cost in costs)
    saved = paired(costs[1], costs[0])
    verdict = "Yes" if other_cost > our_cost else "No"
    if len(saved) < 2:
        verdict += ", with one seed"
    elif not exceeds_seed_noise(saved):
        verdict = "This is not shown, because seeds vary as much"
    kept, excluded = (
        statistics.fmean(_values(ours, rule, metric)) - statistics.fmean(_values(other, rule, metric))
        for rule in ("kept", "excluded")
    )
    shown = [_signed([*cost.values()]) for cost in costs]
    return [
        f"Does alternation lower the cost of the session's own items? {verdict}. Without these items, "
        f"{metric_name(metric)} of {ALTERNATING} changes by {shown[0]} percentage points and that of "
        f"{INDEPENDENT} by {shown[1]}. {ALTERNATING} minus {INDEPENDENT} is {100 * kept:+.2f} points with "
        f"these items and {100 * excluded:+.2f} points without them."
    ]


def _table(rows: Sequence[RowResult], rules: Sequence[SeenItems]) -> DataTable:
    cells, records = [], []
    for row in rows:
        line: list[str] = [row.label]
        record: dict[str, Any] = {"system": row.label, "model": row.model, "seeds": len(row.runs)}
        for metric in METRICS:
            values = {rule: _values(row, rule, metric) for rule in rules}
            cost = [*_costs(row, metric).values()]
            shown = {rule: mean_and_spread(own, 2, "") if own else "-" for rule, own in values.items()}
            line += [shown["kept"], shown["excluded"], _signed(cost) if cost else "-"]
            line += [shown[rule] for rule in rules[2:]]
            for name, numbers in (*values.items(), ("cost", cost)):
                record[f"{metric}_{name}"] = statistics.fmean(numbers) if numbers else None
                record[f"{metric}_{name}_sd"] = statistics.stdev(numbers) if len(numbers) > 1 else None
        cells.append(tuple(line))
        records.append(record)
    kinds = ("kept", "excluded", "cost", *rules[2:])
    groups = tuple((metric_name(metric), len(kinds)) for metric in METRICS)
    return DataTable(Table(("system", *kinds * len(METRICS)), tuple(cells), groups=groups), records)


def _spread(rows: Sequence[RowResult]) -> list[str]:
    """Return how far the rows differ with and without the session's own items, as sentences.

    Rows without training, such as popularity, may lie far from the others, which then have a sentence too.
    """
    metric = METRICS[0]
    known = [row for row in rows if _costs(row, metric)]
    trained = [row for row in known if row.trains]
    groups = {"rows": known, "rows that train": trained if len(trained) < len(known) else []}
    lines = []
    for name, members in groups.items():
        if len(members) < 2:
            continue
        kept, excluded = (
            [100 * statistics.fmean(_values(row, rule, metric)) for row in members]
            for rule in ("kept", "excluded")
        )
        lines.append(
            f"Over {len(members)} {name}, the highest {metric_name(metric)} minus the lowest is "
            f"{max(kept) - min(kept):.2f} percentage points with the session's own items (standard deviation "
            f"{statistics.stdev(kept):.2f}) and {max(excluded) - min(excluded):.2f} without them (standard "
            f"deviation {statistics.stdev(excluded):.2f})."
        )
    return lines


def _values(row: RowResult, rule: SeenItems, metric: str) -> list[float]:
    """Return the test values under a rule by seed, without runs of earlier versions."""
    return [run.by_seen[rule][metric] for run in row.runs if metric in run.by_seen.get(rule, {})]


def _costs(row: RowResult, metric: str) -> dict[int, float]:
    """Return seed -> what a metric gains if the session's own items are no candidates."""
    known = {run.seed: run.by_seen for run in row.runs if metric in run.by_seen.get("kept", {})}
    return {seed: by_seen["excluded"][metric] - by_seen["kept"][metric] for seed, by_seen in known.items()}


def _signed(differences: Sequence[float]) -> str:
    """Format differences in percentage points, with the sign of their mean.

    Example:
        >>> _signed([0.01, 0.03]), _signed([-0.004]), _signed([0.0])
        ('+2.00 ± 1.41', '-0.40', '+0.00')
    """
    # A mean that is rounded to zero has no minus.
    positive = round(100 * statistics.fmean(differences), 2) >= 0
    shown = mean_and_spread(differences, 2, "").removeprefix("-" if positive else "")
    return f"+{shown}" if positive else shown

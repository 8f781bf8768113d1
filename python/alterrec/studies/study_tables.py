"""Tables of the rows of a study: metrics, comparisons, chosen settings and cost, and the search."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from string import ascii_lowercase
from typing import Any

from alterrec.evaluation.comparisons import Comparison
from alterrec.metrics import metric_name
from alterrec.report.comparisons import comparison_table
from alterrec.report.presentation import DataTable
from alterrec.report.tables import Table, count, duration, mean_and_spread, memory
from alterrec.results import RowResult, StudyResult

SORT_METRIC = "ndcg@20"
KINDS = ("baseline", "ablation", "ours")
MARKS = {"above": "*", "below": "†", "not shown": ""}
# (label, metric) -> the mark after the number.
Marks = Mapping[tuple[str, str], str]


def ordered(study: StudyResult) -> list[RowResult]:
    """Sort rows by kind, then by NDCG@20; rows without numbers come last."""

    def place(row: RowResult) -> tuple[int, float]:
        mean = row.mean(SORT_METRIC)
        return KINDS.index(row.kind), 1.0 if mean is None else -mean

    return sorted(study.rows, key=place)


def marks(study: StudyResult) -> Marks:
    """Return the marks of rows that were compared with a baseline."""
    return {(each.system, each.metric): MARKS[each.verdict] for each in study.comparisons}


def baseline_marks(study: StudyResult) -> Marks:
    """Return the marks of baselines, from their point of view."""
    opposite = {"above": "below", "below": "above", "not shown": "not shown"}
    return {(each.baseline, each.metric): MARKS[opposite[each.verdict]] for each in study.comparisons}


def metric_rows(
    study: StudyResult, marked: Marks | None = None, rows: Sequence[RowResult] | None = None
) -> Table:
    """Return the test metrics of every row in percent: mean ± standard deviation over seeds.

    Args:
        study: the study.
        marked: marks after the numbers.
        rows: rows in the order of the table; default :func:`ordered`.
    """
    rows = ordered(study) if rows is None else rows
    letters = _letters(rows)
    cells = []
    for row in rows:
        numbers = (
            _spread(row.values(metric)) + (marked or {}).get((row.label, metric), "")
            if row.runs
            else _absent(row)
            for metric in study.metrics
        )
        note = f" ({letters[row.label]})" if row.label in letters else ""
        cells.append((row.label + note, *numbers))
    best, second = _first_and_second(rows, study.metrics)
    ours = [place for place, row in enumerate(rows) if row.kind != "baseline"]
    return Table(
        ("system", *map(metric_name, study.metrics)),
        tuple(cells),
        best=best,
        second=second,
        rule_before=ours[0] if ours and ours[0] else None,
    )


def metric_data(
    study: StudyResult, marked: Marks | None = None, rows: Sequence[RowResult] | None = None
) -> DataTable:
    """Return the table of metrics together with unrounded values."""
    shown = ordered(study) if rows is None else rows
    return DataTable(metric_rows(study, marked, shown), [_record(row, study.metrics) for row in shown])


def notes(study: StudyResult, against: str = "", rows: Sequence[RowResult] | None = None) -> list[str]:
    """Return the footnotes of the table of metrics: its marks, and why rows have no numbers.

    Args:
        study: the study.
        against: what marked rows are compared with, if there are marks.
        rows: as in :func:`metric_rows`.
    """
    rows = ordered(study) if rows is None else rows
    lines = [
        "Values are in percent: mean ± standard deviation over seeds, if there are several. "
        "The best value of a column is bold, the second best underlined."
    ]
    if study.comparisons and against:
        lines.append(
            f"Marks: * significantly above, † significantly below {against}, by a paired permutation test "
            f"over {count(study.test_targets)} test targets (p < 0.05 after Holm's correction, see below)."
        )
    reasons = {row.label: row.reason for row in rows}
    for label, letter in _letters(rows).items():
        lines.append(f"({letter}) {label}: {reasons[label] or 'not finished yet'}.")
    return lines


def _letters(rows: Sequence[RowResult]) -> dict[str, str]:
    """Return row -> letter of the footnote that explains why it has no numbers."""
    return dict(zip([row.label for row in rows if not row.runs], ascii_lowercase, strict=False))


def row_comparison_table(comparisons: Sequence[Comparison]) -> Table:
    """Return the differences of rows and their baselines, by group of targets if there are groups."""
    by_group = ["targets"] if any(each.group for each in comparisons) else []
    columns = ("metric", "against", "difference", "95% interval", "p", "p (Holm)", "verdict")
    return comparison_table(comparisons, ["system", *by_group, *columns])


def cost_table(study: StudyResult) -> Table:
    """Return the chosen settings of each row, and the time and memory of its runs."""
    rows = []
    for row in ordered(study):
        if row.runs:
            per_epoch = [run.seconds_per_epoch for run in row.runs if run.seconds_per_epoch is not None]
            sizes = [run.peak_memory_bytes for run in row.runs if run.peak_memory_bytes]
            rows.append(
                (
                    row.label,
                    *(f"{row.setting[key]:g}" if key in row.setting else "-" for key in ("lr", "dropout")),
                    str(len(row.runs)),
                    f"{statistics.fmean(run.epochs for run in row.runs):.0f}" if row.trains else "-",
                    f"{statistics.fmean(per_epoch):.2f} s" if per_epoch else "-",
                    duration(statistics.fmean(run.seconds for run in row.runs)),
                    memory(max(sizes)) if sizes else "-",
                    count(row.runs[0].parameters) if row.runs[0].parameters else "-",
                )
            )
    columns = (
        "system",
        "lr",
        "dropout",
        "seeds",
        "epochs",
        "time per epoch",
        "time per run",
        "peak memory",
        "parameters",
    )
    return Table(columns, tuple(rows))


def search_table(study: StudyResult) -> Table:
    """Return every setting that was tried with its validation score; the chosen ones are emphasised."""
    rows: list[tuple[str, ...]] = []
    chosen: set[int] = set()
    for row in ordered(study):
        for tried in row.tried if len(row.tried) > 1 else ():
            if tried.chosen:
                chosen.add(len(rows))
            setting = ", ".join(f"{key} {value}" for key, value in tried.setting.items())
            rows.append((row.label, setting, _percent(tried.validation)))
    return Table(
        ("system", "setting", f"validation {metric_name(study.metric)}"),
        tuple(rows),
        strong=frozenset(chosen),
    )


def _record(row: RowResult, metrics: Sequence[str]) -> dict[str, Any]:
    line: dict[str, Any] = {"system": row.label, "model": row.model, "kind": row.kind, "seeds": len(row.runs)}
    for metric in metrics:
        values = row.values(metric)
        line[metric] = row.mean(metric)
        line[f"{metric}_sd"] = statistics.stdev(values) if len(values) > 1 else None
    runs = row.runs
    line |= {
        "lr": row.setting.get("lr"),
        "dropout": row.setting.get("dropout"),
        "epochs": _mean([run.epochs for run in runs]),
        "seconds_per_epoch": _mean([run.seconds_per_epoch for run in runs]),
        "seconds": _mean([run.seconds for run in runs]),
        "peak_memory_bytes": max((run.peak_memory_bytes or 0 for run in runs), default=None),
        "parameters": runs[0].parameters if runs else None,
        "note": row.reason,
    }
    return line


def _first_and_second(
    rows: Sequence[RowResult], metrics: Sequence[str]
) -> tuple[frozenset[tuple[int, int]], frozenset[tuple[int, int]]]:
    """Return the cells (row, column) with the highest and the second highest mean of each metric."""
    found: tuple[set[tuple[int, int]], set[tuple[int, int]]] = set(), set()
    for column, metric in enumerate(metrics, start=1):
        # Rounded, because means that are equal in exact arithmetic differ in their last bits.
        means = {
            place: round(mean, 12) for place, row in enumerate(rows) if (mean := row.mean(metric)) is not None
        }
        levels = sorted(set(means.values()), reverse=True)[:2]
        for cells, level in zip(found, levels, strict=False):
            cells |= {(place, column) for place, mean in means.items() if mean == level}
    return frozenset(found[0]), frozenset(found[1])


def _absent(row: RowResult) -> str:
    return "N/A" if row.refused else "failed" if row.reason else "-"


def _spread(values: Sequence[float]) -> str:
    return mean_and_spread(values, digits=2, unit="")


def _percent(value: float | None) -> str:
    return "-" if value is None else f"{100 * value:.2f}%"


def _mean(values: Sequence[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return statistics.fmean(known) if known else None

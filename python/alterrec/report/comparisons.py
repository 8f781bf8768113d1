"""Comparisons of systems as tables, records and forest plots, the same for ``compare`` and for studies."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from alterrec.evaluation.comparisons import Comparison
from alterrec.metrics import metric_name
from alterrec.report.figures.forest import Interval, forest
from alterrec.report.figures.style import Panel
from alterrec.report.presentation import Plot
from alterrec.report.tables import VIEW_NAMES, Table, count

COLUMNS: Mapping[str, Callable[[Comparison], str]] = {
    "system": lambda each: each.system,
    "against": lambda each: each.baseline,
    "view": lambda each: VIEW_NAMES.get(each.view, each.view),
    "metric": lambda each: metric_name(each.metric),
    "targets": lambda each: each.group or "all",
    "sessions": lambda each: count(each.sessions),
    "difference": lambda each: signed_points(each.mean),
    "95% interval": lambda each: interval(each),
    "p": lambda each: p_value(each.p),
    "p (Holm)": lambda each: p_value(each.p_adjusted),
    "verdict": lambda each: each.verdict,
    "better / equal / worse": lambda each: " / ".join(map(count, each.outcomes)),
    "error of seeds": lambda each: "-" if each.seed_error is None else f"{100 * each.seed_error:.2f}",
}


def comparison_table(comparisons: Sequence[Comparison], columns: Sequence[str]) -> Table:
    """Return a table with one comparison in each row; ``columns`` are names of ``COLUMNS``.

    Example:
        >>> each = Comparison("alterrec", "hits@20", "sasrec", 0.01, 0.002, 0.02, 0.01, 0.04)
        >>> comparison_table([each], ["system", "against", "difference", "95% interval"]).rows
        (('alterrec', 'sasrec', '+1.00', '[+0.20, +2.00]'),)
    """
    rows = tuple(tuple(COLUMNS[column](each) for column in columns) for each in comparisons)
    return Table(tuple(columns), rows)


def comparison_records(comparisons: Sequence[Comparison]) -> list[dict[str, Any]]:
    """Return all numbers of comparisons for CSV and JSON."""
    return [
        {
            "system": each.system,
            "base": each.baseline,
            "view": each.view,
            "metric": each.metric,
            "of": each.group_kind if each.group else "all",
            "group": each.group or "all",
            "ours": each.system_mean,
            "theirs": each.baseline_mean,
            "mean": each.mean,
            "low": each.low,
            "high": each.high,
            "p": each.p,
            "p_adjusted": each.p_adjusted,
            "sessions": each.sessions,
            "targets": each.targets,
            "seed_error": each.seed_error,
            **each.outcomes._asdict(),
            "verdict": each.verdict,
        }
        for each in comparisons
    ]


def signed_points(difference: float) -> str:
    """Return a difference of fractions in percentage points, with its sign and two decimals.

    Example:
        >>> signed_points(0.0123), signed_points(-0.5)
        ('+1.23', '-50.00')
    """
    return f"{100 * difference:+.2f}"


def interval(each: Comparison) -> str:
    """Return the 95 % interval in percentage points."""
    return f"[{signed_points(each.low)}, {signed_points(each.high)}]"


def p_value(p: float) -> str:
    """Return p with three decimals.

    Example:
        >>> p_value(0.0123), p_value(0.0001)
        ('0.012', '<0.001')
    """
    return "<0.001" if p < 0.001 else f"{p:.3f}"


def forest_plot(panels: Mapping[str, Sequence[tuple[str, str, Comparison]]], caption: str) -> Plot:
    """Draw one comparison in each row, its interval around zero.

    Args:
        panels: title -> (label, name of a colour, comparison) of each row.
        caption: of the plot.
    """
    drawn = [
        Panel(
            title,
            [
                Interval(label, each.mean, each.low, each.high, each.verdict != "not shown", colour)
                for label, colour, each in rows
            ],
        )
        for title, rows in panels.items()
    ]
    return Plot.of(forest, drawn, caption)

"""Comparisons of systems as tables, records and forest plots, the same for ``compare`` and for studies."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from alterrec.evaluation.comparisons import Comparison
from alterrec.metrics import metric_name
from alterrec.report.figures.style import Panel, canvas, colour, value_axis
from alterrec.report.presentation import Plot
from alterrec.report.tables import VIEW_NAMES, Table, count, points

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

# The axis of a forest plot has room for the intervals of at least so many sessions.
FEW_SESSIONS = 30
# Label, name of a colour, and comparison.
ForestRow = tuple[str, str, Comparison]

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
    "p (adjusted)": lambda each: p_value(each.p_adjusted),
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
    return Table(tuple(columns), rows, labels={"above": "fine", "below": "bad", "not shown": "muted"})


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


def forest_plot(panels: Mapping[str, Sequence[ForestRow]], caption: str) -> Plot:
    """Draw one comparison in each row, its interval around zero; ``panels`` are rows by title."""
    return Plot.of(forest, [Panel(title, rows) for title, rows in panels.items()], caption)


def forest(panels: Sequence[Panel[ForestRow]]) -> Figure:
    """Draw the intervals of each panel from top to bottom, in percentage points.

    The point of a significant difference is filled, others are hollow.

    Example:
        >>> each = Comparison("text", "hits@20", "id", 0.01, -0.01, 0.03, 0.4, 0.4)
        >>> len(forest([Panel("Hits@20", [("text", "text", each)])]).axes)
        1
    """
    most = max(len(panel.marks) for panel in panels)
    with canvas(len(panels), 0.9 + 0.36 * most) as (figure, rows):
        for axes, panel in zip(rows[0], panels, strict=True):
            _forest_panel(axes, panel.marks)
            axes.set_title(panel.title)
    return figure


def _forest_panel(axes: Axes, rows: Sequence[ForestRow]) -> None:
    axes.axvline(0, color=colour("muted"), linewidth=1.2, zorder=1)
    # Intervals of few sessions may be as wide as all others together; they run out of the panel.
    many = [each for _, _, each in rows if each.sessions >= FEW_SESSIONS] or [each for _, _, each in rows]
    low, high = min(0.0, *(each.low for each in many)), max(0.0, *(each.high for each in many))
    room = 0.04 * (high - low or 0.01)
    low, high = low - room, high + 5 * room
    for place, (_, name, each) in enumerate(rows):
        own, shown = colour(name), each.verdict != "not shown"
        span: Any = {"color": own, "linewidth": 2.4, "solid_capstyle": "butt", "zorder": 2}
        axes.plot([each.low, each.high], [place, place], **span)
        point: Any = {"markersize": 8, "color": own, "markeredgewidth": 1.8, "zorder": 3}
        axes.plot([each.mean], [place], "o", markerfacecolor=own if shown else "white", **point)
        axes.annotate(
            points(each.mean),
            (min(each.high, high - 4 * room), place),
            xytext=(7, 0),
            textcoords="offset points",
            va="center",
            fontweight="bold" if shown else "normal",
            zorder=4,
            # Readable where the label crosses the line at zero.
            bbox={"facecolor": "white", "edgecolor": "none", "pad": 0.5},
        )
    axes.set_ylim(len(rows) - 0.5, -0.5)
    axes.set_yticks(range(len(rows)), [label for label, _, _ in rows])
    for label in axes.get_yticklabels():
        label.set_color(colour("ink"))
    axes.set_xlim(low, high)
    value_axis(axes, "x", "points")
    axes.set_xlabel("percentage points")

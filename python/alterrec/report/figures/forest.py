"""Forest plot: one difference with its interval per row, around zero."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

from alterrec.report.figures.style import Panel, canvas, colour, value_axis
from alterrec.report.tables import points

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


class Interval(NamedTuple):
    """A difference of fractions with its interval.

    Attributes:
        label: name of the row.
        mean, low, high: fractions.
        significant: whether the difference is shown; its point is filled, else hollow.
        colour: name in the palette.
    """

    label: str
    mean: float
    low: float
    high: float
    significant: bool
    colour: str


def forest(panels: Sequence[Panel[Interval]]) -> Figure:
    """Draw the intervals of each panel from top to bottom, in percentage points.

    Example:
        >>> len(forest([Panel("Hits@20", [Interval("text", 0.01, -0.01, 0.03, False, "text")])]).axes)
        1
    """
    most = max(len(panel.marks) for panel in panels)
    with canvas(len(panels), 0.9 + 0.36 * most) as (figure, rows):
        for axes, panel in zip(rows[0], panels, strict=True):
            _panel(axes, panel.marks)
            axes.set_title(panel.title)
    return figure


def _panel(axes: Axes, intervals: Sequence[Interval]) -> None:
    axes.axvline(0, color=colour("muted"), linewidth=1.2, zorder=1)
    for place, each in enumerate(intervals):
        own = colour(each.colour)
        axes.plot(
            [each.low, each.high], [place, place], color=own, linewidth=2.4, solid_capstyle="butt", zorder=2
        )
        axes.plot(
            [each.mean],
            [place],
            "o",
            markersize=8,
            color=own,
            markerfacecolor=own if each.significant else "white",
            markeredgewidth=1.8,
            zorder=3,
        )
        axes.annotate(
            points(each.mean),
            (each.high, place),
            xytext=(7, 0),
            textcoords="offset points",
            va="center",
            fontsize=9.5,
            fontweight="bold" if each.significant else "normal",
            zorder=4,
        )
    axes.set_ylim(len(intervals) - 0.5, -0.5)
    axes.set_yticks(range(len(intervals)), [each.label for each in intervals])
    for label in axes.get_yticklabels():
        label.set_color(colour("ink"))
    low, high = axes.get_xlim()
    axes.set_xlim(low, high + 0.12 * (high - low))
    value_axis(axes, "x", "points")
    axes.set_xlabel("percentage points")

"""Differences with their intervals, one a line, left or right of nothing."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, MaxNLocator

from alterrec.report.plots import STYLE, colour, panel_row
from alterrec.report.tables import points


class Gain(NamedTuple):
    """A difference of fractions, its interval, whether it is shown, and its colour's name in the palette."""

    label: str
    mean: float
    low: float
    high: float
    shown: bool
    colour: str


def gains(panels: Mapping[str, Sequence[Gain]]) -> Figure:
    """A panel for each title, the first gain on top; hollow where a difference is not shown.

    Example:
        >>> len(gains({"Hits@20": [Gain("text", 0.01, -0.01, 0.03, False, "text")]}).axes)
        1
    """
    with mpl.rc_context(STYLE):
        most = max(map(len, panels.values()))
        figure, rows = panel_row(len(panels), 0.9 + 0.36 * most)
        for axes, (title, lines) in zip(rows[0], panels.items(), strict=True):
            _panel(axes, lines)
            axes.set_title(title)
    return figure


def _panel(axes: Axes, lines: Sequence[Gain]) -> None:
    axes.axvline(0, color=colour("muted"), linewidth=1.2, zorder=1)
    for place, each in enumerate(lines):
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
            markerfacecolor=own if each.shown else "white",
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
            fontweight="bold" if each.shown else "normal",
            zorder=4,
        )
    axes.set_ylim(len(lines) - 0.5, -0.5)
    axes.set_yticks(range(len(lines)), [each.label for each in lines])
    for label in axes.get_yticklabels():
        label.set_color(colour("ink"))
    low, high = axes.get_xlim()
    axes.set_xlim(low, high + 0.12 * (high - low))
    axes.xaxis.set_major_locator(MaxNLocator(5))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{100 * value:+g}" if value else "0"))
    axes.set_xlabel("percentage points")
    axes.grid(axis="x")

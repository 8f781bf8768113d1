"""Pictures of what two parts of a score find, and what choosing between them would reach."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from typing import NamedTuple

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from alterrec.report.plots import STYLE, colour, panel_row

PALE = 0.28
HEIGHT = 3.2


class BalanceBar(NamedTuple):
    """A bar with words above it.

    Attributes:
        label: the words.
        view: whose colour it has.
        values: fractions, by seed.
        full: the mean of what has the full colour, the rest is pale; all of it where None.
    """

    label: str
    view: str
    values: Sequence[float]
    full: float | None = None


class BarPanel(NamedTuple):
    """Bars under a title."""

    title: str
    bars: Sequence[BalanceBar]


def balance_bars(panels: Sequence[BarPanel]) -> Figure:
    """Horizontal bars, each under its words; whiskers are one standard deviation over seeds.

    Example:
        >>> bar = BalanceBar("both find 25%", "fused", [0.2, 0.3], full=0.1)
        >>> len(balance_bars([BarPanel("found", [bar])]).axes)
        1
    """
    with mpl.rc_context(STYLE):
        figure, rows = panel_row(len(panels), HEIGHT)
        for axes, panel in zip(rows[0], panels, strict=True):
            _bars(axes, panel.bars)
            axes.set_title(panel.title)
    return figure


def _bars(axes: Axes, bars: Sequence[BalanceBar]) -> None:
    for place, bar in enumerate(bars):
        mean = statistics.fmean(bar.values)
        full = mean if bar.full is None else bar.full
        shown = colour(bar.view)
        axes.barh(place, mean, height=0.4, color=shown, alpha=PALE, linewidth=0, zorder=2)
        axes.barh(place, full, height=0.4, color=shown, linewidth=0, zorder=3)
        if len(bar.values) > 1:
            spread = statistics.stdev(bar.values)
            axes.errorbar(mean, place, xerr=spread, color=colour("ink"), capsize=3, elinewidth=1.2, zorder=4)
        axes.annotate(
            bar.label,
            (0, place - 0.24),
            xytext=(1, 1),
            textcoords="offset points",
            va="bottom",
            fontweight="bold" if bar.view == "score" else "normal",
        )
    widest = max(statistics.fmean(bar.values) for bar in bars) or 1.0
    axes.set_xlim(0, 1.12 * widest)
    axes.set_ylim(len(bars) - 0.6, -0.75)
    axes.set_xticks([])
    axes.set_yticks([])
    axes.spines["bottom"].set_visible(False)

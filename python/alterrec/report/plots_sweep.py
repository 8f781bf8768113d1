"""Pictures of a metric over values of recipe fields: plain data in, a matplotlib Figure out."""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from typing import Any, NamedTuple

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from matplotlib.ticker import NullLocator

from alterrec.report.plots import PANEL_INCHES, STYLE, colour, end_labels, percent_axis

COLUMNS = 3
# Largest over smallest value from which an axis is logarithmic.
LOG_FROM = 20
LINES = {"test": ("score", "o", "-"), "validation": ("fused", "D", (0, (4, 2)))}


class SweepPanel(NamedTuple):
    """A metric over the values of one field.

    Attributes:
        title: the field.
        system: whose it is.
        values: numbers, or names that stand in their order.
        valid, test: of each value, the fractions of its seeds.
        base: place of the recipe's own value, None where it is not among them.
    """

    title: str
    system: str
    values: Sequence[Any]
    valid: Sequence[Sequence[float]]
    test: Sequence[Sequence[float]]
    base: int | None

    @property
    def range(self) -> tuple[float, float]:
        """From the lowest to the highest edge of its bands."""
        seeds = [*self.valid, *self.test]
        return (
            min(statistics.fmean(each) - _deviation(each) for each in seeds),
            max(statistics.fmean(each) + _deviation(each) for each in seeds),
        )


class HeatPanel(NamedTuple):
    """Means over two fields: ``cells[row][column]``, None where nothing is known.

    Attributes:
        title: of the metric and split.
        fields: the field of the rows and that of the columns.
        rows, columns: their values.
        base, best: places (row, column) of the recipe's own values and of the best on validation.
    """

    title: str
    fields: tuple[str, str]
    rows: Sequence[Any]
    columns: Sequence[Any]
    cells: Sequence[Sequence[float | None]]
    base: tuple[int, int] | None
    best: tuple[int, int]


def sweeps(panels: Sequence[SweepPanel], limits: Sequence[tuple[float, float]]) -> Figure:
    """A small panel a field: means over seeds in bands of one standard deviation (Figures 7, 10 and 11).

    The axis is logarithmic where the values are positive and the largest is more than 20 times the smallest.

    Example:
        >>> panel = SweepPanel("k1", "alterrec", [1, 6], [[0.1], [0.2]], [[0.1], [0.2]], base=1)
        >>> len(sweeps([panel], [panel.range]).axes)
        1
    """
    columns = min(len(panels), COLUMNS)
    rows = math.ceil(len(panels) / columns)
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(PANEL_INCHES * columns * 0.85, 3.1 * rows), layout="constrained")
        every = figure.subplots(rows, columns, squeeze=False).flatten()
        for axes, panel, limit in zip(every, panels, limits, strict=False):
            _sweep_panel(axes, panel, limit)
        for axes in every[len(panels) :]:
            axes.remove()
    return figure


def _sweep_panel(axes: Axes, panel: SweepPanel, limits: tuple[float, float]) -> None:
    numbers = all(isinstance(value, int | float) and not isinstance(value, bool) for value in panel.values)
    places = [float(value) for value in panel.values] if numbers else [*map(float, range(len(panel.values)))]
    if numbers and min(places) > 0 and max(places) / min(places) > LOG_FROM:
        axes.set_xscale("log")
    for (kind, marker, dashes), seeds in zip(LINES.values(), (panel.test, panel.valid), strict=True):
        means = [statistics.fmean(each) for each in seeds]
        spreads = [_deviation(each) for each in seeds]
        if any(spreads):
            lows = [mean - spread for mean, spread in zip(means, spreads, strict=True)]
            highs = [mean + spread for mean, spread in zip(means, spreads, strict=True)]
            axes.fill_between(places, lows, highs, color=colour(kind), alpha=0.16, linewidth=0, zorder=2)
        axes.plot(places, means, color=colour(kind), marker=marker, markersize=5, linestyle=dashes, zorder=3)
    low, high = limits
    margin = 0.1 * max(high - low, 0.01)
    axes.set_ylim(max(low - margin, 0.0), high + 1.5 * margin)
    axes.set_xticks(places, [f"{value:g}" if numbers else str(value) for value in panel.values])
    axes.xaxis.set_minor_locator(NullLocator())
    percent_axis(axes, "y")
    axes.set_title(panel.title)
    axes.set_xlabel(panel.system)
    if panel.base is not None:
        axes.axvline(places[panel.base], color=colour("muted"), linewidth=1, linestyle=(0, (3, 3)), zorder=1)
        axes.annotate(
            "recipe",
            (places[panel.base], 0.99),
            xycoords=("data", "axes fraction"),
            xytext=(-4 if panel.base else 4, 0),
            textcoords="offset points",
            ha="right" if panel.base else "left",
            va="top",
            fontsize=8.5,
            color=colour("muted"),
        )
    last = zip(LINES, (panel.test[-1], panel.valid[-1]), strict=True)
    ends = {name: statistics.fmean(seeds) for name, seeds in last}
    end_labels(axes, ends, {name: colour(kind) for name, (kind, _, _) in LINES.items()})


def heat(panels: Sequence[HeatPanel]) -> Figure:
    """A map a panel with the number in each cell: the stronger the colour, the higher.

    The recipe's own cell has a dashed frame, the best by validation a whole one and a bold number.

    Example:
        >>> panel = HeatPanel("test", ("k1", "k2"), [1, 6], [0.1], [[0.1], [None]], base=None, best=(0, 0))
        >>> len(heat([panel]).axes)
        1
    """
    with mpl.rc_context(STYLE):
        tall = 1.3 + 0.5 * max(len(panel.rows) for panel in panels)
        figure = Figure(figsize=(PANEL_INCHES * len(panels), tall), layout="constrained")
        for axes, panel in zip(figure.subplots(1, len(panels), squeeze=False)[0], panels, strict=True):
            _heat_panel(axes, panel)
    return figure


def _heat_panel(axes: Axes, panel: HeatPanel) -> None:
    known = [value for row in panel.cells for value in row if value is not None]
    low, high = min(known), max(known)
    for y, row in enumerate(panel.cells):
        for x, value in enumerate(row):
            if value is None:
                axes.text(x, y, "-", ha="center", va="center", color=colour("muted"))
                continue
            strength = 0.06 + 0.44 * (value - low) / (high - low or 1.0)
            _cell(axes, y, x, color=colour("score"), alpha=strength, linewidth=0)
            weight = "bold" if (y, x) == panel.best else "normal"
            axes.text(x, y, f"{100 * value:.2f}", ha="center", va="center", fontweight=weight)
    for place, dashes in ((panel.best, "-"), (panel.base, (0, (2, 2)))):
        if place is not None:
            _cell(axes, *place, fill=False, edgecolor=colour("ink"), linewidth=1.4, linestyle=dashes)
    axes.set_xlim(-0.5, len(panel.columns) - 0.5)
    axes.set_ylim(-0.5, len(panel.rows) - 0.5)
    axes.set_xticks(range(len(panel.columns)), [str(value) for value in panel.columns])
    axes.set_yticks(range(len(panel.rows)), [str(value) for value in panel.rows])
    axes.tick_params(length=0)
    axes.spines["bottom"].set_visible(False)
    axes.set_ylabel(panel.fields[0])
    axes.set_xlabel(panel.fields[1])
    axes.set_title(panel.title)


def _cell(axes: Axes, y: int, x: int, **style: Any) -> None:
    axes.add_patch(Rectangle((x - 0.47, y - 0.44), 0.94, 0.88, **style))


def _deviation(values: Sequence[float]) -> float:
    return statistics.stdev(values) if len(values) > 1 else 0.0

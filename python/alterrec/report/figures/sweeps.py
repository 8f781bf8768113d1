"""A metric over values of recipe fields: lines for one field, a heat map for two."""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from alterrec.report.figures.style import (
    DASHED,
    EndLabel,
    canvas,
    colour,
    deviation,
    divider,
    end_labels,
    line,
    value_axis,
)

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

COLUMNS = 3
# Largest over smallest value from which an axis is logarithmic.
LOG_FROM = 20
LINES: dict[str, dict[str, Any]] = {
    "test": {"own": colour("score"), "marker": "o", "linestyle": "-"},
    "validation": {"own": colour("fused"), "marker": "D", "linestyle": DASHED},
}


class SweepPanel(NamedTuple):
    """A metric over the values of one field.

    Attributes:
        title: the field.
        values: numbers, or names in their order.
        valid, test: for each value, the fractions of its seeds.
        base: index of the recipe's own value, None where it is not among them.
        limits: lowest and highest value of the vertical axis; by default those of its own bands.
    """

    title: str
    system: str
    values: Sequence[Any]
    valid: Sequence[Sequence[float]]
    test: Sequence[Sequence[float]]
    base: int | None
    limits: tuple[float, float] | None = None

    @property
    def range(self) -> tuple[float, float]:
        """Lowest and highest edge of its bands."""
        seeds = [*self.valid, *self.test]
        return (
            min(statistics.fmean(each) - deviation(each) for each in seeds),
            max(statistics.fmean(each) + deviation(each) for each in seeds),
        )


class HeatPanel(NamedTuple):
    """Means over two fields.

    Attributes:
        title: metric and split.
        fields: the field of the rows and that of the columns; ``rows`` and ``columns`` are their values.
        cells: ``cells[row][column]``, None where there is no run.
        base, best: (row, column) of the recipe's own values and of the best on validation.
    """

    title: str
    fields: tuple[str, str]
    rows: Sequence[Any]
    columns: Sequence[Any]
    cells: Sequence[Sequence[float | None]]
    base: tuple[int, int] | None
    best: tuple[int, int]


def sweep_lines(panels: Sequence[SweepPanel]) -> Figure:
    """Draw a small panel per field: means over seeds in bands of one deviation (Figures 7, 10 and 11).

    The axis is logarithmic where all values are positive and the largest is more than 20 times the smallest.

    Example:
        >>> panel = SweepPanel("k1", "alterrec", [1, 6], [[0.1], [0.2]], [[0.1], [0.2]], base=1)
        >>> len(sweep_lines([panel]).axes)
        1
    """
    columns = min(len(panels), COLUMNS)
    rows = math.ceil(len(panels) / columns)
    with canvas(columns, 3.1 * rows, rows) as (figure, grid):
        every = [axes for row in grid for axes in row]
        for axes, panel in zip(every, panels, strict=False):
            _sweep_panel(axes, panel)
        for axes in every[len(panels) :]:
            axes.remove()
    return figure


def _sweep_panel(axes: Axes, panel: SweepPanel) -> None:
    from matplotlib.ticker import NullLocator

    numbers = all(isinstance(value, int | float) and not isinstance(value, bool) for value in panel.values)
    places = [float(value) for value in panel.values] if numbers else [*map(float, range(len(panel.values)))]
    if numbers and min(places) > 0 and max(places) / min(places) > LOG_FROM:
        axes.set_xscale("log")
    ends = []
    for (name, style), seeds in zip(LINES.items(), (panel.test, panel.valid), strict=True):
        means = [statistics.fmean(each) for each in seeds]
        line(axes, places, means, [*map(deviation, seeds)], markersize=5, **style)
        ends.append(EndLabel(name, places[-1], means[-1], style["own"]))
    low, high = panel.limits or panel.range
    margin = 0.1 * max(high - low, 0.01)
    axes.set_ylim(max(low - margin, 0.0), high + 1.5 * margin)
    axes.set_xticks(places, [f"{value:g}" if numbers else str(value) for value in panel.values])
    axes.xaxis.set_minor_locator(NullLocator())
    value_axis(axes, "y", "percent")
    axes.set_title(panel.title)
    axes.set_xlabel(panel.system)
    if panel.base is not None:
        divider(axes, places[panel.base])
        axes.annotate(
            "recipe",
            (places[panel.base], 0.99),
            xycoords=("data", "axes fraction"),
            xytext=(-4 if panel.base else 4, 0),
            textcoords="offset points",
            ha="right" if panel.base else "left",
            va="top",
            color=colour("muted"),
        )
    end_labels(axes, ends)


def heat_maps(panels: Sequence[HeatPanel]) -> Figure:
    """Draw a map per panel with the number in each cell: the stronger the colour, the higher.

    The recipe's own cell has a dashed frame, the best on validation a solid frame and a bold number.

    Example:
        >>> panel = HeatPanel("test", ("k1", "k2"), [1, 6], [0.1], [[0.1], [None]], base=None, best=(0, 0))
        >>> len(heat_maps([panel]).axes)
        1
    """
    tall = 1.3 + 0.5 * max(len(panel.rows) for panel in panels)
    with canvas(len(panels), tall) as (figure, rows):
        for axes, panel in zip(rows[0], panels, strict=True):
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
    from matplotlib.patches import Rectangle

    axes.add_patch(Rectangle((x - 0.47, y - 0.44), 0.94, 0.88, **style))

"""Pictures of what parts of a score learn, epoch by epoch: plain data in, a matplotlib Figure out."""

from __future__ import annotations

from collections.abc import Sequence

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from alterrec.report.plots import (
    DASHES,
    MARKERS,
    STYLE,
    Band,
    bands,
    colour,
    end_labels,
    panel_row,
    percent_axis,
    shade,
)
from alterrec.report.training_curves import CurveLine, CurvePanel, TrainingCurve


def phases_of(curves: Sequence[TrainingCurve]) -> list[Band]:
    """What was trained in the epochs that all seeds reached; none where it was one thing throughout.

    Example:
        >>> from alterrec.results import Epoch
        >>> epochs = [Epoch(1, "", "id", "full", 6.0, {}), Epoch(2, "", "text", "full", 6.0, {})]
        >>> [phase.trained for phase in phases_of([TrainingCurve(0, 2, epochs, {})])]
        ['id', 'text']
    """
    shortest = min((curve.epochs for curve in curves), key=len)
    phases = bands([epoch.trained for epoch in shortest], [epoch.negatives for epoch in shortest])
    return phases if len(phases) > 1 else []


def curves(panels: Sequence[CurvePanel], *, phases: Sequence[Band] = (), best: Sequence[int] = ()) -> Figure:
    """Means over seeds by epoch, in bands of one standard deviation (Figures 3, 5 and 9).

    Phases are shaded in the colour of the network that they trained; triangles are the epochs ``best``.

    Example:
        >>> line = CurveLine("ID", "id", [[0.1, 0.2], [0.1, 0.3]])
        >>> len(curves([CurvePanel("NDCG@20", [line])]).axes)
        1
    """
    with mpl.rc_context(STYLE):
        figure, rows = panel_row(len(panels), 3.7)
        for axes, panel in zip(rows[0], panels, strict=True):
            _curve_panel(axes, panel, phases, best)
            axes.set_title(panel.title)
    return figure


def _curve_panel(axes: Axes, panel: CurvePanel, phases: Sequence[Band], best: Sequence[int]) -> None:
    last = max(len(line.means) for line in panel.lines)
    for line in panel.lines:
        _draw(axes, line, last)
    lows = [m - s for line in panel.lines for m, s in zip(line.means, line.spreads, strict=True)]
    highs = [m + s for line in panel.lines for m, s in zip(line.means, line.spreads, strict=True)]
    height = max(highs) - min(lows) or 0.02
    axes.set_ylim(max(min(lows) - 0.1 * height, 0.0), max(highs) + (0.2 if phases else 0.08) * height)
    axes.set_xlim(0.5, last + 0.5)
    axes.xaxis.set_major_locator(MaxNLocator(8, integer=True))
    axes.set_xlabel("epoch")
    if panel.unit == "percent":
        percent_axis(axes, "y")
    else:
        axes.yaxis.set_major_locator(MaxNLocator(5))
        axes.grid(axis="y")
    shade(axes, phases)
    for place, epoch in enumerate(best):
        # Seeds with the same best epoch stand above each other.
        axes.plot(
            [epoch],
            [0.03 + 0.055 * best[:place].count(epoch)],
            marker="^",
            markersize=6,
            color=colour("ink"),
            transform=axes.get_xaxis_transform(),
            zorder=5,
        )
    end_labels(
        axes,
        {line.label: line.means[-1] for line in panel.lines},
        {line.label: colour(line.view, place) for place, line in enumerate(panel.lines)},
    )


def _draw(axes: Axes, line: CurveLine, last: int) -> None:
    epochs = range(1, len(line.means) + 1)
    whole = line.view == "score"
    shown = colour(line.view)
    if any(line.spreads):
        axes.fill_between(
            epochs,
            [mean - spread for mean, spread in zip(line.means, line.spreads, strict=True)],
            [mean + spread for mean, spread in zip(line.means, line.spreads, strict=True)],
            color=shown,
            alpha=0.18,
            linewidth=0,
            zorder=2,
        )
    axes.plot(
        epochs,
        line.means,
        color=shown,
        linestyle=(0, (4, 2)) if line.alone else DASHES.get(line.view, "-"),
        linewidth=2.6 if whole else 1.6,
        marker="" if line.alone else MARKERS.get(line.view, "o"),
        markersize=4.5 if len(epochs) <= 40 else 0,
        zorder=4 if whole else 3,
    )
    if len(epochs) < last:
        # From where training ended to the name of the line.
        axes.plot(
            [epochs[-1], last + 0.5],
            [line.means[-1]] * 2,
            color=shown,
            linestyle=(0, (1, 3)),
            linewidth=0.9,
            zorder=1,
        )

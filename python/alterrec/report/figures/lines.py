"""Lines by epoch: a metric or a loss, with bands over seeds, shaded phases and the best epoch."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from itertools import pairwise
from typing import TYPE_CHECKING, Any, NamedTuple

from alterrec.report.figures.style import (
    DASHED,
    DASHES,
    MARKERS,
    PALETTE,
    EndLabel,
    Panel,
    canvas,
    colour,
    deviation,
    divider,
    end_labels,
    line,
    value_axis,
)
from alterrec.report.tables import percent

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from alterrec.results import Epoch

# Share of a panel's width from which a phase has its name in it.
NARROWEST_LABELLED = 0.13


class Line(NamedTuple):
    """A quantity by epoch.

    Attributes:
        colour: name in the palette, which also gives marker and line style.
        seeds: for each seed, one value per epoch.
        alone: whether it belongs to a model trained for that part only; such lines are dashed.
        best: for each seed, the epoch to mark by a ring; 0 for none.
    """

    label: str
    colour: str
    seeds: Sequence[Sequence[float]]
    alone: bool = False
    best: Sequence[int] = ()

    @property
    def means(self) -> list[float]:
        """Mean over seeds of each epoch that all seeds reached.

        Example:
            >>> Line("ID", "id", [[1.0, 2.0, 5.0], [3.0, 4.0]]).means
            [2.0, 3.0]
        """
        return [statistics.fmean(values) for values in zip(*self.seeds, strict=False)]

    @property
    def spreads(self) -> list[float]:
        """Standard deviation over seeds of the same epochs, 0 for one seed."""
        return [deviation(values) for values in zip(*self.seeds, strict=False)]


class Band(NamedTuple):
    """Epochs `first` to `last`, both included, that trained the network `trained`."""

    first: int
    last: int
    trained: str
    negatives: str


def bands(epochs: Sequence[Epoch]) -> list[Band]:
    """Return runs of epochs that trained the same network against the same negatives.

    Example:
        >>> from alterrec.results import Epoch
        >>> bands([Epoch(number, "", "id", "full", 6.0, {}) for number in (1, 2)])
        [Band(first=1, last=2, trained='id', negatives='full')]
    """
    found: list[Band] = []
    for number, epoch in enumerate(epochs, start=1):
        if found and (found[-1].trained, found[-1].negatives) == (epoch.trained, epoch.negatives):
            found[-1] = found[-1]._replace(last=number)
        else:
            found.append(Band(number, number, epoch.trained, epoch.negatives))
    return found


def epoch_lines(
    panels: Sequence[Panel[Line]], *, phases: Sequence[Band] = (), best: Sequence[int] = ()
) -> Figure:
    """Draw means over seeds by epoch in bands of one standard deviation (Figures 3, 5 and 9).

    Args:
        panels: lines over the same epochs, the first of which is 1.
        phases: shaded in the colour of the network that they trained; a dashed line marks a change of the
            negatives.
        best: the best epoch of each seed: a ring with its value where there is one seed, else triangles.

    Example:
        >>> len(epoch_lines([Panel("NDCG@20", [Line("ID", "id", [[0.1, 0.2], [0.1, 0.3]])])]).axes)
        1
    """
    with canvas(len(panels), 3.7) as (figure, rows):
        for axes, panel in zip(rows[0], panels, strict=True):
            _panel(axes, panel, phases, best)
            axes.set_title(panel.title)
    return figure


def _panel(axes: Axes, panel: Panel[Line], phases: Sequence[Band], best: Sequence[int]) -> None:
    from matplotlib.ticker import MaxNLocator

    last = max(len(each.means) for each in panel.marks)
    colours = [colour(each.colour, place) for place, each in enumerate(panel.marks)]
    for each, own in zip(panel.marks, colours, strict=True):
        _line(axes, each, own)
    points = [pair for each in panel.marks for pair in zip(each.means, each.spreads, strict=True)]
    low, high = min(mean - spread for mean, spread in points), max(mean + spread for mean, spread in points)
    height = high - low or 0.02
    room = 0.3 if phases or best else 0.08
    axes.set_ylim(max(low - 0.13 * height, 0.0), high + room * height)
    axes.set_xlim(0.5, last + 0.5)
    axes.xaxis.set_major_locator(MaxNLocator(6, integer=True))
    axes.set_xlabel("epoch")
    value_axis(axes, "y", panel.unit)
    shade(axes, phases)
    ringed = [each for each in panel.marks if each.colour == "score" and len(each.seeds) == 1]
    if len(best) == 1 and ringed and best[0] <= last:
        value = ringed[0].means[best[0] - 1]
        _ring(axes, best[0], value, percent(value) if panel.unit == "percent" else f"{value:.2f}")
    else:
        _triangles(axes, best)
    ends = [
        EndLabel(each.label, len(each.means), each.means[-1], own, each.colour == "score")
        for each, own in zip(panel.marks, colours, strict=True)
    ]
    end_labels(axes, ends)


def _line(axes: Axes, each: Line, own: str) -> None:
    epochs = range(1, len(each.means) + 1)
    whole = each.colour == "score"
    line(
        axes,
        epochs,
        each.means,
        each.spreads,
        own,
        linestyle=DASHED if each.alone else DASHES.get(each.colour, "-"),
        linewidth=2.6 if whole else 1.6,
        marker="" if each.alone else MARKERS.get(each.colour, "o"),
        markersize=4.5 if len(epochs) <= 40 else 0,
        zorder=4 if whole else 3,
    )
    for best, values in zip(each.best, each.seeds, strict=False):
        if 0 < best <= len(values):
            ring: Any = {"markersize": 9, "color": "none", "markeredgecolor": own, "markeredgewidth": 1.6}
            axes.plot([best], [values[best - 1]], "o", zorder=5, **ring)


def shade(axes: Axes, phases: Sequence[Band]) -> None:
    """Shade epochs in the colour of the network that they trained; a dashed line where negatives change."""
    if len({band.trained for band in phases}) > 1:
        shown = [phases[0], *(after for before, after in pairwise(phases) if after.trained != before.trained)]
        starts = [band.first for band in shown]
        labelled: set[str] = set()
        stops = [*(start - 1 for start in starts[1:]), phases[-1].last]
        for band, start, stop in zip(shown, starts, stops, strict=True):
            own = colour(band.trained if band.trained in PALETTE else "other")
            axes.axvspan(start - 0.5, stop + 0.5, color=own, alpha=0.11, linewidth=0, zorder=0)
            share = (stop + 1 - start) / (phases[-1].last + 1 - phases[0].first)
            if share >= NARROWEST_LABELLED or band.trained not in labelled:
                labelled.add(band.trained)
                style: Any = {"ha": "center", "va": "top", "color": own}
                name = band.trained.replace("id", "ID")
                axes.text((start + stop) / 2, 0.975, name, transform=axes.get_xaxis_transform(), **style)
    for before, after in pairwise(phases):
        if before.negatives != after.negatives:
            divider(axes, after.first - 0.5)
            axes.text(
                after.first - 0.4,
                0.02,
                f"negatives: {after.negatives} →",
                transform=axes.get_xaxis_transform(),
                color=colour("muted"),
            )


def _triangles(axes: Axes, best: Sequence[int]) -> None:
    for place, epoch in enumerate(best):
        # Seeds with the same best epoch are drawn above each other.
        height = 0.03 + 0.055 * best[:place].count(epoch)
        style: Any = {"markersize": 6, "color": colour("ink"), "zorder": 5}
        axes.plot([epoch], [height], "^", transform=axes.get_xaxis_transform(), **style)


def _ring(axes: Axes, best: int, value: float, written: str) -> None:
    ring: Any = {"markersize": 11, "color": "none", "markeredgecolor": colour("ink"), "markeredgewidth": 1.6}
    axes.plot([best], [value], marker="o", zorder=5, **ring)
    start, stop = axes.get_xlim()
    left = best > (start + stop) / 2
    axes.annotate(
        f"epoch {best}: {written}",
        (best, value),
        xytext=(-9 if left else 9, 9),
        textcoords="offset points",
        ha="right" if left else "left",
        fontweight="bold",
        zorder=6,
    )

"""Bars: horizontal ones with a label each, and clusters of upright ones."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from alterrec.metrics import metric_name
from alterrec.report.figures.style import Panel, canvas, colour
from alterrec.report.tables import percent

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

PALE = 0.28


class Bar(NamedTuple):
    """A bar from zero to the mean of its values, one fraction per seed.

    ``colour`` is a name in the palette. ``solid`` is the part of the bar in full colour, the rest is pale; by
    default the whole bar is in full colour.
    """

    label: str
    values: Sequence[float]
    colour: str
    bold: bool = False
    solid: float | None = None

    @property
    def mean(self) -> float:
        return statistics.fmean(self.values)


class BarCluster(NamedTuple):
    """Bars next to each other with one name below them."""

    label: str
    bars: Sequence[Bar]


class SystemBars(NamedTuple):
    """A system in several metrics: metric -> one fraction per seed."""

    label: str
    values: Mapping[str, Sequence[float]]
    colour: str
    bold: bool = False


def system_panels(
    systems: Sequence[SystemBars], metrics: Sequence[str] = ("hits@20", "ndcg@20"), order: str = ""
) -> list[Panel[Bar]]:
    """Return one panel per metric, the systems sorted by ``order``, by default the first metric.

    Example:
        >>> found = system_panels([SystemBars("popularity", {"hits@20": [0.1]}, "baseline")], ["hits@20"])
        >>> found[0].marks
        [Bar(label='popularity', values=[0.1], colour='baseline', bold=False, solid=None)]
    """
    ranked = sorted(systems, key=lambda each: -statistics.fmean(each.values[order or metrics[0]]))
    return [
        Panel(
            metric_name(metric),
            [Bar(each.label, each.values[metric], each.colour, each.bold) for each in ranked],
        )
        for metric in metrics
    ]


def bars(panels: Sequence[Panel[Bar]]) -> Figure:
    """Draw horizontal bars with the label on the left and the mean at the end.

    Several seeds are drawn as their mean, a whisker of one standard deviation and a dot each.

    Example:
        >>> len(bars([Panel("Hits@20", [Bar("popularity", [0.1], "baseline")])]).axes)
        1
    """
    with canvas(len(panels), 0.9 + 0.34 * len(panels[0].marks)) as (figure, rows):
        for axes, panel in zip(rows[0], panels, strict=True):
            for place, bar in enumerate(panel.marks):
                axes.barh(place, bar.mean, height=0.72, color=colour(bar.colour), zorder=2)
                axes.annotate(
                    percent(bar.mean),
                    (_whisker(axes, place, bar.values), place),
                    xytext=(4 if len(bar.values) == 1 else 8, 0),
                    textcoords="offset points",
                    va="center",
                    fontweight="bold" if bar.bold else "normal",
                )
            axes.set_yticks(range(len(panel.marks)), [bar.label for bar in panel.marks])
            for label, bar in zip(axes.get_yticklabels(), panel.marks, strict=True):
                label.set_color(colour("ink"))
                label.set_fontweight("bold" if bar.bold else "normal")
            widest = max((max(bar.values) for bar in panel.marks), default=0.0) or 1.0
            _frame(axes, panel.title, 1.2 * widest, (len(panel.marks) - 0.4, -0.6))
    return figure


def labelled_bars(panels: Sequence[Panel[Bar]]) -> Figure:
    """Draw thin horizontal bars, each below its label; whiskers are one standard deviation over seeds.

    Example:
        >>> bar = Bar("both find 25%", [0.2, 0.3], "fused", solid=0.1)
        >>> len(labelled_bars([Panel("found", [bar])]).axes)
        1
    """
    with canvas(len(panels), 3.2) as (figure, rows):
        for axes, panel in zip(rows[0], panels, strict=True):
            for place, bar in enumerate(panel.marks):
                solid = bar.mean if bar.solid is None else bar.solid
                own = colour(bar.colour)
                axes.barh(place, bar.mean, height=0.4, color=own, alpha=PALE, linewidth=0, zorder=2)
                axes.barh(place, solid, height=0.4, color=own, linewidth=0, zorder=3)
                _whisker(axes, place, bar.values, dots=False)
                axes.annotate(
                    bar.label,
                    (0, place - 0.24),
                    xytext=(1, 1),
                    textcoords="offset points",
                    va="bottom",
                    fontweight="bold" if bar.bold else "normal",
                )
            axes.set_yticks([])
            widest = max(bar.mean for bar in panel.marks) or 1.0
            _frame(axes, panel.title, 1.12 * widest, (len(panel.marks) - 0.6, -0.75))
    return figure


def clustered_bars(panels: Sequence[Panel[BarCluster]]) -> Figure:
    """Draw clusters of upright bars; several seeds as mean, a whisker of one deviation and a dot each.

    Example:
        >>> cluster = BarCluster("NFRec-sum", [Bar("fused", [0.3], "score"), Bar("ID", [0.31], "id")])
        >>> len(clustered_bars([Panel("Hits@20 in percent", [cluster])]).axes)
        1
    """
    with canvas(len(panels), 3.6) as (figure, rows):
        for axes, panel in zip(rows[0], panels, strict=True):
            most = max((len(cluster.bars) for cluster in panel.marks), default=1)
            centres = [(most + 0.6) * group for group in range(len(panel.marks))]
            tops = [0.0]
            for centre, cluster in zip(centres, panel.marks, strict=True):
                for number, bar in enumerate(cluster.bars):
                    tops.append(_upright(axes, centre + number - (most - 1) / 2, bar))
            axes.set_xticks(centres, [cluster.label for cluster in panel.marks])
            axes.tick_params(axis="x", length=0, pad=16, labelcolor=colour("ink"))
            axes.set_ylim(0, (max(tops) or 1.0) * 1.1)
            axes.set_yticks([])
            axes.set_title(panel.title)
    return figure


def _upright(axes: Axes, place: float, bar: Bar) -> float:
    """Draw one bar with its name below and its mean above; return the height of all that was drawn."""
    axes.bar(place, bar.mean, width=0.86, color=colour(bar.colour), zorder=2)
    top = _whisker(axes, place, bar.values, upright=True)
    style: Any = {"textcoords": "offset points", "ha": "center", "fontsize": 8.5}
    weight = "bold" if bar.bold else "normal"
    axes.annotate(f"{100 * bar.mean:.1f}", (place, top), xytext=(0, 3), fontweight=weight, **style)
    axes.annotate(bar.label, (place, 0), xytext=(0, -4), va="top", color=colour(bar.colour), **style)
    return top


def _whisker(
    axes: Axes, place: float, values: Sequence[float], *, upright: bool = False, dots: bool = True
) -> float:
    """Draw the deviation over seeds and a dot per seed; return where all that was drawn ends."""
    mean = statistics.fmean(values)
    if len(values) == 1:
        return mean
    spread = statistics.stdev(values)
    style: Any = {"color": colour("ink"), "capsize": 3.5, "elinewidth": 1.3, "zorder": 4}
    dot: Any = {"markersize": 4, "color": "white", "markeredgecolor": colour("ink"), "markeredgewidth": 0.9}
    places = [place] * len(values)
    if upright:
        axes.errorbar(place, mean, yerr=spread, **style)
    else:
        axes.errorbar(mean, place, xerr=spread, **style)
    if dots:
        axes.plot(*((places, values) if upright else (values, places)), "o", zorder=5, **dot)
    return max(mean + spread, *values)


def _frame(axes: Axes, title: str, right: float, heights: tuple[float, float]) -> None:
    axes.set_xlim(0, right)
    axes.set_ylim(*heights)
    axes.set_xticks([])
    axes.spines["bottom"].set_visible(False)
    axes.set_title(title)

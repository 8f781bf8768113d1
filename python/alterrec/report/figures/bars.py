"""Horizontal bars with a label each: one per system, thin ones below long labels, and clusters."""

from __future__ import annotations

import statistics
import textwrap
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, NamedTuple

from alterrec.metrics import metric_name
from alterrec.report.figures.style import Panel, canvas, colour
from alterrec.report.tables import percent

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

PALE = 0.28
# Longer labels are broken into two lines.
LONGEST_LABEL = 22
# What a whisker is, for the notes of figures.
WHISKERS = (
    "Whiskers are one standard deviation over seeds, with a dot for each seed; where there is one seed, they "
    "are one standard error over sessions."
)


class Bar(NamedTuple):
    """A bar from zero to the mean of its values, one fraction per seed.

    ``colour`` is a name in the palette. ``solid`` is the part of the bar in full colour, the rest is pale; by
    default the whole bar is in full colour. ``error`` is the standard error over sessions, if it is known.
    """

    label: str
    values: Sequence[float]
    colour: str
    bold: bool = False
    solid: float | None = None
    error: float | None = None

    @property
    def mean(self) -> float:
        return statistics.fmean(self.values)

    @property
    def spread(self) -> float:
        """Half the length of the whisker: the deviation over seeds, or the error over sessions for one."""
        return statistics.stdev(self.values) if len(self.values) > 1 else self.error or 0.0


class BarCluster(NamedTuple):
    """Bars below each other with one name on their left."""

    label: str
    bars: Sequence[Bar]


@dataclass(frozen=True)
class SystemBars:
    """A system in several metrics: metric -> one fraction per seed, and metric -> error over sessions."""

    label: str
    values: Mapping[str, Sequence[float]]
    colour: str
    bold: bool = False
    errors: Mapping[str, float] = field(default_factory=dict)


def system_panels(
    systems: Sequence[SystemBars], metrics: Sequence[str] = ("hits@20", "ndcg@20")
) -> list[Panel[Bar]]:
    """Return one panel per metric, each sorted by its own metric; a system without a metric has no bar in it.

    Example:
        >>> found = system_panels([SystemBars("popularity", {"hits@20": [0.1]}, "baseline")], ["hits@20"])
        >>> found[0].marks
        [Bar(label='popularity', values=[0.1], colour='baseline', bold=False, solid=None, error=None)]
    """
    panels = []
    for metric in metrics:
        drawn = [
            Bar(each.label, each.values[metric], each.colour, each.bold, error=each.errors.get(metric))
            for each in systems
            if each.values.get(metric)
        ]
        panels.append(Panel(metric_name(metric), sorted(drawn, key=lambda bar: -bar.mean)))
    return panels


def bars(panels: Sequence[Panel[Bar]]) -> Figure:
    """Draw horizontal bars with the label on the left and the mean at the end.

    Several seeds are drawn as their mean, a whisker of one standard deviation and a dot each.

    Example:
        >>> len(bars([Panel("Hits@20", [Bar("popularity", [0.1], "baseline")])]).axes)
        1
    """
    wrapped = any("\n" in _wrapped(bar.label) for panel in panels for bar in panel.marks)
    row = 0.46 if wrapped else 0.32
    with canvas(len(panels), 0.9 + row * len(panels[0].marks)) as (figure, rows):
        for axes, panel in zip(rows[0], panels, strict=True):
            for place, bar in enumerate(panel.marks):
                _bar(axes, place, bar, percent(bar.mean), height=0.72)
            _name(axes, range(len(panel.marks)), panel.marks)
            _frame(axes, panel.title, 1.28 * _widest(panel.marks), (len(panel.marks) - 0.4, -0.6))
    return figure


def labelled_bars(panels: Sequence[Panel[Bar]]) -> Figure:
    """Draw thin horizontal bars, each below its label; whiskers are one standard deviation over seeds.

    Example:
        >>> bar = Bar("both find 25%", [0.2, 0.3], "fused", solid=0.1)
        >>> len(labelled_bars([Panel("found", [bar])]).axes)
        1
    """
    with canvas(len(panels), 3.4) as (figure, rows):
        for axes, panel in zip(rows[0], panels, strict=True):
            for place, bar in enumerate(panel.marks):
                solid = bar.mean if bar.solid is None else bar.solid
                own = colour(bar.colour)
                axes.barh(place, bar.mean, height=0.36, color=own, alpha=PALE, linewidth=0, zorder=2)
                axes.barh(place, solid, height=0.36, color=own, linewidth=0, zorder=3)
                _whisker(axes, place, bar, dots=False)
                axes.annotate(
                    bar.label,
                    (0, place - 0.22),
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
    """Draw clusters of horizontal bars; several seeds as mean, a whisker of one deviation and a dot each.

    Example:
        >>> cluster = BarCluster("NFRec-sum", [Bar("fused", [0.3], "score"), Bar("ID", [0.31], "id")])
        >>> len(clustered_bars([Panel("Hits@20 in percent", [cluster])]).axes)
        1
    """
    most = max((len(cluster.bars) for panel in panels for cluster in panel.marks), default=1)
    number = max(len(panel.marks) for panel in panels)
    with canvas(len(panels), 0.8 + 0.27 * number * (most + 0.6)) as (figure, rows):
        for axes, panel in zip(rows[0], panels, strict=True):
            centres = [(most + 0.6) * group for group in range(len(panel.marks))]
            for centre, cluster in zip(centres, panel.marks, strict=True):
                for place, bar in enumerate(cluster.bars):
                    _bar(axes, centre + place - (most - 1) / 2, bar, f"{100 * bar.mean:.1f}", height=0.86)
            _name(axes, centres, panel.marks)
            every = [bar for cluster in panel.marks for bar in cluster.bars]
            bottom = (centres[-1] if centres else 0) + most / 2 + 0.2
            _frame(axes, panel.title, 1.2 * _widest(every), (bottom, -most / 2 - 0.2))
    return figure


def _bar(axes: Axes, place: float, bar: Bar, value: str, *, height: float) -> None:
    axes.barh(place, bar.mean, height=height, color=colour(bar.colour), zorder=2)
    axes.annotate(
        value,
        (_whisker(axes, place, bar), place),
        xytext=(8 if bar.spread else 4, 0),
        textcoords="offset points",
        va="center",
        fontweight="bold" if bar.bold else "normal",
    )


def _name(axes: Axes, places: Sequence[float], named: Sequence[Bar] | Sequence[BarCluster]) -> None:
    axes.set_yticks(places, [_wrapped(each.label) for each in named])
    for label, each in zip(axes.get_yticklabels(), named, strict=True):
        label.set_color(colour("ink"))
        label.set_fontweight("bold" if isinstance(each, Bar) and each.bold else "normal")


def _wrapped(label: str) -> str:
    """Return a long label in two lines, which leaves more width for the bars; what is longer is cut off.

    Example:
        >>> _wrapped("nfrec_sum (best) · naive0, 3 seeds")
        'nfrec_sum (best) ·\\nnaive0, 3 seeds'
    """
    lines = textwrap.wrap(label, LONGEST_LABEL)
    return "\n".join(lines[:2]) + (" …" if len(lines) > 2 else "")


def _widest(drawn: Sequence[Bar]) -> float:
    return max((max(bar.mean + bar.spread, *bar.values, 0.0) for bar in drawn), default=0.0) or 1.0


def _whisker(axes: Axes, place: float, bar: Bar, *, dots: bool = True) -> float:
    """Draw the whisker of a bar, and a dot per seed if there are several; return where all of it ends."""
    if not bar.spread and len(bar.values) == 1:
        return bar.mean
    style: Any = {"color": colour("ink"), "capsize": 3.5, "elinewidth": 1.3, "zorder": 4}
    axes.errorbar(bar.mean, place, xerr=bar.spread, **style)
    if dots and len(bar.values) > 1:
        dot: Any = {
            "markersize": 4,
            "color": "white",
            "markeredgecolor": colour("ink"),
            "markeredgewidth": 0.9,
        }
        axes.plot(bar.values, [place] * len(bar.values), "o", zorder=5, **dot)
    return max(bar.mean + bar.spread, *bar.values)


def _frame(axes: Axes, title: str, right: float, heights: tuple[float, float]) -> None:
    axes.set_xlim(0, right)
    axes.set_ylim(*heights)
    axes.set_xticks([])
    axes.spines["bottom"].set_visible(False)
    axes.set_title(title)

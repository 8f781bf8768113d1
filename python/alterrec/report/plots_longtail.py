"""What systems gain over a reference by popularity of the target, one panel a metric."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, MaxNLocator

from alterrec.report.plots import (
    DASHES,
    MARKERS,
    SEEN,
    STYLE,
    colour,
    end_labels,
    over_groups,
)
from alterrec.results import FEW_TARGETS, Group

# Between neighbouring lines, so that their markers do not hide each other.
STEP = 0.07


class GainLine(NamedTuple):
    """A system: by group its gain over the reference and the deviation of that over seeds, fractions."""

    label: str
    colour: str
    gains: Mapping[str, tuple[float, float]]


def improvements(groups: Sequence[Group], panels: Mapping[str, Sequence[GainLine]], reference: str) -> Figure:
    """Gains in percentage points in bands of one deviation over seeds, above bars of each group's share.

    Lines join groups of 30 targets or more; smaller ones have hollow markers, which lie at the edge where
    they would lie beyond it.

    Example:
        >>> line = GainLine("alterrec", "score", {"1-5": (0.02, 0.01)})
        >>> len(improvements([Group("1-5", 40, 1.0)], {"Hits@20": [line]}, "bert4rec").axes)
        2
    """
    with mpl.rc_context(STYLE):
        figure, tops, ordered, places = over_groups(groups, len(panels), SEEN)
        for axes, (title, lines) in zip(tops, panels.items(), strict=True):
            _panel(axes, ordered, places, lines, reference)
            axes.set_title(f"{title}, percentage points above {reference}")
    return figure


def _panel(
    axes: Axes, groups: Sequence[Group], places: Sequence[float], lines: Sequence[GainLine], reference: str
) -> None:
    low, high = _limits(groups, lines)
    bottom, top = low + 0.04 * (high - low), high - 0.04 * (high - low)
    axes.axhline(0, color=colour("muted"), linewidth=1.2, zorder=1)
    for number, line in enumerate(lines):
        own, aside = colour(line.colour, number), STEP * (number - (len(lines) - 1) / 2)
        joined = []
        for place, group in zip(places, groups, strict=True):
            if group.name not in line.gains:
                continue
            mean, spread = line.gains[group.name]
            many = group.count >= FEW_TARGETS
            axes.plot(
                [place + aside],
                [min(max(mean, bottom), top)],
                MARKERS.get(line.colour, "P"),
                color=own,
                markersize=7 if line.colour == "score" else 5.5,
                markerfacecolor=own if many else "white",
                zorder=4,
                clip_on=False,
            )
            if many and group.name != "cold":
                joined.append((place + aside, mean, spread))
            elif spread and many:
                axes.errorbar(place + aside, mean, yerr=spread, color=own, elinewidth=1.2, zorder=3)
        _join(axes, joined, own, line)
    axes.set_ylim(low, high)
    axes.yaxis.set_major_locator(MaxNLocator(6))
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{100 * value:+g}" if value else "0"))
    axes.grid(axis="y")
    last = groups[-1].name if groups else ""
    ends = {line.label: line.gains[last][0] for line in lines if last in line.gains}
    colours = {line.label: colour(line.colour, number) for number, line in enumerate(lines)}
    end_labels(
        axes,
        {label: min(max(end, bottom), top) for label, end in ends.items()} | {reference: 0.0},
        colours | {reference: colour("muted")},
    )


def _join(axes: Axes, points: Sequence[tuple[float, float, float]], own: str, line: GainLine) -> None:
    places, means, spreads = zip(*points, strict=True) if points else ((), (), ())
    axes.plot(
        places,
        means,
        color=own,
        linestyle=DASHES.get(line.colour, "-"),
        linewidth=2.6 if line.colour == "score" else 1.6,
        zorder=3,
    )
    if any(spreads):
        below = [mean - spread for mean, spread in zip(means, spreads, strict=True)]
        above = [mean + spread for mean, spread in zip(means, spreads, strict=True)]
        axes.fill_between(places, below, above, color=own, alpha=0.15, linewidth=0, zorder=2)


def _limits(groups: Sequence[Group], lines: Sequence[GainLine]) -> tuple[float, float]:
    """Room for what rests on enough targets, or for all where nothing does."""
    many = {group.name for group in groups if group.count >= FEW_TARGETS} or {group.name for group in groups}
    shown = [line.gains[name] for line in lines for name in many if name in line.gains]
    low = min([0.0, *(mean - spread for mean, spread in shown)])
    high = max([0.0, *(mean + spread for mean, spread in shown)])
    room = 0.12 * (high - low) or 0.01
    return low - room, high + room

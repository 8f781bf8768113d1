"""Pictures of a data set: how long sessions are, and how interactions fall on items."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Literal

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter

from alterrec.data.statistics import Statistics
from alterrec.report.plots import STYLE, colour, panel_row, percent_axis
from alterrec.report.presentation import Plot
from alterrec.report.tables import percent

# Upper ends of the bars of session lengths.
LENGTHS = (1, 2, 3, 4, 5, 7, 10, 15, 20, 30, 50, 100)
# Split -> colour and marker beside the bars of train.
BESIDE = {"valid": ("id", "o"), "test": ("text", "^")}

Panel = Literal["lengths", "popularity"]


def distributions(
    lengths: Mapping[str, Mapping[int, int]],
    curve: Sequence[tuple[int, int]],
    top: Mapping[int, tuple[str, float]],
    panels: Sequence[Panel] = ("lengths", "popularity"),
) -> Figure:
    """Session lengths by split, and interactions of items by popularity rank with both axes logarithmic.

    Args:
        lengths: split -> session length -> sessions.
        curve: (rank, interactions) of items.
        top: rank -> its name and the share of interactions that falls on items up to it.
        panels: which to draw.

    Example:
        >>> shape = distributions({"train": {2: 10, 3: 5}}, [(1, 20), (2, 10)], {1: ("50%", 0.67)})
        >>> len(shape.axes)
        2
    """
    with mpl.rc_context(STYLE):
        figure, rows = panel_row(len(panels), 3.6)
        for axes, panel in zip(rows[0], panels, strict=True):
            if panel == "lengths":
                _lengths(axes, lengths)
            else:
                _popularity(axes, curve, top)
    return figure


def distributions_plot(found: Statistics) -> Plot:
    """Session lengths and popularity of a data set, as one picture with two panels."""
    lengths = {split: each.lengths for split, each in found.splits.items()}
    top = {
        max(round(of * found.items), 1): (f"{100 * of:g}%", has) for of, has in found.popularity.top.items()
    }
    panels: tuple[Panel, ...] = ("lengths", "popularity")
    return Plot(
        distributions(lengths, found.popularity.curve, top),
        [distributions(lengths, found.popularity.curve, top, [panel]) for panel in panels],
        "Share of sessions by length in each split, and interactions of items by popularity.",
    )


def length_shares(lengths: Mapping[int, int]) -> dict[str, float]:
    """Share of sessions by length, neighbouring lengths together.

    Example:
        >>> shares = length_shares({2: 3, 6: 1})
        >>> {name: share for name, share in shares.items() if share}
        {'2': 0.75, '6-7': 0.25}
    """
    total = sum(lengths.values()) or 1
    shares = {}
    for low, high in zip((0, *LENGTHS), (*LENGTHS, None), strict=True):
        name = f">{low}" if high is None else str(high) if high == low + 1 else f"{low + 1}-{high}"
        inside = [sessions for length, sessions in lengths.items() if low < length <= (high or length)]
        shares[name] = sum(inside) / total
    return shares


def _lengths(axes: Axes, lengths: Mapping[str, Mapping[int, int]]) -> None:
    shares = {split: length_shares(own) for split, own in lengths.items()}
    used = [name for name in shares["train"] if any(own[name] for own in shares.values())]
    places = range(len(used))
    axes.bar(places, [shares["train"][name] for name in used], width=0.72, color=colour("baseline"), zorder=1)
    for split, (own, marker) in BESIDE.items():
        if split in shares:
            heights = [shares[split][name] for name in used]
            axes.plot(places, heights, marker, color=colour(own), markersize=6, zorder=3)
    axes.set_xticks(places, used, fontsize=9)
    axes.set_xlabel("items in a session")
    axes.set_title("Share of sessions by length")
    percent_axis(axes, "y")
    axes.set_ylim(bottom=0)


def _popularity(axes: Axes, curve: Sequence[tuple[int, int]], top: Mapping[int, tuple[str, float]]) -> None:
    ranks, counts = [rank for rank, _ in curve], [count for _, count in curve]
    axes.loglog(ranks, counts, color=colour("score"), linewidth=2.4, zorder=3)
    for rank, (name, share) in top.items():
        height = counts[min(range(len(ranks)), key=lambda place: abs(ranks[place] - rank))]
        axes.plot([rank], [height], "o", color=colour("score"), markersize=7, zorder=4)
        axes.annotate(
            f"first {name} of items:\n{percent(share)} of interactions",
            (rank, height),
            xytext=(8, 4),
            textcoords="offset points",
            fontsize=9.5,
        )
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.0f}"))
    axes.set_xlabel("items by popularity, the most popular first")
    axes.set_title("Interactions of each item in train")
    axes.set_ylim(bottom=0.8)
    axes.grid(axis="both")
    axes.minorticks_off()

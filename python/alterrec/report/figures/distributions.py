"""Session lengths of a data set, and how its interactions are distributed over items."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from alterrec.data.statistics import Statistics
from alterrec.report.figures.style import canvas, colour, value_axis
from alterrec.report.tables import percent

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

# Most bars of session lengths, and the share of the sessions that they have.
MOST_BARS, SHOWN = 20, 0.99
# Split -> name, colour and marker on the bars of train.
OTHER_SPLITS = {"valid": ("validation", "id", "o"), "test": ("test", "text", "^")}

PANELS = ("lengths", "popularity")
CAPTION = "Share of sessions by length in each split, and interactions of items by popularity."


def distributions(panels: Sequence[str] = PANELS, *, of: Statistics) -> Figure:
    """Draw session lengths by split, and interactions by popularity rank with both axes logarithmic."""
    with canvas(len(panels), 3.6) as (figure, rows):
        for axes, panel in zip(rows[0], panels, strict=True):
            if panel == "lengths":
                _lengths(axes, {split: each.lengths for split, each in of.splits.items()})
            else:
                top = {
                    max(round(part * of.items), 1): (f"{100 * part:g}%", share)
                    for part, share in of.popularity.top.items()
                }
                _popularity(axes, of.popularity.curve, top)
    return figure


def bin_width(lengths: Mapping[int, int]) -> int:
    """Return the width of at most 20 equal bins of lengths that have 99 % of the sessions.

    Example:
        >>> bin_width({2: 3, 6: 1}), bin_width({2: 80, 45: 20})
        (1, 3)
    """
    total, below = sum(lengths.values()), 0
    for length in sorted(lengths):
        below += lengths[length]
        if below >= SHOWN * total:
            return math.ceil(length / MOST_BARS)
    return 1


def length_shares(lengths: Mapping[int, int], width: int) -> list[float]:
    """Return the share of sessions in each of 20 bins of lengths; longer sessions are in none.

    Example:
        >>> length_shares({2: 2, 6: 1, 99: 1}, 3)[:3]
        [0.5, 0.25, 0.0]
    """
    total = sum(lengths.values()) or 1
    ends = range(width, width * MOST_BARS + 1, width)
    return [sum(lengths.get(end - back, 0) for back in range(width)) / total for end in ends]


def _lengths(axes: Axes, lengths: Mapping[str, Mapping[int, int]]) -> None:
    from matplotlib.ticker import MaxNLocator

    width = bin_width(lengths["train"])
    shares = {split: length_shares(own, width) for split, own in lengths.items()}
    used = max((place for own in shares.values() for place, share in enumerate(own, 1) if share), default=1)
    # A bin is drawn around the mean of its lengths.
    places = [width * place + (width + 1) / 2 for place in range(used)]
    drawn: Any = {"width": 0.86 * width, "color": colour("baseline"), "zorder": 1, "label": "train"}
    axes.bar(places, shares["train"][:used], **drawn)
    for split, (name, own, marker) in OTHER_SPLITS.items():
        if split in shares:
            style: Any = {"color": colour(own), "markersize": 6, "zorder": 3, "label": name}
            axes.plot(places, shares[split][:used], marker, **style)
    axes.xaxis.set_major_locator(MaxNLocator(6, integer=True))
    longer = 1 - sum(shares["train"][:used])
    beyond = f"\n{percent(longer)} of train are longer" if longer > 0.0005 else ""
    axes.set_xlabel(f"items in a session{f', in steps of {width}' if width > 1 else ''}{beyond}")
    axes.set_title("Share of sessions by length")
    axes.legend(loc="upper right")
    value_axis(axes, "y", "percent")
    axes.set_ylim(bottom=0)


def _popularity(axes: Axes, curve: Sequence[tuple[int, int]], top: Mapping[int, tuple[str, float]]) -> None:
    from matplotlib.ticker import FuncFormatter

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
        )
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.0f}"))
    axes.set_xlabel("items by popularity, the most popular first")
    axes.set_title("Interactions of each item in train")
    # The labels need room above the curve, a quarter of its height.
    highest = max(counts, default=1)
    axes.set_ylim(0.8, highest * (highest / 0.8) ** 0.25)
    axes.grid(axis="both")
    axes.minorticks_off()

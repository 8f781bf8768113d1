"""Session lengths of a data set, and how its interactions are distributed over items."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from alterrec.data.statistics import Statistics
from alterrec.report.figures.style import canvas, colour, value_axis
from alterrec.report.tables import percent

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

# Upper ends of the bars of session lengths.
LENGTHS = (1, 2, 3, 4, 5, 7, 10, 15, 20, 30, 50, 100)
# Split -> colour and marker next to the bars of train.
OTHER_SPLITS = {"valid": ("id", "o"), "test": ("text", "^")}

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


def length_shares(lengths: Mapping[int, int]) -> dict[str, float]:
    """Return the share of sessions by length, with neighbouring lengths together.

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
    for split, (own, marker) in OTHER_SPLITS.items():
        if split in shares:
            heights = [shares[split][name] for name in used]
            axes.plot(places, heights, marker, color=colour(own), markersize=6, zorder=3)
    axes.set_xticks(places, used, fontsize=9)
    axes.set_xlabel("items in a session")
    axes.set_title("Share of sessions by length")
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
            fontsize=9.5,
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

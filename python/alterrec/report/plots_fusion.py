"""Models that fuse ID and text beside their parts: a cluster of bars a model, one panel a metric."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from alterrec.report.plots import STYLE, colour, panel_row
from alterrec.report.tables import metric_name

# Part -> the word below its bar and the colour of it.
PARTS = {"fused": ("fused", "score"), "id": ("ID", "id"), "text": ("text", "text")}


class Cluster(NamedTuple):
    """A model: by part (``fused``, ``id``, ``text``) and metric the values of its seeds, fractions."""

    name: str
    values: Mapping[str, Mapping[str, Sequence[float]]]


def clusters(groups: Sequence[Cluster], metrics: Sequence[str] = ("hits@20", "ndcg@20")) -> Figure:
    """Three bars a model from zero; several seeds as mean, a whisker of one deviation and a dot each.

    Example:
        >>> group = Cluster("NFRec-sum", {"fused": {"hits@20": [0.3]}, "id": {"hits@20": [0.31]}})
        >>> len(clusters([group], ["hits@20"]).axes)
        1
    """
    with mpl.rc_context(STYLE):
        figure, rows = panel_row(len(metrics), 3.6)
        for axes, metric in zip(rows[0], metrics, strict=True):
            _panel(axes, groups, metric)
            axes.set_title(f"{metric_name(metric)} in percent")
    return figure


def _panel(axes: Axes, groups: Sequence[Cluster], metric: str) -> None:
    places = {part: number - 1 for number, part in enumerate(PARTS)}
    highest = 0.0
    for group, cluster in enumerate(groups):
        for part, by_metric in cluster.values.items():
            word, own = PARTS[part]
            place, values = 3.6 * group + places[part], by_metric[metric]
            top = _bar(axes, place, values, colour(own))
            highest = max(highest, top)
            axes.annotate(
                f"{100 * statistics.fmean(values):.1f}",
                (place, top),
                xytext=(0, 3),
                textcoords="offset points",
                ha="center",
                fontsize=8.5,
                fontweight="bold" if part == "fused" else "normal",
            )
            axes.annotate(
                word,
                (place, 0),
                xytext=(0, -4),
                textcoords="offset points",
                ha="center",
                va="top",
                fontsize=8.5,
                color=colour(own),
            )
    axes.set_xticks([3.6 * group for group in range(len(groups))], [cluster.name for cluster in groups])
    axes.tick_params(axis="x", length=0, pad=16, labelcolor=colour("ink"))
    axes.set_ylim(0, (highest or 1.0) * 1.1)
    axes.set_yticks([])


def _bar(axes: Axes, place: float, values: Sequence[float], own: str) -> float:
    """Draw one bar; the height of all that was drawn."""
    mean = statistics.fmean(values)
    axes.bar(place, mean, width=0.86, color=own, zorder=2)
    if len(values) == 1:
        return mean
    deviation = statistics.stdev(values)
    axes.errorbar(place, mean, yerr=deviation, color=colour("ink"), capsize=3.5, elinewidth=1.3, zorder=3)
    axes.plot(
        [place] * len(values),
        values,
        "o",
        markersize=3.5,
        color="white",
        markeredgecolor=colour("ink"),
        markeredgewidth=0.9,
        zorder=4,
    )
    return max(mean + deviation, *values)

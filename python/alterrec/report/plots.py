"""Pictures of training, systems and popularity groups: plain data in, a matplotlib Figure out.

Every function draws one panel a metric, side by side. Backgrounds are transparent in SVG; each colour
is one of `PALETTE`, so that a page can exchange them for its own in light and dark (see `svg`).
Series differ by line and marker as well as by colour. The hues are those of Okabe and Ito (2008),
darkened or lightened until they read on both grounds.
"""

from __future__ import annotations

import io
import re
import statistics
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any, Literal, NamedTuple

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, MaxNLocator

from alterrec.files import atomic_write, write_text
from alterrec.report.tables import VIEW_NAMES, metric_name, percent
from alterrec.results import FEW_TARGETS, VIEWS, Group

# name -> (light, dark); the page declares them as CSS variables.
PALETTE = {
    "ink": ("#1f2328", "#e6edf3"),
    "muted": ("#59636e", "#9da7b3"),
    "grid": ("#d8dee4", "#30363d"),
    "score": ("#0072b2", "#5cb8f0"),
    "fused": ("#444c56", "#c3ccd5"),
    "id": ("#cc5500", "#ff9248"),
    "text": ("#00855f", "#34cfa2"),
    "neighbours": ("#a1478a", "#e595cd"),
    "other": ("#7a8899", "#8496a9"),
    "baseline": ("#aeb7c0", "#57616c"),
}
MARKERS = {"score": "o", "fused": "D", "id": "s", "text": "^", "neighbours": "v"}
DASHES: dict[str, Any] = {"fused": (0, (4, 2)), "id": "-", "text": "-", "neighbours": (0, (1, 1.5))}
SPARE = ("other", "id", "text", "neighbours", "fused")

PANEL_INCHES = 5.4
COLD_STEP = 0.18
SEEN = "times the target was seen in training"
NARROWEST_LABELLED = 0.07
STYLE: Any = {
    "font.size": 10.5,
    "axes.titlesize": 11.5,
    "axes.titleweight": "bold",
    "axes.titlelocation": "left",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.spines.left": False,
    "axes.edgecolor": PALETTE["muted"][0],
    "axes.labelcolor": PALETTE["muted"][0],
    "axes.titlecolor": PALETTE["ink"][0],
    "axes.axisbelow": True,
    "text.color": PALETTE["ink"][0],
    "xtick.color": PALETTE["muted"][0],
    "ytick.color": PALETTE["muted"][0],
    "ytick.major.size": 0,
    "grid.color": PALETTE["grid"][0],
    "grid.linewidth": 0.8,
    "figure.facecolor": "white",
    "axes.facecolor": "none",
    "svg.fonttype": "none",
    # Names are names, also with two dollar signs in them.
    "text.parse_math": False,
}


class Band(NamedTuple):
    """Epochs `first` to `last`, both included, that trained the networks named by `trained`."""

    first: int
    last: int
    trained: str
    negatives: str


@dataclass(frozen=True)
class Bar:
    """A system: by metric the values of its seeds (fractions), and what it is, which gives its colour."""

    label: str
    values: Mapping[str, Sequence[float]]
    kind: str
    highlight: bool = False


def colour(name: str, place: int = 0) -> str:
    """The light colour of a view or kind; other names take turns by their place.

    Example:
        >>> colour("id"), colour("sasrec", 1)
        ('#cc5500', '#cc5500')
    """
    return PALETTE[name if name in PALETTE else SPARE[place % len(SPARE)]][0]


def spread_out(values: Sequence[float], gap: float, low: float, high: float) -> list[float]:
    """Positions nearest to `values` (least squares) in their order, `gap` apart and inside low..high.

    Minus the gaps below it, each position may only increase from one to the next, which is isotonic
    regression.

    Example:
        >>> spread_out([0.5, 0.5, 0.0], 0.25, 0.0, 1.0)
        [0.375, 0.625, 0.0]
        >>> spread_out([1.0, 1.0], 0.25, 0.0, 1.0)
        [0.75, 1.0]
    """
    from scipy.optimize import isotonic_regression  # type: ignore[import-untyped]

    if not values:
        return []
    order = np.argsort(values, kind="stable")
    gaps = gap * np.arange(len(values))
    levels = isotonic_regression(np.asarray(values, np.float64)[order] - gaps).x
    placed = np.empty(len(values))
    placed[order] = np.clip(levels, low, high - gaps[-1]) + gaps
    return [float(height) for height in placed]


def panel_row(count: int, height: float, rows: int = 1, **grid: Any) -> tuple[Figure, list[list[Axes]]]:
    """A figure with ``count`` panels side by side, and its axes by row."""
    figure = Figure(figsize=(PANEL_INCHES * count, height), layout="constrained")
    axes = figure.subplots(rows, count, squeeze=False, **grid)
    return figure, [list(row) for row in axes]


def percent_axis(axes: Axes, which: Literal["x", "y"]) -> None:
    """Fractions shown in percent, with a grid."""
    axis = axes.yaxis if which == "y" else axes.xaxis
    axis.set_major_formatter(FuncFormatter(lambda value, _: f"{100 * value:g}%"))
    axis.set_major_locator(MaxNLocator(5))
    axes.grid(axis=which)


def end_labels(axes: Axes, ends: Mapping[str, float], colours: Mapping[str, str]) -> None:
    """The name of each line to the right of the panel, at the height where the line ends; none overlap."""
    low, high = axes.get_ylim()
    names = list(ends)
    for name, height in zip(
        names, spread_out([ends[name] for name in names], (high - low) * 0.075, low, high), strict=True
    ):
        axes.annotate(
            VIEW_NAMES.get(name, name).removesuffix(" alone"),
            (1.0, height),
            xytext=(6, 0),
            textcoords="offset points",
            xycoords=("axes fraction", "data"),
            va="center",
            color=colours[name],
            fontweight="bold" if name == "score" else "normal",
            annotation_clip=False,
        )


def bands(trained: Sequence[str], negatives: Sequence[str]) -> list[Band]:
    """Runs of epochs that trained the same network against the same negatives; epoch 1 is the first entry.

    Example:
        >>> bands(["id", "id"], ["full", "full"])
        [Band(first=1, last=2, trained='id', negatives='full')]
    """
    found: list[Band] = []
    for epoch, (name, kind) in enumerate(zip(trained, negatives, strict=True), start=1):
        if found and (found[-1].trained, found[-1].negatives) == (name, kind):
            found[-1] = found[-1]._replace(last=epoch)
        else:
            found.append(Band(epoch, epoch, name, kind))
    return found


def training(
    epochs: Sequence[int],
    panels: Mapping[str, Mapping[str, Sequence[float]]],
    *,
    phases: Sequence[Band] = (),
    best: int | None = None,
) -> Figure:
    """Validation metric by epoch and view, with the phases shaded and the best epoch marked (Figure 5).

    panels: metric -> view -> one fraction an epoch. Phases are shaded where different networks were
    trained; a dashed line marks a change of the negatives.

    Example:
        >>> len(training([1, 2], {"hits@20": {"score": [0.1, 0.2]}}).axes)
        1
    """
    with mpl.rc_context(STYLE):
        figure, rows = panel_row(len(panels), 3.7)
        for axes, (metric, views) in zip(rows[0], panels.items(), strict=True):
            _training_panel(axes, epochs, views, phases, best)
            axes.set_title(f"{metric_name(metric)} on validation")
    return figure


def _training_panel(
    axes: Axes,
    epochs: Sequence[int],
    views: Mapping[str, Sequence[float]],
    phases: Sequence[Band],
    best: int | None,
) -> None:
    colours = {view: colour(view, place) for place, view in enumerate(views)}
    for view, values in views.items():
        axes.plot(
            epochs,
            values,
            color=colours[view],
            linestyle=DASHES.get(view, "-"),
            linewidth=2.6 if view == "score" else 1.6,
            marker=MARKERS.get(view, "o"),
            markersize=4.5 if len(epochs) <= 40 else 0,
            zorder=4 if view == "score" else 3,
        )
    everything = [value for values in views.values() for value in values]
    low, high = min(everything), max(everything)
    height = max(high - low, 0.02)
    axes.set_ylim(max(low - 0.16 * height, 0.0), high + 0.22 * height)
    axes.set_xlim(epochs[0] - 0.5, epochs[-1] + 0.5)
    axes.xaxis.set_major_locator(MaxNLocator(8, integer=True))
    axes.set_xlabel("epoch")
    percent_axis(axes, "y")
    shade(axes, phases)
    if best is not None and best in epochs:
        _mark_best(axes, best, views["score"][list(epochs).index(best)])
    end_labels(axes, {view: values[-1] for view, values in views.items()}, colours)


def shade(axes: Axes, phases: Sequence[Band]) -> None:
    """Epochs in the colour of the network that they trained; a dashed line where the negatives change."""
    if len({band.trained for band in phases}) > 1:
        shown = [
            band
            for place, band in enumerate(phases)
            if not place or band.trained != phases[place - 1].trained
        ]
        starts = [band.first for band in shown]
        labelled: set[str] = set()
        stops = [*(start - 1 for start in starts[1:]), phases[-1].last]
        for band, start, stop in zip(shown, starts, stops, strict=True):
            shade = colour(band.trained if band.trained in PALETTE else "other")
            axes.axvspan(start - 0.5, stop + 0.5, color=shade, alpha=0.11, linewidth=0, zorder=0)
            share = (stop + 1 - start) / (phases[-1].last + 1 - phases[0].first)
            if share >= NARROWEST_LABELLED or band.trained not in labelled:
                labelled.add(band.trained)
                axes.text(
                    (start + stop) / 2,
                    0.975,
                    band.trained.replace("id", "ID"),
                    transform=axes.get_xaxis_transform(),
                    ha="center",
                    va="top",
                    fontsize=8.5,
                    color=shade,
                )
    for before, after in pairwise(phases):
        if before.negatives != after.negatives:
            axes.axvline(
                after.first - 0.5, color=PALETTE["muted"][0], linewidth=1, linestyle=(0, (3, 3)), zorder=1
            )
            axes.text(
                after.first - 0.4,
                0.02,
                f"negatives: {after.negatives} →",
                transform=axes.get_xaxis_transform(),
                fontsize=8.5,
                color=PALETTE["muted"][0],
            )


def _mark_best(axes: Axes, best: int, value: float) -> None:
    axes.plot(
        [best],
        [value],
        marker="o",
        markersize=11,
        color="none",
        markeredgecolor=colour("ink"),
        markeredgewidth=1.6,
        zorder=5,
    )
    start, stop = axes.get_xlim()
    axes.annotate(
        f"epoch {best}: {percent(value)}",
        (best, value),
        xytext=(-9 if best > (start + stop) / 2 else 9, 9),
        textcoords="offset points",
        ha="right" if best > (start + stop) / 2 else "left",
        fontweight="bold",
        fontsize=9.5,
        zorder=6,
    )


def systems(
    bars: Sequence[Bar], metrics: Sequence[str] = ("hits@20", "ndcg@20"), order: str | None = None
) -> Figure:
    """Horizontal bars, best first by the metric `order` (the first of `metrics` unless given).

    Several seeds of a system are drawn as their mean, a whisker of one standard deviation and a dot each.

    Example:
        >>> len(systems([Bar("popularity", {"hits@20": [0.1], "ndcg@20": [0.05]}, "baseline")]).axes)
        2
    """
    ranked = sorted(bars, key=lambda bar: -statistics.fmean(bar.values[order or metrics[0]]))
    with mpl.rc_context(STYLE):
        figure, rows = panel_row(len(metrics), 0.9 + 0.34 * len(ranked))
        for axes, metric in zip(rows[0], metrics, strict=True):
            _systems_panel(axes, ranked, metric)
            axes.set_title(metric_name(metric))
    return figure


def _systems_panel(axes: Axes, ranked: Sequence[Bar], metric: str) -> None:
    widest = max((max(bar.values[metric]) for bar in ranked), default=0.0) or 1.0
    for place, bar in enumerate(ranked):
        values = bar.values[metric]
        mean = statistics.fmean(values)
        axes.barh(place, mean, height=0.72, color=colour(bar.kind), zorder=2)
        end = mean
        if len(values) > 1:
            deviation = statistics.stdev(values)
            axes.errorbar(
                mean, place, xerr=deviation, color=colour("ink"), capsize=3.5, elinewidth=1.3, zorder=3
            )
            axes.plot(
                values,
                [place] * len(values),
                "o",
                markersize=4,
                color="white",
                markeredgecolor=colour("ink"),
                markeredgewidth=0.9,
                zorder=4,
            )
            end = max(mean + deviation, *values)
        axes.annotate(
            percent(mean),
            (end, place),
            xytext=(4 if len(values) == 1 else 8, 0),
            textcoords="offset points",
            va="center",
            fontweight="bold" if bar.highlight else "normal",
        )
    axes.set_xlim(0, widest * 1.2)
    axes.set_ylim(len(ranked) - 0.4, -0.6)
    axes.set_yticks(range(len(ranked)), [bar.label for bar in ranked])
    for label, bar in zip(axes.get_yticklabels(), ranked, strict=True):
        label.set_color(colour("ink"))
        label.set_fontweight("bold" if bar.highlight else "normal")
    axes.set_xticks([])
    axes.spines["bottom"].set_visible(False)


def longtail(
    groups: Sequence[Group],
    metrics: Sequence[str] = ("hits@20", "ndcg@20"),
    of: str = SEEN,
) -> Figure:
    """Metric by popularity of the target and view, above the share of targets in each group (Figure 6).

    ``of`` says what the groups are of, where it is not popularity.

    The group named `cold` (targets without training data) stands apart and is not joined by lines;
    hollow markers are groups of fewer than 30 targets.

    Example:
        >>> group = Group("1-5", 40, 1.0, {"score": {"hits@20": 0.2}})
        >>> len(longtail([group], ["hits@20"]).axes)
        2
    """
    with mpl.rc_context(STYLE):
        figure, tops, ordered, places = over_groups(groups, len(metrics), of)
        for top, metric in zip(tops, metrics, strict=True):
            _longtail_lines(top, ordered, places, metric)
            top.set_title(metric_name(metric))
    return figure


def over_groups(
    groups: Sequence[Group], count: int, of: str
) -> tuple[Figure, list[Axes], list[Group], list[float]]:
    """Empty panels above bars of the share of targets in each group; the group `cold` stands apart.

    Returns:
        The figure, its ``count`` panels, the groups from left to right and where each stands.
    """
    figure, (tops, bottoms) = panel_row(count, 4.2, rows=2, sharex="col", height_ratios=[3.6, 1])
    cold = [group for group in groups if group.name == "cold"]
    warm = [group for group in groups if group.name != "cold"]
    places = [*([0.0] if cold else []), *(1.35 * bool(cold) + place for place in range(len(warm)))]
    for top, bottom in zip(tops, bottoms, strict=True):
        _share_bars(bottom, cold + warm, places, of)
        if cold and warm:
            for axes in (top, bottom):
                axes.axvline(0.675, color=PALETTE["muted"][0], linewidth=1, linestyle=(0, (3, 3)), zorder=1)
    return figure, tops, cold + warm, places


def _longtail_lines(axes: Axes, groups: Sequence[Group], places: Sequence[float], metric: str) -> None:
    named = {view for group in groups for view in group.views}
    views = [view for view in VIEWS if view in named] + sorted(named.difference(VIEWS))
    colours = {view: colour(view, place) for place, view in enumerate(views)}
    ends: dict[str, float] = {}
    for number, view in enumerate(views):
        known = [
            (place, group.views[view][metric], group)
            for place, group in zip(places, groups, strict=True)
            if metric in group.views.get(view, {})
        ]
        if not known:
            continue
        warm = [(place, value) for place, value, group in known if group.name != "cold"]
        layer = 4 if view == "score" else 3
        axes.plot(
            [place for place, _ in warm],
            [value for _, value in warm],
            color=colours[view],
            linestyle=DASHES.get(view, "-"),
            linewidth=2.6 if view == "score" else 1.6,
            zorder=layer,
        )
        for place, value, group in known:
            # Several views score cold targets alike, so their markers stand beside each other.
            aside = COLD_STEP * (number - (len(views) - 1) / 2) if group.name == "cold" else 0.0
            axes.plot(
                [place + aside],
                [value],
                color=colours[view],
                marker=MARKERS.get(view, "o"),
                markersize=7 if view == "score" else 5.5,
                markerfacecolor=colours[view] if group.count >= FEW_TARGETS else "white",
                zorder=layer,
                clip_on=False,
            )
        ends[view] = (warm or [(0.0, known[-1][1])])[-1][1]
    percent_axis(axes, "y")
    axes.set_ylim(bottom=0)
    axes.margins(y=0.1)
    end_labels(axes, ends, colours)


def _share_bars(axes: Axes, groups: Sequence[Group], places: Sequence[float], of: str) -> None:
    axes.bar(places, [group.share for group in groups], width=0.62, color=colour("grid"), zorder=1)
    for place, group in zip(places, groups, strict=True):
        axes.text(place, group.share, percent(group.share), ha="center", va="bottom", fontsize=9)
    axes.set_ylim(0, 1.45 * max((group.share for group in groups), default=1.0) or 1.0)
    axes.set_yticks([])
    axes.set_xticks(places, [_group_name(group) for group in groups])
    axes.set_xlim(-0.5, (places[-1] if places else 0) + 0.5)
    axes.set_xlabel(f"{of} · bars: share of targets", fontsize=9.5)


def _group_name(group: Group) -> str:
    return "never\n(cold)" if group.name == "cold" else group.name


@contextmanager
def _saving() -> Iterator[None]:
    with mpl.rc_context(STYLE), warnings.catch_warnings():
        # Names may be in any script: the page's fonts draw it, the PNG shows boxes.
        warnings.filterwarnings("ignore", "Glyph .* missing from font")
        yield


def png(figure: Figure) -> bytes:
    """The figure on white as a PNG file's bytes.

    Example:
        >>> png(training([1], {"hits@20": {"score": [0.1]}}))[:4]
        b'\\x89PNG'
    """
    buffer = io.BytesIO()
    with _saving():
        figure.savefig(buffer, format="png", dpi=150, metadata={"Software": None})
    return buffer.getvalue()


def save(figure: Figure, folder: Path, name: str) -> None:
    """Write the figure as ``NAME.png`` and, for print, ``NAME.svg``, both on white.

    Raises:
        InputError: the disk is full, or the folder cannot be written.
    """
    vector = io.StringIO()
    with _saving(), mpl.rc_context({"svg.hashsalt": name}):
        figure.savefig(vector, format="svg", metadata={"Date": None})
    with atomic_write(folder / f"{name}.png") as temporary:
        temporary.write_bytes(png(figure))
    write_text(folder / f"{name}.svg", vector.getvalue())


def svg(figure: Figure, name: str) -> str:
    """The figure as an `<svg>` element to be put into a page, the same bytes each time.

    Each colour of `PALETTE` becomes the CSS variable `--<its name>`; width and height are left to the page;
    `name` keeps the ids of several pictures on one page apart.

    Example:
        >>> svg(training([1], {"hits@20": {"score": [0.1]}}), "training")[:4]
        '<svg'
    """
    buffer = io.StringIO()
    with _saving(), mpl.rc_context({"svg.hashsalt": name}):
        figure.savefig(
            buffer,
            format="svg",
            transparent=True,
            metadata={"Creator": None, "Date": None, "Format": None, "Type": None},
        )
    drawn = buffer.getvalue()
    drawn = drawn[drawn.index("<svg") :]
    drawn = re.sub(r' (?:width|height)="[\d.]+pt"', "", drawn, count=2)
    drawn = re.sub(r'(?<= id=")|(?<=url\(#)|(?<=href="#)', f"{name}-", drawn)
    for key, (light, _) in PALETTE.items():
        drawn = drawn.replace(light, f"var(--{key})")
    return drawn.replace("#ffffff", "var(--page)")

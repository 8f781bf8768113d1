"""What all figures share: colours, markers, axes, labels at line ends, and how a figure is written.

The hues are those of Okabe and Ito (2008), darkened or lightened until they read on a light and on a dark
page. Series differ by line style and marker as well as by colour. matplotlib is imported on the first figure.
"""

from __future__ import annotations

import io
import re
import statistics
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Generic, Literal, NamedTuple, TypeVar

import numpy as np

from alterrec.files import atomic_write, write_text

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

# name -> (light, dark); the page declares them as CSS variables.
PALETTE = {
    "ink": ("#1f2328", "#e6edf3"),
    "muted": ("#59636e", "#9da7b3"),
    "grid": ("#d8dee4", "#30363d"),
    "score": ("#0072b2", "#5cb8f0"),
    "fused": ("#444c56", "#c3ccd5"),
    "id": ("#b84c00", "#ff9248"),
    "text": ("#00855f", "#34cfa2"),
    "neighbours": ("#a1478a", "#e595cd"),
    "trend": ("#8a6d00", "#d9b73c"),
    "other": ("#7a8899", "#8496a9"),
    "baseline": ("#aeb7c0", "#57616c"),
}
MARKERS = {"score": "o", "fused": "D", "id": "s", "text": "^", "neighbours": "v", "trend": "P"}
DASHED = (0, (4, 2))
DASHES: dict[str, Any] = {"fused": DASHED, "neighbours": (0, (1, 1.5))}
# Colours of names that the palette does not have, in turn.
SPARE = ("other", "id", "text", "neighbours", "fused")

# A panel is 450 CSS pixels wide on the page and 358 on a phone, where this size of text is 12 pixels. All
# text of figures has it.
PANEL_INCHES = 450 / 96
STYLE: Any = {
    "font.size": 11.4,
    "axes.titlesize": 11.4,
    "axes.labelsize": 11.4,
    "xtick.labelsize": 11.4,
    "ytick.labelsize": 11.4,
    "legend.fontsize": 11.4,
    "legend.frameon": False,
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
    # A name with two dollar signs is no formula.
    "text.parse_math": False,
}

# Share of the height of a panel from one name at a line end to the next.
LABEL_GAP = 0.09

# percent: fractions shown in percent; points: differences of fractions shown in percentage points.
Unit = Literal["percent", "points", "nats", "norm"]
M = TypeVar("M")


class Panel(NamedTuple, Generic[M]):
    """Axes under a title: lines, bars or intervals in one unit."""

    title: str
    marks: Sequence[M]
    unit: Unit = "percent"


class EndLabel(NamedTuple):
    """The name of a line, and the point where the line ends."""

    label: str
    place: float
    height: float
    colour: str
    bold: bool = False


def colour(name: str, place: int = 0) -> str:
    """Return the light colour of a view or kind; names that are not in the palette take turns by ``place``.

    Example:
        >>> colour("id"), colour("sasrec", 1)
        ('#b84c00', '#b84c00')
    """
    return PALETTE[name if name in PALETTE else SPARE[place % len(SPARE)]][0]


def spread_out(values: Sequence[float], gap: float, low: float, high: float) -> list[float]:
    """Return the positions nearest to ``values`` (least squares), ``gap`` apart and between low and high.

    Minus the gaps below it, each position may only increase from one to the next, which is isotonic
    regression.

    Example:
        >>> spread_out([0.5, 0.5, 0.0], 0.25, 0.0, 1.0)
        [0.375, 0.625, 0.0]
        >>> spread_out([1.0, 1.0], 0.25, 0.0, 1.0)
        [0.75, 1.0]
    """
    if not values:
        return []
    order = np.argsort(values, kind="stable")
    gaps = gap * np.arange(len(values))
    levels = np.asarray(values, np.float64)[order] - gaps
    if (np.diff(levels) < 0).any():
        # Imported only if labels overlap: it takes 40 MB, which count against run.memory_budget.
        from scipy.optimize import isotonic_regression  # type: ignore[import-untyped]

        levels = isotonic_regression(levels).x
    placed = np.empty(len(values))
    placed[order] = np.clip(levels, low, high - gaps[-1]) + gaps
    return [float(height) for height in placed]


@contextmanager
def canvas(
    columns: int, height: float, rows: int = 1, **grid: Any
) -> Iterator[tuple[Figure, list[list[Axes]]]]:
    """Yield a figure and its axes by row, with our style in force; the height is in inches."""
    import matplotlib as mpl
    from matplotlib.figure import Figure

    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(PANEL_INCHES * columns, height), layout="constrained")
        yield figure, [list(row) for row in figure.subplots(rows, columns, squeeze=False, **grid)]


def value_axis(axes: Axes, which: Literal["x", "y"], unit: Unit, ticks: int = 5) -> None:
    """Write the values of an axis in their unit, with grid lines."""
    from matplotlib.ticker import FuncFormatter, MaxNLocator

    axis = axes.yaxis if which == "y" else axes.xaxis
    axis.set_major_locator(MaxNLocator(ticks))
    if unit == "percent":
        axis.set_major_formatter(FuncFormatter(lambda value, _: f"{100 * value:g}%"))
    elif unit == "points":
        axis.set_major_formatter(FuncFormatter(lambda value, _: f"{100 * value:+g}" if value else "0"))
    axes.grid(axis=which)


def divider(axes: Axes, place: float) -> None:
    """Draw a dashed vertical line."""
    axes.axvline(place, color=colour("muted"), linewidth=1, linestyle=(0, (3, 3)), zorder=1)


def line(
    axes: Axes,
    places: Sequence[float],
    means: Sequence[float],
    spreads: Sequence[float],
    own: str,
    **style: Any,
) -> None:
    """Draw a line in a band of one standard deviation; no band where every deviation is 0."""
    if any(spreads):
        low = [mean - spread for mean, spread in zip(means, spreads, strict=True)]
        high = [mean + spread for mean, spread in zip(means, spreads, strict=True)]
        axes.fill_between(places, low, high, color=own, alpha=0.17, linewidth=0, zorder=2)
    axes.plot(places, means, **{"color": own, "linewidth": 1.6, "zorder": 3, **style})


def end_labels(axes: Axes, ends: Sequence[EndLabel]) -> None:
    """Write the name of each line to the right of the panel, with a leader from the end of the line.

    Names do not overlap.
    """
    low, high = axes.get_ylim()
    heights = spread_out([end.height for end in ends], (high - low) * LABEL_GAP, low, high)
    for end, height in zip(ends, heights, strict=True):
        leader = {"arrowstyle": "-", "color": end.colour, "linewidth": 0.8, "alpha": 0.7}
        axes.annotate(
            end.label,
            (end.place, end.height),
            xytext=(1.05, height),
            textcoords=("axes fraction", "data"),
            arrowprops=leader | {"relpos": (0, 0.5), "shrinkA": 2, "shrinkB": 4},
            va="center",
            color=end.colour,
            fontweight="bold" if end.bold else "normal",
            annotation_clip=False,
        )


def add_legend(figure: Figure, meanings: Mapping[str, str]) -> None:
    """Write meaning -> name of a colour above a whole figure; the page has its own legend."""
    import matplotlib as mpl
    from matplotlib.patches import Patch

    if meanings:
        with mpl.rc_context(STYLE):
            marks = [Patch(color=colour(name), label=meaning) for meaning, name in meanings.items()]
            figure.legend(handles=marks, loc="outside upper left", ncols=len(marks))


def deviation(values: Sequence[float]) -> float:
    """Return the sample standard deviation, 0 for a single value."""
    return statistics.stdev(values) if len(values) > 1 else 0.0


@contextmanager
def _saving() -> Iterator[None]:
    import matplotlib as mpl

    with mpl.rc_context(STYLE), warnings.catch_warnings():
        # A name may be in any script: the fonts of the page have it, a PNG shows boxes.
        warnings.filterwarnings("ignore", "Glyph .* missing from font")
        # A name may also be longer than the figure is wide; then it is cut off at the edge.
        warnings.filterwarnings("ignore", "constrained_layout not applied")
        yield


def png(figure: Figure) -> bytes:
    """Return the figure on white as the bytes of a PNG file.

    Example:
        >>> from alterrec.report.figures.lines import Line, epoch_lines
        >>> png(epoch_lines([Panel("Hits@20", [Line("ID", "id", [[0.1]])])]))[:4]
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
    import matplotlib as mpl

    vector = io.StringIO()
    with _saving(), mpl.rc_context({"svg.hashsalt": name}):
        figure.savefig(vector, format="svg", metadata={"Date": None})
    with atomic_write(folder / f"{name}.png") as temporary:
        temporary.write_bytes(png(figure))
    write_text(folder / f"{name}.svg", vector.getvalue())


def svg(figure: Figure, name: str) -> str:
    """Return the figure as an `<svg>` element for a page; the same figure gives the same bytes.

    Each colour of `PALETTE` becomes the CSS variable `--<its name>`; the page sets width and height. ``name``
    keeps the ids of several figures on one page distinct.

    Example:
        >>> from alterrec.report.figures.lines import Line, epoch_lines
        >>> svg(epoch_lines([Panel("Hits@20", [Line("ID", "id", [[0.1]])])]), "training")[:4]
        '<svg'
    """
    import matplotlib as mpl

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

"""Lines over groups of targets, for instance by popularity, above the share of targets in each group."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, NamedTuple

from alterrec.metrics import metric_name
from alterrec.report.figures.style import (
    DASHES,
    MARKERS,
    EndLabel,
    Panel,
    canvas,
    colour,
    divider,
    end_labels,
    line,
    value_axis,
)
from alterrec.report.tables import VIEW_NAMES
from alterrec.results import FEW_TARGETS, VIEWS, Group

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

SEEN = "times the target was seen in training"
# Between markers that would hide each other: of lines over a reference, and of views over cold targets, which
# several views score equally.
STEP, COLD_STEP = 0.07, 0.18


class GroupLine(NamedTuple):
    """A system or view by group: group -> mean and standard deviation over seeds, as fractions."""

    label: str
    colour: str
    values: Mapping[str, tuple[float, float]]


def view_panels(
    groups: Sequence[Group], metrics: Sequence[str] = ("hits@20", "ndcg@20")
) -> list[Panel[GroupLine]]:
    """Return one panel per metric with a line per view of the groups.

    Example:
        >>> view_panels([Group("1-5", 40, 1.0, {"score": {"hits@20": 0.2}})], ["hits@20"])[0].marks
        [GroupLine(label='final score', colour='score', values={'1-5': (0.2, 0.0)})]
    """
    named = {view for group in groups for view in group.views}
    views = [view for view in VIEWS if view in named] + sorted(named.difference(VIEWS))
    panels = []
    for metric in metrics:
        lines = []
        for view in views:
            values = {
                group.name: (group.views[view][metric], 0.0)
                for group in groups
                if metric in group.views.get(view, {})
            }
            if values:
                lines.append(GroupLine(VIEW_NAMES.get(view, view).removesuffix(" alone"), view, values))
        panels.append(Panel(metric_name(metric), lines))
    return panels


def group_lines(
    panels: Sequence[Panel[GroupLine]], *, groups: Sequence[Group], of: str = SEEN, reference: str = ""
) -> Figure:
    """Draw lines over groups in bands of one deviation over seeds, above the share of targets (Figure 6).

    The group `cold` (targets without training data) is drawn separately on the left. Hollow markers are
    groups of fewer than 30 targets.

    Args:
        panels: one line per system or view.
        groups: the groups of the horizontal axis.
        of: what the groups are, for the axis.
        reference: the system at zero, where values are differences from it. Lines then join only groups of
            30 targets or more, and markers of smaller ones that would lie outside are moved to the edge.

    Example:
        >>> panel = Panel("Hits@20", [GroupLine("alterrec", "score", {"1-5": (0.02, 0.01)})])
        >>> len(group_lines([panel], groups=[Group("1-5", 40, 1.0)], reference="bert4rec").axes)
        2
    """
    cold = [group for group in groups if group.name == "cold"]
    warm = [group for group in groups if group.name != "cold"]
    places = [*([0.0] if cold else []), *(1.35 * bool(cold) + place for place in range(len(warm)))]
    with canvas(len(panels), 4.4, rows=2, sharex="col", height_ratios=[3.4, 1]) as (figure, rows):
        for top, bottom, panel in zip(*rows, panels, strict=True):
            _share_bars(bottom, cold + warm, places, of)
            if cold and warm:
                for axes in (top, bottom):
                    divider(axes, 0.675)
            _lines(top, cold + warm, places, panel.marks, reference)
            top.set_title(panel.title)
    return figure


def _lines(
    axes: Axes, groups: Sequence[Group], places: Sequence[float], lines: Sequence[GroupLine], reference: str
) -> None:
    low, high = _limits(groups, lines)
    edge = 0.04 * (high - low)
    last = places[-1] if places else 0.0
    ends = [EndLabel(reference, last, 0.0, colour("muted"))] if reference else []
    for number, each in enumerate(lines):
        own, bold = colour(each.colour, number), each.colour == "score"
        layer = 4 if bold else 3
        aside = number - (len(lines) - 1) / 2
        joined, end, place = [], 0.0, last
        for place, group in zip(places, groups, strict=True):
            if group.name not in each.values:
                continue
            mean, spread = each.values[group.name]
            few, is_cold = group.count < FEW_TARGETS, group.name == "cold"
            place += aside * (STEP if reference else COLD_STEP if is_cold else 0.0)
            end = min(max(mean, low + edge), high - edge) if reference else mean
            axes.plot(
                [place],
                [end],
                MARKERS.get(each.colour, "P" if reference else "o"),
                color=own,
                markersize=7 if bold else 5.5,
                markerfacecolor="white" if few else own,
                zorder=layer,
                clip_on=False,
            )
            if not is_cold and not (reference and few):
                joined.append((place, mean, spread))
            elif spread and not few:
                axes.errorbar(place, mean, yerr=spread, color=own, elinewidth=1.2, zorder=3)
        if joined:
            at, means, spreads = zip(*joined, strict=True)
            dashes, width = DASHES.get(each.colour, "-"), 2.6 if bold else 1.6
            line(axes, at, means, spreads, own, linestyle=dashes, linewidth=width, zorder=layer)
        ends.append(EndLabel(each.label, place, end, own, bold))
    if reference:
        axes.axhline(0, color=colour("muted"), linewidth=1.2, zorder=1)
        axes.set_ylim(low, high)
        value_axis(axes, "y", "points", ticks=6)
    else:
        value_axis(axes, "y", "percent")
        axes.set_ylim(bottom=0)
        axes.margins(y=0.1)
    end_labels(axes, ends)


def _limits(groups: Sequence[Group], lines: Sequence[GroupLine]) -> tuple[float, float]:
    """Return room for what rests on enough targets, or for everything where nothing does."""
    many = {group.name for group in groups if group.count >= FEW_TARGETS} or {group.name for group in groups}
    shown = [each.values[name] for each in lines for name in many if name in each.values]
    low = min([0.0, *(mean - spread for mean, spread in shown)])
    high = max([0.0, *(mean + spread for mean, spread in shown)])
    room = 0.12 * (high - low) or 0.01
    return low - room, high + room


def _share_bars(axes: Axes, groups: Sequence[Group], places: Sequence[float], of: str) -> None:
    axes.bar(places, [group.share for group in groups], width=0.62, color=colour("grid"), zorder=1)
    for place, group in zip(places, groups, strict=True):
        axes.text(place, group.share, f"{100 * group.share:.0f}%", ha="center", va="bottom")
    axes.set_ylim(0, 1.7 * max((group.share for group in groups), default=1.0) or 1.0)
    axes.set_yticks([])
    axes.set_xticks(places, ["never\n(cold)" if group.name == "cold" else group.name for group in groups])
    axes.set_xlim(-0.5, (places[-1] if places else 0) + 0.5)
    axes.set_xlabel(f"{of}\nbars: share of targets")

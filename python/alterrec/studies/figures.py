"""Pictures and their sections that several studies have: systems as bars, differences with intervals."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from alterrec.evaluation.comparisons import Comparison
from alterrec.metrics import metric_name
from alterrec.report.comparisons import forest_plot
from alterrec.report.figures.bars import SystemBars, bars, system_panels
from alterrec.report.presentation import Plot, Section
from alterrec.report.tables import listed
from alterrec.results import RowResult

PICTURED = ("hits@20", "ndcg@20")
SEEDS_SAY = "Mean on test; with several seeds the whisker is one standard deviation and each dot a seed."
INTERVALS_SAY = (
    "Points are percentage points, lines 95% intervals over sessions. Filled: shown at the level 0.05 after "
    "Holm's correction; hollow: not shown."
)


def systems_plot(rows: Sequence[RowResult], colour: Callable[[RowResult], str]) -> Plot:
    """Bars of every row that has numbers, best first; ``colour`` gives a name of the palette."""
    systems = [
        SystemBars(
            row.label,
            {metric: row.values(metric) for metric in PICTURED},
            colour(row),
            bold=row.kind == "ours",
        )
        for row in rows
        if row.runs
    ]
    return Plot.of(
        bars,
        system_panels(systems, PICTURED, PICTURED[1]),
        f"Bars of {' and '.join(map(metric_name, PICTURED))} on test for {len(systems)} systems, best first.",
    )


def gains_part(
    title: str, says: Sequence[str], gains: Sequence[tuple[str, str, Comparison]]
) -> list[Section]:
    """Differences with their intervals as a section; nothing where there are none.

    Args:
        title: of the section.
        says: what stands above the picture.
        gains: the words, the palette's colour and the comparison of each line.
    """
    if not gains:
        return []
    panels = {
        metric_name(metric): [line for line in gains if line[2].metric == metric] for metric in PICTURED
    }
    plot = forest_plot(panels, f"{title}: differences in {listed(list(panels))} with their intervals.")
    return [Section(title, [*says, INTERVALS_SAY], {"gains": plot})]

"""What a run's saved rankings say beside `result.json`: session length, cold targets, whole lists."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from alterrec.analyses.run_sections import METRICS, few, shown_groups
from alterrec.analyses.run_summary import HEADLINE, split_name
from alterrec.evaluation.saved import (
    ListStatistics,
    Mask,
    cold_groups,
    length_groups,
    list_statistics,
    read_items,
    read_ranks,
    read_top,
)
from alterrec.metrics import metric_name
from alterrec.report.figures.groups import group_lines, view_panels
from alterrec.report.presentation import DataTable, Plot, Section
from alterrec.report.tables import VIEW_NAMES, Table, count, percent
from alterrec.results import Group, Metrics, RunFolder, reported_split

LENGTH = "items before the target"
COLD_SAYS = (
    "Item-cold: the target never occurs in training, so that only its text can find it. Text-cold: it has no "
    "text, so that only its place in sessions can. A target may be both."
)


@dataclass(frozen=True)
class Beside:
    """Metrics beside the paper's, on the split that a run's report is about.

    Attributes:
        mrr: by view, over the whole list.
        lists: coverage and popularity of the first items; None where they were not kept.
        lengths: targets by the number of items before them.
        cold: targets by what can be known of them.
    """

    items: int
    mrr: Metrics
    lists: ListStatistics | None
    lengths: list[Group]
    cold: list[Group]


def read_beside(run: RunFolder) -> Beside | None:
    """Metrics beside the paper's; None where the folder has no ranks, or those of no target.

    Raises:
        InputError: a file is damaged.
    """
    if not (run.path / "ranks.parquet").exists():
        return None
    split = reported_split(run.result)
    ranks, items = read_ranks(run.path, split), read_items(run.path)
    top = read_top(run.path) if split == "test" else None
    if not len(ranks):
        return None
    shown = [view for view in run.result.views if view in ranks.views]

    def groups(masks: Mapping[str, Mask]) -> list[Group]:
        found = [Group(**group) for group in ranks.groups(masks, run.result.metrics)]
        return shown_groups(run.result, found)

    return Beside(
        items=len(items),
        mrr={view: ranks.metrics(view, ["mrr"])["mrr"] for view in shown},
        lists=None
        if top is None
        else list_statistics(top, items["train_count"], ranks.column("train_count")),
        lengths=groups(length_groups(ranks.column("position"))),
        cold=groups(cold_groups(ranks.column("target_id").tolist(), items)),
    )


def beside_parts(run: RunFolder, beside: Beside | None) -> list[Section]:
    """Sections of a run's report: session lengths, and all that is beside the usual metrics."""
    if beside is None:
        return []
    said = "Targets by how many items of the session are known before them, on {}."
    lengths = Section(
        "Short and long sessions",
        [" ".join([said.format(split_name(run.result)), *few(beside.lengths)])],
        {"lengths": _lengths_plot(beside.lengths)},
        {"lengths": group_data(LENGTH, beside.lengths)},
    )
    notes = [_reading(beside)]
    tables = {"beside": DataTable(_beside_table(beside), _records(beside))}
    if [group.name for group in beside.cold] != ["trained, with text"]:
        notes.append(COLD_SAYS)
        tables["cold"] = group_data("targets that are", beside.cold)
    return [lengths, Section("Beside the usual metrics", notes, tables=tables)]


def group_data(of: str, groups: Sequence[Group]) -> DataTable:
    """Groups of targets with every metric for other programs, the first one for people."""
    records = [
        {of: group.name, "targets": group.count, "share": group.share}
        | {f"{view} {metric}": value for view, row in group.views.items() for metric, value in row.items()}
        for group in groups
    ]
    return DataTable(group_table(of, groups), records)


def group_table(of: str, groups: Sequence[Group], title: str = "") -> Table:
    """Groups of targets: how many they are, and how often each view finds them.

    Example:
        >>> group_table("seen", [Group("1-5", 40, 1.0, {"id": {"hits@20": 0.2}})]).rows
        (('1-5', '40', '100.0%', '20.0%'),)
    """
    views = list(groups[0].views) if groups else []
    names = (f"{VIEW_NAMES.get(view, view)} {metric_name(HEADLINE)}" for view in views)
    rows = tuple(
        (
            group.name,
            count(group.count),
            percent(group.share),
            *(percent(group.views[view].get(HEADLINE)) for view in views),
        )
        for group in groups
    )
    return Table((of, "targets", "share", *names), rows, title=title)


def _lengths_plot(groups: Sequence[Group]) -> Plot:
    shares = ", ".join(f"{group.name}: {percent(group.share)}" for group in groups)
    return Plot.of(
        group_lines,
        view_panels(groups, METRICS),
        f"Metrics by the number of items before the target. Share of targets in each group: {shares}.",
        groups=groups,
        of=LENGTH,
    )


def _reading(beside: Beside) -> str:
    """What the numbers about whole lists mean, in words."""
    if beside.lists is None:
        return (
            "This run kept no lists of items (top.parquet), so their coverage and popularity are not known."
        )
    shown, ratio = beside.lists, beside.lists.popularity_ratio
    times = f", {ratio:.1f} times as often as the targets" if ratio is not None else ""
    return (
        f"The first {shown.length} items of all rankings together show {percent(shown.coverage)} of the "
        f"{count(beside.items)} items of the catalogue. What is shown was seen {shown.popularity:,.0f} times "
        f"in training on average{times}; a ratio far above 1 means that the system plays safe."
    )


def _beside_table(beside: Beside) -> Table:
    rows = [
        (f"MRR over the whole list, {VIEW_NAMES.get(view, view)}", percent(value))
        for view, value in beside.mrr.items()
    ]
    if beside.lists is not None:
        shown, ratio = beside.lists, beside.lists.popularity_ratio
        rows += [
            (f"coverage@{shown.length}: share of the catalogue that is shown", percent(shown.coverage)),
            (f"times in training, mean of the first {shown.length} items", f"{shown.popularity:,.1f}"),
            ("times in training, mean of the targets", f"{shown.target_popularity:,.1f}"),
            ("ratio of the two", "-" if ratio is None else f"{ratio:.2f}"),
        ]
    return Table(("metric", "value"), tuple(rows))


def _records(beside: Beside) -> list[dict[str, object]]:
    records: list[dict[str, object]] = [
        {"metric": "mrr", "view": view, "value": value} for view, value in beside.mrr.items()
    ]
    if beside.lists is not None:
        facts = beside.lists._asdict() | {"popularity_ratio": beside.lists.popularity_ratio}
        records += [{"metric": name, "view": "score", "value": value} for name, value in facts.items()]
    return records

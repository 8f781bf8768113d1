"""Sections of the report of a run: comparison, training, popularity, session length, extra metrics."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from alterrec.analyses.run_summary import (
    baselines_of,
    own_items_cost,
    parts_sentences,
    repeated_targets,
    seen_rows,
    split_name,
    views_of,
)
from alterrec.comparable import folder_name, seeds_of_recipes, system_label
from alterrec.evaluation.saved import (
    COLD,
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
from alterrec.report.figures.bars import WHISKERS, SystemBars, bars, system_panels
from alterrec.report.figures.groups import group_lines, view_panels
from alterrec.report.figures.lines import Line, bands, epoch_lines
from alterrec.report.figures.style import Panel
from alterrec.report.presentation import DataTable, Plot, Section
from alterrec.report.seen_items import (
    REPEATS_NOTE,
    SCALES_NOTE,
    TITLE,
    columns_note,
    repeat_tables,
    seen_sentence,
    seen_tables,
)
from alterrec.report.tables import (
    BASELINE_NAMES,
    HEADLINE,
    VIEW_NAMES,
    Table,
    count,
    list_table,
    listed,
    percent,
)
from alterrec.results import FEW_TARGETS, Group, Metrics, RunFolder, RunResult, reported_split

METRICS = ("hits@20", "ndcg@20")
LENGTH = "items before the target"
COLD_NOTE = (
    "Item-cold targets never occur in training, so only their text can find them. Text-cold targets have no "
    "text, so only the sessions can find them. A target can be both."
)


PLACES = ("last item", "2nd to last", "3rd to last", "4th to last", "5th to last")
QUERIES_NOTE = (
    "Each item of the session asks the catalogue for the next item, and so does the vector of the whole "
    "session if it has a weight here. The probability of an item is the weighted mean of the answers. The "
    "table shows the learned weights for the longest sessions; in shorter ones the remaining weights are "
    "scaled to add up to 100%."
)


GATE_NOTE = (
    "The weights of the parts of the score depend on the session. A value is the change of the logarithm of "
    "a weight (for ID: of the log odds of ID against text) if a property of the session is one standard "
    "deviation higher. The values were fitted on validation sessions, and kept because they also gain on "
    "validation sessions that they were not fitted on."
)


def plotted_metrics(result: RunResult) -> Sequence[str]:
    """Return the metrics of the figures: Hits@20 and NDCG@20, or the first two reported ones."""
    return METRICS if set(METRICS) <= set(result.metrics) else result.metrics[:2]


def systems_section(
    run: RunFolder, others: Sequence[RunFolder] = (), left_out: Sequence[str] = ()
) -> list[Section]:
    """Return bars of the run, its parts, its baselines and other runs; nothing if there are no metrics."""
    plot = _systems_plot(run, others)
    if plot is None:
        return []
    result = run.result
    notes = [
        f"Every system ranks all items for the same {split_name(result)} targets.",
        seen_sentence(result.data),
        WHISKERS,
    ]
    if result.baselines and "neighbours" in result.views:
        notes.append(
            "The item neighbours of the sum are the better of item-kNN and co-visitation on validation, and "
            "have no bar of their own."
        )
    paragraphs = [" ".join(parts_sentences(result)), " ".join(notes)]
    paragraphs = [paragraph for paragraph in paragraphs if paragraph]
    if left_out:
        paragraphs.append(f"Not comparable and left out: {', '.join(left_out)}.")
    return [Section("Comparison with baselines and other runs", paragraphs, {"systems": plot})]


def training_section(run: RunFolder) -> list[Section]:
    """Return validation metrics by epoch; nothing for a run without training."""
    panels = training_panels(run)
    if not panels:
        return []
    epochs, best = [epoch.epoch for epoch in run.epochs], run.result.best_epoch
    names = ", ".join(line.label for line in panels[0].marks)
    caption = f"Lines of validation metrics over {len(epochs)} epochs: {names}."
    if best in epochs:
        caption += f" The best epoch is {best}."
    marked = [best] if best in epochs else []
    plot = Plot.of(epoch_lines, panels, caption, phases=bands(run.epochs), best=marked)
    notes = ["Validation metrics after every epoch. The ring marks the best epoch, which is used."]
    if len({epoch.trained for epoch in run.epochs}) > 1:
        notes.append("The colour and label of the background show which network was trained.")
    if len({epoch.negatives for epoch in run.epochs}) > 1:
        notes.append(
            "At a dashed line the negatives change: full means all items, random means a random sample, and "
            "window means items that the other network ranks high (hard negatives)."
        )
    at_best = next((epoch for epoch in run.epochs if epoch.epoch == best), None)
    if at_best and at_best.valid.get("score") != run.result.valid.get("score"):
        notes.append(
            "The weights of the sum and its further parts are chosen after training, so the final score is "
            "not on these curves."
        )
    return [Section("Training", [" ".join(notes)], {"training": plot})]


def groups_section(run: RunFolder) -> list[Section]:
    """Return test metrics by popularity of the target; nothing if the run has no groups."""
    groups = run.result.groups.get("test", [])
    shown = shown_groups(run.result, groups)
    if not shown:
        return []
    shares = ", ".join(f"{group.name} {percent(group.share)}" for group in shown)
    caption = f"Metrics by how often the target occurs in training. Share of targets in each group: {shares}."
    plot = Plot.of(group_lines, view_panels(shown, plotted_metrics(run.result)), caption, groups=shown)
    notes = [
        "Test targets grouped by how often they occur in training, from rare to popular. The bars show the "
        "share of targets in each group."
    ]
    if any(group.name == COLD and group.count for group in groups):
        notes.append("Cold targets never occur in training; they are shown separately.")
    notes += few_targets_note(groups)
    return [
        Section(
            "Metrics by popularity of the target",
            [" ".join(notes)],
            {"longtail": plot},
            {"groups": group_data("times seen in training", shown)},
        )
    ]


def seen_items_sections(result: RunResult) -> list[Section]:
    """Return what the session's own items cost, and the repeat component if the run uses it.

    Nothing for a run of an earlier version.
    """
    rows = seen_rows(result)
    sections = []
    if tables := seen_tables(rows, plotted_metrics(result), strong=[VIEW_NAMES["score"]]):
        rule = f" (data.exclude_seen = {result.data.seen_rule})" if result.data.seen_rule else ""
        used = f"All other metrics of this run use the rule {result.data.seen}{rule}."
        notes = [repeated_targets(result), own_items_cost(result), f"{columns_note(rows)} {used}"]
        sections.append(Section(TITLE, [note for note in notes if note], tables=tables))
    if result.repeats:
        tables = repeat_tables(result.repeats)
        sections.append(Section("The repeat component", [REPEATS_NOTE, SCALES_NOTE], tables=tables))
    return sections


def queries_sections(result: RunResult) -> list[Section]:
    """Return the weights of the queries of each network, where it has several."""
    if not result.queries:
        return []
    shown = PLACES[: max(len(weights.items) for weights in result.queries.values())]
    rows, records = [], []
    for name, weights in result.queries.items():
        items = [percent(share) for share in weights.items[: len(shown)]]
        earlier = percent(sum(weights.items[len(shown) :]))
        network = VIEW_NAMES.get("score" if name == "model" else name, name)
        rows.append((network, percent(weights.vector), *items, earlier))
        places = enumerate(weights.items, start=1)
        queries = {"vector": weights.vector} | {str(place): share for place, share in places}
        records += [{"network": name, "query": query, "weight": share} for query, share in queries.items()]
    columns = ("network", "session vector", *shown, "earlier items")
    table = DataTable(Table(columns, tuple(rows)), records)
    return [Section("Queries", [QUERIES_NOTE], tables={"queries": table})]


def gate_sections(result: RunResult) -> list[Section]:
    """Return the coefficients of the weights that depend on the prefix, if the run has any."""
    if not result.gate:
        return []
    names = {
        "id": "ID against text",
        "neighbours": "item neighbours",
        "trend": "trend of popularity",
    }
    features = list(next(iter(result.gate.values())))
    rows = tuple(
        (names.get(part, part), *(f"{row[feature]:+.2f}" for feature in features))
        for part, row in result.gate.items()
    )
    records = [{"part": part, **row} for part, row in result.gate.items()]
    table = DataTable(Table(("weight of", *features), rows), records)
    return [Section("Weights that depend on the session", [GATE_NOTE], tables={"gate": table})]


def shown_groups(result: RunResult, groups: Sequence[Group]) -> list[Group]:
    """Return the groups that have targets, with the views of the result."""
    return [
        replace(group, views={view: group.views[view] for view in result.views if view in group.views})
        for group in groups
        if group.count
    ]


def few_targets_note(groups: Sequence[Group]) -> list[str]:
    """Return the meaning of hollow markers, if there are any."""
    hollow = any(0 < group.count < FEW_TARGETS for group in groups)
    return [f"Hollow markers have fewer than {FEW_TARGETS} targets and are uncertain."] if hollow else []


def _systems_plot(run: RunFolder, others: Sequence[RunFolder]) -> Plot | None:
    metrics = plotted_metrics(run.result)

    errors = run.result.errors if reported_split(run.result) == "test" else {}

    def bar(
        label: str, runs: Sequence[Mapping[str, float]], kind: str, bold: bool = False, own: str = ""
    ) -> None:
        if all(metric in values for values in runs for metric in metrics):
            values = {metric: [values[metric] for values in runs] for metric in metrics}
            systems.append(SystemBars(label, values, kind, bold, errors.get(own, {})))

    systems: list[SystemBars] = []
    for view, values in shown_views(run.result).items():
        bar(VIEW_NAMES.get(view, view), [values], view, bold=view == "score", own=view)
    for key, name in BASELINE_NAMES.items():
        if name in baselines_of(run.result):
            bar(name, [baselines_of(run.result)[name]], "baseline", own=key)
    groups = seeds_of_recipes([run, *others])
    labels = [system_label(group[0]) for group in groups]
    for group, label in zip(groups, labels, strict=True):
        if group == [run]:
            continue
        folder = f" · {folder_name(group[0].path)}" if labels.count(label) > 1 else ""
        seeds = f", {len(group)} seeds" if len(group) > 1 else ""
        scores = [views_of(each.result).get("score", {}) for each in group]
        bar(f"{label}{folder}{seeds}", scores, "other")
    if not systems or not metrics:
        return None
    panels = system_panels(systems, metrics)
    caption = (
        f"Bars of {listed([panel.title for panel in panels])} on {split_name(run.result)} for {len(systems)} "
        f"systems, best first; the highest is {panels[0].marks[0].label}."
    )
    meanings = {
        "score": f"this run: {run.result.model}",
        "fused": "ID + text",
        "id": "ID alone",
        "text": "text alone",
        "other": "other runs",
        "baseline": "simple baselines",
    }
    used = {system.colour for system in systems}
    legend = {meaning: name for name, meaning in meanings.items() if name in used}
    return Plot.of(bars, panels, caption, legend)


def shown_views(result: RunResult) -> Mapping[str, Metrics]:
    """Return the views without those parts of the sum that are the rankings of baselines of the run."""
    untrained = ("neighbours", "trend") if result.baselines else ()
    return {view: values for view, values in views_of(result).items() if view not in untrained}


def training_panels(run: RunFolder) -> list[Panel[Line]]:
    panels: list[Panel[Line]] = []
    for metric in plotted_metrics(run.result):
        views = {
            view: [epoch.valid[view][metric] for epoch in run.epochs]
            for view in run.result.views
            if all(metric in epoch.valid.get(view, {}) for epoch in run.epochs)
        }
        if run.epochs and "score" in views:
            if views.get("fused") == views["score"]:
                del views["fused"]
            # The final score exists after training only: its weights and further parts are chosen then.
            whole = "ID + text" if {"id", "text"} <= set(views) else run.result.model
            names = {"score": "all parts" if "fused" in views else whole}
            lines = [
                Line(names.get(view, VIEW_NAMES.get(view, view)).removesuffix(" alone"), view, [values])
                for view, values in views.items()
            ]
            panels.append(Panel(f"{metric_name(metric)} on validation", lines))
    return panels


@dataclass(frozen=True)
class ExtraMetrics:
    """Metrics that are computed from saved rankings, on the reported split.

    Attributes:
        mrr: view -> MRR over the whole list.
        lists: coverage and popularity of the recommended items; None if the lists were not saved.
        lengths: metrics by the number of items before the target.
        cold: metrics by whether the target was trained and has text.
    """

    items: int
    mrr: Metrics
    lists: ListStatistics | None
    lengths: list[Group]
    cold: list[Group]


def read_extra_metrics(run: RunFolder) -> ExtraMetrics | None:
    """Compute metrics from the saved rankings; None if the folder has no rankings or no targets.

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

    return ExtraMetrics(
        items=len(items),
        mrr={view: ranks.metrics(view, ["mrr"])["mrr"] for view in shown},
        lists=None
        if top is None
        else list_statistics(top, items["train_count"], ranks.column("train_count")),
        lengths=groups(length_groups(ranks.column("position"))),
        cold=groups(cold_groups(ranks.column("target_id").tolist(), items)),
    )


def extra_sections(run: RunFolder, extra: ExtraMetrics | None) -> list[Section]:
    """Return the sections on session length and on coverage, popularity and cold targets."""
    if extra is None:
        return []
    split = split_name(run.result)
    note = f"Targets grouped by the number of items that precede them in the session, on {split}."
    shares = ", ".join(f"{group.name}: {percent(group.share)}" for group in extra.lengths)
    caption = f"Metrics by the number of items before the target. Share of targets in each group: {shares}."
    panels = view_panels(extra.lengths, plotted_metrics(run.result))
    lengths = Section(
        "Metrics by session length",
        [" ".join([note, *few_targets_note(extra.lengths)])],
        {"lengths": Plot.of(group_lines, panels, caption, groups=extra.lengths, of=LENGTH)},
        {"lengths": group_data(LENGTH, extra.lengths)},
    )
    notes = [_reading(extra)]
    tables = {"extra_metrics": DataTable(_extra_table(extra), _records(extra))}
    lists = run.result.lists.get(reported_split(run.result), {})
    if lists:
        records = [{"metric": metric, "value": value} for metric, value in lists.items()]
        tables["lists"] = DataTable(list_table(lists), records)
    if [group.name for group in extra.cold] != ["trained, with text"]:
        notes.append(COLD_NOTE)
        tables["cold"] = group_data("targets that are", extra.cold)
    return [lengths, Section("Coverage, popularity and full-list MRR", notes, tables=tables)]


def group_data(of: str, groups: Sequence[Group]) -> DataTable:
    """Return groups of targets: all metrics as records, Hits@20 by view as the table."""
    records = [
        {of: group.name, "targets": group.count, "share": group.share}
        | {f"{view} {metric}": value for view, row in group.views.items() for metric, value in row.items()}
        for group in groups
    ]
    return DataTable(group_table(of, groups), records)


def group_table(of: str, groups: Sequence[Group], title: str = "") -> Table:
    """Return the size of each group of targets and Hits@20, or else the first metric, of each view.

    Example:
        >>> group_table("seen", [Group("1-5", 40, 1.0, {"id": {"hits@20": 0.2}})]).rows
        (('1-5', '40', '100.0%', '20.0%'),)
    """
    views = list(groups[0].views) if groups else []
    known = [metric for group in groups for values in group.views.values() for metric in values]
    metric = HEADLINE if HEADLINE in known or not known else known[0]
    rows = tuple(
        (
            group.name,
            count(group.count),
            percent(group.share),
            *(percent(group.views[view].get(metric)) for view in views),
        )
        for group in groups
    )
    return Table(
        (of, "targets", "share", *(VIEW_NAMES.get(view, view) for view in views)),
        rows,
        title=f"{title}{metric_name(metric)}",
    )


def _reading(extra: ExtraMetrics) -> str:
    if extra.lists is None:
        return (
            "This run saved no recommendation lists (top.parquet), so coverage and popularity are not known."
        )
    shown, ratio = extra.lists, extra.lists.popularity_ratio
    times = f", {ratio:.1f} times as often as a target" if ratio is not None else ""
    return (
        f"Over all test targets, the first {shown.length} recommendations contain {percent(shown.coverage)} "
        f"of the {count(extra.items)} items. A recommended item occurs {shown.popularity:,.0f} times in "
        f"training on average{times}. A ratio far above 1 means that the system favours popular items."
    )


def _extra_table(extra: ExtraMetrics) -> Table:
    rows = [
        (f"MRR over the full list, {VIEW_NAMES.get(view, view)}", percent(value))
        for view, value in extra.mrr.items()
    ]
    if extra.lists is not None:
        shown, ratio = extra.lists, extra.lists.popularity_ratio
        rows += [
            (f"coverage@{shown.length}: share of all items that are recommended", percent(shown.coverage)),
            (f"mean popularity (times in training), top {shown.length} items", f"{shown.popularity:,.1f}"),
            ("mean popularity (times in training), targets", f"{shown.target_popularity:,.1f}"),
            ("ratio of the two popularities", "-" if ratio is None else f"{ratio:.2f}"),
        ]
    return Table(("metric", "value"), tuple(rows))


def _records(extra: ExtraMetrics) -> list[dict[str, object]]:
    records: list[dict[str, object]] = [
        {"metric": "mrr", "view": view, "value": value} for view, value in extra.mrr.items()
    ]
    if extra.lists is not None:
        facts = extra.lists._asdict() | {"popularity_ratio": extra.lists.popularity_ratio}
        records += [{"metric": name, "view": "score", "value": value} for name, value in facts.items()]
    return records

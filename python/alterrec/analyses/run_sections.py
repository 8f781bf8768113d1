"""What is drawn of a run folder: how it compares, how it learned, rare and popular items."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

from alterrec.analyses.run_summary import HEADLINE, baselines_of, split_name, views_of
from alterrec.comparable import folder_name, recipe_without_seed, system_label
from alterrec.evaluation.saved import COLD
from alterrec.metrics import metric_name
from alterrec.report.figures.bars import SystemBars, bars, system_panels
from alterrec.report.figures.groups import group_lines, view_panels
from alterrec.report.figures.lines import Line, bands, epoch_lines
from alterrec.report.figures.style import Panel
from alterrec.report.presentation import Plot, Section
from alterrec.report.tables import VIEW_NAMES, percent
from alterrec.results import FEW_TARGETS, Group, RunFolder, RunResult

METRICS = ("hits@20", "ndcg@20")


def seen_rule(result: RunResult) -> str:
    """Whether items already in the session are candidates, in a sentence."""
    rule = f" (rule: {result.data.seen_rule})" if result.data.seen_rule else ""
    return f"Items already in the session are {'not ' if result.data.exclude_seen else ''}candidates{rule}."


def systems_part(
    run: RunFolder, rivals: Sequence[RunFolder] = (), left_out: Sequence[str] = ()
) -> list[Section]:
    """The run, its parts, its baselines and its rivals as bars; nothing where there are no numbers."""
    plot = _systems_plot(run, rivals)
    if plot is None:
        return []
    result = run.result
    notes = [
        f"Every system ranks the whole catalogue for the same {split_name(result)} targets.",
        seen_rule(result),
        "Coloured: this run and its parts, each ranking alone."
        if len(result.views) > 1
        else "Coloured: this run.",
    ]
    if result.baselines:
        notes.append("Light grey: baselines that train no network.")
    if rivals:
        notes.append(
            "Dark grey: other runs; of several seeds the bar is the mean, the whisker one standard deviation "
            "and each dot a seed."
        )
    if left_out:
        notes.append(f"Left out of the comparison: {', '.join(left_out)}.")
    return [Section("How it compares", [" ".join(notes)], {"systems": plot})]


def training_part(run: RunFolder) -> list[Section]:
    """Validation by epoch; nothing of a run that trained nothing."""
    plot = _training_plot(run)
    if plot is None:
        return []
    says = ["Validation after every epoch. The ring is the epoch that was kept."]
    if len({epoch.trained for epoch in run.epochs}) > 1:
        says.append("Shade and word say which network was trained in these epochs.")
    if len({epoch.negatives for epoch in run.epochs}) > 1:
        says.append(
            "At the dashed line the candidates beside the right item change: full, the whole catalogue; "
            "random, a random draw; window, items that the other network ranks high (hard negatives)."
        )
    return [Section("How it learned", [" ".join(says)], {"training": plot})]


def longtail_part(run: RunFolder) -> list[Section]:
    """Test metrics by popularity of the target; nothing without groups."""
    plot = _longtail_plot(run)
    if plot is None:
        return []
    says = [
        "Test targets by how often they occur in training: rare items on the left, popular ones right. "
        "The bars say how many of the targets each group has."
    ]
    groups = run.result.groups["test"]
    if any(group.name == COLD and group.count for group in groups):
        says.append("Cold targets never occur in training and stand apart.")
    says += few(groups)
    return [Section("Rare and popular items", [" ".join(says)], {"longtail": plot})]


def shown_groups(result: RunResult, groups: Sequence[Group]) -> list[Group]:
    """Groups that have targets, with the views that are worth showing."""
    return [
        replace(group, views={view: group.views[view] for view in result.views if view in group.views})
        for group in groups
        if group.count
    ]


def few(groups: Sequence[Group]) -> list[str]:
    """What hollow markers mean, where there are any."""
    hollow = any(0 < group.count < FEW_TARGETS for group in groups)
    return [f"Hollow markers: fewer than {FEW_TARGETS} targets, so read them with care."] if hollow else []


def _systems_plot(run: RunFolder, rivals: Sequence[RunFolder]) -> Plot | None:
    def bar(label: str, runs: Sequence[Mapping[str, float]], kind: str, bold: bool = False) -> None:
        if all(metric in values for values in runs for metric in METRICS):
            values = {metric: [values[metric] for values in runs] for metric in METRICS}
            systems.append(SystemBars(label, values, kind, bold))

    systems: list[SystemBars] = []
    for view, values in views_of(run.result).items():
        name = run.result.model if view == "score" else VIEW_NAMES.get(view, view)
        bar(f"this run: {name}", [values], view, bold=view == "score")
    for name, values in baselines_of(run.result).items():
        bar(name, [values], "baseline")
    groups: dict[str, list[RunFolder]] = {}
    for each in [run, *rivals]:
        groups.setdefault(recipe_without_seed(each), []).append(each)
    labels = [system_label(group[0]) for group in groups.values()]
    for group, label in zip(groups.values(), labels, strict=True):
        if group == [run]:
            continue
        apart = f" · {folder_name(group[0].path)}" if labels.count(label) > 1 else ""
        seeds = f", {len(group)} seeds" if len(group) > 1 else ""
        scores = [views_of(each.result).get("score", {}) for each in group]
        bar(f"{label}{apart}{seeds}", scores, "other")
    if not systems:
        return None
    best = max(systems, key=lambda bar: sum(bar.values[HEADLINE]) / len(bar.values[HEADLINE]))
    says = (
        f"Bars of {metric_name(METRICS[0])} and {metric_name(METRICS[1])} on {split_name(run.result)} for "
        f"{len(systems)} systems, best first; the highest is {best.label}."
    )
    return Plot.of(bars, system_panels(systems, METRICS), says)


def _training_plot(run: RunFolder) -> Plot | None:
    epochs = [epoch.epoch for epoch in run.epochs]
    panels: list[Panel[Line]] = []
    for metric in METRICS:
        views = {
            view: [epoch.valid[view][metric] for epoch in run.epochs]
            for view in run.result.views
            if all(metric in epoch.valid.get(view, {}) for epoch in run.epochs)
        }
        if epochs and "score" in views:
            if views.get("fused") == views["score"]:
                del views["fused"]
            names = {view: VIEW_NAMES.get(view, view).removesuffix(" alone") for view in views}
            lines = [Line(names[view], view, [values]) for view, values in views.items()]
            panels.append(Panel(f"{metric_name(metric)} on validation", lines))
    if not panels:
        return None
    best = run.result.best_epoch
    named = ", ".join(line.label for line in panels[0].marks)
    says = f"Lines of validation metrics over {len(epochs)} epochs: {named}."
    if best in epochs:
        says += f" The best epoch is {best}."
    return Plot.of(epoch_lines, panels, says, phases=bands(run.epochs), best=[best] if best in epochs else [])


def _longtail_plot(run: RunFolder) -> Plot | None:
    groups = shown_groups(run.result, run.result.groups.get("test", []))
    if not groups:
        return None
    shares = ", ".join(f"{group.name} {percent(group.share)}" for group in groups)
    says = f"Metrics by how often the target occurs in training. Share of targets in each group: {shares}."
    return Plot.of(group_lines, view_panels(groups, METRICS), says, groups=groups)

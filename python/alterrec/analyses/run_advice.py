"""What the owner of a shop reads first on the page of a run: for whom it works, and what to do next."""

from __future__ import annotations

from collections.abc import Sequence

from alterrec.analyses.run_summary import (
    baselines_of,
    best_baseline,
    headline,
    split_name,
    views_of,
)
from alterrec.comparable import folder_name
from alterrec.evaluation.saved import COLD
from alterrec.metrics import metric_name
from alterrec.report.presentation import DataTable, Section
from alterrec.report.tables import BASELINE_NAMES, FIRST_ITEMS, HEADLINE, Table, count, listed, percent
from alterrec.results import FEW_TARGETS, Example, Group, RunFolder, RunResult

# Examples above the caveats; the others are folded.
FIRST_EXAMPLES = 3
PICKED = (
    "An earlier version chose these visits: in most of them the next item is among the first 10 by "
    "construction, so they say nothing about how often the system is right. A new run shows random ones."
)
DRAWN = (
    "These test visits were drawn at random, whatever the system recommends for them; every run on these "
    "data shows the same ones."
)
MARKS = f"✓ means that the next item is among the first {FIRST_ITEMS} items of the ranking."
NOT_A_CANDIDATE = (
    "A next item that repeats an item of its visit has no rank, because the visit's own items are not "
    "candidates; it counts as not found."
)


def reach_section(result: RunResult, lengths: Sequence[Group]) -> list[Section]:
    """Return in how many visits the next item is among the first ones, by kind of visit and of item.

    Args:
        result: result of the run.
        lengths: targets grouped by the number of items before them; may be empty.
    """
    metric = headline(result)
    score = views_of(result).get("score", {}).get(metric)
    targets = result.targets.get("test")
    if metric != HEADLINE or score is None or targets is None or split_name(result) != "test":
        return []
    baseline = best_baseline(result)
    rows = [("all visits", count(targets.count), "100%", percent(score))]
    rows += [_row(f"after {_items(group.name)}", group) for group in lengths]
    rows += [_row(_popular(group.name), group) for group in result.groups.get("test", []) if group.count]
    title = f"next item among the first {FIRST_ITEMS}"
    number = len(baselines_of(result))
    compared = (
        f" The best of {number} simple baselines, {baseline[0]}, finds it in {100 * baseline[1]:.0f}."
        if baseline
        else ""
    )
    notes = [
        f"Of 100 test visits, the item that came next is among the first {FIRST_ITEMS} recommendations in "
        f"{100 * score:.0f}; {count(result.data.items)} items could have been recommended.{compared}",
        "Below, visits are grouped by the number of items looked at before, and by how often the next item "
        f"occurs in training. Groups of fewer than {FEW_TARGETS} visits are in brackets: they are uncertain.",
    ]
    table = Table(("visits", "number", "share", title), tuple(rows), strong=frozenset({0}))
    return [
        Section("How often the right item is on the first screen", notes, tables={"reach": DataTable(table)})
    ]


def _row(name: str, group: Group) -> tuple[str, str, str, str]:
    found = percent(group.views.get("score", {}).get(HEADLINE))
    shown = f"({found})" if group.count < FEW_TARGETS else found
    return name, count(group.count), percent(group.share), shown


def _items(name: str) -> str:
    return f"{name.replace('>', 'more than ')} item{'' if name == '1' else 's'}"


def _popular(name: str) -> str:
    if name == COLD:
        return "next item new: never in training"
    return f"next item {name.replace('>', 'more than ')} times in training"


def example_sections(run: RunFolder) -> tuple[list[Section], list[Section]]:
    """Return the first examples as one section, and the others as a folded one."""
    views = run.result.views
    examples = [_with_views(each, views) for each in run.examples]
    if not examples:
        return [], []
    notes = [f"{DRAWN if run.result.examples_drawn else PICKED} {MARKS}"]
    if any(rank is None for each in examples for rank in each.rank.values()):
        notes = [f"{notes[0]} {NOT_A_CANDIDATE}"]
    kind = "random" if run.result.examples_drawn else "chosen"
    first, more = examples[:FIRST_EXAMPLES], examples[FIRST_EXAMPLES:]
    shown = [Section(f"What it recommends: {kind} test visits", notes, examples=first)]
    folded = [Section(f"More {kind} test visits", examples=more, folded=True)] if more else []
    return shown, folded


def _with_views(example: Example, views: Sequence[str]) -> Example:
    return Example(
        session=example.session,
        target=example.target,
        rank={view: example.rank[view] for view in views if view in example.rank},
        top=example.top,
    )


def advice_section(run: RunFolder, *, seeds: int) -> Section:
    """Return what to do next, as a list of steps.

    Args:
        run: the run.
        seeds: number of known runs of its recipe, including this one.
    """
    # A page may be moved to another machine, where a whole path means nothing.
    result, folder = run.result, folder_name(run.path) if run.path.is_absolute() else str(run.path)
    if result.imported_from:
        steps = [f"Test the difference to a run on the same data: `alterrec compare RUN {folder}`."]
        return Section("What to do next", steps=steps)
    steps = [_first_step(result, folder)]
    if result.stopped == "interrupted":
        steps.append("Finish the training: repeat its command with `--resume`.")
    elif result.stopped == "finished" and 1 < result.epochs == result.best_epoch:
        steps.append(
            "Train longer, because the last epoch was the best: repeat the command with "
            f"`--resume --set schedule.epochs={2 * result.epochs}`."
        )
    weak = [each for each in result.comparisons if each.view == "fused" and each.verdict == "below"]
    if weak:
        steps.append(
            "The networks alone are below the best simple baseline, so most of the quality comes from item "
            "neighbours. Search better settings with `alterrec tune`, or try a better text encoder with "
            "`--text-encoder`."
        )
    if seeds == 1 and result.epochs:
        first, second = [seed for seed in range(3) if seed != result.seed][:2]
        steps.append(
            f"Repeat the training with `--seed {first}` and `--seed {second}`: their pages show how much "
            "chance decides."
        )
    steps.append("Look for faults of the data, such as copied sessions, with `alterrec audit`.")
    return Section("What to do next", steps=steps)


def _first_step(result: RunResult, folder: str) -> str:
    recommend = f"`alterrec recommend {folder} --sessions FILE -k {FIRST_ITEMS}`"
    found = [each for each in result.comparisons if each.view == "score"]
    below = [each for each in found if each.verdict == "below"]
    open_ = [each for each in found if each.verdict == "not shown"]
    if below:
        names = listed(list(dict.fromkeys(each.baseline for each in below)))
        return (
            f"Do not use this run as it is: without any training, `{names}` is better in "
            f"{listed([metric_name(each.metric) for each in below])}. "
            f"Try it with `alterrec train {below[0].baseline}`."
        )
    if open_:
        names = listed(list(dict.fromkeys(BASELINE_NAMES.get(e.baseline, e.baseline) for e in open_)))
        return (
            f"It is not shown to be better than {names} in {listed([metric_name(e.metric) for e in open_])}, "
            f"which needs no training. If that does not matter, recommend with {recommend}."
        )
    return f"Recommend the next items of your own sessions: {recommend}."

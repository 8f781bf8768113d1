"""The report of a run: one HTML file that needs nothing beside it, and its pictures as PNG files."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path

from alterrec.errors import InputError
from alterrec.files import write_text
from alterrec.report.layout import Picture, document, drawn_table, figure, fold, list_box, note, section
from alterrec.report.markup import Html, element
from alterrec.report.run_folder import Epoch, Example, Group, Item, Result, RunFolder, read_run
from alterrec.report.summary import (
    FIRST_ITEMS,
    HEADLINE,
    baselines_of,
    best_baseline,
    doubts,
    opening,
    split_name,
    split_shown,
    views_of,
)
from alterrec.report.tables import (
    VIEW_NAMES,
    Table,
    count,
    duration,
    memory,
    metric_name,
    metric_table,
    percent,
)

METRICS = ("hits@20", "ndcg@20")
SESSION_ITEMS_SHOWN = 8
TEXT_SHOWN = 120
PHASES_SHOWN_OPEN = 8


def write_report(run: Path, beside: Sequence[Path] = ()) -> Path:
    """Write `report.html`, `figures/*.png` and `*.svg` into a run folder.

    Args:
        run: the run folder; its `result.json` and `curves.jsonl` are needed, the rest is shown if there.
        beside: other run folders to compare with. Those that were interrupted, have other data or were
            evaluated by another rule cannot be compared and are named on the page as left out.

    Returns:
        The path of the page.

    Raises:
        InputError: a file of one of these folders is missing or damaged, or the disk is full.
    """
    from alterrec.report import plots

    folder = read_run(Path(run))
    rivals, left_out = _comparable(folder, beside)
    pictures = {
        name: picture
        for name, picture in (
            ("systems", _systems_picture(folder, rivals)),
            ("training", _training_picture(folder)),
            ("longtail", _longtail_picture(folder)),
        )
        if picture
    }
    for name, picture in pictures.items():
        plots.save(picture.whole, folder.path / "figures", name)
    drawn = {name: figure(name, picture) for name, picture in pictures.items()}
    target = folder.path / "report.html"
    write_text(target, _page(folder, rivals, left_out, drawn))
    return target


def _comparable(run: RunFolder, beside: Sequence[Path]) -> tuple[list[RunFolder], list[str]]:
    rivals, left_out = [], []
    known = {run.path.resolve()}
    for path in map(Path, beside):
        if path.resolve() in known:
            continue
        known.add(path.resolve())
        try:
            other = read_run(path)
        except InputError:
            # Another run's damage must not cost this one its report.
            left_out.append(f"{_folder_name(path)} (cannot be read)")
            continue
        reason = _why_not(run.result, other.result)
        if reason:
            left_out.append(f"{_folder_name(path)} ({reason})")
        else:
            rivals.append(other)
    return rivals, left_out


def _folder_name(path: Path) -> str:
    return path.resolve().name


def _why_not(ours: Result, theirs: Result) -> str:
    if theirs.stopped == "interrupted":
        return "interrupted"
    if theirs.data.fingerprint != ours.data.fingerprint:
        return f"other data: {theirs.data.name}"
    if theirs.data.exclude_seen != ours.data.exclude_seen:
        return "another rule for items already in the session"
    if theirs.data.targets != ours.data.targets:
        return "other targets"
    return "" if split_shown(theirs) == split_shown(ours) else "no test numbers"


def _same_recipe(run: RunFolder) -> str:
    """What runs that differ only by their seed, device or threads have in common."""
    settings = {name: table for name, table in run.settings.items() if name != "run"}
    return json.dumps([run.result.model, run.result.presets, settings], sort_keys=True, default=str)


def _seeds(run: RunFolder, rivals: Sequence[RunFolder]) -> list[RunFolder]:
    return [run, *(rival for rival in rivals if _same_recipe(rival) == _same_recipe(run))]


def _label(run: RunFolder) -> str:
    presets = ", ".join(run.result.presets)
    return f"{run.result.model} ({presets})" if presets else run.result.model


def _systems_picture(run: RunFolder, rivals: Sequence[RunFolder]) -> Picture | None:
    from alterrec.report import plots

    def bar(label: str, runs: Sequence[Mapping[str, float]], kind: str, highlight: bool = False) -> None:
        if all(metric in values for values in runs for metric in METRICS):
            values = {metric: [values[metric] for values in runs] for metric in METRICS}
            bars.append(plots.Bar(label, values, kind, highlight))

    bars: list[plots.Bar] = []
    for view, values in views_of(run.result).items():
        name = run.result.model if view == "score" else VIEW_NAMES.get(view, view)
        bar(f"this run: {name}", [values], view, highlight=view == "score")
    for name, values in baselines_of(run.result).items():
        bar(name, [values], "baseline")
    groups: dict[str, list[RunFolder]] = {}
    for each in [run, *rivals]:
        groups.setdefault(_same_recipe(each), []).append(each)
    labels = [_label(group[0]) for group in groups.values()]
    for group, label in zip(groups.values(), labels, strict=True):
        if group == [run]:
            continue
        apart = f" · {_folder_name(group[0].path)}" if labels.count(label) > 1 else ""
        seeds = f", {len(group)} seeds" if len(group) > 1 else ""
        scores = [views_of(each.result).get("score", {}) for each in group]
        bar(f"{label}{apart}{seeds}", scores, "other")
    if not bars:
        return None
    best = max(bars, key=lambda bar: sum(bar.values[HEADLINE]) / len(bar.values[HEADLINE]))
    says = (
        f"Bars of {metric_name(METRICS[0])} and {metric_name(METRICS[1])} on {split_name(run.result)} for "
        f"{len(bars)} systems, best first; the highest is {best.label}."
    )
    return Picture(
        plots.systems(bars), [plots.systems(bars, [metric], METRICS[0]) for metric in METRICS], says
    )


def _training_picture(run: RunFolder) -> Picture | None:
    from alterrec.report import plots

    epochs = [epoch.epoch for epoch in run.epochs]
    panels = {}
    for metric in METRICS:
        views = {
            view: [epoch.valid[view][metric] for epoch in run.epochs]
            for view in run.result.views
            if all(metric in epoch.valid.get(view, {}) for epoch in run.epochs)
        }
        if epochs and "score" in views:
            if views.get("fused") == views["score"]:
                del views["fused"]
            panels[metric] = views
    if not panels:
        return None
    phases = plots.bands([epoch.trained for epoch in run.epochs], [epoch.negatives for epoch in run.epochs])
    best = run.result.best_epoch
    lines = ", ".join(VIEW_NAMES.get(view, view) for view in next(iter(panels.values())))
    says = f"Lines of validation metrics over {len(epochs)} epochs: {lines}."
    if best in epochs:
        says += f" The best epoch is {best}."
    return Picture(
        plots.training(epochs, panels, phases=phases, best=best),
        [plots.training(epochs, {name: panel}, phases=phases, best=best) for name, panel in panels.items()],
        says,
    )


def _longtail_picture(run: RunFolder) -> Picture | None:
    from alterrec.report import plots

    shown = run.result.views
    groups = [
        Group(
            group.name,
            group.count,
            group.share,
            {view: group.views[view] for view in shown if view in group.views},
        )
        for group in run.result.groups.get("test", [])
        if group.count
    ]
    if not groups:
        return None
    shares = ", ".join(f"{group.name} {percent(group.share)}" for group in groups)
    says = f"Metrics by how often the target occurs in training. Share of targets in each group: {shares}."
    return Picture(plots.longtail(groups), [plots.longtail(groups, [metric]) for metric in METRICS], says)


def _page(
    run: RunFolder, rivals: Sequence[RunFolder], left_out: Sequence[str], drawn: Mapping[str, Html]
) -> str:
    result = run.result
    title = f"{result.model} on {result.data.name}"
    said = opening(result)
    meta = " · ".join(
        part
        for part in (
            f"run {_folder_name(run.path)}",
            f"preset {', '.join(result.presets)}" if result.presets else "",
            f"seed {result.seed}",
            f"{duration(result.seconds)} in all",
            f"{memory(result.peak_memory_bytes)} of memory at most" if result.peak_memory_bytes else "",
        )
        if part
    )
    parts = [
        element("h1", title),
        element("p", meta, class_="meta"),
        list_box("Warnings of this run", result.warnings, "box warnings"),
        element(
            "div", *(element("p", " ".join(part)) for part in (said[:2], said[2:]) if part), class_="opening"
        ),
        _tiles(result),
        list_box("Before you believe it", doubts(result, seeds=len(_seeds(run, rivals))), "box doubts"),
        _systems_section(result, rivals, left_out, drawn),
        _training_section(run.epochs, drawn),
        _longtail_section(result, drawn),
        _sessions_section(result, run.examples),
        _numbers_section(result),
        _details_section(run),
    ]
    return document(title, parts)


def _tiles(result: Result) -> Html:
    views = views_of(result)
    shown = [
        (VIEW_NAMES.get(view, view), views[view][HEADLINE], view)
        for view in ("score", "id", "text")
        if HEADLINE in views.get(view, {})
    ]
    rival = best_baseline(result)
    if rival:
        shown.append((f"best baseline: {rival[0]}", rival[1], "baseline"))
    if not shown:
        return Html()
    tiles = [
        element(
            "div",
            element("dt", f"{metric_name(HEADLINE)}, {name}"),
            element("dd", percent(value)),
            class_="tile",
            style=f"--tile: var(--{kind})",
        )
        for name, value, kind in shown
    ]
    return element("dl", *tiles, class_="tiles")


def _seen_rule(result: Result) -> str:
    rule = f" (rule: {result.data.seen_rule})" if result.data.seen_rule else ""
    return f"Items already in the session are {'not ' if result.data.exclude_seen else ''}candidates{rule}."


def _systems_section(
    result: Result, rivals: Sequence[RunFolder], left_out: Sequence[str], drawn: Mapping[str, Html]
) -> Html:
    if "systems" not in drawn:
        return Html()
    notes = [
        f"Every system ranks the whole catalogue for the same {split_name(result)} targets.",
        _seen_rule(result),
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
    return section("How it compares", note(" ".join(notes)), drawn["systems"])


def _training_section(epochs: Sequence[Epoch], drawn: Mapping[str, Html]) -> Html:
    if "training" not in drawn:
        return Html()
    says = ["Validation after every epoch. The ring is the epoch that was kept."]
    if len({tuple(epoch.trained) for epoch in epochs}) > 1:
        says.append("Shade and word say which network was trained in these epochs.")
    if len({epoch.negatives for epoch in epochs}) > 1:
        says.append(
            "At the dashed line the candidates beside the right item change: full, the whole catalogue; "
            "random, a random draw; window, items that the other network ranks high (hard negatives)."
        )
    return section("How it learned", note(" ".join(says)), drawn["training"])


def _longtail_section(result: Result, drawn: Mapping[str, Html]) -> Html:
    if "longtail" not in drawn:
        return Html()
    says = (
        "Test targets by how often they occur in training: rare items on the left, popular ones right. "
        "The bars say how many of the targets each group has."
    )
    groups = result.groups["test"]
    if any(group.name == "cold" and group.count for group in groups):
        says += " Cold targets never occur in training and stand apart."
    if any(0 < group.count < 30 for group in groups):
        says += " Hollow markers: fewer than 30 targets, so read them with care."
    return section("Rare and popular items", note(says), drawn["longtail"])


def _sessions_section(result: Result, examples: Sequence[Example]) -> Html:
    if not examples:
        return Html()
    says = (
        "What was in a session, what came next, and what the model would have shown. "
        f"✓ means that the right item is among the first {FIRST_ITEMS}."
    )
    cards = [_card(place, example, result.views) for place, example in enumerate(examples, start=1)]
    return section("A few test sessions", note(says), element("div", *cards, class_="cards"))


def _card(number: int, example: Example, views: Sequence[str]) -> Html:
    hidden = max(len(example.session) - SESSION_ITEMS_SHOWN, 0)
    heading = "In the session" + (
        f" (last {SESSION_ITEMS_SHOWN} of {len(example.session)} items)" if hidden else ""
    )
    before = element(
        "ol", *(element("li", *_item(item)) for item in example.session[hidden:]), start=str(hidden + 1)
    )
    following = element(
        "div",
        element("h4", "What came next"),
        element("div", *_item(example.target), class_="hit"),
        class_="next",
    )
    ranks = [_rank(view, example.rank[view]) for view in views if view in example.rank]
    shown = [_suggestion(item, example.target) for item in example.top.get("score", [])]
    return element(
        "article",
        element("h3", f"Session {number}"),
        element(
            "div",
            element("div", element("h4", heading), before, following),
            element(
                "div",
                element("h4", "The model's first suggestions"),
                element("ol", *shown),
                element("h4", "Where each part ranks what came next"),
                element("ul", *ranks, class_="ranks"),
            ),
            class_="sides",
        ),
        class_="card",
    )


def _item(item: Item) -> tuple[str, Html]:
    text = " ".join(item.text.split())
    if len(text) > TEXT_SHOWN:
        text = text[:TEXT_SHOWN].rsplit(" ", 1)[0] + " …"
    return (f"{text} " if text else "", element("span", item.item_id, class_="item"))


def _suggestion(item: Item, target: Item) -> Html:
    if item.item_id != target.item_id:
        return element("li", *_item(item))
    return element("li", *_item(item), " ", element("span", "✓ came next", class_="mark"), class_="hit")


def _rank(view: str, rank: float) -> Html:
    name = VIEW_NAMES.get(view, view)
    place = f"{name}: {rank:,.0f}"
    return element("li", f"✓ {place}", class_="found") if rank <= FIRST_ITEMS else element("li", place)


def _numbers_section(result: Result) -> Html:
    tables = []
    for split, title in (("test", "Test"), ("valid", "Validation")):
        values = getattr(result, split)
        rows = {VIEW_NAMES.get(view, view): values[view] for view in result.views if view in values}
        if split == split_shown(result):
            rows |= baselines_of(result)
        if rows:
            tables.append(drawn_table(metric_table(rows, title=title, strong=[VIEW_NAMES["score"]])))
    return section("The numbers", note(_seen_rule(result)), *tables)


def _details_section(run: RunFolder) -> Html:
    result = run.result
    tables = [drawn_table(table) for table in (_data_table(result), _cost_table(result)) if table.rows]
    parts: list[Html] = [element("div", *tables, class_="pair")]
    if result.phases:
        parts.append(
            fold("Phases", drawn_table(_phase_table(result)), open_=len(result.phases) <= PHASES_SHOWN_OPEN)
        )
    if run.recipe:
        parts.append(fold("Recipe (every setting of this run)", element("pre", run.recipe)))
    if result.versions:
        rows = tuple(result.versions.items())
        parts.append(fold("Versions", drawn_table(Table(("software", "version"), rows, prose=True))))
    return section("What was run", *parts)


def _data_table(result: Result) -> Table:
    data = result.data
    rows = [
        ("items", count(data.items)),
        ("items never seen in training (cold)", count(data.cold_items)),
        ("training sessions", count(data.train_sessions)),
        ("validation sessions", count(data.valid_sessions)),
        ("test sessions", count(data.test_sessions)),
    ]
    for split, name in (("valid", "validation"), ("test", "test")):
        targets = result.targets.get(split)
        if targets:
            rows.append((f"{name} targets (cold)", f"{count(targets.count)} ({count(targets.cold)})"))
    if data.repeat_share is not None:
        rows.append(("training targets that repeat an item", percent(data.repeat_share)))
    if data.targets:
        rows.append(
            (
                "targets",
                {"last": "last item of a session", "every": "every item"}.get(data.targets, data.targets),
            )
        )
    names = {"alpha": "weight of ID in the sum (alpha)", "neighbours": "weight of the neighbours"}
    rows += [(names.get(name, name), f"{value:g}") for name, value in result.fusion.items()]
    return Table(("data", ""), tuple(rows), title=data.name)


def _cost_table(result: Result) -> Table:
    rows = [("time in all", duration(result.seconds))]
    rows += [
        (f"of it: {part}", duration(seconds))
        for part, seconds in result.seconds_by_part.items()
        if part != "total"
    ]
    if result.peak_memory_bytes:
        rows.append(("most memory", memory(result.peak_memory_bytes)))
    if result.parameters:
        rows.append(("trained parameters", count(result.parameters)))
    if result.epochs:
        rows.append(("epochs", str(result.epochs)))
        rows.append(
            (
                "ended by",
                {"finished": "the last epoch", "patience": "no gain for a while"}.get(
                    result.stopped, result.stopped
                ),
            )
        )
    return Table(("time and memory", ""), tuple(rows), title="Cost")


def _phase_table(result: Result) -> Table:
    rows = tuple(
        (
            str(phase.first) if phase.first == phase.last else f"{phase.first} to {phase.last}",
            " + ".join(phase.trained),
            phase.negatives,
            phase.teacher or "-",
        )
        for phase in result.phases
    )
    return Table(("epochs", "trained", "negatives", "teacher"), rows, prose=True)

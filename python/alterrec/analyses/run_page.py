"""The report of a run: one HTML file that needs nothing beside it, and its pictures as PNG files."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from alterrec.analyses.extra_metrics import beside_parts, read_beside
from alterrec.analyses.run_sections import longtail_part, seen_rule, systems_part, training_part
from alterrec.analyses.run_summary import (
    FIRST_ITEMS,
    HEADLINE,
    baselines_of,
    best_baseline,
    caveats,
    opening,
    views_of,
)
from alterrec.comparable import folder_name, reason_not_comparable, runs_of_same_recipe
from alterrec.errors import InputError
from alterrec.files import write_text
from alterrec.metrics import metric_name
from alterrec.report.layout import document, drawn_table, fold, list_box, note, section
from alterrec.report.markup import Html, element
from alterrec.report.presentation import Section, section_html
from alterrec.report.tables import VIEW_NAMES, Table, count, duration, memory, metric_table, percent
from alterrec.results import Example, Item, RunFolder, RunResult, read_run, reported_split

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
    from alterrec.report.figures import style

    folder = read_run(Path(run))
    rivals, left_out = _comparable(folder, beside)
    parts = [
        *systems_part(folder, rivals, left_out),
        *training_part(folder),
        *longtail_part(folder),
        *beside_parts(folder, read_beside(folder)),
    ]
    for part in parts:
        for name, plot in part.figures.items():
            style.save(plot.whole, folder.path / "figures", name)
    target = folder.path / "report.html"
    write_text(target, _page(folder, rivals, parts))
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
            left_out.append(f"{folder_name(path)} (cannot be read)")
            continue
        reason = reason_not_comparable(run.result, other.result)
        if reason:
            left_out.append(f"{folder_name(path)} ({reason})")
        else:
            rivals.append(other)
    return rivals, left_out


def _page(run: RunFolder, rivals: Sequence[RunFolder], shown: Sequence[Section]) -> str:
    result = run.result
    title = f"{result.model} on {result.data.name}"
    said = opening(result)
    meta = " · ".join(
        part
        for part in (
            f"run {folder_name(run.path)}",
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
        list_box(
            "Before you believe it",
            caveats(result, seeds=len(runs_of_same_recipe(run, rivals))),
            "box doubts",
        ),
        *map(section_html, shown),
        _sessions_section(result, run.examples),
        _numbers_section(result),
        _details_section(run),
    ]
    return document(title, parts)


def _tiles(result: RunResult) -> Html:
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


def _sessions_section(result: RunResult, examples: Sequence[Example]) -> Html:
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


def _numbers_section(result: RunResult) -> Html:
    tables = []
    for split, title in (("test", "Test"), ("valid", "Validation")):
        values = getattr(result, split)
        rows = {VIEW_NAMES.get(view, view): values[view] for view in result.views if view in values}
        if split == reported_split(result):
            rows |= baselines_of(result)
        if rows:
            tables.append(drawn_table(metric_table(rows, title=title, strong=[VIEW_NAMES["score"]])))
    return section("The numbers", note(seen_rule(result)), *tables)


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


def _data_table(result: RunResult) -> Table:
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


def _cost_table(result: RunResult) -> Table:
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


def _phase_table(result: RunResult) -> Table:
    rows = tuple(
        (
            str(phase.first) if phase.first == phase.last else f"{phase.first} to {phase.last}",
            phase.trained,
            phase.negatives,
            phase.teacher or "-",
        )
        for phase in result.phases
    )
    return Table(("epochs", "trained", "negatives", "teacher"), rows, prose=True)

"""The report of a run: a page for the run folder, an object for notebooks."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from alterrec.analyses.run_advice import advice_section, example_sections, reach_section
from alterrec.analyses.run_sections import (
    ExtraMetrics,
    extra_sections,
    gate_sections,
    groups_section,
    queries_sections,
    read_extra_metrics,
    seen_items_sections,
    shown_views,
    systems_section,
    training_section,
)
from alterrec.analyses.run_summary import baselines_of, best_baseline, caveats, findings, headline, views_of
from alterrec.comparable import folder_name, reason_not_comparable, seeds_of_recipes
from alterrec.errors import InputError
from alterrec.metrics import metric_name
from alterrec.report.presentation import DataTable, Presentation, Report, Section, Tile, renamed
from alterrec.report.seen_items import seen_sentence
from alterrec.report.tables import VIEW_NAMES, Table, count, duration, memory, metric_table, percent
from alterrec.results import RunFolder, RunResult, Views, read_run, reported_split

# Longer lists of phases are folded.
MOST_PHASES = 8


@dataclass(frozen=True, repr=False)
class RunReport(Report):
    """The results of a saved run: prints as tables, draws its figures, displays itself in a notebook.

    Attributes:
        folder: contents of the run folder; ``folder.result`` is `result.json`.
        others: comparable runs, shown for comparison.
        left_out: runs that cannot be compared, each with the reason.
    """

    folder: RunFolder
    others: Sequence[RunFolder] = ()
    left_out: Sequence[str] = ()

    def brief(self) -> str:
        result = self.folder.result
        split = reported_split(result)
        score = getattr(result, split).get("score", {}).get("ndcg@20")
        return f"{result.model} on {result.data.name}, {split} NDCG@20 {percent(score)}"

    @property
    def metrics(self) -> Views:
        """View -> metric -> fraction on test, or on validation if the run has no test metrics."""
        return dict(views_of(self.folder.result))

    @cached_property
    def extra_metrics(self) -> ExtraMetrics | None:
        """MRR, coverage, popularity, session lengths, cold targets; None if no rankings were saved."""
        return read_extra_metrics(self.folder)

    beside = renamed("beside", "extra_metrics")

    def presentation(self) -> Presentation:
        """Return first what the owner of a shop asks, then all metrics, training, groups, data and cost."""
        run, result = self.folder, self.folder.result
        seeds = len(seeds_of_recipes([run, *self.others])[0])
        examples, more_examples = example_sections(run)
        extra = self.extra_metrics
        return Presentation(
            name="result",
            title=f"{result.model} on {result.data.name}",
            meta=_origin(run),
            warnings=result.warnings,
            findings=findings(result),
            tiles=_tiles(result),
            leading=[
                *reach_section(result, extra.lengths if extra else []),
                *examples,
                *more_examples,
                advice_section(run, seeds=seeds),
            ],
            caveats=caveats(result, seeds=seeds),
            sections=[
                *systems_section(run, self.others, self.left_out),
                *training_section(run),
                *groups_section(run),
                *extra_sections(run, extra),
                Section("All metrics", [seen_sentence(result.data)], tables=_metric_tables(result)),
                *queries_sections(result),
                *gate_sections(result),
                *seen_items_sections(result),
                *_details(run),
            ],
        )


def result(run: str | Path) -> RunReport:
    """Return the results of a run folder as an object, without loading its model.

    Args:
        run: path of the folder of a finished run.

    Returns:
        The results: they print as tables, display themselves in a notebook, and are saved as a page.

    Raises:
        InputError: the folder is not that of a finished run, or one of its files is damaged.

    Example:
        >>> result("no/such/run")
        Traceback (most recent call last):
            ...
        alterrec.errors.InputError: no run folder 'no/such/run'; give the folder that training printed last
    """
    return RunReport(read_run(Path(run)))


def write_report(run: Path, others: Sequence[Path] = ()) -> Path:
    """Write ``report.html`` and ``figures/`` into a run folder; return the path of the page.

    Args:
        run: the run folder; ``result.json`` and ``curves.jsonl`` are required.
        others: other run folders to compare with. Runs that were interrupted, have other data or another
            evaluation rule cannot be compared; the page names them as left out.

    Raises:
        InputError: a file of the run folder is missing or damaged, or the disk is full.
    """
    folder = read_run(Path(run))
    comparable, left_out = _comparable(folder, others)
    return RunReport(folder, comparable, left_out).presentation().write_page(folder.path)


def _comparable(run: RunFolder, paths: Sequence[Path]) -> tuple[list[RunFolder], list[str]]:
    others, left_out = [], []
    known = {run.path.resolve()}
    for path in map(Path, paths):
        if path.resolve() in known:
            continue
        known.add(path.resolve())
        try:
            other = read_run(path)
        except InputError:
            # A damaged file of another run must not prevent the report of this run.
            left_out.append(f"{folder_name(path)} (cannot be read)")
            continue
        reason = reason_not_comparable(run.result, other.result)
        if reason:
            left_out.append(f"{folder_name(path)} ({reason})")
        else:
            others.append(other)
    return others, left_out


def _origin(run: RunFolder) -> str:
    result = run.result
    peak = f"peak memory {memory(result.peak_memory_bytes)}" if result.peak_memory_bytes else ""
    presets = f"preset {', '.join(result.presets)}" if result.presets else ""
    name, time = f"run {folder_name(run.path)}", f"total time {duration(result.seconds)}"
    return " · ".join(part for part in (name, presets, f"seed {result.seed}", time, peak) if part)


def _tiles(result: RunResult) -> list[Tile]:
    metric = headline(result)
    name = metric_name(metric)
    views = [view for view in ("score", "id", "text") if metric in views_of(result).get(view, {})]
    tiles = [
        Tile(f"{name}, {VIEW_NAMES.get(view, view)}", percent(views_of(result)[view][metric]), view)
        for view in views
    ]
    baseline = best_baseline(result)
    if baseline:
        place = 1 if views[:1] == ["score"] else len(tiles)
        tiles.insert(place, Tile(f"{name}, best baseline: {baseline[0]}", percent(baseline[1]), "baseline"))
    return tiles


def _metric_tables(result: RunResult) -> dict[str, DataTable]:
    """Return test and validation metrics by view; baselines in the table of the reported split."""
    tables = {}
    for split, title in (("test", "Test"), ("valid", "Validation")):
        values: Views = getattr(result, split)
        reported = split == reported_split(result)
        views = shown_views(result) if reported else result.views
        rows = {VIEW_NAMES.get(view, view): values[view] for view in views if view in values}
        if reported:
            rows |= baselines_of(result)
        if rows:
            table = metric_table(rows, title=title, strong=[VIEW_NAMES["score"]])
            tables["metrics" if reported else split] = DataTable(table)
    return tables


def _details(run: RunFolder) -> list[Section]:
    result = run.result
    tables = {"data": DataTable(_data_table(result)), "cost": DataTable(_cost_table(result))}
    sections = [Section("Data and cost", tables=tables)]
    if result.phases:
        tables = {"phases": DataTable(_phase_table(result))}
        sections.append(Section("Training phases", tables=tables, folded=len(result.phases) > MOST_PHASES))
    if run.recipe:
        sections.append(Section("Recipe (all settings of this run)", text=run.recipe, folded=True))
    if result.versions:
        versions = DataTable(Table(("software", "version"), tuple(result.versions.items()), prose=True))
        sections.append(Section("Software versions", tables={"versions": versions}, folded=True))
    return sections


def _data_table(result: RunResult) -> Table:
    data = result.data
    rows = [
        ("items", count(data.items)),
        ("cold items (not in the training data)", count(data.cold_items)),
        ("training sessions", count(data.train_sessions)),
        ("validation sessions", count(data.valid_sessions)),
        ("test sessions", count(data.test_sessions)),
    ]
    for split, name in (("valid", "validation"), ("test", "test")):
        targets = result.targets.get(split)
        if targets:
            rows.append((f"{name} targets (of them cold)", f"{count(targets.count)} ({count(targets.cold)})"))
            if targets.repeated is not None:
                share = percent(targets.repeated / targets.count) if targets.count else "-"
                repeated = f"{count(targets.repeated)} ({share})"
                rows.append((f"{name} targets that repeat an item of their session", repeated))
    if data.repeat_share is not None:
        rows.append(("training targets that repeat an item of their session", percent(data.repeat_share)))
    if data.targets:
        names = {"last": "last item of each session", "every": "every item but the first"}
        rows.append(("evaluation targets", names.get(data.targets, data.targets)))
    weights = {
        "alpha": "weight of ID in the sum (alpha)",
        "neighbours": "weight of item neighbours",
        "trend": "weight of the trend of popularity",
    }
    rows += [(weights.get(name, name), f"{value:g}") for name, value in result.fusion.items()]
    return Table(("data", ""), tuple(rows), title=data.name)


def _cost_table(result: RunResult) -> Table:
    parts = {"data": "reading data", "train": "training", "evaluate": "evaluation"}
    rows = [("total time", duration(result.seconds))]
    rows += [
        (f"time of {parts.get(part, part)}", duration(seconds))
        for part, seconds in result.seconds_by_part.items()
        if part != "total"
    ]
    if result.peak_memory_bytes:
        rows.append(("peak memory", memory(result.peak_memory_bytes)))
    if result.parameters:
        rows.append(("trained parameters", count(result.parameters)))
    if result.epochs:
        reasons = {"finished": "all epochs done", "patience": "early stopping (no improvement)"}
        rows.append(("epochs", str(result.epochs)))
        rows.append(("end of training", reasons.get(result.stopped, result.stopped)))
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
    return Table(("epochs", "trained network", "negatives", "teacher"), rows, prose=True)

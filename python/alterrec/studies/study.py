"""A study: runs that are needed for a question of the paper, carried out, then presented.

A study says which rows it needs and how to show them. It is asked again as results come in, so a study that
was stopped, or is worked on by several processes, goes on by being asked once more.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

from alterrec import results
from alterrec.data.dataset import Dataset
from alterrec.data.readers import DataSource
from alterrec.data.statistics import Statistics, statistics
from alterrec.errors import InputError, nearest
from alterrec.files import file_name, write_json
from alterrec.models.catalogue import MODELS
from alterrec.models.reads import check_settings
from alterrec.progress import Event, Listener, ignore
from alterrec.recipe import recipe_names, resolve
from alterrec.report.presentation import Presentation, Report
from alterrec.studies.ablation import QUESTIONS, VARIANTS, WHOLE, ablation
from alterrec.studies.alternation import alternation
from alterrec.studies.dataset import dataset
from alterrec.studies.fusion import FUSION_MODELS, FUSION_RIVALS, fusion
from alterrec.studies.guess import Sizes
from alterrec.studies.imbalance import imbalance
from alterrec.studies.longtail import longtail
from alterrec.studies.plan import PAPER_GRID, Grid, Order, PlannedRow, plan_of, plan_row
from alterrec.studies.queue import Failure, RunQueue, Settings
from alterrec.studies.rivals import Rivals, best_baseline, nobody, pairs
from alterrec.studies.scheduler import work
from alterrec.studies.study_result import study_result
from alterrec.studies.sweep import sweep
from alterrec.studies.sweep_rows import PAPER_SWEEPS, Resolved, sweep_axes, sweep_rows
from alterrec.studies.table1 import table1

# A coarse answer: these settings, one seed, no search.
QUICK: Settings = {"model.dim": 32, "schedule.epochs": 12, "data.prefixes": 4, "optim.lr": 0.01}
QUICK_ROWS = tuple(name for name, entry in MODELS.items() if entry.quick)
SEEDS = 3


def one_each(order: Order, runs: RunQueue) -> list[PlannedRow]:
    """A row for each system."""
    return [plan_row(model, runs, order.grid, order.seeds) for model in order.models]


def no_rows(order: Order, runs: RunQueue) -> list[PlannedRow]:
    """None: the data alone answer."""
    return []


class Study(NamedTuple):
    """A row of the table of studies.

    Attributes:
        summary: what it answers.
        models: its systems, empty for all; in the order of the table.
        present: from its facts to what it shows.
        rivals: which rows are tested against which.
        rows: which rows it needs, as far as results say.
        searched: whether the settings of every row are searched without being asked to.
        curves: whether it draws what runs were after each epoch.
        coarse: its systems where a coarse answer is wanted, default all of them.
        measured: what it takes from the data themselves.
        axes: what it sweeps, from what was asked for; None where it sweeps nothing.
        reference: the system that all others are held against where nobody says otherwise.
        grouped: whether rows are held against rivals by popularity of the target as well.
    """

    summary: str
    models: tuple[str, ...]
    present: Callable[[results.StudyResult], Presentation]
    rivals: Rivals
    rows: Callable[[Order, RunQueue], list[PlannedRow]] = one_each
    searched: bool = False
    curves: bool = False
    coarse: tuple[str, ...] = ()
    measured: Callable[[Dataset], Statistics] | None = None
    axes: Callable[[Order, Resolved], list[Grid]] | None = None
    reference: str = ""
    grouped: bool = False


STUDIES = {
    "table1": Study(
        "every system under one protocol, with deviations over seeds and paired tests (Table 1)",
        (),
        table1,
        best_baseline,
        searched=True,
        coarse=QUICK_ROWS,
    ),
    "ablation": Study(
        "what hard negatives, each modality and alternation give to AlterRec (Table 2)",
        tuple(VARIANTS),
        ablation,
        pairs({WHOLE: tuple(QUESTIONS)}),
    ),
    "fusion": Study(
        "models that fuse ID and text against their ID part and text part trained alone (Figures 2 and 8)",
        FUSION_MODELS,
        fusion,
        pairs(FUSION_RIVALS),
    ),
    "imbalance": Study(
        "what ID and text learn inside naive fusion, beside each trained alone, by epoch (Figures 3, 9)",
        ("nfrec_concat", "id_only", "text_only"),
        imbalance,
        nobody,
        curves=True,
    ),
    "alternation": Study(
        "what ID and text learn as their networks take turns, by epoch (Figure 5)",
        ("alterrec",),
        alternation,
        nobody,
        curves=True,
    ),
    "longtail": Study(
        "what systems gain over a reference by popularity of the target (Figure 6)",
        ("alterrec", "alterrec_aug", "nfrec_concat", "sasrec", "unisrec", "bert4rec"),
        longtail,
        nobody,
        reference="bert4rec",
        grouped=True,
    ),
    "dataset": Study(
        "sessions, targets, popularity and texts of the data, without training (Table 3)",
        (),
        dataset,
        nobody,
        no_rows,
        measured=statistics,
    ),
    "sweep": Study(
        "how much recipe fields move a metric, one or two at a time (Figures 7, 10, 11)",
        tuple(PAPER_SWEEPS),
        sweep,
        nobody,
        rows=sweep_rows,
        axes=sweep_axes,
    ),
}


@dataclass(frozen=True)
class StudyReport(Report):
    """How a study ended. It prints as tables, draws itself and shows itself in a notebook.

    Attributes:
        name: of the study.
        path: its folder.
        failed: runs that failed, and why; refused ones, which are N/A in tables, are not among them.
        stopped: whether Ctrl-C ended it.
        shown: what it shows, None where nothing is known yet.
    """

    name: str
    path: Path
    failed: dict[str, Failure] = field(default_factory=dict)
    stopped: bool = False
    shown: Presentation | None = None

    def presentation(self) -> Presentation:
        """What the study shows.

        Raises:
            InputError: nothing is known yet.
        """
        if self.shown is None:
            raise InputError(f"no run of {self.name} is finished yet; start the study again to go on")
        return self.shown


def run_study(
    name: str,
    data: str | Path | None = None,
    *,
    out: str | Path | None = None,
    runs: str | Path | None = None,
    presets: Sequence[str] = ("paper",),
    settings: Mapping[str, object] | None = None,
    seeds: int | None = None,
    only: Sequence[str] = (),
    over: Sequence[Grid] = (),
    metric: str = "",
    reference: str = "",
    search: bool = False,
    quick: bool = False,
    jobs: int = 1,
    format: str | None = None,
    columns: Mapping[str, str] | None = None,
    drop_unknown: bool = False,
    command: str = "",
    listen: Listener = ignore,
) -> StudyReport:
    """Plan a study, run what is missing and write what is known.

    ``alterrec.run_study`` is this function.

    Args:
        name: a key of ``STUDIES``.
        data: a folder (see docs/data.md), or None for the built-in catalogue.
        out: the study's folder; default ``studies/NAME-DATA``, with ``-quick`` behind where it is.
        runs: where runs lie, which studies share; default the folder ``study-runs`` beside ``out``.
        presets: of every run.
        settings: recipe keys fixed for every run; a fixed key is not searched.
        seeds: default 3, or 1 where ``quick``.
        only: systems; default those of the study, or ``QUICK_ROWS`` for all of them where ``quick``. A sweep
            takes any one.
        over: fields of a sweep and their values, one or two an entry; default those of the paper.
        metric: drawn where a study draws one; default ``ndcg@20``.
        reference: the system that others are held against, where the study has one; it is run, too.
        search: the settings of every row are searched, as ``table1`` does by itself.
        quick: a coarse answer by the settings ``QUICK``.
        jobs: runs at a time.
        format: format of the data, a name from ``alterrec list formats``; None recognises it.
        columns: our column name -> the files'.
        drop_unknown: drop session rows of items that are not in ``items``.
        command: what re-makes the study, to be written down.
        listen: told how far it is.

    Raises:
        InputError: anything wrong with the input, or every row refused it.
    """
    study = _with_reference(name, reference)
    if jobs < 1:
        raise InputError(f"--jobs is {jobs}; allowed: 1 or more")
    if study.rows is no_rows and (only or seeds or search or over):
        raise InputError(f"{name} trains nothing; --only, --seeds, --search and --over are for other studies")
    order = _order(study, presets, settings or {}, seeds, only, quick, command)
    searched = order.grid if search or study.searched else {}
    grid = {key: values for key, values in searched.items() if key not in (settings or {})}
    fixed = {**order.quick, **(settings or {})}
    pictured = _pictured(study, metric, resolve(order.models[0], presets, fixed).metrics)
    order = order._replace(over=over, reference=study.reference, grid=grid, pictured=pictured)
    if study.axes is not None:
        axes = study.axes(order, lambda model, own: resolve(model, presets, {**fixed, **own}))
        order = order._replace(over=axes)
    elif over:
        raise InputError(f"--over is for a sweep, {name} has no fields to vary; allowed: study sweep")
    check_settings(order.models, presets, settings or {})
    recipes = [resolve(model, presets, fixed) for model in order.models]
    source = DataSource(data or None, columns or {}, drop_unknown, format)
    known = source.read(recipes[0])
    path = Path(out or Path("studies") / f"{name}-{file_name(known.name)}{'-quick' if quick else ''}")
    folder = Path(runs or path.parent / "study-runs")
    kept = RunQueue(folder, source, known.fingerprint, presets, fixed, Sizes.of(known))
    planned = len(study.rows(order, kept))
    listen(Event("notice", f"{name} on {known.name}: {planned or 'no'} rows, in {path}"))
    if jobs > 1 and not recipes[0].run.threads:
        listen(
            Event(
                "notice", f"{jobs} runs at a time use all cores each; --set run.threads=1 gives each its own"
            )
        )
    stopped = False
    try:
        if planned:
            work(lambda: plan_of(study.rows(order, kept)), kept, jobs=jobs, listen=listen)
    except KeyboardInterrupt:
        stopped = True
    rows = study.rows(order, kept)
    finished = any(kept.result(run) is not None for run in plan_of(rows).runs)
    refused = [failure for failure in kept.failures.values() if failure.refused]
    if not finished and refused and len(refused) == len(kept.failures):
        raise InputError(refused[0].reason)
    failed = {run.label: failure for run, failure in kept.failures.items() if not failure.refused}
    if rows and not finished:
        return StudyReport(name, path, failed, stopped)
    result = study_result(
        name,
        order,
        rows,
        kept,
        study.rivals,
        curves=study.curves,
        grouped=study.grouped,
        data=results.DataSummary.of(known) if study.measured else None,
        statistics=study.measured(known) if study.measured else None,
    )
    write_json(path / "study.json", results.to_json(result))
    shown = load_study(path).presentation()
    shown.write(path)
    return StudyReport(name, path, failed, stopped, shown)


def load_study(path: str | Path) -> StudyReport:
    """A study of a folder, from its ``study.json`` alone; ``alterrec.load_study`` is this function.

    Raises:
        InputError: the file is missing or damaged.

    Example:
        >>> load_study("no-such-folder")
        Traceback (most recent call last):
            ...
        alterrec.errors.InputError: no study.json in 'no-such-folder'; it is written when a run has ended
    """
    facts = results.read_study(Path(path))
    return StudyReport(facts.study, Path(path), shown=lookup(facts.study).present(facts))


def lookup(name: str) -> Study:
    """The study of a name; InputError with the nearest name otherwise."""
    if name not in STUDIES:
        raise InputError(f"study {name!r} is unknown; allowed: {', '.join(STUDIES)}{nearest(name, STUDIES)}")
    return STUDIES[name]


def _pictured(study: Study, metric: str, known: Sequence[str]) -> str:
    if metric and not (study.curves or study.axes):
        raise InputError(f"--metric is {metric!r}; allowed: only for studies that draw one metric alone")
    if metric and metric not in known:
        raise InputError(f"--metric is {metric!r}; choose one of {', '.join(known)}{nearest(metric, known)}")
    return metric or "ndcg@20"


def _with_reference(name: str, reference: str) -> Study:
    """The study; where it has a reference, that is one of its systems and the rival of all others."""
    study = lookup(name)
    if reference and not study.reference:
        able = ", ".join(other for other, each in STUDIES.items() if each.reference)
        raise InputError(f"--reference is {reference!r}, but {name} has no reference; allowed with: {able}")
    chosen = reference or study.reference
    if not chosen:
        return study
    known = recipe_names("models")
    if chosen not in known:
        raise InputError(f"--reference is {chosen!r}; allowed: {', '.join(known)}{nearest(chosen, known)}")
    models = tuple(dict.fromkeys((*study.models, chosen)))
    rivals = pairs({model: (chosen,) for model in models if model != chosen})
    return study._replace(models=models, rivals=rivals, reference=chosen)


def _order(
    study: Study,
    presets: Sequence[str],
    settings: Settings,
    seeds: int | None,
    only: Sequence[str],
    quick: bool,
    command: str,
) -> Order:
    if seeds is not None and seeds < 1:
        raise InputError(f"--seeds is {seeds}; allowed: 1 or more")
    if "run.seed" in settings:
        raise InputError("--set run.seed is for one run; allowed: --seeds N, which takes seeds 0 to N - 1")
    every = tuple(recipe_names("models"))
    systems = every if study.axes else study.models or every
    for model in only:
        if model not in systems:
            raise InputError(f"--only is {model!r}; allowed: {', '.join(systems)}{nearest(model, systems)}")
    wanted = only or (study.coarse if quick and study.coarse else study.models or every)
    return Order(
        models=tuple(model for model in systems if model in wanted or model == study.reference),
        seeds=seeds or (1 if quick else SEEDS),
        grid={} if quick else PAPER_GRID,
        quick={key: value for key, value in QUICK.items() if key not in settings} if quick else {},
        command=command,
    )

"""The options of a study, its definition, and the runs that each of its rows needs."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import product
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from alterrec.data.dataset import Dataset
from alterrec.errors import InputError, nearest
from alterrec.evaluation.sign_flips import Floats
from alterrec.models.catalogue import MODELS, Kind, lookup
from alterrec.models.reads import keys_read
from alterrec.recipe import Recipe
from alterrec.report.presentation import Presentation, Section
from alterrec.studies.queue import Failure, Plan, RunQueue, Settings, StudyRun
from alterrec.study_records import StudyResult

Grid = Mapping[str, Sequence[Any]]
# From the kind of every row, and the metrics by session (N, K) of those that have any, to pairs of a row and
# its baseline in each metric.
Baselines = Callable[[Mapping[str, Kind], Mapping[str, Floats]], Iterator[tuple[str, list[str]]]]

# Appendix F: what the paper searched for every system.
PAPER_GRID: Grid = {"optim.lr": (0.01, 0.001), "model.dropout": (0.1, 0.3, 0.5)}
# The settings of --quick.
QUICK: Settings = {"model.dim": 32, "schedule.epochs": 12, "data.prefixes": 4, "optim.lr": 0.01}
SEEDS = 3
ALL_SYSTEMS = tuple(sorted(MODELS))


@dataclass(frozen=True)
class StudyOptions:
    """Options of a study. The command line has an option for each of them.

    Attributes:
        out: folder of the study; default ``studies/NAME-DATA``, or ``studies/NAME-DATA-quick``.
        runs: folder of the runs, shared by studies; default ``study-runs`` next to ``out``.
        presets: presets of every run.
        settings: recipe keys that are the same in every run; they are not searched.
        seeds: number of seeds; default 3, or 1 if ``quick``.
        only: names of the systems to run; default those of the study. A sweep accepts any one system.
        skip: names of systems to leave out.
        over: recipe keys to sweep and their values, one or two keys in each sweep; default those of the
            paper.
        metric: metric of the studies that show a single one; default ``ndcg@20``.
        reference: system with which the longtail study compares all others; default ``bert4rec``.
        search: search the settings of every system; the study ``table1`` always does.
        quick: get a coarse answer in minutes, from the settings ``QUICK`` without a search.
        jobs: number of runs at a time.
        processes: number of processes that share each run.
        format, columns, drop_unknown: how to read the data, as for :func:`alterrec.fit`.
        locale: the part of a multilingual format to read; of several data sets one for all, or one for each,
            empty where there is none.
        command: command line that repeats the study, printed in its report.
        adapted: settings of ``quick`` in place of those of presets that do not fit the data or the machine;
            the study fills them in.
    """

    out: str | Path | None = None
    runs: str | Path | None = None
    presets: Sequence[str] = ("paper",)
    settings: Settings = field(default_factory=dict)
    seeds: int | None = None
    only: Sequence[str] = ()
    skip: Sequence[str] = ()
    over: Sequence[Grid] = ()
    metric: str = ""
    reference: str = ""
    search: bool = False
    quick: bool = False
    jobs: int = 1
    processes: int = 1
    format: str | None = None
    locale: str | Sequence[str] | None = None
    columns: Mapping[str, str] = field(default_factory=dict)
    drop_unknown: bool = False
    command: str = ""
    adapted: Settings = field(default_factory=dict)

    @property
    def num_seeds(self) -> int:
        """Number of seeds of each system that is trained."""
        return self.seeds or (1 if self.quick else SEEDS)

    @property
    def quick_settings(self) -> dict[str, Any]:
        """The settings that ``quick`` makes, without those that the user has set; else empty."""
        made = {**QUICK, **self.adapted} if self.quick else {}
        return {key: value for key, value in made.items() if key not in self.settings}

    @property
    def fixed(self) -> dict[str, Any]:
        """The settings of every run."""
        return {**self.quick_settings, **self.settings}

    @property
    def grid(self) -> dict[str, Sequence[Any]]:
        """What is searched: recipe key -> values."""
        wanted = self.search and not self.quick
        return {key: values for key, values in PAPER_GRID.items() if wanted and key not in self.settings}


class PlannedRow(NamedTuple):
    """A row of a study: a system, or a setting of one, and the runs that it needs.

    Attributes:
        label: its name in tables.
        model: its system.
        settings: the settings that the study makes for this row, without those that are searched.
        tried: one run with the first seed for each setting of the search.
        chosen: the run of them with the best validation score; None until all have ended.
        seeds: one run with the chosen setting for each seed.
        later: number of seeds whose setting is not chosen yet.
    """

    label: str
    model: str
    settings: Settings
    tried: tuple[StudyRun, ...]
    chosen: StudyRun | None
    seeds: tuple[StudyRun, ...]
    later: int


def best_baseline(kinds: Mapping[str, Kind], values: Mapping[str, Floats]) -> Iterator[tuple[str, list[str]]]:
    """Pair each row of the kind ``ours`` with the baseline that has the best test mean in each metric.

    Example:
        >>> kinds = {"alterrec": "ours", "sasrec": "baseline", "itemknn": "baseline"}
        >>> values = {"alterrec": np.array([[1.0, 1.0]]), "sasrec": np.array([[0.5, 0.1]])}
        >>> values["itemknn"] = np.array([[0.4, 0.2]])
        >>> list(best_baseline(kinds, values))
        [('alterrec', ['sasrec', 'itemknn'])]
    """
    names = [label for label in values if kinds[label] == "baseline"]
    if not names:
        return
    best_K = np.argmax([values[name].mean(0) for name in names], axis=0)
    for label in values:
        if kinds[label] == "ours":
            yield label, [names[best] for best in best_K]


def named_baselines(names: Mapping[str, Sequence[str]]) -> Baselines:
    """Pair rows with the baselines that ``names`` gives them, if both have values.

    Example:
        >>> chosen = named_baselines({"alterrec": ("independent", "alterrec_random")})
        >>> values = {name: np.zeros((3, 2)) for name in ("alterrec", "independent")}
        >>> list(chosen({}, values))
        [('alterrec', ['independent', 'independent'])]
    """

    def chosen(kinds: Mapping[str, Kind], values: Mapping[str, Floats]) -> Iterator[tuple[str, list[str]]]:
        for label, baselines in names.items():
            for baseline in baselines:
                if label in values and baseline in values:
                    yield label, [baseline] * values[label].shape[1]

    return chosen


def row_per_system(options: StudyOptions, queue: RunQueue) -> list[PlannedRow]:
    return [plan_row(model, queue, options.grid, options.num_seeds) for model in options.only]


@dataclass(frozen=True)
class Study:
    """The definition of a study; each file of a study has one, called ``STUDY``.

    Attributes:
        name: its name on the command line.
        summary: one line for ``alterrec list studies``.
        systems: the systems that it runs, in the order of its table.
        report: makes its page.
        complete: checks its own options and fills in their defaults; by default no change.
        accepts: which of the options ``over``, ``metric`` and ``reference`` it has.
        choices: further systems that ``only`` may name.
        plan: the rows that it needs, as far as finished runs determine them; by default one per system.
        baselines: the rows with which each row is compared; by default none.
        by_group: whether rows are also compared over the targets of each popularity group.
        extend: adds to ``study.json`` what other studies do not have; by default nothing.
        joint: makes the table whose column groups are data sets; None if the study has one data set only.
    """

    name: str
    summary: str
    systems: tuple[str, ...]
    report: Callable[[StudyResult], Presentation]
    complete: Callable[[StudyOptions], StudyOptions] = lambda options: options
    accepts: tuple[str, ...] = ()
    choices: tuple[str, ...] = ()
    plan: Callable[[StudyOptions, RunQueue], list[PlannedRow]] = row_per_system
    baselines: Callable[[StudyOptions], Baselines] | None = None
    by_group: bool = False
    extend: Callable[[StudyResult, RunQueue, Dataset], StudyResult] = lambda result, *_: result
    joint: Callable[[Sequence[StudyResult]], Section] | None = None


def check_name(option: str, name: str, known: Collection[str]) -> None:
    """Refuse the value of an option that is not among the known names."""
    if name not in known:
        raise InputError(f"{option} is {name!r}; choose one of {', '.join(known)}{nearest(name, known)}")


def has_dropout(recipe: Recipe, fixed: Collection[str]) -> bool:
    """Return whether ``model.dropout`` has an effect.

    The dropout of text changes together with it unless it is ``fixed``.

    Example:
        >>> from alterrec.recipe import resolve
        >>> [has_dropout(resolve(model, ["paper"]), ()) for model in ("srgnn", "sasrec", "alterrec")]
        [False, True, True]
        >>> has_dropout(resolve("alterrec", ["paper"]), ("text.dropout",))
        False
    """
    keys = keys_read(recipe)
    return "model.dropout" in keys or ("text.dropout" in keys and _text_follows(recipe, fixed))


def plan_row(
    model: str, queue: RunQueue, grid: Grid, seeds: int, *, settings: Settings | None = None, label: str = ""
) -> PlannedRow:
    """Plan a row as far as finished runs determine it: the search, then the seeds of the chosen setting.

    A system without training has one run. The run of the chosen setting is also that of the first seed. A
    system that refused the data once is not tried with other settings.

    Args:
        model: the system.
        queue: its runs.
        grid: what is searched.
        seeds: number of seeds, if the system is trained.
        settings: settings of this row.
        label: name of the row; default the name of the system.
    """
    if not lookup(model).trains:
        grid, seeds = {}, 1
    own = dict(settings or {})
    row = PlannedRow(label or model, model, own, (), None, (), 0)
    tried = tuple(queue.make(model, own | setting, 0) for setting in _settings(model, grid, queue, own))
    refused = [run for run in tried if run in queue.failures and queue.failures[run].refused]
    if refused:
        return row._replace(tried=(refused[0],))
    ended = all(map(queue.ended, tried))
    chosen = choose(tried, queue) if ended else tried[0] if len(tried) == 1 else None
    if chosen is None:
        return row._replace(tried=tried, later=0 if ended else seeds - 1)
    by_seed = tuple(queue.make(model, chosen.settings, seed) for seed in range(seeds))
    return row._replace(tried=tried, chosen=chosen, seeds=by_seed)


def choose(tried: Sequence[StudyRun], queue: RunQueue) -> StudyRun | None:
    """Return the finished run with the best validation score, the first of equal ones."""
    scores = {run: score for run in tried if (score := validation(run, queue)) is not None}
    return max(scores, key=scores.__getitem__, default=None)


def validation(run: StudyRun, queue: RunQueue) -> float | None:
    """Return the validation score in ``schedule.metric`` of a run; None if it has not finished."""
    read = queue.result(run)
    return read.result.valid["score"].get(run.recipe.schedule.metric, 0.0) if read else None


def failure_of(row: PlannedRow, queue: RunQueue) -> Failure | None:
    """Return why a row has no numbers, if all runs of its search have failed."""
    if row.chosen is not None or not all(map(queue.ended, row.tried)):
        return None
    failed = [queue.failures[run] for run in row.tried if run in queue.failures]
    return failed[0] if failed else None


def plan_of(rows: Sequence[PlannedRow]) -> Plan:
    """Collect the runs of all rows; rows may share runs."""
    needed = {run.name: run for row in rows for run in (*row.tried, *row.seeds)}
    return Plan(list(needed.values()), [row.model for row in rows for _ in range(row.later)])


def _settings(model: str, grid: Grid, queue: RunQueue, own: Settings) -> Iterator[dict[str, Any]]:
    """Yield the points of the grid, without keys that are set already and dropout that has no effect."""
    fixed = {**queue.settings, **own}
    axes = {key: values for key, values in grid.items() if key not in fixed}
    base = queue.make(model, own, 0).recipe
    if "model.dropout" in axes and not has_dropout(base, fixed):
        axes["model.dropout"] = axes["model.dropout"][:1]
    follows = _text_follows(base, fixed)
    for point in product(*axes.values()):
        setting = dict(zip(axes, point, strict=True))
        if "model.dropout" in setting and follows:
            setting["text.dropout"] = setting["model.dropout"]
        yield setting


def _text_follows(recipe: Recipe, fixed: Collection[str]) -> bool:
    return recipe.text.dropout == recipe.model.dropout and "text.dropout" not in fixed

"""A study: runs that are needed for a question of the paper, carried out, then presented.

A study is a function from what was asked and what is known to an :class:`Answer`: which runs it needs, and
how to write what is known. It is asked again as results come in, so a study that was stopped, or is worked on
by several processes, goes on by being asked once more.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from alterrec.errors import InputError, nearest
from alterrec.experiments.rows import PAPER_GRID, Order
from alterrec.experiments.source import read_data
from alterrec.experiments.study_runs import BUILT_IN, Answer, Failure, Runs, Settings, Source
from alterrec.experiments.table1 import table1
from alterrec.experiments.work import Listener, StudyEvent, work
from alterrec.recipe import recipe_names, resolve

# A coarse answer: these settings, one seed, no search.
QUICK: Settings = {"model.dim": 32, "schedule.epochs": 12, "data.prefixes": 4, "optim.lr": 0.01}
QUICK_ROWS = (
    *("popularity", "itemknn", "vsknn", "id_only", "nfrec_concat", "independent"),
    *("sasrec", "bert4rec", "bsarec", "srgnn", "hggnn", "core", "gru4rec"),
    *("unisrec", "fdsa", "s3rec", "llm2sasrec", "alterrec", "alterrec_aug"),
)
SEEDS = 3


class Study(NamedTuple):
    """A row of the table of studies."""

    summary: str
    answer: Callable[[Order, Runs], Answer]


STUDIES = {
    "table1": Study("every system under one protocol, with deviations over seeds and paired tests", table1),
}


@dataclass(frozen=True)
class StudyResult:
    """How a study ended.

    Attributes:
        path: its folder.
        findings: what it found, in words.
        failed: runs that failed, and why; refused ones, which are N/A in tables, are not among them.
        stopped: whether Ctrl-C ended it.
    """

    path: Path
    findings: list[str]
    failed: dict[str, Failure]
    stopped: bool


def run_study(
    name: str,
    source: Source = BUILT_IN,
    *,
    out: Path | None = None,
    presets: Sequence[str] = ("paper",),
    settings: Mapping[str, object] | None = None,
    seeds: int | None = None,
    only: Sequence[str] = (),
    quick: bool = False,
    jobs: int = 1,
    command: str = "",
    listen: Listener = lambda event: None,
) -> StudyResult:
    """Plan a study, run what is missing and write what is known.

    Args:
        name: a key of ``STUDIES``.
        source: the data.
        out: the study's folder; default ``studies/NAME-DATA``, with ``-quick`` behind where it is.
        presets: of every run.
        settings: recipe keys fixed for every run; a fixed key is not searched.
        seeds: default 3, or 1 where ``quick``.
        only: rows; default all systems, or ``QUICK_ROWS`` where ``quick``.
        quick: a coarse answer by the settings ``QUICK``.
        jobs: runs at a time.
        command: what re-makes the study, to be written down.
        listen: told how far it is.

    Raises:
        InputError: anything wrong with the input, or every row refused it.
    """
    study = lookup(name)
    order = _order(presets, settings or {}, seeds, only, quick, command)
    if jobs < 1:
        raise InputError(f"--jobs is {jobs}; allowed: 1 or more")
    fixed = {**order.quick, **(settings or {})}
    recipes = [resolve(model, presets, fixed) for model in order.models]
    data = read_data(recipes[0], source.data, source.columns, source.drop_unknown)
    safe = re.sub(r"[^\w.-]+", "-", data.name)
    path = out or Path("studies") / f"{name}-{safe}{'-quick' if quick else ''}"
    runs = Runs(path / "runs", source, data.fingerprint, presets, fixed)
    listen(StudyEvent(f"{name} on {data.name}: {len(order.models)} systems, in {path}"))
    if jobs > 1 and not recipes[0].run.threads:
        listen(
            StudyEvent(f"{jobs} runs at a time use all cores each; --set run.threads=1 gives each its own")
        )
    stopped = False
    try:
        work(lambda: study.answer(order, runs).plan, runs, jobs=jobs, listen=listen)
    except KeyboardInterrupt:
        stopped = True
    answer = study.answer(order, runs)
    known = any(runs.result(run) is not None for run in answer.plan.runs)
    refused = [failure for failure in runs.failures.values() if failure.refused]
    if not known and refused and len(refused) == len(runs.failures):
        raise InputError(refused[0].reason)
    failed = {run.label: failure for run, failure in runs.failures.items() if not failure.refused}
    return StudyResult(path, answer.write(path) if known else [], failed, stopped)


def lookup(name: str) -> Study:
    """The study of a name; InputError with the nearest name otherwise."""
    if name not in STUDIES:
        raise InputError(f"study {name!r} is unknown; allowed: {', '.join(STUDIES)}{nearest(name, STUDIES)}")
    return STUDIES[name]


def _order(
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
    systems = recipe_names("models")
    for model in only:
        if model not in systems:
            raise InputError(f"--only is {model!r}; allowed: {', '.join(systems)}{nearest(model, systems)}")
    wanted = only or (QUICK_ROWS if quick else systems)
    return Order(
        models=tuple(model for model in systems if model in wanted),
        seeds=seeds or (1 if quick else SEEDS),
        grid={} if quick else PAPER_GRID,
        quick={key: value for key, value in QUICK.items() if key not in settings} if quick else {},
        command=command,
    )

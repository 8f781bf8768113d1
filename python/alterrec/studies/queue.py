"""The runs of a study: folders, commands and expected time, and the scheduler that carries them out.

Each run has its own process. Several run at a time, and share the folder with other studies.
"""

from __future__ import annotations

import json
import re
import shutil
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

from alterrec.data.readers import DataSource
from alterrec.errors import WRONG_INPUT, number_of
from alterrec.locks import LockFile, is_held
from alterrec.models.catalogue import lookup
from alterrec.models.reads import settings_read
from alterrec.progress import Event, Listener, ignore
from alterrec.recipe import Recipe, resolve
from alterrec.recipe_digests import first_release_digest, recipe_digest
from alterrec.report.tables import duration
from alterrec.results import CHECKPOINT, RUN_LOCK, RunFolder, read_run
from alterrec.studies.estimates import DataSizes, estimate_seconds

Settings = Mapping[str, Any]

# A study compares rows itself and writes one report; 200 runs would each write a report of their own.
EVERY_RUN = {"run.baselines": False, "run.report": False}

POLL_SECONDS = 0.25
# torchrun, whose processes are all on this machine, at a free port.
TORCHRUN = ("torch.distributed.run", "--standalone")


@dataclass(frozen=True, eq=False)
class StudyRun:
    """One run of a study.

    Attributes:
        name: name of its folder, ``MODEL-<digest of recipe and data>``.
        recipe: its recipe.
        settings: the settings that the study chose for this run, without its seed.
        label: name in messages.
    """

    name: str
    recipe: Recipe
    settings: Settings
    label: str


class Failure(NamedTuple):
    """Why a run has no result.

    Attributes:
        reason: a message.
        code: exit code; 2 means that the settings do not work, for example a learning rate that diverges.
        refused: the run stopped before it wrote anything: the system does not suit the data, or the recipe
            does not suit the system.
    """

    reason: str
    code: int
    refused: bool = False


class Plan(NamedTuple):
    """The runs that a study needs, as far as they are known.

    Attributes:
        runs: all runs, including finished ones.
        later: the system of each further run whose settings depend on results still missing.
    """

    runs: list[StudyRun]
    later: list[str]


class Work(NamedTuple):
    """The part of one data set in a study: the plan of its runs, which results may extend, and the runs."""

    plan: Callable[[], Plan]
    runs: RunQueue

    def now(self) -> tuple[Plan, RunQueue]:
        """Return the runs that are needed as far as they are known now."""
        return self.plan(), self.runs


Planned = Sequence[tuple[Plan, "RunQueue"]]


@dataclass
class RunQueue:
    """The runs in one folder, shared by all studies of the same data.

    Attributes:
        folder: contains run folders, locks and logs.
        source: the data.
        fingerprint: fingerprint of the data.
        presets: presets of every run.
        settings: settings of every run; those of a single run take precedence.
        sizes: sizes of the data, to estimate the time of runs before any has finished.
        failures: runs that failed in this process. They are not stored, so that a later process tries again.
        prefix: put before the labels of runs, where a study has several data sets.
        processes: number of processes that share each run.
    """

    folder: Path
    source: DataSource
    fingerprint: str
    presets: Sequence[str] = ("paper",)
    settings: Settings = field(default_factory=dict)
    sizes: DataSizes | None = None
    failures: dict[StudyRun, Failure] = field(default_factory=dict)
    prefix: str = ""
    processes: int = 1
    _made: dict[str, StudyRun] = field(default_factory=dict)
    _finished: dict[StudyRun, RunFolder] = field(default_factory=dict)

    def make(self, model: str, settings: Settings, seed: int) -> StudyRun:
        """Return the run of a model; the same arguments give the same object.

        Raises:
            InputError: the model or a key is unknown, or a value is out of range.
        """
        key = json.dumps([model, dict(settings), seed])
        if key not in self._made:
            given = {**self.settings, **EVERY_RUN, **settings, "run.seed": seed}
            recipe = resolve(model, self.presets, given)
            name = f"{model}-{recipe_digest(recipe, self.fingerprint)}"
            earlier = f"{model}-{first_release_digest(recipe, self.fingerprint)}"
            # Under the other rules, version 0.1.0 trained and ranked in another way.
            same_rule = recipe.data.exclude_seen == "never"
            if same_rule and (self.folder / earlier / "result.json").exists():
                name = earlier
            short = {name.partition(".")[2]: value for name, value in settings.items()}
            label = ", ".join([model, *(f"{name} {value}" for name, value in short.items()), f"seed {seed}"])
            self._made[key] = StudyRun(name, recipe, settings, f"{self.prefix}{label}")
        return self._made[key]

    def result(self, run: StudyRun) -> RunFolder | None:
        """Return the folder of a run if it has finished, else None."""
        if run not in self._finished and (self.path(run) / "result.json").exists():
            read = read_run(self.path(run))
            if read.result.stopped != "interrupted":
                self._finished[run] = read
        return self._finished.get(run)

    def ended(self, run: StudyRun) -> bool:
        """Return whether a run has finished or failed."""
        return self.result(run) is not None or run in self.failures

    def path(self, run: StudyRun) -> Path:
        """Return the folder of a run."""
        return self.folder / run.name

    def command(self, run: StudyRun) -> list[str]:
        """Return the command line that starts or resumes a run in a separate process."""
        return [
            sys.executable,
            *(["-m", *TORCHRUN, f"--nproc-per-node={self.processes}"] if self.processes > 1 else []),
            *("-m", "alterrec.worker", "train", run.recipe.model_name),
            *(f"--out={self.path(run)}", f"--preset={','.join(self.presets)}"),
            *self.source.arguments(),
            *(f"--set={key}={setting_text(value)}" for key, value in self.settings_of(run).items()),
            *(["--resume"] if self._resumes(run) else []),
        ]

    def settings_of(self, run: StudyRun) -> dict[str, Any]:
        """Return the settings of a run, without those that it does not read."""
        given = {**self.settings, **EVERY_RUN, **run.settings, "run.seed": run.recipe.run.seed}
        return settings_read(run.recipe.model_name, self.presets, given)

    def clear(self, run: StudyRun) -> None:
        """Delete the checkpoint of a finished run, and a run that was killed in its first epoch.

        The former is larger than the model; the latter has no checkpoint to resume from.
        """
        if self.result(run) is not None:
            shutil.rmtree((self.path(run) / CHECKPOINT).parent, ignore_errors=True)
        elif not self._resumes(run):
            shutil.rmtree(self.path(run), ignore_errors=True)

    def failure(self, run: StudyRun, code: int, log: str) -> Failure:
        """Return why a run failed, from its exit code and its log."""
        if self.processes > 1:
            code, log = first_failure(code, log)
        lines = [line for line in log.splitlines() if line.strip()]
        last = f"the last line of its log is {lines[-1]!r}" if lines else "its log is empty"
        if code == WRONG_INPUT:
            errors = [line for line in lines if line.startswith("error: ")]
            reason = errors[-1].removeprefix("error: ") if errors else last
            return Failure(reason, code, refused=not (self.path(run) / "recipe.toml").exists())
        # A run that could still answer the signal returns 128 more than its number, as shells do.
        signal = -code if code < 0 else code - 128 if code in (129, 130, 143) else 0
        if signal:
            memory = ", perhaps because memory ran out" if signal == 9 else ""
            return Failure(f"killed by signal {signal}{memory}; {last}", code)
        if code:
            return Failure(f"exit code {code}: {lines[-1] if lines else last}", code)
        return Failure(f"no result; {last}", code)

    def _resumes(self, run: StudyRun) -> bool:
        return (self.path(run) / CHECKPOINT).exists()


def first_failure(code: int, log: str) -> tuple[int, str]:
    """Return the exit code of the process that failed first under torchrun, and the log without its lines.

    Args:
        code: exit code of torchrun, which is 1 for all failures of processes.
        log: what the processes and torchrun have written.

    Example:
        >>> torchrun = "E1129 17:46 1 torch/distributed/elastic: failed\\nRoot Cause:\\n  exitcode  : 2"
        >>> first_failure(1, f"error: training diverged\\n{torchrun}")
        (2, 'error: training diverged\\n')
    """
    cause = re.search(r"Root Cause.*?exitcode\s*:\s*(-?\d+)", log, re.DOTALL)
    own = re.split(r"^[A-Z]\d{4} .*torch/distributed/", log, maxsplit=1, flags=re.MULTILINE)[0]
    return int(cause[1]) if cause else code, own


def setting_text(value: Any) -> str:
    """Return a value as ``--set`` expects it.

    Example:
        >>> setting_text(False), setting_text(0.01), setting_text("learned")
        ('false', '0.01', 'learned')
        >>> setting_text(("title", "brand"))
        'title,brand'
    """
    if isinstance(value, tuple | list):
        return ",".join(value)
    return value if isinstance(value, str) else json.dumps(value)


@dataclass
class _ActiveRun:
    """A run that this process has started."""

    runs: RunQueue
    lock: LockFile
    process: subprocess.Popen[bytes]
    log: Path
    began: float = field(default_factory=time.monotonic)


def run_plan(work: Sequence[Work], *, jobs: int = 1, listen: Listener = ignore) -> None:
    """Work until every run of every plan is finished or has failed, here or in another process.

    Args:
        work: for each data set the function that returns the runs that are needed, which is called again and
            again, as results may require more runs; and their queue, in which failures are recorded.
        jobs: number of runs at a time in this process.
        listen: called at every start and end, and several times a second with the current state.

    Raises:
        KeyboardInterrupt: Ctrl-C. Active runs are stopped first; next time they resume from their last epoch.
    """
    active: dict[StudyRun, _ActiveRun] = {}
    announced_wait = False
    try:
        listen(Event("notice", describe([each.now() for each in work], jobs)))
        while True:
            wanted = [each.now() for each in work]
            free = [
                (run, runs)
                for plan, runs in wanted
                for run in plan.runs
                if run not in active and not runs.ended(run)
            ]
            if not free and not active:
                # Processes that were killed just after their run had finished left their locks.
                for path in (_lock_path(run, runs) for plan, runs in wanted for run in plan.runs):
                    if path.exists() and (lock := LockFile.try_acquire(path)):
                        lock.release()
                return
            for run, runs in free:
                if len(active) < jobs and (started := _start(run, runs)):
                    active[run] = started
                    listen(_event(f"{run.label}: started", wanted, active))
            if free and not active and not announced_wait:
                announced_wait = True
                listen(
                    _event(f"waiting for {number_of(len(free), 'run')} of other processes", wanted, active)
                )
            time.sleep(POLL_SECONDS)
            for run in list(active):
                line = _ended(run, active[run])
                if line is not None:
                    del active[run]
                    wanted = [each.now() for each in work]
                    left = _left(wanted, jobs, active)
                    listen(_event(f"{run.label}: {line}{left}", wanted, active))
            listen(_event("", wanted, active))
    finally:
        for each in active.values():
            _stop(each)


def describe(planned: Planned, jobs: int) -> str:
    """Return how many runs are needed and finished, and about how long the others will take.

    A run is expected to take as long as finished runs of its model, else as long as all finished runs; the
    time of a run that trains is not estimated from non-neural baselines.

    Args:
        planned: for each data set the runs that are needed, and their queue.
        jobs: number of runs at a time.
    """
    finished = sum(runs.result(run) is not None for plan, runs in planned for run in plan.runs)
    return f"{_needed(planned)} runs, {finished} finished{_left(planned, jobs, {})}"


def _needed(planned: Planned) -> int:
    return sum(len(plan.runs) + len(plan.later) for plan, _ in planned)


def seconds_left(plan: Plan, runs: RunQueue, jobs: int, elapsed: dict[StudyRun, float]) -> float | None:
    """Estimate the seconds until all runs have ended; None if no comparable run has finished.

    Args:
        plan: the runs that are needed.
        runs: the folder with the finished runs.
        jobs: number of runs at a time.
        elapsed: active run -> seconds since its start.
    """
    finished = [read.result for run in plan.runs if (read := runs.result(run)) is not None]

    def expected(model: str) -> list[float]:
        same = [result.seconds for result in finished if result.model == model]
        known = same or [result.seconds for result in finished if result.epochs or not lookup(model).trains]
        return [statistics.fmean(known)] if known else []

    to_go = [(run.recipe.model_name, elapsed.get(run, 0.0)) for run in plan.runs if not runs.ended(run)]
    to_go += [(model, 0.0) for model in plan.later]
    guesses = [max(guess - spent, 0.0) for model, spent in to_go for guess in expected(model)]
    return sum(guesses) / jobs if len(guesses) == len(to_go) else None


def guess_seconds(plan: Plan, runs: RunQueue, jobs: int) -> float | None:
    """Estimate the seconds left from the size of the data, before any run has finished; None without sizes.

    A run whose settings are not chosen yet counts as the mean of the other runs of its model.
    """
    if runs.sizes is None:
        return None
    known: dict[str, list[float]] = {}
    for run in plan.runs:
        if not runs.ended(run):
            seconds = estimate_seconds(run.recipe, runs.sizes)
            known.setdefault(run.recipe.model_name, []).append(seconds)
    later = sum(statistics.fmean(known[model]) for model in plan.later if model in known)
    return (sum(map(sum, known.values())) + later) / jobs


def _left(planned: Planned, jobs: int, active: dict[StudyRun, _ActiveRun]) -> str:
    open_runs = sum(sum(not runs.ended(run) for run in plan.runs) + len(plan.later) for plan, runs in planned)
    if not open_runs:
        return ""
    elapsed = {run: time.monotonic() - each.began for run, each in active.items()}
    measured = [seconds_left(plan, runs, jobs, elapsed) for plan, runs in planned]
    guessed = [
        guess_seconds(plan, runs, jobs) if left is None else left
        for left, (plan, runs) in zip(measured, planned, strict=True)
    ]
    known = [left for left in guessed if left is not None]
    time_left = "the time is not known yet"
    if None not in measured:
        time_left = f"about {duration(sum(known))}"
    elif len(known) == len(guessed):
        time_left = f"roughly {duration(sum(known))} (estimated from the size of the data)"
    return f"; {open_runs} to go, {time_left}"


def _start(run: StudyRun, runs: RunQueue) -> _ActiveRun | None:
    """Start a run; None if another process is working on it or has just finished it."""
    lock = LockFile.try_acquire(_lock_path(run, runs))
    if lock is None:
        return None
    # The process of a run can live a little longer than that of its study on another host.
    if runs.ended(run) or is_held(runs.path(run) / RUN_LOCK):
        lock.release()
        return None
    runs.clear(run)
    log = runs.folder / f"{run.name}.log"
    with log.open("wb") as file:
        process = subprocess.Popen(
            runs.command(run),
            stdin=subprocess.PIPE,
            stdout=file,
            stderr=subprocess.STDOUT,
            # Ctrl-C in the terminal goes to the study alone, which then stops its runs.
            start_new_session=True,
        )
    return _ActiveRun(runs, lock, process, log)


def _ended(run: StudyRun, active: _ActiveRun) -> str | None:
    """Return a line about how the run ended; None while it is active."""
    runs = active.runs
    code = active.process.poll()
    if code is None:
        if active.lock.touch():
            return None
        _stop(active)
        return "taken over by another process"
    finished = runs.result(run)
    if finished is not None:
        runs.clear(run)
    _stop(active)
    if finished is not None:
        metric = run.recipe.schedule.metric
        value = finished.result.valid.get("score", {}).get(metric, 0.0)
        return f"{duration(finished.result.seconds)}, validation {metric} {100 * value:.2f}%"
    log = active.log.read_text("utf-8", errors="replace")
    failure = runs.failures[run] = runs.failure(run, code, log)
    return f"{'refused' if failure.refused else 'failed'}: {failure.reason}"


def _stop(active: _ActiveRun) -> None:
    """End the process, if it is still running, and release its lock. Files are complete at any time."""
    active.process.kill()
    active.process.wait()
    if active.process.stdin is not None:
        active.process.stdin.close()
    active.lock.release()


def _lock_path(run: StudyRun, runs: RunQueue) -> Path:
    return runs.folder / f"{run.name}.lock"


def _event(message: str, planned: Planned, active: dict[StudyRun, _ActiveRun]) -> Event:
    ended = sum(runs.ended(run) for plan, runs in planned for run in plan.runs)
    now = tuple(f"{run.label}: {_last_line(each.log)}" for run, each in active.items())
    return Event("runs", message, ended, _needed(planned), now)


def _last_line(log: Path) -> str:
    with log.open("rb") as file:
        file.seek(max(log.stat().st_size - 1000, 0))
        lines = file.read().decode("utf-8", errors="replace").split("\n")
    return next((line.strip() for line in reversed(lines) if line.strip()), "starting")

"""Run a plan: each run in its own process, several at a time, sharing the folder with other studies."""

from __future__ import annotations

import statistics
import subprocess
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from alterrec.models.catalogue import lookup
from alterrec.progress import Event, Listener, ignore
from alterrec.report.tables import duration
from alterrec.studies.locks import LockFile
from alterrec.studies.queue import Plan, RunQueue, StudyRun, estimate_seconds

POLL_SECONDS = 0.25


@dataclass
class _ActiveRun:
    """A run that this process has started."""

    lock: LockFile
    process: subprocess.Popen[bytes]
    log: Path
    began: float = field(default_factory=time.monotonic)


def run_plan(plan: Callable[[], Plan], runs: RunQueue, *, jobs: int = 1, listen: Listener = ignore) -> None:
    """Work until every run of the plan is finished or has failed, here or in another process.

    Args:
        plan: returns the runs that are needed; called again and again, as results may require more runs.
        runs: the folder of the runs; failures are recorded in it.
        jobs: number of runs at a time in this process.
        listen: called at every start and end, and several times a second with the current state.

    Raises:
        KeyboardInterrupt: Ctrl-C. Active runs are stopped first; next time they resume from their last epoch.
    """
    active: dict[StudyRun, _ActiveRun] = {}
    announced_wait = False
    try:
        listen(Event("notice", describe(plan(), runs, jobs)))
        while True:
            wanted = plan()
            free = [run for run in wanted.runs if run not in active and not runs.ended(run)]
            if not free and not active:
                _remove_old_locks(wanted, runs)
                return
            for run in free:
                if len(active) < jobs and (started := _start(run, runs)):
                    active[run] = started
                    listen(_event(f"{run.label}: started", wanted, runs, active))
            if free and not active and not announced_wait:
                announced_wait = True
                listen(_event(f"waiting for {len(free)} runs of other processes", wanted, runs, active))
            time.sleep(POLL_SECONDS)
            for run in list(active):
                line = _ended(run, active[run], runs)
                if line is not None:
                    del active[run]
                    wanted = plan()
                    left = _left(wanted, runs, jobs, active)
                    listen(_event(f"{run.label}: {line}{left}", wanted, runs, active))
            listen(_event("", wanted, runs, active))
    finally:
        for each in active.values():
            _stop(each)


def describe(plan: Plan, runs: RunQueue, jobs: int) -> str:
    """Return how many runs are needed and finished, and about how long the others will take.

    A run is expected to take as long as finished runs of its model, else as long as all finished runs; the
    time of a run that trains is not estimated from non-neural baselines.
    """
    finished = sum(runs.result(run) is not None for run in plan.runs)
    needed = len(plan.runs) + len(plan.later)
    return f"{needed} runs, {finished} finished{_left(plan, runs, jobs, {})}"


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


def _guess(plan: Plan, runs: RunQueue, jobs: int) -> float | None:
    """Estimate the seconds left from the size of the data, before any run has finished.

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


def _left(plan: Plan, runs: RunQueue, jobs: int, active: dict[StudyRun, _ActiveRun]) -> str:
    open_runs = sum(not runs.ended(run) for run in plan.runs) + len(plan.later)
    if not open_runs:
        return ""
    elapsed = {run: time.monotonic() - each.began for run, each in active.items()}
    left = seconds_left(plan, runs, jobs, elapsed)
    if left is not None:
        return f"; {open_runs} to go, about {duration(left)}"
    rough = _guess(plan, runs, jobs)
    if rough is None:
        return f"; {open_runs} to go, the time is not known yet"
    return f"; {open_runs} to go, roughly {duration(rough)} (estimated from the size of the data)"


def _start(run: StudyRun, runs: RunQueue) -> _ActiveRun | None:
    """Start a run; None if another process is working on it or has just finished it."""
    lock = LockFile.try_acquire(_lock_path(run, runs))
    if lock is None:
        return None
    if runs.ended(run):
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
    return _ActiveRun(lock, process, log)


def _ended(run: StudyRun, active: _ActiveRun, runs: RunQueue) -> str | None:
    """Return a line about how the run ended; None while it is active."""
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


def _remove_old_locks(plan: Plan, runs: RunQueue) -> None:
    """Remove the locks of processes that were killed just after their run had finished."""
    for run in plan.runs:
        path = _lock_path(run, runs)
        if path.exists() and (lock := LockFile.try_acquire(path)):
            lock.release()


def _lock_path(run: StudyRun, runs: RunQueue) -> Path:
    return runs.folder / f"{run.name}.lock"


def _event(message: str, plan: Plan, runs: RunQueue, active: dict[StudyRun, _ActiveRun]) -> Event:
    ended = sum(map(runs.ended, plan.runs))
    now = tuple(f"{run.label}: {_last_line(each.log)}" for run, each in active.items())
    return Event("runs", message, ended, len(plan.runs) + len(plan.later), now)


def _last_line(log: Path) -> str:
    with log.open("rb") as file:
        file.seek(max(log.stat().st_size - 1000, 0))
        lines = file.read().decode("utf-8", errors="replace").split("\n")
    return next((line.strip() for line in reversed(lines) if line.strip()), "starting")

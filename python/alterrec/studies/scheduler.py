"""Carry out a plan: runs in processes of their own, some at a time, beside others who work in the folder."""

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
class _Active:
    """A run at work here."""

    lock: LockFile
    process: subprocess.Popen[bytes]
    log: Path
    began: float = field(default_factory=time.monotonic)


def work(plan: Callable[[], Plan], runs: RunQueue, *, jobs: int = 1, listen: Listener = ignore) -> None:
    """Work until every run of the plan is finished or has failed, here or in another process.

    Args:
        plan: what is needed; asked again and again, as results may call for further runs.
        runs: where runs lie; failures are noted there.
        jobs: runs at a time in this process.
        listen: told of every start and end, and several times a second of those at work.

    Raises:
        KeyboardInterrupt: Ctrl-C; runs at work are stopped first and go on from their last epoch next time.
    """
    active: dict[StudyRun, _Active] = {}
    told_of_others = False
    try:
        listen(Event("notice", describe(plan(), runs, jobs)))
        while True:
            wanted = plan()
            free = [run for run in wanted.runs if run not in active and not runs.ended(run)]
            if not free and not active:
                _tidy(wanted, runs)
                return
            for run in free:
                if len(active) < jobs and (started := _start(run, runs)):
                    active[run] = started
                    listen(_event(f"{run.label}: started", wanted, runs, active))
            if free and not active and not told_of_others:
                told_of_others = True
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
    """How many runs are needed, how many finished, and about how long the rest takes.

    The time of a run is that of finished runs of its model, else of all; one that trains is not judged by
    those that count.
    """
    finished = sum(runs.result(run) is not None for run in plan.runs)
    needed = len(plan.runs) + len(plan.later)
    return f"{needed} runs, {finished} finished{_left(plan, runs, jobs, {})}"


def seconds_left(plan: Plan, runs: RunQueue, jobs: int, elapsed: dict[StudyRun, float]) -> float | None:
    """Expected seconds until all runs have ended, None where nothing is known yet.

    Args:
        plan: what is needed.
        runs: what is finished.
        jobs: runs at a time.
        elapsed: seconds that runs at work have had.
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
    """Seconds by rule of thumb; a run whose settings are open takes as long as others of its model."""
    if runs.sizes is None:
        return None
    known: dict[str, list[float]] = {}
    for run in plan.runs:
        if not runs.ended(run):
            seconds = estimate_seconds(run.recipe, runs.sizes)
            known.setdefault(run.recipe.model_name, []).append(seconds)
    later = sum(statistics.fmean(known[model]) for model in plan.later if model in known)
    return (sum(map(sum, known.values())) + later) / jobs


def _left(plan: Plan, runs: RunQueue, jobs: int, active: dict[StudyRun, _Active]) -> str:
    open_runs = sum(not runs.ended(run) for run in plan.runs) + len(plan.later)
    if not open_runs:
        return ""
    elapsed = {run: time.monotonic() - each.began for run, each in active.items()}
    left = seconds_left(plan, runs, jobs, elapsed)
    if left is not None:
        return f"; {open_runs} to go, about {duration(left)}"
    rough = _guess(plan, runs, jobs)
    if rough is None:
        return f"; {open_runs} to go, how long is not known yet"
    return f"; {open_runs} to go, roughly {duration(rough)} by the size of the data, better known after a run"


def _start(run: StudyRun, runs: RunQueue) -> _Active | None:
    """The run at work, or None where another process has it or has just finished it."""
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
            # Ctrl-C in the terminal is for the study, which then stops its runs.
            start_new_session=True,
        )
    return _Active(lock, process, log)


def _ended(run: StudyRun, active: _Active, runs: RunQueue) -> str | None:
    """How the run ended in words; None while it is at work."""
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


def _stop(active: _Active) -> None:
    """End the process if it still works, and give its claim up. Files are whole whenever it ends."""
    active.process.kill()
    active.process.wait()
    if active.process.stdin is not None:
        active.process.stdin.close()
    active.lock.release()


def _tidy(plan: Plan, runs: RunQueue) -> None:
    """Remove the locks of processes that were killed just after their run had finished."""
    for run in plan.runs:
        path = _lock_path(run, runs)
        if path.exists() and (lock := LockFile.try_acquire(path)):
            lock.release()


def _lock_path(run: StudyRun, runs: RunQueue) -> Path:
    return runs.folder / f"{run.name}.lock"


def _event(message: str, plan: Plan, runs: RunQueue, active: dict[StudyRun, _Active]) -> Event:
    ended = sum(map(runs.ended, plan.runs))
    now = tuple(f"{run.label}: {_last_line(each.log)}" for run, each in active.items())
    return Event("runs", message, ended, len(plan.runs) + len(plan.later), now)


def _last_line(log: Path) -> str:
    with log.open("rb") as file:
        file.seek(max(log.stat().st_size - 1000, 0))
        lines = file.read().decode("utf-8", errors="replace").split("\n")
    return next((line.strip() for line in reversed(lines) if line.strip()), "starting")

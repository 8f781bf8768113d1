"""What the command line shows: progress of a run and tables of its results.

Progress is live on a terminal and one plain line an epoch elsewhere; a reader that went away never
stops a training.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

from alterrec.report.tables import (
    BASELINE_NAMES,
    VIEW_NAMES,
    Table,
    count,
    duration,
    metric_table,
    percent,
    show,
)

if TYPE_CHECKING:
    from rich.progress import Progress, TaskID

    from alterrec.studies.scheduler import StudyEvent
    from alterrec.training.trainer import Event

WATCHED = "ndcg@20"


def say(line: str) -> None:
    """Print a line at once; where nobody reads any more, be silent from here on."""
    try:
        print(line, flush=True)
    except BrokenPipeError:
        be_silent()


def complain(line: str) -> None:
    """Print a line on standard error."""
    print(line, file=sys.stderr, flush=True)


def be_silent() -> None:
    """Send standard output to nowhere, so that no later print nor the flush at exit can fail."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


class Watcher:
    """A listener of :func:`alterrec.fit` that shows how far the run is.

    Example:
        >>> from alterrec.training.trainer import Event
        >>> with Watcher(live=False) as watch:
        ...     watch(Event("epoch_end", epoch=3, epochs=12, phase="id taught by text", loss=6.25,
        ...                 valid={"score": {"ndcg@20": 0.2, "hits@20": 0.4}}, seconds_left=75.0))
        epoch 3/12  id taught by text  loss 6.250  validation NDCG@20 20.0%  1 min 15 s left
    """

    def __init__(self, live: bool) -> None:
        self._bar: Progress | None = _bar() if live else None
        self._task: TaskID | None = None
        self._left = ""

    def __enter__(self) -> Self:
        if self._bar is not None:
            self._bar.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._bar is not None:
            self._bar.stop()

    def __call__(self, event: Event) -> None:
        """Show one event."""
        if event.kind in ("plan", "notice"):
            self._print(event.message)
        elif event.kind == "epoch_end":
            self._print(_epoch_line(event))
        if self._bar is not None and event.kind in ("epoch_start", "step", "epoch_end"):
            self._advance(self._bar, event)
        elif self._bar is not None and self._task is not None:
            # What follows the last epoch has no length to show; another epoch brings the bar back.
            self._bar.update(self._task, visible=False)

    def _print(self, line: str) -> None:
        if self._bar is None:
            say(line)
        else:
            self._bar.console.print(line, markup=False, highlight=False)

    def _advance(self, bar: Progress, event: Event) -> None:
        if self._task is None:
            self._task = bar.add_task("", total=event.epochs, detail="")
        within = event.step / event.steps if event.steps and event.kind == "step" else 0.0
        done = event.epoch if event.kind == "epoch_end" else event.epoch - 1 + within
        if event.seconds_left is not None:
            self._left = f"  {duration(event.seconds_left)} left"
        title = f"epoch {event.epoch}/{event.epochs}"
        detail = event.phase + self._left
        bar.update(self._task, completed=done, description=title, detail=detail, visible=True)


class StudyWatcher:
    """A listener of :func:`~alterrec.studies.study.run_study`: lines, and on a terminal a bar below them.

    Example:
        >>> from alterrec.studies.scheduler import StudyEvent
        >>> with StudyWatcher(live=False) as watch:
        ...     watch(StudyEvent("24 runs, 6 finished; 18 to go, about 12 min 0 s"))
        24 runs, 6 finished; 18 to go, about 12 min 0 s
    """

    def __init__(self, live: bool) -> None:
        self._bar: Progress | None = _bar() if live else None
        self._task: TaskID | None = None

    def __enter__(self) -> Self:
        if self._bar is not None:
            self._bar.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self._bar is not None:
            self._bar.stop()

    def __call__(self, event: StudyEvent) -> None:
        """Show one event."""
        if self._bar is None:
            if event.message:
                say(event.message)
            return
        if event.message:
            self._bar.console.print(event.message, markup=False, highlight=False)
        if event.needed:
            if self._task is None:
                self._task = self._bar.add_task("", total=event.needed, detail="")
            title = f"{event.ended}/{event.needed} runs"
            detail = " | ".join(event.now)
            self._bar.update(
                self._task, completed=event.ended, total=event.needed, description=title, detail=detail
            )


def show_result(result: Mapping[str, Any]) -> None:
    """The metrics of ``result.json`` by view beside the baselines, on test where the run has a test."""
    split = "test" if result["test"].get("score") else "valid"
    baselines = {name: splits.get(split, {}) for name, splits in result["baselines"].items()}
    targets = count(result["targets"][split]["count"])
    title = f"{result['model']}, {targets} {'test' if split == 'test' else 'validation'} targets"
    rows = named(VIEW_NAMES, result[split]) | named(BASELINE_NAMES, baselines)
    show(metric_table(rows, title=title, strong=[VIEW_NAMES["score"]]))


def show_profile(seconds: Mapping[str, float]) -> None:
    """Where the time of training steps went, the longest part first."""
    total = sum(seconds.values()) or 1.0
    rows = tuple(
        (part, duration(spent) if spent >= 60 else f"{spent:.2f} s", percent(spent / total))
        for part, spent in sorted(seconds.items(), key=lambda row: -row[1])
    )
    show(Table(("part of a step", "time", "share"), rows))


def show_evaluation(numbers: Mapping[str, Any]) -> None:
    """The answer of ``evaluate_run``: metrics by view, and by popularity of the target."""
    from alterrec.analyses.extra_metrics import group_table
    from alterrec.results import Group

    for split, spoken in (("valid", "validation"), ("test", "test")):
        targets = numbers["targets"][split]
        title = f"{spoken}: {count(targets['count'])} targets, {count(targets['cold'])} of them cold"
        show(metric_table(named(VIEW_NAMES, numbers[split]), title=title, strong=[VIEW_NAMES["score"]]))
        say("")
        groups = [Group(**group) for group in numbers["groups"][split]]
        show(group_table("seen", groups, f"{spoken}: by how often training saw the target"))
        say("")


def named(
    names: Mapping[str, str], values: Mapping[str, Mapping[str, float]]
) -> dict[str, Mapping[str, float]]:
    """Rows under the names people read, those without numbers left out.

    Example:
        >>> named(VIEW_NAMES, {"id": {"hits@20": 0.5}, "text": {}})
        {'ID alone': {'hits@20': 0.5}}
    """
    return {names.get(name, name): metrics for name, metrics in values.items() if metrics}


def _epoch_line(event: Event) -> str:
    facts = [f"epoch {event.epoch}/{event.epochs}", event.phase]
    if event.loss is not None:
        facts.append(f"loss {event.loss:.3f}")
    if WATCHED in event.valid.get("score", {}):
        facts.append(f"validation NDCG@20 {percent(event.valid['score'][WATCHED])}")
    if event.seconds_left is not None:
        facts.append(f"{duration(event.seconds_left)} left")
    return "  ".join(facts)


def _bar() -> Progress:
    from rich.progress import BarColumn, Progress, TextColumn

    return Progress(
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        TextColumn("{task.fields[detail]}", markup=False),
        transient=True,
    )

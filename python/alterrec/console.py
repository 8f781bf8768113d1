"""Terminal output: the progress of a run, a study or a search, and tables of results.

On a terminal progress is a live bar below printed lines; elsewhere only the lines are printed, one per
epoch. A closed pipe never stops a run.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from typing import TYPE_CHECKING, Any, NoReturn, Self

from alterrec.errors import InputError
from alterrec.files import system_reason
from alterrec.progress import Event
from alterrec.report.seen_items import ByRule, repeated_sentence, rows_by_view, seen_tables
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

EPOCH_METRIC = "ndcg@20"
SPLITS = {"valid": "validation", "test": "test"}
SEEN_TITLE = "NDCG@20 with the session's own items as candidates (kept) and without them (excluded)"
SEEN_REPEATS = ", and with the counted probability of a repeat (repeats)"


def print_line(line: str) -> None:
    """Print a line and flush it; if its reader has gone, discard this and all later output.

    Raises:
        InputError: standard output is a file that cannot be written to.
    """
    try:
        print(line)
    except BrokenPipeError:
        discard_output()
    except OSError as error:
        _cannot_print(error)
    flush()


def flush() -> None:
    """Write what is buffered for standard output; raises as :func:`print_line`."""
    try:
        sys.stdout.flush()
    except BrokenPipeError:
        discard_output()
    except OSError as error:
        _cannot_print(error)


def _cannot_print(error: OSError) -> NoReturn:
    discard_output()
    raise InputError(f"standard output cannot be written: {system_reason(error)}") from None


def warn(line: str) -> None:
    """Print a line on standard error, if it can be written."""
    with suppress(OSError):
        print(line, file=sys.stderr, flush=True)


def open_streams() -> None:
    """Open the null device in place of standard streams that are closed, as in some services.

    Otherwise the next file that is opened gets the number of the stream, and what a library prints is written
    into it.
    """
    for number in range(3):
        try:
            os.fstat(number)
        except OSError:
            null = os.open(os.devnull, os.O_RDWR)
            if null != number:
                os.dup2(null, number)
                os.close(null)
    if sys.stdout is None:
        sys.stdout = open(1, "w", encoding="utf-8", closefd=False)  # noqa: SIM115
    if sys.stderr is None:
        sys.stderr = open(2, "w", encoding="utf-8", closefd=False)  # noqa: SIM115


def discard_output() -> None:
    """Redirect standard output to the null device, so that neither a print nor the flush at exit fails."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


class Watcher:
    """Show the progress events of :func:`alterrec.fit`, a study or a search.

    Args:
        live: whether to draw a bar below the lines; for terminals.

    Example:
        >>> with Watcher(live=False) as watch:
        ...     watch(Event("epoch_end", done=3, total=12, epoch=3, phase="id taught by text", loss=6.25,
        ...                 valid={"score": {"ndcg@20": 0.2, "hits@20": 0.4}}, seconds_left=75.0))
        ...     watch(Event("runs", "24 runs, 6 finished; 18 to go, about 12 min"))
        epoch 3/12  id taught by text  loss 6.250  validation NDCG@20 20.0%  1 min 15 s left
        24 runs, 6 finished; 18 to go, about 12 min
    """

    def __init__(self, live: bool) -> None:
        self._bar: Progress | None = _bar() if live else None
        self._task: TaskID | None = None
        self._time_left = ""

    def __enter__(self) -> Self:
        if self._bar is not None:
            self._bar.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self._bar is not None:
            self._bar.stop()

    def __call__(self, event: Event) -> None:
        line = _epoch_line(event) if event.kind == "epoch_end" else event.message
        if line and event.kind != "done":
            if self._bar is None:
                print_line(line)
            else:
                self._bar.console.print(line, markup=False, highlight=False)
        if self._bar is not None and event.total:
            self._update(self._bar, event)
        elif self._bar is not None and self._task is not None:
            # Work after the last epoch has no known length; the next epoch shows the bar again.
            self._bar.update(self._task, visible=False)

    def _update(self, bar: Progress, event: Event) -> None:
        if self._task is None:
            self._task = bar.add_task("", total=event.total, detail="")
        if event.seconds_left is not None:
            self._time_left = f"  {duration(event.seconds_left)} left"
        if event.epoch:
            title, detail = f"epoch {event.epoch}/{event.total}", event.phase + self._time_left
        else:
            title, detail = f"{event.done:.0f}/{event.total} {event.kind}", " | ".join(event.now)
        done, total = event.done, event.total
        bar.update(self._task, completed=done, total=total, description=title, detail=detail, visible=True)


def show_result(result: Mapping[str, Any]) -> None:
    """Print the metrics of ``result.json`` by view and those of the baselines, on test if the run has one."""
    split = "test" if result["test"].get("score") else "valid"
    baselines = {name: splits.get(split, {}) for name, splits in result["baselines"].items()}
    targets = count(result["targets"][split]["count"])
    title = f"{result['model']}, {targets} {SPLITS[split]} targets"
    rows = named(VIEW_NAMES, result[split]) | named(BASELINE_NAMES, baselines)
    show(metric_table(rows, title=title, strong=[VIEW_NAMES["score"]]))
    rows_of_baselines: dict[str, list[ByRule]] = {
        BASELINE_NAMES.get(name, name): [splits[split]]
        for name, splits in result.get("baselines_by_seen", {}).items()
        if split in splits
    }
    views = rows_by_view(result.get("by_seen", {}).get(split, {}))
    _show_seen_items(views | rows_of_baselines, result["targets"][split], SPLITS[split])


def _show_seen_items(rows: Mapping[str, Sequence[ByRule]], targets: Mapping[str, Any], split: str) -> None:
    """Print NDCG@20 with the session's own items as candidates and without them, where it was measured."""
    for data in seen_tables(rows, [EPOCH_METRIC], strong=[VIEW_NAMES["score"]]).values():
        print_line("")
        print_line(repeated_sentence(targets["repeated"], targets["count"], split))
        repeats = SEEN_REPEATS if "repeats" in data.table.columns else ""
        show(replace(data.table, title=f"{SEEN_TITLE}{repeats}"))


def show_profile(seconds: Mapping[str, float]) -> None:
    """Print the time of each part of the training steps, the longest first."""
    total = sum(seconds.values()) or 1.0
    rows = tuple(
        (part, duration(spent) if spent >= 60 else f"{spent:.2f} s", percent(spent / total))
        for part, spent in sorted(seconds.items(), key=lambda row: -row[1])
    )
    show(Table(("part of a step", "time", "share"), rows))


def show_evaluation(numbers: Mapping[str, Any]) -> None:
    """Print what ``evaluate_run`` returns: metrics by view and by popularity of the target."""
    from alterrec.analyses.run_sections import group_table
    from alterrec.results import Group

    for split, spoken in SPLITS.items():
        targets = numbers["targets"][split]
        title = f"{spoken}: {count(targets['count'])} targets, {count(targets['cold'])} of them cold"
        show(metric_table(named(VIEW_NAMES, numbers[split]), title=title, strong=[VIEW_NAMES["score"]]))
        _show_seen_items(rows_by_view(numbers["by_seen"][split]), targets, spoken)
        print_line("")
        groups = [Group(**group) for group in numbers["groups"][split]]
        show(group_table("times in training", groups, f"{spoken}, by popularity of the target: "))
        print_line("")


def named(
    names: Mapping[str, str], values: Mapping[str, Mapping[str, float]]
) -> dict[str, Mapping[str, float]]:
    """Rename the rows for display and leave out those without numbers.

    Example:
        >>> named(VIEW_NAMES, {"id": {"hits@20": 0.5}, "text": {}})
        {'ID alone': {'hits@20': 0.5}}
    """
    return {names.get(name, name): metrics for name, metrics in values.items() if metrics}


def _epoch_line(event: Event) -> str:
    facts = [f"epoch {event.epoch}/{event.epochs}", event.phase]
    if event.loss is not None:
        facts.append(f"loss {event.loss:.3f}")
    if EPOCH_METRIC in event.valid.get("score", {}):
        facts.append(f"validation NDCG@20 {percent(event.valid['score'][EPOCH_METRIC])}")
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

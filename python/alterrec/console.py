"""Terminal output: lines, and the progress of a run, a study or a search.

On a terminal progress is a live bar below printed lines; elsewhere only the lines are printed, one per
epoch. A closed pipe never stops a run.

Importing this module imports little, so that a command can say at once that it has begun.
"""

from __future__ import annotations

import os
import shutil
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, NoReturn, Self

from alterrec import signals
from alterrec.errors import InputError
from alterrec.progress import Event

if TYPE_CHECKING:
    from rich.progress import Progress, TaskID

# Seconds between two lines about a long task, where there is no terminal.
LINE_SECONDS = 60
_silent = False


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
    from alterrec.files import system_reason

    discard_output()
    raise InputError(f"standard output cannot be written: {system_reason(error)}") from None


def print_text(text: str) -> None:
    """Write text as UTF-8 to standard output and flush it, without a line break behind it.

    Raises:
        BrokenPipeError: its reader has gone, so that there is no need for more.
        InputError: standard output is a file that cannot be written to.
    """
    try:
        sys.stdout.flush()
        sys.stdout.buffer.write(text.encode())
        sys.stdout.buffer.flush()
    except BrokenPipeError:
        raise
    except OSError as error:
        _cannot_print(error)


def warn(line: str) -> None:
    """Print a line on standard error, if it can be written and another process of the job does not do it."""
    if not _silent:
        report(line)


def report(line: str) -> None:
    """Print a line on standard error, if it can be written."""
    with suppress(OSError):
        print(line, file=sys.stderr, flush=True)


def silence(*, errors: bool) -> None:
    """Stop printing: another process of the job prints for all.

    Args:
        errors: whether lines on standard error are left out, too.
    """
    global _silent
    _silent = errors
    discard_output()


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
        live: whether to draw a bar below the lines; for terminals. It moves also while nothing is counted.

    Example:
        >>> with Watcher(live=False) as watch:
        ...     watch.working("loading torch")
        ...     watch(Event("epoch_end", done=3, total=12, epoch=3, phase="id taught by text", loss=6.25,
        ...                 valid={"score": {"ndcg@20": 0.2, "hits@20": 0.4}}, seconds_left=75.0))
        ...     watch(Event("runs", "24 runs, 6 finished; 18 to go, about 12 min"))
        epoch 3/12  id taught by text  loss 6.250  validation NDCG@20 20.0%  1 min 15 s left
        24 runs, 6 finished; 18 to go, about 12 min
    """

    def __init__(self, live: bool) -> None:
        self._bar: Progress | None = _bar() if live else None
        self._counted: TaskID | None = None
        self._uncounted: TaskID | None = None
        self._time_left = ""

    def __enter__(self) -> Self:
        if self._bar is not None:
            self._bar.start()
            signals.HIDDEN_CURSORS.add(1)
            self.working("starting")
        return self

    def __exit__(self, *_: object) -> None:
        if self._bar is not None:
            self._bar.stop()
            signals.HIDDEN_CURSORS.discard(1)

    def __call__(self, event: Event) -> None:
        line = _epoch_line(event) if event.kind == "epoch_end" else event.message
        if line and event.kind not in ("done", "work"):
            if self._bar is None:
                print_line(line)
            else:
                self._bar.console.print(line, markup=False, highlight=False)
        if self._bar is not None and event.total:
            self._update(self._bar, event)
        elif event.kind in ("work", "epoch_end"):
            self.working(event.message or "working")

    def working(self, title: str) -> None:
        """Show on a terminal what is done now, if its length is not known."""
        bar = self._bar
        if bar is None:
            return
        if self._counted is not None:
            bar.update(self._counted, visible=False)
        if self._uncounted is None:
            self._uncounted = bar.add_task("", total=None, detail="")
        bar.update(self._uncounted, description=title, visible=True)

    def _update(self, bar: Progress, event: Event) -> None:
        from alterrec.report.tables import duration

        if self._counted is None:
            self._counted = bar.add_task("", total=event.total, detail="")
        if self._uncounted is not None:
            bar.update(self._uncounted, visible=False)
        if event.seconds_left is not None:
            self._time_left = f"  {duration(event.seconds_left)} left"
        if event.epoch:
            title, detail = f"epoch {event.epoch}/{event.total}", event.phase + self._time_left
        else:
            title, detail = f"{event.done:.0f}/{event.total} {event.kind}", " | ".join(event.now)
        done, total = event.done, event.total
        bar.update(self._counted, completed=done, total=total, description=title, detail=detail, visible=True)


@contextmanager
def working(title: str) -> Iterator[None]:
    """Show on a terminal that something is done while the block runs, below the lines of :func:`warn`."""
    if not sys.stderr.isatty():
        yield
        return
    with _bar(stderr=True) as bar:
        signals.HIDDEN_CURSORS.add(2)
        bar.add_task(title, total=None, detail="")
        try:
            yield
        finally:
            signals.HIDDEN_CURSORS.discard(2)


@contextmanager
def counted(title: str, unit: str) -> Iterator[Callable[[int, int | None], None]]:
    """Yield a function that shows on standard error how much of a long task is done, and of how much.

    On a terminal it is a bar; elsewhere a line is printed each minute.

    Args:
        title: what is done.
        unit: what is counted.
    """
    from alterrec.report.tables import count, duration

    began = time.monotonic()
    printed, before = began, -1

    def detail(done: int, total: int | None) -> str:
        nonlocal before
        before = done if before < 0 else before
        spent, new = time.monotonic() - began, done - before
        left = f", {duration(spent / new * (total - done))} left" if total and new else ""
        return f"{count(done)}{f' of {count(total)}' if total else ''} {unit}{left}"

    if not sys.stderr.isatty():

        def print_sometimes(done: int, total: int | None) -> None:
            nonlocal printed
            text = detail(done, total)
            if time.monotonic() - printed > LINE_SECONDS:
                printed = time.monotonic()
                warn(f"{title}: {text}")

        yield print_sometimes
        return
    with _bar(stderr=True) as bar:
        signals.HIDDEN_CURSORS.add(2)
        task = bar.add_task(title, total=None, detail="")
        try:
            yield lambda done, total: bar.update(
                task, completed=done, total=total, detail=detail(done, total)
            )
        finally:
            signals.HIDDEN_CURSORS.discard(2)


def terminal_width() -> int | None:
    """Return the width of the terminal that shows standard output; None if it is a file or a pipe."""
    return shutil.get_terminal_size().columns if sys.stdout.isatty() else None


def print_wrapped(text: str) -> None:
    """Print sentences; on a terminal they are broken between words."""
    from alterrec.report.plain import fill

    print_line(fill(text, terminal_width()))


def _epoch_line(event: Event) -> str:
    from alterrec.report.live import epoch_line

    return epoch_line(event)


def _bar(*, stderr: bool = False) -> Progress:
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn

    return Progress(
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        TextColumn("{task.fields[detail]}", markup=False),
        console=Console(stderr=stderr),
        transient=True,
        # What is printed goes above the bar, but not what goes to a file.
        redirect_stdout=sys.stdout.isatty(),
        redirect_stderr=sys.stderr.isatty(),
    )

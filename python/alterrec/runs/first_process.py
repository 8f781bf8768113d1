"""One process of a job writes the run folder, and a signal stops all processes after the same step."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from alterrec import parallel, signals
from alterrec.analyses.run_page import write_report
from alterrec.files import read_text
from alterrec.progress import Event, Listener
from alterrec.recipe import Recipe
from alterrec.runs.fitted import FittedRun
from alterrec.runs.folder import OpenRun, Start, open_run


@contextmanager
def opened_by_first(start: Start, data_name: str) -> Iterator[tuple[Path, OpenRun | None]]:
    """Open the run folder in the first process of a job; yield its path in all of them."""
    with ExitStack() as opened:
        folders: list[OpenRun] = []

        def open_folder() -> Path:
            folders.append(opened.enter_context(open_run(start, data_name)))
            return folders[0].path

        path = parallel.from_first(open_folder)
        yield path, folders[0] if folders else None


@contextmanager
def signals_of_all() -> Iterator[Callable[[], bool]]:
    """Yield a function that says whether a signal has come, where several processes stop together."""
    if parallel.job().world == 1:
        yield lambda: False
        return
    came = threading.Event()
    with signals.handled_by(stop=came.set, hang_up=came.set):
        yield came.is_set


def finished_already(start: Start, recipe: Recipe, progress: Listener) -> FittedRun:
    """Say that a run has finished already, and write its page if it is missing."""
    assert start.path is not None
    progress(Event("notice", f"the run in {start.path} has finished already; nothing changes"))
    start.tidy()
    if recipe.run.report and not (start.path / "report.html").exists():
        write_page(start.path, progress)
    progress(Event("done", str(start.path)))
    return FittedRun(start.path, recipe, json.loads(read_text(start.path / "result.json")))


def write_page(run: Path, progress: Listener) -> None:
    """Write the page of a run, which compares it with other finished runs in the same folder."""
    progress(Event("work", "writing the report"))
    others = (other.parent for other in run.parent.glob("*/result.json"))
    write_report(run, sorted(other for other in others if other != run))

"""Progress of a run as lines of text, in a log, and as one updating line in a notebook."""

from __future__ import annotations

import html
import logging
import sys
import time
from collections.abc import Sequence
from typing import Any, Literal, TypeAlias

from alterrec.progress import Event, Listener, ignore, several
from alterrec.report.tables import duration, percent

# The metric of the lines of epochs.
EPOCH_METRIC = "ndcg@20"
LOGGER = logging.getLogger("alterrec")
# Seconds between two updates of the line within an epoch.
UPDATE_EVERY = 0.5


def epoch_line(event: Event) -> str:
    """Return the line of a finished epoch.

    Example:
        >>> epoch_line(Event("epoch_end", total=12, epoch=3, phase="warm-up id", loss=6.25))
        'epoch 3/12  warm-up id  loss 6.250'
    """
    facts = [f"epoch {event.epoch}/{event.epochs}", event.phase]
    if event.loss is not None:
        facts.append(f"loss {event.loss:.3f}")
    if EPOCH_METRIC in event.valid.get("score", {}):
        facts.append(f"validation NDCG@20 {percent(event.valid['score'][EPOCH_METRIC])}")
    if event.seconds_left is not None:
        facts.append(f"{duration(event.seconds_left)} left")
    return "  ".join(facts)


def in_notebook() -> bool:
    """Whether this process is the kernel of a notebook; IPython is not imported to find out."""
    interactive = sys.modules.get("IPython")
    shell = interactive.get_ipython() if interactive is not None else None
    # Kernels of Jupyter, VS Code and Colab have one; the IPython of a terminal has none.
    return hasattr(shell, "kernel")


Progress: TypeAlias = Listener | Literal["notebook"] | None


def listener(progress: Progress | Sequence[Progress]) -> Listener:
    """Return what is called with every event: a log, and what shows the progress.

    Args:
        progress: a function; ``notebook`` for a line in a notebook, and nothing elsewhere; None for nothing;
            or several of these.
    """
    given = progress if isinstance(progress, list | tuple) else [progress]
    return several(_log, *map(_shown, given))


def _shown(progress: Progress) -> Listener:
    if progress is None or (progress == "notebook" and not in_notebook()):
        return ignore
    return NotebookLine() if progress == "notebook" else progress


def _log(event: Event) -> None:
    if event.kind == "epoch_end":
        LOGGER.info("%s", epoch_line(event))
    elif event.kind == "done":
        LOGGER.info("finished: %s", event.message)
    elif event.message:
        LOGGER.log(logging.DEBUG if event.kind == "work" else logging.INFO, "%s", event.message)


class NotebookLine:
    """One line below a notebook cell, with a bar, which every event updates."""

    def __init__(self) -> None:
        self._handle: Any = None
        self._text, self._last_epoch, self._done, self._total = "", "", 0.0, 0
        self._last = -UPDATE_EVERY

    def __call__(self, event: Event) -> None:
        if event.total:
            self._done, self._total = event.done, event.total
        if event.kind == "epoch_end":
            self._text = self._last_epoch = epoch_line(event)
        elif event.kind == "done":
            self._text = f"{self._last_epoch}  finished: {event.message}".strip()
            self._done = self._total
        elif event.kind in ("notice", "plan", "work") and event.message:
            # The last of several lines, such as those of the plan.
            self._text = event.message.splitlines()[-1]
        elif event.kind == "epoch_start":
            self._text = f"epoch {event.epoch}/{event.total}  {event.phase}"
        elif event.kind in ("runs", "trials"):
            state = " | ".join(event.now) or event.message
            self._text = f"{event.done:.0f}/{event.total} {event.kind}  {state}".strip()
        # Steps, and the state of runs that go on, arrive several times a second.
        frequent = event.kind in ("step", "runs", "trials") and not event.message
        if not frequent or time.monotonic() - self._last >= UPDATE_EVERY:
            self._show()

    def _show(self) -> None:
        from IPython.display import display

        self._last = time.monotonic()
        bar = f'<progress value="{self._done:.3f}" max="{self._total}"></progress> ' if self._total else ""
        data = {"text/plain": self._text, "text/html": f"<div>{bar}{html.escape(self._text)}</div>"}
        if self._handle is None:
            self._handle = display(data, raw=True, display_id=True)  # type: ignore[no-untyped-call]
        else:
            self._handle.update(data, raw=True)

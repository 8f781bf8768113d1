"""Progress events: the record that :func:`alterrec.fit`, studies and searches pass to a callback."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

Kind = Literal[
    "plan", "notice", "work", "start", "epoch_start", "step", "epoch_end", "done", "failed", "runs", "trials"
]
# View -> metric -> value.
Views = Mapping[str, Mapping[str, float]]


@dataclass(frozen=True)
class Event:
    """One progress event.

    Attributes:
        kind: ``plan`` (a line about what will be trained), ``notice``, ``work`` (its message says what is
            done from now on, for displays that change), ``start`` (the run folder is there), ``epoch_start``,
            ``step``, ``epoch_end`` and ``done`` (its message is the run folder) or ``failed`` come from a
            run; ``runs`` from a study and ``trials`` from a search.
        message: a line to print, or empty.
        done, total: how far the work is, in epochs (with the fraction of the current one), runs or trials.
        now: the last line of each run or trial in progress.
        epoch: the current epoch, from 1; 0 outside of training.
        phase: name of the current phase.
        loss: mean training loss of a finished epoch.
        valid: validation metrics of a finished epoch, or of the finished run, by view.
        test: test metrics of the finished run by view.
        seconds_left: estimated time until the last epoch ends.
        run: the run folder; with ``start``.
        settings: every setting of the recipe, key -> value; with ``start``.
    """

    kind: Kind
    message: str = ""
    done: float = 0.0
    total: int = 0
    now: tuple[str, ...] = ()
    epoch: int = 0
    phase: str = ""
    loss: float | None = None
    valid: Views = field(default_factory=dict)
    test: Views = field(default_factory=dict)
    seconds_left: float | None = None
    run: str = ""
    settings: Mapping[str, Any] = field(default_factory=dict)

    @property
    def epochs(self) -> int:
        """Number of epochs, the ``total`` of an event of training."""
        return self.total


Listener = Callable[[Event], None]


def ignore(event: Event) -> None:
    """Listener that does nothing; the default where a listener is optional."""


def several(*listeners: Listener) -> Listener:
    """Return a listener that calls each of some listeners, in their order."""

    def listen(event: Event) -> None:
        for each in listeners:
            each(event)

    return listen

"""Progress events: the record that :func:`alterrec.fit`, studies and searches pass to a callback."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Literal

Kind = Literal["plan", "notice", "work", "epoch_start", "step", "epoch_end", "done", "runs", "trials"]


@dataclass(frozen=True)
class Event:
    """One progress event.

    Attributes:
        kind: ``plan`` (a line about what will be trained), ``notice``, ``work`` (its message says what is
            done from now on, for displays that change), ``epoch_start``, ``step``, ``epoch_end`` and ``done``
            (its message is the run folder) come from a run; ``runs`` from a study and ``trials`` from a
            search.
        message: a line to print, or empty.
        done, total: how far the work is, in epochs (with the fraction of the current one), runs or trials.
        now: the last line of each run or trial in progress.
        epoch: the current epoch, from 1; 0 outside of training.
        phase: name of the current phase.
        loss: mean training loss of a finished epoch.
        valid: validation metrics of a finished epoch by view.
        seconds_left: estimated time until the last epoch ends.
    """

    kind: Kind
    message: str = ""
    done: float = 0.0
    total: int = 0
    now: tuple[str, ...] = ()
    epoch: int = 0
    phase: str = ""
    loss: float | None = None
    valid: Mapping[str, Mapping[str, float]] = field(default_factory=dict)
    seconds_left: float | None = None

    @property
    def epochs(self) -> int:
        """Number of epochs, the ``total`` of an event of training."""
        return self.total


Listener = Callable[[Event], None]


def ignore(event: Event) -> None:
    """Listener that does nothing; the default where a listener is optional."""

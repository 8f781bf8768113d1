"""How a command ends when it is asked to: by Ctrl-C, by SIGTERM (containers, SLURM) or by SIGHUP.

A command that is at work gets a KeyboardInterrupt, so that it writes what it has. Before and after, and while
modules are imported, the process ends at once: some libraries turn a KeyboardInterrupt in their import into
another error. Files are replaced atomically, so nothing is damaged by that.

This module needs no other one, so that it is ready before the others are imported.
"""

from __future__ import annotations

import math
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from types import FrameType
from typing import Any

# Containers are killed 10 s after SIGTERM, SLURM waits for 30 s.
GRACE_SECONDS = 9.0

# `timeout` and some shells send a signal twice; what follows this soon is the same wish.
SAME_SECONDS = 1.0

# Number of the file that is standard error; another one than 2 while that one is redirected.
standard_error = 2

# Numbers of the streams to a terminal whose cursor a live bar has hidden.
HIDDEN_CURSORS: set[int] = set()
_SHOW_CURSOR = b"\r\x1b[K\x1b[?25h"

_STARTING, _AT_WORK, _ENDED = range(3)
_SIGNALS = tuple(getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name))
_stage = _STARTING
_received: list[int] = []
_last = -math.inf


def install() -> dict[int, Any]:
    """Handle the signals that nobody else handles or ignores; nohup, for example, ignores SIGHUP.

    Returns:
        The handlers that were replaced, by signal.
    """
    replaced = {}
    for number in _SIGNALS:
        if signal.getsignal(number) in (signal.SIG_DFL, signal.default_int_handler):
            # Only the main thread can do it.
            with suppress(ValueError):
                replaced[int(number)] = signal.signal(number, _stop)
    return replaced


@contextmanager
def handled() -> Iterator[None]:
    """Handle signals while the block runs, if they are not handled yet."""
    replaced = install()
    try:
        yield
    finally:
        for number, handler in replaced.items():
            signal.signal(number, handler)


@contextmanager
def at_work() -> Iterator[None]:
    """Let signals interrupt the block by a KeyboardInterrupt."""
    global _stage
    _stage = _AT_WORK
    try:
        yield
    finally:
        _stage = _ENDED


@contextmanager
def handled_by(*, stop: Callable[[], None], hang_up: Callable[[], None]) -> Iterator[None]:
    """Call a function for each signal in place of interrupting the block, which must end after ``stop``.

    Args:
        stop: called for SIGINT and SIGTERM. The process ends some seconds after the first one in any case.
        hang_up: called for SIGHUP, where there is one.
    """

    def handle(number: int, _: FrameType | None) -> None:
        if number == getattr(signal, "SIGHUP", None):
            hang_up()
            return
        if not _received:
            threading.Thread(target=_end_in_time, daemon=True).start()
        _received.append(number)
        stop()

    replaced = {number: signal.signal(number, handle) for number in _SIGNALS}
    try:
        yield
    finally:
        for number, handler in replaced.items():
            signal.signal(number, handler)


def were_received() -> bool:
    """Return whether a signal asked the command to end.

    Example:
        >>> were_received()
        False
    """
    return bool(_received)


def exit_code() -> int:
    """Return the exit code of an interrupted command, 128 and the number of the signal.

    Example:
        >>> exit_code()
        130
    """
    return 128 + (_received[0] if _received else signal.SIGINT)


def _stop(number: int, frame: FrameType | None) -> None:
    global _last
    now, earlier = time.monotonic(), [*_received]
    if now - _last < SAME_SECONDS and (number in earlier or _stage == _ENDED):
        return
    _last = now
    _received.append(number)
    if _stage != _AT_WORK or _is_importing(frame):
        _end("" if _stage == _ENDED else "stopped before there was a result")
    if number == signal.SIGINT:
        raise KeyboardInterrupt
    if all(each == signal.SIGINT for each in earlier):
        threading.Thread(target=_end_in_time, daemon=True).start()
    if not earlier:
        raise KeyboardInterrupt


def _is_importing(frame: FrameType | None) -> bool:
    while frame is not None:
        if frame.f_code.co_filename == "<frozen importlib._bootstrap>":
            return True
        frame = frame.f_back
    return False


def _end_in_time() -> None:
    time.sleep(GRACE_SECONDS)
    _end(f"stopped {GRACE_SECONDS:.0f} s after the signal; what was finished by then is kept")


def _end(line: str) -> None:
    with suppress(OSError):
        os.dup2(standard_error, 2)
        for number in HIDDEN_CURSORS:
            os.write(number, _SHOW_CURSOR)
        os.write(2, f"{line}\n".encode() if line else b"")
    os._exit(exit_code())

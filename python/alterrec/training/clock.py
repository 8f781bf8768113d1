"""Where the time of a step goes."""

from __future__ import annotations

import time

import torch


class Clock:
    """Seconds by part: each lap counts what passed since the lap before.

    On a device a lap waits for it, so a run that is measured is slower than one that is not.

    Example:
        >>> clock = Clock()
        >>> clock.start()
        >>> clock.lap("encoder")
        >>> list(clock.seconds)
        ['encoder']
    """

    def __init__(self, device: str = "cpu") -> None:
        self.seconds: dict[str, float] = {}
        self._device = device
        self._last = 0.0

    def start(self) -> None:
        """Begin to count, here."""
        self._last = self._now()

    def lap(self, part: str) -> None:
        """Count what passed since the last lap for ``part``."""
        now = self._now()
        self.seconds[part] = self.seconds.get(part, 0.0) + now - self._last
        self._last = now

    def _now(self) -> float:
        if self._device != "cpu":
            torch.accelerator.synchronize()
        return time.perf_counter()


class NoClock(Clock):
    """Counts nothing and waits for nothing."""

    def start(self) -> None:
        """Nothing."""

    def lap(self, part: str) -> None:
        """Nothing."""

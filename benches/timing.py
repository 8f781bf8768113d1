"""Interleaved timing, printed as one line per comparison: ratio, spread, target."""

from __future__ import annotations

import platform
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

Job = Callable[[], Any]
Seconds = dict[str, NDArray[np.float64]]


def rounds(jobs: Mapping[str, Job], repeats: int) -> Seconds:
    """Seconds of each job by round: all jobs alternate for `repeats` rounds, after a warm-up."""
    seconds: Seconds = {name: np.empty(repeats) for name in jobs}
    for turn in range(-1, repeats):
        for name, job in jobs.items():
            begin = time.perf_counter()
            job()
            if turn >= 0:
                seconds[name][turn] = time.perf_counter() - begin
    return seconds


def line(
    what: str, ours: NDArray[np.float64], theirs: NDArray[np.float64], least: float = 0, aim: float = 0
) -> None:
    """Print `theirs` as a multiple of `ours`: ratio of medians, quartiles, required and target value."""
    ratio = float(np.median(theirs) / np.median(ours))
    low, high = np.percentile(theirs / ours, [25, 75])
    target = f"{least:g}; {aim:g}" if least else ""
    verdict = "" if not least else "reached" if ratio >= aim else "at least" if ratio >= least else "MISSED"
    print(f"  {what:46} {ratio:7.2f}x  [{low:.2f}, {high:.2f}]  {target:>10}  {verdict}", flush=True)


def share(what: str, part: NDArray[np.float64], whole: NDArray[np.float64], most: float, aim: float) -> None:
    """Print the time of `part` as a share of `whole`, where lower is better."""
    ratio = float(np.median(part) / np.median(whole))
    low, high = np.percentile(part / whole, [25, 75])
    verdict = "reached" if ratio <= aim else "at most" if ratio <= most else "MISSED"
    print(
        f"  {what:46} {ratio:7.3f}   [{low:.3f}, {high:.3f}]  {f'{most:g}; {aim:g}':>10}  {verdict}",
        flush=True,
    )


def machine() -> str:
    """Name and number of the processors, as far as the system reports them."""
    info = Path("/proc/cpuinfo")
    lines = info.read_text("utf-8").splitlines() if info.exists() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return f"{names[0] if names else platform.processor()}, {len(names) or '?'} cores, {platform.system()}"

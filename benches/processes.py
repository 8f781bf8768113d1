"""Time several processes: the sum of a table's gradient, and an epoch. Run it under torchrun.

    torchrun --nproc-per-node=2 benches/processes.py
    torchrun --nproc-per-node=2 benches/processes.py --system sasrec --data FOLDER

The first part compares the two ways to add up the gradient of a table, all of it or the rows that are not
zero, and asserts that they are equal. The second one trains an epoch in all processes, in the first one
alone, and in the first one with as many threads as there were processes, and asserts that all have the same
samples.
"""

from __future__ import annotations

import argparse
import json
import os
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from timing import machine

import alterrec
from alterrec import parallel
from alterrec.models.reads import settings_read
from alterrec.training.gradients import add_up_rows, rows_with_gradient

WIDTH, REPEATS = 64, 7
SHORT = {"schedule.epochs": 2, "schedule.warmup": 1}
QUIET = {"run.baselines": False, "run.report": False, "run.threads": 1}


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--system", default="sasrec")
    parser.add_argument("--data", type=Path, help="a data folder; default: the built-in catalogue")
    parser.add_argument("--items", type=int, nargs="+", default=[40_000, 400_000])
    options = parser.parse_args()
    torch.set_num_threads(1)
    with parallel.joined_job() as job:
        if job.world == 1:
            parser.error("start it by torchrun, with two processes or more")
        say = print if job.is_first else lambda line: None
        say(f"{machine()}; {job.world} processes")
        for items in options.items:
            tables(items, job.world, job.rank, say)
    epoch(options.system, options.data, job.is_first, job.world, say)


def tables(items: int, world: int, rank: int, say: Callable[[str], None]) -> None:
    """Time both ways to add up the gradient of a table, by how many rows are not zero."""
    for one_in in (64, 16, 8, 4, 2):
        random = torch.Generator().manual_seed(rank)
        rows = torch.randperm(items, generator=random)[: items // one_in // world]
        gradient = torch.zeros(items, WIDTH)
        gradient[rows] = torch.randn(len(rows), WIDTH, generator=random)
        seconds = np.empty((REPEATS, 2))
        for turn in range(REPEATS):
            whole, some = gradient.clone(), gradient.clone()
            began = time.perf_counter()
            parallel.add_up(whole)
            seconds[turn, 0] = time.perf_counter() - began
            began = time.perf_counter()
            add_up_rows(some, rows_with_gradient(some))
            seconds[turn, 1] = time.perf_counter() - began
            assert torch.allclose(whole, some, rtol=0, atol=1e-5)
        table, rows_alone = np.median(seconds, axis=0) * 1e3
        say(
            f"  {items} items, one row in {one_in}: the table {table:.1f} ms, its rows {rows_alone:.1f} ms, "
            f"{rows_alone / table:.2f} of it"
        )


def epoch(system: str, data: Path | None, is_first: bool, world: int, say: Callable[[str], None]) -> None:
    """Time an epoch of all processes, and of the first one alone with one thread and with as many threads."""
    found, settings = [], settings_read(system, ["best"], SHORT | QUIET)
    with tempfile.TemporaryDirectory() as folder:
        for name, threads in (("all", 1), ("alone", 1), ("threads", world)):
            if name == "alone":
                # What torchrun has set; without it a process is alone.
                os.environ.pop("WORLD_SIZE")
            if is_first or name == "all":
                run = {"out": Path(folder) / name, "overrides": settings | {"run.threads": threads}}
                alterrec.fit(data, system, progress=None, **run)
            if is_first:
                found.append(json.loads((Path(folder) / name / "curves.jsonl").read_text().splitlines()[0]))
    if is_first:
        shared, *others = found
        say(
            f"  an epoch of {system}: {shared['seconds']:.1f} s with {world} processes, evaluation "
            f"{shared['seconds_eval']:.1f} s, loss {shared['loss']:.5f}"
        )
        for threads, alone in zip((1, world), others, strict=True):
            assert shared["samples"] == alone["samples"]
            assert np.isclose(shared["loss"], alone["loss"], rtol=1e-2)
            say(
                f"    one process, threads: {threads}: {alone['seconds']:.1f} s, which is "
                f"{alone['seconds'] / shared['seconds']:.2f} times as long; evaluation "
                f"{alone['seconds_eval']:.1f} s, loss {alone['loss']:.5f}"
            )


if __name__ == "__main__":
    main()

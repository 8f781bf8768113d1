"""Time a loaded run as a service: latency of one session, alone and in threads, and batches.

    python benches/service.py [RUN] [--batch 10000]

Without RUN, a default alterrec is trained for two epochs on the built-in catalogue of 40,000 items, whose
test sessions are used in any case. "Bare" is what scoring cannot do without: the products of the queries of
the same sessions (each item of a session, in each network) with the item tables, and the top 20 of one row
for each session. Sides alternate. All times but those of threads are CPU seconds of one thread, so that
other processes of the machine do not count. First all recommendations are compared with those of evaluation.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from timing import line, machine

import alterrec
from alterrec.data.synthetic import synthetic_dataset
from alterrec.evaluation.recommend import recommend_items
from alterrec.ranking import set_threads, top_ranked
from alterrec.runs.saved_model import SavedModel

K = 20
LENGTHS = (1, 2, 3, 5, 10)
QUICK = {"schedule.epochs": 2, "schedule.warmup": 1, "data.prefixes": 1, "run.baselines": False}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("run", type=Path, nargs="?")
    parser.add_argument("--batch", type=int, default=10_000)
    options = parser.parse_args()
    torch.set_num_threads(1)
    set_threads(1)
    data = synthetic_dataset(items=40_000, sessions=8_000)
    path = options.run
    if path is None:
        overrides = QUICK | {"run.report": False, "run.threads": 1}
        path = alterrec.fit(data, out=Path(tempfile.mkdtemp()) / "run", overrides=overrides).path
    model = alterrec.load(path)
    sessions = [data.test.session(row).astype(np.int64) for row in range(len(data.test))]
    print(f"{machine()}; {model}, rule {model.seen}")
    equal(model, sessions[:200])
    latency(model, sessions)
    threads(model, sessions)
    batches(model, [sessions[place % len(sessions)] for place in range(options.batch)])


def equal(model: SavedModel, sessions: Sequence[NDArray[np.int64]]) -> None:
    """Assert that recommendations are those of evaluation, except at ties within the tolerance of scores."""
    ids, scores = model.recommend_numbers(sessions, K)
    wanted_ids, wanted = recommend_items(model.model, sessions, K, model.protocol, len(model.vocabulary))
    np.testing.assert_allclose(scores, wanted, rtol=1e-5, atol=1e-5)
    gap = np.diff(wanted, axis=1, append=-np.inf)
    near = np.isclose(gap, 0, atol=1e-4) | np.isclose(np.roll(gap, 1, axis=1), 0, atol=1e-4)
    near[:, -1] = True
    assert not ((ids != wanted_ids) & ~near).any()
    print(f"  {len(sessions)} sessions: {np.mean(ids == wanted_ids):.4%} of the items in the same place")


def bare(model: SavedModel, sessions: Sequence[NDArray[np.int64]]) -> Callable[[], None]:
    """Return the products and the top 20 of some sessions, in chunks as evaluation uses them."""
    tables = [each.outputs for each in model.tables().values()]
    queries = [[table[np.concatenate(sessions)].clone() for table in tables]]
    rows, step = torch.randn(len(sessions[:256]), len(tables[0])), 512
    out = torch.empty(step, len(tables[0]))

    def job() -> None:
        with torch.inference_mode():
            for table, own in zip(tables, queries[0], strict=True):
                for first in range(0, len(own), step):
                    some = own[first : first + step]
                    torch.mm(some, table.T, out=out[: len(some)])
            for first in range(0, len(sessions), len(rows)):
                top_ranked(rows[: len(sessions) - first], K)

    return job


def cpu_rounds(jobs: dict[str, Callable[[], None]], repeats: int) -> dict[str, NDArray[np.float64]]:
    """CPU seconds of each job by round, after a warm-up."""
    seconds = {name: np.empty(repeats) for name in jobs}
    for turn in range(-1, repeats):
        for name, job in jobs.items():
            begin = time.thread_time()
            job()
            if turn >= 0:
                seconds[name][turn] = time.thread_time() - begin
    return seconds


def quantiles(seconds: Sequence[float]) -> str:
    middle, high = np.quantile(seconds, [0.5, 0.99]) * 1e3
    return f"median {middle:.2f} ms, p99 {high:.2f} ms, least {min(seconds) * 1e3:.2f} ms"


def latency(model: SavedModel, sessions: Sequence[NDArray[np.int64]]) -> None:
    """Time single sessions by their length, with ids that are texts in and out."""
    names = model.vocabulary.item_ids
    for length in LENGTHS:
        own = [items[-length:] for items in sessions if len(items) >= length][:40]
        asked = [[names[item] for item in items] for items in own]
        seconds: list[float] = []

        def ours(asked: list[list[str]] = asked, seconds: list[float] = seconds) -> None:
            for session in asked:
                begin = time.thread_time()
                model.recommend([session], K)
                seconds.append(time.thread_time() - begin)

        jobs = [bare(model, [items]) for items in own]

        def theirs(jobs: list[Callable[[], None]] = jobs) -> None:
            for job in jobs:
                job()

        found = cpu_rounds({"ours": ours, "bare": theirs}, 15)
        line(f"one session of {length}, bare as a multiple", found["ours"], found["bare"])
        medians = np.median(np.reshape(seconds[len(own) :], (15, -1)), axis=1) * 1e3
        print(f"    {quantiles(seconds[len(own) :])}; best round {medians.min():.2f} ms")


def threads(model: SavedModel, sessions: Sequence[NDArray[np.int64]]) -> None:
    """Time single sessions that some threads ask for, each one after the other."""
    names = model.vocabulary.item_ids
    asked = [[names[item] for item in items] for items in sessions]
    for session in asked:
        model.recommend([session], K)
    for count in (1, 2, 4):
        with ThreadPoolExecutor(count) as pool:

            def timed(session: list[str]) -> float:
                begin = time.perf_counter()
                model.recommend([session], K)
                return time.perf_counter() - begin

            begin = time.perf_counter()
            seconds = list(pool.map(timed, asked))
            rate = len(asked) / (time.perf_counter() - begin)
        print(f"  test sessions, {count} threads: {quantiles(seconds)}; {rate:.0f} sessions/s")


def batches(model: SavedModel, sessions: Sequence[NDArray[np.int64]]) -> None:
    """Time a batch against its bare products and top 20."""

    def ours() -> None:
        model.recommend_numbers(sessions, K)

    found = cpu_rounds({"ours": ours, "bare": bare(model, sessions)}, 1 if len(sessions) > 5_000 else 3)
    line(f"{len(sessions)} sessions, bare as a multiple", found["ours"], found["bare"], 0.9, 0.9)
    print(f"    {len(sessions) / np.median(found['ours']):.0f} sessions per CPU second")


if __name__ == "__main__":
    main()

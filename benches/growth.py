"""Measure how time and memory grow with the number of items and of sessions, up to a million items.

    python benches/growth.py                   # some minutes; prints the table
    python benches/growth.py --plot docs/images/growth.png
    python benches/growth.py --quick           # small sizes, as a check that it runs

A step has 256 samples, d 128, text vectors of 384 columns mapped from a float16 file, the text network as
teacher of the ID network, and 1,024 candidates per sample: 512 of the teacher's top half and 512 random.
Evaluation ranks 1,000 targets in three views. Each size runs in a separate process under `run.memory_budget`,
and its peak memory is printed.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import timing
import torch

from alterrec import ranking
from alterrec.evaluation.evaluate import Protocol, evaluate
from alterrec.models.catalogue import build_model
from alterrec.models.parts import ModelInputs
from alterrec.nn.losses import ScoreBuffer
from alterrec.recipe import resolve
from alterrec.runs.memory import peak_memory_bytes, plan_memory
from alterrec.sessions import PrefixBatches, SessionStore
from alterrec.training.schedule import Phase
from alterrec.training.step import NoClock, Step

CATALOGUES = [10_000, 30_000, 100_000, 300_000, 1_000_000]
SESSIONS = [10_000, 100_000, 1_000_000]
QUICK = [6_000, 8_000]
TEXT, DIM, SAMPLES, TARGETS, BUDGET = 384, 128, 256, 1_000, "6GiB"


def sessions_of(count: int, num_items: int) -> SessionStore:
    """Random sessions of 2 to 8 items."""
    rng = np.random.default_rng(0)
    lengths = rng.integers(2, 9, count)
    items = rng.integers(0, num_items, lengths.sum())
    return SessionStore.from_arrays(np.repeat(np.arange(count), lengths), items, num_items=num_items)


def texts(folder: Path, num_items: int) -> np.ndarray[Any, Any]:
    """Random float16 vectors, memory-mapped from a file."""
    path = folder / "vectors.npy"
    vectors = np.lib.format.open_memmap(path, "w+", np.float16, (num_items, TEXT))
    rng = np.random.default_rng(0)
    for first in range(0, num_items, 65536):
        block = vectors[first : first + 65536]
        block[:] = rng.standard_normal(block.shape, np.float32)
    vectors.flush()
    return np.load(path, mmap_mode="c")


def catalogue(num_items: int) -> dict[str, float]:
    """Seconds of a step and of an evaluation, and peak memory, for one catalogue."""
    settings: dict[str, Any] = {"model.dim": DIM, "window.sample": 1024, "optim.batch_size": SAMPLES}
    recipe = resolve("alterrec", overrides=settings | {"run.memory_budget": BUDGET})
    with tempfile.TemporaryDirectory() as folder:
        vectors = torch.from_numpy(texts(Path(folder), num_items))
        model = build_model(recipe, ModelInputs(num_items, vectors, torch.ones(num_items, dtype=torch.bool)))
        store = sessions_of(2_000, num_items)
        batches = list(PrefixBatches(store, SAMPLES, 50, layout="by_session"))[:4]
        phase = Phase("id taught by text", "id", 1, "window", "text")
        memory = plan_memory(model, recipe, [phase], num_items, 8, peak_memory_bytes())
        buffer = ScoreBuffer(memory.train_rows)
        step = Step(
            model, recipe, phase, num_items, exclude_seen=True, seed=0, buffer=buffer, clock=NoClock()
        )
        optimiser = torch.optim.Adam(model.network("id").parameters(), lr=1e-3, fused=True)
        seconds = []
        for batch in batches:
            began = time.perf_counter()
            optimiser.zero_grad(set_to_none=True)
            step.loss(batch).backward()
            optimiser.step()
            seconds.append(time.perf_counter() - began)
        del step, buffer
        optimiser.zero_grad(set_to_none=True)
        targets = SessionStore.from_arrays(
            np.repeat(np.arange(TARGETS), 4), np.arange(4 * TARGETS) % num_items, num_items=num_items
        )
        began = time.perf_counter()
        ranks = evaluate(model.eval(), targets, Protocol("last", "excluded", 50, memory.score_bytes))
        assert len(ranks.targets) == TARGETS
        return {
            "step": float(np.median(seconds[1:])),
            "evaluation": time.perf_counter() - began,
            "peak": peak_memory_bytes() / 2**30,
        }


def epoch(count: int) -> dict[str, float]:
    """Seconds that all batches of an epoch take, in the layout `by_session`."""
    store = sessions_of(count, 10_000)
    began = time.perf_counter()
    samples = sum(len(batch.targets) for batch in PrefixBatches(store, 512, 50, layout="by_session"))
    assert samples == store.num_interactions - store.num_sessions
    return {"epoch": time.perf_counter() - began}


def measured(kind: str, size: int, threads: int) -> dict[str, float]:
    """Run one measurement in a separate process."""
    given = [sys.executable, __file__, "--one", kind, str(size), "--threads", str(threads)]
    answer = subprocess.run(given, check=True, capture_output=True, text=True)
    return dict(json.loads(answer.stdout))


def draw(path: Path, catalogues: dict[int, dict[str, float]], epochs: dict[int, dict[str, float]]) -> None:
    """Plot both curves on logarithmic axes, with a line of slope 1."""
    import matplotlib.pyplot as plt

    figure, (left, right) = plt.subplots(1, 2, figsize=(9, 3.6), layout="constrained")
    items = list(catalogues)
    for name, title in (("step", "a step of 256 samples"), ("evaluation", "1,000 targets ranked")):
        left.loglog(items, [row[name] for row in catalogues.values()], "o-", label=title)
    last = catalogues[items[-1]]["evaluation"]
    left.loglog(items, [last * size / items[-1] for size in items], ":", color="grey", label="linear")
    left.set(xlabel="items", ylabel="seconds")
    right.loglog(
        list(epochs), [row["epoch"] for row in epochs.values()], "o-", label="all batches of an epoch"
    )
    sizes = list(epochs)
    last = epochs[sizes[-1]]["epoch"]
    right.loglog(sizes, [last * size / sizes[-1] for size in sizes], ":", color="grey", label="linear")
    right.set(xlabel="sessions", ylabel="seconds")
    for axes in (left, right):
        axes.legend(frameon=False)
        axes.grid(alpha=0.3)
    figure.savefig(path, dpi=150)


def main() -> None:
    """Measure, print and plot both curves."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--plot", type=Path)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--one", nargs=2)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    ranking.set_threads(options.threads)
    if options.one:
        kind, size = options.one
        print(json.dumps({"catalogue": catalogue, "epoch": epoch}[kind](int(size))))
        return
    print(f"{timing.machine()}; torch {torch.__version__}, {options.threads} threads, budget {BUDGET}")
    catalogues = {}
    for size in QUICK if options.quick else CATALOGUES:
        row = catalogues[size] = measured("catalogue", size, options.threads)
        print(
            f"  {size:9,} items     step {row['step']:7.3f} s   evaluation {row['evaluation']:7.2f} s   "
            f"peak {row['peak']:5.2f} GiB",
            flush=True,
        )
    epochs = {}
    for size in QUICK if options.quick else SESSIONS:
        row = epochs[size] = measured("epoch", size, options.threads)
        print(f"  {size:9,} sessions  batches of an epoch {row['epoch']:7.3f} s", flush=True)
    if options.plot:
        draw(options.plot, catalogues, epochs)


if __name__ == "__main__":
    main()

"""Measure a step and an evaluation with a million items: memory beside its plan, time beside products.

    python benches/large.py                    # each optimiser of the ID table, some minutes
    python benches/large.py --pool 100000      # the teacher ranks a random tenth
    python benches/large.py --items 20000      # as a check that it runs

A step has 256 samples, d 128, text vectors of 384 columns mapped from a float16 file, the text network as
teacher of the ID network, and 1,024 candidates per sample: 512 of the teacher's top half and 512 random.
Evaluation ranks 100 targets in three views. Each optimiser runs in a process of its own. The products of a
step are the teacher's scores of all items or of its pool, and the three of the items that the step uses. For
a pool, the share of its hard negatives that the exact window has is printed.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import timing
import torch
from growth import DIM, SAMPLES, sessions_of, texts
from step import memory_line

from alterrec import ranking
from alterrec.evaluation.evaluate import Protocol, evaluate
from alterrec.models.base import Recommender
from alterrec.models.catalogue import build_model
from alterrec.models.parts import ModelInputs
from alterrec.nn.losses import ScoreBuffer
from alterrec.recipe import Recipe, resolve
from alterrec.runs.memory import peak_memory_bytes, plan_memory
from alterrec.sessions import Batch, PrefixBatches, SessionStore
from alterrec.training.candidates import draw_pool
from alterrec.training.optimisers import NetworkOptimiser
from alterrec.training.schedule import Phase
from alterrec.training.step import Clock, Step, items_scored
from alterrec.training.windows import WindowRanks, pool_size

RULES = ("adam", "lazy_adam", "rowwise_adagrad")
TARGETS, STEPS = 100, 2
# Samples whose scores a step has in memory at a time, and those of an evaluation.
ROWS, SCORE_BYTES = 64, 2**28


def restart_peak() -> None:
    """Let the largest memory of this process begin at its current one."""
    Path("/proc/self/clear_refs").write_text("5", "ascii")


def measured(num_items: int, rule: str, precision: str, pool: int) -> dict[str, Any]:
    """Memory and time of one optimiser."""
    settings: dict[str, Any] = {
        **{"model.dim": DIM, "window.sample": 1024, "optim.batch_size": SAMPLES, "id.optimiser": rule},
        **{"id.queries": "one", "text.queries": "one", "window.precision": precision},
        "window.pool": pool,
    }
    recipe, found = resolve("alterrec", overrides=settings), {}
    with tempfile.TemporaryDirectory() as folder:
        vectors = torch.from_numpy(texts(Path(folder), num_items))
        model = build_model(recipe, ModelInputs(num_items, vectors, torch.ones(num_items, dtype=torch.bool)))
        phase = Phase("id taught by text", "id", 1, "window", "text")
        found["before"] = memory_line("VmRSS")
        plan = plan_memory(model, recipe, [phase], num_items, 8, found["before"])
        scores, weights = (
            4 * ROWS * items_scored(recipe, phase, num_items),
            4 * sum(value.numel() for value in model.parameters()),
        )
        # The trainer also has two copies of the weights.
        found["planned for steps"] = plan.resident + plan.training - 2 * weights + scores
        found["planned for evaluation"] = plan.resident + plan.evaluation - 2 * weights + SCORE_BYTES
        # Its state is there in an evaluation, too.
        optimiser = NetworkOptimiser(model.network("id"), rule, 1e-3)
        found |= steps(model, recipe, phase, num_items, optimiser)
        found |= hardness(model, recipe, num_items)
        restart_peak()
        targets = SessionStore.from_arrays(
            np.repeat(np.arange(TARGETS), 4), np.arange(4 * TARGETS) % num_items, num_items=num_items
        )
        began = time.process_time()
        ranks = evaluate(model.eval(), targets, Protocol("last", "excluded", 50, SCORE_BYTES))
        assert len(ranks.targets) == TARGETS
        found["evaluation"] = time.process_time() - began
        found["peak of evaluation"] = peak_memory_bytes()
    return found


def steps(
    model: Recommender, recipe: Recipe, phase: Phase, num_items: int, optimiser: NetworkOptimiser
) -> dict[str, Any]:
    """Memory of a step, and its time beside that of its products."""
    batches = list(PrefixBatches(sessions_of(2_000, num_items), SAMPLES, 50, layout="by_session"))
    buffer, clock = ScoreBuffer(ROWS), Clock()
    restart_peak()
    step = Step(model, recipe, phase, num_items, exclude_seen=True, seed=0, buffer=buffer, clock=clock)

    used = []

    def learn(batch: Batch) -> None:
        step.loss(batch).backward()
        clock.lap("item table")
        used.append(rows_of(model.network("id").items.rows_VD.grad))
        optimiser.step()
        clock.lap("optimiser")

    for batch in batches[:2]:
        learn(batch)
    peak, seconds = peak_memory_bytes(), []
    least = products(pool_size(recipe.window, num_items) or num_items, used[-1], buffer)
    clock.seconds.clear()
    for batch in batches[2 : 2 + STEPS]:
        clock.start()
        seconds.append((spent(lambda b=batch: learn(b)), spent(least)))
    own, needed = np.median(seconds, axis=0).tolist()
    parts = {part: taken / STEPS for part, taken in clock.seconds.items()}
    return {"peak of steps": peak, "step": own, "least time": needed, "parts": parts, "items": used[-1]}


def rows_of(gradient: torch.Tensor) -> int:
    """Return the number of rows of a gradient that are not zero."""
    return len(gradient._values()) if gradient.is_sparse else int(gradient.any(1).sum())


@torch.no_grad()
def hardness(model: Recommender, recipe: Recipe, num_items: int) -> dict[str, float]:
    """Return the share of the hard negatives of a pool that are in the exact window."""
    size = pool_size(recipe.window, num_items)
    if not size:
        return {}
    network = model.network("text")
    table, ids = network.item_tables().outputs, draw_pool(size, num_items, seed=0, number=0)
    scores = torch.randn(ROWS, table.shape[1]) @ table.T
    exact = ranking.rank_window_mask(
        scores, *WindowRanks.on(recipe.window.model_copy(update={"pool": 0}), num_items)
    )
    ranks = WindowRanks.on(recipe.window, num_items)
    drawn = ids[ranking.rank_window(scores[:, ids], *ranks, sample=512)]
    return {"hard": exact.gather(1, drawn).float().mean().item()}


def spent(job: Callable[[], None]) -> float:
    """Return the processor seconds of a job, which depend little on other processes."""
    began = time.process_time()
    job()
    return time.process_time() - began


def products(ranked: int, used: int, buffer: ScoreBuffer) -> Callable[[], None]:
    """Return a function that computes the products of a step: the teacher's, and those of its items."""
    vectors, table, rows = (torch.randn(count, DIM) for count in (SAMPLES, ranked, used))

    def least() -> None:
        for chunk in buffer.chunks(SAMPLES):
            buffer.product(vectors[chunk], table)
        for chunk in buffer.chunks(SAMPLES):
            scores = buffer.product(vectors[chunk], rows)
            torch.mm(scores, rows)
            torch.mm(scores.T, vectors[chunk])

    return least


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--items", type=int, default=1_000_000)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--rule", choices=RULES)
    parser.add_argument("--pool", type=int, default=0)
    parser.add_argument("--precision", default="float32", choices=["float32", "float16"])
    parser.add_argument("--one", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    ranking.set_threads(options.threads)
    if options.one:
        print(json.dumps(measured(options.items, options.rule, options.precision, options.pool)))
        return
    print(
        f"{timing.machine()}; torch {torch.__version__}, {options.threads} threads, {options.items:,} items"
    )
    for rule in [options.rule] if options.rule else RULES:
        given = ["--one", "--items", str(options.items), "--rule", rule, "--precision", options.precision]
        given += ["--pool", str(options.pool)]
        answer = subprocess.run(
            [sys.executable, __file__, *given, "--threads", str(options.threads)],
            check=True,
            capture_output=True,
            text=True,
        )
        found = json.loads(answer.stdout)
        ratio, before = found["step"] / found["least time"], found["before"] / 2**30
        print(
            f"  {rule:16} {before:.2f} GiB before; CPU seconds: step {found['step']:.2f}, {ratio:.2f} times "
            f"its products with {found['items']:,} items; {TARGETS} targets {found['evaluation']:.2f}"
        )
        if "hard" in found:
            print(f"    {found['hard']:.2%} of the hard negatives of the pool are in the exact window")
        for stage in ("steps", "evaluation"):
            peak, planned = found[f"peak of {stage}"] / 2**30, found[f"planned for {stage}"] / 2**30
            print(f"    peak of {stage} {peak:.2f} GiB, planned {planned:.2f} ({planned / peak:.2f} times)")
        print(
            "    "
            + "by the clock: "
            + ", ".join(f"{part} {taken:.2f} s" for part, taken in found["parts"].items())
        )


if __name__ == "__main__":
    main()

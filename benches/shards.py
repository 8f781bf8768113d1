"""Measure item tables that are divided among processes: memory beside its plan, time, bytes that are sent.

    python benches/shards.py                       # 1, 2 and 4 processes, a million items, some minutes
    python benches/shards.py --items 20000         # as a check that it runs

A step has 256 samples, d 128 and text vectors of 384 columns, with the text network as teacher of the ID
network. Candidates are the whole catalogue in the first phase, and in the second one 1,024 per sample: 512 of
the teacher's top half and 512 random. Evaluation ranks 100 targets in three views. Each number of processes
is a job of its own, with one thread per process. Losses are asserted to be those of one process, ranks too up
to rounding, and the bytes sent to be those of the formula in docs/scale.md.
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
import torch.distributed as dist
from growth import DIM, SAMPLES, sessions_of, texts
from large import restart_peak
from step import memory_line

from alterrec import parallel, ranking
from alterrec.evaluation.evaluate import Protocol, evaluate
from alterrec.models.catalogue import build_model
from alterrec.models.parts import ModelInputs
from alterrec.nn.item_encoders import divided_tensors
from alterrec.nn.losses import ScoreBuffer
from alterrec.recipe import resolve
from alterrec.runs.memory import peak_memory_bytes, plan_memory
from alterrec.sessions import PrefixBatches, SessionStore
from alterrec.shards import Shard
from alterrec.training.divided_step import DividedStep
from alterrec.training.gradients import GradientSum
from alterrec.training.optimisers import NetworkOptimiser
from alterrec.training.schedule import Phase
from alterrec.training.step import Clock, Step, are_few

TARGETS, STEPS = 100, 2
# Samples whose scores a step has in memory at a time, and scores of an evaluation.
ROWS, SCORE_BYTES = 64, 2**28
PHASES = {
    "whole catalogue": Phase("warm-up", "id", 1, "full"),
    "drawn": Phase("id taught by text", "id", 1, "window", "text"),
}


class Sent:
    """Counts the bytes that this process sends, by the algorithms of a ring and of pairs.

    Attributes:
        rows: those of rows and scores that processes exchange.
        bytes: all others.
    """

    def __init__(self) -> None:
        self.bytes, self.rows = 0.0, 0.0
        for name in ("all_reduce", "all_gather", "all_to_all_single"):
            setattr(dist, name, self._counted(name, getattr(dist, name)))

    def _counted(self, name: str, call: Callable[..., Any]) -> Callable[..., Any]:
        def counted(first: Any, *more: Any, **named: Any) -> Any:
            world, rank = parallel.job().world, parallel.job().rank
            if name == "all_reduce":
                self.bytes += 2 * (world - 1) / world * first.numel() * first.element_size()
            elif name == "all_gather":
                self.bytes += (world - 1) * more[0].numel() * more[0].element_size()
            else:
                rows, sizes = more[0], more[2]
                each = rows.numel() // max(len(rows), 1) * rows.element_size()
                self.rows += (sum(sizes) - sizes[rank]) * each
            return call(first, *more, **named)

        return counted


def formula(drawn: bool, few: bool, others: int, chunks: int) -> float:
    """Return the bytes that a process sends in a step besides rows, as in docs/scale.md.

    Args:
        drawn: whether the candidates of the phase are drawn from a teacher's window.
        few: whether their rows are fetched.
        others: number of trained values that are not divided.
        chunks: number of chunks of samples.
    """
    world = parallel.job().world
    ring = 2 * (world - 1) / world
    gradients = ring * 4 * (others + 2)
    vectors = ring * 4 * SAMPLES * DIM
    found = gradients
    if drawn:
        # The teacher's vectors, and the window: counts of keys, sizes of its parts, and ids.
        counts = SAMPLES * (256 + 3 * 512) + chunks
        found += vectors + ring * (4 * counts + 8 * SAMPLES * 512) + (world - 1) * 32 * SAMPLES
    if not few:
        # Vectors and their gradients; the normaliser and the score of the target of each sample.
        found += 2 * vectors + (world - 1) * 8 * 2 * SAMPLES
    return found


def measured(num_items: int, rule: str, folder: Path) -> dict[str, Any]:
    """Memory, time and traffic of this process."""
    world, sent = parallel.job().world, Sent()
    settings: dict[str, Any] = {
        **{"model.dim": DIM, "window.sample": 1024, "optim.batch_size": SAMPLES, "id.optimiser": rule},
        **{"id.queries": "one", "text.queries": "one", "window.precision": "float16"},
    }
    recipe, found = resolve("alterrec", overrides=settings), dict[str, Any]()
    vectors = torch.from_numpy(np.load(folder / "vectors.npy", mmap_mode="r"))
    trained = torch.ones(num_items, dtype=torch.bool)
    torch.manual_seed(0)
    shard = Shard.own(num_items) if world > 1 else None
    model = build_model(recipe, ModelInputs(num_items, vectors, trained, shard=shard))
    del vectors
    resident = memory_line("VmRSS")
    network = model.network("id")
    optimiser, gradients = NetworkOptimiser(network, rule, 1e-3), GradientSum(network)
    batches = list(PrefixBatches(sessions_of(2_000, num_items), SAMPLES, 50, layout="by_session"))
    weights = 4 * sum(value.numel() for value in model.parameters())
    found["phases"] = {}
    for name, phase in PHASES.items():
        plan = plan_memory(model, recipe, [phase], num_items, 8, resident)
        buffer, clock = ScoreBuffer(ROWS), Clock()
        restart_peak()
        step = (DividedStep if shard else Step)(
            model, recipe, phase, num_items, exclude_seen=True, seed=0, buffer=buffer, clock=clock
        )
        losses, seconds, bytes_sent = [], [], 0.0
        for number, batch in enumerate(batches[: 1 + STEPS]):
            sent.bytes = sent.rows = 0.0
            dist.barrier() if world > 1 else None
            began = time.perf_counter()
            if number == 1:
                clock.seconds.clear()
            clock.start()
            loss = step.loss(batch, number)
            loss.backward()
            clock.lap("item table")
            gradients.add_up(wanted=False, stopped=False)
            clock.lap("other processes")
            optimiser.step()
            clock.lap("optimiser")
            seconds.append(time.perf_counter() - began)
            if world > 1 and number:
                divided = divided_tensors(network)
                others = sum(each.numel() for key, each in network.named_parameters() if key not in divided)
                few = phase.teacher is not None and are_few(1024, num_items)
                expected = formula(phase.teacher is not None, few, others, len(buffer.chunks(SAMPLES)))
                assert sent.bytes == expected, f"{name}: {sent.bytes} bytes, not {expected}"
            bytes_sent = sent.bytes + sent.rows
            losses.append(parallel.add_up(loss.detach().clone()).item())
        scored = 4 * ROWS * (len(buffer._memory[""]) // ROWS if "" in buffer._memory else num_items)
        found["phases"][name] = {
            "losses": losses,
            "seconds": float(np.median(seconds[1:])),
            "parts": {part: taken / STEPS for part, taken in clock.seconds.items()},
            "sent": bytes_sent,
            "peak": peak_memory_bytes(),
            # The trainer also has two copies of the weights.
            "planned": plan.resident + plan.training - 2 * weights + scored,
        }
        del step, buffer
    targets = SessionStore.from_arrays(
        np.repeat(np.arange(TARGETS), 4), np.arange(4 * TARGETS) % num_items, num_items=num_items
    )
    restart_peak()
    sent.bytes, sent.rows, began = 0.0, 0.0, time.perf_counter()
    ranks = evaluate(model.eval(), targets, Protocol("last", "excluded", 50, SCORE_BYTES))
    found["evaluation"] = {
        "seconds": time.perf_counter() - began,
        "sent": sent.bytes + sent.rows,
        "peak": peak_memory_bytes(),
        "planned": plan.resident + plan.evaluation - 2 * weights + SCORE_BYTES,
        "greater": np.concatenate([greater for greater, _ in ranks.views.values()]).tolist(),
    }
    return found | {"before": resident}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--items", type=int, default=1_000_000)
    parser.add_argument("--processes", type=int, nargs="+", default=[1, 2, 4])
    parser.add_argument("--rule", default="adam")
    parser.add_argument("--one", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    torch.set_num_threads(1)
    ranking.set_threads(1)
    if options.one:
        with parallel.joined_job() as job:
            found = measured(options.items, options.rule, options.one)
            (options.one / f"{job.rank}.json").write_text(json.dumps(found), "utf-8")
        return
    print(f"{timing.machine()}; torch {torch.__version__}, one thread per process, {options.items:,} items")
    with tempfile.TemporaryDirectory() as name:
        folder, alone = Path(name), None
        texts(folder, options.items)
        for world in options.processes:
            launcher = [sys.executable, "-m", "torch.distributed.run", f"--nproc-per-node={world}"]
            given = ["--one", str(folder), "--items", str(options.items), "--rule", options.rule]
            answer = subprocess.run([*launcher, __file__, *given], capture_output=True, text=True)
            if answer.returncode:
                raise SystemExit(answer.stderr)
            each = [json.loads((folder / f"{rank}.json").read_text("utf-8")) for rank in range(world)]
            alone = alone or each[0]
            show(world, each, alone)


def show(world: int, each: list[dict[str, Any]], alone: dict[str, Any]) -> None:
    """Compare a job with that of the first number of processes, and print it."""
    print(f"{world} processes, {max(one['before'] for one in each) / 2**30:.2f} GiB before")
    for name, phase in each[0]["phases"].items():
        np.testing.assert_allclose(phase["losses"], alone["phases"][name]["losses"], rtol=1e-5)
        line(name, [one["phases"][name] for one in each])
        print("    " + ", ".join(f"{part} {taken:.2f} s" for part, taken in phase["parts"].items()))
    for one in each:
        # Weights and scores differ by rounding, by which near items change places.
        ranks, expected = (np.array(each["evaluation"]["greater"]) for each in (one, alone))
        np.testing.assert_allclose(ranks, expected, rtol=1e-3, atol=3)
    line(f"{TARGETS} targets", [one["evaluation"] for one in each])
    other = (ranks != expected).sum()
    print(f"    {other} of {ranks.size} ranks differ, by up to {abs(ranks - expected).max()}")


def line(name: str, of_each: list[dict[str, Any]]) -> None:
    """Print time, memory and traffic."""
    peak = max(one["peak"] for one in of_each) / 2**30
    planned, sent = of_each[0]["planned"] / 2**30, max(one["sent"] for one in of_each) / 1e6
    print(
        f"  {name}: {max(one['seconds'] for one in of_each):.2f} s, peak {peak:.2f} GiB, "
        f"planned {planned:.2f} ({planned / peak:.2f} times), sent {sent:.1f} MB"
    )


if __name__ == "__main__":
    main()

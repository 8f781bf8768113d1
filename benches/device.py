"""Compare the device with the CPU: rank windows, ranks, a session encoder and a whole step.

    python benches/device.py                 # the first device that torch finds; within a minute
    python benches/device.py --device cuda:1
    python benches/device.py --device cpu --quick     # tries the script where there is no device

Results are asserted equal first: ids, bits and counts exactly, vectors, losses and gradients up to rounding.
Without a device, the script says so in one sentence and ends with code 2, so that nobody takes it for a
success. With `--device cpu`, the functions for devices run on tensors of the CPU, where they are slower than
the core.

What to expect: windows and ranks take one to three times what their memory traffic takes at the speed of a
copy, which is measured first; ten times as long means that something sorts or waits for the host. A step
takes little longer than its four matrix products.
"""

from __future__ import annotations

import argparse
import copy
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any, NamedTuple
from unittest import mock

import numpy as np
import torch
from step import MAX_LEN, PHASES, Size, store, system

from alterrec import _ranking_arguments, _ranking_mixtures, _ranking_seen, ranking
from alterrec.models.base import Recommender
from alterrec.models.batches import SessionBatch
from alterrec.nn.losses import ScoreBuffer
from alterrec.recipe import Recipe
from alterrec.sessions import Batch, PrefixBatches
from alterrec.training.step import NoClock, Step

FULL = Size(40_258, 300, 384, (20, 20_000), 9_000, 5)
QUICK = Size(2_500, 32, 24, (4, 1_200), 300, 2)
SAMPLES = 512
# Bytes that the torch operations of a window and of ranks read and write for each score of 32 bits, counted
# from their code: keys 30; two cuts of 50 with at most 6 for what is selected; bits 6; two comparisons of 10.
WINDOW_BYTES, RANKS_BYTES = 150, 20


class Sides(NamedTuple):
    """The same model on the CPU and on the device, and a batch."""

    here: tuple[Recommender, Recipe]
    there: tuple[Recommender, Recipe]
    batch: Batch


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--device", default="")
    parser.add_argument("--quick", action="store_true")
    options = parser.parse_args()
    if not options.device and not torch.accelerator.is_available():
        print("torch finds no device here; give --device cpu to try this script without one", file=sys.stderr)
        raise SystemExit(2)
    device = options.device or str(torch.accelerator.current_accelerator())
    size = QUICK if options.quick else FULL
    name = torch.cuda.get_device_name(device) if device.startswith("cuda") else device
    print(f"{name}; torch {torch.__version__}; {SAMPLES} samples, {size.items} items, d {size.dim}")
    bandwidth, speed = copy_speed(device, size), product_speed(device, size)
    print(f"  copies {bandwidth / 1e9:.0f} GB/s (read and written), products {speed / 1e12:.2f} TFLOP/s")
    rng = np.random.default_rng(0)
    scores = torch.from_numpy(rng.standard_normal((SAMPLES, size.items), np.float32))
    # Close scores: in bfloat16, some hundred values for all items.
    for kind in (torch.float32, torch.bfloat16):
        windows(scores.to(kind), size, device, bandwidth)
    ranks(scores, device, bandwidth)
    batch = next(iter(PrefixBatches(store(size), SAMPLES, MAX_LEN, seed=1, layout="by_session")))
    model, recipe = system(size)
    there = copy.deepcopy(model).to(device)
    moved = recipe.model_copy(update={"run": recipe.run.model_copy(update={"device": device})})
    sides = Sides((model, recipe), (there, moved), batch)
    encoder(sides, device, speed, size)
    step(sides, device, speed, size)


@contextmanager
def on_device(device: str) -> Iterator[None]:
    """Let the functions for devices run on tensors of the CPU, if that is the device."""
    with ExitStack() as stack:
        if device == "cpu":
            for module in (ranking, _ranking_seen, _ranking_mixtures, _ranking_arguments):
                stack.enter_context(
                    mock.patch.object(module, "on_device", lambda values: isinstance(values, torch.Tensor))
                )
        yield


def seconds(job: Callable[[], Any], device: str, repeats: int = 5) -> float:
    """Return the median seconds of a job after a first one, waiting for the device."""
    taken = []
    for turn in range(repeats + 1):
        wait(device)
        began = time.perf_counter()
        job()
        wait(device)
        if turn:
            taken.append(time.perf_counter() - began)
    return float(np.median(taken))


def wait(device: str) -> None:
    if device != "cpu":
        torch.accelerator.synchronize()


def line(what: str, there: float, here: float, expected: float) -> None:
    print(
        f"  {what:40} device {there * 1e3:8.2f} ms, CPU core {here * 1e3:8.1f} ms ({here / there:6.1f}x); "
        f"{there / expected:5.1f} times what its memory traffic or products take",
        flush=True,
    )


def copy_speed(device: str, size: Size) -> float:
    """Return the bytes read and written per second by copying a score matrix."""
    matrix = torch.zeros(SAMPLES, size.items, device=device)
    target = torch.empty_like(matrix)
    return 2 * matrix.nbytes / seconds(lambda: target.copy_(matrix), device)


def product_speed(device: str, size: Size) -> float:
    """Return the floating-point operations per second of the product that gives scores."""
    vectors, table = (torch.randn(rows, size.dim, device=device) for rows in (SAMPLES, size.items))
    return 2 * SAMPLES * size.items * size.dim / seconds(lambda: vectors @ table.T, device)


def windows(scores: Any, size: Size, device: str, bandwidth: float) -> None:
    """Windows as bits, a sample of their ids, and top lists."""
    exclude = torch.randint(0, size.items, (SAMPLES, 4), generator=torch.Generator().manual_seed(0))
    moved, moved_exclude = scores.to(device), exclude.to(device)
    options: dict[str, Any] = {"sample": 64, "seed": 3}

    def here() -> Any:
        return ranking.rank_window_bits(scores, *size.window, exclude=exclude)

    def there() -> Any:
        return ranking.rank_window_bits(moved, *size.window, exclude=moved_exclude)

    drawn = ranking.rank_window(scores, *size.window, exclude=exclude, **options)
    best = ranking.top_ranked(scores, 20, exclude=exclude)
    with on_device(device):
        drawn_there = ranking.rank_window(moved, *size.window, exclude=moved_exclude, **options)
        best_there = ranking.top_ranked(moved, 20, exclude=moved_exclude)
        with ranking.unchecked():
            taken = seconds(there, device)
            bits = there().cpu()
    assert torch.equal(bits, here())
    assert torch.equal(drawn_there.cpu(), drawn)
    assert all(torch.equal(left.cpu(), right) for left, right in zip(best_there, best, strict=True))
    expected = WINDOW_BYTES * scores.numel() * scores.element_size() / 4 / bandwidth
    line(
        f"window [{size.window[0]}, {size.window[1]}), {scores.dtype}", taken, seconds(here, "cpu"), expected
    )


def ranks(scores: Any, device: str, bandwidth: float) -> None:
    """Ranks of one target in each row; in the second half of the rows there are many ties."""
    scores = scores.clone()
    scores[SAMPLES // 2 :] = scores[SAMPLES // 2 :].round()
    targets = torch.arange(SAMPLES)
    moved, moved_targets = scores.to(device), targets.to(device)

    def here() -> Any:
        return ranking.target_counts(scores, targets)

    def there() -> Any:
        return ranking.target_counts(moved, moved_targets)

    with on_device(device):
        found, taken = there(), seconds(there, device)
    assert all(torch.equal(left.cpu(), right) for left, right in zip(found, here(), strict=True))
    line("ranks", taken, seconds(here, "cpu"), RANKS_BYTES * scores.numel() / bandwidth)


def encoder(sides: Sides, device: str, speed: float, size: Size) -> None:
    """A Transformer of two layers over the sessions of a batch, forward and backward."""

    def vectors(model: Recommender, where: str) -> Any:
        network = model.network("id").train()
        batch = SessionBatch.of(sides.batch, where)
        found = network.encode_sessions(batch, network.item_tables())
        network.zero_grad()
        found.square().sum().backward()
        return found.detach()

    with on_device(device):
        found = vectors(sides.there[0], device)
        taken = seconds(lambda: vectors(sides.there[0], device), device)
    torch.testing.assert_close(found.cpu(), vectors(sides.here[0], "cpu"), rtol=1e-3, atol=1e-3)
    here = seconds(lambda: vectors(sides.here[0], "cpu"), "cpu")
    # Each layer has 12 products of d x d for each place, forward and twice that backward.
    products = 2 * 3 * 12 * 2 * size.dim**2 * sides.batch.items.size
    line("encoder, forward and backward", taken, here, products / speed)


def step(sides: Sides, device: str, speed: float, size: Size) -> None:
    """A step of the ID network with the text network as teacher."""

    def made(model: Recommender, recipe: Recipe) -> Step:
        options: dict[str, Any] = {"exclude_seen": False, "seed": 0, "buffer": ScoreBuffer()}
        return Step(model, recipe, PHASES[0], size.items, clock=NoClock(), **options)

    def learned(one: Step) -> tuple[Any, Any]:
        one.network.zero_grad()
        loss = one.loss(sides.batch)
        loss.backward()
        return loss.detach().cpu(), [value.grad for value in one.network.parameters()]

    with on_device(device):
        there = made(*sides.there)
        loss, gradients = learned(there)
        taken = seconds(lambda: learned(there), device)
    here = made(*sides.here)
    expected_loss, expected = learned(here)
    # A score that differs in its last bit may be on the other side of a cut.
    torch.testing.assert_close(loss, expected_loss, rtol=1e-4, atol=1e-4)
    for left, right in zip(gradients, expected, strict=True):
        distance = (left.cpu() - right).norm() / right.norm().clamp(min=1e-6)
        assert distance < 1e-2, f"the gradients differ by {distance:.1e} of their size"
    products = 4 * 2 * SAMPLES * size.items * size.dim
    line("step, id taught by text", taken, seconds(lambda: learned(here), "cpu", 2), products / speed)


if __name__ == "__main__":
    main()

"""Padded and packed batches of prefixes against vectorised numpy.

    python benches/batches.py [SESSIONS]

Batches of one order are asserted equal. Whole epochs are timed, the sides taking turns, best of several;
figures are samples a second and their ratio to numpy.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from alterrec.sessions import PrefixBatches, SessionStore

BATCH, MAX_LEN, ROUNDS = 512, 50, 9
Int64 = NDArray[np.int64]


def synthetic_store(sessions: int) -> SessionStore:
    """Sessions of 1 + Poisson(4) items of 40,000: mean length 5, about 4 samples a session."""
    rng = np.random.default_rng(0)
    lengths = 1 + rng.poisson(4, sessions)
    return SessionStore.from_arrays(
        np.repeat(np.arange(sessions), lengths), rng.integers(0, 40_000, lengths.sum())
    )


def numpy_batches(
    items: Int64, starts: Int64, ends: Int64, order: Int64
) -> Iterator[tuple[Int64, Int64, Int64]]:
    """(items, lengths, targets) padded to the longest of the batch, by one gather a batch."""
    columns = np.arange(MAX_LEN)
    for at in range(0, len(order), BATCH):
        end = ends[order[at : at + BATCH]]
        lengths = np.minimum(end - starts[order[at : at + BATCH]], MAX_LEN)
        column = columns[: lengths.max()]
        places = np.minimum((end - lengths)[:, None] + column, len(items) - 1)
        yield np.where(column < lengths[:, None], items[places], 0), lengths, items[end]


def assert_equal_batches(batches: PrefixBatches, expected: Iterator[tuple[Int64, Int64, Int64]]) -> None:
    """Padded items, lengths and targets of both sides, batch by batch."""
    for batch, (padded, lengths, targets) in zip(batches, expected, strict=True):
        np.testing.assert_array_equal(batch.items, padded)
        np.testing.assert_array_equal(batch.lengths, lengths)
        np.testing.assert_array_equal(batch.targets, targets)


def consumed(batches: Iterable[object]) -> None:
    """Takes all batches, keeps none."""
    for _ in batches:
        pass


def compare(title: str, samples: int, sides: dict[str, Callable[[], None]]) -> None:
    """Best of several rounds in which the sides take turns; prints samples a second and ratios."""
    best = dict.fromkeys(sides, float("inf"))
    for _ in range(ROUNDS):
        for name, epoch in sides.items():
            begin = time.perf_counter()
            epoch()
            best[name] = min(best[name], time.perf_counter() - begin)
    print(f"{title}: {samples} samples, batches of {BATCH}")
    for name, spent in best.items():
        print(f"  {name:24} {samples / spent / 1e6:6.1f} M samples/s  {best['numpy'] / spent:5.1f}x numpy")


def main() -> None:
    """Assert equality, then time and print."""
    store = synthetic_store(int(sys.argv[1]) if len(sys.argv) > 1 else 100_000)
    sessions, ends = store.prefixes().T
    starts = store.offsets[sessions]
    ends = starts + ends
    items = store.items.astype(np.int64)
    rng = np.random.default_rng(1)

    def ours(**options: Any) -> PrefixBatches:
        return PrefixBatches(store, BATCH, MAX_LEN, **options)

    def theirs(order: Int64) -> Iterator[tuple[Int64, Int64, Int64]]:
        return numpy_batches(items, starts, ends, order)

    sides: dict[str, Callable[[], None]] = {
        "numpy": lambda: consumed(theirs(rng.permutation(len(ends)))),
        "padded": lambda: consumed(ours()),
        "padded, no buckets": lambda: consumed(ours(bucket=False)),
        "padded, reused buffers": lambda: consumed(ours(reuse=True)),
        "packed": lambda: consumed(ours(layout="packed")),
    }
    compare("shuffle and fill", len(ends), sides)
    for bucket in (False, True):
        ready = ours(bucket=bucket)
        order = np.searchsorted(ends, np.concatenate([batch.samples for batch in ready]))
        assert_equal_batches(ready, theirs(order))
        reused, packed = ours(bucket=bucket, reuse=True), ours(bucket=bucket, layout="packed")
        sides = {
            "numpy": partial(lambda order: consumed(theirs(order)), order),
            "padded": partial(consumed, ready),
            "padded, reused buffers": partial(consumed, reused),
            "packed": partial(consumed, packed),
        }
        compare(f"fill alone, one order, {'' if bucket else 'no '}buckets", len(ends), sides)


if __name__ == "__main__":
    main()

"""Time padded and packed batches of prefixes against vectorised numpy, and against each other.

    python benches/batches.py            # 100,000 sessions of mean length 5, 400,000 samples
    python benches/batches.py 10000      # fewer sessions

Batches in the same order are asserted equal first. Whole epochs are timed, including the shuffle unless the
line says otherwise, and the sides alternate. Each line is a ratio of medians with its quartiles over rounds.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np
import timing
from numpy.typing import NDArray

from alterrec.sessions import PrefixBatches, SessionStore

BATCH, MAX_LEN, ROUNDS = 512, 50, 15
Int64 = NDArray[np.int64]


def synthetic_store(lengths: Int64) -> SessionStore:
    """Random sessions of these lengths over 40,000 items."""
    items = np.random.default_rng(0).integers(0, 40_000, lengths.sum())
    return SessionStore.from_arrays(np.repeat(np.arange(len(lengths)), lengths), items)


def numpy_batches(
    items: Int64, starts: Int64, ends: Int64, order: Int64
) -> Iterator[tuple[Int64, Int64, Int64]]:
    """Yield (items, lengths, targets), padded to the longest prefix of the batch, by one gather per batch."""
    columns = np.arange(MAX_LEN)
    for at in range(0, len(order), BATCH):
        end = ends[order[at : at + BATCH]]
        lengths = np.minimum(end - starts[order[at : at + BATCH]], MAX_LEN)
        column = columns[: lengths.max()]
        places = np.minimum((end - lengths)[:, None] + column, len(items) - 1)
        yield np.where(column < lengths[:, None], items[places], 0), lengths, items[end]


def consumed(batches: Iterable[object]) -> None:
    """Iterate over all batches without keeping any."""
    for _ in batches:
        pass


def compare(title: str, store: SessionStore) -> None:
    """Assert equality, then time both of our layouts and numpy's padding."""
    sessions, ends = store.prefixes().T
    starts = store.offsets[sessions]
    ends = starts + ends
    items = store.items.astype(np.int64)
    rng = np.random.default_rng(1)

    def ours(**options: Any) -> PrefixBatches:
        return PrefixBatches(store, BATCH, MAX_LEN, **options)

    def theirs(order: Int64) -> Iterator[tuple[Int64, Int64, Int64]]:
        return numpy_batches(items, starts, ends, order)

    padded, packed = ours(bucket=False), ours(bucket=False, layout="packed")
    order = np.searchsorted(ends, np.concatenate([batch.samples for batch in padded]))
    for batch, other, (matrix, lengths, targets) in zip(padded, packed, theirs(order), strict=True):
        np.testing.assert_array_equal(batch.items, matrix)
        np.testing.assert_array_equal(batch.lengths, lengths)
        np.testing.assert_array_equal(batch.targets, targets)
        inside = np.arange(matrix.shape[1]) < lengths[:, None]
        np.testing.assert_array_equal(other.items, matrix[inside])
        np.testing.assert_array_equal(other.positions, np.nonzero(inside)[1])
    seconds = timing.rounds(
        {
            "numpy": lambda: consumed(theirs(rng.permutation(len(ends)))),
            "padded": lambda: consumed(ours(bucket=False)),
            "reused": lambda: consumed(ours(bucket=False, reuse=True)),
            "packed": lambda: consumed(ours(bucket=False, layout="packed")),
            "bucketed": lambda: consumed(ours()),
            "bucketed packed": lambda: consumed(ours(layout="packed")),
            "filled": lambda: consumed(padded),
            "filled packed": lambda: consumed(packed),
            "numpy, one order": lambda: consumed(theirs(order)),
        },
        ROUNDS,
    )
    width = np.mean([batch.items.shape[1] for batch in padded])
    print(f"\n{title}: {len(ends)} samples, batches of {BATCH}, {width:.0f} wide on average")
    for name, spent in seconds.items():
        print(f"  {name:24} {len(ends) / np.median(spent) / 1e6:6.1f} M samples/s")
    timing.line("numpy / padded", seconds["padded"], seconds["numpy"], 4, 6)
    timing.line("numpy / padded into reused buffers", seconds["reused"], seconds["numpy"], 4, 6)
    timing.line("numpy / padded in buckets", seconds["bucketed"], seconds["numpy"], 4, 6)
    timing.line("numpy / padded, already shuffled", seconds["filled"], seconds["numpy, one order"])
    timing.line("padded / packed", seconds["packed"], seconds["padded"], 1.7, 2)
    timing.line("padded / packed, already shuffled", seconds["filled packed"], seconds["filled"], 1.7, 2)


def main() -> None:
    """Compare on Poisson lengths and on the long-tailed lengths that real sessions have."""
    count = int(sys.argv[1]) if len(sys.argv) > 1 else 100_000
    rng = np.random.default_rng(0)
    print(f"{timing.machine()}; numpy {np.__version__}")
    compare("Poisson lengths, 5 on average", synthetic_store(1 + rng.poisson(4, count)))
    tail = np.minimum(1 + rng.lognormal(0.75, 1.1, count).astype(np.int64), 200)
    compare(f"long-tailed lengths, {tail.mean():.1f} on average", synthetic_store(tail))


if __name__ == "__main__":
    main()

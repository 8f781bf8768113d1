"""Write a log of generated events, as a shop would have it: users and times, no sessions, in no order.

    python benches/event_log.py FOLDER --events 2_000_000

An event is a function of the seed and its number alone (counter-based), so that a log of any size can be
written in parts without holding it. There is one user for each 100 events, one session for each 25, and one
item for each 50.
"""

from __future__ import annotations

import argparse
from itertools import pairwise
from pathlib import Path

import numpy as np
import polars as pl
from numpy.typing import NDArray

EVENTS_PER_SESSION = 25
EVENTS_PER_ITEM = 50
EVENTS_PER_USER = 100
DAY = 86_400
FIRST_SECOND = 1_700_000_000
DAYS = 90
# The share of events near their session's first item, and how far from it they are.
NEAR_SHARE = 0.6
NEARBY = 20
# It has no factor in common with 10**10, so that items have different ids.
ITEM_STEP = 7_654_321_987

Words = NDArray[np.uint64]


def write_log(folder: Path, events: int, parts: int = 20, seed: int = 0) -> list[Path]:
    """Write ``events`` rows user_id, item_id, timestamp to ``folder/part-NN.parquet``; return the files.

    Args:
        folder: where to write; it is created.
        events: number of rows; 100 or more.
        parts: number of files.
        seed: of all draws.
    """
    folder.mkdir(parents=True, exist_ok=True)
    bounds = np.linspace(0, events, parts + 1).astype(np.int64)
    files = []
    for part, (start, stop) in enumerate(pairwise(bounds.tolist())):
        file = folder / f"part-{part:02}.parquet"
        log_rows(start, stop, events, seed).write_parquet(file, compression="zstd", compression_level=1)
        files.append(file)
    return files


def log_rows(start: int, stop: int, events: int, seed: int = 0) -> pl.DataFrame:
    """Rows ``start`` to ``stop - 1`` of the log of ``events`` rows: user_id, item_id, timestamp (seconds)."""
    items, users, sessions = (
        max(1, events // each) for each in (EVENTS_PER_ITEM, EVENTS_PER_USER, EVENTS_PER_SESSION)
    )
    # A bijection of 0..events-1 that puts the events of a session far apart.
    number = (np.arange(start, stop, dtype=np.uint64) * np.uint64(_stride(events))) % np.uint64(events)
    session, place = np.divmod(number, np.uint64(EVENTS_PER_SESSION))
    session %= np.uint64(sessions)
    user = _draw(seed, 1, session) % np.uint64(users)
    began = FIRST_SECOND + (_share(seed, 2, session) * DAYS * DAY).astype(np.int64)
    # Steps of 0 to 40 seconds: neighbours may have the same second, and the order of the rows decides.
    time = began + place.astype(np.int64) * 20 + (_draw(seed, 3, number) % np.uint64(21)).astype(np.int64)
    first = _popular(_share(seed, 4, session), items)
    near = (first + (_draw(seed, 5, number) % np.uint64(NEARBY)).astype(np.int64)) % items
    far = _popular(_share(seed, 6, number), items)
    item = np.where(_share(seed, 7, number) < NEAR_SHARE, near, far)
    # Numbers as they are given by a database: 64 bits for users, ten letters and digits for items.
    names = pl.Series("item_id", item * ITEM_STEP % 10**10).cast(pl.String)
    return pl.DataFrame({"user_id": 10_000_000_000 + user.astype(np.int64) * 37, "timestamp": time}).select(
        "user_id", ("B" + names.str.zfill(10)).alias("item_id"), "timestamp"
    )


def _popular(share: NDArray[np.float64], items: int) -> NDArray[np.int64]:
    """Numbers of items of which few are frequent."""
    return np.minimum((share**2.5 * items).astype(np.int64), items - 1)


def _stride(events: int) -> int:
    """A number near the golden section of ``events`` that has no factor in common with it."""
    stride = int(events * 0.6180339887)
    while np.gcd(stride, events) != 1:
        stride += 1
    return stride


def _draw(seed: int, purpose: int, counters: Words) -> Words:
    """One random word for each counter (SplitMix64's finaliser of the counter and a key)."""
    key = np.uint64((seed * 0x9E3779B97F4A7C15 + purpose * 0xD1B54A32D192ED03) % 2**64)
    words = counters * np.uint64(0x9E3779B97F4A7C15) + key
    words = (words ^ (words >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    words = (words ^ (words >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return words ^ (words >> np.uint64(31))


def _share(seed: int, purpose: int, counters: Words) -> NDArray[np.float64]:
    """One number of 0 to 1 for each counter."""
    shares: NDArray[np.float64] = (_draw(seed, purpose, counters) >> np.uint64(11)) * 2.0**-53
    return shares


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("folder", type=Path)
    parser.add_argument("--events", type=int, default=2_000_000)
    parser.add_argument("--parts", type=int, default=20)
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()
    files = write_log(given.folder, given.events, given.parts, given.seed)
    size = sum(file.stat().st_size for file in files)
    print(f"{given.events:,} events in {len(files)} files, {size / 1e6:,.0f} MB: {given.folder}")


if __name__ == "__main__":
    main()

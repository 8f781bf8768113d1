"""The compiled core; use `alterrec.ranking` and `alterrec.sessions`, which check and convert."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

__version__: str

def rank_window(
    scores: NDArray[np.float32],
    start: int,
    stop: int,
    exclude: NDArray[np.int64],
    draw: tuple[int, int, NDArray[np.uint64]] | None,
    threads: int | None,
) -> NDArray[np.int64]:
    """Ids at ranks start..stop-1; draw is (count, seed, rows)."""

def rank_window_mask(
    scores: NDArray[np.float32],
    start: int,
    stop: int,
    exclude: NDArray[np.int64],
    threads: int | None,
) -> NDArray[np.bool_]:
    """Whether each item is at ranks start..stop-1."""

def top_ranked(
    scores: NDArray[np.float32], k: int, exclude: NDArray[np.int64], threads: int | None
) -> NDArray[np.int64]:
    """Ids of the k highest-ranked items in rank order."""

def target_counts(
    scores: NDArray[np.float32],
    targets: NDArray[np.int64],
    exclude: NDArray[np.int64],
    threads: int | None,
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """(greater, tied), each (1, B)."""

def fused_target_counts(
    views: Sequence[NDArray[np.float32]],
    weights: NDArray[np.float32],
    targets: NDArray[np.int64],
    exclude: NDArray[np.int64],
    threads: int | None,
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """(greater, tied), each (views + 1, B), the weighted sum last."""

def window_positions(
    draw: tuple[int, int, NDArray[np.uint64]], population: int, threads: int | None
) -> NDArray[np.int64]:
    """The positions in an ascending window that rank_window draws; draw is (count, seed, rows)."""

def uniform_items(
    draw: tuple[int, int, NDArray[np.uint64]], num_items: int, threads: int | None
) -> NDArray[np.int64]:
    """Ids with replacement from the catalogue; draw is (count, seed, rows)."""

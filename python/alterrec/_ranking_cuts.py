"""Rank windows between known cuts, and counts of keys by which cuts are found, on numpy or torch.

:mod:`alterrec.sharded_windows` uses them for scores whose columns are divided among processes.

The key of a score is an integer of 32 bits: ascending keys are descending scores, and -0.0 has the key of
0.0.

Shapes: B rows, V items of this process, E excluded ids per row, C prefixes, S places.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from alterrec import _core
from alterrec._ranking_arguments import (
    ArrayT,
    Ids,
    as_float32,
    as_integers,
    checks,
    default_threads,
    draw_arguments,
    excluded_ids,
    like,
    matrix_shape,
    on_device,
    writeable,
)

BINS = 256
# The key of -inf, the largest one of a score.
LAST_KEY = 0xFF800000


class Cuts(NamedTuple):
    """Two cuts through the rank order of each row: before the window, and after it.

    Attributes:
        keys: (B, 2) int64, keys of scores. All candidates with a smaller key are before the cut.
        taken: (B, 2) int64. So many candidates with this key are before it, too: those with the lowest ids.
        ties: (B, 2) int64. How many candidates have this key.
    """

    keys: Any
    taken: Any
    ties: Any


def key_counts(scores: ArrayT, prefixes: ArrayT, known: int, *, exclude: Ids | None = None) -> ArrayT:
    """Count the candidates of each row by 8 bits of their keys, among those with a given prefix.

    Args:
        scores: (B, V) matrix of scores.
        prefixes: (B, C) integers, the upper ``known`` bits of the keys that are counted; C is 1 or 2.
        known: 0, 8, 16 or 24.
        exclude: (B,) or (B, E) integer ids that are not candidates; -1 is padding. Default: none.

    Returns:
        Counts (B, C, 256), int64, by the 8 bits after the prefix.

    Raises:
        ValueError: also for NaN, and for a prefix of more bits.

    Example:
        >>> scores = np.array([[1.0, 2.0, 3.0]], dtype=np.float32)  # keys 407fffff, 3fffffff and 3fbfffff
        >>> key_counts(scores, np.array([[0]]), 0)[0, 0].nonzero()
        (array([63, 64]),)
        >>> key_counts(scores, np.array([[0x3F]]), 8)[0, 0].nonzero()
        (array([191, 255]),)
    """
    num_rows, _ = matrix_shape("scores", scores)
    excluded = excluded_ids(exclude, num_rows, on_device(scores))
    if on_device(scores):
        return _in_torch("key_counts", scores, prefixes, known, excluded, checks.get())
    bits = _integers("prefixes", prefixes)
    counts = np.empty((num_rows, bits.shape[-1] * BINS), np.int64)
    _core.key_counts(as_float32("scores", scores), bits, known, excluded, default_threads(), counts)
    return like(scores, counts.reshape(*bits.shape, BINS))


def cut_window_bits(scores: ArrayT, cuts: Cuts, *, exclude: Ids | None = None) -> ArrayT:
    """Return the candidates between two cuts as bits, as :func:`alterrec.ranking.rank_window_bits` does.

    Args:
        scores: (B, V) matrix of scores.
        cuts: the cuts of each row.
        exclude: as in :func:`key_counts`.

    Returns:
        Bits (B, ceil(V / 8)), uint8: bit ``i % 8`` of byte ``i // 8`` is item i.

    Example:
        >>> scores = np.array([[1.0, 1.0, 3.0]], dtype=np.float32)
        >>> cuts = Cuts(*(np.array([each]) for each in ([0x3FBFFFFF, 0x407FFFFF], [0, 1], [1, 2])))
        >>> cut_window_bits(scores, cuts)  # items 0 and 2
        array([[5]], dtype=uint8)
    """
    num_rows, num_items = matrix_shape("scores", scores)
    excluded = excluded_ids(exclude, num_rows, on_device(scores))
    if on_device(scores):
        return _in_torch("cut_window_bits", scores, cuts, excluded, checks.get())
    bits = np.empty((num_rows, -(-num_items // 8)), np.uint8)
    _core.cut_window_bits(as_float32("scores", scores), _in_core(cuts), excluded, default_threads(), bits)
    return like(scores, bits)


def cut_window_members(scores: ArrayT, cuts: Cuts, places: ArrayT, *, exclude: Ids | None = None) -> ArrayT:
    """Return the ids at some places among the candidates between two cuts, which are in the order of ids.

    Args:
        scores: (B, V) matrix of scores.
        cuts: the cuts of each row.
        places: (B, S) integers, counted from 0; -1 is padding.
        exclude: as in :func:`key_counts`.

    Returns:
        Ids (B, S), int64; -1 where the place is -1.

    Example:
        >>> scores = np.array([[1.0, 1.0, 3.0]], dtype=np.float32)
        >>> cuts = Cuts(*(np.array([each]) for each in ([0x3FBFFFFF, 0x407FFFFF], [0, 1], [1, 2])))
        >>> cut_window_members(scores, cuts, np.array([[1, -1]]))
        array([[ 2, -1]])
    """
    num_rows, _ = matrix_shape("scores", scores)
    excluded = excluded_ids(exclude, num_rows, on_device(scores))
    if on_device(scores):
        return _in_torch("cut_window_members", scores, cuts, places, excluded, checks.get())
    wanted = _integers("places", places)
    ids = np.empty(wanted.shape, np.int64)
    threads = default_threads()
    _core.cut_window_members(as_float32("scores", scores), _in_core(cuts), excluded, wanted, threads, ids)
    return like(scores, ids)


def drawn_places(num_rows: int, population: int, sample: int, seed: int, rows: Ids | None) -> Any:
    """Return the places (B, sample), int64, ascending, that :func:`alterrec.ranking.rank_window` draws.

    Args:
        num_rows: number of rows.
        population: length of the window.
        sample, seed, rows: as in :func:`~alterrec.ranking.rank_window`.

    Example:
        >>> drawn_places(1, 3, 3, seed=5, rows=None)
        array([[0, 1, 2]])
    """
    draw = draw_arguments("sample", sample, seed, rows, num_rows)
    places = np.empty((num_rows, sample), np.int64)
    _core.window_positions(draw, population, default_threads(), places)
    return places


def _integers(argument: str, values: Any) -> Any:
    return np.require(as_integers(argument, values), np.int64, ["C", "A"])


def _in_core(cuts: Cuts) -> Any:
    return tuple(_integers(name, values) for name, values in cuts._asdict().items())


def _in_torch(function: str, *arguments: Any) -> Any:
    from alterrec import _ranking_torch_windows

    return getattr(_ranking_torch_windows, function)(*map(writeable, arguments))

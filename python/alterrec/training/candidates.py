"""Positives and candidates of a batch: the target, the teacher's rank window, random items.

The window can be found in a pool, a random part of the catalogue that is the same for all rows of a batch.

Legend: N samples, Q queries, V items, M items of the pool, L places, P positives per sample, C candidates and
E excluded items per row.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, TypeAlias

import numpy as np
import torch
from torch import Tensor

from alterrec.nn.layers import on_device
from alterrec.ranking import mark_, rank_window, rank_window_bits, top_ranked, uniform_items
from alterrec.recipe_settings import PositivesSettings, WindowSettings
from alterrec.sharded_windows import window_bits, window_ids
from alterrec.shards import Shard
from alterrec.training.windows import WindowRanks, candidate_counts

Teacher: TypeAlias = Callable[[slice], Tensor]


class Supervision(NamedTuple):
    """Arguments of :func:`~alterrec.nn.losses.candidate_cross_entropy`.

    Attributes:
        positives: (N, P) int64 item ids; the first column is the target.
        weights: (P,) float32, the weight of each column.
        candidates: (N, C) int64 ids, (N, ceil(V / 8)) uint8 bits, or None for the whole catalogue.
    """

    positives: Tensor
    weights: Tensor
    candidates: Tensor | None


def supervise(
    targets_N: Tensor,
    samples_N: np.ndarray,
    negatives: str,
    *,
    window: WindowSettings,
    ranks: WindowRanks,
    num_items: int,
    seed: int,
    positives: PositivesSettings,
    negative_teacher: Teacher | None = None,
    positive_teacher: Teacher | None = None,
    seen_NL: Tensor | None = None,
    chunks: Sequence[slice] = (slice(None),),
    pool_M: Tensor | None = None,
    shard: Shard | None = None,
) -> Supervision:
    """Return positives and candidates of one batch.

    Candidates are the teacher's rank window (all of it, or a sample), items sampled from the catalogue, or
    both. Every draw is a function of (seed, sample id). With ``random`` negatives there are as many
    candidates as the window has.

    Args:
        targets_N: int64 target items.
        samples_N: int64 sample ids, the same in every epoch.
        negatives: ``full``, ``random`` or ``window``.
        window, ranks: the recipe's window and its ranks in this catalogue.
        num_items: size of the catalogue V.
        seed: seed of the draws, another one in each epoch.
        positives: number and weight of additional positives.
        negative_teacher: returns scores (n, V) of the n samples of a chunk, whose rank window gives the
            hard negatives; required for ``window``. With a pool, it returns the scores (n, M) of its items.
        positive_teacher: returns scores (n, V); its top items are additional positives. None: there are
            no additional positives.
        seen_NL: items of the prefixes, padded with -1, that are neither ranked nor additional positives.
        chunks: slices of the samples that teachers score at a time.
        pool_M: ids among which the window is found, from :func:`draw_pool`. None: all items.
        shard: the items of which teachers return the scores, if processes have some each; bits are those of
            these items. With a pool, they are the items of the pool that are among them. None: all.
    """
    device = str(targets_N.device)
    drawn, hard = candidate_counts(negatives, window, ranks)
    positives_NP, candidates = [], []
    for chunk in chunks if positive_teacher or hard else ():
        target_N1 = targets_N[chunk, None]
        seen = target_N1[:, :0] if seen_NL is None else seen_NL[chunk]
        excluded_NE = torch.cat([target_N1, seen], 1)
        scores_NV = None
        if positive_teacher:
            scores_NV = positive_teacher(chunk)
            if shard is None:
                top_NP = top_ranked(scores_NV, positives.top, exclude=excluded_NE)[0]
            else:
                top_NP = window_ids(scores_NV, 0, positives.top, excluded_NE, shard)
            positives_NP.append(torch.cat([target_N1, top_NP], 1))
        if hard:
            assert negative_teacher is not None
            if scores_NV is None or negative_teacher != positive_teacher:
                scores_NV = negative_teacher(chunk)
            exclude = excluded_NE if window.exclude_target else seen
            rows_N = samples_N[chunk]
            candidates.append(_window(scores_NV, ranks, exclude, hard, drawn, seed, rows_N, pool_M, shard))
    weight = positives.weight / (positives.top if positives.as_samples else 1) if positives.top else 0.0
    additional = positives.top if positive_teacher else 0
    parts = [torch.cat(candidates)] if candidates else []
    if drawn:
        parts.insert(0, on_device(uniform_items(samples_N, drawn, num_items, seed=seed), device))
    return Supervision(
        torch.cat(positives_NP) if positives_NP else targets_N[:, None],
        on_device(np.array([1.0] + [weight] * additional, np.float32), device),
        torch.cat(parts, 1) if parts else None,
    )


def with_positives(
    candidates: Tensor, items_U: np.ndarray, prefixes_NL: np.ndarray, positives_NP: np.ndarray
) -> Tensor:
    """Add to the candidates of the query of an item the positives of all samples that contain the item.

    The loss adds those of its own samples. The normaliser of an item is that of all samples of a batch with
    this item, so a process needs those of the samples that other processes have.

    Args:
        candidates: as :func:`query_candidates` returns them; ids get more columns, bits are changed in place.
        items_U: the items of the first U queries, ascending.
        prefixes_NL: items of the samples of all processes, padded with -1.
        positives_NP: their positives.

    Example:
        >>> drawn = torch.tensor([[8], [9]])
        >>> with_positives(drawn, np.array([3, 5]), np.array([[5, 3], [5, -1]]), np.array([[1], [2]]))
        tensor([[ 8,  1, -1],
                [ 9,  1,  2]])
    """
    shape = *positives_NP.shape, prefixes_NL.shape[1]
    items, positives = (
        np.broadcast_to(each, shape).ravel() for each in (prefixes_NL[:, None], positives_NP[..., None])
    )
    rows = np.searchsorted(items_U, items).clip(max=max(len(items_U) - 1, 0))
    asked = items_U[rows] == items
    pairs = np.unique(np.stack([rows[asked], positives[asked]]), axis=1)
    if candidates.dtype == torch.uint8:
        row_K, item_K = (on_device(each[:, None].copy(), str(candidates.device)) for each in pairs)
        mark_(candidates, row_K, item_K)
        return candidates
    counts = np.bincount(pairs[0], minlength=len(candidates))
    added = np.full((len(candidates), counts.max(initial=0)), -1)
    added[pairs[0], np.arange(pairs.shape[1]) - np.repeat(np.cumsum(counts) - counts, counts)] = pairs[1]
    return torch.cat([candidates, on_device(added, str(candidates.device))], 1)


def query_candidates(
    rows: np.ndarray,
    negatives: str,
    *,
    window: WindowSettings,
    ranks: WindowRanks,
    num_items: int,
    seed: int,
    teacher: Teacher | None = None,
    device: str = "cpu",
    exclude: np.ndarray | None = None,
    chunks: Sequence[slice] = (slice(None),),
    pool_M: Tensor | None = None,
    shard: Shard | None = None,
) -> Tensor | None:
    """Return the candidates of each query; positives are added by the loss.

    Args:
        rows: (Q,) int64 number of each query, from which its draws derive.
        negatives: ``full``, ``random`` or ``window``.
        window, ranks: the recipe's window and its ranks in this catalogue.
        num_items: size of the catalogue V.
        seed: seed of the draws, another one in each epoch.
        teacher: returns the scores (q, V) of a slice of the queries; required for ``window``. With a pool,
            it returns the scores (q, M) of its items.
        device: torch device of the result.
        exclude: (Q, E) int64 items that are no candidates of a query, padded with -1.
        chunks: slices of the queries that the teacher scores at a time.
        pool_M, shard: as in :func:`supervise`.

    Returns:
        Ids (Q, C) int64; bits (Q, ceil(V / 8)) uint8 for a whole window without a pool; or None for the whole
        catalogue.

    Example:
        >>> scores = torch.tensor([[3.0, 1.0, 2.0, 0.0]])
        >>> query_candidates(
        ...     np.array([0]), "window", window=WindowSettings(random_share=0.0), ranks=WindowRanks(0, 2),
        ...     num_items=4, seed=0, teacher=lambda chunk: scores[chunk], exclude=np.array([[0]]),
        ... )  # items 2 and 1 are bits 2 and 1
        tensor([[6]], dtype=torch.uint8)
    """
    drawn, hard = candidate_counts(negatives, window, ranks)
    parts = []
    if drawn:
        parts.append(on_device(uniform_items(rows, drawn, num_items, seed=seed), device))
    if hard:
        assert teacher is not None
        exclude_QE = on_device(rows[:, None][:, :0] if exclude is None else exclude, device)
        found = [
            _window(teacher(chunk), ranks, exclude_QE[chunk], hard, drawn, seed, rows[chunk], pool_M, shard)
            for chunk in chunks
        ]
        parts.append(torch.cat(found))
    return torch.cat(parts, 1) if parts else None


def draw_pool(size: int, num_items: int, *, seed: int, number: int, device: str = "cpu") -> Tensor:
    """Draw different items, each set of them with the same probability, as a function of (seed, number).

    Args:
        size: number of items to draw, at most ``num_items``.
        num_items: size of the catalogue.
        seed: seed of the draw.
        number: number of the batch.
        device: torch device of the result.

    Returns:
        Item ids (M,) int64, ascending.

    Example:
        >>> draw_pool(3, 3, seed=0, number=7)
        tensor([0, 1, 2])
    """
    # Where all scores are equal, the window of all ranks is the catalogue.
    equal = np.zeros((1, num_items), np.float32)
    (ids_M,) = rank_window(equal, 0, num_items, sample=size, seed=seed, rows=[number])
    return on_device(ids_M, device)


def places_in(pool_M: Tensor, ids: Tensor) -> Tensor:
    """Return the place of each id in a pool, and -1 for ids that are not in it.

    Example:
        >>> places_in(torch.tensor([2, 5, 9]), torch.tensor([[9, 3], [-1, 2]]))
        tensor([[ 2, -1],
                [-1,  0]])
    """
    places = torch.searchsorted(pool_M, ids.contiguous()).clamp_(max=len(pool_M) - 1)
    return torch.where(pool_M[places] == ids, places, -1)


def _window(
    scores_NV: Tensor,
    ranks: WindowRanks,
    exclude_NE: Tensor,
    hard: int,
    drawn: int,
    seed: int,
    rows_N: np.ndarray,
    pool_M: Tensor | None,
    shard: Shard | None,
) -> Tensor:
    """Return the window of each row as bits if it is whole and alone, else ``hard`` drawn ids (N, hard)."""
    if pool_M is not None:
        exclude_NE = places_in(pool_M, exclude_NE)
        shard = shard and shard.among(pool_M)
    elif not drawn and hard == ranks.stop - ranks.start:
        if shard is None:
            return rank_window_bits(scores_NV, *ranks, exclude=exclude_NE)
        return window_bits(scores_NV, *ranks, exclude_NE, shard)
    draw: dict[str, Any] = {"sample": hard, "seed": seed, "rows": rows_N}
    if shard is None:
        found_NC = rank_window(scores_NV, *ranks, exclude=exclude_NE, **draw)
    else:
        found_NC = window_ids(scores_NV, *ranks, exclude_NE, shard, **draw)
    return found_NC if pool_M is None else pool_M[found_NC]

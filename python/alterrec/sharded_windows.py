"""Rank windows of scores whose columns are divided among processes; exact, and no score is sent.

Each process has the scores of the items of its :class:`~alterrec.shards.Shard`. A cut of the rank order is
found by counting: all processes count the keys of their candidates by 8 bits at a time, and add the counts
(radix selection). Shards are in the order of ids, so of the candidates that tie at a cut, the first shards
take theirs first. Rank order is that of :mod:`alterrec.ranking`.

All processes of a job call a function in the same order, with the same arguments but for the scores.

Shapes: B rows, V items, W processes, E excluded ids per row, S items per row of the result.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from alterrec import parallel
from alterrec._ranking_arguments import at_most, checks, excluded_ids, matrix_shape, on_device, rank_range
from alterrec._ranking_cuts import (
    BINS,
    LAST_KEY,
    Cuts,
    cut_window_bits,
    cut_window_members,
    drawn_places,
    key_counts,
)
from alterrec._ranking_torch import check_ids
from alterrec._ranking_torch_windows import refuse_short
from alterrec.shards import Shard

__all__ = ["window_bits", "window_ids"]


def window_bits(scores: Tensor, start: int, stop: int, exclude: Any, shard: Shard) -> Tensor:
    """Return the items of this process at ranks ``start`` to ``stop - 1`` of the whole catalogue, as bits.

    Args:
        scores: (B, shard.size) scores of the items of this process; bfloat16 is exact, too.
        start, stop: ranks, counted from 0, ``0 <= start <= stop``; ``stop`` is at most the number of
            candidates, i.e. items that are not excluded.
        exclude: (B,) or (B, E) integer ids of the whole catalogue that are not candidates; -1 is padding, and
            duplicates are fine. None: no item is excluded.
        shard: the items of this process.

    Returns:
        Bits (B, ceil(shard.size / 8)), uint8: bit ``i % 8`` of byte ``i // 8`` is item ``shard.first + i``;
        bits after the last item are 0.

    Raises:
        ValueError: in all processes, as by :func:`~alterrec.ranking.rank_window`: more ranks than there are
            candidates, NaN, or an id outside the catalogue.

    Example:
        >>> window_bits(torch.tensor([[0.1, 0.9, 0.5]]), 0, 2, None, Shard.own(3))
        tensor([[6]], dtype=torch.uint8)
    """
    scores, exclude_BE = _arguments(scores, exclude, shard)
    cuts, _ = _cuts(scores, *rank_range(start, stop, shard.total), exclude_BE, shard)
    return cut_window_bits(scores, cuts, exclude=shard.places(exclude_BE))


def window_ids(
    scores: Tensor,
    start: int,
    stop: int,
    exclude: Any,
    shard: Shard,
    *,
    sample: int | None = None,
    seed: int = 0,
    rows: Any = None,
) -> Tensor:
    """Return :func:`alterrec.ranking.rank_window` of the scores of all processes, the same in each of them.

    Args:
        scores, start, stop, exclude, shard: as in :func:`window_bits`.
        sample: number of items to draw from the window, uniformly without replacement. Default: the whole
            window is returned.
        seed: seed of ``sample``, 0 to 2**64 - 1.
        rows: (B,) integers that identify the rows for ``sample``. Default: 0 to B - 1.

    Returns:
        Item ids (B, stop - start), or (B, sample), int64, ascending in each row.

    Raises:
        ValueError: as in :func:`window_bits`.

    Example:
        >>> scores = torch.tensor([[0.1, 0.9, 0.5, 0.9, 0.7]])
        >>> window_ids(scores, 1, 4, torch.tensor([3]), Shard.own(5))
        tensor([[0, 2, 4]])
        >>> window_ids(scores, 0, 4, None, Shard.own(5), sample=2, seed=1).shape
        torch.Size([1, 2])
    """
    scores, exclude_BE = _arguments(scores, exclude, shard)
    start, stop = rank_range(start, stop, shard.total)
    if sample is None:
        places_BS = torch.arange(stop - start, device=scores.device).expand(len(scores), -1)
    else:
        at_most("sample", sample, stop - start, "the window", "ranks")
        drawn = drawn_places(len(scores), stop - start, sample, seed, rows)
        places_BS = torch.from_numpy(drawn).to(scores.device)
    cuts, sizes_WB = _cuts(scores, start, stop, exclude_BE, shard)
    rank = parallel.job().rank
    here_BS = places_BS - sizes_WB[:rank].sum(0)[:, None]
    here_BS = torch.where((here_BS >= 0) & (here_BS < sizes_WB[rank][:, None]), here_BS, -1)
    ids_BS = cut_window_members(scores, cuts, here_BS, exclude=shard.places(exclude_BE))
    # One process has each place; the others add 0.
    return parallel.add_up(torch.where(ids_BS < 0, 0, ids_BS + shard.first))


def _arguments(scores: Tensor, exclude: Any, shard: Shard) -> tuple[Tensor, Tensor]:
    """Return float32 scores and excluded ids (B, E) of the whole catalogue, checked."""
    num_rows, num_items = matrix_shape("scores", scores)
    if num_items != shard.size:
        raise ValueError(f"scores has {num_items} columns, but this process has {shard.size} items")
    if scores.dtype not in (torch.float32, torch.bfloat16, torch.float16):
        raise ValueError(f"scores has dtype {scores.dtype}; expected float32, bfloat16 or float16")
    exclude_BE = torch.as_tensor(excluded_ids(exclude, num_rows, True), device=scores.device).long()
    if _checked(scores):
        check_ids("exclude", exclude_BE, shard.total)
    return scores.detach().float(), exclude_BE


def _checked(scores: Tensor) -> bool:
    """Whether arguments are checked: always on the CPU, where it takes no time, as in the kernels."""
    return checks.get() or not on_device(scores)


def _cuts(scores: Tensor, start: int, stop: int, exclude_BE: Tensor, shard: Shard) -> tuple[Cuts, Tensor]:
    """Return the cuts of a window in this process, and how many of its items each process has (W, B)."""
    exclude_BE = shard.places(exclude_BE)
    start_B, stop_B = (torch.full((len(scores),), rank, device=scores.device) for rank in (start, stop))
    ranks_B2 = torch.stack([start_B, stop_B], 1)
    # The key of a cut is that of the last candidate before it; for rank 0, that of the first one of all.
    sought_B2 = ranks_B2.clamp(min=1)
    keys_B2, before_B2 = torch.zeros_like(sought_B2), torch.zeros_like(sought_B2)
    for known in (0, 8, 16, 24):
        if known:
            own = key_counts(scores, keys_B2, known, exclude=exclude_BE)
            counts = parallel.add_up(own.int())
        else:
            own, counts = _first_counts(scores, stop, exclude_BE, shard)
        up_to = counts.cumsum(2)
        # The first bin up to which there are enough; the last one where there is no candidate.
        bins_B21 = (up_to < sought_B2[..., None]).sum(2, keepdim=True).clamp(max=BINS - 1)
        sought_B2 -= _at(up_to - counts, bins_B21)
        ties_B2 = _at(own, bins_B21)
        before_B2 += _at(own.cumsum(2), bins_B21) - ties_B2
        keys_B2 = keys_B2 * BINS + bins_B21[..., 0]
    taken_B2 = torch.where(ranks_B2 == 0, 0, sought_B2)
    before_WB2, ties_WB2 = parallel.gathered(torch.stack([before_B2, ties_B2])).unbind(1)
    # The processes before this one take their ties first.
    earlier_WB2 = ties_WB2.cumsum(0) - ties_WB2
    taken_WB2 = torch.minimum((taken_B2 - earlier_WB2).clamp(min=0), ties_WB2)
    ranks_WB2 = before_WB2 + taken_WB2
    cuts = Cuts(keys_B2.clamp(max=LAST_KEY), taken_WB2[parallel.job().rank], ties_B2)
    return cuts, ranks_WB2[..., 1] - ranks_WB2[..., 0]


def _first_counts(scores: Tensor, stop: int, exclude_BE: Tensor, shard: Shard) -> tuple[Tensor, Tensor]:
    """Return the counts (B, 2, 256) of the upper 8 bits, of this process and of all, the same for both cuts.

    An error of one process is raised in all of them, for no process may wait for another that has stopped.
    """
    prefixes_B1 = torch.zeros((len(scores), 1), dtype=torch.int64, device=scores.device)
    wrong = 0
    try:
        own = key_counts(scores, prefixes_B1, 0, exclude=exclude_BE)
    except ValueError:
        if not bool(scores.isnan().any()):
            raise
        own, wrong = prefixes_B1.new_zeros(len(scores), 1, BINS), 1
    message = parallel.add_up(torch.cat([own.flatten(), own.new_full((1,), wrong)]).int())
    counts = message[:-1].view_as(own)
    if _checked(scores):
        if message[-1]:
            _refuse_nan(scores, shard)
        refuse_short(counts[:, 0].sum(1), shard.total, "stop", stop)
    return own.expand(-1, 2, -1), counts.expand(-1, 2, -1)


def _refuse_nan(scores: Tensor, shard: Shard) -> None:
    """Raise ValueError for the first NaN of the whole matrix."""
    found = scores.isnan().nonzero()
    place = int(found[0, 0]) * shard.total + shard.first + int(found[0, 1]) if len(found) else -1
    row, column = divmod(min(each for each in parallel.of_each(place) if each >= 0), shard.total)
    raise ValueError(
        f"scores: NaN at row {row}, column {column}; a score must be a number (infinities are allowed)"
    )


def _at(values: Tensor, bins_B21: Tensor) -> Tensor:
    return values.gather(2, bins_B21)[..., 0]

"""Rank windows and top ranks of `alterrec.ranking` in torch, for scores on a device.

Only the ids of a top list are sorted. The cut at a rank is found by ``torch.topk`` without order, which on
CUDA is a radix selection: four passes over keys of 32 bits that make histograms of 8 bits each. The items
above the cut are counted, and of those equal to it the smallest ids are taken.

Shapes: B rows, V items, E excluded ids per row, W items of a window.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from alterrec._ranking_torch import check_ids, pack_bits, rounded

# The bits of a score as an integer: the type, and the bits below the sign.
_KEYS = {
    torch.float32: (torch.int32, 2**31 - 1),
    torch.bfloat16: (torch.int16, 2**15 - 1),
    torch.float16: (torch.int16, 2**15 - 1),
}


def rank_window(
    scores: Tensor, start: int, stop: int, exclude: Any, positions: Any, check: bool = True
) -> Tensor:
    window_BV = rank_window_mask(scores, start, stop, exclude, check)
    if positions is None:
        positions = torch.arange(stop - start, device=scores.device).repeat(len(scores), 1)
    return _members(window_BV, torch.as_tensor(positions, device=scores.device))


def rank_window_mask(scores: Tensor, start: int, stop: int, exclude: Any, check: bool = True) -> Tensor:
    keys_BV = ordered_keys(scores, exclude, "stop", stop, check)
    window_BV = _first(keys_BV, stop)
    return window_BV & ~_first(keys_BV, start) if start else window_BV


def rank_window_bits(scores: Tensor, start: int, stop: int, exclude: Any, check: bool = True) -> Tensor:
    return pack_bits(rank_window_mask(scores, start, stop, exclude, check))


def top_ranked(scores: Tensor, k: int, exclude: Any, check: bool = True) -> tuple[Tensor, Tensor]:
    keys_BV = ordered_keys(scores, exclude, "k", k, check)
    places_BK = torch.arange(k, device=scores.device).repeat(len(scores), 1)
    ids_BK = _members(_first(keys_BV, k), places_BK)
    # Ids ascend, so a stable order of the keys leaves equal ones in the order of their ids.
    order_BK = keys_BV.gather(1, ids_BK).sort(dim=1, descending=True, stable=True).indices
    ids_BK = ids_BK.gather(1, order_BK)
    return ids_BK, scores.detach().gather(1, ids_BK).float()


def ordered_keys(scores: Tensor, exclude: Any, wanted: str, needed: int, check: bool) -> Tensor:
    """Return integers (B, V) in the order of the scores, those of excluded items below all others.

    Scores of 16 bits have keys of 16 bits: half the passes over half the memory. Checks wait for the device,
    so training steps skip them.
    """
    scores_BV = scores.detach() if scores.dtype in _KEYS else scores.detach().float()
    if check:
        # Refuses what is not a number, and what float32 would merge.
        rounded("scores", scores)
    kind, magnitude = _KEYS[scores_BV.dtype]
    # Adding 0.0 turns -0.0 into 0.0; flipping the lower bits of negative numbers makes the bits ascend.
    bits_BV = (scores_BV + 0.0).contiguous().view(kind)
    keys_BV = torch.where(bits_BV < 0, bits_BV ^ magnitude, bits_BV)
    ids_BE = torch.as_tensor(exclude, device=scores.device).to(torch.int64)
    if check:
        check_ids("exclude", ids_BE, keys_BV.shape[1])
    if 0 not in (ids_BE.shape[1], keys_BV.shape[1]):
        # The least integer is below the key of -inf; the minimum with the largest one changes nothing.
        limits = torch.iinfo(kind)
        values_BE = torch.where(ids_BE < 0, limits.max, limits.min).to(kind)
        keys_BV.scatter_reduce_(1, ids_BE.clamp(min=0), values_BE, "amin")
    if check:
        _refuse_short(keys_BV, wanted, needed)
    return keys_BV


def _refuse_short(keys_BV: Tensor, wanted: str, needed: int) -> None:
    num_items = keys_BV.shape[1]
    candidates_B = (keys_BV > torch.iinfo(keys_BV.dtype).min).sum(dim=1)
    short = (candidates_B < needed).nonzero()
    if len(short):
        row = int(short[0])
        candidates = int(candidates_B[row])
        raise ValueError(
            f"{wanted} is {needed}, but row {row} has only {candidates} candidates ({num_items} items, "
            f"{num_items - candidates} of them excluded); ask for at most {candidates} or exclude fewer"
        )


def _first(keys_BV: Tensor, count: int) -> Tensor:
    """Return a mask (B, V) of the ``count`` items of each row that rank first."""
    num_items = keys_BV.shape[1]
    if count in (0, num_items):
        return torch.full_like(keys_BV, bool(count), dtype=torch.bool)
    # The selection writes what lies beyond the cut, so it starts from the nearer end.
    if 2 * count <= num_items:
        cut_B1 = keys_BV.topk(count, sorted=False).values.amin(1, keepdim=True)
    else:
        cut_B1 = keys_BV.topk(num_items - count + 1, largest=False, sorted=False).values.amax(1, keepdim=True)
    above_BV, tied_BV = keys_BV > cut_B1, keys_BV == cut_B1
    missing_B1 = count - above_BV.sum(1, keepdim=True)
    return above_BV | (tied_BV & (tied_BV.cumsum(1, dtype=torch.int32) <= missing_B1))


def _members(mask_BV: Tensor, places_BW: Tensor) -> Tensor:
    """Return the ids (B, W) at some places among the true values of each row, counted from 0."""
    if 0 in places_BW.shape:
        return torch.empty_like(places_BW)
    # The item at a place is the first up to which there are as many; this waits for no size of a result.
    return torch.searchsorted(mask_BV.cumsum(1, dtype=torch.int32), places_BW.to(torch.int32) + 1)

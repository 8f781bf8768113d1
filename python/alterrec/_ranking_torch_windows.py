"""Rank windows, top ranks and cuts of the rank order in torch, for scores on a device.

Only the ids of a top list are sorted. The cut at a rank is found by ``torch.topk`` without order, which on
CUDA is a radix selection: four passes over keys of 32 bits that make histograms of 8 bits each. The items
above the cut are counted, and of those equal to it the smallest ids are taken.

Shapes: B rows, V items, E excluded ids per row, W items of a window, C prefixes, S places.
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
# The key of 0.0 in the core, and the integer of excluded items among those of float32 scores.
_KEY_OF_ZERO, _EXCLUDED = 2**31 - 1, -(2**31)


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


def key_counts(scores: Tensor, prefixes: Any, known: int, exclude: Any, check: bool = True) -> Tensor:
    ordered_BV = ordered_keys(scores.float(), exclude, "stop", 0, check)
    # Keys of the core descend: that of 0.0 is the largest one without a sign.
    keys_BV = _KEY_OF_ZERO - ordered_BV.long()
    void_BV = ordered_BV == _EXCLUDED
    counts = []
    for prefix_B in torch.as_tensor(prefixes, device=scores.device).unbind(1):
        places_BV = (keys_BV >> 24 - known) - 256 * prefix_B[:, None]
        # An additional column takes the items that are not counted.
        places_BV.masked_fill_(void_BV | (places_BV < 0) | (places_BV >= 256), 256)
        counts_BK = places_BV.new_zeros((len(places_BV), 257))
        counts.append(counts_BK.scatter_add_(1, places_BV, torch.ones_like(places_BV))[:, :256])
    return torch.stack(counts, 1)


def cut_window_bits(scores: Tensor, cuts: Any, exclude: Any, check: bool = True) -> Tensor:
    return pack_bits(_between(scores, cuts, exclude, check))


def cut_window_members(scores: Tensor, cuts: Any, places: Any, exclude: Any, check: bool = True) -> Tensor:
    places_BS = torch.as_tensor(places, device=scores.device)
    ids_BS = _members(_between(scores, cuts, exclude, check), places_BS.clamp(min=0))
    return torch.where(places_BS < 0, -1, ids_BS)


def _between(scores: Tensor, cuts: Any, exclude: Any, check: bool) -> Tensor:
    """Return a mask (B, V) of the candidates between two cuts."""
    ordered_BV = ordered_keys(scores.float(), exclude, "stop", 0, check)
    keys_B2, taken_B2 = (torch.as_tensor(each, device=scores.device) for each in (cuts.keys, cuts.taken))
    cuts_B2 = (_KEY_OF_ZERO - keys_B2).to(torch.int32)
    first_BV, last_BV = (_before(ordered_BV, cuts_B2[:, [at]], taken_B2[:, [at]]) for at in (0, 1))
    return last_BV & ~first_BV & (ordered_BV != _EXCLUDED)


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
        candidates_B = (keys_BV > torch.iinfo(keys_BV.dtype).min).sum(dim=1)
        refuse_short(candidates_B, keys_BV.shape[1], wanted, needed)
    return keys_BV


def refuse_short(candidates_B: Tensor, num_items: int, wanted: str, needed: int) -> None:
    """Raise ValueError if a row has fewer candidates than are needed; ``wanted`` names the argument."""
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
    return _before(keys_BV, cut_B1, count - (keys_BV > cut_B1).sum(1, keepdim=True))


def _before(keys_BV: Tensor, cut_B1: Tensor, taken_B1: Tensor) -> Tensor:
    """Return a mask (B, V) of the keys above a cut and of the first ``taken_B1`` equal to it."""
    tied_BV = keys_BV == cut_B1
    return (keys_BV > cut_B1) | (tied_BV & (tied_BV.cumsum(1, dtype=torch.int32) <= taken_B1))


def _members(mask_BV: Tensor, places_BW: Tensor) -> Tensor:
    """Return the ids (B, W) at some places among the true values of each row, counted from 0."""
    if 0 in places_BW.shape:
        return torch.empty_like(places_BW)
    # The item at a place is the first up to which there are as many; this waits for no size of a result.
    return torch.searchsorted(mask_BV.cumsum(1, dtype=torch.int32), places_BW.to(torch.int32) + 1)

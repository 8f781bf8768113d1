"""The functions of `alterrec.ranking` in plain torch, for scores that lie on a device.

Results equal those of the Rust core bit for bit. Shapes: B rows, V items, E excluded ids a row.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

# Above every key of a candidate: keys use 32 bits of rank and 32 bits of id, around zero.
_EXCLUDED = 2**63 - 1


def rank_window(scores: Tensor, start: int, stop: int, exclude: Any, positions: Any) -> Tensor:
    keys_BV, _ = _keys(scores, exclude, "stop", stop)
    ids = _ids(_smallest(keys_BV, stop)[:, start:]).sort(dim=1).values
    return ids if positions is None else ids.gather(1, torch.as_tensor(positions, device=ids.device))


def rank_window_mask(scores: Tensor, start: int, stop: int, exclude: Any) -> Tensor:
    ids = rank_window(scores, start, stop, exclude, None)
    mask_BV = torch.zeros(scores.shape, dtype=torch.bool, device=scores.device)
    return mask_BV.scatter_(1, ids, True)


def top_ranked(scores: Tensor, k: int, exclude: Any) -> tuple[Tensor, Tensor]:
    keys_BV, scores_BV = _keys(scores, exclude, "k", k)
    ids = _ids(_smallest(keys_BV, k))
    return ids, scores_BV.gather(1, ids)


def target_counts(scores: Tensor, targets: Any, exclude: Any) -> tuple[Tensor, Tensor]:
    scores_BV = _float32("scores", scores)
    targets_B1, counted_BV = _counted(scores_BV, targets, exclude)
    return _counts(scores_BV, targets_B1, counted_BV)


def fused_target_counts(
    views: Sequence[Tensor], weights: Sequence[float], targets: Any, exclude: Any
) -> tuple[Tensor, Tensor]:
    views_BV = [_float32(f"views[{place}]", view) for place, view in enumerate(views)]
    sum_BV = views_BV[0] * weights[0]
    for view_BV, weight in zip(views_BV[1:], weights[1:], strict=True):
        sum_BV = sum_BV + view_BV * weight
    _refuse_nan("weighted sum of views", sum_BV)
    targets_B1, counted_BV = _counted(sum_BV, targets, exclude)
    counts = [_counts(scores_BV, targets_B1, counted_BV) for scores_BV in [*views_BV, sum_BV]]
    return torch.stack([greater for greater, _ in counts]), torch.stack([tied for _, tied in counts])


def _keys(scores: Tensor, exclude: Any, wanted: str, needed: int) -> tuple[Tensor, Tensor]:
    """Integers whose ascending order is the rank order, excluded items last; and float32 scores."""
    scores_BV = _float32("scores", scores)
    excluded_BV = _excluded(scores_BV, exclude)
    num_items = scores_BV.shape[1]
    candidates_B = num_items - excluded_BV.sum(dim=1)
    short = (candidates_B < needed).nonzero()
    if len(short):
        row = int(short[0])
        candidates = int(candidates_B[row])
        raise ValueError(
            f"{wanted} is {needed}, but row {row} has only {candidates} candidates ({num_items} items, "
            f"{num_items - candidates} of them excluded); ask for at most {candidates} or exclude fewer"
        )
    # Adding 0.0 turns -0.0 into 0.0; flipping the lower bits of negatives makes the bits ascend.
    bits_BV = (scores_BV + 0.0).view(torch.int32)
    ascending_BV = torch.where(bits_BV < 0, bits_BV ^ 0x7FFFFFFF, bits_BV).to(torch.int64)
    keys_BV = -ascending_BV * 2**32 + torch.arange(num_items, device=scores_BV.device)
    return keys_BV.masked_fill(excluded_BV, _EXCLUDED), scores_BV


def _smallest(keys_BV: Tensor, count: int) -> Tensor:
    return keys_BV.topk(count, dim=1, largest=False, sorted=True).values


def _ids(keys: Tensor) -> Tensor:
    return keys & 0xFFFFFFFF


def _counted(scores_BV: Tensor, targets: Any, exclude: Any) -> tuple[Tensor, Tensor]:
    num_items = scores_BV.shape[1]
    targets_B = torch.as_tensor(targets, device=scores_BV.device).to(torch.int64)
    wrong = ((targets_B < 0) | (targets_B >= num_items)).nonzero()
    if len(wrong):
        row = int(wrong[0])
        raise ValueError(
            f"targets: row {row} has the id {int(targets_B[row])}; allowed: 0 to {num_items - 1} "
            f"(the catalogue has {num_items} items)"
        )
    targets_B1 = targets_B[:, None]
    counted_BV = ~_excluded(scores_BV, exclude)
    return targets_B1, counted_BV.scatter_(1, targets_B1, True)


def _counts(scores_BV: Tensor, targets_B1: Tensor, counted_BV: Tensor) -> tuple[Tensor, Tensor]:
    target_B1 = scores_BV.gather(1, targets_B1)
    greater = ((scores_BV > target_B1) & counted_BV).sum(dim=1)
    return greater, ((scores_BV == target_B1) & counted_BV).sum(dim=1)


def _excluded(scores_BV: Tensor, exclude: Any) -> Tensor:
    rows, num_items = scores_BV.shape
    ids_BE = torch.as_tensor(exclude, device=scores_BV.device).to(torch.int64)
    wrong = ((ids_BE < -1) | (ids_BE >= num_items)).nonzero()
    if len(wrong):
        row, place = wrong[0].tolist()
        raise ValueError(
            f"exclude: row {row} has the id {int(ids_BE[row, place])}; allowed: 0 to {num_items - 1} "
            f"(the catalogue has {num_items} items), or -1 as padding"
        )
    # One more column takes the pads.
    mask = torch.zeros((rows, num_items + 1), dtype=torch.bool, device=scores_BV.device)
    return mask.scatter_(1, ids_BE.masked_fill(ids_BE == -1, num_items), True)[:, :num_items]


def _float32(name: str, scores: Tensor) -> Tensor:
    scores_BV = scores.detach().to(torch.float32).contiguous()
    _refuse_nan(name, scores_BV)
    return scores_BV


def _refuse_nan(name: str, scores_BV: Tensor) -> None:
    found = scores_BV.isnan()
    if found.any():
        row, column = found.nonzero()[0].tolist()
        raise ValueError(
            f"{name}: NaN at row {row}, column {column}; a score must be a number (infinities are allowed)"
        )

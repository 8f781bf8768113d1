"""Items that a system reads in sessions, but never recommends."""

from __future__ import annotations

from torch import Tensor

from alterrec.models.base import Scorer

# Score of removed items in every part. It is finite, so that the product with a weight of 0 is a number.
REMOVED = -1e30


def removed_items(model: Scorer) -> Tensor | None:
    """Return the int64 numbers of the items that a system never recommends; None if there are none."""
    removed: Tensor | None = getattr(model, "removed", None)
    return removed


def without_removed(parts: dict[str, Tensor], removed: Tensor | None) -> dict[str, Tensor]:
    """Overwrite the scores of removed items, in place.

    Example:
        >>> import torch
        >>> without_removed({"model": torch.zeros(1, 3)}, torch.tensor([1]))["model"] < 0
        tensor([[False,  True, False]])
    """
    if removed is not None:
        for scores_NV in parts.values():
            scores_NV.index_fill_(1, removed.to(scores_NV.device), REMOVED)
    return parts

"""Padded rows of items, each with its own length.

Legend: N samples, L places, K requested places, D width.
"""

from __future__ import annotations

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor


def on_device(values: np.ndarray, device: str) -> Tensor:
    """Copy an array to a device; for CUDA through pinned memory, so that the copy is asynchronous.

    Example:
        >>> on_device(np.array([1, 2]), "cpu")
        tensor([1, 2])
    """
    tensor = torch.from_numpy(values)
    if not device.startswith("cuda"):
        return tensor.to(device)
    return tensor.pin_memory().to(device, non_blocking=True)


def real_places(rows_NL: Tensor, length_N: Tensor) -> Tensor:
    """Return a mask (N, L), bool, of the places of right-padded rows that hold items.

    Only the shape and the device of ``rows_NL`` are used.

    Example:
        >>> real_places(torch.zeros(2, 3), torch.tensor([2, 0])).tolist()
        [[True, True, False], [False, False, False]]
    """
    return torch.arange(rows_NL.shape[1], device=rows_NL.device) < length_N[:, None]


def at_places(rows_NLD: Tensor, places_NK: Tensor) -> Tensor:
    """Return the vectors (N, K, D) at some places of rows (N, L, D).

    Example:
        >>> at_places(torch.tensor([[[4], [2], [3]]]), torch.tensor([[2, 0]])).tolist()
        [[[3], [4]]]
    """
    return rows_NLD.gather(1, places_NK[..., None].expand(-1, -1, rows_NLD.shape[2]))


def append(items_NL: Tensor, length_N: Tensor, last_N: Tensor, max_len: int) -> tuple[Tensor, Tensor]:
    """Append one item to each row and keep its last ``max_len`` items.

    Args:
        items_NL: int64 item ids, right-padded.
        length_N: int64, number of items of each row, 0 or more.
        last_N: int64, the item to append.
        max_len: most items of a row that are kept.

    Returns:
        The rows, padded with 0, and their lengths.

    Example:
        >>> append(torch.tensor([[4, 2], [7, 0]]), torch.tensor([2, 1]), torch.tensor([3, 5]), max_len=2)
        (tensor([[2, 3],
                [7, 5]]), tensor([2, 2]))
    """
    items_NL = F.pad(items_NL, (0, 1)).scatter(1, length_N[:, None], last_N[:, None])
    kept_N = (length_N + 1).clamp(max=max_len)
    places_L = torch.arange(min(items_NL.shape[1], max_len), device=items_NL.device)
    from_NL = places_L + (length_N + 1 - kept_N)[:, None]
    kept_NL = items_NL.gather(1, from_NL.clamp(max=items_NL.shape[1] - 1))
    return kept_NL.masked_fill(~real_places(kept_NL, kept_N), 0), kept_N


def left_padded(items_NL: Tensor, length_N: Tensor, width: int) -> tuple[Tensor, Tensor]:
    """Convert right-padded rows to left-padded rows of ``width`` places.

    Returns:
        The rows, padded with their first item, and a mask (N, width), bool, of the places that hold items.

    Example:
        >>> left_padded(torch.tensor([[4, 5, 0]]), torch.tensor([2]), 4)
        (tensor([[4, 4, 4, 5]]), tensor([[False, False,  True,  True]]))
    """
    from_NL = torch.arange(width, device=items_NL.device) - (width - length_N[:, None])
    return items_NL.gather(1, from_NL.clamp(min=0)), from_NL >= 0

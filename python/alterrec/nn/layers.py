"""Building blocks: the interface of session encoders, initialisation, and padded rows of items.

Legend: N samples, L places, K requested places, D width.
"""

from __future__ import annotations

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from alterrec.shards import fill_rows


class SessionEncoder(nn.Module):
    """Base class of session encoders; class attributes declare what an encoder reads.

    By default ``forward(table_VD, items_RL)`` gets the item table and whole right-padded sessions and returns
    a state (R, L, D) at every place: the vector of the prefix that ends there.

    Attributes:
        reads_prefixes: ``forward(table_VD, items_NL, length_N)`` gets prefixes with their lengths and returns
            vectors (N, D).
        reads_users: the users of the prefixes (N,) are passed as a further argument.
        reads_graphs: the graphs of the prefixes are passed as a further argument.
        encodes_last: ``last(table_VD, items_NL, length_N)`` returns the vectors of prefixes faster than
            ``forward``.
    """

    reads_prefixes: bool = False
    reads_users: bool = False
    reads_graphs: bool = False
    encodes_last: bool = False

    def last(self, table_VD: Tensor, items_NL: Tensor, length_N: Tensor) -> Tensor:
        raise NotImplementedError

    def item_weights(self, length: int) -> Tensor | None:
        """Return weights (L,) by distance from the end, if vectors are such sums of item vectors."""
        return None


def initialise(module: nn.Module, kind: str, std: float, dim: int) -> None:
    """Initialise the parameters of ``module`` from torch's global generator.

    Scalar parameters, and parameters of submodules with the attribute ``keeps_start``, are left unchanged.

    Args:
        module: changed in place.
        kind: ``normal``: tables and matrices from N(0, std), biases 0, norms 1 and 0; ``uniform``: every
            parameter, including norms, uniform within 1/sqrt(dim), as in the authors' code.
        std: standard deviation of ``normal``.
        dim: width d of ``uniform``.

    Example:
        >>> layer = nn.Linear(2, 2)
        >>> initialise(layer, "normal", std=0.02, dim=2)
        >>> layer.bias.tolist()
        [0.0, 0.0]
    """
    for part in module.modules():
        for name, value in part.named_parameters(recurse=False):
            if getattr(part, "keeps_start", False) or value.ndim == 0:
                continue
            shard = getattr(part, "shard", None) if name == getattr(part, "divided", None) else None
            if kind == "uniform":
                fill_rows(value, shard, lambda rows: rows.uniform_(-(dim**-0.5), dim**-0.5))
            elif isinstance(part, nn.LayerNorm):
                nn.init.constant_(value, 1.0 if name == "weight" else 0.0)
            elif name == "bias":
                nn.init.zeros_(value)
            else:
                fill_rows(value, shard, lambda rows: rows.normal_(std=std))


def keep_start(module: nn.Module) -> None:
    """Exclude ``module`` and its submodules from :func:`initialise`.

    Example:
        >>> layer = nn.Linear(2, 2, bias=False)
        >>> before = layer.weight.clone()
        >>> keep_start(layer)
        >>> initialise(layer, "normal", std=0.02, dim=2)
        >>> torch.equal(layer.weight, before)
        True
    """
    for part in module.modules():
        part.keeps_start = True  # type: ignore[assignment]


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

"""Scores of samples over items, in memory that is used again.

Legend: N samples, V items, D width.
"""

from __future__ import annotations

import torch
from torch import Tensor


class ScoreBuffer:
    """Memory that score matrices are written into, one after the other.

    A fresh matrix of 82 MB costs 35 to 42 ms of page faults on the CPU, as much as a fifth of the product
    that fills it. ``rows`` bounds how many samples are scored at a time.

    Example:
        >>> buffer = ScoreBuffer(rows=2)
        >>> buffer.product(torch.ones(2, 3), torch.ones(5, 3)).tolist()
        [[3.0, 3.0, 3.0, 3.0, 3.0], [3.0, 3.0, 3.0, 3.0, 3.0]]
        >>> [(chunk.start, chunk.stop) for chunk in buffer.chunks(5)]
        [(0, 2), (2, 4), (4, 5)]
    """

    def __init__(self, rows: int = 512) -> None:
        self.rows = rows
        self._memory: dict[str, Tensor] = {}

    def chunks(self, num_rows: int) -> list[slice]:
        """Slices of at most ``rows`` of ``num_rows`` samples."""
        return [slice(first, min(first + self.rows, num_rows)) for first in range(0, num_rows, self.rows)]

    @torch.no_grad()
    def product(self, vectors_ND: Tensor, table_VD: Tensor, slot: str = "") -> Tensor:
        """Scores (N, V), valid until the next call of the same slot; half precision gives float32 too."""
        shape = len(vectors_ND), len(table_VD)
        dtype = torch.promote_types(vectors_ND.dtype, torch.float32)
        size = shape[0] * shape[1]
        memory = self._memory.get(slot)
        if (
            memory is None
            or memory.dtype != dtype
            or memory.device != vectors_ND.device
            or len(memory) < size
        ):
            # What is too small goes first: both together would be more than was planned.
            self._memory[slot] = memory = torch.empty(0)
            memory = self._memory[slot] = torch.empty(size, dtype=dtype, device=vectors_ND.device)
        scores_NV = memory[:size].view(shape)
        if dtype == vectors_ND.dtype:
            return torch.mm(vectors_ND, table_VD.T, out=scores_NV)
        return scores_NV.copy_(vectors_ND @ table_VD.T)

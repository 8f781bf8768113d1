"""The loss, from vectors to gradients: cross-entropy of weighted positives against candidates (Eq. 2-5).

Legend: N samples, V items, D width, P positives a sample, C candidates a sample, E excluded items a sample.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from alterrec.ranking import cross_entropy_


class ScoreBuffer:
    """One block of memory that every score matrix of a step is written into, one after the other.

    A fresh matrix of 82 MB costs 35 to 42 ms of page faults on the CPU, as much as a sixth of the product
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
        self._memory = torch.empty(0)

    def chunks(self, num_rows: int) -> list[slice]:
        """Slices of at most ``rows`` of ``num_rows`` samples."""
        return [slice(first, min(first + self.rows, num_rows)) for first in range(0, num_rows, self.rows)]

    def product(self, vectors_ND: Tensor, table_VD: Tensor) -> Tensor:
        """Scores (N, V), valid until the next call; float32 also where vectors are of half precision."""
        shape = len(vectors_ND), len(table_VD)
        dtype = torch.promote_types(vectors_ND.dtype, torch.float32)
        size = shape[0] * shape[1]
        if (self._memory.dtype, self._memory.device) != (dtype, vectors_ND.device) or len(
            self._memory
        ) < size:
            self._memory = torch.empty(size, dtype=dtype, device=vectors_ND.device)
        scores_NV = self._memory[:size].view(shape)
        if dtype == vectors_ND.dtype:
            return torch.mm(vectors_ND, table_VD.T, out=scores_NV)
        return scores_NV.copy_(vectors_ND @ table_VD.T)


def candidate_cross_entropy(
    vectors_ND: Tensor,
    table_VD: Tensor,
    positives_NP: Tensor,
    weights_P: Tensor,
    candidates: Tensor | None,
    exclude_NE: Tensor | None = None,
    buffer: ScoreBuffer | None = None,
) -> Tensor:
    """Mean over samples of the weighted cross-entropy of each positive against the candidates.

    Scores are ``vectors_ND @ table_VD.T``. Each positive stands alone against the same candidates (the note
    under Eq. 5): ``loss = sum_p w_p * (logsumexp(s_p, s_C) - s_p)``. Eq. 2 and 3 are P = 1 with weight 1;
    Eq. 4 and 5 add the teacher's top items with weight beta. A positive of a sample is never its negative,
    unless the candidates are the whole catalogue; other candidates count as often as they are drawn.

    Whole rows are scored, since gathering the vectors of candidates costs 10 to 100 times as much. The
    gradient is written over the scores as soon as they are there, so one buffer is all that a step holds
    of size N x V; backward only hands the two products on.

    Args:
        vectors_ND: floating session vectors.
        table_VD: floating item vectors.
        positives_NP: int64 item ids; the first column is the target.
        weights_P: floating weight of each column.
        candidates: None for the whole catalogue; int64 (N, C) item ids, -1 for none; or uint8 bits, see
            :func:`~alterrec.ranking.rank_window_bits`.
        exclude_NE: int64 ids, -1 for none, that are no candidates of a sample; positives are never left out.
        buffer: where scores are written; default a new one.

    Returns:
        A scalar.

    Example:
        >>> vectors, table = torch.tensor([[1.0]]), torch.tensor([[2.0], [1.0], [0.0]])
        >>> loss = candidate_cross_entropy(
        ...     vectors, table, torch.tensor([[0]]), torch.ones(1), torch.tensor([[1]])
        ... )
        >>> round(loss.item(), 4)  # log(1 + exp(-1))
        0.3133
    """
    supervision = positives_NP, weights_P, candidates, exclude_NE
    loss: Tensor = _FusedLoss.apply(vectors_ND, table_VD, supervision, buffer or ScoreBuffer())
    return loss


class _FusedLoss(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        vectors_ND: Tensor,
        table_VD: Tensor,
        supervision: tuple[Tensor, Tensor, Tensor | None, Tensor | None],
        buffer: ScoreBuffer,
    ) -> Tensor:
        positives_NP, weights_P, candidates, exclude_NE = supervision
        losses = []
        vector_gradient_ND = torch.empty_like(vectors_ND)
        table_gradient_VD = None
        for chunk in buffer.chunks(len(vectors_ND)):
            scores_NV = buffer.product(vectors_ND[chunk], table_VD)
            losses.append(
                cross_entropy_(
                    scores_NV,
                    positives_NP[chunk],
                    weights_P,
                    None if candidates is None else candidates[chunk],
                    exclude=None if exclude_NE is None else exclude_NE[chunk],
                    factor=1 / len(vectors_ND),
                )
            )
            gradient_NV = scores_NV.to(table_VD.dtype)
            torch.mm(gradient_NV, table_VD, out=vector_gradient_ND[chunk])
            if table_gradient_VD is None:
                table_gradient_VD = gradient_NV.T @ vectors_ND[chunk]
            else:
                table_gradient_VD.addmm_(gradient_NV.T, vectors_ND[chunk])
        ctx.save_for_backward(vector_gradient_ND, table_gradient_VD)
        return torch.cat(losses).mean()

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        vector_gradient_ND, table_gradient_VD = ctx.saved_tensors
        # Backward runs once, so the saved gradients may be scaled where they are.
        return vector_gradient_ND.mul_(gradients[0]), table_gradient_VD.mul_(gradients[0]), None, None

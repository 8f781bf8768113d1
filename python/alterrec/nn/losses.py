"""Losses and the score matrices that they are computed from.

The main loss goes from vectors to gradients: cross-entropy of weighted positives against candidates
(Eq. 2-5).

Legend: N samples, V items, D width, P positives per sample, C candidates per sample, E excluded items per
sample, A labels.
"""

from __future__ import annotations

import warnings
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from alterrec.ranking import cross_entropy_

# Rows of a table of lower precision that are converted at a time.
PART = 4096


class ScoreBuffer:
    """Reusable memory for score matrices.

    On the CPU, allocating a new matrix of 82 MB costs 35 to 42 ms of page faults, a fifth of the time of the
    product that fills it.

    Args:
        rows: most samples that are scored at a time.

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
        """Divide ``num_rows`` samples into slices of at most ``rows``."""
        return [slice(first, min(first + self.rows, num_rows)) for first in range(0, num_rows, self.rows)]

    def memory(self, rows: int, columns: int, like: Tensor, slot: str = "") -> Tensor:
        """Return a matrix (rows, columns), at least float32, on the device of ``like``.

        Its values are undefined. It is valid until the next call with the same slot.
        """
        dtype = torch.promote_types(like.dtype, torch.float32)
        size = rows * columns
        memory = self._memory.get(slot)
        if memory is None or memory.dtype != dtype or memory.device != like.device or len(memory) < size:
            # The old memory is freed first: both together would exceed the planned memory.
            self._memory[slot] = memory = torch.empty(0)
            memory = self._memory[slot] = torch.empty(size, dtype=dtype, device=like.device)
        return memory[:size].view(rows, columns)

    @torch.no_grad()
    def product(self, vectors_ND: Tensor, table_VD: Tensor, slot: str = "") -> Tensor:
        """Return scores (N, V), at least float32; valid until the next call with the same slot.

        A table of lower precision than the vectors is converted to theirs in parts.
        """
        scores_NV = self.memory(len(vectors_ND), len(table_VD), vectors_ND, slot)
        if table_VD.dtype != vectors_ND.dtype:
            for first in range(0, len(table_VD), PART):
                part_RD = table_VD[first : first + PART].to(vectors_ND.dtype)
                torch.mm(vectors_ND, part_RD.T, out=scores_NV[:, first : first + PART])
            return scores_NV
        if scores_NV.dtype == vectors_ND.dtype:
            return torch.mm(vectors_ND, table_VD.T, out=scores_NV)
        return scores_NV.copy_(vectors_ND @ table_VD.T)


def candidate_cross_entropy(
    vectors_ND: Tensor,
    table_VD: Tensor,
    positives_NP: Tensor,
    weights_P: Tensor,
    candidates: Tensor | None,
    exclude_NE: Tensor | None = None,
    each: float = 1.0,
    buffer: ScoreBuffer | None = None,
) -> Tensor:
    """Return the mean over samples of the weighted cross-entropy of each positive against the candidates.

    Scores are ``vectors_ND @ table_VD.T``. Each positive is compared separately with the same candidates
    (the note under Eq. 5): ``loss = sum_p w_p * (logsumexp(s_p, s_C) - s_p)``. Eq. 2 and 3 are P = 1 with
    weight 1; Eq. 4 and 5 add the teacher's top items with weight beta. A positive of a sample is never one of
    its negatives, unless the candidates are the whole catalogue. Other candidates count as often as they are
    drawn.

    Whole rows are scored, because gathering the vectors of candidates takes 10 to 100 times as long. The
    gradient overwrites the scores in the forward pass, so a step holds a single buffer of size N x V, and
    the backward pass only scales two products. Few drawn candidates of many items are a sparse matrix on the
    CPU, of which only the entries are computed.

    Args:
        vectors_ND: floating-point session vectors.
        table_VD: floating-point item vectors.
        positives_NP: int64 item ids; the first column is the target.
        weights_P: floating-point weight of each column.
        candidates: int64 item ids (N, C), padded with -1; uint8 bits, see
            :func:`~alterrec.ranking.rank_window_bits`; or None for the whole catalogue.
        exclude_NE: int64 ids, padded with -1, that are not candidates of a sample; positives are never
            excluded.
        each: weight of each candidate, see :func:`~alterrec.ranking.cross_entropy_`.
        buffer: memory for the scores. Default: a new buffer.

    Returns:
        The loss, a scalar.

    Example:
        >>> vectors, table = torch.tensor([[1.0]]), torch.tensor([[2.0], [1.0], [0.0]])
        >>> loss = candidate_cross_entropy(
        ...     vectors, table, torch.tensor([[0]]), torch.ones(1), torch.tensor([[1]])
        ... )
        >>> round(loss.item(), 4)  # log(1 + exp(-1))
        0.3133
    """
    supervision = positives_NP, weights_P, candidates, exclude_NE, each
    few = candidates is not None and _are_sparse(candidates, table_VD)
    return (_SparseLoss if few else _FusedLoss).of(vectors_ND, table_VD, wanted=supervision, buffer=buffer)


class AtOnce(torch.autograd.Function):
    """A loss of some tensors that computes their gradients in its forward pass, and saves them."""

    @classmethod
    def of(cls, *tensors: Tensor, wanted: Any, buffer: ScoreBuffer | None) -> Tensor:
        # Products have the precision of the arguments, also within mixed precision of an objective.
        with torch.autocast(tensors[0].device.type, enabled=False):
            loss: Tensor = cls.apply(*tensors, wanted, buffer or ScoreBuffer())
        return loss

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        # In place: torch detects the change and refuses a second backward pass over the same loss.
        return (*(saved.mul_(gradients[0]) for saved in ctx.saved_tensors), None, None)


class _FusedLoss(AtOnce):
    @staticmethod
    def forward(
        ctx: Any,
        vectors_ND: Tensor,
        table_VD: Tensor,
        supervision: tuple[Tensor, Tensor, Tensor | None, Tensor | None, float],
        buffer: ScoreBuffer,
    ) -> Tensor:
        positives_NP, weights_P, candidates, exclude_NE, each = supervision
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
                    each=each,
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


# With more items per drawn candidate than this, sparse products take the place of products with all items. At
# 230 items per candidate of 256 samples, d 128, they take 0.32 s instead of 0.82.
ITEMS_PER_DRAW = 100


def _are_sparse(candidates: Tensor, table_VD: Tensor) -> bool:
    few = candidates.dtype == torch.int64 and len(table_VD) > ITEMS_PER_DRAW * candidates.shape[1]
    known = table_VD.device.type == "cpu" and table_VD.dtype in (torch.float32, torch.float64)
    return few and known and bool(torch.backends.mkl.is_available())  # type: ignore[no-untyped-call]


class _SparseLoss(AtOnce):
    """The loss of :class:`_FusedLoss` from the scores of positives and candidates alone.

    They are a sparse matrix (V, N). Its products read the table once, in the order of its rows.
    """

    @staticmethod
    def forward(
        ctx: Any,
        vectors_ND: Tensor,
        table_VD: Tensor,
        supervision: tuple[Tensor, Tensor, Tensor, Tensor | None, float],
        buffer: ScoreBuffer,
    ) -> Tensor:
        positives_NP, weights_P, candidates_NC, exclude_NE, each = supervision
        left_out_NE = positives_NP if exclude_NE is None else torch.cat([positives_NP, exclude_NE], 1)
        # Padding has the score of some item, which is no candidate.
        ids = torch.cat([positives_NP, candidates_NC.clamp(min=0)], 1).flatten()
        order = ids.argsort(stable=True)
        starts = F.pad(torch.bincount(ids, minlength=len(table_VD)).cumsum(0), (1, 0)).int()
        num_positives, width = positives_NP.shape[1], positives_NP.shape[1] + candidates_NC.shape[1]
        shape, samples = (len(table_VD), len(vectors_ND)), (order // width).int()

        def matrix(values: Tensor) -> Tensor:
            return torch.sparse_csr_tensor(starts, samples, values, shape, check_invariants=False)

        scores_NK = vectors_ND.new_empty(len(vectors_ND), width)
        losses, place_K = [], torch.arange(width)
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", "Sparse CSR tensor support")
            empty = matrix(scores_NK.new_zeros(len(order)))
            found = torch.sparse.sampled_addmm(empty, table_VD, vectors_ND.T, beta=0.0)
            scores_NK.view(-1)[order] = found.values()
            for chunk in buffer.chunks(len(vectors_ND)):
                candidate_NC = candidates_NC[chunk]
                void_NC = (candidate_NC[:, :, None] == left_out_NE[chunk, None]).any(2) | (candidate_NC < 0)
                losses.append(
                    cross_entropy_(
                        scores_NK[chunk],
                        place_K[:num_positives].expand(len(candidate_NC), -1),
                        weights_P,
                        place_K[num_positives:].expand(len(candidate_NC), -1).masked_fill(void_NC, -1),
                        each=each,
                        factor=1 / len(vectors_ND),
                    )
                )
            gradient = matrix(scores_NK.flatten()[order])
            ctx.save_for_backward(gradient.t() @ table_VD, gradient @ vectors_ND)
        return torch.cat(losses).mean()


def multi_label_loss(
    vectors_ND: Tensor, table_AD: Tensor, labels_NP: Tensor, buffer: ScoreBuffer | None = None
) -> Tensor:
    """Return the binary cross-entropy of all labels, summed over labels and samples.

    Scores are ``vectors_ND @ table_AD.T``; the gradient overwrites them, as in
    :func:`candidate_cross_entropy`, so that a step holds a single buffer of scores.

    Args:
        vectors_ND: floating-point vectors.
        table_AD: floating-point vectors of the labels, of the same type.
        labels_NP: int64 labels of each sample, without duplicates, padded with -1.
        buffer: memory for the scores. Default: a new buffer.

    Returns:
        The loss, a scalar.

    Example:
        >>> vectors, table = torch.tensor([[1.0]]), torch.tensor([[2.0], [0.0]])
        >>> loss = multi_label_loss(vectors, table, torch.tensor([[0]]))
        >>> round(loss.item(), 4)  # log(1 + exp(-2)) + log 2
        0.8201
    """
    return _MultiLabel.of(vectors_ND, table_AD, wanted=labels_NP, buffer=buffer)


class _MultiLabel(AtOnce):
    @staticmethod
    def forward(
        ctx: Any, vectors_ND: Tensor, table_AD: Tensor, labels_NP: Tensor, buffer: ScoreBuffer
    ) -> Tensor:
        vector_gradient_ND = torch.empty_like(vectors_ND)
        table_gradient_AD = torch.zeros_like(table_AD)
        total = torch.zeros(
            (), dtype=torch.promote_types(vectors_ND.dtype, torch.float32), device=vectors_ND.device
        )
        for chunk in buffer.chunks(len(vectors_ND)):
            scores_NA = buffer.product(vectors_ND[chunk], table_AD)
            places_NP = labels_NP[chunk].clamp(min=0)
            has_NP = (labels_NP[chunk] >= 0).to(scores_NA)
            # -log sigmoid(-s), in half the time of F.logsigmoid; above the threshold it is s.
            total += F.softplus(scores_NA, threshold=50).sum()
            total -= (scores_NA.gather(1, places_NP) * has_NP).sum()
            gradient_NA = scores_NA.sigmoid_().scatter_add_(1, places_NP, -has_NP).to(table_AD.dtype)
            torch.mm(gradient_NA, table_AD, out=vector_gradient_ND[chunk])
            table_gradient_AD.addmm_(gradient_NA.T, vectors_ND[chunk])
        ctx.save_for_backward(vector_gradient_ND, table_gradient_AD)
        return total


def generalised_bce(
    vectors_ND: Tensor,
    table_VD: Tensor,
    positives_NP: Tensor,
    weights_P: Tensor,
    candidates_NC: Tensor,
    *,
    sampling_rate: float,
    calibration: float,
) -> Tensor:
    """Return the mean over samples of gBCE, a binary cross-entropy corrected for sampled negatives.

    ``-(beta * log sigmoid(s_p) + sum_c log(1 - sigmoid(s_c))) / (C + 1)`` with
    ``beta = a * (t * (1 - 1 / a) + 1 / a)``, where a is the sampling rate C / (V - 1) and t the calibration.
    t = 0 is plain BCE; with t = 1, the sigmoid of a score is the probability that BCE over the whole
    catalogue would give. A negative that is a positive of its sample is left out.

    Petrov and Macdonald, "gSASRec: Reducing Overconfidence in Sequential Recommendation Trained with Negative
    Sampling", RecSys 2023.

    Args:
        vectors_ND: floating-point session vectors.
        table_VD: floating-point item vectors.
        positives_NP: int64 item ids.
        weights_P: floating-point weight of each column.
        candidates_NC: int64 item ids.
        sampling_rate: a, above 0.
        calibration: t, 0 to 1.

    Returns:
        The loss, a scalar.

    Example:
        >>> vectors, table = torch.tensor([[1.0]]), torch.tensor([[0.0], [0.0]])
        >>> one, ids = torch.ones(1), torch.tensor([[0]])
        >>> loss = generalised_bce(vectors, table, ids, one, ids + 1, sampling_rate=1.0, calibration=0.0)
        >>> round(loss.item(), 4)  # log 2
        0.6931
    """
    beta = sampling_rate * (calibration * (1 - 1 / sampling_rate) + 1 / sampling_rate)
    scores_NV = vectors_ND @ table_VD.T
    void_NC = (candidates_NC[:, :, None] == positives_NP[:, None, :]).any(2)
    refused_NC = F.softplus(scores_NV.gather(1, candidates_NC)).masked_fill(void_NC, 0)
    wanted_NP = beta * F.softplus(-scores_NV.gather(1, positives_NP)) + refused_NC.sum(1, keepdim=True)
    return (wanted_NP.to(weights_P.dtype) @ weights_P).mean() / (candidates_NC.shape[1] + 1)

"""The losses of networks for item tables that are divided among the processes of a job.

Each process scores all samples against its own rows. One message for each chunk of samples puts normalisers
and scores of positives together. A process returns its part of the loss of the batch: the sum over processes
is the loss in one process, and the sum of the gradients is its gradient. It is the parallel cross-entropy of
Megatron-LM (Shoeybi et al., arXiv 1909.08053, section 3), for candidates, weighted positives and mixtures.

Legend: N samples, S rows of this process, P positives, C candidates and E excluded items per sample,
Q queries, R queries of a piece, J queries of a sample, D width.
"""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor

from alterrec import parallel
from alterrec.nn.divided_scores import combined, share_of_sum
from alterrec.nn.losses import AtOnce, ScoreBuffer
from alterrec.nn.mixtures import QUERIES_PER_SAMPLE, QueryBatch, candidate_bits, pieces
from alterrec.ranking import softmax_
from alterrec.shards import Shard


def divided_cross_entropy(
    vectors_ND: Tensor,
    table_SD: Tensor,
    positives_NP: Tensor,
    weights_P: Tensor,
    candidates: Tensor | None,
    exclude_NE: Tensor | None = None,
    each: float = 1.0,
    buffer: ScoreBuffer | None = None,
    *,
    shard: Shard,
) -> Tensor:
    """Return this process's part of :func:`~alterrec.nn.losses.candidate_cross_entropy`.

    Args:
        vectors_ND: session vectors of all samples, the same in all processes.
        table_SD: the rows of this process.
        positives_NP, weights_P, exclude_NE, each, buffer: as there; ids are those of the whole catalogue.
        candidates: ids (N, C) of the whole catalogue, padded with -1; uint8 bits (N, ceil(S / 8)) of the rows
            of this process; or None for the whole catalogue.
        shard: the rows of this process.

    Returns:
        The part of the loss, a scalar. Its gradient with respect to the vectors is the part of this process.

    Example:
        >>> vectors, table = torch.tensor([[1.0]]), torch.tensor([[2.0], [1.0], [0.0]])
        >>> loss = divided_cross_entropy(
        ...     vectors, table, torch.tensor([[0]]), torch.ones(1), torch.tensor([[1]]), shard=Shard(0, 3, 3)
        ... )
        >>> round(loss.item(), 4)  # log(1 + exp(-1))
        0.3133
    """
    wanted = positives_NP, weights_P, candidates, exclude_NE, each, shard
    return _DividedLoss.of(vectors_ND, table_SD, wanted=wanted, buffer=buffer)


class _DividedLoss(AtOnce):
    @staticmethod
    def forward(ctx: Any, vectors_ND: Tensor, table_SD: Tensor, wanted: Any, buffer: ScoreBuffer) -> Tensor:
        positives_NP, weights_P, candidates, exclude_NE, each, shard = wanted
        weights_P, losses = weights_P.double(), []
        vector_gradient_ND, table_gradient_SD = torch.zeros_like(vectors_ND), torch.zeros_like(table_SD)
        for chunk in buffer.chunks(len(vectors_ND)):
            scores_NS = buffer.product(vectors_ND[chunk], table_SD)
            places_NP = shard.places(positives_NP[chunk])
            own_NP = _at(scores_NS, places_NP)
            left_out_NE = positives_NP[chunk]
            if candidates is None:
                left_out_NE = left_out_NE[:, :0]
            if exclude_NE is not None:
                exclude = exclude_NE[chunk]
                if candidates is None:
                    # Positives are never left out of the whole catalogue.
                    positive = (exclude[:, :, None] == positives_NP[chunk][:, None]).any(2)
                    exclude = exclude.masked_fill(positive, -1)
                left_out_NE = torch.cat([left_out_NE, exclude], 1)
            left_out_NE = shard.places(left_out_NE)
            if candidates is not None and candidates.dtype != torch.uint8:
                log_sums_N = _softmax_of_ids(scores_NS, shard.places(candidates[chunk]), left_out_NE)
            else:
                marks = None if candidates is None else candidates[chunk]
                log_sums_N = softmax_(scores_NS, exclude=left_out_NE, candidates=marks)
            whole_N, own = combined(log_sums_N, own_NP.flatten())
            own_NP, sum_N1 = own.view_as(places_NP), whole_N[:, None]
            if candidates is not None:
                # Each positive is compared with the candidates and itself.
                sum_N1 = sum_N1 + math.log(each)
                total_NP = torch.logaddexp(own_NP, sum_N1)
            else:
                total_NP = sum_N1.expand_as(own_NP)
            pull_NP = weights_P * (sum_N1 - total_NP).exp() / len(vectors_ND)
            losses.append((total_NP - own_NP) @ weights_P)
            factor_N = pull_NP.sum(1) * share_of_sum(log_sums_N, whole_N)
            rows_X, columns_X = (places_NP >= 0).nonzero(as_tuple=True)
            pulled = rows_X, places_NP[rows_X, columns_X], pull_NP[rows_X, columns_X]
            vector_gradient_ND[chunk] = _add_gradients(
                table_gradient_SD, scores_NS, factor_N, pulled, vectors_ND[chunk], table_SD
            )
        ctx.save_for_backward(vector_gradient_ND, table_gradient_SD)
        return _share(torch.cat(losses).mean(), vectors_ND)


def _softmax_of_ids(scores_NS: Tensor, places_NC: Tensor, left_out_NE: Tensor) -> Tensor:
    """Overwrite scores by the softmax over some places of each row, which count as often as they occur.

    Args:
        scores_NS: scores.
        places_NC: places of candidates; -1 for none.
        left_out_NE: places that are no candidates; -1 for none.

    Returns:
        The logsumexp (N,) float64 of the candidates' scores.
    """
    left_out = scores_NS.new_zeros(len(scores_NS), scores_NS.shape[1] + 1, dtype=torch.bool)
    # The last column is that of padding.
    left_out.scatter_(1, left_out_NE % left_out.shape[1], True)
    left_out[:, -1] = True
    values_NC = _at(scores_NS, places_NC).double()
    values_NC = values_NC.masked_fill(left_out.gather(1, places_NC % left_out.shape[1]), -torch.inf)
    log_sums_N = values_NC.logsumexp(1)
    values_NC = (values_NC - log_sums_N[:, None]).exp().masked_fill(values_NC == -torch.inf, 0.0)
    scores_NS.zero_()
    if scores_NS.shape[1]:
        scores_NS.scatter_add_(1, places_NC.clamp(min=0), values_NC.to(scores_NS))
    return log_sums_N


def _at(scores_NS: Tensor, places_NK: Tensor) -> Tensor:
    """Return the scores at some places (N, K); 0 where a place is -1."""
    if not scores_NS.shape[1]:
        return scores_NS.new_zeros(places_NK.shape)
    return scores_NS.gather(1, places_NK.clamp(min=0)).masked_fill(places_NK < 0, 0.0)


def _add_gradients(
    table_gradient_SD: Tensor,
    softmax_RS: Tensor,
    factor_R: Tensor,
    pulled: tuple[Tensor, Tensor, Tensor],
    vectors_RD: Tensor,
    table_SD: Tensor,
) -> Tensor:
    """Add the gradient of a table to that of other samples, and return that of the vectors (R, D).

    The gradient of the scores is that of softmaxes, each with a factor, minus that of positives.

    Args:
        table_gradient_SD: changed in place.
        softmax_RS: softmaxes; may be overwritten.
        factor_R: factor of each row.
        pulled: row, place and value of what is subtracted from the gradient of scores.
        vectors_RD: the vectors of the rows.
        table_SD: the table.
    """
    rows_X, places_X, parts_X = pulled
    factor_R1 = factor_R.to(softmax_RS)[:, None]
    if softmax_RS.dtype != table_SD.dtype:
        # Both parts are rounded together: apart, their rounding errors exceed the gradient of a small loss.
        softmax_RS.mul_(factor_R1)
        softmax_RS.index_put_((rows_X, places_X), -parts_X.to(softmax_RS), accumulate=True)
        gradient_RS = softmax_RS.to(table_SD.dtype)
        table_gradient_SD.addmm_(gradient_RS.T, vectors_RD)
        return gradient_RS @ table_SD
    # As the small factors of products are multiplied, the softmaxes are not read once more.
    table_gradient_SD.addmm_(softmax_RS.T, vectors_RD * factor_R1)
    vector_gradient_RD = (softmax_RS @ table_SD).mul_(factor_R1)
    parts_X1 = -parts_X.to(vectors_RD)[:, None]
    vector_gradient_RD.index_add_(0, rows_X, parts_X1 * table_SD[places_X])
    table_gradient_SD.index_add_(0, places_X, parts_X1 * vectors_RD[rows_X])
    return vector_gradient_RD


def _share(loss: Tensor, like: Tensor) -> Tensor:
    """Return the part of this process in a loss of which every process has the whole value."""
    return (loss / parallel.job().world).to(torch.promote_types(like.dtype, torch.float32))


def divided_mixture_cross_entropy(
    queries: QueryBatch,
    table_SD: Tensor,
    positives_NP: Tensor,
    weights_P: Tensor,
    candidates: Tensor | None = None,
    buffer: ScoreBuffer | None = None,
    *,
    shard: Shard,
) -> Tensor:
    """Return this process's part of :func:`~alterrec.nn.mixtures.mixture_cross_entropy`.

    Args:
        queries: the queries of all samples, the same in all processes.
        table_SD: the rows of this process.
        positives_NP, weights_P, buffer: as there; ids are those of the whole catalogue.
        candidates: ids (Q, C) of the whole catalogue, padded with -1; uint8 bits (Q, ceil(S / 8)) of the rows
            of this process; or None for the whole catalogue.
        shard: the rows of this process.

    Returns:
        The part of the loss, a scalar. Its gradient is the part of this process.

    Example:
        >>> own, one = torch.tensor([[0], [2]]), torch.ones(1)
        >>> halves = torch.full((1, 2), 0.5).log()
        >>> both = QueryBatch(torch.tensor([[1.0], [-1.0]]), torch.tensor([[0, 1]]), halves, own)
        >>> table = torch.tensor([[0.0], [1.0], [0.0]])
        >>> loss = divided_mixture_cross_entropy(
        ...     both, table, torch.tensor([[1]]), one, shard=Shard(0, 3, 3)
        ... )
        >>> round(loss.item(), 4)  # -log of the mean of e / (1 + e) and (1 / e) / (1 + 1 / e)
        0.6931
    """
    if candidates is not None:
        ids = candidates if candidates.dtype == torch.uint8 else shard.places(candidates)
        candidates = candidate_bits(ids, queries.rows_NJ, shard.places(positives_NP), shard.size)
    wanted = queries.rows_NJ, queries.exclude_QE, positives_NP, weights_P, candidates, shard
    tensors = queries.vectors_QD, table_SD, queries.log_weights_NJ
    return _DividedMixtureLoss.of(*tensors, wanted=wanted, buffer=buffer)


class _DividedMixtureLoss(AtOnce):
    @staticmethod
    def forward(
        ctx: Any,
        vectors_QD: Tensor,
        table_SD: Tensor,
        log_weights_NJ: Tensor,
        wanted: Any,
        buffer: ScoreBuffer,
    ) -> Tensor:
        rows_NJ, exclude_QE, positives_NP, weights_P, candidates, shard = wanted
        weights_P, losses = weights_P.double(), []
        vector_gradient_QD, table_gradient_SD = torch.zeros_like(vectors_QD), torch.zeros_like(table_SD)
        weight_gradient_NJ = torch.empty_like(log_weights_NJ)
        for samples, used_R, rows_nJ in pieces(rows_NJ, len(vectors_QD), QUERIES_PER_SAMPLE * buffer.rows):
            vectors_RD = vectors_QD[used_R]
            block_RS = buffer.product(vectors_RD, table_SD)
            if exclude_QE is not None:
                # Before the scores of positives are read: an excluded one has the probability 0.
                _leave_out(block_RS, shard.places(exclude_QE[used_R]))
            shape = *positives_NP[samples].shape, rows_nJ.shape[1]
            void_nPJ = (rows_nJ < 0)[:, None].expand(shape)
            row_nPJ = rows_nJ.clamp(min=0)[:, None].expand(shape)
            place_nPJ = shard.places(positives_NP[samples])[..., None].expand(shape)
            here_nPJ = (place_nPJ >= 0) & ~void_nPJ
            own_nPJ = torch.zeros(shape, dtype=torch.float64, device=block_RS.device)
            own_nPJ[here_nPJ] = block_RS[row_nPJ[here_nPJ], place_nPJ[here_nPJ]].double()
            log_sums_R = softmax_(block_RS, candidates=None if candidates is None else candidates[used_R])
            whole_R, own = combined(log_sums_R, own_nPJ.flatten())
            own_nPJ = own.view(shape)
            logs_nPJ = torch.where(own_nPJ == -torch.inf, own_nPJ, own_nPJ - whole_R[row_nPJ])
            logs_nPJ = (logs_nPJ + log_weights_NJ[samples].double()[:, None]).masked_fill(
                void_nPJ, -torch.inf
            )
            log_nP1 = logs_nPJ.logsumexp(2, keepdim=True)
            # The responsibility of each query for each positive, times the weight of that.
            share_nPJ = (logs_nPJ - log_nP1).exp() * (weights_P[:, None] / len(rows_NJ))
            share_nPJ = share_nPJ.masked_fill(void_nPJ, 0.0)
            share_nJ = share_nPJ.sum(1)
            share_R = whole_R.new_zeros(len(used_R))
            share_R.index_add_(0, rows_nJ.clamp(min=0).flatten(), share_nJ.flatten())
            losses.append(-(log_nP1[..., 0] @ weights_P))
            weight_gradient_NJ[samples] = -share_nJ.to(log_weights_NJ) / parallel.job().world
            factor_R = share_R * share_of_sum(log_sums_R, whole_R)
            pulled = row_nPJ[here_nPJ], place_nPJ[here_nPJ], share_nPJ[here_nPJ]
            vector_gradient_QD[used_R] += _add_gradients(
                table_gradient_SD, block_RS, factor_R, pulled, vectors_RD, table_SD
            )
        ctx.save_for_backward(vector_gradient_QD, table_gradient_SD, weight_gradient_NJ)
        return _share(torch.cat(losses).mean(), vectors_QD)


def _leave_out(block_RS: Tensor, places_RE: Tensor) -> None:
    """Overwrite the scores at some places by -inf, where these are not -1."""
    rows_X, columns_X = (places_RE >= 0).nonzero(as_tuple=True)
    block_RS[rows_X, places_RE[rows_X, columns_X]] = -torch.inf

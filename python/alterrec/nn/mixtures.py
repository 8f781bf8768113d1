"""Queries of a session and the mixture of their softmaxes.

A session that is read as one vector asks the catalogue once. Here each item of the prefix is a query, too,
and the probabilities of the queries are mixed:

``p(i | prefix) = sum_j w_j softmax_i(q_j . z_i / T)``

with weights ``w`` learned for each distance from the end of the prefix, normalised over the queries that the
prefix has. An item is no candidate of its own query. The score of item i is ``log p(i | prefix)``.

The gradient of ``-log p(t)`` with respect to the logits of query j is that of a cross-entropy with the weight
``r_j = w_j p_j(t) / p(t)``, the responsibility of the query for the target, taken as a constant (the identity
behind the EM algorithm). As the softmax of a query depends on its item only, each distinct item of a batch is
scored once for all prefixes that contain it.

Sources: mixtures of softmaxes are from Yang et al., "Breaking the Softmax Bottleneck", ICLR 2018 (mixtures of
logits for retrieval: Ding and Zhai, arXiv 2407.15462). One query for each item of a session is the idea of
MiaSRec (Choi et al., arXiv 2405.00986), which takes ``beta max + (1 - beta) mean`` of the scores instead.
Item-kNN, in which every item of the session votes for its neighbours, is the untrained relative.

Legend: N samples, L places, J queries of a sample, Q queries of a batch, U distinct items, V items, D width,
P positives per sample, E excluded items per query.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from alterrec.nn.divided_scores import combined, share_of_sum
from alterrec.nn.layers import keep_start, on_device
from alterrec.nn.losses import AtOnce, ScoreBuffer
from alterrec.ranking import mark_, mixture_cross_entropy_, mixture_scores, softmax_
from alterrec.shards import Shard

# Rows of query scores in memory for each sample whose scores may be in memory. Items are shared by the
# prefixes of a batch: 512 prefixes of Online Retail have 1,500 distinct items.
QUERIES_PER_SAMPLE = 4


class Queries(nn.Module):
    """The learned weights of the queries of a prefix: one for each distance from its end.

    Args:
        max_len: number of last items that are queries.
        vector: whether the session vector is a query as well, with a weight of its own.
        excludes_seen: whether items of the prefix are no candidates: neither of the query of that item, nor
            of the session vector.

    Example:
        >>> queries = Queries(max_len=3, vector=False)
        >>> queries.log_weights(torch.tensor([2]), width=3).exp()  # weights 1 and 1/2, normalised
        tensor([[0.6667, 0.3333, 0.0000]], grad_fn=<ExpBackward0>)
    """

    def __init__(self, max_len: int, vector: bool, excludes_seen: bool = True) -> None:
        super().__init__()
        # exp(-log(1 + distance)) = 1 / (1 + distance), as in the session encoder `recency`.
        self.logits_L = nn.Parameter(-torch.log(torch.arange(1.0, max_len + 1)))
        self.vector_logit = nn.Parameter(torch.zeros(())) if vector else None
        self.excludes_seen = excludes_seen
        keep_start(self)

    def log_weights(self, length_N: Tensor, width: int) -> Tensor:
        """Return the logs of the normalised weights (N, J).

        Args:
            length_N: int64 number of items of each prefix.
            width: number of columns for items, by distance from the end; -inf beyond the prefix. If the
                session vector is a query, its column comes first.
        """
        distance_L = torch.arange(width, device=length_N.device)
        logits_NJ = self.logits_L[:width].expand(length_N.shape[0], -1)
        logits_NJ = logits_NJ.masked_fill(distance_L >= length_N[:, None], -torch.inf)
        if self.vector_logit is not None:
            logits_NJ = torch.cat([self.vector_logit.expand(length_N.shape[0], 1), logits_NJ], 1)
        return logits_NJ.log_softmax(1)


class QueryRows(NamedTuple):
    """Which queries a batch has, as int64 arrays.

    Attributes:
        items: (U,) distinct items, ascending: the first U queries, before those of sessions.
        rows: (N, J) queries of each sample, padded with -1.
        exclude: (Q, E) items that are no candidates of a query, padded with -1; None if all are.
    """

    items: np.ndarray
    rows: np.ndarray
    exclude: np.ndarray | None


class QueryBatch(NamedTuple):
    """The queries of a batch.

    Attributes:
        vectors_QD: query vectors, divided by the temperature.
        rows_NJ: int64 queries of each sample, padded with -1.
        log_weights_NJ: logs of their normalised weights, -inf at padded places.
        exclude_QE: int64 items that are no candidates of a query, padded with -1; None if all are.
    """

    vectors_QD: Tensor
    rows_NJ: Tensor
    log_weights_NJ: Tensor
    exclude_QE: Tensor | None


def by_distance(items_NL: np.ndarray, length_N: np.ndarray) -> np.ndarray:
    """Return the items of right-padded prefixes by their distance from the end (N, L), padded with -1.

    Example:
        >>> by_distance(np.array([[4, 2], [7, 0]]), np.array([2, 1]))
        array([[ 2,  4],
               [ 7, -1]])
    """
    place_NL = length_N[:, None] - 1 - np.arange(items_NL.shape[1])
    found_NL: np.ndarray = np.where(
        place_NL < 0, -1, np.take_along_axis(items_NL, place_NL.clip(min=0), axis=1)
    )
    return found_NL


def distinct(ids_NJ: np.ndarray, size: int) -> tuple[np.ndarray, np.ndarray]:
    """Return the distinct ids of a matrix, and the matrix with their positions instead of ids.

    Args:
        ids_NJ: int64 ids, padded with -1.
        size: all ids are below it.

    Returns:
        The ids (U,), ascending; and positions (N, J), padded with -1.

    Example:
        >>> distinct(np.array([[2, 4], [4, -1]]), size=5)
        (array([2, 4]), array([[ 0,  1],
               [ 1, -1]]))
    """
    # The last place is that of the padding.
    present = np.zeros(size + 1, np.bool_)
    present[ids_NJ] = True
    present[-1] = False
    position = np.cumsum(present) - 1
    position[-1] = -1
    return np.flatnonzero(present), position[ids_NJ]


def mixture_cross_entropy(
    queries: QueryBatch,
    table_VD: Tensor,
    positives_NP: Tensor,
    weights_P: Tensor,
    candidates: Tensor | None = None,
    buffer: ScoreBuffer | None = None,
) -> Tensor:
    """Return the mean over samples of the weighted ``-log p(positive)`` under the mixture of its queries.

    The scores of the queries are overwritten with their softmaxes, and these with the gradient, in one buffer
    of size Q x V; the backward pass only scales the gradients.

    Args:
        queries: the queries of the batch.
        table_VD: floating-point item vectors.
        positives_NP: int64 item ids; the first column is the target. No positive may be among the excluded
            items of all of its queries: its probability would be 0 and the loss infinite.
        weights_P: floating-point weight of each column.
        candidates: int64 items (Q, C), padded with -1, or uint8 bits (Q, ceil(V / 8)): the candidates of each
            query, to which every positive that meets the query is added. An item counts once, however often
            it is drawn. None: the whole catalogue.
        buffer: memory for the scores. Default: a new buffer.

    Returns:
        The loss, a scalar.

    Example:
        >>> table = torch.tensor([[0.0], [1.0], [0.0]])
        >>> own, one = torch.tensor([[0], [2]]), torch.ones(1)
        >>> halves = torch.full((1, 2), 0.5).log()
        >>> both = QueryBatch(torch.tensor([[1.0], [-1.0]]), torch.tensor([[0, 1]]), halves, own)
        >>> loss = mixture_cross_entropy(both, table, torch.tensor([[1]]), one)
        >>> round(loss.item(), 4)  # -log of the mean of e / (1 + e) and (1 / e) / (1 + 1 / e)
        0.6931
    """
    vectors_QD, rows_NJ, log_weights_NJ, exclude_QE = queries
    if candidates is not None:
        candidates = candidate_bits(candidates, rows_NJ, positives_NP, len(table_VD))
    wanted = rows_NJ, exclude_QE, positives_NP, weights_P, candidates
    return _MixtureLoss.of(vectors_QD, table_VD, log_weights_NJ, wanted=wanted, buffer=buffer)


def candidate_bits(candidates: Tensor, rows_NJ: Tensor, positives_NP: Tensor, num_items: int) -> Tensor:
    """Return the candidates of each query as bits, with the positives that meet it.

    The kernel adds these, too, but it sees only one part of the samples at a time.
    """
    if candidates.dtype == torch.uint8:
        bits = candidates.clone()
    else:
        size = len(candidates), -(-num_items // 8)
        bits = torch.zeros(size, dtype=torch.uint8, device=candidates.device)
        row_Q1 = torch.arange(len(candidates), device=candidates.device)[:, None]
        mark_(bits, row_Q1.expand_as(candidates).contiguous(), candidates)
    shape = *positives_NP.shape, rows_NJ.shape[1]
    rows_NPJ, items_NPJ = rows_NJ[:, None].expand(shape), positives_NP[..., None].expand(shape)
    mark_(bits, rows_NPJ.contiguous(), items_NPJ.contiguous())
    return bits


class _MixtureLoss(AtOnce):
    @staticmethod
    def forward(
        ctx: Any,
        vectors_QD: Tensor,
        table_VD: Tensor,
        log_weights_NJ: Tensor,
        wanted: Any,
        buffer: ScoreBuffer,
    ) -> Tensor:
        rows_NJ, exclude_QE, positives_NP, weights_P, candidates = wanted
        vector_gradient_QD, table_gradient_VD = torch.zeros_like(vectors_QD), None
        weight_gradient_NJ, losses = torch.empty_like(log_weights_NJ), []
        for samples, used_R, rows_nJ in pieces(rows_NJ, len(vectors_QD), QUERIES_PER_SAMPLE * buffer.rows):
            vectors_RD = vectors_QD[used_R]
            block_RV = buffer.product(vectors_RD, table_VD)
            losses_n, share_nJ, share_R = mixture_cross_entropy_(
                block_RV,
                rows_nJ,
                log_weights_NJ[samples],
                positives_NP[samples],
                weights_P,
                exclude=None if exclude_QE is None else exclude_QE[used_R],
                candidates=None if candidates is None else candidates[used_R],
                factor=1 / len(rows_NJ),
            )
            losses.append(losses_n)
            weight_gradient_NJ[samples] = -share_nJ.to(log_weights_NJ)
            # The gradient of row r is share_r times what the row has become. As the small factor of each
            # product is multiplied by share_r, the block is not read once more.
            gradient_RV, share_R1 = block_RV.to(table_VD.dtype), share_R.to(vectors_RD)[:, None]
            vector_gradient_QD[used_R] += (gradient_RV @ table_VD).mul_(share_R1)
            vectors_RD = vectors_RD * share_R1
            if table_gradient_VD is None:
                table_gradient_VD = gradient_RV.T @ vectors_RD
            else:
                table_gradient_VD.addmm_(gradient_RV.T, vectors_RD)
        ctx.save_for_backward(vector_gradient_QD, table_gradient_VD, weight_gradient_NJ)
        return torch.cat(losses).mean().to(torch.promote_types(vectors_QD.dtype, torch.float32))


def mixture_log_probabilities(
    queries: QueryBatch, table_VD: Tensor, buffer: ScoreBuffer, slot: str = "", shard: Shard | None = None
) -> Tensor:
    """Return the scores of a mixture of softmaxes, ``log p(i | prefix)``, for all items.

    Args:
        queries: the queries of the batch.
        table_VD: floating-point item vectors.
        buffer: memory for the scores of the queries and for the result.
        slot: name of the result in the buffer.
        shard: the rows of the catalogue in the table, if processes have some rows each; all of them compute
            the same queries. None: the table is whole.

    Returns:
        Scores (N, V) float32, finite for every item; valid until the next call with the same slot.

    Example:
        >>> own = torch.tensor([[0], [2]])
        >>> halves = torch.full((1, 2), 0.5).log()
        >>> both = QueryBatch(torch.tensor([[0.0], [0.0]]), torch.tensor([[0, 1]]), halves, own)
        >>> mixture_log_probabilities(both, torch.zeros(3, 1), ScoreBuffer()).exp()
        tensor([[0.2500, 0.5000, 0.2500]])
    """
    weights_NJ = queries.log_weights_NJ.exp()
    scores_NV = buffer.memory(len(queries.rows_NJ), len(table_VD), table_VD, slot)
    most = QUERIES_PER_SAMPLE * len(queries.rows_NJ)
    for samples, used_R, rows_nJ in pieces(queries.rows_NJ, len(queries.vectors_QD), most):
        block_RV = buffer.product(queries.vectors_QD[used_R], table_VD, "queries")
        exclude = None if queries.exclude_QE is None else queries.exclude_QE[used_R]
        if shard is None:
            softmax_(block_RV, exclude=exclude)
        else:
            log_sums_R = softmax_(block_RV, exclude=None if exclude is None else shard.places(exclude))
            block_RV.mul_(share_of_sum(log_sums_R, combined(log_sums_R)[0])[:, None])
        mixture_scores(block_RV, rows_nJ, weights_NJ[samples], out=scores_NV[samples])
    return scores_NV


def pieces(rows_NJ: Tensor, num_queries: int, most: int) -> Iterator[tuple[slice, Tensor, Tensor]]:
    """Divide samples into parts with at most ``most`` distinct queries, or of a single sample.

    Yields:
        The samples; their distinct queries (R,); and their rows (n, J) with positions in these.
    """
    device, waiting = str(rows_NJ.device), [slice(0, len(rows_NJ))]
    if num_queries <= most:
        # Nothing is read from a device.
        yield waiting[0], torch.arange(num_queries, device=device), rows_NJ
        return
    host_NJ = rows_NJ.cpu().numpy()
    while waiting:
        samples = waiting.pop()
        used_R, own_nJ = distinct(host_NJ[samples], num_queries)
        count = samples.stop - samples.start
        if len(used_R) <= most or count == 1:
            yield samples, on_device(used_R, device), on_device(own_nJ, device)
        else:
            middle = samples.start + count // 2
            waiting += [slice(middle, samples.stop), slice(samples.start, middle)]

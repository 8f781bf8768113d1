"""The scores of a mixture of softmaxes for all items, where processes have some rows of the table each.

Legend: N samples, M samples of this process, J queries of a sample, Q queries, R queries of a piece, V items,
S rows of this process, D width.
"""

from __future__ import annotations

from itertools import zip_longest

import torch
from torch import Tensor

from alterrec import parallel
from alterrec.nn.divided_scores import with_all_columns
from alterrec.nn.losses import ScoreBuffer
from alterrec.nn.mixtures import QUERIES_PER_SAMPLE, QueryBatch, pieces
from alterrec.ranking import mixture_scores, softmax_
from alterrec.shards import Shard


def whole_mixtures(
    queries: QueryBatch, table_SD: Tensor, buffer: ScoreBuffer, slot: str, shard: Shard, *, own_samples: bool
) -> Tensor:
    """Return :func:`~alterrec.nn.mixtures.mixture_log_probabilities` of a table that is divided.

    Processes exchange the scores of queries, and mix the softmaxes of their samples as one process does.

    Args:
        queries: the queries of all samples, the same in all processes.
        table_SD: the rows of this process.
        buffer: memory for the scores of the queries and for the result.
        slot: name of the result in the buffer.
        shard: the rows of this process.
        own_samples: whether each process gets its share of the samples, see
            :func:`~alterrec.nn.divided_scores.own_share`. If not, each gets all of them.

    Returns:
        Scores (M, V) or (N, V), valid until the next call with the same slot.
    """
    count, job = len(queries.rows_NJ), parallel.job()
    shares = [each.rows for each in Shard.of_each(count)] if own_samples else [slice(0, count)] * job.world
    weights_MJ = queries.log_weights_NJ[shares[job.rank]].exp()
    scores_MV = buffer.memory(len(weights_MJ), shard.total, table_SD, slot)
    most = max(1, QUERIES_PER_SAMPLE * count // job.world)
    pieces_of_each = [
        pieces(queries.rows_NJ[share], len(queries.vectors_QD), most) if share.start < share.stop else ()
        for share in shares
    ]
    none = slice(0, 0), torch.empty(0, dtype=torch.int64, device=table_SD.device), queries.rows_NJ[:0]
    # Processes with fewer pieces than others compute scores for those alone.
    for pieces_now in zip_longest(*pieces_of_each, fillvalue=none):
        asked = [used_R for _, used_R, _ in pieces_now]
        own_XS = buffer.product(queries.vectors_QD[torch.cat(asked)], table_SD, "rows of queries")
        block_RV = with_all_columns(own_XS, [len(each) for each in asked], shard, buffer, "queries")
        samples, used_R, rows_nJ = pieces_now[job.rank]
        softmax_(block_RV, exclude=None if queries.exclude_QE is None else queries.exclude_QE[used_R])
        mixture_scores(block_RV, rows_nJ, weights_MJ[samples], out=scores_MV[samples])
    return scores_MV

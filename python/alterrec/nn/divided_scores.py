"""Scores of which each process of a job has some columns: those of its rows of a divided item table.

Legend: N samples, M samples of this process, V items, S rows of this process, W processes, P values that
processes add up.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from alterrec import parallel
from alterrec.nn.losses import ScoreBuffer
from alterrec.shards import Shard


def whole_scores(
    scores_NS: Tensor, shard: Shard, buffer: ScoreBuffer, slot: str, *, own_samples: bool
) -> Tensor:
    """Return scores of all items: the columns of all processes, of some samples or of all.

    Scores are computed by columns and ranked by rows. So everything that evaluation computes from the scores
    of a sample is the same as in one process.

    Args:
        scores_NS: scores of the rows of this process.
        shard: these rows.
        buffer: memory for the result.
        slot: name of the result in the buffer.
        own_samples: whether each process gets its share of the samples, see :func:`own_share`. If not, each
            gets all of them.

    Returns:
        Scores (M, V) or (N, V), valid until the next call with the same slot.
    """
    count = len(scores_NS)
    if own_samples:
        return with_all_columns(scores_NS, [each.size for each in Shard.of_each(count)], shard, buffer, slot)
    world = parallel.job().world
    return with_all_columns(scores_NS.repeat(world, 1), [count] * world, shard, buffer, slot)


def with_all_columns(
    scores_XS: Tensor, rows_of_each: Sequence[int], shard: Shard, buffer: ScoreBuffer, slot: str
) -> Tensor:
    """Send rows of scores to other processes, and return those of this one with the columns of all.

    Args:
        scores_XS: scores of the rows of this process, in the order of the processes that get them.
        rows_of_each: number of rows for each process.
        shard, buffer, slot: as in :func:`whole_scores`.

    Returns:
        Scores (M, V), valid until the next call with the same slot.

    Example:
        >>> with_all_columns(torch.ones(2, 3), [2], Shard(0, 3, 3), ScoreBuffer(), "").shape
        torch.Size([2, 3])
    """
    rows, shards = rows_of_each[parallel.job().rank], Shard.of_each(shard.total)
    sent, received = [each * shard.size for each in rows_of_each], [rows * each.size for each in shards]
    found = torch.split(parallel.exchanged(scores_XS.flatten(), sent, received), received)
    whole_MV = buffer.memory(rows, shard.total, scores_XS, slot)
    for part, each in zip(found, shards, strict=True):
        whole_MV[:, each.rows] = part.view(rows, each.size)
    return whole_MV


def own_share(count: int) -> slice:
    """Return which of the samples of a chunk this process ranks, none if there are too few.

    Example:
        >>> own_share(5)
        slice(0, 5, None)
    """
    return Shard.own(count).rows


def combined(log_sums_N: Tensor, values_P: Tensor | None = None) -> tuple[Tensor, Tensor]:
    """Return logs of sums over the columns of all processes, and sums of further values, by one message.

    Args:
        log_sums_N: the logsumexp of the scores of each row in this process; -inf if it has none.
        values_P: values of which each process has a part. Default: none.

    Returns:
        Both (N,) and (P,) float64.

    Example:
        >>> combined(torch.tensor([0.5]), torch.tensor([2.0]))
        (tensor([0.5000], dtype=torch.float64), tensor([2.], dtype=torch.float64))
    """
    parts = [log_sums_N.double()]
    if values_P is not None:
        parts.append(values_P.double())
    found_W = parallel.gathered(torch.cat(parts))
    return found_W[:, : len(log_sums_N)].logsumexp(0), found_W[:, len(log_sums_N) :].sum(0)


def share_of_sum(log_sums_N: Tensor, whole_N: Tensor) -> Tensor:
    """Return what a softmax over the columns of this process is multiplied by to be one over all columns.

    Args:
        log_sums_N: the logsumexp of each row in this process.
        whole_N: that of all processes.

    Example:
        >>> share_of_sum(torch.tensor([0.0, -torch.inf]), torch.tensor([0.0, -torch.inf]))
        tensor([1., 0.])
    """
    return (log_sums_N - whole_N).exp().masked_fill(log_sums_N == -torch.inf, 0.0)

"""The one loss: softmax cross-entropy of weighted positives against candidates (Eq. 2-5).

Legend: N samples, V items, P positives a sample, C candidates a sample.
"""

from __future__ import annotations

import torch
from torch import Tensor


def candidate_cross_entropy(
    scores_NV: Tensor, positives_NP: Tensor, weights_P: Tensor, candidates: Tensor | None
) -> Tensor:
    """Mean over samples of the weighted cross-entropy of each positive against the candidates.

    Each positive stands alone against the same candidates (the note under Eq. 5): with negatives C,
    ``loss = sum_p w_p * (logsumexp(s_p, s_C) - s_p)``. Eq. 2 and 3 are P = 1 with weight 1; Eq. 4 and 5
    add the teacher's top items with weight beta. A positive of a sample is never its negative; other
    candidates count as often as they are drawn. Scores of the whole catalogue are taken and columns
    picked, since gathering item vectors costs 10 to 100 times as much (docs/architecture.md).

    Args:
        scores_NV: floating scores of every item.
        positives_NP: int64 item ids; the first column is the target.
        weights_P: floating weight of each column.
        candidates: None for the whole catalogue; int64 (N, C) item ids, -1 for none; or bool (N, V).

    Returns:
        A scalar.

    Example:
        >>> scores = torch.tensor([[2.0, 1.0, 0.0]])
        >>> loss = candidate_cross_entropy(scores, torch.tensor([[0]]), torch.ones(1), torch.tensor([[1]]))
        >>> round(loss.item(), 4)  # log(1 + exp(-1))
        0.3133
    """
    positive_NP = scores_NV.gather(1, positives_NP)
    if candidates is None:
        total_NP = scores_NV.logsumexp(1, keepdim=True)
    elif candidates.dtype == torch.bool:
        total_NP = _with_each_positive(scores_NV, positives_NP, positive_NP, candidates)
    else:
        void_NC = (candidates < 0) | (candidates[:, :, None] == positives_NP[:, None, :]).any(2)
        drawn_NC = scores_NV.gather(1, candidates.clamp(min=0)).masked_fill(void_NC, -torch.inf)
        total_NP = torch.stack(
            [torch.cat([column[:, None], drawn_NC], 1).logsumexp(1) for column in positive_NP.unbind(1)], 1
        )
    return ((total_NP - positive_NP) @ weights_P).mean()


def hide_seen(scores_NV: Tensor, items_NL: Tensor, lengths_N: Tensor, targets_N: Tensor) -> Tensor:
    """Scores in which the items of each prefix are no candidates (-inf), the target apart.

    Where evaluation leaves the prefix's items out, learning to rank below them is wasted.

    Args:
        scores_NV: floating scores of every item.
        items_NL, lengths_N: right-padded prefixes.
        targets_N: the targets, which keep their scores even where they repeat an item of the prefix.

    Example:
        >>> scores = torch.tensor([[1.0, 2.0, 3.0]])
        >>> hide_seen(scores, torch.tensor([[2, 0]]), torch.tensor([1]), torch.tensor([1])).tolist()
        [[1.0, 2.0, -inf]]
    """
    places_L = torch.arange(items_NL.shape[1], device=items_NL.device)
    seen_NL = torch.where(places_L < lengths_N[:, None], items_NL, items_NL[:, :1])
    kept_N1 = scores_NV.gather(1, targets_N[:, None])
    return scores_NV.scatter(1, seen_NL, -torch.inf).scatter(1, targets_N[:, None], kept_N1)


def _with_each_positive(
    scores_NV: Tensor, positives_NP: Tensor, positive_NP: Tensor, candidates_NV: Tensor
) -> Tensor:
    negatives_NV = candidates_NV.scatter(1, positives_NP, False)
    totals = []
    for p in range(positives_NP.shape[1]):
        kept_NV = negatives_NV.scatter(1, positives_NP[:, p : p + 1], True)
        totals.append(scores_NV.masked_fill(~kept_NV, -torch.inf).logsumexp(1))
    return torch.stack(totals, 1)

"""The one loss: softmax cross-entropy of weighted positives against candidates (Eq. 2-5).

Legend: N samples, V items, P positives a sample, C candidates a sample.
"""

from __future__ import annotations

import torch
from torch import Tensor

from alterrec.nn.session_encoders import place_mask


def candidate_cross_entropy(
    scores_NV: Tensor,
    positives_NP: Tensor,
    weights_P: Tensor,
    candidates: Tensor | None,
    hidden_NV: Tensor | None = None,
) -> Tensor:
    """Mean over samples of the weighted cross-entropy of each positive against the candidates.

    Each positive stands alone against the same candidates (the note under Eq. 5): with negatives C,
    ``loss = sum_p w_p * (logsumexp(s_p, s_C) - s_p)``. Eq. 2 and 3 are P = 1 with weight 1; Eq. 4 and 5
    add the teacher's top items with weight beta. A positive of a sample is never its negative, unless the
    candidates are the whole catalogue; other candidates count as often as they are drawn. Scores of the
    whole catalogue are taken and columns picked, since gathering item vectors costs 10 to 100 times as
    much (docs/architecture.md).

    Args:
        scores_NV: floating scores of every item.
        positives_NP: int64 item ids; the first column is the target.
        weights_P: floating weight of each column.
        candidates: None for the whole catalogue; int64 (N, C) item ids, -1 for none; or bool (N, V).
        hidden_NV: bool, items that are no candidates of a sample though drawn; positives are never hidden.

    Returns:
        A scalar.

    Example:
        >>> scores = torch.tensor([[2.0, 1.0, 0.0]])
        >>> loss = candidate_cross_entropy(scores, torch.tensor([[0]]), torch.ones(1), torch.tensor([[1]]))
        >>> round(loss.item(), 4)  # log(1 + exp(-1))
        0.3133
    """
    if hidden_NV is not None:
        hidden_NV = hidden_NV.scatter(1, positives_NP, False)
    if candidates is None:
        if hidden_NV is not None:
            scores_NV = scores_NV.masked_fill(hidden_NV, -torch.inf)
        # One fused pass forward and one back; logsumexp takes four and two.
        losses_NP = -scores_NV.log_softmax(1).gather(1, positives_NP)
    elif candidates.dtype == torch.bool:
        if hidden_NV is not None:
            candidates = candidates & ~hidden_NV
        losses_NP = _against_mask(scores_NV, positives_NP, candidates)
    else:
        losses_NP = _against_ids(scores_NV, positives_NP, candidates, hidden_NV)
    return (losses_NP @ weights_P).mean()


def seen_mask(items_NL: Tensor, lengths_N: Tensor, num_items: int) -> Tensor:
    """True at the items of each right-padded prefix, (N, V) bool.

    Example:
        >>> seen_mask(torch.tensor([[2, 0]]), torch.tensor([1]), num_items=3).tolist()
        [[False, False, True]]
    """
    real_NL = torch.where(place_mask(items_NL, lengths_N), items_NL, items_NL[:, :1])
    return torch.zeros(len(items_NL), num_items, dtype=torch.bool, device=items_NL.device).scatter_(
        1, real_NL, True
    )


def _against_ids(
    scores_NV: Tensor, positives_NP: Tensor, candidates_NC: Tensor, hidden_NV: Tensor | None
) -> Tensor:
    void_NC = candidates_NC < 0
    candidates_NC = candidates_NC.clamp(min=0)
    for positive_N in positives_NP.unbind(1):
        void_NC |= candidates_NC == positive_N[:, None]
    if hidden_NV is not None:
        void_NC |= hidden_NV.gather(1, candidates_NC)
    top = positives_NP.shape[1]
    # One gather: each writes a fresh gradient of the size of the scores.
    picked = scores_NV.gather(1, torch.cat([positives_NP, candidates_NC], 1))
    drawn_NC = picked[:, top:].masked_fill(void_NC, -torch.inf)
    losses = [-torch.cat([picked[:, p : p + 1], drawn_NC], 1).log_softmax(1)[:, 0] for p in range(top)]
    return torch.stack(losses, 1)


def _against_mask(scores_NV: Tensor, positives_NP: Tensor, candidates_NV: Tensor) -> Tensor:
    negatives_NV = candidates_NV.scatter(1, positives_NP, False)
    losses = []
    for positive_N in positives_NP.unbind(1):
        positive_N1 = positive_N[:, None]
        kept_NV = negatives_NV.scatter(1, positive_N1, True)
        losses.append(-scores_NV.masked_fill(~kept_NV, -torch.inf).log_softmax(1).gather(1, positive_N1))
    return torch.cat(losses, 1)

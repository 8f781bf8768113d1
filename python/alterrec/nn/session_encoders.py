"""Session encoders: from an item table and sessions to the vector of every prefix.

A causal encoder reads a session once: its state at place l is the vector of the prefix that ends there.
Legend: R sessions, L places, V items, D width. Sessions are right-padded; what lies behind a place is not
seen by its state.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class Mean(nn.Module):
    """The mean of the prefix's item rows (Section 4.1.2; Eq. 7), as a cumulative sum.

    Example:
        >>> table = torch.tensor([[1.0], [3.0], [9.0]])
        >>> Mean()(table, torch.tensor([[0, 1, 2]])).tolist()
        [[[1.0], [2.0], [4.333333492279053]]]
    """

    def forward(self, table_VD: Tensor, items_RL: Tensor) -> Tensor:
        """States (R, L, D)."""
        counts_L1 = torch.arange(1, items_RL.shape[1] + 1, device=items_RL.device)[:, None]
        return F.embedding(items_RL, table_VD).cumsum(1) / counts_L1


class Recency(nn.Module):
    """A mean with one learned weight for each distance to the prefix's end.

    On Online Retail it equals a 2-layer Transformer at a third of the time (docs/results.md).

    Example:
        >>> table = torch.tensor([[1.0], [3.0]])
        >>> encoder = Recency(max_len=3)
        >>> _ = torch.nn.init.zeros_(encoder.logits_L)
        >>> encoder(table, torch.tensor([[0, 1]])).tolist()
        [[[1.0], [2.0]]]
    """

    keeps_start = True

    def __init__(self, max_len: int) -> None:
        super().__init__()
        # exp(-log(1 + distance)) = 1 / (1 + distance): recent items lead from the first step.
        self.logits_L = nn.Parameter(-torch.log(torch.arange(1.0, max_len + 1)))

    def forward(self, table_VD: Tensor, items_RL: Tensor) -> Tensor:
        """States (R, L, D): one small matrix of weights times the rows of each session."""
        places_L = torch.arange(items_RL.shape[1], device=items_RL.device)
        distance_LL = places_L[:, None] - places_L
        logits_LL = self.logits_L[distance_LL.clamp(min=0)].masked_fill(distance_LL < 0, -torch.inf)
        return logits_LL.softmax(1) @ F.embedding(items_RL, table_VD)

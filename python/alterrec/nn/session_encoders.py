"""Session encoders: from an item table and sessions to the vector of every prefix.

These encoders are causal, so they read a session once: the state at place l is the vector of the prefix that
ends there and does not depend on later places. Sessions are right-padded.

Legend: R sessions, L places, V items, D width, H hidden width.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from alterrec.nn.dropout import Dropout
from alterrec.nn.layers import SessionEncoder, keep_start
from alterrec.nn.transformer import Transformer


class Mean(SessionEncoder):
    """The mean of the item vectors of the prefix (Section 4.1.2; Eq. 7), computed as a cumulative sum.

    Args:
        dropout: dropout probability of the item vectors.

    Example:
        >>> table = torch.tensor([[1.0], [3.0], [9.0]])
        >>> Mean()(table, torch.tensor([[0, 1, 2]])).tolist()
        [[[1.0], [2.0], [4.333333492279053]]]
    """

    def __init__(self, dropout: float = 0.0) -> None:
        super().__init__()
        self.dropout = Dropout(dropout)

    def forward(self, table_VD: Tensor, items_RL: Tensor) -> Tensor:
        rows_RLD: Tensor = self.dropout(F.embedding(items_RL, table_VD))
        counts_L1 = torch.arange(1, items_RL.shape[1] + 1, device=items_RL.device)[:, None]
        return rows_RLD.cumsum(1) / counts_L1


class Recency(SessionEncoder):
    """A weighted mean with one learned weight for each distance from the end of the prefix.

    On Online Retail it is as good as a Transformer, in a fifth of the time (docs/decisions.md).

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
        # exp(-log(1 + distance)) = 1 / (1 + distance): recent items have more weight from the first step.
        self.logits_L = nn.Parameter(-torch.log(torch.arange(1.0, max_len + 1)))

    def forward(self, table_VD: Tensor, items_RL: Tensor) -> Tensor:
        """Return states (R, L, D): a small matrix of weights times the item vectors of each session."""
        places_L = torch.arange(items_RL.shape[1], device=items_RL.device)
        distance_LL = places_L[:, None] - places_L
        logits_LL = self.logits_L[distance_LL.clamp(min=0)].masked_fill(distance_LL < 0, -torch.inf)
        return logits_LL.softmax(1) @ F.embedding(items_RL, table_VD)

    def item_weights(self, length: int) -> Tensor:
        return self.logits_L[:length].softmax(0)


class Weighted(SessionEncoder):
    """A mean of item vectors, weighted by a Transformer: the encoder of CORE.

    Session vectors stay in the space of the items, as the vectors themselves are not transformed. The weights
    are a softmax over the prefix of one logit per place. Hou et al., "CORE: Simple and
    Effective Session-based Recommendation within Consistent Representation Space", SIGIR 2022.

    Args:
        transformer: computes the states from which the logits are computed.
        dim: width of its states.
        dropout: dropout probability of the item vectors.

    Example:
        >>> from alterrec.nn.transformer import TransformerSizes
        >>> transformer = Transformer(TransformerSizes(4, max_len=3, layers=1, heads=2, inner=8, dropout=0.0))
        >>> table = torch.randn(5, 4)
        >>> states = Weighted(transformer, dim=4)(table, torch.tensor([[1, 2, 0]]))
        >>> bool(torch.isclose(states[0, 0], table[1]).all())
        True
    """

    def __init__(self, transformer: Transformer, dim: int, dropout: float = 0.0) -> None:
        super().__init__()
        self.transformer = transformer
        self.weigh = nn.Linear(dim, 1)
        self.dropout = Dropout(dropout)

    def forward(self, table_VD: Tensor, items_RL: Tensor) -> Tensor:
        rows_RLD = self.dropout(F.embedding(items_RL, table_VD))
        return self.weights(rows_RLD) @ rows_RLD

    def weights(self, rows_RLD: Tensor) -> Tensor:
        """Return the weight (R, L, L) of each place in the state of each place; 0 for later places."""
        length = rows_RLD.shape[1]
        logits_RL1: Tensor = self.weigh(self.transformer.states(rows_RLD))
        behind_LL = torch.ones(length, length, dtype=torch.bool, device=rows_RLD.device).triu(1)
        return logits_RL1.mT.expand(-1, length, -1).masked_fill(behind_LL, -torch.inf).softmax(2)


class Gru(SessionEncoder):
    """Gated recurrent units without biases, and a linear layer to the width of the items: GRU4Rec.

    It keeps its own initialisation: Xavier-uniform for the matrices of the first layer, torch's default for
    the others. Hidasi et al., "Session-based Recommendations with Recurrent Neural Networks", ICLR
    2016.

    Args:
        dim: width of item vectors and states.
        hidden: width of the recurrent units.
        layers: number of recurrent layers.
        dropout: dropout probability of the item vectors.
    """

    def __init__(self, dim: int, hidden: int, layers: int, dropout: float) -> None:
        super().__init__()
        self.dropout = Dropout(dropout)
        self.units = nn.GRU(dim, hidden, layers, bias=False, batch_first=True)
        self.out = nn.Linear(hidden, dim)
        for matrix in self.units.all_weights[0]:
            nn.init.xavier_uniform_(matrix)
        keep_start(self)

    def forward(self, table_VD: Tensor, items_RL: Tensor) -> Tensor:
        hidden_RLH, _ = self.units(self.dropout(F.embedding(items_RL, table_VD)))
        return self.out(hidden_RLH)

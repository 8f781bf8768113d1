"""Two Transformers side by side over the items of a session.

Legend: R sessions, L places, V items, D width of a stream.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from alterrec.nn.transformer import RECBOLE, Block, Entrance


class TwoStreams(nn.Module):
    """Items through one Transformer, their features through another, both last states joined.

    The table has the rows of items in its first half of columns, those of features in its second. Both
    streams share positions and one norm, which the joined states pass too: ``norm(concat [item, feature])``.
    Zhang et al., "Feature-level Deeper Self-Attention Network for Sequential Recommendation", IJCAI 2019.

    Example:
        >>> encoder = TwoStreams(dim=4, max_len=3, layers=2, heads=2, inner=16, dropout=0.0)
        >>> encoder(torch.randn(5, 8), torch.tensor([[1, 2, 0]])).shape
        torch.Size([1, 3, 4])
    """

    def __init__(self, dim: int, max_len: int, layers: int, heads: int, inner: int, dropout: float) -> None:
        super().__init__()
        self.entrance = Entrance(dim, max_len, dropout, RECBOLE.eps)
        self.item_blocks, self.feature_blocks = (
            nn.ModuleList(Block(dim, heads, inner, dropout, RECBOLE) for _ in range(layers)) for _ in range(2)
        )
        self.concat = nn.Linear(2 * dim, dim)

    def forward(self, table_VD2: Tensor, items_RL: Tensor) -> Tensor:
        """States (R, L, D) of right-padded sessions; each place sees itself and what is before it."""
        streams = F.embedding(items_RL, table_VD2).chunk(2, dim=-1)
        states = []
        for rows_RLD, blocks in zip(streams, (self.item_blocks, self.feature_blocks), strict=True):
            x_RLD = self.entrance(rows_RLD)
            for block in blocks:
                x_RLD = block(x_RLD)
            states.append(x_RLD)
        joined_RLD = self.concat(torch.cat(states, dim=-1))
        out_RLD: Tensor = self.entrance.dropout(self.entrance.norm(joined_RLD))
        return out_RLD

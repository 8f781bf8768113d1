"""SASRec as its own code has it; RecBole's, which most comparisons run, is ``transformer.Transformer``.

Legend: R sessions, L places, V items, D width.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from alterrec.nn.dropout import Dropout
from alterrec.nn.initialise import keep_start
from alterrec.nn.transformer import KANG, Attention


class SasrecBlock(nn.Module):
    """Attention of normed queries to raw keys and values, then two layers; sums start from what is normed."""

    def __init__(self, dim: int, heads: int, inner: int, dropout: float) -> None:
        super().__init__()
        self.attn_norm = nn.LayerNorm(dim, KANG.eps)
        self.attention = Attention(dim, heads, dropout, KANG)
        self.ffn_norm = nn.LayerNorm(dim, KANG.eps)
        self.ffn = nn.Sequential(
            nn.Linear(dim, inner), nn.ReLU(), Dropout(dropout), nn.Linear(inner, dim), Dropout(dropout)
        )

    def forward(self, x_RLD: Tensor) -> Tensor:
        """States after the block (R, L, D)."""
        queries_RLD = self.attn_norm(x_RLD)
        normed_RLD = self.ffn_norm(queries_RLD + self.attention(x_RLD, queries_RLD=queries_RLD))
        out_RLD: Tensor = normed_RLD + self.ffn(normed_RLD)
        return out_RLD


class SasrecTransformer(nn.Module):
    """The causal Transformer of SASRec's own code: item rows times sqrt(D) plus positions, a norm at the end.

    Matrices start within sqrt(6 / (rows + columns)) (Glorot), as there. Kang and McAuley, "Self-Attentive
    Sequential Recommendation", ICDM 2018.

    Example:
        >>> encoder = SasrecTransformer(dim=4, max_len=3, layers=2, heads=1, inner=4, dropout=0.0)
        >>> encoder(torch.randn(5, 4), torch.tensor([[1, 2, 0]])).shape
        torch.Size([1, 3, 4])
    """

    def __init__(self, dim: int, max_len: int, layers: int, heads: int, inner: int, dropout: float) -> None:
        super().__init__()
        self.positions_LD = nn.Parameter(torch.empty(max_len, dim))
        self.dropout = Dropout(dropout)
        self.blocks = nn.ModuleList(SasrecBlock(dim, heads, inner, dropout) for _ in range(layers))
        self.norm = nn.LayerNorm(dim, KANG.eps)
        for value in self.parameters():
            if value.ndim > 1:
                nn.init.xavier_uniform_(value)
        for part in self.modules():
            if isinstance(part, nn.Linear):
                nn.init.zeros_(part.bias)
        keep_start(self)

    def forward(self, table_VD: Tensor, items_RL: Tensor) -> Tensor:
        """States (R, L, D)."""
        rows_RLD = F.embedding(items_RL, table_VD) * table_VD.shape[1] ** 0.5
        x_RLD = self.dropout(rows_RLD + self.positions_LD[: items_RL.shape[1]])
        for block in self.blocks:
            x_RLD = block(x_RLD)
        states_RLD: Tensor = self.norm(x_RLD)
        return states_RLD

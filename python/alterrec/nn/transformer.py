"""A causal post-norm Transformer over the items of a session.

Legend: R sessions, L places, D width, H heads.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class Block(nn.Module):
    """Self-attention and a feed-forward net, each followed by a residual sum and a LayerNorm.

    As in the authors' code: no biases in attention, ReLU inside.
    """

    def __init__(self, dim: int, heads: int, inner: int, dropout: float, eps: float) -> None:
        super().__init__()
        self.heads = heads
        self.q = nn.Linear(dim, dim, bias=False)
        self.k = nn.Linear(dim, dim, bias=False)
        self.v = nn.Linear(dim, dim, bias=False)
        self.o = nn.Linear(dim, dim, bias=False)
        self.attn_norm = nn.LayerNorm(dim, eps=eps)
        self.up = nn.Linear(dim, inner)
        self.down = nn.Linear(inner, dim)
        self.ffn_norm = nn.LayerNorm(dim, eps=eps)
        self.dropout = nn.Dropout(dropout)

    def forward(self, x_RLD: Tensor) -> Tensor:
        """States after the block (R, L, D); place l sees places 0..l."""
        q_RHLd, k_RHLd, v_RHLd = (
            linear(x_RLD).unflatten(-1, (self.heads, -1)).transpose(1, 2)
            for linear in (self.q, self.k, self.v)
        )
        # Right padding lies behind every real place, so the causal mask alone hides it.
        mixed_RHLd = F.scaled_dot_product_attention(
            q_RHLd, k_RHLd, v_RHLd, is_causal=True, dropout_p=self.dropout.p if self.training else 0.0
        )
        attended_RLD = self.o(mixed_RHLd.transpose(1, 2).flatten(-2))
        x_RLD = self.attn_norm(x_RLD + self.dropout(attended_RLD))
        x_RLD = self.ffn_norm(x_RLD + self.dropout(self.down(torch.relu(self.up(x_RLD)))))
        return x_RLD


class Transformer(nn.Module):
    """States of a causal Transformer; the last real one is the session vector (Section 4.1.2).

    Learned positions count from the first item; epsilon 1e-6 in every norm.

    Example:
        >>> encoder = Transformer(dim=4, max_len=3, layers=2, heads=2, dropout=0.0)
        >>> encoder(torch.randn(5, 4), torch.tensor([[1, 2, 0]])).shape
        torch.Size([1, 3, 4])
    """

    def __init__(self, dim: int, max_len: int, layers: int, heads: int, dropout: float) -> None:
        super().__init__()
        eps = 1e-6
        self.positions_LD = nn.Parameter(torch.empty(max_len, dim))
        self.in_norm = nn.LayerNorm(dim, eps=eps)
        self.dropout = nn.Dropout(dropout)
        self.blocks = nn.ModuleList(Block(dim, heads, 4 * dim, dropout, eps) for _ in range(layers))
        nn.init.normal_(self.positions_LD, std=0.02)

    def forward(self, table_VD: Tensor, items_RL: Tensor) -> Tensor:
        """States (R, L, D)."""
        x_RLD: Tensor = F.embedding(items_RL, table_VD) + self.positions_LD[: items_RL.shape[1]]
        x_RLD = self.dropout(self.in_norm(x_RLD))
        for block in self.blocks:
            x_RLD = block(x_RLD)
        return x_RLD

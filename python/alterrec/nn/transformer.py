"""A causal post-norm Transformer over the items of a prefix.

Legend: B sessions, L places, D width, H heads.
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

    def forward(self, x_BLD: Tensor) -> Tensor:
        """States after the block (B, L, D); place l sees places 0..l."""
        q_BHLd, k_BHLd, v_BHLd = (
            linear(x_BLD).unflatten(-1, (self.heads, -1)).transpose(1, 2)
            for linear in (self.q, self.k, self.v)
        )
        # Right padding lies behind every real place, so the causal mask alone hides it.
        mixed_BHLd = F.scaled_dot_product_attention(
            q_BHLd, k_BHLd, v_BHLd, is_causal=True, dropout_p=self.dropout.p if self.training else 0.0
        )
        attended_BLD = self.o(mixed_BHLd.transpose(1, 2).flatten(-2))
        x_BLD = self.attn_norm(x_BLD + self.dropout(attended_BLD))
        x_BLD = self.ffn_norm(x_BLD + self.dropout(self.down(torch.relu(self.up(x_BLD)))))
        return x_BLD


class Transformer(nn.Module):
    """The session vector is the last real place of a causal Transformer (Section 4.1.2).

    Learned positions count from the prefix's first item; epsilon 1e-6 in every norm.

    Example:
        >>> encoder = Transformer(dim=4, max_len=3, layers=2, heads=2, dropout=0.0)
        >>> encoder(torch.randn(5, 4), torch.tensor([[1, 2, 0]]), torch.tensor([2])).shape
        torch.Size([1, 4])
    """

    def __init__(self, dim: int, max_len: int, layers: int, heads: int, dropout: float) -> None:
        super().__init__()
        eps = 1e-6
        self.positions_LD = nn.Parameter(torch.empty(max_len, dim))
        self.in_norm = nn.LayerNorm(dim, eps=eps)
        self.dropout = nn.Dropout(dropout)
        self.blocks = nn.ModuleList(Block(dim, heads, 4 * dim, dropout, eps) for _ in range(layers))
        nn.init.normal_(self.positions_LD, std=0.02)

    def states(self, table_VD: Tensor, items_BL: Tensor) -> Tensor:
        """The state of every place (B, L, D); each is the session vector of the prefix that ends there."""
        x_BLD: Tensor = F.embedding(items_BL, table_VD) + self.positions_LD[: items_BL.shape[1]]
        x_BLD = self.dropout(self.in_norm(x_BLD))
        for block in self.blocks:
            x_BLD = block(x_BLD)
        return x_BLD

    def forward(self, table_VD: Tensor, items_BL: Tensor, lengths_B: Tensor) -> Tensor:
        """Session vectors (B, D) of right-padded prefixes."""
        states_BLD = self.states(table_VD, items_BL)
        return states_BLD[torch.arange(len(states_BLD), device=states_BLD.device), lengths_B - 1]

"""Post-norm Transformers over the items of a session.

Legend: R sessions, L places, K places asked for, D width, H heads.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from alterrec.nn.dropout import Dropout
from alterrec.nn.sequences import at_places


class Style(NamedTuple):
    """What differs between the public codes of post-norm Transformers."""

    bias: bool  # in the attention's four linear layers
    gelu: bool  # by erf, else ReLU
    eps: float  # of every norm
    output: bool = True  # a linear layer and dropout behind the heads


# AlterRec's own code; RecBole's layers, which SASRec, BERT4Rec, CORE, UniSRec, FDSA and S3-Rec share; and the
# code of SASRec's authors.
AUTHORS = Style(bias=False, gelu=False, eps=1e-6)
RECBOLE = Style(bias=True, gelu=True, eps=1e-12)
KANG = Style(bias=True, gelu=False, eps=1e-8, output=False)


class Attention(nn.Module):
    """Multi-head self-attention, by most styles with an output layer; a residual sum follows it."""

    def __init__(self, dim: int, heads: int, dropout: float, style: Style) -> None:
        super().__init__()
        self.heads = heads
        self.q = nn.Linear(dim, dim, bias=style.bias)
        self.k = nn.Linear(dim, dim, bias=style.bias)
        self.v = nn.Linear(dim, dim, bias=style.bias)
        self.o = nn.Linear(dim, dim, bias=style.bias) if style.output else None
        self.dropout = Dropout(dropout)

    def forward(self, x_RLD: Tensor, mask: Tensor | None = None, queries_RLD: Tensor | None = None) -> Tensor:
        """Mixed states (R, L, D), after dropout.

        Args:
            x_RLD: states.
            queries_RLD: what queries are made of, where it is not the states.
            mask: None: place l sees places 0..l, so what is padded on the right is not seen. Otherwise what
                broadcasts to (R, H, L, L): bool, true where a query sees a key, or what is added to logits.
        """
        q_RHLd, k_RHLd, v_RHLd = (
            linear(of_RLD).unflatten(-1, (self.heads, -1)).transpose(1, 2)
            for linear, of_RLD in (
                (self.q, x_RLD if queries_RLD is None else queries_RLD),
                (self.k, x_RLD),
                (self.v, x_RLD),
            )
        )
        mixed_RHLd = F.scaled_dot_product_attention(
            q_RHLd,
            k_RHLd,
            v_RHLd,
            mask,
            is_causal=mask is None,
            dropout_p=self.dropout.share if self.training else 0.0,
        )
        mixed_RLD = mixed_RHLd.transpose(1, 2).flatten(-2)
        return mixed_RLD if self.o is None else self.dropout(self.o(mixed_RLD))


class FeedForward(nn.Module):
    """Two linear layers at each place; a residual sum and a norm follow."""

    def __init__(self, dim: int, inner: int, dropout: float, style: Style) -> None:
        super().__init__()
        self.up = nn.Linear(dim, inner)
        self.down = nn.Linear(inner, dim)
        self.activation = nn.GELU() if style.gelu else nn.ReLU()
        self.dropout = Dropout(dropout)

    def forward(self, x_RLD: Tensor) -> Tensor:
        """States (R, L, D), after dropout."""
        out_RLD: Tensor = self.dropout(self.down(self.activation(self.up(x_RLD))))
        return out_RLD


class Block(nn.Module):
    """Self-attention and a feed-forward net, each followed by a residual sum and a LayerNorm."""

    def __init__(self, dim: int, heads: int, inner: int, dropout: float, style: Style) -> None:
        super().__init__()
        self.attention = Attention(dim, heads, dropout, style)
        self.attn_norm = nn.LayerNorm(dim, eps=style.eps)
        self.ffn = FeedForward(dim, inner, dropout, style)
        self.ffn_norm = nn.LayerNorm(dim, eps=style.eps)

    def forward(self, x_RLD: Tensor, mask: Tensor | None = None, asked_RKD: Tensor | None = None) -> Tensor:
        """States after the block (R, L, D), or (R, K, D) of the places whose states are ``asked_RKD``.

        ``mask`` is as in :class:`Attention`.
        """
        queries_RKD = x_RLD if asked_RKD is None else asked_RKD
        mixed_RKD = self.attn_norm(queries_RKD + self.attention(x_RLD, mask, queries_RKD))
        out_RKD: Tensor = self.ffn_norm(mixed_RKD + self.ffn(mixed_RKD))
        return out_RKD


class Entrance(nn.Module):
    """Item rows plus learned positions, counted from the first place, under LayerNorm and dropout."""

    def __init__(self, dim: int, max_len: int, dropout: float, eps: float) -> None:
        super().__init__()
        self.positions_LD = nn.Parameter(torch.empty(max_len, dim))
        self.norm = nn.LayerNorm(dim, eps=eps)
        self.dropout = Dropout(dropout)
        nn.init.normal_(self.positions_LD, std=0.02)

    def forward(self, rows_RLD: Tensor) -> Tensor:
        """States (R, L, D) that enter the first block."""
        x_RLD: Tensor = self.dropout(self.norm(rows_RLD + self.positions_LD[: rows_RLD.shape[1]]))
        return x_RLD


class Transformer(nn.Module):
    """A post-norm Transformer; the state at the last place is the session vector (Section 4.1.2).

    Example:
        >>> encoder = Transformer(dim=4, max_len=3, layers=2, heads=2, inner=16, dropout=0.0)
        >>> encoder(torch.randn(5, 4), torch.tensor([[1, 2, 0]])).shape
        torch.Size([1, 3, 4])
    """

    def __init__(
        self,
        dim: int,
        max_len: int,
        layers: int,
        heads: int,
        inner: int,
        dropout: float,
        style: Style = AUTHORS,
    ) -> None:
        super().__init__()
        self.entrance = Entrance(dim, max_len, dropout, style.eps)
        self.blocks = nn.ModuleList(Block(dim, heads, inner, dropout, style) for _ in range(layers))

    def forward(self, table_VD: Tensor, items_RL: Tensor) -> Tensor:
        """States (R, L, D); right-padded sessions, each place sees itself and what is before it."""
        return self.states(F.embedding(items_RL, table_VD))

    def last(self, table_VD: Tensor, items_RL: Tensor, length_R: Tensor) -> Tensor:
        """States (R, D) at the last place of each session alone."""
        return self.states(F.embedding(items_RL, table_VD), None, length_R[:, None] - 1)[:, 0]

    def states(self, rows_RLD: Tensor, mask: Tensor | None = None, places_RK: Tensor | None = None) -> Tensor:
        """States (R, L, D) of item rows, or (R, K, D) at some places, which spares the last block the others.

        ``mask`` is as in :class:`Attention`; with places, one that is given is the same for all queries.
        """
        x_RLD: Tensor = self.entrance(rows_RLD)
        *blocks, last = self.blocks
        for block in blocks:
            x_RLD = block(x_RLD, mask)
        asked_RKD = None if places_RK is None else at_places(x_RLD, places_RK)
        if mask is None and places_RK is not None:
            mask = (torch.arange(x_RLD.shape[1], device=x_RLD.device) <= places_RK[..., None])[:, None]
        out_RKD: Tensor = last(x_RLD, mask, asked_RKD)
        return out_RKD


class Head(nn.Module):
    """From states to the vectors that are scored: Linear, GELU, LayerNorm (BERT4Rec, Section 3.5).

    Example:
        >>> Head(dim=4, eps=1e-12)(torch.randn(2, 3, 4)).shape
        torch.Size([2, 3, 4])
    """

    def __init__(self, dim: int, eps: float) -> None:
        super().__init__()
        self.linear = nn.Linear(dim, dim)
        self.norm = nn.LayerNorm(dim, eps=eps)

    def forward(self, states: Tensor) -> Tensor:
        """Vectors of the shape of the states, (..., D)."""
        vectors: Tensor = self.norm(F.gelu(self.linear(states)))
        return vectors


class Headed(nn.Module):
    """A session encoder with an output layer behind it.

    Example:
        >>> from alterrec.nn.session_encoders import Mean
        >>> Headed(Mean(), Head(dim=4, eps=1e-12))(torch.randn(5, 4), torch.tensor([[1, 2]])).shape
        torch.Size([1, 2, 4])
    """

    def __init__(self, encoder: nn.Module, head: Head) -> None:
        super().__init__()
        self.encoder = encoder
        self.head = head
        self.reads_prefixes: bool = getattr(encoder, "reads_prefixes", False)
        self.reads_graphs: bool = getattr(encoder, "reads_graphs", False)

    def forward(self, table_VD: Tensor, *sessions: Any) -> Tensor:
        """What the encoder gives, through the head."""
        vectors: Tensor = self.head(self.encoder(table_VD, *sessions))
        return vectors

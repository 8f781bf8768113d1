"""Transformers over the items of a session, and the session encoders built from them.

Legend: R sessions, N samples, L places, K requested places, M requested masked places, V items, D width,
H heads.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from alterrec.nn.layers import Dropout, SessionEncoder, keep_start
from alterrec.nn.sequences import append, at_places, real_places


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


class TransformerSizes(NamedTuple):
    """Sizes of a Transformer.

    Attributes:
        dim: width D of item rows and states.
        max_len: most places L, i.e. the number of learned positions.
        layers: number of blocks.
        heads: attention heads; they divide ``dim``.
        inner: width of the hidden layer in each feed-forward network.
        dropout: dropout probability.
    """

    dim: int
    max_len: int
    layers: int
    heads: int
    inner: int
    dropout: float


class Attention(nn.Module):
    """Multi-head self-attention, by most styles with an output layer; a residual sum follows it."""

    def __init__(self, sizes: TransformerSizes, style: Style) -> None:
        super().__init__()
        dim, self.heads = sizes.dim, sizes.heads
        self.q = nn.Linear(dim, dim, bias=style.bias)
        self.k = nn.Linear(dim, dim, bias=style.bias)
        self.v = nn.Linear(dim, dim, bias=style.bias)
        self.o = nn.Linear(dim, dim, bias=style.bias) if style.output else None
        self.dropout = Dropout(sizes.dropout)

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

    def __init__(self, sizes: TransformerSizes, style: Style) -> None:
        super().__init__()
        self.up = nn.Linear(sizes.dim, sizes.inner)
        self.down = nn.Linear(sizes.inner, sizes.dim)
        self.activation = nn.GELU() if style.gelu else nn.ReLU()
        self.dropout = Dropout(sizes.dropout)

    def forward(self, x_RLD: Tensor) -> Tensor:
        """States (R, L, D), after dropout."""
        out_RLD: Tensor = self.dropout(self.down(self.activation(self.up(x_RLD))))
        return out_RLD


class Block(nn.Module):
    """Self-attention and a feed-forward net, each followed by a residual sum and a LayerNorm."""

    def __init__(self, sizes: TransformerSizes, style: Style) -> None:
        super().__init__()
        self.attention = Attention(sizes, style)
        self.attn_norm = nn.LayerNorm(sizes.dim, eps=style.eps)
        self.ffn = FeedForward(sizes, style)
        self.ffn_norm = nn.LayerNorm(sizes.dim, eps=style.eps)

    def forward(self, x_RLD: Tensor, mask: Tensor | None = None, asked_RKD: Tensor | None = None) -> Tensor:
        """States after the block (R, L, D), or (R, K, D) of the places whose states are ``asked_RKD``.

        ``mask`` is as in :class:`Attention`.
        """
        queries_RKD = x_RLD if asked_RKD is None else asked_RKD
        mixed_RKD = self.attn_norm(queries_RKD + self.attention(x_RLD, mask, queries_RKD))
        out_RKD: Tensor = self.ffn_norm(mixed_RKD + self.ffn(mixed_RKD))
        return out_RKD


class InputLayer(nn.Module):
    """Item rows plus learned positions, counted from the first place, under LayerNorm and dropout."""

    def __init__(self, sizes: TransformerSizes, eps: float) -> None:
        super().__init__()
        self.positions_LD = nn.Parameter(torch.empty(sizes.max_len, sizes.dim))
        self.norm = nn.LayerNorm(sizes.dim, eps=eps)
        self.dropout = Dropout(sizes.dropout)
        nn.init.normal_(self.positions_LD, std=0.02)

    def forward(self, rows_RLD: Tensor) -> Tensor:
        """States (R, L, D) that enter the first block."""
        x_RLD: Tensor = self.dropout(self.norm(rows_RLD + self.positions_LD[: rows_RLD.shape[1]]))
        return x_RLD


class Transformer(SessionEncoder):
    """A post-norm Transformer; the state at the last place is the session vector (Section 4.1.2).

    Example:
        >>> sizes = TransformerSizes(dim=4, max_len=3, layers=2, heads=2, inner=16, dropout=0.0)
        >>> encoder = Transformer(sizes)
        >>> encoder(torch.randn(5, 4), torch.tensor([[1, 2, 0]])).shape
        torch.Size([1, 3, 4])
    """

    encodes_last = True

    def __init__(self, sizes: TransformerSizes, style: Style = AUTHORS) -> None:
        super().__init__()
        self.entrance = InputLayer(sizes, style.eps)
        self.blocks = nn.ModuleList(Block(sizes, style) for _ in range(sizes.layers))

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


class EncoderWithHead(SessionEncoder):
    """A session encoder with an output layer behind it.

    Example:
        >>> from alterrec.nn.session_encoders import Mean
        >>> EncoderWithHead(Mean(), Head(dim=4, eps=1e-12))(torch.randn(5, 4), torch.tensor([[1, 2]])).shape
        torch.Size([1, 2, 4])
    """

    def __init__(self, encoder: SessionEncoder, head: Head) -> None:
        super().__init__()
        self.encoder = encoder
        self.head = head
        self.reads_prefixes = encoder.reads_prefixes
        self.reads_graphs = encoder.reads_graphs

    def forward(self, table_VD: Tensor, *sessions: Any) -> Tensor:
        """What the encoder gives, through the head."""
        vectors: Tensor = self.head(self.encoder(table_VD, *sessions))
        return vectors


class SasrecBlock(nn.Module):
    """Attention of normed queries to raw keys and values, then two layers; sums start from what is normed."""

    def __init__(self, sizes: TransformerSizes) -> None:
        super().__init__()
        dim, inner, dropout = sizes.dim, sizes.inner, sizes.dropout
        self.attn_norm = nn.LayerNorm(dim, KANG.eps)
        self.attention = Attention(sizes, KANG)
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


class SasrecTransformer(SessionEncoder):
    """The causal Transformer of SASRec's own code: item rows times sqrt(D) plus positions, a norm at the end.

    Matrices start within sqrt(6 / (rows + columns)) (Glorot), as there. Kang and McAuley, "Self-Attentive
    Sequential Recommendation", ICDM 2018.

    Example:
        >>> sizes = TransformerSizes(dim=4, max_len=3, layers=2, heads=1, inner=4, dropout=0.0)
        >>> encoder = SasrecTransformer(sizes)
        >>> encoder(torch.randn(5, 4), torch.tensor([[1, 2, 0]])).shape
        torch.Size([1, 3, 4])
    """

    def __init__(self, sizes: TransformerSizes) -> None:
        super().__init__()
        self.positions_LD = nn.Parameter(torch.empty(sizes.max_len, sizes.dim))
        self.dropout = Dropout(sizes.dropout)
        self.blocks = nn.ModuleList(SasrecBlock(sizes) for _ in range(sizes.layers))
        self.norm = nn.LayerNorm(sizes.dim, KANG.eps)
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


class TwoStreams(SessionEncoder):
    """Items through one Transformer, their features through another, both last states joined.

    The table has the rows of items in its first half of columns, those of features in its second. Both
    streams share positions and one norm, which the joined states pass too: ``norm(concat [item, feature])``.
    Zhang et al., "Feature-level Deeper Self-Attention Network for Sequential Recommendation", IJCAI 2019.

    Example:
        >>> sizes = TransformerSizes(dim=4, max_len=3, layers=2, heads=2, inner=16, dropout=0.0)
        >>> encoder = TwoStreams(sizes)
        >>> encoder(torch.randn(5, 8), torch.tensor([[1, 2, 0]])).shape
        torch.Size([1, 3, 4])
    """

    def __init__(self, sizes: TransformerSizes) -> None:
        super().__init__()
        self.entrance = InputLayer(sizes, RECBOLE.eps)
        self.item_blocks, self.feature_blocks = (
            nn.ModuleList(Block(sizes, RECBOLE) for _ in range(sizes.layers)) for _ in range(2)
        )
        self.concat = nn.Linear(2 * sizes.dim, sizes.dim)

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


class Bidirectional(SessionEncoder):
    """A prefix is read with a mask token behind it; what the encoder says at that place is its vector.

    Every place sees all places that are not padding. The mask token is a parameter and no item, so it cannot
    be recommended. Where prefix and token are longer than ``max_len``, the oldest item is cut.

    Sun et al., "BERT4Rec: Sequential Recommendation with Bidirectional Encoder Representations from
    Transformer", CIKM 2019.

    Args:
        sizes: sizes of the Transformer; ``max_len`` includes the place of the mask token.
        style: variant of the blocks.
        cuts_first: the first item of every prefix is cut, however short it is: RecBole's fault.

    Example:
        >>> sizes = TransformerSizes(dim=4, max_len=3, layers=1, heads=2, inner=8, dropout=0.0)
        >>> encoder = Bidirectional(sizes)
        >>> items, lengths = torch.tensor([[1, 2, 3], [4, 0, 0]]), torch.tensor([3, 1])
        >>> encoder(torch.randn(5, 4), items, lengths).shape
        torch.Size([2, 4])
    """

    reads_prefixes = True

    def __init__(self, sizes: TransformerSizes, style: Style = RECBOLE, *, cuts_first: bool = False) -> None:
        super().__init__()
        self.transformer = Transformer(sizes, style)
        self.max_len = sizes.max_len
        self.cuts_first = cuts_first
        self.mask_D = nn.Parameter(torch.empty(sizes.dim))
        self.head = Head(sizes.dim, style.eps)
        nn.init.normal_(self.mask_D, std=0.02)

    def forward(self, table_VD: Tensor, items_NL: Tensor, length_N: Tensor) -> Tensor:
        """Vectors (N, D) of prefixes."""
        if self.cuts_first:
            items_NL, length_N = items_NL[:, 1:], length_N - 1
        items_NL, length_N = append(items_NL, length_N, torch.zeros_like(length_N), self.max_len)
        last_NL = torch.arange(items_NL.shape[1], device=items_NL.device) == length_N[:, None] - 1
        return self.masked_vectors(table_VD, items_NL, length_N, last_NL, last_NL)

    def masked_vectors(
        self, table_VD: Tensor, items_NL: Tensor, length_N: Tensor, masked_NL: Tensor, asked_NL: Tensor
    ) -> Tensor:
        """What is said at the places of ``asked_NL``, row after row (M, D).

        Args:
            table_VD: floating item table.
            items_NL: int64 ids, at most ``max_len`` places.
            length_N: int64, items of each row.
            masked_NL: bool, places that have the mask token in place of their item.
            asked_NL: bool.
        """
        rows_NLD = torch.where(masked_NL[..., None], self.mask_D, F.embedding(items_NL, table_VD))
        real_NL = real_places(items_NL, length_N)
        asked_N = asked_NL.sum(1)
        # Places that are asked for come first, in their order.
        places_NK = (~asked_NL).int().argsort(dim=1, stable=True)[:, : int(asked_N.max())]
        states_NKD = self.transformer.states(rows_NLD, real_NL[:, None, None, :], places_NK)
        vectors_MD: Tensor = self.head(states_NKD[real_places(places_NK, asked_N)])
        return vectors_MD

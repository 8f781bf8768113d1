"""Transformers over the items of a session, and the session encoders built from them.

Legend: R sessions, N samples, L places, K requested places, M requested masked places, V items, D width,
H heads.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from alterrec.nn.dropout import Dropout
from alterrec.nn.layers import SessionEncoder, append, at_places, keep_start, real_places


class Style(NamedTuple):
    """Differences between published implementations of post-norm Transformers."""

    bias: bool  # in the attention's four linear layers
    gelu: bool  # by erf, else ReLU
    eps: float  # of every norm
    output: bool = True  # a linear layer and dropout after the heads


# The code of AlterRec's authors; RecBole's layers, used by SASRec, BERT4Rec, CORE, UniSRec, FDSA and S3-Rec;
# and the code of SASRec's authors.
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
    """Multi-head self-attention, in most styles with an output layer; without the residual sum."""

    def __init__(self, sizes: TransformerSizes, style: Style) -> None:
        super().__init__()
        dim, self.heads = sizes.dim, sizes.heads
        self.q = nn.Linear(dim, dim, bias=style.bias)
        self.k = nn.Linear(dim, dim, bias=style.bias)
        self.v = nn.Linear(dim, dim, bias=style.bias)
        self.o = nn.Linear(dim, dim, bias=style.bias) if style.output else None
        self.dropout = Dropout(sizes.dropout)

    def forward(
        self,
        x_RLD: Tensor,
        mask: Tensor | None = None,
        queries_RLD: Tensor | None = None,
        places_RL: Tensor | None = None,
    ) -> Tensor:
        """Return the output (R, L, D), after dropout.

        Args:
            x_RLD: states.
            mask: broadcasts to (R, H, L, L): bool, true where a query attends to a key, or a number added to
                the logits. Default: place l attends to places 0..l, so right padding is ignored.
            queries_RLD: states from which queries are computed. Default: ``x_RLD``.
            places_RL: places of the queries. Default: 0, 1, 2, ...
        """
        q_RHLd, k_RHLd, v_RHLd = (
            linear(of_RLD).unflatten(-1, (self.heads, -1)).transpose(1, 2)
            for linear, of_RLD in (
                (self.q, x_RLD if queries_RLD is None else queries_RLD),
                (self.k, x_RLD),
                (self.v, x_RLD),
            )
        )
        if self.training and self.dropout.p:
            weights_RHLL = attention_weights(q_RHLd, k_RHLd, mask)
            mixed_RHLd = self.dropout(weights_RHLL, places_RL) @ v_RHLd
        else:
            mixed_RHLd = F.scaled_dot_product_attention(q_RHLd, k_RHLd, v_RHLd, mask, is_causal=mask is None)
        mixed_RLD = mixed_RHLd.transpose(1, 2).flatten(-2)
        return mixed_RLD if self.o is None else self.dropout(self.o(mixed_RLD), places_RL)


def attention_weights(q_RHLd: Tensor, k_RHLd: Tensor, mask: Tensor | None) -> Tensor:
    """Return the softmax (R, H, L, L) of scaled inner products; ``mask`` as in :class:`Attention`.

    ``F.scaled_dot_product_attention`` does not return them, and its dropout draws from torch's generator.

    Example:
        >>> q, k = torch.zeros(2, 1, 1, 2, 4)
        >>> attention_weights(q, k, None).tolist()
        [[[[1.0, 0.0], [0.5, 0.5]]]]
    """
    logits_RHLL = (q_RHLd * q_RHLd.shape[-1] ** -0.5) @ k_RHLd.mT
    if mask is None:
        mask = torch.ones(logits_RHLL.shape[-2:], dtype=torch.bool, device=logits_RHLL.device).tril()
    if mask.dtype == torch.bool:
        return logits_RHLL.masked_fill(~mask, -torch.inf).softmax(-1)
    return (logits_RHLL + mask).softmax(-1)


class FeedForward(nn.Module):
    """Two linear layers at each place; without the residual sum."""

    def __init__(self, sizes: TransformerSizes, style: Style) -> None:
        super().__init__()
        self.up = nn.Linear(sizes.dim, sizes.inner)
        self.down = nn.Linear(sizes.inner, sizes.dim)
        self.activation = nn.GELU() if style.gelu else nn.ReLU()
        self.dropout = Dropout(sizes.dropout)

    def forward(self, x_RLD: Tensor, places_RL: Tensor | None = None) -> Tensor:
        return self.dropout(self.down(self.activation(self.up(x_RLD))), places_RL)


class Block(nn.Module):
    """Self-attention and a feed-forward network, each followed by a residual sum and LayerNorm."""

    def __init__(self, sizes: TransformerSizes, style: Style) -> None:
        super().__init__()
        self.attention = Attention(sizes, style)
        self.attn_norm = nn.LayerNorm(sizes.dim, eps=style.eps)
        self.ffn = FeedForward(sizes, style)
        self.ffn_norm = nn.LayerNorm(sizes.dim, eps=style.eps)

    def forward(
        self,
        x_RLD: Tensor,
        mask: Tensor | None = None,
        requested_RKD: Tensor | None = None,
        places_RK: Tensor | None = None,
    ) -> Tensor:
        """Return states (R, L, D), or (R, K, D) for requested places only.

        Args:
            x_RLD: states before the block.
            mask: as in :class:`Attention`.
            requested_RKD: states before the block at the requested places.
            places_RK: these places.
        """
        queries_RKD = x_RLD if requested_RKD is None else requested_RKD
        mixed_RKD = self.attn_norm(queries_RKD + self.attention(x_RLD, mask, queries_RKD, places_RK))
        return self.ffn_norm(mixed_RKD + self.ffn(mixed_RKD, places_RK))


class InputLayer(nn.Module):
    """Item vectors plus learned positions, counted from the first place, then LayerNorm and dropout."""

    def __init__(self, sizes: TransformerSizes, eps: float) -> None:
        super().__init__()
        self.positions_LD = nn.Parameter(torch.empty(sizes.max_len, sizes.dim))
        self.norm = nn.LayerNorm(sizes.dim, eps=eps)
        self.dropout = Dropout(sizes.dropout)
        nn.init.normal_(self.positions_LD, std=0.02)

    def forward(self, rows_RLD: Tensor) -> Tensor:
        return self.dropout(self.norm(rows_RLD + self.positions_LD[: rows_RLD.shape[1]]))


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
        """Return states (R, L, D) of right-padded sessions; a place attends to itself and earlier places."""
        return self.states(F.embedding(items_RL, table_VD))

    def last(self, table_VD: Tensor, items_RL: Tensor, length_R: Tensor) -> Tensor:
        """Return only the states (R, D) at the last place of each session."""
        return self.states(F.embedding(items_RL, table_VD), None, length_R[:, None] - 1)[:, 0]

    def states(self, rows_RLD: Tensor, mask: Tensor | None = None, places_RK: Tensor | None = None) -> Tensor:
        """Return states of item vectors.

        Args:
            rows_RLD: item vectors.
            mask: as in :class:`Attention`; together with ``places_RK`` it must be the same for all queries.
            places_RK: requested places. The last block computes no others. Default: all places.

        Returns:
            States (R, L, D), or (R, K, D) at the requested places.
        """
        x_RLD: Tensor = self.entrance(rows_RLD)
        *blocks, last = self.blocks
        for block in blocks:
            x_RLD = block(x_RLD, mask)
        requested_RKD = None if places_RK is None else at_places(x_RLD, places_RK)
        if mask is None and places_RK is not None:
            mask = (torch.arange(x_RLD.shape[1], device=x_RLD.device) <= places_RK[..., None])[:, None]
        return last(x_RLD, mask, requested_RKD, places_RK)


class Head(nn.Module):
    """Output layer between states and scored vectors: Linear, GELU, LayerNorm (BERT4Rec, Section 3.5)."""

    def __init__(self, dim: int, eps: float) -> None:
        super().__init__()
        self.linear = nn.Linear(dim, dim)
        self.norm = nn.LayerNorm(dim, eps=eps)

    def forward(self, states: Tensor) -> Tensor:
        return self.norm(F.gelu(self.linear(states)))


class EncoderWithHead(SessionEncoder):
    """A session encoder followed by an output layer."""

    def __init__(self, encoder: SessionEncoder, head: Head) -> None:
        super().__init__()
        self.encoder = encoder
        self.head = head
        self.reads_prefixes = encoder.reads_prefixes
        self.reads_graphs = encoder.reads_graphs

    def forward(self, table_VD: Tensor, *sessions: Any) -> Tensor:
        return self.head(self.encoder(table_VD, *sessions))


class SasrecBlock(nn.Module):
    """A block of SASRec: only queries are normalised, and residual sums use normalised states."""

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
        queries_RLD = self.attn_norm(x_RLD)
        normed_RLD = self.ffn_norm(queries_RLD + self.attention(x_RLD, queries_RLD=queries_RLD))
        return normed_RLD + self.ffn(normed_RLD)


class SasrecTransformer(SessionEncoder):
    """The causal Transformer of the code of SASRec's authors.

    Item vectors are multiplied by sqrt(D), positions are added, and a norm follows the last block. Matrices
    are initialised by Glorot's rule. RecBole's version, which most comparisons use, is
    ``Transformer(sizes, RECBOLE)``. Kang and McAuley, "Self-Attentive
    Sequential Recommendation", ICDM 2018.
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
        rows_RLD = F.embedding(items_RL, table_VD) * table_VD.shape[1] ** 0.5
        x_RLD = self.dropout(rows_RLD + self.positions_LD[: items_RL.shape[1]])
        for block in self.blocks:
            x_RLD = block(x_RLD)
        return self.norm(x_RLD)


class TwoStreams(SessionEncoder):
    """Two Transformers, one over items and one over their features, whose outputs are concatenated.

    The first half of the columns of the item table are item vectors, the second half feature vectors. Both
    streams share positions and one norm, which is also applied to the result:
    ``norm(concat [item, feature])``.

    Zhang et al., "Feature-level Deeper Self-Attention Network for Sequential Recommendation", IJCAI 2019.
    """

    def __init__(self, sizes: TransformerSizes) -> None:
        super().__init__()
        self.entrance = InputLayer(sizes, RECBOLE.eps)
        self.item_blocks, self.feature_blocks = (
            nn.ModuleList(Block(sizes, RECBOLE) for _ in range(sizes.layers)) for _ in range(2)
        )
        self.concat = nn.Linear(2 * sizes.dim, sizes.dim)

    def forward(self, table_VD2: Tensor, items_RL: Tensor) -> Tensor:
        """Return states (R, L, D) of right-padded sessions; a place attends to itself and earlier places."""
        streams = F.embedding(items_RL, table_VD2).chunk(2, dim=-1)
        states = []
        for rows_RLD, blocks in zip(streams, (self.item_blocks, self.feature_blocks), strict=True):
            x_RLD = self.entrance(rows_RLD)
            for block in blocks:
                x_RLD = block(x_RLD)
            states.append(x_RLD)
        joined_RLD = self.concat(torch.cat(states, dim=-1))
        return self.entrance.dropout(self.entrance.norm(joined_RLD))


class Bidirectional(SessionEncoder):
    """A bidirectional Transformer that predicts masked items: the encoder of BERT4Rec.

    A mask token is appended to the prefix, and the output at its place is the vector of the prefix. Every
    place attends to all places that are not padding. The mask token is a parameter and not an item, so it
    cannot be recommended. If prefix and token are longer than ``max_len``, the oldest item is removed.

    Sun et al., "BERT4Rec: Sequential Recommendation with Bidirectional Encoder Representations from
    Transformer", CIKM 2019.

    Args:
        sizes: ``max_len`` includes the place of the mask token.
        style: variant of the blocks.
        cuts_first: remove the first item of every prefix, however short it is, as RecBole does by mistake.

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
        if self.cuts_first:
            items_NL, length_N = items_NL[:, 1:], length_N - 1
        items_NL, length_N = append(items_NL, length_N, torch.zeros_like(length_N), self.max_len)
        last_NL = torch.arange(items_NL.shape[1], device=items_NL.device) == length_N[:, None] - 1
        return self.masked_vectors(table_VD, items_NL, length_N, last_NL, last_NL)

    def masked_vectors(
        self,
        table_VD: Tensor,
        items_NL: Tensor,
        length_N: Tensor,
        masked_NL: Tensor,
        requested_NL: Tensor,
    ) -> Tensor:
        """Return the output (M, D) at requested places, row after row.

        Args:
            table_VD: floating-point item table.
            items_NL: int64 item ids, at most ``max_len`` places.
            length_N: int64, number of items of each row.
            masked_NL: bool, places where the mask token replaces the item.
            requested_NL: bool, places whose output is returned.
        """
        rows_NLD = torch.where(masked_NL[..., None], self.mask_D, F.embedding(items_NL, table_VD))
        real_NL = real_places(items_NL, length_N)
        requested_N = requested_NL.sum(1)
        # Requested places come first, in their order.
        places_NK = (~requested_NL).int().argsort(dim=1, stable=True)[:, : int(requested_N.max())]
        states_NKD = self.transformer.states(rows_NLD, real_NL[:, None, None, :], places_NK)
        return self.head(states_NKD[real_places(places_NK, requested_N)])

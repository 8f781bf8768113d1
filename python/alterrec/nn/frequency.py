"""The Transformer of BSARec: attention combined with a filter of low and high frequencies over places.

Legend: N prefixes, L places, K requested places, V items, D width, W waves, M most places.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn

from alterrec.nn.dropout import Dropout
from alterrec.nn.layers import SessionEncoder, at_places, left_padded, real_places
from alterrec.nn.transformer import RECBOLE, Attention, FeedForward, InputLayer, TransformerSizes


def low_waves(length: int, bins: int) -> NDArray[np.float64]:
    """Return orthonormal columns that span the ``bins`` lowest frequencies.

    If B is the result, ``B @ B.T @ x`` equals ``irfft`` of ``rfft(x)`` with all higher bins set to 0.

    Returns:
        (length, 2 bins - 1) float64; columns beyond the highest frequency are 0.

    Example:
        >>> low_waves(2, 1).round(3).tolist()
        [[0.707], [0.707]]
    """
    waves = np.zeros((length, 2 * bins - 1))
    for k in range(min(bins, length // 2 + 1)):
        angles = 2 * np.pi * k * np.arange(length) / length
        # Frequencies 0 and 1/2 have no sine.
        both = 0 < 2 * k < length
        waves[:, max(2 * k - 1, 0)] = np.cos(angles) * ((1 + both) / length) ** 0.5
        if both:
            waves[:, 2 * k] = np.sin(angles) * (2 / length) ** 0.5
    return waves


class RequestedPlaces(NamedTuple):
    """Requested places of a block: their numbers, their states before the block, and rows of the waves."""

    places_NK: Tensor
    states_NKD: Tensor
    waves_NKW: Tensor


class FrequencyFilter(nn.Module):
    """Frequency filter with residual sum and norm; a learned factor per column scales high frequencies."""

    keeps_start = True

    def __init__(self, dim: int, dropout: float) -> None:
        super().__init__()
        self.sqrt_beta_D = nn.Parameter(torch.randn(dim))
        self.dropout = Dropout(dropout)
        self.norm = nn.LayerNorm(dim, eps=RECBOLE.eps)

    def forward(self, x_NLD: Tensor, waves_NLW: Tensor, requested: RequestedPlaces | None = None) -> Tensor:
        """Return filtered states (N, L, D), or (N, K, D) at the requested places.

        ``waves_NLW`` are columns of :func:`low_waves`, 0 after the prefix.
        """
        places_NK, requested_NKD, waves_NKW = requested or (None, x_NLD, waves_NLW)
        low_NKD = waves_NKW @ (waves_NLW.mT @ x_NLD)
        mixed_NKD = low_NKD + self.sqrt_beta_D.square() * (requested_NKD - low_NKD)
        return self.norm(requested_NKD + self.dropout(mixed_NKD, places_NK))


class FrequencyBlock(nn.Module):
    """A post-norm block that adds a filter with weight alpha and attention with weight 1 - alpha."""

    def __init__(self, sizes: TransformerSizes, alpha: float) -> None:
        super().__init__()
        self.alpha = alpha
        self.filter = FrequencyFilter(sizes.dim, sizes.dropout)
        self.attention = Attention(sizes, RECBOLE)
        self.attn_norm = nn.LayerNorm(sizes.dim, eps=RECBOLE.eps)
        self.ffn = FeedForward(sizes, RECBOLE)
        self.ffn_norm = nn.LayerNorm(sizes.dim, eps=RECBOLE.eps)

    def forward(
        self, x_NLD: Tensor, waves_NLW: Tensor, mask: Tensor | None, requested: RequestedPlaces | None = None
    ) -> Tensor:
        """Return states (N, L, D), or (N, K, D) at the requested places; ``mask`` as in ``Attention``."""
        places_NK, requested_NKD = requested[:2] if requested else (None, x_NLD)
        filtered_NKD = self.filter(x_NLD, waves_NLW, requested)
        attended_NKD = self.attn_norm(requested_NKD + self.attention(x_NLD, mask, requested_NKD, places_NK))
        mixed_NKD = self.alpha * filtered_NKD + (1 - self.alpha) * attended_NKD
        return self.ffn_norm(mixed_NKD + self.ffn(mixed_NKD, places_NK))


class FrequencyTransformer(SessionEncoder):
    """A causal Transformer with frequency filters over each prefix: the encoder of BSARec.

    A filter makes every place depend on the whole prefix, including later places, so each prefix is read
    separately. Shin et al., "An Attentive Inductive Bias for Sequential Recommendation beyond the
    Self-Attention", AAAI 2024.

    Args:
        sizes: sizes of the Transformer.
        alpha: weight of the filter; attention has the weight 1 - alpha.
        bins: number of low frequencies: 0 to bins - 1 waves over the prefix.
        faithful: behave as the authors' code does: prefixes are padded on the left to ``max_len``, filters
            include the padding, padded places attend to all places, and all layers start with the same beta.

    Example:
        >>> encoder = FrequencyTransformer(TransformerSizes(4, 5, 1, 2, 16, dropout=0.0), alpha=0.7, bins=2)
        >>> encoder(torch.randn(6, 4), torch.tensor([[1, 2, 0]]), torch.tensor([2])).shape
        torch.Size([1, 4])
    """

    reads_prefixes = True
    waves_MLW: Tensor
    padding_D: Tensor

    def __init__(self, sizes: TransformerSizes, *, alpha: float, bins: int, faithful: bool = False) -> None:
        super().__init__()
        dim, max_len = sizes.dim, sizes.max_len
        self.entrance = InputLayer(sizes, RECBOLE.eps)
        blocks = [FrequencyBlock(sizes, alpha) for _ in range(sizes.layers)]
        self.blocks = nn.ModuleList(blocks)
        waves_MLW = np.zeros((max_len + 1, max_len, 2 * bins - 1))
        for length in range(1, max_len + 1):
            waves_MLW[length, :length] = low_waves(length, bins)
        self.register_buffer("waves_MLW", torch.from_numpy(waves_MLW), persistent=False)
        self.faithful = faithful
        if faithful:
            # In the authors' code, its only gradient comes from a column of the softmax that we do not have.
            self.register_buffer("padding_D", 0.02 * torch.randn(dim))
            for block in blocks[1:]:
                block.filter.sqrt_beta_D.data.copy_(blocks[0].filter.sqrt_beta_D.data)

    def forward(self, table_VD: Tensor, items_NL: Tensor, length_N: Tensor) -> Tensor:
        rows_NLD, waves_NLW, mask = self.prefixes(table_VD, items_NL, length_N)
        x_NLD: Tensor = self.entrance(rows_NLD)
        *blocks, last = self.blocks
        for block in blocks:
            x_NLD = block(x_NLD, waves_NLW, mask)
        if mask is None:
            last_N1, mask_N11L = length_N[:, None] - 1, real_places(items_NL, length_N)[:, None, None]
        else:
            last_N1, mask_N11L = torch.full_like(length_N[:, None], x_NLD.shape[1] - 1), mask[:, :, -1:]
        requested = RequestedPlaces(last_N1, at_places(x_NLD, last_N1), at_places(waves_NLW, last_N1))
        return last(x_NLD, waves_NLW, mask_N11L, requested)[:, 0]

    def prefixes(
        self, table_VD: Tensor, items_NL: Tensor, length_N: Tensor
    ) -> tuple[Tensor, Tensor, Tensor | None]:
        """Return item vectors (N, L, D), the waves of their filters (N, L, W) and the attention mask."""
        if not self.faithful:
            waves_NLW = self.waves_MLW[length_N, : items_NL.shape[1]]
            return F.embedding(items_NL, table_VD), waves_NLW.to(table_VD.dtype), None
        max_len = self.waves_MLW.shape[1]
        padded_NL, real_NL = left_padded(items_NL, length_N, max_len)
        rows_NLD = F.embedding(padded_NL, table_VD)
        rows_NLD = torch.where(real_NL[:, :, None], rows_NLD, self.padding_D.to(table_VD.dtype))
        # There, a finite mask excludes all places of a padded place equally, which excludes none.
        causal_LL = torch.ones(max_len, max_len, dtype=torch.bool, device=items_NL.device).tril()
        mask_N1LL = (causal_LL & real_NL[:, None, :] | ~real_NL[:, :, None])[:, None]
        waves_NLW = self.waves_MLW[max_len].to(table_VD.dtype).expand(items_NL.shape[0], -1, -1)
        return rows_NLD, waves_NLW, mask_N1LL

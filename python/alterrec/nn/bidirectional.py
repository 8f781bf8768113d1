"""A Transformer that looks both ways and fills in masked places: BERT4Rec's encoder.

Legend: N samples, L places, K most places asked for in a row, M masked places asked for, V items, D width.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from alterrec.nn.sequences import append, real_places
from alterrec.nn.transformer import RECBOLE, Head, Style, Transformer


class Bidirectional(nn.Module):
    """A prefix is read with a mask token behind it; what the encoder says at that place is its vector.

    Every place sees all places that are not padding. The mask token is a parameter and no item, so it cannot
    be recommended. Where prefix and token are longer than ``max_len``, the oldest item is cut.

    Sun et al., "BERT4Rec: Sequential Recommendation with Bidirectional Encoder Representations from
    Transformer", CIKM 2019.

    Args:
        dim: width D.
        max_len: places, the mask token's included.
        layers, heads, inner, dropout, style: as in :class:`Transformer`.
        cuts_first: the first item of every prefix is cut, however short it is: RecBole's fault.

    Example:
        >>> encoder = Bidirectional(dim=4, max_len=3, layers=1, heads=2, inner=8, dropout=0.0)
        >>> items, lengths = torch.tensor([[1, 2, 3], [4, 0, 0]]), torch.tensor([3, 1])
        >>> encoder(torch.randn(5, 4), items, lengths).shape
        torch.Size([2, 4])
    """

    reads_prefixes = True

    def __init__(
        self,
        dim: int,
        max_len: int,
        layers: int,
        heads: int,
        inner: int,
        dropout: float,
        style: Style = RECBOLE,
        *,
        cuts_first: bool = False,
    ) -> None:
        super().__init__()
        self.transformer = Transformer(dim, max_len, layers, heads, inner, dropout, style)
        self.max_len = max_len
        self.cuts_first = cuts_first
        self.mask_D = nn.Parameter(torch.empty(dim))
        self.head = Head(dim, style.eps)
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

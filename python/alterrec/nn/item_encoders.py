"""Item encoders: from ids and text vectors to the item table (V, D), or to its rows of some items (U, D).

Legend: V items, U items asked for, D width, F width of given text vectors.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from alterrec.nn.dropout import Dropout

# Texts that are projected at a time. What lies between is then small enough for the allocator to use again,
# where whole tables would be fresh pages each time: 0.28 s forward and back against 0.37 for 40,000 texts.
PART = 4096


class IdTable(nn.Module):
    """One learned row an item, by default under LayerNorm: X of Section 4.1.1.

    Example:
        >>> IdTable(num_items=5, dim=4)().shape
        torch.Size([5, 4])
    """

    def __init__(self, num_items: int, dim: int, dropout: float = 0.0, norm: bool = True) -> None:
        super().__init__()
        self.rows_VD = nn.Parameter(torch.empty(num_items, dim))
        self.norm = nn.LayerNorm(dim) if norm else nn.Identity()
        self.dropout = Dropout(dropout)
        self.dim = dim
        nn.init.normal_(self.rows_VD, std=0.02)

    def forward(self, ids_U: Tensor | None = None) -> Tensor:
        """The table (V, D), or its rows (U, D)."""
        rows_VD = self.rows_VD if ids_U is None else F.embedding(ids_U, self.rows_VD)
        table_VD: Tensor = self.dropout(self.norm(rows_VD))
        return table_VD


class TextItems(nn.Module):
    """Rows of items from frozen text vectors, a part of them at a time; a child says how in ``rows``.

    Half-precision vectors stay so, wherever they lie (a mapped file, say), and are widened part by part;
    ``standardise`` then gives their columns mean 0 and deviation 1 on the way.
    """

    vectors_VF: Tensor
    shift_F: Tensor
    scale_F: Tensor

    def __init__(self, vectors_VF: Tensor, dim: int, standardise: bool) -> None:
        super().__init__()
        self.register_buffer("vectors_VF", vectors_VF)
        self.widens = vectors_VF.dtype == torch.float16
        if self.widens:
            shift_F, scale_F = column_scales(vectors_VF) if standardise else (torch.zeros(1), torch.ones(1))
            self.register_buffer("shift_F", shift_F.expand(vectors_VF.shape[1]).clone())
            self.register_buffer("scale_F", scale_F.expand(vectors_VF.shape[1]).clone())
        self.dim = dim

    def forward(self, ids_U: Tensor | None = None) -> Tensor:
        """The table (V, D), or its rows (U, D)."""
        return self.encode(self.vectors_VF if ids_U is None else self.vectors_VF[ids_U])

    def encode(self, vectors_UF: Tensor) -> Tensor:
        """Rows (U, D) of vectors (U, F) that are given as those of the items are."""
        parts = [self.rows(self._widened(part_RF)) for part_RF in in_parts(vectors_UF)]
        return parts[0] if len(parts) == 1 else torch.cat(parts)

    def rows(self, vectors_RF: Tensor) -> Tensor:
        """Rows (R, D) of a part."""
        raise NotImplementedError

    def _widened(self, vectors_RF: Tensor) -> Tensor:
        return (vectors_RF.float() - self.shift_F) * self.scale_F if self.widens else vectors_RF


class TextProjection(TextItems):
    """Frozen text vectors through Linear, ReLU, Dropout and by default LayerNorm: H of Eq. 1.

    Example:
        >>> TextProjection(torch.randn(5, 8), dim=4)().shape
        torch.Size([5, 4])
    """

    def __init__(
        self,
        vectors_VF: Tensor,
        dim: int,
        dropout: float = 0.0,
        standardise: bool = False,
        norm: bool = True,
    ) -> None:
        super().__init__(vectors_VF, dim, standardise)
        self.project = nn.Linear(vectors_VF.shape[1], dim)
        self.dropout = Dropout(dropout)
        self.norm = nn.LayerNorm(dim) if norm else nn.Identity()

    def rows(self, vectors_RF: Tensor) -> Tensor:
        """Rows (R, D) of a part."""
        hidden_RD = self.dropout(self.project(vectors_RF).relu_())
        rows_RD: Tensor = self.norm(hidden_RD)
        return rows_RD


def column_scales(vectors_VF: Tensor) -> tuple[Tensor, Tensor]:
    """What to take off each column and to multiply it with for mean 0 and deviation 1; constants become 0.

    Example:
        >>> column_scales(torch.tensor([[1.0, 5.0], [3.0, 5.0]]))
        (tensor([2., 5.]), tensor([1., 0.]))
    """
    mean_F, variance_F = column_means(vectors_VF), torch.zeros(vectors_VF.shape[1], dtype=torch.float64)
    for part_RF in in_parts(vectors_VF):
        variance_F += (part_RF.double() - mean_F).square().sum(0) / len(vectors_VF)
    deviation_F = variance_F.sqrt()
    # Columns that differ by rounding alone are constant.
    return mean_F.float(), torch.where(deviation_F > 1e-6, 1 / deviation_F, 0.0).float()


def column_means(vectors_VF: Tensor) -> Tensor:
    """The mean of each column (F,), float64.

    Example:
        >>> column_means(torch.tensor([[1.0, 5.0], [3.0, 5.0]]))
        tensor([2., 5.], dtype=torch.float64)
    """
    mean_F = torch.zeros(vectors_VF.shape[1], dtype=torch.float64)
    # Added up in place: small sums kept between the parts would pin the memory of each, 3 GB at a million.
    for part_RF in in_parts(vectors_VF):
        mean_F += part_RF.double().sum(0) / len(vectors_VF)
    return mean_F


def in_parts(vectors_VF: Tensor) -> tuple[Tensor, ...]:
    """Text vectors in parts of few enough items to be widened and projected at a time.

    Example:
        >>> [len(part) for part in in_parts(torch.zeros(5000, 8))]
        [4096, 904]
    """
    return torch.split(vectors_VF, PART)


class SummedItems(nn.Module):
    """The sum of several item tables of one width: NFRec with summation (Appendix A).

    Example:
        >>> SummedItems([IdTable(5, 4), IdTable(5, 4)])().shape
        torch.Size([5, 4])
    """

    def __init__(self, encoders: Sequence[nn.Module]) -> None:
        super().__init__()
        self.encoders = nn.ModuleList(encoders)
        self.dim: int = encoders[0].dim  # type: ignore[assignment]

    def forward(self, ids_U: Tensor | None = None) -> Tensor:
        """The table (V, D), or its rows (U, D)."""
        return torch.stack([encoder(ids_U) for encoder in self.encoders]).sum(0)


class JoinedItems(nn.Module):
    """Item tables side by side, (V, D1 + D2 + ...): NFRec with concatenation (Eq. 7).

    Example:
        >>> JoinedItems([IdTable(5, 4), IdTable(5, 2)])().shape
        torch.Size([5, 6])
    """

    def __init__(self, encoders: Sequence[nn.Module]) -> None:
        super().__init__()
        self.encoders = nn.ModuleList(encoders)
        self.dim: int = sum(encoder.dim for encoder in encoders)  # type: ignore[misc]

    def forward(self, ids_U: Tensor | None = None) -> Tensor:
        """The table (V, D), or its rows (U, D)."""
        return torch.cat([encoder(ids_U) for encoder in self.encoders], dim=1)


class BiasedItems(nn.Module):
    """An item table that is read as it is, and scored with a bias an item as one more column.

    Example:
        >>> items = BiasedItems(IdTable(5, 4), num_items=5)
        >>> items().shape, items.scored().shape
        (torch.Size([5, 4]), torch.Size([5, 5]))
    """

    def __init__(self, encoder: nn.Module, num_items: int) -> None:
        super().__init__()
        self.encoder = encoder
        self.bias = nn.Parameter(torch.zeros(num_items))
        self.dim: int = encoder.dim  # type: ignore[assignment]

    def forward(self, ids_U: Tensor | None = None) -> Tensor:
        """The table (V, D), or its rows (U, D)."""
        table_VD: Tensor = self.encoder(ids_U)
        return table_VD

    def scored(self, ids_U: Tensor | None = None) -> Tensor:
        """The table with its biases (V, D + 1), or its rows (U, D + 1)."""
        bias_V = self.bias if ids_U is None else self.bias[ids_U]
        return torch.cat([self.encoder(ids_U), bias_V[:, None]], dim=1)

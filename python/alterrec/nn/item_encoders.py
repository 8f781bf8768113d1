"""Item encoders: from ids and text vectors to the item table (V, D), or to its rows of some items (U, D).

Legend: V items, U items asked for, D width, F width of given text vectors.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class IdTable(nn.Module):
    """One learned row an item under LayerNorm: X of Section 4.1.1.

    Example:
        >>> IdTable(num_items=5, dim=4)().shape
        torch.Size([5, 4])
    """

    def __init__(self, num_items: int, dim: int, dropout: float = 0.0) -> None:
        super().__init__()
        self.rows_VD = nn.Parameter(torch.empty(num_items, dim))
        self.norm = nn.LayerNorm(dim)
        self.dropout = nn.Dropout(dropout)
        self.dim = dim
        nn.init.normal_(self.rows_VD, std=0.02)

    def forward(self, ids_U: Tensor | None = None) -> Tensor:
        """The table (V, D), or its rows (U, D)."""
        rows_VD = self.rows_VD if ids_U is None else F.embedding(ids_U, self.rows_VD)
        table_VD: Tensor = self.dropout(self.norm(rows_VD))
        return table_VD


class TextProjection(nn.Module):
    """Frozen text vectors through Linear, ReLU, Dropout, LayerNorm: H of Eq. 1.

    Example:
        >>> TextProjection(torch.randn(5, 8), dim=4)().shape
        torch.Size([5, 4])
    """

    vectors_VF: Tensor

    def __init__(self, vectors_VF: Tensor, dim: int, dropout: float = 0.0) -> None:
        super().__init__()
        self.register_buffer("vectors_VF", vectors_VF)
        self.project = nn.Linear(vectors_VF.shape[1], dim)
        self.dropout = nn.Dropout(dropout)
        self.norm = nn.LayerNorm(dim)
        self.dim = dim

    def forward(self, ids_U: Tensor | None = None) -> Tensor:
        """The table (V, D), or its rows (U, D)."""
        vectors_VF = self.vectors_VF if ids_U is None else self.vectors_VF[ids_U]
        hidden_VD = self.dropout(torch.relu(self.project(vectors_VF)))
        table_VD: Tensor = self.norm(hidden_VD)
        return table_VD


class SummedItems(nn.Module):
    """The sum of several item tables of one width: NFRec with summation (Appendix A).

    Example:
        >>> SummedItems([IdTable(5, 4), IdTable(5, 4)])().shape
        torch.Size([5, 4])
    """

    def __init__(self, encoders: list[IdTable | TextProjection]) -> None:
        super().__init__()
        self.encoders = nn.ModuleList(encoders)
        self.dim = encoders[0].dim

    def forward(self, ids_U: Tensor | None = None) -> Tensor:
        """The table (V, D), or its rows (U, D)."""
        return torch.stack([encoder(ids_U) for encoder in self.encoders]).sum(0)


class JoinedItems(nn.Module):
    """Item tables side by side, (V, D1 + D2 + ...): NFRec with concatenation (Eq. 7).

    Example:
        >>> JoinedItems([IdTable(5, 4), IdTable(5, 2)])().shape
        torch.Size([5, 6])
    """

    def __init__(self, encoders: list[IdTable | TextProjection]) -> None:
        super().__init__()
        self.encoders = nn.ModuleList(encoders)
        self.dim = sum(encoder.dim for encoder in encoders)

    def forward(self, ids_U: Tensor | None = None) -> Tensor:
        """The table (V, D), or its rows (U, D)."""
        return torch.cat([encoder(ids_U) for encoder in self.encoders], dim=1)

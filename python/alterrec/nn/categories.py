"""Item vectors from categories.

Legend: V items, U items asked for, C categorical fields, K values an item has at most in a field, D width.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class CategoryFeatures(nn.Module):
    """One learned row a value, averaged in each field; fields weighed by attention over them.

    The weight of a field is the softmax over fields of ``score . ReLU(hidden f)`` with f its mean row. A
    field of which an item has no value counts with zeros.

    Args:
        categories_VCK: int64 value ids of each item and field, then -1.
        dim: width.

    Example:
        >>> features = CategoryFeatures(torch.tensor([[[0, 1], [0, -1]], [[2, -1], [-1, -1]]]), dim=4)
        >>> features().shape, features(torch.tensor([1])).shape
        (torch.Size([2, 4]), torch.Size([1, 4]))
    """

    categories_VCK: Tensor

    def __init__(self, categories_VCK: Tensor, dim: int) -> None:
        super().__init__()
        self.register_buffer("categories_VCK", categories_VCK)
        counts_VC = (categories_VCK >= 0).sum(2)
        # RecBole adds 1e-8 to the number of values, but reads fields of one value an item without a mean.
        self.several = [bool(several) for several in counts_VC.amax(0) > 1]
        self.rows = nn.ParameterList(
            nn.init.normal_(torch.empty(int(largest) + 1, dim), std=0.02)
            for largest in categories_VCK.amax((0, 2))
        )
        self.hidden = nn.Linear(dim, dim)
        self.score = nn.Linear(dim, 1)
        self.dim = dim

    def forward(self, ids_U: Tensor | None = None) -> Tensor:
        """The table (V, D), or its rows (U, D)."""
        fields_UCD = self.fields(ids_U)
        weights_UC1 = self.weights(fields_UCD)
        return (weights_UC1 * fields_UCD).sum(1)

    def fields(self, ids_U: Tensor | None = None) -> Tensor:
        """The mean row of each field (U, C, D)."""
        categories_UCK = self.categories_VCK if ids_U is None else self.categories_VCK[ids_U]
        fields = []
        for rows_AD, values_UK, several in zip(
            self.rows, categories_UCK.unbind(1), self.several, strict=True
        ):
            real_UK = values_UK >= 0
            count_U = real_UK.sum(1)
            # A bag begins where the values of the items before it end; an empty one is zeros.
            sums_UD = F.embedding_bag(values_UK[real_UK], rows_AD, count_U.cumsum(0) - count_U, mode="sum")
            fields.append(sums_UD / (count_U[:, None].to(sums_UD) + 1e-8) if several else sums_UD)
        return torch.stack(fields, dim=1)

    def weights(self, fields_UCD: Tensor) -> Tensor:
        """The weight of each field (U, C, 1)."""
        weights_UC1: Tensor = self.score(self.hidden(fields_UCD).relu()).softmax(1)
        return weights_UC1

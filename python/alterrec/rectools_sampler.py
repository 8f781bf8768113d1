"""Hard negatives for the transformers of RecTools; needs numpy and torch."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from alterrec.ranking import rank_window

__all__ = ["RankWindowNegatives"]

# Rows of scores that are in memory at once.
ROWS = 1024


class RankWindowNegatives(ABC):
    """A negative sampler of RecTools: items at certain ranks of similarity to the target.

    RecTools takes a class as ``negative_sampler_type`` and its numbers as ``negative_sampler_kwargs``. The
    class inherits from this one and from ``TransformerNegativeSamplerBase`` of RecTools, and has a method
    :meth:`table`. Items are compared by inner products of the rows of the table. Negatives are drawn
    uniformly with replacement, by torch's generator, as RecTools draws its own.

    Args:
        n_negatives: number of negatives per target; RecTools passes it.
        start, stop: ranks, counted from 0, among all items except the target; ``stop`` is above ``start``.

    Raises:
        ValueError: the window is empty; later, if the table has another number of rows than RecTools has
            items, or the window is longer than the catalogue.

    Example:
        >>> class Negatives(RankWindowNegatives):
        ...     def table(self):
        ...         return torch.eye(6)[[0, 1, 1, 1, 2, 2]]
        >>> batch = {"x": torch.tensor([[0, 1, 2]]), "y": torch.tensor([[1, 2, 3]])}
        >>> drawn = Negatives(4, start=0, stop=2).get_negatives(batch, lowest_id=1, highest_id=6)
        >>> drawn.shape, sorted(set(drawn[0, 0].tolist()) - {2, 3})
        (torch.Size([1, 3, 4]), [])
    """

    def __init__(self, n_negatives: int, start: int, stop: int) -> None:
        if not 0 <= start < stop:
            raise ValueError(f"start is {start} and stop is {stop}; expected 0 <= start < stop")
        self.n_negatives = n_negatives
        self.start = start
        self.stop = stop

    @abstractmethod
    def table(self) -> Tensor:
        """Return vectors (V, D), row j for item j in the numbers of RecTools.

        These begin with its extra tokens. The method is called for each batch, so it can return the item
        vectors of the model in training.
        """

    def get_negatives(
        self,
        batch_dict: Mapping[str, Tensor],
        lowest_id: int,
        highest_id: int,
        session_len_limit: int | None = None,
        **kwargs: Any,
    ) -> Tensor:
        """Draw negatives for the targets ``y`` of a batch; RecTools calls this.

        Args:
            batch_dict: contains ``y``, item numbers (B, L).
            lowest_id: the first number that is an item; smaller ones are padding and other tokens.
            highest_id: number of items and tokens, V.
            session_len_limit: number of targets per session, counted from the last. Default: all.

        Returns:
            Item numbers (B, L, n_negatives), int64. Positions without a target have arbitrary items.
        """
        table_VD = self.table()
        if len(table_VD) != highest_id:
            raise ValueError(
                f"table has {len(table_VD)} rows; expected {highest_id}, one for each item and extra token"
            )
        targets_BL = batch_dict["y"]
        if session_len_limit is not None:
            targets_BL = targets_BL[:, -session_len_limit:]
        targets_U, place_BL = torch.unique(targets_BL.clamp(min=lowest_id) - lowest_id, return_inverse=True)
        items_VD = table_VD.detach()[lowest_id:]
        windows_UW = torch.cat(
            [
                rank_window(items_VD[targets] @ items_VD.T, self.start, self.stop, exclude=targets)
                for targets in targets_U.split(ROWS)
            ]
        )
        drawn = torch.randint(self.stop - self.start, (*place_BL.shape, self.n_negatives))
        return windows_UW[place_BL[..., None], drawn.to(place_BL.device)] + lowest_id

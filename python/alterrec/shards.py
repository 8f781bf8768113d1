"""Item tables that are divided among the processes of a job: which rows a process holds, and how rows travel.

Each process holds contiguous rows of the catalogue, in the order of the processes, so that the order of ids is the
order of the processes, too.

Legend: V items, U requested items, D width, N samples, W processes.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from alterrec import parallel


@dataclass(frozen=True)
class Shard:
    """The rows of a table that a process holds: ``first`` to ``stop - 1`` of ``total``.

    Example:
        >>> shard = Shard(4, 8, 10)
        >>> shard.places(torch.tensor([3, 4, 7, 8, -1]))
        tensor([-1,  0,  3, -1, -1])
    """

    first: int
    stop: int
    total: int

    @classmethod
    def own(cls, total: int) -> Shard:
        """Return the rows of this process; the numbers of rows of two processes differ by at most one.

        Example:
            >>> Shard.own(10)
            Shard(first=0, stop=10, total=10)
        """
        return cls.of_each(total)[parallel.job().rank]

    @classmethod
    def of_each(cls, total: int) -> list[Shard]:
        """Return the rows of every process, in their order."""
        world = parallel.job().world
        return [cls(total * rank // world, total * (rank + 1) // world, total) for rank in range(world)]

    @property
    def size(self) -> int:
        """Number of rows."""
        return self.stop - self.first

    @property
    def rows(self) -> slice:
        """The rows as a slice of the whole table."""
        return slice(self.first, self.stop)

    def ids(self, device: Any = None) -> Tensor:
        """Return the ids of the rows, (size,) int64."""
        return torch.arange(self.first, self.stop, device=device)

    def holds(self, ids: Tensor) -> Tensor:
        """Return whether each item is here, bool in the shape of ``ids``."""
        return (ids >= self.first) & (ids < self.stop)

    def places(self, ids: Tensor) -> Tensor:
        """Return the row of each item, and -1 for items that are not here and for padding."""
        return torch.where(self.holds(ids), ids - self.first, -1)

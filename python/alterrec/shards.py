"""Item tables that are divided among the processes of a job: which rows a process holds.

These are contiguous rows of the catalogue, in the order of the processes, so the order of ids is also theirs.

Legend: V items, U requested items, D width, N samples, W processes.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise
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

    def held(self, ids_U: Tensor) -> slice:
        """Return the slice of ascending ids that are here.

        Example:
            >>> Shard(4, 8, 10).held(torch.tensor([3, 4, 7, 8]))
            slice(1, 3, None)
        """
        ends = torch.tensor([self.first, self.stop], device=ids_U.device)
        return slice(*torch.searchsorted(ids_U, ends).tolist())

    def counts(self, ids_U: Tensor) -> list[int]:
        """Return how many of some ascending ids each process holds.

        Example:
            >>> Shard(0, 10, 10).counts(torch.tensor([3, 4, 7]))
            [3]
        """
        ends = torch.tensor([each.stop for each in self.of_each(self.total)], device=ids_U.device)
        up_to = [0, *torch.searchsorted(ids_U, ends).tolist()]
        return [last - first for first, last in pairwise(up_to)]

    def among(self, ids_U: Tensor) -> Shard:
        """Return the part of some ascending ids that is here, as rows of a table of these ids.

        Example:
            >>> Shard(4, 8, 10).among(torch.tensor([3, 4, 7, 8]))
            Shard(first=1, stop=3, total=4)
        """
        held = self.held(ids_U)
        return Shard(held.start, held.stop, len(ids_U))

    def places(self, ids: Tensor) -> Tensor:
        """Return the row of each item, and -1 for items that are not here and for padding."""
        return torch.where(self.holds(ids), ids - self.first, -1)


# Rows that are drawn at a time, a multiple of the 16 values in which torch draws from N(0, 1).
DRAWN = 16_384


def fill_rows(rows: Tensor, shard: Shard | None, fill: Callable[[Tensor], Tensor]) -> None:
    """Fill a table in place; of a divided one the own rows, with the values that they have in the whole.

    Args:
        rows: the table, or the rows of ``shard``.
        shard: the rows that this process holds; None: the table is whole.
        fill: fills a tensor in place from torch's global generator, with one draw for each value.

    Example:
        >>> whole, part = torch.empty(5, 8), torch.empty(2, 8)
        >>> for rows, shard in ((whole, None), (part, Shard(3, 5, 5))):
        ...     _ = torch.manual_seed(0)
        ...     fill_rows(rows, shard, lambda rows: rows.normal_())
        >>> torch.equal(whole[3:], part)
        True
    """
    with torch.no_grad():
        if shard is None:
            fill(rows)
            return
        first = 0
        while first < shard.total:
            # The last part has no fewer rows than the others: torch draws less than 16 values in another way.
            stop = first + DRAWN if first + 2 * DRAWN <= shard.total else shard.total
            drawn = fill(rows.new_empty(stop - first, *rows.shape[1:]))
            held = slice(max(first, shard.first), min(stop, shard.stop))
            if held.start < held.stop:
                rows[held.start - shard.first : held.stop - shard.first] = drawn[
                    held.start - first : held.stop - first
                ]
            first = stop

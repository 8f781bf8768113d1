"""Which process of a job this one is: what torchrun has written into the environment; needs no torch."""

from __future__ import annotations

import os
from typing import NamedTuple

# torchrun sets all of these; other launchers may leave some of them in the environment.
_RANK, _WORLD, _ADDRESS = "RANK", "WORLD_SIZE", "MASTER_ADDR"


class Job(NamedTuple):
    """The place of a process in its job.

    Attributes:
        rank: number of the process, from 0.
        world: number of processes.
        local_rank: number of the process on its machine, which is that of its device.
    """

    rank: int = 0
    world: int = 1
    local_rank: int = 0

    @property
    def is_first(self) -> bool:
        """Whether this process writes files and messages; the others are silent."""
        return self.rank == 0


def current_job() -> Job:
    """Return the place of this process; alone if torchrun did not start it.

    Example:
        >>> current_job()
        Job(rank=0, world=1, local_rank=0)
    """
    if not all(name in os.environ for name in (_RANK, _WORLD, _ADDRESS)):
        return Job()
    rank, world, local = (int(os.environ.get(name, 0)) for name in (_RANK, _WORLD, "LOCAL_RANK"))
    return Job(rank, world, local)

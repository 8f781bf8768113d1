"""A DataLoader's forked workers call the kernels that their parent has called before; prints `equal`."""

from __future__ import annotations

import numpy as np
import torch
from torch.utils.data import DataLoader, Dataset

from alterrec.ranking import rank_window, set_threads

SCORES = np.random.default_rng(0).normal(size=(6, 64, 500)).astype(np.float32)


class Windows(Dataset[torch.Tensor]):
    """Windows of one matrix each, on two threads and on all cores."""

    def __len__(self) -> int:
        return len(SCORES)

    def __getitem__(self, index: int) -> torch.Tensor:
        both = [rank_window(SCORES[index], 5, 100, threads=threads) for threads in (2, None)]
        return torch.from_numpy(np.stack(both))


expected = torch.stack([Windows()[index] for index in range(len(SCORES))])
set_threads(3)
loader = DataLoader(Windows(), batch_size=1, num_workers=2, multiprocessing_context="fork", timeout=60)
assert torch.equal(torch.cat(list(loader)), expected)
print("equal")

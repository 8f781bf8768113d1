"""Batches of prefixes as tensors: what networks and training objectives read.

Legend: R sessions, L places, N samples.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from alterrec.nn.graph_encoders import PrefixGraphs
from alterrec.nn.layers import append, on_device, real_places
from alterrec.nn.losses import ScoreBuffer
from alterrec.ranking import uniform_items
from alterrec.sessions import Batch, derive_seed


class SessionBatch(NamedTuple):
    """A batch of prefixes as int64 tensors: sample n is ``items_RL[row_N[n], :length_N[n]]``.

    Attributes:
        items_RL: right-padded rows of item ids, which samples can share.
        row_N: row of each sample.
        length_N: number of items of each sample.
        user_N: user of each sample, -1 if unknown; None if the data has no users.
        arrays: the numpy arrays from which the tensors were made; None if they no longer match the tensors.
        number_R: a number of each row, from which dropout draws: where its first item lies in the store if
            samples share rows, else the sample. It does not depend on the other samples of the batch. None:
            rows are counted from 0.
    """

    items_RL: Tensor
    row_N: Tensor
    length_N: Tensor
    user_N: Tensor | None = None
    arrays: Batch | None = None
    number_R: Tensor | None = None

    @classmethod
    def of(cls, batch: Batch, device: str) -> SessionBatch:
        """Copy a batch, of any layout except packed, to a device; the copy is asynchronous.

        Example:
            >>> from alterrec.sessions import PrefixBatches, SessionStore
            >>> store = SessionStore.from_arrays([0, 0, 0], [4, 2, 3])
            >>> (batch,) = PrefixBatches(store, 8, 50, shuffle=False, layout="by_session")
            >>> SessionBatch.of(batch, "cpu").items_RL
            tensor([[4, 2]])
        """
        row_of, number_R = np.arange(len(batch.lengths)), batch.samples
        if batch.row_of is not None:
            row_of, number_R = batch.row_of, np.zeros(len(batch.items), np.int64)
            number_R[row_of] = batch.samples - batch.lengths
        arrays = (batch.items, row_of, batch.lengths, number_R)
        items_RL, row_N, length_N, numbers = (on_device(each, device) for each in arrays)
        user_N = None if batch.users is None else on_device(batch.users, device)
        return cls(items_RL, row_N, length_N, user_N, batch, numbers)

    @classmethod
    def of_prefixes(cls, items_NL: Tensor, length_N: Tensor) -> SessionBatch:
        """Make a batch in which every sample has a separate row.

        Example:
            >>> SessionBatch.of_prefixes(torch.tensor([[1, 2]]), torch.tensor([2])).row_N
            tensor([0])
        """
        return cls(items_NL, torch.arange(len(items_NL), device=items_NL.device), length_N)

    def only(self, samples: slice) -> SessionBatch:
        """Return some of the samples."""
        user_N = None if self.user_N is None else self.user_N[samples]
        return SessionBatch(self.items_RL, self.row_N[samples], self.length_N[samples], user_N)

    def prefixes(self, pad: int = -1) -> Tensor:
        """Return the items of each prefix (N, L), padded with ``pad``."""
        items_NL = self.items_RL[self.row_N]
        return items_NL.masked_fill(~real_places(items_NL, self.length_N), pad)

    def graphs(self, num_items: int) -> PrefixGraphs:
        """Return the graph of each prefix; if ``arrays`` are given, without waiting for the device."""
        if self.arrays is None:
            return PrefixGraphs.fetched(self.prefixes(pad=0), self.length_N, num_items)
        items, row_of = self.arrays.items, self.arrays.row_of
        items = items if row_of is None else items[row_of]
        return PrefixGraphs.of(items, self.arrays.lengths, num_items, str(self.length_N.device))


class ObjectiveBatch(NamedTuple):
    """Input of an auxiliary training objective: prefixes, their targets, and random draws.

    Attributes:
        batch: N prefixes.
        targets_N: the item after each prefix.
        samples_N: sample ids, the same in every epoch.
        seed: seed of the draws.
        number: number of the batch in its epoch.
        exclude_seen: whether items of the prefix are left out of the candidates.
        buffer: memory for score matrices.
        whole: the whole batch, of which several processes have a part each. None: this is all of it.

    Example:
        >>> batch = SessionBatch.of_prefixes(torch.tensor([[4, 2], [7, 0]]), torch.tensor([2, 1]))
        >>> inputs = ObjectiveBatch(batch, torch.tensor([3, 5]), np.array([0, 1]), 0, 0, False, ScoreBuffer())
        >>> inputs.sequences(max_len=50)
        (tensor([[4, 2, 3],
                [7, 5, 0]]), tensor([3, 2]))
        >>> inputs.draws(5).shape
        torch.Size([2, 5])
    """

    batch: SessionBatch
    targets_N: Tensor
    samples_N: np.ndarray
    seed: int
    number: int
    exclude_seen: bool
    buffer: ScoreBuffer
    whole: Batch | None = None

    def sequences(self, max_len: int) -> tuple[Tensor, Tensor]:
        """Append the target to each prefix and return the last ``max_len`` items (N, L) and lengths (N,)."""
        return append(self.batch.prefixes(pad=0), self.batch.length_N, self.targets_N, max_len)

    def draws(self, count: int, purpose: int = 0) -> Tensor:
        """Return uniform float32 draws (N, count) in [0, 1), a function of (seed, purpose, sample id)."""
        steps = 2**24
        numbers = uniform_items(self.samples_N, count, steps, seed=derive_seed(self.seed, purpose))
        return on_device(numbers.astype(np.float32) / np.float32(steps), str(self.targets_N.device))

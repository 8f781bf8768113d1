"""Batches of session prefixes for `torch.utils.data.DataLoader`; needs numpy and torch."""

from __future__ import annotations

from typing import Any, NoReturn, cast

import torch
from torch import Tensor
from torch.utils.data import Dataset as TorchDataset

from alterrec.sessions import PrefixBatches, SessionStore

__all__ = ["PrefixDataset"]


class PrefixDataset(TorchDataset[dict[str, Tensor]]):
    """The batches of :class:`alterrec.sessions.PrefixBatches` as a map-style dataset: entry i is batch i.

    Use it as ``DataLoader(data, batch_size=None)``, with any number of workers, started by fork or by spawn.
    The loader yields the same batches in the same order with every number of workers, because a batch is a
    function of (seed, epoch, i) alone. Leave ``shuffle`` of the loader off; the samples are shuffled here.

    An entry is a dict of int64 tensors, named as the fields of :class:`alterrec.sessions.Batch`: ``items``,
    ``lengths``, ``targets``, ``samples``, ``sessions``, and those of the layout and of the users if there
    are any.

    Args:
        store, batch_size, max_len: as for :class:`alterrec.sessions.PrefixBatches`.
        options: its other arguments by name, except ``epoch`` and ``reuse``. In distributed training, each
            process passes its ``shard=(rank, world)``.

    Raises:
        ValueError: an argument is outside its range.

    Example:
        >>> store = SessionStore.from_arrays([0, 0, 0, 1, 1], [4, 2, 3, 0, 1])
        >>> data = PrefixDataset(store, batch_size=2, max_len=50, shuffle=False)
        >>> loader = torch.utils.data.DataLoader(data, batch_size=None)
        >>> for epoch in range(2):
        ...     data.set_epoch(epoch)
        ...     targets = [batch["targets"].tolist() for batch in loader]
        >>> targets
        [[2, 3], [1]]
    """

    def __init__(self, store: SessionStore, batch_size: int, max_len: int, **options: Any) -> None:
        for name in ("epoch", "reuse"):
            if name in options:
                raise ValueError(f"{name} is no option of PrefixDataset; {_INSTEAD[name]}")
        self._arguments = store, batch_size, max_len
        self._options = options
        self._batches = PrefixBatches(store, batch_size, max_len, **options)
        self._planned = 0
        # In shared memory, because persistent workers keep their own copy of the dataset.
        self._epoch = torch.zeros((), dtype=torch.int64)
        cast(Any, self._epoch).share_memory_()

    def set_epoch(self, epoch: int) -> None:
        """Shuffle, and draw targets, for an epoch. Call it before each iteration over the loader.

        Persistent workers of the loader follow.

        Args:
            epoch: 0 to 2**63 - 1; initially 0.
        """
        if not 0 <= epoch < 2**63:
            raise ValueError(f"epoch is {epoch}; expected 0 to 2**63 - 1")
        self._epoch.fill_(epoch)

    def _current(self) -> PrefixBatches:
        epoch = int(self._epoch)
        if epoch != self._planned:
            self._batches = PrefixBatches(*self._arguments, epoch=epoch, **self._options)
            self._planned = epoch
        return self._batches

    def __len__(self) -> int:
        """Number of batches."""
        return len(self._current())

    def __getitem__(self, index: int) -> dict[str, Tensor]:
        fields = self._current()[index]._asdict()
        return {name: torch.from_numpy(each) for name, each in fields.items() if each is not None}

    def __getitems__(self, indices: list[int]) -> NoReturn:
        # DataLoader calls this if it is to put several entries into a batch.
        raise ValueError(
            "an entry of PrefixDataset is a whole batch; pass batch_size=None to DataLoader, and the number "
            "of samples per batch to PrefixDataset"
        )


_INSTEAD = {"epoch": "call set_epoch", "reuse": "each batch has its own tensors"}

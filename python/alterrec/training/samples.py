"""Some of the samples of a batch.

Legend: N samples, L places.
"""

from __future__ import annotations

import numpy as np

from alterrec.sessions import Batch


def without_repeated_targets(batch: Batch) -> Batch:
    """Return the samples of a batch whose target is not an item of its prefix.

    Example:
        >>> from alterrec.sessions import PrefixBatches, SessionStore
        >>> store = SessionStore.from_arrays([0, 0, 0], [4, 4, 3])
        >>> (batch,) = PrefixBatches(store, 8, 50, shuffle=False, layout="by_session")
        >>> without_repeated_targets(batch).targets
        array([3])
    """
    row_of = np.arange(len(batch.lengths)) if batch.row_of is None else batch.row_of
    in_prefix_NL = np.arange(batch.items.shape[1]) < batch.lengths[:, None]
    new_N = ~((batch.items[row_of] == batch.targets[:, None]) & in_prefix_NL).any(1)
    return chosen_samples(batch, new_N)


def chosen_samples(batch: Batch, chosen_N: np.ndarray) -> Batch:
    """Return the samples of a batch that are chosen (N,), bool.

    Example:
        >>> from alterrec.sessions import PrefixBatches, SessionStore
        >>> store = SessionStore.from_arrays([0, 0, 0], [4, 2, 3])
        >>> (batch,) = PrefixBatches(store, 8, 50, shuffle=False, layout="by_session")
        >>> chosen_samples(batch, np.array([False, True])).targets
        array([3])
    """
    if chosen_N.all():
        return batch
    return batch._replace(
        items=batch.items[chosen_N] if batch.row_of is None else batch.items,
        lengths=batch.lengths[chosen_N],
        targets=batch.targets[chosen_N],
        samples=batch.samples[chosen_N],
        sessions=batch.sessions[chosen_N],
        users=None if batch.users is None else batch.users[chosen_N],
        row_of=None if batch.row_of is None else batch.row_of[chosen_N],
    )


def samples_between(batch: Batch, mine: slice) -> Batch:
    """Return the samples of a slice of a batch, without the rows that they do not read.

    Example:
        >>> from alterrec.sessions import PrefixBatches, SessionStore
        >>> store = SessionStore.from_arrays([0, 0, 0, 1, 1], [4, 2, 3, 7, 8])
        >>> (batch,) = PrefixBatches(store, 8, 50, shuffle=False, layout="by_session")
        >>> last = samples_between(batch, slice(2, 3))
        >>> last.items.tolist(), last.row_of.tolist()
        ([[7, 0]], [0])
    """
    read = None if batch.row_of is None else np.unique(batch.row_of[mine])
    if mine == slice(0, len(batch.targets)) and (read is None or len(read) == len(batch.items)):
        return batch
    chosen = batch._replace(
        lengths=batch.lengths[mine],
        targets=batch.targets[mine],
        samples=batch.samples[mine],
        sessions=batch.sessions[mine],
        users=None if batch.users is None else batch.users[mine],
    )
    if batch.row_of is None or read is None:
        return chosen._replace(items=batch.items[mine])
    return chosen._replace(items=batch.items[read], row_of=np.searchsorted(read, batch.row_of[mine]))

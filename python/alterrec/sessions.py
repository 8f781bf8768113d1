"""Sessions and batches of their prefixes; needs only numpy.

>>> import numpy as np
>>> from alterrec.sessions import PrefixBatches, SessionStore
>>> store = SessionStore.from_arrays(np.array([0, 0, 0, 1, 1]), np.array([4, 2, 3, 0, 1]))
>>> for batch in PrefixBatches(store, batch_size=2, max_len=50, shuffle=False):
...     print(batch.items.tolist(), batch.lengths.tolist(), batch.targets.tolist())
[[4, 0], [4, 2]] [1, 2] [2, 3]
[[0]] [1] [1]
"""

from __future__ import annotations

import operator
from collections.abc import Iterator
from functools import cached_property, partial
from typing import Any, Literal, NamedTuple, TypeAlias

import numpy as np
from numpy.typing import ArrayLike, NDArray

from alterrec import _core
from alterrec._core import EpochPlan, SessionStore
from alterrec._ranking_arguments import as_integers, check_length, default_threads, natural

__all__ = ["Batch", "PrefixBatches", "SessionStore", "derive_seed", "random_words"]

Int64: TypeAlias = NDArray[np.int64]

_WORDS = 2**64


class Batch(NamedTuple):
    """A batch of B samples: prefixes of sessions and the item that follows each. All arrays are int64.

    Attributes:
        items: item ids. Padded: (B, L), right-padded to the longest prefix of the batch. Packed: (T,), one
            prefix after the other. By session: (R, L), where prefixes of a session share a row.
        lengths: (B,) number of items of each prefix, 1 to ``max_len``.
        targets: (B,) the item to predict.
        samples: (B,) sample ids: the offset of the target in ``store.items``, the same in every epoch, order
            and shard.
        sessions: (B,) index of the session in the store.
        users: (B,) user of each sample, or None if the store has no users.
        positions: packed only: (T,) position of each item in its prefix, from 0. Otherwise None.
        offsets: packed only: (B + 1,); prefix i is ``items[offsets[i]:offsets[i + 1]]``. Otherwise None.
        row_of: by session only: (B,); prefix i is ``items[row_of[i], :lengths[i]]``. Otherwise None.

    Example:
        >>> store = SessionStore.from_arrays([0, 0, 0], [4, 2, 3])
        >>> batch = next(iter(PrefixBatches(store, 8, 50, shuffle=False, layout="packed")))
        >>> batch.items, batch.positions, batch.offsets
        (array([4, 4, 2]), array([0, 0, 1]), array([0, 1, 3]))
        >>> batch = next(iter(PrefixBatches(store, 8, 50, shuffle=False, layout="by_session")))
        >>> batch.items, batch.row_of, batch.lengths
        (array([[4, 2]]), array([0, 0]), array([1, 2]))
    """

    items: Int64
    lengths: Int64
    targets: Int64
    samples: Int64
    sessions: Int64
    users: Int64 | None
    positions: Int64 | None
    offsets: Int64 | None
    row_of: Int64 | None

    def __repr__(self) -> str:
        users = "" if self.users is None else ", users"
        layout = "padded" if self.row_of is None else "by_session"
        layout = layout if self.offsets is None else "packed"
        return f"Batch({len(self.targets)} samples, {layout}: items {self.items.shape}{users})"


class PrefixBatches:
    """The batches of one epoch (and shard). Iterating again yields the same batches.

    ``batches[i]`` is batch i, and batches can be pickled together with their store.

    The order of the samples and the drawn targets are functions of (seed, epoch), and with ``bucket`` also of
    ``batch_size * world``; they do not depend on threads or on the rank.

    Args:
        store: the sessions.
        batch_size: number of samples per batch, 1 or more; only the last batch has fewer.
        max_len: number of items of a prefix that are kept, counted from its end, 1 or more.
        shuffle: whether samples are in random order. If not, they are in the order of the store, or of
            ``samples``.
        seed, epoch: integers, 0 to 2**64 - 1.
        shard: (rank, world) for distributed training. In each step, the batches of all ranks together are
            the batch of a single process with ``batch_size * world``. Every rank has the same number of
            batches, and every sample is in one rank. If the samples do not divide evenly, the last batches
            are shorter; a batch is empty only if a rank has fewer samples than batches.
        targets: "every" item except the first of each session, or only the "last" item.
        per_session: at most this many random targets per session, drawn again in each epoch. Default: all.
        samples: (P, 2) integers, rows (session index, end): exactly these samples.
        layout: "padded", "packed" or "by_session", see :class:`Batch`. By session, whole sessions are
            shuffled and the samples of a session stay together, so that a causal encoder reads a session
            once for all of its prefixes; a prefix that was cut to ``max_len`` has a separate row.
        bucket: with ``shuffle``, group prefixes of similar length to reduce padding: shuffled samples are
            sorted by length within windows of 64 batches, then the batches are shuffled.
        pad: value of padding after each prefix. 0 is also an item id, so mask by ``lengths``.
        reuse: whether the arrays of a batch are views of buffers that the next batch overwrites.

    Raises:
        ValueError: an argument is outside its range, or ``samples``, ``per_session`` and ``targets="last"``
            are combined.

    Example:
        >>> store = SessionStore.from_arrays([0, 0, 0, 1, 1], [4, 2, 3, 0, 1])
        >>> batches = PrefixBatches(store, 2, 50, seed=1, shard=(0, 2))
        >>> len(batches), batches.num_samples
        (1, 2)
    """

    def __init__(
        self,
        store: SessionStore,
        batch_size: int,
        max_len: int,
        shuffle: bool = True,
        seed: int = 0,
        epoch: int = 0,
        shard: tuple[int, int] = (0, 1),
        *,
        targets: Literal["every", "last"] = "every",
        per_session: int | None = None,
        samples: ArrayLike | None = None,
        layout: Literal["padded", "packed", "by_session"] = "padded",
        bucket: bool = True,
        pad: int = 0,
        reuse: bool = False,
    ) -> None:
        if layout not in ("padded", "packed", "by_session"):
            raise ValueError(f'layout is {layout!r}; expected "padded", "packed" or "by_session"')
        if targets not in ("every", "last"):
            raise ValueError(f'targets is {targets!r}; expected "every" or "last"')
        narrowed = [targets == "last", per_session is not None, samples is not None]
        if sum(narrowed) > 1:
            raise ValueError(
                f"targets={targets!r}, per_session={per_session} and samples each choose the samples; "
                'use only one of targets="last", per_session and samples'
            )
        if len(shard) != 2:
            raise ValueError(f"shard is {shard!r}; expected (rank, world)")
        rank, world = (_word("shard", part) for part in shard)
        if not -(2**63) <= _integer("pad", pad) < 2**63:
            raise ValueError(f"pad is {pad}; expected an int64 number")
        self._arguments: tuple[Any, ...] = (store, batch_size, max_len, shuffle, seed, epoch, shard)
        self._options: dict[str, Any] = {
            "targets": targets,
            "per_session": per_session,
            "samples": samples,
            "layout": layout,
            "bucket": bucket,
            "pad": pad,
            "reuse": reuse,
        }
        self.num_items = store.num_items
        self._columns = 5 if store.has_users else 4
        self._layout = layout
        self._pad = pad
        self._reuse = reuse
        self._plan = EpochPlan(
            store,
            batch_size,
            max_len,
            shuffle=shuffle,
            bucket=bucket,
            by_session=layout == "by_session",
            seed=_word("seed", seed),
            epoch=_word("epoch", epoch),
            shard=(rank, world),
            targets=targets,
            per_session=per_session,
            samples=samples,
        )

    def __repr__(self) -> str:
        return f"PrefixBatches({len(self)} batches, {self.num_samples} samples, layout={self._layout!r})"

    def __len__(self) -> int:
        """Number of batches, the same at every rank."""
        return self._plan.num_batches

    @property
    def num_samples(self) -> int:
        """Number of samples at this rank."""
        return self._plan.num_samples

    @cached_property
    def _sizes(self) -> list[tuple[int, int, int]]:
        return self._plan.session_sizes() if self._layout == "by_session" else self._plan.sizes()

    def __iter__(self) -> Iterator[Batch]:
        buffers: dict[str, Int64] = {}
        for index, size in enumerate(self._sizes):
            yield self._batch(index, size, buffers if self._reuse else None)

    def __getitem__(self, index: int) -> Batch:
        """Return batch ``index`` in arrays of its own; IndexError if there is none."""
        place = range(len(self))[index]
        return self._batch(place, self._sizes[place], None)

    def __reduce__(self) -> tuple[Any, ...]:
        return partial(PrefixBatches, *self._arguments, **self._options), ()

    def _batch(self, index: int, size: tuple[int, int, int], buffers: dict[str, Int64] | None) -> Batch:
        samples = size[0]
        flat = _take(buffers, "rows", self._columns * samples)
        positions, offsets, row_of = None, None, None
        if self._layout == "padded":
            _, width, _ = size
            items = _take(buffers, "items", samples * width)
            self._plan.fill_padded(index, self._pad, flat, items)
            items = items.reshape(samples, width)
        elif self._layout == "packed":
            _, _, total = size
            items, positions = _take(buffers, "items", total), _take(buffers, "positions", total)
            offsets = _take(buffers, "offsets", samples + 1)
            self._plan.fill_packed(index, flat, items, positions, offsets)
        else:
            _, rows, width = size
            items, row_of = _take(buffers, "items", rows * width), _take(buffers, "row_of", samples)
            self._plan.fill_sessions(index, self._pad, flat, row_of, items)
            items = items.reshape(rows, width)
        lengths, targets, numbers, sessions, *users = flat.reshape(self._columns, samples)
        user = users[0] if users else None
        return Batch(items, lengths, targets, numbers, sessions, user, positions, offsets, row_of)


def derive_seed(seed: int, *words: int) -> int:
    """Derive a seed from a seed and words that identify its purpose, such as (epoch, rank).

    Each word is one block of Philox 2x64-10 (Salmon et al., "Parallel random numbers: as easy as
    1, 2, 3", SC 2011). Seed, words and result are integers from 0 to 2**64 - 1; other values raise
    ValueError.

    Example:
        >>> derive_seed(1, 2, 3) == derive_seed(1, 2, 3), derive_seed(1, 2, 3) == derive_seed(1, 3, 2)
        (True, False)
        >>> derive_seed(7)
        7
    """
    return _core.derive_seed(_word("seed", seed), [_word("words", word) for word in words])


# Words of one place; more would rather exceed the memory.
MOST_WORDS = 2**20


def random_words(numbers: Int64, places: Int64, count: int, *, seed: int) -> NDArray[np.uint64]:
    """Return words of 64 random bits, each a function of (seed, number, place, index).

    The words of a place begin with those of a smaller ``count``, whatever the other places are.

    Args:
        numbers: (N,) int64, such as the numbers of samples or items.
        places: (N,) int64, such as the places of a session.
        count: words of each place, 0 to 2**20.
        seed: 0 to 2**64 - 1.

    Returns:
        (N, count) uint64.

    Raises:
        ValueError: there is not one place for each number, or the seed or the count is out of range.

    Example:
        >>> words = random_words(np.array([7, 7]), np.array([0, 1]), 3, seed=1)
        >>> bool((words[1:, :2] == random_words(np.array([7]), np.array([1]), 2, seed=1)).all())
        True

    Source:
        SplitMix64: Steele et al., "Fast splittable pseudorandom number generators", OOPSLA 2014.
    """
    own_numbers, own_places = (
        np.ascontiguousarray(as_integers(name, values), np.int64)
        for name, values in (("numbers", numbers), ("places", places))
    )
    check_length("numbers", own_numbers, own_numbers.size, "one dimension")
    check_length("places", own_places, len(own_numbers), "one for each number")
    if natural("count", count) > MOST_WORDS:
        raise ValueError(f"count is {count}; expected 0 to {MOST_WORDS}")
    words = np.empty((len(own_numbers), operator.index(count)), np.uint64)
    _core.random_words(_word("seed", seed), own_numbers, own_places, default_threads(), words)
    return words


def _word(name: str, value: int) -> int:
    word = _integer(name, value)
    if not 0 <= word < _WORDS:
        raise ValueError(f"{name} is {word}; expected 0 to 2**64 - 1")
    return word


def _integer(name: str, value: int) -> int:
    try:
        return operator.index(value)
    except TypeError:
        raise ValueError(f"{name} is {value!r}; expected an integer") from None


def _take(buffers: dict[str, Int64] | None, name: str, size: int) -> Int64:
    if buffers is None:
        return np.empty(size, np.int64)
    buffer = buffers.get(name)
    if buffer is None or len(buffer) < size:
        buffer = buffers[name] = np.empty(size, np.int64)
    return buffer[:size]

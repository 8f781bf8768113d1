"""Small data sets that several tests share, and a system with planted scores."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from alterrec.data.dataset import Dataset, ItemText
from alterrec.models.base import Network, RepeatScale, Tables
from alterrec.models.batches import SessionBatch
from alterrec.nn.mixtures import mixture_cross_entropy
from alterrec.sessions import SessionStore
from alterrec.vocabulary import Vocabulary

NUM_ITEMS = 40


def small_dataset(seed: int = 0, cold: int = 0, sessions: int = 120, users: int = 0) -> Dataset:
    """Sessions that walk a ring of items, text that names each item's neighbourhood; no repeats in a session.

    The last ``cold`` items are in validation and test alone. With ``users``, session i is of user i % users;
    user 0 is called user0.
    """
    rng = np.random.default_rng(seed)
    names = tuple(f"item{j:02d}" for j in range(NUM_ITEMS))
    titles = [f"ring part {j // 5} piece {j}" for j in range(NUM_ITEMS)]

    def store(count: int, items: int) -> SessionStore:
        starts, lengths = rng.integers(0, items, count), rng.integers(2, 8, count)
        rows = [(start + np.arange(length)) % items for start, length in zip(starts, lengths, strict=True)]
        numbers = np.repeat(np.arange(count), lengths)
        flat = np.concatenate(rows).astype(np.int64)
        of_rows = numbers % users if users else None
        return SessionStore.from_arrays(numbers, flat, user_ids=of_rows, num_items=NUM_ITEMS)

    stores = {
        "train": store(sessions, NUM_ITEMS - cold),
        "valid": store(sessions // 4, NUM_ITEMS),
        "test": store(sessions // 4, NUM_ITEMS),
    }
    session_names = {split: [f"{split}{i}" for i in range(len(s))] for split, s in stores.items()}
    return Dataset(
        name="ring",
        **stores,
        vocabulary=Vocabulary(names),
        text=ItemText({"title": titles}),
        vectors=None,
        session_names=session_names,
        users=Vocabulary(tuple(f"user{number}" for number in range(users))) if users else None,
    )


def text_like_vectors(seed: int = 0, width: int = 12) -> np.ndarray:
    """Unit text vectors (V, F) float32 in which neighbours on the ring are alike."""
    rng = np.random.default_rng(seed)
    groups = rng.normal(size=(NUM_ITEMS // 5, width)).repeat(5, axis=0)
    vectors = groups + 0.3 * rng.normal(size=(NUM_ITEMS, width))
    return (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32)


def store_of(sessions: Sequence[Sequence[int]], num_items: int = NUM_ITEMS) -> SessionStore:
    """A store of sessions that are given as lists of items."""
    numbers = np.repeat(np.arange(len(sessions)), [len(items) for items in sessions])
    flat = np.array([item for items in sessions for item in items], np.int64)
    return SessionStore.from_arrays(numbers, flat, num_items=num_items)


def with_sessions(**splits: Sequence[Sequence[int]]) -> Dataset:
    """The catalogue of :func:`small_dataset` with other sessions, given by split."""
    stores = {split: store_of(sessions) for split, sessions in splits.items()}
    names = {split: [f"{split}{i}" for i in range(len(store))] for split, store in stores.items()}
    return dataclasses.replace(small_dataset(), **stores, session_names=names)


def returning_dataset(seed: int = 0, sessions: int = 120, share: float = 0.3) -> Dataset:
    """Sessions that walk a ring of items, and with probability ``share`` return to one of their items."""
    rng = np.random.default_rng(seed)

    def walk() -> list[int]:
        items = [int(rng.integers(NUM_ITEMS))]
        for _ in range(rng.integers(1, 8)):
            returns = rng.random() < share
            # The walk goes on after the last item that was new.
            newest = max(items, key=items.index)
            items.append(int(rng.choice(items)) if returns else (newest + 1) % NUM_ITEMS)
        return items

    counts = {"train": sessions, "valid": sessions // 3, "test": sessions // 3}
    return with_sessions(**{split: [walk() for _ in range(count)] for split, count in counts.items()})


class TableScorer:
    """A system whose scores depend on the last item alone: part -> table (V, V)."""

    def __init__(self, tables: Mapping[str, Tensor], weights: Sequence[float] = ()) -> None:
        self.tables = dict(tables)
        self.weights = dict(zip(self.tables, weights or [1.0] * len(self.tables), strict=True))
        self.scales: dict[str, RepeatScale] = {}

    def prepare(self) -> dict[str, Tables]:
        return {}

    def part_scores(self, batch: SessionBatch, tables: Mapping[str, Tables]) -> dict[str, Tensor]:
        last = batch.items_RL[batch.row_N, batch.length_N - 1]
        return {name: table[last] for name, table in self.tables.items()}

    def summands(self, parts: dict[str, Tensor], batch: SessionBatch) -> dict[str, Tensor]:
        return parts


def plain_scores(network: Network, batch: SessionBatch, tables: Tables | None = None) -> Tensor:
    """The scores (N, V) of a network with one query, as a product with a gradient."""
    tables = tables or network.item_tables()
    return network.encode_sessions(batch, tables) @ tables.outputs.T


def next_item_loss(network: Network, batch: SessionBatch, targets_N: Tensor) -> Tensor:
    """The training loss of a network over the whole catalogue."""
    if network.queries is None:
        return F.cross_entropy(plain_scores(network, batch), targets_N)
    tables = network.item_tables()
    queries = network.ask(batch, tables)
    return mixture_cross_entropy(queries, tables.outputs, targets_N[:, None], torch.ones(1))

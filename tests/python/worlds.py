"""Small data sets that several tests share."""

from __future__ import annotations

import numpy as np

from alterrec.data.dataset import Dataset, ItemText, Vocabulary
from alterrec.sessions import SessionStore

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

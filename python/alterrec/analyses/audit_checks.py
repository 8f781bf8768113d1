"""What may be wrong with a data set: copies across splits, order in time, texts alike, drift; no torch.

Legend of shapes: R sessions, T interactions, V items.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np
import polars as pl
from numpy.typing import ArrayLike, NDArray
from scipy.spatial.distance import jensenshannon  # type: ignore[import-untyped]

from alterrec.data.dataset import Dataset
from alterrec.data.statistics import joined_texts, last_places
from alterrec.sessions import SessionStore

# Two sessions of fewer items may well be equal by chance.
LONG = 4
# Words of a text below which one other word makes it another text.
FEWEST_WORDS = 5
EXAMPLES = 3
DRAWS = 3


@dataclass(frozen=True)
class Copies:
    """Sessions of a later split that an earlier one has too.

    Attributes:
        sessions, share: those with the same items in the same order.
        long: those of them with 4 items or more, which is hardly chance.
        named: session ids that both splits have.
        examples: ids of some copies, long ones first.
    """

    earlier: str
    later: str
    sessions: int
    share: float
    long: int
    named: int
    examples: list[str]


@dataclass(frozen=True)
class TimeOrder:
    """Sessions of a split that end no later than training does, and those that begin before it ends."""

    split: str
    ended: int
    begun: int
    ended_share: float


@dataclass(frozen=True)
class SimilarTexts:
    """Items whose texts a reader, or an encoder, cannot tell apart.

    Attributes:
        identical: items whose text another item has, letter by letter.
        same_words: items whose words another item has, whatever their order, case and punctuation.
        one_word: items of 5 words or more, one of which makes the difference to another item.
        targets: share of test targets (last items) among the identical ones; their text scores tie.
        groups: the largest groups of identical texts: text and number of items.
        near: examples of texts one word apart.
    """

    identical: int
    same_words: int
    one_word: int
    targets: float
    groups: list[tuple[str, int]]
    near: list[list[str]]


@dataclass(frozen=True)
class Drift:
    """How far the items of a split are from those of train.

    Attributes:
        distance: Jensen-Shannon distance of the two distributions over items, 0 to 1.
        expected: that of as many random train sessions from the rest of train: no drift at all.
    """

    split: str
    distance: float
    expected: float


@dataclass(frozen=True)
class Checks:
    """All checks of a data set; ``order`` is empty without timestamps, ``alike`` None without texts."""

    copies: list[Copies]
    order: list[TimeOrder]
    alike: SimilarTexts | None
    drift: list[Drift]


def checks(data: Dataset) -> Checks:
    """Look for what would spoil, or flatter, a comparison.

    Example:
        >>> from alterrec.data.synthetic import synthetic_dataset
        >>> found = checks(synthetic_dataset(items=300, sessions=900))
        >>> [(each.earlier, each.later) for each in found.copies]
        [('train', 'valid'), ('train', 'test'), ('valid', 'test')]
    """
    pairs = combinations(("train", "valid", "test"), 2)
    targets = data.test.items[last_places(data.test)] if data.test.num_sessions else np.empty(0, np.int64)
    return Checks(
        copies=[copies(data, earlier, later) for earlier, later in pairs],
        order=order(data),
        alike=alike(joined_texts(data.text), targets) if data.text else None,
        drift=[drift(data, split) for split in ("valid", "test") if data.splits[split].num_sessions],
    )


def copies(data: Dataset, earlier: str, later: str) -> Copies:
    """Sessions of ``later`` that ``earlier`` has too."""
    known = {_key(data.splits[earlier], row) for row in range(data.splits[earlier].num_sessions)}
    store, names = data.splits[later], data.session_names.get(later, [])
    rows = [row for row in range(store.num_sessions) if _key(store, row) in known]
    by_length = sorted(rows, key=lambda row: -int(store.lengths[row]))
    return Copies(
        earlier=earlier,
        later=later,
        sessions=len(rows),
        share=len(rows) / max(store.num_sessions, 1),
        long=sum(int(store.lengths[row]) >= LONG for row in rows),
        named=len(set(names) & set(data.session_names.get(earlier, []))),
        examples=[names[row] for row in by_length[:EXAMPLES]] if names else [],
    )


def order(data: Dataset) -> list[TimeOrder]:
    """Whether validation and test come after training; empty without timestamps."""
    train_times = data.train.timestamps
    if train_times is None:
        return []
    ends = int(np.asarray(train_times).max())
    found = []
    for split in ("valid", "test"):
        store = data.splits[split]
        if store.timestamps is not None and store.num_sessions:
            times = np.asarray(store.timestamps)
            last, first = times[last_places(store)], times[store.offsets[:-1]]
            ended, begun = int((last <= ends).sum()), int((first <= ends).sum())
            found.append(TimeOrder(split, ended, begun, ended / store.num_sessions))
    return found


def alike(texts: Sequence[str], targets: ArrayLike) -> SimilarTexts:
    """Texts that are identical, have the same words, or differ by one word.

    Sums of word hashes stand for sets of words, so that a catalogue of 100,000 items takes seconds.

    Example:
        >>> found = alike(["Red Mug", "red, mug", "Mug red", "Mug red", "a b c d e", "a b c d f"], [2])
        >>> found.identical, found.same_words, found.one_word, found.targets
        (2, 4, 2, 1.0)
    """
    frame = pl.DataFrame({"item": np.arange(len(texts)), "text": list(texts)})
    counted = frame.filter(pl.col("text") != "").with_columns(same=pl.len().over("text"))
    identical = counted.filter(pl.col("same") > 1)
    groups = identical.group_by("text").len().sort(["len", "text"], descending=[True, False])
    words = (
        frame.with_columns(word=pl.col("text").str.to_lowercase().str.extract_all(r"\w+"))
        .explode("word")
        .drop_nulls("word")
        .select("item", own=pl.col("word").hash(seed=0))
    )
    whole_V, count_V = _sums(words["item"].to_numpy(), words["own"].to_numpy(), len(texts))
    same = pl.DataFrame({"whole": whole_V, "words": count_V}).filter(pl.col("words") > 0)
    same_words = same.filter(pl.len().over("whole") > 1)
    near = _one_word_apart(words["item"].to_numpy(), words["own"].to_numpy(), whole_V, count_V)
    shown = near.unique("item", maintain_order=True).group_by("key", maintain_order=True).agg("item")
    pairs = [row for row in shown["item"].to_list() if len(row) > 1][:EXAMPLES]
    wanted = np.asarray(targets)
    return SimilarTexts(
        identical=len(identical),
        same_words=len(same_words),
        one_word=near["item"].n_unique(),
        targets=float(np.isin(wanted, identical["item"].to_numpy()).mean()) if len(wanted) else 0.0,
        groups=[(text, number) for text, number in groups.head(EXAMPLES).iter_rows()],
        near=[[texts[item] for item in row[:EXAMPLES]] for row in pairs],
    )


def drift(data: Dataset, split: str) -> Drift:
    """Distance of a split's items from train's, beside that of random sessions of train."""
    store = data.splits[split]
    train_V = np.asarray(data.train.item_counts(), np.float64)
    rng = np.random.default_rng(0)
    drawn = []
    for _ in range(DRAWS):
        rows = rng.choice(
            data.train.num_sessions, min(store.num_sessions, data.train.num_sessions // 2), replace=False
        )
        chosen_R = np.isin(np.arange(data.train.num_sessions), rows)
        items = data.train.items[np.repeat(chosen_R, data.train.lengths)]
        part_V = np.bincount(items, minlength=data.num_items)
        drawn.append(jensen_shannon(part_V, train_V - part_V))
    return Drift(split, jensen_shannon(store.item_counts(), train_V), float(np.mean(drawn)))


def jensen_shannon(first: ArrayLike, second: ArrayLike) -> float:
    """Jensen-Shannon distance of two distributions given as counts: 0 if equal, 1 if nothing is shared.

    The square root of the divergence in bits (Endres and Schindelin 2003).

    Example:
        >>> jensen_shannon([2, 2], [1, 1]), jensen_shannon([1, 0], [0, 3])
        (0.0, 1.0)
    """
    counts = np.asarray(first, np.float64), np.asarray(second, np.float64)
    return float(jensenshannon(*counts, base=2)) if all(each.sum() for each in counts) else 0.0


def _key(store: SessionStore, row: int) -> bytes:
    return bytes(store.session(row).tobytes())


def _sums(
    items: NDArray[np.int64], hashes: NDArray[np.uint64], size: int
) -> tuple[NDArray[np.uint64], NDArray[np.int64]]:
    """Sum of hashes, which wraps around, and number of words of each item; items are in ascending order."""
    counts = np.bincount(items, minlength=size)
    running = np.concatenate([np.zeros(1, np.uint64), np.cumsum(hashes, dtype=np.uint64)])
    stops = np.cumsum(counts)
    return running[stops] - running[stops - counts], counts


def _one_word_apart(
    items: NDArray[np.int64],
    hashes: NDArray[np.uint64],
    whole_V: NDArray[np.uint64],
    count_V: NDArray[np.int64],
) -> pl.DataFrame:
    """Rows (item, key): without one of its words, or as it is, the item has the words of another one."""
    long = count_V[items] >= FEWEST_WORDS
    complete = np.flatnonzero(count_V >= FEWEST_WORDS - 1)
    every = np.concatenate([items[long], complete])
    keys = np.concatenate([whole_V[items[long]] - hashes[long], whole_V[complete]])
    rows = pl.DataFrame({"item": every, "key": keys, "whole": whole_V[every]})
    return rows.filter(pl.col("whole").n_unique().over("key") > 1).select("item", "key")

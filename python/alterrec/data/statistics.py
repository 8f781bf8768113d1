"""Statistics of a data set: sessions, targets, texts and popularity.

Legend of shapes: R sessions, T interactions, V items.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from alterrec.data.dataset import Dataset
from alterrec.data.lsa import parts
from alterrec.data.repeats import TargetKind, bin_names, count_repeats, target_places
from alterrec.sessions import SessionStore

TOP_SHARES = (0.01, 0.1)
CURVE_POINTS = 200
# Timestamps outside 1990 to 2100 are taken as counters, not as dates.
DATES = (631_152_000, 4_102_444_800)

T = TypeVar("T")


@dataclass(frozen=True)
class TargetStatistics:
    """Statistics of the targets of one kind: last items, or items at every position after the first.

    Attributes:
        count: number of targets.
        repeated: share that repeat an item of their session.
        cold: share that never occur in train.
        by_length: number of items before the target (``1``, ``2``, ``3-4``, ...) -> number of targets, and of
            those of them that repeat. Files of earlier versions have none.
        by_distance: number of places since the item last occurred, in the same bins -> repeated targets.
    """

    count: int
    repeated: float
    cold: float
    by_length: dict[str, tuple[int, int]] = field(default_factory=dict)
    by_distance: dict[str, int] = field(default_factory=dict)


@dataclass(frozen=True)
class Split:
    """Statistics of one split.

    Attributes:
        items: distinct items.
        lengths: session length -> number of sessions.
        first_time, last_time: None without timestamps.
        last: targets if the last item of each session is one.
        every: targets if every item except the first of each session is one.
    """

    sessions: int
    interactions: int
    items: int
    mean_length: float
    median_length: float
    max_length: int
    lengths: dict[int, int]
    first_time: int | None
    last_time: int | None
    last: TargetStatistics
    every: TargetStatistics

    def targets(self, kind: TargetKind) -> TargetStatistics:
        """Return the statistics of one kind of targets."""
        return self.last if kind == "last" else self.every


@dataclass(frozen=True)
class Texts:
    """A text field, or all joined.

    Attributes:
        share: share of items that have a text.
        words: words of a text on average; in scripts without spaces, two characters count as a word.
        one_word: share of the texts that are a single word.
        distinct: number of different texts.
    """

    share: float
    words: float
    one_word: float = 0.0
    distinct: int = 0


@dataclass(frozen=True)
class PopularityStatistics:
    """Distribution of the interactions in train over items.

    Attributes:
        top: share of items, most popular first -> share of interactions.
        curve: (rank, interactions) of items, at ranks spaced evenly on a logarithmic scale.
    """

    top: dict[float, float]
    curve: list[tuple[int, int]]


@dataclass(frozen=True)
class Statistics:
    """Statistics of a data set, among them the columns of Table 3 of the paper.

    Attributes:
        users: number of users, None without user ids.
        items: size of the catalogue, including cold items.
        cold_items: items that do not occur in train.
        splits: split name -> statistics.
        text: statistics of all text fields joined, None without texts.
        fields: text field -> statistics.
    """

    users: int | None
    items: int
    cold_items: int
    splits: dict[str, Split]
    text: Texts | None
    fields: dict[str, Texts]
    popularity: PopularityStatistics


def statistics(data: Dataset) -> Statistics:
    """Return the statistics of a data set.

    Example:
        >>> from alterrec.data.synthetic import synthetic_dataset
        >>> found = statistics(synthetic_dataset(items=300, sessions=900))
        >>> found.items, sum(split.sessions for split in found.splits.values())
        (300, 900)
    """
    users = [store.users for store in data.splits.values() if store.users is not None]
    return Statistics(
        users=len(np.unique(np.concatenate(users))) if users else None,
        items=data.num_items,
        cold_items=int(np.count_nonzero(~data.trained)),
        splits={name: _split(store, data.trained) for name, store in data.splits.items()},
        text=_texts(data.text.joined_texts()) if data.text else None,
        fields={name: _texts(texts) for name, texts in (data.text.fields if data.text else {}).items()},
        popularity=PopularityStatistics(
            {share: top_share(data.train_counts, share) for share in TOP_SHARES},
            popularity_curve(data.train_counts),
        ),
    )


def top_share(counts: NDArray[np.int64], share: float) -> float:
    """Share of all interactions that belongs to the most popular ``share`` of items, at least one item.

    Args:
        counts: interactions by item, (V,).
        share: above 0, at most 1.

    Example:
        >>> top_share(np.array([1, 7, 1, 1]), 0.25)
        0.7
    """
    first = max(round(share * len(counts)), 1)
    total = int(counts.sum())
    return float(np.sort(counts)[::-1][:first].sum() / total) if total else 0.0


def popularity_curve(counts: NDArray[np.int64]) -> list[tuple[int, int]]:
    """Pairs (rank from 1, interactions) of items, at most 200, spaced evenly on a logarithmic scale.

    Example:
        >>> popularity_curve(np.array([1, 7, 0, 2]))
        [(1, 7), (2, 2), (3, 1)]
    """
    ordered = np.sort(counts[counts > 0])[::-1]
    if not len(ordered):
        return []
    ranks = np.unique(np.geomspace(1, len(ordered), CURVE_POINTS).round().astype(np.int64))
    return [(int(rank), int(ordered[rank - 1])) for rank in ranks]


def as_date(time: int) -> datetime | None:
    """A timestamp as a date, or None for a counter; its size tells seconds, milli- and microseconds apart.

    Example:
        >>> as_date(1291191960), as_date(198501)
        (datetime.datetime(2010, 12, 1, 8, 26, tzinfo=datetime.timezone.utc), None)
    """
    low, high = DATES
    for unit in (1, 1000, 1_000_000):
        if low <= time / unit < high:
            return datetime.fromtimestamp(time / unit, UTC)
    return None


def _split(store: SessionStore, trained_V: NDArray[np.bool_]) -> Split:
    lengths, times = store.lengths, store.timestamps
    values, sessions = np.unique(lengths, return_counts=True)
    return Split(
        sessions=store.num_sessions,
        interactions=store.num_interactions,
        items=int(np.count_nonzero(store.item_counts())),
        mean_length=float(lengths.mean()),
        median_length=float(np.median(lengths)),
        max_length=int(lengths.max()),
        lengths=dict(zip(values.tolist(), sessions.tolist(), strict=True)),
        first_time=None if times is None else int(times.min()),
        last_time=None if times is None else int(times.max()),
        last=_targets(store, "last", trained_V),
        every=_targets(store, "every", trained_V),
    )


def _targets(store: SessionStore, kind: TargetKind, trained_V: NDArray[np.bool_]) -> TargetStatistics:
    places, _ = target_places(store, kind)
    total_B, repeated_B, distance_B = count_repeats(store, kind)
    return TargetStatistics(
        count=len(places),
        repeated=int(repeated_B.sum()) / max(len(places), 1),
        cold=_share(~trained_V[store.items[places]]),
        by_length=_by_bin(list(zip(total_B.tolist(), repeated_B.tolist(), strict=True)), total_B),
        by_distance=_by_bin(distance_B.tolist(), distance_B),
    )


def _by_bin(values: Sequence[T], counts_B: NDArray[np.int64]) -> dict[str, T]:
    """Name the values of bins, up to the last one whose count is not 0."""
    used = np.flatnonzero(counts_B)
    # The last bin ends at 2**bin.
    return dict(zip(bin_names(2 ** int(used[-1])), values, strict=False)) if len(used) else {}


def _texts(texts: Sequence[str]) -> Texts:
    words = np.array([len(parts(text)) for text in texts])
    filled = words[words > 0]
    return Texts(
        share=_share(words > 0),
        words=float(filled.mean()) if len(filled) else 0.0,
        one_word=_share(filled == 1),
        distinct=len({text for text in texts if text.strip()}),
    )


def _share(which: NDArray[np.bool_]) -> float:
    return float(which.mean()) if len(which) else 0.0

"""The items of a prefix as candidates: how often targets repeat them, and the repeat component.

Three rules exist for the items of a prefix (seen items). ``kept``: they are candidates like all others.
``excluded``: they are not, and a target that repeats one counts as not found. ``repeats``: they are
candidates with a probability that is counted from sessions, see :class:`RepeatModel`.

Legend of shapes: T interactions, N prefixes, L places of a prefix, B bins.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Literal, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray

from alterrec.sessions import SessionStore

SeenItems = Literal["kept", "excluded", "repeats"]
TargetKind = Literal["last", "every"]
Counts = NDArray[np.int64]
Floats = NDArray[np.float64]

# Lengths and distances 1, 2, 3-4, 5-8, ... share a bin. Bin b ends at 2**b.
BINS = 32
# A rate by prefix length is pulled towards the rate over all lengths by this many targets, and the level of
# all rates towards that of validation by this many repeated targets. On two data sets, 10 and 100 targets
# gave the same NDCG@20 within 0.2 points.
RATE_TARGETS, LEVEL_TARGETS = 100, 20
# The weights are fitted to at most this many repeated targets, evenly spaced, because reading the prefixes of
# long histories takes time: 2 s for this number and a mean length of 90.
FITTED_TARGETS = 10_000
# Rates of 0 and 1 would make one kind of candidate impossible; this bounds the odds.
LEAST_RATE = 1e-6
ITERATIONS = 100
# Recipe schema 1: ``auto`` excluded seen items if fewer of all training targets than this repeated one.
EARLIER_SHARE = 0.005


def repeat_distances(store: SessionStore) -> Counts:
    """Return how many places before each interaction its item last occurred in the session, 0 if it did not.

    Example:
        >>> repeat_distances(SessionStore.from_arrays([0, 0, 0, 1], [5, 2, 5, 5])).tolist()
        [0, 0, 2, 0]
    """
    session_T = np.repeat(np.arange(store.num_sessions), store.lengths)
    # The sort is stable, so equal pairs keep their order.
    order_T = np.lexsort((store.items, session_T))
    same = (np.diff(session_T[order_T]) == 0) & (np.diff(store.items[order_T].astype(np.int64)) == 0)
    distance_T = np.zeros(store.num_interactions, np.int64)
    distance_T[order_T[1:]] = np.where(same, np.diff(order_T), 0)
    return distance_T


def target_places(store: SessionStore, targets: TargetKind) -> tuple[Counts, Counts]:
    """Return for each target its interaction number and the number of items before it.

    Args:
        store: the sessions; those of one item have no target.
        targets: ``last`` for the last item of each session, ``every`` for all items but the first.

    Example:
        >>> places, lengths = target_places(SessionStore.from_arrays([0, 0, 0, 1], [5, 2, 5, 5]), "every")
        >>> places.tolist(), lengths.tolist()
        ([1, 2], [1, 2])
    """
    samples = store.prefixes(targets)
    return store.offsets[samples[:, 0]] + samples[:, 1], samples[:, 1]


def count_repeats(store: SessionStore, targets: TargetKind) -> tuple[Counts, Counts, Counts]:
    """Count targets by bin of the prefix length, and repeated ones by this bin and by that of their distance.

    Args:
        store: the sessions.
        targets: the kind of targets, see :func:`target_places`.

    Returns:
        Targets by prefix length, repeated targets by prefix length, repeated targets by distance, each (B,).

    Example:
        Of the targets 2, 5 and 5, the second repeats the item two places back, the third the one before it.

        >>> store = SessionStore.from_arrays([0, 0, 0, 0], [5, 2, 5, 5])
        >>> [counts_B[:3].tolist() for counts_B in count_repeats(store, "every")]
        [[1, 1, 1], [0, 1, 1], [1, 1, 0]]
    """
    lengths, distances = _targets(store, targets)
    repeated = distances > 0
    total_B, repeated_B, distance_B = (
        np.bincount(length_bins(values), minlength=BINS)
        for values in (lengths, lengths[repeated], distances[repeated])
    )
    return total_B, repeated_B, distance_B


def repeated_share(store: SessionStore, targets: TargetKind) -> float:
    """Return the share of targets that repeat an item of their session, 0 if there are no targets.

    Example:
        >>> repeated_share(SessionStore.from_arrays([0, 0, 0, 1, 1], [5, 2, 5, 5, 1]), "last")
        0.5
    """
    places, _ = target_places(store, targets)
    return float((repeat_distances(store)[places] > 0).mean()) if len(places) else 0.0


def seen_items(
    rule: str, train: SessionStore, valid: SessionStore, targets: TargetKind
) -> tuple[SeenItems, RepeatModel | None]:
    """Return how the items of a prefix are ranked, and the repeat component if it is used.

    Args:
        rule: ``never`` (items of the prefix are never excluded), ``always``, or ``auto``: the repeat
            component if any target in training or validation repeats an item of its prefix; otherwise the
            items of the prefix are excluded, which is the same.
        train, valid: the sessions that are counted.
        targets: the kind of targets that are ranked. Only these are counted: in click data, items inside a
            session often repeat while the last one never does.

    Example:
        >>> store = SessionStore.from_arrays([0, 0, 0], [5, 5, 1])
        >>> seen_items("auto", store, store, "last")
        ('excluded', None)
        >>> seen_items("auto", store, store, "every")[0]
        'repeats'
    """
    if rule != "auto":
        return ("kept" if rule == "never" else "excluded"), None
    model = RepeatModel.counted(train, valid, targets)
    return ("excluded" if model is None else "repeats"), model


def changed_rule(rule: str, train: SessionStore, valid: SessionStore, targets: TargetKind) -> str:
    """Return how a rule treats seen items differently than in recipe schema 1; empty if it does not.

    Args:
        rule, train, valid, targets: as for :func:`seen_items`.

    Example:
        >>> store = SessionStore.from_arrays([0, 0, 0], [5, 5, 1])
        >>> changed_rule("auto", store, store, "last")
        'items already in the session were candidates, but now they are not candidates'
        >>> changed_rule("never", store, store, "last")
        ''
    """
    if rule == "never":
        return ""
    few = repeated_share(train, "every") < EARLIER_SHARE
    repeat = any(repeated_share(store, targets) for store in (train, valid))
    before: SeenItems = "excluded" if rule == "always" or few else "kept"
    now: SeenItems = "repeats" if rule == "auto" and repeat else "excluded"
    words: dict[SeenItems, str] = {
        "kept": "candidates",
        "excluded": "not candidates",
        "repeats": "candidates with the counted probability of a repeat",
    }
    if before != now:
        return f"items already in the session were {words[before]}, but now they are {words[now]}"
    if now == "excluded" and repeated_share(valid, targets):
        return "targets that repeat an excluded item counted as found, but now they count as not found"
    return ""


@dataclass(frozen=True)
class RepeatModel:
    """The repeat component: the probability that a session returns to one of its items.

    ``p(i) = rate(length) * share(i)`` for an item of the prefix and ``(1 - rate(length)) * p_unseen(i)`` for
    every other item. The rate depends on the length of the prefix. The share of an item is proportional to
    ``weight(d) * exp(affinity * score(i) / temperature)``, where d is the distance from the end of the prefix
    to the last occurrence of the item, and ``p_unseen`` is the softmax of ``score / temperature`` over the
    items that are not in the prefix. Temperature and affinity belong to the scores of a system and are
    fitted on validation, see :mod:`alterrec.evaluation.scales`.

    The split into repeating and exploring follows RepeatNet (Ren et al., AAAI 2019) and softmax-CPR (Chang et
    al., arXiv 2310.14079); here both parts are counted, not learned.

    Attributes:
        rates_B: probability of a repeat by bin of the prefix length.
        weights_B: weight of an item by bin of its distance; only ratios matter.

    Example:
        >>> train = SessionStore.from_arrays([0, 0, 0, 1, 1, 1], [5, 2, 5, 1, 3, 4])
        >>> model = RepeatModel.counted(train, train, "last")
        >>> model.rates_B.shape, round(float(model.rates_B[1]), 2)
        ((32,), 0.5)
    """

    rates_B: Floats
    weights_B: Floats

    @classmethod
    def counted(cls, train: SessionStore, valid: SessionStore, targets: TargetKind) -> Self | None:
        """Count rates and weights on the targets of training and validation; None if no target repeats.

        Rates by length are smoothed towards the overall rate, then scaled so that they agree with the number
        of repeated targets in validation, which is nearest to the sessions that will be ranked.
        """
        counts = [count_repeats(store, targets) for store in (train, valid)]
        total_B, repeated_B, _ = np.sum(counts, axis=0)
        if not repeated_B.any():
            return None
        overall = repeated_B.sum() / total_B.sum()
        rates_B = (repeated_B + RATE_TARGETS * overall) / (total_B + RATE_TARGETS)
        lengths, distances = _targets(valid, targets)
        expected = rates_B[length_bins(lengths)].sum()
        rates_B *= (np.count_nonzero(distances) + LEVEL_TARGETS) / (expected + LEVEL_TARGETS)
        found = [row for store in (train, valid) for row in _choices(store, targets)]
        return cls(
            rates_B.clip(LEAST_RATE, 1 - LEAST_RATE),
            luce_weights(np.array([each for each, _ in found]), np.array([each for _, each in found])),
        )

    def log_rates(self, lengths_N: ArrayLike) -> Floats:
        """Return log(rate / (1 - rate)) of prefixes by their lengths, (N,)."""
        rates_N = self.rates_B[length_bins(np.asarray(lengths_N))]
        odds_N: Floats = np.log(rates_N / (1 - rates_N))
        return odds_N

    def log_weights(self, prefixes_NL: ArrayLike) -> Floats:
        """Return the log-weight of the last occurrence of each item of a prefix.

        Args:
            prefixes_NL: items of each prefix, oldest first, padded with -1.

        Returns:
            (N, L) float64, -inf for padding and for earlier occurrences.

        Example:
            >>> model = RepeatModel(np.full(BINS, 0.5), np.arange(1.0, BINS + 1))
            >>> np.exp(model.log_weights([[7, 4, 7], [4, -1, -1]])).round(3).tolist()
            [[0.0, 2.0, 1.0], [1.0, 0.0, 0.0]]
        """
        items_NL = np.asarray(prefixes_NL)
        distances_NL = (items_NL >= 0).sum(1, keepdims=True) - np.arange(items_NL.shape[1])
        by_distance = np.log(self.weights_B)[length_bins(np.arange(items_NL.shape[1] + 1))]
        weights_NL: Floats = by_distance[distances_NL.clip(min=0)]
        return np.where(last_occurrences(items_NL), weights_NL, -np.inf)

    def log_odds(
        self, prefixes_NL: ArrayLike, scores_NL: ArrayLike | None = None, affinity: float = 0.0
    ) -> NDArray[np.float32]:
        """Return log(rate / (1 - rate)) + log(share) of each item of a prefix.

        Args:
            prefixes_NL: items of each prefix, oldest first, padded with -1.
            scores_NL: score / temperature of each item; needed if there is an affinity.
            affinity: 0 or more. Prefixes with an infinite score use 0.

        Returns:
            (N, L) float32, -inf for padding and for earlier occurrences.

        Example:
            >>> model = RepeatModel(np.full(BINS, 0.5), np.ones(BINS))
            >>> np.exp(model.log_odds([[7, 4, 7]])).round(3).tolist()
            [[0.0, 0.5, 0.5]]
            >>> np.exp(model.log_odds([[7, 4, 7]], [[0.0, np.log(3), 0.0]], 1.0)).round(3).tolist()
            [[0.0, 0.75, 0.25]]
        """
        items_NL = np.asarray(prefixes_NL)
        shares_NL = self.log_shares(items_NL, scores_NL, affinity)
        log_rates_N1 = self.log_rates((items_NL >= 0).sum(1))[:, None]
        return (log_rates_N1 + shares_NL).astype(np.float32)

    def log_shares(self, items_NL: NDArray[Any], scores_NL: ArrayLike | None, affinity: float) -> Floats:
        """Return log(share) of each item of a prefix, (N, L); the arguments are those of :meth:`log_odds`."""
        weights_NL = self.log_weights(items_NL)
        if affinity:
            tilted_NL = np.where(np.isneginf(weights_NL), 0.0, affinity * np.asarray(scores_NL, np.float64))
            finite_N1 = np.isfinite(tilted_NL).all(1, keepdims=True)
            weights_NL = weights_NL + np.where(finite_N1, tilted_NL, 0.0)
        if not weights_NL.size:
            return weights_NL
        most_N1 = weights_NL.max(1, keepdims=True)
        most_N1 = np.where(np.isfinite(most_N1), most_N1, 0.0)
        with np.errstate(divide="ignore"):
            sums_N1 = np.log(np.exp(weights_NL - most_N1).sum(1, keepdims=True))
        shares_NL: Floats = weights_NL - most_N1 - sums_N1
        return shares_NL


def last_occurrences(items_NL: NDArray[Any]) -> NDArray[np.bool_]:
    """Return whether each place of a prefix is the last occurrence of its item, (N, L); False for padding.

    Example:
        >>> last_occurrences(np.array([[7, 4, 7], [4, -1, -1]])).tolist()
        [[False, True, True], [True, False, False]]
    """
    order_NL = np.argsort(items_NL, axis=1, kind="stable")
    sorted_NL = np.take_along_axis(items_NL, order_NL, axis=1)
    last_NL = sorted_NL >= 0
    last_NL[:, :-1] &= sorted_NL[:, 1:] != sorted_NL[:, :-1]
    found_NL = np.empty_like(last_NL)
    np.put_along_axis(found_NL, order_NL, last_NL, axis=1)
    return found_NL


def length_bins(values: NDArray[np.integer]) -> Counts:
    """Return the bin of each length or distance: 1, 2, 3-4, 5-8, ...

    Example:
        >>> length_bins(np.array([1, 2, 3, 4, 5])).tolist()
        [0, 1, 2, 2, 3]
    """
    bins: Counts = np.ceil(np.log2(np.maximum(values, 1))).astype(np.int64)
    return bins


def bin_names(longest: int) -> list[str]:
    """Return the names of the bins of lengths or distances up to ``longest``.

    Example:
        >>> bin_names(9)
        ['1', '2', '3-4', '5-8', '9-16']
    """
    ends = [2**place for place in range(int(length_bins(np.array(longest))) + 1)]
    return [str(end) if end < 3 else f"{end // 2 + 1}-{end}" for end in ends]


def luce_weights(items_NB: NDArray[np.integer], chosen_N: NDArray[np.integer]) -> Floats:
    """Return weights of bins such that an item is chosen with probability weight / sum of weights (Luce).

    The maximum of the likelihood by minorisation and maximisation (Hunter, "MM algorithms for generalized
    Bradley-Terry models", Annals of Statistics 2004). Counting how often items of a bin are chosen would
    favour distances that occur in short prefixes. One more choice and one more chance of weight 1 are added
    to every bin, so that rare bins stay near the others.

    Args:
        items_NB: number of items of each bin to choose from.
        chosen_N: bin of the chosen item.

    Example:
        Of two items, the nearer one is chosen three times out of four.

        >>> weights = luce_weights(np.tile([1, 1], (4000, 1)), np.tile([0, 0, 0, 1], 1000))
        >>> round(float(weights[0] / weights[1]), 1)
        3.0
    """
    chosen_B = np.bincount(chosen_N, minlength=items_NB.shape[1])
    weights_B = np.ones(items_NB.shape[1])
    for _ in range(ITERATIONS):
        chances_B = (items_NB / (items_NB @ weights_B)[:, None]).sum(0)
        weights_B = (chosen_B + 1) / (chances_B + 1)
        # Only ratios matter; the added choices are relative to a mean weight of 1.
        weights_B /= np.average(weights_B, weights=chances_B + 1)
    return weights_B


def _targets(store: SessionStore, targets: TargetKind) -> tuple[Counts, Counts]:
    """Return the number of items before each target, and the distance of its repeat (0: it repeats none)."""
    places, lengths = target_places(store, targets)
    return lengths, repeat_distances(store)[places]


def _choices(store: SessionStore, targets: TargetKind) -> Iterator[tuple[Counts, int]]:
    """Yield for repeated targets the number of distinct items of the prefix by distance, and its own bin."""
    places, lengths = target_places(store, targets)
    distances_T = repeat_distances(store)
    items_T = store.items  # a copy of all items
    repeated = np.flatnonzero(distances_T[places])
    for target in repeated[np.linspace(0, len(repeated) - 1, min(len(repeated), FITTED_TARGETS)).astype(int)]:
        place, length = int(places[target]), int(lengths[target])
        # The first occurrence in the reversed prefix is the last one.
        last = np.unique(items_T[place - length : place][::-1], return_index=True)[1]
        yield np.bincount(length_bins(last + 1), minlength=BINS), int(length_bins(distances_T[place]))

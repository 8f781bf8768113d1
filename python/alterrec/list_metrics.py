"""Metrics of recommendation lists: coverage, novelty, popularity, diversity of texts, concentration.

A list is the first K items of a ranking. Where items tie at its end, some of them are in the list, each
choice equally likely. With ``p`` the probability that an item is in a list, and its exposure the sum of ``p``
over all lists:

- ``coverage`` is the expected number of items that are in at least one list, ``1 - product(1 - p)``, divided
  by the size of the catalogue (RecBole's ItemCoverage, RecTools' CatalogCoverage).
- ``novelty`` is the mean over all places of ``-log2(c / C)``, where the item has c of the C interactions of
  training (Zhou et al., PNAS 2010). An item without any counts as one that has one. RecTools'
  MeanInvUserFreq counts users in place of interactions.
- ``popularity`` is the mean of c over all places (RecBole's AveragePopularity). ``popularity_bias`` divides
  it by the mean of c over the targets: above 1, the system recommends more popular items than people choose.
- ``diversity`` is the mean of 1 - cosine over all pairs of items of a list whose vectors are not zero
  (Ziegler et al., WWW 2005; RecTools' IntraListDiversity).
- ``gini`` is the Gini index of the exposures of all items, those that are never recommended included
  (RecBole's GiniIndex).

All but ``gini`` are the exact mean over all orders of ties; ``gini`` is that of the mean exposures. Memory is
a few numbers per item and cutoff, however many lists are added. Only numpy is needed.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from alterrec._ranking_arguments import (
    Ids,
    as_array,
    as_float32,
    as_integers,
    at_most,
    check_range,
    excluded_ids,
    is_tensor,
    like,
    matrix_shape,
    natural,
)
from alterrec.metrics import LIST_METRICS, MOST_ITEMS, parse_list_metric
from alterrec.ranking import top_ranked

__all__ = ["LIST_METRICS", "ListMetrics", "list_metrics"]

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
# Numbers of vectors that are gathered at once.
GATHERED = 2**22


def list_metrics(
    lists: ArrayLike,
    names: Sequence[str],
    num_items: int,
    *,
    train_counts: ArrayLike | None = None,
    vectors: ArrayLike | None = None,
    targets: ArrayLike | None = None,
) -> dict[str, float]:
    """Return metrics of complete lists; for many lists, or for ties, use :class:`ListMetrics`.

    Args:
        lists: (N, K) item ids, best first; K is at least the largest cutoff.
        targets: (N,) item ids; only for ``popularity_bias``.
        names, num_items, train_counts, vectors: as for :class:`ListMetrics`.

    Returns:
        Values by the names that were given.

    Raises:
        ValueError: as :class:`ListMetrics`.

    Example:
        Two lists of two items from a catalogue of four:

        >>> names = ["coverage@2", "gini@2", "popularity@2"]
        >>> list_metrics([[0, 1], [0, 2]], names, 4, train_counts=[5, 1, 0, 9])
        {'coverage@2': 0.75, 'gini@2': 0.375, 'popularity@2': 2.75}
    """
    measured = ListMetrics(names, num_items, train_counts=train_counts, vectors=vectors)
    measured.add(lists, targets)
    return measured.values()


class ListMetrics:
    """Metrics of recommendation lists, which are added one part at a time.

    Args:
        names: names in ``LIST_METRICS`` with a cutoff, as ``coverage@20``.
        num_items: size V of the catalogue.
        train_counts: (V,) interactions of each item in training; for ``novelty``, ``popularity`` and
            ``popularity_bias``.
        vectors: (V, F) numbers, one vector of each item, such as that of its text; zeros for none. For
            ``diversity``.

    Raises:
        ValueError: an unknown name, a cutoff above V, or an argument that is missing or of the wrong shape.

    Example:
        Scores with a tie: the second place is item 1 or item 2.

        >>> measured = ListMetrics(["coverage@2"], num_items=4)
        >>> measured.add_scores(np.array([[9, 5, 5, 0]], dtype=np.float32))
        >>> measured.values()
        {'coverage@2': 0.5}
    """

    def __init__(
        self,
        names: Sequence[str],
        num_items: int,
        *,
        train_counts: ArrayLike | None = None,
        vectors: ArrayLike | None = None,
    ) -> None:
        self.names = {name: parse_list_metric(name) for name in names}
        self.num_items = num_items = natural("num_items", num_items)
        at_most("num_items", num_items, MOST_ITEMS, "a catalogue", "items")
        kinds = {kind for kind, _ in self.names.values()}
        for name, (_, cutoff) in self.names.items():
            if cutoff > num_items:
                raise ValueError(
                    f"metric {name!r} has a cutoff above the {num_items} items; use {num_items} or less"
                )
        self._counts = _checked(
            "train_counts", train_counts, kinds & {"novelty", "popularity", "popularity_bias"}
        )
        self._needs_targets = "popularity_bias" in kinds
        given = _checked("vectors", vectors, kinds & {"diversity"})
        for name, values, dimensions in (("train_counts", self._counts, 1), ("vectors", given, 2)):
            if values is not None and (values.ndim != dimensions or len(values) != num_items):
                raise ValueError(
                    f"{name} has shape {values.shape}; expected one row for each of {num_items} items"
                )
        self._exposures = {cutoff: _Exposure(num_items) for _, cutoff in self.names.values()}
        self._pairs = {
            cutoff: _Pairs(_UnitVectors(given))
            for kind, cutoff in self.names.values()
            if kind == "diversity" and given is not None
        }
        self._target_count, self._num_targets = 0.0, 0

    def __repr__(self) -> str:
        return f"ListMetrics({', '.join(self.names)}; {self.num_items} items)"

    def add(self, lists: ArrayLike, targets: ArrayLike | None = None) -> None:
        """Add lists without ties at their cutoffs.

        Args:
            lists: (N, K) item ids, best first; K is at least the largest cutoff.
            targets: (N,) item ids; only for ``popularity_bias``.

        Raises:
            ValueError: wrong shapes, or an id outside the catalogue.
        """
        ids = as_integers("lists", lists)
        deepest = max(self._exposures, default=0)
        if ids.ndim != 2 or ids.shape[1] < deepest:
            raise ValueError(f"lists has shape {ids.shape}; expected (N, K) with K of {deepest} or more")
        check_range("lists", ids, 0, self.num_items)
        self._add_targets(targets, len(ids))
        for cutoff in self._exposures:
            self._add_certain(cutoff, ids[:, :cutoff])

    def add_scores(
        self, scores: Any, targets: ArrayLike | None = None, *, exclude: Ids | None = None
    ) -> None:
        """Add the lists that scores give, with ties counted exactly.

        Args:
            scores: (N, V) matrix of scores, numpy or torch, as for :mod:`alterrec.ranking`.
            targets: (N,) item ids; only for ``popularity_bias``.
            exclude: (N,) or (N, E) ids that are not candidates, padded with -1. A list that has fewer
                candidates than its cutoff contains them all.

        Raises:
            ValueError: wrong shapes, NaN, or an id outside the catalogue.
        """
        num_rows, num_items = matrix_shape("scores", scores)
        if num_items != self.num_items:
            raise ValueError(f"scores has {num_items} columns; expected {self.num_items}, one for each item")
        scores = scores if is_tensor(scores) else as_array("scores", scores)
        excluded = excluded_ids(exclude, num_rows, False)
        check_range("exclude", excluded, -1, num_items)
        self._add_targets(targets, num_rows)
        ordered = np.sort(excluded, axis=1)
        repeated = np.zeros(ordered.shape, bool)
        repeated[:, 1:] = ordered[:, 1:] == ordered[:, :-1]
        left_N = num_items - ((ordered >= 0) & ~repeated).sum(1)
        for cutoff in self._exposures:
            for row in np.flatnonzero(left_N <= cutoff).tolist():
                candidates = np.setdiff1d(np.arange(num_items), excluded[row])
                self._add_row(cutoff, candidates, candidates[:0], 0)
            rows = np.flatnonzero(left_N > cutoff)
            if not rows.size:
                continue
            own = scores if len(rows) == num_rows else scores[like(scores, rows)]
            best, values = top_ranked(own, cutoff + 1, exclude=excluded[rows])
            ids, values = as_array("lists", best), as_array("scores", values)
            tied = values[:, -1] == values[:, -2]
            self._add_certain(cutoff, ids[~tied, :cutoff])
            for place in np.flatnonzero(tied).tolist():
                above = ids[place, values[place] > values[place, -1]]
                row = int(rows[place])
                own_V = as_float32("scores", scores[row : row + 1])[0]
                equal = np.setdiff1d(np.flatnonzero(own_V == values[place, -1]), excluded[row])
                self._add_row(cutoff, above, equal, cutoff - len(above))

    def values(self) -> dict[str, float]:
        """Return the metrics by the names that were given; those are left out for which nothing was added.

        ``diversity`` is also left out if no list has two items with a vector, and ``popularity_bias`` if no
        target occurs in training.
        """
        found = {}
        for name, (kind, cutoff) in self.names.items():
            value = self._value(kind, cutoff)
            if value is not None:
                # Sums depend on how lists were divided into parts in their last digits.
                found[name] = float(f"{value:.12g}")
        return found

    def _value(self, kind: str, cutoff: int) -> float | None:
        exposure = self._exposures[cutoff]
        if not exposure.places:
            return None
        if kind == "coverage":
            return exposure.coverage()
        if kind == "gini":
            return exposure.gini()
        if kind == "diversity":
            return self._pairs[cutoff].mean()
        assert self._counts is not None
        if kind == "novelty":
            shares = np.maximum(self._counts, 1) / max(float(self._counts.sum()), 1.0)
            return exposure.mean(-np.log2(shares))
        popularity = exposure.mean(self._counts)
        if kind == "popularity":
            return popularity
        return popularity * self._num_targets / self._target_count if self._target_count else None

    def _add_targets(self, targets: ArrayLike | None, num_lists: int) -> None:
        if not self._needs_targets:
            return
        if targets is None:
            raise ValueError(
                "popularity_bias compares lists with targets; give targets, one id for each list"
            )
        ids = as_integers("targets", targets)
        if ids.shape != (num_lists,):
            raise ValueError(f"targets has shape {ids.shape}; expected ({num_lists},), one id for each list")
        check_range("targets", ids, 0, self.num_items)
        assert self._counts is not None
        self._target_count += float(self._counts[ids].sum())
        self._num_targets += len(ids)

    def _add_certain(self, cutoff: int, ids_NK: NDArray[Any]) -> None:
        self._exposures[cutoff].add(ids_NK)
        if cutoff in self._pairs:
            self._pairs[cutoff].add(ids_NK)

    def _add_row(self, cutoff: int, certain: NDArray[Any], tied: NDArray[Any], chosen: int) -> None:
        """Add a list of ``certain`` items and of ``chosen`` items among those that are ``tied``."""
        self._exposures[cutoff].add_share(certain, 1.0)
        if chosen:
            self._exposures[cutoff].add_share(tied, chosen / len(tied))
        if cutoff in self._pairs:
            self._pairs[cutoff].add_row(certain, tied, chosen)


class _Exposure:
    """How often each item is in a list, and the probability that it is in none."""

    def __init__(self, num_items: int) -> None:
        self._sum_V = np.zeros(num_items)
        self._log_absent_V = np.zeros(num_items)

    @property
    def places(self) -> float:
        return float(self._sum_V.sum())

    def add(self, ids: NDArray[Any]) -> None:
        self._sum_V += np.bincount(ids.ravel(), minlength=len(self._sum_V))
        self._log_absent_V[ids.ravel()] = -np.inf

    def add_share(self, ids: NDArray[Any], share: float) -> None:
        """Add one list that has each of different items with a probability."""
        self._sum_V[ids] += share
        self._log_absent_V[ids] += np.log1p(-share) if share < 1 else -np.inf

    def coverage(self) -> float:
        return float(-np.expm1(self._log_absent_V).sum()) / len(self._sum_V)

    def mean(self, values_V: NDArray[Any]) -> float:
        return float(self._sum_V @ values_V) / self.places

    def gini(self) -> float:
        ranks = np.arange(1, len(self._sum_V) + 1)
        weights = 2 * ranks - len(self._sum_V) - 1
        return float(weights @ np.sort(self._sum_V)) / (len(self._sum_V) * self.places)


class _UnitVectors:
    """Vectors that are scaled to length 1 when they are read, and their sum; zeros stay zeros."""

    def __init__(self, vectors_VF: NDArray[Any]) -> None:
        self._vectors_VF = vectors_VF
        rows = max(GATHERED // max(vectors_VF.shape[1], 1), 1)
        self._length_V = np.zeros(len(vectors_VF))
        for first in range(0, len(vectors_VF), rows):
            block = np.asarray(vectors_VF[first : first + rows], np.float64)
            self._length_V[first : first + rows] = np.sqrt((block * block).sum(1))
        self._all: tuple[Floats, int] | None = None

    @property
    def width(self) -> int:
        return int(self._vectors_VF.shape[1])

    def read(self, ids: NDArray[Any]) -> Floats:
        length = self._length_V[ids][..., None]
        read: Floats = np.asarray(self._vectors_VF[ids], np.float64) / np.where(length > 0, length, 1)
        return read

    def known(self, ids: NDArray[Any]) -> NDArray[np.bool_]:
        known: NDArray[np.bool_] = self._length_V[ids] > 0
        return known

    def sum(self, ids: NDArray[Any]) -> tuple[Floats, int]:
        """Return the sum of the vectors of different items, and how many of them are not zero."""
        if len(ids) > len(self._length_V) // 2:
            # The sum of all items without the others, which are fewer.
            if self._all is None:
                self._all = self._sum(np.arange(len(self._length_V)))
            others = np.ones(len(self._length_V), bool)
            others[ids] = False
            vector, number = self._sum(np.flatnonzero(others))
            return self._all[0] - vector, self._all[1] - number
        return self._sum(ids)

    def _sum(self, ids: NDArray[Any]) -> tuple[Floats, int]:
        rows, vector = max(GATHERED // max(self.width, 1), 1), np.zeros(self.width)
        for first in range(0, len(ids), rows):
            vector += self.read(ids[first : first + rows]).sum(0)
        return vector, int(self.known(ids).sum())


class _Pairs:
    """The sum of the distances of the pairs of all lists, and the number of pairs."""

    def __init__(self, vectors: _UnitVectors) -> None:
        self._vectors = vectors
        self._cosines, self._number = 0.0, 0.0

    def mean(self) -> float | None:
        return max(1 - self._cosines / self._number, 0.0) if self._number else None

    def add(self, ids_NK: NDArray[Any]) -> None:
        rows = max(GATHERED // max(ids_NK.shape[1] * self._vectors.width, 1), 1)
        for first in range(0, len(ids_NK), rows):
            block = ids_NK[first : first + rows]
            sum_NF, number_N = self._vectors.read(block).sum(1), self._vectors.known(block).sum(1)
            # The squared length of a sum has the product of each pair twice, and each vector with itself.
            self._cosines += float(((sum_NF * sum_NF).sum(1) - number_N).sum()) / 2
            self._number += float((number_N * (number_N - 1)).sum()) / 2

    def add_row(self, certain: NDArray[Any], tied: NDArray[Any], chosen: int) -> None:
        self.add(certain[None])
        if not chosen:
            return
        (first, number), (second, others) = self._vectors.sum(certain), self._vectors.sum(tied)
        # The probability that a tied item is in the list, and that two of them are.
        one, two = chosen / len(tied), chosen * (chosen - 1) / (len(tied) * (len(tied) - 1))
        self._cosines += one * float(first @ second) + two * (float(second @ second) - others) / 2
        self._number += one * number * others + two * others * (others - 1) / 2


def _checked(name: str, values: ArrayLike | None, needed_by: set[str]) -> NDArray[Any] | None:
    if not needed_by:
        return None
    if values is None:
        raise ValueError(f"{name} is missing; {', '.join(sorted(needed_by))} needs it, so give it")
    array = as_array(name, values)
    if array.dtype.kind not in "iuf":
        raise ValueError(f"{name} has dtype {array.dtype}; expected real numbers")
    return array

"""Ranking metrics as functions of exact counts, averaged over the order of tied items.

A sample is two counts: ``greater`` items score strictly above the target and ``tied`` score the same,
the target included. Its rank is then one of ``greater + 1 .. greater + tied``, each equally likely,
and a metric is the mean over these ranks (McSherry and Najork, "Computing information retrieval
performance measures efficiently in the presence of tied scores", ECIR 2008). With one target, Hits@K and
Recall@K are 1, Precision@K is 1 / K, NDCG@K is 1 / log2(rank + 1), and MRR@K and MAP@K are 1 / rank, where
rank <= K, else 0.

A sample may have several targets, such as the next basket: then its counts are rows (T,), padded with -1, and
each metric is the mean over all orders of all tied items. Where libraries define a metric differently, this
is ours, with R targets:

- Hits@K and MRR@K are those of the first target that the ranking contains.
- Recall@K divides the targets among the first K items by R, Precision@K by K.
- NDCG@K divides by the DCG of the best ranking, with min(R, K) targets at its head, as RecBole, ranx and
  torchmetrics do. RecTools divides by the DCG of K targets instead, even if R is smaller.
- MAP@K divides the sum of the precisions at the ranks of the targets by min(R, K), as RecBole does, so that
  the best ranking has 1. RecTools and ranx divide by R, torchmetrics by the number of targets found.

A target that is not a candidate cannot be found. It has ``tied`` 0; with one target, every metric of its
sample is 0, and with several it still counts as one of the R.

:mod:`alterrec.list_metrics` computes what needs whole lists of recommendations: coverage, novelty,
popularity, diversity and concentration.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Iterable, Sequence
from typing import Any, Literal, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from alterrec import _metrics_several as several
from alterrec._ranking_arguments import as_array
from alterrec.errors import nearest

__all__ = [
    "ALIASES",
    "DEFAULT_METRICS",
    "LIST_METRICS",
    "METRICS",
    "ListMetric",
    "Metric",
    "Ties",
    "metric_name",
    "metric_values",
    "metrics",
    "standard_name",
]

Ties = Literal["expected", "optimistic", "pessimistic"]


class Metric(NamedTuple):
    """One metric, known by its name with an optional cutoff: ``ndcg`` or ``ndcg@20``.

    Attributes:
        label: its name in tables.
        meaning: what it measures, in one line.
        gain: maps ranks, float64 and counted from 1, to gains between 0 and 1. Ties are averaged and the
            cutoff is applied by :func:`metric_values`.
        needs_cutoff: whether the metric says nothing without a cutoff.
        combine: how the gains of several targets of a sample become one value; default their sum.
    """

    label: str
    meaning: str
    gain: Callable[[NDArray[np.float64]], NDArray[np.float64]]
    needs_cutoff: bool = False
    combine: several.Combination = several.total


class ListMetric(NamedTuple):
    """A metric of whole lists of recommendations, known by its name with a cutoff: ``coverage@20``.

    Attributes:
        label: its name in tables.
        meaning: what it measures, in one line.
        unit: ``share`` (shown in percent), ``bits``, ``count`` or ``ratio``.
        smallest: the smallest cutoff for which it is defined.
    """

    label: str
    meaning: str
    unit: Literal["share", "bits", "count", "ratio"]
    smallest: int = 1


def _discounted(ranks: NDArray[np.float64]) -> NDArray[np.float64]:
    gains: NDArray[np.float64] = 1 / np.log2(ranks + 1)
    return gains


def _reciprocal(ranks: NDArray[np.float64]) -> NDArray[np.float64]:
    return 1 / ranks


METRICS: dict[str, Metric] = {
    "hits": Metric(
        "Hits", "share of sessions with a target among the first K items", np.ones_like, True, several.first
    ),
    "recall": Metric(
        "Recall",
        "share of the targets of a session that are among the first K items; with one target, Hits",
        np.ones_like,
        True,
        several.share_of_targets,
    ),
    "precision": Metric(
        "Precision",
        "share of the first K items that are targets; with one target, Hits divided by K",
        np.ones_like,
        True,
        several.share_of_places,
    ),
    "ndcg": Metric(
        "NDCG",
        "1 / log2(rank + 1) of the targets, relative to the best ranking",
        _discounted,
        combine=several.share_of_ideal,
    ),
    "mrr": Metric("MRR", "1 / rank of the first target", _reciprocal, combine=several.first),
    "map": Metric(
        "MAP",
        "mean precision at the ranks of the targets; with one target, MRR",
        _reciprocal,
        combine=several.average_precision,
    ),
}
LIST_METRICS: dict[str, ListMetric] = {
    "coverage": ListMetric(
        "Coverage", "share of the catalogue that is in the first K items of some session", "share"
    ),
    "novelty": ListMetric(
        "Novelty", "mean self-information of the first K items: -log2 of their share of training", "bits"
    ),
    "popularity": ListMetric(
        "Popularity", "mean number of training interactions of the first K items", "count"
    ),
    "popularity_bias": ListMetric(
        "Popularity bias", "popularity of the first K items relative to that of the targets", "ratio"
    ),
    "diversity": ListMetric(
        "Diversity", "mean distance (1 - cosine) of the texts of two of the first K items", "ratio", 2
    ),
    "gini": ListMetric(
        "Gini", "inequality of how often items are recommended: 0 = all alike, near 1 = a few", "ratio"
    ),
}
# Other names of metrics, in lower case; "-" counts as "_".
ALIASES: dict[str, str] = {
    "hit": "hits",
    "hr": "hits",
    "hit_rate": "hits",
    "hitrate": "hits",
    "hit_ratio": "hits",
    "success": "hits",
    "r": "recall",
    "p": "precision",
    "rr": "mrr",
    "ap": "map",
    "item_coverage": "coverage",
    "itemcoverage": "coverage",
    "catalog_coverage": "coverage",
    "arp": "popularity",
    "average_popularity": "popularity",
    "averagepopularity": "popularity",
    "ild": "diversity",
    "intra_list_diversity": "diversity",
    "gini_index": "gini",
    "giniindex": "gini",
}
MOST_ITEMS = 2**32
DEEPEST = 2**27  # ranks of a table of gains, which is 1 GiB
DEFAULT_METRICS = ("hits@10", "hits@20", "ndcg@10", "ndcg@20", "mrr@20")


def metrics(
    greater: ArrayLike,
    tied: ArrayLike,
    names: Sequence[str] = DEFAULT_METRICS,
    ties: Ties = "expected",
) -> dict[str, float]:
    """Return the mean of each metric over samples; it does not depend on their order, to the last bit.

    Args:
        greater: (N,) integers, number of items that score above the target; (N, T) for samples of up to T
            targets, padded with -1.
        tied: integers of the same shape, number of items that score the same as the target, including
            itself. 0 means that the target is not a candidate and cannot be found, whatever ``ties`` is.
        names: names in ``METRICS`` with a cutoff, as ``hits@K``, ``ndcg@K`` and ``mrr@K``; ``ndcg``, ``mrr``
            and ``map`` also without one. ``HR@K``, ``hit_rate@K`` and other names in ``ALIASES`` are the
            same metrics; case does not matter.
        ties: rank of the target among tied items: the mean over all orders (``expected``), the first
            (``optimistic``) or the last (``pessimistic``).

    Returns:
        Means, fractions between 0 and 1, by the names that were given, in their order.

    Raises:
        ValueError: no samples, counts of the wrong shape, type or range, or an unknown name.

    Example:
        >>> metrics([0, 3], [1, 2], names=["hits@4", "mrr"])
        {'hits@4': 0.75, 'mrr': 0.6125}

        Two sessions, the first with two targets at the ranks 1 and 4, the second with one at rank 2:

        >>> metrics([[0, 3], [1, -1]], [[1, 1], [1, -1]], names=["Recall@2", "HR@2", "precision@2"])
        {'Recall@2': 0.75, 'HR@2': 1.0, 'precision@2': 0.5}
    """
    means = {}
    for name in names:
        values = metric_values(greater, tied, name, ties)
        if len(values) == 0:
            raise ValueError(
                "greater and tied are empty, so there is nothing to average; give one sample or more"
            )
        # Exactly rounded, so that shards and batches in any order give the same bits.
        means[name] = math.fsum(values.tolist()) / len(values)
    return means


def metric_values(
    greater: ArrayLike, tied: ArrayLike, name: str, ties: Ties = "expected"
) -> NDArray[np.float64]:
    """Return one metric for each sample.

    Args:
        greater: (N,) integers, number of items that score above the target.
        tied: (N,) integers, number of items that score the same as the target, including itself; 0 means that
            it is not a candidate.
        name: name of the metric, as in :func:`metrics`.
        ties: rank of the target among tied items, as in :func:`metrics`; default their mean.

    Returns:
        Values (N,), float64, fractions between 0 and 1.

    Raises:
        ValueError: counts of the wrong shape, type or range, or an unknown name.

    Example:
        A target with one item above it and one equal to it is at rank 2 or 3:

        >>> metric_values([1], [2], "mrr") == (1 / 2 + 1 / 3) / 2
        array([ True])

        A target that is not a candidate is never found:

        >>> metric_values([0, 0], [1, 0], "mrr")
        array([1., 0.])
    """
    metric, cutoff = parse_metric(name)
    above, equal, is_target = _target_counts(greater, tied)
    found = is_target & (equal > 0)
    # What is not found is computed as if it were, and set to 0 at the end.
    above, equal = np.where(found, above, 0), np.where(found, equal, 1)
    if ties not in ("expected", "optimistic", "pessimistic"):
        raise ValueError(f"ties is {ties!r}; choose 'expected', 'optimistic' or 'pessimistic'")
    if ties != "expected":
        above, equal = _in_one_order(above, equal, found, ties), np.ones_like(equal)
    if len(above) == 0:
        return np.empty(0)
    last_rank = int((above + equal).max())
    depth = last_rank if cutoff is None else min(cutoff, last_rank)
    if depth > DEEPEST:
        raise ValueError(
            f"metric {name!r} would need a table of {depth} ranks; expected at most {DEEPEST}. Use a cutoff"
        )
    # gains[r - 1] is the gain of rank r; one more entry, zero, stands for all ranks beyond the cutoff.
    gains = np.append(metric.gain(np.arange(1, depth + 1, dtype=np.float64)), 0.0)
    total = np.concatenate([[0.0], np.cumsum(gains)])
    mean = (total[np.minimum(above + equal, depth)] - total[np.minimum(above, depth)]) / equal
    # A single rank needs no difference of sums, which would lose its last digits.
    expected = np.where(found, np.where(equal == 1, gains[np.minimum(above, depth)], mean), 0.0)
    most = above.shape[1]
    ideal = metric.gain(np.arange(1, most + 1, dtype=np.float64))
    ideal[most if cutoff is None else cutoff :] = 0
    return metric.combine(
        several.TargetGains(
            above,
            equal,
            found,
            expected,
            is_target.sum(1),
            gains,
            np.concatenate([[0.0], np.cumsum(ideal)]),
            cutoff,
        )
    )


def parse_metric(name: str) -> tuple[Metric, int | None]:
    """Return the metric of a name and its cutoff; ValueError if there is none.

    Example:
        >>> metric, cutoff = parse_metric("mrr@10")
        >>> metric.label, cutoff
        ('MRR', 10)
    """
    kind, cutoff = _parts(name, METRICS)
    if METRICS[kind].needs_cutoff and cutoff is None:
        raise ValueError(f"metric {kind!r} has no cutoff and would always be 1; write {kind}@10, for example")
    return METRICS[kind], cutoff


def parse_list_metric(name: str) -> tuple[str, int]:
    """Split the name of a list metric into its standard name and its cutoff.

    Raises:
        ValueError: an unknown name, or no cutoff or one that is too small.

    Example:
        >>> parse_list_metric("ILD@10")
        ('diversity', 10)
    """
    kind, cutoff = _parts(name, LIST_METRICS)
    smallest = LIST_METRICS[kind].smallest
    if cutoff is None or cutoff < smallest:
        found = "no cutoff" if cutoff is None else f"the cutoff {cutoff}"
        raise ValueError(f"metric {name!r} has {found}; use {smallest} or more, as in {kind}@10")
    return kind, cutoff


def is_list_metric(name: str) -> bool:
    """Whether a name is one of ``LIST_METRICS``, or another name of one.

    Example:
        >>> is_list_metric("coverage@20"), is_list_metric("ndcg@20")
        (True, False)
    """
    return _kind(name.partition("@")[0]) in LIST_METRICS


def standard_name(name: str) -> str:
    """Return the name under which results have a metric; ValueError if it is unknown.

    Example:
        >>> standard_name("HR@10"), standard_name("Recall@20"), standard_name("gini_index@5")
        ('hits@10', 'recall@20', 'gini@5')
    """
    kind, cutoff = _parts(name, {**METRICS, **LIST_METRICS})
    # What else may be wrong with the cutoff.
    _ = parse_list_metric(name) if kind in LIST_METRICS else parse_metric(name)
    return kind if cutoff is None else f"{kind}@{cutoff}"


def metric_name(name: str) -> str:
    """Return the name of a metric as tables show it; an unknown name stays as it is.

    Example:
        >>> metric_name("ndcg@20"), metric_name("mrr"), metric_name("loss")
        ('NDCG@20', 'MRR', 'loss')
    """
    kind, at, cutoff = name.partition("@")
    row = METRICS.get(kind) or LIST_METRICS.get(kind)
    return f"{row.label}{at}{cutoff}" if row else name


def _kind(kind: str) -> str:
    plain = kind.lower().replace("-", "_")
    return ALIASES.get(plain, plain)


def _parts(name: str, table: Collection[str]) -> tuple[str, int | None]:
    given, at, cutoff = name.partition("@")
    kind = _kind(given)
    if kind not in table:
        known = ", ".join(f"{each}@K" for each in table)
        other = kind in LIST_METRICS or kind in METRICS
        wrong = f"metric {name!r} is one of {'lists' if table is METRICS else 'targets'}, not allowed here"
        found = wrong if other else f"unknown metric {name!r}{nearest(kind, [*METRICS, *LIST_METRICS])}"
        raise ValueError(f"{found}; use {known} with a cutoff K")
    if at and not (cutoff.isascii() and cutoff.isdigit() and int(cutoff) >= 1):
        raise ValueError(f"metric {name!r} has the cutoff {cutoff!r}; use a whole number of 1 or more")
    return kind, int(cutoff) if at else None


def _target_counts(
    greater: ArrayLike, tied: ArrayLike
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.bool_]]:
    """Return counts (N, T) and whether each is that of a target, and not padding."""
    above, equal = _counts("greater", greater), _counts("tied", tied)
    if above.shape != equal.shape:
        both = above.ndim == equal.ndim == 1
        sizes = (len(above), len(equal)) if both else (above.shape, equal.shape)
        raise ValueError(
            f"greater has {sizes[0]} entries and tied has {sizes[1]}; give one of each for every sample"
        )
    if above.ndim == 1:
        above, equal = above[:, None], equal[:, None]
        return above, equal, np.ones(above.shape, np.bool_)
    is_target = above >= 0
    wrong = is_target != (equal >= 0)
    if wrong.any():
        row, place = np.argwhere(wrong)[0].tolist()
        raise ValueError(
            f"greater[{row}, {place}] is {above[row, place]} and tied[{row}, {place}] is "
            f"{equal[row, place]}; expected -1 in both where a sample has no further target"
        )
    empty = ~is_target.any(1)
    if empty.any():
        raise ValueError(f"sample {int(empty.argmax())} has no target; leave it out")
    for column in range(above.shape[1]):
        # Targets of one group are different items of it.
        same = ((above == above[:, [column]]) & is_target & (equal > 0)).sum(1)
        wrong_N = (same > equal[:, column]) & (equal[:, column] > 0)
        if wrong_N.any():
            row = int(wrong_N.argmax())
            raise ValueError(
                f"sample {row} has {same[row]} targets with {above[row, column]} items above them, but tied "
                f"is {equal[row, column]}; expected each target once"
            )
    return above, equal, is_target


def _in_one_order(
    above: NDArray[np.int64], equal: NDArray[np.int64], found: NDArray[np.bool_], ties: Ties
) -> NDArray[np.int64]:
    """Return the items above each target if the targets of a group are its first or its last items."""
    earlier, same = np.zeros_like(above), np.zeros_like(above)
    for column in range(above.shape[1]):
        together = (above == above[:, [column]]) & found[:, [column]]
        same += together
        earlier[:, column + 1 :] += together[:, column + 1 :]
    return above + earlier if ties == "optimistic" else above + equal - same.clip(1) + earlier


def _counts(argument: str, values: ArrayLike) -> NDArray[Any]:
    counts = as_array(argument, values)
    if counts.ndim not in (1, 2) or (counts.ndim == 2 and counts.shape[1] == 0):
        raise ValueError(
            f"{argument} has shape {counts.shape}; expected (N,), one count for each sample, or (N, T) for "
            "samples with several targets"
        )
    if counts.size == 0:
        return np.empty(counts.shape, np.int64)
    if counts.dtype.kind not in "iu":
        raise ValueError(f"{argument} has dtype {counts.dtype}; expected integers")
    lowest = 0 if counts.ndim == 1 else -1
    if counts.min() < lowest:
        place, allowed = counts.argmin(), f"{lowest} or more"
    elif counts.max() > MOST_ITEMS:
        place, allowed = counts.argmax(), "at most 2**32, the most items of a catalogue"
    else:
        return counts.astype(np.int64)
    where = ", ".join(map(str, np.unravel_index(place, counts.shape)))
    raise ValueError(f"{argument}[{where}] is {counts.flat[place]}; expected {allowed}")


def common_metrics(measured: Iterable[Collection[str]]) -> tuple[str, ...]:
    """Return the metrics that all results report, in the order of the first one; empty results are ignored.

    Example:
        >>> common_metrics([{"mrr@10": 0.1, "hits@20": 0.3}, {"hits@20": 0.4}])
        ('hits@20',)
    """
    found = [values for values in measured if values]
    return tuple(name for name in found[0] if all(name in values for values in found)) if found else ()

"""Ranking metrics as functions of exact counts, averaged over the order of tied items.

A sample is two counts: ``greater`` items score strictly above the target and ``tied`` score the same,
the target included. Its rank is then one of ``greater + 1 .. greater + tied``, each equally likely,
and a metric is the mean of its gain over these ranks (McSherry and Najork, "Computing information retrieval
performance measures efficiently in the presence of tied scores", ECIR 2008). With one relevant item,
Hits@K is 1 and NDCG@K is 1 / log2(rank + 1) and MRR@K is 1 / rank where rank <= K, else 0.

A target that is not a candidate cannot be found. It has ``tied`` 0, and every metric of its sample is 0.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Iterable, Sequence
from typing import Any, Literal, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from alterrec._ranking_arguments import as_array
from alterrec.errors import nearest

__all__ = ["DEFAULT_METRICS", "METRICS", "Metric", "Ties", "metric_name", "metric_values", "metrics"]

Ties = Literal["expected", "optimistic", "pessimistic"]


class Metric(NamedTuple):
    """One metric, known by its name with an optional cutoff: ``ndcg`` or ``ndcg@20``.

    Attributes:
        label: its name in tables.
        gain: maps ranks, float64 and counted from 1, to gains between 0 and 1. Ties are averaged and the
            cutoff is applied by :func:`metric_values`.
        needs_cutoff: whether the metric says nothing without a cutoff.
    """

    label: str
    gain: Callable[[NDArray[np.float64]], NDArray[np.float64]]
    needs_cutoff: bool = False


METRICS: dict[str, Metric] = {
    "hits": Metric("Hits", np.ones_like, needs_cutoff=True),
    "ndcg": Metric("NDCG", lambda ranks: 1 / np.log2(ranks + 1)),
    "mrr": Metric("MRR", lambda ranks: 1 / ranks),
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
        greater: (N,) integers, number of items that score above the target.
        tied: (N,) integers, number of items that score the same as the target, including itself. 0 means
            that the target is not a candidate; then every metric of the sample is 0, whatever ``ties`` is.
        names: names in ``METRICS`` with a cutoff, as ``hits@K``, ``ndcg@K`` and ``mrr@K``; ``ndcg`` and
            ``mrr`` also without one.
        ties: rank of the target among tied items: the mean over all orders (``expected``), the first
            (``optimistic``) or the last (``pessimistic``).

    Returns:
        Means by name, fractions between 0 and 1, in the order of ``names``.

    Raises:
        ValueError: no samples, counts of the wrong shape, type or range, or an unknown name.

    Example:
        >>> metrics([0, 3], [1, 2], names=["hits@4", "mrr"])
        {'hits@4': 0.75, 'mrr': 0.6125}
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
    above, equal = _counts("greater", greater), _counts("tied", tied)
    if above.shape != equal.shape:
        raise ValueError(
            f"greater has {len(above)} entries and tied has {len(equal)}; give one of each for every sample"
        )
    found = equal > 0
    # A target that is not a candidate is computed as if it were one, and set to 0 at the end.
    equal = np.maximum(equal, 1)
    if ties == "pessimistic":
        above = above + equal - 1
    elif ties not in ("expected", "optimistic"):
        raise ValueError(f"ties is {ties!r}; choose 'expected', 'optimistic' or 'pessimistic'")
    if ties != "expected":
        equal = np.ones_like(equal)
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
    values = np.where(equal == 1, gains[np.minimum(above, depth)], mean)
    return np.where(found, values, 0.0)


def parse_metric(name: str) -> tuple[Metric, int | None]:
    """Return the metric of a name and its cutoff; ValueError if there is none.

    Example:
        >>> metric, cutoff = parse_metric("mrr@10")
        >>> metric.label, cutoff
        ('MRR', 10)
    """
    kind, at, cutoff = name.partition("@")
    if kind not in METRICS:
        known = ", ".join(f"{each}@K" for each in METRICS)
        raise ValueError(f"unknown metric {name!r}{nearest(kind, METRICS)}; use {known} with a cutoff K")
    if at and not (cutoff.isascii() and cutoff.isdigit() and int(cutoff) >= 1):
        raise ValueError(f"metric {name!r} has the cutoff {cutoff!r}; use a whole number of 1 or more")
    if METRICS[kind].needs_cutoff and not at:
        raise ValueError(f"metric {kind!r} has no cutoff and would always be 1; write {kind}@10, for example")
    return METRICS[kind], int(cutoff) if at else None


def metric_name(name: str) -> str:
    """Return the name of a metric as tables show it; an unknown name stays as it is.

    Example:
        >>> metric_name("ndcg@20"), metric_name("mrr"), metric_name("loss")
        ('NDCG@20', 'MRR', 'loss')
    """
    kind, at, cutoff = name.partition("@")
    return f"{METRICS[kind].label}{at}{cutoff}" if kind in METRICS else name


def _counts(argument: str, values: ArrayLike) -> NDArray[Any]:
    counts = as_array(argument, values)
    if counts.ndim != 1:
        raise ValueError(f"{argument} has shape {counts.shape}; expected (N,), one count for each sample")
    if counts.size == 0:
        return np.empty(0, np.int64)
    if counts.dtype.kind not in "iu":
        raise ValueError(f"{argument} has dtype {counts.dtype}; expected integers")
    if counts.min() < 0:
        place = int(counts.argmin())
        raise ValueError(f"{argument}[{place}] is {counts[place]}; expected 0 or more")
    if counts.max() > MOST_ITEMS:
        place = int(counts.argmax())
        raise ValueError(
            f"{argument}[{place}] is {counts[place]}; expected at most 2**32, the most items of a catalogue"
        )
    return counts.astype(np.int64)


def common_metrics(measured: Iterable[Collection[str]]) -> tuple[str, ...]:
    """Return the metrics that all results report, in the order of the first one; empty results are ignored.

    Example:
        >>> common_metrics([{"mrr@10": 0.1, "hits@20": 0.3}, {"hits@20": 0.4}])
        ('hits@20',)
    """
    found = [values for values in measured if values]
    return tuple(name for name in found[0] if all(name in values for values in found)) if found else ()

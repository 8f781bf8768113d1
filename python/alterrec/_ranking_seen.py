"""Counts and scores for the items that a session has seen; `alterrec.ranking` exports these functions.

Shapes: B rows, V items, E seen items per row.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from alterrec import _core
from alterrec._ranking_arguments import (
    ArrayT,
    Ids,
    as_array,
    as_float32,
    default_threads,
    excluded_ids,
    is_tensor,
    like,
    matrix_shape,
    numbers_of,
    on_device,
    target_ids,
    temperature_values,
    view_shape,
    view_weights,
    writeable,
)


class SeenCounts(NamedTuple):
    """Counts of each target under different rules for the items that the session has seen.

    Each field is a pair ``greater`` and ``tied``, both (len(views) + 1, B), int64, as returned by
    :func:`fused_target_counts`: one row per view, then the weighted sum.

    Attributes:
        kept: all items are candidates.
        excluded: seen items are not candidates; a target that repeats one has ``tied`` 0.
        repeats: seen items have the scores of the repeat component; None without log odds.
    """

    kept: tuple[Any, Any]
    excluded: tuple[Any, Any]
    repeats: tuple[Any, Any] | None


def seen_target_counts(
    views: Sequence[ArrayT],
    weights: Sequence[float],
    targets: Ids,
    seen: Ids,
    *,
    log_odds: Any = None,
    temperatures: Sequence[float] | None = None,
) -> SeenCounts:
    """Count as :func:`fused_target_counts`, with the items of ``seen`` as candidates and without them.

    With ``log_odds``, count also under the repeat component. It gives each seen item j a probability of
    being the next item, and divides the rest among the other items by the softmax of ``score / T``. To rank
    items by these probabilities, the other items keep their scores, and the score of item j becomes
    ``T * (log_odds[j] + lse)``, where ``lse`` is the logsumexp of ``score / T`` over the items that are not
    seen. If the session repeats an item with probability ``rho``, and that item is j with probability
    ``share[j]``, the log odds are ``log(rho / (1 - rho)) + log(share[j])``.

    If every item is seen, or all other scores are -inf, ``lse`` is -inf and 0 is used in its place. If
    another item scores +inf, ``lse`` is +inf and all seen items score +inf. A score of -inf always means that
    a seen item is not a candidate: below the range of float32, the smallest finite number is used.

    Args:
        views, weights, targets: as in :func:`fused_target_counts`.
        seen: (B,) or (B, E) integer ids of the items that the session has seen; -1 is padding, and duplicates
            are fine.
        log_odds: numbers in the shape of ``seen``, rounded to float32, or (len(views) + 1, B, E): one matrix
            for each view and, last, for the weighted sum. Those of padding are ignored. If an item occurs
            several times in a row, its largest number counts. An item with -inf is not a candidate. Default:
            no counts under the repeat component.
        temperatures: T of each view and, last, of the weighted sum, between 1e-30 and 1e30. Default: all 1.

    Returns:
        The counts ``kept``, ``excluded`` and ``repeats``.

    Raises:
        ValueError: also for log odds that are NaN or +inf, or temperatures out of range.

    Example:
        The item seen, 0, has the best score, and the model gives it the probability 0.2. The others share 0.8
        equally, so the target, item 2, has 0.4:

        >>> scores = np.array([[9.0, 1.0, 1.0]], dtype=np.float32)
        >>> odds = [[np.log(0.2 / 0.8)]]
        >>> counts = seen_target_counts([scores], [1.0], [2], [[0]], log_odds=odds)
        >>> [greater[-1].tolist() for greater, tied in counts]
        [[1], [0], [0]]
        >>> [tied[-1].tolist() for greater, tied in counts]
        [[2], [2], [2]]
    """
    num_rows, _ = view_shape(views)
    factors = view_weights(weights, len(views))
    ids = target_ids(targets, num_rows)
    device = on_device(views[0])
    own = excluded_ids(seen, num_rows, device, "seen")
    odds = None if log_odds is None else _odds_of_views(log_odds, own, device, len(views) + 1)
    scales = temperature_values(temperatures, len(views) + 1)
    if device:
        rules = run_in_torch("seen_target_counts", views, factors.tolist(), ids, own, odds, scales.tolist())
        return SeenCounts(*rules)
    matrices = [as_float32(f"views[{place}]", view) for place, view in enumerate(views)]
    greater, tied = _core.seen_target_counts(matrices, factors, ids, own, odds, scales, default_threads())
    rows = [slice(start, start + len(scales)) for start in range(0, len(greater), len(scales))]
    pairs = [(like(views[0], greater[rule]), like(views[0], tied[rule])) for rule in rows]
    return SeenCounts(pairs[0], pairs[1], None if odds is None else pairs[2])


def _odds_of_views(log_odds: Any, own: Any, device: bool, views: int) -> list[Any]:
    """Return one matrix (B, E) for all views, or one for each view and for the weighted sum."""
    given = log_odds if is_tensor(log_odds) else as_array("log_odds", log_odds)
    if given.ndim == 3 and len(given) != views:
        raise ValueError(
            f"log_odds has shape {tuple(given.shape)}; expected {views} matrices, one for each view and one "
            "for the weighted sum"
        )
    return [numbers_of("log_odds", each, own, device) for each in (given if given.ndim == 3 else [given])]


def repeat_scores(scores: ArrayT, seen: Ids, log_odds: Any, temperature: float = 1.0) -> ArrayT:
    """Return the scores of seen items under the repeat component, as :func:`seen_target_counts` uses them.

    Written into the score matrix in place of the scores of these items, they give the ranking of the repeat
    component, for example by :func:`top_ranked`.

    Args:
        scores: (B, V) matrix of scores.
        seen, log_odds: as in :func:`seen_target_counts`.
        temperature: T, between 1e-30 and 1e30.

    Returns:
        Scores (B, E), float32. All entries of one item have the same score. Padding and items that are not
        candidates, but no others, have -inf.

    Example:
        >>> scores = np.array([[9.0, 0.0, 0.0]], dtype=np.float32)
        >>> repeat_scores(scores, [[0, -1]], [[0.0, 0.0]])  # log(exp(0) + exp(0))
        array([[0.6931472,      -inf]], dtype=float32)
    """
    num_rows, _ = matrix_shape("scores", scores)
    own = excluded_ids(seen, num_rows, on_device(scores), "seen")
    odds = numbers_of("log_odds", log_odds, own, on_device(scores))
    scale = float(temperature_values([temperature], 1)[0])
    if on_device(scores):
        return run_in_torch("repeat_scores", scores, own, odds, scale)
    values = _core.repeat_scores(as_float32("scores", scores), own, odds, scale, default_threads())
    return like(scores, values.reshape(own.shape))


def log_normaliser(scores: ArrayT, seen: Ids, temperatures: Sequence[float]) -> ArrayT:
    """Return the logsumexp of ``score / T`` over the items that are not seen, for several temperatures T.

    ``target_score / T`` minus this is the log probability of a target that is not seen, among such items. So
    the temperature with the largest mean fits the targets best.

    Args:
        scores: (B, V) matrix of scores.
        seen: as in :func:`seen_target_counts`.
        temperatures: (T,) numbers between 1e-30 and 1e30.

    Returns:
        Values (T, B), float64; -inf in rows without an item that is not seen.

    Example:
        >>> scores = np.array([[9.0, 0.0, 0.0]], dtype=np.float32)
        >>> log_normaliser(scores, [0], [1.0, 2.0]).round(4)
        array([[0.6931],
               [0.6931]])
    """
    num_rows, _ = matrix_shape("scores", scores)
    own = excluded_ids(seen, num_rows, on_device(scores), "seen")
    scales = temperature_values(temperatures, as_array("temperatures", temperatures).size)
    if on_device(scores):
        return run_in_torch("log_normaliser", scores, own, scales.tolist())
    values = _core.log_normaliser(as_float32("scores", scores), own, scales, default_threads())
    return like(scores, np.ascontiguousarray(values.reshape(num_rows, len(scales)).T))


def run_in_torch(function: str, *arguments: Any) -> Any:
    from alterrec import _ranking_torch

    return getattr(_ranking_torch, function)(*map(writeable, arguments))

"""Choose a system, the weights of its parts and the scales of the repeat component on validation."""

from __future__ import annotations

import copy
from collections.abc import Iterable, Mapping, Sequence
from typing import TypeVar

import numpy as np
from torch import Tensor

from alterrec.evaluation.evaluate import (
    Counts,
    Protocol,
    ScoredChunk,
    count_targets,
    evaluate,
    score_chunks,
)
from alterrec.evaluation.scales import (
    K,
    Views,
    better_than_default,
    evenly_spaced,
    fit_scales,
    fit_sum_scales,
    scored_sums,
    scored_views,
)
from alterrec.metrics import metric_values, metrics
from alterrec.models.base import Recommender, RepeatScale, Scorer
from alterrec.sessions import SessionStore

# Values of alpha in Figure 7, those that are tried, and weights of parts without training that are tried.
CURVE = tuple(round(0.1 * step, 1) for step in range(11))
ALPHAS = CURVE[1:-1]
UNTRAINED_WEIGHTS = {
    "neighbours": (0.1, 0.25, 0.5, 1.0, 2.0, 4.0),
    "trend": (0.1, 0.2, 0.35, 0.5, 0.8, 1.2),
}

# Multiples of a fitted temperature that are tried, and on how many validation targets.
MULTIPLES = (0.25, 0.5, 2.0)
SCALE_SAMPLES = 1024

S = TypeVar("S", bound=Scorer)


def choose_system(candidates: Iterable[S], valid: SessionStore, protocol: Protocol, metric: str) -> S:
    """Return the candidate with the best validation metric; the first if there are no validation targets."""
    best, best_value = None, -np.inf
    for candidate in candidates:
        candidate.scales = choose_scales(candidate, valid, protocol, metric)
        if best is not None and valid.num_sessions == 0:
            break
        value = evaluate(candidate, valid, protocol).metrics().get(metric, 0.0)
        if best is None or value > best_value:
            best, best_value = candidate, value
    assert best is not None
    return best


def choose_scales(
    model: Scorer, valid: SessionStore, protocol: Protocol, metric: str
) -> dict[str, RepeatScale]:
    """Fit the scales of every view, then choose their temperatures by a metric.

    The likelihood assumes that probabilities fall exponentially with scores. Scores of neighbour methods do
    not: for V-SKNN on the built-in catalogue, a quarter of the fitted temperature raises NDCG@20 from 17.6 to
    18.7. Multiples of the temperature are therefore tried. One replaces it only if its paired gain on
    validation exceeds its standard error.

    Returns:
        View -> scale; empty if the protocol has no repeat component or there are no validation targets.
    """
    scales = fit_scales(model, valid, protocol)
    return _checked(scales, model, valid, protocol, metric, lambda chunk: scored_views(model, chunk))


def choose_sum_scales(
    model: Scorer, valid: SessionStore, protocol: Protocol, metric: str, rows: list[dict[str, float]]
) -> list[RepeatScale]:
    """Choose the scale of the weighted sum for each row of weights, as :func:`choose_scales` does."""
    scales = dict(enumerate(fit_sum_scales(model, valid, protocol, rows)))
    views = scored_sums(model, rows)
    return list(_checked(scales, model, valid, protocol, metric, views).values())


def _checked(
    scales: dict[K, RepeatScale],
    model: Scorer,
    valid: SessionStore,
    protocol: Protocol,
    metric: str,
    views: Views[K],
) -> dict[K, RepeatScale]:
    """Return the scales with temperatures replaced by multiples that are better on validation."""
    samples = evenly_spaced(valid.prefixes(protocol.targets), SCALE_SAMPLES)
    if protocol.repeats is None or not len(samples) or not scales:
        return scales
    values: dict[tuple[K, float], list[np.ndarray]] = {}
    for chunk in score_chunks(model, valid, samples, protocol):
        for key, scores_NV in views(chunk):
            for multiple in (1.0, *MULTIPLES):
                own = _scaled(scales[key], multiple)
                counts = sum_counts(chunk, {"view": scores_NV}, {"view": 1.0}, protocol, own)
                values.setdefault((key, multiple), []).append(metric_values(*counts, metric))
    chosen = {}
    for key, scale in scales.items():
        default, *others = (np.concatenate(values[key, multiple]) for multiple in (1.0, *MULTIPLES))
        best = better_than_default(default, others)
        chosen[key] = scale if best is None else _scaled(scale, MULTIPLES[best])
    return chosen


def _scaled(scale: RepeatScale, multiple: float) -> RepeatScale:
    """Multiply a temperature; how items of the prefix share their probability stays as it is."""
    return RepeatScale(scale.temperature * multiple, scale.affinity * multiple)


def choose_weights(
    model: Recommender,
    valid: SessionStore,
    protocol: Protocol,
    metric: str,
    *,
    tune_alpha: bool,
    further: Mapping[str, Sequence[Scorer]] | None = None,
) -> dict[str, float]:
    """Choose the weights of the parts of Eq. 6, and further parts that are not trained.

    Alpha is chosen first, then the weight of each further part, each from a small grid. A value replaces its
    default (alpha as given, 0 for the others) only if its paired gain on validation exceeds its standard
    error.

    Args:
        model: two networks, whose ``untrained`` gets the further parts.
        valid: the validation sessions.
        protocol: how targets are ranked.
        metric: the metric that chooses.
        tune_alpha: whether alpha is chosen.
        further: part -> systems, of which the one with the best metric in the sum becomes the part.

    Returns:
        Part -> weight.
    """
    weights = dict(model.weights)
    if tune_alpha:
        rows = [weights | {"id": alpha, "text": 1 - alpha} for alpha in ALPHAS]
        weights = _chosen(model, valid, protocol, metric, weights, rows)[0]
    for part, systems in (further or {}).items():
        default, tried = weights | {part: 0.0}, []
        rows = [weights | {part: weight} for weight in UNTRAINED_WEIGHTS[part]]
        for system in systems:
            model.untrained[part] = system
            tried.append((*_chosen(model, valid, protocol, metric, default, rows), system))
        weights, _, model.untrained[part] = max(tried, key=lambda row: row[1])
    return weights


def _chosen(
    model: Recommender,
    valid: SessionStore,
    protocol: Protocol,
    metric: str,
    default: Mapping[str, float],
    rows: list[dict[str, float]],
) -> tuple[dict[str, float], float]:
    """Return the weights to use, and the mean of their metric on validation."""
    tried = [dict(default), *rows]
    counts = _counts(model, valid, protocol, tried, choose_sum_scales(model, valid, protocol, metric, tried))
    values = [metric_values(greater, tied, metric) for greater, tied in counts]
    best = better_than_default(values[0], values[1:])
    chosen = 0 if best is None else best + 1
    return tried[chosen], float(values[chosen].mean())


def alpha_curves(
    model: Recommender, valid: SessionStore, test: SessionStore, protocol: Protocol, metric: str
) -> list[dict[float, dict[str, float]]]:
    """Compute metrics of ``alpha * id + (1 - alpha) * text`` (Eq. 6) for alpha 0, 0.1, ..., 1 (Figure 7).

    Alpha is the same for all prefixes, even if the model has a gate.

    Returns:
        Alpha -> metrics, on validation and on test.
    """
    model = copy.copy(model)
    model.gate = None
    rows = [dict.fromkeys(model.weights, 0.0) | {"id": alpha, "text": 1 - alpha} for alpha in CURVE]
    scales = choose_sum_scales(model, valid, protocol, metric, rows)
    return [
        {
            alpha: metrics(*counts, protocol.metrics) if len(counts[0]) else {}
            for alpha, counts in zip(CURVE, _counts(model, store, protocol, rows, scales), strict=True)
        }
        for store in (valid, test)
    ]


def _counts(
    model: Recommender,
    store: SessionStore,
    protocol: Protocol,
    rows: Sequence[dict[str, float]],
    scales: Sequence[RepeatScale],
) -> list[Counts]:
    """Return (greater, tied) of every target for each row of weights."""
    none = np.empty(0, np.int64)
    found: list[list[Counts]] = [[(none, none)] for _ in rows]
    for chunk in score_chunks(model, store, store.prefixes(protocol.targets), protocol):
        summands = model.summands(chunk.parts, chunk.batch)
        for row, weights, scale in zip(found, rows, scales, strict=True):
            row.append(sum_counts(chunk, summands, weights, protocol, scale))
    return [(np.concatenate([g for g, _ in row]), np.concatenate([t for _, t in row])) for row in found]


def sum_counts(
    chunk: ScoredChunk,
    terms: Mapping[str, Tensor],
    weights: Mapping[str, float],
    protocol: Protocol,
    scale: RepeatScale,
) -> Counts:
    """Return (greater, tied) of each target by the weighted sum of some terms, under the protocol's rule.

    Args:
        chunk: the samples.
        terms: part -> scores (N, V).
        weights: weight of each part.
        protocol: how targets are ranked.
        scale: scale of the weighted sum under the repeat component.
    """
    by_view = count_targets(chunk, terms, weights, protocol, {"score": scale})
    greater, tied = by_view["score"][protocol.seen]
    return np.asarray(greater.cpu()), np.asarray(tied.cpu())

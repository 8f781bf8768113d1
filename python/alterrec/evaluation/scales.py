"""Fit the scales of the repeat component to a system's scores on validation.

The component mixes counted probabilities with the softmax of scores, so scores must be on the scale of
log-probabilities. Networks that are trained against samples, weighted sums, and neighbours are not: their
temperature is fitted by likelihood (Guo et al., "On calibration of modern neural networks", ICML 2017).

Legend: N samples, V items, L places of a prefix, G temperatures.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterator, Mapping, Sequence
from typing import TypeVar

import numpy as np
from torch import Tensor

from alterrec.data.repeats import last_occurrences, repeat_distances
from alterrec.evaluation.evaluate import Protocol, ScoredChunk, score_chunks, weighted_sum
from alterrec.models.base import RepeatScale, Scorer, separate_parts, trained_parts
from alterrec.ranking import log_normaliser
from alterrec.sessions import SessionStore

# Each scale is fitted on at most this many targets, evenly spaced.
SAMPLES = 256
# Temperatures are multiples of the spread of scores in a row, measured on this many samples.
ANCHORS = 16
TEMPERATURES = 2.0 ** (np.arange(-10, 7) / 2)
AFFINITIES = (0.0, 0.125, 0.25, 0.375, 0.5, 0.75, 1.0)

K = TypeVar("K", bound=Hashable)
Views = Callable[[ScoredChunk], Iterator[tuple[K, Tensor]]]


def fit_scales(model: Scorer, valid: SessionStore, protocol: Protocol) -> dict[str, RepeatScale]:
    """Fit temperature and affinity of every view of a system on validation.

    The temperature maximises the likelihood of targets that are not in their prefix among the items that are
    not either. The affinity maximises that of repeated targets among the items of their prefix; it stays 0
    unless its gain exceeds its standard error.

    Returns:
        View -> scale; empty if the protocol has no repeat component or there are no validation targets.
    """
    return _fit(model, valid, protocol, lambda chunk: scored_views(model, chunk))


def scored_views(model: Scorer, chunk: ScoredChunk) -> Iterator[tuple[str, Tensor]]:
    """Yield every view of a system with its scores (N, V), each valid until the next one."""
    summands = model.summands(chunk.parts, chunk.batch)
    yield "score", weighted_sum(summands, model.weights)
    yield from ((part, chunk.parts[part]) for part in separate_parts(model))
    pair = trained_parts(model, summands)
    if len(pair) < len(summands):
        yield "fused", weighted_sum(pair, model.weights)


def fit_sum_scales(
    model: Scorer, valid: SessionStore, protocol: Protocol, rows: list[dict[str, float]]
) -> list[RepeatScale]:
    """Fit the scale of the weighted sum for each row of weights; see :func:`fit_scales`."""
    found = _fit(model, valid, protocol, scored_sums(model, rows))
    return [found.get(number, RepeatScale()) for number in range(len(rows))]


def scored_sums(model: Scorer, rows: list[dict[str, float]]) -> Views[int]:
    """Return a function that yields the weighted sum (N, V) of each row of weights."""

    def views(chunk: ScoredChunk) -> Iterator[tuple[int, Tensor]]:
        summands = model.summands(chunk.parts, chunk.batch)
        for number, weights in enumerate(rows):
            yield number, weighted_sum(summands, weights)

    return views


def _fit(model: Scorer, valid: SessionStore, protocol: Protocol, views: Views[K]) -> dict[K, RepeatScale]:
    if protocol.repeats is None:
        return {}
    samples = valid.prefixes(protocol.targets)
    repeats = repeat_distances(valid)[valid.offsets[samples[:, 0]] + samples[:, 1]] > 0
    new, repeated = (evenly_spaced(samples[which], SAMPLES) for which in (~repeats, repeats))
    temperatures = _fit_temperatures(model, valid, protocol, views, new)
    affinities = _fit_affinities(model, valid, protocol, views, repeated, temperatures)
    return {
        key: RepeatScale(temperature, affinities.get(key, 0.0)) for key, temperature in temperatures.items()
    }


def evenly_spaced(samples: np.ndarray, most: int) -> np.ndarray:
    """Return at most ``most`` of the rows, evenly spaced."""
    chosen = np.linspace(0, len(samples) - 1, min(len(samples), most)).round().astype(np.int64)
    return samples[chosen]


def _fit_temperatures(
    model: Scorer, valid: SessionStore, protocol: Protocol, views: Views[K], samples: np.ndarray
) -> dict[K, float]:
    spreads: dict[K, list[float]] = {}
    for chunk in score_chunks(model, valid, samples[:ANCHORS], protocol):
        for key, scores_NV in views(chunk):
            spreads.setdefault(key, []).extend(_spread(row) for row in _host(scores_NV))
    grids = {key: float(np.median(values)) * TEMPERATURES for key, values in spreads.items()}
    losses: dict[K, list[np.ndarray]] = {}
    for chunk in score_chunks(model, valid, samples, protocol):
        for key, scores_NV in views(chunk):
            if not grids[key][0] > 0:
                continue
            own_N = scores_NV.gather(1, chunk.targets_N[:, None])[:, 0].cpu().numpy().astype(np.float64)
            normaliser_GN = _host(log_normaliser(scores_NV, chunk.seen_NL, grids[key].tolist()))
            losses.setdefault(key, []).append(normaliser_GN - own_N / grids[key][:, None])
    fitted = {}
    for key, grid in grids.items():
        loss_GN = np.concatenate(losses[key], 1) if key in losses else np.empty((len(grid), 0))
        # A part that cannot score a cold target says nothing about the temperature.
        loss_GN = loss_GN[:, np.isfinite(loss_GN).all(0)]
        fitted[key] = float(grid[loss_GN.mean(1).argmin()]) if loss_GN.size else 1.0
    return fitted


def _fit_affinities(
    model: Scorer,
    valid: SessionStore,
    protocol: Protocol,
    views: Views[K],
    samples: np.ndarray,
    temperatures: Mapping[K, float],
) -> dict[K, float]:
    assert protocol.repeats is not None
    found: dict[K, list[np.ndarray]] = {}
    for chunk in score_chunks(model, valid, samples, protocol):
        seen_NL, target_N1 = _host(chunk.seen_NL), _host(chunk.targets_N)[:, None]
        chosen_NL = (seen_NL == target_N1) & last_occurrences(seen_NL)
        for key, scores_NV in views(chunk):
            if key not in temperatures:
                continue
            own_NL = _host(scores_NV.gather(1, chunk.seen_NL.clamp(min=0))) / temperatures[key]
            shares = [
                protocol.repeats.log_shares(seen_NL, own_NL, affinity)[chosen_NL] for affinity in AFFINITIES
            ]
            found.setdefault(key, []).append(np.stack(shares, 1))
    fitted = {}
    for key, rows in found.items():
        default, *others = np.concatenate(rows).T
        best = better_than_default(default, others)
        fitted[key] = AFFINITIES[0 if best is None else best + 1]
    return fitted


def better_than_default(default_N: np.ndarray, others: Sequence[np.ndarray]) -> int | None:
    """Return the index of the best of ``others`` if its mean gain exceeds the standard error of the gain.

    Args:
        default_N: metric, or log-likelihood, of each sample with the default.
        others: the same with each other setting.

    Returns:
        An index, or None to keep the default.

    Example:
        >>> better_than_default(np.array([0.0, 0.1]), [np.array([0.3, 0.5]), np.array([0.1, 0.0])])
        0
    """
    if len(default_N) < 2 or not others:
        return None
    gains = [values - default_N for values in others]
    best = int(np.argmax([gain.mean() for gain in gains]))
    error = gains[best].std(ddof=1) / np.sqrt(len(default_N))
    return best if gains[best].mean() > error else None


def _spread(scores_V: np.ndarray) -> float:
    """Return the standard deviation of the finite scores of a row, 0 if there are none."""
    finite = scores_V[np.isfinite(scores_V)]
    return float(finite.std(dtype=np.float64)) if len(finite) else 0.0


def _host(values: Tensor) -> np.ndarray:
    return values.cpu().numpy()

"""Evaluate a system on a session store; choose settings and weights of the parts of a score on validation.

Scores are computed in chunks, of which only counts are kept.

Legend: N samples, V items, D width.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, TypeVar

import numpy as np
import torch
from torch import Tensor

from alterrec.metrics import DEFAULT_METRICS, metric_values, metrics
from alterrec.models.base import Recommender, Scorer, SessionBatch
from alterrec.nn.layers import on_device
from alterrec.nn.losses import ScoreBuffer, candidate_cross_entropy
from alterrec.ranking import cross_entropy_, fused_target_counts, target_counts, top_ranked, uniform_items
from alterrec.sessions import PrefixBatches, SessionStore

# Memory limit of score matrices in bytes, unless a budget sets a lower one.
SCORE_BYTES = 2**30
# Losses on the same sample are compared with each other, so its error cancels; a larger one only costs time.
SAMPLES = 512
# Values of alpha in Figure 7, those that are tried, and weights of neighbours that are tried.
CURVE = tuple(round(0.1 * step, 1) for step in range(11))
ALPHAS = CURVE[1:-1]
NEIGHBOUR_WEIGHTS = (0.0, 0.5, 1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0, 128.0)

S = TypeVar("S", bound=Scorer)


@dataclass(frozen=True)
class Ranks:
    """For each target and view, the number of items with a higher and with an equal score (itself included).

    Attributes:
        views: view -> (greater, tied), each (N,) int64.
        samples: (N, 2) int64 session index and position of the target.
        targets: (N,) int64 item ids.
        names: the metrics to report.
    """

    views: dict[str, tuple[np.ndarray, np.ndarray]]
    samples: np.ndarray
    targets: np.ndarray
    names: tuple[str, ...] = DEFAULT_METRICS

    def metrics(self, view: str = "score", where: np.ndarray | None = None) -> dict[str, float]:
        """Metrics of a view over the targets ``where`` (bool, default all); empty if there are none."""
        greater, tied = (values if where is None else values[where] for values in self.views[view])
        return metrics(greater, tied, self.names) if len(greater) else {}

    def all_metrics(self, where: np.ndarray | None = None) -> dict[str, dict[str, float]]:
        """Metrics of every view."""
        return {view: self.metrics(view, where) for view in self.views}

    def tied_share(self) -> dict[str, float]:
        """Share of targets that tie with another item, by view."""
        return {
            view: float((tied > 1).mean()) if len(tied) else 0.0 for view, (_, tied) in self.views.items()
        }


@dataclass(frozen=True)
class Protocol:
    """How targets are ranked, the same for every system of a comparison.

    Attributes:
        targets: ``last`` or ``every``.
        exclude_seen: exclude the items of the prefix from the candidates; the target is never excluded.
        max_len: number of last items of a prefix that encoders read; exclusion uses the whole prefix.
        budget_bytes: memory limit of score matrices.
        device: torch device of the model.
        metrics: the metrics to report.
    """

    targets: Literal["last", "every"]
    exclude_seen: bool
    max_len: int
    budget_bytes: int = SCORE_BYTES
    device: str = "cpu"
    metrics: tuple[str, ...] = DEFAULT_METRICS


def evaluate(model: Scorer, store: SessionStore, protocol: Protocol) -> Ranks:
    """Return the exact ranks of all targets of ``store`` over the whole catalogue.

    Views are ``score``; each part, if there is more than one; and ``fused`` (ID and text only), if neighbours
    are a third part. A target that repeats an item of its prefix is ranked as well.

    Raises:
        ValueError: a score is NaN; the message names row and column.
    """
    greater: dict[str, list[np.ndarray]] = {}
    tied: dict[str, list[np.ndarray]] = {}

    def add(view: str, counts: tuple[Any, Any]) -> None:
        greater.setdefault(view, []).append(_numpy(counts[0]))
        tied.setdefault(view, []).append(_numpy(counts[1]))

    samples = store.prefixes(protocol.targets)
    targets = store.items.astype(np.int64)[store.offsets[samples[:, 0]] + samples[:, 1]]
    for parts, seen, wanted in score_chunks(model, store, samples, protocol):
        summands = model.summands(parts)
        names = list(parts)
        fused = fused_target_counts(
            list(summands.values()), [model.weights[name] for name in names], wanted, exclude=seen
        )
        add("score", (fused[0][-1], fused[1][-1]))
        if len(names) == 1:
            continue
        for row, name in enumerate(names):
            unchanged = summands[name] is parts[name]
            counts = (fused[0][row], fused[1][row])
            add(name, counts if unchanged else target_counts(parts[name], wanted, exclude=seen))
        if "neighbours" in parts:
            pair = [name for name in names if name != "neighbours"]
            two = fused_target_counts(
                [summands[name] for name in pair],
                [model.weights[name] for name in pair],
                wanted,
                exclude=seen,
            )
            add("fused", (two[0][-1], two[1][-1]))
    empty = np.empty(0, np.int64)
    views = {view: (np.concatenate(greater[view]), np.concatenate(tied[view])) for view in greater}
    return Ranks(views or {"score": (empty, empty)}, samples, targets, protocol.metrics)


def top_items(model: Scorer, store: SessionStore, protocol: Protocol, k: int) -> np.ndarray:
    """Return the ``k`` highest-scored items of each target, (N, k) int64.

    Raises:
        ValueError: fewer than ``k`` candidates are left for a target.
    """
    found = [np.empty((0, k), np.int64)]
    for parts, seen, _ in score_chunks(model, store, store.prefixes(protocol.targets), protocol):
        total = weighted_sum(model.summands(parts), model.weights)
        found.append(_numpy(top_ranked(total, k, exclude=seen)[0]))
    return np.concatenate(found)


def weighted_sum(summands: Mapping[str, Tensor], weights: Mapping[str, float]) -> Tensor:
    """The score (N, V): the weighted sum of its parts; a single part of weight 1 is not copied."""
    (first, part), *others = summands.items()
    if not others and weights[first] == 1:
        return part
    total = weights[first] * part
    for name, part in others:
        total.add_(part, alpha=weights[name])
    return total


def score_chunks(
    model: Scorer, store: SessionStore, samples: np.ndarray, protocol: Protocol
) -> Iterator[tuple[dict[str, Tensor], Tensor | None, Tensor]]:
    """Yield (part scores, excluded items or None, targets) in chunks that fit the memory budget."""
    with torch.inference_mode():
        tables = model.prepare()
        rows = chunk_rows(store.num_items, len(model.weights), protocol.budget_bytes)
        fixed: dict[str, Any] = {"shuffle": False, "samples": samples}
        longest = int(store.lengths.max(initial=1))
        read = PrefixBatches(store, rows, protocol.max_len, layout="by_session", **fixed)
        whole = PrefixBatches(store, rows, longest, pad=-1, **fixed)
        for batch, prefix in zip(read, whole, strict=True):
            wanted, seen = (on_device(values, protocol.device) for values in (batch.targets, prefix.items))
            parts = model.part_scores(SessionBatch.of(batch, protocol.device), tables)
            yield parts, seen if protocol.exclude_seen else None, wanted


def chunk_rows(num_items: int, parts: int, budget_bytes: int) -> int:
    """Samples per chunk, which holds float32 scores of each part, their summands and two scratch matrices.

    Example:
        >>> chunk_rows(num_items=1_000_000, parts=2, budget_bytes=2**30)
        44
    """
    return int(np.clip(budget_bytes // (4 * num_items * (2 * parts + 2)), 1, 512))


def recommend_items(
    model: Scorer,
    sessions: Sequence[np.ndarray],
    k: int,
    protocol: Protocol,
    num_items: int,
    users: np.ndarray | None = None,
) -> tuple[np.ndarray, np.ndarray]:
    """Return the ``k`` best next items of each session, best first.

    Args:
        model: any system.
        sessions: int64 item ids of each session, oldest first, at least one.
        k: items per session; at most the number of candidates left by exclusion.
        protocol: how items are ranked; its ``targets`` is not used.
        num_items: size of the catalogue.
        users: (S,) int64 user of each session, -1 for unknown users; only some systems read them.

    Returns:
        ids (S, k) int64 and scores (S, k) float32.

    Raises:
        ValueError: fewer than ``k`` candidates are left for a session.
    """
    ids = [np.empty((0, k), np.int64)]
    scores = [np.empty((0, k), np.float32)]
    with torch.inference_mode():
        tables = model.prepare()
        rows = chunk_rows(num_items, len(model.weights), protocol.budget_bytes)
        for first in range(0, len(sessions), rows):
            chunk = sessions[first : first + rows]
            read = [items[-protocol.max_len :] for items in chunk]
            lengths = torch.tensor([len(items) for items in read], device=protocol.device)
            batch = SessionBatch.of_prefixes(_padded(read, 0).to(protocol.device), lengths)
            if users is not None:
                batch = batch._replace(user_N=on_device(users[first : first + rows], protocol.device))
            summands = model.summands(model.part_scores(batch, tables))
            total = weighted_sum(summands, model.weights)
            seen = _padded(chunk, -1).to(protocol.device) if protocol.exclude_seen else None
            best_ids, best_scores = top_ranked(total, k, exclude=seen)
            ids.append(_numpy(best_ids))
            scores.append(_numpy(best_scores))
    return np.concatenate(ids), np.concatenate(scores)


def _padded(rows: Sequence[np.ndarray], pad: int) -> Tensor:
    tensors = [torch.from_numpy(np.asarray(row, np.int64)) for row in rows]
    return torch.nn.utils.rnn.pad_sequence(tensors, batch_first=True, padding_value=pad)


def _numpy(values: Any) -> np.ndarray:
    return values.cpu().numpy() if isinstance(values, Tensor) else np.asarray(values)


def fixed_samples(store: SessionStore, most: int = SAMPLES) -> np.ndarray:
    """At most ``most`` pairs (session, position) from evenly spaced sessions, the same for every model.

    Each session gives one prefix, whose length is drawn with the session's number as seed.

    Example:
        >>> store = SessionStore.from_arrays([0, 0, 1, 2, 2], [4, 2, 3, 1, 0])
        >>> fixed_samples(store).tolist()
        [[0, 1], [2, 1]]
    """
    long = np.flatnonzero(store.lengths > 1)
    chosen = long[np.linspace(0, len(long) - 1, min(most, len(long))).round().astype(np.int64)]
    drawn = uniform_items(chosen, 1, 2**32)[:, 0]
    return np.stack([chosen, 1 + drawn % (store.lengths[chosen] - 1)], 1).astype(np.int64)


def part_losses(model: Recommender, store: SessionStore, protocol: Protocol) -> dict[str, float]:
    """Cross-entropy over the whole catalogue of the score and of each of its parts, without dropout.

    It is the training loss of Figures 3 and 9 of the paper, on :func:`fixed_samples` of ``store``. The parts
    are the summands of the score, so each is divided by the temperature that it was trained with.

    Returns:
        View -> mean loss in nats; empty if no session has two items.
    """
    losses: dict[str, list[Tensor]] = {}
    for parts, seen, wanted in score_chunks(model, store, fixed_samples(store), protocol):
        summands = model.summands(parts)
        views = {"score": weighted_sum(summands, model.weights)}
        views |= summands if len(summands) > 1 else {}
        for view, scores_NV in views.items():
            # In place: another matrix of this size would exceed the memory plan.
            losses.setdefault(view, []).append(
                cross_entropy_(scores_NV, wanted[:, None], torch.ones(1, device=wanted.device), exclude=seen)
            )
    return {view: float(torch.cat(values).double().mean()) for view, values in losses.items()}


def part_gradients(model: Recommender, store: SessionStore, protocol: Protocol) -> dict[str, float]:
    """Norm of the gradient of each part's columns of the item table, without dropout.

    It is the gradient of the loss that trains the part: the cross-entropy over the catalogue of the score of
    its network. That is the sum of all parts if one network has several (naive fusion), and the part alone if
    each part is a network (AlterRec).

    Returns:
        Part -> norm, or ``score`` -> norm if there is only one part; empty if no session has two items.
    """
    samples = fixed_samples(store)
    if not len(samples):
        return {}
    longest = int(store.lengths.max(initial=1))
    fixed: dict[str, Any] = {"shuffle": False, "samples": samples}
    (read,) = PrefixBatches(store, len(samples), protocol.max_len, layout="by_session", **fixed)
    (whole,) = PrefixBatches(store, len(samples), longest, pad=-1, **fixed)
    wanted, seen = (on_device(values, protocol.device) for values in (read.targets, whole.items))
    batch = SessionBatch.of(read, protocol.device)
    rows = chunk_rows(store.num_items, len(model.weights), protocol.budget_bytes)
    found: dict[str, float] = {}
    for name in model.networks:
        network = model.network(name)
        with torch.no_grad():
            tables = network.item_tables()
            vectors_ND = network.encode_sessions(batch, tables)
        table_VD = tables.outputs.detach().requires_grad_()
        one, left_out = torch.ones(1, device=table_VD.device), seen if protocol.exclude_seen else None
        loss = candidate_cross_entropy(
            vectors_ND, table_VD, wanted[:, None], one, None, left_out, buffer=ScoreBuffer(rows)
        )
        (gradient_VD,) = torch.autograd.grad(loss, table_VD)
        blocks: Mapping[str, slice] = network.blocks or {name: slice(None)}
        found |= {part: float(gradient_VD[:, columns].norm()) for part, columns in blocks.items()}
    return found if len(found) > 1 else dict(zip(["score"], found.values(), strict=True))


def choose_system(candidates: Iterable[S], valid: SessionStore, protocol: Protocol, metric: str) -> S:
    """Return the candidate with the best validation metric; the first if there are no validation targets."""
    best, best_value = None, -np.inf
    for candidate in candidates:
        if best is not None and valid.num_sessions == 0:
            break
        value = evaluate(candidate, valid, protocol).metrics().get(metric, 0.0)
        if best is None or value > best_value:
            best, best_value = candidate, value
    assert best is not None
    return best


def choose_weights(
    model: Recommender, valid: SessionStore, protocol: Protocol, metric: str, *, tune_alpha: bool
) -> dict[str, float]:
    """Choose the weights of the parts of Eq. 6, and of neighbours if the model has them.

    Alpha is chosen first, then the weight of the neighbours, each from a small grid. A value replaces its
    default (alpha as given, neighbours 0) only if its paired gain on validation exceeds its standard error.
    """
    weights = dict(model.weights)
    if tune_alpha:
        rows = [weights | {"id": alpha, "text": 1 - alpha, "neighbours": 0.0} for alpha in ALPHAS]
        weights = _chosen(model, valid, protocol, metric, weights | {"neighbours": 0.0}, rows)
    if model.neighbours is not None:
        rows = [weights | {"neighbours": weight} for weight in NEIGHBOUR_WEIGHTS]
        weights = _chosen(model, valid, protocol, metric, weights | {"neighbours": 0.0}, rows)
    return {name: weights[name] for name in (*model.weights, *(["neighbours"] if model.neighbours else []))}


def better_than_default(default_N: np.ndarray, others: Sequence[np.ndarray]) -> int | None:
    """Return the index of the best of ``others`` if its mean gain exceeds the standard error of the gain.

    Args:
        default_N: metric of each sample with the default.
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


def _chosen(
    model: Recommender,
    valid: SessionStore,
    protocol: Protocol,
    metric: str,
    default: Mapping[str, float],
    rows: list[dict[str, float]],
) -> dict[str, float]:
    counts = _counts(model, valid, protocol, [dict(default), *rows])
    values = [metric_values(greater, tied, metric) for greater, tied in counts]
    best = better_than_default(values[0], values[1:])
    return dict(default) if best is None else rows[best]


def alpha_curve(model: Recommender, store: SessionStore, protocol: Protocol) -> dict[float, dict[str, float]]:
    """Compute metrics of ``alpha * id + (1 - alpha) * text`` (Eq. 6) for alpha 0, 0.1, ..., 1 (Figure 7)."""
    rows = [dict.fromkeys(model.weights, 0.0) | {"id": alpha, "text": 1 - alpha} for alpha in CURVE]
    counts = _counts(model, store, protocol, rows)
    return {
        alpha: metrics(greater, tied, protocol.metrics) if len(greater) else {}
        for alpha, (greater, tied) in zip(CURVE, counts, strict=True)
    }


def _counts(
    model: Recommender, store: SessionStore, protocol: Protocol, rows: list[dict[str, float]]
) -> list[tuple[np.ndarray, np.ndarray]]:
    """Return (greater, tied) of every target for each row of weights."""
    none = np.empty(0, np.int64)
    found: list[list[tuple[np.ndarray, np.ndarray]]] = [[(none, none)] for _ in rows]
    for parts, seen, wanted in score_chunks(model, store, store.prefixes(protocol.targets), protocol):
        summands = model.summands(parts)
        for row, weights in zip(found, rows, strict=True):
            greater, tied = fused_target_counts(
                list(summands.values()), [weights[name] for name in summands], wanted, exclude=seen
            )
            row.append((np.asarray(greater[-1].cpu()), np.asarray(tied[-1].cpu())))
    return [(np.concatenate([g for g, _ in row]), np.concatenate([t for _, t in row])) for row in found]

"""From a system and a store to exact ranks: one pass, chunk by chunk, counts only.

Legend: N samples, V items, L places.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor

from alterrec.metrics import DEFAULT_METRICS, metrics
from alterrec.models.base import Scorer, SessionBatch
from alterrec.nn.sequences import on_device
from alterrec.ranking import fused_target_counts, target_counts, top_ranked
from alterrec.sessions import PrefixBatches, SessionStore

# Most bytes of score matrices where no budget asks for less.
SCORE_BYTES = 2**30


@dataclass(frozen=True)
class Ranks:
    """For each target and view: items strictly above it, and items equal to it (itself included).

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
        """Metrics of a view over the targets ``where`` (bool, default all); empty where there are none."""
        greater, tied = (values if where is None else values[where] for values in self.views[view])
        return metrics(greater, tied, self.names) if len(greater) else {}

    def all_metrics(self, where: np.ndarray | None = None) -> dict[str, dict[str, float]]:
        """Metrics of every view."""
        return {view: self.metrics(view, where) for view in self.views}

    def tied_share(self) -> dict[str, float]:
        """Share of targets whose score another item equals, by view."""
        return {
            view: float((tied > 1).mean()) if len(tied) else 0.0 for view, (_, tied) in self.views.items()
        }


@dataclass(frozen=True)
class Protocol:
    """How targets are ranked, the same for every system of a comparison.

    Attributes:
        targets: ``last`` or ``every``.
        exclude_seen: leave the prefix's items out of the candidates (the target never is).
        max_len: last items of a prefix that encoders read; exclusion sees the whole prefix.
        budget_bytes: most memory for score matrices.
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
    """Exact ranks of every target of ``store`` over the whole catalogue.

    Views are ``score``, each part where there is more than one, and ``fused`` (ID and text alone) where
    neighbours are a third part. A target that repeats an item of its prefix is ranked all the same.

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
            honest = summands[name] is parts[name]
            counts = (fused[0][row], fused[1][row])
            add(name, counts if honest else target_counts(parts[name], wanted, exclude=seen))
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
    """The ``k`` first items (N, k) int64 of each target's ranking by the score, in the order of targets.

    Raises:
        ValueError: fewer than ``k`` candidates are left for a target.
    """
    found = [np.empty((0, k), np.int64)]
    for parts, seen, _ in score_chunks(model, store, store.prefixes(protocol.targets), protocol):
        total = weighted_sum(model.summands(parts), model.weights)
        found.append(_numpy(top_ranked(total, k, exclude=seen)[0]))
    return np.concatenate(found)


def weighted_sum(summands: Mapping[str, Tensor], weights: Mapping[str, float]) -> Tensor:
    """The score (N, V): the sum of its parts by weight; a part that stands alone is the score, not copied."""
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
    """Chunks of (part scores, excluded items or None, targets), sized by the memory budget."""
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
    """Samples a chunk: float32 scores of each part, their summands and two scratch matrices.

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
    """The ``k`` best next items of each whole session, best first.

    Args:
        model: any system.
        sessions: int64 item ids of each session, oldest first, none empty.
        k: items a session; at most the candidates left by exclusion.
        protocol: its ``targets`` is not used.
        num_items: V.
        users: (S,) int64 user of each session, -1 where it is not known; only some systems read them.

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

"""Evaluate a system on a session store: exact ranks of its targets, and their top lists.

Scores are computed in chunks, of which only counts are kept. The items of a prefix (seen items) are counted
in every way at once: as candidates, left out, and under the repeat component if it is used.

Legend: N samples, V items, L places of a prefix.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple, TypeVar

import numpy as np
import torch
from torch import Tensor

from alterrec import parallel
from alterrec.data.repeats import RepeatModel, SeenItems, repeat_distances
from alterrec.errors import InputError, number_of
from alterrec.metrics import DEFAULT_METRICS, metrics
from alterrec.models.base import (
    Recommender,
    RepeatScale,
    Scorer,
    score_matrices,
    separate_parts,
    trained_parts,
)
from alterrec.models.batches import SessionBatch
from alterrec.models.removed import removed_items, without_removed
from alterrec.nn.divided_scores import own_share
from alterrec.nn.layers import on_device
from alterrec.ranking import repeat_scores, seen_target_counts, top_ranked
from alterrec.sessions import PrefixBatches, SessionStore

T = TypeVar("T")

# Memory limit of score matrices in bytes, unless a budget sets a lower one.
SCORE_BYTES = 2**30

Counts = tuple[np.ndarray, np.ndarray]


class NotFiniteError(InputError):
    """Scores of a model are NaN, although its weights are finite: they are too large to compute with."""


@dataclass(frozen=True, repr=False)
class Ranks:
    """For each target and view, the number of items with a higher and with an equal score.

    The target is one of the equal ones. If it is no candidate, because it repeats an item that is excluded,
    the number of equal ones is 0, and every metric counts it as not found.

    Attributes:
        by_rule: rule for seen items -> view -> (greater, tied), each (N,) int64. It has the rule of the
            protocol, and ``kept`` and ``excluded`` always.
        rule: the rule of the protocol.
        samples: (N, 2) int64 session index and position of the target.
        targets: (N,) int64 item ids.
        repeated: (N,) bool, whether the target repeats an item of its prefix.
        names: the metrics to report.
    """

    by_rule: dict[SeenItems, dict[str, Counts]]
    rule: SeenItems
    samples: np.ndarray
    targets: np.ndarray
    repeated: np.ndarray
    names: tuple[str, ...] = DEFAULT_METRICS

    def __repr__(self) -> str:
        targets = number_of(len(self.targets), "target")
        return f"Ranks({targets}, views {', '.join(self.views)}, rule {self.rule})"

    @property
    def views(self) -> dict[str, Counts]:
        """The counts of every view under the rule of the protocol."""
        return self.by_rule[self.rule]

    def metrics(
        self, view: str = "score", where: np.ndarray | None = None, rule: SeenItems | None = None
    ) -> dict[str, float]:
        """Metrics of a view over the targets ``where`` (bool, default all); empty if there are none."""
        counts = self.by_rule[rule or self.rule][view]
        greater, tied = (values if where is None else values[where] for values in counts)
        return metrics(greater, tied, self.names) if len(greater) else {}

    def all_metrics(
        self, where: np.ndarray | None = None, rule: SeenItems | None = None
    ) -> dict[str, dict[str, float]]:
        """Metrics of every view."""
        return {view: self.metrics(view, where, rule) for view in self.views}

    def metrics_by_rule(self) -> dict[SeenItems, dict[str, dict[str, float]]]:
        """Metrics of every view under every rule for seen items."""
        return {rule: self.all_metrics(rule=rule) for rule in self.by_rule}

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
        seen: rule for the items of the prefix: ``kept`` (they are candidates), ``excluded`` (a target that
            repeats one counts as not found) or ``repeats`` (the repeat component).
        max_len: number of last items of a prefix that encoders read; the rule uses the whole prefix.
        budget_bytes: memory limit of score matrices.
        device: torch device of the model.
        metrics: the metrics to report.
        repeats: the repeat component, with the rule ``repeats``.
    """

    targets: Literal["last", "every"]
    seen: SeenItems
    max_len: int
    budget_bytes: int = SCORE_BYTES
    device: str = "cpu"
    metrics: tuple[str, ...] = DEFAULT_METRICS
    repeats: RepeatModel | None = None

    def log_odds(
        self,
        seen_NL: Tensor,
        views: Sequence[Tensor],
        scales: Sequence[RepeatScale],
        removed: Tensor | None = None,
    ) -> np.ndarray | None:
        """Return the log odds of the items of prefixes under the repeat component, (views, N, L) float32.

        Args:
            seen_NL: items of each prefix, padded with -1.
            views: scores (N, V) of each view; only needed where a view has an affinity.
            scales: scale of each view.
            removed: items that are never recommended, not even again.

        Returns:
            None with another rule; one matrix (N, L) for all views if no view has an affinity.
        """
        if self.repeats is None:
            return None
        seen = _numpy(seen_NL)
        gone = np.zeros(seen.shape, np.bool_) if removed is None else np.isin(seen, _numpy(removed))
        if not any(scale.affinity for scale in scales):
            return np.where(gone, np.float32(-np.inf), self.repeats.log_odds(seen))
        found = []
        for scores_NV, (temperature, affinity) in zip(views, scales, strict=True):
            own_NL = _numpy(scores_NV.gather(1, seen_NL.clamp(min=0))) / temperature if affinity else None
            found.append(self.repeats.log_odds(seen, own_NL, affinity))
        return np.where(gone, np.float32(-np.inf), np.stack(found))


class ScoredChunk(NamedTuple):
    """Scores of some samples.

    Attributes:
        parts: part -> scores (N, V), valid until the next chunk.
        batch: the prefixes, of which encoders read the last items.
        seen_NL: all items of each prefix, oldest first, padded with -1.
        targets_N: the target of each sample.
        removed: items that are never recommended, see :class:`~alterrec.models.base.Scorer`.
    """

    parts: dict[str, Tensor]
    batch: SessionBatch
    seen_NL: Tensor
    targets_N: Tensor
    removed: Tensor | None = None


def evaluate(model: Scorer, store: SessionStore, protocol: Protocol) -> Ranks:
    """Return the exact ranks of all targets of ``store`` over the whole catalogue.

    Views are ``score``; each part, if there is more than one; and ``fused`` (ID and text only), if there are
    further parts.

    Raises:
        ValueError: a score is NaN; the message names row and column.
    """
    samples = store.prefixes(protocol.targets)
    places = store.offsets[samples[:, 0]] + samples[:, 1]
    found: dict[SeenItems, dict[str, list[tuple[Any, Any]]]] = {}

    def counted(chunk: ScoredChunk) -> dict[str, dict[SeenItems, Counts]]:
        return {
            view: {rule: (_numpy(greater), _numpy(tied)) for rule, (greater, tied) in by_rule.items()}
            for view, by_rule in _count_views(model, chunk, protocol)
        }

    chunks = _of_chunks(counted, model, store, samples, protocol)
    for by_view in chunks:
        for view, by_rule in by_view.items():
            for rule, counts in by_rule.items():
                found.setdefault(rule, {}).setdefault(view, []).append(counts)
    rules: dict[SeenItems, dict[str, Counts]] = {
        rule: {view: _joined(chunks) for view, chunks in views.items()} for rule, views in found.items()
    }
    if not rules:
        empty = {"score": (np.empty(0, np.int64), np.empty(0, np.int64))}
        rules = dict.fromkeys(("kept", "excluded", protocol.seen), empty)
    return Ranks(
        rules,
        protocol.seen,
        samples,
        store.items.astype(np.int64)[places],
        repeat_distances(store)[places] > 0,
        protocol.metrics,
    )


def _of_chunks(
    compute: Callable[[ScoredChunk], T],
    model: Scorer,
    store: SessionStore,
    samples: np.ndarray,
    protocol: Protocol,
) -> Sequence[T]:
    """Return what a function returns for each chunk of the samples, of which each process computes some."""
    chunks = score_chunks(model, store, samples, protocol, divided=True)
    if not _is_divided(model):
        return parallel.in_order(lambda: [compute(chunk) for chunk in chunks])
    found: list[T] = []
    errors: list[Exception] = []
    # Processes make the chunks together, so what fails for the samples of one is raised after the last chunk.
    for chunk in chunks:
        try:
            found.append(compute(chunk))
        except Exception as error:
            errors.append(error)

    def results() -> list[T]:
        if errors:
            raise errors[0]
        return found

    return parallel.in_order(results, parts=True)


def _is_divided(model: Scorer) -> bool:
    """Whether processes have some rows of the item tables each."""
    return isinstance(model, Recommender) and model.shard is not None


def _count_views(
    model: Scorer, chunk: ScoredChunk, protocol: Protocol
) -> Iterator[tuple[str, dict[SeenItems, tuple[Any, Any]]]]:
    """Yield every view with its counts under every rule."""
    summands = model.summands(chunk.parts, chunk.batch)
    *parts, score = count_targets(chunk, summands, model.weights, protocol, model.scales).values()
    yield "score", score
    shown = separate_parts(model)
    for name, counts in zip(summands, parts, strict=True):
        if name not in shown:
            continue
        if summands[name] is not chunk.parts[name]:
            alone = {name: chunk.parts[name]}
            counts = count_targets(chunk, alone, {name: 1.0}, protocol, model.scales, name)[name]
        yield name, counts
    pair = trained_parts(model, summands)
    if len(pair) < len(summands):
        yield "fused", count_targets(chunk, pair, model.weights, protocol, model.scales, "fused")["fused"]


def count_targets(
    chunk: ScoredChunk,
    views: Mapping[str, Tensor],
    weights: Mapping[str, float],
    protocol: Protocol,
    scales: Mapping[str, RepeatScale],
    total: str = "score",
) -> dict[str, dict[SeenItems, tuple[Any, Any]]]:
    """Count the items above each target and those equal to it, under every rule for seen items.

    Args:
        chunk: the samples.
        views: view -> scores (N, V).
        weights: weight of each view in the weighted sum.
        protocol: the rules.
        scales: scales of the repeat component by view, default temperature 1 and affinity 0. A single view
            has the scale of the weighted sum.
        total: name of the weighted sum.

    Returns:
        View -> rule -> (greater, tied); the weighted sum is last.
    """
    names = [*views, total]
    # A single view is the weighted sum, so it has its scale.
    scaled = names if len(views) > 1 else [total]
    own = [scales.get(name, RepeatScale()) for name in scaled]
    matrices = list(views.values()) if len(views) > 1 else []
    if any(scale.affinity for scale in own):
        matrices.append(weighted_sum(views, weights))
    odds = protocol.log_odds(chunk.seen_NL, matrices, own, chunk.removed)
    counts = seen_target_counts(
        list(views.values()),
        [weights[name] for name in views],
        chunk.targets_N,
        chunk.seen_NL,
        log_odds=odds if odds is None or len(views) > 1 else odds.reshape(chunk.seen_NL.shape),
        temperatures=[scale.temperature for scale in own] * (1 if len(views) > 1 else 2),
    )
    by_rule: dict[SeenItems, Any] = {"kept": counts.kept, "excluded": counts.excluded}
    if counts.repeats is not None:
        by_rule["repeats"] = counts.repeats
    return {
        name: {rule: (greater[row], tied[row]) for rule, (greater, tied) in by_rule.items()}
        for row, name in enumerate(names)
    }


def top_items(model: Scorer, store: SessionStore, protocol: Protocol, k: int) -> np.ndarray:
    """Return the ``k`` highest-ranked items of each target, (N, k) int64.

    Raises:
        ValueError: fewer than ``k`` candidates are left for a target.
    """
    samples = store.prefixes(protocol.targets)

    def best(chunk: ScoredChunk) -> np.ndarray:
        return best_items(final_scores(model, chunk, protocol), chunk.seen_NL, k, protocol)[0]

    found = _of_chunks(best, model, store, samples, protocol)
    return np.concatenate([np.empty((0, k), np.int64), *found])


def final_scores(model: Scorer, chunk: ScoredChunk, protocol: Protocol) -> Tensor:
    """Return the final score (N, V) by which items are recommended; may overwrite the parts of the chunk."""
    total_NV = weighted_sum(model.summands(chunk.parts, chunk.batch), model.weights)
    total_NV = with_repeats(total_NV, chunk.seen_NL, protocol, model.scales)
    return without_removed({"score": total_NV}, removed_items(model))["score"]


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
    model: Scorer, store: SessionStore, samples: np.ndarray, protocol: Protocol, *, divided: bool = False
) -> Iterator[ScoredChunk]:
    """Yield the scores of samples (N, 2), as many at a time as the memory budget allows.

    If ``divided``, each process of a job yields other chunks, see :func:`~alterrec.parallel.in_order`. They
    are those of one process, because products of other sizes differ in the last bit. Where item tables are
    divided, all processes compute the scores of each chunk, and each yields a part of its samples.
    """
    with torch.inference_mode():
        tables = model.prepare()
        parts_of_chunks = divided and _is_divided(model)
        # Each process has the scores of its part of a chunk.
        budget = protocol.budget_bytes * (parallel.job().world if parts_of_chunks else 1)
        rows = chunk_rows(store.num_items, score_matrices(model), budget)
        if parts_of_chunks:
            tables = {name: each._replace(own_samples=True) for name, each in tables.items()}
        fixed: dict[str, Any] = {"shuffle": False, "samples": samples}
        longest = int(store.lengths.max(initial=1))
        read = PrefixBatches(store, rows, protocol.max_len, layout="by_session", **fixed)
        whole = PrefixBatches(store, rows, longest, pad=-1, **fixed)
        takes_turns = divided and not parts_of_chunks
        for number in parallel.turns(len(read)) if takes_turns else range(len(read)):
            arrays, prefix = read[number], whole[number]
            batch = SessionBatch.of(arrays, protocol.device)
            parts = without_removed(model.part_scores(batch, tables), removed_items(model))
            seen_NL, targets_N = (
                on_device(values, protocol.device) for values in (prefix.items, arrays.targets)
            )
            if parts_of_chunks:
                mine = own_share(len(targets_N))
                batch, seen_NL, targets_N = batch.only(mine), seen_NL[mine], targets_N[mine]
            yield ScoredChunk(parts, batch, seen_NL, targets_N, removed_items(model))


def check_scores(model: Scorer, store: SessionStore, protocol: Protocol) -> None:
    """Raise NotFiniteError if a score of a target of ``store`` is NaN.

    It takes as long as an evaluation, so it is called to explain an error of one.
    """
    for chunk in score_chunks(model, store, store.prefixes(protocol.targets), protocol):
        for part, scores_NV in chunk.parts.items():
            if scores_NV.isnan().any():
                raise NotFiniteError(f"scores of the part {part} are not numbers")


def chunk_rows(num_items: int, matrices: int, budget_bytes: int) -> int:
    """Return the number of samples of a chunk that has ``matrices`` float32 scores for each of them.

    Example:
        >>> chunk_rows(num_items=1_000_000, matrices=6, budget_bytes=2**30)
        44
    """
    return int(np.clip(budget_bytes // (4 * num_items * matrices), 1, 512))


def with_repeats(
    total_NV: Tensor, seen_NL: Tensor, protocol: Protocol, scales: Mapping[str, RepeatScale]
) -> Tensor:
    """Overwrite the scores of seen items by those of the repeat component, if there is one."""
    scale = scales.get("score", RepeatScale())
    odds = protocol.log_odds(seen_NL, [total_NV], [scale])
    if odds is not None:
        seen_scores_NL = repeat_scores(total_NV, seen_NL, odds.reshape(seen_NL.shape), scale.temperature)
        # In place: another matrix of this size would exceed the memory plan.
        row_X, place_X = (seen_NL >= 0).nonzero(as_tuple=True)
        total_NV[row_X, seen_NL[row_X, place_X]] = seen_scores_NL[row_X, place_X]
    return total_NV


def best_items(total_NV: Tensor, seen_NL: Tensor, k: int, protocol: Protocol) -> Counts:
    """Return ids and scores (N, k) of the best items."""
    found = top_ranked(total_NV, k, exclude=seen_NL if protocol.seen == "excluded" else None)
    return _numpy(found[0]), _numpy(found[1])


def _joined(chunks: Sequence[tuple[Any, Any]]) -> Counts:
    greater, tied = (np.concatenate([chunk[place] for chunk in chunks]) for place in (0, 1))
    return greater, tied


def _numpy(values: Any) -> np.ndarray:
    return values.cpu().numpy() if isinstance(values, Tensor) else np.asarray(values)

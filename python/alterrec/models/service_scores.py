"""Scores of sessions for services, where batches are small and item tables stay the same.

The products of the queries of sessions with the item tables, the sum of the parts, the repeat component and
the choice of the best items are one call of the core, and no result depends on the other sessions of a call.
Only session vectors come from torch.

Legend: N sessions, T read items of all of them, S items of all of them, V items of the catalogue, D width.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import NamedTuple, Self

import numpy as np
import torch
from numpy.typing import NDArray

from alterrec._core import QueryTable, ScoreSum
from alterrec._ranking_arguments import default_threads
from alterrec.data.repeats import RepeatModel, SeenItems
from alterrec.models.base import Recommender, RepeatScale, Scorer, Tables
from alterrec.models.batches import SessionBatch
from alterrec.models.neighbours import NeighbourLists, Trend
from alterrec.models.removed import removed_items
from alterrec.nn.losses import ScoreBuffer

Floats = NDArray[np.float32]
Numbers = NDArray[np.int64]
# For each session the items of a filter, None where it has none; or one entry for all sessions.
Filter = Sequence[Numbers | None]

# Sessions whose vectors are computed together.
TOGETHER = 256


class ServiceScores:
    """The scores of a system whose parts are networks, neighbour lists and the trend.

    Scores are those of :class:`~alterrec.models.base.Recommender` but for rounding.

    Args:
        model: such a system, see :meth:`of`.
        tables: its item tables.
        repeats: its repeat component; None if it has none.
    """

    def __init__(self, model: Recommender, tables: Mapping[str, Tables], repeats: RepeatModel | None) -> None:
        self.repeats = (
            None if repeats is None else _Repeats(repeats, model.scales.get("score", RepeatScale()))
        )
        cold = None if model.cold_V is None else np.flatnonzero(model.cold_V.numpy())
        asked = [name for name in model.networks if _weight(model, name) or (cold is not None and len(cold))]
        self.networks = [_Network(model, name, tables[name]) for name in asked]
        removed = removed_items(model)
        neighbours, fixed = None, None
        for name, system in model.untrained.items():
            weight = model.weights[name]
            if weight and isinstance(system, NeighbourLists):
                neighbours = (system.neighbours, system.decay, system.offset, weight)
            elif weight and isinstance(system, Trend):
                fixed = (np.ascontiguousarray(system.trend_V.numpy()), weight)
        self.sum = ScoreSum(
            [network.table for network in self.networks],
            [_weight(model, name) for name in asked],
            None if cold is None or not len(cold) else (cold, asked.index("id"), asked.index("text")),
            np.empty(0, np.int64) if removed is None else np.unique(removed.numpy()),
            neighbours,
            fixed,
        )

    @classmethod
    def of(cls, model: Scorer, tables: Mapping[str, Tables], repeats: RepeatModel | None) -> Self | None:
        """Return the scores of a system; None if it is not such a sum, or not on the CPU."""
        if not isinstance(model, Recommender) or model.gate is not None or not len(model.networks):
            return None
        lists = [system for system in model.untrained.values() if isinstance(system, NeighbourLists)]
        trends = [system for system in model.untrained.values() if isinstance(system, Trend)]
        fits = (
            all(parameter.device.type == "cpu" for parameter in model.parameters())
            and not any(model.network(name).session.reads_users for name in model.networks)
            # Items without training have scores of another network, not of another block.
            and (model.cold_V is None or {"id", "text"} <= {*model.networks})
            and len(lists) <= 1
            and len(trends) <= 1
            and len(lists) + len(trends) == len(model.untrained)
        )
        return cls(model, tables, repeats) if fits else None

    def best(self, sessions: AskedSessions, k: int) -> tuple[Numbers, Floats]:
        """Return the ``k`` best items of each session: ids (N, k) and scores (N, k).

        Where fewer candidates are left, the last ids are -1 and their scores -inf.
        """
        return self.sum.best(sessions, k, default_threads())

    def scores(self, sessions: AskedSessions, items: Sequence[Numbers]) -> list[Floats]:
        """Return the scores of some items in each session, also of those that are never recommended."""
        return self.sum.scores(sessions, list(items), default_threads())

    def ask(
        self,
        sessions: Sequence[Numbers],
        max_len: int,
        seen: SeenItems,
        *,
        exclude: Filter | None = None,
        only: Filter | None = None,
    ) -> AskedSessions:
        """Return sessions as :meth:`best` and :meth:`scores` take them.

        Args:
            sessions: items of each session, oldest first, one or more.
            max_len: number of last items that are read.
            seen: rule for the items of a session.
            exclude: items that are never recommended.
            only: the only items that can be recommended. None: all.
        """
        read = [items[-max_len:] for items in sessions]
        parts = [network.ask(read) for network in self.networks]
        return AskedSessions(
            _offsets(read),
            np.concatenate(read),
            _offsets(sessions),
            np.concatenate(sessions),
            [part.weights for part in parts],
            [part.vectors for part in parts],
            [part.vector_weights for part in parts],
            self.repeats.ask(sessions) if self.repeats is not None and seen == "repeats" else None,
            seen == "excluded",
            exclude,
            only,
        )


class AskedSessions(NamedTuple):
    """Sessions and what they ask the networks with.

    Attributes:
        read_offsets: (N+1,) session n reads the items ``offsets[n]`` to ``offsets[n + 1] - 1`` of ``read``.
        read: (T,) the last items of all sessions, oldest first.
        seen_offsets: (N+1,) the same for ``seen``.
        seen: (S,) all items of all sessions.
        weights: for each network the weights (T,) of the queries of items; None if items are no queries.
        vectors: for each network the session vectors (N, D); None if they are no queries.
        vector_weights: for each network the weights (N,) of these queries; None if there is no other query.
        repeats: what the repeat component counted; None without it.
        exclude_seen: whether items of a session are never recommended for it.
        exclude: items that are never recommended.
        only: the only items that can be recommended. None: all.
    """

    read_offsets: Numbers
    read: Numbers
    seen_offsets: Numbers
    seen: Numbers
    weights: list[Floats | None]
    vectors: list[Floats | None]
    vector_weights: list[Floats | None]
    repeats: AskedRepeats | None
    exclude_seen: bool
    exclude: Filter | None
    only: Filter | None


class AskedRepeats(NamedTuple):
    """What the repeat component counted for some sessions, and how it reads their scores.

    Attributes:
        log_rates: (N,) float64 log odds that an item is repeated.
        log_weights: (S,) float64 log weights of the items of the sessions.
        temperature: divisor of scores.
        affinity: how much scores decide which item is repeated.
    """

    log_rates: NDArray[np.float64]
    log_weights: NDArray[np.float64]
    temperature: float
    affinity: float


class _Asked(NamedTuple):
    weights: Floats | None
    vectors: Floats | None
    vector_weights: Floats | None


class _Weights(NamedTuple):
    """The weights of the queries of sessions of one length.

    Attributes:
        items: (L,) weights of the items, oldest first.
        vector: weight of the session vector, 0 if it is no query.
        within: (L,) weights of the items within the session vector; None if it is no such sum.
    """

    items: Floats
    vector: float
    within: Floats | None


class _Network:
    """One network: its table for the core, and the queries of sessions."""

    def __init__(self, model: Recommender, name: str, tables: Tables) -> None:
        self.network, self.tables = model.network(name), tables
        self.queries = self.network.queries
        queries_VD = None
        if self.queries is not None:
            queries_VD = _array(self.network.as_scored(tables.inputs, tables))
        self.queries_VD = queries_VD
        self.table = QueryTable(
            _array(tables.outputs), queries_VD, self.queries is not None and self.queries.excludes_seen
        )
        self.weights = lru_cache(maxsize=None)(self._weights)
        # The weights of blocks, which are parts of a product, are weights of columns.
        self.column_weights: Floats | None = None
        if self.queries is None and self.network.blocks:
            self.column_weights = np.zeros(tables.outputs.shape[1], np.float32)
            for block, columns in self.network.blocks.items():
                self.column_weights[columns] = model.weights[block]

    def ask(self, sessions: Sequence[Numbers]) -> _Asked:
        """Return the queries of sessions of items, oldest first."""
        if self.queries is None:
            vectors = self._session_vectors(sessions)
            return _Asked(
                None, vectors if self.column_weights is None else vectors * self.column_weights, None
            )
        found = [self.weights(len(items)) for items in sessions]
        weights = np.concatenate([each.items for each in found])
        if self.queries.vector_logit is None:
            return _Asked(weights, None, None)
        vector_weights = np.array([each.vector for each in found], np.float32)
        if any(each.within is None for each in found):
            return _Asked(weights, self._session_vectors(sessions), vector_weights)
        assert self.queries_VD is not None
        sums = [
            each.within @ self.queries_VD[items]  # type: ignore[operator]
            for each, items in zip(found, sessions, strict=True)
        ]
        return _Asked(weights, np.stack(sums), vector_weights)

    def _session_vectors(self, sessions: Sequence[Numbers]) -> Floats:
        """Return the vectors (N, D) of sessions, divided by the temperature."""
        with torch.inference_mode():
            found = []
            for first in range(0, len(sessions), TOGETHER):
                rows = [torch.from_numpy(items) for items in sessions[first : first + TOGETHER]]
                lengths = torch.tensor([len(items) for items in rows])
                padded = torch.nn.utils.rnn.pad_sequence(rows, batch_first=True)
                batch = SessionBatch.of_prefixes(padded, lengths)
                tables = self.tables._replace(scores=ScoreBuffer())
                found.append(_array(self.network.encode_sessions(batch, tables)))
            return np.concatenate(found)

    def _weights(self, length: int) -> _Weights:
        assert self.queries is not None
        with torch.inference_mode():
            # By distance from the end.
            found = self.queries.log_weights(torch.tensor([length]), length)[0].exp().numpy()
            # Normalised vectors are no sums of the queries of items.
            within = None if self.network.cosine else self.network.session.item_weights(length)
        vector = self.queries.vector_logit is not None
        items = np.ascontiguousarray(found[1:][::-1] if vector else found[::-1])
        within_L = None if within is None else np.ascontiguousarray(within.numpy()[::-1])
        return _Weights(items, float(found[0]) if vector else 0.0, within_L if vector else None)


def _weight(model: Recommender, name: str) -> float:
    """Return the weight of a network; that of its blocks is in its session vectors."""
    network = model.network(name)
    return 1.0 if network.blocks and network.queries is None else model.weights[name]


class _Repeats:
    """The repeat component. What depends on lengths alone is computed once for each length."""

    def __init__(self, repeats: RepeatModel, scale: RepeatScale) -> None:
        self.repeats, self.scale = repeats, scale
        self.of_length = lru_cache(maxsize=1000)(self._of_length)

    def ask(self, sessions: Sequence[Numbers]) -> AskedRepeats:
        rates, weights = zip(*(self.of_length(len(items)) for items in sessions), strict=True)
        own = [
            weights_L if len(set(items.tolist())) == len(items) else self.repeats.log_weights(items[None])[0]
            for items, weights_L in zip(sessions, weights, strict=True)
        ]
        return AskedRepeats(np.array(rates), np.concatenate(own), self.scale.temperature, self.scale.affinity)

    def _of_length(self, length: int) -> tuple[float, NDArray[np.float64]]:
        """Return the log odds of a repeat, and the log weights of items of which none occurs twice."""
        return float(self.repeats.log_rates([length])[0]), self.repeats.log_weights(np.arange(length)[None])[
            0
        ]


def _offsets(rows: Sequence[Numbers]) -> Numbers:
    offsets = np.zeros(len(rows) + 1, np.int64)
    np.cumsum([len(row) for row in rows], out=offsets[1:])
    return offsets


def _array(values: torch.Tensor) -> Floats:
    return np.require(values.numpy(), np.float32, ["C"])

"""Scores of sessions for services: the fast way for networks with several queries.

A batch of one session pays for tensors, modules and matrices of intermediate results what a whole batch pays,
and its products wait for memory. Here the queries of a few sessions go through the catalogue together, while
their scores stay in the cache, and no score depends on which sessions these are.

Legend: N sessions, L items of a session, T items of all of them, V items of the catalogue, D width.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import NamedTuple, Self

import numpy as np
import torch
from numpy.typing import NDArray

from alterrec._core import QueryTable
from alterrec.models.base import Network, Recommender, Scorer, SessionBatch, Tables
from alterrec.models.neighbours import NeighbourLists, Trend
from alterrec.nn.losses import ScoreBuffer

Floats = NDArray[np.float32]
Numbers = NDArray[np.int64]

# Sessions that are scored together: their scores and parts stay in the cache.
TOGETHER = 8


class QueryScores:
    """The score of a system of networks with several queries, and of its parts without training.

    Scores are those of :class:`~alterrec.models.base.Recommender` but for the order of sums.

    Args:
        model: a system of such parts, see :meth:`of`.
        tables: its item tables.
    """

    def __init__(self, model: Recommender, tables: Mapping[str, Tables]) -> None:
        self.model = model
        self.networks = {name: _Mixtures(model.network(name), tables[name]) for name in model.networks}
        self.cold = None if model.cold_V is None else np.flatnonzero(model.cold_V.numpy())

    @classmethod
    def of(cls, model: Scorer, tables: Mapping[str, Tables]) -> Self | None:
        """Return the scores of a system; None unless its parts are mixtures, neighbours or trend."""
        if not isinstance(model, Recommender) or model.gate is not None:
            return None
        networks = [model.network(name) for name in model.networks]
        known = {*model.networks, *model.untrained}
        fits = (
            all(network.queries is not None for network in networks)
            and all(parameter.device.type == "cpu" for parameter in model.parameters())
            and all(isinstance(system, NeighbourLists | Trend) for system in model.untrained.values())
            and all(name in known for name, weight in model.weights.items() if weight)
        )
        return cls(model, tables) if fits else None

    def scores(self, sessions: Sequence[Numbers]) -> Floats:
        """Return the scores (N, V) of sessions of item numbers, oldest first."""
        weights, parts = self.model.weights, {}
        for name, network in self.networks.items():
            if weights[name] or (self.cold is not None and weights.get("id")):
                parts[name] = network.scores(sessions)
        found = np.empty((len(sessions), len(next(iter(parts.values()))[0])), np.float32)
        # By session, so that all that is added is in the cache.
        for row, (session, total_V) in enumerate(zip(sessions, found, strict=True)):
            self._add({name: part_NV[row] for name, part_NV in parts.items()}, session, total_V)
        return found

    def _add(self, parts: dict[str, Floats], session: Numbers, total_V: Floats) -> None:
        """Write the weighted sum of the parts of a session, which are overwritten, to ``total_V``."""
        weights = self.model.weights
        if self.cold is not None and "id" in parts:
            # As in Recommender.summands; the probabilities of text add up to 1.
            parts["id"][self.cold] = -np.inf
            shift = np.log(np.exp(parts["id"]).sum())
            parts["id"][self.cold] = parts["text"][self.cold] + shift
        for name, system in self.model.untrained.items():
            if not weights[name]:
                continue
            if isinstance(system, NeighbourLists):
                parts[name] = system.of_session(session)
            else:
                assert isinstance(system, Trend)
                parts[name] = system.trend_V.numpy().copy()
        first, *others = (np.multiply(part_V, weights[name], out=part_V) for name, part_V in parts.items())
        total_V[:] = first
        for part_V in others:
            total_V += part_V


class _Weights(NamedTuple):
    """The weights of the queries of sessions of one length, by distance from the end.

    Attributes:
        items: (L,) weights of the items.
        vector: weight of the session vector, 0 if it is no query.
        within: (L,) weights of the items within the session vector; None if it is no such sum.
    """

    items: Floats
    vector: float
    within: Floats | None


class _Mixtures:
    """The log mixture of one network."""

    def __init__(self, network: Network, tables: Tables) -> None:
        assert network.queries is not None
        self.network, self.queries, self.tables = network, network.queries, tables
        queries_VD = network.as_scored(tables.inputs, tables)
        self.table = QueryTable(
            np.require(tables.outputs.numpy(), np.float32, ["C"]),
            np.require(queries_VD.numpy(), np.float32, ["C"]),
            network.queries.excludes_seen,
        )
        self.weights = lru_cache(maxsize=None)(self._weights)

    def scores(self, sessions: Sequence[Numbers]) -> Floats:
        """Return log probabilities (N, V)."""
        offsets = np.zeros(len(sessions) + 1, np.int64)
        np.cumsum([len(items) for items in sessions], out=offsets[1:])
        found = [self.weights(len(items)) for items in sessions]
        asked = np.concatenate([items[::-1] for items in sessions])
        weights, vector_N = np.concatenate([each.items for each in found]), [each.vector for each in found]
        mean = [each.within for each in found if each.within is not None]
        vectors = None
        if mean:
            vectors = np.concatenate(mean)[None]
        elif self.queries.vector_logit is not None:
            vectors = self._session_vectors(sessions)
        threads = torch.get_num_threads()
        return self.table.log_mixtures(
            offsets, asked, weights, vectors, np.array(vector_N, np.float32), bool(mean), threads
        )

    def _session_vectors(self, sessions: Sequence[Numbers]) -> Floats:
        """Return the vectors (N, D) of sessions, divided by the temperature."""
        with torch.inference_mode():
            rows = [torch.from_numpy(items) for items in sessions]
            lengths = torch.tensor([len(items) for items in sessions])
            padded = torch.nn.utils.rnn.pad_sequence(rows, batch_first=True)
            batch = SessionBatch.of_prefixes(padded, lengths)
            tables = self.tables._replace(scores=ScoreBuffer())
            return np.require(self.network.encode_sessions(batch, tables).numpy(), np.float32, ["C"])

    def _weights(self, length: int) -> _Weights:
        with torch.inference_mode():
            found = self.queries.log_weights(torch.tensor([length]), length)[0].exp().numpy()
            # Normalised vectors are no sums of the queries of items.
            within = None if self.network.cosine else self.network.session.item_weights(length)
        if self.queries.vector_logit is None:
            return _Weights(found, 0.0, None)
        return _Weights(found[1:], float(found[0]), None if within is None else within.numpy())

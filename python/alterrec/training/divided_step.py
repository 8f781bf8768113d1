"""One training step of a network whose item tables are divided among the processes of a job.

Each process encodes its share of the samples and scores all samples of the batch against its own rows.
Positives, draws and candidates are those of the whole batch in every process.

Legend: N samples of the batch, V items, S rows of this process, M items of the pool in them, U fetched items,
Q queries, D width.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from alterrec import parallel
from alterrec.models.base import Network, Tables
from alterrec.models.batches import SessionBatch
from alterrec.nn.divided_losses import divided_cross_entropy, divided_mixture_cross_entropy
from alterrec.nn.layers import on_device
from alterrec.nn.mixtures import QueryBatch, mixture_log_probabilities
from alterrec.ranking import unchecked
from alterrec.sessions import Batch
from alterrec.shards import Shard
from alterrec.training.candidates import Supervision, Teacher, query_candidates, supervise
from alterrec.training.step import Step, are_few, scored_rows


class DividedStep(Step):
    """Computes the part of this process in the loss of each batch of one epoch."""

    def _part_of_loss(self, batch: SessionBatch, arrays: Batch, whole: Batch, number: int) -> Tensor:
        every = SessionBatch.of(whole, self.recipe.run.device)
        sessions = _Sessions(batch, every, whole.samples)
        seen_NL = every.prefixes() if self.exclude_seen else None
        with torch.no_grad(), unchecked():
            supervision = self._supervision(
                sessions, on_device(whole.targets, self.recipe.run.device), number
            )
        self.clock.lap("window")
        ids = supervision.candidates
        if self.network.queries is None and ids is not None and ids.dtype != torch.uint8:  # noqa: SIM102
            if self.recipe.loss.name == "gbce" or are_few(ids.shape[1], self.num_items):
                return self._loss_of_fetched(sessions, supervision)
        half = self.recipe.run.precision == "bfloat16"
        with torch.autocast(torch.device(self.recipe.run.device).type, torch.bfloat16, enabled=half):
            tables = self.network.item_tables()
            self.clock.lap("item table")
            if self.network.queries is None:
                vectors_ND = sessions.vectors(self.network, tables)
            else:
                queries = sessions.ask(self.network, tables)
            self.clock.lap("encoder")
        dtype = torch.bfloat16 if half else tables.outputs.dtype
        table_SD, shard = tables.outputs.to(dtype), self._shard
        with unchecked():
            if self.network.queries is None:
                loss = divided_cross_entropy(
                    vectors_ND.to(dtype),
                    table_SD,
                    *supervision,
                    seen_NL,
                    self._weight_of_each(supervision.candidates),
                    self.buffer,
                    shard=shard,
                )
            else:
                queries = queries._replace(vectors_QD=queries.vectors_QD.to(dtype))
                loss = divided_mixture_cross_entropy(
                    queries, table_SD, *supervision, self.buffer, shard=shard
                )
        self.clock.lap("head")
        return loss

    @property
    def _shard(self) -> Shard:
        assert self.network.shard is not None
        return self.network.shard

    def _supervision(self, sessions: _Sessions, targets_N: Tensor, number: int) -> Supervision:
        """Return positives and candidates of the whole batch."""
        pool_M = self._pool(number)
        by_query = self.network.queries is not None
        hard, further = self.negative_teacher, self.positive_teacher
        supervision = supervise(
            targets_N,
            sessions.samples,
            "full" if by_query else self.phase.negatives,
            window=self.recipe.window,
            ranks=self.ranks,
            num_items=self.num_items,
            seed=self.seed,
            positives=self.recipe.positives,
            negative_teacher=self._teacher(hard, sessions, pool_M) if hard and not by_query else None,
            positive_teacher=self._teacher(further, sessions) if further else None,
            seen_NL=sessions.every.prefixes() if self.exclude_seen else None,
            chunks=self.buffer.chunks(len(targets_N)),
            pool_M=pool_M,
            shard=self._shard,
        )
        if self.network.queries is None:
            return supervision
        rows, teacher = self.network.query_rows(sessions.every, self.num_items), None
        # Draws are functions of the item, and of the sample for session vectors.
        numbers, vectors = rows.items, self.network.queries.vector_logit is not None
        if vectors:
            numbers = np.concatenate([rows.items, self.num_items + sessions.samples])
        if hard:
            network, tables = self.teachers[hard]
            vectors_QD = sessions.query_vectors(network, tables, rows.items, sessions=vectors)
            scored_MD = self._scored(tables, pool_M)
            teacher = lambda chunk: self._product(vectors_QD[chunk], scored_MD)  # noqa: E731
        candidates = query_candidates(
            numbers,
            self.phase.negatives,
            window=self.recipe.window,
            ranks=self.ranks,
            num_items=self.num_items,
            seed=self.seed,
            teacher=teacher,
            device=self.recipe.run.device,
            exclude=rows.exclude,
            chunks=self.buffer.chunks(len(numbers)),
            pool_M=pool_M,
            shard=self._shard,
        )
        return supervision._replace(candidates=candidates)

    def _scored(self, tables: Tables, pool_M: Tensor | None) -> Tensor:
        """Return the rows of this process in a teacher's table, or those in a pool."""
        if pool_M is None:
            return tables.outputs
        return scored_rows(tables, pool_M[self._shard.held(pool_M)] - self._shard.first)

    def _teacher(self, name: str, sessions: _Sessions, pool_M: Tensor | None = None) -> Teacher:
        """Return a function that gives a teacher's scores of the own rows for a slice of the samples."""
        network, tables = self.teachers[name]
        if network.queries is None:
            vectors_ND, scored_MD = sessions.vectors(network, tables), self._scored(tables, pool_M)
            return lambda chunk: self._product(vectors_ND[chunk], scored_MD)
        queries = sessions.ask(network, tables)
        items = slice(None) if pool_M is None else pool_M[self._shard.held(pool_M)] - self._shard.first

        def scores(chunk: slice) -> Tensor:
            asked = queries._replace(
                rows_NJ=queries.rows_NJ[chunk], log_weights_NJ=queries.log_weights_NJ[chunk]
            )
            found: Tensor = mixture_log_probabilities(asked, tables.outputs, self.buffer, "", self._shard)
            return found[:, items]

        return scores

    def _loss_of_fetched(self, sessions: _Sessions, supervision: Supervision) -> Tensor:
        """Return the loss of candidates that are so few that their rows are fetched."""
        positives_NP, weights_P, candidates_NC = supervision
        assert candidates_NC is not None
        ids_of_each = [
            _distinct(ids_U, positives_NP[share], candidates_NC[share])
            for ids_U, share in zip(sessions.read_by_each(), sessions.shares, strict=True)
        ]
        rank = parallel.job().rank
        ids_U, mine = ids_of_each[rank], sessions.shares[rank]
        items_RL, positives_MP, candidates_MC = (
            torch.searchsorted(ids_U, ids)
            for ids in (sessions.batch.items_RL, positives_NP[mine], candidates_NC[mine])
        )
        batch = sessions.batch._replace(items_RL=items_RL, arrays=None)
        half = self.recipe.run.precision == "bfloat16"
        with torch.autocast(torch.device(self.recipe.run.device).type, torch.bfloat16, enabled=half):
            tables = self.network.item_tables(ids_U, ids_of_each)
            self.clock.lap("item table")
            vectors_MD = self.network.encode_sessions(batch, tables)
            self.clock.lap("encoder")
        dtype = torch.bfloat16 if half else tables.outputs.dtype
        seen_ML = batch.prefixes() if self.exclude_seen else None
        with unchecked():
            own = Supervision(positives_MP, weights_P, candidates_MC)
            loss = self._loss(vectors_MD.to(dtype), tables.outputs.to(dtype), own, seen_ML)
        self.clock.lap("head")
        return loss * parallel.weight(len(sessions.samples))


class _Sessions:
    """The sessions of a batch: those that this process encodes, and all of them.

    Attributes:
        batch: the samples that belong to this process.
        every: all samples of the batch.
        samples: their numbers.
        shares: which of them each process encodes.
    """

    def __init__(self, batch: SessionBatch, every: SessionBatch, samples: np.ndarray) -> None:
        self.batch, self.every, self.samples = batch, every, samples
        self.shares = [parallel.share(len(samples), rank) for rank in range(parallel.job().world)]

    def read_by_each(self) -> list[Tensor]:
        """Return the items that each process reads, ascending."""
        items_RL, row_N = self.every.items_RL, self.every.row_N
        return [_distinct(items_RL[_distinct(row_N[share])]) for share in self.shares]

    def vectors(self, network: Network, tables: Tables) -> Tensor:
        """Return the session vectors of all samples (N, E), of which each process encodes its share."""
        own_MD = network.encode_sessions(*network.read(self.batch, tables, self.read_by_each()))
        return parallel.joined(own_MD, len(self.samples))

    def query_vectors(self, network: Network, tables: Tables, items: np.ndarray, *, sessions: bool) -> Tensor:
        """Return the vectors of items and, if ``sessions``, of all sessions, as queries (Q, E)."""
        # All processes ask by all items.
        batch, tables = network.read(self.batch, tables, [_distinct(self.every.items_RL)] * len(self.shares))
        vectors_UD = network.item_queries(on_device(items, str(self.every.length_N.device)), tables)
        if not sessions:
            return vectors_UD
        own_MD = network.encode_sessions(batch, tables)
        return torch.cat([vectors_UD, parallel.joined(own_MD, len(self.samples))])

    def ask(self, network: Network, tables: Tables) -> QueryBatch:
        """Return the queries of all samples, with their vectors and weights."""
        assert network.queries is not None
        assert network.shard is not None
        device = str(self.every.length_N.device)
        items, rows, exclude = network.query_rows(self.every, network.shard.total)
        sessions = network.queries.vector_logit is not None
        vectors_QD = self.query_vectors(network, tables, items, sessions=sessions)
        log_weights_NJ = network.queries.log_weights(self.every.length_N, self.every.items_RL.shape[1])
        exclude_QE = None if exclude is None else on_device(exclude, device)
        return QueryBatch(vectors_QD, on_device(rows, device), log_weights_NJ, exclude_QE)


def _distinct(*ids: Tensor) -> Tensor:
    """Return the distinct ids of some tensors, ascending."""
    found: Tensor = torch.cat([each.flatten() for each in ids]).unique()  # type: ignore[no-untyped-call]
    return found

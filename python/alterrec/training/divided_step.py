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
from alterrec.nn.losses import ScoreBuffer
from alterrec.nn.mixtures import QueryBatch, mixture_log_probabilities
from alterrec.ranking import unchecked
from alterrec.sessions import Batch
from alterrec.training.candidates import Supervision, Teacher
from alterrec.training.step import Step, StepSessions, are_few


class DividedStep(Step):
    """Computes the part of this process in the loss of each batch of one epoch."""

    def _part_of_loss(self, batch: SessionBatch, arrays: Batch, whole: Batch, number: int) -> Tensor:
        every = SessionBatch.of(whole, self.recipe.run.device)
        sessions = _DividedSessions(batch, every, whole.samples)
        seen_NL = every.prefixes() if self.exclude_seen else None
        targets_N = on_device(whole.targets, self.recipe.run.device)
        with torch.no_grad(), unchecked():
            supervision = self._supervision(sessions, targets_N, seen_NL, number)
        self.clock.lap("window")
        ids = supervision.candidates
        drawn = ids.shape[1] if ids is not None and ids.dtype != torch.uint8 else 0
        few = self.recipe.loss.name == "gbce" or are_few(drawn, self.num_items)
        if self.network.queries is None and drawn and few:
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
        table_SD, shard = tables.outputs.to(dtype), self.network.shard
        assert shard is not None
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
        self.time_encoder(tables)
        return loss

    def _loss_of_fetched(self, sessions: _DividedSessions, supervision: Supervision) -> Tensor:
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
        self.time_encoder(tables)
        return loss * parallel.weight(len(sessions.samples))


class _DividedSessions(StepSessions):
    """The sessions of all samples of a batch, of which each process encodes a share.

    Attributes:
        batch: the samples that this process encodes.
        shares: which samples each process encodes.
    """

    def __init__(self, batch: SessionBatch, every: SessionBatch, samples: np.ndarray) -> None:
        super().__init__(every, samples)
        self.batch = batch
        self.shares = [parallel.share(len(samples), rank) for rank in range(parallel.job().world)]

    def read_by_each(self) -> list[Tensor]:
        """Return the items that each process reads, ascending."""
        items_RL, row_N = self.every.items_RL, self.every.row_N
        return [_distinct(items_RL[_distinct(row_N[share])]) for share in self.shares]

    def vectors(self, network: Network, tables: Tables) -> Tensor:
        own_MD = network.encode_sessions(*network.read(self.batch, tables, self.read_by_each()))
        return parallel.joined(own_MD, len(self.samples))

    def query_vectors(self, network: Network, tables: Tables, items: np.ndarray, *, sessions: bool) -> Tensor:
        # All processes ask by all items.
        batch, tables = network.read(self.batch, tables, [_distinct(self.every.items_RL)] * len(self.shares))
        vectors_UD = network.item_queries(on_device(items, str(self.every.length_N.device)), tables)
        if not sessions:
            return vectors_UD
        own_MD = network.encode_sessions(batch, tables)
        return torch.cat([vectors_UD, parallel.joined(own_MD, len(self.samples))])

    def mixed(self, network: Network, tables: Tables, buffer: ScoreBuffer) -> Teacher:
        """Return a function that gives the scores of the own rows for some samples."""
        queries = self.ask(network, tables)

        def scores(chunk: slice) -> Tensor:
            rows_NJ, log_weights_NJ = queries.rows_NJ[chunk], queries.log_weights_NJ[chunk]
            asked = queries._replace(rows_NJ=rows_NJ, log_weights_NJ=log_weights_NJ)
            return mixture_log_probabilities(asked, tables.outputs, buffer, "", network.shard)

        return scores

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

"""The model classes: networks, recommenders built from them, and the interface that evaluation uses.

Legend: R sessions, L places, N samples, V items, D width, E columns of the scored table.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal, NamedTuple, Protocol

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from alterrec import parallel
from alterrec.models.batches import ObjectiveBatch, SessionBatch
from alterrec.models.gate import Gate
from alterrec.nn.divided_mixtures import whole_mixtures
from alterrec.nn.divided_scores import own_share, whole_scores
from alterrec.nn.dropout import Dropout, number_layers, rows_numbered
from alterrec.nn.item_encoders import divided_tensors
from alterrec.nn.layers import SessionEncoder, on_device
from alterrec.nn.losses import ScoreBuffer
from alterrec.nn.mixtures import (
    QUERIES_PER_SAMPLE,
    Queries,
    QueryBatch,
    QueryRows,
    by_distance,
    distinct,
    mixture_log_probabilities,
)
from alterrec.recipe_settings import NetworkSettings
from alterrec.shards import Shard


class Tables(NamedTuple):
    """Item tables of one network, computed once and used for many batches.

    Attributes:
        inputs: what the session encoder reads: a table (V, D), or the output of a special item encoder
            (``hggnn``). None: the rows of the items of a batch are still to be fetched, by
            :meth:`Network.read`.
        outputs: the table that is scored; of a divided one, the rows of this process.
        scores: memory for the scores of the parts, so tables must not be shared between callers.
        ids_U: the items whose rows ``inputs`` has, ascending; None: all.
        own_samples: whether each process gets the scores of some of the samples, where tables are divided.
            If not, each gets those of all samples.
    """

    inputs: Any
    outputs: Tensor
    scores: ScoreBuffer
    ids_U: Tensor | None = None
    own_samples: bool = False


class RepeatScale(NamedTuple):
    """How the repeat component reads the scores of a view, see :class:`~alterrec.data.repeats.RepeatModel`.

    Attributes:
        temperature: divisor that turns scores into log-probabilities.
        affinity: how much scores decide which item of the prefix is repeated; 0 for not at all.
    """

    temperature: float = 1.0
    affinity: float = 0.0


class Scorer(Protocol):
    """The interface that evaluation uses.

    Attributes:
        weights: weight of each part; the score is the weighted sum of the parts.
        scales: view -> scale of the repeat component; a view that is not in it has the default.
    """

    weights: dict[str, float]
    scales: dict[str, RepeatScale]

    def prepare(self) -> dict[str, Tables]:
        """Return what is computed once for a whole catalogue."""
        ...

    def part_scores(self, batch: SessionBatch, tables: Mapping[str, Tables]) -> dict[str, Tensor]:
        """Return the scores (N, V) of each part, valid until the next call with the same tables.

        Items that a part cannot score have -inf.
        """
        ...

    def summands(self, parts: dict[str, Tensor], batch: SessionBatch) -> dict[str, Tensor]:
        """Return the terms of the weighted sum, which are finite for every item."""
        ...


class Objective(Protocol):
    """An auxiliary training objective, used for pretraining or instead of predicting the next item.

    An objective that encodes each sample several times has an attribute ``readings`` with that number.
    """

    def __call__(self, network: Network, inputs: ObjectiveBatch) -> Tensor:
        """Return the loss of a batch, a scalar."""
        ...


class Network(nn.Module):
    """A two-tower network: item encoder, session encoder, and their inner product over a temperature.

    Args:
        items: the item encoder. Its table (V, D) is read by the session encoder and scored.
        session: the session encoder; class attributes declare what it reads.
        queries: the weights of several queries, if the items of the prefix are queries (see
            :mod:`alterrec.nn.mixtures`); the session vector is one of them or not read. None: the session
            vector alone.
        temperature: divisor of scores.
        blocks: named column ranges of the table, whose products are parts of the score (Eq. 8).
        outputs: returns the table that is scored, if it differs from the one that is read: a module, or a
            method of a module in ``items`` (a module in both places would be in the state dict twice).
            Columns beyond the width of session vectors are item biases.
        cosine: whether session vectors and scored item vectors are normalised to length 1.
        output_dropout: dropout probability of the scored item vectors.
        objectives: modules that implement :class:`Objective`, by name. Parameters that only an objective
            uses belong to it.
        settings: the recipe's table of this network, which has its learning rate. None: the common rate.

    Example:
        >>> from alterrec.nn.item_encoders import IdTable
        >>> from alterrec.nn.session_encoders import Mean
        >>> network = Network(IdTable(5, 4), Mean(), temperature=1.0)
        >>> batch = SessionBatch.of_prefixes(torch.tensor([[1, 2]]), torch.tensor([2]))
        >>> network.scores(batch).shape
        torch.Size([1, 5])
    """

    def __init__(
        self,
        items: nn.Module,
        session: SessionEncoder,
        temperature: float | Literal["learned"],
        blocks: Mapping[str, slice] | None = None,
        *,
        outputs: Callable[[Tensor | None], Tensor] | None = None,
        queries: Queries | None = None,
        cosine: bool = False,
        output_dropout: float = 0.0,
        objectives: Mapping[str, nn.Module] | None = None,
        settings: NetworkSettings | None = None,
    ) -> None:
        super().__init__()
        self.settings = settings
        self.items = items
        self.session = session
        self.queries = queries
        self.outputs = outputs
        self.output_dropout = Dropout(output_dropout)
        self.cosine = cosine
        self.objectives = nn.ModuleDict(objectives or {})
        self.blocks = dict(blocks or {})
        self.shard = next(iter(divided_tensors(items).values()), None)
        self.dim: int = items.dim  # type: ignore[assignment]
        start = math.log(self.dim**0.5 if temperature == "learned" else temperature)
        if temperature == "learned":
            self.log_temperature = nn.Parameter(torch.tensor(start))
        else:
            self.register_buffer("log_temperature", torch.tensor(start, dtype=torch.float64))

    @property
    def reads_prefixes(self) -> bool:
        """Whether the session encoder reads prefixes instead of whole sessions."""
        return self.session.reads_prefixes

    def item_tables(self, ids_U: Tensor | None = None, ids_of_each: Sequence[Tensor] | None = None) -> Tables:
        """Return both item tables (V, D), often the same one, or their rows (U, D) of ``ids_U``.

        Of divided tables, each process has its rows of the scored table. Rows of ``ids_U``, which ascend, are
        fetched from the processes that hold them, and their gradient is sent back.

        Args:
            ids_U: the items. Default: all.
            ids_of_each: where tables are divided, the ids that each process asks for. Default: the same in
                all of them.
        """
        if self.shard is None:
            return self.held_tables(ids_U)
        if ids_U is None:
            # What is read is fetched by itself, so of two tables only the one that is scored is made.
            outputs_SD = (self.outputs or self.items)(None)
            return Tables(None, self._scored(outputs_SD, self.shard.ids(outputs_SD.device)), ScoreBuffer())
        if ids_of_each is None:
            asked = [ids_U[self.shard.held(ids_U)]] * parallel.job().world
        else:
            asked = [ids[self.shard.held(ids)] for ids in ids_of_each]
        sizes, from_each = [len(ids) for ids in asked], self.shard.counts(ids_U)
        held_ids, places = torch.cat(asked).unique(return_inverse=True)  # type: ignore[no-untyped-call]
        tables = self.held_tables(held_ids)
        inputs_UD = parallel.exchanged(tables.inputs[places], sizes, from_each)
        same = tables.outputs is tables.inputs
        outputs_UD = inputs_UD if same else parallel.exchanged(tables.outputs[places], sizes, from_each)
        return tables._replace(inputs=inputs_UD, outputs=outputs_UD, ids_U=ids_U)

    def read(
        self, batch: SessionBatch, tables: Tables, ids_of_each: Sequence[Tensor] | None = None
    ) -> tuple[SessionBatch, Tables]:
        """Fetch the rows that the session encoder reads, if the tables do not have them.

        Args:
            batch: prefixes.
            tables: the item tables.
            ids_of_each: where tables are divided, the ids that each process fetches, ascending; those of this
                process include the items of the batch. Default: those of the batch, which is then the same in
                all processes.

        Returns:
            The batch with places in these rows instead of ids, and the tables with the rows; both unchanged
            if the tables have all rows.
        """
        if tables.inputs is not None:
            return batch, tables
        own = None if ids_of_each is None else ids_of_each[parallel.job().rank]
        ids_U: Tensor = batch.items_RL.unique() if own is None else own  # type: ignore[no-untyped-call]
        places_RL = torch.searchsorted(ids_U, batch.items_RL)
        tables = tables._replace(inputs=self.item_tables(ids_U, ids_of_each).inputs, ids_U=ids_U)
        return batch._replace(items_RL=places_RL, arrays=None), tables

    def held_tables(self, ids_U: Tensor | None = None) -> Tables:
        """Return the tables, or some of their rows, that this process holds."""
        inputs_VD = self.items(ids_U)
        outputs_VD = inputs_VD if self.outputs is None else self.outputs(ids_U)
        return Tables(inputs_VD, self._scored(outputs_VD, ids_U), ScoreBuffer())

    def _scored(self, outputs_VD: Tensor, ids_V: Tensor | None) -> Tensor:
        """Return a table, or some of its rows, as it is scored."""
        outputs_VD = self.output_dropout.items(outputs_VD, ids_V)
        return F.normalize(outputs_VD) if self.cosine else outputs_VD

    def encode_sessions(self, batch: SessionBatch, tables: Tables) -> Tensor:
        """Return session vectors (N, E), divided by the temperature."""
        if self.reads_prefixes:
            more: list[Any] = [batch.user_N] if self.session.reads_users else []
            if self.session.reads_graphs:
                more.append(batch.graphs(len(tables.inputs)))
            vector_ND: Tensor = self.session(tables.inputs, batch.prefixes(pad=0), batch.length_N, *more)
        elif len(batch.row_N) <= len(batch.items_RL) and self.session.encodes_last:
            number_N = None if batch.number_R is None else batch.number_R[batch.row_N]
            with rows_numbered(number_N):
                vector_ND = self.session.last(tables.inputs, batch.items_RL[batch.row_N], batch.length_N)
        else:
            vector_ND = self.session(tables.inputs, batch.items_RL)[batch.row_N, batch.length_N - 1]
        return self.as_scored(vector_ND, tables)

    def as_scored(self, vector_ND: Tensor, tables: Tables) -> Tensor:
        """Return vectors (N, E), whose product with the scored table are scores."""
        if self.cosine:
            vector_ND = F.normalize(vector_ND)
        vector_ND = vector_ND / self.log_temperature.exp().to(vector_ND)
        biases = tables.outputs.shape[1] - vector_ND.shape[1]
        return F.pad(vector_ND, (0, biases), value=1.0) if biases else vector_ND

    def query_rows(self, batch: SessionBatch, num_items: int) -> QueryRows:
        """Return the queries of a batch: its distinct items and, if it is one, the vector of each session.

        If the batch has ``arrays``, nothing is read from the device.
        """
        assert self.queries is not None
        if batch.arrays is None:
            items, lengths = batch.items_RL[batch.row_N].cpu().numpy(), batch.length_N.cpu().numpy()
        else:
            row_of, lengths = batch.arrays.row_of, batch.arrays.lengths
            items = batch.arrays.items if row_of is None else batch.arrays.items[row_of]
        items = by_distance(items, lengths)
        found, rows = distinct(items, num_items)
        exclude = found[:, None]
        if self.queries.vector_logit is not None:
            exclude = np.pad(exclude, ((0, 0), (0, items.shape[1] - 1)), constant_values=-1)
            exclude = np.concatenate([exclude, items])
            rows = np.concatenate([len(found) + np.arange(len(items))[:, None], rows], axis=1)
        return QueryRows(found, rows, exclude if self.queries.excludes_seen else None)

    def ask(self, batch: SessionBatch, tables: Tables) -> QueryBatch:
        """Return the queries of a batch with their vectors and weights."""
        assert self.queries is not None
        device = str(batch.length_N.device)
        num_items = len(tables.outputs) if self.shard is None else self.shard.total
        items, rows, exclude = self.query_rows(batch, num_items)
        batch, tables = self.read(batch, tables)
        sessions = self.queries.vector_logit is not None
        vectors_QD = self.query_vectors(on_device(items, device), batch, tables, sessions=sessions)
        log_weights_NJ = self.queries.log_weights(batch.length_N, batch.items_RL.shape[1])
        exclude_QE = None if exclude is None else on_device(exclude, device)
        return QueryBatch(vectors_QD, on_device(rows, device), log_weights_NJ, exclude_QE)

    def query_vectors(self, item_U: Tensor, batch: SessionBatch, tables: Tables, *, sessions: bool) -> Tensor:
        """Return the vectors of items and, if ``sessions``, of the sessions of a batch, as queries (Q, E)."""
        vectors_UD = self.item_queries(item_U, tables)
        return torch.cat([vectors_UD, self.encode_sessions(batch, tables)]) if sessions else vectors_UD

    def item_queries(self, item_U: Tensor, tables: Tables) -> Tensor:
        """Return the vectors of items as queries (U, E)."""
        rows_U = item_U if tables.ids_U is None else torch.searchsorted(tables.ids_U, item_U)
        return self.as_scored(F.embedding(rows_U, tables.inputs), tables)

    def scores(self, batch: SessionBatch, tables: Tables | None = None, slot: str = "") -> Tensor:
        """Return the scores (N, V) of all items, without gradient.

        Args:
            batch: N prefixes.
            tables: the item tables. Default: they are computed.
            slot: name of the result, which is valid until the next call with the same slot and tables.
        """
        return self.block_scores(batch, tables or self.item_tables(), {slot: slice(None)})[slot]

    def block_scores(
        self, batch: SessionBatch, tables: Tables, blocks: Mapping[str, slice]
    ) -> dict[str, Tensor]:
        """Return the scores (N, V) by column ranges of queries and table; the sessions are read once.

        Args:
            batch: N prefixes.
            tables: the item tables.
            blocks: name -> columns. A result is valid until the next call with the same name and tables.
        """
        if self.queries is not None:
            queries = self.ask(batch, tables)
            return {
                name: self._mixture(
                    queries._replace(vectors_QD=queries.vectors_QD[:, columns]), tables, name, columns
                )
                for name, columns in blocks.items()
            }
        vector_ND = self.encode_sessions(*self.read(batch, tables))
        return {
            name: self._product(vector_ND[:, columns], tables, name, columns)
            for name, columns in blocks.items()
        }

    def _product(self, vector_ND: Tensor, tables: Tables, slot: str, columns: slice) -> Tensor:
        buffer, outputs_VD = tables.scores, tables.outputs[:, columns]
        if self.shard is None:
            return buffer.product(vector_ND, outputs_VD, slot)
        scores_NS = buffer.product(vector_ND, outputs_VD, "rows of this process")
        return whole_scores(scores_NS, self.shard, buffer, slot, own_samples=tables.own_samples)

    def _mixture(self, queries: QueryBatch, tables: Tables, slot: str, columns: slice) -> Tensor:
        buffer, outputs_VD = tables.scores, tables.outputs[:, columns]
        if self.shard is None:
            return mixture_log_probabilities(queries, outputs_VD, buffer, slot)
        return whole_mixtures(queries, outputs_VD, buffer, slot, self.shard, own_samples=tables.own_samples)


class Recommender(nn.Module):
    """A trained system: one or more networks whose parts of the score are summed with weights.

    A network without blocks is one part; each block of a network is a part. With several queries, the whole
    network is one more part, with weight 1, and its blocks have weight 0: the log of a mixture is not the sum
    of those of its blocks.

    Args:
        networks: the networks by name.
        weights: weight of each part.
        cold_V: bool, items without training interactions, which only the text part scores. None: all parts
            score all items.

    Attributes:
        untrained: further parts without training, ``neighbours`` and ``trend``, by name; the weights of
            all parts are chosen after training.
        gate: weights that depend on the prefix; None: all prefixes have the same.
        removed: numbers of items that are read in sessions, but never recommended.

    Example:
        >>> from alterrec.nn.item_encoders import IdTable
        >>> from alterrec.nn.session_encoders import Mean
        >>> model = Recommender({"model": Network(IdTable(5, 4), Mean(), 1.0)}, {"model": 1.0})
        >>> batch = SessionBatch.of_prefixes(torch.tensor([[1, 2]]), torch.tensor([2]))
        >>> list(model.part_scores(batch, model.prepare()))
        ['model']
    """

    cold_V: Tensor | None

    def __init__(
        self, networks: Mapping[str, Network], weights: dict[str, float], cold_V: Tensor | None = None
    ) -> None:
        super().__init__()
        self.networks = nn.ModuleDict(networks)
        self.weights = weights
        self.scales: dict[str, RepeatScale] = {}
        self.untrained: dict[str, Scorer] = {}
        self.gate: Gate | None = None
        self.removed: Tensor | None = None
        self.register_buffer("cold_V", cold_V)
        number_layers(self)

    def prepare(self) -> dict[str, Tables]:
        return {name: self.network(name).item_tables() for name in self.networks}

    def network(self, name: str) -> Network:
        network = self.networks[name]
        assert isinstance(network, Network)
        return network

    @property
    def shard(self) -> Shard | None:
        """The rows of divided item tables that this process holds; None if tables are whole."""
        return next((self.network(name).shard for name in self.networks), None)

    def part_scores(self, batch: SessionBatch, tables: Mapping[str, Tables]) -> dict[str, Tensor]:
        parts: dict[str, Tensor] = {}
        for name, own in tables.items():
            network = self.network(name)
            whole = {} if network.blocks and network.queries is None else {name: slice(None)}
            parts |= network.block_scores(batch, own, whole | network.blocks)
        if self.cold_V is not None and "id" in parts:
            parts["id"] = parts["id"].masked_fill(self.cold_V, -torch.inf)
        if any(own.own_samples for own in tables.values()):
            batch = batch.only(own_share(len(batch.row_N)))
        for part, system in self.untrained.items():
            (parts[part],) = system.part_scores(batch, {}).values()
        return parts

    def summands(self, parts: dict[str, Tensor], batch: SessionBatch) -> dict[str, Tensor]:
        """Return the parts, with text scores instead of ID scores for items without training.

        The random ID vector of an untrained item would dominate the sum. Log-probabilities of both networks
        are comparable, so ``id_j := text_j - logsumexp(text) + logsumexp(id)`` makes the score of item j
        depend on text only.

        A gate multiplies the rows of each part, so that its weight depends on the prefix.
        """
        terms = parts
        if self.cold_V is not None and "id" in parts:
            shift_N1 = parts["id"].logsumexp(1, keepdim=True) - parts["text"].logsumexp(1, keepdim=True)
            terms = parts | {"id": torch.where(self.cold_V, parts["text"] + shift_N1, parts["id"])}
        return terms if self.gate is None else self.gate.scaled(terms, parts, batch, self.weights)


def score_matrices(model: Scorer) -> int:
    """Return how many score matrices (N, V) a chunk of N samples has in memory.

    These are the parts, their summands and two for intermediate results, and the scores of several queries.
    Where processes compute some columns of the scores each, further ones are exchanged.

    Example:
        >>> from alterrec.nn.item_encoders import IdTable
        >>> from alterrec.nn.session_encoders import Mean
        >>> score_matrices(Recommender({"model": Network(IdTable(5, 4), Mean(), 1.0)}, {"model": 1.0}))
        4
    """
    matrices = 2 * len(model.weights) + 2
    if isinstance(model, Recommender):
        asked = sum(model.network(name).queries is not None for name in model.networks)
        matrices += QUERIES_PER_SAMPLE * asked
        if model.shard is not None:
            # Scores of the own rows and those that are received.
            matrices += 2 * (QUERIES_PER_SAMPLE if asked else 1)
    return matrices


def separate_parts(model: Scorer) -> list[str]:
    """Return the parts that differ from the score: none if the score is a single part.

    Example:
        >>> from alterrec.nn.item_encoders import IdTable
        >>> from alterrec.nn.session_encoders import Mean
        >>> separate_parts(Recommender({"model": Network(IdTable(5, 4), Mean(), 1.0)}, {"model": 1.0}))
        []
    """
    used = [part for part, weight in model.weights.items() if weight]
    whole = used == ["model"] or len(model.weights) == 1
    return [part for part in model.weights if not (whole and part in used)]


def trained_parts(model: Scorer, parts: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return the parts of a score that are networks: all, unless a sum also has parts without training."""
    untrained = model.untrained if isinstance(model, Recommender) else {}
    return {part: scores for part, scores in parts.items() if part not in untrained}

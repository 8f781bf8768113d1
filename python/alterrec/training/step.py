"""One training step: from a batch of prefixes to its loss.

Legend: N samples, V items, U items that a step uses, Q queries, L places, P positives per sample, D width.
"""

from __future__ import annotations

import copy
import time
from dataclasses import KW_ONLY, dataclass

import numpy as np
import torch
from torch import Tensor

from alterrec import parallel
from alterrec.models.base import Network, Recommender, Tables
from alterrec.models.batches import ObjectiveBatch, SessionBatch
from alterrec.nn.dropout import step_draws
from alterrec.nn.layers import on_device
from alterrec.nn.losses import PART, ScoreBuffer, candidate_cross_entropy, generalised_bce
from alterrec.nn.mixtures import by_distance, mixture_cross_entropy
from alterrec.ranking import unchecked
from alterrec.recipe import Recipe
from alterrec.sessions import Batch, derive_seed
from alterrec.shards import Shard
from alterrec.training.candidates import (
    Supervision,
    Teacher,
    draw_pool,
    query_candidates,
    supervise,
    with_positives,
)
from alterrec.training.samples import samples_between
from alterrec.training.schedule import Phase
from alterrec.training.windows import WindowRanks, pool_size


class Clock:
    """Seconds by part of a step: each lap adds the time since the previous lap to one part.

    On a device, a lap waits for the device, so a measured run is slower than an unmeasured one.

    Example:
        >>> clock = Clock()
        >>> clock.start()
        >>> clock.lap("encoder")
        >>> list(clock.seconds)
        ['encoder']
    """

    def __init__(self, device: str = "cpu") -> None:
        self.seconds: dict[str, float] = {}
        self._device = device
        self._last = 0.0

    def start(self) -> None:
        self._last = self._now()

    def lap(self, part: str) -> None:
        """Add the time since the last lap to ``part``."""
        now = self._now()
        self.seconds[part] = self.seconds.get(part, 0.0) + now - self._last
        self._last = now

    def _now(self) -> float:
        if self._device != "cpu":
            torch.accelerator.synchronize()
        return time.perf_counter()


class NoClock(Clock):
    """A clock that measures nothing and never waits for a device."""

    def start(self) -> None:
        pass

    def lap(self, part: str) -> None:
        pass


# Purposes of the seeds of dropout and of pools.
MASKS, POOLS = 3, 5
# With more items per candidate than this, only the items that a step uses are encoded and scored.
ITEMS_PER_CANDIDATE = 100


@dataclass
class Step:
    """Computes the loss of each batch of one epoch.

    Holds what the steps of an epoch share: the trained network, frozen teachers, and the score buffer.

    Attributes:
        model: the model; the network of the phase is set to training mode.
        recipe: the resolved recipe.
        phase: what is trained, and against which candidates.
        num_items: size of the catalogue V.
        exclude_seen: whether items of the prefix are left out of the candidates.
        seed: seed of the random draws of this epoch.
        buffer: memory for score matrices.
        clock: measures the time of each part.
    """

    model: Recommender
    recipe: Recipe
    phase: Phase
    num_items: int
    _: KW_ONLY
    exclude_seen: bool
    seed: int
    buffer: ScoreBuffer
    clock: Clock

    def __post_init__(self) -> None:
        recipe, phase = self.recipe, self.phase
        self.network = self.model.network(phase.train).train()
        for name, value in self.network.named_parameters():
            value.requires_grad_(not name.startswith(phase.freeze))
        self.ranks = WindowRanks.on(recipe.window, self.num_items, negatives=phase.negatives)
        self.negative_teacher = phase.teacher if phase.negatives == "window" else None
        positive_teacher = {"id": "id", "other": phase.teacher}[recipe.positives.teacher]
        self.positive_teacher = positive_teacher if phase.positives else None
        names = {name for name in (self.negative_teacher, self.positive_teacher) if name}
        self.teachers = {name: self._frozen(name) for name in names}

    def _frozen(self, name: str) -> tuple[Network, Tables]:
        """A teacher and its item tables, computed once because the teacher is not trained in this epoch."""
        network = self.model.network(name)
        network = copy.deepcopy(network) if network is self.network else network
        network.eval()
        with torch.no_grad():
            one = network.queries is None and self.network.queries is None
            if one and self.recipe.window.precision == "float16":
                return network, Tables(None, half_table(network, self.num_items), self.buffer)
            return network, network.item_tables()._replace(scores=self.buffer)

    def loss(self, arrays: Batch, number: int = 0) -> Tensor:
        """Return this process's part of the loss of a batch of this number in the epoch, with a gradient.

        The parts of all processes add up to the mean over the samples of the batch; so do their gradients.
        """
        mine = samples_between(arrays, parallel.share(len(arrays.targets)))
        batch = SessionBatch.of(mine, self.recipe.run.device)
        with step_draws(derive_seed(self.seed, MASKS, number), batch.number_R):
            return self._part_of_loss(batch, mine, arrays, number)

    def _part_of_loss(self, batch: SessionBatch, arrays: Batch, whole: Batch, number: int) -> Tensor:
        return self._loss_of(batch, arrays, whole, number) * parallel.weight(len(whole.targets))

    def _loss_of(self, batch: SessionBatch, arrays: Batch, whole: Batch, number: int) -> Tensor:
        device = self.recipe.run.device
        targets_N = on_device(arrays.targets, device)
        if self.phase.objective != "next":
            return self._objective_loss(batch, targets_N, arrays, whole, number)
        seen_NL = batch.prefixes() if self.exclude_seen else None
        by_query = self.network.queries is not None
        with torch.no_grad(), unchecked():
            supervision = self._supervision(StepSessions(batch, arrays.samples), targets_N, seen_NL, number)
            if by_query and len(whole.targets) > len(arrays.targets):
                supervision = self._with_all_positives(supervision, batch, whole)
        self.clock.lap("window")
        ids_U = None
        ids = supervision.candidates
        if ids is not None and ids.dtype != torch.uint8 and are_few(ids.shape[1], self.num_items):
            ids_U, batch, supervision = restrict_to_step_items(batch, supervision)
            seen_NL = batch.prefixes() if self.exclude_seen else None
        half = self.recipe.run.precision == "bfloat16"
        with torch.autocast(torch.device(device).type, torch.bfloat16, enabled=half):
            tables = self.network.item_tables(ids_U)
            self.clock.lap("item table")
            if by_query:
                queries = self.network.ask(batch, tables)
            else:
                vectors_ND = self.network.encode_sessions(batch, tables)
            self.clock.lap("encoder")
        dtype = torch.bfloat16 if half else tables.outputs.dtype
        if by_query:
            queries = queries._replace(vectors_QD=queries.vectors_QD.to(dtype))
        # Ids of a batch are those of the catalogue; checking them would wait for a device.
        with unchecked():
            if by_query:
                loss = mixture_cross_entropy(
                    queries, tables.outputs.to(dtype), *supervision, buffer=self.buffer
                )
            else:
                loss = self._loss(vectors_ND.to(dtype), tables.outputs.to(dtype), supervision, seen_NL)
        self.clock.lap("head")
        self.time_encoder(tables)
        return loss

    def time_encoder(self, tables: Tables) -> None:
        """Measure the backward pass of the encoder, at whose end the gradient of the table is complete."""
        tables.outputs.register_hook(lambda gradient: self.clock.lap("encoder"))  # type: ignore[no-untyped-call]

    def _objective_loss(
        self, batch: SessionBatch, targets_N: Tensor, arrays: Batch, whole: Batch, number: int
    ) -> Tensor:
        objective = self.network.objectives[self.phase.objective]
        seeds = self.seed, number
        inputs = ObjectiveBatch(
            batch, targets_N, arrays.samples, *seeds, self.exclude_seen, self.buffer, whole
        )
        device = torch.device(self.recipe.run.device).type
        with torch.autocast(device, torch.bfloat16, enabled=self.recipe.run.precision == "bfloat16"):
            loss: Tensor = objective(self.network, inputs)
        self.clock.lap("objective")
        return loss

    def _loss(
        self, vectors_ND: Tensor, table_VD: Tensor, supervision: Supervision, seen_NL: Tensor | None
    ) -> Tensor:
        choice, candidates = self.recipe.loss, supervision.candidates
        if choice.name == "gbce":
            assert candidates is not None
            return generalised_bce(
                vectors_ND,
                table_VD,
                supervision.positives,
                supervision.weights,
                candidates,
                sampling_rate=candidates.shape[1] / (self.num_items - 1),
                calibration=choice.calibration,
            )
        each = self._weight_of_each(candidates)
        return candidate_cross_entropy(
            vectors_ND, table_VD, *supervision, seen_NL, each=each, buffer=self.buffer
        )

    def _weight_of_each(self, candidates: Tensor | None) -> float:
        """Return the weight of each candidate in the normaliser."""
        if self.recipe.loss.logq and self.phase.negatives == "random" and candidates is not None:
            return self.num_items / candidates.shape[1]
        return 1.0

    def _pool(self, number: int) -> Tensor | None:
        """Return the items among which the teacher's window is found; None: all."""
        size = pool_size(self.recipe.window, self.num_items)
        if not self.negative_teacher or not size:
            return None
        seed, device = derive_seed(self.seed, POOLS), self.recipe.run.device
        return draw_pool(size, self.num_items, seed=seed, number=number, device=device)

    def _supervision(
        self, sessions: StepSessions, targets_N: Tensor, seen_NL: Tensor | None, number: int
    ) -> Supervision:
        """Return the positives and the candidates of samples, or of the queries of these samples."""
        pool_M = self._pool(number)
        uses = ((self.negative_teacher, pool_M), (self.positive_teacher, None))
        scores = {(name, pool is None): self._scores(name, sessions, pool) for name, pool in uses if name}
        self.clock.lap("teacher")
        by_query = self.network.queries is not None
        supervision = supervise(
            targets_N,
            sessions.samples,
            "full" if by_query else self.phase.negatives,
            window=self.recipe.window,
            ranks=self.ranks,
            num_items=self.num_items,
            seed=self.seed,
            positives=self.recipe.positives,
            negative_teacher=scores.get((self.negative_teacher or "", pool_M is None)),
            positive_teacher=scores.get((self.positive_teacher or "", True)),
            seen_NL=seen_NL,
            chunks=self.buffer.chunks(len(targets_N)),
            pool_M=pool_M,
            shard=self.network.shard,
        )
        if by_query:
            supervision = supervision._replace(candidates=self._query_candidates(sessions, pool_M))
        return supervision

    def _scores(self, name: str, sessions: StepSessions, pool_M: Tensor | None = None) -> Teacher:
        """Return a function that gives the scores of a teacher for a slice of the samples."""
        network, tables = self.teachers[name]
        if network.queries is not None:
            # Softmaxes of several queries are mixed, whose sums have all items.
            scores = sessions.mixed(network, tables, self.buffer)
            items = slice(None) if pool_M is None else _held_places(pool_M, network.shard)
            return lambda chunk: scores(chunk)[:, items]
        vectors_ND, scored_MD = sessions.vectors(network, tables), scored_rows(tables, pool_M, network.shard)
        return lambda chunk: self._product(vectors_ND[chunk], scored_MD)

    def _query_candidates(self, sessions: StepSessions, pool_M: Tensor | None) -> Tensor | None:
        """Return the candidates of each query: the teacher ranks the items for the same query."""
        assert self.network.queries is not None
        items, _, exclude = self.network.query_rows(sessions.every, self.num_items)
        # Draws are functions of the item, and of the sample for session vectors.
        rows, vectors = items, self.network.queries.vector_logit is not None
        if vectors:
            rows = np.concatenate([items, self.num_items + sessions.samples])
        teacher = None
        if self.negative_teacher:
            network, tables = self.teachers[self.negative_teacher]
            vectors_QD = sessions.query_vectors(network, tables, items, sessions=vectors)
            scored_MD = scored_rows(tables, pool_M, network.shard)
            teacher = lambda chunk: self._product(vectors_QD[chunk], scored_MD)  # noqa: E731
        return query_candidates(
            rows,
            self.phase.negatives,
            window=self.recipe.window,
            ranks=self.ranks,
            num_items=self.num_items,
            seed=self.seed,
            teacher=teacher,
            device=self.recipe.run.device,
            exclude=exclude,
            chunks=self.buffer.chunks(len(rows)),
            pool_M=pool_M,
            shard=self.network.shard,
        )

    def _with_all_positives(self, supervision: Supervision, batch: SessionBatch, whole: Batch) -> Supervision:
        """Add the positives of the samples that other processes have to the candidates of item queries."""
        candidates, positives_NP = supervision.candidates, supervision.positives
        if candidates is None:
            return supervision
        items_NL = whole.items if whole.row_of is None else whole.items[whole.row_of]
        positives = parallel.joined(positives_NP, len(whole.targets)).cpu().numpy()
        items = self.network.query_rows(batch, self.num_items).items
        added = with_positives(candidates, items, by_distance(items_NL, whole.lengths), positives)
        return supervision._replace(candidates=added)

    def _product(self, vectors_ND: Tensor, scored_MD: Tensor) -> Tensor:
        self.clock.lap("window")
        scores_NM = self.buffer.product(vectors_ND, scored_MD)
        self.clock.lap("teacher")
        return scores_NM


class StepSessions:
    """The sessions of the samples of a step.

    Attributes:
        every: the samples.
        samples: their numbers.
    """

    def __init__(self, every: SessionBatch, samples: np.ndarray) -> None:
        self.every = every
        self.samples = samples

    def vectors(self, network: Network, tables: Tables) -> Tensor:
        """Return their vectors (N, E)."""
        return network.encode_sessions(*network.read(self.every, tables))

    def query_vectors(self, network: Network, tables: Tables, items: np.ndarray, *, sessions: bool) -> Tensor:
        """Return the vectors of items and, if ``sessions``, of all sessions, as queries (Q, E)."""
        return network.query_vectors(
            on_device(items, str(self.every.length_N.device)), self.every, tables, sessions=sessions
        )

    def mixed(self, network: Network, tables: Tables, buffer: ScoreBuffer) -> Teacher:
        """Return a function that gives the scores of a network with several queries for some samples."""
        tables = tables._replace(scores=buffer)
        return lambda chunk: network.scores(self.every.only(chunk), tables)


def scored_rows(tables: Tables, pool_M: Tensor | None, shard: Shard | None) -> Tensor:
    """Return the rows of a teacher's table that are scored: all, or those of a pool, at least float32."""
    if pool_M is None:
        return tables.outputs
    rows_MD = tables.outputs[_held_places(pool_M, shard)]
    return rows_MD.to(torch.promote_types(tables.outputs.dtype, torch.float32))


def _held_places(ids_M: Tensor, shard: Shard | None) -> Tensor:
    """Return the rows of ascending ids in the part of a table that this process holds."""
    return ids_M if shard is None else ids_M[shard.held(ids_M)] - shard.first


def half_table(network: Network, num_items: int) -> Tensor:
    """Return the scored table (V, E) of a network as float16, or the rows of this process, made in parts.

    Example:
        >>> from alterrec.nn.item_encoders import IdTable
        >>> from alterrec.nn.session_encoders import Mean
        >>> half_table(Network(IdTable(5, 4), Mean(), temperature=1.0), 5).dtype
        torch.float16
    """
    device = next(network.parameters()).device
    shard = network.shard or Shard(0, num_items, num_items)
    whole_VE = torch.empty(0)
    for number, ids_R in enumerate(torch.split(shard.ids(device), PART)):
        part_RE = network.held_tables(ids_R).outputs
        if not number:
            whole_VE = torch.empty(shard.size, part_RE.shape[1], dtype=torch.float16, device=device)
        whole_VE[number * PART : number * PART + len(ids_R)] = part_RE
    return whole_VE


def are_few(candidates: int, num_items: int) -> bool:
    return num_items > ITEMS_PER_CANDIDATE * candidates


def items_encoded(recipe: Recipe, phase: Phase, num_items: int) -> int:
    """Return the largest number of items that a step of a phase encodes.

    Example:
        >>> from alterrec.recipe import resolve
        >>> recipe = resolve("alterrec", overrides={"window.sample": 10, "optim.batch_size": 100})
        >>> items_encoded(recipe, Phase("warm-up", "id", 1, "random"), 1_000_000)
        6100
        >>> items_encoded(recipe, Phase("warm-up", "id", 1, "full"), 1_000_000)
        1000000
    """
    drawn = recipe.window.sample
    if not drawn or phase.negatives == "full" or not are_few(drawn, num_items):
        return num_items
    each = drawn + recipe.model.max_len + 1 + phase.positives
    return min(num_items, recipe.optim.batch_size * each)


def items_scored(recipe: Recipe, phase: Phase, num_items: int) -> int:
    """Return the largest number of items that are scored at a time in a step of a phase.

    Example:
        >>> from alterrec.recipe import resolve
        >>> settings = {"window.sample": 10, "window.pool": 20_000, "optim.batch_size": 100}
        >>> recipe = resolve("alterrec", overrides=settings)
        >>> items_scored(recipe, Phase("taught", "id", 1, "window", "text"), 1_000_000)
        20000
        >>> items_scored(recipe, Phase("taught", "id", 1, "window", "text", positives=3), 1_000_000)
        1000000
    """
    encoded = items_encoded(recipe, phase, num_items)
    if not phase.teacher:
        return encoded
    ranked = pool_size(recipe.window, num_items) if phase.negatives == "window" else 0
    asked = phase.positives or not ranked
    return num_items if asked else max(encoded, ranked)


def restrict_to_step_items(
    batch: SessionBatch, supervision: Supervision
) -> tuple[Tensor, SessionBatch, Supervision]:
    """Restrict a step to the items that it uses.

    Returns:
        The ids of these items (U,), ascending, and both arguments with positions in them instead of ids.

    Example:
        >>> batch = SessionBatch.of_prefixes(torch.tensor([[7, 3]]), torch.tensor([2]))
        >>> given = Supervision(torch.tensor([[9]]), torch.ones(1), torch.tensor([[7, 8]]))
        >>> ids_U, batch, given = restrict_to_step_items(batch, given)
        >>> ids_U.tolist(), batch.items_RL.tolist(), given.positives.tolist(), given.candidates.tolist()
        ([3, 7, 8, 9], [[1, 0]], [[3]], [[1, 2]])
    """
    assert supervision.candidates is not None
    parts = [batch.items_RL, supervision.positives, supervision.candidates]
    ids_U, places = torch.cat([part.flatten() for part in parts]).unique(return_inverse=True)  # type: ignore[no-untyped-call]
    pieces = places.split([part.numel() for part in parts])
    items, positives, candidates = (piece.view(part.shape) for piece, part in zip(pieces, parts, strict=True))
    batch = batch._replace(items_RL=items, arrays=None)
    return ids_U, batch, Supervision(positives, supervision.weights, candidates)

"""One training step: from a batch of prefixes to its positives and candidates, and to the loss.

Legend: N samples, V items, U items that a step uses, L places, P positives per sample, C candidates per
sample, E excluded items per sample.
"""

from __future__ import annotations

import copy
import time
from collections.abc import Callable, Sequence
from dataclasses import KW_ONLY, dataclass
from typing import NamedTuple, TypeAlias

import numpy as np
import torch
from torch import Tensor

from alterrec.errors import InputError
from alterrec.models.base import Network, ObjectiveBatch, Recommender, SessionBatch, Tables
from alterrec.nn.layers import on_device
from alterrec.nn.losses import ScoreBuffer, candidate_cross_entropy, generalised_bce
from alterrec.ranking import rank_window, rank_window_bits, top_ranked, unchecked, uniform_items
from alterrec.recipe import Recipe
from alterrec.recipe_settings import PositivesSettings, WindowSettings
from alterrec.sessions import Batch
from alterrec.training.schedule import Phase

Teacher: TypeAlias = Callable[[slice], Tensor]


class Supervision(NamedTuple):
    """Arguments of :func:`~alterrec.nn.losses.candidate_cross_entropy`.

    Attributes:
        positives: (N, P) int64 item ids; the first column is the target.
        weights: (P,) float32, the weight of each column.
        candidates: (N, C) int64 ids, (N, ceil(V / 8)) uint8 bits, or None for the whole catalogue.
    """

    positives: Tensor
    weights: Tensor
    candidates: Tensor | None


class WindowRanks(NamedTuple):
    """A rank window over one catalogue: 0-based ranks ``start`` to ``stop - 1``.

    Example:
        >>> WindowRanks.on(WindowSettings(first=6, last=0.1), num_items=1000)
        WindowRanks(start=5, stop=100)
    """

    start: int
    stop: int

    @classmethod
    def on(cls, window: WindowSettings, num_items: int, seen: int = 0) -> WindowRanks:
        """Return the ranks of a recipe's window.

        Args:
            window: the window, as ranks or as fractions of the catalogue.
            num_items: size of the catalogue.
            seen: most items of a session that are excluded.

        Raises:
            InputError: the window does not fit into the candidates.
        """
        first, last = (
            int(value) if value >= 1 else max(1, round(value * num_items))
            for value in (window.first, window.last)
        )
        ranks = cls(first - 1, last)
        candidates = num_items - window.exclude_target - seen
        if not ranks.start < ranks.stop <= candidates:
            raise InputError(
                f"window.first is {window.first} and window.last is {window.last}, which are the ranks "
                f"{ranks.start + 1}.."
                f"{ranks.stop} of {candidates} candidates; use 1 <= first <= last <= {candidates}, or "
                "fractions such as --set window.last=0.1"
            )
        return ranks


def supervise(
    targets_N: Tensor,
    samples_N: np.ndarray,
    negatives: str,
    *,
    window: WindowSettings,
    ranks: WindowRanks,
    num_items: int,
    seed: int,
    positives: PositivesSettings,
    negative_teacher: Teacher | None = None,
    positive_teacher: Teacher | None = None,
    seen_NL: Tensor | None = None,
    chunks: Sequence[slice] = (slice(None),),
) -> Supervision:
    """Return positives and candidates of one batch.

    Candidates are the teacher's rank window (all of it, or a sample), items sampled from the catalogue, or
    both. Every draw is a function of (seed, sample id). With ``random`` negatives there are as many
    candidates as the window has.

    Args:
        targets_N: int64 target items.
        samples_N: int64 sample ids, the same in every epoch.
        negatives: ``full``, ``random`` or ``window``.
        window, ranks: the recipe's window and its ranks in this catalogue.
        num_items: size of the catalogue V.
        seed: seed of the draws, another one in each epoch.
        positives: number and weight of additional positives.
        negative_teacher: returns scores (n, V) of the n samples of a chunk, whose rank window gives the
            hard negatives; required for ``window``.
        positive_teacher: like ``negative_teacher``; its top items are additional positives. None: there are
            no additional positives.
        seen_NL: items of the prefixes, padded with -1, that are neither ranked nor additional positives.
        chunks: slices of the samples that teachers score at a time.
    """
    device, total = str(targets_N.device), window.sample or ranks.stop - ranks.start
    drawn = {"full": 0, "random": total, "window": round(total * window.random_share)}[negatives]
    hard = total - drawn if negatives == "window" else 0
    positives_NP, candidates = [], []
    for chunk in chunks if positive_teacher or hard else ():
        target_N1 = targets_N[chunk, None]
        seen = target_N1[:, :0] if seen_NL is None else seen_NL[chunk]
        excluded_NE = torch.cat([target_N1, seen], 1)
        scores_NV = None
        if positive_teacher:
            scores_NV = positive_teacher(chunk)
            top_NP = top_ranked(scores_NV, positives.top, exclude=excluded_NE)[0]
            positives_NP.append(torch.cat([target_N1, top_NP], 1))
        if hard:
            assert negative_teacher is not None
            if scores_NV is None or negative_teacher != positive_teacher:
                scores_NV = negative_teacher(chunk)
            exclude = excluded_NE if window.exclude_target else seen
            # The whole window is passed as bits; together with random items, all candidates are ids.
            if not drawn and hard == ranks.stop - ranks.start:
                candidates.append(rank_window_bits(scores_NV, *ranks, exclude=exclude))
            else:
                rows = samples_N[chunk]
                candidates.append(
                    rank_window(scores_NV, *ranks, exclude=exclude, sample=hard, seed=seed, rows=rows)
                )
    weight = positives.weight / (positives.top if positives.as_samples else 1) if positives.top else 0.0
    additional = positives.top if positive_teacher else 0
    parts = [torch.cat(candidates)] if candidates else []
    if drawn:
        parts.insert(0, on_device(uniform_items(samples_N, drawn, num_items, seed=seed), device))
    return Supervision(
        torch.cat(positives_NP) if positives_NP else targets_N[:, None],
        on_device(np.array([1.0] + [weight] * additional, np.float32), device),
        torch.cat(parts, 1) if parts else None,
    )


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


def without_repeated_targets(batch: Batch) -> Batch:
    """Return the samples of a batch whose target is not an item of its prefix.

    Example:
        >>> from alterrec.sessions import PrefixBatches, SessionStore
        >>> store = SessionStore.from_arrays([0, 0, 0], [4, 4, 3])
        >>> (batch,) = PrefixBatches(store, 8, 50, shuffle=False, layout="by_session")
        >>> without_repeated_targets(batch).targets
        array([3])
    """
    row_of = np.arange(len(batch.lengths)) if batch.row_of is None else batch.row_of
    in_prefix_NL = np.arange(batch.items.shape[1]) < batch.lengths[:, None]
    new_N = ~((batch.items[row_of] == batch.targets[:, None]) & in_prefix_NL).any(1)
    if new_N.all():
        return batch
    return batch._replace(
        lengths=batch.lengths[new_N],
        targets=batch.targets[new_N],
        samples=batch.samples[new_N],
        sessions=batch.sessions[new_N],
        users=None if batch.users is None else batch.users[new_N],
        row_of=row_of[new_N],
    )


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
        self.ranks = WindowRanks(0, 0)
        if phase.negatives != "full":
            self.ranks = WindowRanks.on(recipe.window, self.num_items)
        self.negative_teacher = phase.teacher if phase.negatives == "window" else None
        positive_teacher = {"id": "id", "other": phase.teacher}[recipe.positives.teacher]
        self.positive_teacher = positive_teacher if phase.positives else None
        names = {name for name in (self.negative_teacher, self.positive_teacher) if name}
        self.teachers = {name: self._frozen(name) for name in names}

    def _frozen(self, name: str) -> tuple[Network, Tables]:
        """A teacher and its item tables, computed once because the teacher is not trained in this epoch."""
        network = self.model.network(name)
        network = copy.deepcopy(network) if network is self.network else network
        with torch.no_grad():
            return network.eval(), network.item_tables()

    def loss(self, arrays: Batch) -> Tensor:
        """Return the loss of a batch, a scalar with a gradient."""
        device = self.recipe.run.device
        batch = SessionBatch.of(arrays, device)
        targets_N = on_device(arrays.targets, device)
        if self.phase.objective != "next":
            return self._objective_loss(batch, targets_N, arrays)
        seen_NL = batch.prefixes() if self.exclude_seen else None
        with torch.no_grad(), unchecked():
            scores = {name: self._scores(name, batch) for name in self.teachers}
            self.clock.lap("teacher")
            supervision = supervise(
                targets_N,
                arrays.samples,
                self.phase.negatives,
                window=self.recipe.window,
                ranks=self.ranks,
                num_items=self.num_items,
                seed=self.seed,
                positives=self.recipe.positives,
                negative_teacher=scores[self.negative_teacher] if self.negative_teacher else None,
                positive_teacher=scores[self.positive_teacher] if self.positive_teacher else None,
                seen_NL=seen_NL,
                chunks=self.buffer.chunks(len(targets_N)),
            )
        self.clock.lap("window")
        ids_U = None
        ids = supervision.candidates
        if ids is not None and ids.dtype != torch.uint8 and _are_few(ids.shape[1], self.num_items):
            ids_U, batch, supervision = restrict_to_step_items(batch, supervision)
            seen_NL = batch.prefixes() if self.exclude_seen else None
        half = self.recipe.run.precision == "bfloat16"
        with torch.autocast(torch.device(device).type, torch.bfloat16, enabled=half):
            tables = self.network.item_tables(ids_U)
            self.clock.lap("item table")
            vectors_ND = self.network.encode_sessions(batch, tables)
            self.clock.lap("encoder")
        dtype = torch.bfloat16 if half else vectors_ND.dtype
        loss = self._loss(vectors_ND.to(dtype), tables.outputs.to(dtype), supervision, seen_NL)
        self.clock.lap("head")
        # The gradient of the table is complete once the backward pass of the encoder has ended.
        tables.outputs.register_hook(lambda gradient: self.clock.lap("encoder"))  # type: ignore[no-untyped-call]
        return loss

    def _objective_loss(self, batch: SessionBatch, targets_N: Tensor, arrays: Batch) -> Tensor:
        objective = self.network.objectives[self.phase.objective]
        inputs = ObjectiveBatch(batch, targets_N, arrays.samples, self.seed, self.exclude_seen, self.buffer)
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
        each = 1.0
        if choice.logq and self.phase.negatives == "random" and candidates is not None:
            each = self.num_items / candidates.shape[1]
        return candidate_cross_entropy(
            vectors_ND, table_VD, *supervision, seen_NL, each=each, buffer=self.buffer
        )

    def _scores(self, name: str, batch: SessionBatch) -> Teacher:
        network, tables = self.teachers[name]
        vectors_ND = network.encode_sessions(batch, tables)

        def scores(chunk: slice) -> Tensor:
            self.clock.lap("window")
            scores_NV = self.buffer.product(vectors_ND[chunk], tables.outputs)
            self.clock.lap("teacher")
            return scores_NV

        return scores


def _are_few(candidates: int, num_items: int) -> bool:
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
    if not drawn or phase.negatives == "full" or not _are_few(drawn, num_items):
        return num_items
    each = drawn + recipe.model.max_len + 1 + phase.positives
    return min(num_items, recipe.optim.batch_size * each)


def check_loss(recipe: Recipe, plan: Sequence[Phase]) -> None:
    """Raise InputError if the recipe's loss needs sampled candidates and a phase has none.

    Example:
        >>> from alterrec.recipe import resolve
        >>> from alterrec.training.schedule import phases
        >>> recipe = resolve("id_only", overrides={"loss.name": "gbce", "schedule.negatives": "random"})
        >>> check_loss(recipe, phases(recipe)[1:])
    """
    whole = not recipe.window.sample and not recipe.window.random_share
    for phase in plan if recipe.loss.name == "gbce" else ():
        full = phase.negatives == "full"
        if not phase.is_pretraining and (full or (phase.negatives == "window" and whole)):
            raise InputError(
                f"loss.name is 'gbce', which needs sampled negatives, but phase {phase.name!r} uses "
                f"the whole {'catalogue' if full else 'window'}; set schedule.negatives=random, "
                "schedule.warmup_negatives=random or window.sample=256"
            )


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

"""The training loop over phases: validation and a checkpoint after each epoch, at the end the best epoch.

Long epochs have checkpoints in between, too. Wherever a run is killed, it resumes to the same weights.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from alterrec import parallel
from alterrec.data.repeats import SeenItems
from alterrec.data.times import used_shares
from alterrec.errors import InputError
from alterrec.evaluation.evaluate import NotFiniteError
from alterrec.files import reading
from alterrec.models.base import Recommender
from alterrec.nn.dropout import keep_masks_uncompiled
from alterrec.nn.losses import ScoreBuffer
from alterrec.progress import Event, Listener, ignore
from alterrec.ranking import uniform_items
from alterrec.recipe import Recipe, dump_recipe
from alterrec.recipe_settings import NetworkSettings
from alterrec.results import Epoch, PartLoss, Views
from alterrec.sessions import Batch, PrefixBatches, SessionStore, derive_seed
from alterrec.tensor_files import all_finite
from alterrec.training.checkpoint import (
    START_AGAIN,
    PartialEpoch,
    TrainingState,
    checkpoint_shards,
)
from alterrec.training.divided_step import DividedStep
from alterrec.training.gradients import GradientSum
from alterrec.training.optimisers import Moments, NetworkOptimiser
from alterrec.training.samples import chosen_samples, without_repeated_targets
from alterrec.training.schedule import Phase, first_epochs
from alterrec.training.step import Clock, NoClock, Step

# Purposes of derived seeds: each use of randomness has its own.
INITIALISATION, ORDER, DRAWS = range(3)
AGES = 4

# A share of the validation metric before hard negatives, below which a warning is given. The default run on
# the built-in catalogue drops to 99.7 % for one epoch and ends at 111 %.
COLLAPSE = 0.95


class DivergenceError(InputError):
    """The loss or the weights are not finite: this setting does not work, but another one may."""


def torch_seed(seed: int, *words: int) -> int:
    """Derive a seed for torch's generator, which takes 63 bits."""
    return derive_seed(seed, *words) >> 1


def parameters_of(model: torch.nn.Module) -> dict[str, Tensor]:
    """Return a copy of every parameter by name; buffers (frozen text vectors) are rebuilt from the data."""
    return {name: value.detach().clone() for name, value in model.named_parameters()}


def set_parameters(model: torch.nn.Module, values: Mapping[str, Tensor]) -> None:
    with torch.no_grad():
        for name, value in model.named_parameters():
            if values[name].shape != value.shape:
                raise ValueError(f"{name} has shape {tuple(values[name].shape)}, not {tuple(value.shape)}")
            value.copy_(values[name])


@dataclass
class Trainer:
    """Trains a model in place over the phases of a plan.

    Attributes:
        model: the model, changed in place.
        recipe: the resolved recipe.
        plan: the phases, from :func:`~alterrec.training.schedule.phases`.
        store: the training sessions.
        validate: returns validation metrics of the model by view. It is called after each epoch, with the
            model in evaluation mode.
        checkpoint: path of the file that is written after each epoch, and within an epoch every
            ``run.checkpoint_every`` seconds.
        inspect: returns loss and gradient of each part of the score; called after ``validate``. The result
            is stored in the training curves.
        fingerprint: fingerprint of the data, stored in the checkpoint: a run can be resumed only with the
            same data.
        seen: rule for the items of a prefix, as in evaluation. Unless they are ``kept``, they are no
            candidates of the loss. With ``data.exclude_seen = "auto"``, targets that repeat one are not
            trained: their probability is counted, so it has no gradient.
        score_rows: number of samples whose scores are in memory at a time.
        clock: measures the time of each part of a step.
        listen: called with every progress event.
        stopped: whether this process was asked to stop, where several processes train and have to stop after
            the same step. By default a KeyboardInterrupt says so.
    """

    model: Recommender
    recipe: Recipe
    plan: Sequence[Phase]
    store: SessionStore
    validate: Callable[[], Views]
    checkpoint: Path
    inspect: Callable[[], dict[str, PartLoss]] = dict
    fingerprint: str = ""
    seen: SeenItems = "kept"
    score_rows: int = 512
    clock: Clock = field(default_factory=NoClock)
    listen: Listener = ignore
    stopped: Callable[[], bool] = lambda: False

    def run(self, *, resume: bool = False) -> tuple[TrainingState, str]:
        """Train until the plan ends or validation stops improving, then restore the best epoch.

        Args:
            resume: continue from the checkpoint if there is one. The weights at the end equal those of a
                run that was never interrupted.

        Returns:
            The state after training, and why training ended: ``finished``, ``patience`` or ``interrupted``
            (Ctrl-C).

        Raises:
            InputError: the catalogue is too small for the rank window, or the checkpoint belongs to another
                run.
            DivergenceError: the loss, the weights or the scores are not finite.
        """
        model, recipe = self.model, self.recipe
        optimisers = {name: self._optimiser(name) for name in model.networks}
        buffer = ScoreBuffer(self.score_rows)
        if recipe.run.compile:
            keep_masks_uncompiled()
            for name in model.networks:
                model.network(name).session.compile(dynamic=True)
        if resume and parallel.from_first(self.checkpoint.exists):
            state = self._resumed(optimisers)
        else:
            state = TrainingState(dump_recipe(recipe), self.fingerprint, parameters=parameters_of(model))
        saved = state
        by_epoch = [phase for phase in self.plan for _ in range(phase.epochs)]
        stopped = "finished"
        try:
            while state.epoch < len(by_epoch):
                if self._is_out_of_patience(state, by_epoch):
                    stopped = "patience"
                    break
                phase = by_epoch[state.epoch]
                begins = state.epoch and by_epoch[state.epoch - 1].is_pretraining and not phase.is_pretraining
                if begins and state.partial is None:
                    # Moments of another objective's gradients would steer the first steps of this one.
                    optimisers[phase.train] = self._optimiser(phase.train)
                # An interruption leaves either the old state or the new one, never a part of it.
                state = self._run_epoch(phase, optimisers, buffer, state, len(by_epoch))
                self._save(state)
                saved = state
                self._report(state, len(by_epoch))
        except KeyboardInterrupt:
            stopped = "interrupted"
            if saved is not state:
                self._save(state)
        if state.best:
            set_parameters(model, state.best)
        model.eval()
        return state, stopped

    def _save(self, state: TrainingState) -> None:
        """Write the checkpoint in the first process, which gets the divided rows of the others."""
        state.save(self.checkpoint, checkpoint_shards(self.model))

    def _resumed(self, optimisers: Mapping[str, NetworkOptimiser]) -> TrainingState:
        """Return the state of the checkpoint, and give it to the model and the optimisers."""
        shards = checkpoint_shards(self.model)

        def load() -> TrainingState:
            return TrainingState.load(self.checkpoint, dump_recipe(self.recipe), self.fingerprint, shards)

        # Whole tensors are read once; of divided ones, each process reads its own rows.
        state = parallel.in_each(load) if shards else parallel.from_first(load)
        # What fails here fails because the tensors are not those of this model.
        with reading(self.checkpoint, START_AGAIN):
            for parameters in (state.partial.parameters if state.partial else {}, state.parameters):
                if parameters:
                    set_parameters(self.model, parameters)
            for name, moments in state.optimisers.items():
                optimisers[name].restore(moments)
        within = f", within epoch {state.epoch + 1}" if state.partial else ""
        self.listen(Event("notice", f"resumed after epoch {state.epoch}{within}"))
        return state

    def _run_epoch(
        self,
        phase: Phase,
        optimisers: Mapping[str, NetworkOptimiser],
        buffer: ScoreBuffer,
        state: TrainingState,
        epochs: int,
    ) -> TrainingState:
        """Train one epoch, validate, and return the state after it."""
        recipe, epoch = self.recipe, state.epoch + 1
        earlier_epochs = sum(
            each.trained == phase.train and each.objective == phase.objective for each in state.curves
        )
        own = self.model.network(phase.train).settings
        optimisers[phase.train].set_rate(_learning_rate(recipe, own, earlier_epochs))
        self.listen(Event("epoch_start", done=epoch - 1, total=epochs, epoch=epoch, phase=phase.name))
        loss, samples, seconds = self._train_epoch(phase, optimisers, buffer, state, epochs)
        if not math.isfinite(loss):
            raise DivergenceError(
                f"training diverged: the loss is {loss} in epoch {epoch}; "
                f"lower optim.lr (now {recipe.optim.lr})"
            )
        finite = all(all_finite(value) for value in self.model.parameters())
        # The rows of a divided table may be finite in some processes alone.
        if not all(parallel.of_each(finite)):
            raise DivergenceError(self._diverged("the weights are not finite", epoch))
        trained = time.perf_counter()
        self.model.eval()
        try:
            valid = self.validate()
            parts = self.inspect()
            if not all(math.isfinite(part.loss) for part in parts.values()):
                raise NotFiniteError("losses of parts are not finite")
        except NotFiniteError:
            raise DivergenceError(self._diverged("the scores are not finite", epoch)) from None
        seconds_eval = time.perf_counter() - trained
        record = Epoch(
            epoch=epoch,
            phase=phase.name,
            trained=phase.train,
            negatives=phase.negatives,
            teacher=phase.teacher,
            objective=phase.objective,
            loss=loss,
            samples=samples,
            seconds=round(seconds, 3),
            seconds_eval=round(seconds_eval, 3),
            valid=valid,
            parts=parts,
        )
        state = replace(
            state,
            epoch=epoch,
            seconds=state.seconds + seconds + seconds_eval,
            curves=[*state.curves, record],
            parameters=self._parameters_after(state),
            optimisers=_moments(optimisers),
            partial=None,
        )
        value = valid["score"].get(recipe.schedule.metric, float(epoch))
        if value > state.best_value and not phase.is_pretraining:
            state = replace(state, best=state.parameters, best_epoch=epoch, best_value=value)
        collapse = self._collapse(state)
        return replace(state, warnings=[*state.warnings, collapse]) if collapse else state

    def _parameters_after(self, state: TrainingState) -> dict[str, Tensor]:
        """Return a copy of the weights, in the memory of that of the last epoch unless it is the best one.

        An interruption within it ends the training, and the best weights and the file are whole.
        """
        if state.parameters is state.best or not state.parameters:
            return parameters_of(self.model)
        with torch.no_grad():
            for name, value in self.model.named_parameters():
                state.parameters[name].copy_(value)
        return state.parameters

    def _diverged(self, what: str, epoch: int) -> str:
        return f"training diverged: {what} after epoch {epoch}; lower optim.lr (now {self.recipe.optim.lr})"

    def _report(self, state: TrainingState, epochs: int) -> None:
        """Tell the listener about a finished epoch, which is saved by then."""
        last = state.curves[-1]
        self.listen(
            Event(
                "epoch_end",
                done=state.epoch,
                total=epochs,
                epoch=state.epoch,
                phase=last.phase,
                loss=last.loss,
                valid=last.valid,
                seconds_left=state.seconds / state.epoch * (epochs - state.epoch),
            )
        )
        if collapse := self._collapse(state):
            self.listen(Event("notice", collapse))

    def _train_epoch(
        self,
        phase: Phase,
        optimisers: Mapping[str, NetworkOptimiser],
        buffer: ScoreBuffer,
        state: TrainingState,
        epochs: int,
    ) -> tuple[float, int, float]:
        """Pass once over the samples of an epoch, from where a checkpoint within it was written.

        Returns:
            The mean loss, the number of samples and the seconds.
        """
        recipe, clock, epoch = self.recipe, self.clock, state.epoch + 1
        optimiser, began = optimisers[phase.train], time.perf_counter()
        as_samples = phase.positives and recipe.positives.as_samples
        divided = self.model.network(phase.train).shard is not None
        step = (DividedStep if divided else Step)(
            self.model,
            recipe,
            phase,
            self.store.num_items,
            exclude_seen=self.seen != "kept",
            seed=derive_seed(recipe.run.seed, epoch, DRAWS),
            buffer=buffer,
            clock=clock,
        )
        batches = PrefixBatches(
            self.store,
            max(1, recipe.optim.batch_size // (1 + phase.positives if as_samples else 1)),
            recipe.model.max_len,
            shuffle=True,
            seed=derive_seed(recipe.run.seed, ORDER),
            epoch=epoch,
            per_session=recipe.data.prefixes or None,
            # Prefixes are bucketed by length, so encoders that read prefixes see little padding.
            layout="padded" if step.network.reads_prefixes or phase.objective != "next" else "by_session",
        )
        # An item is no candidate of its own query, so that the probability of a repeated target can be 0.
        drops_repeats = self.seen != "kept" and (
            recipe.data.exclude_seen == "auto" or step.network.queries is not None
        )
        shares = used_shares(self.store, recipe.data.half_life)
        losses: list[Tensor] = []
        gradients = GradientSum(step.network)
        passed, samples = 0, 0
        if state.partial is not None:
            # Not before the step is made, whose teachers are the networks as they were before the epoch.
            passed, samples, began = self._enter(state.partial, losses, began)
        saved_at = time.monotonic()
        clock.start()
        for number, batch in enumerate(batches, start=1):
            if number <= passed:
                continue
            clock.lap("waiting for data")
            if drops_repeats and phase.objective == "next":
                batch = without_repeated_targets(batch)
            if shares is not None:
                batch = _recent_samples(batch, shares, derive_seed(recipe.run.seed, epoch, AGES))
            if not len(batch.targets):
                continue
            count = len(batch.targets)
            loss = step.loss(batch, number)
            loss.backward()  # type: ignore[no-untyped-call]
            clock.lap("item table")
            due = 0 < recipe.run.checkpoint_every <= time.monotonic() - saved_at
            due, stopped = gradients.add_up(wanted=due, stopped=self.stopped())
            clock.lap("other processes")
            optimiser.step()
            clock.lap("optimiser")
            losses.append(loss.detach() * count)
            samples += count
            if due:
                seconds = time.perf_counter() - began
                partial = self._partial(number, samples, seconds, losses)
                self._save(replace(state, partial=partial, optimisers=_moments(optimisers)))
                saved_at = time.monotonic()
            if stopped:
                raise KeyboardInterrupt
            done = epoch - 1 + number / len(batches)
            self.listen(Event("step", done=done, total=epochs, epoch=epoch, phase=phase.name))
        # Fetched once: on a device, reading the loss in each step would make the host wait for it.
        total = parallel.add_up(torch.stack(losses).double().sum()).item() if losses else 0.0
        return total / max(samples, 1), samples, time.perf_counter() - began

    def _partial(self, batches: int, samples: int, seconds: float, losses: Sequence[Tensor]) -> PartialEpoch:
        return PartialEpoch(
            batches=batches,
            samples=samples,
            seconds=seconds,
            losses=parallel.add_up(torch.stack(list(losses))),
            parameters=parameters_of(self.model),
        )

    def _enter(self, partial: PartialEpoch, losses: list[Tensor], began: float) -> tuple[int, int, float]:
        """Restore the state within an epoch; return its batches, its samples and when it would have begun."""
        # The losses of all processes are those of the first one from here on.
        own = partial.losses if parallel.job().is_first else torch.zeros_like(partial.losses)
        losses += own.to(self.recipe.run.device).unbind()
        set_parameters(self.model, partial.parameters)
        return partial.batches, partial.samples, began - partial.seconds

    def _optimiser(self, name: str) -> NetworkOptimiser:
        network = self.model.network(name)
        lr = _learning_rate(self.recipe, network.settings, 0)
        return NetworkOptimiser(network, self.recipe.id.optimiser, lr, self.recipe.optim.weight_decay)

    def _is_out_of_patience(self, state: TrainingState, by_epoch: Sequence[Phase]) -> bool:
        """Whether validation has not improved for ``patience`` cycles after warm-up and pretraining."""
        warmup = sum(phase.precedes_patience for phase in by_epoch)
        waited = state.epoch - max(state.best_epoch, warmup)
        return waited >= self.recipe.schedule.patience * by_epoch[-1].cycle

    def _collapse(self, state: TrainingState) -> str:
        """Return a warning if hard negatives have lowered the validation score by more than a little."""
        metric = self.recipe.schedule.metric
        starts = [
            first
            for first, phase in zip(first_epochs(self.plan), self.plan, strict=True)
            if phase.negatives == "window"
        ]
        if not starts or not 1 < starts[0] <= state.epoch:
            return ""
        start, now = (
            state.curves[epoch - 1].valid["score"].get(metric, 0.0) for epoch in (starts[0] - 1, state.epoch)
        )
        if now >= COLLAPSE * start:
            return ""
        return (
            f"epoch {state.epoch}: validation {metric} {now:.4f} is below {start:.4f}, its value before "
            "hard negatives; a wider window, a larger window.random_share or a lower optim.lr may help"
        )


def _moments(optimisers: Mapping[str, NetworkOptimiser]) -> dict[str, Moments]:
    """Return the state of all optimisers by network and parameter; the next step changes it."""
    return {name: optimiser.tensors() for name, optimiser in optimisers.items()}


def _recent_samples(batch: Batch, shares_S: np.ndarray, seed: int) -> Batch:
    """Return the samples that are used in an epoch: each with the share of its session as probability."""
    draws_N = uniform_items(batch.samples, 1, 2**31, seed=seed)[:, 0] / 2**31
    return chosen_samples(batch, draws_N < shares_S[batch.sessions])


def _learning_rate(recipe: Recipe, own: NetworkSettings | None, earlier_epochs: int) -> float:
    lr = (own and own.lr) or recipe.optim.lr
    every = (own and own.decay_every) or recipe.optim.decay_every
    return float(lr * recipe.optim.decay ** (earlier_epochs // every))

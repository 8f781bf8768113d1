"""The training loop over phases: validation and a checkpoint after each epoch, at the end the best epoch."""

from __future__ import annotations

import json
import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor

from alterrec.data.dataset import Dataset
from alterrec.data.repeats import SeenItems, changed_rule
from alterrec.data.times import used_shares
from alterrec.errors import InputError
from alterrec.evaluation.evaluate import NotFiniteError
from alterrec.files import atomic_write, reading
from alterrec.models.base import Recommender
from alterrec.nn.losses import ScoreBuffer
from alterrec.progress import Event, Listener, ignore
from alterrec.ranking import uniform_items
from alterrec.recipe import SEEN_ITEMS_SCHEMA, Recipe, dump_recipe, recipe_changes, recipe_schema
from alterrec.recipe_settings import NetworkSettings
from alterrec.record_json import from_json, to_json
from alterrec.results import Epoch, PartLoss, Views
from alterrec.sessions import Batch, PrefixBatches, SessionStore, derive_seed
from alterrec.stored import read_tensors
from alterrec.training.schedule import Phase, first_epochs
from alterrec.training.step import Clock, NoClock, Step, chosen_samples, without_repeated_targets

# Purposes of derived seeds: each use of randomness has its own.
INITIALISATION, ORDER, DRAWS, DROPOUT, AGES = range(5)

# What a checkpoint holds besides tensors and curves.
_PROGRESS: Mapping[str, Any] = {
    "recipe": str,
    "data": str,
    "epoch": int,
    "best_epoch": int,
    "best_value": int | float,
    "warnings": list,
    "seconds": int | float,
}
START_AGAIN = "start again without --resume"

# A share of the validation metric before hard negatives, below which a warning is given. The default run on
# the built-in catalogue drops to 99.7 % for one epoch and ends at 111 %.
COLLAPSE = 0.95


class DivergenceError(InputError):
    """The loss or the weights are not finite: this setting does not work, but another one may."""


def torch_seed(seed: int, *words: int) -> int:
    """Derive a seed for torch's generator, which takes 63 bits."""
    return derive_seed(seed, *words) >> 1


@dataclass
class TrainingState:
    """The state of a training run after an epoch.

    Attributes:
        recipe: the resolved recipe as text; a checkpoint can be resumed only with the same recipe.
        data: fingerprint of the data; a checkpoint can be resumed only with the same data.
        epoch: number of finished epochs.
        best_epoch: the epoch with the best validation so far, 0 before the first.
        best_value: validation metric of the best epoch.
        curves: the epochs so far.
        warnings: warnings for the user.
        seconds: training time so far.
        parameters, best: parameter values now and at the best epoch.
        optimisers: network -> parameter index -> tensors of Adam.
    """

    recipe: str
    data: str = ""
    epoch: int = 0
    best_epoch: int = 0
    best_value: float = float("-inf")
    curves: list[Epoch] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)
    seconds: float = 0.0
    parameters: dict[str, Tensor] = field(default_factory=dict)
    best: dict[str, Tensor] = field(default_factory=dict)
    optimisers: dict[str, dict[int, dict[str, Tensor]]] = field(default_factory=dict)

    def save(self, path: Path) -> None:
        """Write the file atomically: if the process is killed, the previous checkpoint is still there."""
        tensors = {f"parameters/{name}": value for name, value in self.parameters.items()}
        tensors |= {f"best/{name}": value for name, value in self.best.items()}
        for network, states in self.optimisers.items():
            for index, state in states.items():
                tensors |= {f"optimiser/{network}/{index}/{key}": value for key, value in state.items()}
        metadata = {name: getattr(self, name) for name in _PROGRESS} | {"curves": to_json(self.curves)}
        contiguous = {name: value.detach().cpu().contiguous() for name, value in tensors.items()}
        with atomic_write(path) as temporary:
            save_file(contiguous, temporary, metadata={"progress": json.dumps(metadata)})

    @classmethod
    def load(cls, path: Path, recipe: str, data: str) -> TrainingState:
        """Read the state of an interrupted run.

        Args:
            path: the checkpoint.
            recipe: the resolved recipe of the run to resume.
            data: fingerprint of its data.

        Raises:
            InputError: the file is damaged, or belongs to another recipe (the message names the first
                difference) or to other data.
        """
        metadata = _checkpoint_metadata(path, recipe, data)
        tensors, _ = read_tensors(path, START_AGAIN)
        curves = json.dumps(metadata.pop("curves"))
        epochs = from_json(tuple[Epoch, ...], curves, str(path))
        state = cls(**metadata | {"recipe": recipe, "curves": list(epochs)})
        with reading(path, START_AGAIN):
            for name, value in tensors.items():
                kind, _, rest = name.partition("/")
                if kind == "optimiser":
                    network, index, key = rest.split("/")
                    state.optimisers.setdefault(network, {}).setdefault(int(index), {})[key] = value
                else:
                    {"parameters": state.parameters, "best": state.best}[kind][rest] = value
        return state


def check_checkpoint(path: Path, recipe: Recipe, dataset: Dataset) -> None:
    """Check that a run can continue from a checkpoint, before anything is written.

    Args:
        path: the checkpoint.
        recipe: the resolved recipe of the run to resume.
        dataset: its data.

    Raises:
        InputError: the file is damaged, or belongs to another recipe or to other data; or an earlier version
            wrote it, which treated the items of a prefix in another way on these data.
    """
    metadata = _checkpoint_metadata(path, dump_recipe(recipe), dataset.fingerprint)
    if recipe_schema(metadata["recipe"]) >= SEEN_ITEMS_SCHEMA:
        return
    changed = changed_rule(recipe.data.exclude_seen, dataset.train, dataset.valid, recipe.data.targets)
    if changed:
        raise InputError(
            f"{path} was written by an earlier version of alterrec. With data.exclude_seen = "
            f"{recipe.data.exclude_seen} on these data, {changed}. Start again in a new folder without "
            "--resume, or finish the run with the version that began it"
        )


def _checkpoint_metadata(path: Path, recipe: str, data: str) -> dict[str, Any]:
    """Return everything but the tensors; InputError if the file is damaged or belongs to another run."""
    if not path.exists():
        raise InputError(f"there is no checkpoint {path}; {START_AGAIN}")
    with reading(path, START_AGAIN):
        with safe_open(path, framework="pt") as file:
            metadata: dict[str, Any] = json.loads(file.metadata()["progress"])
        if metadata.keys() != {*_PROGRESS, "curves"}:
            raise ValueError("its progress has other fields")
        for name, kind in _PROGRESS.items():
            if not isinstance(metadata[name], kind):
                raise ValueError(f"its {name} is of another type")
        changed = recipe_changes(metadata["recipe"], recipe)
    if changed:
        raise InputError(f"{path} belongs to another recipe ({changed[0]}); use the same options to resume")
    if metadata["data"] != data:
        raise InputError(f"{path} belongs to other data; resume with the same files, or start a new run")
    return metadata


def _check_moments(optimiser: torch.optim.Optimizer, moments: Mapping[int, Mapping[str, Tensor]]) -> None:
    """Check that the tensors of Adam are those of its parameters; otherwise its next step would fail."""
    parameters = [each for group in optimiser.param_groups for each in group["params"]]
    for index, state in moments.items():
        found = {key: (value.shape, value.dtype) for key, value in state.items()}
        like = parameters[index].shape, parameters[index].dtype
        if found != {"step": (torch.Size([]), torch.float32), "exp_avg": like, "exp_avg_sq": like}:
            raise ValueError(f"the moments of parameter {index} are not those of Adam")


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
        checkpoint: path of the file that is written after each epoch.
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
        state = TrainingState(dump_recipe(recipe), self.fingerprint)
        optimisers = {name: self._optimiser(name) for name in model.networks}
        buffer = ScoreBuffer(self.score_rows)
        if recipe.run.compile:
            for name in model.networks:
                model.network(name).session.compile(dynamic=True)
        if resume and self.checkpoint.exists():
            state = TrainingState.load(self.checkpoint, state.recipe, self.fingerprint)
            # What fails here fails because the tensors are not those of this model.
            with reading(self.checkpoint, START_AGAIN):
                set_parameters(model, state.parameters)
                for name, moments in state.optimisers.items():
                    _check_moments(optimisers[name], moments)
                    optimisers[name].load_state_dict(optimisers[name].state_dict() | {"state": moments})
            self.listen(Event("notice", f"resumed after epoch {state.epoch}"))
        by_epoch = [phase for phase in self.plan for _ in range(phase.epochs)]
        stopped = "finished"
        try:
            while state.epoch < len(by_epoch):
                if self._is_out_of_patience(state, by_epoch):
                    stopped = "patience"
                    break
                phase = by_epoch[state.epoch]
                if state.epoch and by_epoch[state.epoch - 1].is_pretraining and not phase.is_pretraining:
                    # Moments of another objective's gradients would steer the first steps of this one.
                    optimisers[phase.train] = self._optimiser(phase.train)
                self._run_epoch(phase, optimisers[phase.train], buffer, state, len(by_epoch))
                state.parameters = parameters_of(model)
                state.optimisers = {
                    name: optimiser.state_dict()["state"] for name, optimiser in optimisers.items()
                }
                self._warn_of_collapse(state)
                state.save(self.checkpoint)
        except KeyboardInterrupt:
            stopped = "interrupted"
        if state.best:
            set_parameters(model, state.best)
        model.eval()
        return state, stopped

    def _run_epoch(
        self,
        phase: Phase,
        optimiser: torch.optim.Optimizer,
        buffer: ScoreBuffer,
        state: TrainingState,
        epochs: int,
    ) -> None:
        """Train one epoch, validate, and add both to the state."""
        recipe, epoch = self.recipe, state.epoch + 1
        earlier_epochs = sum(
            each.trained == phase.train and each.objective == phase.objective for each in state.curves
        )
        own = self.model.network(phase.train).settings
        optimiser.param_groups[0]["lr"] = _learning_rate(recipe, own, earlier_epochs)
        self.listen(Event("epoch_start", done=epoch - 1, total=epochs, epoch=epoch, phase=phase.name))
        began = time.perf_counter()
        torch.manual_seed(torch_seed(recipe.run.seed, epoch, DROPOUT))
        loss, samples = self._train_epoch(phase, optimiser, buffer, epoch, epochs)
        if not math.isfinite(loss):
            raise DivergenceError(
                f"training diverged: the loss is {loss} in epoch {epoch}; "
                f"lower optim.lr (now {recipe.optim.lr})"
            )
        if not all(torch.isfinite(value).all() for value in self.model.parameters()):
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
        ended = time.perf_counter()
        state.epoch = epoch
        state.seconds += ended - began
        state.curves.append(
            Epoch(
                epoch=epoch,
                phase=phase.name,
                trained=phase.train,
                negatives=phase.negatives,
                teacher=phase.teacher,
                objective=phase.objective,
                loss=loss,
                samples=samples,
                seconds=round(trained - began, 3),
                seconds_eval=round(ended - trained, 3),
                valid=valid,
                parts=parts,
            )
        )
        value = valid["score"].get(recipe.schedule.metric, float(epoch))
        if value > state.best_value and not phase.is_pretraining:
            state.best = parameters_of(self.model)
            state.best_epoch, state.best_value = epoch, value
        self.listen(
            Event(
                "epoch_end",
                done=epoch,
                total=epochs,
                epoch=epoch,
                phase=phase.name,
                loss=loss,
                valid=valid,
                seconds_left=state.seconds / epoch * (epochs - epoch),
            )
        )

    def _diverged(self, what: str, epoch: int) -> str:
        return f"training diverged: {what} after epoch {epoch}; lower optim.lr (now {self.recipe.optim.lr})"

    def _train_epoch(
        self, phase: Phase, optimiser: torch.optim.Optimizer, buffer: ScoreBuffer, epoch: int, epochs: int
    ) -> tuple[float, int]:
        """Pass once over the samples of an epoch; return the mean loss and the number of samples."""
        recipe, clock = self.recipe, self.clock
        as_samples = phase.positives and recipe.positives.as_samples
        step = Step(
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
        losses, samples = [], 0
        clock.start()
        for number, batch in enumerate(batches, start=1):
            clock.lap("waiting for data")
            if drops_repeats and phase.objective == "next":
                batch = without_repeated_targets(batch)
            if shares is not None:
                batch = _recent_samples(batch, shares, derive_seed(recipe.run.seed, epoch, AGES))
            if not len(batch.targets):
                continue
            loss = step.loss(batch)
            optimiser.zero_grad(set_to_none=True)
            loss.backward()  # type: ignore[no-untyped-call]
            clock.lap("item table")
            optimiser.step()
            clock.lap("optimiser")
            losses.append(loss.detach() * len(batch.targets))
            samples += len(batch.targets)
            done = epoch - 1 + number / len(batches)
            self.listen(Event("step", done=done, total=epochs, epoch=epoch, phase=phase.name))
        # Fetched once: on a device, reading the loss in each step would make the host wait for it.
        total = torch.stack(losses).double().sum().item() if losses else 0.0
        return total / max(samples, 1), samples

    def _optimiser(self, name: str) -> torch.optim.Optimizer:
        return torch.optim.Adam(
            self.model.network(name).parameters(),
            lr=_learning_rate(self.recipe, self.model.network(name).settings, 0),
            weight_decay=self.recipe.optim.weight_decay,
            fused=True,
        )

    def _is_out_of_patience(self, state: TrainingState, by_epoch: Sequence[Phase]) -> bool:
        """Whether validation has not improved for ``patience`` cycles after warm-up and pretraining."""
        warmup = sum(phase.precedes_patience for phase in by_epoch)
        waited = state.epoch - max(state.best_epoch, warmup)
        return waited >= self.recipe.schedule.patience * by_epoch[-1].cycle

    def _warn_of_collapse(self, state: TrainingState) -> None:
        """Warn at once if hard negatives have lowered the validation score well below its value before."""
        metric = self.recipe.schedule.metric
        starts = [
            first
            for first, phase in zip(first_epochs(self.plan), self.plan, strict=True)
            if phase.negatives == "window"
        ]
        if not starts or not 1 < starts[0] <= state.epoch:
            return
        start, now = (
            state.curves[epoch - 1].valid["score"].get(metric, 0.0) for epoch in (starts[0] - 1, state.epoch)
        )
        if now < COLLAPSE * start:
            message = (
                f"epoch {state.epoch}: validation {metric} {now:.4f} is below {start:.4f}, its value before "
                "hard negatives; a wider window, a larger window.random_share or a lower optim.lr may help"
            )
            state.warnings.append(message)
            self.listen(Event("notice", message))


def _recent_samples(batch: Batch, shares_S: np.ndarray, seed: int) -> Batch:
    """Return the samples that are used in an epoch: each with the share of its session as probability."""
    draws_N = uniform_items(batch.samples, 1, 2**31, seed=seed)[:, 0] / 2**31
    return chosen_samples(batch, draws_N < shares_S[batch.sessions])


def _learning_rate(recipe: Recipe, own: NetworkSettings | None, earlier_epochs: int) -> float:
    lr = (own and own.lr) or recipe.optim.lr
    every = (own and own.decay_every) or recipe.optim.decay_every
    return float(lr * recipe.optim.decay ** (earlier_epochs // every))

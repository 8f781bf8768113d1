"""The one training loop: epochs of phases, validation after each, the best kept.

Legend: N samples, V items.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path

import torch

from alterrec.errors import InputError
from alterrec.models.base import Recommender
from alterrec.nn.losses import ScoreBuffer
from alterrec.progress import Event, Listener, ignore
from alterrec.recipe import Recipe, dump_recipe
from alterrec.sessions import PrefixBatches, SessionStore, derive_seed
from alterrec.training.checkpoint import Progress, parameters_of, set_parameters
from alterrec.training.schedule import Phase, first_epochs
from alterrec.training.step import Clock, NoClock, Step

Metrics = dict[str, dict[str, float]]

# Purposes of derived seeds: each use of randomness has its own.
INITIALISATION, ORDER, DRAWS, DROPOUT = range(4)


class DivergenceError(InputError):
    """A loss that is not finite: the setting does not work, and another may."""


def torch_seed(seed: int, *words: int) -> int:
    """A seed for torch's generator, which takes 63 bits."""
    return derive_seed(seed, *words) >> 1


def train(
    model: Recommender,
    recipe: Recipe,
    plan: Sequence[Phase],
    store: SessionStore,
    validate: Callable[[], Metrics],
    *,
    inspect: Callable[[], Metrics] = dict,
    checkpoint: Path,
    data: str = "",
    exclude_seen: bool = False,
    resume: bool = False,
    score_rows: int = 512,
    clock: Clock | None = None,
    listen: Listener = ignore,
) -> tuple[Progress, str]:
    """Train ``model`` in place over the phases and leave it at its best epoch.

    Args:
        model: changed in place.
        recipe: all choices.
        plan: the phases, from ``schedule.phases``.
        store: training sessions.
        validate: metrics of the model by view; called after each epoch, in evaluation mode.
        inspect: likewise, what each part has learned, kept with the curves.
        data: fingerprint of the data, kept with the checkpoint: a run goes on only with the same.
        exclude_seen: a prefix's items are no candidates in the loss either, as they are none in evaluation.
        checkpoint: file written after each epoch; with ``resume`` the run goes on from it, and ends with
            the same weights as one never stopped.
        score_rows: samples of a step whose scores are held at a time.
        clock: counts where the time of a step goes.
        listen: told of every step.

    Returns:
        The progress, and how it ended: ``finished``, ``patience`` or ``interrupted`` (Ctrl-C).

    Raises:
        InputError: a window that the catalogue is too small for.
        DivergenceError: a loss that is not finite.
    """
    progress = Progress(dump_recipe(recipe), data)
    optimisers = {name: _optimiser(model, recipe, name) for name in model.networks}
    buffer, clock = ScoreBuffer(score_rows), clock or NoClock()
    if recipe.run.compile:
        for name in model.networks:
            model.network(name).session.compile(dynamic=True)
    if resume and checkpoint.exists():
        progress = Progress.load(checkpoint, progress.recipe, data)
        set_parameters(model, progress.parameters)
        for name, states in progress.optimisers.items():
            optimisers[name].load_state_dict(optimisers[name].state_dict() | {"state": states})
        listen(Event("notice", f"resumed after epoch {progress.epoch}"))
    by_epoch = [phase for phase in plan for _ in range(phase.epochs)]
    stopped = "finished"
    try:
        while progress.epoch < len(by_epoch):
            if _out_of_patience(progress, by_epoch, recipe):
                stopped = "patience"
                break
            phase = by_epoch[progress.epoch]
            if progress.epoch and by_epoch[progress.epoch - 1].pretrains and not phase.pretrains:
                # Moments of another objective's gradients would steer the first steps of this one.
                optimisers[phase.train] = _optimiser(model, recipe, phase.train)
            learn = partial(
                _learn,
                model,
                recipe,
                phase,
                store,
                optimisers[phase.train],
                exclude_seen,
                buffer,
                clock,
                listen,
            )
            _epoch(model, recipe, phase, learn, progress, len(by_epoch), listen, validate, inspect)
            progress.parameters = parameters_of(model)
            progress.optimisers = {
                name: optimiser.state_dict()["state"] for name, optimiser in optimisers.items()
            }
            _warn_of_collapse(progress, plan, recipe.schedule.metric, listen)
            progress.save(checkpoint)
    except KeyboardInterrupt:
        stopped = "interrupted"
    if progress.best:
        set_parameters(model, progress.best)
    model.eval()
    return progress, stopped


def _epoch(
    model: Recommender,
    recipe: Recipe,
    phase: Phase,
    learn: Callable[[int, int, float], tuple[float, int]],
    progress: Progress,
    epochs: int,
    listen: Listener,
    validate: Callable[[], Metrics],
    inspect: Callable[[], Metrics],
) -> None:
    """One epoch: learn, validate, record."""
    epoch = progress.epoch + 1
    own_epochs = sum(
        phase.train == record["trained"] and record["objective"] == phase.objective
        for record in progress.curves
    )
    rate = _learning_rate(recipe, phase.train, own_epochs)
    listen(Event("epoch_start", done=epoch - 1, total=epochs, epoch=epoch, phase=phase.name))
    began = time.perf_counter()
    torch.manual_seed(torch_seed(recipe.run.seed, epoch, DROPOUT))
    loss, samples = learn(epoch, epochs, rate)
    if not math.isfinite(loss):
        raise DivergenceError(
            f"the loss is {loss} in epoch {epoch}; allowed: a finite loss; lower optim.lr ({recipe.optim.lr})"
        )
    trained = time.perf_counter()
    model.eval()
    valid = validate()
    parts = inspect()
    ended = time.perf_counter()
    progress.epoch = epoch
    progress.seconds += ended - began
    progress.curves.append(
        {
            "epoch": epoch,
            "phase": phase.name,
            "trained": phase.train,
            "negatives": phase.negatives,
            "teacher": phase.teacher,
            "objective": phase.objective,
            "loss": loss,
            "samples": samples,
            "seconds": round(trained - began, 3),
            "seconds_eval": round(ended - trained, 3),
            "valid": valid,
            "parts": parts,
        }
    )
    value = valid["score"].get(recipe.schedule.metric, float(epoch))
    if value > progress.best_value and not phase.pretrains:
        progress.best = parameters_of(model)
        progress.best_epoch, progress.best_value = epoch, value
    left = progress.seconds / epoch * (epochs - epoch)
    listen(
        Event(
            "epoch_end",
            done=epoch,
            total=epochs,
            epoch=epoch,
            phase=phase.name,
            loss=loss,
            valid=valid,
            seconds_left=left,
        )
    )


def _learn(
    model: Recommender,
    recipe: Recipe,
    phase: Phase,
    store: SessionStore,
    optimiser: torch.optim.Optimizer,
    exclude_seen: bool,
    buffer: ScoreBuffer,
    clock: Clock,
    listen: Listener,
    epoch: int,
    epochs: int,
    rate: float,
) -> tuple[float, int]:
    """One pass over the samples of an epoch: (mean loss, samples)."""
    optimiser.param_groups[0]["lr"] = rate
    seed = recipe.run.seed
    as_samples = phase.positives and recipe.positives.as_samples
    step = Step(
        model,
        recipe,
        phase,
        store.num_items,
        exclude_seen=exclude_seen,
        seed=derive_seed(seed, epoch, DRAWS),
        buffer=buffer,
        clock=clock,
    )
    batches = PrefixBatches(
        store,
        max(1, recipe.optim.batch_size // (1 + phase.positives if as_samples else 1)),
        recipe.model.max_len,
        shuffle=True,
        seed=derive_seed(seed, ORDER),
        epoch=epoch,
        per_session=recipe.data.prefixes or None,
        # Bucketed by length, prefixes cost their encoders little padding.
        layout="padded" if step.network.reads_prefixes or phase.objective != "next" else "by_session",
    )
    losses = []
    clock.start()
    for number, batch in enumerate(batches, start=1):
        clock.lap("waiting for data")
        loss = step.loss(batch)
        optimiser.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        clock.lap("item table")
        optimiser.step()
        clock.lap("optimiser")
        losses.append(loss.detach() * len(batch.targets))
        done = epoch - 1 + number / len(batches)
        listen(Event("step", done=done, total=epochs, epoch=epoch, phase=phase.name))
    # Fetched once: on a device a loss read in each step would make the host wait for it.
    total = torch.stack(losses).double().sum().item() if losses else 0.0
    return total / max(batches.num_samples, 1), batches.num_samples


def _optimiser(model: Recommender, recipe: Recipe, name: str) -> torch.optim.Optimizer:
    return torch.optim.Adam(
        model.network(name).parameters(),
        lr=_learning_rate(recipe, name, 0),
        weight_decay=recipe.optim.weight_decay,
        fused=True,
    )


def _learning_rate(recipe: Recipe, name: str, own_epochs: int) -> float:
    own = {"id": recipe.id, "text": recipe.text}.get(name)
    lr = (own and own.lr) or recipe.optim.lr
    every = (own and own.decay_every) or recipe.optim.decay_every
    return float(lr * recipe.optim.decay ** (own_epochs // every))


def _out_of_patience(progress: Progress, by_epoch: Sequence[Phase], recipe: Recipe) -> bool:
    """No better validation for ``patience`` whole cycles, warm-up and pretraining apart."""
    warm = sum(phase.prepares for phase in by_epoch)
    waited = progress.epoch - max(progress.best_epoch, warm)
    return waited >= recipe.schedule.patience * by_epoch[-1].cycle


def _warn_of_collapse(progress: Progress, plan: Sequence[Phase], metric: str, listen: Listener) -> None:
    """Hard negatives can drive the score below where they found it: say so at once."""
    starts = [
        first for first, phase in zip(first_epochs(plan), plan, strict=True) if phase.negatives == "window"
    ]
    if not starts or not 1 < starts[0] <= progress.epoch:
        return
    values: Mapping[int, float] = {r["epoch"]: r["valid"]["score"].get(metric, 0.0) for r in progress.curves}
    start, now = values[starts[0] - 1], values[progress.epoch]
    if now < start:
        message = (
            f"epoch {progress.epoch}: validation {metric} {now:.4f} is below {start:.4f}, where hard "
            "negatives began; a wider window, a larger window.random_share or a lower optim.lr may help"
        )
        progress.warnings.append(message)
        listen(Event("notice", message))

"""A training schedule is a list of phases: Algorithm 1, its ablations and plain training, as data."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass, replace

from alterrec.errors import InputError
from alterrec.recipe import Recipe
from alterrec.recipe_settings import Negatives

# Name of the objective in the epochs of `schedule.pretrain`.
PRETRAIN = "pretrain"


@dataclass(frozen=True)
class Phase:
    """Consecutive epochs that train one network in the same way.

    Attributes:
        name: shown in plans, curves and figures; nothing depends on it.
        train: name of the network that is trained.
        epochs: number of epochs.
        negatives: candidates besides the target: ``full``, ``random`` or ``window``.
        teacher: network whose frozen copy ranks the items, or None.
        positives: number of the teacher's top items that are additional targets.
        objective: ``next`` (predict the next item), or the name of one of the network's auxiliary
            objectives.
        freeze: names, or prefixes of names, of the network's parameters that are not trained.
        cycle: number of epochs in which every network is trained once; patience is counted in cycles.
        warmup: whether these epochs warm up a network; patience starts after them.
    """

    name: str
    train: str
    epochs: int
    negatives: Negatives
    teacher: str | None = None
    positives: int = 0
    objective: str = "next"
    freeze: tuple[str, ...] = ()
    cycle: int = 1
    warmup: bool = False

    @property
    def is_pretraining(self) -> bool:
        """Whether the phase is pretraining: none of its epochs can be the best epoch."""
        return self.objective == PRETRAIN

    @property
    def precedes_patience(self) -> bool:
        """Whether patience starts only after this phase: pretraining and warm-up."""
        return self.is_pretraining or self.warmup


def phases(recipe: Recipe) -> list[Phase]:
    """Return the phases of a recipe.

    Their epochs add up to ``schedule.epochs``; pretraining epochs come before these.

    Raises:
        InputError: the warm-up of both networks takes more epochs than there are, or a system of one
            network is given settings that need a teacher.

    Example:
        >>> from alterrec.recipe import resolve
        >>> [(p.train, p.epochs) for p in phases(resolve("alterrec", overrides={"schedule.epochs": 7}))]
        [('id', 2), ('text', 2), ('id', 1), ('text', 1), ('id', 1)]
    """
    regime = recipe.schedule.regime
    if regime == "none":
        return []
    return alternate(recipe) if regime == "alternate" else together(recipe)


def alternate(recipe: Recipe) -> list[Phase]:
    """Return the phases of Algorithm 1: ``warmup`` epochs per network, then turns of ``gap``, ID first.

    Lines 8-16 of Algorithm 1 count i from 0 to m_max - 2 m_random, one epoch more than m_max in total;
    here ``epochs`` is the exact total.
    """
    plan = recipe.schedule
    if 2 * plan.warmup > plan.epochs:
        raise InputError(
            f"schedule.warmup is {plan.warmup} and schedule.epochs is {plan.epochs}, but each of the two "
            f"networks needs its warm-up; set schedule.epochs to {2 * plan.warmup} or more, or "
            "schedule.warmup to "
            f"{plan.epochs // 2} or less"
        )
    cycle = 2 * plan.gap
    rows = [
        Phase(f"warm-up {name}", name, plan.warmup, plan.warmup_negatives, cycle=cycle, warmup=True)
        for name in ("id", "text")
        if plan.warmup
    ]
    left = plan.epochs - 2 * plan.warmup
    turns = itertools.cycle([("id", "text"), ("text", "id")])
    while left > 0:
        name, other = next(turns)
        positives = recipe.positives.top
        teacher = other if plan.negatives == "window" or positives else None
        title = f"{name} taught by {other}" if teacher else name
        rows.append(Phase(title, name, min(plan.gap, left), plan.negatives, teacher, positives, cycle=cycle))
        left -= plan.gap
    return rows


def together(recipe: Recipe) -> list[Phase]:
    """Return the phases of a system with one network: pretraining, warm-up and training, if not empty."""
    plan = recipe.schedule
    if plan.negatives == "window" or recipe.positives.top:
        raise InputError(
            f"schedule.negatives is {plan.negatives!r} and positives.top is {recipe.positives.top}, but "
            f"{recipe.model_name} has no teacher; use schedule.negatives=full or random and positives.top=0"
        )
    warmup = min(plan.warmup, plan.epochs) if plan.warmup_negatives != plan.negatives else 0
    rest = Phase(
        "training",
        "model",
        plan.epochs - warmup,
        plan.negatives,
        objective=plan.objective,
        freeze=plan.freeze,
    )
    first = replace(rest, name="warm-up", epochs=warmup, negatives=plan.warmup_negatives, warmup=True)
    before = Phase("pretraining", "model", plan.pretrain, "full", objective=PRETRAIN)
    return [phase for phase in (before, first, rest) if phase.epochs]


def check_freeze(recipe: Recipe) -> None:
    """Raise InputError if frozen parameters would keep their random initial values.

    Example:
        >>> from alterrec.recipe import resolve
        >>> check_freeze(resolve("unisrec"))
    """
    plan = recipe.schedule
    if plan.freeze and not (plan.pretrain or recipe.model.init_from or recipe.model.continues):
        raise InputError(
            f"schedule.freeze is {', '.join(plan.freeze)}, but nothing trains these parameters before; set "
            "model.init_from to pretrained weights, schedule.pretrain to 1 or more, or schedule.freeze="
        )


def check_loss(recipe: Recipe, plan: Sequence[Phase]) -> None:
    """Raise InputError if the recipe's loss needs sampled candidates and a phase has none.

    Example:
        >>> from alterrec.recipe import resolve
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


def describe(plan: Sequence[Phase]) -> list[str]:
    """Return one line per phase, with epochs counted from 1.

    Example:
        >>> describe([Phase("warm-up id", "id", 2, "random"), Phase("taught", "id", 1, "window", "text")])
        ['epochs 1-2: warm-up id, random negatives', 'epoch 3: taught, hard negatives from text']
    """
    negatives = {"full": "the whole catalogue", "random": "random negatives"}
    objectives = {"cloze": "masked items, ", PRETRAIN: "auxiliary objective, "}
    lines = []
    for first, phase in zip(first_epochs(plan), plan, strict=True):
        last = first + phase.epochs - 1
        when = f"epoch {first}" if first == last else f"epochs {first}-{last}"
        candidates = negatives.get(phase.negatives, f"hard negatives from {phase.teacher}")
        extra = (
            f", its top {phase.positives} as additional targets" if phase.positives and phase.teacher else ""
        )
        frozen = f", {', '.join(phase.freeze)} frozen" if phase.freeze else ""
        lines.append(
            f"{when}: {phase.name}, {objectives.get(phase.objective, '')}{candidates}{extra}{frozen}"
        )
    return lines


def first_epochs(plan: Sequence[Phase]) -> list[int]:
    """Return the first epoch of each phase, counted from 1.

    Example:
        >>> first_epochs([Phase("a", "id", 2, "full"), Phase("b", "id", 1, "full")])
        [1, 3]
    """
    return list(itertools.accumulate((phase.epochs for phase in plan[:-1]), initial=1)) if plan else []

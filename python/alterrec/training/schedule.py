"""A schedule is a list of phases: Algorithm 1, its ablations and plain training, as data."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace

from alterrec.errors import InputError
from alterrec.recipe import Recipe
from alterrec.recipe_settings import Negatives

# The objective that `schedule.pretrain` epochs learn.
PRETRAIN = "pretrain"


@dataclass(frozen=True)
class Phase:
    """Some epochs in which one network learns.

    Attributes:
        name: shown in plans, curves and pictures.
        train: name of the network that learns.
        epochs: how many.
        negatives: candidates beside the target: ``full``, ``random`` or ``window``.
        teacher: network whose frozen copy ranks the items, or None.
        positives: how many of the teacher's top items are further targets.
        objective: what is learned: ``next``, the next item, or the name of one of the network's own.
        freeze: names of the network's parameters, or their beginnings, that do not learn.
        cycle: length in epochs of a turn of every network; patience counts in it.
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

    @property
    def pretrains(self) -> bool:
        """Whether its epochs only prepare: none of them is the best one."""
        return self.objective == PRETRAIN

    @property
    def prepares(self) -> bool:
        """Whether patience begins only after its epochs: pretraining and warm-up."""
        return self.pretrains or self.name.startswith("warm-up")


def phases(recipe: Recipe) -> list[Phase]:
    """The phases of a recipe; their epochs add up to ``schedule.epochs``, those of pretraining come before.

    Raises:
        InputError: the warm-up of both networks takes more epochs than there are, or a system of one
            network asks for a teacher.

    Example:
        >>> from alterrec.recipe import resolve
        >>> [(p.train, p.epochs) for p in phases(resolve("alterrec", overrides={"schedule.epochs": 7}))]
        [('id', 2), ('text', 2), ('id', 1), ('text', 1), ('id', 1)]
    """
    return REGIMES[recipe.schedule.regime](recipe)


def alternate(recipe: Recipe) -> list[Phase]:
    """Algorithm 1: each network ``warmup`` epochs, then in turns of ``gap``, ID first.

    Lines 8-16 of Algorithm 1 count i from 0 to m_max - 2 m_random, one epoch more than m_max in all;
    here ``epochs`` is the exact total.
    """
    plan = recipe.schedule
    if 2 * plan.warmup > plan.epochs:
        raise InputError(
            f"schedule.warmup is {plan.warmup}, schedule.epochs is {plan.epochs}; allowed: a warm-up of at "
            f"most half the epochs; set schedule.epochs to {2 * plan.warmup} or more"
        )
    cycle = 2 * plan.gap
    rows = [
        Phase(f"warm-up {name}", name, plan.warmup, plan.warmup_negatives, cycle=cycle)
        for name in ("id", "text")
        if plan.warmup
    ]
    left = plan.epochs - 2 * plan.warmup
    for name, other in _turns():
        if left <= 0:
            return rows
        taught = plan.negatives == "window"
        positives = recipe.positives.top
        teacher = other if taught or positives else None
        title = f"{name} taught by {other}" if teacher else name
        rows.append(Phase(title, name, min(plan.gap, left), plan.negatives, teacher, positives, cycle=cycle))
        left -= plan.gap
    raise AssertionError("turns never end")


def together(recipe: Recipe) -> list[Phase]:
    """One network from start to end."""
    plan = recipe.schedule
    if plan.negatives == "window" or recipe.positives.top:
        raise InputError(
            f"schedule.negatives is {plan.negatives!r}, positives.top is {recipe.positives.top}; allowed for "
            f"{recipe.model_name}: full or random negatives and no further positives, for it has no teacher"
        )
    warmup = min(plan.warmup, plan.epochs) if plan.warmup_negatives != plan.negatives else 0
    before = Phase("pretraining", "model", plan.pretrain, "full", objective=PRETRAIN)
    first = Phase(
        "warm-up", "model", warmup, plan.warmup_negatives, objective=plan.objective, freeze=plan.freeze
    )
    rest = replace(first, name="training", epochs=plan.epochs - warmup, negatives=plan.negatives)
    return [phase for phase in (before, first, rest) if phase.epochs]


def none(recipe: Recipe) -> list[Phase]:
    """Nothing to train."""
    return []


REGIMES: dict[str, Callable[[Recipe], list[Phase]]] = {
    "alternate": alternate,
    "together": together,
    "none": none,
}


def check_freeze(recipe: Recipe) -> None:
    """InputError where parts of a network would stay at their random start.

    Example:
        >>> from alterrec.recipe import resolve
        >>> check_freeze(resolve("unisrec"))
    """
    plan = recipe.schedule
    if plan.freeze and not plan.pretrain and not recipe.model.init_from:
        raise InputError(
            f"schedule.freeze is {', '.join(plan.freeze)}, but nothing trains them before; allowed: "
            "model.init_from with what was pretrained elsewhere, schedule.pretrain of 1 or more, or "
            "schedule.freeze="
        )


def describe(plan: Sequence[Phase]) -> list[str]:
    """One line a phase, with its epochs counted from 1.

    Example:
        >>> describe([Phase("warm-up id", "id", 2, "random"), Phase("taught", "id", 1, "window", "text")])
        ['epochs 1-2: warm-up id, random negatives', 'epoch 3: taught, hard negatives from text']
    """
    words = {"full": "the whole catalogue", "random": "random negatives"}
    own = {"cloze": "masked items, ", PRETRAIN: "an objective of its own, "}
    lines = []
    for first, phase in zip(first_epochs(plan), plan, strict=True):
        last = first + phase.epochs - 1
        when = f"epoch {first}" if first == last else f"epochs {first}-{last}"
        candidates = words.get(phase.negatives, f"hard negatives from {phase.teacher}")
        extra = f", its top {phase.positives} as further targets" if phase.positives and phase.teacher else ""
        still = f", {', '.join(phase.freeze)} frozen" if phase.freeze else ""
        lines.append(f"{when}: {phase.name}, {own.get(phase.objective, '')}{candidates}{extra}{still}")
    return lines


def first_epochs(plan: Sequence[Phase]) -> list[int]:
    """The first epoch of each phase, from 1.

    Example:
        >>> first_epochs([Phase("a", "id", 2, "full"), Phase("b", "id", 1, "full")])
        [1, 3]
    """
    firsts, epoch = [], 1
    for phase in plan:
        firsts.append(epoch)
        epoch += phase.epochs
    return firsts


def _turns() -> Iterator[tuple[str, str]]:
    while True:
        yield "id", "text"
        yield "text", "id"

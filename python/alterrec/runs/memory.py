"""What a run will hold in memory, and how many samples it may score at a time within a budget."""

from __future__ import annotations

import platform
import resource
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from torch import nn

from alterrec.errors import InputError
from alterrec.evaluation.evaluate import SCORE_BYTES
from alterrec.models.base import Network, Recommender
from alterrec.nn.item_encoders import MixtureAdapter
from alterrec.nn.transformer import Attention
from alterrec.recipe import Recipe
from alterrec.recipe_settings import parse_bytes
from alterrec.training.schedule import Phase
from alterrec.training.step import items_encoded

FLOAT = 4
# Float32 tables of V x D that a step holds of the network that learns, the gradient of its weights apart: the
# table, what its encoder keeps for the backward pass, and gradients on the way; measured 3.0 (ID) and 5.7
# (text) at V = 40,258 and d 300.
LEARNING_TABLES = 6
# Float32 values of a place and column that session encoders hold for the backward pass: for each layer of a
# Transformer (17 measured), and besides (5 measured).
LAYER_STATES, ENCODER_STATES = 18, 6
# Room for what is not counted: the allocator's own, small arrays, the report.
SLACK = 128 * 2**20


@dataclass(frozen=True)
class MemoryPlan:
    """Bytes that a run holds however it is cut, and the samples it scores at a time.

    Attributes:
        budget: most bytes of the process, or None for no bound.
        resident: bytes held before training: libraries, data, text vectors, weights.
        training: more bytes that a step holds besides scores.
        evaluation: more bytes that evaluation holds besides scores.
        train_rows: samples whose scores a step holds at a time.
        score_bytes: most bytes of score matrices in evaluation.
    """

    budget: int | None
    resident: int
    training: int
    evaluation: int
    train_rows: int
    score_bytes: int

    def lines(self) -> list[str]:
        """The plan in words; nothing where there is no bound."""
        if self.budget is None:
            return []
        return [
            f"memory budget {_spoken(self.budget)}: {_spoken(self.resident)} now, "
            f"{_spoken(self.training)} for a step and its scores by {self.train_rows} samples, "
            f"{_spoken(self.evaluation)} for evaluation and {_spoken(self.score_bytes)} for its scores"
        ]


def plan_memory(
    model: Recommender | None,
    recipe: Recipe,
    phases: Sequence[Phase],
    num_items: int,
    longest: int,
    resident: int,
) -> MemoryPlan:
    """The plan of a run on a catalogue of ``num_items`` whose longest session has ``longest`` items.

    Raises:
        InputError: one sample at a time would still be beyond ``run.memory_budget``.

    Example:
        >>> from alterrec.recipe import resolve
        >>> recipe = resolve("popularity", overrides={"run.memory_budget": "1GiB"})
        >>> plan_memory(None, recipe, [], 1000, 50, resident=2**28).train_rows
        512
    """
    batch = recipe.optim.batch_size
    networks = {name: model.network(name) for name in model.networks} if model else {}
    weights = [sum(value.numel() for value in network.parameters()) * FLOAT for network in networks.values()]
    # Where users stand beside the items, a step and an evaluation have all of both.
    nodes = {name: getattr(network.items, "num_nodes", 0) for name, network in networks.items()}
    tables = [max(num_items, nodes[name]) * network.dim * FLOAT for name, network in networks.items()]
    sessions = -(-batch // min(recipe.data.prefixes or longest, longest))
    states = [
        _rows_read(networks[phase.train], phase, batch, sessions)
        * min(longest, recipe.model.max_len)
        * networks[phase.train].dim
        * FLOAT
        * (ENCODER_STATES + LAYER_STATES * _layers(networks[phase.train].session))
        for phase in phases
    ]
    # Adam's two moments of all weights, a copy of the best, and the gradient of the network that learns.
    learning = 3 * sum(weights) + max(weights, default=0)
    learned = [
        max(items_encoded(recipe, phase, num_items), nodes[phase.train])
        * _item_values(networks[phase.train])
        * FLOAT
        for phase in phases
    ]
    taught = [num_items * networks[phase.teacher].dim * FLOAT for phase in phases if phase.teacher]
    training = learning + max(learned, default=0) + max(taught, default=0) + max(states, default=0) + SLACK
    # Two tables while one is made: of text, the hidden one and the normed one.
    evaluation = learning + sum(tables) + max(tables, default=0) + SLACK
    if not recipe.run.memory_budget:
        return MemoryPlan(None, resident, training, evaluation, batch, SCORE_BYTES)
    budget = parse_bytes(recipe.run.memory_budget)
    # A row of scores, of window bits, and of drawn ids, which are at most as many as the window has.
    row = num_items * FLOAT + num_items // 8 + 16 * min(num_items, 2**16)
    parts = 2 * len(model.weights) + 2 if model else 4
    train_rows = (budget - resident - training) // row if model else batch
    score_bytes = budget - resident - evaluation
    if train_rows < 1 or score_bytes < parts * row:
        needed = resident + max(training + row, evaluation + parts * row)
        raise InputError(
            f"run.memory_budget is {recipe.run.memory_budget}; allowed for {recipe.model_name} on "
            f"{num_items} items: at least {_spoken(needed)}, or a smaller model.dim or optim.batch_size"
        )
    return MemoryPlan(
        budget, resident, training, evaluation, min(batch, train_rows), min(score_bytes, SCORE_BYTES)
    )


def peak_memory_bytes() -> int:
    """Return the largest memory that this process has used, in bytes."""
    status = Path("/proc/self/status")
    if status.exists():
        # On Linux, getrusage also counts what the parent process used when it started this one.
        peak = next(line for line in status.read_text("utf-8").splitlines() if line.startswith("VmHWM:"))
        return int(peak.split()[1]) * 1024
    # macOS counts in bytes, other systems in KiB.
    unit = 1 if platform.system() == "Darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit


def _item_values(network: Network) -> int:
    """Values that a step holds of each item it encodes: tables; what experts of a mixture read and give."""
    values = LEARNING_TABLES * network.dim
    for part in network.items.modules():
        if isinstance(part, MixtureAdapter):
            experts, dim, width = part.experts_EDF.shape
            values += experts * (width + 2 * dim)
    return values


def _rows_read(network: Network, phase: Phase, batch: int, sessions: int) -> int:
    """Rows that the session encoder reads in a step: prefixes, or sessions that they share."""
    if phase.objective != "next":
        return batch * int(getattr(network.objectives[phase.objective], "readings", 1))
    return batch if network.reads_prefixes else sessions


def _layers(session: nn.Module) -> int:
    """Layers of a session encoder that hold many states a place, wherever in it they lie."""
    return sum(isinstance(part, (Attention, nn.GRU)) for part in session.modules())


def _spoken(size: int) -> str:
    return f"{size / 2**30:.2f} GiB" if size >= 2**30 else f"{-(-size // 2**20)} MiB"

"""Estimate the memory of a run, and choose how many samples it scores at a time within a limit."""

from __future__ import annotations

import platform
import resource
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from torch import nn

from alterrec.errors import InputError
from alterrec.evaluation.evaluate import SCORE_BYTES
from alterrec.models.base import Network, Recommender, score_matrices
from alterrec.nn.item_encoders import IdTable, MixtureAdapter, SeparateIdTables, TextItems
from alterrec.nn.mixtures import QUERIES_PER_SAMPLE
from alterrec.nn.transformer import Attention
from alterrec.recipe import Recipe
from alterrec.recipe_settings import parse_bytes
from alterrec.training.schedule import Phase
from alterrec.training.step import items_encoded, items_scored
from alterrec.training.windows import pool_size

FLOAT = 4
# Number of float32 tables of V x D in memory during a step for the trained network, without the
# gradient of its weights: the table, what its encoder keeps for the backward pass, intermediate gradients.
# Measured: 3.0 (ID) and 5.7 (text) at V = 40,258 and d 300.
LEARNING_TABLES, LEARNING_ID_TABLES = 6, 3
# Rows that a process keeps for each row that it encodes, if rows of divided tables are fetched: its own, and
# those of others with their gradient. Measured: 1.7 at V = 1,000,000 and d 128, with two processes.
FETCHED_ROWS = 1.75
# Number of float32 values per position and column that session encoders keep for the backward pass: for each
# layer of a Transformer (17 measured), and outside of layers (5 measured).
LAYER_STATES, ENCODER_STATES = 18, 6
# Bytes for each query of a sample: its number, weight and responsibility, its excluded item, and temporary
# arrays of these.
QUERY_BYTES = 128
# Reserve for what is not counted: the allocator, small arrays, writing Parquet files, and the report, whose
# libraries (matplotlib, jinja2, scipy) take about 80 MiB. A busy machine added 32 MiB.
SLACK = 208 * 2**20


@dataclass(frozen=True)
class MemoryPlan:
    """Estimated memory of a run in bytes, and the number of samples it scores at a time.

    Attributes:
        budget: limit for the process, or None.
        resident: memory before training: libraries, data, text vectors, weights.
        training: additional memory of a step, without scores.
        evaluation: additional memory of evaluation, without scores.
        train_rows: number of samples whose scores a step has in memory at a time.
        score_bytes: limit for score matrices in evaluation.
    """

    budget: int | None
    resident: int
    training: int
    evaluation: int
    train_rows: int
    score_bytes: int

    def lines(self) -> list[str]:
        """Return the plan as lines of text; none if there is no limit."""
        if self.budget is None:
            return []
        return [
            f"memory budget {_size(self.budget)}: {_size(self.resident)} now, "
            f"{_size(self.training)} for a step and its scores by {self.train_rows} samples, "
            f"{_size(self.evaluation)} for evaluation and {_size(self.score_bytes)} for its scores"
        ]


def plan_memory(
    model: Recommender | None,
    recipe: Recipe,
    phases: Sequence[Phase],
    num_items: int,
    longest: int,
    resident: int,
) -> MemoryPlan:
    """Plan the memory of a run on ``num_items`` items whose longest session has ``longest`` items.

    Raises:
        InputError: even one sample at a time exceeds ``run.memory_budget``.

    Example:
        >>> from alterrec.recipe import resolve
        >>> recipe = resolve("popularity", overrides={"run.memory_budget": "1GiB"})
        >>> plan_memory(None, recipe, [], 1000, 50, resident=2**28).train_rows
        1024
    """
    batch = recipe.optim.batch_size
    networks = {name: model.network(name) for name in model.networks} if model else {}
    weights = [FLOAT * sum(value.numel() for value in each.parameters()) for each in networks.values()]
    # Rows of item tables in this process; scores have as many columns, unless those of few items are fetched.
    held = model.shard.size if model and model.shard else num_items
    # If users are nodes like items, a step and an evaluation have all of both in memory.
    nodes = {name: getattr(network.items, "num_nodes", 0) for name, network in networks.items()}
    tables = [
        max(held, nodes[name]) * _tables(network) * network.dim * FLOAT for name, network in networks.items()
    ]
    sessions = -(-batch // min(recipe.data.prefixes or longest, longest))
    states = [
        _rows_read(networks[phase.train], phase, batch, sessions)
        * min(longest, recipe.model.max_len)
        * networks[phase.train].dim
        * FLOAT
        * (ENCODER_STATES + LAYER_STATES * _layers(networks[phase.train].session))
        for phase in phases
    ]
    rule = recipe.id.optimiser
    # The state of the optimisers, and copies of the weights after the last epoch and after the best one.
    learning = 2 * sum(weights) + sum(_state_bytes(network, rule) for network in networks.values())
    learned = [
        _step_bytes(networks[phase.train], rule, _rows_kept(recipe, phase, num_items, held), held)
        for phase in phases
    ]
    asked = any(network.queries is not None for network in networks.values())
    half = recipe.window.precision == "float16" and not asked
    taught = [
        networks[phase.teacher].dim
        * (held * (FLOAT // 2 if half else FLOAT) + min(held, pool_size(recipe.window, num_items)) * FLOAT)
        for phase in phases
        if phase.teacher
    ]
    asking = batch * (min(longest, recipe.model.max_len) + 1) * QUERY_BYTES if asked else 0
    training = learning + max(learned, default=0) + max(taught, default=0)
    training += max(states, default=0) + asking + SLACK
    # A table that is made of others needs as much memory again.
    made = [
        table
        for table, network in zip(tables, networks.values(), strict=True)
        if not isinstance(network.items, IdTable | SeparateIdTables | TextItems)
    ]
    evaluation = learning + sum(tables) + max(made, default=0) + SLACK
    if not recipe.run.memory_budget:
        return MemoryPlan(None, resident, training, evaluation, batch, SCORE_BYTES)
    budget = parse_bytes(recipe.run.memory_budget)
    scored = max((_scored(networks, recipe, phase, num_items) for phase in phases), default=num_items)
    scored = held if scored == num_items else scored
    row, train_row = _row_bytes(num_items), _row_bytes(scored)
    train_row += QUERIES_PER_SAMPLE * scored * FLOAT if asked else 0
    parts = score_matrices(model) if model else 4
    train_rows = (budget - resident - training) // train_row if model else batch
    score_bytes = budget - resident - evaluation
    if train_rows < 1 or score_bytes < parts * row:
        needed = resident + max(training + train_row, evaluation + parts * row)
        raise InputError(
            f"run.memory_budget is {recipe.run.memory_budget}, and {recipe.model_name} on {num_items} items "
            f"needs at least {_size(needed)}; raise it, or lower model.dim or optim.batch_size"
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


def _scored(networks: Mapping[str, Network], recipe: Recipe, phase: Phase, num_items: int) -> int:
    """Return how many items a step scores at a time; for a sum of softmaxes, a teacher scores all."""
    mixed = phase.teacher and networks[phase.teacher].queries and not networks[phase.train].queries
    return num_items if mixed else items_scored(recipe, phase, num_items)


def _row_bytes(items: int) -> int:
    """Return the bytes that a sample needs for its scores, the bits of its window and its drawn ids."""
    return items * FLOAT + items // 8 + 16 * min(items, 2**16)


def _id_tables(network: Network) -> list[nn.Parameter]:
    return [part.rows_VD for part in network.modules() if isinstance(part, IdTable)]


def _state_bytes(network: Network, rule: str) -> int:
    """Return the bytes of the moments of Adam, and of the state of another rule for ID tables."""
    values = 2 * sum(value.numel() for value in network.parameters())
    if rule == "rowwise_adagrad":
        values += sum(len(table) - 2 * table.numel() for table in _id_tables(network))
    return FLOAT * values


def _rows_kept(recipe: Recipe, phase: Phase, num_items: int, held: int) -> int:
    """Return the largest number of rows of an item table that a step of a process keeps."""
    encoded = items_encoded(recipe, phase, num_items)
    if encoded == num_items or held == num_items:
        return min(held, encoded)
    return min(held, round(FETCHED_ROWS * encoded * held / num_items))


def _step_bytes(network: Network, rule: str, encoded: int, num_items: int) -> int:
    """Return the bytes of the gradient of a network and of what a step keeps for the items that it encodes.

    The dense gradient of a table of which a step encodes some rows is made last, when half of what was kept
    for them has been freed.
    """
    nodes = max(encoded, int(getattr(network.items, "num_nodes", 0)))
    kept = nodes * _item_values(network) * FLOAT
    gradient = _gradient_bytes(network, rule, encoded, num_items)
    if rule == "adam" and nodes < num_items:
        return max(kept, gradient + kept // 2)
    return kept + gradient


def _gradient_bytes(network: Network, rule: str, encoded: int, num_items: int) -> int:
    """Return the bytes of the gradient of a network; of a table it has only the rows that a step encodes."""
    values = sum(value.numel() for value in network.parameters())
    if rule != "adam" and encoded < num_items:
        values += sum(encoded * table.shape[1] - table.numel() for table in _id_tables(network))
    return FLOAT * values


def _item_values(network: Network) -> int:
    """Return how many values a step keeps per encoded item: tables, and input and output of experts."""
    tables = LEARNING_ID_TABLES if isinstance(network.items, IdTable | SeparateIdTables) else LEARNING_TABLES
    values = tables * _tables(network) * network.dim
    for part in network.items.modules():
        if isinstance(part, MixtureAdapter):
            experts, dim, width = part.experts_EDF.shape
            values += experts * (width + 2 * dim)
    return values


def _tables(network: Network) -> int:
    """Count the item tables of a network: the one that is read and, if it differs, the one that is scored."""
    return 2 if any(isinstance(part, SeparateIdTables) for part in network.items.modules()) else 1


def _rows_read(network: Network, phase: Phase, batch: int, sessions: int) -> int:
    """Return how many rows the session encoder reads in a step: prefixes, or the sessions they belong to."""
    if phase.objective != "next":
        return batch * int(getattr(network.objectives[phase.objective], "readings", 1))
    return batch if network.reads_prefixes else sessions


def _layers(session: nn.Module) -> int:
    """Count the layers of a session encoder that keep many states per position."""
    return sum(isinstance(part, (Attention, nn.GRU)) for part in session.modules())


def _size(size: int) -> str:
    return f"{size / 2**30:.2f} GiB" if size >= 2**30 else f"{-(-size // 2**20)} MiB"

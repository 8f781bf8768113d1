"""Estimates of the time and memory of a run from its recipe, before any comparable run has finished."""

from __future__ import annotations

import os
import timeit
from functools import cache
from pathlib import Path
from typing import NamedTuple

import numpy as np

from alterrec.data.dataset import Dataset
from alterrec.data.text import LSA_DIM
from alterrec.models.catalogue import lookup, reads_text
from alterrec.recipe import Recipe

# Losses, norms, optimiser and start-up take about as long as the matrix products that are counted. On two
# data sets with SASRec and AlterRec the estimate was within a factor of two; methods that read a sample
# several times take longer.
OVERHEAD = 2.0
START_SECONDS = 6.0

# A process with torch that has read small data and drawn a page; measured 600 to 900 MiB.
PROCESS_BYTES = 750 * 2**20
# Less than any process with torch takes; measured on small data: 840 MiB with the reserve of runs/memory.py.
LEAST_PROCESS = 400 * 2**20
# As in runs/memory.py, which plans a run exactly but needs torch and the network: tables of V x D during a
# step, matrices of scores for a sample with several queries, and what evaluation takes for scores at most.
STEP_TABLES, QUERY_MATRICES, EVALUATION_BYTES = 6, 5, 2**30
# Columns of sentence encoders; they have 384 to 1024.
ENCODER_DIM = 768


class DataSizes(NamedTuple):
    """The sizes of a data set on which the time and the memory of a run depend.

    Attributes:
        items: number of items in the catalogue.
        lengths: lengths of the training sessions.
        targets: number of validation targets.
    """

    items: int
    lengths: np.ndarray
    targets: int

    @classmethod
    def of(cls, data: Dataset) -> DataSizes:
        """Return the sizes of a data set."""
        return cls(data.num_items, np.asarray(data.train.lengths), data.valid.num_sessions)


def estimate_seconds(recipe: Recipe, sizes: DataSizes) -> float:
    """Estimate the seconds of a run from its matrix products and the speed of this machine."""
    epochs = (recipe.schedule.epochs + recipe.schedule.pretrain) if recipe.schedule.regime != "none" else 0
    return START_SECONDS + OVERHEAD * epochs * epoch_operations(recipe, sizes) / _operations_per_second()


def epoch_operations(recipe: Recipe, sizes: DataSizes) -> float:
    """Count multiplications and additions in an epoch: scores and session encoder, with their gradients.

    Example:
        Two samples, 10 items and width 4 give 2 * 10 * 4 * 6 for the scores. Three positions and two
        Transformer layers of 24 * 4 * 4 each count three times, because of the gradients.

        >>> from alterrec.recipe import resolve
        >>> recipe = resolve("sasrec", ["paper"], {"model.dim": 4})
        >>> epoch_operations(recipe, DataSizes(10, np.array([3]), 0))
        7392.0
    """
    width, cap = recipe.model.dim, recipe.data.prefixes or None
    samples = np.minimum(np.maximum(sizes.lengths - 1, 0), cap or np.inf).sum()
    positions = np.minimum(sizes.lengths, recipe.model.max_len).sum()
    scores = (6 * samples + 2 * sizes.targets) * sizes.items * width
    return float(scores + 3 * positions * recipe.model.layers * 24 * width**2)


@cache
def _operations_per_second() -> float:
    """Return the speed of float32 matrix products on this machine, the best of five."""
    left, right = np.ones((512, 64), np.float32), np.ones((64, 4096), np.float32)
    return 2 * 512 * 64 * 4096 / min(timeit.repeat(lambda: left @ right, number=1, repeat=5))


def estimate_memory(recipe: Recipe, sizes: DataSizes) -> int:
    """Estimate the peak memory of a run in bytes, without a limit by ``run.memory_budget``.

    On nine pairs of system and data set with 2,000 to 40,000 items it was within a factor of 1.5.

    Example:
        >>> from alterrec.recipe import resolve
        >>> sizes = DataSizes(1_000_000, np.full(10, 4), 1_000)
        >>> estimate_memory(resolve("id_only", ["paper"]), sizes) > 2 * estimate_memory(
        ...     resolve("id_only", ["paper"], {"model.dim": 32}), sizes)
        True
    """
    entry, width = lookup(recipe.model_name), recipe.model.dim
    scores = min(4 * sizes.targets * sizes.items * (1 + len(entry.networks)), EVALUATION_BYTES)
    if not entry.trains:
        return PROCESS_BYTES + scores
    table = 4 * sizes.items * width
    weights = table * entry.items.count("id") * (2 if recipe.id.separate_output else 1)
    queries = any(getattr(recipe, name).queries != "one" for name in entry.networks)
    step = 4 * recipe.optim.batch_size * sizes.items * (QUERY_MATRICES if queries else 1)
    vectors = 4 * sizes.items * (LSA_DIM if recipe.text.encoder == "lsa" else ENCODER_DIM)
    return (
        PROCESS_BYTES
        + 4 * weights
        + (vectors if reads_text(recipe) else 0)
        + max(STEP_TABLES * table + step, 2 * table * len(entry.networks) + scores)
    )


def least_memory(recipe: Recipe, sizes: DataSizes) -> int:
    """Return a memory budget in bytes below which a run certainly refuses to start.

    It counts what no chunks of scores make smaller: the process, the text vectors, the weights and the item
    table of a step.

    Example:
        >>> from alterrec.recipe import resolve
        >>> least_memory(resolve("id_only"), DataSizes(1000, np.array([4]), 10)) // 2**20
        402
    """
    table = 4 * sizes.items * recipe.model.dim
    entry = lookup(recipe.model_name)
    weights = table * entry.items.count("id")
    step = STEP_TABLES * table if entry.trains else 0
    vectors = 4 * sizes.items * min(LSA_DIM, sizes.items) if reads_text(recipe) else 0
    return LEAST_PROCESS + 4 * weights + vectors + step


def machine_memory() -> int | None:
    """Return the memory of this machine, or of its container, in bytes; None where it is not known."""
    try:
        limits = [os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")]
    except (AttributeError, ValueError, OSError):
        return None
    for name in ("memory.max", "memory/memory.limit_in_bytes"):
        try:
            limit = (Path("/sys/fs/cgroup") / name).read_text("utf-8").strip()
        except OSError:
            continue
        limits += [int(limit)] if limit.isdigit() else []
    return min(limits)

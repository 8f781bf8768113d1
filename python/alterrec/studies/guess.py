"""How long a run may take, before any has: a rule of thumb from the sizes of data and recipe."""

from __future__ import annotations

import time
from functools import cache
from typing import NamedTuple

import numpy as np

from alterrec.data.dataset import Dataset
from alterrec.recipe import Recipe

# Losses, norms, optimiser and start-up beside the products that are counted. On two data sets with SASRec
# and AlterRec the rule was within a factor of two; methods that read a sample several times take longer.
OVERHEAD = 2.0
START_SECONDS = 6.0


class Sizes(NamedTuple):
    """What the time of a run depends on.

    Attributes:
        items: in the catalogue.
        lengths: of training sessions.
        targets: of validation.
    """

    items: int
    lengths: np.ndarray
    targets: int

    @classmethod
    def of(cls, data: Dataset) -> Sizes:
        """The sizes of a data set."""
        return cls(data.num_items, np.asarray(data.train.lengths), data.valid.num_sessions)


def guess_seconds(recipe: Recipe, sizes: Sizes) -> float:
    """Seconds of a run: its products of matrices at this machine's speed, times what comes beside them."""
    epochs = (recipe.schedule.epochs + recipe.schedule.pretrain) if recipe.schedule.regime != "none" else 0
    return START_SECONDS + OVERHEAD * epochs * epoch_operations(recipe, sizes) / _operations_a_second()


def epoch_operations(recipe: Recipe, sizes: Sizes) -> float:
    """Multiplications and additions of an epoch: scores with both gradients, and the session encoder's.

    Example:
        Two samples, 10 items, width 4: 2 * 10 * 4 * 6 for the scores. Three places, two layers of 24 * 4 * 4
        for a Transformer, three times for its gradients.

        >>> from alterrec.recipe import resolve
        >>> recipe = resolve("sasrec", ["paper"], {"model.dim": 4})
        >>> epoch_operations(recipe, Sizes(10, np.array([3]), 0))
        7392.0
    """
    width, cap = recipe.model.dim, recipe.data.prefixes or None
    samples = np.minimum(np.maximum(sizes.lengths - 1, 0), cap or np.inf).sum()
    places = np.minimum(sizes.lengths, recipe.model.max_len).sum()
    scores = (6 * samples + 2 * sizes.targets) * sizes.items * width
    return float(scores + 3 * places * recipe.model.layers * 24 * width**2)


@cache
def _operations_a_second() -> float:
    """This machine's float32 products, the best of a few."""
    left, right = np.ones((512, 64), np.float32), np.ones((64, 4096), np.float32)
    best = np.inf
    for _ in range(5):
        began = time.perf_counter()
        left @ right
        best = min(best, time.perf_counter() - began)
    return float(2 * 512 * 64 * 4096 / best)

"""The metrics of recommendation lists of a run: coverage, novelty, popularity, diversity, concentration."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from alterrec.data.dataset import Dataset
from alterrec.errors import InputError
from alterrec.evaluation.evaluate import Protocol
from alterrec.evaluation.lists import measure_lists
from alterrec.list_metrics import ListMetrics
from alterrec.metrics import parse_list_metric
from alterrec.models.base import Scorer
from alterrec.progress import Event, Listener
from alterrec.recipe import Recipe
from alterrec.runs.text_encoder import encode


def check_lists(names: Sequence[str], dataset: Dataset) -> None:
    """Raise InputError if metrics of lists cannot be computed on a data set.

    Raises:
        InputError: a cutoff is larger than the catalogue, or texts are needed and there are none.
    """
    for name in names:
        kind, cutoff = parse_list_metric(name)
        if cutoff > dataset.num_items:
            raise InputError(
                f"metric {name} has a cutoff above the {dataset.num_items} items of {dataset.name}; use "
                f"{kind}@{dataset.num_items} or less"
            )
        if kind == "diversity" and dataset.text is None and dataset.vectors is None:
            raise InputError(
                f"metric {name} compares the texts of items, but {dataset.name} has no texts; leave it out, "
                "or give a text column or data.vectors"
            )


def measure(
    model: Scorer,
    recipe: Recipe,
    dataset: Dataset,
    protocol: Protocol,
    names: Sequence[str],
    progress: Listener,
) -> dict[str, dict[str, float]]:
    """Return split -> metric -> value of the lists that a system recommends; empty if there are no names.

    The texts are compared by the vectors of the recipe's text encoder, whether the system reads texts or not.
    """
    if not names:
        return {}
    vectors: NDArray[np.floating] | None = None
    if any(parse_list_metric(name)[0] == "diversity" for name in names):
        vectors = dataset.vectors
        if vectors is None and dataset.text is not None:
            progress(
                Event("work", f"encoding item text with {recipe.text.encoder} for the diversity of lists")
            )
            vectors = encode(dataset.text, recipe, progress)
    progress(Event("work", "measuring the lists of recommendations"))
    found = {}
    for split in ("valid", "test"):
        lists = ListMetrics(names, dataset.num_items, train_counts=dataset.train_counts, vectors=vectors)
        found[split] = measure_lists(model, dataset.splits[split], protocol, lists)
    return found

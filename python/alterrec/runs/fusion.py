"""Choose the weights of the parts of a score after training, and the parts that are counted."""

from __future__ import annotations

from collections.abc import Mapping

from alterrec.data.dataset import Dataset
from alterrec.evaluation.choices import choose_system, choose_weights
from alterrec.evaluation.evaluate import Protocol
from alterrec.evaluation.gates import choose_gate
from alterrec.models.base import Recommender, Scorer
from alterrec.models.neighbours import NeighbourLists, Trend
from alterrec.progress import Event, Listener
from alterrec.recipe import Recipe

# Systems of which the better one, by validation, becomes the part `neighbours` of a sum.
NEIGHBOURS = ("itemknn", "covisitation")
# What is added to its scores before their log is taken; docs/decisions.md has the evidence.
NEIGHBOUR_OFFSET = 0.1
# Shares of the training interactions that count as recent in the part `trend`; validation chooses.
TREND_SHARES = (0.1, 0.05, 0.02)


def is_sum(fitted: Scorer) -> bool:
    """Return whether a system has several networks, whose scores are summed."""
    return isinstance(fitted, Recommender) and len(fitted.networks) > 1


def fuse(
    fitted: Scorer,
    recipe: Recipe,
    dataset: Dataset,
    protocol: Protocol,
    baselines: Mapping[str, Scorer],
    progress: Listener,
) -> Scorer:
    """Choose the weights of the parts of the score on validation."""
    if not isinstance(fitted, Recommender) or not is_sum(fitted) or not dataset.valid.num_sessions:
        return fitted
    metric, further = recipe.schedule.metric, dict[str, list[Scorer]]()
    if recipe.fusion.neighbours:
        known = [baselines[name] for name in NEIGHBOURS]
        chosen = choose_system(known, dataset.valid, protocol, metric)
        assert isinstance(chosen, NeighbourLists)
        further["neighbours"] = [chosen.as_log(NEIGHBOUR_OFFSET)]
    if recipe.fusion.trend:
        further["trend"] = [Trend.fit(dataset.train, share) for share in TREND_SHARES]
    if further or recipe.fusion.tune:
        progress(Event("notice", "choosing the weights of the sum on validation"))
        fitted.weights = choose_weights(
            fitted, dataset.valid, protocol, metric, tune_alpha=recipe.fusion.tune, further=further
        )
    if recipe.fusion.gate:
        progress(Event("notice", "fitting weights that depend on the prefix"))
        fitted.gate = choose_gate(fitted, dataset.train_counts, dataset.valid, protocol, metric)
        if fitted.gate is None:
            progress(Event("notice", "they gain nothing on validation; all prefixes have the same weights"))
    return fitted

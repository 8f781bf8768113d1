"""Compute the parts of ``result.json``, ``curves.jsonl`` and ``examples.json`` of a run."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np
import torch

from alterrec.data.dataset import Dataset
from alterrec.data.repeats import SeenItems, bin_names, repeated_share
from alterrec.evaluation import part_losses as part_losses_of
from alterrec.evaluation import saved
from alterrec.evaluation.choices import alpha_curves
from alterrec.evaluation.evaluate import Protocol, Ranks, evaluate, recommend_items
from alterrec.models.base import Recommender, Scorer
from alterrec.models.gate import FEATURES
from alterrec.recipe import Recipe
from alterrec.results import (
    AlphaMetrics,
    DataSummary,
    Example,
    Group,
    Item,
    Metrics,
    PartLoss,
    PhaseRecord,
    QueryWeights,
    RepeatSummary,
    TargetCounts,
)
from alterrec.training.schedule import Phase, first_epochs

# Length of the item lists that coverage and popularity are computed from.
TOP = 20
EXAMPLES = 6


def run_data(recipe: Recipe, dataset: Dataset, protocol: Protocol) -> DataSummary:
    """Summarise the data and the rules of the ranking."""
    return replace(
        DataSummary.of(dataset),
        seen=protocol.seen,
        seen_rule=recipe.data.exclude_seen,
        repeat_share=repeated_share(dataset.train, protocol.targets),
        targets=recipe.data.targets,
        notes=list(dataset.notes),
    )


def target_counts(dataset: Dataset, ranks: Ranks) -> TargetCounts:
    """Count the targets of a split."""
    cold = int((~dataset.trained[ranks.targets]).sum())
    return TargetCounts(len(ranks.targets), cold, int(ranks.repeated.sum()), ranks.tied_share())


def popularity_groups(dataset: Dataset, ranks: Ranks) -> list[Group]:
    """Compute metrics by popularity of the target in training, cold targets first."""
    masks = saved.popularity_groups(dataset.train_counts[ranks.targets])
    return [Group(**group) for group in saved.group_metrics(masks, ranks.all_metrics)]


def repeat_summary(model: Scorer, protocol: Protocol, longest: int) -> RepeatSummary | None:
    """Summarise the repeat component for prefixes of up to ``longest`` items; None if it is not used."""
    if protocol.repeats is None:
        return None
    names = bin_names(longest)
    weights_B = protocol.repeats.weights_B / protocol.repeats.weights_B[0]
    return RepeatSummary(
        dict(zip(names, protocol.repeats.rates_B.tolist(), strict=False)),
        dict(zip(names, weights_B.tolist(), strict=False)),
        {view: scale._asdict() for view, scale in model.scales.items()},
    )


def query_weights(model: Scorer, longest: int) -> dict[str, QueryWeights]:
    """Return the weights of the queries of each network for a prefix of ``longest`` items."""
    found = {}
    networks = (
        {name: model.network(name) for name in model.networks} if isinstance(model, Recommender) else {}
    )
    for name, network in networks.items():
        queries = network.queries
        if queries is None:
            continue
        length = min(longest, len(queries.logits_L))
        length_N = torch.tensor([length], device=queries.logits_L.device)
        with torch.no_grad():
            weights = queries.log_weights(length_N, length).exp()[0].tolist()
        vector = None if queries.vector_logit is None else weights.pop(0)
        found[name] = QueryWeights(vector, weights)
    return found


def baseline_metrics(
    baselines: Mapping[str, Scorer], dataset: Dataset, protocol: Protocol
) -> dict[str, dict[str, dict[SeenItems, Metrics]]]:
    """Measure baselines on both splits: name -> split -> rule for seen items -> metrics."""
    splits = {"valid": dataset.valid, "test": dataset.test}
    ranks = {
        name: {split: evaluate(each, store, protocol) for split, store in splits.items()}
        for name, each in baselines.items()
    }
    return {
        name: {
            split: {rule: each.metrics(rule=rule) for rule in each.by_rule}
            for split, each in by_split.items()
        }
        for name, by_split in ranks.items()
    }


def fusion_weights(model: Scorer) -> dict[str, float]:
    """Return the weights of the parts of the score; empty unless there are several networks."""
    if not isinstance(model, Recommender) or len(model.networks) < 2:
        return {}
    return {"alpha": model.weights["id"], **{part: model.weights[part] for part in model.untrained}}


def gate_coefficients(model: Scorer) -> dict[str, dict[str, float]]:
    """Return part -> feature -> coefficient of a gate; empty without a gate."""
    if not isinstance(model, Recommender) or model.gate is None:
        return {}
    rows = zip(model.gate.parts, model.gate.coefficients_PF.tolist(), strict=True)
    return {part: dict(zip(FEATURES, row, strict=True)) for part, row in rows}


def alpha_metrics(model: Scorer, dataset: Dataset, protocol: Protocol, metric: str) -> list[AlphaMetrics]:
    """Measure the sum of ID and text by the weight of ID; empty unless each has a network."""
    if not isinstance(model, Recommender) or set(model.networks) != {"id", "text"}:
        return []
    valid, test = alpha_curves(model, dataset.valid, dataset.test, protocol, metric)
    return [AlphaMetrics(alpha, valid[alpha], test[alpha]) for alpha in valid]


def num_parameters(model: Scorer) -> int:
    """Count trained values; 0 for a non-neural baseline."""
    return sum(values.numel() for values in model.parameters()) if isinstance(model, Recommender) else 0


def part_losses(model: Recommender, dataset: Dataset, protocol: Protocol) -> dict[str, PartLoss]:
    """Compute training loss and gradient norm by part, for ``curves.jsonl``."""
    gradients = part_losses_of.part_gradients(model, dataset.train, protocol)
    losses = part_losses_of.part_losses(model, dataset.train, protocol)
    return {view: PartLoss(loss, gradients.get(view)) for view, loss in losses.items()}


def phase_records(plan: Sequence[Phase]) -> list[PhaseRecord]:
    """Return the plan with epochs counted from 1."""
    return [
        PhaseRecord(first, first + each.epochs - 1, each.train, each.negatives, each.teacher, each.name)
        for first, each in zip(first_epochs(plan), plan, strict=True)
    ]


def top_size(dataset: Dataset, protocol: Protocol) -> int:
    """Return how many items of each test ranking are kept: ``TOP``, or as many as every session leaves."""
    seen = int(dataset.test.lengths.max(initial=1)) - 1 if protocol.seen == "excluded" else 0
    return max(min(TOP, dataset.num_items - seen), 0)


def examples(model: Scorer, dataset: Dataset, ranks: Ranks, protocol: Protocol) -> list[Example]:
    """Pick a few short test sessions: in two thirds the target is among the first 10, in the others not."""
    if not len(ranks.targets):
        return []
    greater, tied = ranks.views["score"]
    found = (greater < 10) & (tied > 0)
    short = ranks.samples[:, 1] <= 8
    hits, misses = np.flatnonzero(found & short), np.flatnonzero(~found & short)
    picks = [*hits[: EXAMPLES * 2 // 3], *misses[: EXAMPLES // 3]]
    prefixes = [
        dataset.test.session(int(session))[: int(end)].astype(np.int64)
        for session, end in ranks.samples[picks]
    ]
    excluded = max(map(len, prefixes), default=0) if protocol.seen == "excluded" else 0
    k = min(5, dataset.num_items - excluded)
    users = None if dataset.test.users is None else dataset.test.users[ranks.samples[picks, 0]]
    top = recommend_items(model, prefixes, max(k, 1), protocol, dataset.num_items, users)[0]
    return [
        Example(
            session=[_item(dataset, int(number)) for number in prefix],
            target=_item(dataset, int(ranks.targets[pick])),
            rank={
                view: _expected_rank(int(greater[pick]), int(tied[pick]))
                for view, (greater, tied) in ranks.views.items()
            },
            top={"score": [_item(dataset, int(number)) for number in best]},
        )
        for pick, prefix, best in zip(picks, prefixes, top, strict=True)
    ]


def _expected_rank(greater: int, tied: int) -> float | None:
    """Return the mean rank if tied items are in random order; None if the target is not a candidate.

    Example:
        >>> _expected_rank(3, 2), _expected_rank(3, 0)
        (4.5, None)
    """
    return greater + (tied + 1) / 2 if tied else None


def _item(dataset: Dataset, number: int) -> Item:
    fields = dataset.text.fields.values() if dataset.text else ()
    title = next((texts[number] for texts in fields if texts[number]), "")
    return Item(dataset.vocabulary.item_ids[number], title)

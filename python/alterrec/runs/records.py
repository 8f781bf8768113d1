"""Compute the parts of ``result.json``, ``curves.jsonl`` and ``examples.json`` of a run."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np
import polars as pl
import torch

from alterrec.data.dataset import Dataset
from alterrec.data.repeats import SeenItems, bin_names, repeated_share
from alterrec.evaluation import part_losses as part_losses_of
from alterrec.evaluation import saved
from alterrec.evaluation.choices import alpha_curves
from alterrec.evaluation.comparisons import (
    Comparison,
    Pairing,
    System,
    compare_systems,
    session_values,
    standard_error,
)
from alterrec.evaluation.evaluate import Protocol, Ranks, evaluate
from alterrec.evaluation.recommend import recommend_items
from alterrec.models.base import Recommender, Scorer
from alterrec.models.gate import FEATURES
from alterrec.nn.item_encoders import divided_tensors
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
# Example sessions, drawn with this seed in every run: runs on the same data show the same sessions.
EXAMPLES, EXAMPLE_SEED = 6, 0
# The metrics in which a run is compared with its baselines.
COMPARED = ("hits@20", "ndcg@20")


SEEN_LINES: Mapping[SeenItems, str] = {
    "kept": "items of the prefix are candidates",
    "excluded": "items of the prefix are not candidates",
    "repeats": "items of the prefix are candidates with the counted probability of a repeat",
}


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


def rank_baselines(
    baselines: Mapping[str, Scorer], dataset: Dataset, protocol: Protocol
) -> dict[str, dict[str, Ranks]]:
    """Rank the targets of both splits with each baseline: name -> split -> ranks."""
    splits = {"valid": dataset.valid, "test": dataset.test}
    return {
        name: {split: evaluate(each, store, protocol) for split, store in splits.items()}
        for name, each in baselines.items()
    }


def baseline_metrics(
    ranks: Mapping[str, Mapping[str, Ranks]],
) -> dict[str, dict[str, dict[SeenItems, Metrics]]]:
    """Return the metrics of baselines: name -> split -> rule for seen items -> metrics."""
    return {
        name: {
            split: {rule: each.metrics(rule=rule) for rule in each.by_rule}
            for split, each in by_split.items()
        }
        for name, by_split in ranks.items()
    }


def session_errors(ranks: Ranks, baselines: Mapping[str, Ranks]) -> dict[str, Metrics]:
    """Compute the standard errors over sessions: view or baseline -> metric -> error."""
    counts = ranks.views | {name: each.views["score"] for name, each in baselines.items()}
    found = {}
    for name, (greater, tied) in counts.items():
        values_NK = session_values(ranks.samples[:, 0], greater, tied, ranks.names)
        found[name] = dict(zip(ranks.names, map(standard_error, values_NK.T), strict=True))
    return found


def baseline_comparisons(name: str, ranks: Ranks, baselines: Mapping[str, Ranks]) -> list[Comparison]:
    """Compare the score, and ID + text without further parts, with the best baseline of each metric.

    The best one is chosen on the same targets, which favours the baselines. All comparisons are one family.
    """
    if not baselines or not len(ranks.targets):
        return []
    metrics = COMPARED if set(COMPARED) <= set(ranks.names) else ranks.names[:2]
    values = {baseline: each.metrics() for baseline, each in baselines.items()}
    best = [max(values, key=lambda baseline: values[baseline][metric]) for metric in metrics]
    systems = {baseline: _as_system(baseline, baselines[baseline]) for baseline in best}
    views = [view for view in ("score", "fused") if view in ranks.views]
    family = []
    for view in views:
        ours = _as_system(name, ranks, view)
        family.append(Pairing(ours, [systems[each] for each in best], metrics, ours.all_targets))
    owners = [view for view in views for _ in metrics]
    found = zip(compare_systems(family), owners, strict=True)
    return [replace(each, view=view) for each, view in found]


def _as_system(name: str, ranks: Ranks, view: str = "score") -> System:
    """Return ranks as the only run of a system whose score is the view."""
    greater, tied = ranks.views[view]
    columns = {"session_id": ranks.samples[:, 0], "greater_score": greater, "tied_score": tied}
    return System(name, (saved.SavedRanks(pl.DataFrame(columns)),))


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
    """Count the trained values of all processes; 0 for a non-neural baseline."""
    if not isinstance(model, Recommender):
        return 0
    shards = divided_tensors(model)
    return sum(
        shards[name].total * values[:1].numel() if name in shards else values.numel()
        for name, values in model.named_parameters()
    )


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
    """Draw a few test targets at random, whatever their ranks."""
    total = len(ranks.targets)
    if not total:
        return []
    picks = np.random.default_rng(EXAMPLE_SEED).choice(total, min(EXAMPLES, total), replace=False)
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

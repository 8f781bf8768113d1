"""What a run says of itself: the parts of ``result.json`` and ``examples.json``."""

from __future__ import annotations

import platform
import resource
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from alterrec.data.dataset import Dataset
from alterrec.evaluation import saved
from alterrec.evaluation.choose import alpha_curve
from alterrec.evaluation.evaluate import Protocol, Ranks, evaluate, recommend_items
from alterrec.evaluation.part_losses import part_gradients, part_losses
from alterrec.models.base import Recommender, Scorer
from alterrec.recipe import Recipe
from alterrec.training.schedule import Phase, first_epochs

# The longest list that metrics of lists (coverage, popularity) look at.
TOP = 20


def peak_memory_bytes() -> int:
    """Most memory this process has held, in bytes."""
    status = Path("/proc/self/status")
    if status.exists():
        # What getrusage says on Linux is no less than the starting process held when it started this one.
        peak = next(line for line in status.read_text("utf-8").splitlines() if line.startswith("VmHWM:"))
        return int(peak.split()[1]) * 1024
    # macOS counts in bytes, others in KiB.
    unit = 1 if platform.system() == "Darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit


def baseline_facts(row: Scorer, dataset: Dataset, protocol: Protocol) -> dict[str, dict[str, float]]:
    """Metrics of a baseline by split."""
    return {split: evaluate(row, dataset.splits[split], protocol).metrics() for split in ("valid", "test")}


def fusion_facts(fitted: Scorer) -> dict[str, float]:
    """Weights of the sum, where there are several networks."""
    weights = fitted.weights
    if not isinstance(fitted, Recommender) or len(fitted.networks) < 2:
        return {}
    return {"alpha": weights["id"], **({"neighbours": weights["neighbours"]} if fitted.neighbours else {})}


def alpha_facts(fitted: Scorer, dataset: Dataset, protocol: Protocol) -> list[dict[str, Any]]:
    """Metrics of the sum of ID and text by the weight of ID, where a system has a network for each."""
    if not isinstance(fitted, Recommender) or set(fitted.networks) != {"id", "text"}:
        return []
    curves = {split: alpha_curve(fitted, dataset.splits[split], protocol) for split in ("valid", "test")}
    return [
        {"alpha": alpha, **{split: curve[alpha] for split, curve in curves.items()}}
        for alpha in curves["valid"]
    ]


def parameters(fitted: Scorer) -> int:
    """Trained values; 0 of a system that counts."""
    if not isinstance(fitted, Recommender):
        return 0
    return sum(values.numel() for values in fitted.parameters())


def data_facts(recipe: Recipe, dataset: Dataset, exclude_seen: bool, repeat_share: float) -> dict[str, Any]:
    """What the data was and how its targets were ranked."""
    return {
        "name": dataset.name,
        "fingerprint": dataset.fingerprint,
        "items": dataset.num_items,
        "cold_items": int((~dataset.trained).sum()),
        **{f"{split}_sessions": store.num_sessions for split, store in dataset.splits.items()},
        "exclude_seen": exclude_seen,
        "seen_rule": recipe.data.exclude_seen,
        "repeat_share": repeat_share,
        "targets": recipe.data.targets,
        "notes": list(dataset.notes),
    }


def target_facts(dataset: Dataset, ranks: Ranks) -> dict[str, Any]:
    """How many targets, how many of them cold, how many tied."""
    return {
        "count": len(ranks.targets),
        "cold": int((~dataset.trained[ranks.targets]).sum()),
        "tied_share": ranks.tied_share(),
    }


def part_facts(model: Recommender, dataset: Dataset, protocol: Protocol) -> dict[str, dict[str, float]]:
    """Training loss and gradient norm by part, for ``curves.jsonl``."""
    gradients = part_gradients(model, dataset.train, protocol)
    return {
        view: {"loss": loss, **({"gradient": gradients[view]} if view in gradients else {})}
        for view, loss in part_losses(model, dataset.train, protocol).items()
    }


def top_size(dataset: Dataset, protocol: Protocol) -> int:
    """How many items of each test ranking are kept: 20, or as many as every session leaves."""
    seen = int(dataset.test.lengths.max(initial=1)) - 1 if protocol.exclude_seen else 0
    return max(min(TOP, dataset.num_items - seen), 0)


def popularity_groups(dataset: Dataset, ranks: Ranks) -> list[dict[str, Any]]:
    """Metrics by popularity of the target in training, items without training first."""
    masks = saved.popularity_groups(dataset.train_counts[ranks.targets])
    return saved.group_metrics(masks, ranks.all_metrics)


def phase_facts(plan: Sequence[Phase]) -> list[dict[str, Any]]:
    """The plan, with epochs counted from 1."""
    return [
        {
            "name": phase.name,
            "from": first,
            "to": first + phase.epochs - 1,
            "trained": phase.train,
            "negatives": phase.negatives,
            "teacher": phase.teacher,
        }
        for first, phase in zip(first_epochs(plan), plan, strict=True)
    ]


def examples(
    fitted: Scorer, dataset: Dataset, ranks: Ranks, protocol: Protocol, shown: int = 6
) -> list[dict[str, Any]]:
    """A handful of test sessions: two thirds where the score finds the target, the rest where it does not."""
    if not len(ranks.targets):
        return []
    lengths = ranks.samples[:, 1]
    found = ranks.views["score"][0] < 10
    short = lengths <= 8
    picks = [*np.flatnonzero(found & short)[: shown * 2 // 3], *np.flatnonzero(~found & short)[: shown // 3]]

    def item(number: int) -> dict[str, str]:
        text = dataset.text
        title = next((texts[number] for texts in text.fields.values() if texts[number]), "") if text else ""
        return {"item_id": dataset.vocabulary.item_ids[number], "text": title}

    prefixes = [
        dataset.test.session(int(session))[: int(end)].astype(np.int64)
        for session, end in ranks.samples[picks]
    ]
    k = min(5, dataset.num_items - (max(map(len, prefixes), default=0) if protocol.exclude_seen else 0))
    users = None if dataset.test.users is None else dataset.test.users[ranks.samples[picks, 0]]
    top = recommend_items(fitted, prefixes, max(k, 1), protocol, dataset.num_items, users)[0]
    rows = []
    for place, (pick, prefix) in enumerate(zip(picks, prefixes, strict=True)):
        expected = {
            view: float(greater[pick] + (tied[pick] + 1) / 2) for view, (greater, tied) in ranks.views.items()
        }
        rows.append(
            {
                "session": [item(number) for number in prefix],
                "target": item(int(ranks.targets[pick])),
                "rank": expected,
                "top": {"score": [item(int(number)) for number in top[place]]},
            }
        )
    return rows

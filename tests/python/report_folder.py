"""A run folder as training would leave it, with numbers from a seeded generator."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import numpy as np

METRICS = ("hits@10", "hits@20", "ndcg@10", "ndcg@20", "mrr@20")
RATIOS = (0.78, 1.0, 0.55, 0.61, 0.49)
LEVELS = {"score": 0.388, "fused": 0.362, "id": 0.331, "text": 0.274, "neighbours": 0.349}
WORDS = [
    "blue",
    "ceramic",
    "lantern",
    "heart",
    "garden",
    "wooden",
    "tea",
    "set",
    "retro",
    "lunch",
    "bag",
    "cake",
]


def metrics(hits: float) -> dict[str, float]:
    return {name: round(hits * ratio, 4) for name, ratio in zip(METRICS, RATIOS, strict=True)}


def seen_views(views: dict[str, dict[str, float]], seen: str) -> dict[str, dict[str, dict[str, float]]]:
    """Metrics by rule: those of the run's own rule as given; own items cost a fifth of NDCG and MRR."""
    factors = {"kept": 0.8, "excluded": 1.0, "repeats": 1.05}
    return {
        rule: {
            view: {
                name: value if "hits" in name else value * factor / factors[seen]
                for name, value in values.items()
            }
            for view, values in views.items()
        }
        for rule, factor in factors.items()
        if rule in ("kept", "excluded", seen)
    }


def learned(level: float, own_epochs: float, random: np.random.Generator) -> dict[str, float]:
    return metrics(level * (1 - 0.75 * math.exp(-0.8 * own_epochs)) + random.normal(0, 0.002))


def phase_list(epochs: int) -> list[tuple[str, str, str | None]]:
    """Two warm-up epochs of each network, then turns of one epoch against the other's window."""
    phases: list[tuple[str, str, str | None]] = [("id", "full", None)] * 2 + [("text", "full", None)] * 2
    turns = [("id", "window", "text"), ("text", "window", "id")]
    return [*phases, *(turns[place % 2] for place in range(max(epochs - 4, 0)))][:epochs]


def item(random: np.random.Generator) -> dict[str, str]:
    words = random.choice(WORDS, size=6, replace=False)
    return {
        "item_id": f"P{random.integers(10_000, 99_999)}",
        "text": f"{' '.join(words).title()}. A {words[0]} {words[1]} for every home",
    }


def example(random: np.random.Generator, views: tuple[str, ...], length: int, rank: int) -> dict[str, Any]:
    target = item(random)
    top = [item(random) for _ in range(5)]
    if rank <= 5:
        top[rank - 1] = target
    ranks = {
        view: rank if view == "score" else min(int(rank * random.integers(1, 90)), 3204) for view in views
    }
    return {
        "session": [item(random) for _ in range(length)],
        "target": target,
        "rank": ranks,
        "top": dict.fromkeys(views, top),
    }


def comparison(model: str, view: str, metric: str, mean: float) -> dict[str, Any]:
    """A difference from V-SKNN that is shown if it is larger than two points."""
    p = 0.01 if abs(mean) > 0.02 else 0.2
    numbers = {"mean": mean, "low": mean - 0.02, "high": mean + 0.02, "p": p, "p_adjusted": p}
    return {"model": model, "metric": metric, "rival": "vsknn", "view": view, **numbers}


def result(
    seed: int = 0, epochs: int = 12, views: tuple[str, ...] = tuple(LEVELS), model: str = "alterrec"
) -> dict[str, Any]:
    random = np.random.default_rng(seed)
    test = {view: metrics(LEVELS[view] + random.normal(0, 0.004)) for view in views}
    groups = []
    for place, (name, count) in enumerate(
        (("cold", 12), ("1-5", 109), ("6-30", 301), ("31-100", 310), (">100", 175))
    ):
        lift = {"id": 0.35 + 0.24 * place, "text": 0.95 + 0.05 * place}
        level = {view: LEVELS[view] * lift.get(view, 0.6 + 0.17 * place) for view in views}
        if name == "cold":
            level = {view: 0.0 if view in ("id", "neighbours") else 0.22 for view in views}
        groups.append(
            {
                "name": name,
                "count": count,
                "share": count / 907,
                "views": {view: metrics(level[view]) for view in views},
            }
        )
    phases: list[dict[str, Any]] = []
    for epoch, (trained, negatives, teacher) in enumerate(phase_list(epochs), start=1):
        entry = {"from": epoch, "to": epoch, "trained": trained, "negatives": negatives, "teacher": teacher}
        if phases and {**phases[-1], "from": 0, "to": 0} == {**entry, "from": 0, "to": 0}:
            phases[-1]["to"] = epoch
        else:
            phases.append(entry)
    return {
        "schema": 3,
        "model": model,
        "presets": ["best"],
        "seed": seed,
        "data": {
            "name": "online retail",
            "fingerprint": "5f2c",
            "items": 3204,
            "cold_items": 41,
            "train_sessions": 16120,
            "valid_sessions": 911,
            "test_sessions": 907,
            "seen": "excluded",
            "seen_rule": "auto",
            "repeat_share": 0.0012,
            "targets": "last",
        },
        "best_epoch": None,
        "epochs": epochs,
        "stopped": "patience",
        "valid": {view: metrics(LEVELS[view] + 0.01) for view in views},
        "test": test,
        "targets": {
            "valid": {"count": 911, "cold": 9, "repeated": 18, "tied_share": dict.fromkeys(views, 0.0)},
            "test": {
                "count": 907,
                "cold": 12,
                "repeated": 21,
                "tied_share": {view: 0.031 if view == "text" else 0.0 for view in views},
            },
        },
        "groups": {"test": groups},
        "fusion": {"alpha": 0.55, "neighbours": 0.3},
        "baselines": {
            name: {"valid": metrics(level), "test": metrics(level)}
            for name, level in (("popularity", 0.061), ("itemknn", 0.345), ("vsknn", 0.371))
        },
        "errors": {
            name: dict.fromkeys(METRICS, 0.016) for name in (*views, "popularity", "itemknn", "vsknn")
        },
        "comparisons": [
            comparison(model, view, metric, mean)
            for view, mean in (("score", 0.017), ("fused", -0.056))
            if view in views
            for metric in ("hits@20", "ndcg@20")
        ],
        "examples_drawn": True,
        "phases": phases,
        "seconds": 133.4,
        "seconds_by_part": {"data": 4.1, "train": 104.0, "evaluate": 25.3},
        "peak_memory_bytes": 1_340_000_000,
        "warnings": ["fused validation fell below its start in epoch 6"],
        "versions": {"alterrec": "0.1.0", "torch": "2.9.0"},
    }


def write_run(
    folder: Path,
    seed: int = 0,
    epochs: int = 12,
    views: tuple[str, ...] = tuple(LEVELS),
    model: str = "alterrec",
    **changes: Any,
) -> Path:
    """Write a run folder; `changes` replace keys of `result.json`."""
    random = np.random.default_rng(seed)
    folder.mkdir(parents=True)
    written = result(seed, epochs, views, model) | changes
    own = {"id": 0, "text": 0}
    lines: list[dict[str, Any]] = []
    for epoch, (trained, negatives, _) in enumerate(phase_list(epochs), start=1):
        own[trained] += 1
        both = sum(own.values()) / 2
        ages = own | {"score": both, "fused": both, "neighbours": 9}
        lines.append(
            {
                "epoch": epoch,
                "phase": f"{'warm-up' if negatives == 'full' else 'turn'} {trained}",
                "trained": trained,
                "negatives": negatives,
                "loss": 7 / (1 + 0.2 * epoch),
                "samples": 65000,
                "seconds": 8.1,
                "seconds_eval": 0.9,
                "valid": {view: learned(LEVELS[view], ages[view], random) for view in views},
            }
        )
    if lines:
        best = max(lines, key=lambda line: line["valid"]["score"]["ndcg@20"])
        written = written | {"best_epoch": best["epoch"], "valid": best["valid"]} | changes
    if written["schema"] > 2:
        seen = written["data"]["seen"]
        by_seen = {split: seen_views(written[split], seen) for split in ("valid", "test") if written[split]}
        baselines = {
            name: {
                split: {rule: views["score"] for rule, views in seen_views({"score": each}, seen).items()}
                for split, each in splits.items()
            }
            for name, splits in written["baselines"].items()
        }
        written = {"by_seen": by_seen, "baselines_by_seen": baselines} | written
    (folder / "result.json").write_text(json.dumps(written), "utf-8")
    (folder / "curves.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines), "utf-8")
    cards = [example(random, views, length, rank) for length, rank in ((2, 1), (5, 4), (11, 14), (3, 240))]
    (folder / "examples.json").write_text(json.dumps(cards), "utf-8")
    (folder / "recipe.toml").write_text(
        f'model_name = "{model}"\n\n[run]\nseed = {seed}\n\n[window]\nlast = 0.1\n', "utf-8"
    )
    return folder

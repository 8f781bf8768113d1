"""What a run's numbers say in plain words, and what to distrust about them."""

from __future__ import annotations

import math
from collections.abc import Mapping

from alterrec.metrics import metric_name
from alterrec.report.tables import BASELINE_NAMES, VIEW_NAMES, count, percent, points
from alterrec.results import Metrics, RunResult, TargetCounts, reported_split

FIRST_ITEMS = 20
HEADLINE = f"hits@{FIRST_ITEMS}"
TIED_SHARE_WORTH_SAYING = 0.01


def split_name(result: RunResult) -> str:
    """That split as it is written in print."""
    return "test" if reported_split(result) == "test" else "validation"


def views_of(result: RunResult) -> Mapping[str, Metrics]:
    """View -> metrics on the split shown, in the order and choice of `result.views`."""
    values = result.test if reported_split(result) == "test" else result.valid
    return {view: values[view] for view in result.views if view in values}


def baselines_of(result: RunResult) -> Mapping[str, Metrics]:
    """Baseline by its printed name -> metrics on the split shown."""
    split = reported_split(result)
    return {
        BASELINE_NAMES.get(name, name): splits[split]
        for name, splits in result.baselines.items()
        if split in splits
    }


def best_baseline(result: RunResult, metric: str = HEADLINE) -> tuple[str, float] | None:
    """Name and value of the strongest baseline, or None where the run has none."""
    known = [(name, values[metric]) for name, values in baselines_of(result).items() if metric in values]
    return max(known, key=lambda pair: pair[1], default=None)


def opening(result: RunResult) -> list[str]:
    """What ran, how well, and how the sum compares with its parts: one sentence an entry."""
    data = result.data
    preset = f" (preset {', '.join(result.presets)})" if result.presets else ""
    sentences = [
        f"{result.model}{preset} learned from {count(data.train_sessions)} sessions over "
        f"{count(data.items)} items of {data.name}{_epochs(result)}."
    ]
    views = views_of(result)
    score = views.get("score", {}).get(HEADLINE)
    if score is None:
        return sentences
    targets = result.targets.get(reported_split(result))
    asked = f"{count(targets.count)} {split_name(result)} targets" if targets else split_name(result)
    ndcg = views["score"].get("ndcg@20")
    sentences.append(
        f"On {asked}, the right item is among the first {FIRST_ITEMS} of {count(data.items)} in "
        f"{percent(score)} of cases ({metric_name(HEADLINE)})"
        + (f"; NDCG@20, which also rewards a higher place, is {percent(ndcg)}." if ndcg is not None else ".")
    )
    return [*sentences, *_parts(views), *_against_baseline(result, score)]


def _epochs(result: RunResult) -> str:
    if not result.epochs:
        return ""
    kept = f"; epoch {result.best_epoch} did best on validation and was kept" if result.best_epoch else ""
    return f" in {result.epochs} epoch{'s' if result.epochs > 1 else ''}{kept}"


def _parts(views: Mapping[str, Metrics]) -> list[str]:
    whole = "fused" if HEADLINE in views.get("fused", {}) else "score"
    parts = [view for view in ("id", "text") if HEADLINE in views.get(view, {})]
    if len(parts) < 2:
        return []
    value = views[whole][HEADLINE]
    compared = " and ".join(
        f"{_apart(value - views[view][HEADLINE])} {_alone(view, views)}" for view in parts
    )
    sentences = [f"ID and text together reach {percent(value)}: {compared}."]
    if whole == "fused" and "neighbours" in views:
        gain = points(views["score"][HEADLINE] - value)
        sentences.append(f"Item neighbours as the third member of the sum change that by {gain} points.")
    return sentences


def _apart(difference: float) -> str:
    size = points(abs(difference)).lstrip("+")
    return "level with" if size == "0.0" else f"{size} points {'above' if difference > 0 else 'below'}"


def _alone(view: str, views: Mapping[str, Metrics]) -> str:
    return f"{VIEW_NAMES.get(view, view)} ({percent(views[view][HEADLINE])})"


def _against_baseline(result: RunResult, score: float) -> list[str]:
    rival = best_baseline(result)
    if rival is None:
        return []
    name, value = rival
    return [
        f"The final score is {_apart(score - value)} the best simple baseline, {name} ({percent(value)})."
    ]


def caveats(result: RunResult, *, seeds: int = 1) -> list[str]:
    """What to keep in mind before believing the numbers: one sentence an entry.

    Args:
        result: the run's result.
        seeds: how many runs of this recipe, this one included, are known.
    """
    targets = result.targets.get(reported_split(result))
    one_seed = ["This is one seed; how much another seed would move the numbers is not shown."]
    return [
        *_unfinished(result),
        *_lost_to(result),
        *(_of_targets(result, targets) if targets and targets.count else []),
        *(one_seed if seeds == 1 and result.epochs else []),
    ]


def _unfinished(result: RunResult) -> list[str]:
    found = []
    if result.stopped == "interrupted":
        found.append(
            f"Training was interrupted after epoch {result.epochs}; the numbers are of the best until then."
        )
    elif result.stopped == "finished" and 1 < result.epochs == result.best_epoch:
        found.append("The best epoch is the last one: more epochs may still help.")
    if reported_split(result) != "test":
        found.append("There are no test numbers; those of validation chose the epoch, which flatters them.")
    return found


def _lost_to(result: RunResult) -> list[str]:
    views = views_of(result)
    score = views.get("score", {}).get(HEADLINE)
    if score is None:
        return []
    found = [
        f"The final score ({percent(score)}) is below {_alone(view, views)}: the sum lost something."
        for view, values in views.items()
        if values.get(HEADLINE, 0.0) > score
    ]
    rival = best_baseline(result)
    if rival and rival[1] > score:
        found.append(f"{rival[0]} ({percent(rival[1])}), which trains no network, beats the model.")
    return found


def _of_targets(result: RunResult, targets: TargetCounts) -> list[str]:
    views = views_of(result)
    found = []
    score = views.get("score", {}).get(HEADLINE)
    if score is not None:
        error = math.sqrt(score * (1 - score) / targets.count)
        found.append(
            f"With {count(targets.count)} targets, {metric_name(HEADLINE)} is known to about "
            f"±{100 * error:.1f} points (one standard error). "
            "ranks.parquet has every target, to test two runs against each other."
        )
    if targets.cold:
        share = percent(targets.cold / targets.count)
        found.append(
            f"{count(targets.cold)} targets ({share}) never occur in training: "
            + ("only their text can find them." if "text" in views else "luck alone can find them.")
        )
    tied = [
        f"{percent(share)} by {VIEW_NAMES.get(view, view)}"
        for view, share in targets.tied_share.items()
        if view in views and share >= TIED_SHARE_WORTH_SAYING
    ]
    if tied:
        found.append(
            f"Targets that tie exactly with other items: {', '.join(tied)}. "
            "Their metrics are averages over the orders of the tie."
        )
    return found

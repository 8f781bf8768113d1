"""What a run's numbers say in plain words, and what to distrust about them."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path

from alterrec.report.run_folder import Metrics, Result
from alterrec.report.tables import (
    BASELINE_NAMES,
    VIEW_NAMES,
    count,
    metric_name,
    percent,
    points,
)

HEADLINE = "hits@20"
TIED_SHARE_WORTH_SAYING = 0.01


def split_shown(result: Result) -> str:
    """The split the page speaks of: `test`, or `valid` where the run has no test numbers."""
    return "test" if result.test.get("score") else "valid"


def split_name(result: Result) -> str:
    """That split as it is written in print."""
    return "test" if split_shown(result) == "test" else "validation"


def views_of(result: Result) -> Mapping[str, Metrics]:
    """View -> metrics on the split shown, in the order and choice of `result.views`."""
    values: Mapping[str, Metrics] = getattr(result, split_shown(result))
    return {view: values[view] for view in result.views if view in values}


def baselines_of(result: Result) -> Mapping[str, Metrics]:
    """Baseline by its printed name -> metrics on the split shown."""
    split = split_shown(result)
    return {
        BASELINE_NAMES.get(name, name): splits[split]
        for name, splits in result.baselines.items()
        if split in splits
    }


def best_baseline(result: Result, metric: str = HEADLINE) -> tuple[str, float] | None:
    """Name and value of the strongest baseline, or None where the run has none."""
    known = {name: values[metric] for name, values in baselines_of(result).items() if metric in values}
    return max(known.items(), key=lambda pair: pair[1]) if known else None


def opening(result: Result) -> list[str]:
    """What ran, how well, and how the sum compares with its parts: one sentence an entry."""
    data = result.data
    preset = f" (preset {', '.join(result.presets)})" if result.presets else ""
    sentences = [
        f"{result.model}{preset} learned from {count(data.train_sessions)} sessions over {count(data.items)} items "
        f"of {data.name}{_epochs(result)}."
    ]
    views = views_of(result)
    score = views.get("score", {}).get(HEADLINE)
    if score is None:
        return sentences
    targets = result.targets.get(split_shown(result))
    asked = (
        f"{count(targets.count)} {split_name(result)} targets"
        if targets
        else f"the {split_name(result)} targets"
    )
    ndcg = views["score"].get("ndcg@20")
    sentences.append(
        f"Asked for the next item of {asked}, it has the right one among its first 20 of all {count(data.items)} "
        f"in {percent(score)} of cases ({metric_name(HEADLINE)}"
        + (f"; NDCG@20, which rewards higher places, is {percent(ndcg)})." if ndcg is not None else ").")
    )
    return [*sentences, *_parts(views), *_against_baseline(result, score)]


def _epochs(result: Result) -> str:
    if not result.epochs:
        return ""
    kept = f"; epoch {result.best_epoch} was the best on validation and is kept" if result.best_epoch else ""
    return f" in {result.epochs} epoch{'s' if result.epochs > 1 else ''}{kept}"


def _parts(views: Mapping[str, Metrics]) -> list[str]:
    whole = "fused" if "fused" in views else "score"
    parts = [view for view in ("id", "text") if HEADLINE in views.get(view, {})]
    if len(parts) < 2:
        return []
    value = views[whole][HEADLINE]
    compared = " and ".join(
        f"{_apart(value - views[view][HEADLINE])} {_alone(view, views)}" for view in parts
    )
    sentences = [f"ID and text together reach {percent(value)}: {compared}."]
    if whole == "fused" and "neighbours" in views:
        change = views["score"][HEADLINE] - value
        sentences.append(f"Adding the item neighbours to the sum changes that by {points(change)} points.")
    return sentences


def _apart(difference: float) -> str:
    if points(difference) == "0.0":
        return "level with"
    return f"{points(abs(difference)).lstrip('+')} points {'above' if difference > 0 else 'below'}"


def _alone(view: str, views: Mapping[str, Metrics]) -> str:
    return f"{VIEW_NAMES[view]} ({percent(views[view][HEADLINE])})"


def _against_baseline(result: Result, score: float) -> list[str]:
    rival = best_baseline(result)
    if rival is None:
        return []
    name, value = rival
    return [
        f"The strongest simple baseline, {name}, reaches {percent(value)}: the model is {_apart(score - value)} it."
    ]


def doubts(result: Result, *, seeds: int = 1) -> list[str]:
    """What to keep in mind before believing the numbers: one sentence an entry.

    seeds: how many runs of this recipe, this one included, stand beside each other on the page.
    """
    split = split_shown(result)
    views = views_of(result)
    targets = result.targets.get(split)
    score = views.get("score", {}).get(HEADLINE)
    found = []
    if result.stopped == "interrupted":
        found.append(
            f"Training was interrupted after {result.epochs} of its epochs; the numbers are those of the best until then."
        )
    elif 1 < result.epochs == result.best_epoch and result.stopped == "finished":
        found.append("The best epoch is the last one: more epochs may still help.")
    if split != "test":
        found.append(
            "There are no test numbers; those of validation chose the epoch and are therefore flattering."
        )
    found += _lost_to(result, views)
    if targets and targets.count and score is not None:
        error = math.sqrt(score * (1 - score) / targets.count)
        found.append(
            f"With {count(targets.count)} targets, {metric_name(HEADLINE)} is known to about "
            f"±{100 * error:.1f} points (one standard error); `alterrec compare` tests two runs target by target."
        )
    if seeds == 1:
        found.append("This is one seed; how much another seed would move the numbers is not shown.")
    if targets and targets.cold:
        found.append(
            f"{count(targets.cold)} of the targets ({percent(targets.cold / targets.count)}) never occur in training: "
            "only their text can find them, and the group 'cold' shows how well."
        )
    tied = {view: share for view, share in (targets.tied_share if targets else {}).items() if view in views}
    found += [
        f"{percent(share)} of the targets have exactly the same {VIEW_NAMES.get(view, view)} as other items; their "
        "metrics are averages over the orders of such ties."
        for view, share in tied.items()
        if share >= TIED_SHARE_WORTH_SAYING
    ]
    return found


def _lost_to(result: Result, views: Mapping[str, Metrics]) -> list[str]:
    found = []
    score = views.get("score", {}).get(HEADLINE)
    if score is None:
        return []
    better = [view for view, values in views.items() if view != "score" and values.get(HEADLINE, 0.0) > score]
    found += [
        f"{_alone(view, views)} beats the final score ({percent(score)}): the sum lost something."
        for view in better
    ]
    rival = best_baseline(result)
    if rival and rival[1] > score:
        found.append(
            f"{rival[0]} ({percent(rival[1])}), which learns nothing, beats the model ({percent(score)})."
        )
    return found


def folder_name(path: Path) -> str:
    """The last part of a run folder's path, also of `.`."""
    return path.resolve().name

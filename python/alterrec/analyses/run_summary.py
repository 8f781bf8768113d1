"""Findings and caveats of a run as sentences."""

from __future__ import annotations

import math
from collections.abc import Mapping

from alterrec.comparable import counts_excluded_as_found
from alterrec.errors import number_of
from alterrec.evaluation.comparisons import Comparison
from alterrec.metrics import metric_name
from alterrec.report.seen_items import ByRule, cost_sentence, repeated_sentence, rows_by_view
from alterrec.report.tables import BASELINE_NAMES, HEADLINE, VIEW_NAMES, count, listed, percent, points
from alterrec.results import Metrics, RunResult, TargetCounts, reported_split

EXCLUDED_AS_FOUND = (
    "{} made by an earlier version, which left the session's own items out of the ranking but still counted "
    "targets that repeat one of them as found. If targets repeat, the metrics are too high; repeat the run."
)
# Smaller shares of tied targets are not mentioned.
MINIMUM_TIED_SHARE = 0.01


def headline(result: RunResult) -> str:
    """Return the metric that the sentences are about: Hits@20, or the first reported metric."""
    return HEADLINE if HEADLINE in result.metrics or not result.metrics else result.metrics[0]


def split_name(result: RunResult) -> str:
    """Return the name of the reported split, `test` or `validation`."""
    return "test" if reported_split(result) == "test" else "validation"


def views_of(result: RunResult) -> Mapping[str, Metrics]:
    """Return view -> metrics on the reported split, for `result.views` in their order."""
    values = result.test if reported_split(result) == "test" else result.valid
    return {view: values[view] for view in result.views if view in values}


def baselines_of(result: RunResult) -> Mapping[str, Metrics]:
    """Return printed name of a baseline -> metrics on the reported split."""
    split = reported_split(result)
    return {
        BASELINE_NAMES.get(name, name): splits[split]
        for name, splits in result.baselines.items()
        if split in splits
    }


def seen_rows(result: RunResult) -> dict[str, list[ByRule]]:
    """Return printed name of a view or baseline -> its metrics by rule for the session's own items.

    They are those of the reported split; empty for a run of an earlier version.
    """
    split = reported_split(result)
    rows = rows_by_view(result.by_seen.get(split, {}), result.views)
    return rows | {
        BASELINE_NAMES.get(name, name): [splits[split]]
        for name, splits in result.baselines_by_seen.items()
        if split in splits
    }


def best_baseline(result: RunResult) -> tuple[str, float] | None:
    """Return name and value of the best baseline, or None if the run has no baselines."""
    metric = headline(result)
    known = [(name, values[metric]) for name, values in baselines_of(result).items() if metric in values]
    return max(known, key=lambda pair: pair[1], default=None)


def findings(result: RunResult) -> list[str]:
    """Return what was trained, how good it is, and how it compares with simple baselines, as sentences."""
    data = result.data
    preset = f" (preset {', '.join(result.presets)})" if result.presets else ""
    size = f"{count(data.train_sessions)} sessions, {count(data.items)} items"
    sentences = [
        f"The rankings of {result.model} on {data.name} ({size}) were imported from {result.imported_from}."
        if result.imported_from
        else f"{result.model}{preset} was {'trained' if result.epochs else 'fitted'} on {data.name} ({size})"
        f"{_epochs(result)}."
    ]
    views, metric = views_of(result), headline(result)
    score = views.get("score", {}).get(metric)
    if score is None:
        return sentences
    targets = result.targets.get(reported_split(result))
    scope = f"{count(targets.count)} {split_name(result)} targets" if targets else split_name(result)
    kind, _, cutoff = metric.partition("@")
    meaning = (
        f": in that share of cases the right item is among the first {cutoff} of {count(data.items)} items"
    )
    ndcg = views["score"].get("ndcg@20")
    sentences.append(
        f"On {scope}, {metric_name(metric)} is {percent(score)}{meaning if kind == 'hits' else ''}."
        + (f" NDCG@20, which also rewards a higher rank, is {percent(ndcg)}." if ndcg is not None else "")
    )
    return [*sentences, *against_baselines(result)]


def against_baselines(result: RunResult) -> list[str]:
    """Return how the final score, and the networks without further parts, compare with simple baselines."""
    if not result.comparisons:
        best = best_baseline(result)
        if best is None:
            return []
        relation = _relation(views_of(result)["score"][headline(result)] - best[1])
        return [
            f"The final score is {relation} the best simple baseline, {best[0]} ({percent(best[1])}); this "
            "run has no test whether that is more than chance."
        ]
    lines = []
    for view, name in (("score", "The final score"), ("fused", f"ID + text without {_further(result)}")):
        found: dict[str, list[str]] = {}
        for each in result.comparisons:
            if each.view == view:
                found.setdefault(_verdict(each), []).append(_difference(each))
        if found:
            ends = [f"{verdict} in {listed(differences)}" for verdict, differences in found.items()]
            lines.append(f"{name} is {listed(ends)}.")
    return lines


def _verdict(each: Comparison) -> str:
    """Return the verdict about one comparison with the best baseline of a metric as words."""
    words = {"above": "above", "below": "below", "not shown": "not shown to differ from"}
    word = (
        "not shown to be better than"
        if each.verdict == "not shown" and each.mean > 0
        else words[each.verdict]
    )
    return f"{word} the best simple baseline, {BASELINE_NAMES.get(each.baseline, each.baseline)},"


def _difference(each: Comparison) -> str:
    low, high = points(each.low), points(each.high)
    return f"{metric_name(each.metric)} ({points(each.mean)} points, 95% interval {low} to {high})"


def _further(result: RunResult) -> str:
    """Return the names of the parts of the sum besides ID and text."""
    names = {"neighbours": "item neighbours", "trend": "the trend of popularity"}
    return listed([name for view, name in names.items() if view in result.views]) or "further parts"


def parts_sentences(result: RunResult) -> list[str]:
    """Return how ID and text combined compare with each of them, and what further parts add."""
    views, metric = views_of(result), headline(result)
    return _parts(views, metric) if metric in views.get("score", {}) else []


def own_items_cost(result: RunResult) -> str:
    """Return what the session's own items cost the final score, as a sentence; empty if it is not known."""
    (by_rule,) = seen_rows(result).get(VIEW_NAMES["score"], [{}])
    return cost_sentence(by_rule, "ndcg@20" if "ndcg@20" in result.metrics else headline(result))


def repeated_targets(result: RunResult) -> str:
    """Return how many targets of the reported split repeat an item of their session, as a sentence."""
    targets = result.targets.get(reported_split(result))
    return repeated_sentence(targets.repeated, targets.count, split_name(result)) if targets else ""


def _epochs(result: RunResult) -> str:
    if not result.epochs:
        return ""
    kept = f"; epoch {result.best_epoch} was best on validation and is used" if result.best_epoch else ""
    return f" for {number_of(result.epochs, 'epoch')}{kept}"


def _parts(views: Mapping[str, Metrics], metric: str) -> list[str]:
    whole = "fused" if metric in views.get("fused", {}) else "score"
    parts = [view for view in ("id", "text") if metric in views.get(view, {})]
    if len(parts) < 2:
        return []
    value = views[whole][metric]
    compared = " and ".join(
        f"{_relation(value - views[view][metric])} {_alone(view, views[view][metric])}" for view in parts
    )
    sentences = [f"ID and text combined reach {percent(value)}: {compared}."]
    names = {"neighbours": "item neighbours", "trend": "the trend of popularity"}
    further = [name for view, name in names.items() if view in views]
    if whole == "fused" and further:
        gain = points(views["score"][metric] - value)
        sentences.append(f"Adding {listed(further)} to the sum changes this by {gain} points.")
    return sentences


def _relation(difference: float) -> str:
    size = points(abs(difference)).lstrip("+")
    return "equal to" if size == "0.0" else f"{size} points {'above' if difference > 0 else 'below'}"


def _alone(view: str, value: float) -> str:
    return f"{VIEW_NAMES.get(view, view)} ({percent(value)})"


def caveats(result: RunResult, *, seeds: int = 1) -> list[str]:
    """Return what to consider before relying on the metrics, as sentences.

    Args:
        result: result of the run.
        seeds: number of known runs of this recipe, including this one.
    """
    targets = result.targets.get(reported_split(result))
    one_seed = ["The recipe was run with one seed, so the variation between seeds is not known."]
    return [
        *_changed(result),
        *_unfinished(result),
        *_exceeded_by(result),
        *([EXCLUDED_AS_FOUND.format("The run was")] if counts_excluded_as_found(result) else []),
        *(_target_caveats(result, targets) if targets and targets.count else []),
        *(one_seed if seeds == 1 and result.epochs else []),
    ]


def _changed(result: RunResult) -> list[str]:
    """Say that the catalogue has changed since the metrics were computed."""
    changes = [
        f"{count(change.items)} {'item was' if change.items == 1 else 'items were'} {change.action}"
        for change in result.catalogue_changes
    ]
    return [f"After training, {listed(changes)}. All metrics are those before."] if changes else []


def _unfinished(result: RunResult) -> list[str]:
    found = []
    if result.stopped == "interrupted":
        found.append(
            f"Training was interrupted after epoch {result.epochs}; "
            "the metrics are those of the best epoch so far."
        )
    elif result.stopped == "finished" and 1 < result.epochs == result.best_epoch:
        found.append("The best epoch is the last one, so more epochs may improve the result.")
    if reported_split(result) != "test":
        found.append(
            "There are no test metrics. The validation metrics also chose the epoch, so they are optimistic."
        )
    return found


def _exceeded_by(result: RunResult) -> list[str]:
    views, metric = views_of(result), headline(result)
    score = views.get("score", {}).get(metric)
    if score is None:
        return []
    found = [
        f"The final score ({percent(score)}) is below {_alone(view, values[metric])}: "
        "combining the parts hurts."
        for view, values in views.items()
        if values.get(metric, 0.0) > score
    ]
    best = best_baseline(result)
    if best and best[1] > score:
        found.append(f"{best[0]} ({percent(best[1])}), a baseline without a neural network, is higher.")
    if result.comparisons:
        found.append(
            "The baseline with the best test mean of each metric is compared, which favours the baselines. "
            "Tests cover the choice of sessions, not that of training seeds."
        )
    return found


def _target_caveats(result: RunResult, targets: TargetCounts) -> list[str]:
    views, metric = views_of(result), headline(result)
    found = []
    score = views.get("score", {}).get(metric)
    if score is not None and metric.startswith("hits"):
        error = math.sqrt(score * (1 - score) / targets.count)
        found.append(
            f"With {count(targets.count)} targets, the standard error of {metric_name(metric)} is about "
            f"{100 * error:.1f} points. To test the difference between two runs, use alterrec compare."
        )
    if targets.cold:
        share = percent(targets.cold / targets.count)
        found.append(
            f"{count(targets.cold)} targets ({share}) never occur in training. This model finds them only by "
            + ("their text." if "text" in views else "chance.")
        )
    tied = [
        f"{percent(share)} with {VIEW_NAMES.get(view, view)}"
        for view, share in targets.tied_share.items()
        if view in views and share >= MINIMUM_TIED_SHARE
    ]
    if tied:
        found.append(
            f"Some targets have exactly the same score as another item ({', '.join(tied)}). "
            "Their metrics are averages over all orders of the tied items."
        )
    return found

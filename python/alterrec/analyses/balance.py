"""Given finished runs, decide whether the ID or the text part dominates training.

Legend: N targets.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from alterrec.analyses.balance_page import PARTS, Balance, Overlap
from alterrec.analyses.run_summary import EXCLUDED_AS_FOUND
from alterrec.comparable import (
    counts_excluded_as_found,
    folder_name,
    reason_not_comparable,
    recipe_without_seed,
)
from alterrec.errors import InputError, nearest
from alterrec.evaluation.saved import SavedRanks, read_ranks
from alterrec.metrics import common_metrics, metric_values
from alterrec.models.catalogue import MODELS
from alterrec.report.tables import listed
from alterrec.report.training_curves import Member, TrainingCurve
from alterrec.results import RunFolder, read_run

# part -> systems that are this part of a fusion trained alone
ALONE = {part: {each.parts[part] for each in MODELS.values() if part in each.parts} for part in PARTS}
FOUND_BY_METRIC = "hits@20"
NO_PART_LOSSES = (
    "These runs were trained by an earlier version, which saved no losses and gradients of the parts. The "
    "metric is the only indicator; train again for the others."
)


def balance(runs: Sequence[str | Path], *, metric: str = "ndcg@20", command: str = "") -> Balance:
    """Measure whether ID or text dominates in runs that fuse both; ``alterrec.balance`` is this function.

    Args:
        runs: paths of the folders of finished runs of one recipe, one per seed, whose score is a sum of the
            parts ``id`` and ``text``. In addition, runs of systems that are one part alone on the same data,
            such as ``id_only`` and ``text_only``: without them a weak part looks like a dominated one.
        metric: name of the metric that compares the parts. Default: ``ndcg@20``.
        command: the command that makes the analysis, shown on its page. Default: none.

    Returns:
        The indicators, and which part dominates, if any does.

    Raises:
        InputError: a folder is not such a run, or the runs cannot be compared.
    """
    read = [read_run(Path(run)) for run in runs]
    known = common_metrics(run.result.metrics for run in read)
    if metric not in known:
        raise InputError(f"--metric is {metric!r}; choose one of {', '.join(known)}{nearest(metric, known)}")
    fused = [run for run in read if _is_fused(run)]
    if not fused:
        given = ", ".join(f"{folder_name(run.path)} ({run.result.model})" for run in read)
        raise InputError(
            f"no run has the parts id and text: {given}; give runs of alterrec, of its variants with two "
            "networks, of independent or of nfrec_concat"
        )
    _check(fused, read)
    fused.sort(key=lambda run: run.result.seed)
    alone = {part: _alone(part, read) for part in PARTS}
    ranks = {run.result.seed: read_ranks(run.path) for run in fused}
    first = fused[0].result
    curves = [_curve(run) for run in fused]
    members = [Member("the whole", "score", "score", curves)]
    for part, name in PARTS.items():
        members.append(Member(f"{name} inside", part, part, curves))
        if alone[part]:
            members.append(
                Member(f"{name} only", part, "score", [_curve(run) for run in alone[part]], alone=True)
            )
    return Balance(
        model=first.model,
        data=first.data.name,
        items=first.data.items,
        targets=len(ranks[first.seed]),
        seen=first.data.seen,
        repeated=ranks[first.seed].repeated,
        metric=metric,
        members=members,
        found={seed: overlap(each) for seed, each in ranks.items() if len(each)},
        chooser={name: _by_view(name, ranks) for name in known},
        folder=fused[0].path / "balance",
        caveats=_caveats(fused, alone),
        command=command,
    )


def overlap(ranks: SavedRanks) -> Overlap:
    """Share of targets that both parts, one or neither ranks among the first 20, and how many the score does.

    Example:
        >>> import polars as pl
        >>> frame = pl.DataFrame({"greater_id": [0, 30], "greater_text": [0, 0], "greater_score": [0, 40]})
        >>> ranks = SavedRanks(frame.with_columns(tied_id=1, tied_text=1, tied_score=1))
        >>> overlap(ranks)
        Overlap(shares=(0.5, 0.0, 0.5, 0.0), kept=(1.0, None, 0.0, None))
    """
    id_N, text_N, score_N = (
        metric_values(*ranks.counts(view), FOUND_BY_METRIC) for view in ("id", "text", "score")
    )
    groups = (id_N * text_N, id_N * (1 - text_N), (1 - id_N) * text_N, (1 - id_N) * (1 - text_N))
    shares = tuple(float(weight_N.mean()) for weight_N in groups)
    kept = tuple(
        float((weight_N * score_N).sum() / weight_N.sum()) if weight_N.any() else None for weight_N in groups
    )
    return Overlap(shares, kept)


def _by_view(metric: str, ranks: Mapping[int, SavedRanks]) -> dict[str, dict[int, float]]:
    """Parts, score, and an oracle that takes the better part for each target; by seed."""
    found: dict[str, dict[int, float]] = {}
    for seed, each in ranks.items():
        if not len(each):
            continue
        values = {view: metric_values(*each.counts(view), metric) for view in ("id", "text", "score")}
        values["chooser"] = np.maximum(values["id"], values["text"])
        for view, values_N in values.items():
            found.setdefault(view, {})[seed] = float(values_N.mean())
    return found


def _is_fused(run: RunFolder) -> bool:
    return set(PARTS) <= set(run.result.views)


def _check(fused: Sequence[RunFolder], read: Sequence[RunFolder]) -> None:
    """Raise InputError if the runs cannot be analysed together."""
    first = fused[0]
    single = [run for run in read if not _is_fused(run)]
    known = sorted(model for models in ALONE.values() for model in models)
    for run in single:
        if run.result.model not in known:
            raise InputError(
                f"{folder_name(run.path)} is a run of {run.result.model}, neither a fusion of ID and text "
                f"nor one of them alone; to runs of {first.result.model} add only runs of {', '.join(known)}"
            )
    for run in read:
        reason = reason_not_comparable(first.result, run.result)
        if reason:
            raise InputError(
                f"{folder_name(run.path)} cannot be compared with {folder_name(first.path)}: {reason}; "
                "give finished runs on the same data with the same evaluation"
            )
    _check_one_recipe(fused, "the fusion")


def _check_one_recipe(runs: Sequence[RunFolder], what: str) -> None:
    """Raise InputError if runs are not the seeds of one recipe."""
    by_recipe = {recipe_without_seed(run): run for run in runs}
    if len(by_recipe) > 1:
        given = ", ".join(f"{folder_name(run.path)} ({run.result.model})" for run in by_recipe.values())
        raise InputError(f"{what} has several recipes: {given}; give runs of one recipe, one per seed")
    seeds = [run.result.seed for run in runs]
    twice = [seed for seed in seeds if seeds.count(seed) > 1]
    if twice:
        raise InputError(f"{what} has seed {twice[0]} more than once; give one run per seed")


def _alone(part: str, read: Sequence[RunFolder]) -> list[RunFolder]:
    own = [run for run in read if not _is_fused(run) and run.result.model in ALONE[part]]
    _check_one_recipe(own, f"{PARTS[part]} alone")
    return sorted(own, key=lambda run: run.result.seed)


def _curve(run: RunFolder) -> TrainingCurve:
    return TrainingCurve(run.result.seed, run.result.best_epoch, run.epochs, run.result.test)


def _caveats(fused: Sequence[RunFolder], alone: Mapping[str, Sequence[RunFolder]]) -> list[str]:
    found = []
    if any(counts_excluded_as_found(run.result) for run in fused):
        found.append(EXCLUDED_AS_FOUND.format("Some runs were"))
    if len(fused) == 1:
        found.append("There is only one seed, so the variation over seeds is unknown.")
    if not all(epoch.parts for run in fused for epoch in run.epochs):
        found.append(NO_PART_LOSSES)
    missing = [part for part, runs in alone.items() if not runs]
    if missing:
        entry = MODELS.get(fused[0].result.model)
        systems = [entry.parts[part] for part in missing if entry and part in entry.parts]
        example = f" (for example {listed(systems)} on the same data)" if systems else ""
        found.append(
            f"No run of {listed([f'{PARTS[part]} alone' for part in missing])} was given{example}, so a part "
            "that is weak by itself cannot be told from a suppressed one."
        )
    for runs in alone.values():
        different = _different_keys(fused[0], runs[0]) if runs else []
        if different:
            found.append(f"{runs[0].result.model} was trained with other settings: {listed(different)}.")
    return found


def _different_keys(ours: RunFolder, theirs: RunFolder) -> list[str]:
    """Recipe keys of data, model size and optimiser in which two runs differ."""
    first, second = ours.settings, theirs.settings
    return [
        f"{table}.{key}"
        for table in ("data", "model", "optim")
        for key, value in first.get(table, {}).items()
        if second.get(table, {}).get(key, value) != value
    ]

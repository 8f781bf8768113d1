"""Runs in, out comes who drowns whom: whole and parts by epoch, and what each part finds on test.

Legend: N targets.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from alterrec.analyses.balance_page import balance_page
from alterrec.analyses.balance_report import PARTS, BalanceFacts, Found
from alterrec.comparable import folder_name, reason_not_comparable, recipe_without_seed
from alterrec.errors import InputError, nearest
from alterrec.evaluation.saved import SavedRanks, read_ranks
from alterrec.metrics import metric_values
from alterrec.report.presentation import Presentation, Presented
from alterrec.report.tables import METRIC_NAMES, listed
from alterrec.report.training_curves import Member, TrainingCurve
from alterrec.results import RunFolder, read_run

# Systems that are one part of a fusion, trained by itself.
ALONE = {
    "id": ("id_only", "alterrec_wo_text", "unisrec_id", "fdsa_id"),
    "text": ("text_only", "alterrec_wo_id", "unisrec_text", "fdsa_text"),
}
FOUND = "hits@20"
OLD = (
    "The curves have no losses and gradients of parts, for an earlier version trained these runs. Their "
    "metric is the only sign; train again to have the others."
)


@dataclass(frozen=True)
class Balance(Presented):
    """Who drowns whom. It prints as tables, draws itself and shows itself in a notebook.

    Attributes:
        facts: all that is known, and ``facts.verdict()``.
        folder: where the command line writes its page, in the first run's folder.
    """

    facts: BalanceFacts
    folder: Path

    def presentation(self) -> Presentation:
        """Verdict and signs, curves, what each part finds, and a perfect chooser."""
        return balance_page(self.facts)


def balance(runs: Sequence[str | Path], *, metric: str = "ndcg@20", command: str = "") -> Balance:
    """What runs that fuse ID and text say of their parts; ``alterrec.balance`` is this function.

    Args:
        runs: folders of finished runs of one recipe, a seed each, whose score is a sum of the parts ``id``
            and ``text``; and, to tell a drowned part from a weak one, of systems that are one part alone
            on the same data, as ``id_only`` and ``text_only``.
        metric: by which parts are compared.
        command: what re-makes it, to be written down.

    Raises:
        InputError: a folder is not such a run, or runs do not go together.
    """
    if metric not in METRIC_NAMES:
        raise InputError(
            f"--metric is {metric!r}; allowed: {', '.join(METRIC_NAMES)}{nearest(metric, METRIC_NAMES)}"
        )
    read = [read_run(Path(run)) for run in runs]
    fused = [run for run in read if _is_fused(run)]
    if not fused:
        shown = ", ".join(f"{folder_name(run.path)} ({run.result.model})" for run in read)
        raise InputError(
            f"no run has the parts id and text: {shown}; allowed: runs of AlterRec, its variants with both "
            "networks, independent or nfrec_concat"
        )
    _check(fused, read)
    fused.sort(key=lambda run: run.result.seed)
    alone = {part: _alone(part, read) for part in PARTS}
    ranks = {run.result.seed: read_ranks(run.path) for run in fused}
    first = fused[0].result
    curves = [_course(run) for run in fused]
    members = [Member("the whole", "score", "score", curves)]
    for part, name in PARTS.items():
        members.append(Member(f"{name} inside", part, part, curves))
        if alone[part]:
            members.append(
                Member(f"{name} only", part, "score", [_course(run) for run in alone[part]], alone=True)
            )
    facts = BalanceFacts(
        model=first.model,
        data=first.data.name,
        items=first.data.items,
        targets=len(ranks[first.seed]),
        metric=metric,
        members=members,
        found={seed: found_by(each) for seed, each in ranks.items() if len(each)},
        chooser={name: _by_view(name, ranks) for name in METRIC_NAMES},
        caveats=_caveats(fused, alone),
        command=command,
    )
    return Balance(facts, fused[0].path / "balance")


def found_by(ranks: SavedRanks) -> Found:
    """Targets that both parts, one or neither rank among the first 20, and how many of them the score does.

    Example:
        >>> import polars as pl
        >>> frame = pl.DataFrame({"greater_id": [0, 30], "greater_text": [0, 0], "greater_score": [0, 40]})
        >>> ranks = SavedRanks(frame.with_columns(tied_id=1, tied_text=1, tied_score=1))
        >>> found_by(ranks)
        Found(shares=(0.5, 0.0, 0.5, 0.0), kept=(1.0, None, 0.0, None))
    """
    id_N, text_N, score_N = (metric_values(*ranks.counts(view), FOUND) for view in ("id", "text", "score"))
    groups = (id_N * text_N, id_N * (1 - text_N), (1 - id_N) * text_N, (1 - id_N) * (1 - text_N))
    shares = tuple(float(weight_N.mean()) for weight_N in groups)
    kept = tuple(
        float((weight_N * score_N).sum() / weight_N.sum()) if weight_N.any() else None for weight_N in groups
    )
    return Found(shares, kept)


def _by_view(metric: str, ranks: Mapping[int, SavedRanks]) -> dict[str, dict[int, float]]:
    """Parts, score, and a chooser that takes the better part of each target; by seed."""
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
    """InputError where runs do not go together."""
    first = fused[0]
    single = [run for run in read if not _is_fused(run)]
    known = sorted(model for models in ALONE.values() for model in models)
    for run in single:
        if run.result.model not in known:
            raise InputError(
                f"{folder_name(run.path)} is of {run.result.model}, neither a fusion of ID and text nor one "
                f"of them alone; allowed beside {first.result.model}: {', '.join(known)}"
            )
    for run in read:
        reason = reason_not_comparable(first.result, run.result)
        if reason:
            raise InputError(
                f"{folder_name(run.path)} does not compare with {folder_name(first.path)}: {reason}; "
                "allowed: finished runs on the same data by the same rules"
            )
    _check_one_recipe(fused, "the fusion")


def _check_one_recipe(runs: Sequence[RunFolder], what: str) -> None:
    """InputError where runs are not the seeds of one recipe."""
    by_recipe = {recipe_without_seed(run): run for run in runs}
    if len(by_recipe) > 1:
        shown = ", ".join(f"{folder_name(run.path)} ({run.result.model})" for run in by_recipe.values())
        raise InputError(f"{what} has several recipes: {shown}; allowed: one recipe, a run a seed")
    seeds = [run.result.seed for run in runs]
    twice = [seed for seed in seeds if seeds.count(seed) > 1]
    if twice:
        raise InputError(f"{what} has seed {twice[0]} more than once; allowed: one recipe, a run a seed")


def _alone(part: str, read: Sequence[RunFolder]) -> list[RunFolder]:
    own = [run for run in read if not _is_fused(run) and run.result.model in ALONE[part]]
    _check_one_recipe(own, f"{PARTS[part]} alone")
    return sorted(own, key=lambda run: run.result.seed)


def _course(run: RunFolder) -> TrainingCurve:
    return TrainingCurve(run.result.seed, run.result.best_epoch, run.epochs, run.result.test)


def _caveats(fused: Sequence[RunFolder], alone: Mapping[str, Sequence[RunFolder]]) -> list[str]:
    found = []
    if len(fused) == 1:
        found.append("One seed: how far another seed would move the numbers is not shown.")
    if not all(epoch.parts for run in fused for epoch in run.epochs):
        found.append(OLD)
    missing = [part for part, runs in alone.items() if not runs]
    if missing:
        found.append(
            f"No run of {listed([f'{PARTS[part]} alone' for part in missing])} was given (for instance "
            f"{listed([ALONE[part][0] for part in missing])} on the same data), so a part that is weak by "
            "itself cannot be told from one that is drowned."
        )
    for runs in alone.values():
        unlike = _unlike(fused[0], runs[0]) if runs else []
        if unlike:
            found.append(f"{runs[0].result.model} was trained otherwise: other {listed(unlike)}.")
    return found


def _unlike(ours: RunFolder, theirs: RunFolder) -> list[str]:
    """Keys of width, data and optimiser in which two runs differ."""
    first, second = ours.settings, theirs.settings
    return [
        f"{table}.{key}"
        for table in ("data", "model", "optim")
        for key, value in first.get(table, {}).items()
        if second.get(table, {}).get(key, value) != value
    ]

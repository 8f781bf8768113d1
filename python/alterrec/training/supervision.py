"""What one step learns from: positives, their weights and the candidates beside them.

Legend: N samples, V items, L places, P positives a sample, C candidates a sample, E excluded items a sample.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple, TypeAlias

import numpy as np
import torch
from torch import Tensor

from alterrec.errors import InputError
from alterrec.nn.sequences import on_device
from alterrec.ranking import rank_window, rank_window_bits, top_ranked, uniform_items
from alterrec.recipe_settings import PositivesSettings, WindowSettings

Teacher: TypeAlias = Callable[[slice], Tensor]


class Supervision(NamedTuple):
    """Arguments of the loss: positives (N, P), weights (P,), candidates (ids, bits or None)."""

    positives: Tensor
    weights: Tensor
    candidates: Tensor | None


class WindowRanks(NamedTuple):
    """A rank window on one catalogue: 0-based ranks ``start`` .. ``stop - 1``.

    Example:
        >>> WindowRanks.on(WindowSettings(first=6, last=0.1), num_items=1000)
        WindowRanks(start=5, stop=100)
    """

    start: int
    stop: int

    @classmethod
    def on(cls, window: WindowSettings, num_items: int, seen: int = 0) -> WindowRanks:
        """Ranks of a recipe's window; InputError where the catalogue less ``seen`` items is too small."""
        ranks = cls(_rank(window.first, num_items) - 1, _rank(window.last, num_items))
        candidates = num_items - window.exclude_target - seen
        if not ranks.start < ranks.stop <= candidates:
            raise InputError(
                f"window.first is {window.first}, window.last is {window.last}: ranks {ranks.start + 1}.."
                f"{ranks.stop} of {candidates} candidates; allowed: 1 <= first <= last <= {candidates}; "
                "give fractions such as --set window.last=0.1"
            )
        return ranks


def _rank(value: float, num_items: int) -> int:
    return int(value) if value >= 1 else max(1, round(value * num_items))


def supervise(
    targets_N: Tensor,
    samples_N: np.ndarray,
    negatives: str,
    *,
    window: WindowSettings,
    ranks: WindowRanks,
    num_items: int,
    seed: int,
    positives: PositivesSettings,
    teacher: Teacher | None = None,
    positive_teacher: Teacher | None = None,
    seen_NL: Tensor | None = None,
    chunks: Sequence[slice] = (slice(None),),
) -> Supervision:
    """Positives and candidates of one batch.

    Candidates are the teacher's ranks (all of them, or a draw), draws over the catalogue, or both; every
    draw is a function of (seed, sample). With ``random`` negatives their number is that of the window.

    Args:
        targets_N: int64 target items.
        samples_N: int64 stable sample ids.
        negatives: ``full``, ``random`` or ``window``.
        window, ranks: the recipe's window and its ranks on this catalogue.
        num_items: V.
        seed: changes with the epoch.
        positives: how to weigh further positives.
        teacher: scores (n, V) of a chunk's n samples by the other network; needed for ``window``.
        positive_teacher: likewise, whose top items are further positives; None for none.
        seen_NL: items of the prefixes, -1 for none, that neither rank nor are further positives.
        chunks: the samples that teachers score at a time.

    Returns:
        What ``losses.candidate_cross_entropy`` takes.
    """
    device, total = str(targets_N.device), window.sample or ranks.stop - ranks.start
    drawn = {"full": 0, "random": total, "window": round(total * window.random_share)}[negatives]
    hard = total - drawn if negatives == "window" else 0
    positives_NP, candidates = [], []
    for chunk in chunks if positive_teacher or hard else ():
        apart_N1 = targets_N[chunk, None]
        seen = apart_N1[:, :0] if seen_NL is None else seen_NL[chunk]
        apart_NE = torch.cat([apart_N1, seen], 1)
        scores_NV = None
        if positive_teacher:
            scores_NV = positive_teacher(chunk)
            top_NP = top_ranked(scores_NV, positives.top, exclude=apart_NE)[0]
            positives_NP.append(torch.cat([apart_N1, top_NP], 1))
        if hard:
            assert teacher is not None
            if scores_NV is None or teacher != positive_teacher:
                scores_NV = teacher(chunk)
            exclude = apart_NE if window.exclude_target else seen
            # Bits stand alone; beside draws the window's items are ids too.
            if not drawn and hard == ranks.stop - ranks.start:
                candidates.append(rank_window_bits(scores_NV, *ranks, exclude=exclude))
            else:
                rows = samples_N[chunk]
                candidates.append(
                    rank_window(scores_NV, *ranks, exclude=exclude, sample=hard, seed=seed, rows=rows)
                )
    weight = positives.weight / (positives.top if positives.as_samples else 1) if positives.top else 0.0
    further = positives.top if positive_teacher else 0
    parts = [torch.cat(candidates)] if candidates else []
    if drawn:
        parts.insert(0, on_device(uniform_items(samples_N, drawn, num_items, seed=seed), device))
    return Supervision(
        torch.cat(positives_NP) if positives_NP else targets_N[:, None],
        on_device(np.array([1.0] + [weight] * further, np.float32), device),
        torch.cat(parts, 1) if parts else None,
    )

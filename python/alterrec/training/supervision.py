"""What one step learns from: positives, their weights and the candidates beside them.

Legend: N samples, V items, P positives a sample, C candidates a sample.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from alterrec.errors import InputError
from alterrec.ranking import rank_window, rank_window_mask, top_ranked, uniform_items
from alterrec.recipe import Positives, Window


class Supervision(NamedTuple):
    """Arguments of the loss: positives (N, P), weights (P,), candidates (ids, mask or None)."""

    positives: Tensor
    weights: Tensor
    candidates: Tensor | None


class WindowRanks(NamedTuple):
    """A rank window on one catalogue: 0-based ranks ``start`` .. ``stop - 1``.

    Example:
        >>> WindowRanks.on(Window(first=6, last=0.1), num_items=1000)
        WindowRanks(start=5, stop=100)
    """

    start: int
    stop: int

    @classmethod
    def on(cls, window: Window, num_items: int, seen: int = 0) -> WindowRanks:
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
    teacher_scores_NV: Tensor | None,
    negatives: str,
    *,
    window: Window,
    ranks: WindowRanks,
    num_items: int,
    seed: int,
    samples_N: Tensor,
    positives: Positives,
    positive_scores_NV: Tensor | None = None,
    seen_NL: Tensor | None = None,
) -> Supervision:
    """Positives and candidates of one batch.

    Candidates are the teacher's ranks (all of them, or a draw), draws over the catalogue, or both; every
    draw is a function of (seed, sample). With ``random`` negatives their number is that of the window.

    Args:
        targets_N: int64 target items.
        teacher_scores_NV: the other network's scores; needed for ``window``.
        negatives: ``full``, ``random`` or ``window``.
        window, ranks: the recipe's window and its ranks on this catalogue.
        num_items: V.
        seed: changes with the epoch.
        samples_N: int64 stable sample ids.
        positives: how to weigh further positives.
        positive_scores_NV: scores whose top items are further positives, or None for none.
        seen_NL: items of the prefixes, -1 for none, that neither rank nor are further positives.

    Returns:
        What ``losses.candidate_cross_entropy`` takes.
    """
    positives_NP, weights_P = targets_N[:, None], torch.ones(1, device=targets_N.device)
    seen_NL = positives_NP[:, :0] if seen_NL is None else seen_NL
    apart_NE = torch.cat([positives_NP, seen_NL], 1)
    if positive_scores_NV is not None:
        top_NP = top_ranked(positive_scores_NV, positives.top, exclude=apart_NE)[0]
        positives_NP = torch.cat([positives_NP, top_NP], 1)
        weight = positives.weight / (positives.top if positives.as_samples else 1)
        weights_P = torch.cat([weights_P, torch.full((positives.top,), weight, device=targets_N.device)])
    if negatives == "full":
        return Supervision(positives_NP, weights_P, None)
    total = window.sample or ranks.stop - ranks.start
    drawn = total if negatives == "random" else round(total * window.random_share)
    candidates = []
    if drawn:
        ids_NC = uniform_items(samples_N.cpu().numpy(), drawn, num_items, seed=seed)
        candidates.append(torch.from_numpy(ids_NC).to(targets_N.device))
    if drawn < total:
        assert teacher_scores_NV is not None
        exclude = apart_NE if window.exclude_target else seen_NL
        if not drawn and not window.sample:
            mask_NV = rank_window_mask(teacher_scores_NV, ranks.start, ranks.stop, exclude=exclude)
            return Supervision(positives_NP, weights_P, mask_NV)
        candidates.append(
            rank_window(
                teacher_scores_NV,
                ranks.start,
                ranks.stop,
                exclude=exclude,
                sample=total - drawn,
                seed=seed,
                rows=samples_N.cpu().numpy(),
            )
        )
    return Supervision(positives_NP, weights_P, torch.cat(candidates, 1))

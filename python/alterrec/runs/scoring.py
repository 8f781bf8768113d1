"""Scores of the items of a loaded model for sessions, and the best of them under filters.

Legend: N sessions, V items.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from alterrec.data.repeats import RepeatModel
from alterrec.evaluation.evaluate import Protocol, session_batches, session_scores
from alterrec.models.base import RepeatScale
from alterrec.models.query_scores import TOGETHER
from alterrec.models.removed import removed_items
from alterrec.ranking import repeat_scores, top_ranked
from alterrec.runs.requests import NumberFilter, Numbers

if TYPE_CHECKING:
    from alterrec.runs.saved_model import SavedModel

# Batches over fewer items are faster in large matrices: 0.11 against 0.18 ms for a session among 3,125 items,
# but 2.1 against 1.7 ms among 40,000.
MANY_ITEMS = 20_000


def scored(
    saved: SavedModel, sessions: Sequence[Numbers], users: Numbers | None, protocol: Protocol
) -> Iterator[tuple[slice, Any]]:
    """Yield the scores (N, V) of some sessions at a time, an array or a tensor that may be overwritten."""
    few = len(sessions) <= TOGETHER or len(saved.vocabulary) >= MANY_ITEMS
    quick = saved.query_scores if few else None
    if quick is not None:
        for first in range(0, len(sessions), TOGETHER):
            some = sessions[first : first + TOGETHER]
            scores_NV = quick.scores([items[-protocol.max_len :] for items in some])
            if protocol.repeats is not None:
                for scores_V, session in zip(scores_NV, some, strict=True):
                    _repeat(scores_V[None], session, protocol.repeats, saved.model.scales)
            yield slice(first, first + len(some)), scores_NV
        return
    yield from by_batches(saved, sessions, users, protocol)


def by_batches(
    saved: SavedModel, sessions: Sequence[Numbers], users: Numbers | None, protocol: Protocol
) -> Iterator[tuple[slice, Tensor]]:
    """Yield the scores (N, V) of some sessions at a time, as evaluation computes them."""
    with torch.inference_mode():
        tables = saved.tables()
        for batch in session_batches(saved.model, sessions, protocol, len(saved.vocabulary), users):
            yield batch.rows, session_scores(saved.model, batch, protocol, tables)


def _repeat(
    scores_1V: NDArray[np.float32],
    session: Numbers,
    repeats: RepeatModel,
    scales: Mapping[str, RepeatScale],
) -> None:
    """Overwrite the scores of the items of a session, as ``with_repeats`` of evaluation does."""
    temperature, affinity = scales.get("score", RepeatScale())
    seen_1L = session[None]
    own_1L = scores_1V[0, seen_1L] / temperature if affinity else None
    odds_1L = repeats.log_odds(seen_1L, own_1L, affinity)
    scores_1V[0, session] = repeat_scores(scores_1V, seen_1L, odds_1L, temperature)[0]


def best_items(
    saved: SavedModel,
    sessions: Sequence[Numbers],
    k: int,
    users: Numbers | None,
    protocol: Protocol,
    *,
    exclude: NumberFilter | None,
    only: NumberFilter | None,
) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
    """Return the ``k`` best candidates of each session: ids (N, k) and scores (N, k).

    Where fewer candidates are left, the last ids are -1 and their scores -inf.
    """
    ids = np.full((len(sessions), k), -1, np.int64)
    scores = np.full((len(sessions), k), -np.inf, np.float32)
    removed = removed_items(saved.model)
    for rows, scores_NV in scored(saved, sessions, users, protocol):
        if removed is not None:
            scores_NV[:, removed.numpy()] = -np.inf
        for row, scores_V in zip(range(rows.start, rows.stop), scores_NV, strict=True):
            if (allowed := _of_row(only, row)) is not None:
                kept = scores_V[allowed]
                scores_V[:] = -np.inf
                scores_V[allowed] = kept
            if protocol.seen == "excluded":
                scores_V[sessions[row]] = -np.inf
            if (barred := _of_row(exclude, row)) is not None:
                scores_V[barred] = -np.inf
        found, values = top_ranked(scores_NV, k)
        if isinstance(found, torch.Tensor):
            found, values = found.cpu().numpy(), values.cpu().numpy()
        # Scores are finite, so that -inf means that an item is no candidate.
        ids[rows] = np.where(np.isneginf(values), -1, found)
        scores[rows] = values
    return ids, scores


def _of_row(items: NumberFilter | None, row: int) -> Numbers | None:
    return items if items is None or isinstance(items, np.ndarray) else items[row]


def item_scores(
    saved: SavedModel,
    sessions: Sequence[Numbers],
    items: Sequence[Numbers],
    users: Numbers | None,
    protocol: Protocol,
) -> list[NDArray[np.float32]]:
    """Return the scores of some items, given for each session."""
    found: list[NDArray[np.float32]] = []
    for rows, scores_NV in scored(saved, sessions, users, protocol):
        for own, scores_V in zip(items[rows], scores_NV, strict=True):
            values = scores_V[own]
            found.append(values.cpu().numpy() if isinstance(values, torch.Tensor) else values)
    return found

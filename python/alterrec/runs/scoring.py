"""Scores of the items of a loaded model for sessions, and the best of them under filters.

Legend: N sessions, V items.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from alterrec.evaluation.evaluate import Protocol, session_batches, session_scores
from alterrec.ranking import top_ranked
from alterrec.runs.requests import NumberFilter, Numbers

if TYPE_CHECKING:
    from alterrec.runs.saved_model import SavedModel


def scored(
    saved: SavedModel, sessions: Sequence[Numbers], users: Numbers | None, protocol: Protocol
) -> Iterator[tuple[slice, Tensor]]:
    """Yield the scores (N, V) of some sessions at a time; they may be overwritten."""
    with torch.inference_mode():
        tables = saved.tables()
        for batch in session_batches(saved.model, sessions, protocol, len(saved.vocabulary), users):
            yield batch.rows, session_scores(saved.model, batch, protocol, tables)


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
    for rows, total_NV in scored(saved, sessions, users, protocol):
        for row, session in zip(range(rows.start, rows.stop), sessions[rows], strict=True):
            scores_V = total_NV[row - rows.start]
            if (allowed := _of_row(only, row)) is not None:
                items = torch.from_numpy(allowed).to(scores_V.device)
                kept = scores_V[items]
                scores_V.fill_(-torch.inf)
                scores_V[items] = kept
            if protocol.seen == "excluded":
                scores_V[torch.from_numpy(session).to(scores_V.device)] = -torch.inf
            if (barred := _of_row(exclude, row)) is not None:
                scores_V[torch.from_numpy(barred).to(scores_V.device)] = -torch.inf
        found, values = (each.cpu().numpy() for each in top_ranked(total_NV, k))
        # Scores are finite, so that -inf means that an item is no candidate.
        ids[rows] = np.where(np.isneginf(values), -1, found)
        scores[rows] = values
    return ids, scores


def _of_row(items: NumberFilter | None, row: int) -> Numbers | None:
    return items if items is None or isinstance(items, np.ndarray) else items[row]


def item_scores(
    saved: SavedModel,
    sessions: Sequence[Numbers],
    items: Numbers | Sequence[Numbers],
    users: Numbers | None,
    protocol: Protocol,
) -> list[NDArray[np.float32]]:
    """Return the scores of some items in each session; ``items`` is one list, or one for each session."""
    found: list[NDArray[np.float32]] = []
    for rows, total_NV in scored(saved, sessions, users, protocol):
        for row in range(rows.start, rows.stop):
            own = items if isinstance(items, np.ndarray) else items[row]
            scores_V = total_NV[row - rows.start]
            found.append(scores_V[torch.from_numpy(own).to(scores_V.device)].cpu().numpy())
    return found

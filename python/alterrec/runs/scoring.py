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

from alterrec.evaluation.evaluate import Protocol
from alterrec.evaluation.recommend import session_batches, session_scores
from alterrec.models.removed import removed_items
from alterrec.models.service_scores import AskedSessions, ServiceScores
from alterrec.ranking import top_ranked
from alterrec.runs.requests import NumberFilter, Numbers, rows_of

if TYPE_CHECKING:
    from alterrec.runs.saved_model import SavedModel

Floats = NDArray[np.float32]

# Sessions of one call of the core, which a signal cannot interrupt: less than a second for 40,000 items.
AT_ONCE = 512


def by_batches(
    saved: SavedModel, sessions: Sequence[Numbers], users: Numbers | None, protocol: Protocol
) -> Iterator[tuple[slice, Tensor]]:
    """Yield the scores (N, V) of some sessions at a time, as evaluation computes them.

    They may be overwritten.
    """
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
) -> tuple[Numbers, Floats]:
    """Return the ``k`` best candidates of each session: ids (N, k) and scores (N, k).

    Where fewer candidates are left, the last ids are -1 and their scores -inf.
    """
    ids = np.full((len(sessions), k), -1, np.int64)
    scores = np.full((len(sessions), k), -np.inf, np.float32)
    service = saved.service_scores
    if service is not None:
        for rows in _parts(len(sessions)):
            places = range(len(sessions))[rows]
            filters = {"exclude": rows_of(exclude, places), "only": rows_of(only, places)}
            ids[rows], scores[rows] = service.best(_asked(service, sessions[rows], protocol, **filters), k)
        return ids, scores
    removed = removed_items(saved.model)
    for rows, scores_NV in by_batches(saved, sessions, users, protocol):
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
        found, values = (part.cpu().numpy() for part in top_ranked(scores_NV, k))
        # Scores are finite, so that -inf means that an item is no candidate.
        ids[rows] = np.where(np.isneginf(values), -1, found)
        scores[rows] = values
    return ids, scores


def _parts(count: int) -> Iterator[slice]:
    """Yield the sessions of each call of the core."""
    return (slice(first, first + AT_ONCE) for first in range(0, count, AT_ONCE))


def _of_row(items: NumberFilter | None, row: int) -> Numbers | None:
    return items if items is None or isinstance(items, np.ndarray) else items[row]


def item_scores(
    saved: SavedModel,
    sessions: Sequence[Numbers],
    items: Sequence[Numbers],
    users: Numbers | None,
    protocol: Protocol,
) -> list[Floats]:
    """Return the scores of some items, given for each session; -inf for removed ones."""
    service = saved.service_scores
    found: list[Floats] = []
    if service is not None:
        for rows in _parts(len(sessions)):
            found += service.scores(_asked(service, sessions[rows], protocol), items[rows])
    else:
        for rows, scores_NV in by_batches(saved, sessions, users, protocol):
            for own, scores_V in zip(items[rows], scores_NV, strict=True):
                found.append(scores_V[own].cpu().numpy())
    if (removed := removed_items(saved.model)) is not None:
        for own, scores in zip(items, found, strict=True):
            scores[np.isin(own, removed.numpy())] = -np.inf
    return found


def _asked(
    service: ServiceScores,
    sessions: Sequence[Numbers],
    protocol: Protocol,
    *,
    exclude: NumberFilter | None = None,
    only: NumberFilter | None = None,
) -> AskedSessions:
    return service.ask(
        sessions,
        protocol.max_len,
        protocol.seen,
        exclude=[exclude] if isinstance(exclude, np.ndarray) else exclude,
        only=[only] if isinstance(only, np.ndarray) else only,
    )

"""The best next items of given sessions, by the rules of an evaluation.

Legend: S sessions, N sessions of a chunk, L places, V items.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from alterrec.evaluation.evaluate import Protocol, best_items, chunk_rows, weighted_sum, with_repeats
from alterrec.models.base import Scorer, Tables, score_matrices
from alterrec.models.batches import SessionBatch
from alterrec.models.removed import removed_items, without_removed
from alterrec.nn.layers import on_device


def recommend_items(
    model: Scorer,
    sessions: Sequence[np.ndarray],
    k: int,
    protocol: Protocol,
    num_items: int,
    users: np.ndarray | None = None,
) -> tuple[np.ndarray, np.ndarray]:
    """Return the ``k`` best next items of each session, best first.

    Args:
        model: any system.
        sessions: int64 item ids of each session, oldest first, at least one.
        k: items per session; at most the number of candidates left by exclusion.
        protocol: how items are ranked; its ``targets`` is not used.
        num_items: size of the catalogue.
        users: (S,) int64 user of each session, -1 for unknown users; only some systems read them.

    Returns:
        ids (S, k) int64 and scores (S, k) float32.

    Raises:
        ValueError: fewer than ``k`` candidates are left for a session.
    """
    ids = [np.empty((0, k), np.int64)]
    scores = [np.empty((0, k), np.float32)]
    with torch.inference_mode():
        tables = model.prepare()
        for batch in session_batches(model, sessions, protocol, num_items, users):
            total_NV = session_scores(model, batch, protocol, tables)
            without_removed({"score": total_NV}, removed_items(model))
            best = best_items(total_NV, batch.seen_NL, k, protocol)
            ids.append(best[0])
            scores.append(best[1])
    return np.concatenate(ids), np.concatenate(scores)


class ReadSessions(NamedTuple):
    """Some sessions to recommend for.

    Attributes:
        rows: which of the sessions.
        batch: their items, of which encoders read the last.
        seen_NL: all items of each session, oldest first, padded with -1.
    """

    rows: slice
    batch: SessionBatch
    seen_NL: Tensor


def session_batches(
    model: Scorer,
    sessions: Sequence[np.ndarray],
    protocol: Protocol,
    num_items: int,
    users: np.ndarray | None = None,
) -> Iterator[ReadSessions]:
    """Yield sessions, as many at a time as the memory budget allows; as :func:`recommend_items`."""
    rows = chunk_rows(num_items, score_matrices(model), protocol.budget_bytes)
    for first in range(0, len(sessions), rows):
        chunk = sessions[first : first + rows]
        read = [items[-protocol.max_len :] for items in chunk]
        lengths = torch.tensor([len(items) for items in read], device=protocol.device)
        batch = SessionBatch.of_prefixes(_padded(read, 0).to(protocol.device), lengths)
        if users is not None:
            batch = batch._replace(user_N=on_device(users[first : first + rows], protocol.device))
        seen_NL = _padded(chunk, -1).to(protocol.device)
        yield ReadSessions(slice(first, first + len(chunk)), batch, seen_NL)


def session_scores(
    model: Scorer, sessions: ReadSessions, protocol: Protocol, tables: Mapping[str, Tables]
) -> Tensor:
    """Return the scores (N, V) by which items are recommended, valid until the next call with the tables."""
    parts = without_removed(model.part_scores(sessions.batch, tables), removed_items(model))
    total_NV = weighted_sum(model.summands(parts, sessions.batch), model.weights)
    return with_repeats(total_NV, sessions.seen_NL, protocol, model.scales)


def _padded(rows: Sequence[np.ndarray], pad: int) -> Tensor:
    tensors = [torch.from_numpy(np.asarray(row, np.int64)) for row in rows]
    return torch.nn.utils.rnn.pad_sequence(tensors, batch_first=True, padding_value=pad)

"""Measure the lists that a system recommends for the targets of a session store."""

from __future__ import annotations

from alterrec.evaluation.evaluate import Protocol, final_scores, score_chunks
from alterrec.list_metrics import ListMetrics
from alterrec.models.base import Scorer
from alterrec.sessions import SessionStore


def measure_lists(
    model: Scorer, store: SessionStore, protocol: Protocol, lists: ListMetrics
) -> dict[str, float]:
    """Add the list of each target by the final score; return the metrics of all lists.

    Args:
        model: any system.
        store: the sessions.
        protocol: how items are ranked.
        lists: the metrics, to which nothing was added yet.
    """
    if lists.names:
        for chunk in score_chunks(model, store, store.prefixes(protocol.targets), protocol):
            scores_NV = final_scores(model, chunk, protocol)
            exclude = chunk.seen_NL.cpu().numpy() if protocol.seen == "excluded" else None
            lists.add_scores(scores_NV, chunk.targets_N.cpu().numpy(), exclude=exclude)
    return lists.values()

"""Loss and gradient of each part of a score on a fixed sample of training prefixes (Figures 3 and 9).

Legend: N samples, V items, D width.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor

from alterrec import parallel
from alterrec.evaluation.evaluate import Protocol, chunk_rows, score_chunks, weighted_sum
from alterrec.models.base import Recommender, score_matrices, separate_parts
from alterrec.models.batches import SessionBatch
from alterrec.nn.divided_losses import divided_cross_entropy, divided_mixture_cross_entropy
from alterrec.nn.layers import on_device
from alterrec.nn.losses import ScoreBuffer, candidate_cross_entropy
from alterrec.nn.mixtures import mixture_cross_entropy
from alterrec.ranking import cross_entropy_, uniform_items
from alterrec.sessions import PrefixBatches, SessionStore

# Losses on the same sample are compared with each other, so its error cancels; a larger one only costs time.
SAMPLES = 512


def fixed_samples(store: SessionStore, most: int = SAMPLES, *, repeats: bool = True) -> np.ndarray:
    """At most ``most`` pairs (session, position) from evenly spaced sessions, the same for every model.

    Each session gives one prefix, whose length is drawn with the session's number as seed. Without
    ``repeats``, pairs whose target repeats an item of the prefix are left out.

    Example:
        >>> store = SessionStore.from_arrays([0, 0, 1, 2, 2], [4, 2, 3, 1, 0])
        >>> fixed_samples(store).tolist()
        [[0, 1], [2, 1]]
    """
    long = np.flatnonzero(store.lengths > 1)
    chosen = long[np.linspace(0, len(long) - 1, min(most, len(long))).round().astype(np.int64)]
    drawn = uniform_items(chosen, 1, 2**32)[:, 0]
    samples: np.ndarray = np.stack([chosen, 1 + drawn % (store.lengths[chosen] - 1)], 1).astype(np.int64)
    if repeats:
        return samples
    sessions = [store.session(int(session)) for session, _ in samples]
    new = [items[end] not in items[:end] for items, (_, end) in zip(sessions, samples, strict=True)]
    new_samples: np.ndarray = samples[np.array(new, bool)]
    return new_samples


def _samples(store: SessionStore, protocol: Protocol) -> np.ndarray:
    return fixed_samples(store, repeats=protocol.seen == "kept")


def part_losses(model: Recommender, store: SessionStore, protocol: Protocol) -> dict[str, float]:
    """Cross-entropy over the whole catalogue of the score and of each of its parts, without dropout.

    It is the training loss of Figures 3 and 9 of the paper, on :func:`fixed_samples` of ``store``. The parts
    are the summands of the score, so each is divided by the temperature that it was trained with.

    Returns:
        View -> mean loss in nats; empty if no session has two items.
    """
    losses: dict[str, list[Tensor]] = {}
    for chunk in score_chunks(model, store, _samples(store, protocol), protocol):
        summands, wanted_N1 = model.summands(chunk.parts, chunk.batch), chunk.targets_N[:, None]
        seen_NL = None if protocol.seen == "kept" else chunk.seen_NL
        views = {"score": weighted_sum(summands, model.weights)}
        views |= {part: summands[part] for part in separate_parts(model)}
        for view, scores_NV in views.items():
            # In place: another matrix of this size would exceed the memory plan.
            losses.setdefault(view, []).append(
                cross_entropy_(scores_NV, wanted_N1, torch.ones(1, device=wanted_N1.device), exclude=seen_NL)
            )
    return {view: float(torch.cat(values).double().mean()) for view, values in losses.items()}


def part_gradients(model: Recommender, store: SessionStore, protocol: Protocol) -> dict[str, float]:
    """Norm of the gradient of each part's columns of the item table, without dropout.

    It is the gradient of the loss that trains the part: the cross-entropy over the catalogue of the score of
    its network. That is the sum of all parts if one network has several (naive fusion), and the part alone if
    each part is a network (AlterRec).

    Returns:
        Part -> norm, or ``score`` -> norm if there is only one part; empty if no session has two items.
    """
    samples = _samples(store, protocol)
    if not len(samples):
        return {}
    longest = int(store.lengths.max(initial=1))
    fixed: dict[str, Any] = {"shuffle": False, "samples": samples}
    (read,) = PrefixBatches(store, len(samples), protocol.max_len, layout="by_session", **fixed)
    (whole,) = PrefixBatches(store, len(samples), longest, pad=-1, **fixed)
    wanted, seen = (on_device(values, protocol.device) for values in (read.targets, whole.items))
    batch = SessionBatch.of(read, protocol.device)
    rows = chunk_rows(store.num_items, score_matrices(model), protocol.budget_bytes)
    found: dict[str, float] = {}
    for name in model.networks:
        network = model.network(name)
        mixture, cross_entropy = mixture_cross_entropy, candidate_cross_entropy
        if network.shard is not None:
            mixture = partial(divided_mixture_cross_entropy, shard=network.shard)
            cross_entropy = partial(divided_cross_entropy, shard=network.shard)
        with torch.no_grad():
            tables = network.item_tables()
        table_VD = tables.outputs.detach().requires_grad_()
        positives, buffer = (wanted[:, None], torch.ones(1, device=table_VD.device)), ScoreBuffer(rows)
        if network.queries is not None:
            with torch.no_grad():
                queries = network.ask(batch, tables)
            loss = mixture(queries, table_VD, *positives, buffer=buffer)
        else:
            with torch.no_grad():
                vectors_ND = network.encode_sessions(*network.read(batch, tables))
            left_out = None if protocol.seen == "kept" else seen
            loss = cross_entropy(vectors_ND, table_VD, *positives, None, left_out, buffer=buffer)
        (gradient_VD,) = torch.autograd.grad(loss, table_VD)
        blocks: Mapping[str, slice] = network.blocks or {name: slice(None)}
        norms = torch.stack([gradient_VD[:, columns].norm() for columns in blocks.values()])
        if network.shard is not None:
            norms = parallel.add_up(norms.square()).sqrt()
        found |= dict(zip(blocks, norms.tolist(), strict=True))
    return found if len(found) > 1 else dict(zip(["score"], found.values(), strict=True))

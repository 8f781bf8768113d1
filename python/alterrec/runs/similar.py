"""The most similar items of an item, by the representations that a run has.

Legend: Q items that are asked about, V items, D width.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from alterrec.errors import InputError
from alterrec.models.base import Recommender
from alterrec.models.batches import SessionBatch
from alterrec.models.catalogue import lookup
from alterrec.models.neighbours import NeighbourLists, SessionKnn
from alterrec.models.removed import removed_items
from alterrec.nn.item_encoders import BiasedItems
from alterrec.ranking import top_ranked
from alterrec.runs.recommendations import Recommendation, SimilarItems
from alterrec.runs.requests import Numbers

if TYPE_CHECKING:
    from alterrec.runs.saved_model import SavedModel

# Item numbers -> similarities (Q, V); -inf where there is none.
Similarity = Callable[[Numbers], Tensor]


def similar_items(saved: SavedModel, items: Numbers, k: int, by: str | None) -> SimilarItems:
    """Return the ``k`` most similar items of each item, by one of :func:`similarities`."""
    known = similarities(saved)
    if not known:
        raise InputError(
            f"{saved.recipe.model_name} has no similarity of items, because it scores them without comparing "
            "them; use the run of a system with item vectors or neighbours, such as alterrec or itemknn"
        )
    if by is None:
        by = next(iter(known))
    if by not in known:
        raise InputError(f"by is {by!r}; this run has {', '.join(known)}")
    lists: list[list[Recommendation]] = []
    with torch.inference_mode():
        # One row at a time needs little memory, and a product with one vector costs the same in a batch.
        for item in items:
            found_1V = known[by](np.array([item]))
            found_1V[0, item] = -torch.inf
            if (removed := removed_items(saved.model)) is not None:
                found_1V[0, removed.to(found_1V.device)] = -torch.inf
            ids, values = (each[0].tolist() for each in top_ranked(found_1V.float(), k))
            lists.append(
                [
                    Recommendation(saved.vocabulary.item_ids[other], value, saved.texts[other])
                    for other, value in zip(ids, values, strict=True)
                    if value > -np.inf
                ]
            )
    return SimilarItems(lists, [saved.vocabulary.item_ids[item] for item in items], by)


def similarities(saved: SavedModel) -> dict[str, Similarity]:
    """Return the similarities that a run has, by name; the first is the default, and there may be none."""
    if not isinstance(saved.model, Recommender):
        return _of_counts({"neighbours": saved.model})
    cosines = {name: _cosine(saved, name) for name in saved.unit_vectors()}
    found: dict[str, Similarity] = {}
    if {"id", "text"} <= set(saved.model.networks):
        found["both"] = _both(saved, cosines["id"], cosines["text"])
    return found | cosines | _of_counts(saved.model.untrained)


def unit_vectors(saved: SavedModel) -> dict[str, Tensor]:
    """Return the scored item vectors (V, D) of each network and of each of its blocks, with length 1."""
    assert isinstance(saved.model, Recommender)
    found: dict[str, Tensor] = {}
    with torch.inference_mode():
        for name, tables in saved.tables().items():
            network, outputs_VD = saved.model.network(name), tables.outputs
            if isinstance(network.items, BiasedItems):
                outputs_VD = outputs_VD[:, :-1]
            for part, columns in {name: slice(None), **network.blocks}.items():
                found[part] = F.normalize(outputs_VD[:, columns].float())
    return found


def _cosine(saved: SavedModel, part: str) -> Similarity:
    """The cosine of scored vectors; items whose ID vector was not trained have none."""
    untrained_V = ~torch.from_numpy(saved.trained)
    drawn = part == "id" or (part == "model" and "text" not in lookup(saved.recipe.model_name).items)

    def similarity(items_Q: Numbers) -> Tensor:
        vectors_VD = saved.unit_vectors()[part]
        found_QV = vectors_VD[torch.from_numpy(items_Q).to(vectors_VD.device)] @ vectors_VD.T
        if drawn:
            found_QV = found_QV.masked_fill(untrained_V.to(found_QV.device), -torch.inf)
            found_QV[torch.from_numpy(~saved.trained[items_Q]).to(found_QV.device)] = -torch.inf
        return found_QV

    return similarity


def _both(saved: SavedModel, by_id: Similarity, by_text: Similarity) -> Similarity:
    """The weighted mean of both cosines, with the weights of the score; that of text where ID has none."""
    id_weight, text_weight = (max(saved.model.weights[part], 0.0) for part in ("id", "text"))
    share = id_weight / (id_weight + text_weight) if id_weight + text_weight else 0.5

    def similarity(items_Q: Numbers) -> Tensor:
        text_QV, id_QV = by_text(items_Q), by_id(items_Q)
        return torch.where(id_QV.isneginf(), text_QV, share * id_QV + (1 - share) * text_QV)

    return similarity


def _of_counts(systems: Mapping[str, object]) -> dict[str, Similarity]:
    """Return the similarities of systems that count neighbours: their scores for a session of one item."""
    found: dict[str, Similarity] = {}
    for name, system in systems.items():
        if isinstance(system, NeighbourLists | SessionKnn):
            found[name] = _neighbours(system)
    return found


def _neighbours(system: NeighbourLists | SessionKnn) -> Similarity:
    def similarity(items_Q: Numbers) -> Tensor:
        plain = system.as_sums() if isinstance(system, NeighbourLists) else system
        batch = SessionBatch.of_prefixes(
            torch.from_numpy(items_Q)[:, None], torch.ones(len(items_Q), dtype=torch.int64)
        )
        found_QV = plain.scores(batch)
        return found_QV.masked_fill(found_QV <= 0, -torch.inf)

    return similarity

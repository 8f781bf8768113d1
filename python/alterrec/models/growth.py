"""Give a trained system rows for further items: text vectors as they are, ID rows by the nearest texts.

Legend: V items, N new items, K neighbours of a new item, D width, F columns of text vectors.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator
from typing import Any, Literal

import numpy as np
import scipy.sparse  # type: ignore[import-untyped]
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn

from alterrec.errors import InputError
from alterrec.models.base import Network, Recommender, Scorer
from alterrec.models.neighbours import NeighbourLists, Trend
from alterrec.nn.item_encoders import BiasedItems, IdTable, TextItems
from alterrec.recipe import Recipe

# What scores new items besides their texts, see `grow`.
IdRows = Literal["nearest", "text"]
# Trained items whose ID rows and neighbours are averaged; docs/changing_catalogue.md compares other numbers.
NEAREST = 5
# Rows of vectors that are compared at a time.
_ROWS = 4096


def item_parameters(model: nn.Module) -> Iterator[str]:
    """Yield the names of the parameters that have a row for each item.

    Example:
        >>> from alterrec.nn.item_encoders import JoinedItems, TextProjection
        >>> items = JoinedItems([IdTable(5, 4), TextProjection(torch.zeros(5, 3), 4)])
        >>> list(item_parameters(items))
        ['encoders.0.rows_VD']
    """
    for name, part in model.named_modules():
        prefix = f"{name}." if name else ""
        if isinstance(part, IdTable):
            yield f"{prefix}rows_VD"
        if isinstance(part, BiasedItems):
            yield f"{prefix}bias"


def text_items_of(model: Recommender) -> TextItems | None:
    """Return the encoder of text vectors that a system reads or scores items by; None if it has none."""
    for name in model.networks:
        for part in model.network(name).items.modules():
            if isinstance(part, TextItems):
                return part
    return None


def nearest_items(
    known_VD: Tensor, new_ND: Tensor, trained_V: NDArray[np.bool_], k: int = NEAREST
) -> scipy.sparse.csr_matrix:
    """Return weights (N, V) of the ``k`` trained items whose vectors have the largest cosine: 1 / ``k`` each.

    Example:
        >>> known = torch.tensor([[1.0, 0.0], [0.9, 0.1], [0.0, 1.0]])
        >>> weights = nearest_items(known, torch.tensor([[2.0, 0.0]]), np.array([True, True, True]), k=2)
        >>> weights.toarray().tolist()
        [[0.5, 0.5, 0.0]]
    """
    places = np.flatnonzero(trained_V)
    k = min(k, len(places))
    table_TD = F.normalize(known_VD[torch.from_numpy(places)])
    near = [(F.normalize(part_RD) @ table_TD.T).topk(k).indices for part_RD in torch.split(new_ND, _ROWS)]
    columns = places[torch.cat(near).numpy().ravel()]
    rows = np.repeat(np.arange(len(new_ND)), k)
    shape = (len(new_ND), len(known_VD))
    return scipy.sparse.csr_matrix((np.full(len(columns), 1 / k), (rows, columns)), shape=shape)


def grow(
    model: Recommender,
    vectors_NF: Tensor,
    trained_V: NDArray[np.bool_],
    id_rows: IdRows = "nearest",
    *,
    cold_by_text: bool = True,
) -> Recommender:
    """Return a copy of a system with N further items at the end of its catalogue.

    Where a session has a new item, or where it is a neighbour, it stands for the mean of the trained items
    whose texts are nearest, compared by the item vectors of the text network.

    Args:
        model: the system; :func:`check_growth` says whether it can grow.
        vectors_NF: vectors of the texts of the new items, as the model reads them.
        trained_V: whether each known item occurs in training.
        id_rows: ``nearest``: the ID part scores new items by these means, too. ``text``: the text part alone
            scores them; where one network adds the ID and the text vector of an item, its ID row is 0.
        cold_by_text: the recipe's ``fusion.cold_by_text``.

    Example:
        >>> from alterrec.models.parts import ModelInputs, two_networks
        >>> from alterrec.recipe import resolve
        >>> trained = torch.ones(5, dtype=torch.bool)
        >>> model = two_networks(resolve("alterrec"), ModelInputs(5, torch.randn(5, 3), trained))
        >>> grown = grow(model, torch.randn(2, 3), trained.numpy())
        >>> grown.network("id").item_tables().outputs.shape
        torch.Size([7, 64])
    """
    text = text_items_of(model)
    assert text is not None
    with torch.inference_mode():
        near_NV = nearest_items(
            text.encode(text.vectors_VF).cpu(), text.encode(vectors_NF.to(text.vectors_VF)).cpu(), trained_V
        )
    # Parts without training cannot be copied, and text vectors, which are large, need not be.
    kept: dict[int, Any] = {id(model.untrained): {}}
    kept |= {id(part.vectors_VF): part.vectors_VF for part in model.modules() if isinstance(part, TextItems)}
    grown, count = copy.deepcopy(model, kept), len(vectors_NF)
    rows_NV = near_NV * 0.0 if id_rows == "text" and len(model.networks) == 1 else near_NV
    for part in grown.modules():
        if isinstance(part, TextItems):
            part.vectors_VF = torch.cat([part.vectors_VF, vectors_NF.to(part.vectors_VF)])
        if isinstance(part, IdTable):
            table_VD = part.rows_VD.detach()
            rows_ND = torch.from_numpy(rows_NV @ table_VD.cpu().double().numpy()).to(table_VD)
            part.rows_VD = nn.Parameter(torch.cat([table_VD, rows_ND]))
    if len(model.networks) > 1 and cold_by_text:
        cold_V = torch.zeros(len(trained_V), dtype=torch.bool) if model.cold_V is None else model.cold_V
        grown.cold_V = torch.cat([cold_V, cold_V.new_full((count,), id_rows == "text")])
    for name, system in model.untrained.items():
        if isinstance(system, NeighbourLists):
            grown.untrained[name] = system.with_items(near_NV)
        if isinstance(system, Trend):
            grown.untrained[name] = Trend(F.pad(system.trend_V, (0, count)))
    grown.removed = model.removed
    if model.gate is not None:
        grown.gate = model.gate._replace(counts_V=F.pad(model.gate.counts_V, (0, count)))
    return grown


def check_growth(recipe: Recipe, model: Scorer, id_rows: IdRows) -> None:
    """Raise InputError if a system cannot score items that are not in its training data.

    Example:
        >>> from alterrec.models.neighbours import Popularity
        >>> from alterrec.recipe import resolve
        >>> check_growth(resolve("popularity"), Popularity(torch.ones(3)), "text")  # doctest: +ELLIPSIS
        Traceback (most recent call last):
            ...
        alterrec.errors.InputError: popularity has no text part, which scores items that are not in ...
    """
    name = recipe.model_name
    text = text_items_of(model) if isinstance(model, Recommender) else None
    if text is None or not isinstance(model, Recommender):
        raise InputError(
            f"{name} has no text part, which scores items that are not in training; train it again with the "
            "new items, or train a system that reads texts, such as alterrec"
        )
    if id_rows == "text" and not any(map(_scores_by_text, map(model.network, model.networks))):
        raise InputError(f"{name} scores items by their ID rows alone; use --id-rows nearest")
    if len(model.networks) > 1 and not recipe.fusion.cold_by_text and id_rows == "text":
        raise InputError(
            "the run was trained with fusion.cold_by_text=false, so that ID scores every item; use --id-rows "
            "nearest"
        )


def _scores_by_text(network: Network) -> bool:
    """Whether texts are a part of the vectors of an item that are scored."""
    # Outputs are a module, or a method of one.
    scored: Any = network.items if network.outputs is None else network.outputs
    scored = getattr(scored, "__self__", scored)
    return any(isinstance(part, TextItems) for part in scored.modules())

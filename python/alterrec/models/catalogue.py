"""The table of systems: name -> what it is and how it is built.

A system of existing blocks is one line here and one recipe in ``recipes/models``.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import NamedTuple

import torch
from torch import Tensor

from alterrec.errors import InputError, nearest
from alterrec.models.base import Network, Recommender
from alterrec.models.neighbours import ItemKnn, Popularity, SessionKnn, Untrained
from alterrec.nn.initialise import initialise
from alterrec.nn.item_encoders import IdTable, JoinedItems, SummedItems, TextProjection
from alterrec.nn.session_encoders import Mean, Recency
from alterrec.nn.transformer import Transformer
from alterrec.recipe import Network as NetworkRecipe
from alterrec.recipe import Recipe
from alterrec.sessions import SessionStore


class Items(NamedTuple):
    """What a model must know of the catalogue: text vectors (V, F) or None, and who was trained (V,)."""

    num_items: int
    vectors_VF: Tensor | None
    trained_V: Tensor


class Entry(NamedTuple):
    """A row of the catalogue; exactly one of ``build`` and ``candidates`` is given.

    ``build`` makes a model to train; ``candidates`` makes systems without training, one for each
    setting, among which validation chooses; ``restore`` rebuilds the chosen one from a run folder.
    """

    summary: str
    reads_text: bool
    build: Callable[[Recipe, Items], Recommender] | None = None
    candidates: Callable[[SessionStore], Iterator[Untrained]] | None = None
    restore: Callable[[dict[str, Tensor]], Untrained] | None = None


def build_model(recipe: Recipe, items: Items) -> Recommender:
    """The untrained model of a recipe, its parameters drawn from torch's global generator.

    Raises:
        InputError: the system reads text and there is none.

    Example:
        >>> from alterrec.recipe import resolve
        >>> items = Items(5, None, torch.ones(5, dtype=torch.bool))
        >>> list(build_model(resolve("id_only"), items).networks)
        ['model']
    """
    entry = lookup(recipe.model_name)
    assert entry.build is not None
    if entry.reads_text and items.vectors_VF is None:
        raise InputError(
            f"model {recipe.model_name!r} reads item text, but the data has none; allowed: text columns in "
            "items, --set data.vectors=FILE, or a model without text such as id_only"
        )
    model = entry.build(recipe, items)
    initialise(model, recipe.model.init, recipe.model.init_std, recipe.model.dim)
    return model


def lookup(name: str) -> Entry:
    """The catalogue row of a model name; InputError with the nearest name otherwise."""
    if name not in MODELS:
        raise InputError(f"model {name!r} is unknown; allowed: {', '.join(MODELS)}{nearest(name, MODELS)}")
    return MODELS[name]


def _id_items(recipe: Recipe, items: Items) -> IdTable:
    return IdTable(items.num_items, recipe.model.dim, recipe.id.table_dropout)


def _text_items(recipe: Recipe, items: Items) -> TextProjection:
    assert items.vectors_VF is not None
    return TextProjection(
        items.vectors_VF, recipe.model.dim, _dropout(recipe, recipe.text), recipe.text.standardise
    )


def _dropout(recipe: Recipe, network: NetworkRecipe) -> float:
    return recipe.model.dropout if network.dropout is None else network.dropout


def _session(recipe: Recipe, network: NetworkRecipe, dim: int) -> torch.nn.Module:
    sizes = recipe.model
    if network.session == "mean":
        return Mean()
    if network.session == "recency":
        return Recency(sizes.max_len)
    return Transformer(dim, sizes.max_len, sizes.layers, sizes.heads, _dropout(recipe, network))


def _id_network(recipe: Recipe, items: Items) -> Network:
    return Network(
        _id_items(recipe, items), _session(recipe, recipe.id, recipe.model.dim), recipe.id.temperature
    )


def _text_network(recipe: Recipe, items: Items) -> Network:
    session = _session(recipe, recipe.text, recipe.model.dim)
    return Network(_text_items(recipe, items), session, recipe.text.temperature)


def _alone(network: Network) -> Recommender:
    return Recommender({"model": network}, {"model": 1.0})


def _two_networks(recipe: Recipe, items: Items) -> Recommender:
    """Eq. 6: score = alpha * id + (1 - alpha) * text."""
    networks = {"id": _id_network(recipe, items), "text": _text_network(recipe, items)}
    alpha = recipe.fusion.alpha
    cold = ~items.trained_V if recipe.fusion.cold_by_text and not bool(items.trained_V.all()) else None
    return Recommender(networks, {"id": alpha, "text": 1 - alpha}, cold)


def _nfrec_sum(recipe: Recipe, items: Items) -> Recommender:
    fused = SummedItems([_id_items(recipe, items), _text_items(recipe, items)])
    return _alone(Network(fused, _session(recipe, recipe.id, fused.dim), recipe.id.temperature))


def _nfrec_concat(recipe: Recipe, items: Items) -> Recommender:
    fused = JoinedItems([_id_items(recipe, items), _text_items(recipe, items)])
    width = recipe.model.dim
    blocks = {"id": slice(0, width), "text": slice(width, 2 * width)}
    network = Network(fused, _session(recipe, recipe.id, fused.dim), recipe.id.temperature, blocks)
    return Recommender({"model": network}, {"id": 1.0, "text": 1.0})


def popularity_candidates(train: SessionStore) -> Iterator[Untrained]:
    """Popularity has nothing to choose."""
    yield Popularity(torch.from_numpy(train.item_counts()))


def itemknn_candidates(train: SessionStore) -> Iterator[Untrained]:
    """Item-kNN over shrinkage and decay."""
    for shrinkage in (0.0, 10.0, 50.0):
        first = ItemKnn.fit(train, shrinkage, decay=1.0)
        for decay in (0.5, 0.7, 0.8, 0.9, 1.0):
            yield ItemKnn(first.neighbours, train.num_items, decay)


def vsknn_candidates(train: SessionStore) -> Iterator[Untrained]:
    """V-SKNN over the number of neighbour sessions."""
    for k in (100, 500):
        yield SessionKnn(train, k)


MODELS: dict[str, Entry] = {
    "alterrec": Entry(
        "ID and text network, alternating, each on the other's hard negatives", True, _two_networks
    ),
    "alterrec_aug": Entry("alterrec with the other's top items as further positives", True, _two_networks),
    "alterrec_random": Entry("alterrec's schedule with random negatives", True, _two_networks),
    "alterrec_wo_text": Entry(
        "alterrec's ID network alone", False, lambda recipe, items: _alone(_id_network(recipe, items))
    ),
    "alterrec_wo_id": Entry(
        "alterrec's text network alone", True, lambda recipe, items: _alone(_text_network(recipe, items))
    ),
    "independent": Entry("ID and text network trained apart, scores summed", True, _two_networks),
    "nfrec_sum": Entry("naive fusion: item vectors summed", True, _nfrec_sum),
    "nfrec_concat": Entry("naive fusion: item vectors joined", True, _nfrec_concat),
    "id_only": Entry(
        "the ID part of naive fusion alone", False, lambda recipe, items: _alone(_id_network(recipe, items))
    ),
    "text_only": Entry(
        "the text part of naive fusion alone",
        True,
        lambda recipe, items: _alone(_text_network(recipe, items)),
    ),
    "popularity": Entry(
        "most frequent items first", False, candidates=popularity_candidates, restore=Popularity.from_tensors
    ),
    "itemknn": Entry(
        "items that share sessions with the prefix's items",
        False,
        candidates=itemknn_candidates,
        restore=ItemKnn.from_tensors,
    ),
    "vsknn": Entry(
        "items of the most similar sessions",
        False,
        candidates=vsknn_candidates,
        restore=SessionKnn.from_tensors,
    ),
}

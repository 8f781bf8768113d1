"""The table of systems: name -> what it is and how it is built.

A system of existing blocks is one line here and one recipe in ``recipes/models``.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import NamedTuple

import torch
from torch import Tensor

from alterrec.errors import InputError, nearest
from alterrec.models import fdsa, graphs, sequential, unisrec
from alterrec.models.base import Recommender
from alterrec.models.bert4rec import bert4rec
from alterrec.models.llm2 import llm2bert4rec, llm2sasrec, start_from_text
from alterrec.models.neighbours import ItemKnn, Popularity, SessionKnn, Untrained
from alterrec.models.parts import (
    ModelInputs,
    alone,
    id_items,
    network_of,
    only_id,
    only_text,
    text_items,
    two_networks,
)
from alterrec.models.s3rec import s3rec
from alterrec.nn.item_encoders import JoinedItems, SummedItems
from alterrec.nn.layers import initialise
from alterrec.recipe import Recipe
from alterrec.sessions import SessionStore


class Entry(NamedTuple):
    """A row of the catalogue; exactly one of ``build`` and ``candidates`` is given.

    ``build`` makes a model to train; ``candidates`` makes systems without training, one for each
    setting, among which validation chooses; ``restore`` rebuilds the chosen one from a run folder.
    ``reads_categories``: it makes use of categories where the data has some. ``reads_shortened``: its
    pretraining reads texts that have lost words. ``reads_users``: it is not to be had without users.
    """

    summary: str
    reads_text: bool
    build: Callable[[Recipe, ModelInputs], Recommender] | None = None
    candidates: Callable[[SessionStore], Iterator[Untrained]] | None = None
    restore: Callable[[dict[str, Tensor]], Untrained] | None = None
    reads_categories: bool = False
    reads_users: bool = False
    reads_shortened: bool = False


def build_model(recipe: Recipe, inputs: ModelInputs) -> Recommender:
    """The untrained model of a recipe, its parameters drawn from torch's global generator.

    Raises:
        InputError: the system reads text and there is none, it needs what the data has not, or the recipe
            names an objective that it has not.

    Example:
        >>> import torch
        >>> from alterrec.recipe import resolve
        >>> inputs = ModelInputs(5, None, torch.ones(5, dtype=torch.bool))
        >>> list(build_model(resolve("id_only"), inputs).networks)
        ['model']
    """
    entry = lookup(recipe.model_name)
    if reads_text(recipe) and inputs.vectors_VF is None:
        what = "model" if entry.reads_text else f"id.start={recipe.id.start} of model"
        raise InputError(
            f"{what} {recipe.model_name!r} reads item text, but the data has none; allowed: text columns in "
            "items, --set data.vectors=FILE, or a model without text such as id_only"
        )
    if entry.reads_users and (inputs.train is None or not inputs.train.has_users):
        raise InputError(
            f"model {recipe.model_name!r} reads who clicked, but the data has no users, for which the paper "
            "prints N/A; allowed: a column user_id in sessions, or a model without users such as srgnn"
        )
    model = assemble(recipe, inputs)
    _check_objectives(model, recipe)
    initialise(model, recipe.model.init, recipe.model.init_std, recipe.model.dim)
    start_from_text(model, recipe, inputs)
    return model


def reads_text(recipe: Recipe) -> bool:
    """Whether the model of a recipe is built from text vectors.

    Example:
        >>> from alterrec.recipe import resolve
        >>> reads_text(resolve("sasrec")), reads_text(resolve("sasrec", overrides={"id.start": "pca"}))
        (False, True)
    """
    by_categories = {
        "fdsa": recipe.fdsa.features == "attributes",
        "s3rec": recipe.s3rec.attributes == "categories",
    }
    described = lookup(recipe.model_name).reads_text and not by_categories.get(recipe.model_name, False)
    return described or recipe.id.start != "drawn"


def _check_objectives(model: Recommender, recipe: Recipe) -> None:
    known = {name for network in model.networks for name in model.network(network).objectives}
    asked = {
        "schedule.objective": (recipe.schedule.objective, recipe.schedule.objective, "next"),
        "schedule.pretrain": (
            recipe.schedule.pretrain,
            "pretrain" if recipe.schedule.pretrain else "next",
            0,
        ),
    }
    for key, (value, objective, without) in asked.items():
        if objective != "next" and objective not in known:
            raise InputError(
                f"{key} is {value!r}, but {recipe.model_name} with id.session={recipe.id.session} has no "
                f"such objective; allowed: {key}={without}, or a system that has it, as bert4rec has "
                "cloze with id.session=bidirectional"
            )


def assemble(recipe: Recipe, inputs: ModelInputs) -> Recommender:
    """The model of a recipe with parameters that are still to be set."""
    build = lookup(recipe.model_name).build
    assert build is not None
    return build(recipe, inputs)


def lookup(name: str) -> Entry:
    """The catalogue row of a model name; InputError with the nearest name otherwise."""
    if name not in MODELS:
        raise InputError(f"model {name!r} is unknown; allowed: {', '.join(MODELS)}{nearest(name, MODELS)}")
    return MODELS[name]


def _nfrec_sum(recipe: Recipe, inputs: ModelInputs) -> Recommender:
    fused = SummedItems([id_items(recipe, inputs), text_items(recipe, inputs)])
    return alone(network_of(recipe, recipe.id, fused))


def _nfrec_concat(recipe: Recipe, inputs: ModelInputs) -> Recommender:
    fused = JoinedItems([id_items(recipe, inputs), text_items(recipe, inputs)])
    width = recipe.model.dim
    blocks = {"id": slice(0, width), "text": slice(width, 2 * width)}
    return alone(network_of(recipe, recipe.id, fused, blocks=blocks))


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
        "ID and text network, alternating, each on the other's hard negatives", True, two_networks
    ),
    "alterrec_aug": Entry("alterrec with the other's top items as further positives", True, two_networks),
    "alterrec_random": Entry("alterrec's schedule with random negatives", True, two_networks),
    "alterrec_wo_text": Entry("alterrec's ID network alone", False, only_id),
    "alterrec_wo_id": Entry("alterrec's text network alone", True, only_text),
    "independent": Entry("ID and text network trained apart, scores summed", True, two_networks),
    "nfrec_sum": Entry("naive fusion: item vectors summed", True, _nfrec_sum),
    "nfrec_concat": Entry("naive fusion: item vectors joined", True, _nfrec_concat),
    "id_only": Entry("the ID part of naive fusion alone", False, only_id),
    "text_only": Entry("the text part of naive fusion alone", True, only_text),
    "gru4rec": Entry("gated recurrent units over IDs (Hidasi et al., 2016)", False, sequential.gru4rec),
    "core": Entry("weighted mean of ID rows, scored by cosine (Hou et al., 2022)", False, sequential.core),
    "bsarec": Entry(
        "causal Transformer over IDs with frequency filters (Shin et al., 2024)", False, sequential.bsarec
    ),
    "sasrec": Entry("causal Transformer over IDs (Kang and McAuley, 2018)", False, sequential.sasrec),
    "srgnn": Entry("gated graph network over each session's graph (Wu et al., 2019)", False, graphs.srgnn),
    "unisrec": Entry(
        "item rows plus text through a mixture of experts, pretrained by contrast (Hou et al., 2022)",
        True,
        unisrec.unisrec,
        reads_shortened=True,
    ),
    "unisrec_pretrained": Entry(
        "unisrec whose text adaptor and encoder were pretrained elsewhere", True, unisrec.unisrec
    ),
    "unisrec_id": Entry("the item rows of unisrec alone", False, unisrec.unisrec_id),
    "unisrec_text": Entry(
        "the text of unisrec alone, pretrained as there", True, unisrec.unisrec_text, reads_shortened=True
    ),
    "fdsa": Entry(
        "items and their text, or categories, in two Transformers (Zhang et al., 2019)",
        True,
        fdsa.fdsa,
        reads_categories=True,
    ),
    "fdsa_id": Entry("the item stream of fdsa alone", False, fdsa.fdsa_id),
    "fdsa_text": Entry("the text stream of fdsa alone", True, fdsa.fdsa_text),
    "bert4rec": Entry("two-way Transformer over IDs, masked items (Sun et al., 2019)", False, bert4rec),
    "hggnn": Entry(
        "graph of all items and users, sessions read with their user (Pang et al., 2022)",
        False,
        graphs.hggnn,
        reads_users=True,
    ),
    "llm2sasrec": Entry(
        "sasrec with a head, its table started from text (Boz et al., 2024)", True, llm2sasrec
    ),
    "llm2bert4rec": Entry("bert4rec, its table started from text (Harte et al., 2023)", True, llm2bert4rec),
    "s3rec": Entry(
        "sasrec after four pretraining tasks on attributes, items and segments (Zhou et al., 2020)",
        True,
        s3rec,
        reads_categories=True,
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

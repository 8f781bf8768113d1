"""The catalogue of systems: what each one is, how it is built and which settings it reads.

A system made of existing blocks is one entry here and one recipe in ``recipes/models``. The entries need no
torch, so that studies are planned without it; a builder is imported when a system is built.
"""

from __future__ import annotations

import importlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

from alterrec.errors import InputError, nearest
from alterrec.recipe_settings import SESSION_ENCODERS

if TYPE_CHECKING:
    from torch import Tensor

    from alterrec.models.base import Recommender
    from alterrec.models.neighbours import Untrained
    from alterrec.models.parts import ModelInputs
    from alterrec.recipe import Recipe
    from alterrec.sessions import SessionStore

Kind = Literal["baseline", "ablation", "ours"]


@dataclass(frozen=True)
class Entry:
    """One system.

    Attributes:
        summary: one line for ``alterrec list models``.
        builder: the function that builds it, or the class of a system without training, as
            ``module.name`` within ``alterrec.models``.
        kind: its role in a comparison.
        networks: the recipe tables that describe its networks, ``id`` or ``text``; empty for a system
            without training. Two networks are trained in turn and their scores are summed.
        items: the item encoders that it is made of, ``id`` (a table) and ``text`` (projected text vectors).
        session_reads: the settings that its own session encoder reads; None if the recipe chooses the encoder
            (``SESSION_ENCODERS`` has the settings of those).
        own_start: whether the item table has starting values of its own, whatever ``model.init`` is.
        reads: further recipe tables and keys that the system reads.
        pretrains: likewise, those that its pretraining reads; empty if it has none.
        parts: the systems that are its ID part and its text part trained alone, if there are any.
        quick: whether the quick study of all systems includes it.
        reads_text: whether it is built from text vectors.
        reads_users: whether it requires user ids.
        reads_shortened: whether its pretraining reads texts from which words were removed.
        text_unless: recipe key -> the value with which the system reads the categories of items in place of
            their text; other values than ``text`` make it read them too.
    """

    summary: str
    builder: str
    kind: Kind = "baseline"
    networks: tuple[str, ...] = ("id",)
    items: tuple[str, ...] = ("id",)
    session_reads: tuple[str, ...] | None = None
    own_start: bool = False
    reads: tuple[str, ...] = ()
    pretrains: tuple[str, ...] = ()
    parts: Mapping[str, str] = field(default_factory=dict)
    quick: bool = False
    reads_text: bool = False
    reads_users: bool = False
    reads_shortened: bool = False
    text_unless: Mapping[str, str] = field(default_factory=dict)

    @property
    def trains(self) -> bool:
        return bool(self.networks)

    @property
    def reads_categories(self) -> bool:
        """Whether the system uses the categories of items, if the data has any."""
        return bool(self.text_unless)

    @property
    def regime(self) -> str:
        """The training regime that fits its networks."""
        return {0: "none", 1: "together", 2: "alternate"}[len(self.networks)]

    def build(self, recipe: Recipe, inputs: ModelInputs) -> Recommender:
        """Return the model of a recipe; its starting values are still to be drawn."""
        return self._load()(recipe, inputs)

    def candidates(self, train: SessionStore) -> Iterator[Untrained]:
        """Yield the settings of a system without training, among which validation chooses."""
        return self._load().candidates(train)

    def restore(self, tensors: Mapping[str, Tensor]) -> Untrained:
        """Return the system without training that a run folder holds."""
        return self._load().from_tensors(tensors)

    def _load(self) -> Any:
        module, _, name = self.builder.partition(".")
        return getattr(importlib.import_module(f"alterrec.models.{module}"), name)


def lookup(name: str) -> Entry:
    """Return the entry of a system; InputError with the nearest name if there is none."""
    if name not in MODELS:
        known = ", ".join(MODELS)
        raise InputError(f"model {name!r} is unknown; choose one of {known}{nearest(name, MODELS)}")
    return MODELS[name]


def build_model(recipe: Recipe, inputs: ModelInputs) -> Recommender:
    """Return the untrained model of a recipe, its parameters drawn from torch's global generator.

    Raises:
        InputError: the data lacks what the system reads (text, users), or the recipe names an objective that
            the system does not have.

    Example:
        >>> import torch
        >>> from alterrec.models.parts import ModelInputs
        >>> from alterrec.recipe import resolve
        >>> inputs = ModelInputs(5, None, torch.ones(5, dtype=torch.bool))
        >>> list(build_model(resolve("id_only"), inputs).networks)
        ['model']
    """
    from alterrec.models.parts import start_from_text
    from alterrec.nn.layers import initialise

    check_inputs(recipe, inputs)
    model = lookup(recipe.model_name).build(recipe, inputs)
    _check_objectives(model, recipe)
    if recipe.run.shard_items and (problem := division_problem(model, recipe)):
        raise InputError(problem)
    _check_queries(model, recipe)
    initialise(model, recipe.model.init, recipe.model.init_std, recipe.model.dim)
    start_from_text(model, recipe, inputs)
    return model


def check_inputs(recipe: Recipe, inputs: ModelInputs) -> None:
    """Raise InputError if the data lacks what the system of a recipe reads."""
    missing = missing_input(recipe, text=inputs.vectors_VF is not None, users=has_known_users(inputs.train))
    if missing:
        raise InputError(missing)


def missing_input(recipe: Recipe, *, text: bool, users: bool) -> str:
    """Return what the data lacks for a system, as a message; empty if it lacks nothing.

    Args:
        recipe: the recipe of the system.
        text: whether the data has texts or vectors of items.
        users: whether training sessions have known users.

    Example:
        >>> from alterrec.recipe import resolve
        >>> missing_input(resolve("text_only"), text=False, users=False)[:50]
        "model 'text_only' reads item text, but the data ha"
    """
    entry = lookup(recipe.model_name)
    if reads_text(recipe) and not text:
        what = "model" if entry.reads_text else f"id.start={recipe.id.start} of model"
        return (
            f"{what} {recipe.model_name!r} reads item text, but the data has none; give text columns in "
            "items or --set data.vectors=FILE, or choose a model without text such as id_only"
        )
    if entry.reads_users and not users:
        return (
            f"model {recipe.model_name!r} requires user ids, but the data has none (the paper prints N/A "
            "here); give a column user_id in sessions, or choose a model without users such as srgnn"
        )
    return ""


def has_known_users(train: SessionStore | None) -> bool:
    """Return whether any training session has a user."""
    users = None if train is None else train.users
    return users is not None and bool((users >= 0).any())


def reads_text(recipe: Recipe) -> bool:
    """Whether the model of a recipe is built from text vectors.

    Example:
        >>> from alterrec.recipe import resolve
        >>> reads_text(resolve("sasrec")), reads_text(resolve("sasrec", overrides={"id.start": "pca"}))
        (False, True)
    """
    entry = lookup(recipe.model_name)
    by_categories = any(recipe.value(key) == value for key, value in entry.text_unless.items())
    return (entry.reads_text and not by_categories) or recipe.id.start != "drawn"


def _check_objectives(model: Recommender, recipe: Recipe) -> None:
    known = {name for network in model.networks for name in model.network(network).objectives}
    plan = recipe.schedule
    for key, value, objective, without in (
        ("schedule.objective", plan.objective, plan.objective, "next"),
        ("schedule.pretrain", plan.pretrain, "pretrain" if plan.pretrain else "next", 0),
    ):
        if objective != "next" and objective not in known:
            raise InputError(
                f"{key} is {value!r}, but {recipe.model_name} with id.session={recipe.id.session} has no "
                f"such objective; set {key}={without}, or choose a system that has it (bert4rec has cloze "
                "with id.session=bidirectional)"
            )


def division_problem(model: Recommender, recipe: Recipe) -> str:
    """Return why the item tables of a model cannot be divided among processes; empty if they can."""
    from alterrec.nn.item_encoders import can_be_divided

    if not all(can_be_divided(model.network(name).items) for name in model.networks):
        return (
            f"run.shard_items divides ID tables and text vectors, but {recipe.model_name} has other item "
            "tables; set run.shard_items=false, or choose another system, such as alterrec or sasrec"
        )
    if recipe.model.continues:
        return (
            "model.continues reads the whole tables of another run; set run.shard_items=false, or train again"
        )
    for key, value, only in (
        ("schedule.objective", recipe.schedule.objective, "next"),
        ("schedule.pretrain", recipe.schedule.pretrain, 0),
    ):
        if value != only:
            return (
                f"{key} is {value!r}, but divided item tables (run.shard_items) are trained to predict the "
                f"next item alone; set {key}={only} or run.shard_items=false"
            )
    return ""


def _check_queries(model: Recommender, recipe: Recipe) -> None:
    """Raise InputError if several queries would be trained with a loss that takes one vector."""
    if all(model.network(name).queries is None for name in model.networks):
        return
    switch = " and ".join(f"{name}.queries=one" for name in lookup(recipe.model_name).networks)
    for key, value, only in (
        ("loss.name", recipe.loss.name, "softmax"),
        ("schedule.objective", recipe.schedule.objective, "next"),
    ):
        if value != only:
            raise InputError(
                f"{key} is {value!r}, which trains session vectors, but {recipe.model_name} has several "
                f"queries for each session; set {switch}, or {key}={only}"
            )


# Keys of systems whose ID network is that of `parts.id_network`, or naive fusion with its table.
_ID_NETWORK = ("id.separate_output",)
_TWO_NETWORKS: dict[str, Any] = {
    "builder": "parts.two_networks",
    "networks": ("id", "text"),
    "items": ("id", "text"),
    "reads": _ID_NETWORK,
    "parts": {"id": "alterrec_wo_text", "text": "alterrec_wo_id"},
    "reads_text": True,
}
_UNISREC = ("unisrec.drop", "unisrec.sequence_weight", "model.faithful")

MODELS: dict[str, Entry] = {
    "alterrec": Entry(
        "ID and text network trained alternately, each on hard negatives from the other",
        kind="ours",
        quick=True,
        **_TWO_NETWORKS,
    ),
    "alterrec_aug": Entry(
        "alterrec with the other network's top items as further positives",
        kind="ours",
        quick=True,
        **_TWO_NETWORKS,
    ),
    "alterrec_random": Entry("alterrec's schedule with random negatives", kind="ablation", **_TWO_NETWORKS),
    "alterrec_wo_text": Entry(
        "alterrec's ID network alone", "parts.only_id", kind="ablation", reads=_ID_NETWORK
    ),
    "alterrec_wo_id": Entry(
        "alterrec's text network alone",
        "parts.only_text",
        kind="ablation",
        networks=("text",),
        items=("text",),
        reads_text=True,
    ),
    "independent": Entry(
        "ID and text network trained independently, scores summed", quick=True, **_TWO_NETWORKS
    ),
    "nfrec_sum": Entry(
        "naive fusion: ID and text vectors of an item summed",
        "parts.nfrec_sum",
        items=("id", "text"),
        reads=_ID_NETWORK,
        parts={"id": "id_only", "text": "text_only"},
        reads_text=True,
    ),
    "nfrec_concat": Entry(
        "naive fusion: ID and text vectors of an item concatenated",
        "parts.nfrec_concat",
        items=("id", "text"),
        reads=_ID_NETWORK,
        parts={"id": "id_only", "text": "text_only"},
        quick=True,
        reads_text=True,
    ),
    "id_only": Entry("the ID part of naive fusion alone", "parts.only_id", reads=_ID_NETWORK, quick=True),
    "text_only": Entry(
        "the text part of naive fusion alone",
        "parts.only_text",
        networks=("text",),
        items=("text",),
        reads_text=True,
    ),
    "gru4rec": Entry(
        "gated recurrent units over item ids (Hidasi et al., 2016)",
        "sequential.gru4rec",
        own_start=True,
        quick=True,
    ),
    "core": Entry(
        "weighted mean of item embeddings, cosine scores (Hou et al., 2022)",
        "sequential.core",
        own_start=True,
        quick=True,
    ),
    "bsarec": Entry(
        "causal Transformer over item ids with frequency filters (Shin et al., 2024)",
        "sequential.bsarec",
        reads=_ID_NETWORK,
        quick=True,
    ),
    "sasrec": Entry(
        "causal Transformer over item ids (Kang and McAuley, 2018)",
        "sequential.sasrec",
        reads=_ID_NETWORK,
        quick=True,
    ),
    "srgnn": Entry(
        "gated graph network over the graph of each session (Wu et al., 2019)",
        "sequential.srgnn",
        reads=_ID_NETWORK,
        quick=True,
    ),
    "unisrec": Entry(
        "item embeddings plus text through a mixture of experts, contrastive pretraining (Hou et al., 2022)",
        "unisrec.unisrec",
        items=("id", "text"),
        reads=("model.init_from",),
        pretrains=(*_UNISREC, "unisrec.item_share"),
        parts={"id": "unisrec_id", "text": "unisrec_text"},
        quick=True,
        reads_text=True,
        reads_shortened=True,
    ),
    "unisrec_pretrained": Entry(
        "unisrec whose text adaptor and encoder were pretrained elsewhere",
        "unisrec.unisrec",
        items=("id", "text"),
        reads=("model.init_from",),
        pretrains=_UNISREC,
        reads_text=True,
    ),
    "unisrec_id": Entry("the item embeddings of unisrec alone", "unisrec.unisrec_id", reads=_ID_NETWORK),
    "unisrec_text": Entry(
        "the text part of unisrec alone, pretrained as in unisrec",
        "unisrec.unisrec_text",
        items=("text",),
        reads=("model.init_from",),
        pretrains=(*_UNISREC, "unisrec.item_share"),
        reads_text=True,
        reads_shortened=True,
    ),
    "fdsa": Entry(
        "one Transformer for items, one for their texts or categories (Zhang et al., 2019)",
        "sequential.fdsa",
        items=("id", "text"),
        session_reads=SESSION_ENCODERS["sasrec"],
        reads=("fdsa",),
        parts={"id": "fdsa_id", "text": "fdsa_text"},
        quick=True,
        reads_text=True,
        text_unless={"fdsa.features": "attributes"},
    ),
    "fdsa_id": Entry("the item stream of fdsa alone", "sequential.fdsa_id", reads=_ID_NETWORK),
    "fdsa_text": Entry(
        "the text stream of fdsa alone", "sequential.fdsa_text", items=("text",), reads_text=True
    ),
    "bert4rec": Entry(
        "bidirectional Transformer over item ids, trained on masked items (Sun et al., 2019)",
        "bert4rec.bert4rec",
        reads=("schedule.objective",),
        quick=True,
    ),
    "hggnn": Entry(
        "graph network over all items and users, sessions encoded with their user (Pang et al., 2022)",
        "sequential.hggnn",
        items=(),
        session_reads=("dropout", "model.init"),
        reads=("graph.predecessors",),
        quick=True,
        reads_users=True,
    ),
    "llm2sasrec": Entry(
        "sasrec with an output head; its ID table starts from text vectors (Boz et al., 2024)",
        "sequential.llm2sasrec",
        quick=True,
        reads_text=True,
    ),
    "llm2bert4rec": Entry(
        "bert4rec whose ID table starts from text vectors (Harte et al., 2023)",
        "sequential.llm2bert4rec",
        reads=("schedule.objective",),
        reads_text=True,
    ),
    "s3rec": Entry(
        "sasrec, pretrained with four tasks on attributes, items and segments (Zhou et al., 2020)",
        "s3rec.s3rec",
        items=("id", "text"),
        pretrains=("s3rec", "model.faithful"),
        quick=True,
        reads_text=True,
        text_unless={"s3rec.attributes": "categories"},
    ),
    "popularity": Entry(
        "most frequent items first", "neighbours.Popularity", networks=(), items=(), quick=True
    ),
    "recent_popularity": Entry(
        "items that were most frequent in the last days of training",
        "neighbours.RecentPopularity",
        networks=(),
        items=(),
        quick=True,
    ),
    "itemknn": Entry(
        "items that share sessions with items of the prefix",
        "neighbours.ItemKnn",
        networks=(),
        items=(),
        quick=True,
    ),
    "covisitation": Entry(
        "items that were visited next to items of the prefix, by distance and direction",
        "neighbours.Covisitation",
        networks=(),
        items=(),
        quick=True,
    ),
    "vsknn": Entry(
        "items of the most similar sessions", "neighbours.SessionKnn", networks=(), items=(), quick=True
    ),
}
# The systems without training: every run can report them as baselines.
UNTRAINED = tuple(name for name, entry in MODELS.items() if not entry.trains)

"""Functions that build item encoders, session encoders and networks from a recipe.

They are used by several systems; parts of a single system are in the file of that system.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from alterrec.errors import InputError
from alterrec.graphs import Adjacency
from alterrec.models.base import Network, Recommender
from alterrec.nn.frequency import FrequencyTransformer
from alterrec.nn.graph_encoders import GatedGraph
from alterrec.nn.item_encoders import (
    IdTable,
    JoinedItems,
    MixtureAdapter,
    SeparateIdTables,
    SummedItems,
    TextItems,
    TextProjection,
)
from alterrec.nn.layers import SessionEncoder
from alterrec.nn.mixtures import Queries
from alterrec.nn.session_encoders import Gru, Mean, Recency, Weighted
from alterrec.nn.transformer import (
    AUTHORS,
    RECBOLE,
    Bidirectional,
    SasrecTransformer,
    Transformer,
    TransformerSizes,
)
from alterrec.nn.vector_statistics import principal_components, random_projection
from alterrec.recipe import Recipe
from alterrec.recipe_settings import NetworkSettings
from alterrec.sessions import SessionStore
from alterrec.shards import Shard


@dataclass(frozen=True)
class ModelInputs:
    """The data that models are built from.

    Attributes:
        num_items: size of the catalogue V.
        vectors_VF: text vectors, or None.
        trained_V: bool, items with interactions in the training data.
        train: training sessions, for systems that are built from them. None when a saved run is loaded,
            because its state contains what was built from them.
        shortened_VF: vectors of texts with some words removed, for pretraining that compares them with the
            whole texts; None if not needed.
        categories_VCK: int64 values of each item in each categorical field, padded with -1; None if there are
            none.
        graph: the transition graph of a saved run. None: it is built from ``train``.
        shard: the rows of item tables that this process holds; None: all.
    """

    num_items: int
    vectors_VF: Tensor | None
    trained_V: Tensor
    train: SessionStore | None = None
    categories_VCK: Tensor | None = None
    graph: Adjacency | None = None
    shortened_VF: Tensor | None = None
    shard: Shard | None = None


def id_items(recipe: Recipe, inputs: ModelInputs) -> IdTable:
    own = recipe.id
    sparse = own.optimiser != "adam"
    return IdTable(
        inputs.num_items, recipe.model.dim, own.table_dropout, own.norm, sparse=sparse, shard=inputs.shard
    )


def text_items(recipe: Recipe, inputs: ModelInputs) -> TextItems:
    assert inputs.vectors_VF is not None
    text, dropout = recipe.text, own_dropout(recipe, recipe.text)
    # Whitened vectors are scaled already.
    scaled = text.standardise and not text.whiten
    if text.projection == "mixture":
        return MixtureAdapter(
            inputs.vectors_VF, recipe.model.dim, text.experts, dropout, scaled, shard=inputs.shard
        )
    return TextProjection(
        inputs.vectors_VF,
        recipe.model.dim,
        dropout,
        scaled,
        text.norm,
        hidden=text.hidden,
        shard=inputs.shard,
    )


def own_dropout(recipe: Recipe, network: NetworkSettings) -> float:
    """Return the dropout probability of a network: its own, or the one of the model."""
    return recipe.model.dropout if network.dropout is None else network.dropout


def transformer_sizes(recipe: Recipe, network: NetworkSettings, dim: int) -> TransformerSizes:
    model = recipe.model
    return TransformerSizes(
        dim, model.max_len, model.layers, model.heads, model.inner or 4 * dim, own_dropout(recipe, network)
    )


# Session encoders by the names used in `id.session` and `text.session`.
SESSIONS: dict[str, Callable[[Recipe, NetworkSettings, int], SessionEncoder]] = {
    "mean": lambda recipe, network, dim: Mean(network.input_dropout),
    "recency": lambda recipe, network, dim: Recency(recipe.model.max_len),
    "transformer": lambda *choices: Transformer(transformer_sizes(*choices), AUTHORS),
    "sasrec": lambda *choices: Transformer(transformer_sizes(*choices), RECBOLE),
    "sasrec_original": lambda *choices: SasrecTransformer(transformer_sizes(*choices)),
    "frequency": lambda recipe, network, dim: FrequencyTransformer(
        transformer_sizes(recipe, network, dim),
        alpha=recipe.frequency.alpha,
        bins=recipe.frequency.low // 2 + 1,
        faithful=recipe.model.faithful,
    ),
    "graph": lambda recipe, network, dim: GatedGraph(dim, recipe.graph.steps),
    "weighted": lambda recipe, network, dim: Weighted(
        Transformer(transformer_sizes(recipe, network, dim), RECBOLE), dim, network.input_dropout
    ),
    "gru": lambda recipe, network, dim: Gru(
        dim, recipe.gru.hidden or 2 * dim, recipe.model.layers, own_dropout(recipe, network)
    ),
    "bidirectional": lambda *choices: Bidirectional(
        transformer_sizes(*choices), cuts_first=choices[0].model.faithful
    ),
}


def network_of(
    recipe: Recipe,
    choices: NetworkSettings,
    encoder: nn.Module,
    *,
    blocks: dict[str, slice] | None = None,
    session: SessionEncoder | None = None,
    outputs: Callable[[Tensor | None], Tensor] | None = None,
    objectives: dict[str, nn.Module] | None = None,
) -> Network:
    """Build a network over an item encoder; what is not given is built from the recipe."""
    dim: int = encoder.dim  # type: ignore[assignment]
    queries = queries_of(recipe, choices)
    if session is None and choices.queries == "items":
        # It is never asked: items alone are the queries.
        session = Mean()
    return Network(
        encoder,
        session or SESSIONS[choices.session](recipe, choices, dim),
        choices.temperature,
        blocks,
        outputs=outputs,
        queries=queries,
        cosine=choices.cosine,
        output_dropout=choices.output_dropout,
        objectives=objectives,
        settings=choices,
    )


def queries_of(recipe: Recipe, choices: NetworkSettings) -> Queries | None:
    """Return the weights of the queries of a network; None if the session vector is its only one."""
    if choices.queries == "one":
        return None
    excludes_seen = recipe.data.exclude_seen != "never"
    return Queries(recipe.model.max_len, choices.queries == "both", excludes_seen)


def id_network(recipe: Recipe, inputs: ModelInputs) -> Network:
    encoder = read_and_scored(recipe, inputs)
    outputs = encoder.scored if isinstance(encoder, SeparateIdTables) else None
    return network_of(recipe, recipe.id, encoder, outputs=outputs)


def read_and_scored(recipe: Recipe, inputs: ModelInputs) -> IdTable | SeparateIdTables:
    """Return the ID table, or with ``id.separate_output`` one table to read and one to score."""
    if recipe.id.separate_output:
        return SeparateIdTables(id_items(recipe, inputs), id_items(recipe, inputs))
    return id_items(recipe, inputs)


def text_network(recipe: Recipe, inputs: ModelInputs) -> Network:
    return network_of(recipe, recipe.text, text_items(recipe, inputs))


def alone(network: Network) -> Recommender:
    """Build a system of one network."""
    if network.queries is None and network.blocks:
        return Recommender({"model": network}, dict.fromkeys(network.blocks, 1.0))
    return Recommender({"model": network}, {"model": 1.0} | dict.fromkeys(network.blocks, 0.0))


def only_id(recipe: Recipe, inputs: ModelInputs) -> Recommender:
    return alone(id_network(recipe, inputs))


def only_text(recipe: Recipe, inputs: ModelInputs) -> Recommender:
    return alone(text_network(recipe, inputs))


def two_networks(recipe: Recipe, inputs: ModelInputs) -> Recommender:
    """Build a system of two networks: score = alpha * id + (1 - alpha) * text (Eq. 6)."""
    networks = {"id": id_network(recipe, inputs), "text": text_network(recipe, inputs)}
    alpha = recipe.fusion.alpha
    cold = ~inputs.trained_V if recipe.fusion.cold_by_text and not bool(inputs.trained_V.all()) else None
    return Recommender(networks, {"id": alpha, "text": 1 - alpha}, cold)


def nfrec_sum(recipe: Recipe, inputs: ModelInputs) -> Recommender:
    """Build naive fusion by sum (Appendix A): ID and text vectors of an item are added."""
    fused = SummedItems([read_and_scored(recipe, inputs), text_items(recipe, inputs)])
    outputs = fused.scored if recipe.id.separate_output else None
    return alone(network_of(recipe, recipe.id, fused, outputs=outputs))


def nfrec_concat(recipe: Recipe, inputs: ModelInputs) -> Recommender:
    """Build naive fusion by concatenation (Eq. 7-8): ID and text vectors of an item are concatenated."""
    fused = JoinedItems([read_and_scored(recipe, inputs), text_items(recipe, inputs)])
    outputs = fused.scored if recipe.id.separate_output else None
    width = recipe.model.dim
    blocks = {"id": slice(0, width), "text": slice(width, 2 * width)}
    return alone(network_of(recipe, recipe.id, fused, blocks=blocks, outputs=outputs))


def start_from_text(model: Recommender, recipe: Recipe, inputs: ModelInputs) -> None:
    """Initialise every ID table from text vectors, if ``id.start`` says so.

    Raises:
        InputError: principal components of whitened vectors are asked for, or more than the vectors have.
    """
    if recipe.id.start == "drawn":
        return
    if recipe.id.start == "pca" and recipe.text.whiten:
        raise InputError(
            "id.start is 'pca' and text.whiten is true, but all principal components of whitened vectors "
            "have the same variance, so none are first; set text.whiten=false or id.start=projection"
        )
    assert inputs.vectors_VF is not None
    reduce = {"pca": principal_components, "projection": random_projection}[recipe.id.start]
    count, width = inputs.vectors_VF.shape
    for part in model.modules():
        if isinstance(part, IdTable):
            if recipe.id.start == "pca" and part.dim > min(count, width):
                raise InputError(
                    f"model.dim is {part.dim}, but with id.start 'pca', {count} text vectors of {width} "
                    f"columns allow at most {min(count, width)}; lower model.dim, set id.start=projection, "
                    "or use wider vectors: --text-encoder (all-MiniLM-L6-v2 has 384 columns) or, for lsa, "
                    "text.truncate_dim"
                )
            rows = slice(None) if part.shard is None else part.shard.rows
            with torch.no_grad():
                part.rows_VD.copy_(reduce(inputs.vectors_VF, part.dim, rows))

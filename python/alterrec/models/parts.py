"""From fields of a recipe to the parts of a network: item encoders, session encoders, networks.

What several systems are made of; what only one has lies in its own file.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from torch import Tensor, nn

from alterrec.graphs import Adjacency
from alterrec.models.base import Network, Recommender
from alterrec.nn.frequency import FrequencyTransformer
from alterrec.nn.graph_encoders import GatedGraph
from alterrec.nn.item_encoders import (
    IdTable,
    JoinedItems,
    MixtureAdapter,
    SummedItems,
    TextItems,
    TextProjection,
)
from alterrec.nn.layers import SessionEncoder
from alterrec.nn.session_encoders import Gru, Mean, Recency, Weighted
from alterrec.nn.transformer import (
    AUTHORS,
    RECBOLE,
    Bidirectional,
    SasrecTransformer,
    Transformer,
    TransformerSizes,
)
from alterrec.recipe import Recipe
from alterrec.recipe_settings import NetworkSettings
from alterrec.sessions import SessionStore


@dataclass(frozen=True)
class ModelInputs:
    """What a model must know of the data.

    Attributes:
        num_items: V.
        vectors_VF: text vectors, or None.
        trained_V: bool, items with interactions in training.
        train: training sessions, for systems that are built from them; None where a saved run is loaded,
            whose state has what was made of them.
        shortened_VF: vectors of texts that have lost words, for pretraining that sets them beside the whole
            ones; None where there is none or no text.
        categories_VCK: int64, values of each item in categorical fields, then -1; None where there are none.
        graph: the transitions that a saved run was built from; None where they are made from ``train``.
    """

    num_items: int
    vectors_VF: Tensor | None
    trained_V: Tensor
    train: SessionStore | None = None
    categories_VCK: Tensor | None = None
    graph: Adjacency | None = None
    shortened_VF: Tensor | None = None


def id_items(recipe: Recipe, inputs: ModelInputs) -> IdTable:
    """The ID table."""
    return IdTable(inputs.num_items, recipe.model.dim, recipe.id.table_dropout, recipe.id.norm)


def text_items(recipe: Recipe, inputs: ModelInputs) -> TextItems:
    """The projection of text vectors."""
    assert inputs.vectors_VF is not None
    text, dropout = recipe.text, own_dropout(recipe, recipe.text)
    if text.projection == "mixture":
        return MixtureAdapter(inputs.vectors_VF, recipe.model.dim, text.experts, dropout, text.standardise)
    return TextProjection(inputs.vectors_VF, recipe.model.dim, dropout, text.standardise, text.norm)


def own_dropout(recipe: Recipe, network: NetworkSettings) -> float:
    """The dropout of a network."""
    return recipe.model.dropout if network.dropout is None else network.dropout


def transformer_sizes(recipe: Recipe, network: NetworkSettings, dim: int) -> TransformerSizes:
    """Sizes of a Transformer of width ``dim``."""
    model = recipe.model
    return TransformerSizes(
        dim, model.max_len, model.layers, model.heads, model.inner or 4 * dim, own_dropout(recipe, network)
    )


# Session encoders by the name that `id.session` and `text.session` know.
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
    """A network over an item encoder, all else by the recipe's choices for it where it is not given."""
    dim: int = encoder.dim  # type: ignore[assignment]
    return Network(
        encoder,
        session or SESSIONS[choices.session](recipe, choices, dim),
        choices.temperature,
        blocks,
        outputs=outputs,
        cosine=choices.cosine,
        output_dropout=choices.output_dropout,
        objectives=objectives,
        settings=choices,
    )


def id_network(recipe: Recipe, inputs: ModelInputs) -> Network:
    """The ID network."""
    return network_of(recipe, recipe.id, id_items(recipe, inputs))


def text_network(recipe: Recipe, inputs: ModelInputs) -> Network:
    """The text network."""
    return network_of(recipe, recipe.text, text_items(recipe, inputs))


def alone(network: Network) -> Recommender:
    """A system of one network."""
    parts = network.blocks or {"model": slice(None)}
    return Recommender({"model": network}, dict.fromkeys(parts, 1.0))


def only_id(recipe: Recipe, inputs: ModelInputs) -> Recommender:
    """The ID network as a system."""
    return alone(id_network(recipe, inputs))


def only_text(recipe: Recipe, inputs: ModelInputs) -> Recommender:
    """The text network as a system."""
    return alone(text_network(recipe, inputs))


def two_networks(recipe: Recipe, inputs: ModelInputs) -> Recommender:
    """Eq. 6: score = alpha * id + (1 - alpha) * text."""
    networks = {"id": id_network(recipe, inputs), "text": text_network(recipe, inputs)}
    alpha = recipe.fusion.alpha
    cold = ~inputs.trained_V if recipe.fusion.cold_by_text and not bool(inputs.trained_V.all()) else None
    return Recommender(networks, {"id": alpha, "text": 1 - alpha}, cold)


def nfrec_sum(recipe: Recipe, inputs: ModelInputs) -> Recommender:
    """Naive fusion (Appendix A): the ID and the text vector of an item are summed."""
    fused = SummedItems([id_items(recipe, inputs), text_items(recipe, inputs)])
    return alone(network_of(recipe, recipe.id, fused))


def nfrec_concat(recipe: Recipe, inputs: ModelInputs) -> Recommender:
    """Naive fusion (Eq. 7-8): the ID and the text vector of an item are joined."""
    fused = JoinedItems([id_items(recipe, inputs), text_items(recipe, inputs)])
    width = recipe.model.dim
    blocks = {"id": slice(0, width), "text": slice(width, 2 * width)}
    return alone(network_of(recipe, recipe.id, fused, blocks=blocks))

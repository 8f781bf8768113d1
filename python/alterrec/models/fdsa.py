"""FDSA: items and their features in two streams; and each stream alone."""

from __future__ import annotations

from torch import nn

from alterrec.errors import InputError
from alterrec.models.base import Recommender
from alterrec.models.parts import (
    ModelInputs,
    alone,
    id_items,
    network_of,
    only_id,
    text_items,
    transformer_sizes,
)
from alterrec.nn.item_encoders import CategoryFeatures, JoinedItems
from alterrec.nn.transformer import TwoStreams
from alterrec.recipe import Recipe


def fdsa(recipe: Recipe, inputs: ModelInputs) -> Recommender:
    """FDSA: one causal Transformer over items and one over their features, joined, scored against item rows.

    Paper: Zhang et al., "Feature-level Deeper Self-Attention Network for Sequential Recommendation", IJCAI
    2019.

    Public code: RUCAIBox/UniSRec (``baselines/fdsa.py``), whose feature is the projected text vector and
    which AlterRec's comparison ran, and RecBole 1.2.1, whose features are categories. ``fdsa.features``
    chooses between them: ``"text"``, or ``"attributes"`` (``data.categories``) under attention over fields.
    Both are tested for parity.

    Mended: the code with text draws its frozen text table anew with N(0, 0.02) at construction, together with
    all other tables, so as published it never reads a text. Here the vectors are those of the texts.

    Deviations:
        - the softmax of the public codes has a column for padding, ours the items alone;
        - text vectors have their columns standardised where ``text.standardise`` says so (preset ``best``);
        - an item without a value in a field has zeros there; RecBole gives fields of one value an item a
          learned row for none;
        - the preset ``original`` reads attributes, as the paper does, in RecBole's sizes and with its
          cross-entropy.

    Raises:
        InputError: attributes are asked for and the data has no categories.
    """
    table = id_items(recipe, inputs)
    read = JoinedItems([table, _features(recipe, inputs)])
    session = TwoStreams(transformer_sizes(recipe, recipe.id, recipe.model.dim))
    return alone(network_of(recipe, recipe.id, read, session=session, outputs=table.forward))


def fdsa_id(recipe: Recipe, inputs: ModelInputs) -> Recommender:
    """FDSA's item stream alone, which is SASRec in RecBole's layers (Figures 2 and 8 of AlterRec's paper)."""
    return only_id(recipe, inputs)


def fdsa_text(recipe: Recipe, inputs: ModelInputs) -> Recommender:
    """FDSA's text stream alone: the same Transformer reads projected texts and is scored against them.

    AlterRec's paper (Figures 2 and 8) compares it without saying what its scores are products with; FDSA
    itself has no text among its candidates.
    """
    return alone(network_of(recipe, recipe.id, text_items(recipe, inputs)))


def _features(recipe: Recipe, inputs: ModelInputs) -> nn.Module:
    if recipe.fdsa.features == "text":
        return text_items(recipe, inputs)
    if inputs.categories_VCK is None:
        raise InputError(
            "fdsa.features is 'attributes', but the items have no categories; give a column called "
            "category, categories, brand or taxonomy, set data.categories=COLUMN, or set fdsa.features=text"
        )
    return CategoryFeatures(inputs.categories_VCK, recipe.model.dim)

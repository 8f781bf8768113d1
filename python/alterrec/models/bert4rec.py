"""BERT4Rec: a two-way Transformer trained to predict masked items.

Legend: N samples, L places, M masked places in the loss, D width, E columns of the scored table.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from alterrec.models.base import Network, Recommender
from alterrec.models.batches import ObjectiveBatch
from alterrec.models.parts import ModelInputs, alone, id_items, network_of
from alterrec.nn.item_encoders import BiasedItems
from alterrec.nn.layers import real_places
from alterrec.nn.losses import ScoreBuffer, candidate_cross_entropy
from alterrec.nn.transformer import Bidirectional
from alterrec.parallel import mean_of_all
from alterrec.recipe import Recipe
from alterrec.recipe_systems import ClozeSettings


def bert4rec(recipe: Recipe, inputs: ModelInputs) -> Recommender:
    """BERT4Rec with RecBole's layers: two-way attention, a mask token after the prefix, a bias per item.

    Paper: Sun et al., "BERT4Rec: Sequential Recommendation with Bidirectional Encoder Representations from
    Transformer", CIKM 2019.

    Public code: FeiSun/BERT4Rec, and RecBole 1.2.1. The layers and the shares of masks are RecBole's, tested
    for parity.

    Faults of RecBole that ``model.faithful`` reproduces:
        - it cuts the first item of every prefix to make room for the mask token, so it always loses the
          oldest item and reads nothing of a prefix with one item; ours cuts it only if there is no room;
        - it takes a masked first item for padding of the list of masks, so this item never enters the loss.

    Deviations from RecBole:
        - RecBole trains on prefixes without the next item, so it never masks the last item of a session;
          ours includes the next item (the original masks whole sessions);
        - ours draws for each sample whether only the last item is masked, RecBole for each batch;
        - in ours every sample has a mask; in RecBole a sample may have none;
        - in ours all masks enter the loss, in RecBole the last 10 of 50 places (the original: at most 30);
        - RecBole's softmax has a column for padding, ours has items only; if evaluation excludes the items
          of the prefix, the loss excludes the items that the masked session shows.

    Deviations of the preset ``original`` from FeiSun/BERT4Rec:
        - one dropout rate; the code drops 0.5 of states and 0.2 of attention;
        - each item is masked independently; the code masks a fixed share of the session's items;
        - sequences are prefixes of sessions with their next item; the code uses whole sessions, in eleven
          copies;
        - the learning rate is constant and gradients are not clipped; in the code the rate rises for 100
          steps and then falls linearly to 0, weights decay by 0.01, and gradients are clipped to norm 5.
    """
    biased = BiasedItems(id_items(recipe, inputs), inputs.num_items)
    fills_in = recipe.id.session == "bidirectional"
    objectives: dict[str, nn.Module] = (
        {"cloze": ClozeObjective(recipe.cloze, recipe.model.faithful)} if fills_in else {}
    )
    return alone(network_of(recipe, recipe.id, biased, outputs=biased.scored, objectives=objectives))


class ClozeObjective(nn.Module):
    """Prediction of masked items of whole sessions (Section 3.6).

    In a share ``last`` of the samples the last item alone is masked, as it will be in use; in the others
    each item with chance ``ratio``, at least one of them.

    Example:
        >>> from alterrec.recipe import resolve
        >>> recipe = resolve("bert4rec", overrides={"model.dim": 4})
        >>> network = bert4rec(recipe, ModelInputs(9, None, torch.ones(9, dtype=torch.bool))).network("model")
        >>> masked_NL = network.objectives["cloze"].masks(torch.rand(8, 6), torch.full((8,), 5))
        >>> masked_NL.shape, bool(masked_NL.any(1).all())
        (torch.Size([8, 5]), True)
    """

    def __init__(self, choice: ClozeSettings, faithful: bool) -> None:
        super().__init__()
        self.last = choice.last
        self.ratio = choice.ratio
        self.faithful = faithful

    def forward(self, network: Network, inputs: ObjectiveBatch) -> Tensor:
        """Return the mean cross-entropy of the masked items over the catalogue, a scalar."""
        assert isinstance(network.session, Bidirectional)
        items_NL, length_N = inputs.sequences(network.session.max_len)
        masked_NL = self.masks(inputs.draws(1 + items_NL.shape[1]), length_N)
        asked_NL = masked_NL
        if self.faithful:
            asked_NL = masked_NL & (torch.arange(items_NL.shape[1], device=items_NL.device) > 0)
        loss = masked_item_loss(
            network,
            items_NL,
            length_N,
            masked_NL,
            asked_NL,
            exclude_seen=inputs.exclude_seen,
            buffer=inputs.buffer,
        )
        count = len(inputs.samples_N if inputs.whole is None else inputs.whole.samples)
        return mean_of_all(loss, int(asked_NL.sum()), count)

    def masks(self, draws: Tensor, length_N: Tensor) -> Tensor:
        """Return masked places (N, L) for uniform draws (N, 1 + L): one per sample, then one per place."""
        places_L = torch.arange(draws.shape[1] - 1, device=draws.device)
        draws_NL = draws[:, 1:].masked_fill(~real_places(draws[:, 1:], length_N), torch.inf)
        # The smallest draw is masked in any case, so that every sample has something to learn from.
        some_NL = (draws_NL < self.ratio) | (draws_NL == draws_NL.amin(1, keepdim=True))
        return torch.where(draws[:, :1] < self.last, places_L == length_N[:, None] - 1, some_NL)


def masked_item_loss(
    network: Network,
    items_NL: Tensor,
    length_N: Tensor,
    masked_NL: Tensor,
    asked_NL: Tensor,
    *,
    exclude_seen: bool = False,
    buffer: ScoreBuffer | None = None,
) -> Tensor:
    """Mean cross-entropy over the catalogue of the items at ``asked_NL``, a scalar.

    Args:
        network: its session encoder is :class:`Bidirectional`.
        items_NL: int64 whole sessions, right-padded.
        length_N: int64, items of each.
        masked_NL: bool, places whose item the encoder does not see.
        asked_NL: bool, those of them that enter the loss.
        exclude_seen: items that a session shows are no candidates of its masked ones.
        buffer: where scores are written.
    """
    assert isinstance(network.session, Bidirectional)
    tables = network.item_tables()
    vectors_MD = network.session.masked_vectors(tables.inputs, items_NL, length_N, masked_NL, asked_NL)
    vectors_ME = network.as_scored(vectors_MD, tables)
    if not len(vectors_ME):
        return vectors_ME.sum()
    seen_ML = None
    if exclude_seen:
        hidden_NL = masked_NL | ~real_places(items_NL, length_N)
        seen_ML = items_NL.masked_fill(hidden_NL, -1)[asked_NL.nonzero()[:, 0]]
    targets_M1 = items_NL[asked_NL][:, None]
    one, table_VE = torch.ones(1, device=vectors_ME.device), tables.outputs.to(vectors_ME.dtype)
    return candidate_cross_entropy(vectors_ME, table_VE, targets_M1, one, None, seen_ML, buffer=buffer)

"""UniSRec: sessions read through the text of their items, pretrained by contrast.

Legend: N samples, L places, V items, U items of a batch, D width, F width of text vectors.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from alterrec.models.base import Network, Recommender, Tables
from alterrec.models.batches import ObjectiveBatch, SessionBatch
from alterrec.models.parts import ModelInputs, alone, id_items, network_of, only_id, text_items
from alterrec.nn.item_encoders import SummedItems, TextItems
from alterrec.nn.layers import real_places
from alterrec.nn.losses import ScoreBuffer
from alterrec.parallel import joined, share
from alterrec.recipe import Recipe
from alterrec.recipe_systems import UnisrecSettings
from alterrec.sessions import derive_seed

# Purposes of random seeds: which items or texts are changed, and whether a batch changes items or texts.
PLACES, KIND = range(2)


def unisrec(recipe: Recipe, inputs: ModelInputs) -> Recommender:
    """UniSRec: texts through a mixture of experts plus item rows, read by a Transformer, scored by cosine.

    For ``schedule.pretrain`` epochs the mixture and the Transformer are trained on text alone
    (:class:`ContrastiveObjective`), on the user's own data. Then positions and blocks are frozen
    (``schedule.freeze``) and item rows join (the transductive setting). ``unisrec_text`` is the inductive
    setting, without item rows; ``unisrec_id`` has item rows alone. ``unisrec_pretrained`` starts from weights
    that were pretrained elsewhere (``model.init_from``).

    Paper: Hou et al., "Towards Universal Sequence Representation Learning for Recommender Systems", KDD 2022.

    Public code: RUCAIBox/UniSRec, tested for parity: mixture, both settings, both losses of pretraining.

    A step projects each text once per expert, so its time grows with the number of columns of the vectors:
    with 384 columns, an epoch on MovieTweetings takes nearly four times as long as SASRec's.

    Corrected, and reproduced with ``model.faithful``:
        - in-batch negatives equal to the sample's own target leave the denominator; the code counts them as
          exp(0);
        - item drop removes items; in the code a dropped item replaces the last kept item before it.

    Deviations:
        - the softmax over the catalogue has no column for padding;
        - noise of the gates and dropout of the mixture are drawn once per item and step; the code draws them
          for each place at which the item is read, and separately for reading and scoring;
        - evaluation keeps the temperature, which the code leaves out; this changes no rank;
        - words are removed once, with a fixed seed, as in the code, but a text keeps at least one word; given
          vectors (``data.vectors``) have no words, so all batches lose items;
        - columns of text vectors are standardised if ``text.standardise`` is set (preset ``best``).
    """
    adapter = text_items(recipe, inputs)
    summed = SummedItems([id_items(recipe, inputs), adapter])
    return alone(network_of(recipe, recipe.id, summed, objectives=_pretraining(recipe, inputs, adapter)))


def unisrec_text(recipe: Recipe, inputs: ModelInputs) -> Recommender:
    """UniSRec without item rows, its inductive setting; otherwise as :func:`unisrec`."""
    adapter = text_items(recipe, inputs)
    return alone(network_of(recipe, recipe.id, adapter, objectives=_pretraining(recipe, inputs, adapter)))


def unisrec_id(recipe: Recipe, inputs: ModelInputs) -> Recommender:
    """UniSRec's item rows alone: RecBole's SASRec by cosine (Figures 2 and 8 of AlterRec's paper)."""
    return only_id(recipe, inputs)


def _pretraining(recipe: Recipe, inputs: ModelInputs, adapter: TextItems) -> dict[str, nn.Module]:
    contrast = ContrastiveObjective(adapter, inputs.shortened_VF, recipe.unisrec, recipe.model.faithful)
    return {"pretrain": contrast}


class ContrastiveObjective(nn.Module):
    """In-batch InfoNCE of sessions with their next items, and with changed copies of themselves.

    Both use text only. In each batch, either items of the copies or words of their texts are removed.

    Args:
        adapter: encoder of text vectors, a module of the network.
        shortened_VF: vectors of the texts with some words removed, or None.
        choices: shares and weight.
        faithful: repeat the faults of the public code, see :func:`unisrec`.
    """

    readings = 2
    shortened_VF: Tensor | None

    def __init__(
        self,
        adapter: TextItems,
        shortened_VF: Tensor | None,
        choices: UnisrecSettings,
        faithful: bool = False,
    ) -> None:
        super().__init__()
        # Methods, for a module would be in the network's state a second time.
        self.rows_of, self.encode = adapter.forward, adapter.encode
        self.register_buffer("shortened_VF", shortened_VF, persistent=False)
        self.choices = choices
        self.faithful = faithful

    def forward(self, network: Network, inputs: ObjectiveBatch) -> Tensor:
        width = inputs.batch.items_RL.shape[1]
        keep_NL = inputs.draws(width, PLACES) >= self.choices.drop
        draw = derive_seed(inputs.seed, KIND, inputs.number) / 2**64
        all_targets_N = inputs.targets_N if inputs.whole is None else torch.from_numpy(inputs.whole.targets)
        all_targets_N = all_targets_N.to(inputs.targets_N.device)
        words = self.shortened_VF is not None and draw >= self.choices.item_share
        to_items, to_sessions = self.losses(
            network, inputs.batch, inputs.targets_N, keep_NL, words=words, all_targets_N=all_targets_N
        )
        return to_items + self.choices.sequence_weight * to_sessions

    def losses(
        self,
        network: Network,
        batch: SessionBatch,
        targets_N: Tensor,
        keep_NL: Tensor,
        *,
        words: bool,
        all_targets_N: Tensor | None = None,
    ) -> tuple[Tensor, Tensor]:
        """Return the loss of sessions with next items and that of sessions with their copies, two scalars.

        Args:
            network: its session encoder and temperature are used.
            batch: sessions.
            targets_N: the item after each session.
            keep_NL: bool, places that the copies do not change.
            words: whether words are removed at the other places; if not, the items are.
            all_targets_N: the targets of all processes; default: ``targets_N``.
        """
        items_NL, length_N = batch.prefixes(pad=0), batch.length_N
        both = torch.cat([items_NL.flatten(), targets_N])
        ids_U, places = both.unique(return_inverse=True)  # type: ignore[no-untyped-call]
        places_NL, targets_at_N = places[: -len(targets_N)].view(items_NL.shape), places[-len(targets_N) :]
        table_UD = self.rows_of(ids_U)

        if words:
            assert self.shortened_VF is not None
            other_UD = torch.cat(
                [table_UD, self.encode(self.shortened_VF[ids_U], ids_U + len(self.shortened_VF))]
            )
            other_NL, other_length_N = torch.where(keep_NL, places_NL, places_NL + len(ids_U)), length_N
        else:
            other_UD = table_UD
            other_NL, other_length_N = without_items(places_NL, length_N, keep_NL, faithful=self.faithful)

        temperature = network.log_temperature.exp().to(table_UD)
        sessions_ND = _unit_sessions(network, table_UD, places_NL, length_N) / temperature
        others_ND = _unit_sessions(network, other_UD, other_NL, other_length_N)
        items_ND = F.normalize(table_UD[targets_at_N])
        columns_N = targets_N if all_targets_N is None else all_targets_N
        first = share(len(columns_N)).start

        def loss(others: Tensor) -> Tensor:
            logits_MN = sessions_ND @ joined(others, len(columns_N)).T
            return in_batch_cross_entropy(logits_MN, targets_N, columns_N, first, faithful=self.faithful)

        return loss(items_ND), loss(others_ND)


def _unit_sessions(network: Network, table_UD: Tensor, items_NL: Tensor, length_N: Tensor) -> Tensor:
    batch = SessionBatch.of_prefixes(items_NL, length_N)
    return F.normalize(network.encode_sessions(batch, Tables(table_UD, table_UD, ScoreBuffer())))


def in_batch_cross_entropy(
    logits_MN: Tensor,
    targets_M: Tensor,
    columns_N: Tensor | None = None,
    first: int = 0,
    *,
    faithful: bool = False,
) -> Tensor:
    """Mean cross-entropy of each row's own column against the columns of samples with other targets.

    Args:
        logits_MN: logits of sample and column.
        targets_M: int64 targets of the samples.
        columns_N: int64 targets of the columns. Default: those of the samples.
        first: column of the first sample; the others follow.
        faithful: columns with the row's own target have logit 0 instead of none.

    Example:
        >>> logits = torch.tensor([[1.0, 5.0, 0.0], [5.0, 1.0, 0.0], [0.0, 0.0, 1.0]])
        >>> loss = in_batch_cross_entropy(logits, torch.tensor([7, 7, 2]))
        >>> round(loss.item(), 4)  # (2 log(1 + exp(-1)) + log(1 + 2 exp(-1))) / 3
        0.3927
    """
    own_M = first + torch.arange(len(targets_M), device=targets_M.device)
    same_MN = targets_M[:, None] == (targets_M if columns_N is None else columns_N)
    same_MN.scatter_(1, own_M[:, None], False)
    return F.cross_entropy(logits_MN.masked_fill(same_MN, 0.0 if faithful else -torch.inf), own_M)


def without_items(
    items_NL: Tensor, length_N: Tensor, keep_NL: Tensor, *, faithful: bool = False
) -> tuple[Tensor, Tensor]:
    """Right-padded sessions less the items that are not kept, and their lengths; the first item is kept.

    Args:
        items_NL: items.
        length_N: items of each session.
        keep_NL: bool, places to keep.
        faithful: an item that is not kept takes the place of the last one before it that is.

    Example:
        >>> items, keep = torch.tensor([[4, 2, 3, 9]]), torch.tensor([[False, True, False, True]])
        >>> without_items(items, torch.tensor([3]), keep)[0][:, :2], without_items(
        ...     items, torch.tensor([3]), keep, faithful=True
        ... )[0][:, :2]
        (tensor([[4, 2]]), tensor([[4, 3]]))
    """
    real_NL = real_places(items_NL, length_N)
    keep_NL = keep_NL | ~real_NL
    keep_NL[:, 0] = True
    # The last of those that share a slot stays: a kept one, or the one before the next that is kept.
    stays_NL = F.pad(keep_NL[:, 1:], (0, 1), value=True) if faithful else keep_NL
    order_NL = (~stays_NL).int().argsort(dim=1, stable=True)
    return items_NL.gather(1, order_NL), (keep_NL & real_NL).sum(1)

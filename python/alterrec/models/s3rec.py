"""S3-Rec: a Transformer pretrained on attributes, masked items and segments, then SASRec.

Legend: R rows of a batch, L places, V items, M places that a task asks about, A attributes, P attributes of a
place, C categorical fields, K values of a field, D width.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from alterrec.errors import InputError
from alterrec.models.base import Network, Recommender
from alterrec.models.batches import ObjectiveBatch, SessionBatch
from alterrec.models.parts import ModelInputs, alone, id_items, network_of, text_items
from alterrec.nn.item_encoders import TextItems
from alterrec.nn.layers import left_padded, on_device, real_places
from alterrec.nn.losses import ScoreBuffer, multi_label_loss
from alterrec.nn.transformer import Transformer
from alterrec.parallel import share
from alterrec.recipe import Recipe
from alterrec.recipe_systems import S3RecSettings

# Purposes of draws.
MASKS, NEGATIVES, SEGMENTS = range(3)


def s3rec(recipe: Recipe, inputs: ModelInputs) -> Recommender:
    """S3-Rec: SASRec after ``schedule.pretrain`` epochs of four self-supervised tasks with two-way attention.

    Paper: Zhou et al., "S3-Rec: Self-Supervised Learning for Sequential Recommendation with Mutual
    Information Maximization", CIKM 2020. Public code: RUCAIBox/CIKM2020-S3Rec (the authors'), RecBole 1.2.1,
    and RUCAIBox/UniSRec, whose variant reads text vectors instead of attributes. The AlterRec paper compares
    this variant. Its task weights are the default; the authors' are in the preset ``original``.

    Kept as in the public codes:

    - A preference is a sigmoid of a difference of sigmoids. The paper's f(., .) is a sigmoid of a bilinear
      form, and with one negative its InfoNCE is the sigmoid of the difference; all public codes do the same.
    - Attributes are learned by binary cross-entropy over all of them, as in all public codes; the paper
      writes InfoNCE.
    - With text, an item's only attribute is its own text vector among those of all items.
    - The negative of a segment is a slice of the batch's sessions laid end to end. It may lie across two
      sessions, or once in many be the segment itself.

    Corrected; ``model.faithful`` reproduces the first three faults:

    - RecBole and UniSRec pretrain left-padded and fine-tune right-padded, so that what positions learned is
      another place's. Here all is right-padded.
    - UniSRec leaves the attributes right-padded but pads sessions left, so a place is asked about
      another place's item, or about padding.
    - The negative of a masked item may be the mask token in all public codes. Here it is an item that the
      session does not contain.
    - UniSRec's start values overwrite its text vectors with noise. Here they stay.
    - Padding and mask token are candidates in the public fine-tuning loss. Here rows that are no items are
      never candidates.

    Further deviations:

    - Losses are summed over places and sessions in the public codes; here the sum is divided by the number
      of sessions. Adam's steps are the same, and the curve does not depend on the batch.
    - A pretraining sequence is a prefix with the item after it, so that the last item of a session is
      learned from, as in the authors' code; RecBole and UniSRec pretrain on prefixes alone.
    - Categories of several fields are one set of attributes. The authors' attributes have a row for padding.
    - One dropout rate for attention and states, and one batch size for pretraining and fine-tuning.

    Raises:
        InputError: no categories where the recipe asks for them, or a session encoder that cannot look both
            ways.

    Example:
        >>> from alterrec.recipe import resolve
        >>> inputs = ModelInputs(9, torch.randn(9, 5), torch.ones(9, dtype=torch.bool))
        >>> list(s3rec(resolve("s3rec", overrides={"model.dim": 4}), inputs).network("model").objectives)
        ['pretrain']
    """
    tasks = FourTasks(
        _attributes(recipe, inputs),
        recipe.model.dim,
        recipe.model.max_len,
        recipe.s3rec,
        recipe.model.faithful,
    )
    network = network_of(recipe, recipe.id, id_items(recipe, inputs), objectives={"pretrain": tasks})
    if not isinstance(network.session, Transformer):
        raise InputError(
            f"id.session is {recipe.id.session!r}; s3rec needs sasrec or transformer, because its "
            "pretraining attends to both directions"
        )
    return alone(network)


class TextAttributes(nn.Module):
    """Every item is its own attribute: its projected text.

    With ``padded`` a row V of text zero follows, which places of padding have.

    Example:
        >>> from alterrec.nn.item_encoders import TextProjection
        >>> attributes = TextAttributes(TextProjection(torch.randn(5, 8), dim=4))
        >>> attributes().shape, attributes.labels(torch.tensor([[2, 0]])).tolist()
        (torch.Size([5, 4]), [[[2], [0]]])
    """

    def __init__(self, text: TextItems, *, padded: bool = False) -> None:
        super().__init__()
        self.text = text
        self.padded = padded

    def forward(self) -> Tensor:
        table_VD: Tensor = self.text()
        if not self.padded:
            return table_VD
        return torch.cat([table_VD, self.text.encode(torch.zeros_like(self.text.vectors_VF[:1]))])

    def labels(self, items_RL: Tensor) -> Tensor:
        """Attributes (R, L, 1) of the items at places."""
        return items_RL[:, :, None]


class CategoryAttributes(nn.Module):
    """Every value of a categorical field is an attribute with a learned row.

    Example:
        >>> attributes = CategoryAttributes(torch.tensor([[[0, 2], [1, -1]], [[1, -1], [0, -1]]]), dim=4)
        >>> attributes().shape, attributes.labels(torch.tensor([[0, 1]])).tolist()
        (torch.Size([5, 4]), [[[0, 2, 4, -1], [1, -1, 3, -1]]])
    """

    categories_VCK: Tensor
    first_C1: Tensor

    def __init__(self, categories_VCK: Tensor, dim: int) -> None:
        super().__init__()
        self.register_buffer("categories_VCK", categories_VCK)
        sizes_C = 1 + categories_VCK.amax((0, 2))
        # Values of each field follow those of the field before.
        self.register_buffer("first_C1", (sizes_C.cumsum(0) - sizes_C)[:, None], persistent=False)
        self.rows_AD = nn.Parameter(torch.empty(int(sizes_C.sum()), dim))

    def forward(self) -> Tensor:
        return self.rows_AD

    def labels(self, items_RL: Tensor) -> Tensor:
        """Attributes (R, L, P) of the items at places; -1 for none."""
        values_RLCK = self.categories_VCK[items_RL]
        return torch.where(values_RLCK < 0, -1, values_RLCK + self.first_C1).flatten(-2)


class Rows(NamedTuple):
    """Inputs and targets of the four tasks for one batch, as item ids; V is the mask token.

    Attributes:
        items_RL: the sessions.
        real_RL: bool, places that are not padding.
        masked_RL: bool, places whose item is masked.
        negatives_RL: for each place, an item that is not in the session.
        described_RL: items whose attributes are asked for.
        context_RL: the sessions with a segment masked.
        positive_RL: that segment, all other places masked.
        negative_RL: another segment in its place.
    """

    items_RL: Tensor
    real_RL: Tensor
    masked_RL: Tensor
    negatives_RL: Tensor
    described_RL: Tensor
    context_RL: Tensor
    positive_RL: Tensor
    negative_RL: Tensor


class States(NamedTuple):
    """States of :class:`Rows`: all places of the masked sessions, the last place of the segments."""

    masked_RLD: Tensor
    context_RD: Tensor
    positive_RD: Tensor
    negative_RD: Tensor


class FourTasks(nn.Module):
    """Section 4 of the paper: attributes of seen items (AAP), masked items (MIP), their attributes (MAP), and
    masked segments (SP).

    Args:
        attributes: :class:`TextAttributes` or :class:`CategoryAttributes`.
        dim: width D.
        max_len: most items of a session that are read.
        choice: the recipe's table ``s3rec``.
        faithful: repeat faults of the public code, see :func:`s3rec`.
    """

    readings = 4

    def __init__(
        self,
        attributes: TextAttributes | CategoryAttributes,
        dim: int,
        max_len: int,
        choice: S3RecSettings,
        faithful: bool = False,
    ) -> None:
        super().__init__()
        self.attributes = attributes
        self.max_len = max_len
        self.choice = choice
        self.faithful = faithful
        self.mask_D = nn.Parameter(torch.empty(dim))
        self.aap = nn.Linear(dim, dim)
        self.mip = nn.Linear(dim, dim)
        self.map = nn.Linear(dim, dim)
        self.sp = nn.Linear(dim, dim)

    def forward(self, network: Network, inputs: ObjectiveBatch) -> Tensor:
        """Return the weighted sum of the four losses, divided by the number of sequences; a scalar."""
        table_VD = network.item_tables().inputs
        rows = self.rows(of_all(inputs), len(table_VD))
        mine = share(len(rows.items_RL))
        rows = Rows(*(each[mine] for each in rows))
        losses = self.losses(network, table_VD, rows, inputs.buffer)
        return self.weighted(losses) / len(rows.items_RL)

    def rows(self, inputs: ObjectiveBatch, num_items: int) -> Rows:
        """Draw the masks, negatives and segments of a batch."""
        items_RL, length_R = inputs.sequences(self.max_len)
        real_RL = real_places(items_RL, length_R)
        described_RL = items_RL
        if self.faithful:
            if isinstance(self.attributes, TextAttributes):
                described_RL = items_RL.masked_fill(~real_RL, num_items)
                described_RL = F.pad(described_RL, (0, self.max_len - items_RL.shape[1]), value=num_items)
            items_RL, real_RL = left_padded(items_RL, length_R, self.max_len)
            if isinstance(self.attributes, CategoryAttributes):
                described_RL = items_RL
        width = items_RL.shape[1]
        masked_RL = real_RL & (inputs.draws(width, MASKS) < self.choice.mask)
        if self.choice.mask_last:
            masked_RL = masked_RL.scatter(1, last_place(real_RL)[:, None], True)
        negatives_RL = other_items(
            inputs.draws(width, NEGATIVES), items_RL, real_RL, num_items + self.faithful
        )
        segments = masked_segments(inputs.draws(3, SEGMENTS), items_RL, real_RL, num_items)
        return Rows(items_RL, real_RL, masked_RL, negatives_RL, described_RL, *segments)

    def read(self, network: Network, table_VD: Tensor, rows: Rows) -> States:
        """Encode with bidirectional attention over all places that are not padding."""
        assert isinstance(network.session, Transformer)
        states, rows_WD = network.session.states, self._with_mask(table_VD)
        seen_R11L, last_R1 = rows.real_RL[:, None, None, :], last_place(rows.real_RL)[:, None]
        masked_RL = rows.items_RL.masked_fill(rows.masked_RL, len(table_VD))
        segments = (rows.context_RL, rows.positive_RL, rows.negative_RL)
        # One after the other: a batch of all four is past what the allocator uses again.
        return States(
            states(F.embedding(masked_RL, rows_WD), seen_R11L),
            *(states(F.embedding(read_RL, rows_WD), seen_R11L, last_R1)[:, 0] for read_RL in segments),
        )

    def losses(
        self, network: Network, table_VD: Tensor, rows: Rows, buffer: ScoreBuffer | None = None
    ) -> dict[str, Tensor]:
        """Return the loss of each task, summed over places and rows."""
        states = self.read(network, table_VD, rows)
        attributes_AD = self.attributes()
        labels_RLP = self.attributes.labels(rows.described_RL)
        rows_WD = self._with_mask(table_VD)

        def described(layer: nn.Module, asked_RL: Tensor) -> Tensor:
            vectors_MD = layer(states.masked_RLD[asked_RL])
            return multi_label_loss(
                vectors_MD, attributes_AD.to(vectors_MD.dtype), labels_RLP[asked_RL], buffer
            )

        masked_RL = rows.masked_RL
        return {
            "aap": described(self.aap, rows.real_RL & ~masked_RL),
            "mip": preference_loss(
                self.mip(states.masked_RLD[masked_RL]),
                F.embedding(rows.items_RL[masked_RL], rows_WD),
                F.embedding(rows.negatives_RL[masked_RL], rows_WD),
            ),
            "map": described(self.map, masked_RL),
            "sp": preference_loss(self.sp(states.context_RD), states.positive_RD, states.negative_RD),
        }

    def weighted(self, losses: dict[str, Tensor]) -> Tensor:
        return torch.stack([getattr(self.choice, name) * loss for name, loss in losses.items()]).sum()

    def _with_mask(self, table_VD: Tensor) -> Tensor:
        return torch.cat([table_VD, self.mask_D[None]])


def of_all(inputs: ObjectiveBatch) -> ObjectiveBatch:
    """Return the inputs of the whole batch, of which this process may have a part."""
    if inputs.whole is None or len(inputs.whole.samples) == len(inputs.samples_N):
        return inputs
    device = str(inputs.targets_N.device)
    batch, targets_N = SessionBatch.of(inputs.whole, device), on_device(inputs.whole.targets, device)
    return inputs._replace(batch=batch, targets_N=targets_N, samples_N=inputs.whole.samples)


def preference_loss(vectors_MD: Tensor, positives_MD: Tensor, negatives_MD: Tensor) -> Tensor:
    """``-log sigmoid(f(positive) - f(negative))``, f the sigmoid of an inner product; summed.

    Example:
        >>> one, zero = torch.ones(1, 2), torch.zeros(1, 2)
        >>> round(preference_loss(one, one, zero).item(), 4)  # log(1 + exp(1/2 - 1 / (1 + exp(-2))))
        0.5208
    """
    liked_M = (vectors_MD * positives_MD).sum(-1).sigmoid()
    other_M = (vectors_MD * negatives_MD).sum(-1).sigmoid()
    return -F.logsigmoid(liked_M - other_M).sum()


def other_items(draws_RL: Tensor, items_RL: Tensor, real_RL: Tensor, num_items: int) -> Tensor:
    """Map uniform draws to items that are not in the row, equally likely; ``num_items`` if there are none.

    Example:
        >>> draws, real = torch.tensor([[0.0, 0.4, 0.9]]), torch.ones(1, 3, dtype=torch.bool)
        >>> other_items(draws, torch.tensor([[1, 3, 1]]), real, num_items=5).tolist()
        [[0, 2, 4]]
    """
    own_RL = items_RL.masked_fill(~real_RL, num_items).sort(1).values
    again_RL = F.pad(own_RL[:, 1:] == own_RL[:, :-1], (1, 0))
    own_RL = own_RL.masked_fill(again_RL, num_items).sort(1).values
    left_R1 = num_items - (own_RL < num_items).sum(1, keepdim=True)
    rank_RL = _below(draws_RL, left_R1)
    # How many items that a row has not lie before each that it has.
    before_RL = own_RL - torch.arange(own_RL.shape[1], device=own_RL.device)
    before_RL = before_RL.masked_fill(own_RL == num_items, num_items)
    return rank_RL + torch.searchsorted(before_RL, rank_RL, right=True)


def masked_segments(
    draws_R3: Tensor, items_RL: Tensor, real_RL: Tensor, mask_id: int
) -> tuple[Tensor, Tensor, Tensor]:
    """Sessions with a segment masked, the segment alone, and another in its place; (R, L) each.

    A segment has at least one item and at most half of the session's; its size, its place, and the place of
    the other in the sessions laid end to end are uniform.

    Example:
        >>> items = torch.tensor([[4, 5, 6], [7, 8, 0]])
        >>> draws = torch.tensor([[0.0, 0.5, 0.7], [0.0, 0.0, 0.0]])
        >>> segments = masked_segments(draws, items, items > 0, 9)
        >>> [rows.tolist() for rows in segments]
        [[[4, 9, 6], [9, 8, 0]], [[9, 5, 9], [7, 9, 9]], [[9, 7, 9], [4, 9, 9]]]
    """
    length_R1 = real_RL.sum(1, keepdim=True)
    size_R1 = 1 + _below(draws_R3[:, :1], (length_R1 // 2).clamp(min=1))
    start_R1 = real_RL.int().argmax(1, keepdim=True) + _below(draws_R3[:, 1:2], length_R1 - size_R1 + 1)
    stream_T = items_RL[real_RL]
    other_R1 = _below(draws_R3[:, 2:], len(stream_T) - size_R1 + 1)
    step_RL = torch.arange(items_RL.shape[1], device=items_RL.device) - start_R1
    inside_RL = (step_RL >= 0) & (step_RL < size_R1)
    other_RL = stream_T[(other_R1 + step_RL).clamp(0, len(stream_T) - 1)]
    return (
        items_RL.masked_fill(inside_RL, mask_id),
        items_RL.masked_fill(~inside_RL, mask_id),
        other_RL.masked_fill(~inside_RL, mask_id),
    )


def last_place(real_RL: Tensor) -> Tensor:
    """The last place (R,) that is not padding, whatever side is padded.

    Example:
        >>> last_place(torch.tensor([[True, True, False], [False, True, True]])).tolist()
        [1, 2]
    """
    return (real_RL * torch.arange(real_RL.shape[1], device=real_RL.device)).argmax(1)


def _below(draws: Tensor, limits: Tensor) -> Tensor:
    """Whole numbers from 0 to below the limits; in double, which does not round up to one."""
    return (draws.double() * limits).long()


def _attributes(recipe: Recipe, inputs: ModelInputs) -> TextAttributes | CategoryAttributes:
    wanted = recipe.s3rec.attributes
    if wanted != "text" and inputs.categories_VCK is not None:
        return CategoryAttributes(inputs.categories_VCK, recipe.model.dim)
    if wanted == "categories":
        raise InputError(
            "s3rec.attributes is 'categories', but the items have none; give a column called category, "
            "categories, brand or taxonomy, or --set data.categories=COLUMN, or set s3rec.attributes=text"
        )
    return TextAttributes(text_items(recipe, inputs), padded=recipe.model.faithful)

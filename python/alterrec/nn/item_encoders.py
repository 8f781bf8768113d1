"""Item encoders: from ids, text vectors and categories to item vectors.

Encoders are called with ids (U,) and return their rows (U, D), or without and return the table (V, D).

Legend: V items, U requested items, D width, F width of text vectors, R rows of a part, E experts,
C categorical fields, K most values of an item in a field.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from alterrec.nn.dropout import Dropout, ItemNoise
from alterrec.nn.layers import keep_start
from alterrec.nn.vector_statistics import PART, column_scales, in_parts
from alterrec.shards import Shard, fill_rows


class IdTable(nn.Module):
    """A learned vector for each item, by default followed by LayerNorm: X of Section 4.1.1.

    Args:
        num_items: size of the catalogue V.
        dim: width D.
        dropout: dropout probability of the values.
        norm: whether LayerNorm follows.
        sparse: whether the gradient of a step that uses some items is a sparse tensor of their rows.
        shard: the rows that this process holds; None: all.
    """

    divided = "rows_VD"

    def __init__(
        self,
        num_items: int,
        dim: int,
        dropout: float = 0.0,
        norm: bool = True,
        *,
        sparse: bool = False,
        shard: Shard | None = None,
    ) -> None:
        super().__init__()
        self.sparse = sparse
        self.shard = shard
        self.rows_VD = nn.Parameter(torch.empty(shard.size if shard else num_items, dim))
        self.norm = nn.LayerNorm(dim) if norm else nn.Identity()
        self.dropout = Dropout(dropout)
        self.dim = dim
        fill_rows(self.rows_VD, self.shard, lambda rows_RD: rows_RD.normal_(std=0.02))

    def forward(self, ids_U: Tensor | None = None) -> Tensor:
        if ids_U is None:
            rows_UD: Tensor = self.rows_VD
        else:
            rows_UD = F.embedding(_places(ids_U, self.shard), self.rows_VD, sparse=self.sparse)
        return self.dropout.items(self.norm(rows_UD), _numbers(ids_U, self.shard, rows_UD))


def _places(ids_U: Tensor, shard: Shard | None) -> Tensor:
    """Return the rows of items in the part of a table that this process holds."""
    return ids_U if shard is None else ids_U - shard.first


def _numbers(ids_U: Tensor | None, shard: Shard | None, like: Tensor) -> Tensor | None:
    """Return the numbers from which the masks of items are drawn: their ids; None: 0, 1, 2, ..."""
    return shard.ids(like.device) if ids_U is None and shard is not None else ids_U


class SeparateIdTables(nn.Module):
    """Two ID tables of the same width: one that the session encoder reads, and one that is scored.

    One table has to serve two purposes: what an item says about the items that follow it, and which items it
    follows. With two tables, these can differ, for twice the number of parameters.

    Example:
        >>> tables = SeparateIdTables(IdTable(5, 4), IdTable(5, 4))
        >>> tables().shape, tables.scored().shape, torch.equal(tables(), tables.scored())
        (torch.Size([5, 4]), torch.Size([5, 4]), False)
    """

    def __init__(self, read: IdTable, output: IdTable) -> None:
        super().__init__()
        self.read = read
        self.output = output
        self.dim = read.dim

    def forward(self, ids_U: Tensor | None = None) -> Tensor:
        rows_UD: Tensor = self.read(ids_U)
        return rows_UD

    def scored(self, ids_U: Tensor | None = None) -> Tensor:
        """Return the table that is scored (V, D), or its rows (U, D)."""
        rows_UD: Tensor = self.output(ids_U)
        return rows_UD


def divided_tensors(model: nn.Module) -> dict[str, Shard]:
    """Return the parameters and buffers of which this process holds some rows, by their names in the model.

    Example:
        >>> model = nn.Sequential(IdTable(5, 4, shard=Shard(0, 3, 5)), nn.Linear(4, 4))
        >>> divided_tensors(model)
        {'0.rows_VD': Shard(first=0, stop=3, total=5)}
    """
    found = {}
    for name, part in model.named_modules():
        if isinstance(part, IdTable | TextItems) and part.shard is not None:
            found[f"{name}.{part.divided}" if name else part.divided] = part.shard
    return found


def can_be_divided(encoder: nn.Module) -> bool:
    """Return whether all tables of an item encoder can be divided among processes.

    Example:
        >>> can_be_divided(IdTable(5, 4)), can_be_divided(BiasedItems(IdTable(5, 4), num_items=5))
        (True, False)
    """
    if isinstance(encoder, SummedItems | JoinedItems):
        return all(map(can_be_divided, encoder.encoders))
    return isinstance(encoder, IdTable | SeparateIdTables | TextItems)


def scored_rows(encoder: nn.Module, ids_U: Tensor | None) -> Tensor:
    """Return the rows of an item encoder that are scored; most encoders score what is read."""
    rows_UD: Tensor = encoder.scored(ids_U) if isinstance(encoder, SeparateIdTables) else encoder(ids_U)
    return rows_UD


class TextItems(nn.Module):
    """Base class of item encoders over frozen text vectors; subclasses implement ``rows``.

    Vectors are encoded in parts. Half-precision vectors are kept as they are (e.g. in a mapped file) and
    converted to float32 part by part; with ``standardise``, their columns then get mean 0 and standard
    deviation 1.

    Args:
        vectors_VF: the text vectors of all items, or of the items of ``shard``.
        dim: width D of item vectors.
        standardise: whether half-precision vectors are standardised.
        shard: the items whose vectors this process keeps; None: all.
    """

    divided = "vectors_VF"
    vectors_VF: Tensor
    shift_F: Tensor
    scale_F: Tensor

    def __init__(self, vectors_VF: Tensor, dim: int, standardise: bool, shard: Shard | None = None) -> None:
        super().__init__()
        self.shard = shard
        self.widens = vectors_VF.dtype == torch.float16
        if self.widens:
            shift_F, scale_F = column_scales(vectors_VF) if standardise else (torch.zeros(1), torch.ones(1))
            self.register_buffer("shift_F", shift_F.expand(vectors_VF.shape[1]).clone())
            self.register_buffer("scale_F", scale_F.expand(vectors_VF.shape[1]).clone())
        if shard is not None and len(vectors_VF) == shard.total:
            # A copy, so that the vectors of the other items can be freed.
            vectors_VF = vectors_VF[shard.rows].clone()
        self.register_buffer("vectors_VF", vectors_VF)
        self.dim = dim

    def forward(self, ids_U: Tensor | None = None) -> Tensor:
        vectors_UF = self.vectors_VF if ids_U is None else self.vectors_VF[_places(ids_U, self.shard)]
        return self.encode(vectors_UF, _numbers(ids_U, self.shard, vectors_UF))

    def encode(self, vectors_UF: Tensor, number_U: Tensor | None = None) -> Tensor:
        """Return rows (U, D) for text vectors (U, F) in the format of the items' vectors.

        In training, random numbers are functions of the int64 number of each text. Default: 0, 1, 2, ...
        """
        if number_U is None:
            number_U = torch.arange(len(vectors_UF), device=vectors_UF.device)
        parts = (
            self.rows((part_RF.float() - self.shift_F) * self.scale_F if self.widens else part_RF, number_R)
            for part_RF, number_R in zip(in_parts(vectors_UF), in_parts(number_U), strict=True)
        )
        if torch.is_grad_enabled() or len(vectors_UF) <= PART:
            found = list(parts)
            return found[0] if len(found) == 1 else torch.cat(found)
        # Written in place: parts and their concatenation would be the table twice.
        whole_UD = torch.empty(0)
        for number, rows_RD in enumerate(parts):
            if not number:
                whole_UD = rows_RD.new_empty(len(vectors_UF), rows_RD.shape[1])
            whole_UD[number * PART : number * PART + len(rows_RD)] = rows_RD
        return whole_UD

    def rows(self, vectors_RF: Tensor, number_R: Tensor) -> Tensor:
        """Return rows (R, D) for a part of the vectors, whose texts have these numbers."""
        raise NotImplementedError


class TextProjection(TextItems):
    """Projection of frozen text vectors by Linear, ReLU, Dropout and by default LayerNorm: H of Eq. 1.

    Args:
        vectors_VF: the text vectors.
        dim: width D of item vectors.
        dropout: dropout probability of the values after ReLU.
        standardise: whether half-precision vectors are standardised.
        norm: whether LayerNorm follows.
        shard: the items whose vectors this process keeps; None: all.
        hidden: width of a hidden layer, from which a second linear layer computes the item vectors. 0: the
            item vectors are the values after ReLU, as in the authors' code.
    """

    def __init__(
        self,
        vectors_VF: Tensor,
        dim: int,
        dropout: float = 0.0,
        standardise: bool = False,
        norm: bool = True,
        *,
        hidden: int = 0,
        shard: Shard | None = None,
    ) -> None:
        super().__init__(vectors_VF, dim, standardise, shard)
        self.project = nn.Linear(vectors_VF.shape[1], hidden or dim)
        self.dropout = Dropout(dropout)
        self.out: nn.Module = nn.Identity()
        if hidden:
            out = nn.Linear(hidden, dim)
            # With the small starting values of tables, LayerNorm would divide by them and enlarge each step.
            nn.init.normal_(out.weight, std=hidden**-0.5)
            nn.init.zeros_(out.bias)
            keep_start(out)
            self.out = out
        self.norm = nn.LayerNorm(dim) if norm else nn.Identity()

    def rows(self, vectors_RF: Tensor, number_R: Tensor) -> Tensor:
        hidden_RH = self.dropout.items(self.project(vectors_RF).relu_(), number_R)
        return self.norm(self.out(hidden_RH))


class SummedItems(nn.Module):
    """The sum of item tables of the same width: NFRec with summation (Appendix A)."""

    def __init__(self, encoders: Sequence[nn.Module]) -> None:
        super().__init__()
        self.encoders = nn.ModuleList(encoders)
        self.dim: int = encoders[0].dim  # type: ignore[assignment]

    def forward(self, ids_U: Tensor | None = None) -> Tensor:
        return torch.stack([encoder(ids_U) for encoder in self.encoders]).sum(0)

    def scored(self, ids_U: Tensor | None = None) -> Tensor:
        """Return the table that is scored; it differs if one of the encoders has separate ID tables."""
        return torch.stack([scored_rows(encoder, ids_U) for encoder in self.encoders]).sum(0)


class JoinedItems(nn.Module):
    """The concatenation of item tables, (V, D1 + D2 + ...): NFRec with concatenation (Eq. 7).

    Example:
        >>> JoinedItems([IdTable(5, 4), IdTable(5, 2)])().shape
        torch.Size([5, 6])
    """

    def __init__(self, encoders: Sequence[nn.Module]) -> None:
        super().__init__()
        self.encoders = nn.ModuleList(encoders)
        self.dim: int = sum(encoder.dim for encoder in encoders)  # type: ignore[misc]

    def forward(self, ids_U: Tensor | None = None) -> Tensor:
        return torch.cat([encoder(ids_U) for encoder in self.encoders], dim=1)

    def scored(self, ids_U: Tensor | None = None) -> Tensor:
        """Return the table that is scored; it differs if one of the encoders has separate ID tables."""
        return torch.cat([scored_rows(encoder, ids_U) for encoder in self.encoders], dim=1)


class BiasedItems(nn.Module):
    """An item table with a bias per item, which is one more column of the table that is scored.

    Example:
        >>> items = BiasedItems(IdTable(5, 4), num_items=5)
        >>> items().shape, items.scored().shape
        (torch.Size([5, 4]), torch.Size([5, 5]))
    """

    def __init__(self, encoder: nn.Module, num_items: int) -> None:
        super().__init__()
        self.encoder = encoder
        self.bias = nn.Parameter(torch.zeros(num_items))
        self.dim: int = encoder.dim  # type: ignore[assignment]

    def forward(self, ids_U: Tensor | None = None) -> Tensor:
        return self.encoder(ids_U)

    def scored(self, ids_U: Tensor | None = None) -> Tensor:
        """Return the table with biases (V, D + 1), or its rows (U, D + 1)."""
        bias_V = self.bias if ids_U is None else self.bias[ids_U]
        return torch.cat([self.encoder(ids_U), bias_V[:, None]], dim=1)


class MixtureAdapter(TextItems):
    """Mixture of experts over text vectors: the adaptor of UniSRec.

    ``sum_e gate_e W_e (x - shift_e)`` with ``gate = softmax(x G)``. In training, noise
    ``n (softplus(x N) + 0.01)``, n ~ N(0, 1), is added to the logit of each gate, and each expert has its own
    dropout on x. Gates and shifts are initialised to 0 and experts from N(0, 0.02), independently of the
    initialisation of the network. Hou et al., "Towards
    Universal Sequence Representation Learning for Recommender Systems", KDD 2022, section 2.1.
    """

    keeps_start = True

    def __init__(
        self,
        vectors_VF: Tensor,
        dim: int,
        experts: int,
        dropout: float = 0.0,
        standardise: bool = False,
        shard: Shard | None = None,
    ) -> None:
        super().__init__(vectors_VF, dim, standardise, shard)
        width = vectors_VF.shape[1]
        self.gates_FE = nn.Parameter(torch.zeros(width, experts))
        self.noise_FE = nn.Parameter(torch.zeros(width, experts))
        self.shifts_EF = nn.Parameter(torch.zeros(experts, width))
        self.experts_EDF = nn.Parameter(torch.empty(experts, dim, width).normal_(std=0.02))
        self.dropouts = nn.ModuleList(Dropout(dropout) for _ in range(experts))
        self.noise = ItemNoise()

    def rows(self, vectors_RF: Tensor, number_R: Tensor) -> Tensor:
        noise_RE = None
        if self.training:
            noise_RE = self.noise(vectors_RF.new_empty(len(vectors_RF), self.gates_FE.shape[1]), number_R)
        return self.mixed(vectors_RF, self.gates(vectors_RF, noise_RE), number_R)

    def gates(self, vectors_RF: Tensor, noise_RE: Tensor | None = None) -> Tensor:
        logits_RE = vectors_RF @ self.gates_FE
        if noise_RE is not None:
            logits_RE = logits_RE + noise_RE * (F.softplus(vectors_RF @ self.noise_FE) + 0.01)
        return logits_RE.softmax(1)

    def mixed(self, vectors_RF: Tensor, gates_RE: Tensor, number_R: Tensor | None = None) -> Tensor:
        """Return rows (R, D), given the weights of the experts."""
        parts = [
            # W (x - shift), without shifting every vector.
            gate_R[:, None]
            * F.linear(self._dropped(expert, vectors_RF, number_R), expert_DF, -(expert_DF @ shift_F))
            for expert, (gate_R, expert_DF, shift_F) in enumerate(
                zip(gates_RE.unbind(1), self.experts_EDF, self.shifts_EF, strict=True)
            )
        ]
        return torch.stack(parts).sum(0)

    def _dropped(self, expert: int, vectors_RF: Tensor, number_R: Tensor | None) -> Tensor:
        dropout = self.dropouts[expert]
        assert isinstance(dropout, Dropout)
        return dropout.items(vectors_RF, number_R)


class CategoryFeatures(nn.Module):
    """Item vectors from categories: learned vectors of values, averaged per field and mixed by attention.

    The weight of a field is the softmax over fields of ``score . ReLU(hidden f)``, where f is the mean vector
    of the field. A field without value has a zero vector.

    Args:
        categories_VCK: int64 value ids of each item and field, padded with -1.
        dim: width D.

    Example:
        >>> features = CategoryFeatures(torch.tensor([[[0, 1], [0, -1]], [[2, -1], [-1, -1]]]), dim=4)
        >>> features().shape, features(torch.tensor([1])).shape
        (torch.Size([2, 4]), torch.Size([1, 4]))
    """

    categories_VCK: Tensor

    def __init__(self, categories_VCK: Tensor, dim: int) -> None:
        super().__init__()
        self.register_buffer("categories_VCK", categories_VCK)
        counts_VC = (categories_VCK >= 0).sum(2)
        # RecBole adds 1e-8 to the number of values, but takes no mean in fields with one value per item.
        self.several = [bool(several) for several in counts_VC.amax(0) > 1]
        self.rows = nn.ParameterList(
            nn.init.normal_(torch.empty(int(largest) + 1, dim), std=0.02)
            for largest in categories_VCK.amax((0, 2))
        )
        self.hidden = nn.Linear(dim, dim)
        self.score = nn.Linear(dim, 1)
        self.dim = dim

    def forward(self, ids_U: Tensor | None = None) -> Tensor:
        fields_UCD = self.fields(ids_U)
        weights_UC1 = self.weights(fields_UCD)
        return (weights_UC1 * fields_UCD).sum(1)

    def fields(self, ids_U: Tensor | None = None) -> Tensor:
        categories_UCK = self.categories_VCK if ids_U is None else self.categories_VCK[ids_U]
        fields = []
        for rows_AD, values_UK, several in zip(
            self.rows, categories_UCK.unbind(1), self.several, strict=True
        ):
            real_UK = values_UK >= 0
            count_U = real_UK.sum(1)
            # A bag starts where the values of the previous items end; an empty bag gives zeros.
            sums_UD = F.embedding_bag(values_UK[real_UK], rows_AD, count_U.cumsum(0) - count_U, mode="sum")
            fields.append(sums_UD / (count_U[:, None].to(sums_UD) + 1e-8) if several else sums_UD)
        return torch.stack(fields, dim=1)

    def weights(self, fields_UCD: Tensor) -> Tensor:
        return self.score(self.hidden(fields_UCD).relu()).softmax(1)

"""The score of a saved run as one module that torch can trace: from items of prefixes to scores.

Legend: N prefixes, L places, K neighbours of an item, V items, E columns of the scored table.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor, nn

from alterrec.errors import InputError
from alterrec.evaluation.evaluate import weighted_sum
from alterrec.exports.encoders import TracedNetwork
from alterrec.models.base import Recommender, Scorer
from alterrec.models.batches import SessionBatch
from alterrec.models.neighbours import NeighbourLists, Popularity, Trend
from alterrec.models.removed import removed_items
from alterrec.nn.layers import real_places
from alterrec.runs.saved_model import SavedModel


class ScoreGraph(nn.Module):
    """The scores of a system, before the rule for items that a session has seen.

    ``forward(items_NL, user_N)`` takes int64 items, oldest first and padded on the right with -1, at least
    one and at most ``model.max_len`` of each prefix; and int64 users, -1 where unknown, which only some
    systems read. It returns scores (N, V).

    Raises:
        InputError: the system has a part that cannot be written as operations on tensors.
    """

    def __init__(self, model: Scorer) -> None:
        super().__init__()
        self.untrained = nn.ModuleDict()
        self.networks = nn.ModuleDict()
        self.weights = {part: weight for part, weight in model.weights.items() if weight}
        # Kept in a list, so that its tensors are not parameters of this module.
        self.whole: list[Recommender] = []
        self.columns: dict[str, tuple[str, slice]] = {}
        if not isinstance(model, Recommender):
            self.untrained["model"] = _untrained("model", model)
            return
        self.whole.append(model)
        tables = model.prepare()
        self.columns = columns_of_parts(model)
        if model.cold_V is not None or model.gate is not None:
            # They compare the scores of both networks, whatever their weights are.
            self.weights = dict(model.weights)
        for name in {network for part, (network, _) in self.columns.items() if part in self.weights}:
            self.networks[name] = TracedNetwork(model.network(name), tables[name])
        for part, system in model.untrained.items():
            if part in self.weights:
                self.untrained[part] = _untrained(part, system)

    def forward(self, items_NL: Tensor, user_N: Tensor | None = None) -> Tensor:
        length_N = (items_NL >= 0).sum(1)
        items_NL = items_NL.clamp(min=0)
        parts: dict[str, Tensor] = {}
        for part in self.weights:
            if part in self.untrained:
                parts[part] = self.untrained[part](items_NL, length_N)
            else:
                name, columns = self.columns[part]
                network = self.networks[name]
                assert isinstance(network, TracedNetwork)
                parts[part] = network.scores(items_NL, length_N, user_N, columns)
        for model in self.whole:
            if model.cold_V is not None and "id" in parts:
                parts["id"] = parts["id"].masked_fill(model.cold_V, -torch.inf)
            # `len` would fix the number of prefixes in a traced graph.
            row_N = torch.arange(items_NL.shape[0], device=items_NL.device)
            parts = model.summands(parts, SessionBatch(items_NL, row_N, length_N))
        return weighted_sum(parts, self.weights)


def columns_of_parts(model: Recommender) -> dict[str, tuple[str, slice]]:
    """Return part of a score -> its network and its columns of the item table."""
    found: dict[str, tuple[str, slice]] = {}
    for name in model.networks:
        network = model.network(name)
        if not network.blocks or network.queries is not None:
            found[name] = (name, slice(None))
        found |= {block: (name, columns) for block, columns in network.blocks.items()}
    return found


def reads_users(model: Scorer) -> bool:
    """Whether the scores of a system depend on the user."""
    return isinstance(model, Recommender) and any(
        model.network(name).session.reads_users for name in model.networks
    )


def removed_numbers(model: Scorer) -> list[int]:
    """Return the numbers of the items that were removed from the catalogue; they are never recommended."""
    removed = removed_items(model)
    return [] if removed is None else removed.tolist()


def check_parts(saved: SavedModel) -> None:
    """Raise InputError if a run cannot be written as operations on tensors."""
    _check_part("model", saved.model)
    if isinstance(saved.model, Recommender):
        for part, system in saved.model.untrained.items():
            _check_part(part, system)


def _check_part(part: str, system: Scorer) -> None:
    if not isinstance(system, Recommender | NeighbourLists | Popularity | Trend):
        raise InputError(
            f"the part {part!r} ({type(system).__name__}) searches the training sessions, which is no "
            "operation on tensors; export another system, such as itemknn or alterrec"
        )


def _untrained(part: str, system: Scorer) -> nn.Module:
    _check_part(part, system)
    if isinstance(system, NeighbourLists):
        return _Neighbours(system)
    return _Fixed(system.counts_V if isinstance(system, Popularity) else system.trend_V)  # type: ignore[attr-defined]


class _Fixed(nn.Module):
    """The same scores for every prefix."""

    scores_V: Tensor

    def __init__(self, scores_V: Tensor) -> None:
        super().__init__()
        self.register_buffer("scores_V", scores_V)

    def forward(self, items_NL: Tensor, length_N: Tensor) -> Tensor:
        return self.scores_V.expand(items_NL.shape[0], -1)


class _Neighbours(nn.Module):
    """:class:`~alterrec.models.neighbours.NeighbourLists` as matrices with a row for each item."""

    ids_VK: Tensor
    similarities_VK: Tensor

    def __init__(self, system: NeighbourLists) -> None:
        super().__init__()
        offsets, ids, similarities = system.neighbours.arrays()
        counts = np.diff(offsets)
        rows = np.repeat(np.arange(len(counts)), counts)
        places = np.arange(len(ids)) - np.repeat(offsets[:-1], counts)
        shape = len(counts), max(int(counts.max(initial=0)), 1)
        ids_VK, similarities_VK = np.zeros(shape, np.int32), np.zeros(shape, np.float32)
        ids_VK[rows, places], similarities_VK[rows, places] = ids, similarities
        self.register_buffer("ids_VK", torch.from_numpy(ids_VK))
        self.register_buffer("similarities_VK", torch.from_numpy(similarities_VK))
        self.num_items, self.decay, self.offset = system.num_items, system.decay, system.offset

    def forward(self, items_NL: Tensor, length_N: Tensor) -> Tensor:
        distance_NL = length_N[:, None] - 1 - torch.arange(items_NL.shape[1], device=items_NL.device)
        weight_NL = torch.pow(self.decay, distance_NL.clamp(min=0).float())
        weight_NL = weight_NL.masked_fill(~real_places(items_NL, length_N), 0.0)
        found_NX = (weight_NL[..., None] * self.similarities_VK[items_NL]).flatten(1)
        ids_NX = self.ids_VK[items_NL].flatten(1).long()
        sums_NV = found_NX.new_zeros(items_NL.shape[0], self.num_items).scatter_add(1, ids_NX, found_NX)
        return sums_NV if self.offset is None else (sums_NV + self.offset).log()


def padded_items(sessions: list[np.ndarray], max_len: int) -> Tensor:
    """Return the last ``max_len`` items of sessions (N, L) as the graphs read them, padded with -1.

    Example:
        >>> padded_items([np.array([4, 2, 3]), np.array([7])], max_len=2)
        tensor([[ 2,  3],
                [ 7, -1]])
    """
    read = [torch.from_numpy(np.asarray(items[-max_len:], np.int64)) for items in sessions]
    return nn.utils.rnn.pad_sequence(read, batch_first=True, padding_value=-1)

"""What a system is: networks that score, parts of a score, and their weights.

Legend: B sessions, L places, N samples, V items, D width.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Literal, NamedTuple, Protocol

import torch
from torch import Tensor, nn


class SessionBatch(NamedTuple):
    """Right-padded prefixes: ``items_BL`` int64 ids, ``lengths_B`` int64 counts of real items."""

    items_BL: Tensor
    lengths_B: Tensor


class Tables(NamedTuple):
    """Item tables of one network: ``inputs`` are read by the session encoder, ``outputs`` are scored."""

    inputs: Tensor
    outputs: Tensor


class Scorer(Protocol):
    """All that evaluation needs of a system.

    ``weights`` names the parts of the score; the score is their weighted sum.
    """

    weights: dict[str, float]

    def prepare(self) -> dict[str, Tables]:
        """What is computed once for a whole catalogue."""
        ...

    def part_scores(self, batch: SessionBatch, tables: Mapping[str, Tables]) -> dict[str, Tensor]:
        """Each part's scores (N, V); an item that a part knows nothing of has -inf."""
        ...

    def summands(self, parts: dict[str, Tensor]) -> dict[str, Tensor]:
        """The parts as they enter the weighted sum: finite for every item."""
        ...


class Network(nn.Module):
    """A two-tower network: item encoder, session encoder, inner product over a temperature.

    ``blocks`` names column ranges whose products are reported as parts of the score (Eq. 8).

    Example:
        >>> from alterrec.nn.item_encoders import IdTable
        >>> from alterrec.nn.session_encoders import Mean
        >>> network = Network(IdTable(5, 4), Mean(), temperature=1.0)
        >>> network.scores(SessionBatch(torch.tensor([[1, 2]]), torch.tensor([2]))).shape
        torch.Size([1, 5])
    """

    def __init__(
        self,
        items: nn.Module,
        session: nn.Module,
        temperature: float | Literal["learned"],
        blocks: Mapping[str, slice] | None = None,
    ) -> None:
        super().__init__()
        self.items = items
        self.session = session
        self.blocks = dict(blocks or {})
        start = math.log(items.dim**0.5 if temperature == "learned" else temperature)  # type: ignore[operator]
        if temperature == "learned":
            self.log_temperature = nn.Parameter(torch.tensor(start))
        else:
            self.register_buffer("log_temperature", torch.tensor(start, dtype=torch.float64))

    def item_tables(self) -> Tables:
        """Both tables (V, D); here one and the same."""
        table_VD = self.items()
        return Tables(table_VD, table_VD)

    def encode_sessions(self, batch: SessionBatch, tables: Tables) -> Tensor:
        """Session vectors (N, D), already over the temperature."""
        vector_ND: Tensor = self.session(tables.inputs, batch.items_BL, batch.lengths_B)
        return vector_ND / self.log_temperature.exp().to(vector_ND)

    def scores(self, batch: SessionBatch, tables: Tables | None = None) -> Tensor:
        """Scores (N, V) of every item."""
        tables = tables or self.item_tables()
        return self.encode_sessions(batch, tables) @ tables.outputs.T


class Recommender(nn.Module):
    """Networks whose parts are summed by weight: every system that is trained.

    One network without blocks is one part; blocks of a network, or several networks, are several.
    ``cold_V`` marks items without training where the text part alone should score them, else it is None.

    Example:
        >>> from alterrec.nn.item_encoders import IdTable
        >>> from alterrec.nn.session_encoders import Mean
        >>> model = Recommender({"model": Network(IdTable(5, 4), Mean(), 1.0)}, {"model": 1.0})
        >>> batch = SessionBatch(torch.tensor([[1, 2]]), torch.tensor([2]))
        >>> list(model.part_scores(batch, model.prepare()))
        ['model']
    """

    cold_V: Tensor | None

    def __init__(
        self, networks: Mapping[str, Network], weights: dict[str, float], cold_V: Tensor | None = None
    ) -> None:
        super().__init__()
        self.networks = nn.ModuleDict(networks)
        self.weights = weights
        self.neighbours: Scorer | None = None
        self.register_buffer("cold_V", cold_V)

    def prepare(self) -> dict[str, Tables]:
        """The item tables of every network."""
        return {name: self.network(name).item_tables() for name in self.networks}

    def network(self, name: str) -> Network:
        """The network called ``name``."""
        network = self.networks[name]
        assert isinstance(network, Network)
        return network

    def part_scores(self, batch: SessionBatch, tables: Mapping[str, Tables]) -> dict[str, Tensor]:
        """Scores (N, V) of each part."""
        parts = {}
        for name, (inputs, outputs) in tables.items():
            network = self.network(name)
            vector_ND = network.encode_sessions(batch, Tables(inputs, outputs))
            for part, columns in (network.blocks or {name: slice(None)}).items():
                parts[part] = vector_ND[:, columns] @ outputs[:, columns].T
        if self.cold_V is not None and "id" in parts:
            parts["id"] = parts["id"].masked_fill(self.cold_V, -torch.inf)
        if self.neighbours is not None:
            (parts["neighbours"],) = self.neighbours.part_scores(batch, {}).values()
        return parts

    def summands(self, parts: dict[str, Tensor]) -> dict[str, Tensor]:
        """An item without training takes the text part's log-probability in the place of ID's.

        Summed raw, an untrained ID row buries it; in log-probabilities both networks speak one unit, so
        ``id_j := text_j - logsumexp(text) + logsumexp(id)`` makes the sum that of text alone for item j.
        """
        if self.cold_V is None or "id" not in parts:
            return parts
        shift_N1 = parts["id"].logsumexp(1, keepdim=True) - parts["text"].logsumexp(1, keepdim=True)
        return parts | {"id": torch.where(self.cold_V, parts["text"] + shift_N1, parts["id"])}

"""What a system is: networks that score, parts of a score, and their weights.

Legend: R sessions, L places, N samples, V items, D width.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Literal, NamedTuple, Protocol

import numpy as np
import torch
from torch import Tensor, nn

from alterrec.nn.scores import ScoreBuffer
from alterrec.sessions import Batch


class SessionBatch(NamedTuple):
    """Prefixes of sessions: sample n is ``items_RL[row_N[n], :length_N[n]]``, all int64, right-padded."""

    items_RL: Tensor
    row_N: Tensor
    length_N: Tensor

    @classmethod
    def of(cls, batch: Batch, device: str) -> SessionBatch:
        """A batch of any layout but packed, on a device; a copy to one does not wait for it.

        Example:
            >>> from alterrec.sessions import PrefixBatches, SessionStore
            >>> store = SessionStore.from_arrays([0, 0, 0], [4, 2, 3])
            >>> (batch,) = PrefixBatches(store, 8, 50, shuffle=False, layout="by_session")
            >>> SessionBatch.of(batch, "cpu").items_RL
            tensor([[4, 2]])
        """
        row_of = np.arange(len(batch.lengths)) if batch.row_of is None else batch.row_of
        return cls(*(on_device(values, device) for values in (batch.items, row_of, batch.lengths)))

    @classmethod
    def of_prefixes(cls, items_NL: Tensor, length_N: Tensor) -> SessionBatch:
        """Samples that each have a row of their own.

        Example:
            >>> SessionBatch.of_prefixes(torch.tensor([[1, 2]]), torch.tensor([2])).row_N
            tensor([0])
        """
        return cls(items_NL, torch.arange(len(items_NL), device=items_NL.device), length_N)

    def prefixes(self, pad: int = -1) -> Tensor:
        """Items of each prefix (N, L), then ``pad``."""
        places_L = torch.arange(self.items_RL.shape[1], device=self.items_RL.device)
        return self.items_RL[self.row_N].masked_fill(places_L >= self.length_N[:, None], pad)


def on_device(values: np.ndarray, device: str) -> Tensor:
    """An array as a tensor on a device, through pinned memory where that lets the copy go on alone."""
    tensor = torch.from_numpy(values)
    if not device.startswith("cuda"):
        return tensor.to(device)
    return tensor.pin_memory().to(device, non_blocking=True)


class Tables(NamedTuple):
    """Item tables of one network: ``inputs`` are read by the session encoder, ``outputs`` are scored.

    Scores of their parts are written into ``scores``: tables are one caller's, as their scores are.
    """

    inputs: Tensor
    outputs: Tensor
    scores: ScoreBuffer


class Scorer(Protocol):
    """All that evaluation needs of a system.

    ``weights`` names the parts of the score; the score is their weighted sum.
    """

    weights: dict[str, float]

    def prepare(self) -> dict[str, Tables]:
        """What is computed once for a whole catalogue."""
        ...

    def part_scores(self, batch: SessionBatch, tables: Mapping[str, Tables]) -> dict[str, Tensor]:
        """Each part's scores (N, V), valid until the next call with these tables.

        An item that a part knows nothing of has -inf.
        """
        ...

    def summands(self, parts: dict[str, Tensor]) -> dict[str, Tensor]:
        """The parts as they enter the weighted sum: finite for every item."""
        ...


class Network(nn.Module):
    """A two-tower network: item encoder, session encoder, inner product over a temperature.

    The session encoder gives a state (R, L, D) at every place of a session, the vector of the prefix that
    ends there; one with ``reads_prefixes`` gets prefixes and their lengths and gives vectors (N, D).
    ``blocks`` names column ranges whose products are reported as parts of the score (Eq. 8).

    Example:
        >>> from alterrec.nn.item_encoders import IdTable
        >>> from alterrec.nn.session_encoders import Mean
        >>> network = Network(IdTable(5, 4), Mean(), temperature=1.0)
        >>> batch = SessionBatch.of_prefixes(torch.tensor([[1, 2]]), torch.tensor([2]))
        >>> network.scores(batch).shape
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
        self.dim: int = items.dim  # type: ignore[assignment]
        start = math.log(self.dim**0.5 if temperature == "learned" else temperature)
        if temperature == "learned":
            self.log_temperature = nn.Parameter(torch.tensor(start))
        else:
            self.register_buffer("log_temperature", torch.tensor(start, dtype=torch.float64))

    def item_tables(self, ids_U: Tensor | None = None) -> Tables:
        """Both tables, here one and the same: (V, D), or (U, D) of these items alone."""
        table_VD = self.items(ids_U)
        return Tables(table_VD, table_VD, ScoreBuffer())

    def encode_sessions(self, batch: SessionBatch, tables: Tables) -> Tensor:
        """Session vectors (N, D), already over the temperature."""
        if getattr(self.session, "reads_prefixes", False):
            vector_ND: Tensor = self.session(tables.inputs, batch.prefixes(pad=0), batch.length_N)
        else:
            vector_ND = self.session(tables.inputs, batch.items_RL)[batch.row_N, batch.length_N - 1]
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
        >>> batch = SessionBatch.of_prefixes(torch.tensor([[1, 2]]), torch.tensor([2]))
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
        """Scores (N, V) of each part, valid until the next call with these tables."""
        parts = {}
        for name, own in tables.items():
            network = self.network(name)
            vector_ND = network.encode_sessions(batch, own)
            for part, columns in (network.blocks or {name: slice(None)}).items():
                parts[part] = own.scores.product(vector_ND[:, columns], own.outputs[:, columns], part)
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

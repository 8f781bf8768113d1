"""Item and session vectors whose inner products are the scores of a run, for any vector index.

Legend: S sessions, L places, V items, E columns.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import numpy as np
import polars as pl
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from alterrec.errors import InputError, number_of
from alterrec.exports.encoders import TracedNetwork
from alterrec.exports.graphs import columns_of_parts, padded_items, reads_users, removed_numbers
from alterrec.files import make_folder, replace_together, write_json
from alterrec.models.base import Recommender, Scorer
from alterrec.models.neighbours import Trend
from alterrec.runs.requests import session_numbers, user_numbers
from alterrec.runs.saved_model import SavedModel

ADVICE = (
    "train with id.queries=one, text.queries=one, fusion.neighbours=false and fusion.gate=false (those that "
    "the system reads), or export it with --to onnx, which returns the scores of all items; docs/export.md "
    "says more"
)
# Sessions that are encoded at a time.
CHUNK = 512


class VectorGraph(nn.Module):
    """Session vectors of a run as one module that torch can trace; its input is that of ``ScoreGraph``.

    The columns of the item vectors are those of all networks, times the weights of their parts, and:

    - the trend part, if it has a weight; its session column is 1;
    - for items without training, which only text scores, the weight of ID. Its session column is the
      logsumexp of the ID scores minus that of the text scores, so a session vector then takes two products
      with the whole catalogue.

    Attributes:
        items_VE: item vectors, with the weights of the parts.
    """

    items_VE: Tensor
    cold_V: Tensor | None

    def __init__(self, model: Recommender) -> None:
        super().__init__()
        tables, by_part = model.prepare(), columns_of_parts(model)
        self.networks = nn.ModuleDict(
            {name: TracedNetwork(model.network(name), tables[name]) for name in model.networks}
        )
        self.has_trend = bool(model.weights.get("trend"))
        cold_V = model.cold_V if model.weights.get("id") else None
        self.register_buffer("cold_V", cold_V)
        columns = []
        for name in model.networks:
            scaled_VE = torch.zeros_like(tables[name].outputs)
            for part, (network, own) in by_part.items():
                if network == name:
                    scaled_VE[:, own] = model.weights[part] * tables[name].outputs[:, own]
            if cold_V is not None:
                # ID + text of an item without training is its text score, plus alpha times the last column.
                of_text = tables[name].outputs if name == "text" else torch.zeros_like(scaled_VE)
                scaled_VE = torch.where(cold_V[:, None], of_text, scaled_VE)
            columns.append(scaled_VE)
        if self.has_trend:
            trend = model.untrained["trend"]
            assert isinstance(trend, Trend)
            columns.append(model.weights["trend"] * trend.trend_V[:, None].to(columns[0]))
        if cold_V is not None:
            columns.append(model.weights["id"] * cold_V[:, None].to(columns[0]))
        self.register_buffer("items_VE", torch.cat(columns, 1))

    def forward(self, items_NL: Tensor, user_N: Tensor | None = None) -> Tensor:
        length_N = (items_NL >= 0).sum(1)
        items_NL = items_NL.clamp(min=0)
        vectors = {}
        for name, network in self.networks.items():
            assert isinstance(network, TracedNetwork)
            vectors[name] = network.vector(items_NL, length_N, user_N)
        columns = list(vectors.values())
        if self.has_trend:
            columns.append(torch.ones_like(columns[0][:, :1]))
        if self.cold_V is not None:
            id_NV, text_NV = (
                vectors[name] @ self.networks[name].outputs_VE.T  # type: ignore[operator]
                for name in ("id", "text")
            )
            id_NV = id_NV.masked_fill(self.cold_V, -torch.inf)
            columns.append(id_NV.logsumexp(1, keepdim=True) - text_NV.logsumexp(1, keepdim=True))
        return torch.cat(columns, 1)


def more_than_one_product(model: Scorer) -> str:
    """Return why the scores of a system are no single inner product; empty if they are one."""
    if not isinstance(model, Recommender):
        return "the system counts and has no vectors"
    reasons = []
    several = [name for name in model.networks if model.network(name).queries is not None]
    if several:
        reasons.append(
            f"a session has several queries (in {' and '.join(several)}), whose softmaxes are mixed"
        )
    if model.weights.get("neighbours"):
        reasons.append(
            f"the neighbours part, with the weight {model.weights['neighbours']:g}, has no vectors"
        )
    if model.gate is not None:
        reasons.append("a gate sets the weights of the parts for each session")
    return "; ".join(reasons)


@dataclass(frozen=True, repr=False)
class VectorSpace:
    """Item vectors of a run, and its session vectors; the score of an item is their inner product.

    Scores are those before the rule for items that the session has seen.

    Attributes:
        saved: the run.
        items_VE: float32 item vectors, row i of item i of ``saved.vocabulary``.
    """

    saved: SavedModel
    items_VE: NDArray[np.float32]
    graph: VectorGraph

    def __repr__(self) -> str:
        items, columns = self.items_VE.shape
        return f"VectorSpace({number_of(items, 'item')}, {number_of(columns, 'column')})"

    @classmethod
    def of(cls, saved: SavedModel) -> Self:
        """Return the vectors of a run that :func:`alterrec.load` returned.

        Raises:
            InputError: its scores are no single inner product; the message says why and what to do.

        Example:
            >>> import tempfile
            >>> from alterrec import fit, load
            >>> from alterrec.data.synthetic import synthetic_dataset
            >>> data = synthetic_dataset(items=300, sessions=500)
            >>> quick = {"run.baselines": False, "run.report": False, "schedule.epochs": 1, "model.dim": 8}
            >>> run = fit(data, "gru4rec", out=Path(tempfile.mkdtemp()) / "run", overrides=quick)
            >>> space = VectorSpace.of(load(run.path))
            >>> space
            VectorSpace(300 items, 8 columns)
            >>> sessions = space.session_vectors([data.vocabulary.item_ids[:2]])
            >>> (sessions @ space.items_VE.T).shape
            (1, 300)
        """
        reason = more_than_one_product(saved.model)
        if reason:
            raise InputError(
                f"the scores of {saved.path} ({saved.recipe.model_name}) are no single inner product: "
                f"{reason}; {ADVICE}"
            )
        assert isinstance(saved.model, Recommender)
        with torch.inference_mode():
            graph = VectorGraph(saved.model).eval()
        return cls(saved, np.ascontiguousarray(graph.items_VE.cpu().numpy(), np.float32), graph)

    def session_vectors(
        self, sessions: Sequence[Sequence[str | int]], *, users: Sequence[str | int | None] | None = None
    ) -> NDArray[np.float32]:
        """Return the vectors of sessions (S, E), which an index takes as queries.

        Args:
            sessions: for each session a list of one or more item ids as in your data, oldest first. The last
                ``model.max_len`` items are read.
            users: one user id for each session, None if it is unknown; only some systems read them. Default:
                all unknown.

        Raises:
            InputError: a session is empty, an item is not in the catalogue, or there is not one user for each
                session.
        """
        numbers, _ = session_numbers(sessions, self.saved.vocabulary, drop_unknown=False)
        found_S = user_numbers(users, len(numbers), self.saved.users)
        user_S = np.full(len(numbers), -1) if found_S is None else found_S
        recipe, more = self.saved.recipe, reads_users(self.saved.model)
        found = [np.empty((0, self.items_VE.shape[1]), np.float32)]
        with torch.inference_mode():
            for first in range(0, len(numbers), CHUNK):
                rows = slice(first, first + CHUNK)
                inputs = [padded_items(numbers[rows], recipe.model.max_len)]
                inputs += [torch.from_numpy(user_S[rows])] if more else []
                vectors_SE = self.graph(*(values.to(recipe.run.device) for values in inputs))
                found.append(vectors_SE.float().cpu().numpy())
        return np.concatenate(found)


def write_vectors(saved: SavedModel, folder: str | Path) -> list[Path]:
    """Write the item vectors of a run, and return the paths of the files.

    ``item_vectors.npy`` has the vectors, ``item_vectors.parquet`` has them with their ids (``item_id``,
    ``vector``) in the same order, and ``vectors.json`` says what they are.

    Args:
        saved: a run that :func:`alterrec.load` returned.
        folder: is created; files of an earlier export are replaced.

    Raises:
        InputError: the scores of the run are no single inner product, or the folder cannot be written to.
    """
    space = VectorSpace.of(saved)
    folder = make_folder(folder)
    facts: dict[str, Any] = {
        "model": saved.recipe.model_name,
        "items": len(space.items_VE),
        "dimension": space.items_VE.shape[1],
        "dtype": "float32",
        "metric": "inner product",
        "vectors": "item_vectors.npy",
        "ids_and_vectors": "item_vectors.parquet",
        "removed": removed_numbers(saved.model),
        "seen": saved.seen,
        "max_len": saved.recipe.model.max_len,
        "session_vectors": "VectorSpace.of(load(RUN)).session_vectors(sessions), with VectorSpace of "
        "alterrec.exports.vectors, or session.onnx of `export --to onnx`",
    }
    with replace_together(folder) as new:
        make_folder(new)
        np.save(new / "item_vectors.npy", space.items_VE)
        vectors = pl.Series("vector", space.items_VE, dtype=pl.Array(pl.Float32, space.items_VE.shape[1]))
        frame = pl.DataFrame({"item_id": list(saved.vocabulary.item_ids)}).with_columns(vectors)
        frame.with_columns(pl.col("vector").cast(pl.List(pl.Float32))).write_parquet(
            new / "item_vectors.parquet"
        )
        write_json(new / "vectors.json", facts)
        names = sorted(path.name for path in new.iterdir())
    return [folder / name for name in names]

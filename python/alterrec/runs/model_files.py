"""Write the files of a run folder."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import polars as pl
import torch
from numpy.typing import NDArray

from alterrec.data.dataset import Dataset
from alterrec.evaluation.evaluate import Counts, Protocol, Ranks
from alterrec.files import atomic_write, write_text
from alterrec.models.base import Recommender, Scorer
from alterrec.models.catalogue import lookup
from alterrec.models.neighbours import Untrained
from alterrec.models.removed import removed_items
from alterrec.nn.item_encoders import divided_tensors
from alterrec.recipe import Recipe
from alterrec.record_json import to_json
from alterrec.results import Epoch
from alterrec.runs.inputs import USERS
from alterrec.runs.rebuild import GATE_TENSORS
from alterrec.shards import Shard
from alterrec.tensor_files import write_tensors


def save_model(run: Path, model: Scorer, protocol: Protocol) -> None:
    """Write ``model.safetensors``: tensors, with the weights of the parts and the seen rule as metadata.

    The first process of a job writes it. If tables are divided, all of them call this function together.
    """
    shards: dict[str, Shard] = {}
    if isinstance(model, Recommender):
        tensors = {f"model/{name}": value for name, value in model.state_dict().items()}
        shards = {f"model/{name}": shard for name, shard in divided_tensors(model).items()}
        for part, system in model.untrained.items():
            assert isinstance(system, Untrained)
            tensors |= {f"{part}/{name}": value for name, value in system.tensors().items()}
        if model.gate is not None:
            tensors |= {f"gate/{name}": getattr(model.gate, name) for name in GATE_TENSORS}
    else:
        assert isinstance(model, Untrained)
        tensors = {f"untrained/{name}": value for name, value in model.tensors().items()}
    if (removed := removed_items(model)) is not None:
        tensors["removed"] = removed
    if protocol.repeats is not None:
        tensors |= {
            "repeats/rates": torch.from_numpy(protocol.repeats.rates_B),
            "repeats/weights": torch.from_numpy(protocol.repeats.weights_B),
        }
    metadata = {
        "weights": json.dumps(model.weights),
        "seen": json.dumps(protocol.seen),
        "scales": json.dumps(model.scales),
    }
    if isinstance(model, Recommender) and model.gate is not None:
        metadata["gate"] = json.dumps(model.gate.parts)
    write_tensors(run / "model.safetensors", tensors, metadata, shards)


def write_vocabulary(run: Path, data: Dataset) -> None:
    """Write ``vocabulary.parquet``: item_id, text, train_count, trained, in the order of the catalogue."""
    texts = data.text.joined_texts() if data.text else [""] * data.num_items
    frame = pl.DataFrame(
        {
            "item_id": list(data.vocabulary.item_ids),
            "text": texts,
            "train_count": data.train_counts,
            "trained": data.trained,
        }
    )
    _write_parquet(frame, run / "vocabulary.parquet")


def write_users(run: Path, recipe: Recipe, data: Dataset) -> None:
    """Write ``users.parquet`` (user_id, by user number) if the model reads users and they have names.

    Users who are not in training are neither in the model nor in the file.
    """
    if data.users is None or data.train.users is None or not lookup(recipe.model_name).reads_users:
        return
    known = data.users.item_ids[: int(data.train.users.max()) + 1]
    _write_parquet(pl.DataFrame({"user_id": known}, schema={"user_id": pl.String}), run / USERS)


def write_ranks(run: Path, data: Dataset, ranks: Mapping[str, Ranks]) -> None:
    """Write ``ranks.parquet``: one row for each target, with (greater, tied) of each view.

    The columns ``kept_greater_VIEW``, ``excluded_tied_VIEW`` and so on have the counts with the items of the
    prefix as candidates and without them.
    """
    frames = []
    for split, part in ranks.items():
        names = data.session_names[split]
        frames.append(
            pl.DataFrame(
                {
                    "split": [split] * len(part.targets),
                    "session_id": [names[session] for session in part.samples[:, 0]],
                    "position": part.samples[:, 1],
                    "target_id": [data.vocabulary.item_ids[item] for item in part.targets],
                    "train_count": data.train_counts[part.targets],
                    "repeated": part.repeated,
                    **_count_columns("", part.views),
                    **_count_columns("kept_", part.by_rule["kept"]),
                    **_count_columns("excluded_", part.by_rule["excluded"]),
                },
                schema_overrides={"split": pl.String, "session_id": pl.String, "target_id": pl.String},
            )
        )
    # A split without sessions has no views of the parts.
    _write_parquet(pl.concat(frames, how="diagonal"), run / "ranks.parquet")


def _count_columns(prefix: str, views: Mapping[str, Counts]) -> dict[str, NDArray[np.int64]]:
    greater = {f"{prefix}greater_{view}": counts[0] for view, counts in views.items()}
    return greater | {f"{prefix}tied_{view}": counts[1] for view, counts in views.items()}


def write_top(run: Path, top: NDArray[np.int64]) -> None:
    """Write ``top.parquet``: the first items of the ranking of each test target.

    Targets are in the order of ``ranks.parquet``; items are row numbers of ``vocabulary.parquet``.
    """
    items = pl.Series("items", top.astype(np.int32), dtype=pl.Array(pl.Int32, top.shape[1]))
    _write_parquet(items.cast(pl.List(pl.Int32)).to_frame(), run / "top.parquet")


def write_curves(run: Path, epochs: Sequence[Epoch]) -> None:
    """Write ``curves.jsonl``, one line for each epoch."""
    write_text(run / "curves.jsonl", "".join(json.dumps(to_json(epoch)) + "\n" for epoch in epochs))


def _write_parquet(frame: pl.DataFrame, path: Path) -> None:
    with atomic_write(path) as temporary:
        frame.write_parquet(temporary)

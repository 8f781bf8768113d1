"""What a run leaves behind, and how a model comes back from it without training data."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import torch
from numpy.typing import NDArray
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor

from alterrec.data.dataset import Dataset, Vocabulary
from alterrec.errors import InputError
from alterrec.evaluation.evaluate import SCORE_BYTES, Protocol, Ranks
from alterrec.files import atomic_write, write_json, write_text
from alterrec.graphs import Adjacency
from alterrec.models.base import Recommender, Scorer
from alterrec.models.catalogue import lookup
from alterrec.models.neighbours import ItemKnn, Untrained
from alterrec.models.parts import ModelInputs
from alterrec.recipe import Recipe, load_recipe

USERS = "users.parquet"


@dataclass(frozen=True)
class LoadedModel:
    """A trained system with all it needs to recommend.

    ``users`` are the users that it knows, by number; None where it reads none, or knows them by number alone.
    """

    recipe: Recipe
    vocabulary: Vocabulary
    texts: list[str]
    trained: NDArray[np.bool_]
    exclude_seen: bool
    model: Scorer
    users: Vocabulary | None

    @property
    def protocol(self) -> Protocol:
        """How the run ranked, and ranks."""
        return protocol_of(self.recipe, self.exclude_seen)


def protocol_of(recipe: Recipe, exclude_seen: bool, score_bytes: int = SCORE_BYTES) -> Protocol:
    """The evaluation protocol of a recipe, once ``data.exclude_seen`` and the memory are decided."""
    return Protocol(
        targets=recipe.data.targets,
        exclude_seen=exclude_seen,
        max_len=recipe.model.max_len,
        budget_bytes=score_bytes,
        device=recipe.run.device,
        metrics=recipe.metrics,
    )


def save_model(run: Path, model: Scorer, exclude_seen: bool) -> None:
    """Write ``model.safetensors``: tensors, and the weights of the sum as metadata."""
    if isinstance(model, Recommender):
        tensors = {f"model/{name}": value for name, value in model.state_dict().items()}
        if isinstance(model.neighbours, ItemKnn):
            tensors |= {f"neighbours/{name}": value for name, value in model.neighbours.tensors().items()}
    else:
        assert isinstance(model, Untrained)
        tensors = {f"untrained/{name}": value for name, value in model.tensors().items()}
    facts = {"weights": json.dumps(model.weights), "exclude_seen": json.dumps(exclude_seen)}
    contiguous = {name: value.detach().cpu().contiguous() for name, value in tensors.items()}
    with atomic_write(run / "model.safetensors") as temporary:
        save_file(contiguous, temporary, metadata=facts)


def load_model(run: str | Path) -> LoadedModel:
    """The system of a run folder; needs no training data and unpickles nothing.

    Raises:
        InputError: a file of the folder is missing or damaged.
    """
    run = Path(run)
    if not (run / "recipe.toml").exists():
        raise InputError(f"{run}: no recipe.toml; allowed: the folder of a finished run")
    recipe = load_recipe(run / "recipe.toml")
    try:
        vocabulary = pl.read_parquet(run / "vocabulary.parquet")
        users = _read_users(run / USERS)
        with safe_open(run / "model.safetensors", framework="pt") as file:
            facts = file.metadata()
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except Exception as error:
        raise InputError(
            f"{run}: not a finished run ({error}); train again, or finish it with --resume"
        ) from None
    trained = vocabulary["trained"].to_numpy()
    model = _rebuild(recipe, trained, tensors)
    model.weights.clear()
    model.weights.update(json.loads(facts["weights"]))
    return LoadedModel(
        recipe,
        Vocabulary(tuple(vocabulary["item_id"])),
        vocabulary["text"].to_list(),
        trained,
        json.loads(facts["exclude_seen"]),
        model,
        users,
    )


def _read_users(path: Path) -> Vocabulary | None:
    return Vocabulary(tuple(pl.read_parquet(path)["user_id"])) if path.exists() else None


def _rebuild(recipe: Recipe, trained: NDArray[np.bool_], tensors: Mapping[str, Tensor]) -> Scorer:
    entry = lookup(recipe.model_name)
    if not entry.trains:
        return entry.restore(_under("untrained/", tensors))
    state = _under("model/", tensors)
    vectors, categories, offsets, ids = (
        next((value for name, value in state.items() if name.endswith(buffer)), None)
        for buffer in ("vectors_VF", "categories_VCK", "edge_offsets", "edge_ids")
    )
    graph = None if offsets is None or ids is None else Adjacency(offsets.numpy(), ids.numpy())
    with torch.random.fork_rng(devices=[]):
        items = ModelInputs(
            len(trained),
            vectors,
            torch.from_numpy(trained.copy()),
            categories_VCK=categories,
            graph=graph,
        )
        model = entry.build(recipe, items)
    model.load_state_dict(state)
    if any(name.startswith("neighbours/") for name in tensors):
        model.neighbours = ItemKnn.from_tensors(_under("neighbours/", tensors))
    return model.to(recipe.run.device).eval()


def _under(prefix: str, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {name.removeprefix(prefix): value for name, value in tensors.items() if name.startswith(prefix)}


def write_vocabulary(run: Path, data: Dataset) -> None:
    """Write ``vocabulary.parquet``: item_id, text, train_count, trained, in the order of the catalogue."""
    texts = [data.text.joined(item) if data.text else "" for item in range(data.num_items)]
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
    """Write ``users.parquet`` where the model reads users and they have names: user_id, by user number.

    Users who are not in training are not in the model, and not in the file.
    """
    if data.users is None or data.train.users is None or not lookup(recipe.model_name).reads_users:
        return
    known = data.users.item_ids[: int(data.train.users.max()) + 1]
    _write_parquet(pl.DataFrame({"user_id": known}, schema={"user_id": pl.String}), run / USERS)


def write_ranks(run: Path, data: Dataset, ranks: Mapping[str, Ranks]) -> None:
    """Write ``ranks.parquet``: one row a target, with (greater, tied) of each view."""
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
                    **{f"greater_{view}": counts[0] for view, counts in part.views.items()},
                    **{f"tied_{view}": counts[1] for view, counts in part.views.items()},
                },
                schema_overrides={"split": pl.String, "session_id": pl.String, "target_id": pl.String},
            )
        )
    # A split without sessions has no views of the parts.
    _write_parquet(pl.concat(frames, how="diagonal"), run / "ranks.parquet")


def write_top(run: Path, top: NDArray[np.int64]) -> None:
    """Write ``top.parquet``: for each test target, in the order of ``ranks.parquet``, the first items of its
    ranking as rows of ``vocabulary.parquet``.
    """
    items = pl.Series("items", top.astype(np.int32), dtype=pl.Array(pl.Int32, top.shape[1]))
    _write_parquet(items.cast(pl.List(pl.Int32)).to_frame(), run / "top.parquet")


def write_curves(run: Path, curves: list[dict[str, Any]]) -> None:
    """Write ``curves.jsonl``: one line an epoch."""
    write_text(run / "curves.jsonl", "".join(json.dumps(record) + "\n" for record in curves))


def write_result(run: Path, result: dict[str, Any]) -> None:
    """Write ``result.json``; its presence says that the run is complete."""
    write_json(run / "result.json", result)


def _write_parquet(frame: pl.DataFrame, path: Path) -> None:
    with atomic_write(path) as temporary:
        frame.write_parquet(temporary)

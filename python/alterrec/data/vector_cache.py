"""Vectors of texts in files, so that no text is encoded twice."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from alterrec.errors import InputError
from alterrec.files import atomic_write

PART = 65536  # items of a table that are averaged at once

Encode = Callable[[list[str]], NDArray[np.float32]]


def default_cache_dir() -> Path:
    """``$ALTERREC_CACHE``, or else ``alterrec`` in the user's cache folder."""
    if chosen := os.environ.get("ALTERREC_CACHE"):
        return Path(chosen)
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "alterrec"


class VectorCache:
    """Vectors of one encoder, so that no text is encoded twice.

    The cache is a folder of segments. A segment is an ``.npy`` array of rows (hash of the text, float16
    vector); it is written atomically, so an interrupted run keeps its finished segments. In memory is only
    the place of each text, 24 bytes.

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
        self.folder = folder / "vectors" / digest(identity).hex()
        self.width = 0
        self._segments: list[Path] = []
        self._keys: list[NDArray[np.bytes_]] = []
        self._truncated = self.folder / "truncated"
        self._index = _Index([])
        for path in sorted(self.folder.glob("[!.]*.npy")) if self.folder.is_dir() else ():
            self._open(path)

    def __len__(self) -> int:
        return len(np.unique(np.concatenate(self._keys))) if self._keys else 0

    def missing(self, texts: Iterable[str]) -> list[str]:
        """The distinct texts that have no vector yet, in order of first occurrence."""
        distinct = list(dict.fromkeys(texts))
        return [distinct[row] for row in np.flatnonzero(self._find(_digests(distinct)) < 0)]

    def add(self, texts: Sequence[str], encode: Encode, truncated: NDArray[np.bool_] | None = None) -> None:
        """Encode texts that are missing, and store their vectors, rounded to float16, as one segment.

        Args:
            texts: the texts.
            encode: returns their vectors.
            truncated: which of them the encoder reads in part.

        Raises:
            InputError: the cache cannot be written to, or the encoder's output is not finite or out
                of float16's range.
        """
        if not texts:
            return
        vectors = encode(list(texts))
        with np.errstate(over="ignore"):
            halves = vectors.astype(np.float16)
        if not np.isfinite(halves).all():
            row = int(np.argwhere(~np.isfinite(halves))[0, 0])
            raise InputError(
                f"the encoder returns values beyond float16 for {texts[row]!r}; choose another encoder"
            )
        segment = np.empty(len(texts), dtype=[("key", "V16"), ("vector", "<f2", (vectors.shape[1],))])
        segment["key"] = _digests(texts).view("V16")
        segment["vector"] = halves
        path = self.folder / f"{digest(segment['key'].tobytes()).hex()}.npy"
        if truncated is not None and truncated.any():
            with atomic_write(self._truncated / path.name) as temporary:
                np.save(temporary, segment["key"][truncated])
        with atomic_write(path) as temporary:
            np.save(temporary, segment)
        self._open(path)

    def count_truncated(self, texts: Iterable[str]) -> int:
        """Number of distinct texts of which the encoder has read only the beginning."""
        files = sorted(self._truncated.glob("[!.]*.npy")) if self._truncated.is_dir() else []
        known = _Index([np.array(mapped(path, "r")).view("S16") for path in files])
        return int((known.find(_digests(dict.fromkeys(texts))) >= 0).sum())

    def vectors(self, texts: Sequence[str], encode: Encode | None) -> NDArray[np.float32]:
        """Return the vectors of ``texts``, (N, F) float32; missing ones are encoded and stored first.

        Values are those of the cache, in float16, so that later runs get the same ones. Raises as
        :meth:`add`.
        """
        if encode is not None:
            self.add(self.missing(texts), encode)
        places = self._find(_digests(texts))
        result = np.empty((len(texts), self.width), dtype=np.float32)
        numbers = places >> 32
        for number in np.unique(numbers):
            rows = np.flatnonzero(numbers == number)
            # Opened for the moment: the mapped segments of a million texts would be too many open files.
            segment = mapped(self._segments[number], "r")
            result[rows] = segment["vector"][places[rows] & 0xFFFFFFFF]
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
        digests = b"".join(_digests(texts).tobytes() for texts in fields)
        path = self.folder / "tables" / f"{digest(digests + bytes([len(fields)])).hex()}.npy"
        return mapped_table(
            path,
            (len(fields[0]), self.width),
            lambda first: self._means([texts[first : first + PART] for texts in fields]),
        )

    def _means(self, fields: Sequence[list[str]]) -> NDArray[np.float32]:
        total = np.zeros((len(fields[0]), self.width), dtype=np.float32)
        count = np.zeros((len(fields[0]), 1), dtype=np.float32)
        for texts in fields:
            filled = np.flatnonzero(np.array([bool(text) for text in texts]))
            total[filled] += self.vectors([texts[item] for item in filled], None)
            count[filled] += 1
        return np.divide(total, count, out=total, where=count > 0)

    def _open(self, path: Path) -> None:
        segment = mapped(path, "r")
        try:
            # A copy: a view would keep the file open.
            keys = np.array(segment["key"]).view("S16")
            width = int(segment["vector"].shape[1])
        except (ValueError, IndexError) as error:
            raise InputError(f"{path}: damaged cache file ({error}); delete it") from None
        self.width = self.width or width
        self._keys.append(keys)
        self._segments.append(path)

    def _find(self, keys: NDArray[np.bytes_]) -> NDArray[np.int64]:
        """The place of each key, as the number of its segment times 2**32 plus its row; -1 if it has none."""
        if self._index.segments != len(self._keys):
            self._index = _Index(self._keys)
        return self._index.find(keys)


class _Index:
    """Sorted keys of segments, and the place of each."""

    def __init__(self, keys: Sequence[NDArray[np.bytes_]]) -> None:
        self.segments = len(keys)
        every = np.concatenate(keys) if keys else np.empty(0, "S16")
        places = [(number << 32) + np.arange(len(part)) for number, part in enumerate(keys)]
        order = np.argsort(every, kind="stable")
        self._keys = every[order]
        self._places = np.concatenate(places)[order] if keys else np.empty(0, np.int64)

    def find(self, keys: NDArray[np.bytes_]) -> NDArray[np.int64]:
        if not len(self._keys):
            return np.full(len(keys), -1, np.int64)
        near = np.minimum(np.searchsorted(self._keys, keys), len(self._keys) - 1)
        return np.where(self._keys[near] == keys, self._places[near], -1)


def mapped_table(
    path: Path, shape: tuple[int, int], rows: Callable[[int], NDArray[np.floating]]
) -> NDArray[np.float16]:
    """A float16 table of a cache, memory-mapped; if the file is missing, it is written in parts first.

    Args:
        path: its file.
        shape: items and columns.
        rows: returns the rows of the part that begins at an item, at most ``PART`` of them.
    """
    if not path.is_file():
        with atomic_write(path) as temporary:
            table = np.lib.format.open_memmap(temporary, mode="w+", dtype=np.float16, shape=shape)
            for first in range(0, shape[0], PART):
                table[first : first + PART] = rows(first)
            table.flush()
    return mapped(path, "c")


def mapped(path: Path, mode: Literal["r", "c"]) -> NDArray[Any]:
    """Map a file of a cache; InputError if it is damaged."""
    try:
        array: NDArray[Any] = np.load(path, mmap_mode=mode, allow_pickle=False)
    except (OSError, ValueError, EOFError) as error:
        raise InputError(f"{path}: damaged cache file ({error}); delete it") from None
    return array


def digest(content: str | bytes) -> bytes:
    """16 bytes that stand for a content."""
    return hashlib.blake2b(content.encode() if isinstance(content, str) else content, digest_size=16).digest()


def _digests(texts: Iterable[str]) -> NDArray[np.bytes_]:
    keys = bytearray()
    for text in texts:
        keys += digest(text)
    return np.frombuffer(keys, dtype="S16")

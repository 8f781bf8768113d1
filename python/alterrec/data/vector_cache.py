"""Vectors of texts on disk, found again by the content of the text."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from alterrec.errors import InputError
from alterrec.files import atomic_write

PART = 65536  # items of a table averaged at a time

Encode = Callable[[list[str]], NDArray[np.float32]]


def default_cache_dir() -> Path:
    """``$ALTERREC_CACHE``, else ``alterrec`` in the user's cache folder."""
    if chosen := os.environ.get("ALTERREC_CACHE"):
        return Path(chosen)
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "alterrec"


class VectorCache:
    """Vectors of one encoder: what was encoded once is never encoded again.

    A folder of segments, each an ``.npy`` array of (key, float16 vector) rows that is written whole
    or not at all and memory-mapped when read; the key is a hash of the text. An interrupted run
    keeps its finished segments.

    Args:
        folder: the cache folder; made when first written to.
        identity: what besides the text decides the vector: weights, prompt, width.

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
        """The distinct texts that have no vector yet, in the order of their first place."""
        return [text for text in dict.fromkeys(texts) if _digest(text) not in self._places]

    def vectors(self, texts: Sequence[str], encode: Encode | None) -> NDArray[np.float32]:
        """Vectors (N, F) float32 of ``texts``; those that are missing are encoded and kept.

        Values are rounded to float16 the first time too, so that a later run sees the same ones.

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
        """Mean over an item's non-empty fields, (V, F) float16, memory-mapped (copy on write); else zeros.

        Made once for a catalogue and kept: at a million items of 384 columns it is 0.7 GiB that a run
        maps and shares with other runs, where float32 in memory is 1.4 GiB for each.

        Args:
            fields: for each field the text of every item, "" for none; all of them have a vector here.

        Example:
            >>> import tempfile
            >>> cache = VectorCache(Path(tempfile.mkdtemp()), "length of the text")
            >>> encode = lambda texts: np.array([[len(text)] for text in texts], dtype=np.float32)
            >>> _ = cache.vectors(["tent", "lamp", "a red tent"], encode)
            >>> cache.table([["tent", "lamp", ""], ["a red tent", "", ""]]).tolist()
            [[7.0], [4.0], [0.0]]
        """
        # Each text by its own digest, so that no two lists of texts run into one another.
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
                f"the encoder gives values beyond float16 for {texts[row]!r}; choose another one"
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
        """Columns of a vector; 0 while the cache is empty."""
        return int(self._segments[0]["vector"].shape[1]) if self._segments else 0


def _mapped(path: Path, mode: Literal["r", "c"]) -> NDArray[Any]:
    try:
        array: NDArray[Any] = np.load(path, mmap_mode=mode, allow_pickle=False)
    except (OSError, ValueError, EOFError) as error:
        raise InputError(f"{path}: damaged cache file ({error}); delete it") from None
    return array


def _digest(content: str | bytes) -> bytes:
    return hashlib.blake2b(content.encode() if isinstance(content, str) else content, digest_size=16).digest()

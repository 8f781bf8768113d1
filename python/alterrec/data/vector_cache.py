"""A cache of text vectors on disk, keyed by the content of the text."""

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

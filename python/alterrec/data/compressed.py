"""Read files that may be compressed, as bytes; the first bytes decide, not the name."""

from __future__ import annotations

import bz2
import gzip
import lzma
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Literal, cast

from alterrec.errors import InputError
from alterrec.files import system_reason

Compression = Literal["gzip", "zstd", "bzip2", "xz"]

MAGIC: dict[bytes, Compression] = {
    b"\x1f\x8b": "gzip",
    b"\x28\xb5\x2f\xfd": "zstd",
    b"BZh": "bzip2",
    b"\xfd7zXZ\x00": "xz",
}
COMPRESSED_SUFFIXES = (".gz", ".zst", ".bz2", ".xz")
# polars decompresses these itself, zstd only so: Python 3.11 has no module for it.
POLARS_READS: tuple[Compression | None, ...] = (None, "gzip", "zstd")
BLOCK = 2**24

_OPEN: dict[Compression | None, Callable[[Path], IO[bytes]]] = {
    None: lambda path: path.open("rb"),
    "gzip": cast(Callable[[Path], IO[bytes]], gzip.open),
    "bzip2": cast(Callable[[Path], IO[bytes]], bz2.open),
    "xz": cast(Callable[[Path], IO[bytes]], lzma.open),
}


def first_bytes(path: Path, size: int = 8) -> bytes:
    """The first bytes of a file as it is stored."""
    with readable(path), path.open("rb") as file:
        return file.read(size)


def compression(path: Path) -> Compression | None:
    """How a file is compressed, from its first bytes."""
    start = first_bytes(path)
    return next((kind for magic, kind in MAGIC.items() if start.startswith(magic)), None)


def blocks(path: Path, size: int = BLOCK) -> Iterator[bytes]:
    """The decompressed content of a file in blocks of ``size`` bytes; not for zstd, which polars reads.

    Raises:
        InputError: the file cannot be read, or its compressed content is damaged.

    Example:
        >>> import tempfile
        >>> file = Path(tempfile.mkdtemp()) / "log.csv.gz"
        >>> _ = file.write_bytes(gzip.compress(b"user,item"))
        >>> list(blocks(file, 5))
        [b'user,', b'item']
    """
    open_it = _OPEN[compression(path)]
    with readable(path), open_it(path) as file:
        while block := file.read(size):
            yield block


@contextmanager
def readable(path: Path) -> Iterator[None]:
    """Turn errors of the file system and of decompression into an InputError that names the file."""
    try:
        yield
    except (gzip.BadGzipFile, EOFError, lzma.LZMAError, zlib.error) as error:
        raise InputError(f"{path}: the compressed file is damaged ({error}); copy it again") from None
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({system_reason(error)})") from None

"""The manifest of a run folder: size and hashes of each file, so that files of different runs are not mixed.

``manifest.json`` is written when all other files are there. It tells damage and mix-ups; it does not protect
from somebody who also forges the manifest.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, BinaryIO, ClassVar

from pydantic import Field

from alterrec.errors import InputError
from alterrec.files import check_regular, read_text, system_reason, write_json
from alterrec.record_json import from_json, to_json

MANIFEST = "manifest.json"
RESULT = "result.json"
# The files of a finished run that belong together, and what each is for. Pages and checkpoints are not among
# them, because later commands rewrite them.
ROLES: Mapping[str, str] = {
    "recipe.toml": "settings",
    "model.safetensors": "weights",
    "vocabulary.parquet": "items",
    "users.parquet": "users",
    "encoder.safetensors": "text encoder",
    "ranks.parquet": "ranks of the targets",
    "top.parquet": "top items of the test targets",
    "curves.jsonl": "training curves",
    "examples.json": "examples",
    RESULT: "metrics",
}
# Files up to this size are always hashed as a whole, of larger ones both ends and some blocks in between.
_SMALL = 2**20
_END = 2**16
_BLOCK, _BLOCKS = 2**12, 64

_ADVICE = "copy the run folder again, or finish the run with --resume"


@dataclass(frozen=True)
class FileEntry:
    """One file of a run.

    Attributes:
        role: what the file is for.
        size: its bytes.
        sample: hash of a small file, or of both ends and of some blocks of a large one.
        hash: hash of the content.
    """

    role: str
    size: Annotated[int, Field(ge=0)]
    sample: str
    hash: str


@dataclass(frozen=True)
class Manifest:
    """``manifest.json``; hashes are BLAKE2b with 128 bits, in hexadecimal."""

    LATEST_SCHEMA: ClassVar[int] = 1

    schema: Annotated[int, Field(ge=1)]
    files: dict[str, FileEntry]


def manifest_of(folder: Path) -> Manifest:
    """Return the manifest of the files in a folder, which are read as a whole."""
    files = {}
    for name, role in ROLES.items():
        path = folder / name
        if path.exists():
            check_regular(path)
            if path.is_dir():
                raise InputError(f"{path} is a folder; expected a file; {_ADVICE}")
            files[name] = FileEntry(role, path.stat().st_size, _sample(path), _content(path))
    return Manifest(Manifest.LATEST_SCHEMA, files)


def write_manifest(folder: Path) -> None:
    """Write the manifest of the files in a folder."""
    write_json(folder / MANIFEST, to_json(manifest_of(folder)))


def check_manifest(folder: Path, *, contents: bool = False) -> Manifest | None:
    """Check that the files of a run are those that it wrote.

    Args:
        folder: the run folder.
        contents: whether to hash large files as a whole, too, which takes about a second for each GB.

    Returns:
        The manifest; None if an earlier version of alterrec wrote the run, so that there is none.

    Raises:
        InputError: a file is missing, has another content, or does not belong to the run.

    Example:
        >>> import tempfile
        >>> folder = Path(tempfile.mkdtemp())
        >>> _ = (folder / "recipe.toml").write_text("model_name = 'sasrec'")
        >>> write_manifest(folder)
        >>> _ = (folder / "recipe.toml").write_text("model_name = 'bsarec'")
        >>> check_manifest(folder)  # doctest: +ELLIPSIS
        Traceback (most recent call last):
            ...
        alterrec.errors.InputError: .../recipe.toml has another content than manifest.json says; copy ...
    """
    path = folder / MANIFEST
    if not path.exists():
        _check_earlier(folder)
        return None
    manifest = from_json(Manifest, read_text(path), str(path))
    unknown = sorted(manifest.files.keys() - ROLES.keys())
    if unknown:
        raise InputError(f"{path} is damaged: a run has no file {unknown[0]!r}; {_ADVICE}")
    for name in ROLES:
        if name in manifest.files:
            _check_file(folder / name, manifest.files[name], contents)
        elif (folder / name).exists():
            raise InputError(f"{folder / name} does not belong to this run; delete it, or {_ADVICE}")
    return manifest


def _check_earlier(folder: Path) -> None:
    """Refuse a run without a manifest whose result says that it has one."""
    try:
        expected = json.loads(read_text(folder / RESULT)).get("manifest") is True
    except (InputError, ValueError, AttributeError):
        # Whoever needs the result reports that it is missing or damaged.
        return
    if expected:
        raise InputError(f"{folder} has no {MANIFEST}; {_ADVICE}")


def _check_file(path: Path, entry: FileEntry, contents: bool) -> None:
    try:
        if not path.is_file():
            # Also a named pipe or a device, whose content would never end.
            raise InputError(f"{path} is missing or no regular file, but {MANIFEST} lists it; {_ADVICE}")
        size = path.stat().st_size
        if size != entry.size:
            raise InputError(f"{path} has {size} bytes, but {MANIFEST} says {entry.size}; {_ADVICE}")
        same = _content(path) == entry.hash if contents else _sample(path) == entry.sample
    except OSError as error:
        raise InputError(f"cannot read {path}: {system_reason(error)}") from None
    if not same:
        raise InputError(f"{path} has another content than {MANIFEST} says; {_ADVICE}")


def _content(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, _digest).hexdigest()


def _sample(path: Path) -> str:
    with path.open("rb") as file:
        size = os.fstat(file.fileno()).st_size
        if size <= _SMALL:
            return hashlib.file_digest(file, _digest).hexdigest()
        digest = _digest()
        for block in _blocks(file, size):
            digest.update(block)
        return digest.hexdigest()


def _blocks(file: BinaryIO, size: int) -> Iterator[bytes]:
    """Yield both ends of a file and blocks at equal distances between them."""
    yield file.read(_END)
    for number in range(_BLOCKS):
        file.seek(_END + (size - 2 * _END - _BLOCK) * number // (_BLOCKS - 1))
        yield file.read(_BLOCK)
    file.seek(size - _END)
    yield file.read(_END)


def _digest() -> hashlib.blake2b:
    return hashlib.blake2b(digest_size=16)

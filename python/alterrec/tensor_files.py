"""Read and write the safetensors files of run folders: models and checkpoints.

Processes of a job can each hold some rows of a tensor. They write one file together, the same as one process
would write: the first one writes, and the others send it their rows in parts. Each reads its own rows.
"""

from __future__ import annotations

import json
import math
import zlib
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any

import torch
from safetensors import safe_open
from torch import Tensor

from alterrec import parallel
from alterrec.errors import InputError
from alterrec.files import atomic_write, reading
from alterrec.shards import Shard
from alterrec.stored import ADVICE

# Bytes that are copied, sent, written or checked at a time.
PART = 2**26
# The types of our tensors, in the order of safetensors, which puts the largest values first.
_TYPES = {
    torch.int64: "I64",
    torch.float64: "F64",
    torch.float32: "F32",
    torch.int32: "I32",
    torch.bfloat16: "BF16",
    torch.float16: "F16",
    torch.int16: "I16",
    torch.int8: "I8",
    torch.uint8: "U8",
    torch.bool: "BOOL",
}
_ALIGNMENT = 8
# Name of the checksum in the metadata, what stands before it in the header, and what stands for it while it
# is computed.
CHECKSUM = "crc32"
_BEFORE, _UNKNOWN = f'"{CHECKSUM}":"'.encode(), "00000000"


def write_tensors(
    path: Path,
    tensors: Mapping[str, Tensor],
    metadata: Mapping[str, str],
    shards: Mapping[str, Shard] = MappingProxyType({}),
    *,
    checksum: bool = False,
) -> None:
    """Write a safetensors file, in the first process of a job; equal tensors and metadata give equal files.

    Args:
        path: the file. After an error it is as it was.
        tensors: name -> tensor, or the rows of it that this process holds.
        metadata: texts by name.
        shards: name -> rows of this process, for tensors that are divided among the processes. If there are
            any, all processes call this function in the same order, and what fails in the first one is raised
            in all of them.
        checksum: whether the metadata have a checksum of the file, for :func:`check_sum`.

    Raises:
        InputError: the disk is full or the path cannot be written to.

    Example:
        >>> import tempfile
        >>> path = Path(tempfile.mkdtemp()) / "model.safetensors"
        >>> write_tensors(path, {"x": torch.ones(2)}, {"kind": "example"})
        >>> read_tensors(path)
        ({'x': tensor([1., 1.])}, {'kind': 'example'})
    """
    names = sorted(tensors, key=lambda name: ([*_TYPES].index(tensors[name].dtype), name))
    parts = (part for name in names for part in _parts_of_all(tensors[name], shards.get(name)))

    def write() -> None:
        try:
            with atomic_write(path) as temporary, temporary.open("wb") as file:
                unknown = {CHECKSUM: _UNKNOWN} if checksum else {}
                header = _header(names, tensors, {**metadata, **unknown}, shards)
                file.write(header)
                found = zlib.crc32(header)
                for part in parts:
                    file.write(part.numpy().data)
                    found = zlib.crc32(part.numpy().data, found)
                if checksum:
                    file.seek(header.index(_BEFORE) + len(_BEFORE))
                    file.write(f"{found:08x}".encode())
        finally:
            # After an error, too, the other processes send their rows, and then hear of it.
            for _ in parts:
                pass

    if not parallel.job().is_first:
        for _ in parts:
            pass
    if shards:
        parallel.from_first(write)
    elif parallel.job().is_first:
        write()


def _header(
    names: list[str], tensors: Mapping[str, Tensor], metadata: Mapping[str, str], shards: Mapping[str, Shard]
) -> bytes:
    """Return what precedes the values: the length of the JSON header and the header."""
    header: dict[str, Any] = {"__metadata__": dict(sorted(metadata.items()))}
    end = 0
    for name in names:
        shape = [*tensors[name].shape]
        if name in shards:
            assert shape[0] == shards[name].size
            shape[0] = shards[name].total
        begin, end = end, end + math.prod(shape) * tensors[name].element_size()
        header[name] = {"dtype": _TYPES[tensors[name].dtype], "shape": shape, "data_offsets": [begin, end]}
    text = json.dumps(header, separators=(",", ":"), ensure_ascii=False).encode()
    text = text.ljust(math.ceil(len(text) / _ALIGNMENT) * _ALIGNMENT)
    return len(text).to_bytes(8, "little") + text


def _parts_of_all(rows: Tensor, shard: Shard | None) -> Iterator[Tensor]:
    """Yield the bytes of a tensor in the first process, in parts; the other processes send it their rows."""
    first = parallel.job().is_first
    if shard is None:
        if first:
            yield from _parts(rows)
        return
    for rank, other in enumerate(Shard.of_each(shard.total)):
        if rank == parallel.job().rank:
            for part in _parts(rows):
                if first:
                    yield part
                else:
                    parallel.send_to_first(part)
        elif first:
            left = other.size * math.prod(rows.shape[1:]) * rows.element_size()
            buffer = torch.empty(min(left, PART), dtype=torch.uint8)
            while left:
                yield parallel.received(buffer[:left], rank)
                left -= len(buffer[:left])


def _parts(values: Tensor) -> Iterator[Tensor]:
    """Yield the bytes of a tensor in parts on the CPU, of which all but the last have ``PART`` bytes."""
    flat = values.detach().reshape(-1)
    for first in range(0, len(flat), PART // flat.element_size()):
        yield flat[first : first + PART // flat.element_size()].cpu().view(torch.uint8)


def read_tensors(
    path: Path,
    advice: str = ADVICE,
    shards: Mapping[str, Shard] = MappingProxyType({}),
) -> tuple[dict[str, Tensor], dict[str, str]]:
    """Read a safetensors file: its tensors and its metadata.

    Args:
        path: the file.
        advice: what the user can do if it is damaged.
        shards: name -> rows to read, for tensors that are not read as a whole.

    Raises:
        InputError: the file is missing or damaged, a tensor has a value that is not finite, or one of
            ``shards`` has another number of rows.
    """
    with reading(path, advice):
        with safe_open(path, framework="pt") as file:
            metadata: dict[str, str] = file.metadata() or {}
            tensors = {name: _read(file, name, shards.get(name)) for name in file.keys()}  # noqa: SIM118
        for name, tensor in tensors.items():
            if not all_finite(tensor):
                raise InputError(f"{path} has values that are not finite in {name}; {advice}")
    return tensors, metadata


def check_sum(path: Path, advice: str = ADVICE) -> None:
    """Raise InputError if a file does not have the checksum with which it was written, if there is one.

    Example:
        >>> import tempfile
        >>> path = Path(tempfile.mkdtemp()) / "state.safetensors"
        >>> write_tensors(path, {"x": torch.ones(2)}, {}, checksum=True)
        >>> check_sum(path)
        >>> _ = path.write_bytes(path.read_bytes()[:-1] + b"!")
        >>> try:
        ...     check_sum(path)
        ... except InputError as error:
        ...     print(str(error).removeprefix(str(path)))
         has changed since it was written: its checksum differs; copy the folder again or repeat the run
    """
    with reading(path, advice):
        with path.open("rb") as file:
            size = file.read(8)
            header = file.read(min(int.from_bytes(size, "little"), path.stat().st_size))
            place = header.find(_BEFORE) + len(_BEFORE)
            if place < len(_BEFORE):
                # Versions up to 0.1.0 wrote none.
                return
            expected = header[place : place + 8]
            found = zlib.crc32(size + header[:place] + _UNKNOWN.encode() + header[place + 8 :])
            while part := file.read(PART):
                found = zlib.crc32(part, found)
        if expected != f"{found:08x}".encode():
            raise InputError(f"{path} has changed since it was written: its checksum differs; {advice}")


def names_in(path: Path) -> list[str]:
    """Return the names of the tensors of a safetensors file; InputError if it is damaged."""
    with reading(path, ADVICE), safe_open(path, framework="pt") as file:
        return [*file.keys()]


def _read(file: Any, name: str, shard: Shard | None) -> Tensor:
    # Without the copy a tensor is a part of the mapped file and changes or vanishes with it: a loaded
    # model would score by what another run has written over its file.
    if shard is None:
        whole: Tensor = file.get_tensor(name)
        return whole.clone()
    found = file.get_slice(name)
    shape = found.get_shape()
    if shape[:1] != [shard.total]:
        raise ValueError(f"{name} has shape {tuple(shape)}, but there are {shard.total} items")
    rows: Tensor = found[shard.rows]
    return rows.clone()


def all_finite(values: Tensor) -> bool:
    """Return whether all values are finite; only parts of a large tensor are copied.

    Example:
        >>> all_finite(torch.tensor([1.0, torch.inf])), all_finite(torch.tensor([2]))
        (False, True)
    """
    if not values.is_floating_point():
        return True
    parts = torch.split(values.detach().reshape(-1), PART // values.element_size())
    return all(bool(torch.isfinite(part).all()) for part in parts)

"""Read a Parquet file, with time zones that polars does not know as UTC."""

from __future__ import annotations

import base64
import io
import re
from pathlib import Path

import polars as pl

from alterrec.errors import InputError
from alterrec.files import reading

ADVICE = "write it again"
UNKNOWN_ZONE = re.compile(r"unable to parse time zone: '([^']+)'")
# In the footer of a Parquet file, the schema of Arrow follows this key and the type of a string.
ARROW_SCHEMA = b"ARROW:schema\x18"


def read_parquet(path: Path) -> pl.DataFrame:
    """Read a Parquet file.

    Times with a zone are stored in UTC, and the zone is only a name beside them. polars panics if it does not
    know the name, such as the offset +05:30. It is then replaced by UTC in memory, which changes no time.

    Raises:
        InputError: the file cannot be read or is damaged.
    """
    try:
        with reading(path, ADVICE):
            return pl.read_parquet(path, glob=False)
    except InputError as error:
        zone = UNKNOWN_ZONE.search(str(error))
        if zone is None:
            raise
    content = path.read_bytes()
    while zone is not None:
        changed = _without_zone(content, zone[1].encode())
        if changed == content:
            raise InputError(f"{path}: the time zone {zone[1]!r} is unknown; write the times in UTC")
        content = changed
        try:
            with reading(path, ADVICE):
                return pl.read_parquet(io.BytesIO(content))
        except InputError as error:
            zone = UNKNOWN_ZONE.search(str(error))
            if zone is None:
                raise
    raise AssertionError("the loop ends by return or raise")


def _without_zone(content: bytes, zone: bytes) -> bytes:
    """Replace the name of a zone by UTC in the Arrow schema of a Parquet file, keeping its size."""
    place = arrow_schema(content)
    schema = base64.b64decode(content[place])
    # A string of a flatbuffer follows its length and is filled up with one to four zeros.
    size = len(zone) // 4 * 4 + 4
    old = len(zone).to_bytes(4, "little") + zone.ljust(size, b"\0")
    new = (3).to_bytes(4, "little") + b"UTC".ljust(size, b"\0")
    changed = base64.b64encode(schema.replace(old, new))
    return content[: place.start] + changed + content[place.stop :]


def arrow_schema(content: bytes) -> slice:
    """The place of the Arrow schema in a Parquet file, base64; empty if there is none."""
    key = content.rfind(ARROW_SCHEMA)
    if key < 0:
        return slice(0, 0)
    start, size, shift = key + len(ARROW_SCHEMA), 0, 0
    while True:
        # Its length has 7 bits per byte, the lowest first; the highest bit says that another byte follows.
        byte = content[start]
        size |= (byte & 127) << shift
        start, shift = start + 1, shift + 7
        if byte < 128:
            return slice(start, start + size)

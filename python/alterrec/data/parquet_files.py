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
UNKNOWN_ZONE = re.compile(r"unable to parse time zone: '([^']{3,})'")
# The schema of Arrow in the footer of a Parquet file.
ARROW_SCHEMA = re.compile(rb"ARROW:schema[^A-Za-z0-9+/]{2,8}([A-Za-z0-9+/]+={0,2})")


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
    found = ARROW_SCHEMA.search(content, max(0, len(content) - 8 - int.from_bytes(content[-8:-4], "little")))
    if found is None:
        return content
    schema = base64.b64decode(found[1])
    # A string of a flatbuffer follows its length and ends with a zero.
    old = len(zone).to_bytes(4, "little") + zone + b"\0"
    new = (3).to_bytes(4, "little") + b"UTC".ljust(len(zone), b"\0") + b"\0"
    changed = base64.b64encode(schema.replace(old, new))
    return content[: found.start(1)] + changed + content[found.end(1) :]

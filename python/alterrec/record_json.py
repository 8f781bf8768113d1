"""Write records as JSON, and read and check them again.

A record is a dataclass. If its files have a number of their schema, the class names the latest one that this
version reads in ``LATEST_SCHEMA``.
"""

from __future__ import annotations

import functools
from contextlib import suppress
from typing import Any, TypeVar, cast

import pydantic_core
from pydantic import TypeAdapter

from alterrec.errors import InputError
from alterrec.files import parse_json

T = TypeVar("T")


@functools.cache
def _adapter(kind: Any) -> TypeAdapter[Any]:
    return TypeAdapter(kind)


def to_json(record: Any) -> Any:
    """Return a record, or a list of them, as values for :func:`json.dumps` under the names in the files.

    Example:
        >>> from alterrec.results import PhaseRecord
        >>> to_json(PhaseRecord(1, 2, "id", "full"))["from"]
        1
    """
    if isinstance(record, list | tuple):
        return [to_json(each) for each in record]
    kind: Any = type(record)
    return _adapter(kind).dump_python(record, mode="json", by_alias=True)


def from_json(kind: type[T], text: str, where: str) -> T:
    """Parse and check a record.

    Args:
        kind: the record's class.
        text: JSON of this version or of an earlier one.
        where: file (and line) to name in errors.

    Raises:
        InputError: the text is damaged (the message names the place), or a later version wrote it.

    Example:
        >>> from alterrec.results import Item
        >>> from_json(Item, '{"item_id": "a"}', "examples.json")
        Item(item_id='a', text='')
    """
    schema = None
    latest: int | None = getattr(kind, "LATEST_SCHEMA", None)
    if latest is not None:
        # parse_json names the place of any damage.
        with suppress(ValueError, AttributeError):
            schema = pydantic_core.from_json(text).get("schema")
    if latest is not None and isinstance(schema, int) and schema > latest:
        raise InputError(
            f"{where} has schema {schema}, and this version of alterrec reads schemas 1 to {latest}; "
            "upgrade alterrec"
        )
    return cast(T, parse_json(_adapter(cast(Any, kind)), text, where))

"""Scan delimited text files of published data sets: all cells as text, columns checked by name."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import polars as pl

from alterrec.errors import InputError, nearest
from alterrec.files import reading

ADVICE = "copy the file again"


def scan_text(
    path: Path, required: Sequence[str], *, separator: str = ",", row_index: str | None = None
) -> pl.LazyFrame:
    """Scan a delimited file with a header line; all its columns are String.

    Args:
        path: the file.
        required: columns that it must have.
        separator: what is between two cells, one byte.
        row_index: name of a column with the index of each row in the file, from 0; None for none.

    Raises:
        InputError: no such file, it is no text table, or a column is missing.

    Example:
        >>> import tempfile
        >>> path = Path(tempfile.mkdtemp()) / "products.csv"
        >>> _ = path.write_text("id,title\\n01,Tent\\n")
        >>> scan_text(path, ["id"]).collect().rows()
        [('01', 'Tent')]
    """
    with reading(path, ADVICE):
        frame = pl.scan_csv(
            path, separator=separator, infer_schema=False, row_index_name=row_index, glob=False
        )
        columns = frame.collect_schema().names()
    missing = [name for name in required if name not in columns]
    if missing:
        raise InputError(
            f"{path}: column {missing[0]!r} is missing; its columns are "
            f"{', '.join(map(repr, columns))}{nearest(missing[0], columns)}"
        )
    return frame


def id_text(column: str) -> pl.Expr:
    """A column of ids without spaces around them; an empty id is null.

    Example:
        >>> pl.DataFrame({"id": [" a ", ""]}).select(id_text("id"))["id"].to_list()
        ['a', None]
    """
    text = pl.col(column).str.strip_chars()
    return pl.when(text != "").then(text).alias(column)

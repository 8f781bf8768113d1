"""Read the tables of run folders, which may be damaged, forged or old.

JSON records are read by :mod:`alterrec.record_json`, tensors by :mod:`alterrec.tensor_files`. None of the
readers unpickles anything.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Literal

import polars as pl

from alterrec.errors import InputError
from alterrec.files import reading

Kind = Literal["text", "count", "flag", "counts"]

_KINDS: dict[Kind, str] = {
    "text": "text",
    "count": "integers of 0 or more",
    "flag": "truth values",
    "counts": "lists of integers of 0 or more",
}
# Larger counts are not of this catalogue, and their sums would not be exact.
_LARGEST_COUNT = 2**53
ADVICE = "copy the folder again or repeat the run"


def read_table(
    path: Path, columns: Mapping[str, Kind], further: Mapping[str, Kind] = MappingProxyType({})
) -> pl.DataFrame:
    """Read a Parquet file of a run folder and check its columns; there are no nulls in them.

    Args:
        path: the file.
        columns: name -> kind of the columns that must be there.
        further: start of the name -> kind of columns that may be there.

    Raises:
        InputError: the file is missing or damaged, or a column is missing or of another kind.

    Example:
        >>> import tempfile
        >>> path = Path(tempfile.mkdtemp()) / "users.parquet"
        >>> pl.DataFrame({"user_id": ["u1", "u2"]}).write_parquet(path)
        >>> read_table(path, {"user_id": "text"})["user_id"].to_list()
        ['u1', 'u2']
        >>> try:
        ...     read_table(path, {"user_id": "count"})
        ... except InputError as error:
        ...     print(str(error).removeprefix(str(path)))
        : column user_id is not integers of 0 or more; copy the folder again or repeat the run
    """
    if not path.exists():
        raise InputError(f"no {path.name} in {str(path.parent)!r}; give the folder of a finished run")
    with reading(path, ADVICE):
        frame = pl.read_parquet(path, glob=False)
        kinds = dict(columns)
        for start, kind in further.items():
            kinds |= {name: kind for name in frame.columns if name.startswith(start)}
        for name, kind in kinds.items():
            if name not in frame.columns:
                raise InputError(f"{path} has no column {name}; {ADVICE}")
            if not _is_of(frame[name], kind):
                raise InputError(f"{path}: column {name} is not {_KINDS[kind]}; {ADVICE}")
    return frame


def _is_of(column: pl.Series, kind: Kind) -> bool:
    """Whether all values of a column are of a kind."""
    if kind == "counts" and isinstance(column.dtype, pl.List):
        lists, column = column, column.explode()
        return not lists.null_count() and (not len(lists) or _is_of(column.drop_nulls(), "count"))
    if column.null_count():
        return False
    if kind == "text":
        return column.dtype == pl.String
    if kind == "flag":
        return column.dtype == pl.Boolean
    if kind != "count" or not column.dtype.is_integer():
        return False
    least, most = column.min(), column.max()
    return least is None or most is None or (int(least) >= 0 and int(most) <= _LARGEST_COUNT)  # type: ignore[arg-type]

"""Item vectors from a file, which replace the text."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from alterrec.data.tables import ROW, find_column, id_column, read_data_file
from alterrec.errors import InputError, nearest
from alterrec.vocabulary import Vocabulary

SUFFIXES = (".npy", ".safetensors", ".parquet")


def load_vectors(
    path: str | Path, vocabulary: Vocabulary, *, notes: list[str] | None = None
) -> NDArray[np.floating]:
    """Read item vectors, (V, F), rounded to float32; a float16 ``.npy`` stays float16 and is memory-mapped.

    Args:
        path: ``.npy`` with one (V, F) array; ``.safetensors`` with one (V, F) tensor; or ``.parquet`` with a
            column ``item_id`` and either one column of lists or F columns of numbers. Rows of the first two
            are in the order of the items file. Rows of a Parquet file are matched by id; rows of other items
            are ignored.
        vocabulary: the catalogue.
        notes: gets a sentence with the number of rows that are ignored, if there are any.

    Raises:
        InputError: wrong path, suffix, shape or type, an item without a vector or with two, a NaN or an
            infinity, or a number that float32 cannot hold.

    Example:
        >>> import tempfile
        >>> path = Path(tempfile.mkdtemp()) / "vectors.npy"
        >>> np.save(path, np.eye(2))
        >>> load_vectors(path, Vocabulary(("tent", "lamp"))).dtype
        dtype('float32')
    """
    path = Path(path)
    if path.suffix not in SUFFIXES:
        raise InputError(f"{path}: its suffix is {path.suffix!r}; expected one of {', '.join(SUFFIXES)}")
    if not path.is_file():
        others = [other.name for other in path.parent.iterdir()] if path.parent.is_dir() else []
        raise InputError(f"{path}: no such file{nearest(path.name, others)}")
    read = {".npy": _from_npy, ".safetensors": _from_safetensors}.get(path.suffix)
    vectors = read(path) if read else _from_parquet(path, vocabulary, [] if notes is None else notes)
    wanted = f"({len(vocabulary)}, F), one row for each of the {len(vocabulary)} items"
    if vectors.ndim != 2 or len(vectors) != len(vocabulary) or vectors.shape[1] == 0:
        raise InputError(f"{path}: its shape is {vectors.shape}; expected {wanted}")
    if vectors.dtype.kind not in "fiu":
        raise InputError(f"{path}: its type is {vectors.dtype}; expected floats or integers")
    if vectors.dtype.kind in "iu" and max(abs(int(vectors.max())), abs(int(vectors.min()))) > 2**24:
        raise InputError(
            f"{path}: has integers beyond 2**24, which float32 does not hold exactly; expected floats or "
            "smaller integers"
        )
    checked: NDArray[Any] = vectors
    if not (path.suffix == ".npy" and vectors.dtype == np.float16):
        with np.errstate(over="ignore"):
            checked = np.ascontiguousarray(vectors, dtype=np.float32)
    # Searched in blocks: a mask of a whole mapped file would be half its size.
    for first in range(0, len(checked), 65536):
        wrong = np.argwhere(~np.isfinite(checked[first : first + 65536]))
        if wrong.size:
            row, column = first + int(wrong[0, 0]), int(wrong[0, 1])
            raise InputError(
                f"{path}, row {row + 1} (item {vocabulary.item_ids[row]!r}), column {column + 1}: is "
                f"{vectors[row, column]}; expected finite float32 numbers"
            )
    return checked


def _from_npy(path: Path) -> NDArray[np.generic]:
    try:
        # Mapped copy-on-write, because torch warns about read-only arrays.
        array: NDArray[np.generic] = np.load(path, mmap_mode="c", allow_pickle=False)
    # The header is parsed as Python source, so damage raises one of many exception types.
    except Exception as error:
        raise InputError(f"{path}: damaged or not an .npy file of numbers ({error})") from None
    return array


def _from_safetensors(path: Path) -> NDArray[np.generic]:
    from safetensors import SafetensorError
    from safetensors.numpy import load_file

    try:
        tensors = load_file(path)
    except (SafetensorError, OSError, KeyError, TypeError, AttributeError) as error:
        raise InputError(
            f"{path}: damaged, or not float16, float32, float64 or integer tensors ({error})"
        ) from None
    if len(tensors) != 1:
        raise InputError(f"{path}: has tensors {sorted(tensors)}; expected exactly one")
    array: NDArray[np.generic] = next(iter(tensors.values()))
    return array


def _from_parquet(path: Path, vocabulary: Vocabulary, notes: list[str]) -> NDArray[np.generic]:
    table = read_data_file(path)
    column = find_column(table, "item_id", {}, required=True) or "item_id"
    ids = id_column(table, column)
    repeated = ~ids.is_first_distinct()
    if repeated.any():
        row = repeated.arg_max() or 0
        raise InputError(
            f"{table.place(row)}: item {ids[row]!r} has a row before ({repeated.sum()} such rows); expected "
            "one row for each item"
        )
    items = pl.DataFrame({"item": ids}).with_row_index("row")
    wanted = pl.DataFrame({"item": list(vocabulary.item_ids)})
    rows = wanted.join(items, on="item", how="left", maintain_order="left")["row"]
    if rows.null_count():
        first = vocabulary.item_ids[rows.is_null().arg_max() or 0]
        raise InputError(
            f"{path}: {rows.null_count()} of {len(vocabulary)} items have no row, the first is {first!r}; "
            "expected a row for every item"
        )
    if len(ids) > len(vocabulary):
        notes.append(
            f"{path.name}: rows of items that are not in the catalogue: {len(ids) - len(vocabulary)}"
        )
    values = table.frame[rows].drop(ROW, column)
    if not values.width:
        raise InputError(
            f"{path}: has no column except {column}; expected one column of lists of numbers or "
            "columns of numbers"
        )
    listed = values.width == 1 and isinstance(values.dtypes[0], pl.List | pl.Array)
    if not listed:
        wrong = next((name for name, kind in values.schema.items() if not kind.is_numeric()), None)
        if wrong is not None:
            raise InputError(
                f"{path}: column {wrong!r} is {values.schema[wrong]}; expected item_id and either one column "
                "of lists of numbers or columns of numbers"
            )
        return values.fill_null(float("nan")).to_numpy()
    kind = values.dtypes[0]
    if isinstance(kind, pl.List | pl.Array) and not pl.Series(dtype=kind.inner).dtype.is_numeric():
        raise InputError(f"{path}: has lists of {kind.inner}; expected lists of numbers")
    lists = values.to_series().cast(pl.List(pl.Float64), strict=False)
    lengths = lists.list.len().fill_null(0)
    width = lengths[0]
    if (lengths != width).any():
        row = (lengths != width).arg_max() or 0
        raise InputError(
            f"{path}: the vector of item {vocabulary.item_ids[row]!r} has {lengths[row]} numbers, the one of "
            f"{vocabulary.item_ids[0]!r} has {width}; expected the same length for every item"
        )
    return lists.explode().to_numpy().reshape(len(vocabulary), width)

"""Vectors that replace the text, and every way in which they can be wrong."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from safetensors.numpy import save_file

from alterrec.data.readers import load_dataset
from alterrec.data.vectors import load_vectors
from alterrec.errors import InputError
from alterrec.vocabulary import Vocabulary

VOCABULARY = Vocabulary(("tent", "lamp", "stove"))
GIVEN = np.arange(6, dtype=np.float32).reshape(3, 2)


def save(path: Path, vectors: np.ndarray) -> Path:
    if path.suffix == ".npy":
        np.save(path, vectors)
    elif path.suffix == ".safetensors":
        save_file({"vectors": vectors}, path)
    else:
        columns = {f"x{number}": vectors[:, number] for number in range(vectors.shape[1])}
        ids = ["tent", "lamp", "stove", "boat"][: len(vectors)]
        pl.DataFrame({"item_id": ids, **columns}).write_parquet(path)
    return path


@pytest.mark.parametrize("suffix", [".npy", ".safetensors", ".parquet"])
@pytest.mark.parametrize("kind", [np.float16, np.float32, np.float64, np.int64])
def test_read_as_float32_or_mapped_as_float16(tmp_path: Path, suffix: str, kind: type[np.generic]) -> None:
    vectors = load_vectors(save(tmp_path / f"v{suffix}", GIVEN.astype(kind)), VOCABULARY)
    mapped = suffix == ".npy" and kind is np.float16
    assert vectors.dtype == (np.float16 if mapped else np.float32)
    assert isinstance(vectors, np.memmap) == mapped
    assert vectors.flags.c_contiguous
    np.testing.assert_array_equal(vectors, GIVEN)


def test_parquet_rows_are_matched_by_id(tmp_path: Path) -> None:
    path = tmp_path / "v.parquet"
    ids = ["stove", "boat", "tent", "lamp"]
    pl.DataFrame({"item_id": ids, "vector": [[4.0, 5.0], [9.0, 9.0], [0.0, 1.0], [2.0, 3.0]]}).write_parquet(
        path
    )
    np.testing.assert_array_equal(load_vectors(path, VOCABULARY), GIVEN)


def test_a_data_set_carries_them(tmp_path: Path) -> None:
    (tmp_path / "items.csv").write_text("item_id\ntent\nlamp\nstove\n", "utf-8")
    for split in ("train", "valid", "test"):
        (tmp_path / f"{split}.csv").write_text("session_id,item_id\ns,tent\ns,lamp\n", "utf-8")
    data = load_dataset(tmp_path, vectors=save(tmp_path / "v.npy", GIVEN))
    assert data.text is None
    np.testing.assert_array_equal(data.vectors, GIVEN)
    assert data.fingerprint != load_dataset(tmp_path).fingerprint


def refuse(path: Path, told: str) -> None:
    with pytest.raises(InputError, match="^" + re.escape(str(path)) + told) as caught:
        load_vectors(path, VOCABULARY)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("suffix", [".npy", ".safetensors", ".parquet"])
@pytest.mark.parametrize("wrong", [np.nan, np.inf, -np.inf])
def test_not_finite(tmp_path: Path, suffix: str, wrong: float) -> None:
    vectors = GIVEN.copy()
    vectors[1, 1] = wrong
    path = save(tmp_path / f"v{suffix}", vectors)
    refuse(path, rf", row 2 \(item 'lamp'\), column 2: is {wrong}; expected finite float32 numbers")


def test_beyond_float32(tmp_path: Path) -> None:
    path = save(tmp_path / "v.npy", np.array([[1e300], [0], [0]]))
    refuse(path, r", row 1 \(item 'tent'\), column 1: is 1e\+300; expected finite float32 numbers")


@pytest.mark.parametrize("suffix", [".npy", ".safetensors"])
@pytest.mark.parametrize("shape", [(2, 2), (4, 2), (3,), (3, 2, 1), (3, 0)])
def test_wrong_shape(tmp_path: Path, suffix: str, shape: tuple[int, ...]) -> None:
    path = save(tmp_path / f"v{suffix}", np.zeros(shape, np.float32))
    refuse(
        path, rf": its shape is {re.escape(str(shape))}; expected \(3, F\), one row for each of the 3 items"
    )


def test_wrong_type(tmp_path: Path) -> None:
    refuse(save(tmp_path / "v.npy", np.full((3, 2), "a")), ": its type is <U1; expected floats or integers")


def test_damaged(tmp_path: Path) -> None:
    for suffix, told in (
        (".npy", ": damaged or not an .npy"),
        (".safetensors", ": damaged, or not float16"),
        (".parquet", " is damaged"),
    ):
        path = save(tmp_path / f"v{suffix}", GIVEN)
        path.write_bytes(path.read_bytes()[:-8])
        refuse(path, told)
        path.write_bytes(b"")
        refuse(path, told)


def test_damaged_header(tmp_path: Path) -> None:
    path = save(tmp_path / "v.npy", GIVEN)
    path.write_bytes(path.read_bytes().replace(b"'shape': (3, 2)", b"'shape': (3, (2"))
    refuse(path, ": damaged or not an .npy file of numbers")


def test_pickled_objects_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "v.npy"
    np.save(path, np.array([{}, {}, {}], dtype=object), allow_pickle=True)
    refuse(path, ": damaged or not an .npy file of numbers")


def test_several_tensors(tmp_path: Path) -> None:
    path = tmp_path / "v.safetensors"
    save_file({"b": GIVEN, "a": GIVEN}, path)
    refuse(path, r": has tensors \['a', 'b'\]; expected exactly one")


def test_parquet_without_an_item(tmp_path: Path) -> None:
    path = save(tmp_path / "v.parquet", GIVEN[:2])
    refuse(path, ": 1 of 3 items have no row, the first is 'stove'; expected a row for every item")


def test_parquet_without_ids(tmp_path: Path) -> None:
    path = tmp_path / "v.parquet"
    pl.DataFrame({"item": ["tent"], "x": [1.0]}).write_parquet(path)
    refuse(
        path, ": column 'item_id' is missing; its columns are 'item', 'x'; did you mean 'item_id'?|: column"
    )


def test_parquet_of_text(tmp_path: Path) -> None:
    path = tmp_path / "v.parquet"
    pl.DataFrame({"item_id": VOCABULARY.item_ids, "x": ["a", "b", "c"]}).write_parquet(path)
    refuse(
        path, ": column 'x' is String; expected item_id and either one column of lists of numbers or columns"
    )


def test_parquet_lists_of_different_length(tmp_path: Path) -> None:
    path = tmp_path / "v.parquet"
    pl.DataFrame({"item_id": VOCABULARY.item_ids, "v": [[1.0, 2.0], [1.0], None]}).write_parquet(path)
    refuse(
        path, ": the vector of item 'lamp' has 1 numbers, the one of 'tent' has 2; expected the same length"
    )


def test_parquet_lists_with_a_gap(tmp_path: Path) -> None:
    path = tmp_path / "v.parquet"
    pl.DataFrame({"item_id": VOCABULARY.item_ids, "v": [[1.0], [None], [2.0]]}).write_parquet(path)
    refuse(path, r", row 2 \(item 'lamp'\), column 1: is nan")


def test_parquet_without_columns(tmp_path: Path) -> None:
    path = tmp_path / "v.parquet"
    pl.DataFrame({"item_id": VOCABULARY.item_ids}).write_parquet(path)
    refuse(path, ": has no column except item_id; expected one column of lists of numbers or columns of")


def test_wrong_path(tmp_path: Path) -> None:
    save(tmp_path / "vectors.npy", GIVEN)
    refuse(tmp_path / "vector.npy", r": no such file; did you mean 'vectors.npy'\?")
    refuse(tmp_path / "vectors.csv", r": its suffix is '.csv'; expected one of .npy, .safetensors, .parquet")

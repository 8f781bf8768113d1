"""The text encoder that a run keeps: vectors of training again, and others in their space."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest

from alterrec.data import text as text_module
from alterrec.data.dataset import ItemText
from alterrec.data.lsa import LsaSpace
from alterrec.data.synthetic import synthetic_dataset
from alterrec.data.text import lsa_space, text_vectors
from alterrec.errors import InputError
from alterrec.recipe import resolve
from alterrec.runs.text_encoder import ENCODER, TextEncoder

DATA = synthetic_dataset(items=100, sessions=200)
CHOICES = [{}, {"text.whiten": True}, {"text.standardise": False}, {"data.text_fields": "title"}]


@pytest.mark.parametrize("overrides", CHOICES, ids=str)
def test_texts_of_training_have_the_vectors_of_training(overrides: dict[str, object], tmp_path: Path) -> None:
    recipe = resolve("text_only", overrides={"text.truncate_dim": 9} | overrides)
    fitted, vectors = TextEncoder.fit(DATA, recipe)
    fitted.write(tmp_path)
    assert DATA.text is not None
    read = TextEncoder.read(tmp_path, recipe)
    assert read.columns == tuple(DATA.text.fields)
    assert read.fields == (("title",) if "data.text_fields" in overrides else read.columns)
    assert np.array_equal(read.prepared(read.encode(DATA.text)), vectors)
    # Any part of them, in any order, with the scale of training, but for rounding.
    some = ItemText({name: texts[7:4:-1] for name, texts in DATA.text.fields.items()})
    assert np.allclose(read.prepared(read.encode(some)), vectors[7:4:-1], atol=1e-6)


def test_equal_encoders_have_equal_files(tmp_path: Path) -> None:
    files = []
    for folder in (tmp_path / "a", tmp_path / "b"):
        TextEncoder.fit(DATA, resolve("text_only"))[0].write(folder)
        files.append((folder / ENCODER).read_bytes())
    assert files[0] == files[1]


@pytest.mark.parametrize("half", [False, True])
def test_given_vectors_are_scaled_as_those_of_training(half: bool, tmp_path: Path) -> None:
    given = np.random.default_rng(0).normal(3, 2, (100, 5)).astype(np.float16 if half else np.float32)
    data = dataclasses.replace(DATA, vectors=given)
    recipe = resolve("text_only")
    fitted, vectors = TextEncoder.fit(data, recipe)
    fitted.write(tmp_path)
    read = TextEncoder.read(tmp_path, recipe)
    assert read.fields == ()
    assert np.array_equal(read.prepared(given[3:5]), vectors[3:5])
    # Those of half precision are scaled by the model.
    assert np.array_equal(vectors, given) == half


def test_the_space_of_a_large_catalogue_is_fitted_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(text_module, "LSA_SAMPLE", 80)
    assert DATA.text is not None
    first = text_vectors(DATA.text, cache_dir=tmp_path)
    with monkeypatch.context() as patch:
        patch.setattr(LsaSpace, "fit", None)
        space = lsa_space(DATA.text, cache_dir=tmp_path)
    assert first.dtype == np.float16
    again = space.vectors(DATA.text.joined_texts())
    assert np.array_equal(first, again.astype(np.float16))


def test_a_space_of_one_word_has_nothing_to_reduce() -> None:
    space = LsaSpace(8).fit(["tent", "tent"])
    assert LsaSpace.from_tensors(space.tensors()).vectors(["tent", "lamp"]).tolist() == [[1.0], [0.0]]


def test_a_space_whose_arrays_do_not_belong_together_is_refused() -> None:
    tensors = LsaSpace(2).fit(["red tent", "green tent", "oil lamp"]).tensors()
    for name in ("idf", "components"):
        with pytest.raises(ValueError, match="differ in number"):
            LsaSpace.from_tensors(tensors | {name: tensors[name][..., :-1]})


def test_a_missing_or_damaged_encoder_is_said(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"has no encoder.safetensors, which encodes texts"):
        TextEncoder.read(tmp_path, resolve("text_only"))
    (tmp_path / ENCODER).write_bytes(b"nothing")
    with pytest.raises(InputError, match=r"encoder.safetensors is damaged"):
        TextEncoder.read(tmp_path, resolve("text_only"))

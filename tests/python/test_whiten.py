"""Whitened text vectors: what they are, which components are left out, and that a saved run has them."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from worlds import small_dataset, text_like_vectors

from alterrec import fit, load
from alterrec.errors import InputError
from alterrec.models.base import Recommender
from alterrec.models.reads import resolve_read
from alterrec.nn import vector_statistics
from alterrec.nn.vector_statistics import whitened
from alterrec.recipe import resolve
from alterrec.runs.build import build

TINY = {
    **{"model.dim": 8, "schedule.epochs": 2, "run.baselines": False, "run.report": False},
    "text.whiten": True,
}


def twin(vectors: np.ndarray, like: np.ndarray) -> np.ndarray:
    """The slow obvious twin: a singular value decomposition of all vectors at once, in float64."""
    mean = like.astype(np.float64).mean(0)
    _, values, right = np.linalg.svd(like - mean, full_matrices=True)
    deviations = np.zeros(len(right))
    deviations[: len(values)] = values / np.sqrt(len(like))
    varies = (deviations**2 > 1e-6 * deviations[0] ** 2) & (deviations > 1e-6)
    right *= np.sign(np.take_along_axis(right, np.abs(right).argmax(1)[:, None], 1))
    coordinates = (vectors - mean) @ right.T
    return np.where(varies, coordinates / np.where(varies, deviations, 1.0), 0.0)


@settings(max_examples=40, deadline=None)
@given(
    count=st.integers(2, 30),
    width=st.integers(1, 8),
    rank=st.integers(1, 8),
    part=st.integers(1, 40),
    seed=st.integers(0, 1000),
)
def test_columns_are_those_of_the_twin(count: int, width: int, rank: int, part: int, seed: int) -> None:
    """Vectors far from 0, of any rank, more or fewer than their columns, in parts."""
    rng = np.random.default_rng(seed)
    drawn = rng.normal(size=(count, rank)) * 2.0 ** -np.arange(rank) @ rng.normal(size=(rank, width)) + 3.0
    other = rng.normal(size=(4, width))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(vector_statistics, "PART", part)
        found = whitened(torch.from_numpy(drawn)).numpy()
        of_other = whitened(torch.from_numpy(other), torch.from_numpy(drawn)).numpy()
    # The sign of a component is not defined where two of its entries are equally large.
    np.testing.assert_allclose(np.abs(found), np.abs(twin(drawn, drawn)), rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(np.abs(of_other), np.abs(twin(other, drawn)), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("kind", [torch.float16, torch.float32])
def test_columns_are_uncorrelated_with_deviation_one(kind: torch.dtype) -> None:
    rng = np.random.default_rng(0)
    mixed = torch.from_numpy(rng.normal(size=(500, 6)) @ rng.normal(size=(6, 6)) + 2.0).to(kind)
    found = whitened(mixed)
    assert found.dtype == kind
    np.testing.assert_allclose(np.cov(found.double().T.numpy(), bias=True), np.eye(6), atol=2e-3)
    np.testing.assert_allclose(found.double().mean(0).numpy(), 0, atol=1e-3)


def test_components_without_variance_are_left_out() -> None:
    """Three items have two components. Rounding to half precision leaves less than 1e-6 of the variance."""
    three = torch.tensor([[0.0, 0.0, 1.0, 5.0], [2.0, 0.0, 1.0, 5.0], [1.0, 1.0, 1.0, 5.0]])
    found = whitened(three)
    assert bool((found[:, :2].square().mean(0) - 1 < 1e-6).all())
    assert not found[:, 2:].any()
    assert not whitened(torch.full((4, 3), 0.3)).any()
    rng = np.random.default_rng(0)
    flat = (rng.normal(size=(200, 3)) @ rng.normal(size=(3, 5))).astype(np.float16)
    assert [bool(column.any()) for column in whitened(torch.from_numpy(flat)).T] == [True] * 3 + [False] * 2


@pytest.mark.parametrize("half", [False, True])
@pytest.mark.parametrize("projection", ["mlp", "mixture"])
def test_a_run_reads_and_saves_whitened_vectors(half: bool, projection: str, tmp_path: Path) -> None:
    """Vectors of half precision come from a mapped file, as those of sentence encoders do."""
    given = text_like_vectors().astype(np.float16 if half else np.float32)
    np.save(tmp_path / "vectors.npy", given)
    vectors = np.load(tmp_path / "vectors.npy", mmap_mode="c")
    data = dataclasses.replace(small_dataset(), vectors=vectors)
    run = fit(data, "text_only", out=tmp_path / "run", overrides=TINY | {"text.projection": projection})
    model = load(run.path).model
    assert isinstance(model, Recommender)
    read = model.network("model").items.vectors_VF
    assert torch.equal(read, whitened(torch.from_numpy(given)))
    if half:
        assert torch.equal(model.network("model").items.scale_F, torch.ones(12))
    first = run.recommend([list(data.vocabulary.item_ids[:2])], k=3)
    assert first == load(run.path).recommend([list(data.vocabulary.item_ids[:2])], k=3)


def test_whitening_takes_the_place_of_standardising() -> None:
    resolve_read("text_only", overrides={"text.whiten": True})
    with pytest.raises(InputError, match=r"text_only does not read text\.standardise unless text\.whiten"):
        resolve_read("text_only", overrides={"text.whiten": True, "text.standardise": False})
    with pytest.raises(InputError, match=r"id_only does not read text\.whiten"):
        resolve_read("id_only", overrides={"text.whiten": True})


def test_whitened_vectors_have_no_first_components() -> None:
    recipe = resolve("id_only", overrides=TINY | {"id.start": "pca"})
    with pytest.raises(
        InputError, match=r"id\.start is 'pca' and text\.whiten is true.*id\.start=projection"
    ):
        build(recipe, small_dataset(), lambda event: None)
    build(
        resolve("id_only", overrides=TINY | {"id.start": "projection"}), small_dataset(), lambda event: None
    )

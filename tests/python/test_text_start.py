"""ID tables that start from text: exact components, projections, and what is asked for in words."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from worlds import NUM_ITEMS, small_dataset, text_like_vectors

from alterrec import fit
from alterrec.errors import InputError
from alterrec.models.catalogue import build_model
from alterrec.models.parts import ModelInputs
from alterrec.nn import item_encoders, vector_statistics
from alterrec.nn.vector_statistics import principal_components, random_projection
from alterrec.recipe import resolve
from alterrec.runs.saved_model import load

TRAINED = torch.ones(NUM_ITEMS, dtype=torch.bool)


def by_svd(vectors_VF: np.ndarray, dim: int) -> np.ndarray:
    """The slow obvious twin: coordinates of all of it at once."""
    centred_VF = vectors_VF.astype(np.float64) - vectors_VF.astype(np.float64).mean(0)
    left, values, right = np.linalg.svd(centred_VF, full_matrices=False)
    largest = np.take_along_axis(right, np.abs(right).argmax(1)[:, None], 1)[:, 0]
    return ((left * values) * np.sign(largest))[:, :dim]


@settings(max_examples=30, deadline=None)
@given(
    count=st.integers(9, 30),
    width=st.integers(3, 8),
    dim=st.integers(1, 3),
    part=st.integers(1, 40),
    half=st.booleans(),
    seed=st.integers(0, 1000),
)
def test_components_equal_the_decomposition(
    count: int, width: int, dim: int, part: int, half: bool, seed: int
) -> None:
    """Vectors with a mean far from 0, columns of different scale, in parts and in half precision."""
    rng = np.random.default_rng(seed)
    drawn = rng.normal(3.0, 1.0, (count, width)) * np.arange(1, width + 1)
    vectors_VF = drawn.astype(np.float16 if half else np.float32)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(vector_statistics, "PART", part)
        ours = principal_components(torch.from_numpy(vectors_VF), dim).numpy()
    theirs = by_svd(vectors_VF, dim)
    np.testing.assert_allclose(
        ours @ ours.T, theirs @ theirs.T, rtol=1e-9, atol=1e-10 * np.abs(theirs).max() ** 2
    )
    np.testing.assert_allclose(np.abs(ours), np.abs(theirs), atol=1e-7 * np.abs(theirs).max())


def test_signs_do_not_depend_on_the_solver() -> None:
    """Mirrored vectors have mirrored coordinates: the components are the same, with the same signs."""
    vectors_VF = torch.from_numpy(text_like_vectors())
    torch.testing.assert_close(principal_components(-vectors_VF, 4), -principal_components(vectors_VF, 4))


def test_a_mapped_file_of_half_precision_is_read_as_it_is(tmp_path: Path) -> None:
    np.save(tmp_path / "vectors.npy", text_like_vectors().astype(np.float16))
    mapped = torch.from_numpy(np.load(tmp_path / "vectors.npy", mmap_mode="c"))
    expected = by_svd(text_like_vectors().astype(np.float16), 4)
    np.testing.assert_allclose(principal_components(mapped, 4).numpy(), expected, atol=1e-10)


def test_parts_of_a_table_are_joined_the_same_with_and_without_gradients(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    projection = item_encoders.TextProjection(torch.randn(11, 5).half(), 4, standardise=True, hidden=6)
    whole = projection().detach()
    monkeypatch.setattr(vector_statistics, "PART", 4)
    with torch.no_grad():
        parts = projection()
    torch.testing.assert_close(parts, whole, rtol=1e-6, atol=1e-6)
    assert torch.equal(parts, projection().detach())
    torch.testing.assert_close(projection(torch.arange(3, 10)).detach(), whole[3:10], rtol=1e-6, atol=1e-6)


def test_a_projection_keeps_lengths_in_expectation_and_follows_the_seed() -> None:
    vectors_VF = torch.from_numpy(text_like_vectors())
    torch.manual_seed(3)
    first = random_projection(vectors_VF, 2000)
    torch.manual_seed(3)
    assert torch.equal(first, random_projection(vectors_VF, 2000))
    assert not torch.equal(first, random_projection(vectors_VF, 2000))
    centred = vectors_VF.double() - vectors_VF.double().mean(0)
    torch.testing.assert_close(first.norm(dim=1), centred.norm(dim=1), rtol=0.1, atol=0)


@pytest.mark.parametrize("start", ["pca", "projection"])
def test_any_table_of_ids_may_start_from_text(start: str) -> None:
    vectors_VF = torch.from_numpy(text_like_vectors())
    recipe = resolve("sasrec", overrides={"model.dim": 8, "id.start": start})
    torch.manual_seed(0)
    network = build_model(recipe, ModelInputs(NUM_ITEMS, vectors_VF, TRAINED)).network("model")
    table_VD = network.items().detach()
    if start == "pca":
        torch.testing.assert_close(
            table_VD.double(), principal_components(vectors_VF, 8), rtol=1e-6, atol=1e-6
        )
    assert table_VD.std() > 5 * recipe.model.init_std
    assert network.items.rows_VD.requires_grad


def test_too_wide_a_table_is_refused_with_ways_out() -> None:
    recipe = resolve("llm2sasrec", overrides={"model.dim": 16})
    vectors_VF = torch.from_numpy(text_like_vectors(width=12))
    with pytest.raises(InputError, match=r"model.dim is 16.*40 text vectors of 12.*at most 12.*projection"):
        build_model(recipe, ModelInputs(NUM_ITEMS, vectors_VF, TRAINED))
    with pytest.raises(InputError, match="at most 9"):
        build_model(recipe, ModelInputs(9, vectors_VF[:9], TRAINED[:9]))
    build_model(
        resolve("llm2sasrec", overrides={"model.dim": 16, "id.start": "projection"}),
        ModelInputs(NUM_ITEMS, vectors_VF, TRAINED),
    )


@pytest.mark.parametrize(
    ("name", "overrides", "words"),
    [
        ("llm2sasrec", {}, "model 'llm2sasrec' reads item text, but the data has none"),
        ("sasrec", {"id.start": "pca"}, "id.start=pca of model 'sasrec' reads item text"),
    ],
)
def test_text_is_asked_for(name: str, overrides: dict[str, str], words: str) -> None:
    with pytest.raises(InputError, match=words):
        build_model(resolve(name, overrides=overrides), ModelInputs(NUM_ITEMS, None, TRAINED))


def test_a_run_that_started_from_text_recommends_without_it(tmp_path: Path) -> None:
    overrides = {"model.dim": 8, "schedule.epochs": 1, "run.baselines": False, "run.report": False}
    overrides["id.start"] = "pca"
    fitted = fit(small_dataset(), "sasrec", out=tmp_path / "run", overrides=overrides)
    assert len(load(fitted.path).recommend([["item03", "item04"]], k=5)[0]) == 5

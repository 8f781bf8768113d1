"""The ranking functions against slow reference versions: numpy, torch on the CPU, torch on a device."""

from __future__ import annotations

import inspect
import subprocess
import sys
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import oracle
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from numpy.typing import NDArray

from alterrec import _core, _ranking_mixtures, _ranking_seen, ranking

# The kernels on each instruction set that this processor has, in torch's hands, and their torch twin.
BACKENDS = [*(f"numpy on {name}" for name in _core.instruction_sets()), "torch", "device"]
# Few values make ties common; the zeros have two signs, the smallest is subnormal.
TIE_RICH = st.sampled_from(oracle.float32s(-np.inf, -1.0, -1e-45, -0.0, 0.0, 1e-45, 0.5, 1.0, np.inf))
ANY = st.floats(width=32, allow_nan=False)


def call(backend: str, name: str, *args: Any, **options: Any) -> Any:
    """Call a ranking function with numpy scores, with tensors, or with tensors as if on a device."""
    function = getattr(ranking, name)
    if backend.startswith("numpy"):
        _core.use_instructions(backend.removeprefix("numpy on "))
        try:
            return function(*args, **options)
        finally:
            _core.use_instructions(None)
    first, *rest = args
    tensors = [torch.tensor(a) for a in first] if isinstance(first, list) else torch.tensor(first)
    device = {"on_device": lambda _: backend == "device"}
    with ExitStack() as stack:
        for module in (ranking, _ranking_mixtures, _ranking_seen):
            stack.enter_context(mock.patch.multiple(module, **device))
        return as_arrays(function(tensors, *rest, **options))


def as_arrays(results: Any) -> Any:
    if isinstance(results, tuple):
        parts = [as_arrays(result) for result in results]
        return type(results)(*parts) if hasattr(results, "_fields") else tuple(parts)
    assert results is None or isinstance(results, torch.Tensor)
    return None if results is None else results.numpy()


def batches(draw: st.DrawFn, rows: int, items: int) -> NDArray[np.float32]:
    values = draw(st.sampled_from([TIE_RICH, ANY]))
    return draw(hnp.arrays(np.float32, (rows, items), elements=values))


@st.composite
def cases(draw: st.DrawFn) -> tuple[NDArray[np.float32], NDArray[np.int64] | None]:
    """Scores and exclusions in each of their allowed shapes."""
    rows, items = draw(st.integers(0, 4)), draw(st.integers(1, 12))
    shape = draw(st.sampled_from([None, (rows,), (rows, 0), (rows, 1), (rows, 5)]))
    exclude = (
        None if shape is None else draw(hnp.arrays(np.int64, shape, elements=st.integers(-1, items - 1)))
    )
    return batches(draw, rows, items), exclude


@st.composite
def windows(draw: st.DrawFn) -> tuple[NDArray[np.float32], NDArray[np.int64] | None, int, int]:
    scores, exclude = draw(cases())
    stop = draw(st.integers(0, oracle.fewest_candidates(scores, exclude)))
    return scores, exclude, draw(st.integers(0, stop)), stop


@pytest.mark.parametrize("backend", BACKENDS)
@given(case=windows())
def test_window_is_the_slice_of_the_ranking(backend: str, case: Any) -> None:
    scores, exclude, start, stop = case
    expected = oracle.rank_window(scores, start, stop, exclude)
    ids = call(backend, "rank_window", scores, start, stop, exclude=exclude)
    assert ids.dtype == np.int64
    assert ids.shape == (len(scores), stop - start)
    assert ids.tolist() == expected
    mask = call(backend, "rank_window_mask", scores, start, stop, exclude=exclude)
    assert mask.dtype == np.bool_
    assert mask.shape == scores.shape
    assert [np.flatnonzero(row).tolist() for row in mask] == expected


@pytest.mark.parametrize("backend", BACKENDS)
@given(case=windows())
def test_top_ranked_is_the_head_of_the_ranking(backend: str, case: Any) -> None:
    scores, exclude, _, k = case
    ids, values = call(backend, "top_ranked", scores, k, exclude=exclude)
    assert (ids.dtype, values.dtype) == (np.int64, np.float32)
    assert ids.shape == values.shape == (len(scores), k)
    assert ids.tolist() == oracle.top_ranked(scores, k, exclude)
    assert values.tolist() == np.take_along_axis(scores, ids, axis=1).tolist()


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("rule", ["missed", "ranked"])
@given(case=cases(), data=st.data())
def test_target_counts(backend: str, rule: str, case: Any, data: st.DataObject) -> None:
    scores, exclude = case
    targets = data.draw(hnp.arrays(np.int64, len(scores), elements=st.integers(0, scores.shape[1] - 1)))
    greater, tied = call(backend, "target_counts", scores, targets, exclude=exclude, excluded_target=rule)
    assert (greater.dtype, tied.dtype) == (np.int64, np.int64)
    assert (greater.tolist(), tied.tolist()) == oracle.target_counts(scores, targets, exclude, rule)


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("rule", ["missed", "ranked"])
@given(data=st.data(), num_views=st.integers(1, 4))
def test_fused_counts_are_those_of_each_view_and_of_the_sum(
    backend: str, rule: str, data: st.DataObject, num_views: int
) -> None:
    first, exclude = data.draw(cases())
    first = first.clip(-1e30, 1e30)  # so that no product overflows
    finite = st.sampled_from(oracle.float32s(-1.0, -0.0, 0.0, 0.1, 0.3, 1.0)) | st.floats(-1e3, 1e3, width=32)
    more = hnp.arrays(np.float32, first.shape, elements=finite)
    views = [first] + [data.draw(more) for _ in range(num_views - 1)]
    weights = data.draw(st.lists(st.floats(-2, 2, width=32), min_size=num_views, max_size=num_views))
    targets = data.draw(hnp.arrays(np.int64, len(first), elements=st.integers(0, first.shape[1] - 1)))
    greater, tied = call(
        backend, "fused_target_counts", views, weights, targets, exclude=exclude, excluded_target=rule
    )
    assert greater.shape == tied.shape == (num_views + 1, len(first))
    matrices = [*views, oracle.weighted_sum(views, weights)]
    expected = [oracle.target_counts(scores, targets, exclude, rule) for scores in matrices]
    assert list(zip(greater.tolist(), tied.tolist(), strict=True)) == expected


@pytest.mark.parametrize("backend", BACKENDS)
def test_an_excluded_target_is_missed_or_ranked(backend: str) -> None:
    scores = np.array([[3.0, 2.0, 2.0, 1.0]], np.float32)
    for rule, tied in [("missed", 0), ("ranked", 2)]:
        counts = call(backend, "target_counts", scores, [1], exclude=[[1, 0]], excluded_target=rule)
        assert [part.tolist() for part in counts] == [[0], [tied]]


LONG_ROWS: dict[str, Callable[[np.random.Generator, int], NDArray[Any]]] = {
    "normal": lambda rng, items: rng.normal(size=(2, items)),
    "constant": lambda rng, items: np.full((2, items), rng.normal()),
    "mostly -inf": lambda rng, items: np.where(
        rng.random((2, items)) < 0.9, -np.inf, rng.normal(size=(2, items))
    ),
    "few levels": lambda rng, items: rng.integers(-2, 3, (2, items)) / 4,
    "zeros of two signs": lambda rng, items: rng.choice([-0.0, 0.0, 1e-45, -1e-45], (2, items)),
    "sorted": lambda rng, items: np.sort(rng.normal(size=(2, items)), axis=1),
    "sorted down": lambda rng, items: -np.sort(rng.normal(size=(2, items)), axis=1),
    "two clusters": lambda rng, items: rng.choice([-5, 5], (2, items)) + rng.normal(size=(2, items)) / 1e3,
    "heavy tail": lambda rng, items: np.exp(20 * rng.normal(size=(2, items))),
    "periodic": lambda rng, items: np.tile(rng.normal(size=(2, 16)), items // 16 + 1)[:, :items],
    "infinities": lambda rng, items: rng.choice([-np.inf, 0.0, np.inf], (2, items)),
    "steps": lambda rng, items: np.repeat(rng.normal(size=(2, items // 100 + 1)), 100, axis=1)[:, :items],
}


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("kind", LONG_ROWS)
@settings(max_examples=20)
@given(data=st.data(), seed=st.integers(0, 2**32), items=st.integers(512, 5000))
def test_rows_that_mislead_a_sample(
    backend: str, kind: str, data: st.DataObject, seed: int, items: int
) -> None:
    """Rows long enough to be sampled, of shapes that a sample, a histogram or a pivot gets wrong."""
    rng = np.random.default_rng(seed)
    with np.errstate(over="ignore"):
        scores = LONG_ROWS[kind](rng, items).astype(np.float32)
    exclude = rng.integers(-1, items, (2, data.draw(st.sampled_from([0, 1, 7, 300]))))
    fewest = items - max(len(oracle.excluded(exclude, row)) for row in range(2))
    stop = data.draw(st.integers(0, fewest) | st.sampled_from([1, fewest // 2, fewest]))
    start = data.draw(st.integers(0, stop) | st.sampled_from([0, stop]))
    expected = []
    for row in range(2):
        left_out = oracle.excluded(exclude, row)
        ranking_of_row = np.argsort(-scores[row], kind="stable")
        expected.append([int(item) for item in ranking_of_row if int(item) not in left_out])
    ids = call(backend, "rank_window", scores, start, stop, exclude=exclude)
    assert ids.tolist() == [sorted(row[start:stop]) for row in expected]
    mask = call(backend, "rank_window_mask", scores, start, stop, exclude=exclude)
    assert [np.flatnonzero(row).tolist() for row in mask] == ids.tolist()
    k = min(stop, 40)
    top, _ = call(backend, "top_ranked", scores, k, exclude=exclude)
    assert top.tolist() == [row[:k] for row in expected]


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("place", [0, 63, 64, 700, 1023, 1999])
@pytest.mark.parametrize("window", [(0, 0), (0, 5), (3, 900), (0, 2000)])
def test_a_nan_is_found_at_any_position(backend: str, place: int, window: tuple[int, int]) -> None:
    scores = np.random.default_rng(4).normal(size=(3, 2000)).astype(np.float32)
    scores[1, place] = np.nan
    for exclude in (None, [-1, place if window[1] < 2000 else -1, -1]):
        with pytest.raises(ValueError, match=f"NaN at row 1, column {place};"):
            call(backend, "rank_window", scores, *window, exclude=exclude)


@pytest.mark.parametrize("backend", BACKENDS)
def test_long_rows_cross_the_blocks_of_the_kernel(backend: str) -> None:
    rng = np.random.default_rng(0)
    views = [rng.integers(-3, 4, (3, 2500)).astype(np.float32) for _ in range(2)]
    targets, exclude = rng.integers(0, 2500, 3), rng.integers(-1, 2500, (3, 400))
    greater, tied = call(backend, "fused_target_counts", views, [0.3, 0.7], targets, exclude=exclude)
    for place, scores in enumerate([*views, oracle.weighted_sum(views, [0.3, 0.7])]):
        assert (greater[place].tolist(), tied[place].tolist()) == oracle.target_counts(
            scores, targets, exclude
        )
        single = call(backend, "target_counts", scores, targets, exclude=exclude)
        assert (single[0].tolist(), single[1].tolist()) == (greater[place].tolist(), tied[place].tolist())
    ids = call(backend, "rank_window", views[0], 500, 1500, exclude=exclude)
    assert ids.tolist() == oracle.rank_window(views[0], 500, 1500, exclude)


@pytest.mark.parametrize("backend", BACKENDS)
@given(case=windows(), seed=st.integers(0, 2**64 - 1), data=st.data())
def test_sample_is_in_the_window_and_does_not_depend_on_the_batch(
    backend: str, case: Any, seed: int, data: st.DataObject
) -> None:
    scores, exclude, start, stop = case
    sample = data.draw(st.integers(0, stop - start))
    rows = data.draw(hnp.arrays(np.uint64, len(scores), elements=st.integers(0, 2**64 - 1)))

    def drawn(part: slice, row_numbers: NDArray[np.uint64] | None) -> Any:
        options = {"exclude": None if exclude is None else exclude[part], "rows": row_numbers}
        ids = call(backend, "rank_window", scores[part], start, stop, sample=sample, seed=seed, **options)
        assert ids.shape == (len(scores[part]), sample)
        return ids.tolist()

    whole = drawn(slice(None), rows)
    for ids, window in zip(whole, oracle.rank_window(scores, start, stop, exclude), strict=True):
        assert ids == sorted(set(ids))
        assert set(ids) <= set(window)
    assert [drawn(slice(row, row + 1), rows[row : row + 1])[0] for row in range(len(rows))] == whole
    assert drawn(slice(None), np.arange(len(scores), dtype=np.uint64)) == drawn(slice(None), None)


@given(
    seed=st.integers(0, 2**64 - 1),
    row=st.integers(0, 2**64 - 1),
    population=st.integers(0, 300),
    data=st.data(),
)
def test_draws_are_those_of_the_twin(seed: int, row: int, population: int, data: st.DataObject) -> None:
    count = data.draw(st.integers(0, population))
    rows = np.array([row], np.uint64)
    # Equal scores rank by id, so positions in the window are ids.
    scores = np.zeros((1, population + 1), np.float32)
    ids = ranking.rank_window(scores, 0, population, sample=count, seed=seed, rows=rows)
    assert ids[0].tolist() == oracle.window_positions(count, population, seed, row)
    num_items = data.draw(st.integers(1, 2**63 - 1) | st.integers(1, 9))
    items = ranking.uniform_items(rows, 5, num_items, seed=seed)
    assert items[0].tolist() == oracle.uniform_items(5, num_items, seed, row)


@pytest.mark.parametrize("backend", ["torch", "device"])
def test_samples_are_equal_wherever_the_scores_lie(backend: str) -> None:
    scores = np.random.default_rng(1).normal(size=(20, 300)).astype(np.float32)
    options = {"sample": 40, "seed": 5, "rows": np.arange(100, 120), "exclude": np.arange(20)}
    here = ranking.rank_window(scores, 10, 200, **options)
    assert call(backend, "rank_window", scores, 10, 200, **options).tolist() == here.tolist()


def chi_square(counts: NDArray[np.int64]) -> float:
    expected = counts.sum() / len(counts)
    return float(((counts - expected) ** 2 / expected).sum())


def test_every_subset_of_the_window_is_equally_likely() -> None:
    scores = np.tile(np.arange(8, dtype=np.float32), (10_000, 1))
    ids = ranking.rank_window(scores, 2, 7, sample=2, seed=11)
    _, counts = np.unique(ids, axis=0, return_counts=True)
    assert len(counts) == 10  # 5 choose 2
    assert chi_square(counts) < 27.9  # 0.999 quantile at 9 degrees of freedom


def test_uniform_items_are_uniform_and_independent_of_the_window_draw() -> None:
    rows = np.arange(10_000)
    ids = ranking.uniform_items(rows, 2, 5, seed=11)
    assert chi_square(np.bincount(ids[:, 0] * 5 + ids[:, 1], minlength=25)) < 51.2  # 24 degrees of freedom
    window = ranking.rank_window(np.zeros((10_000, 5), np.float32), 0, 5, sample=1, seed=11)
    assert chi_square(np.bincount(ids[:, 0] * 5 + window[:, 0], minlength=25)) < 51.2


@given(
    rows=hnp.arrays(np.int64, st.integers(0, 5), elements=st.integers(0, 2**63 - 1)),
    count=st.integers(0, 9),
    num_items=st.integers(1, 2**40),
    seed=st.integers(0, 2**64 - 1),
)
def test_uniform_items_are_a_function_of_seed_and_row(
    rows: NDArray[np.int64], count: int, num_items: int, seed: int
) -> None:
    ids = ranking.uniform_items(rows, count, num_items, seed=seed)
    assert ids.dtype == np.int64
    assert ids.shape == (len(rows), count)
    assert ((ids >= 0) & (ids < num_items)).all()
    for row, expected in zip(rows, ids, strict=True):
        longer = ranking.uniform_items(np.array([3, row]), count + 1, num_items, seed=seed)
        assert longer[1, :count].tolist() == expected.tolist()
    in_torch = ranking.uniform_items(torch.tensor(rows), count, num_items, seed=seed)
    assert in_torch.tolist() == ids.tolist()


def test_seeds_and_rows_matter() -> None:
    scores = np.zeros((2, 1000), np.float32)
    options: dict[str, Any] = {"sample": 10, "rows": [4, 5]}
    one = ranking.rank_window(scores, 0, 1000, seed=1, **options)
    two = ranking.rank_window(scores, 0, 1000, seed=2, **options)
    assert one[0].tolist() != one[1].tolist()
    assert one.tolist() != two.tolist()


@pytest.fixture
def default_threads() -> Any:
    yield
    ranking.set_threads(None)


@pytest.mark.usefixtures("default_threads")
def test_results_do_not_depend_on_threads() -> None:
    rng = np.random.default_rng(2)
    scores = rng.integers(0, 50, (40, 400)).astype(np.float32)
    targets, exclude = rng.integers(0, 400, 40), rng.integers(-1, 400, (40, 6))

    def everything() -> list[Any]:
        return [
            ranking.rank_window(scores, 5, 90, exclude=exclude).tolist(),
            ranking.rank_window(scores, 5, 90, exclude=exclude, sample=30).tolist(),
            ranking.rank_window_mask(scores, 5, 90, exclude=exclude).tolist(),
            [part.tolist() for part in ranking.top_ranked(scores, 20, exclude=exclude)],
            [part.tolist() for part in ranking.target_counts(scores, targets, exclude=exclude)],
            [part.tolist() for part in ranking.fused_target_counts([scores] * 2, [1, 2], targets)],
            ranking.uniform_items(np.arange(40), 7, 1000).tolist(),
        ]

    expected = everything()
    for threads in [1, 2, 3]:
        ranking.set_threads(threads)
        assert everything() == expected
        assert ranking.rank_window(scores, 5, 90, exclude=exclude, threads=threads).tolist() == expected[0]


@pytest.mark.parametrize("backend", BACKENDS)
def test_shapes_at_the_edge(backend: str) -> None:
    one_item = np.array([[-np.inf], [3.0]], np.float32)
    assert call(backend, "rank_window", one_item, 0, 1).tolist() == [[0], [0]]
    assert call(backend, "target_counts", one_item, [0, 0], exclude=[0, -1])[1].tolist() == [0, 1]
    constant = np.full((1, 6), -np.inf, np.float32)
    assert call(backend, "rank_window", constant, 1, 4, exclude=[[2, 2, -1]]).tolist() == [[1, 3, 4]]
    assert call(backend, "top_ranked", constant, 6)[0].tolist() == [[0, 1, 2, 3, 4, 5]]
    assert call(backend, "rank_window", constant, 6, 6).shape == (1, 0)
    assert call(backend, "rank_window", np.empty((0, 6), np.float32), 2, 5).shape == (0, 3)
    assert call(backend, "rank_window_mask", np.empty((0, 6), np.float32), 2, 5).shape == (0, 6)
    assert call(backend, "fused_target_counts", [np.empty((0, 6), np.float32)], [1.0], [])[0].shape == (2, 0)
    assert call(backend, "rank_window", np.empty((2, 0), np.float32), 0, 0).shape == (2, 0)
    assert call(backend, "rank_window_mask", np.empty((2, 0), np.float32), 0, 0).shape == (2, 0)


@pytest.mark.parametrize("dtype", [np.float16, np.float64, np.int64, np.bool_, ">f4"])
def test_other_numpy_types_and_layouts(dtype: Any) -> None:
    scores = np.random.default_rng(3).integers(0, 2, (4, 10)).astype(dtype)
    expected = oracle.rank_window(scores.astype(np.float32), 2, 6, None)
    assert ranking.rank_window(scores, 2, 6).tolist() == expected
    assert ranking.rank_window(np.asfortranarray(scores), 2, 6).tolist() == expected
    assert ranking.rank_window(np.repeat(scores, 2, axis=1)[:, ::2], 2, 6).tolist() == expected


@pytest.mark.parametrize("backend", ["torch", "device"])
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64, torch.int32])
def test_other_torch_types_and_layouts(backend: str, dtype: torch.dtype) -> None:
    values = torch.randn(5, 20, generator=torch.Generator().manual_seed(0)).to(dtype)
    expected = oracle.rank_window(values.float().numpy(), 3, 9, None)
    for scores in [values, values.t().contiguous().t(), values.repeat_interleave(2, dim=1)[:, ::2]]:
        with mock.patch.object(ranking, "on_device", return_value=backend == "device"):
            assert ranking.rank_window(scores, 3, 9).tolist() == expected
            greater, tied = ranking.target_counts(scores.requires_grad_(dtype.is_floating_point), [0] * 5)
        assert not greater.requires_grad
        assert (
            greater.tolist()
            == oracle.target_counts(values.detach().float().numpy(), np.zeros(5, int), None)[0]
        )
        assert tied.shape == (5,)


def test_other_owners_of_memory(tmp_path: Path) -> None:
    scores = np.random.default_rng(3).normal(size=(4, 700)).astype(np.float32)
    expected = ranking.rank_window(scores, 5, 300).tolist()
    np.save(tmp_path / "scores.npy", scores)
    mapped = np.load(tmp_path / "scores.npy", mmap_mode="r")
    assert not mapped.flags.writeable
    assert ranking.rank_window(mapped, 5, 300).tolist() == expected
    wider = np.hstack([np.full((4, 1), np.nan, np.float32), scores])
    assert ranking.rank_window(wider[:, 1:], 5, 300).tolist() == expected
    unaligned = np.frombuffer(b"x" + scores.tobytes(), np.uint8)[1:].view("<f4").reshape(4, 700)
    assert not unaligned.flags.aligned
    assert ranking.rank_window(unaligned, 5, 300).tolist() == expected
    assert ranking.rank_window(scores[::-1], 5, 300)[::-1].tolist() == expected


@pytest.mark.parametrize("kind", [np.array, torch.tensor])
@pytest.mark.parametrize(
    ("values", "dtype", "message"),
    [
        ([[0.0, 1e300]], "float64", r"scores has 1e\+300 at \(0, 1\), which is beyond float32"),
        ([[0, 2**24 + 1]], "int64", r"scores has integers up to 16777217, but .* only up to 2\*\*24"),
    ],
)
def test_values_that_float32_would_merge_are_refused(
    kind: Any, values: Any, dtype: str, message: str
) -> None:
    scores = kind(values, dtype=getattr(torch if kind is torch.tensor else np, dtype))
    with pytest.raises(ValueError, match=message):
        ranking.target_counts(scores, [0])


def test_infinite_float64_scores_are_infinite_float32_scores() -> None:
    assert ranking.target_counts(np.array([[0.0, np.inf, 1e-300]]), [0])[0].tolist() == [1]


def test_scores_are_read_in_place() -> None:
    array = np.zeros((2, 3), np.float32)
    array.flags.writeable = False
    assert ranking.as_float32("scores", array) is array
    tensor = torch.zeros(2, 3)
    assert ranking.as_float32("scores", tensor).ctypes.data == tensor.data_ptr()


NAN = np.array([[1.0, 2.0, 3.0], [4.0, np.nan, np.nan]], np.float32)
FINE = np.zeros((2, 3), np.float32)
BELOW = np.full((2, 3), -np.inf, np.float32)


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize(
    ("name", "args", "options", "message"),
    [
        ("rank_window", (NAN, 0, 1), {}, "scores: NaN at row 1, column 1"),
        ("rank_window", (NAN, 1, 1), {}, "scores: NaN at row 1, column 1"),
        ("rank_window_mask", (NAN, 0, 1), {}, "scores: NaN at row 1, column 1"),
        ("top_ranked", (NAN, 0), {}, "scores: NaN at row 1, column 1"),
        ("target_counts", (NAN, [0, 0]), {"exclude": [[1], [1]]}, "scores: NaN at row 1, column 1"),
        ("fused_target_counts", ([FINE, NAN], [1, 0], [0, 0]), {}, r"views\[1\]: NaN at row 1, column 1"),
        ("fused_target_counts", ([BELOW], [0], [0, 0]), {}, "weighted sum of views: NaN at row 0, column 0"),
        ("fused_target_counts", ([], [], [0, 0]), {}, "views is empty"),
        ("fused_target_counts", ([FINE, FINE[:1]], [1, 1], [0, 0]), {}, r"views\[1\] has shape \(1, 3\)"),
        ("fused_target_counts", ([FINE], [1, 2], [0, 0]), {}, r"weights has shape \(2,\); expected \(1,\)"),
        ("fused_target_counts", ([FINE], [np.inf], [0, 0]), {}, r"weights\[0\] is inf"),
        ("rank_window", (FINE, 0, 4), {}, "stop is 4, but scores has only 3 candidates"),
        ("rank_window", (FINE, 0, 10**18), {}, "stop is 10{18}, but scores has only 3 candidates"),
        ("rank_window", (FINE, 2, 1), {}, "start is 2 and stop is 1"),
        ("rank_window", (FINE, -1, 1), {}, "start is -1; expected 0 to"),
        ("rank_window", (FINE, 0, 3), {"exclude": [-1, 2]}, "stop is 3, but row 1 has only 2 candidates"),
        ("rank_window_mask", (FINE, 0, 2), {"exclude": [[0, 0], [0, 2]]}, "row 1 has only 1 candidates"),
        ("top_ranked", (FINE, 3), {"exclude": [2, -1]}, "k is 3, but row 0 has only 2 candidates"),
        (
            "rank_window",
            (FINE, 0, 1),
            {"exclude": [[0], [3]]},
            "exclude: row 1 has the id 3; expected 0 to 2",
        ),
        ("target_counts", (FINE, [0, 0]), {"exclude": [-2, 0]}, "exclude: row 0 has the id -2"),
        ("rank_window", (FINE, 0, 1), {"exclude": [0, 1, 2]}, r"exclude has shape \(3,\)"),
        ("rank_window", (FINE, 0, 1), {"exclude": 0}, r"exclude has shape \(\)"),
        (
            "rank_window",
            (FINE, 0, 1),
            {"exclude": [0.5, 1.0]},
            "exclude has dtype float64; expected integers",
        ),
        ("target_counts", (FINE, [0, 3]), {}, "targets: row 1 has the id 3; expected 0 to 2"),
        ("target_counts", (FINE, [-1, 0]), {}, "targets: row 0 has the id -1"),
        (
            "target_counts",
            (FINE, [0, 0]),
            {"excluded_target": "kept"},
            "excluded_target is 'kept'; choose 'missed' or 'ranked'",
        ),
        ("fused_target_counts", ([FINE], [1], [0, 0]), {"excluded_target": None}, "excluded_target is None"),
        ("target_counts", (FINE, [0]), {}, r"targets has shape \(1,\); expected \(2,\)"),
        ("target_counts", (FINE[0], [0]), {}, r"scores has shape \(3,\); expected \(B, V\)"),
        ("rank_window", (FINE, 0, 2), {"sample": 3}, "sample is 3, but the window has only 2 ranks"),
        ("rank_window", (FINE, 0, 2), {"sample": -1}, "sample is -1"),
        ("rank_window", (FINE, 0, 2), {"sample": 1, "seed": -1}, r"seed is -1; expected 0 to 2\*\*64 - 1"),
        ("rank_window", (FINE, 0, 2), {"sample": 1, "rows": [1]}, r"rows has shape \(1,\); expected \(2,\)"),
        ("rank_window", (FINE, 0, 2), {"sample": 1, "rows": [0.5, 1]}, "rows has dtype float64"),
        ("rank_window", (FINE, 0, 2), {"threads": 0}, "threads is 0; expected 1 or more"),
    ],
)
def test_wrong_input_is_named(backend: str, name: str, args: Any, options: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        call(backend, name, *args, **options)


@pytest.mark.parametrize(
    "scores", [np.zeros((1, 2), complex), np.array([["a", "b"]]), torch.zeros(1, 2, dtype=torch.cfloat)]
)
def test_scores_must_be_real(scores: Any) -> None:
    with pytest.raises(ValueError, match=r"scores has dtype .*; expected real numbers"):
        ranking.rank_window(scores, 0, 1)


def test_draws_from_an_impossible_catalogue_are_named() -> None:
    with pytest.raises(ValueError, match="num_items is 0; expected 1 to"):
        ranking.uniform_items(np.array([1]), 1, 0)
    with pytest.raises(ValueError, match="count is 4611686018427387904, but memory has only"):
        ranking.uniform_items(np.array([1, 2]), 2**62, 5)
    with pytest.raises(ValueError, match=r"rows has shape \(1, 1\)"):
        ranking.uniform_items(np.array([[1]]), 1, 5)
    with pytest.raises(ValueError, match="threads is 0"):
        ranking.set_threads(0)


def test_numpy_never_imports_torch() -> None:
    program = (
        "import sys, numpy as np, alterrec.ranking as r, alterrec.metrics as m;"
        "s = np.eye(3, dtype=np.float32); r.rank_window(s, 0, 2, sample=1); r.rank_window_mask(s, 0, 1);"
        "r.top_ranked(s, 1); m.metrics(*r.target_counts(s, [0, 1, 2])); r.uniform_items(np.arange(2), 1, 3);"
        "r.fused_target_counts([s, s], [1, 1], [0, 1, 2]); sys.exit('torch' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", program], check=False).returncode == 0


@pytest.mark.parametrize(
    ("name", "signature"),
    [
        (
            "rank_window",
            "scores, start, stop, *, exclude=None, sample=None, seed=0, rows=None, threads=None",
        ),
        ("rank_window_mask", "scores, start, stop, *, exclude=None"),
        ("top_ranked", "scores, k, *, exclude=None"),
        ("target_counts", "scores, targets, *, exclude=None, excluded_target='missed'"),
        ("fused_target_counts", "views, weights, targets, *, exclude=None, excluded_target='missed'"),
        (
            "seen_target_counts",
            "views, weights, targets, seen, *, log_odds=None, temperatures=None",
        ),
        ("repeat_scores", "scores, seen, log_odds, temperature=1.0"),
        ("log_normaliser", "scores, seen, temperatures"),
        ("uniform_items", "rows, count, num_items, *, seed=0"),
        ("set_threads", "threads"),
    ],
)
def test_signatures_are_stable(name: str, signature: str) -> None:
    found = inspect.signature(getattr(ranking, name))
    bare = [parameter.replace(annotation=inspect.Parameter.empty) for parameter in found.parameters.values()]
    assert str(inspect.Signature(bare)) == f"({signature})"

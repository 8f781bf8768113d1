"""Softmaxes of score rows, and mixtures of them, on every backend."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import oracle
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from numpy.typing import NDArray
from test_ranking import BACKENDS, call

from alterrec import _core, _ranking_mixtures, ranking

# Ties, candidates that get nothing, and differences at which exponentials underflow.
SCORES = st.sampled_from(oracle.float32s(-np.inf, -1e38, -70.0, -0.0, 0.0, 1.0, 1.0, 60.0)) | st.floats(
    -30, 30, width=32
)
BROKEN = st.sampled_from([-np.inf, 0.0, 1.0, np.nan, np.inf])
# Small numbers whose products with small weights are subnormal or 0.
PROBABILITIES = st.sampled_from(oracle.float32s(0.0, 1e-45, 1e-38, 2.0**-100, 0.25, 1.0)) | st.floats(
    0, 1, width=32
)
WEIGHTS = st.sampled_from(oracle.float32s(0.0, 1e-30, 1e-5, 0.25, 1.0)) | st.floats(0, 1, width=32)
LEAST = float(np.log(np.finfo(np.float32).tiny))


def softmax(backend: str, scores: NDArray[np.float32], **options: Any) -> tuple[Any, Any]:
    """The probabilities and their logsumexp; `call` copies tensors, so tensors are made here."""
    values = scores.copy()
    if backend.startswith("numpy"):
        return values, call(backend, "softmax_", values, **options)
    tensor = torch.from_numpy(values)
    if options.get("candidates") is not None:
        options["candidates"] = torch.from_numpy(options["candidates"])
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(_ranking_mixtures, "on_device", lambda _: backend == "device")
        log_sums = ranking.softmax_(tensor, **options)
    assert isinstance(log_sums, torch.Tensor)
    return values, log_sums.numpy()


@st.composite
def cases(draw: st.DrawFn, values: Any = SCORES) -> tuple[Any, Any, Any]:
    """Scores, exclusions in each of their shapes, and candidates or None."""
    rows, items = draw(st.integers(0, 4)), draw(st.integers(1, 40))
    shape = draw(st.sampled_from([None, (rows,), (rows, 0), (rows, 1), (rows, 50)]))
    exclude = None
    if shape is not None:
        exclude = draw(hnp.arrays(np.int64, shape, elements=st.integers(-1, items - 1)))
    candidates = draw(st.none() | hnp.arrays(np.bool_, (rows, items)))
    return draw(hnp.arrays(np.float32, (rows, items), elements=values)), exclude, candidates


def packed(candidates: NDArray[np.bool_] | None) -> Any:
    return None if candidates is None else np.packbits(candidates, axis=1, bitorder="little")


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("values", [SCORES, BROKEN], ids=["scores", "broken"])
@given(data=st.data())
def test_softmaxes_are_those_of_the_twin(backend: str, values: Any, data: st.DataObject) -> None:
    scores, exclude, candidates = data.draw(cases(values))
    found, log_sums = softmax(backend, scores, exclude=exclude, candidates=packed(candidates))
    assert (found.dtype, log_sums.dtype) == (np.float32, np.float64)
    assert log_sums.shape == (len(scores),)
    for row in range(len(scores)):
        expected, log_sum = oracle.softmax(scores, exclude, candidates, row)
        assert found[row].tolist() == pytest.approx(expected, rel=1e-5, abs=2.0**-100, nan_ok=True)
        assert log_sums[row] == pytest.approx(log_sum, rel=1e-6, abs=1e-6, nan_ok=True)


@pytest.mark.parametrize("backend", BACKENDS)
@given(case=cases())
def test_items_that_are_no_candidates_get_exactly_nothing(backend: str, case: Any) -> None:
    scores, exclude, candidates = case
    found, _ = softmax(backend, scores, exclude=exclude, candidates=packed(candidates))
    for row in range(len(scores)):
        inside = np.ones(scores.shape[1], bool) if candidates is None else candidates[row].copy()
        inside[[item for item in oracle.excluded(exclude, row) if item >= 0]] = False
        assert not found[row, ~inside].any()
        total = float(found[row].sum(dtype=float))
        some = bool(inside.any()) and scores[row, inside].max() > -np.inf
        assert total == pytest.approx(1.0 if some else 0.0, abs=1e-6)


@pytest.mark.parametrize("backend", BACKENDS)
def test_a_softmax_by_hand(backend: str) -> None:
    """Scores log 1, log 3, log 4 give 1/8, 3/8, 4/8; without the second, 1/5 and 4/5."""
    scores = np.log(np.array([[1.0, 3.0, 4.0]] * 4)).astype(np.float32)
    marks = np.array([[7], [7], [5], [2]], np.uint8)
    exclude = np.array([[-1, -1], [1, 1], [-1, -1], [1, -1]])
    found, log_sums = softmax(backend, scores, exclude=exclude, candidates=marks)
    wanted = [[1 / 8, 3 / 8, 4 / 8], [1 / 5, 0, 4 / 5], [1 / 5, 0, 4 / 5], [0, 0, 0]]
    np.testing.assert_allclose(found, wanted, rtol=1e-6)
    assert log_sums.tolist() == pytest.approx([math.log(8), math.log(5), math.log(5), -math.inf])


@pytest.mark.parametrize("backend", BACKENDS)
def test_softmaxes_at_the_edge(backend: str) -> None:
    one = np.array([[5.0], [-np.inf], [5.0]], np.float32)
    found, log_sums = softmax(backend, one, exclude=[-1, -1, 0])
    assert found.tolist() == [[1.0], [0.0], [0.0]]
    assert log_sums.tolist() == [5.0, -np.inf, -np.inf]
    for shape in [(0, 3), (2, 0)]:
        found, log_sums = softmax(backend, np.empty(shape, np.float32))
        assert found.shape == shape
        assert log_sums.tolist() == [-np.inf] * shape[0]
    # NaN does not matter where it is no candidate, and makes its own row NaN, not others.
    broken = np.array([[np.nan, 0.0, 0.0], [np.nan, 0.0, 0.0], [np.nan] * 3, [0.0, 0.0, 0.0]], np.float32)
    found, log_sums = softmax(backend, broken, exclude=[0, -1, 0, 0])
    assert found[0].tolist() == found[3].tolist() == [0.0, 0.5, 0.5]
    assert np.isnan(found[1:3]).all()
    assert np.isnan(log_sums).tolist() == [False, True, True, False]


def mark(backend: str, bits: NDArray[np.uint8], rows: Any, items: Any) -> NDArray[np.uint8]:
    """A copy of the bits with those of the entries set."""
    values = bits.copy()
    if backend.startswith("numpy"):
        assert call(backend, "mark_", values, rows, items) is None
        return values
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(_ranking_mixtures, "on_device", lambda _: backend == "device")
        assert ranking.mark_(torch.from_numpy(values), rows, items) is None
    return values


@pytest.mark.parametrize("backend", BACKENDS)
@given(data=st.data())
def test_bits_are_set_as_by_the_twin(backend: str, data: st.DataObject) -> None:
    num_rows, width = data.draw(st.integers(1, 4)), data.draw(st.integers(1, 5))
    bits = data.draw(hnp.arrays(np.uint8, (num_rows, width)))
    shape = data.draw(hnp.array_shapes(min_dims=1, max_dims=3, min_side=0, max_side=6))
    rows = data.draw(hnp.arrays(np.int64, shape, elements=st.integers(-1, num_rows - 1)))
    items = data.draw(hnp.arrays(np.int64, shape, elements=st.integers(-1, 8 * width - 1)))
    found = mark(backend, bits, rows, items)
    np.testing.assert_array_equal(found, oracle.mark(bits, rows, items))


@pytest.mark.parametrize("backend", BACKENDS)
def test_marked_items_are_the_candidates_of_a_softmax(backend: str) -> None:
    marks = mark(backend, np.zeros((2, 2), np.uint8), [[0, 0, 1], [-1, 0, 1]], [[2, 9, 0], [1, -1, 0]])
    assert marks.tolist() == [[4, 2], [1, 0]]
    found, _ = softmax(backend, np.ones((2, 10), np.float32), candidates=marks)
    assert [np.flatnonzero(row).tolist() for row in found] == [[2, 9], [0]]
    assert mark(backend, np.zeros((0, 2), np.uint8), [-1], [3]).shape == (0, 2)


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize(
    ("bits", "rows", "items", "message"),
    [
        ((2,), [0], [0], r"bits has shape \(2,\); expected \(Q, ceil\(V / 8\)\)"),
        ((2, 1), [0, 1], [0], r"rows has shape \(2,\) and items \(1,\); give one row for each item"),
        ((2, 1), [0.5], [0], "rows has dtype float64; expected integers"),
        ((2, 1), [0], [0.5], "items has dtype float64; expected integers"),
        (
            (2, 1),
            [[0, 2]],
            [[0, 0]],
            r"rows: entry 1 has the number 2; expected 0 to 1 \(bits has 2 rows\), or -1 as padding",
        ),
        ((2, 1), [-2], [0], "rows: entry 0 has the number -2; expected 0 to 1"),
        (
            (2, 1),
            [-1, 1],
            [9, 8],
            r"items: entry 1 has the id 8; expected 0 to 7 \(bits has room for 8 items\), or -1 as padding",
        ),
        ((0, 1), [0], [0], r"rows: entry 0 has the number 0; expected 0 to -1 \(bits has 0 rows\)"),
    ],
)
def test_wrong_marks_are_named(backend: str, bits: Any, rows: Any, items: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        mark(backend, np.zeros(bits, np.uint8), rows, items)


def test_bits_that_cannot_be_overwritten_are_refused() -> None:
    with pytest.raises(ValueError, match="bits is not a writeable uint8 matrix in C order"):
        ranking.mark_(np.zeros((1, 1), np.int64), [0], [0])


@st.composite
def mixtures(draw: st.DrawFn) -> tuple[Any, Any, Any]:
    rows, items = draw(st.integers(1, 5)), draw(st.integers(0, 40))
    shape = (draw(st.integers(0, 4)), draw(st.integers(0, 11)))
    return (
        draw(hnp.arrays(np.float32, (rows, items), elements=PROBABILITIES)),
        draw(hnp.arrays(np.int64, shape, elements=st.integers(-1, rows - 1))),
        draw(hnp.arrays(np.float32, shape, elements=WEIGHTS)),
    )


@pytest.mark.parametrize("backend", BACKENDS)
@given(case=mixtures(), fill=st.sampled_from([0.0, np.nan, np.inf, -1.0]))
def test_mixtures_are_those_of_the_twin(backend: str, case: Any, fill: float) -> None:
    probabilities, rows, weights = case
    expected = [oracle.mixture_scores(probabilities, rows, weights, n) for n in range(len(rows))]
    # The weights of padding are not read.
    found = call(backend, "mixture_scores", probabilities, rows, np.where(rows < 0, fill, weights))
    assert found.dtype == np.float32
    assert found.shape == (len(rows), probabilities.shape[1])
    assert np.isfinite(found).all()
    for scores, wanted in zip(found.tolist(), expected, strict=True):
        assert scores == pytest.approx(wanted, rel=1e-6, abs=1e-6)


@pytest.mark.parametrize("backend", BACKENDS)
def test_a_mixture_by_hand(backend: str) -> None:
    probabilities = np.array([[0.5, 0.5, 0.0, 1e-38], [0.25, 0.0, 0.0, 0.75]], np.float32)
    rows = [[0, 1, -1], [1, -1, 0], [-1, -1, -1], [1, 1, 1], [0, -1, -1]]
    weights = [[0.2, 0.8, 9.0], [1.0, 9.0, 0.0], [1.0, 1.0, 1.0], [0.5, 0.25, 0.25], [1e-5, 0.0, 0.0]]
    found = call(backend, "mixture_scores", probabilities, rows, np.array(weights))
    wanted = [
        [math.log(0.3), math.log(0.1), LEAST, math.log(0.6)],
        [math.log(0.25), LEAST, LEAST, math.log(0.75)],
        [LEAST] * 4,
        [math.log(0.25), LEAST, LEAST, math.log(0.75)],
        [math.log(0.5e-5), math.log(0.5e-5), LEAST, LEAST],
    ]
    np.testing.assert_allclose(found, wanted, rtol=3e-7)


@pytest.mark.parametrize("backend", BACKENDS)
def test_the_score_of_a_mixture_is_its_log_probability(backend: str) -> None:
    """Softmaxes that are mixed with weights of sum 1 are probabilities again."""
    rng = np.random.default_rng(0)
    probabilities, _ = softmax(backend, (rng.normal(size=(7, 3000)) * 5).astype(np.float32))
    weights = rng.random((5, 4))
    weights /= weights.sum(1, keepdims=True)
    rows = rng.integers(0, 7, (5, 4))
    found = call(backend, "mixture_scores", probabilities, rows, weights)
    np.testing.assert_allclose(np.exp(found.astype(float)).sum(1), 1, rtol=1e-6)
    wanted = np.log((probabilities[rows] * weights[:, :, None]).sum(1))
    np.testing.assert_allclose(found, wanted, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("backend", BACKENDS)
def test_not_a_number_is_kept_and_named_by_the_next_kernel(backend: str) -> None:
    probabilities = np.full((3, 40), 0.5, np.float32)
    probabilities[1, 35] = np.nan
    found = call(backend, "mixture_scores", probabilities, [[0, 2], [2, 1]], [[0.5, 0.5], [1.0, 0.0]])
    assert np.argwhere(np.isnan(found)).tolist() == [[1, 35]]
    with pytest.raises(ValueError, match="scores: NaN at row 1, column 35;"):
        call(backend, "target_counts", found, [0, 0])


def long_case() -> tuple[NDArray[np.float32], Any, Any, Any, Any]:
    """Rows of several blocks and of a length that no vector divides."""
    rng = np.random.default_rng(5)
    scores = (rng.normal(size=(9, 5003)) * 8).astype(np.float32)
    marks = rng.integers(0, 256, (9, 626)).astype(np.uint8)
    return scores, rng.integers(-1, 5003, (9, 30)), marks, rng.integers(-1, 9, (6, 11)), rng.random((6, 11))


@pytest.mark.parametrize("backend", BACKENDS)
def test_long_rows_cross_the_blocks_of_the_kernels(backend: str) -> None:
    scores, exclude, marks, rows, weights = long_case()
    candidates = np.unpackbits(marks, axis=1, count=5003, bitorder="little").astype(bool)
    probabilities, log_sums = softmax(backend, scores, exclude=exclude, candidates=marks)
    for row in range(len(scores)):
        expected, log_sum = oracle.softmax(scores, exclude, candidates, row)
        np.testing.assert_allclose(probabilities[row], expected, rtol=1e-5, atol=2.0**-100)
        assert log_sums[row] == pytest.approx(log_sum, rel=1e-7)
    found = call(backend, "mixture_scores", probabilities, rows, weights)
    for mixture in range(len(rows)):
        expected = oracle.mixture_scores(probabilities, rows, weights.astype(np.float32), mixture)
        np.testing.assert_allclose(found[mixture], expected, rtol=1e-6, atol=1e-6)


def test_bits_are_the_same_on_every_instruction_set_and_for_any_number_of_threads() -> None:
    scores, exclude, marks, rows, weights = long_case()

    def everything(threads: int | None) -> list[bytes]:
        probabilities = scores.copy()
        log_sums = ranking.softmax_(probabilities, exclude=exclude, candidates=marks, threads=threads)
        plain = scores.copy()
        ranking.softmax_(plain, threads=threads)
        found = ranking.mixture_scores(probabilities, rows, weights, threads=threads)
        return [each.tobytes() for each in (probabilities, log_sums, plain, found)]

    expected = everything(None)
    try:
        for name in _core.instruction_sets():
            _core.use_instructions(name)
            assert all(everything(threads) == expected for threads in [1, 2, 3])
    finally:
        _core.use_instructions(None)


@pytest.mark.parametrize("backend", BACKENDS)
def test_a_given_array_takes_the_scores(backend: str) -> None:
    probabilities, out = np.full((2, 3), 0.5, np.float32), np.zeros((4, 3), np.float32)
    given_out = out[:2] if backend.startswith("numpy") else torch.from_numpy(out[:2])
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(_ranking_mixtures, "on_device", lambda _: backend == "device")
        own = probabilities if backend.startswith("numpy") else torch.from_numpy(probabilities)
        assert ranking.mixture_scores(own, [[0], [1]], [[1.0], [0.5]], out=given_out) is given_out
    np.testing.assert_allclose(
        out, np.log([[0.5] * 3, [0.25] * 3, [1.0] * 3, [1.0] * 3]) * [[1], [1], [0], [0]]
    )


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
def test_tensors_of_any_floating_type_are_overwritten(dtype: torch.dtype) -> None:
    scores = torch.tensor([[1.0, 1.0, 7.0, 1.0]], dtype=dtype)
    log_sums = ranking.softmax_(scores, exclude=[2], candidates=torch.tensor([[7]], dtype=torch.uint8))
    assert scores.dtype == dtype
    assert scores.tolist() == [[0.5, 0.5, 0.0, 0.0]]
    assert log_sums.dtype == torch.float64
    assert log_sums.tolist() == [pytest.approx(1 + math.log(2), rel=1e-6)]


def test_a_loop_that_must_not_wait_for_its_device_does_not() -> None:
    with pytest.MonkeyPatch.context() as patch, ranking.unchecked():
        patch.setattr(_ranking_mixtures, "on_device", lambda _: True)
        patch.setattr(torch.Tensor, "nonzero", lambda _: pytest.fail("waits for the device"))
        scores = torch.tensor([[1.0, 1.0, 7.0]])
        marks = torch.zeros((1, 1), dtype=torch.uint8)
        ranking.mark_(marks, torch.tensor([0, 0, 0, -1]), torch.tensor([0, 1, 2, 9]))
        ranking.softmax_(scores, exclude=torch.tensor([[2, -1]]), candidates=marks)
    assert scores.tolist() == [[0.5, 0.5, 0.0]]


FINE = np.zeros((2, 3), np.float32)


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"scores": np.zeros(3, np.float32)}, r"scores has shape \(3,\); expected \(B, V\)"),
        ({"exclude": [[0], [3]]}, "exclude: row 1 has the id 3; expected 0 to 2"),
        ({"exclude": [[0]]}, r"exclude has shape \(1, 1\); expected \(2,\) or \(2, E\)"),
        (
            {"candidates": np.zeros((2, 2), np.uint8)},
            r"candidates has shape \(2, 2\); expected \(2, 1\), one row of bits for each row of scores",
        ),
        (
            {"candidates": np.zeros((2, 1), np.int64)},
            "candidates has dtype (torch.)?int64; expected uint8, bits as rank_window_bits returns them",
        ),
        ({"threads": 0}, "threads is 0; expected 1 or more"),
    ],
)
def test_wrong_input_of_a_softmax_is_named(backend: str, options: Any, message: str) -> None:
    options = {"scores": FINE} | options
    with pytest.raises(ValueError, match=message):
        softmax(backend, options.pop("scores"), **options)


@pytest.mark.parametrize(
    "scores", [FINE.astype(float), FINE.T, [[1.0, 2.0]]], ids=["float64", "not in C order", "a list"]
)
def test_scores_that_cannot_be_overwritten_are_refused(scores: Any) -> None:
    with pytest.raises(
        ValueError, match="scores is not a writeable float32 matrix in C order; it is overwritten"
    ):
        ranking.softmax_(scores)


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"probabilities": np.zeros(3)}, r"probabilities has shape \(3,\); expected"),
        ({"rows": [0, 1]}, r"rows has shape \(2,\); expected \(N, J\), numbers for each mixture"),
        ({"rows": [[0.5, 1.0]]}, "rows has dtype float64; expected integers"),
        (
            {"rows": [[0, 2]]},
            r"rows: row 0 has the number 2; expected 0 to 1 \(probabilities has 2 rows\), or -1 as padding",
        ),
        ({"rows": [[0, -2]]}, "rows: row 0 has the number -2; expected 0 to 1"),
        (
            {"weights": [[1.0]]},
            r"weights has shape \(1, 1\) and rows \(1, 2\); give one weight for each entry",
        ),
        (
            {"weights": [[1.0, np.nan]]},
            "weights: row 0, column 1 is (nan|NaN); expected a finite number that is not negative",
        ),
        ({"weights": [[np.inf, 0.5]]}, "weights: row 0, column 0 is inf; expected a finite number"),
        ({"weights": [[1.0, -0.5]]}, "weights: row 0, column 1 is -0.5; expected a finite number"),
        ({"out": FINE}, r"out has shape \(2, 3\); expected \(1, 3\), one row for each mixture"),
        ({"threads": 0}, "threads is 0; expected 1 or more"),
    ],
)
def test_wrong_input_of_a_mixture_is_named(backend: str, options: Any, message: str) -> None:
    given_arguments = {"probabilities": FINE, "rows": [[0, 1]], "weights": [[0.5, 0.5]]} | options
    positional = [given_arguments.pop(name) for name in ("probabilities", "rows", "weights")]
    with pytest.raises(ValueError, match=message):
        call(backend, "mixture_scores", *positional, **given_arguments)


def test_scores_need_an_array_of_their_own() -> None:
    with pytest.raises(ValueError, match="out is not a writeable float32 matrix in C order"):
        ranking.mixture_scores(FINE, [[0]], [[1.0]], out=np.zeros((1, 3)))
    with pytest.raises(ValueError, match="out shares memory with probabilities; pass an array of its own"):
        ranking.mixture_scores(FINE, [[0]], [[1.0]], out=FINE[:1])

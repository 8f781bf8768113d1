"""The cross-entropy of mixtures of softmaxes, on every backend."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import oracle
import pytest
import torch
from hypothesis import example, given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from numpy.typing import NDArray
from test_ranking import BACKENDS, call
from test_ranking_mixtures import packed

from alterrec import _core, _ranking_arguments, _ranking_mixtures, ranking

# Ties, items that get nothing, and differences at which float32 exponentials underflow.
SCORES = st.sampled_from([-np.inf, -200.0, -60.0, -0.0, 0.0, 1.0, 1.0]) | st.floats(-9, 9, width=32)
LOG_WEIGHTS = st.sampled_from([-np.inf, -50.0, 0.0]) | st.floats(-5, 0, width=32)


def loss_of(backend: str, scores: NDArray[Any], *arguments: Any, **options: Any) -> tuple[Any, ...]:
    """What the scores become, the losses, the shares and the shares of the rows."""
    values = scores.copy()
    if backend.startswith("numpy"):
        return values, *call(backend, "mixture_cross_entropy_", values, *arguments, **options)
    if options.get("candidates") is not None:
        options["candidates"] = torch.from_numpy(options["candidates"])
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(_ranking_mixtures, "on_device", lambda _: backend == "device")
        found = ranking.mixture_cross_entropy_(torch.from_numpy(values), *arguments, **options)
    return values, *(each.numpy() for each in found)


@st.composite
def cases(draw: st.DrawFn) -> tuple[tuple[Any, ...], Any, Any]:
    """The arguments; exclusions in each of their shapes; candidates or None."""
    num_rows, items = draw(st.integers(1, 5)), draw(st.integers(1, 40))
    samples, entries, columns = draw(st.integers(0, 4)), draw(st.integers(0, 4)), draw(st.integers(1, 3))
    item = st.integers(0, items - 1)
    exclude = None
    if draw(st.booleans()):
        shape = draw(st.sampled_from([(num_rows,), (num_rows, 0), (num_rows, 3)]))
        exclude = draw(hnp.arrays(np.int64, shape, elements=st.just(-1) | item))
    arguments = (
        draw(hnp.arrays(np.float32, (num_rows, items), elements=SCORES)),
        draw(hnp.arrays(np.int64, (samples, entries), elements=st.integers(-1, num_rows - 1))),
        draw(hnp.arrays(np.float32, (samples, entries), elements=LOG_WEIGHTS)),
        draw(hnp.arrays(np.int64, (samples, columns), elements=item)),
        [1.0, 0.5, 0.25][:columns],
    )
    return arguments, exclude, draw(st.none() | hnp.arrays(np.bool_, (num_rows, items)))


# 24 shares of one score: subtracting each of them alone leaves a gradient of 1.1e-6 in place of 0.
MANY_SHARES = (
    np.full((1, 1), -200, np.float32),
    np.zeros((3, 4), np.int64),
    np.full((3, 4), -50, np.float32),
    np.zeros((3, 2), np.int64),
    [1.0, 0.5],
)


@pytest.mark.parametrize("backend", BACKENDS)
@given(case=cases(), factor=st.sampled_from([1.0, 0.125]))
@example(case=(MANY_SHARES, None, None), factor=1.0)
def test_losses_shares_and_gradients_are_those_of_the_twin(backend: str, case: Any, factor: float) -> None:
    (scores, rows, log_weights, *wanted), exclude, candidates = case
    expected = oracle.mixture_cross_entropy(scores, rows, log_weights, *wanted, exclude, candidates, factor)
    # The weights of padding are not read.
    log_weights = np.where(rows < 0, np.nan, log_weights)
    options = {"exclude": exclude, "candidates": packed(candidates), "factor": factor}
    found, losses, shares, row_shares = loss_of(backend, scores, rows, log_weights, *wanted, **options)
    assert {each.dtype for each in (losses, shares, row_shares)} == {np.dtype(np.float64)}
    # Probabilities below 2^-100 have logarithms all the same, which the twin cannot see.
    for mine, others in zip((losses, shares, row_shares), expected, strict=False):
        np.testing.assert_allclose(mine, others, rtol=1e-5, atol=1e-6)
    known = np.isfinite(expected[3]).all(1)
    gradient = found[known] * row_shares[known, None]
    np.testing.assert_allclose(gradient, expected[3][known], rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("backend", BACKENDS)
def test_a_mixture_of_two_rows_by_hand(backend: str) -> None:
    """p_0 = (1/4, 3/4), p_1 = (1/2, 1/2), weights 1/4 and 3/4: p(0) = 7/16, p(1) = 9/16.

    For item 1, responsibilities are 3/16 : 6/16 = 1/3 : 2/3, for item 0 they are 1/16 : 6/16 = 1/7 : 6/7.
    Item 1 has the weight 1, item 0 the weight 2, and the factor is 1/2.
    """
    scores = np.log(np.array([[1.0, 3.0], [1.0, 1.0], [3.0, 1.0]])).astype(np.float32)
    log_weights = np.log([[0.25, 0.75, 1.0]])
    found, losses, shares, row_shares = loss_of(
        backend, scores, [[0, 1, -1]], log_weights, [[1, 0]], [1.0, 2.0], factor=0.5
    )
    assert losses.tolist() == [pytest.approx(-math.log(9 / 16) - 2 * math.log(7 / 16))]
    np.testing.assert_allclose(shares, [[1 / 6 + 1 / 7, 1 / 3 + 6 / 7, 0]], rtol=1e-6)
    np.testing.assert_allclose(row_shares, [1 / 6 + 1 / 7, 1 / 3 + 6 / 7, 0], rtol=1e-6)
    wanted = [
        [1 / 4 - (1 / 7) / (13 / 42), 3 / 4 - (1 / 6) / (13 / 42)],
        [1 / 2 - (6 / 7) / (25 / 21), 1 / 2 - (1 / 3) / (25 / 21)],
        [3 / 4, 1 / 4],
    ]
    np.testing.assert_allclose(found, wanted, rtol=1e-5)


@pytest.mark.parametrize("backend", BACKENDS)
def test_a_row_that_several_entries_name(backend: str) -> None:
    """Row 0 is twice in the first sample and once in the second, with the same positive."""
    scores = np.log(np.array([[1.0, 3.0]])).astype(np.float32)
    found, losses, shares, row_shares = loss_of(
        backend, scores, [[0, 0], [-1, 0]], np.log([[0.25, 0.75], [9.0, 1.0]]), [[1], [1]], [1.0]
    )
    np.testing.assert_allclose(losses, [math.log(4 / 3)] * 2, rtol=1e-6)
    np.testing.assert_allclose(shares, [[0.25, 0.75], [0, 1]], rtol=1e-6)
    np.testing.assert_allclose(row_shares, [2], rtol=1e-6)
    np.testing.assert_allclose(found, [[0.25, -0.25]], rtol=1e-6)


@pytest.mark.parametrize("backend", BACKENDS)
def test_positives_are_candidates_unless_they_are_excluded(backend: str) -> None:
    scores, none = np.zeros((2, 4), np.float32), np.zeros((2, 1), np.uint8)
    halves = np.log([[0.5, 0.5]])
    rows = [[0, 1]]
    found, losses, shares, _ = loss_of(backend, scores, rows, halves, [[2]], [1.0], candidates=none)
    # The only candidate is the positive.
    assert losses.tolist() == [pytest.approx(0.0, abs=1e-7)]
    assert found.tolist() == [[0.0] * 4] * 2
    assert shares.tolist() == [[0.5, 0.5]]
    # Row 1 excludes the positive, so that the responsibility is that of row 0 alone.
    options = {"candidates": none + 1, "exclude": [-1, 2]}
    found, losses, shares, row_shares = loss_of(backend, scores, rows, halves, [[2]], [1.0], **options)
    np.testing.assert_allclose(losses, [math.log(4)], rtol=1e-6)
    assert (shares.tolist(), row_shares.tolist()) == ([[1.0, 0.0]], [1.0, 0.0])
    assert found.tolist() == [[0.5, 0.0, -0.5, 0.0], [1.0, 0.0, 0.0, 0.0]]
    # Both exclude it, and row 1 has no candidate at all.
    options = {"candidates": none, "exclude": [[2], [2]]}
    _, losses, shares, _ = loss_of(backend, scores, rows, halves, [[2]], [1.0], **options)
    assert losses.tolist() == [math.inf]
    assert np.isnan(shares).all()


@pytest.mark.parametrize("backend", BACKENDS)
def test_losses_beyond_the_range_of_probabilities(backend: str) -> None:
    """A probability of exp(-200) is 0 in float32; its logarithm is exact all the same."""
    scores = np.array([[0.0, -200.0], [0.0, -199.0]], np.float32)
    found, losses, shares, _ = loss_of(backend, scores, [[0, 1]], np.log([[0.5, 0.5]]), [[1]], [1.0])
    assert losses.tolist() == [pytest.approx(200 - math.log(0.5 + 0.5 * math.e), rel=1e-7)]
    np.testing.assert_allclose(shares, [[1 / (1 + math.e), math.e / (1 + math.e)]], rtol=1e-6)
    assert found.tolist() == [[1.0, -1.0], [1.0, -1.0]]


@pytest.mark.parametrize("backend", BACKENDS)
def test_not_a_number_makes_only_its_samples_nan(backend: str) -> None:
    scores = np.zeros((2, 3), np.float32)
    scores[1, 2] = np.nan
    _, losses, shares, row_shares = loss_of(
        backend, scores, [[0, -1], [0, 1]], np.zeros((2, 2)), [[0], [1]], [1.0]
    )
    assert np.isnan(losses).tolist() == [False, True]
    assert np.isnan(shares).tolist() == [[False, False], [True, True]]
    assert np.isnan(row_shares).all()


@pytest.mark.parametrize("backend", BACKENDS)
def test_shapes_at_the_edge(backend: str) -> None:
    scores = np.zeros((2, 3), np.float32)
    for samples, entries, columns in [(0, 2, 1), (3, 0, 1), (3, 2, 0)]:
        rows, positives = np.full((samples, entries), 1), np.zeros((samples, columns), int)
        found, losses, shares, row_shares = loss_of(
            backend, scores, rows, np.zeros(rows.shape), positives, np.ones(columns)
        )
        assert (losses.shape, shares.shape, row_shares.tolist()) == ((samples,), (samples, entries), [0, 0])
        np.testing.assert_allclose(found, 1 / 3, rtol=1e-6)
        assert losses.tolist() == [math.inf if columns else 0.0] * samples
    _, losses, shares, row_shares = loss_of(
        backend, scores[:0], [[-1, -1]], [[0.0, 0.0]], [[2]], [1.0], candidates=np.zeros((0, 1), np.uint8)
    )
    assert (losses.tolist(), shares.tolist(), row_shares.tolist()) == ([math.inf], [[0.0, 0.0]], [])


def long_case() -> tuple[Any, ...]:
    """Rows that are longer than a vector divides, and samples that share them."""
    rng = np.random.default_rng(8)
    scores = (rng.normal(size=(30, 1003)) * 4).astype(np.float32)
    rows = rng.integers(-1, 30, (50, 9))
    rows[:, 0] = rng.integers(0, 30, 50)
    positives = rng.integers(0, 1003, (50, 2))
    exclude = np.full((30, 2), -1)
    exclude[:, 0] = np.setdiff1d(np.arange(1003), positives)[:30]
    marks = rng.integers(0, 256, (30, 126)).astype(np.uint8)
    return scores, rows, rng.normal(size=rows.shape), positives, [1.0, 0.5], exclude, marks


@pytest.mark.parametrize("backend", BACKENDS)
def test_a_batch_equals_autograd(backend: str) -> None:
    scores, rows, log_weights, positives, weights, exclude, marks = long_case()
    chosen = np.unpackbits(marks, axis=1, count=1003, bitorder="little").astype(bool)
    for n, j in zip(*np.nonzero(rows >= 0), strict=True):
        chosen[rows[n, j], positives[n]] = True
    chosen[np.arange(30), exclude[:, 0]] = False
    leaves = [torch.tensor(each, dtype=torch.float64, requires_grad=True) for each in (scores, log_weights)]
    log_p = leaves[0].masked_fill(~torch.from_numpy(chosen), -torch.inf).log_softmax(1)
    own = log_p[rows.clip(0)[:, None], positives[..., None]] + leaves[1][:, None]
    own = own.masked_fill(torch.from_numpy(rows < 0)[:, None], -torch.inf).logsumexp(2)
    expected = -(own @ torch.tensor(weights, dtype=torch.float64))
    expected.mean().backward()
    found, losses, shares, row_shares = loss_of(
        backend,
        scores,
        rows,
        log_weights,
        positives,
        weights,
        exclude=exclude,
        candidates=marks,
        factor=1 / 50,
    )
    np.testing.assert_allclose(losses, expected.detach(), rtol=1e-6)
    np.testing.assert_allclose(-shares, leaves[1].grad, rtol=1e-5, atol=1e-9)
    np.testing.assert_allclose(found * row_shares[:, None], leaves[0].grad, rtol=1e-4, atol=1e-8)


def test_bits_are_the_same_on_every_instruction_set_and_for_any_number_of_threads() -> None:
    scores, *arguments, exclude, marks = long_case()

    def everything(threads: int | None) -> list[bytes]:
        values = scores.copy()
        options = {"exclude": exclude, "candidates": marks, "factor": 0.02, "threads": threads}
        found = ranking.mixture_cross_entropy_(values, *arguments, **options)
        return [each.tobytes() for each in (values, *found)]

    expected = everything(None)
    try:
        for name in _core.instruction_sets():
            _core.use_instructions(name)
            assert all(everything(threads) == expected for threads in [1, 2, 3])
    finally:
        _core.use_instructions(None)


def test_a_loop_that_must_not_wait_for_its_device_does_not() -> None:
    arguments = [torch.tensor([[0, 1]]), torch.zeros(1, 2), torch.tensor([[1]]), torch.ones(1)]
    options = {"exclude": torch.tensor([[0], [-1]]), "candidates": torch.zeros((2, 1), dtype=torch.uint8)}
    with pytest.MonkeyPatch.context() as patch, ranking.unchecked():
        for module in (_ranking_arguments, _ranking_mixtures):
            patch.setattr(module, "on_device", lambda _: True)
        for name in ("nonzero", "item", "tolist", "__bool__", "cpu", "numpy"):
            patch.setattr(torch.Tensor, name, lambda *_: pytest.fail("waits for the device"))
        scores = torch.zeros(2, 3)
        ranking.mixture_cross_entropy_(scores, *arguments, **options)
    assert scores.tolist() == [[0.0] * 3] * 2


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"rows": [0]}, r"rows has shape \(1,\); expected \(N, J\)"),
        (
            {"rows": [[0, 2]]},
            r"rows: row 0 has the number 2; expected 0 to 1 \(scores has 2 rows\), or -1 as",
        ),
        ({"rows": [[0, -2]]}, "rows: row 0 has the number -2"),
        (
            {"log_weights": [[0.0]]},
            r"log_weights has shape \(1, 1\) and rows \(1, 2\); give one weight for each",
        ),
        (
            {"positives": [[3]]},
            r"positives: row 0 has the id 3; expected 0 to 2 \(the catalogue has 3 items\)",
        ),
        ({"positives": [[-1]]}, "positives: row 0 has the id -1"),
        ({"positives": [[0.5]]}, "positives has dtype float64; expected integers"),
        (
            {"positives": [[0, 1]]},
            r"positives has shape \(1, 2\) and weights \(1,\); expected \(N, P\) and \(P,\)",
        ),
        ({"positives": [0]}, r"positives has shape \(1,\) and weights \(1,\)"),
        ({"positives": [[0], [1]]}, r"positives has shape \(2, 1\) .* for the N = 1 rows of rows"),
        ({"weights": [[1.0]]}, r"positives has shape \(1, 1\) and weights \(1, 1\)"),
        ({"exclude": [[0], [3]]}, "exclude: row 1 has the id 3; expected 0 to 2"),
        ({"candidates": np.zeros((2, 2), np.uint8)}, r"candidates has shape \(2, 2\); expected \(2, 1\)"),
        ({"threads": 0}, "threads is 0; expected 1 or more"),
    ],
)
def test_wrong_input_is_named(backend: str, options: Any, message: str) -> None:
    arguments = {
        "rows": [[0, 1]],
        "log_weights": [[0.0, 0.0]],
        "positives": [[0]],
        "weights": [1.0],
    } | options
    positional = [arguments.pop(name) for name in ("rows", "log_weights", "positives", "weights")]
    with pytest.raises(ValueError, match=message):
        loss_of(backend, np.zeros((2, 3), np.float32), *positional, **arguments)


def test_scores_that_cannot_be_overwritten_are_refused() -> None:
    with pytest.raises(ValueError, match="scores is not a writeable float32 matrix in C order"):
        ranking.mixture_cross_entropy_(np.zeros((1, 2)), [[0]], [[0.0]], [[0]], [1.0])

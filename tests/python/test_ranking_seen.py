"""Counts with and without the items that a session has seen, and the repeat component, on every backend."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import oracle
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from numpy.typing import NDArray
from test_ranking import ANY, BACKENDS, TIE_RICH, call

from alterrec import _core, ranking

FINITE = st.sampled_from(oracle.float32s(-1.0, -0.0, 0.0, 0.1, 0.5, 1.0)) | st.floats(-1e3, 1e3, width=32)
ODDS = st.sampled_from([-np.inf, -3.0, 0.0, 0.5]) | st.floats(-30, 30, width=32)
TEMPERATURES = st.sampled_from([1.0, 0.25, 3.0])


@st.composite
def cases(draw: st.DrawFn, scores: Any = None) -> tuple[Any, Any, Any, Any]:
    """Scores, seen items (more of them than items, sometimes), log odds and targets."""
    rows, items, width = draw(st.integers(0, 4)), draw(st.integers(1, 12)), draw(st.integers(0, 15))
    values = scores if scores is not None else draw(st.sampled_from([TIE_RICH, ANY]))
    return (
        draw(hnp.arrays(np.float32, (rows, items), elements=values)),
        draw(hnp.arrays(np.int64, (rows, width), elements=st.integers(-1, items - 1))),
        draw(hnp.arrays(np.float32, (rows, width), elements=ODDS)),
        draw(hnp.arrays(np.int64, rows, elements=st.integers(0, items - 1))),
    )


def lists(pair: Any) -> list[Any]:
    return [part.tolist() for part in pair]


def seen_counts(backend: str, *args: Any, **options: Any) -> ranking.SeenCounts:
    counts = call(backend, "seen_target_counts", *args, **options)
    assert isinstance(counts, ranking.SeenCounts)
    return counts


@pytest.mark.parametrize("backend", BACKENDS)
@given(data=st.data(), num_views=st.integers(1, 4))
def test_kept_and_excluded_are_the_counts_of_two_calls(
    backend: str, data: st.DataObject, num_views: int
) -> None:
    first, seen, _, targets = data.draw(cases())
    first = first.clip(-1e30, 1e30)  # so that no product overflows
    views = [
        first,
        *(data.draw(hnp.arrays(np.float32, first.shape, elements=FINITE)) for _ in range(num_views - 1)),
    ]
    weights = data.draw(st.lists(st.floats(-2, 2, width=32), min_size=num_views, max_size=num_views))
    counts = seen_counts(backend, views, weights, targets, seen)
    assert counts.repeats is None
    matrices = [*views, oracle.weighted_sum(views, weights)]
    for pair, exclude in [(counts.kept, None), (counts.excluded, seen)]:
        assert pair[0].shape == pair[1].shape == (num_views + 1, len(first))
        expected = [oracle.target_counts(scores, targets, exclude) for scores in matrices]
        assert list(zip(*lists(pair), strict=True)) == expected


@pytest.mark.parametrize("backend", BACKENDS)
@given(case=cases(), temperature=TEMPERATURES)
def test_repeat_scores_are_those_of_the_twin(backend: str, case: Any, temperature: float) -> None:
    scores, seen, odds, _ = case
    values = call(backend, "repeat_scores", scores, seen, odds, temperature)
    assert values.dtype == np.float32
    assert values.shape == seen.shape
    for row in range(len(scores)):
        expected = oracle.repeat_scores(scores, seen, odds, row, temperature)
        wanted = [expected.get(item, -np.inf) for item in seen[row].tolist()]
        assert values[row].tolist() == pytest.approx(wanted, rel=1e-5, abs=1e-5)


@pytest.mark.parametrize("backend", BACKENDS)
@given(case=cases(), temperatures=st.lists(TEMPERATURES, max_size=4))
def test_normalisers_are_those_of_the_twin(backend: str, case: Any, temperatures: list[float]) -> None:
    scores, seen, _, _ = case
    found = call(backend, "log_normaliser", scores, seen, temperatures)
    assert found.dtype == np.float64
    assert found.shape == (len(temperatures), len(scores))
    for values, temperature in zip(found.tolist(), temperatures, strict=True):
        wanted = [oracle.log_normaliser(scores, seen, row, temperature) for row in range(len(scores))]
        assert values == pytest.approx(wanted, rel=1e-5, abs=1e-5)


@pytest.mark.parametrize("backend", BACKENDS)
@given(case=cases(), data=st.data())
def test_repeats_are_the_counts_of_scores_with_those_of_seen_items_replaced(
    backend: str, case: Any, data: st.DataObject
) -> None:
    """The counts must be equal to the last bit to a ranking of the scores of `repeat_scores`."""
    first, seen, odds, targets = case
    first = first.clip(-1e30, 1e30)
    views = [first, data.draw(hnp.arrays(np.float32, first.shape, elements=FINITE))]
    temperatures = data.draw(st.lists(TEMPERATURES, min_size=3, max_size=3))
    options = {"log_odds": odds, "temperatures": temperatures}
    counts = seen_counts(backend, views, [0.25, -1.5], targets, seen, **options)
    plain = seen_counts(backend, views, [0.25, -1.5], targets, seen)
    assert [lists(pair) for pair in counts[:2]] == [lists(pair) for pair in plain[:2]]
    matrices = [*views, oracle.weighted_sum(views, [0.25, -1.5])]
    for place, (scores, temperature) in enumerate(zip(matrices, temperatures, strict=True)):
        values = call(backend, "repeat_scores", scores, seen, odds, temperature)
        replaced = scores.copy()
        left_out = np.where(values == -np.inf, seen, -1)
        for row, column in zip(*np.nonzero(values > -np.inf), strict=True):
            replaced[row, seen[row, column]] = values[row, column]
        expected = oracle.target_counts(replaced, targets, left_out)
        assert (counts.repeats[0][place].tolist(), counts.repeats[1][place].tolist()) == expected


@pytest.mark.parametrize("backend", BACKENDS)
@given(case=cases(st.sampled_from([-np.inf, np.inf, -100.0, 0.0, 7.0])), temperature=TEMPERATURES)
def test_repeats_are_the_counts_of_the_twin_where_no_scores_are_near_each_other(
    backend: str, case: Any, temperature: float
) -> None:
    scores, seen, odds, targets = case
    odds = np.where(odds > -np.inf, (odds * 8).round() / 8 + 0.06, odds).astype(np.float32)
    near = [
        abs(value - other) < 1e-3
        for row in range(len(scores))
        for value in oracle.repeat_scores(scores, seen, odds, row, temperature).values()
        for other in [-100.0, 0.0, 7.0]
    ]
    counts = seen_counts(
        backend, [scores], [1.0], targets, seen, log_odds=odds, temperatures=[temperature] * 2
    )
    expected = oracle.repeat_counts(scores, targets, seen, odds, temperature)
    if not any(near):
        assert lists([counts.repeats[0][1], counts.repeats[1][1]]) == list(expected)


@pytest.mark.parametrize("backend", BACKENDS)
def test_the_formula_by_hand(backend: str) -> None:
    """Three other items of score 2 log 2 at T = 2: lse = log(3 * 2), c = 2 * (log_odds + log 6)."""
    other = 2 * math.log(2)
    scores = np.array([[50.0, other, -40.0, other, other]], np.float32)
    seen = np.array([[2, -1, 0, 2]])
    # p(0) = 0.1, p(2) = 0.4, so the three others have 0.5 / 3 each: 0.1 < 0.1667 < 0.4.
    share = np.log(np.array([[0.4, 99.0, 0.1, 1e-9]]) / 0.5).astype(np.float32)
    values = call(backend, "repeat_scores", scores, seen, share, 2.0)
    wanted = [2 * math.log(0.4 / 0.5 * 6), -np.inf, 2 * math.log(0.1 / 0.5 * 6), 2 * math.log(0.4 / 0.5 * 6)]
    assert values[0].tolist() == pytest.approx(wanted, rel=1e-6)
    assert call(backend, "log_normaliser", scores, seen, [2.0]).tolist() == [[pytest.approx(math.log(6))]]
    rank = {}
    for target in range(5):
        counts = seen_counts(
            backend, [scores], [1.0], [target], seen, log_odds=share, temperatures=[2.0, 2.0]
        )
        rank[target] = [(int(greater[1, 0]), int(tied[1, 0])) for greater, tied in counts]
    assert rank == {
        0: [(0, 1), (0, 0), (4, 1)],
        1: [(1, 3), (0, 3), (1, 3)],
        2: [(4, 1), (3, 0), (0, 1)],
        3: [(1, 3), (0, 3), (1, 3)],
        4: [(1, 3), (0, 3), (1, 3)],
    }


@pytest.mark.parametrize("backend", BACKENDS)
def test_exact_ties_between_a_seen_item_and_others(backend: str) -> None:
    """One other item has a finite score s, so lse = s and log odds of 0 give exactly s."""
    scores = np.array([[9.0, 3.0, -np.inf, -5.0]], np.float32)
    for target, expected in [(0, (0, 2)), (1, (0, 2)), (2, (2, 1)), (3, (2, 0))]:
        counts = seen_counts(
            backend, [scores], [1.0], [target], [[0, 3]], log_odds=[[0.0, -np.inf]], temperatures=[1.0, 1.0]
        )
        assert (counts.repeats[0][1, 0], counts.repeats[1][1, 0]) == expected


@pytest.mark.parametrize("backend", BACKENDS)
def test_rows_without_a_finite_normaliser(backend: str) -> None:
    scores = np.array([[1.0, 2.0, 3.0], [1.0, -np.inf, 3.0], [1.0, np.inf, 3.0]], np.float32)
    seen, odds = (
        [[0, 1, 2], [0, 2, -1], [0, 2, -1]],
        [[0.5, -0.5, -np.inf], [-1e38, 2.0, 7.0], [0.5, -9.0, 7.0]],
    )
    options = {"log_odds": odds, "temperatures": [1.0, 1.0]}
    assert call(backend, "log_normaliser", scores, seen, [1.0]).tolist() == [[-np.inf, -np.inf, np.inf]]
    values = call(backend, "repeat_scores", scores, seen, odds)
    assert values[0].tolist() == [0.5, -0.5, -np.inf]
    assert values[1].tolist() == [np.float32(-1e38), 2.0, -np.inf]
    assert values[2].tolist() == [np.inf, np.inf, -np.inf]
    below = call(backend, "repeat_scores", scores, seen, odds, 1e20)
    assert below[1].tolist() == [np.finfo(np.float32).min, np.float32(2e20), -np.inf]
    repeats = seen_counts(backend, [scores], [1.0], [0, 1, 1], seen, **options).repeats
    assert [repeats[0][1].tolist(), repeats[1][1].tolist()] == [[0, 2, 0], [1, 1, 3]]


@pytest.mark.parametrize("backend", BACKENDS)
@given(case=cases(FINITE))
def test_items_that_are_no_candidates_are_excluded(backend: str, case: Any) -> None:
    scores, seen, odds, targets = case
    none = np.full_like(odds, -np.inf)
    counts = seen_counts(backend, [scores, scores], [1.0, 2.0], targets, seen, log_odds=none)
    assert lists(counts.repeats) == lists(counts.excluded)


@pytest.mark.parametrize("backend", BACKENDS)
@given(case=cases(), data=st.data())
def test_every_view_can_have_its_own_log_odds(backend: str, case: Any, data: st.DataObject) -> None:
    first, seen, odds, targets = case
    first = first.clip(-1e30, 1e30)
    views = [first, data.draw(hnp.arrays(np.float32, first.shape, elements=FINITE))]
    every = np.stack([odds, *data.draw(hnp.arrays(np.float32, (2, *odds.shape), elements=ODDS))])
    temperatures = data.draw(st.lists(TEMPERATURES, min_size=3, max_size=3))
    given_odds = {"log_odds": every, "temperatures": temperatures}
    counts = seen_counts(backend, views, [0.25, -1.5], targets, seen, **given_odds)
    for place in range(3):
        one = {"log_odds": every[place], "temperatures": temperatures}
        alone = seen_counts(backend, views, [0.25, -1.5], targets, seen, **one)
        assert [part[place].tolist() for part in counts.repeats] == [
            part[place].tolist() for part in alone.repeats
        ]


def long_case() -> tuple[list[NDArray[np.float32]], Any, Any, Any]:
    """Rows of several blocks, of scores far apart, with seen items in the same block and in others."""
    rng = np.random.default_rng(5)
    views = [(rng.normal(size=(6, 5000)) * scale).astype(np.float32) for scale in (3, 40)]
    views[0][0, :4096] -= 500  # the largest score comes late
    seen = rng.integers(-1, 5000, (6, 9))
    seen[:, :4] = [0, 1023, 1024, 4999]
    targets = np.where(rng.random(6) < 0.5, seen[:, 8].clip(0), rng.integers(0, 5000, 6))
    return views, seen, rng.normal(size=seen.shape).astype(np.float32), targets


@pytest.mark.parametrize("backend", BACKENDS)
def test_long_rows_cross_the_blocks_of_the_kernel(backend: str) -> None:
    views, seen, odds, targets = long_case()
    temperatures = [1.0, 10.0, 0.5]
    options = {"log_odds": odds, "temperatures": temperatures}
    counts = seen_counts(backend, views, [0.5, 0.5], targets, seen, **options)
    for place, scores in enumerate([*views, oracle.weighted_sum(views, [0.5, 0.5])]):
        normaliser = call(backend, "log_normaliser", scores, seen, temperatures[place : place + 1])[0]
        wanted = [oracle.log_normaliser(scores, seen, row, temperatures[place]) for row in range(6)]
        assert normaliser.tolist() == pytest.approx(wanted, rel=1e-6)
        expected = oracle.repeat_counts(scores, targets, seen, odds, temperatures[place])
        assert (counts.repeats[0][place].tolist(), counts.repeats[1][place].tolist()) == expected


def test_bits_are_the_same_on_every_instruction_set_and_for_any_number_of_threads() -> None:
    views, seen, odds, targets = long_case()

    def everything() -> list[Any]:
        counts = ranking.seen_target_counts(views, [0.3, 0.7], targets, seen, log_odds=odds)
        return [
            [lists(pair or []) for pair in counts],
            ranking.repeat_scores(views[0], seen, odds, 0.7).tolist(),
            ranking.log_normaliser(views[1], seen, [1.0, 5.0]).tolist(),
        ]

    expected = everything()
    try:
        for name in _core.instruction_sets():
            _core.use_instructions(name)
            for threads in [1, 2, 3]:
                ranking.set_threads(threads)
                assert everything() == expected
    finally:
        _core.use_instructions(None)
        ranking.set_threads(None)


FINE = np.zeros((2, 3), np.float32)
NAN = np.array([[1.0, 2.0, 3.0], [4.0, np.nan, np.nan]], np.float32)
SEEN = np.array([[0, -1], [-1, 1]])


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"views": []}, "views is empty"),
        ({"views": [FINE, NAN]}, r"views\[1\]: NaN at row 1, column 1"),
        ({"weights": [1.0]}, r"weights has shape \(1,\); expected \(2,\)"),
        ({"targets": [0, 3]}, "targets: row 1 has the id 3; expected 0 to 2"),
        ({"seen": [[0, 0], [3, -1]]}, "seen: row 1 has the id 3; expected 0 to 2"),
        ({"seen": [[0.5], [1]]}, "seen has dtype float64; expected integers"),
        ({"seen": [[0]]}, r"seen has shape \(1, 1\); expected \(2,\) or \(2, E\)"),
        ({"log_odds": [[0.0], [0.0]]}, r"log_odds has shape \(2, 1\) and seen \(2, 2\)"),
        (
            {"log_odds": [[0.0, 0.0], [0.0, np.nan]]},
            "log_odds: row 1, column 1 is nan; expected a finite number",
        ),
        ({"log_odds": [[np.inf, 0.0], [0.0, 0.0]]}, "log_odds: row 0, column 0 is inf"),
        ({"log_odds": np.zeros((2, 2, 2))}, r"log_odds has shape \(2, 2, 2\); expected 3 matrices"),
        ({"temperatures": [1.0]}, r"temperatures has shape \(1,\); expected \(3,\)"),
        ({"temperatures": [1.0, 0.0, 1.0]}, r"temperatures\[1\] is 0.0; expected a number between"),
        ({"temperatures": [1.0, 1.0, np.nan]}, r"temperatures\[2\] is nan"),
    ],
)
def test_wrong_input_is_named(backend: str, options: Any, message: str) -> None:
    arguments = {"views": [FINE, FINE], "weights": [1.0, 1.0], "targets": [0, 0], "seen": SEEN}
    arguments |= {"log_odds": np.zeros((2, 2))} | options
    positional = [arguments.pop(name) for name in ("views", "weights", "targets", "seen")]
    with pytest.raises(ValueError, match=message):
        call(backend, "seen_target_counts", *positional, **arguments)


@pytest.mark.parametrize("backend", BACKENDS)
def test_padding_needs_no_log_odds_and_scores_no_nan(backend: str) -> None:
    odds = [[0.0, np.nan], [np.inf, 0.0]]
    assert np.isfinite(call(backend, "repeat_scores", FINE, SEEN, odds)).tolist() == [
        [True, False],
        [False, True],
    ]
    with pytest.raises(ValueError, match="scores: NaN at row 1, column 1"):
        call(backend, "repeat_scores", NAN, SEEN, odds)
    with pytest.raises(ValueError, match="scores: NaN at row 1, column 1"):
        call(backend, "log_normaliser", NAN, SEEN, [1.0])
    with pytest.raises(ValueError, match=r"temperatures\[0\] is -1.0"):
        call(backend, "repeat_scores", FINE, SEEN, odds, -1.0)


@pytest.mark.parametrize("backend", BACKENDS)
def test_shapes_at_the_edge(backend: str) -> None:
    none = np.empty((0, 6), np.float32)
    counts = seen_counts(backend, [none], [1.0], [], np.empty((0, 2), int), log_odds=np.empty((0, 2)))
    assert [part.shape for pair in counts for part in pair] == [(2, 0)] * 6
    assert call(backend, "repeat_scores", FINE, np.empty((2, 0), int), np.empty((2, 0))).shape == (2, 0)
    assert call(backend, "repeat_scores", FINE, [1, -1], [0.0, 0.0]).shape == (2, 1)
    assert call(backend, "log_normaliser", FINE, np.empty((2, 0), int), []).shape == (0, 2)
    assert call(backend, "log_normaliser", FINE[:, :0], np.empty((2, 0), int), [1.0]).tolist() == [
        [-np.inf] * 2
    ]

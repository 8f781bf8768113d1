"""Counts of keys and windows between cuts against slow twins: numpy, torch, torch on a device."""

from __future__ import annotations

from typing import Any
from unittest import mock

import numpy as np
import oracle
import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from numpy.typing import NDArray

from alterrec import _core, _ranking_cuts, ranking
from alterrec._ranking_cuts import Cuts

# The kernels on each instruction set that this processor has, in torch's hands, and their torch twin.
BACKENDS = [*(f"numpy on {name}" for name in _core.instruction_sets()), "torch", "device"]
# Keys on both sides of zero, ties, and the ends of the range.
HARD = oracle.float32s(-np.inf, -3.4e38, -1.0, -1e-45, -0.0, 0.0, 1e-45, 1.0, 1.0000001, 2.0, 3.4e38, np.inf)


def call(backend: str, name: str, scores: Any, *args: Any, exclude: Any) -> Any:
    """Call a function with numpy scores, with tensors, or with tensors as if on a device."""
    function = getattr(_ranking_cuts, name)
    if backend.startswith("numpy"):
        _core.use_instructions(backend.removeprefix("numpy on "))
        try:
            return function(scores, *args, exclude=exclude)
        finally:
            _core.use_instructions(None)
    with mock.patch.object(_ranking_cuts, "on_device", return_value=backend == "device"):
        found = function(torch.tensor(scores), *args, exclude=exclude)
    assert isinstance(found, torch.Tensor)
    return found.numpy()


@st.composite
def cases(draw: st.DrawFn) -> tuple[NDArray[np.float32], NDArray[np.int64] | None]:
    """Rows of hard or arbitrary scores, short or of several blocks, perhaps empty; and excluded ids."""
    rows = draw(st.integers(0, 3))
    if draw(st.booleans()):
        values = st.sampled_from(HARD) | st.floats(width=32, allow_nan=False)
        scores = draw(hnp.arrays(np.float32, (rows, draw(st.integers(0, 12))), elements=values))
    else:
        rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
        shape, share = (rows, draw(st.integers(60, 700))), draw(st.sampled_from([0.0, 0.1, 1.0]))
        normal = rng.normal(size=shape).astype(np.float32).round(draw(st.integers(0, 7)))
        scores = np.where(rng.random(shape) < share, rng.choice(HARD, shape), normal).astype(np.float32)
    items = scores.shape[1]
    shape = draw(st.sampled_from([None, (rows,), (rows, 0), (rows, 5)]))
    if shape is None or items == 0:
        return scores, None
    return scores, draw(hnp.arrays(np.int64, shape, elements=st.integers(-1, items - 1)))


@pytest.mark.parametrize("backend", BACKENDS)
@settings(max_examples=60)
@given(case=cases(), data=st.data())
def test_counts_of_keys(backend: str, case: Any, data: st.DataObject) -> None:
    scores, exclude = case
    known = data.draw(st.sampled_from([0, 8, 16, 24]))
    columns = data.draw(st.integers(1, 2))
    own = [[oracle.score_key(score) >> (32 - known) for score in row] or [0] for row in scores.tolist()]
    ends = [0, 2 ** (known - 1) - 1, 2 ** (known - 1), 2**known - 1] if known else [0]
    prefixes = [
        [data.draw(st.sampled_from(ends) | st.sampled_from(of_row)) for _ in range(columns)] for of_row in own
    ]
    bits = np.array(prefixes, np.int64).reshape(len(scores), columns)
    counts = call(backend, "key_counts", scores, bits, known, exclude=exclude)
    assert (counts.dtype, counts.shape) == (np.int64, (*bits.shape, 256))
    assert counts.tolist() == oracle.key_counts(scores, bits, known, exclude)


@pytest.mark.parametrize("backend", BACKENDS)
@settings(max_examples=60)
@given(case=cases(), data=st.data())
def test_windows_of_rows_between_their_own_cuts(backend: str, case: Any, data: st.DataObject) -> None:
    scores, exclude = case
    ends, places, expected, drawn = [], [], [], []
    for row in range(len(scores)):
        own = None if exclude is None else exclude[row : row + 1]
        most = len(oracle.ranking(scores, exclude, row))
        start, stop = sorted(data.draw(st.tuples(st.integers(0, most), st.integers(0, most))))
        ends.append([oracle.cut(scores, exclude, row, count) for count in (start, stop)])
        expected += ranking.rank_window_bits(scores[row : row + 1], start, stop, exclude=own).tolist()
        window = oracle.rank_window(scores[row : row + 1], start, stop, own)[0]
        places.append([data.draw(st.integers(-1, len(window) - 1)) for _ in range(3)])
        drawn.append([window[place] if place >= 0 else -1 for place in places[-1]])
    cuts = Cuts(*np.moveaxis(np.array(ends, np.int64).reshape(len(scores), 2, 3), 2, 0))
    bits = call(backend, "cut_window_bits", scores, cuts, exclude=exclude)
    assert bits.dtype == np.uint8
    assert bits.tolist() == expected
    wanted = np.array(places, np.int64).reshape(len(scores), 3)
    ids = call(backend, "cut_window_members", scores, cuts, wanted, exclude=exclude)
    assert ids.dtype == np.int64
    assert ids.tolist() == drawn


@pytest.mark.parametrize("backend", BACKENDS)
@given(
    scores=hnp.arrays(np.float32, (1, 9), elements=st.sampled_from(HARD)),
    ends=st.tuples(*[st.integers(0x7FFFFF, 0xFF800000)] * 2),
)
def test_cuts_at_keys_that_no_candidate_has(backend: str, scores: Any, ends: tuple[int, int]) -> None:
    """A process may have no candidate with the key of a cut."""
    keys = [oracle.score_key(score) for score in scores[0].tolist()]
    assume(not set(ends) & set(keys))
    ends, none = sorted(ends), np.zeros((1, 2), np.int64)
    bits = call(backend, "cut_window_bits", scores, Cuts(np.array([ends]), none, none), exclude=None)
    inside = [ends[0] < key < ends[1] for key in keys]
    assert bits.tolist() == np.packbits([inside], axis=1, bitorder="little").tolist()


def test_a_key_by_hand() -> None:
    """1.5 is 3fc00000: without its sign bit all bits are turned, 403fffff; -1.5 keeps its bits, bfc00000."""
    assert [oracle.score_key(score) for score in (1.5, -1.5, -0.0)] == [0x403FFFFF, 0xBFC00000, 0x7FFFFFFF]
    scores = np.array([[1.5, -1.5, -0.0, 1.5]], np.float32)
    (counts,) = _ranking_cuts.key_counts(scores, np.array([[0x403F, 0xBFC0]]), 16, exclude=[[3]])
    assert [np.flatnonzero(each).tolist() for each in counts] == [[0xFF], [0]]
    assert counts.sum() == 2


THREE = np.zeros((2, 3), np.int64)
FINE, NAN = np.zeros((2, 3), np.float32), np.array([[1, 2, 3], [1, np.nan, 3]], np.float32)
ZEROS = np.zeros((2, 1), np.int64)
PAIR = np.zeros((2, 2), np.int64)
WHOLE = Cuts(np.array([[0x7FFFFF, 0xFF800000]] * 2), PAIR, PAIR)


@pytest.mark.parametrize(
    ("name", "arguments", "exclude", "told"),
    [
        ("key_counts", (NAN, ZEROS, 0), None, "scores: NaN at row 1, column 1"),
        ("key_counts", (NAN, ZEROS + 255, 8), None, "scores: NaN at row 1, column 1"),
        ("key_counts", (FINE, ZEROS, 0), [[3], [0]], "exclude: row 0 has the id 3; expected 0 to 2"),
        ("key_counts", (FINE, ZEROS, 12), None, "known is 12; expected 0, 8, 16 or 24 bits"),
        ("key_counts", (FINE, ZEROS, 32), None, "known is 32; expected 0, 8, 16 or 24 bits"),
        ("key_counts", (FINE, ZEROS + 256, 8), None, "prefixes has the value 256; expected 8 bits"),
        ("key_counts", (FINE, ZEROS - 1, 8), None, "prefixes has the value -1; expected 8 bits"),
        ("key_counts", (FINE, ZEROS[:1], 8), None, r"out has shape \[2, 256\]|prefixes has 1 rows and"),
        ("key_counts", (FINE, THREE, 8), None, "prefixes has 3 columns; expected 1 or 2"),
        ("key_counts", (FINE, ZEROS[:, :0], 8), None, "prefixes has 0 columns; expected 1 or 2"),
        ("cut_window_bits", (NAN, WHOLE), None, "scores: NaN at row 1, column 1"),
        ("cut_window_bits", (FINE, WHOLE), [[3], [0]], "exclude: row 0 has the id 3; expected 0 to 2"),
        ("cut_window_bits", (FINE, WHOLE._replace(taken=PAIR + 1)), None, "row 0 has cuts with keys"),
        ("cut_window_bits", (FINE, WHOLE._replace(ties=PAIR + 4)), None, "row 0 has cuts with keys"),
        ("cut_window_bits", (FINE, WHOLE._replace(taken=PAIR - 1)), None, "row 0 has cuts with keys"),
        ("cut_window_bits", (FINE, WHOLE._replace(keys=PAIR + 0x7FFFFE)), None, "row 0 has cuts with keys"),
        ("cut_window_bits", (FINE, WHOLE._replace(keys=PAIR + 0xFF800001)), None, "row 0 has cuts with keys"),
        ("cut_window_bits", (FINE, WHOLE._replace(keys=WHOLE.keys[:, ::-1])), None, "two cuts in the rank"),
        ("cut_window_bits", (FINE, WHOLE._replace(keys=ZEROS)), None, "keys has 1 columns; expected 2"),
        ("cut_window_bits", (FINE, WHOLE._replace(ties=PAIR[:1])), None, "ties has 1 rows and scores has 2"),
        ("cut_window_members", (NAN, WHOLE, ZEROS), None, "scores: NaN at row 1, column 1"),
        ("cut_window_members", (FINE, WHOLE, ZEROS + 3), None, "row 0 has the place 3; expected 0 to 2"),
        ("cut_window_members", (FINE, WHOLE, ZEROS - 2), None, "row 0 has the place -2; expected 0 to 2"),
        ("cut_window_members", (FINE, WHOLE, ZEROS.astype(float)), None, "places has dtype float64"),
    ],
)
def test_wrong_arguments_are_named(name: str, arguments: Any, exclude: Any, told: str) -> None:
    with pytest.raises(ValueError, match=told):
        getattr(_ranking_cuts, name)(*arguments, exclude=exclude)


def test_places_that_are_drawn_are_those_of_the_window() -> None:
    equal = np.zeros((4, 30), np.float32)
    rows = np.array([5, 0, 2**40, 7])
    expected = ranking.rank_window(equal, 0, 20, sample=6, seed=3, rows=rows)
    assert _ranking_cuts.drawn_places(4, 20, 6, 3, rows).tolist() == expected.tolist()

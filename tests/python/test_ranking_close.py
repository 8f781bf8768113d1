"""The torch twins of windows and top ranks on scores that are close together, in every type of scores."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from alterrec import _ranking_torch_windows, ranking

TYPES = (torch.float32, torch.bfloat16, torch.float16)


@st.composite
def close_scores(draw: st.DrawFn) -> tuple[Any, NDArray[np.int64]]:
    """A few steps of the type around one value, or special values; and ids to exclude."""
    kind = draw(st.sampled_from(TYPES))
    integers = torch.int32 if kind == torch.float32 else torch.int16
    rows, items = draw(st.integers(1, 3)), draw(st.integers(1, 300))
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    centre = torch.tensor(draw(st.sampled_from([1.0, -1.0, 0.0, 256.0, 1e-7, -3e-5])), dtype=kind)
    spread = draw(st.sampled_from([1, 2, 3, 40]))
    steps = torch.from_numpy(rng.integers(0, spread, (rows, items))).to(integers)
    scores = (centre.view(integers) + steps).view(kind)
    special = torch.tensor([-np.inf, np.inf, 0.0, -0.0], dtype=kind)[rng.integers(0, 4, (rows, items))]
    share = draw(st.sampled_from([0.0, 0.1, 1.0]))
    scores = torch.where(torch.from_numpy(rng.random((rows, items)) < share), special, scores)
    if draw(st.booleans()):
        scores[0] = -torch.inf
    width = draw(st.sampled_from([0, 1, 5]))
    return scores, rng.integers(-1, items, (rows, width))


@settings(max_examples=100)
@given(case=close_scores(), data=st.data())
def test_cuts_among_close_scores_are_exact(case: Any, data: st.DataObject) -> None:
    scores, exclude = case
    fewest = min(scores.shape[1] - len(set(row.tolist()) - {-1}) for row in exclude)
    stop = data.draw(st.integers(0, fewest))
    start = data.draw(st.integers(0, stop))
    there, here = _ranking_torch_windows, ranking
    window = there.rank_window(scores, start, stop, exclude, None)
    assert torch.equal(window, here.rank_window(scores, start, stop, exclude=exclude))
    bits = there.rank_window_bits(scores, start, stop, exclude)
    assert torch.equal(bits, here.rank_window_bits(scores, start, stop, exclude=exclude))
    for left, right in zip(
        there.top_ranked(scores, stop, exclude), here.top_ranked(scores, stop, exclude=exclude), strict=True
    ):
        assert torch.equal(left, right)
    unchecked = there.rank_window_mask(scores, start, stop, exclude, check=False)
    assert torch.equal(unchecked, here.rank_window_mask(scores, start, stop, exclude=exclude))


@pytest.mark.parametrize("kind", TYPES)
def test_more_ranks_than_candidates_are_refused_as_by_the_core(kind: torch.dtype) -> None:
    scores, exclude = torch.full((2, 6), -torch.inf, dtype=kind), np.array([[-1, -1], [5, 0]])
    assert _ranking_torch_windows.top_ranked(scores, 4, exclude)[0].tolist() == [[0, 1, 2, 3], [1, 2, 3, 4]]
    messages = []
    for refused in (
        lambda: _ranking_torch_windows.rank_window(scores, 1, 5, exclude, None),
        lambda: ranking.rank_window(scores, 1, 5, exclude=exclude),
    ):
        with pytest.raises(ValueError, match="stop is 5, but row 1 has only 4 candidates") as caught:
            refused()
        messages.append(str(caught.value))
    assert messages[0] == messages[1]


@pytest.mark.parametrize("kind", TYPES)
def test_nan_is_refused(kind: torch.dtype) -> None:
    scores = torch.tensor([[1.0, 2.0], [0.0, torch.nan]], dtype=kind)
    with pytest.raises(ValueError, match="NaN at row 1, column 1"):
        _ranking_torch_windows.rank_window_mask(scores, 0, 1, np.empty((2, 0), np.int64))


def test_keys_of_a_row_by_hand() -> None:
    """1.0 is 0x3F80 in bfloat16; negative numbers have their lower bits flipped; item 2 is excluded."""
    scores = torch.tensor([[1.0, -1.0, 5.0, -0.0]], dtype=torch.bfloat16)
    keys = _ranking_torch_windows.ordered_keys(scores, np.array([[2]]), "stop", 3, check=True)
    assert keys.tolist() == [[0x3F80, -0x3F81, -0x8000, 0]]

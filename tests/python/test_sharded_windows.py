"""Windows of scores that are divided among processes are those of one process, to the last id."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from process_group import ProcessGroup

from alterrec import ranking, sharded_windows
from alterrec.shards import Shard

HARD = np.array([-np.inf, -3e38, -1.0, -1e-45, -0.0, 0.0, 1e-45, 0.5, 1.0, 3e38, np.inf], np.float32)


class Case(NamedTuple):
    """Whole scores, and a window of them."""

    scores: Any
    start: int
    stop: int
    exclude: Any
    sample: int | None
    seed: int
    rows: Any
    kind: torch.dtype = torch.float32


@pytest.fixture(scope="module", params=[2, 3])
def group(request: pytest.FixtureRequest) -> Iterator[ProcessGroup]:
    with ProcessGroup(request.param) as processes:
        yield processes


@st.composite
def cases(draw: st.DrawFn) -> Case:
    """Rows with ties across processes, processes without items, and windows beyond the candidates."""
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    num_rows, num_items = draw(st.integers(0, 8)), draw(st.integers(0, 4) | st.integers(0, 300))
    scores = np.empty((num_rows, num_items), np.float32)
    for row in scores:
        row[:] = rng.normal(size=num_items).round(rng.integers(8))
        hard = rng.random(num_items) < rng.choice([0, 0.1, 1])
        row[hard] = rng.choice(HARD, hard.sum())
        row[rng.random(num_items) < rng.choice([0, 0, 0.5, 1])] = -np.inf
    exclude = None
    if num_items:
        exclude = rng.integers(-1, num_items, (num_rows, draw(st.sampled_from([0, 1, 6]))))
    excluded = [] if exclude is None else [set(ids) - {-1} for ids in exclude.tolist()]
    fewest = min((num_items - len(ids) for ids in excluded), default=num_items)
    stop = draw(st.integers(0, fewest))
    if draw(st.integers(0, 5)) == 0:
        stop = draw(st.integers(fewest, num_items + 1))
    if draw(st.integers(0, 5)) == 0 and scores.size:
        scores.flat[rng.integers(scores.size, size=2)] = np.nan
    start = draw(st.just(0) | st.integers(0, stop))
    sample = draw(st.none() | st.integers(0, stop - start))
    rows = rng.integers(0, 2**60, num_rows) if draw(st.booleans()) else None
    kind = draw(st.sampled_from([torch.float32, torch.bfloat16]))
    return Case(scores, start, stop, exclude, sample, draw(st.integers(0, 9)), rows, kind)


def outcome(make: Any) -> Any:
    """The result of a call as lists, or the message of its ValueError."""
    try:
        return make().tolist()
    except ValueError as error:
        return str(error)


def unpacked(bits: torch.Tensor, num_items: int) -> NDArray[Any]:
    mask = np.unpackbits(bits.numpy(), axis=1, bitorder="little")
    assert not mask[:, num_items:].any()
    return mask[:, :num_items]


def in_one_process(case: Case) -> Any:
    scores, window = torch.from_numpy(case.scores).to(case.kind), (case.start, case.stop)

    draw = {"sample": case.sample, "seed": case.seed, "rows": case.rows}

    def mask() -> Any:
        return unpacked(ranking.rank_window_bits(scores, *window, exclude=case.exclude), scores.shape[1])

    return outcome(mask), outcome(lambda: ranking.rank_window(scores, *window, exclude=case.exclude, **draw))


def divided(cases: list[Case]) -> list[Any]:
    """The results of this process of a group, with the columns of its shard alone."""
    ranking.set_threads(1)
    found = []
    for case in cases:
        shard = Shard.own(case.scores.shape[1])
        scores = torch.from_numpy(case.scores)[:, shard.rows].to(case.kind)
        exclude = None if case.exclude is None else torch.from_numpy(case.exclude)
        window = scores, case.start, case.stop, exclude, shard

        def bits(window: Any = window, shard: Shard = shard) -> Any:
            return unpacked(sharded_windows.window_bits(*window), shard.size)

        def ids(window: Any = window, case: Case = case) -> Any:
            draw = {"sample": case.sample, "seed": case.seed, "rows": case.rows}
            return sharded_windows.window_ids(*window, **draw)

        found.append((outcome(bits), outcome(ids)))
    return found


def check(group: ProcessGroup, cases: list[Case]) -> list[Any]:
    """Compare a group with one process; return what that found."""
    parts = group.run(divided, cases)
    expected = [in_one_process(case) for case in cases]
    for whole, of_case in zip(expected, zip(*parts, strict=True), strict=True):
        masks, ids = zip(*of_case, strict=True)
        if isinstance(whole[0], str):
            assert masks == (whole[0],) * len(parts)
        else:
            joined = [list(itertools.chain(*rows)) for rows in zip(*masks, strict=True)]
            assert joined == whole[0]
        assert ids == (whole[1],) * len(parts)
    return expected


@settings(max_examples=6, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large])
@given(st.lists(cases(), min_size=3, max_size=6))
def test_windows_of_shards_are_parts_of_the_window_of_one_process(
    group: ProcessGroup, cases: list[Case]
) -> None:
    check(group, cases)


def test_windows_of_many_items(group: ProcessGroup) -> None:
    rng = np.random.default_rng(1)
    scores = rng.normal(size=(4, 5000)).astype(np.float32)
    exclude = rng.integers(-1, 5000, (4, 9))
    tied = scores.round(1)
    check(
        group,
        [
            Case(scores, 20, 2500, exclude, None, 0, None),
            Case(scores, 20, 2500, exclude, 300, 7, np.array([4, 2**60, 0, 1])),
            Case(tied, 20, 2500, exclude, 300, 7, None),
            Case(tied, 0, 4900, None, 300, 7, None, torch.bfloat16),
        ],
    )


def test_ties_at_both_cuts_by_hand(group: ProcessGroup) -> None:
    """Six equal scores without item 1: ranks 1 to 3 are items 2, 3 and 4, whichever processes have them."""
    equal = Case(np.full((1, 6), -np.inf, np.float32), 1, 4, np.array([[1, 1, -1]]), None, 0, None)
    assert check(group, [equal]) == [([[0, 0, 1, 1, 1, 0]], [[2, 3, 4]])]


def test_errors_are_the_same_in_all_processes(group: ProcessGroup) -> None:
    """The last process has the NaN, and the first of a row is told, in whichever process it is."""
    scores = np.ones((2, 9), np.float32)
    nan = scores.copy()
    nan[1, 8] = np.nan
    both = nan.copy()
    both[0, 5] = both[0, 7] = both[1, 0] = np.nan
    exclude = np.array([[0, 0], [1, 8]])
    found = check(
        group,
        [
            Case(nan, 0, 1, None, None, 0, None),
            Case(both, 0, 1, None, None, 0, None),
            Case(scores, 0, 8, exclude, None, 0, None),
            Case(scores, 0, 10, exclude, None, 0, None),
            Case(scores, 2, 1, exclude, None, 0, None),
            Case(scores, 0, 2, exclude + 1, None, 0, None),
            Case(scores, 0, 2, exclude, 3, 0, None),
        ],
    )
    told = [
        "scores: NaN at row 1, column 8",
        "scores: NaN at row 0, column 5",
        "stop is 8, but row 1 has only 7 candidates (9 items, 2 of them excluded)",
        "stop is 10, but scores has only 9 candidates (columns)",
        "start is 2 and stop is 1; start must not be above stop",
        "exclude: row 1 has the id 9; expected 0 to 8 (the catalogue has 9 items)",
    ]
    for (of_bits, of_ids), begin in zip(found, [*told, "sample is 3, but"], strict=True):
        assert of_ids.startswith(begin)
        assert of_bits in (of_ids, [[0, 1, 1, 0, 0, 0, 0, 0, 0], [1, 0, 1, 0, 0, 0, 0, 0, 0]])


def test_scores_of_other_columns_and_types_are_refused() -> None:
    with pytest.raises(ValueError, match="scores has 3 columns, but this process has 4 items"):
        sharded_windows.window_bits(torch.zeros(1, 3), 0, 1, None, Shard.own(4))
    with pytest.raises(ValueError, match=r"scores has dtype torch.float64; expected float32, bfloat16 or"):
        sharded_windows.window_bits(torch.zeros(1, 4, dtype=torch.float64), 0, 1, None, Shard.own(4))

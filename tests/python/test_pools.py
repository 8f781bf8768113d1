"""Rank windows in a pool: a random part of the catalogue that a batch shares."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from test_step import HARD, batches, learned, made
from worlds import NUM_ITEMS

from alterrec import ranking
from alterrec.errors import InputError
from alterrec.nn.losses import ScoreBuffer
from alterrec.recipe_settings import PositivesSettings, WindowSettings
from alterrec.training import step as step_module
from alterrec.training.candidates import draw_pool, query_candidates, supervise
from alterrec.training.schedule import Phase
from alterrec.training.step import NoClock, Step
from alterrec.training.windows import WindowRanks, check_catalogue


def window_in_pool(
    scores: np.ndarray, start: int, stop: int, excluded: np.ndarray, pool: np.ndarray
) -> list[list[int]]:
    """Row by row: sort the items of the pool that are not excluded, and cut."""
    found = []
    for row, left_out in zip(scores, excluded, strict=True):
        items = [item for item in pool.tolist() if item not in left_out]
        items.sort(key=lambda item: (-row[item], item))
        found.append(sorted(items[start:stop]))
    return found


@st.composite
def workloads(draw: Any) -> tuple[np.ndarray, np.ndarray, np.ndarray, int, int, int]:
    """Scores with ties and infinities, excluded items inside and outside of the pool, padded; a window."""
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    num_items, rows, width = (draw(st.integers(*ends)) for ends in ((2, 40), (1, 4), (0, 3)))
    scores = rng.choice([-np.inf, -1.0, -0.0, 0.0, 0.5, np.inf], (rows, num_items)).astype(np.float32)
    targets = rng.integers(0, num_items, rows)
    seen = rng.integers(-1, num_items, (rows, width))
    size = draw(st.integers(1, num_items))
    candidates = max(0, size - 1 - width)
    start = draw(st.integers(0, candidates))
    return scores, targets, seen, size, start, draw(st.integers(start, candidates))


@settings(max_examples=150)
@given(workload=workloads(), seed=st.integers(0, 2**64 - 1))
def test_the_window_of_a_pool_is_that_of_the_twin(workload: Any, seed: int) -> None:
    scores, targets, seen, size, start, stop = workload
    pool = draw_pool(size, scores.shape[1], seed=seed, number=4)
    assert len(set(pool.tolist())) == size
    assert (pool[:-1] < pool[1:]).all()
    found = supervise(
        torch.from_numpy(targets),
        np.arange(len(targets)),
        "window",
        window=WindowSettings(random_share=0.0),
        ranks=WindowRanks(start, stop),
        num_items=scores.shape[1],
        seed=seed,
        positives=PositivesSettings(),
        negative_teacher=lambda chunk: torch.from_numpy(scores)[chunk][:, pool],
        seen_NL=torch.from_numpy(seen),
        pool_M=pool,
    ).candidates
    excluded = np.concatenate([targets[:, None], seen], 1)
    expected = window_in_pool(scores, start, stop, excluded, pool.numpy())
    assert (found is None and start == stop) or (found is not None and found.tolist() == expected)


@settings(max_examples=50)
@given(workload=workloads(), seed=st.integers(0, 2**64 - 1))
def test_a_pool_of_all_items_is_no_pool(workload: Any, seed: int) -> None:
    scores, targets, seen, _, start, stop = workload
    num_items = scores.shape[1]
    found = [
        query_candidates(
            np.arange(len(targets)),
            "window",
            window=WindowSettings(random_share=0.0, sample=(stop - start + 1) // 2),  # 0: the whole window
            ranks=WindowRanks(start, stop),
            num_items=num_items,
            seed=seed,
            teacher=lambda chunk: torch.from_numpy(scores)[chunk],
            exclude=np.concatenate([targets[:, None], seen], 1),
            pool_M=pool,
        )
        for pool in (None, draw_pool(num_items, num_items, seed=seed, number=0))
    ]
    exact, pooled = found
    if exact is None or pooled is None:
        assert start == stop
        assert exact is pooled
    elif exact.dtype == torch.uint8:
        marked = np.unpackbits(exact.numpy(), axis=1, bitorder="little")
        assert [np.flatnonzero(row).tolist() for row in marked] == pooled.tolist()
    else:
        assert torch.equal(exact, pooled)


def test_each_set_of_items_is_as_likely() -> None:
    """Two of five items, 20,000 batches: chi-square with 9 degrees of freedom, 0.999 quantile."""
    counts: dict[tuple[int, ...], int] = {}
    for number in range(20_000):
        pool = tuple(draw_pool(2, 5, seed=3, number=number).tolist())
        counts[pool] = counts.get(pool, 0) + 1
    assert len(counts) == 10
    assert sum((count - 2000) ** 2 / 2000 for count in counts.values()) < 27.9


def test_ranks_of_a_pool_have_the_same_share_of_it() -> None:
    """Ranks 201 to 1,000 of 10,000 in a pool of 1,000 are its ranks 21 to 100."""
    window = WindowSettings(first=201, last=0.1, pool=1000)
    assert WindowRanks.on(window, 10_000) == (20, 100)
    assert WindowRanks.on(window, 10_000, negatives="random") == (200, 1000)
    # With as many items as the pool, all of them are ranked.
    assert WindowRanks.on(WindowSettings(last=0.1, pool=1000), 1000) == (0, 100)


@pytest.mark.parametrize(
    ("window", "message"),
    [
        (
            WindowSettings(last=0.1, pool=200),
            r"window\.pool is 200 of 10000 items, in which the window has 20 ranks and needs 32; use a "
            r"pool of 320 items or more, or 0 to rank all items",
        ),
        (
            WindowSettings(last=0.1, pool=1000, sample=400),
            r"window has 100 ranks and needs 200; use a pool of 2000 items or more",
        ),
        (
            WindowSettings(last=20, pool=100),
            r"window\.pool is 100, in which the window has no rank of 89 cand",
        ),
        (
            WindowSettings(last=0.95, pool=100),
            r"window\.pool is 100, in which the window has the ranks 1\.\.95 of 89 candidates; use a larg",
        ),
    ],
)
def test_pools_that_are_too_small_are_refused(window: WindowSettings, message: str) -> None:
    with pytest.raises(InputError, match=message):
        check_catalogue(window, [HARD], 10_000, seen=10)


def test_pools_concern_windows_alone() -> None:
    check_catalogue(WindowSettings(last=0.1, pool=5), [Phase("warm-up", "id", 1, "random")], 10_000, seen=10)
    check_catalogue(WindowSettings(last=0.1, pool=320), [HARD], 10_000, seen=10)


QUERIES = [
    {},
    {"id__queries": "one", "text__queries": "one"},
    {"id__queries": "one", "text__queries": "items"},
]


@pytest.mark.parametrize("queries", QUERIES)
@pytest.mark.parametrize("few", [False, True])
def test_a_step_learns_from_the_windows_of_its_pool(
    queries: dict[str, str], few: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where the pool is the whole catalogue, the step is that of the exact window."""
    if few:
        monkeypatch.setattr(step_module, "ITEMS_PER_CANDIDATE", 1)
    settings: dict[str, Any] = {**queries, "window__last": 0.4, "window__sample": 6}
    batch = batches("by_session")[0]
    losses = {}
    for pool in (0, NUM_ITEMS - 1, 20):
        model, recipe = made(**settings, window__pool=pool)
        losses[pool] = learned(model, recipe, HARD, batch, seen=True)[0]
    monkeypatch.setattr(step_module, "pool_size", lambda window, num_items: num_items)
    model, recipe = made(**settings)
    assert learned(model, recipe, HARD, batch, seen=True)[0] == losses[0]
    assert losses[20] != losses[0]


@pytest.mark.parametrize("queries", QUERIES)
def test_the_items_of_a_pool_are_functions_of_seed_and_batch(queries: dict[str, str]) -> None:
    """Threads and chunks change nothing; another batch or epoch has another pool."""
    model, recipe = made(**queries, window__last=0.4, window__pool=20, window__random_share=0.0)
    batch, found = batches("by_session")[0], {}
    for name, seed, number, rows in [
        ("one", 5, 1, 512),
        ("again", 5, 1, 7),
        ("batch", 5, 2, 512),
        ("epoch", 6, 1, 512),
    ]:
        step = Step(
            model,
            recipe,
            HARD,
            NUM_ITEMS,
            exclude_seen=True,
            seed=seed,
            buffer=ScoreBuffer(rows),
            clock=NoClock(),
        )
        ranking.set_threads(1 if name == "again" else 2)
        found[name] = step.loss(batch, number).item()
    ranking.set_threads(1)
    assert found["again"] == pytest.approx(found["one"], rel=1e-6)
    assert len({round(found[name], 9) for name in ("one", "batch", "epoch")}) == 3


def test_further_positives_are_the_best_of_all_items(monkeypatch: pytest.MonkeyPatch) -> None:
    """Their teacher ranks the catalogue, whose best item is rarely in a pool."""
    model, recipe = made("alterrec_aug", window__last=0.4, window__pool=20)
    phase = Phase("taught", "id", 1, "window", "text", positives=2)
    widths = []

    def seen(*arguments: Any, **options: Any) -> Any:
        widths.append(
            [len(options[name](slice(0, 1))[0]) for name in ("positive_teacher", "negative_teacher")]
        )
        return supervise(*arguments, **options)

    monkeypatch.setattr(step_module, "supervise", seen)
    step = Step(
        model, recipe, phase, NUM_ITEMS, exclude_seen=False, seed=5, buffer=ScoreBuffer(), clock=NoClock()
    )
    assert step.loss(batches("by_session")[0], 1).isfinite()
    assert widths == [[NUM_ITEMS, 20]]

"""Calls from many Python threads at once, and from forked processes, give what a serial call gives."""

from __future__ import annotations

import itertools
import os
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from alterrec import _ranking_cuts, metrics, ranking, sessions
from alterrec._core import ItemNeighbours, SessionNeighbours

rng = np.random.default_rng(0)
# Rounded, so that scores tie and both edges of a window matter.
SCORES = rng.normal(size=(40, 700)).astype(np.float32).round(1)
VIEWS = [SCORES, rng.normal(size=SCORES.shape).astype(np.float32)]
TARGETS = rng.integers(SCORES.shape[1], size=len(SCORES))
SEEN, ODDS = rng.integers(-1, SCORES.shape[1], (len(SCORES), 4)), rng.normal(size=(len(SCORES), 4))
GREATER, TIED = ranking.target_counts(SCORES, TARGETS)
# Between the scores 1.0 and -1.0, some of which tie.
CUTS = _ranking_cuts.Cuts(
    *(np.tile(pair, (len(SCORES), 1)) for pair in ([0x407FFFFF, 0xBF800000], [2, 3], [9, 9]))
)
OWNERS = np.repeat(np.arange(60), 7)
ITEMS = rng.integers(90, size=len(OWNERS))
STORE = sessions.SessionStore.from_arrays(OWNERS, ITEMS, user_ids=OWNERS // 2)
PADDED = sessions.PrefixBatches(STORE, 32, 5, seed=1)
PACKED = sessions.PrefixBatches(STORE, 32, 5, seed=2, layout="packed")
REUSED = sessions.PrefixBatches(STORE, 32, 5, seed=3, reuse=True)
PREFIXES = next(iter(PADDED))
NEAR_ITEMS = ItemNeighbours(STORE, 5)
NEAR_SESSIONS = SessionNeighbours(STORE, 5)


def flat(batch: sessions.Batch) -> list[Any]:
    """The arrays of a batch; copied, for a buffer may be used again."""
    return [None if array is None else array.copy() for array in batch]


def new_store() -> list[Any]:
    store = sessions.SessionStore.from_arrays(OWNERS, ITEMS)
    return [store.items, store.offsets, store.session_ids]


def marked(items: Any) -> Any:
    bits = np.zeros((len(items), 88), np.uint8)
    ranking.mark_(bits, np.arange(len(items)), items)
    return bits


def mixed_losses() -> list[Any]:
    scores = SCORES.copy()
    found = ranking.mixture_cross_entropy_(scores, SEEN.clip(max=39), ODDS, TARGETS[:, None], [1.0])
    return [scores, *found]


# One entry a call; its name begins with the public name that it calls.
CALLS: dict[str, Callable[[], Any]] = {
    "rank_window": lambda: ranking.rank_window(SCORES, 5, 300, exclude=TARGETS),
    "rank_window, drawn": lambda: ranking.rank_window(SCORES, 5, 300, sample=40, seed=3),
    "rank_window, threads": lambda: ranking.rank_window(SCORES, 5, 300, threads=3),
    "rank_window_mask": lambda: ranking.rank_window_mask(SCORES, 5, 300),
    "rank_window_bits": lambda: ranking.rank_window_bits(SCORES, 5, 300),
    "key_counts": lambda: _ranking_cuts.key_counts(SCORES, SEEN[:, :2] % 256, 8, exclude=TARGETS),
    "cut_window_bits": lambda: _ranking_cuts.cut_window_bits(SCORES, CUTS),
    "cut_window_members": lambda: _ranking_cuts.cut_window_members(SCORES, CUTS, SEEN.clip(max=30)),
    "cross_entropy_": lambda: ranking.cross_entropy_(SCORES.copy(), TARGETS[:, None], [1.0]),
    "softmax_": lambda: ranking.softmax_(SCORES.copy(), exclude=TARGETS),
    "mark_": lambda: marked(TARGETS),
    "mixture_cross_entropy_": mixed_losses,
    "mixture_scores": lambda: ranking.mixture_scores(np.exp(SCORES), SEEN.clip(max=39), np.exp(ODDS)),
    "top_ranked": lambda: ranking.top_ranked(SCORES, 20),
    "target_counts": lambda: ranking.target_counts(SCORES, TARGETS),
    "fused_target_counts": lambda: ranking.fused_target_counts(VIEWS, [0.4, 0.6], TARGETS),
    "seen_target_counts": lambda: ranking.seen_target_counts(VIEWS, [0.4, 0.6], TARGETS, SEEN, log_odds=ODDS),
    "repeat_scores": lambda: ranking.repeat_scores(SCORES, SEEN, ODDS),
    "log_normaliser": lambda: ranking.log_normaliser(SCORES, SEEN, [1.0, 2.0]),
    "uniform_items": lambda: ranking.uniform_items(TARGETS, 50, 700, seed=9),
    "metrics": lambda: metrics.metrics(GREATER, TIED),
    "metric_values": lambda: metrics.metric_values(GREATER, TIED, "ndcg@20"),
    "standard_name": lambda: metrics.standard_name("HR@10"),
    "metric_name": lambda: metrics.metric_name("ndcg@20"),
    "derive_seed": lambda: sessions.derive_seed(1, 2, 3),
    "random_words": lambda: sessions.random_words(np.arange(90), np.arange(90), 3, seed=4),
    "SessionStore": new_store,
    "SessionStore, read": lambda: [
        STORE.prefixes(), STORE.item_counts(), STORE.lengths, STORE.session(3), STORE.repeat_share()
    ],
    "PrefixBatches": lambda: [flat(batch) for batch in PADDED],
    "PrefixBatches, packed": lambda: [flat(batch) for batch in PACKED],
    "PrefixBatches, reused": lambda: [flat(batch) for batch in REUSED],
    "ItemNeighbours": lambda: NEAR_ITEMS.scores(PREFIXES.items, PREFIXES.lengths, 0.5),
    "SessionNeighbours": lambda: NEAR_SESSIONS.scores(PREFIXES.items, PREFIXES.lengths),
}  # fmt: skip


@pytest.fixture
def eager_switches() -> Iterator[None]:
    """The interpreter changes threads every 10 microseconds."""
    usual = sys.getswitchinterval()
    sys.setswitchinterval(1e-5)
    yield
    sys.setswitchinterval(usual)
    ranking.set_threads(None)


def test_every_public_name_is_called() -> None:
    public = {*ranking.__all__, *metrics.__all__, *sessions.__all__}
    # Set by a thread of its own, a context, a yielded value, types and tables of names.
    not_called = {
        "set_threads",
        "unchecked",
        "SeenCounts",
        "Batch",
        "Ties",
        "Metric",
        "ListMetric",
        "METRICS",
        "LIST_METRICS",
        "ALIASES",
        "DEFAULT_METRICS",
    }
    assert public - not_called <= {name.partition(",")[0] for name in CALLS}


@pytest.mark.usefixtures("eager_switches")
@pytest.mark.parametrize("callers", [2, 5, 16])
def test_calls_at_once_give_what_serial_ones_give(callers: int) -> None:
    ranking.set_threads(1)
    expected = {name: call() for name, call in CALLS.items()}
    names, done, start = list(CALLS), threading.Event(), threading.Barrier(callers + 1)

    def caller(first: int) -> None:
        start.wait()
        for place in range(10 * len(names)):
            name = names[(first + place) % len(names)]
            np.testing.assert_equal(CALLS[name](), expected[name], err_msg=name)

    def turn_threads() -> None:
        start.wait()
        for count in itertools.cycle([1, 2, 3, None]):
            ranking.set_threads(count)
            if done.wait(1e-4):
                return

    with ThreadPoolExecutor(callers + 1) as pool:
        turning = pool.submit(turn_threads)
        calling = [pool.submit(caller, first) for first in range(callers)]
        try:
            for call in calling:
                call.result()
        finally:
            done.set()
        turning.result()


def test_errors_stay_with_the_thread_that_made_them() -> None:
    wrong = SCORES.copy()
    wrong[3, 8] = np.nan

    def refused(_: int) -> str:
        with pytest.raises(ValueError, match="NaN") as found:
            ranking.top_ranked(wrong, 5)
        return str(found.value)

    with ThreadPoolExecutor(8) as pool:
        messages = [pool.submit(refused, turn) for turn in range(40)]
        correct = [pool.submit(CALLS["top_ranked"]) for _ in range(40)]
    assert len({message.result() for message in messages}) == 1
    for call in correct:
        np.testing.assert_equal(call.result(), CALLS["top_ranked"]())


@pytest.mark.skipif(not hasattr(os, "fork"), reason="the system does not fork")
def test_workers_forked_after_the_parent_called_do_not_hang() -> None:
    done = subprocess.run(
        [sys.executable, "-W", "ignore", Path(__file__).with_name("fork_workers.py")],
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert (done.returncode, done.stdout) == (0, "equal\n"), done.stderr

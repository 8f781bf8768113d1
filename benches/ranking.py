"""The ranking room beside what one would write instead: medians, ratios, and equal results asserted.

    python benches/ranking.py                                   # small: seconds
    python benches/ranking.py --rows 128 --items 40258 --start 20 --stop 20000

Rows of one table run interleaved in one process, so that noise of the machine hits all of them alike.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import torch

from alterrec import ranking

Job = tuple[str, Callable[[], Any]]


def medians(jobs: list[Job], repeats: int) -> list[float]:
    """Median seconds of each job after one warm-up round."""
    seconds: list[list[float]] = [[] for _ in jobs]
    for turn in range(repeats + 1):
        for taken, (_, job) in zip(seconds, jobs, strict=True):
            begin = time.perf_counter()
            job()
            if turn > 0:
                taken.append(time.perf_counter() - begin)
    return [statistics.median(taken) for taken in seconds]


def table(title: str, jobs: list[Job], elements: int, repeats: int) -> None:
    """Prints one table; the first job is ours and the others are compared with it."""
    taken = medians(jobs, repeats)
    print(f"\n{title}\n{'':38}{'ms':>10}{'ns/element':>12}{'x ours':>9}")
    for (name, _), seconds in zip(jobs, taken, strict=True):
        print(f"{name:38}{seconds * 1e3:10.2f}{seconds / elements * 1e9:12.2f}{seconds / taken[0]:9.1f}")


def windows(scores: np.ndarray, start: int, stop: int, repeats: int) -> None:
    tensor = torch.from_numpy(scores)
    jobs: list[Job] = [
        ("rank_window", lambda: ranking.rank_window(scores, start, stop)),
        ("torch.topk, then slice", lambda: tensor.topk(stop, dim=1).indices[:, start:]),
        ("numpy argsort, then slice", lambda: np.argsort(-scores, axis=1, kind="stable")[:, start:stop]),
        ("rank_window_mask", lambda: ranking.rank_window_mask(scores, start, stop)),
        ("rank_window, sample=64", lambda: ranking.rank_window(scores, start, stop, sample=64)),
    ]
    ours, _, stable, mask, sample = (job() for _, job in jobs)
    np.testing.assert_array_equal(ours, np.sort(stable, axis=1))
    np.testing.assert_array_equal(ours, np.nonzero(mask)[1].reshape(ours.shape))
    assert np.take_along_axis(mask, sample, axis=1).all()
    # topk breaks ties as it likes: compare the scores, not the ids.
    by_topk = tensor.topk(stop, dim=1).values[:, start:].numpy()
    np.testing.assert_array_equal(np.sort(np.take_along_axis(scores, ours, axis=1)), np.sort(by_topk))
    table(f"items at ranks [{start}, {stop})", jobs, scores.size, repeats)


def ranks(scores: np.ndarray, targets: np.ndarray, repeats: int) -> None:
    tensor, column = torch.from_numpy(scores), torch.from_numpy(targets)[:, None]
    one = np.take_along_axis(scores, targets[:, None], axis=1)
    jobs: list[Job] = [
        ("target_counts (greater and tied)", lambda: ranking.target_counts(scores, targets)),
        ("numpy (s > t).sum(1), no ties", lambda: (scores > one).sum(1)),
        ("torch (s > t).sum(1), no ties", lambda: (tensor > tensor.gather(1, column)).sum(1)),
    ]
    (greater, tied), by_numpy, by_torch = (job() for _, job in jobs)
    np.testing.assert_array_equal(greater, by_numpy)
    np.testing.assert_array_equal(greater, by_torch.numpy())
    np.testing.assert_array_equal(tied, (scores == one).sum(1))
    table("rank of one target a row", jobs, scores.size, repeats)


def tops(scores: np.ndarray, k: int, repeats: int) -> None:
    tensor = torch.from_numpy(scores)
    jobs: list[Job] = [
        ("top_ranked", lambda: ranking.top_ranked(scores, k)),
        ("torch.topk", lambda: tensor.topk(k, dim=1)),
    ]
    (_, values), top = (job() for _, job in jobs)
    np.testing.assert_array_equal(values, top.values.numpy())
    table(f"the {k} best of each row", jobs, scores.size, repeats)


def fused(views: list[np.ndarray], targets: np.ndarray, repeats: int) -> None:
    def in_three_passes() -> list[Any]:
        blend = views[0] * np.float32(0.5) + views[1] * np.float32(0.5)
        return [ranking.target_counts(scores, targets) for scores in [*views, blend]]

    jobs: list[Job] = [
        ("fused_target_counts, two views", lambda: ranking.fused_target_counts(views, [0.5, 0.5], targets)),
        ("blend in numpy, three target_counts", in_three_passes),
    ]
    (greater, tied), parts = (job() for _, job in jobs)
    np.testing.assert_array_equal(greater, [part[0] for part in parts])
    np.testing.assert_array_equal(tied, [part[1] for part in parts])
    table("ranks by two views and their weighted sum", jobs, views[0].size, repeats)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rows", type=int, default=64)
    parser.add_argument("--items", type=int, default=10_000)
    parser.add_argument("--start", type=int, default=5)
    parser.add_argument("--stop", type=int, default=2_000)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--repeats", type=int, default=5)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    ranking.set_threads(options.threads)
    rng = np.random.default_rng(0)
    shape = (options.rows, options.items)
    # Rounded, so that some scores tie.
    views = [rng.normal(size=shape).astype(np.float32).round(4) for _ in range(2)]
    targets = rng.integers(0, options.items, options.rows)
    print(f"scores {shape} float32, {options.threads} thread(s) (numpy: 1), median of {options.repeats}")
    windows(views[0], options.start, options.stop, options.repeats)
    ranks(views[0], targets, options.repeats)
    tops(views[0], min(20, options.items), options.repeats)
    fused(views, targets, options.repeats)


if __name__ == "__main__":
    main()

"""Compare `alterrec.ranking` with the usual alternatives; equal results are asserted before timing.

    python benches/ranking.py                    # all tables, some minutes
    python benches/ranking.py --only windows     # one of them
    python benches/ranking.py --quick            # small matrices, as a check that it runs and is equal

Each line is a ratio of medians, the quartiles of the ratio over the rounds, and the target if there is one.
Jobs of one table alternate in one process, so that noise of the machine affects all of them equally. Scores
are products of random factors in float32, as those of a model are. One thread, unless the line says two.
"""

from __future__ import annotations

import argparse
import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

import numba
import numpy as np
import timing
import torch
from numpy.typing import NDArray

from alterrec import _core, _ranking_torch, ranking, sharded_windows
from alterrec._ranking_cuts import key_counts
from alterrec.shards import Shard

Scores = NDArray[np.float32]


class Size(NamedTuple):
    """Sizes of the measured matrices."""

    rows: int
    items: int
    wide: tuple[int, int]
    narrow: tuple[int, int]
    long_rows: int
    long_items: int
    rounds: int


# The largest catalogue of the paper, its window of half the catalogue, and a window of 5 %.
FULL = Size(128, 40_258, (20, 20_000), (6, 2_000), 16, 1_000_000, 9)
QUICK = Size(8, 4_025, (4, 2_000), (2, 200), 2, 10_000, 2)


def gaussian(rows: int, items: int, factors: int = 64) -> Scores:
    """Scores (rows, items) of random factors."""
    rng = np.random.default_rng(0)
    sessions, table = rng.normal(size=(rows, factors)), rng.normal(size=(factors, items))
    return (sessions.astype(np.float32) @ table.astype(np.float32)) / np.float32(np.sqrt(factors))


@contextmanager
def threads(count: int) -> Iterator[None]:
    """Set the number of threads of alterrec, torch and numba."""
    ranking.set_threads(count)
    torch.set_num_threads(count)
    numba.set_num_threads(count)
    yield
    ranking.set_threads(1)
    torch.set_num_threads(1)
    numba.set_num_threads(1)


@numba.njit(parallel=True)
def numba_window(scores: Any, start: int, stop: int) -> Any:
    """A histogram of the upper 12 bits of order-preserving keys, then one pass, then a sort of two bins."""
    rows, items = scores.shape
    out = np.empty((rows, stop - start), np.int64)
    for row in numba.prange(rows):
        bits = (scores[row] + np.float32(0)).view(np.uint32)
        keys = np.empty(items, np.uint32)
        counts = np.zeros(4096, np.int64)
        for item in range(items):
            value = bits[item]
            key = value if value >> 31 else (~value) & np.uint32(0x7FFFFFFF)
            keys[item] = key
            counts[key >> 20] += 1
        above, first_bin = 0, 0
        while above + counts[first_bin] <= start:
            above += counts[first_bin]
            first_bin += 1
        before, last_bin = above, first_bin
        while before + counts[last_bin] < stop:
            before += counts[last_bin]
            last_bin += 1
        found = 0
        edge = np.empty(counts[first_bin] + (counts[last_bin] if last_bin != first_bin else 0), np.int64)
        held = 0
        for item in range(items):
            place = keys[item] >> 20
            if place in (first_bin, last_bin):
                edge[held] = item
                held += 1
            elif first_bin < place < last_bin:
                out[row, found] = item
                found += 1
        order = edge[np.argsort(keys[edge], kind="mergesort")]
        for place in range(held):
            rank = above + place if keys[order[place]] >> 20 == first_bin else before + place
            if last_bin != first_bin and keys[order[place]] >> 20 == last_bin:
                rank = before + place - counts[first_bin]
            if start <= rank < stop:
                out[row, found] = order[place]
                found += 1
    return out


def assert_window(scores: Scores, ids: NDArray[np.int64], start: int, stop: int) -> None:
    """Assert that the ids are those of a stable sort, in ascending order."""
    for row in range(0, len(scores), max(1, len(scores) // 8)):
        expected = np.argsort(-scores[row], kind="stable")[start:stop]
        np.testing.assert_array_equal(ids[row], np.sort(expected))


def windows(size: Size) -> None:
    """Rank windows as ids."""
    for rows, items, start, stop, targets in [
        (size.rows, size.items, *size.wide, {"topk": (50, 80), "unsorted": (20, 30), "numba": (7, 10)}),
        (size.rows, size.items, *size.narrow, {"topk": (18, 25)}),
        (size.long_rows, size.long_items, *size.wide, {"topk": (22, 35)}),
    ]:
        scores = gaussian(rows, items)
        tensor = torch.from_numpy(scores)
        jobs: dict[str, timing.Job] = {
            "ours": lambda s=scores, a=start, b=stop: ranking.rank_window(s, a, b),
            "topk": lambda t=tensor, a=start, b=stop: t.topk(b, dim=1).indices[:, a:],
            "unsorted": lambda t=tensor, b=stop: t.topk(b, dim=1, sorted=False).indices,
            "numba": lambda s=scores, a=start, b=stop: numba_window(s, a, b),
        }
        ours, topk, unsorted, by_numba = (job() for job in jobs.values())
        assert_window(scores, ours, start, stop)
        np.testing.assert_array_equal(ours, np.sort(by_numba))
        # Compared by score, because topk may choose other ones of several tied items.
        values = np.take_along_axis(scores, ours, axis=1)
        np.testing.assert_array_equal(np.sort(values), np.sort(tensor.gather(1, topk).numpy()))
        top = np.sort(tensor.gather(1, unsorted).numpy())
        np.testing.assert_array_equal(np.sort(values), top[:, : top.shape[1] - start])
        print(f"\nwindow [{start}, {stop}) of {items} items, {rows} rows")
        seconds = timing.rounds(jobs, size.rounds)
        print(f"  ours: {np.median(seconds['ours']) / scores.size * 1e9:.2f} ns per score")
        names = {"topk": "torch.topk, then slice", "unsorted": "torch.topk(sorted=False)"}
        for name in ["topk", "unsorted", "numba"]:
            timing.line(names.get(name, name), seconds["ours"], seconds[name], *targets.get(name, ()))


def divided(size: Size) -> None:
    """Windows found by counting, as for scores divided among processes; one process has all columns."""
    for rows, items in [(size.rows, size.items), (size.long_rows, size.long_items)]:
        scores, shard = torch.from_numpy(gaussian(rows, items)), Shard(0, items, items)
        prefixes = torch.tensor([[0x3F, 0x7F]]).repeat(rows, 1)
        jobs: dict[str, timing.Job] = {
            "bits": lambda s=scores: ranking.rank_window_bits(s, *size.wide),
            "counting": lambda s=scores, w=shard: sharded_windows.window_bits(s, *size.wide, None, w),
            "first counts": lambda s=scores, p=prefixes: key_counts(s, 0 * p[:, :1], 0),
            "other counts": lambda s=scores, p=prefixes: key_counts(s, p, 8),
        }
        assert torch.equal(jobs["bits"](), jobs["counting"]())
        seconds = timing.rounds(jobs, size.rounds)
        print(f"\nwindow [{size.wide[0]}, {size.wide[1]}) of {items} items as bits, {rows} rows")
        for name in jobs:
            print(f"  {name}: {np.median(seconds[name]) / scores.numel() * 1e9:.2f} ns per score")
        timing.share("x rank_window_bits, by counting", seconds["counting"], seconds["bits"], 8, 6)


def limits(size: Size) -> None:
    """Compare the window with its lower bounds: reading scores, writing ids, computing the scores."""
    start, stop = size.wide
    scores = gaussian(size.rows, size.items)
    tensor = torch.from_numpy(scores)
    ids = ranking.rank_window(scores, start, stop)
    rng = np.random.default_rng(1)
    sessions = torch.from_numpy(rng.normal(size=(size.rows, 300)).astype(np.float32))
    table = torch.from_numpy(rng.normal(size=(size.items, 300)).astype(np.float32))
    product, place = torch.empty(size.rows, size.items), torch.empty(ids.shape, dtype=torch.int64)
    source = torch.from_numpy(ids)
    seconds = timing.rounds(
        {
            "ours": lambda: ranking.rank_window(scores, start, stop),
            "read": lambda: tensor.sum(),
            "write": lambda: place.copy_(source),
            "scoring": lambda: torch.matmul(sessions, table.T, out=product),
        },
        size.rounds,
    )
    print(
        f"\nwindow [{start}, {stop}) of {size.items} items, {size.rows} rows, compared with its lower bounds"
    )
    timing.share(
        "x (sum of the scores + copy of the ids)",
        seconds["ours"],
        seconds["read"] + seconds["write"],
        1.8,
        1.3,
    )
    timing.share("x scoring with 300 factors", seconds["ours"], seconds["scoring"], 0.05, 0.03)


def draws(size: Size) -> None:
    """Random samples of the window."""
    start, stop = size.wide
    count = min(1024, stop - start)
    scores = gaussian(size.rows, size.items)
    tensor = torch.from_numpy(scores)

    def by_multinomial() -> torch.Tensor:
        window = tensor.topk(stop, dim=1).indices[:, start:]
        chosen = torch.ones(window.shape).multinomial(count)
        return window.gather(1, chosen)

    def ours() -> NDArray[np.int64]:
        return ranking.rank_window(scores, start, stop, sample=count)

    window = ranking.rank_window(scores, start, stop)
    for drawn in (ours(), np.sort(by_multinomial().numpy())):
        assert all(np.isin(some, all_).all() for some, all_ in zip(drawn, window, strict=True))
        assert (np.diff(drawn) > 0).all()
    seconds = timing.rounds({"ours": ours, "multinomial": by_multinomial}, size.rounds)
    print(f"\n{count} samples of [{start}, {stop}) of {size.items} items, {size.rows} rows")
    timing.line("torch.topk, then multinomial", seconds["ours"], seconds["multinomial"], 60, 90)


def hard_rows(rows: int, items: int) -> dict[str, Scores]:
    """Rows that are worst cases for selection by sampling, by histogram, or by pivots."""
    rng = np.random.default_rng(2)
    normal = rng.normal(size=(rows, items)).astype(np.float32)
    blocks = np.repeat(rng.normal(size=(rows, items // 64 + 1)), 64, axis=1)[:, :items]
    holes = np.where(rng.random((rows, items)) < 0.9, -np.inf, normal)
    clusters = normal * 0.01 + np.where(rng.random((rows, items)) < 0.5, 5, -5)
    return {
        "constant": np.full((rows, items), 0.5, np.float32),
        "90 % -inf": holes.astype(np.float32),
        "tie-rich (256 levels)": (normal * 40).round() / 40,
        "sorted": np.sort(normal)[:, ::-1].copy(),
        "two clusters": clusters.astype(np.float32),
        "heavy tail exp(2s)": np.exp(2 * normal),
        "block-correlated": (blocks + 0.1 * normal).astype(np.float32),
    }


def hard(size: Size) -> None:
    """Check that no row costs much more than a Gaussian one."""
    start, stop = size.wide
    rows = hard_rows(size.rows, size.items)
    for scores in rows.values():
        assert_window(scores, ranking.rank_window(scores, start, stop), start, stop)
    everyday = gaussian(size.rows, size.items)
    jobs = {"Gaussian": lambda: ranking.rank_window(everyday, start, stop)}
    jobs |= {name: lambda s=scores: ranking.rank_window(s, start, stop) for name, scores in rows.items()}
    seconds = timing.rounds(jobs, size.rounds)
    print(f"\nhard rows, window [{start}, {stop}) of {size.items}: times the Gaussian row")
    for name in rows:
        timing.share(name, seconds[name], seconds["Gaussian"], 2, 1.5)


def instructions(size: Size) -> None:
    """Results and speed on each instruction set."""
    start, stop = size.wide
    scores = gaussian(size.rows, size.items)
    tensor = torch.from_numpy(scores)
    targets = {"avx512": (50, 80), "avx2": (30, 45), "neon": (15, 22), "portable": (15, 22)}

    def on(name: str) -> NDArray[np.int64]:
        _core.use_instructions(name)
        ids = ranking.rank_window(scores, start, stop)
        _core.use_instructions(None)
        return ids

    names = _core.instruction_sets()
    for name in names:
        np.testing.assert_array_equal(on(name), on(names[0]))
    jobs: dict[str, timing.Job] = {name: lambda n=name: on(n) for name in names}
    jobs["topk"] = lambda: tensor.topk(stop, dim=1).indices[:, start:]
    seconds = timing.rounds(jobs, size.rounds)
    print(f"\ninstruction sets, window [{start}, {stop}) of {size.items}: torch.topk, then slice")
    for name in names:
        timing.line(name, seconds[name], seconds["topk"], *targets[name])


def ranks(size: Size) -> None:
    """Ranks of one target per row."""
    scores = gaussian(size.rows, size.items)
    targets = np.random.default_rng(3).integers(0, size.items, size.rows)
    one = np.take_along_axis(scores, targets[:, None], axis=1)
    jobs: dict[str, timing.Job] = {
        "ours": lambda: ranking.target_counts(scores, targets),
        "numpy": lambda: (scores > one).sum(1),
    }
    (greater, tied), by_numpy = (job() for job in jobs.values())
    np.testing.assert_array_equal(greater, by_numpy)
    np.testing.assert_array_equal(tied, (scores == one).sum(1))
    seconds = timing.rounds(jobs, size.rounds)
    print(f"\nrank of one target, {size.items} items, {size.rows} rows")
    timing.line("numpy (s > t).sum(1), which ignores ties", seconds["ours"], seconds["numpy"], 3, 4)

    views = [scores, scores[::-1].copy()]
    tensors = [torch.from_numpy(view) for view in views]
    column = torch.from_numpy(targets)[:, None]

    def by_torch() -> list[tuple[torch.Tensor, torch.Tensor]]:
        blend = tensors[0] * 0.5 + tensors[1] * 0.5
        of = [(view, view.gather(1, column)) for view in [*tensors, blend]]
        return [((view > own).sum(1), (view == own).sum(1)) for view, own in of]

    def in_three_passes() -> list[tuple[Any, Any]]:
        blend = tensors[0] * 0.5 + tensors[1] * 0.5
        return [ranking.target_counts(view, targets) for view in [*tensors, blend]]

    def fused() -> tuple[Any, Any]:
        return ranking.fused_target_counts(views, [0.5, 0.5], targets)

    greater, tied = fused()
    for other in (by_torch(), in_three_passes()):
        np.testing.assert_array_equal(greater, np.stack([part[0].numpy() for part in other]))
        np.testing.assert_array_equal(tied, np.stack([part[1].numpy() for part in other]))
    seconds = timing.rounds({"ours": fused, "torch": by_torch, "three": in_three_passes}, size.rounds)
    print(f"\nranks with ties by two views and their sum, {size.items} items, {size.rows} rows")
    timing.line("torch", seconds["ours"], seconds["torch"], 60, 90)
    timing.line("torch's sum, then three of our passes", seconds["ours"], seconds["three"], 3, 3.5)


def seen_items(size: Size) -> None:
    """Ranks of one target per row with and without five seen items, and under the repeat component."""
    views = [gaussian(4 * size.rows, size.items), gaussian(4 * size.rows, size.items)[::-1].copy()]
    rng = np.random.default_rng(4)
    rows = len(views[0])
    targets, seen = rng.integers(0, size.items, rows), rng.integers(0, size.items, (rows, 5))
    seen[::10, 0] = targets[::10]
    odds = rng.normal(size=seen.shape)
    tensors = [torch.from_numpy(view) for view in views]

    def fused(exclude: NDArray[np.int64] | None = None) -> tuple[Any, Any]:
        return ranking.fused_target_counts(views, [0.5, 0.5], targets, exclude=exclude)

    def in_torch() -> Any:
        return _ranking_torch.seen_target_counts(tensors, [0.5, 0.5], targets, seen, None, [1.0] * 3)

    def both() -> ranking.SeenCounts:
        return ranking.seen_target_counts(views, [0.5, 0.5], targets, seen)

    def repeats() -> ranking.SeenCounts:
        return ranking.seen_target_counts(views, [0.5, 0.5], targets, seen, log_odds=odds)

    for counts in (both(), repeats(), ranking.SeenCounts(*in_torch())):
        np.testing.assert_array_equal(counts.kept, fused())
        np.testing.assert_array_equal(counts.excluded, fused(seen))
    jobs: dict[str, timing.Job] = {"fused": fused, "both": both, "repeats": repeats, "torch": in_torch}
    for count in (1, 2):
        with threads(count):
            seconds = timing.rounds(jobs, size.rounds)
        print(f"\nranks with and without seen items, {size.items} items, {rows} rows, threads: {count}")
        for name in ("fused", "both", "repeats"):
            print(f"  {name}: {np.median(seconds[name]) / views[0].size * 1e9:.2f} ns per score")
        timing.share("x fused_target_counts, both counts", seconds["both"], seconds["fused"], 1.05, 1.0)
        timing.share("x fused_target_counts, with repeats", seconds["repeats"], seconds["fused"], 7, 5)
        timing.line("torch, both counts", seconds["both"], seconds["torch"], 20, 40)


def mixtures(size: Size) -> None:
    """Softmaxes of queries and the log probabilities of their mixtures."""
    rng = np.random.default_rng(0)
    scores = gaussian(size.rows, size.items)
    # As many mixtures as queries, of four queries each: the shape of a chunk of the paper's data.
    rows = rng.integers(0, size.rows, (size.rows, 4))
    weights = rng.dirichlet(np.ones(4), size.rows).astype(np.float32)
    own = rng.integers(0, size.items, (size.rows, 1))
    mine, theirs = scores.copy(), torch.from_numpy(scores)
    probabilities = scores.copy()
    ranking.softmax_(probabilities, exclude=own)
    held, numbers, factors = (torch.from_numpy(each) for each in (probabilities, rows, weights))
    out = np.empty_like(scores)

    def torch_softmax() -> Any:
        return theirs.scatter(1, torch.from_numpy(own), -torch.inf).softmax(1)

    def gathered() -> Any:
        return (held[numbers] * factors[..., None]).sum(1).clamp(min=1.1754944e-38).log()

    def bags() -> Any:
        mixed = torch.nn.functional.embedding_bag(numbers, held, per_sample_weights=factors, mode="sum")
        return mixed.clamp(min=1.1754944e-38).log()

    def softmax() -> Any:
        np.copyto(mine, scores)
        ranking.softmax_(mine, exclude=own)

    jobs: dict[str, timing.Job] = {
        "softmax": softmax,
        "torch softmax": torch_softmax,
        "mixture": lambda: ranking.mixture_scores(probabilities, rows, weights, out=out),
        "gathered": gathered,
        "bags": bags,
    }
    np.testing.assert_allclose(probabilities, torch_softmax().numpy(), rtol=1e-4, atol=1e-12)
    expected = gathered().numpy()
    np.testing.assert_allclose(ranking.mixture_scores(probabilities, rows, weights), expected, atol=2e-5)
    np.testing.assert_allclose(bags().numpy(), expected, atol=2e-5)
    print(f"\nmixtures of 4 softmaxes, {size.rows} queries and mixtures of {size.items} items")
    seconds = timing.rounds(jobs, size.rounds)
    for name in ("softmax", "mixture"):
        print(f"  {name}: {np.median(seconds[name]) / scores.size * 1e9:.2f} ns per score")
    timing.line("torch scatter and softmax (ours with a copy)", seconds["softmax"], seconds["torch softmax"])
    timing.line("torch: gather, multiply, sum, log", seconds["mixture"], seconds["gathered"])
    timing.line("torch embedding_bag, log", seconds["mixture"], seconds["bags"])


def tops(size: Size) -> None:
    """The top 20 of each row."""
    scores = gaussian(size.rows, size.items)
    tensor = torch.from_numpy(scores)
    jobs: dict[str, timing.Job] = {
        "ours": lambda: ranking.top_ranked(scores, 20),
        "topk": lambda: tensor.topk(20, dim=1),
    }
    (_, values), top = (job() for job in jobs.values())
    np.testing.assert_array_equal(values, top.values.numpy())
    seconds = timing.rounds(jobs, size.rounds)
    print(f"\nthe top 20 of {size.items} items, {size.rows} rows")
    timing.line("torch.topk(20)", seconds["ours"], seconds["topk"], 5, 8)


def scaling(size: Size) -> None:
    """Compare two threads with one, alone and right after a parallel region of torch."""
    start, stop = size.wide
    scores = gaussian(4 * size.rows, size.items)
    small = torch.zeros(1 << 16)
    with threads(2):

        def on(count: int) -> NDArray[np.int64]:
            return ranking.rank_window(scores, start, stop, threads=count)

        np.testing.assert_array_equal(on(1), on(2))
        alone = timing.rounds({"one": lambda: on(1), "two": lambda: on(2)}, size.rounds)
        after: dict[str, list[float]] = {"one": [], "two": []}
        for _ in range(size.rounds):
            for name, count in (("one", 1), ("two", 2)):
                small.add_(
                    1
                )  # torch's second thread now waits for work, spinning unless OMP_WAIT_POLICY is passive
                after[name].append(float(timing.rounds({"it": lambda c=count: on(c)}, 1)["it"][0]))
                small.add_(1)
        print(
            f"\ntwo threads compared with one, window [{start}, {stop}) of {size.items}, {len(scores)} rows"
        )
        timing.line("alone", alone["two"], alone["one"], 1.6, 1.9)
        policy = os.environ.get("OMP_WAIT_POLICY", "unset")
        timing.line(
            f"after a torch region, OMP_WAIT_POLICY {policy}",
            np.array(after["two"]),
            np.array(after["one"]),
            1.6,
            1.9,
        )


TABLES = {
    "windows": windows,
    "divided": divided,
    "limits": limits,
    "draws": draws,
    "hard": hard,
    "instructions": instructions,
    "ranks": ranks,
    "seen": seen_items,
    "mixtures": mixtures,
    "tops": tops,
    "scaling": scaling,
}


def main() -> None:
    """Print the selected tables."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--only", choices=sorted(TABLES))
    parser.add_argument("--quick", action="store_true")
    options = parser.parse_args()
    print(f"{timing.machine()}; torch {torch.__version__}, numpy {np.__version__}, numba {numba.__version__}")
    for name, table in TABLES.items():
        if options.only in (None, name):
            with threads(1):
                table(QUICK if options.quick else FULL)


if __name__ == "__main__":
    main()

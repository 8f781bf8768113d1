"""Recommend for a million sessions: `python benches/recommend.py RUN [--sessions N]`.

Sessions are drawn from the items of the run by their counts in training: lengths are geometric with a mean
of 5, and 1 in 100 items is unknown. The same sessions are written as lists, as rows in order of time, and as
JSON lines, and each file is answered by a process of its own, whose output must be that of the first one.
Compared with the scoring alone.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import polars as pl

from alterrec import load
from alterrec.evaluation.saved import read_items

K = 20


def write_sessions(run: Path, count: int, folder: Path) -> int:
    """Write the sessions in three layouts, and return the number of their items."""
    items = read_items(run)
    share = items["train_count"].to_numpy() / items["train_count"].sum()
    rng = np.random.default_rng(0)
    lengths = np.clip(rng.geometric(0.2, count), 1, 60)
    total = int(lengths.sum())
    drawn = items["item_id"].gather(rng.choice(len(items), total, p=share))
    known = pl.Series(rng.random(total) >= 0.01)
    session = np.repeat(np.arange(count), lengths)
    place = np.arange(total) - np.repeat(np.cumsum(lengths) - lengths, lengths)
    rows = pl.DataFrame(
        {
            "session_id": pl.Series(session).cast(pl.String),
            "item_id": pl.select(pl.when(known).then(drawn).otherwise(pl.lit("unknown"))).to_series(),
            "timestamp": 1_700_000_000 + rng.integers(0, 7 * 86_400, count)[session] + 30 * place,
        }
    )
    rows.sort("timestamp", maintain_order=True).write_csv(folder / "rows.csv")
    lists = rows.group_by("session_id", maintain_order=True).agg(pl.col("item_id").alias("items"))
    lists.write_parquet(folder / "lists.parquet")
    lists.write_ndjson(folder / "lines.jsonl")
    return total


# The peak of a process, which its usage of resources mixes with that of the process that started it.
CHILD = """
import atexit, re
from alterrec.__main__ import main
atexit.register(lambda: print(re.search("VmHWM:\\s+(\\d+)", open("/proc/self/status").read())[1]))
main()
"""


def answered(run: Path, sessions: Path, out: Path) -> tuple[float, float, int]:
    """Run the command; return its seconds, its CPU seconds and its peak memory in MiB."""
    command = [sys.executable, "-c", CHILD, "recommend", run, "--sessions", sessions, "--out", out]
    began, before = time.perf_counter(), os.times()
    done = subprocess.run(
        [*map(str, command), "-k", str(K)], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, check=True
    )
    after = os.times()
    cpu = after.children_user + after.children_system - before.children_user - before.children_system
    return time.perf_counter() - began, cpu, int(done.stdout) // 1024


def scoring(run: Path, folder: Path, count: int) -> float:
    """Sessions per second of scoring alone."""
    saved = load(run)
    lists = pl.read_parquet(folder / "lists.parquet", n_rows=count)["items"].to_list()
    numbers = [items[items >= 0] for items in map(saved.vocabulary.find, lists)]
    numbers = [items for items in numbers if len(items)]
    saved.recommend_numbers(numbers[:512], K)
    began = time.perf_counter()
    saved.recommend_numbers(numbers, K)
    return len(numbers) / (time.perf_counter() - began)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("run", type=Path)
    parser.add_argument("--sessions", type=int, default=1_000_000)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        total = write_sessions(options.run, options.sessions, folder)
        first: pl.DataFrame | None = None
        for file in ("lists.parquet", "rows.csv", "lines.jsonl"):
            seconds, cpu, peak = answered(options.run, folder / file, folder / "best.parquet")
            best = pl.read_parquet(folder / "best.parquet").sort("session_id", "rank")
            first = best if first is None else first
            assert best["session_id"].equals(first["session_id"])
            # Blocks of other sessions differ by rounding errors.
            assert np.allclose(best["score"], first["score"], rtol=1e-4)
            row = {"layout": file, "sessions": options.sessions, "items": total, "seconds": round(seconds, 1)}
            row |= {"sessions per CPU s": round(options.sessions / cpu), "CPU s": round(cpu, 1), "MiB": peak}
            print(json.dumps(row), flush=True)
        print(json.dumps({"scoring alone": round(scoring(options.run, folder, 50_000))}))


if __name__ == "__main__":
    main()

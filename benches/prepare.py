"""Rate and peak memory of `alterrec prepare` beside pandas and plain polars, which do the same.

    python benches/prepare.py                        # a generated log of 2 million events
    python benches/prepare.py --events 50_000_000 --only alterrec
    python benches/prepare.py --log FOLDER           # parts that benches/event_log.py wrote

Users and times become sessions with a gap of 30 minutes, repetitions are collapsed, the last tenths of the
sessions are test and validation, and items with fewer than 5 events and sessions with fewer than 2 are
filtered from training until nothing changes. pandas does it as it is usually done: sort, compare with the
row above, cumulate, filter by counts. Each way runs in its own process, from the Parquet parts to Parquet
files; after that its files must have the same sessions. pandas comes with the extra `bench`.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import polars as pl
from event_log import write_log
from timing import machine

GAP, LEAST_COUNT, LEAST_LENGTH, SHARE = 1800, 5, 2, 0.1
SPLITS = ("train", "valid", "test")


def with_alterrec(log: Path, out: Path) -> None:
    """Prepare with alterrec."""
    import alterrec

    alterrec.prepare(log, out, format="log", gap=GAP, min_item_count=LEAST_COUNT, min_session=LEAST_LENGTH)


def with_pandas(log: Path, out: Path) -> None:
    """Prepare with pandas."""
    import pandas as pd

    frame = pd.concat(
        [pd.read_parquet(part) for part in sorted(log.glob("*.parquet"))],
        ignore_index=True,
    )
    frame["row"] = frame.index
    frame = frame.sort_values(["user_id", "timestamp"], kind="stable", ignore_index=True)
    new = (frame["user_id"] != frame["user_id"].shift()) | (frame["timestamp"].diff() > GAP)
    frame["session"] = new.cumsum()

    def collapsed(rows: Any) -> Any:
        again = rows["session"].eq(rows["session"].shift()) & rows["item_id"].eq(rows["item_id"].shift())
        return rows[~again]

    def long_enough(rows: Any) -> Any:
        return rows[rows.groupby("session")["item_id"].transform("size") >= LEAST_LENGTH]

    first = frame.groupby("session")["row"].min()
    frame = collapsed(frame)
    sessions = frame.groupby("session").agg(end=("timestamp", "last")).assign(row=first)
    sessions = sessions.sort_values(["end", "row"])
    sessions["place"] = range(len(sessions))
    frame["first"] = frame["session"].map(first)
    frame = frame.assign(session=frame["session"].map(sessions["place"])).sort_values(
        "session", kind="stable"
    )
    held = round(SHARE * len(sessions))
    bounds = [0, len(sessions) - 2 * held, len(sessions) - held, len(sessions)]
    split = {
        name: frame[(frame["session"] >= start) & (frame["session"] < stop)]
        for name, start, stop in zip(SPLITS, bounds[:-1], bounds[1:], strict=True)
    }
    train, before = split["train"], -1
    while len(train) != before:
        before = len(train)
        train = train[train.groupby("item_id")["item_id"].transform("size") >= LEAST_COUNT]
        train = long_enough(collapsed(train))
    known = set(train["item_id"].unique())
    for name in SPLITS[1:]:
        split[name] = long_enough(collapsed(split[name][split[name]["item_id"].isin(known)]))
    for name, part in (split | {"train": train}).items():
        # In the order of the last events that are left.
        part = part.assign(end=part.groupby("session")["timestamp"].transform("last"))
        part = part.sort_values(["end", "first"], kind="stable")
        part[["session", "item_id", "timestamp"]].to_parquet(out / f"{name}.parquet")


def with_polars(log: Path, out: Path) -> None:
    """Prepare with plain polars."""
    row = pl.col("row")
    frame = pl.scan_parquet(sorted(log.glob("*.parquet"))).with_row_index("row")
    new = (pl.col("user_id") != pl.col("user_id").shift()) | (pl.col("timestamp").diff() > GAP)
    frame = frame.sort("user_id", "timestamp", "row").with_columns(session=new.fill_null(True).cum_sum())

    def collapsed(rows: Any) -> Any:
        again = (pl.col("session") == pl.col("session").shift()) & (
            pl.col("item_id") == pl.col("item_id").shift()
        )
        return rows.filter(~again.fill_null(False))

    def long_enough(rows: Any) -> Any:
        return rows.filter(pl.len().over("session") >= LEAST_LENGTH)

    table = frame.collect()
    first = table.group_by("session").agg(first=row.min())
    table = collapsed(table)
    sessions = table.group_by("session").agg(end=pl.col("timestamp").last()).join(first, on="session")
    sessions = sessions.sort("end", "first").with_row_index("place").select("session", "place", "first")
    table = table.join(sessions, on="session", maintain_order="left")
    table = table.with_columns(session="place").sort("session", maintain_order=True)
    held = round(SHARE * len(sessions))
    bounds = [0, len(sessions) - 2 * held, len(sessions) - held, len(sessions)]
    split = {
        name: table.filter(pl.col("session").is_between(start, stop, closed="left"))
        for name, start, stop in zip(SPLITS, bounds[:-1], bounds[1:], strict=True)
    }
    train, before = split["train"], -1
    while len(train) != before:
        before = len(train)
        train = train.filter(pl.len().over("item_id") >= LEAST_COUNT)
        train = long_enough(collapsed(train))
    known = train.select("item_id").unique()
    for name in SPLITS[1:]:
        rows = split[name].join(known, on="item_id", how="semi", maintain_order="left")
        split[name] = long_enough(collapsed(rows))
    for name, part in (split | {"train": train}).items():
        # In the order of the last events that are left.
        part = part.with_columns(end=pl.col("timestamp").last().over("session"))
        part = part.sort("end", "first", maintain_order=True)
        part.select("session", "item_id", "timestamp").write_parquet(out / f"{name}.parquet")


WAYS: dict[str, Callable[[Path, Path], None]] = {
    "alterrec": with_alterrec,
    "polars": with_polars,
    "pandas": with_pandas,
}


def peak_mib() -> float:
    """Largest memory of this process so far; without torch, which alterrec's own measure imports."""
    status = Path("/proc/self/status")
    if status.exists():
        lines = dict(line.split(":", 1) for line in status.read_text().splitlines())
        return int(lines["VmHWM"].split()[0]) / 2**10
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (2**20 if sys.platform == "darwin" else 2**10)


def measure(way: str, log: Path, out: Path) -> dict[str, float]:
    """Seconds and MiB of one way, in this process."""
    began = time.perf_counter()
    WAYS[way](log, out)
    times = os.times()
    return {
        "seconds": time.perf_counter() - began,
        "cpu": times.user + times.system,
        "peak": peak_mib(),
    }


def sessions_of(out: Path, split: str) -> pl.DataFrame:
    """Items and times of a split, with the number of their session from 0."""
    frame = pl.read_parquet(out / f"{split}.parquet")
    session = "session" if "session" in frame.columns else "session_id"
    return frame.select(
        pl.col(session).rle_id().alias("session"), "item_id", pl.col("timestamp").cast(pl.Int64)
    )


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--events", type=int, default=2_000_000)
    parser.add_argument("--log", type=Path, help="a folder of benches/event_log.py instead of a new one")
    parser.add_argument("--only", action="append", choices=WAYS, help="repeatable; default: all")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--child", type=Path, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.child:
        print(json.dumps(measure(given.only[0], given.log, given.child)))
        return
    ways = given.only or list(WAYS)
    print(machine(), "polars threads:", pl.thread_pool_size())
    with tempfile.TemporaryDirectory() as folder:
        log = given.log or Path(folder) / "log"
        if given.log is None:
            write_log(log, given.events)
        events = pl.scan_parquet(sorted(log.glob("*.parquet"))).select(pl.len()).collect().item()
        print(f"{events} events   events/s (least to most)   CPU s   peak MiB")
        found: dict[str, list[dict[str, float]]] = {way: [] for way in ways}
        for turn in range(given.repeats):
            for way in ways:
                out = Path(folder) / f"{way}-{turn}"
                if way != "alterrec":
                    out.mkdir()
                command = [sys.executable, __file__, "--log", str(log), "--child", str(out), "--only", way]
                done = subprocess.run(command, check=True, capture_output=True, text=True)
                found[way].append(json.loads(done.stdout.splitlines()[-1]))
        for way, runs in found.items():
            if way != ways[0]:
                for split in SPLITS:
                    ours, theirs = (sessions_of(Path(folder) / f"{each}-0", split) for each in (ways[0], way))
                    assert ours.equals(theirs), (way, split)
            rates = sorted(events / run["seconds"] for run in runs)
            middle = sorted(runs, key=lambda run: run["seconds"])[len(runs) // 2]
            print(
                f"{way:10} {rates[len(rates) // 2]:12,.0f} ({rates[0]:,.0f} to {rates[-1]:,.0f}) "
                f"{middle['cpu']:8.1f} {max(run['peak'] for run in runs):10,.0f}",
                flush=True,
            )


if __name__ == "__main__":
    main()

"""Measure catalogues that change: items that a run was not trained on, and runs that continue by month.

    python benches/changing_catalogue.py hidden DATA --work W   # a tenth of the items is hidden
    python benches/changing_catalogue.py months DATA --work W --seeds 0   # train, or continue, by month
        --models alterrec sasrec --first 8 --last 10

DATA is the folder of Online Retail (docs/data.md), W a folder for the runs, which are kept: a second call
reads them. A training takes one to two minutes on one core, and there are two for each seed. The
tables are those of docs/changing_catalogue.md: means over seeds, with the smallest and the largest value.
"""

from __future__ import annotations

import argparse
import time
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import polars as pl
import scipy.sparse
import torch

import alterrec
from alterrec._core import ItemNeighbours
from alterrec.data.readers import load_dataset
from alterrec.evaluation.evaluate import Ranks, evaluate
from alterrec.models.base import Recommender
from alterrec.models.neighbours import NeighbourLists
from alterrec.nn.item_encoders import IdTable
from alterrec.runs.saved_model import SavedModel

SETTINGS = {"run.threads": 1, "run.baselines": False, "run.report": False}
SPLITS = ("train", "valid", "test")


def read(data: Path) -> tuple[pl.DataFrame, dict[str, pl.DataFrame]]:
    """Items and sessions of a data set, all columns as text."""
    events = {split: pl.read_csv(data / f"{split}.csv", infer_schema=False) for split in SPLITS}
    return pl.read_csv(data / "items.csv", infer_schema=False), events


def write(folder: Path, items: pl.DataFrame, events: dict[str, pl.DataFrame]) -> Path:
    """Write a data set without the rows of other items."""
    folder.mkdir(parents=True, exist_ok=True)
    items.write_csv(folder / "items.csv")
    for split, rows in events.items():
        kept = rows.filter(pl.col("item_id").is_in(items["item_id"].implode()))
        kept.write_csv(folder / f"{split}.csv")
    return folder


def train(data: Path, out: Path, seed: int) -> SavedModel:
    alterrec.fit(data, out=out, seed=seed, overrides=SETTINGS, resume=True, progress=None)
    return alterrec.load(out)


def ranks(saved: SavedModel, data: Path, split: str) -> tuple[Ranks, list[str]]:
    """The ranks of every item of the sessions of a split but the first, and the ids of these targets."""
    dataset = load_dataset(data)
    assert dataset.vocabulary.item_ids == saved.vocabulary.item_ids
    protocol = replace(saved.protocol, targets="every")
    found = evaluate(saved.model, dataset.splits[split], protocol)
    return found, [dataset.vocabulary.item_ids[target] for target in found.targets]


# Items that are hidden from training.


def text_alone(grown: SavedModel, known: int) -> SavedModel:
    """A run whose new items have neither ID rows nor neighbours: what their texts alone are worth."""
    model = grown.model
    assert isinstance(model, Recommender)
    for part in model.modules():
        if isinstance(part, IdTable):
            with torch.no_grad():
                part.rows_VD[known:] = 0
    for name, system in model.untrained.items():
        if isinstance(system, NeighbourLists):
            rows = np.repeat(np.arange(system.num_items), np.diff(system.neighbours.arrays()[0]))
            ids, similarities = system.neighbours.arrays()[1:]
            kept = (rows < known) & (ids < known)
            matrix = scipy.sparse.csr_matrix(
                (similarities[kept], (rows[kept], ids[kept])), shape=(known, known)
            )
            lists = ItemNeighbours.from_arrays(
                known, matrix.indptr.astype(np.int64), matrix.indices.astype(np.uint32), matrix.data
            )
            before = type(system)(lists, known, system.decay, system.offset)
            nothing = scipy.sparse.csr_matrix((system.num_items - known, known))
            model.untrained[name] = before.with_items(nothing)
    return grown


def hidden(data: Path, work: Path, seeds: list[int]) -> None:
    items, events = read(data)
    rows = []
    for seed in seeds:
        gone = np.zeros(len(items), np.bool_)
        gone[np.random.default_rng(seed).choice(len(items), len(items) // 10, replace=False)] = True
        new = items.filter(gone)
        known = write(work / f"known-{seed}", items.filter(~gone), events)
        train(known, work / f"known-run-{seed}", seed)
        rerun = train(data, work / f"full-run-{seed}", seed)
        # The items with text; the others have nothing to be scored by.
        new = new.filter(pl.col("title").fill_null("") != "")
        whole = write(work / f"grown-{seed}", pl.concat([items.filter(~gone), new]), events)
        variants = [("retrained with them", rerun, data)]
        for id_rows in ("nearest", "text"):
            out = work / f"grown-{id_rows}-{seed}"
            if not out.exists():
                alterrec.add_items(work / f"known-run-{seed}", new, out, id_rows=id_rows, progress=None)
            variants.append((f"--id-rows {id_rows}", alterrec.load(out), whole))
        count = len(items.filter(~gone))
        alone = text_alone(alterrec.load(work / f"grown-text-{seed}"), count)
        variants.append(("text alone", alone, whole))
        for name, saved, folder in variants:
            for split in ("valid", "test"):
                found, targets = ranks(saved, folder, split)
                is_new = np.isin(targets, new["item_id"].to_list())
                for scope, where in (("hidden", is_new), ("known", ~is_new), ("all", None)):
                    values = found.metrics("score", where)
                    rows += [
                        (name, split, scope, metric, 100 * values[metric], seed)
                        for metric in ("hits@20", "ndcg@20")
                    ]
                print(name, split, seed, int(is_new.sum()), flush=True)
    table(rows)


def table(rows: list[tuple[str, str, str, str, float, int]]) -> None:
    """Print the mean of each variant over seeds, with the smallest and the largest value."""
    schema = ["variant", "split", "scope", "metric", "value", "seed"]
    found = pl.DataFrame(rows, schema=schema, orient="row")
    shown = (
        found.group_by("variant", "split", "scope", "metric", maintain_order=True)
        .agg(
            pl.format(
                "{} ({}-{})",
                pl.col("value").mean().round(1),
                pl.col("value").min().round(1),
                pl.col("value").max().round(1),
            )
        )
        .pivot(["scope", "metric"], index=["split", "variant"], values="value")
    )
    with pl.Config(tbl_rows=-1, tbl_cols=-1, tbl_width_chars=200, fmt_str_lengths=40):
        print(shown)


# Months.


def by_month(data: Path, folder: Path, month: int, *, alone: bool = False) -> Path:
    """Write the sessions until the end of a month of 2011: the last 800 validate, the next month is the test.

    The catalogue has the items that occur at least five times in training. ``alone``: training has only the
    sessions of this month; everything else is the same.
    """
    items, splits = read(data)
    events = pl.concat(list(splits.values())).with_columns(pl.col("timestamp").cast(pl.Int64))
    begin, end, later = (int(datetime(2011, month + more, 1, tzinfo=UTC).timestamp()) for more in (0, 1, 2))
    past = events.filter(pl.col("timestamp") < end)
    by_time = past.group_by("session_id", maintain_order=True).agg(pl.col("timestamp").max())
    last = by_time.sort("timestamp", maintain_order=True)["session_id"][-800:]
    is_last = pl.col("session_id").is_in(last.implode())
    parts = {
        "train": past.filter(~is_last),
        "valid": past.filter(is_last),
        "test": events.filter(pl.col("timestamp").is_between(end, later, closed="left")),
    }
    common = parts["train"].group_by("item_id").len().filter(pl.col("len") >= 5)["item_id"]
    if alone:
        parts["train"] = parts["train"].filter(pl.col("timestamp") >= begin)
    kept = {
        split: rows.filter(pl.col("item_id").is_in(common.implode())).filter(pl.len().over("session_id") >= 2)
        for split, rows in parts.items()
    }
    return write(folder, items.filter(pl.col("item_id").is_in(common.implode())), kept)


def months(
    data: Path, work: Path, model: str, first: int, last: int, seeds: list[int], settings: dict[str, str]
) -> None:
    """Train until the first month; continue month by month; train anew until the last month.

    ``continued`` has all sessions until the month, ``alone`` only those of the month. Both continue their
    own run of the month before.
    """
    for seed in seeds:
        for month in range(first, last + 1):
            whole = by_month(data, work / f"month-{month}", month)
            own = by_month(data, work / f"month-{month}-alone", month, alone=True)
            for name, folder in (("fresh", whole), ("continued", whole), ("alone", own)):
                if first < month < last if name == "fresh" else month == first:
                    continue
                before = name if month > first + 1 else "fresh"
                start = None if name == "fresh" else work / f"{model}-{before}-{month - 1}-{seed}"
                begin = time.process_time()
                run = alterrec.fit(
                    folder,
                    model if start is None else None,
                    out=work / f"{model}-{name}-{month}-{seed}",
                    seed=seed,
                    continue_from=start,
                    overrides=SETTINGS | (settings if start is None else {}),
                    resume=True,
                    progress=None,
                )
                ndcg, seconds = run.result["test"]["score"]["ndcg@20"], run.result["seconds_by_part"]["train"]
                print(
                    f"{model}, until month {month}, seed {seed}, {name}: "
                    f"NDCG@20 {100 * ndcg:.1f}, training {seconds:.0f} s, "
                    f"CPU of this call {time.process_time() - begin:.0f} s",
                    flush=True,
                )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("what", choices=["hidden", "months"])
    parser.add_argument("data", type=Path)
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--models", nargs="+", default=["alterrec"], help="systems that are continued")
    parser.add_argument("--first", type=int, default=8, help="month of 2011 that the first run ends with")
    parser.add_argument("--last", type=int, default=10, help="month that the last run ends with")
    parser.add_argument("--set", action="append", default=[], help="KEY=VALUE of the first and new runs")
    given = parser.parse_args()
    settings = dict(each.split("=", 1) for each in given.set)
    torch.set_num_threads(1)
    if given.what == "hidden":
        hidden(given.data, given.work, given.seeds)
    for model in given.models if given.what == "months" else []:
        months(given.data, given.work, model, given.first, given.last, given.seeds, settings)


if __name__ == "__main__":
    main()

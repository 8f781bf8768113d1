"""RecBole 1.2.1 reads an export of ours: popularity and item-kNN by its own code, on the same targets.

    alterrec export DATA --to recbole --out FOLDER
    python benches/recbole_export.py FOLDER [--shrink S] [--decay D]

Needs the environment of recbole_peer.py. RecBole loads the training events, counts them (Pop) and computes
the similarities (ItemKNN). It loads the targets from the other shape, NAME.test.inter; the items of a list
add up their similarities, weighted by decay ** distance from the end. All items are ranked, and ties count as
the mean over their orders, so that the metrics can be compared with those of `alterrec train popularity` and
`itemknn` with `--set data.exclude_seen=never`. Set --shrink and --decay to what validation chose in our run.
"""

from __future__ import annotations

import argparse
import logging
import os
import sys
import tempfile
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import torch
from recbole.config import Config
from recbole.data import create_dataset, data_preparation
from recbole.utils import get_model, init_seed

METRICS = ("hits@10", "hits@20", "ndcg@10", "ndcg@20", "mrr@20")
EVENTS = ["train_events", "valid_events", "test_events"]


def main() -> None:
    """Print the metrics of both systems."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("folder", type=Path)
    parser.add_argument("--neighbours", type=int, default=500)
    parser.add_argument("--shrink", type=float, default=0.0)
    parser.add_argument("--decay", type=float, default=1.0)
    options = parser.parse_args()
    folder = options.folder.resolve()
    sys.argv = sys.argv[:1]  # RecBole also reads settings from the command line.
    warnings.simplefilter("ignore")
    logging.getLogger().setLevel(logging.ERROR)
    with tempfile.TemporaryDirectory() as place:
        os.chdir(place)  # RecBole writes logs.
        lists = targets_of(folder)
        for model in ("Pop", "ItemKNN"):
            network, dataset = trained(model, folder, options)
            scores = scores_of(network, dataset, lists, options.decay)
            ids = np.array([int(dataset.token2id("item_id", target)) for _, target in lists])
            own = np.take_along_axis(scores, ids[:, None], 1)
            values = metrics((scores > own).sum(1), (scores == own).sum(1))
            print(model, len(lists), "targets", {name: round(value, 6) for name, value in values.items()})
        os.chdir("/")


def settings(folder: Path, **own: Any) -> dict[str, Any]:
    """Where the files are, and what their columns mean."""
    return {
        "data_path": str(folder.parent),
        "USER_ID_FIELD": "session_id",
        "ITEM_ID_FIELD": "item_id",
        "gpu_id": "",
        "show_progress": False,
        **own,
    }


def targets_of(folder: Path) -> list[tuple[list[str], str]]:
    """The lists and targets of testing, as a model of sequences gets them from RecBole."""
    files = [str(folder / "recbole.yaml")]
    own = settings(folder, train_neg_sample_args=None, loss_type="CE")
    config = Config("SASRec", folder.name, config_file_list=files, config_dict=own)
    test = create_dataset(config).build()[2]
    rows = zip(test.inter_feat["item_id_list"].numpy(), test.inter_feat["item_id"].numpy(), strict=True)
    return [
        (
            [str(token) for token in test.id2token("item_id", list_[list_ > 0])],
            str(test.id2token("item_id", target)),
        )
        for list_, target in rows
    ]


def trained(model: str, folder: Path, options: argparse.Namespace) -> tuple[Any, Any]:
    """A model of RecBole, trained on the events of training."""
    own = settings(
        folder,
        benchmark_filename=EVENTS,
        load_col={"inter": ["session_id", "item_id"]},
        k=options.neighbours,
        shrink=options.shrink,
    )
    config = Config(model, folder.name, config_dict=own)
    init_seed(0, reproducibility=True)
    dataset = create_dataset(config)
    loader = data_preparation(config, dataset)[0]
    network = get_model(config["model"])(config, loader.dataset)
    if model == "Pop":
        count(network, loader.dataset.inter_feat)
    return network, loader.dataset


def count(network: Any, events: Any) -> None:
    """Let Pop count the events in batches of distinct items: of equal items in a batch it counts only one."""
    items = events["item_id"].numpy()
    order = np.argsort(items, kind="stable")
    first = np.searchsorted(items[order], items[order])
    place = np.empty(len(items), np.int64)
    place[order] = np.arange(len(items)) - first
    for occurrence in range(place.max() + 1):
        network.calculate_loss(events[torch.from_numpy(np.flatnonzero(place == occurrence))])


def scores_of(network: Any, dataset: Any, lists: list[tuple[list[str], str]], decay: float) -> np.ndarray:
    """Scores (N, V), without the padding item in column 0, which no target equals."""
    if hasattr(network, "item_cnt"):
        counts = network.item_cnt.numpy().reshape(1, -1).astype(np.float64)
        counts[:, 0] = -1
        return np.repeat(counts, len(lists), 0)
    # Column j of RecBole's matrix has the nearest items of j.
    nearest = np.asarray(network.w.todense() if hasattr(network.w, "todense") else network.w).T
    scores = np.zeros((len(lists), nearest.shape[1]), np.float32)
    for row, (items, _) in enumerate(lists):
        for distance, item in enumerate(reversed(items)):
            scores[row] += np.float32(decay**distance) * nearest[int(dataset.token2id("item_id", item))]
    scores[:, 0] = -1
    return scores


def metrics(greater: np.ndarray, tied: np.ndarray) -> dict[str, float]:
    """Mean over targets of each metric's expected value over the orders of tied items."""
    means = {}
    for name in METRICS:
        kind, depth = name.split("@")
        rank = np.arange(1, int(depth) + 1)
        gain = {"hits": np.ones(len(rank)), "ndcg": 1 / np.log2(rank + 1), "mrr": 1 / rank}[kind]
        total = np.concatenate(([0.0], gain.cumsum()))
        first, last = np.minimum(greater, len(rank)), np.minimum(greater + tied, len(rank))
        means[name] = float(((total[last] - total[first]) / tied).mean())
    return means


if __name__ == "__main__":
    torch.set_num_threads(1)
    main()

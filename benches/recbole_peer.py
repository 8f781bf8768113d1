"""Train RecBole 1.2.1 on one of our data folders and evaluate it by our protocol (last item, exact ties).

    python benches/recbole_peer.py DATA RUNS [MODEL ...] [--seeds N ...] [--epochs N] [--per-session N] ...

Needs a separate Python environment without alterrec, because RecBole needs older versions of numpy and torch.
With Python 3.11:

    pip install recbole==1.2.1 torch==2.5.1 "numpy<2" "pandas<3" "scipy<1.14"

Every prefix of a training session is a sample, the loss is full cross-entropy, and the epoch with the best
NDCG@20 on validation is used. The whole catalogue is ranked, including the items of the prefix. RecBole's own
models, data loaders and training epoch are used. Its metrics and checkpoints are not used: it rounds metrics
and breaks ties by position. Each run is a separate process that writes RUNS/MODEL-seedN.json; finished runs
are kept, so a second start resumes.
"""

from __future__ import annotations

import argparse
import json
import logging
import multiprocessing
import os
import random
import re
import statistics
import sys
import tempfile
import time
import warnings
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from recbole.config import Config
from recbole.data import create_dataset, data_preparation
from recbole.utils import get_model, get_trainer, init_seed

MODELS = ("SASRec", "BERT4Rec", "SRGNN", "CORE", "GRU4Rec", "FDSA", "S3Rec")
METRICS = ("hits@10", "hits@20", "ndcg@10", "ndcg@20", "mrr@20")
SPLITS = ("train", "valid", "test")
PATIENCE = 3


def main() -> None:
    """Train the missing runs, then print the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("data", type=Path)
    parser.add_argument("runs", type=Path)
    parser.add_argument("models", nargs="*", default=MODELS, metavar="MODEL")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    parser.add_argument("--dim", type=int, default=64)
    parser.add_argument("--layers", type=int, default=2)
    parser.add_argument("--heads", type=int, default=2)
    parser.add_argument(
        "--epochs", type=int, default=12, help="S3Rec is pretrained for as many epochs before"
    )
    parser.add_argument("--batch", type=int, default=512)
    parser.add_argument("--lr", type=float, default=0.001)
    parser.add_argument("--dropout", type=float, default=0.2)
    parser.add_argument(
        "--max-len", type=int, default=50, help="number of last items of a prefix that are used"
    )
    parser.add_argument(
        "--per-session", type=int, help="number of random prefixes per session, instead of all"
    )
    parser.add_argument("--threads", type=int, default=1)
    options = parser.parse_args()
    options.data, options.runs = options.data.resolve(), options.runs.resolve()
    options.runs.mkdir(parents=True, exist_ok=True)
    os.environ["OMP_NUM_THREADS"] = str(options.threads)
    for seed in options.seeds:
        for model in options.models:
            out = options.runs / f"{model}-seed{seed}.json"
            if not out.exists():
                # A fresh process for each run, so that its peak memory is not that of another run.
                context = multiprocessing.get_context("spawn")
                with ProcessPoolExecutor(1, mp_context=context) as process:
                    result = process.submit(run, model, seed, options).result()
                out.write_text(json.dumps(result) + "\n", "utf-8")
    print(tabulate(options.runs))


def run(model: str, seed: int, options: argparse.Namespace) -> dict[str, Any]:
    """Train and rank one model, in a temporary folder for the files that RecBole writes."""
    sys.argv = sys.argv[:1]  # RecBole also reads settings from the command line.
    warnings.simplefilter("ignore")
    logging.getLogger().setLevel(logging.ERROR)
    torch.set_num_threads(options.threads)
    with tempfile.TemporaryDirectory() as folder:
        os.chdir(folder)
        write_atomic_files(options, Path(folder), seed)
        result = train(model, seed, options)
        os.chdir("/")
    own = {"model": model, "seed": seed, "settings": settings(model, options)}
    return {**own, **result, "peak_memory_bytes": peak_memory_bytes()}


def train(model: str, seed: int, options: argparse.Namespace) -> dict[str, Any]:
    """Train until validation stops improving; return the ranks of the best epoch."""
    start = time.perf_counter()
    pretraining: list[dict[str, float]] = []
    if model == "S3Rec":
        network, trainer, loaders = build(model, seed, options, {"train_stage": "pretrain"})
        for epoch in range(1, options.epochs + 1):
            pretraining.append(train_epoch(trainer, loaders["train"], epoch))
            print(model, seed, pretraining[-1], flush=True)
        torch.save({"state_dict": network.state_dict()}, "pretrained.pth")
        stage = {"train_stage": "finetune", "pre_model_path": "pretrained.pth"}
        network, trainer, loaders = build(model, seed, options, stage)
    else:
        network, trainer, loaders = build(model, seed, options, {})
    test = loaders["test"].dataset
    sessions = test.id2token("session_id", test.inter_feat["session_id"].numpy()).tolist()
    curve: list[dict[str, float]] = []
    best: dict[str, Any] = {}
    for epoch in range(1, options.epochs + 1):
        point = train_epoch(trainer, loaders["train"], epoch)
        valid = metrics(*ranks(network, loaders["valid"]))
        curve.append({**point, "ndcg@20": valid["ndcg@20"]})
        print(model, seed, curve[-1], flush=True)
        if not best or valid["ndcg@20"] > best["valid"]["ndcg@20"]:
            greater, tied = ranks(network, loaders["test"])
            best = {"best_epoch": epoch, "valid": valid, "test": metrics(greater, tied)}
            best["test_ranks"] = {"session_id": sessions, "greater": greater.tolist(), "tied": tied.tolist()}
        elif epoch - best["best_epoch"] >= PATIENCE:
            break
    return {
        **best,
        "parameters": sum(parameter.numel() for parameter in network.parameters()),
        "samples": len(loaders["train"].dataset),
        "pretraining": pretraining,
        "curve": curve,
        "seconds": time.perf_counter() - start,
    }


def build(
    model: str, seed: int, options: argparse.Namespace, stage: dict[str, str]
) -> tuple[Any, Any, dict[str, Any]]:
    """Return RecBole's network, its trainer and its loaders."""
    config = Config(model, "sessions", config_dict={**settings(model, options), **stage, "seed": seed})
    init_seed(seed, reproducibility=True)
    dataset = create_dataset(config)
    loaders = dict(zip(SPLITS, data_preparation(config, dataset), strict=True))
    init_seed(seed, reproducibility=True)
    network = get_model(model)(config, loaders["train"].dataset)
    trainer = get_trainer(config["MODEL_TYPE"], model)(config, network)
    # One of RecBole's models turns this on globally when it is imported; it costs a third of the time.
    torch.autograd.set_detect_anomaly(False)
    return network, trainer, loaders


def settings(model: str, options: argparse.Namespace) -> dict[str, Any]:
    """The settings passed to RecBole; all others are its defaults."""
    own: dict[str, Any] = {
        # Files and the meaning of their columns.
        "data_path": ".",
        "benchmark_filename": list(SPLITS),
        "load_col": {"inter": ["session_id", "item_id_list", "item_id"], "item": ["item_id", "words"]},
        "USER_ID_FIELD": "session_id",
        "alias_of_item_id": ["item_id_list"],
        "selected_features": ["words"],
        "item_attribute": "words",
        # The network. A model reads only the names that it knows.
        "embedding_size": options.dim,
        "hidden_size": options.dim,
        "inner_size": 4 * options.dim,
        "n_layers": options.layers,
        "n_heads": options.heads,
        "hidden_dropout_prob": options.dropout,
        "attn_dropout_prob": options.dropout,
        "dropout_prob": options.dropout,
        "MAX_ITEM_LIST_LENGTH": options.max_len,
        # Training.
        "loss_type": "CE",
        "train_neg_sample_args": None,
        "learning_rate": options.lr,
        "train_batch_size": options.batch,
        "eval_batch_size": options.batch,
        "epochs": options.epochs,
        "gpu_id": "",
        "show_progress": False,
    }
    if model == "GRU4Rec":
        own["hidden_size"] = 2 * options.dim  # RecBole's defaults are 128 and an embedding size of 64.
    return own


def train_epoch(trainer: Any, loader: Any, epoch: int) -> dict[str, float]:
    """Train one epoch; return the mean loss of a batch, wall-clock and processor seconds."""
    start, start_cpu = time.perf_counter(), time.process_time()
    loss = trainer._train_epoch(loader, epoch) / len(loader)
    seconds = {"seconds": time.perf_counter() - start, "seconds_cpu": time.process_time() - start_cpu}
    return {"epoch": epoch, "loss": loss, **seconds}


@torch.no_grad()
def ranks(network: Any, loader: Any) -> tuple[np.ndarray, np.ndarray]:
    """For each target, the number of items that score higher, and equal (including itself)."""
    network.eval()
    greater, tied = [], []
    for interaction, _, _, targets in loader:
        scores = network.full_sort_predict(interaction)[:, 1:]  # Column 0 is padding.
        if not torch.isfinite(scores).all():
            raise ValueError("a score is not finite")
        own = scores.gather(1, targets[:, None] - 1)
        greater.append((scores > own).sum(1))
        tied.append((scores == own).sum(1))
    return torch.cat(greater).numpy(), torch.cat(tied).numpy()


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


def write_atomic_files(options: argparse.Namespace, folder: Path, seed: int) -> None:
    """Write the data set `sessions` in RecBole's format, already split."""
    data, per_session = options.data, options.per_session
    out = folder / "sessions"
    out.mkdir()
    items = pd.read_csv(data / "items.csv", dtype=str).fillna("")
    words = items["category"].map(categories) if "category" in items else items["title"].map(title_words)
    lines = [f"{code}\t{' '.join(own)}" for code, own in enumerate(words)]
    (out / "sessions.item").write_text("\n".join(["item_id:token\twords:token_seq", *lines]) + "\n", "utf-8")
    codes = {item: code for code, item in enumerate(items["item_id"])}
    draw = random.Random(seed)
    for split in SPLITS:
        lines = ["session_id:token\titem_id_list:token_seq\titem_id:token"]
        for session, sequence in read_sessions(data / f"{split}.csv"):
            ends = list(range(1, len(sequence))) if split == "train" else [len(sequence) - 1]
            if split == "train" and per_session is not None and len(ends) > per_session:
                ends = sorted(draw.sample(ends, per_session))
            own = [str(codes[item]) for item in sequence]
            for end in ends:
                prefix = own[max(0, end - options.max_len) : end]
                lines.append(f"{session}\t{' '.join(prefix)}\t{own[end]}")
        (out / f"sessions.{split}.inter").write_text("\n".join(lines) + "\n", "utf-8")


def read_sessions(path: Path) -> list[tuple[str, list[str]]]:
    """Session ids with their items in time order."""
    rows = pd.read_csv(path, dtype={"session_id": str, "item_id": str})
    if "timestamp" in rows:
        rows = rows.sort_values("timestamp", kind="stable")
    sessions = rows.groupby("session_id", sort=False)["item_id"]
    return [(session, list(items)) for session, items in sessions if len(items) > 1]


def categories(text: str) -> list[str]:
    """`Comedy, Science Fiction` -> comedy, science_fiction."""
    return ["_".join(name.lower().split()) for name in text.split(",") if name.strip()]


def title_words(text: str) -> list[str]:
    """The distinct words of a title."""
    return list(dict.fromkeys(re.findall(r"\w+", text.lower())))


def peak_memory_bytes() -> int:
    """Peak memory of this process."""
    status = Path("/proc/self/status").read_text("utf-8")
    return 1024 * int(re.search(r"VmHWM:\s+(\d+)", status)[1])


def tabulate(runs: Path) -> str:
    """Test metrics in percent, best NDCG@20 first."""
    groups: dict[str, list[dict[str, Any]]] = {}
    for path in sorted(runs.glob("*-seed*.json")):
        result = json.loads(path.read_text("utf-8"))
        groups.setdefault(result["model"], []).append(result)
    head = ["model", "seeds", *METRICS, "valid ndcg@20", "best epoch", "CPU s/epoch", "s/epoch", "peak MiB"]
    rows = []
    for model, group in groups.items():
        cells = [spread([100 * result["test"][name] for result in group]) for name in METRICS]
        cells.append(spread([100 * result["valid"]["ndcg@20"] for result in group]))
        cells.append(", ".join(str(result["best_epoch"]) for result in group))
        for clock in ("seconds_cpu", "seconds"):
            cells.append(f"{statistics.mean(point[clock] for r in group for point in r['curve']):.1f}")
        cells.append(f"{max(result['peak_memory_bytes'] for result in group) / 2**20:.0f}")
        best = statistics.mean(result["test"]["ndcg@20"] for result in group)
        rows.append((-best, f"| {model} | {len(group)} | {' | '.join(cells)} |"))
    rule = f"|{'---|' * len(head)}"
    return "\n".join([f"| {' | '.join(head)} |", rule, *(row for _, row in sorted(rows))])


def spread(values: list[float]) -> str:
    """Mean ± sample standard deviation."""
    mean = f"{statistics.mean(values):.2f}"
    return f"{mean} ± {statistics.stdev(values):.2f}" if len(values) > 1 else mean


if __name__ == "__main__":
    main()

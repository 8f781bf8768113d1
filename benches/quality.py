"""Train all systems on one data folder, each in a separate process; a second start resumes.

    python benches/quality.py DATA RUNS [--preset NAME] [--set key=value] [--only NAME] [--seeds N ...]

DATA is a folder, or ``builtin``. Writes RUNS/table.md: test metrics as mean ± standard deviation over seeds,
Hits@20 / NDCG@20 with the session's own items as candidates and without them, time and peak memory. Finished
runs are kept. Trained systems have three seeds.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

# The Transformers train better with a lower learning rate that decays more slowly, and with more steps.
TRANSFORMER = ("optim.lr=0.001", "optim.decay=0.9", "schedule.epochs=20", "optim.batch_size=256")
# Systems with the settings that they have in addition to those of the command line.
TRAINED: dict[str, tuple[str, ...]] = {
    "alterrec": (),
    "independent": (),
    "id_only": (),
    "text_only": (),
    "nfrec_sum": (),
    "nfrec_concat": (),
    "alterrec_random": (),
    "alterrec_aug": (),
    "alterrec_wo_text": (),
    "alterrec_wo_id": (),
    "sasrec": TRANSFORMER,
    "unisrec": TRANSFORMER,
}
UNTRAINED = ("popularity", "recent_popularity", "itemknn", "covisitation", "vsknn")
METRICS = ("hits@10", "hits@20", "ndcg@10", "ndcg@20", "mrr@20")


def main() -> None:
    """Train the missing runs, then write the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("data")
    parser.add_argument("runs", type=Path)
    parser.add_argument("--set", action="append", default=[])
    parser.add_argument("--preset", action="append", default=[])
    parser.add_argument("--only", action="append", default=[])
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--jobs", type=int, default=1, help="number of runs at a time")
    options = parser.parse_args()
    wanted = [(name, 0) for name in UNTRAINED]
    wanted += [(name, seed) for seed in options.seeds for name in TRAINED]
    options.runs.mkdir(parents=True, exist_ok=True)

    def train(name: str, seed: int) -> None:
        settings = [*TRAINED.get(name, ()), *options.set]
        run(options.data, options.runs / f"{name}-seed{seed}", name, seed, options.preset, settings)

    with ThreadPoolExecutor(options.jobs) as pool:
        list(pool.map(train, *zip(*(row for row in wanted if row[0] in (options.only or row)), strict=True)))
    table = tabulate(options.runs)
    (options.runs / "table.md").write_text(table, "utf-8")
    print(table)


def run(data: str, out: Path, name: str, seed: int, presets: list[str], settings: list[str]) -> None:
    """Train one system, resuming from its checkpoint if there is one."""
    if (out / "result.json").exists():
        return
    command = [sys.executable, "-m", "alterrec", "train", name, "--out", str(out)]
    command += [] if data == "builtin" else ["--data", data]
    command += ["--seed", str(seed), *(f"--preset={preset}" for preset in presets)]
    command += [f"--set={setting}" for setting in settings]
    if (out / "checkpoint").exists():
        command.append("--resume")
    with (out.parent / "log.txt").open("a", encoding="utf-8") as log:
        if subprocess.run(command, stdout=log, stderr=subprocess.STDOUT).returncode:
            print(name, seed, "failed, see log.txt", flush=True)
            return
    result = json.loads((out / "result.json").read_text("utf-8"))
    print(name, seed, result["seconds"], result["valid"]["score"], result["test"]["score"], flush=True)


def tabulate(runs: Path) -> str:
    """One row per system and view, sorted by NDCG@20."""
    results: dict[str, list[dict]] = {}
    for path in sorted(runs.glob("*/result.json")):
        result = json.loads(path.read_text("utf-8"))
        results.setdefault(result["model"], []).append(result)
    lines = [
        "| system | view | seeds | " + " | ".join(METRICS) + " | kept | excluded | seconds | peak MiB |",
        "|---|---|---|" + "---|" * (len(METRICS) + 4),
    ]
    rows = []
    for name, group in results.items():
        seconds = statistics.mean(r["seconds"] for r in group)
        memory = max(r["peak_memory_bytes"] for r in group) / 2**20
        for view in group[0]["test"]:
            cells = [spread([100 * r["test"][view][metric] for r in group]) for metric in METRICS]
            best = statistics.mean(r["test"][view]["ndcg@20"] for r in group)
            cells += [
                " / ".join(
                    spread([100 * r["by_seen"]["test"][rule][view][metric] for r in group])
                    for metric in ("hits@20", "ndcg@20")
                )
                for rule in ("kept", "excluded")
            ]
            line = f"| {name} | {view} | {len(group)} | {' | '.join(cells)} | {seconds:.0f} | {memory:.0f} |"
            rows.append((view != "score", -best, line))
    return "\n".join(lines + [line for *_, line in sorted(rows)]) + "\n"


def spread(values: list[float]) -> str:
    """Mean ± sample standard deviation."""
    mean = f"{statistics.mean(values):.2f}"
    return f"{mean} ± {statistics.stdev(values):.2f}" if len(values) > 1 else mean


if __name__ == "__main__":
    main()

"""What a result does not depend on: threads, chunks of scores, hash seed, interruptions, other processes."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from itertools import product
from pathlib import Path

import numpy as np
import pytest
import torch
from run_files import comparable_files
from worlds import returning_dataset

import alterrec
from alterrec.evaluation.evaluate import evaluate
from alterrec.progress import Event
from alterrec.ranking import set_threads

SMALL = {
    "run.report": False,
    "run.baselines": False,
    "run.threads": 1,
    "model.dim": 8,
    "schedule.epochs": 4,
    "schedule.warmup": 1,
}
DATA = returning_dataset()
# A sum with neighbours, several queries and repeats; one network; a system without training.
MODELS = ("alterrec", "sasrec", "vsknn")
TRAIN = """
import sys
import test_determinism as here
here.train(sys.argv[1], here.Path(sys.argv[2]))
"""


def train(model: str, out: Path, **options: object) -> Path:
    small = SMALL if model == "alterrec" else {key: SMALL[key] for key in SMALL if key != "schedule.warmup"}
    if model == "vsknn":
        small = {key: value for key, value in small.items() if key.startswith("run.")}
    return alterrec.fit(DATA, model, out=out, overrides=small, seed=3, **options).path  # type: ignore[arg-type]


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("runs")
    return {model: train(model, folder / model) for model in MODELS}


@pytest.fixture
def threads() -> Iterator[None]:
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)
    set_threads(before)


def same_results(run: Path, other: Path) -> None:
    """All files are equal but for times and memory, and so are the recommendations."""
    assert comparable_files(run) == comparable_files(other)
    mine, theirs = (alterrec.load(each) for each in (run, other))
    names = list(mine.vocabulary.item_ids)
    assert mine.recommend([names[:3], names[5:6]], k=5) == theirs.recommend([names[:3], names[5:6]], k=5)


@pytest.mark.parametrize("model", MODELS)
@pytest.mark.usefixtures("threads")
def test_ranks_do_not_depend_on_threads_or_chunks(runs: dict[str, Path], model: str) -> None:
    saved = alterrec.load(runs[model])
    # 1, 2, 7 or all of the 40 sessions at a time.
    row = 4 * len(saved.vocabulary) * 64
    found = []
    for count, budget in product((1, 2), (1, row // 8, row, 2**30)):
        torch.set_num_threads(count)
        set_threads(count)
        ranks = evaluate(saved.model, DATA.test, replace(saved.protocol, budget_bytes=budget))
        views = [(rule, view) for rule, views in ranks.by_rule.items() for view in views]
        found.append({(rule, view): np.stack(ranks.by_rule[rule][view]) for rule, view in views})
    for other in found[1:]:
        assert other.keys() == found[0].keys()
        for key, counts in found[0].items():
            assert np.array_equal(other[key], counts), key


def test_results_do_not_depend_on_the_hash_seed_or_on_other_processes(
    runs: dict[str, Path], tmp_path: Path
) -> None:
    started = []
    for seed in ("0", "1234"):
        environment = os.environ | {"PYTHONHASHSEED": seed, "OMP_NUM_THREADS": "1"}
        environment["PYTHONPATH"] = os.pathsep.join([str(Path(__file__).parent), *sys.path])
        command = [sys.executable, "-c", TRAIN, "alterrec", str(tmp_path / seed)]
        started.append((tmp_path / seed, subprocess.Popen(command, env=environment, cwd=tmp_path)))
    for out, process in started:
        assert process.wait(timeout=250) == 0
        same_results(runs["alterrec"], out)


def test_a_resumed_run_is_the_same(runs: dict[str, Path], tmp_path: Path) -> None:
    def stop(event: Event) -> None:
        if event.kind == "epoch_start" and event.epoch == 3:
            raise KeyboardInterrupt

    train("alterrec", tmp_path / "run", progress=stop)
    train("alterrec", tmp_path / "run", resume=True)
    same_results(runs["alterrec"], tmp_path / "run")

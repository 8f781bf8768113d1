"""Damaged, forged and foreign run folders: every command that reads one raises InputError or works."""

from __future__ import annotations

import collections
import json
import os
import random
import shutil
import tempfile
import time
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path

import polars as pl
import pytest
from hostile import damaged_copy, forget_manifest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from worlds import returning_dataset, small_dataset

import alterrec
from alterrec.errors import InputError
from alterrec.exports.card import write_card
from alterrec.exports.rankings import Rankings
from alterrec.manifest import check_manifest
from alterrec.progress import Event
from alterrec.runs.measure import evaluate_run
from alterrec.serving.batch import recommend_file
from alterrec.serving.new_sessions import evaluate_sessions

QUICK = {
    "run.report": False,
    "run.baselines": False,
    "run.threads": 1,
    "model.dim": 8,
    "schedule.epochs": 2,
    "schedule.warmup": 1,
}
RESUMED = QUICK | {"schedule.epochs": 3, "model.max_len": 8}
RESUMED.pop("schedule.warmup")
DATA = returning_dataset()
USERS = small_dataset(users=6)
MODELS = {
    "alterrec": (DATA, {"fusion.gate": True, "schedule.epochs": 4}),
    "popularity": (DATA, {}),
    "itemknn": (DATA, {}),
    "vsknn": (DATA, {}),
    "sasrec": (DATA, {"model.max_len": 8}),
    "hggnn": (USERS, {}),
}


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Runs of models that store different things, and two of an earlier version."""
    folder = tmp_path_factory.mktemp("runs")
    for model, (data, overrides) in MODELS.items():
        own = {
            key: value
            for key, value in (QUICK | overrides).items()
            if not key.startswith(("model.", "schedule.", "fusion."))
            or model in ("alterrec", "sasrec", "hggnn")
        }
        if model != "alterrec":
            own = {key: value for key, value in own.items() if key not in ("schedule.warmup", "fusion.gate")}
        alterrec.fit(data, model, out=folder / model, overrides=own)
    old = Path(__file__).parents[1] / "data" / "runs"
    for name in ("alterrec", "sasrec"):
        shutil.copytree(old / name, folder / f"old-{name}")
    return sorted(folder.iterdir())


def recommend(run: Path, _: Path) -> None:
    saved = alterrec.load(run)
    names = saved.vocabulary.item_ids
    saved.recommend([[names[0]], [names[-1], names[0], names[len(names) // 2]]], k=1, users=["user1", None])
    saved.recommend([[names[-1]]], k=2, exclude_seen=True)


def evaluate(run: Path, whole: Path) -> None:
    evaluate_run(run, USERS if whole.name == "hggnn" else DATA)


def answer(run: Path, _: Path) -> None:
    saved = alterrec.load(run)
    name = saved.vocabulary.item_ids[1]
    saved.explain([name], [saved.vocabulary.item_ids[2]])
    saved.similar_items([name], k=2)


def recommend_to_file(run: Path, _: Path) -> None:
    with tempfile.TemporaryDirectory() as folder:
        sessions = Path(folder) / "sessions.csv"
        sessions.write_text("session_id,item_id\na,item01\nb,item02\nb,nothing\n", "utf-8")
        recommend_file(run, sessions, Path(folder) / "out.csv", k=2)


def evaluate_new(run: Path, _: Path) -> None:
    with tempfile.TemporaryDirectory() as folder:
        sessions = Path(folder) / "sessions.csv"
        sessions.write_text("session_id,item_id\na,item01\na,item02\nb,item05\nb,item09\n", "utf-8")
        evaluate_sessions(run, sessions)


def change_catalogue(run: Path, _: Path) -> None:
    new = pl.DataFrame({"item_id": ["new"], "title": ["ring part 3"]})
    with tempfile.TemporaryDirectory() as folder:
        alterrec.remove_items(run, ["item05"], Path(folder) / "fewer", progress=None)
        alterrec.add_items(run, new, Path(folder) / "more", progress=None)


def export(run: Path, _: Path) -> None:
    with tempfile.TemporaryDirectory() as folder:
        Rankings.of_run(run).write(Path(folder) / "trec")
    write_card(run)


def beside(whole: Path) -> Path:
    """A run of another system on the same data."""
    others = {"old-alterrec": "old-sasrec", "old-sasrec": "old-alterrec", "itemknn": "popularity"}
    return whole.parent / others.get(whole.name, "itemknn")


COMMANDS: dict[str, Callable[[Path, Path], object]] = {
    "recommend": recommend,
    "evaluate": evaluate,
    "answer": answer,
    "recommend file": recommend_to_file,
    "evaluate new": evaluate_new,
    "catalogue": change_catalogue,
    "export": export,
    "verify": lambda run, _: check_manifest(run, contents=True),
    "report": lambda run, _: alterrec.result(run).presentation().page(),
    "compare": lambda run, whole: alterrec.compare([run, beside(whole)]).presentation().markdown(),
    "compare with": lambda run, whole: alterrec.compare([beside(whole), run]).presentation().markdown(),
    "balance": lambda run, _: alterrec.balance([run]).presentation().markdown(),
}


def attempt(run: Path, whole: Path, done: str, commands: list[str]) -> Iterator[str]:
    """Run commands on a damaged folder; yield how each ended."""
    for name in commands:
        try:
            COMMANDS[name](run, whole)
        except InputError as error:
            if len(str(error).splitlines()) > 1:
                raise AssertionError(f"{done}: {name} has a message of several lines: {error}") from error
            yield "InputError"
        except BaseException as error:
            raise AssertionError(f"{done}: {name} raised {type(error).__name__}: {error}") from error
        else:
            yield "works"


def test_whole_runs_are_read_by_every_command(runs: list[Path]) -> None:
    for run in runs:
        for name, command in COMMANDS.items():
            # hggnn and the earlier version have other data.
            foreign = "compare" in name and run.name == "hggnn"
            foreign |= name in ("evaluate", "evaluate new") and run.name.startswith("old-")
            # balance needs two networks, and a new item needs a text part.
            lacking = name in ("balance", "catalogue") and run.name != "alterrec"
            # These have no similarity of items.
            lacking |= name == "answer" and run.name in ("popularity", "vsknn")
            if not foreign and not lacking:
                command(run, run)


@given(seed=st.integers(0, 2**32 - 1))
@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
def test_a_damaged_run_is_an_input_error(
    seed: int, runs: list[Path], tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    draw = random.Random(seed)
    whole = draw.choice(runs)
    copy, done = damaged_copy(whole, runs, tmp_path / f"run-{time.monotonic_ns()}", seed)
    commands = ["recommend", draw.choice(list(COMMANDS))]
    list(attempt(copy, whole, done, commands))
    assert "panicked" not in capfd.readouterr().err, done
    shutil.rmtree(copy)


@pytest.mark.parametrize(
    ("name", "manifest", "commands"),
    [
        ("recipe.toml", True, ["recommend", "recommend file", "evaluate new", "catalogue", "verify"]),
        ("model.safetensors", False, ["recommend", "recommend file", "evaluate new", "catalogue"]),
        ("vocabulary.parquet", False, ["recommend", "recommend file", "evaluate new", "catalogue"]),
        ("curves.jsonl", False, ["catalogue"]),
    ],
)
def test_a_file_that_never_ends_is_neither_read_nor_copied(
    name: str, manifest: bool, commands: list[str], runs: list[Path], tmp_path: Path
) -> None:
    whole = next(run for run in runs if run.name == "alterrec")
    copy = Path(shutil.copytree(whole, tmp_path / "run"))
    (copy / name).unlink()
    os.mkfifo(copy / name)
    if manifest:
        # A forged one.
        path = copy / "manifest.json"
        entries = json.loads(path.read_text("utf-8"))
        entries["files"][name]["size"] = 0
        path.write_text(json.dumps(entries), "utf-8")
    else:
        forget_manifest(copy)
    assert set(attempt(copy, whole, name, commands)) == {"InputError"}


@pytest.fixture(scope="module")
def interrupted(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run that was stopped in its third epoch, without a result."""
    folder = tmp_path_factory.mktemp("interrupted") / "run"

    def stop(event: Event) -> None:
        if event.kind == "epoch_start" and event.epoch == 3:
            raise KeyboardInterrupt

    alterrec.fit(DATA, "sasrec", out=folder, overrides=RESUMED, progress=stop)
    for file in folder.iterdir():
        if file.is_file() and file.name != "recipe.toml":
            file.unlink()
    return folder


@given(seed=st.integers(0, 2**32 - 1))
@settings(max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
def test_a_damaged_checkpoint_is_an_input_error(seed: int, interrupted: Path, tmp_path: Path) -> None:
    folder = tmp_path / f"run-{time.monotonic_ns()}"
    copy, done = damaged_copy(interrupted, [interrupted], folder, seed)
    try:
        alterrec.fit(DATA, "sasrec", out=copy, overrides=RESUMED, resume=True)
    except InputError:
        pass
    except BaseException as error:
        raise AssertionError(f"{done}: {type(error).__name__}: {error}") from error
    shutil.rmtree(copy)


@given(seed=st.integers(0, 2**32 - 1))
@example(seed=3036)  # a run without a metric that others have
@example(seed=3203)
@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_a_damaged_study_is_an_input_error(seed: int, tmp_path: Path) -> None:
    source = Path(__file__).parents[1] / "data" / "runs" / "study"
    copy, done = damaged_copy(source, [source], tmp_path / f"study-{time.monotonic_ns()}", seed)
    try:
        alterrec.load_study(copy).presentation().markdown()
    except InputError:
        pass
    except BaseException as error:
        raise AssertionError(f"{done}: {type(error).__name__}: {error}") from error
    shutil.rmtree(copy)


@pytest.mark.torture
@pytest.mark.timeout(3000)
def test_thousands_of_damaged_runs_are_input_errors(
    runs: list[Path], tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    count = int(os.environ.get("ALTERREC_FOLDERS", "300"))
    ends: collections.Counter[tuple[str, str]] = collections.Counter()
    failures: list[str] = []
    for seed in range(count):
        whole = runs[seed % len(runs)]
        copy, done = damaged_copy(whole, runs, tmp_path / "run", seed)
        for name in COMMANDS:
            try:
                ends.update((name, end) for end in attempt(copy, whole, done, [name]))
            except AssertionError as error:
                failures.append(str(error) + "".join(traceback.format_exception(error.__cause__)[-3:]))
        shutil.rmtree(copy)
    panics = capfd.readouterr().err.count("panicked")
    with capfd.disabled():
        print(f"\n{count} damaged run folders:")
        for (name, end), times in sorted(ends.items()):
            print(f"  {name:13} {end:10} {times}")
        print("\n".join(failures[:40]))
    assert (failures, panics) == ([], 0)

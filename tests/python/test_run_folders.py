"""Run folders: what may begin, resume or be extended in one, what refused commands change, the manifest."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from conftest import Outcome
from kills import SMALL, Server, server
from run_files import comparable_files, files_of
from worlds import returning_dataset

import alterrec
from alterrec import files
from alterrec.data.dataset import Dataset
from alterrec.errors import InputError
from alterrec.locks import LockFile
from alterrec.manifest import ROLES, check_manifest
from alterrec.processes import this_process
from alterrec.progress import Event
from alterrec.recipe import changeable_keys
from alterrec.results import CHECKPOINT, RUN_LOCK, read_run
from alterrec.runs.folder import kind_of
from alterrec.runs.measure import evaluate_run
from alterrec.training.checkpoint import checkpoint_epochs

Command = Callable[..., Outcome]
OVERRIDES: dict[str, Any] = {
    "model.dim": 8,
    "schedule.epochs": 4,
    "optim.batch_size": 64,
    "run.threads": 1,
    "run.baselines": False,
    "run.report": False,
}


def fit(shop: Path | Dataset, out: Path, model: str = "alterrec", **more: Any) -> alterrec.runs.fit.FittedRun:
    overrides = OVERRIDES | more.pop("overrides", {})
    return alterrec.fit(shop, model, out=out, overrides=overrides, **more)


def stopping(
    kind: str, epoch: int, error: type[BaseException] = KeyboardInterrupt
) -> Callable[[Event], None]:
    """A listener that raises an error at an event."""

    def listen(event: Event) -> None:
        if (event.kind, event.epoch) == (kind, epoch):
            raise error

    return listen


@pytest.fixture(scope="module")
def source(shop_source: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with finished runs; nothing in it is changed."""
    folder = tmp_path_factory.mktemp("finished")
    fit(shop_source, folder / "run")
    fit(shop_source, folder / "other", seed=1)
    return folder


@pytest.fixture
def finished(source: Path, tmp_path: Path) -> Path:
    """A copy of a finished run."""
    return Path(shutil.copytree(source / "run", tmp_path / "run"))


@pytest.mark.parametrize(
    ("settings", "model", "resume", "message"),
    [
        ({}, "alterrec", False, "is not empty"),
        ({"optim.lr": 0.5}, "alterrec", True, r"optim\.lr was 0\.01, now 0\.5"),
        ({"model.dim": 16}, "alterrec", True, r"model\.dim was 8, now 16"),
        ({"schedule.epochs": 9, "run.seed": 3}, "alterrec", True, r"run\.seed was 0, now 3.*Only .*patience"),
        ({"schedule.epochs": 9, "schedule.gap": 2}, "alterrec", True, r"schedule\.gap was 1, now 2"),
        ({}, "independent", True, "model_name was 'alterrec', now 'independent'"),
        ({"schedule.epochs": 3, "schedule.warmup": 1}, "alterrec", True, r"schedule\.warmup"),
        ({"schedule.epochs": 4, "window.last": 400}, "alterrec", True, r"window\.last"),
    ],
)
def test_a_refused_command_changes_nothing_in_a_finished_run(
    shop_source: Path,
    finished: Path,
    settings: dict[str, Any],
    model: str,
    resume: bool,
    message: str,
) -> None:
    before = files_of(finished)
    with pytest.raises(InputError, match=message):
        fit(shop_source, finished, model, overrides=settings, resume=resume)
    assert files_of(finished) == before


def test_fewer_epochs_than_are_trained_are_refused(shop_source: Path, finished: Path) -> None:
    fit(shop_source, finished, overrides={"schedule.epochs": 6}, resume=True)
    before = files_of(finished)
    with pytest.raises(InputError, match=r"schedule\.epochs is 5, but 6 epochs are trained already"):
        fit(shop_source, finished, overrides={"schedule.epochs": 5}, resume=True)
    assert files_of(finished) == before


def test_other_data_are_refused_and_change_nothing(shop: Path, source: Path, tmp_path: Path) -> None:
    finished = Path(shutil.copytree(source / "run", tmp_path / "run"))
    lines = (shop / "train.csv").read_text("utf-8").splitlines()
    (shop / "train.csv").write_text("\n".join(lines[:-4]) + "\n", "utf-8")
    before = files_of(finished)
    for checkpoint in (True, False):
        if not checkpoint:
            shutil.rmtree(finished / "checkpoint")
        with pytest.raises(InputError, match="other data"):
            fit(shop, finished, resume=True, overrides={"schedule.epochs": 6})
    assert {**files_of(finished), CHECKPOINT: before[CHECKPOINT]} == before


def test_resuming_a_finished_run_changes_nothing(shop_source: Path, finished: Path) -> None:
    before, events = files_of(finished), list[Event]()
    run = fit(shop_source, finished, resume=True, progress=events.append)
    assert files_of(finished) == before
    assert any("has finished already" in event.message for event in events)
    assert run.result == json.loads(before["result.json"])
    shutil.rmtree(finished / "checkpoint")
    fit(shop_source, finished, resume=True)
    with pytest.raises(InputError, match="no checkpoint to resume from, because its run has finished"):
        fit(shop_source, finished, resume=True, overrides={"schedule.epochs": 6})


def test_resuming_a_run_that_was_killed_after_its_result_tidies_up(shop_source: Path, tmp_path: Path) -> None:
    """A kill between the move of the result and the end leaves a lock, temporary files and no page."""
    fit(shop_source, tmp_path / "run", overrides={"run.report": True})
    whole = files_of(tmp_path / "run")
    (tmp_path / "run" / "train.lock").write_text(
        json.dumps(this_process() | {"started": "long ago"}), "utf-8"
    )
    (tmp_path / "run" / files._temporary(Path("result.json")).name).write_text("half", "utf-8")
    (tmp_path / "run" / "report.html").unlink()
    fit(shop_source, tmp_path / "run", overrides={"run.report": True}, resume=True)
    assert files_of(tmp_path / "run").keys() == whole.keys()


def test_a_finished_run_is_extended_to_one_of_so_many_epochs(
    shop_source: Path, finished: Path, tmp_path: Path
) -> None:
    longer = {"schedule.epochs": 7, "schedule.patience": 9}
    extended = fit(shop_source, finished, resume=True, overrides=longer)
    fit(shop_source, tmp_path / "whole", overrides=longer)
    assert extended.result["epochs"] == 7
    assert comparable_files(finished) == comparable_files(tmp_path / "whole")
    check_manifest(finished, contents=True)


def test_a_killed_extension_leaves_the_finished_run(shop_source: Path, finished: Path) -> None:
    before = files_of(finished)
    longer = {"schedule.epochs": 8}
    with pytest.raises(RuntimeError):
        fit(shop_source, finished, resume=True, overrides=longer, progress=stopping("step", 6, RuntimeError))
    kept = files_of(finished)
    assert {name for name in before if kept[name] != before[name]} == {CHECKPOINT}
    assert alterrec.load(finished).recommend([["i1"]], k=2)
    assert fit(shop_source, finished, resume=True).result == json.loads(before["result.json"])
    assert fit(shop_source, finished, resume=True, overrides=longer).result["epochs"] == 8


def test_keys_that_may_change_bound_a_run_or_say_where_it_is_executed() -> None:
    assert changeable_keys() == {
        *("schedule.epochs", "schedule.patience", "run.device", "run.memory_budget"),
        *("run.baselines", "run.report", "run.checkpoint_every", "run.shard_items"),
    }


@pytest.mark.parametrize("resume", [False, True])
@pytest.mark.parametrize("checkpoint_folder", [False, True])
def test_a_start_that_was_killed_before_its_first_checkpoint_begins_anew(
    shop_source: Path, source: Path, tmp_path: Path, resume: bool, checkpoint_folder: bool
) -> None:
    out = tmp_path / "run"
    with pytest.raises(RuntimeError):
        fit(shop_source, out, progress=stopping("step", 1, RuntimeError))
    assert kind_of(out) == "started"
    # What a process leaves that is killed while it writes.
    (out / ".recipe.0badcafe.toml").write_text("")
    if checkpoint_folder:
        (out / "checkpoint").mkdir()
        (out / "checkpoint" / ".progress.0badcafe-1.0badcafe.safetensors").write_text("")
    with pytest.raises(InputError, match=r"is not empty|optim.lr was"):
        fit(shop_source, out, resume=resume, overrides={"optim.lr": 0.5})
    events = list[Event]()
    fit(shop_source, out, resume=resume, progress=events.append)
    assert any("was stopped before its first checkpoint; it starts again" in each.message for each in events)
    assert comparable_files(out) == comparable_files(source / "run")
    assert not list(out.rglob(".*"))
    assert not (out / RUN_LOCK).exists()


@pytest.mark.parametrize("exists", [False, True])
def test_ctrl_c_in_the_first_epoch_leaves_nothing_behind(
    shop_source: Path, tmp_path: Path, exists: bool
) -> None:
    out = tmp_path / "runs" / "mine"
    if exists:
        out.mkdir(parents=True)
    with pytest.raises(KeyboardInterrupt) as stopped:
        fit(shop_source, out, progress=stopping("step", 1))
    assert str(stopped.value) == ""
    assert out.exists() == exists
    assert not exists or not list(out.iterdir())
    assert fit(shop_source, out, resume=True).result["epochs"] == 4


def test_ctrl_c_with_a_checkpoint_but_no_best_epoch_says_that_resume_continues(
    shop_source: Path, source: Path, tmp_path: Path
) -> None:
    out = tmp_path / "run"
    settings = {"run.checkpoint_every": 1e-9}
    taken = 0

    def listen(event: Event) -> None:
        nonlocal taken
        taken += event.kind == "step"
        if taken == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt, match="has its last checkpoint; --resume continues"):
        fit(shop_source, out, overrides=settings, progress=listen)
    events = list[Event]()
    fit(shop_source, out, resume=True, progress=events.append)
    assert any("resumed after epoch 0, within epoch 1" in each.message for each in events)
    assert comparable_files(out) == comparable_files(source / "run")


def test_ctrl_c_in_the_evaluation_writes_what_there_is_and_resume_finishes_it(
    shop_source: Path, source: Path, tmp_path: Path
) -> None:
    out, interruptions = tmp_path / "run", list[Event]()

    def listen(event: Event) -> None:
        if event.message.startswith("measuring") and not interruptions:
            interruptions.append(event)
            raise KeyboardInterrupt

    run = fit(shop_source, out, progress=listen)
    assert (run.stopped, run.result["epochs"]) == ("interrupted", 4)
    assert alterrec.load(out).recommend([["i1"]], k=2)
    assert fit(shop_source, out, resume=True).stopped == "finished"
    assert comparable_files(out) == comparable_files(source / "run")


def test_a_run_killed_in_its_evaluation_resumes_to_the_same_files(tmp_path: Path) -> None:
    """With the repeat component, whose scales are fitted after each epoch and are not in the checkpoint."""
    data = returning_dataset()

    def listen(event: Event) -> None:
        if event.message.startswith("choosing the weights"):
            raise RuntimeError

    fit(data, tmp_path / "whole")
    with pytest.raises(RuntimeError):
        fit(data, tmp_path / "killed", progress=listen)
    fit(data, tmp_path / "killed", resume=True)
    assert read_run(tmp_path / "whole").result.data.seen == "repeats"
    assert comparable_files(tmp_path / "killed") == comparable_files(tmp_path / "whole")


def test_a_damaged_recipe_is_written_again_by_resume(shop_source: Path, finished: Path) -> None:
    before = comparable_files(finished)
    for text in ("[", "model_name = 'sasrec'"):
        (finished / "recipe.toml").write_text(text, "utf-8")
        with pytest.raises(InputError, match="finish the run with --resume"):
            alterrec.load(finished)
        fit(shop_source, finished, resume=True)
        assert comparable_files(finished) == before


def test_a_folder_with_other_files_is_left_alone(shop_source: Path, tmp_path: Path) -> None:
    out = tmp_path / "mine"
    out.mkdir()
    (out / "notes.txt").write_text("keep")
    for resume in (False, True):
        with pytest.raises(InputError, match=r"is not empty|no checkpoint to resume from"):
            fit(shop_source, out, resume=resume)
    assert files_of(out) == {"notes.txt": b"keep"}


def test_a_run_that_is_being_written_is_refused(shop_source: Path, finished: Path, tmp_path: Path) -> None:
    for out in (finished, tmp_path / "new"):
        lock = LockFile.try_acquire(out / RUN_LOCK)
        assert lock is not None
        before = files_of(out)
        with pytest.raises(InputError, match="another training is writing in"):
            fit(shop_source, out, resume=True, overrides={"schedule.epochs": 6})
        assert files_of(out) == before
        lock.release()


def test_a_run_that_was_taken_over_stops(
    shop_source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("alterrec.locks.TOUCH_SECONDS", 0.0)
    out = tmp_path / "run"

    def listen(event: Event) -> None:
        if (event.kind, event.epoch) == ("step", 3):
            (out / RUN_LOCK).write_text("somebody else", "utf-8")

    with pytest.raises(InputError, match="another process has taken over"):
        fit(shop_source, out, progress=listen)
    assert (out / RUN_LOCK).read_text("utf-8") == "somebody else"
    assert not (out / "result.json").exists()


# The manifest.


def swap(run: Path, other: Path, name: str) -> None:
    shutil.copyfile(other / name, run / name)


def damages() -> Iterator[tuple[str, Callable[[Path, Path], None]]]:
    for name in ROLES:
        # Both runs have the same items.
        if name not in ("users.parquet", "recipe.toml", "vocabulary.parquet", "encoder.safetensors"):
            yield f"{name} of another run", lambda run, other, name=name: swap(run, other, name)
            yield f"no {name}", lambda run, other, name=name: (run / name).unlink()
    yield (
        "reversed vocabulary",
        lambda run, other: (
            pl.read_parquet(run / "vocabulary.parquet").reverse().write_parquet(run / "vocabulary.parquet")
        ),
    )
    yield (
        "nothing trained",
        lambda run, other: (
            pl.read_parquet(run / "vocabulary.parquet")
            .with_columns(trained=pl.lit(False))
            .write_parquet(run / "vocabulary.parquet")
        ),
    )
    yield (
        "other settings",
        lambda run, other: (run / "recipe.toml").write_text(
            (run / "recipe.toml").read_text("utf-8").replace("alpha = 0.5", "alpha = 0.6"), "utf-8"
        ),
    )
    yield (
        "users of nobody",
        lambda run, other: pl.DataFrame({"user_id": ["u"]}).write_parquet(run / "users.parquet"),
    )
    yield "no manifest", lambda run, other: (run / "manifest.json").unlink()
    yield "no JSON", lambda run, other: (run / "manifest.json").write_text("{")
    yield (
        "a path",
        lambda run, other: (run / "manifest.json").write_text(
            (run / "manifest.json").read_text("utf-8").replace("recipe.toml", "../recipe.toml"), "utf-8"
        ),
    )


@pytest.mark.parametrize("damage", [each for _, each in damages()], ids=[name for name, _ in damages()])
def test_files_that_do_not_belong_together_are_refused(
    finished: Path, source: Path, damage: Callable[[Path, Path], None]
) -> None:
    damage(finished, source / "other")
    for use in (alterrec.load, evaluate_run, alterrec.result):
        with pytest.raises(InputError):
            use(finished)


def test_weights_that_were_exchanged_in_place_are_refused(finished: Path) -> None:
    """The same header and the same size: only the last value of the last tensor is another."""
    path = finished / "model.safetensors"
    content = path.read_bytes()
    path.write_bytes(content[:-4] + bytes(byte ^ 1 for byte in content[-4:]))
    with pytest.raises(InputError, match=r"has another content than manifest.json says"):
        alterrec.load(finished)


def test_a_changed_byte_of_a_large_file_is_found_by_its_content(
    alterrec_: Command, finished: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # As if the file was too large to be hashed as a whole on every load.
    monkeypatch.setattr("alterrec.manifest._SMALL", 1000)
    monkeypatch.setattr("alterrec.manifest._END", 64)
    monkeypatch.setattr("alterrec.manifest._BLOCK", 2)
    from alterrec.manifest import write_manifest

    (finished / "manifest.json").unlink()
    write_manifest(finished)
    path = finished / "ranks.parquet"
    content = bytearray(path.read_bytes())
    content[90] ^= 1
    path.write_bytes(content)
    check_manifest(finished)
    with pytest.raises(InputError, match=r"ranks.parquet has another content"):
        check_manifest(finished, contents=True)
    code, _, err = alterrec_("verify", finished)
    assert code == 2
    assert "ranks.parquet has another content" in err


@pytest.fixture
def alterrec_(alterrec: Command) -> Command:
    """The command line; the name `alterrec` is that of the package here."""
    return alterrec


def test_verify_lists_the_files_of_a_run(alterrec_: Command, finished: Path) -> None:
    code, out, err = alterrec_("verify", finished)
    assert (code, err) == (0, "")
    assert all(name in out for name in ("model.safetensors", "weights", "vocabulary.parquet", "result.json"))
    code, out, _ = alterrec_("verify", finished, "--json")
    assert json.loads(out)["files"].keys() == files_of(finished).keys() - {"manifest.json", CHECKPOINT}


def test_verify_says_that_a_run_of_an_earlier_version_has_no_manifest(alterrec_: Command) -> None:
    code, _, err = alterrec_("verify", Path(__file__).parents[1] / "data" / "runs" / "alterrec")
    assert code == 2
    assert "has no manifest.json" in err


def test_pages_are_not_part_of_the_manifest(alterrec_: Command, finished: Path) -> None:
    assert alterrec_("balance", finished)[0] == 0
    (finished / "report.html").write_text("another page")
    assert alterrec_("verify", finished)[0] == 0
    assert alterrec_("compare", finished, finished)[0] in (0, 2)
    assert read_run(finished).result.manifest


def test_a_run_whose_files_were_replaced_halfway_is_refused_and_finished_by_resume(
    shop_source: Path, finished: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    replace, moved = os.replace, 0

    def failing(source: Path, target: Path) -> None:
        nonlocal moved
        if Path(target).parent == finished:
            moved += 1
            if moved == 3:
                raise RuntimeError("killed")
        replace(source, target)

    longer = {"schedule.epochs": 6}
    monkeypatch.setattr(files.os, "replace", failing)
    with pytest.raises(RuntimeError):
        fit(shop_source, finished, resume=True, overrides=longer)
    monkeypatch.setattr(files.os, "replace", replace)
    with pytest.raises(InputError, match=r"manifest.json says"):
        alterrec.load(finished)
    assert fit(shop_source, finished, resume=True, overrides=longer).result["epochs"] == 6
    assert check_manifest(finished, contents=True)


def test_the_metadata_of_a_model_are_in_one_order(source: Path) -> None:
    for name in ("run", "other"):
        content = (source / name / "model.safetensors").read_bytes()
        header = json.loads(content[8 : 8 + int.from_bytes(content[:8], "little")])
        assert list(header["__metadata__"]) == sorted(header["__metadata__"])


# Signals, limits and permissions, in processes of their own.


@pytest.fixture(scope="module")
def forks(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with server(tmp_path_factory.mktemp("forks")) as started:
        yield started


def arguments(shop: Path, out: Path, *more: str) -> list[str]:
    return ["train", "alterrec", f"--data={shop}", f"--out={out}", "--set=schedule.epochs=4", *SMALL, *more]


def test_of_two_trainings_in_one_folder_the_second_is_refused(
    shop_source: Path, tmp_path: Path, forks: Server
) -> None:
    out = tmp_path / "run"
    for attempt in range(2):
        processes = [
            forks.start(run=arguments(shop_source, out, f"--seed={seed}"), log=str(tmp_path / f"log{seed}"))
            for seed in (0, 1)
        ]
        codes = [forks.wait(process) for process in processes]
        assert sorted(codes) == [0, 2], attempt
        refused = (tmp_path / f"log{codes.index(2)}").read_text("utf-8")
        assert re.search("another training is writing in|is not empty|has changed .* meanwhile", refused)
        assert read_run(out).result.seed == codes.index(0)
        shutil.rmtree(out)


@pytest.mark.parametrize(("number", "code"), [("SIGTERM", 143), ("SIGHUP", 129), ("SIGINT", 130)])
def test_a_signal_ends_a_training_with_the_best_so_far(
    shop_source: Path, tmp_path: Path, forks: Server, number: str, code: int
) -> None:
    out, log = tmp_path / "run", tmp_path / "log"
    long = ("--set=schedule.epochs=20000", "--set=schedule.patience=20000")
    command = [each for each in arguments(shop_source, out) if "epochs" not in each]
    process = forks.start(run=[*command, *long], log=str(log))
    until = time.monotonic() + 60
    while not (log.exists() and "epoch 5/" in log.read_text("utf-8")):
        assert time.monotonic() < until, log.read_text("utf-8")
        time.sleep(0.02)
    sent = time.monotonic()
    os.kill(process, getattr(signal, number))
    assert forks.wait(process) == code
    assert time.monotonic() - sent < 10
    said = log.read_text("utf-8")
    assert "the run folder has the best epoch so far; --resume continues" in said
    assert "Traceback" not in said
    result = read_run(out).result
    assert result.stopped == "interrupted"
    assert check_manifest(out, contents=True)
    assert not (out / RUN_LOCK).exists()


def test_without_time_for_results_sigterm_leaves_the_checkpoint(
    shop_source: Path, tmp_path: Path, forks: Server
) -> None:
    """As if choosing the weights took minutes."""
    code = (
        "import sys, time\n"
        "from alterrec import signals\n"
        "signals.GRACE_SECONDS = 0.3\n"
        "from alterrec.runs import fit\n"
        "fit._finish = lambda *arguments: time.sleep(60)\n"
        "from alterrec.__main__ import main\n"
        "main()\n"
    )
    out = tmp_path / "run"
    command = [each for each in arguments(shop_source, out) if "epochs" not in each]
    command += ["--set=schedule.epochs=20000", "--set=schedule.patience=20000"]
    with subprocess.Popen(
        [sys.executable, "-c", code, *command], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        for line in process.stdout:
            if line.startswith("epoch 2/"):
                process.terminate()
                break
        _, err = process.communicate(timeout=60)
    assert process.returncode == 143
    assert "what was finished by then is kept" in err
    assert kind_of(out) == "unfinished"
    epochs = len(checkpoint_epochs(out / CHECKPOINT))
    shorter = [each for each in command if "epochs" not in each] + [f"--set=schedule.epochs={epochs + 4}"]
    resumed, said = forks.run(*shorter, "--resume")
    assert resumed == 0, said


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_while_modules_are_imported_ends_without_a_traceback(
    shop_source: Path, tmp_path: Path, number: int, code: int
) -> None:
    command = [sys.executable, "-m", "alterrec", *arguments(shop_source, tmp_path / "run")]
    for delay in (0.25, 0.6, 1.2):
        with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
            time.sleep(delay)
            process.send_signal(number)
            _, err = process.communicate(timeout=60)
        assert process.returncode == code
        assert "Traceback" not in err
        assert err in ("stopped before there was a result\n",)


@pytest.mark.parametrize("limit", [1, 600, 3000, 9000])
def test_a_full_disk_leaves_what_there_was(
    shop_source: Path, source: Path, tmp_path: Path, forks: Server, limit: int
) -> None:
    out = tmp_path / "new"
    code, said = forks.run(*arguments(shop_source, out), limit=limit)
    assert code == 2, said
    assert "raise the limit (ulimit -f)" in said
    assert "Traceback" not in said
    code, said = forks.run(*arguments(shop_source, out, "--resume"))
    assert code == 0, said
    assert comparable_files(out) == comparable_files(source / "run")
    # A finished run is extended, but there is no room for it.
    before = comparable_files(out)
    code, said = forks.run(
        *arguments(shop_source, out, "--resume"), "--set=schedule.patience=50", limit=limit
    )
    assert code == 2, said
    assert comparable_files(out) == before
    check_manifest(out, contents=True)


@pytest.mark.parametrize("command", ["train", "resume"])
def test_a_read_only_folder_is_wrong_input(
    shop_source: Path, source: Path, tmp_path: Path, forks: Server, command: str
) -> None:
    parent = tmp_path / "read_only"
    if command == "resume":
        shutil.copytree(source / "run", parent / "run")
    parent.mkdir(exist_ok=True)
    for folder in (parent, *(path for path in parent.rglob("*") if path.is_dir())):
        folder.chmod(0o555)
    more = ["--resume", "--set=schedule.patience=50"] if command == "resume" else []
    code, said = forks.run(*arguments(shop_source, parent / "run", *more), unprivileged=True)
    assert code == 2, said
    assert "no permission" in said or "cannot be written" in said
    assert "Traceback" not in said

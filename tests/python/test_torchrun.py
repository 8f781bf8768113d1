"""Commands under torchrun: one log, one folder, and what is left when a process is killed."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import pytest
from conftest import Outcome

import alterrec as package

SETTINGS = (
    *("--set=model.dim=8", "--set=optim.batch_size=64", "--set=run.threads=1", "--set=run.report=false"),
    *("--set=schedule.epochs=20", "--set=schedule.patience=20", "--set=run.baselines=false"),
)


def torchrun(processes: int, *command: object, restarts: int = 0) -> list[str]:
    launcher = [sys.executable, "-m", "torch.distributed.run", "--standalone", f"--max-restarts={restarts}"]
    return [*launcher, f"--nproc-per-node={processes}", "-m", "alterrec", *map(str, command)]


def started(command: list[str]) -> subprocess.Popen[str]:
    environment = os.environ | {"PYTHONPATH": str(Path(package.__file__).parents[1])}
    return subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment
    )


def outcome(command: list[str]) -> tuple[int, str, str]:
    process = started(command)
    out, err = process.communicate(timeout=200)
    return process.returncode, out, err


def process_of(launcher: subprocess.Popen[str], rank: int) -> int:
    """The number of the process of a rank."""
    children = Path(f"/proc/{launcher.pid}/task/{launcher.pid}/children").read_text("utf-8").split()
    ranks = {f"RANK={rank}".encode(): int(child) for child in children for rank in environment_rank(child)}
    return ranks[f"RANK={rank}".encode()]


def environment_rank(process: str) -> list[int]:
    values = Path(f"/proc/{process}/environ").read_bytes().split(b"\0")
    return [int(value[5:]) for value in values if value.startswith(b"RANK=")]


def wait_for_an_epoch(run: Path, since: int = 0) -> int:
    """Wait for a checkpoint that is younger than a time in nanoseconds, and return its time."""
    path, deadline = run / "checkpoint" / "progress.safetensors", time.monotonic() + 100
    while True:
        with suppress(FileNotFoundError):
            if (written := path.stat().st_mtime_ns) > since:
                return written
        assert time.monotonic() < deadline
        time.sleep(0.02)


def losses(run: Path) -> list[float]:
    return [json.loads(line)["loss"] for line in (run / "curves.jsonl").read_text("utf-8").splitlines()]


@pytest.mark.skipif(not Path("/proc/self/environ").exists(), reason="processes are found in /proc")
def test_killed_processes_end_the_job_and_one_process_continues(
    shop: Path, tmp_path: Path, alterrec: Callable[..., Outcome]
) -> None:
    """Torchrun starts both again once, and then gives up."""
    run = tmp_path / "run"
    train = ["train", "sasrec", "--data", shop, "--out", run, *SETTINGS, "--resume"]
    launcher = started(torchrun(2, *train, restarts=1))
    wait_for_an_epoch(run)
    os.kill(process_of(launcher, 1), signal.SIGKILL)
    wait_for_an_epoch(
        run, since=time.time_ns() + 10**9
    )  # a moment in which those that are killed still write
    os.kill(process_of(launcher, 1), signal.SIGKILL)
    killed = time.monotonic()
    out, err = launcher.communicate(timeout=60)
    assert time.monotonic() - killed < 30  # not the two hours that a collective waits
    assert launcher.returncode == 1
    assert err.count("error: another process of this job has ended; the same command with --resume") == 2
    assert (out.count("epoch 1/20"), out.count("resumed after epoch")) == (1, 1)
    assert not (run / "result.json").exists()

    # The folder is not locked, and what it has is a checkpoint of both.
    continued = alterrec(*train)
    assert (continued.code, continued.out.count("resumed after epoch")) == (0, 1), continued.err
    result = json.loads((run / "result.json").read_text("utf-8"))
    assert (result["processes"], result["epochs"]) == (1, 20)
    train[train.index(run)] = tmp_path / "alone"
    assert alterrec(*train).code == 0
    assert losses(run) == pytest.approx(losses(tmp_path / "alone"), rel=1e-3)


@pytest.mark.torture
@pytest.mark.skipif(not Path("/proc/self/environ").exists(), reason="processes are found in /proc")
def test_one_of_four_is_killed_whenever(shop: Path, tmp_path: Path) -> None:
    """Torchrun starts all again, or 1, 2 or 4 processes continue later; with ALTERREC_RANK_KILLS jobs.

    Half of the jobs divide the item tables, and some of these continue with whole ones.
    """
    moments = random.Random(5)
    train = ["train", "sasrec", "--data", shop, *SETTINGS, "--resume", "--out"]
    assert outcome([sys.executable, "-m", "alterrec", *map(str, train), str(tmp_path / "alone")])[0] == 0
    for turn in range(int(os.environ.get("ALTERREC_RANK_KILLS", 4))):
        run, restarts = tmp_path / f"{turn}", turn % 2
        division = ["--set=run.shard_items=true"] if turn % 4 in (1, 2) else []
        launcher = started(torchrun(4, *train, run, *division, restarts=restarts))
        wait_for_an_epoch(run)
        time.sleep(moments.uniform(0, 2))
        with suppress(FileNotFoundError, KeyError):  # the job is over
            os.kill(process_of(launcher, moments.randrange(4)), signal.SIGKILL)
        _, err = launcher.communicate(timeout=200)
        if not restarts and launcher.returncode:
            division = division if turn % 8 == 2 else []
            code, _, err = outcome(torchrun((1, 2, 4)[turn // 2 % 3], *train, run, *division))
            assert code == 0, err
        else:
            assert launcher.returncode == 0, err
        assert losses(run) == pytest.approx(losses(tmp_path / "alone"), rel=1e-3)


def test_other_commands_refuse_torchrun(shop: Path, tmp_path: Path) -> None:
    code, out, err = outcome(torchrun(2, "audit", "--data", shop))
    assert (code, out) == (1, "")  # torchrun's own exit code
    assert err.count("error: ") == err.count("error: audit runs in one process, but torchrun started 2") == 1


@pytest.mark.parametrize("rate", ["0.01", pytest.param("1e30", id="diverges", marks=pytest.mark.torture)])
def test_a_study_whose_runs_have_several_processes(shop: Path, tmp_path: Path, rate: str) -> None:
    command = ["study", "table1", "--data", shop, "--out", tmp_path / "out", "--only=sasrec", "--seeds=1"]
    command += [
        "--processes=2",
        "--set=model.dropout=0.1",
        f"--set=optim.lr={rate}",
        "--set=schedule.epochs=1",
    ]
    code, out, _ = outcome([sys.executable, "-m", "alterrec", *map(str, command), *SETTINGS[:3]])
    results = list(tmp_path.glob("study-runs/*/result.json"))
    if rate == "1e30":
        # A setting that does not work is a result; a failure of ours would be exit code 1.
        assert (code, results) == (0, [])
        assert "failed: training diverged: the loss is nan in epoch 1; lower optim.lr (now 1e+30)" in out
    else:
        assert (code, len(results)) == (0, 1)
        assert json.loads(results[0].read_text("utf-8"))["processes"] == 2

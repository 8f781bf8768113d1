"""Studies carried out: real runs in processes of their own, kept, shared, stopped and gone on with."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from conftest import Outcome

import alterrec as package
from alterrec.studies.longtail import groups_of
from alterrec.studies.queue import RunQueue, StudyRun
from alterrec.study_records import read_study

Command = Callable[..., Outcome]


@pytest.fixture(autouse=True)
def runs_find_the_package(monkeypatch: pytest.MonkeyPatch) -> None:
    """From any folder, also where the tests run from the source tree by a relative path."""
    monkeypatch.setenv("PYTHONPATH", str(Path(package.__file__).parents[1]))


# One training of the shop takes about a second beside the start of its process.
SMALL = ("--set=model.dim=8", "--set=schedule.epochs=3", "--set=optim.batch_size=64", "--set=run.threads=1")
RATE = "--set=optim.lr=0.01"
FIXED = (RATE, "--set=text.dropout=0.1")


def study(*arguments: object) -> list[str]:
    """The command line of a study in a process of its own."""
    return [sys.executable, "-m", "alterrec", "study", "table1", *map(str, arguments)]


def facts(out: Path) -> dict[str, Any]:
    return {row["model"]: row for row in json.loads((out / "study.json").read_text("utf-8"))["rows"]}


def lines(out: str, ending: str) -> list[str]:
    """Labels of the runs of which a line says so."""
    return [line.split(": ")[0] for line in out.splitlines() if ending in line]


def results(out: Path) -> dict[str, int]:
    """When each finished run was written."""
    return {path.parent.name: path.stat().st_mtime_ns for path in out.parent.glob("study-runs/*/result.json")}


def test_a_study_searches_measures_writes_and_is_kept(alterrec: Command, shop: Path, tmp_path: Path) -> None:
    asked = ["--data", shop, "--out", tmp_path / "out", "--only=id_only", "--only=itemknn", "--seeds=2"]
    asked += SMALL
    code, out, err = alterrec("study", "table1", *asked)
    assert (code, err) == (0, "")
    # Two learning rates, the second seed of the better one, and one that counts.
    assert "4 runs, 0 finished; 4 to go, roughly" in out
    assert len(lines(out, ": started")) == 4
    assert "about" in out
    assert out.splitlines()[-1] == str(tmp_path / "out")
    rows = facts(tmp_path / "out")
    values = {run["setting"]["optim.lr"]: run["validation"] for run in rows["id_only"]["tried"]}
    (chosen,) = (run for run in rows["id_only"]["tried"] if run["chosen"])
    assert chosen["validation"] == max(values.values())
    assert [run["seed"] for run in rows["id_only"]["runs"]] == [0, 1]
    assert rows["id_only"]["runs"][0]["parameters"] > 30 * 8
    assert {path.name for path in (tmp_path / "out").iterdir()} == {
        *("study.json", "table1.md", "report.html", "figures"),
        *(
            f"{name}.{kind}"
            for name in ("table1", "own_items", "cost", "search", "versions")
            for kind in ("csv", "tex")
        ),
    }
    assert not list(tmp_path.rglob("*.lock"))
    assert not list(tmp_path.rglob("checkpoint"))
    before = results(tmp_path / "out")
    again = alterrec("study", "table1", *asked, "--only=popularity")
    assert "5 runs, 4 finished; 1 to go, about" in again.out
    assert lines(again.out, ": started") == ["popularity, seed 0"]
    assert before.items() <= results(tmp_path / "out").items()


def test_what_cannot_work_on_the_data_is_not_applicable(
    alterrec: Command, shop: Path, tmp_path: Path
) -> None:
    rows = (shop / "items.csv").read_text("utf-8").splitlines()
    (shop / "items.csv").write_text("\n".join(line.split(",")[0] for line in rows) + "\n", "utf-8")
    code, out, _ = alterrec(
        *("study", "imbalance", "--data", shop, "--out", tmp_path / "out", "--quick", *SMALL),
    )
    assert code == 0
    assert lines(out, ": started") == ["id_only, seed 0"]
    assert "N/A: model 'text_only' reads item text, but the data has none" in out
    rows = {
        row["model"]: row for row in json.loads((tmp_path / "out" / "study.json").read_text("utf-8"))["rows"]
    }
    assert rows["text_only"]["refused"]
    assert rows["text_only"]["reason"].startswith("model 'text_only' reads item text")
    alone = alterrec(
        "study", "table1", "--data", shop, "--out", tmp_path / "none", "--only=text_only", *FIXED
    )
    assert alone.code == 2
    assert "text_only: model 'text_only' reads item text" in alone.err


def test_a_run_that_breaks_stops_no_other(
    alterrec: Command, shop: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = RunQueue.command

    def broken(self: RunQueue, run: StudyRun) -> list[str]:
        if run.recipe.model_name == "itemknn":
            return [sys.executable, "-c", "raise SystemExit('boom')"]
        return whole(self, run)

    monkeypatch.setattr(RunQueue, "command", broken)
    asked = ["--data", shop, "--out", tmp_path / "out", "--quick", "--only=itemknn", "--only=popularity"]
    code, _, err = alterrec("study", "table1", *asked)
    assert code == 1
    assert err == "failed: itemknn, seed 0: exit code 1: boom\n"
    assert facts(tmp_path / "out")["itemknn"]["reason"] == "exit code 1: boom"
    assert facts(tmp_path / "out")["popularity"]["runs"]
    monkeypatch.undo()
    os.chdir(tmp_path)
    assert lines(alterrec("study", "table1", *asked).out, ": started") == ["itemknn, seed 0"]


@pytest.mark.parametrize(
    ("arguments", "parts"),
    [
        (["tabel1"], ["'tabel1' is unknown", "did you mean 'table1'"]),
        (["table1", "--seeds", "0"], ["--seeds is 0", "1 or more"]),
        (["table1", "--jobs", "0"], ["--jobs is 0", "1 or more"]),
        (["table1", "--only", "alterec"], ["'alterec'", "did you mean 'alterrec'"]),
        (["table1", "--set", "run.seed=1"], ["run.seed", "--seeds N"]),
        (["table1", "--set", "schedule.gapp=1"], ["did you mean 'schedule.gap'"]),
        (["table1", "--reference", "sasrec"], ["table1 has no option --reference", "longtail"]),
        (["longtail", "--reference", "sasrc"], ["'sasrc'", "did you mean 'sasrec'"]),
        (["table1", "--preset", "papr"], ["did you mean 'paper'"]),
        (["table1", "--data", "nowhere"], ["nowhere", "no such folder"]),
    ],
)
def test_wrong_options_of_a_study(
    alterrec: Command, tmp_path: Path, arguments: list[str], parts: list[str]
) -> None:
    code, out, err = alterrec("study", *arguments)
    assert (code, out) == (2, "")
    assert all(part in err for part in parts), err
    assert list(tmp_path.iterdir()) == []


def test_a_given_reference_is_run_and_compared(alterrec: Command, shop: Path, tmp_path: Path) -> None:
    code, out, err = alterrec(
        *("study", "longtail", "--data", shop, "--out", tmp_path / "out", "--quick", *SMALL),
        *("--only=sasrec", "--reference=popularity"),
    )
    assert (code, err) == (0, "")
    found = read_study(tmp_path / "out")
    assert [each.label for each in found.rows] == ["sasrec", "popularity"]
    assert found.reference == "popularity"
    assert {each.baseline for each in found.comparisons} == {"popularity"}
    assert {each.group for each in found.comparisons} == {"", *(group.name for group in groups_of(found))}
    assert "sasrec minus popularity in NDCG@20: all targets" in out


def test_fusion_from_end_to_end(alterrec: Command, shop: Path, tmp_path: Path) -> None:
    code, out, err = alterrec(
        *("study", "fusion", "--data", shop, "--out", tmp_path / "out", "--quick", *SMALL),
        *("--only=nfrec_concat", "--only=id_only", "--only=text_only"),
    )
    assert (code, err) == (0, "")
    assert "fusion on shop: 3 rows" in out
    assert "Is fusion in NFRec-concat better than its better part? " in out
    found = read_study(tmp_path / "out")
    assert found.complete
    assert {(each.system, each.baseline) for each in found.comparisons} == {
        ("nfrec_concat", "id_only"),
        ("nfrec_concat", "text_only"),
        ("text_only", "id_only"),
    }
    assert (tmp_path / "out" / "figures" / "gains.svg").exists()


def wait_for(what: Callable[[], object], seconds: float = 200.0) -> None:
    until = time.monotonic() + seconds
    while not what():
        assert time.monotonic() < until, "it never came"
        time.sleep(0.05)


@contextmanager
def at_work(command: list[str]) -> Iterator[subprocess.Popen[str]]:
    """The command in a process of its own, which ends with the test if not before."""
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        try:
            yield process
        finally:
            process.kill()


def short_and_long(shop: Path, out: Path) -> list[str]:
    """A study of one run that is over at once and one that takes an hour."""
    command = study("--data", shop, "--out", out, "--only=alterrec", "--only=popularity", "--seeds=1")
    command += [*FIXED, *SMALL, "--set=schedule.patience=20000"]
    return [
        "--set=schedule.epochs=20000" if part.startswith("--set=schedule.epochs") else part
        for part in command
    ]


def log_of(out: Path, model: str) -> str:
    found = list(out.parent.glob(f"study-runs/{model}-*.log"))
    return found[0].read_text("utf-8") if found else ""


def children_of(process: int) -> list[int]:
    return [
        int(child) for child in Path(f"/proc/{process}/task/{process}/children").read_text("utf-8").split()
    ]


@pytest.mark.torture
@pytest.mark.skipif(not Path("/proc/self/task").exists(), reason="children are found in /proc")
def test_a_killed_study_loses_nothing_and_leaves_nothing_at_work(shop: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    command = short_and_long(shop, out)
    with at_work([*command, "--jobs=2"]) as process:
        wait_for(lambda: results(out) and "epoch 2/" in log_of(out, "alterrec"))
        wait_for(lambda: len(children_of(process.pid)) == 1)
        (child,) = children_of(process.pid)
        process.kill()
    wait_for(lambda: not Path(f"/proc/{child}").exists())
    finished = results(out)
    assert list(out.parent.glob("study-runs/alterrec-*.lock"))
    with at_work(command) as process:
        wait_for(lambda: "resumed after epoch" in log_of(out, "alterrec"))
        process.send_signal(signal.SIGINT)
        said, err = process.communicate(timeout=200)
    assert process.returncode == 130
    assert err == "stopped; run the same command again to resume\n"
    assert "2 runs, 1 finished" in said
    assert not list(out.parent.glob("study-runs/*.lock"))
    assert results(out) == finished
    assert "| alterrec (a) | - |" in (out / "table1.md").read_text("utf-8")


@pytest.mark.torture
def test_killed_at_random_moments_a_study_loses_no_finished_run(shop: Path, tmp_path: Path) -> None:
    out = tmp_path / "killed" / "out"
    asked = ["--data", shop, RATE, *SMALL, "--seeds=2", "--only=id_only", "--only=popularity"]
    asked.append("--only=itemknn")
    moments = random.Random(7)
    finished: dict[str, int] = {}
    for kill in range(5):
        with at_work(study(*asked, "--out", out)) as process:
            # From before the first run has begun to after it is over: a run takes some seconds. Every other
            # kill waits for a finished run, however slow the machine is.
            if kill % 2:
                wait_for(lambda: results(out))
            time.sleep(moments.uniform(1.0, 9.0))
            process.kill()
        assert finished.items() <= results(out).items()
        finished = results(out)
    code, _ = run(study(*asked, "--out", out))
    assert code == 0
    assert finished.items() <= results(out).items()
    code, _ = run(study(*asked, "--out", tmp_path / "whole" / "out"))
    assert code == 0
    measured = [
        {label: [(each["valid"], each["test"]) for each in row["runs"]] for label, row in facts(each).items()}
        for each in (out, tmp_path / "whole" / "out")
    ]
    assert measured[0] == measured[1]
    assert [len(each) for each in measured[0].values()] == [2, 1, 1]


def run(command: list[str]) -> tuple[int, str]:
    done = subprocess.run(command, capture_output=True, text=True, timeout=250, check=False)
    return done.returncode, done.stderr


@pytest.mark.torture
def test_two_processes_share_the_work_of_one_folder(shop: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    command = study("--data", shop, "--out", out, RATE, *SMALL, "--seeds=3", "--only=id_only")
    with at_work(command) as first, at_work(command) as second:
        said = [process.communicate(timeout=250) for process in (first, second)]
    assert [first.returncode, second.returncode] == [0, 0], said
    started = [lines(each, ": started") for each, _ in said]
    assert all(started)
    assert sorted(started[0] + started[1]) == [f"id_only, dropout 0.1, seed {seed}" for seed in range(3)]
    assert [run["seed"] for run in facts(out)["id_only"]["runs"]] == [0, 1, 2]

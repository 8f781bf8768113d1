"""Searches: which settings are tried, pruned, kept, resumed and refused."""

from __future__ import annotations

import csv
import json
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from conftest import Outcome

import alterrec as package
from alterrec.errors import InputError
from alterrec.recipe import resolve
from alterrec.runs import fit as runs
from alterrec.studies.tune import tune
from alterrec.studies.tune_trials import TrialResult, TuneResult, prunable_from
from alterrec.training.schedule import phases

Command = Callable[..., Outcome]

# A training of the shop in a third of a second.
FIXED = {"model.dim": 8, "schedule.epochs": 4, "optim.batch_size": 64, "run.threads": 1}
SMALL = [f"--set={key}={value}" for key, value in FIXED.items()]
SEARCH = {"optim.lr": "0.001..0.1:log", "id.table_dropout": "0..0.5"}


def search(shop: Path, out: Path, trials: int, spaces: dict[str, str] = SEARCH, **more: Any) -> TuneResult:
    overrides = FIXED | more.pop("overrides", {})
    return tune(shop, "id_only", spaces, trials=trials, out=out, overrides=overrides, **more)


def outcomes(result: TuneResult) -> list[tuple[Any, ...]]:
    """All that a search found except its times."""
    return [(t.number, t.state, t.settings, t.value, t.epochs, t.reason) for t in result.trials]


def test_without_optuna_the_error_names_the_install_command(
    alterrec: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "optuna", None)
    code, out, err = alterrec("tune", "--search", "optim.lr=0.1,0.2")
    assert (code, out) == (2, "")
    assert err == "error: alterrec tune needs Optuna; install it with pip install 'alterrec[tune]'\n"


@pytest.mark.parametrize(
    ("model", "changes", "epoch"),
    [
        # Two epochs of warm-up for each network, then a turn of each.
        ("alterrec", {}, 6),
        ("alterrec", {"schedule.gap": 3}, 10),
        ("alterrec", {"schedule.epochs": 30}, 10),
        ("id_only", {"schedule.epochs": 12}, 4),
        ("id_only", {"schedule.epochs": 1}, 1),
        ("unisrec", {"schedule.pretrain": 5, "schedule.epochs": 6}, 6),
    ],
)
def test_no_trial_is_pruned_before_the_first_turn_of_each_network(
    model: str, changes: dict[str, int], epoch: int
) -> None:
    assert prunable_from(phases(resolve(model, overrides=changes))) == epoch


def test_a_result_prints_as_its_best_settings() -> None:
    def trial(number: int, dim: int, value: float | None) -> TrialResult:
        return TrialResult(number, "finished" if value else "failed", {"model.dim": dim}, value, {}, 1.0, "")

    trials = (trial(0, 8, 0.25), trial(1, 16, 0.5), trial(2, 32, None), trial(3, 16, 0.5), trial(4, 64, 0.25))
    result = TuneResult(Path("out"), "id_only", "ndcg@20", trials, 5)
    assert [row.number for row in result.ranking] == [1, 0, 4]
    assert result.best is trials[1]
    assert str(result).splitlines()[3].split() == ["1", "16", "50.00%", "-", "1.0", "s"]
    assert TuneResult(Path("out"), "id_only", "ndcg@20", (), 5).best is None


@pytest.fixture
def optuna() -> Any:
    return pytest.importorskip("optuna")


@pytest.mark.usefixtures("optuna")
def test_a_search_finds_writes_and_is_kept(alterrec: Command, shop: Path, tmp_path: Path) -> None:
    asked = ["tune", "id_only", "--data", shop, *SMALL, "--out", tmp_path / "out", "--trials=3"]
    asked += [f"--search={key}={text}" for key, text in SEARCH.items()]
    code, out, err = alterrec(*asked)
    assert (code, err) == (0, "")
    assert "id_only on shop: 3 trials, 0 finished" in out
    assert "; 2 to go, about" in out
    study = json.loads((tmp_path / "out" / "study.json").read_text("utf-8"))
    assert study["command"] == shlex.join(["alterrec", *map(str, asked)])
    values = [trial["value"] for trial in study["trials"]]
    assert study["best"] == values.index(max(values))
    for trial in study["trials"]:
        assert 0.001 <= trial["settings"]["optim.lr"] <= 0.1
        assert 0 <= trial["settings"]["id.table_dropout"] <= 0.5
        # One network, whose best epoch is the model that was measured.
        assert trial["value"] == max(trial["epochs"].values())
        assert trial["epochs"][str(trial["best_epoch"])] == trial["value"]
    with (tmp_path / "out" / "trials.csv").open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    assert [float(row["validation ndcg@20"]) for row in rows] == values
    assert {path.name for path in (tmp_path / "out").iterdir()} == {
        *("trials.journal", "study.json", "trials.csv", "trials"),
    }
    assert not list((tmp_path / "out").rglob("checkpoint"))
    again = alterrec(*asked)
    assert again.code == 0
    assert "3 trials, 3 finished" in again.out
    assert ": started" not in again.out
    # The command that it prints trains the best setting, and measures it on test at last.
    best = study["trials"][study["best"]]["settings"]
    assert f"--set=optim.lr={best['optim.lr']}" in study["train"].split()
    assert study["train"] in out
    small = study["train"].replace("--seeds=3", "--seeds=1").split()[1:]
    assert "1 runs, 0 finished" in alterrec(*small, "--out", tmp_path / "best").out


@pytest.mark.usefixtures("optuna")
def test_the_test_is_never_looked_at(shop: Path, tmp_path: Path) -> None:
    tune(
        shop, "alterrec", {"fusion.neighbours": "true,false"}, trials=1, out=tmp_path / "out", overrides=FIXED
    )
    result = json.loads((tmp_path / "out" / "trials" / "0" / "result.json").read_text("utf-8"))
    assert result["valid"]["score"]
    assert set(result["valid"]) >= {"id", "text"}
    assert not result["test"].get("score")
    assert result["targets"]["test"]["count"] == 0


@pytest.mark.usefixtures("optuna")
def test_a_resumed_search_equals_one_that_was_not_stopped(shop: Path, tmp_path: Path) -> None:
    whole = search(shop, tmp_path / "whole", 4)
    first = search(shop, tmp_path / "parts", 2)
    assert outcomes(first) == outcomes(whole)[:2]
    assert outcomes(search(shop, tmp_path / "parts", 4)) == outcomes(whole)
    other = search(shop, tmp_path / "other", 1, seed=1)
    assert other.trials[0].settings != whole.trials[0].settings


def test_a_bad_setting_is_pruned(
    shop: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, optuna: Any
) -> None:
    """Trials at a rate that learns nothing come after five that learn."""
    rates = [0.05, 0.04, 0.03, 0.02, 0.01, 1e-9]

    class Planted(optuna.samplers.TPESampler):  # type: ignore[misc]
        def sample_independent(self, study: Any, trial: Any, name: str, space: Any) -> Any:
            return rates[trial.number]

    monkeypatch.setattr(optuna.samplers, "TPESampler", Planted)
    result = search(shop, tmp_path / "out", 6, {"optim.lr": "1e-9..0.1:log"})
    assert [trial.state for trial in result.trials] == ["finished"] * 5 + ["pruned"]
    assert list(result.trials[0].epochs) == [1, 2, 3, 4]
    # A third of four epochs is over after two.
    assert list(result.trials[5].epochs) == [1, 2]
    assert result.trials[5].value is None
    assert sorted(path.name for path in (tmp_path / "out" / "trials").iterdir()) == list("01234")


@pytest.mark.usefixtures("optuna")
def test_a_setting_that_diverges_counts_as_failed(shop: Path, tmp_path: Path) -> None:
    lines: list[str] = []
    result = search(
        shop,
        tmp_path / "out",
        4,
        {"optim.lr": "0.01,1e25"},
        progress=lambda event: lines.append(event.message),
    )
    states = {trial.settings["optim.lr"]: trial.state for trial in result.trials}
    assert states == {0.01: "finished", 1e25: "failed"}
    failed = next(trial for trial in result.trials if trial.state == "failed")
    assert "the loss is nan" in failed.reason
    assert any(
        f"trial {failed.number}: optim.lr 1e+25: failed: training diverged: the loss is nan" in line
        for line in lines
    )
    # The same setting again is known.
    known = [trial.number for trial in result.trials if trial.state == "finished"]
    assert len(known) > 1
    assert any(
        f"trial {known[1]}: optim.lr 0.01: same settings as trial {known[0]}, validation" in line
        for line in lines
    )
    assert not (tmp_path / "out" / "trials" / str(known[1])).exists()


@pytest.mark.usefixtures("optuna")
def test_a_search_in_which_nothing_works_is_given_up(shop: Path, tmp_path: Path) -> None:
    taught = FIXED | {"schedule.epochs": 5}
    with pytest.raises(
        InputError,
        match=r"5 trials failed and none finished; the last one failed with: "
        ".*of 26 candidates",
    ):
        tune(shop, "alterrec", {"window.last": "100..900"}, trials=9, out=tmp_path / "out", overrides=taught)


@pytest.mark.usefixtures("optuna")
def test_a_failure_of_ours_leaves_its_trial_to_the_next_start(
    shop: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = search(shop, tmp_path / "whole", 2)

    def broken(*_: Any, **__: Any) -> None:
        raise RuntimeError("boom")

    with monkeypatch.context() as patched:
        patched.setattr(runs, "fit", broken)
        with pytest.raises(RuntimeError, match="boom"):
            search(shop, tmp_path / "out", 2)
    assert not list((tmp_path / "out").rglob("*.lock"))
    assert outcomes(search(shop, tmp_path / "out", 2)) == outcomes(whole)


@pytest.mark.usefixtures("optuna")
def test_another_search_in_the_same_folder_is_refused(shop: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    search(shop, out, 1)
    for spaces, more, words in (
        (
            {**SEARCH, "optim.lr": "0.001..0.2:log"},
            {},
            'optim.lr is "0.001..0.1:log" there and "0.001..0.2:log"',
        ),
        ({"optim.lr": SEARCH["optim.lr"]}, {}, 'id.table_dropout is "0.0..0.5" there and unset here'),
        (SEARCH, {"seed": 1}, "seed is 0 there and 1 here"),
        (SEARCH, {"presets": ("paper",)}, 'presets is ["best"] there and ["paper"] here'),
        (SEARCH, {"overrides": {"model.dim": 16}}, "model.dim is 8 there and 16 here"),
    ):
        with pytest.raises(InputError, match="another --out") as refused:
            search(shop, out, 1, spaces, **more)
        assert words in str(refused.value)
    lines = (shop / "train.csv").read_text("utf-8").splitlines()
    (shop / "train.csv").write_text("\n".join(lines[:-4]) + "\n", "utf-8")
    with pytest.raises(InputError, match="on other data"):
        search(shop, out, 1)


def begun_by_an_earlier_version(out: Path) -> None:
    """Remove the rule for seen items, which earlier versions did not write, from the journal."""
    journal = out / "trials.journal"
    lines = journal.read_text("utf-8").splitlines(keepends=True)
    kept = [line for line in lines if '"exclude_seen"' not in line]
    assert len(kept) == len(lines) - 1
    journal.write_text("".join(kept), "utf-8")


@pytest.mark.usefixtures("optuna")
def test_a_search_is_extended_if_it_measures_as_in_an_earlier_version(shop: Path, tmp_path: Path) -> None:
    # No item of the shop repeats, so auto excluded seen items before and does now.
    search(shop, tmp_path / "auto", 1)
    begun_by_an_earlier_version(tmp_path / "auto")
    assert len(search(shop, tmp_path / "auto", 2).trials) == 2
    lines = (shop / "valid.csv").read_text("utf-8").splitlines()
    session, first, _ = lines[1].split(",")
    place = max(number for number, line in enumerate(lines) if line.startswith(f"{session},"))
    lines[place] = ",".join([session, first, lines[place].split(",")[2]])
    (shop / "valid.csv").write_text("\n".join(lines) + "\n", "utf-8")
    never = {"overrides": {"data.exclude_seen": "never"}}
    for name, more in (("repeats", {}), ("never", never)):
        search(shop, tmp_path / name, 1, **more)
        begun_by_an_earlier_version(tmp_path / name)
    assert len(search(shop, tmp_path / "never", 2, **never).trials) == 2
    with pytest.raises(InputError) as refused:
        search(shop, tmp_path / "repeats", 2)
    assert "an earlier version of alterrec began the search" in str(refused.value)
    assert "were not candidates, but now they are candidates with the counted" in str(refused.value)
    assert "use another --out" in str(refused.value)


@pytest.mark.usefixtures("optuna")
@pytest.mark.parametrize(
    ("arguments", "parts"),
    [
        ([], ["nothing to search", "--search optim.lr=0.0001..0.01:log"]),
        (["--search", "optim.lr"], ["'optim.lr'", "key=value"]),
        (["--search", "optim.lrr=1,2"], ["did you mean 'optim.lr'"]),
        (["--search", "optim.lr=0..1"], ["optim.lr is 0;", "greater than 0"]),
        (["--search", "optim.lr=0.1,0.2", "--set", "optim.lr=0.1"], ["both set and searched"]),
        (["--search", "optim.lr=0.1,0.2", "--trials", "0"], ["--trials is 0", "1 or more"]),
        (["--search", "optim.lr=0.1,0.2", "--set", "run.seed=1"], ["run.seed", "--seed N"]),
        (["--search", "optim.lr=0.1,0.2", "--set", "run.memory_budget=1GiB"], ["run.memory_budget"]),
        (["--search", "optim.lr=0.1,0.2", "--data", "nowhere"], ["nowhere", "no such folder"]),
        (["popularity", "--search", "optim.lr=0.1,0.2"], ["popularity has nothing to train"]),
        (["alterec", "--search", "optim.lr=0.1,0.2"], ["did you mean 'alterrec'"]),
    ],
)
def test_wrong_options_of_a_search(
    alterrec: Command, tmp_path: Path, arguments: list[str], parts: list[str]
) -> None:
    code, out, err = alterrec("tune", *arguments)
    assert (code, out) == (2, "")
    assert err.count("\n") == 1
    assert all(part in err for part in parts), err
    assert list(tmp_path.iterdir()) == []


@pytest.mark.usefixtures("optuna")
def test_wrong_input_is_answered_without_torch() -> None:
    code = (
        "import sys\n"
        "from alterrec.studies.tune import tune\n"
        "try: tune(search={'optim.lr': '0..1'})\n"
        "except ValueError: print('torch' in sys.modules)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "False\n"


def wait_for(what: Callable[[], object], seconds: float = 200.0) -> None:
    until = time.monotonic() + seconds
    while not what():
        assert time.monotonic() < until, "it never came"
        time.sleep(0.02)


@pytest.mark.usefixtures("optuna")
@pytest.mark.torture
def test_killed_and_stopped_trials_resume(
    shop: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """SIGKILL in the middle of a trial, then Ctrl-C, then two processes that finish it together."""
    monkeypatch.setenv("PYTHONPATH", str(Path(package.__file__).parents[1]), prepend=":")
    monkeypatch.chdir(tmp_path)
    changes = {"schedule.epochs": 40, "schedule.patience": 40}
    whole = search(shop, tmp_path / "whole", 2, overrides=changes)
    command = [sys.executable, "-m", "alterrec", "tune", "id_only", "--data", str(shop), "--out", "out"]
    command += [f"--set={key}={value}" for key, value in (FIXED | changes).items()]
    command += [f"--search={key}={text}" for key, text in SEARCH.items()]

    def at_work(number: int) -> bool:
        return (tmp_path / f"out/trials/{number}/checkpoint/progress.safetensors").exists()

    killed = subprocess.Popen([*command, "--trials=2"], stdout=subprocess.DEVNULL)
    wait_for(lambda: at_work(0))
    killed.kill()
    killed.wait()
    assert at_work(0)
    stopped = subprocess.Popen(
        [*command, "--trials=2"], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    wait_for(lambda: at_work(1))
    stopped.send_signal(signal.SIGINT)
    said, err = stopped.communicate(timeout=200)
    assert (stopped.returncode, err) == (130, "stopped; run the same command again to resume\n")
    assert said.splitlines()[2].startswith("trial 0: ")
    assert said.splitlines()[2].endswith(": resumed")
    assert not list((tmp_path / "out").rglob("*.lock"))
    both = [subprocess.Popen([*command, "--trials=2"], stdout=subprocess.PIPE, text=True) for _ in range(2)]
    outs = [process.communicate(timeout=200)[0] for process in both]
    assert [process.returncode for process in both] == [0, 0]
    assert sum(out.count("trial 1: ") for out in outs) == 2
    assert outcomes(search(shop, tmp_path / "out", 2, overrides=changes)) == outcomes(whole)

"""Trackers: what they log, that they change no file of a run, and that their failures stop nothing."""

from __future__ import annotations

import logging
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from conftest import TINY, Outcome
from run_files import comparable_files
from worlds import small_dataset

import alterrec
from alterrec.errors import InputError
from alterrec.progress import Event
from alterrec.runs.fitted import FittedRun
from alterrec.trackers import MLflow, TensorBoard, Tracker, WandB, parse_tracker

SETTINGS = {
    "model.dim": 8,
    "schedule.epochs": 3,
    "schedule.patience": 9,
    "run.report": False,
    "run.baselines": False,
    "run.threads": 1,
}


class Recorder(Tracker):
    """Keeps its calls; raises in the call ``fails``."""

    def __init__(self, fails: str = "") -> None:
        self.fails = fails
        self.calls: list[tuple[Any, ...]] = []

    def start(self, run: Path, settings: Mapping[str, Any]) -> None:
        self._call("start", run, settings)

    def log(self, values: Mapping[str, float], epoch: int) -> None:
        self._call("log", values, epoch)

    def finish(self, values: Mapping[str, float], epoch: int) -> None:
        self._call("finish", values, epoch)

    def _call(self, name: str, *arguments: Any) -> None:
        self.calls.append((name, *arguments))
        if name == self.fails:
            raise RuntimeError("no\nconnection")


def train(out: Path, *progress: Any, **further: Any) -> FittedRun:
    return alterrec.fit(small_dataset(), "sasrec", out=out, overrides=SETTINGS, progress=progress, **further)


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> FittedRun:
    """A run without a tracker."""
    return train(tmp_path_factory.mktemp("plain") / "run")


def test_a_tracker_gets_settings_epochs_and_final_metrics(tmp_path: Path) -> None:
    recorder, seen = Recorder(), list[Event]()
    run = train(tmp_path / "run", None, seen.append, recorder)
    (_, path, settings), *logged, (_, final, epochs) = recorder.calls
    assert [call[0] for call in recorder.calls] == ["start", "log", "log", "log", "finish"]
    assert path == run.path
    assert settings.items() >= {"model_name": "sasrec", "model.dim": 8, "schedule.epochs": 3}.items()
    assert [call[2] for call in logged] == [1, 2, 3]
    assert logged[0][1].keys() >= {"loss", "valid/score/ndcg@20"}
    score = run.result["test"]["score"]
    assert epochs == 3
    assert {name: value for name, value in final.items() if name.startswith("test/score/")} == {
        f"test/score/{name}": value for name, value in score.items()
    }
    assert [event.kind for event in seen if event.kind in ("start", "done")] == ["start", "done"]


def test_the_run_folder_is_the_same_with_trackers(plain: FittedRun, tmp_path: Path) -> None:
    run = train(tmp_path / "run", TensorBoard(tmp_path / "logs"), Recorder(), Recorder(fails="log"))
    assert comparable_files(run.path) == comparable_files(plain.path)
    assert {path.name for path in run.path.iterdir()} == {path.name for path in plain.path.iterdir()}


@pytest.mark.parametrize("call", ["start", "log", "finish"])
def test_a_tracker_that_fails_is_told_of_once(
    tmp_path: Path, call: str, caplog: pytest.LogCaptureFixture
) -> None:
    broken, other = Recorder(fails=call), Recorder()
    with caplog.at_level(logging.WARNING, "alterrec"):
        run = train(tmp_path / "run", broken, other)
    assert caplog.messages == ["Recorder logs nothing more of this run: RuntimeError: no connection"]
    assert run.stopped == "finished"
    assert len(other.calls) == 5
    # It is closed, and works again in the next run.
    assert [each[0] for each in broken.calls].count("finish") == (2 if call == "finish" else 1)
    broken.fails = ""
    broken.calls.clear()
    broken(Event("start", run="runs/next"))
    broken(Event("done"))
    assert [each[0] for each in broken.calls] == ["start", "finish"]


def test_a_training_that_fails_finishes_without_metrics(tmp_path: Path) -> None:
    recorder = Recorder()

    def stops(event: Event) -> None:
        if event.kind == "epoch_end" and event.epoch == 2:
            raise KeyError("mine")

    with pytest.raises(KeyError):
        train(tmp_path / "run", recorder, stops)
    assert [call[0] for call in recorder.calls] == ["start", "log", "log", "finish"]
    assert recorder.calls[-1][1] == {}
    # The run that resumes it logs the rest; resuming a finished one is no training.
    train(tmp_path / "run", recorder, resume=True)
    train(tmp_path / "run", recorder, resume=True)
    kinds = [call[0] for call in recorder.calls[4:]]
    assert (kinds[0], kinds[-1], set(kinds[1:-1])) == ("start", "finish", {"log"})


def test_tensorboard_reads_what_was_logged(tmp_path: Path) -> None:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    run = train(tmp_path / "run", TensorBoard(tmp_path / "logs"))
    assert [path.name for path in (tmp_path / "logs").iterdir()] == ["run"]
    read = EventAccumulator(str(tmp_path / "logs" / "run"))
    read.Reload()
    assert [event.step for event in read.Scalars("loss")] == [1, 2, 3]
    (final,) = read.Scalars("test/score/ndcg@20")
    assert final.value == pytest.approx(run.result["test"]["score"]["ndcg@20"])
    hparams = read.PluginTagToContent("hparams")
    assert b"schedule.epochs" in hparams["_hparams_/session_start_info"]


def test_tensorboard_never_writes_into_the_run_folder(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    tracker = TensorBoard(tmp_path)
    tracker(Event("start", run=str(tmp_path / "run")))
    assert "is the run folder itself" in caplog.messages[-1]
    assert list(tmp_path.iterdir()) == []


class Calls:
    """A stand-in of a module: every function keeps its calls and returns this object."""

    def __init__(self) -> None:
        self.made: list[tuple[str, tuple[Any, ...], dict[str, Any]]] = []
        self.summary = SimpleNamespace(update=lambda values: self.made.append(("update", (values,), {})))

    def __getattr__(self, name: str) -> Callable[..., Any]:
        def call(*arguments: Any, **named: Any) -> Any:
            self.made.append((name, arguments, named))
            return None if name == "active_run" else self

        return call


def test_mlflow_gets_names_that_it_allows(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    calls = Calls()
    monkeypatch.setitem(sys.modules, "mlflow", calls)
    monkeypatch.setattr("alterrec.trackers.find_spec", lambda name: name)
    run = train(tmp_path / "run", MLflow("shop"))
    made = calls.made
    assert made[:3] == [
        ("active_run", (), {}),
        ("set_experiment", ("shop",), {}),
        ("start_run", (), {"run_name": "run", "nested": False}),
    ]
    parameters = [arguments[0] for name, arguments, _ in made if name == "log_params"]
    assert all(len(each) <= 100 for each in parameters)
    assert {key for each in parameters for key in each} >= {"model.dim", "schedule.epochs"}
    *epochs, last = [
        (arguments[0], named["step"]) for name, arguments, named in made if name == "log_metrics"
    ]
    assert [step for _, step in epochs] == [1, 2, 3]
    assert last[0]["final/test/score/ndcg_at_20"] == run.result["test"]["score"]["ndcg@20"]
    assert not [name for values, _ in (*epochs, last) for name in values if "@" in name]
    assert made[-1] == ("end_run", ("FINISHED",), {})


def test_wandb_gets_steps_and_a_summary(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    calls = Calls()
    monkeypatch.setitem(sys.modules, "wandb", calls)
    monkeypatch.setattr("alterrec.trackers.find_spec", lambda name: name)
    run = train(tmp_path / "run", WandB("shop"))
    (name, _, named), *epochs, (_, (summary,), _), last = calls.made
    assert (name, named["project"], named["name"]) == ("init", "shop", "run")
    assert named["config"]["model.dim"] == 8
    assert [(name, named) for name, _, named in epochs] == [("log", {"step": step}) for step in (1, 2, 3)]
    assert summary["final/test/score/ndcg@20"] == run.result["test"]["score"]["ndcg@20"]
    assert last == ("finish", (), {"exit_code": 0})


@pytest.mark.parametrize("kind", ["mlflow", "wandb", "tensorboard"])
def test_a_library_that_is_missing_is_named(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("alterrec.trackers.find_spec", lambda name: None)
    with pytest.raises(InputError, match=f"{kind} is not installed; run `pip install "):
        parse_tracker(f"{kind}=somewhere")


def test_the_command_tracks(alterrec: Callable[..., Outcome], shop_source: Path, tmp_path: Path) -> None:
    command = ("train", "--data", shop_source, "--out", "run", *TINY, "--set=run.report=false")
    code, _, err = alterrec(*command, "--track", "tensorboard=logs")
    assert code == 0, err
    assert list((tmp_path / "logs" / "run").glob("events*"))
    code, _, err = alterrec(*command, "--track", "tensorboard")
    assert code == 2
    assert "expected tensorboard=FOLDER" in err

"""The command line: its surface, its exit codes, its messages, and being stopped."""

from __future__ import annotations

import contextlib
import csv
import io
import json
import os
import pty
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import polars as pl
import pytest
import typer.main
from conftest import TINY, Outcome
from safetensors.numpy import load_file
from typer.testing import CliRunner

from alterrec import __version__, cli
from alterrec.cli import listings
from alterrec.data.readers import PREPARED, READERS
from alterrec.recipe import recipe_fields, recipe_names

Command = Callable[..., Outcome]
# Drawing the page takes longer than the training of these tests.
NO_REPORT = "--set=run.report=false"

SURFACE = {
    "prepare": {
        "source",
        "--out",
        "--format",
        "--locale",
        "--all-locales",
        "--column",
        "--times",
        "--text",
        "--sessions",
        "--gap",
        "--events",
        "--collapse",
        "--min-item-count",
        "--min-session",
        "--split",
        "--valid",
        "--test",
        "--fraction",
        "--seed",
        "--json",
    },
    "train": {
        "model",
        "--data",
        "--from",
        "--format",
        "--locale",
        "--out",
        "--seed",
        "--preset",
        "--text",
        "--text-encoder",
        "--set",
        "--column",
        "--drop-unknown",
        "--resume",
        "--memory-budget",
        "--profile",
        "--track",
    },
    "evaluate": {
        "run",
        "--data",
        "--items",
        "--format",
        "--locale",
        "--column",
        "--drop-unknown",
        "--metrics",
        "--json",
    },
    "verify": {"run", "--json"},
    "export": {"source", "--to", "--out", "--format", "--locale", "--column", "--drop-unknown"},
    "push": {"run", "repo", "--public"},
    "import-run": {
        "rankings",
        "--name",
        "--data",
        "--format",
        "--locale",
        "--out",
        "--seed",
        "--preset",
        "--set",
        "--column",
        "--drop-unknown",
    },
    "add-items": {"run", "items", "--out", "--id-rows", "--vectors", "--column"},
    "remove-items": {"run", "items", "--out", "--column"},
    "recommend": {
        "run",
        "--sessions",
        "-k",
        "--out",
        "--exclude-seen",
        "--fallback",
        "--column",
        "--json",
    },
    "study": {
        "name",
        "--data",
        "--format",
        "--locale",
        "--out",
        "--runs",
        "--quick",
        "--seeds",
        "--only",
        "--skip",
        "--check",
        "--over",
        "--metric",
        "--preset",
        "--set",
        "--reference",
        "--search",
        "--jobs",
        "--processes",
        "--text",
        "--text-encoder",
        "--column",
        "--drop-unknown",
    },
    "tune": {
        "model",
        "--search",
        "--data",
        "--format",
        "--locale",
        "--trials",
        "--out",
        "--seed",
        "--preset",
        "--text",
        "--text-encoder",
        "--set",
        "--column",
        "--drop-unknown",
    },
    "compare": {"runs", "--view", "--all-pairs", "--out", "--json"},
    "balance": {"runs", "--out", "--metric", "--json"},
    "audit": {
        "--data",
        "--format",
        "--locale",
        "--out",
        "--text",
        "--text-encoder",
        "--column",
        "--drop-unknown",
        "--json",
    },
    "plan": {"model", "--preset", "--set"},
    "serve": {"run", "--host", "--port", "--limit"},
    "list": {"what", "--json"},
}


def options(command: object) -> set[str]:
    return {name for parameter in command.params for name in parameter.opts} - {"--help"}  # type: ignore[attr-defined]


def test_the_surface_grows_by_decision_alone() -> None:
    group = typer.main.get_command(cli.app)
    assert {name: options(command) for name, command in group.commands.items()} == SURFACE  # type: ignore[attr-defined]
    assert options(group) == {"--version", "--install-completion", "--show-completion"}
    assert options(typer.main.get_command(cli.train_app)) == SURFACE["train"]


def test_the_version_is_that_of_the_package(alterrec: Command) -> None:
    assert alterrec("--version") == (0, f"alterrec {__version__}\n", "")


def completed(shell: str, tmp_path: Path, line: str) -> str:
    """What a shell completes a line to, with `alterrec` from this environment."""
    start = "import sys; sys.argv[0] = 'alterrec'; from alterrec.__main__ import main; main()"
    command = tmp_path / "bin" / "alterrec"
    command.parent.mkdir(exist_ok=True)
    command.write_text(f'#!/bin/sh\nexec "{sys.executable}" -c "{start}" "$@"\n')
    command.chmod(0o755)
    words = line.split(" ")
    scripts = {
        "bash": f"""eval "$(_ALTERREC_COMPLETE=source_bash alterrec)"
            COMP_WORDS=({" ".join(map(repr, words))}); COMP_CWORD={len(words) - 1}
            _alterrec_completion alterrec; printf '%s\\n' "${{COMPREPLY[@]}}" """,
        # What the function that zsh gets calls, with the arguments that zsh gives it.
        "zsh": f"""compdef() {{ true; }}; eval "$(_ALTERREC_COMPLETE=source_zsh alterrec)"
            _arguments() {{ print -r -- "$@"; }}; _files() {{ print files; }}
            words=({" ".join(map(repr, words))}); CURRENT={len(words)}; _alterrec_completion""",
    }
    path = f"{command.parent}{os.pathsep}{os.environ['PATH']}"
    done = subprocess.run(
        [shell, "-c", scripts[shell]],
        env=os.environ | {"PATH": path},
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.stderr == ""
    return done.stdout


@pytest.mark.parametrize("shell", ["bash", "zsh"])
def test_the_shell_completes_commands_systems_and_settings(shell: str, tmp_path: Path) -> None:
    if shutil.which(shell) is None:
        pytest.skip(f"{shell} is not installed")
    assert "train" in completed(shell, tmp_path, "alterrec tra")
    assert "sasrec" in completed(shell, tmp_path, "alterrec train sasr")
    assert "optim.batch_size=" in completed(shell, tmp_path, "alterrec train --set optim.ba")


@pytest.mark.parametrize(
    ("arguments", "name"),
    [
        (["study", "tab"], "table1"),
        (["train", "--preset", "pap"], "paper"),
        (["train", "--format", "reci"], ""),
        (["train", "--format", "prep"], "prepared"),
        (["list", "metr"], "metrics"),
    ],
)
def test_other_names_are_completed_too(arguments: list[str], name: str) -> None:
    found = CliRunner().invoke(
        cli.app,
        prog_name="alterrec",
        env={
            "_ALTERREC_COMPLETE": "complete_zsh",
            "_TYPER_COMPLETE_ARGS": " ".join(["alterrec", *arguments]),
        },
    )
    assert (f'"{name}"' in found.output) == bool(name), found.output


def program(*arguments: object, name: str = "main") -> list[str]:
    """The command line of a process of its own."""
    return [sys.executable, "-c", f"from alterrec.cli import {name}; {name}()", *map(str, arguments)]


@pytest.mark.parametrize("command", sorted(SURFACE))
def test_help_has_an_example(alterrec: Command, command: str) -> None:
    code, out, err = alterrec(command, "--help")
    assert (code, err) == (0, "")
    assert f"  alterrec {command}" in out


@pytest.mark.parametrize(
    ("arguments", "parts"),
    [
        (["trian"], ["trian"]),
        (["train", "--dta", "x"], ["--dta"]),
        (["train", "--seed", "-1"], ["run.seed is -1"]),
        (["train", "--seed", "one"], ["--seed", "integer"]),
        (["train", "alterec"], ["'alterec' is unknown", "did you mean 'alterrec'"]),
        (["train", "--preset", "paper,papr"], ["'papr' is unknown", "did you mean 'paper'"]),
        (["train", "--set", "schedule.gap"], ["'schedule.gap'", "key=value"]),
        (["train", "--set", "schedule.gapp=2"], ["did you mean 'schedule.gap'? `alterrec list recipes`"]),
        (["train", "--set", "dim=64"], ["did you mean 'model.dim'?"]),
        (["train", "--set", "schedule.batch_size=64"], ["did you mean 'optim.batch_size'?"]),
        (
            ["train", "--set", "learning=64"],
            ["'learning' is unknown; `alterrec list recipes` shows all keys"],
        ),
        (["train", "--set", "schedule.gap=2", "--set", "schedule.gap=3"], ["given twice"]),
        (["train", "--set", "schedule.warmup=9"], ["schedule.warmup is 9", "schedule.epochs to 18"]),
        (["train", "--set", "run.device=cude"], ["run.device is 'cude'"]),
        (["train", "--data", "shop", "--column", "visit"], ["--column", "'visit'", "session_id=visit"]),
        (["train", "--data", "shop", "--column", "sesion_id=visit"], ["sesion_id", "session_id"]),
        (["train", "--data", "shop", "--column", "session_id=visit"], ["visit"]),
        (["train", "--data", "nowhere"], ["nowhere", "no such folder"]),
        (["train", "--data", "shop", "--resume"], ["--resume needs --out"]),
        (["train", "--data", "shop", "--out", "shop", "--resume"], ["shop", "no checkpoint"]),
        (["train", "--data", "shop", "--out", "shop"], ["shop", "not empty"]),
        (["train", "--data", "shop", "--out", "shop/items.csv"], ["items.csv", "is a file"]),
        (["train", "--data", "shop", "--text-encoder", "./nowhere"], ["nowhere"]),
        # 30 items less the target and the 3 that the longest prefix has seen.
        (["train", "--data", "shop", "--set", "window.last=400"], ["window.last is 400", "26 candidates"]),
        (["plan", "--set", "schedule.gap=0"], ["schedule.gap is 0"]),
        (["list", "modles"], ["modles", "models"]),
        (["evaluate", "nowhere"], ["nowhere", "finished run"]),
        (["recommend", "nowhere", "--sessions", "s.csv"], ["nowhere", "finished run"]),
        (["recommend", "nowhere"], ["--sessions"]),
        (
            ["recommend", "nowhere", "--sessions", "s.csv", "--out", "x.xlsx"],
            ["x.xlsx", ".csv, .parquet or .jsonl"],
        ),
    ],
)
@pytest.mark.usefixtures("shop")
def test_a_wrong_option_exits_with_2_and_names_what_is_expected(
    alterrec: Command, tmp_path: Path, arguments: list[str], parts: list[str]
) -> None:
    code, _, err = alterrec(*arguments)
    assert code == 2
    assert all(part in err for part in parts), err
    assert "Traceback" not in err
    assert [path.name for path in tmp_path.iterdir()] == ["shop"]


def _rewrite(file: str, old: str, new: str) -> Callable[[Path], None]:
    def spoil(shop: Path) -> None:
        text = (shop / file).read_text("utf-8")
        assert old in text
        (shop / file).write_text(text.replace(old, new, 1), "utf-8")

    return spoil


def _append(file: str, line: str) -> Callable[[Path], None]:
    def spoil(shop: Path) -> None:
        with (shop / file).open("a", encoding="utf-8") as stream:
            stream.write(line + "\n")

    return spoil


def _vectors(values: np.ndarray) -> Callable[[Path], None]:
    return lambda shop: np.save(shop / "vectors.npy", values)


NOT_FINITE = np.ones((30, 4), np.float32)
NOT_FINITE[3, 1] = np.nan

BAD_DATA: dict[str, tuple[Callable[[Path], object], list[str]]] = {
    "missing column": (
        _rewrite("train.csv", "session_id", "sesion_id"),
        ["train.csv", "session_id", "sesion_id"],
    ),
    "unknown item": (_append("train.csv", "s900,i3O,1"), ["train.csv", "i3O", "i3"]),
    "duplicate item": (_append("items.csv", "i3,again"), ["items.csv", "i3", "32"]),
    "empty session id": (_append("valid.csv", ",i3,1"), ["valid.csv", "session_id"]),
    "empty item id": (_append("valid.csv", "s900,,1"), ["valid.csv", "item_id"]),
    "bad timestamp": (_append("test.csv", "s900,i3,noon"), ["test.csv", "noon"]),
    "not UTF-8": (
        lambda shop: (shop / "items.csv").write_bytes(b"item_id,title\ni0,caf\xe9\n"),
        ["items.csv", "UTF-8"],
    ),
    "empty file": (lambda shop: (shop / "train.csv").write_bytes(b""), ["train.csv", "empty"]),
    "no rows": (
        lambda shop: (shop / "train.csv").write_text("session_id,item_id,timestamp\n"),
        ["train.csv"],
    ),
    "one item": (
        lambda shop: (shop / "items.csv").write_text("item_id,title\ni0,tent\n"),
        ["items.csv", "1"],
    ),
    "no items file": (lambda shop: (shop / "items.csv").unlink(), ["items"]),
    "no train file": (lambda shop: (shop / "train.csv").unlink(), ["train"]),
    "damaged parquet": (
        lambda shop: (shop / "train.csv").rename(shop / "train.parquet"),
        ["train.parquet"],
    ),
    "NaN vectors": (_vectors(NOT_FINITE), ["vectors.npy", "nan"]),
    "too few vectors": (_vectors(NOT_FINITE[:7]), ["vectors.npy", "7", "30"]),
    "flat vectors": (_vectors(np.ones(30, np.float32)), ["vectors.npy", "30"]),
    "no vectors": (lambda shop: None, ["vectors.npy"]),
}


@pytest.mark.parametrize("case", BAD_DATA)
def test_bad_data_ends_with_2_one_message_and_no_run(
    alterrec: Command, shop: Path, tmp_path: Path, case: str
) -> None:
    spoil, parts = BAD_DATA[case]
    spoil(shop)
    vectors = ["--set", f"data.vectors={shop / 'vectors.npy'}"] if "vectors" in case else []
    code, out, err = alterrec("train", "--data", shop, "--out", tmp_path / "run", *vectors)
    assert (code, out) == (2, "")
    assert err.startswith("error: ")
    assert err.count("\n") == 1
    assert all(part.lower() in err.lower() for part in parts), err
    assert not (tmp_path / "run").exists()


def test_unknown_items_are_dropped_and_counted_on_demand(alterrec: Command, shop: Path) -> None:
    _append("train.csv", "s900,i3O,1")(shop)
    code, out, _ = alterrec("train", "popularity", "--data", shop, "--drop-unknown", "--out", "run")
    assert code == 0
    assert "dropped 1 of" in out


def test_a_failure_of_ours_is_one_line_and_1(alterrec: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: object) -> None:
        raise RuntimeError("two\nlines")

    monkeypatch.setattr(listings, "_recipes", broken)
    code, _, err = alterrec("list", "recipes")
    assert code == 1
    assert err.count("\n") == 1
    assert "please report" in err
    assert "RuntimeError: two lines" in err
    monkeypatch.setenv("ALTERREC_TRACEBACK", "1")
    assert "Traceback" in alterrec("list", "recipes").err


def test_plan_prints_algorithm_1(alterrec: Command) -> None:
    code, out, _ = alterrec("plan", "alterrec", "--preset", "paper", "--set", "schedule.epochs=8")
    assert code == 0
    assert out.splitlines()[:5] == [
        "alterrec, preset paper",
        "  epochs 1-2: warm-up id, random negatives",
        "  epochs 3-4: warm-up text, random negatives",
        "  epochs 5-6: id taught by text, hard negatives from text",
        "  epochs 7-8: text taught by id, hard negatives from id",
    ]
    assert "  schedule.epochs = 8" in out.splitlines()


def test_presets_repeat_or_join(alterrec: Command) -> None:
    joined = alterrec("plan", "--preset", "paper,hd").out
    assert alterrec("plan", "--preset", "paper", "--preset", "hd").out == joined
    assert joined.startswith("alterrec, preset paper + hd\n")


def test_plan_of_a_system_without_training(alterrec: Command) -> None:
    assert "  nothing to train\n" in alterrec("plan", "popularity").out


def test_lists_are_complete_in_json_and_in_print(alterrec: Command) -> None:
    models = json.loads(alterrec("list", "models", "--json").out)["models"]
    assert sorted(row["name"] for row in models) == list(recipe_names("models"))
    recipes = json.loads(alterrec("list", "recipes", "--json").out)
    assert {row["key"]: row["default"] for row in recipes["keys"]}.items() >= {"schedule.gap": 1}.items()
    assert [row["key"] for row in recipes["keys"]] == list(recipe_fields())
    encoders = json.loads(alterrec("list", "encoders", "--json").out)["encoders"]
    assert {row["name"] for row in encoders} >= {"lsa", "all-MiniLM-L6-v2"}
    formats = json.loads(alterrec("list", "formats", "--json").out)["formats"]
    assert [row["name"] for row in formats] == [*READERS, PREPARED]
    systems = json.loads(alterrec("list", "systems", "--json").out)["systems"]
    assert systems == models
    assert [row["reads"] for row in systems if row["name"] in ("text_only", "hggnn", "popularity")] == [
        ["text"],
        ["ids", "users"],
        ["ids"],
    ]
    presets = json.loads(alterrec("list", "presets", "--json").out)["presets"]
    assert [row["name"] for row in presets] == [*recipe_names("presets"), *recipe_names("data"), "original"]
    measured = json.loads(alterrec("list", "metrics", "--json").out)["metrics"]
    assert {"hits@K", "ndcg, ndcg@K"} <= {row["name"] for row in measured}
    for what, listing in (
        ("models", models),
        ("presets", presets),
        ("metrics", measured),
        ("recipes", recipes["keys"]),
        ("encoders", encoders),
        ("formats", formats),
    ):
        printed = alterrec("list", what).out
        assert all(str(next(iter(row.values()))) in printed for row in listing)


def test_a_reader_that_went_away_is_no_error() -> None:
    process = subprocess.Popen(program("list", "recipes"), stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    assert process.stdout is not None
    process.stdout.close()
    _, err = process.communicate(timeout=60)
    assert (process.returncode, err) == (0, b"")


@pytest.fixture(scope="module")
def trained(shop_source: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """A run of `alterrec-train` in a process of its own, and what it printed."""
    folder = tmp_path_factory.mktemp("trained") / "run"
    command = program(
        "--data", shop_source, "--out", folder, *TINY, "--set=run.baselines=true", name="train_main"
    )
    done = subprocess.run(
        [part for part in command if part != "--set=run.baselines=false"],
        capture_output=True,
        text=True,
        timeout=120,
    )
    # Hard negatives may hurt on so small a shop, and then the run says so.
    unexpected = [line for line in done.stderr.splitlines() if not line.startswith("warning: epoch ")]
    assert (done.returncode, unexpected) == (0, [])
    return folder, done.stdout


def test_train_prints_epochs_then_a_table_and_the_folder_last(trained: tuple[Path, str]) -> None:
    folder, out = trained
    lines = out.splitlines()
    assert [line.split("  ")[0] for line in lines if line.startswith("epoch ") and "/" in line] == [
        f"epoch {epoch}/6" for epoch in range(1, 7)
    ]
    rows = {line.split("  ")[0] for line in lines}
    assert {"final score", "ID alone", "text alone", "popularity", "item-kNN", "V-SKNN"} <= rows
    assert lines[-1] == str(folder)
    assert f"report: {folder / 'report.html'}" in lines


def test_a_terminal_sees_the_epochs_too(shop_source: Path, tmp_path: Path) -> None:
    terminal, shown = pty.openpty()
    command = program("train", "--data", shop_source, "--out", tmp_path / "run", *TINY, NO_REPORT)
    with subprocess.Popen(command, stdout=shown, stderr=shown, close_fds=True) as process:
        os.close(shown)
        pieces = []
        with contextlib.suppress(OSError):  # Linux ends a terminal whose writer is gone with EIO.
            while piece := os.read(terminal, 65536):
                pieces.append(piece)
    os.close(terminal)
    screen = b"".join(pieces).decode()
    assert process.returncode == 0, screen
    assert "epoch 6/6" in screen
    assert "final score" in screen
    assert screen.split()[-1] == str(tmp_path / "run")


def test_train_leaves_a_whole_run_folder(trained: tuple[Path, str]) -> None:
    folder, _ = trained
    names = {path.name for path in folder.iterdir()}
    assert names >= {
        "recipe.toml",
        "model.safetensors",
        "vocabulary.parquet",
        "curves.jsonl",
        "ranks.parquet",
        "result.json",
        "report.html",
        "checkpoint",
    }
    assert not [name for name in names if name.startswith(".")]
    assert json.loads((folder / "result.json").read_text())["schema"] == 3


def test_evaluate_repeats_the_numbers_of_the_run(
    alterrec: Command, trained: tuple[Path, str], shop_source: Path
) -> None:
    folder, _ = trained
    result = json.loads((folder / "result.json").read_text())
    code, out, _ = alterrec("evaluate", folder, "--data", shop_source, "--json")
    assert code == 0
    again = json.loads(out)
    for split in ("valid", "test"):
        for view, values in result[split].items():
            assert again[split][view] == pytest.approx(values, abs=1e-6), (split, view)
    printed = alterrec("evaluate", folder, "--data", shop_source).out
    assert "test: 20 targets" in printed
    # No session of the shop repeats an item.
    assert "No test target repeats an item of its session.\nNDCG@20 with the session's own items" in printed
    assert "test, by popularity of the target: Hits@20" in printed


def test_evaluate_reports_the_metrics_that_are_asked_for(
    alterrec: Command, trained: tuple[Path, str], shop_source: Path
) -> None:
    names = "HR@5,Recall@5,map@10,precision@5,coverage@10,gini@10,ILD@10"
    code, out, _ = alterrec("evaluate", trained[0], "--data", shop_source, "--metrics", names, "--json")
    assert code == 0
    found = json.loads(out)
    score = found["test"]["score"]
    assert list(score)[:4] == ["hits@5", "recall@5", "map@10", "precision@5"]
    assert score["hits@5"] == score["recall@5"] == pytest.approx(5 * score["precision@5"])
    assert list(found["lists"]["test"]) == ["coverage@10", "gini@10", "diversity@10"]
    printed = alterrec("evaluate", trained[0], "--data", shop_source, "--metrics", names).out
    assert "recommendations for the test targets" in printed
    assert "Diversity@10" in printed
    code, _, err = alterrec("evaluate", trained[0], "--data", shop_source, "--metrics", "recal@5")
    assert code == 2
    assert "did you mean 'recall'?" in err


def test_evaluate_refuses_another_catalogue(alterrec: Command, trained: tuple[Path, str], shop: Path) -> None:
    _append("items.csv", "i99,new lamp")(shop)
    code, _, err = alterrec("evaluate", trained[0], "--data", shop)
    assert code == 2
    assert "30 items" in err
    assert "31" in err


@pytest.fixture
def wanted(tmp_path: Path) -> Path:
    """Three sessions: one plain, one of the cold item alone, one with an unknown item."""
    file = tmp_path / "s.csv"
    file.write_text("session_id,item_id\nnow,i0\nnow,i1\ncold,i29\nodd,boat\nodd,i7\n", "utf-8")
    return file


def test_recommend_takes_and_gives_external_ids(
    alterrec: Command, trained: tuple[Path, str], wanted: Path
) -> None:
    code, out, err = alterrec("recommend", trained[0], "--sessions", wanted, "-k", 4)
    assert code == 0
    assert "dropped 1 of 5 rows with unknown items" in err
    rows = list(csv.DictReader(io.StringIO(out)))
    assert list(rows[0]) == ["session_id", "rank", "item_id", "score", "source"]
    assert [(row["session_id"], row["rank"]) for row in rows] == [
        (session, str(rank)) for session in ("now", "cold", "odd") for rank in range(1, 5)
    ]
    scores = [float(row["score"]) for row in rows[:4]]
    assert scores == sorted(scores, reverse=True)
    assert {row["item_id"] for row in rows} <= {f"i{number}" for number in range(30)}


@pytest.mark.parametrize("name", ["top.csv", "top.parquet"])
def test_recommend_writes_the_same_into_a_file(
    alterrec: Command, trained: tuple[Path, str], wanted: Path, tmp_path: Path, name: str
) -> None:
    printed = alterrec("recommend", trained[0], "--sessions", wanted, "-k", 4).out
    code, out, _ = alterrec("recommend", trained[0], "--sessions", wanted, "-k", 4, "--out", tmp_path / name)
    assert (code, out) == (0, "")
    read = pl.read_csv if name.endswith("csv") else pl.read_parquet
    frame = read(tmp_path / name)
    assert frame["item_id"].to_list() == pl.read_csv(io.StringIO(printed))["item_id"].to_list()


@pytest.mark.parametrize("k", [0, 31])
def test_recommend_more_or_less_than_there_are_is_wrong_input(
    alterrec: Command, trained: tuple[Path, str], wanted: Path, k: int
) -> None:
    code, out, err = alterrec("recommend", trained[0], "--sessions", wanted, "-k", k)
    assert (code, out) == (2, "")
    assert f"k is {k}; expected 1 to " in err


def test_ctrl_c_ends_with_130_and_the_best_so_far(shop_source: Path, tmp_path: Path) -> None:
    command = program("train", "--data", shop_source, "--out", tmp_path / "run", *TINY, NO_REPORT)
    command += ["--set=schedule.epochs=20000", "--set=schedule.patience=20000"]
    command.remove("--set=schedule.epochs=6")
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        for line in process.stdout:
            if line.startswith("epoch 5/"):
                process.send_signal(signal.SIGINT)
                break
        out, err = process.stdout.read(), process.stderr.read()
    assert process.returncode == 130
    assert "the best epoch so far" in err
    assert "Traceback" not in err
    assert out.splitlines()[-1] == str(tmp_path / "run")
    result = json.loads((tmp_path / "run" / "result.json").read_text())
    assert result["stopped"] == "interrupted"
    assert 1 <= result["best_epoch"] <= result["epochs"] < 20000


KILLED = """
import os, signal, sys
from alterrec import __version__, cli
from alterrec.cli import listings
from alterrec.console import Watcher

def killing(self, event, show=Watcher.__call__):
    show(self, event)
    if (event.kind, event.epoch) == ("step", 4):
        os.kill(os.getpid(), signal.SIGKILL)

Watcher.__call__ = killing
cli.train_main()
"""


def test_a_killed_run_resumes_to_the_same_weights(
    alterrec: Command, trained: tuple[Path, str], shop_source: Path, tmp_path: Path
) -> None:
    arguments = ["--data", str(shop_source), "--out", str(tmp_path / "run"), *TINY, NO_REPORT]
    killed = subprocess.run([sys.executable, "-c", KILLED, *arguments], capture_output=True, timeout=120)
    assert killed.returncode == -signal.SIGKILL
    assert not (tmp_path / "run" / "result.json").exists()
    code, out, _ = alterrec("train", *arguments, "--resume")
    assert code == 0
    assert "resumed after epoch 3" in out
    whole, resumed = (load_file(folder / "model.safetensors") for folder in (trained[0], tmp_path / "run"))
    assert whole.keys() == resumed.keys()
    assert all(np.array_equal(whole[name], resumed[name]) for name in whole)
    assert not [name for name in os.listdir(tmp_path / "run") if name.startswith(".")]

"""What a study needs, chooses and says of its runs; no training, its runs are written by hand."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from study_folder import finish

from alterrec.data.readers import DataSource
from alterrec.errors import InputError
from alterrec.evaluation.sign_flips import flip_test
from alterrec.models.catalogue import MODELS
from alterrec.recipe import recipe_names, resolve
from alterrec.recipe_settings import SESSION_ENCODERS
from alterrec.record_json import from_json, to_json
from alterrec.studies import table1
from alterrec.studies.estimates import START_SECONDS, DataSizes, epoch_operations, estimate_seconds
from alterrec.studies.plan import PAPER_GRID, QUICK, StudyOptions, failure_of, plan_of, plan_row
from alterrec.studies.queue import Failure, RunQueue, describe, seconds_left
from alterrec.studies.study import find_study, run_study
from alterrec.studies.study_result import row_result, study_result
from alterrec.study_records import StudyResult

GRID = {"optim.lr": (0.01, 0.001), "model.dropout": (0.1, 0.5)}


@pytest.fixture
def runs(tmp_path: Path) -> RunQueue:
    return RunQueue(tmp_path / "runs", DataSource(tmp_path / "shop"), "fingerprint")


def test_a_row_is_searched_first_then_its_seeds_are_known_by_number(runs: RunQueue) -> None:
    row = plan_row("sasrec", runs, GRID, seeds=3)
    assert [run.label for run in row.tried] == [
        "sasrec, lr 0.01, dropout 0.1, seed 0",
        "sasrec, lr 0.01, dropout 0.5, seed 0",
        "sasrec, lr 0.001, dropout 0.1, seed 0",
        "sasrec, lr 0.001, dropout 0.5, seed 0",
    ]
    assert (row.chosen, row.seeds, row.later) == (None, (), 2)
    assert len(plan_of([row]).runs) == 4
    assert plan_of([row]).later == ["sasrec", "sasrec"]


def test_the_paper_searches_six_settings_and_the_text_network_too(runs: RunQueue) -> None:
    tried = plan_row("alterrec", runs, PAPER_GRID, 3).tried
    assert len(tried) == 6
    assert [run.recipe.model.dropout for run in tried] == [run.recipe.text.dropout for run in tried]
    assert {(run.recipe.optim.lr, run.recipe.model.dropout) for run in tried} == {
        (lr, dropout) for lr in (0.01, 0.001) for dropout in (0.1, 0.3, 0.5)
    }
    assert not any(run.recipe.run.baselines or run.recipe.run.report for run in tried)


def test_a_model_that_gives_text_a_dropout_of_its_own_keeps_it(runs: RunQueue) -> None:
    tried = plan_row("fdsa", runs, PAPER_GRID, 1).tried
    assert {run.recipe.text.dropout for run in tried} == {0.0}
    assert {run.recipe.model.dropout for run in tried} == {0.1, 0.3, 0.5}
    runs.settings = {"text.dropout": 0.25}
    tried = plan_row("alterrec", runs, PAPER_GRID, 1).tried
    assert {run.recipe.text.dropout for run in tried} == {0.25}


def test_dropout_is_searched_where_there_is_some(tmp_path: Path) -> None:
    def dropouts(model: str, **settings: Any) -> list[float]:
        given = {key.replace("__", "."): value for key, value in settings.items()}
        tried = plan_row(model, RunQueue(tmp_path, DataSource(), "", settings=given), GRID, 1).tried
        return sorted({run.recipe.model.dropout for run in tried})

    assert dropouts("srgnn") == dropouts("id_only") == [0.1]
    assert dropouts("alterrec") == dropouts("text_only") == dropouts("hggnn") == [0.1, 0.5]
    assert dropouts("srgnn", id__session="gru") == [0.1, 0.5]
    assert dropouts("srgnn", id__session="gru", id__dropout=0.2) == [0.1]
    assert dropouts("alterrec", text__dropout=0.0) == [0.1]
    # The encoder of id_only has no dropout: two learning rates, not six settings.
    assert len(plan_row("id_only", RunQueue(tmp_path, DataSource(), ""), PAPER_GRID, 3).tried) == 2
    assert dropouts("alterrec", text__dropout=0.0, id__session="transformer") == [0.1, 0.5]


def test_an_encoder_added_by_its_name_alone_is_searched_without_dropout(
    runs: RunQueue, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The encoder of docs/extending.md reads no setting, so two rates are tried and not six runs."""
    monkeypatch.setitem(SESSION_ENCODERS, "last", ())
    runs.settings = {"id.session": "last"}
    for model in ("sasrec", "id_only", "bert4rec", "nfrec_concat"):
        tried = plan_row(model, runs, PAPER_GRID, 1).tried
        assert [run.recipe.optim.lr for run in tried] == [0.01, 0.001] or model == "nfrec_concat"
        assert len(tried) == (6 if model == "nfrec_concat" else 2)


def test_a_row_without_dropout_tells_of_none(runs: RunQueue) -> None:
    rows = [plan_row(model, runs, {}, 1) for model in ("srgnn", "sasrec", "itemknn")]
    for row in rows:
        finish(runs, row.seeds[0])
    settings = [row_result(row, runs).setting for row in rows]
    assert settings == [{"lr": 0.001}, {"lr": 0.001, "dropout": 0.3}, {}]


def test_a_setting_of_the_user_is_no_axis(runs: RunQueue) -> None:
    runs.settings = {"optim.lr": "0.005"}
    tried = plan_row("sasrec", runs, GRID, 1).tried
    assert [(run.recipe.optim.lr, run.recipe.model.dropout) for run in tried] == [(0.005, 0.1), (0.005, 0.5)]


def test_validation_chooses_and_test_is_not_looked_at(runs: RunQueue) -> None:
    tried = plan_row("sasrec", runs, GRID, 3).tried
    for run, valid, test in zip(tried, (0.20, 0.31, 0.30, 0.31), (0.9, 0.1, 0.95, 0.8), strict=True):
        assert plan_row("sasrec", runs, GRID, 3).chosen is None
        finish(runs, run, valid=valid, test=test)
    row = plan_row("sasrec", runs, GRID, 3)
    assert row.chosen is tried[1]
    # The search's own run is seed 0; seeds 1 and 2 are new.
    assert row.seeds[0] is tried[1]
    assert [run.recipe.run.seed for run in row.seeds] == [0, 1, 2]
    assert {run.recipe.model.dropout for run in row.seeds} == {0.5}
    assert len(plan_of([row]).runs) == 6


def test_the_recipes_own_metric_chooses(runs: RunQueue) -> None:
    runs.settings = {"schedule.metric": "mrr@20", "model.dropout": 0.1}
    first, second = plan_row("sasrec", runs, GRID, 1).tried
    finish(runs, first, valid={"hits@20": 0.9, "mrr@20": 0.1})
    finish(runs, second, valid={"hits@20": 0.1, "mrr@20": 0.2})
    assert plan_row("sasrec", runs, GRID, 1).chosen is second


def test_systems_that_count_have_one_run(runs: RunQueue) -> None:
    row = plan_row("itemknn", runs, GRID, 3)
    assert len(row.tried) == 1
    assert row.seeds == row.tried
    assert row.later == 0


def test_without_a_search_all_seeds_are_open_at_once(runs: RunQueue) -> None:
    row = plan_row("id_only", runs, {}, 3)
    assert [run.recipe.run.seed for run in row.seeds] == [0, 1, 2]


def test_what_is_refused_once_is_not_tried_again(runs: RunQueue) -> None:
    tried = plan_row("alterrec", runs, GRID, 3).tried
    runs.failures[tried[2]] = Failure("no user ids", 2, refused=True)
    row = plan_row("alterrec", runs, GRID, 3)
    assert (row.tried, row.chosen, row.seeds, row.later) == ((tried[2],), None, (), 0)
    assert failure_of(row, runs) == ("no user ids", 2, True)


def test_a_setting_that_fails_is_left_out_of_the_choice(runs: RunQueue) -> None:
    tried = plan_row("sasrec", runs, GRID, 1).tried
    for run in tried[:3]:
        runs.failures[run] = Failure("the loss is nan", 2)
    finish(runs, tried[3], valid=0.01)
    assert plan_row("sasrec", runs, GRID, 1).chosen is tried[3]


def test_a_row_whose_settings_all_fail_ends(runs: RunQueue) -> None:
    for run in plan_row("sasrec", runs, GRID, 3).tried:
        runs.failures[run] = Failure("killed", -9)
    row = plan_row("sasrec", runs, GRID, 3)
    assert (row.chosen, row.later) == (None, 0)
    assert failure_of(row, runs) == ("killed", -9, False)


def test_an_interrupted_run_is_not_finished(runs: RunQueue) -> None:
    (run,) = plan_row("id_only", runs, {}, 1).tried
    finish(runs, run, stopped="interrupted")
    assert not runs.ended(run)


def test_folders_are_named_by_recipe_and_data(runs: RunQueue, tmp_path: Path) -> None:
    run = runs.make("id_only", {"optim.lr": 0.01}, 0)
    assert runs.make("id_only", {"optim.lr": 0.01}, 0) is run
    same = RunQueue(tmp_path / "elsewhere", DataSource(tmp_path / "moved"), "fingerprint")
    assert same.make("id_only", {"optim.lr": 0.01}, 0).name == run.name
    others = [
        runs.make("id_only", {"optim.lr": 0.01}, 1),
        runs.make("id_only", {"optim.lr": 0.02}, 0),
        RunQueue(runs.folder, runs.source, "other data").make("id_only", {"optim.lr": 0.01}, 0),
        RunQueue(runs.folder, runs.source, "fingerprint", settings={"run.threads": 1}).make(
            "id_only", {"optim.lr": 0.01}, 0
        ),
    ]
    assert len({run.name, *(other.name for other in others)}) == 5


def test_a_command_continues_from_a_checkpoint(runs: RunQueue, tmp_path: Path) -> None:
    runs.settings = {"text.encoder": "all-MiniLM-L6-v2", "cloze.ratio": 0.3}
    run = runs.make("text_only", {"optim.lr": 0.01}, 2)
    command = runs.command(run)
    assert command[1:5] == ["-m", "alterrec.worker", "train", "text_only"]
    assert {
        f"--data={tmp_path / 'shop'}",
        f"--out={runs.path(run)}",
        "--preset=paper",
        "--set=text.encoder=all-MiniLM-L6-v2",
        "--set=optim.lr=0.01",
        "--set=run.seed=2",
        "--set=run.baselines=false",
    } <= set(command)
    assert "--resume" not in command
    (runs.path(run) / "checkpoint").mkdir(parents=True)
    (runs.path(run) / "checkpoint" / "progress.safetensors").touch()
    runs.clear(run)
    assert "--resume" in runs.command(run)


def test_what_a_run_left_before_its_first_epoch_is_cleared(runs: RunQueue) -> None:
    run = runs.make("id_only", {}, 0)
    runs.path(run).mkdir(parents=True)
    (runs.path(run) / "recipe.toml").touch()
    runs.clear(run)
    assert not runs.path(run).exists()


@pytest.mark.parametrize(
    ("code", "log", "began", "failure"),
    [
        (2, "noise\nerror: no user ids\n", False, ("no user ids", 2, True)),
        (2, "epoch 1/3\nerror: the loss is nan\n", True, ("the loss is nan", 2, False)),
        (1, "failure of alterrec\n\n", True, ("exit code 1: failure of alterrec", 1, False)),
        (
            -9,
            "epoch 1/3",
            True,
            (
                "killed by signal 9, perhaps because memory ran out; the last line of its log is 'epoch 1/3'",
                -9,
                False,
            ),
        ),
        (0, "", True, ("no result; its log is empty", 0, False)),
    ],
)
def test_failures_in_words(
    runs: RunQueue, code: int, log: str, began: bool, failure: tuple[str, int, bool]
) -> None:
    run = runs.make("id_only", {}, 0)
    if began:
        runs.path(run).mkdir(parents=True)
        (runs.path(run) / "recipe.toml").touch()
    assert runs.failure(run, code, log) == failure


def test_the_time_left_by_hand(runs: RunQueue) -> None:
    rows = [plan_row(model, runs, {}, 2) for model in ("id_only", "text_only", "itemknn")]
    plan = plan_of(rows)
    assert describe([(plan, runs)], 1) == "5 runs, 0 finished; 5 to go, the time is not known yet"
    (knn,) = rows[2].seeds
    finish(runs, knn, seconds=1.0)
    assert seconds_left(plan, runs, 1, {}) is None
    counted = plan_of([rows[2], plan_row("popularity", runs, {}, 2)])
    assert seconds_left(counted, runs, 1, {}) == 1.0
    finish(runs, rows[0].seeds[0], seconds=40.0)
    # One more of id_only takes 40 s by its own, two of text_only 40 s by all that train.
    assert seconds_left(plan, runs, 1, {}) == 120.0
    assert seconds_left(plan, runs, 2, {rows[0].seeds[1]: 30.0, rows[1].seeds[0]: 99.0}) == (10 + 0 + 40) / 2
    finish(runs, rows[1].seeds[0], seconds=10.0)
    assert seconds_left(plan, runs, 1, {}) == 50.0
    assert describe([(plan, runs)], 1) == "5 runs, 3 finished; 2 to go, about 50.0 s"


def test_settings_not_chosen_yet_are_counted(runs: RunQueue) -> None:
    row = plan_row("sasrec", runs, GRID, 3)
    for run in row.tried[:3]:
        finish(runs, run, seconds=10.0)
    plan = plan_of([plan_row("sasrec", runs, GRID, 3)])
    assert describe([(plan, runs)], 1) == "6 runs, 3 finished; 3 to go, about 30.0 s"


def options(*models: str, seeds: int = 1) -> StudyOptions:
    return StudyOptions(only=models, seeds=seeds, command="alterrec study table1")


def test_ours_are_compared_with_the_best_baseline_of_each_metric_over_seeds(runs: RunQueue) -> None:
    models = ("alterrec", "alterrec_random", "id_only", "text_only")
    rows = [plan_row(model, runs, {}, 2) for model in models]
    above = {
        # Items above the target of six sessions, by seed.
        "alterrec": ([0, 0, 0, 0, 0, 99], [0, 0, 0, 0, 99, 99]),
        "alterrec_random": ([0] * 6, [0] * 6),
        "id_only": ([15, 99, 99, 15, 15, 15], [15, 99, 99, 15, 15, 15]),
        "text_only": ([9, 99, 99, 99, 99, 99], [99, 9, 9, 99, 99, 99]),
    }
    for row in rows:
        for run, greater in zip(row.seeds, above[row.model], strict=True):
            finish(runs, run, greater=greater)
    facts = study_result(table1.STUDY, options(*models, seeds=2), rows, runs)
    assert [row.kind for row in facts.rows] == ["ours", "ablation", "baseline", "baseline"]
    assert facts.complete
    found = {each.metric: each for each in facts.comparisons}
    assert {each.system for each in facts.comparisons} == {"alterrec"}
    # Within the first 10: text_only 3 of 12, id_only none; within 20: id_only 8 of 12.
    assert (found["hits@10"].baseline, found["hits@20"].baseline) == ("text_only", "id_only")
    assert found["hits@10"].mean == pytest.approx(9 / 12 - 3 / 12)
    assert found["hits@20"].mean == pytest.approx(9 / 12 - 8 / 12)
    # Means over seeds less id_only's: 0 1 1 0 -1/2 -1.
    assert found["hits@20"].p == flip_test(np.array([[0.0], [1], [1], [0], [-0.5], [-1]])).p_K[0]
    assert all(each.p_adjusted >= each.p for each in facts.comparisons)
    assert from_json(StudyResult, json.dumps(to_json(facts)), "study.json") == facts


def test_without_a_baseline_nothing_is_compared(runs: RunQueue) -> None:
    rows = [plan_row(model, runs, {}, 1) for model in ("alterrec", "id_only")]
    finish(runs, rows[0].seeds[0])
    facts = study_result(table1.STUDY, options("alterrec", "id_only"), rows, runs)
    assert facts.comparisons == []
    assert not facts.complete


def test_damaged_ranks_are_named(runs: RunQueue) -> None:
    rows = [plan_row(model, runs, {}, 1) for model in ("alterrec", "id_only")]
    for row in rows:
        finish(runs, row.seeds[0])
    (runs.path(rows[1].seeds[0]) / "ranks.parquet").write_bytes(b"PAR1")
    with pytest.raises(InputError, match=r"id_only-.*ranks\.parquet is damaged"):
        study_result(table1.STUDY, options("alterrec", "id_only"), rows, runs)


def test_every_system_is_a_baseline_but_alterrec_and_its_variants() -> None:
    assert {model for model in recipe_names("models") if MODELS[model].kind == "ours"} == {
        "alterrec",
        "alterrec_aug",
    }
    assert {model for model in recipe_names("models") if MODELS[model].kind == "ablation"} == {
        "alterrec_random",
        "alterrec_wo_id",
        "alterrec_wo_text",
    }


def test_options_are_an_object_or_keywords() -> None:
    with pytest.raises(InputError, match="--jobs is 0; use 1 or more"):
        run_study("table1", options=StudyOptions(jobs=0))
    with pytest.raises(InputError, match="--seeds is 0; use 1 or more"):
        run_study("table1", None, StudyOptions(jobs=0), jobs=1, seeds=0, only=None)
    assert StudyOptions(quick=True).num_seeds == 1
    assert StudyOptions(search=True, settings={"optim.lr": 0.1}).grid == {
        "model.dropout": PAPER_GRID["model.dropout"]
    }


def test_an_unknown_study_names_the_nearest() -> None:
    with pytest.raises(InputError, match=r"'tabel1' is unknown; choose one of .*; did you mean 'table1'"):
        find_study("tabel1")


def test_help_describes_quick(capsys: pytest.CaptureFixture[str]) -> None:
    from alterrec import cli

    with pytest.raises(SystemExit):
        cli.app(["study", "--help"], prog_name="alterrec")
    said = " ".join(capsys.readouterr().out.split())
    assert all(f"{key} {value}" in said for key, value in QUICK.items())
    assert "alterrec list systems" in said


def test_before_any_run_the_time_is_estimated_from_the_size_of_the_data(runs: RunQueue) -> None:
    runs.sizes = DataSizes(2_000, np.full(1_000, 4), 100)
    small = plan_of([plan_row("id_only", runs, {}, 1)])
    assert "1 to go, roughly" in describe([(small, runs)], 1)
    recipe = small.runs[0].recipe
    wider = resolve("id_only", ["paper"], {"model.dim": 2 * recipe.model.dim})
    assert epoch_operations(wider, runs.sizes) > 2 * epoch_operations(recipe, runs.sizes)
    capped = resolve("id_only", ["paper"], {"data.prefixes": 1})
    assert epoch_operations(capped, runs.sizes) < epoch_operations(recipe, runs.sizes)
    assert estimate_seconds(resolve("itemknn", ["paper"]), runs.sizes) == START_SECONDS

"""What a study finds out before its first run: rows that cannot run, and how it goes on without them."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import Outcome
from made_amazon_m2 import write_amazon_m2
from study_folder import finish
from worlds import small_dataset

from alterrec.data.dataset import Dataset, ItemText
from alterrec.data.readers import DataSource
from alterrec.data.text import missing_encoder
from alterrec.data.vector_cache import VectorCache
from alterrec.errors import InputError
from alterrec.recipe import resolve
from alterrec.studies import preflight, study
from alterrec.studies.estimates import DataSizes
from alterrec.studies.plan import StudyOptions, plan_row
from alterrec.studies.preflight import RowCheck, check_quick, check_rows, record_refusals, table_of
from alterrec.studies.queue import RunQueue
from alterrec.studies.study import plan_study, run_study

Command = Callable[..., Outcome]
ABSENT = "no-such-encoder-of-alterrec"


def queue_of(folder: Path, data: Dataset, **settings: Any) -> RunQueue:
    given = {key.replace("__", "."): value for key, value in settings.items()}
    return RunQueue(folder, DataSource(data), data.fingerprint, settings=given, sizes=DataSizes.of(data))


def checked(folder: Path, data: Dataset, *models: str, **settings: Any) -> dict[str, RowCheck]:
    queue = queue_of(folder, data, **settings)
    rows = [plan_row(model, queue, {}, 2) for model in models]
    return {row.label: row for row in check_rows(rows, queue, data).rows}


def test_a_window_stops_systems_that_rank_it_and_no_others(tmp_path: Path) -> None:
    rows = checked(
        *(tmp_path, small_dataset(), "alterrec", "alterrec_random", "alterrec_wo_text", "sasrec", "itemknn"),
        window__last=100,
    )
    assert {label for label, row in rows.items() if row.reason} == {"alterrec"}
    assert rows["alterrec"].reason.startswith("window.first is 6 and window.last is 100")
    assert not rows["alterrec"].refused
    assert [rows[label].runs for label in ("sasrec", "itemknn")] == [2, 1]
    assert checked(tmp_path, small_dataset(), "alterrec", window__last=10)["alterrec"].reason == ""


def test_what_the_data_lack_is_not_applicable(tmp_path: Path) -> None:
    models = ("hggnn", "text_only", "alterrec", "id_only", "unisrec_pretrained")
    whole = checked(tmp_path, small_dataset(users=3), *models)
    # Its weights are trained elsewhere.
    assert {label for label, row in whole.items() if row.reason} == {"unisrec_pretrained"}
    without = replace(small_dataset(), text=ItemText({"title": [""] * 40}))
    rows = checked(tmp_path, without, *models)
    assert {label for label, row in rows.items() if row.refused} == set(models) - {"id_only"}
    assert "requires user ids" in rows["hggnn"].reason
    assert "reads item text" in rows["alterrec"].reason
    vectors = replace(without, vectors=np.ones((40, 3), np.float32))
    assert not checked(tmp_path, vectors, "text_only", text__encoder=ABSENT)["text_only"].reason


def test_a_named_system_must_run(tmp_path: Path) -> None:
    data = small_dataset()
    queue = queue_of(tmp_path, data)
    rows = [plan_row(model, queue, {}, 1) for model in ("hggnn", "id_only")]
    check = check_rows(rows, queue, data)
    assert (check.obstacles, check.runnable) == ([], True)
    assert [row.model for row in check_rows(rows, queue, data, ["hggnn"]).obstacles] == ["hggnn"]
    table = table_of([check])
    assert table.columns == ("system", "runs", "time", "memory", "in the way")
    assert table.rows[0][-1].startswith("N/A: model 'hggnn' requires user ids")
    assert table.rows[1][-1] == "-"
    assert table_of([check, check]).columns[0] == "data"
    record_refusals(rows, queue, check)
    (hggnn,) = rows[0].tried
    assert queue.failures[hggnn].refused
    assert plan_row("hggnn", queue, {}, 1).seeds == ()


def test_an_encoder_that_cannot_be_had(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ALTERREC_CACHE", str(tmp_path / "cache"))
    data = small_dataset()
    rows = checked(tmp_path, data, "text_only", "id_only", text__encoder=ABSENT)
    assert f"text encoder {ABSENT!r} is not on this machine" in rows["text_only"].reason
    assert "--text-encoder lsa" in rows["text_only"].reason
    assert rows["id_only"].reason == ""
    folder = tmp_path / "model"
    folder.mkdir()
    assert missing_encoder(str(folder)) == missing_encoder("lsa") == ""
    # With a vector for each text, nothing has to be encoded.
    assert data.text is not None
    cache = VectorCache(tmp_path / "cache", f"{ABSENT}|None|None")
    cache.vectors(data.text.fields["title"], lambda texts: np.ones((len(texts), 2), np.float32))
    assert not checked(tmp_path, data, "text_only", text__encoder=ABSENT)["text_only"].reason


def test_memory_against_the_machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(preflight, "machine_memory", lambda: 2**29)
    data = small_dataset()
    reason = checked(tmp_path, data, "id_only")["id_only"].reason
    assert reason.startswith("a run takes about 7")
    assert "but this machine has 512 MiB; set run.memory_budget" in reason
    limited = checked(tmp_path, data, "id_only", run__memory_budget="450MiB")["id_only"]
    assert limited.reason == ""
    too_low = checked(tmp_path, data, "id_only", run__memory_budget="100MiB")["id_only"].reason
    assert too_low.startswith(
        "run.memory_budget is 100 MiB, but id_only on 40 items needs more than 400 MiB, which is a lower "
    )
    beyond = checked(tmp_path, data, "id_only", run__memory_budget="1GiB")["id_only"].reason
    assert beyond == "run.memory_budget is 1.0 GiB, but this machine has 512 MiB; lower it"
    monkeypatch.setattr(preflight, "machine_memory", lambda: 2**30)
    queue = queue_of(tmp_path, data)
    rows = [plan_row("id_only", queue, {}, 1)]
    assert check_rows(rows, queue, data).obstacles == []
    assert ", 2 at a time" in check_rows(rows, queue, data, jobs=2).obstacles[0].reason


def test_a_device_and_weights_that_are_not_there(tmp_path: Path) -> None:
    data = small_dataset()
    reason = checked(tmp_path, data, "id_only", run__device="nowhere")["id_only"].reason
    assert reason.startswith("run.device is 'nowhere', which cannot be used")
    absent = str(tmp_path / "weights.pth")
    reason = checked(tmp_path, data, "unisrec", model__init_from=absent)["unisrec"].reason
    assert reason.startswith(f"model.init_from is {absent!r}: no such file or run folder")


def test_locales_are_given_once_or_for_each_data_set(
    shop: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    folder = write_amazon_m2(tmp_path / "m2")

    def locales(data: dict[str, Path], locale: str | list[str]) -> list[str | None]:
        planned = plan_study("table1", data, only=("popularity",), locale=locale, out=tmp_path / "out")
        return [part.queue.source.locale for part in planned.parts]

    assert locales({"one": folder, "two": folder}, ["FR", "ES"]) == ["FR", "ES"]
    assert locales({"one": folder, "two": folder}, "FR") == ["FR", "FR"]
    assert locales({"one": folder, "two": shop}, ["FR", ""]) == ["FR", None]
    with pytest.raises(InputError, match="--locale is given 3 times for 2 data sets; give it once for all"):
        locales({"one": folder, "two": folder}, ["FR", "ES", "JP"])


def test_finished_runs_are_measured_and_not_checked(tmp_path: Path) -> None:
    data = small_dataset()
    queue = queue_of(tmp_path, data, window__last=100)
    row = plan_row("alterrec", queue, {}, 2)
    finish(queue, row.seeds[0], seconds=40.0, peak_memory_bytes=3 * 2**30)
    (check,) = check_rows([row], queue, data).rows
    assert (check.finished, check.seconds, check.memory) == (1, 40.0, 3 * 2**30)
    assert check.reason.startswith("window.first")
    finish(queue, row.seeds[1], seconds=40.0)
    (check,) = check_rows([row], queue, data).rows
    assert (check.finished, check.seconds, check.reason) == (2, 0.0, "")


def test_wrong_schedules_are_found(tmp_path: Path) -> None:
    rows = checked(tmp_path, small_dataset(), "alterrec", "sasrec", schedule__epochs=3)
    assert rows["alterrec"].reason.startswith("schedule.warmup is 2 and schedule.epochs is 3")
    assert rows["sasrec"].reason == ""


def test_a_quick_study_adapts_what_presets_ask_for_and_nothing_else() -> None:
    data = small_dataset()
    recipes = [
        resolve(model, ["paper", "amazon-m2"], {"text.encoder": ABSENT}) for model in ("alterrec", "sasrec")
    ]
    made = {"window.first": 1, "window.last": 0.5, "text.encoder": "lsa"}
    assert check_quick(recipes, [], data) == made
    assert check_quick(recipes, ["window.last"], data) == {"text.encoder": "lsa"}
    assert check_quick(recipes, ["text.encoder", "window.first"], data) == {}
    assert check_quick(recipes[1:], [], data) == {}
    assert check_quick([resolve("alterrec", ["paper"])], [], data) == {}
    options = StudyOptions(quick=True, adapted=made, settings={"text.encoder": "x"})
    assert options.fixed["window.last"] == 0.5
    assert options.fixed["text.encoder"] == "x"
    assert StudyOptions(adapted=made).fixed == {}


def test_ctrl_c_before_the_first_run_is_no_wrong_input(
    alterrec: Command, shop: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(study, "run_plan", interrupted)
    # The data have no users, so that hggnn is N/A.
    asked = ["--data", shop, "--out", tmp_path / "out", "--quick", "--skip=alterrec"]
    code, out, err = alterrec("study", "table1", *asked)
    assert (code, err) == (130, "stopped; run the same command again to resume\n")
    assert "N/A: model 'hggnn' requires user ids" in out


def test_a_study_stops_before_anything_is_written(shop: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError) as caught:
        run_study(
            *("table1", shop),
            out=tmp_path / "out",
            settings={"window.last": np.int64(100)},
            only=("alterrec", "hggnn", "itemknn"),
        )
    said = str(caught.value)
    assert said.startswith("2 of 3 rows cannot run: alterrec: window.first is 6 and window.last is 100")
    assert "; hggnn: model 'hggnn' requires user ids" in said
    assert said.endswith("or leave them out with --skip alterrec --skip hggnn")
    assert not (tmp_path / "out").exists()
    left = plan_study("table1", shop, only=("alterrec", "itemknn"), skip=("alterrec",))
    assert left.options.only == ("itemknn",)
    left.require()
    with pytest.raises(InputError, match="--skip leaves no system"):
        plan_study("table1", shop, only=("itemknn",), skip=("itemknn",))
    with pytest.raises(InputError, match=r"--skip is 'itemnn'.*did you mean 'itemknn'"):
        plan_study("table1", shop, skip=("itemnn",))


def test_the_command_checks_stops_and_asks(
    alterrec: Command, shop: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = [
        "study",
        "table1",
        "--data",
        shop,
        "--out",
        tmp_path / "out",
        "--only=alterrec",
        "--only=popularity",
    ]
    code, out, err = alterrec(*asked, "--check")
    assert (code, err) == (0, "")
    assert [line.split()[0] for line in out.splitlines()] == ["system", "-" * 10, "alterrec", "popularity"]
    broken = [*asked, "--set=window.last=1000"]
    for extra in ([], ["--check"]):
        code, out, err = alterrec(*broken, *extra)
        assert code == 2
        assert "window.first is 6 and window.last is 1000" in out
        assert err.startswith("error: 1 of 2 rows cannot run: alterrec: window.first")
        assert err.endswith("or leave it out with --skip alterrec\n")
    assert not (tmp_path / "out").exists()
    questions = []
    monkeypatch.setattr("alterrec.cli.studies._agrees", lambda question: not questions.append(question))
    code, out, err = alterrec(*broken)
    assert (code, err) == (0, "")
    assert questions == ["Leave out alterrec and go on?"]
    study = json.loads((tmp_path / "out" / "study.json").read_text("utf-8"))
    assert [row["model"] for row in study["rows"]] == ["popularity"]

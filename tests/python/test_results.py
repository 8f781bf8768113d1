"""The schema of run and study files: what is written is in the records, and is read back as it was."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from report_folder import write_run

from alterrec import fit
from alterrec.errors import InputError
from alterrec.record_json import from_json, to_json
from alterrec.results import SCHEMA, Epoch, Example, PhaseRecord, RunResult, read_run
from alterrec.study_records import StudyResult

TINY = {"model.dim": 8, "schedule.epochs": 6, "optim.batch_size": 64, "run.threads": 1, "run.report": False}


@pytest.fixture(scope="module")
def written(shop_source: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of two networks with all optional parts of its result."""
    return fit(
        shop_source,
        "alterrec",
        out=tmp_path_factory.mktemp("fit") / "run",
        overrides=TINY | {"fusion.trend": False},
        profile=True,
    ).path


def keys(value: Any) -> Any:
    """The names in a JSON value, without its numbers."""
    if isinstance(value, dict):
        return {name: keys(each) for name, each in value.items()}
    return [keys(each) for each in value] if isinstance(value, list) else None


def test_every_key_of_a_run_is_in_its_record(written: Path) -> None:
    text = (written / "result.json").read_text("utf-8")
    assert to_json(from_json(RunResult, text, "result.json")) == json.loads(text)
    for line in (written / "curves.jsonl").read_text("utf-8").splitlines():
        assert to_json(from_json(Epoch, line, "curves.jsonl")) == json.loads(line)
    text = (written / "examples.json").read_text("utf-8")
    assert to_json(from_json(tuple[Example, ...], text, "examples.json")) == json.loads(text)


def test_no_part_of_a_result_is_empty(written: Path) -> None:
    numbers = json.loads((written / "result.json").read_text("utf-8"))
    # What a run of this kind has nothing to say of.
    empty = {"warnings", "repeats", "gate", "lists", "catalogue_changes"}
    assert {name for name, value in numbers.items() if value in ({}, [], None)} <= empty
    assert numbers["schema"] == SCHEMA
    assert set(numbers["phases"][0]) == {"name", "from", "to", "trained", "negatives", "teacher"}
    assert {phase["trained"] for phase in numbers["phases"]} == {"id", "text"}


def test_version_0_1_0_wrote_no_other_keys(written: Path) -> None:
    old = Path(__file__).parents[1] / "data" / "runs" / "alterrec"
    before = json.loads((old / "result.json").read_text("utf-8"))
    now = json.loads((written / "result.json").read_text("utf-8"))
    assert before.keys() <= now.keys()
    # Since schema 3, these are the rule for seen items and the number of targets that repeat one.
    assert before["data"].pop("exclude_seen") is True
    assert now["data"].pop("seen") == "excluded"
    assert [targets.pop("repeated") for targets in now["targets"].values()] == [0, 0]
    # Baselines have been added since.
    now["baselines"] = {name: now["baselines"][name] for name in before["baselines"]}
    for name in ("data", "targets", "valid", "fusion", "baselines", "seconds_by_part", "versions"):
        assert keys(before[name]) == keys(now[name])
    assert before["phases"][0].keys() == now["phases"][0].keys()
    first, again = (
        json.loads((folder / "curves.jsonl").read_text("utf-8").splitlines()[0]) for folder in (old, written)
    )
    assert first.keys() == again.keys()


def test_a_list_of_one_trained_network_is_read(tmp_path: Path) -> None:
    old = {"from": 1, "to": 2, "trained": ["id"], "negatives": "full"}
    assert from_json(PhaseRecord, json.dumps(old), "") == PhaseRecord(1, 2, "id", "full")
    two = json.dumps(old | {"trained": ["id", "text"]})
    with pytest.raises(InputError, match="trained: Input should be a valid string"):
        from_json(PhaseRecord, two, "result.json")


@pytest.mark.parametrize("kind", [RunResult, StudyResult])
def test_a_later_schema_is_refused(kind: type, tmp_path: Path) -> None:
    with pytest.raises(
        InputError, match=r"^f has schema 4, and this version of .* 1 to 3; upgrade alterrec$"
    ):
        from_json(kind, '{"schema": 4, "model": "sasrec"}', "f")
    # Also where all that this version knows is there.
    run = write_run(tmp_path / "run", schema=SCHEMA + 1)
    with pytest.raises(InputError, match="upgrade alterrec"):
        read_run(run)


def test_a_number_that_is_not_written_yet_has_a_default(tmp_path: Path) -> None:
    run = read_run(write_run(tmp_path / "run", schema=1)).result
    assert (run.schema, run.profile, run.data.notes, run.phases[0].name) == (1, {}, [], "")

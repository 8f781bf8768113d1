"""The table of every study with and without the session's own items, worked by hand."""

from __future__ import annotations

import csv
import io
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from study_folder import METRICS, finish, row, write_study

from alterrec.data.readers import DataSource
from alterrec.record_json import from_json, to_json
from alterrec.studies import ablation, table1
from alterrec.studies.own_items import NOTE, REPEATS_NOTE, TITLE, alternation_finding, own_items_section
from alterrec.studies.plan import StudyOptions, plan_row
from alterrec.studies.queue import RunQueue
from alterrec.studies.study_report import caveats, ordered
from alterrec.studies.study_result import study_result
from alterrec.study_records import StudyResult, read_study


def counted(model: str, kind: str, *seeds: dict[str, tuple[float, float]], **changes: Any) -> dict[str, Any]:
    """A row of `study.json`: for each seed, rule -> NDCG@20 and Hits@20 in percent."""
    made = row(model, kind, *[[0.0] * 5 for _ in seeds], **changes)
    for run, by_rule in zip(made["runs"], seeds, strict=True):
        run["by_seen"] = {
            rule: {"ndcg@20": ndcg / 100, "hits@20": hits / 100} for rule, (ndcg, hits) in by_rule.items()
        }
        run["test"] = dict.fromkeys(METRICS, 0.0) | run["by_seen"].get("kept", {})
    return made


ALTERREC = counted(
    *("alterrec", "ours"),
    {"kept": (30, 60), "excluded": (32, 61)},
    {"kept": (32, 60), "excluded": (35, 60.5)},
)
INDEPENDENT = counted(
    *("independent", "baseline"),
    {"kept": (20, 60), "excluded": (31, 62)},
    {"kept": (22, 60), "excluded": (32, 62)},
)
POPULARITY = counted(
    "popularity", "baseline", {"kept": (5, 10), "excluded": (4, 8)}, trains=False, setting={}
)


def study_of(folder: Path, *rows: dict[str, Any], **changes: Any) -> StudyResult:
    return read_study(write_study(folder, list(rows), **changes))


def test_the_table_by_hand(tmp_path: Path) -> None:
    waiting = row("sasrec", "baseline", setting={})
    study = study_of(tmp_path, ALTERREC, POPULARITY, INDEPENDENT, waiting)
    section = own_items_section(study, ordered(study))
    assert section.title == TITLE
    assert section.notes == [
        NOTE,
        "9 of 907 test targets (1.0%) repeat an item of their session. Where the items of the session are "
        "not candidates, these targets count as not found.",
    ]
    # alterrec: kept 30 and 32, excluded 32 and 35, so the costs are 2 and 3; a deviation of two numbers that
    # differ by 1 is sqrt(1 / 2) = 0.71.
    table = section.tables["own_items"].table
    columns = ("NDCG@20 kept", "NDCG@20 excluded", "NDCG@20 cost")
    assert table.headings == ("system", *columns, "Hits@20 kept", "Hits@20 excluded", "Hits@20 cost")
    ndcg = {cells[0]: cells[1:4] for cells in table.rows}
    assert ndcg == {
        "independent": ("21.00 ± 1.41", "31.50 ± 0.71", "+10.50 ± 0.71"),
        "popularity": ("5.00", "4.00", "-1.00"),
        "alterrec": ("31.00 ± 1.41", "33.50 ± 2.12", "+2.50 ± 0.71"),
    }
    assert [cells[4:] for cells in table.rows] == [
        ("60.00 ± 0.00", "62.00 ± 0.00", "+2.00 ± 0.00"),
        ("10.00", "8.00", "-2.00"),
        ("60.00 ± 0.00", "60.75 ± 0.35", "+0.75 ± 0.35"),
    ]
    # Kept: 21, 5 and 31; excluded: 31.5, 4 and 33.5. Without popularity: 21 and 31, and 31.5 and 33.5.
    assert section.footnotes[:-1] == [
        "Over 3 rows, the highest NDCG@20 minus the lowest is 26.00 percentage points with the session's own "
        "items (standard deviation 13.11) and 29.50 without them (standard deviation 16.48).",
        "Over 2 rows that train, the highest NDCG@20 minus the lowest is 10.00 percentage points with the "
        "session's own items (standard deviation 7.07) and 2.00 without them (standard deviation 1.41).",
    ]
    lines = list(csv.DictReader(io.StringIO(section.tables["own_items"].csv())))
    assert [line["system"] for line in lines] == ["independent", "popularity", "alterrec"]
    assert float(lines[2]["ndcg@20_cost"]) == pytest.approx(0.025)
    assert float(lines[2]["ndcg@20_cost_sd"]) == pytest.approx(0.005 * 2**0.5)
    assert (float(lines[1]["hits@20_excluded"]), lines[1]["hits@20_excluded_sd"]) == (0.08, "")
    assert not [column for column in lines[0] if "repeats" in column]


def test_the_figure_of_the_repeat_component_has_its_own_column(tmp_path: Path) -> None:
    by_rule = {"kept": (30.0, 60.0), "excluded": (32.0, 61.0), "repeats": (33.0, 64.0)}
    one = counted("core", "baseline", by_rule)
    study = study_of(tmp_path, one, repeated_targets=0)
    section = own_items_section(study, study.rows)
    assert REPEATS_NOTE in section.notes
    assert "No test target repeats an item of its session." in section.notes
    table = section.tables["own_items"].table
    assert dict(zip(table.headings, table.rows[0], strict=True)) == {
        "system": "core",
        "NDCG@20 kept": "30.00",
        "NDCG@20 excluded": "32.00",
        "NDCG@20 cost": "+2.00",
        "NDCG@20 repeats": "33.00",
        "Hits@20 kept": "60.00",
        "Hits@20 excluded": "61.00",
        "Hits@20 cost": "+1.00",
        "Hits@20 repeats": "64.00",
    }
    # One row has no spread.
    assert section.footnotes == []


def test_runs_of_earlier_versions_are_named_and_have_no_numbers(tmp_path: Path) -> None:
    study = study_of(tmp_path, INDEPENDENT, counted("core", "baseline", {}), repeated_targets=None)
    section = own_items_section(study, study.rows)
    assert section.notes == [
        NOTE,
        "These rows have runs of an earlier version, which did not count both: core.",
    ]
    assert section.tables["own_items"].table.rows[1] == ("core", *["-"] * 6)
    assert section.footnotes == []
    assert alternation_finding(study_of(tmp_path / "2", INDEPENDENT, counted("alterrec", "ours", {}))) == []


def test_a_study_of_an_earlier_version_tells_how_it_counted(tmp_path: Path) -> None:
    def told(place: str, schema: int, seen: Any) -> int:
        study = study_of(tmp_path / place, INDEPENDENT, schema=schema)
        shown = caveats(replace(study, data=replace(study.data, seen=seen)))
        return sum("earlier version" in line for line in shown)

    assert (told("1", 2, "excluded"), told("2", 3, "excluded"), told("3", 2, "kept")) == (1, 0, 0)


def test_the_cost_of_own_items_with_and_without_alternation(tmp_path: Path) -> None:
    study = study_of(tmp_path, ALTERREC, INDEPENDENT)
    said = (
        "Does alternation lower the cost of the session's own items? Yes. Without these items, NDCG@20 of "
        "alterrec changes by +2.50 ± 0.71 percentage points and that of independent by +10.50 ± 0.71. "
        "alterrec minus independent is +10.00 points with these items and +2.00 points without them."
    )
    assert alternation_finding(study) == [said]
    assert table1.findings(study)[-1] == ablation.findings(study)[-1] == said
    assert said not in table1.findings(study_of(tmp_path / "2", ALTERREC, POPULARITY))


@pytest.mark.parametrize(
    ("costs", "verdict"),
    [
        # Cost of alterrec and of independent by seed.
        ([(1, 3)], "Yes, with one seed"),
        ([(3, 1)], "No, with one seed"),
        ([(3, 1), (4, 2)], "No"),
        ([(1, 3), (3, 2)], "This is not shown, because seeds vary as much"),
    ],
)
def test_the_verdict_on_alternation(tmp_path: Path, costs: list[tuple[float, float]], verdict: str) -> None:
    both = [
        counted(model, kind, *({"kept": (20, 50), "excluded": (20 + each[place], 50)} for each in costs))
        for place, (model, kind) in enumerate((("alterrec", "ours"), ("independent", "baseline")))
    ]
    (said,) = alternation_finding(study_of(tmp_path, *both))
    assert said.split("? ")[1].split(". ")[0] == verdict


@pytest.mark.parametrize("study", ["table1", "ablation"])
def test_every_study_of_runs_has_the_table(tmp_path: Path, study: str) -> None:
    module = {"table1": table1, "ablation": ablation}[study]
    shown = module.report(study_of(tmp_path, ALTERREC, INDEPENDENT, study=study))
    (section,) = [each for each in shown.sections if each.title == TITLE]
    names = [cells[0] for cells in section.tables["own_items"].table.rows]
    main = next(iter(shown.sections[0].tables.values())).table
    assert names == [cells[0] for cells in main.rows]


def test_a_study_counts_repeated_targets_from_its_runs(tmp_path: Path) -> None:
    queue = RunQueue(tmp_path / "runs", DataSource(tmp_path / "shop"), "fingerprint")
    rows = [plan_row(model, queue, {}, 1) for model in ("alterrec", "popularity")]
    # The first run is of an earlier version, which did not count them.
    earlier = {"count": 4, "cold": 0}
    finish(queue, rows[0].seeds[0], by_seen={}, targets={"valid": earlier, "test": earlier})
    now = earlier | {"repeated": 3}
    finish(queue, rows[1].seeds[0], targets={"valid": now, "test": now})
    options = StudyOptions(only=("alterrec", "popularity"), seeds=1, command="alterrec study table1")
    found = study_result(table1.STUDY, options, rows, queue)
    assert found.repeated_targets == 3
    assert [row.runs[0].by_seen.get("kept", {}).get("ndcg@20") for row in found.rows] == [None, 0.2]
    assert from_json(StudyResult, json.dumps(to_json(found)), "study.json") == found

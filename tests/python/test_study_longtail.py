"""Gains over a reference by popularity of the target: by hand, in words and as a page."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Any

import pytest
from study_folder import METRICS, difference, finish, row, write_study
from test_report import Outline

from alterrec.data.readers import DataSource
from alterrec.evaluation.comparisons import Comparison
from alterrec.evaluation.sign_flips import paired_differences
from alterrec.report.figures.groups import GroupLine, group_lines
from alterrec.report.figures.style import Panel, colour
from alterrec.results import Group
from alterrec.studies.longtail import findings, gains_of, groups_of, values
from alterrec.studies.plan import named_baselines, plan_row
from alterrec.studies.queue import RunQueue
from alterrec.studies.study import load_study
from alterrec.studies.study_report import row_comparison_table
from alterrec.studies.study_result import compare_rows
from alterrec.study_records import StudyResult, read_study

GROUPS = (("cold", 10), ("1-5", 40), (">100", 150))


def grouped(model: str, kind: str, *seeds: tuple[float, float, float]) -> dict[str, Any]:
    """A row whose metrics, all alike, are given by seed and group in percent."""
    made = row(model, kind, *([20.0] * 5 for _ in seeds))
    for run, by_group in zip(made["runs"], seeds, strict=True):
        run["groups"] = [
            {
                "name": name,
                "count": count,
                "share": count / 200,
                "views": {"score": dict.fromkeys(METRICS, value / 100)},
            }
            for (name, count), value in zip(GROUPS, by_group, strict=True)
        ]
    return made


ROWS = [
    grouped("alterrec", "ours", (30, 12, 40), (50, 14, 44)),
    grouped("sasrec", "baseline", (0, 10, 45), (0, 10, 45)),
    grouped("bert4rec", "baseline", (0, 5, 41), (0, 7, 41)),
]


def against(model: str, group: str, mean: float, p: float) -> list[dict[str, Any]]:
    return [difference(model, metric, "bert4rec", mean, p) | {"group": group} for metric in METRICS]


COMPARED = [
    *(*against("alterrec", "", 2.0, 0.01), *against("alterrec", "cold", 40.0, 0.01)),
    *(*against("alterrec", "1-5", 7.0, 0.01), *against("alterrec", ">100", 1.0, 0.2)),
    *(*against("sasrec", "", 3.0, 0.01), *against("sasrec", "1-5", 4.0, 0.3)),
    *against("sasrec", ">100", 4.0, 0.01),
]


@pytest.fixture
def study(tmp_path: Path) -> StudyResult:
    write_study(tmp_path, ROWS, study="longtail", comparisons=COMPARED, reference="bert4rec")
    return read_study(tmp_path)


def test_gains_by_hand(study: StudyResult) -> None:
    alterrec, sasrec, bert4rec = study.rows
    assert values(alterrec, "1-5", "hits@20") == [0.12, 0.14]
    gains = gains_of(alterrec, bert4rec, groups_of(study), "hits@20")
    # 13 less 6 and 42 less 41; deviations sqrt(2) and sqrt(2), so sqrt(4), and sqrt(8) and 0.
    assert gains["1-5"] == (pytest.approx(0.07), pytest.approx(0.02))
    assert gains[">100"] == (pytest.approx(0.01), pytest.approx(0.01 * 8**0.5))
    assert gains_of(sasrec, bert4rec, groups_of(study), "ndcg@20")["cold"] == (0.0, 0.0)


def test_findings_leave_small_groups_out(tmp_path: Path, study: StudyResult) -> None:
    hits, ndcg, alterrec, sasrec = findings(study)
    assert hits == (
        "Hits@20: on the rarest targets (1-5 times in training; 40 targets, 20.0% of test), alterrec has the "
        "largest gain over bert4rec: +7.00 [+6.00, +8.00] percentage points. On the most popular targets "
        "(>100 "
        "times in training; 150 targets, 75.0% of test), its gain is +1.00 [+0.00, +2.00] (not significant)."
    )
    assert ndcg == hits.replace("Hits@20", "NDCG@20")
    assert alterrec == (
        "alterrec minus bert4rec in NDCG@20: all targets +2.00 [+1.00, +3.00]; 1-5 +7.00 [+6.00, +8.00]; "
        ">100 "
        "+1.00 [+0.00, +2.00] (not significant)."
    )
    assert "1-5 +4.00 [+3.00, +5.00] (not significant); >100 +4.00" in sasrec
    assert load_study(tmp_path).presentation().caveats == [
        "Groups with fewer than 30 targets are too small for conclusions and are left out of the findings: "
        "cold (10)."
    ]


def test_the_page_of_the_long_tail(tmp_path: Path, study: StudyResult) -> None:
    shown = load_study(tmp_path).presentation()
    shown.write(tmp_path)
    text = (tmp_path / "report.html").read_text("utf-8")
    page = Outline(text)
    assert page.open == []
    assert {load[:1] for load in page.loads} <= {"#"}
    assert "<script" not in text
    assert "Rare and popular targets on online retail: gains over bert4rec" in page.headings
    assert "The paper shows relative improvement" in page.text
    markdown = (tmp_path / "longtail.md").read_text("utf-8")
    assert "| targets | 10 | 40 | 150 |" in markdown
    assert "| alterrec | 40.00 ± 14.14 | 13.00 ± 1.41 | 42.00 ± 2.83 |" in markdown
    with (tmp_path / "longtail_hits_20.csv").open(newline="") as file:
        lines = list(csv.DictReader(file))
    assert len(lines) == 3 * 3 * 2
    assert lines[0] == {
        "system": "alterrec",
        "group": "cold",
        "targets": "10",
        "share": "0.05",
        "seed": "0",
        "metric": "hits@20",
        "value": "0.3",
    }
    assert (tmp_path / "figures" / "longtail.png").read_bytes().startswith(b"\x89PNG")


def test_without_the_reference_nothing_is_gained(tmp_path: Path) -> None:
    waiting = [ROWS[0], row("bert4rec", "baseline")]
    write_study(tmp_path, waiting, study="longtail", reference="bert4rec", complete=False)
    shown = load_study(tmp_path).presentation()
    assert shown.findings == [
        "The reference bert4rec has no numbers yet, so nothing can be compared with it."
    ]
    assert shown.figures() == {}
    assert "| alterrec | 40.00" in shown.markdown()


def test_small_groups_are_hollow_and_no_line_leads_to_them() -> None:
    groups = [Group("1-5", 29, 0.1), Group("6-30", 30, 0.4), Group(">100", 50, 0.5)]
    line = GroupLine("alterrec", "score", {"1-5": (0.9, 0.0), "6-30": (0.02, 0.01), ">100": (0.01, 0.01)})
    top = group_lines([Panel("Hits@20", [line])], groups=groups, reference="bert4rec").axes[0]
    markers = [each for each in top.lines if each.get_marker() == "o"]
    assert [each.get_markerfacecolor() for each in markers] == ["white", colour("score"), colour("score")]
    (joined,) = (
        each for each in top.lines if len(each.get_xdata()) == 2 and each.get_color() == colour("score")
    )
    assert list(joined.get_ydata()) == [0.02, 0.01]
    # Room for 3 points above and nothing below, not for the 90 points of 29 targets.
    assert top.get_ylim() == (pytest.approx(-0.12 * 0.03), pytest.approx(1.12 * 0.03))
    assert markers[0].get_ydata()[0] == pytest.approx((1.12 - 0.04 * 1.24) * 0.03)


# What a study writes down


@pytest.fixture
def runs(tmp_path: Path) -> RunQueue:
    return RunQueue(tmp_path / "runs", DataSource(tmp_path / "shop"), "fingerprint")


def test_rows_are_compared_with_the_reference_by_group(runs: RunQueue) -> None:
    counts = [0, 3, 3, 500]
    rows = [plan_row(model, runs, {}, 1) for model in ("sasrec", "bert4rec")]
    finish(runs, rows[0].seeds[0], greater=[0, 0, 50, 50], counts=counts)
    finish(runs, rows[1].seeds[0], greater=[50, 0, 0, 50], counts=counts)
    found = compare_rows(rows, runs, named_baselines({"sasrec": ("bert4rec",)}), by_group=True)
    hits = {each.group: each for each in found if each.metric == "hits@20"}
    assert {group: each.mean for group, each in hits.items()} == {
        "": 0.0,
        "cold": 1.0,
        "1-5": -0.5,
        ">100": 0.0,
    }
    assert hits["cold"].p == paired_differences([[1.0]], [[0.0]])[0].p == 1.0
    assert {each.baseline for each in found} == {"bert4rec"}
    assert len(found) == len(METRICS) * 4
    alone = compare_rows(rows, runs, named_baselines({"sasrec": ("bert4rec",)}))
    assert [each.group for each in alone] == [""] * len(METRICS)


def test_a_table_of_groups_names_them() -> None:
    whole = Comparison("alterrec", "hits@20", "sasrec", 0.01, 0.0, 0.02, 0.01, 0.04)
    rare = Comparison("alterrec", "hits@20", "sasrec", 0.01, 0.0, 0.02, 0.01, 0.04, "1-5")
    assert row_comparison_table([whole]).columns[:2] == ("system", "metric")
    table = row_comparison_table([whole, rare])
    assert [cells[:3] for cells in (table.columns, *table.rows)] == [
        ("system", "targets", "metric"),
        ("alterrec", "all", "Hits@20"),
        ("alterrec", "1-5", "Hits@20"),
    ]

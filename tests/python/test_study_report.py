"""The tables, words and page of a study, from a `study.json` worked by hand."""

from __future__ import annotations

import csv
import io
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from study_folder import METRICS, difference, row, write_study
from test_report import Outline

import alterrec
from alterrec.errors import InputError
from alterrec.report.plain import plain
from alterrec.report.tables import Table, latex, markdown
from alterrec.studies.study_report import (
    caveats,
    cost_table,
    marks,
    metric_data,
    notes,
    ordered,
    search_table,
)
from alterrec.studies.table1 import findings, report
from alterrec.study_records import read_study

ROWS = [
    row("alterrec", "ours", [20, 30, 10, 12.01, 8], [22, 32, 10, 12.03, 8]),
    row("alterrec_random", "ablation", [25, 29, 9, 11, 7], [25, 29, 9, 11, 7]),
    row("hggnn", "baseline", refused=True, reason="the data has no user ids", setting={}),
    row("itemknn", "baseline", [25, 31, 9, 13, 7], trains=False, setting={}),
    row("sasrec", "baseline", [21, 31, 10, 12, 9], [21, 31, 10, 12, 9]),
]
COMPARED = [
    difference("alterrec", "hits@10", "itemknn", -4.0, 0.01),
    difference("alterrec", "hits@20", "itemknn", 0.0, 1.0),
    difference("alterrec", "ndcg@10", "sasrec", 0.0, 1.0),
    difference("alterrec", "ndcg@20", "itemknn", -0.98, 0.2),
    difference("alterrec", "mrr@20", "sasrec", 1.5, 0.04),
]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return write_study(tmp_path / "study", ROWS, comparisons=COMPARED)


def test_the_table_by_hand(folder: Path) -> None:
    study = read_study(folder)
    table = metric_data(study, marks(study)).table
    # alterrec's means are 21, 31, 10, 12.02 and 8, its deviations sqrt(2), sqrt(2), 0, sqrt(2) / 100 and 0.
    assert plain(table).splitlines() == [
        "system                 Hits@10       Hits@20       NDCG@10       NDCG@20        MRR@20",
        "---------------  -------------  ------------  ------------  ------------  ------------",
        "itemknn                  25.00         31.00          9.00         13.00          7.00",
        "sasrec            21.00 ± 0.00  31.00 ± 0.00  10.00 ± 0.00  12.00 ± 0.00   9.00 ± 0.00",
        "hggnn (a)                  N/A           N/A           N/A           N/A           N/A",
        "alterrec_random   25.00 ± 0.00  29.00 ± 0.00   9.00 ± 0.00  11.00 ± 0.00   7.00 ± 0.00",
        "alterrec         21.00 ± 1.41†  31.00 ± 1.41  10.00 ± 0.00  12.02 ± 0.01  8.00 ± 0.00*",
    ]
    best = {(table.rows[place][0], METRICS[column - 1]) for place, column in table.best}
    second = {(table.rows[place][0], METRICS[column - 1]) for place, column in table.second}
    assert best == {
        ("itemknn", "hits@10"),
        ("alterrec_random", "hits@10"),
        ("itemknn", "hits@20"),
        ("sasrec", "hits@20"),
        ("alterrec", "hits@20"),
        ("sasrec", "ndcg@10"),
        ("alterrec", "ndcg@10"),
        ("itemknn", "ndcg@20"),
        ("sasrec", "mrr@20"),
    }
    assert second == {
        ("sasrec", "hits@10"),
        ("alterrec", "hits@10"),
        ("alterrec_random", "hits@20"),
        ("itemknn", "ndcg@10"),
        ("alterrec_random", "ndcg@10"),
        ("alterrec", "ndcg@20"),
        ("alterrec", "mrr@20"),
    }
    assert table.rule_before == 3
    assert notes(study, "the best baseline")[2:] == ["(a) hggnn: the data has no user ids."]


def test_marks_in_each_form() -> None:
    table = Table(
        ("system", "Hits@20"),
        (("a_b", "1.00"), ("c", "3.00*"), ("d", "2.00†")),
        best=frozenset({(1, 1)}),
        second=frozenset({(2, 1)}),
        rule_before=1,
    )
    assert markdown(table).splitlines()[2:] == [
        "| a_b | 1.00 |",
        "| c | **3.00\\*** |",
        "| d | <u>2.00†</u> |",
    ]
    assert latex(table).splitlines()[4:8] == [
        r"a\_b & 1.00 \\",
        r"\midrule",
        r"c & \textbf{3.00*} \\",
        r"d & \underline{2.00$\dagger$} \\",
    ]


def test_the_answer_in_words(folder: Path) -> None:
    claim, best = findings(read_study(folder))
    assert claim == (
        "Is alterrec better than all 2 baselines? Partly: above in MRR@20; below in Hits@10; no significant "
        "difference in Hits@20, NDCG@10 and NDCG@20. Difference from the best baseline in each metric, in "
        "percentage points with 95% intervals: Hits@10 -4.00 [-5.00, -3.00] (itemknn); Hits@20 +0.00 [-1.00, "
        "+1.00] (itemknn); NDCG@10 "
        "+0.00 [-1.00, +1.00] (sasrec); NDCG@20 -0.98 [-1.98, +0.02] (itemknn); MRR@20 +1.50 [+0.50, +2.50] "
        "(sasrec)."
    )
    assert best == "itemknn has the highest NDCG@20, 13.00%."


@pytest.mark.parametrize(
    ("mean", "p", "said"),
    [
        (1.0, 0.01, "Yes: above in every"),
        (-1.0, 0.01, "No: below in every"),
        (1.0, 0.06, "No significant difference in any"),
    ],
)
def test_one_verdict_in_all_metrics(tmp_path: Path, mean: float, p: float, said: str) -> None:
    compared = [difference("alterrec", metric, "sasrec", mean, p) for metric in METRICS]
    (claim, _) = findings(read_study(write_study(tmp_path, [ROWS[0], ROWS[4]], comparisons=compared)))
    assert claim.startswith(f"Is alterrec better than the only baseline? {said} metric. ")


def test_cost_and_search(tmp_path: Path) -> None:
    tried = [
        {"run": "a", "setting": {"optim.lr": 0.01}, "validation": 0.2, "chosen": False},
        {"run": "b", "setting": {"optim.lr": 0.001}, "validation": 0.3, "chosen": True},
    ]
    rows = [row("sasrec", "baseline", [1] * 5, [2] * 5, tried=tried), ROWS[2]]
    study = read_study(write_study(tmp_path, rows))
    assert cost_table(study).rows == (
        ("sasrec", "0.01", "0.3", "2", "10", "5.50 s", "1 min 10 s", "800 MiB", "12,345"),
    )
    assert search_table(study).rows == (
        ("sasrec", "optim.lr 0.01", "20.00%"),
        ("sasrec", "optim.lr 0.001", "30.00%"),
    )
    assert search_table(study).strong == {1}
    lines = list(csv.DictReader(io.StringIO(metric_data(study).csv())))
    assert [line["system"] for line in lines] == ["sasrec", "hggnn"]
    assert float(lines[0]["mrr@20"]) == 0.015
    assert float(lines[0]["mrr@20_sd"]) == pytest.approx(0.00707106781)
    assert (lines[1]["mrr@20"], lines[1]["note"]) == ("", "the data has no user ids")


def test_rows_that_wait_or_failed_say_so(tmp_path: Path) -> None:
    rows = [
        row("gru4rec", "baseline", [1] * 5),
        row("sasrec", "baseline", setting={}),
        row("srgnn", "baseline", reason="killed by signal 9", setting={}),
    ]
    failed = [{"run": "srgnn, seed 0", "reason": "killed by signal 9"}]
    study = read_study(write_study(tmp_path, rows, complete=False, failures=failed))
    assert [cells[:2] for cells in metric_data(study).table.rows] == [
        ("gru4rec", "1.00"),
        ("sasrec (a)", "-"),
        ("srgnn (b)", "failed"),
    ]
    assert notes(study)[1:] == ["(a) sasrec: not finished yet.", "(b) srgnn: killed by signal 9."]
    assert caveats(study) == [
        "Some runs have not finished. Run the same command again to resume them and update this page.",
        "A run failed: srgnn, seed 0: killed by signal 9.",
        "These systems have fewer than 2 seeds: gru4rec.",
    ]


def test_what_to_doubt(tmp_path: Path) -> None:
    rows = [row("sasrec", "baseline", [1] * 5), row("core", "baseline", [1] * 5)]
    rows[1]["runs"][0]["seen"] = "excluded"
    study = read_study(write_study(tmp_path, rows, quick={"model.dim": 32}, seeds=1))
    coarse, seeds, unequal = caveats(study)
    assert "model.dim = 32 and no search" in coarse
    assert seeds.startswith("There is one seed")
    assert "ranked by different rules" in unequal


def test_the_page_needs_nothing_and_has_everything(folder: Path) -> None:
    report(read_study(folder)).write(folder)
    assert {path.name for path in folder.iterdir()} == {
        *("study.json", "table1.md", "report.html", "figures"),
        *(
            f"{name}.{kind}"
            for name in ("table1", "comparisons", "own_items", "cost", "versions")
            for kind in ("tex", "csv")
        ),
    }
    assert (folder / "figures" / "systems.png").read_bytes().startswith(b"\x89PNG")
    assert (folder / "figures" / "systems.svg").read_text("utf-8").lstrip().startswith("<?xml")
    text = (folder / "report.html").read_text("utf-8")
    page = Outline(text)
    assert page.open == []
    assert page.headings == [
        "Table 1 on online retail",
        "All systems",
        "Metrics of all systems",
        "Comparison with the best baseline",
        "NDCG with and without the session's own items",
        "Chosen settings and cost",
        "Protocol and versions",
        "How to reproduce",
    ]
    assert {load[:1] for load in page.loads} <= {"#"}
    assert "<script" not in text
    ids = re.findall(r' id="([^"]+)"', text)
    assert len(ids) == len(set(ids)) > 0
    assert text.count("<b>") == len(metric_data(read_study(folder)).table.best)
    assert text.count("<u>") == len(metric_data(read_study(folder)).table.second)
    assert "alterrec study table1 --data shop" in page.text
    assert "907 test targets (the last item of each session), each ranked among all 3,204 items" in page.text
    assert all(line in page.text for line in findings(read_study(folder)))


def test_text_is_escaped(tmp_path: Path) -> None:
    bad = "<script>alert(1)</script>"
    rows = [row("sasrec", "baseline", [1] * 5), row(bad, "baseline", reason=bad)]
    failed = [{"run": bad, "reason": bad}]
    write_study(tmp_path, rows, command=bad, failures=failed, settings={"text.encoder": bad})
    report(read_study(tmp_path)).write(tmp_path)
    text = (tmp_path / "report.html").read_text("utf-8")
    assert "<script" not in text
    assert Outline(text).open == []


@pytest.mark.parametrize("content", [b"{", b'{"schema": 2}', b"\xff"])
def test_a_damaged_study_is_named(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "study.json").write_bytes(content)
    with pytest.raises(InputError, match=r"study\.json is damaged"):
        read_study(tmp_path)


def test_the_best_row_comes_first_of_its_kind(tmp_path: Path) -> None:
    rows: list[dict[str, Any]] = [
        row("alterrec", "ours", [1] * 5),
        row("a", "baseline", [1] * 5),
        row("b", "baseline"),
        row("c", "baseline", [2] * 5),
        row("alterrec_aug", "ours", [2] * 5),
    ]
    names = [each.model for each in ordered(read_study(write_study(tmp_path, rows)))]
    assert names == ["c", "a", "b", "alterrec_aug", "alterrec"]


def test_tables_are_read_without_torch_and_matplotlib() -> None:
    code = "import sys, alterrec.studies.study; print(sorted({'torch', 'matplotlib'} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"


def test_a_study_prints_draws_and_shows_itself(folder: Path) -> None:
    study = alterrec.load_study(folder)
    assert "alterrec         21.00 ± 1.41†" in str(study)
    assert list(study.draw()) == ["systems"]
    shown = study._repr_html_()
    assert shown.count("<figure>") == 1
    assert "<script" not in shown
    page = study.save(folder / "again")
    assert page.read_text("utf-8").startswith("<!DOCTYPE html>")


def test_what_runs_warned_of_is_said(tmp_path: Path) -> None:
    rows = [row("alterrec", "ours", [1] * 5, [2] * 5)]
    rows[0]["runs"][1] |= {"warnings": ["epoch 5: below the warm-up"], "best_epoch": 4}
    (said,) = caveats(read_study(write_study(tmp_path, rows)))
    assert said == (
        "Some runs have warnings: alterrec in 1 of 2 runs (best epochs 7 and 4 of 10). "
        "The first warning is: epoch 5: below the warm-up."
    )

"""What the studies of Table 2 and of Figures 2 and 8 say, from a `study.json` worked by hand."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from study_folder import METRICS, difference, row, write_study
from test_report import Outline

from alterrec.models.catalogue import lookup
from alterrec.report.figures.style import colour
from alterrec.report.presentation import Presentation
from alterrec.studies import ablation, fusion
from alterrec.studies.plan import named_baselines
from alterrec.studies.study import STUDIES, load_study
from alterrec.studies.study_report import baseline_marks, metric_data
from alterrec.study_records import StudyResult, read_study


def rows_of(**means: float) -> list[dict[str, Any]]:
    """A row of two seeds a model, all metrics alike: the mean less and plus one."""
    return [row(model, lookup(model).kind, [mean - 1] * 5, [mean + 1] * 5) for model, mean in means.items()]


def all_metrics(model: str, rival: str, mean: float, p: float) -> list[dict[str, Any]]:
    return [difference(model, metric, rival, mean, p) for metric in METRICS]


def written(shown: Presentation, folder: Path) -> Outline:
    """The page of a study, which is whole and loads nothing."""
    shown.write(folder)
    text = (folder / "report.html").read_text("utf-8")
    page = Outline(text)
    assert page.open == []
    assert {load[:1] for load in page.loads} <= {"#"}
    assert "<script" not in text
    assert all(line in page.text for line in shown.findings)
    return page


# Table 2

ABLATION = rows_of(alterrec=30, alterrec_random=29, alterrec_wo_text=20, alterrec_wo_id=31, independent=30)
ABLATION_COMPARED = [
    *all_metrics("alterrec", "alterrec_random", 1.0, 0.5),
    *all_metrics("alterrec", "alterrec_wo_text", 10.0, 0.01),
    *all_metrics("alterrec", "alterrec_wo_id", -1.0, 0.01),
    difference("alterrec", "hits@20", "independent", 2.0, 0.01),
    difference("alterrec", "ndcg@20", "independent", 0.0, 1.0),
]


@pytest.fixture
def whole(tmp_path: Path) -> StudyResult:
    return read_study(write_study(tmp_path, ABLATION, study="ablation", comparisons=ABLATION_COMPARED))


def test_each_question_of_table_2_is_answered(whole: StudyResult) -> None:
    hard, text, item, apart, _ = ablation.findings(whole)
    assert hard == (
        "Are hard negatives better than random ones? No significant difference in any metric. alterrec minus "
        "alterrec_random, in percentage points with 95% intervals: Hits@20 +1.00 [+0.00, +2.00], NDCG@20 "
        "+1.00 [+0.00, +2.00]."
    )
    assert text.startswith("Does text improve on ID alone? Yes: above in every metric. ")
    assert item.startswith("Does ID improve on text alone? No: below in every metric. ")
    assert apart == (
        "Is alternation better than training the two networks independently? Partly: above in Hits@20; no "
        "significant difference in NDCG@20. alterrec minus independent, in percentage points with 95% "
        "intervals: Hits@20 +2.00 "
        "[+1.00, +3.00], NDCG@20 +0.00 [-1.00, +1.00]."
    )


def test_table_2_is_in_the_order_of_the_paper_with_marks_on_the_variants(whole: StudyResult) -> None:
    table = metric_data(whole, baseline_marks(whole), whole.rows).table
    # Means and deviations over seeds of mean - 1 and mean + 1: sqrt(2).
    assert [(cells[0], cells[2]) for cells in table.rows] == [
        ("alterrec", "30.00 ± 1.41"),
        ("alterrec_random", "29.00 ± 1.41"),
        ("alterrec_wo_text", "20.00 ± 1.41†"),
        ("alterrec_wo_id", "31.00 ± 1.41*"),
        ("independent", "30.00 ± 1.41†"),
    ]
    assert table.rule_before is None


def test_the_page_of_table_2(tmp_path: Path, whole: StudyResult) -> None:
    page = written(load_study(tmp_path).presentation(), tmp_path)
    assert "AlterRec and its variants (Table 2)" in page.headings
    assert "both networks, each trained on the whole catalogue" in page.text
    assert ablation.TWO_CAUSES in page.text
    assert "significantly below alterrec, by a paired permutation test" in page.text
    for name in ("systems", "gains"):
        assert (tmp_path / "figures" / f"{name}.png").read_bytes().startswith(b"\x89PNG")
    assert {"ablation.csv", "ablation.tex", "variants.csv"} <= {path.name for path in tmp_path.iterdir()}


def test_a_question_whose_rows_wait_is_left_out(tmp_path: Path) -> None:
    waiting = [*ABLATION[:2], *(row(each["model"], each["kind"]) for each in ABLATION[2:])]
    write_study(tmp_path, waiting, study="ablation", comparisons=ABLATION_COMPARED[:5], complete=False)
    shown = load_study(tmp_path).presentation()
    assert len(shown.findings) == 1
    assert ablation.TWO_CAUSES not in shown.caveats
    assert "alterrec_wo_id: not finished yet." in written(shown, tmp_path / "page").text
    write_study(tmp_path, waiting[:1], study="ablation")
    assert load_study(tmp_path).presentation().findings == []


# Figures 2 and 8

FUSION = rows_of(
    nfrec_sum=30, id_only=31, text_only=20, nfrec_concat=32, fdsa=40, fdsa_id=35, fdsa_text=38, unisrec=25
)
FUSION_COMPARED = [
    *all_metrics("nfrec_sum", "id_only", -1.0, 0.01),
    *all_metrics("nfrec_sum", "text_only", 10.0, 0.01),
    difference("nfrec_concat", "hits@20", "id_only", 1.0, 0.2),
    difference("nfrec_concat", "ndcg@20", "id_only", 1.0, 0.01),
    *all_metrics("nfrec_concat", "text_only", 12.0, 0.01),
    *all_metrics("fdsa", "fdsa_id", 5.0, 0.01),
    *all_metrics("fdsa", "fdsa_text", 2.0, 0.01),
    *all_metrics("text_only", "id_only", -11.0, 0.01),
    *all_metrics("fdsa_text", "fdsa_id", 3.0, 0.3),
]


@pytest.fixture
def fused(tmp_path: Path) -> StudyResult:
    return read_study(write_study(tmp_path, FUSION, study="fusion", comparisons=FUSION_COMPARED))


def test_fused_models_are_compared_with_their_better_part(fused: StudyResult) -> None:
    # ID of NFRec, 31 against 20; text of FDSA, 38 against 35; UniSRec's parts are not there yet.
    better = {
        each.name: found and (found.baseline, found.mean)
        for each in fusion.FUSIONS
        for found in [fusion.better_part(fused, each, "ndcg@20")]
    }
    assert better == {
        "NFRec-sum": ("id_only", -0.01),
        "NFRec-concat": ("id_only", 0.01),
        "UniSRec": None,
        "FDSA": ("fdsa_text", 0.02),
    }


def test_what_fusing_gives_in_words(fused: StudyResult) -> None:
    assert fusion.findings(fused) == [
        "Hits@20: fusion is above the better part in 1 (FDSA) of 3 models and below it in 1 (NFRec-sum); in "
        "1 "
        "the difference is not significant.",
        "NDCG@20: fusion is above the better part in 2 (NFRec-concat and FDSA) of 3 models and below it in 1 "
        "(NFRec-sum).",
        "Is fusion in NFRec-sum better than its better part? No: below in Hits@20 and NDCG@20. In percentage "
        "points: Hits@20 -1.00 [-2.00, +0.00] over id_only, NDCG@20 -1.00 [-2.00, +0.00] over id_only.",
        "Is fusion in NFRec-concat better than its better part? Partly: above in NDCG@20; no significant "
        "difference in Hits@20. In percentage points: Hits@20 +1.00 [+0.00, +2.00] over id_only, NDCG@20 "
        "+1.00 [+0.00, +2.00] over id_only.",
        "Is fusion in FDSA better than its better part? Yes: above in Hits@20 and NDCG@20. In percentage "
        "points: Hits@20 +2.00 [+1.00, +3.00] over fdsa_text, NDCG@20 +2.00 [+1.00, +3.00] over fdsa_text.",
        "Is the text part of NFRec-sum and NFRec-concat better than the ID part? No: below in Hits@20 and "
        "NDCG@20. In percentage points: Hits@20 -11.00 [-12.00, -10.00], NDCG@20 -11.00 [-12.00, -10.00].",
        "Is the text part of FDSA better than the ID part? No significant difference in Hits@20 and NDCG@20. "
        "In percentage points: Hits@20 +3.00 [+2.00, +4.00], NDCG@20 +3.00 [+2.00, +4.00].",
    ]


def test_three_bars_a_model(fused: StudyResult) -> None:
    (panel, _) = fusion.bars(fused).whole.axes
    widths = [(bar.get_facecolor(), round(bar.get_width(), 9)) for bar in panel.patches]
    score, item, text = (colour_of(name) for name in ("score", "id", "text"))
    assert widths == [
        *((score, 0.3), (item, 0.31), (text, 0.2)),
        *((score, 0.32), (item, 0.31), (text, 0.2)),
        (score, 0.25),
        *((score, 0.4), (item, 0.35), (text, 0.38)),
    ]
    assert [label.get_text() for label in panel.get_yticklabels()] == [each.name for each in fusion.FUSIONS]


def colour_of(name: str) -> tuple[float, ...]:
    return (*(int(colour(name)[place : place + 2], 16) / 255 for place in (1, 3, 5)), 1.0)


def test_the_page_of_fusion(tmp_path: Path, fused: StudyResult) -> None:
    page = written(load_study(tmp_path).presentation(), tmp_path)
    assert "Fused, ID alone, text alone (Figures 2 and 8)" in page.headings
    assert "Gain from fusion" in page.headings
    assert {path.name for path in (tmp_path / "figures").iterdir()} == {
        *("fusion.png", "fusion.svg", "gains.png", "gains.svg")
    }


def test_parts_alone_make_no_picture_of_gains(tmp_path: Path) -> None:
    write_study(tmp_path, rows_of(id_only=31, text_only=20), study="fusion")
    page = written(load_study(tmp_path).presentation(), tmp_path)
    assert "Gain from fusion" not in page.headings


@pytest.mark.parametrize("name", ["ablation", "fusion"])
def test_baselines_are_rows_of_the_study(name: str) -> None:
    values = {model: np.zeros((2, 5)) for model in STUDIES[name].systems}
    baselines = {"ablation": {ablation.WHOLE: tuple(ablation.QUESTIONS)}, "fusion": fusion.BASELINES}[name]
    chosen = dict.fromkeys((label, found[0]) for label, found in named_baselines(baselines)({}, values))
    assert len(chosen) == {"ablation": 4, "fusion": 11}[name]

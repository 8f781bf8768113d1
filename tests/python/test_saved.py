"""Metrics beside the paper's, from files alone: worked by hand on a run folder of six targets."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from report_folder import write_run

import alterrec
from alterrec.analyses.run_page import write_report
from alterrec.analyses.run_sections import read_extra_metrics
from alterrec.data.synthetic import synthetic_dataset
from alterrec.errors import InputError
from alterrec.evaluation.saved import (
    ListStatistics,
    cold_groups,
    length_groups,
    list_statistics,
    popularity_groups,
    read_items,
    read_ranks,
    read_top,
)
from alterrec.results import read_run

# Items: two popular ones, a rare one, one never trained, one without text, one with neither.
ITEMS = pl.DataFrame(
    {
        "item_id": ["pop", "top", "rare", "new", "mute", "lost"],
        "text": ["A cup", "A mug", "A jar", "A vase", "", ""],
        "train_count": [200, 100, 2, 0, 10, 0],
        "trained": [True, True, True, False, True, False],
    }
)
# Ranks by the score: 1; 2 or 3; 4; 30; 100; 1.
RANKS = pl.DataFrame(
    {
        "split": ["valid", *["test"] * 6],
        "session_id": ["v", "a", "a", "b", "c", "d", "e"],
        "position": [1, 1, 2, 5, 6, 11, 3],
        "target_id": ["pop", "pop", "rare", "new", "mute", "lost", "top"],
        "train_count": [200, 200, 2, 0, 10, 0, 100],
        "greater_score": [5, 0, 1, 3, 29, 99, 0],
        "tied_score": [1, 1, 2, 1, 1, 1, 1],
        "greater_text": [5, 1, 0, 0, 5, 5, 0],
        "tied_text": [1, 1, 1, 1, 2, 2, 1],
    }
)
# Over six lists of two items: rows 0, 1 and 2 of the catalogue.
TOP = [[0, 1], [0, 1], [1, 0], [0, 2], [0, 1], [1, 0]]


@pytest.fixture
def run(tmp_path: Path) -> Path:
    folder = write_run(tmp_path / "run", views=("score", "text"))
    ITEMS.write_parquet(folder / "vocabulary.parquet")
    RANKS.write_parquet(folder / "ranks.parquet")
    pl.DataFrame({"items": TOP}, schema={"items": pl.List(pl.Int32)}).write_parquet(folder / "top.parquet")
    return folder


def test_mrr_goes_over_the_whole_list(run: Path) -> None:
    ranks = read_ranks(run)
    by_hand = (1 + (1 / 2 + 1 / 3) / 2 + 1 / 4 + 1 / 30 + 1 / 100 + 1) / 6
    assert ranks.metrics("score", ["mrr"])["mrr"] == pytest.approx(by_hand, abs=1e-15)
    # At 20 the targets at 30 and 100 count nothing.
    assert ranks.metrics("score", ["mrr@20"])["mrr@20"] == pytest.approx(
        by_hand - (1 / 30 + 1 / 100) / 6, abs=1e-15
    )


def test_the_split_is_chosen(run: Path) -> None:
    assert (len(read_ranks(run)), len(read_ranks(run, "valid"))) == (6, 1)
    assert read_ranks(run).views == ("score", "text")


def test_coverage_and_popularity_by_hand(run: Path) -> None:
    ranks, items, top = read_ranks(run), read_items(run), read_top(run)
    assert top is not None
    shown = list_statistics(top, items["train_count"], ranks.column("train_count"))
    # Shown: pop 6 times (200), top 5 times (100), rare once (2); three of six items.
    assert shown == ListStatistics(2, 3 / 6, (6 * 200 + 5 * 100 + 2) / 12, (200 + 2 + 0 + 10 + 0 + 100) / 6)
    assert shown.popularity_ratio == pytest.approx((1702 / 12) / (312 / 6))


def test_no_lists_no_coverage() -> None:
    assert list_statistics(np.empty((0, 20), np.int64), [1, 2], []) is None
    untrained = list_statistics(np.array([[0]]), [3, 0], [0])
    assert untrained is not None
    assert untrained.popularity_ratio is None


def test_groups_by_popularity_and_length(run: Path) -> None:
    ranks = read_ranks(run)
    popular = popularity_groups(ranks.column("train_count"))
    assert {name: np.flatnonzero(where).tolist() for name, where in popular.items()} == {
        "cold": [2, 4],
        "1-5": [1],
        "6-30": [3],
        "31-100": [5],
        ">100": [0],
    }
    long = length_groups(ranks.column("position"))
    assert {name: np.flatnonzero(where).tolist() for name, where in long.items()} == {
        "1": [0],
        "2": [1],
        "3-5": [2, 5],
        "6-10": [3],
        ">10": [4],
    }
    (group,) = ranks.groups({"3-5": long["3-5"]}, ["hits@1", "mrr"])
    # Ranks 4 and 1 by the score, 1 and 1 by text.
    assert group == {
        "name": "3-5",
        "count": 2,
        "share": 2 / 6,
        "views": {"score": {"hits@1": 0.5, "mrr": 0.625}, "text": {"hits@1": 1.0, "mrr": 1.0}},
    }


def test_item_cold_and_text_cold_are_distinguished(run: Path) -> None:
    ranks, items = read_ranks(run), read_items(run)
    cold = cold_groups(ranks.column("target_id").tolist(), items)
    assert {name: np.flatnonzero(where).tolist() for name, where in cold.items()} == {
        "trained, with text": [0, 1, 5],
        "item-cold": [2, 4],
        "text-cold": [3, 4],
    }


def test_data_without_texts_have_item_cold_targets_alone() -> None:
    cold = cold_groups(["new", "pop"], ITEMS.with_columns(text=pl.lit("")))
    assert {name: where.tolist() for name, where in cold.items()} == {
        "trained": [False, True],
        "item-cold": [True, False],
    }


def test_the_object_prints_draws_and_saves(run: Path, tmp_path: Path) -> None:
    shown = alterrec.result(run)
    assert shown.metrics["score"]["hits@20"] == shown.folder.result.test["score"]["hits@20"]
    text = str(shown)
    assert re.search(r"Hits@20\n.*final score", text)
    assert re.search(r"coverage@2: share of all items that are recommended +50\.0%", text)
    assert re.search(r"item-cold +2 +33\.3%", text)
    assert list(shown.draw()) == ["systems", "training", "longtail", "lengths"]
    html = shown._repr_html_()
    assert html.count("<figure>") == 4
    assert html.count("<svg") == 8
    page = shown.save(tmp_path / "out")
    assert page.read_text("utf-8").count("<svg") == 8
    assert pl.read_csv(tmp_path / "out" / "lengths.csv")["text mrr@20"].to_list()[2] == 1.0
    beside = pl.read_csv(tmp_path / "out" / "extra_metrics.csv")
    assert beside.filter(pl.col("metric") == "coverage")["value"].to_list() == [0.5]


def test_the_old_name_of_the_extra_metrics_warns(run: Path) -> None:
    shown = alterrec.result(run)
    with pytest.warns(DeprecationWarning, match="extra_metrics"):
        assert shown.beside is shown.extra_metrics


def test_an_older_run_reports_what_it_lacks(run: Path) -> None:
    (run / "top.parquet").unlink()
    beside = read_extra_metrics(read_run(run))
    assert beside is not None
    assert beside.lists is None
    assert "saved no recommendation lists (top.parquet)" in write_report(run).read_text("utf-8")
    (run / "ranks.parquet").unlink()
    assert read_extra_metrics(read_run(run)) is None
    assert "MRR over" not in str(alterrec.result(run))


def test_the_page_of_a_run_has_these_sections(run: Path) -> None:
    page = write_report(run).read_text("utf-8")
    assert "Metrics by session length" in page
    assert "contain 50.0% of the 6 items" in page
    assert "Item-cold targets never occur in training" in page
    assert (run / "figures" / "lengths.svg").exists()


def test_without_test_targets_validation_is_shown(run: Path) -> None:
    validation = write_run(run.parent / "valid", views=("score", "text"), test={})
    ITEMS.write_parquet(validation / "vocabulary.parquet")
    RANKS.write_parquet(validation / "ranks.parquet")
    beside = read_extra_metrics(read_run(validation))
    assert beside is not None
    assert beside.mrr["score"] == pytest.approx(1 / 6)
    assert beside.lists is None


@pytest.mark.parametrize(
    ("name", "frame", "message"),
    [
        ("ranks.parquet", RANKS.drop("position"), "has no column position"),
        ("ranks.parquet", None, "ranks.parquet is damaged"),
        ("vocabulary.parquet", None, "vocabulary.parquet is damaged"),
    ],
)
def test_damaged_files_are_named(run: Path, name: str, frame: pl.DataFrame | None, message: str) -> None:
    if frame is None:
        (run / name).write_bytes(b"nothing of the kind")
    else:
        frame.write_parquet(run / name)
    with pytest.raises(InputError, match=message):
        read_extra_metrics(read_run(run))


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"no ranks\.parquet in"):
        read_ranks(tmp_path)


def test_counts_that_no_catalogue_has_are_damage(run: Path) -> None:
    frame = pl.read_parquet(run / "ranks.parquet").with_columns(tied_text=pl.lit(2**31 - 1))
    frame.write_parquet(run / "ranks.parquet")
    with pytest.raises(InputError, match=r"ranks\.parquet is damaged: 2147483647 items above a target"):
        read_ranks(run)


def test_results_need_no_torch(run: Path) -> None:
    code = f"import sys, alterrec; str(alterrec.result({str(run)!r})); print('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "False\n"


def test_a_fitted_run_shows_itself(tmp_path: Path) -> None:
    data = synthetic_dataset(items=300, sessions=500)
    overrides = {"run.baselines": False, "data.exclude_seen": "always"}
    run = alterrec.fit(data, "popularity", out=tmp_path / "run", overrides=overrides)
    shown = run.show()
    assert shown.folder.path == run.path
    assert shown.extra_metrics is not None
    assert shown.extra_metrics.lists is not None
    # All that is shown to anyone are the 20 most popular items, less those of the session.
    assert shown.extra_metrics.lists.coverage < 40 / data.num_items
    assert shown.extra_metrics.lists.popularity_ratio is not None
    assert shown.extra_metrics.lists.popularity_ratio > 1

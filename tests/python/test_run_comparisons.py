"""What a run records about its baselines and its example sessions, compared with saved runs of them."""

from __future__ import annotations

import json
import math
from pathlib import Path

import pytest
from worlds import small_dataset

import alterrec
from alterrec.metrics import DEFAULT_METRICS
from alterrec.results import RunFolder, read_run

SYSTEMS = ("itemknn", "popularity", "recent_popularity", "covisitation", "vsknn")
QUIET = {"run.report": False, "run.threads": 1}


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, RunFolder]:
    """A run of each system without training on the same data; that of item-kNN has baselines."""
    folder, data = tmp_path_factory.mktemp("runs"), small_dataset(users=4)
    found = {}
    for system in SYSTEMS:
        overrides = QUIET | {"run.baselines": system == "itemknn"}
        found[system] = read_run(alterrec.fit(data, system, out=folder / system, overrides=overrides).path)
    return found


def test_the_best_baseline_of_each_metric_is_compared_as_its_own_run_is(runs: dict[str, RunFolder]) -> None:
    result = runs["itemknn"].result
    assert [(each.view, each.metric) for each in result.comparisons] == [
        ("score", "hits@20"),
        ("score", "ndcg@20"),
    ]
    for each in result.comparisons:
        means = {name: splits["test"][each.metric] for name, splits in result.baselines.items()}
        assert means[each.baseline] == max(means.values())
        compared = alterrec.compare([runs[each.baseline].path, runs["itemknn"].path]).comparisons
        (same,) = (one for one in compared if one.metric == each.metric and not one.group)
        assert (each.mean, each.sessions, each.outcomes) == (
            pytest.approx(same.mean),
            same.sessions,
            same.outcomes,
        )
        assert each.p == pytest.approx(same.p, abs=0.02)


def test_without_baselines_nothing_is_compared(runs: dict[str, RunFolder]) -> None:
    assert runs["popularity"].result.comparisons == []
    assert set(runs["popularity"].result.errors) == {"score"}


def test_errors_are_those_of_shares(runs: dict[str, RunFolder]) -> None:
    result = runs["itemknn"].result
    assert set(result.errors) == {"score", *result.baselines}
    assert set(result.errors["score"]) == set(DEFAULT_METRICS)
    # One target a session, so hits are independent trials.
    share, number = result.test["score"]["hits@20"], result.targets["test"].count
    assert result.errors["score"]["hits@20"] == pytest.approx(math.sqrt(share * (1 - share) / (number - 1)))


def test_every_run_shows_the_same_sessions_whatever_it_ranks(runs: dict[str, RunFolder]) -> None:
    shown = [
        [
            (each["session"], each["target"])
            for each in json.loads((run.path / "examples.json").read_text("utf-8"))
        ]
        for run in runs.values()
    ]
    assert len(shown[0]) == 6
    assert all(each == shown[0] for each in shown)
    assert all(run.result.examples_drawn for run in runs.values())


def test_the_page_of_a_real_run_says_how_it_compares(runs: dict[str, RunFolder], tmp_path: Path) -> None:
    page = alterrec.result(runs["itemknn"].path).save(tmp_path).read_text("utf-8")
    assert "The final score is " in page
    assert "What it recommends: random test visits" in page
    assert "What to do next" in page

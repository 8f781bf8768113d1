"""Sweeps: which runs they need, and what they say of metrics over values, worked by hand."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from conftest import Outcome
from study_folder import METRICS, row, write_study

from alterrec.cli.options import parse_axes
from alterrec.data.readers import DataSource
from alterrec.errors import InputError
from alterrec.evaluation.choices import CURVE
from alterrec.studies.plan import StudyOptions
from alterrec.studies.queue import RunQueue
from alterrec.studies.study import run_study
from alterrec.studies.sweep import (
    ALPHAS,
    PAPER_SWEEPS,
    complete,
    findings,
    plan,
    points_of,
    report,
    sweep_data,
)
from alterrec.study_records import StudyResult, read_study


@pytest.fixture
def runs(tmp_path: Path) -> RunQueue:
    return RunQueue(tmp_path / "runs", DataSource(tmp_path / "shop"), "fingerprint")


def completed(*over: dict[str, Any], models: tuple[str, ...] = (), seeds: int = 1) -> StudyOptions:
    return complete(StudyOptions(only=models, seeds=seeds, over=over))


def test_by_default_the_paper_is_swept_and_its_own_values_are_trained_once(runs: RunQueue) -> None:
    options = completed()
    assert [list(axes) for axes in options.over] == [
        ["fusion.alpha"],
        ["window.last"],
        ["window.first"],
        ["positives.top"],
        ["positives.weight"],
    ]
    rows = plan(options, runs)
    assert [each.label for each in rows] == [
        "alterrec",
        "alterrec, window.last 0.05",
        "alterrec, window.last 0.2",
        "alterrec, window.first 1",
        "alterrec, window.first 20",
        "alterrec_aug",
        "alterrec_aug, positives.top 1",
        "alterrec_aug, positives.top 10",
        "alterrec_aug, positives.weight 0.1",
        "alterrec_aug, positives.weight 1.0",
    ]
    # Other studies have the recipe's own values in the same run.
    plain = {model: runs.make(model, {}, 0).name for model in PAPER_SWEEPS}
    assert {each.label: each.seeds[0].name for each in rows if each.label in plain} == plain
    assert ALPHAS == CURVE


def test_values_are_read_as_the_recipe_reads_them_with_its_own_among_them() -> None:
    options = completed({"window.last": ["0.7", "0.050"]}, {"model.init": ["normal"]})
    assert options.over == [{"window.last": [0.05, 0.5, 0.7]}, {"model.init": ["uniform", "normal"]}]


def test_two_fields_are_every_pair_of_their_values(runs: RunQueue) -> None:
    options = completed(parse_axes("window.first=1,20:window.last=0.05"))
    assert options.over == [{"window.first": [1, 6, 20], "window.last": [0.05, 0.5]}]
    rows = plan(options, runs)
    assert len(rows) == 6
    assert {(each.settings["window.first"], each.settings["window.last"]) for each in rows} == {
        (first, last) for first in (1, 6, 20) for last in (0.05, 0.5)
    }


def test_any_one_system_has_sweeps_and_augmented_positives_have_theirs(runs: RunQueue) -> None:
    assert plan(completed({"model.layers": [1, 2]}, models=("sasrec",)), runs)[0].model == "sasrec"
    rows = plan(completed({"positives.top": [1], "window.last": [0.2]}), runs)
    assert {each.model for each in rows} == {"alterrec_aug"}


@pytest.mark.parametrize(
    ("over", "models", "said"),
    [
        ({"window.lst": [1]}, ("alterrec",), "'window.lst' is unknown; did you mean 'window.last'?"),
        ({"window.last": ["wide"]}, ("alterrec",), "window.last is 'wide'"),
        ({"window.last": [0.5]}, ("alterrec",), "has only 0.5"),
        ({"run.seed": [1, 2]}, ("alterrec",), "use --seeds N"),
        ({"fusion.alpha": [0.25]}, ("alterrec",), "fusion.alpha has 0.25; choose from 0.0, 0.1"),
        ({"optim.lr": [1], "model.dim": [8], "model.layers": [1]}, ("core",), "--over has 3 keys"),
        ({"optim.lr": [1]}, ("core", "sasrec"), "a sweep needs one system"),
        (None, ("sasrec",), "--over is missing"),
    ],
)
def test_what_cannot_be_swept(over: dict[str, Any] | None, models: tuple[str, ...], said: str) -> None:
    with pytest.raises(InputError, match=said.replace("?", r"\?")):
        completed(*([over] if over else []), models=models)


def test_options_of_sweeps_are_refused_elsewhere() -> None:
    with pytest.raises(InputError, match="table1 has no option --over; leave it out or choose sweep"):
        run_study("table1", over=[{"window.last": [0.1]}])
    with pytest.raises(InputError, match="no option --metric; leave it out or choose imbalance"):
        run_study("table1", metric="mrr@20")
    with pytest.raises(InputError, match="did you mean 'ndcg@20'"):
        run_study("sweep", metric="ndcg@2")
    with pytest.raises(InputError, match=r"--over window\.last has an empty value in '1,,2'"):
        parse_axes("window.last=1,,2")


def swept(settings: dict[str, Any], valid: list[float], test: list[float], **changes: Any) -> dict[str, Any]:
    """A row of alterrec in which every metric of a seed is the same number, in percent."""
    made = row("alterrec", "ours", *([value] * 5 for value in test), settings=settings, **changes)
    for run, value in zip(made["runs"], valid, strict=True):
        run["valid"] = dict.fromkeys(METRICS, value / 100)
    return made


BASE = {"window.last": 0.5, "window.first": 6, "fusion.alpha": 0.5}


@pytest.fixture
def study(tmp_path: Path) -> StudyResult:
    base = swept(BASE, [20, 22], [21, 23])
    for run, lift in zip(base["runs"], (0.0, 0.01), strict=True):
        run["alphas"] = [
            {
                "alpha": alpha,
                "valid": dict.fromkeys(METRICS, level + lift),
                "test": dict.fromkeys(METRICS, level),
            }
            for alpha, level in ((0.0, 0.10), (0.5, 0.20), (1.0, 0.14))
        ]
    rows = [
        base,
        swept(BASE | {"window.last": 0.05}, [10, 12], [11, 13], label="a"),
        swept(BASE | {"window.first": 1}, [22, 24], [21, 24], label="b"),
        swept(BASE | {"window.first": 1, "window.last": 0.05}, [12, 12], [12, 14], label="c"),
        swept(BASE | {"window.first": 20}, [], [], label="d"),
    ]
    over = [
        {"fusion.alpha": [0.0, 0.5, 1.0]},
        {"window.last": [0.05, 0.5]},
        {"window.first": [1, 6, 20]},
        {"window.first": [1, 6], "window.last": [0.05, 0.5]},
    ]
    return read_study(write_study(tmp_path, rows, study="sweep", over=over))


def test_the_answers_in_words(study: StudyResult) -> None:
    assert findings(study) == [
        # Each weight has the same test value in both seeds.
        "fusion.alpha (the weight of ID) of alterrec: over 3 values, test NDCG@20 varies by 10.00 points; "
        "the "
        "standard deviation between seeds is 0.00, so the field matters. Best by validation: 0.5 (test "
        "20.0%), "
        "the recipe's own value.",
        # Means 12 and 22, each with a deviation of sqrt(2).
        "window.last (k2) of alterrec: over 2 values, test NDCG@20 varies by 10.00 points; the standard "
        "deviation between seeds is 1.41, so the field matters. Best by validation: 0.5 (test 22.0%), the "
        "recipe's own value.",
        # Means 22.5 and 22; variances 4.5 and 2. The value 20 has no run.
        "window.first (k1) of alterrec: over 2 values, test NDCG@20 varies by 0.50 points; the standard "
        "deviation between seeds is 1.80, which is more, so the field does not matter here. Best by "
        "validation: 1 (test 22.5%); the recipe has 6 (22.0%).",
        # Variances 2, 4.5, 2 and 2.
        "window.first (k1) with window.last (k2) of alterrec: over 4 pairs of values, test NDCG@20 varies by "
        "10.50 points; the standard deviation between seeds is 1.62, so the field matters. Best by "
        "validation: "
        "1 and 0.5 (test 22.5%); the recipe has 6 and 0.5 (22.0%).",
    ]


def test_points_tables_and_pictures(study: StudyResult) -> None:
    pairs = points_of(study, study.over[3], "ndcg@20")
    assert [(point.values, point.base) for point in pairs] == [
        ((1, 0.05), False),
        ((1, 0.5), False),
        ((6, 0.05), False),
        ((6, 0.5), True),
    ]
    data = sweep_data(study)
    assert data.table.rows[3:5] == (
        ("window.last", "0.05", "11.00 ± 1.41%", "12.00 ± 1.41%", "2"),
        ("window.last", "0.5 (recipe)", "21.00 ± 1.41%", "22.00 ± 1.41%", "2"),
    )
    assert data.table.best >= {(4, 1), (4, 2)}
    assert data.records[3]["test ndcg@20"] == pytest.approx(0.12)
    shown = report(study)
    assert {name: len(plot.panels) for name, plot in shown.figures().items()} == {"sweep": 3, "map": 2}
    texts = [text.get_text() for text in shown.figures()["map"].whole.axes[1].texts]
    assert texts == ["13.00", "22.50", "12.00", "22.00"]


def test_one_seed_gives_no_variation_and_no_run_no_finding(tmp_path: Path) -> None:
    rows = [swept(BASE, [20], [21]), swept(BASE | {"window.last": 0.05}, [10], [11], label="a")]
    over = [{"window.last": [0.05, 0.5]}]
    (said,) = findings(read_study(write_study(tmp_path, rows, over=over)))
    assert "with one seed, this cannot be compared with the variation between seeds" in said
    none = read_study(write_study(tmp_path, [swept(BASE, [20], [21])], over=over))
    assert findings(none) == ["No field has finished runs of two values yet."]
    assert report(none).figures() == {}


def test_a_best_value_at_the_end_of_the_range_is_said_to_be_there(tmp_path: Path) -> None:
    rows = [
        swept(BASE, [20], [21]),
        swept(BASE | {"window.last": 0.05}, [10], [11], label="a"),
        swept(BASE | {"window.last": 0.7}, [25], [24], label="b"),
    ]
    over = [{"window.last": [0.05, 0.5, 0.7]}]
    (said,) = findings(read_study(write_study(tmp_path, rows, over=over)))
    assert said.endswith("This is the end of the range, so a value beyond it may be better.")
    rows[2]["runs"][0]["valid"]["ndcg@20"] = 0.19
    (said,) = findings(read_study(write_study(tmp_path, rows, over=over)))
    assert said.endswith("Best by validation: 0.5 (test 21.0%), the recipe's own value.")


def test_a_long_range_is_drawn_on_a_logarithmic_axis(tmp_path: Path) -> None:
    rows = [swept(BASE, [20], [21]), swept(BASE | {"window.first": 121}, [10], [11], label="a")]
    for last, scale in ((121, "log"), (120, "linear")):
        rows[1]["settings"]["window.first"] = last
        study = read_study(write_study(tmp_path, rows, over=[{"window.first": [6, last]}]))
        assert report(study).figures()["sweep"].whole.axes[0].get_xscale() == scale


def test_a_sweep_carried_out(alterrec: Callable[..., Outcome], shop: Path, tmp_path: Path) -> None:
    small = ("--set=model.dim=8", "--set=schedule.epochs=1", "--set=run.threads=1", "--seeds=1")
    code, out, err = alterrec(
        *("study", "sweep", "--data", shop, "--out", tmp_path / "out", "--only=id_only", *small),
        *("--over", "optim.lr=0.01", "--metric", "hits@10"),
    )
    assert (code, err) == (0, "")
    assert "optim.lr of id_only: over 2 values, test Hits@10 varies by" in out
    facts = json.loads((tmp_path / "out" / "study.json").read_text("utf-8"))
    assert (facts["over"], facts["pictured"]) == ([{"optim.lr": [0.001, 0.01]}], "hits@10")
    assert (tmp_path / "out" / "figures" / "sweep.svg").exists()


def test_a_field_that_never_acted_is_not_said_to_be_without_effect(tmp_path: Path) -> None:
    over = [{"window.last": [0.05, 0.5]}]
    rows = [swept({**BASE, "window.last": last}, [20, 22], [21, 23]) for last in (0.05, 0.5)]
    (said,) = findings(read_study(write_study(tmp_path, rows, over=over)))
    assert "the same numbers seed by seed" in said
    assert "does not matter" not in said

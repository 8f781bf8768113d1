"""Modality dominance: indicators, verdicts, overlap and oracle of made runs, worked by hand."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from conftest import Outcome
from report_folder import METRICS, result, write_run

from alterrec.analyses.balance import balance, overlap
from alterrec.analyses.balance_page import Indicator
from alterrec.errors import InputError
from alterrec.evaluation.saved import SavedRanks

# The logarithm of the number of items is 8, to four digits.
DATA = result()["data"] | {"items": 2981}
RANKS = {"id": [0, 0, 30, 30], "text": [0, 30, 0, 30], "score": [0, 0, 40, 0]}
FUSED = {"score": (6.0, 0.20), "id": (6.2, 0.18), "text": (7.8, 0.05)}


def made(
    folder: Path,
    model: str,
    parts: dict[str, tuple[float, float]],
    *,
    seed: int = 0,
    gradients: Sequence[dict[str, float]] = ({"id": 3.0, "text": 1.0}, {"id": 1.0, "text": 1.0}),
    trained: str = "model",
    **changes: Any,
) -> Path:
    """A run of two epochs with (loss, metric) of each view at the second, the best."""
    views = {view: dict.fromkeys(METRICS, value) for view, (_, value) in parts.items()}
    changes = {"data": DATA, "valid": views, "test": views, "best_epoch": 2} | changes
    run = write_run(folder, seed=seed, epochs=2, views=tuple(parts), model=model, **changes)
    lines = [
        {
            "epoch": number,
            "phase": "",
            "trained": trained,
            "negatives": "full",
            "loss": 6.0,
            "valid": views,
            "parts": {view: {"loss": nats, "gradient": norms.get(view)} for view, (nats, _) in parts.items()},
        }
        for number, norms in enumerate(gradients, start=1)
    ]
    (run / "curves.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines), "utf-8")
    counts = {f"greater_{view}": RANKS[view] for view in parts} | {f"tied_{view}": [1] * 4 for view in parts}
    places = {
        "split": ["test"] * 4,
        "session_id": list("abcd"),
        "position": [1] * 4,
        "target_id": list("wxyz"),
    }
    pl.DataFrame(places | {"train_count": [3] * 4} | counts).write_parquet(run / "ranks.parquet")
    return run


def test_id_dominates_text_by_three_indicators(tmp_path: Path) -> None:
    found = balance([made(tmp_path / f"n{seed}", "nfrec_concat", FUSED, seed=seed) for seed in (0, 1)])
    assert found.verdict() == "id"
    # Shares of 3 / 4 and 1 / 2; losses 1.8 and 0.2 of 2 below guessing; metrics 0.18 and 0.05 of 0.20.
    assert found.indicator_table().table.rows == (
        ("share of gradient", "62 ± 0%", "38 ± 0%", "ID"),
        ("progress of loss, relative to the whole model", "90 ± 0%", "10 ± 0%", "ID"),
        ("NDCG@20, relative to the whole model", "90 ± 0%", "25 ± 0%", "ID"),
    )
    verdict, by_part, oracle = found.presentation().findings
    assert verdict.startswith(
        "ID dominates text in nfrec_concat. Indicators: share of gradient: ID 62 ± 0%, text 38"
    )
    assert verdict.endswith(
        "Without runs of each part alone, a weak part cannot be told from a suppressed one."
    )
    assert by_part == (
        "Both parts find 25.0% of the 4 test targets among their first 20 items, only ID finds 25.0%, only "
        "text "
        "finds 25.0% and neither finds 25.0%. The score finds 100% of those that only ID finds and 0% of "
        "those that only text "
        "finds."
    )
    # Three targets are first by a part, and three by the score.
    assert oracle.endswith(
        "a test NDCG@20 of 75.0 ± 0.0%. The score reaches 75.0 ± 0.0%, a difference of 0.00 ± 0.00 points."
    )
    assert any("No run of ID alone and text alone was given" in caveat for caveat in found.caveats)


def test_with_runs_of_each_part_alone_a_weak_part_is_not_a_dominated_one(tmp_path: Path) -> None:
    runs = [
        made(tmp_path / "whole", "nfrec_concat", FUSED),
        made(tmp_path / "id", "id_only", {"score": (6.0, 0.20)}),
        made(tmp_path / "text", "text_only", {"score": (7.75, 0.05)}),
    ]
    found = balance(runs)
    # Text alone comes down by 0.25 and reaches 0.05: inside it has 80 % and all of that.
    assert found.indicator_table().table.rows[1:] == (
        ("progress of loss, relative to the part alone", "90%", "80%", "neither"),
        ("NDCG@20, relative to the part alone", "90%", "100%", "neither"),
    )
    # The gradient favours ID, and no other indicator does.
    assert found.verdict() == "not shown"
    assert found.presentation().findings[0].startswith("The runs do not show that one modality dominates")
    assert [line.label for line in found.members] == [
        *("the whole", "ID inside", "ID only", "text inside", "text only")
    ]
    assert found.caveats == ["There is only one seed, so the variation over seeds is unknown."]


def test_separate_networks_do_not_compete_for_a_gradient(tmp_path: Path) -> None:
    even = {"score": (6.0, 0.20), "id": (6.4, 0.17), "text": (6.5, 0.16)}
    found = balance([made(tmp_path / "run", "alterrec", even, trained="id")])
    assert [indicator.name for indicator in found.indicators()] == [
        "progress of loss, relative to the whole model",
        "NDCG@20, relative to the whole model",
    ]
    assert found.verdict() == "neither"


def test_contradicting_indicators_show_nothing_and_older_runs_have_one_indicator(tmp_path: Path) -> None:
    crossed = {"score": (6.0, 0.20), "id": (6.2, 0.05), "text": (7.8, 0.18)}
    assert balance([made(tmp_path / "a", "nfrec_concat", crossed)]).verdict() == "not shown"
    old = made(tmp_path / "b", "nfrec_concat", FUSED)
    lines = [
        json.loads(line) | {"parts": {}} for line in (old / "curves.jsonl").read_text("utf-8").splitlines()
    ]
    (old / "curves.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines), "utf-8")
    found = balance([old])
    assert [indicator.name for indicator in found.indicators()] == ["NDCG@20, relative to the whole model"]
    assert found.verdict() == "not shown"
    assert any("an earlier version" in caveat for caveat in found.caveats)
    assert len(found.presentation().figures()["curves"].panels) == 1


def test_an_indicator_on_which_seeds_disagree_favours_neither() -> None:
    assert Indicator("m", {0: 0.9, 1: 0.9}, {0: 0.1, 1: 0.8}).favours == ""
    assert Indicator("m", {0: 0.1, 1: 0.2}, {0: 0.9, 1: 0.8}).favours == "text"


def test_ties_count_by_expectation() -> None:
    # The 20th or 21st place of each part: found with probability one half, both with a quarter.
    frame = pl.DataFrame(
        {
            f"{kind}_{view}": [19 if kind == "greater" else 2]
            for kind in ("greater", "tied")
            for view in ("id", "text")
        }
    )
    found = overlap(SavedRanks(frame.with_columns(greater_score=0, tied_score=1)))
    assert found.shares == (0.25, 0.25, 0.25, 0.25)
    assert found.kept == (1.0, 1.0, 1.0, 1.0)


@pytest.mark.parametrize(
    ("others", "said"),
    [
        ([{"model": "nfrec_concat", "seed": 0}], "the fusion has seed 0 more than once"),
        ([{"model": "independent", "seed": 1}], r"the fusion has several recipes: run \(nfrec_concat\), 0 "),
        (
            [{"model": "id_only", "seed": 0}, {"model": "alterrec_wo_text", "seed": 0}],
            "ID alone has several recipes",
        ),
        (
            [{"model": "sasrec", "seed": 0}],
            "0 is a run of sasrec, neither a fusion of ID and text nor one of them",
        ),
        (
            [{"model": "id_only", "seed": 0, "data": DATA | {"fingerprint": "other"}}],
            "0 cannot be compared with run: other data",
        ),
    ],
)
def test_runs_that_cannot_be_analysed_together(
    tmp_path: Path, others: list[dict[str, Any]], said: str
) -> None:
    runs = [made(tmp_path / "run", "nfrec_concat", FUSED)]
    for number, other in enumerate(others):
        parts = FUSED if other["model"] in ("nfrec_concat", "independent") else {"score": (6.0, 0.2)}
        runs.append(made(tmp_path / str(number), parts=parts, **other))
    with pytest.raises(InputError, match=said):
        balance(runs)


def test_runs_without_two_parts(tmp_path: Path) -> None:
    run = made(tmp_path / "run", "id_only", {"score": (6.0, 0.2)})
    with pytest.raises(InputError, match=r"no run has the parts id and text: run \(id_only\)"):
        balance([run])
    with pytest.raises(InputError, match="did you mean 'ndcg@20'"):
        balance([run], metric="ndcg@2")


def test_the_command(alterrec: Callable[..., Outcome], tmp_path: Path) -> None:
    run = made(tmp_path / "run", "nfrec_concat", FUSED)
    code, out, err = alterrec("balance", run, "--json")
    numbers = json.loads(out)
    assert (code, err, numbers["verdict"]) == (0, "", "id")
    assert numbers["chooser"]["hits@20"]["chooser"] == {"0": 0.75}
    assert numbers["epochs"]["text inside"]["0"][0] == {"ndcg@20": 0.05, "loss": 7.8, "gradient": 1.0}
    assert not (run / "balance").exists()
    code, out, err = alterrec("balance", run)
    assert code == 0
    assert "ID dominates text in nfrec_concat. Indicators: share of gradient" in out
    assert out.splitlines()[-1] == f"report: {run / 'balance' / 'report.html'}"
    assert {path.name for path in (run / "balance").iterdir()} >= {"report.html", "balance.md", "signs.csv"}
    assert alterrec("balance", tmp_path / "none").code == 2

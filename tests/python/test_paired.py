"""Saved runs against each other: numbers worked by hand, refusals, seeds, the command line, simulation."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from math import log2
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from conftest import Outcome
from report_folder import result, write_run
from scipy.stats import binom

import alterrec
from alterrec.errors import InputError
from alterrec.evaluation.comparisons import (
    System,
    compare_systems,
    outcomes,
    pairings,
    seed_error,
)
from alterrec.evaluation.saved import SavedRanks
from alterrec.evaluation.sign_flips import flip_test

SESSIONS = ["a", "b", "c", "d"]


def frame(greater: list[int], **columns: Any) -> pl.DataFrame:
    """Four sessions of one target each: positions 1, 1, 3 and 12; two targets are rare."""
    data = {
        "split": ["test"] * len(greater),
        "session_id": SESSIONS[: len(greater)],
        "position": [1, 1, 3, 12][: len(greater)],
        "target_id": ["x", "y", "z", "w"][: len(greater)],
        "train_count": [3, 200, 5, 200][: len(greater)],
        "greater_score": greater,
        "tied_score": [1] * len(greater),
    }
    return pl.DataFrame(data | columns)


def run(
    folder: Path,
    greater: list[int],
    model: str = "sasrec",
    seed: int = 0,
    data: dict[str, Any] | None = None,
    **changes: Any,
) -> Path:
    """A finished run with these items above the targets; ``data`` and other changes are of result.json."""
    columns = changes.pop("columns", {})
    facts = result()["data"] | (data or {})
    write_run(folder, seed=seed, model=model, views=("score",), data=facts, **changes)
    frame(greater, **columns).write_parquet(folder / "ranks.parquet")
    return folder


def only(found: list[Any], **wanted: Any) -> Any:
    (one,) = [each for each in found if all(getattr(each, key) == value for key, value in wanted.items())]
    return one


def test_two_runs_by_hand(tmp_path: Path) -> None:
    # Ranks of the base: 1, 3, 30, 2. Of the other: 2, 3, 1, 40.
    base = run(tmp_path / "base", [0, 2, 29, 1], "sasrec")
    other = run(tmp_path / "other", [1, 2, 0, 39], "alterrec")
    found = alterrec.compare([base, other])
    assert [system.name for system in found.systems] == ["sasrec", "alterrec"]
    assert (found.sessions, found.targets, found.split) == (4, 4, "test")
    hits = only(found.comparisons, metric="hits@20", group="")
    assert (hits.system, hits.baseline, hits.view) == ("alterrec", "sasrec", "score")
    assert (hits.system_mean, hits.baseline_mean, hits.mean) == (3 / 4, 3 / 4, 0.0)
    assert hits.outcomes == (1, 2, 1)
    assert (hits.p, hits.verdict) == (1.0, "not shown")
    ndcg = only(found.comparisons, metric="ndcg@20", group="")
    by_session = [1 / log2(3) - 1, 0.0, 1.0, -1 / log2(3)]
    assert ndcg.mean == pytest.approx(sum(by_session) / 4, abs=1e-15)
    # Their sum is 0 on paper, so all 2^3 signs of what moved are as extreme.
    assert ndcg.p == 1.0
    mrr = only(found.comparisons, metric="mrr@20", group="")
    assert mrr.mean == pytest.approx((1 / 2 - 1 + 0 + 1 - 1 / 2) / 4, abs=1e-15)
    assert mrr.outcomes == (1, 1, 2)
    assert all(each.seed_error is None for each in found.comparisons)
    with pytest.warns(DeprecationWarning, match="comparisons"):
        assert found.contrasts == found.comparisons


def test_groups_by_hand(tmp_path: Path) -> None:
    base = run(tmp_path / "base", [0, 2, 29, 1], "sasrec")
    other = run(tmp_path / "other", [1, 2, 0, 39], "alterrec")
    found = alterrec.compare([base, other]).comparisons
    groups = {(each.group_kind, each.group): each for each in found if each.group}
    assert list(groups) == [
        ("popularity", "1-5"),
        ("popularity", ">100"),
        ("length", "1"),
        ("length", "3-5"),
        ("length", ">10"),
    ]
    assert {each.metric for each in groups.values()} == {"ndcg@20"}
    rare = groups["popularity", "1-5"]
    assert (rare.targets, rare.sessions) == (2, 2)
    assert rare.mean == pytest.approx((1 / log2(3) - 1 + 1) / 2)
    assert groups["length", ">10"].mean == pytest.approx(-1 / log2(3))


def test_targets_are_matched_whatever_their_order(tmp_path: Path) -> None:
    base = run(tmp_path / "base", [0, 2, 29, 1], "sasrec")
    other = run(tmp_path / "other", [1, 2, 0, 39], "alterrec")
    straight = alterrec.compare([base, other])
    turned = pl.read_parquet(other / "ranks.parquet").reverse()
    turned.write_parquet(other / "ranks.parquet")
    assert alterrec.compare([base, other]).comparisons == straight.comparisons


def test_seeds_of_a_recipe_are_one_system(tmp_path: Path) -> None:
    # Hits@10 by seed: 2/4 and 4/4; the base: 1/4 and 1/4.
    ours = [
        run(tmp_path / f"ours{seed}", ranks, "alterrec", seed)
        for seed, ranks in ((1, [0, 0, 0, 0]), (0, [0, 0, 50, 50]))
    ]
    theirs = [run(tmp_path / f"theirs{seed}", [0, 50, 50, 50], "sasrec", seed) for seed in (0, 1)]
    found = alterrec.compare([*theirs, *ours])
    assert [(system.name, system.seeds) for system in found.systems] == [
        ("sasrec", (0, 1)),
        ("alterrec", (0, 1)),
    ]
    system = found.systems[1]
    assert system.means["score"]["hits@10"] == [0.5, 1.0]
    hits = only(found.comparisons, metric="hits@10", group="")
    # By session: 0, 1, 1/2, 1/2.
    assert hits.mean == pytest.approx(0.5)
    assert hits.outcomes == (3, 1, 0)
    # Seeds of ours deviate by 1/(2 sqrt 2), those of the base not at all.
    assert hits.seed_error == pytest.approx(np.std([0.5, 1.0], ddof=1) / np.sqrt(2))
    records = pl.DataFrame(found.presentation().sections[0].tables["systems"].records)
    own = records.filter((pl.col("system") == "alterrec") & (pl.col("metric") == "hits@10"))
    assert own["seed_sd"].item() == pytest.approx(np.std([0.5, 1.0], ddof=1))
    # Means of the two seeds by session: 1, 1, 1/2, 1/2.
    assert own["session_se"].item() == pytest.approx(np.std([1, 1, 0.5, 0.5], ddof=1) / 2)


def test_what_seeds_may_undo_is_said() -> None:
    # 60 sessions all won by one seed and a third of them lost by the other: sure of sessions, not of seeds.
    rng = np.random.default_rng(1)
    keys = {"session_id": [f"{n:02}" for n in range(60)], "position": [1] * 60, "target_id": ["x"] * 60}

    def ranks(above: np.ndarray) -> SavedRanks:
        columns = {"train_count": [9] * 60, "greater_score": above, "tied_score": [1] * 60}
        return SavedRanks(pl.DataFrame(keys | columns))

    base = System("base", (ranks(np.full(60, 9)), ranks(np.full(60, 9))))
    ours = System("ours", (ranks(np.zeros(60, int)), ranks(np.where(rng.random(60) < 0.3, 1, 12))))
    hits = only(
        compare_systems(pairings([(ours, base)], ["score"], ["ndcg@10", "ndcg@20"])),
        metric="ndcg@10",
        group="",
    )
    assert hits.verdict == "above"
    assert hits.seed_error is not None
    assert abs(hits.mean) < 2 * hits.seed_error


def test_all_pairs(tmp_path: Path) -> None:
    runs = [run(tmp_path / name, [0, 1, 2, 3], name) for name in ("sasrec", "core", "alterrec")]
    held = [
        (each.system, each.baseline) for each in alterrec.compare(runs).comparisons if each.metric == "mrr@20"
    ]
    assert held == [("core", "sasrec"), ("alterrec", "sasrec")]
    every = alterrec.compare(runs, all_pairs=True)
    pairs = [(each.system, each.baseline) for each in every.comparisons if each.metric == "mrr@20"]
    assert pairs == [("core", "sasrec"), ("alterrec", "sasrec"), ("alterrec", "core")]


def test_tests_are_adjusted_over_all_that_is_printed(tmp_path: Path) -> None:
    # Ten sessions, each won: p is 2/1024 in all five metrics and in groups. All of them are equal, so that
    # the family costs nothing.
    many = {"session_id": [f"{n}" for n in range(10)], "target_id": ["x"] * 10}
    many |= {"position": [1] * 10, "train_count": [9] * 10}
    base = run(tmp_path / "base", [0] * 4, "sasrec")
    other = run(tmp_path / "other", [0] * 4, "alterrec")
    for folder, above in ((base, 30), (other, 0)):
        columns = {"split": ["test"] * 10, **many, "greater_score": [above] * 10, "tied_score": [1] * 10}
        pl.DataFrame(columns).write_parquet(folder / "ranks.parquet")
    found = alterrec.compare([base, other]).comparisons
    assert len(found) == 7
    assert {each.p for each in found} == {2 / 1024}
    assert {each.p_adjusted for each in found} == {2 / 1024}
    assert {each.verdict for each in found} == {"above"}


def test_views_are_chosen(tmp_path: Path) -> None:
    columns = {"greater_text": [5, 5, 5, 5], "tied_text": [1, 1, 1, 1]}
    base = run(tmp_path / "base", [0, 2, 29, 1], "sasrec", columns=columns)
    other = run(tmp_path / "other", [1, 2, 0, 39], "alterrec", columns=columns)
    third = run(tmp_path / "third", [1, 2, 0, 39], "core")
    text = alterrec.compare([base, other], views=["text"])
    assert {each.view for each in text.comparisons} == {"text"}
    assert {each.mean for each in text.comparisons} == {0.0}
    every = alterrec.compare([base, other, third], views=["each"])
    held = {(each.system, each.view) for each in every.comparisons}
    assert held == {("alterrec", "score"), ("alterrec", "text"), ("core", "score")}
    with pytest.raises(InputError, match=r"'text': only sasrec has it; choose .*\(score\), or each"):
        alterrec.compare([base, third], views=["text"])
    with pytest.raises(InputError, match=r"'txt': no run has it; choose .* did you mean 'text'\?"):
        alterrec.compare([base, other], views=["txt"])


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (
            {"fingerprint": "77aa", "items": 9},
            r"other data: .* \(fingerprint 77aa of 9 items against 5f2c of 3,204",
        ),
        ({"seen": "kept"}, r"items already in the session are 'kept' against 'excluded'"),
        ({"targets": "every"}, r"other targets \(targets are 'every' against 'last'\)"),
    ],
)
def test_other_data_or_rules_are_refused(tmp_path: Path, data: dict[str, Any], message: str) -> None:
    base = run(tmp_path / "base", [0, 2, 29, 1], "sasrec")
    other = run(tmp_path / "other", [0, 2, 29, 1], "alterrec", data=data)
    with pytest.raises(InputError, match=message) as caught:
        alterrec.compare([base, other])
    assert "other cannot be compared with base" in str(caught.value)


def test_other_sessions_are_counted(tmp_path: Path) -> None:
    base = run(tmp_path / "base", [0, 2, 29, 1], "sasrec")
    moved = {"session_id": ["a", "b", "c"], "position": [1, 2, 3]}
    other = run(tmp_path / "other", [0, 2, 29], "alterrec", columns=moved)
    with pytest.raises(
        InputError, match=r"other test sessions \(1 targets are only in other, 2 only in base\)"
    ):
        alterrec.compare([base, other])


def test_what_is_no_comparison_is_refused(tmp_path: Path) -> None:
    base = run(tmp_path / "base", [0, 2, 29, 1], "sasrec")
    again = run(tmp_path / "again", [0, 2, 29, 1], "sasrec")
    seed = run(tmp_path / "seed", [0, 2, 29, 1], "sasrec", seed=1)
    other = run(tmp_path / "other", [0, 2, 29, 1], "alterrec")
    with pytest.raises(InputError, match="at least two systems; got one run"):
        alterrec.compare([base])
    with pytest.raises(InputError, match="got runs of one recipe"):
        alterrec.compare([base, seed])
    with pytest.raises(InputError, match="base and again are both sasrec with seed 0"):
        alterrec.compare([base, again, other])
    stopped = run(tmp_path / "stopped", [0, 2, 29, 1], "core", stopped="interrupted")
    with pytest.raises(InputError, match=r"stopped cannot .* interrupted \(resume it with --resume\)"):
        alterrec.compare([base, stopped])
    with pytest.raises(InputError, match="one of them was interrupted"):
        alterrec.compare([stopped, base])


def test_systems_of_one_model_are_named_by_what_differs(tmp_path: Path) -> None:
    runs = [run(tmp_path / name, [0, 1, 2, 3], "sasrec") for name in ("one", "two")]
    recipe = (runs[1] / "recipe.toml").read_text("utf-8").replace("last = 0.1", "last = 0.5")
    (runs[1] / "recipe.toml").write_text(recipe, "utf-8")
    found = alterrec.compare(runs)
    assert [system.name for system in found.systems] == [
        "sasrec (window.last 0.1)",
        "sasrec (window.last 0.5)",
    ]


def test_the_object_says_draws_and_saves(tmp_path: Path) -> None:
    base = run(tmp_path / "base", [0, 2, 29, 1], "sasrec")
    other = run(tmp_path / "other", [1, 2, 0, 39], "alterrec")
    found = alterrec.compare([base, other])
    assert found.findings() == [
        "alterrec against sasrec: no difference shown in any metric. NDCG@20 differs by +0.00 points, 95% "
        "interval "
        f"[{100 * only(found.comparisons, metric='ndcg@20', group='').low:+.2f}, "
        f"{100 * only(found.comparisons, metric='ndcg@20', group='').high:+.2f}]; alterrec is better in 1 "
        "sessions, equal in 1 and worse in 2."
    ]
    (choice,) = found.presentation().leading
    assert choice.notes == [
        "alterrec has the next item among the first 20 recommendations in 750 of 1,000 visits, sasrec in "
        "750. These visits do not show that one of them is better; take the cheaper one."
    ]
    said = " ".join(found.caveats())
    assert "sasrec and alterrec have one seed each" in said
    assert "4 sessions are few" in said
    assert list(found.draw()) == ["differences", "popularity", "length"]
    page = found.save(tmp_path / "out")
    assert page.read_text("utf-8").count("<svg") == 4
    written = pl.read_csv(tmp_path / "out" / "differences.csv")
    assert written.filter(pl.col("metric") == "hits@20").select("wins", "ties", "losses").row(0) == (1, 2, 1)


def test_the_command(tmp_path: Path, alterrec: Callable[..., Outcome]) -> None:
    base = run(tmp_path / "base", [0, 2, 29, 1], "sasrec")
    other = run(tmp_path / "other", [1, 2, 0, 39], "alterrec")
    code, out, _ = alterrec("compare", base, other, "--out", tmp_path / "out")
    assert code == 0
    assert "alterrec against sasrec: no difference shown in any metric" in out
    assert out.splitlines()[-1] == f"report: {tmp_path / 'out' / 'report.html'}"
    code, out, _ = alterrec("compare", base, other, "--json")
    numbers = json.loads(out)
    assert (code, numbers["schema"], numbers["targets"]) == (0, 1, 4)
    assert {each["verdict"] for each in numbers["comparisons"]} == {"not shown"}
    code, _, err = alterrec("compare", base, tmp_path / "nothing")
    assert code == 2
    assert "no run folder" in err


def test_comparing_needs_no_torch(tmp_path: Path) -> None:
    base, other = (run(tmp_path / name, [0, 2, 29, 1], name) for name in ("sasrec", "alterrec"))
    code = (
        f"import sys, alterrec; str(alterrec.compare([{str(base)!r}, {str(other)!r}])); "
        "print('torch' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "False\n"


def test_outcomes_and_seed_error_by_hand() -> None:
    # Means of three seeds that are equal on paper: 0.1 + 0.2 + 0.3 in two orders.
    equal = (0.1 + 0.2 + 0.3) / 3 - (0.3 + 0.2 + 0.1) / 3
    assert equal != 0
    assert outcomes([equal, 1e-9, -1e-9]) == (1, 1, 1)
    # Variances 0.02 of two seeds and 0.01 of three: sqrt(0.02 / 2 + 0.01 / 3).
    assert seed_error([0.1, 0.3], [0.1, 0.2, 0.3]) == pytest.approx(np.sqrt(0.02 / 2 + 0.01 / 3))
    assert seed_error([0.1], [0.2]) is None


def test_null_data_are_rejected_one_time_in_twenty() -> None:
    """2,000 null data sets of 60 sessions, skewed and mostly ties, as comparisons of rankings are."""
    rng = np.random.default_rng(11)
    shape = (60, 2000)
    size = rng.exponential(size=shape) ** 2 * (rng.random(shape) < 0.4)
    p = flip_test(size * rng.choice([-1.0, 1.0], shape), flips=999).p_K
    low, high = binom.ppf([0.0005, 0.9995], 2000, 0.05)
    assert low <= (p <= 0.05).sum() <= high


def test_intervals_cover_less_than_they_say_where_sessions_are_few() -> None:
    """What the page says of few sessions: coverage of the 95 % interval of skewed values."""
    rng = np.random.default_rng(12)
    covered = {}
    for sessions in (20, 200):
        # Exponential less exponential of another scale, mostly ties: mean 0.4 * (1 - 0.5).
        shape = (sessions, 600)
        moved = rng.random(shape) < 0.4
        values = moved * (rng.exponential(size=shape) - 0.5 * rng.exponential(size=shape))
        tests = [flip_test(column, flips=400) for column in np.split(values, 600, axis=1)]
        inside = [test.low_K[0] <= 0.2 <= test.high_K[0] for test in tests]
        covered[sessions] = float(np.mean(inside))
    assert 0.808 < covered[20] < 0.92
    assert 0.902 < covered[200] < 0.98
    assert covered[20] < covered[200]

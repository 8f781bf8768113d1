"""What the session's own items cost, on the pages of runs, comparisons and balance and in the terminal."""

from __future__ import annotations

import json
from dataclasses import replace
from math import log2
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from report_folder import metrics, result, write_run

import alterrec
from alterrec.analyses.run_page import write_report
from alterrec.analyses.run_summary import caveats
from alterrec.cli.run_tables import show_result
from alterrec.comparable import reason_not_comparable
from alterrec.errors import InputError
from alterrec.record_json import from_json
from alterrec.report.seen_items import TITLE
from alterrec.results import RunResult, TargetCounts, read_run

REPEATS = {
    "rates": {"1": 0.011, "2": 0.0213},
    "weights": {"1": 1.0, "2": 0.714},
    "scales": {
        "score": {"temperature": 0.5, "affinity": 0.25},
        "id": {"temperature": 1.25, "affinity": 0.0},
    },
}
# What result.json of the versions before schema 3 did not have.
EARLIER = {"schema": 2, "targets": {"test": {"count": 907, "cold": 12}, "valid": {"count": 911}}}


def data(**changes: Any) -> dict[str, Any]:
    return {**result()["data"], **changes}


def page(run: Path) -> str:
    return write_report(run).read_text("utf-8").replace("&#39;", "'")


def test_the_figures_of_the_page_are_those_of_the_file(tmp_path: Path) -> None:
    run = write_run(tmp_path / "run", data=data(seen="repeats"), repeats=REPEATS)
    written = json.loads((run / "result.json").read_text("utf-8"))
    alterrec.result(run).save(tmp_path / "out")
    for metric in ("hits@20", "ndcg@20"):
        saved = pl.read_csv(tmp_path / "out" / f"seen_items_{metric.replace('@', '')}.csv")
        found = {(row["system"], row["seen"]): row["mean"] for row in saved.iter_rows(named=True)}
        wanted = {
            (name, rule): written["by_seen"]["test"][rule][view][metric]
            for view, name in (("score", "final score"), ("id", "ID alone"), ("fused", "ID + text"))
            for rule in ("kept", "excluded", "repeats")
        }
        wanted |= {
            (name, rule): written["baselines_by_seen"][key]["test"][rule][metric]
            for key, name in (("popularity", "popularity"), ("itemknn", "item-kNN"), ("vsknn", "V-SKNN"))
            for rule in ("kept", "excluded", "repeats")
        }
        assert {key: found[key] for key in wanted} == wanted
        # The other rows are text and neighbours, each under three rules.
        assert len(found) == len(wanted) + 6
        own = {name: value for (name, rule), value in found.items() if rule == "repeats"}
        assert own["final score"] == written["test"]["score"][metric]


def test_the_page_says_how_many_targets_repeat_and_what_own_items_cost(tmp_path: Path) -> None:
    by_seen = {"test": {rule: {"score": metrics(hits)} for rule, hits in (("kept", 0.3), ("excluded", 0.4))}}
    run = write_run(tmp_path / "run", views=("score",), test=by_seen["test"]["excluded"], by_seen=by_seen)
    shown = page(run)
    for said in (
        "21 of 907 test targets (2.3%) repeat an item of their session. Where the items of the session are "
        "not candidates, these targets count as not found.",
        "NDCG@20 of the final score is 18.3% if the session's own items are candidates and 24.4% if they are "
        "not.",
    ):
        assert said in shown
    assert "All other metrics of this run use the rule excluded (data.exclude_seen = auto)." in shown
    # NDCG@20 is 0.61 times Hits@20: 0.183 and 0.244.
    row = '<th scope="row">final score</th><td>18.3%</td><td>24.4%</td><td>+6.1</td></tr>'
    assert shown.count(row) == 1
    assert "<td>30.0%</td><td>40.0%</td><td>+10.0</td></tr>" in shown
    assert "The repeat component" not in shown


def test_without_repeated_targets_one_sentence_says_so(tmp_path: Path) -> None:
    targets = {"test": {"count": 907, "repeated": 0}}
    shown = page(write_run(tmp_path / "run", targets=targets))
    assert "No test target repeats an item of its session." in shown
    assert "count as not found" not in shown
    assert "NDCG@20 by rule for the session's own items" in shown


def test_the_repeat_component_is_on_the_page(tmp_path: Path) -> None:
    run = write_run(tmp_path / "run", data=data(seen="repeats"), repeats=REPEATS)
    shown = page(run)
    assert "<h2>The repeat component</h2>" in shown
    for row in (
        '<th scope="row">2</th><td>2.13%</td>',
        '<th scope="row">2</th><td>0.71</td>',
        '<th scope="row">ID alone</th><td>1.25</td><td>0</td>',
    ):
        assert row in shown
    alterrec.result(run).save(tmp_path / "out")
    scales = pl.read_csv(tmp_path / "out" / "repeat_scales.csv").rows()
    assert scales == [("score", 0.5, 0.25), ("id", 1.25, 0.0)]
    weights = pl.read_csv(tmp_path / "out" / "repeat_weights.csv")["weight"].to_list()
    assert weights == [1.0, 0.714]


def test_a_run_of_an_earlier_version_is_shown_without_the_section(tmp_path: Path) -> None:
    run = write_run(tmp_path / "run", **EARLIER)
    shown = page(run)
    assert "by rule for the session's own items" not in shown
    assert "repeat an item of their session" not in shown.replace("training targets that repeat", "")
    assert "All metrics" in shown
    said = " ".join(caveats(read_run(run).result))
    assert "still counted targets that repeat one of them as found" in said
    kept = write_run(tmp_path / "kept", data=data(seen="kept"), **EARLIER)
    assert "as found" not in " ".join(caveats(read_run(kept).result))


def test_an_excluded_target_has_no_rank_and_is_not_found(tmp_path: Path) -> None:
    """Every target repeats: without own items no metric can be above 0, and no example shows a rank."""
    shop = tmp_path / "shop"
    shop.mkdir()
    (shop / "items.csv").write_text("item_id\n" + "".join(f"i{n}\n" for n in range(8)), "utf-8")
    for split in ("train", "valid", "test"):
        rows = [f"{split}{n},i{item}\n" for n in range(6) for item in (n, n + 1, n)]
        (shop / f"{split}.csv").write_text("session_id,item_id\n" + "".join(rows), "utf-8")
    overrides = {"data.exclude_seen": "always", "run.baselines": False}
    run = alterrec.fit(shop, "popularity", out=tmp_path / "run", overrides=overrides).path
    folder = read_run(run)
    assert folder.result.targets["test"].repeated == 6
    assert set(folder.result.test["score"].values()) == {0.0}
    assert folder.result.by_seen["test"]["kept"]["score"]["hits@20"] == 1.0
    assert [example.rank for example in folder.examples] == [{"score": None}] * len(folder.examples) != []
    shown = page(run)
    assert "final score: not a candidate" in shown
    assert "A next item that repeats an item of its visit has no rank" in shown
    assert "6 of 6 test targets (100.0%) repeat an item of their session" in shown


def test_the_terminal_shows_the_rules(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = write_run(tmp_path / "run", data=data(seen="repeats"), repeats=REPEATS)
    written = json.loads((run / "result.json").read_text("utf-8"))
    show_result(written)
    lines = capsys.readouterr().out.splitlines()
    place = lines.index(
        "NDCG@20 with the session's own items as candidates (kept) and without them (excluded), and with the "
        "counted probability of a repeat (repeats)"
    )
    assert lines[place - 1].startswith("21 of 907 test targets (2.3%) repeat an item of their session.")
    assert lines[place + 1].split() == ["system", "kept", "excluded", "difference", "repeats"]
    values = [
        written["by_seen"]["test"][rule]["score"]["ndcg@20"] for rule in ("kept", "excluded", "repeats")
    ]
    kept, excluded, repeats = (f"{100 * value:.1f}%" for value in values)
    difference = f"{100 * (values[1] - values[0]):+.1f}"
    assert lines[place + 3].split() == ["final", "score", kept, excluded, difference, repeats]
    assert [line.split()[0] for line in lines[place + 3 :]][-3:] == ["popularity", "item-kNN", "V-SKNN"]
    show_result({key: value for key, value in written.items() if "by_seen" not in key})
    assert "own items" not in capsys.readouterr().out


def ranked(folder: Path, model: str, kept: list[int], excluded: list[int], **changes: Any) -> Path:
    """A run on four targets, of which the last repeats an item of its session; items above the target."""
    written = {"data": data(seen="excluded"), **changes}
    write_run(folder, model=model, views=("score",), **written)
    frame = pl.DataFrame(
        {
            "split": ["test"] * 4,
            "session_id": list("abcd"),
            "position": [1, 1, 3, 12],
            "target_id": list("wxyz"),
            "train_count": [3, 200, 5, 200],
            "greater_score": excluded,
            "tied_score": [1, 1, 1, 0],
            "repeated": [False, False, False, True],
            "kept_greater_score": kept,
            "kept_tied_score": [1, 1, 1, 1],
            "excluded_greater_score": excluded,
            "excluded_tied_score": [1, 1, 1, 0],
        }
    )
    if written.get("schema") == 2:
        frame = frame.select(
            name for name in frame.columns if not name.startswith(("repeat", "kept", "excl"))
        )
    frame.write_parquet(folder / "ranks.parquet")
    return folder


def test_a_comparison_shows_both_counts_by_hand(tmp_path: Path) -> None:
    # Ranks without own items are 1, 1, 3 and none; with them 2, 1, 4 and 1.
    base = ranked(tmp_path / "base", "sasrec", [1, 0, 3, 0], [0, 0, 2, 0])
    seed = ranked(tmp_path / "seed", "sasrec", [1, 0, 3, 0], [1, 0, 3, 0], seed=1)
    other = ranked(tmp_path / "other", "core", [0, 0, 0, 0], [0, 0, 0, 0])
    found = alterrec.compare([base, seed, other])
    assert found.repeated == 1
    kept = (1 / log2(3) + 1 + 1 / log2(5) + 1) / 4
    excluded = [(1 + 1 + 1 / log2(4)) / 4, (1 / log2(3) + 1 + 1 / log2(5)) / 4]
    by_seen = found.systems[0].by_seen["score"]
    assert [each["kept"]["ndcg@20"] for each in by_seen] == pytest.approx([kept, kept])
    assert [each["excluded"]["ndcg@20"] for each in by_seen] == pytest.approx(excluded)
    # The protocol's own numbers are those without own items; the repeated target counts 0.
    assert found.systems[0].means["score"]["ndcg@20"] == pytest.approx(excluded)
    assert found.systems[1].means["score"]["hits@20"] == [0.75]
    (section,) = (part for part in found.presentation().sections if part.title == TITLE)
    assert section.tables["seen_items_hits20"].table.rows == (
        ("sasrec", "100.0 ± 0.0%", "75.0 ± 0.0%", "-25.0"),
        ("core", "100.0%", "75.0%", "-25.0"),
    )
    assert section.notes[0].startswith("1 of 4 test targets (25.0%) repeats an item of its session.")
    assert section.notes[1].endswith("All other metrics of this page use the rule excluded.")
    numbers = found.to_dict()
    assert (numbers["repeated"], numbers["seen"]) == (1, "excluded")
    assert numbers["systems"][1]["by_seen"]["score"][0]["excluded"]["hits@20"] == 0.75
    assert not any("earlier version" in each for each in found.caveats())


def test_a_comparison_with_runs_of_earlier_versions_says_so(tmp_path: Path) -> None:
    kept = {"data": data(seen="kept")}
    new = ranked(tmp_path / "new", "core", [0, 0, 0, 0], [0, 0, 0, 0], **kept)
    old = ranked(tmp_path / "old", "sasrec", [0, 0, 0, 0], [0, 0, 0, 0], **EARLIER, **kept)
    found = alterrec.compare([old, new])
    assert any(each.startswith("Runs of sasrec were made by an earlier version") for each in found.caveats())
    (section,) = (part for part in found.presentation().sections if part.title == TITLE)
    assert section.tables["seen_items_hits20"].table.rows[0] == ("sasrec", "-", "-", "-")
    # Two runs of earlier versions know nothing of repeated targets.
    other = ranked(tmp_path / "other", "alterrec", [0, 0, 0, 0], [0, 0, 0, 0], **EARLIER, **kept)
    found = alterrec.compare([old, other])
    assert found.repeated is None
    assert TITLE not in [part.title for part in found.presentation().sections]
    assert not any("as found" in each for each in found.caveats())


def test_earlier_runs_that_counted_excluded_targets_as_found_are_refused(tmp_path: Path) -> None:
    new = ranked(tmp_path / "new", "core", [0, 0, 0, 0], [0, 0, 0, 0])
    old = ranked(tmp_path / "old", "sasrec", [0, 0, 0, 0], [0, 0, 0, 0], **EARLIER)
    for pair in ([new, old], [old, new]):
        with pytest.raises(InputError, match="earlier version counted targets that repeat an excluded item"):
            alterrec.compare(pair)
    also_old = ranked(tmp_path / "also_old", "alterrec", [0, 0, 0, 0], [0, 0, 0, 0], **EARLIER)
    said = alterrec.compare([old, also_old]).caveats()
    assert any("still counted targets that repeat one of them as found" in each for each in said)
    (new / "ranks.parquet").unlink()
    shown = write_report(new, [old]).read_text("utf-8")
    assert "old (an earlier version counted targets that repeat an excluded item as found)" in shown


@pytest.mark.parametrize(
    ("schema", "seen", "repeated", "comparable"),
    [
        (2, "excluded", 1, False),
        (2, "excluded", 0, True),
        (2, "kept", 1, True),
        (3, "excluded", 1, True),
        (3, "repeats", 1, True),
    ],
)
def test_which_runs_can_be_compared(schema: int, seen: str, repeated: int, comparable: bool) -> None:
    written = json.dumps(result() | {"data": data(seen=seen)})
    new = from_json(RunResult, written, "result.json")
    new = replace(new, targets={"test": TargetCounts(9, repeated=repeated)})
    old = replace(new, schema=schema, targets=new.targets if schema == 3 else {"test": TargetCounts(9)})
    for pair in ((new, old), (old, new)):
        assert (reason_not_comparable(*pair) == "") is comparable


def test_balance_names_its_rule_and_counts_excluded_targets_as_not_found(tmp_path: Path) -> None:
    views = ("score", "id", "text")
    run = write_run(tmp_path / "run", views=views, model="nfrec_concat", data=data(seen="excluded"))
    columns = {f"greater_{view}": [0, 0] for view in views} | {f"tied_{view}": [1, 0] for view in views}
    places = {"split": ["test"] * 2, "session_id": ["a", "b"], "position": [1, 2], "target_id": ["x", "y"]}
    frame = pl.DataFrame(places | {"train_count": [3, 3], "repeated": [False, True]} | columns)
    frame.write_parquet(run / "ranks.parquet")
    found = alterrec.balance([run])
    # Items above: none in both views. The second target is not a candidate, so no part finds it.
    assert found.found[0].shares == (0.5, 0.0, 0.0, 0.5)
    assert found.found[0].kept == (1.0, None, None, 0.0)
    assert found.chooser["ndcg@20"]["chooser"] == {0: 0.5}
    assert (found.to_dict()["seen"], found.to_dict()["repeated"]) == ("excluded", 1)
    (note,) = (each for part in found.presentation().sections for each in part.notes if "this page" in each)
    assert note.startswith("Items already in the session are not candidates")
    assert "1 of 2 test targets (50.0%) repeats an item of its session." in note

"""A run is measured on a file of new sessions alone."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import polars as pl
import pytest
from conftest import Outcome

from alterrec import fit
from alterrec.errors import InputError
from alterrec.runs.measure import evaluate_run
from alterrec.serving.growth import add_items
from alterrec.serving.new_sessions import evaluate_sessions

Command = Callable[..., Outcome]
QUICK = {"run.baselines": False, "run.report": False}


@pytest.fixture(scope="module")
def run(shop_source: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("run") / "run"
    return fit(shop_source, "covisitation", out=folder, overrides=QUICK | {"data.targets": "every"}).path


def test_the_test_file_has_the_metrics_of_the_test_split(run: Path, shop_source: Path) -> None:
    names = ["ndcg@20", "hits@5", "coverage@5"]
    new = evaluate_sessions(run, shop_source / "test.csv", metrics=names)
    whole = evaluate_run(run, shop_source, metrics=names)
    for part in ("by_seen", "targets", "groups", "lists"):
        assert new[part] == {"new": whole[part]["test"]}, part
    assert new["new"] == whole["test"]


def test_a_small_file_worked_out_by_hand(run: Path, tmp_path: Path) -> None:
    """Unknown items are left out; a session of one known item has no target."""
    lines = [
        {"session_id": "a", "items": ["i0", "boat", "i1"]},
        {"session_id": "b", "items": ["i2", "ship"]},
        {"session_id": "c", "items": ["i7", "i8", "i9"]},
        {"session_id": "d", "items": []},
    ]
    file = tmp_path / "week.jsonl"
    file.write_text("\n".join(map(json.dumps, lines)), "utf-8")
    said: list[str] = []
    found = evaluate_sessions(run, file, metrics=["hits@30"], listen=said.append)
    assert found["targets"]["new"]["count"] == 3
    assert found["new"]["score"]["hits@30"] == 1
    # The two sessions have one and two of three targets, so their values are 2/3 and 4/3.
    assert found["errors"]["new"]["score"]["hits@30"] == pytest.approx(1 / 3)
    assert found["dropped"] == {"rows": 8, "unknown item": 2, "sessions": 4}
    assert said == [
        "week.jsonl: dropped 2 of 8 items as unknown",
        "week.jsonl: sessions with fewer than 2 known items, which have no target: 2",
    ]


def test_a_session_whose_target_is_unknown_is_left_out(shop_source: Path, tmp_path: Path) -> None:
    """With the last item as target, the item before an unknown one is no target, in any layout."""
    run = fit(shop_source, "covisitation", out=tmp_path / "run", overrides=QUICK | {"data.targets": "last"})
    lists = {"a": ["i0", "i1", "boat"], "b": ["i2", "ship", "i3"], "c": ["ship"], "d": ["i7", "i8", None]}
    frame = pl.DataFrame({"session_id": list(lists), "items": list(lists.values())})
    frame.write_ndjson(tmp_path / "week.jsonl")
    frame.write_parquet(tmp_path / "week.parquet")
    frame.explode("items").rename({"items": "item_id"}).write_csv(tmp_path / "week.csv")
    for name in ("week.jsonl", "week.parquet", "week.csv"):
        said: list[str] = []
        found = evaluate_sessions(run.path, tmp_path / name, listen=said.append)
        assert found["targets"]["new"]["count"] == 2
        assert found["dropped"]["unknown last item"] == 2
        assert said[-1] == f"{name}: sessions whose last item, the target, is unknown: 2"
    frame[2:3].write_ndjson(tmp_path / "week.jsonl")
    with pytest.raises(InputError, match="no session has 2 or more items of the catalogue and ends with one"):
        evaluate_sessions(run.path, tmp_path / "week.jsonl")


def test_further_items_are_scored_by_their_texts(
    shop_source: Path, tmp_path: Path, alterrec: Command
) -> None:
    """As by the run with the items added; without their texts they are left out."""
    small = QUICK | {"model.dim": 8, "schedule.epochs": 4}
    run = fit(shop_source, "alterrec", out=tmp_path / "run", overrides=small)
    (tmp_path / "items.csv").write_text("item_id,title\nn1,red kettle\ni0,red tent\nn2,blue tent\n", "utf-8")
    (tmp_path / "week.csv").write_text("session_id,item_id\na,i0\na,n2\nb,n1\nb,i3\nc,i6\nc,i7\n", "utf-8")
    said: list[str] = []
    found = evaluate_sessions(
        run.path, tmp_path / "week.csv", items=tmp_path / "items.csv", listen=said.append
    )
    assert "items.csv: items that are new to the run: 2" in said
    assert (found["targets"]["new"]["count"], found["targets"]["new"]["cold"]) == (3, 1)
    assert not [line for line in said if "unknown" in line]
    add_items(run.path, tmp_path / "items.csv", tmp_path / "grown", progress=None)
    assert found == evaluate_sessions(tmp_path / "grown", tmp_path / "week.csv")
    assert evaluate_sessions(run.path, tmp_path / "week.csv")["targets"]["new"]["count"] == 1
    code, out, _ = alterrec("evaluate", run.path, "--data", "week.csv", "--items", "items.csv")
    assert (code, out.splitlines()[0]) == (0, "new: 3 targets, 1 of them cold")
    code, _, err = alterrec("evaluate", run.path, "--data", shop_source, "--items", "items.csv")
    assert (code, err.count("--items needs a file of new sessions")) == (2, 1)


def test_the_command_prints_intervals_and_json(run: Path, shop_source: Path, alterrec: Command) -> None:
    code, out, err = alterrec("evaluate", run, "--data", shop_source / "test.csv")
    assert (code, err) == (0, "")
    assert out.startswith("new: ")
    assert "95% intervals of the final score, over sessions: Hits@10 " in out
    assert "validation" not in out
    code, out, _ = alterrec("evaluate", run, "--data", shop_source / "test.csv", "--json")
    numbers = json.loads(out)
    assert 0 < numbers["new"]["score"]["ndcg@20"] < 1
    assert set(numbers["errors"]["new"]["score"]) == set(numbers["new"]["score"])


@pytest.mark.parametrize(
    ("content", "options", "found"),
    [
        ("session_id,item_id\na,i0\nb,i1\n", [], "no session has 2 or more items of the catalogue"),
        ("session_id,item_id\na,x\na,y\n", [], "no session has 2 or more items of the catalogue"),
        ("session_id,sku\na,i0\n", [], "column 'item_id' is missing"),
        ("session_id,item_id\na,i0\na,i1\n", ["--metrics", "diversity@5"], "needs the texts of the items"),
        ("session_id,item_id\na,i0\na,i1\n", ["--metrics", "coverage@31"], "above the 30 items of the run"),
        ("session_id,item_id\na,i0\na,i1\n", ["--metrics", "recal@5"], "recal@5"),
    ],
)
def test_wrong_input_exits_with_2(
    run: Path, tmp_path: Path, alterrec: Command, content: str, options: list[str], found: str
) -> None:
    (tmp_path / "week.csv").write_text(content, "utf-8")
    code, out, err = alterrec("evaluate", run, "--data", "week.csv", *options)
    assert (code, out) == (2, "")
    assert found in err


def test_ids_of_another_writing_are_named(run: Path, tmp_path: Path) -> None:
    (tmp_path / "week.csv").write_text("session_id,item_id\na,i0\na,i1\nb, i2\n", "utf-8")
    said: list[str] = []
    evaluate_sessions(run, tmp_path / "week.csv", listen=said.append)
    assert "the catalogue has 'i2'" in said[0]
    with pytest.raises(InputError, match="no such file"):
        evaluate_sessions(run, tmp_path / "weak.csv")

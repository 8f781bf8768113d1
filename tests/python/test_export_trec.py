"""Rankings of runs as TREC files and as objects of ranx and ir-measures, whose metrics equal ours."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import ir_measures
import polars as pl
import pytest
import ranx
from conftest import Outcome
from ir_measures import RR, R, Success, nDCG
from worlds import small_dataset

import alterrec
from alterrec.errors import InputError
from alterrec.evaluation.saved import read_ranks
from alterrec.exports.rankings import Rankings
from alterrec.metrics import metrics

NAMES = ["hits@10", "recall@10", "ndcg@10", "mrr@10", "hits@20", "ndcg@20"]
BY_RANX = ["hit_rate@10", "recall@10", "ndcg@10", "mrr@10", "hit_rate@20", "ndcg@20"]
BY_IR_MEASURES = [Success @ 10, R @ 10, nDCG @ 10, RR @ 10, Success @ 20, nDCG @ 20]
SETTINGS = {"run.report": False, "run.threads": 1, "run.baselines": False, "run.metrics": NAMES}


def run_of(folder: Path, model: str, **overrides: object) -> Path:
    given = SETTINGS | {key.replace("__", "."): value for key, value in overrides.items()}
    return alterrec.fit(small_dataset(), model, out=folder, overrides=given, progress=None).path


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run without ties."""
    folder = tmp_path_factory.mktemp("trec") / "sasrec one"
    return run_of(folder, "sasrec", model__dim=8, schedule__epochs=1)


def metrics_of(run: Path) -> dict[str, float]:
    result = json.loads((run / "result.json").read_text("utf-8"))
    found: dict[str, float] = result["test"]["score"]
    return found


def by_ranx(run: Path) -> list[float]:
    return [float(value) for value in ranx.evaluate(*Rankings.of_run(run).to_ranx(), BY_RANX).values()]


def test_files_by_hand(tmp_path: Path) -> None:
    targets = pl.DataFrame({"query_id": ["anna", "ben"], "item_id": ["tent", "mug"]})
    lists = pl.DataFrame(
        {
            "query_id": ["anna", "anna", "ben", "ben"],
            "item_id": ["mug", "tent", 'the"rope', "knife"],
            "rank": [1, 2, 1, 2],
            "score": [2.0, 1.0, 2.0, 1.0],
        }
    )
    qrels, run = Rankings("my run", targets, lists).write(tmp_path / "trec")
    assert qrels.read_text("utf-8") == "anna 0 tent 1\nben 0 mug 1\n"
    assert run.read_text("utf-8") == (
        "anna Q0 mug 1 2.0 my-run\nanna Q0 tent 2 1.0 my-run\n"
        'ben Q0 the"rope 1 2.0 my-run\nben Q0 knife 2 1.0 my-run\n'
    )


def test_without_ties_all_metrics_equal_ours(trained: Path, tmp_path: Path) -> None:
    assert read_ranks(trained).column("tied_score").max() == 1
    ours = [metrics_of(trained)[name] for name in NAMES]
    assert 0 < min(ours) < max(ours) < 1
    assert by_ranx(trained) == pytest.approx(ours, abs=1e-12)
    rankings = Rankings.of_run(trained)
    found = ir_measures.calc_aggregate(BY_IR_MEASURES, *rankings.to_dicts())
    assert [found[measure] for measure in BY_IR_MEASURES] == pytest.approx(ours, abs=1e-12)
    # And the files are read by their readers.
    qrels, run = map(str, rankings.write(tmp_path / "trec"))
    read = ir_measures.calc_aggregate(
        BY_IR_MEASURES, ir_measures.read_trec_qrels(qrels), ir_measures.read_trec_run(run)
    )
    assert read == found
    from_files = ranx.evaluate(ranx.Qrels.from_file(qrels), ranx.Run.from_file(run), BY_RANX)
    assert list(from_files.values()) == pytest.approx(ours, abs=1e-12)


def test_with_ties_other_libraries_measure_one_order(tmp_path: Path) -> None:
    """Ours is the mean over all orders, so theirs is between the best and the worst one."""
    run = run_of(tmp_path / "run", "popularity")
    ranks = read_ranks(run)
    assert (ranks.column("tied_score") > 1).mean() > 0.5
    counts = ranks.counts("score")
    best, worst = (
        list(metrics(*counts, NAMES, ties=ties).values()) for ties in ("optimistic", "pessimistic")
    )
    ours, theirs = [metrics_of(run)[name] for name in NAMES], by_ranx(run)
    assert theirs != pytest.approx(ours, abs=1e-3)
    for low, high, value in zip(worst, best, theirs, strict=True):
        assert low <= value <= high


def test_every_target_of_a_session_is_a_query(tmp_path: Path) -> None:
    run = run_of(tmp_path / "run", "sasrec", model__dim=8, schedule__epochs=1, data__targets="every")
    rankings = Rankings.of_run(run)
    assert rankings.targets["query_id"].n_unique() == len(rankings.targets) > 60
    assert {"test0:1", "test1:1"} < set(rankings.targets["query_id"])
    assert by_ranx(run) == pytest.approx([metrics_of(run)[name] for name in NAMES], abs=1e-12)


@pytest.mark.parametrize(("query", "item"), [("anna b", "tent"), ("anna", "tent\u00a01"), ("anna", "")])
def test_ids_that_a_column_cannot_hold_are_refused(tmp_path: Path, query: str, item: str) -> None:
    frame = pl.DataFrame({"query_id": [query], "item_id": [item]})
    rankings = Rankings("mine", frame, frame.with_columns(rank=1, score=1.0))
    with pytest.raises(InputError, match="is empty or has white space"):
        rankings.write(tmp_path / "trec")
    assert not (tmp_path / "trec").exists()
    assert rankings.to_dicts()[0] == {query: {item: 1}}


def test_what_has_no_rankings_is_refused(trained: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no run folder"):
        Rankings.of_run(tmp_path / "none")
    old = tmp_path / "old"
    old.mkdir()
    result = json.loads((trained / "result.json").read_text("utf-8")) | {"manifest": False}
    (old / "result.json").write_text(json.dumps(result), "utf-8")
    for name in ("curves.jsonl", "ranks.parquet", "vocabulary.parquet"):
        (old / name).write_bytes((trained / name).read_bytes())
    with pytest.raises(InputError, match=r"has no top\.parquet"):
        Rankings.of_run(old)
    pl.DataFrame({"items": [[0, 1]]}).write_parquet(old / "top.parquet")
    with pytest.raises(InputError, match="are of different runs"):
        Rankings.of_run(old)


def test_the_command_writes_both_files(
    alterrec: Callable[..., Outcome], trained: Path, tmp_path: Path
) -> None:
    code, out, err = alterrec("export", trained, "--to", "trec")
    assert (code, err) == (0, "")
    assert [line.split("  ")[0] for line in out.splitlines()] == [
        "trec/sasrec one/qrels.trec",
        "trec/sasrec one/run.trec",
    ]
    assert (tmp_path / "trec" / "sasrec one" / "run.trec").read_text("utf-8").startswith("test0 Q0 item")
    code, _, err = alterrec("export", trained, "--to", "trec", "--drop-unknown")
    assert code == 2
    assert "leave out" in err

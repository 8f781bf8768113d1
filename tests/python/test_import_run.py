"""Rankings of other systems as run folders: counts by hand, by a slow twin, and against our own runs."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from conftest import Outcome
from hypothesis import given
from hypothesis import strategies as st
from worlds import NUM_ITEMS, small_dataset, with_sessions

import alterrec
from alterrec.analyses.run_page import RunReport
from alterrec.errors import InputError
from alterrec.evaluation.saved import read_ranks, read_top
from alterrec.exports.imported import import_run
from alterrec.exports.rankings import Rankings
from alterrec.results import read_run
from alterrec.runs.saved_model import load

METRICS = {"run.metrics": ["hits@2", "mrr@2"]}
SHORT = (
    "{} rankings list fewer than 20 items, which the metrics look at; a target that is not listed counts as "
    "not found"
)


def data(test: list[list[int]]) -> Any:
    return with_sessions(train=[[0, 1], [2, 3]], valid=[[0, 1]], test=test)


def lines(*rows: str) -> str:
    """TREC lines from `query item score` each, with the rank of the line."""
    cells = [row.split() for row in rows]
    return "".join(
        f"{query} Q0 item{item} {rank} {score} tag\n"
        for rank, (query, item, score) in enumerate(cells, start=1)
    )


def two(report: RunReport) -> list[float]:
    """Hits@2 and MRR@2."""
    return [report.metrics["score"][name] for name in METRICS["run.metrics"]]


def counts(run: Path, rule: Any = None) -> list[tuple[int, int]]:
    ranks = read_ranks(run)
    return list(zip(*(each.tolist() for each in ranks.counts("score", rule)), strict=True))


def test_counts_and_notes_by_hand(tmp_path: Path) -> None:
    """The target of each session is its last item."""
    test = [[1, 2], [1, 2], [1, 2], [1, 2, 1], [5, 6]]
    file = tmp_path / "other.trec"
    file.write_text(
        # Item 1 is in the session; of the others, 7 is above the target 2.
        lines("test0 01 9", "test0 07 8", "test0 02 7")
        # The target ties with item 7.
        + lines("test1 02 1.5", "test1 07 1.5", "test1 08 1")
        # Not listed.
        + lines("test2 07 2", "test2 08 1")
        # It repeats item 1.
        + lines("test3 01 2", "test3 08 1")
        + "\n"
        + lines("test9 01 2"),
        "utf-8",
    )
    heard: list[str] = []
    kept = {**METRICS, "data.exclude_seen": "never"}
    report = import_run(
        file, data(test), name="other", out=tmp_path / "kept", overrides=kept, listen=heard.append
    )
    assert counts(tmp_path / "kept") == [(2, 1), (0, 2), (2, 0), (0, 1), (0, 0)]
    assert two(report) == pytest.approx([2 / 5, (0.75 + 1) / 5])
    assert heard == [
        "1 rankings are not of test targets of ring; they are not read",
        "1 of 5 test targets have no ranking; they count as not found",
        SHORT.format(4),
    ]
    excluded = {**METRICS, "data.exclude_seen": "always"}
    report = import_run(file, data(test), name="other", out=tmp_path / "excluded", overrides=excluded)
    assert counts(tmp_path / "excluded") == [(1, 1), (0, 2), (2, 0), (1, 0), (0, 0)]
    assert counts(tmp_path / "excluded", "kept") == counts(tmp_path / "kept")
    assert two(report) == pytest.approx([2 / 5, (0.5 + 0.75) / 5])
    result = report.folder.result
    assert (result.imported_from, result.model, result.targets["test"].repeated) == ("other.trec", "other", 1)
    assert result.warnings == [
        *heard[:2],
        "2 listed items are items of their session, which are no candidates on these data; they are left out",
        SHORT.format(4),
    ]
    # Under the rule of the repeat component, the list is taken as it is.
    repeats = import_run(file, data(test), name="other", out=tmp_path / "auto", overrides=METRICS)
    assert repeats.folder.result.data.seen == "excluded"  # nothing repeats in training


@pytest.mark.parametrize(("seen", "first"), [("never", [[1, 7], [3, 2]]), ("always", [[7, 2], [2, 8]])])
def test_the_first_items_are_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, seen: str, first: list[list[int]]
) -> None:
    """In the order of scores, equal ones as listed; without items that are no candidates."""
    monkeypatch.setattr("alterrec.runs.records.TOP", 2)
    file = tmp_path / "other.trec"
    file.write_text(
        lines("test1 08 1", "test1 03 1.5", "test1 02 1.5") + lines("test0 02 7", "test0 07 8", "test0 01 9"),
        "utf-8",
    )
    import_run(
        file,
        data([[1, 2], [3, 2]]),
        name="other",
        out=tmp_path / "run",
        overrides={**METRICS, "data.exclude_seen": seen},
    )
    found = read_top(tmp_path / "run")
    assert found is not None
    assert found.tolist() == first


def test_the_scores_decide_and_the_column_of_ranks_is_compared(tmp_path: Path) -> None:
    file = tmp_path / "ascending.trec"
    file.write_text(
        "test0\tQ0  item07 1 0.1 x\n\ntest0 Q0 item02 2 0.2 x\ntest0 Q0 item03 - -1e3 x\n", "utf-8"
    )
    report = import_run(file, data([[1, 2]]), name="other", out=tmp_path / "run", overrides=METRICS)
    assert counts(tmp_path / "run") == [(0, 1)]
    assert report.folder.result.warnings == [
        SHORT.format(1),
        "in 1 rankings the column of ranks contradicts the scores; the scores decide",
    ]


@given(st.randoms(use_true_random=False), st.sampled_from(["last", "every"]))
def test_counts_equal_those_of_a_loop(tmp_path_factory: Any, random: Any, kind: str) -> None:
    test = [[random.randrange(6) for _ in range(random.randint(2, 5))] for _ in range(random.randint(1, 4))]
    dataset, folder = data(test), tmp_path_factory.mktemp("loop")
    targets = [
        (number, place)
        for number, items in enumerate(test)
        for place in (range(1, len(items)) if kind == "every" else [len(items) - 1])
    ]

    def query_of(session: int, place: int) -> str:
        return f"test{session}:{place}" if kind == "every" else f"test{session}"

    rankings: dict[str, dict[str, float]] = {}
    for each in targets:
        listed = random.sample(range(8), random.randint(0, 8))
        rankings[query_of(*each)] = {f"item{item:02}": float(random.randint(0, 3)) for item in listed}
    settings = METRICS | {"data.targets": kind}
    if not any(rankings.get(query_of(*each)) for each in targets):
        with pytest.raises(InputError, match=r"has no rankings|none of its"):
            import_run(rankings, dataset, name="other", out=folder / "run", overrides=settings)
        return
    import_run(rankings, dataset, name="other", out=folder / "run", overrides=settings)
    frame = read_ranks(folder / "run").frame
    for row in frame.iter_rows(named=True):
        number = int(row["session_id"].removeprefix("test"))
        query = query_of(number, row["position"])
        prefix = {f"item{item:02}" for item in test[number][: row["position"]]}
        for rule, leave_out in (("kept", set()), ("excluded", prefix)):
            scores = {item: score for item, score in rankings.get(query, {}).items() if item not in leave_out}
            own = scores.get(row["target_id"])
            greater = [item for item, score in scores.items() if own is None or score > own]
            tied = [item for item, score in scores.items() if own is not None and score == own]
            assert (row[f"{rule}_greater_score"], row[f"{rule}_tied_score"]) == (len(greater), len(tied))


def test_whole_rankings_of_our_own_scores_give_the_counts_of_the_run(tmp_path: Path) -> None:
    """Popularity has many ties, and item-kNN most of the catalogue at zero."""
    dataset = small_dataset()
    for model in ("popularity", "itemknn"):
        run = alterrec.fit(
            dataset, model, out=tmp_path / model, overrides={"run.report": False}, progress=None
        )
        prefixes = [dataset.test.session(number)[:-1].astype(np.int64) for number in range(len(dataset.test))]
        ids, scores = load(run.path).recommend_numbers(prefixes, NUM_ITEMS, exclude_seen=False)
        rankings = {
            f"test{number}": {f"item{item:02}": float(score) for item, score in zip(*rows, strict=True)}
            for number, rows in enumerate(zip(ids.tolist(), scores.tolist(), strict=True))
        }
        out = tmp_path / f"{model} imported"
        report = import_run(rankings, dataset, name="other", out=out)
        assert report.folder.result.data.seen == run.result["data"]["seen"] == "excluded"
        for rule in ("kept", "excluded", None):
            assert counts(out, rule) == counts(run.path, rule)
        # The seen items that are left out.
        assert len(report.folder.result.warnings) == 1


def test_compare_reads_it(alterrec_run: Path, tmp_path: Path) -> None:
    _, file = Rankings.of_run(alterrec_run).write(tmp_path / "trec")
    report = import_run(file, small_dataset(), name="again", out=tmp_path / "again")
    ours = read_run(alterrec_run).result
    assert report.metrics["score"] == pytest.approx(ours.test["score"], abs=1e-12)
    assert report.folder.result.warnings == []
    assert np.array_equal(read_top(tmp_path / "again"), read_top(alterrec_run))
    found = alterrec.compare([alterrec_run, tmp_path / "again"])
    assert {each.mean for each in found.comparisons} == {0.0}
    page = report.save(tmp_path / "page").read_text("utf-8")
    assert "were imported from run.trec" in page
    assert "alterrec compare RUN again" in page
    # Seeds of one name are one system, and what is unusual about rankings is a caveat.
    short = file.read_text("utf-8").replace("test0 Q0", "nobody Q0")
    (tmp_path / "short.trec").write_text(short, "utf-8")
    import_run(tmp_path / "short.trec", small_dataset(), name="again", out=tmp_path / "second", seed=1)
    assert read_top(tmp_path / "second") is None
    both = alterrec.compare([alterrec_run, tmp_path / "again", tmp_path / "second"])
    assert [system.seeds for system in both.systems] == [(0,), (0, 1)]
    assert "again, seed 1: 1 of 30 test targets have no ranking; they count as not found" in str(both)
    with pytest.raises(InputError, match="is a ranking of another system"):
        load(tmp_path / "again")


@pytest.fixture(scope="module")
def alterrec_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run without ties."""
    settings = {"run.report": False, "run.baselines": False, "model.dim": 8, "schedule.epochs": 1}
    folder = tmp_path_factory.mktemp("imported") / "run"
    return alterrec.fit(small_dataset(), "sasrec", out=folder, overrides=settings, progress=None).path


WRONG = {
    "columns": ("test0 Q0 item02 1 0.5\n", "line 1 has 5 columns"),
    "score": ("test0 Q0 item02 1 high x\n", "line 1: the score is 'high'"),
    "nan": ("test0 Q0 item02 1 nan x\n", "line 1: the score of 'item02' is nan"),
    "item": ("\ntest0 Q0 boat 1 0.5 x\n", "line 2: the item 'boat' of 'test0' is not one of the 40 items"),
    "twice": (lines("test0 02 2", "test0 03 2", "test0 02 1"), "'test0' lists the item 'item02' 2 times"),
    "queries": (
        lines("test0:1 02 2"),
        "none of its 1 queries, such as 'test0:1', is a test target of ring, such as 'test0'",
    ),
    "empty": ("", "it has no rankings"),
    "bytes": (b"test0 Q0 caf\xe9 1 0.5 x\n", "is damaged"),
}


@pytest.mark.parametrize("case", WRONG)
def test_wrong_files_are_refused(tmp_path: Path, case: str) -> None:
    content, message = WRONG[case]
    file = tmp_path / "other.trec"
    file.write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(InputError, match=message):
        import_run(file, data([[1, 2]]), name="other", out=tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_wrong_arguments_are_refused(tmp_path: Path) -> None:
    rankings, dataset = {"test0": {"item01": 1.0}}, data([[1, 2]])
    (tmp_path / "notes.txt").write_text("mine", "utf-8")
    with pytest.raises(InputError, match="is not an empty folder"):
        import_run(rankings, dataset, name="other", out=tmp_path)
    with pytest.raises(InputError, match="name is empty"):
        import_run(rankings, dataset, name=" ", out=tmp_path / "run")
    lists = {"run.metrics": ["hits@5", "coverage@5"]}
    with pytest.raises(InputError, match="coverage@5 is one of lists"):
        import_run(rankings, dataset, name="other", out=tmp_path / "run", overrides=lists)
    with pytest.raises(InputError, match="no such file"):
        import_run(tmp_path / "none.trec", dataset, name="other", out=tmp_path / "run")
    with pytest.raises(InputError, match="has no test targets"):
        import_run(rankings, data([[1]]), name="other", out=tmp_path / "run")


def test_the_command_measures_a_file_and_compare_takes_it(
    alterrec: Callable[..., Outcome], shop: Path, tmp_path: Path
) -> None:
    (tmp_path / "other.trec").write_text("s130 Q0 i1 1 2.5 x\n", "utf-8")
    command = ("import-run", "other.trec", "--data", shop, "--name", "other")
    code, out, err = alterrec(*command, "--set", "run.metrics=hits@5")
    assert code == 0
    assert "other, 20 test targets" in out
    assert out.splitlines()[-1] == "runs/other-shop-seed0"
    assert "19 of 20 test targets have no ranking; they count as not found" in err
    code, _, err = alterrec(*command)
    assert code == 2
    assert "is not an empty folder" in err
    assert len(pl.read_parquet("runs/other-shop-seed0/ranks.parquet")) == 20
    assert alterrec("verify", "runs/other-shop-seed0").code == 0

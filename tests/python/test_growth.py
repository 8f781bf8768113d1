"""Catalogues that change: items added by their texts, and items that are never recommended again."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
import torch
from run_files import comparable_files, files_of

import alterrec
from alterrec import add_items, remove_items
from alterrec.analyses.run_summary import caveats
from alterrec.data.dataset import Dataset, ItemText
from alterrec.data.synthetic import synthetic_dataset
from alterrec.errors import InputError
from alterrec.evaluation.evaluate import evaluate
from alterrec.evaluation.recommend import recommend_items
from alterrec.manifest import check_manifest
from alterrec.models.base import Recommender
from alterrec.models.batches import SessionBatch
from alterrec.models.reads import settings_read
from alterrec.results import read_run
from alterrec.runs.measure import evaluate_run
from alterrec.runs.saved_model import SavedModel
from alterrec.serving.growth import removed_numbers
from alterrec.vocabulary import Vocabulary

Command = Callable[..., Any]
DATA = synthetic_dataset(items=100, sessions=300)
assert DATA.text is not None
TINY = {"model.dim": 8, "schedule.epochs": 4, "run.baselines": False, "run.report": False, "run.threads": 1}
IDS = DATA.vocabulary.item_ids
SESSION = list(IDS[3:6])


def rows(items: list[int], names: list[str]) -> pl.DataFrame:
    """Items with the texts of known ones under other ids."""
    assert DATA.text is not None
    fields = {name: [texts[item] for item in items] for name, texts in DATA.text.fields.items()}
    return pl.DataFrame({"item_id": names, **fields})


def trained(model: str, folder: Path, data: Dataset = DATA, **overrides: object) -> Path:
    settings = settings_read(model, ["best"], TINY | overrides)
    return alterrec.fit(data, model, out=folder, overrides=settings, progress=None).path


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return trained("alterrec", tmp_path_factory.mktemp("growth") / "run")


@pytest.fixture(scope="module")
def grown(run: Path) -> SavedModel:
    """Two items more: one has the texts of item 7, the other those of item 40."""
    return add_items(run, rows([7, 40], ["n7", "n40"]), run.parent / "grown", progress=None)


def larger(data: Dataset, saved: SavedModel) -> Dataset:
    """The same sessions over the larger catalogue."""
    assert data.text is not None
    fields = {name: [*texts, "", ""] for name, texts in data.text.fields.items()}
    stores = {
        split: type(store).from_arrays(
            np.repeat(store.session_ids, store.lengths), store.items, num_items=len(saved.vocabulary)
        )
        for split, store in data.splits.items()
    }
    return dataclasses.replace(data, **stores, vocabulary=saved.vocabulary, text=ItemText(fields))


def test_a_grown_run_is_a_run(run: Path, grown: SavedModel) -> None:
    assert grown.vocabulary.item_ids == (*IDS, "n7", "n40")
    assert not grown.trained[100:].any()
    assert grown.texts[100] == grown.texts[7]
    check_manifest(grown.path, contents=True)
    result, before = (json.loads((each / "result.json").read_text("utf-8")) for each in (grown.path, run))
    (change,) = result.pop("catalogue_changes")
    assert (change["action"], change["items"], change["id_rows"]) == ("added", 2, "nearest")
    assert result == {key: value for key, value in before.items() if key != "catalogue_changes"}
    for name in ("curves.jsonl", "ranks.parquet", "top.parquet", "recipe.toml", "encoder.safetensors"):
        assert (grown.path / name).read_bytes() == (run / name).read_bytes()
    assert "2 items were added" in caveats(read_run(grown.path).result)[0]
    numbers = evaluate_run(grown.path, larger(DATA, grown))
    assert 0 < numbers["test"]["score"]["hits@20"] < 1


def test_known_items_are_recommended_as_before(run: Path, grown: SavedModel) -> None:
    """The mixture of several queries is normalised over one catalogue or the other, which moves few items."""
    before = alterrec.load(run).recommend([SESSION], k=40)[0]
    after = grown.recommend([SESSION], k=40, exclude=["n7", "n40"])[0]
    assert [each.item_id for each in after[:10]] == [each.item_id for each in before[:10]]
    assert len({each.item_id for each in before} & {each.item_id for each in after}) > 35


def test_an_item_with_the_text_of_another_has_its_text_score(run: Path, grown: SavedModel) -> None:
    by_text = add_items(
        run, rows([7, 40], ["n7", "n40"]), run.parent / "by_text", id_rows="text", progress=None
    )
    for saved in (grown, by_text):
        explained = saved.explain(SESSION, [IDS[7], "n7"]).to_polars()
        text = explained.filter(pl.col("part") == "text")["contribution"].to_list()
        assert (saved is by_text) or text[0] == pytest.approx(text[1], rel=1e-5)
    model = by_text.model
    assert isinstance(model, Recommender)
    assert model.cold_V is not None
    assert model.cold_V.nonzero().ravel().tolist() == [*np.flatnonzero(~DATA.trained), 100, 101]
    # A new item in a session is read as its nearest ones are.
    known, new = grown.recommend([[IDS[7]], ["n7"]], k=100)
    assert known[0].score != new[0].score
    assert len({each.item_id for each in known[:20]} & {each.item_id for each in new[:20]}) > 5


def test_id_rows_and_neighbours_are_means_of_the_nearest(run: Path, grown: SavedModel) -> None:
    before, after = alterrec.load(run).model, grown.model
    assert isinstance(before, Recommender)
    assert isinstance(after, Recommender)
    text = before.network("text").item_tables().outputs.detach()
    unit = torch.nn.functional.normalize(text)
    near = (unit @ unit[7])[torch.from_numpy(DATA.trained)].topk(5).indices
    near = torch.from_numpy(np.flatnonzero(DATA.trained))[near]
    rows_VD = before.network("id").items.rows_VD.detach()
    assert torch.allclose(after.network("id").items.rows_VD[100], rows_VD[near].mean(0), atol=1e-6)
    assert torch.equal(after.network("id").items.rows_VD[:100], rows_VD)
    systems = [model.untrained.get("neighbours") for model in (before, after)]
    assert all(systems)
    batch = SessionBatch.of_prefixes(torch.tensor([[3], [100]]), torch.tensor([1, 1]))
    wide = systems[1].as_sums().scores(batch)  # type: ignore[union-attr]
    first = SessionBatch.of_prefixes(
        torch.cat([torch.tensor([3]), near])[:, None], torch.ones(6, dtype=torch.int64)
    )
    narrow = systems[0].as_sums().scores(first)  # type: ignore[union-attr]
    assert torch.allclose(wide[0, :100], narrow[0])
    assert wide[0, 100].item() == pytest.approx(narrow[0, near].mean().item(), rel=1e-5, abs=1e-7)
    assert torch.allclose(wide[1, :100], narrow[1:].mean(0), atol=1e-6)


def test_equal_items_give_equal_runs(run: Path, grown: SavedModel, tmp_path: Path) -> None:
    again = add_items(run, rows([7, 40], ["n7", "n40"]), tmp_path / "again", progress=None)
    assert comparable_files(again.path) == comparable_files(grown.path)


def test_what_is_left_out_is_counted(run: Path, tmp_path: Path) -> None:
    items = rows([7, 7, 8, 9], ["n", "n", "bare", IDS[9]]).with_columns(price=pl.lit(3.5))
    empty = [
        pl.when(pl.col("item_id") == "bare").then(pl.lit("")).otherwise(pl.col(name)).alias(name)
        for name in DATA.text.fields
    ]  # type: ignore[union-attr]
    lines: list[str] = []
    added = add_items(
        run, items.with_columns(empty), tmp_path / "run", progress=lambda each: lines.append(each.message)
    )
    assert added.vocabulary.item_ids == (*IDS, "n")
    expected = [
        "items: columns that are not read: 'price'",
        "items: rows that repeat an item, which are left out: 1",
        "items: items that the run has already, which stay as they are: 1",
        "items: items without text, which are left out: 1",
    ]
    assert [line for line in lines if line in expected] == expected
    assert (
        json.loads((tmp_path / "run/result.json").read_text("utf-8"))["catalogue_changes"][0]["notes"]
        == expected
    )


def test_a_file_with_other_names_is_read(run: Path, tmp_path: Path) -> None:
    rows([7], ["n"]).rename({"item_id": "sku"}).write_csv(tmp_path / "new.csv")
    added = add_items(run, tmp_path / "new.csv", tmp_path / "run", columns={"item_id": "sku"}, progress=None)
    assert added.vocabulary.item_ids[-1] == "n"


def refusals() -> Iterator[tuple[str, pl.DataFrame, str]]:
    yield "no id", rows([7], ["n"]).drop("item_id"), "column 'item_id' is missing"
    yield "no title", rows([7], ["n"]).drop("title"), "text field 'title' is missing"
    yield "known", rows([7], [IDS[7]]), "there is no item to add; nothing was written"


@pytest.mark.parametrize(
    ("items", "message"), [each[1:] for each in refusals()], ids=[each[0] for each in refusals()]
)
def test_wrong_items_are_refused(run: Path, tmp_path: Path, items: pl.DataFrame, message: str) -> None:
    with pytest.raises(InputError, match=message):
        add_items(run, items, tmp_path / "out", progress=None)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("change", [add_items, remove_items])
def test_a_folder_that_is_not_empty_is_refused(change: Callable[..., Any], run: Path) -> None:
    before = files_of(run)
    with pytest.raises(InputError, match=r"is not empty; give a new folder$"):
        change(run, rows([7], ["n"]), run)
    assert files_of(run) == before


def test_a_run_without_an_encoder_is_refused(run: Path, tmp_path: Path) -> None:
    import shutil

    old = Path(shutil.copytree(run, tmp_path / "old"))
    (old / "encoder.safetensors").unlink()
    (old / "manifest.json").unlink()
    result = json.loads((old / "result.json").read_text("utf-8"))
    (old / "result.json").write_text(json.dumps(result | {"manifest": False}), "utf-8")
    with pytest.raises(InputError, match=r"has no encoder.safetensors, which encodes texts of further items"):
        add_items(old, rows([7], ["n"]), tmp_path / "out", progress=None)


@pytest.mark.parametrize("model", ["text_only", "nfrec_sum", "nfrec_concat", "fdsa", "unisrec"])
def test_every_system_that_reads_texts_can_grow(model: str, tmp_path: Path) -> None:
    overrides: dict[str, object] = {"schedule.epochs": 1}
    if model == "unisrec":
        overrides |= {"schedule.pretrain": 1}
    run = trained(model, tmp_path / "run", **overrides)
    new = rows([7], ["n7"])
    nearest = add_items(run, new, tmp_path / "nearest", progress=None)
    assert nearest.recommend([[*SESSION, "n7"]], k=101, exclude_seen=False)[0]
    if model == "fdsa":
        with pytest.raises(
            InputError, match=r"fdsa scores items by their ID rows alone; use --id-rows nearest"
        ):
            add_items(run, new, tmp_path / "text", id_rows="text", progress=None)
        return
    by_text = add_items(run, new, tmp_path / "text", id_rows="text", progress=None)
    first, second = (each.score([SESSION], ["n7"])[0][0] for each in (nearest, by_text))
    # A system of texts alone has no ID rows.
    assert (first == second) == (model == "text_only")


@pytest.mark.parametrize("model", ["sasrec", "popularity", "s3rec"])
def test_systems_without_a_text_part_cannot_grow(model: str, tmp_path: Path) -> None:
    overrides = {"schedule.epochs": 1} | ({"schedule.pretrain": 0} if model == "s3rec" else {})
    run = trained(model, tmp_path / "run", **overrides)
    with pytest.raises(InputError, match=rf"{model} has no text part, which scores items that are not in"):
        add_items(run, rows([7], ["n7"]), tmp_path / "out", progress=None)


def test_cold_items_that_id_scores_need_nearest_rows(tmp_path: Path) -> None:
    run = trained("alterrec", tmp_path / "run", **{"fusion.cold_by_text": False})
    with pytest.raises(InputError, match=r"fusion.cold_by_text=false, so that ID scores every item"):
        add_items(run, rows([7], ["n7"]), tmp_path / "out", id_rows="text", progress=None)
    assert len(add_items(run, rows([7], ["n7"]), tmp_path / "out", progress=None).vocabulary) == 101


@pytest.mark.parametrize("half", [False, True])
def test_vectors_are_given_where_the_run_was_trained_with_vectors(half: bool, tmp_path: Path) -> None:
    vectors = np.random.default_rng(0).normal(size=(100, 6)).astype(np.float16 if half else np.float32)
    run = trained("text_only", tmp_path / "run", dataclasses.replace(DATA, vectors=vectors))
    new = pl.DataFrame({"item_id": [IDS[2], "n"], "title": ["Lamp", "Tent"]})
    with pytest.raises(
        InputError, match=r"trained with vectors in place of texts; give those of the new items"
    ):
        add_items(run, new, tmp_path / "out", progress=None)
    np.save(tmp_path / "new.npy", vectors[[5, 7]])
    added = add_items(run, new, tmp_path / "out", vectors=tmp_path / "new.npy", progress=None)
    first, second = added.score([SESSION], [IDS[7], "n"])[0]
    assert first == pytest.approx(second, rel=1e-5)
    np.save(tmp_path / "narrow.npy", vectors[[5, 7], :4])
    with pytest.raises(InputError, match=r"the vectors have 4 columns, but those of the run have 6"):
        add_items(run, new, tmp_path / "out2", vectors=tmp_path / "narrow.npy", progress=None)
    np.save(tmp_path / "exact.npy", vectors[[5, 7]].astype(np.float64) + 1e-4)
    if half:
        with pytest.raises(InputError, match=r"half precision, which these do not fit into exactly"):
            add_items(run, new, tmp_path / "out2", vectors=tmp_path / "exact.npy", progress=None)


def test_vectors_are_refused_where_the_run_encodes_texts(run: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"vectors are given, but the run encodes texts with lsa"):
        add_items(run, rows([7], ["n"]), tmp_path / "out", vectors=tmp_path / "new.npy", progress=None)


# Removed items.


def test_a_removed_item_is_never_recommended_but_read(run: Path, tmp_path: Path) -> None:
    saved = alterrec.load(run)
    gone = [each.item_id for each in saved.recommend([SESSION], k=5)[0]]
    fewer = remove_items(run, gone, tmp_path / "fewer", progress=None)
    check_manifest(fewer.path, contents=True)
    every = saved.recommend([SESSION, gone[:2]], k=90, exclude=gone)
    found = fewer.recommend([SESSION, gone[:2]], k=90)
    assert [{each.item_id for each in part} for part in found] == [
        {each.item_id for each in part} for part in every
    ]
    # As evaluation ranks them: removed items have no part in the probability of others.
    numbers = [fewer.vocabulary.index(session) for session in (SESSION, gone[:2])]
    ids, _ = recommend_items(fewer.model, numbers, 90, fewer.protocol, len(fewer.vocabulary))
    assert [[each.item_id for each in part] for part in found] == [
        [fewer.vocabulary.item_ids[item] for item in part] for part in ids.tolist()
    ]
    why = fewer.explain(SESSION, items=[each.item_id for each in found[0]])
    assert [each.score for each in why.items] == pytest.approx([each.score for each in found[0]], abs=1e-4)
    assert len(fewer.recommend([SESSION], k=100, exclude_seen=False)[0]) == 95
    near = fewer.similar_items([gone[0]], k=99)[0]
    assert not {each.item_id for each in near} & set(gone)
    assert fewer.score([SESSION], [gone[0]]) == [[-np.inf]]
    slow = replace(fewer)
    slow.__dict__["service_scores"] = None  # as for systems that the service does not compute
    kept = [gone[1], found[0][0].item_id, *SESSION]
    assert slow.score([SESSION], kept)[0] == pytest.approx(fewer.score([SESSION], kept)[0], rel=1e-5)


@pytest.mark.parametrize("rule", ["auto", "always", "never"])
def test_a_removed_target_is_not_found_and_no_rival(rule: str, tmp_path: Path) -> None:
    run = trained("itemknn", tmp_path / "run", **{"data.exclude_seen": rule})
    saved = alterrec.load(run)
    before = evaluate(saved.model, DATA.test, saved.protocol)
    gone = np.unique(before.targets)[:10]
    fewer = remove_items(run, [IDS[item] for item in gone], tmp_path / "fewer", progress=None)
    after = evaluate(fewer.model, DATA.test, fewer.protocol)
    removed = np.isin(after.targets, gone)
    assert removed.any()
    assert not any(after.metrics("score", removed)[name] for name in ("hits@20", "ndcg@20"))
    kept = ~removed
    assert (after.views["score"][0][kept] <= before.views["score"][0][kept]).all()


def test_a_removed_item_is_no_popular_answer(run: Path, tmp_path: Path, alterrec: Command) -> None:
    best = IDS[DATA.train_counts.argmax()]
    remove_items(run, [best], tmp_path / "fewer", progress=None)
    (tmp_path / "now.csv").write_text("session_id,item_id\ns,stranger\n", "utf-8")
    for folder, expected in ((run, True), (tmp_path / "fewer", False)):
        out = alterrec("recommend", folder, "--sessions", tmp_path / "now.csv", "-k", 5).out
        assert (f",{best}," in out) == expected
        assert out.count(",popular") == 5


def test_items_can_be_removed_again_and_come_back(run: Path, grown: SavedModel, tmp_path: Path) -> None:
    lines: list[str] = []
    one = remove_items(grown.path, [IDS[3]], tmp_path / "one", progress=None)
    ids = pl.DataFrame({"item_id": [IDS[3], "n7", "n7", "stranger"]})
    two = remove_items(one.path, ids, tmp_path / "two", progress=lambda event: lines.append(event.message))
    assert removed_numbers(two).tolist() == [3, 100]
    assert lines[:3] == [
        "rows that repeat an item, which are left out: 1",
        "items that the run does not know, which are left out: 1",
        "items that are removed already: 1",
    ]
    back = add_items(two.path, rows([7, 3, 50], ["n7", IDS[3], "n50"]), tmp_path / "back", progress=None)
    assert not len(removed_numbers(back))
    assert back.vocabulary == Vocabulary((*IDS, "n7", "n40", "n50"))
    changes = json.loads((back.path / "result.json").read_text("utf-8"))["catalogue_changes"]
    assert [(each["action"], each["items"], each["restored"]) for each in changes] == [
        ("added", 2, 0),
        ("removed", 1, 0),
        ("removed", 1, 0),
        ("added", 3, 2),
    ]
    with pytest.raises(InputError, match="there is no item to remove"):
        remove_items(two.path, ["n7"], tmp_path / "three", progress=None)
    with pytest.raises(InputError, match="all 100 items would be removed; leave at least one"):
        remove_items(run, list(IDS), tmp_path / "three", progress=None)


def test_the_commands_change_a_catalogue(alterrec: Command, run: Path, tmp_path: Path) -> None:
    rows([7, 8], ["n7", "n8"]).write_csv(tmp_path / "new.csv")
    code, out, err = alterrec("add-items", run, tmp_path / "new.csv", "--out", tmp_path / "more")
    assert (code, err, out.splitlines()[-2:]) == (0, "", ["102 items", str(tmp_path / "more")])
    code, out, err = alterrec(
        "remove-items", tmp_path / "more", tmp_path / "new.csv", "--out", tmp_path / "less"
    )
    assert (code, err) == (0, "")
    assert out.splitlines()[-2:] == ["100 of 102 items can be recommended", str(tmp_path / "less")]
    assert alterrec("verify", tmp_path / "less").code == 0
    code, _, err = alterrec("add-items", run, tmp_path / "none.csv", "--out", tmp_path / "x")
    assert code == 2
    assert "none.csv: no such file" in err

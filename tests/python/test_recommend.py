"""A saved run recommends: external ids, texts, errors, cold items."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from alterrec import fit, load
from alterrec.errors import InputError
from alterrec.runs.saved_model import SavedModel

QUICK = {"run.baselines": False, "run.report": False}
SMALL = QUICK | {"model.dim": 8, "schedule.epochs": 4, "fusion.neighbours": False}


@pytest.fixture(scope="module")
def saved(shop_source: Path, tmp_path_factory: pytest.TempPathFactory) -> SavedModel:
    """A run whose data no longer matters."""
    run = fit(shop_source, out=tmp_path_factory.mktemp("saved") / "run", overrides=SMALL)
    return load(run.path)


@pytest.fixture(scope="module")
def popular(shop_source: Path, tmp_path_factory: pytest.TempPathFactory) -> SavedModel:
    """Most frequent items, with the prefix's items left out."""
    overrides = QUICK | {"data.exclude_seen": "always"}
    run = fit(shop_source, "popularity", out=tmp_path_factory.mktemp("popular") / "run", overrides=overrides)
    return load(run.path)


def test_popularity_recommends_the_most_frequent_items_not_seen(
    popular: SavedModel, shop_source: Path
) -> None:
    rows = (shop_source / "train.csv").read_text("utf-8").splitlines()[1:]
    counts = np.bincount([int(row.split(",")[1].removeprefix("i")) for row in rows], minlength=30)
    order = [f"i{item}" for item in np.argsort(-counts, kind="stable")]
    (best,) = popular.recommend([[order[0], order[2]]], k=3)
    assert [row.item_id for row in best] == [order[1], order[3], order[4]]


def test_rows_carry_falling_scores_and_the_item_text(saved: SavedModel) -> None:
    answers = saved.recommend([["i0", "i1"], ["i7"]], k=5)
    assert [len(answer) for answer in answers] == [5, 5]
    for answer in answers:
        assert [row.score for row in answer] == sorted((row.score for row in answer), reverse=True)
        assert len({row.item_id for row in answer}) == 5
    titles = {row.item_id: row.text for answer in answers for row in answer}
    assert all(title.split()[1] in ("tent", "lamp", "mug", "knife", "rope") for title in titles.values())


def test_a_session_is_answered_alone(saved: SavedModel) -> None:
    together = saved.recommend([["i0", "i1"], ["i7"], ["i12", "i13", "i14"]], k=5)
    alone = saved.recommend([["i7"]], k=5)[0]
    assert [row.item_id for row in together[1]] == [row.item_id for row in alone]
    assert [row.score for row in together[1]] == pytest.approx([row.score for row in alone], rel=1e-5)


def test_an_item_without_training_is_reached_by_its_text(saved: SavedModel) -> None:
    assert not saved.trained[29]
    (ranked,) = saved.recommend([["i24", "i25"]], k=28)
    assert "i29" in [row.item_id for row in ranked]


def test_unknown_items_are_an_error_or_passed_over(saved: SavedModel) -> None:
    with pytest.raises(InputError, match=r"item 'i3O' is not in the catalogue of 30 items.* \(session 1\)$"):
        saved.recommend([["i0"], ["i0", "i3O"]], k=3)
    known = saved.recommend([["i0"]], k=3)
    assert saved.recommend([["i0", "i3O"], ["boat"]], k=3, drop_unknown=True) == [*known, []]


@pytest.mark.parametrize("sessions", [[[]], ["i0"]])
def test_a_session_is_a_list_of_ids(saved: SavedModel, sessions: list[list[str]]) -> None:
    with pytest.raises(InputError, match=r"session 0 is .*; expected a list"):
        saved.recommend(sessions, k=3)


def test_no_sessions_no_answers(saved: SavedModel) -> None:
    assert saved.recommend([], k=3) == []


@pytest.mark.parametrize("k", [0, 31, -1, 2.0, "3", True])
def test_k_out_of_range_reports_the_size_of_the_catalogue(popular: SavedModel, k: Any) -> None:
    with pytest.raises(InputError, match=rf"k is {k!r}; expected 1 to 30 \(a catalogue of 30 items\)"):
        popular.recommend([["i0", "i1", "i0"]], k=k)


def test_a_session_that_has_seen_much_gets_fewer_items(popular: SavedModel) -> None:
    most, every = [f"i{n}" for n in range(27)], [f"i{n}" for n in range(30)]
    short, long, none, again = popular.recommend([["i0"], most, every, ["i0"]], k=np.int64(5))
    assert {row.item_id for row in long} == {"i27", "i28", "i29"}
    assert (len(short), none, again) == (5, [], short)
    assert short == popular.recommend([["i0"]], k=5)[0]


@pytest.fixture(scope="module")
def numbered(tmp_path_factory: pytest.TempPathFactory) -> SavedModel:
    """A run whose items are called 100 to 104."""
    folder = tmp_path_factory.mktemp("numbered")
    (folder / "items.csv").write_text("item_id\n" + "".join(f"{n}\n" for n in range(100, 105)), "utf-8")
    rows = "".join(f"s{n},{100 + (n + step) % 5},{n}\n" for n in range(20) for step in range(2))
    (folder / "interactions.csv").write_text("session_id,item_id,timestamp\n" + rows, "utf-8")
    return load(fit(folder, "popularity", out=folder / "run", overrides=QUICK).path)


@pytest.mark.parametrize(
    "ids", [[100, 101], np.array([100, 101]), np.array([100, 101], np.uint8), ("100", 101)]
)
def test_integers_are_ids(numbered: SavedModel, ids: Any) -> None:
    expected = numbered.recommend([["100", "101"]], k=3)
    assert numbered.recommend([ids], k=3) == expected
    assert numbered.recommend([ids], k=3, drop_unknown=True, users=[7]) == expected
    assert all(type(row.item_id) is str for row in expected[0])


@pytest.mark.parametrize("wrong", [None, 100.0, True, b"100", [100], float("nan")])
def test_other_types_are_no_ids(numbered: SavedModel, wrong: Any) -> None:
    for unknown in (False, True):
        with pytest.raises(
            InputError, match=r"session 0, item 1 is .*; expected an id as text or as an integer"
        ):
            numbered.recommend([[100, wrong]], k=3, drop_unknown=unknown)
    with pytest.raises(InputError, match="session 0 is 100; expected a list"):
        numbered.recommend([100], k=3)  # type: ignore[list-item]
    with pytest.raises(InputError, match="sessions is None; expected a list"):
        numbered.recommend(None, k=3)  # type: ignore[arg-type]
    if wrong is not None:
        with pytest.raises(InputError, match=r"users\[0\] is "):
            numbered.recommend([[100]], k=3, users=[wrong])


@pytest.mark.parametrize("missing", ["recipe.toml", "model.safetensors", "vocabulary.parquet"])
def test_an_unfinished_folder_is_an_input_error(saved: SavedModel, tmp_path: Path, missing: str) -> None:
    for file in ("recipe.toml", "model.safetensors", "vocabulary.parquet"):
        if file != missing:
            (tmp_path / file).write_bytes((saved.path / file).read_bytes())
    with pytest.raises(InputError, match="finished run"):
        load(tmp_path)


def test_a_damaged_model_is_an_input_error(saved: SavedModel, tmp_path: Path) -> None:
    for file in ("recipe.toml", "model.safetensors", "vocabulary.parquet"):
        (tmp_path / file).write_bytes((saved.path / file).read_bytes())
    whole = (tmp_path / "model.safetensors").read_bytes()
    (tmp_path / "model.safetensors").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(InputError, match=r"model\.safetensors is damaged"):
        load(tmp_path)

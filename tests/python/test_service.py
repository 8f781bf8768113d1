"""A loaded model as a service: filters, scores, similar items, explanations, threads; for every system."""

from __future__ import annotations

import pickle
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from systems import SMALL, built, system
from worlds import NUM_ITEMS, returning_dataset, small_dataset

import alterrec
from alterrec.data.repeats import RepeatModel, SeenItems
from alterrec.errors import InputError
from alterrec.evaluation.recommend import recommend_items
from alterrec.models.base import Network, Recommender, Scorer
from alterrec.models.catalogue import MODELS
from alterrec.models.gate import Gate
from alterrec.models.neighbours import ItemKnn, Popularity, Trend
from alterrec.nn.item_encoders import IdTable
from alterrec.nn.mixtures import Queries
from alterrec.nn.session_encoders import Mean
from alterrec.recipe import resolve
from alterrec.runs.recommendations import Recommendations
from alterrec.runs.saved_model import SavedModel
from alterrec.sessions import SessionStore
from alterrec.vocabulary import Vocabulary

DATA = small_dataset(users=9)
IDS = DATA.vocabulary.item_ids
# Shorter and longer than max_len, with and without repeats.
SESSIONS = [[3, 1, 2], [7], [5, 5], [*range(30), *range(35, 5, -1)], [8, 9, 8]]


def saved_of(name: str, seen: SeenItems = "kept", model: Scorer | None = None) -> SavedModel:
    """A system as it is loaded from a run folder."""
    repeats = None
    if seen == "repeats":
        store = returning_dataset().train
        repeats = RepeatModel.counted(store, store, "every")
        assert repeats is not None
    return SavedModel(
        path=Path("runs/none"),
        recipe=resolve(name, overrides=SMALL if MODELS[name].trains else {}),
        vocabulary=DATA.vocabulary,
        texts=DATA.text.joined_texts() if DATA.text else [],
        trained=np.ones(NUM_ITEMS, np.bool_),
        seen=seen,
        repeats=repeats,
        model=model or system(name),
        users=DATA.users,
    )


def whole_alterrec(seen: SeenItems = "kept") -> SavedModel:
    """AlterRec as it is by default: two networks with several queries, neighbours and trend."""
    model = system("alterrec")
    assert isinstance(model, Recommender)
    model.untrained["neighbours"] = ItemKnn.fit(DATA.train, 1.0, 0.7).as_log(0.01)
    model.untrained["trend"] = Trend.fit(DATA.train, 0.2)
    model.weights |= {"id": 0.4, "text": 0.6, "neighbours": 0.5, "trend": 0.25}
    return saved_of("alterrec", seen, model)


def names(items: list[int]) -> list[str]:
    return [IDS[item] for item in items]


class TestEverySystem:
    @pytest.fixture(params=sorted(MODELS))
    def saved(self, request: pytest.FixtureRequest) -> SavedModel:
        return saved_of(request.param)

    def test_recommends_as_it_is_evaluated(self, saved: SavedModel) -> None:
        users = None if saved.users is None else np.array([0, 3, -1, 8, 1])
        numbers = [np.array(session) for session in SESSIONS]
        ids, scores = saved.recommend_numbers(numbers, 10, users)
        wanted_ids, wanted_scores = recommend_items(
            saved.model, numbers, 10, saved.protocol, NUM_ITEMS, users
        )
        np.testing.assert_allclose(scores, wanted_scores, rtol=1e-5, atol=1e-6)
        differ = ids != wanted_ids
        assert not (differ & ~_tied(wanted_scores)).any()

    def test_scores_are_those_of_recommendations(self, saved: SavedModel) -> None:
        sessions = [names(session) for session in SESSIONS]
        found = saved.recommend(sessions, k=6)
        lists = [[item.item_id for item in row] for row in found]
        scores = saved.score(sessions, lists)
        for row, values in zip(found, scores, strict=True):
            assert values == pytest.approx([item.score for item in row], rel=1e-5, abs=1e-6)
        assert saved.score(sessions, IDS[:3]).items == [list(IDS[:3])] * len(sessions)

    def test_contributions_add_up_to_the_score_and_shares_to_one(self, saved: SavedModel) -> None:
        for session in SESSIONS:
            wanted = saved.recommend([names(session)], k=5)[0]
            found = saved.explain(names(session), k=5)
            assert [item.item_id for item in found.items] == [item.item_id for item in wanted]
            for item, best in zip(found.items, wanted, strict=True):
                assert item.score == pytest.approx(best.score, rel=1e-5, abs=1e-6)
                assert sum(item.parts.values()) == pytest.approx(item.score, rel=1e-5, abs=1e-5)
                for sources in item.sources.values():
                    assert sum(source.share for source in sources) == pytest.approx(1)
            assert bool(found.note) == (not any(item.sources for item in found.items) or not found.items)

    def test_finds_similar_items_or_says_why_not(self, saved: SavedModel) -> None:
        if saved.recipe.model_name in ("popularity", "recent_popularity"):
            with pytest.raises(InputError, match="popularity has no similarity of items"):
                saved.similar_items(IDS[:2])
            return
        found = saved.similar_items(IDS[:2], k=5)
        assert found.items == list(IDS[:2])
        for asked, row in zip(IDS[:2], found, strict=True):
            assert row
            assert asked not in [item.item_id for item in row]
            values = [item.score for item in row]
            assert values == sorted(values, reverse=True)
        with pytest.raises(InputError, match="by is 'colour'; this run has "):
            saved.similar_items(IDS[:2], by="colour")

    def test_threads_get_what_one_thread_gets(self, saved: SavedModel) -> None:
        sessions = [names(session) for session in SESSIONS]
        similar = "popularity" not in saved.recipe.model_name

        def work(place: int) -> Any:
            session = sessions[place % len(sessions)]
            return (
                saved.recommend([session], k=5),
                saved.score([session], IDS[:4]),
                saved.explain(session, k=2).to_polars().rows(),
                saved.similar_items(session[:1], k=3) if similar else None,
            )

        state, threads = torch.random.get_rng_state(), torch.get_num_threads()
        fresh = pickle.loads(pickle.dumps(saved))
        alone = [work(place) for place in range(len(sessions))]
        saved = fresh
        with ThreadPoolExecutor(8) as pool:
            together = list(pool.map(work, range(4 * len(sessions))))
        assert together == alone * 4
        assert torch.equal(torch.random.get_rng_state(), state)
        assert torch.get_num_threads() == threads


def _tied(scores: np.ndarray) -> np.ndarray:
    """Whether a score equals one beside it within float tolerance."""
    near = np.isclose(scores[:, 1:], scores[:, :-1], rtol=1e-5, atol=1e-6)
    tied = np.zeros(scores.shape, np.bool_)
    tied[:, 1:] |= near
    tied[:, :-1] |= near
    # The last one may tie with the next one, which is not in the list.
    tied[:, -1] = True
    return tied


@pytest.mark.parametrize("queries", ["both", "items"])
@pytest.mark.parametrize("session", ["recency", "sasrec", "mean"])
def test_mixtures_are_scored_as_in_evaluation_alone_and_in_batches(queries: str, session: str) -> None:
    """With several queries, scores come from another kernel: session vectors of every kind, cold items."""
    own = {f"{part}.queries": queries for part in ("id", "text")}
    own |= {f"{part}.session": session for part in ("id", "text")}
    trained = torch.arange(NUM_ITEMS) < NUM_ITEMS - 3
    model = built("alterrec", trained=trained, settings=own)
    model.untrained["neighbours"] = ItemKnn.fit(DATA.train, 1.0, 0.7).as_log(0.01)
    model.weights |= {"neighbours": 0.5}
    for seen in ("kept", "excluded", "repeats"):
        saved = saved_of("alterrec", seen, model)  # type: ignore[arg-type]
        assert saved.service_scores is not None
        numbers = [np.array(session) for session in SESSIONS]
        ids, scores = saved.recommend_numbers(numbers, 4)
        wanted_ids, wanted = recommend_items(saved.model, numbers, 4, saved.protocol, NUM_ITEMS)
        np.testing.assert_allclose(scores, wanted, rtol=1e-5, atol=1e-6)
        assert not ((ids != wanted_ids) & ~_tied(wanted)).any()
        alone = [saved.recommend_numbers([items], 4) for items in numbers]
        np.testing.assert_array_equal(ids, np.concatenate([each[0] for each in alone]))
        alone_scores = np.concatenate([each[1] for each in alone])
        # Only Transformers add in another order in another batch.
        np.testing.assert_allclose(scores, alone_scores, rtol=1e-6 if session == "sasrec" else 0)


def test_a_gate_is_scored_in_batches() -> None:
    model = system("alterrec")
    assert isinstance(model, Recommender)
    zeros = torch.zeros(4, dtype=torch.float64)
    model.gate = Gate(("id",), zeros[None], zeros, zeros + 1, torch.ones(NUM_ITEMS, dtype=torch.int64))
    assert saved_of("alterrec", model=model).service_scores is None


@pytest.mark.parametrize("seen", ["kept", "excluded", "repeats"])
def test_the_default_system_is_explained_under_every_rule(seen: SeenItems) -> None:
    saved = whole_alterrec(seen)
    for session in SESSIONS:
        found = saved.explain(names(session), IDS[:12])
        scores = saved.score([names(session)], IDS[:12])[0]
        for item, score in zip(found.items, scores, strict=True):
            assert item.score == pytest.approx(score, rel=1e-5)
            assert sum(item.parts.values()) == pytest.approx(score, rel=1e-5, abs=1e-5)
            parts = ["id", "text", "neighbours", "trend"] + ["repeats"] * (seen == "repeats")
            assert list(item.parts) == parts
            # An item is no candidate of its own query.
            alone = names([*set(session)]) == [item.item_id]
            assert set(item.sources) == ({"neighbours"} if alone else {"id", "text", "neighbours"})
            for sources in item.sources.values():
                assert sum(source.share for source in sources) == pytest.approx(1)
        changed = {item.item_id for item in found.items if item.parts.get("repeats")}
        assert changed <= {*names(session)}


def test_responsibilities_by_hand() -> None:
    """Two queries, of items 0 and 1; neither is a candidate of its own query."""
    table = torch.tensor([[1.0, 0.0], [0.0, 1.0], [1.0, 1.0], [0.0, 0.0]])
    network = Network(IdTable(4, 2), Mean(), 1.0, queries=Queries(50, vector=False))
    network.items.rows_VD.data.copy_(table)
    network.items.norm = torch.nn.Identity()
    model = Recommender({"model": network}, {"model": 1.0}).eval()
    saved = SavedModel(
        Path("runs/none"),
        resolve("id_only"),
        Vocabulary(("a", "b", "c", "d")),
        [""] * 4,
        np.ones(4, np.bool_),
        "kept",
        None,
        model,
        None,
    )
    explained = saved.explain(["a", "b"], ["a", "c", "d"])
    e = np.e
    # Query a scores b, c, d with 0, 1, 0; query b scores a, c, d with 0, 1, 0; the last item has twice the
    # weight of the one before.
    of_c = 2 / 3 * e / (e + 2) + 1 / 3 * e / (e + 2)
    assert [item.score for item in explained.items] == pytest.approx(
        [np.log(2 / 3 / (e + 2)), np.log(of_c), np.log(1 / (e + 2))], rel=1e-5
    )
    first, second, _ = explained.items
    assert [(each.kind, each.place, each.item_id) for each in first.sources["model"]] == [("item", 1, "b")]
    assert [(each.item_id, round(each.share, 4)) for each in second.sources["model"]] == [
        ("b", 0.6667),
        ("a", 0.3333),
    ]


def test_shares_of_neighbours_by_hand() -> None:
    """Item 2 met item 0 in two of three sessions and item 1 in one; item 0 is one step farther back."""
    store = SessionStore.from_arrays([0, 0, 1, 1, 2, 2], [0, 2, 0, 2, 1, 2], num_items=NUM_ITEMS)
    knn = ItemKnn.fit(store, 0.0, decay=0.5)
    both = 0.5 * 2 / np.sqrt(2 * 3), 1 / np.sqrt(1 * 3)
    saved = saved_of("itemknn", model=knn.as_log(0.1))
    (item,) = saved.explain(["boat", *names([0, 1])], names([2]), drop_unknown=True).items
    assert item.score == pytest.approx(np.log(0.1 + sum(both)), rel=1e-5)
    assert [(each.kind, each.place, each.item_id) for each in item.sources["model"]] == [
        ("item", 2, IDS[1]),
        ("item", 1, IDS[0]),
        ("constant", None, ""),
    ]
    shares = [each.share for each in item.sources["model"]]
    assert shares == pytest.approx(np.array([both[1], both[0], 0.1]) / (0.1 + sum(both)), rel=1e-5)


def test_items_without_training_are_text_alone() -> None:
    model = system("alterrec")
    assert isinstance(model, Recommender)
    trained = np.arange(NUM_ITEMS) < NUM_ITEMS - 2
    model.register_buffer("cold_V", torch.from_numpy(~trained))
    saved = saved_of("alterrec", model=model)
    object.__setattr__(saved, "trained", trained)
    cold, warm = IDS[-1], IDS[0]
    explained = saved.explain([IDS[3]], [cold, warm]).items
    assert explained[0].parts["id"] == 0
    assert explained[1].parts["id"] != 0
    assert sum(explained[0].parts.values()) == pytest.approx(explained[0].score, rel=1e-5)
    assert set(explained[0].sources) == {"text"}
    by_id = saved.similar_items([warm], NUM_ITEMS, by="id")[0]
    assert not {IDS[-1], IDS[-2]} & {item.item_id for item in by_id}
    assert saved.similar_items([cold], by="id") == [[]]
    both, text = (saved.similar_items([cold], NUM_ITEMS, by=by)[0] for by in ("both", "text"))
    assert both == text
    assert len(both) == NUM_ITEMS - 1


def test_cosines_by_hand_and_ties_in_the_order_of_items() -> None:
    saved = saved_of("text_only")
    network = saved.model.networks["model"]  # type: ignore[attr-defined]
    rows = torch.zeros(NUM_ITEMS, 8)
    rows[:4, :2] = torch.tensor([[3.0, 0.0], [1.0, 1.0], [0.0, 2.0], [5.0, 5.0]])
    network.items.forward = lambda ids_U=None: rows
    (found,) = saved.similar_items([IDS[0]], k=4)
    assert [item.item_id for item in found] == names([1, 3, 2, 4])
    assert [item.score for item in found] == pytest.approx([0.5**0.5, 0.5**0.5, 0, 0])


FILTERS = st.one_of(
    st.none(),
    st.lists(st.integers(0, NUM_ITEMS - 1), max_size=45),
    st.lists(
        st.one_of(st.none(), st.lists(st.integers(0, NUM_ITEMS - 1), max_size=45)),
        min_size=len(SESSIONS),
        max_size=len(SESSIONS),
    ).filter(lambda rows: any(row is None or isinstance(row, list) for row in rows)),
)
MODEL = {seen: whole_alterrec(seen) for seen in ("kept", "excluded", "repeats")}  # type: ignore[arg-type]


@settings(deadline=None, max_examples=25)
@given(FILTERS, FILTERS, st.integers(1, NUM_ITEMS), st.sampled_from(sorted(MODEL)))
def test_filters_leave_of_the_whole_ranking_what_they_allow(
    exclude: Any, only: Any, k: int, seen: str
) -> None:
    saved = MODEL[seen]

    def of_row(values: Any, row: int) -> Any:
        return values[row] if values and isinstance(values[0], list | None) else values

    def named(values: Any) -> Any:
        if values is None:
            return None
        return [names(row) if isinstance(row, list) else row if row is None else IDS[row] for row in values]

    sessions = [names(session) for session in SESSIONS]
    found = saved.recommend(sessions, k, exclude=named(exclude), only=named(only))
    whole = saved.recommend(sessions, NUM_ITEMS)
    for row, (own, ranking) in enumerate(zip(found, whole, strict=True)):
        barred, allowed = of_row(exclude, row), of_row(only, row)
        wanted = [
            item
            for item in ranking
            if not (barred is not None and item.item_id in names(barred))
            and (allowed is None or item.item_id in names(allowed))
        ]
        assert own == wanted[:k]


def test_unknown_ids_are_errors_or_counted() -> None:
    saved = saved_of("itemknn")
    first = IDS[0]
    for filters, place in (({"exclude": ["boat"]}, "exclude"), ({"only": [["boat"], None]}, r"only\[0\]")):
        with pytest.raises(InputError, match=rf"item 'boat' is not in the catalogue .*\({place}\)$"):
            saved.recommend([[first], [first]], **filters)  # type: ignore[arg-type]
    found = saved.recommend(
        [[first, "boat", "ship"], ["boat"], [IDS[2]]],
        k=3,
        drop_unknown=True,
        exclude=["raft", first],
        only=[None, ["raft"], ["boat", first, IDS[3]]],
    )
    assert found.unknown == [["boat", "ship"], ["boat"], []]
    assert found.unknown_in_filters == ["raft", "boat"]
    assert [len(row) for row in found] == [3, 0, 1]
    assert "3 unknown" in repr(found)
    scores = saved.score([["boat"], [first, "boat"]], [IDS[1]], drop_unknown=True)
    assert (scores.unknown, list(map(len, scores))) == ([["boat"], ["boat"]], [0, 1])
    assert scores.to_polars().rows() == [(1, IDS[1], scores[1][0])]
    with pytest.raises(InputError, match="item 'boat' is not in the catalogue"):
        saved.score([[first]], ["boat"], drop_unknown=True)
    explained = saved.explain(["boat", first], drop_unknown=True)
    assert explained.unknown == ["boat"]
    assert saved.explain(["boat"], drop_unknown=True).items == []


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"exclude": "item01"}, "exclude is 'item01'; expected a list of item ids"),
        ({"only": [[IDS[1]], None, None]}, "only has 3 lists for 2 sessions"),
        ({"only": 3}, "only is 3; expected a list"),
        ({"exclude": [None, [1.5]]}, r"exclude\[1\], item 0 is 1.5"),
        ({"exclude": [[IDS[1]], IDS[1]]}, r"exclude\[1\] is 'item01'; expected a list"),
    ],
)
def test_wrong_filters(arguments: dict[str, Any], message: str) -> None:
    saved = saved_of("itemknn")
    with pytest.raises(InputError, match=message):
        saved.recommend([[IDS[0]], [IDS[1]]], **arguments)


def test_wrong_items() -> None:
    saved = saved_of("itemknn")
    for call in (
        lambda: saved.similar_items("item01"),
        lambda: saved.explain([IDS[0]], "item01"),
        lambda: saved.score([[IDS[0]]], "item01"),
    ):
        with pytest.raises(InputError, match="items is 'item01'; expected a list of item ids"):
            call()
    with pytest.raises(InputError, match=r"items\[1\] is None"):
        saved.score([[IDS[0]], [IDS[0]]], [[IDS[0]], None])  # type: ignore[list-item]
    with pytest.raises(InputError, match="k is 0"):
        saved.similar_items([IDS[0]], k=0)
    with pytest.raises(InputError, match="k is 41"):
        saved.explain([IDS[0]], k=41)


def test_scores_of_popularity_are_never_overwritten() -> None:
    """One session is one row, of which callers overwrite the scores of seen and excluded items."""
    counts = torch.arange(NUM_ITEMS, dtype=torch.float32)
    saved = saved_of("popularity", "repeats", Popularity(counts))
    first = saved.recommend([[IDS[5]]], NUM_ITEMS)
    saved.recommend([[IDS[6]]], exclude=[IDS[39]])
    assert saved.recommend([[IDS[5]]], NUM_ITEMS) == first
    assert torch.equal(counts, torch.arange(NUM_ITEMS, dtype=torch.float32))


def test_results_print_and_make_frames() -> None:
    saved = MODEL["repeats"]
    explained = saved.explain(names([3, 1]), names([2, 3]))
    assert repr(explained) == (
        "Explanation(2 items, first 'item02'; parts id, text, neighbours, trend, repeats)"
    )
    assert explained.to_polars().shape == (10, 4)
    sources = explained.sources_to_polars()
    assert sources.columns == ["item_id", "part", "kind", "place", "source", "share"]
    total = sources.group_by("item_id", "part").agg(pl.col("share").sum())
    assert total["share"].to_list() == pytest.approx([1] * total.height)
    html = explained._repr_html_()
    for each in ("<th>neighbours</th>", "item01", "session", "constant"):
        assert each in html
    similar = saved.similar_items(names([3, 1]), k=2)
    assert similar.to_polars().columns == ["item", "rank", "item_id", "score", "text"]
    assert repr(similar).startswith("SimilarItems(2 items, by both; item item03: 'item")
    assert "<th>item</th>" in similar._repr_html_()
    scores = saved.score([names([3])], names([1, 2]))
    assert repr(scores) == "Scores(1 session, 2 scores)"
    assert scores._repr_html_().count("<tr>") == 3
    pandas = pytest.importorskip("pandas")
    for frame in (
        explained.to_pandas(),
        explained.sources_to_pandas(),
        scores.to_pandas(),
        similar.to_pandas(),
    ):
        assert isinstance(frame, pandas.DataFrame)
    again = pickle.loads(pickle.dumps(Recommendations([], [], ["boat"])))
    assert again.unknown_in_filters == ["boat"]


def test_a_run_that_was_trained_is_served(tmp_path: Path) -> None:
    """Everything once, from a run folder."""
    run = alterrec.fit(
        DATA,
        out=tmp_path / "run",
        overrides=SMALL
        | {"schedule.epochs": 2, "schedule.warmup": 1, "run.baselines": False, "run.report": False},
    )
    saved = alterrec.load(run.path)
    (best,) = saved.recommend([names([3, 4])], k=5, exclude=names([5]))
    assert IDS[5] not in [item.item_id for item in best]
    explained = saved.explain(names([3, 4]), [item.item_id for item in best])
    assert [item.score for item in explained.items] == pytest.approx([item.score for item in best], rel=1e-5)
    assert saved.similar_items(names([3])).by == "both"

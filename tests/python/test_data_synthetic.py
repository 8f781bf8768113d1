"""The built-in catalogue: reproducible, and with the signals that its docstring describes."""

from __future__ import annotations

import numpy as np
import pytest

from alterrec.data.dataset import Dataset
from alterrec.data.synthetic import (
    COMPLEMENT,
    REVISIT,
    START,
    SUBSTITUTE,
    PlantedTruth,
    planted_truth,
    synthetic_dataset,
)
from alterrec.data.text import text_vectors
from alterrec.errors import InputError


@pytest.fixture(scope="module")
def data() -> Dataset:
    return synthetic_dataset()


@pytest.fixture(scope="module")
def truth() -> PlantedTruth:
    return planted_truth()


@pytest.fixture(scope="module")
def likeness(data: Dataset) -> np.ndarray:
    """Cosine of the items' LSA vectors, (V, V)."""
    assert data.text is not None
    vectors = text_vectors(data.text, "lsa")
    return vectors @ vectors.T


@pytest.fixture(scope="module")
def together(data: Dataset) -> np.ndarray:
    """Item-kNN similarity: sessions of train with both, over the root of the product of their counts."""
    meets = np.zeros((len(data.train), data.num_items), dtype=np.float32)
    meets[np.repeat(np.arange(len(data.train)), data.train.lengths), data.train.items] = 1
    counts = np.maximum(meets.sum(axis=0), 1)
    return meets.T @ meets / np.sqrt(counts[:, None] * counts)


@pytest.fixture(scope="module")
def hits(data: Dataset, likeness: np.ndarray, together: np.ndarray) -> dict[str, np.ndarray]:
    """Hits@20 of two simple rankers on the test sessions."""
    return {"id": _hits(data, together), "text": _hits(data, likeness)}


def _hits(data: Dataset, similarity: np.ndarray) -> np.ndarray:
    """Rank by sums of similarities to the prefix, halved with each step back; prefix items are candidates."""
    similarity = similarity.copy()
    np.fill_diagonal(similarity, 0)
    hits = []
    for index in range(len(data.test)):
        *prefix, target = data.test.session(index).tolist()
        scores = 0.5 ** np.arange(len(prefix))[::-1] @ similarity[prefix]
        hits.append(scores[target] > 0 and (scores > scores[target]).sum() < 20)
    return np.array(hits)


@pytest.fixture(scope="module")
def targets(data: Dataset) -> np.ndarray:
    return np.array([data.test.session(index)[-1] for index in range(len(data.test))])


def test_equal_arguments_give_equal_data() -> None:
    first = synthetic_dataset(seed=3, items=300, sessions=500)
    assert first.fingerprint == synthetic_dataset(seed=3, items=300, sessions=500).fingerprint
    assert first.fingerprint != synthetic_dataset(seed=4, items=300, sessions=500).fingerprint


def test_sizes_and_splits(data: Dataset) -> None:
    assert data.num_items == 3000
    assert [len(store) for store in data.splits.values()] == [16_000, 2000, 2000]
    names = [name for split in data.session_names.values() for name in split]
    assert len(set(names)) == 20_000
    lengths = np.concatenate([store.lengths for store in data.splits.values()])
    assert (lengths.min(), lengths.max()) == (2, 12)


def test_time_order(data: Dataset) -> None:
    last = np.concatenate([store.timestamps[store.offsets[1:] - 1] for store in data.splits.values()])
    assert (np.diff(last) >= 0).all()
    for store in data.splits.values():
        inside = np.ones(store.num_interactions - 1, dtype=bool)
        inside[store.offsets[1:-1] - 1] = False
        assert (np.diff(store.timestamps)[inside] > 0).all()


def test_texts_are_products(data: Dataset) -> None:
    assert data.text is not None
    assert list(data.text.fields) == ["title", "description"]
    assert all(texts.count("") == 0 for texts in data.text.fields.values())
    assert len({data.text.joined(item) for item in range(data.num_items)}) == data.num_items


def test_popularity_is_steep_and_visits_repeat(data: Dataset) -> None:
    counts = np.sort(data.train_counts)[::-1]
    assert counts[:30].sum() > 0.1 * counts.sum(), "one item in a hundred has a tenth of the interactions"
    assert counts[1500:].sum() < 0.3 * counts.sum(), "the rarer half of the items has under a third of them"
    # Above the share at which the rule "auto" would exclude seen items.
    assert 0.02 < data.train.repeat_share() < 0.06


def test_cold_items_are_reached_by_substitute_steps_only(
    data: Dataset, truth: PlantedTruth, targets: np.ndarray
) -> None:
    assert 0.01 < truth.cold.mean() < 0.02
    assert not data.train_counts[truth.cold].any()
    assert 0.02 < truth.cold[targets].mean() < 0.06
    for split in ("valid", "test"):
        steps = truth.steps[split][truth.cold[data.splits[split].items]]
        assert set(steps.tolist()) <= {SUBSTITUTE, REVISIT}


@pytest.mark.parametrize("split", ["train", "valid", "test"])
def test_steps_match_their_kind(data: Dataset, truth: PlantedTruth, split: str) -> None:
    store, steps = data.splits[split], truth.steps[split]
    reached = {START: 0, COMPLEMENT: 0, SUBSTITUTE: 0, REVISIT: 0}
    for index in range(len(store)):
        items, kinds = store.session(index), steps[store.offsets[index] : store.offsets[index + 1]]
        for place, kind in enumerate(kinds.tolist()):
            past = items[:place]
            allowed = {
                START: place == 0,
                COMPLEMENT: (truth.hidden_set[past] == truth.hidden_set[items[place]]).any(),
                SUBSTITUTE: (truth.product_type[past] == truth.product_type[items[place]]).any(),
                REVISIT: items[place] in past,
            }
            if kind in allowed:
                assert allowed[kind]
                reached[kind] += 1
    assert all(reached.values())


def test_text_reveals_the_type_but_not_the_set(truth: PlantedTruth, likeness: np.ndarray) -> None:
    same_type = truth.product_type[:, None] == truth.product_type
    same_set = truth.hidden_set[:, None] == truth.hidden_set
    np.fill_diagonal(same_type, False)
    np.fill_diagonal(same_set, False)
    other = ~same_type & ~np.eye(len(likeness), dtype=bool)
    assert not (same_set & same_type).any(), "what goes together is of different types"
    assert likeness[same_type].mean() > likeness[other].mean() + 0.3
    assert likeness[same_set].mean() == pytest.approx(likeness[other].mean(), abs=0.02)


def test_each_signal_hits_what_the_other_misses(hits: dict[str, np.ndarray]) -> None:
    by_id, by_text = hits["id"], hits["text"]
    assert 0.25 < by_id.mean() < 0.45
    assert 0.15 < by_text.mean() < 0.32
    assert (by_id & ~by_text).mean() > 0.2
    assert (by_text & ~by_id).mean() > 0.1


def test_ids_win_the_head_and_text_wins_the_tail(
    data: Dataset, hits: dict[str, np.ndarray], targets: np.ndarray
) -> None:
    counts = data.train_counts[targets]
    for low, high, winner, loser in ((1, 12, "text", "id"), (31, 10_000, "id", "text"), (0, 0, "text", "id")):
        group = (counts >= low) & (counts <= high)
        assert hits[winner][group].mean() > hits[loser][group].mean() + 0.05, (low, high)


def test_other_sizes() -> None:
    for items, sessions in ((100, 50), (5000, 300)):
        data = synthetic_dataset(items=items, sessions=sessions)
        assert data.num_items == items
        assert sum(map(len, data.splits.values())) == sessions


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        ({"items": 99}, "items is 99; expected 100 to 50000"),
        ({"sessions": 5}, "sessions is 5; expected 50 to 10000000"),
        ({"seed": -1}, "seed is -1; expected 0 to 9223372036854775807"),
    ],
)
def test_arguments_out_of_range(arguments: dict[str, int], told: str) -> None:
    with pytest.raises(InputError, match=told):
        synthetic_dataset(**arguments)

"""Weights of the sum that depend on the prefix: their formula, their fit, and when they are kept."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor
from worlds import small_dataset

from alterrec import fit, load
from alterrec.evaluation import gates
from alterrec.evaluation.choices import alpha_curves
from alterrec.evaluation.evaluate import Protocol, evaluate
from alterrec.evaluation.gates import FOLDS, choose_gate
from alterrec.models.base import Recommender, Tables
from alterrec.models.batches import SessionBatch
from alterrec.models.gate import FEATURES, Gate, factors, features, gated_parts
from alterrec.progress import Event
from alterrec.sessions import SessionStore

NUM_ITEMS = 12
PROTOCOL = Protocol("last", "excluded", 50)
COUNTS = np.where(np.arange(NUM_ITEMS) % 2 == 0, 100, 1)
NONE, ONE = torch.zeros(4, dtype=torch.float64), torch.ones(4, dtype=torch.float64)
WEIGHTS = {"id": 0.4, "text": 0.6, "neighbours": 2.0, "trend": 0.0}
TINY = {
    **{"model.dim": 8, "schedule.epochs": 4, "window.last": 0.4, "fusion.gate": True},
    **{"run.baselines": False, "optim.batch_size": 64},
}


def gate_of(rows: list[list[float]], parts: tuple[str, ...] = ("id", "neighbours")) -> Gate:
    return Gate(parts, torch.tensor(rows, dtype=torch.float64), NONE, ONE, torch.from_numpy(COUNTS))


class Planted(Recommender):
    """ID knows the target after even items and text after odd ones; each is sure of another item elsewhere.

    The target is the item after the last one. With ``same``, both parts have the same scores.
    """

    def __init__(self, same: bool = False) -> None:
        super().__init__({}, {"id": 0.5, "text": 0.5})
        self.same = same

    def part_scores(self, batch: SessionBatch, tables: Mapping[str, Tables]) -> dict[str, Tensor]:
        last_N = batch.items_RL[batch.row_N, batch.length_N - 1]
        even_N = (last_N % 2 == 0) | self.same
        right_N, wrong_N = (last_N + 1) % NUM_ITEMS, (last_N + 5) % NUM_ITEMS
        guesses = {
            "id": torch.where(even_N, right_N, wrong_N),
            "text": torch.where(even_N & ~torch.tensor(self.same), wrong_N, right_N),
        }
        return {part: 3.0 * torch.eye(NUM_ITEMS)[guess_N] for part, guess_N in guesses.items()}


def walks(count: int, seed: int) -> SessionStore:
    """Sessions of two to five items, each followed by the next one of a ring."""
    rng = np.random.default_rng(seed)
    lengths, starts = rng.integers(2, 6, count), rng.integers(0, NUM_ITEMS, count)
    rows = [(start + np.arange(length)) % NUM_ITEMS for start, length in zip(starts, lengths, strict=True)]
    sessions = np.repeat(np.arange(count), lengths)
    return SessionStore.from_arrays(sessions, np.concatenate(rows), num_items=NUM_ITEMS)


def test_features_by_hand() -> None:
    batch = SessionBatch.of_prefixes(torch.tensor([[3, 4, 0], [1, 0, 0]]), torch.tensor([2, 1]))
    id_NV = torch.tensor([[0.0, np.log(2.0), -np.inf], [1.0, 1.0, 1.0]])
    text_NV = torch.zeros(2, 3)
    found = features({"id": id_NV, "text": text_NV}, batch, torch.from_numpy(COUNTS))
    expected = [
        [np.log(101), np.log(2), np.log(2 / 3), np.log(1 / 3)],
        [np.log(2), 0.0, np.log(1 / 3), np.log(1 / 3)],
    ]
    np.testing.assert_allclose(found, expected, rtol=1e-6, atol=1e-7)
    assert len(FEATURES) == found.shape[1]


def test_factors_by_hand() -> None:
    """The odds of ID are 0.4 / 0.6 times e; neighbours have twice e to the power -0.5."""
    gate = gate_of([[0.0, 1.0, 0.0, 0.0], [0.0, 0.0, -0.5, 0.0]])
    found = factors(gate, torch.tensor([[9.0, 1.0, 1.0, 9.0]], dtype=torch.float64), WEIGHTS)
    share = np.e * 0.4 / (np.e * 0.4 + 0.6)
    assert found.keys() == {"id", "text", "neighbours"}
    assert found["id"].item() * 0.4 == pytest.approx(share)
    assert found["text"].item() * 0.6 == pytest.approx(1 - share)
    assert found["neighbours"].item() == pytest.approx(np.exp(-0.5))


@given(st.lists(st.floats(-3, 3), min_size=8, max_size=8), st.lists(st.floats(-3, 3), min_size=4, max_size=4))
def test_id_and_text_keep_their_sum(coefficients: list[float], row: list[float]) -> None:
    gate = gate_of([coefficients[:4], coefficients[4:]])
    found = factors(gate, torch.tensor([row], dtype=torch.float64), WEIGHTS)
    assert found["id"].item() * 0.4 + found["text"].item() * 0.6 == pytest.approx(1.0)
    assert found["neighbours"].item() > 0


def test_features_far_from_validation_count_as_three_deviations() -> None:
    gate = gate_of([[0.0] * 4])._replace(centre_F=2 * ONE, spread_F=4 * ONE)
    raw_NF = torch.tensor([[2.0, 6.0, 1000.0, -1000.0]], dtype=torch.float64)
    assert gate.standardised(raw_NF).tolist() == [[0.0, 1.0, 3.0, -3.0]]


def test_parts_without_a_choice_have_no_coefficients() -> None:
    assert gated_parts(WEIGHTS, ["neighbours", "trend"]) == ("id", "neighbours")
    assert gated_parts({"id": 1.0, "text": 0.0}, []) == ()
    empty = SessionStore.from_arrays([], [], num_items=NUM_ITEMS)
    assert choose_gate(Planted(), COUNTS, empty, PROTOCOL, "ndcg@20") is None


@pytest.mark.parametrize("seen", ["kept", "excluded"])
def test_a_gate_learns_which_part_is_right(seen: Any) -> None:
    """ID is right after frequent items; fixed weights cannot tell it from text."""
    model, protocol = Planted(), Protocol("last", seen, 50)
    model.gate = choose_gate(model, COUNTS, walks(200, 0), protocol, "ndcg@20")
    assert model.gate is not None
    assert model.gate.parts == ("id",)
    count, length = model.gate.coefficients_PF[0, :2].tolist()
    assert count > 10 * abs(length)
    test = walks(100, 1)
    assert evaluate(model, test, protocol).metrics()["ndcg@20"] == pytest.approx(1.0)
    model.gate = None
    assert evaluate(model, test, protocol).metrics()["ndcg@20"] < 0.9


def test_a_gate_that_changes_nothing_is_not_kept() -> None:
    assert choose_gate(Planted(same=True), COUNTS, walks(200, 0), PROTOCOL, "ndcg@20") is None


def test_no_session_is_judged_by_a_gate_that_was_fitted_on_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """Gates are fitted on all folds but one, and each fold is ranked by the gate that did not see it."""
    chosen, asked = [], []
    fitted, factors_by_fold = gates._fitted, gates._factors_by_fold

    def recorded(examples: Any, chosen_N: np.ndarray, *rest: Any) -> Gate:
        chosen.append(set(examples.fold_N[chosen_N].tolist()))
        # The number of a fold's gate is its coefficient.
        number = torch.full((1, 4), float(len(chosen) - 1), dtype=torch.float64)
        return fitted(examples, chosen_N, *rest)._replace(coefficients_PF=number)

    def watched(by_fold: Any, features_NF: Tensor, fold_N: Tensor, weights: Any) -> dict[str, Tensor]:
        asked.append([by_fold[fold].coefficients_PF[0, 0].item() for fold in fold_N.tolist()])
        return factors_by_fold(by_fold, features_NF, fold_N, weights)

    monkeypatch.setattr(gates, "_fitted", recorded)
    monkeypatch.setattr(gates, "_factors_by_fold", watched)
    valid = walks(23, 0)
    choose_gate(Planted(), COUNTS, valid, PROTOCOL, "ndcg@20")
    assert chosen[:FOLDS] == [set(range(FOLDS)) - {fold} for fold in range(FOLDS)]
    assert np.concatenate(asked).tolist() == [session % FOLDS for session in range(23)]


def test_each_sample_has_the_factors_of_its_fold() -> None:
    by_fold = [gate_of([[float(fold), 0.0, 0.0, 0.0]], ("neighbours",)) for fold in range(3)]
    features_NF = torch.tensor([[1.0, 0.0, 0.0, 0.0]] * 3, dtype=torch.float64)
    found = gates._factors_by_fold(by_fold, features_NF, torch.tensor([2, 0, 1]), WEIGHTS)
    np.testing.assert_allclose(found["neighbours"], np.exp([2.0, 0.0, 1.0]))


def test_the_curve_over_alpha_has_the_same_alpha_for_all_prefixes() -> None:
    model, valid = Planted(), walks(60, 0)
    expected = alpha_curves(model, valid, valid, PROTOCOL, "ndcg@20")
    model.gate = gate_of([[2.0, 0.0, 0.0, 0.0]], ("id",))
    assert alpha_curves(model, valid, valid, PROTOCOL, "ndcg@20") == expected
    assert model.gate is not None


def test_views_of_the_parts_do_not_change() -> None:
    model, valid = Planted(), walks(60, 0)
    without = evaluate(model, valid, PROTOCOL).all_metrics()
    model.gate = gate_of([[2.0, 0.0, 0.0, 0.0]], ("id",))
    found = evaluate(model, valid, PROTOCOL).all_metrics()
    assert found["score"] != without["score"]
    assert {view: found[view] for view in ("id", "text")} == {view: without[view] for view in ("id", "text")}


def test_a_run_saves_its_gate_and_shows_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def planted(model: Recommender, counts_V: np.ndarray, *rest: Any) -> Gate:
        parts = gated_parts(model.weights, list(model.untrained))
        rows = torch.tensor([[0.7, -0.3, 0.0, 0.2]] * len(parts), dtype=torch.float64)
        return Gate(parts, rows, NONE, ONE, torch.from_numpy(counts_V))

    monkeypatch.setattr("alterrec.runs.fusion.choose_gate", planted)
    data = small_dataset(cold=2)
    run = fit(data, "alterrec", out=tmp_path / "run", overrides=TINY)
    saved = load(run.path)
    assert isinstance(saved.model, Recommender)
    gate = saved.model.gate
    assert gate is not None
    assert run.result["gate"]["id"] == dict(zip(FEATURES, [0.7, -0.3, 0.0, 0.2], strict=True))
    again = evaluate(saved.model, data.test, saved.protocol).all_metrics()
    for view, metrics in run.result["test"].items():
        assert again[view] == pytest.approx(metrics)
    prefix = [list(data.vocabulary.item_ids[:3])]
    (best,) = saved.recommend(prefix, k=5)
    assert [each.score for each in run.recommend(prefix, k=5)[0]] == [each.score for each in best]
    saved.model.gate = None
    assert [each.score for each in saved.recommend(prefix, k=5)[0]] != [each.score for each in best]
    assert "Weights that depend on the session" in (run.path / "report.html").read_text("utf-8")


def test_a_gate_without_gain_is_reported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("alterrec.runs.fusion.choose_gate", lambda *arguments: None)
    events: list[Event] = []
    chosen = {key: value for key, value in TINY.items() if key != "window.last"}
    run = fit(small_dataset(), "independent", out=tmp_path / "run", overrides=chosen, progress=events.append)
    assert any("gain nothing on validation" in event.message for event in events)
    assert run.result["gate"] == {}

"""Whole runs on data in which every target repeats, none does, or only items inside the sessions do."""

from __future__ import annotations

import csv
import dataclasses
import io
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
import torch
from conftest import Outcome
from safetensors import safe_open
from worlds import NUM_ITEMS, returning_dataset, small_dataset, with_sessions

from alterrec import fit, load
from alterrec.data.dataset import Dataset
from alterrec.errors import InputError
from alterrec.evaluation.evaluate import evaluate
from alterrec.record_json import from_json, to_json
from alterrec.results import RunResult
from alterrec.runs.fit import FittedRun
from alterrec.runs.measure import evaluate_run

QUICK: dict[str, Any] = {"run.report": False, "run.threads": 1, "run.baselines": False}
NEURAL: dict[str, Any] = {"model.dim": 8, "schedule.epochs": 4, "optim.batch_size": 64}
RULES = {"never": "kept", "always": "excluded", "auto": "repeats"}


def fitted(
    data: Dataset, model: str, out: Path, rule: str, targets: str = "last", **overrides: Any
) -> FittedRun:
    chosen = QUICK | ({} if model in ("itemknn", "popularity") else NEURAL)
    chosen |= {"window.last": 0.2} if model == "alterrec" else {}
    chosen |= {"data.exclude_seen": rule, "data.targets": targets}
    return fit(data, model, out=out, overrides=chosen | overrides)


def tensors_of(run: FittedRun) -> dict[str, torch.Tensor]:
    with safe_open(run.path / "model.safetensors", framework="pt") as file:
        return {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118


def always_returning() -> Dataset:
    """Every session ends with its first item, two places before; it has no other repeats."""
    rng = np.random.default_rng(0)

    def sessions(count: int) -> list[list[int]]:
        pairs = [rng.choice(NUM_ITEMS, 2, replace=False).tolist() for _ in range(count)]
        return [[first, second, first] for first, second in pairs]

    return with_sessions(train=sessions(120), valid=sessions(30), test=sessions(30))


@pytest.mark.parametrize("model", ["popularity", "itemknn", "alterrec", "sasrec"])
@pytest.mark.parametrize("rule", RULES)
def test_every_target_repeats(model: str, rule: str, tmp_path: Path) -> None:
    result = fitted(always_returning(), model, tmp_path / "run", rule).result
    assert result["data"]["seen"] == RULES[rule]
    for split in ("valid", "test"):
        by_rule = result["by_seen"][split]
        assert result[split] == by_rule[RULES[rule]]
        assert result["targets"][split]["repeated"] == result["targets"][split]["count"] == 30
        for view, metrics in by_rule["excluded"].items():
            assert set(metrics.values()) == {0.0}, view
        # With several queries, items of the prefix are candidates of few of them, so they rank low if kept.
        for view, metrics in by_rule["kept"].items() if model != "alterrec" else ():
            assert min(metrics.values()) > 0, view
        if rule == "auto":
            for view, metrics in by_rule["repeats"].items():
                assert metrics["ndcg@20"] > 0.99, view
                assert metrics["hits@20"] == 1, view
    if rule == "auto":
        assert result["repeats"]["rates"]["2"] > 0.999
        weights = result["repeats"]["weights"]
        assert weights["2"] > 20 * weights["1"]


TIMES = ("seconds", "seconds_by_part", "peak_memory_bytes", "process_peak_memory_bytes")


def numbers_of(run: FittedRun) -> dict[str, Any]:
    """All of result.json but times, memory, and the words of the rule."""
    found = {key: value for key, value in run.result.items() if key not in TIMES}
    return found | {"data": {key: value for key, value in run.result["data"].items() if key != "seen_rule"}}


def curves_of(run: FittedRun) -> list[dict[str, Any]]:
    lines = map(json.loads, (run.path / "curves.jsonl").read_text("utf-8").splitlines())
    return [{key: value for key, value in line.items() if not key.startswith("seconds")} for line in lines]


@pytest.mark.parametrize("model", ["itemknn", "alterrec"])
def test_no_target_repeats(model: str, tmp_path: Path) -> None:
    """The rule auto comes to exclusion, to the last digit."""
    data = small_dataset()
    runs = [
        fitted(data, model, tmp_path / rule, rule, **{"run.baselines": True}) for rule in ("auto", "always")
    ]
    assert [run.result["data"]["seen"] for run in runs] == ["excluded"] * 2
    assert runs[0].result["repeats"] is None
    assert numbers_of(runs[0]) == numbers_of(runs[1])
    assert curves_of(runs[0]) == curves_of(runs[1])
    first, other = map(tensors_of, runs)
    assert first.keys() == other.keys()
    assert all(torch.equal(value, other[name]) for name, value in first.items())
    tables = [pl.read_parquet(run.path / "ranks.parquet") for run in runs]
    assert tables[0].equals(tables[1])
    assert tables[0]["tied_score"].min() == 1


def browsing() -> Dataset:
    """As in Amazon-M2: items inside the sessions repeat, the last one never does."""
    rng = np.random.default_rng(0)

    def sessions(count: int) -> list[list[int]]:
        found = []
        for _ in range(count):
            start = int(rng.integers(NUM_ITEMS))
            walk = (start + rng.integers(0, 3, rng.integers(2, 6))) % NUM_ITEMS
            found.append([*walk.tolist(), (start + 3) % NUM_ITEMS])
        return found

    return with_sessions(train=sessions(100), valid=sessions(25), test=sessions(25))


def test_the_targets_of_the_protocol_decide(tmp_path: Path) -> None:
    for targets, seen in (("last", "excluded"), ("every", "repeats")):
        result = fitted(browsing(), "itemknn", tmp_path / targets, "auto", targets).result
        assert result["data"]["seen"] == seen
        assert (result["repeats"] is None) == (seen == "excluded")
        assert (result["data"]["repeat_share"] > 0.2) == (seen == "repeats")
        assert (result["targets"]["test"]["repeated"] > 0) == (seen == "repeats")


@pytest.fixture(scope="module")
def returning(tmp_path_factory: pytest.TempPathFactory) -> dict[str, FittedRun]:
    """Runs of item-kNN by rule, and one of AlterRec with neighbours, on data where three of ten repeat."""
    folder = tmp_path_factory.mktemp("returning")
    runs = {rule: fitted(returning_dataset(), "itemknn", folder / rule, rule, "every") for rule in RULES}
    tuned = {"fusion.tune": True, "fusion.neighbours": True}
    return runs | {
        "alterrec": fitted(returning_dataset(), "alterrec", folder / "sum", "auto", "every", **tuned)
    }


@pytest.mark.parametrize("name", [*RULES, "alterrec"])
def test_a_saved_run_ranks_and_recommends_as_it_was_evaluated(
    name: str, returning: dict[str, FittedRun]
) -> None:
    """Rule, repeat component and scales come back."""
    run, data = returning[name], returning_dataset()
    saved = load(run.path)
    assert saved.seen == RULES.get(name, "repeats")
    assert (saved.repeats is not None) == (saved.seen == "repeats") == bool(saved.model.scales)
    again = evaluate_run(run.path, data)
    for part in ("valid", "test", "by_seen"):
        assert again[part] == run.result[part]
    ranks = evaluate(saved.model, data.test, saved.protocol)
    checked = 0
    for (session, end), target, greater, tied in zip(
        ranks.samples, ranks.targets, *ranks.views["score"], strict=True
    ):
        prefix = data.test.session(int(session))[: int(end)].astype(np.int64)
        most = NUM_ITEMS - (len(np.unique(prefix)) if saved.seen == "excluded" else 0)
        ids = saved.recommend_numbers([prefix], most)[0][0].tolist()
        if tied == 1:
            assert ids.index(target) == greater
            checked += 1
        assert (target in ids) == (tied > 0)
    assert checked > 20


def test_the_component_is_in_the_result(returning: dict[str, FittedRun]) -> None:
    text = (returning["alterrec"].path / "result.json").read_text("utf-8")
    found = from_json(RunResult, text, "result.json")
    assert to_json(found) == json.loads(text)
    saved = load(returning["alterrec"].path)
    assert found.repeats is not None
    assert found.repeats.scales == {view: scale._asdict() for view, scale in saved.model.scales.items()}
    assert list(found.repeats.scales) == ["score", "id", "text", "neighbours", "trend", "fused"]
    assert saved.repeats is not None
    for name, number in (("1", 0), ("2", 1), ("3-4", 2), ("5-8", 3)):
        assert found.repeats.rates[name] == pytest.approx(saved.repeats.rates_B[number], abs=1e-4)
        weight = saved.repeats.weights_B[number] / saved.repeats.weights_B[0]
        assert found.repeats.weights[name] == pytest.approx(weight, abs=1e-4)


def test_the_component_helps_where_items_repeat(returning: dict[str, FittedRun]) -> None:
    by_rule = returning["auto"].result["by_seen"]["test"]
    best = by_rule["repeats"]["score"]["ndcg@20"]
    assert best > max(by_rule[rule]["score"]["ndcg@20"] for rule in ("kept", "excluded")) + 0.05


@pytest.mark.parametrize("name", [*RULES, "alterrec"])
@pytest.mark.parametrize("exclude_seen", [None, True, False])
def test_a_call_has_its_own_rule(
    name: str, exclude_seen: bool | None, returning: dict[str, FittedRun]
) -> None:
    saved = load(returning[name].path)
    ids = saved.vocabulary.item_ids
    session, own = [ids[3], ids[4], ids[3]], {ids[3], ids[4]}
    excluded = saved.seen == "excluded" if exclude_seen is None else exclude_seen
    most = NUM_ITEMS - 2 * excluded
    (answer,) = saved.recommend([session], k=most, exclude_seen=exclude_seen)
    assert own.isdisjoint(row.item_id for row in answer) == excluded
    assert [row.score for row in answer] == sorted((row.score for row in answer), reverse=True)
    assert returning[name].recommend([session], k=most, exclude_seen=exclude_seen) == [answer]
    if excluded:
        # Fewer candidates than k: the session gets all that there are.
        assert saved.recommend([session], k=most + 1, exclude_seen=exclude_seen) == [answer]
    with pytest.raises(InputError, match=rf"k is {NUM_ITEMS + 1}; .*{NUM_ITEMS} items"):
        saved.recommend([session], k=NUM_ITEMS + 1, exclude_seen=exclude_seen)


def test_excluding_leaves_the_order_of_the_other_items(returning: dict[str, FittedRun]) -> None:
    for run in returning.values():
        saved = load(run.path)
        session = [saved.vocabulary.item_ids[item] for item in (3, 4, 3)]
        with_own, without = (
            [row.item_id for row in saved.recommend([session], k=k, exclude_seen=excluded)[0]]
            for k, excluded in ((NUM_ITEMS, False), (NUM_ITEMS - 2, True))
        )
        assert [item for item in with_own if item not in session] == without


@pytest.mark.parametrize(
    ("option", "expected"), [([], False), (["--exclude-seen"], True), (["--allow-seen"], False)]
)
def test_the_command_has_its_own_rule(
    option: list[str],
    expected: bool,
    returning: dict[str, FittedRun],
    alterrec: Callable[..., Outcome],
    tmp_path: Path,
) -> None:
    rows = [("s", item, place) for place, item in enumerate(("item03", "item04", "item03"))]
    lines = ["session_id,item_id,timestamp", *(",".join(map(str, row)) for row in rows)]
    (tmp_path / "sessions.csv").write_text("\n".join(lines) + "\n", "utf-8")
    run = returning["auto"].path
    code, out, err = alterrec("recommend", run, "--sessions", tmp_path / "sessions.csv", "-k", 38, *option)
    assert (code, err) == (0, "")
    found = {row["item_id"] for row in csv.DictReader(io.StringIO(out))}
    assert len(found) == 38
    assert {"item03", "item04"}.isdisjoint(found) == expected


def test_the_test_split_chooses_nothing(returning: dict[str, FittedRun], tmp_path: Path) -> None:
    """Weights, scales, repeat component and tensors are the same for other test sessions."""
    run, data = returning["alterrec"], returning_dataset()
    other = returning_dataset(seed=9, share=0.9)
    changed = dataclasses.replace(
        data, test=other.test, session_names=data.session_names | {"test": other.session_names["test"]}
    )
    tuned = {"fusion.tune": True, "fusion.neighbours": True}
    again = fitted(changed, "alterrec", tmp_path / "run", "auto", "every", **tuned)
    assert again.result["test"] != run.result["test"]
    for part in ("fusion", "repeats", "valid", "best_epoch"):
        assert again.result[part] == run.result[part]
    assert set(run.result["fusion"]) == {"alpha", "neighbours", "trend"}
    assert [row["valid"] for row in again.result["alphas"]] == [row["valid"] for row in run.result["alphas"]]
    first, second = tensors_of(run), tensors_of(again)
    assert all(torch.equal(value, second[name]) for name, value in first.items())
    assert load(run.path).model.scales == load(again.path).model.scales

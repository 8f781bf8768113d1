"""The memory budget: what is planned is kept, and what cannot be kept is refused."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from alterrec.errors import InputError
from alterrec.models.catalogue import build_model
from alterrec.models.parts import ModelInputs
from alterrec.recipe import resolve
from alterrec.runs.memory import LEARNING_ID_TABLES, plan_memory
from alterrec.sessions import SessionStore
from alterrec.training.schedule import phases

LARGE = """
import sys
from alterrec import fit
from alterrec.data.synthetic import synthetic_dataset
from alterrec.runs.memory import peak_memory_bytes
budget, out = sys.argv[1:]
settings = {
    "run.memory_budget": budget, "run.baselines": False, "run.threads": 1, "model.dim": 8,
    "schedule.epochs": 1, "optim.batch_size": 2048, "data.prefixes": 0,
}
lines = []
run = fit(synthetic_dataset(items=40_000, sessions=1_000), "id_only", out=out, overrides=settings,
          progress=lambda event: lines.append(event.message))
import json
(curve,) = map(json.loads, open(run.path / "curves.jsonl"))
print(json.dumps({"peak": peak_memory_bytes(), "lines": lines, "loss": curve["loss"]}))
"""


def trained(budget: str, out: Path) -> dict[str, object]:
    """One training in a process of its own: 2,048 samples x 40,000 items are 313 MiB of scores."""
    answer = subprocess.run(
        [sys.executable, "-c", LARGE, budget, str(out)], check=True, capture_output=True, text=True
    )
    return dict(json.loads(answer.stdout.splitlines()[-1]))


def test_a_budget_is_kept_and_changes_no_result(tmp_path: Path) -> None:
    kept, free = trained("960MiB", tmp_path / "kept"), trained("", tmp_path / "free")
    assert kept["peak"] <= 960 * 2**20 < free["peak"]  # type: ignore[operator]
    assert any("memory budget 960 MiB" in line for line in kept["lines"])  # type: ignore[attr-defined]
    assert kept["loss"] == pytest.approx(free["loss"], rel=1e-5)


def test_no_run_imports_the_compiler_unasked() -> None:
    """It is 145 MB and a second; a decorator of torch.compiler in any encoder is enough."""
    code = "import sys, alterrec.runs.fit; sys.exit('torch._dynamo' in sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)


def test_less_than_one_sample_at_a_time_is_refused_with_what_is_needed() -> None:
    settings = {
        "run.memory_budget": "640MiB",
        "model.dim": 8,
        "id.queries": "one",
        "optim.batch_size": 512,
    }
    recipe = resolve("id_only", overrides=settings)
    items = ModelInputs(10_000, None, torch.ones(10_000, dtype=torch.bool))
    model = build_model(recipe, items)
    plan = plan_memory(model, recipe, phases(recipe), 10_000, 50, resident=2**28)
    assert plan.train_rows == 512
    assert plan.lines()[0].startswith("memory budget 640 MiB: 256 MiB now")
    with pytest.raises(InputError, match=r"is 640MiB, and id_only on 10000 items needs at least"):
        plan_memory(model, recipe, phases(recipe), 10_000, 50, resident=640 * 2**20)


@pytest.mark.parametrize(
    ("name", "layers"),
    [("id_only", 0), ("sasrec", 2), ("core", 2), ("bsarec", 2), ("gru4rec", 1), ("fdsa_id", 2)],
)
def test_states_of_a_step_are_those_of_the_layers_that_an_encoder_has(name: str, layers: int) -> None:
    """A batch of 512 more is 128 more sessions of 50 places, or 512 prefixes where each is read alone."""
    planned = []
    for batch in (512, 1024):
        recipe = resolve(name, overrides={"optim.batch_size": batch, "id.queries": "one"})
        model = build_model(recipe, ModelInputs(100, None, torch.ones(100, dtype=torch.bool)))
        planned.append(plan_memory(model, recipe, phases(recipe), 100, 50, resident=0).training)
    rows = 512 if name == "bsarec" else 128
    assert planned[1] - planned[0] == rows * 50 * 64 * 4 * (6 + 18 * layers)


def test_memory_of_users_is_planned() -> None:
    """70,000 more rows of 8: two moments, two copies and a gradient; six tables of a step."""

    def training(users: int) -> int:
        store = SessionStore.from_arrays([0, 0], [0, 1], user_ids=[users - 1] * 2, num_items=1000)
        recipe = resolve("hggnn", overrides={"model.dim": 8})
        items = ModelInputs(1000, None, torch.ones(1000, dtype=torch.bool), train=store)
        return plan_memory(build_model(recipe, items), recipe, phases(recipe), 1000, 50, resident=0).training

    assert training(80_000) - training(10_000) == (5 + 6) * 70_000 * 8 * 4


def test_rows_of_drawn_candidates_are_planned() -> None:
    """A table of 100,000 x 8; a step of 64 samples has 64 * (5 + 20 + 1) rows."""
    table, rows = 100_000 * 8, 64 * 26

    def training(rule: str, negatives: str) -> int:
        settings = {
            **{"model.dim": 8, "id.queries": "one", "optim.batch_size": 64, "model.max_len": 20},
            **{"window.sample": 5, "schedule.negatives": negatives, "schedule.warmup": 0},
        }
        recipe = resolve("id_only", overrides=settings | {"id.optimiser": rule})
        items = ModelInputs(100_000, None, torch.ones(100_000, dtype=torch.bool))
        return plan_memory(
            build_model(recipe, items), recipe, phases(recipe), 100_000, 50, resident=0
        ).training

    full = {rule: training(rule, "full") for rule in ("adam", "lazy_adam", "rowwise_adagrad")}
    drawn = {rule: training(rule, "random") for rule in full}
    assert full["lazy_adam"] == full["adam"]
    assert full["adam"] - full["rowwise_adagrad"] == 4 * (2 * table - 100_000)
    # A step keeps so many values of its rows. Half of them are there when the whole table gets its gradient.
    kept = LEARNING_ID_TABLES * rows * 8
    assert drawn["adam"] - drawn["lazy_adam"] == 4 * (table - kept / 2 - rows * 8)
    assert drawn["lazy_adam"] - drawn["rowwise_adagrad"] == 4 * (2 * table - 100_000)
    assert full["adam"] - drawn["adam"] == 4 * (LEARNING_ID_TABLES * table - kept / 2)


def test_scores_of_a_pool_are_planned() -> None:
    """A row has 20,000 scores instead of 100,000; float32 rows of a pool of 20,000 x 8 are a copy."""
    plans = []
    for pool in (0, 20_000):
        settings = {
            **{"model.dim": 8, "id.queries": "one", "text.queries": "one", "window.sample": 5},
            **{"window.pool": pool, "optim.batch_size": 64, "run.memory_budget": "700MiB"},
            **{"schedule.warmup_negatives": "random"},
        }
        recipe = resolve("alterrec", overrides=settings)
        items = ModelInputs(100_000, torch.randn(100_000, 4), torch.ones(100_000, dtype=torch.bool))
        model, plan = build_model(recipe, items), phases(recipe)
        plans.append(plan_memory(model, recipe, plan, 100_000, 50, resident=430 * 2**20))
    assert plans[1].training - plans[0].training == 4 * 8 * 20_000
    for plan, scored in zip(plans, (100_000, 20_000), strict=True):
        row = scored * 4 + scored // 8 + 16 * min(scored, 2**16)
        assert plan.train_rows == min(64, (700 * 2**20 - plan.resident - plan.training) // row)
    assert plans[0].train_rows < plans[1].train_rows


def test_pretraining_reads_every_prefix_as_often_as_its_tasks_do() -> None:
    items = ModelInputs(100, torch.randn(100, 8), torch.ones(100, dtype=torch.bool))

    def planned(batch: int, first: int) -> int:
        recipe = resolve("s3rec", overrides={"optim.batch_size": batch, "id.queries": "one"})
        return plan_memory(build_model(recipe, items), recipe, phases(recipe)[first:], 100, 50, 0).training

    place = 50 * 64 * 4 * (6 + 18 * 2)
    assert planned(1024, first=0) - planned(512, first=0) == 512 * 4 * place
    assert planned(1024, first=1) - planned(512, first=1) == 128 * place


def test_no_budget_is_no_bound() -> None:
    recipe = resolve("popularity")
    plan = plan_memory(None, recipe, [], 10**9, 50, resident=2**40)
    assert plan.lines() == []
    assert plan.train_rows == recipe.optim.batch_size


def test_queries_of_a_step_are_planned() -> None:
    """Each of 512 samples has 20 items and a session vector as queries; their scores are 4 rows a sample."""
    planned = {}
    for queries in ("one", "both"):
        settings = {
            "id.queries": queries,
            "model.max_len": 20,
            "run.memory_budget": "1GiB",
            "optim.batch_size": 512,
        }
        recipe = resolve("id_only", overrides=settings)
        model = build_model(recipe, ModelInputs(100_000, None, torch.ones(100_000, dtype=torch.bool)))
        planned[queries] = plan_memory(model, recipe, phases(recipe), 100_000, 50, resident=0)
    assert planned["both"].training - planned["one"].training == 512 * 21 * 128 + 5 * 21 * 4
    row = 100_000 * 4 + 100_000 // 8 + 16 * 2**16
    for queries, scores in (("one", row), ("both", row + 4 * 100_000 * 4)):
        left = 2**30 - planned[queries].training
        assert planned[queries].train_rows == left // scores < 512

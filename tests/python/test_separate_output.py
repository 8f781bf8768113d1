"""A second ID table that is scored, in every system that can have one."""

from __future__ import annotations

import copy
from pathlib import Path

import pytest
import torch
from worlds import NUM_ITEMS, plain_scores, small_dataset, text_like_vectors

from alterrec.errors import InputError
from alterrec.evaluation.evaluate import Protocol
from alterrec.models.base import Recommender
from alterrec.models.batches import SessionBatch
from alterrec.models.catalogue import MODELS, build_model
from alterrec.models.parts import ModelInputs
from alterrec.models.reads import resolve_read
from alterrec.nn.item_encoders import IdTable
from alterrec.recipe import dump_recipe, resolve
from alterrec.runs.memory import LEARNING_ID_TABLES, plan_memory
from alterrec.runs.model_files import save_model, write_vocabulary
from alterrec.runs.saved_model import load
from alterrec.training.schedule import phases

BATCH = SessionBatch.of_prefixes(torch.tensor([[3, 1, 2], [7, 0, 0]]), torch.tensor([3, 1]))
SETTINGS = {"model.dim": 8, "id.separate_output": True, "window.last": 0.2}
READERS = [name for name, entry in MODELS.items() if "id.separate_output" in entry.reads]


def built(name: str, **more: object) -> Recommender:
    torch.manual_seed(0)
    inputs = ModelInputs(
        NUM_ITEMS, torch.from_numpy(text_like_vectors()), torch.ones(NUM_ITEMS, dtype=torch.bool)
    )
    return build_model(resolve(name, overrides=SETTINGS | more), inputs).eval()


def tables_of(model: Recommender) -> tuple[IdTable, IdTable]:
    first, second = (part for part in model.modules() if isinstance(part, IdTable))
    return first, second


def test_the_systems_that_can_have_a_second_table() -> None:
    assert set(READERS) == {
        *("alterrec", "alterrec_aug", "alterrec_random", "alterrec_wo_text", "independent", "id_only"),
        *("nfrec_sum", "nfrec_concat", "sasrec", "bsarec", "srgnn", "unisrec_id", "fdsa_id"),
    }


@pytest.mark.parametrize("name", [name for name in MODELS if name not in READERS])
def test_other_systems_refuse_it(name: str) -> None:
    with pytest.raises(InputError, match=rf"^{name} does not read id\.separate_output"):
        resolve_read(name, overrides={"id.separate_output": True})


def test_the_session_is_read_from_one_table_and_scored_against_the_other() -> None:
    """The session vector is the mean of the rows that are read, the scores its product with the others."""
    model = built("id_only", **{"id.session": "mean", "id.temperature": 2.0, "id.norm": False})
    read, scored = tables_of(model)
    assert not torch.equal(read.rows_VD, scored.rows_VD)
    with torch.no_grad():
        mean_D = read.rows_VD[[3, 1, 2]].mean(0)
        torch.testing.assert_close(
            plain_scores(model.network("model"), BATCH)[0], scored.rows_VD @ mean_D / 2
        )


@pytest.mark.parametrize("name", ["nfrec_sum", "nfrec_concat"])
def test_naive_fusion_scores_the_second_table_with_the_text(name: str) -> None:
    model = built(name)
    (read, scored), network = tables_of(model), model.network("model")
    text = network.items.encoders[1]  # type: ignore[union-attr, index]
    join = {"nfrec_sum": lambda a, b: a + b, "nfrec_concat": lambda a, b: torch.cat([a, b], 1)}[name]
    with torch.no_grad():
        found = network.item_tables()
        torch.testing.assert_close(found.inputs, join(read(), text()))
        torch.testing.assert_close(found.outputs, join(scored(), text()))
        some = network.item_tables(torch.tensor([4, 2]))
        torch.testing.assert_close(some.outputs, found.outputs[[4, 2]])


@pytest.mark.parametrize("name", READERS)
def test_both_tables_learn_and_a_teacher_keeps_its_own(name: str) -> None:
    model = built(name)
    network = model.network("id" if "id" in model.networks else "model")
    teacher = copy.deepcopy(network)
    before = teacher.item_tables().outputs.detach().clone()
    tables = network.item_tables()
    scores = network.encode_sessions(BATCH, tables) @ tables.outputs.T
    scores.logsumexp(1).sum().backward()
    for table in tables_of(model):
        assert table.rows_VD.grad is not None
        assert bool((table.rows_VD.grad != 0).any())
        with torch.no_grad():
            table.rows_VD.add_(1.0)
    torch.testing.assert_close(teacher.item_tables().outputs, before)


@pytest.mark.parametrize("name", READERS)
def test_a_saved_system_comes_back(name: str, tmp_path: Path) -> None:
    model = built(name)
    (tmp_path / "recipe.toml").write_text(dump_recipe(resolve(name, overrides=SETTINGS)), "utf-8")
    save_model(tmp_path, model, Protocol("last", "kept", 50))
    write_vocabulary(tmp_path, small_dataset())
    again = load(tmp_path).model
    assert isinstance(again, Recommender)
    with torch.no_grad():
        for part, scores in model.part_scores(BATCH, model.prepare()).items():
            found = again.part_scores(BATCH, again.prepare())[part]
            torch.testing.assert_close(found, scores, rtol=1e-5, atol=1e-5)


def test_both_tables_start_from_text_vectors() -> None:
    read, scored = tables_of(built("id_only", **{"id.start": "pca"}))
    assert torch.equal(read.rows_VD, scored.rows_VD)


def test_the_memory_plan_counts_both_tables() -> None:
    """A step keeps some tables for each table of 40 x 8 float32; of weights there are two copies, two moments
    and the gradient."""
    plans = []
    for separate in (False, True):
        recipe = resolve("id_only", overrides=SETTINGS | {"id.separate_output": separate})
        model = built("id_only", **{"id.separate_output": separate})
        plans.append(plan_memory(model, recipe, phases(recipe), NUM_ITEMS, 8, resident=0))
    one, two = plans
    table, norm = 40 * 8 * 4, 2 * 8 * 4
    assert two.training - one.training == LEARNING_ID_TABLES * table + 5 * (table + norm)
    assert two.evaluation - one.evaluation == table + 4 * (table + norm)

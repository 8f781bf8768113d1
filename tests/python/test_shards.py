"""Item tables that are divided among processes: training, evaluation and memory are those of whole tables."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any
from unittest import mock

import pytest
import torch
from job_runs import check_same, losses, train
from process_group import ProcessGroup
from worlds import small_dataset

from alterrec import parallel
from alterrec.errors import InputError
from alterrec.evaluation import evaluate as evaluation
from alterrec.models.catalogue import MODELS, build_model, division_problem, lookup
from alterrec.models.parts import ModelInputs
from alterrec.recipe import resolve
from alterrec.runs import build as runs_build
from alterrec.runs import fit as runs_fit
from alterrec.runs import saved_model
from alterrec.runs.inputs import read_catalogue
from alterrec.runs.measure import evaluate_run
from alterrec.runs.memory import plan_memory
from alterrec.shards import Shard, fill_rows
from alterrec.training import step
from alterrec.training.divided_step import DividedStep
from alterrec.training.schedule import phases

ONE = {"id.queries": "one", "text.queries": "one"}
RANDOM = {"schedule.negatives": "random", "schedule.warmup_negatives": "random", "window.sample": 6}
DROPOUT = {"model.dropout": 0.3, "id.table_dropout": 0.2}


def can_be_divided(system: str) -> bool:
    entry = lookup(system)
    recipe = resolve(system)
    if not entry.trains or entry.reads_users:
        return False
    inputs = ModelInputs(5, torch.randn(5, 3), torch.ones(5, dtype=torch.bool))
    return not division_problem(entry.build(recipe, inputs), recipe)


# One of each kind, and the others in `make torture`: they differ in settings alone.
KINDS = ("alterrec", "nfrec_concat", "sasrec", "srgnn", "fdsa")
DIVIDED = [
    name if name in KINDS else pytest.param(name, marks=pytest.mark.torture)
    for name in MODELS
    if can_be_divided(name) and name != "unisrec_pretrained"  # which begins with the weights of another run
]


@pytest.fixture(scope="module")
def three() -> Iterator[ProcessGroup]:
    with ProcessGroup(3) as group:
        yield group


def divided(system: str, out: Path, settings: dict[str, Any], few: int, stop_after: int | None = None) -> Any:
    """In each process: train with divided tables; return the result, and the number of steps of each kind."""
    taken = {"steps": 0, "fetched": 0}
    part, fetched = DividedStep._part_of_loss, DividedStep._loss_of_fetched

    def counted(self: DividedStep, *arguments: Any) -> torch.Tensor:
        taken["steps"] += 1
        assert self.network.shard.size < self.num_items
        return part(self, *arguments)

    def counted_fetched(self: DividedStep, *arguments: Any) -> torch.Tensor:
        taken["fetched"] += 1
        return fetched(self, *arguments)

    with (
        mock.patch.object(DividedStep, "_part_of_loss", counted),
        mock.patch.object(DividedStep, "_loss_of_fetched", counted_fetched),
        mock.patch.object(step, "ITEMS_PER_CANDIDATE", few),
    ):
        return train(system, out, {**settings, "run.shard_items": True}, stop_after), taken


def check_division(
    group: ProcessGroup, folder: Path, system: str, settings: dict[str, Any], few: int = 100
) -> dict[str, int]:
    with mock.patch.object(step, "ITEMS_PER_CANDIDATE", few):
        alone = train(system, folder / "alone", settings)
    found = group.run(divided, system, folder / "run", settings, few)
    check_same(folder / "run", folder / "alone")
    assert all(result == found[0][0] for result, _ in found)
    same = ("valid", "test", "targets", "by_seen", "groups", "fusion", "parameters", "best_epoch", "stopped")
    assert all(found[0][0][key] == alone[key] for key in same)
    return dict(found[0][1])


@pytest.mark.parametrize("system", DIVIDED)
def test_a_system_learns_the_same(system: str, tmp_path: Path, three: ProcessGroup) -> None:
    assert check_division(three, tmp_path, system, {})["steps"]


@pytest.mark.parametrize(
    ("system", "settings", "few"),
    [
        ("alterrec", {"window.sample": 4, "fusion.gate": True}, 100),
        ("alterrec", {"window.pool": 20, "data.exclude_seen": "never"}, 100),
        ("alterrec", ONE | {"window.precision": "float16", "text.whiten": True}, 100),
        ("alterrec", ONE | {"window.sample": 3}, 1),
        ("alterrec", {"id.queries": "one", "window.pool": 20, "id.separate_output": True}, 100),
        ("alterrec", {"text.queries": "one", "id.start": "pca"}, 100),
        ("alterrec_aug", ONE | {"positives.top": 3}, 100),
        ("id_only", RANDOM | {"id.queries": "one", "id.optimiser": "lazy_adam"}, 100),
        ("id_only", RANDOM | {"id.queries": "one", "id.optimiser": "rowwise_adagrad"}, 1),
        ("sasrec", RANDOM | DROPOUT | {"loss.logq": True}, 1),
        ("sasrec", RANDOM | DROPOUT | {"loss.name": "gbce"}, 100),
        ("sasrec", DROPOUT | {"optim.batch_size": 2}, 100),  # fewer samples than processes
        ("unisrec", DROPOUT | {"schedule.pretrain": 0, "schedule.freeze": ()}, 100),
        ("s3rec", {"schedule.pretrain": 0}, 100),
        # Samples that are not trained leave rows that nobody reads, also in batches that are not divided.
        ("gru4rec", {"optim.batch_size": 2, "data.half_life": 1.0, "data.exclude_seen": "auto"}, 100),
    ],
)
def test_candidates_and_settings(
    system: str, settings: dict[str, Any], few: int, tmp_path: Path, three: ProcessGroup
) -> None:
    taken = check_division(three, tmp_path, system, settings, few)
    assert taken["steps"]
    assert bool(taken["fetched"]) == (few == 1 or settings.get("loss.name") == "gbce")


@pytest.mark.parametrize(
    ("before", "after"), [("alone", "divided"), ("divided", "alone"), ("divided", "whole")]
)
def test_a_run_continues(before: str, after: str, tmp_path: Path, three: ProcessGroup) -> None:
    """From the middle of an epoch: in one process, in several, or in several that divide the tables."""

    def run(how: str, out: Path, stop_after: int | None = None) -> None:
        if how == "divided":
            three.run(divided, "sasrec", out, settings, 100, stop_after)
        elif how == "whole":
            three.run(train, "sasrec", out, settings, stop_after)
        else:
            train("sasrec", out, settings, stop_after)

    settings = DROPOUT | {"schedule.epochs": 2}
    run("alone", tmp_path / "alone")
    run(before, tmp_path / "run", 4)
    assert not (tmp_path / "run" / "result.json").exists()
    run(after, tmp_path / "run")
    assert len(losses(tmp_path / "run")) == 2
    check_same(tmp_path / "run", tmp_path / "alone")


def stopped_in_the_last_evaluation(out: Path) -> Any:
    """In each process: train with divided tables; a signal comes when the top lists are to be found."""
    with mock.patch.object(runs_fit, "top_items", side_effect=KeyboardInterrupt):
        return train("sasrec", out, {"run.shard_items": True})


def test_a_signal_in_the_last_evaluation_leaves_a_checkpoint(tmp_path: Path, three: ProcessGroup) -> None:
    assert three.run(stopped_in_the_last_evaluation, tmp_path / "run") == [{}] * 3
    assert not (tmp_path / "run" / "result.json").exists()
    check_division(three, tmp_path, "sasrec", {})


def measured(run: Path) -> tuple[dict[str, Any], Shard | None]:
    """Measure a run; return also the rows of its tables that this process has."""
    with mock.patch.object(saved_model, "load_model", wraps=saved_model.load_model) as load_model:
        return evaluate_run(run, small_dataset(users=9)), load_model.call_args.args[1]


def test_a_saved_run_is_measured_with_divided_tables(tmp_path: Path, three: ProcessGroup) -> None:
    train("alterrec", tmp_path / "run", {"run.shard_items": True})
    alone, whole = measured(tmp_path / "run")
    found = three.run(measured, tmp_path / "run")
    assert [json.dumps(result) for result, _ in found] == [json.dumps(alone)] * 3
    assert whole is None
    assert [shard.size for _, shard in found] == [13, 13, 14]


def test_what_cannot_be_divided_is_refused(tmp_path: Path) -> None:
    for system, settings, message in (
        (
            "bert4rec",
            {},
            "run.shard_items divides ID tables and text vectors, but bert4rec has other",
        ),
        ("unisrec", {"schedule.pretrain": 1}, "schedule.pretrain is 1, but divided item tables"),
    ):
        with pytest.raises(InputError, match=message):
            train(system, tmp_path / system, {"run.shard_items": True} | settings)


def planned_and_built(budget: str) -> tuple[bool, list[int]]:
    """In each process: whether the plan divides the tables of a run, and the rows that this process has.

    The process has 100 MB before, and what the model allocates.
    """
    recipe = resolve("id_only", overrides={"model.dim": 4096, "run.memory_budget": budget})
    data, plan = small_dataset(), phases(recipe)
    model, _ = runs_build.build(
        recipe,
        data,
        lambda event: None,
        lambda model, further: plan_memory(model, recipe, plan, data.num_items, 9, 10**8 + further),
    )
    assert model is not None
    return model.shard is not None, [
        len(table) for table in model.parameters() if table.shape[-1:] == (4096,)
    ]


def test_the_memory_plan_divides_what_does_not_fit(three: ProcessGroup) -> None:
    recipe = resolve("id_only", overrides={"model.dim": 4096})
    whole = ModelInputs(40, None, torch.ones(40, dtype=torch.bool))
    models = (build_model(recipe, inputs) for inputs in (whole, replace(whole, shard=Shard(0, 14, 40))))
    needed, less = (
        10**8 + 4 * 4096 * rows + plan_memory(model, recipe, phases(recipe), 40, 9, 0).training
        for model, rows in zip(models, (40, 14), strict=True)
    )
    assert [each for each, _ in three.run(planned_and_built, f"{needed + 2**19}B")] == [False] * 3
    found = three.run(planned_and_built, f"{(needed + less) // 2}B")
    assert [each for each, _ in found] == [True] * 3
    assert [rows[0] for _, rows in found] == [13, 13, 14]


def refused(budget: str) -> str:
    """In each process: the message for a system that reads texts, on data without any."""
    settings = {"run.memory_budget": budget, "run.shard_items": not budget}
    data = replace(small_dataset(), text=None)
    with pytest.raises(InputError) as raised:
        runs_build.build(resolve("text_only", overrides=settings), data, lambda event: None)
    return str(raised.value)


def test_data_without_text_are_refused_in_all_processes(three: ProcessGroup) -> None:
    for budget in ("", "4GiB"):
        assert len({*three.run(refused, budget)}) == 1


def failing_evaluation(run: Path) -> str:
    """In each process: evaluate with divided tables; counting fails for the samples of one of them."""
    known, data = read_catalogue(run), small_dataset(users=9)
    saved = saved_model.load_model(known, Shard.own(data.num_items))
    count = evaluation._count_views

    def fails(*arguments: Any) -> Any:
        if parallel.job().rank == 1:
            raise ValueError("no numbers here")
        return count(*arguments)

    protocol = replace(saved.protocol, budget_bytes=4000)
    with (
        mock.patch.object(evaluation, "_count_views", fails),
        pytest.raises(ValueError, match="numbers") as raised,
    ):
        evaluation.evaluate(saved.model, data.test, protocol)
    return str(raised.value)


def test_an_error_of_one_process_is_that_of_all(tmp_path: Path, three: ProcessGroup) -> None:
    train("sasrec", tmp_path / "run")
    assert three.run(failing_evaluation, tmp_path / "run") == ["no numbers here"] * 3


@pytest.mark.parametrize("total", [1, 5, 40_000])
def test_rows_are_drawn_as_those_of_the_whole_table(total: int) -> None:
    for fill in (lambda rows: rows.normal_(std=0.02), lambda rows: rows.uniform_(-1, 1)):
        torch.manual_seed(3)
        whole = torch.empty(total, 7)
        fill_rows(whole, None, fill)
        following = torch.rand(2)
        for first, stop in ((0, total // 3), (total // 3, total)):
            torch.manual_seed(3)
            own = torch.empty(stop - first, 7)
            fill_rows(own, Shard(first, stop, total), fill)
            assert torch.equal(own, whole[first:stop])
            assert torch.equal(torch.rand(2), following)

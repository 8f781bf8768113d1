"""Trainings whose item tables are divided among processes: files, checkpoints, models and gradients."""

from __future__ import annotations

import os
import resource
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any
from unittest import mock

import pytest
import torch
from job_runs import train
from process_group import ProcessGroup
from safetensors.torch import save_file
from torch import Tensor, nn
from worlds import NUM_ITEMS, small_dataset, text_like_vectors

from alterrec import parallel, tensor_files
from alterrec.errors import InputError
from alterrec.evaluation.evaluate import Protocol
from alterrec.models.base import Recommender
from alterrec.models.catalogue import build_model
from alterrec.models.parts import ModelInputs
from alterrec.nn.item_encoders import IdTable, divided_tensors
from alterrec.recipe import Recipe, dump_recipe, resolve
from alterrec.runs.model_files import save_model
from alterrec.runs.saved_model import load
from alterrec.shards import Shard
from alterrec.tensor_files import CHECKSUM, read_tensors, write_tensors
from alterrec.training.checkpoint import PartialEpoch, TrainingState
from alterrec.training.gradients import ALONE, GradientSum
from alterrec.training.optimisers import NetworkOptimiser
from alterrec.training.trainer import Trainer, parameters_of, set_parameters

METADATA = {"weights": '{"id": 0.5}', "seen": '"kept"'}
RULES = ("adam", "lazy_adam", "rowwise_adagrad")


@pytest.fixture(scope="module")
def run() -> Iterator[Callable[..., list[Any]]]:
    """Run a function in 1, 2 or 3 processes."""
    with ProcessGroup(2) as two, ProcessGroup(3) as three:

        def in_processes(world: int, function: Callable[..., Any], *arguments: Any) -> list[Any]:
            groups = {2: two, 3: three}
            return groups[world].run(function, *arguments) if world > 1 else [function(*arguments)]

        yield in_processes


def drawn(shape: tuple[int, ...], kind: torch.dtype, seed: int = 0) -> Tensor:
    values = torch.randint(0, 100, shape, generator=torch.Generator().manual_seed(seed))
    return values.to(kind)


def whole_tensors(rows: int) -> dict[str, Tensor]:
    """Divided ones, in whose names is a ``/``, and others."""
    return {
        "table/vectors": drawn((rows, 5), torch.float16, 1),
        "table/sums": drawn((rows,), torch.float32, 2),
        "table/values": drawn((rows, 2, 3), torch.int64, 3),
        "table/nothing": drawn((rows, 0), torch.float32),
        "bias": drawn((4,), torch.float32, 4),
        "step": torch.tensor(7.0),
    }


def own_rows(rows: int) -> tuple[dict[str, Tensor], dict[str, Shard]]:
    """Return the tensors as this process has them."""
    whole = whole_tensors(rows)
    shards = {name: Shard.own(rows) for name in whole if "/" in name}
    return {
        name: value[shards[name].rows] if name in shards else value for name, value in whole.items()
    }, shards


def write_together(path: Path, rows: int, part: int = 16) -> str:
    """Write a file in all processes; return the message of what is raised."""
    tensors, shards = own_rows(rows)
    try:
        with mock.patch.object(tensor_files, "PART", part):
            write_tensors(path, tensors, METADATA, shards)
    except InputError as error:
        return str(error)
    return ""


def read_own(path: Path, rows: int) -> bool | str:
    """Whether every process reads its own rows alone, or the message of what is raised."""
    expected, shards = own_rows(rows)
    try:
        found, metadata = parallel.in_each(lambda: read_tensors(path, shards=shards))
    except InputError as error:
        return str(error)
    same = all(torch.equal(found[name], value) for name, value in expected.items())
    stored = all(value.untyped_storage().nbytes() == value.nbytes for value in found.values())
    return same and stored and metadata == METADATA and found.keys() == expected.keys()


@pytest.mark.parametrize("rows", [1, 2, 7, 30])
def test_processes_write_the_file_of_one(rows: int, tmp_path: Path, run: Callable[..., list[Any]]) -> None:
    """Also where a process has no row, and one value has more bytes than a part has room for."""
    alone = tmp_path / "alone"
    write_tensors(alone, whole_tensors(rows), METADATA)
    assert read_own(alone, rows) is True
    assert not write_together(tmp_path / "one", rows)
    assert (tmp_path / "one").read_bytes() == alone.read_bytes()
    for world in (2, 3):
        path = tmp_path / f"{world}"
        assert run(world, write_together, path, rows) == [""] * world
        assert path.read_bytes() == alone.read_bytes()
        assert run(world, read_own, path, rows) == [True] * world
    assert len(list(tmp_path.iterdir())) == 4


def write_rank(path: Path) -> None:
    write_tensors(path, {"rank": torch.tensor(parallel.job().rank)}, {})


def test_the_first_process_writes_whole_tensors(tmp_path: Path, run: Callable[..., list[Any]]) -> None:
    run(2, write_rank, tmp_path / "file")
    assert read_tensors(tmp_path / "file")[0]["rank"] == 0


def refuse(*_: object) -> None:
    raise OSError(28, "No space left on device")


def write_with(failure: Callable[[], Any], path: Path, rows: int) -> str:
    """Write together, with a failure in the first process."""
    if not parallel.job().is_first:
        return write_together(path, rows, 4096)
    with failure():
        return write_together(path, rows, 4096)


class Limit:
    """The system refuses to write beyond a size of files."""

    def __init__(self, size: int) -> None:
        self.size = size

    def __call__(self) -> Limit:
        return self

    def __enter__(self) -> None:
        self.old = resource.getrlimit(resource.RLIMIT_FSIZE)
        resource.setrlimit(resource.RLIMIT_FSIZE, (self.size, self.old[1]))

    def __exit__(self, *_: object) -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, self.old)


def no_fsync() -> Any:
    return mock.patch.object(os, "fsync", refuse)


def no_rename() -> Any:
    return mock.patch.object(os, "replace", refuse)


def no_mode() -> Any:
    return mock.patch.object(Path, "chmod", refuse)


def no_temporary() -> Any:
    return mock.patch.object(Path, "touch", refuse)


def no_header() -> Any:
    return mock.patch.object(tensor_files, "_header", refuse)


@pytest.mark.parametrize("world", [1, 2, 3])
def test_what_fails_in_the_first_process_is_raised_in_all(
    world: int, tmp_path: Path, run: Callable[..., list[Any]]
) -> None:
    """The old file is there, nothing else, and the processes go on together."""
    path, rows = tmp_path / "file", 1000
    write_tensors(path, whole_tensors(10), METADATA)
    old, new = path.read_bytes(), tmp_path / "new"
    write_tensors(new, whole_tensors(rows), METADATA)
    size = new.stat().st_size

    limits = [Limit(bytes_) for bytes_ in (0, 8, 500, *range(4000, size, 5000), size - 1)]
    for failure in (*limits, no_fsync, no_rename, no_mode, no_temporary, no_header):
        messages = run(world, write_with, failure, path, rows)
        reason = "it would be larger than the limit" if failure in limits else "the disk is full"
        assert len({*messages}) == 1
        assert messages[0].startswith(f"{path}: cannot be written: {reason}")
        assert path.read_bytes() == old
        assert {each.name for each in tmp_path.iterdir()} == {"file", "new"}
    assert run(world, write_with, Limit(size), path, rows) == [""] * world
    assert path.read_bytes() == new.read_bytes()


def test_what_is_damaged_in_one_process_is_refused_in_all(
    tmp_path: Path, run: Callable[..., list[Any]]
) -> None:
    path, rows = tmp_path / "file", 30
    whole = whole_tensors(rows)
    # The rows of the last process.
    whole["table/sums"][-1] = torch.nan
    write_tensors(path, whole, METADATA)
    for world in (2, 3):
        messages = run(world, read_own, path, rows)
        assert messages == [messages[0]] * world
        assert messages[0].startswith(f"{path} has values that are not finite in table/sums")
        # Another catalogue, with more items or fewer.
        for other in (29, 31):
            write_tensors(path, whole_tensors(other), METADATA)
            for message in run(world, read_own, path, rows):
                assert f"has shape ({other}" in message
                assert "but there are 30 items" in message
        write_tensors(path, whole, METADATA)


def test_flipped_bytes_of_a_header_are_refused_or_harmless(tmp_path: Path) -> None:
    """What is read has the shapes that were asked for, whatever the header says."""
    path, rows = tmp_path / "file", 7
    write_tensors(path, whole_tensors(rows), METADATA)
    content, shards = path.read_bytes(), {name: Shard(2, 5, 7) for name in whole_tensors(rows) if "/" in name}
    header = 8 + int.from_bytes(content[:8], "little")
    refused = 0
    for place in range(0, header, 5):
        changed = bytearray(content)
        changed[place] ^= 1 << place % 7
        path.write_bytes(changed)
        try:
            found, _ = read_tensors(path, shards=shards)
        except InputError:
            refused += 1
            continue
        assert all(len(found[name]) == 3 for name in shards if name in found)
    assert refused > header / 10
    for size in range(0, len(content), 40):
        path.write_bytes(content[:size])
        with pytest.raises(InputError):
            read_tensors(path, shards=shards)


def recipe_of(rule: str) -> Recipe:
    return resolve("alterrec", overrides={"model.dim": 8, "id.optimiser": rule})


def model_of(recipe: Recipe, divided: bool) -> Recommender:
    torch.manual_seed(0)
    inputs = ModelInputs(
        NUM_ITEMS,
        torch.from_numpy(text_like_vectors()),
        torch.ones(NUM_ITEMS, dtype=torch.bool),
        shard=Shard.own(NUM_ITEMS) if divided else None,
    )
    model: Recommender = build_model(recipe, inputs)
    assert len(divided_tensors(model)) == 2 * divided
    return model


def trainer_of(model: Recommender, recipe: Recipe, path: Path) -> Trainer:
    return Trainer(model, recipe, (), small_dataset().train, dict, path, fingerprint="data")


def own(model: nn.Module, values: dict[str, Tensor]) -> dict[str, Tensor]:
    """Return the values of which this process has some rows, or all."""
    shards = divided_tensors(model)
    return {name: value[shards[name].rows] if name in shards else value for name, value in values.items()}


def values_of(recipe: Recipe, seed: int) -> dict[str, Tensor]:
    """Values of all parameters."""
    torch.manual_seed(seed)
    return {name: torch.randn(value.shape) for name, value in model_of(recipe, False).named_parameters()}


def save_state(path: Path, rule: str, divided: bool) -> None:
    """Save the state within an epoch, with three different sets of parameters, after two steps."""
    recipe = recipe_of(rule)
    model = model_of(recipe, divided)
    trainer = trainer_of(model, recipe, path)
    optimisers = {name: trainer._optimiser(name) for name in model.networks}
    for seed in (1, 2):
        for name, gradient in own(model, values_of(recipe, seed)).items():
            model.get_parameter(name).grad = gradient.clone()
        for optimiser in optimisers.values():
            optimiser.step()
    state = TrainingState(
        dump_recipe(recipe),
        "data",
        epoch=3,
        best_epoch=2,
        parameters=own(model, values_of(recipe, 3)),
        best=own(model, values_of(recipe, 4)),
        optimisers={name: optimiser.tensors() for name, optimiser in optimisers.items()},
        partial=PartialEpoch(5, 50, 0.5, torch.arange(5.0), parameters_of(model)),
    )
    trainer._save(state)


def resume_and_save(path: Path, out: Path, rule: str, divided: bool) -> str:
    """Resume from one file and write what this process got into another one, both of it by the trainer."""
    recipe = recipe_of(rule)
    model = model_of(recipe, divided)
    trainer = trainer_of(model, recipe, path)
    optimisers = {name: trainer._optimiser(name) for name in model.networks}
    try:
        state = trainer._resumed(optimisers)
    except InputError as error:
        return str(error)
    assert all(
        torch.equal(model.get_parameter(name), value)
        for name, value in own(model, values_of(recipe, 3)).items()
    )
    assert state.partial
    within = state.partial.parameters
    set_parameters(model, within)
    moments = {name: optimiser.tensors() for name, optimiser in optimisers.items()}
    trainer.checkpoint = out
    trainer._save(
        replace(state, optimisers=moments, partial=replace(state.partial, parameters=parameters_of(model)))
    )
    return ""


@pytest.mark.parametrize("rule", RULES)
def test_what_some_processes_save_others_resume(
    rule: str, tmp_path: Path, run: Callable[..., list[Any]]
) -> None:
    """With divided tables and without; every file has the same bytes."""
    whole, out = tmp_path / "whole", tmp_path / "out"
    save_state(whole, rule, divided=False)
    names = read_tensors(whole)[0].keys()
    kinds = {name.split("/")[0] for name in names}
    assert kinds == {"parameters", "best", "optimiser", "partial"}
    for before in (1, 2, 3):
        saved = tmp_path / f"{before}"
        run(before, save_state, saved, rule, True)
        assert saved.read_bytes() == whole.read_bytes()
    for after in (1, 2, 3):
        for divided in (False, True):
            assert run(after, resume_and_save, whole, out, rule, divided) == [""] * after
            assert out.read_bytes() == whole.read_bytes()
            out.unlink()


def damaged(path: Path, name: str, change: Callable[[Tensor], Tensor | None]) -> None:
    """Change a tensor of a file, or leave it out."""
    tensors, metadata = read_tensors(path)
    changed = change(tensors.pop(name))
    # Written as by a version without checksums.
    metadata.pop(CHECKSUM, None)
    save_file(tensors if changed is None else tensors | {name: changed}, path, metadata)


@pytest.mark.parametrize("world", [1, 2, 3])
def test_files_that_are_damaged_or_of_another_catalogue_are_refused_in_all_processes(
    world: int, tmp_path: Path, run: Callable[..., list[Any]]
) -> None:
    path, out, rule = tmp_path / "file", tmp_path / "out", "adam"
    save_state(path, rule, divided=False)
    content = path.read_bytes()
    tables = [name for name, value in read_tensors(path)[0].items() if value.shape == (NUM_ITEMS, 8)]
    assert len(tables) == 5  # parameters, best, partial, and two moments

    def refused(expected: str) -> None:
        """Each process says so, and the file is as before."""
        messages = run(world, resume_and_save, path, out, rule, True)
        assert all(expected in message for message in messages), messages
        assert not out.exists()
        path.write_bytes(content)

    for name in tables:
        damaged(path, name, lambda table: torch.cat([table, table[:1]]))
        refused(f"{name} has shape (41, 8), but there are 40 items")
        damaged(path, name, lambda table: table.index_fill(0, torch.tensor([NUM_ITEMS - 1]), torch.inf))
        refused(f"has values that are not finite in {name}")
        if not name.startswith("best/"):  # which is not used before the end of the training
            damaged(path, name, lambda table: table[:, 1:].contiguous())
            refused("is damaged")
    damaged(path, "parameters/networks.id.items.rows_VD", lambda _: None)
    refused("is damaged")
    for size in (0, 7, 100, len(content) // 2, len(content) - 1):
        path.write_bytes(content[:size])
        refused("is damaged")
    path.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    refused("has changed since it was written: its checksum differs")
    path.unlink()
    refused("there is no checkpoint")


def save_divided_model(folder: Path, divided: bool) -> None:
    recipe = recipe_of("adam")
    save_model(folder, model_of(recipe, divided).eval(), Protocol("last", "kept", 50))


def test_processes_write_the_model_of_one(tmp_path: Path, run: Callable[..., list[Any]]) -> None:
    save_divided_model(tmp_path, divided=False)
    path = tmp_path / "model.safetensors"
    alone = path.read_bytes()
    for world in (1, 2, 3):
        path.unlink()
        run(world, save_divided_model, tmp_path, True)
        assert path.read_bytes() == alone


def train_without(file: str, out: Path) -> str:
    """Train with divided tables; the disk of the first process is full when it writes one of the files."""
    write = tensor_files.atomic_write

    @contextmanager
    def full(path: Path) -> Iterator[Path]:
        with write(path) as temporary:
            yield temporary
            if path.name == file and parallel.job().is_first:
                refuse()

    with mock.patch.object(tensor_files, "atomic_write", full):
        try:
            train("sasrec", out, {"run.shard_items": True})
        except InputError as error:
            return str(error)
    return ""


def test_a_full_disk_ends_all_processes_and_the_run_resumes(
    tmp_path: Path, run: Callable[..., list[Any]]
) -> None:
    """Before the first checkpoint, and with the checkpoint of the last epoch."""
    checkpoint, model = tmp_path / "checkpoint" / "progress.safetensors", tmp_path / "model.safetensors"
    for path in (checkpoint, model):
        messages = run(2, train_without, path.name, tmp_path)
        assert messages == [messages[0]] * 2
        assert f"{path.name}: cannot be written: the disk is full" in messages[0]
        assert [checkpoint.exists(), model.exists()] == [path == model, False]
    assert run(2, train_without, "", tmp_path) == ["", ""]
    assert len(load(tmp_path).vocabulary) == NUM_ITEMS


def summed(
    sparse: bool, others: bool, rank_without: int
) -> tuple[tuple[bool, bool], list[float], list[list[float]], float]:
    """Add up gradients of a table of 5 rows and of one weight; return the flags, both and Adam's steps."""
    shard, rank = Shard.own(5), parallel.job().rank
    table = IdTable(5, 2, norm=False, sparse=sparse, shard=shard)
    network = nn.Sequential(table, nn.Linear(1, 1, bias=False) if others else nn.Identity())
    gradients, optimiser = (
        GradientSum(network),
        NetworkOptimiser(network, "lazy_adam" if sparse else "adam", 1.0),
    )
    if others:
        network[1].weight.grad = torch.full((1, 1), 10.0**rank)
    rows = torch.full((shard.size, 2), float(rank + 1))
    if rank != rank_without:
        table.rows_VD.grad = rows.to_sparse(1) if sparse else rows
    asked = gradients.add_up(wanted=rank == 1, stopped=rank == 0)
    gradient = table.rows_VD.grad
    assert gradient is not None
    weight = network[1].weight.grad.flatten().tolist() if others else []
    found = gradient.to_dense().tolist()
    optimiser.step()
    return asked, weight, found, float(optimiser.tensors()[0]["step"])


@pytest.mark.parametrize("sparse", [False, True])
@pytest.mark.parametrize("others", [False, True])
def test_gradients_of_divided_tables_stay(sparse: bool, others: bool, run: Callable[..., list[Any]]) -> None:
    """Where a process has none, there are zeros: its moments decay, and all count the same steps."""
    sizes = {2: [2, 3], 3: [1, 2, 2]}
    for world, rows in sizes.items():
        for without in (-1, 0, 1):
            for rank, found in enumerate(run(world, summed, sparse, others, without)):
                asked, weight, gradient, steps = found
                assert asked == (True, True)
                assert weight == ([sum(10.0**each for each in range(world))] if others else [])
                value = 0.0 if rank == without else rank + 1.0
                assert gradient == [[value, value]] * rows[rank]
                assert steps == 1


def summed_large() -> bool:
    """Whether a divided table keeps its gradient; tables of so many rows are sent alone if they are whole."""
    shard = Shard.own(ALONE)
    table = IdTable(ALONE, 4, norm=False, shard=shard)
    table.rows_VD.grad = torch.full_like(table.rows_VD, parallel.job().rank + 1.0)
    GradientSum(table).add_up(wanted=False, stopped=False)
    return bool((table.rows_VD.grad == parallel.job().rank + 1.0).all())


def test_a_large_table_is_not_sent(run: Callable[..., list[Any]]) -> None:
    assert run(2, summed_large) == [True, True]

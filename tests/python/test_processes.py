"""Several processes train and measure as one: the same samples, draws, losses, counts and files."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import pytest
import torch
from job_runs import check_same, counts_of, losses, train
from process_group import ProcessGroup

from alterrec import parallel
from alterrec.errors import InputError
from alterrec.models.catalogue import MODELS, lookup
from alterrec.serving import blocks
from alterrec.serving.batch import recommend_file

# One of each kind, and the others in `make torture`: they differ in settings alone.
KINDS = ("alterrec", "alterrec_random", "nfrec_concat", "gru4rec", "core", "sasrec", "srgnn", "hggnn", "fdsa")
KINDS += ("unisrec", "bert4rec", "s3rec")
TRAINED = [
    name if name in KINDS else pytest.param(name, marks=pytest.mark.torture)
    for name in MODELS
    if lookup(name).trains and name != "unisrec_pretrained"
]

RANDOM = {"schedule.negatives": "random", "schedule.warmup_negatives": "random", "window.sample": 6}


@pytest.fixture(scope="module")
def two() -> Iterator[ProcessGroup]:
    with ProcessGroup(2) as group:
        yield group


@pytest.fixture(scope="module")
def four() -> Iterator[ProcessGroup]:
    with ProcessGroup(4) as group:
        yield group


@pytest.mark.parametrize("system", ["alterrec", "nfrec_concat", "sasrec", "unisrec", "srgnn", "itemknn"])
def test_counts_of_a_run_are_the_same_to_the_last_integer(
    system: str, tmp_path: Path, two: ProcessGroup, four: ProcessGroup
) -> None:
    train(system, tmp_path / "run")
    alone = counts_of(tmp_path / "run")
    for group in (two, four):
        for divided in (False, True):
            for counts in group.run(counts_of, tmp_path / "run", divided):
                assert all(np.array_equal(one, other) for one, other in zip(counts, alone, strict=True))


@pytest.mark.parametrize("system", TRAINED)
def test_every_system_learns_the_same_in_two_processes(
    system: str, tmp_path: Path, two: ProcessGroup
) -> None:
    settings = {"schedule.pretrain": 1} if lookup(system).pretrains else {}
    train(system, tmp_path / "alone", settings)
    first, second = two.run(train, system, tmp_path / "run", settings)
    check_same(tmp_path / "run", tmp_path / "alone")
    assert first == second
    assert first["processes"] == len(first["process_peak_memory_bytes"]) == 2


@pytest.mark.parametrize(
    ("system", "settings"),
    [
        ("alterrec", {"window.sample": 4}),
        ("alterrec", {"window.pool": 20}),
        ("alterrec", {"id.queries": "one", "text.queries": "one", "window.precision": "float16"}),
        ("id_only", RANDOM | {"id.optimiser": "lazy_adam"}),
        ("id_only", RANDOM | {"id.optimiser": "rowwise_adagrad"}),
    ],
)
def test_candidates_and_optimisers_are_the_same(
    system: str, settings: dict[str, Any], tmp_path: Path, two: ProcessGroup
) -> None:
    train(system, tmp_path / "alone", settings)
    two.run(train, system, tmp_path / "run", settings)
    check_same(tmp_path / "run", tmp_path / "alone")


def test_batches_with_fewer_samples_than_processes(tmp_path: Path, four: ProcessGroup) -> None:
    settings = {"optim.batch_size": 3, "model.dropout": 0.3}
    for system in ("sasrec", "bert4rec"):
        train(system, tmp_path / system / "alone", settings)
        four.run(train, system, tmp_path / system / "run", settings)
        check_same(tmp_path / system / "run", tmp_path / system / "alone")


@pytest.mark.parametrize(("before", "after"), [(1, 2), (2, 1), (2, 2), (2, 4), (4, 1)])
def test_a_run_continues_with_another_number_of_processes(
    before: int, after: int, tmp_path: Path, two: ProcessGroup, four: ProcessGroup
) -> None:
    """From the middle of its second epoch."""

    def train_in(world: int, *arguments: Any) -> Any:
        return train(*arguments) if world == 1 else {2: two, 4: four}[world].run(train, *arguments)

    settings = {"schedule.epochs": 2, "model.dropout": 0.3}
    train("sasrec", tmp_path / "alone", settings)
    epoch = len(losses(tmp_path / "alone"))
    assert epoch == 2
    train_in(before, "sasrec", tmp_path / "run", settings, 4)
    assert not (tmp_path / "run" / "result.json").exists()
    train_in(after, "sasrec", tmp_path / "run", settings)
    check_same(tmp_path / "run", tmp_path / "alone")


def answered(run: Path, sessions: Path, out: Path, stop_after: int | None = None) -> str:
    """Recommend for a file in blocks of 4 sessions; what ends the command is returned as a text."""

    def stop(done: int, total: int | None) -> None:
        if done == stop_after:
            raise KeyboardInterrupt

    with mock.patch.object(blocks, "BLOCK", 4):
        try:
            recommend_file(run, sessions, out, k=3, progress=stop)
        except (KeyboardInterrupt, InputError) as error:
            return str(error)
    return ""


def lines_of(sessions: int) -> str:
    """Sessions of the ring in lines of JSON, one of them of an unknown item."""
    items = [[f"item{n % 12:02d}", f"item{(n + 1) % 12:02d}"] for n in range(sessions)]
    items[5] = ["unknown"]
    return "".join(json.dumps({"session_id": f"s{n}", "items": own}) + "\n" for n, own in enumerate(items))


def test_recommendations_for_a_file_are_the_same(tmp_path: Path, two: ProcessGroup) -> None:
    """Also after an interruption, with another number of processes."""
    train("sasrec", tmp_path / "run")
    sessions, alone, shared = tmp_path / "now.jsonl", tmp_path / "alone.csv", tmp_path / "shared.csv"
    sessions.write_text(lines_of(30))  # 8 blocks, the last one of 2 sessions
    assert not answered(tmp_path / "run", sessions, alone)
    assert alone.read_text().count("popular") == 3
    assert two.run(answered, tmp_path / "run", sessions, shared) == ["", ""]
    assert shared.read_bytes() == alone.read_bytes()
    shared.unlink()
    assert answered(tmp_path / "run", sessions, shared, 12) == (
        "12 sessions are answered; the same command continues"
    )
    assert two.run(answered, tmp_path / "run", sessions, shared) == ["", ""]
    assert shared.read_bytes() == alone.read_bytes()


def test_sessions_that_cannot_be_read_end_all_processes(tmp_path: Path, two: ProcessGroup) -> None:
    train("sasrec", tmp_path / "run")
    sessions = tmp_path / "now.jsonl"
    sessions.write_text(lines_of(12) + "no session\n")
    first, second = two.run(answered, tmp_path / "run", sessions, tmp_path / "best.csv")
    assert first == second
    assert "line 13" in first


def collectives(rank_that_fails: int) -> tuple[Any, ...]:
    """What the functions return in this process."""
    rank = parallel.job().rank
    own = torch.arange(5.0)[parallel.share(5), None].requires_grad_()
    whole = parallel.joined(own, 5)
    # The loss of each process reads all vectors, so gradients come from all processes.
    ((rank + 1) * (whole.squeeze() * torch.arange(5.0)).sum()).backward()

    def failing() -> list[int]:
        if rank == rank_that_fails:
            raise InputError("no")
        return [10 * number for number in parallel.turns(5)]

    try:
        ordered: Any = list(parallel.in_order(failing))
    except InputError as error:
        ordered = str(error)
    try:
        first = parallel.from_first(lambda: failing() and rank)
    except InputError as error:
        first = str(error)
    total = parallel.add_up(torch.tensor([rank + 1, 1]))
    mean = parallel.mean_of_all(torch.tensor(float(rank)), rank, 5) * parallel.weight(5)
    return (
        whole.flatten().tolist(),
        own.grad.flatten().tolist(),
        ordered,
        first,
        total.tolist(),
        float(parallel.add_up(mean)),
        list(parallel.of_each(rank + 7)),
    )


def test_collectives_by_hand(two: ProcessGroup) -> None:
    for rank, found in enumerate(two.run(collectives, -1)):
        own = [[0, 3], [6, 9, 12]][rank]  # 1 + 2 times the place
        assert found == ([0, 1, 2, 3, 4], own, [0, 10, 20, 30, 40], 0, [3, 2], 1.0, [7, 8])


@pytest.mark.parametrize("rank", [0, 1])
def test_what_one_process_raises_is_raised_in_all(rank: int, two: ProcessGroup) -> None:
    for found in two.run(collectives, rank):
        assert found[2:4] == ("no", "no" if rank == 0 else 0)

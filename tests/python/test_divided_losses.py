"""Losses of divided tables, their gradients and their scores, against those of whole tables."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import torch
from process_group import ProcessGroup
from torch import Tensor

from alterrec import parallel
from alterrec.nn.divided_losses import divided_cross_entropy, divided_mixture_cross_entropy
from alterrec.nn.divided_mixtures import whole_mixtures
from alterrec.nn.divided_scores import own_share, whole_scores
from alterrec.nn.losses import ScoreBuffer, candidate_cross_entropy
from alterrec.nn.mixtures import QueryBatch, distinct, mixture_cross_entropy, mixture_log_probabilities
from alterrec.shards import Shard

FORMS = ("whole", "window", "drawn")


@pytest.fixture(scope="module", params=[2, 3])
def group(request: pytest.FixtureRequest) -> Iterator[ProcessGroup]:
    with ProcessGroup(request.param) as started:
        yield started


def own_bits(bits: Tensor, shard: Shard) -> Tensor:
    mask = np.unpackbits(bits.numpy(), axis=1, bitorder="little")[:, shard.first : shard.stop]
    return torch.from_numpy(np.packbits(mask, axis=1, bitorder="little"))


def drawn_case(seed: int, form: str, dtype: torch.dtype) -> tuple[Any, ...]:
    """Vectors, table and supervision with few different values, so that scores tie."""
    draw = np.random.default_rng(seed)
    count, items, width, most = draw.integers(1, 9), draw.integers(2, 30), 4, draw.integers(1, 4)
    vectors, table = (
        torch.from_numpy(draw.integers(-2, 3, (rows, width))).to(dtype) / 2 for rows in (count, items)
    )
    positives = torch.from_numpy(draw.integers(0, items, (count, most)))
    weights = torch.from_numpy(draw.random(most)).to(dtype)
    exclude = torch.from_numpy(draw.integers(-1, items, (count, 3)))
    candidates = None
    if form == "drawn":
        candidates = torch.from_numpy(draw.integers(-1, items, (count, 6)))
    if form == "window":
        mask = draw.random((count, items)) < draw.choice([0.0, 0.3, 1.0])
        candidates = torch.from_numpy(np.packbits(mask, axis=1, bitorder="little"))
    return vectors, table, positives, weights, candidates, exclude if draw.random() < 0.5 else None


def cross_entropies(seed: int, form: str, dtype: torch.dtype, each: float) -> list[list[Tensor]]:
    """Return loss and gradients of the whole table, and those of divided ones put together."""
    vectors, table, positives, weights, candidates, exclude = drawn_case(seed, form, dtype)
    whole = vectors.clone().requires_grad_(), table.clone().requires_grad_()
    loss = candidate_cross_entropy(
        *whole, positives, weights, candidates, exclude, each=each, buffer=ScoreBuffer(4)
    )
    loss.backward()
    shard = Shard.own(len(table))
    if candidates is not None and candidates.dtype == torch.uint8:
        candidates = own_bits(candidates, shard)
    own = vectors.clone().requires_grad_(), table[shard.rows].clone().requires_grad_()
    part = divided_cross_entropy(
        *own, positives, weights, candidates, exclude, each=each, buffer=ScoreBuffer(4), shard=shard
    )
    part.backward()
    rows = torch.zeros_like(table)
    rows[shard.rows] = own[1].grad
    found = [part.detach(), own[0].grad, rows]
    return [[loss.detach(), whole[0].grad, whole[1].grad], list(map(parallel.add_up, found))]


def mixtures(seed: int, form: str, dtype: torch.dtype) -> list[list[Tensor]]:
    draw = np.random.default_rng(seed)
    count, items, most = (int(draw.integers(low, high)) for low, high in ((1, 9), (3, 30), (1, 3)))
    sessions = draw.integers(0, items, (count, 3))
    sessions[draw.random(sessions.shape) < 0.3] = -1
    found, rows = distinct(sessions, items)
    rows = np.concatenate([len(found) + np.arange(count)[:, None], rows], 1)
    exclude = np.concatenate([np.pad(found[:, None], ((0, 0), (0, 2)), constant_values=-1), sessions])
    size = len(exclude)
    vectors, table = (
        torch.from_numpy(draw.integers(-2, 3, (each, 4))).to(dtype) / 2 for each in (size, items)
    )
    logits = (
        torch.from_numpy(draw.random(rows.shape))
        .to(dtype)
        .masked_fill(torch.from_numpy(rows) < 0, -torch.inf)
    )
    positives = torch.from_numpy(
        np.stack(
            [draw.choice(np.setdiff1d(np.arange(items), each)) for each in sessions for _ in range(most)]
        )
    ).view(count, most)
    weights = torch.from_numpy(draw.random(most)).to(dtype)
    candidates = None
    if form == "drawn":
        candidates = torch.from_numpy(draw.integers(-1, items, (size, 6)))
    if form == "window":
        mask = draw.random((size, items)) < draw.choice([0.0, 0.3, 1.0])
        candidates = torch.from_numpy(np.packbits(mask, axis=1, bitorder="little"))
    excluded = torch.from_numpy(exclude) if draw.random() < 0.7 else None

    def queries(given: Tensor, weighted: Tensor) -> QueryBatch:
        return QueryBatch(given, torch.from_numpy(rows), weighted.log_softmax(1), excluded)

    whole = [each.clone().requires_grad_() for each in (vectors, table, logits)]
    loss = mixture_cross_entropy(
        queries(whole[0], whole[2]), whole[1], positives, weights, candidates, buffer=ScoreBuffer(1)
    )
    loss.backward()
    shard = Shard.own(items)
    if candidates is not None and candidates.dtype == torch.uint8:
        candidates = own_bits(candidates, shard)
    own = [each.clone().requires_grad_() for each in (vectors, table[shard.rows], logits)]
    part = divided_mixture_cross_entropy(
        queries(own[0], own[2]), own[1], positives, weights, candidates, buffer=ScoreBuffer(1), shard=shard
    )
    part.backward()
    together = torch.zeros_like(table)
    together[shard.rows] = own[1].grad
    found_all = [part.detach(), own[0].grad, together, own[2].grad]
    return [[loss.detach(), *(each.grad for each in whole)], list(map(parallel.add_up, found_all))]


def compare(function: Any, seeds: range, *arguments: Any) -> None:
    """In each process: compare what a function returns for whole and divided tables."""
    for seed in seeds:
        for whole, divided in zip(*function(seed, *arguments), strict=True):
            same = torch.allclose(divided, whole, atol=2e-6, rtol=2e-6, equal_nan=True)
            assert same, f"seed {seed}: {whole} and {divided}"


def scores(seed: int, own_samples: bool) -> list[list[Tensor]]:
    """Return the scores of the samples of this process by the whole table, and by divided ones."""
    draw = np.random.default_rng(seed)
    count, items = int(draw.integers(0, 7)), int(draw.integers(1, 9))
    vectors, table = (
        torch.from_numpy(draw.normal(size=(rows, 4)).astype(np.float32)) for rows in (count, items)
    )
    shard, mine = Shard.own(items), own_share(count) if own_samples else slice(0, count)
    own = ScoreBuffer().product(vectors, table[shard.rows])
    found = [whole_scores(own, shard, ScoreBuffer(), "", own_samples=own_samples)]
    wanted = [(vectors @ table.T)[mine]]
    if count and items > 1:
        # Each sample has the query of its own item, and one that all of them have.
        rows = torch.stack([torch.arange(count), torch.full((count,), count)], 1)
        asked = torch.cat([vectors, vectors[:1] * 2])
        exclude = torch.from_numpy(draw.integers(-1, items, (count + 1, 1)))
        queries = QueryBatch(asked, rows, torch.full((count, 2), 0.5).log(), exclude)
        wanted.append(mixture_log_probabilities(queries, table, ScoreBuffer())[mine])
        found.append(
            whole_mixtures(queries, table[shard.rows], ScoreBuffer(), "", shard, own_samples=own_samples)
        )
    return [wanted, found]


@pytest.mark.parametrize("own_samples", [True, False])
def test_scores_of_all_items(group: ProcessGroup, own_samples: bool) -> None:
    """Also for fewer samples or items than processes."""
    group.run(compare, scores, range(25), own_samples)


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("each", [1.0, 2.5])
def test_the_loss_of_candidates(group: ProcessGroup, form: str, each: float) -> None:
    group.run(compare, cross_entropies, range(25), form, torch.float32, each)


@pytest.mark.parametrize("form", FORMS)
def test_the_loss_of_several_queries(group: ProcessGroup, form: str) -> None:
    group.run(compare, mixtures, range(25), form, torch.float32)


def small_losses(seed: int) -> list[list[Tensor]]:
    """Return the gradients of samples whose target has nearly the whole probability, in bfloat16."""
    draw = torch.Generator().manual_seed(seed)
    table = torch.randn(40, 16, generator=draw).to(torch.bfloat16)
    targets = torch.randint(0, 40, (12,), generator=draw)
    shard, found = Shard.own(40), []
    for divided in (False, True):
        vectors = (table[targets] * 1.2).clone().requires_grad_()
        rows = table[shard.rows if divided else slice(None)].clone().requires_grad_()
        loss = divided_cross_entropy if divided else candidate_cross_entropy
        more = {"shard": shard} if divided else {}
        loss(vectors, rows, targets[:, None], torch.ones(1), None, **more).backward()
        gradient = vectors.grad.float()
        found.append([parallel.add_up(gradient) if divided else gradient])
    size = found[0][0].norm()
    return [[each / size for each in gradients] for gradients in found]


def test_small_gradients_in_half_precision(group: ProcessGroup) -> None:
    """The gradients of softmax and target nearly cancel; apart, each has a rounding error of its own size."""
    group.run(compare_roughly, range(10))


def compare_roughly(seeds: range) -> None:
    for seed in seeds:
        (whole,), (divided,) = small_losses(seed)
        assert (divided - whole).norm() < 0.1

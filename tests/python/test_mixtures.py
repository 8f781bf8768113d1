"""Queries of a session: the mixture of softmaxes, its loss and its place in networks."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor
from worlds import NUM_ITEMS

from alterrec.models.base import Network, Recommender, separate_parts
from alterrec.models.batches import SessionBatch
from alterrec.models.catalogue import build_model
from alterrec.models.parts import ModelInputs
from alterrec.nn.losses import ScoreBuffer
from alterrec.nn.mixtures import (
    Queries,
    QueryBatch,
    by_distance,
    distinct,
    mixture_cross_entropy,
    mixture_log_probabilities,
)
from alterrec.recipe import resolve

TRAINED = torch.ones(NUM_ITEMS, dtype=torch.bool)


def queries_of(seed: int, samples: int, queries: int, most: int, dim: int, items: int) -> QueryBatch:
    """Random queries; each sample has 1 to ``most`` of them, and query q does not have the candidate q."""
    rng = np.random.default_rng(seed)
    lengths = rng.integers(1, most + 1, samples)
    rows = np.where(np.arange(most) < lengths[:, None], rng.integers(0, queries, (samples, most)), -1)
    logits = torch.from_numpy(rng.normal(size=(samples, most)))
    logits = logits.masked_fill(torch.from_numpy(rows) < 0, -torch.inf)
    vectors = torch.from_numpy(rng.normal(size=(queries, dim)) * 2).float()
    exclude = torch.arange(queries)[:, None] % items
    return QueryBatch(vectors, torch.from_numpy(rows), logits.log_softmax(1).float(), exclude)


def plain_probabilities(queries: QueryBatch, table_VD: Tensor, allowed_QV: Tensor | None = None) -> Tensor:
    """The mixture (N, V) as the formula says it, in float64 and with autograd through every operation."""
    scores_QV = queries.vectors_QD.double() @ table_VD.double().T
    allowed_QV = torch.ones_like(scores_QV, dtype=torch.bool) if allowed_QV is None else allowed_QV.clone()
    if queries.exclude_QE is not None:
        for row, excluded in enumerate(queries.exclude_QE.tolist()):
            allowed_QV[row, [item for item in excluded if item >= 0]] = False
    softmax_QV = scores_QV.masked_fill(~allowed_QV, -torch.inf).softmax(1)
    rows = []
    for row_J, log_weights_J in zip(queries.rows_NJ, queries.log_weights_NJ.double(), strict=True):
        real = row_J >= 0
        rows.append(log_weights_J[real].exp() @ softmax_QV[row_J[real]])
    return torch.stack(rows)


def targets_for(queries: QueryBatch, items: int, columns: int, seed: int) -> Tensor:
    """Positives that every query of their sample may have as candidates."""
    rng = np.random.default_rng(seed)
    drawn = rng.integers(0, items, (len(queries.rows_NJ), columns))
    for sample, row_J in enumerate(queries.rows_NJ.tolist()):
        for column in range(columns):
            while drawn[sample, column] in [row % items for row in row_J if row >= 0]:
                drawn[sample, column] = (drawn[sample, column] + 1) % items
    return torch.from_numpy(drawn)


def test_the_mixture_worked_by_hand() -> None:
    # Item 0 asks for items 1 and 2 with scores 0 and log 3, item 1 for items 0 and 2 with scores 0 and 0.
    table = torch.tensor([[0.0, 0.0], [0.0, 0.0], [1.0, 0.0]])
    vectors = torch.tensor([[math.log(3), 0.0], [0.0, 1.0]])
    weights = torch.tensor([[0.25, 0.75]]).log()
    queries = QueryBatch(vectors, torch.tensor([[0, 1]]), weights, torch.tensor([[0], [1]]))
    found = mixture_log_probabilities(queries, table, ScoreBuffer()).exp()
    # p(0) = 3/4 * 1/2, p(1) = 1/4 * 1/4, p(2) = 1/4 * 3/4 + 3/4 * 1/2
    torch.testing.assert_close(found, torch.tensor([[0.375, 0.0625, 0.5625]]))


def test_the_gradient_has_responsibilities_as_weights() -> None:
    table = torch.tensor([[0.0], [0.0], [1.0]], requires_grad=True)
    vectors = torch.tensor([[math.log(3)], [0.0]], requires_grad=True)
    queries = QueryBatch(vectors, torch.tensor([[0, 1]]), torch.tensor([[0.25, 0.75]]).log(), None)
    queries = queries._replace(exclude_QE=torch.tensor([[0], [1]]))
    mixture_cross_entropy(queries, table, torch.tensor([[2]]), torch.ones(1)).backward()
    # p_0(2) = 3/4, p_1(2) = 1/2; responsibilities 3/16 : 6/16 = 1/3 : 2/3. The gradient of a score is
    # r (p - 1) at the target, so that of the vectors is -1/3 * 1/4 and -2/3 * 1/2.
    torch.testing.assert_close(vectors.grad, torch.tensor([[-1 / 12], [-1 / 3]]))


@given(
    seed=st.integers(0, 10**6),
    samples=st.integers(1, 7),
    queries=st.integers(1, 9),
    most=st.integers(1, 4),
    columns=st.integers(1, 3),
    kind=st.sampled_from(["all", "ids", "bits"]),
    rows=st.sampled_from([1, 2, 512]),
)
def test_loss_and_gradients_equal_those_of_autograd(
    seed: int, samples: int, queries: int, most: int, columns: int, kind: str, rows: int
) -> None:
    items = 12
    batch = queries_of(seed, samples, queries, most, dim=3, items=items)
    positives = targets_for(batch, items, columns, seed)
    weights = torch.tensor([1.0, 0.5, 0.25])[:columns]
    table = torch.from_numpy(np.random.default_rng(seed + 1).normal(size=(items, 3))).float()
    candidates, allowed = None, torch.ones(queries, items, dtype=torch.bool)
    if kind != "all":
        chosen = torch.from_numpy(np.random.default_rng(seed + 2).integers(0, items, (queries, 4)))
        allowed = torch.zeros(queries, items, dtype=torch.bool).scatter(1, chosen, True)
        candidates = chosen if kind == "ids" else torch.from_numpy(np.packbits(allowed, 1, "little"))
        for row_J, positives_P in zip(batch.rows_NJ.tolist(), positives.tolist(), strict=True):
            for row in row_J:
                if row >= 0:
                    allowed[row, positives_P] = True

    def leaves() -> list[Tensor]:
        return [each.clone().requires_grad_() for each in (batch.vectors_QD, table, batch.log_weights_NJ)]

    own, plain = leaves(), leaves()
    loss = mixture_cross_entropy(
        batch._replace(vectors_QD=own[0], log_weights_NJ=own[2]),
        own[1],
        positives,
        weights,
        candidates,
        ScoreBuffer(rows),
    )
    mixed = plain_probabilities(
        batch._replace(vectors_QD=plain[0], log_weights_NJ=plain[2]), plain[1], allowed
    )
    expected = -(mixed.gather(1, positives).log() @ weights.double()).mean()
    (2 * loss).backward()
    (2 * expected).backward()
    assert loss.item() == pytest.approx(expected.item(), rel=1e-4, abs=1e-5)
    for found, wanted in zip(own, plain, strict=True):
        torch.testing.assert_close(found.grad, wanted.grad.nan_to_num(), rtol=1e-3, atol=1e-5)


@given(
    seed=st.integers(0, 10**6), samples=st.integers(1, 9), queries=st.integers(1, 60), most=st.integers(1, 9)
)
def test_scores_equal_the_formula(seed: int, samples: int, queries: int, most: int) -> None:
    batch = queries_of(seed, samples, queries, most, dim=3, items=12)
    table = torch.from_numpy(np.random.default_rng(seed).normal(size=(12, 3))).float()
    found = mixture_log_probabilities(batch, table, ScoreBuffer())
    smallest = torch.finfo(torch.float32).tiny
    expected = plain_probabilities(batch, table).clamp(min=smallest).log().float()
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)


def test_rows_by_distance() -> None:
    items = np.array([[4, 2, 4], [7, 0, 0]])
    found, rows = distinct(by_distance(items, np.array([3, 1])), 9)
    assert found.tolist() == [2, 4, 7]
    assert rows.tolist() == [[1, 0, 1], [2, -1, -1]]


def test_weights_follow_the_distance_and_the_vector() -> None:
    queries = Queries(max_len=4, vector=True)
    with torch.no_grad():
        queries.logits_L.copy_(torch.tensor([1.0, 2.0, 5.0, 1.0]).log())
        queries.vector_logit.copy_(torch.tensor(3.0).log())
    found = queries.log_weights(torch.tensor([2, 1]), width=3).exp()
    torch.testing.assert_close(found, torch.tensor([[3 / 6, 1 / 6, 2 / 6, 0], [3 / 4, 1 / 4, 0, 0]]))


def network(queries: str, model: str = "id_only", **overrides: Any) -> Network:
    settings = {"id.queries": queries, "model.dim": 8, "model.max_len": 6} | overrides
    torch.manual_seed(3)
    inputs = ModelInputs(NUM_ITEMS, torch.randn(NUM_ITEMS, 5), TRAINED)
    return build_model(resolve(model, overrides=settings), inputs).network("model").eval()


@pytest.mark.parametrize("queries", ["items", "both"])
@pytest.mark.parametrize("model", ["id_only", "nfrec_sum", "sasrec", "core", "srgnn", "gru4rec"])
def test_a_prefix_has_the_same_scores_in_every_batch(queries: str, model: str) -> None:
    one = network(queries, model)
    items = torch.tensor([[3, 1, 2], [7, 0, 0], [5, 9, 0]])
    batch = SessionBatch.of_prefixes(items, torch.tensor([3, 1, 2]))
    together = one.scores(batch).clone()
    for sample in range(3):
        alone = one.scores(batch.only(slice(sample, sample + 1)))
        torch.testing.assert_close(alone[0], together[sample], rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(together.exp().sum(1), torch.ones(3), rtol=1e-4, atol=1e-4)


def test_an_item_is_no_candidate_of_its_own_query() -> None:
    batch = SessionBatch.of_prefixes(torch.tensor([[7]]), torch.tensor([1]))
    assert network("items").scores(batch)[0].argmin() == 7
    kept = network("items", **{"data.exclude_seen": "never"}).scores(batch)[0]
    assert kept.exp().sum() == pytest.approx(1, abs=1e-4)
    assert kept[7] > -20


def test_column_blocks_are_views_of_a_mixture() -> None:
    """The score is the mixture over all columns; a block alone is the mixture over its columns."""
    inputs = ModelInputs(NUM_ITEMS, torch.randn(NUM_ITEMS, 5), TRAINED)
    model = build_model(
        resolve("nfrec_concat", overrides={"model.dim": 8, "id.queries": "both"}), inputs
    ).eval()
    assert isinstance(model, Recommender)
    assert model.weights == {"model": 1.0, "id": 0.0, "text": 0.0}
    assert separate_parts(model) == ["id", "text"]
    batch = SessionBatch.of_prefixes(torch.tensor([[3, 1, 2]]), torch.tensor([3]))
    parts = model.part_scores(batch, model.prepare())
    network = model.network("model")
    tables = network.item_tables()
    queries = network.ask(batch, tables)
    for part, columns in {"model": slice(0, 16), "id": slice(0, 8), "text": slice(8, 16)}.items():
        own = queries._replace(vectors_QD=queries.vectors_QD[:, columns])
        expected = plain_probabilities(own, tables.outputs[:, columns]).log().float()
        seen = torch.tensor([1, 2, 3])
        others = torch.ones(NUM_ITEMS, dtype=torch.bool).index_fill(0, seen, False)
        torch.testing.assert_close(parts[part][:, others], expected[:, others], rtol=1e-4, atol=1e-4)

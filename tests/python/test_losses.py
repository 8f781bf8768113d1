"""The one loss, by hand and against an obvious loop."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from alterrec import _core
from alterrec.nn import losses
from alterrec.nn.losses import ScoreBuffer, generalised_bce, multi_label_loss
from alterrec.nn.losses import candidate_cross_entropy as loss_of_vectors
from alterrec.ranking import cross_entropy_, set_threads

SCORES = torch.tensor([[2.0, 1.0, 0.0, -1.0], [0.0, 0.0, 0.0, 0.0]], dtype=torch.float64)


def candidate_cross_entropy(scores: torch.Tensor, *supervision: torch.Tensor | None) -> torch.Tensor:
    """The loss of given scores: vectors that an identity scores."""
    return loss_of_vectors(scores, torch.eye(scores.shape[1], dtype=scores.dtype), *supervision)


def bits(mask: list[list[bool]] | np.ndarray) -> torch.Tensor:
    return torch.from_numpy(np.packbits(np.array(mask), axis=1, bitorder="little"))


def one(count: int = 1) -> torch.Tensor:
    return torch.ones(count, dtype=torch.float64)


def test_whole_catalogue_by_hand() -> None:
    loss = candidate_cross_entropy(SCORES, torch.tensor([[0], [3]]), one(), None)
    first = math.log(math.e**2 + math.e + 1 + 1 / math.e) - 2
    assert loss.item() == pytest.approx((first + math.log(4)) / 2, rel=1e-12)


def test_equation_2_and_3_by_hand() -> None:
    """Softmax over the target and the hard negatives {1, 3} and {0, 1}."""
    loss = candidate_cross_entropy(SCORES, torch.tensor([[0], [3]]), one(), torch.tensor([[1, 3], [0, 1]]))
    first = math.log(1 + math.exp(-1) + math.exp(-3))
    assert loss.item() == pytest.approx((first + math.log(3)) / 2, rel=1e-12)


def test_equation_4_and_5_by_hand() -> None:
    """Target 0 and augmented positive 1, each alone against negative 3; beta = 0.5."""
    scores = SCORES[:1]
    weights = torch.tensor([1.0, 0.5], dtype=torch.float64)
    loss = candidate_cross_entropy(scores, torch.tensor([[0, 1]]), weights, torch.tensor([[3]]))
    expected = math.log(1 + math.exp(-3)) + 0.5 * math.log(1 + math.exp(-2))
    assert loss.item() == pytest.approx(expected, rel=1e-12)


def test_a_positive_is_never_its_negative_and_duplicates_count() -> None:
    scores = SCORES[:1]
    loss = candidate_cross_entropy(scores, torch.tensor([[0]]), one(), torch.tensor([[0, 2, 2, -1]]))
    assert loss.item() == pytest.approx(math.log(1 + 2 * math.exp(-2)), rel=1e-12)


def test_no_candidate_left_is_no_loss_and_a_finite_gradient() -> None:
    scores = SCORES[:1].clone().requires_grad_()
    for candidates in (torch.tensor([[0, -1]]), bits([[True, False, False, False]])):
        loss = candidate_cross_entropy(scores, torch.tensor([[0]]), one(), candidates)
        (gradient,) = torch.autograd.grad(loss, scores)
        assert loss.item() == 0
        assert torch.equal(gradient, torch.zeros_like(scores))


def slow_loss(
    scores: np.ndarray, positives: np.ndarray, weights: np.ndarray, candidates: list[list[int]]
) -> float:
    total = 0.0
    for row, items, negatives in zip(scores, positives, candidates, strict=True):
        kept = [row[j] for j in negatives if j not in items]
        for item, weight in zip(items, weights, strict=True):
            total -= weight * math.log(math.exp(row[item]) / sum(math.exp(s) for s in [row[item], *kept]))
    return total / len(scores)


@given(st.data())
def test_ids_and_mask_equal_the_loop(data: st.DataObject) -> None:
    num_items = data.draw(st.integers(1, 8))
    rows = data.draw(st.integers(1, 3))
    top = data.draw(st.integers(1, min(2, num_items)))
    floats = st.floats(-5, 5)
    scores = np.array([[data.draw(floats) for _ in range(num_items)] for _ in range(rows)])
    positives = np.array([data.draw(st.permutations(range(num_items)))[:top] for _ in range(rows)])
    candidates = [
        data.draw(st.lists(st.integers(0, num_items - 1), max_size=num_items, unique=True))
        for _ in range(rows)
    ]
    weights = np.array([1.0, 0.5][:top])
    expected = slow_loss(scores, positives, weights, candidates)
    mask = np.zeros((rows, num_items), dtype=bool)
    width = max(1, *map(len, candidates))
    ids = torch.full((rows, width), -1)
    for row, items in enumerate(candidates):
        mask[row, items] = True
        ids[row, : len(items)] = torch.tensor(items, dtype=torch.int64)
    for form in (ids, bits(mask)):
        loss = candidate_cross_entropy(
            torch.from_numpy(scores), torch.from_numpy(positives), torch.from_numpy(weights), form
        )
        assert loss.item() == pytest.approx(expected, rel=1e-9, abs=1e-12)


def test_hidden_items_are_no_candidates_and_a_hidden_target_is_one() -> None:
    """Items 1 and, in vain, target 0 are hidden; 2 and 3 are left."""
    hidden = torch.tensor([[0, 1, -1]])
    expected = math.log(1 + math.exp(-2) + math.exp(-3))
    for candidates in (None, torch.tensor([[1, 2, 3]]), bits([[False, True, True, True]])):
        loss = candidate_cross_entropy(SCORES[:1], torch.tensor([[0]]), one(), candidates, hidden)
        assert loss.item() == pytest.approx(expected, rel=1e-12)


KINDS = ("all", "ids", "bits")


def made(kind: str, exclude: bool, dtype: torch.dtype) -> tuple[torch.Tensor, ...]:
    """Random vectors, table and supervision: 5 samples, 150 items, 3 positives, ids with duplicates."""
    generator = torch.Generator().manual_seed(7)
    vectors = torch.randn(5, 6, generator=generator).to(dtype).requires_grad_()
    table = torch.randn(150, 6, generator=generator).to(dtype).requires_grad_()
    positives = torch.stack([torch.randperm(150, generator=generator)[:3] for _ in range(5)])
    ids = torch.randint(-1, 150, (5, 40), generator=generator)
    mask = torch.rand(5, 150, generator=generator) < 0.4
    candidates = {"all": None, "ids": ids, "bits": bits(mask.numpy())}[kind]
    left_out = torch.randint(-1, 150, (5, 9), generator=generator) if exclude else None
    weights = torch.tensor([1.0, 0.5, 0.25], dtype=dtype)
    return vectors, table, positives, weights, candidates, left_out


def by_autograd(
    vectors: torch.Tensor,
    table: torch.Tensor,
    positives: torch.Tensor,
    weights: torch.Tensor,
    candidates: torch.Tensor | None,
    left_out: torch.Tensor | None,
) -> torch.Tensor:
    """The definition, sample after sample, by torch's own logsumexp."""
    losses = []
    for row, scores in enumerate(vectors @ table.T):
        own = positives[row].tolist()
        out = set() if left_out is None else set(left_out[row].tolist()) - set(own)
        if candidates is None:
            negatives = [item for item in range(len(table)) if item not in out]
        elif candidates.dtype == torch.uint8:
            chosen = np.unpackbits(candidates[row].numpy(), bitorder="little")[: len(table)]
            negatives = [item for item in np.flatnonzero(chosen) if item not in out | set(own)]
        else:
            negatives = [item for item in candidates[row].tolist() if item not in out | set(own) | {-1}]
        for item, weight in zip(own, weights, strict=True):
            beside = scores[negatives if candidates is None else [item, *negatives]]
            losses.append(weight * (beside.logsumexp(0) - scores[item]))
    return torch.stack(losses).sum() / len(vectors)


@pytest.mark.parametrize("rows", [2, 512])
@pytest.mark.parametrize("exclude", [False, True])
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(("dtype", "close"), [(torch.float32, 2e-6), (torch.float64, 1e-13)])
def test_loss_and_gradients_are_those_of_autograd(
    kind: str, exclude: bool, rows: int, dtype: torch.dtype, close: float
) -> None:
    """float32 is the core's, float64 what runs on a device; in one chunk or several."""
    vectors, table, *supervision = made(kind, exclude, dtype)
    loss = loss_of_vectors(vectors, table, *supervision, buffer=ScoreBuffer(rows))
    expected = by_autograd(vectors, table, *supervision)
    found = torch.autograd.grad(2 * loss, (vectors, table))
    wanted = torch.autograd.grad(2 * expected, (vectors, table))
    assert loss.item() == pytest.approx(expected.item(), rel=close)
    for ours, theirs in zip(found, wanted, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=0, atol=close)


@given(seed=st.integers(0, 2**32 - 1), double=st.booleans(), each=st.sampled_from([1.0, 3.0]))
def test_sparse_products_are_those_of_the_whole_catalogue(seed: int, double: bool, each: float) -> None:
    """Candidates are drawn twice, padded, positive, left out, or missing altogether."""
    rng = np.random.default_rng(seed)
    num_items, rows, top = rng.integers(2, 10), rng.integers(1, 6), rng.integers(1, 3)
    # torch has room for as many entries as a dense matrix, which is always more outside of tests.
    width = rng.integers(0, num_items - top + 1)
    dtype, close = (torch.float64, 1e-12) if double else (torch.float32, 1e-5)
    vectors, table = (
        torch.from_numpy(rng.normal(size=(count, 3))).to(dtype).requires_grad_()
        for count in (rows, num_items)
    )
    positives = torch.from_numpy(rng.integers(0, num_items, (rows, top)))
    candidates, left_out = (torch.from_numpy(rng.integers(-1, num_items, (rows, k))) for k in (width, 2))
    weights = torch.tensor([1.0, 0.5][:top], dtype=dtype)
    supervision = positives, weights, candidates, left_out if rng.random() < 0.7 else None
    found = []
    for share in (-1, 10**9):
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(losses, "ITEMS_PER_DRAW", share)
            loss = loss_of_vectors(vectors, table, *supervision, each=each, buffer=ScoreBuffer(2))
        found.append((loss, *torch.autograd.grad(2 * loss, (vectors, table))))
    for ours, theirs in zip(*found, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=close, atol=close)


def test_sparse_products_by_hand() -> None:
    """Of 101 items with the scores 0 and 2, one candidate: log(1 + exp(2)), and its share in the gradient."""
    vectors = torch.tensor([[2.0]], requires_grad=True)
    table = torch.zeros(101, 1)
    table[7] = 1.0
    table.requires_grad_()
    loss = loss_of_vectors(vectors, table, torch.tensor([[3]]), torch.ones(1), torch.tensor([[7]]))
    share = math.exp(2) / (1 + math.exp(2))
    assert loss.item() == pytest.approx(math.log(1 + math.exp(2)))
    of_vectors, of_table = torch.autograd.grad(loss, (vectors, table))
    assert of_vectors.item() == pytest.approx(share)
    assert {int(row): of_table[row].item() for row in of_table.nonzero()[:, 0]} == pytest.approx(
        {3: -2 * share, 7: 2 * share}
    )


def test_sparse_products_have_the_same_bits_on_any_thread_count() -> None:
    torch.manual_seed(0)
    vectors, table = torch.randn(32, 16, requires_grad=True), torch.randn(5000, 16, requires_grad=True)
    positives, candidates = torch.randint(0, 5000, (32, 1)), torch.randint(0, 5000, (32, 40))
    before, found = torch.get_num_threads(), []
    for count in (1, 2, 3):
        torch.set_num_threads(count)
        loss = loss_of_vectors(vectors, table, positives, torch.ones(1), candidates)
        found.append((loss, *torch.autograd.grad(loss, (vectors, table))))
    torch.set_num_threads(before)
    for other in found[1:]:
        assert all(torch.equal(one, each) for one, each in zip(found[0], other, strict=True))


@given(st.data())
def test_core_and_torch_agree_on_adversarial_scores(data: st.DataObject) -> None:
    """Ties, huge and infinite scores, duplicate positives; NaN gives NaN in both."""
    num_items = data.draw(st.integers(1, 140))
    values = st.sampled_from([0.0, -0.0, 1.0, 2.5, -3.0, 80.0, -80.0, 1e4, -1e4, -math.inf])
    scores = np.array([data.draw(st.lists(values, min_size=num_items, max_size=num_items))], np.float32)
    own = data.draw(st.integers(0, num_items - 1))
    scores[0, own] = data.draw(st.sampled_from([0.0, 1.0, -3.0, 80.0]))
    item = st.integers(-1, num_items - 1)
    ids = np.array([data.draw(st.lists(item, max_size=12))], np.int64).reshape(1, -1)
    chosen = np.array([data.draw(st.lists(st.booleans(), min_size=num_items, max_size=num_items))])
    packed = np.packbits(chosen, axis=1, bitorder="little")
    exclude = np.array([data.draw(st.lists(item, max_size=4))], np.int64).reshape(1, -1)
    for candidates in (None, ids, packed):
        ours = scores.copy()
        loss = cross_entropy_(ours, [[own]], [1.0], candidates, exclude=exclude)
        theirs = torch.from_numpy(scores).double()
        form = None if candidates is None else torch.from_numpy(candidates)
        expected = cross_entropy_(theirs, np.array([[own]]), [1.0], form, exclude=exclude)
        assert loss[0] == pytest.approx(expected.item(), rel=1e-6, abs=1e-6)
        np.testing.assert_allclose(ours, theirs.numpy(), rtol=1e-5, atol=1e-6)
    broken = scores.copy()
    broken[0, own] = np.nan
    assert np.isnan(cross_entropy_(broken, [[own]], [1.0])).all()


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("kind", ["ids", "bits"])
def test_candidates_that_count_twice_are_as_if_there_twice(kind: str, dtype: torch.dtype) -> None:
    vectors, table, positives, weights, candidates, left_out = made(kind, True, dtype)
    chosen = np.unpackbits(candidates.numpy(), axis=1, bitorder="little") if kind == "bits" else None
    ids = candidates
    if chosen is not None:
        rows = [np.flatnonzero(row) for row in chosen]
        ids = torch.full((5, max(map(len, rows))), -1)
        for row, items in enumerate(rows):
            ids[row, : len(items)] = torch.from_numpy(items)
    twice = loss_of_vectors(vectors, table, positives, weights, torch.cat([ids, ids], 1), left_out)
    found = loss_of_vectors(vectors, table, positives, weights, candidates, left_out, each=2.0)
    assert found.item() == pytest.approx(twice.item(), rel=1e-6)
    pairs = zip(*(torch.autograd.grad(loss, (vectors, table)) for loss in (found, twice)), strict=True)
    for ours, theirs in pairs:
        torch.testing.assert_close(ours, theirs, rtol=0, atol=2e-6)


def test_gbce_by_hand() -> None:
    """One positive at 0, two negatives at 0 and log 3, one drawn twice and one the positive itself.

    a = 4 / 9, t = 0.5: beta = a * (0.5 * (1 - 1 / a) + 1 / a) = 0.5 * a + 0.5 = 13 / 18.
    -log sigmoid(0) = log 2, -log(1 - sigmoid(0)) = log 2, -log(1 - sigmoid(log 3)) = log 4.
    """
    vectors, table = torch.tensor([[1.0]]), torch.tensor([[0.0], [0.0], [math.log(3)]])
    drawn = torch.tensor([[1, 2, 2, 0]])
    loss = generalised_bce(
        vectors, table, torch.tensor([[0]]), torch.ones(1), drawn, sampling_rate=4 / 9, calibration=0.5
    )
    expected = (13 / 18 * math.log(2) + math.log(2) + 2 * math.log(4)) / 5
    assert loss.item() == pytest.approx(expected, rel=1e-6)


@pytest.mark.parametrize("kind", KINDS)
def test_any_thread_count_gives_the_same_bits(kind: str) -> None:
    vectors, table, positives, weights, candidates, left_out = made(kind, True, torch.float32)
    found = []
    for count in (1, 2, 3):
        set_threads(count)
        scores = (vectors @ table.T).detach()
        losses = cross_entropy_(scores, positives, weights, candidates, exclude=left_out)
        found.append((losses.tolist(), scores.tolist()))
    set_threads(None)
    assert found[0] == found[1] == found[2]


@pytest.mark.parametrize("name", _core.instruction_sets())
def test_every_instruction_set_gives_the_same_bits(name: str) -> None:
    rng = np.random.default_rng(0)
    scores = rng.normal(size=(3, 1001)).astype(np.float32) * 9
    chosen = np.packbits(rng.random((3, 1001)) < 0.5, axis=1, bitorder="little")
    best, other = scores.copy(), scores.copy()
    losses = cross_entropy_(best, [[0], [1], [1000]], [1.0], chosen)
    _core.use_instructions(name)
    try:
        np.testing.assert_array_equal(cross_entropy_(other, [[0], [1], [1000]], [1.0], chosen), losses)
    finally:
        _core.use_instructions(None)
    np.testing.assert_array_equal(other, best)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"positives": [[4]]}, "positives: row 0 has the id 4; expected 0 to 3"),
        ({"positives": [[0], [1]]}, r"positives has shape \(2, 1\); expected \(1, P\)"),
        ({"weights": [1.0, 2.0]}, r"positives has shape \(1, 1\); expected \(1, 2\)"),
        ({"candidates": np.array([[9]])}, "candidates: row 0 has the id 9; expected 0 to 3"),
        ({"candidates": np.zeros((1, 2), np.uint8)}, r"candidates has shape \(1, 2\); expected \(1, 1\)"),
        ({"candidates": np.zeros((2, 1), np.int64)}, r"candidates has shape \(2, 1\); expected \(1, 1\)"),
        ({"exclude": [[7]]}, "exclude: row 0 has the id 7"),
        ({"scores": np.zeros((1, 4))}, "scores is not a writeable float32 matrix"),
    ],
)
def test_wrong_arguments_are_named(arguments: dict[str, object], message: str) -> None:
    given = {"scores": np.zeros((1, 4), np.float32), "positives": [[0]], "weights": [1.0]} | arguments
    with pytest.raises(ValueError, match=message):
        cross_entropy_(**given)


def test_a_second_backward_pass_is_refused_rather_than_wrong() -> None:
    vectors, table, *supervision = made("all", False, torch.float32)
    loss = loss_of_vectors(vectors, table, *supervision)
    loss.backward(retain_graph=True)
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        loss.backward()


def slow_multi_label_loss(scores: np.ndarray, labels: list[list[int]]) -> float:
    total = 0.0
    for row, own in zip(scores, labels, strict=True):
        for label, score in enumerate(row):
            chance = 1 / (1 + math.exp(-score))
            total -= math.log(chance if label in own else 1 - chance)
    return total


@given(
    st.integers(1, 5),
    st.lists(st.sets(st.integers(0, 4)), min_size=1, max_size=4),
    st.integers(1, 3),
    st.integers(0, 2**16),
)
def test_labels_against_the_obvious_loop(num_labels: int, sets: list[set[int]], rows: int, seed: int) -> None:
    labels = [sorted(label for label in own if label < num_labels) for own in sets]
    generator = torch.Generator().manual_seed(seed)
    vectors = torch.randn(len(labels), 3, dtype=torch.float64, generator=generator, requires_grad=True)
    table = torch.randn(num_labels, 3, dtype=torch.float64, generator=generator, requires_grad=True)
    padded = torch.tensor([own + [-1] * (6 - len(own)) for own in labels])
    loss = multi_label_loss(vectors, table, padded, ScoreBuffer(rows))
    scores = (vectors @ table.T).detach().numpy()
    assert loss.item() == pytest.approx(slow_multi_label_loss(scores, labels), rel=1e-12)
    wanted = torch.zeros(len(labels), num_labels, dtype=torch.float64)
    for row, own in enumerate(labels):
        wanted[row, own] = 1
    plain = torch.nn.functional.binary_cross_entropy_with_logits(vectors @ table.T, wanted, reduction="sum")
    for found, expected in zip(
        torch.autograd.grad(2 * loss, (vectors, table)),
        torch.autograd.grad(2 * plain, (vectors, table)),
        strict=True,
    ):
        torch.testing.assert_close(found, expected, rtol=1e-10, atol=1e-12)


def test_no_sample_of_labels_is_no_loss_and_no_gradient() -> None:
    vectors, table = torch.zeros(0, 2, requires_grad=True), torch.ones(3, 2, requires_grad=True)
    loss = multi_label_loss(vectors, table, torch.zeros(0, 1, dtype=torch.int64))
    assert loss.item() == 0
    assert torch.autograd.grad(loss, table)[0].tolist() == [[0, 0]] * 3


def test_labels_in_half_precision_are_summed_in_single() -> None:
    vectors, table = torch.ones(600, 2, dtype=torch.bfloat16), torch.zeros(3, 2, dtype=torch.bfloat16)
    loss = multi_label_loss(vectors, table, torch.zeros(600, 1, dtype=torch.int64))
    assert loss.dtype == torch.float32
    assert loss.item() == pytest.approx(1800 * math.log(2), rel=1e-6)

"""Dropout: how many values are lost, how the others grow, and that draws never depend on the batch."""

from __future__ import annotations

import numpy as np
import oracle
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from alterrec.nn.dropout import (
    PLACES_PER_HEAD,
    Dropout,
    ItemNoise,
    _split_mix,
    number_layers,
    rows_numbered,
    step_draws,
)
from alterrec.nn.transformer import RECBOLE, Attention, Transformer, TransformerSizes
from alterrec.sessions import random_words

WORDS = st.integers(0, 2**64 - 1)
NUMBERS = st.integers(-(2**63), 2**63 - 1)


@given(WORDS, st.lists(st.tuples(NUMBERS, NUMBERS), max_size=6), st.integers(0, 5))
def test_words_are_those_of_the_twin(seed: int, lines: list[tuple[int, int]], count: int) -> None:
    numbers, places = np.array(lines, np.int64).reshape(-1, 2).T.copy()
    expected = [[oracle.random_word(seed, *line, index) for index in range(count)] for line in lines]
    assert random_words(numbers, places, count, seed=seed).tolist() == expected


@given(st.lists(st.tuples(NUMBERS, NUMBERS), min_size=1, max_size=6))
def test_torch_computes_the_words_as_the_core_does(pairs: list[tuple[int, int]]) -> None:
    """A device has no core."""
    keys, indices = torch.tensor(pairs, dtype=torch.int64).T
    expected = [oracle.split_mix(key % 2**64, index % 2**64) for key, index in pairs]
    assert [word % 2**64 for word in _split_mix(keys, indices).tolist()] == expected


def test_places_and_numbers_are_one_each() -> None:
    with pytest.raises(ValueError, match=r"places has shape \(1,\); expected \(2,\), one for each number"):
        random_words(np.zeros(2, np.int64), np.zeros(1, np.int64), 1, seed=0)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16])
@pytest.mark.parametrize("share", [0.1, 0.5, 0.9])
def test_a_share_of_values_is_lost_and_the_others_grow(dtype: torch.dtype, share: float) -> None:
    torch.manual_seed(0)
    x = torch.full((100, 1001), 3.0, dtype=dtype)
    thinned = Dropout(share)(x)
    assert thinned.dtype == dtype
    alive = thinned != 0
    # Five deviations of a binomial of 100,100 draws.
    assert abs(alive.double().mean().item() - (1 - share)) < 5 * (share * (1 - share) / x.numel()) ** 0.5
    torch.testing.assert_close(thinned[alive].double().mean().item(), 3 / (1 - share), rtol=1e-2, atol=0.0)


def test_values_are_drawn_independently() -> None:
    """Draws of one word, rows, places, heads, layers, times, sessions and items are not alike."""
    count = 20_000
    attention, other = Dropout(0.5), Dropout(0.5)
    number_layers(torch.nn.ModuleList([attention, other]))
    with step_draws(7):
        by_head = attention(torch.ones(2, 2, 2, count)).flatten(0, 2)
        again = attention(torch.ones(2, 1, count)).flatten(0, 1)
        layer = other(torch.ones(2, count))
        items = attention.items(torch.ones(2, count))
    with step_draws(8):
        step = attention(torch.ones(2, count))
    lines = torch.cat([by_head, again, layer, items, step])
    columns = attention(torch.ones(count, 4)).T
    for values in (lines, columns):
        correlations = torch.corrcoef(values) - torch.eye(len(values))
        assert correlations.abs().max().item() < 5 / count**0.5


@pytest.mark.parametrize("size", [1, 3, 4, 7])
@pytest.mark.parametrize("rows", [0, 2])
def test_any_number_of_values(rows: int, size: int) -> None:
    assert Dropout(0.5)(torch.ones(rows, size)).shape == (rows, size)


def test_gradients_go_where_values_stayed() -> None:
    x = torch.ones(1, 1000, requires_grad=True)
    thinned = Dropout(0.25)(x)
    thinned.sum().backward()
    torch.testing.assert_close(x.grad, thinned.detach())


def test_without_a_step_draws_follow_torch_and_evaluation_loses_nothing() -> None:
    layer, x = Dropout(0.5), torch.randn(1, 64)
    draws = []
    for seed in (1, 1, 2):
        torch.manual_seed(seed)
        draws.append(layer(x))
    assert torch.equal(draws[0], draws[1])
    assert not torch.equal(draws[0], draws[2])
    assert torch.equal(layer.eval()(x), x)
    assert torch.equal(Dropout(0.0)(x), x)


def test_masks_by_hand() -> None:
    """One line of a session and one of an item, from the words of the twin."""
    layer = Dropout(0.25)
    layer.layer = 3
    with step_draws(11, torch.tensor([40])):
        masks = layer(torch.ones(1, 2, 6)), layer.items(torch.ones(1, 6), torch.tensor([40]))
    for mask, seed, place in (
        (masks[0][0, 1], oracle.derive_seed(11, 1, 3, 1), 1),
        (masks[1][0], oracle.derive_seed(11, 0, 3, 0), 0),
    ):
        words = [oracle.random_word(seed, 40, place, index) for index in range(2)]
        draws = [word >> (16 * part) & 0xFFFF for word in words for part in range(4)][:6]
        signed = [draw - 2**16 if draw >= 2**15 else draw for draw in draws]
        expected = [4 / 3 if draw >= 2**14 - 2**15 else 0.0 for draw in signed]
        torch.testing.assert_close(mask, torch.tensor(expected))


def test_a_row_has_the_same_masks_in_every_batch_and_at_requested_places() -> None:
    layer, x = Dropout(0.5), torch.ones(3, 4, 9)
    with step_draws(1, torch.tensor([30, 10, 20])):
        whole = layer(x)
    with step_draws(1, torch.tensor([10, 30])):
        part = layer(x[:2, :3], torch.tensor([[3, 0, 1], [2, 1, 0]]))
    assert torch.equal(part[0], whole[1, [3, 0, 1]])
    assert torch.equal(part[1], whole[0, [2, 1, 0]])
    with step_draws(1, torch.tensor([10, 20, 30, 40])), rows_numbered(torch.tensor([20])):
        assert torch.equal(layer(x[:1]), whole[2:])
    weights = torch.ones(1, 2, 4, 4)
    with step_draws(1, torch.tensor([30])):
        by_head = layer(weights)
    with step_draws(1, torch.tensor([30])):
        at_places = layer(weights[:, :, :2], torch.tensor([[2, 1]]))
    assert torch.equal(at_places[0, :, 0], by_head[0, :, 2])
    with step_draws(1, torch.tensor([30])):
        assert torch.equal(
            layer(x[:1, :1], torch.tensor([[PLACES_PER_HEAD + 2]]))[0, 0, :4], by_head[0, 1, 2]
        )


def test_items_have_one_mask_and_one_noise_in_a_step() -> None:
    layer, noise, ids = Dropout(0.5), ItemNoise(), torch.tensor([5, 2])
    with step_draws(4, torch.tensor([9])):
        table, part = layer.items(torch.ones(7, 5)), layer.items(torch.ones(2, 5), ids)
        numbers = noise(torch.empty(100_000, 2)), noise(torch.empty(2, 2), ids)
    assert torch.equal(table[ids], part)
    assert torch.equal(numbers[0][ids], numbers[1])
    assert abs(numbers[0].mean().item()) < 5 / 200_000**0.5
    assert abs(numbers[0].var().item() - 1) < 5 * (2 / 200_000) ** 0.5


def test_a_transformer_learns_the_same_from_a_session_in_every_batch() -> None:
    """Alone, among others, in a wider batch, and where only its last place is computed."""
    torch.manual_seed(0)
    encoder, table = Transformer(TransformerSizes(8, 6, 2, 2, 16, dropout=0.5), RECBOLE), torch.randn(20, 8)
    number_layers(encoder)
    items = torch.tensor([[3, 4, 0, 0, 0], [1, 2, 3, 4, 5]])
    with step_draws(6, torch.tensor([50, 70])):
        both = encoder(table, items)
    with step_draws(6, torch.tensor([50])):
        torch.testing.assert_close(encoder(table, items[:1, :2]), both[:1, :2])
    with step_draws(6, torch.tensor([70, 50])):
        last = encoder.last(table, items.flip(0), torch.tensor([5, 2]))
    torch.testing.assert_close(last, torch.stack([both[1, 4], both[0, 1]]))


@pytest.mark.parametrize("masked", ["causal", "bool", "added"])
def test_attention_with_dropout_has_the_mean_of_attention_without(masked: str) -> None:
    torch.manual_seed(0)
    attention, x = Attention(TransformerSizes(8, 6, 1, 2, 16, dropout=0.1), RECBOLE), torch.randn(1, 4, 8)
    allowed = torch.tensor([[True, True, False, True]])
    mask = {"causal": None, "bool": allowed, "added": torch.zeros(1, 4).masked_fill(~allowed, -torch.inf)}[
        masked
    ]
    attention.dropout.p = 2**-17  # rounds to no drops at all, but takes the same way
    dropped = attention(x, mask)
    torch.testing.assert_close(dropped, attention.eval()(x, mask))

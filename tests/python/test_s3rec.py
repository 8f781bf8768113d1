"""S3-Rec's pretraining: what is drawn, what each task learns from, and what is refused."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from worlds import NUM_ITEMS, text_like_vectors

from alterrec.errors import InputError
from alterrec.models.base import Network
from alterrec.models.batches import ObjectiveBatch, SessionBatch
from alterrec.models.catalogue import build_model
from alterrec.models.parts import ModelInputs
from alterrec.models.s3rec import (
    CategoryAttributes,
    FourTasks,
    Rows,
    TextAttributes,
    masked_segments,
    other_items,
    preference_loss,
)
from alterrec.nn.losses import ScoreBuffer
from alterrec.recipe import resolve
from alterrec.training.schedule import check_loss, phases

SMALL = {"model.dim": 8, "model.max_len": 6, "model.dropout": 0.0}
CATEGORIES = torch.arange(NUM_ITEMS).remainder(5)[:, None, None]


def network_of(**overrides: Any) -> Network:
    torch.manual_seed(0)
    recipe = resolve("s3rec", overrides=SMALL | {key.replace("__", "."): v for key, v in overrides.items()})
    vectors = torch.from_numpy(text_like_vectors())
    trained = torch.ones(NUM_ITEMS, dtype=torch.bool)
    items = ModelInputs(NUM_ITEMS, vectors, trained, categories_VCK=CATEGORIES)
    return build_model(recipe, items).network("model")


def tasks_of(network: Network) -> FourTasks:
    tasks = network.objectives["pretrain"]
    assert isinstance(tasks, FourTasks)
    return tasks


def inputs_of(sequences: list[list[int]], samples: list[int] | None = None, seed: int = 3) -> ObjectiveBatch:
    """Sequences as prefixes with the item after each."""
    width = max(len(sequence) for sequence in sequences)
    prefixes = torch.tensor([row[:-1] + [0] * (width - len(row)) for row in sequences])
    batch = SessionBatch.of_prefixes(prefixes, torch.tensor([len(row) - 1 for row in sequences]))
    numbers = np.array(samples or range(len(sequences)))
    targets = torch.tensor([row[-1] for row in sequences])
    return ObjectiveBatch(batch, targets, numbers, seed, 1, False, ScoreBuffer())


def sequences_and_draws(draws: int) -> st.SearchStrategy[tuple[list[list[int]], list[list[float]]]]:
    """Sequences of items 0..9 with uniform draws for each."""
    unit = st.floats(0, 1, exclude_max=True, width=32)
    row = st.tuples(
        st.lists(st.integers(0, 9), min_size=1, max_size=6), st.lists(unit, min_size=draws, max_size=draws)
    )
    return st.lists(row, min_size=1, max_size=4).map(
        lambda rows: ([items for items, _ in rows], [numbers for _, numbers in rows])
    )


def padded(sequences: list[list[int]], left: bool = False) -> tuple[torch.Tensor, torch.Tensor]:
    width = max(len(row) for row in sequences)
    gaps = [[0] * (width - len(row)) for row in sequences]
    rows = [gap + row if left else row + gap for row, gap in zip(sequences, gaps, strict=True)]
    real = [
        [False] * len(gap) + [True] * len(row) if left else [True] * len(row) + [False] * len(gap)
        for row, gap in zip(sequences, gaps, strict=True)
    ]
    return torch.tensor(rows), torch.tensor(real)


class TestDraws:
    @given(sequences_and_draws(6), st.integers(10, 12))
    def test_another_item_is_the_one_of_its_rank_among_those_that_a_session_has_not(
        self, given_: tuple[list[list[int]], list[list[float]]], num_items: int
    ) -> None:
        sequences, numbers = given_
        items, real = padded(sequences)
        draws = torch.tensor(numbers)[:, : items.shape[1]]
        found = other_items(draws, items, real, num_items)
        for row, sequence in enumerate(sequences):
            others = [item for item in range(num_items) if item not in sequence]
            expected = [others[int(draw * len(others))] for draw in draws[row].double().tolist()]
            assert found[row].tolist() == expected

    def test_where_a_session_has_all_items_the_other_is_the_mask_token(self) -> None:
        items, real = padded([[0, 1, 2]])
        assert other_items(torch.zeros(1, 3), items, real, 3).tolist() == [[3, 3, 3]]

    @given(sequences_and_draws(3), st.booleans())
    def test_segments_fit_together(
        self, given_: tuple[list[list[int]], list[list[float]]], left: bool
    ) -> None:
        sequences, numbers = given_
        items, real = padded(sequences, left)
        context, positive, negative = masked_segments(torch.tensor(numbers), items, real, 99)
        stream = [item for sequence in sequences for item in sequence]
        slices = {tuple(stream[a:b]) for a in range(len(stream)) for b in range(a + 1, len(stream) + 1)}
        for row, sequence in enumerate(sequences):
            kept = real[row]
            around, alone, other = (part[row][kept].tolist() for part in (context, positive, negative))
            inside = [place for place, item in enumerate(around) if item == 99]
            assert inside == list(range(inside[0], inside[0] + len(inside)))
            assert 1 <= len(inside) <= max(1, len(sequence) // 2)
            for place, item in enumerate(sequence):
                assert around[place] == (99 if place in inside else item)
                assert alone[place] == (item if place in inside else 99)
                assert (other[place] == 99) == (place not in inside)
            assert tuple(other[place] for place in inside) in slices

    def test_all_sizes_and_starts_of_segments_occur(self) -> None:
        items, real = padded([[1, 2, 3, 4]] * 4000)
        context, *_ = masked_segments(torch.rand(4000, 3), items, real, 9)
        shapes, counts = (context == 9).unique(dim=0, return_counts=True)
        expected = {1: 4000 / 2 / 4, 2: 4000 / 2 / 3}
        assert len(shapes) == 4 + 3
        for shape, count in zip(shapes, counts, strict=True):
            assert count.item() == pytest.approx(expected[int(shape.sum())], rel=0.2)

    def test_a_sample_draws_the_same_masks_and_negatives_in_any_batch(self) -> None:
        network = network_of()
        together = tasks_of(network).rows(inputs_of([[1, 2, 3, 4, 5], [6, 7]], [8, 9]), NUM_ITEMS)
        alone = tasks_of(network).rows(inputs_of([[6, 7]], [9]), NUM_ITEMS)
        for whole, part in (
            (together.masked_RL, alone.masked_RL),
            (together.negatives_RL, alone.negatives_RL),
        ):
            assert torch.equal(whole[1, :2], part[0])

    def test_an_item_is_masked_with_the_recipes_chance_and_the_last_always_if_asked(self) -> None:
        sequences = [[1, 2, 3, 4, 5]] * 2000
        for last in (False, True):
            tasks = tasks_of(network_of(s3rec__mask=0.3, s3rec__mask_last=last))
            masked_L = tasks.rows(inputs_of(sequences), NUM_ITEMS).masked_RL.float().mean(0)
            assert masked_L[:4].tolist() == pytest.approx([0.3] * 4, abs=0.04)
            assert masked_L[4].item() == pytest.approx(1.0 if last else 0.3, abs=0.04)

    def test_faithful_rows_are_left_padded_with_misplaced_attributes_and_the_mask_as_a_negative(self) -> None:
        tasks = tasks_of(network_of(model__faithful=True))
        rows = tasks.rows(inputs_of([[1, 2, 3]] * 500), num_items=4)
        assert rows.items_RL[0, 3:].tolist() == [1, 2, 3]
        assert rows.real_RL[0].tolist() == [False] * 3 + [True] * 3
        assert rows.described_RL[0].tolist() == [1, 2, 3, 4, 4, 4]
        assert set(rows.negatives_RL.unique().tolist()) == {0, 4}
        mended = tasks_of(network_of()).rows(inputs_of([[1, 2, 3]] * 500), num_items=4)
        assert torch.equal(mended.described_RL, mended.items_RL)
        assert set(mended.negatives_RL.unique().tolist()) == {0}


class TestLosses:
    def rows(self, network: Network, sequences: list[list[int]]) -> tuple[torch.Tensor, Rows]:
        return network.item_tables().inputs, tasks_of(network).rows(inputs_of(sequences), NUM_ITEMS)

    def test_padding_changes_nothing(self) -> None:
        """The same rows with two more places behind them."""
        network = network_of().eval()
        table, rows = self.rows(network, [[1, 2, 3, 4], [5, 6]])
        wider = Rows(*(torch.nn.functional.pad(part, (0, 2)) for part in rows))
        found = tasks_of(network).losses(network, table, wider)
        for name, loss in tasks_of(network).losses(network, table, rows).items():
            torch.testing.assert_close(found[name], loss)

    @pytest.mark.parametrize("attributes", ["text", "categories"])
    def test_attributes_against_plain_torch(self, attributes: str) -> None:
        network = network_of(s3rec__attributes=attributes, s3rec__mask=0.5).eval()
        tasks = tasks_of(network)
        table, rows = self.rows(network, [[1, 2, 3, 4], [5, 6], [7, 7, 8]])
        states = tasks.read(network, table, rows).masked_RLD
        losses = tasks.losses(network, table, rows)
        described = tasks.attributes()
        assert described.shape == (NUM_ITEMS if attributes == "text" else 5, 8)
        for name, asked in (("aap", rows.real_RL & ~rows.masked_RL), ("map", rows.masked_RL)):
            assert asked.any()
            items_M = rows.items_RL[asked]
            own_M = items_M if attributes == "text" else CATEGORIES[items_M, 0, 0]
            wanted = torch.nn.functional.one_hot(own_M, len(described)).float()
            scores = getattr(tasks, name)(states[asked]) @ described.T
            plain = torch.nn.functional.binary_cross_entropy_with_logits(scores, wanted, reduction="sum")
            torch.testing.assert_close(losses[name], plain)

    def test_a_masked_item_cannot_be_seen_but_its_neighbours_on_both_sides_can(self) -> None:
        network = network_of().eval()
        table, rows = self.rows(network, [[1, 2, 3]])
        masked = rows._replace(masked_RL=torch.tensor([[False, True, False]]))

        def middle(items: list[int]) -> torch.Tensor:
            state: torch.Tensor = (
                tasks_of(network)
                .read(network, table, masked._replace(items_RL=torch.tensor([items])))
                .masked_RLD[0, 1]
            )
            return state

        torch.testing.assert_close(middle([1, 9, 3]), middle([1, 2, 3]))
        assert not torch.allclose(middle([1, 2, 9]), middle([1, 2, 3]))
        assert not torch.allclose(middle([9, 2, 3]), middle([1, 2, 3]))

    def test_preference_by_hand(self) -> None:
        """f is 1/2 for orthogonal vectors and 0.8 for a product of log 4."""
        one = torch.tensor([[np.log(4)]])
        loss = preference_loss(one, torch.tensor([[1.0]]), torch.tensor([[0.0]]))
        assert loss.item() == pytest.approx(np.log(1 + np.exp(-0.3)), rel=1e-6)

    def test_every_parameter_of_pretraining_learns_and_the_weights_weigh(self) -> None:
        network = network_of(s3rec__aap=0.5, s3rec__mip=2.0, s3rec__map=3.0, s3rec__sp=4.0)
        tasks = tasks_of(network)
        given_ = inputs_of([[1, 2, 3, 4], [5, 6], [7, 7, 8]])
        loss = tasks(network, given_)
        table, rows = network.item_tables().inputs, tasks.rows(given_, NUM_ITEMS)
        losses = tasks.losses(network, table, rows)
        weights = {"aap": 0.5, "mip": 2.0, "map": 3.0, "sp": 4.0}
        expected = sum(weights[name] * part.item() for name, part in losses.items()) / 3
        assert loss.item() == pytest.approx(expected, rel=1e-6)
        loss.backward()
        for name, value in network.named_parameters():
            assert value.grad is not None, name

    def test_half_precision_is_near(self) -> None:
        network = network_of().eval()
        given_ = inputs_of([[1, 2, 3, 4], [5, 6], [7, 7, 8]])
        exact = tasks_of(network)(network, given_)
        with torch.autocast("cpu", torch.bfloat16):
            near = tasks_of(network)(network, given_)
        near.backward()
        assert near.item() == pytest.approx(exact.item(), rel=2e-2)


class TestChoices:
    def test_auto_takes_categories_where_there_are_any(self) -> None:
        assert isinstance(tasks_of(network_of(s3rec__attributes="auto")).attributes, CategoryAttributes)
        assert isinstance(tasks_of(network_of()).attributes, TextAttributes)
        recipe = resolve("s3rec", overrides=SMALL | {"s3rec.attributes": "auto"})
        items = ModelInputs(NUM_ITEMS, torch.from_numpy(text_like_vectors()), torch.ones(NUM_ITEMS).bool())
        network = build_model(recipe, items).network("model")
        assert isinstance(tasks_of(network).attributes, TextAttributes)

    def test_categories_are_asked_for_in_words(self) -> None:
        recipe = resolve("s3rec", overrides={"s3rec.attributes": "categories"})
        items = ModelInputs(NUM_ITEMS, torch.from_numpy(text_like_vectors()), torch.ones(NUM_ITEMS).bool())
        with pytest.raises(InputError, match=r"'categories', but the items have none.*categories=COLUMN"):
            build_model(recipe, items)

    def test_categories_need_no_text(self) -> None:
        recipe = resolve("s3rec", overrides=SMALL | {"s3rec.attributes": "categories"})
        items = ModelInputs(NUM_ITEMS, None, torch.ones(NUM_ITEMS).bool(), categories_VCK=CATEGORIES)
        assert isinstance(
            tasks_of(build_model(recipe, items).network("model")).attributes, CategoryAttributes
        )
        with pytest.raises(InputError, match="'s3rec' reads item text"):
            build_model(resolve("s3rec", overrides=SMALL), items)

    def test_an_encoder_that_cannot_look_both_ways_is_refused(self) -> None:
        with pytest.raises(InputError, match=r"id\.session is 'mean'; s3rec needs sasrec"):
            network_of(id__session="mean")

    def test_the_original_pretrains_though_its_loss_needs_drawn_negatives(self) -> None:
        recipe = resolve("s3rec", ["original"])
        plan = phases(recipe)
        check_loss(recipe, plan)
        assert [(phase.objective, phase.epochs) for phase in plan] == [("pretrain", 150), ("next", 200)]

"""Candidates and positives of a step."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from alterrec.errors import InputError
from alterrec.models.catalogue import MODELS
from alterrec.recipe import resolve
from alterrec.recipe_settings import PositivesSettings, WindowSettings
from alterrec.training.candidates import Supervision, supervise
from alterrec.training.schedule import Phase, phases
from alterrec.training.windows import WindowRanks, candidate_counts, check_catalogue, shortened_window

SCORES = torch.tensor([[9.0, 8.0, 7.0, 6.0, 5.0, 4.0], [4.0, 5.0, 6.0, 7.0, 8.0, 9.0]])
TARGETS = torch.tensor([1, 0])
SAMPLES = np.array([10, 11])


def made(
    window: WindowSettings, negatives: str, positives: PositivesSettings | None = None, **changes: object
) -> Supervision:
    positives = positives or PositivesSettings()
    arguments = {
        "window": window,
        "ranks": WindowRanks.on(window, 6),
        "num_items": 6,
        "seed": 3,
        "positives": positives,
        "negative_teacher": teacher,
        "positive_teacher": teacher if positives.top else None,
    }
    return supervise(TARGETS, SAMPLES, negatives, **(arguments | changes))  # type: ignore[arg-type]


def teacher(chunk: slice) -> torch.Tensor:
    return SCORES[chunk]


def items(bits: torch.Tensor | None) -> list[list[int]]:
    """Items whose bits are set, row by row."""
    assert bits is not None
    assert bits.dtype == torch.uint8
    return [np.flatnonzero(row).tolist() for row in np.unpackbits(bits.numpy(), axis=1, bitorder="little")]


def test_the_papers_window_takes_the_target_out_first_and_counts_ranks_from_1() -> None:
    window = WindowSettings(first=2, last=4, random_share=0.0)
    mask = made(window, "window").candidates
    # without target 1: 0, 2, 3, 4, 5 -> ranks 2..4; without target 0: 5, 4, 3, 2, 1
    assert items(mask) == [[2, 3, 4], [2, 3, 4]]


def test_the_authors_window_counts_the_target() -> None:
    mask = made(WindowSettings(first=2, last=4, random_share=0.0, exclude_target=False), "window").candidates
    assert items(mask) == [[1, 2, 3], [2, 3, 4]]


def test_half_window_half_random() -> None:
    window = WindowSettings(first=1, last=4, random_share=0.5)
    candidates = made(window, "window").candidates
    assert candidates.shape == (2, 4)
    hard = candidates[:, 2:]
    assert set(hard[0].tolist()) <= {0, 2, 3, 4}
    assert len(set(hard[0].tolist())) == 2
    assert set(hard[1].tolist()) <= {5, 4, 3, 2}


def test_a_sample_as_large_as_the_window_is_joined_by_random_negatives() -> None:
    """Six candidates, three of them random: the other three are the whole window, as ids."""
    candidates = made(WindowSettings(first=2, last=4, sample=6, random_share=0.5), "window").candidates
    assert candidates.dtype == torch.int64
    assert candidates.shape == (2, 6)
    assert [sorted(row[3:].tolist()) for row in candidates] == [[2, 3, 4], [2, 3, 4]]


def test_random_negatives_are_as_many_as_the_window() -> None:
    assert made(WindowSettings(first=2, last=4), "random").candidates.shape == (2, 3)
    assert made(WindowSettings(first=2, last=4, sample=2), "random").candidates.shape == (2, 2)


def test_a_sample_of_the_window_is_a_function_of_seed_and_sample_id() -> None:
    window = WindowSettings(first=1, last=5, sample=2, random_share=0.0)
    whole = made(window, "window").candidates
    swapped = supervise(
        TARGETS.flip(0),
        SAMPLES[::-1],
        "window",
        window=window,
        ranks=WindowRanks.on(window, 6),
        num_items=6,
        seed=3,
        positives=PositivesSettings(),
        negative_teacher=lambda chunk: SCORES.flip(0)[chunk],
    ).candidates
    assert torch.equal(whole, swapped.flip(0))


@pytest.mark.parametrize("sample", [0, 2])
def test_chunks_change_nothing(sample: int) -> None:
    window = WindowSettings(first=1, last=4, sample=sample, random_share=0.5)
    whole = made(window, "window", PositivesSettings(top=1))
    cut = made(window, "window", PositivesSettings(top=1), chunks=[slice(0, 1), slice(1, 2)])
    assert all(torch.equal(one, other) for one, other in zip(whole, cut, strict=True))


def test_one_teacher_scores_once_for_both_uses() -> None:
    calls = []

    def counted(chunk: slice) -> torch.Tensor:
        calls.append(chunk)
        return SCORES[chunk]

    window = WindowSettings(first=3, last=4, random_share=0.0)
    made(window, "window", PositivesSettings(top=1), negative_teacher=counted, positive_teacher=counted)
    assert len(calls) == 1


def test_full_has_no_candidates_but_the_catalogue() -> None:
    supervision = made(WindowSettings(), "full")
    assert supervision.candidates is None
    assert supervision.positives.tolist() == [[1], [0]]
    assert supervision.weights.tolist() == [1.0]


def test_augmented_positives_are_the_teachers_top_without_the_target() -> None:
    supervision = made(WindowSettings(first=3, last=4), "window", PositivesSettings(top=2, weight=0.5))
    assert supervision.positives.tolist() == [[1, 0, 2], [0, 5, 4]]
    assert supervision.weights.tolist() == [1.0, 0.5, 0.5]


def test_positives_counted_as_samples_share_their_weight() -> None:
    supervision = made(
        WindowSettings(first=3, last=4), "window", PositivesSettings(top=2, weight=0.5, as_samples=True)
    )
    assert supervision.weights.tolist() == [1.0, 0.25, 0.25]


def test_fractions_are_of_the_catalogue() -> None:
    assert WindowRanks.on(WindowSettings(first=0.1, last=0.5), 100) == (9, 50)
    assert WindowRanks.on(WindowSettings(first=1, last=0.1), 5) == (0, 1)


def test_seen_items_do_not_rank() -> None:
    """Without target 1 and seen 0: 2, 3, 4, 5; without target 0 and seen 5 and 4: 3, 2, 1."""
    seen = torch.tensor([[0, -1], [5, 4]])
    window = WindowSettings(first=2, last=3, random_share=0.0)
    mask = made(window, "window", seen_NL=seen).candidates
    assert items(mask) == [[3, 4], [1, 2]]
    positives = made(window, "window", PositivesSettings(top=1), seen_NL=seen).positives
    assert positives.tolist() == [[1, 2], [0, 3]]


@pytest.mark.parametrize(("first", "last"), [(3, 2), (1, 7), (6, 6)])
def test_a_window_beyond_the_catalogue_is_refused(first: int, last: int) -> None:
    with pytest.raises(InputError, match=r"window.first is .*of 5 candidates.*--set window.last=0.1"):
        WindowRanks.on(WindowSettings(first=first, last=last), 6)


def test_room_is_left_for_items_of_the_prefix() -> None:
    assert WindowRanks.on(WindowSettings(first=1, last=3), 6, seen=2) == (0, 3)
    with pytest.raises(InputError, match="of 2 candidates"):
        WindowRanks.on(WindowSettings(first=1, last=3), 6, seen=3)


def test_random_negatives_end_where_the_catalogue_does() -> None:
    """The preset amazon-m2 has ranks up to 20,000; a system without hard negatives draws fewer items."""
    window = WindowSettings(first=20, last=20_000)
    random = [Phase("training", "model", 1, "random")]
    check_catalogue(window, random, num_items=3000)
    assert candidate_counts("random", window, WindowRanks.on(window, 3000, negatives="random")) == (2980, 0)
    assert shortened_window(window, random, 3000).endswith("3000 items: 2980 random negatives per sample")
    assert shortened_window(window, random, 30_000) == ""
    # As many as the window has, as before.
    assert WindowRanks.on(window, 30_000, negatives="random") == WindowRanks.on(window, 30_000)
    sampled = WindowSettings(first=5000, last=20_000, sample=100)
    check_catalogue(sampled, random, num_items=3000)
    for plan in (random, [Phase("training", "model", 1, "window", "id")]):
        with pytest.raises(InputError, match=r"window\.first is 5000"):
            check_catalogue(WindowSettings(first=5000, last=20_000), plan, num_items=3000)


def test_no_system_is_refused_for_a_window_that_it_does_not_rank() -> None:
    def refused(model: str) -> bool:
        recipe = resolve(model, ["paper", "amazon-m2"])
        try:
            check_catalogue(recipe.window, phases(recipe), num_items=3000)
        except InputError:
            return True
        return False

    assert {model for model in MODELS if refused(model)} == {"alterrec", "alterrec_aug"}

"""Algorithm 1 and each ablation as a list of phases."""

from __future__ import annotations

from dataclasses import replace

import pytest

from alterrec.errors import InputError
from alterrec.recipe import recipe_names, resolve
from alterrec.training.schedule import describe, phases


def rows(model: str, *presets: str, **overrides: object) -> list[tuple[str, int, str, str | None]]:
    settings = {key.replace("__", "."): value for key, value in overrides.items()}
    return [
        (p.train, p.epochs, p.negatives, p.teacher)
        for p in phases(resolve(model, presets or ("best",), settings))
    ]


def test_algorithm_1_with_the_papers_numbers() -> None:
    plan = rows("alterrec", "paper")
    assert plan[:2] == [("id", 2, "random", None), ("text", 2, "random", None)]
    assert plan[2:4] == [("id", 2, "window", "text"), ("text", 2, "window", "id")]
    # 26 epochs after the warm-up of 4: six cycles of 4 and a last turn of ID
    assert plan[2:] == ([plan[2], plan[3]] * 7)[:13]
    assert sum(epochs for _, epochs, _, _ in plan) == 30


def test_last_turn_is_cut_to_the_total() -> None:
    plan = rows("alterrec", schedule__warmup=1, schedule__gap=3, schedule__epochs=6)
    assert [(name, epochs) for name, epochs, _, _ in plan] == [("id", 1), ("text", 1), ("id", 3), ("text", 1)]


def test_no_warmup_starts_with_hard_negatives() -> None:
    assert rows("alterrec", schedule__warmup=0, schedule__epochs=2) == [
        ("id", 1, "window", "text"),
        ("text", 1, "window", "id"),
    ]


def test_random_ablation_keeps_the_schedule_without_teachers() -> None:
    ours, theirs = rows("alterrec_random", "paper"), rows("alterrec", "paper")
    assert [row[:2] for row in ours] == [row[:2] for row in theirs]
    assert {row[2:] for row in ours} == {("random", None)}


@pytest.mark.parametrize("model", ["alterrec_wo_text", "alterrec_wo_id"])
def test_one_network_ablations_train_with_random_negatives(model: str) -> None:
    assert rows(model, "paper") == [("model", 30, "random", None)]


def test_independent_is_the_same_schedule_with_the_whole_catalogue() -> None:
    ours, theirs = rows("independent"), rows("alterrec")
    assert [row[:2] for row in ours] == [row[:2] for row in theirs]
    assert {row[2:] for row in ours} == {("full", None)}


@pytest.mark.parametrize("model", ["nfrec_sum", "nfrec_concat", "id_only", "text_only"])
def test_single_models_train_in_one_phase(model: str) -> None:
    assert rows(model) == [("model", resolve(model).schedule.epochs, "full", None)]


@pytest.mark.parametrize("model", ["popularity", "itemknn", "vsknn"])
def test_untrained_systems_have_no_phases(model: str) -> None:
    assert rows(model) == []


def test_augmentation_takes_the_teachers_top_items_after_the_warm_up() -> None:
    plan = phases(resolve("alterrec_aug", ["paper"]))
    assert [p.positives for p in plan[:4]] == [0, 0, 5, 5]


def test_description_names_epochs_networks_and_teachers() -> None:
    assert describe(phases(resolve("alterrec", ["paper"])))[:3] == [
        "epochs 1-2: warm-up id, random negatives",
        "epochs 3-4: warm-up text, random negatives",
        "epochs 5-6: id taught by text, hard negatives from text",
    ]


def test_a_warm_up_longer_than_the_run_is_refused() -> None:
    with pytest.raises(
        InputError, match=r"schedule.warmup is 4 and schedule.epochs is 5.*set schedule.epochs to 8"
    ):
        phases(resolve("alterrec", overrides={"schedule.warmup": 4, "schedule.epochs": 5}))


def test_one_network_has_no_teacher() -> None:
    with pytest.raises(InputError, match="has no teacher"):
        phases(resolve("id_only", overrides={"schedule.negatives": "window"}))


@pytest.mark.parametrize("model", recipe_names("models"))
@pytest.mark.parametrize("preset", recipe_names("presets"))
def test_every_recipe_has_exactly_its_epochs(model: str, preset: str) -> None:
    recipe = resolve(model, [preset])
    plan = phases(recipe)
    expected = 0 if recipe.schedule.regime == "none" else recipe.schedule.pretrain + recipe.schedule.epochs
    assert sum(phase.epochs for phase in plan) == expected


@pytest.mark.parametrize("model", ["alterrec", "unisrec", "nfrec_concat"])
def test_names_of_phases_are_only_shown(model: str) -> None:
    """Patience starts after warm-up and pretraining, whatever these phases are called."""
    plan = phases(resolve(model, overrides={"schedule.warmup": 1, "schedule.warmup_negatives": "random"}))
    precede = [phase.precedes_patience for phase in plan]
    assert precede[0]
    assert not precede[-1]
    assert [replace(phase, name="warm-up").precedes_patience for phase in plan] == precede
    assert [replace(phase, name="").precedes_patience for phase in plan] == precede

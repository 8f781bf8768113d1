"""Every published baseline learns the ring, far beyond popularity, and goes on where it was stopped."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from worlds import NUM_ITEMS, small_dataset, text_like_vectors

from alterrec.data.dataset import Dataset
from alterrec.evaluation.evaluate import Protocol, evaluate
from alterrec.models.base import Recommender
from alterrec.models.catalogue import MODELS, build_model
from alterrec.models.parts import ModelInputs
from alterrec.progress import Event
from alterrec.recipe import Recipe, resolve
from alterrec.training.schedule import phases
from alterrec.training.trainer import Trainer, TrainingState, parameters_of

# Rows of AlterRec's own paper; all others are trained baselines.
OWN = {"independent", "id_only", "text_only", *(name for name in MODELS if name[:5] in ("alter", "nfrec"))}
BASELINES = [name for name, entry in MODELS.items() if entry.trains and name not in OWN]
TINY: dict[str, Any] = {
    "model.dim": 16,
    "model.layers": 1,
    "model.max_len": 8,
    "model.dropout": 0.0,
    "schedule.epochs": 8,
    "schedule.patience": 8,
    "optim.batch_size": 64,
    "optim.lr": 0.01,
    "optim.decay": 1.0,
    "data.prefixes": 0,
}


def tiny_recipe(name: str, **overrides: Any) -> Recipe:
    pretrain = {"schedule.pretrain": 2} if resolve(name).schedule.pretrain else {}
    return resolve(name, overrides=TINY | pretrain | overrides)


def tiny_model(recipe: Recipe, data: Dataset) -> Recommender:
    torch.manual_seed(0)
    trained = torch.ones(NUM_ITEMS, dtype=torch.bool)
    vectors = torch.from_numpy(text_like_vectors(width=recipe.model.dim))
    return build_model(recipe, ModelInputs(NUM_ITEMS, vectors, trained, train=data.train))


def learn(
    model: Recommender, recipe: Recipe, data: Dataset, checkpoint: Path, exclude_seen: bool, **options: Any
) -> TrainingState:
    protocol = Protocol("every", "excluded" if exclude_seen else "kept", recipe.model.max_len)
    resume = options.pop("resume", False)
    trainer = Trainer(
        model,
        recipe,
        phases(recipe),
        data.train,
        lambda: evaluate(model, data.valid, protocol).all_metrics(),
        checkpoint,
        seen="excluded" if exclude_seen else "kept",
        **options,
    )
    return trainer.run(resume=resume)[0]


@pytest.mark.parametrize("exclude_seen", [False, True], ids=["all items", "new items"])
@pytest.mark.parametrize("name", BASELINES)
def test_a_baseline_beats_popularity_clearly(name: str, exclude_seen: bool, tmp_path: Path) -> None:
    data, recipe = small_dataset(users=9), tiny_recipe(name)
    progress = learn(tiny_model(recipe, data), recipe, data, tmp_path / "progress", exclude_seen)
    (popularity,) = MODELS["popularity"].candidates(data.train)
    protocol = Protocol("every", "excluded" if exclude_seen else "kept", recipe.model.max_len)
    known = evaluate(popularity, data.valid, protocol).metrics()["ndcg@20"]
    assert progress.best_value > known + 0.2


@pytest.mark.parametrize("name", ["s3rec", "unisrec"])
def test_pretraining_is_resumed_to_the_weights_of_a_run_never_stopped(name: str, tmp_path: Path) -> None:
    """Stopped in pretraining, and in the first epochs of fine-tuning, whose optimiser begins anew."""
    data, recipe = small_dataset(), tiny_recipe(name, **{"schedule.epochs": 3})
    whole = tiny_model(recipe, data)
    learn(whole, recipe, data, tmp_path / "whole", False)

    class KilledError(Exception):
        pass

    def killed_in(epoch: int) -> Any:
        def listen(event: Event) -> None:
            if event.kind == "step" and event.epoch == epoch:
                raise KilledError

        return listen

    for epoch in (2, 3, 4):
        with pytest.raises(KilledError):
            learn(
                tiny_model(recipe, data),
                recipe,
                data,
                tmp_path / "killed",
                False,
                resume=True,
                listen=killed_in(epoch),
            )
    again = tiny_model(recipe, data)
    learn(again, recipe, data, tmp_path / "killed", False, resume=True)
    for part, expected in parameters_of(whole).items():
        assert torch.equal(parameters_of(again)[part], expected), part

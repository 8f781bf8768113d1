"""Dropout in a training step: what a sample learns does not depend on the samples beside it."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from worlds import NUM_ITEMS, small_dataset

from alterrec.models.base import Recommender
from alterrec.models.catalogue import build_model
from alterrec.models.parts import ModelInputs
from alterrec.nn.losses import ScoreBuffer
from alterrec.recipe import resolve
from alterrec.sessions import PrefixBatches
from alterrec.training.samples import chosen_samples
from alterrec.training.schedule import Phase
from alterrec.training.step import NoClock, Step

SETTINGS = {"model.dim": 8, "model.dropout": 0.4, "id.output_dropout": 0.4, "run.threads": 1}


@pytest.mark.parametrize("system", ["sasrec", "bsarec", "srgnn", "gru4rec"])
def test_the_loss_of_a_batch_is_that_of_its_parts(system: str) -> None:
    """By session and padded, with sessions cut in two and rows of which only the last place is computed."""
    torch.manual_seed(0)
    recipe = resolve(system, overrides=SETTINGS | {"model.max_len": 4})
    store = small_dataset().train
    model: Recommender = build_model(
        recipe, ModelInputs(NUM_ITEMS, None, torch.ones(NUM_ITEMS, dtype=torch.bool))
    )
    phase = Phase("training", "model", 1, "full")
    step = Step(
        model, recipe, phase, NUM_ITEMS, exclude_seen=False, seed=5, buffer=ScoreBuffer(), clock=NoClock()
    )
    layout = "padded" if step.network.reads_prefixes else "by_session"
    batch = PrefixBatches(store, 13, 4, seed=2, layout=layout)[0]
    parts = [np.arange(13) < 6, np.arange(13) >= 6, np.arange(13) == 7]
    whole, *losses = (
        step.loss(each, 3).item() for each in (batch, *(chosen_samples(batch, part) for part in parts))
    )
    assert step.loss(batch, 4).item() != whole
    assert whole == pytest.approx((6 * losses[0] + 7 * losses[1]) / 13, rel=1e-6)
    alone = chosen_samples(batch, parts[2])
    if alone.row_of is not None:
        row = alone.items[alone.row_of, : int(alone.lengths[0])]
        alone = alone._replace(items=row, row_of=np.zeros(1, np.int64))
    assert step.loss(alone, 3).item() == pytest.approx(losses[2], rel=1e-6)

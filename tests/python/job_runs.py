"""Runs on a small catalogue, in this process or in each process of a group, and whether they are the same."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import pytest
from worlds import small_dataset

from alterrec.evaluation.evaluate import evaluate, top_items
from alterrec.models.catalogue import lookup
from alterrec.models.reads import settings_read
from alterrec.recipe import resolve
from alterrec.runs import saved_model
from alterrec.runs.fit import fit
from alterrec.runs.inputs import read_catalogue
from alterrec.shards import Shard
from alterrec.training import windows
from alterrec.training.gradients import GradientSum

SMALL = {
    "model.dim": 8,
    "optim.batch_size": 50,  # two and four processes have different numbers of samples of it
    "schedule.epochs": 1,
    "schedule.patience": 50,
    "run.threads": 1,
    "run.report": False,
    "run.baselines": False,
}
TWO_NETWORKS = {"schedule.epochs": 4, "schedule.warmup": 1, "window.first": 1, "window.last": 0.2}
NOTHING: dict[str, Any] = {}


def train(
    system: str, out: Path, settings: Mapping[str, Any] = NOTHING, stop_after: int | None = None
) -> dict[str, Any]:
    """Train on the ring, in this process or in each of a group; a run in the folder is resumed.

    Args:
        system, out, settings: as for ``fit``.
        stop_after: steps after which the training is interrupted, with a checkpoint of each step.
    """
    steps = 0
    add_up = GradientSum.add_up

    def counted(gradients: GradientSum, **asked: bool) -> tuple[bool, bool]:
        nonlocal steps
        steps += 1
        return add_up(gradients, wanted=True, stopped=steps == stop_after)

    data = small_dataset(users=9)
    # Each of two networks has a warm-up of its own.
    alternates = resolve(system).schedule.regime == "alternate"
    if lookup(system).trains:
        given = settings
        settings = SMALL | (TWO_NETWORKS if alternates else {}) | settings
        settings = settings_read(system, ["best"], settings) | given
    with (
        mock.patch.object(GradientSum, "add_up", counted if stop_after else add_up),
        # The window of a pool of this catalogue has few ranks.
        mock.patch.object(windows, "LEAST_RANKS", 2),
    ):
        try:
            run = fit(data, system, out=out, overrides=settings, resume=True, progress=None)
        except KeyboardInterrupt:
            return {}
    return dict(run.result)


def losses(out: Path) -> list[float]:
    lines = (out / "curves.jsonl").read_text("utf-8").splitlines()
    return [json.loads(line)["loss"] for line in lines]


def check_same(run: Path, alone: Path) -> None:
    """The same samples in every epoch, and losses that only rounding distinguishes."""
    of_run, of_alone = (
        [json.loads(line) for line in (out / "curves.jsonl").read_text("utf-8").splitlines()]
        for out in (run, alone)
    )
    assert [epoch["samples"] for epoch in of_run] == [epoch["samples"] for epoch in of_alone]
    assert losses(run) == pytest.approx(losses(alone), rel=1e-6)


def counts_of(out: Path, divided: bool = False) -> list[np.ndarray]:
    """Ranks and lists of a run, in chunks of a few targets, which processes take in turn or divide."""
    known, data = read_catalogue(out), small_dataset(users=9)
    saved = saved_model.load_model(known, Shard.own(data.num_items) if divided else None)
    protocol = replace(saved.protocol, budget_bytes=4000)
    found = [top_items(saved.model, data.test, protocol, 5)]
    for store in (data.valid, data.test):
        ranks = evaluate(saved.model, store, protocol)
        found += [np.stack(counts) for views in ranks.by_rule.values() for counts in views.values()]
    return found

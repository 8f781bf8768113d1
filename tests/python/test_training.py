"""The trainer: it trains, alternates, stops, and resumes to the same weights."""

from __future__ import annotations

import dataclasses
import json
import math
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors import safe_open
from worlds import NUM_ITEMS, returning_dataset, small_dataset, store_of, text_like_vectors

from alterrec.data.repeats import RepeatModel, SeenItems
from alterrec.errors import InputError
from alterrec.evaluation.evaluate import Protocol, evaluate
from alterrec.evaluation.part_losses import part_gradients, part_losses
from alterrec.evaluation.scales import fit_scales
from alterrec.models.base import Recommender
from alterrec.models.catalogue import build_model
from alterrec.models.parts import ModelInputs
from alterrec.progress import Event
from alterrec.recipe import Recipe, dump_recipe, resolve
from alterrec.record_json import to_json
from alterrec.training.checkpoint import checkpoint_epochs
from alterrec.training.schedule import phases
from alterrec.training.trainer import Trainer, TrainingState, _learning_rate, parameters_of

SMALL: dict[str, Any] = {
    "model.dim": 16,
    "schedule.epochs": 6,
    "schedule.warmup": 1,
    "schedule.patience": 10,
    "window.last": 0.2,
    "optim.batch_size": 64,
    "data.prefixes": 0,
}
VALIDATION = Protocol("every", "kept", 50)


class Session:
    """One training of a small model, with everything a test wants to look at."""

    def __init__(
        self, folder: Path, name: str = "alterrec", *, seen: SeenItems = "kept", **overrides: Any
    ) -> None:
        settings = SMALL | {key.replace("__", "."): value for key, value in overrides.items()}
        self.recipe: Recipe = resolve(name, overrides=settings)
        self.data = returning_dataset() if seen == "repeats" else small_dataset()
        repeats = None
        if seen == "repeats":
            repeats = RepeatModel.counted(self.data.train, self.data.valid, "every")
        self.protocol = Protocol("every", seen, 50, repeats=repeats)
        self.checkpoint = folder / "progress.safetensors"
        self.events: list[Event] = []
        torch.manual_seed(0)
        items = ModelInputs(
            NUM_ITEMS, torch.from_numpy(text_like_vectors()), torch.ones(NUM_ITEMS, dtype=torch.bool)
        )
        self.model: Recommender = build_model(self.recipe, items)

    def run(self, resume: bool = False, **changes: Any) -> tuple[TrainingState, str]:
        def validate() -> dict[str, dict[str, float]]:
            self.model.scales = fit_scales(self.model, self.data.valid, self.protocol)
            return evaluate(self.model, self.data.valid, self.protocol).all_metrics()

        arguments = {
            "seen": self.protocol.seen,
            "checkpoint": self.checkpoint,
            "listen": self.events.append,
            "validate": validate,
        } | changes
        trainer = Trainer(self.model, self.recipe, phases(self.recipe), self.data.train, **arguments)
        return trainer.run(resume=resume)


def test_every_network_learns_and_the_best_epoch_is_kept(tmp_path: Path) -> None:
    session = Session(tmp_path)
    before = evaluate(session.model.eval(), session.data.valid, VALIDATION).metrics()["ndcg@20"]
    progress, stopped = session.run()
    assert stopped == "finished"
    assert [record.trained for record in progress.curves] == ["id", "text"] * 3
    values = [record.valid["score"]["ndcg@20"] for record in progress.curves]
    assert progress.best_epoch == 1 + int(np.argmax(values))
    after = evaluate(session.model, session.data.valid, VALIDATION).metrics()["ndcg@20"]
    assert after == max(values) > before + 0.1


def test_the_best_weights_are_stored_twice_neither_in_memory_nor_in_a_file(tmp_path: Path) -> None:
    """After each epoch there are the last weights and, if they are others, the best ones."""
    session, names = (
        Session(tmp_path),
        {name for name, _ in Session(tmp_path / "other").model.named_parameters()},
    )
    seen: list[tuple[bool, int, bool]] = []
    saved: list[dict[str, torch.Tensor]] = []

    def listen(event: Event) -> None:
        if event.kind == "epoch_end":
            state = TrainingState.load(session.checkpoint, dump_recipe(session.recipe), "")
            with safe_open(session.checkpoint, framework="pt") as file:
                best = sum(name.startswith("best/") for name in file.keys())  # noqa: SIM118
            saved.append(parameters_of(session.model))
            for found, epoch in ((state.parameters, state.epoch), (state.best, state.best_epoch)):
                assert found.keys() == names
                assert all(torch.equal(saved[epoch - 1][name], value) for name, value in found.items())
            seen.append((state.best_epoch == state.epoch, best, state.best is state.parameters))

    values = iter([0.1, 0.3, 0.2, 0.25, 0.4, 0.1])
    progress, _ = session.run(listen=listen, validate=lambda: {"score": {"ndcg@20": next(values)}})
    assert [is_best for is_best, _, _ in seen] == [True, True, False, False, True, False]
    assert all((not best) == is_best == shared for is_best, best, shared in seen)
    assert (progress.best is progress.parameters) == (progress.best_epoch == progress.epoch)


def test_only_the_network_of_the_phase_changes(tmp_path: Path) -> None:
    session = Session(tmp_path, schedule__epochs=2)
    before = parameters_of(session.model)
    seen: list[dict[str, torch.Tensor]] = []

    def validate() -> dict[str, dict[str, float]]:
        seen.append(parameters_of(session.model))
        return {"score": {"ndcg@20": float(len(seen))}}

    session.run(validate=validate)
    for name, start in before.items():
        changed = [not torch.equal(start, seen[0][name]), not torch.equal(seen[0][name], seen[1][name])]
        assert changed == ([True, False] if name.startswith("networks.id") else [False, True]), name


def test_same_seed_same_weights_and_another_seed_others(tmp_path: Path) -> None:
    runs = [Session(tmp_path / name, run__seed=seed) for name, seed in (("a", 0), ("b", 0), ("c", 1))]
    for session in runs:
        session.run()
    first, again, other = (parameters_of(session.model) for session in runs)
    assert all(torch.equal(first[name], again[name]) for name in first)
    assert not torch.equal(first["networks.id.items.rows_VD"], other["networks.id.items.rows_VD"])


@pytest.mark.parametrize(
    ("name", "seen"),
    [
        *((name, "kept") for name in ("alterrec", "alterrec_aug", "nfrec_concat", "bert4rec")),
        ("alterrec", "repeats"),
    ],
)
def test_a_resumed_run_ends_with_the_weights_of_one_never_stopped(
    tmp_path: Path, name: str, seen: SeenItems
) -> None:
    whole = Session(tmp_path / "whole", name, seen=seen, window__first=6)
    progress, _ = whole.run()
    killed = Session(tmp_path / "killed", name, seen=seen, window__first=6)

    class KilledError(Exception):
        pass

    def listen(event: Event) -> None:
        if event.kind == "step" and event.epoch == 4:
            raise KilledError

    with pytest.raises(KilledError):
        killed.run(listen=listen)
    fresh = Session(tmp_path / "killed", name, seen=seen, window__first=6)
    resumed, stopped = fresh.run(resume=True)
    assert stopped == "finished"
    assert any("resumed after epoch 3" in event.message for event in fresh.events)
    for value, expected in zip(
        parameters_of(fresh.model).values(), parameters_of(whole.model).values(), strict=True
    ):
        assert torch.equal(value, expected)
    timeless = [
        [{k: v for k, v in to_json(record).items() if not k.startswith("seconds")} for record in run.curves]
        for run in (progress, resumed)
    ]
    assert timeless[0] == timeless[1]
    assert fresh.model.scales == whole.model.scales
    assert bool(whole.model.scales) == (seen == "repeats")


# The last trains ID against a frozen copy of itself, which is that of the beginning of the epoch.
@pytest.mark.parametrize(
    ("name", "settings"),
    [
        *((name, {}) for name in ("alterrec", "bert4rec", "s3rec")),
        ("alterrec_aug", {"positives__teacher": "id", "id__dropout": 0.3}),
        ("id_only", {"id__optimiser": "rowwise_adagrad"}),
    ],
)
def test_a_run_killed_within_epochs_ends_with_the_weights_of_one_never_stopped(
    tmp_path: Path, name: str, settings: dict[str, Any]
) -> None:
    settings |= {"window__first": 6, "optim__batch_size": 32}
    if name == "s3rec":
        settings |= {"schedule__pretrain": 2, "schedule__epochs": 2, "model__max_len": 10, "model__inner": 16}
    whole = Session(tmp_path / "whole", name, **settings)
    expected, _ = whole.run()
    # A checkpoint after every step; killed in the middle of several epochs, one of them twice.
    settings["run__checkpoint_every"] = 1e-9
    for epoch, steps in ((1, 3), (1, 2), (2, 1), (3, 4), (4, 2)):
        killed = Session(tmp_path / "killed", name, **settings)
        taken = 0

        def listen(event: Event, epoch: int = epoch, steps: int = steps) -> None:
            nonlocal taken
            taken += event.kind == "step" and event.epoch == epoch
            if taken == steps:
                raise InterruptedError

        with pytest.raises(InterruptedError):
            killed.run(resume=True, listen=listen)
    fresh = Session(tmp_path / "killed", name, **settings)
    found, stopped = fresh.run(resume=True)
    assert stopped == "finished"
    assert any("resumed after epoch 3, within epoch 4" in event.message for event in fresh.events)
    after = parameters_of(fresh.model)
    assert all(torch.equal(after[key], value) for key, value in parameters_of(whole.model).items())
    timeless = [
        [{k: v for k, v in to_json(record).items() if not k.startswith("seconds")} for record in run.curves]
        for run in (expected, found)
    ]
    assert timeless[0] == timeless[1]
    for network, states in expected.optimisers.items():
        for index, state in states.items():
            assert all(
                torch.equal(found.optimisers[network][index][key], value) for key, value in state.items()
            )


def test_checkpoints_within_an_epoch_are_written_by_time(tmp_path: Path) -> None:
    def saved(**settings: float) -> set[int]:
        session = Session(tmp_path, schedule__epochs=2, **settings)
        session.checkpoint.unlink(missing_ok=True)
        times: set[int] = set()

        def listen(event: Event) -> None:
            if event.kind == "step" and event.epoch == 1 and session.checkpoint.exists():
                times.add(session.checkpoint.stat().st_mtime_ns)

        session.run(listen=listen)
        return times

    assert len(saved(run__checkpoint_every=1e-9)) > 3
    assert saved(run__checkpoint_every=0) == saved(run__checkpoint_every=600) == set()


def test_a_longer_run_equals_one_that_was_extended(tmp_path: Path) -> None:
    whole = Session(tmp_path / "whole", schedule__epochs=9)
    whole.run()
    Session(tmp_path / "short", schedule__epochs=5).run()
    extended = Session(tmp_path / "short", schedule__epochs=9)
    progress, _ = extended.run(resume=True)
    assert progress.epoch == 9
    after = parameters_of(extended.model)
    assert all(torch.equal(after[key], value) for key, value in parameters_of(whole.model).items())


def test_an_epoch_is_saved_before_it_is_told(tmp_path: Path) -> None:
    session = Session(tmp_path, schedule__epochs=3)

    def listen(event: Event) -> None:
        if event.kind == "epoch_end":
            assert len(checkpoint_epochs(session.checkpoint)) == event.epoch

    session.run(listen=listen)


@pytest.mark.parametrize("moment", ["validate", "save"])
def test_an_interrupted_state_is_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, moment: str) -> None:
    """Ctrl-C in validation leaves the epoch before, and in the saving of an epoch that epoch."""
    session, saves = Session(tmp_path), 0
    save = TrainingState.save

    def interrupted(state: TrainingState, *arguments: Any) -> None:
        nonlocal saves
        saves += 1
        if moment == "save" and saves == 3:
            raise KeyboardInterrupt
        save(state, *arguments)

    def validate() -> dict[str, dict[str, float]]:
        if moment == "validate" and saves == 2:
            raise KeyboardInterrupt
        return {"score": {"ndcg@20": 0.5}}

    monkeypatch.setattr(TrainingState, "save", interrupted)
    progress, stopped = session.run(validate=validate)
    epochs = {"validate": 2, "save": 3}[moment]
    assert (stopped, progress.epoch, len(progress.curves)) == ("interrupted", epochs, epochs)
    assert len(checkpoint_epochs(session.checkpoint)) == epochs


def test_ctrl_c_keeps_the_best_so_far(tmp_path: Path) -> None:
    session = Session(tmp_path)

    def listen(event: Event) -> None:
        if event.kind == "step" and event.epoch == 3:
            raise KeyboardInterrupt

    progress, stopped = session.run(listen=listen)
    assert stopped == "interrupted"
    assert progress.epoch == 2
    best = progress.best
    assert all(torch.equal(value, best[name]) for name, value in parameters_of(session.model).items())


def test_patience_counts_whole_cycles(tmp_path: Path) -> None:
    session = Session(tmp_path, schedule__epochs=20, schedule__patience=2)
    values = iter([0.1, 0.2, 0.5, *[0.3] * 17])
    progress, stopped = session.run(validate=lambda: {"score": {"ndcg@20": next(values)}})
    assert (stopped, progress.best_epoch, progress.epoch) == ("patience", 3, 3 + 2 * 2)


def test_collapse_is_said(tmp_path: Path) -> None:
    session = Session(tmp_path, schedule__epochs=4)
    # 0.49 in epoch 3 is a fluctuation.
    values = iter([0.1, 0.5, 0.49, 0.2])
    progress, _ = session.run(validate=lambda: {"score": {"ndcg@20": next(values)}})
    assert len(progress.warnings) == 1
    assert "epoch 4: validation ndcg@20 0.2000 is below 0.5000" in progress.warnings[0]


def test_an_infinite_loss_is_an_error(tmp_path: Path) -> None:
    session = Session(tmp_path)
    with torch.no_grad():
        session.model.network("id").items.norm.weight.fill_(math.inf)
    with pytest.raises(InputError, match=r"the loss is nan in epoch 1.*lower optim.lr"):
        session.run()


def test_a_damaged_checkpoint_and_one_of_another_recipe_are_refused(tmp_path: Path) -> None:
    session = Session(tmp_path, schedule__epochs=2)
    session.run()
    other = Session(tmp_path, schedule__epochs=2, schedule__gap=4)
    with pytest.raises(InputError, match=r"schedule\.gap was 1, now 4.*Only .*schedule\.epochs.* may change"):
        other.run(resume=True)
    with pytest.raises(InputError, match="belongs to other data"):
        Session(tmp_path, schedule__epochs=2).run(resume=True, fingerprint="other")
    session.checkpoint.write_bytes(b"not a checkpoint")
    with pytest.raises(InputError, match=r"safetensors is damaged .*; start again without --resume"):
        Session(tmp_path, schedule__epochs=2).run(resume=True)


def test_curves_are_plain_json(tmp_path: Path) -> None:
    progress, _ = Session(tmp_path, schedule__epochs=2).run()
    record = json.loads(json.dumps(to_json(progress.curves[0])))
    assert set(record) == {
        *("epoch", "phase", "trained", "negatives", "teacher", "objective", "loss", "samples"),
        *("seconds", "seconds_eval", "valid", "parts"),
    }
    assert record["samples"] == len(small_dataset().train.prefixes("every"))


@pytest.mark.parametrize("name", ["alterrec", "bert4rec"])
def test_samples_are_those_that_are_trained(tmp_path: Path, name: str) -> None:
    """With the repeat component, targets that repeat an item are not; items that are masked all are."""
    session = Session(tmp_path, name, seen="repeats", schedule__epochs=2)
    progress, _ = session.run()
    store = session.data.train
    walks = [store.session(number).tolist() for number in range(len(store))]
    every = sum(len(items) - 1 for items in walks)
    new = sum(items[end] not in items[:end] for items in walks for end in range(1, len(items)))
    assert 0 < new < every
    assert [record.samples for record in progress.curves] == [new if name == "alterrec" else every] * 2


def test_batches_of_repeated_targets_alone_are_passed_over(tmp_path: Path) -> None:
    session = Session(tmp_path, seen="repeats", optim__batch_size=2, schedule__epochs=2)
    before = parameters_of(session.model)
    trainer = {"validate": lambda: {"score": {"ndcg@20": 0.0}}}
    whole = session.data.train
    session.data = dataclasses.replace(session.data, train=store_of([[1, 1, 1], [2, 2]]))
    progress, stopped = session.run(**trainer)
    assert stopped == "finished"
    assert [(record.samples, record.loss) for record in progress.curves] == [(0, 0.0)] * 2
    after = parameters_of(session.model)
    assert all(torch.equal(value, after[name]) for name, value in before.items())
    # Between others they change nothing but the batches.
    session.data = dataclasses.replace(session.data, train=whole)
    session.checkpoint.unlink()
    assert session.run(**trainer)[0].curves[0].loss > 0


@pytest.mark.parametrize("name", ["alterrec", "nfrec_concat", "id_only"])
def test_losses_of_parts_leave_repeated_targets_out(tmp_path: Path, name: str) -> None:
    session = Session(tmp_path, name, seen="repeats")
    session.model.eval()
    mixed, new = store_of([[1, 2], [3, 3], [4, 5], [6, 6]]), store_of([[1, 2], [4, 5]])
    excluded = dataclasses.replace(session.protocol, seen="excluded", repeats=None)
    for measured in (part_losses, part_gradients):
        found = measured(session.model, mixed, session.protocol)
        assert found == pytest.approx(measured(session.model, new, excluded), rel=1e-5)
        assert found == pytest.approx(measured(session.model, mixed, excluded), rel=1e-5)
        kept = dataclasses.replace(excluded, seen="kept")
        assert measured(session.model, mixed, kept) != pytest.approx(
            measured(session.model, new, kept), rel=1e-3
        )
        assert measured(session.model, store_of([[3, 3]]), session.protocol) == {}


def test_text_of_naive_fusion_is_measured_separately(tmp_path: Path) -> None:
    progress, _ = Session(tmp_path, "nfrec_concat", schedule__epochs=2).run()
    assert set(progress.curves[-1].valid) == {"score", "id", "text"}


@pytest.mark.parametrize(
    ("network", "rates"), [("id", [1, 1, 0.1]), ("model", [1, 1, 0.1]), ("text", [1, 1, 1])]
)
def test_authors_decay_by_epochs_of_a_networks_own(network: str, rates: list[float]) -> None:
    """Tenfold every 2 (ID) or 5 (text) epochs; a system of one network decays as ID."""
    recipe = resolve("alterrec", ["authors"])
    settings = {"id": recipe.id, "text": recipe.text}.get(network)
    assert [_learning_rate(recipe, settings, epoch) / 1e-3 for epoch in range(3)] == pytest.approx(rates)


FROZEN = ("session.entrance.positions_LD", "session.blocks")
PRETRAINED = {
    "schedule__pretrain": 2,
    "schedule__epochs": 3,
    "schedule__warmup": 0,
    "model__max_len": 10,
    "model__inner": 16,
    "text__experts": 2,
}


def test_after_pretraining_parts_are_frozen_and_the_optimiser_starts_anew(tmp_path: Path) -> None:
    session = Session(tmp_path, "unisrec", **PRETRAINED)
    after: list[dict[str, torch.Tensor]] = [parameters_of(session.model)]
    steps: list[set[float]] = []

    def validate() -> dict[str, dict[str, float]]:
        after.append(parameters_of(session.model))
        return {"score": {"ndcg@20": len(after) / 10}}

    def listen(event: Event) -> None:
        if event.kind == "epoch_start" and event.epoch > 1:
            saved = TrainingState.load(session.checkpoint, dump_recipe(session.recipe), "").optimisers[
                "model"
            ]
            steps.append({state["step"].item() for state in saved.values()})

    progress, _ = session.run(validate=validate, listen=listen)
    assert [record.objective for record in progress.curves] == ["pretrain"] * 2 + ["next"] * 3
    assert progress.best_epoch == 5
    frozen = {name for name in after[0] if name.removeprefix("networks.model.").startswith(FROZEN)}
    assert len(frozen) > 20
    for name in after[0]:
        changed = [not torch.equal(a[name], b[name]) for a, b in pairwise(after)]
        if name in frozen:
            assert changed == [True, True, False, False, False], name
        elif name.endswith("rows_VD"):
            assert changed == [False, False, True, True, True], name
        else:
            assert all(changed), name
    batches = steps[0].pop()
    assert [*steps[1:]] == [{2 * batches}, {batches}, {2 * batches}]

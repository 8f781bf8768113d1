"""A setting that a run does not read is refused; one that it reads changes the run."""

from __future__ import annotations

import dataclasses
import functools
import hashlib
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from worlds import NUM_ITEMS, small_dataset

from alterrec.data.dataset import Dataset, ItemText
from alterrec.data.repeats import seen_items
from alterrec.errors import InputError
from alterrec.models.catalogue import MODELS, lookup
from alterrec.models.reads import check_settings, keys_read, resolve_read, settings_read
from alterrec.nn.losses import ScoreBuffer
from alterrec.recipe import Recipe, recipe_fields, resolve
from alterrec.recipe_settings import SESSION_ENCODERS
from alterrec.runs import build as runs_build
from alterrec.runs import text_encoder
from alterrec.runs.continued import continue_run
from alterrec.runs.pretrained import start_from
from alterrec.runs.saved_model import protocol_of
from alterrec.sessions import SessionStore
from alterrec.training.schedule import check_freeze, check_loss, phases
from alterrec.training.trainer import INITIALISATION, Trainer, TrainingState, _learning_rate, torch_seed

TINY = {"model.dim": 8, "model.max_len": 6, "optim.batch_size": 64, "window.last": 0.4}
# Where and how a run executes: no number of the run depends on them, and every run takes them.
EXECUTION = {
    *("run.device", "run.threads", "run.memory_budget", "run.report", "run.baselines", "run.compile"),
    *("run.checkpoint_every", "run.shard_items"),
}
# Rounds scores of the teacher, which changes no window of a few items; see test_step.
ROUNDING = {"window.precision"}
# Files that only a reader sees; `fit` passes them to it for every system.
OTHER_DATA = {"data.vectors", "data.text_fields"}
OTHER: Mapping[str, Any] = {
    "run.precision": "bfloat16",
    "run.metrics": ("mrr@5",),
    "data.targets": "every",
    "data.exclude_seen": "never",
    "data.prefixes": 1,
    "data.categories": ("brand",),
    "model.dim": 12,
    "model.heads": 4,
    "model.inner": 24,
    "model.max_len": 3,
    "model.init": "uniform",
    "model.init_from": "nowhere",
    "model.continues": "nowhere",
    "text.encoder": "another",
    "text.projection": "mixture",
    "text.prompt": "item: ",
    "text.truncate_dim": 5,
    "unisrec.item_share": 0.0,
    "gru.hidden": 5,
    "graph.predecessors": 1,
    "optim.batch_size": 8,
    "frequency.low": 6,
    "fdsa.features": "attributes",
    "s3rec.attributes": "categories",
    "window.first": 5,
    "window.last": 15,
    "window.sample": 3,
    "window.precision": "float16",
    "window.pool": 20,
    "positives.teacher": "id",
    "loss.name": "gbce",
    "schedule.metric": "hits@5",
    "schedule.objective": "cloze",
    "schedule.freeze": ("session.blocks",),
    "schedule.negatives": "random",
    "schedule.warmup_negatives": "random",
    "id.start": "pca",
    "id.optimiser": "rowwise_adagrad",
}
# Settings under which systems read what they do not read by themselves.
VARIANTS: Mapping[str, tuple[str, Mapping[str, Any]]] = {
    **{model: (model, {}) for model in MODELS},
    "unisrec_pretrained": ("unisrec_pretrained", {"schedule.pretrain": 1}),
    "positives": ("alterrec", {"positives.top": 2}),
    "queries": ("alterrec", {"id.queries": "items", "text.queries": "both"}),
    "one query": ("alterrec", {"id.queries": "one", "text.queries": "one"}),
    "drawn": ("id_only", {"schedule.negatives": "random", "window.sample": 5}),
    "gbce": (
        "id_only",
        {
            **{"schedule.negatives": "random", "schedule.warmup_negatives": "random"},
            **{"loss.name": "gbce", "id.queries": "one"},
        },
    ),
    "next": ("bert4rec", {"schedule.objective": "next"}),
    "attributes": ("fdsa", {"fdsa.features": "attributes"}),
    "categories": ("s3rec", {"s3rec.attributes": "categories"}),
    "encoder": ("text_only", {"text.encoder": "another"}),
    "paper": ("alterrec", {"id.session": "transformer", "text.session": "mean", "text.dropout": 0.2}),
    **{f"session {name}": ("id_only", {"id.session": name}) for name in SESSION_ENCODERS},
}


@functools.cache
def world() -> Dataset:
    data = small_dataset(users=6)
    titles = data.text.fields["title"] if data.text else []
    fields = {
        "title": titles,
        "category": [f"c{item % 3}" for item in range(NUM_ITEMS)],
        "brand": [f"b{item % 5}" for item in range(NUM_ITEMS)],
    }
    rng = np.random.default_rng(0)
    sessions = [rng.permutation(NUM_ITEMS - 3)[: rng.integers(2, 8)] for _ in range(24)]
    numbers = np.repeat(np.arange(24), [len(items) for items in sessions])
    flat = np.concatenate(sessions).astype(np.int64)
    # One session a day, so that age matters.
    times = (20_000 + numbers) * 86_400
    train = SessionStore.from_arrays(
        numbers, flat, timestamps=times, user_ids=numbers % 6, num_items=NUM_ITEMS
    )
    return dataclasses.replace(data, train=train, text=ItemText(fields))


def drawn_vectors(text: ItemText, encoder: str, **options: Any) -> np.ndarray:
    """Vectors that depend on what :func:`alterrec.data.text.text_vectors` reads for the encoder."""
    given = [encoder, options["fields"], options["truncate_dim"], options["of"] is not None]
    if encoder != "lsa":
        given += [options["prompt"], options["batch_size"]]
    seed = int.from_bytes(hashlib.blake2b(repr(given).encode(), digest_size=4).digest(), "big")
    return np.random.default_rng(seed).normal(size=(len(text), 12)).astype(np.float32)


def observed(recipe: Recipe) -> list[Any]:
    """All that a run of a recipe is: how it is measured, its plan, and one epoch of each kind of phase."""
    data = world()
    seen, repeats = seen_items(recipe.data.exclude_seen, data.train, data.valid, recipe.data.targets)
    protocol = protocol_of(recipe, seen, repeats)
    found: list[Any] = [protocol, recipe.data.categories if recipe.data.text_fields else ()]
    if recipe.schedule.metric:
        found.append(recipe.schedule.metric)
    if not lookup(recipe.model_name).trains:
        return [*found, recipe.run.seed]
    plan = phases(recipe)
    check_loss(recipe, plan)
    check_freeze(recipe)
    torch.manual_seed(torch_seed(recipe.run.seed, INITIALISATION))
    model, _ = runs_build.build(recipe, data, lambda event: None)
    assert model is not None
    if recipe.model.continues:
        continue_run(model, recipe, data, lambda event: None)
    if recipe.model.init_from:
        start_from(recipe.model.init_from, model, recipe)
    trainer = Trainer(model, recipe, plan, data.train, dict, Path("none"), seen=seen)
    by_epoch = [phase for phase in plan for _ in range(phase.epochs)]
    waits = (e for e in range(1000) if trainer._is_out_of_patience(TrainingState("", epoch=e), by_epoch))
    rates = [
        _learning_rate(recipe, model.network(name).settings, e) for name in model.networks for e in range(9)
    ]
    found += [plan, next(waits), rates, model.weights, model.cold_V is None]
    sums = [recipe.fusion.tune, recipe.fusion.neighbours, recipe.fusion.trend, recipe.fusion.gate]
    found.append(len(model.networks) > 1 and sums)
    kinds = {(each.train, each.negatives, each.objective, each.teacher): each for each in reversed(plan)}
    for phase in reversed(kinds.values()):
        torch.manual_seed(7)
        optimisers = {phase.train: trainer._optimiser(phase.train)}
        loss, samples, _ = trainer._train_epoch(phase, optimisers, ScoreBuffer(512), TrainingState(""), 9)
        found.append((loss, samples))
    found.append([value.numpy().tobytes() for value in model.state_dict().values()])
    return found


def changed_value(recipe: Recipe, key: str) -> Any:
    value = recipe.value(key)
    other = OTHER.get(key, value)
    if other != value:
        return other
    if isinstance(value, bool):
        return not value
    if isinstance(value, int):
        return value + 1
    if isinstance(value, float):
        return value / 2 if value else 0.3
    again = {
        "schedule.negatives": "full",
        "text.projection": "mlp",
        "loss.name": "softmax",
        "schedule.objective": "next",
        "fdsa.features": "text",
        "s3rec.attributes": "text",
        "model.init": "normal",
        "schedule.warmup_negatives": "full",
        "id.start": "drawn",
        "text.encoder": "lsa",
        "schedule.regime": "together",
    }
    if key in again:
        return again[key]
    if key.endswith(".queries"):
        return "both" if value == "one" else "one"
    if key.endswith(".session"):
        return "mean" if value != "mean" else "recency"
    if key.endswith(".temperature"):
        return 2.0
    return {"dropout": 0.45, "lr": 0.003, "decay_every": 2}[key.partition(".")[2]]


@pytest.fixture(autouse=True)
def fake_vectors(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(text_encoder, "text_vectors", drawn_vectors)


def outcome(model: str, settings: Mapping[str, Any]) -> list[Any] | str:
    try:
        return observed(resolve(model, overrides=settings))
    except InputError as error:
        return str(error)


@pytest.mark.parametrize("variant", VARIANTS)
def test_a_setting_that_is_read_changes_the_run(variant: str) -> None:
    model, own = VARIANTS[variant]
    base = TINY | own
    recipe = resolve(model, overrides=base)
    before = outcome(model, base)
    assert not isinstance(before, str), before
    idle = []
    for key in sorted(keys_read(recipe) - EXECUTION - ROUNDING - OTHER_DATA - {"schedule.regime"}):
        if outcome(model, {**base, key: changed_value(recipe, key)}) == before:
            idle.append(key)
    assert not idle


@pytest.mark.parametrize("variant", VARIANTS)
def test_a_setting_that_is_not_read_is_refused(variant: str) -> None:
    model, own = VARIANTS[variant]
    recipe = resolve(model, overrides=own)
    key = min(recipe_fields().keys() - keys_read(recipe) - {"schedule.objective"})
    with pytest.raises(InputError, match=rf"^{model} does not read {re.escape(key)}\b.*; leave the key out$"):
        resolve_read(model, overrides={**own, key: changed_value(recipe, key)})


@pytest.mark.torture
@pytest.mark.parametrize("variant", VARIANTS)
def test_a_setting_that_is_refused_would_change_nothing(variant: str) -> None:
    model, own = VARIANTS[variant]
    base = TINY | own
    recipe = resolve(model, overrides=base)
    before = outcome(model, base)
    live = []
    # Masked items are always scored against the whole catalogue; these keys would only divide the plan.
    divide = (
        {"schedule.negatives", "schedule.warmup_negatives"} if recipe.schedule.objective == "cloze" else set()
    )
    for key in sorted(recipe_fields().keys() - keys_read(recipe) - {"schedule.regime"} - divide):
        after = outcome(model, {**base, key: changed_value(recipe, key)})
        if not isinstance(after, str) and after != before:
            live.append(key)
    assert not live


@pytest.mark.parametrize(
    ("model", "regime"), [("alterrec", "together"), ("sasrec", "alternate"), ("sasrec", "none")]
)
def test_a_regime_fits_the_networks_of_a_system(model: str, regime: str) -> None:
    with pytest.raises(InputError, match=rf"schedule.regime is '{regime}', but {model} has . network"):
        resolve_read(model, overrides={"schedule.regime": regime})


def test_the_rate_of_a_network_reaches_it_in_a_system_of_one_network() -> None:
    for model, key in (("id_only", "id.lr"), ("text_only", "text.lr"), ("unisrec_text", "id.lr")):
        recipe = resolve(model, overrides=TINY | {key: 0.9})
        built, _ = runs_build.build(recipe, world(), lambda event: None)
        assert built is not None
        network = built.network("model")
        assert _learning_rate(recipe, network.settings, 0) == 0.9


@pytest.mark.parametrize(
    ("model", "key", "message"),
    [
        ("sasrec", "s3rec.mask", r"sasrec does not read s3rec\.mask; it is read by s3rec"),
        ("sasrec", "graph.steps", r"unless id\.session=graph is set; it is read by srgnn"),
        ("sasrec", "text.experts", r"read by unisrec, unisrec_pretrained, unisrec_text; leave the key out"),
        ("alterrec", "positives.weight", r"unless positives\.top=1 is set; it is read by alterrec_aug"),
        ("id_only", "loss.calibration", r"unless loss\.name=gbce is set; it is read by no system by default"),
    ],
)
def test_the_message_names_the_systems_that_read_a_key(model: str, key: str, message: str) -> None:
    with pytest.raises(InputError, match=message):
        resolve_read(model, overrides={key: changed_value(resolve(model), key)})


def test_a_setting_of_many_systems_is_read_by_one_of_them() -> None:
    settings = {"model.dim": 8, "cloze.ratio": 0.3}
    check_settings(["popularity", "bert4rec"], ["best"], settings)
    assert settings_read("popularity", ["best"], settings) == {}
    assert settings_read("sasrec", ["best"], settings) == {"model.dim": 8}
    message = r"popularity, sasrec do not read cloze\.ratio; it is read by bert4rec, llm2bert4rec"
    with pytest.raises(InputError, match=message):
        check_settings(["popularity", "sasrec"], ["best"], settings)


def test_a_key_is_searched_where_another_value_of_the_search_reads_it() -> None:
    search = {"positives.top": [0, 3], "positives.weight": [0.1, 0.5]}
    check_settings(["alterrec"], ["best"], {}, search)
    with pytest.raises(InputError, match=r"does not read positives\.weight"):
        check_settings(["alterrec"], ["best"], {}, {"positives.weight": [0.1, 0.5]})

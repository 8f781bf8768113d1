"""One training step: shared rows of sessions, chunks, few items of many, and what the clock measures."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode
from worlds import NUM_ITEMS, returning_dataset, small_dataset, text_like_vectors

from alterrec import _ranking_arguments, _ranking_mixtures, ranking
from alterrec.errors import InputError
from alterrec.models.base import Recommender
from alterrec.models.batches import SessionBatch
from alterrec.models.catalogue import build_model
from alterrec.models.parts import ModelInputs
from alterrec.nn.dropout import keep_masks_uncompiled
from alterrec.nn.losses import ScoreBuffer
from alterrec.recipe import resolve
from alterrec.sessions import Batch, PrefixBatches, SessionStore
from alterrec.training import step as step_module
from alterrec.training.samples import without_repeated_targets
from alterrec.training.schedule import Phase, check_loss
from alterrec.training.step import Clock, NoClock, Step, StepSessions

EXACT = {
    "model.dim": 8,
    "model.dropout": 0.0,
    "id.table_dropout": 0.0,
    "window.last": 0.2,
    "model.max_len": 4,
}

TRAIN = small_dataset(users=9).train


def made(name: str = "alterrec", **overrides: Any) -> tuple[Recommender, Any]:
    recipe = resolve(name, overrides=EXACT | {key.replace("__", "."): v for key, v in overrides.items()})
    torch.manual_seed(0)
    vectors = torch.from_numpy(text_like_vectors())
    items = ModelInputs(NUM_ITEMS, vectors, torch.ones(NUM_ITEMS, dtype=torch.bool), train=TRAIN)
    return build_model(recipe, items), recipe


def batches(layout: Any, **options: Any) -> list[Batch]:
    return list(PrefixBatches(TRAIN, 64, 4, shuffle=False, layout=layout, **options))


def learned(
    model: Recommender, recipe: Any, phase: Phase, batch: Batch, *, seen: bool = False, rows: int = 512
) -> tuple[float, list[torch.Tensor]]:
    """Loss and gradients of one step."""
    step = Step(
        model,
        recipe,
        phase,
        NUM_ITEMS,
        exclude_seen=seen,
        seed=5,
        buffer=ScoreBuffer(rows),
        clock=NoClock(),
    )
    loss = step.loss(batch)
    parameters = list(model.network(phase.train).parameters())
    return loss.item(), list(torch.autograd.grad(loss, parameters))


def assert_equal(one: tuple[float, list[torch.Tensor]], other: tuple[float, list[torch.Tensor]]) -> None:
    assert one[0] == pytest.approx(other[0], rel=1e-6)
    for left, right in zip(one[1], other[1], strict=True):
        torch.testing.assert_close(left, right, rtol=1e-4, atol=2e-6)


HARD = Phase("taught", "id", 1, "window", "text")


@pytest.mark.parametrize("session", ["mean", "recency", "transformer", "graph"])
def test_sessions_read_once_teach_as_prefix_by_prefix(session: str) -> None:
    """Sessions longer than max_len are among them."""
    model, recipe = made(id__session=session, text__session=session)
    pairs = list(zip(batches("padded"), batches("by_session"), strict=True))
    assert sum(len(shared.items) for _, shared in pairs) < sum(len(padded.items) for padded, _ in pairs)
    for padded, shared in pairs:
        assert_equal(learned(model, recipe, HARD, padded), learned(model, recipe, HARD, shared))


@pytest.mark.parametrize("share", [0.0, 0.5])
@pytest.mark.parametrize("negatives", ["full", "random", "window"])
def test_chunks_of_scores_change_nothing(negatives: Any, share: float) -> None:
    model, recipe = made("alterrec_aug", window__random_share=share)
    phase = Phase("taught", "text", 1, negatives, "id", positives=2)
    batch = batches("by_session")[0]
    whole = learned(model, recipe, phase, batch, seen=True)
    assert_equal(whole, learned(model, recipe, phase, batch, seen=True, rows=7))


@pytest.mark.parametrize(("name", "session"), [("id", "mean"), ("id", "graph"), ("text", "mean")])
def test_few_items_of_many_teach_as_the_whole_catalogue_does(
    name: str, session: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    model, recipe = made(window__sample=6, id__session=session)
    other = {"id": "text", "text": "id"}[name]
    phase = Phase("taught", name, 1, "window", other, positives=1)
    batch = batches("by_session")[0]
    whole = learned(model, recipe, phase, batch, seen=True)
    seen: list[int] = []
    restrict = step_module.restrict_to_step_items

    def counted(*arguments: Any) -> Any:
        answer = restrict(*arguments)
        seen.append(len(answer[0]))
        return answer

    monkeypatch.setattr(step_module, "ITEMS_PER_CANDIDATE", 1)
    monkeypatch.setattr(step_module, "restrict_to_step_items", counted)
    assert_equal(whole, learned(model, recipe, phase, batch, seen=True))
    assert len(seen) == 1
    assert seen[0] <= NUM_ITEMS


def test_the_teacher_stays_as_it_was_and_does_not_learn() -> None:
    model, recipe = made()
    model.train()
    before = [value.clone() for value in model.network("text").parameters()]
    step = Step(
        model, recipe, HARD, NUM_ITEMS, exclude_seen=False, seed=5, buffer=ScoreBuffer(), clock=NoClock()
    )
    step.loss(batches("by_session")[0]).backward()
    after = list(model.network("text").parameters())
    assert all(torch.equal(one, other) for one, other in zip(before, after, strict=True))
    assert all(value.grad is None for value in after)
    assert not model.network("text").training


def test_the_clock_sees_every_part() -> None:
    model, recipe = made()
    clock = Clock()
    step = Step(model, recipe, HARD, NUM_ITEMS, exclude_seen=False, seed=5, buffer=ScoreBuffer(), clock=clock)
    clock.start()
    step.loss(batches("by_session")[0]).backward()
    assert set(clock.seconds) == {"teacher", "window", "item table", "encoder", "head"}
    assert all(spent >= 0 for spent in clock.seconds.values())


def test_prefixes_of_a_batch_by_session() -> None:
    for padded, shared in zip(batches("padded", pad=-1), batches("by_session"), strict=True):
        prefixes = SessionBatch.of(shared, "cpu").prefixes().numpy()
        np.testing.assert_array_equal(prefixes[:, : padded.items.shape[1]], padded.items)
        assert (prefixes[:, padded.items.shape[1] :] == -1).all()


def returning_store(users: bool = True) -> SessionStore:
    """Sessions in which a quarter of the targets repeat an item, by seven users."""
    store = returning_dataset().train
    numbers = np.repeat(np.arange(len(store)), store.lengths)
    user_ids = numbers % 7 if users else None
    return SessionStore.from_arrays(numbers, store.items, user_ids=user_ids, num_items=NUM_ITEMS)


@pytest.mark.parametrize("users", [False, True])
@pytest.mark.parametrize("layout", ["padded", "by_session"])
def test_targets_that_repeat_an_item_that_is_read_are_left_out(layout: Any, users: bool) -> None:
    store = returning_store(users)
    left_out = 0
    for batch in PrefixBatches(store, 64, 4, shuffle=True, layout=layout):
        kept = without_repeated_targets(batch)
        rows = range(len(batch.items)) if batch.row_of is None else batch.row_of.tolist()
        read = [batch.items[row, :length].tolist() for row, length in zip(rows, batch.lengths, strict=True)]
        new = [target not in items for target, items in zip(batch.targets.tolist(), read, strict=True)]
        left_out += new.count(False)
        for name in ("lengths", "targets", "samples", "sessions", "users"):
            before, after = getattr(batch, name), getattr(kept, name)
            assert (after is None) == (before is None) == (name == "users" and not users)
            if before is not None:
                np.testing.assert_array_equal(after, before[new])
        prefixes = SessionBatch.of(kept, "cpu").prefixes().tolist()
        wanted = [items for items, is_new in zip(read, new, strict=True) if is_new]
        assert [[item for item in row if item >= 0] for row in prefixes] == wanted
    assert left_out > 50


@pytest.mark.parametrize("layout", ["padded", "by_session"])
def test_a_batch_without_repeats_stays_as_it_is(layout: Any) -> None:
    for batch in batches(layout):
        assert without_repeated_targets(batch) is batch


@pytest.mark.parametrize(("name", "layout"), [("alterrec", "by_session"), ("bsarec", "padded")])
def test_repeated_targets_teach_nothing(name: str, layout: Any) -> None:
    """Loss and gradients are those of the other samples, whatever repeated targets are in the batch."""
    model, recipe = made(name)
    phase = HARD if name == "alterrec" else Phase("training", "model", 1, "full")
    store = returning_store()
    samples = store.prefixes("every")[:64]
    targets = store.items[store.offsets[samples[:, 0]] + samples[:, 1]].tolist()
    read = [store.session(int(session))[max(0, end - 4) : end].tolist() for session, end in samples]
    new = np.array([target not in items for target, items in zip(targets, read, strict=True)])
    fixed: dict[str, Any] = {"shuffle": False, "layout": layout}
    (whole,) = PrefixBatches(store, 64, 4, samples=samples, **fixed)
    (others,) = PrefixBatches(store, 64, 4, samples=samples[new], **fixed)
    taught = without_repeated_targets(whole)
    assert 0 < len(taught.targets) == new.sum() < 64
    assert_equal(
        learned(model, recipe, phase, taught, seen=True), learned(model, recipe, phase, others, seen=True)
    )


def test_half_precision_is_near_and_its_ranks_are_not_half() -> None:
    """bfloat16 keeps 8 bits: losses agree within a percent, and gradients are float32."""
    model, recipe = made(run__precision="bfloat16")
    exact = made()[1]
    batch = batches("by_session")[0]
    near, wanted = learned(model, recipe, HARD, batch), learned(model, exact, HARD, batch)
    assert near[0] != wanted[0]
    assert near[0] == pytest.approx(wanted[0], rel=1e-2)
    assert {gradient.dtype for gradient in near[1]} == {torch.float32}


def test_logq_makes_draws_stand_for_the_catalogue() -> None:
    """With many draws the loss of few is that of all, up to the noise of drawing."""
    batch = batches("by_session")[0]
    model, drawn = made(window__sample=2000, loss__logq=True, id__queries="one")
    random = Phase("warm-up", "id", 1, "random")
    found = learned(model, drawn, random, batch)[0]
    plain = learned(model, made(window__sample=2000, id__queries="one")[1], random, batch)[0]
    wanted = learned(model, drawn, Phase("training", "id", 1, "full"), batch)[0]
    assert found == pytest.approx(wanted, abs=0.05)
    assert abs(plain - wanted) > 0.5


def test_gbce_learns_from_drawn_negatives_alone() -> None:
    model, recipe = made(
        "id_only", loss__name="gbce", schedule__negatives="random", window__sample=5, id__queries="one"
    )
    phase = Phase("training", "model", 1, "random")
    loss, gradients = learned(model, recipe, phase, batches("by_session")[0])
    assert loss > 0
    assert any(bool(gradient.any()) for gradient in gradients)
    with pytest.raises(InputError, match=r"loss.name is 'gbce'.* phase 'training' uses the whole catalogue"):
        check_loss(recipe, [Phase("training", "model", 1, "full")])


@pytest.mark.filterwarnings("ignore:The .grad attribute:UserWarning")
@pytest.mark.parametrize("session", ["transformer", "graph"])
def test_a_compiled_encoder_learns_the_same(session: str) -> None:
    """By the backend that needs no compiler: the wiring is ours, the code is not."""
    model, recipe = made(id__session=session)
    batch = batches("by_session")[0]
    plain = learned(model, recipe, HARD, batch)
    keep_masks_uncompiled()
    model.network("id").session.compile(dynamic=True, backend="eager")
    assert_equal(plain, learned(model, recipe, HARD, batch))
    assert all("_orig_mod" not in name for name, _ in model.named_parameters())


def test_a_teacher_in_half_precision_has_a_rounded_table(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its session vectors are those of float32, and its scores products with the rounded item vectors."""
    monkeypatch.setattr("alterrec.nn.losses.PART", 7)
    monkeypatch.setattr(step_module, "PART", 11)
    one = {"id__queries": "one", "text__queries": "one", "window__sample": 6}
    batch, found = batches("by_session")[0], {}
    for precision in ("float32", "float16"):
        model, recipe = made(**one, window__precision=precision)
        made_step = Step(
            model, recipe, HARD, NUM_ITEMS, exclude_seen=True, seed=5, buffer=ScoreBuffer(), clock=NoClock()
        )
        with torch.no_grad():
            sessions = StepSessions(SessionBatch.of(batch, "cpu"), batch.samples)
            scores = made_step._scores("text", sessions)(slice(None))
        found[precision] = made_step, scores.clone()
        assert made_step.loss(batch).isfinite()
    (exact, scores), (half, rounded) = found["float32"], found["float16"]
    network, tables = exact.teachers["text"]
    assert half.teachers["text"][1].outputs.dtype == torch.float16
    with torch.no_grad():
        vectors = network.encode_sessions(SessionBatch.of(batch, "cpu"), tables)
    torch.testing.assert_close(rounded, vectors @ tables.outputs.half().float().T, rtol=1e-5, atol=1e-5)
    assert 0 < (scores - rounded).abs().max() < 2e-3 * scores.abs().max()


def test_a_teacher_with_several_queries_stays_in_single_precision() -> None:
    model, recipe = made(window__precision="float16")
    step = Step(
        model, recipe, HARD, NUM_ITEMS, exclude_seen=True, seed=5, buffer=ScoreBuffer(), clock=NoClock()
    )
    assert step.teachers["text"][1].outputs.dtype == torch.float32


class NoSizesFromValues(TorchDispatchMode):
    """Refuses what a device must be waited for, whoever calls it: values, and sizes that depend on them."""

    def __torch_dispatch__(
        self, function: Any, types: Any, arguments: Any = (), options: dict[str, Any] | None = None
    ) -> Any:
        name = function.overloadpacket.__name__
        masks = [one for one in arguments[1] if one is not None] if name in ("index", "index_put_") else []
        assert name not in ("_local_scalar_dense", "nonzero", "masked_select", "_unique2", "unique_dim"), name
        assert not any(mask.dtype in (torch.bool, torch.uint8) for mask in masks), name
        return function(*arguments, **(options or {}))


class TestDevicePath:
    """What runs for tensors of a device, here on tensors of the CPU: the torch twins, without checks."""

    @pytest.fixture(autouse=True)
    def as_on_a_device(self, monkeypatch: pytest.MonkeyPatch) -> None:
        for module in (ranking, _ranking_mixtures, _ranking_arguments):
            monkeypatch.setattr(module, "on_device", lambda values: isinstance(values, torch.Tensor))

    @pytest.mark.parametrize("share", [0.0, 0.5])
    @pytest.mark.parametrize("positives", [0, 2])
    def test_a_step_there_is_a_step_here(
        self, share: float, positives: int, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        model, recipe = made("alterrec_aug", window__random_share=share)
        phase = Phase("taught", "text", 1, "window", "id", positives=positives)
        batch = batches("by_session")[0]
        there = learned(model, recipe, phase, batch, seen=True)
        monkeypatch.undo()
        assert_equal(there, learned(model, recipe, phase, batch, seen=True))

    @pytest.mark.parametrize(
        ("name", "phase"),
        [
            ("alterrec", HARD),
            *((name, Phase("training", "model", 1, "full")) for name in ("sasrec", "srgnn", "hggnn")),
        ],
    )
    def test_a_step_fetches_nothing(self, name: str, phase: Phase, monkeypatch: pytest.MonkeyPatch) -> None:
        """No tensor is read by the host: reading one would wait for the device."""
        model, recipe = made(name)
        batch = batches("by_session")[0]
        step = Step(
            model, recipe, phase, NUM_ITEMS, exclude_seen=True, seed=5, buffer=ScoreBuffer(), clock=NoClock()
        )

        def refuse(*arguments: Any, **options: Any) -> Any:
            raise AssertionError("the host waits here")

        for reading in ("item", "tolist", "numpy", "cpu", "nonzero", "__bool__", "__int__", "__float__"):
            monkeypatch.setattr(torch.Tensor, reading, refuse)
        with NoSizesFromValues():
            step.loss(batch).backward()

"""UniSRec: the mixture, what pretraining sees, and weights that were pretrained elsewhere."""

from __future__ import annotations

import contextlib
import math
import os
import sys
import tempfile
from dataclasses import replace
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import load_file
from worlds import NUM_ITEMS, small_dataset, text_like_vectors

from alterrec.data.synthetic import synthetic_dataset
from alterrec.errors import InputError
from alterrec.models.base import Network, Recommender
from alterrec.models.batches import ObjectiveBatch, SessionBatch
from alterrec.models.catalogue import build_model
from alterrec.models.parts import ModelInputs
from alterrec.models.unisrec import ContrastiveObjective, in_batch_cross_entropy, without_items
from alterrec.nn.item_encoders import MixtureAdapter
from alterrec.nn.losses import ScoreBuffer
from alterrec.progress import Event
from alterrec.recipe import Recipe, resolve
from alterrec.runs.fit import fit
from alterrec.runs.measure import evaluate_run
from alterrec.runs.pretrained import LAYER, start_from

WIDTH = text_like_vectors().shape[1]
SIZES: dict[str, Any] = {"model.dim": 8, "model.inner": 16, "model.max_len": 10, "text.experts": 3}
RUN = SIZES | {
    "text.truncate_dim": 6,
    "text.standardise": False,
    "schedule.epochs": 2,
    "run.baselines": False,
    "run.report": False,
    "run.threads": 1,
}


def recipe_of(name: str, **overrides: Any) -> Recipe:
    choices = {key.replace("__", "."): value for key, value in overrides.items()}
    return resolve(name, overrides=SIZES | choices)


def model_of(recipe: Recipe, shortened: bool = True) -> Recommender:
    torch.manual_seed(recipe.run.seed)
    vectors_VF = torch.from_numpy(text_like_vectors())
    trained = torch.ones(NUM_ITEMS, dtype=torch.bool)
    other_VF = torch.from_numpy(text_like_vectors(seed=1)) if shortened else None
    return build_model(recipe, ModelInputs(NUM_ITEMS, vectors_VF, trained, shortened_VF=other_VF))


def inputs_of(seed: int = 0, samples: tuple[int, ...] = (7, 8, 9), number: int = 1) -> ObjectiveBatch:
    batch = SessionBatch.of_prefixes(torch.tensor([[3, 1, 2], [7, 5, 0], [5, 5, 0]]), torch.tensor([3, 2, 2]))
    targets_N = torch.tensor([4, 6, 4])
    return ObjectiveBatch(batch, targets_N, np.array(samples), seed, number, False, ScoreBuffer())


# The mixture


def test_mixture_by_hand() -> None:
    """x = 3: gates softmax(3 ln 2, 0) = 8/9, 1/9; experts 2 (3 - 1) = 4 and 5 (3 - 0) = 15."""
    adapter = MixtureAdapter(torch.tensor([[3.0]]), dim=1, experts=2).eval()
    with torch.no_grad():
        adapter.gates_FE.copy_(torch.tensor([[math.log(2), 0.0]]))
        adapter.shifts_EF.copy_(torch.tensor([[1.0], [0.0]]))
        adapter.experts_EDF.copy_(torch.tensor([[[2.0]], [[5.0]]]))
    assert adapter().item() == pytest.approx(4 * 8 / 9 + 15 / 9)


def test_mixture_starts_as_the_public_one_and_has_noise_in_training_alone() -> None:
    torch.manual_seed(0)
    adapter = MixtureAdapter(torch.randn(30, 8), dim=4, experts=3)
    assert not any(value.any() for value in (adapter.gates_FE, adapter.noise_FE, adapter.shifts_EF))
    assert adapter.experts_EDF.std().item() == pytest.approx(0.02, rel=0.3)
    assert not torch.equal(adapter(), adapter())
    adapter.eval()
    assert torch.equal(adapter(), adapter())
    torch.testing.assert_close(adapter(torch.tensor([5, 2])), adapter()[[5, 2]])


def test_each_expert_has_dropout_of_its_own() -> None:
    adapter = MixtureAdapter(torch.ones(200, 1), dim=1, experts=2, dropout=0.5)
    with torch.no_grad():
        adapter.experts_EDF.fill_(1.0)
    # Shares are fixed, so a row is 2 (kept, kept), 1 (one of them) or 0.
    gates_RE = torch.full((200, 2), 0.5)
    values = set(adapter.mixed(adapter.vectors_VF, gates_RE).flatten().tolist())
    assert values == {0.0, 1.0, 2.0}


# Pretraining


@given(st.data())
def test_without_items_as_one_would_write_it_down(data: st.DataObject) -> None:
    length = data.draw(st.integers(1, 8))
    width = data.draw(st.integers(length, 9))
    keep = data.draw(st.lists(st.booleans(), min_size=width, max_size=width))
    items = list(range(10, 10 + length)) + [0] * (width - length)
    left, overwritten = [items[0]], [items[0]]
    for item, kept in zip(items[1:length], keep[1:length], strict=True):
        if kept:
            left.append(item)
            overwritten.append(item)
        else:
            overwritten[-1] = item
    for expected, faithful in ((left, False), (overwritten, True)):
        rows, lengths = without_items(
            torch.tensor([items]), torch.tensor([length]), torch.tensor([keep]), faithful=faithful
        )
        assert lengths.tolist() == [len(expected)]
        assert rows[0, : len(expected)].tolist() == expected


def test_a_pair_with_the_same_target_leaves_the_denominator_or_counts_one() -> None:
    logits = torch.tensor([[2.0, 7.0, 1.0], [7.0, 2.0, 1.0], [0.0, 0.0, 3.0]], dtype=torch.float64)
    targets = torch.tensor([4, 4, 6])
    last = math.log(2 * math.exp(0) + math.exp(3)) - 3
    mended = 2 * (math.log(math.exp(2) + math.exp(1)) - 2) + last
    public = 2 * (math.log(math.exp(2) + 1 + math.exp(1)) - 2) + last
    assert in_batch_cross_entropy(logits, targets).item() == pytest.approx(mended / 3)
    assert in_batch_cross_entropy(logits, targets, faithful=True).item() == pytest.approx(public / 3)


def contrast_of(model: Recommender) -> tuple[Network, ContrastiveObjective]:
    network = model.network("model")
    contrast = network.objectives["pretrain"]
    assert isinstance(contrast, ContrastiveObjective)
    return network, contrast


def test_pretraining_learns_text_and_encoder_and_leaves_item_rows_alone() -> None:
    network, contrast = contrast_of(model_of(recipe_of("unisrec")))
    contrast(network, inputs_of()).backward()
    untouched = {name for name, value in network.named_parameters() if value.grad is None}
    assert untouched == {"items.encoders.0.rows_VD"}


def test_draws_of_pretraining_are_of_seed_and_number_and_words_are_rare() -> None:
    model = model_of(recipe_of("unisrec", text__dropout=0.0, model__dropout=0.0)).eval()
    network, contrast = contrast_of(model)
    first, again, other = (contrast(network, inputs_of(seed)).item() for seed in (1, 1, 2))
    assert first == again != other
    kinds: list[bool] = []
    whole = contrast.losses

    def counted(*arguments: Any, words: bool, **others: Any) -> tuple[torch.Tensor, torch.Tensor]:
        kinds.append(words)
        return whole(*arguments, words=words, **others)

    contrast.losses = counted  # type: ignore[method-assign]
    with torch.no_grad():
        for number in range(400):
            contrast(network, inputs_of(number=number))
    assert 0.05 < np.mean(kinds) < 0.15


def test_without_shortened_texts_every_batch_loses_items() -> None:
    recipe = recipe_of("unisrec", unisrec__item_share=0.0)
    network, contrast = contrast_of(model_of(recipe, shortened=False))
    assert contrast(network, inputs_of()).isfinite()


def test_word_drop_reads_the_other_vectors_where_a_place_is_not_kept() -> None:
    network, contrast = contrast_of(model_of(recipe_of("unisrec")).eval())
    inputs = inputs_of()
    all_kept, none_kept = (torch.full((3, 3), kept) for kept in (True, False))

    def against_themselves(keep_NL: torch.Tensor) -> float:
        return contrast.losses(network, inputs.batch, inputs.targets_N, keep_NL, words=True)[1].item()

    unlike = against_themselves(none_kept)
    assert unlike > against_themselves(all_kept)
    assert contrast.shortened_VF is not None
    contrast.shortened_VF.copy_(torch.from_numpy(text_like_vectors()))
    assert against_themselves(none_kept) == pytest.approx(against_themselves(all_kept), abs=1e-6)


def test_a_saved_run_has_no_vectors_of_shortened_texts() -> None:
    state = model_of(recipe_of("unisrec")).state_dict()
    assert sum(value.shape == (NUM_ITEMS, WIDTH) for value in state.values()) == 1


def test_given_vectors_have_no_words_to_drop_and_the_run_reports_it(tmp_path: Path) -> None:
    events: list[Event] = []
    data = replace(small_dataset(), vectors=text_like_vectors())
    fit(
        data,
        "unisrec_text",
        out=tmp_path,
        overrides=RUN | {"schedule.pretrain": 1},
        progress=events.append,
    )
    assert any("drops items but no words" in event.message for event in events)


# Weights that were pretrained elsewhere


def public_state(recipe: Recipe, places: int = 50) -> dict[str, torch.Tensor]:
    """A state as the public code names it, sizes as in a recipe."""
    sizes, generator = recipe.model, torch.Generator().manual_seed(3)
    matrices = {
        "feed_forward.dense_1": (sizes.inner, sizes.dim),
        "feed_forward.dense_2": (sizes.dim, sizes.inner),
    }
    shapes: dict[str, tuple[int, ...]] = {
        "position_embedding.weight": (places, sizes.dim),
        "LayerNorm.weight": (sizes.dim,),
        "LayerNorm.bias": (sizes.dim,),
        "moe_adaptor.w_gate": (WIDTH, recipe.text.experts),
        "moe_adaptor.w_noise": (WIDTH, recipe.text.experts),
    }
    for layer in range(sizes.layers):
        for part in LAYER:
            shape = matrices.get(part, (sizes.dim, sizes.dim))
            name = f"trm_encoder.layer.{layer}.{part}"
            shapes[f"{name}.weight"] = shape[:1] if part.endswith("Norm") else shape
            shapes[f"{name}.bias"] = shape[:1]
    for expert in range(recipe.text.experts):
        shapes[f"moe_adaptor.experts.{expert}.bias"] = (WIDTH,)
        shapes[f"moe_adaptor.experts.{expert}.lin.weight"] = (sizes.dim, WIDTH)
    return {name: torch.randn(shape, generator=generator) for name, shape in shapes.items()}


def save_public(path: Path, state: dict[str, torch.Tensor], heads: int = 2) -> None:
    """As the public trainer writes it, with an object of a package that is not here."""
    module = ModuleType("recbole_config")
    config_class = type("Config", (), {"__module__": "recbole_config"})
    module.Config = config_class  # type: ignore[attr-defined]
    config = config_class()
    config.final_config_dict = {"n_heads": heads, "dataset": "FHCKM"}
    sys.modules["recbole_config"] = module
    try:
        torch.save({"config": config, "epoch": 299, "state_dict": state, "optimizer": {"state": {}}}, path)
    finally:
        del sys.modules["recbole_config"]


@pytest.mark.parametrize("name", ["unisrec_pretrained", "unisrec_text"])
def test_a_file_of_the_public_code_is_read_by_its_names(tmp_path: Path, name: str) -> None:
    recipe = recipe_of(name)
    state = public_state(recipe)
    save_public(tmp_path / "UniSRec-FHCKM-300.pth", state)
    model = model_of(recipe)
    before = {key: value.clone() for key, value in model.network("model").named_parameters()}
    start_from(str(tmp_path / "UniSRec-FHCKM-300.pth"), model, recipe)
    network = model.network("model")
    for key, value in network.named_parameters():
        assert torch.equal(value, before[key]) == key.endswith("rows_VD"), key
    assert torch.equal(network.session.entrance.positions_LD, state["position_embedding.weight"][:10])
    block = network.session.blocks[1]
    layer = "trm_encoder.layer.1"
    assert torch.equal(block.attention.v.weight, state[f"{layer}.multi_head_attention.value.weight"])
    assert torch.equal(block.attn_norm.bias, state[f"{layer}.multi_head_attention.LayerNorm.bias"])
    assert torch.equal(block.ffn.down.weight, state[f"{layer}.feed_forward.dense_2.weight"])
    (adapter,) = (part for part in network.modules() if isinstance(part, MixtureAdapter))
    assert torch.equal(adapter.experts_EDF[2], state["moe_adaptor.experts.2.lin.weight"])
    assert torch.equal(adapter.shifts_EF[1], state["moe_adaptor.experts.1.bias"])


@pytest.mark.parametrize("call", [(tempfile.mkdtemp, ("", "sprung")), (os.mkdir, ("sprung",))])
def test_nothing_in_a_file_is_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, call: Any) -> None:
    class Trap:
        def __reduce__(self) -> Any:
            return call

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    recipe = recipe_of("unisrec_pretrained")
    torch.save({"state_dict": public_state(recipe), "config": Trap()}, tmp_path / "trap.pth")
    # Torch refuses modules of the operating system; other calls become stand-ins.
    with contextlib.suppress(InputError):
        start_from(str(tmp_path / "trap.pth"), model_of(recipe), recipe)
    assert [path.name for path in tmp_path.iterdir()] == ["trap.pth"]


@pytest.mark.parametrize(
    ("changes", "part"),
    [
        ({"model__dim": 4}, "model.dim 8, but this run has 4; set model.dim=8"),
        ({"model__layers": 3}, "model.layers 2, but this run has 3"),
        ({"model__inner": 8}, "model.inner 16, but this run has 8"),
        ({"text__experts": 4}, "text.experts 3, but this run has 4"),
        ({"model__heads": 4}, "model.heads 2, but this run has 4"),
        ({"model__max_len": 51}, "has 50 positions, but model.max_len is 51; set model.max_len=50"),
        ({"id__session": "transformer"}, r"has session.blocks.\S+.bias, which the model does not have"),
        ({"id__session": "recency"}, "model.init_from is set, but the model is 'unisrec_pretrained'"),
    ],
)
def test_other_sizes_are_named(tmp_path: Path, changes: dict[str, Any], part: str) -> None:
    save_public(tmp_path / "public.pth", public_state(recipe_of("unisrec_pretrained")))
    recipe = recipe_of("unisrec_pretrained", **changes)
    with pytest.raises(InputError, match=part):
        start_from(str(tmp_path / "public.pth"), model_of(recipe), recipe)


def test_vectors_of_another_width_and_other_files_are_named(tmp_path: Path) -> None:
    recipe = recipe_of("unisrec_pretrained")
    state = public_state(recipe)
    wide = state | {"moe_adaptor.w_gate": torch.zeros(768, 3)}
    torch.save(wide, tmp_path / "wide.pth")
    torch.save({"encoder.weight": torch.zeros(2)}, tmp_path / "other.pth")
    torch.save([1, 2], tmp_path / "list.pth")
    (tmp_path / "text.pth").write_text("not a file of tensors")
    for name, part in {
        "wide.pth": f"needs text vectors of 768 columns, but this run has {WIDTH}",
        "other.pth": "unknown layout: adapter.gates_FE is missing",
        "list.pth": "unknown layout",
        "text.pth": "text.pth is damaged .*; give the folder of a unisrec run, or a .pth",
        "none.pth": "no such file or run folder",
    }.items():
        with pytest.raises(InputError, match=part):
            start_from(str(tmp_path / name), model_of(recipe), recipe)
    with pytest.raises(InputError, match=r"the model is 'sasrec'; use it with unisrec_pretrained"):
        start_from(str(tmp_path / "wide.pth"), model_of(recipe_of("sasrec")), recipe_of("sasrec"))


def test_a_run_of_ours_is_tuned_on_other_data_and_needs_no_path_afterwards(tmp_path: Path) -> None:
    source = tmp_path / "source"
    fit(
        synthetic_dataset(items=100, sessions=200),
        "unisrec",
        out=source,
        overrides=RUN | {"schedule.pretrain": 1},
    )
    events: list[Event] = []
    overrides = RUN | {"model.init_from": str(source)}
    run = fit(
        small_dataset(),
        "unisrec_pretrained",
        out=tmp_path / "run",
        overrides=overrides,
        progress=events.append,
    )
    assert any("lsa is fitted to each data set" in event.message for event in events)
    # Frozen parts are the source's to the last bit; the rest has learned.
    ours, theirs = (load_file(folder / "model.safetensors") for folder in (tmp_path / "run", source))
    frozen = [name for name in ours if "session.blocks" in name or name.endswith("positions_LD")]
    assert len(frozen) > 20
    assert all(torch.equal(ours[name], theirs[name]) for name in frozen)
    gates = "model/networks.model.items.encoders.1.gates_FE"
    assert not torch.equal(ours[gates], theirs[gates])
    source.rename(tmp_path / "gone")
    again = evaluate_run(tmp_path / "run", small_dataset())
    assert again["test"]["score"]["ndcg@20"] == pytest.approx(run.result["test"]["score"]["ndcg@20"])
    with pytest.raises(InputError, match="no such file or run folder"):
        fit(small_dataset(), "unisrec_pretrained", out=tmp_path / "next", overrides=overrides)
    other = overrides | {"model.init_from": str(tmp_path / "gone"), "text.standardise": True}
    with pytest.raises(InputError, match=r"text.standardise False, but this run has True"):
        fit(small_dataset(), "unisrec_pretrained", out=tmp_path / "next", overrides=other)


def test_parts_that_nothing_trained_are_not_frozen(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"nothing trains these parameters before; set model.init_from"):
        fit(small_dataset(), "unisrec_pretrained", out=tmp_path, overrides=RUN)

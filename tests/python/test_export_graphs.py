"""Runs as ONNX graphs and as vectors: their scores are those of the package."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
import torch
from conftest import Outcome
from torch import Tensor
from worlds import NUM_ITEMS, returning_dataset, small_dataset, text_like_vectors

from alterrec import fit, load, remove_items
from alterrec.data.dataset import Dataset
from alterrec.errors import InputError
from alterrec.evaluation.evaluate import weighted_sum
from alterrec.exports import onnx_files
from alterrec.exports.graphs import ScoreGraph, padded_items, reads_users
from alterrec.exports.vectors import VectorSpace, write_vectors
from alterrec.models.base import Scorer
from alterrec.models.batches import SessionBatch
from alterrec.models.catalogue import MODELS, build_model
from alterrec.models.gate import Gate
from alterrec.models.neighbours import ItemKnn, Trend
from alterrec.models.parts import ModelInputs
from alterrec.recipe import resolve
from alterrec.runs.saved_model import SavedModel

QUICK: dict[str, Any] = {"run.baselines": False, "run.report": False}
SMALL = QUICK | {"model.dim": 8, "schedule.epochs": 4, "run.threads": 1}
ONE = {"id.queries": "one", "text.queries": "one", "fusion.neighbours": False}
rng = np.random.default_rng(0)
# Also a single item, a whole session of max_len items, and one that is cut.
SESSIONS = [rng.integers(0, NUM_ITEMS, length) for length in (1, 2, 5, 9, 50, 53)]
MAX_LEN = 50
USERS = torch.tensor([0, 1, -1, 2, 3, 4])
needs_exporter = pytest.mark.skipif(
    tuple(map(int, torch.__version__.split(".")[:2])) < onnx_files.OLDEST_TORCH,
    reason="the exporter of this torch fixes the lengths of sessions",
)

# Names of cases: a system, or a system with settings by which another session encoder or mixture is built.
CASES: dict[str, tuple[str, dict[str, Any]]] = {name: (name, {}) for name in MODELS if name != "vsknn"}
CASES |= {
    "one query": ("alterrec", ONE),
    "items alone": ("alterrec", {"id.queries": "items", "text.queries": "items"}),
    "gate": ("alterrec", ONE | {"fusion.gate": True}),
    "seen items kept": ("alterrec", {"data.exclude_seen": "never"}),
    "blocks": ("nfrec_concat", {"id.queries": "one"}),
    "bert4rec, faithful": ("bert4rec", {"model.faithful": True}),
    "bsarec, faithful": ("bsarec", {"model.faithful": True}),
    "gru with queries": ("gru4rec", {"id.queries": "both"}),
    "original sasrec": ("sasrec", {"id.session": "sasrec_original"}),
    "graph with a head": ("llm2sasrec", {"id.session": "graph"}),
}
# Mixtures with all parts of a sum; recurrent units and session vectors. An export takes 3 s.
THROUGH_ONNX = ("alterrec", "gru4rec")


@pytest.fixture(scope="module")
def world() -> Dataset:
    """The ring, with users, and with items that are not in training."""
    return small_dataset(cold=4, users=5)


@pytest.fixture(scope="module")
def runs(world: Dataset, tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], SavedModel]:
    """A function that trains a case, once."""
    known: dict[str, SavedModel] = {}

    def run(case: str) -> SavedModel:
        if case not in known:
            name, settings = CASES[case]
            out = tmp_path_factory.mktemp("runs") / "run"
            start = SMALL if MODELS[name].trains else QUICK
            known[case] = load(fit(world, name, out=out, overrides=start | settings).path)
        return known[case]

    return run


def package_scores(model: Scorer) -> Tensor:
    """The scores of the sessions before the rule for seen items, as evaluation computes them."""
    items_NL = padded_items(SESSIONS, MAX_LEN)
    batch = SessionBatch.of_prefixes(items_NL.clamp(min=0), (items_NL >= 0).sum(1))
    with torch.inference_mode():
        parts = model.part_scores(batch._replace(user_N=USERS), model.prepare())
        return weighted_sum(model.summands(parts, batch), model.weights).clone()


def inputs(model: Scorer) -> dict[str, Tensor]:
    given = {"items": padded_items(SESSIONS, MAX_LEN)}
    return given | {"users": USERS} if reads_users(model) else given


def assert_same(found: Any, expected: Tensor) -> None:
    torch.testing.assert_close(torch.as_tensor(found), expected, rtol=1e-5, atol=1e-5)


def model_of(case: str, world: Dataset) -> Scorer:
    """A case that was not trained: the score of drawn weights, with all parts that validation may add."""
    name, settings = CASES[case]
    entry = MODELS[name]
    if not entry.trains:
        return next(entry.candidates(world.train))
    torch.manual_seed(0)
    recipe = resolve(name, overrides={"model.dim": 8} | settings)
    vectors, trained_V = torch.from_numpy(text_like_vectors()), torch.from_numpy(world.trained)
    model = build_model(recipe, ModelInputs(NUM_ITEMS, vectors, trained_V, train=world.train)).eval()
    if "text" in model.networks:
        neighbours = ItemKnn.fit(world.train, shrinkage=0.0, decay=0.5)
        if recipe.fusion.neighbours:
            model.untrained["neighbours"] = neighbours.as_log(0.01)
        model.untrained["trend"] = Trend.fit(world.train, share=0.2)
        model.weights |= dict.fromkeys(model.untrained, 0.7)
    if recipe.fusion.gate:
        parts, draw = ("id", "trend"), torch.rand(2, 4, dtype=torch.float64)
        ones = torch.ones(4, dtype=torch.float64)
        model.gate = Gate(parts, draw, ones, ones, torch.from_numpy(world.train_counts.copy()))
    return model


@pytest.mark.parametrize("case", CASES)
def test_the_graph_that_is_exported_has_the_scores_of_the_package(case: str, world: Dataset) -> None:
    model = model_of(case, world)
    with torch.inference_mode():
        found = ScoreGraph(model).eval()(*inputs(model).values())
    assert_same(found, package_scores(model))


def check_onnx(saved: SavedModel, folder: Path) -> None:
    ort = pytest.importorskip("onnxruntime")
    onnx_files.write_onnx(saved, folder)
    expected = package_scores(saved.model)
    given = {name: values.numpy() for name, values in inputs(saved.model).items()}
    session = ort.InferenceSession(folder / "model.onnx")
    assert_same(session.run(None, given)[0], expected)
    # A batch of one session of one item.
    first = {name: values[:1, :1] if values.ndim == 2 else values[:1] for name, values in given.items()}
    assert_same(session.run(["scores"], first)[0], expected[:1])
    if (folder / "session.onnx").exists():
        (vectors,) = ort.InferenceSession(folder / "session.onnx").run(["vectors"], given)
        assert_same(vectors @ np.load(folder / "item_vectors.npy").T, expected)


@needs_exporter
@pytest.mark.parametrize("case", THROUGH_ONNX)
def test_onnxruntime_returns_the_scores_of_the_package(
    case: str, runs: Callable[[str], SavedModel], tmp_path: Path
) -> None:
    check_onnx(runs(case), tmp_path / "onnx")


@needs_exporter
@pytest.mark.torture
@pytest.mark.parametrize(
    "case", [case for case in CASES if case not in (*THROUGH_ONNX, "unisrec_pretrained")]
)
def test_onnxruntime_returns_the_scores_of_every_system(
    case: str, runs: Callable[[str], SavedModel], tmp_path: Path
) -> None:
    check_onnx(runs(case), tmp_path / "onnx")


@needs_exporter
def test_the_facts_of_a_graph_are_those_of_the_run(runs: Callable[[str], SavedModel], tmp_path: Path) -> None:
    pytest.importorskip("onnxscript")
    saved = runs("itemknn")
    (tmp_path / "session.onnx").write_text("of another run", "utf-8")
    files = onnx_files.write_onnx(saved, tmp_path)
    assert [file.name for file in files] == ["item_ids.json", "model.json", "model.onnx"]
    assert sorted(file.name for file in tmp_path.iterdir()) == ["item_ids.json", "model.json", "model.onnx"]
    facts = json.loads((tmp_path / "model.json").read_text("utf-8"))
    assert facts["max_len"] == 50
    assert list(facts["inputs"]) == ["items"]
    assert facts["seen"]["rule"] == saved.seen == "excluded"
    assert facts["parts"] == {"model": 1.0}
    assert facts["removed"] == []
    assert json.loads((tmp_path / "item_ids.json").read_text("utf-8")) == list(saved.vocabulary.item_ids)


def test_the_facts_have_the_repeat_component(tmp_path: Path) -> None:
    run = fit(returning_dataset(), "popularity", out=tmp_path / "run", overrides=QUICK)
    saved = load(run.path)
    facts = onnx_files._facts(saved, users=False, product=False)
    assert saved.repeats is not None
    assert facts["seen"]["rule"] == "repeats"
    assert facts["repeats"]["rates"] == saved.repeats.rates_B.tolist()
    assert facts["repeats"]["temperature"] == saved.model.scales["score"].temperature


def test_the_facts_name_removed_items(runs: Callable[[str], SavedModel], tmp_path: Path) -> None:
    saved = runs("popularity")
    fewer = remove_items(saved.path, ["item03"], tmp_path / "fewer", progress=None)
    facts = onnx_files._facts(fewer, users=False, product=False)
    assert facts["removed"] == [3]


@pytest.mark.parametrize("case", ["one query", "blocks", "bert4rec", "hggnn"])
def test_inner_products_are_the_scores_of_the_package(case: str, runs: Callable[[str], SavedModel]) -> None:
    saved = runs(case)
    space = VectorSpace.of(saved)
    ids = saved.vocabulary.item_ids
    sessions = [[ids[item] for item in items] for items in SESSIONS]
    users = None if saved.users is None else [f"user{user}" if user >= 0 else None for user in USERS.tolist()]
    vectors = space.session_vectors(sessions, users=users)
    assert vectors.dtype == space.items_VE.dtype == np.float32
    assert_same(vectors @ space.items_VE.T, package_scores(saved.model))


def test_a_trend_is_a_column_of_the_vectors(runs: Callable[[str], SavedModel]) -> None:
    saved = runs("one query")
    weights = dict(saved.model.weights)
    saved.model.weights.update(trend=0.8)
    try:
        space = VectorSpace.of(saved)
        vectors = space.session_vectors(
            [[saved.vocabulary.item_ids[item] for item in items] for items in SESSIONS]
        )
        assert_same(vectors @ space.items_VE.T, package_scores(saved.model))
    finally:
        saved.model.weights.update(weights)


def test_the_files_of_vectors_agree(runs: Callable[[str], SavedModel], tmp_path: Path) -> None:
    saved = runs("one query")
    files = write_vectors(saved, tmp_path / "vectors")
    assert [file.name for file in files] == ["item_vectors.npy", "item_vectors.parquet", "vectors.json"]
    vectors, frame = np.load(files[0]), pl.read_parquet(files[1])
    assert frame["item_id"].to_list() == list(saved.vocabulary.item_ids)
    assert np.array_equal(np.array(frame["vector"].to_list(), np.float32), vectors)
    facts = json.loads(files[2].read_text("utf-8"))
    assert (facts["items"], facts["dimension"]) == vectors.shape
    assert facts["metric"] == "inner product"


@pytest.mark.parametrize(
    ("case", "reason"),
    [
        ("alterrec", r"several queries \(in id and text\).*neighbours part.*id.queries=one"),
        ("popularity", "counts and has no vectors"),
    ],
)
def test_scores_that_are_no_inner_product_are_refused(
    case: str, reason: str, runs: Callable[[str], SavedModel], tmp_path: Path
) -> None:
    with pytest.raises(InputError, match=reason):
        write_vectors(runs(case), tmp_path / "vectors")
    assert not (tmp_path / "vectors").exists()


def test_a_system_that_searches_sessions_is_refused(world: Dataset, tmp_path: Path) -> None:
    run = fit(world, "vsknn", out=tmp_path / "run", overrides=QUICK)
    with pytest.raises(InputError, match="searches the training sessions"):
        onnx_files.write_onnx(load(run.path), tmp_path / "onnx")
    assert not (tmp_path / "onnx").exists()


def test_a_missing_package_is_named(
    runs: Callable[[str], SavedModel], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(__import__("sys").modules, "onnxscript", None)
    with pytest.raises(InputError, match=r'needs the package onnx.*pip install "alterrec\[onnx\]"'):
        onnx_files.write_onnx(runs("popularity"), tmp_path / "onnx")


def test_the_command_writes_vectors_and_refuses_options_of_data(
    alterrec: Callable[..., Outcome], runs: Callable[[str], SavedModel]
) -> None:
    path = runs("one query").path
    code, out, err = alterrec("export", path, "--to", "vectors", "--out", "out")
    assert code == 0, err
    assert [line.split()[0] for line in out.splitlines()] == [
        str(Path("out") / name) for name in ("item_vectors.npy", "item_vectors.parquet", "vectors.json")
    ]
    code, _, err = alterrec("export", path, "--to", "onnx", "--drop-unknown")
    assert code == 2
    assert "--to onnx exports a run" in err

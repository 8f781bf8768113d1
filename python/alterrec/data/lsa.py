"""Latent semantic analysis of item texts (Deerwester et al., 1990), in any language."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from alterrec.errors import InputError

# Scripts that are written without spaces, and the length of the n-grams that stand for their words. Two
# characters are the usual choice for Chinese and Japanese; those of Thai, Lao, Burmese and Khmer are letters.
CJK = "\u3005-\u3007\u3041-\u3096\u309d-\u309f\u30a1-\u30fa\u30fc-\u30ff\u31f0-\u31ff"
CJK += "\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\uff66-\uff9f\U00020000-\U0003ffff"
LETTERS = "\u0e01-\u0e3a\u0e40-\u0e4e\u0e81-\u0ecd\u1000-\u103f\u1050-\u109f\u1780-\u17d3"
UNSPACED = re.compile(f"([{CJK}]+|[{LETTERS}]+)")
WORD = re.compile(r"\b\w+\b")


def lsa_vectors(texts: Sequence[str], of: Sequence[str], width: int) -> NDArray[np.float32]:
    """Vectors of length 1 of the texts ``of``, in the space of ``texts``; zeros for a text without words.

    Words are weighted by TF-IDF, and an SVD reduces them to at most ``width`` columns.

    Raises:
        InputError: no text has a word.

    Example:
        >>> red, blue, tent = lsa_vectors(*[["赤いマグカップ", "青いマグカップ", "テント"]] * 2, width=8)
        >>> bool(red @ blue > 0.3 > red @ tent)
        True
    """
    from sklearn.decomposition import TruncatedSVD  # type: ignore[import-untyped]
    from sklearn.feature_extraction.text import TfidfVectorizer  # type: ignore[import-untyped]

    vectorizer = TfidfVectorizer(sublinear_tf=True, preprocessor=_folded, tokenizer=words, token_pattern=None)
    try:
        weights = vectorizer.fit_transform(texts)
    except ValueError as error:
        raise InputError(f"text: no words found ({error}); expected text with letters or digits") from None
    wanted = vectorizer.transform(of)
    if min(weights.shape) == 1:
        # There is nothing to reduce.
        vectors = wanted.toarray()
    else:
        # Texts without variance have no share of explained variance, which is not used.
        with np.errstate(divide="ignore", invalid="ignore"):
            vectors = TruncatedSVD(min(width, *weights.shape), random_state=0).fit(weights).transform(wanted)
    lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
    units: NDArray[np.float32] = (vectors / np.maximum(lengths, np.finfo(float).tiny)).astype(np.float32)
    return units


def words(text: str) -> list[str]:
    """The words of a text; overlapping n-grams of characters where a script has no spaces.

    Example:
        >>> words("マグカップ 300ml"), words("red tent")
        (['マグ', 'グカ', 'カッ', 'ップ', '300ml'], ['red', 'tent'])
    """
    if not UNSPACED.search(text):
        return WORD.findall(text)
    return list(_units(text))


def _units(text: str) -> Iterator[str]:
    for place, part in enumerate(UNSPACED.split(text)):
        if place % 2 == 0:
            yield from WORD.findall(part)
        else:
            size = 2 if re.match(f"[{CJK}]", part) else 3
            yield from (part[at : at + size] for at in range(max(1, len(part) - size + 1)))


def _folded(text: str) -> str:
    """Lower case without accents; marks of scripts without spaces are vowels and tones, and are kept."""
    parts = UNSPACED.split(text.lower())
    return "".join(
        unicodedata.normalize("NFKC", part) if place % 2 else _without_accents(part)
        for place, part in enumerate(parts)
    )


def _without_accents(text: str) -> str:
    if text.isascii():
        return text
    return "".join(char for char in unicodedata.normalize("NFKD", text) if not unicodedata.combining(char))

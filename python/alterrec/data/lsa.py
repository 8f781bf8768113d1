"""Latent semantic analysis of item texts (Deerwester et al., 1990), in any language."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

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
MAX_TERMS = 200_000


class LsaSpace:
    """The space of latent semantic analysis: words are weighted by TF-IDF, and an SVD reduces them.

    Args:
        width: columns of a vector at most.
        bounded: whether the 200,000 most frequent words are enough, and float32, so that memory is bounded
            however many texts there are.

    Attributes:
        width: columns of a vector, once the space is fitted.

    Example:
        >>> space = LsaSpace(8).fit(["red tent", "green tent", "oil lamp"])
        >>> space.vectors(["blue tent", "?"]).shape, space.width
        ((2, 3), 3)
        >>> mugs = ["赤いマグカップ", "青いマグカップ", "テント"]
        >>> red, blue, tent = LsaSpace(8).fit(mugs).vectors(mugs)
        >>> bool(red @ blue > 0.3 > red @ tent)
        True
    """

    def __init__(self, width: int, *, bounded: bool = False) -> None:
        from sklearn.feature_extraction.text import TfidfVectorizer  # type: ignore[import-untyped]

        self.width = width
        self._bounded = bounded
        self._components_DT: NDArray[np.floating] | None = None
        self._weights: Any = TfidfVectorizer(
            sublinear_tf=True,
            preprocessor=_folded,
            tokenizer=words,
            token_pattern=None,
            dtype=np.float32 if bounded else np.float64,
            max_features=MAX_TERMS if bounded else None,
        )

    def fit(self, texts: Sequence[str]) -> LsaSpace:
        """Fit the space to texts; InputError if none has a word."""
        from sklearn.decomposition import TruncatedSVD  # type: ignore[import-untyped]

        try:
            weights = self._weights.fit_transform(texts)
        except ValueError as error:
            raise InputError(
                f"text: no words found ({error}); expected text with letters or digits"
            ) from None
        if min(weights.shape) == 1:
            # There is nothing to reduce.
            self.width = weights.shape[1]
            return self
        self.width = min(self.width, *weights.shape)
        # Texts without variance have no share of explained variance, which is not used.
        with np.errstate(divide="ignore", invalid="ignore"):
            self._components_DT = TruncatedSVD(self.width, random_state=0).fit(weights).components_
        return self

    def tensors(self) -> dict[str, NDArray[Any]]:
        """Return what a file needs to keep of the fitted space; :meth:`from_tensors` is the inverse."""
        terms = self._weights.vocabulary_
        # No word has a line break.
        lines = "\n".join(sorted(terms, key=terms.__getitem__)).encode()
        found = {"words": np.frombuffer(lines, np.uint8), "idf": np.asarray(self._weights.idf_)}
        if self._components_DT is not None:
            found["components"] = np.ascontiguousarray(self._components_DT)
        return found | {"bounded": np.array([self._bounded])}

    @classmethod
    def from_tensors(cls, tensors: Mapping[str, NDArray[Any]]) -> LsaSpace:
        """Return the space that :meth:`tensors` described; its vectors are the same to the last bit.

        Raises:
            ValueError: the arrays do not belong together.

        Example:
            >>> texts = ["red tent", "green tent", "oil lamp"]
            >>> space = LsaSpace(8).fit(texts)
            >>> np.array_equal(LsaSpace.from_tensors(space.tensors()).vectors(texts), space.vectors(texts))
            True
        """
        lines = bytes(tensors["words"]).decode().split("\n")
        idf_T, components_DT = tensors["idf"], tensors.get("components")
        if len(set(lines)) != len(idf_T) or (
            components_DT is not None and components_DT.shape[1:] != idf_T.shape
        ):
            raise ValueError("words, idf and components of the space differ in number")
        space = cls(len(idf_T), bounded=bool(tensors["bounded"][0]))
        space._weights.set_params(vocabulary={word: place for place, word in enumerate(lines)})
        space._weights.idf_ = idf_T
        if components_DT is not None:
            space.width, space._components_DT = len(components_DT), components_DT
        return space

    def vectors(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """Vectors of length 1; zeros for a text without words."""
        weights = self._weights.transform(texts)
        components_DT = self._components_DT
        vectors = weights.toarray() if components_DT is None else weights @ components_DT.T
        lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
        units: NDArray[np.float32] = (vectors / np.maximum(lengths, np.finfo(vectors.dtype).tiny)).astype(
            np.float32
        )
        return units


def unspaced(text: str) -> bool:
    """Whether some of a text is in a script without spaces.

    Example:
        >>> unspaced("赤い mug"), unspaced("red mug")
        (True, False)
    """
    return UNSPACED.search(text) is not None


def parts(text: str) -> list[str]:
    """The words of a text as they stand, each with a space after it; runs of unspaced scripts in pieces.

    Example:
        >>> parts("赤いマグカップ mug")
        ['赤い', 'マグ', 'カッ', 'プ ', 'mug ']
    """
    pieces = []
    for word in text.split():
        for run in filter(None, UNSPACED.split(word)):
            size = _gram(run) or len(run)
            pieces += [run[at : at + size] for at in range(0, len(run), size)]
        pieces[-1] += " "
    return pieces


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
            size = _gram(part)
            yield from (part[at : at + size] for at in range(max(1, len(part) - size + 1)))


def _gram(run: str) -> int:
    """Length of the n-grams of a run of one script; 0 if it has spaces."""
    return 2 if re.match(f"[{CJK}]", run) else 3 if re.match(f"[{LETTERS}]", run) else 0


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

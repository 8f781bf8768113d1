"""A data set in memory: sessions by split, item ids and item texts."""

from __future__ import annotations

import hashlib
import operator
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import overload

import numpy as np
import polars as pl
from numpy.typing import NDArray

from alterrec.data.text_names import CATEGORY_COLUMNS, find_text_column
from alterrec.errors import InputError, nearest, number_of
from alterrec.sessions import SessionStore
from alterrec.vocabulary import Vocabulary

SPLITS = ("train", "valid", "test")
# Ids that are turned into Python strings at once.
NAMES_AT_ONCE = 1 << 16


class Names(Sequence[str]):
    """External ids of sessions, which become Python strings only when they are read.

    Args:
        ids: strings, or integers.

    Example:
        >>> names = Names(pl.Series([7, 8, 9]))
        >>> names[0], names[-2:], len(names), "8" in names, names == ["7", "8", "9"]
        ('7', ['8', '9'], 3, True, True)
    """

    def __init__(self, ids: pl.Series) -> None:
        self._ids = ids

    def __len__(self) -> int:
        return len(self._ids)

    @overload
    def __getitem__(self, index: int) -> str: ...
    @overload
    def __getitem__(self, index: slice) -> list[str]: ...
    def __getitem__(self, index: int | slice) -> str | list[str]:
        if isinstance(index, slice):
            texts: list[str] = self._ids[index].cast(pl.String).to_list()
            return texts
        return str(self._ids[operator.index(index)])

    def __iter__(self) -> Iterator[str]:
        for start in range(0, len(self), NAMES_AT_ONCE):
            yield from self[start : start + NAMES_AT_ONCE]

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Sequence) or isinstance(other, str):
            return NotImplemented
        return len(self) == len(other) and all(map(operator.eq, self, other))

    __hash__ = None  # type: ignore[assignment]

    def __repr__(self) -> str:
        return f"Names({_first(self)})"


@dataclass(frozen=True)
class ItemText:
    """Text fields of the catalogue: field name -> one text per item, an empty string if it has none.

    Example:
        >>> text = ItemText({"title": ["Tent", ""], "brand": ["Fernhill", "Oak"]})
        >>> text.joined_texts(), len(text), list(text.fields)
        (['Tent Fernhill', 'Oak'], 2, ['title', 'brand'])
    """

    fields: dict[str, list[str]]

    def __repr__(self) -> str:
        return f"ItemText({number_of(len(self), 'item')}: {', '.join(self.fields)})"

    def __len__(self) -> int:
        return len(next(iter(self.fields.values())))

    def joined(self, item: int) -> str:
        """All non-empty fields of one item, joined by spaces."""
        return " ".join(filter(None, (texts[item] for texts in self.fields.values())))

    def joined_texts(self) -> list[str]:
        """:meth:`joined` of every item."""
        return [self.joined(item) for item in range(len(self))]


@dataclass(frozen=True, eq=False)
class Dataset:
    """Sessions by split over one catalogue.

    Attributes:
        name: name of the folder, or of the built-in catalogue.
        train, valid, test: sessions of the splits. If they have timestamps, they are ordered by their last
            interaction.
        vocabulary: external item ids by item number.
        text: text fields by item, or None.
        vectors: (V, F) float32 or float16 that replace the text, or None.
        session_names: split -> external session id by session index.
        notes: what was split off or dropped, and other remarks, one sentence each.
        users: external user ids by user number, or None if the data has none.
    """

    name: str
    train: SessionStore
    valid: SessionStore
    test: SessionStore
    vocabulary: Vocabulary
    text: ItemText | None
    vectors: NDArray[np.floating] | None
    session_names: Mapping[str, Sequence[str]]
    notes: tuple[str, ...] = ()
    users: Vocabulary | None = None

    def __repr__(self) -> str:
        sessions = ", ".join(f"{len(store)} {split}" for split, store in self.splits.items())
        text = ", ".join(self.text.fields) if self.text else "none"
        vectors = "" if self.vectors is None else f"; vectors {self.vectors.shape}"
        items = number_of(self.num_items, "item")
        return f"Dataset({self.name!r}: {items}, sessions {sessions}; text {text}{vectors})"

    @property
    def num_items(self) -> int:
        """Size of the catalogue, including cold items."""
        return len(self.vocabulary)

    @property
    def splits(self) -> dict[str, SessionStore]:
        """Split name -> sessions, in the order train, valid, test."""
        return {"train": self.train, "valid": self.valid, "test": self.test}

    @cached_property
    def train_counts(self) -> NDArray[np.int64]:
        """Interactions of each item in train, (V,) int64."""
        return np.asarray(self.train.item_counts(), dtype=np.int64)

    @property
    def trained(self) -> NDArray[np.bool_]:
        """Whether each item occurs in train, (V,) bool; the others are cold."""
        return self.train_counts > 0

    @cached_property
    def fingerprint(self) -> str:
        """Hex digest of ids, texts, vectors and sessions; it does not depend on names or paths."""
        digest = hashlib.blake2b(digest_size=16)
        _feed(digest, self.vocabulary.item_ids)
        for field, texts in (self.text.fields if self.text else {}).items():
            _feed(digest, [field, *texts])
        if self.vectors is not None:
            digest.update(f"{self.vectors.shape}".encode())
            digest.update(np.ascontiguousarray(self.vectors).data)
        for split, store in self.splits.items():
            _feed(digest, self.session_names[split])
            for array in (store.offsets, store.items, store.timestamps, store.users):
                digest.update(b"-" if array is None else array.data)
        return digest.hexdigest()

    def with_users(self, users: Vocabulary) -> Dataset:
        """The same sessions with the user numbers of another data set, matched by external id.

        Args:
            users: external user ids by number; a user who is not among them gets -1.

        Raises:
            ValueError: this data set has no user ids.

        Example:
            >>> store = SessionStore.from_arrays([0, 1], [0, 1], user_ids=[0, 1])
            >>> data = Dataset("mine", store, store, store, Vocabulary(("tent", "lamp")), None, None, {},
            ...                users=Vocabulary(("anna", "ben")))
            >>> data.with_users(Vocabulary(("eve", "cid", "ben"))).test.users
            array([-1,  2])
        """
        if self.users is None:
            raise ValueError(f"{self.name}: its users have no names to match by")
        # The number -1 of an unknown user indexes the appended -1.
        number_U = np.append(users.find(self.users.item_ids), -1)
        train, valid, test = (_renumbered(store, number_U) for store in self.splits.values())
        return replace(self, train=train, valid=valid, test=test, users=users)


def _first(ids: Sequence[str]) -> str:
    """How many ids there are, and the first of them."""
    shown = ", ".join(repr(each) for each in ids[:3])
    return f"{number_of(len(ids), 'id')}: {shown}{', ...' if len(ids) > 3 else ''}"


def _renumbered(store: SessionStore, number_U: NDArray[np.int64]) -> SessionStore:
    if store.users is None:
        return store
    return SessionStore.from_arrays(
        np.repeat(store.session_ids, store.lengths),
        store.items,
        timestamps=store.timestamps,
        user_ids=np.repeat(number_U[store.users], store.lengths),
        num_items=store.num_items,
    )


def _feed(digest: hashlib.blake2b, texts: Sequence[str]) -> None:
    # Each text follows its length, so that ("ab", "c") and ("a", "bc") differ.
    for text in texts:
        raw = text.encode()
        digest.update(len(raw).to_bytes(8, "little"))
        digest.update(raw)


def category_ids(text: ItemText, fields: Sequence[str] = ()) -> NDArray[np.int64] | None:
    """Return category ids, (V, C, K) int64, by item and field, padded with -1; None without such fields.

    A cell holds values separated by commas. The values of a field are numbered from 0 in alphabetical order,
    so the number of values of a field is its largest id plus 1.

    Args:
        text: text fields of the catalogue.
        fields: the fields that hold categories; if empty, those called category, categories, brand or
            taxonomy.

    Raises:
        InputError: a field does not exist or has no value at all.

    Example:
        >>> text = ItemText({"title": ["Jaws", "Up"], "category": ["Horror, Drama", "Comedy"]})
        >>> category_ids(text).tolist()
        [[[1, 2]], [[0, -1]]]
    """
    chosen = []
    for name in fields:
        column = find_text_column(name, text.fields)
        if column is None:
            raise InputError(
                f"data.categories: column {name!r} is missing; choose among {', '.join(text.fields)}"
                f"{nearest(name, text.fields)}"
            )
        chosen.append(column)
    chosen = chosen or [name for name in text.fields if name.lower() in CATEGORY_COLUMNS]
    columns = []
    for name in chosen:
        cells = [sorted({value.strip() for value in cell.split(",")} - {""}) for cell in text.fields[name]]
        if any(cells):
            columns.append(cells)
        elif fields:
            raise InputError(
                f"data.categories: column {name!r} is empty; expected values separated by commas"
            )
    if not columns:
        return None
    width = max(len(values) for column in columns for values in column)
    ids_VCK = np.full((len(text), len(columns), width), -1, dtype=np.int64)
    for field, cells in enumerate(columns):
        numbers = {value: id for id, value in enumerate(sorted(set().union(*cells)))}
        for item, values in enumerate(cells):
            ids_VCK[item, field, : len(values)] = [numbers[value] for value in values]
    return ids_VCK

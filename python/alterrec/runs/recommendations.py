"""Recommended, scored and similar items, as lists, frames and HTML."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from html import escape
from typing import TYPE_CHECKING, NamedTuple

import polars as pl

from alterrec.errors import number_of
from alterrec.report.frames import as_pandas

if TYPE_CHECKING:
    from pandas import DataFrame

# Characters of a text, and lists, that are shown.
SHOWN_TEXT = 60
SHOWN_LISTS = 5


class Recommendation(NamedTuple):
    """One recommended item.

    Attributes:
        item_id: its id in your data.
        score: its score in the session; higher is better. Scores of different sessions cannot be compared.
        text: its text; empty if the data has none.
    """

    item_id: str
    score: float
    text: str

    def __repr__(self) -> str:
        return f"Recommendation({self.item_id!r}, {self.score:.4g}, {short(self.text)!r})"


class RankedItems(list[list[Recommendation]]):
    """Lists of items, best first, each found for a session or for an item."""

    def to_pandas(self) -> DataFrame:
        """Return :meth:`to_polars` as a frame of pandas; InputError if that is not installed."""
        return as_pandas(self.to_polars())

    def to_polars(self) -> pl.DataFrame:
        """Return a frame of polars: what the list was found for, rank from 1, item_id, score, text."""
        head, names = self._found_for()
        rows = [
            (name, rank, *item)
            for name, items in zip(names, self, strict=True)
            for rank, item in enumerate(items, start=1)
        ]
        first = pl.Int64 if head == "session" else pl.String
        schema = {head: first, "rank": pl.Int64, "item_id": pl.String, "score": pl.Float64, "text": pl.String}
        return pl.DataFrame(rows, schema=schema, orient="row")

    def _found_for(self) -> tuple[str, Sequence[int | str]]:
        """Return the name of the first column and its value for each list."""
        return "session", range(len(self))

    def _described(self) -> str:
        head, names = self._found_for()
        first = ", ".join(repr(item.item_id) for item in self[0][:3]) if self else ""
        more = ", ..." if self and len(self[0]) > 3 else ""
        return f"; {head} {names[0]}: {first}{more}" if first else ""

    def _repr_html_(self) -> str:
        head, names = self._found_for()
        rows = "".join(
            f"<tr><td>{escape(str(name))}</td><td>{rank}</td><td>{escape(item.item_id)}</td>"
            f"<td>{item.score:.4g}</td><td style='text-align: left'>{escape(short(item.text))}</td></tr>"
            for name, items in list(zip(names, self, strict=True))[:SHOWN_LISTS]
            for rank, item in enumerate(items, start=1)
        )
        heads = "".join(f"<th>{name}</th>" for name in (head, "rank", "item", "score", "text"))
        hidden = len(self) - SHOWN_LISTS
        note = f"<p>and {hidden} more {head}s</p>" if hidden > 0 else ""
        return f"<table><thead><tr>{heads}</tr></thead><tbody>{rows}</tbody></table>{note}"


class Recommendations(RankedItems):
    """The recommendations of each session, best first; a list of lists that prints a few of them.

    Attributes:
        unknown: for each session, the ids of its items that are not in the catalogue and were ignored.
        unknown_in_filters: the distinct ids of ``exclude`` and ``only`` that are not in the catalogue.

    Example:
        >>> found = Recommendations([[Recommendation("tent", 2.5, "Red tent")], []], [[], ["boat"]])
        >>> found
        Recommendations(2 sessions, 1 item, 1 unknown; session 0: 'tent')
        >>> found.to_polars().rows()
        [(0, 1, 'tent', 2.5, 'Red tent')]
        >>> found.unknown
        [[], ['boat']]
    """

    def __init__(
        self,
        lists: Iterable[list[Recommendation]] = (),
        unknown: list[list[str]] | None = None,
        unknown_in_filters: Sequence[str] = (),
    ) -> None:
        super().__init__(lists)
        self.unknown = [[] for _ in self] if unknown is None else unknown
        self.unknown_in_filters = list(unknown_in_filters)

    def __repr__(self) -> str:
        count = sum(map(len, self.unknown))
        unknown = f", {count} unknown" if count else ""
        sessions, total = number_of(len(self), "session"), number_of(sum(map(len, self)), "item")
        return f"Recommendations({sessions}, {total}{unknown}{self._described()})"


class SimilarItems(RankedItems):
    """The items that are most similar to each of some items, most similar first.

    The score of an item is its similarity.

    Attributes:
        items: the ids of the items that were asked for, one for each list.
        by: what was compared.

    Example:
        >>> SimilarItems([[Recommendation("lamp", 0.5, "Oil lamp")]], ["tent"], "text")
        SimilarItems(1 item, by text; item tent: 'lamp')
    """

    def __init__(self, lists: Iterable[list[Recommendation]], items: Sequence[str], by: str) -> None:
        super().__init__(lists)
        self.items = list(items)
        self.by = by

    def __repr__(self) -> str:
        return f"SimilarItems({number_of(len(self), 'item')}, by {self.by}{self._described()})"

    def _found_for(self) -> tuple[str, Sequence[int | str]]:
        return "item", self.items


class Scores(list[list[float]]):
    """The scores of given items in each session, in the order in which the items were given.

    Attributes:
        items: for each session, the ids of its items.
        unknown: for each session, the ids of its items that are not in the catalogue and were ignored. A
            session without known items has no scores.

    Example:
        >>> found = Scores([[2.5]], [["tent"]], [[]])
        >>> found, found.to_polars().rows()
        (Scores(1 session, 1 score), [(0, 'tent', 2.5)])
    """

    def __init__(
        self, scores: Iterable[list[float]], items: list[list[str]], unknown: list[list[str]]
    ) -> None:
        super().__init__(scores)
        self.items = items
        self.unknown = unknown

    def __repr__(self) -> str:
        return f"Scores({number_of(len(self), 'session')}, {number_of(sum(map(len, self)), 'score')})"

    def to_polars(self) -> pl.DataFrame:
        """Return a frame of polars: session (number), item_id, score."""
        rows = [
            (session, item, score)
            for session, (items, scores) in enumerate(zip(self.items, self, strict=True))
            for item, score in zip(items, scores, strict=bool(scores))
        ]
        schema = {"session": pl.Int64, "item_id": pl.String, "score": pl.Float64}
        return pl.DataFrame(rows, schema=schema, orient="row")

    def to_pandas(self) -> DataFrame:
        """Return :meth:`to_polars` as a frame of pandas; InputError if that is not installed."""
        return as_pandas(self.to_polars())

    def _repr_html_(self) -> str:
        shown = list(zip(self.items, self, strict=True))[:SHOWN_LISTS]
        rows = "".join(
            f"<tr><td>{session}</td><td>{escape(item)}</td><td>{score:.4g}</td></tr>"
            for session, (items, scores) in enumerate(shown)
            for item, score in zip(items, scores, strict=bool(scores))
        )
        hidden = len(self) - SHOWN_LISTS
        note = f"<p>and {hidden} more sessions</p>" if hidden > 0 else ""
        heads = "<tr><th>session</th><th>item</th><th>score</th></tr>"
        return f"<table><thead>{heads}</thead><tbody>{rows}</tbody></table>{note}"


def short(text: str) -> str:
    """Return the first characters of a text, without line breaks.

    Example:
        >>> short("Red\\n tent")
        'Red tent'
    """
    line = " ".join(text.split())
    return line if len(line) <= SHOWN_TEXT else f"{line[: SHOWN_TEXT - 4]} ..."

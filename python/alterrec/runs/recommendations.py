"""Recommended items, as lists, frames and HTML."""

from __future__ import annotations

from html import escape
from typing import TYPE_CHECKING, NamedTuple

import polars as pl

from alterrec.report.frames import as_pandas

if TYPE_CHECKING:
    from pandas import DataFrame

# Characters of a text, and sessions, that are shown.
SHOWN_TEXT = 60
SHOWN_SESSIONS = 5


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
        return f"Recommendation({self.item_id!r}, {self.score:.4g}, {_short(self.text)!r})"


class Recommendations(list[list[Recommendation]]):
    """The recommendations of each session, best first; a list of lists that prints a few of them.

    Example:
        >>> found = Recommendations([[Recommendation("tent", 2.5, "Red tent")], []])
        >>> found
        Recommendations(2 sessions, 1 items; session 0: 'tent')
        >>> found.to_polars().rows()
        [(0, 1, 'tent', 2.5, 'Red tent')]
    """

    def __repr__(self) -> str:
        first = ", ".join(repr(item.item_id) for item in self[0][:3]) if self else ""
        more = ", ..." if self and len(self[0]) > 3 else ""
        start = f"; session 0: {first}{more}" if first else ""
        return f"Recommendations({len(self)} sessions, {sum(map(len, self))} items{start})"

    def to_polars(self) -> pl.DataFrame:
        """Return a frame of polars: session (number), rank from 1, item_id, score, text."""
        rows = [
            (session, rank, *item)
            for session, items in enumerate(self)
            for rank, item in enumerate(items, start=1)
        ]
        schema = {"session": pl.Int64, "rank": pl.Int64, "item_id": pl.String}
        return pl.DataFrame(rows, schema={**schema, "score": pl.Float64, "text": pl.String}, orient="row")

    def to_pandas(self) -> DataFrame:
        """Return :meth:`to_polars` as a frame of pandas; InputError if that is not installed."""
        return as_pandas(self.to_polars())

    def _repr_html_(self) -> str:
        rows = "".join(
            f"<tr><td>{session}</td><td>{rank}</td><td>{escape(item.item_id)}</td><td>{item.score:.4g}</td>"
            f"<td style='text-align: left'>{escape(_short(item.text))}</td></tr>"
            for session, items in enumerate(self[:SHOWN_SESSIONS])
            for rank, item in enumerate(items, start=1)
        )
        heads = "".join(f"<th>{name}</th>" for name in ("session", "rank", "item", "score", "text"))
        hidden = len(self) - SHOWN_SESSIONS
        note = f"<p>and {hidden} more sessions</p>" if hidden > 0 else ""
        return f"<table><thead><tr>{heads}</tr></thead><tbody>{rows}</tbody></table>{note}"


def _short(text: str) -> str:
    """The first characters of a text, without line breaks."""
    line = " ".join(text.split())
    return line if len(line) <= SHOWN_TEXT else f"{line[: SHOWN_TEXT - 4]} ..."

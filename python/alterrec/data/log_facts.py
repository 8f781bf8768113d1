"""Questions about whole columns of a log that are answered together, because each pass reads the log once."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import polars as pl

from alterrec.data.log_frames import LogFrame


class Facts:
    """Aggregates over all rows of a log.

    Questions that can wait are asked with :meth:`later` and answered in the pass of the next :meth:`now`.
    """

    def __init__(self, log: LogFrame) -> None:
        self.log = log
        self.waiting: dict[str, pl.Expr] = {}
        self.answers: dict[str, Any] = {}

    def place(self, column: str) -> str:
        """The log and one of its columns, for messages."""
        return f"{self.log.where}: column {column!r}"

    def later(self, questions: Mapping[str, pl.Expr]) -> None:
        """Ask questions by name whose answers are needed after the next pass."""
        self.waiting |= questions

    def now(
        self,
        questions: Mapping[str, pl.Expr] | None = None,
        given: Mapping[str, pl.Expr] | None = None,
    ) -> dict[str, Any]:
        """All answers so far, with those to ``questions`` and to all that waited.

        Args:
            questions: aggregates by name.
            given: columns by name that the questions read, computed once.
        """
        asked = self.waiting | dict(questions or {})
        self.waiting = {}
        if asked:
            with self.log.collecting():
                frame = self.log.frame.with_columns(**(given or {}))
                self.answers |= frame.select(**asked).collect(engine="streaming").row(0, named=True)
        return self.answers

    def sample(self, column: str, *, where: pl.Expr, size: int = 1000) -> pl.Series:
        """The first values of a column that fulfil a condition."""
        with self.log.collecting():
            rows = self.log.frame.filter(where).select(column).head(size).collect(engine="streaming")
        return rows[column]


def cell_text(column: str) -> pl.Expr:
    """The cells of a column as text without spaces around it."""
    return pl.col(column).cast(pl.String).str.strip_chars()

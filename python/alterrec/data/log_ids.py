"""Ids of a log as text, each exactly as it stands."""

from __future__ import annotations

from typing import NamedTuple

import polars as pl

from alterrec.data.log_facts import Facts
from alterrec.errors import InputError

# What other software writes for a missing value; as an id, one of them stands for many users.
MISSING = ("na", "nan", "n/a", "#n/a", "null", "none", "nil", "undefined", "unknown", "(not set)", "\\n")
# What pandas makes of integers with gaps: 17850.0, also with a decimal comma.
DOT_ZERO = r"^-?\d{1,16}[.,]0$"


class LogIds(NamedTuple):
    """A column of ids before its facts are known.

    Attributes:
        column: the log's.
        kind: its type.
        ours: what it is, for messages.
    """

    column: str
    kind: pl.DataType
    ours: str

    def ask(self, facts: Facts) -> None:
        """Ask what has to be known about the whole column.

        Raises:
            InputError: the column has another type than text or numbers.
        """
        column, kind = pl.col(self.column), self.kind
        if kind.is_float():
            whole = (column == column.round()) & (column.abs() <= 2.0**53)
            facts.later(
                self._named(
                    lost=(~whole & column.is_not_nan()).sum(), lost_such=column.filter(~whole).first()
                )
            )
        elif isinstance(kind, pl.Decimal):
            lost = column.is_not_null() & _integer_text(column).is_null()
            facts.later(self._named(lost=lost.sum(), lost_such=column.filter(lost).first().cast(pl.String)))
        elif self._is_text:
            text = column.cast(pl.String).str.strip_chars()
            missing = text.str.to_lowercase().is_in(list(MISSING))
            facts.later(
                self._named(
                    cells=(text != "").sum(),
                    dot_zero=text.str.contains(DOT_ZERO).sum(),
                    missing=missing.sum(),
                    missing_such=text.filter(missing).first(),
                )
            )
        elif not (kind.is_integer() or kind == pl.Null):
            raise InputError(
                f"{facts.log.where}: column {self.column!r} ({self.ours}) is {kind}; expected text or "
                "integers"
            )

    def read(self, facts: Facts) -> tuple[pl.Expr, list[str]]:
        """The ids as text, null where a cell is blank, and sentences about them.

        Raises:
            InputError: the column has numbers that are no integers.
        """
        found = facts.now()
        column, notes = pl.col(self.column), []
        if found.get(f"{self.ours}_lost"):
            raise InputError(
                f"{facts.log.where}: {self.ours} ({self.column!r}) is {found[f'{self.ours}_lost_such']} in "
                f"one of {found[f'{self.ours}_lost']} rows; expected text or integers (numbers without a "
                "fraction, up to 2**53, are read as integers). Write the column as text"
            )
        if self.kind.is_float():
            notes.append(f"{self.ours}: numbers such as 123.0 are read as 123")
            return column.fill_nan(None).cast(pl.Int64).cast(pl.String), notes
        if isinstance(self.kind, pl.Decimal):
            return _integer_text(column), notes
        text = column.cast(pl.String)
        if self._is_text:
            text = pl.when(text.str.strip_chars() != "").then(text)
            if 0 < found[f"{self.ours}_cells"] == found[f"{self.ours}_dot_zero"]:
                notes.append(f"{self.ours}: all ids are numbers such as 123.0, which are read as 123")
                text = text.str.strip_chars().str.replace(r"[.,]0$", "")
            if found[f"{self.ours}_missing"]:
                notes.append(
                    f"{self.ours} is {found[f'{self.ours}_missing_such']!r} or the like in "
                    f"{found[f'{self.ours}_missing']:,} rows, which is an id like any other; if the id is "
                    "missing there, leave these cells empty"
                )
        return text, notes

    @property
    def _is_text(self) -> bool:
        return self.kind in (pl.String, pl.Categorical, pl.Enum, pl.Binary)

    def _named(self, **questions: pl.Expr) -> dict[str, pl.Expr]:
        return {f"{self.ours}_{name}": question for name, question in questions.items()}


def _integer_text(column: pl.Expr) -> pl.Expr:
    return column.cast(pl.String).str.extract(r"^(-?\d+)(?:\.0*)?$")

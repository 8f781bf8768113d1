"""Dates as text: the forms in which they are written, as expressions that read a column of one form."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import cache
from typing import Literal, NamedTuple

import polars as pl

Order = Literal["year first", "day first", "month first", "named month"]

MICRO = 10**6
# polars reads these four times as fast as with fractions of a second.
FAST = (" %H:%M:%S", "T%H:%M:%S")
# Two digits of a year are no year: %Y reads 10 as the year 10.
YEAR_1000 = -30_610_224_000 * MICRO


class DateForm(NamedTuple):
    """One way of writing a date and a time.

    Attributes:
        format: for ``str.to_datetime``.
        order: of its parts.
        zoned: whether it has an offset, or says UTC.
        comma: whether a comma stands before fractions of a second.
    """

    format: str
    order: Order
    zoned: bool = False
    comma: bool = False

    @property
    def kind(self) -> tuple[Order, bool]:
        """Forms of one kind may be mixed in a column."""
        return self.order, self.zoned

    def read(self, text: pl.Expr) -> pl.Expr:
        """Microseconds since 1970 in UTC; null where a cell has another form. Further digits are cut off."""
        if self.comma:
            text = text.str.replace(",", ".", literal=True)
        with_offset = "%#z" in self.format or "%z" in self.format
        found = text.str.to_datetime(
            self.format, time_unit="us", time_zone="UTC" if with_offset else None, strict=False, cache=False
        )
        if with_offset:
            found = found.dt.replace_time_zone(None)
        micros = found.to_physical()
        return pl.when(micros >= YEAR_1000).then(micros)


def read_forms(forms: Sequence[DateForm], text: pl.Expr) -> pl.Expr:
    """Microseconds since 1970 of cells in any of the forms.

    Example:
        >>> cells = pl.Series(["2024-05-01T10:00:00+02:00", "2024-05-01T08:00:00.5Z", "soon"])
        >>> forms = [form for form in all_forms() if form.kind == ("year first", True)]
        >>> pl.select(read_forms(forms, pl.lit(cells))).to_series().to_list()
        [1714550400000000, 1714550400500000, None]
    """
    return pl.coalesce([form.read(text) for form in forms])


@cache
def all_forms() -> tuple[DateForm, ...]:
    """Every known form, those that polars reads fastest first."""
    return (*_year_first(), *_number_first(), *_named_month())


def best_forms(cells: pl.Series, forms: Sequence[DateForm]) -> list[DateForm]:
    """The forms that are needed to read as many of the cells as possible, the most frequent first.

    Args:
        cells: a sample.
        forms: of one kind.
    """
    if not len(cells):
        return []
    read = cells.to_frame("cell").select(
        form.read(pl.col("cell")).is_not_null().alias(str(place)) for place, form in enumerate(forms)
    )
    missing, chosen = ~read.select(pl.any_horizontal(pl.all())).to_series(), []
    while not missing.all():
        found = read.select((pl.all() & ~pl.lit(missing)).sum()).row(0)
        place = max(range(len(forms)), key=lambda place: found[place])
        chosen.append(forms[place])
        missing = missing | read[str(place)]
    return chosen


def _year_first() -> Iterator[DateForm]:
    clocks = (*FAST, " %H:%M:%S%.f", "T%H:%M:%S%.f", " %H:%M", "T%H:%M")
    for day in ("%Y-%m-%d", "%Y/%m/%d", "%Y.%m.%d"):
        yield DateForm(day, "year first")
        for clock in (*clocks, " %I:%M:%S%.f %p", " %I:%M %p"):
            yield DateForm(day + clock, "year first")
        for clock in clocks:
            for zone in ("Z", " UTC", "%#z", " %#z", " GMT"):
                yield DateForm(day + clock + zone, "year first", zoned=True)
        yield DateForm(day + " %H:%M:%S%.f", "year first", comma=True)
        yield DateForm(day + "T%H:%M:%S%.f%#z", "year first", zoned=True, comma=True)
    yield DateForm("%Y%m%dT%H%M%S", "year first")
    yield DateForm("%Y%m%d %H:%M:%S", "year first")
    yield DateForm("%Y%m%dT%H%M%S%#z", "year first", zoned=True)


def _number_first() -> Iterator[DateForm]:
    """``01.12.2010 08:26`` and ``12/1/2010 8:26:00 AM``."""
    orders: tuple[tuple[Order, str, str], ...] = (("day first", "%d", "%m"), ("month first", "%m", "%d"))
    for order, first, second in orders:
        for mark in "/.-":
            for year in ("%Y", "%y"):
                day = f"{first}{mark}{second}{mark}{year}"
                for between in (" ", ", "):
                    for clock in ("%H:%M:%S%.f", "%H:%M", "%I:%M:%S%.f %p", "%I:%M %p"):
                        yield DateForm(day + between + clock, order)
                yield DateForm(day, order)
            yield DateForm(f"{first}{mark}{second}{mark}%Y %H:%M:%S%.f %#z", order, zoned=True)


def _named_month() -> Iterator[DateForm]:
    """``01-Dec-2010 08:26``, ``Dec 1, 2010 8:26 AM``, and what mail and web servers write."""
    short = ("%d-%b-%Y", "%d %b %Y", "%d/%b/%Y", "%d-%b-%y", "%b %d, %Y", "%b %d %Y", "%d. %b %Y")
    for day in (*short, *(form.replace("%b", "%B") for form in short[:2] + short[4:])):
        yield DateForm(day, "named month")
        for between in (" ", ", "):
            for clock in ("%H:%M:%S%.f", "%H:%M", "%I:%M:%S%.f %p", "%I:%M %p"):
                yield DateForm(day + between + clock, "named month")
    yield DateForm("%a %b %d %H:%M:%S %Y", "named month")
    for form in (
        "%d/%b/%Y:%H:%M:%S %z",
        "%a, %d %b %Y %H:%M:%S %#z",
        "%a, %d %b %Y %H:%M:%S GMT",
        "%d %b %Y %H:%M:%S %#z",
        "%a %b %d %H:%M:%S UTC %Y",
        "%a %b %d %H:%M:%S %z %Y",
    ):
        yield DateForm(form, "named month", zoned=True)

"""Columns of times, read without rounding."""

from __future__ import annotations

from typing import Literal, NamedTuple

import polars as pl

from alterrec.data.tables import ROW, DataFile
from alterrec.errors import InputError

TimeKind = Literal["number", "date without an offset", "date with an offset"]


class Times(NamedTuple):
    """Times as whole numbers and billionths, so that nothing is rounded.

    Attributes:
        kind: ``number``, ``date without an offset`` (read as UTC) or ``date with an offset``.
        whole: (N,) Int64, rounded down; seconds since 1970 if the kind is not ``number``.
        billionths: (N,) Int64, what is left of each.
        scale: 1, 10**6 or 10**9: all times are multiples of 1 / scale.

    Example:
        >>> times = read_times(pl.Series(["7.5", "8"]))
        >>> times.whole.to_list(), times.billionths.to_list(), times.scale
        ([7, 8], [500000000, 0], 1000000)
    """

    kind: TimeKind
    whole: pl.Series
    billionths: pl.Series
    scale: int

    @classmethod
    def of(cls, kind: TimeKind, whole: pl.Series, billionths: pl.Series) -> Times:
        """The times with the smallest scale that keeps them; that of dates is at least 10**6."""
        fine = bool((billionths % 1000 != 0).any())
        coarse = 10**6 if kind != "number" or (billionths != 0).any() else 1
        return cls(kind, whole, billionths, 10**9 if fine else coarse)


def read_times(series: pl.Series) -> Times | None:
    """Read a column of times; a time that cannot be read is null in ``whole``. None for other types.

    Text may be integers, decimal numbers of at most 9 places, or ISO 8601 dates; what most cells are decides
    about the column.
    """
    kind = series.dtype
    if kind == pl.String:
        return _text_times(series.str.strip_chars())
    if kind.is_float():
        return _float_times(series.cast(pl.Float64).fill_nan(None))
    if kind.is_numeric():
        return _decimal_times(series.cast(pl.String))
    if kind == pl.Date:
        days = series.to_physical().cast(pl.Int64)
        return Times.of("date without an offset", days * 86_400, days * 0)
    if isinstance(kind, pl.Datetime):
        per_second = {"ms": 10**3, "us": 10**6, "ns": 10**9}[kind.time_unit]
        units = series.to_physical()
        rest = (units % per_second) * (10**9 // per_second)
        return Times.of(
            "date with an offset" if kind.time_zone else "date without an offset", units // per_second, rest
        )
    return None


def _text_times(texts: pl.Series) -> Times:
    numbers = _decimal_times(texts)
    naive, zoned = _dates(texts)
    missing = [times.whole.null_count() for times in (numbers, naive, zoned)]
    return (numbers, naive, zoned)[missing.index(min(missing))]


def _decimal_times(texts: pl.Series) -> Times:
    # Exact, where a float would round.
    parts = texts.str.extract_groups(r"^([+-]?)(\d*)(?:\.(\d{0,9})0*)?$").struct.unnest()
    sign, digits, places = (parts[name] for name in parts.columns)
    exact = (digits != "") | (places.fill_null("") != "")
    minus = pl.select(pl.when(sign == "-").then(-1).otherwise(1)).to_series()
    whole = digits.set(digits == "", "0").cast(pl.Int64, strict=False) * minus
    billionths = places.fill_null("").str.pad_end(9, "0").cast(pl.Int64) * minus
    whole = whole.set(~exact.fill_null(False), None)
    # Such as 1.7e9.
    other = texts.cast(pl.Float64, strict=False)
    fits = (other == other.round()) & (other.abs() <= 2.0**53) & whole.is_null() & texts.str.contains("[eE]")
    whole = whole.zip_with(~fits.fill_null(False), other.set(~fits.fill_null(False), None).cast(pl.Int64))
    # Rounded down: -0.5 is -1 and 500,000,000 billionths.
    billionths = billionths.fill_null(0)
    below = (billionths < 0).cast(pl.Int64)
    return Times.of("number", whole - below, billionths + below * 10**9)


def _float_times(numbers: pl.Series) -> Times:
    numbers = numbers.set((~(numbers.abs() < 2.0**63)).fill_null(True), None)
    below = numbers.floor()
    whole, rest = below.cast(pl.Int64), numbers - below
    # Floats have more places than were meant; millionths are enough unless they would merge times.
    for scale in (10**6, 10**9):
        billionths = (rest * scale).round().cast(pl.Int64) * (10**9 // scale)
        if pl.DataFrame([whole, billionths.alias("rest")]).n_unique() == numbers.n_unique():
            break
    else:
        # Times that would be one; the first of them is reported.
        twice = pl.DataFrame([whole.alias("whole"), billionths.alias("rest"), numbers.alias("time")])
        merged = twice.select(pl.col("time").n_unique().over("whole", "rest") > 1).to_series()
        whole = whole.set(merged, None)
    return Times.of("number", whole, billionths.fill_null(0))


def _dates(texts: pl.Series) -> tuple[Times, Times]:
    """The dates without and with an offset; those of the other kind are null."""
    column = pl.DataFrame({"text": texts})
    zoned = pl.col("text").str.to_datetime("%+", time_unit="us", time_zone="UTC", strict=False)
    naive = [
        pl.col("text").str.to_datetime(form, time_unit="us", strict=False)
        for form in ("%Y-%m-%dT%H:%M:%S%.f", "%Y-%m-%d %H:%M:%S%.f", "%Y-%m-%dT%H:%M", "%Y-%m-%d %H:%M")
    ]
    days = pl.col("text").str.to_date("%Y-%m-%d", strict=False).cast(pl.Datetime("us"))
    # From the text, because dates in nanoseconds end in 2262 and dates in microseconds are rounded.
    places = column.select(pl.col("text").str.extract(r":\d\d\.(\d+)")).to_series().fill_null("")
    billionths = places.str.slice(0, 9).str.pad_end(9, "0").cast(pl.Int64)
    exact = ~places.str.contains(r"^\d{9}0*[1-9]")

    def times(kind: TimeKind, reading: pl.Expr) -> Times:
        seconds = column.select(reading.to_physical()).to_series() // 10**6
        return Times.of(kind, seconds.set(~exact, None), billionths)

    return (
        times("date without an offset", pl.coalesce([*naive, days])),
        times("date with an offset", zoned.dt.replace_time_zone(None)),
    )


def time_column(file: DataFile, column: str, *, may_be_unreadable: bool = False) -> Times:
    """The times of a column.

    Args:
        may_be_unreadable: whether a cell that is no time is null instead of an error.

    Raises:
        InputError: the column has another type, or a cell is no time, is of another kind than the rest of
            the column, or would have to be rounded.
    """
    series = file.frame[column]
    times = read_times(series)
    if times is None:
        raise InputError(f"{file.path}: column {column!r} is {series.dtype}; expected numbers or dates")
    if times.whole.null_count() and not may_be_unreadable:
        index = times.whole.is_null().arg_max() or 0
        found = "" if series[index] is None else series[index]
        place = file.place(file.frame[ROW][index])
        own = read_times(series[index : index + 1])
        if own is not None and not own.whole.null_count() and "number" not in (own.kind, times.kind):
            raise InputError(f"{place}: {column} is {found!r}, unlike most; give all dates an offset or none")
        raise InputError(
            f"{place}: {column} is {found!r}; expected an integer below 2**63, a decimal number of at most 9 "
            "places or an ISO date such as 2024-05-01T12:30:00, one kind in all rows"
        )
    return times

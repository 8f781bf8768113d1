"""Times of a log that are numbers: their unit, recognised by their size, and their decimal places."""

from __future__ import annotations

from typing import Any, NamedTuple

import polars as pl

from alterrec.data.date_forms import DateForm, all_forms, best_forms
from alterrec.data.log_facts import Facts, cell_text
from alterrec.data.times import YEAR_1990, YEAR_2100
from alterrec.errors import InputError

DAY = 86_400
MICRO = 10**6
# Excel counts days; this one is 1970-01-01.
EXCEL_1970 = 25_569
PER_SECOND = {"s": 1, "ms": 10**3, "us": 10**6, "ns": 10**9}
NAMES = {
    "s": "seconds since 1970",
    "ms": "milliseconds since 1970",
    "us": "microseconds since 1970",
    "ns": "nanoseconds since 1970",
    "excel": "days of Excel since 1900",
    "%Y%m%d": "dates such as 20240501",
    "%Y%m%d%H%M": "dates such as 202405011230",
    "%Y%m%d%H%M%S": "dates such as 20240501123000",
}
# The numbers that are times from 1990 to 2100 in each unit; no number is in two of them.
WINDOWS: dict[str, tuple[int, int]] = {
    **{unit: (YEAR_1990 * scale, YEAR_2100 * scale) for unit, scale in PER_SECOND.items()},
    "excel": (YEAR_1990 // DAY + EXCEL_1970, YEAR_2100 // DAY + EXCEL_1970),
    "%Y%m%d": (19_900_101, 21_000_101),
    "%Y%m%d%H%M": (199_001_010_000, 210_001_010_000),
    "%Y%m%d%H%M%S": (19_900_101_000_000, 21_000_101_000_000),
}
# With more numbers outside of all windows, those inside are there by chance.
OUTSIDE = 0.1
# Places of a float that mean something: a double holds 15 to 17 digits.
FLOAT_PLACES = ((10**6, 9), (YEAR_2100, 6), (YEAR_2100 * 1000, 3))


class LogTimes(NamedTuple):
    """The times of a log.

    Attributes:
        value: Int64; null where there is no time.
        per_second: units of ``value`` in a second.
        known_unit: False if the unit of numbers is unknown, so that only their order means something.
        notes: how the column was read, one sentence each.
    """

    value: pl.Expr
    per_second: int
    known_unit: bool
    notes: tuple[str, ...]


class _Numbers(NamedTuple):
    """Numbers as whole numbers, rounded down, and billionths; nothing is lost but digits of floats."""

    whole: pl.Expr
    billionths: pl.Expr


def unit_of(number: float) -> str | None:
    """The unit in which a number is a time between 1990 and 2100.

    Example:
        >>> [unit_of(number) for number in (1_700_000_000, 1_700_000_000_000, 43_780.4, 20_240_501, 12)]
        ['s', 'ms', 'excel', '%Y%m%d', None]
    """
    return next((unit for unit, (low, high) in WINDOWS.items() if low <= number < high), None)


def read_numbers(facts: Facts, column: str, kind: pl.DataType, said: str | None) -> LogTimes | None:
    """Read a column of times that are numbers, or texts that are numbers.

    Args:
        facts: of the log.
        column: its column.
        kind: its type.
        said: a unit (``s``, ``ms``, ``us``, ``ns`` or ``excel``) that the user gives.

    Returns:
        None if the column is empty.

    Raises:
        InputError: the column mixes units, has dates as well, or has too many digits for 64 bits.
    """
    if said is not None and said not in (*PER_SECOND, "excel"):
        raise InputError(
            f"times is {said!r}, but {facts.place(column)} has numbers; expected one of "
            f"{', '.join((*PER_SECOND, 'excel'))}, or leave it out"
        )
    numbers = _typed(column, kind) if kind.is_numeric() else _whole_text(column)
    found = _look(facts, column, kind, numbers)
    if found["other"] and not kind.is_float() and not kind.is_integer():
        numbers = _decimal_text(column)
        found = _look(facts, column, kind, numbers)
    if not found["numbers"]:
        return None
    notes = [_others(facts, column, numbers)] if found["other"] else []
    unit = said or _unit(facts, column, found)
    if unit is None:
        notes.append(
            f"{column}: the numbers are no times in a unit since 1970, so only their order is used; "
            "--times s says that they are seconds"
        )
    elif not said:
        numbers, remarks = _inside(facts, column, numbers, unit, found)
        notes += remarks
    if unit == "excel":
        return _excel(facts, column, numbers, notes)
    if unit is not None and unit.startswith("%"):
        return _digits(facts, column, numbers, unit, notes)
    if unit is not None:
        notes.append(f"{column}: numbers, read as {NAMES[unit]}")
    high = max(-found["low"], found["high"]) if said or unit is None else WINDOWS[unit][1]
    return _counted(facts, column, kind, numbers, unit, high, notes)


def _typed(column: str, kind: pl.DataType) -> _Numbers:
    number = pl.col(column)
    if kind.is_integer():
        return _Numbers(number.cast(pl.Int64, strict=False), pl.lit(0, pl.Int64))
    if kind.is_decimal():
        return _decimal_text(column)
    number = number.cast(pl.Float64).fill_nan(None)
    number = pl.when(number.abs() < 2.0**63).then(number)
    rest = number - number.floor()
    billionths = pl.lit(0, pl.Int64)
    for bound, places in reversed(FLOAT_PLACES):
        rounded = (rest * 10**places).round().cast(pl.Int64) * 10 ** (9 - places)
        billionths = pl.when(number.abs() < bound).then(rounded).otherwise(billionths)
    return _Numbers(number.floor().cast(pl.Int64), billionths)


def _whole_text(column: str) -> _Numbers:
    return _Numbers(cell_text(column).cast(pl.Int64, strict=False), pl.lit(0, pl.Int64))


def _decimal_text(column: str) -> _Numbers:
    """Text with decimal places, read in digits, where a float would round; also 1.7e9."""
    text = cell_text(column)
    plain = text.cast(pl.Int64, strict=False)
    parts = text.str.replace(",", ".", literal=True).str.split_exact(".", 1)
    places = parts.struct.field("field_1").str.strip_chars_end("0")
    # A number before the comma without a sign: below zero, nothing is a time.
    whole = parts.struct.field("field_0").cast(pl.UInt64, strict=False).cast(pl.Int64, strict=False)
    digits = (pl.lit("1") + places.str.slice(0, 9).str.pad_end(9, "0")).cast(pl.Int64, strict=False) - 10**9
    # Excel has 12 places of a day, which is more than it means.
    digits = pl.when(((places.str.len_bytes() <= 9) | (whole < 10**6)) & (digits >= 0)).then(digits)
    power = text.cast(pl.Float64, strict=False)
    exact = text.str.contains("[eE]") & (power == power.round()) & (power.abs() <= 2.0**53)
    is_decimal = plain.is_null() & whole.is_not_null() & digits.is_not_null()
    other = pl.coalesce(plain, pl.when(exact).then(power).cast(pl.Int64))
    return _Numbers(
        pl.when(is_decimal).then(whole).otherwise(other),
        pl.when(is_decimal).then(digits).otherwise(pl.lit(0, pl.Int64)),
    )


def _look(facts: Facts, column: str, kind: pl.DataType, numbers: _Numbers) -> dict[str, Any]:
    """What is in the column: how many numbers, in which units, with how many decimal places."""
    whole, billionths = pl.col("alterrec whole"), pl.col("alterrec billionths")
    if not kind.is_numeric():
        cells = cell_text(column) != ""
    else:
        cells = pl.col(column).is_not_null() & (pl.col(column).is_not_nan() if kind.is_float() else True)
    questions = {
        "numbers": whole.is_not_null().sum(),
        "other": (cells & whole.is_null()).sum(),
        "low": whole.min(),
        "high": whole.max(),
    }
    for scale in (1, 10**3, 10**6):
        questions[f"rest_{scale}"] = (billionths % (10**9 // scale) != 0).any()
    for unit, (low, high) in WINDOWS.items():
        inside = (whole >= low) & (whole < high)
        questions |= {f"in_{unit}": inside.sum(), f"such_{unit}": whole.filter(inside).first()}
    return facts.now(questions, {"alterrec whole": numbers.whole, "alterrec billionths": numbers.billionths})


def _inside(
    facts: Facts, column: str, numbers: _Numbers, unit: str, found: dict[str, Any]
) -> tuple[_Numbers, list[str]]:
    """The numbers that are times in the unit, and a note about the others."""
    low, high = WINDOWS[unit]
    inside = (numbers.whole >= low) & (numbers.whole < high)
    kept = _Numbers(pl.when(inside).then(numbers.whole), pl.when(inside).then(numbers.billionths))
    outside = found["numbers"] - found[f"in_{unit}"]
    if not outside:
        return kept, []
    example = facts.now({"outside": numbers.whole.filter(~inside).first()})["outside"]
    return kept, [f"{column}: numbers that are no time from 1990 to 2100: {outside:,}, such as {example}"]


def _unit(facts: Facts, column: str, found: dict[str, Any]) -> str | None:
    units = {unit: found[f"in_{unit}"] for unit in WINDOWS if found[f"in_{unit}"]}
    if found["numbers"] - sum(units.values()) > OUTSIDE * found["numbers"]:
        return None
    if len(units) > 1:
        parts = [f"{NAMES[unit]} ({count}, such as {found[f'such_{unit}']})" for unit, count in units.items()]
        raise InputError(
            f"{facts.place(column)} mixes units: {' and '.join(parts)}; write all times in one unit"
        )
    return next(iter(units), None)


def _others(facts: Facts, column: str, numbers: _Numbers) -> str:
    """A note about cells that are no numbers; dates among them are refused."""
    text = pl.col(column).cast(pl.String).str.strip_chars()
    left = facts.sample(column, where=(text != "") & numbers.whole.is_null(), size=200)
    cells = left.cast(pl.String).str.strip_chars()
    date = _first_date(cells)
    if date is not None:
        raise InputError(
            f"{facts.place(column)} mixes forms of times: most are numbers, but {date!r} is a "
            "date; write all times in one form, or leave the other rows out"
        )
    return f"{column}: cells that are no numbers: {facts.answers['other']}, such as {cells[0]!r}"


def _first_date(cells: pl.Series) -> str | None:
    return next((cell for cell in cells if best_forms(pl.Series([cell]), all_forms())), None)


def _excel(facts: Facts, column: str, numbers: _Numbers, notes: list[str]) -> LogTimes:
    # Excel's floats are exact to some microseconds; what it shows has milliseconds.
    days = (numbers.whole - EXCEL_1970) * (DAY * 1000)
    millis = days + (numbers.billionths * 864 / 10**4).round().cast(pl.Int64)
    fine = facts.now({"excel_millis": (millis % 1000 != 0).any()})["excel_millis"]
    notes.append(f"{column}: numbers, read as {NAMES['excel']}, to the {'millisecond' if fine else 'second'}")
    return LogTimes(millis if fine else millis // 1000, 1000 if fine else 1, True, tuple(notes))


def _digits(facts: Facts, column: str, numbers: _Numbers, form: str, notes: list[str]) -> LogTimes:
    value = DateForm(form, "year first").read(numbers.whole.cast(pl.String)) // MICRO
    lost = facts.now({"lost": (value.is_null() & numbers.whole.is_not_null()).sum()})["lost"]
    notes.append(f"{column}: numbers, read as {NAMES[form]}")
    if lost:
        notes.append(f"{column}: numbers that are no dates: {lost}")
    return LogTimes(value, 1, True, tuple(notes))


def _counted(
    facts: Facts,
    column: str,
    kind: pl.DataType,
    numbers: _Numbers,
    unit: str | None,
    high: int,
    notes: list[str],
) -> LogTimes:
    """Seconds or parts of them since 1970, in the coarsest unit that keeps all decimal places."""
    found = facts.answers
    scale = next((scale for scale in (1, 10**3, 10**6) if not found[f"rest_{scale}"]), 10**9)
    if (high + 1) * scale >= 2**63:
        raise InputError(
            f"{facts.place(column)} has numbers up to {found['high']} with decimal places, more "
            "digits than 64 bits hold; write fewer"
        )
    if kind == pl.Float32 and found["high"] >= 2**24:
        notes.append(f"{column}: is Float32, which keeps 7 digits, so the times were rounded before")
    elif kind.is_float() and scale > 1:
        notes.append(f"{column}: fractions are read to the {scale:,}th part")
    value = numbers.whole * scale + numbers.billionths // (10**9 // scale)
    return LogTimes(value, PER_SECOND.get(unit or "s", 1) * scale, unit is not None, tuple(notes))

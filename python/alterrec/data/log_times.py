"""The times of a log, whatever their form, as whole numbers of one unit; the whole column decides."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import polars as pl

from alterrec.data.date_forms import DateForm, all_forms, best_forms, read_forms
from alterrec.data.dialects import NUMBER
from alterrec.data.log_facts import Facts, cell_text
from alterrec.data.log_numbers import DAY, MICRO, LogTimes, read_numbers, unit_of
from alterrec.errors import InputError

# Longer cells may have digits beyond the millionths: 2024-05-01 12:30:00.123456 has 26 characters.
MICRO_LENGTH = 26
SCALES = (1, 10**3, 10**6, 10**9)
# Digits beyond the millionths.
FINER = r"[.,]\d{7}"
LEFT_OVER = 200  # cells
ROUNDS = 4


def read_log_times(facts: Facts, column: str, said: str | None = None) -> LogTimes | None:
    """Find out how a column of times is written, and read it.

    Args:
        facts: of the log.
        column: its column.
        said: ``s``, ``ms``, ``us`` or ``ns``, ``excel``, ``day-first`` or ``month-first``, where the user
            says what the values leave open.

    Returns:
        None if the column is empty.

    Raises:
        InputError: the column has another type, mixes units or forms, can be read in two ways, or has too
            many digits for 64 bits.
    """
    kind = facts.log.frame.collect_schema()[column]
    if kind == pl.Null:
        return None
    if kind == pl.Date or isinstance(kind, pl.Datetime):
        _refuse_said(facts, column, said, "dates")
        return _typed_dates(facts, column, kind)
    if kind.is_numeric():
        return read_numbers(facts, column, kind, said)
    if kind not in (pl.String, pl.Categorical, pl.Enum):
        raise InputError(f"{facts.place(column)} is {kind}; expected numbers or dates")
    text = cell_text(column)
    sample = facts.sample(column, where=text != "").cast(pl.String).str.strip_chars()
    if not len(sample):
        return None
    numbers = sum(NUMBER.fullmatch(cell) is not None for cell in sample)
    if numbers > 0.5 * len(sample):
        return read_numbers(facts, column, pl.String(), said)
    if said not in (None, "day-first", "month-first"):
        _refuse_said(facts, column, said, "dates")
    return _text_dates(facts, column, sample, said)


# Dates with a type


def _typed_dates(facts: Facts, column: str, kind: pl.DataType) -> LogTimes:
    physical = pl.col(column).to_physical().cast(pl.Int64)
    if kind == pl.Date:
        return LogTimes(physical * DAY, 1, True, (_days_only(column),))
    assert isinstance(kind, pl.Datetime)
    unit = {"ms": 10**3, "us": 10**6, "ns": 10**9}[kind.time_unit]
    zone = f"with the zone {kind.time_zone}, " if kind.time_zone else ""
    return _coarsest(facts, column, physical, unit, f"dates {zone}read as UTC" if zone else "")


def _coarsest(facts: Facts, column: str, value: pl.Expr, unit: int, described: str) -> LogTimes:
    """Times in the coarsest of seconds, thousandths ... that keeps all of them."""
    found = facts.now(_rests(unit), {"alterrec time": value})
    return _in_scale(column, value, unit, found, described)


def _rests(unit: int) -> dict[str, pl.Expr]:
    """Whether times have parts of each unit, and a time of day."""
    value = pl.col("alterrec time")
    scales = [scale for scale in SCALES if scale <= unit]
    questions = {f"rest_{scale}": (value % (unit // scale) != 0).any() for scale in scales}
    return questions | {"rest_day": (value % (unit * DAY) != 0).any()}


def _in_scale(column: str, value: pl.Expr, unit: int, found: dict[str, Any], described: str) -> LogTimes:
    scale = next(scale for scale in SCALES if not found[f"rest_{scale}"])
    notes = [f"{column}: {described}"] if described else []
    if not found["rest_day"]:
        notes.append(_days_only(column))
    return LogTimes(value // (unit // scale), scale, True, tuple(notes))


def _days_only(column: str) -> str:
    return f"{column}: has days only, without the time of day, so the order within a day is that of the rows"


# Dates as text


def _text_dates(facts: Facts, column: str, sample: pl.Series, said: str | None) -> LogTimes:
    text = cell_text(column)
    readings = _first_readings(facts, column, sample, said)
    for _ in range(ROUNDS):
        found = _look(facts, text, readings)
        left = sample.clear()
        if not found["unread"]:
            break
        left = _unread(facts, column, text, readings)
        more = [(place, best_forms(left, _of_kind(forms[0]))) for place, forms in enumerate(readings)]
        if not any(forms for _, forms in more):
            break
        readings = [[*readings[place], *forms] for place, forms in more]
    _check_left(facts, column, left, readings[0][0])
    if 2 * found["unread"] > found["cells"]:
        raise _no_dates(facts, column, left[0])
    forms = readings[0] if len(readings) == 1 else _in_order(facts, column, text, readings)
    micros = read_forms(forms, text)
    described = _described(sample[0], forms[0])
    if found["longest"] > MICRO_LENGTH and facts.now({"fine": text.str.contains(FINER).any()})["fine"]:
        times = _coarsest(facts, column, _nanoseconds(facts, column, text, micros), 1000 * MICRO, described)
    elif len(readings) == 1:
        times = _in_scale(column, micros, MICRO, found, described)
    else:
        times = _coarsest(facts, column, micros, MICRO, described)
    if not found["unread"]:
        return times
    note = f"{column}: cells that are no dates: {found['unread']:,}, such as {left[0]!r}"
    return times._replace(notes=(*times.notes, note))


def _look(facts: Facts, text: pl.Expr, readings: Sequence[Sequence[DateForm]]) -> dict[str, Any]:
    """How many cells no reading reads, and how many only one of two reads."""
    given = {f"alterrec {place}": read_forms(forms, text) for place, forms in enumerate(readings)}
    read = [pl.col(name) for name in given]
    questions = {
        "cells": (text != "").sum(),
        "unread": ((text != "") & pl.all_horizontal(each.is_null() for each in read)).sum(),
        "longest": text.str.len_bytes().max(),
    }
    if len(read) > 1:
        for place, (each, other) in enumerate((read, read[::-1])):
            questions[f"only_{place}"] = (each.is_not_null() & other.is_null()).sum()
    return facts.now(questions | _rests(MICRO), given | {"alterrec time": read_forms(readings[0], text)})


def _unread(
    facts: Facts, column: str, text: pl.Expr, readings: Sequence[Sequence[DateForm]], size: int = LEFT_OVER
) -> pl.Series:
    unread = pl.all_horizontal(read_forms(forms, text).is_null() for forms in readings)
    return facts.sample(column, where=(text != "") & unread, size=size).cast(pl.String).str.strip_chars()


def _first_readings(facts: Facts, column: str, sample: pl.Series, said: str | None) -> list[list[DateForm]]:
    """The forms of the kind that most cells of a sample have; two kinds if days and months look alike."""
    kinds = list(dict.fromkeys(form.kind for form in all_forms()))
    if said is not None:
        kinds = [kind for kind in kinds if kind[0] == said.replace("-", " ")]
    forms = [[form for form in all_forms() if form.kind == kind] for kind in kinds]
    cells = sample.to_frame("cell")
    read = cells.select(
        read_forms(each, pl.col("cell")).is_not_null().sum().alias(str(place))
        for place, each in enumerate(forms)
    ).row(0)
    if not any(read):
        raise _no_dates(facts, column, sample[0], said)
    best = [each for each, count in zip(forms, read, strict=True) if count == max(read)]
    orders = [each[0].order for each in best]
    return [best_forms(sample, each) for each in best[: 2 if orders == ["day first", "month first"] else 1]]


def _no_dates(facts: Facts, column: str, cell: str, said: str | None = None) -> InputError:
    told = f" with the {said.replace('-', ' ')}, as times says" if said else ""
    return InputError(
        f"{facts.place(column)} has cells that are no times{told}, such as {cell!r}; expected "
        "numbers, ISO dates such as 2024-05-01T12:30:00, or dates such as 01.05.2024 12:30"
    )


def _of_kind(form: DateForm) -> list[DateForm]:
    return [other for other in all_forms() if other.kind == form.kind]


def _check_left(facts: Facts, column: str, left: pl.Series, form: DateForm) -> None:
    """Refuse a column whose other cells are times of another kind."""
    for cell in left.unique(maintain_order=True):
        other = best_forms(pl.Series([cell]), all_forms())
        number = NUMBER.fullmatch(cell) and unit_of(float(cell.replace(",", ".")))
        if other or number:
            alike = bool(other) and form.order == other[0].order
            advice = (
                "give all dates an offset or none"
                if alike
                else "write all times in one form, or leave the other rows out"
            )
            raise InputError(
                f"{facts.place(column)} mixes forms of times: most are {_named(form)}, but "
                f"{cell!r} is {_named(other[0]) if other else 'a number'}; {advice}"
            )


def _named(form: DateForm) -> str:
    order = "the name of the month" if form.order == "named month" else f"the {form.order}"
    return f"dates with {order} {'and an offset' if form.zoned else 'and no offset'}"


def _in_order(
    facts: Facts, column: str, text: pl.Expr, readings: Sequence[Sequence[DateForm]]
) -> Sequence[DateForm]:
    """The reading with the day or with the month first: cells that only one of them reads decide."""
    only = [facts.answers[f"only_{place}"] for place in range(2)]
    if not any(only):
        # Where dots are between the parts, the day comes first.
        if all("%d.%m." in form.format for form in readings[0]):
            return readings[0]
        raise InputError(
            f"{facts.place(column)} has dates such as {facts.sample(column, where=text != '')[0]!r}, "
            "which may begin with the day or with the month; say which with --times day-first or --times "
            "month-first (in Python, times='day-first')"
        )
    if all(only):
        cells = [_unread(facts, column, text, [forms], 1)[0] for forms in readings[::-1]]
        raise InputError(
            f"{facts.place(column)} mixes dates with the day first ({cells[0]!r}) and with the month "
            f"first ({cells[1]!r}); write all of them in one order"
        )
    return readings[0 if only[0] else 1]


def _described(cell: str, form: DateForm) -> str:
    zone = "in UTC, offsets are converted" if form.zoned else "read as UTC"
    order = f" with the {form.order}" if form.order in ("day first", "month first") else ""
    return f"dates such as {cell!r}{order}, {zone}"


def _nanoseconds(facts: Facts, column: str, text: pl.Expr, micros: pl.Expr) -> pl.Expr:
    """The times with the digits beyond the millionths, which polars cuts off."""
    digits = text.str.extract(r"[.,]\d{6}(\d{1,3})", 1).fill_null("").str.pad_end(3, "0").cast(pl.Int64)
    found = facts.now(
        {
            "finer": text.str.contains(r"[.,]\d{9}\d*[1-9]").any(),
            "first": micros.min(),
            "last": micros.max(),
        }
    )
    if found["finer"]:
        raise InputError(f"{facts.place(column)} has more than 9 digits after the second; expected at most 9")
    if max(-found["first"], found["last"]) * 1000 >= 2**63:
        raise InputError(
            f"{facts.place(column)} has billionths of a second and dates outside 1678 to 2262, which "
            "64 bits cannot hold together; write fewer digits"
        )
    return micros * 1000 + digits


def _refuse_said(facts: Facts, column: str, said: str | None, found: str) -> None:
    if said is not None:
        raise InputError(
            f"times is {said!r}, but {facts.place(column)} has {found}, which need no such hint; leave it out"
        )

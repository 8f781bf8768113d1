"""The format `log`: times in any form, read without rounding, or refused in one sentence."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta, timezone
from decimal import Decimal
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from alterrec.data.date_forms import all_forms, best_forms, read_forms
from alterrec.data.formats.log import read_log
from alterrec.data.formats.source import Choices, PrepareOptions, Source
from alterrec.errors import InputError

SECOND = 1_291_191_960  # 2010-12-01 08:26
NOON = datetime(2024, 5, 1, 12, 0, 0)
NOON_UTC = 1_714_564_800


def source(folder: Path, times: Any, /, **options: Any) -> Source:
    """A log with these times: as text in CSV if they are text, else in Parquet with their own type."""
    series = times if isinstance(times, pl.Series) else pl.Series(times)
    frame = pl.DataFrame({"user_id": "u", "item_id": "i", "ts": series})
    text = series.dtype == pl.String
    path = folder / ("log.csv" if text else "log.parquet")
    frame.write_csv(path) if text else frame.write_parquet(path)
    return read_log(path, PrepareOptions(**options))


def read(folder: Path, times: Any, /, **options: Any) -> tuple[list[int | None], int]:
    found = source(folder, times, **options)
    frame = found.events["interactions"].collect(engine="streaming")
    assert frame.schema["timestamp"] == pl.Int64
    return frame["timestamp"].to_list(), found.per_second


def notes(folder: Path, times: Any, /, **options: Any) -> str:
    return "\n".join(source(folder, times, **options).notes)


def refused(folder: Path, times: Any, /, **options: Any) -> str:
    with pytest.raises(InputError) as error:
        source(folder, times, **options)
    assert "\n" not in str(error.value)
    return str(error.value)


# Numbers.


@pytest.mark.parametrize("unit", [1, 10**3, 10**6, 10**9])
@pytest.mark.parametrize("kind", ["text", "integers", "floats", "decimals"])
def test_the_unit_of_numbers_is_known_by_their_size(tmp_path: Path, unit: int, kind: str) -> None:
    numbers = [SECOND * unit, (SECOND + 7) * unit]
    make = {"text": str, "integers": int, "floats": float, "decimals": Decimal}[kind]
    assert read(tmp_path, [make(number) for number in numbers]) == (numbers, unit)
    name = {1: "seconds", 10**3: "milliseconds", 10**6: "microseconds", 10**9: "nanoseconds"}[unit]
    assert f"timestamp: numbers, read as {name} since 1970" in notes(tmp_path, [make(n) for n in numbers])


@pytest.mark.parametrize(
    ("times", "values", "per_second"),
    [
        (["1291191960.5", "1291191961"], [1291191960500, 1291191961000], 1000),
        (["1291191960,25", "1291191961"], [1291191960250, 1291191961000], 1000),
        (["1291191960.123456789", ""], [1291191960123456789, None], 10**9),
        (["1291191960123.25", "1291191960123.250"], [1291191960123250] * 2, 10**6),
        ([1291191960.25, 1291191961.0], [1291191960250, 1291191961000], 1000),
        ([1291191960123.5, None], [1291191960123500, None], 10**6),
        (["1.29119196e9", "1291191961"], [1291191960, 1291191961], 1),
        ([Decimal("1291191960.5"), None], [1291191960500, None], 1000),
    ],
)
def test_decimal_places_are_kept(
    tmp_path: Path, times: list[Any], values: list[int | None], per_second: int
) -> None:
    assert read(tmp_path, times) == (values, per_second)


def test_mixed_units_are_refused(tmp_path: Path) -> None:
    told = refused(tmp_path, [SECOND, SECOND + 1, (SECOND + 2) * 1000])
    assert (
        "column 'ts' mixes units: seconds since 1970 (2, such as 1291191960) and milliseconds since" in told
    )
    assert "mixes units" in refused(tmp_path, [str(SECOND)] * 50 + [str(SECOND * 10**6)])


def test_numbers_that_are_no_times_are_problems(tmp_path: Path) -> None:
    times = [SECOND] * 30 + [0, -1]
    found = source(tmp_path, times)
    problems = found.events["interactions"].collect()["problem"].to_list()
    assert problems == [None] * 30 + ["unreadable time"] * 2
    assert "timestamp: numbers that are no time from 1990 to 2100: 2, such as 0" in "\n".join(found.notes)


def test_numbers_without_a_unit_have_an_order_only(tmp_path: Path) -> None:
    assert "the unit of the times ('ts') is unknown" in refused(
        tmp_path, [1, 2, 188_259], choices=Choices(sessions="gap")
    )
    sessions = Choices(sessions="user")
    assert read(tmp_path, [1, 2, 188_259], choices=sessions) == ([1, 2, 188_259], 1)
    assert "only their order is used" in notes(tmp_path, [1, 2, 188_259], choices=sessions)
    assert read(tmp_path, [1, 2, 188_259], times="s") == ([1, 2, 188_259], 1)
    assert read(tmp_path, [1, 2, 188_259], times="ms") == ([1, 2, 188_259], 1000)


def test_days_of_excel(tmp_path: Path) -> None:
    # 43780.378449074076 is 2019-11-11 9:04:58.
    start = int(datetime(2019, 11, 11, 9, 4, 58, tzinfo=UTC).timestamp())
    for times in (
        ["43780.378449074076", "43780"],
        ["43780,378449074076", "43780"],
        [43780.378449074076, 43780.0],
    ):
        assert read(tmp_path, times) == ([start, start - 32_698], 1)
        assert "read as days of Excel since 1900, to the second" in notes(tmp_path, times)
    assert read(tmp_path, [40513, 40514]) == ([1291161600, 1291248000], 1)


@pytest.mark.parametrize(
    ("times", "values"),
    [
        ([20101201, 20101202], [1291161600, 1291248000]),
        (["20101201", "20101202"], [1291161600, 1291248000]),
        (["20101201082600", "20101201082601"], [SECOND, SECOND + 1]),
        ([201012010826, 201012010827], [SECOND, SECOND + 60]),
    ],
)
def test_dates_in_digits(tmp_path: Path, times: list[Any], values: list[int]) -> None:
    assert read(tmp_path, times) == (values, 1)


def test_small_floats_are_told(tmp_path: Path) -> None:
    assert "is Float32, which keeps 7 digits" in notes(
        tmp_path, pl.Series([SECOND, SECOND], dtype=pl.Float32)
    )


# Dates.


@pytest.mark.parametrize(
    "text",
    [
        "2010-12-01 08:26:00",
        "2010-12-01T08:26",
        "2010-12-01T08:26:00Z",
        "2010-12-01 08:26:00 UTC",
        "2010-12-01T13:56:00+05:30",
        "2010-12-01 01:26:00-0700",
        "2010-12-01 09:26:00+01",
        "2010/12/01 8:26",
        "2010-12-01 08:26:00,000",
        "20101201T082600",
        "01-Dec-2010 08:26",
        "1 December 2010 08:26",
        "Dec 1, 2010 8:26 AM",
        "01/Dec/2010:09:26:00 +0100",
        "Wed, 01 Dec 2010 08:26:00 GMT",
        "Wed Dec 01 08:26:00 +0000 2010",
    ],
)
def test_dates_in_one_way(tmp_path: Path, text: str) -> None:
    assert read(tmp_path, [text, text]) == ([SECOND] * 2, 1)
    assert f"dates such as {text!r}" in notes(tmp_path, [text])


def test_offsets_may_differ(tmp_path: Path) -> None:
    times = ["2024-05-01T12:00:00Z", "2024-05-01T12:00:00+02:00", "2024-05-01T12:00:00.5-07:00"]
    ms = NOON_UTC * 1000
    assert read(tmp_path, times) == ([ms, ms - 7_200_000, ms + 25_200_500], 1000)


def test_iso_dates_may_be_short(tmp_path: Path) -> None:
    times = ["2024-05-01", "2024-05-01 12:00", "2024-05-01T12:00:00", "2024-05-01 12:00:00.25"]
    ms = NOON_UTC * 1000
    assert read(tmp_path, times) == ([ms - 43_200_000, ms, ms, ms + 250], 1000)
    # The first thousand cells do not have to show all of it.
    found, per_second = read(tmp_path, ["2024-05-01 12:00:00"] * 1500 + ["2024-05-01T12:00:00.000001"])
    assert (found[-1], per_second) == (NOON_UTC * 10**6 + 1, 10**6)


@pytest.mark.parametrize(
    ("digits", "rest", "per_second"),
    [
        (".5", 5 * 10**8, 10**3),
        (".123456", 123456000, 10**6),
        (".1234567", 123456700, 10**9),
        (".123456789", 123456789, 10**9),
        (".1234567890", 123456789, 10**9),
        (".5000000", 5 * 10**8, 10**3),
    ],
)
def test_digits_after_the_second_are_kept(tmp_path: Path, digits: str, rest: int, per_second: int) -> None:
    expected = (NOON_UTC * 10**9 + rest) // (10**9 // per_second)
    assert read(tmp_path, [f"2024-05-01 12:00:00{digits}"]) == ([expected], per_second)


def test_more_digits_than_there_is_room_for_are_refused(tmp_path: Path) -> None:
    assert "more than 9 digits" in refused(tmp_path, ["2024-05-01 12:00:00.1234567891"])
    far = ["2024-05-01 12:00:00.123456789", "9999-12-31 00:00:00"]
    assert "dates outside 1678 to 2262" in refused(tmp_path, far)
    assert read(tmp_path, ["2024-05-01 12:00:00", "9999-12-31 00:00:00"])[0][1] == 253_402_214_400


@pytest.mark.parametrize(
    ("times", "first", "last"),
    [
        (["12/1/2010 8:26", "12/13/2010 8:26"], "month first", SECOND + 12 * 86_400),
        (["1/12/2010 8:26", "13/12/2010 8:26"], "day first", SECOND + 12 * 86_400),
        (["01.12.2010 08:26", "02.12.2010 08:26"], "day first", SECOND + 86_400),
        (["12/01/2010 8:26:00 AM", "12/31/2010 8:26:00 PM"], "month first", SECOND + 30 * 86_400 + 43_200),
        (["12/1/10 8:26", "12/13/10 8:26"], "month first", SECOND + 12 * 86_400),
        (["01-12-2010 08:26:00", "31-12-2010 08:26:00"], "day first", SECOND + 30 * 86_400),
        (["1.12.2010, 08:26:00", "2.12.2010, 08:26:00"], "day first", SECOND + 86_400),
    ],
)
def test_days_and_months_are_told_apart(tmp_path: Path, times: list[str], first: str, last: int) -> None:
    # A late cell decides as well as an early one.
    for padding in (0, 1200):
        found = read(tmp_path, [times[0]] * (1 + padding) + [times[1]])
        assert (found[0][0], found[0][-1], found[1]) == (SECOND, last, 1)
        assert f"with the {first}" in notes(tmp_path, times)


def test_days_and_months_that_look_alike_are_refused(tmp_path: Path) -> None:
    times = ["11/11/2019 9:05:58 AM", "12/11/2019 9:05:58 AM"]
    told = refused(tmp_path, times)
    assert "'11/11/2019 9:05:58 AM', which may begin with the day or with the month" in told
    assert "--times day-first" in told
    start = int(datetime(2019, 11, 11, 9, 5, 58, tzinfo=UTC).timestamp())
    assert read(tmp_path, times, times="day-first") == ([start, start + 86_400], 1)
    assert read(tmp_path, times, times="month-first") == ([start, start + 30 * 86_400], 1)


def test_days_and_months_in_both_orders_are_refused(tmp_path: Path) -> None:
    both = ["13/12/2010 8:26", "12/13/2010 8:26"]
    assert "mixes" in refused(tmp_path, both)
    told = refused(tmp_path, ["12/1/2010 8:26"] * 1200 + both)
    assert (
        "mixes dates with the day first ('13/12/2010 8:26') and with the month first ('12/13/2010 8:26')"
        in told
    )
    assert "mixes" in refused(tmp_path, both, times="day-first")
    assert "are no times with the month first, as times says, such as '13" in refused(
        tmp_path, both[:1], times="month-first"
    )


@pytest.mark.parametrize(
    ("times", "told"),
    [
        (["2024-05-01 12:00:00", "2024-05-01T12:00:00Z"], "give all dates an offset or none"),
        (["2024-05-01 12:00:00"] * 3 + ["01.05.2024 12:00"], "mixes forms of times"),
        (["2024-05-01 12:00:00"] * 3 + ["1714564800"], "'1714564800' is a number"),
        (["1714564800"] * 3 + ["2024-05-01"], "most are numbers, but '2024-05-01' is a date"),
        (["soon", "later"], "has cells that are no times, such as 'soon'"),
        (["12:30", "12:31"], "has cells that are no times"),
    ],
)
def test_mixed_forms_are_refused(tmp_path: Path, times: list[str], told: str) -> None:
    assert told in refused(tmp_path, times)


def test_cells_that_are_no_times_are_problems(tmp_path: Path) -> None:
    times = ["2024-05-01 12:00:00"] * 5 + ["0000-00-00 00:00:00", "2024-02-30", "", None, "0", "  "]
    found = source(tmp_path, pl.Series(times))
    problems = found.events["interactions"].collect()["problem"].to_list()
    unreadable, missing = "unreadable time", "no time"
    assert problems == [None] * 5 + [unreadable, unreadable, missing, missing, unreadable, missing]
    assert "timestamp: cells that are no dates: 3, such as '0000-00-00 00:00:00'" in "\n".join(found.notes)


def test_an_empty_column_is_no_time(tmp_path: Path) -> None:
    found = source(tmp_path, pl.Series(["", " "]))
    assert (found.choices.sessions, found.events["interactions"].collect_schema().names()) == (
        "user",
        ["item_id", "user_id", "problem"],
    )
    assert "the column 'ts' is empty, so there are no times" in found.notes[-1]


@pytest.mark.parametrize("unit", ["ms", "us", "ns"])
@pytest.mark.parametrize("zone", [None, "UTC", "Europe/Berlin"])
def test_typed_times_of_every_unit_and_zone(tmp_path: Path, unit: Any, zone: str | None) -> None:
    times = pl.Series([NOON, NOON + timedelta(milliseconds=5)]).cast(pl.Datetime(unit))
    if zone:
        times = times.dt.replace_time_zone("UTC").dt.convert_time_zone(zone)
    assert read(tmp_path, times) == ([NOON_UTC * 1000, NOON_UTC * 1000 + 5], 1000)
    assert read(tmp_path, times[:1]) == ([NOON_UTC], 1)


def test_billionths_of_typed_times(tmp_path: Path) -> None:
    times = pl.Series([NOON_UTC * 10**9 + 1]).cast(pl.Datetime("ns"))
    assert read(tmp_path, times) == ([NOON_UTC * 10**9 + 1], 10**9)


@pytest.mark.parametrize("times", [[date(2024, 5, 1)], ["2024-05-01"], [datetime(2024, 5, 1)]])
def test_days_without_a_time_of_day_are_told(tmp_path: Path, times: list[Any]) -> None:
    assert read(tmp_path, times) == ([NOON_UTC - 43_200], 1)
    assert "has days only" in notes(tmp_path, times)


@pytest.mark.parametrize(
    ("times", "said", "told"),
    [
        ([NOON], "s", "which need no such hint"),
        ([SECOND], "day-first", "has numbers; expected one of s, ms, us, ns, excel"),
        (["2024-05-01"], "ms", "which need no such hint"),
        ([timedelta(1)], None, "is Duration"),
        ([True], None, "is Boolean; expected numbers or dates"),
    ],
)
def test_wrong_types_and_hints_are_refused(tmp_path: Path, times: list[Any], said: Any, told: str) -> None:
    assert told in refused(tmp_path, times, times=said)


MOMENTS = st.datetimes(datetime(1971, 1, 1), datetime(2200, 1, 1))


@settings(max_examples=40, deadline=None)
@given(
    st.lists(MOMENTS, min_size=1, max_size=4),
    st.sampled_from(["seconds", "milliseconds", "microseconds"]),
    st.sampled_from(" T"),
    st.sampled_from([None, -570, 0, 330]),
)
def test_what_python_writes_is_read(
    moments: list[datetime], spec: str, between: str, minutes: int | None
) -> None:
    zone = None if minutes is None else timezone(timedelta(minutes=minutes))
    texts = [moment.replace(tzinfo=zone).isoformat(between, spec) for moment in moments]
    forms = best_forms(pl.Series(texts), [form for form in all_forms() if form.order == "year first"])
    read = pl.select(read_forms(forms, pl.lit(pl.Series(texts)))).to_series().to_list()
    exact = [datetime.fromisoformat(text).replace(tzinfo=zone or UTC) for text in texts]
    assert read == [
        (moment - datetime(1970, 1, 1, tzinfo=UTC)) // timedelta(microseconds=1) for moment in exact
    ]

"""The format `log`: columns by name, ids, problems, parts, and items beside the log."""

from __future__ import annotations

import base64
import gzip
import json
import os
import subprocess
import sys
from datetime import datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from alterrec.data.formats.log import read_log, recognises_log
from alterrec.data.formats.source import Choices, PrepareOptions, Source
from alterrec.data.parquet_files import arrow_schema
from alterrec.errors import InputError

TIME = 1_700_000_000
FRAME = pl.DataFrame({"user_id": ["u1", "u2"], "item_id": ["i1", "i2"], "ts": [TIME, TIME + 1]})
GAP = Choices(sessions="gap")


def read(path: Path, **options: Any) -> Source:
    return read_log(path, PrepareOptions(**options))


def events(source: Source) -> pl.DataFrame:
    return source.events["interactions"].collect(engine="streaming")


def refused(path: Path, **options: Any) -> str:
    with pytest.raises(InputError) as error:
        events(read(path, **options))
    assert "\n" not in str(error.value)
    return str(error.value)


def write(path: Path, content: str | bytes = "x") -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return path


# Columns.


@pytest.mark.parametrize(
    ("names", "columns", "sessions"),
    [
        (["visitorid", "itemid", "timestamp"], {}, "gap"),
        (["Customer ID", "StockCode", "InvoiceDate"], {}, "gap"),
        (["client-id", "SKU", "created_at"], {}, "gap"),
        (["session_id", "product_id", "event_time"], {}, "given"),
        (["visit", "article", "datetime"], {}, "given"),
        (["who", "what", "when"], {"user_id": "who", "item_id": "what", "timestamp": "when"}, "gap"),
    ],
)
def test_usual_names_are_known(
    tmp_path: Path, names: list[str], columns: dict[str, str], sessions: str
) -> None:
    path = write(tmp_path / "log.csv", ",".join(names) + f"\nu1,i1,{TIME}\n")
    source = read(path, columns=columns)
    owner = "session_id" if sessions == "given" else "user_id"
    assert source.choices.sessions == sessions
    assert events(source).select(owner, "item_id", "timestamp").rows() == [("u1", "i1", TIME)]
    assert all((getattr(source.choices, name) is not None) for name in vars(source.choices))
    assert ("columns known by their names" in "\n".join(source.notes)) == (not columns)


def test_a_log_without_times_names_columns_of_dates(tmp_path: Path) -> None:
    path = tmp_path / "log.parquet"
    times = pl.Series([datetime(2024, 1, 1)] * 2)
    FRAME.select(user=pl.lit("u1"), item=pl.lit("i1"), when=times).write_parquet(path)
    note = "no column is known by its name as the time; 'when' has dates; use --column timestamp=NAME"
    assert note in read(path).notes
    assert note not in read(path, columns={"timestamp": "when"}).notes
    plain = write(tmp_path / "log.csv", "user,item,moment\nu1,i1,x\n")
    assert (
        "no column is known by its name as the time; if one has the times, use --column timestamp=NAME"
        in (read(plain).notes)
    )


def test_two_candidates_are_refused_with_both(tmp_path: Path) -> None:
    path = write(tmp_path / "log.csv", f"user_id,sku,product_id,ts\nu,a,b,{TIME}\n")
    told = refused(path)
    assert "several columns may be item_id: 'sku', 'product_id'; choose one with --column item_id=sku" in told
    frame = events(read(path, columns={"item_id": "product_id"}))
    assert frame.row(0, named=True) | {"problem": None} == {
        "item_id": "b",
        "user_id": "u",
        "timestamp": TIME,
        "problem": None,
        "sku": "a",
    }


def test_our_own_name_comes_first_and_others_are_told(tmp_path: Path) -> None:
    path = write(tmp_path / "log.csv", f"user_id,visitor_id,item_id,ts\nu,v,i,{TIME}\n")
    source = read(path)
    assert events(source)["user_id"].to_list() == ["u"]
    assert "user_id is the column 'user_id', although 'visitor_id' may be meant as well" in "\n".join(
        source.notes
    )


@pytest.mark.parametrize(
    ("text", "columns", "told"),
    [
        ("user_id,thing\nu,i\n", {}, "no column is known as the item; its columns are 'user_id', 'thing'"),
        ("item_id,thing\nu,i\n", {}, "no column is known as the session or the user"),
        ("a~b\nu~i\n", {}, "If its cells are not separated by one of"),
        ("user_id,item_id\nu,i\n", {"item_id": "itm"}, "no column 'itm'"),
        ("user_id,item_id\nu,i\n", {"item": "item_id"}, "'item' cannot be mapped; choose one of session_id"),
        ("user_id,item_id\nu,i\n", {"item_id": "item_id", "user_id": "item_id"}, "map each column once"),
    ],
)
def test_missing_columns_are_named(tmp_path: Path, text: str, columns: dict[str, str], told: str) -> None:
    assert told in refused(write(tmp_path / "log.csv", text), columns=columns)


@pytest.mark.parametrize(
    ("text", "sessions", "told"),
    [
        ("user_id,item_id\nu,i\n", "given", "no column is known as the session"),
        ("user_id,item_id\nu,i\n", "gap", "no column is known as the time"),
        ("session_id,item_id\nu,i\n", "user", "no column is known as the user"),
        ("user_id,item_id,ts\nu,i,7\n", "day", "the unit of the times ('ts') is unknown"),
    ],
)
def test_sessions_that_cannot_be_made_are_refused(
    tmp_path: Path, text: str, sessions: Any, told: str
) -> None:
    assert told in refused(write(tmp_path / "log.csv", text), choices=Choices(sessions=sessions))


def test_without_times_a_user_is_a_session(tmp_path: Path) -> None:
    assert read(write(tmp_path / "log.csv", "user_id,item_id\nu,i\n")).choices.sessions == "user"


def test_further_columns_stay_and_ours_are_left_out(tmp_path: Path) -> None:
    text = f"who,item_id,ts,user_id,problem,event_type,title\nu,i,{TIME},x,y,view,Mug\n"
    source = read(write(tmp_path / "log.csv", text), columns={"user_id": "who"})
    assert events(source).row(0, named=True) == {
        "item_id": "i",
        "user_id": "u",
        "timestamp": TIME,
        "event": "view",
        "problem": None,
        "title": "Mug",
    }
    assert "columns that are left out: 'user_id', 'problem'" in source.notes


# Ids.


def test_ids_survive_as_they_stand(tmp_path: Path) -> None:
    ids = [
        "007",
        "NA",
        "null",
        "None",
        "nan",
        "🙂",
        "18446744073709551617",
        "1.50",
        "1e5",
        " a ",
        "123.0",
        "-0",
        "True",
    ]
    for path in (tmp_path / "log.csv", tmp_path / "log.parquet"):
        frame = pl.DataFrame({"user_id": ids, "item_id": ids[::-1]})
        frame.write_csv(path) if path.suffix == ".csv" else frame.write_parquet(path)
        source = read(path)
        assert events(source)["user_id"].to_list() == ids
        assert events(source)["item_id"].to_list() == ids[::-1]
        assert "user_id is 'NA' or the like in 4 rows, which is an id like any other" in "\n".join(
            source.notes
        )


@pytest.mark.parametrize(
    ("ids", "text"),
    [
        (pl.Series([17850.0, None, float("nan")]), ["17850", None, None]),
        (pl.Series(["17850.0", None, "123.0"]), ["17850", None, "123"]),
        (pl.Series(["17850,0", None, "123,0"]), ["17850", None, "123"]),
        (pl.Series(["17850.0", None, "123"]), ["17850.0", None, "123"]),
        (pl.Series([Decimal("17850.00"), None, Decimal(5)]), ["17850", None, "5"]),
        (pl.Series([2**63 - 1, None, -5]), [str(2**63 - 1), None, "-5"]),
        (pl.Series([2**64 - 1, None, 5], dtype=pl.UInt64), [str(2**64 - 1), None, "5"]),
        (pl.Series(["a", None, " "]).cast(pl.Categorical), ["a", None, None]),
        (pl.Series([b"a", None, b"b"]), ["a", None, "b"]),
    ],
)
def test_ids_of_every_type(tmp_path: Path, ids: pl.Series, text: list[str | None]) -> None:
    path = tmp_path / "log.parquet"
    pl.DataFrame({"user_id": ids, "item_id": ["i"] * 3}).write_parquet(path)
    source = read(path)
    assert events(source)["user_id"].to_list() == text
    told = "123.0" in "\n".join(source.notes)
    assert told == (text[0] == "17850" and not isinstance(ids.dtype, pl.Decimal))
    assert events(source)["problem"].to_list() == [
        None if each else "no user and no session" for each in text
    ]


@pytest.mark.parametrize(
    ("ids", "told"),
    [
        ([1.5, 2.0], "item_id ('item_id') is 1.5 in one of 1 rows; expected text or integers"),
        ([2.0**53 + 2, 1.0], "expected text or integers"),
        ([Decimal("1.50"), Decimal(2)], "is 1.50 in one of 1 rows"),
        ([True, False], "is Boolean; expected text or integers"),
    ],
)
def test_ids_that_are_no_text_are_refused(tmp_path: Path, ids: list[Any], told: str) -> None:
    path = tmp_path / "log.parquet"
    pl.DataFrame({"user_id": ["a", "b"], "item_id": ids}).write_parquet(path)
    assert told in refused(path)


def test_rows_that_cannot_be_used_have_a_reason(tmp_path: Path) -> None:
    rows = [
        ("s", "u", "i", TIME),
        ("s", "", "i", TIME),
        ("", "u", "i", TIME),
        ("", " ", "i", TIME),
        ("s", "u", " ", TIME),
        ("s", "u", "i", "soon"),
        ("s", "u", "i", ""),
    ]
    text = "session_id,user_id,item_id,ts\n" + "".join(",".join(map(str, row)) + "\n" for row in rows)
    path = write(tmp_path / "log.csv", text)
    end = ["no item", "unreadable time", "no time"]
    assert events(read(path))["problem"].to_list() == [
        None,
        None,
        "no session",
        "no user and no session",
        *end,
    ]
    assert events(read(path, choices=GAP))["problem"].to_list() == [
        None,
        "no user",
        None,
        "no user and no session",
        *end,
    ]


# Parts.


def test_parts_of_spark_are_one_log(tmp_path: Path) -> None:
    folder = tmp_path / "clicks.csv"
    for part in (1, 0, 2):
        row = f"u{part},i,{TIME + part}\n" if part < 2 else ""
        write(folder / f"part-0000{part}-5f1a-c000.csv", "user_id,item_id,ts\n" + row)
    write(folder / "_SUCCESS", "")
    write(folder / ".part-00000.csv.crc", "crc")
    write(folder / "part-00003-c000.csv", "")
    write(folder / "README.md", "read me")
    source = read(folder)
    assert events(source)["user_id"].to_list() == ["u0", "u1"]
    assert [path.name[:10] for path in source.files] == ["part-00000", "part-00001", "part-00002"]
    assert "not read: README.md" in source.notes


def test_parts_of_different_kinds(tmp_path: Path) -> None:
    text = FRAME.write_csv()
    write(tmp_path / "part-0", text)
    write(tmp_path / "part-1.csv.gz", gzip.compress(text.encode()))
    write(tmp_path / "part-2.jsonl", FRAME.write_ndjson())
    write(tmp_path / "part-3.txt", FRAME.select("ts", "item_id", "user_id").write_csv(separator="\t"))
    FRAME.write_parquet(tmp_path / "part-4.parquet")
    FRAME.with_columns(pl.col("ts").cast(pl.Float64)).write_parquet(tmp_path / "part-5.parquet")
    frame = events(read(tmp_path))
    assert frame.select("item_id", "user_id", "timestamp").rows() == 6 * [
        ("i1", "u1", TIME),
        ("i2", "u2", TIME + 1),
    ]


def test_parts_with_other_columns_are_refused(tmp_path: Path) -> None:
    write(tmp_path / "part-0.csv", "user_id,item_id,ts\n")
    write(tmp_path / "part-1.csv", "user_id,item_id\nu,i\n")
    assert "part-1.csv: has the columns 'user_id', 'item_id', but" in refused(tmp_path)


def test_parts_with_other_types(tmp_path: Path) -> None:
    FRAME.with_columns(user_id=pl.Series([1, 2])).write_parquet(tmp_path / "part-0.parquet")
    FRAME.with_columns(user_id=pl.Series([3.0, None])).write_parquet(tmp_path / "part-1.parquet")
    FRAME.with_columns(user_id=pl.lit(None)).write_parquet(tmp_path / "part-2.parquet")
    assert events(read(tmp_path))["user_id"].to_list() == ["1", "2", "3", None, None, None]
    FRAME.with_columns(ts=pl.col("ts").cast(pl.Datetime("us"))).write_parquet(tmp_path / "part-3.parquet")
    assert "part-3.parquet: column 'ts' is Datetime" in refused(tmp_path)


def test_parts_with_dates_of_other_units(tmp_path: Path) -> None:
    for unit in ("ms", "us", "ns"):
        times = pl.Series([TIME * 1000, TIME * 1000 + 1]).cast(pl.Datetime("ms")).cast(pl.Datetime(unit))
        FRAME.with_columns(ts=times).write_parquet(tmp_path / f"part-{unit}.parquet")
    source = read(tmp_path)
    assert source.per_second == 1000
    assert events(source)["timestamp"].to_list() == 3 * [TIME * 1000, TIME * 1000 + 1]


def test_partitions_in_folder_names_are_columns(tmp_path: Path) -> None:
    for value in ("2024-05-01", "__HIVE_DEFAULT_PARTITION__", "a%20b"):
        write(tmp_path / f"shop={value}" / "part-0.csv", f"user_id,item_id,ts\nu,i,{TIME}\n")
    assert events(read(tmp_path))["shop"].to_list() == ["2024-05-01", None, "a b"]
    write(tmp_path / "part-9.csv", f"user_id,item_id,ts\nu,i,{TIME}\n")
    assert "the parts of a log are divided by the same columns" in refused(tmp_path)


def test_json_lines(tmp_path: Path) -> None:
    lines = [
        {"user_id": 7, "item_id": "007", "ts": TIME, "more": {"a": 1}, "tags": ["x"]},
        {"item_id": 8, "ts": TIME + 1, "user_id": 2**64 - 1, "title": "Mug"},
        {"item_id": "null", "ts": TIME + 2, "user_id": None, "title": "5.50"},
    ]
    text = "\n\n".join(json.dumps(line) for line in lines)
    for name, content in (
        ("a.jsonl", text.encode()),
        ("b.txt", text.encode()),
        ("c.json.gz", gzip.compress(text.encode())),
    ):
        frame = events(read(write(tmp_path / name, content)))
        assert frame["user_id"].to_list() == ["7", str(2**64 - 1), None]
        assert frame["item_id"].to_list() == ["007", "8", "null"]
        assert frame["timestamp"].to_list() == [TIME, TIME + 1, TIME + 2]
        assert frame["title"].to_list() == [None, "Mug", "5.50"]
    assert "is one JSON list" in refused(write(tmp_path / "d.json", json.dumps(lines)))
    assert "expected one JSON object a line" in refused(write(tmp_path / "e.jsonl", '{"user_id": 1\n{"a"'))


@pytest.mark.parametrize("kind", ["csv", "parquet", "folder"])
def test_items_beside_the_log(tmp_path: Path, kind: str) -> None:
    log = write(tmp_path / "log.csv", FRAME.write_csv())
    items = pl.DataFrame({"sku": ["i1", "i2"], "title": ["Mug", None]})
    if kind == "folder":
        (tmp_path / "items").mkdir()
        items.head(1).write_parquet(tmp_path / "items" / "part-0.parquet")
        items.tail(1).write_parquet(tmp_path / "items" / "part-1.parquet")
    elif kind == "csv":
        items.write_csv(tmp_path / "products.csv", separator=";")
    else:
        items.write_parquet(tmp_path / "items.parquet")
    for path in (log, tmp_path):
        source = read(path)
        assert len(events(source)) == 2
        assert source.items is not None
        rows = source.items.select("item_id", "title").collect().rows()
        assert rows == [("i1", "Mug"), ("i2", None)]
        assert "read as the items, whose ids are in 'sku'" in "\n".join(source.notes)
        assert len(source.files) == (3 if kind == "folder" else 2)


def test_files_of_splits_stay_splits(tmp_path: Path) -> None:
    for split in ("train", "valid", "test"):
        write(tmp_path / f"{split}.csv", f"user_id,item_id,ts\n{split},i,{TIME}\n")
    source = read(tmp_path)
    assert source.choices.split == "files"
    assert {split: frame.collect()["user_id"].to_list() for split, frame in source.events.items()} == {
        "train": ["train"],
        "valid": ["valid"],
        "test": ["test"],
    }
    write(tmp_path / "more.csv", "user_id,item_id,ts\n")
    assert "has files of splits (train, valid, test) beside others: more.csv" in refused(tmp_path)


@pytest.mark.parametrize(
    ("make", "told"),
    [
        (lambda folder: folder / "nowhere.csv", "no such file or folder; did you mean 'nowhere.tsv'?"),
        (lambda folder: folder, "has no file of a log"),
    ],
)
def test_paths_without_a_log_are_refused(tmp_path: Path, make: Any, told: str) -> None:
    write(tmp_path / "nowhere.tsv", "")
    assert told in refused(make(tmp_path))


def test_what_a_log_looks_like(tmp_path: Path) -> None:
    assert recognises_log(Path("log.csv.gz"))
    assert not recognises_log(Path("README.md"))
    assert not recognises_log(tmp_path)
    write(tmp_path / "2024" / "part-00000")
    assert recognises_log(tmp_path)


def test_a_large_log_stays_lazy(tmp_path: Path) -> None:
    """Nothing but aggregates and the first rows are collected."""
    for part in range(3):
        FRAME.write_parquet(tmp_path / f"part-{part}.parquet")
    plan = read(tmp_path).events["interactions"].select("item_id").explain()
    assert "DF [" not in plan
    assert plan.count("Parquet SCAN") >= 1


OFFSET = """
import sys
from pathlib import Path
from alterrec.data.formats.log import read_log
from alterrec.data.formats.source import PrepareOptions

print(read_log(Path(sys.argv[1]), PrepareOptions()).events["interactions"].collect()["timestamp"].to_list())
"""


@pytest.mark.parametrize("offset", ["+05:30", "-03:30", "Z", "UTC+03:00", "Mars/X"])
def test_a_time_zone_that_polars_does_not_know_is_utc(tmp_path: Path, offset: str) -> None:
    path = tmp_path / "log.parquet"
    times = pl.Series([TIME, TIME + 1])
    zone = {0: "UTC", 1: "Israel", 2: "Asia/Tokyo"}[len(offset) // 4]
    FRAME.with_columns(ts=(times * 10**6).cast(pl.Datetime("us", zone))).write_parquet(path)
    content = path.read_bytes()
    found = content[arrow_schema(content)]
    # As pyarrow writes them: the length of the name, and the name filled up with zeros to a multiple of four.
    size = len(zone) // 4 * 4 + 4
    old, new = (len(name).to_bytes(4, "little") + name.encode().ljust(size, b"\0") for name in (zone, offset))
    schema = base64.b64decode(found).replace(old, new)
    assert new in schema
    path.write_bytes(content.replace(found, base64.b64encode(schema)))
    run = subprocess.run(
        [sys.executable, "-c", OFFSET, str(path)], capture_output=True, text=True, check=True
    )
    assert (run.stdout, run.stderr) == (f"[{TIME}, {TIME + 1}]\n", "")


LOCALE = """
import sys
from pathlib import Path
from alterrec.data.formats.log import read_log
from alterrec.data.formats.source import PrepareOptions
from alterrec.errors import InputError

try:
    read_log(Path(sys.argv[1]), PrepareOptions())
except InputError as error:
    print(ascii(str(error)))
"""


def test_a_part_whose_name_is_no_text_in_the_locale_is_refused(tmp_path: Path) -> None:
    write(tmp_path / "part-0-données.csv", FRAME.write_csv())
    environment = os.environ | {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}
    command = [sys.executable, "-c", LOCALE, str(tmp_path)]
    run = subprocess.run(command, capture_output=True, text=True, check=True, env=environment)
    assert "its name is not text in the locale's encoding (ascii)" in run.stdout

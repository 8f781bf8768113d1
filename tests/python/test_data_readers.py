"""Reading data sets: formats, splits, and every way in which files can be wrong."""

from __future__ import annotations

import csv
import re
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from alterrec.data.assemble import RawData, ReadOptions, load_sessions
from alterrec.data.formats import FORMATS
from alterrec.data.readers import PREPARED, READERS, DataSource, Reader, load_dataset
from alterrec.data.tables import DataFile
from alterrec.errors import InputError
from alterrec.recipe import resolve
from alterrec.vocabulary import Vocabulary

ITEMS = "item_id,title,brand\ntent,Red tent,Fernhill\nlamp,Oil lamp,\nstove,,\n"
HEADER = "session_id,item_id,timestamp\n"


def sessions(first: int, count: int) -> str:
    """Rows of sessions s<first>.. with items tent and lamp; the time is the session's number."""
    return "".join(f"s{n},{item},{n}\n" for n in range(first, first + count) for item in ("tent", "lamp"))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A well-formed folder: 3 items, of which stove is cold, and sessions of tent and lamp."""
    files = {"items": ITEMS, "train": HEADER + sessions(0, 4)}
    files |= {"valid": HEADER + sessions(4, 2), "test": HEADER + sessions(6, 2)}
    for name, content in files.items():
        (tmp_path / f"{name}.csv").write_text(content, "utf-8")
    return tmp_path


def append(path: Path, lines: str) -> None:
    path.write_text(path.read_text("utf-8") + lines, "utf-8")


def message(call: Callable[[], object]) -> str:
    with pytest.raises(InputError) as caught:
        call()
    text = str(caught.value)
    assert "\n" not in text, "one message, one line"
    return text


def as_parquet(path: Path, **types: pl.DataType) -> Path:
    """The CSV file rewritten as Parquet, with its columns cast to ``types``."""
    frame = pl.read_csv(path, infer_schema=False)
    target = path.with_suffix(".parquet")
    frame.with_columns(pl.col(name).cast(kind) for name, kind in types.items()).write_parquet(target)
    path.unlink()
    return target


# Valid data


def test_a_folder(folder: Path) -> None:
    data = load_dataset(folder)
    assert data.name == folder.name
    assert data.vocabulary.item_ids == ("tent", "lamp", "stove")
    assert data.text is not None
    assert data.text.fields == {"title": ["Red tent", "Oil lamp", ""], "brand": ["Fernhill", "", ""]}
    assert [len(store) for store in data.splits.values()] == [4, 2, 2]
    assert data.session_names["valid"] == ["s4", "s5"]
    np.testing.assert_array_equal(data.valid.items, [0, 1, 0, 1])
    np.testing.assert_array_equal(data.valid.timestamps, [4, 4, 5, 5])
    np.testing.assert_array_equal(data.train_counts, [4, 4, 0])
    np.testing.assert_array_equal(data.trained, [True, True, False])
    assert data.notes == ("items without training sessions (cold): 1, of them in valid or test: 0",)


def test_the_fingerprint_depends_on_content_only(folder: Path) -> None:
    before = load_dataset(folder).fingerprint
    moved = folder.rename(folder.with_name("elsewhere"))
    for name in ("items", "train", "valid", "test"):
        as_parquet(moved / f"{name}.csv")
    assert load_dataset(moved).fingerprint == before
    (moved / "items.parquet").unlink()
    (moved / "items.csv").write_text(ITEMS.replace("Oil", "Gas"), "utf-8")
    assert load_dataset(moved).fingerprint != before


def test_mapped_columns_and_users(folder: Path) -> None:
    (folder / "train.csv").write_text("visit,sku,at,who\n1,lamp,5,ann\n2,tent,3,bob\n1,tent,4,ann\n", "utf-8")
    for split in ("valid", "test"):
        (folder / f"{split}.csv").write_text("visit,sku,at,who\n3,lamp,5,bob\n3,tent,6,bob\n", "utf-8")
    columns = {"session_id": "visit", "item_id": "sku", "timestamp": "at", "user_id": "who"}
    data = load_dataset(folder, columns=columns)
    assert data.session_names["train"] == ["2", "1"], "in the order of the last interaction"
    np.testing.assert_array_equal(data.train.session(1), [0, 1])
    np.testing.assert_array_equal(data.train.users, [1, 0])
    np.testing.assert_array_equal(data.test.users, [1])
    assert data.users is not None
    assert data.users.item_ids == ("ann", "bob")


def test_text_fields_are_chosen_in_order(folder: Path) -> None:
    text = load_dataset(folder, text_fields=["brand", "title"]).text
    assert text is not None
    assert list(text.fields) == ["brand", "title"]
    assert text.joined(0) == "Fernhill Red tent"


def test_items_without_text(folder: Path) -> None:
    (folder / "items.csv").write_text("item_id\ntent\nlamp\n", "utf-8")
    assert load_dataset(folder).text is None


def test_lists_of_text_in_parquet_are_joined(folder: Path) -> None:
    (folder / "items.csv").unlink()
    taxonomy = [["Camping", "Tents"], None]
    frame = pl.DataFrame({"item_id": ["tent", "lamp"], "taxonomy": taxonomy, "year": [1999, None]})
    frame.write_parquet(folder / "items.parquet")
    text = load_dataset(folder).text
    assert text is not None
    assert text.fields == {"taxonomy": ["Camping Tents", ""], "year": ["1999", ""]}


@pytest.mark.parametrize(
    ("written", "stored"),
    [
        (["7", "-8"], [7, -8]),
        (["7.0", "8"], [7, 8]),
        (["7.5", "8"], [7_500_000, 8_000_000]),
        (["1970-01-02", "1970-01-01"], [86_400_000_000, 0]),
        (["1970-01-01T00:00:01", "1970-01-01 00:00:02.5"], [1_000_000, 2_500_000]),
        (["1970-01-01T02:00:00+02:00", "1970-01-01T00:00:01Z"], [0, 1_000_000]),
        (["1970-01-01T00:01", "1970-01-01 00:02"], [60_000_000, 120_000_000]),
    ],
)
def test_timestamps(folder: Path, written: list[str], stored: list[int]) -> None:
    for split in ("train", "valid", "test"):
        rows = "".join(
            f"s{split}{n},tent,{time}\ns{split}{n},lamp,{time}\n" for n, time in enumerate(written)
        )
        (folder / f"{split}.csv").write_text(HEADER + rows, "utf-8")
    times = load_dataset(folder).train.timestamps
    assert times is not None
    np.testing.assert_array_equal(np.sort(times), np.sort(np.repeat(stored, 2)))


@pytest.mark.parametrize("kind", [pl.Int32(), pl.Float64(), pl.UInt64()])
def test_numbers_in_parquet_are_times(folder: Path, kind: pl.DataType) -> None:
    before = load_dataset(folder).train
    as_parquet(folder / "train.csv", timestamp=kind)
    assert load_dataset(folder).train == before


def test_dates_in_parquet_are_times(folder: Path) -> None:
    for split in ("train", "valid", "test"):
        path = as_parquet(folder / f"{split}.csv", timestamp=pl.Int64())
        frame = pl.read_parquet(path)
        frame.with_columns(pl.from_epoch("timestamp", time_unit="s").cast(pl.Datetime("ms"))).write_parquet(
            path
        )
    times = load_dataset(folder).valid.timestamps
    np.testing.assert_array_equal(times, np.array([4, 4, 5, 5]) * 1_000_000)


def test_interactions_are_split_by_time_of_last_interaction(folder: Path) -> None:
    for split in ("train", "valid", "test"):
        (folder / f"{split}.csv").unlink()
    # Session s0 begins first and ends last, so it is the test session.
    rows = "s0,lamp,99\n" + sessions(0, 10)
    (folder / "interactions.csv").write_text(HEADER + rows, "utf-8")
    data = load_dataset(folder, valid_share=0.2, test_share=0.1)
    assert data.session_names == {
        "train": [f"s{n}" for n in range(1, 8)],
        "valid": ["s8", "s9"],
        "test": ["s0"],
    }
    np.testing.assert_array_equal(data.test.items, [0, 1, 1])
    assert data.notes[0] == (
        "interactions.csv: sessions split by time of last interaction: train 7, valid 2, test 1"
    )


def test_a_missing_split_is_split_off_train(folder: Path) -> None:
    (folder / "valid.csv").unlink()
    (folder / "train.csv").write_text(
        "session_id,item_id\n" + "".join(f"s{n},{item}\n" for n in range(10) for item in ("lamp", "tent")),
        "utf-8",
    )
    data = load_dataset(folder)
    assert [len(store) for store in data.splits.values()] == [9, 1, 2]
    assert data.session_names["valid"] == ["s9"]
    assert "by order of appearance (no timestamps): train 9, valid 1" in data.notes[0]
    assert data.train.timestamps is None


def test_notes_on_well_formed_data(folder: Path) -> None:
    append(folder / "train.csv", "s90,tent,1\n")
    append(folder / "test.csv", "s0,tent,9\ns0,stove,9\n")
    notes = load_dataset(folder).notes
    assert notes == (
        "items without training sessions (cold): 1, of them in valid or test: 1",
        "train: sessions with a single item, which have no target: 1",
        "session ids in both train and test: 1",
    )


def test_a_byte_order_mark_and_blank_lines_are_skipped(folder: Path) -> None:
    path = folder / "train.csv"
    before = load_dataset(folder).train
    path.write_text("\ufeff" + path.read_text("utf-8").replace("s2,tent", "\ns2,tent") + "\n\n", "utf-8")
    assert load_dataset(folder).train == before


NAMES = st.text(
    st.characters(exclude_categories=("Cs", "Cc"), include_characters='\n",'), min_size=1, max_size=6
).filter(lambda name: name.strip() != "")


@st.composite
def rows_of_sessions(draw: st.DrawFn) -> tuple[list[str], list[tuple[str, str, int]]]:
    items = draw(st.lists(NAMES, min_size=2, max_size=5, unique=True))
    names = draw(st.lists(NAMES, min_size=1, max_size=4, unique=True))
    row = st.tuples(st.sampled_from(names), st.sampled_from(items), st.integers(-(2**40), 2**40))
    rows = draw(st.lists(row, max_size=12))
    target = [(names[0], items[0], 0), (names[0], items[1], 0)]
    return items, [*rows, *target]


@settings(deadline=None)
@given(rows_of_sessions(), st.booleans(), st.sampled_from(["csv", "parquet"]))
def test_any_sessions_are_read_as_written(
    written: tuple[list[str], list[tuple[str, str, int]]], timed: bool, suffix: str
) -> None:
    items, rows = written
    # Reference: Python's stable sorts, by time within a session and by last time between sessions.
    expected: dict[str, list[tuple[int, str]]] = {}
    for session, item, time in rows:
        expected.setdefault(session, []).append((time, item))
    if timed:
        expected = {name: sorted(events, key=lambda event: event[0]) for name, events in expected.items()}
        expected = dict(sorted(expected.items(), key=lambda entry: entry[1][-1][0]))

    columns = ["session_id", "item_id", "timestamp"] if timed else ["session_id", "item_id"]
    with TemporaryDirectory() as name:
        folder = Path(name)
        write(folder / f"items.{suffix}", ["item_id"], [(item,) for item in items])
        for split in ("train", "valid", "test"):
            write(folder / f"{split}.{suffix}", columns, [row[: len(columns)] for row in rows])
        data = load_dataset(folder)
    for split, store in data.splits.items():
        assert data.session_names[split] == list(expected)
        found = [[items[item] for item in store.session(index)] for index in range(len(store))]
        assert found == [[item for _, item in events] for events in expected.values()]
        if timed:
            times = [time for events in expected.values() for time, _ in events]
            np.testing.assert_array_equal(store.timestamps, times)


def write(path: Path, columns: list[str], rows: list[tuple[object, ...]]) -> None:
    if path.suffix == ".parquet":
        pl.DataFrame(rows, schema=columns, orient="row").write_parquet(path)
        return
    with path.open("w", encoding="utf-8", newline="") as file:
        csv.writer(file).writerows([columns, *rows])


# Formats


def read_lines(path: Path, options: ReadOptions) -> RawData:
    """A text file with a session of item ids per line, oldest first."""
    rows = pl.DataFrame({"item_id": [line.split() for line in path.read_text("utf-8").splitlines()]})
    lines = DataFile(path, rows.with_row_index("session_id"))
    events = lines.frame.explode("item_id")
    items = DataFile(path, events.select(pl.col("item_id").unique(maintain_order=True)))
    return RawData(items, {"train": DataFile(path, events)}, ("the file has no timestamps",))


def test_a_format_is_one_function_and_one_row(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    row = Reader("a session of item ids per line", read_lines, lambda path: path.suffix == ".sessions")
    monkeypatch.setitem(READERS, "lines", row)
    path = tmp_path / "shop.sessions"
    path.write_text("tent lamp\nlamp rug\nrug tent lamp\n", "utf-8")
    data = load_dataset(path)
    assert data.vocabulary.item_ids == ("tent", "lamp", "rug")
    assert [store.items.tolist() for store in data.splits.values()] == [[0, 1], [1, 2], [2, 0, 1]]
    assert data.notes[0] == "the file has no timestamps"
    assert load_dataset(path, format="lines").fingerprint == data.fingerprint
    source = DataSource(path, format="lines")
    assert source.read(resolve("popularity")).fingerprint == data.fingerprint
    assert source.arguments() == [f"--data={path}", "--format=lines"]
    path.write_text("tent lamp\nlamp rug\n", "utf-8")
    assert message(lambda: load_dataset(path)).startswith(f"{path}: has 2 sessions; expected at least 3")


def test_an_unknown_format(folder: Path) -> None:
    known = ", ".join([*READERS, PREPARED, *FORMATS])
    assert message(lambda: load_dataset(folder, format="spits")) == (
        f"unknown data format 'spits'; choose one of {known}; did you mean 'splits'?"
    )
    assert "interactions.csv or interactions.parquet is missing" in message(
        lambda: load_dataset(folder, format="interactions")
    )
    (folder / "train.csv").rename(folder / "interactions.csv")
    assert "train.csv or train.parquet is missing" in message(lambda: load_dataset(folder, format="splits"))


# Wrong data


def test_wrong_path(folder: Path) -> None:
    typo = folder.with_name(folder.name + "x")
    found = message(lambda: load_dataset(typo))
    assert found.startswith(f"{typo}: no such folder; expected a folder with items and train or interactions")
    assert f"did you mean {folder.name!r}?" in found
    # A single file is a log.
    found = message(lambda: load_dataset(folder / "items.csv"))
    assert found.startswith(f"{folder / 'items.csv'}: no column is known as the session or the user")
    assert "no such folder" in message(lambda: load_dataset(folder / "no" / "where"))


def test_missing_file(folder: Path) -> None:
    (folder / "items.csv").rename(folder / "item.csv")
    found = message(lambda: load_dataset(folder))
    assert "items.csv or items.parquet is missing" in found
    assert found.endswith("did you mean 'item.csv'?")


def test_missing_train(folder: Path) -> None:
    (folder / "train.csv").unlink()
    assert "train.csv or train.parquet, or interactions.csv is missing" in message(
        lambda: load_dataset(folder)
    )


def test_ambiguous_files(folder: Path) -> None:
    (folder / "items.parquet").touch()
    assert "has both items.csv and items.parquet; keep one" in message(lambda: load_dataset(folder))
    (folder / "items.parquet").unlink()
    (folder / "interactions.csv").touch()
    assert re.search(
        r"several data formats fit: splits \(.*train.*\); interactions \(.*\)\. Keep the files of one",
        message(lambda: load_dataset(folder)),
    )
    assert load_dataset(folder, format="splits").num_items == 3


@pytest.mark.parametrize("suffix", ["csv", "parquet"])
def test_missing_column(folder: Path, suffix: str) -> None:
    path = folder / "valid.csv"
    path.write_text(path.read_text("utf-8").replace("item_id", "itemid"), "utf-8")
    if suffix == "parquet":
        path = as_parquet(path)
    assert message(lambda: load_dataset(folder)) == (
        f"{path}: column 'item_id' is missing; its columns are 'session_id', 'itemid', 'timestamp'. Rename a "
        "column, or map it with --column item_id=itemid (in Python, columns={'item_id': 'itemid'})"
    )


def test_all_missing_columns_are_named_at_once(folder: Path) -> None:
    for name, old, new in (
        ("items.csv", "item_id,", "SKU,"),
        ("train.csv", "session_id,item_id", "basket id,article"),
        ("test.csv", "session_id,item_id", "x,item_id"),
    ):
        text = (folder / name).read_text("utf-8")
        assert old in text
        (folder / name).write_text(text.replace(old, new, 1), "utf-8")
    found = message(lambda: load_dataset(folder))
    assert found == (
        f"{folder / 'items.csv'}: column 'item_id' is missing; its columns are 'SKU', 'title', 'brand'. "
        f"{folder / 'train.csv'}: columns 'session_id' and 'item_id' are missing; its columns are "
        "'basket id', 'article', 'timestamp'. "
        f"{folder / 'test.csv'}: column 'session_id' is missing; its columns are 'x', 'item_id', "
        "'timestamp'. Rename columns, or map them with --column item_id=SKU --column session_id='basket id' "
        "(in Python, columns={'item_id': 'SKU', 'session_id': 'basket id'})"
    )


@pytest.mark.parametrize("separator", [";", "\t", "|"])
def test_other_separators_are_read(folder: Path, separator: str) -> None:
    expected = load_dataset(folder)
    for name in ("items.csv", "train.csv", "valid.csv", "test.csv"):
        with (folder / name).open(encoding="utf-8", newline="") as file:
            rows = list(csv.reader(file))
        with (folder / name).open("w", encoding="utf-8", newline="") as file:
            csv.writer(file, delimiter=separator).writerows(rows)
    assert load_dataset(folder).fingerprint == expected.fingerprint
    append(folder / "test.csv", separator.join(["s9", "lamp", "8", "more"]) + "\n")
    assert f"test.csv, line {len(rows) + 1}: has 4 cells but the header has 3" in message(
        lambda: load_dataset(folder)
    )


def test_a_file_with_a_likely_name_is_suggested(folder: Path) -> None:
    (folder / "items.csv").rename(folder / "products.csv")
    found = message(lambda: load_dataset(folder))
    assert found.endswith("test.csv, train.csv, valid.csv; rename products.csv if it has the items")


def test_wrong_column_mapping(folder: Path) -> None:
    found = message(lambda: load_dataset(folder, columns={"timestamp": "timestam"}))
    assert "columns timestamp=timestam: no column 'timestam' in" in found
    assert found.endswith("did you mean 'timestamp'?")
    found = message(lambda: load_dataset(folder, columns={"item": "sku"}))
    assert "columns: 'item' cannot be mapped; choose one of session_id, item_id, timestamp, user_id" in found


def test_unknown_text_field(folder: Path) -> None:
    found = message(lambda: load_dataset(folder, text_fields=["titel"]))
    assert found == (
        f"{folder / 'items.csv'}: text field 'titel' is missing; its text columns are 'title', 'brand'; "
        "did you mean 'title'?"
    )


@pytest.mark.parametrize("suffix", ["csv", "parquet"])
def test_unknown_items(folder: Path, suffix: str) -> None:
    path = folder / "test.csv"
    append(path, "s8,tend,8\ns8,lamp,8\ns9,boat,9\n")
    place = f"{path}, line 6"
    if suffix == "parquet":
        place = f"{as_parquet(path)}, row 5"
    assert message(lambda: load_dataset(folder)) == (
        f"{place}: item_id is 'tend', which is not in items.csv (2 of 7 rows have such items); did you mean "
        "'tent'? Add the items, or drop such rows with --drop-unknown (in Python, drop_unknown=True)"
    )
    data = load_dataset(folder, drop_unknown=True)
    assert data.session_names["test"] == ["s6", "s7", "s8"]
    np.testing.assert_array_equal(data.test.items, [0, 1, 0, 1, 1])
    assert data.notes[:2] == (
        f"test.{suffix}: dropped 2 of 7 rows with unknown items",
        f"test.{suffix}: dropped sessions that have unknown items only: 1",
    )


def test_only_unknown_items(folder: Path) -> None:
    (folder / "test.csv").write_text(HEADER + "s8,boat,8\n", "utf-8")
    found = message(lambda: load_dataset(folder, drop_unknown=True))
    assert "none of its 1 rows has an item of items.csv; the first item_id is 'boat'" in found


@pytest.mark.parametrize("suffix", ["csv", "parquet"])
def test_duplicate_item(folder: Path, suffix: str) -> None:
    path = folder / "items.csv"
    # A cell contains a line break: the message gives the line of the file, not the number of the row.
    append(path, 'boat,"Folding\nboat",\ntent,Green tent,\nlamp,,\n')
    places = f"{path}, line 7", "line 2"
    if suffix == "parquet":
        places = f"{as_parquet(path)}, row 5", "row 1"
    assert message(lambda: load_dataset(folder)) == (
        f"{places[0]}: item_id 'tent' repeats {places[1]} (2 such rows); expected one row per item. "
        "Delete the repetition"
    )


@pytest.mark.parametrize("suffix", ["csv", "parquet"])
@pytest.mark.parametrize(
    ("row", "column"), [(",tent,1", "session_id"), ("s1,,1", "item_id"), ('s1," ",1', "item_id")]
)
def test_empty_session(folder: Path, suffix: str, row: str, column: str) -> None:
    path = folder / "train.csv"
    append(path, row + "\n")
    place = f"{path}, line 10"
    if suffix == "parquet":
        place = f"{as_parquet(path)}, row 9"
    found = message(lambda: load_dataset(folder))
    assert re.match(re.escape(place) + f": {column} is ' ?'; expected an id in every row", found)


@pytest.mark.parametrize("time", ["yesterday", "", "2024-05-01", "12:30", "nan", "inf"])
def test_unparsable_timestamp(folder: Path, time: str) -> None:
    append(folder / "train.csv", f"s1,tent,{time}\n")
    assert message(lambda: load_dataset(folder)) == (
        f"{folder / 'train.csv'}, line 10: timestamp is {time!r}; expected an integer below 2**63, a "
        "decimal number of at most 9 places or an ISO date such as 2024-05-01T12:30:00, one kind in all rows"
    )


def test_a_number_among_dates(folder: Path) -> None:
    (folder / "train.csv").write_text(HEADER + "s,tent,2024-05-01\ns,lamp,2024-05-02\ns,tent,5\n", "utf-8")
    assert "train.csv, line 4: timestamp is '5'" in message(lambda: load_dataset(folder))


def test_nan_timestamp_in_parquet(folder: Path) -> None:
    append(folder / "train.csv", "s1,tent,NaN\n")
    path = as_parquet(folder / "train.csv", timestamp=pl.Float64())
    assert f"{path}, row 9: timestamp is nan; expected" in message(lambda: load_dataset(folder))


def test_timestamps_of_two_kinds(folder: Path) -> None:
    (folder / "test.csv").write_text(HEADER + "s,tent,2024-05-01\ns,lamp,2024-05-02\n", "utf-8")
    found = message(lambda: load_dataset(folder))
    assert re.search(
        r"(train|valid).csv: timestamps are numbers, but .*test.csv has dates; use one kind", found
    )


def test_timestamp_too_large(folder: Path) -> None:
    append(folder / "train.csv", "s1,tent,1e30\n")
    assert "line 10: timestamp is '1e30'; expected an integer below 2**63" in message(
        lambda: load_dataset(folder)
    )


def test_timestamps_too_large_for_the_fractions_of_others(folder: Path) -> None:
    append(folder / "train.csv", f"s1,tent,{2**62}\ns1,tent,0.5\n")
    found = message(lambda: load_dataset(folder))
    assert (
        "train.csv: timestamps reach 4.61169e+18 with up to 6 decimal places; expected values below" in found
    )


def test_two_users_in_a_session(folder: Path) -> None:
    (folder / "train.csv").write_text("session_id,item_id,user_id\ns,tent,ann\ns,lamp,bob\n", "utf-8")
    assert message(lambda: load_dataset(folder)) == (
        f"{folder / 'train.csv'}, line 3: user_id is 'bob', but session 's' began with 'ann'; expected one "
        "user per session"
    )


def test_not_utf8(folder: Path) -> None:
    path = folder / "items.csv"
    path.write_bytes(path.read_bytes() + "café,,\n".encode("latin-1"))
    assert f"{path}, line 5: byte b'\\xe9' is not UTF-8 text" in message(lambda: load_dataset(folder))
    path.write_bytes(ITEMS.replace("brand", "café").encode("latin-1"))
    assert f"{path}, line 1: byte b'\\xe9' is not UTF-8 text" in message(lambda: load_dataset(folder))
    path.write_bytes(ITEMS.encode("utf-16"))
    assert f"{path}: is UTF-16 text" in message(lambda: load_dataset(folder))


@pytest.mark.parametrize("content", [b"", b"\n", b"\n\n"])
def test_empty_file(folder: Path, content: bytes) -> None:
    (folder / "train.csv").write_bytes(content)
    assert f"{folder / 'train.csv'}: is empty; expected a header line and at least one row" in message(
        lambda: load_dataset(folder)
    )


@pytest.mark.parametrize("name", ["items", "train", "test"])
@pytest.mark.parametrize("suffix", ["csv", "parquet"])
def test_header_without_rows(folder: Path, name: str, suffix: str) -> None:
    path = folder / f"{name}.csv"
    path.write_text(path.read_text("utf-8").splitlines()[0] + "\n", "utf-8")
    if suffix == "parquet":
        path = as_parquet(path)
    assert message(lambda: load_dataset(folder)) == (
        f"{path}: has a header but no rows; expected at least one row"
    )


def test_one_item_catalogue(folder: Path) -> None:
    (folder / "items.csv").write_text("item_id\ntent\n", "utf-8")
    assert f"{folder / 'items.csv'}: has 1 item; expected at least 2" in message(lambda: load_dataset(folder))


@pytest.mark.parametrize(
    ("line", "told"),
    [
        ("boat,Boat,x,y", "line 5: has 4 cells but the header has 3; quote a cell that contains a comma"),
        (
            'boat,"12 ruler,x',
            "line 5: has an unpaired quote; put the cell in quotes and double those inside it",
        ),
    ],
)
def test_damaged_csv(folder: Path, line: str, told: str) -> None:
    append(folder / "items.csv", line + "\n")
    assert message(lambda: load_dataset(folder)) == f"{folder / 'items.csv'}, {told}"


def test_a_quote_inside_a_cell_is_refused_or_kept(folder: Path) -> None:
    append(folder / "items.csv", 'boat,12" ruler,x\n')
    # polars 2 refuses the line, earlier versions read the cell as it stands.
    try:
        text = load_dataset(folder).text
        found = "" if text is None else str(text.fields["title"])
    except InputError as error:
        found = str(error)
    assert '12" ruler' in found or "line 5: has an unpaired quote; put the cell in quotes" in found


def test_repeated_column(folder: Path) -> None:
    (folder / "items.csv").write_text("item_id,title,title\ntent,a,b\nlamp,c,d\n", "utf-8")
    assert "items.csv, line 1: column 'title' appears twice" in message(lambda: load_dataset(folder))


@pytest.mark.parametrize("keep", [0, 4, 60])
def test_damaged_parquet(folder: Path, keep: int) -> None:
    path = as_parquet(folder / "train.csv")
    path.write_bytes(path.read_bytes()[:keep])
    assert message(lambda: load_dataset(folder)).startswith(f"{path} is damaged (")


@settings(deadline=None)
@given(st.data(), st.sampled_from(["csv", "parquet"]))
def test_any_damage_is_reported_or_harmless(data: st.DataObject, suffix: str) -> None:
    with TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "items.csv").write_text(ITEMS, "utf-8")
        path = folder / "train.csv"
        path.write_text(HEADER + sessions(0, 5), "utf-8")
        raw = bytearray((path if suffix == "csv" else as_parquet(path)).read_bytes())
        start = data.draw(st.integers(0, len(raw)))
        # Parquet files are only truncated: a changed length field can make polars allocate too much memory.
        stop = data.draw(st.integers(start, min(len(raw), start + 8))) if suffix == "csv" else len(raw)
        raw[start:stop] = data.draw(st.binary(max_size=4) if suffix == "csv" else st.just(b""))
        (folder / f"train.{suffix}").write_bytes(raw)
        try:
            load_dataset(folder)
        except InputError as error:
            told = str(error)
        else:
            told = f"{folder} is fine"
        assert str(folder) in told, "the message names the file"


@pytest.mark.parametrize(
    ("column", "values", "told"),
    [
        ("session_id", [b"a", b"b"], "is Binary; expected text or integers"),
        ("item_id", [["a"], ["b"]], "is List(String); expected text or integers"),
        ("timestamp", [True, False], "is Boolean; expected numbers or dates"),
    ],
)
def test_wrong_types_in_parquet(folder: Path, column: str, values: list[object], told: str) -> None:
    (folder / "train.csv").unlink()
    columns = {"session_id": [1, 1], "item_id": ["tent", "lamp"], "timestamp": [1, 2], column: values}
    pl.DataFrame(columns).write_parquet(folder / "train.parquet")
    assert f"train.parquet: column {column!r} {told}" in message(lambda: load_dataset(folder))


def test_nothing_to_predict(folder: Path) -> None:
    (folder / "test.csv").write_text(HEADER + "a,tent,1\nb,lamp,2\n", "utf-8")
    assert "test.csv: no session of test has 2 or more items" in message(lambda: load_dataset(folder))


def test_too_few_sessions_to_split(folder: Path) -> None:
    (folder / "valid.csv").unlink()
    (folder / "test.csv").unlink()
    (folder / "train.csv").write_text(HEADER + sessions(0, 2), "utf-8")
    found = message(lambda: load_dataset(folder))
    assert "train.csv: has 2 sessions; expected at least 3, because valid and test are split off" in found


def test_interactions_without_times(folder: Path) -> None:
    for split in ("train", "valid", "test"):
        (folder / f"{split}.csv").unlink()
    (folder / "interactions.csv").write_text("session_id,item_id\ns,tent\ns,lamp\n", "utf-8")
    found = message(lambda: load_dataset(folder))
    assert (
        "interactions.csv: column 'timestamp' is missing; a single file of interactions is split by time"
        in found
    )


@pytest.mark.parametrize(
    ("column", "told"),
    [
        ("event_time", "if 'event_time' has the times, use --column timestamp=event_time"),
        (
            "time of click",
            "use --column timestamp='time of click' (in Python, columns={",
        ),
        ("seen", "Its columns are 'session_id', 'item_id', 'seen': map it with --column timestamp=NAME"),
    ],
)
def test_a_likely_column_of_times_is_named(folder: Path, column: str, told: str) -> None:
    for split in ("train", "valid", "test"):
        (folder / f"{split}.csv").unlink()
    (folder / "interactions.csv").write_text(f"session_id,item_id,{column}\ns,tent,1\ns,lamp,2\n", "utf-8")
    assert told in message(lambda: load_dataset(folder))


def test_a_split_without_times_names_the_likely_column(folder: Path) -> None:
    text = (folder / "test.csv").read_text("utf-8")
    (folder / "test.csv").write_text(text.replace("timestamp", "ClickDate"), "utf-8")
    notes = [note for note in load_dataset(folder).notes if "ClickDate" in note]
    assert notes == [
        "test.csv: no column 'timestamp', so the order of the rows counts; if 'ClickDate' has the times, use "
        "--column timestamp=ClickDate (in Python, columns={'timestamp': 'ClickDate'})"
    ]


@pytest.mark.parametrize(
    ("shares", "told"),
    [
        ({"valid_share": 0.0}, "valid_share is 0.0; expected a share above 0 and below 1"),
        ({"test_share": 1.5}, "test_share is 1.5; expected a share above 0 and below 1"),
        (
            {"valid_share": 0.5, "test_share": 0.5},
            "leave nothing to train on; choose shares whose sum is below 1",
        ),
    ],
)
def test_wrong_shares(folder: Path, shares: dict[str, float], told: str) -> None:
    assert told in message(lambda: load_dataset(folder, **shares))


# Session files of a known catalogue


def test_sessions_to_recommend_for(tmp_path: Path) -> None:
    path = tmp_path / "s.csv"
    path.write_text("session_id,item_id,timestamp\nb,lamp,9\na,tent,3\nb,tent,8\nb,boat,9\n", "utf-8")
    vocabulary = Vocabulary(("tent", "lamp"))
    asked = load_sessions(path, vocabulary, drop_unknown=True)
    assert asked.names == ["a", "b"]
    np.testing.assert_array_equal(asked.store.session(1), [0, 1])
    assert asked.store.num_items == 2
    assert asked.notes == ("s.csv: dropped 1 of 4 rows with unknown items",)
    found = message(lambda: load_sessions(path, vocabulary))
    assert "line 5: item_id is 'boat', which is not in the catalogue (1 of 4 rows" in found


def test_users_of_sessions_get_their_known_numbers(tmp_path: Path) -> None:
    path = tmp_path / "s.csv"
    path.write_text("session_id,item_id,who\na,tent,eve\nb,lamp,anna\nb,tent,anna\nc,lamp,ben\n", "utf-8")
    vocabulary, users = Vocabulary(("tent", "lamp")), Vocabulary(("ben", "eve"))
    asked = load_sessions(path, vocabulary, users=users, columns={"user_id": "who"})
    np.testing.assert_array_equal(asked.store.users, [1, -1, 0])
    assert asked.notes == ("s.csv: sessions of unknown users: 1 of 3",)
    asked = load_sessions(path, vocabulary, users=users)
    assert asked.store.users is None
    assert asked.notes == ("s.csv: sessions of unknown users: 3 of 3 (no column user_id)",)


def test_users_are_read_only_on_request(tmp_path: Path) -> None:
    path = tmp_path / "s.csv"
    path.write_text("session_id,item_id,user_id\na,tent,\na,lamp,ben\n", "utf-8")
    asked = load_sessions(path, Vocabulary(("tent", "lamp")))
    assert asked.store.users is None
    assert asked.notes == ()


def test_users_get_the_numbers_of_other_data(folder: Path) -> None:
    for split in ("train", "valid", "test"):
        lines = (folder / f"{split}.csv").read_text("utf-8").splitlines()
        rows = [f"{line},u{line.split(',')[0]}\n" for line in lines[1:]]
        (folder / f"{split}.csv").write_text(f"{lines[0]},user_id\n" + "".join(rows), "utf-8")
    data = load_dataset(folder)
    assert data.users is not None
    names = data.users.item_ids
    others = Vocabulary(("nobody", *names[:0:-1]))
    again = data.with_users(others)
    for split, store in data.splits.items():
        assert store.users is not None
        assert [names[user] for user in store.users] == [f"u{name}" for name in data.session_names[split]]
        other = again.splits[split]
        assert other.users is not None
        assert other.users.tolist() == others.find([names[user] for user in store.users]).tolist()
        for column in ("offsets", "items", "session_ids", "timestamps"):
            np.testing.assert_array_equal(getattr(other, column), getattr(store, column))
    assert again.with_users(others).train == again.train


def test_wrong_path_of_a_session_file(tmp_path: Path) -> None:
    (tmp_path / "sessions.csv").touch()
    vocabulary = Vocabulary(("tent", "lamp"))
    found = message(lambda: load_sessions(tmp_path / "session.csv", vocabulary))
    assert found == f"{tmp_path / 'session.csv'}: no such file; did you mean 'sessions.csv'?"
    (tmp_path / "sessions.xlsx").touch()
    found = message(lambda: load_sessions(tmp_path / "sessions.xlsx", vocabulary))
    assert "its suffix is '.xlsx'; expected .csv or .parquet" in found


def test_vocabulary_suggests_the_most_similar_id() -> None:
    vocabulary = Vocabulary(("tent", "lamp"))
    np.testing.assert_array_equal(vocabulary.find(["lamp", "boat", "tent"]), [1, -1, 0])
    assert message(lambda: vocabulary.index(["lamp", "lamb"])) == (
        "item 'lamb' is not in the catalogue of 2 items; did you mean 'lamp'?"
    )

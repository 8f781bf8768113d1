"""The reader of RecBole's atomic files, on small files of their layouts."""

from __future__ import annotations

from pathlib import Path

import polars as pl
import pytest

from alterrec.data.formats import FORMATS
from alterrec.data.formats.recbole import read_recbole
from alterrec.data.formats.source import PrepareOptions, Source
from alterrec.errors import InputError

EVENTS = "session_id:token\titem_id:token\ttimestamp:float\n"
LISTS = "session_id:token\titem_id_list:token_seq\titem_id:token\n"


def folder_of(tmp_path: Path, **files: str) -> Path:
    """Write the files shop.SUFFIX; two underscores are a dot."""
    for suffix, text in files.items():
        (tmp_path / f"shop.{suffix.replace('__', '.')}").write_text(text, "utf-8")
    return tmp_path


def read(folder: Path, **columns: str) -> Source:
    return read_recbole(folder, PrepareOptions(columns=columns))


def sessions_of(source: Source, split: str) -> dict[str, list[str]]:
    rows = source.events[split].filter(pl.col("problem").is_null()).collect()
    return dict(rows.group_by("session_id", maintain_order=True).agg("item_id").iter_rows())


def items_of(folder: Path) -> pl.DataFrame:
    items = read(folder).items
    assert items is not None
    return items.collect()


def test_events_and_items(tmp_path: Path) -> None:
    """A title with quotation marks is kept as it stands; numbers are numbers; vectors are left out."""
    folder = folder_of(
        tmp_path,
        inter=EVENTS + "s1\t007\t1393545600\ns1\tb\t1393545601.0\ns2\tb\t1.3935456e9\n",
        item=(
            "item_id:token\ttitle:token_seq\tgenre:token_seq\tprice:float\tvector:float_seq\n"
            '007\tThe "Best" Tent\tA B\t1.5\t0.1 0.2\nb\t"Lamp" of wool\t\t\t0.3 0.4\n'
            'c\t"""Rug"" and more"\tNA\t2\t\n'
        ),
        user="user_id:token\tage:token\n1\t30\n",
    )
    source = read(folder)
    assert source.events["interactions"].collect().rows() == [
        ("s1", "007", 1393545600, None),
        ("s1", "b", 1393545601, None),
        ("s2", "b", 1393545600, None),
    ]
    assert (source.choices.sessions, source.choices.split, source.per_second) == ("given", "time", 1)
    assert source.notes == (
        "shop.item: sequences of numbers are left out: vector",
        "not read, as no system uses it: shop.user",
    )
    items = items_of(folder)
    assert items.columns == ["item_id", "title", "genre", "price"]
    assert items["title"].to_list() == ['The "Best" Tent', '"Lamp" of wool', '"Rug" and more']
    assert items["genre"].to_list() == ["A B", None, "NA"]
    assert items["price"].to_list() == [1.5, None, 2.0]
    assert [file.name for file in source.files] == ["shop.inter", "shop.item"]


def test_users_are_sessions_where_there_are_no_sessions(tmp_path: Path) -> None:
    folder = folder_of(
        tmp_path, inter="user_id:token\titem_id:token\trating:float\ttimestamp:float\n1\ta\t5\t978300760\n"
    )
    source = read(folder)
    assert source.events["interactions"].collect().columns == ["user_id", "item_id", "timestamp", "problem"]
    assert (source.choices.sessions, source.items) == ("user", None)


def test_other_names_of_fields(tmp_path: Path) -> None:
    folder = folder_of(
        tmp_path, inter="visit:token\tsku:token\n1\ta\n", item="sku:token\tname:token_seq\na\tA\n"
    )
    source = read(folder, session_id="visit", item_id="sku")
    assert sessions_of(source, "interactions") == {"1": ["a"]}
    with pytest.raises(InputError, match=r"the field 'item_id' is missing; its fields are 'visit', 'sku'"):
        read(folder)
    with pytest.raises(InputError, match=r"the field 'skus' is missing; .*did you mean 'sku'\?"):
        read(folder, item_id="skus")


@pytest.mark.parametrize("separator", [",", ";", "|", "^"])
def test_other_separators(tmp_path: Path, separator: str) -> None:
    """Of fields, and of the items of a list."""
    inner = "," if separator != "," else "|"
    text = LISTS.replace("\t", separator) + f"1{separator}a{inner}b{separator}c\n2{separator}{separator}c\n"
    source = read(folder_of(tmp_path, train__inter=text))
    assert sessions_of(source, "train") == {"1": ["a", "b", "c"], "2": ["c"]}
    assert source.notes == (f"shop.train.inter: the items of item_id_list are separated by {inner!r}",)


ONE_PER_SESSION = "1\ta b\tc\n2\tb\tc\n3\td e f\ta\n"
# The same two sessions a b c d and b a: rows of prefixes in the orders in which programs write them.
ASCENDING = "1\ta\tb\n1\ta b\tc\n1\ta b c\td\n2\tb\ta\n"
DESCENDING = "1\ta b c\td\n1\ta b\tc\n1\ta\tb\n2\tb\ta\n"
SHUFFLED = "1\ta b\tc\n2\tb\ta\n1\ta b c\td\n1\ta\tb\n"
NUMBERED = "0\ta\tb\n1\ta b\tc\n2\ta b c\td\n3\tb\ta\n"
NUMBERED_DOWN = "0\ta b c\td\n1\ta b\tc\n2\ta\tb\n3\tb\ta\n"


@pytest.mark.parametrize(
    ("rows", "sessions", "note"),
    [
        (ONE_PER_SESSION, [["a", "b", "c"], ["b", "c"], ["d", "e", "f", "a"]], None),
        (ASCENDING, [["a", "b", "c", "d"], ["b", "a"]], "4 rows are the prefixes of 2 sessions"),
        (DESCENDING, [["a", "b", "c", "d"], ["b", "a"]], "4 rows are the prefixes of 2 sessions"),
        (SHUFFLED, [["a", "b", "c", "d"], ["b", "a"]], "4 rows are the prefixes of 2 sessions"),
        (NUMBERED, [["a", "b", "c", "d"], ["b", "a"]], "4 rows are the prefixes of 2 sessions"),
        (NUMBERED_DOWN, [["b", "a"], ["a", "b", "c", "d"]], "4 rows are the prefixes of 2 sessions"),
    ],
)
def test_rows_of_prefixes_are_one_session(
    tmp_path: Path, rows: str, sessions: list[list[str]], note: str | None
) -> None:
    source = read(folder_of(tmp_path, train__inter=LISTS + rows))
    assert list(sessions_of(source, "train").values()) == sessions
    assert source.notes == (
        () if note is None else (f"shop.train.inter: {note}; whole sessions are read instead",)
    )
    assert source.choices.split == "files"


@pytest.mark.parametrize("descending", [False, True])
def test_prefixes_that_were_cut_to_a_length(tmp_path: Path, descending: bool) -> None:
    """RecBole and UniSRec keep the last 50 items of a list; here 3."""
    session = [f"i{place % 7}" for place in range(12)]
    rows = [
        f"u\t{' '.join(session[max(0, end - 3) : end])}\t{session[end]}" for end in range(1, len(session))
    ]
    rows = [*(reversed(rows) if descending else rows), "v\ta\tb"]
    text = LISTS.replace("session_id", "user_id") + "\n".join(rows) + "\n"
    source = read(folder_of(tmp_path, train__inter=text))
    assert sessions_of(source, "train") == {"u": session, "v": ["a", "b"]}


def test_several_sessions_of_one_id(tmp_path: Path) -> None:
    rows = "u\ta\tb\nu\ta b\tc\nu\tx y\tz\nv\ta\tb\n"
    source = read(folder_of(tmp_path, train__inter=LISTS + rows))
    assert sessions_of(source, "train") == {"u": ["a", "b", "c"], "u/2": ["x", "y", "z"], "v": ["a", "b"]}


def test_few_rows_that_happen_to_continue_one_another_are_sessions(tmp_path: Path) -> None:
    rows = "1\ta\tb\n2\ta b\tc\n3\tx y\tz\n4\tz z\tx\n5\td e\tf\n"
    source = read(folder_of(tmp_path, train__inter=LISTS + rows))
    assert len(sessions_of(source, "train")) == 5
    assert source.notes == ()


def test_benchmark_splits(tmp_path: Path) -> None:
    folder = folder_of(
        tmp_path,
        train__inter=LISTS + "1\ta b\tc\n",
        valid__inter=LISTS + "2\ta b\td\n",
        test__inter=LISTS + "3\ta  b \td\n4\t\te\n",
        inter=EVENTS,
    )
    source = read(folder)
    assert list(source.events) == ["train", "valid", "test"]
    assert sessions_of(source, "test") == {"3": ["a", "b", "d"], "4": ["e"]}
    assert source.notes == ("not read: shop.inter",)


def test_times_of_list_rows(tmp_path: Path) -> None:
    header = "session_id:token\titem_id_list:token_seq\titem_id:token\ttimestamp:float\n"
    source = read(
        folder_of(tmp_path, train__inter=header + "1\ta\tb\t1661724000000\n1\ta b\tc\t1661724000500\n")
    )
    rows = source.events["train"].collect()
    assert rows["timestamp"].to_list() == [1661724000000, 1661724000000, 1661724000500]
    assert source.per_second == 1000
    assert source.notes[0] == "timestamp: read as milliseconds, by the size of the numbers"


def test_rows_that_cannot_be_used(tmp_path: Path) -> None:
    rows = "s1\ta\t1\ns1\t\t2\n\tb\t3\ns1\tc\tnoon\ns1\td\t4.25\n"
    source = read(folder_of(tmp_path, inter=EVENTS + rows))
    problems = source.events["interactions"].collect()["problem"].to_list()
    assert problems == [
        None,
        "item_id is empty",
        "session_id is empty",
        "timestamp is not a number",
        None,
    ]
    assert source.events["interactions"].collect()["timestamp"].to_list() == [1000, 2000, 3000, None, 4250]
    assert source.per_second == 1000


def test_texts_that_pandas_put_in_quotes(tmp_path: Path) -> None:
    """Then a cell may have tabs and line breaks."""
    item = 'item_id:token\ttitle:token_seq\na\t"Red\ttent"\nb\t"Lamp\nof ""wool"""\nc\tRug\n'
    folder = folder_of(tmp_path, inter=EVENTS + "1\ta\t1\n", item=item)
    assert items_of(folder)["title"].to_list() == ["Red\ttent", 'Lamp\nof "wool"', "Rug"]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            "session_id\titem_id\n1\ta\n",
            r"line 1: is 'session_id\\titem_id'; expected fields with their types",
        ),
        ("session_id:token::item_id:token\n1::a\n", r"separated by '::'; expected one character"),
        ("rating:float\titem_id:token\n1\ta\n", "the field 'session_id' is missing, and 'user_id' too"),
        (EVENTS + "1\ta\t1\n1\ta\n", r"shop\.inter, line 3: has another number of cells than the header"),
        (EVENTS, r"shop\.inter: has a header but no rows"),
    ],
)
def test_files_that_are_refused(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(InputError, match=message):
        read(folder_of(tmp_path, inter=text))


def test_windows_line_ends(tmp_path: Path) -> None:
    folder = folder_of(tmp_path, inter="")
    (folder / "shop.inter").write_bytes(
        b"\xef\xbb\xbf" + (EVENTS + "1\ta\t1\n1\tb\t2\n").replace("\n", "\r\n").encode()
    )
    assert read(folder).events["interactions"].collect().rows() == [("1", "a", 1, None), ("1", "b", 2, None)]


def test_which_data_set_of_a_folder(tmp_path: Path) -> None:
    (tmp_path / "shop").mkdir()
    folder = folder_of(tmp_path / "shop", inter=EVENTS + "1\ta\t1\n")
    (folder / "other.inter").write_text(EVENTS + "2\tb\t1\n2\tc\t1\n", "utf-8")
    # As in RecBole, the name of the folder is that of the data set.
    assert sessions_of(read(folder), "interactions") == {"1": ["a"]}
    assert sessions_of(read(folder / "other.inter"), "interactions") == {"2": ["b", "c"]}
    folder.rename(tmp_path / "both")
    with pytest.raises(InputError, match=r"has the data sets other, shop; give the path of one file"):
        read(tmp_path / "both")
    recognises = FORMATS["recbole"].recognises
    assert recognises(tmp_path / "both")
    assert recognises(tmp_path / "both" / "other.inter")
    assert not recognises(tmp_path)
    with pytest.raises(InputError, match=r"has no \.inter file; expected NAME\.inter"):
        read(tmp_path)

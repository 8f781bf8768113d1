"""A value of a data folder is kept exactly or refused in one sentence; what is left out is counted."""

from __future__ import annotations

import base64
import re
import subprocess
import sys
import warnings
from collections.abc import Callable
from decimal import Decimal
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from conftest import Outcome

from alterrec import fit, load
from alterrec.data.assemble import load_sessions
from alterrec.data.dataset import Dataset, ItemText
from alterrec.data.parquet_files import arrow_schema
from alterrec.data.readers import DataSource, load_dataset
from alterrec.data.text import text_vectors
from alterrec.data.vectors import load_vectors
from alterrec.errors import InputError
from alterrec.recipe import resolve
from alterrec.training.schedule import phases
from alterrec.training.windows import check_catalogue
from alterrec.vocabulary import Vocabulary

QUICK = {"run.baselines": False, "run.report": False}
HEADER = "session_id,item_id,timestamp,user_id\n"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Three items, and 20 sessions of two of them."""
    folder = tmp_path / "shop"
    folder.mkdir()
    (folder / "items.csv").write_text("item_id,title\ntent,Red tent\nlamp,Oil lamp\nmug,Tin mug\n", "utf-8")
    rows = "".join(f"s{n},{item},{n},u{n % 3}\n" for n in range(20) for item in ("tent", "lamp"))
    (folder / "interactions.csv").write_text(HEADER + rows, "utf-8")
    return folder


def refused(folder: Path, **options: Any) -> str:
    with pytest.raises(InputError) as caught:
        load_dataset(folder, **options)
    return str(caught.value)


def write_events(folder: Path, **columns: Any) -> None:
    """Replace the interactions by a Parquet file with other columns."""
    (folder / "interactions.csv").unlink(missing_ok=True)
    own = {
        "session_id": [f"s{n}" for n in range(6) for _ in range(2)],
        "item_id": ["tent", "lamp"] * 6,
        "timestamp": list(range(12)),
    }
    pl.DataFrame(own | columns).write_parquet(folder / "interactions.parquet")


def all_times(data: Dataset) -> list[int]:
    stores = [store.timestamps for store in data.splits.values()]
    return np.concatenate([times for times in stores if times is not None]).tolist()


# Times.


@pytest.mark.parametrize(
    ("times", "expected"),
    [
        (pl.Series([10**18 + n for n in range(12)]), [10**18 + n for n in range(12)]),
        (pl.Series([Decimal(f"{n}.25") for n in range(12)]), [n * 10**6 + 250_000 for n in range(12)]),
        (
            pl.Series([f"1700000000.1234567{n:02}" for n in range(12)]),
            [1_700_000_000_123_456_700 + n for n in range(12)],
        ),
        (pl.Series(range(12)).cast(pl.Datetime("ns")), list(range(12))),
        (pl.Series([-1500, -1, *range(10)]).cast(pl.Datetime("ns")), [-1500, -1, *range(10)]),
        (pl.Series(range(-6, 6)).cast(pl.Datetime("ms")), [n * 1000 for n in range(-6, 6)]),
        (pl.Series(range(-6, 6)).cast(pl.Date), [n * 86_400 * 10**6 for n in range(-6, 6)]),
        (
            pl.Series([1e9 + n * 2.0**-22 for n in range(12)]),
            [10**18 + round(n * 2.0**-22 * 1e9) for n in range(12)],
        ),
    ],
    ids=["large", "decimals", "text of 9 places", "ns", "ns before 1970", "ms before 1970", "days", "floats"],
)
def test_times_are_neither_rounded_nor_merged(folder: Path, times: pl.Series, expected: list[int]) -> None:
    write_events(folder, timestamp=times)
    assert sorted(all_times(load_dataset(folder))) == sorted(expected)


@pytest.mark.parametrize(
    ("times", "told"),
    [
        (pl.Series(["0.1234567891"] * 12), "at most 9 places"),
        (pl.Series([1.0 + n * 2.0**-40 for n in range(12)]), "timestamp is 1.0; expected"),
        (
            pl.Series([2**63 + n for n in range(12)], dtype=pl.UInt64),
            "timestamp is 9223372036854775808; expected",
        ),
        (pl.Series([2**62] * 12).cast(pl.Datetime("ms")), "timestamps reach 4.61169e+15"),
        (pl.Series(["2024-05-01T00:00:00.0123456789"] * 12), "timestamp is '2024-05-01T00:00:00.0123456789'"),
        (pl.Series(["2024-05-01T00:00:00", "2024-05-01T00:00:00Z"] * 6), "give all dates an offset or none"),
        (pl.Series([None] * 12, dtype=pl.Datetime("us")), "row 1: timestamp is ''"),
    ],
)
def test_times_that_cannot_be_kept_are_refused(folder: Path, times: pl.Series, told: str) -> None:
    write_events(folder, timestamp=times)
    assert told in refused(folder)


def test_dates_with_and_without_an_offset_in_two_files(folder: Path) -> None:
    (folder / "interactions.csv").unlink()
    for split, mark in (("train", "Z"), ("valid", "Z"), ("test", "")):
        rows = "".join(f"{split},{item},2024-05-01T00:00:00{mark}\n" for item in ("tent", "lamp"))
        (folder / f"{split}.csv").write_text("session_id,item_id,timestamp\n" + rows, "utf-8")
    assert re.search(
        r"timestamps have an offset or a time zone, but .*test.csv has dates without", refused(folder)
    )


OFFSET = """
import sys
from alterrec.data.readers import load_dataset
from alterrec.errors import InputError
try:
    data = load_dataset(sys.argv[1])
    print(data.train.timestamps[:4].tolist())
except InputError as error:
    print(error)
"""


@pytest.mark.parametrize("offset", ["+05:30", "-03:30", "Mars/X"])
def test_a_time_zone_that_polars_does_not_know_is_utc(folder: Path, offset: str) -> None:
    write_events(folder, timestamp=pl.Series(range(12)).cast(pl.Datetime("us", "Israel")))
    path = folder / "interactions.parquet"
    content = path.read_bytes()
    found = content[arrow_schema(content)]
    schema = base64.b64decode(found).replace(b"Israel", offset.encode())
    path.write_bytes(content.replace(found, base64.b64encode(schema)))
    run = subprocess.run(
        [sys.executable, "-c", OFFSET, str(folder)], capture_output=True, text=True, check=True
    )
    assert (run.stdout, run.stderr) == ("[0, 1, 2, 3]\n", "")


# Ids.


@pytest.mark.parametrize(
    "kind",
    [pl.Int64, pl.UInt64, pl.Float64, pl.Float32, pl.Decimal(10, 2), pl.String, pl.Categorical],
)
def test_ids_of_any_type_are_the_same_text(folder: Path, kind: Any) -> None:
    (folder / "items.csv").write_text("item_id\n100\n101\n102\n", "utf-8")
    ids = pl.Series([100, 101] * 6)
    texts = kind in (pl.String, pl.Categorical)
    write_events(folder, item_id=ids.cast(pl.String).cast(kind) if texts else ids.cast(kind))
    assert load_dataset(folder).vocabulary.item_ids == ("100", "101", "102")


@pytest.mark.parametrize(
    ("ids", "told"),
    [
        ([1.5] * 12, "row 1: item_id is 1.5; expected text or integers"),
        ([2.0**53 + 2] * 12, "expected text or integers"),
        ([Decimal("1.50")] * 12, "row 1: item_id is 1.50; expected text or integers"),
        ([True] * 12, "is Boolean; expected text or integers"),
        ([float("nan")] * 12, "row 1: item_id is nan (12 such rows); expected an id"),
    ],
)
def test_ids_that_are_no_text_are_refused(folder: Path, ids: Any, told: str) -> None:
    write_events(folder, item_id=ids)
    assert told in refused(folder)


@pytest.mark.parametrize(("written", "catalogue"), [("123.0", "123"), (" 123", "123"), ("0123", "0123")])
def test_ids_in_text_are_compared_as_text(folder: Path, written: str, catalogue: str) -> None:
    (folder / "items.csv").write_text(f"item_id\n{catalogue}\n7\n", "utf-8")
    rows = "".join(f"s{n},{item},{n},\n" for n in range(20) for item in ("7", written, "7"))
    (folder / "interactions.csv").write_text(HEADER + rows, "utf-8")
    if written == catalogue:
        assert load_dataset(folder).vocabulary.item_ids == ("0123", "7")
        return
    hint = "the catalogue has '123', and ids are compared as text"
    assert hint in refused(folder)
    assert hint in " ".join(load_dataset(folder, drop_unknown=True).notes)


# Guests.


def test_a_session_without_a_user_is_of_an_unknown_user(folder: Path) -> None:
    path = folder / "interactions.csv"
    path.write_text(path.read_text("utf-8").replace(",u0\n", ",\n"), "utf-8")
    data = load_dataset(folder)
    assert data.users is not None
    assert data.users.item_ids == ("u1", "u2")
    assert data.train.users is not None
    assert data.train.users.tolist()[:4] == [-1, 0, 1, -1]
    assert "interactions.csv: sessions of guests (user_id is empty): 7 of 20" in data.notes


def test_guests_in_a_column_of_floats(folder: Path) -> None:
    write_events(folder, user_id=[7.0] * 6 + [float("nan")] * 6)
    data = load_dataset(folder)
    assert data.users is not None
    assert data.users.item_ids == ("7",)


def test_all_sessions_of_guests_are_data_without_users(folder: Path) -> None:
    write_events(folder, user_id=[""] * 12)
    data = load_dataset(folder)
    assert data.users is None
    assert data.train.users is None


def test_a_guest_who_signs_in_is_that_user(folder: Path) -> None:
    write_events(folder, user_id=["", "ann"] * 6)
    data = load_dataset(folder)
    assert data.train.users is not None
    assert data.train.users.tolist() == [0, 0, 0, 0]
    assert "sessions with an empty user_id in some rows, which get that of the others: 6" in " ".join(
        data.notes
    )


def test_hggnn_trains_with_guests_and_recommends_to_them(
    folder: Path, tmp_path: Path, alterrec: Callable[..., Outcome]
) -> None:
    path = folder / "interactions.csv"
    path.write_text(path.read_text("utf-8").replace(",u0\n", ",\n"), "utf-8")
    run = fit(folder, "hggnn", out=tmp_path / "run", overrides=QUICK | {"model.dim": 4, "schedule.epochs": 2})
    (tmp_path / "now.csv").write_text("session_id,item_id,user_id\nx,tent,u1\ny,lamp,\n", "utf-8")
    code, out, err = alterrec("recommend", run.path, "--sessions", tmp_path / "now.csv", "-k", 1)
    assert (code, len(out.splitlines())) == (0, 3)
    assert err == "now.csv: sessions of unknown users: 1 of 2\n"
    known, guest = load(run.path).recommend([["lamp"], ["lamp"]], k=1, users=["u1", None])
    assert out.splitlines()[2].startswith(f"y,1,{guest[0].item_id},")
    assert known[0].score != guest[0].score


def test_a_session_that_has_seen_much_does_not_refuse_the_others(
    folder: Path, tmp_path: Path, alterrec: Callable[..., Outcome]
) -> None:
    run = fit(folder, "popularity", out=tmp_path / "run", overrides=QUICK | {"data.exclude_seen": "always"})
    rows = ["short,tent", "long,tent", "long,lamp", "all,tent", "all,lamp", "all,mug", "other,boat", "short,"]
    (tmp_path / "now.csv").write_text("session_id,item_id\n" + "\n".join(rows) + "\n", "utf-8")
    code, out, err = alterrec(
        "recommend", run.path, "--sessions", tmp_path / "now.csv", "-k", 2, "--no-fallback"
    )
    assert code == 0
    assert [row.split(",")[:3] for row in out.splitlines()[1:]] == [
        ["short", "1", "lamp"],
        ["short", "2", "mug"],
        ["long", "1", "mug"],
    ]
    assert err.splitlines() == [
        "now.csv: dropped 1 of 8 rows with an empty item_id",
        "now.csv: dropped 1 of 8 rows with unknown items",
        "now.csv: sessions without a known item, which get no items: 1 of 4, such as 'other'",
        "now.csv: sessions with fewer than 2 items, as they have seen the others: 1 of 4, such as 'long'",
        "now.csv: sessions without an item, as they have seen all: 1 of 4, such as 'all'",
    ]


def test_a_system_of_users_needs_one_who_is_known(folder: Path, tmp_path: Path) -> None:
    path = folder / "interactions.csv"
    lines = path.read_text("utf-8").splitlines()
    guests = [re.sub(r"u\d$", "", line) for line in lines[1:-2]]
    path.write_text("\n".join([lines[0], *guests, *lines[-2:]]) + "\n", "utf-8")
    with pytest.raises(InputError, match="user"):
        fit(folder, "hggnn", out=tmp_path / "run", overrides=QUICK)


# Files and rows.


@pytest.mark.parametrize("name", ["test.csv", "valid.parquet", "train.csv"])
def test_splits_beside_interactions_are_refused(folder: Path, name: str) -> None:
    (folder / name).touch()
    assert "several data formats fit" in refused(folder)
    data = load_dataset(folder, format="interactions")
    assert f"files in shop that are not read: {name}" in data.notes


@pytest.mark.parametrize("name", ["val.csv", "dev.parquet", "test.tsv", "test.csv.gz", "validation.json"])
def test_a_split_under_another_name_is_refused(folder: Path, name: str) -> None:
    (folder / "interactions.csv").rename(folder / "train.csv")
    (folder / name).touch()
    assert f"{name}: is not read, and" in refused(folder)


def test_files_that_are_not_read_are_named(folder: Path) -> None:
    for name in ("clicks.csv", "README.md", "vectors.npy"):
        (folder / name).touch()
    assert load_dataset(folder).notes[0] == "files in shop that are not read: clicks.csv"


def test_doubled_rows_are_counted(folder: Path) -> None:
    path = folder / "interactions.csv"
    path.write_text(path.read_text("utf-8") + "s0,lamp,0,u0\n", "utf-8")
    note = "rows that repeat an earlier one (same session, item and time), which are kept: 1 of 41"
    assert f"interactions.csv: {note}" in load_dataset(folder).notes


@pytest.mark.parametrize("place", ["shop[1]", "shop*", "shop?"])
def test_a_folder_is_no_pattern(folder: Path, place: str) -> None:
    other = folder.with_name("shop1")
    folder.rename(folder.with_name(place))
    other.mkdir()
    (other / "items.csv").write_text("item_id\nother\nitems\n", "utf-8")
    assert load_dataset(folder.with_name(place)).vocabulary.item_ids == ("tent", "lamp", "mug")


@pytest.mark.parametrize(
    ("content", "told"),
    [
        (b"\x1f\x8b\x08\x00rest", "is gzip-compressed; decompress it"),
        (b"PK\x03\x04rest", "is a zip archive, such as an Excel workbook"),
        ("item_id,title\na,b\n".encode("utf-16"), "is UTF-16 text"),
        ("item_id,title\na,b\n".encode("utf-16-le"), "is UTF-16 text"),
        (b"PAR1rest", "is a Parquet file"),
        (b'item_id,title\na,"say \\"hi\\", you"\nb,c\n', "line 2: a backslash escapes a quotation mark"),
        (b"item_id,title\na,b\nc", "ends inside a row: its last line has 1 cells but the header has 2"),
        (b"item_id,alterrec row\na,b\nc,d\n", "a column is called 'alterrec row'"),
    ],
)
def test_content_that_is_no_csv_is_named(folder: Path, content: bytes, told: str) -> None:
    (folder / "items.csv").write_bytes(content)
    assert told in refused(folder)


def test_a_backslash_at_the_end_of_a_cell_is_text(folder: Path) -> None:
    (folder / "items.csv").write_text('item_id,title\ntent,"C:\\"\nlamp,"a\\"\n', "utf-8")
    text = load_dataset(folder).text
    assert text is not None
    assert text.fields["title"] == ["C:\\", "a\\"]


def test_a_path_in_another_encoding_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="is not text in the locale's encoding"):
        load_sessions(tmp_path / "donn\udcc3\udca9es.csv", Vocabulary(("a", "b")))


def test_rows_that_cannot_be_read_are_left_out_of_recommendations(tmp_path: Path) -> None:
    path = tmp_path / "s.csv"
    rows = ["a,tent,1,u", ",tent,1,u", "b,,1,u", "c,lamp,noon,u", "d,lamp,3,u", "d,tent,4,v", "e,lamp,5,"]
    path.write_text(HEADER + "\n".join(rows) + "\n", "utf-8")
    found = load_sessions(path, Vocabulary(("tent", "lamp")), users=Vocabulary(("u", "v")), drop_unknown=True)
    assert found.names == ["a", "d", "e"]
    assert found.store.users is not None
    assert found.store.users.tolist() == [0, -1, -1]
    assert found.notes == (
        "s.csv: dropped 1 of 7 rows with an empty session_id",
        "s.csv: dropped 1 of 7 rows with an empty item_id",
        "s.csv: dropped 1 of 7 rows with no readable time",
        "s.csv: sessions without a readable row: 2",
        "s.csv: sessions with several users, which count as unknown: 1",
        "s.csv: sessions of unknown users: 2 of 3",
    )


# Text and vectors.


@pytest.mark.parametrize("name", ["", "__index_level_0__", "Unnamed: 0"])
def test_an_index_is_no_text(folder: Path, name: str) -> None:
    (folder / "items.csv").write_text(f"{name},item_id,title\n0,tent,Tent\n1,lamp,Lamp\n2,mug,Mug\n", "utf-8")
    data = load_dataset(folder)
    assert data.text is not None
    assert list(data.text.fields) == ["title"]
    assert data.notes[0] == f"items.csv: columns read as text: 'title'; not read: {name!r} (an index)"
    chosen = load_dataset(folder, text_fields=[name]).text
    assert chosen is not None
    assert chosen.joined_texts() == ["0", "1", "2"]


def test_nested_columns_are_passed_over(folder: Path) -> None:
    (folder / "items.csv").unlink()
    images = [[{"large": "x"}], None, []]
    frame = pl.DataFrame({"item_id": ["tent", "lamp", "mug"], "title": ["a", "b", "c"], "images": images})
    frame.with_columns(raw=pl.Series([b"x"] * 3)).write_parquet(folder / "items.parquet")
    note = "columns read as text: 'title'; not read: 'images' (list), 'raw' (binary)"
    assert load_dataset(folder).notes[0] == f"items.parquet: {note}"
    assert "column 'images' is List(" in refused(folder, text_fields=["images"])


def test_given_vectors_need_no_text(folder: Path, tmp_path: Path) -> None:
    np.save(tmp_path / "v.npy", np.eye(3))
    overrides = {"data.vectors": str(tmp_path / "v.npy")}
    recipe = resolve("text_only", ["best", "amazon-m2"], overrides)
    data = DataSource(folder).read(recipe)
    assert data.notes[0] == "items.csv: columns read as text: 'title'; not read: 'description' (missing)"
    quick = QUICK | overrides | {"model.dim": 4, "schedule.epochs": 1, "model.heads": 2}
    run = fit(folder, "text_only", presets=["best", "amazon-m2"], out=tmp_path / "run", overrides=quick)
    assert run.stopped == "finished"
    with pytest.raises(InputError, match="text field 'description' is missing"):
        DataSource(folder).read(resolve("text_only", ["best", "amazon-m2"]))


@pytest.mark.parametrize(
    ("vectors", "told"),
    [
        (np.full((2, 1), 2**24 + 1), "has integers beyond 2\\*\\*24"),
        (np.array([[1e39], [0]]), "is 1e\\+39; expected finite float32 numbers"),
    ],
)
def test_vectors_that_float32_cannot_hold(tmp_path: Path, vectors: Any, told: str) -> None:
    np.save(tmp_path / "v.npy", vectors)
    with pytest.raises(InputError, match=told):
        load_vectors(tmp_path / "v.npy", Vocabulary(("a", "b")))


def test_rows_of_vectors_are_counted_and_unique(tmp_path: Path) -> None:
    path = tmp_path / "v.parquet"
    notes: list[str] = []
    pl.DataFrame({"item_id": ["a", "b", "c"], "x": [1.0, 2.0, 3.0]}).write_parquet(path)
    assert load_vectors(path, Vocabulary(("b", "a")), notes=notes).tolist() == [[2.0], [1.0]]
    assert notes == ["v.parquet: rows of items that are not in the catalogue: 1"]
    pl.DataFrame({"item_id": ["a", "b", "a"], "x": [1.0, 2.0, 3.0]}).write_parquet(path)
    with pytest.raises(InputError, match="row 3: item 'a' has a row before"):
        load_vectors(path, Vocabulary(("b", "a")))


@pytest.mark.parametrize("titles", [["a"] * 5, ["mug", "", "mug"], ["red mug"] * 4, ["a", "b"]])
def test_lsa_of_few_words(titles: list[str]) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        vectors = text_vectors(ItemText({"title": titles}))
    assert np.isfinite(vectors).all()
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), [bool(title) for title in titles], atol=1e-6)


def test_texts_that_are_all_alike_are_noted(folder: Path) -> None:
    (folder / "items.csv").write_text("item_id,brand\ntent,Oak\nlamp,Oak\nmug,\n", "utf-8")
    assert load_dataset(folder).notes[0] == "items.csv: all texts are alike ('Oak'), so they tell nothing"


@pytest.mark.parametrize(
    ("one", "alike", "other"),
    [
        ("赤いマグカップ300ml", "青いマグカップ300ml", "折りたたみテント"),
        ("红色马克杯", "蓝色马克杯", "折叠帐篷"),
        ("แก้วสีแดง", "แก้วสีฟ้า", "เต็นท์พับได้"),
    ],
)
def test_lsa_compares_titles_without_spaces(one: str, alike: str, other: str) -> None:
    vectors = text_vectors(ItemText({"title": [one, alike, other, "red tent"]}))
    assert vectors[0] @ vectors[1] > 0.2 > abs(vectors[0] @ vectors[2])


# Recipes and catalogues.


def test_numpy_numbers_are_settings() -> None:
    assert resolve("sasrec", overrides={"run.seed": np.int64(3), "optim.lr": np.float64(0.5)}).run.seed == 3
    with pytest.raises(InputError, match=r"run\.seed is -1"):
        resolve("sasrec", overrides={"run.seed": np.int32(-1)})


@pytest.mark.parametrize(
    ("settings", "told"),
    [
        ({"positives.top": 30}, "positives.top is 30, but besides the target there are only 27 candidates"),
        ({"window.sample": 40}, "window.sample is 40"),
        ({"window.last": 60}, "window.last is 60"),
    ],
)
def test_recipes_are_checked_against_the_catalogue(settings: dict[str, Any], told: str) -> None:
    recipe = resolve("alterrec_aug", overrides=settings)
    with pytest.raises(InputError, match=re.escape(told)):
        check_catalogue(recipe.window, phases(recipe), num_items=30, seen=2)
    check_catalogue(recipe.window, phases(recipe), num_items=3000)


def test_truncation_beyond_the_vectors_is_refused(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="truncate_dim is 50, but lsa gives vectors of 3 columns"):
        fit(folder, "text_only", out=tmp_path / "run", overrides=QUICK | {"text.truncate_dim": 50})

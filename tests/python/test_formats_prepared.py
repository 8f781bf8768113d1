"""Small files of the true layout become prepared folders; sessions and splits are worked out by hand."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path

import polars as pl

from alterrec.data.formats import FORMATS
from alterrec.data.formats.source import Choices, PrepareOptions
from alterrec.data.prepare import PreparedFolder, prepare_folder

START = datetime(2019, 11, 1, tzinfo=UTC)
EVERY_ITEM = Choices(min_item_count=1)
Sessions = list[tuple[str, ...]]


def at(days: float, minutes: float = 0) -> datetime:
    return START + timedelta(days=days, minutes=minutes)


def prepare(source: Path, choices: Choices = EVERY_ITEM, **options: object) -> PreparedFolder:
    """Prepare a folder, whose format is recognised."""
    return prepare_folder(source, source.parent / "out", options=PrepareOptions(choices=choices, **options))


def sessions(prepared: PreparedFolder, split: str) -> Sessions:
    """The items of the sessions of a split, sorted."""
    rows = pl.read_parquet(prepared.path / f"{split}.parquet")
    grouped = rows.group_by("session_id", maintain_order=True).agg("item_id")
    return sorted(tuple(items) for items in grouped["item_id"])


def all_sessions(prepared: PreparedFolder) -> tuple[Sessions, Sessions, Sessions]:
    return sessions(prepared, "train"), sessions(prepared, "valid"), sessions(prepared, "test")


def texts(prepared: PreparedFolder) -> dict[str, tuple[str, ...]]:
    items = pl.read_parquet(prepared.path / "items.parquet")
    return {row[0]: row[1:] for row in items.select("item_id", *prepared.record.text).iter_rows()}


def test_yoochoose_is_filtered_and_split_as_in_the_field(tmp_path: Path) -> None:
    rows = [(f"s{n}", item, at(0, n)) for n in range(6) for item in ("a", "b")]
    rows += [("s0", "rare", at(0, 1)), ("one", "a", at(1)), ("v", "a", at(8.2)), ("v", "b", at(8.2, 1))]
    rows += [("t", "b", at(9.4)), ("t", "rare", at(9.4, 1)), ("t", "a", at(9.4, 2))]
    lines = [f"{session},{time:%Y-%m-%dT%H:%M:%S}.500Z,{item},0\n" for session, item, time in rows]
    source = tmp_path / "yoochoose"
    source.mkdir()
    (source / "yoochoose-clicks.dat").write_text("".join([*lines, "bad,,a,0\n"]))
    whole = prepare(source, Choices())
    # The rare item and the session of one click are dropped; the last 24 hours are test.
    assert all_sessions(whole) == ([("a", "b")] * 6, [("a", "b")], [("b", "a")])
    assert whole.record.dropped == {"the time is not as 2014-04-07T10:51:09.277Z": 1}
    # Published counts are those of the files, before anything is dropped.
    assert whole.record.expected["read_sessions"] == 9_249_729
    read = {name: whole.record.counts[name] for name in whole.record.expected}
    assert read == {"rows": 20, "read_sessions": 9, "read_items": 3}
    half = prepare_folder(source, tmp_path / "half", options=PrepareOptions(choices=Choices(fraction=2)))
    assert pl.read_parquet(half.path / "train.parquet")["session_id"].unique(
        maintain_order=True
    ).to_list() == [
        "s3",
        "s4",
        "s5",
    ]


def test_diginetica_is_ordered_by_timeframe(tmp_path: Path) -> None:
    source = tmp_path / "diginetica"
    source.mkdir()
    (source / "train-item-views.csv").write_text(
        "sessionId;userId;itemId;timeframe;eventdate\n"
        "1;NA;a;526309;2016-05-01\n1;NA;b;1031018;2016-05-01\n1;NA;c;243569;2016-05-01\n"
        "2;NA;b;9;2016-05-20\n2;NA;a;0;2016-05-20\n3;7;c;0;2016-05-30\n3;7;a;5;2016-05-30\n"
    )
    (source / "products.csv").write_text("itemId;pricelog2;product.name.tokens\na;1;48,7\nb;1;12\n")
    (source / "product-categories.csv").write_text("itemId;categoryId\na;5\n")
    prepared = prepare(source)
    assert all_sessions(prepared) == ([("c", "a", "b")], [("a", "b")], [("c", "a")])
    assert texts(prepared) == {"a": ("48 7", "category5"), "b": ("12", ""), "c": ("", "")}


def test_retailrocket_has_sessions_of_views(tmp_path: Path) -> None:
    rows = [
        *[("1", "view", "a", at(0)), ("1", "view", "a", at(0, 10)), ("1", "addtocart", "a", at(0, 11))],
        *[("1", "view", "b", at(0, 40)), ("1", "view", "b", at(0, 70.1)), ("1", "view", "c", at(0, 80))],
        *[("2", "view", "c", at(9)), ("2", "view", "a", at(9, 1))],
        *[("1", "view", "b", at(17)), ("1", "view", "c", at(17, 1))],
    ]
    source = tmp_path / "retailrocket"
    source.mkdir()
    (source / "events.csv").write_text(
        "timestamp,visitorid,event,itemid,transactionid\n"
        + "".join(
            f"{time.timestamp() * 1000:.0f},{user},{event},{item},\n" for user, event, item, time in rows
        )
    )
    prepared = prepare(source)
    # 30 minutes are no gap, 30.1 are one; a view that repeats the one before is the same.
    assert all_sessions(prepared) == ([("a", "b"), ("b", "c")], [("c", "a")], [("b", "c")])
    assert prepared.record.kinds == {"view": 9, "addtocart": 1}
    assert prepared.record.text == []


def test_hm_has_baskets_of_days(tmp_path: Path) -> None:
    source = tmp_path / "hm"
    source.mkdir()
    rows = [(0, "x", "02"), (0, "y", "03"), (0, "x", "01"), (0, "x", "01"), (1, "x", "01"), (1, "x", "02")]
    rows += [(0, "y", "01"), (9, "y", "01"), (9, "y", "03"), (10, "x", "03"), (10, "x", "02"), (16, "x", "9")]
    rows += [(16, "x", "02"), (16, "x", "03")]
    (source / "transactions_train.csv").write_text(
        "t_dat,customer_id,article_id,price,sales_channel_id\n"
        + "".join(f"{at(day):%Y-%m-%d},{user},{item},0.05,2\n" for day, user, item in rows)
    )
    (source / "articles.csv").write_text(
        'article_id,prod_name,detail_desc\n01,Top,"Soft, warm"\n02,Tights,\n03,Hat,Wool\n'
    )
    prepared = prepare(source)
    # The last basket is of day 16: days 10 to 16 are test, 3 to 9 validation.
    assert all_sessions(prepared) == (
        [("01", "02"), ("02", "01"), ("03", "01")],
        [("01", "03")],
        [("02", "03"), ("03", "02")],
    )
    assert texts(prepared) == {"01": ("Top", "Soft, warm"), "02": ("Tights", ""), "03": ("Hat", "Wool")}


def test_movielens_and_amazon_hold_out_the_last_two_items(tmp_path: Path) -> None:
    # Rows are in another order than times. User w has two events, which is too few to split and to train on.
    rows = [
        ("u", "e", 5),
        ("u", "a", 1),
        ("u", "c", 3),
        ("u", "b", 2),
        ("u", "d", 4),
        ("w", "a", 1),
        ("w", "b", 2),
    ]
    rows += [("x", item, time) for time, item in enumerate("deabc")]
    movies, reviews = tmp_path / "movies" / "ml-1m", tmp_path / "amazon" / "5-core"
    movies.mkdir(parents=True)
    reviews.mkdir(parents=True)
    (movies / "ratings.dat").write_text("".join(f"{u}::{i}::5::{time}\n" for u, i, time in rows))
    (movies / "movies.dat").write_bytes("a::Café (1995)::Comedy|Drama\nb::B::War\n".encode("latin-1"))
    # A review that is there twice is one event.
    keys = ("reviewerID", "asin", "unixReviewTime", "overall")
    lines = [json.dumps(dict(zip(keys, (*row, 5.0), strict=True))) + "\n" for row in [("u", "e", 5), *rows]]
    (reviews / "All_Beauty_5.json").write_text("".join(lines))
    product = {"asin": "a", "title": "Café", "category": ["X", "Y"], "description": []}
    (reviews / "meta_All_Beauty.json").write_text(json.dumps(product) + "\n")
    for source, text in ((movies, ("Café (1995)", "Comedy, Drama")), (reviews, ("Café", "", "X, Y", ""))):
        prepared = prepare(source)
        assert all_sessions(prepared) == (
            [("a", "b", "c"), ("d", "e", "a")],
            [("a", "b", "c", "d"), ("d", "e", "a", "b")],
            [("a", "b", "c", "d", "e"), ("d", "e", "a", "b", "c")],
        )
        assert texts(prepared)["a"] == text


def test_mind_predicts_the_click_after_the_history(tmp_path: Path) -> None:
    for part, day, rows in (
        ("train", 11, [("U1", "N1 N2", "N3-1 N4-0 N1-1"), ("U2", "N2", "N3-1"), ("U3", "", "N1-1")]),
        ("dev", 15, [("U1", "N1 N2", "N4-0 N3-1")]),
    ):
        folder = tmp_path / "mind" / f"MINDsmall_{part}"
        folder.mkdir(parents=True)
        (folder / "behaviors.tsv").write_text(
            "".join(
                f"{n}\t{user}\t11/{day}/2019 9:05:5{n} AM\t{history}\t{shown}\n"
                for n, (user, history, shown) in enumerate(rows)
            )
        )
        (folder / "news.tsv").write_text(
            "".join(f"N{n}\tnews\tworld\tTitle {n}\tAbstract\thttps://x\t[]\t[]\n" for n in range(1, 5))
        )
    prepared = prepare(tmp_path / "mind", Choices())
    train, valid, test = all_sessions(prepared)
    assert sorted(train + valid) == [("N1", "N2", "N1"), ("N1", "N2", "N3"), ("N2", "N3")]
    assert len(valid) == 1
    assert test == [("N1", "N2", "N3")]
    assert texts(prepared)["N3"] == ("Title 3", "Abstract", "news", "world")


def test_lastfm_is_read_backwards_in_time(tmp_path: Path) -> None:
    source = tmp_path / "lastfm"
    source.mkdir()
    times = [(day, minute) for day in range(10) for minute in (0, 5, 40)]
    lines = [
        f"u\t{at(day, minute):%Y-%m-%dT%H:%M:%SZ}\tm{minute}\tBand {minute}\t\tSong\n"
        for day, minute in times
    ]
    (source / "userid-timestamp-artid-artname-traid-traname.tsv").write_text("".join(reversed(lines)))
    tracks = prepare(source)
    pair = ("Band 0 / Song", "Band 5 / Song")
    # The track 35 minutes later is a session of its own, which is too short.
    assert all_sessions(tracks) == ([pair] * 8, [pair], [pair])
    assert texts(tracks) == {"Band 0 / Song": ("Band 0", "Song"), "Band 5 / Song": ("Band 5", "Song")}
    options = PrepareOptions(columns={"item_id": "artid"}, choices=Choices(gap=3600.0, test=0.2))
    artists = prepare_folder(source, tmp_path / "artists", options=options)
    band = ("m0", "m5", "m40")
    assert all_sessions(artists) == ([band] * 7, [band], [band] * 2)
    assert texts(artists)["m40"] == ("Band 40",)


def test_the_documentation_names_every_format() -> None:
    text = (Path(__file__).parents[2] / "docs" / "formats.md").read_text("utf-8")
    assert [name for name in FORMATS if f"`{name}`" not in text] == []

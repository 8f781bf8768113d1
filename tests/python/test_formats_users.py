"""Readers of Amazon Reviews, MIND, MovieLens and Last.fm, on small files of the true layout."""

from __future__ import annotations

import gzip
import json
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from published_files import columns, items, problems, read_format

from alterrec.data.formats import FORMATS
from alterrec.data.formats.source import PrepareOptions
from alterrec.errors import InputError


def write(path: Path, text: str, encoding: str = "utf-8") -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(gzip.compress(text.encode(encoding)) if path.suffix == ".gz" else text.encode(encoding))
    return path


def json_lines(*rows: dict[str, Any]) -> str:
    return "".join(json.dumps(row) + "\n" for row in rows)


REVIEWS_2018 = json_lines(
    {
        "overall": 5.0,
        "vote": "9",
        "verified": True,
        "reviewTime": "09 13, 2009",
        "reviewerID": "A2SUAM1J3GNN3B",
        "asin": "0000013714",
        "style": {"Format:": "Hardcover"},
        "reviewText": 'I "like" it, twice',
        "unixReviewTime": 1_252_800_000,
    },
    {"overall": 3, "reviewerID": "A2SUAM1J3GNN3B", "asin": "B00ABC", "unixReviewTime": 1_252_886_400},
    {"overall": 1.0, "reviewerID": "A1", "asin": None, "unixReviewTime": 1_252_886_400},
    {"overall": 1.0, "reviewerID": "A1", "asin": "B00ABC"},
)
META_2018 = json_lines(
    {
        "asin": "0000013714",
        "title": "Hymns &amp; <b>Songs</b>",
        "brand": "",
        "category": ["Books", "Music", "Hymns"],
        "description": ["First part.", "", "Second part."],
        "feature": ["Hardcover"],
        "price": "$9.99",
        "rank": ["1 in Books"],
        "imageURL": ["https://x/y.jpg"],
    },
    {"asin": "B00ABC", "title": "[2 pack] Cup", "category": [], "description": "Not a list", "price": 3.5},
    {"asin": "B00ABC", "title": "the same product again"},
    {"title": "a product without an id"},
)


@pytest.mark.parametrize("ending", ["", ".gz"])
def test_amazon_reviews_2018(tmp_path: Path, ending: str) -> None:
    write(tmp_path / f"All_Beauty_5.json{ending}", REVIEWS_2018)
    write(tmp_path / f"meta_All_Beauty.json{ending}", META_2018)
    source = read_format("amazon-reviews", tmp_path)
    assert columns(source, "user_id", "item_id", "timestamp", "event") == [
        ("A2SUAM1J3GNN3B", "0000013714", 1_252_800_000, "5.0"),
        ("A2SUAM1J3GNN3B", "B00ABC", 1_252_886_400, "3.0"),
    ]
    assert problems(source) == ["no asin", "unixReviewTime is not a number"]
    assert items(source) == {
        "0000013714": {
            "title": "Hymns &amp; <b>Songs</b>",
            "brand": None,
            "category": "Books, Music, Hymns",
            "description": "First part. Second part.",
            "feature": "Hardcover",
        },
        "B00ABC": {
            "title": "[2 pack] Cup",
            "brand": None,
            "category": None,
            "description": "Not a list",
            "feature": None,
        },
    }
    assert source.per_second == 1
    assert source.text == ("title", "brand", "category", "description")
    assert (source.choices.split, source.choices.min_session) == ("last-item", 3)


def test_amazon_reviews_2023(tmp_path: Path) -> None:
    review = {
        "rating": 5.0,
        "title": "Such a lovely scent",
        "text": "Yes.\n",
        "images": [{"small_image_url": "https://x/1.jpg"}],
        "asin": "B00YQ6X8EO",
        "parent_asin": "B00YQ6X8EO",
        "user_id": "AGKHLEW2SOWHNMFQIJGBECAF7INQ",
        "timestamp": 1_588_687_728_923,
        "helpful_vote": 0,
        "verified_purchase": True,
    }
    product = {
        "main_category": "All Beauty",
        "title": "Howard \\ Café 😀",
        "average_rating": 4.8,
        "features": [],
        "description": ["A", "B"],
        "price": None,
        "images": [{"thumb": "https://x/1.jpg", "variant": "MAIN"}],
        "videos": [],
        "store": "Howard Products",
        "categories": ["Beauty", "Hair"],
        "details": {"Package Dimensions": "7.1 x 5.5"},
        "parent_asin": "B00YQ6X8EO",
        "bought_together": None,
    }
    write(tmp_path / "raw" / "review_categories" / "All_Beauty.jsonl", json_lines(review))
    write(tmp_path / "raw" / "meta_categories" / "meta_All_Beauty.jsonl", json_lines(product))
    source = read_format("amazon-reviews", tmp_path / "raw")
    assert columns(source, "user_id", "item_id", "timestamp", "event") == [
        ("AGKHLEW2SOWHNMFQIJGBECAF7INQ", "B00YQ6X8EO", 1_588_687_728_923, "5.0")
    ]
    assert source.per_second == 1000
    assert items(source)["B00YQ6X8EO"] == {
        "title": "Howard \\ Café 😀",
        "store": "Howard Products",
        "categories": "Beauty, Hair",
        "description": "A B",
        "features": None,
    }
    assert source.text == ("title", "store", "categories", "description")


def test_amazon_reviews_5_core_ratings_of_2023(tmp_path: Path) -> None:
    file = write(
        tmp_path / "All_Beauty.csv.gz", "user_id,parent_asin,rating,timestamp\nAE1,0012,4.0,1588687728923\n"
    )
    source = read_format("amazon-reviews", file)
    assert columns(source, "user_id", "item_id", "timestamp", "event") == [
        ("AE1", "0012", 1_588_687_728_923, "4.0")
    ]
    assert source.items is None
    assert "meta_All_Beauty.jsonl.gz is missing" in source.notes[0]


def test_amazon_reviews_of_several_categories_and_of_2014(tmp_path: Path) -> None:
    write(tmp_path / "Books.json", REVIEWS_2018)
    write(tmp_path / "All_Beauty.json", REVIEWS_2018)
    with pytest.raises(InputError, match=r"2 files of reviews \(All_Beauty\.json, Books\.json\); give one"):
        read_format("amazon-reviews", tmp_path)
    write(tmp_path / "meta_Books.json", "{'asin': '0001048791', 'salesRank': {'Books': 6334800}}\n")
    with pytest.raises(InputError, match="lines of Python instead of JSON, as the release of 2014"):
        read_format("amazon-reviews", tmp_path / "Books.json")


def test_a_damaged_line_of_amazon_products_is_quoted(tmp_path: Path) -> None:
    write(tmp_path / "Books.json", REVIEWS_2018)
    write(tmp_path / "meta_Books.json", META_2018 + '{"asin": "B0", "ti')
    source = read_format("amazon-reviews", tmp_path)
    with pytest.raises((InputError, pl.exceptions.PolarsError), match=r"is not JSON"):
        items(source)


BEHAVIORS = (
    "1\tU13740\t11/11/2019 9:05:58 AM\tN55189 N42782 N55189\tN55689-1 N35729-0\n"
    "2\tU91836\t11/12/2019 12:11:30 PM\tN31739\tN20678-0 N39317-1 N58114-0 N20495-1\n"
    "3\tU73700\t11/14/2019 7:01:48 AM\t\tN50014-1\n"
    "4\tU1\t11/14/2019 7:01:48 AM\tN31739\tN50014-0\n"
    "5\tU2\t2019-11-14\tN31739\tN50014-1\n"
)
NEWS = (
    'N55189\ttv\ttvnews\t\'Wheel\' "guest\tAn abstract\thttps://x\t[{"Label": "W"}]\t[]\n'
    "N42782\tsports\tbaseball\tGame 3\t\thttps://y\t[]\t[]\n"
)


def test_mind(tmp_path: Path) -> None:
    write(tmp_path / "MINDsmall_train" / "behaviors.tsv", BEHAVIORS)
    write(tmp_path / "MINDsmall_train" / "news.tsv", NEWS)
    write(tmp_path / "MINDsmall_dev" / "behaviors.tsv", "1\tU5\t11/15/2019 12:00:01 AM\tN1\tN2-1\n")
    write(
        tmp_path / "MINDsmall_dev" / "news.tsv", NEWS.splitlines()[0] + "\nN1\tnews\tx\tOne\tA\tu\t[]\t[]\n"
    )
    (tmp_path / "MINDlarge_test").mkdir()
    source = read_format("mind", tmp_path)
    day = 18211 * 86_400  # 2019-11-11
    assert columns(source, "session_id", "user_id", "item_id", "timestamp", split="train") == [
        ("train-1-N55689", "U13740", "N55189", day + 32_758),
        ("train-1-N55689", "U13740", "N42782", day + 32_758),
        ("train-1-N55689", "U13740", "N55189", day + 32_758),
        ("train-1-N55689", "U13740", "N55689", day + 32_758),
        ("train-2-N39317", "U91836", "N31739", day + 86_400 + 43_890),
        ("train-2-N39317", "U91836", "N39317", day + 86_400 + 43_890),
        ("train-2-N20495", "U91836", "N31739", day + 86_400 + 43_890),
        ("train-2-N20495", "U91836", "N20495", day + 86_400 + 43_890),
        ("train-3-N50014", "U73700", "N50014", day + 3 * 86_400 + 25_308),
    ]
    assert problems(source, "train") == ["the time is not as 11/11/2019 9:05:58 AM"] * 2
    assert columns(source, "session_id", "item_id", "timestamp", split="test") == [
        ("test-1-N2", "N1", day + 4 * 86_400 + 1),
        ("test-1-N2", "N2", day + 4 * 86_400 + 1),
    ]
    assert list(items(source)) == ["N55189", "N42782", "N1"]
    assert items(source)["N55189"] == {
        "title": "'Wheel' \"guest",
        "abstract": "An abstract",
        "category": "tv",
        "subcategory": "tvnews",
    }
    assert "MINDlarge_test is not read" in source.notes[1]
    assert source.choices.split == "seed"


def test_mind_of_one_part(tmp_path: Path) -> None:
    write(tmp_path / "behaviors.tsv", BEHAVIORS)
    with pytest.raises(InputError, match=r"news\.tsv is missing"):
        read_format("mind", tmp_path)
    write(tmp_path / "news.tsv", NEWS)
    source = read_format("mind", tmp_path)
    assert len(columns(source, "item_id")) == 9
    assert source.choices.split == "time"


def test_movielens_100k(tmp_path: Path) -> None:
    write(tmp_path / "u.data", "196\t242\t3\t881250949\n186\t302\t3\t891717742\n22\t267\t1\tx\n")
    flags = ["|".join("1" if n in on else "0" for n in range(19)) for on in ((5, 14), (0,))]
    write(
        tmp_path / "u.item",
        f"242|Misérables, Les (1995)|01-Jan-1995||http://us.imdb.com/M/title-exact?Mis%E9|{flags[0]}\n"
        f"267|unknown||||{flags[1]}\n",
        "latin-1",
    )
    source = read_format("movielens", tmp_path)
    assert columns(source, "user_id", "item_id", "timestamp", "event") == [
        ("196", "242", 881_250_949, "3"),
        ("186", "302", 891_717_742, "3"),
    ]
    assert problems(source) == ["the timestamp is not a number"]
    assert items(source) == {
        "242": {"title": "Misérables, Les (1995)", "genres": "Comedy, Romance"},
        "267": {"title": "unknown", "genres": None},
    }


@pytest.mark.parametrize("encoding", ["latin-1", "utf-8"])
def test_movielens_1m_and_10m(tmp_path: Path, encoding: str) -> None:
    write(tmp_path / "ratings.dat", "1::1193::5::978300760\n1::661::3.5::978302109\n")
    write(
        tmp_path / "movies.dat",
        "1193::Cité: des enfants :: perdus (1995)::Adventure|Sci-Fi\n661::Plain::(no genres listed)\n",
        encoding,
    )
    source = read_format("movielens", tmp_path)
    assert columns(source, "user_id", "item_id", "timestamp", "event") == [
        ("1", "1193", 978_300_760, "5"),
        ("1", "661", 978_302_109, "3.5"),
    ]
    assert items(source) == {
        "1193": {"title": "Cité: des enfants :: perdus (1995)", "genres": "Adventure, Sci-Fi"},
        "661": {"title": "Plain", "genres": None},
    }


def test_movielens_csv(tmp_path: Path) -> None:
    write(tmp_path / "ratings.csv", "userId,movieId,rating,timestamp\n1,296,5.0,1147880044\n")
    write(
        tmp_path / "movies.csv",
        'movieId,title,genres\n296,"American President, The (1995)",Comedy|Drama\n'
        '7,"""Great Performances"" Cats (1998)",Musical\n',
    )
    source = read_format("movielens", tmp_path)
    assert columns(source, "user_id", "item_id", "timestamp", "event") == [("1", "296", 1_147_880_044, "5.0")]
    assert items(source) == {
        "296": {"title": "American President, The (1995)", "genres": "Comedy, Drama"},
        "7": {"title": '"Great Performances" Cats (1998)', "genres": "Musical"},
    }


def test_the_file_that_is_given_is_read_where_a_folder_has_several_versions(tmp_path: Path) -> None:
    write(tmp_path / "u.data", "196\t242\t3\t881250949\n")
    write(tmp_path / "movies.csv", "movieId,title,genres\n296,Pulp,Crime\n")
    ratings = write(tmp_path / "ratings.csv", "userId,movieId,rating,timestamp\n1,296,5.0,1147880044\n")
    assert columns(read_format("movielens", ratings), "item_id") == [("296",)]
    # Another file of the data set stands for its folder.
    (tmp_path / "u.data").unlink()
    source = FORMATS["movielens"].read(tmp_path / "movies.csv", PrepareOptions())
    assert columns(source, "item_id") == [("296",)]


def test_movielens_movies_of_another_layout_are_refused(tmp_path: Path) -> None:
    write(tmp_path / "u.data", "196\t242\t3\t881250949\n")
    write(tmp_path / "u.item", "242|Kolya (1996)|24-Jan-1997\n")
    with pytest.raises(InputError, match=r"u\.item, line 1: has 3 cells; expected 24"):
        read_format("movielens", tmp_path)


LISTENING = (
    'user_000001\t2009-05-04T23:08:57Z\tf1b1cf71\tDeep "Dish\t\tFuck Me\n'
    "user_000001\t2009-05-04T13:54:10Z\ta7f7df4a\t坂本龍一\t0039\tComposition 0919\n"
    "user_000001\t2009-05-04T13:52:04Z\t\tBoris\t\tA\ttab\n"
    "user_000002\tlast week\t\tBoris\t\tA\n"
    "user_000002\t2009-05-04T13:52:04Z\t\t\t\t\n"
)


def test_lastfm(tmp_path: Path) -> None:
    write(tmp_path / "userid-timestamp-artid-artname-traid-traname.tsv", LISTENING)
    source = read_format("lastfm", tmp_path)
    day = 14368 * 86_400_000  # 2009-05-04
    assert columns(source, "user_id", "item_id", "timestamp", "artist", "track") == [
        ("user_000001", 'Deep "Dish / Fuck Me', day + 83_337_000, 'Deep "Dish', "Fuck Me"),
        ("user_000001", "0039", day + 50_050_000, "坂本龍一", "Composition 0919"),
        ("user_000001", "Boris / A\ttab", day + 49_924_000, "Boris", "A\ttab"),
    ]
    assert problems(source) == [
        "the time is not as 2009-04-08T01:57:47Z",
        "neither an id nor a name of the item",
    ]
    assert source.text == ("artist", "track")


def test_lastfm_of_artists(tmp_path: Path) -> None:
    file = write(tmp_path / "userid-timestamp-artid-artname-traid-traname.tsv", LISTENING)
    source = read_format("lastfm", file, columns={"item_id": "artid"})
    assert columns(source, "item_id", "artist") == [
        ("f1b1cf71", 'Deep "Dish'),
        ("a7f7df4a", "坂本龍一"),
        ("Boris", "Boris"),
    ]
    assert source.text == ("artist",)
    with pytest.raises(InputError, match=r"found item_id=album"):
        read_format("lastfm", file, columns={"item_id": "album"})

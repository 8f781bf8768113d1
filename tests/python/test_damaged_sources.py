"""A damaged file of a published data set is named, with the line, whatever the engine says about it."""

from __future__ import annotations

import gzip
import json
import re
from pathlib import Path

import pytest

from alterrec.data.prepare import prepare_folder
from alterrec.errors import InputError

CLICKS = "".join(f"{n},2014-04-{1 + n:02d}T10:51:0{k}.277Z,21{k},0\n" for n in range(20) for k in range(2))
REVIEWS = "".join(
    json.dumps({"reviewerID": f"u{n}", "asin": f"a{k}", "unixReviewTime": k, "overall": 5.0}) + "\n"
    for n in range(5)
    for k in range(300)
)
SALES = "t_dat,customer_id,article_id\n" + "".join(
    f"2020-09-{d:02d},c,0{k}\n" for d in range(1, 23) for k in range(2)
)
MOVIES = "movieId,title,genres\n1,Caf\u00e9,War\n"
TREE = "categoryid,parentid\n1,\u00e9\n"
COMPRESSED = gzip.compress(REVIEWS.encode(), mtime=0)


@pytest.mark.parametrize(
    ("files", "message"),
    [
        (
            {"yoochoose-clicks.dat": CLICKS.encode() + b"21,2014-04-20T10:51:09.277Z,21\xe9,0\n"},
            r"yoochoose-clicks\.dat, line 41: byte b'\xe9' is not UTF-8 text",
        ),
        ({"B.json": REVIEWS + '{"reviewerID":"u'}, "B.json, line 1501: is not JSON (Unterminated string"),
        (
            {"B.json.gz": COMPRESSED[: len(COMPRESSED) // 2]},
            "B.json.gz: its compressed data end or break off after line",
        ),
        (
            {"transactions_train.csv": SALES, "articles.csv": 'article_id,prod_name\n00,"un closed\n01,B\n'},
            "articles.csv: has an unpaired quotation mark",
        ),
        (
            {
                "ratings.csv": "userId,movieId,rating,timestamp\n1,1,5.0,1\n",
                "movies.csv": MOVIES.encode("latin-1"),
            },
            r"movies.csv, line 2: byte b'\xe9' is not UTF-8 text",
        ),
        (
            {
                "events.csv": "timestamp,visitorid,event,itemid,transactionid\n1,2,view,3,\n",
                "item_properties_part1.csv": "timestamp,itemid,property,value\n1,3,categoryid,1\n",
                "category_tree.csv": TREE.encode("latin-1"),
            },
            r"category_tree.csv, line 2: byte b'\xe9' is not UTF-8 text",
        ),
    ],
)
def test_the_damaged_file_is_named(tmp_path: Path, files: dict[str, str | bytes], message: str) -> None:
    source = tmp_path / "source"
    source.mkdir()
    for name, content in files.items():
        (source / name).write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(InputError, match=re.escape(message.replace(r"\.", "."))) as raised:
        prepare_folder(source, tmp_path / "out")
    assert "\n" not in str(raised.value)
    assert not (tmp_path / "out").exists()

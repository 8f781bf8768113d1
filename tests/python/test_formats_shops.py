"""Readers of Yoochoose, Diginetica, Retailrocket and H&M, on small files of the true layout."""

from __future__ import annotations

from pathlib import Path

import pytest
from published_files import columns, events, items, problems, read_format

from alterrec.errors import InputError


def write(path: Path, text: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, "utf-8")
    return path


CLICKS = """1,2014-04-07T10:51:09.277Z,214536502,0
1,2014-04-07T10:54:09.868Z,214536500,S
2,2014-04-07T13:56:37.614Z,214662742,12
2,2014-04-07 13:57:19,214662742,2088488812
3,2014-04-07T13:58:37.446Z,,0
0004,2014-09-30T02:59:59Z,214825110,
"""


def test_yoochoose(tmp_path: Path) -> None:
    write(tmp_path / "yoochoose-clicks.dat", CLICKS)
    write(tmp_path / "yoochoose-buys.dat", "1,2014-04-07T10:51:09.277Z,214536502,12462,1\n")
    source = read_format("yoochoose", tmp_path, text=("category",))
    # 2014-04-07 is day 16167 since 1970; 10:51:09.277 is 39069.277 seconds after midnight.
    assert columns(source, "session_id", "item_id", "timestamp", "category") == [
        ("1", "214536502", 16167 * 86_400_000 + 39_069_277, "0"),
        ("1", "214536500", 16167 * 86_400_000 + 39_249_868, "S"),
        ("2", "214662742", 16167 * 86_400_000 + 50_197_614, "12"),
        ("0004", "214825110", 16343 * 86_400_000 + 10_799_000, None),
    ]
    assert problems(source) == ["the time is not as 2014-04-07T10:51:09.277Z", "no item id"]
    assert source.per_second == 1000
    assert "yoochoose-buys.dat is not read" in source.notes
    assert "category" not in events(read_format("yoochoose", tmp_path))[0]
    assert (source.choices.split, source.choices.test, source.choices.min_item_count) == ("days", 1.0, 5)


def test_yoochoose_with_the_header_of_some_copies(tmp_path: Path) -> None:
    plain = write(tmp_path / "plain" / "yoochoose-clicks.dat", CLICKS)
    headed = write(
        tmp_path / "headed" / "yoochoose-clicks.dat", "session_id,timestamp,item_id,category\n" + CLICKS
    )
    assert events(read_format("yoochoose", headed)) == events(read_format("yoochoose", plain.parent))


def test_diginetica(tmp_path: Path) -> None:
    write(
        tmp_path / "train-item-views.csv",
        "sessionId;userId;itemId;timeframe;eventdate\n"
        "1;NA;81766;526309;2016-05-09\n"
        "1;NA;31331;1031018;2016-05-09\n"
        "1;NA;32118;243569;2016-05-09\n"
        "0002;77;32118;10;2016-06-01\n"
        "3;NA;32118;NA;2016-06-01\n",
    )
    source = read_format("diginetica", tmp_path)
    day = 16930 * 86_400_000  # 2016-05-09
    assert columns(source, "session_id", "user_id", "item_id", "timestamp") == [
        ("1", None, "81766", day + 526_309),
        ("1", None, "31331", day + 1_031_018),
        ("1", None, "32118", day + 243_569),
        ("0002", "77", "32118", day + 23 * 86_400_000 + 10),
    ]
    assert problems(source) == ["eventdate is not a date or timeframe is not a number"]
    assert source.items is None
    assert len(source.notes) == 2
    assert source.choices.test == 7.0


def test_diginetica_products(tmp_path: Path) -> None:
    views = "session_id;user_id;item_id;timeframe;eventdate\n1;NA;5;0;2016-05-09\n"
    file = write(tmp_path / "train-item-views.csv", views)
    write(
        tmp_path / "products.csv",
        "itemId;pricelog2;product.name.tokens\n5;10;4875,776,56689\n6;NA;\n7;8;12\n",
    )
    write(tmp_path / "product-categories.csv", "itemId;categoryId\n5;778\n5;31\n8;778\n")
    source = read_format("diginetica", file)
    assert columns(source, "session_id", "item_id") == [("1", "5")]
    assert items(source) == {
        "5": {"name": "4875 776 56689", "category": "category31 category778"},
        "6": {"name": None, "category": None},
        "7": {"name": "12", "category": None},
        "8": {"name": None, "category": "category778"},
    }
    assert source.text == ("name", "category")
    assert [each.name for each in source.files] == [
        "train-item-views.csv",
        "products.csv",
        "product-categories.csv",
    ]


def test_retailrocket(tmp_path: Path) -> None:
    write(
        tmp_path / "events.csv",
        "timestamp,visitorid,event,itemid,transactionid\n"
        "1433221332117,257597,view,355908,\n"
        "1433224214164,992329,view,248676,\n"
        "1433222276276,599528,transaction,356475,4000\n"
        "1433221955914,,view,355908,\n"
        "x,5,view,355908,\n",
    )
    source = read_format("retailrocket", tmp_path)
    assert columns(source, "user_id", "item_id", "event", "timestamp") == [
        ("257597", "355908", "view", 1_433_221_332_117),
        ("992329", "248676", "view", 1_433_224_214_164),
        ("599528", "356475", "transaction", 1_433_222_276_276),
    ]
    assert problems(source) == ["no visitor id", "the timestamp is not a number"]
    assert (source.choices.sessions, source.choices.gap, source.choices.events) == ("gap", 1800.0, ("view",))
    assert source.items is None
    assert source.text == ()


def test_retailrocket_properties(tmp_path: Path) -> None:
    write(tmp_path / "events.csv", "timestamp,visitorid,event,itemid,transactionid\n1,2,view,3,\n")
    write(
        tmp_path / "item_properties_part1.csv",
        "timestamp,itemid,property,value\n"
        "1435460400000,460429,categoryid,1338\n"
        "1441508400000,460429,888,later 5\n"
        "1431226800000,460429,888,1116713 960601 n277.200\n"
        "1431226800000,460429,790,n91200.000\n"
        "1431226800000,460429,available,1\n",
    )
    write(
        tmp_path / "item_properties_part2.csv",
        "timestamp,itemid,property,value\n"
        "1439089200000,460429,categoryid,9\n"
        "1433041200000,395014,400,n552.000 639502 n720.000 424566\n"
        "1433041200000,7,available,0\n"
        "1433041200000,8,categoryid,77\n",
    )
    write(tmp_path / "category_tree.csv", "categoryid,parentid\n1338,1278\n1278,140\n140,\n9,9\n")
    source = read_format("retailrocket", tmp_path)
    assert items(source) == {
        # The earlier values: category 1338 before 9, two words before "later 5"; n... are numbers.
        "460429": {"category": "category1338 category1278 category140", "properties": "1116713 960601"},
        "395014": {"category": None, "properties": "639502 424566"},
        "8": {"category": "category77", "properties": None},
    }
    assert [each.name for each in source.files] == [
        "events.csv",
        "item_properties_part1.csv",
        "item_properties_part2.csv",
        "category_tree.csv",
    ]


ARTICLES = (
    "article_id,product_code,prod_name,product_type_no,product_type_name,detail_desc\n"
    '0108775015,0108775,Strap top,253,Vest top,"Jersey top, with ""narrow"" shoulder straps."\n'
    "0111565001,0111565,20 den 1p Stockings,304,Underwear Tights,\n"
)


def test_hm(tmp_path: Path) -> None:
    customer = "000058a12d5b43e67d225668fa1f8d618c13dc232df0cad8ffe7ad4a1091e318"
    write(
        tmp_path / "transactions_train.csv",
        "t_dat,customer_id,article_id,price,sales_channel_id\n"
        f"2018-09-20,{customer},0663713001,0.0508305084745762,2\n"
        f"2018-09-20,{customer},0541518023,0.0304915254237288,2\n"
        f"20.09.2018,{customer},0541518023,0.0304915254237288,2\n",
    )
    write(tmp_path / "articles.csv", ARTICLES)
    source = read_format("hm", tmp_path)
    day = 17794 * 86_400  # 2018-09-20
    assert columns(source, "user_id", "item_id", "timestamp") == [
        (customer, "0663713001", day),
        (customer, "0541518023", day),
    ]
    assert problems(source) == ["t_dat is not a date"]
    assert items(source) == {
        "0108775015": {
            "prod_name": "Strap top",
            "product_type_name": "Vest top",
            "detail_desc": 'Jersey top, with "narrow" shoulder straps.',
        },
        "0111565001": {
            "prod_name": "20 den 1p Stockings",
            "product_type_name": "Underwear Tights",
            "detail_desc": None,
        },
    }
    assert (source.choices.sessions, source.choices.collapse) == ("day", True)


def test_a_missing_file_and_a_missing_column_are_named(tmp_path: Path) -> None:
    write(tmp_path / "transactions_train.csv", "t_dat,customer,article_id\n")
    with pytest.raises(InputError, match=r"articles\.csv is missing; the folder has transactions_train\.csv"):
        read_format("hm", tmp_path)
    write(tmp_path / "articles.csv", ARTICLES)
    with pytest.raises(InputError, match=r"column 'customer_id' is missing.*did you mean 'customer'"):
        read_format("hm", tmp_path)

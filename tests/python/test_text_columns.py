"""Which item columns are text, their aliases, and the removal of HTML."""

from __future__ import annotations

from pathlib import Path

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from alterrec.analyses.audit import audit
from alterrec.data.dataset import ItemText, category_ids
from alterrec.data.html_text import clean_texts, without_html
from alterrec.data.readers import load_dataset
from alterrec.data.text import text_vectors
from alterrec.data.text_columns import choose_text_columns
from alterrec.data.text_names import ALIASES, find_text_column
from alterrec.errors import InputError

TEXT = {
    "title of film": ["Jaws", "Up", "Kes"],
    "look": ["red", "blue", "red"],
    "titel": ["赤いマグカップ300ml", "青いマグカップ300ml", "テント2人用"],
    "size": ["100ml", "100ml", "2 x 50ml"],
    "year": ["1975", "2009", "1969"],
    "published": [1975, 2009, 1969],
    "details": ["8 cm, 20.5 g", "10 cm", "from 5 to 7 kg"],
    "tags": [["red", "mug"], [], ["tent"]],
    "model": ["Wool Rug 12", "A4 Paper", "Oak Table"],
    "handle": ["red-tent", "blue-lamp", "oak-table"],
    "covid": ["a mask", "a glove", "soap"],
}
NO_TEXT = {
    "an index": {"": ["0", "1", "2"], "__index_level_0__": [0, 1, 2], "Unnamed: 0": ["0", "1", "2"]},
    "numbers": {
        "weight": [1.5, None, 3],
        "stock": ["1,200", "7", ""],
        "rank": ["1e3", "-7", "NaN"],
        "rating": ["87 %", "5%", "9%"],
        "floats": [1975.0, 2009.0, None],
        "embedding": ["[0.1, 0.2]", "[-1, 2e-3]", "[0, 1]"],
    },
    "prices": {
        "price": ["12.99", "", "5"],
        "cost": ["$12.99", "$1,200", "$5.49 - $9.99"],
        "Preis": ["12,99 €", "1.299,00 EUR", "5 €"],
        "値段": ["¥1,200", "300円", "￥5"],
    },
    "URLs": {
        "link": ["https://a.example/x?y=1", "www.shop.example/tent", None],
        "images": [["http://a.example/1", "http://a.example/2"], ["http://a.example/3"], []],
        "listed": ["['https://a.example/1', 'https://a.example/2']", "['https://a.example/3']", "[]"],
    },
    "image paths": {"img": ["img/010/red mug.jpg", "b.PNG", "/c/d.webp"]},
    "dates": {
        "added": ["2024-05-01", "2024-05-02 10:00:00", "2024-05-03T10:00:00Z"],
        "sold": ["01.12.2010 08:26", "11/11/2019 9:05:58 AM", "1/2/20"],
        "first": ["October 5, 2013", "Jan 1, 2020", "May 03, 2021"],
        "released": ["01-Jan-1995", "22-Dec-1995", ""],
    },
    "ids": {"parent_asin": ["B01", "B01", "B02"], "userId": ["ann", "ben", "ben"], "EAN": ["x1", "x1", "x2"]},
    "codes": {"uuid4": ["3f2a-1", "9bc4-2", "77aa-3"], "part": ["AB12", "cd/34", "E-5"]},
    "true or false": {"new": [True, False, None], "sale": ["yes", "no", "yes"]},
    "empty": {"note": ["", "nan", None], "none": [None, None, None]},
    "list": {"sizes": [[1, 2], [3], []]},
    "struct": {"box": [{"x": 1}, {"x": 2}, {"x": 3}]},
    "binary": {"raw": [b"a", b"b", b"c"]},
}


@pytest.mark.parametrize("name", TEXT)
def test_text_is_read(name: str) -> None:
    items = pl.DataFrame({"item_id": ["a", "b", "c"], name: TEXT[name]}, strict=False)
    assert choose_text_columns(items, None) == ((name,), ())


@pytest.mark.parametrize(("reason", "name"), [(why, name) for why in NO_TEXT for name in NO_TEXT[why]])
def test_other_columns_are_left_out_and_named(reason: str, name: str) -> None:
    values = pl.Series(name, NO_TEXT[reason][name], strict=False)
    items = pl.DataFrame({"item_id": ["a", "b", "c"], "title": ["x", "y", "z"], name: values})
    note = f"columns read as text: 'title'; not read: {name!r} ({reason})"
    assert choose_text_columns(items, None, name="x/items.csv") == (("title",), (f"items.csv: {note}",))


def test_usual_names_are_text_whatever_they_contain() -> None:
    names = [group[-1] for group in ALIASES] + ["Taxonomy", "Product-Title"]
    items = pl.DataFrame({name: ["1", "22", "333"] for name in names})
    assert choose_text_columns(items, None) == (tuple(names), ())


def test_a_few_odd_values_do_not_make_text_of_prices() -> None:
    prices = [f"${n}.99" for n in range(19)] + [".a-box-inner{background-color:#fff}"]
    assert choose_text_columns(pl.DataFrame({"cost": prices}), None)[0] == ()
    assert choose_text_columns(pl.DataFrame({"cost": prices[:1] + prices[-1:] * 9}), None)[0] == ("cost",)


def test_dates_and_times_of_parquet_are_dates() -> None:
    days = pl.Series("day", ["2024-05-01"] * 3).str.to_date()
    items = pl.DataFrame([days, days.cast(pl.Datetime).alias("time"), days.cast(pl.String).alias("c")])
    reasons = "'day' (dates), 'time' (dates), 'c' (dates)"
    assert choose_text_columns(items, None)[1] == (f"items: columns read as text: none; not read: {reasons}",)


def test_wanted_columns_are_found_by_alias_once_and_in_order() -> None:
    items = pl.DataFrame({"item_id": ["a"], "desc": ["x"], "Item Name": ["y"], "price": ["5"]})
    chosen, notes = choose_text_columns(items, ["title", "description", "price", "name"])
    assert chosen == ("Item Name", "desc", "price")
    assert notes[1] == "items: 'description' is read from the column 'desc'"
    with pytest.raises(InputError, match=r"text field 'descri' is missing.*did you mean 'desc'"):
        choose_text_columns(items, ["descri"])
    with pytest.raises(InputError, match="text field 'brand' is missing"):
        choose_text_columns(items, ["brand"])
    assert choose_text_columns(items, ["brand", "title"], may_be_missing=True)[0] == ("Item Name",)


def test_an_exact_name_comes_before_an_alias() -> None:
    assert find_text_column("title", ["name", "title"]) == "title"
    assert find_text_column("name", ["title", "Name"]) == "Name"
    assert find_text_column("brand", ["title", "brand_name"]) == "brand_name"


def test_later_steps_know_aliases_too() -> None:
    text = ItemText({"name": ["red tent", "oil lamp"], "Categories": ["a", "b"]})
    plain = text_vectors(text, fields=["name"])
    assert (text_vectors(text, fields=["title"]) == plain).all()
    ids = category_ids(text, ["category"])
    assert ids is not None
    assert ids.shape == (2, 1, 1)


# HTML


@pytest.mark.parametrize(
    ("written", "plain"),
    [
        ("a < b", "a < b"),
        ("if a <b and c> d", "if a <b and c> d"),
        ("I <3 it, <5 kg, x<y>z", "I <3 it, <5 kg, x<y>z"),
        ("<unknown>", "<unknown>"),
        ("R&D, AT&T, a=1&copy=2", "R&D, AT&T, a=1&copy=2"),
        ("  two  spaces ", "  two  spaces "),
        ("<b>Red</b> <i>tent</i>", "Red tent"),
        ("H<sub>2</sub>O", "H2O"),
        ("one<br>two<BR/>three</p><p>four", "one two three four"),
        ('<a href="x?a=1>2" class=big>link</a>', "link"),
        ("<video controls src='x'></video>seen", "seen"),
        ("<style>p > a {color: red}</style>A<script>if (a < b) {}</script>B<!-- no -->C", "A B C"),
        ("Tom &amp; Ann &#39;s &#x27;caf&eacute;&nbsp;bar", "Tom & Ann 's 'café bar"),
        ("&amp;amp; &amp;lt;b&amp;gt;bold&lt;/b&gt;", "& bold"),
        ("cut off <a href=\"http://a.exam", "cut off"),
        ("&unknown; &#xD800; 5 &gt; 3", "&unknown; \ufffd 5 > 3"),
        ("赤い<br>マグ&amp;カップ", "赤い マグ&カップ"),
    ],
)  # fmt: skip
def test_html_is_removed_and_other_text_is_not(written: str, plain: str) -> None:
    assert without_html(written) == plain
    assert clean_texts(pl.Series([written, None, "x"])).to_list() == [plain, None, "x"]


@given(st.lists(st.sampled_from(["<b>", "</p>", "<br ", "&amp;", "&lt;", "&", "<", "a", "=", '"', ">", " "])))
def test_clean_text_stays_as_it_is(parts: list[str]) -> None:
    once = without_html("".join(parts))
    assert without_html(once) == once
    assert clean_texts(pl.Series(["".join(parts)])).to_list() == [once]


# The whole way


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    header = "item_id,name,desc,price,added,img"
    rows = [f"i{n},Tent {n},<p>For {n} &amp; more</p>,{n}.99,2024-01-0{n},a/{n}.jpg" for n in range(1, 7)]
    (tmp_path / "items.csv").write_text("\n".join([header, *rows]) + "\n", "utf-8")
    events = [f"s{s},i{1 + (s * k) % 6},{s}" for s in range(30) for k in (1, 2, 3)]
    lines = ["session_id,item_id,timestamp", *events]
    (tmp_path / "interactions.csv").write_text("\n".join(lines) + "\n", "utf-8")
    return tmp_path


def test_a_folder_says_what_it_reads(folder: Path) -> None:
    data = load_dataset(folder)
    assert data.text is not None
    assert data.text.fields["desc"][0] == "For 1 & more"
    left_out = "'price' (prices), 'added' (dates), 'img' (image paths)"
    assert data.notes[:2] == (
        f"items.csv: columns read as text: 'name', 'desc'; not read: {left_out}",
        "items.csv: texts from which HTML tags or entities were removed: 6",
    )


def test_an_audit_of_chosen_columns(folder: Path) -> None:
    found = audit(folder, text=["description"])
    assert "items.csv: 'description' is read from the column 'desc'" in found.notes

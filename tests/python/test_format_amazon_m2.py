"""The reader of Amazon-M2, on small files of its layout."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import polars as pl
import pytest
from made_amazon_m2 import LOCALES, write_amazon_m2

from alterrec.data.formats import FORMATS
from alterrec.data.formats.amazon_m2 import read_amazon_m2
from alterrec.data.formats.source import Choices, PrepareOptions, Source
from alterrec.errors import InputError

PRODUCTS = "id,locale,title,price,desc\n" + "".join(f"B{j},FR,Titre {j},1.0,\n" for j in range(1, 6))


def folder_of(tmp_path: Path, sessions: str, products: str = PRODUCTS, **others: str) -> Path:
    (tmp_path / "products_train.csv").write_text(products, "utf-8")
    (tmp_path / "sessions_train.csv").write_text("prev_items,next_item,locale\n" + sessions, "utf-8")
    for name, text in others.items():
        (tmp_path / f"{name}.csv").write_text(text, "utf-8")
    return tmp_path


def read(folder: Path, locale: str | None = "FR", test: float | None = None) -> Source:
    return read_amazon_m2(folder, PrepareOptions(locale=locale, choices=Choices(test=test)))


def sessions_of(source: Source, split: str) -> dict[str, list[str]]:
    rows = source.events[split].filter(pl.col("problem").is_null()).collect()
    grouped = rows.group_by("session_id", maintain_order=True).agg("item_id")
    return dict(grouped.iter_rows())


def problems_of(source: Source, split: str) -> dict[str, str]:
    rows = source.events[split].filter(pl.col("problem").is_not_null()).collect()
    return dict(rows.select("session_id", "problem").iter_rows())


def test_the_made_folder_is_read_in_full(tmp_path: Path) -> None:
    folder = write_amazon_m2(tmp_path / "m2")
    raw = pl.read_csv(folder / "sessions_train.csv").with_row_index("row")
    assert raw["prev_items"].str.contains("\n").any()
    sizes = 0
    for locale in LOCALES:
        source = read(folder, locale)
        own = raw.filter(pl.col("locale") == locale)
        sessions = sessions_of(source, "train")
        sizes += len(sessions)
        assert list(sessions) == [f"train-{row}" for row in own["row"]]
        for row, text, target in own.select("row", "prev_items", "next_item").iter_rows():
            expected = [*text.strip("[]").replace("'", "").split(), target]
            assert sessions[f"train-{row}"] == expected
        assert problems_of(source, "train") == {}
        assert source.items is not None
        items = source.items.collect()
        assert len(items) == items["item_id"].n_unique() == 120
        assert set(items["locale"]) == {locale}
        assert items["description"].null_count() == 40
    assert sizes == len(raw)


def test_test_sessions_end_with_their_next_item(tmp_path: Path) -> None:
    folder = write_amazon_m2(tmp_path / "m2")
    source = read(folder)
    answers = pl.read_csv(folder / "gt_task2.csv").with_row_index("row").filter(pl.col("locale") == "FR")
    ends = {name: items[-1] for name, items in sessions_of(source, "test").items()}
    assert ends == {f"task2-{row}": item for row, item in answers.select("row", "next_item").iter_rows()}
    assert {file.name for file in source.files} == {
        "sessions_train.csv",
        "products_train.csv",
        "sessions_test_task2.csv",
        "gt_task2.csv",
    }
    assert source.notes == ()
    assert (source.choices.split, source.choices.min_item_count) == ("seed", 0)
    assert source.expected == {"items": 40_258, "train": 96_245, "valid": 10_507, "test": 8_981}


def test_all_locales_are_told_apart(tmp_path: Path) -> None:
    folder = write_amazon_m2(tmp_path / "m2")
    source = read(folder, "all")
    assert source.items is not None
    items = source.items.collect()["item_id"]
    assert len(items) == items.n_unique() == 3 * 120
    used = {item for session in sessions_of(source, "train").values() for item in session}
    assert used <= set(items)
    # The first items have the same id in every locale.
    assert {"FR:B000000001", "JP:B000000001"} <= set(items)
    assert len(source.files) == 6
    assert source.expected == {}


def test_phases_and_folders_of_tasks(tmp_path: Path) -> None:
    """The files of a task are in a folder of their own, a pair for each phase; task 3 asks for titles."""
    folder = folder_of(tmp_path, "['B1' 'B2'],B3,FR\n")
    for name, text in {
        "task2/sessions_test_task2_phase1": "prev_items,locale\n['B1' 'B2'],FR\n['B3'],ES\n",
        "task2/gt_task2_phase1": "locale,next_item\nFR,B4 \nES,B9\n",
        "task2/sessions_test_task2_phase2": "prev_items,locale\n['B5'],FR\n",
        "task3/sessions_test_task3_phase1": "prev_items,locale\n['B5'],FR\n",
        "task3/gt_task3_phase1": "locale,next_item_title\nFR,Lampe\n",
        "task1/sessions_test_task1_phase1": "prev_items,locale\n['B5'],DE\n",
        "task1/gt_task1_phase1": "locale,next_item\nDE,B5\n",
    }.items():
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / f"{name}.csv").write_text(text, "utf-8")
    source = read(folder)
    assert sessions_of(source, "test") == {"task2/task2_phase1-0": ["B1", "B2", "B4"]}
    assert sorted(source.notes) == [
        "sessions_test_task2_phase2.csv is not used: its next items (gt_...csv) are not there",
        "sessions_test_task3_phase1.csv is not used: gt_task3_phase1.csv has no column 'next_item'",
    ]
    assert {file.name for file in source.files[2:]} == {
        "sessions_test_task2_phase1.csv",
        "gt_task2_phase1.csv",
    }


def test_without_truth_the_last_part_is_the_test_split(tmp_path: Path) -> None:
    rows = "".join(f"['B1' 'B2'],B3,{'DE' if j % 2 else 'FR'}\n" for j in range(40))
    folder = folder_of(tmp_path, rows, sessions_test_task2="prev_items,locale\n['B1'],FR\n")
    source = read(folder)
    assert list(sessions_of(source, "test")) == ["train-36", "train-38"]
    assert list(sessions_of(source, "train"))[-1] == "train-34"
    assert source.notes[-1] == (
        "no test file with next items has sessions of locale FR: the last 2 training sessions, by their "
        "order in the file, are the test split"
    )
    assert len(sessions_of(read(folder, test=0.5), "test")) == 10


@pytest.mark.parametrize(
    ("cell", "items"),
    [
        ("['B1' 'B2']", ["B1", "B2"]),
        ("\"['B1' 'B2'\n 'B3']\"", ["B1", "B2", "B3"]),
        ("\"['B1'\r\n 'B2']\"", ["B1", "B2"]),
        # As a Python list, with commas; with double quotes, as numpy prints ids with an apostrophe.
        ("\"['B1', 'B2']\"", ["B1", "B2"]),
        ('"[""B\'1"" \'B2\']"', ["B'1", "B2"]),
        ("[]", []),
        (" ['B1' 'B1']  ", ["B1", "B1"]),
    ],
)
def test_lists_of_items(tmp_path: Path, cell: str, items: list[str]) -> None:
    folder = folder_of(tmp_path, f"{cell}, B4 , FR \n['B1'],B2,FR\n")
    assert sessions_of(read(folder), "train") == {"train-0": [*items, "B4"]}


@pytest.mark.parametrize(
    ("row", "problem"),
    [
        ("['B1' 'B2' ... 'B8' 'B9'],B3", "prev_items was shortened by numpy to '...'"),
        ("[B1 B2],B3", "prev_items is not a list of quoted ids in brackets"),
        ("['B1' 'B2,B3", "prev_items is not a list of quoted ids in brackets"),
        ("B1,B3", "prev_items is not a list of quoted ids in brackets"),
        (",B3", "prev_items is not a list of quoted ids in brackets"),
        ("['B1' 'B2'],", "next_item is empty"),
        ("['B1' 'B2'],  ", "next_item is empty"),
    ],
)
def test_sessions_that_cannot_be_used(tmp_path: Path, row: str, problem: str) -> None:
    """Such a session is one row with the problem, and none of its items is used."""
    source = read(folder_of(tmp_path, f"['B1'],B2,FR\n{row},FR\n['B1'],B2,FR\n"))
    assert problems_of(source, "train") == {"train-1": problem}
    assert sessions_of(source, "train") == {"train-0": ["B1", "B2"]}


def test_numpy_shortens_only_long_arrays(tmp_path: Path) -> None:
    """What numpy itself prints is read back, or recognised as shortened."""
    ids = np.array([f"B{j:09d}" for j in range(1001)])
    cells = {"whole": str(ids[:1000]), "shortened": str(ids)}
    rows = "".join(f'"{cell}",B1,FR\n' for cell in [*cells.values(), "['B1']"])
    source = read(folder_of(tmp_path, rows))
    assert len(sessions_of(source, "train")["train-0"]) == 1001
    assert list(problems_of(source, "train")) == ["train-1"]


def test_products_with_awkward_cells(tmp_path: Path) -> None:
    products = (
        "id,locale,title,price,brand,desc\n"
        'B1,FR,"Tente ""Été"", rouge",40000000.07,,\n'
        'B2,FR,NA,"1.299,00 €",null,"Deux lignes\net une &amp; entité"\n'
        "B1,ES,Tienda,12.5,,\n"
        "B1 ,FR,Encore,1,,\n"
    )
    source = read(folder_of(tmp_path, "['B1'],B2,FR\n['B2'],B1,FR\n", products))
    assert source.items is not None
    items = source.items.collect()
    assert items.columns == ["locale", "title", "price", "brand", "description", "item_id"]
    assert items["item_id"].to_list() == ["B1", "B2"]
    assert items["title"].to_list() == ['Tente "Été", rouge', "NA"]
    assert items["price"].to_list() == ["40000000.07", "1.299,00 €"]
    assert items["description"].to_list() == [None, "Deux lignes\net une &amp; entité"]
    assert source.text == ("title", "description")
    assert source.notes[-1] == (
        "products_train.csv: rows that repeat the id and locale of an earlier one, left out: 1"
    )


@pytest.mark.parametrize(
    ("locale", "message"),
    [
        (
            None,
            r"choose one of FR \(2 training sessions\), ES \(1 training sessions\) with --locale FR",
        ),
        ("FT", r"has no sessions of locale 'FT'; choose one of FR"),
        ("ES", r"products_train\.csv: has no products of locale ES"),
    ],
)
def test_locales_that_cannot_be_read(tmp_path: Path, locale: str | None, message: str) -> None:
    folder = folder_of(tmp_path, "['B1'],B2,FR\n['B1'],B2,FR\n['B1'],B2,ES\n")
    with pytest.raises(InputError, match=message):
        read(folder, locale)


def test_lower_case_locales_are_found(tmp_path: Path) -> None:
    assert sessions_of(read(folder_of(tmp_path, "['B1'],B2,FR\n" * 3), "fr"), "train")


def test_truth_of_another_phase_is_refused(tmp_path: Path) -> None:
    folder = folder_of(
        tmp_path,
        "['B1'],B2,FR\n",
        sessions_test_task2="prev_items,locale\n['B1'],FR\n",
        gt_task2="locale,next_item\nFR,B2\nFR,B3\n",
    )
    with pytest.raises(InputError, match=r"gt_task2\.csv: has 2 rows but sessions_test_task2\.csv has 1;"):
        read(folder)


def test_a_missing_column_is_named(tmp_path: Path) -> None:
    folder = folder_of(tmp_path, "['B1'],B2,FR\n", "ids,locale,title\nB1,FR,Tente\n")
    with pytest.raises(InputError, match=r"column 'id' is missing; .*did you mean 'ids'\?"):
        read(folder)


def test_recognition(tmp_path: Path) -> None:
    recognises = FORMATS["amazon-m2"].recognises
    assert not recognises(tmp_path)
    assert recognises(folder_of(tmp_path, "['B1'],B2,FR\n"))
    assert not recognises(tmp_path / "sessions_train.csv")

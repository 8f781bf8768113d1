"""Category ids of cells with values separated by commas."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from alterrec.data.dataset import ItemText, category_ids
from alterrec.errors import InputError

FILMS = ItemText(
    {
        "title": ["Jaws", "Up", "Untitled"],
        "Brand": ["Zanuck", "Pixar", ""],
        "category": ["Horror,Drama , Horror", "Comedy", " , "],
    }
)


def test_usual_columns_are_found_and_values_are_trimmed_and_numbered_once() -> None:
    ids = category_ids(FILMS)
    assert ids is not None
    assert ids.tolist() == [[[1, -1], [1, 2]], [[0, -1], [0, -1]], [[-1, -1], [-1, -1]]]


def test_chosen_fields_replace_the_usual_ones() -> None:
    ids = category_ids(FILMS, ["title"])
    assert ids is not None
    assert ids.tolist() == [[[0]], [[2]], [[1]]]


def test_data_without_categories() -> None:
    assert category_ids(ItemText({"title": ["Jaws"]})) is None
    assert category_ids(ItemText({"title": ["Jaws"], "brand": [""]})) is None


@pytest.mark.parametrize(
    ("fields", "part"),
    [
        (["categry"], r"'categry' is missing; choose among title, category; did you mean 'category'"),
        (["category"], r"column 'category' is empty"),
    ],
)
def test_wrong_columns(fields: list[str], part: str) -> None:
    with pytest.raises(InputError, match=part):
        category_ids(ItemText({"title": ["Jaws"], "category": [""]}), fields)


@given(st.lists(st.lists(st.sampled_from("abcd")), min_size=1))
def test_ids_match_the_values_of_each_cell(cells: list[list[str]]) -> None:
    ids = category_ids(ItemText({"brand": [", ".join(cell) for cell in cells]}))
    names = sorted(set().union(*cells))
    if ids is None:
        assert not names
        return
    assert ids.max() + 1 == len(names)
    for cell, row in zip(cells, ids[:, 0], strict=True):
        assert [names[id] for id in row if id >= 0] == sorted(set(cell))

"""Numbers for items whose ids are texts."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from alterrec.errors import InputError
from alterrec.vocabulary import Vocabulary

SESSIONS = st.lists(st.lists(st.text(max_size=3), min_size=1, max_size=5), min_size=1, max_size=8)


@given(SESSIONS)
def test_a_store_holds_the_ids_of_the_sessions(sessions: list[list[str]]) -> None:
    vocabulary = Vocabulary.of_sessions(sessions)
    store = vocabulary.store(sessions)
    assert len(set(vocabulary.item_ids)) == len(vocabulary) == store.num_items
    assert [vocabulary.names(store.session(place)) for place in range(len(store))] == sessions


def test_ids_are_numbered_as_they_appear() -> None:
    assert Vocabulary.of_sessions(iter([("b", "a"), ("a", "c")])).item_ids == ("b", "a", "c")
    assert Vocabulary.of_sessions([]).item_ids == ()


@pytest.mark.parametrize("numbers", [[[1, 0], [2, 2]], np.array([[1, 0], [2, 2]], np.uint8)])
def test_names_have_the_shape_of_the_numbers(numbers: object) -> None:
    vocabulary = Vocabulary(("tent", "lamp", "rug"))
    expected = [["lamp", "tent"], ["rug", "rug"]]
    assert vocabulary.names(numbers) == expected
    assert vocabulary.names(torch.tensor(np.array(numbers))) == expected
    assert vocabulary.names([]) == vocabulary.names(np.empty(0)) == []
    assert Vocabulary(()).names(np.empty((2, 0))) == [[], []]


def test_wrong_numbers_are_refused() -> None:
    vocabulary = Vocabulary(("tent", "lamp"))
    for number in (-1, 2):
        with pytest.raises(InputError, match=f"item number {number} is not in the catalogue; use 0 to 1"):
            vocabulary.names([0, number])
    with pytest.raises(ValueError, match="numbers has dtype float64; expected integers"):
        vocabulary.names([0.5])


def test_wrong_sessions_are_refused() -> None:
    vocabulary = Vocabulary(("tent", "lamp"))
    with pytest.raises(
        InputError, match="item 'tend' is not in the catalogue of 2 items; did you mean 'tent'"
    ):
        vocabulary.store([["lamp"], ["lamp", "tend"]])
    with pytest.raises(InputError, match="session 1 has no items; leave it out"):
        vocabulary.store([["lamp"], []])
    assert len(vocabulary.store([])) == 0


def test_a_catalogue_may_be_larger_than_the_sessions() -> None:
    assert Vocabulary(("tent", "lamp", "rug")).store([["lamp"]]).num_items == 3

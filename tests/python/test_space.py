"""The grammar of what a search may try."""

from __future__ import annotations

import pytest

from alterrec.errors import InputError
from alterrec.studies.search_space import Listed, Range, Space, read_search

# With this encoder alterrec reads every key that is searched here.
TRANSFORMER = {"id.session": "transformer"}


def read(**search: str) -> dict[str, Space]:
    return read_search(
        "alterrec", ["best"], TRANSFORMER, {key.replace("__", "."): text for key, text in search.items()}
    )


@pytest.mark.parametrize(
    ("key", "text", "space"),
    [
        ("optim.lr", "0.0001..0.01:log", Range(0.0001, 0.01, log=True)),
        ("optim.lr", "1e-4 .. 1", Range(0.0001, 1.0)),
        ("model.dropout", "0..0.5", Range(0.0, 0.5)),
        ("model.dropout", "0, 0.2,0.4", Listed((0.0, 0.2, 0.4))),
        ("model.dim", "32,64,128", Listed((32, 64, 128))),
        ("schedule.gap", "1..5", Range(1, 5)),
        ("positives.top", "1..50:log", Range(1, 50, log=True)),
        # A rank window has fractions of the catalogue and ranks.
        ("window.last", "0.02..0.5:log", Range(0.02, 0.5, log=True)),
        ("window.last", "100..1000", Range(100, 1000)),
        ("fusion.tune", "true,false", Listed((True, False))),
        ("model.init", "normal,uniform", Listed(("normal", "uniform"))),
        ("id.temperature", "learned,0.5,1", Listed(("learned", 0.5, 1.0))),
        ("id.dropout", "0..0.5", Range(0.0, 0.5)),
        # Dots in a path are no range, and commas in a list no choices.
        ("data.vectors", "../a.npy,../b.npy", Listed(("../a.npy", "../b.npy"))),
        ("data.text_fields", "title|title,brand", Listed(("title", "title,brand"))),
    ],
)
def test_a_space_has_the_type_of_its_field(key: str, text: str, space: Space) -> None:
    (found,) = read_search("alterrec", ["best"], TRANSFORMER, {key: text}).values()
    assert found == space
    # 1 and 1.0 are equal, but train other models where a whole number is a rank.
    assert [type(part) for part in found] == [type(part) for part in space]
    assert read_search("alterrec", ["best"], TRANSFORMER, {key: str(found)}) == {key: space}
    if isinstance(space, Range):
        assert isinstance(found, Range)
        assert found.whole == isinstance(space.low, int) == isinstance(found.low, int)


@pytest.mark.parametrize(
    ("key", "text", "parts"),
    [
        ("optim.lrr", "1..2", ["'optim.lrr' is unknown", "did you mean 'optim.lr'"]),
        ("lr", "1..2", ["'lr' is unknown"]),
        ("optim.lr", "-1..2", ["optim.lr=-1..2", "optim.lr is -1", "greater than 0"]),
        ("model.dropout", "0..1", ["model.dropout is 1;", "less than 1"]),
        ("model.dropout", "0.5..0.1", ["0.5 and 0.1", "the lower one first"]),
        ("model.dropout", "0.1..0.1", ["the lower one first"]),
        ("model.dropout", "0..0.5:log", ["low end is 0.0", "above 0"]),
        ("optim.lr", "0.1..inf", ["finite"]),
        ("optim.lr", "a..b", ["optim.lr is 'a'", "valid number"]),
        ("optim.lr", "0.1..0.2:lg", ["'0.2:lg'"]),
        ("schedule.gap", "1.5..3", ["schedule.gap is 1.5", "valid integer"]),
        ("window.last", "0.5..100", ["0.5 and 100", "both integers or both decimal"]),
        # Both ends are fine, what lies between is not.
        ("model.dim", "32..128", ["heads that divide dim"]),
        ("model.dim", "32,33", ["dim is 33", "heads that divide dim"]),
        ("model.init", "normal,unifrm", ["'unifrm'", "'uniform'"]),
        ("fusion.tune", "0..1", ["fusion.tune is '0..1'", "boolean"]),
        ("optim.lr", "0.1", ["one value", "two or more", "--set"]),
        ("optim.lr", "0.1,0.10", ["0.1 occurs twice"]),
        ("optim.lr", "", ["optim.lr is ''"]),
        ("run.seed", "0..9", ["run.seed", "does not change what is learned"]),
        ("schedule.metric", "ndcg@20,hits@20", ["schedule.metric", "changes what is measured"]),
    ],
)
def test_what_is_no_space_is_refused_in_words(key: str, text: str, parts: list[str]) -> None:
    with pytest.raises(InputError) as refused:
        read_search("alterrec", ["best"], TRANSFORMER, {key: text})
    assert all(part in str(refused.value) for part in parts), str(refused.value)


def test_keys_that_depend_on_each_other_are_tried_together() -> None:
    assert len(read(model__dim="30,60", model__heads="3,5")) == 2
    with pytest.raises(InputError, match=r"dim is 32 and heads is 3"):
        read(model__dim="32,30", model__heads="2,3")


def test_nothing_to_search_and_a_key_twice() -> None:
    with pytest.raises(InputError, match="nothing to search"):
        read()
    with pytest.raises(InputError, match=r"optim\.lr is both set and searched"):
        read_search("alterrec", ["best"], {"optim.lr": "0.1"}, {"optim.lr": "0.1,0.2"})

"""The reader of OTTO, on small files of its layout."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from alterrec.data.formats import FORMATS
from alterrec.data.formats.otto import read_otto
from alterrec.data.formats.source import Choices, PrepareOptions
from alterrec.errors import InputError

START = 1659304800025


def line(session: int, *events: tuple[int, str]) -> str:
    rows = [
        {"aid": aid, "ts": START + 1000 * place, "type": kind} for place, (aid, kind) in enumerate(events)
    ]
    return json.dumps({"session": session, "events": rows})


def write(path: Path, *lines: str) -> Path:
    path.write_text("\n".join(lines) + "\n", "utf-8")
    return path


def test_train_and_test_are_read_in_order(tmp_path: Path) -> None:
    write(
        tmp_path / "otto-recsys-train.jsonl",
        line(0, (59625, "clicks"), (59625, "carts"), (1142000, "clicks")),
        line(1, (7, "orders")),
    )
    write(tmp_path / "otto-recsys-test.jsonl", line(12899779, (59625, "clicks"), (7, "clicks")))
    write(tmp_path / "test_labels.jsonl", '{"session": 12899779, "labels": {"clicks": 7}}')
    source = read_otto(tmp_path, PrepareOptions())
    assert source.events["train"].collect().rows() == [
        ("0", "59625", START, "clicks", None),
        ("0", "59625", START + 1000, "carts", None),
        ("0", "1142000", START + 2000, "clicks", None),
        ("1", "7", START, "orders", None),
    ]
    assert source.events["test"].collect()["session_id"].to_list() == ["12899779", "12899779"]
    assert (source.items, source.per_second, source.choices.split) == (None, 1000, "files")
    assert [file.name for file in source.files] == ["otto-recsys-train.jsonl", "otto-recsys-test.jsonl"]
    assert source.notes[1].startswith("test_labels.jsonl: not read")


def test_one_file_is_split_by_days_and_only_clicks_are_kept(tmp_path: Path) -> None:
    file = write(tmp_path / "part.jsonl", line(0, (1, "clicks")))
    source = read_otto(file, PrepareOptions())
    assert list(source.events) == ["interactions"]
    assert (source.choices.split, source.choices.test, source.choices.events) == ("days", 7, ("clicks",))


def test_visits_of_a_user_can_be_told_apart(tmp_path: Path) -> None:
    file = write(tmp_path / "train.jsonl", line(5, (1, "clicks")))
    source = read_otto(file, PrepareOptions(choices=Choices(sessions="gap")))
    assert source.events["interactions"].collect()["user_id"].to_list() == ["5"]


def test_events_without_an_id_are_problems(tmp_path: Path) -> None:
    file = write(
        tmp_path / "train.jsonl",
        '{"session": 0, "events": [{"ts": 5, "type": "clicks"}, {"aid": 3, "type": "clicks"}]}',
        '{"events": [{"aid": 3, "ts": 5, "type": "clicks"}], "session": null}',
        '{"session": 1, "events": []}',
    )
    rows = read_otto(file, PrepareOptions()).events["interactions"].collect()
    assert rows["problem"].to_list()[:3] == ["aid is missing", "ts is missing", "session is missing"]
    # A session without events is no event.
    assert rows["session_id"].to_list()[3:] in ([], ["1"])
    assert rows["problem"].to_list()[3:] in ([], ["aid is missing"])


def test_recognition_and_messages(tmp_path: Path) -> None:
    recognises = FORMATS["otto"].recognises
    assert not recognises(tmp_path)
    with pytest.raises(
        InputError, match=r"otto-recsys-train\.jsonl is missing; expected it, or one of train\.jsonl"
    ):
        read_otto(tmp_path, PrepareOptions())
    write(tmp_path / "train.jsonl", '{"asin": "B1", "text": "good"}')
    assert not recognises(tmp_path)
    with pytest.raises(
        InputError, match=r"train\.jsonl, line 1: is not a session of OTTO; expected JSON such as"
    ):
        read_otto(tmp_path, PrepareOptions())
    write(tmp_path / "train.jsonl", line(0, (1, "clicks")))
    assert recognises(tmp_path)
    assert recognises(tmp_path / "train.jsonl")
    assert not recognises(tmp_path / "other.jsonl")

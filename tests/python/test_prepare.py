"""Preparing data: every choice on tiny logs worked out by hand, the folder, the cache, what is refused."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from conftest import Outcome
from made_amazon_m2 import write_amazon_m2

import alterrec as package
from alterrec.analyses.preparation import Preparation, prepare
from alterrec.cli.preparing import parse_gap
from alterrec.data.dataset import Dataset, Names
from alterrec.data.readers import DataSource, load_dataset
from alterrec.errors import InputError
from alterrec.processes import process_tag
from alterrec.recipe import resolve

Command = Callable[..., Outcome]
DAY = 86400
# 2024-01-01, so that times are read as seconds.
START = 19723 * DAY

# user, item, time, kind of event
Events = Sequence[tuple[str, str, float, str]]


def write_log(path: Path, events: Events, **more: Sequence[str]) -> Path:
    """Write a log with the columns user_id, item_id, timestamp, event and others."""
    users, items, times, kinds = zip(*events, strict=True)
    seconds = [int(START + time) for time in times]
    columns = {"user_id": users, "item_id": items, "timestamp": seconds, "event": kinds}
    pl.DataFrame(columns | more).write_csv(path)
    return path


def sessions(data: Dataset) -> dict[str, list[str]]:
    """The sessions of each split as joined item ids."""
    ids = data.vocabulary.item_ids
    return {
        split: ["".join(ids[item] for item in store.session(row)) for row in range(len(store))]
        for split, store in data.splits.items()
    }


def message(call: Callable[[], object]) -> str:
    with pytest.raises(InputError) as caught:
        call()
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("ALTERREC_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


def prepared(folder: Path, events: Events, **choices: Any) -> Preparation:
    """Prepare a log; without filters, unless they are given."""
    usual = {"collapse": False, "min_item_count": 0, "min_session": 1}
    return prepare(write_log(folder / "log.csv", events), folder / "out", **(usual | choices))


def visits(count: int, items: str = "ab") -> list[tuple[str, str, float, str]]:
    """One visit a day of as many users, each with the same items a minute apart."""
    return [
        (f"u{n}", item, n * DAY + 60.0 * place, "view")
        for n in range(count)
        for place, item in enumerate(items)
    ]


# Sessions


def test_a_gap_ends_a_session(tmp_path: Path) -> None:
    # Unsorted; 1800 s later is the same session, 1801 s later another one; ties keep the order of the rows.
    events = [
        *[("x", "c", 3600, "view"), ("x", "a", 0, "view"), ("y", "b", 0, "view"), ("x", "b", 1800, "view")],
        *[("x", "d", 5401, "view"), ("x", "a", 5401, "view"), ("y", "a", 1, "view")],
        *[(user, item, time + DAY, kind) for user, item, time, kind in visits(2)],
    ]
    made = prepared(tmp_path, events, sessions="gap", gap=1800)
    # By time of the last event: y at 1, x at 3600, x at 5401; then the visits.
    assert sessions(made.load()) == {"train": ["ba", "abc", "da"], "valid": ["ab"], "test": ["ab"]}
    assert made.load().session_names == {"train": ["0", "1", "2"], "valid": ["3"], "test": ["4"]}


def test_days_are_those_of_utc(tmp_path: Path) -> None:
    events = [("x", "a", -60, "v"), ("x", "b", -1, "v"), ("x", "a", 0, "v"), ("x", "c", DAY - 1, "v")]
    events += [(user, item, time + 2 * DAY, kind) for user, item, time, kind in visits(2)]
    made = prepared(tmp_path, events, sessions="day")
    assert sessions(made.load()) == {"train": ["ab", "ac"], "valid": ["ab"], "test": ["ab"]}


def test_one_session_per_user_is_named_by_the_user(tmp_path: Path) -> None:
    events = [("x", "a", 9 * DAY, "v"), ("x", "b", 0, "v"), *visits(4)]
    data = prepared(tmp_path, events, sessions="user").load()
    assert sessions(data) == {"train": ["ab", "ab", "ab"], "valid": ["ab"], "test": ["ba"]}
    assert data.session_names["test"] == ["x"]
    assert data.users is not None
    assert data.users.item_ids == ("u0", "u1", "u2", "u3", "x")


def test_repetitions_that_follow_one_another_are_one_event(tmp_path: Path) -> None:
    events = [("x", item, place, "v") for place, item in enumerate("aabbbab")] + visits(9)
    made = prepared(tmp_path, events, sessions="user", collapse=True)
    assert sessions(made.load())["train"][0] == "abab"
    step = {step.name: step.events for step in made.record.steps}
    assert (step["sessions"], step["repeats collapsed"]) == (25, 22)


def test_events_of_chosen_kinds_are_kept(tmp_path: Path) -> None:
    events = [
        (user, item, time, "view" if item == "a" else "cart") for user, item, time, _ in visits(8, "abac")
    ]
    log = write_log(tmp_path / "log.csv", events)
    made = prepare(log, tmp_path / "out", sessions="user", events=("cart",), min_item_count=0)
    assert set(sessions(made.load())["train"]) == {"bc"}
    assert made.record.kinds == {"cart": 16, "view": 16}
    assert [step.events for step in made.record.steps[:2]] == [32, 16]
    wrong = message(lambda: prepare(tmp_path / "log.csv", tmp_path / "b", events=("crt",)))
    assert "'crt' does not occur; the data has 'cart', 'view'; did you mean 'cart'?" in wrong


# Filters


def test_filters_are_repeated_until_nothing_changes(tmp_path: Path) -> None:
    """Without c, which is rare, session bcb is bb, which collapses to b, which is short; then b is rare."""
    training = ["bcb", "ab", "ad", "da", "ad"]
    events = [
        (f"u{n}", item, n * DAY + place, "v")
        for n, items in enumerate([*training, "ada", "abd"])
        for place, item in enumerate(items)
    ]
    made = prepared(tmp_path, events, collapse=True, min_item_count=3, min_session=2)
    # b is in training three times, then twice without the first session.
    data = made.load()
    assert sessions(data) == {"train": ["ad", "da", "ad"], "valid": ["ada"], "test": ["ad"]}
    assert data.vocabulary.item_ids == ("a", "d")
    assert "filters: train (2 rounds)" in [step.name for step in made.record.steps]


def test_validation_and_test_change_no_filter_text_or_catalogue(tmp_path: Path) -> None:
    events = visits(10, "abc")
    texts = [f"Text {item}" for _, item, _, _ in events]
    later = [number for number, (_, _, time, _) in enumerate(events) if time >= 8 * DAY]
    write_log(tmp_path / "one.csv", events, title=texts)
    changed = [
        (user, "z" if n in later and item == "c" else item, time, kind)
        for n, (user, item, time, kind) in enumerate(events)
    ]
    write_log(
        tmp_path / "two.csv", changed, title=[f"{t} new" if n in later else t for n, t in enumerate(texts)]
    )
    found = [prepare(tmp_path / f"{name}.csv", tmp_path / name, min_item_count=8) for name in ("one", "two")]
    for file in ("items.parquet", "train.parquet", "train.store"):
        assert (found[0].path / file).read_bytes() == (found[1].path / file).read_bytes()
    assert sessions(found[1].load())["test"] == ["ab"]


def test_the_text_of_an_item_is_its_most_frequent_one_in_training(tmp_path: Path) -> None:
    events = visits(10)
    titles = [
        {0: "Red lamp", 2: "", 16: "Blue lamp", 18: "Blue lamp"}.get(
            n, "Green lamp" if n < 6 else "Blue lamp"
        )
        if item == "a"
        else ("Oil pan" if n > 2 else "Tin pan")
        for n, (_, item, _, _) in enumerate(events)
    ]
    titles[8] = titles[10] = titles[12] = titles[14] = ""
    write_log(tmp_path / "log.csv", events, title=titles)
    text = prepare(tmp_path / "log.csv", tmp_path / "out", min_item_count=0, min_session=2).load().text
    assert text is not None
    # Of a, training has Red lamp and Green lamp once each: the first one counts.
    assert text.fields == {"title": ["Red lamp", "Oil pan"]}


def test_a_column_with_one_value_for_most_items_is_no_text_of_them(tmp_path: Path) -> None:
    events = [(f"u{n // 6}", f"i{n % 10}", n, "v") for n in range(60)]
    titles = [f"Lamp {n % 10} of oak" for n in range(60)]
    countries = ["Chile" if n % 10 == 7 else "France" for n in range(60)]
    log = write_log(tmp_path / "log.csv", events, title=titles, country=countries)
    made = prepare(log, tmp_path / "out", min_item_count=1)
    assert pl.read_parquet(made.path / "items.parquet").columns == ["item_id", "title"]
    assert "one value for most of the items, which are not read as text: 'country'" in str(made)
    chosen = prepare(log, tmp_path / "chosen", min_item_count=1, text=["title", "country"])
    assert pl.read_parquet(chosen.path / "items.parquet").columns == ["item_id", "title", "country"]


def test_the_last_fraction_of_training_is_taken_after_the_filters(tmp_path: Path) -> None:
    events = [*visits(3, "xy"), *[(f"v{u}", i, t + 3 * DAY, k) for u, i, t, k in visits(13, "ab")]]
    made = prepared(tmp_path, events, min_item_count=3, fraction=4)
    assert sessions(made.load())["train"] == ["ab"] * 3
    assert made.load().vocabulary.item_ids == ("a", "b")
    assert [step.sessions for step in made.record.steps if step.name == "last 1/4: train"] == [3]


# Splits


def test_the_last_days_are_test(tmp_path: Path) -> None:
    data = prepared(tmp_path, visits(10), split="days", valid=1, test=2).load()
    assert [len(store) for store in data.splits.values()] == [7, 1, 2]
    empty = message(lambda: prepare(tmp_path / "log.csv", tmp_path / "b", split="days", valid=3, test=7))
    assert "then train has no session; the sessions end within 9.0 days" in empty


def test_shares_are_the_last_sessions(tmp_path: Path) -> None:
    data = prepared(tmp_path, visits(20), valid=0.1, test=0.2).load()
    assert [len(store) for store in data.splits.values()] == [14, 2, 4]


def test_the_last_items_of_users_are_targets_and_leak(tmp_path: Path) -> None:
    events = [("x", item, place, "v") for place, item in enumerate("abcd")]
    events += [("y", item, place, "v") for place, item in enumerate("cdabz")]
    events += [("s", item, place, "v") for place, item in enumerate("ad")]
    made = prepared(tmp_path, events, sessions="user", split="last-item")
    # The target z of y is not in training, so that y has no test session.
    expected = {"train": ["ad", "ab", "cda"], "valid": ["abc", "cdab"], "test": ["abcd"]}
    assert {name: sorted(part) for name, part in sessions(made.load()).items()} == {
        name: sorted(part) for name, part in expected.items()
    }
    assert any("later than the targets of test" in note for note in made.record.notes)


def test_files_are_split_as_they_are_or_by_seed(tmp_path: Path) -> None:
    folder = write_amazon_m2(tmp_path / "m2")
    one, two = (prepare(folder, tmp_path / f"{n}", locale="FR", seed=n) for n in (0, 1))
    assert one.record.arguments == {"locale": "FR", "seed": 0}
    assert sessions(one.load())["test"] == sessions(two.load())["test"]
    assert sessions(one.load())["valid"] != sessions(two.load())["valid"]
    assert prepare(folder, locale="FR").record.files == one.record.files


# The folder


def test_the_record_has_sources_choices_counts_and_steps(tmp_path: Path) -> None:
    write_log(tmp_path / "log.csv", [*visits(10), ("", "a", 1, "v"), ("x", "", 1, "v")])
    made = prepare(tmp_path / "log.csv", tmp_path / "out", gap=900)
    record = json.loads((made.path / "dataset.json").read_text())
    content = (tmp_path / "log.csv").read_bytes()
    digest = hashlib.sha256(content).hexdigest()
    assert record["sources"] == [{"name": "log.csv", "size": len(content), "sha256": digest}]
    assert record["choices"]["gap"] == {"value": 900, "origin": "user"}
    assert record["choices"]["sessions"]["value"] == "gap"
    assert record["choices"]["split"]["origin"] == "format"
    assert sum(record["dropped"].values()) == 2
    assert record["rows"] == 22
    assert record["counts"] == {
        **{"items": 2, "users": 10, "sessions": 10, "events": 20},
        **{"train": 8, "train_events": 16, "valid": 1, "valid_events": 2, "test": 1, "test_events": 2},
        **{"rows": 22, "read_items": 2, "read_sessions": 10, "read_users": 10},
    }
    for file in record["files"]:
        path = made.path / file["name"]
        assert hashlib.sha256(path.read_bytes()).hexdigest() == file["sha256"]
    assert {path.name for path in made.path.iterdir()} - {"dataset.json"} == {
        f["name"] for f in record["files"]
    }


def test_names_are_a_sequence_of_strings() -> None:
    known = [str(number) for number in range(5, 12)]
    for names in (Names(pl.Series(range(5, 12))), Names(pl.Series(known))):
        assert names == known
        assert names != [*known[:-1], "12"]
        assert names != known[:-1]
        assert names != "5"
        assert (len(names), list(names), names[-1], names[1:-1:2]) == (7, known, "11", known[1:-1:2])
        assert (names.index("7"), "7" in names, 7 in names, list(reversed(names))) == (
            2,
            True,
            False,
            known[::-1],
        )
        assert pl.Series(names).to_list() == known
        with pytest.raises(IndexError):
            names[7]


def test_the_same_command_again_does_nothing_and_another_is_refused(tmp_path: Path) -> None:
    made = prepared(tmp_path, visits(10))
    before = {path: path.stat().st_mtime_ns for path in made.path.iterdir()}
    again = prepared(tmp_path, visits(10))
    assert again.was_there
    assert "was prepared before" in str(again)
    assert {path: path.stat().st_mtime_ns for path in made.path.iterdir()} == before
    assert "what differs: gap. Choose a new folder" in message(lambda: prepared(tmp_path, visits(10), gap=60))
    assert "what differs: files." in message(lambda: prepared(tmp_path, visits(11)))


def test_a_folder_with_other_content_is_refused_before_anything_is_read(tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "thesis.tex").write_text("")
    assert "is not empty; choose a new folder" in message(lambda: prepared(tmp_path, visits(10)))
    (tmp_path / "out" / "thesis.tex").unlink()
    assert not prepared(tmp_path, visits(10)).was_there
    (tmp_path / "file").write_text("")
    assert "is a file" in message(lambda: prepare(tmp_path / "log.csv", tmp_path / "file"))


def test_what_killed_commands_left_is_removed(tmp_path: Path) -> None:
    ours = prepared(tmp_path, visits(10)).path
    child = os.fork()
    if child == 0:
        os._exit(0)
    os.waitpid(child, 0)
    left = tmp_path / f".out.{process_tag().split('-')[0]}-{child:x}.00000000"
    left.mkdir()
    (left / "train.parquet").write_text("half")
    prepare(tmp_path / "log.csv", tmp_path / "other")
    assert not left.exists()
    assert ours.exists()


def test_a_failure_leaves_nothing(tmp_path: Path) -> None:
    events = [(f"u{n}", "a", n * DAY, "v") for n in range(10)]
    assert "no session of train has 2 or more events" in message(lambda: prepared(tmp_path, events))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["log.csv"]


def test_a_source_that_changes_meanwhile_is_refused(tmp_path: Path) -> None:
    log = write_log(tmp_path / "log.csv", visits(10))

    def listen(line: str) -> None:
        if line == "writing":
            write_log(log, visits(11))

    assert "has changed while it was read" in message(lambda: prepare(log, tmp_path / "out", listen=listen))
    assert not (tmp_path / "out").exists()


def test_of_two_that_prepare_the_same_one_takes_the_other_s(tmp_path: Path) -> None:
    log = write_log(tmp_path / "log.csv", visits(10))
    inner: list[Preparation] = []

    def listen(line: str) -> None:
        if line == "writing":
            inner.append(prepare(log, tmp_path / "out"))

    outer = prepare(log, tmp_path / "out", listen=listen)
    assert outer.was_there
    assert not inner[0].was_there
    assert sorted(path.name for path in tmp_path.iterdir()) == ["log.csv", "out"]


# Reading it


def test_a_damaged_folder_is_refused(tmp_path: Path) -> None:
    made = prepared(tmp_path, visits(10))
    (made.path / "train.store").write_bytes((made.path / "train.store").read_bytes()[:-8])
    assert "but dataset.json says" in message(lambda: load_dataset(made.path))
    (made.path / "train.store").unlink()
    assert "train.store is missing, but dataset.json lists it" in message(lambda: load_dataset(made.path))
    (made.path / "dataset.json").write_text("{")
    assert "dataset.json is damaged" in message(lambda: load_dataset(made.path))


def test_a_published_format_is_the_same_prepared_or_read(tmp_path: Path, own_cache: Path) -> None:
    folder = write_amazon_m2(tmp_path / "m2")
    lines: list[str] = []
    read = load_dataset(folder, locale="FR", listen=lines.append)
    assert lines[0] == f"{folder}: read as amazon-m2, recognised by its files"
    assert load_dataset(folder, format="amazon-m2", locale="FR").fingerprint == read.fingerprint
    assert len(list((own_cache / "prepared").iterdir())) == 1
    made = prepare(folder, tmp_path / "out", locale="FR")
    assert load_dataset(made.path).fingerprint == read.fingerprint
    assert (read.name, load_dataset(made.path).name) == ("m2-FR", "out")
    source = DataSource(folder, format="amazon-m2", locale="FR")
    assert source.arguments() == [f"--data={folder}", "--format=amazon-m2", "--locale=FR"]
    assert source.read(resolve("popularity")).fingerprint == read.fingerprint


def test_text_columns_that_are_not_usual_are_prepared_when_they_are_asked_for(tmp_path: Path) -> None:
    folder = write_amazon_m2(tmp_path / "m2")
    text = load_dataset(folder, locale="FR", text_fields=["desc", "color"]).text
    assert text is not None
    assert list(text.fields) == ["description", "color"]


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({"drop_unknown": True}, "--drop-unknown is not read with a published format"),
        ({"columns": {"item_id": "id"}}, "format amazon-m2 does not read --column; leave it out"),
    ],
)
def test_options_that_a_published_format_does_not_read(
    tmp_path: Path, options: dict[str, Any], expected: str
) -> None:
    folder = write_amazon_m2(tmp_path / "m2")
    assert expected in message(lambda: load_dataset(folder, locale="FR", **options))


@pytest.mark.parametrize(
    "options",
    [{"columns": {"item_id": "a"}}, {"drop_unknown": True}, {"locale": "FR"}, {"valid_share": 0.2}],
)
def test_options_that_a_prepared_folder_does_not_read(tmp_path: Path, options: dict[str, Any]) -> None:
    made = prepared(tmp_path, visits(10))
    assert "is not read with a prepared folder" in message(lambda: load_dataset(made.path, **options))


def test_our_own_layout_has_no_locale_and_needs_no_preparation(shop: Path, tmp_path: Path) -> None:
    assert "--locale is not read" in message(lambda: load_dataset(shop, locale="FR"))
    assert "has an items file" in message(lambda: prepare(shop, tmp_path / "out"))
    made = prepared(tmp_path, visits(10))
    assert "is prepared already" in message(lambda: prepare(made.path, tmp_path / "again"))


@pytest.mark.parametrize(
    ("choices", "expected"),
    [
        ({"sessions": "day", "gap": 60}, "gap is not read, because sessions is 'day'; leave out --gap"),
        ({"seed": 1}, "seed is not read, because split is 'time'; leave out --seed"),
        ({"split": "last-item", "sessions": "user", "valid": 0.1}, "valid is not read, because"),
        ({"split": "last-item", "sessions": "day"}, "expected --sessions user"),
        (
            {"locale": "FR"},
            "format log does not read --locale; leave it out (formats that read it: amazon-m2)",
        ),
        ({"split": "files"}, "the data has no files for splits; choose --split time, days or last-item"),
        ({"sessions": "given"}, "map it with --column session_id=NAME"),
        ({"sessions": "visit"}, "choose one of given, gap, day, user"),
        ({"split": "random"}, "choose one of time, days, files, seed, last-item"),
        ({"valid": 0.6, "test": 0.5}, "choose shares whose sum is below 1"),
        ({"valid": 2}, "valid is 2; expected a share above 0 and below 1"),
        ({"split": "days", "test": 0}, "test is 0; expected a number of days above 0"),
        ({"gap": -1}, "gap is -1; expected a number of seconds"),
        ({"min_session": 0}, "min_session is 0; expected 1 or more"),
        ({"fraction": 0}, "fraction is 0; expected 1 or more"),
        ({"format": "logs"}, "unknown data format 'logs'; did you mean 'log'?"),
        ({"text": ["titel"]}, "text field 'titel' is missing"),
    ],
)
def test_choices_that_cannot_be(tmp_path: Path, choices: dict[str, Any], expected: str) -> None:
    log = write_log(tmp_path / "log.csv", visits(10), title=["Red tent"] * 20)
    assert expected in message(lambda: prepare(log, tmp_path / "out", **choices))
    assert not (tmp_path / "out").exists()


def test_days_and_shares_are_not_taken_for_each_other(tmp_path: Path) -> None:
    made = prepared(tmp_path, visits(10), split="days")
    choices = {name: (choice.value, choice.origin) for name, choice in made.record.choices.items()}
    assert choices["valid"] == choices["test"] == (1, "default")


# What is shown


def test_the_result_is_short_in_a_cell_and_shows_itself(tmp_path: Path) -> None:
    log = write_log(tmp_path / "log.csv", visits(10))
    made = package.prepare(str(log), tmp_path / "out")
    assert repr(made) == f"Preparation({str(tmp_path / 'out')!r}: train 8, valid 1, test 1, items 2)"
    assert "rows read" in made._repr_html_()
    assert made.to_dict()["was_there"] is False
    assert made.save(tmp_path / "page").is_file()


def test_the_command_prints_counts_choices_and_the_folder_last(alterrec: Command, tmp_path: Path) -> None:
    folder = write_amazon_m2(tmp_path / "m2")
    code, out, err = alterrec("prepare", folder, "--all-locales", "--out", tmp_path / "out")
    assert (code, err) == (0, "")
    lines = out.splitlines()
    assert lines[0] == f"{folder}: read as amazon-m2, recognised by its files"
    assert lines[-1] == str(tmp_path / "out")
    assert any(line.startswith("split ") and line.endswith("the format") for line in lines)
    code, out, _ = alterrec("prepare", folder, "--locale=FR", f"--out={tmp_path / 'fr'}", "--json")
    assert code == 0
    assert json.loads(out)["expected"]["items"] == 40258
    code, _, err = alterrec("prepare", folder, "--locale=FR", "--all-locales", f"--out={tmp_path / 'x'}")
    assert (code, err) == (2, "error: --locale and --all-locales are given; give one of them\n")


def test_options_of_the_command(alterrec: Command, tmp_path: Path) -> None:
    log = write_log(tmp_path / "log.csv", visits(10, "aab"))
    options = ("--gap=0.5h", "--events=view", "--no-collapse", "--min-item-count=2", "--min-session=3")
    assert alterrec("prepare", log, f"--out={tmp_path / 'out'}", *options).code == 0
    record = json.loads((tmp_path / "out" / "dataset.json").read_text())
    made = {name: choice["value"] for name, choice in record["choices"].items()}
    expected = {"gap": 1800, "events": ["view"], "collapse": False, "min_item_count": 2, "min_session": 3}
    assert made.items() >= expected.items()
    code, _, err = alterrec("prepare", tmp_path / "lgo.csv", f"--out={tmp_path / 'b'}")
    assert code == 2
    assert "no such file or folder; did you mean 'log.csv'?" in err


@pytest.mark.parametrize(("text", "seconds"), [("30m", 1800), ("2 h", 7200), ("90", 90), ("1d", DAY)])
def test_gaps(text: str, seconds: float) -> None:
    assert parse_gap(text) == seconds


@pytest.mark.parametrize("text", ["", "m", "30 weeks", "-1m", "1e9x"])
def test_wrong_gaps(text: str) -> None:
    assert "for example 30m" in message(lambda: parse_gap(text))


def test_training_from_published_files_in_one_line(alterrec: Command, tmp_path: Path) -> None:
    folder = write_amazon_m2(tmp_path / "m2")
    arguments = ("--set=run.report=false", "--set=run.baselines=false", f"--out={tmp_path / 'run'}")
    code, out, _ = alterrec("train", "popularity", f"--data={folder}", "--locale=FR", *arguments)
    assert code == 0
    assert "read as amazon-m2, recognised by its files" in out
    evaluated = alterrec("evaluate", tmp_path / "run", f"--data={folder}", "--locale=FR", "--json")
    assert evaluated.code == 0
    assert json.loads(evaluated.out)["test"]["score"]
    made = prepare(folder, tmp_path / "out", locale="FR")
    assert alterrec("evaluate", tmp_path / "run", f"--data={made.path}").code == 0

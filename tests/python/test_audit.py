"""An audit finds planted faults: copies, late sessions, similar texts, cold targets and drift."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from conftest import Outcome

import alterrec
from alterrec.analyses.audit import (
    check_data,
    copied_sessions,
    drift,
    jensen_shannon,
    similar_texts,
    time_order,
)
from alterrec.analyses.audit_page import Audit, TextBenefit, can_text_help, check_findings
from alterrec.analyses.audit_repeats import auto_rule, own_items_section
from alterrec.analyses.audit_times import session_times, time_findings
from alterrec.data.dataset import Dataset, ItemText
from alterrec.data.readers import load_dataset
from alterrec.data.repeats import TargetKind, seen_items
from alterrec.data.statistics import statistics
from alterrec.evaluation.evaluate import Ranks, evaluate
from alterrec.evaluation.sign_flips import Difference
from alterrec.models.catalogue import UNTRAINED
from alterrec.models.neighbours import Untrained
from alterrec.sessions import SessionStore
from alterrec.vocabulary import Vocabulary

ITEMS = 12


def store(sessions: Sequence[Sequence[int]], start: int | None = 0) -> SessionStore:
    """A store of sessions; timestamps count up from ``start``; None gives none."""
    rows = np.repeat(np.arange(len(sessions)), [len(items) for items in sessions])
    times = None if start is None else start + np.arange(len(rows))
    return SessionStore.from_arrays(rows, np.concatenate(sessions), timestamps=times, num_items=ITEMS)


def data(
    train: Sequence[Sequence[int]],
    valid: Sequence[Sequence[int]],
    test: Sequence[Sequence[int]],
    starts: tuple[int | None, int | None, int | None] = (0, 1000, 2000),
    texts: Sequence[str] | None = None,
    names: dict[str, list[str]] | None = None,
) -> Dataset:
    splits = {"train": train, "valid": valid, "test": test}
    named = {split: [f"{split}{row}" for row in range(len(own))] for split, own in splits.items()}
    return Dataset(
        "made",
        *(store(own, start) for own, start in zip(splits.values(), starts, strict=True)),
        Vocabulary(tuple(f"i{item}" for item in range(ITEMS))),
        ItemText({"title": list(texts)}) if texts else None,
        None,
        named | (names or {}),
    )


def severities(found: Dataset) -> dict[str, str]:
    return {each.check: each.severity for each in check_findings(check_data(found), statistics(found))}


TRAIN = [[0, 1, 2, 3], [4, 5], [6, 7, 8], [9, 10, 11, 0, 1], [2, 3]]
VALID, TEST = [[1, 0], [3, 2]], [[5, 4], [8, 7, 6], [10, 9], [1, 2]]
TEXTS = [
    f"thing number {word}"
    for word in [
        "one",
        "two",
        "three",
        "four",
        "five",
        "six",
        "seven",
        "eight",
        "nine",
        "ten",
        "eleven",
        "twelve",
    ]
]


def test_copies_by_hand() -> None:
    spoiled = data(TRAIN, VALID, [*TEST[:2], [4, 5], [0, 1, 2, 3]])
    found = copied_sessions(spoiled, "train", "test")
    assert (found.sessions, found.share, found.long, found.named) == (2, 0.5, 1, 0)
    assert found.examples == ["test3", "test2"]
    # The same items in another order make another session.
    assert copied_sessions(data(TRAIN, VALID, [[3, 2, 1, 0]]), "train", "test").sessions == 0
    assert severities(spoiled)["copies of train in test"] == "bad"
    assert severities(data(TRAIN, VALID, [*TEST, [4, 5]]))["copies of train in test"] == "look"
    assert severities(data(TRAIN, VALID, TEST))["copies of train in test"] == "fine"


def test_a_session_id_in_two_splits_is_bad() -> None:
    found = data(TRAIN, VALID, TEST, names={"test": ["a", "b", "train2", "d"]})
    assert copied_sessions(found, "train", "test").named == 1
    assert severities(found)["copies of train in test"] == "bad"


def test_order_in_time_by_hand() -> None:
    # Train runs over times 0 to 15; test sessions end at 12, 15, 17 and 19.
    late = data(TRAIN, VALID, TEST, starts=(0, 1000, 11))
    (valid, test) = time_order(late)
    assert (valid.ended, valid.begun) == (0, 0)
    assert (test.ended, test.begun, test.ended_share) == (2, 2, 0.5)
    assert severities(late)["order in time"] == "bad"
    assert severities(data(TRAIN, VALID, TEST))["order in time"] == "fine"
    assert severities(data(TRAIN, VALID, TEST, starts=(None, None, None)))["order in time"] == "look"


def test_similar_texts_by_hand() -> None:
    texts = [
        "Red mug, 30 cm",
        "Red mug, 30 cm",
        "mug red 30 CM",
        "A large bag of green tea",
        "A large bag of black tea",
        "A bag of black tea",
        "A bag",
        "",
        "",
    ]
    found = similar_texts(texts, [0, 3, 7, 8])
    # Empty texts are ignored. Of the four targets only item 0 has the text of another item.
    assert (found.identical, found.targets) == (2, 0.25)
    assert found.same_words == 3
    # "green" and "black", with and without "large"; "A bag" is too short to count.
    assert found.one_word == 3
    assert found.groups == [("Red mug, 30 cm", 2)]
    # Each item occurs once among the examples.
    assert [sorted(row) for row in found.near] == [["A bag of black tea", "A large bag of black tea"]]


def test_texts_that_differ_in_one_word_agree_with_plain_loops() -> None:
    rng = np.random.default_rng(3)
    texts = [" ".join(rng.choice(list("abcdefg"), rng.integers(3, 7))) for _ in range(120)]
    words = [sorted(text.split()) for text in texts]

    def less(row: list[str]) -> set[tuple[str, ...]]:
        return {tuple(row[:place] + row[place + 1 :]) for place in range(len(row))}

    def near(a: list[str], b: list[str]) -> bool:
        shorter, longer = sorted((a, b), key=len)
        if len(longer) < 5 or shorter == longer:
            return False
        if len(shorter) == len(longer):
            return bool(less(shorter) & less(longer))
        return tuple(shorter) in less(longer)

    wanted = sum(any(near(a, b) for b in words) for a in words)
    assert 0 < wanted < len(texts)
    assert similar_texts(texts, []).one_word == wanted


def test_the_severity_of_identical_texts_depends_on_targets() -> None:
    texts = [*TEXTS[:10], TEXTS[0], TEXTS[11]]
    assert severities(data(TRAIN, VALID, TEST, texts=TEXTS))["identical texts"] == "fine"
    assert severities(data(TRAIN, VALID, TEST, texts=texts))["identical texts"] == "look"
    assert severities(data(TRAIN, VALID, [*TEST, [9, 10]], texts=texts))["identical texts"] == "bad"
    assert severities(data(TRAIN, VALID, TEST, texts=["", *TEXTS[1:]]))["items without text"] == "look"
    assert severities(data(TRAIN, VALID, TEST, texts=[TEXTS[0], *[""] * 11]))["items without text"] == "bad"


@pytest.mark.parametrize(
    ("texts", "severity", "told"),
    [
        (TEXTS, "fine", "title (0.0% empty, 3.0 words on average). There are 12 different texts; 0.0% are"),
        (["mug", "red mug", *["tent"] * 10], "look", "3 different texts; 91.7% are a single word"),
        (["mug"] * 11 + [""], "bad", "title (8.3% empty, 1.0 words on average). All texts are alike"),
        (["赤いマグ", "青いマグ"] * 6, "fine", "2.0 words on average"),
    ],
)  # fmt: skip
def test_what_was_read_as_text_is_told(texts: list[str], severity: str, told: str) -> None:
    made = data(TRAIN, VALID, TEST, texts=texts)
    (found,) = (
        each for each in check_findings(check_data(made), statistics(made)) if each.check == "text columns"
    )
    assert found.severity == severity
    assert told in found.text


def test_jensen_shannon_by_hand() -> None:
    # Halves and quarters: middle (5/8, 3/8); divergence in bits.
    middle = 0.5 * (0.5 * np.log2(0.5 / 0.625) + 0.5 * np.log2(0.5 / 0.375))
    other = 0.5 * (0.75 * np.log2(0.75 / 0.625) + 0.25 * np.log2(0.25 / 0.375))
    assert jensen_shannon([1, 1], [3, 1]) == pytest.approx(np.sqrt(middle + other))
    assert jensen_shannon([0, 0], [3, 1]) == 0.0


def test_drift_is_compared_with_sessions_of_train() -> None:
    rng = np.random.default_rng(4)
    draw = [rng.integers(0, ITEMS, 6).tolist() for _ in range(200)]
    same = drift(data(draw[:150], draw[150:155], draw[155:]), "test")
    assert abs(same.distance - same.expected) < 0.05
    moved = drift(data(draw[:150], draw[150:155], [[0, 1]] * 45), "test")
    assert moved.distance > moved.expected + 0.3


def test_unseen_targets() -> None:
    assert severities(data(TRAIN, VALID, TEST))["unseen targets"] == "fine"
    unseen = data([row for row in TRAIN if 4 not in row], VALID, TEST)
    assert severities(unseen)["unseen targets"] == "bad"


# Items inside sessions repeat, the last ones never do, as in Amazon-M2. Of the 8 items of train and
# validation that follow another one, 0, 3 and 1 repeat, from 2, 1 and 1 places back.
INNER = data([[0, 1, 0, 2], [3, 3, 4], [5, 6]], [[1, 1, 0]], [[2, 2, 3]], texts=TEXTS)
# Every last item repeats: 4 of 4 in train and validation, from 2, 1, 2 and 2 places back. Of the 7 items that
# follow another one, 4 repeat.
ALWAYS = data([[0, 1, 0], [2, 2], [3, 4, 3]], [[1, 0, 1]], [[4, 4], [0, 2, 0]], texts=TEXTS)
# Sessions of two items: one of four targets repeats, of both kinds and in every split.
PAIRS = [[0, 0], [1, 2], [3, 4], [5, 6]]
MIXED = data(PAIRS, PAIRS, PAIRS, texts=TEXTS)


def pairs(sessions: int, repeated: int) -> list[list[int]]:
    """Sessions of two items, some of which repeat the first one."""
    return [[0, 0]] * repeated + [[0, 1]] * (sessions - repeated)


@pytest.mark.parametrize(
    ("found", "severity", "says"),
    [
        (
            data(TRAIN, VALID, TEST),
            "fine",
            r"^No item in train or validation repeats .* both kinds .* not candidates",
        ),
        (
            INNER,
            "look",
            r"^No last item .*, although 37\.5% of the items at every position repeat .* data\.targets=last, "
            r"items of the session are therefore not candidates .* data\.targets=every, they are candidates "
            r"with the counted probability .* choice of data\.targets decides",
        ),
        # The shares of the kinds in train are 3/3 and 3/5.
        (
            ALWAYS,
            "look",
            r"^100\.0% of the last items .*, and 57\.1% of the items at every .* say little about the other",
        ),
        (MIXED, "fine", r"^25\.0% of the last items .*, and 25\.0% of the items at every position"),
        (
            data(TRAIN, VALID, [*TEST[:3], [1, 2, 1]]),
            "look",
            r"But test has repeats: 1 of its 4 last items \(25\.0%\)\. With data\.targets=last, such",
        ),
        # 2.5 and 15 %: the difference is 6 standard errors.
        (
            data(pairs(400, 10), pairs(400, 10), pairs(400, 60)),
            "look",
            r"the last items changes between the splits: 2\.5% in train, 2\.5% in validation and 15\.0% in",
        ),
        # 2.5 and 4 % may differ by chance; 25 and 32.5 % do not, but the probability fits well enough.
        (data(pairs(400, 10), pairs(400, 16), pairs(400, 10)), "fine", ""),
        (data(pairs(4000, 1000), pairs(4000, 1000), pairs(4000, 1300)), "fine", ""),
    ],
)
def test_the_check_of_repeated_targets(found: Dataset, severity: str, says: str) -> None:
    (check,) = (
        each
        for each in check_findings(check_data(found), statistics(found))
        if each.check == "repeated targets"
    )
    assert check.severity == severity
    assert re.search(says, check.text), check.text


@pytest.mark.parametrize("found", [data(TRAIN, VALID, TEST), INNER, ALWAYS, MIXED])
@pytest.mark.parametrize("kind", ["last", "every"])
def test_the_rule_is_the_one_that_runs_use(found: Dataset, kind: TargetKind) -> None:
    assert auto_rule(statistics(found), kind) == seen_items("auto", found.train, found.valid, kind)[0]


def test_tables_of_repeated_targets_by_hand() -> None:
    tables = own_items_section(statistics(INNER)).tables
    assert tables["repeats"].table.rows == (
        ("train, last items", "3", "0", "0.0%"),
        ("train, items at every position", "6", "2", "33.3%"),
        ("validation, last items", "1", "0", "0.0%"),
        ("validation, items at every position", "2", "1", "50.0%"),
        ("test, last items", "1", "0", "0.0%"),
        ("test, items at every position", "2", "1", "50.0%"),
    )
    assert tables["repeats_by_length"].table.rows == (
        ("1", "1", "0.0%", "4", "50.0%"),
        ("2", "2", "0.0%", "3", "33.3%"),
        ("3-4", "1", "0.0%", "1", "0.0%"),
    )
    assert tables["repeats_by_distance"].table.rows == (("1", "-", "66.7%"), ("2", "-", "33.3%"))
    # Records are by split, also of test.
    assert {"split": "test", "targets": "every", "length": "1", "count": 1, "repeated": 1} in tables[
        "repeats_by_length"
    ].records
    assert list(own_items_section(statistics(data(TRAIN, VALID, TEST))).tables) == ["repeats"]


def test_metrics_under_each_rule_if_every_target_repeats() -> None:
    found = alterrec.audit(ALWAYS)
    assert found.seen == "repeats"
    for by_rule in found.by_seen.values():
        assert set(by_rule["excluded"].values()) == {0.0}
        # The probability of a repeat is near 1, and items of two places back are chosen before the last one.
        assert by_rule["repeats"]["ndcg@20"] == 1.0
        assert 0 < by_rule["kept"]["ndcg@20"] <= 1
    assert found.baselines["popularity"] == found.by_seen["popularity"]["repeats"]
    assert found.to_dict()["reach_by_seen"]["popularity"]["excluded"]["hits@20"] == 0.0
    assert "2 of 2 test targets (100.0%) repeat an item of their session" in found.presentation().page()


def test_metrics_if_no_target_repeats() -> None:
    found = alterrec.audit(INNER)
    assert found.seen == "excluded"
    assert found.to_dict()["seen_by_targets"] == {"last": "excluded", "every": "repeats"}
    assert {tuple(by_rule) for by_rule in found.by_seen.values()} == {("kept", "excluded")}
    page = found.presentation().page()
    assert "No test target repeats an item of its session." in page
    assert "The session&#39;s own items" in page


def test_every_system_has_the_repeat_component(monkeypatch: pytest.MonkeyPatch) -> None:
    measured = []

    def recorded(system: Untrained, *rest: Any) -> Ranks:
        measured.append(system)
        return evaluate(system, *rest)

    monkeypatch.setattr("alterrec.analyses.audit.evaluate", recorded)
    found = alterrec.audit(MIXED)
    # Beside the systems of the catalogue: the last item alone, texts, and texts added to item-kNN.
    assert len(measured) == len(found.by_seen) == len(UNTRAINED) + 3
    assert all(set(system.scales) == {"score"} for system in measured)


GAIN, NONE = Difference(0.01, 0.004, 0.016, 0.001), Difference(0.001, -0.004, 0.006, 0.7)


@pytest.mark.parametrize(
    ("changes", "answer", "says"),
    [
        (
            {"gain": GAIN},
            "yes",
            r"Yes\. Adding text to item-kNN, without any training, changes NDCG@20 by \+1\.0 points "
            r"\[\+0\.4, \+1\.6\]",
        ),
        (
            {"cold": 0.1, "cold_with_text": 0.1, "cold_found": 0.3},
            "yes",
            "for items that do not occur in training",
        ),
        # Text must find cold targets better than popularity finds targets in general.
        ({"cold": 0.1, "cold_with_text": 0.1, "cold_found": 0.05}, "perhaps", "network may do better"),
        ({"items_with_text": 0.3}, "no", r"Hardly\. Only 30\.0% of the items have a text"),
        ({"text_alone": 0.035}, "no", r"no sign of it\. .* would reach 23\.5% instead of 20\.0%"),
        # An interval this wide does not exclude a gain of one point.
        (
            {"text_alone": 0.035, "gain": Difference(0.005, -0.001, 0.011, 0.1)},
            "perhaps",
            "network may do better",
        ),
        ({}, "perhaps", "plain sum shows no gain"),
    ],
)
def test_whether_text_can_help(changes: dict[str, float], answer: str, says: str) -> None:
    facts = {"items_with_text": 1.0, "both": 0.1, "text_alone": 0.08, "counted_alone": 0.1}
    facts |= {"popular_alone": 0.03, "cold": 0.0, "cold_with_text": 0.0, "cold_found": 0.0, "weight": 0.1}
    text = TextBenefit(**{"gain": NONE, **facts, **changes})  # type: ignore[arg-type]
    reach = {
        "popularity": {"hits@20": 0.05},
        "item-kNN": {"hits@20": 0.2},
        "text neighbours": {"hits@20": 0.18},
    }
    found, said = can_text_help(text, reach)
    assert found == answer
    assert said.startswith("Can text help here? ")
    assert re.search(says, said)


def test_without_text_the_answer_is_no() -> None:
    assert can_text_help(None, {}) == ("no", "Can text help here? No: the data has no text.")


def spoil(shop: Path) -> None:
    """A copy of a training session in test, two items of one text, a test session before training."""
    train = pl.read_csv(shop / "train.csv")
    long = train.group_by("session_id", maintain_order=True).len().filter(pl.col("len") == 4)["session_id"][0]
    copied = train.filter(pl.col("session_id") == long).with_columns(session_id=pl.lit("copied"))
    early = copied.head(2).reverse().with_columns(session_id=pl.lit("early"), timestamp=pl.Series([1, 2]))
    copied = copied.with_columns(timestamp=pl.col("timestamp") + 10**6)
    pl.concat([pl.read_csv(shop / "test.csv"), copied, early]).write_csv(shop / "test.csv")
    items = pl.read_csv(shop / "items.csv")
    same = pl.when(pl.col("item_id") == "i1").then(pl.lit(items["title"][0])).otherwise(pl.col("title"))
    items.with_columns(title=same).write_csv(shop / "items.csv")


def test_planted_faults_are_found(shop: Path, tmp_path: Path, alterrec: Callable[..., Outcome]) -> None:
    spoil(shop)
    code, out, _ = alterrec("audit", "--data", shop, "--out", tmp_path / "out")
    assert code == 0
    assert re.search("copies of train in test +bad ", out)
    assert "for example copied" in out
    assert re.search("order in time +bad ", out)
    assert "1 test sessions (4.5%) end before training does" in out
    assert "2 items have the same text as another item" in out
    assert "Can text help here?" in out
    page = (tmp_path / "out" / "report.html").read_text("utf-8")
    assert page.count("<svg") == 6
    assert page.index("What these data are good for") < page.index("Repair the data: copies of train in test")
    assert page.index("Repair the data: order in time") < page.index("Checks of the data")
    assert '<span class="label" style="--label: var(--bad)">bad</span>' in page
    found = pl.read_csv(tmp_path / "out" / "checks.csv")
    assert found.columns == ["grade", "check", "says"]
    assert found.filter(pl.col("grade") == "bad")["check"].sort().to_list()[:2] == [
        "copies of train in test",
        "order in time",
    ]


def test_the_command_as_json(shop: Path, tmp_path: Path, alterrec: Callable[..., Outcome]) -> None:
    code, out, err = alterrec("audit", "--data", shop, "--json")
    assert code == 0
    assert "measuring itemknn" in err
    numbers = json.loads(out)
    assert numbers["can_text_help"]["answer"] in ("yes", "perhaps", "no")
    assert {each["grade"] for each in numbers["findings"]} <= {"fine", "look", "bad"}
    # Sessions of the shop stay within one kind of item, which its titles name.
    assert numbers["reach"]["text neighbours"]["ndcg@20"] > numbers["reach"]["popularity"]["ndcg@20"]
    assert numbers["text"]["ceiling"] == pytest.approx(
        sum(numbers["text"][name] for name in ("both", "text_alone", "counted_alone"))
    )
    assert not (tmp_path / "audit-shop").exists()
    code, _, err = alterrec("audit", "--data", tmp_path / "nothing")
    assert code == 2


def test_the_default_folder_of_the_page(tmp_path: Path, alterrec: Callable[..., Outcome], shop: Path) -> None:
    code, out, _ = alterrec("audit", "--data", shop)
    assert code == 0
    assert out.splitlines()[-1] == "report: audit-shop/report.html"
    assert (tmp_path / "audit-shop" / "audit.md").exists()


def test_an_audit_of_data_without_texts(shop: Path) -> None:
    pl.read_csv(shop / "items.csv").select("item_id").write_csv(shop / "items.csv")
    found = alterrec.audit(load_dataset(shop))
    assert isinstance(found, Audit)
    assert found.text is None
    assert found.answer[0] == "no"
    assert "text neighbours" not in str(found)
    assert list(found.draw()) == ["reach", "distributions"]


# Times inside sessions.

DAY = 86_400
START = 1_700_006_400  # midnight


def timed(times: Sequence[Sequence[int]], items: Sequence[Sequence[int]] | None = None) -> Dataset:
    """A data set whose training sessions have these times, and the test sessions of ``TEST`` none of note."""
    items = items or [range(len(own)) for own in times]
    rows = np.repeat(np.arange(len(times)), [len(own) for own in times])
    train = SessionStore.from_arrays(
        rows, np.concatenate(items), timestamps=np.concatenate(times) + START, num_items=ITEMS
    )
    empty = SessionStore.from_arrays([], [], timestamps=[], num_items=ITEMS)
    return Dataset(
        "made", train, empty, empty, Vocabulary(tuple(f"i{n}" for n in range(ITEMS))), None, None, {}
    )


def time_severities(found: Dataset) -> dict[str, str]:
    times = session_times(found)
    assert times is not None
    return {each.check.split()[0]: each.severity for each in time_findings(times)}


def test_equal_times_by_hand() -> None:
    # Five steps, of which two are ties; the last step of two of the three longer sessions is one.
    found = session_times(timed([[0, 5, 5], [7], [3, 3], [1, 2, 4]]))
    assert found is not None
    assert (found.steps, found.tied_steps, found.sessions, found.tied_targets) == (5, 2, 3, 2)
    text = next(time_findings(found)).text
    assert text.startswith("40.0% of the neighbouring events of a session have equal times")
    assert "last two events of 66.7% of the sessions" in text
    assert "the order of the rows decides, also about which item is the target" in text
    assert time_severities(timed([[0, 5, 5], [7], [3, 3], [1, 2, 4]]))["equal"] == "bad"
    assert time_severities(timed([[0, 5, 5, 9]] + [[0, 1, 2, 3]] * 20))["equal"] == "look"
    assert time_severities(timed([[0, 5, 6]]))["equal"] == "fine"


def test_days_without_a_time_of_day() -> None:
    found = session_times(timed([[0, DAY, 2 * DAY]]))
    assert found is not None
    assert (found.days_only, found.tied_steps) == (True, 0)
    assert time_severities(timed([[0, DAY, 2 * DAY]]))["equal"] == "look"
    assert "days without a time of day" in next(time_findings(found)).text
    # Without a unit, nobody knows what a day is.
    small = timed([[-START, 5 - START]])
    unknown = session_times(small)
    assert unknown is not None
    assert (unknown.days_only, unknown.seconds) == (None, {})
    assert "length" not in time_severities(small)


def test_doubled_rows_by_hand() -> None:
    # The first session has every event twice, the second one of three, the third a repeat at another time.
    times = [[0, 0, 5, 5], [0, 0, 1], [0, 9]]
    items = [[1, 1, 2, 2], [3, 3, 4], [5, 5]]
    found = session_times(timed(times, items))
    assert found is not None
    assert (found.events, found.doubled, found.doubled_sessions) == (9, 3, 1)
    texts = {each.check: each.text for each in time_findings(found)}
    assert texts["doubled rows"].startswith("3 of 9 events (33.3%) repeat an earlier one")
    assert time_severities(timed(times, items))["doubled"] == "bad"
    assert time_severities(timed([[0, 0, *range(1, 12)]], [[0, 0, *range(1, 12)]]))["doubled"] == "look"
    assert time_severities(timed([[0, 0]]))["doubled"] == "fine"


def test_lengths_of_sessions_by_hand() -> None:
    hour = 3600
    found = session_times(timed([[0, hour], [0, 2 * hour], [0, 1, 3 * hour], [0, 10 * DAY], [8]]))
    assert found is not None
    assert found.seconds["half"] == 2.5 * hour
    assert found.seconds["all"] == 10 * DAY
    assert found.over_a_day == 0.25
    text = [each.text for each in time_findings(found)][-1]
    assert "half within 2 h 30 min" in text
    assert "all within 10 days; 25.0% are longer than a day" in text
    assert time_severities(timed([[0, hour], [0, 10 * DAY]]))["length"] == "look"
    assert time_severities(timed([[0, 10 * DAY]]))["length"] == "bad"
    assert time_severities(timed([[0, hour]]))["length"] == "fine"
    # The unit does not matter.
    milliseconds = timed([[999 * START, 999 * START + hour * 1000]])
    assert session_times(milliseconds).seconds["all"] == hour  # type: ignore[union-attr]


def test_without_times_there_is_no_check_of_them() -> None:
    assert session_times(data(TRAIN, VALID, TEST, (None, None, None))) is None
    assert "doubled rows" not in severities(data(TRAIN, VALID, TEST, (None, None, None)))
    assert severities(data(TRAIN, VALID, TEST))["equal times in sessions"] == "fine"

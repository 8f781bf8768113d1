"""The study of a data set itself: no runs, its page by hand, its command line."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path

import pytest
from conftest import Outcome
from study_folder import write_study
from test_report import Outline

from alterrec.data.statistics import PopularityStatistics, Split, Statistics, TargetStatistics, Texts
from alterrec.report.figures.distributions import bin_width, length_shares
from alterrec.studies.dataset import caveats, findings
from alterrec.studies.study import load_study

Command = Callable[..., Outcome]
DAY = 86_400


def split(sessions: int, first: int | None, last: int | None) -> Split:
    """Sessions of two and four items, half and half."""
    return Split(
        sessions=sessions,
        interactions=3 * sessions,
        items=5,
        mean_length=3.0,
        median_length=3.0,
        max_length=4,
        lengths={2: sessions // 2, 4: sessions - sessions // 2},
        first_time=first,
        last_time=last,
        last=TargetStatistics(sessions, 0.25, 0.1),
        every=TargetStatistics(2 * sessions, 0.5, 0.05),
    )


def made(start: int | None = 1_700_000_000, text: bool = True) -> Statistics:
    times = [None] * 4 if start is None else [start, start + 9 * DAY, start + 10 * DAY, start + 11 * DAY]
    fields = {"title": Texts(0.9, 2.0), "brand": Texts(0.5, 1.0)}
    return Statistics(
        users=7,
        items=200,
        cold_items=3,
        splits={
            "train": split(1000, times[0], times[1]),
            "valid": split(50, times[1], times[2]),
            "test": split(100, times[2], times[3]),
        },
        text=Texts(0.95, 2.5) if text else None,
        fields=fields if text else {},
        popularity=PopularityStatistics({0.01: 0.2, 0.1: 0.6}, [(1, 90), (2, 40), (20, 3)]),
    )


def test_findings_about_the_data() -> None:
    assert findings(made()) == [
        "200 items, 1,150 sessions of 7 users and 3,450 interactions, from 2023-11-14 to 2023-11-25 "
        "(12 days).",
        "The length of training sessions has median 3, mean 3.0 and maximum 4.",
        "Of the 100 test targets (the last item of each session), 25.0% repeat an item of their session and "
        "10.0% are cold, which means that they never occur in training.",
        "In training or validation, last items repeat an item of their session, so data.exclude_seen = auto "
        "gives the items of a session the counted probability of a repeat.",
        "Of the training interactions, 20.0% belong to the most popular 1% of items and 60.0% belong to the "
        "most popular 10% of items.",
        "Texts are made of title and brand and have 2.5 words on average; 10 items have no text.",
    ]
    assert findings(made(start=5, text=False))[0].endswith("3,450 interactions.")
    assert findings(made(text=False))[-1].startswith("The items have no texts")


@pytest.mark.parametrize(
    ("last", "every", "said"),
    [
        ((0.0, 0.01), 0.2, "last items repeat an item of their session, so data.exclude_seen = auto gives"),
        ((0.01, 0.0), 0.2, "last items repeat an item of their session, so data.exclude_seen = auto gives"),
        ((0.0, 0.0), 0.2, "(20.0% of all training items except the first of each session), but the last"),
        ((0.0, 0.0), 0.0, "No item occurs twice in a training or validation session, so data.exclude_seen"),
    ],
)
def test_the_rule_that_follows_from_repeats(last: tuple[float, float], every: float, said: str) -> None:
    found = made()
    shares = zip(("train", "valid"), last, strict=True)
    splits = {
        name: replace(
            found.splits[name],
            last=TargetStatistics(10, share, 0.0),
            every=TargetStatistics(20, every, 0.0),
        )
        for name, share in shares
    }
    # Test targets repeat in every case: the rule is not chosen by them.
    line = findings(replace(found, splits=found.splits | splits))[3]
    assert said in line
    assert ("excludes the items of a session from its candidates" in line) == (last == (0.0, 0.0))


def test_what_limits_a_comparison() -> None:
    # 1.96 * sqrt(0.25 / 100) = 0.098.
    (few,) = caveats(made())
    assert "100 test targets, a hit rate near one half is accurate to ±9.8 percentage points" in few
    assert "counters rather than dates" in caveats(made(start=5))[1]
    assert "no timestamps" in caveats(made(start=None))[1]


def test_bars_of_lengths_are_equally_wide_and_have_nearly_all_sessions() -> None:
    lengths = {1: 500, 6: 300, 41: 195, 900: 5}
    assert bin_width(lengths) == 3
    shares = length_shares(lengths, 3)
    # Bins end at 3, 6, ..., 42, ..., 60.
    assert {3 * place: share for place, share in enumerate(shares, 1) if share} == {3: 0.5, 6: 0.3, 42: 0.195}
    assert len(shares) == 20
    assert bin_width({}) == 1


def test_the_page_of_a_data_set(tmp_path: Path) -> None:
    write_study(tmp_path, [], study="dataset", statistics=json.loads(json.dumps(asdict(made()))))
    shown = load_study(tmp_path).presentation()
    shown.write(tmp_path)
    text = (tmp_path / "report.html").read_text("utf-8")
    page = Outline(text)
    assert page.open == []
    assert {load[:1] for load in page.loads} <= {"#"}
    assert "<script" not in text
    assert page.headings == [
        "Statistics of online retail",
        "Caveats",
        "Sessions (Table 3)",
        "Lengths and popularity",
        "Targets",
        "Popularity",
        "Texts",
        "How to reproduce",
    ]
    with (tmp_path / "table3.csv").open(newline="") as file:
        (line,) = csv.DictReader(file)
    assert list(line.values()) == ["online retail", "7", "200", "1000", "50", "100"]
    with (tmp_path / "targets.csv").open(newline="") as file:
        assert [row["repeated"] for row in csv.DictReader(file)] == ["0.25", "0.5"] * 3
    assert "| top 10% of items | 60.0% |" in (tmp_path / "dataset.md").read_text("utf-8")
    assert "| all fields | 95.0% | 2.5 |" in (tmp_path / "dataset.md").read_text("utf-8")
    assert (tmp_path / "figures" / "distributions.png").read_bytes().startswith(b"\x89PNG")


def test_a_folder_is_described_without_training(alterrec: Command, shop: Path, tmp_path: Path) -> None:
    code, out, err = alterrec("study", "dataset", "--data", shop)
    assert (code, err) == (0, "")
    assert "30 items, 150 sessions and" in out
    folder = tmp_path / "studies" / "dataset-shop"
    assert out.splitlines()[-1] == str(Path("studies") / "dataset-shop")
    assert (folder / "report.html").exists()
    assert not (tmp_path / "studies" / "study-runs").exists()
    facts = json.loads((folder / "study.json").read_text("utf-8"))
    assert (facts["rows"], facts["complete"], facts["data"]["test_sessions"]) == ([], True, 20)
    assert facts["statistics"]["splits"]["test"]["sessions"] == 20


def test_the_list_shows_that_a_study_has_no_systems(alterrec: Command) -> None:
    listed = {
        row["name"]: row["systems"]
        for row in json.loads(alterrec("list", "studies", "--json").out)["studies"]
    }
    assert (listed["dataset"], listed["table1"]) == ("none", "all")


@pytest.mark.parametrize("asked", [["--only=sasrec"], ["--seeds=2"], ["--search"]])
def test_what_is_for_runs_is_refused(alterrec: Command, asked: list[str], tmp_path: Path) -> None:
    code, out, err = alterrec("study", "dataset", *asked)
    assert (code, out) == (2, "")
    assert "dataset trains nothing" in err
    assert list(tmp_path.iterdir()) == []

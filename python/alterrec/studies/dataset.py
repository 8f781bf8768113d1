"""The study dataset: statistics of the data, without any run (Table 3 of the paper)."""

from __future__ import annotations

import math
from dataclasses import replace

from alterrec.data.dataset import Dataset
from alterrec.data.statistics import Statistics, TargetStatistics, as_date, statistics
from alterrec.report.figures.distributions import CAPTION, PANELS, distributions
from alterrec.report.presentation import DataTable, Plot, Presentation, Section
from alterrec.report.tables import NORMAL_95, Table, count, listed, percent
from alterrec.studies.plan import Study
from alterrec.studies.queue import RunQueue
from alterrec.study_records import StudyResult

SPLITS = {"train": "training", "valid": "validation", "test": "test"}
PLOT_NOTE = (
    "All bars of lengths are equally wide. Items by popularity are on logarithmic axes; the steeper the line "
    "falls, the fewer items have most of the interactions."
)
TARGETS_NOTE = (
    "A target is an item to be predicted: the last item of each session, or every item but the first. A "
    "target is repeated if it occurs earlier in its session; where the items of the session are not "
    "candidates, it cannot be found. A target is cold if it has no interaction in training; only a system "
    "that reads text can find it."
)
TEXTS_NOTE = "Words are means over the items that have the field."


def report(study: StudyResult) -> Presentation:
    """Report sizes, lengths, targets, popularity and texts of the data.

    Raises:
        ValueError: the study has no statistics.
    """
    found = study.statistics
    if found is None:
        raise ValueError(f"study {study.study!r} has no statistics of its data; run the study dataset again")
    sessions = {"table3": table3(study, found), "sessions": _sessions(found)}
    texts = [Section("Texts", [TEXTS_NOTE], tables={"texts": _texts(found)})] if found.text else []
    drawn = Plot.of(distributions, PANELS, CAPTION, of=found)
    return Presentation(
        name="dataset",
        title=f"Statistics of {study.data.name}",
        meta=f"fingerprint {study.data.fingerprint}",
        findings=findings(found),
        caveats=caveats(found),
        sections=[
            Section("Sessions (Table 3)", tables=sessions),
            Section("Lengths and popularity", [PLOT_NOTE], {"distributions": drawn}),
            Section("Targets", [TARGETS_NOTE], tables={"targets": _targets(found)}),
            Section("Popularity", tables={"popularity": _popularity(found)}),
            *texts,
        ],
        command=study.command,
    )


def findings(found: Statistics) -> list[str]:
    """Summarise size, lengths, targets, popularity and texts in one sentence each."""
    splits = found.splits.values()
    users = "" if found.users is None else f" of {count(found.users)} users"
    sessions = sum(split.sessions for split in splits)
    interactions = sum(split.interactions for split in splits)
    train, test = found.splits["train"], found.splits["test"]
    top = [
        f"{percent(has)} belong to the most popular {_whole(of)} of items"
        for of, has in found.popularity.top.items()
    ]
    return [
        f"{count(found.items)} items, {count(sessions)} sessions{users} and {count(interactions)} "
        f"interactions{_period(found)}.",
        f"The length of training sessions has median {train.median_length:g}, mean {train.mean_length:.1f} "
        f"and maximum {count(train.max_length)}.",
        f"Of the {count(test.last.count)} test targets (the last item of each session), "
        f"{percent(test.last.repeated)} repeat an item of their session and {percent(test.last.cold)} are "
        "cold, which means that they never occur in training.",
        _repeat_finding(found),
        f"Of the training interactions, {listed(top)}.",
        _text_finding(found),
    ]


def _repeat_finding(found: Statistics) -> str:
    """Tell what ``data.exclude_seen = auto`` does on these data; it looks at training and validation."""
    splits = [found.splits["train"], found.splits["valid"]]
    candidates = "data.exclude_seen = auto gives the items of a session the counted probability of a repeat"
    excluded = "data.exclude_seen = auto excludes the items of a session from its candidates"
    if any(split.last.repeated for split in splits):
        return f"In training or validation, last items repeat an item of their session, so {candidates}."
    if any(split.every.repeated for split in splits):
        return (
            f"Items repeat inside sessions ({percent(splits[0].every.repeated)} of all training items except "
            "the first of each session), but the last item of a training or validation session never repeats "
            f"an earlier one. Therefore, {excluded}; only with data.targets = every, it gives them the "
            "counted probability of a repeat."
        )
    return f"No item occurs twice in a training or validation session, so {excluded}."


def caveats(found: Statistics) -> list[str]:
    """Return what limits comparisons on these data."""
    test = found.splits["test"]
    most = 100 * NORMAL_95 * 0.5 / math.sqrt(max(test.last.count, 1))
    lines = [
        f"With {count(test.last.count)} test targets, a hit rate near one half is accurate to ±{most:.1f} "
        "percentage points (95%); a small one is more accurate, and so is the difference of two systems that "
        "find mostly the same targets. Studies report intervals of differences."
    ]
    if test.first_time is None:
        lines.append(
            "There are no timestamps: sessions are in the order of the files, and the split may not be by "
            "time."
        )
    elif as_date(test.first_time) is None:
        lines.append("Timestamps are counters rather than dates, so the period is unknown.")
    return lines


def table3(study: StudyResult, found: Statistics) -> DataTable:
    """Return the row of Table 3 of the paper."""
    sessions = {f"{split} sessions": found.splits[split].sessions for split in SPLITS}
    numbers = {"users": found.users, "items": found.items, **sessions}
    cells = tuple("-" if number is None else count(number) for number in numbers.values())
    columns = ("data set", "users", "items", *(f"{name} sessions" for name in SPLITS.values()))
    records = [{"dataset": study.data.name, **numbers}]
    return DataTable(Table(columns, ((study.data.name, *cells),)), records)


def _sessions(found: Statistics) -> DataTable:
    rows, records = [], []
    names = ("sessions", "interactions", "items", "mean_length", "median_length", "max_length")
    for split, each in found.splits.items():
        sizes = map(count, (each.sessions, each.interactions, each.items))
        lengths = (f"{each.mean_length:.2f}", f"{each.median_length:g}", count(each.max_length))
        rows.append((SPLITS[split], *sizes, *lengths, _when(each.first_time), _when(each.last_time)))
        numbers = {name: getattr(each, name) for name in (*names, "first_time", "last_time")}
        records.append({"split": split, **numbers})
    columns = ("split", "sessions", "interactions", "items", "mean length", "median", "longest", "from", "to")
    return DataTable(Table(columns, tuple(rows)), records)


def _targets(found: Statistics) -> DataTable:
    kinds = {"last": "last item", "every": "every item"}
    rows, records = [], []
    for split, of_split in found.splits.items():
        for kind, name in kinds.items():
            each: TargetStatistics = getattr(of_split, kind)
            shares = (percent(each.repeated), percent(each.cold))
            rows.append((f"{SPLITS[split]}, {name}", count(each.count), *shares))
            numbers = {"count": each.count, "repeated": each.repeated, "cold": each.cold}
            records.append({"split": split, "targets": kind, **numbers})
    return DataTable(Table(("targets", "number", "repeated", "cold"), tuple(rows)), records)


def _popularity(found: Statistics) -> DataTable:
    rows = [(f"top {_whole(of)} of items", percent(has)) for of, has in found.popularity.top.items()]
    rows.append(("items without training interactions", f"{count(found.cold_items)} of {count(found.items)}"))
    return DataTable(Table(("items by popularity", "training interactions"), tuple(rows)))


def _texts(found: Statistics) -> DataTable:
    fields = dict(found.fields)
    if found.text and len(fields) > 1:
        fields["all fields"] = found.text
    rows = tuple((name, percent(each.share), f"{each.words:.1f}") for name, each in fields.items())
    return DataTable(Table(("field", "items with it", "words"), rows))


def _text_finding(found: Statistics) -> str:
    if found.text is None:
        return "The items have no texts; systems that read text need text vectors instead."
    without = round((1 - found.text.share) * found.items)
    missing = f"{count(without)} items have no text" if without else "every item has a text"
    fields = listed(list(found.fields))
    return f"Texts are made of {fields} and have {found.text.words:.1f} words on average; {missing}."


def _period(found: Statistics) -> str:
    both = [time for each in found.splits.values() for time in (each.first_time, each.last_time)]
    times = [time for time in both if time is not None]
    first, last = (as_date(pick(times)) if times else None for pick in (min, max))
    if first is None or last is None:
        return ""
    return f", from {first:%Y-%m-%d} to {last:%Y-%m-%d} ({count((last - first).days + 1)} days)"


def _when(time: int | None) -> str:
    if time is None:
        return "-"
    date = as_date(time)
    return str(time) if date is None else f"{date:%Y-%m-%d}"


def _whole(share: float) -> str:
    return f"{100 * share:g}%"


def add_statistics(result: StudyResult, _: RunQueue, data: Dataset) -> StudyResult:
    """Add the statistics of the data to the result."""
    return replace(result, statistics=statistics(data))


STUDY = Study(
    name="dataset",
    summary="sessions, targets, popularity and texts of the data, without training (Table 3)",
    systems=(),
    report=report,
    extend=add_statistics,
)

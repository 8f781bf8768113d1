"""Table 3 of the paper: a data set in numbers, as sentences, tables and a picture; nothing is trained."""

from __future__ import annotations

import math

from alterrec.data.statistics import Split, Statistics, TargetStatistics, as_date
from alterrec.report.figures.distributions import CAPTION, PANELS, distributions
from alterrec.report.presentation import DataTable, Plot, Presentation, Section
from alterrec.report.tables import Table, count, listed, percent
from alterrec.results import StudyResult

SPLITS = {"train": "train", "valid": "validation", "test": "test"}
PICTURE_SAYS = (
    "Left: grey bars are train, orange dots validation, green triangles test. Right: both axes are "
    "logarithmic; the steeper the line falls, the fewer items have most of the interactions."
)
TARGETS_SAY = (
    "A target is an item to be predicted: the last of each session, or every one but the first. Repeated: "
    "its session has had it before, so that a system which leaves such items out cannot find it. Cold: it "
    "has no interaction in train, so that its text alone can lead to it."
)
TEXTS_SAY = "Words are means over the items that have the field."


def dataset(study: StudyResult) -> Presentation:
    """What the data are made of.

    Raises:
        ValueError: the study has no statistics.
    """
    found = study.statistics
    if found is None:
        raise ValueError(f"study {study.study!r} has no statistics; allowed: a study of the data themselves")
    texts = [Section("Texts", [TEXTS_SAY], tables={"texts": _texts(found)})] if found.text else []
    drawn = Plot.of(distributions, PANELS, CAPTION, of=found)
    return Presentation(
        name="dataset",
        title=f"{study.data.name} in numbers",
        meta=f"fingerprint {study.data.fingerprint}",
        findings=findings(found),
        caveats=caveats(found),
        sections=[
            Section(
                "Sessions (Table 3)", tables={"table3": table3(study, found), "sessions": _sessions(found)}
            ),
            Section(
                "Lengths and popularity",
                [PICTURE_SAYS],
                {"distributions": drawn},
            ),
            Section("Targets", [TARGETS_SAY], tables={"targets": _targets(found)}),
            Section("Popularity", tables={"popularity": _popularity(found)}),
            *texts,
        ],
        command=study.command,
    )


def findings(found: Statistics) -> list[str]:
    """Size, period, lengths, targets, concentration and texts, a sentence each."""
    splits = found.splits.values()
    users = "" if found.users is None else f" of {count(found.users)} users"
    sessions = sum(split.sessions for split in splits)
    interactions = sum(split.interactions for split in splits)
    train, test = found.splits["train"], found.splits["test"]
    top = [
        f"the most popular {_whole(of)} of items have {percent(has)}"
        for of, has in found.popularity.top.items()
    ]
    return [
        f"{count(found.items)} items, {count(sessions)} sessions{users} and {count(interactions)} "
        f"interactions{_period(found)}.",
        f"A session of train has {train.median_length:g} items in the median, {train.mean_length:.1f} in "
        f"the mean and {count(train.max_length)} at most.",
        f"Of {count(test.last.count)} test targets, the last item of each session, "
        f"{percent(test.last.repeated)} repeat an item of their session and {percent(test.last.cold)} are "
        "cold: never seen in train.",
        f"Of the interactions in train, {listed(top)}.",
        _text_finding(found),
    ]


def caveats(found: Statistics) -> list[str]:
    """What limits any comparison on these data."""
    test = found.splits["test"]
    most = 100 * 1.96 * 0.5 / math.sqrt(max(test.last.count, 1))
    said = [
        f"{count(test.last.count)} test targets: a share of hits near one half is known to ±{most:.1f} "
        "percentage points (95%), a small share more closely. So is the difference of two systems that find "
        "mostly the same targets; a study gives its interval."
    ]
    if test.first_time is None:
        said.append(
            "No timestamps: sessions are in the order of the files, and the split may not be by time."
        )
    elif as_date(test.first_time) is None:
        said.append("Timestamps are counters rather than dates, so the period is not known.")
    return said


def table3(study: StudyResult, found: Statistics) -> DataTable:
    """The row of the paper's Table 3."""
    sessions = {f"{split} sessions": found.splits[split].sessions for split in SPLITS}
    numbers = {"users": found.users, "items": found.items, **sessions}
    cells = tuple("-" if number is None else count(number) for number in numbers.values())
    table = Table(
        ("data set", "users", "items", *(f"{name} sessions" for name in SPLITS.values())),
        ((study.data.name, *cells),),
    )
    return DataTable(table, [{"dataset": study.data.name, **numbers}])


def _sessions(found: Statistics) -> DataTable:
    rows, records = [], []
    for split, each in found.splits.items():
        dates = [_when(time) for time in (each.first_time, each.last_time)]
        rows.append(
            (
                SPLITS[split],
                *map(count, (each.sessions, each.interactions, each.items)),
                f"{each.mean_length:.2f}",
                f"{each.median_length:g}",
                count(each.max_length),
                *dates,
            )
        )
        records.append({"split": split, **_plain(each)})
    columns = ("split", "sessions", "interactions", "items", "mean length", "median", "longest", "from", "to")
    return DataTable(Table(columns, tuple(rows)), records)


def _plain(split: Split) -> dict[str, float | None]:
    names = ("sessions", "interactions", "items", "mean_length", "median_length", "max_length")
    return {name: getattr(split, name) for name in (*names, "first_time", "last_time")}


def _targets(found: Statistics) -> DataTable:
    kinds = {"last": "last item", "every": "every item"}
    all_targets: list[tuple[str, str, TargetStatistics]] = [
        (split, kind, getattr(each, kind)) for split, each in found.splits.items() for kind in kinds
    ]
    rows = tuple(
        (f"{SPLITS[split]}, {kinds[kind]}", count(each.count), percent(each.repeated), percent(each.cold))
        for split, kind, each in all_targets
    )
    records = [
        {"split": split, "targets": kind, "count": each.count, "repeated": each.repeated, "cold": each.cold}
        for split, kind, each in all_targets
    ]
    return DataTable(Table(("targets", "number", "repeated", "cold"), rows), records)


def _popularity(found: Statistics) -> DataTable:
    rows = [(f"first {_whole(of)} of items", percent(has)) for of, has in found.popularity.top.items()]
    rows.append(("items that train does not have", f"{count(found.cold_items)} of {count(found.items)}"))
    return DataTable(Table(("most popular first", "interactions in train"), tuple(rows)))


def _texts(found: Statistics) -> DataTable:
    together = {"all fields": found.text} if found.text and len(found.fields) > 1 else {}
    fields = {**found.fields, **together}
    rows = tuple((name, percent(each.share), f"{each.words:.1f}") for name, each in fields.items())
    return DataTable(Table(("field", "items that have it", "words"), rows))


def _text_finding(found: Statistics) -> str:
    if found.text is None:
        return "The items have no texts, so that systems which read texts need vectors in their place."
    without = round((1 - found.text.share) * found.items)
    lacking = f"{count(without)} items have none" if without else "every item has one"
    return f"Texts have {found.text.words:.1f} words in the mean, of {listed(list(found.fields))}; {lacking}."


def _period(found: Statistics) -> str:
    times = [
        time
        for each in found.splits.values()
        for time in (each.first_time, each.last_time)
        if time is not None
    ]
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

"""What an audit says about the session's own items: how often targets repeat them, and which rule follows."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from alterrec.data.repeats import SeenItems, TargetKind
from alterrec.data.statistics import Statistics, TargetStatistics
from alterrec.report.presentation import DataTable, Section
from alterrec.report.seen_items import REPEATS_NOTE, TITLE
from alterrec.report.tables import Table, count, listed, percent

SPLITS = {"train": "train", "valid": "validation", "test": "test"}
KINDS: dict[TargetKind, str] = {"last": "last items", "every": "items at every position"}
# The rule auto looks at these splits; the test split must not decide how it is ranked.
COUNTED = ("train", "valid")
# The shares of two splits differ clearly if the larger is at least this many times the smaller, and the
# difference is more than this many standard errors.
RATIO, ERRORS = 1.5, 3.0
# The two kinds of targets differ clearly if their shares do by more than this.
KINDS_GAP = 0.1

NOTE = (
    "A target repeats an item of its session if the same item occurs earlier in the session. There are two "
    "kinds of targets: data.targets=last has the last item of each session, data.targets=every has each item "
    "except the first. The rule data.exclude_seen=auto looks at the targets of that kind in train and "
    "validation."
)
TABLES_NOTE = (
    "The tables by length and by distance count train and validation. Items before: the number of items in "
    "the session before the target. Places back: how many places before the target its item last occurred; "
    "1 is the item just before the target."
)


def auto_rule(found: Statistics, kind: TargetKind) -> SeenItems:
    """Return what ``data.exclude_seen=auto`` comes to for a kind of targets.

    The same as :func:`alterrec.data.repeats.seen_items`, from counts.
    """
    repeated = any(found.splits[split].targets(kind).repeated for split in COUNTED)
    return "repeats" if repeated else "excluded"


def repeats_check(found: Statistics) -> tuple[bool, str]:
    """Return whether a reader of results should know about repeated targets, and what was found."""
    warnings = list(_warnings(found))
    return bool(warnings), " ".join([*rule_sentences(found), *warnings])


def rule_sentences(found: Statistics) -> list[str]:
    """Return which rule follows for both kinds of targets, why, and what it means."""
    last, every = (auto_rule(found, kind) for kind in KINDS)
    if every == "excluded":
        return [
            "No item in train or validation repeats an earlier item of its session. For both kinds of "
            "targets, items of the session are therefore not candidates (data.exclude_seen=auto). None of "
            "them is the right answer there, so leaving them out costs nothing."
        ]
    inner = f"{_share(found, 'every')} of the {KINDS['every']} repeat an item of their session"
    if last == "excluded":
        return [
            f"No last item in train or validation repeats an item of its session, although {inner}. With "
            "data.targets=last, items of the session are therefore not candidates (data.exclude_seen=auto). "
            "None of them is the right answer there, so leaving them out costs nothing.",
            "With data.targets=every, they are candidates with the counted probability of a repeat.",
        ]
    return [
        f"{_share(found, 'last')} of the {KINDS['last']} in train and validation repeat an item of their "
        f"session, and {_share(found, 'every')} of the {KINDS['every']}. For both kinds of targets, items of "
        "the session are therefore candidates with the counted probability of a repeat "
        "(data.exclude_seen=auto)."
    ]


def _warnings(found: Statistics) -> Iterator[str]:
    """Yield what a reader should know before comparing results."""
    rules = {kind: auto_rule(found, kind) for kind in KINDS}
    last, every = (found.splits["train"].targets(kind).repeated for kind in KINDS)
    if rules["last"] != rules["every"]:
        yield "So the choice of data.targets decides whether a system may recommend items of the session."
    elif abs(last - every) > KINDS_GAP:
        yield (
            "The shares of the two kinds differ, so results with one value of data.targets say little about "
            "the other."
        )
    for kind, name in KINDS.items():
        train, valid, test = (each.targets(kind) for each in found.splits.values())
        if rules[kind] == "excluded" and test.repeated:
            yield (
                f"But test has repeats: {count(_repeated(test))} of its {count(test.count)} {name} "
                f"({percent(test.repeated)}). With data.targets={kind}, such a target counts as not found."
            )
        elif _differ(train, valid) or _differ(train, test):
            shares = [
                f"{percent(each.repeated)} in {SPLITS[split]}"
                for split, each in zip(found.splits, (train, valid, test), strict=True)
            ]
            yield f"The share of repeats among the {name} changes between the splits: {listed(shares)}."


def _differ(first: TargetStatistics, second: TargetStatistics) -> bool:
    """Whether the shares of repeated targets of two splits differ clearly."""
    if not (first.count and second.count):
        return False
    low, high = sorted((first.repeated, second.repeated))
    both = (_repeated(first) + _repeated(second)) / (first.count + second.count)
    error = math.sqrt(both * (1 - both) * (1 / first.count + 1 / second.count))
    return high >= RATIO * low and high - low > ERRORS * error


def own_items_section(found: Statistics) -> Section:
    """Return the section of the page: rules, and tables by split, by prefix length and by distance."""
    tables = {"repeats": _by_split(found)}
    notes = [NOTE, " ".join(rule_sentences(found))]
    # Every audit ranks last items, so the probability is only explained if they have one.
    if auto_rule(found, "last") == "repeats":
        notes.append(REPEATS_NOTE)
    if auto_rule(found, "every") == "repeats":
        notes.append(TABLES_NOTE)
        tables |= {"repeats_by_length": _by_length(found), "repeats_by_distance": _by_distance(found)}
    return Section(TITLE, notes, tables=tables)


def _by_split(found: Statistics) -> DataTable:
    rows, records = [], []
    for split, of_split in found.splits.items():
        for kind, name in KINDS.items():
            each = of_split.targets(kind)
            repeated = _repeated(each)
            rows.append(
                (f"{SPLITS[split]}, {name}", count(each.count), count(repeated), percent(each.repeated))
            )
            numbers = {"count": each.count, "repeated": repeated, "share": each.repeated}
            records.append({"split": split, "targets": kind, **numbers})
    return DataTable(Table(("targets", "number", "repeat an item", "share"), tuple(rows)), records)


def _by_length(found: Statistics) -> DataTable:
    records = [
        {"split": split, "targets": kind, "length": name, "count": targets, "repeated": repeated}
        for split, of_split in found.splits.items()
        for kind in KINDS
        for name, (targets, repeated) in of_split.targets(kind).by_length.items()
    ]
    targets, repeats = (_summed(records, "length", key) for key in ("count", "repeated"))
    rows = []
    for name in dict.fromkeys(name for _, name in targets):
        pairs = [(targets[kind, name], repeats[kind, name]) for kind in KINDS]
        cells = [
            (count(number), percent(repeated / number if number else None)) for number, repeated in pairs
        ]
        rows.append((name, *cells[0], *cells[1]))
    columns = ("items before", "last items", "repeat an item", "every position", "repeat an item")
    return DataTable(Table(columns, tuple(rows), title="Targets by prefix length"), records)


def _by_distance(found: Statistics) -> DataTable:
    records = [
        {"split": split, "targets": kind, "distance": name, "repeated": repeated}
        for split, of_split in found.splits.items()
        for kind in KINDS
        for name, repeated in of_split.targets(kind).by_distance.items()
    ]
    repeats = _summed(records, "distance", "repeated")
    totals = {kind: sum(number for (own, _), number in repeats.items() if own == kind) for kind in KINDS}
    rows = [
        (name, *(percent(repeats[kind, name] / totals[kind] if totals[kind] else None) for kind in KINDS))
        for name in dict.fromkeys(name for _, name in repeats)
    ]
    columns = ("places back", "last items", "every position")
    return DataTable(Table(columns, tuple(rows), title="Repeated targets by distance"), records)


def _summed(records: Sequence[Mapping[str, Any]], bins: str, key: str) -> Counter[tuple[TargetKind, str]]:
    """Sum a number over train and validation, by kind of targets and bin."""
    total: Counter[tuple[TargetKind, str]] = Counter()
    for record in records:
        if record["split"] in COUNTED:
            total[record["targets"], record[bins]] += record[key]
    return total


def _share(found: Statistics, kind: TargetKind) -> str:
    """Return the share of repeated targets in train and validation together."""
    each = [found.splits[split].targets(kind) for split in COUNTED]
    return percent(sum(map(_repeated, each)) / max(sum(part.count for part in each), 1))


def _repeated(targets: TargetStatistics) -> int:
    return round(targets.repeated * targets.count)

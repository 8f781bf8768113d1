"""The preparation of data in plain Python: slow, obvious, one row at a time."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np

from alterrec.data.formats.source import Choices

Row = dict[str, Any]


class RefusedError(Exception):
    """The preparation refuses the data."""


class Event(NamedTuple):
    """A usable row."""

    item: str
    time: int | None
    row: int


@dataclass
class Session:
    """One session, whose first row is that of the session as it was made."""

    name: str
    user: str | None
    part: str
    events: list[Event]
    first_row: int = field(init=False)

    def __post_init__(self) -> None:
        self.first_row = min(event.row for event in self.events)

    def with_events(self, events: list[Event]) -> Session:
        session = Session(self.name, self.user, self.part, events)
        session.first_row = self.first_row
        return session

    @property
    def items(self) -> list[str]:
        return [event.item for event in self.events]

    @property
    def place(self) -> tuple[int, int]:
        """By this sessions are ordered."""
        return (self.events[-1].time or 0, self.first_row)


@dataclass
class Prepared:
    """What is expected."""

    catalogue: list[str]
    splits: dict[str, list[Session]]
    dropped: Counter[str]


def prepare_plainly(
    parts: Mapping[str, Sequence[Row]],
    items: Sequence[str] | None,
    choices: Choices,
    per_second: int,
    seed: int,
) -> Prepared:
    """Prepare rows, which all have the same columns."""
    rows, dropped = usable(parts, choices)
    sessions = sessions_of(rows, choices, per_second)
    if choices.collapse:
        sessions = [session.with_events(without_repeats(session.events)) for session in sessions]
    splits = split(sessions, list(parts), choices, per_second, seed)
    splits["train"] = filtered(splits["train"], choices)
    counts = Counter(item for session in splits["train"] for item in session.items)
    if (choices.fraction or 1) > 1:
        kept = max(1, round(len(splits["train"]) / choices.fraction))
        splits["train"] = sorted(splits["train"], key=lambda each: each.place)[-kept:]
    catalogue = catalogue_of(splits["train"], items, counts, choices, {row["item_id"] for row in rows})
    for name in ("valid", "test"):
        splits[name] = held_out(splits[name], set(catalogue), choices)
    for name, part in splits.items():
        if not any(len(session.events) >= 2 for session in part):
            raise RefusedError(f"{name} has no target")
    if len(catalogue) < 2:
        raise RefusedError("too few items")
    ordered = {name: sorted(splits[name], key=lambda each: each.place) for name in ("train", "valid", "test")}
    return Prepared(catalogue, named(ordered, choices), dropped)


def usable(parts: Mapping[str, Sequence[Row]], choices: Choices) -> tuple[list[Row], Counter[str]]:
    key = "session_id" if choices.sessions == "given" else "user_id"
    rows, dropped, kinds, number = [], Counter[str](), set(), 0
    for part, given in parts.items():
        for row in given:
            row = row | {"row": number, "part": part}
            number += 1
            reason = row.get("problem")
            for name in ("item_id", key):
                if reason is None and row[name] in (None, ""):
                    reason = f"an empty {name}"
            if reason is None and "timestamp" in row and row["timestamp"] is None:
                reason = "no time"
            if reason is not None:
                dropped[reason] += 1
                continue
            kinds.add(row.get("event"))
            if not choices.events or row["event"] in choices.events:
                rows.append(row)
    if not set(choices.events or ()) <= kinds or not rows:
        raise RefusedError("no rows of a kind")
    return rows, dropped


def sessions_of(rows: list[Row], choices: Choices, per_second: int) -> list[Session]:
    pooled = choices.split in ("time", "days", "last-item")
    groups: dict[tuple[str, str], list[Row]] = {}
    for row in rows:
        if choices.sessions == "given":
            groups.setdefault((row["part"], row["session_id"]), []).append(row)
        else:
            groups.setdefault(("" if pooled else row["part"], row["user_id"]), []).append(row)
    sessions = []
    for (part, name), group in groups.items():
        group.sort(key=lambda row: (row.get("timestamp") or 0, row["row"]))
        pieces: list[list[Row]] = []
        for row in group:
            if not pieces or ends_before(pieces[-1][-1], row, choices, per_second):
                pieces.append([])
            pieces[-1].append(row)
        for piece in pieces:
            users = {row["user_id"] for row in piece if row.get("user_id")}
            user = users.pop() if len(users) == 1 else None
            events = [Event(row["item_id"], row.get("timestamp"), row["row"]) for row in piece]
            sessions.append(Session(name, user, part, events))
    return sessions


def ends_before(last: Row, row: Row, choices: Choices, per_second: int) -> bool:
    if choices.sessions == "gap":
        return row["timestamp"] - last["timestamp"] > (choices.gap or 0) * per_second
    if choices.sessions == "day":
        return row["timestamp"] // (86400 * per_second) != last["timestamp"] // (86400 * per_second)
    return False


def without_repeats(events: list[Event]) -> list[Event]:
    return [event for place, event in enumerate(events) if not place or events[place - 1].item != event.item]


def cut(sessions: list[Session], shares: Mapping[str, float | None]) -> dict[str, list[Session]]:
    rest, parts = sorted(sessions, key=lambda each: each.place), {}
    counts = {name: max(1, round((share or 0) * len(rest))) for name, share in shares.items()}
    if sum(counts.values()) >= len(rest):
        raise RefusedError("too few sessions")
    for name in reversed(counts):
        parts[name], rest = rest[-counts[name] :], rest[: -counts[name]]
    return {"train": rest, **parts}


def split(
    sessions: list[Session], parts: list[str], choices: Choices, per_second: int, seed: int
) -> dict[str, list[Session]]:
    if choices.split == "time":
        return cut(sessions, {"valid": choices.valid, "test": choices.test})
    if choices.split == "days":
        end = max(session.place[0] for session in sessions)
        test = end - round((choices.test or 0) * 86400 * per_second)
        valid = test - round((choices.valid or 0) * 86400 * per_second)
        found: dict[str, list[Session]] = {"train": [], "valid": [], "test": []}
        for session in sessions:
            ended = session.place[0]
            found["test" if ended > test else "valid" if ended > valid else "train"].append(session)
        if not all(found.values()):
            raise RefusedError("an empty split")
        return found
    if choices.split == "last-item":
        found = {"train": [], "valid": [], "test": []}
        for session in sessions:
            if len(session.events) < 3:
                found["train"].append(session)
            else:
                found["train"].append(session.with_events(session.events[:-2]))
                found["valid"].append(session.with_events(session.events[:-1]))
                found["test"].append(session)
        if not found["test"]:
            raise RefusedError("no long session")
        return found
    if "interactions" in parts:
        raise RefusedError("no parts")
    found = {name: [each for each in sessions if each.part == name] for name in parts}
    wanted = {"valid": choices.valid, "test": choices.test}
    if choices.split == "seed":
        found["train"] += found.pop("valid", [])
        del wanted["valid"]
    missing = {name: share for name, share in wanted.items() if name not in found}
    if missing:
        found |= cut(found["train"], missing)
    if choices.split == "seed":
        ordered = sorted(found["train"], key=lambda each: each.place)
        count = max(1, round((choices.valid or 0) * len(ordered)))
        if count >= len(ordered):
            raise RefusedError("too few sessions")
        draws = np.random.Philox(key=seed).random_raw(len(ordered)).tolist()
        chosen = set(sorted(range(len(ordered)), key=lambda place: draws[place])[:count])
        found["valid"] = [each for place, each in enumerate(ordered) if place in chosen]
        found["train"] = [each for place, each in enumerate(ordered) if place not in chosen]
    return found


def filtered(sessions: list[Session], choices: Choices) -> list[Session]:
    while True:
        counts = Counter(item for session in sessions for item in session.items)
        kept = [
            [event for event in session.events if counts[event.item] >= (choices.min_item_count or 0)]
            for session in sessions
        ]
        after = tidied(sessions, kept, choices)
        if [each.events for each in after] == [each.events for each in sessions]:
            return after
        sessions = after


def tidied(sessions: list[Session], kept: list[list[Event]], choices: Choices) -> list[Session]:
    if choices.collapse:
        kept = [without_repeats(events) for events in kept]
    least = choices.min_session or 1
    return [s.with_events(events) for s, events in zip(sessions, kept, strict=True) if len(events) >= least]


def held_out(sessions: list[Session], catalogue: set[str], choices: Choices) -> list[Session]:
    kept = [[event for event in session.events if event.item in catalogue] for session in sessions]
    last = {id(session.events[-1]) for session in sessions}
    found = tidied(sessions, kept, choices)
    if choices.split == "last-item":
        found = [session for session in found if id(session.events[-1]) in last]
    return found


def catalogue_of(
    training: list[Session],
    items: Sequence[str] | None,
    counts: Counter[str],
    choices: Choices,
    known: set[str],
) -> list[str]:
    events = sorted((event for session in training for event in session.events), key=lambda each: each.row)
    trained = list(dict.fromkeys(event.item for event in events))
    if items is None:
        return trained
    given = [item for item in dict.fromkeys(items) if item]
    if not known & set(given):
        raise RefusedError("no item of the items file")
    kept = [item for item in given if counts[item] >= (choices.min_item_count or 0)]
    return kept + [item for item in trained if item not in given]


def named(splits: dict[str, list[Session]], choices: Choices) -> dict[str, list[Session]]:
    """Numbers are the names of sessions that were made; ids that several parts share are prefixed."""
    everything = [session for part in splits.values() for session in part]
    if choices.sessions in ("gap", "day"):
        for number, session in enumerate(everything):
            session.name = str(number)
    else:
        of_name: dict[str, set[str]] = {}
        for session in everything:
            of_name.setdefault(session.name, set()).add(session.part)
        if any(len(parts) > 1 for parts in of_name.values()):
            for session in everything:
                session.name = f"{session.part}/{session.name}"
    return splits

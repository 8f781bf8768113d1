"""What an audit checks: the record of each check, its severity, and the finding in words."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, NamedTuple

Severity = Literal["fine", "look", "bad"]
SEVERITIES: tuple[Severity, ...] = ("bad", "look", "fine")


@dataclass(frozen=True)
class Copies:
    """Sessions of a later split that also occur in an earlier one.

    Attributes:
        sessions, share: those with the same items in the same order.
        long: those of them with 4 items or more, which are hardly chance.
        named: session ids that occur in both splits.
        examples: ids of some copies, long ones first.
    """

    earlier: str
    later: str
    sessions: int
    share: float
    long: int
    named: int
    examples: list[str]


@dataclass(frozen=True)
class TimeOrder:
    """How many sessions of a split end, or begin, no later than training ends."""

    split: str
    ended: int
    begun: int
    ended_share: float


@dataclass(frozen=True)
class SessionTimes:
    """The times inside the sessions of all splits.

    Attributes:
        steps: pairs of neighbouring events of a session.
        tied_steps: those with equal times.
        sessions: sessions with two events or more.
        tied_targets: those whose last two events have equal times.
        days_only: whether no time has a time of day; None if the unit of the times is unknown.
        events: all events.
        doubled: events that repeat an earlier one: same session, item and time.
        doubled_sessions: sessions in which each event occurs at least twice.
        seconds: the length of sessions with two events or more, from the first to the last event, in seconds
            at some quantiles; empty if the unit is unknown.
        over_a_day: share of these sessions that are longer than a day.
    """

    steps: int
    tied_steps: int
    sessions: int
    tied_targets: int
    days_only: bool | None
    events: int
    doubled: int
    doubled_sessions: int
    seconds: dict[str, float]
    over_a_day: float


@dataclass(frozen=True)
class SimilarTexts:
    """Items whose texts a reader, or an encoder, cannot tell from each other.

    Attributes:
        identical: items with the same text as another item, letter by letter.
        same_words: items with the same words as another item, in any order, case and punctuation.
        one_word: items of at least 5 words that differ from another item in one word.
        targets: share of test targets (last items) among the identical ones; their text scores tie.
        groups: the largest groups of identical texts: text and number of items.
        near: examples of texts that differ in one word.
    """

    identical: int
    same_words: int
    one_word: int
    targets: float
    groups: list[tuple[str, int]]
    near: list[list[str]]


@dataclass(frozen=True)
class Drift:
    """Distance of the item distribution of a split from that of train.

    Attributes:
        distance: Jensen-Shannon distance, 0 to 1.
        expected: distance of as many random train sessions from the rest of train, that is without drift.
    """

    split: str
    distance: float
    expected: float


@dataclass(frozen=True)
class Checks:
    """All checks of a data set.

    ``order`` is empty and ``times`` None without timestamps, ``alike`` None without texts.
    """

    copies: list[Copies]
    order: list[TimeOrder]
    times: SessionTimes | None
    alike: SimilarTexts | None
    drift: list[Drift]


class Finding(NamedTuple):
    """The result of one check in words."""

    severity: Severity
    check: str
    text: str

    def record(self) -> dict[str, str]:
        """The finding for JSON and CSV."""
        return {"grade": self.severity, "check": self.check, "says": self.text}


def severity_of(value: float, look: float, bad: float) -> Severity:
    """The severity of a value with two limits, above which it is worth a look or bad."""
    return "bad" if value > bad else "look" if value > look else "fine"

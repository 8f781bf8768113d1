"""What was read, dropped and answered in another way than by the model: counts, with an example of each."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal, SupportsInt

from alterrec.report.tables import count

# Rows, or items of lists, that were read; sessions that were read; and why some are left out.
Reason = Literal[
    "rows",
    "sessions",
    "no session",
    "no item",
    "no time",
    "unknown item",
    "unknown last item",
    "several users",
    "unknown user",
    "popular",
    "left out",
    "fewer",
    "none",
]


@dataclass
class Tally:
    """Counts by reason, and the first example of each.

    Example:
        >>> tally = Tally()
        >>> tally.add("unknown item", 2, "boat")
        >>> tally.add("unknown item", 1, "ship")
        >>> tally.merge(tally)
        >>> tally.counts, tally.examples
        ({'unknown item': 6}, {'unknown item': 'boat'})
    """

    counts: dict[str, int] = field(default_factory=dict)
    examples: dict[str, str] = field(default_factory=dict)

    def __getitem__(self, reason: Reason) -> int:
        return self.counts.get(reason, 0)

    def add(self, reason: Reason, number: SupportsInt, example: str = "") -> None:
        """Count; a number of 0 adds nothing."""
        if int(number):
            self.counts[reason] = self[reason] + int(number)
            if example:
                self.examples.setdefault(reason, example)

    def merge(self, other: Tally) -> None:
        """Add the counts of another tally, which is of later rows."""
        for reason, number in [*other.counts.items()]:
            self.counts[reason] = self.counts.get(reason, 0) + number
        self.examples = other.examples | self.examples

    def sentences(self, name: str, unit: str, k: int, *, hint: str = "", no_user: str = "") -> list[str]:
        """Return a sentence for each count that the user has to know.

        Args:
            name: the file.
            unit: what ``rows`` are: ``rows`` or ``items``.
            k: wanted items of a session.
            hint: the likely reason why items are unknown.
            no_user: why users are unknown.

        Example:
            >>> Tally({"rows": 5, "unknown item": 1}).sentences("now.csv", "rows", 20)
            ['now.csv: dropped 1 of 5 rows with unknown items']
        """
        rows, sessions = count(self["rows"]), count(self["sessions"])
        dropped: dict[Reason, str] = {
            "no session": "rows with an empty session_id",
            "no item": f"{unit} with an empty item_id",
            "no time": "rows with no readable time",
            "unknown item": f"{unit} with unknown items{hint}",
        }
        if unit == "items":
            dropped |= {"no item": "items with an empty id", "unknown item": f"items as unknown{hint}"}
        found = [
            f"{name}: dropped {count(self[reason])} of {rows} {what}"
            for reason, what in dropped.items()
            if self[reason]
        ]
        answered: dict[Reason, str] = {
            "several users": "sessions with several users, which count as unknown",
            "unknown user": f"sessions of unknown users{no_user}",
            "popular": "sessions without a known item, which get the most popular items",
            "left out": "sessions without a known item, which get no items",
            "fewer": f"sessions with fewer than {k} items, as they have seen the others",
            "none": "sessions without an item, as they have seen all",
        }
        for reason, what in answered.items():
            if self[reason]:
                example = f", such as {self.examples[reason]!r}" if reason in self.examples else ""
                found.append(f"{name}: {what}: {count(self[reason])} of {sessions}{example}")
        return found

"""Sentences and tables about the items of a prefix (seen items) as candidates."""

from __future__ import annotations

from alterrec.data.repeats import SeenItems
from alterrec.results import DataSummary

RULES: dict[SeenItems, str] = {
    "kept": "Items already in the session are candidates",
    "excluded": "Items already in the session are not candidates, and a target that repeats one counts as "
    "not found",
    "repeats": "Items already in the session are candidates with the counted probability of a repeat",
}


def seen_sentence(data: DataSummary) -> str:
    """Return how the items of a prefix were ranked, as a sentence.

    Example:
        >>> seen_sentence(DataSummary("mine", "", 10, seen="kept", seen_rule="never"))
        'Items already in the session are candidates (data.exclude_seen = never).'
    """
    rule = f" (data.exclude_seen = {data.seen_rule})" if data.seen_rule else ""
    return f"{RULES[data.seen]}{rule}."

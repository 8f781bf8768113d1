"""Filters of sessions: repetitions that follow one another, rare items, short sessions."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from alterrec.data.formats.source import Choices
from alterrec.data.sessionize import SessionTable


def collapsed(sessions: SessionTable) -> SessionTable:
    """Sessions in which each run of equal items that follow one another is its first event."""
    kept = np.ones(sessions.num_events, np.bool_)
    kept[1:] = sessions.item[1:] != sessions.item[:-1]
    kept[sessions.offsets[:-1]] = True
    return sessions.keep(kept)


def long_enough(sessions: SessionTable, min_session: int) -> SessionTable:
    """Sessions with at least so many events."""
    return sessions.keep(np.repeat(sessions.lengths >= min_session, sessions.lengths))


def filter_training(sessions: SessionTable, choices: Choices, num_items: int) -> tuple[SessionTable, int]:
    """Apply the filters of items and sessions again and again, until nothing changes.

    A filter can undo another one: without a rare item, a session may be short, or two equal items may follow
    one another.

    Returns:
        The sessions, and how many rounds changed something.
    """
    rounds = 0
    while True:
        before = sessions.num_events
        if choices.min_item_count:
            counts = np.bincount(sessions.item, minlength=num_items)
            sessions = sessions.keep(counts[sessions.item] >= choices.min_item_count)
        sessions = tidied(sessions, choices)
        if sessions.num_events == before:
            return sessions, rounds
        rounds += 1


def filter_held_out(
    sessions: SessionTable, choices: Choices, in_catalogue: NDArray[np.bool_]
) -> SessionTable:
    """Validation or test sessions with only the items of the catalogue, a mask (V,).

    With ``split="last-item"``, a session whose last event is dropped is dropped: the event before it is one
    of training.
    """
    if choices.split == "last-item":
        targets = np.zeros(int(sessions.row.max(initial=0)) + 1, np.bool_)
        targets[sessions.last_row] = True
        kept = tidied(sessions.keep(in_catalogue[sessions.item]), choices)
        return kept.take(np.flatnonzero(targets[kept.last_row]))
    return tidied(sessions.keep(in_catalogue[sessions.item]), choices)


def tidied(sessions: SessionTable, choices: Choices) -> SessionTable:
    """Sessions without repetitions, if they are collapsed, and without short ones."""
    if choices.collapse:
        sessions = collapsed(sessions)
    return long_enough(sessions, choices.min_session or 1)

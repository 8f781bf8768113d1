"""Split sessions into training, validation and test: by time, days, files, seed or the last item."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from alterrec.data.formats.source import INTERACTIONS, Choices
from alterrec.data.sessionize import DAY, SessionTable
from alterrec.errors import InputError

# With fewer events, a user has nothing left to train on.
LEAST_LAST_ITEM = 3
LEAKS = (
    "split by the last item of each user: training has events of other users that are later than the targets "
    "of test, and test sessions repeat training sessions; metrics are higher than after a split by time"
)

Parts = dict[str, SessionTable]


def split_sessions(
    sessions: SessionTable, parts: tuple[str, ...], choices: Choices, per_second: int, seed: int
) -> tuple[Parts, list[str]]:
    """Split sessions into ``train``, ``valid`` and ``test``.

    Args:
        sessions: all sessions.
        parts: the names of the parts of the source.
        choices: the choices; ``split``, ``valid`` and ``test`` are read.
        per_second: units of time in one second.
        seed: seed of the sessions that are drawn for validation.

    Returns:
        The sessions of each split, and a sentence about each cut that is not as asked for or that misleads.

    Raises:
        InputError: there are too few sessions, or the source has not the parts that the split needs.
    """
    if choices.split == "last-item":
        return _by_last_item(sessions), [LEAKS]
    if choices.split == "days":
        return _by_days(sessions, choices, per_second), []
    if choices.split == "time":
        return _cut(sessions, sessions.order(), {"valid": choices.valid, "test": choices.test})
    place = {name: sessions.part == number for number, name in enumerate(parts)}
    if INTERACTIONS in place:
        raise InputError(
            f"split is {choices.split!r}, but the data has no files for splits; choose --split time, days or "
            "last-item"
        )
    ordered = sessions.order()
    found = {name: ordered[place[name][ordered]] for name in ("train", "valid", "test") if name in place}
    if choices.split == "seed" and "valid" in found:
        joined = np.union1d(found["train"], found.pop("valid"))
        found["train"] = ordered[np.isin(ordered, joined)]
    wanted = ("test",) if choices.split == "seed" else ("valid", "test")
    missing = {name: getattr(choices, name) for name in wanted if name not in found}
    notes: list[str] = []
    if missing:
        cut, notes = _cut(sessions, found.pop("train"), missing)
    else:
        cut = {"train": sessions.take(found.pop("train"))}
    cut |= {name: sessions.take(numbers) for name, numbers in found.items()}
    if choices.split == "seed":
        cut |= _drawn(cut["train"], choices.valid or 0.0, seed)
    return {name: cut[name] for name in ("train", "valid", "test")}, notes


def last_share(training: SessionTable, fraction: int) -> SessionTable:
    """The last 1/fraction of the sessions, by time of their last event."""
    ordered = training.order()
    return training.take(ordered[len(ordered) - max(1, round(len(ordered) / fraction)) :])


def _cut(
    sessions: SessionTable, ordered: NDArray[np.int64], shares: Mapping[str, float | None]
) -> tuple[Parts, list[str]]:
    """Cut shares of ordered sessions off their end, the last one of ``shares`` last."""
    total = len(ordered)
    counts = {name: max(1, round((share or 0.0) * total)) for name, share in shares.items()}
    kept = total - sum(counts.values())
    if kept < 1:
        raise InputError(
            f"the data has {total} sessions to split; expected at least {len(counts) + 1}, because "
            f"{' and '.join(counts)} are cut off their end"
        )
    bounds = np.cumsum([0, kept, *counts.values()])
    parts = {
        name: sessions.take(ordered[start:stop])
        for name, start, stop in zip(["train", *counts], bounds[:-1], bounds[1:], strict=True)
    }
    if sessions.time is None:
        names = " and ".join(counts)
        return parts, [f"without times, {names} are the last sessions in the order of the files"]
    return parts, []


def _by_days(sessions: SessionTable, choices: Choices, per_second: int) -> Parts:
    ends = sessions.ends
    assert ends is not None
    day = DAY * per_second
    # In Python, whose integers do not overflow.
    test = int(ends.max()) - round((choices.test or 0) * day)
    valid = test - round((choices.valid or 0) * day)
    ordered = sessions.order()
    after = ends[ordered]
    lowest, highest = np.iinfo(np.int64).min, np.iinfo(np.int64).max
    test, valid = (min(max(limit, lowest), highest) for limit in (test, valid))
    parts = {
        "train": sessions.take(ordered[after <= valid]),
        "valid": sessions.take(ordered[(after > valid) & (after <= test)]),
        "test": sessions.take(ordered[after > test]),
    }
    empty = [name for name, part in parts.items() if not len(part)]
    if empty:
        days = (int(ends.max()) - int(ends.min())) / day
        raise InputError(
            f"the last {choices.test:g} days are test and the {choices.valid:g} days before them validation, "
            f"but then {empty[0]} has no session; the sessions end within {days:.1f} days"
        )
    return parts


def _drawn(training: SessionTable, share: float, seed: int) -> Parts:
    """Draw a share of the sessions for validation."""
    ordered = training.order()
    count = max(1, round(share * len(ordered)))
    if count >= len(ordered):
        raise InputError(
            f"the data has {len(ordered)} training sessions; expected more, to draw validation from"
        )
    # The raw numbers of a bit generator are the same in every version of numpy.
    draws = np.random.Philox(key=seed).random_raw(len(ordered))
    chosen = np.zeros(len(ordered), np.bool_)
    chosen[np.argsort(draws, kind="stable")[:count]] = True
    return {"train": training.take(ordered[~chosen]), "valid": training.take(ordered[chosen])}


def _by_last_item(sessions: SessionTable) -> Parts:
    long = np.repeat(sessions.lengths >= LEAST_LAST_ITEM, sessions.lengths)
    # 1 is the last event of its session.
    from_end = np.repeat(sessions.offsets[1:], sessions.lengths) - np.arange(sessions.num_events)
    if not long.any():
        raise InputError(
            f"no user has {LEAST_LAST_ITEM} or more events, so that there is nothing to predict; choose "
            "another split"
        )
    return {
        "train": sessions.keep(~long | (from_end > 2)),
        "valid": sessions.keep(long & (from_end > 1)),
        "test": sessions.keep(long),
    }

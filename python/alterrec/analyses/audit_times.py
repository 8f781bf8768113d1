"""What an audit says about times inside sessions: ties, days without hours, doubled rows, long sessions."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import polars as pl

from alterrec.analyses.audit_records import Finding, SessionTimes, severity_of
from alterrec.data.dataset import Dataset
from alterrec.data.times import units_per_day
from alterrec.report.tables import count, duration, listed, percent

DAY = 86_400.0
QUANTILES = {"half": 0.5, "90 %": 0.9, "99 %": 0.99, "all": 1.0}
# Above these shares, a check is worth a look or bad. More than a few ties are not chance, and with most last
# items in ties, the order of the rows decides what is predicted.
TIES = (0.01, 0.5)
DOUBLED = (0.0, 0.1)
# Hardly anybody stays for a day; if most sessions do, they are users and not visits.
LONG = (0.01, 0.5)


def session_times(data: Dataset) -> SessionTimes | None:
    """Look at the times inside the sessions of all splits; None without timestamps.

    Example:
        >>> from alterrec.data.synthetic import synthetic_dataset
        >>> found = session_times(synthetic_dataset(items=300, sessions=900))
        >>> found.tied_steps, found.days_only, found.doubled
        (0, False, 0)
    """
    stores = [store for store in data.splits.values() if store.timestamps is not None and store.num_sessions]
    if not stores:
        return None
    lengths = np.concatenate([np.asarray(store.lengths) for store in stores])
    items = np.concatenate([np.asarray(store.items) for store in stores])
    times = np.concatenate([np.asarray(store.timestamps) for store in stores])
    stops = np.cumsum(lengths)
    sessions = np.repeat(np.arange(len(lengths)), lengths)
    inside = sessions[1:] == sessions[:-1]
    tied = inside & (times[1:] == times[:-1])
    several = lengths >= 2
    per_day = units_per_day(int(times.max()))
    spans = (times[stops[several] - 1] - times[stops[several] - lengths[several]]).astype(np.float64)
    seconds = spans / per_day * DAY if per_day else np.empty(0)
    doubled, doubled_sessions = _doubled(sessions, items, times)
    return SessionTimes(
        steps=int(inside.sum()),
        tied_steps=int(tied.sum()),
        sessions=int(several.sum()),
        tied_targets=int(tied[stops[several] - 2].sum()),
        days_only=None if per_day is None else bool((times % per_day == 0).all()),
        events=len(times),
        doubled=doubled,
        doubled_sessions=doubled_sessions,
        seconds={name: float(np.quantile(seconds, share)) for name, share in QUANTILES.items()}
        if len(seconds)
        else {},
        over_a_day=float((seconds > DAY).mean()) if len(seconds) else 0.0,
    )


def _doubled(sessions: np.ndarray, items: np.ndarray, times: np.ndarray) -> tuple[int, int]:
    """Events that repeat an earlier one, and sessions that consist of repeated events."""
    rows = pl.DataFrame({"session": sessions, "item": items, "time": times})
    groups = rows.group_by("session", "item", "time").len()
    whole = groups.group_by("session").agg(pl.col("len").min()).filter(pl.col("len") > 1)
    return len(rows) - len(groups), len(whole)


def time_findings(found: SessionTimes) -> Iterator[Finding]:
    """Each check of the times with its severity."""
    yield _ties(found)
    doubled = found.doubled / max(found.events, 1)
    text = (
        f"{count(found.doubled)} of {count(found.events)} events ({percent(doubled)}) repeat an earlier one"
    )
    text += " with the same session, item and time."
    if found.doubled:
        text += (
            f" In {count(found.doubled_sessions)} sessions every event occurs at least twice. If rows "
            "were written twice, delete the copies: `alterrec prepare` drops only those that follow one "
            "another."
        )
    yield Finding(severity_of(doubled, *DOUBLED), "doubled rows", text)
    if found.seconds:
        quantiles = [f"{share} within {_length(seconds)}" for share, seconds in found.seconds.items()]
        text = (
            f"Of the sessions with two events or more, {listed(quantiles)}; {percent(found.over_a_day)} are "
            "longer than a day."
        )
        severity = severity_of(found.over_a_day, *LONG)
        if severity != "fine":
            text += " Are they visits or users? `alterrec prepare --sessions gap` makes visits of users."
        yield Finding(severity, "length of sessions in time", text)


def _ties(found: SessionTimes) -> Finding:
    steps, targets = found.tied_steps / max(found.steps, 1), found.tied_targets / max(found.sessions, 1)
    text = (
        f"{percent(steps)} of the neighbouring events of a session have equal times, and so have the last "
        f"two events of {percent(targets)} of the sessions."
    )
    if found.days_only:
        text += " The times are days without a time of day."
    if found.tied_steps:
        text += " Among equal times, the order of the rows decides, also about which item is the target."
    severity = severity_of(max(steps, targets), *TIES)
    if found.days_only and severity == "fine":
        severity = "look"
    return Finding(severity, "equal times in sessions", text)


def _length(seconds: float) -> str:
    return duration(seconds) if seconds < 2 * DAY else f"{seconds / DAY:,.0f} days"

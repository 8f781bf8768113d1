"""What a published format is read into, and the choices that turn it into sessions."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Literal, NamedTuple

import polars as pl

INTERACTIONS = "interactions"
# A column of `Source.events`: why a row cannot be used, or null.
PROBLEM = "problem"


@dataclass(frozen=True)
class Choices:
    """How events become sessions, and which of them are kept; None leaves a choice to the format.

    Attributes:
        sessions: ``given`` (column session_id), ``gap`` (by user, a new session after ``gap`` seconds without
            an event), ``day`` (by user and day in UTC) or ``user`` (one session per user).
        gap: seconds of inactivity that end a session; read with ``sessions="gap"``.
        events: the kinds of event to keep, such as ``("view", "cart")``; empty keeps all.
        collapse: whether repetitions of an item that follow one another in a session are one event.
        min_item_count: items with fewer events in training are dropped.
        min_session: sessions with fewer events are dropped.
        split: ``time`` (shares of the sessions, in the order of their last events), ``days`` (the last days
            of the data), ``files`` (as the source has them), ``seed`` (a share of training by seed for
            validation; test as given) or ``last-item`` (the last item of a user is a target of test, the
            one before of validation).
        valid, test: shares of the sessions, or numbers of days with ``split="days"``.
        fraction: only the last 1/fraction of the training sessions is kept.
    """

    sessions: Literal["given", "gap", "day", "user"] | None = None
    gap: float | None = None
    events: tuple[str, ...] | None = None
    collapse: bool | None = None
    min_item_count: int | None = None
    min_session: int | None = None
    split: Literal["time", "days", "files", "seed", "last-item"] | None = None
    valid: float | None = None
    test: float | None = None
    fraction: int | None = None

    def over(self, defaults: Choices) -> Choices:
        """These choices, and those of ``defaults`` where one is None.

        Example:
            >>> choices = Choices(gap=60).over(Choices(sessions="gap", gap=1800))
            >>> choices.sessions, choices.gap
            ('gap', 60)
        """
        given = {f.name: value for f in fields(self) if (value := getattr(self, f.name)) is not None}
        return replace(defaults, **given)


@dataclass(frozen=True)
class PrepareOptions:
    """The arguments of :func:`~alterrec.data.prepare.prepare` that are the same for every format.

    Attributes:
        columns: our column name -> the file's, for any of session_id, item_id, timestamp, user_id, event.
        locale: the part of a multilingual source to read, such as ``"FR"``, or ``"all"``; None where the
            format has no locales.
        text: item columns to keep as text, in this order; None chooses them.
        seed: of splits and samples that are drawn.
        choices: how events become sessions.
        times: how times are written where their values leave it open: ``s``, ``ms``, ``us`` or ``ns``
            (numbers since 1970), ``excel`` (days since 1900), ``day-first`` or ``month-first``
            (01/02/2024); None decides by the whole column.
    """

    columns: Mapping[str, str] = field(default_factory=dict)
    locale: str | None = None
    text: tuple[str, ...] | None = None
    seed: int = 0
    choices: Choices = Choices()
    times: Literal["s", "ms", "us", "ns", "excel", "day-first", "month-first"] | None = None


@dataclass(frozen=True)
class Source:
    """The tables of a data set as a format's reader returns them, with the usual column names.

    Attributes:
        events: ``{"interactions": frame}``, or ``train`` and optionally ``valid`` and ``test``. A row is one
            event, in the order of the files, with ``item_id`` (String), ``session_id`` or ``user_id`` or both
            (String; null is a guest), optionally ``timestamp`` (Int64), ``event`` (String, its kind) and
            ``problem`` (String, why the row cannot be used, or null: such rows are counted and dropped).
            Lists of items are exploded in their order.
        items: a row per item with ``item_id`` (String) and its other columns as they were read; None where
            the source has no items file. The catalogue is then the items of the training sessions, and
            where ``events`` has further columns, those of an item are the most frequent values of its
            training rows.
        files: every file that was read, for its hash.
        choices: the usual choices for this format, all of them set; the user's are put over them.
        per_second: how many units of ``timestamp`` are one second.
        text: item columns that are text by default, in this order; None chooses them by their content.
        notes: what the reader left out or changed, one sentence each.
        expected: published counts to print beside ours, such as ``{"sessions": 117561}``: those of the
            prepared data (items, users, sessions, events, train, valid, test), or of the files before splits
            and filters (rows, read_sessions, read_items, read_users).
    """

    events: Mapping[str, pl.LazyFrame]
    items: pl.LazyFrame | None
    files: tuple[Path, ...]
    choices: Choices
    per_second: int = 1
    text: tuple[str, ...] | None = None
    notes: tuple[str, ...] = ()
    expected: Mapping[str, int] = field(default_factory=dict)


class Format(NamedTuple):
    """One published format.

    Attributes:
        summary: one line for ``alterrec list formats``.
        files: the names of its files, for the same list and for messages.
        read: returns the tables of the data at a path.
        recognises: whether a path has this format, by a look at file names or a first line.
        reads: which of the options ``columns``, ``locale`` and ``times`` its reader reads; the others are
            refused.
    """

    summary: str
    files: str
    read: Callable[[Path, PrepareOptions], Source]
    recognises: Callable[[Path], bool]
    reads: tuple[Literal["columns", "locale", "times"], ...] = ()

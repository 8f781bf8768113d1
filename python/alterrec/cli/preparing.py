"""The command `alterrec prepare`."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Annotated, Literal

import typer

from alterrec.cli import options
from alterrec.cli.application import DONE, app, guarded
from alterrec.console import print_line, terminal_width, warn, working
from alterrec.errors import InputError

UNITS = {"": 1, "s": 1, "m": 60, "min": 60, "h": 3600, "d": 86400}


@app.command()
@guarded
def prepare(
    source: Annotated[Path, typer.Argument(metavar="SOURCE", help="File or folder as it was published.")],
    out: Annotated[Path, options.folder("New folder for the prepared data.")],
    format: options.Format = None,
    locale: options.Locale = None,
    all_locales: Annotated[
        bool, typer.Option("--all-locales", help="Read all locales; the same as --locale all.")
    ] = False,
    column: options.PrepareColumns = None,
    times: Annotated[
        Literal["s", "ms", "us", "ns", "excel", "day-first", "month-first"] | None,
        typer.Option(
            metavar="HOW",
            help="How times are written where their values leave it open: s, ms, us or ns since 1970, excel, "
            "day-first or month-first.",
        ),
    ] = None,
    text: options.Text = None,
    sessions: Annotated[
        Literal["given", "gap", "day", "user"] | None,
        typer.Option(
            metavar="HOW",
            help="given (by session_id), gap (by user, until --gap passes without an event), day (by user "
            "and day in UTC) or user (one per user).",
        ),
    ] = None,
    gap: Annotated[
        str | None,
        typer.Option(metavar="TIME", help="Time without an event that ends a session: 30m, 900s, 1.5h, 1d."),
    ] = None,
    events: Annotated[
        str | None, typer.Option(metavar="KINDS", help="Kinds of events to keep, e.g. view,cart.")
    ] = None,
    collapse: Annotated[
        bool | None,
        typer.Option(
            "--collapse/--no-collapse",
            help="Count equal items that follow one another in a session as one event, or as they are.",
        ),
    ] = None,
    min_item_count: Annotated[
        int | None, typer.Option(metavar="N", help="Drop items with fewer events in training.")
    ] = None,
    min_session: Annotated[
        int | None, typer.Option(metavar="N", help="Drop sessions with fewer events.")
    ] = None,
    split: Annotated[
        Literal["time", "days", "files", "seed", "last-item"] | None,
        typer.Option(
            metavar="HOW",
            help="time (the last sessions), days (the last days), files (as given), seed (validation is "
            "drawn from training) or last-item (the last two items of each user).",
        ),
    ] = None,
    valid: Annotated[
        float | None,
        typer.Option(metavar="X", help="Share of the sessions for validation, or days with --split days."),
    ] = None,
    test: Annotated[
        float | None,
        typer.Option(metavar="X", help="Share of the sessions for test, or days with --split days."),
    ] = None,
    fraction: Annotated[
        int | None,
        typer.Option(metavar="N", help="Keep only the last 1/N of the training sessions, e.g. 64."),
    ] = None,
    seed: Annotated[int | None, typer.Option(help="Seed of --split seed; default 0.")] = None,
    as_json: options.Json = False,
) -> int:
    """Turn a raw log or published files into a data folder.

    Every other command reads the folder as --data.

    The format is recognised by the files, or named by --format; `alterrec list formats` shows all. Rows that
    cannot be used are dropped and counted by reason. Filters look at training only. The folder contains
    items, train, valid and test as Parquet files, and dataset.json with every choice and count. It appears
    only when it is complete. If it is there already from the same files and choices, nothing is done.

    --format log reads any CSV, TSV, JSON lines or Parquet files with the columns item_id, and session_id or
    user_id and timestamp, which --column maps.

    \b
    Examples:
      alterrec prepare amazon_m2 --locale FR --out data/fr
      alterrec prepare yoochoose-clicks.dat --fraction 64 --out data/yoochoose64
      alterrec prepare events.csv --column user_id=visitor --column item_id=sku --gap 30m --out data/shop
    """
    if all_locales and locale:
        raise InputError("--locale and --all-locales are given; give one of them")
    columns = options.parse_columns(column)
    with working("preparing"):
        from alterrec.analyses.preparation import prepare as run

        made = run(
            source,
            out,
            format=format,
            columns=columns,
            locale="all" if all_locales else locale,
            times=times,
            text=options.parse_names(text, "--text", "title,description"),
            sessions=sessions,
            gap=None if gap is None else parse_gap(gap),
            events=options.parse_names(events, "--events", "view,cart"),
            collapse=collapse,
            min_item_count=min_item_count,
            min_session=min_session,
            split=split,
            valid=valid,
            test=test,
            fraction=fraction,
            seed=seed,
            listen=warn if as_json else print_line,
        )
    if as_json:
        print_line(json.dumps(made.to_dict(), indent=2, ensure_ascii=False))
        return DONE
    print_line("")
    print_line(made.presentation().text(terminal_width()))
    print_line(f"\n{made.path}")
    return DONE


def parse_gap(text: str) -> float:
    """Parse a time such as ``30m`` into seconds.

    Example:
        >>> parse_gap("30m"), parse_gap("1.5 h"), parse_gap("900")
        (1800.0, 5400.0, 900.0)
    """
    found = re.fullmatch(r"(\d+(?:\.\d+)?)\s*([a-z]*)", text.strip().lower())
    if not found or found[2] not in UNITS:
        raise InputError(f"--gap is {text!r}; expected a number and a unit (s, m, h or d), for example 30m")
    return float(found[1]) * UNITS[found[2]]

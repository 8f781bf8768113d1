"""The command that recommends for sessions."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Annotated, BinaryIO

import typer

from alterrec.cli import options
from alterrec.cli.application import DONE, app, guarded
from alterrec.console import counted, print_text, warn, working
from alterrec.errors import InputError
from alterrec.job import current_job

STREAM = Path("-")


@app.command()
@guarded
def recommend(
    run: options.RunFolder,
    sessions: Annotated[
        Path,
        typer.Option(
            metavar="FILE",
            help="CSV or Parquet: session_id, item_id, optionally timestamp, user_id; Parquet or JSON lines "
            "with a list of items for each session; or - for standard input.",
        ),
    ],
    k: Annotated[int, typer.Option("-k", help="Number of items for each session.")] = 20,
    out: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE", help="Write a .csv, .parquet or .jsonl file; default: CSV on standard output."
        ),
    ] = None,
    exclude_seen: Annotated[
        bool | None,
        typer.Option(
            "--exclude-seen/--allow-seen",
            help="Never recommend items of the session, or allow them; default: as the run was evaluated.",
        ),
    ] = None,
    fallback: Annotated[
        bool,
        typer.Option(
            "--fallback/--no-fallback",
            help="Give sessions without a known item the most popular items (default), or none.",
        ),
    ] = True,
    column: options.Columns = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print a line of JSON for each session.")] = False,
) -> int:
    """Recommend the next items of sessions.

    Reads and writes the ids of your own files and needs no training data. Items that were not in training
    are scored by their text. The column source says model, or popular where nothing of a session is known.
    Rows that cannot be read or whose items are unknown to the run are skipped, and a session that has seen
    nearly all items gets fewer; standard error says how many, and why. Systems that use user ids read the
    column user_id and also report how many users are unknown.

    A file may have any number of sessions: memory is bounded, and if the command is interrupted, the same
    command continues it. A line of JSON is {"session_id": "now", "items": ["tent", "lamp"]}; in a pipe, each
    line is answered as it arrives. Several processes of torchrun share the sessions of a file.

    \b
    Examples:
      alterrec recommend runs/alterrec-my_sessions-seed0 --sessions today.csv -k 20
      alterrec recommend runs/alterrec-my_sessions-seed0 --sessions big.parquet --out best.parquet
      tail -f visits.jsonl | alterrec recommend runs/alterrec-my_sessions-seed0 --sessions - --json
    """
    columns = options.parse_columns(column)
    if current_job().world > 1 and (out is None or sessions == STREAM):
        raise InputError(
            "the processes of torchrun share a file of sessions and write a file; name both with --sessions "
            "and --out, or run recommend without torchrun"
        )
    if out is None:
        _print(run, sessions, columns, k, exclude_seen, fallback, ".jsonl" if as_json else ".csv")
        return DONE
    if as_json:
        raise InputError("--json is for standard output; with --out, use a name that ends in .jsonl")
    from alterrec.serving.batch import check_output, recommend_file

    check_output(out)
    with _temporary_folder() as folder, counted("recommending", "sessions") as progress:
        if sessions == STREAM:
            from alterrec.serving.sources import copied

            sessions = copied(_standard_input(), folder)
        recommend_file(
            run,
            sessions,
            out,
            k=k,
            exclude_seen=exclude_seen,
            fallback=fallback,
            columns=columns,
            progress=progress,
            listen=warn,
        )
    return DONE


def _print(
    run: Path,
    sessions: Path,
    columns: Mapping[str, str],
    k: int,
    exclude_seen: bool | None,
    fallback: bool,
    suffix: str,
) -> None:
    """Print the recommendations of each block, or of all lines that have arrived."""
    from alterrec.runs.inputs import read_catalogue
    from alterrec.serving.answers import HEADER, Recommending
    from alterrec.serving.sources import open_sessions, open_stream
    from alterrec.serving.tally import Tally

    known = read_catalogue(run)
    with _temporary_folder() as folder:
        with working("reading the sessions"):
            if sessions == STREAM:
                source = open_stream(_standard_input(), known, folder, columns)
            else:
                source = open_sessions(sessions, known, folder, columns)
        with working("loading the model"):
            from alterrec.runs.saved_model import load_model

            saved = load_model(known)
        recommending = Recommending(saved, k, exclude_seen=exclude_seen, fallback=fallback)
        tally, header = Tally(), HEADER if suffix == ".csv" else ""
        for answers in recommending.answers(source):
            print_text(header + answers.text(suffix))
            tally.merge(answers.tally)
            header = ""
        tally.merge(source.tally)
    for sentence in recommending.sentences(source, tally):
        warn(sentence)


@contextmanager
def _temporary_folder() -> Iterator[Path]:
    """Yield a folder that is removed; errors name its files without it, such as those of standard input."""
    with TemporaryDirectory(prefix="alterrec-") as folder:
        try:
            yield Path(folder)
        except InputError as error:
            raise InputError(str(error).replace(f"{folder}{os.sep}", "")) from None


def _standard_input() -> BinaryIO:
    if sys.stdin is None:
        raise InputError("standard input is closed; give it CSV or JSON lines, or name a file")
    return sys.stdin.buffer

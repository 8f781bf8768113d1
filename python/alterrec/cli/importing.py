"""The command `alterrec import-run`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from alterrec.cli import options
from alterrec.cli.application import DONE, app, guarded
from alterrec.console import print_line, warn, working


@app.command("import-run")
@guarded
def import_run(
    rankings: Annotated[Path, typer.Argument(metavar="FILE", help="A TREC run file.")],
    name: Annotated[str, typer.Option(metavar="NAME", help="Name of the system that made the rankings.")],
    data: options.Data = None,
    format: options.Format = None,
    locale: options.Locale = None,
    out: Annotated[
        Path | None, options.folder("Folder of the run; default: runs/NAME-DATA-seedSEED.")
    ] = None,
    seed: Annotated[int, typer.Option(help="Tells apart several runs of one system.")] = 0,
    preset: options.Presets = None,
    settings: options.Settings = None,
    column: options.Columns = None,
    drop_unknown: options.DropUnknown = False,
) -> int:
    """Measure the rankings of another system as a run.

    Reads a TREC run file: a line for each listed item with query, Q0, item, rank, score and name of the
    system. A query is the id of a test session; with data.targets = every it is SESSION:POSITION, where the
    position is the number of items before the target. `alterrec export RUN --to trec` writes such a file.

    Writes a run folder that `compare` reads. Items are ranked by their scores. Metrics and rules are those of
    all runs: equal scores are a tie, and a target that is not listed counts as not found. Items of the
    session are left out of the lists if they are no candidates on these data. Give the --preset and --set of
    data that the runs to compare with had; other settings change nothing.

    \b
    Example:
      alterrec import-run recbole.trec --data my_sessions --name recbole-gru4rec
      alterrec compare runs/alterrec-my_sessions-seed0 runs/recbole-gru4rec-my_sessions-seed0
    """
    with working("reading the rankings"):
        from alterrec.exports.imported import import_run as measure
        from alterrec.record_json import to_json

        report = measure(
            rankings,
            data,
            name=name,
            out=out,
            seed=seed,
            presets=options.parse_presets(preset),
            overrides=options.parse_pairs(settings, "--set", "data.targets=every"),
            columns=options.parse_columns(column),
            drop_unknown=drop_unknown,
            format=format,
            locale=locale,
            listen=warn,
        )
    from alterrec.cli.run_tables import show_result

    show_result(to_json(report.folder.result))
    print_line(str(report.folder.path))
    return DONE

"""The command `alterrec export`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

from alterrec.cli import options
from alterrec.cli.application import DONE, app, guarded
from alterrec.console import print_line, warn, working
from alterrec.errors import InputError

RECIPE = "recipe.toml"  # every run folder has it


@app.command()
@guarded
def export(
    source: Annotated[
        Path,
        typer.Argument(metavar="SOURCE", help="recbole: folder or file of a data set; trec: a run folder."),
    ],
    to: Annotated[Literal["recbole", "trec"], typer.Option(help="What to write.")],
    out: Annotated[Path | None, options.folder("Folder of the files; default: recbole/NAME, ...")] = None,
    format: options.Format = None,
    locale: options.Locale = None,
    column: options.Columns = None,
    drop_unknown: options.DropUnknown = False,
) -> int:
    """Write a data set or the results of a run in the format of another library.

    recbole, of a data set: atomic files with the same splits, in both shapes that RecBole reads: one event
    per row (NAME.train_events.inter, ...), and one target per row with the items before it
    (NAME.train.inter, ...); NAME.item with the texts; and recbole.yaml, the settings that read them. NAME is
    the name of the folder.

    trec, of a run: run.trec, the first 20 items of each test target, and qrels.trec, the targets. trec_eval,
    ranx and ir-measures read them. The last four options are for data sets.

    \b
    Examples:
      alterrec export my_sessions --to recbole
      alterrec export my_sessions --to recbole --out dataset/shop
      alterrec export runs/alterrec-my_sessions-seed0 --to trec
    """
    if to == "trec":
        if format or locale or column or drop_unknown:
            raise InputError(
                f"--to {to} exports a run; leave out --format, --locale, --column and --drop-unknown"
            )
        return _export_rankings(source, out)
    if (source / RECIPE).is_file():
        raise InputError(f"{source} is a run, which has no sessions; give the data that it was trained on")
    columns = options.parse_columns(column)
    with working("reading and writing"):
        from alterrec.data.readers import load_dataset
        from alterrec.data.recbole_files import write_recbole

        data = load_dataset(
            source, format=format, locale=locale, columns=columns, drop_unknown=drop_unknown, listen=warn
        )
        folder = out or Path(to) / data.name
        for note in (*data.notes, *write_recbole(data, folder)):
            warn(note)
    for file in sorted(folder.iterdir()):
        print_line(f"{file}  {file.stat().st_size:,} bytes")
    return DONE


def _export_rankings(run: Path, out: Path | None) -> int:
    from alterrec.exports.rankings import Rankings

    rankings = Rankings.of_run(run)
    for file in rankings.write(out or Path("trec") / rankings.name):
        print_line(f"{file}  {file.stat().st_size:,} bytes")
    return DONE

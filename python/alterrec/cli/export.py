"""The commands `alterrec export` and `alterrec push`."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Literal

import typer

from alterrec.cli import options
from alterrec.cli.application import DONE, app, guarded
from alterrec.console import print_line, warn, working
from alterrec.errors import InputError

RECIPE = "recipe.toml"  # every run folder has it
RUN_FORMATS = ("trec", "onnx", "vectors", "card")


@app.command()
@guarded
def export(
    source: Annotated[
        Path,
        typer.Argument(metavar="SOURCE", help="recbole: folder or file of a data set; else a run folder."),
    ],
    to: Annotated[Literal["recbole", "trec", "onnx", "vectors", "card"], typer.Option(help="What to write.")],
    out: Annotated[Path | None, options.folder("Folder of the files; default: recbole/NAME, ...")] = None,
    format: options.Format = None,
    locale: options.Locale = None,
    column: options.Columns = None,
    drop_unknown: options.DropUnknown = False,
) -> int:
    """Write a data set, or the model or the results of a run, in the format of another library.

    recbole, of a data set: atomic files with the same splits, in both shapes that RecBole reads: one event
    per row (NAME.train_events.inter, ...), and one target per row with the items before it
    (NAME.train.inter, ...); NAME.item with the texts; and recbole.yaml, the settings that read them. NAME is
    the name of the folder.

    trec, of a run: run.trec, the first 20 items of each test target, and qrels.trec, the targets. trec_eval,
    ranx and ir-measures read them.

    onnx, of a run: model.onnx, from the items of sessions to the scores of all items, and model.json, which
    says how to call it; session.onnx and item_vectors.npy where a score is one inner product.

    vectors, of a run whose score is one inner product: item_vectors.npy and item_vectors.parquet for any
    vector index.

    card, of a run: README.md in its folder, a model card in the format of the Hugging Face Hub.

    The last four options are for data sets.

    \b
    Examples:
      alterrec export my_sessions --to recbole
      alterrec export my_sessions --to recbole --out dataset/shop
      alterrec export runs/alterrec-my_sessions-seed0 --to trec
      alterrec export runs/alterrec-my_sessions-seed0 --to onnx --out serving/model
    """
    if to in RUN_FORMATS:
        if format or locale or column or drop_unknown:
            raise InputError(
                f"--to {to} exports a run; leave out --format, --locale, --column and --drop-unknown"
            )
        return _export_run(source, to, out)
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


def _export_run(run: Path, to: str, out: Path | None) -> int:
    if to == "card" and out is not None:
        raise InputError("--to card writes README.md in the folder of the run; leave out --out")
    with working("reading and writing"):
        files = _run_files(run, to, out)
    for file in files:
        print_line(f"{file}  {file.stat().st_size:,} bytes")
    return DONE


def _run_files(run: Path, to: str, out: Path | None) -> Sequence[Path]:
    if to == "trec":
        from alterrec.exports.rankings import Rankings

        rankings = Rankings.of_run(run)
        return rankings.write(out or Path(to) / rankings.name)
    if to == "card":
        from alterrec.exports.card import write_card

        return [write_card(run)]
    from alterrec.comparable import folder_name
    from alterrec.exports.onnx_files import write_onnx
    from alterrec.exports.vectors import write_vectors
    from alterrec.runs.saved_model import load

    write = write_onnx if to == "onnx" else write_vectors
    return write(load(run), out or Path(to) / folder_name(run))


@app.command()
@guarded
def push(
    run: Annotated[Path, typer.Argument(metavar="RUN", help="Folder of a finished run.")],
    repo: Annotated[str, typer.Argument(metavar="USER/NAME", help="Repository on the Hugging Face Hub.")],
    public: Annotated[bool, typer.Option("--public", help="Make a new repository public.")] = False,
) -> int:
    """Push a run to the Hugging Face Hub; alterrec.load("hf://USER/NAME") loads it.

    The repository gets the model, the texts and ids of its items, the metrics and a model card. Files with
    sessions of the data stay here. Log in before with `hf auth login`.

    \b
    Examples:
      alterrec push runs/alterrec-my_sessions-seed0 anna/shop
    """
    with working("pushing"):
        from alterrec.exports import hub

        address = hub.push(run, repo, public=public)
    print_line(address)
    return DONE

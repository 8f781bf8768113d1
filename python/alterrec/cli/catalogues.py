"""Commands that change the catalogue of a run: add-items and remove-items."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated, Literal

import typer

from alterrec.cli import options
from alterrec.cli.application import DONE, app, guarded
from alterrec.console import Watcher, print_line

NewRun = Annotated[Path, options.folder("The new run folder.")]


@app.command("add-items")
@guarded
def add_items(
    run: options.RunFolder,
    items: Annotated[
        Path,
        typer.Argument(
            metavar="ITEMS", help="CSV or Parquet: item_id and the text columns that the run was trained on."
        ),
    ],
    out: NewRun,
    id_rows: Annotated[
        Literal["nearest", "text"],
        typer.Option(
            help="What scores new items besides their texts: ID rows of the items with the nearest texts, "
            "or nothing."
        ),
    ] = "nearest",
    vectors: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="Vectors of the rows of ITEMS (npy, safetensors or parquet), for a run that was trained "
            "with data.vectors.",
        ),
    ] = None,
    column: options.Columns = None,
) -> int:
    """Add items to the catalogue of a run, without training.

    Their texts are encoded by the encoder of the run, and they can be recommended at once. Items that the run
    has already, rows that repeat an item and items without text are left out and counted. Removed items are
    recommended again. The system must read texts, as alterrec does.

    \b
    Examples:
      alterrec add-items runs/alterrec-my_sessions-seed0 new_items.csv --out runs/with_new
      alterrec add-items runs/alterrec-my_sessions-seed0 new_items.csv --out runs/with_new --id-rows text
    """
    columns = options.parse_columns(column)
    with Watcher(live=sys.stdout.isatty()) as watch:
        watch.working("loading the model")
        from alterrec.serving.growth import add_items as add

        grown = add(run, items, out, id_rows=id_rows, vectors=vectors, columns=columns, progress=watch)
    print_line(f"{len(grown.vocabulary)} items")
    print_line(str(grown.path))
    return DONE


@app.command("remove-items")
@guarded
def remove_items(
    run: options.RunFolder,
    items: Annotated[Path, typer.Argument(metavar="ITEMS", help="CSV or Parquet with the column item_id.")],
    out: NewRun,
    column: options.Columns = None,
) -> int:
    """Remove items from the catalogue of a run, without training: they are never recommended again.

    Sessions may still contain them, and are read as before. Items that the run does not know are
    counted. `alterrec add-items` makes removed items candidates again.

    \b
    Example:
      alterrec remove-items runs/alterrec-my_sessions-seed0 sold_out.csv --out runs/in_stock
    """
    columns = options.parse_columns(column)
    with Watcher(live=sys.stdout.isatty()) as watch:
        watch.working("loading the model")
        from alterrec.serving.growth import remove_items as remove
        from alterrec.serving.growth import removed_numbers

        fewer = remove(run, items, out, columns=columns, progress=watch)
    left = len(fewer.vocabulary) - len(removed_numbers(fewer))
    print_line(f"{left} of {len(fewer.vocabulary)} items can be recommended")
    print_line(str(fewer.path))
    return DONE

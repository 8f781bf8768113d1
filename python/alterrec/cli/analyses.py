"""Commands that analyse data or finished runs: compare, balance and audit."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from alterrec.cli import options
from alterrec.cli.application import DONE, app, command_line, guarded
from alterrec.console import print_line, terminal_width, warn, working

if TYPE_CHECKING:
    from alterrec.report.presentation import Report


@app.command()
@guarded
def compare(
    runs: Annotated[
        list[Path],
        typer.Argument(metavar="RUN", help="Folders of finished runs; the first is the reference."),
    ],
    view: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME", help="View to compare: score (default), id, text, ...; repeatable."),
    ] = None,
    all_pairs: Annotated[
        bool, typer.Option("--all-pairs", help="Compare every pair of systems, not only with the first.")
    ] = False,
    out: Annotated[
        Path | None, options.folder("Write report.html, comparison.md, tables and figures there.")
    ] = None,
    as_json: options.Json = False,
) -> int:
    """Test whether finished runs differ significantly.

    Compares each system with the first, target by target, from the ranks saved in the run folders; no model
    is loaded and nothing is trained. Runs whose recipes differ only in run.seed are one system. For each
    metric it prints the difference, its 95 % interval, the p-value of a paired permutation test, the numbers
    of sessions won, tied and lost, and the standard error over seeds. Intervals and p are adjusted over all
    tests shown. NDCG@20 is also compared by popularity of the target and by session length. Every system is
    also shown with the session's own items as candidates and without them.

    Runs with different data, different targets or a different rule for items of the session are refused.

    \b
    Examples:
      alterrec compare runs/sasrec-shop-seed0 runs/alterrec-shop-seed0
      alterrec compare runs/sasrec-* runs/alterrec-* --view score --view text --out compared
    """
    with working("comparing"):
        from alterrec.analyses.compare import compare as compare_runs

        found = compare_runs(runs, views=view or ("score",), all_pairs=all_pairs, command=command_line())
    _print_or_save(found, found.to_dict(), out, as_json)
    return DONE


@app.command()
@guarded
def balance(
    runs: Annotated[
        list[Path],
        typer.Argument(metavar="RUN", help="Folders of finished runs that combine ID and text."),
    ],
    out: Annotated[
        Path | None, options.folder("Folder of the page; default: balance/ in the first run's folder.")
    ] = None,
    metric: Annotated[str, typer.Option(metavar="NAME", help="Metric that compares the parts.")] = "ndcg@20",
    as_json: options.Json = False,
) -> int:
    """Decide whether ID or text dominates the training of a system.

    Runs that differ only in run.seed are one system. The ID and the text part are compared by their share
    of the gradient, the decrease of their loss and their metric. If runs of each part alone (id_only,
    text_only) are given too, a part that is suppressed can be told from one that is weak on these data.
    docs/studies.md defines the rules. The report also shows which targets each part ranks in the top 20,
    how many of these the final score keeps, and what a perfect choice between the two parts would reach.
    No model and no data are loaded.

    With --json the page is written only if --out is given.

    \b
    Examples:
      alterrec balance runs/nfrec_concat-my_sessions-seed0
      alterrec balance study-runs/nfrec_concat-*/ study-runs/id_only-*/ study-runs/text_only-*/
    """
    with working("analysing"):
        from alterrec.analyses.balance import balance as analyse

        found = analyse(runs, metric=metric, command=command_line())
    _print_or_save(found, found.to_dict(), out or (None if as_json else found.folder), as_json)
    return DONE


@app.command()
@guarded
def audit(
    data: options.Data = None,
    format: options.Format = None,
    locale: options.Locale = None,
    out: Annotated[Path | None, options.folder("Folder of the page; default: audit-DATA.")] = None,
    text: options.Text = None,
    text_encoder: Annotated[
        str, typer.Option(metavar="NAME", help="lsa, a name of `alterrec list encoders`, or a folder.")
    ] = "lsa",
    column: options.Columns = None,
    drop_unknown: options.DropUnknown = False,
    as_json: options.Json = False,
) -> int:
    """Check a data set before training.

    The audit looks for sessions shared by two splits, validation and test sessions before the end of
    training, targets that repeat an item of their session or do not occur in training, near-identical
    texts, and drift. Popularity in all and in the last days of training, co-occurrence with the last item,
    item-kNN, co-visitation, V-SKNN and nearest texts are evaluated on the test targets, to estimate whether
    text can help. Each check is rated fine, look or bad; the exit code is 0 in every case.

    With --json the page is written only if --out is given.

    \b
    Examples:
      alterrec audit --data my_sessions
      alterrec audit --data my_sessions --text-encoder all-MiniLM-L6-v2 --json
    """
    columns = options.parse_columns(column)
    names = options.parse_names(text, "--text", "title,description")
    with working("reading the data"):
        from alterrec.data.readers import DataSource
        from alterrec.recipe import resolve

        source = DataSource(data, columns, drop_unknown, format, locale)
        dataset = source.read(resolve("popularity", overrides={"data.text_fields": names or ()}), warn)
    with working("checking"):
        from alterrec.analyses.audit import audit as analyse

        found = analyse(dataset, text_encoder=text_encoder, command=command_line(), progress=warn)
    page = out or (None if as_json else Path(f"audit-{found.name}"))
    _print_or_save(found, found.to_dict(), page, as_json)
    return DONE


def _print_or_save(analysis: Report, numbers: dict[str, Any], out: Path | None, as_json: bool) -> None:
    """Write the page if ``out`` is given, and print the analysis as text or its numbers as JSON."""
    page = analysis.save(out) if out is not None else None
    if as_json:
        print_line(json.dumps(numbers, indent=2, ensure_ascii=False))
        return
    print_line(analysis.presentation().text(terminal_width()))
    if page is not None:
        print_line(f"\nreport: {page}")

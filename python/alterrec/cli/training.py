"""Commands for one run: train, plan, evaluate and verify."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Annotated

import typer

from alterrec import signals
from alterrec.cli import options
from alterrec.cli.application import DONE, app, guarded, train_app
from alterrec.console import Watcher, print_line, warn, working
from alterrec.errors import InputError
from alterrec.progress import several
from alterrec.trackers import parse_tracker


@app.command()
@train_app.command()
@guarded
def train(
    model: options.TrainedName = None,
    data: options.Data = None,
    format: options.Format = None,
    locale: options.Locale = None,
    out: Annotated[Path | None, options.folder("Folder of the run; default: a new one under runs/.")] = None,
    continue_from: Annotated[
        Path | None,
        typer.Option(
            "--from",
            metavar="RUN",
            help="Continue a finished run on other sessions and items, with its settings and fewer epochs.",
        ),
    ] = None,
    seed: Annotated[int | None, typer.Option(help="Seed of all random numbers; default 0.")] = None,
    preset: options.Presets = None,
    text: options.Text = None,
    text_encoder: options.TextEncoder = None,
    settings: options.Settings = None,
    column: options.Columns = None,
    drop_unknown: options.DropUnknown = False,
    resume: Annotated[
        bool,
        typer.Option("--resume", help="Resume or extend the run in --out, or start it if there is none."),
    ] = False,
    memory_budget: Annotated[
        str | None,
        typer.Option(
            metavar="SIZE", help="Memory limit, e.g. 4GiB; scores are computed in chunks to stay below it."
        ),
    ] = None,
    profile: Annotated[
        bool, typer.Option("--profile", help="Print how long each part of a training step takes.")
    ] = False,
    track: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME=WHERE",
            help="Log settings and metrics to tensorboard=FOLDER, mlflow=EXPERIMENT or wandb=PROJECT. "
            "Repeatable.",
        ),
    ] = None,
) -> int:
    """Train a system, evaluate it and write a report.

    The folder given by --data contains items.csv (item_id and any text columns) and either train.csv,
    valid.csv and test.csv or one interactions.csv (session_id, item_id, optionally timestamp and user_id).
    Parquet files work too. The last line of the output is the folder of the run, which contains report.html.

    With --from, training continues a finished run on the data that are given, next month's for example: rows
    of items are kept by their ids, and there is no warm-up.

    Ctrl-C and SIGTERM stop training and keep the best epoch so far; --resume continues, also after a crash.
    A finished run is extended by --resume with another --set schedule.epochs.

    \b
    Examples:
      alterrec train
      alterrec train --data my_sessions --text-encoder all-MiniLM-L6-v2
      alterrec train alterrec_aug --data my_sessions --set schedule.gap=4 --seed 1
      alterrec train --data my_sessions --out runs/mine --resume
      alterrec train --from runs/mine --data my_sessions_of_june
    """
    overrides = {"run.memory_budget": memory_budget} if memory_budget else {}
    overrides |= options.parse_overrides(text_encoder, settings, text=text)
    columns = options.parse_columns(column)
    presets = options.parse_presets(preset)
    trackers = [parse_tracker(text) for text in track or ()]
    from alterrec.models.reads import resolve_read

    # Settings are checked before the readers are imported, and files and columns before torch is, which
    # takes seconds.
    if continue_from is None:
        resolve_read(model or "alterrec", presets, overrides)
    with Watcher(live=sys.stdout.isatty()) as watch:
        listen = several(watch, *trackers)
        from alterrec.data.readers import DataSource
        from alterrec.runs.inputs import read_inputs

        inputs = read_inputs(
            DataSource(data, columns, drop_unknown, format, locale),
            model,
            out=out,
            presets=presets,
            overrides=overrides,
            seed=seed,
            continue_from=continue_from,
            resume=resume,
            progress=listen,
        )
        watch.working("loading torch")
        from alterrec.cli.run_tables import show_profile, show_result
        from alterrec.runs.fit import carry_out

        run = carry_out(inputs, profile=profile, progress=listen)
    for warning in run.result["warnings"]:
        warn(f"warning: {warning}")
    print_line("")
    show_result(run.result)
    if profile:
        print_line("")
        show_profile(run.result["profile"])
    if run.recipe.run.report:
        print_line(f"\nreport: {run.path / 'report.html'}")
    if run.stopped == "interrupted":
        epochs = run.result["epochs"]
        warn(f"stopped after epoch {epochs}; the run folder has the best epoch so far; --resume continues")
    print_line(str(run.path))
    return signals.exit_code() if run.stopped == "interrupted" else DONE


@app.command()
@guarded
def plan(
    model: options.ModelName = "alterrec", preset: options.Presets = None, settings: options.Settings = None
) -> int:
    """Show the training phases of a recipe without training.

    Lists the epochs of each phase and the settings that differ from the defaults.

    \b
    Examples:
      alterrec plan
      alterrec plan alterrec_aug --preset paper --set schedule.gap=4
    """
    from alterrec.models.reads import resolve_read
    from alterrec.recipe import differences, resolve
    from alterrec.training.schedule import describe, phases

    recipe = resolve_read(
        model, options.parse_presets(preset), options.parse_pairs(settings, "--set", options.SETTING_EXAMPLE)
    )
    print_line(f"{recipe.model_name}, preset {' + '.join(recipe.presets)}")
    for line in describe(phases(recipe)) or ["nothing to train"]:
        print_line(f"  {line}")
    changed = list(differences(recipe, resolve("alterrec")))
    print_line("settings that differ from the defaults:" if changed else "all settings are the defaults")
    for line in changed:
        print_line(f"  {line}")
    return DONE


@app.command()
@guarded
def evaluate(
    run: options.RunFolder,
    data: Annotated[
        Path | None,
        typer.Option(
            metavar="PATH",
            help="Folder of data with the same items as the run, or a file of new sessions alone; default: "
            "built-in data.",
        ),
    ] = None,
    items: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="With a file of new sessions: CSV or Parquet of items, of which those that are new to the "
            "run are scored by their texts.",
        ),
    ] = None,
    format: options.Format = None,
    locale: options.Locale = None,
    column: options.Columns = None,
    drop_unknown: options.DropUnknown = False,
    metrics: Annotated[
        str | None,
        typer.Option(
            metavar="NAME,NAME...",
            help="Metrics to report, such as recall@20,map@10,coverage@20; default those of the run.",
        ),
    ] = None,
    as_json: options.Json = False,
) -> int:
    """Measure a saved run on validation and test data, or on new sessions.

    Each metric is shown for the final score and for its parts, such as ID and text, and by popularity of
    the target. Every target is ranked among all items. NDCG@20 is also shown with the session's own items
    as candidates and without them; then a target that repeats one of them counts as not found.

    If --data is a file of sessions, such as those of next week, in a layout of `alterrec recommend`, the run
    is measured on them alone. Items that it does not know are left out and counted on standard error, unless
    --items has their texts.

    \b
    Examples:
      alterrec evaluate runs/alterrec-my_sessions-seed0 --data my_sessions
      alterrec evaluate runs/alterrec-my_sessions-seed0 --data next_week.csv
      alterrec evaluate runs/alterrec-my_sessions-seed0 --data my_sessions --metrics recall@20,coverage@20
    """
    columns = options.parse_columns(column)
    names = None if metrics is None else [name.strip() for name in metrics.split(",") if name.strip()]
    if data is not None and data.is_file() and format is None:
        with working("reading the sessions and evaluating"):
            from alterrec.serving.new_sessions import evaluate_sessions

            numbers = evaluate_sessions(run, data, items=items, metrics=names, columns=columns, listen=warn)
    else:
        if items is not None:
            raise InputError("--items needs a file of new sessions as --data; a folder has its own items")
        with working("reading the data"):
            from alterrec.data.readers import DataSource
            from alterrec.runs.inputs import read_catalogue

            source = DataSource(data, columns, drop_unknown, format, locale)
            dataset = source.read(read_catalogue(run).recipe, warn)
        with working("loading the model and evaluating"):
            from alterrec.runs.measure import evaluate_run

            numbers = evaluate_run(run, dataset, metrics=names)
    from alterrec.cli.run_tables import show_evaluation

    if as_json:
        print_line(json.dumps(numbers, indent=2))
    else:
        show_evaluation(numbers)
    return DONE


@app.command()
@guarded
def verify(run: options.RunFolder, as_json: options.Json = False) -> int:
    """Check that no file of a run was damaged or changed.

    Compares the size and the content of each file with manifest.json, and exits with code 2 if one was
    damaged, exchanged or removed. Pages and checkpoints are not compared, because later commands rewrite
    them. Other commands compare sizes, small files and samples of large ones.

    \b
    Example:
      alterrec verify runs/alterrec-my_sessions-seed0
    """
    from alterrec.manifest import MANIFEST, check_manifest
    from alterrec.record_json import to_json
    from alterrec.report.plain import show
    from alterrec.report.tables import Table, count

    if not (run / "result.json").exists():
        raise InputError(f"{run} has no result.json; give the folder of a finished run")
    manifest = check_manifest(run, contents=True)
    if manifest is None:
        raise InputError(
            f"{run} has no {MANIFEST}, because an earlier version of alterrec wrote it; repeat the run to "
            "get one"
        )
    if as_json:
        print_line(json.dumps(to_json(manifest), indent=2))
        return DONE
    rows = [(name, entry.role, count(entry.size), entry.hash) for name, entry in manifest.files.items()]
    show(Table(("file", "content", "bytes", "hash"), tuple(rows), title=str(run)))
    print_line("all files are those that the run wrote")
    return DONE

"""Commands that carry out many runs: study and tune."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from alterrec import signals
from alterrec.cli import completion, options
from alterrec.cli.application import DONE, INTERNAL_ERROR, app, command_line, guarded
from alterrec.console import Watcher, print_line, print_wrapped, warn
from alterrec.errors import WRONG_INPUT

if TYPE_CHECKING:
    from alterrec.studies.study import PlannedStudy

STOPPED = "stopped; run the same command again to resume"


@app.command()
@guarded
def study(
    name: Annotated[
        str,
        typer.Argument(
            metavar="NAME",
            help="Name of the study; `alterrec list studies` shows all.",
            autocompletion=completion.studies,
        ),
    ],
    data: Annotated[
        list[str] | None,
        typer.Option(
            "--data",
            metavar="[NAME=]PATH",
            help="Folder with items and sessions; default: built-in data. Repeatable in table1, ablation and "
            "fusion: each data set is a group of columns.",
        ),
    ] = None,
    format: options.Format = None,
    locale: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME",
            help="Part of a multilingual data set to read, e.g. FR; `all` reads every part. Give it once for "
            "all data sets, or once for each --data in their order ('' for one without parts).",
        ),
    ] = None,
    out: Annotated[Path | None, options.folder("Folder of the study; default: studies/NAME-DATA.")] = None,
    runs: Annotated[
        Path | None,
        options.folder("Folder of the runs, shared by studies; default: study-runs next to --out."),
    ] = None,
    quick: Annotated[
        bool,
        typer.Option(
            "--quick",
            help="Give a coarse answer in minutes: one seed, no search; model.dim 32, schedule.epochs 12, "
            "data.prefixes 4, optim.lr 0.01 unless --set changes them. Without --only, table1 leaves out "
            "variants; `alterrec list systems` shows which.",
        ),
    ] = False,
    seeds: Annotated[
        int | None, typer.Option(metavar="N", help="Use seeds 0 to N - 1; default 3, or 1 with --quick.")
    ] = None,
    only: Annotated[
        list[str] | None,
        typer.Option(
            metavar="MODEL",
            help="Run only this system. Repeatable. A sweep needs one system, which can be any.",
            autocompletion=completion.systems,
        ),
    ] = None,
    skip: Annotated[
        list[str] | None,
        typer.Option(
            metavar="MODEL", help="Leave out this system. Repeatable.", autocompletion=completion.systems
        ),
    ] = None,
    check: Annotated[
        bool,
        typer.Option(
            "--check", help="Only print what each row needs and what is in the way, and run nothing."
        ),
    ] = False,
    over: Annotated[
        list[str] | None,
        typer.Option(
            metavar="KEY=V1,V2,...",
            help="A recipe key to sweep and its values, in addition to the recipe's own value; "
            "KEY=V1,V2:KEY=V1,V2 varies two keys together. Repeatable: each is a separate sweep. "
            "Default: the sweeps of the paper.",
        ),
    ] = None,
    metric: Annotated[
        str | None,
        typer.Option(
            metavar="NAME", help="Metric shown by imbalance, alternation and sweep; default ndcg@20."
        ),
    ] = None,
    preset: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME",
            help="Preset of every run; default paper. Give several as a,b or repeat the option; later ones "
            "override earlier ones. `alterrec list presets` explains them.",
            autocompletion=completion.presets,
        ),
    ] = None,
    settings: Annotated[
        list[str] | None,
        typer.Option(
            "--set",
            metavar="KEY=VALUE",
            help="Change a setting, which is then not searched. Repeatable.",
            autocompletion=completion.keys,
        ),
    ] = None,
    reference: Annotated[
        str | None,
        typer.Option(
            metavar="MODEL",
            help="Reference system of the longtail study; default bert4rec.",
            autocompletion=completion.systems,
        ),
    ] = None,
    search: Annotated[
        bool, typer.Option("--search", help="Search the settings of every system, as table1 always does.")
    ] = False,
    jobs: Annotated[int, typer.Option(metavar="N", help="Number of runs at a time.")] = 1,
    processes: Annotated[
        int, typer.Option(metavar="N", help="Number of processes that share each run, by torchrun.")
    ] = 1,
    text: options.Text = None,
    text_encoder: options.TextEncoder = None,
    column: options.Columns = None,
    drop_unknown: options.DropUnknown = False,
) -> int:
    """Reproduce a table or figure of the paper on your data.

    table1, and any other study with --search, first searches optim.lr {0.01, 0.001} and model.dropout {0.1,
    0.3, 0.5} of every system on validation with one seed, as the paper did. Dropout is searched only where
    a system uses it. The chosen setting is then trained with all seeds and evaluated on test. The study
    writes report.html, NAME.md, the tables as .csv and .tex, the figures as PNG and SVG, and study.json
    with all numbers to --out.

    Before the first run, every row is checked: settings against the catalogue, texts and users, the text
    encoder, memory. If a row cannot run, the study asks on a terminal whether to leave it out, and stops
    elsewhere. A system that needs users or texts which the data do not have is N/A, unless --only names it.

    Finished runs are kept in --runs by recipe and data, so studies reuse each other's runs. Ctrl-C stops;
    the same command resumes. Several such commands, on one or more machines that share the folders, divide
    the work. A failed run does not stop the others, but the exit code is then 1.

    \b
    Examples:
      alterrec study table1 --data my_sessions --quick
      alterrec study table1 --data my_sessions --out studies/mine --jobs 2 --set run.threads=1
      alterrec study table1 --data my_sessions --only alterrec --only sasrec --seeds 5
      alterrec study table1 --data my_sessions --check
      alterrec study table1 --data shop --data Music=my_music --quick
      alterrec study fusion --data my_sessions --quick
      alterrec study longtail --data my_sessions --reference sasrec
      alterrec study sweep --data my_sessions --over window.last=0.1,0.3 --over optim.lr=0.001,0.01
      alterrec study sweep --data my_sessions --only sasrec --over model.dim=32,64:model.layers=1,2
    """
    overrides = options.parse_overrides(text_encoder, settings, "run.threads=1", text=text)

    def planned_without(*left_out: str) -> PlannedStudy:
        from alterrec.studies.study import plan_study

        return plan_study(
            name,
            options.parse_data(data),
            out=out,
            runs=runs,
            presets=options.parse_presets(preset, "paper"),
            settings=overrides,
            seeds=seeds,
            only=only or (),
            skip=(*(skip or ()), *left_out),
            over=[options.parse_axes(text) for text in over or ()],
            metric=metric or "",
            reference=reference or "",
            search=search,
            quick=quick,
            jobs=jobs,
            processes=processes,
            format=format,
            locale=locale,
            columns=options.parse_columns(column),
            drop_unknown=drop_unknown,
            command=command_line(),
            listen=watch,
        )

    with Watcher(live=sys.stdout.isatty()) as watch:
        planned = planned_without()
    from alterrec.report.plain import show
    from alterrec.studies.study import carry_out

    if planned.table().rows:
        show(planned.table())
    if planned.stopping and not check and _agrees(f"Leave out {', '.join(planned.stopping)} and go on?"):
        with Watcher(live=sys.stdout.isatty()) as watch:
            planned = planned_without(*planned.stopping)
    planned.require()
    if check:
        return DONE
    with Watcher(live=sys.stdout.isatty()) as watch:
        done = carry_out(planned, watch)
    findings = done.shown.findings if done.shown else []
    for line in findings:
        print_wrapped(line)
    for table in done.first_tables():
        print_line("")
        show(table)
    for run, failure in done.failed.items():
        warn(f"failed: {run}: {failure.reason}")
    if done.stopped:
        warn(STOPPED)
    if findings:
        print_line(f"\nreport: {done.path / 'report.html'}")
        print_line(str(done.path))
    broken = any(failure.code != WRONG_INPUT for failure in done.failed.values())
    return signals.exit_code() if done.stopped else INTERNAL_ERROR if broken else DONE


def _agrees(question: str) -> bool:
    """Ask on a terminal; elsewhere nobody would answer."""
    return sys.stdin.isatty() and sys.stdout.isatty() and typer.confirm(question)


@app.command()
@guarded
def tune(
    model: options.ModelName = "alterrec",
    search: Annotated[
        list[str] | None,
        typer.Option(
            metavar="KEY=SPACE",
            help="A setting and the values to try: a,b,c or LOW..HIGH; append :log to sample on a log "
            "scale. Repeatable.",
            autocompletion=completion.keys,
        ),
    ] = None,
    data: options.Data = None,
    format: options.Format = None,
    locale: options.Locale = None,
    trials: Annotated[
        int, typer.Option(metavar="N", help="Number of trials in total, including those already in --out.")
    ] = 30,
    out: Annotated[
        Path | None, options.folder("Folder of the search; default: studies/tune-MODEL-DATA.")
    ] = None,
    seed: Annotated[int, typer.Option(help="Seed of the search and of every run.")] = 0,
    preset: options.Presets = None,
    text: options.Text = None,
    text_encoder: options.TextEncoder = None,
    settings: options.Settings = None,
    column: options.Columns = None,
    drop_unknown: options.DropUnknown = False,
) -> int:
    """Search for the best settings on validation data, with Optuna.

    Needs pip install 'alterrec[tune]'. Optuna samples settings and stops trials early that are below the
    median at the same epoch. The test split is never used. A setting that diverges is a failed trial. At
    the end, the five best settings are printed, and the command that trains the best one with several
    seeds. --out contains trials.csv and study.json with all trials, and trials/ with the runs that finished.

    Ctrl-C stops; the same command resumes, also after a crash. A larger --trials extends a search. Several
    such commands share one search.

    \b
    Examples:
      alterrec tune --search optim.lr=0.0001..0.01:log --search id.table_dropout=0..0.5
      alterrec tune id_only --data my_sessions --search model.dim=32,64,128 --trials 50
      alterrec tune --data my_sessions --search window.last=0.02..0.5:log --search schedule.gap=1..4
    """
    overrides = options.parse_overrides(text_encoder, settings, text=text)
    with Watcher(live=sys.stdout.isatty()) as watch:
        from alterrec.report.plain import show
        from alterrec.studies.search_space import EXAMPLE
        from alterrec.studies.tune import tune as run_search

        found = run_search(
            data,
            model,
            options.parse_pairs(search, "--search", EXAMPLE),
            trials=trials,
            out=out,
            presets=options.parse_presets(preset),
            overrides=overrides,
            seed=seed,
            format=format,
            locale=locale,
            columns=options.parse_columns(column),
            drop_unknown=drop_unknown,
            command=command_line(),
            progress=watch,
        )
    if found.best is not None:
        print_line("")
        show(found.table())
        print_line(f"\ntrain the best setting with several seeds and evaluate it on test:\n  {found.train}")
    if found.stopped:
        warn(STOPPED)
    print_line(str(found.path))
    return signals.exit_code() if found.stopped else DONE

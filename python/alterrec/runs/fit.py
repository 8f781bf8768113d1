"""Train, measure and report one system: data and a recipe in, a run folder out."""

from __future__ import annotations

import platform
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch

from alterrec import parallel
from alterrec.data.dataset import Dataset
from alterrec.data.frames import Frames
from alterrec.data.readers import DataSource
from alterrec.data.repeats import SeenItems, seen_items
from alterrec.errors import InputError
from alterrec.evaluation.choices import choose_scales, choose_system
from alterrec.evaluation.evaluate import Protocol, check_scores, evaluate, top_items
from alterrec.evaluation.scales import fit_scales
from alterrec.files import write_json, write_text
from alterrec.models.base import Recommender, Scorer
from alterrec.models.catalogue import UNTRAINED, lookup
from alterrec.progress import Event, Listener, ignore
from alterrec.ranking import set_threads
from alterrec.recipe import Recipe, dump_recipe, flat_tables, recipe_tables
from alterrec.record_json import to_json
from alterrec.report.live import Progress, listener
from alterrec.results import CHECKPOINT, SCHEMA, RunResult
from alterrec.runs import lists, model_files, records, saved_model
from alterrec.runs.build import build, load_weights
from alterrec.runs.first_process import finished_already, opened_by_first, signals_of_all, write_page
from alterrec.runs.fitted import FittedRun
from alterrec.runs.folder import OpenRun
from alterrec.runs.fusion import NEIGHBOURS, fuse, is_sum
from alterrec.runs.inputs import RunInputs, read_inputs
from alterrec.runs.memory import MemoryPlan, peak_memory_bytes, plan_memory
from alterrec.runs.rebuild import check_device
from alterrec.runs.text_encoder import TextEncoder
from alterrec.sessions import SessionStore
from alterrec.training.checkpoint import TrainingState
from alterrec.training.schedule import Phase, describe
from alterrec.training.step import Clock, NoClock
from alterrec.training.trainer import INITIALISATION, Trainer, torch_seed
from alterrec.training.windows import check_catalogue, shortened_window


def fit(
    data: str | Path | Dataset | None = None,
    model: str | None = None,
    *,
    items: Any = None,
    interactions: Any = None,
    train: Any = None,
    valid: Any = None,
    test: Any = None,
    out: str | Path | None = None,
    presets: Sequence[str] = ("best",),
    overrides: Mapping[str, Any] | None = None,
    seed: int | None = None,
    continue_from: str | Path | None = None,
    resume: bool = False,
    columns: Mapping[str, str] | None = None,
    drop_unknown: bool = False,
    format: str | None = None,
    locale: str | None = None,
    profile: bool = False,
    progress: Progress | Sequence[Progress] = "notebook",
) -> FittedRun:
    """Train a system, choose the weights of its score, measure it and write a report.

    Args:
        data: path of a folder or file (see docs/data.md), or a :class:`~alterrec.data.dataset.Dataset`.
            Default: the built-in catalogue.
        model: name of a system, one of ``alterrec list models``. Default: ``alterrec``.
        items, interactions, train, valid, test: tables in memory instead of ``data``: DataFrames and
            LazyFrames of polars, DataFrames of pandas, Arrow tables, or lists of sessions, as for
            :func:`~alterrec.data.readers.load_dataset`.
        out: folder of the run. Default: a new folder under ``runs/``.
        presets: names of presets: ``best`` (the default), ``paper``, ``authors``, ``original`` and those of
            data sets; later ones take precedence.
        overrides: recipe key -> value, such as ``{"schedule.gap": 4}``. Default: none.
        seed: seed of all random numbers, an integer from 0: the override ``run.seed``. Default: 0.
        continue_from: folder of a finished run that continues on these data, with its system and settings
            (docs/changing_catalogue.md). Default: a new training.
        resume: continue the interrupted run in ``out``, or extend a finished one: the keys of
            :func:`~alterrec.recipe.changeable_keys`, such as ``schedule.epochs``, may have other values. If
            ``out`` is missing or empty, a new run starts. Default: False.
        columns: our column name -> the name in the data, for any of ``session_id``, ``item_id``,
            ``timestamp`` and ``user_id``. Default: the names are ours.
        drop_unknown: whether session rows of items that are not in ``items`` are dropped and counted.
            Default: they are an error.
        format: format of the data, a name from ``alterrec list formats``; None recognises it.
        locale: the part of a multilingual format to read, such as ``"FR"``, or ``"all"``. Default: None.
        profile: whether the seconds of each part of a training step are measured and stored in
            ``result["profile"]``. Default: False.
        progress: ``notebook`` shows one line with a bar in a notebook and nothing elsewhere; None shows
            nothing; a function, such as a tracker of :mod:`alterrec.trackers`, is called with every
            :class:`~alterrec.progress.Event`; a list has several of these, such as
            ``["notebook", TensorBoard("logs")]``. In every case the logger ``alterrec`` gets the lines, at
            level INFO.

    Returns:
        The finished run. After Ctrl-C it has the best epoch so far, and ``stopped`` is ``interrupted``.

    Raises:
        InputError: the input is wrong, or another process is writing in ``out``; nothing is written then.
        KeyboardInterrupt: Ctrl-C before the first epoch had ended; ``resume`` continues.
    """
    listen = listener(progress)
    frames = Frames(items, interactions, train, valid, test)
    if data is not None and frames:
        raise InputError("data and tables are given; give data, or the tables alone")
    inputs = read_inputs(
        DataSource(frames or data, columns or {}, drop_unknown, format, locale),
        model,
        out=out,
        presets=presets,
        overrides=overrides,
        seed=seed,
        continue_from=continue_from,
        resume=resume,
        progress=listen,
    )
    return carry_out(inputs, profile=profile, progress=listen)


def carry_out(inputs: RunInputs, *, profile: bool = False, progress: Listener = ignore) -> FittedRun:
    """Train and measure a run whose data are read; as :func:`fit`, which reads them first."""
    with parallel.joined_job(inputs.recipe.run.device) as job:
        return _carry_out(inputs, profile, progress if job.is_first else ignore)


def _carry_out(inputs: RunInputs, profile: bool, progress: Listener) -> FittedRun:
    """Carry out a run in this process, or in all of a job; only the first one writes and shows anything."""
    began = time.perf_counter() - inputs.seconds
    recipe, plan, dataset = inputs.recipe, inputs.plan, inputs.dataset
    set_up(recipe)
    # Once for all: another process may see the folder after the first one has begun to write.
    start = parallel.from_first(lambda: inputs.start)
    parallel.from_first(lambda: start.check_data(dataset, sum(phase.epochs for phase in plan)))
    seen, repeats = seen_items(recipe.data.exclude_seen, dataset.train, dataset.valid, recipe.data.targets)
    longest = int(dataset.train.lengths.max(initial=1))
    excluded = min(longest - 1, recipe.model.max_len) if seen != "kept" else 0
    check_catalogue(recipe.window, plan, dataset.num_items, excluded)
    lists.check_lists(recipe.run.list_metrics, dataset)
    shortened = shortened_window(recipe.window, plan, dataset.num_items)
    for note in filter(None, (*dataset.notes, start.note, shortened)):
        progress(Event("notice", note))
    if parallel.from_first(lambda: start.is_done) and start.path is not None:
        return parallel.from_first(lambda: finished_already(start, recipe, progress))
    resumes = parallel.from_first(lambda: start.resumes)
    progress(Event("plan", "\n".join(_plan_lines(recipe, dataset, plan, seen))))
    progress(Event("work", "preparing the model"))
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(torch_seed(recipe.run.seed, INITIALISATION))

        def planned(model: Recommender | None, further: int = 0) -> MemoryPlan:
            resident = peak_memory_bytes() + further
            return plan_memory(model, recipe, plan, dataset.num_items, longest, resident)

        network, encoder = build(recipe, dataset, progress, planned)
        if not resumes:
            load_weights(network, recipe, dataset, progress)
        # The same chunks in all processes, whatever each of them has allocated.
        memory = parallel.from_first(lambda: planned(network))
        for line in memory.lines():
            progress(Event("plan", line))
        protocol = saved_model.protocol_of(recipe, seen, repeats, memory.score_bytes)
        clock = Clock(recipe.run.device) if profile else NoClock()
        try:
            with opened_by_first(start, dataset.name) as (path, folder):
                settings = flat_tables(recipe_tables(dump_recipe(recipe)))
                progress(Event("start", run=str(path), settings=settings))
                rows = memory.train_rows
                job = _Job(
                    recipe, dataset, plan, protocol, clock, rows, encoder, path, folder, progress, began
                )
                numbers = _train(job, network, resumes)
            if recipe.run.report and folder is not None:
                write_page(path, progress)
        except BaseException as error:
            try:
                progress(Event("failed"))
            finally:
                # Whatever a listener does, what ended the run is raised.
                raise error
    views = {split: numbers[split] for split in ("valid", "test")}
    progress(Event("done", str(path), epoch=numbers["epochs"], **views))
    return FittedRun(path, recipe, numbers)


@dataclass(frozen=True)
class _Job:
    """What the steps of a run share.

    ``score_rows`` is that of the trainer, ``began`` when the run began; ``folder`` is the open folder in the
    one process that writes.
    """

    recipe: Recipe
    dataset: Dataset
    plan: Sequence[Phase]
    protocol: Protocol
    clock: Clock
    score_rows: int
    encoder: TextEncoder | None
    path: Path
    folder: OpenRun | None
    progress: Listener
    began: float


def _train(job: _Job, network: Recommender | None, resume: bool) -> dict[str, Any]:
    """Train, measure and write a run; return the content of ``result.json``.

    Raises:
        KeyboardInterrupt: Ctrl-C before there was a best epoch, or twice.
    """
    recipe, dataset, protocol = job.recipe, job.dataset, job.protocol
    if network is None:
        system: Scorer = _choose_baseline(recipe.model_name, recipe, dataset, protocol)
        return _finish(job, system, TrainingState(dump_recipe(recipe)), "finished")

    def listen(event: Event) -> None:
        if job.folder is not None:
            job.folder.check_lock()
        job.progress(event)

    with signals_of_all() as asked_to_stop:
        # Not kept in a variable, so that optimisers and buffers are freed before the evaluation.
        state, stopped = Trainer(
            network,
            recipe,
            job.plan,
            dataset.train,
            lambda: _validate(network, dataset.valid, protocol),
            job.path / CHECKPOINT,
            inspect=lambda: records.part_losses(network, dataset, protocol),
            fingerprint=dataset.fingerprint,
            seen=protocol.seen,
            score_rows=job.score_rows,
            clock=job.clock,
            listen=listen,
            stopped=asked_to_stop,
        ).run(resume=resume)
    if stopped == "interrupted" and not state.best:
        raise KeyboardInterrupt
    if stopped == "patience" and resume:
        message = (
            f"training ends by schedule.patience = {recipe.schedule.patience}; a larger value resumes it"
        )
        job.progress(Event("notice", message))
    weights = dict(network.weights)
    try:
        return _finish(job, network, state, stopped)
    except KeyboardInterrupt:
        if network.shard is not None:
            # Processes are at different places of an evaluation that they carry out together.
            raise
        # Ctrl-C in the evaluation: once more with what the score needs alone. A second one ends it.
        network.weights, network.gate = weights, None
        network.untrained.clear()
        return _finish(job, network, state, "interrupted")


def _finish(job: _Job, trained: Scorer, state: TrainingState, stopped: str) -> dict[str, Any]:
    """Choose the weights of the score, measure the system and write all files; return the result."""
    recipe, dataset, protocol, progress = job.recipe, job.dataset, job.protocol, job.progress
    trained_at = time.perf_counter()
    progress(Event("work", "evaluating"))
    baselines = _baselines(recipe, dataset, protocol, trained, progress, interrupted=stopped == "interrupted")
    fitted = fuse(trained, recipe, dataset, protocol, baselines, progress)
    fitted.scales = choose_scales(fitted, dataset.valid, protocol, recipe.schedule.metric)
    ranks = {split: evaluate(fitted, dataset.splits[split], protocol) for split in ("valid", "test")}
    top = top_items(fitted, dataset.test, protocol, records.top_size(dataset, protocol))
    examples = records.examples(fitted, dataset, ranks["test"], protocol)
    baseline_ranks = records.rank_baselines(baselines, dataset, protocol)
    measured = records.baseline_metrics(baseline_ranks)
    on_test = {name: by_split["test"] for name, by_split in baseline_ranks.items()}
    listed = lists.measure(fitted, recipe, dataset, protocol, recipe.run.list_metrics, progress)
    longest = int(dataset.train.lengths.max(initial=1))
    ended = time.perf_counter()
    result = RunResult(
        schema=SCHEMA,
        model=recipe.model_name,
        presets=list(recipe.presets),
        seed=recipe.run.seed,
        data=records.run_data(recipe, dataset, protocol),
        best_epoch=state.best_epoch,
        epochs=state.epoch,
        stopped=stopped,
        valid=ranks["valid"].all_metrics(),
        test=ranks["test"].all_metrics(),
        targets={split: records.target_counts(dataset, part) for split, part in ranks.items()},
        by_seen={split: part.metrics_by_rule() for split, part in ranks.items()},
        repeats=records.repeat_summary(fitted, protocol, longest),
        queries=records.query_weights(fitted, longest - 1),
        groups={"test": records.popularity_groups(dataset, ranks["test"])},
        lists=listed,
        fusion=records.fusion_weights(fitted),
        gate=records.gate_coefficients(fitted),
        alphas=records.alpha_metrics(fitted, dataset, protocol, recipe.schedule.metric),
        parameters=records.num_parameters(fitted),
        baselines={
            name: {split: by_rule[protocol.seen] for split, by_rule in by_split.items()}
            for name, by_split in measured.items()
        },
        baselines_by_seen=measured,
        errors=records.session_errors(ranks["test"], on_test),
        comparisons=records.baseline_comparisons(recipe.model_name, ranks["test"], on_test),
        examples_drawn=True,
        phases=records.phase_records(job.plan),
        warnings=state.warnings,
        seconds=round(ended - job.began, 3),
        seconds_by_part={"train": round(state.seconds, 3), "evaluate": round(ended - trained_at, 3)},
        profile=job.clock.seconds,
        peak_memory_bytes=peak_memory_bytes(),
        processes=parallel.job().world,
        process_peak_memory_bytes=list(parallel.of_each(peak_memory_bytes())),
        threads=torch.get_num_threads(),
        versions={
            "alterrec": version("alterrec"),
            "torch": torch.__version__,
            "python": platform.python_version(),
        },
        manifest=True,
    )
    numbers: dict[str, Any] = parallel.from_first(lambda: to_json(result))
    if job.folder is None:
        # The first process writes the model, and gets the divided rows of this one.
        model_files.save_model(job.path, fitted, protocol)
        return numbers
    with job.folder.results() as new:
        model_files.save_model(new, fitted, protocol)
        write_text(new / "recipe.toml", dump_recipe(recipe))
        model_files.write_vocabulary(new, dataset)
        model_files.write_users(new, recipe, dataset)
        if job.encoder is not None:
            job.encoder.write(new)
        model_files.write_curves(new, state.curves)
        model_files.write_ranks(new, dataset, ranks)
        model_files.write_top(new, top)
        write_json(new / "examples.json", to_json(examples))
        write_json(new / "result.json", numbers)
    return numbers


def set_up(recipe: Recipe) -> None:
    """Check the device and set the number of threads."""
    check_device(recipe.run.device)
    if recipe.run.threads:
        torch.set_num_threads(recipe.run.threads)
        set_threads(recipe.run.threads)


def _validate(model: Recommender, valid: SessionStore, protocol: Protocol) -> dict[str, dict[str, float]]:
    """Return validation metrics of every view; scales of the repeat component are fitted first.

    Raises:
        NotFiniteError: scores are NaN.
    """
    try:
        model.scales = fit_scales(model, valid, protocol)
        return evaluate(model, valid, protocol).all_metrics()
    except ValueError:
        check_scores(model, valid, protocol)
        raise


def _plan_lines(recipe: Recipe, dataset: Dataset, plan: Sequence[Phase], seen: SeenItems) -> list[str]:
    cold = int((~dataset.trained).sum())
    sessions = ", ".join(f"{store.num_sessions} {split}" for split, store in dataset.splits.items())
    return [
        f"{dataset.name}: {dataset.num_items} items ({cold} without training), {sessions} sessions",
        f"{records.SEEN_LINES[seen]} (data.exclude_seen = {recipe.data.exclude_seen})",
        *describe(plan),
    ]


def _choose_baseline(name: str, recipe: Recipe, dataset: Dataset, protocol: Protocol) -> Scorer:
    """Choose the settings of a non-neural baseline on validation."""
    return choose_system(
        lookup(name).candidates(dataset.train), dataset.valid, protocol, recipe.schedule.metric
    )


def _baselines(
    recipe: Recipe,
    dataset: Dataset,
    protocol: Protocol,
    fitted: Scorer,
    progress: Listener,
    *,
    interrupted: bool,
) -> dict[str, Scorer]:
    """Choose the settings of the baselines; an interrupted run has those alone that its score needs."""
    every = recipe.run.baselines and not interrupted
    wanted = [name for name in UNTRAINED if every and name != recipe.model_name]
    if is_sum(fitted) and recipe.fusion.neighbours:
        wanted += [name for name in NEIGHBOURS if name not in wanted]
    found: dict[str, Scorer] = {}
    for name in wanted:
        progress(Event("notice", f"measuring {name}"))
        found[name] = _choose_baseline(name, recipe, dataset, protocol)
    return found

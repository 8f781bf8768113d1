"""One run: data and recipe in, a run folder out."""

from __future__ import annotations

import platform
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray

from alterrec.analyses.run_page import RunReport, write_report
from alterrec.analyses.run_page import result as saved_result
from alterrec.data.categories import category_ids
from alterrec.data.dataset import Dataset, ItemText
from alterrec.data.readers import DataSource
from alterrec.data.statistics import seen_excluded
from alterrec.data.text import standardise, text_vectors, without_words
from alterrec.errors import InputError
from alterrec.evaluation.choose import choose_system, choose_weights
from alterrec.evaluation.evaluate import Protocol, evaluate, top_items
from alterrec.files import file_name, write_json, write_text
from alterrec.models.base import Recommender, Scorer
from alterrec.models.catalogue import UNTRAINED, build_model, lookup, reads_text
from alterrec.models.parts import ModelInputs
from alterrec.models.reads import resolve_read
from alterrec.progress import Event, Listener, ignore
from alterrec.ranking import set_threads
from alterrec.recipe import Recipe, dump_recipe
from alterrec.results import CHECKPOINT
from alterrec.runs import facts
from alterrec.runs import saved_model as run_folder
from alterrec.runs.memory import plan_memory
from alterrec.runs.pretrained import start_from
from alterrec.training.checkpoint import TrainingState
from alterrec.training.schedule import Phase, check_freeze, describe, phases
from alterrec.training.step import Clock, NoClock, check_loss
from alterrec.training.supervision import WindowRanks
from alterrec.training.trainer import INITIALISATION, Trainer, torch_seed

if TYPE_CHECKING:
    from alterrec.runs.recommend import Recommendation


@dataclass(frozen=True)
class FittedRun:
    """A run folder and what is in its ``recipe.toml`` and ``result.json``."""

    path: Path
    recipe: Recipe
    result: dict[str, Any] = field(repr=False)

    @property
    def stopped(self) -> str:
        """``finished``, ``patience`` or ``interrupted``."""
        return str(self.result["stopped"])

    def recommend(
        self, sessions: Sequence[Sequence[str]], k: int = 20, *, users: Sequence[str | None] | None = None
    ) -> list[list[Recommendation]]:
        """The ``k`` best next items of each session of external ids, and of its user where one is given."""
        from alterrec.runs.recommend import load

        return load(self.path).recommend(sessions, k, users=users)

    def show(self) -> RunReport:
        """Its tables and pictures; the last line of a notebook's cell shows them."""
        return saved_result(self.path)


def fit(
    data: str | Path | Dataset | None = None,
    model: str = "alterrec",
    *,
    out: str | Path | None = None,
    presets: Sequence[str] = ("best",),
    overrides: Mapping[str, Any] | None = None,
    seed: int | None = None,
    resume: bool = False,
    columns: Mapping[str, str] | None = None,
    drop_unknown: bool = False,
    format: str | None = None,
    profile: bool = False,
    progress: Listener = ignore,
) -> FittedRun:
    """Train, choose, measure and draw one system.

    Args:
        data: a folder (see docs/data.md), a data set, or None for the built-in catalogue.
        model: a row of ``alterrec list models``.
        out: folder of the run; default a new one under ``runs/``.
        presets: ``best``, ``paper`` or ``authors``, and data presets; later ones win.
        overrides: recipe key -> value, as ``{"schedule.gap": 4}``.
        seed: shorthand for the override ``run.seed``.
        resume: go on with the interrupted run in ``out``.
        columns: our column name -> the files'.
        drop_unknown: drop session rows of items that are not in ``items``.
        format: format of the data, a name from ``alterrec list formats``; None recognises it.
        profile: measure where the time of a step goes, in ``result["profile"]``: seconds by part.
        progress: called with every :class:`~alterrec.progress.Event`.

    Returns:
        The finished run; with Ctrl-C the best so far, ``stopped`` being ``interrupted``.

    Raises:
        InputError: anything wrong with the input; nothing is written then.
    """
    began = time.perf_counter()
    overrides = dict(overrides or {}) | ({} if seed is None else {"run.seed": seed})
    recipe = resolve_read(model, presets, overrides)
    _check_out(out, resume)
    _set_up(recipe)
    plan = phases(recipe)
    check_loss(recipe, plan)
    check_freeze(recipe)
    dataset = DataSource(data, columns or {}, drop_unknown, format).read(recipe)
    exclude_seen, repeat_share = _decide_seen(recipe, dataset)
    if any(phase.negatives != "full" for phase in plan):
        longest = min(int(dataset.train.lengths.max(initial=1)) - 1, recipe.model.max_len)
        WindowRanks.on(recipe.window, dataset.num_items, seen=longest if exclude_seen else 0)
    for note in dataset.notes:
        progress(Event("notice", note))
    progress(Event("plan", "\n".join(_plan_lines(recipe, dataset, plan, exclude_seen))))
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(torch_seed(recipe.run.seed, INITIALISATION))
        untrained = _build(recipe, dataset, progress)
        if recipe.model.init_from and not resume:
            _start(untrained, recipe, dataset, progress)
        memory = plan_memory(
            untrained,
            recipe,
            plan,
            dataset.num_items,
            int(dataset.train.lengths.max(initial=1)),
            facts.peak_memory_bytes(),
        )
        for line in memory.lines():
            progress(Event("plan", line))
        protocol = run_folder.protocol_of(recipe, exclude_seen, memory.score_bytes)
        clock = Clock(recipe.run.device) if profile else NoClock()
        path = _open_folder(out, recipe, dataset)
        write_text(path / "recipe.toml", dump_recipe(recipe))
        trained, state, stopped = _train(
            untrained, recipe, plan, dataset, protocol, path, resume, memory.train_rows, clock, progress
        )
    measured = time.perf_counter()
    baselines = _baselines(recipe, dataset, protocol, trained, progress)
    fitted = _fuse(trained, recipe, dataset, protocol, baselines, progress)
    ranks = {split: evaluate(fitted, dataset.splits[split], protocol) for split in ("valid", "test")}
    top = top_items(fitted, dataset.test, protocol, facts.top_size(dataset, protocol))
    run_folder.save_model(path, fitted, exclude_seen)
    run_folder.write_vocabulary(path, dataset)
    run_folder.write_users(path, recipe, dataset)
    run_folder.write_curves(path, state.curves)
    run_folder.write_ranks(path, dataset, ranks)
    run_folder.write_top(path, top)
    write_json(path / "examples.json", facts.examples(fitted, dataset, ranks["test"], protocol))
    ended = time.perf_counter()
    result = {
        "schema": 1,
        "model": model,
        "presets": list(presets),
        "seed": recipe.run.seed,
        "data": facts.data_facts(recipe, dataset, exclude_seen, repeat_share),
        "best_epoch": state.best_epoch,
        "epochs": state.epoch,
        "stopped": stopped,
        "valid": ranks["valid"].all_metrics(),
        "test": ranks["test"].all_metrics(),
        "targets": {split: facts.target_facts(dataset, part) for split, part in ranks.items()},
        "groups": {"test": facts.popularity_groups(dataset, ranks["test"])},
        "fusion": facts.fusion_facts(fitted),
        "alphas": facts.alpha_facts(fitted, dataset, protocol),
        "parameters": facts.parameters(fitted),
        "baselines": {name: facts.baseline_facts(row, dataset, protocol) for name, row in baselines.items()},
        "phases": facts.phase_facts(plan),
        "warnings": state.warnings,
        "seconds": round(ended - began, 3),
        "seconds_by_part": {"train": round(state.seconds, 3), "evaluate": round(ended - measured, 3)},
        **({"profile": clock.seconds} if profile else {}),
        "peak_memory_bytes": facts.peak_memory_bytes(),
        "threads": torch.get_num_threads(),
        "versions": {
            "alterrec": version("alterrec"),
            "torch": torch.__version__,
            "python": platform.python_version(),
        },
    }
    run_folder.write_result(path, result)
    if recipe.run.report:
        write_report(path, _beside(path))
    progress(Event("done", str(path)))
    return FittedRun(path, recipe, result)


def evaluate_run(
    run: str | Path,
    data: str | Path | Dataset | None = None,
    *,
    columns: Mapping[str, str] | None = None,
    drop_unknown: bool = False,
    format: str | None = None,
) -> dict[str, Any]:
    """Metrics of a saved run on a data set of the same catalogue.

    Users are known by their names, in whatever order the data has them.

    Returns:
        ``valid`` and ``test`` (view -> metric -> value), ``targets`` and ``groups`` as in result.json.

    Raises:
        InputError: the folder is not a finished run, or the catalogue is another.
    """
    loaded = run_folder.load_model(run)
    _set_up(loaded.recipe)
    dataset = DataSource(data, columns or {}, drop_unknown, format).read(loaded.recipe)
    if dataset.vocabulary.item_ids != loaded.vocabulary.item_ids:
        raise InputError(
            f"{run}: trained on {len(loaded.vocabulary)} items, the data has {dataset.num_items} and "
            "they are not the same in the same order; allowed: the items file of the training data"
        )
    if loaded.users is not None and dataset.users is not None:
        dataset = dataset.with_users(loaded.users)
    ranks = {
        split: evaluate(loaded.model, dataset.splits[split], loaded.protocol) for split in ("valid", "test")
    }
    return {
        **{split: part.all_metrics() for split, part in ranks.items()},
        "targets": {split: facts.target_facts(dataset, part) for split, part in ranks.items()},
        "groups": {split: facts.popularity_groups(dataset, part) for split, part in ranks.items()},
    }


def _set_up(recipe: Recipe) -> None:
    try:
        torch.empty(0, device=recipe.run.device)
    except (RuntimeError, AssertionError) as error:
        first = str(error).splitlines()[0]
        raise InputError(
            f"run.device is {recipe.run.device!r}: {first}; allowed: cpu, or a device here"
        ) from None
    if recipe.run.threads:
        torch.set_num_threads(recipe.run.threads)
        set_threads(recipe.run.threads)


def _decide_seen(recipe: Recipe, dataset: Dataset) -> tuple[bool, float]:
    share = dataset.train.repeat_share()
    return seen_excluded(recipe.data.exclude_seen, share), share


def _plan_lines(recipe: Recipe, dataset: Dataset, plan: Sequence[Phase], exclude_seen: bool) -> list[str]:
    cold = int((~dataset.trained).sum())
    return [
        f"{dataset.name}: {dataset.num_items} items ({cold} without training), "
        + ", ".join(f"{store.num_sessions} {split}" for split, store in dataset.splits.items())
        + " sessions",
        f"items of the prefix are {'not ' if exclude_seen else ''}candidates "
        f"(data.exclude_seen = {recipe.data.exclude_seen})",
        *describe(plan),
    ]


def _build(recipe: Recipe, dataset: Dataset, progress: Listener) -> Recommender | None:
    """The model to train, or None for a system without training."""
    entry = lookup(recipe.model_name)
    if not entry.trains:
        return None
    vectors, shortened = None, None
    if reads_text(recipe):
        if dataset.vectors is not None:
            vectors = dataset.vectors
        elif dataset.text is not None:
            progress(Event("notice", f"encoding item text with {recipe.text.encoder}"))
            vectors = _encode(dataset.text, recipe, progress)
    if entry.reads_shortened and recipe.schedule.pretrain:
        shortened = _encode_shortened(dataset, recipe, progress)
    if shortened is not None:
        shortened = _prepared(shortened, recipe, like=vectors)
    if vectors is not None:
        vectors = _prepared(vectors, recipe)
    categories = None
    if entry.reads_categories and dataset.text is not None:
        categories = category_ids(dataset.text, recipe.data.categories)
    items = ModelInputs(
        dataset.num_items,
        None if vectors is None else torch.from_numpy(vectors),
        torch.from_numpy(dataset.trained.copy()),
        train=dataset.train,
        categories_VCK=None if categories is None else torch.from_numpy(categories),
        shortened_VF=None if shortened is None else torch.from_numpy(shortened),
    )
    return build_model(recipe, items).to(recipe.run.device)


def _start(model: Recommender | None, recipe: Recipe, dataset: Dataset, progress: Listener) -> None:
    """Weights that were pretrained elsewhere; a resumed run has them in its checkpoint."""
    if model is None:
        raise InputError(f"model.init_from with {recipe.model_name}; allowed: a system that is trained")
    start_from(recipe.model.init_from, model, recipe)
    if recipe.text.encoder == "lsa" and dataset.vectors is None:
        message = (
            "lsa is fitted to each data set, so what was pretrained elsewhere reads other columns here; "
            "a sentence encoder (text.encoder) gives both the same"
        )
        progress(Event("notice", message))


def _prepared(
    vectors: NDArray[np.floating], recipe: Recipe, like: NDArray[np.floating] | None = None
) -> NDArray[np.floating]:
    """Vectors as models take them: half-precision ones as they lie, others float32 and standardised here."""
    if vectors.dtype == np.float16:
        return vectors
    single = np.array(vectors, np.float32)
    if not recipe.text.standardise:
        return single
    return standardise(single, None if like is None else np.asarray(like, np.float32))


def _encode_shortened(dataset: Dataset, recipe: Recipe, progress: Listener) -> NDArray[np.floating] | None:
    if dataset.vectors is not None or dataset.text is None:
        progress(Event("notice", "text vectors are given, so pretraining drops items and never words"))
        return None
    progress(Event("notice", f"encoding item text without some of its words with {recipe.text.encoder}"))
    return _encode(dataset.text, recipe, progress, of=without_words(dataset.text))


def _encode(
    text: ItemText, recipe: Recipe, progress: Listener, of: ItemText | None = None
) -> NDArray[np.floating]:
    told = time.monotonic()

    def tell(done: int, total: int) -> None:
        nonlocal told
        if time.monotonic() - told > 10:
            told = time.monotonic()
            progress(Event("notice", f"encoded {done} of {total} texts"))

    return text_vectors(
        text,
        recipe.text.encoder,
        fields=recipe.data.text_fields or None,
        device=recipe.run.device,
        batch_size=recipe.text.encode_batch,
        prompt=recipe.text.prompt or None,
        truncate_dim=recipe.text.truncate_dim or None,
        of=of,
        progress=tell,
    )


def _train(
    model: Recommender | None,
    recipe: Recipe,
    plan: Sequence[Phase],
    dataset: Dataset,
    protocol: Protocol,
    path: Path,
    resume: bool,
    score_rows: int,
    clock: Clock,
    progress: Listener,
) -> tuple[Scorer, TrainingState, str]:
    if model is None:
        candidates = lookup(recipe.model_name).candidates(dataset.train)
        chosen = choose_system(candidates, dataset.valid, protocol, recipe.schedule.metric)
        return chosen, TrainingState(dump_recipe(recipe)), "finished"

    def validate() -> dict[str, dict[str, float]]:
        return evaluate(model, dataset.valid, protocol).all_metrics()

    def inspect() -> dict[str, dict[str, float]]:
        return facts.part_facts(model, dataset, protocol)

    trainer = Trainer(
        model,
        recipe,
        plan,
        dataset.train,
        validate,
        path / CHECKPOINT,
        inspect=inspect,
        fingerprint=dataset.fingerprint,
        exclude_seen=protocol.exclude_seen,
        score_rows=score_rows,
        clock=clock,
        listen=progress,
    )
    state, stopped = trainer.run(resume=resume)
    return model, state, stopped


def _baselines(
    recipe: Recipe, dataset: Dataset, protocol: Protocol, fitted: Scorer, progress: Listener
) -> dict[str, Scorer]:
    wanted = [name for name in UNTRAINED if recipe.run.baselines and name != recipe.model_name]
    if _takes_neighbours(fitted, recipe) and "itemknn" not in wanted:
        wanted.append("itemknn")
    rows: dict[str, Scorer] = {}
    for name in wanted:
        progress(Event("notice", f"measuring {name}"))
        candidates = lookup(name).candidates(dataset.train)
        rows[name] = choose_system(candidates, dataset.valid, protocol, recipe.schedule.metric)
    return rows


def _takes_neighbours(fitted: Scorer, recipe: Recipe) -> bool:
    return isinstance(fitted, Recommender) and len(fitted.networks) > 1 and recipe.fusion.neighbours


def _fuse(
    fitted: Scorer,
    recipe: Recipe,
    dataset: Dataset,
    protocol: Protocol,
    baselines: Mapping[str, Scorer],
    progress: Listener,
) -> Scorer:
    """Choose the weights of the sum on validation."""
    if not isinstance(fitted, Recommender) or len(fitted.networks) < 2 or not dataset.valid.num_sessions:
        return fitted
    if _takes_neighbours(fitted, recipe):
        fitted.neighbours = baselines["itemknn"]
    if fitted.neighbours is not None or recipe.fusion.tune:
        progress(Event("notice", "choosing the weights of the sum on validation"))
        fitted.weights = choose_weights(
            fitted, dataset.valid, protocol, recipe.schedule.metric, tune_alpha=recipe.fusion.tune
        )
    return fitted


def _check_out(out: str | Path | None, resume: bool) -> None:
    if resume and out is None:
        raise InputError("--resume needs --out: the folder of the interrupted run")
    if out is None:
        return
    path = Path(out)
    if resume and not (path / CHECKPOINT).exists():
        raise InputError(f"{path}: no checkpoint to resume from; start anew without --resume")
    if path.exists() and not path.is_dir():
        raise InputError(f"{path}: is a file; allowed: a new or an empty folder")
    if not resume and path.exists() and any(path.iterdir()):
        raise InputError(f"{path}: is not empty; allowed: a new folder, or --resume to go on with its run")


def _open_folder(out: str | Path | None, recipe: Recipe, dataset: Dataset) -> Path:
    if out is not None:
        path = Path(out)
        path.mkdir(parents=True, exist_ok=True)
        return path
    name = f"{recipe.model_name}-{file_name(dataset.name)}-seed{recipe.run.seed}"
    for attempt in range(1, 10_000):
        path = Path("runs") / (name if attempt == 1 else f"{name}-{attempt}")
        try:
            path.mkdir(parents=True)
        except FileExistsError:
            continue
        return path
    raise InputError(f"runs/{name}-*: too many runs of one name; give --out")


def _beside(path: Path) -> list[Path]:
    """Other finished runs in the same folder, which the report shows where their data is the same."""
    return sorted(other.parent for other in path.parent.glob("*/result.json") if other.parent != path)

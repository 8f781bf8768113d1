"""Search any keys of a recipe on validation, by Optuna: what was found, kept and gone on with.

A search is a folder: ``trials.journal`` has every trial, a run's folder lies under ``trials/NUMBER``. Several
processes may work in it. A trial is claimed by a file that its process touches; one whose claim is free, as
after a crash, is gone on with from its last epoch. The draws of a trial depend on seed, number and what was
known, so a search that was stopped finds what one finds that was not.
"""

from __future__ import annotations

import csv
import io
import json
import shlex
import shutil
import statistics
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, cast

from alterrec.data.dataset import Dataset
from alterrec.data.readers import DataSource
from alterrec.errors import InputError
from alterrec.files import file_name, write_json, write_text
from alterrec.metrics import metric_name
from alterrec.models.reads import settings_read
from alterrec.progress import Event, Listener, ignore
from alterrec.recipe import Recipe, resolve
from alterrec.recipe_settings import DataSettings
from alterrec.report.tables import Table, duration, plain
from alterrec.results import CHECKPOINT
from alterrec.sessions import SessionStore, derive_seed
from alterrec.studies.locks import LockFile
from alterrec.studies.plan import PAPER_GRID
from alterrec.studies.queue import ALWAYS, spoken
from alterrec.studies.search_space import Choices, Space, read_search
from alterrec.training.schedule import Phase, phases

if TYPE_CHECKING:
    import optuna


State = Literal["finished", "pruned", "failed", "unfinished"]

# Finished trials before any is pruned; a search of which so many failed and none finished is given up.
STARTUP = 5
POLL_SECONDS = 0.5
# Seeds of the command that trains the best setting.
SEEDS = 3


@dataclass(frozen=True)
class TrialFacts:
    """One setting that was tried.

    Attributes:
        number: from 0, in the order of their starts.
        state: how it ended; unfinished while it is at work or may be gone on with.
        settings: searched key -> value.
        value: validation of the finished run, None otherwise.
        epochs: validation after each epoch, those of pretraining apart.
        seconds: what it took.
        reason: why it failed.
    """

    number: int
    state: State
    settings: dict[str, Any]
    value: float | None
    epochs: dict[int, float]
    seconds: float | None
    reason: str

    @property
    def best_epoch(self) -> int | None:
        """The epoch of the best validation, the first of equals."""
        return max(self.epochs, key=lambda epoch: (self.epochs[epoch], -epoch), default=None)


@dataclass(frozen=True)
class TuneResult:
    """What a search knows; it prints as the table of its best settings.

    Attributes:
        path: its folder.
        model, metric: what was searched, by which validation metric.
        trials: all of them, by number.
        wanted: how many there are to be.
        train: the command that trains the best setting with several seeds; empty without a finished trial.
        stopped: whether Ctrl-C ended it.

    Example:
        >>> first = TrialFacts(0, "finished", {"optim.lr": 0.01}, 0.25, {1: 0.2, 2: 0.25}, 8.0, "")
        >>> print(TuneResult(Path("studies/mine"), "id_only", "ndcg@20", (first,), 1, "alterrec study"))
        id_only: the best of 1 trials
        trial  optim.lr  validation NDCG@20  best epoch   time
        -----  --------  ------------------  ----------  -----
        0          0.01              25.00%           2  8.0 s
    """

    path: Path
    model: str
    metric: str
    trials: tuple[TrialFacts, ...]
    wanted: int
    train: str = ""
    stopped: bool = False

    @property
    def ranking(self) -> tuple[TrialFacts, ...]:
        """Finished trials, the best first and the first of equals before; of the same settings the first."""
        finished = [trial for trial in self.trials if trial.value is not None]
        distinct = {tuple(trial.settings.items()): trial for trial in reversed(finished)}
        return tuple(sorted(distinct.values(), key=lambda trial: (-(trial.value or 0.0), trial.number)))

    @property
    def best(self) -> TrialFacts | None:
        """The best finished trial."""
        return next(iter(self.ranking), None)

    def table(self, rows: int = 5) -> Table:
        """The best settings."""
        keys = list(dict.fromkeys(key for trial in self.trials for key in trial.settings))
        return Table(
            ("trial", *keys, f"validation {metric_name(self.metric)}", "best epoch", "time"),
            tuple(
                (
                    str(trial.number),
                    *(_short(trial.settings[key]) for key in keys),
                    f"{100 * (trial.value or 0.0):.2f}%",
                    str(trial.best_epoch or "-"),
                    duration(trial.seconds or 0.0),
                )
                for trial in self.ranking[:rows]
            ),
            title=f"{self.model}: the best of {len(self.trials)} trials",
        )

    def __str__(self) -> str:
        return plain(self.table())


def tune(
    data: str | Path | Dataset | None = None,
    model: str = "alterrec",
    search: Mapping[str, str] | None = None,
    *,
    trials: int = 30,
    out: str | Path | None = None,
    presets: Sequence[str] = ("best",),
    overrides: Mapping[str, Any] | None = None,
    seed: int = 0,
    format: str | None = None,
    columns: Mapping[str, str] | None = None,
    drop_unknown: bool = False,
    command: str = "",
    listen: Listener = ignore,
) -> TuneResult:
    """Search keys of a recipe for the best validation, or go on with a search; the test is never looked at.

    Args:
        data: as for :func:`~alterrec.fit`.
        model: a system that trains.
        search: recipe key -> space, as ``{"optim.lr": "0.0001..0.01:log", "model.dim": "32,64"}``; see
            :mod:`alterrec.studies.search_space`.
        trials: how many in all; those that ``out`` has count.
        out: folder of the search; default ``studies/tune-MODEL-DATA``.
        presets, overrides: of every trial.
        seed: of the search, and of every trial.
        format, columns, drop_unknown: as for :func:`~alterrec.fit`.
        command: what re-makes the search, to be written down.
        listen: told how far it is.

    Returns:
        All trials; ``study.json`` and ``trials.csv`` in ``out`` have them too.

    Raises:
        InputError: Optuna is missing, anything wrong with the input, ``out`` has another search, or no
            trial finishes.
    """
    _require_optuna()
    overrides = dict(overrides or {})
    _check(trials, overrides)
    fixed = {**overrides, **ALWAYS, "run.seed": seed}
    recipe = resolve(model, presets, fixed)
    if recipe.schedule.regime == "none":
        raise InputError(f"{model} has nothing to train; allowed: a system that trains")
    spaces = read_search(model, presets, fixed, search or {})
    source = DataSource(data, columns or {}, drop_unknown, format)
    dataset = source.read(recipe)
    if not dataset.valid.num_sessions:
        raise InputError(f"{dataset.name} has no validation sessions; allowed: data with some, to choose by")
    path = Path(out or Path("studies") / f"tune-{model}-{file_name(dataset.name)}")
    asked = {
        "model": model,
        "presets": list(presets),
        "settings": {key: recipe.value(key) for key in overrides},
        "search": {key: str(space) for key, space in spaces.items()},
        "seed": seed,
        "data": dataset.fingerprint,
    }
    study = _open(path, asked)
    trial_data = _TrialData(source)
    trial_data.keep(recipe.data, dataset)
    work = _Search(path, study, recipe, fixed, spaces, trials, trial_data, listen)
    for note in dataset.notes:
        listen(Event("notice", note))
    listen(Event("notice", f"{model} on {dataset.name}: {trials} trials, {work.ended} finished, in {path}"))
    stopped = False
    try:
        work.all()
    except KeyboardInterrupt:
        stopped = True
    result = TuneResult(path, model, recipe.schedule.metric, _facts(study), trials, stopped=stopped)
    if result.best is not None:
        settings = {**overrides, **result.best.settings}
        result = replace(result, train=_train_command(recipe, settings, source))
    _write(result, asked, command)
    return result


def prunable_from(plan: Sequence[Phase]) -> int:
    """The first epoch after which a trial may be pruned.

    Every network has then had its warm-up and a turn, and a third of the epochs is over.

    Example:
        >>> prunable_from(phases(resolve("alterrec"))), prunable_from(phases(resolve("id_only")))
        (6, 4)
    """
    prepared = sum(phase.epochs for phase in plan if phase.precedes_patience)
    return max(prepared + plan[-1].cycle, -(-sum(phase.epochs for phase in plan) // 3))


class _TrialData:
    """The data of each trial without the test split; the data set that was read last is kept."""

    def __init__(self, source: DataSource) -> None:
        self.source = source
        self._kept: tuple[DataSettings, Dataset] | None = None

    def keep(self, choices: DataSettings, dataset: Dataset) -> Dataset:
        """The data without their test."""
        nothing = SessionStore.from_arrays([], [], num_items=dataset.num_items)
        names = {**dataset.session_names, "test": []}
        self._kept = choices, replace(dataset, test=nothing, session_names=names)
        return self._kept[1]

    def read(self, recipe: Recipe) -> Dataset:
        """The data as a recipe asks for them."""
        if self._kept is not None and self._kept[0] == recipe.data:
            return self._kept[1]
        return self.keep(recipe.data, self.source.read(recipe))


class _UnfitError(Exception):
    """A setting that does not work, on these data or at all."""


@dataclass
class _Search:
    """A search at work: takes trials, carries them out, tells how they ended."""

    path: Path
    study: optuna.Study
    recipe: Recipe
    fixed: Mapping[str, Any]
    spaces: Mapping[str, Space]
    wanted: int
    data: _TrialData
    listen: Listener

    @property
    def ended(self) -> int:
        """Trials that are over."""
        return sum(trial.state.is_finished() for trial in self.study.get_trials(deepcopy=False))

    def all(self) -> None:
        """Work until all trials have ended, here or in other processes."""
        waits = False
        while True:
            with LockFile.acquire(self.path / "search.lock").kept():
                taken = self._take()
            if taken:
                trial, lock = taken
                with lock.kept():
                    self._carry_out(trial)
            elif self.ended >= self.wanted:
                return
            else:
                if not waits:
                    self._say("waiting for trials of other processes")
                waits = True
                time.sleep(POLL_SECONDS)

    def _take(self) -> tuple[optuna.Trial, LockFile] | None:
        """A trial to work on, one that nobody works on any more or a new one; None where there is none."""
        import optuna

        known = self.study.get_trials(deepcopy=False)
        self._give_up_where_hopeless(known)
        for frozen in known:
            if frozen.state.is_finished():
                continue
            lock = LockFile.try_acquire(self._lock_path(frozen.number))
            if lock is None:
                continue
            if self.study.get_trials(deepcopy=False)[frozen.number].state.is_finished():
                # It ended between the two looks.
                lock.release()
                continue
            self._seed(frozen.number)
            return optuna.Trial(self.study, frozen._trial_id), lock
        if len(known) >= self.wanted:
            return None
        self._seed(len(known))
        trial = self.study.ask()
        return trial, LockFile.acquire(self._lock_path(trial.number))

    def _give_up_where_hopeless(self, known: Sequence[optuna.trial.FrozenTrial]) -> None:
        failed = [trial for trial in known if _state(trial) == "failed"]
        finished = any(_state(trial) == "finished" for trial in known)
        if not finished and len(failed) >= min(STARTUP, self.wanted):
            reason = failed[-1].user_attrs.get("reason", "")
            raise InputError(f"{len(failed)} trials failed and none finished; the last: {reason}")

    def _seed(self, number: int) -> None:
        """Draws of a trial are of its own, so that they do not depend on which process drew before."""
        import optuna

        seed = derive_seed(self.recipe.run.seed, number) % 2**32
        self.study.sampler = optuna.samplers.TPESampler(seed=seed)

    def _lock_path(self, number: int) -> Path:
        return self.path / "trials" / f"{number}.lock"

    def _carry_out(self, trial: optuna.Trial) -> None:
        """Train a trial and tell the study how it ended."""
        import optuna
        from optuna.trial import TrialState

        number, folder = trial.number, self.path / "trials" / str(trial.number)
        finished = [other for other in _facts(self.study) if other.value is not None]
        before = max((other.value or 0.0 for other in finished), default=0.0)
        settings = {key: _suggest(trial, key, space) for key, space in self.spaces.items()}
        twin = next((other for other in finished if other.settings == settings), None)
        label = f"trial {number}: {', '.join(f'{key} {_short(value)}' for key, value in settings.items())}"
        self._say(f"{label}: {'goes on' if (folder / CHECKPOINT).exists() else 'started'}")
        began, value, state, reason = time.monotonic(), None, TrialState.COMPLETE, ""
        try:
            try:
                value = _repeat(trial, twin) if twin else self._train(trial, settings, folder)
            except optuna.TrialPruned:
                state = TrialState.PRUNED
            except _UnfitError as error:
                state, reason = TrialState.FAIL, str(error)
                trial.set_user_attr("reason", reason)
            seconds = time.monotonic() - began
            trial.set_user_attr("seconds", round(seconds, 3))
        except optuna.exceptions.UpdateFinishedTrialError:
            self._say(f"{label}: ended by another process")
            return
        self.study.tell(trial, value, state, skip_if_finished=True)
        # A finished trial goes on no more, and of others nothing is of use.
        shutil.rmtree((folder / CHECKPOINT).parent if value is not None else folder, ignore_errors=True)
        if value is not None:
            best = ", the best so far" if value > before else ""
            took = f"as trial {twin.number}" if twin else duration(seconds)
            line = f"{took}, validation {self.recipe.schedule.metric} {100 * value:.2f}%{best}"
        elif state is TrialState.PRUNED:
            line = f"pruned after epoch {max(_facts(self.study)[number].epochs)}, {duration(seconds)}"
        else:
            line = f"failed: {reason}"
        self._say(f"{label}: {line}{self._left()}")

    def _train(self, trial: optuna.Trial, settings: Mapping[str, Any], folder: Path) -> float:
        """The validation of a run.

        Raises:
            _UnfitError: the setting does not work.
            optuna.TrialPruned: it is worse than others were.
            KeyboardInterrupt: Ctrl-C.
        """
        import optuna

        from alterrec.runs.fit import fit
        from alterrec.training.trainer import DivergenceError

        overrides = {**self.fixed, **settings}
        goes_on = (folder / CHECKPOINT).exists()
        if not goes_on:
            shutil.rmtree(folder, ignore_errors=True)
        try:
            recipe = resolve(self.recipe.model_name, self.recipe.presets, overrides)
            plan = phases(recipe)
            self.study.pruner = optuna.pruners.MedianPruner(STARTUP, prunable_from(plan))
            run = fit(
                self.data.read(recipe),
                recipe.model_name,
                out=folder,
                presets=recipe.presets,
                overrides=settings_read(recipe.model_name, recipe.presets, overrides),
                resume=goes_on,
                progress=self._watch(trial, plan),
            )
        except InputError as error:
            if isinstance(error, DivergenceError) or not (folder / "recipe.toml").exists():
                raise _UnfitError(str(error)) from None
            raise
        if run.stopped == "interrupted":
            raise KeyboardInterrupt
        return float(run.result["valid"]["score"][recipe.schedule.metric])

    def _watch(self, trial: optuna.Trial, plan: Sequence[Phase]) -> Listener:
        """Tell the study of each epoch, and end the run where it is worse than others were."""
        import optuna

        metric = self.recipe.schedule.metric
        pretraining = sum(phase.epochs for phase in plan if phase.is_pretraining)
        # An epoch is told before its checkpoint is written, so it may come twice, with the same value.
        told = _facts(self.study)[trial.number].epochs

        def watch(event: Event) -> None:
            if event.kind == "epoch_start":
                self._say("", f"trial {trial.number}: epoch {event.epoch}/{event.epochs}, {event.phase}")
            if event.kind != "epoch_end" or event.epoch <= pretraining:
                return
            if event.epoch not in told:
                trial.report(event.valid["score"][metric], event.epoch)
            if event.epoch < event.epochs and trial.should_prune():
                raise optuna.TrialPruned

        return watch

    def _say(self, message: str, *now: str) -> None:
        self.listen(Event("trials", message, self.ended, self.wanted, now))

    def _left(self) -> str:
        """How many trials are to go, and about how long they take."""
        known = _facts(self.study)
        open_trials = self.wanted - self.ended
        if open_trials <= 0:
            return ""
        seconds = [trial.seconds for trial in known if trial.seconds is not None]
        processes = 1 + sum(trial.state == "unfinished" for trial in known)
        return f"; {open_trials} to go, about {duration(statistics.fmean(seconds) * open_trials / processes)}"


def _require_optuna() -> None:
    try:
        import optuna
    except ImportError:
        raise InputError("alterrec tune needs Optuna; pip install 'alterrec[tune]' brings it") from None
    optuna.logging.set_verbosity(optuna.logging.WARNING)


def _check(trials: int, overrides: Mapping[str, Any]) -> None:
    if trials < 1:
        raise InputError(f"--trials is {trials}; allowed: 1 or more")
    if "run.seed" in overrides:
        raise InputError("--set run.seed is for one run; allowed: --seed N, of the search and every trial")
    if overrides.get("run.memory_budget"):
        raise InputError(
            "--set run.memory_budget is for one run: all trials share a process, whose peak never falls; "
            "allowed: a smaller optim.batch_size or model.dim"
        )


def _open(path: Path, asked: Mapping[str, Any]) -> optuna.Study:
    """The search of a folder, made if there is none; InputError where it is another."""
    import optuna
    from optuna.storages.journal import JournalFileBackend

    path.mkdir(parents=True, exist_ok=True)
    with LockFile.acquire(path / "search.lock").kept():
        journal = path / "trials.journal"
        lock = cast(Any, _JournalLock(path / "journal.lock"))
        storage = optuna.storages.JournalStorage(JournalFileBackend(str(journal), lock))
        study = optuna.create_study(
            storage=storage, study_name="tune", direction="maximize", load_if_exists=True
        )
        # As the journal gives it back.
        for key, value in json.loads(json.dumps(asked)).items():
            if key not in study.user_attrs:
                study.set_user_attr(key, value)
            elif study.user_attrs[key] != value:
                raise InputError(
                    f"{path} has another search: {_unlike(key, study.user_attrs[key], value)}; allowed: the "
                    "same again, with more --trials or not, or another --out"
                )
    return study


class _JournalLock:
    """Held while the journal is written; Optuna's own would wait long for one that a killed process left."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def acquire(self) -> bool:
        self._lock = LockFile.acquire(self._path)
        return True

    def release(self) -> None:
        self._lock.release()


def _unlike(key: str, there: Any, here: Any) -> str:
    """In words, what differs.

    Example:
        >>> _unlike("search", {"optim.lr": "0.1,0.2"}, {"optim.lr": "0.1,0.3", "model.dim": "32,64"})
        'optim.lr is "0.1,0.2" there and "0.1,0.3" here, model.dim is unset there and "32,64" here'
    """
    if key == "data":
        return "it is on other data"
    if isinstance(there, dict):
        inner = [name for name in {**there, **here} if there.get(name) != here.get(name)]
        return ", ".join(_unlike(name, there.get(name), here.get(name)) for name in inner)
    said = ("unset" if value is None else json.dumps(value) for value in (there, here))
    return "{} is {} there and {} here".format(key, *said)


def _suggest(trial: optuna.Trial, key: str, space: Space) -> Any:
    """The value of a key, drawn anew or as it was."""
    if isinstance(space, Choices):
        return trial.suggest_categorical(key, space.values)
    if space.whole:
        return trial.suggest_int(key, int(space.low), int(space.high), log=space.log)
    return trial.suggest_float(key, space.low, space.high, log=space.log)


def _repeat(trial: optuna.Trial, twin: TrialFacts) -> float:
    """What another trial of the same settings came to: runs are deterministic."""
    told = _facts(trial.study)[trial.number].epochs
    for epoch, value in twin.epochs.items():
        if epoch not in told:
            trial.report(value, epoch)
    assert twin.value is not None
    return twin.value


def _state(trial: optuna.trial.FrozenTrial) -> State:
    names: dict[str, State] = {"COMPLETE": "finished", "PRUNED": "pruned", "FAIL": "failed"}
    return names.get(trial.state.name, "unfinished")


def _facts(study: optuna.Study) -> tuple[TrialFacts, ...]:
    return tuple(
        TrialFacts(
            trial.number,
            state=(state := _state(trial)),
            settings=dict(trial.params),
            value=trial.value if state == "finished" else None,
            epochs=dict(trial.intermediate_values),
            seconds=trial.user_attrs.get("seconds"),
            reason=trial.user_attrs.get("reason", ""),
        )
        for trial in study.get_trials(deepcopy=False)
    )


def _train_command(recipe: Recipe, settings: Mapping[str, Any], source: DataSource) -> str:
    """The study that trains one setting with several seeds; what it would search besides is fixed."""
    fixed = {**{key: recipe.value(key) for key in PAPER_GRID}, **settings}
    fixed = settings_read(recipe.model_name, recipe.presets, fixed)
    parts = [
        *("alterrec", "study", "table1", f"--only={recipe.model_name}", f"--seeds={SEEDS}"),
        f"--preset={','.join(recipe.presets)}",
        *source.arguments(),
        *(f"--set={key}={spoken(value)}" for key, value in fixed.items()),
    ]
    return shlex.join(parts)


def _write(result: TuneResult, asked: Mapping[str, Any], command: str) -> None:
    """Write ``study.json`` and ``trials.csv``."""
    best = result.best
    study = {
        "schema": 1,
        "study": "tune",
        "command": command,
        **asked,
        "metric": result.metric,
        "best": None if best is None else best.number,
        "train": result.train,
        "trials": [asdict(trial) | {"best_epoch": trial.best_epoch} for trial in result.trials],
    }
    write_json(result.path / "study.json", study)
    keys = list(asked["search"])
    text = io.StringIO()
    lines = csv.writer(text, lineterminator="\n")
    lines.writerow(
        ["trial", "state", *keys, f"validation {result.metric}", "best_epoch", "epochs", "seconds", "reason"]
    )
    for trial in result.trials:
        values = [trial.settings.get(key) for key in keys]
        epochs = max(trial.epochs, default=0)
        lines.writerow(
            [
                trial.number,
                trial.state,
                *values,
                trial.value,
                trial.best_epoch,
                epochs,
                trial.seconds,
                trial.reason,
            ]
        )
    write_text(result.path / "trials.csv", text.getvalue())


def _short(value: Any) -> str:
    """A value in a line or a table.

    Example:
        >>> _short(0.00123456), _short(64), _short(True), _short("gbce")
        ('0.001235', '64', 'true', 'gbce')
    """
    return f"{value:.4g}" if isinstance(value, float) else spoken(value)

"""Run the trials of a search, together with other processes that work in the same folder.

A process locks each trial that it runs. A trial without a live lock, as after a crash, is resumed from its
last epoch. The settings that a trial draws depend only on the seed, its number and the trials finished before
it, so an interrupted search finds the same as one that is not interrupted.
"""

from __future__ import annotations

import csv
import io
import shutil
import statistics
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from alterrec.data.dataset import Dataset
from alterrec.data.readers import DataSource
from alterrec.errors import InputError, number_of
from alterrec.files import write_json, write_text
from alterrec.locks import LockFile, is_held
from alterrec.metrics import metric_name
from alterrec.models.reads import settings_read
from alterrec.progress import Event, Listener
from alterrec.recipe import Recipe, resolve
from alterrec.report.plain import plain
from alterrec.report.tables import Table, duration
from alterrec.results import CHECKPOINT, RUN_LOCK
from alterrec.sessions import SessionStore, derive_seed
from alterrec.studies.queue import setting_text
from alterrec.studies.search_space import Listed, Space
from alterrec.training.schedule import Phase, phases

if TYPE_CHECKING:
    import optuna

State = Literal["finished", "pruned", "failed", "unfinished"]
_STATES: dict[str, State] = {"COMPLETE": "finished", "PRUNED": "pruned", "FAIL": "failed"}


@dataclass(frozen=True)
class TrialResult:
    """One setting that was tried.

    Attributes:
        number: from 0, in the order in which trials start.
        state: how the trial ended; unfinished while it is running or can be resumed.
        settings: searched key -> value.
        value: validation metric of a finished run, else None.
        epochs: epoch -> validation metric after it, without the epochs of pretraining.
        seconds: duration of the trial.
        reason: why the trial failed.
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
        """Epoch with the best validation metric, the first one if several are equal."""
        return max(self.epochs, key=lambda epoch: (self.epochs[epoch], -epoch), default=None)


@dataclass(frozen=True, repr=False)
class TuneResult:
    """All trials of a search; prints as a table of the best settings.

    Attributes:
        path: folder of the search.
        model: name of the system.
        metric: validation metric that is maximised.
        trials: all trials, by number.
        wanted: number of trials that were asked for.
        train: command that trains the best setting with several seeds; empty if no trial finished.
        stopped: whether Ctrl-C ended the search.

    Example:
        >>> first = TrialResult(0, "finished", {"optim.lr": 0.01}, 0.25, {1: 0.2, 2: 0.25}, 8.0, "")
        >>> print(TuneResult(Path("studies/mine"), "id_only", "ndcg@20", (first,), 1, "alterrec study"))
        id_only: the best of 1 trial
        trial  optim.lr  validation NDCG@20  best epoch   time
        -----  --------  ------------------  ----------  -----
        0          0.01              25.00%           2  8.0 s
    """

    path: Path
    model: str
    metric: str
    trials: tuple[TrialResult, ...]
    wanted: int
    train: str = ""
    stopped: bool = False

    def __repr__(self) -> str:
        best = (
            "no trial finished" if self.best is None else f"best {self.metric} {self.best.value or 0.0:.4f}"
        )
        return f"TuneResult({self.model}, {number_of(len(self.trials), 'trial')}, {best}, {str(self.path)!r})"

    @property
    def ranking(self) -> tuple[TrialResult, ...]:
        """Finished trials, the best first; of equal settings and equal values the first trial."""
        finished = [trial for trial in self.trials if trial.value is not None]
        distinct = {tuple(trial.settings.items()): trial for trial in reversed(finished)}
        return tuple(sorted(distinct.values(), key=lambda trial: (-(trial.value or 0.0), trial.number)))

    @property
    def best(self) -> TrialResult | None:
        """The best finished trial, or None."""
        return next(iter(self.ranking), None)

    def table(self, rows: int = 5) -> Table:
        """Return a table of the best settings."""
        keys = list(dict.fromkeys(key for trial in self.trials for key in trial.settings))
        cells = []
        for trial in self.ranking[:rows]:
            settings = (short_value(trial.settings[key]) for key in keys)
            score, best_epoch = f"{100 * (trial.value or 0.0):.2f}%", str(trial.best_epoch or "-")
            cells.append((str(trial.number), *settings, score, best_epoch, duration(trial.seconds or 0.0)))
        columns = ("trial", *keys, f"validation {metric_name(self.metric)}", "best epoch", "time")
        return Table(
            columns, tuple(cells), title=f"{self.model}: the best of {number_of(len(self.trials), 'trial')}"
        )

    def __str__(self) -> str:
        return plain(self.table())

    def save(self, inputs: Mapping[str, Any], command: str) -> None:
        """Write ``study.json`` and ``trials.csv``.

        Args:
            inputs: what identifies the search: model, presets, settings, spaces, seed and data.
            command: the command line that started it.
        """
        study = {
            "schema": 1,
            "study": "tune",
            "command": command,
            **inputs,
            "metric": self.metric,
            "best": None if self.best is None else self.best.number,
            "train": self.train,
            "trials": [asdict(trial) | {"best_epoch": trial.best_epoch} for trial in self.trials],
        }
        write_json(self.path / "study.json", study)
        keys, text = list(inputs["search"]), io.StringIO()
        lines = csv.writer(text, lineterminator="\n")
        header = ["trial", "state", *keys, f"validation {self.metric}"]
        lines.writerow([*header, "best_epoch", "epochs", "seconds", "reason"])
        for trial in self.trials:
            row = [trial.number, trial.state, *(trial.settings.get(key) for key in keys), trial.value]
            epochs = max(trial.epochs, default=0)
            lines.writerow([*row, trial.best_epoch, epochs, trial.seconds, trial.reason])
        write_text(self.path / "trials.csv", text.getvalue())


def state_of(trial: optuna.trial.FrozenTrial) -> State:
    """Return the state of one of Optuna's trials in our words."""
    return _STATES.get(trial.state.name, "unfinished")


def trials_of(study: optuna.Study) -> tuple[TrialResult, ...]:
    """Return all trials of an Optuna study."""
    return tuple(
        TrialResult(
            trial.number,
            state=(state := state_of(trial)),
            settings=dict(trial.params),
            value=trial.value if state == "finished" else None,
            epochs=dict(trial.intermediate_values),
            seconds=trial.user_attrs.get("seconds"),
            reason=trial.user_attrs.get("reason", ""),
        )
        for trial in study.get_trials(deepcopy=False)
    )


def short_value(value: Any) -> str:
    """Format a setting for a line or a table.

    Example:
        >>> short_value(0.00123456), short_value(64), short_value(True), short_value("gbce")
        ('0.001235', '64', 'true', 'gbce')
    """
    return f"{value:.4g}" if isinstance(value, float) else setting_text(value)


# Number of finished trials before any is pruned. A search ends if so many have failed and none has finished.
STARTUP = 5
POLL_SECONDS = 0.5


def prunable_from(plan: Sequence[Phase]) -> int:
    """Return the first epoch after which a trial may be pruned.

    By then every network has had its warm-up and one turn, and a third of the epochs is over.

    Example:
        >>> prunable_from(phases(resolve("alterrec"))), prunable_from(phases(resolve("id_only")))
        (6, 4)
    """
    prepared = sum(phase.epochs for phase in plan if phase.precedes_patience)
    return max(prepared + plan[-1].cycle, -(-sum(phase.epochs for phase in plan) // 3))


class _UnfitError(Exception):
    """A setting that does not work, on these data or at all."""


@dataclass
class TrialRunner:
    """Takes trials of a search, trains them and records how they ended.

    Attributes:
        path: folder of the search.
        study: Optuna's study.
        recipe: recipe of all trials, without the searched settings.
        fixed: overrides of every trial.
        spaces: searched key -> space.
        wanted: number of trials in total.
        source: where the data is read from if a searched key changes it.
        dataset: the data of ``recipe``.
        listen: called with progress events.
    """

    path: Path
    study: optuna.Study
    recipe: Recipe
    fixed: Mapping[str, Any]
    spaces: Mapping[str, Space]
    wanted: int
    source: DataSource
    dataset: Dataset
    listen: Listener
    _dataset_of: Recipe = field(init=False)

    def __post_init__(self) -> None:
        self._keep(self.recipe, self.dataset)

    @property
    def ended(self) -> int:
        """Number of trials that have ended."""
        return sum(trial.state.is_finished() for trial in self.study.get_trials(deepcopy=False))

    def run(self) -> None:
        """Work until all trials have ended, here or in other processes."""
        waiting = False
        while True:
            with LockFile.acquire(self.path / "search.lock").kept():
                taken = self._take()
            if taken:
                trial, lock = taken
                with lock.kept():
                    self._run_trial(trial)
            elif self.ended >= self.wanted:
                return
            else:
                if not waiting:
                    self._report("waiting for trials of other processes")
                waiting = True
                time.sleep(POLL_SECONDS)

    def _take(self) -> tuple[optuna.Trial, LockFile] | None:
        """Return a trial that nobody works on, or a new one; None if there is neither."""
        import optuna

        known = self.study.get_trials(deepcopy=False)
        failed = [trial for trial in known if state_of(trial) == "failed"]
        finished = any(state_of(trial) == "finished" for trial in known)
        if not finished and len(failed) >= min(STARTUP, self.wanted):
            reason = failed[-1].user_attrs.get("reason", "")
            raise InputError(
                f"{len(failed)} trials failed and none finished; the last one failed with: {reason}"
            )
        for frozen in known:
            if frozen.state.is_finished() or is_held(self._folder(frozen.number) / RUN_LOCK):
                continue
            lock = LockFile.try_acquire(self._lock_path(frozen.number))
            if lock is None:
                continue
            if not self.study.get_trials(deepcopy=False)[frozen.number].state.is_finished():
                self._set_seed(frozen.number)
                return optuna.Trial(self.study, frozen._trial_id), lock
            # Another process finished it after `known` was read.
            lock.release()
        if len(known) >= self.wanted:
            return None
        self._set_seed(len(known))
        trial = self.study.ask()
        return trial, LockFile.acquire(self._lock_path(trial.number))

    def _set_seed(self, number: int) -> None:
        """Seed the sampler by trial, so that the draws do not depend on which process drew before."""
        import optuna

        seed = derive_seed(self.recipe.run.seed, number) % 2**32
        self.study.sampler = optuna.samplers.TPESampler(seed=seed)

    def _folder(self, number: int) -> Path:
        return self.path / "trials" / str(number)

    def _lock_path(self, number: int) -> Path:
        return self.path / "trials" / f"{number}.lock"

    def _run_trial(self, trial: optuna.Trial) -> None:
        import optuna
        from optuna.trial import TrialState

        number, folder = trial.number, self._folder(trial.number)
        finished = [other for other in trials_of(self.study) if other.value is not None]
        best_before = max((other.value or 0.0 for other in finished), default=0.0)
        settings = {key: _suggest(trial, key, space) for key, space in self.spaces.items()}
        twin = next((other for other in finished if other.settings == settings), None)
        values = ", ".join(f"{key} {short_value(value)}" for key, value in settings.items())
        label = f"trial {number}: {values}"
        self._report(f"{label}: {'resumed' if (folder / CHECKPOINT).exists() else 'started'}")
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
            self._report(f"{label}: ended by another process")
            return
        self.study.tell(trial, value, state, skip_if_finished=True)
        # A finished trial is never resumed, so its checkpoint can go; of the others no file is needed.
        shutil.rmtree((folder / CHECKPOINT).parent if value is not None else folder, ignore_errors=True)
        if value is not None:
            best = ", the best so far" if value > best_before else ""
            took = f"same settings as trial {twin.number}" if twin else duration(seconds)
            line = f"{took}, validation {self.recipe.schedule.metric} {100 * value:.2f}%{best}"
        elif state is TrialState.PRUNED:
            line = f"pruned after epoch {max(trials_of(self.study)[number].epochs)}, {duration(seconds)}"
        else:
            line = f"failed: {reason}"
        self._report(f"{label}: {line}{self._time_left()}")

    def _train(self, trial: optuna.Trial, settings: Mapping[str, Any], folder: Path) -> float:
        """Train a trial and return its validation metric.

        Raises:
            _UnfitError: the setting does not work.
            optuna.TrialPruned: the trial is worse than the others.
            KeyboardInterrupt: Ctrl-C.
        """
        import optuna

        from alterrec.runs.fit import fit
        from alterrec.training.checkpoint import checkpoint_epochs
        from alterrec.training.trainer import DivergenceError

        overrides = {**self.fixed, **settings}
        resume = (folder / CHECKPOINT).exists()
        if not resume:
            shutil.rmtree(folder, ignore_errors=True)
        try:
            recipe = resolve(self.recipe.model_name, self.recipe.presets, overrides)
            plan = phases(recipe)
            self.study.pruner = optuna.pruners.MedianPruner(STARTUP, prunable_from(plan))
            listen = self._epoch_listener(trial, plan)
            if resume:
                # An epoch is in the checkpoint before it is reported.
                total = sum(phase.epochs for phase in plan)
                for epoch in checkpoint_epochs(folder / CHECKPOINT):
                    listen(Event("epoch_end", total=total, epoch=epoch.epoch, valid=epoch.valid))
            run = fit(
                self._read(recipe),
                recipe.model_name,
                out=folder,
                presets=recipe.presets,
                overrides=settings_read(recipe.model_name, recipe.presets, overrides),
                resume=resume,
                progress=listen,
            )
        except InputError as error:
            if isinstance(error, DivergenceError) or not (folder / "recipe.toml").exists():
                raise _UnfitError(str(error)) from None
            raise
        if run.stopped == "interrupted":
            raise KeyboardInterrupt
        return float(run.result["valid"]["score"][recipe.schedule.metric])

    def _read(self, recipe: Recipe) -> Dataset:
        """Return the data of a recipe without the test split; the last data set is kept."""
        if recipe.data != self._dataset_of.data:
            self._keep(recipe, self.source.read(recipe))
        return self.dataset

    def _keep(self, recipe: Recipe, dataset: Dataset) -> None:
        empty = SessionStore.from_arrays([], [], num_items=dataset.num_items)
        self.dataset = replace(dataset, test=empty, session_names={**dataset.session_names, "test": []})
        self._dataset_of = recipe

    def _epoch_listener(self, trial: optuna.Trial, plan: Sequence[Phase]) -> Listener:
        """Return a listener that reports each epoch to Optuna and prunes the trial if Optuna says so."""
        import optuna

        metric = self.recipe.schedule.metric
        pretraining = sum(phase.epochs for phase in plan if phase.is_pretraining)
        # Optuna takes an epoch once; a resumed trial reports again what its checkpoint has.
        reported = trials_of(self.study)[trial.number].epochs

        def listen(event: Event) -> None:
            if event.kind == "epoch_start":
                self._report("", f"trial {trial.number}: epoch {event.epoch}/{event.epochs}, {event.phase}")
            if event.kind != "epoch_end" or event.epoch <= pretraining:
                return
            if event.epoch not in reported:
                trial.report(event.valid["score"][metric], event.epoch)
            if event.epoch < event.epochs and trial.should_prune():
                raise optuna.TrialPruned

        return listen

    def _report(self, message: str, *now: str) -> None:
        self.listen(Event("trials", message, self.ended, self.wanted, now))

    def _time_left(self) -> str:
        """Return how many trials are left and about how long they take, as the end of a line."""
        known = trials_of(self.study)
        left = self.wanted - self.ended
        if left <= 0:
            return ""
        seconds = [trial.seconds for trial in known if trial.seconds is not None]
        processes = 1 + sum(trial.state == "unfinished" for trial in known)
        return f"; {left} to go, about {duration(statistics.fmean(seconds) * left / processes)}"


def _suggest(trial: optuna.Trial, key: str, space: Space) -> Any:
    """Return the value of a key, newly drawn or, for a resumed trial, the stored one."""
    if isinstance(space, Listed):
        return trial.suggest_categorical(key, space.values)
    if space.whole:
        return trial.suggest_int(key, int(space.low), int(space.high), log=space.log)
    return trial.suggest_float(key, space.low, space.high, log=space.log)


def _repeat(trial: optuna.Trial, twin: TrialResult) -> float:
    """Copy the result of a trial with the same settings: runs are deterministic."""
    reported = trials_of(trial.study)[trial.number].epochs
    for epoch, value in twin.epochs.items():
        if epoch not in reported:
            trial.report(value, epoch)
    assert twin.value is not None
    return twin.value

"""Search recipe keys on validation with Optuna.

The folder of a search contains ``trials.journal``, Optuna's storage of all trials, and the folder of each run
as ``trials/NUMBER``. Several processes may work in it; see :mod:`alterrec.studies.tune_trials`.
"""

from __future__ import annotations

import json
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from alterrec.data.dataset import Dataset
from alterrec.data.readers import DataSource
from alterrec.data.repeats import changed_rule
from alterrec.errors import InputError
from alterrec.files import file_name, make_folder
from alterrec.locks import LockFile
from alterrec.models.reads import settings_read
from alterrec.progress import Event
from alterrec.recipe import Recipe, resolve
from alterrec.report.live import Progress, listener
from alterrec.studies.plan import PAPER_GRID
from alterrec.studies.queue import EVERY_RUN, setting_text
from alterrec.studies.search_space import read_search
from alterrec.studies.tune_trials import TrialRunner, TuneResult, trials_of

if TYPE_CHECKING:
    import optuna

# Seeds of the command that trains the best setting.
SEEDS = 3


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
    locale: str | None = None,
    columns: Mapping[str, str] | None = None,
    drop_unknown: bool = False,
    command: str = "",
    progress: Progress | Sequence[Progress] = "notebook",
) -> TuneResult:
    """Search recipe keys for the best validation metric, or resume a search; the test split is never used.

    Args:
        data: as for :func:`~alterrec.fit`. Default: the built-in catalogue.
        model: name of a system that trains. Default: ``alterrec``.
        search: recipe key -> space, e.g. ``{"optim.lr": "0.0001..0.01:log", "model.dim": "32,64"}``; see
            :mod:`alterrec.studies.search_space`.
        trials: number of trials in total, including those already in ``out``, 1 or more. Default: 30.
        out: folder of the search. Default: ``studies/tune-MODEL-DATA``.
        presets, overrides: presets and recipe keys of every trial. Default: ``best`` and none.
        seed: seed of the search and of every trial, an integer from 0. Default: 0.
        format, locale, columns, drop_unknown: as for :func:`~alterrec.fit`.
        command: the command line, which is written to ``study.json``.
        progress: as for :func:`alterrec.fit`.

    Returns:
        All trials, which are also written to ``study.json`` and ``trials.csv`` in ``out``.

    Raises:
        InputError: Optuna is missing, the input is wrong, ``out`` contains another search, or no trial
            finishes.
    """
    try:
        import optuna
    except ImportError:
        raise InputError("alterrec tune needs Optuna; install it with pip install 'alterrec[tune]'") from None
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    listen = listener(progress)
    overrides = dict(overrides or {})
    _check(trials, overrides)
    fixed = {**overrides, **EVERY_RUN, "run.seed": seed}
    recipe = resolve(model, presets, fixed)
    if recipe.schedule.regime == "none":
        raise InputError(f"{model} has nothing to train; choose a system that trains")
    spaces = read_search(model, presets, fixed, search or {})
    source = DataSource(data, columns or {}, drop_unknown, format, locale)
    dataset = source.read(recipe, lambda line: listen(Event("notice", line)))
    if not dataset.valid.num_sessions:
        raise InputError(f"{dataset.name} has no validation sessions; a search needs some to rank its trials")
    path = Path(out or Path("studies") / f"tune-{model}-{file_name(dataset.name)}")
    inputs = {
        "model": model,
        "presets": list(presets),
        "settings": {key: recipe.value(key) for key in overrides},
        "search": {key: str(space) for key, space in spaces.items()},
        "seed": seed,
        # Earlier versions did not write it. It is before the data, which is therefore written only with it.
        "exclude_seen": recipe.data.exclude_seen,
        "data": dataset.fingerprint,
    }
    changed = changed_rule(recipe.data.exclude_seen, dataset.train, dataset.valid, recipe.data.targets)
    study = _open(path, inputs, changed)
    runner = TrialRunner(path, study, recipe, fixed, spaces, trials, source, dataset, listen)
    for note in dataset.notes:
        listen(Event("notice", note))
    listen(Event("notice", f"{model} on {dataset.name}: {trials} trials, {runner.ended} finished, in {path}"))
    stopped = False
    try:
        runner.run()
    except KeyboardInterrupt:
        stopped = True
    result = TuneResult(path, model, recipe.schedule.metric, trials_of(study), trials, stopped=stopped)
    if result.best is not None:
        settings = {**overrides, **result.best.settings}
        result = replace(result, train=_train_command(recipe, settings, source))
    result.save(inputs, command)
    return result


def _check(trials: int, overrides: Mapping[str, Any]) -> None:
    if trials < 1:
        raise InputError(f"--trials is {trials}; use 1 or more")
    if "run.seed" in overrides:
        raise InputError(
            "--set run.seed sets the seed of one run; use --seed N for the search and all its trials"
        )
    if overrides.get("run.memory_budget"):
        raise InputError(
            "--set run.memory_budget limits one run, but all trials share a process, whose peak memory never "
            "falls; use a smaller optim.batch_size or model.dim"
        )


def _open(path: Path, inputs: Mapping[str, Any], changed: str) -> optuna.Study:
    """Open or create the study in a folder.

    Args:
        path: the folder.
        inputs: what identifies the search.
        changed: how earlier versions measured in another way on these data, from
            :func:`~alterrec.data.repeats.changed_rule`; empty if they did not.

    Raises:
        InputError: the folder contains a different search, or one whose trials were measured in another way.
    """
    import optuna
    from optuna.storages.journal import JournalFileBackend

    make_folder(path)
    with LockFile.acquire(path / "search.lock").kept():
        journal = path / "trials.journal"
        lock = cast(Any, _JournalLock(path / "journal.lock"))
        storage = optuna.storages.JournalStorage(JournalFileBackend(str(journal), lock))
        study = optuna.create_study(
            storage=storage, study_name="tune", direction="maximize", load_if_exists=True
        )
        if changed and "data" in study.user_attrs and "exclude_seen" not in study.user_attrs:
            raise InputError(
                f"an earlier version of alterrec began the search in {path}. With data.exclude_seen = "
                f"{inputs['exclude_seen']} on these data, {changed}. Old and new trials cannot be compared: "
                "use another --out, or finish the search with the version that began it"
            )
        # Through JSON, as the journal returns them.
        for key, value in json.loads(json.dumps(inputs)).items():
            if key not in study.user_attrs:
                study.set_user_attr(key, value)
            elif study.user_attrs[key] != value:
                difference = _difference(key, study.user_attrs[key], value)
                raise InputError(
                    f"{path} contains a different search: {difference}; use the same options (only --trials "
                    "may change), or another --out"
                )
    return study


class _JournalLock:
    """Lock for writing the journal; Optuna's own waits long for one that a killed process left."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def acquire(self) -> bool:
        self._lock = LockFile.acquire(self._path)
        return True

    def release(self) -> None:
        self._lock.release()


def _difference(key: str, there: Any, here: Any) -> str:
    """Describe how an input of the search in a folder differs from the one given.

    Example:
        >>> _difference("search", {"optim.lr": "0.1,0.2"}, {"optim.lr": "0.1,0.3", "model.dim": "32,64"})
        'optim.lr is "0.1,0.2" there and "0.1,0.3" here, model.dim is unset there and "32,64" here'
    """
    if key == "data":
        return "it is on other data"
    if isinstance(there, dict):
        differing = [name for name in {**there, **here} if there.get(name) != here.get(name)]
        return ", ".join(_difference(name, there.get(name), here.get(name)) for name in differing)
    texts = ("unset" if value is None else json.dumps(value) for value in (there, here))
    return "{} is {} there and {} here".format(key, *texts)


def _train_command(recipe: Recipe, settings: Mapping[str, Any], source: DataSource) -> str:
    """Return the study command for one setting; keys that the study would search are fixed."""
    fixed = {**{key: recipe.value(key) for key in PAPER_GRID}, **settings}
    fixed = settings_read(recipe.model_name, recipe.presets, fixed)
    parts = [
        *("alterrec", "study", "table1", f"--only={recipe.model_name}", f"--seeds={SEEDS}"),
        f"--preset={','.join(recipe.presets)}",
        *source.arguments(),
        *(f"--set={key}={setting_text(value)}" for key, value in fixed.items()),
    ]
    return shlex.join(parts)

"""Results of a search: its trials, the table of the best, and the files ``study.json`` and ``trials.csv``."""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from alterrec.files import write_json, write_text
from alterrec.metrics import metric_name
from alterrec.report.tables import Table, duration, plain
from alterrec.studies.queue import setting_text

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


@dataclass(frozen=True)
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
        id_only: the best of 1 trials
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
        return Table(
            ("trial", *keys, f"validation {metric_name(self.metric)}", "best epoch", "time"),
            tuple(
                (
                    str(trial.number),
                    *(short_value(trial.settings[key]) for key in keys),
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
        keys = list(inputs["search"])
        text = io.StringIO()
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

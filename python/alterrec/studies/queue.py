"""The runs of a study: what makes one, where it lies, how it is started, and how it ended."""

from __future__ import annotations

import json
import shutil
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

from alterrec.data.readers import DataSource
from alterrec.errors import WRONG_INPUT
from alterrec.models.reads import settings_read
from alterrec.recipe import Recipe, first_release_digest, recipe_digest, resolve
from alterrec.results import CHECKPOINT, RunFolder, read_run
from alterrec.studies.guess import Sizes

Settings = Mapping[str, Any]

# A study compares rows itself and draws one report; 200 runs would each draw all others.
ALWAYS = {"run.baselines": False, "run.report": False}


@dataclass(frozen=True, eq=False)
class StudyRun:
    """One training of a study.

    Attributes:
        name: of its folder, ``MODEL-<digest of recipe and data>``.
        recipe: all choices.
        settings: those that the study made for this run, its seed apart.
        label: what people call it.
    """

    name: str
    recipe: Recipe
    settings: Settings
    label: str


class Failure(NamedTuple):
    """How a run ended that has no result.

    Attributes:
        reason: in words.
        code: exit code; 2 is a setting that does not work, as a rate that diverges.
        refused: the input was refused before anything was written: the system is not for these data, or
            the recipe is not for this system.
    """

    reason: str
    code: int
    refused: bool = False


class Plan(NamedTuple):
    """What a study needs, as far as is known.

    Attributes:
        runs: all runs, finished ones included.
        later: the model of each further run, whose settings await results.
    """

    runs: list[StudyRun]
    later: list[str]


@dataclass
class RunQueue:
    """The runs of one folder, which any study on the same data shares.

    Attributes:
        folder: where run folders, locks and logs are.
        source: the data.
        fingerprint: of their content.
        presets, settings: of every run; a run's own settings win.
        sizes: of the data, for a guess at how long runs take before any is finished.
        failures: runs that failed in this process. They are not kept: what failed may be mended.
    """

    folder: Path
    source: DataSource
    fingerprint: str
    presets: Sequence[str] = ("paper",)
    settings: Settings = field(default_factory=dict)
    sizes: Sizes | None = None
    failures: dict[StudyRun, Failure] = field(default_factory=dict)
    _made: dict[str, StudyRun] = field(default_factory=dict)
    _finished: dict[StudyRun, RunFolder] = field(default_factory=dict)

    def make(self, model: str, settings: Settings, seed: int) -> StudyRun:
        """The run of a model, the same object for the same arguments.

        Raises:
            InputError: an unknown model or key, or a value that is not allowed.
        """
        key = json.dumps([model, dict(settings), seed])
        if key not in self._made:
            given = {**self.settings, **ALWAYS, **settings, "run.seed": seed}
            recipe = resolve(model, self.presets, given)
            name = f"{model}-{recipe_digest(recipe, self.fingerprint)}"
            earlier = f"{model}-{first_release_digest(recipe, self.fingerprint)}"
            if (self.folder / earlier / "result.json").exists():
                name = earlier
            short = {name.partition(".")[2]: value for name, value in settings.items()}
            label = ", ".join([model, *(f"{name} {value}" for name, value in short.items()), f"seed {seed}"])
            self._made[key] = StudyRun(name, recipe, settings, label)
        return self._made[key]

    def result(self, run: StudyRun) -> RunFolder | None:
        """The folder of a finished run, or None."""
        if run not in self._finished and (self.path(run) / "result.json").exists():
            read = read_run(self.path(run))
            if read.result.stopped != "interrupted":
                self._finished[run] = read
        return self._finished.get(run)

    def ended(self, run: StudyRun) -> bool:
        """Whether a run is finished or has failed."""
        return self.result(run) is not None or run in self.failures

    def path(self, run: StudyRun) -> Path:
        """The run's folder."""
        return self.folder / run.name

    def command(self, run: StudyRun) -> list[str]:
        """The command line that trains a run in a process of its own, or goes on with it."""
        given = {**self.settings, **ALWAYS, **run.settings, "run.seed": run.recipe.run.seed}
        pairs = settings_read(run.recipe.model_name, self.presets, given)
        return [
            *(sys.executable, "-m", "alterrec.worker", "train", run.recipe.model_name),
            *(f"--out={self.path(run)}", f"--preset={','.join(self.presets)}"),
            *self.source.arguments(),
            *(f"--set={key}={spoken(value)}" for key, value in pairs.items()),
            *(["--resume"] if self._goes_on(run) else []),
        ]

    def clear(self, run: StudyRun) -> None:
        """Take away what is of no use: a finished run's checkpoint, which is larger than its model, and all
        of a run that was killed before its first epoch was whole.
        """
        if self.result(run) is not None:
            shutil.rmtree((self.path(run) / CHECKPOINT).parent, ignore_errors=True)
        elif not self._goes_on(run):
            shutil.rmtree(self.path(run), ignore_errors=True)

    def failure(self, run: StudyRun, code: int, log: str) -> Failure:
        """What the exit code and the log of a run say."""
        lines = [line for line in log.splitlines() if line.strip()]
        said = lines[-1] if lines else "it said nothing"
        if code == WRONG_INPUT:
            errors = [line for line in lines if line.startswith("error: ")]
            reason = errors[-1].removeprefix("error: ") if errors else said
            return Failure(reason, code, refused=not (self.path(run) / "recipe.toml").exists())
        if code < 0:
            memory = ", perhaps for want of memory" if code == -9 else ""
            return Failure(f"killed by signal {-code}{memory}; the last it said: {said}", code)
        return Failure(f"exit code {code}: {said}" if code else f"no result; the last it said: {said}", code)

    def _goes_on(self, run: StudyRun) -> bool:
        return (self.path(run) / CHECKPOINT).exists()


def spoken(value: Any) -> str:
    """A value as ``--set`` takes it.

    Example:
        >>> spoken(False), spoken(0.01), spoken("learned")
        ('false', '0.01', 'learned')
        >>> spoken(("title", "brand"))
        'title,brand'
    """
    if isinstance(value, tuple | list):
        return ",".join(value)
    return value if isinstance(value, str) else json.dumps(value)

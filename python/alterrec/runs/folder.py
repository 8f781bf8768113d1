"""A run folder that is to be written: whether a run may begin or resume there, and its lock."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from alterrec.data.dataset import Dataset
from alterrec.errors import InputError
from alterrec.files import (
    check_writable,
    file_name,
    is_temporary,
    make_folder,
    read_text,
    replace_together,
    sweep,
    write_text,
)
from alterrec.locks import LockFile, is_held
from alterrec.manifest import MANIFEST, RESULT, check_manifest, write_manifest
from alterrec.models.catalogue import lookup
from alterrec.recipe import Recipe, dump_recipe, recipe_changes
from alterrec.results import CHECKPOINT, RUN_LOCK

RECIPE = "recipe.toml"
# Folder of the runs whose folders are not given.
RUNS = Path("runs")

# empty: nothing, or the folder is missing; started: a run was killed before its first checkpoint; unfinished:
# there is a checkpoint but no result; finished: there is a result; other: files of another kind.
Kind = Literal["empty", "started", "unfinished", "finished", "other"]


@dataclass(frozen=True)
class Start:
    """How a run starts, decided before anything is written.

    Attributes:
        path: its folder; None for a new one under ``runs/``.
        kind: what the folder contains.
        recipe: the resolved recipe.
        resume: whether the user asks to resume.
    """

    path: Path | None
    kind: Kind
    recipe: Recipe
    resume: bool

    @classmethod
    def check(cls, out: str | Path | None, recipe: Recipe, resume: bool) -> Start:
        """Check what can be checked before the data are read.

        Raises:
            InputError: ``out`` contains another run or other files, is a file or is being written, or
                ``resume`` is given without it, or it cannot be written to.
        """
        if out is None:
            if resume:
                raise InputError("--resume needs --out, the folder of the interrupted run")
            check_writable(RUNS)
            return cls(None, "empty", recipe, resume)
        path = Path(out)
        if path.exists() and not path.is_dir():
            raise InputError(f"{path} is a file; give a new or an empty folder")
        if is_held(path / RUN_LOCK):
            raise _being_written(path)
        start = cls(path, kind_of(path), recipe, resume)
        # Where there is a checkpoint, its recipe counts: that in the folder may be damaged.
        if start.kind in ("started", "finished") and not (path / CHECKPOINT).exists():
            start._check_recipe(path)
        if resume and start.kind == "other":
            raise InputError(
                f"{path} has other files, and no checkpoint to resume from; give the folder of an "
                "interrupted run, or a new one"
            )
        if not resume and start.kind not in ("empty", "started"):
            raise _not_empty(path)
        if not start.is_done:
            check_writable(path)
        return start

    @property
    def resumes(self) -> bool:
        """Whether training continues from a checkpoint."""
        return self.path is not None and self.resume and (self.path / CHECKPOINT).exists()

    @property
    def note(self) -> str:
        """A remark for the user, or an empty string."""
        if self.kind == "started":
            return f"the run in {self.path} was stopped before its first checkpoint; it starts again"
        if self.resume and self.kind == "empty":
            return f"{self.path} has nothing to resume; a new run starts"
        return ""

    def check_data(self, dataset: Dataset, epochs: int) -> None:
        """Check that the run may resume on these data.

        Args:
            dataset: the data.
            epochs: number of epochs of its plan.

        Raises:
            InputError: the checkpoint or the result belongs to other data or to another recipe, is damaged,
                or is missing.
        """
        if self.path is None or self.kind not in ("unfinished", "finished"):
            return
        if self.resumes and not self.is_done:
            from alterrec.training.checkpoint import check_checkpoint

            check_checkpoint(self.path / CHECKPOINT, self.recipe, dataset, epochs)
            return
        if self._result("data", "fingerprint") != dataset.fingerprint:
            raise InputError(
                f"{self.path} belongs to other data; resume with the same files, or start a new run"
            )
        if lookup(self.recipe.model_name).trains and not self.is_done:
            raise InputError(
                f"{self.path} has no checkpoint to resume from, because its run has finished and the "
                "checkpoint was deleted; train in a new folder"
            )

    @property
    def is_done(self) -> bool:
        """Whether the run has finished with this recipe, so that there is nothing to do."""
        if self.path is None or not self.resume or self.kind != "finished":
            return False
        if self._result("stopped") not in ("finished", "patience"):
            return False
        with suppress(InputError):
            check_manifest(self.path)
            return not recipe_changes(read_text(self.path / RECIPE), dump_recipe(self.recipe))
        # Files were mixed when a process was killed while it replaced them; they are written again.
        return False

    def tidy(self) -> None:
        """Remove what a process left in a finished run that was killed after it had written the result."""
        assert self.path is not None
        # A folder that cannot be written to stays as it is.
        with suppress(InputError):
            lock = LockFile.try_acquire(self.path / RUN_LOCK)
            if lock is not None:
                _sweep_run(self.path)
                lock.release()

    def _check_recipe(self, path: Path) -> None:
        """Check that the recipe in the folder is this one, apart from fields that may change."""
        if not (path / RECIPE).exists():
            return
        from alterrec.training.checkpoint import check_same_recipe

        try:
            check_same_recipe(read_text(path / RECIPE), dump_recipe(self.recipe), path / RECIPE)
        except InputError:
            if self.resume:
                raise
            raise _not_empty(path) from None

    def _result(self, *keys: str) -> object:
        """Return a value of result.json; None if the file is damaged."""
        assert self.path is not None
        value: object = None
        with suppress(InputError, ValueError):
            value = json.loads(read_text(self.path / RESULT))
        for key in keys:
            value = value.get(key) if isinstance(value, dict) else None
        return value


def kind_of(path: Path) -> Kind:
    """Return what a folder contains; temporary files and locks do not count."""
    if (path / RESULT).exists():
        return "finished"
    if (path / CHECKPOINT).exists():
        return "unfinished"
    names = _names(path)
    if not names:
        return "empty"
    folder = Path(CHECKPOINT).parent.name
    return "started" if names <= {RECIPE, folder} and not _names(path / folder) else "other"


def _sweep_run(path: Path) -> None:
    """Remove temporary files from a run folder that this process has locked."""
    sweep(path, every=True)
    sweep((path / CHECKPOINT).parent, every=True)


def _names(path: Path) -> set[str]:
    if not path.is_dir():
        return set()
    names = {entry.name for entry in path.iterdir()}
    return {name for name in names if not is_temporary(name) and not name.startswith(RUN_LOCK)}


@dataclass(frozen=True)
class OpenRun:
    """A run folder that this process has locked."""

    path: Path
    lock: LockFile

    def check_lock(self) -> None:
        """Raise InputError if another process has taken the folder over, for example after a long pause."""
        if not self.lock.touch():
            raise InputError(
                f"another process has taken over {self.path}, because this one had stopped for long; wait "
                "until that one has ended"
            )

    @contextmanager
    def results(self) -> Iterator[Path]:
        """Yield a folder for the files of the finished run, which then replace those in the run folder.

        The manifest is written when all of them are there. ``result.json``, which marks the run as finished,
        is moved last.
        """
        with replace_together(self.path, last=[MANIFEST, RESULT]) as new:
            yield new
            write_manifest(new)
            self.check_lock()


@contextmanager
def open_run(start: Start, data_name: str) -> Iterator[OpenRun]:
    """Lock a run folder while the block runs, and prepare it; ``data_name`` becomes part of a name.

    If Ctrl-C ends the block before there is a checkpoint, the folder is left as it was found.

    Raises:
        InputError: another process is writing in the folder or has changed it, or it cannot be written to.
        KeyboardInterrupt: that of the block; its message says whether the run can resume.
    """
    missing = start.path is None or not start.path.exists()
    path = start.path or _new_folder(start.recipe, data_name)
    lock = LockFile.acquire_within(path / RUN_LOCK)
    if lock is None:
        raise _being_written(path)
    try:
        with lock.kept():
            if kind_of(path) != start.kind:
                raise InputError(f"another process has changed {path} meanwhile; run the same command again")
            _sweep_run(path)
            if start.kind != "finished":
                write_text(path / RECIPE, dump_recipe(start.recipe))
            yield OpenRun(path, lock)
    except KeyboardInterrupt:
        if kind_of(path) == "started":
            (path / RECIPE).unlink(missing_ok=True)
            shutil.rmtree((path / CHECKPOINT).parent, ignore_errors=True)
        hint = f"{path} has its last checkpoint; --resume continues" if kind_of(path) == "unfinished" else ""
        raise KeyboardInterrupt(hint) from None
    finally:
        if missing:
            # Only if nothing was written.
            with suppress(OSError):
                path.rmdir()


def _new_folder(recipe: Recipe, data_name: str) -> Path:
    name = f"{recipe.model_name}-{file_name(data_name)}-seed{recipe.run.seed}"
    for attempt in range(1, 10_000):
        path = RUNS / (name if attempt == 1 else f"{name}-{attempt}")
        try:
            return make_folder(path, exist_ok=False)
        except FileExistsError:
            continue
    raise InputError(f"runs/ has too many runs named {name}; choose a folder with --out")


def _being_written(path: Path) -> InputError:
    return InputError(
        f"another training is writing in {path}; wait until it has ended, or choose another folder"
    )


def _not_empty(path: Path) -> InputError:
    return InputError(f"{path} is not empty; give a new folder, or resume its run with --resume")

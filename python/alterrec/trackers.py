"""Trackers: a training logs its settings and numbers to TensorBoard, MLflow or Weights & Biases.

A tracker is a listener of progress events: ``alterrec.fit(..., progress=[TensorBoard("logs")])``. To log
elsewhere, derive a class from :class:`Tracker`.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from contextlib import suppress
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from alterrec.errors import InputError, nearest
from alterrec.progress import Event, Views

LOGGER = logging.getLogger("alterrec")
# MLflow takes at most this many parameters at once.
MLFLOW_PARAMETERS = 100


class Tracker:
    """Base of all trackers: turns the events of a training into three calls, which do nothing here.

    An error in one of the calls does not stop the training: it is logged once as a warning of the logger
    ``alterrec``, and the tracker logs nothing more of this run. A tracker does not change the run folder.

    Example:
        >>> class Printer(Tracker):
        ...     def log(self, values, epoch):
        ...         print(epoch, values)
        >>> printer = Printer()
        >>> printer(Event("start", run="runs/mine", settings={"optim.lr": 0.001}))
        >>> printer(Event("epoch_end", epoch=3, loss=6.25, valid={"score": {"ndcg@20": 0.2}}))
        3 {'loss': 6.25, 'valid/score/ndcg@20': 0.2}
    """

    _active = False

    def start(self, run: Path, settings: Mapping[str, Any]) -> None:
        """Begin a training.

        Args:
            run: the run folder.
            settings: every setting of its recipe, key -> value, such as ``optim.lr`` -> 0.001.
        """

    def log(self, values: Mapping[str, float], epoch: int) -> None:
        """Log the numbers of an epoch.

        Args:
            values: name -> value: ``loss``, the mean training loss, and ``valid/VIEW/METRIC``, the validation
                metrics as fractions from 0 to 1.
            epoch: its number, from 1.
        """

    def finish(self, values: Mapping[str, float], epoch: int) -> None:
        """End a training.

        Args:
            values: name -> value: the final metrics ``valid/VIEW/METRIC`` and ``test/VIEW/METRIC``; empty if
                the training failed, or was stopped before there was a result.
            epoch: number of epochs that were trained.
        """

    def __call__(self, event: Event) -> None:
        """Receive a progress event."""
        if event.kind == "start":
            self._active = True
        if not self._active:
            return
        try:
            self._receive(event)
        except Exception as error:
            self._active = False
            with suppress(Exception):
                self.finish({}, event.epoch)
            reason = " ".join(f"{type(error).__name__}: {error}".split())
            LOGGER.warning("%s logs nothing more of this run: %s", type(self).__name__, reason)

    def _receive(self, event: Event) -> None:
        if event.kind == "start":
            self.start(Path(event.run), event.settings)
        elif event.kind == "epoch_end":
            loss = {} if event.loss is None else {"loss": event.loss}
            self.log(loss | _flat("valid", event.valid), event.epoch)
        elif event.kind in ("done", "failed"):
            self.finish(_flat("valid", event.valid) | _flat("test", event.test), event.epoch)
            self._active = False


class TensorBoard(Tracker):
    """Log to TensorBoard: curves, and the final metrics beside the settings on its page HPARAMS.

    Args:
        folder: what ``tensorboard --logdir`` gets; each run has a folder in it, which is called as its run
            folder.

    Raises:
        InputError: tensorboard is not installed.
    """

    def __init__(self, folder: str | Path) -> None:
        _check_installed("tensorboard", '"alterrec[tensorboard]"')
        self.folder = Path(folder)

    def start(self, run: Path, settings: Mapping[str, Any]) -> None:
        from torch.utils.tensorboard import SummaryWriter

        folder = self.folder / run.resolve().name
        if folder.resolve() == run.resolve():
            raise InputError(f"{folder} is the run folder itself; choose another folder for TensorBoard")
        self._settings = {key: _plain(value) for key, value in settings.items()}
        self._writer = SummaryWriter(str(folder))

    def log(self, values: Mapping[str, float], epoch: int) -> None:
        for name, value in values.items():
            self._writer.add_scalar(name, value, epoch)
        self._writer.flush()

    def finish(self, values: Mapping[str, float], epoch: int) -> None:
        if values:
            # The name of a run in the folder of this one; this one's own is the dot.
            self._writer.add_hparams(self._settings, dict(values), run_name=".")
        self._writer.close()


class MLflow(Tracker):
    """Log to MLflow, where its environment variables say; metrics are called ``ndcg_at_20`` there.

    In an active MLflow run, a training is a nested run.

    Args:
        experiment: name of the experiment, which is created if there is none.

    Raises:
        InputError: mlflow is not installed.
    """

    def __init__(self, experiment: str) -> None:
        _check_installed("mlflow", "mlflow")
        self.experiment = experiment

    def start(self, run: Path, settings: Mapping[str, Any]) -> None:
        import mlflow

        self._mlflow = mlflow
        nested = mlflow.active_run() is not None
        if not nested:
            mlflow.set_experiment(self.experiment)
        mlflow.start_run(run_name=run.resolve().name, nested=nested)
        rows = list(settings.items())
        for first in range(0, len(rows), MLFLOW_PARAMETERS):
            mlflow.log_params(dict(rows[first : first + MLFLOW_PARAMETERS]))

    def log(self, values: Mapping[str, float], epoch: int) -> None:
        # MLflow does not allow @ in names.
        named = {name.replace("@", "_at_"): value for name, value in values.items()}
        self._mlflow.log_metrics(named, step=epoch)

    def finish(self, values: Mapping[str, float], epoch: int) -> None:
        if values:
            self.log({f"final/{name}": value for name, value in values.items()}, epoch)
        self._mlflow.end_run("FINISHED" if values else "FAILED")


class WandB(Tracker):
    """Log to Weights & Biases, where its environment variables say; ``WANDB_MODE=offline`` sends nothing.

    Args:
        project: name of the project.

    Raises:
        InputError: wandb is not installed.
    """

    def __init__(self, project: str) -> None:
        _check_installed("wandb", "wandb")
        self.project = project

    def start(self, run: Path, settings: Mapping[str, Any]) -> None:
        import wandb

        self._run = wandb.init(project=self.project, name=run.resolve().name, config=dict(settings))

    def log(self, values: Mapping[str, float], epoch: int) -> None:
        self._run.log(dict(values), step=epoch)

    def finish(self, values: Mapping[str, float], epoch: int) -> None:
        self._run.summary.update({f"final/{name}": value for name, value in values.items()})
        self._run.finish(exit_code=0 if values else 1)


def parse_tracker(text: str) -> Tracker:
    """Return the tracker that a value of the option ``--track`` means.

    Raises:
        InputError: another name, no value, or the library is not installed.

    Example:
        >>> parse_tracker("tensorbord=logs")  # doctest: +ELLIPSIS
        Traceback (most recent call last):
            ...
        alterrec.errors.InputError: --track is 'tensorbord=logs'; expected tensorboard=FOLDER, ...
    """
    kinds = {"tensorboard": TensorBoard, "mlflow": MLflow, "wandb": WandB}
    name, _, value = text.partition("=")
    if name not in kinds or not value:
        hint = "" if name in kinds else nearest(name, kinds)
        raise InputError(
            f"--track is {text!r}; expected tensorboard=FOLDER, mlflow=EXPERIMENT or wandb=PROJECT{hint}"
        )
    return kinds[name](value)


def _check_installed(module: str, requirement: str) -> None:
    if find_spec(module) is None:
        raise InputError(f"{module} is not installed; run `pip install {requirement}`")


def _flat(split: str, views: Views) -> dict[str, float]:
    return {
        f"{split}/{view}/{metric}": value
        for view, metrics in views.items()
        for metric, value in metrics.items()
    }


def _plain(value: Any) -> Any:
    """A number, truth value or text; anything else as text."""
    return value if isinstance(value, bool | int | float | str) else str(value)

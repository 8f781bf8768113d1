"""What a run or a saved run is checked for before torch is imported, which takes seconds."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from alterrec.data.dataset import Dataset
from alterrec.data.readers import DataSource
from alterrec.errors import InputError
from alterrec.evaluation.saved import read_items
from alterrec.files import reading
from alterrec.job import current_job
from alterrec.manifest import RESULT, check_manifest
from alterrec.models.reads import resolve_read
from alterrec.progress import Event, Listener, ignore
from alterrec.recipe import Recipe, load_recipe
from alterrec.runs.continued import continued_recipe
from alterrec.runs.folder import Start
from alterrec.stored import read_table
from alterrec.training.schedule import Phase, check_freeze, check_loss, phases
from alterrec.vocabulary import Vocabulary

USERS = "users.parquet"


@dataclass(frozen=True)
class RunInputs:
    """What a run begins with.

    Attributes:
        recipe: its resolved recipe.
        start: its folder.
        plan: its phases.
        dataset: its data.
        seconds: how long it took to read them.
    """

    recipe: Recipe
    start: Start
    plan: Sequence[Phase]
    dataset: Dataset
    seconds: float


def read_inputs(
    source: DataSource,
    model: str | None = None,
    *,
    out: str | Path | None = None,
    presets: Sequence[str] = ("best",),
    overrides: Mapping[str, Any] | None = None,
    seed: int | None = None,
    continue_from: str | Path | None = None,
    resume: bool = False,
    progress: Listener = ignore,
) -> RunInputs:
    """Check the settings and the folder of a run, and read its data; the arguments are those of ``fit``.

    Torch is imported only if the run needs a device other than the CPU.

    Raises:
        InputError: the settings, the folder or the data are wrong; nothing is written then.
    """
    began = time.perf_counter()
    settings = dict(overrides or {}) | ({} if seed is None else {"run.seed": seed})
    if continue_from is None:
        recipe = resolve_read(model or "alterrec", presets, settings)
    else:
        others = [preset for preset in presets if preset != "best"]
        recipe = continued_recipe(Path(continue_from), model, others, settings)
    # The other processes of a job do without: they get that of the first one, and may not see its disk.
    first = current_job().is_first
    start = Start.check(out, recipe, resume) if first else Start(None, "empty", recipe, resume)
    if recipe.run.device != "cpu":
        from alterrec.runs.rebuild import check_device

        check_device(recipe.run.device)
    plan = phases(recipe)
    check_loss(recipe, plan)
    check_freeze(recipe)
    progress(Event("work", "reading the data"))
    dataset = source.read(recipe, lambda line: progress(Event("notice", line)))
    return RunInputs(recipe, start, plan, dataset, time.perf_counter() - began)


class RunCatalogue(NamedTuple):
    """The catalogue of a finished run.

    Attributes:
        path: the folder of the run.
        recipe: its recipe.
        vocabulary: its items.
        texts: the text of each item.
        trained: (V,) whether each item occurs in training.
        users: the users that the model knows; None if it reads no users, or knows them by number only.
    """

    path: Path
    recipe: Recipe
    vocabulary: Vocabulary
    texts: list[str]
    trained: NDArray[np.bool_]
    users: Vocabulary | None


def read_catalogue(run: str | Path) -> RunCatalogue:
    """Read the catalogue of a finished run.

    Raises:
        InputError: the folder is not that of a finished run, or a file is damaged.

    Example:
        >>> read_catalogue("no/such/run")
        Traceback (most recent call last):
            ...
        alterrec.errors.InputError: no/such/run has no recipe.toml; give the folder of a finished run
    """
    run = Path(run)
    if not (run / "recipe.toml").exists():
        # A manifest without a recipe is that of an imported ranking.
        if (run / RESULT).exists() and check_manifest(run) is not None:
            raise InputError(
                f"{run} is a ranking of another system, which has no model; give the folder of a run that "
                "was trained"
            )
        raise InputError(f"{run} has no recipe.toml; give the folder of a finished run")
    check_manifest(run)
    recipe = load_recipe(run / "recipe.toml")
    if not (run / "model.safetensors").exists():
        raise InputError(f"{run} is not a finished run; train again, or finish it with --resume")
    items = read_items(run)
    names = tuple(read_table(run / USERS, {"user_id": "text"})["user_id"]) if (run / USERS).exists() else None
    # What fails from here on fails because the files do not belong together.
    with reading(run):
        return RunCatalogue(
            run,
            recipe,
            Vocabulary(tuple(items["item_id"])),
            items["text"].to_list(),
            items["trained"].to_numpy(),
            None if names is None else Vocabulary(names),
        )

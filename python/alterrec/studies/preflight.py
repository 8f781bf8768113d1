"""What is in the way of the rows of a study, found before its first run."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

from alterrec.data.dataset import Dataset, category_ids
from alterrec.data.repeats import seen_items
from alterrec.data.text import missing_encoder, without_words
from alterrec.errors import InputError
from alterrec.models.catalogue import has_known_users, lookup, missing_input, reads_text
from alterrec.models.reads import resolve_read
from alterrec.recipe import Recipe
from alterrec.recipe_settings import parse_bytes
from alterrec.report.tables import Table, duration, memory
from alterrec.studies.estimates import DataSizes, estimate_memory, least_memory, machine_memory
from alterrec.studies.plan import PlannedRow, plan_of
from alterrec.studies.queue import Failure, RunQueue, StudyRun, guess_seconds, seconds_left
from alterrec.training.schedule import check_freeze, check_loss, phases
from alterrec.training.windows import check_catalogue


class RowCheck(NamedTuple):
    """What is known about a row before the first run.

    Attributes:
        label: name of the row.
        model: its system.
        runs: number of its runs, including those whose settings are not chosen yet.
        finished: number of runs that have finished.
        seconds: estimated time of the others.
        memory: estimated peak memory of a run in bytes, or measured from a finished one.
        reason: why the row cannot run; empty if it can.
        refused: the reason is that the system reads what the data lack, or weights that were trained
            elsewhere, so that the row is N/A, as in the paper; other reasons are settings.
    """

    label: str
    model: str
    runs: int
    finished: int
    seconds: float | None
    memory: int
    reason: str = ""
    refused: bool = False


@dataclass(frozen=True)
class Preflight:
    """The checks of all rows of a study on one data set.

    Attributes:
        data: name of the data.
        rows: a check for each row.
        named: the systems that the user named; they must run, others may be N/A.
    """

    data: str
    rows: Sequence[RowCheck]
    named: Collection[str] = ()

    @property
    def runnable(self) -> bool:
        """Whether any row can run."""
        return any(not row.reason for row in self.rows)

    @property
    def obstacles(self) -> list[RowCheck]:
        """The rows that stop the study."""
        return [row for row in self.rows if row.reason and (not row.refused or row.model in self.named)]

    def cells(self) -> Iterator[tuple[str, ...]]:
        """Yield a line of the table for each row."""
        for row in self.rows:
            stops = row in self.obstacles
            # The first clause; the message and the report have all of it.
            note = f"{'' if stops else 'N/A: '}{row.reason.split(';')[0]}" if row.reason else "-"
            runs = f"{row.runs} ({row.finished} finished)" if row.finished else str(row.runs)
            left = f"~{duration(row.seconds)}" if row.seconds is not None and not row.reason else "-"
            yield row.label, runs, left, f"~{memory(row.memory)}", note


def check_rows(
    rows: Sequence[PlannedRow], queue: RunQueue, data: Dataset, named: Collection[str] = (), jobs: int = 1
) -> Preflight:
    """Check every row of a study on one data set.

    Args:
        rows: the rows as they are planned now.
        queue: their runs.
        data: the data.
        named: the systems that the user named.
        jobs: number of runs at a time.
    """
    facts = _Facts(data, queue, jobs)
    return Preflight(data.name, [_check(row, queue, facts) for row in rows], named)


def table_of(checks: Sequence[Preflight]) -> Table:
    """Return the table of a study: what each row needs and what is in the way, by data set if several."""
    several = len(checks) > 1
    lines = [((check.data, *cells) if several else cells) for check in checks for cells in check.cells()]
    columns = ("system", "runs", "time", "memory", "in the way")
    return Table((*(["data"] if several else []), *columns), tuple(lines), prose=True)


def record_refusals(rows: Sequence[PlannedRow], queue: RunQueue, check: Preflight) -> None:
    """Record rows that are N/A, so that their runs are not started."""
    reasons = {row.label: row.reason for row in check.rows if row.refused}
    for row in rows:
        for run in row.tried if row.label in reasons else ():
            if queue.result(run) is None:
                queue.failures[run] = Failure(reasons[row.label], 2, refused=True)


def check_quick(recipes: Sequence[Recipe], settings: Collection[str], data: Dataset) -> dict[str, object]:
    """Return the settings with which a quick study goes on where those of its presets do not fit.

    A window that is longer than the catalogue becomes its first half, and a sentence encoder that cannot be
    had becomes ``lsa``.

    Args:
        recipes: the recipes of all systems.
        settings: the keys that the user has set, which stay as they are.
        data: the data.
    """
    found: dict[str, object] = {}
    facts = _Facts(data)
    for recipe in recipes:
        if not {"window.first", "window.last"} & {*settings} and facts.wrong_window(recipe):
            found |= {"window.first": 1, "window.last": 0.5}
        if "text.encoder" not in settings and not facts.lacks(recipe) and facts.wrong_encoder(recipe):
            found["text.encoder"] = "lsa"
    return found


class _Facts:
    """What the checks need to know about the data, counted once."""

    def __init__(self, data: Dataset, queue: RunQueue | None = None, jobs: int = 1) -> None:
        self.data, self.queue, self.jobs = data, queue, jobs
        self.users = has_known_users(data.train)
        texts = data.text.fields.values() if data.text else ()
        self.text = data.vectors is not None or any(any(values) for values in texts)
        self._excluded: dict[tuple[str, str], bool] = {}
        self._encoders: dict[tuple[object, ...], str] = {}
        self._devices: dict[str, str] = {}

    @cached_property
    def sizes(self) -> DataSizes:
        return DataSizes.of(self.data)

    def lacks(self, recipe: Recipe) -> str:
        """Return what the data lack for the system of a recipe, or that it needs weights from elsewhere."""
        try:
            check_freeze(recipe)
        except InputError as error:
            return str(error)
        return missing_input(recipe, text=self.text, users=self.users)

    def wrong_settings(self, run: StudyRun) -> str:
        """Return what is wrong with the settings of a run, on any data."""
        recipe = run.recipe
        try:
            if self.queue is not None:
                resolve_read(recipe.model_name, self.queue.presets, self.queue.settings_of(run))
            check_loss(recipe, phases(recipe))
            if recipe.data.categories and lookup(recipe.model_name).reads_categories and self.data.text:
                category_ids(self.data.text, recipe.data.categories)
        except InputError as error:
            return str(error)
        return ""

    def wrong_window(self, recipe: Recipe) -> str:
        """Return why windows, samples or further positives do not fit into the catalogue."""
        try:
            longest = int(self.data.train.lengths.max(initial=1))
            excluded = min(longest - 1, recipe.model.max_len) if self._excludes(recipe) else 0
            check_catalogue(recipe.window, phases(recipe), self.data.num_items, excluded)
        except InputError as error:
            return str(error)
        return ""

    def wrong_encoder(self, recipe: Recipe) -> str:
        """Return why the sentence encoder cannot be used."""
        text = self.data.text
        if not reads_text(recipe) or self.data.vectors is not None or text is None:
            return ""
        shortened = lookup(recipe.model_name).reads_shortened and bool(recipe.schedule.pretrain)
        own = recipe.text
        key = (own.encoder, own.prompt, own.truncate_dim, recipe.data.text_fields, shortened)
        if key not in self._encoders:
            # The fields were checked when the data were read.
            both = [text, without_words(text)] if shortened and own.encoder != "lsa" else [text]
            texts = [value for each in both for values in each.fields.values() for value in values]
            self._encoders[key] = missing_encoder(
                own.encoder, texts, prompt=own.prompt or None, truncate_dim=own.truncate_dim or None
            )
        return self._encoders[key]

    def wrong_memory(self, recipe: Recipe, needed: int) -> str:
        """Return why a run does not fit into this machine, or into its own limit."""
        machine = machine_memory()
        limit = parse_bytes(recipe.run.memory_budget) if recipe.run.memory_budget else None
        if machine is None:
            return ""
        if limit is not None and limit > machine:
            return f"run.memory_budget is {memory(limit)}, but this machine has {memory(machine)}; lower it"
        if limit is not None:
            least = least_memory(recipe, self.sizes)
            return (
                f"run.memory_budget is {memory(limit)}, but {recipe.model_name} on {self.sizes.items} items "
                f"needs more than {memory(least)}, which is a lower bound: process, weights and texts "
                "without any scores; raise it, or lower model.dim"
                if limit < least
                else ""
            )
        processes = self.queue.processes if self.queue else 1
        if needed * self.jobs * processes <= machine:
            return ""
        several = f" in each of {processes} processes" if processes > 1 else ""
        several += f", {self.jobs} at a time" if self.jobs > 1 else ""
        return (
            f"a run takes about {memory(needed)}{several}, but this machine has {memory(machine)}; set "
            "run.memory_budget, below which scores are computed in chunks, or lower model.dim, "
            "optim.batch_size or --jobs"
        )

    def wrong_device(self, recipe: Recipe) -> str:
        """Return why the device of a run cannot be used, or an empty text. The CPU needs no torch."""
        name = recipe.run.device
        if name == "cpu":
            return ""
        if name not in self._devices:
            from alterrec.runs.rebuild import check_device

            self._devices[name] = _refusal(lambda: check_device(name))
        return self._devices[name]

    def wrong_start(self, recipe: Recipe) -> str:
        """Return why a run cannot start from the weights of ``model.init_from``."""
        if not recipe.model.init_from:
            return ""
        from alterrec.runs.pretrained import check_source

        return _refusal(lambda: check_source(recipe))

    def _excludes(self, recipe: Recipe) -> bool:
        key = (recipe.data.exclude_seen, recipe.data.targets)
        if key not in self._excluded:
            seen, _ = seen_items(key[0], self.data.train, self.data.valid, recipe.data.targets)
            self._excluded[key] = seen != "kept"
        return self._excluded[key]


def _refusal(check: Callable[[], None]) -> str:
    """Return the message of the InputError that a check raises; empty if it raises none."""
    try:
        check()
    except InputError as error:
        return str(error)
    return ""


def _check(row: PlannedRow, queue: RunQueue, facts: _Facts) -> RowCheck:
    runs = plan_of([row]).runs
    plan = plan_of([row])
    finished = [read.result for run in runs if (read := queue.result(run)) is not None]
    measured = [result.peak_memory_bytes for result in finished if result.peak_memory_bytes]
    needed = max(measured, default=0) or max(estimate_memory(run.recipe, facts.sizes) for run in runs)
    seconds = seconds_left(plan, queue, 1, {})
    seconds = guess_seconds(plan, queue, 1) if seconds is None else seconds
    made = RowCheck(row.label, row.model, len(runs) + row.later, len(finished), seconds, needed)
    for run in runs:
        if queue.result(run) is not None:
            continue
        if reason := facts.lacks(run.recipe):
            return made._replace(reason=reason, refused=True)
        recipe = run.recipe
        checks = (
            facts.wrong_settings(run),
            facts.wrong_window(recipe),
            facts.wrong_encoder(recipe),
            facts.wrong_device(recipe),
            facts.wrong_start(recipe),
        )
        if reason := next(filter(None, (*checks, facts.wrong_memory(recipe, needed))), ""):
            return made._replace(reason=reason)
    return made

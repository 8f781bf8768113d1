"""All studies, and the function that runs one and writes its report.

A study plans its rows again whenever results arrive. A study that was stopped therefore resumes when it is
started again, and several processes can work on the same study.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from alterrec.data.dataset import Dataset
from alterrec.data.readers import DataSource
from alterrec.errors import InputError, nearest, number_of
from alterrec.files import file_name, write_json
from alterrec.models.reads import check_settings
from alterrec.progress import Event, Listener, ignore
from alterrec.recipe import plain_number, resolve
from alterrec.record_json import to_json
from alterrec.report.live import Progress, listener
from alterrec.report.plain import plain
from alterrec.report.presentation import Presentation, Report
from alterrec.report.tables import Table, listed
from alterrec.results import SCHEMA, DataSummary
from alterrec.studies import ablation, alternation, dataset, fusion, imbalance, longtail, sweep, table1
from alterrec.studies.estimates import DataSizes
from alterrec.studies.joint import joint_presentation
from alterrec.studies.plan import ALL_SYSTEMS, PlannedRow, Study, StudyOptions, check_name, plan_of
from alterrec.studies.preflight import Preflight, check_quick, check_rows, record_refusals, table_of
from alterrec.studies.queue import Failure, RunQueue, Work, run_plan
from alterrec.studies.study_result import study_result
from alterrec.study_records import JointStudy, read_studies

# The data of a study: one data set, several by path, or several by name.
StudyData = str | Path | Sequence[str | Path] | Mapping[str, str | Path] | None

STUDIES: dict[str, Study] = {
    module.STUDY.name: module.STUDY
    for module in (table1, ablation, fusion, imbalance, alternation, longtail, dataset, sweep)
}


@dataclass(frozen=True, repr=False)
class StudyReport(Report):
    """The outcome of a study. It prints as tables, draws its figures and displays itself in a notebook.

    Attributes:
        name: name of the study.
        path: its folder.
        failed: runs that failed and why, without refused ones, which are N/A in tables.
        stopped: whether Ctrl-C stopped it.
        shown: its report; None if no run has finished.
    """

    name: str
    path: Path
    failed: dict[str, Failure] = field(default_factory=dict)
    stopped: bool = False
    shown: Presentation | None = None

    def brief(self) -> str:
        failed = f", {len(self.failed)} failed" if self.failed else ""
        return f"study {self.name}{failed}, {str(self.path)!r}"

    def presentation(self) -> Presentation:
        """Return the report.

        Raises:
            InputError: no run has finished yet.
        """
        if self.shown is None:
            raise InputError(f"no run of {self.name} has finished yet; start the study again to resume it")
        return self.shown

    def first_tables(self) -> list[Table]:
        """Return the tables of the first section that has any; none if no run has finished."""
        sections = self.shown.sections if self.shown is not None else ()
        tables = next((section.tables for section in sections if section.tables and not section.folded), {})
        return [data.table for data in tables.values()]


@dataclass(frozen=True)
class StudyPart:
    """One data set of a study: its runs, and what was found before the first of them.

    Attributes:
        name: name of the data in the report.
        options: the options of the study, with what ``quick`` adapted to the data.
    """

    name: str
    data: Dataset
    options: StudyOptions
    queue: RunQueue
    check: Preflight


@dataclass(frozen=True)
class PlannedStudy:
    """A study whose data are read and whose rows are checked; nothing is written yet.

    Attributes:
        study: its definition.
        options: its options.
        path: its folder.
        parts: its data sets.
    """

    study: Study
    options: StudyOptions
    path: Path
    parts: Sequence[StudyPart]

    def table(self) -> Table:
        """Return what each row needs, and what is in the way."""
        return table_of([part.check for part in self.parts])

    @property
    def stopping(self) -> list[str]:
        """The systems of the rows that stop the study."""
        return list(dict.fromkeys(row.model for part in self.parts for row in part.check.obstacles))

    def require(self) -> None:
        """Raise InputError if a row cannot run, with each such row and how to go on."""
        reasons: dict[str, list[str]] = {}
        several = len(self.parts) > 1
        for part in self.parts:
            for row in part.check.obstacles:
                label = f"{row.label} on {part.name}" if several else row.label
                reasons.setdefault(row.reason, []).append(label)
        rows = [row for part in self.parts for row in part.check.rows]
        if not reasons:
            if rows and not any(part.check.runnable for part in self.parts):
                raise InputError(rows[0].reason)
            return
        number = sum(map(len, reasons.values()))
        found = "; ".join(f"{', '.join(labels)}: {reason}" for reason, labels in reasons.items())
        skipped = " ".join(f"--skip {model}" for model in self.stopping)
        raise InputError(
            f"{number} of {len(rows)} rows cannot run: {found}. Change the settings, or leave "
            f"{'it' if number == 1 else 'them'} out with {skipped}"
        )


def run_study(
    name: str,
    data: StudyData = None,
    options: StudyOptions | None = None,
    *,
    progress: Progress | Sequence[Progress] = "notebook",
    **changes: Any,
) -> StudyReport:
    """Carry out the missing runs of a study and write its report.

    ``alterrec.run_study`` is this function.

    Args:
        name: name of the study, one of ``alterrec list studies``.
        data: path of the data (see docs/data.md). Several paths, or a mapping of names to paths, are the
            column groups of one table. Default: the built-in catalogue.
        options: the options of the study. Default: those of :class:`~alterrec.studies.plan.StudyOptions`.
        progress: as for :func:`alterrec.fit`.
        changes: fields of :class:`~alterrec.studies.plan.StudyOptions` that replace those of ``options``,
            such as ``seeds=5``; None leaves a field unchanged.

    Raises:
        InputError: an option or the data is wrong, or a row cannot run; nothing has been started then.
    """
    listen = listener(progress)
    planned = plan_study(name, data, options, listen=listen, **changes)
    planned.require()
    if planned.table().rows:
        listen(Event("notice", plain(planned.table())))
    return carry_out(planned, listen)


def plan_study(
    name: str,
    data: StudyData = None,
    options: StudyOptions | None = None,
    *,
    listen: Listener = ignore,
    **changes: Any,
) -> PlannedStudy:
    """Read the data of a study and check all of its rows, as :func:`run_study` does before the first run."""
    study = find_study(name)
    given = {key: value for key, value in changes.items() if value is not None}
    asked = replace(options or StudyOptions(), **given)
    options = complete_options(study, asked)
    models = options.only or ALL_SYSTEMS
    # A setting of a system that is left out is no mistake.
    check_settings((*models, *options.skip), options.presets, options.settings)
    paths = _paths(data)
    if len(paths) > 1 and study.joint is None:
        others = ", ".join(each.name for each in STUDIES.values() if each.joint is not None)
        raise InputError(f"study {name} takes one --data; several are for {others}")
    recipe = resolve(models[0], options.presets, options.fixed)
    sources = [
        DataSource(path, options.columns, options.drop_unknown, options.format, locale)
        for (_, path), locale in zip(paths, _locales(options, len(paths)), strict=True)
    ]
    read = [source.read(recipe, lambda line: listen(Event("notice", line))) for source in sources]
    names = [given or data.name for (given, _), data in zip(paths, read, strict=True)]
    twice = next((name for name in names if names.count(name) > 1), None)
    if twice is not None:
        raise InputError(f"two data sets are called {twice!r}; name them, as in --data first={paths[0][1]}")
    suffix = "-quick" if options.quick else ""
    path = Path(options.out or Path("studies") / f"{name}-{'+'.join(map(file_name, names))}{suffix}")
    folder = Path(options.runs or path.parent / "study-runs")
    parts = [
        _plan_part(study, options, asked.only, part, folder, source, own, several=len(paths) > 1)
        for part, source, own in zip(names, sources, read, strict=True)
    ]
    return PlannedStudy(study, options, path, parts)


def _plan_part(
    study: Study,
    options: StudyOptions,
    named: Sequence[str],
    name: str,
    runs: Path,
    source: DataSource,
    data: Dataset,
    *,
    several: bool,
) -> StudyPart:
    """Plan and check the rows of a study on one data set; ``named`` are the systems that the user named."""
    if options.quick:
        recipes = [resolve(model, options.presets, options.fixed) for model in options.only]
        options = replace(options, adapted=check_quick(recipes, options.settings, data))
    queue = RunQueue(
        *(runs, source, data.fingerprint, options.presets, options.fixed, DataSizes.of(data)),
        prefix=f"{name}: " if several else "",
        processes=options.processes,
    )
    rows = study.plan(options, queue)
    check = replace(check_rows(rows, queue, data, named, options.jobs), data=name)
    record_refusals(rows, queue, check)
    return StudyPart(name, data, options, queue, check)


def carry_out(planned: PlannedStudy, listen: Listener = ignore) -> StudyReport:
    """Carry out the missing runs of a planned study and write its report."""
    study, options, path, parts = planned.study, planned.options, planned.path, planned.parts

    def rows_of(part: StudyPart) -> list[PlannedRow]:
        return study.plan(part.options, part.queue)

    rows = [row for part in parts for row in part.check.rows]
    names = listed([part.name for part in parts])
    listen(Event("notice", f"{study.name} on {names}: {len(rows) or 'no'} rows, in {path}"))
    for part in parts:
        if part.options.adapted:
            made = ", ".join(f"{key} = {value}" for key, value in part.options.adapted.items())
            listen(Event("notice", f"{part.name}: --quick sets {made}, as those of the presets do not fit"))
    if options.jobs > 1 and not options.fixed.get("run.threads"):
        advice = "use all cores each; --set run.threads=1 gives each one core"
        listen(Event("notice", f"{options.jobs} runs at a time {advice}"))
    stopped = False
    try:
        if rows:
            work = [Work(lambda part=part: plan_of(rows_of(part)), part.queue) for part in parts]  # type: ignore[misc]
            run_plan(work, jobs=options.jobs, listen=listen)
    except KeyboardInterrupt:
        stopped = True
    last = {part.name: rows_of(part) for part in parts}
    finished = {
        part.name
        for part in parts
        if any(part.queue.result(run) is not None for run in plan_of(last[part.name]).runs)
    }
    failures = [failure for part in parts for failure in part.queue.failures.values()]
    if failures and not stopped and not finished and all(failure.refused for failure in failures):
        raise InputError(failures[0].reason)
    failed = {
        run.label: failure
        for part in parts
        for run, failure in part.queue.failures.items()
        if not failure.refused
    }
    if rows and not finished:
        return StudyReport(study.name, path, failed, stopped)
    results = []
    for part in parts:
        summary = None if part.name in finished else DataSummary.of(part.data)
        result = study_result(study, part.options, last[part.name], part.queue, summary)
        result = replace(result, data=replace(result.data, name=part.name))
        results.append(study.extend(result, part.queue, part.data))
    record = results[0] if len(results) == 1 else JointStudy(SCHEMA, study.name, options.command, results)
    write_json(path / "study.json", to_json(record))
    shown = load_study(path).presentation()
    shown.write(path)
    return StudyReport(study.name, path, failed, stopped, shown)


def _paths(data: StudyData) -> list[tuple[str, str | Path | None]]:
    """Return the name, empty if none is given, and the path of each data set."""
    if isinstance(data, Mapping):
        found: list[tuple[str, str | Path | None]] = list(data.items())
    elif data is None or isinstance(data, str | Path):
        found = [("", data or None)]
    else:
        found = [("", path) for path in data]
    if not found:
        raise InputError("no data is given; give a path, or several")
    return found


def _locales(options: StudyOptions, count: int) -> list[str | None]:
    """Return the locale of each of ``count`` data sets."""
    given = [options.locale] if options.locale is None or isinstance(options.locale, str) else options.locale
    if len(given) == 1:
        return [*given] * count
    if len(given) != count:
        raise InputError(
            f"--locale is given {len(given)} times for {number_of(count, 'data set')}; give it "
            "once for all, or once for each in the order of --data ('' where there is none)"
        )
    return [locale or None for locale in given]


def load_study(path: str | Path) -> StudyReport:
    """Read a study from the ``study.json`` in its folder; ``alterrec.load_study`` is this function.

    Args:
        path: path of the folder of a study, which has a ``study.json``.

    Returns:
        The report: it prints as tables, displays itself in a notebook, and is saved as a page.

    Raises:
        InputError: the file is missing or damaged.

    Example:
        >>> load_study("no-such-folder")
        Traceback (most recent call last):
            ...
        alterrec.errors.InputError: no study.json in 'no-such-folder'; give the folder of a finished run
    """
    results = read_studies(Path(path))
    study = find_study(results[0].study)
    shown = study.report(results[0]) if len(results) == 1 else joint_presentation(study, results)
    return StudyReport(study.name, Path(path), shown=shown)


def find_study(name: str) -> Study:
    """Return the study of a name; InputError with the nearest name if there is none."""
    if name not in STUDIES:
        known = ", ".join(STUDIES)
        raise InputError(f"study {name!r} is unknown; choose one of {known}{nearest(name, STUDIES)}")
    return STUDIES[name]


def complete_options(study: Study, options: StudyOptions) -> StudyOptions:
    """Check the options of a study and fill in the systems, the metric and what the study itself fills in.

    Raises:
        InputError: an option is out of range, or the study does not have it.
    """
    for name in ("over", "metric", "reference"):
        if getattr(options, name) and name not in study.accepts:
            others = ", ".join(each.name for each in STUDIES.values() if name in each.accepts)
            raise InputError(f"study {study.name} has no option --{name}; leave it out or choose {others}")
    for name in ("jobs", "processes"):
        if (number := getattr(options, name)) < 1:
            raise InputError(f"--{name} is {number}; use 1 or more")
    if options.seeds is not None and options.seeds < 1:
        raise InputError(f"--seeds is {options.seeds}; use 1 or more")
    if "run.seed" in options.settings:
        raise InputError("--set run.seed is for a single run; use --seeds N, which trains seeds 0 to N - 1")
    systems = tuple(dict.fromkeys((*study.systems, *study.choices)))
    if not systems and (options.only or options.seeds or options.search):
        raise InputError(f"study {study.name} trains nothing; leave out --only, --seeds and --search")
    for option, names in (("--only", options.only), ("--skip", options.skip)):
        for model in names:
            check_name(option, model, systems)
    settings = {key: plain_number(value) for key, value in options.settings.items()}
    options = study.complete(replace(options, settings=settings))
    only = options.only or study.systems
    kept = tuple(model for model in systems if model in only and model not in options.skip)
    if only and not kept:
        raise InputError(f"--skip leaves no system; the systems are {', '.join(only)}")
    options = replace(options, only=kept)
    if options.metric:
        recipe = resolve(options.only[0], options.presets, options.fixed)
        check_name("--metric", options.metric, recipe.metrics)
    return replace(options, metric=options.metric or "ndcg@20")

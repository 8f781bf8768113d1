"""All studies, and the function that runs one and writes its report.

A study plans its rows again whenever results arrive. A study that was stopped therefore resumes when it is
started again, and several processes can work on the same study.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from alterrec.data.readers import DataSource
from alterrec.errors import InputError, nearest
from alterrec.files import file_name, write_json
from alterrec.models.reads import check_settings
from alterrec.progress import Event, Listener, ignore
from alterrec.recipe import resolve
from alterrec.record_json import to_json
from alterrec.report.presentation import Presentation, Report
from alterrec.results import DataSummary
from alterrec.studies import ablation, alternation, dataset, fusion, imbalance, longtail, sweep, table1
from alterrec.studies.estimates import DataSizes
from alterrec.studies.plan import ALL_SYSTEMS, Study, StudyOptions, check_name, plan_of
from alterrec.studies.queue import Failure, RunQueue, run_plan
from alterrec.studies.study_result import study_result
from alterrec.study_records import read_study

STUDIES: dict[str, Study] = {
    module.STUDY.name: module.STUDY
    for module in (table1, ablation, fusion, imbalance, alternation, longtail, dataset, sweep)
}


@dataclass(frozen=True)
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

    def presentation(self) -> Presentation:
        """Return the report.

        Raises:
            InputError: no run has finished yet.
        """
        if self.shown is None:
            raise InputError(f"no run of {self.name} has finished yet; start the study again to resume it")
        return self.shown


def run_study(
    name: str,
    data: str | Path | None = None,
    options: StudyOptions | None = None,
    *,
    listen: Listener = ignore,
    **changes: Any,
) -> StudyReport:
    """Carry out the missing runs of a study and write its report.

    ``alterrec.run_study`` is this function.

    Args:
        name: name of the study, a key of ``STUDIES``.
        data: path of the data (see docs/data.md), or None for the built-in catalogue.
        options: the options; default ``StudyOptions()``.
        listen: called with progress events.
        changes: fields of :class:`~alterrec.studies.plan.StudyOptions` that replace those of ``options``,
            such as ``seeds=5``; None leaves a field unchanged.

    Raises:
        InputError: an option or the data is wrong, or every system refused the data.
    """
    study = find_study(name)
    given = {key: value for key, value in changes.items() if value is not None}
    options = complete_options(study, replace(options or StudyOptions(), **given))
    models = options.only or ALL_SYSTEMS
    check_settings(models, options.presets, options.settings)
    recipe = resolve(models[0], options.presets, options.fixed)
    source = DataSource(data or None, options.columns, options.drop_unknown, options.format, options.locale)
    read = source.read(recipe, lambda line: listen(Event("notice", line)))
    suffix = "-quick" if options.quick else ""
    path = Path(options.out or Path("studies") / f"{name}-{file_name(read.name)}{suffix}")
    folder = Path(options.runs or path.parent / "study-runs")
    queue = RunQueue(folder, source, read.fingerprint, options.presets, options.fixed, DataSizes.of(read))
    rows = study.plan(options, queue)
    listen(Event("notice", f"{name} on {read.name}: {len(rows) or 'no'} rows, in {path}"))
    if options.jobs > 1 and not recipe.run.threads:
        advice = "use all cores each; --set run.threads=1 gives each one core"
        listen(Event("notice", f"{options.jobs} runs at a time {advice}"))
    stopped = False
    try:
        if rows:
            run_plan(lambda: plan_of(study.plan(options, queue)), queue, jobs=options.jobs, listen=listen)
    except KeyboardInterrupt:
        stopped = True
    rows = study.plan(options, queue)
    finished = any(queue.result(run) is not None for run in plan_of(rows).runs)
    failures = list(queue.failures.values())
    if failures and not finished and all(failure.refused for failure in failures):
        raise InputError(failures[0].reason)
    failed = {run.label: failure for run, failure in queue.failures.items() if not failure.refused}
    if rows and not finished:
        return StudyReport(name, path, failed, stopped)
    result = study_result(study, options, rows, queue, None if rows else DataSummary.of(read))
    write_json(path / "study.json", to_json(study.extend(result, queue, read)))
    shown = load_study(path).presentation()
    shown.write(path)
    return StudyReport(name, path, failed, stopped, shown)


def load_study(path: str | Path) -> StudyReport:
    """Read a study from the ``study.json`` in its folder; ``alterrec.load_study`` is this function.

    Raises:
        InputError: the file is missing or damaged.

    Example:
        >>> load_study("no-such-folder")
        Traceback (most recent call last):
            ...
        alterrec.errors.InputError: no study.json in 'no-such-folder'; give the folder of a finished run
    """
    result = read_study(Path(path))
    return StudyReport(result.study, Path(path), shown=find_study(result.study).report(result))


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
    if options.jobs < 1:
        raise InputError(f"--jobs is {options.jobs}; use 1 or more")
    if options.seeds is not None and options.seeds < 1:
        raise InputError(f"--seeds is {options.seeds}; use 1 or more")
    if "run.seed" in options.settings:
        raise InputError("--set run.seed is for a single run; use --seeds N, which trains seeds 0 to N - 1")
    systems = tuple(dict.fromkeys((*study.systems, *study.choices)))
    if not systems and (options.only or options.seeds or options.search):
        raise InputError(f"study {study.name} trains nothing; leave out --only, --seeds and --search")
    for model in options.only:
        check_name("--only", model, systems)
    options = study.complete(options)
    only = options.only or study.systems
    options = replace(options, only=tuple(model for model in systems if model in only))
    if options.metric:
        recipe = resolve(options.only[0], options.presets, options.fixed)
        check_name("--metric", options.metric, recipe.metrics)
    return replace(options, metric=options.metric or "ndcg@20")

"""What every study says of itself: how it was run, and what to keep in mind before believing it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from alterrec.evaluation.comparisons import Comparison
from alterrec.metrics import metric_name
from alterrec.report.comparisons import interval
from alterrec.report.presentation import DataTable, Presentation, Section
from alterrec.report.tables import Table, count, listed
from alterrec.results import StudyResult
from alterrec.studies.tables import cost_data, row_comparison_table, search_table

COMPARED = (
    "Differences are in percentage points. p is two-sided, from a paired permutation test on per-session "
    "values (means over seeds); Holm adjusts it over the comparisons of a row. Intervals are paired "
    "bootstraps over sessions and each stands for itself, so that one may leave zero out where p after Holm "
    "shows nothing. Both say how far other sessions would move the difference, not other seeds."
)
COST_SAYS = (
    "Learning rate and dropout as chosen on validation or given; seconds of training in an epoch and of a "
    "whole run, means over seeds; the most memory a process held, Python and torch included."
)

IN_ALL = {
    "above": "Yes: above in every metric",
    "below": "No: below in every metric",
    "not shown": "Not shown in any metric",
}


def shown(
    study: StudyResult,
    title: str,
    findings: Sequence[str],
    sections: Sequence[Section],
    own_caveats: Sequence[str] = (),
) -> Presentation:
    """What a study of runs shows: its own findings, doubts and parts, among what all of them say."""
    return Presentation(
        name=study.study,
        title=title,
        meta=meta(study),
        findings=findings,
        caveats=[*caveats(study), *own_caveats],
        sections=[*sections, *how_it_was_run(study)],
        command=study.command,
    )


def caveats(study: StudyResult) -> list[str]:
    """What to keep in mind before believing the study."""
    return [*_coarse(study), *_unfinished(study), *_unequal(study), *_warned(study)]


def _coarse(study: StudyResult) -> Iterator[str]:
    if study.quick:
        settings = ", ".join(f"{key} = {value}" for key, value in study.quick.items())
        yield (
            f"A coarse answer (--quick): {settings}, nothing searched. Systems that need longer training "
            "look weaker here than they are; run the study without --quick before you draw conclusions."
        )
    if study.seeds == 1:
        yield "One seed: how far another seed would move the numbers is not shown."


def _unfinished(study: StudyResult) -> Iterator[str]:
    if not study.complete:
        yield "Not all runs are finished; the same command goes on, and this page is written again."
    for failed in study.failures:
        yield f"A run failed: {failed.run}: {failed.reason}."
    short = [row.label for row in study.rows if row.trains and 0 < len(row.runs) < study.seeds]
    if short:
        yield f"Fewer than {study.seeds} seeds: {', '.join(short)}."


def _unequal(study: StudyResult) -> Iterator[str]:
    rules = {(run.exclude_seen, run.targets) for row in study.rows for run in row.runs}
    if len(rules) > 1:
        yield (
            "Systems were ranked by different rules (items already in the session, or targets), so the rows "
            "do not compare."
        )


def held(study: StudyResult, model: str, rival: str = "", group: str = "") -> list[Comparison]:
    """Comparisons of a row, with one rival or with all; on all targets or on those of a group."""
    return [
        each
        for each in study.comparisons
        if each.system == model and rival in ("", each.baseline) and each.group == group
    ]


def answer(own: Sequence[Comparison]) -> str:
    """Whether a row is above its rival, and in which metrics.

    Example:
        >>> up = Comparison("alterrec", "hits@20", "sasrec", 0.01, 0.0, 0.02, 0.01, 0.04)
        >>> answer([up])
        'Yes: above in Hits@20'
    """
    if len(own) > 2 and len({each.verdict for each in own}) == 1:
        return IN_ALL[own[0].verdict]
    places = {
        verdict: listed([metric_name(each.metric) for each in own if each.verdict == verdict])
        for verdict in ("above", "below", "not shown")
    }
    if not places["above"] and not places["below"]:
        return f"Not shown in {places['not shown']}"
    lead = "No" if not places["above"] else "In part" if places["below"] or places["not shown"] else "Yes"
    return f"{lead}: {'; '.join(f'{verdict} in {names}' for verdict, names in places.items() if names)}"


def differences(own: Sequence[Comparison]) -> str:
    """Differences in percentage points with their 95 % intervals."""
    return ", ".join(f"{metric_name(each.metric)} {100 * each.mean:+.2f} {interval(each)}" for each in own)


def _warned(study: StudyResult) -> Iterator[str]:
    """What runs warned of: mostly that hard negatives brought validation below where they found it."""
    warned = [(row, [run for run in row.runs if run.warnings]) for row in study.rows]
    warned = [(row, runs) for row, runs in warned if runs]
    if warned:
        rows = "; ".join(
            f"{row.label} {len(runs)} of {len(row.runs)}, kept epochs "
            f"{listed([str(run.best_epoch) for run in row.runs])} of {row.runs[0].epochs}"
            for row, runs in warned
        )
        yield f"Runs that warn: {rows}. The first of them: {warned[0][1][0].warnings[0]}."


def protocol(study: StudyResult) -> str:
    """How every number came about."""
    data = study.data
    targets = {"last": "the last item of each session", "every": "every item of each session"}
    seen = f"Items already in the session are {'not ' if data.exclude_seen else ''}candidates"
    chosen = f"Epochs{' and settings' if study.grid else ''} were chosen by validation"
    return (
        f"{count(study.test_targets)} test targets ({targets.get(data.targets, data.targets)}), each ranked "
        f"among all {count(data.items)} items. {seen} (rule: {data.seen_rule}), for all systems alike. "
        f"{chosen} {metric_name(study.metric)} alone; test was measured once for each run that is shown."
    )


def meta(study: StudyResult) -> str:
    """What was run, in a line."""
    data = study.data
    sessions = " / ".join(
        count(number) for number in (data.train_sessions, data.valid_sessions, data.test_sessions)
    )
    searched = " x ".join(f"{key} {{{', '.join(map(str, values))}}}" for key, values in study.grid.items())
    facts = [
        f"{count(data.items)} items, {sessions} sessions (train / validation / test)",
        f"preset {', '.join(study.presets)}",
        ", ".join(f"{key} = {value}" for key, value in study.settings.items()),
        f"{study.seeds} seed{'s' if study.seeds > 1 else ''}",
        f"searched: {searched}" if searched else "",
    ]
    return " · ".join(fact for fact in facts if fact)


def compared(study: StudyResult, title: str, says: str = "") -> list[Section]:
    """The section of paired tests, where there are any."""
    if not study.comparisons:
        return []
    table = row_comparison_table(study.comparisons)
    return [
        Section(title, [part for part in (says, COMPARED) if part], tables={"comparisons": DataTable(table)})
    ]


def how_it_was_run(study: StudyResult) -> list[Section]:
    """What was chosen and what it took, the search, the protocol and the versions."""
    parts = [Section("What was chosen, and what it took", [COST_SAYS], tables={"cost": cost_data(study)})]
    searched = search_table(study)
    if searched.rows:
        title = f"The search: {len(searched.rows)} settings by validation {metric_name(study.metric)}"
        parts.append(Section(title, tables={"search": DataTable(searched)}, folded=True))
    versions = DataTable(Table(("software", "version"), tuple(study.versions.items()), prose=True))
    parts.append(Section("How it was run", [protocol(study)], tables={"versions": versions}))
    return parts

"""What the reports of all studies have in common: caveats, comparisons, costs, protocol, and two figures."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

from alterrec.evaluation.comparisons import Comparison
from alterrec.metrics import metric_name
from alterrec.report.comparisons import forest_plot, interval
from alterrec.report.figures.bars import SystemBars, bars, system_panels
from alterrec.report.figures.lines import epoch_lines
from alterrec.report.presentation import DataTable, Plot, Presentation, Section
from alterrec.report.tables import Table, count, listed
from alterrec.report.training_curves import Member, loss, metric_of, panel
from alterrec.results import RowResult, StudyResult
from alterrec.studies.study_tables import cost_table, row_comparison_table, search_table

# The metrics of figures and of sentences that do not name all metrics.
SHOWN_METRICS = ("hits@20", "ndcg@20")

SEEDS_NOTE = (
    "Bars are test means. With several seeds, whiskers are one standard deviation and dots single seeds."
)
INTERVALS_NOTE = (
    "Points are differences in percentage points, lines their 95% intervals over sessions. Filled points are "
    "significant at the level 0.05 after Holm's correction, hollow points are not."
)
COMPARISONS_NOTE = (
    "Differences are in percentage points. p is from a two-sided paired permutation test on the metrics of "
    "each session, averaged over seeds. Holm's correction adjusts it for all comparisons of a system; the "
    "verdict is 'not shown' if the adjusted p is 0.05 or more. The intervals are paired bootstraps over "
    "sessions without such a correction, so an interval may exclude zero where the verdict is 'not shown'. "
    "Test and interval describe how the difference would vary with other sessions, not with other seeds."
)
COST_NOTE = (
    "Learning rate and dropout are as chosen on validation or as set by the user. Seconds of training per "
    "epoch and per run are means over seeds. Peak memory is that of the whole process, including Python and "
    "torch."
)
EVERY_METRIC = {
    "above": "Yes: above in every metric",
    "below": "No: below in every metric",
    "not shown": "No significant difference in any metric",
}


def study_report(
    study: StudyResult,
    title: str,
    findings: Sequence[str],
    sections: Sequence[Section],
    own_caveats: Sequence[str] = (),
) -> Presentation:
    """Return the report of a study of runs, with the caveats and sections that all of them have."""
    return Presentation(
        name=study.study,
        title=title,
        meta=meta(study),
        findings=findings,
        caveats=[*caveats(study), *own_caveats],
        sections=[*sections, *run_sections(study)],
        command=study.command,
    )


def caveats(study: StudyResult) -> list[str]:
    """Return what limits the conclusions of any study."""
    return [*_coarse(study), *_unfinished(study), *_different_rules(study), *_warnings(study)]


def _coarse(study: StudyResult) -> Iterator[str]:
    if study.quick:
        settings = ", ".join(f"{key} = {value}" for key, value in study.quick.items())
        yield (
            f"This is a coarse answer (--quick) with {settings} and no search. Systems that need longer "
            "training look worse than they are; run the study without --quick before you draw conclusions."
        )
    if study.seeds == 1:
        yield "There is one seed, so the variation between seeds is unknown."


def _unfinished(study: StudyResult) -> Iterator[str]:
    if not study.complete:
        yield "Some runs have not finished. Run the same command again to resume them and update this page."
    for failed in study.failures:
        yield f"A run failed: {failed.run}: {failed.reason}."
    short = [row.label for row in study.rows if row.trains and 0 < len(row.runs) < study.seeds]
    if short:
        yield f"These systems have fewer than {study.seeds} seeds: {', '.join(short)}."


def _different_rules(study: StudyResult) -> Iterator[str]:
    rules = {(run.exclude_seen, run.targets) for row in study.rows for run in row.runs}
    if len(rules) > 1:
        yield (
            "Systems were ranked by different rules (for targets, or for items already in the session), so "
            "their numbers cannot be compared."
        )


def _warnings(study: StudyResult) -> Iterator[str]:
    """Yield the warnings of runs; most often, hard negatives lowered validation below the warm-up."""
    warned = [(row, [run for run in row.runs if run.warnings]) for row in study.rows]
    warned = [(row, runs) for row, runs in warned if runs]
    if warned:
        rows = "; ".join(
            f"{row.label} in {len(runs)} of {len(row.runs)} runs (best epochs "
            f"{listed([str(run.best_epoch) for run in row.runs])} of {row.runs[0].epochs})"
            for row, runs in warned
        )
        yield f"Some runs have warnings: {rows}. The first warning is: {warned[0][1][0].warnings[0]}."


def comparisons_for(study: StudyResult, system: str, baseline: str = "", group: str = "") -> list[Comparison]:
    """Return the comparisons of a row with one baseline or with all, over all targets or those of a group."""
    return [
        each
        for each in study.comparisons
        if each.system == system and baseline in ("", each.baseline) and each.group == group
    ]


def answer(comparisons: Sequence[Comparison]) -> str:
    """Answer whether a system is better than its baseline, and in which metrics.

    Example:
        >>> answer([Comparison("alterrec", "hits@20", "sasrec", 0.01, 0.0, 0.02, 0.01, 0.04)])
        'Yes: above in Hits@20'
    """
    if len(comparisons) > 2 and len({each.verdict for each in comparisons}) == 1:
        return EVERY_METRIC[comparisons[0].verdict]
    metrics = {
        verdict: listed([metric_name(each.metric) for each in comparisons if each.verdict == verdict])
        for verdict in ("above", "below", "not shown")
    }
    if not metrics["above"] and not metrics["below"]:
        return f"No significant difference in {metrics['not shown']}"
    first = "No" if not metrics["above"] else "Partly" if metrics["below"] or metrics["not shown"] else "Yes"
    words = {"above": "above", "below": "below", "not shown": "no significant difference"}
    return f"{first}: {'; '.join(f'{words[each]} in {names}' for each, names in metrics.items() if names)}"


def differences(comparisons: Sequence[Comparison]) -> str:
    """Return the differences in percentage points with their 95 % intervals."""
    return ", ".join(
        f"{metric_name(each.metric)} {100 * each.mean:+.2f} {interval(each)}" for each in comparisons
    )


def protocol(study: StudyResult) -> str:
    """Describe how every number was measured."""
    data = study.data
    targets = {"last": "the last item of each session", "every": "every item of each session"}
    seen = f"Items already in the session are {'not ' if data.exclude_seen else ''}candidates"
    chosen = f"Epochs{' and settings' if study.grid else ''} were chosen by validation"
    return (
        f"{count(study.test_targets)} test targets ({targets.get(data.targets, data.targets)}), each ranked "
        f"among all {count(data.items)} items. {seen} (rule: {data.seen_rule}), for all systems. "
        f"{chosen} {metric_name(study.metric)} only; each run shown here was measured on test once."
    )


def meta(study: StudyResult) -> str:
    """Summarise the data and the settings in one line."""
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


def comparisons_section(study: StudyResult, title: str, note: str = "") -> list[Section]:
    """Return the section of paired tests; empty if there are none."""
    if not study.comparisons:
        return []
    table = DataTable(row_comparison_table(study.comparisons))
    return [
        Section(title, [text for text in (note, COMPARISONS_NOTE) if text], tables={"comparisons": table})
    ]


def run_sections(study: StudyResult) -> list[Section]:
    """Return the chosen settings and costs, the search, and the protocol with the software versions."""
    sections = [
        Section("Chosen settings and cost", [COST_NOTE], tables={"cost": DataTable(cost_table(study))})
    ]
    searched = search_table(study)
    if searched.rows:
        title = f"Search: {len(searched.rows)} settings by validation {metric_name(study.metric)}"
        sections.append(Section(title, tables={"search": DataTable(searched)}, folded=True))
    versions = DataTable(Table(("software", "version"), tuple(study.versions.items()), prose=True))
    sections.append(Section("Protocol and versions", [protocol(study)], tables={"versions": versions}))
    return sections


def systems_plot(rows: Sequence[RowResult], colour: Callable[[RowResult], str]) -> Plot:
    """Draw a bar for each row that has numbers, best first; ``colour`` returns a name of the palette."""
    systems = [
        SystemBars(
            row.label,
            {metric: row.values(metric) for metric in SHOWN_METRICS},
            colour(row),
            bold=row.kind == "ours",
        )
        for row in rows
        if row.runs
    ]
    return Plot.of(
        bars,
        system_panels(systems, SHOWN_METRICS, SHOWN_METRICS[1]),
        f"Test {' and '.join(map(metric_name, SHOWN_METRICS))} of {len(systems)} systems, best first.",
    )


def gains_section(
    title: str, notes: Sequence[str], gains: Sequence[tuple[str, str, Comparison]]
) -> list[Section]:
    """Return differences with their intervals as a section; empty if there are none.

    Args:
        title: heading.
        notes: paragraphs above the figure.
        gains: label, name of a colour and comparison for each line.
    """
    if not gains:
        return []
    panels = {
        metric_name(metric): [line for line in gains if line[2].metric == metric] for metric in SHOWN_METRICS
    }
    plot = forest_plot(panels, f"{title}: differences in {listed(list(panels))} with their intervals.")
    return [Section(title, [*notes, INTERVALS_NOTE], {"gains": plot})]


def curves_plot(name: str, members: Sequence[Member], metric: str, **options: Any) -> dict[str, Plot]:
    """Draw validation metric and training loss by epoch; empty if no run has finished."""
    panels = [
        *panel(f"{metric_name(metric)} on validation", members, metric_of(metric)),
        *panel("Training loss (nats)", members, loss, "nats"),
    ]
    if not panels:
        return {}
    labels = listed([member.label for member in members])
    caption = f"{metric_name(metric)} and training loss by epoch of {labels}."
    return {name: Plot.of(epoch_lines, panels, caption, **options)}

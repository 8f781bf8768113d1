"""What the reports of all studies share: tables, caveats, comparisons, costs, protocol and two figures."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Mapping, Sequence
from string import ascii_lowercase
from typing import Any

from alterrec.analyses.run_summary import EXCLUDED_AS_FOUND
from alterrec.comparable import counts_excluded_as_found
from alterrec.errors import number_of
from alterrec.evaluation.comparisons import Comparison
from alterrec.metrics import metric_name
from alterrec.report.comparisons import comparison_table, forest_plot, interval
from alterrec.report.figures.bars import WHISKERS, SystemBars, bars, system_panels
from alterrec.report.figures.lines import epoch_lines
from alterrec.report.presentation import DataTable, Plot, Presentation, Section
from alterrec.report.seen_items import seen_sentence
from alterrec.report.tables import Table, count, duration, listed, mean_and_spread, memory
from alterrec.report.training_curves import Member, loss, metric_of, panel
from alterrec.studies.own_items import own_items_section
from alterrec.study_records import RowResult, StudyResult

MARKS = {"above": "*", "below": "†", "not shown": ""}
# (label, metric) -> the mark after the number.
Marks = Mapping[tuple[str, str], str]


def ordered(study: StudyResult) -> list[RowResult]:
    """Sort rows by kind, then by NDCG@20; rows without numbers come last."""
    kinds = ("baseline", "ablation", "ours")
    return sorted(
        study.rows, key=lambda row: (kinds.index(row.kind), not row.runs, -(row.mean("ndcg@20") or 0.0))
    )


def marks(study: StudyResult) -> Marks:
    """Return the marks of rows that were compared with a baseline."""
    return {(each.system, each.metric): MARKS[each.verdict] for each in study.comparisons}


def baseline_marks(study: StudyResult) -> Marks:
    """Return the marks of baselines, from their point of view."""
    opposite = {"above": "below", "below": "above", "not shown": "not shown"}
    return {(each.baseline, each.metric): MARKS[opposite[each.verdict]] for each in study.comparisons}


def metric_data(
    study: StudyResult, marked: Marks | None = None, rows: Sequence[RowResult] | None = None
) -> DataTable:
    """Return the test metrics of every row in percent, mean ± standard deviation over seeds, and unrounded.

    Args:
        study: the study.
        marked: marks after the numbers.
        rows: rows in the order of the table; default :func:`ordered`.
    """
    rows = ordered(study) if rows is None else rows
    letters = _letters(rows)
    cells = []
    for row in rows:
        absent = "N/A" if row.refused else "failed" if row.reason else "-"
        numbers = (
            mean_and_spread(row.values(metric), 2, "") + (marked or {}).get((row.label, metric), "")
            if row.runs
            else absent
            for metric in study.metrics
        )
        note = f" ({letters[row.label]})" if row.label in letters else ""
        cells.append((row.label + note, *numbers))
    best, second = _first_and_second(rows, study.metrics)
    ours = [place for place, row in enumerate(rows) if row.kind != "baseline"]
    table = Table(
        ("system", *map(metric_name, study.metrics)),
        tuple(cells),
        best=best,
        second=second,
        rule_before=ours[0] if ours and ours[0] else None,
    )
    return DataTable(table, [_record(row, study.metrics) for row in rows])


def notes(study: StudyResult, against: str = "", rows: Sequence[RowResult] | None = None) -> list[str]:
    """Return the footnotes of the table of metrics: its marks, and why rows have no numbers.

    Args:
        study: the study.
        against: what marked rows are compared with, if there are marks.
        rows: as in :func:`metric_data`.
    """
    rows = ordered(study) if rows is None else rows
    lines = [
        "Values are in percent: mean ± standard deviation over seeds, if there are several. "
        "The best value of a column is bold, the second best underlined."
    ]
    if study.comparisons and against:
        lines.append(
            f"Marks: * significantly above, † significantly below {against}, by a paired permutation test "
            f"over {count(study.test_targets)} test targets (adjusted p at most 0.05, see below)."
        )
    reasons = {row.label: row.reason for row in rows}
    for label, letter in _letters(rows).items():
        lines.append(f"({letter}) {label}: {reasons[label] or 'not finished yet'}.")
    return lines


def _letters(rows: Sequence[RowResult]) -> dict[str, str]:
    """Return row -> letter of the footnote that explains why it has no numbers."""
    return dict(zip([row.label for row in rows if not row.runs], ascii_lowercase, strict=False))


def row_comparison_table(comparisons: Sequence[Comparison]) -> Table:
    """Return the differences of rows and their baselines, by group of targets if there are groups."""
    by_group = ["targets"] if any(each.group for each in comparisons) else []
    columns = ("metric", "against", "difference", "95% interval", "p (adjusted)", "verdict")
    return comparison_table(comparisons, ["system", *by_group, *columns])


def cost_table(study: StudyResult) -> Table:
    """Return the chosen settings of each row, and the time and memory of its runs."""
    rows = []
    for row in ordered(study):
        if row.runs:
            per_epoch = [run.seconds_per_epoch for run in row.runs if run.seconds_per_epoch is not None]
            sizes = [run.peak_memory_bytes for run in row.runs if run.peak_memory_bytes]
            rows.append(
                (
                    row.label,
                    *(f"{row.setting[key]:g}" if key in row.setting else "-" for key in ("lr", "dropout")),
                    str(len(row.runs)),
                    f"{statistics.fmean(run.epochs for run in row.runs):.0f}" if row.trains else "-",
                    f"{statistics.fmean(per_epoch):.2f} s" if per_epoch else "-",
                    duration(statistics.fmean(run.seconds for run in row.runs)),
                    memory(max(sizes)) if sizes else "-",
                    count(row.runs[0].parameters) if row.runs[0].parameters else "-",
                )
            )
    columns = ("dropout", "seeds", "epochs", "time per epoch", "time per run", "peak memory", "parameters")
    return Table(("system", "lr", *columns), tuple(rows))


def search_table(study: StudyResult) -> Table:
    """Return every setting that was tried with its validation score; the chosen ones are emphasised."""
    rows: list[tuple[str, ...]] = []
    chosen: set[int] = set()
    for row in ordered(study):
        for tried in row.tried if len(row.tried) > 1 else ():
            if tried.chosen:
                chosen.add(len(rows))
            setting = ", ".join(f"{key} {value}" for key, value in tried.setting.items())
            score = "-" if tried.validation is None else f"{100 * tried.validation:.2f}%"
            rows.append((row.label, setting, score))
    columns = ("system", "setting", f"validation {metric_name(study.metric)}")
    return Table(columns, tuple(rows), strong=frozenset(chosen))


def _record(row: RowResult, metrics: Sequence[str]) -> dict[str, Any]:
    line: dict[str, Any] = {"system": row.label, "model": row.model, "kind": row.kind, "seeds": len(row.runs)}
    for metric in metrics:
        values = row.values(metric)
        line[metric] = row.mean(metric)
        line[f"{metric}_sd"] = statistics.stdev(values) if len(values) > 1 else None
    runs = row.runs
    line |= {key: row.setting.get(key) for key in ("lr", "dropout")}
    for key in ("epochs", "seconds_per_epoch", "seconds"):
        known = [value for run in runs if (value := getattr(run, key)) is not None]
        line[key] = statistics.fmean(known) if known else None
    line |= {
        "peak_memory_bytes": max((run.peak_memory_bytes or 0 for run in runs), default=None),
        "parameters": runs[0].parameters if runs else None,
        "note": row.reason,
    }
    return line


def _first_and_second(
    rows: Sequence[RowResult], metrics: Sequence[str]
) -> tuple[frozenset[tuple[int, int]], frozenset[tuple[int, int]]]:
    """Return the cells (row, column) with the highest and the second highest mean of each metric."""
    found: tuple[set[tuple[int, int]], set[tuple[int, int]]] = set(), set()
    for column, metric in enumerate(metrics, start=1):
        # Rounded, because means that are equal in exact arithmetic differ in their last bits.
        means = {
            place: round(mean, 12) for place, row in enumerate(rows) if (mean := row.mean(metric)) is not None
        }
        levels = sorted(set(means.values()), reverse=True)[:2]
        for cells, level in zip(found, levels, strict=False):
            cells |= {(place, column) for place, mean in means.items() if mean == level}
    return frozenset(found[0]), frozenset(found[1])


# The metrics of figures and of sentences that do not name all metrics.
SHOWN_METRICS = ("hits@20", "ndcg@20")

SEEDS_NOTE = f"Bars are test means. {WHISKERS}"
INTERVALS_NOTE = (
    "Points are differences in percentage points; lines are their 95% intervals over sessions. Filled "
    "points are significant: their intervals exclude zero. Hollow points are not."
)
COMPARISONS_NOTE = (
    "Differences are in percentage points. p is from a two-sided paired permutation test on the metrics of "
    "each session, averaged over seeds, and adjusted for all comparisons of a system. The intervals are "
    "those of the same test and hold together with 95%: an interval excludes zero exactly if the verdict is "
    "above or below. Test and interval describe how the difference would vary with other sessions, not with "
    "other seeds."
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
    rows: Sequence[RowResult] | None = None,
) -> Presentation:
    """Return the report of a study of runs, with the caveats and sections that all of them have.

    ``rows`` are in the order of the main table, as in :func:`metric_data`.
    """
    return Presentation(
        name=study.study,
        title=title,
        meta=meta(study),
        findings=findings,
        caveats=[*caveats(study), *own_caveats],
        sections=[
            *sections,
            own_items_section(study, ordered(study) if rows is None else rows),
            *run_sections(study),
        ],
        command=study.command,
    )


def caveats(study: StudyResult) -> list[str]:
    """Return what limits the conclusions of any study."""
    lines = []
    if study.quick:
        settings = ", ".join(f"{key} = {value}" for key, value in study.quick.items())
        lines.append(
            f"This is a coarse answer (--quick) with {settings} and no search. Systems that need longer "
            "training look worse than they are; run the study without --quick before you draw conclusions."
        )
    if study.seeds == 1:
        lines.append("There is one seed, so the variation between seeds is unknown.")
    if not study.complete:
        lines.append(
            "Some runs have not finished. Run the same command again to resume them and update this page."
        )
    lines += [f"A run failed: {failed.run}: {failed.reason}." for failed in study.failures]
    short = [row.label for row in study.rows if row.trains and 0 < len(row.runs) < study.seeds]
    if short:
        lines.append(f"These systems have fewer than {study.seeds} seeds: {', '.join(short)}.")
    if len({(run.seen, run.targets) for row in study.rows for run in row.runs}) > 1:
        lines.append(
            "Systems were ranked by different rules (for targets, or for items already in the session), so "
            "their numbers cannot be compared."
        )
    if counts_excluded_as_found(study):
        lines.append(EXCLUDED_AS_FOUND.format("The study was"))
    # Most often, hard negatives lowered validation below the warm-up.
    warned = {row.label: runs for row in study.rows if (runs := [run for run in row.runs if run.warnings])}
    if warned:
        rows = "; ".join(
            f"{row.label} in {len(warned[row.label])} of {len(row.runs)} runs (best epochs "
            f"{listed([str(run.best_epoch) for run in row.runs])} of {row.runs[0].epochs})"
            for row in study.rows
            if row.label in warned
        )
        first = next(iter(warned.values()))[0].warnings[0]
        lines.append(f"Some runs have warnings: {rows}. The first warning is: {first}.")
    return lines


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
    words = {"above": "above", "below": "below", "not shown": "no significant difference"}
    metrics = {
        verdict: [metric_name(each.metric) for each in comparisons if each.verdict == verdict]
        for verdict in words
    }
    first = "No" if not metrics["above"] else "Partly" if metrics["below"] or metrics["not shown"] else "Yes"
    if not metrics["above"] and not metrics["below"]:
        return f"No significant difference in {listed(metrics['not shown'])}"
    parts = [f"{words[each]} in {listed(names)}" for each, names in metrics.items() if names]
    return f"{first}: {'; '.join(parts)}"


def differences(comparisons: Sequence[Comparison]) -> str:
    """Return the differences in percentage points with their 95 % intervals."""
    return ", ".join(
        f"{metric_name(each.metric)} {100 * each.mean:+.2f} {interval(each)}" for each in comparisons
    )


def protocol(study: StudyResult) -> str:
    """Describe how every number was measured."""
    data = study.data
    targets = {"last": "the last item of each session", "every": "every item of each session"}
    chosen = f"Epochs{' and settings' if study.grid else ''} were chosen by validation"
    return (
        f"{count(study.test_targets)} test targets ({targets.get(data.targets, data.targets)}), each ranked "
        f"among all {count(data.items)} items. {seen_sentence(data)} This holds for all systems. "
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
        number_of(study.seeds, "seed"),
        f"searched: {searched}" if searched else "",
    ]
    return " · ".join(fact for fact in facts if fact)


def comparisons_section(study: StudyResult, title: str, note: str = "") -> list[Section]:
    """Return the section of paired tests; empty if there are none."""
    if not study.comparisons:
        return []
    table = DataTable(row_comparison_table(study.comparisons))
    notes = [note, COMPARISONS_NOTE] if note else [COMPARISONS_NOTE]
    return [Section(title, notes, tables={"comparisons": table})]


def run_sections(study: StudyResult) -> list[Section]:
    """Return the chosen settings and costs, the search, and the protocol with the software versions."""
    costs = DataTable(cost_table(study))
    sections = [Section("Chosen settings and cost", [COST_NOTE], tables={"cost": costs})]
    searched = search_table(study)
    if searched.rows:
        title = f"Search: {len(searched.rows)} settings by validation {metric_name(study.metric)}"
        sections.append(Section(title, tables={"search": DataTable(searched)}, folded=True))
    versions = DataTable(Table(("software", "version"), tuple(study.versions.items()), prose=True))
    sections.append(Section("Protocol and versions", [protocol(study)], tables={"versions": versions}))
    return sections


def systems_plot(
    rows: Sequence[RowResult], colour: Callable[[RowResult], str], meanings: Mapping[str, str]
) -> Plot:
    """Draw a bar for each row that has numbers, best first in each metric.

    Args:
        rows: the rows.
        colour: returns the name of a row's colour in the palette.
        meanings: name of a colour -> what it means; the legend has those that are used.
    """
    systems = [
        SystemBars(
            row.label,
            {metric: row.values(metric) for metric in SHOWN_METRICS},
            colour(row),
            row.kind == "ours",
            row.runs[0].errors if len(row.runs) == 1 else {},
        )
        for row in rows
        if row.runs
    ]
    names = " and ".join(map(metric_name, SHOWN_METRICS))
    used = {system.colour for system in systems}
    legend = {meaning: name for name, meaning in meanings.items() if name in used}
    panels = system_panels(systems, SHOWN_METRICS)
    return Plot.of(bars, panels, f"Test {names} of {len(systems)} systems, best first.", legend)


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

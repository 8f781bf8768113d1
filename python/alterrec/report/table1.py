"""The study `table1` in words, as tables and as a page; all of it from `study.json`."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from alterrec.files import atomic_write, write_text
from alterrec.report.layout import document, drawn_table, figure, fold, list_box, note, section
from alterrec.report.markup import Html, element
from alterrec.report.rows import (
    comparison_table,
    cost_table,
    csv_text,
    interval,
    metric_rows,
    notes,
    ordered,
    search_table,
)
from alterrec.report.study import Study, read_study
from alterrec.report.tables import Table, count, latex, markdown, metric_name, tex

PICTURED = ("hits@20", "ndcg@20")


def write_table1(out: Path) -> list[str]:
    """Write `table1.md`, `.csv`, `.tex`, `report.html` and the picture beside `study.json`.

    Returns:
        The findings, one sentence an entry.

    Raises:
        InputError: `study.json` is missing or damaged, or the disk is full.
    """
    study = read_study(out)
    write_text(out / "table1.md", _markdown(study))
    write_text(out / "table1.tex", _latex(study))
    write_text(out / "table1.csv", csv_text(study))
    write_text(out / "report.html", _page(study, _picture(study, out)))
    return findings(study)


def findings(study: Study) -> list[str]:
    """Whether each row of ours is above all baselines, by the numbers; and the best row."""
    said = [_claim(study, row.model) for row in study.kinds("ours") if study.comparisons]
    best = max((row for row in study.rows if row.runs), key=lambda row: row.mean("ndcg@20") or 0.0)
    shown = f"{100 * (best.mean('ndcg@20') or 0.0):.2f}%"
    return [*said, f"The highest NDCG@20 is that of {best.model}, {shown}."]


def _claim(study: Study, model: str) -> str:
    own = [each for each in study.comparisons if each.model == model]
    number = len(study.kinds("baseline"))
    by_verdict = {
        verdict: [metric_name(each.metric) for each in own if each.verdict == verdict]
        for verdict in ("above", "below", "not shown")
    }
    above, below = by_verdict["above"], by_verdict["below"]
    lead = "Yes" if len(above) == len(own) else "In part" if above else "No" if below else "Not shown"
    where = "; ".join(f"{verdict} in {_listed(names)}" for verdict, names in by_verdict.items() if names)
    differences = "; ".join(
        f"{metric_name(each.metric)} {100 * each.mean:+.2f} {interval(each)} ({each.rival})" for each in own
    )
    asked = f"Is {model} above {f'all {number} baselines' if number > 1 else 'the one baseline'}?"
    return (
        f"{asked} {lead}: {where}. "
        f"Percentage points against the best of them in each metric, with 95% intervals: {differences}."
    )


def _listed(names: list[str]) -> str:
    return " and ".join([", ".join(names[:-1]), names[-1]] if len(names) > 1 else names)


def doubts(study: Study) -> list[str]:
    """What to keep in mind before believing the table."""
    return [*_coarse(study), *_unfinished(study), *_unequal(study)]


def _coarse(study: Study) -> Iterator[str]:
    if study.quick:
        settings = ", ".join(f"{key} = {value}" for key, value in study.quick.items())
        yield (
            f"A coarse answer (--quick): {settings}, nothing searched. Systems that need longer training "
            "look weaker here than they are; run the study without --quick before you draw conclusions."
        )
    if study.seeds == 1:
        yield "One seed: how far another seed would move the numbers is not shown."


def _unfinished(study: Study) -> Iterator[str]:
    if not study.complete:
        yield "Not all runs are finished; the same command goes on, and this page is written again."
    for failed in study.failures:
        yield f"A run failed: {failed.run}: {failed.reason}."
    short = [row.model for row in study.rows if row.trains and 0 < len(row.runs) < study.seeds]
    if short:
        yield f"Fewer than {study.seeds} seeds: {', '.join(short)}."


def _unequal(study: Study) -> Iterator[str]:
    rules = {(run.exclude_seen, run.targets) for row in study.rows for run in row.runs}
    if len(rules) > 1:
        yield (
            "Systems were ranked by different rules (items already in the session, or targets), so the rows "
            "do not compare."
        )


def protocol(study: Study) -> str:
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


def _markdown(study: Study) -> str:
    parts = [
        f"# {_title(study)}",
        *findings(study),
        *([_lines("Before you believe it:", doubts(study))] if doubts(study) else []),
        markdown(metric_rows(study)),
        "\n\n".join(notes(study)),
    ]
    if study.comparisons:
        parts += ["## Against the best baseline", markdown(comparison_table(study.comparisons)), COMPARED]
    parts += ["## What was chosen, and what it took", markdown(cost_table(study)), protocol(study)]
    parts += ["## To run it again", f"```sh\n{study.command}\n```"]
    return "\n\n".join(parts) + "\n"


def _lines(title: str, lines: list[str]) -> str:
    return "\n".join([title, "", *(f"- {line}" for line in lines)])


def _latex(study: Study) -> str:
    below = " ".join(notes(study))
    return (
        f"% {_title(study)}; needs \\usepackage{{booktabs}}\n"
        f"% {study.command}\n"
        f"{latex(metric_rows(study))}\n\n\\medskip\n{tex(below)}\n"
    )


COMPARED = (
    "Differences are in percentage points, ours less the best baseline by test mean, which favours the "
    "baselines. p is two-sided, from a paired permutation test on per-session values (means over seeds); "
    "Holm adjusts it over the metrics of a row. Intervals are paired bootstraps over sessions. Both say how "
    "far other sessions would move the difference, not other seeds."
)


def _title(study: Study) -> str:
    return f"Table 1 on {study.data.name}"


def _picture(study: Study, out: Path) -> Html:
    from alterrec.report import plots

    bars = [
        plots.Bar(
            row.model,
            {metric: row.values(metric) for metric in PICTURED},
            {"ours": "score", "ablation": "id"}.get(row.kind, "other" if row.trains else "baseline"),
            highlight=row.kind == "ours",
        )
        for row in ordered(study)
        if row.runs
    ]
    with atomic_write(out / "figures" / "systems.png") as temporary:
        temporary.write_bytes(plots.png(plots.systems(bars, PICTURED, PICTURED[1])))
    panels = [plots.systems(bars, [metric], PICTURED[1]) for metric in PICTURED]
    says = f"Bars of {' and '.join(map(metric_name, PICTURED))} on test for {len(bars)} systems, best first."
    return figure("systems", panels, says)


def _page(study: Study, picture: Html) -> str:
    metric = metric_rows(study)
    command = element("pre", study.command, class_="command")
    parts = [
        element("h1", _title(study)),
        element("p", _meta(study), class_="meta"),
        element("div", *(element("p", line) for line in findings(study)), class_="opening"),
        list_box("Before you believe it", doubts(study), "box doubts"),
        section("Every system", drawn_table(metric), *(note(line) for line in notes(study))),
        section("In pictures", note(PICTURE_SAYS), picture),
    ]
    if study.comparisons:
        compared = drawn_table(comparison_table(study.comparisons))
        parts.append(section("Against the best baseline", note(COMPARED), compared))
    searched = search_table(study)
    cost = section("What was chosen, and what it took", note(COST_SAYS), drawn_table(cost_table(study)))
    parts.append(cost)
    if searched.rows:
        title = f"The search: {len(searched.rows)} settings by validation {metric_name(study.metric)}"
        parts.append(fold(title, drawn_table(searched)))
    again = [note(protocol(study)), command]
    if study.versions:
        again.append(
            fold("Versions", drawn_table(Table(("software", "version"), tuple(study.versions.items()))))
        )
    parts.append(section("How it was run", *again))
    return document(_title(study), parts)


PICTURE_SAYS = (
    "Mean over seeds; where there are several, the whisker is one standard deviation and each dot a seed. "
    "Coloured: AlterRec's rows. Light grey: systems that train no network."
)
COST_SAYS = (
    "Learning rate and dropout as chosen on validation or given; seconds of training in an epoch and of a "
    "whole run, means over seeds; the most memory a process held, Python and torch included."
)


def _meta(study: Study) -> str:
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

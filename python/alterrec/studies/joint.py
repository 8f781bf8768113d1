"""Several data sets in one report: a table with a column group for each, then what each has alone."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from itertools import accumulate

from alterrec.files import file_name
from alterrec.report.presentation import DataTable, Presentation, Section
from alterrec.report.tables import Table, listed
from alterrec.studies.plan import Study
from alterrec.studies.study_report import Marks, metric_data, notes, ordered
from alterrec.study_records import RowResult, StudyResult


def joint_section(
    title: str,
    name: str,
    parts: Sequence[StudyResult],
    *,
    marks: Callable[[StudyResult], Marks] = lambda _: {},
    against: str = "",
    order: Callable[[StudyResult], Sequence[RowResult]] = ordered,
) -> Section:
    """Return the table of metrics with a column group for each data set, as in Table 1 of the paper.

    Args:
        title: heading.
        name: name of the table, as in the report of a single data set.
        parts: the results on each data set.
        marks, against: as for :func:`~alterrec.studies.study_report.metric_data` and ``notes``.
        order: the rows of the first data set in the order of the table.
    """
    labels = [row.label for row in order(parts[0])]
    by_label = [{row.label: row for row in part.rows} for part in parts]
    tables = [
        metric_data(part, marks(part), [rows[label] for label in labels])
        for part, rows in zip(parts, by_label, strict=True)
    ]
    widths = [len(data.table.columns) - 1 for data in tables]
    table = Table(
        ("system", *(column for data in tables for column in data.table.columns[1:])),
        tuple(
            (label, *(cell for data in tables for cell in data.table.rows[place][1:]))
            for place, label in enumerate(labels)
        ),
        best=_shifted([data.table.best for data in tables], widths),
        second=_shifted([data.table.second for data in tables], widths),
        rule_before=tables[0].table.rule_before,
        groups=tuple((part.data.name, width) for part, width in zip(parts, widths, strict=True)),
    )
    records = [
        {"data": part.data.name, **record}
        for part, data in zip(parts, tables, strict=True)
        for record in data.records
    ]
    # Without rows, the notes have no letters, which differ between data sets.
    lines = _merged([(part.data.name, notes(part, against, [])) for part in parts])
    lines += [
        f"{label} on {part.data.name}: {rows[label].reason or 'not finished yet'}."
        for part, rows in zip(parts, by_label, strict=True)
        for label in labels
        if not rows[label].runs
    ]
    return Section(title, tables={name: DataTable(table, records)}, footnotes=lines)


def joint_presentation(study: Study, parts: Sequence[StudyResult]) -> Presentation:
    """Return the report of a study of several data sets."""
    assert study.joint is not None, f"{study.name} has one data set only"
    main = study.joint(parts)
    shown = [study.report(part) for part in parts]
    names = [part.data.name for part in parts]
    pairs = list(zip(names, shown, strict=True))
    return Presentation(
        name=study.name,
        # All titles end with the name of the data.
        title=f"{shown[0].title.removesuffix(names[0])}{listed(names)}",
        meta="; ".join(f"{name}: {each.meta}" for name, each in pairs),
        findings=[f"{name}: {line}" for name, each in pairs for line in each.findings],
        caveats=_merged([(name, each.caveats) for name, each in pairs]),
        sections=[main, *(own for name, each in pairs for own in _own_sections(name, each, main))],
        command=shown[0].command,
    )


def _own_sections(name: str, shown: Presentation, main: Section) -> list[Section]:
    """The sections of one data set without the table that all of them share."""
    found = []
    for section in shown.sections:
        tables = {key: data for key, data in section.tables.items() if key not in main.tables}
        if not tables and not section.figures and section.tables:
            continue
        found.append(
            replace(
                section,
                title=f"{name}: {section.title}",
                tables={f"{file_name(name)}-{key}": data for key, data in tables.items()},
                figures={f"{file_name(name)}-{key}": plot for key, plot in section.figures.items()},
                footnotes=section.footnotes if len(tables) == len(section.tables) else [],
            )
        )
    return found


def _shifted(
    cells: Sequence[frozenset[tuple[int, int]]], widths: Sequence[int]
) -> frozenset[tuple[int, int]]:
    """The cells of tables that are put side by side."""
    starts = [0, *accumulate(widths[:-1])]
    return frozenset(
        (row, start + column) for start, part in zip(starts, cells, strict=True) for row, column in part
    )


def _merged(lines: Sequence[tuple[str, Sequence[str]]]) -> list[str]:
    """All lines in order; those that are not the same for all data sets with the name of theirs.

    Example:
        >>> _merged([("A", ["one seed", "a run failed"]), ("B", ["one seed"])])
        ['one seed', 'A: a run failed']
    """
    found: list[str] = []
    for name, own in lines:
        for line in own:
            shared = all(line in others for _, others in lines)
            text = line if shared else f"{name}: {line}"
            if text not in found:
                found.append(text)
    return found

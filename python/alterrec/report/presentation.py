"""What an analysis shows, whatever it is of: findings, doubts, pictures and tables, written in every form.

An analysis makes a :class:`Presentation`; here it becomes a page, files, lines or a notebook cell.
"""

from __future__ import annotations

import base64
import csv
import io
from abc import abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from alterrec.files import write_text
from alterrec.report import layout
from alterrec.report.layout import document, drawn_table, figure, fold, list_box, note
from alterrec.report.markup import Html, element, join
from alterrec.report.tables import Table, latex, markdown, plain, tex

if TYPE_CHECKING:
    from matplotlib.figure import Figure


@dataclass(frozen=True)
class DataTable:
    """A table as people read it, and as other programs do.

    Attributes:
        table: text cells.
        records: the same numbers as they are, for CSV; the cells where there are none.
    """

    table: Table
    records: Sequence[Mapping[str, Any]] = ()

    def csv(self) -> str:
        """Lines of comma-separated values.

        Example:
            >>> print(DataTable(Table(("a", "n"), (("x", "1"),))).csv(), end="")
            a,n
            x,1
        """
        records = self.records or [dict(zip(self.table.columns, row, strict=True)) for row in self.table.rows]
        columns = list(dict.fromkeys(key for record in records for key in record)) or self.table.columns
        out = io.StringIO()
        writer = csv.DictWriter(out, columns, lineterminator="\n")
        writer.writeheader()
        writer.writerows(records)
        return out.getvalue()


class Plot(NamedTuple):
    """A figure with all panels for files, one figure per panel for the page, and a caption."""

    whole: Figure
    panels: Sequence[Figure]
    caption: str

    @classmethod
    def of(cls, painter: Callable[..., Figure], panels: Sequence[Any], caption: str, **options: Any) -> Plot:
        """Let a painter draw all panels together and each on its own."""
        return cls(painter(panels, **options), [painter([panel], **options) for panel in panels], caption)


@dataclass(frozen=True)
class Section:
    """What stands under one heading: notes, then pictures, then tables, then further notes.

    Pictures and tables go by the name of their files.
    """

    title: str
    notes: Sequence[str] = ()
    figures: Mapping[str, Plot] = field(default_factory=dict)
    tables: Mapping[str, DataTable] = field(default_factory=dict)
    below: Sequence[str] = ()
    folded: bool = False


@dataclass(frozen=True)
class Presentation:
    """All that an analysis shows.

    Attributes:
        name: of its files.
        title, meta: what it is of, in a line each.
        findings: what it found, one sentence an entry, the most important first.
        doubts: what to keep in mind before believing it.
        sections: its sections, in order.
        command: what re-makes it.
    """

    name: str
    title: str
    meta: str
    findings: Sequence[str]
    caveats: Sequence[str]
    sections: Sequence[Section]
    command: str = ""

    def page(self) -> str:
        """One HTML file that needs nothing beside it."""
        body = [
            element("h1", self.title),
            element("p", self.meta, class_="meta"),
            element("div", *(element("p", line) for line in self.findings), class_="opening"),
            list_box(BEFORE, self.caveats, "box doubts"),
            *map(section_html, self.sections),
        ]
        if self.command:
            body.append(layout.section(AGAIN, element("pre", self.command, class_="command")))
        return document(self.title, body)

    def markdown(self) -> str:
        """Everything but the pictures, which are named."""
        lines = [f"# {self.title}", self.meta, *self.findings]
        lines += self._caveats()
        for section in self.sections:
            lines += [f"## {section.title}", *section.notes]
            lines += [f"![{plot.caption}](figures/{name}.png)" for name, plot in section.figures.items()]
            lines += [*(markdown(data.table) for data in section.tables.values()), *section.below]
        if self.command:
            lines += [f"## {AGAIN}", f"```sh\n{self.command}\n```"]
        return "\n\n".join(lines) + "\n"

    def text(self) -> str:
        """Findings, doubts and tables as plain lines, for a terminal."""
        tables = [
            plain(data.table)
            for section in self.sections
            if not section.folded
            for data in section.tables.values()
        ]
        return "\n\n".join([self.title, *self.findings, *self._caveats(), *tables])

    def _caveats(self) -> list[str]:
        """One block of lines, or none."""
        return (
            ["\n".join([f"{BEFORE}:", "", *(f"- {line}" for line in self.caveats)])] if self.caveats else []
        )

    def figures(self) -> dict[str, Plot]:
        """Every picture by its name."""
        return {name: plot for section in self.sections for name, plot in section.figures.items()}

    def write(self, out: Path) -> None:
        """Write ``report.html``, ``NAME.md``, a .csv and .tex of each table and figures/*.png and *.svg.

        Raises:
            InputError: the disk is full, or the folder cannot be written.
        """
        from alterrec.report.figures import style

        for section in self.sections:
            for name, data in section.tables.items():
                below = " ".join([*section.notes, *section.below])
                head = f"% {self.title}; needs \\usepackage{{booktabs}}\n% {self.command}\n"
                write_text(out / f"{name}.tex", f"{head}{latex(data.table)}\n\n\\medskip\n{tex(below)}\n")
                write_text(out / f"{name}.csv", data.csv())
        for name, plot in self.figures().items():
            style.save(plot.whole, out / "figures", name)
        write_text(out / f"{self.name}.md", self.markdown())
        # Last, for whoever waits for the page finds all else there.
        write_text(out / "report.html", self.page())


class Presented:
    """What prints as tables, draws itself and shows itself in a notebook: its presentation in each form."""

    @abstractmethod
    def presentation(self) -> Presentation:
        """What it shows."""

    def __str__(self) -> str:
        return self.presentation().text()

    def draw(self) -> dict[str, Figure]:
        """Its pictures by name, as matplotlib figures."""
        return {name: plot.whole for name, plot in self.presentation().figures().items()}

    def save(self, out: str | Path) -> Path:
        """Write its page, tables and pictures into a folder; returns the path of the page."""
        self.presentation().write(Path(out))
        return Path(out) / "report.html"

    def _repr_html_(self) -> str:
        from alterrec.report.figures import style

        shown = self.presentation()
        body = [element("h3", shown.title), *(element("p", line) for line in shown.findings)]
        for section in shown.sections:
            if section.folded:
                continue
            body += [element("h4", section.title)]
            for plot in section.figures.values():
                data = base64.b64encode(style.png(plot.whole)).decode()
                body.append(
                    Html(
                        f'<img alt="{escape(plot.caption)}" style="max-width: 100%" '
                        f'src="data:image/png;base64,{data}">'
                    )
                )
            body += [drawn_table(data.table) for data in section.tables.values()]
        return element("div", *body)


def section_html(section: Section) -> Html:
    """A part under its heading, or folded away."""
    body = [
        *map(note, section.notes),
        *(figure(name, plot) for name, plot in section.figures.items()),
        *(drawn_table(data.table) for data in section.tables.values()),
        *map(note, section.below),
    ]
    return fold(section.title, join(body)) if section.folded else layout.section(section.title, *body)


BEFORE = "Before you believe it"
AGAIN = "To run it again"

"""What an analysis shows, whatever it is of: findings, doubts, pictures and tables, written in every form.

An analysis makes a :class:`Presentation`; here it becomes a page, files, lines or a notebook cell.
"""

from __future__ import annotations

import base64
import csv
import io
from abc import abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING, Any

from alterrec.files import write_text
from alterrec.report.layout import Picture, document, drawn_table, figure, fold, list_box, note, section
from alterrec.report.markup import Html, element, join
from alterrec.report.tables import Table, latex, markdown, plain, tex

if TYPE_CHECKING:
    from matplotlib.figure import Figure


@dataclass(frozen=True)
class Sheet:
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
            >>> print(Sheet(Table(("a", "n"), (("x", "1"),))).csv(), end="")
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


@dataclass(frozen=True)
class Part:
    """What stands under one heading: notes, then pictures, then tables, then further notes.

    Pictures and tables go by the name of their files.
    """

    title: str
    notes: Sequence[str] = ()
    pictures: Mapping[str, Picture] = field(default_factory=dict)
    sheets: Mapping[str, Sheet] = field(default_factory=dict)
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
        parts: its sections.
        command: what re-makes it.
    """

    name: str
    title: str
    meta: str
    findings: Sequence[str]
    doubts: Sequence[str]
    parts: Sequence[Part]
    command: str = ""

    def page(self) -> str:
        """One HTML file that needs nothing beside it."""
        body = [
            element("h1", self.title),
            element("p", self.meta, class_="meta"),
            element("div", *(element("p", line) for line in self.findings), class_="opening"),
            list_box(BEFORE, self.doubts, "box doubts"),
            *map(part_section, self.parts),
        ]
        if self.command:
            body.append(section(AGAIN, element("pre", self.command, class_="command")))
        return document(self.title, body)

    def markdown(self) -> str:
        """Everything but the pictures, which are named."""
        lines = [f"# {self.title}", self.meta, *self.findings]
        lines += self._doubts()
        for part in self.parts:
            lines += [f"## {part.title}", *part.notes]
            lines += [f"![{picture.says}](figures/{name}.png)" for name, picture in part.pictures.items()]
            lines += [*(markdown(sheet.table) for sheet in part.sheets.values()), *part.below]
        if self.command:
            lines += [f"## {AGAIN}", f"```sh\n{self.command}\n```"]
        return "\n\n".join(lines) + "\n"

    def text(self) -> str:
        """Findings, doubts and tables as plain lines, for a terminal."""
        tables = [
            plain(sheet.table) for part in self.parts if not part.folded for sheet in part.sheets.values()
        ]
        return "\n\n".join([self.title, *self.findings, *self._doubts(), *tables])

    def _doubts(self) -> list[str]:
        """One block of lines, or none."""
        return ["\n".join([f"{BEFORE}:", "", *(f"- {line}" for line in self.doubts)])] if self.doubts else []

    def pictures(self) -> dict[str, Picture]:
        """Every picture by its name."""
        return {name: picture for part in self.parts for name, picture in part.pictures.items()}

    def write(self, out: Path) -> None:
        """Write ``report.html``, ``NAME.md``, a .csv and .tex of each table and figures/*.png and *.svg.

        Raises:
            InputError: the disk is full, or the folder cannot be written.
        """
        from alterrec.report import plots

        for part in self.parts:
            for name, sheet in part.sheets.items():
                below = " ".join([*part.notes, *part.below])
                head = f"% {self.title}; needs \\usepackage{{booktabs}}\n% {self.command}\n"
                write_text(out / f"{name}.tex", f"{head}{latex(sheet.table)}\n\n\\medskip\n{tex(below)}\n")
                write_text(out / f"{name}.csv", sheet.csv())
        for name, picture in self.pictures().items():
            plots.save(picture.whole, out / "figures", name)
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
        return {name: picture.whole for name, picture in self.presentation().pictures().items()}

    def save(self, out: str | Path) -> Path:
        """Write its page, tables and pictures into a folder; returns the path of the page."""
        self.presentation().write(Path(out))
        return Path(out) / "report.html"

    def _repr_html_(self) -> str:
        from alterrec.report import plots

        shown = self.presentation()
        body = [element("h3", shown.title), *(element("p", line) for line in shown.findings)]
        for part in shown.parts:
            if part.folded:
                continue
            body += [element("h4", part.title)]
            for picture in part.pictures.values():
                data = base64.b64encode(plots.png(picture.whole)).decode()
                body.append(
                    Html(
                        f'<img alt="{escape(picture.says)}" style="max-width: 100%" '
                        f'src="data:image/png;base64,{data}">'
                    )
                )
            body += [drawn_table(sheet.table) for sheet in part.sheets.values()]
        return element("div", *body)


def part_section(part: Part) -> Html:
    """A part under its heading, or folded away."""
    body = [
        *map(note, part.notes),
        *(figure(name, picture) for name, picture in part.pictures.items()),
        *(drawn_table(sheet.table) for sheet in part.sheets.values()),
        *map(note, part.below),
    ]
    return fold(part.title, join(body)) if part.folded else section(part.title, *body)


BEFORE = "Before you believe it"
AGAIN = "To run it again"

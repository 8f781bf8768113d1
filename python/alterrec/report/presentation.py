"""A report, independent of the analysis: findings, caveats, figures and tables, rendered in every form.

An analysis makes a :class:`Presentation`. This module renders it as a page, Markdown, LaTeX, CSV, terminal
text or notebook cell. ``templates/`` has the layout and the style of the page.
"""

from __future__ import annotations

import csv
import hashlib
import io
import re
import warnings
from abc import abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from alterrec.errors import InputError
from alterrec.files import write_text
from alterrec.report.plain import fill, plain
from alterrec.report.tables import FIRST_ITEMS, VIEW_NAMES, Table, latex, markdown, tex
from alterrec.results import Example

# Pages need their own style sheet and no other file. If markup ever escaped from a title, the browser would
# still run no script and load nothing.
CONTENT_POLICY = (
    "default-src 'none'; style-src 'unsafe-inline'; img-src data:; base-uri 'none'; form-action 'none'"
)

# Light and dark themes of JupyterLab, VS Code, Colab and Furo, the theme of our site.
LIGHT_THEMES = (
    ":has(body[data-jp-theme-light])",
    ":has(body.vscode-light)",
    "[theme=light]",
    ":has(body[data-theme=light])",
)
DARK_THEMES = (
    "body[data-jp-theme-light=false]",
    "body.vscode-dark",
    "html[theme=dark]",
    "body[data-theme=dark]",
)

if TYPE_CHECKING:
    import polars as pl
    from jinja2 import Environment
    from markupsafe import Markup
    from matplotlib.figure import Figure
    from pandas import DataFrame


@dataclass(frozen=True)
class DataTable:
    """A table for readers, with the same numbers for other programs.

    Attributes:
        records: unrounded values, one mapping per row, for CSV; by default the text cells.
    """

    table: Table
    records: Sequence[Mapping[str, Any]] = ()

    def frame(self) -> pl.DataFrame:
        """Return the records as a frame, or the cells as text where there are none."""
        import polars as pl

        records = self.records or [
            dict(zip(self.table.headings, row, strict=True)) for row in self.table.rows
        ]
        columns = list(dict.fromkeys(key for record in records for key in record))
        cells = {name: [record.get(name) for record in records] for name in columns}
        return pl.DataFrame({name: pl.Series(values, strict=False) for name, values in cells.items()})

    def csv(self) -> str:
        """Return the records as comma-separated values.

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
    """A drawn figure.

    Attributes:
        whole: all panels in one figure, for files and notebooks.
        panels: one figure per panel, for the page.
        caption: what the figure shows, for screen readers.
        legend: meaning -> name of its colour in the palette, where the colours are not named in the panels.
    """

    whole: Figure
    panels: Sequence[Figure]
    caption: str
    legend: Mapping[str, str]

    @classmethod
    def of(
        cls,
        painter: Callable[..., Figure],
        panels: Sequence[Any],
        caption: str,
        legend: Mapping[str, str] | None = None,
        **options: Any,
    ) -> Plot:
        """Draw all panels together, and each one separately, by a painter of ``report.figures``."""
        from alterrec.report.figures.style import add_legend

        whole = painter(panels, **options)
        add_legend(whole, legend or {})
        return cls(whole, [painter([panel], **options) for panel in panels], caption, legend or {})


class Tile(NamedTuple):
    """One number at the head of the page; ``colour`` is a name in the palette."""

    label: str
    value: str
    colour: str


@dataclass(frozen=True)
class Section:
    """The contents below one heading, in this order.

    Attributes:
        notes: paragraphs above the figures.
        figures, tables: by the name of their files.
        footnotes: paragraphs below the tables.
        folded: whether the page hides the section until a click, and other forms omit its tables.
        text: preformatted text, on the page only.
        examples: test sessions with their recommendations, on the page only.
        steps: a numbered list below the notes.
    """

    title: str
    notes: Sequence[str] = ()
    figures: Mapping[str, Plot] = field(default_factory=dict)
    tables: Mapping[str, DataTable] = field(default_factory=dict)
    footnotes: Sequence[str] = ()
    folded: bool = False
    text: str = ""
    examples: Sequence[Example] = ()
    steps: Sequence[str] = ()

    @property
    def page_only(self) -> bool:
        """Whether a notebook cell leaves the section out: it is folded, or made of examples."""
        return self.folded or bool(self.examples and not self.tables)


@dataclass(frozen=True)
class Presentation:
    """Everything that a report shows.

    Attributes:
        name: name of the Markdown file.
        meta: one line about its origin.
        findings: what was found, one sentence per entry, the most important first.
        caveats: what to consider before relying on the findings.
        leading: sections above the caveats, for a reader who wants to use the system rather than study it.
        command: the command that makes the report again.
        warnings: warnings of the runs.
        tiles: the most important numbers.
    """

    name: str
    title: str
    meta: str
    findings: Sequence[str]
    caveats: Sequence[str]
    sections: Sequence[Section]
    leading: Sequence[Section] = ()
    command: str = ""
    warnings: Sequence[str] = ()
    tiles: Sequence[Tile] = ()

    def page(self) -> str:
        """Return the report as one HTML file that needs no other file."""
        return _templates().get_template("page.html").render(report=self)

    def notebook(self) -> str:
        """Return the report as HTML for a notebook cell."""
        # Several cells of a notebook are one document, in which the ids of figures must differ.
        digest = hashlib.blake2b(f"{self.title} {self.meta} {self.findings}".encode(), digest_size=6)
        return (
            _templates().get_template("notebook.html").render(report=self, prefix=f"a{digest.hexdigest()}-")
        )

    def markdown(self) -> str:
        """Return the report as Markdown with links to the figures."""
        lines = [f"# {self.title}", self.meta, *self.findings, *self._boxes()]
        for section in self.every_section():
            if (section.text or section.examples) and not section.tables:
                continue
            lines += [f"## {section.title}", *section.notes]
            steps = [f"{place}. {step}" for place, step in enumerate(section.steps, start=1)]
            lines += ["\n".join(steps)] if steps else []
            lines += [f"![{plot.caption}](figures/{name}.png)" for name, plot in section.figures.items()]
            lines += [*(markdown(data.table) for data in section.tables.values()), *section.footnotes]
        if self.command:
            lines += ["## How to reproduce", f"```sh\n{self.command}\n```"]
        return "\n\n".join(lines) + "\n"

    def text(self, width: int | None = None) -> str:
        """Return findings, caveats and tables as plain lines; ``width`` is the longest line, or None."""
        tables = [
            plain(data.table, width)
            for section in self.every_section()
            if not section.folded
            for data in section.tables.values()
        ]
        sentences = "\n\n".join([self.title, *self.findings, *self._boxes()])
        return "\n\n".join([fill(sentences, width), *tables])

    def every_section(self) -> list[Section]:
        """Return the leading sections, then the others."""
        return [*self.leading, *self.sections]

    def _boxes(self) -> list[str]:
        boxes = (("Warnings", self.warnings), ("Caveats", self.caveats))
        return [
            "\n".join([f"{title}:", "", *(f"- {line}" for line in lines)]) for title, lines in boxes if lines
        ]

    def figures(self) -> dict[str, Plot]:
        """Return all figures by name."""
        return {name: plot for section in self.every_section() for name, plot in section.figures.items()}

    def write_page(self, out: Path) -> Path:
        """Write ``figures/*.png``, ``figures/*.svg`` and, last of all, ``report.html``; return its path.

        Raises:
            InputError: the disk is full, or the folder cannot be written.
        """
        from alterrec.report.figures import style

        for name, plot in self.figures().items():
            style.save(plot.whole, out / "figures", name)
        # A program that waits for the page then finds all other files.
        write_text(out / "report.html", self.page())
        return out / "report.html"

    def write(self, out: Path) -> Path:
        """Write a .csv and a .tex file per table, ``NAME.md``, the figures and the page; return its path.

        Raises:
            InputError: the disk is full, or the folder cannot be written.
        """
        for section in self.every_section():
            for name, data in section.tables.items():
                notes = " ".join([*section.notes, *section.footnotes])
                head = f"% {self.title}; needs \\usepackage{{booktabs}}\n% {self.command}\n"
                write_text(out / f"{name}.tex", f"{head}{latex(data.table)}\n\n\\medskip\n{tex(notes)}\n")
                write_text(out / f"{name}.csv", data.csv())
        write_text(out / f"{self.name}.md", self.markdown())
        return self.write_page(out)


def renamed(old: str, new: str) -> property:
    """Return a property that reads ``new`` under its ``old`` name, with a DeprecationWarning."""

    def read(self: object) -> object:
        warnings.warn(f"{type(self).__name__}.{old} is now .{new}", DeprecationWarning, stacklevel=2)
        return getattr(self, new)

    return property(read)


class Report:
    """A result that prints as tables, draws its figures, and displays itself in a notebook."""

    @abstractmethod
    def presentation(self) -> Presentation:
        """Return what the report shows."""

    @abstractmethod
    def brief(self) -> str:
        """Return in a few words what the report is about."""

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.brief()})"

    def __str__(self) -> str:
        return self.presentation().text()

    def tables(self) -> dict[str, DataTable]:
        """Return its tables by name, with unrounded numbers in their ``records``."""
        sections = self.presentation().every_section()
        return {name: data for section in sections for name, data in section.tables.items()}

    def to_polars(self, table: str | None = None) -> pl.DataFrame:
        """Return the unrounded numbers of a table as a frame of polars.

        Args:
            table: a name of :meth:`tables`; default the first.

        Raises:
            InputError: there is no table of that name.
        """
        tables = self.tables()
        name = table if table is not None else next(iter(tables), None)
        if name not in tables:
            raise InputError(f"table is {name!r}; choose one of {', '.join(tables) or 'none'}")
        return tables[name].frame()

    def to_pandas(self, table: str | None = None) -> DataFrame:
        """Return :meth:`to_polars` as a frame of pandas; InputError also if that is not installed."""
        from alterrec.report.frames import as_pandas

        return as_pandas(self.to_polars(table))

    def draw(self) -> dict[str, Figure]:
        """Return its figures by name, as matplotlib figures."""
        return {name: plot.whole for name, plot in self.presentation().figures().items()}

    def save(self, out: str | Path) -> Path:
        """Write its page, tables and figures into a folder; return the path of the page."""
        return self.presentation().write(Path(out))

    def _repr_html_(self) -> str:
        return self.presentation().notebook()


@cache
def _templates() -> Environment:
    """Return the templates, which escape every value that is not markup of ours."""
    from jinja2 import Environment, PackageLoader, StrictUndefined
    from markupsafe import Markup

    templates = Environment(
        loader=PackageLoader("alterrec.report"),
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=StrictUndefined,
    )
    templates.filters |= {"svg": _svg, "code": _code}
    templates.globals |= {
        "content_policy": CONTENT_POLICY,
        "style": Markup(page_style()),
        "notebook_style": Markup(_notebook_style()),
        "view_names": VIEW_NAMES,
        "first_items": FIRST_ITEMS,
    }
    return templates


def _svg(figure: Figure, name: str) -> Markup:
    from markupsafe import Markup

    from alterrec.report.figures.style import svg

    # The caption of the figure is read out in place of its parts.
    return Markup(svg(figure, name).replace("<svg", '<svg aria-hidden="true"', 1))


def _code(text: str) -> Markup:
    """Return text with commands between backticks as code."""
    from markupsafe import Markup, escape

    return Markup(re.sub("`([^`]+)`", r"<code>\1</code>", str(escape(text))))


# Colours of the page alone.
PAGE_COLOURS = {
    "page": ("#ffffff", "#0d1117"),
    "soft": ("#f4f6f8", "#171d25"),
    "shadow": ("rgb(31 35 40 / 0.3)", "rgb(230 237 243 / 0.3)"),
    "bad": ("#b42318", "#ff8577"),
    "look": ("#835700", "#e3b341"),
    "fine": ("#00703c", "#4cc38a"),
}


def page_style() -> str:
    """Return the style sheet of pages, with the palette as variables for light and dark screens."""
    light, dark = _variables()
    dark_screen = f"@media screen and (prefers-color-scheme: dark) {{ :root {{ {dark}}} }}"
    return f":root {{ {light}}}\n{dark_screen}\n{_rules('page.css')}"


def _notebook_style() -> str:
    """Return the style sheet of a cell, which follows the theme of the notebook, not that of the system."""
    light, dark = _variables()
    unknown = "".join(f":not({theme})" for theme in LIGHT_THEMES)
    themes = ", ".join(f"{theme} .alterrec" for theme in DARK_THEMES)
    return (
        f".alterrec {{ {light}}}\n"
        f"@media screen and (prefers-color-scheme: dark) {{ html{unknown} .alterrec {{ {dark}}} }}\n"
        f"{themes} {{ {dark}}}\n{_rules('notebook.css')}"
    )


def _variables() -> list[str]:
    """Return the palette as CSS variables, light and dark."""
    from alterrec.report.figures.style import PALETTE

    palette = PALETTE | PAGE_COLOURS
    return ["".join(f"--{name}: {pair[place]}; " for name, pair in palette.items()) for place in (0, 1)]


def _rules(name: str) -> str:
    return (resources.files("alterrec.report") / "templates" / name).read_text("utf-8")

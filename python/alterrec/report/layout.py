"""What every page has: a document that needs nothing beside it, sections, notes, tables and folds."""

from __future__ import annotations

from collections.abc import Sequence
from importlib import resources
from typing import TYPE_CHECKING

from alterrec.report.markup import Html, element, join
from alterrec.report.tables import Table

if TYPE_CHECKING:
    from alterrec.report.presentation import Plot


def document(title: str, parts: Sequence[Html]) -> str:
    """A whole page, its style included."""
    head = (
        '<!DOCTYPE html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        '<meta name="color-scheme" content="light dark">'
    )
    body = element("body", element("main", *parts))
    return f"{head}{element('title', title)}<style>{_style()}</style></head>\n{body}</html>\n"


def section(title: str, *parts: str) -> Html:
    """A part of the page under a heading."""
    return element("section", element("h2", title), *parts)


def note(*parts: str) -> Html:
    """A paragraph in small print."""
    return element("p", *parts, class_="note")


def list_box(title: str, lines: Sequence[str], kind: str) -> Html:
    """A box that stands out, with one entry a line; nothing where there are no lines."""
    if not lines:
        return Html()
    return element(
        "aside", element("h2", title), element("ul", *(element("li", line) for line in lines)), class_=kind
    )


def drawn_table(table: Table) -> Html:
    """The table, which scrolls by itself where the screen is narrow."""
    names = element("tr", *(element("th", name, scope="col") for name in table.columns))
    head = element("thead", names) if any(table.columns[1:]) else Html()
    rows = [
        element(
            "tr",
            element("th", row[0], scope="row"),
            *(element("td", _emphasised(table, place, column)) for column in range(1, len(row))),
            class_=" ".join(
                name
                for name, on in (("strong", place in table.strong), ("apart", place == table.apart))
                if on
            ),
        )
        for place, row in enumerate(table.rows)
    ]
    caption = element("caption", table.title) if table.title else Html()
    whole = element("table", caption, head, element("tbody", *rows), class_="prose" if table.prose else "")
    return element(
        "div", whole, class_="scroll", tabindex="0", role="region", aria_label=table.title or "table"
    )


def _emphasised(table: Table, row: int, column: int) -> str:
    text = table.rows[row][column]
    if (row, column) in table.best:
        return element("b", text)
    return element("u", text) if (row, column) in table.second else text


def fold(title: str, body: Html, open_: bool = False) -> Html:
    """A part that opens on a click."""
    start = "<details open>" if open_ else "<details>"
    return join([Html(start), element("summary", title), body, Html("</details>")])


def figure(name: str, plot: Plot) -> Html:
    """The panels side by side where there is room; the words are for those who cannot see them."""
    from alterrec.report.figures.style import svg

    drawn = [
        Html(svg(panel, f"{name}-{place}").replace("<svg", '<svg aria-hidden="true"', 1))
        for place, panel in enumerate(plot.panels)
    ]
    return element("div", *drawn, class_="panels", role="img", aria_label=plot.caption)


def _style() -> str:
    from alterrec.report.figures.style import PALETTE

    own = {"page": ("#ffffff", "#0d1117"), "soft": ("#f4f6f8", "#171d25")}

    def variables(place: int) -> str:
        return "".join(f"--{name}: {pair[place]}; " for name, pair in {**PALETTE, **own}.items())

    style = (resources.files("alterrec.report") / "page.css").read_text("utf-8")
    dark = f"@media screen and (prefers-color-scheme: dark) {{ :root {{ {variables(1)}}} }}"
    return f":root {{ {variables(0)}}}\n{dark}\n{style}"

"""Tables as lines of text, for terminals, logs and pipes.

Where there is no limit of width, a table has one line per row. In a narrow terminal, tables of words wrap
their cells, or become one block per row; tables of numbers are cut into tables below one another, each with
the first column.
"""

from __future__ import annotations

import textwrap
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, NamedTuple

from alterrec.report.tables import Table

if TYPE_CHECKING:
    from rich.console import Console

GAP = 2  # columns of the terminal between two columns of a table


class TextLine(NamedTuple):
    """A line of text and whether it is emphasised."""

    text: str
    strong: bool = False


def plain(table: Table, width: int | None = None) -> str:
    """Return a table as lines of text.

    Args:
        table: the table.
        width: the longest line; None for lines as long as the table is wide.

    Example:
        >>> print(plain(Table(("a", "n"), (("x", "1"), ("long", "20")), title="Two rows")))
        Two rows
        a      n
        ----  --
        x      1
        long  20
        >>> print(plain(Table(("system", "Hits@20", "NDCG@20"), (("alterrec", "21.1%", "9.3%"),)), width=20))
        system    Hits@20
        --------  -------
        alterrec    21.1%
        <BLANKLINE>
        system    NDCG@20
        --------  -------
        alterrec     9.3%
    """
    return "\n".join(line.text for line in _lines(table, width))


def fill(text: str, width: int | None) -> str:
    """Break the lines of a text between words where they are longer than ``width``; None breaks none.

    Example:
        >>> print(fill("- one of several items\\n\\nend", 14))
        - one of
          several
          items
        <BLANKLINE>
        end
    """
    if width is None:
        return text
    lines = []
    for line in text.split("\n"):
        indent = "  " if line.startswith("- ") else ""
        long = len(line) > width
        lines += (
            textwrap.wrap(line, width, subsequent_indent=indent, break_on_hyphens=False) if long else [line]
        )
    return "\n".join(lines)


def show(table: Table, console: Console | None = None) -> None:
    """Print a table; on a terminal it fits into its width, and emphasised rows are bold.

    Example:
        >>> show(Table(("view", "Hits@20"), (("ID alone", "35.0%"),)))
        view      Hits@20
        --------  -------
        ID alone    35.0%
    """
    from rich.console import Console
    from rich.text import Text

    console = console or Console()
    for line in _lines(table, console.width if console.is_terminal else None):
        if console.is_terminal:
            text = Text(line.text, "bold" if line.strong else "")
            console.print(text, no_wrap=True, overflow="ignore", crop=False)
        else:
            print(line.text, file=console.file)


def _lines(table: Table, width: int | None) -> Iterator[TextLine]:
    if table.title:
        yield from map(TextLine, [table.title] if width is None else textwrap.wrap(table.title, width))
    rows = [table.headings, *table.rows]
    widths = [max(len(row[place]) for row in rows) for place in range(len(table.columns))]
    if width is None or _total(widths) <= width:
        yield from _aligned(table, rows, widths)
    elif not table.prose:
        yield from _by_columns(table, rows, widths, width)
    elif wrapped := _wrapped_widths(rows, widths, width):
        yield from _aligned(table, rows, wrapped)
    else:
        yield from _by_rows(table, width)


def _total(widths: Sequence[int]) -> int:
    return sum(widths) + GAP * (len(widths) - 1)


def _aligned(table: Table, rows: Sequence[Sequence[str]], widths: Sequence[int]) -> Iterator[TextLine]:
    """Rows below one another, the headings first; cells that are wider than their column are wrapped."""
    for number, row in enumerate(rows):
        cells = [
            [cell] if len(cell) <= width else textwrap.wrap(cell, width)
            for cell, width in zip(row, widths, strict=True)
        ]
        for part in range(max(map(len, cells))):
            padded = (
                text.ljust(width) if place == 0 or table.prose else text.rjust(width)
                for place, (cell, width) in enumerate(zip(cells, widths, strict=True))
                for text in [cell[part] if part < len(cell) else ""]
            )
            yield TextLine((" " * GAP).join(padded).rstrip(), number - 1 in table.strong)
        if number == 0:
            yield TextLine((" " * GAP).join("-" * width for width in widths))


def _by_columns(
    table: Table, rows: Sequence[Sequence[str]], widths: Sequence[int], width: int
) -> Iterator[TextLine]:
    """As many columns at a time as fit next to the first one."""
    first = min(widths[0], width // 2)
    places: list[list[int]] = [[]]
    for place in range(1, len(widths)):
        if places[-1] and _total([first, *(widths[each] for each in places[-1]), widths[place]]) > width:
            places.append([])
        places[-1].append(place)
    for number, chosen in enumerate(places):
        if number:
            yield TextLine("")
        part = [[row[0], *(row[place] for place in chosen)] for row in rows]
        yield from _aligned(table, part, [first, *(widths[place] for place in chosen)])


def _wrapped_widths(rows: Sequence[Sequence[str]], widths: Sequence[int], width: int) -> list[int]:
    """Widths that fit, narrowing the widest columns but breaking no word; empty if there are none."""
    least = [
        max(len(word) for row in rows for word in [*row[place].split(), ""]) for place in range(len(widths))
    ]
    for cap in range(max(widths), 0, -1):
        narrowed = [max(low, min(own, cap)) for low, own in zip(least, widths, strict=True)]
        if _total(narrowed) <= width:
            return narrowed
    return []


def _by_rows(table: Table, width: int) -> Iterator[TextLine]:
    """A block per row: each cell next to its heading."""
    indent = max(map(len, table.headings)) + GAP
    for number, row in enumerate(table.rows):
        if number:
            yield TextLine("")
        for heading, cell in zip(table.headings, row, strict=True):
            for part, text in enumerate(textwrap.wrap(cell, max(width - indent, 1))):
                yield TextLine(f"{'' if part else heading:{indent}}{text}", number in table.strong)

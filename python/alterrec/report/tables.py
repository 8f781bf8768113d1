"""Tables of formatted text, for Markdown and LaTeX too, and the formatting of numbers."""

from __future__ import annotations

import statistics
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import accumulate, pairwise

from alterrec.metrics import LIST_METRICS, metric_name, parse_list_metric

VIEW_NAMES = {
    "score": "final score",
    "fused": "ID + text",
    "id": "ID alone",
    "text": "text alone",
    "neighbours": "neighbours alone",
    "trend": "trend alone",
}
# Reports say whether the right item is among this many.
FIRST_ITEMS = 20
HEADLINE = f"hits@{FIRST_ITEMS}"
# A normal 95% interval is this many standard errors wide to each side.
NORMAL_95 = 1.96
BASELINE_NAMES = {
    "popularity": "popularity",
    "recent_popularity": "recent popularity",
    "itemknn": "item-kNN",
    "covisitation": "co-visitation",
    "vsknn": "V-SKNN",
}


def percent(share: float | None) -> str:
    """Format a fraction as a percentage with one decimal; a dash for None.

    Example:
        >>> percent(0.3884), percent(None)
        ('38.8%', '-')
    """
    return "-" if share is None else f"{100 * share:.1f}%"


def points(difference: float) -> str:
    """Format a difference of two fractions in percentage points, with its sign.

    Example:
        >>> points(0.031), points(-0.0042), points(0.0001)
        ('+3.1', '-0.4', '0.0')
    """
    shown = f"{100 * difference:+.1f}"
    return "0.0" if shown in ("+0.0", "-0.0") else shown


def normal_interval(value: float, error: float) -> str:
    """Format the 95% interval of a fraction in percent, by its standard error and the normal distribution.

    Example:
        >>> normal_interval(0.5, 0.01), normal_interval(0.01, 0.01)
        ('48.0% to 52.0%', '0.0% to 3.0%')
    """
    return f"{percent(max(value - NORMAL_95 * error, 0.0))} to {percent(min(value + NORMAL_95 * error, 1.0))}"


def mean_and_spread(values: Sequence[float], digits: int = 1, unit: str = "%") -> str:
    """Format mean ± sample standard deviation of fractions in percent; only the value for one fraction.

    Example:
        >>> mean_and_spread([0.30, 0.32]), mean_and_spread([0.25], digits=2, unit=""), mean_and_spread([])
        ('31.0 ± 1.4%', '25.00', '-')
    """
    if not values:
        return "-"
    mean = f"{100 * statistics.fmean(values):.{digits}f}"
    spread = f" ± {100 * statistics.stdev(values):.{digits}f}" if len(values) > 1 else ""
    return f"{mean}{spread}{unit}"


def duration(seconds: float) -> str:
    """Format seconds with the units that suit them.

    Example:
        >>> duration(0.42), duration(8.04), duration(133), duration(1800), duration(7380)
        ('0.4 s', '8.0 s', '2 min 13 s', '30 min', '2 h 3 min')
    """
    if seconds < 59.95:
        return f"{seconds:.1f} s"
    whole = round(seconds)
    if whole < 3600:
        large, small = f"{whole // 60} min", f" {whole % 60} s"
    else:
        large, small = f"{whole // 3600} h", f" {whole % 3600 // 60} min"
    return large if small.startswith(" 0 ") else large + small


def memory(size: float) -> str:
    """Format a number of bytes in MiB or GiB.

    Example:
        >>> memory(512 * 2**20), memory(1.25 * 2**30)
        ('512 MiB', '1.2 GiB')
    """
    return f"{size / 2**20:.0f} MiB" if size < 2**30 else f"{size / 2**30:.1f} GiB"


def count(number: int) -> str:
    """Format a whole number with separators of thousands.

    Example:
        >>> count(20000)
        '20,000'
    """
    return f"{number:,}"


def listed(names: Sequence[str]) -> str:
    """Join names for a sentence.

    Example:
        >>> listed(["a", "b", "c"]), listed(["a"])
        ('a, b and c', 'a')
    """
    return " and ".join([", ".join(names[:-1]), names[-1]] if len(names) > 1 else names)


@dataclass(frozen=True)
class Table:
    """A table of text cells; the first column is left-aligned, other columns right-aligned unless ``prose``.

    Attributes:
        columns: headings.
        rows: cells.
        title: caption.
        prose: whether cells hold words rather than numbers.
        strong: indices of emphasised rows.
        best, second: (row, column) of the best and second-best cells of a column.
        rule_before: index of the row before which LaTeX and the page draw a line.
        groups: names of groups of columns after the first one, and the number of columns of each.
        labels: text of a cell -> name of a colour: the page shows such cells as coloured labels.

    Example:
        >>> Table(("view", "Hits@20"), (("ID alone", "35.0%"),)).columns
        ('view', 'Hits@20')
        >>> Table(("system", "a", "b"), (), groups=(("HD", 1), ("FR", 1))).headings
        ('system', 'HD a', 'FR b')
    """

    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    title: str = ""
    prose: bool = False
    strong: frozenset[int] = frozenset()
    best: frozenset[tuple[int, int]] = frozenset()
    second: frozenset[tuple[int, int]] = frozenset()
    rule_before: int | None = None
    groups: tuple[tuple[str, int], ...] = ()
    labels: Mapping[str, str] = field(default_factory=dict)

    @property
    def headings(self) -> tuple[str, ...]:
        """The headings in one line: those of groups begin with the group's name."""
        if not self.groups:
            return self.columns
        names = [name for name, width in self.groups for _ in range(width)]
        pairs = zip(names, self.columns[1:], strict=True)
        return (self.columns[0], *(f"{name} {column}" for name, column in pairs))


def metric_table(
    rows: Mapping[str, Mapping[str, float]],
    metrics: Sequence[str] = (),
    *,
    title: str = "",
    strong: Sequence[str] = (),
) -> Table:
    """Return a table with a row for each system or view and a column for each metric, in percent.

    Args:
        rows: name of a row -> metric -> value.
        metrics: the columns; default all metrics of the rows.
        title: of the table.
        strong: names of the rows to emphasise.

    Example:
        >>> metric_table({"ID alone": {"hits@20": 0.35}}).rows
        (('ID alone', '35.0%'),)
    """
    metrics = metrics or list(dict.fromkeys(metric for values in rows.values() for metric in values))
    return Table(
        columns=("system", *(metric_name(metric) for metric in metrics)),
        rows=tuple(
            (name, *(percent(values.get(metric)) for metric in metrics)) for name, values in rows.items()
        ),
        title=title,
        strong=frozenset(place for place, name in enumerate(rows) if name in strong),
    )


def list_value(metric: str, value: float) -> str:
    """Format a metric of recommendation lists in its unit.

    Example:
        >>> list_value("coverage@20", 0.384), list_value("novelty@20", 9.27), list_value("gini@20", 0.914)
        ('38.4%', '9.3 bits', '0.91')
    """
    unit = LIST_METRICS[parse_list_metric(metric)[0]].unit
    if unit == "share":
        return percent(value)
    return {"bits": f"{value:.1f} bits", "count": f"{value:,.1f}"}.get(unit, f"{value:.2f}")


def list_table(values: Mapping[str, float], title: str = "") -> Table:
    """Return a table with one row for each metric of recommendation lists, and what it measures.

    Example:
        >>> list_table({"coverage@5": 0.5}).rows[0][:2]
        ('Coverage@5', '50.0%')
    """
    rows = tuple(
        (metric_name(metric), list_value(metric, value), LIST_METRICS[parse_list_metric(metric)[0]].meaning)
        for metric, value in values.items()
    )
    return Table(("lists", "value", "meaning"), rows, title=title, prose=True)


def markdown(table: Table) -> str:
    """Return the table in Markdown; strong rows and best cells are bold, second-best cells underlined.

    Example:
        >>> print(markdown(Table(("a", "n"), (("x|y", "1"),), strong=frozenset({0}))))
        | a | n |
        |:--|--:|
        | **x\\|y** | **1** |
    """

    def line(cells: Sequence[str], row: int) -> str:
        safe = [text.replace("|", "\\|").replace("\n", " ").replace("*", "\\*") for text in cells]
        return f"| {' | '.join(_emphasised(table, safe, row, '**{}**', '<u>{}</u>'))} |"

    rule = "|".join(":--" if place == 0 or table.prose else "--:" for place in range(len(table.columns)))
    body = [line(row, place) for place, row in enumerate(table.rows)]
    heading = [f"**{table.title}**", ""] if table.title else []
    return "\n".join([*heading, line(table.headings, -1), f"|{rule}|", *body])


def latex(table: Table) -> str:
    """Return the table in LaTeX with the package booktabs; emphasis as in :func:`markdown`.

    Example:
        >>> print(latex(Table(("a_b", "n"), (("x", "1 ± 2"),), best=frozenset({(0, 1)}))))
        \\begin{tabular}{lr}
        \\toprule
        a\\_b & n \\\\
        \\midrule
        x & \\textbf{1 $\\pm$ 2} \\\\
        \\bottomrule
        \\end{tabular}
    """

    def line(cells: Sequence[str], row: int) -> str:
        safe = [tex(text) for text in cells]
        return " & ".join(_emphasised(table, safe, row, r"\textbf{{{}}}", r"\underline{{{}}}")) + r" \\"

    body = []
    for place, row in enumerate(table.rows):
        body += [r"\midrule"] if place == table.rule_before else []
        body.append(line(row, place))
    align = "l" + ("l" if table.prose else "r") * (len(table.columns) - 1)
    head = [rf"\begin{{tabular}}{{{align}}}", r"\toprule", *_latex_groups(table)]
    head += [line(table.columns, -1), r"\midrule"]
    return "\n".join([*head, *body, r"\bottomrule", r"\end{tabular}"])


def _latex_groups(table: Table) -> list[str]:
    """The names of groups of columns, each above a line as wide as its columns."""
    if not table.groups:
        return []
    names = [rf"\multicolumn{{{width}}}{{c}}{{{tex(name)}}}" for name, width in table.groups]
    lasts = list(accumulate((width for _, width in table.groups), initial=1))
    rules = [rf"\cmidrule(lr){{{first + 1}-{last}}}" for first, last in pairwise(lasts)]
    return [" & ".join(["", *names]).strip() + r" \\", " ".join(rules)]


def _emphasised(table: Table, cells: Sequence[str], row: int, bold: str, underlined: str) -> Iterator[str]:
    for column, text in enumerate(cells):
        if row in table.strong or (row, column) in table.best:
            yield bold.format(text)
        else:
            yield underlined.format(text) if (row, column) in table.second else text


def tex(text: str) -> str:
    """Escape text for LaTeX.

    Example:
        >>> print(tex("5% of a_b ± 1"))
        5\\% of a\\_b $\\pm$ 1
    """
    names = {"\\": r"\textbackslash{}", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}"}
    names |= {"±": r"$\pm$", "†": r"$\dagger$", "<": "$<$", ">": "$>$"}
    return "".join(names.get(letter, f"\\{letter}" if letter in "&%$#_{}" else letter) for letter in text)

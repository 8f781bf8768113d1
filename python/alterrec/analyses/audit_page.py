"""What an audit of a data set shows: graded findings, pictures, and whether text can help."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any, NamedTuple

from alterrec.analyses.audit_checks import Checks
from alterrec.analyses.audit_grades import Answer, Finding, TextReach, can_text_help, graded
from alterrec.analyses.run_sections import METRICS, few
from alterrec.data.statistics import Statistics
from alterrec.report.figures.bars import SystemBars, bars, system_panels
from alterrec.report.figures.distributions import CAPTION, PANELS, distributions
from alterrec.report.figures.groups import group_lines, view_panels
from alterrec.report.presentation import DataTable, Plot, Presentation, Presented, Section
from alterrec.report.tables import (
    METRIC_NAMES,
    Table,
    count,
    listed,
    metric_table,
    percent,
)
from alterrec.results import Group, Metrics


class Reach(NamedTuple):
    """What a system without training reaches on the test targets."""

    name: str
    metrics: Metrics


@dataclass(frozen=True)
class Audit(Presented):
    """A data set looked over: prints as tables, draws itself, shows itself in a notebook.

    Attributes:
        groups: targets by popularity, found by item-kNN (``neighbours``) and by ``text``.
        reach: systems without training.
        text: None where the data has no text.
    """

    name: str
    fingerprint: str
    statistics: Statistics
    checks: Checks
    groups: list[Group]
    reach: tuple[Reach, ...]
    text: TextReach | None
    text_encoder: str
    exclude_seen: bool
    notes: tuple[str, ...] = ()
    command: str = ""

    @property
    def findings(self) -> list[Finding]:
        """Every check with its grade, the worst first."""
        return graded(self.checks, self.statistics)

    @property
    def answer(self) -> tuple[Answer, str]:
        """Whether text can help here, and why."""
        return can_text_help(self.text, {row.name: row.metrics for row in self.reach})

    def to_dict(self) -> dict[str, Any]:
        """All numbers, for JSON."""
        answer, why = self.answer
        text = None if self.text is None else asdict(self.text) | {"ceiling": self.text.ceiling}
        return {
            "schema": 1,
            "data": self.name,
            "fingerprint": self.fingerprint,
            "can_text_help": {"answer": answer, "why": why},
            "findings": [finding._asdict() for finding in self.findings],
            "reach": {row.name: dict(row.metrics) for row in self.reach},
            "text": text,
            "checks": asdict(self.checks),
            "statistics": asdict(self.statistics),
            "exclude_seen": self.exclude_seen,
        }

    def presentation(self) -> Presentation:
        """The verdict, the checks, what is easy, what text finds, and how the data look."""
        test = self.statistics.splits["test"]
        seen = f"items of the session are {'not ' if self.exclude_seen else ''}candidates (rule: auto)"
        return Presentation(
            name="audit",
            title=f"{self.name}, looked over",
            meta=f"{count(test.last.count)} test targets, the last item of each session · {seen} · "
            f"text vectors: {self.text_encoder}",
            findings=[self.answer[1], self._summary()],
            caveats=self._caveats(),
            sections=[
                self._checks_part(),
                self._reach_part(),
                *self._text_part(),
                Section(
                    "Lengths and popularity",
                    [
                        "Left: sessions by length; grey bars are train, orange dots validation, green "
                        "triangles test. Right: items by their interactions in train, both axes logarithmic."
                    ],
                    {"distributions": Plot.of(distributions, PANELS, CAPTION, of=self.statistics)},
                ),
                *self._alike_part(),
            ],
            command=self.command,
        )

    def _summary(self) -> str:
        graded = {
            grade: [finding.check for finding in self.findings if finding.grade == grade]
            for grade in ("bad", "look")
        }
        said = [f"{listed(names)} {SAID[grade]}" for grade, names in graded.items() if names]
        if not said:
            return f"All {len(self.findings)} checks of the data are fine."
        return f"Of {len(self.findings)} checks of the data: {'; '.join(said)}."

    def _caveats(self) -> list[str]:
        said = list(self.notes)
        test = self.statistics.splits["test"].last.count
        if test < 500:
            said.append(f"{count(test)} test targets are few: shares are known to a few percent alone.")
        if self.text is not None:
            said.append(
                "Text is judged by the nearest neighbours of the last item's vector. A trained text network "
                "reads more than that, and a better encoder may, too (--text-encoder): this is a lower bound."
            )
        return said

    def _checks_part(self) -> Section:
        found = self.findings
        rows = tuple((f"{finding.grade} · {finding.check}", finding.says) for finding in found)
        bad = frozenset(place for place, finding in enumerate(found) if finding.grade == "bad")
        table = Table(("grade and check", "what was seen"), rows, prose=True, strong=bad)
        data = DataTable(table, [finding._asdict() for finding in found])
        return Section("Is anything wrong?", [CHECKS_SAY], tables={"checks": data})

    def _reach_part(self) -> Section:
        kinds = {"text neighbours": "text", "item-kNN + text": "score", "item-kNN": "neighbours"}
        systems = [
            SystemBars(
                row.name,
                {metric: [row.metrics[metric]] for metric in METRICS},
                kinds.get(row.name, "baseline"),
                bold=row.name == "item-kNN + text",
            )
            for row in self.reach
        ]
        best = max(self.reach, key=lambda row: row.metrics["hits@20"])
        plot = Plot.of(
            bars,
            system_panels(systems, METRICS),
            f"Bars of Hits@20 and NDCG@20 for {len(systems)} systems without training; "
            f"{best.name} is highest.",
        )
        table = metric_table({row.name: row.metrics for row in self.reach}, tuple(METRIC_NAMES))
        records = [{"system": row.name, **row.metrics} for row in self.reach]
        return Section("What is easy", [REACH_SAYS], {"reach": plot}, {"reach": DataTable(table, records)})

    def _text_part(self) -> list[Section]:
        if self.text is None:
            return []
        text = self.text
        rows = (
            ("items with text", percent(text.items_with_text)),
            ("targets that both find", percent(text.both)),
            ("targets that text finds and item-kNN does not", percent(text.text_alone)),
            ("targets that item-kNN finds and text does not", percent(text.counted_alone)),
            ("ceiling: found by one of the two", percent(text.ceiling)),
            ("for comparison: found by popularity and not by item-kNN", percent(text.popular_alone)),
            ("cold targets (never seen in train)", percent(text.cold)),
            ("cold targets with text", percent(text.cold_with_text)),
            ("cold targets that text finds", percent(text.cold_found) if text.cold else "-"),
            ("weight of text in the sum, by validation", f"{text.weight:g}"),
            (
                "NDCG@20 of the sum less that of item-kNN, points",
                f"{100 * text.gain.mean:+.2f} [{100 * text.gain.low:+.2f}, {100 * text.gain.high:+.2f}]",
            ),
        )
        plot = Plot.of(
            group_lines,
            view_panels(self.groups, METRICS),
            "What item-kNN and text neighbours find of the targets, by how often train has them.",
            groups=self.groups,
        )
        notes = [" ".join([TEXT_SAYS, *few(self.groups)])]
        data = DataTable(Table(("Hits@20, shares of test targets", ""), rows), [asdict(text)])
        return [Section("Can text help?", notes, {"text": plot}, {"text": data})]

    def _alike_part(self) -> list[Section]:
        alike = self.checks.alike
        if alike is None or not (alike.groups or alike.near):
            return []
        rows = [("identical", f"{count(number)} items", text) for text, number in alike.groups]
        rows += [("one word apart", f"{len(texts)} items", " | ".join(texts)) for texts in alike.near]
        table = Table(("texts", "items", "for instance"), tuple(rows), prose=True)
        return [Section("Texts alike", tables={"alike": DataTable(table)}, folded=True)]


SAID = {"bad": "would spoil a comparison", "look": "deserve a look"}
CHECKS_SAY = (
    "bad: numbers on these data would mislead; look: know it before you read numbers; fine: as it should be. "
    "Copies are sessions with the same items in the same order."
)
REACH_SAYS = (
    "Systems that train no network, on the test targets. Last item: co-occurrence with the last item alone; "
    "item-kNN: with all items of the session; text neighbours: texts nearest to that of the last item. A "
    "trained system that is not above these has not learned what counting knows."
)
TEXT_SAYS = (
    "Text is worth its trouble where it finds what counting misses: on the left, where targets are rare or "
    "new. A second list of any kind finds something, so what popularity adds stands beside it."
)

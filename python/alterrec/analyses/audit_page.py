"""The result of an audit: the severity of each check, whether text can help, and the page that shows both."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

from alterrec.analyses.audit_records import SEVERITIES, Checks, Copies, Finding, Severity, severity_of
from alterrec.analyses.audit_repeats import KINDS, SPLITS, auto_rule, own_items_section, repeats_check
from alterrec.analyses.audit_texts import columns_check
from alterrec.analyses.audit_times import time_findings
from alterrec.analyses.run_sections import METRICS, few_targets_note
from alterrec.data.repeats import SeenItems
from alterrec.data.statistics import Statistics
from alterrec.errors import number_of
from alterrec.evaluation.sign_flips import Difference
from alterrec.metrics import DEFAULT_METRICS
from alterrec.report.figures.bars import WHISKERS, SystemBars, bars, system_panels
from alterrec.report.figures.distributions import CAPTION, PANELS, distributions
from alterrec.report.figures.groups import group_lines, view_panels
from alterrec.report.presentation import DataTable, Plot, Presentation, Report, Section
from alterrec.report.seen_items import RULES, columns_note, repeated_sentence, seen_tables
from alterrec.report.tables import (
    FIRST_ITEMS,
    HEADLINE,
    Table,
    count,
    listed,
    metric_table,
    percent,
    points,
)
from alterrec.results import Group, Metrics

Answer = Literal["yes", "perhaps", "no"]

EXAMPLES = 3  # sessions or texts shown as examples
# Limits of the checks, most as shares. Copies of 4 items or more are hardly chance: more of them than
# LONG_COPIES are a fault of the split.
LONG_COPIES, SHORT_COPIES = 0.01, 0.05
LATE = 0.01
UNSEEN = (0.001, 0.2)
TIED = 0.1
WITHOUT_TEXT = 0.5
DRIFT = (0.1, 0.3)
# A share of targets, or a gain, below which text adds practically nothing.
NEGLIGIBLE = 0.01
COLD_TARGETS = 0.01


@dataclass(frozen=True)
class TextBenefit:
    """What text neighbours find in addition to item-kNN, as shares of test targets (Hits@20).

    Attributes:
        items_with_text: share of items.
        both, text_alone, counted_alone: targets found by both, by text only, by item-kNN only.
        popular_alone: targets found by popularity but not by item-kNN: what any second list adds.
        cold, cold_with_text: targets that never occur in train; those of them that have a text.
        cold_found: share of cold targets that text finds.
        weight: weight of text in the sum with item-kNN, chosen on validation; 0 if it does not help there.
        gain: NDCG@20 of that sum minus that of item-kNN.
    """

    items_with_text: float
    both: float
    text_alone: float
    counted_alone: float
    popular_alone: float
    cold: float
    cold_with_text: float
    cold_found: float
    weight: float
    gain: Difference

    @property
    def ceiling(self) -> float:
        """Hits@20 of an oracle that picks the better of the two lists for every target."""
        return self.both + self.text_alone + self.counted_alone


@dataclass(frozen=True, repr=False)
class Audit(Report):
    """The audit of a data set: prints as tables, draws its figures, shows itself in a notebook.

    Attributes:
        groups: targets by popularity, with metrics of item-kNN (``neighbours``) and of ``text``.
        by_seen: system without training -> rule for the session's own items -> metrics on the test targets.
        text: None where the data has no text.
        seen: the rule that ``data.exclude_seen=auto`` comes to for last items.
        errors: system without training -> metric -> standard error over sessions.
    """

    name: str
    fingerprint: str
    statistics: Statistics
    checks: Checks
    groups: list[Group]
    by_seen: Mapping[str, Mapping[SeenItems, Metrics]]
    text: TextBenefit | None
    text_encoder: str
    seen: SeenItems
    notes: tuple[str, ...] = ()
    command: str = ""
    errors: Mapping[str, Metrics] = field(default_factory=dict)

    def brief(self) -> str:
        return f"{self.name}, {number_of(len(self.findings), 'finding')}; can text help: {self.answer[0]}"

    @property
    def baselines(self) -> dict[str, Metrics]:
        """Metrics of the systems without training, under the rule that follows for the data."""
        return {name: by_rule[self.seen] for name, by_rule in self.by_seen.items()}

    @property
    def findings(self) -> list[Finding]:
        """Every check with its severity, the worst first."""
        return check_findings(self.checks, self.statistics)

    @property
    def answer(self) -> tuple[Answer, str]:
        """Whether text can help here, and why."""
        return can_text_help(self.text, self.baselines)

    def to_dict(self) -> dict[str, Any]:
        """All numbers, for JSON."""
        answer, why = self.answer
        text = None if self.text is None else asdict(self.text) | {"ceiling": self.text.ceiling}
        return {
            "schema": 1,
            "data": self.name,
            "fingerprint": self.fingerprint,
            "can_text_help": {"answer": answer, "why": why},
            "findings": [finding.record() for finding in self.findings],
            "reach": self.baselines,
            "reach_by_seen": self.by_seen,
            "text": text,
            "checks": asdict(self.checks),
            "statistics": asdict(self.statistics),
            "seen": self.seen,
            "seen_by_targets": {kind: auto_rule(self.statistics, kind) for kind in KINDS},
        }

    def presentation(self) -> Presentation:
        """Whether text can help, the checks, the baselines, and how the data is distributed."""
        test = self.statistics.splits["test"]
        seen = f"{RULES[self.seen]} (rule: auto)"
        return Presentation(
            name="audit",
            title=f"Audit of {self.name}",
            meta=f"{count(test.last.count)} test targets, the last item of each session · {seen} · "
            f"text vectors: {self.text_encoder}",
            findings=[self.answer[1], self._summary()],
            leading=[self._advice_section()],
            caveats=self._caveats(),
            sections=[
                self._checks_section(),
                own_items_section(self.statistics),
                self._baselines_section(),
                *self._text_section(),
                Section(
                    "Session length and item popularity",
                    [
                        "All bars of lengths are equally wide. Items by number of interactions in train are "
                        "on logarithmic axes."
                    ],
                    {"distributions": Plot.of(distributions, PANELS, CAPTION, of=self.statistics)},
                ),
                *self._similar_texts_section(),
            ],
            command=self.command,
        )

    def _summary(self) -> str:
        found, rated = self.findings, []
        for severity in ("bad", "look"):
            names = [finding.check for finding in found if finding.severity == severity]
            rated += [f"rated {severity}: {listed(names)}"] if names else []
        if not rated:
            return f"All {len(found)} checks of the data are fine."
        return f"Some of the {len(found)} checks of the data are not fine ({'; '.join(rated)})."

    def _advice_section(self) -> Section:
        """Return what the owner of a shop asks: how often the next item can be found, and what to do next."""
        best = max(self.baselines, key=lambda name: self.baselines[name][HEADLINE])
        found = 100 * self.baselines[best][HEADLINE]
        bad = [finding for finding in self.findings if finding.severity == "bad"]
        steps = [f"Repair the data: {finding.check}: {finding.text}" for finding in bad]
        if self.text is not None and self.text.items_with_text < 1 - WITHOUT_TEXT:
            steps.append("Add texts: most items have none, and a new item is found by its text alone.")
        steps.append(
            "Train a system with `alterrec train --data ...`. Its page says how often it is right; this "
            f"should be clearly more often than in {found:.0f} of 100 visits."
        )
        notes = [
            f"Of 100 test visits, the item that came next is among the first {FIRST_ITEMS} recommendations "
            f"in {found:.0f} with the best ranking that needs no training, {best}; "
            f"{count(self.statistics.items)} items could have been recommended.",
            "What to do next:",
        ]
        return Section("What these data are good for", notes, steps=steps)

    def _caveats(self) -> list[str]:
        caveats = list(self.notes)
        test = self.statistics.splits["test"].last.count
        if test < 500:
            caveats.append(f"There are only {count(test)} test targets, so shares are uncertain.")
        if self.text is not None:
            caveats.append(
                "Text is measured by the nearest neighbours of the last item's vector. This is a lower "
                "bound: a trained text network uses more, and another encoder (--text-encoder) may be better."
            )
        return caveats

    def _checks_section(self) -> Section:
        found = self.findings
        rows = tuple((each.check, each.severity, each.text) for each in found)
        bad = frozenset(place for place, finding in enumerate(found) if finding.severity == "bad")
        labels: dict[str, str] = {severity: severity for severity in SEVERITIES}
        table = Table(("check", "grade", "result"), rows, prose=True, strong=bad, labels=labels)
        data = DataTable(table, [finding.record() for finding in found])
        return Section("Checks of the data", [CHECKS_NOTE], tables={"checks": data})

    def _baselines_section(self) -> Section:
        kinds = {"text neighbours": "text", "item-kNN + text": "score", "item-kNN": "neighbours"}
        systems = [
            SystemBars(
                name,
                {metric: [metrics[metric]] for metric in METRICS},
                kinds.get(name, "baseline"),
                bold=name == "item-kNN + text",
                errors=self.errors.get(name, {}),
            )
            for name, metrics in self.baselines.items()
        ]
        best = max(self.baselines, key=lambda name: self.baselines[name]["hits@20"])
        legend = {
            "item-kNN + text": "score",
            "item-kNN": "neighbours",
            "text alone": "text",
            "others": "baseline",
        }
        kinds_shown = {kinds.get(name, "baseline") for name in self.baselines}
        plot = Plot.of(
            bars,
            system_panels(systems, METRICS),
            f"Bars of Hits@20 and NDCG@20 for {len(systems)} systems without training; {best} is highest.",
            {name: colour for name, colour in legend.items() if colour in kinds_shown},
        )
        table = metric_table(self.baselines, DEFAULT_METRICS)
        data = DataTable(table, [{"system": name, **metrics} for name, metrics in self.baselines.items()])
        rows = {name: [by_rule] for name, by_rule in self.by_seen.items()}
        test = self.statistics.splits["test"].last
        repeated = repeated_sentence(round(test.repeated * test.count), test.count, "test")
        return Section(
            "Systems without training",
            [f"{BASELINES_NOTE} {WHISKERS}", f"{RULES[self.seen]}; {OTHER_RULES}"],
            {"reach": plot},
            {"reach": data, **seen_tables(rows, ["ndcg@20"])},
            [repeated, columns_note(rows)],
        )

    def _text_section(self) -> list[Section]:
        if self.text is None:
            return []
        text = self.text
        rows = (
            ("items with text", percent(text.items_with_text)),
            ("targets found by both", percent(text.both)),
            ("targets found by text only", percent(text.text_alone)),
            ("targets found by item-kNN only", percent(text.counted_alone)),
            ("found by at least one of them (oracle)", percent(text.ceiling)),
            ("for comparison: found by popularity but not by item-kNN", percent(text.popular_alone)),
            ("cold targets (never in train)", percent(text.cold)),
            ("cold targets with text", percent(text.cold_with_text)),
            ("cold targets found by text", percent(text.cold_found) if text.cold else "-"),
            ("weight of text in the sum, chosen on validation", f"{text.weight:g}"),
            (
                "NDCG@20 of the sum minus that of item-kNN, points",
                f"{100 * text.gain.mean:+.2f} [{100 * text.gain.low:+.2f}, {100 * text.gain.high:+.2f}]",
            ),
        )
        plot = Plot.of(
            group_lines,
            view_panels(self.groups, METRICS),
            "Metrics of item-kNN and of text neighbours by number of interactions of the target in train.",
            groups=self.groups,
        )
        notes = [" ".join([TEXT_NOTE, *few_targets_note(self.groups)])]
        data = DataTable(Table(("Hits@20, shares of test targets", ""), rows), [asdict(text)])
        return [Section("Can text help?", notes, {"text": plot}, {"text": data})]

    def _similar_texts_section(self) -> list[Section]:
        alike = self.checks.alike
        if alike is None or not (alike.groups or alike.near):
            return []
        rows = [("identical", f"{count(number)} items", text) for text, number in alike.groups]
        rows += [("one word differs", f"{len(texts)} items", " | ".join(texts)) for texts in alike.near]
        table = Table(("similarity", "items", "examples"), tuple(rows), prose=True)
        return [Section("Similar texts", tables={"alike": DataTable(table)}, folded=True)]


CHECKS_NOTE = (
    "Bad: results on this data would be misleading. Look: you should know this before you read results. "
    "Fine: nothing to do. A copy is a session with the same items in the same order."
)
BASELINES_NOTE = (
    "These systems train no network. Recent popularity counts the last days of training only. Last item uses "
    "co-occurrence with the last item only, and item-kNN with all items of the session. Co-visitation counts "
    "how near two items are in a session, and in which order. Text neighbours recommends the items whose "
    "texts are nearest to that of the last item. A trained system should be better than all of them."
)
OTHER_RULES = (
    "this is the rule of the figures and of the first table. The second table has NDCG@20 of the same scores "
    "under the other rules too."
)
TEXT_NOTE = (
    "Text is useful if it finds targets that co-occurrence misses, which are mostly rare or new ones (left). "
    "Any second list finds some further targets, so the table also shows how many popularity adds."
)


def check_findings(found: Checks, statistics: Statistics) -> list[Finding]:
    """Every check with its severity, the worst first."""
    findings = [
        *_copy_findings(found.copies),
        _order_finding(found, statistics),
        *(time_findings(found.times) if found.times else ()),
        *_target_findings(statistics),
        *_text_findings(found, statistics),
        *(
            Finding(
                severity_of(each.distance - each.expected, *DRIFT),
                f"drift to {SPLITS[each.split]}",
                "The Jensen-Shannon distance (0 to 1) of its item distribution from that of train is "
                f"{each.distance:.2f}; for as many random train sessions it is {each.expected:.2f}.",
            )
            for each in found.drift
        ),
    ]
    return sorted(findings, key=lambda finding: SEVERITIES.index(finding.severity))


def can_text_help(text: TextBenefit | None, baselines: Mapping[str, Metrics]) -> tuple[Answer, str]:
    """Answer and reason, from what was measured; a lower bound, as no text network was trained."""
    if text is None:
        return "no", "Can text help here? No: the data has no text."
    alone, popular = baselines["text neighbours"]["hits@20"], baselines["popularity"]["hits@20"]
    extra = text.text_alone - text.popular_alone
    found = (
        f"Text neighbours find {percent(alone)} of the targets; {percent(text.text_alone)} are targets that "
        f"item-kNN misses (popularity: {percent(text.popular_alone)}). An oracle that picks the better of "
        f"text and item-kNN for every target would reach {percent(text.ceiling)} instead of "
        f"{percent(baselines['item-kNN']['hits@20'])} (Hits@20)."
    )
    gain = (
        f"Adding text to item-kNN, without any training, changes NDCG@20 by {points(text.gain.mean)} points "
        f"[{points(text.gain.low)}, {points(text.gain.high)}]."
    )
    cold = (
        f"{percent(text.cold_with_text)} of the targets are cold and have a text, and text finds "
        f"{percent(text.cold_found)} of the cold ones."
    )
    if text.gain.mean > 0 and text.gain.p <= 0.05:
        return "yes", f"Can text help here? Yes. {gain} {found}"
    if text.cold_with_text >= COLD_TARGETS and text.cold_found > 2 * popular:
        return "yes", f"Can text help here? Yes, for items that do not occur in training. {cold} {gain}"
    if text.items_with_text < WITHOUT_TEXT:
        share = percent(text.items_with_text)
        return "no", f"Can text help here? Hardly. Only {share} of the items have a text. {found}"
    if extra < NEGLIGIBLE and text.gain.high < NEGLIGIBLE:
        reason = "Text adds no more targets to item-kNN than a list of popular items does."
        return "no", f"Can text help here? There is no sign of it. {found} {gain} {reason}"
    outlook = "This plain sum shows no gain, but a trained text network may do better."
    return "perhaps", f"Can text help here? Perhaps. {found} {gain} {outlook}"


def _copy_findings(found: Sequence[Copies]) -> list[Finding]:
    findings = []
    for each in found:
        long = each.long / max(each.sessions, 1) * each.share
        severity: Severity = "bad" if each.named or long > LONG_COPIES else "fine"
        if severity == "fine" and (each.long or each.share > SHORT_COPIES):
            severity = "look"
        earlier = SPLITS[each.earlier]
        text = f"{count(each.sessions)} sessions ({percent(each.share)}) also occur in {earlier}"
        if each.sessions:
            text += f", {count(each.long)} of them with 4 items or more"
        if each.named:
            text += f"; {count(each.named)} session ids occur in both"
        if each.examples and severity != "fine":
            text += f"; for example {', '.join(each.examples)}"
        findings.append(Finding(severity, f"copies of {earlier} in {SPLITS[each.later]}", f"{text}."))
    return findings


def _order_finding(found: Checks, statistics: Statistics) -> Finding:
    check = "order in time"
    if statistics.splits["train"].first_time is None:
        return Finding(
            "look", check, "There are no timestamps, so it is unknown whether the split is by time."
        )
    late = [each for each in found.order if each.ended]
    if not late:
        begun = sum(each.begun for each in found.order)
        overlap = f" {count(begun)} of them begin before training ends." if begun else ""
        return Finding("fine", check, f"All validation and test sessions end after training.{overlap}")
    sessions = " and ".join(
        f"{count(each.ended)} {SPLITS[each.split]} sessions ({percent(each.ended_share)})" for each in late
    )
    worst = max(each.ended_share for each in late)
    return Finding(
        "bad" if worst > LATE else "look",
        check,
        f"{sessions} end before training does, so training contains their future.",
    )


def _target_findings(statistics: Statistics) -> list[Finding]:
    test = statistics.splits["test"].last
    look, repeated = repeats_check(statistics)
    unseen = f"{percent(test.cold)} of the test targets never occur in train, so only text can rank them."
    return [
        Finding("look" if look else "fine", "repeated targets", repeated),
        Finding(severity_of(test.cold, *UNSEEN), "unseen targets", unseen),
    ]


def _text_findings(found: Checks, statistics: Statistics) -> list[Finding]:
    if found.alike is None or statistics.text is None:
        return [Finding("look", "texts", "The data has no texts.")]
    alike, share = found.alike, statistics.text.share
    similar = (
        f"{count(alike.identical)} items have the same text as another item, {count(alike.same_words)} the "
        f"same words, and {count(alike.one_word)} differ from another item in one word. "
        f"{percent(alike.targets)} of the test targets have the same text as another item, so their text "
        "scores tie."
    )
    ties: Severity = "bad" if alike.targets > TIED else "look" if alike.identical else "fine"
    missing = f"{percent(share)} of the items have a text, of {statistics.text.words:.1f} words on average."
    severity: Severity = "bad" if share < WITHOUT_TEXT else "look" if share < 0.99 else "fine"
    columns = columns_check(statistics, statistics.text)
    return [
        Finding(columns[0], "text columns", columns[1]),
        Finding(ties, "identical texts", similar),
        Finding(severity, "items without text", missing),
    ]

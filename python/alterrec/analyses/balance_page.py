"""The result of ``alterrec balance``: indicators of modality dominance, the verdict, and their page."""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, NamedTuple

from alterrec.data.repeats import SeenItems
from alterrec.metrics import metric_name
from alterrec.report.figures.bars import Bar, labelled_bars
from alterrec.report.figures.lines import epoch_lines
from alterrec.report.figures.style import Panel
from alterrec.report.presentation import DataTable, Plot, Presentation, Report, Section
from alterrec.report.seen_items import RULES as SEEN_RULES
from alterrec.report.seen_items import repeated_sentence
from alterrec.report.tables import Table, count, listed, mean_and_spread
from alterrec.report.training_curves import (
    BANDS,
    Measure,
    Member,
    best_epoch_table,
    exceeds_seed_noise,
    gradient,
    gradient_share,
    loss,
    metric_of,
    paired,
    panel,
    phases_of,
    points,
    ratios,
    trained_jointly,
)
from alterrec.results import Epoch

PARTS = {"id": "ID", "text": "text"}
# An indicator favours a part that leads by more than this.
LEAD = 0.2
FOUND_BY = ("both", "only ID", "only text", "neither")
NAMES = {"id": "ID inside", "text": "text inside", "score": "the score", "chooser": "oracle"}
Dominance = Literal["id", "text", "neither", "not shown"]

RULES = (
    f"An indicator favours a part that leads by more than {100 * LEAD:.0f} points and by more than the "
    "deviation over seeds. If at least two indicators favour one part and none favours the other, that part "
    "dominates. If no indicator favours a part, neither dominates. In all other cases dominance is not shown."
)
PROGRESS_NOTE = (
    "Progress of loss: how far the training loss has fallen from that of uniform guessing, which is the "
    "logarithm of the number of items."
)
SHARED_GRADIENT_NOTE = (
    "Share of gradient: the share of the gradient norm that the common loss sends to the ID and to the text "
    "columns of the item table, averaged over the epochs up to the best one."
)
NO_SHARED_GRADIENT_NOTE = (
    "ID and text are trained separately here, each by its own loss, so they share no gradient. In shaded "
    "epochs, the network of that colour is trained and the other one does not change."
)
CURVES_NOTE = (
    "Loss: cross-entropy over the whole catalogue on a fixed sample of training prefixes, without dropout. "
    "Gradient: its norm over the columns of the item table that belong to a part. Dashed: trained alone."
)
FOUND_NOTE = (
    "A part finds a target if it ranks it among its first 20 items. Tied items are taken in every order with "
    "equal probability, independently for the two parts. Full colour: targets that the score finds as well; "
    "pale: targets that it misses."
)
ORACLE_NOTE = (
    "An oracle takes the ranking of the better part for every target. It cannot be built, because the better "
    "part is not known in advance, but it bounds every method that switches between the parts. A sum of "
    "scores may exceed it where both parts rank an item fairly high."
)


class Indicator(NamedTuple):
    """A measure of both parts that is higher for the part that has learned more.

    Attributes:
        name: displayed name.
        id, text: seed -> value.
    """

    name: str
    id: Mapping[int, float]
    text: Mapping[int, float]

    @property
    def favours(self) -> Literal["id", "text", ""]:
        """The part that leads by more than ``LEAD`` and by more than the noise of seeds, or an empty string.

        Example:
            >>> Indicator("metric", {0: 0.9, 1: 1.0}, {0: 0.3, 1: 0.2}).favours
            'id'
            >>> Indicator("metric", {0: 0.5}, {0: 0.6}).favours
            ''
        """
        gaps = paired(self.id, self.text)
        if not gaps or abs(statistics.fmean(gaps)) <= LEAD:
            return ""
        if len(gaps) > 1 and not exceeds_seed_noise(gaps):
            return ""
        return "id" if statistics.fmean(gaps) > 0 else "text"


class Overlap(NamedTuple):
    """How many test targets of a run both parts, one of them or neither finds, in the order of ``FOUND_BY``.

    Attributes:
        shares: share of all targets.
        kept: share of these that the score finds as well; None where there are none.
    """

    shares: tuple[float, ...]
    kept: tuple[float | None, ...]


@dataclass(frozen=True, repr=False)
class Balance(Report):
    """Modality dominance in runs of one recipe: prints as tables, draws figures, shows in a notebook.

    Attributes:
        model, data: names of the system and of the data set.
        items: size of the catalogue.
        targets: number of test targets.
        seen: rule for items already in the session.
        repeated: number of test targets that repeat an item of their session; None in runs of earlier
            versions.
        metric: the metric that compares the parts.
        members: the whole model, its parts, and each part trained alone where such runs were given.
        found: seed -> which test targets the parts find.
        chooser: metric -> ``id``, ``text``, ``score`` or ``chooser`` (an oracle) -> seed -> test value.
        folder: default folder of the page, inside the first run's folder.
        caveats: what to keep in mind, one sentence each.
        command: the command that makes the analysis.
    """

    model: str
    data: str
    items: int
    targets: int
    seen: SeenItems
    repeated: int | None
    metric: str
    members: Sequence[Member]
    found: Mapping[int, Overlap]
    chooser: Mapping[str, Mapping[str, Mapping[int, float]]]
    folder: Path
    caveats: Sequence[str] = ()
    command: str = ""

    def brief(self) -> str:
        return f"{self.model} on {self.data}, seeds {', '.join(map(str, self.found))}"

    def inside(self, part: str) -> Member:
        """The whole model (``score``) or a part of it."""
        return next(member for member in self.members if member.part == part and not member.alone)

    def alone(self, part: str) -> Member | None:
        """A part trained alone, or None if no such runs were given."""
        return next((member for member in self.members if member.part == part and member.alone), None)

    @property
    def has_parts_alone(self) -> bool:
        """Whether runs of both parts alone were given."""
        return all(self.alone(part) is not None for part in PARTS)

    def indicators(self) -> list[Indicator]:
        """Share of gradient, progress of loss and metric of both parts, as far as the runs have them.

        The share of gradient exists only if one loss trains both parts. Loss and metric are relative to what
        the part reaches alone if runs of both parts alone were given, else to what the whole model reaches.
        """
        start = math.log(self.items)

        def progress(epoch: Epoch, view: str) -> float | None:
            nats = loss(epoch, view)
            return None if nats is None else start - nats

        indicators = []
        if trained_jointly(self.inside("score").curves):
            shares = [self.inside(part).until_best(gradient_share) for part in PARTS]
            indicators.append(Indicator("share of gradient", *shares))
        reference = "the part alone" if self.has_parts_alone else "the whole model"
        indicators.append(Indicator(f"progress of loss, relative to {reference}", *self._relative(progress)))
        name = f"{metric_name(self.metric)}, relative to {reference}"
        indicators.append(Indicator(name, *self._relative(metric_of(self.metric))))
        return [indicator for indicator in indicators if indicator.id and indicator.text]

    def verdict(self) -> Dominance:
        """The dominant part: two or more indicators favour it, and none favours the other part.

        ``neither`` if no indicator favours a part; ``not shown`` in all other cases.
        """
        favoured = [indicator.favours for indicator in self.indicators() if indicator.favours]
        if not favoured:
            return "neither"
        return favoured[0] if len(favoured) > 1 and len(set(favoured)) == 1 else "not shown"

    def _relative(self, measure: Measure) -> list[dict[int, float]]:
        """Each part at its best epoch, as a share of its mean alone or of the whole model of the same run."""
        shares = []
        for part in PARTS:
            own = self.inside(part).at_best(measure)
            alone = self.alone(part) if self.has_parts_alone else None
            reference = (alone or self.inside("score")).at_best(measure)
            if alone is not None and reference:
                reference = dict.fromkeys(own, statistics.fmean(reference.values()))
            shares.append(ratios(own, reference))
        return shares

    def to_dict(self) -> dict[str, Any]:
        """All numbers, for JSON."""
        return {
            "schema": 1,
            "model": self.model,
            "data": self.data,
            "items": self.items,
            "targets": self.targets,
            "seen": self.seen,
            "repeated": self.repeated,
            "metric": self.metric,
            "verdict": self.verdict(),
            "signs": [{**each._asdict(), "speaks_for": each.favours} for each in self.indicators()],
            "parts": list(best_epoch_table(self.members, self.metric).records),
            "found": {
                seed: {
                    which: {"share": share, "kept": kept}
                    for which, share, kept in zip(FOUND_BY, *each, strict=True)
                }
                for seed, each in self.found.items()
            },
            "chooser": self.chooser,
            "epochs": {member.label: self._epochs(member) for member in self.members},
            "doubts": list(self.caveats),
        }

    def _epochs(self, member: Member) -> dict[int, list[dict[str, float | None]]]:
        measures = {self.metric: metric_of(self.metric), "loss": loss, "gradient": gradient}
        return {
            curve.seed: [
                {name: measure(epoch, member.view) for name, measure in measures.items()}
                for epoch in curve.epochs
            ]
            for curve in member.curves
        }

    def presentation(self) -> Presentation:
        """The verdict and its indicators, training curves, targets found by each part, and an oracle."""
        curves = self.inside("score").curves
        gradient_note = SHARED_GRADIENT_NOTE if trained_jointly(curves) else NO_SHARED_GRADIENT_NOTE
        return Presentation(
            name="balance",
            title=f"Balance of ID and text in {self.model} on {self.data}",
            meta=f"{count(self.items)} items, {count(self.targets)} test targets · seeds: {len(curves)}",
            findings=[self._verdict_sentence(), *self._found_sentence(), *self._oracle_sentence()],
            caveats=self.caveats,
            sections=[
                Section(
                    "Modality dominance",
                    [RULES, gradient_note, PROGRESS_NOTE],
                    tables={"signs": self.indicator_table()},
                ),
                Section("Training curves", [BANDS, CURVES_NOTE], self._curves_plot()),
                Section("At the best epoch", tables={"parts": best_epoch_table(self.members, self.metric)}),
                Section(
                    "Targets found by each part",
                    [FOUND_NOTE, self._seen_note(), ORACLE_NOTE],
                    self._found_plot(),
                    {"found": self._found_table(), "chooser": self._oracle_table()},
                ),
            ],
            command=self.command,
        )

    def _seen_note(self) -> str:
        """Return the rule of all metrics of the page for items already in the session."""
        repeated = repeated_sentence(self.repeated, self.targets, "test")
        return f"{SEEN_RULES[self.seen]}; this holds for all metrics of this page. {repeated}".strip()

    def _verdict_sentence(self) -> str:
        verdicts = {
            "id": f"ID dominates text in {self.model}.",
            "text": f"Text dominates ID in {self.model}.",
            "neither": f"Neither modality dominates in {self.model}.",
            "not shown": f"The runs do not show that one modality dominates in {self.model}.",
        }
        indicators = [
            f"{each.name}: ID {_percent(each.id)}, text {_percent(each.text)}" for each in self.indicators()
        ]
        numbers = f" Indicators: {'; '.join(indicators)}." if indicators else ""
        weak = " Without runs of each part alone, a weak part cannot be told from a suppressed one."
        return f"{verdicts[self.verdict()]}{numbers}{'' if self.has_parts_alone else weak}"

    def _found_sentence(self) -> Iterator[str]:
        if not self.found:
            return
        shares = [statistics.fmean(self._shares(place)) for place in range(len(FOUND_BY))]
        kept = [_mean(self._kept(place)) for place in range(len(FOUND_BY))]
        others = [
            f"{who} finds {100 * share:.1f}%" for who, share in zip(FOUND_BY[1:], shares[1:], strict=True)
        ]
        found = [
            f"{100 * value:.0f}% of those that {who} finds"
            for who, value in zip(FOUND_BY[1:3], kept[1:3], strict=True)
            if value is not None
        ]
        yield (
            f"Both parts find {100 * shares[0]:.1f}% of the {count(self.targets)} test targets among their "
            f"first 20 items, {listed(others)}." + (f" The score finds {listed(found)}." if found else "")
        )

    def _oracle_sentence(self) -> Iterator[str]:
        values = self.chooser.get(self.metric, {})
        if not values:
            return
        oracle, score = values["chooser"], values["score"]
        gap = [score[seed] - oracle[seed] for seed in score]
        reached = mean_and_spread([*oracle.values()])
        yield (
            f"An oracle that picks the better part for every target would reach a test "
            f"{metric_name(self.metric)} of {reached}. The score reaches "
            f"{mean_and_spread([*score.values()])}, a difference of {points(gap)}."
        )

    def indicator_table(self) -> DataTable:
        """Each indicator, its values of both parts, and the part that it favours."""
        rows, records = [], []
        for each in self.indicators():
            favours = PARTS.get(each.favours, "neither")
            rows.append((each.name, _percent(each.id), _percent(each.text), favours))
            means = {"id": _mean([*each.id.values()]), "text": _mean([*each.text.values()])}
            records.append({"sign": each.name, **means, "speaks_for": favours})
        return DataTable(Table(("indicator", "ID", "text", "favours"), tuple(rows)), records)

    def _curves_plot(self) -> dict[str, Plot]:
        phases = phases_of(self.inside("score").curves)
        parts = [self.inside(part) for part in PARTS]
        panels = [
            *panel(f"{metric_name(self.metric)} on validation", self.members, metric_of(self.metric)),
            *panel("Training loss (nats)", self.members, loss, "nats"),
            *panel("Gradient norm", parts, gradient, "norm"),
        ]
        if not panels:
            return {}
        titles, labels = [each.title for each in panels], [each.label for each in self.members]
        caption = f"{listed(titles)} by epoch of {listed(labels)}."
        return {"curves": Plot.of(epoch_lines, panels, caption, phases=phases)}

    def _found_plot(self) -> dict[str, Plot]:
        if not self.found:
            return {}
        colours = ("fused", "id", "text", "other")
        found = [self._found_bar(place, colour) for place, colour in enumerate(colours)]
        views = {"id": "id", "text": "text", "score": "score", "chooser": "other"}
        reached = {view: [*self.chooser[self.metric][view].values()] for view in views}
        levels = [
            Bar(f"{NAMES[view]}: {mean_and_spread(values)}", values, colour, bold=colour == "score")
            for (view, colour), values in zip(views.items(), reached.values(), strict=True)
        ]
        name = metric_name(self.metric)
        panels = [Panel("Test targets found by ...", found), Panel(f"{name} on test", levels)]
        caption = f"Bars of test targets that both parts, one or neither finds; and bars of {name}."
        return {"found": Plot.of(labelled_bars, panels, caption)}

    def _found_bar(self, place: int, colour: str) -> Bar:
        shares, kept = self._shares(place), self._kept(place)
        also = f", the score finds {100 * statistics.fmean(kept):.0f}% of these" if kept else ""
        mean = statistics.fmean(shares)
        return Bar(
            f"{FOUND_BY[place]}: {100 * mean:.1f}%{also}",
            shares,
            colour,
            solid=statistics.fmean(
                each.shares[place] * (each.kept[place] or 0.0) for each in self.found.values()
            ),
            error=math.sqrt(mean * (1 - mean) / max(self.targets, 1)),
        )

    def _shares(self, place: int) -> list[float]:
        return [each.shares[place] for each in self.found.values()]

    def _kept(self, place: int) -> list[float]:
        return [value for each in self.found.values() if (value := each.kept[place]) is not None]

    def _found_table(self) -> DataTable:
        rows, records = [], []
        for place, who in enumerate(FOUND_BY):
            shares, kept = self._shares(place), self._kept(place)
            if shares:
                rows.append((who, mean_and_spread(shares), mean_and_spread(kept) if kept else "-"))
                records.append({"found_by": who, "share": _mean(shares), "score_finds": _mean(kept)})
        columns = ("found by", "share of targets", "of these, found by the score")
        return DataTable(Table(columns, tuple(rows)), records)

    def _oracle_table(self) -> DataTable:
        """Each part, the score and an oracle in every metric."""
        rows, records = [], []
        for view, name in NAMES.items():
            columns = {
                metric: [*values[view].values()] for metric, values in self.chooser.items() if view in values
            }
            if columns:
                rows.append((name, *(mean_and_spread(values, 2, "") for values in columns.values())))
                means = {metric: _mean(values) for metric, values in columns.items()}
                records.append({"of": view, **means})
        strong = frozenset({2}) if len(rows) > 2 else frozenset()
        return DataTable(Table(("", *map(metric_name, self.chooser)), tuple(rows), strong=strong), records)


def _percent(by_seed: Mapping[int, float]) -> str:
    return mean_and_spread([*by_seed.values()], 0)


def _mean(values: Sequence[float]) -> float | None:
    return statistics.fmean(values) if values else None

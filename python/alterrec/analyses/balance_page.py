"""The page of `alterrec balance`: who drowns whom, curves, what each part finds, a perfect chooser."""

from __future__ import annotations

import statistics
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from alterrec.analyses.balance_report import LEAD, PARTS, WHO, BalanceFacts, Sign
from alterrec.report.figures.bars import Bar, labelled_bars
from alterrec.report.figures.lines import epoch_lines
from alterrec.report.figures.style import Panel
from alterrec.report.presentation import DataTable, Plot, Presentation, Section
from alterrec.report.tables import Table, count, listed, mean_and_spread, metric_name
from alterrec.report.training_curves import (
    BANDS,
    best_epoch_table,
    gradient,
    loss,
    metric_of,
    panel,
    phases_of,
    points,
    trained_jointly,
)

RULES = (
    f"A sign speaks for a part that is ahead by more than {100 * LEAD:.0f} points and by more than its "
    "deviation over seeds. Two signs or more for one part and none for the other: it drowns the other. No "
    "sign: neither does. Anything else: neither is shown to."
)
PROGRESS_SAYS = (
    "Progress of loss: how far it has come down from that of guessing, the logarithm of the number of items."
)
GRADIENT_SAYS = (
    "Share of gradient: of the norms that the one loss sends to the columns of ID and of text in the item "
    "table, mean over epochs up to the best."
)
APART_SAYS = (
    "ID and text are trained apart here, each by its own loss: no gradient is shared. Shaded "
    "epochs train the network of that colour while the other rests."
)
CURVES_SAY = (
    "Loss: cross-entropy over the whole catalogue on one sample of training prefixes, without dropout. "
    "Gradient: its norm over the columns of the item table that a part scores by. Dashed: trained alone."
)
FOUND_SAYS = (
    "A part finds a target that it ranks among its first 20 items. Where items tie, each order is equally "
    "likely, and the orders of the two parts are taken as independent. Full colour: what the score finds, "
    "too; pale: what it misses."
)
CHOOSER_SAYS = (
    "A perfect chooser takes for each target the part that ranks it higher, which nobody can "
    "know beforehand: it bounds what switching between the parts can reach. A sum may pass it where both "
    "parts rank an item fairly high."
)
NAMES = {"id": "ID inside", "text": "text inside", "score": "the score", "chooser": "perfect chooser"}


def balance_page(facts: BalanceFacts) -> Presentation:
    """Everything that is known of the balance of ID and text."""
    together = trained_jointly(facts.inside("score").curves)
    says = [RULES, GRADIENT_SAYS if together else APART_SAYS, PROGRESS_SAYS]
    seeds = len(facts.inside("score").curves)
    return Presentation(
        name="balance",
        title=f"Balance of ID and text in {facts.model} on {facts.data}",
        meta=f"{count(facts.items)} items, {count(facts.targets)} test targets · seeds: {seeds}",
        findings=findings(facts),
        caveats=facts.caveats,
        sections=[
            Section("Who drowns whom", says, tables={"signs": signs_data(facts)}),
            Section("By epoch", [BANDS, CURVES_SAY], curves_plot(facts)),
            Section("At the best epoch", tables={"parts": best_epoch_table(facts.members, facts.metric)}),
            Section(
                "What each part finds, and a perfect chooser",
                [FOUND_SAYS, CHOOSER_SAYS],
                found_plot(facts),
                {"found": found_data(facts), "chooser": chooser_data(facts)},
            ),
        ],
        command=facts.command,
    )


def findings(facts: BalanceFacts) -> list[str]:
    """The verdict with its signs, what each part finds, and how far the score is from a perfect chooser."""
    return [verdict(facts), *_found(facts), *_chooser(facts)]


def verdict(facts: BalanceFacts) -> str:
    """Who drowns whom, in a plain sentence."""
    leads = {
        "id": f"ID drowns text in {facts.model}",
        "text": f"Text drowns ID in {facts.model}",
        "neither": f"Neither part drowns the other in {facts.model}",
        "not shown": f"Neither part is shown to drown the other in {facts.model}",
    }
    signs = [f"{sign.name} {_both(sign)}" for sign in facts.signs()]
    said = f" Signs: {'; '.join(signs)}." if signs else ""
    weak = (
        "" if facts.alone_known else " Without runs of each part alone, a weak part looks like a drowned one."
    )
    return f"{leads[facts.verdict()]}.{said}{weak}"


def _both(sign: Sign) -> str:
    return f"ID {_share(sign.id)}, text {_share(sign.text)}"


def _share(by_seed: Mapping[int, float]) -> str:
    return mean_and_spread([*by_seed.values()], 0)


def _found(facts: BalanceFacts) -> Iterator[str]:
    if not facts.found:
        return
    shares = [
        statistics.fmean(each.shares[place] for each in facts.found.values()) for place in range(len(WHO))
    ]
    kept = [_mean([each.kept[place] for each in facts.found.values()]) for place in range(len(WHO))]
    said = [f"{who} {100 * share:.1f}%" for who, share in zip(WHO[1:], shares[1:], strict=True)]
    missed = [
        f"{100 * value:.0f}% of those that {who} finds"
        for who, value in zip(WHO[1:3], kept[1:3], strict=True)
        if value is not None
    ]
    yield (
        f"Of {count(facts.targets)} test targets both parts find {100 * shares[0]:.1f}% among their first 20 "
        f"items, {', '.join(said)}." + (f" The score finds {listed(missed)}." if missed else "")
    )


def _chooser(facts: BalanceFacts) -> Iterator[str]:
    values = facts.chooser.get(facts.metric, {})
    if not values:
        return
    best, score = values["chooser"], values["score"]
    gap = [score[seed] - best[seed] for seed in score]
    yield (
        f"A perfect chooser between the two would reach {mean_and_spread([*best.values()])} test "
        f"{metric_name(facts.metric)}, the score reaches {mean_and_spread([*score.values()])}: {points(gap)}."
    )


def _mean(values: Sequence[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return statistics.fmean(known) if known else None


def signs_data(facts: BalanceFacts) -> DataTable:
    """Each sign, its value of both parts, and for whom it speaks."""
    rows, records = [], []
    for sign in facts.signs():
        speaks = PARTS.get(sign.speaks_for, "neither")
        rows.append((sign.name, _share(sign.id), _share(sign.text), speaks))
        records.append(
            {
                "sign": sign.name,
                "id": _mean([*sign.id.values()]),
                "text": _mean([*sign.text.values()]),
                "speaks_for": speaks,
            }
        )
    return DataTable(Table(("sign", "ID", "text", "speaks for"), tuple(rows)), records)


def curves_plot(facts: BalanceFacts) -> dict[str, Plot]:
    """Metric, loss and gradient by epoch."""
    phases = phases_of(facts.inside("score").curves)
    parts = [facts.inside(part) for part in PARTS]
    panels = [
        *panel(f"{metric_name(facts.metric)} on validation", facts.members, metric_of(facts.metric)),
        *panel("Training loss (nats)", facts.members, loss, "nats"),
        *panel("Gradient norm", parts, gradient, "norm"),
    ]
    if not panels:
        return {}
    titles, labels = [each.title for each in panels], [each.label for each in facts.members]
    says = f"{listed(titles)} by epoch of {listed(labels)}."
    return {"curves": Plot.of(epoch_lines, panels, says, phases=phases)}


def found_plot(facts: BalanceFacts) -> dict[str, Plot]:
    """What both parts, one of them or neither find, and what a perfect chooser between them reaches."""
    if not facts.found:
        return {}
    found = [
        Bar(
            _bar_words(who, [each.shares[place] for each in facts.found.values()], _kept(facts, place)),
            [each.shares[place] for each in facts.found.values()],
            view,
            solid=statistics.fmean(
                each.shares[place] * (each.kept[place] or 0.0) for each in facts.found.values()
            ),
        )
        for place, (who, view) in enumerate(zip(WHO, ("fused", "id", "text", "other"), strict=True))
    ]
    views = {"id": "id", "text": "text", "score": "score", "chooser": "other"}
    reached = {view: [*facts.chooser[facts.metric][view].values()] for view in views}
    levels = [
        Bar(f"{NAMES[view]}: {mean_and_spread(values)}", values, colour, bold=colour == "score")
        for (view, colour), values in zip(views.items(), reached.values(), strict=True)
    ]
    name = metric_name(facts.metric)
    panels = [Panel("Test targets found by ...", found), Panel(f"{name} on test", levels)]
    says = f"Bars of test targets that both parts, one or neither find; and bars of {name}."
    return {"found": Plot.of(labelled_bars, panels, says)}


def _bar_words(who: str, shares: Sequence[float], kept: Sequence[float]) -> str:
    these = f", the score finds {100 * statistics.fmean(kept):.0f}% of these" if kept else ""
    return f"{who}: {100 * statistics.fmean(shares):.1f}%{these}"


def _kept(facts: BalanceFacts, place: int) -> list[float]:
    return [value for each in facts.found.values() if (value := each.kept[place]) is not None]


def found_data(facts: BalanceFacts) -> DataTable:
    """The same as numbers."""
    rows, records = [], []
    for place, who in enumerate(WHO):
        shares = [each.shares[place] for each in facts.found.values()]
        kept = _kept(facts, place)
        if shares:
            rows.append((who, mean_and_spread(shares), mean_and_spread(kept) if kept else "-"))
            records.append({"found_by": who, "share": _mean(shares), "score_finds": _mean(kept)})
    return DataTable(Table(("found by", "of all targets", "the score finds of these"), tuple(rows)), records)


def chooser_data(facts: BalanceFacts) -> DataTable:
    """Each part, the score and a perfect chooser in every metric."""
    rows, records = [], []
    for view, name in NAMES.items():
        columns = {
            metric: [*values[view].values()] for metric, values in facts.chooser.items() if view in values
        }
        if columns:
            rows.append((name, *(mean_and_spread(values, 2, "") for values in columns.values())))
            record: dict[str, Any] = {"of": view}
            records.append(record | {metric: _mean(values) for metric, values in columns.items()})
    names = map(metric_name, facts.chooser)
    return DataTable(
        Table(("", *names), tuple(rows), strong=frozenset({2}) if len(rows) > 2 else frozenset()), records
    )

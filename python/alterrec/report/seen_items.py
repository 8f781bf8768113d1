"""Sentences and tables about the items of a prefix (seen items) as candidates."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence

from alterrec.data.repeats import SeenItems
from alterrec.metrics import metric_name
from alterrec.report.presentation import DataTable
from alterrec.report.tables import VIEW_NAMES, Table, count, listed, mean_and_spread, percent, points
from alterrec.results import DataSummary, RepeatSummary

TITLE = "The session's own items"
RULES: dict[SeenItems, str] = {
    "kept": "Items already in the session are candidates",
    "excluded": "Items already in the session are not candidates, and a target that repeats one counts as "
    "not found",
    "repeats": "Items already in the session are candidates with the counted probability of a repeat",
}
CONDITIONS: dict[SeenItems, str] = {
    "kept": "if the session's own items are candidates",
    "excluded": "if they are not",
    "repeats": "with the counted probability of a repeat",
}
COLUMNS_NOTE = (
    "kept: the items of the session are candidates. excluded: they are not. difference: excluded minus kept, "
    "in percentage points."
)
REPEATS_COLUMN = " repeats: they are candidates with the counted probability of a repeat."
REPEATS_NOTE = (
    "The target repeats an item of the session with a probability that was counted on training and "
    "validation sessions, by the number of items in the session. The items of the session share this "
    "probability in proportion to their weights, which depend on how many places before the end of the "
    "session an item last occurred; all other items share the rest by their scores."
)
SCALES_NOTE = (
    "Scores are divided by the temperature before they become probabilities. An affinity above 0 means that "
    "the scores of the session's own items also count in how they share their probability."
)

# Rule for seen items -> metric -> value.
ByRule = Mapping[SeenItems, Mapping[str, float]]


def rows_by_view(
    by_rule: Mapping[SeenItems, Mapping[str, Mapping[str, float]]], views: Sequence[str] = ()
) -> dict[str, list[ByRule]]:
    """Return the rows of :func:`seen_tables` for the views of a run.

    Args:
        by_rule: rule -> view -> metrics.
        views: the views to show, default all.

    Example:
        >>> rows_by_view({"kept": {"id": {"mrr": 0.1}}, "excluded": {"id": {"mrr": 0.2}}})
        {'ID alone': [{'kept': {'mrr': 0.1}, 'excluded': {'mrr': 0.2}}]}
    """
    known = dict.fromkeys(view for metrics in by_rule.values() for view in metrics)
    return {
        VIEW_NAMES.get(view, view): [
            {rule: metrics[view] for rule, metrics in by_rule.items() if metrics.get(view)}
        ]
        for view in views or known
        if view in known
    }


def seen_sentence(data: DataSummary) -> str:
    """Return how the items of a prefix were ranked, as a sentence.

    Example:
        >>> seen_sentence(DataSummary("mine", "", 10, seen="kept", seen_rule="never"))
        'Items already in the session are candidates (data.exclude_seen = never).'
    """
    rule = f" (data.exclude_seen = {data.seen_rule})" if data.seen_rule else ""
    return f"{RULES[data.seen]}{rule}."


def repeated_sentence(repeated: int | None, targets: int, split: str) -> str:
    """Return how many targets repeat an item of their session; empty if it was not counted.

    Args:
        repeated: number of targets that repeat one, None in runs of earlier versions.
        targets: number of all targets.
        split: name of the split in the sentence, such as ``test``.

    Example:
        >>> repeated_sentence(5, 200, "test")[:60]
        '5 of 200 test targets (2.5%) repeat an item of their session'
        >>> repeated_sentence(0, 200, "test")
        'No test target repeats an item of its session.'
    """
    if repeated is None:
        return ""
    if not repeated:
        return f"No {split} target repeats an item of its session."
    verb = "repeats an item of its" if repeated == 1 else "repeat an item of their"
    share = percent(repeated / targets)
    return (
        f"{count(repeated)} of {count(targets)} {split} targets ({share}) {verb} session. "
        "Where the items of the session are not candidates, these targets count as not found."
    )


def cost_sentence(by_rule: ByRule, metric: str, name: str = "the final score") -> str:
    """Return a metric under every rule for seen items, as a sentence; empty if it is not known.

    Example:
        >>> print(cost_sentence({"kept": {"mrr": 0.17}, "excluded": {"mrr": 0.2}}, "mrr", "core"))
        MRR of core is 17.0% if the session's own items are candidates and 20.0% if they are not.
    """
    values = [
        f"{percent(by_rule[rule][metric])} {condition}"
        for rule, condition in CONDITIONS.items()
        if metric in by_rule.get(rule, {})
    ]
    return f"{metric_name(metric)} of {name} is {listed(values)}." if len(values) > 1 else ""


def seen_tables(
    rows: Mapping[str, Sequence[ByRule]],
    metrics: Sequence[str] = ("hits@20", "ndcg@20"),
    *,
    strong: Sequence[str] = (),
) -> dict[str, DataTable]:
    """Return a table for each metric: every system with the session's own items as candidates and without.

    Args:
        rows: name of a system or view -> its metrics by rule, for each of its seeds. Runs of earlier versions
            have none and are shown as dashes.
        metrics: the metrics to show.
        strong: names of the rows to emphasise.

    Returns:
        Name of the file -> table; empty if no row has a number.

    Example:
        >>> rows = {"final score": [{"kept": {"ndcg@20": 0.17}, "excluded": {"ndcg@20": 0.201}}]}
        >>> (table,) = seen_tables(rows).values()
        >>> from alterrec.report.plain import show
        >>> show(table.table)
        NDCG@20 by rule for the session's own items
        system        kept  excluded  difference
        -----------  -----  --------  ----------
        final score  17.0%     20.1%        +3.1
    """
    return {
        f"seen_items_{metric.replace('@', '')}": _seen_table(rows, metric, strong)
        for metric in metrics
        if any(metric in by_rule.get("kept", {}) for seeds in rows.values() for by_rule in seeds)
    }


def _seen_table(rows: Mapping[str, Sequence[ByRule]], metric: str, strong: Sequence[str]) -> DataTable:
    known = {rule for seeds in rows.values() for by_rule in seeds for rule in by_rule}
    rules = [rule for rule in RULES if rule in known]
    cells, records = [], []
    for name, seeds in rows.items():
        values = {
            rule: [each[rule][metric] for each in seeds if metric in each.get(rule, {})] for rule in rules
        }
        paired = zip(values["excluded"], values["kept"], strict=True)
        differences = [excluded - kept for excluded, kept in paired]
        kept, excluded, *repeats = (mean_and_spread(own) if own else "-" for own in values.values())
        difference = points(statistics.fmean(differences)) if differences else "-"
        cells.append((name, kept, excluded, difference, *repeats))
        records += [
            {
                "system": name,
                "seen": rule,
                "metric": metric,
                "seeds": len(own),
                "mean": statistics.fmean(own),
                "seed_sd": statistics.stdev(own) if len(own) > 1 else None,
            }
            for rule, own in values.items()
            if own
        ]
    table = Table(
        ("system", "kept", "excluded", "difference", *rules[2:]),
        tuple(cells),
        title=f"{metric_name(metric)} by rule for the session's own items",
        strong=frozenset(place for place, name in enumerate(rows) if name in strong),
    )
    return DataTable(table, records)


def columns_note(rows: Mapping[str, Sequence[ByRule]]) -> str:
    """Return what the columns of :func:`seen_tables` mean.

    Example:
        >>> columns_note({"core": [{"kept": {}, "excluded": {}}]})[:54]
        'kept: the items of the session are candidates. exclude'
    """
    used = any("repeats" in by_rule for seeds in rows.values() for by_rule in seeds)
    return COLUMNS_NOTE + (REPEATS_COLUMN if used else "")


def repeat_tables(repeats: RepeatSummary) -> dict[str, DataTable]:
    """Return the tables of a repeat component: rates by length, weights by distance, scales by view.

    Example:
        >>> summary = RepeatSummary({"1": 0.1}, {"1": 1.0}, {"score": {"temperature": 2.0, "affinity": 0.0}})
        >>> [table.table.rows for table in repeat_tables(summary).values()]
        [(('1', '10.00%'),), (('1', '1.00'),), (('final score', '2', '0'),)]
    """
    rates = tuple((name, f"{100 * rate:.2f}%") for name, rate in repeats.rates.items())
    weights = tuple((name, f"{weight:.2f}") for name, weight in repeats.weights.items())
    scales = tuple(
        (VIEW_NAMES.get(view, view), f"{scale['temperature']:.3g}", f"{scale['affinity']:.3g}")
        for view, scale in repeats.scales.items()
    )
    tables = {
        "repeat_rates": Table(("items in the session", "probability of a repeat"), rates),
        "repeat_weights": Table(("places before the end", "weight relative to the last item"), weights),
        "repeat_scales": Table(("scores", "temperature", "affinity"), scales),
    }
    records = {
        "repeat_rates": [{"length": name, "probability": rate} for name, rate in repeats.rates.items()],
        "repeat_weights": [{"distance": name, "weight": weight} for name, weight in repeats.weights.items()],
        "repeat_scales": [{"view": view, **scale} for view, scale in repeats.scales.items()],
    }
    return {name: DataTable(table, records[name]) for name, table in tables.items() if table.rows}

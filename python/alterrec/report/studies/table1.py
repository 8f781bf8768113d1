"""Table 1 of the paper: every system under one protocol, in words, as tables and as a picture."""

from __future__ import annotations

from alterrec.report.layout import Picture
from alterrec.report.presentation import Part, Presentation
from alterrec.report.rows import interval, metric_sheet, notes, ordered
from alterrec.report.studies.words import compared, doubts, how_it_was_run, meta
from alterrec.report.study import Study
from alterrec.report.tables import listed, metric_name

PICTURED = ("hits@20", "ndcg@20")
PICTURE_SAYS = (
    "Mean over seeds; where there are several, the whisker is one standard deviation and each dot a seed. "
    "Coloured: AlterRec's rows. Light grey: systems that train no network."
)
RIVAL_SAYS = "Each row of ours less the best baseline by test mean, which favours the baselines."


def table1(study: Study) -> Presentation:
    """Whether ours is above all baselines, the table, the picture, the tests and what it took."""
    return Presentation(
        name="table1",
        title=f"Table 1 on {study.data.name}",
        meta=meta(study),
        findings=findings(study),
        doubts=doubts(study),
        parts=[
            Part("Every system", sheets={"table1": metric_sheet(study)}, below=notes(study)),
            Part("In pictures", [PICTURE_SAYS], {"systems": systems_picture(study)}),
            *compared(study, "Against the best baseline", RIVAL_SAYS),
            *how_it_was_run(study),
        ],
        command=study.command,
    )


def findings(study: Study) -> list[str]:
    """Whether each row of ours is above all baselines, by the numbers; and the best row."""
    said = [_claim(study, row.label) for row in study.kinds("ours") if study.comparisons]
    best = max((row for row in study.rows if row.runs), key=lambda row: row.mean("ndcg@20") or 0.0)
    shown = f"{100 * (best.mean('ndcg@20') or 0.0):.2f}%"
    return [*said, f"The highest NDCG@20 is that of {best.label}, {shown}."]


def _claim(study: Study, label: str) -> str:
    own = [each for each in study.comparisons if each.model == label]
    number = len(study.kinds("baseline"))
    by_verdict = {
        verdict: [metric_name(each.metric) for each in own if each.verdict == verdict]
        for verdict in ("above", "below", "not shown")
    }
    above, below = by_verdict["above"], by_verdict["below"]
    lead = "Yes" if len(above) == len(own) else "In part" if above else "No" if below else "Not shown"
    where = "; ".join(f"{verdict} in {listed(names)}" for verdict, names in by_verdict.items() if names)
    differences = "; ".join(
        f"{metric_name(each.metric)} {100 * each.mean:+.2f} {interval(each)} ({each.rival})" for each in own
    )
    asked = f"Is {label} above {f'all {number} baselines' if number > 1 else 'the one baseline'}?"
    return (
        f"{asked} {lead}: {where}. "
        f"Percentage points against the best of them in each metric, with 95% intervals: {differences}."
    )


def systems_picture(study: Study) -> Picture:
    """Bars of every row, best first."""
    from alterrec.report import plots

    bars = [
        plots.Bar(
            row.label,
            {metric: row.values(metric) for metric in PICTURED},
            {"ours": "score", "ablation": "id"}.get(row.kind, "other" if row.trains else "baseline"),
            highlight=row.kind == "ours",
        )
        for row in ordered(study)
        if row.runs
    ]
    return Picture(
        plots.systems(bars, PICTURED, PICTURED[1]),
        [plots.systems(bars, [metric], PICTURED[1]) for metric in PICTURED],
        f"Bars of {' and '.join(map(metric_name, PICTURED))} on test for {len(bars)} systems, best first.",
    )

"""The study `table1`: every system under one protocol (Table 1 of the paper)."""

from __future__ import annotations

from pathlib import Path

from alterrec.experiments.rows import Order, plan_of, plan_row
from alterrec.experiments.study_facts import study_facts
from alterrec.experiments.study_runs import Answer, Runs
from alterrec.files import write_json
from alterrec.report.table1 import write_table1


def table1(order: Order, runs: Runs) -> Answer:
    """Each row searched on validation, then trained with several seeds and measured on test."""
    rows = [plan_row(model, runs, order.grid, order.seeds) for model in order.models]

    def write(out: Path) -> list[str]:
        write_json(out / "study.json", study_facts("table1", order, rows, runs))
        return write_table1(out)

    return Answer(plan_of(rows), write)

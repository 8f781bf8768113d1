"""A saved run as an object for notebooks: its tables and pictures, without its model."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from alterrec.analyses.extra_metrics import Beside, beside_parts, group_data, read_beside
from alterrec.analyses.run_sections import longtail_part, seen_rule, shown_groups, systems_part, training_part
from alterrec.analyses.run_summary import baselines_of, caveats, opening, split_name, views_of
from alterrec.comparable import folder_name
from alterrec.report.presentation import DataTable, Presentation, Presented, Section
from alterrec.report.tables import VIEW_NAMES, metric_table
from alterrec.results import RunFolder, Views, read_run


@dataclass(frozen=True)
class RunReport(Presented):
    """What a run reached: prints as tables, draws itself, shows itself in a notebook.

    Attributes:
        folder: what the files of the run folder say; ``folder.result`` is `result.json`.
    """

    folder: RunFolder

    @property
    def metrics(self) -> Views:
        """View -> metric -> fraction, on test, or on validation where the run has no test."""
        return dict(views_of(self.folder.result))

    @cached_property
    def beside(self) -> Beside | None:
        """MRR, coverage, popularity, session lengths, cold targets; None where no rankings were saved."""
        return read_beside(self.folder)

    def presentation(self) -> Presentation:
        """Metrics by view, training, popularity, session length, and what is beside the usual metrics."""
        result = self.folder.result
        rows = {VIEW_NAMES.get(view, view): values for view, values in self.metrics.items()}
        table = metric_table(
            rows | dict(baselines_of(result)),
            title=f"{result.model} on {split_name(result)}",
            strong=[VIEW_NAMES["score"]],
        )
        longtail = longtail_part(self.folder)
        groups = shown_groups(result, result.groups.get("test", []))
        if longtail and groups:
            (part,) = longtail
            tables = {"groups": group_data("times seen in training", groups)}
            longtail = [Section(part.title, part.notes, part.figures, tables)]
        return Presentation(
            name="result",
            title=f"{result.model} on {result.data.name}",
            meta=f"run {folder_name(self.folder.path)} · seed {result.seed}",
            findings=opening(result),
            caveats=[*result.warnings, *caveats(result)],
            sections=[
                Section("The numbers", [seen_rule(result)], tables={"metrics": DataTable(table)}),
                *systems_part(self.folder),
                *training_part(self.folder),
                *longtail,
                *beside_parts(self.folder, self.beside),
            ],
        )


def result(run: str | Path) -> RunReport:
    """What a run folder says of the run, as an object; loads no model.

    Raises:
        InputError: the folder is not that of a finished run, or a file of it is damaged.

    Example:
        >>> result("no/such/run")
        Traceback (most recent call last):
            ...
        alterrec.errors.InputError: no run folder 'no/such/run'; give the folder that training printed last
    """
    return RunReport(read_run(Path(run)))

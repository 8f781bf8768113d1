"""A run that was just trained."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import polars as pl

from alterrec.analyses.run_page import RunReport
from alterrec.analyses.run_page import result as saved_result
from alterrec.recipe import Recipe
from alterrec.report.frames import as_pandas
from alterrec.report.tables import percent
from alterrec.runs import saved_model
from alterrec.runs.recommendations import Recommendations

if TYPE_CHECKING:
    from pandas import DataFrame


@dataclass(frozen=True, repr=False)
class FittedRun:
    """A finished run, as :func:`alterrec.fit` returns it.

    Attributes:
        path: the run folder.
        recipe: every setting of the run, the content of ``recipe.toml``.
        result: every number of the run, the content of ``result.json``: metrics are fractions between 0 and
            1, such as ``result["test"]["score"]["ndcg@20"]``, times are seconds, memory is bytes.
    """

    path: Path
    recipe: Recipe
    result: dict[str, Any] = field(repr=False)

    def __repr__(self) -> str:
        split = "test" if self.result["test"].get("score") else "valid"
        found = self.result[split].get("score", {}).get("ndcg@20")
        name = f"{self.recipe.model_name} on {self.result['data']['name']}"
        return f"FittedRun({name}: {split} NDCG@20 {percent(found)}, {self.stopped}, {str(self.path)!r})"

    @property
    def stopped(self) -> str:
        """Why training ended: ``finished``, ``patience`` or ``interrupted``."""
        return str(self.result["stopped"])

    def recommend(
        self,
        sessions: Sequence[Sequence[str | int]],
        k: int = 20,
        *,
        users: Sequence[str | int | None] | None = None,
        exclude_seen: bool | None = None,
    ) -> Recommendations:
        """Return the ``k`` best next items of each session.

        The arguments are those of :meth:`alterrec.runs.saved_model.SavedModel.recommend`.
        """
        return saved_model.load(self.path).recommend(sessions, k, users=users, exclude_seen=exclude_seen)

    def show(self) -> RunReport:
        """Return tables and plots; a notebook shows them if this is the last line of a cell."""
        return saved_result(self.path)

    def to_polars(self) -> pl.DataFrame:
        """Return the metrics as a frame of polars with the columns split, view, metric and value.

        Metrics of recommendation lists have the view ``lists``.
        """
        lists = self.result.get("lists", {})  # runs of earlier versions have none
        rows = [
            (split, view, metric, value)
            for split in ("valid", "test")
            for view, metrics in {**self.result[split], "lists": lists.get(split, {})}.items()
            for metric, value in metrics.items()
        ]
        schema = {"split": pl.String, "view": pl.String, "metric": pl.String, "value": pl.Float64}
        return pl.DataFrame(rows, schema=schema, orient="row")

    def to_pandas(self) -> DataFrame:
        """Return :meth:`to_polars` as a frame of pandas; InputError if that is not installed."""
        return as_pandas(self.to_polars())

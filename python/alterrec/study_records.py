"""The records of ``study.json``, and how it is read; see :mod:`alterrec.results` for those of runs."""

from __future__ import annotations

import json
import statistics
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

from alterrec.data.repeats import SeenItems
from alterrec.data.statistics import Statistics
from alterrec.errors import number_of
from alterrec.evaluation.comparisons import Comparison
from alterrec.files import read_text
from alterrec.metrics import DEFAULT_METRICS, common_metrics
from alterrec.models.catalogue import Kind
from alterrec.record_json import from_json
from alterrec.results import SCHEMA, AlphaMetrics, DataSummary, Epoch, Group, Metrics, Schema, Seen, Views


@dataclass(frozen=True)
class SeedResult:
    """One finished run of a row of a study.

    Attributes:
        valid, test: metrics of the score.
        seen: rule for the items of a prefix.
        by_seen: rule for seen items -> test metrics of the score.
        views: split -> view -> metrics.
        groups: test metrics by popularity of the target.
        alphas: metrics of the sum of two networks by the weight of ID.
        curve: the epochs, in studies that draw them.
        errors: standard errors of the test metrics over sessions.
    """

    run: str
    seed: int
    valid: Metrics
    test: Metrics
    epochs: int
    best_epoch: int | None
    seconds: float
    seconds_per_epoch: float | None
    peak_memory_bytes: int | None
    parameters: int | None
    seen: Seen
    targets: str
    warnings: list[str] = field(default_factory=list)
    by_seen: dict[SeenItems, Metrics] = field(default_factory=dict)
    views: dict[str, Views] = field(default_factory=dict)
    groups: list[Group] = field(default_factory=list)
    alphas: list[AlphaMetrics] = field(default_factory=list)
    curve: list[Epoch] = field(default_factory=list)
    errors: Metrics = field(default_factory=dict)


@dataclass(frozen=True)
class TriedSetting:
    """One setting of a row's search; ``validation`` is None until its run is finished."""

    run: str
    setting: dict[str, Any]
    validation: float | None
    chosen: bool


@dataclass(frozen=True)
class RowResult:
    """A row of a study: a system or a setting of one, and its runs by seed.

    Attributes:
        settings: what the study set for it.
        refused: the data or settings do not suit the system, so it has no numbers (N/A).
        reason: why it has no numbers.
        setting: the chosen ``lr`` and, if it has an effect, ``dropout``; empty for non-neural baselines.
        tried: all settings of its search.
    """

    label: str
    model: str
    settings: dict[str, Any]
    kind: Kind
    trains: bool
    refused: bool
    reason: str
    setting: dict[str, float]
    tried: list[TriedSetting]
    runs: list[SeedResult]

    def values(self, metric: str) -> list[float]:
        """Return the test values of a metric by seed."""
        return [run.test[metric] for run in self.runs if metric in run.test]

    def view(self, view: str, metric: str) -> list[float]:
        """Return the test values of a view by seed."""
        known = [run.views.get("test", {}).get(view, {}) for run in self.runs]
        return [values[metric] for values in known if metric in values]

    def mean(self, metric: str) -> float | None:
        """Return the mean of the test values over seeds, None if there are none."""
        values = self.values(metric)
        return statistics.fmean(values) if values else None


@dataclass(frozen=True)
class FailedRun:
    """A run that failed, and why."""

    run: str
    reason: str


@dataclass(frozen=True, repr=False)
class StudyResult:
    """``study.json``.

    Attributes:
        quick: the settings of ``--quick``; empty without it.
        grid: what was searched: recipe key -> values.
        over: fields of a sweep and their values.
        metric: the metric by which validation chose.
        repeated_targets: test targets that repeat an item of their session; None if no run counted them.
        pictured: the metric that is drawn, in studies that draw one.
        statistics: in studies of the data themselves.
    """

    LATEST_SCHEMA: ClassVar[int] = SCHEMA

    schema: Schema
    study: str
    command: str
    complete: bool
    quick: dict[str, Any]
    presets: list[str]
    settings: dict[str, Any]
    seeds: int
    grid: dict[str, list[Any]]
    over: list[dict[str, list[Any]]]
    reference: str
    metric: str
    data: DataSummary
    test_targets: int
    rows: list[RowResult]
    comparisons: list[Comparison]
    failures: list[FailedRun]
    repeated_targets: int | None = None
    pictured: str = "ndcg@20"
    versions: dict[str, str] = field(default_factory=dict)
    statistics: Statistics | None = None

    def __repr__(self) -> str:
        return f"StudyResult({self.study} on {self.data.name}, {number_of(len(self.rows), 'row')})"

    @property
    def metrics(self) -> tuple[str, ...]:
        """The metrics that all runs report."""
        return common_metrics(run.test for row in self.rows for run in row.runs) or DEFAULT_METRICS

    def kinds(self, kind: Kind) -> list[RowResult]:
        """Return the rows of a kind that have numbers."""
        return [row for row in self.rows if row.kind == kind and row.runs]

    def row(self, label: str) -> RowResult | None:
        """Return the row of that label, None if it has no numbers."""
        return next((row for row in self.rows if row.label == label and row.runs), None)


@dataclass(frozen=True)
class JointStudy:
    """``study.json`` of a study of several data sets: for each what a study of it alone has."""

    LATEST_SCHEMA: ClassVar[int] = SCHEMA

    schema: Schema
    study: str
    command: str
    parts: list[StudyResult]


def read_studies(folder: Path) -> list[StudyResult]:
    """Read and check the ``study.json`` of a folder, which has one result or one for each data set.

    Raises:
        InputError: as :func:`read_study`.
    """
    path = folder / "study.json"
    text = read_text(path)
    with suppress(ValueError, RecursionError):
        content = json.loads(text)
        if isinstance(content, dict) and content.get("parts"):
            return from_json(JointStudy, text, str(path)).parts
    return [from_json(StudyResult, text, str(path))]


def read_study(folder: Path) -> StudyResult:
    """Read and check the ``study.json`` of a folder.

    Raises:
        InputError: the file is missing or damaged, or a later version wrote it.
    """
    path = folder / "study.json"
    return from_json(StudyResult, read_text(path), str(path))

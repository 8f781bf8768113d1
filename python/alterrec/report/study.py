"""Read `study.json`, and what its rows amount to."""

from __future__ import annotations

import statistics
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from pydantic import TypeAdapter

from alterrec.data.statistics import Statistics
from alterrec.evaluation.compare import Verdict, verdict
from alterrec.report.run_folder import (
    AlphaFacts,
    DataFacts,
    Epoch,
    Group,
    Metrics,
    Views,
    parse_json,
    read_text,
)

Kind = Literal["baseline", "ablation", "ours"]


@dataclass(frozen=True)
class SeedFacts:
    """One finished run of a row.

    Attributes:
        views: split -> view -> metrics.
        groups: of test, by popularity of the target.
        alphas: of the sum of two networks, by the weight of ID.
        curve: what the run was after each epoch, in studies that draw it.
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
    exclude_seen: bool
    targets: str
    warnings: list[str] = field(default_factory=list)
    views: dict[str, Views] = field(default_factory=dict)
    groups: list[Group] = field(default_factory=list)
    alphas: list[AlphaFacts] = field(default_factory=list)
    curve: list[Epoch] = field(default_factory=list)


@dataclass(frozen=True)
class Tried:
    """One setting of a row's search; `validation` is None until its run is finished."""

    run: str
    setting: dict[str, Any]
    validation: float | None
    chosen: bool


@dataclass(frozen=True)
class Row:
    """A system or a setting of one: what validation chose for it, and its runs by seed.

    Attributes:
        label: its name.
        settings: what the study set for it.
        refused: its input was refused, so that it has no numbers on these data (N/A).
        reason: why it has none.
        setting: `lr` and, where it changes anything, `dropout`; empty for systems that count.
    """

    label: str
    model: str
    settings: dict[str, Any]
    kind: Kind
    trains: bool
    refused: bool
    reason: str
    setting: dict[str, float]
    tried: list[Tried]
    runs: list[SeedFacts]

    def values(self, metric: str) -> list[float]:
        """Test values of the metric by seed."""
        return [run.test[metric] for run in self.runs if metric in run.test]

    def view(self, view: str, metric: str) -> list[float]:
        """Test values of a view by seed."""
        known = [run.views.get("test", {}).get(view, {}) for run in self.runs]
        return [values[metric] for values in known if metric in values]

    def mean(self, metric: str) -> float | None:
        """Their mean, None where there are none."""
        values = self.values(metric)
        return statistics.fmean(values) if values else None


@dataclass(frozen=True)
class Comparison:
    """A row against a rival in one metric; fractions, p two-sided.

    Attributes:
        group: of targets by popularity, empty for all.
    """

    model: str
    metric: str
    rival: str
    mean: float
    low: float
    high: float
    p: float
    p_adjusted: float
    group: str = ""

    @property
    def verdict(self) -> Verdict:
        """What may be said at the level 0.05, p adjusted over all comparisons of the row."""
        return verdict(self.mean, self.p_adjusted)


@dataclass(frozen=True)
class Failed:
    """A run that failed, and why."""

    run: str
    reason: str


@dataclass(frozen=True)
class Study:
    """`study.json`, schema 1.

    Attributes:
        metric: by which validation chose.
        pictured: drawn where a study draws one metric.
        statistics: in studies of the data themselves.
    """

    schema: Literal[1]
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
    data: DataFacts
    test_targets: int
    rows: list[Row]
    comparisons: list[Comparison]
    failures: list[Failed]
    pictured: str = "ndcg@20"
    versions: dict[str, str] = field(default_factory=dict)
    statistics: Statistics | None = None

    def kinds(self, kind: Kind) -> list[Row]:
        """Rows of a kind that have numbers."""
        return [row for row in self.rows if row.kind == kind and row.runs]

    def row(self, label: str) -> Row | None:
        """The row of that name, if it has numbers."""
        return next((row for row in self.rows if row.label == label and row.runs), None)


STUDY = TypeAdapter(Study)


def read_study(folder: Path) -> Study:
    """The study of a folder; InputError where its file is missing or damaged."""
    path = folder / "study.json"
    return parse_json(STUDY, read_text(path), str(path))

"""Read `study.json`, and what its rows amount to."""

from __future__ import annotations

import statistics
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from pydantic import TypeAdapter

from alterrec.report.run_folder import DataFacts, Metrics, parse_json, read_text

Kind = Literal["baseline", "ablation", "ours"]


@dataclass(frozen=True)
class SeedFacts:
    """One finished run of a row."""

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


@dataclass(frozen=True)
class Tried:
    """One setting of a row's search; `validation` is None until its run is finished."""

    run: str
    setting: dict[str, Any]
    validation: float | None
    chosen: bool


@dataclass(frozen=True)
class Row:
    """A system: the setting that validation chose, and its runs by seed.

    Attributes:
        refused: its input was refused, so that it has no numbers on these data (N/A).
        reason: why it has none.
        setting: `lr` and `dropout`, empty for systems that count.
    """

    model: str
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

    def mean(self, metric: str) -> float | None:
        """Their mean, None where there are none."""
        values = self.values(metric)
        return statistics.fmean(values) if values else None


@dataclass(frozen=True)
class Comparison:
    """A row of ours against the best baseline in one metric; fractions, p two-sided."""

    model: str
    metric: str
    rival: str
    mean: float
    low: float
    high: float
    p: float
    p_adjusted: float

    @property
    def verdict(self) -> Literal["above", "below", "not shown"]:
        """What may be said at the level 0.05, p adjusted over the metrics."""
        if self.p_adjusted > 0.05:
            return "not shown"
        return "above" if self.mean > 0 else "below"


@dataclass(frozen=True)
class Failed:
    """A run that failed, and why."""

    run: str
    reason: str


@dataclass(frozen=True)
class Study:
    """`study.json`, schema 1."""

    schema: Literal[1]
    study: str
    command: str
    complete: bool
    quick: dict[str, Any]
    presets: list[str]
    settings: dict[str, Any]
    seeds: int
    grid: dict[str, list[Any]]
    metric: str
    data: DataFacts
    test_targets: int
    rows: list[Row]
    comparisons: list[Comparison]
    failures: list[Failed]
    versions: dict[str, str] = field(default_factory=dict)

    def kinds(self, kind: Kind) -> list[Row]:
        """Rows of a kind that have numbers."""
        return [row for row in self.rows if row.kind == kind and row.runs]


STUDY = TypeAdapter(Study)


def read_study(folder: Path) -> Study:
    """The study of a folder; InputError where its file is missing or damaged."""
    path = folder / "study.json"
    return parse_json(STUDY, read_text(path), str(path))

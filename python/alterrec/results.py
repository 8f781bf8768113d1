"""The files of finished runs and studies as typed records: what is written, and how it is read back."""

from __future__ import annotations

import statistics
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar

from pydantic import BeforeValidator, Field, TypeAdapter, ValidationError

from alterrec.data.statistics import Statistics
from alterrec.errors import InputError
from alterrec.evaluation.significance import Verdict, verdict

Share = Annotated[float, Field(ge=0, le=1)]
Metrics = dict[str, Share]
Views = dict[str, Metrics]


def _one_name(value: object) -> object:
    return value[0] if isinstance(value, list) and len(value) == 1 else value


# Version 0.1.0 wrote the name of the trained network as a list of one name.
NetworkName = Annotated[str, BeforeValidator(_one_name)]

# Order of the views wherever they are listed.
VIEWS = ("score", "fused", "id", "text", "neighbours")

SCHEMA = 1

# A group of fewer targets says little.
FEW_TARGETS = 30

# What an unfinished training goes on from.
CHECKPOINT = "checkpoint/progress.safetensors"


@dataclass(frozen=True)
class DataSummary:
    """What the run was trained and tested on; counts of items and sessions."""

    name: str
    fingerprint: str
    items: int
    cold_items: int = 0
    train_sessions: int = 0
    valid_sessions: int = 0
    test_sessions: int = 0
    exclude_seen: bool = False
    seen_rule: str = ""
    repeat_share: float | None = None
    targets: str = ""


@dataclass(frozen=True)
class TargetCounts:
    """Targets of one split: how many, how many of them cold, and the share tied with other items by view."""

    count: int
    cold: int = 0
    tied_share: dict[str, Share] = field(default_factory=dict)


@dataclass(frozen=True)
class Group:
    """Targets of like popularity in the training data (`cold`, `1-5`, ...) and the metrics over them."""

    name: str
    count: int
    share: Share
    views: Views = field(default_factory=dict)


@dataclass(frozen=True)
class AlphaMetrics:
    """Metrics of the sum of ID and text where ID has the weight ``alpha``."""

    alpha: Share
    valid: Metrics
    test: Metrics


@dataclass(frozen=True)
class PhaseRecord:
    """Epochs `first` to `last` (counted from 1, both ends included) that trained the same network."""

    first: Annotated[int, Field(alias="from")]
    last: Annotated[int, Field(alias="to")]
    trained: NetworkName
    negatives: str
    teacher: str | None = None


@dataclass(frozen=True)
class RunResult:
    """`result.json`, schema 1; metrics are fractions between 0 and 1, times seconds, memory bytes."""

    schema: Literal[1]
    model: str
    data: DataSummary
    valid: Views
    test: Views
    targets: dict[str, TargetCounts]
    seconds: float
    best_epoch: int | None = None
    epochs: int = 0
    stopped: str = "finished"
    presets: list[str] = field(default_factory=list)
    seed: int = 0
    groups: dict[str, list[Group]] = field(default_factory=dict)
    fusion: dict[str, float] = field(default_factory=dict)
    alphas: list[AlphaMetrics] = field(default_factory=list)
    parameters: int | None = None
    baselines: dict[str, dict[str, Metrics]] = field(default_factory=dict)
    phases: list[PhaseRecord] = field(default_factory=list)
    seconds_by_part: dict[str, float] = field(default_factory=dict)
    peak_memory_bytes: int | None = None
    warnings: list[str] = field(default_factory=list)
    threads: int | None = None
    versions: dict[str, str] = field(default_factory=dict)

    @property
    def views(self) -> tuple[str, ...]:
        """The views worth showing: `fused` is left out where it is the score itself."""
        same = self.valid.get("fused") == self.valid.get("score") and self.test.get("fused") == self.test.get(
            "score"
        )
        known = {**self.valid, **self.test}
        ordered = [view for view in VIEWS if view in known] + [view for view in known if view not in VIEWS]
        return tuple(view for view in ordered if not (view == "fused" and same))


def reported_split(result: RunResult) -> str:
    """The split to speak of: `test`, or `valid` where the run has no test numbers."""
    return "test" if result.test.get("score") else "valid"


@dataclass(frozen=True)
class PartLoss:
    """What the score or a part of it has learned after an epoch, on a fixed sample of training prefixes.

    Attributes:
        loss: its cross-entropy over the catalogue, in nats.
        gradient: norm of the gradient that its columns of the item table get; None of a sum of networks.
    """

    loss: float
    gradient: float | None = None


@dataclass(frozen=True)
class Epoch:
    """One line of `curves.jsonl`."""

    epoch: int
    phase: str
    trained: NetworkName
    negatives: str
    loss: float | None
    valid: Views
    samples: int = 0
    seconds: float = 0.0
    seconds_eval: float = 0.0
    parts: dict[str, PartLoss] = field(default_factory=dict)


@dataclass(frozen=True)
class Item:
    """An item by its external id and its joined text."""

    item_id: str
    text: str = ""


@dataclass(frozen=True)
class Example:
    """A test session, its target, the target's rank (from 1) and the first items of the ranking by view."""

    session: list[Item]
    target: Item
    rank: dict[str, float]
    top: dict[str, list[Item]]


@dataclass(frozen=True)
class RunFolder:
    """A run folder as read; `recipe` is the text of `recipe.toml`."""

    path: Path
    result: RunResult
    epochs: tuple[Epoch, ...]
    examples: tuple[Example, ...]
    recipe: str

    @property
    def settings(self) -> Mapping[str, Any]:
        """The resolved recipe as nested tables."""
        return tomllib.loads(self.recipe)


T = TypeVar("T")


RESULT = TypeAdapter(RunResult)
EPOCH = TypeAdapter(Epoch)
EXAMPLES = TypeAdapter(tuple[Example, ...])


def parse_json(kind: TypeAdapter[T], text: str, where: str) -> T:
    """Checked JSON; InputError that names the place in ``where`` that is damaged."""
    try:
        return kind.validate_json(text)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        place = ".".join(str(part) for part in first["loc"])
        found = "" if isinstance(first["input"], (dict, list)) else f" (found {str(first['input'])[:60]!r})"
        raise InputError(
            f"{where} is damaged: {place + ': ' if place else ''}{first['msg']}{found}; "
            "copy the run folder again or train it anew"
        ) from None


def read_text(path: Path) -> str:
    """A file of a run or study folder; InputError where it cannot be read."""
    try:
        return path.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise InputError(
            f"no {path.name} in {str(path.parent)!r}; it is written when a run has ended"
        ) from None
    except UnicodeDecodeError as error:
        raise InputError(f"{path} is damaged: not UTF-8 at byte {error.start}; train the run anew") from None
    except OSError as error:
        raise InputError(f"cannot read {path}: {error.strerror}") from None


def read_run(path: Path) -> RunFolder:
    """A run folder's files, checked.

    Args:
        path: a folder with at least `result.json` and, for models that train, `curves.jsonl`.

    Raises:
        InputError: a file is missing or damaged; the message names it and the place in it.

    Example:
        >>> read_run(Path("no-such-folder"))
        Traceback (most recent call last):
            ...
        alterrec.errors.InputError: no run folder 'no-such-folder'; give the folder that training printed last
    """
    path = Path(path)
    if not path.is_dir():
        raise InputError(f"no run folder {str(path)!r}; give the folder that training printed last")
    result = parse_json(RESULT, read_text(path / "result.json"), str(path / "result.json"))
    curves = path / "curves.jsonl"
    lines = read_text(curves).splitlines() if result.epochs or curves.exists() else []
    epochs = tuple(
        parse_json(EPOCH, line, f"{curves} line {number}") for number, line in enumerate(lines, start=1)
    )
    examples = path / "examples.json"
    recipe = path / "recipe.toml"
    recipe_text = read_text(recipe) if recipe.exists() else ""
    try:
        tomllib.loads(recipe_text)
    except tomllib.TOMLDecodeError as error:
        raise InputError(f"{recipe} is damaged: {error}; copy the run folder again") from None
    return RunFolder(
        path=path,
        result=result,
        epochs=epochs,
        examples=parse_json(EXAMPLES, read_text(examples), str(examples)) if examples.exists() else (),
        recipe=recipe_text,
    )


Kind = Literal["baseline", "ablation", "ours"]


@dataclass(frozen=True)
class SeedResult:
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
    alphas: list[AlphaMetrics] = field(default_factory=list)
    curve: list[Epoch] = field(default_factory=list)


@dataclass(frozen=True)
class TriedSetting:
    """One setting of a row's search; `validation` is None until its run is finished."""

    run: str
    setting: dict[str, Any]
    validation: float | None
    chosen: bool


@dataclass(frozen=True)
class RowResult:
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
    tried: list[TriedSetting]
    runs: list[SeedResult]

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
class FailedRun:
    """A run that failed, and why."""

    run: str
    reason: str


@dataclass(frozen=True)
class StudyResult:
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
    data: DataSummary
    test_targets: int
    rows: list[RowResult]
    comparisons: list[Comparison]
    failures: list[FailedRun]
    pictured: str = "ndcg@20"
    versions: dict[str, str] = field(default_factory=dict)
    statistics: Statistics | None = None

    def kinds(self, kind: Kind) -> list[RowResult]:
        """Rows of a kind that have numbers."""
        return [row for row in self.rows if row.kind == kind and row.runs]

    def row(self, label: str) -> RowResult | None:
        """The row of that name, if it has numbers."""
        return next((row for row in self.rows if row.label == label and row.runs), None)


STUDY = TypeAdapter(StudyResult)


def read_study(folder: Path) -> StudyResult:
    """The study of a folder; InputError where its file is missing or damaged."""
    path = folder / "study.json"
    return parse_json(STUDY, read_text(path), str(path))

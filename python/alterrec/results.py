"""The records of the files of runs, and how they are read.

``result.json``, ``curves.jsonl`` and ``examples.json`` are written and read by :mod:`alterrec.record_json`
alone, as is ``study.json`` (:mod:`alterrec.study_records`). A new number of a run is a field of
:class:`RunResult` with a default, so that folders of earlier versions can still be read.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, ClassVar

from pydantic import AliasChoices, BeforeValidator, Field

from alterrec.data.dataset import Dataset
from alterrec.data.repeats import SeenItems
from alterrec.errors import InputError
from alterrec.evaluation.comparisons import Comparison
from alterrec.files import read_text
from alterrec.manifest import check_manifest
from alterrec.metrics import common_metrics
from alterrec.recipe import check_recipe, recipe_tables
from alterrec.record_json import from_json

Share = Annotated[float, Field(ge=0, le=1)]
Metrics = dict[str, Share]
Views = dict[str, Metrics]

# Order of the views wherever they are listed.
VIEWS = ("score", "fused", "id", "text", "neighbours", "trend")

# Schema 1 (version 0.1.0) wrote ``trained`` as a list of one name. Schemas 1 and 2 wrote ``exclude_seen`` as
# a truth value, and counted targets that repeat an excluded item as found.
SCHEMA = 3

# Metrics over fewer targets than these are marked as uncertain.
FEW_TARGETS = 30

# The file that an unfinished run resumes from.
CHECKPOINT = "checkpoint/progress.safetensors"
# The lock of a run folder, held while it is written.
RUN_LOCK = "train.lock"


def _one_name(value: object) -> object:
    return value[0] if isinstance(value, list) and len(value) == 1 else value


def _rule(value: object) -> object:
    return {True: "excluded", False: "kept"}[value] if isinstance(value, bool) else value


Schema = Annotated[int, Field(ge=1)]
Seen = Annotated[
    SeenItems, BeforeValidator(_rule), Field(validation_alias=AliasChoices("seen", "exclude_seen"))
]
NetworkName = Annotated[str, BeforeValidator(_one_name)]


@dataclass(frozen=True)
class DataSummary:
    """The data of a run, and how its targets were ranked; counts are of items and sessions.

    Attributes:
        seen: rule for the items of a prefix: ``kept``, ``excluded`` or ``repeats``.
        seen_rule: the recipe's ``data.exclude_seen``; ``seen`` is what it came to on these data.
        repeat_share: share of training targets, of the kind that is ranked, that repeat an item of their
            prefix.
        targets: ``last`` or ``every`` item of a session.
        notes: remarks of the reader, such as rows that were dropped.
    """

    name: str
    fingerprint: str
    items: int
    cold_items: int = 0
    train_sessions: int = 0
    valid_sessions: int = 0
    test_sessions: int = 0
    seen: Seen = "kept"
    seen_rule: str = ""
    repeat_share: float | None = None
    targets: str = ""
    notes: list[str] = field(default_factory=list)

    @classmethod
    def of(cls, data: Dataset) -> DataSummary:
        """Summarise data without any rule of ranking."""
        return cls(
            name=data.name,
            fingerprint=data.fingerprint,
            items=data.num_items,
            cold_items=int((~data.trained).sum()),
            train_sessions=data.train.num_sessions,
            valid_sessions=data.valid.num_sessions,
            test_sessions=data.test.num_sessions,
        )


@dataclass(frozen=True)
class TargetCounts:
    """Targets of a split.

    Attributes:
        count: number of targets.
        cold: targets that do not occur in training.
        repeated: targets that repeat an item of their prefix; None in runs of earlier versions.
        tied_share: view -> share of targets that tie with other items.
    """

    count: int
    cold: int = 0
    repeated: int | None = None
    tied_share: dict[str, Share] = field(default_factory=dict)


@dataclass(frozen=True)
class Group:
    """Targets of similar popularity in training (``cold``, ``1-5``, ...) and the metrics over them."""

    name: str
    count: int
    share: Share
    views: Views = field(default_factory=dict)


@dataclass(frozen=True)
class RepeatSummary:
    """The repeat component of a run, see :class:`~alterrec.data.repeats.RepeatModel`.

    Attributes:
        rates: length of the prefix (``1``, ``2``, ``3-4``, ...) -> probability that the target repeats an
            item of it.
        weights: distance of an item from the end of the prefix -> its weight, relative to distance 1.
        scales: view -> ``temperature`` and ``affinity``.
    """

    rates: dict[str, Share]
    weights: dict[str, float]
    scales: dict[str, dict[str, float]]


@dataclass(frozen=True)
class QueryWeights:
    """Weights of the queries of a network for a long prefix, which add up to 1.

    Attributes:
        vector: weight of the session vector; None if it is no query.
        items: weights of the items of the prefix, the last one first.
    """

    vector: Share | None
    items: list[Share]


@dataclass(frozen=True)
class AlphaMetrics:
    """Metrics of the sum of ID and text scores where ID has the weight ``alpha``."""

    alpha: Share
    valid: Metrics
    test: Metrics


@dataclass(frozen=True)
class PhaseRecord:
    """Epochs ``first`` to ``last`` (counted from 1, both included) that trained one network."""

    first: Annotated[int, Field(alias="from")]
    last: Annotated[int, Field(alias="to")]
    trained: NetworkName
    negatives: str
    teacher: str | None = None
    name: str = ""


@dataclass(frozen=True)
class CatalogueChange:
    """Items that were added to or removed from the catalogue of a finished run.

    Attributes:
        action: ``added`` or ``removed``.
        items: number of items.
        restored: number of them that had been removed before.
        id_rows: what scores added items besides their texts: ``nearest`` or ``text``; empty if they were
            removed.
        notes: what was left out, one sentence each.
    """

    action: str
    items: int
    restored: int = 0
    id_rows: str = ""
    notes: list[str] = field(default_factory=list)


@dataclass(frozen=True, repr=False)
class RunResult:
    """``result.json``; metrics of targets are fractions between 0 and 1, times seconds, memory bytes.

    Attributes:
        stopped: ``finished``, ``patience`` or ``interrupted``.
        lists: split -> metric of recommendation lists -> value, for the final score; where they were asked
            for. They have the units of :data:`alterrec.metrics.LIST_METRICS`.
        fusion: weights of the parts of the score, where there are several networks.
        gate: part -> feature of the prefix -> coefficient, if the weights depend on the prefix.
        by_seen: split -> rule for seen items -> views. Rules are the run's own, ``kept`` and ``excluded``;
            empty in runs of earlier versions.
        repeats: the repeat component, if the run uses it.
        queries: network -> weights of its queries, where it has several.
        baselines: name -> split -> metrics.
        baselines_by_seen: name -> split -> rule for seen items -> metrics.
        errors: view or baseline -> metric -> standard error over the test sessions.
        comparisons: the score, and ID + text without further parts, minus the best baseline of each metric.
        examples_drawn: whether the sessions of examples.json were drawn at random; earlier versions chose
            most of them by success.
        profile: seconds of each part of a training step, where they were measured.
        catalogue_changes: items that were added or removed after training, in this order; all other fields
            are those of the run before.
        manifest: whether the run has a ``manifest.json``; earlier versions wrote none.
        imported_from: name of the file with the rankings, if another system made them; otherwise empty.
    """

    LATEST_SCHEMA: ClassVar[int] = SCHEMA

    schema: Schema
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
    by_seen: dict[str, dict[SeenItems, Views]] = field(default_factory=dict)
    repeats: RepeatSummary | None = None
    queries: dict[str, QueryWeights] = field(default_factory=dict)
    groups: dict[str, list[Group]] = field(default_factory=dict)
    lists: dict[str, dict[str, float]] = field(default_factory=dict)
    fusion: dict[str, float] = field(default_factory=dict)
    gate: dict[str, dict[str, float]] = field(default_factory=dict)
    alphas: list[AlphaMetrics] = field(default_factory=list)
    parameters: int | None = None
    baselines: dict[str, dict[str, Metrics]] = field(default_factory=dict)
    baselines_by_seen: dict[str, dict[str, dict[SeenItems, Metrics]]] = field(default_factory=dict)
    errors: dict[str, Metrics] = field(default_factory=dict)
    comparisons: list[Comparison] = field(default_factory=list)
    examples_drawn: bool = False
    phases: list[PhaseRecord] = field(default_factory=list)
    seconds_by_part: dict[str, float] = field(default_factory=dict)
    profile: dict[str, float] = field(default_factory=dict)
    peak_memory_bytes: int | None = None
    processes: int = 1
    process_peak_memory_bytes: list[int] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)
    threads: int | None = None
    versions: dict[str, str] = field(default_factory=dict)
    catalogue_changes: list[CatalogueChange] = field(default_factory=list)
    manifest: bool = False
    imported_from: str = ""

    def __repr__(self) -> str:
        return f"RunResult({self.model} on {self.data.name}, seed {self.seed}, {self.stopped})"

    @property
    def metrics(self) -> tuple[str, ...]:
        """The metrics that the run reports."""
        return common_metrics([self.test.get("score", {}), self.valid.get("score", {})])

    @property
    def views(self) -> tuple[str, ...]:
        """Views to show, in the order of ``VIEWS``; ``fused`` is left out where it equals the score."""
        same = self.valid.get("fused") == self.valid.get("score") and self.test.get("fused") == self.test.get(
            "score"
        )
        known = {**self.valid, **self.test}
        ordered = [view for view in VIEWS if view in known] + [view for view in known if view not in VIEWS]
        return tuple(view for view in ordered if not (view == "fused" and same))


def reported_split(result: RunResult) -> str:
    """Return ``test``, or ``valid`` if the run has no test targets."""
    return "test" if result.test.get("score") else "valid"


@dataclass(frozen=True)
class PartLoss:
    """Training loss of the score, or of a part of it, on a fixed sample of training prefixes.

    Attributes:
        loss: cross-entropy over the catalogue, in nats.
        gradient: norm of the gradient with respect to the part's columns of the item table; None for a sum
            of networks.
    """

    loss: float
    gradient: float | None = None


@dataclass(frozen=True)
class Epoch:
    """One line of ``curves.jsonl``.

    Attributes:
        trained: the network that was trained.
        valid: validation metrics after the epoch.
        parts: training loss by view.
    """

    epoch: int
    phase: str
    trained: NetworkName
    negatives: str
    loss: float | None
    valid: Views
    teacher: str | None = None
    objective: str = "next"
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
    """A test session and its target.

    Attributes:
        rank: view -> rank of the target, from 1; None if the target is not a candidate, because it repeats an
            item of the session.
        top: view -> first items of the ranking.
    """

    session: list[Item]
    target: Item
    rank: dict[str, float | None]
    top: dict[str, list[Item]]


@dataclass(frozen=True, repr=False)
class RunFolder:
    """The files of a run folder; ``recipe`` is the text of ``recipe.toml``."""

    path: Path
    result: RunResult
    epochs: tuple[Epoch, ...]
    examples: tuple[Example, ...]
    recipe: str

    def __repr__(self) -> str:
        return f"RunFolder({str(self.path)!r}: {self.result!r})"

    @property
    def settings(self) -> Mapping[str, Any]:
        """The resolved recipe as nested tables."""
        return recipe_tables(self.recipe)


def read_run(path: Path) -> RunFolder:
    """Read and check the files of a run folder.

    Args:
        path: a folder with at least ``result.json`` and, for models that train, ``curves.jsonl``.

    Raises:
        InputError: a file is missing or damaged, a later version wrote it, or the files are not those of one
            run; the message names the file.

    Example:
        >>> read_run(Path("no-such-folder"))
        Traceback (most recent call last):
            ...
        alterrec.errors.InputError: no run folder 'no-such-folder'; give the folder that training printed last
    """
    path = Path(path)
    if not path.is_dir():
        raise InputError(f"no run folder {str(path)!r}; give the folder that training printed last")
    result = from_json(RunResult, read_text(path / "result.json"), str(path / "result.json"))
    check_manifest(path)
    curves, examples, recipe = (path / name for name in ("curves.jsonl", "examples.json", "recipe.toml"))
    lines = read_text(curves).splitlines() if result.epochs or curves.exists() else []
    recipe_text = read_text(recipe) if recipe.exists() else ""
    try:
        check_recipe(recipe_text)
    except InputError as error:
        raise InputError(f"{recipe} is damaged: {error}; copy the folder again or repeat the run") from None
    return RunFolder(
        path=path,
        result=result,
        epochs=tuple(
            from_json(Epoch, line, f"{curves} line {number}") for number, line in enumerate(lines, start=1)
        ),
        examples=from_json(tuple[Example, ...], read_text(examples), str(examples))
        if examples.exists()
        else (),
        recipe=recipe_text,
    )

"""The tables of a recipe: every setting with its default, its limits and its description.

Those of single published systems are in :mod:`alterrec.recipe_systems`.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import (
    BeforeValidator,
    ByteSize,
    Field,
    JsonValue,
    TypeAdapter,
    ValidationError,
    field_validator,
    model_validator,
)

from alterrec.errors import nearest
from alterrec.metrics import DEFAULT_METRICS, is_list_metric, parse_metric, standard_name
from alterrec.recipe_systems import SettingsTable

_TRANSFORMER = ("model.layers", "model.heads", "model.inner", "model.init", "dropout")
# Session encoders by name, and the settings that each one reads. A setting without a table is that of the
# network that the encoder belongs to. An encoder that reads ``dropout`` falls back on ``model.dropout``; one
# that reads ``model.init`` has no starting values of its own.
SESSION_ENCODERS: dict[str, tuple[str, ...]] = {
    "mean": ("input_dropout",),
    "recency": (),
    "transformer": _TRANSFORMER,
    "sasrec": _TRANSFORMER,
    "sasrec_original": _TRANSFORMER,
    "bidirectional": (*_TRANSFORMER, "model.faithful"),
    "weighted": (*_TRANSFORMER, "input_dropout"),
    "gru": ("gru.hidden", "model.layers", "dropout"),
    "frequency": (*_TRANSFORMER, "frequency.alpha", "frequency.low", "model.faithful"),
    "graph": ("graph.steps", "model.init"),
}
Negatives = Literal["full", "random", "window"]


def _as_tuple(value: Any) -> Any:
    return tuple(value) if isinstance(value, list) else value


# Marks the fields that may change when a run is resumed: they bound the training, or say how it is executed.
# Whatever else changes would give another result than a run that began with it.
MAY_CHANGE: dict[str, JsonValue] = {"may_change_on_resume": True}


# TOML has lists, recipes have tuples.
Names = Annotated[tuple[str, ...], BeforeValidator(_as_tuple)]


class RunSettings(SettingsTable):
    """Where and how a run executes. Only the seed and the precision change what is learned."""

    seed: int = Field(
        default=0, ge=0, lt=2**64, description="seed of initial weights, order, negatives and dropout"
    )
    device: str = Field(
        default="cpu", description="torch device, e.g. cpu, cuda, cuda:1 or mps", json_schema_extra=MAY_CHANGE
    )
    threads: int = Field(
        default=0,
        ge=0,
        le=1000,
        description="number of threads of torch and of the native core; 0 = all cores",
    )
    precision: Literal["float32", "bfloat16"] = Field(
        default="float32",
        description="precision of encoders and products in training (automatic mixed precision); "
        "evaluation is always float32",
    )
    compile: bool = Field(default=False, description="compile session encoders with torch.compile")
    baselines: bool = Field(
        default=True,
        description="also measure the systems without training: popularity, item-kNN and others",
        json_schema_extra=MAY_CHANGE,
    )
    report: bool = Field(
        default=True,
        description="write report.html, which also shows the other runs of the folder",
        json_schema_extra=MAY_CHANGE,
    )
    metrics: Names = Field(
        default=DEFAULT_METRICS,
        description="metrics to report, from `alterrec list metrics`, e.g. mrr@10,recall@5,coverage@20; "
        "hits@20, ndcg@20 and schedule.metric are always reported",
    )
    memory_budget: str = Field(
        default="",
        description="memory limit of the process, e.g. 4GiB; scores are computed in chunks to stay below it; "
        "empty = no limit",
        json_schema_extra=MAY_CHANGE,
    )
    shard_items: bool = Field(
        default=False,
        description="divide item tables among the processes of a job; false = only if memory_budget needs it",
        json_schema_extra=MAY_CHANGE,
    )
    checkpoint_every: float = Field(
        default=600,
        ge=0,
        description="seconds between two checkpoints within an epoch; 0 = only after each epoch",
        json_schema_extra=MAY_CHANGE,
    )

    @field_validator("metrics")
    @classmethod
    def _known_metrics(cls, names: tuple[str, ...]) -> tuple[str, ...]:
        return tuple(dict.fromkeys(standard_name(name) for name in names))

    @property
    def target_metrics(self) -> tuple[str, ...]:
        """The metrics that follow from the rank of the target."""
        return tuple(name for name in self.metrics if not is_list_metric(name))

    @property
    def list_metrics(self) -> tuple[str, ...]:
        """The metrics of lists of recommendations."""
        return tuple(name for name in self.metrics if is_list_metric(name))

    @field_validator("memory_budget")
    @classmethod
    def _readable(cls, text: str) -> str:
        if text:
            parse_bytes(text)
        return text


class DataSettings(SettingsTable):
    """Which columns are read, and which prefixes are samples and targets."""

    targets: Literal["last", "every"] = Field(
        default="last",
        description="targets in validation and test: the last item of a session, or every item",
    )
    exclude_seen: Literal["never", "always", "auto"] = Field(
        default="auto",
        description="exclude the items of the prefix from the candidates; auto: they are candidates with the "
        "counted probability of a repeat (0 where no target repeats an item of its prefix)",
    )
    prefixes: int = Field(
        default=4,
        ge=0,
        description="random prefixes per training session and epoch; 0 = every prefix in every epoch",
    )
    half_life: float = Field(
        default=0.5,
        ge=0,
        description="age of a training session, as a share of the training period, at which its samples are "
        "used in every second epoch; 0 = all are used always, as where times are unknown",
    )
    vectors: str = Field(
        default="",
        description="file with text vectors (npy, safetensors or parquet) to use in place of item text",
    )
    text_fields: Names = Field(default=(), description="text columns to encode; empty = all that are text")
    categories: Names = Field(
        default=(),
        description="text columns with comma-separated categories; empty = the columns called "
        "category, categories, brand or taxonomy",
    )


class ModelSettings(SettingsTable):
    """Sizes and starting values, shared by all networks of a system."""

    dim: int = Field(default=64, ge=1, le=2**16, description="width d of item and session vectors")
    layers: int = Field(default=2, ge=1, le=1000, description="number of layers of a Transformer or GRU")
    heads: int = Field(default=2, ge=1, le=2**16, description="number of attention heads")
    inner: int = Field(
        default=0,
        ge=0,
        le=2**16,
        description="inner width of the feed-forward layers of a Transformer; 0 = 4 dim",
    )
    max_len: int = Field(
        default=50, ge=1, description="number of last items of a prefix that an encoder reads"
    )
    dropout: float = Field(
        default=0.2, ge=0, lt=1, description="dropout of networks that do not set their own"
    )
    init: Literal["normal", "uniform"] = Field(
        default="normal",
        description="starting values; normal: tables and matrices N(0, init_std), norms at 1 and 0; "
        "uniform: every parameter uniform within 1/sqrt(dim)",
    )
    init_std: float = Field(default=0.02, gt=0, description="standard deviation of normal starting values")
    init_from: str = Field(
        default="",
        description="folder of a unisrec run, or a .pth file of its public code, from which text adaptor and "
        "encoder start; empty = the starting values of the model",
    )
    continues: str = Field(
        default="",
        description="folder of a run of the same system, from whose weights this run starts, rows of items "
        "by their ids; `alterrec train --from` sets it, with the settings of the end of that run",
    )
    faithful: bool = Field(
        default=False,
        description="reproduce the faults of a baseline's public code that are otherwise corrected; the "
        "docstring of the model lists them",
    )

    @model_validator(mode="after")
    def _heads_divide(self) -> ModelSettings:
        if self.dim % self.heads:
            raise ValueError(f"dim is {self.dim} and heads is {self.heads}; choose heads that divide dim")
        return self


class NetworkSettings(SettingsTable):
    """Settings of one network; unset ones are those of ``model`` and ``optim``."""

    session: str = Field(default="recency", description=f"session encoder: {', '.join(SESSION_ENCODERS)}")
    queries: Literal["one", "items", "both"] = Field(
        default="both",
        description="queries of a session; one: its vector, items: each of its items, both: all of these; "
        "the probabilities of several queries are mixed with learned weights",
    )
    temperature: float | Literal["learned"] = Field(
        default="learned", description="divisor of scores; learned = a parameter that starts at sqrt(dim)"
    )
    norm: bool = Field(default=True, description="apply LayerNorm to item vectors")
    cosine: bool = Field(
        default=False, description="normalise session and item vectors to length 1 before their product"
    )
    input_dropout: float = Field(
        default=0.0,
        ge=0,
        lt=1,
        description="dropout on the item vectors that the encoders mean and weighted read",
    )
    output_dropout: float = Field(
        default=0.0,
        ge=0,
        lt=1,
        description="dropout on the vectors of candidate items only, not on those of the session",
    )
    dropout: float | None = Field(
        default=None, ge=0, lt=1, description="dropout of this network; empty = model.dropout"
    )
    lr: float | None = Field(
        default=None, gt=0, description="learning rate of this network; empty = optim.lr"
    )
    decay_every: int | None = Field(
        default=None,
        ge=1,
        description="epochs of this network between two decays of its learning rate; "
        "empty = optim.decay_every",
    )

    @field_validator("session")
    @classmethod
    def _known_encoder(cls, name: str) -> str:
        if name not in SESSION_ENCODERS:
            raise ValueError(f"choose one of {', '.join(SESSION_ENCODERS)}{nearest(name, SESSION_ENCODERS)}")
        return name

    @field_validator("temperature")
    @classmethod
    def _positive(cls, value: float | str) -> float | str:
        if not isinstance(value, str) and value <= 0:
            raise ValueError("use a number above 0, or 'learned'")
        return value


class IdSettings(NetworkSettings):
    """Settings of the ID network."""

    table_dropout: float = Field(default=0.2, ge=0, lt=1, description="dropout on the rows of the ID table")
    separate_output: bool = Field(
        default=False,
        description="score another ID table than the one that the session encoder reads; both are learned",
    )
    start: Literal["drawn", "pca", "projection"] = Field(
        default="drawn",
        description="start of the ID table: drawn (see model.init), or text vectors reduced to its width "
        "by principal components (pca) or a random projection",
    )
    optimiser: Literal["adam", "lazy_adam", "rowwise_adagrad"] = Field(
        default="adam",
        description="optimiser of the ID tables; lazy_adam: a step reads and writes only the rows with a "
        "gradient; rowwise_adagrad: likewise, with one number for each item as its whole state",
    )


class TextSettings(NetworkSettings):
    """Settings of the text network."""

    dropout: float | None = Field(
        default=0.0, ge=0, lt=1, description="dropout of this network; empty = model.dropout"
    )
    encoder: str = Field(
        default="lsa", description="lsa, or the name or path of a sentence-transformers model"
    )
    projection: Literal["mlp", "mixture"] = Field(
        default="mlp",
        description="layer from text to item vectors: linear and ReLU (mlp), or UniSRec's mixture of experts",
    )
    hidden: int = Field(
        default=256,
        ge=0,
        le=2**16,
        description="width of the hidden layer of the mlp; 0 = no second layer: the output of the first one",
    )
    experts: int = Field(default=8, ge=1, le=1000, description="number of experts of the mixture")
    standardise: bool = Field(
        default=True, description="scale every column of the text vectors to mean 0 and standard deviation 1"
    )
    whiten: bool = Field(
        default=False,
        description="replace text vectors by their principal components, each scaled to standard deviation "
        "1, instead of text.standardise",
    )
    prompt: str = Field(
        default="", description="prefix of each item text, for encoders that were trained with one"
    )
    truncate_dim: int = Field(
        default=0, ge=0, description="number of leading columns of the text vectors to keep; 0 = all"
    )
    encode_batch: int = Field(default=64, ge=1, description="batch size of the text encoder")


class WindowSettings(SettingsTable):
    """Hard negatives: a window of ranks in the teacher's ranking."""

    first: int | float = Field(
        default=1,
        description="k1: first rank, counted from 1; a value below 1 is a fraction of the catalogue",
    )
    last: int | float = Field(
        default=0.5, description="k2: last rank, included; a value below 1 is a fraction of the catalogue"
    )
    sample: int = Field(
        default=0, ge=0, description="number of sampled candidates; 0 = the number of ranks in the window"
    )
    random_share: float = Field(
        default=0.5, ge=0, le=1, description="share of candidates that are sampled from the whole catalogue"
    )
    exclude_target: bool = Field(default=True, description="remove the target before ranks are counted")
    pool: int = Field(
        default=0,
        ge=0,
        description="number of random items, drawn for each batch, which the teacher ranks; 0 = all items",
    )
    precision: Literal["float32", "float16"] = Field(
        default="float32",
        description="precision of the teacher's item table, if all networks have one query; float16 needs "
        "half the memory and changes a few items of a window",
    )

    @field_validator("first", "last")
    @classmethod
    def _rank(cls, value: float) -> float:
        if value <= 0 or (value >= 1 and value != int(value)):
            raise ValueError("use a rank (1, 2, ...) or a fraction between 0 and 1")
        return value


class PositivesSettings(SettingsTable):
    """Augmented positives (Eq. 4-5): the teacher's top items are further targets."""

    top: int = Field(default=0, ge=0, description="p: number of further targets; 0 = none")
    weight: float = Field(default=0.5, ge=0, description="beta: weight of each further target in the loss")
    teacher: Literal["other", "id"] = Field(
        default="other",
        description="network whose top items become further targets: the other one, or always the ID network",
    )
    as_samples: bool = Field(
        default=False,
        description="average further targets like samples of the batch, as the authors' code does",
    )


class LossSettings(SettingsTable):
    """The loss. All values but the default are for catalogues that are too large to score whole."""

    name: Literal["softmax", "gbce"] = Field(
        default="softmax", description="softmax cross-entropy, or gBCE, which needs sampled negatives"
    )
    logq: bool = Field(
        default=False, description="correct the softmax over random negatives for their sampling probability"
    )
    calibration: float = Field(default=0.75, ge=0, le=1, description="t of gBCE; 0 = binary cross-entropy")


class ScheduleSettings(SettingsTable):
    """Phases of training, their objectives and negatives, and early stopping."""

    regime: Literal["alternate", "together", "none"] = Field(
        default="alternate",
        description="alternate: two networks in turn (Algorithm 1); together: one network; none: no training",
    )
    warmup: int = Field(
        default=2, ge=0, le=100_000, description="m_random: epochs of each network before alternation"
    )
    gap: int = Field(
        default=1,
        ge=1,
        le=100_000,
        description="m_gap: epochs of one network before training switches to the other",
    )
    epochs: int = Field(
        default=12,
        ge=1,
        le=100_000,
        description="m_max: total number of epochs of all networks",
        json_schema_extra=MAY_CHANGE,
    )
    patience: int = Field(
        default=3,
        ge=1,
        description="stop after this many cycles without a better validation metric; a cycle trains every "
        "network once",
        json_schema_extra=MAY_CHANGE,
    )
    metric: str = Field(
        default="ndcg@20",
        description="validation metric that chooses the best epoch, such as ndcg@20 or recall@5",
    )
    objective: Literal["next", "cloze"] = Field(
        default="next",
        description="training objective: the next item, or masked items of whole sessions (cloze)",
    )
    pretrain: int = Field(
        default=0, ge=0, le=100_000, description="epochs of pretraining, in addition to schedule.epochs"
    )
    freeze: Names = Field(
        default=(), description="parameters to freeze after pretraining, given by prefixes of their names"
    )
    warmup_negatives: Negatives = Field(default="full", description="negatives in the warm-up")
    negatives: Negatives = Field(default="window", description="negatives after the warm-up")

    @field_validator("metric")
    @classmethod
    def _known_metric(cls, name: str) -> str:
        parse_metric(name)
        return standard_name(name)


class FusionSettings(SettingsTable):
    """How the scores of two networks are combined (Eq. 6)."""

    alpha: float = Field(
        default=0.5, ge=0, le=1, description="weight of the ID scores; the text scores have 1 - alpha"
    )
    tune: bool = Field(default=True, description="choose alpha on validation after training")
    neighbours: bool = Field(
        default=True,
        description="add item-kNN or co-visitation, whichever is better on validation, as a third part with "
        "a weight chosen on validation",
    )
    trend: bool = Field(
        default=True,
        description="add the change of popularity (log of recent by usual) as a further part with a weight "
        "chosen on validation",
    )
    gate: bool = Field(
        default=False,
        description="let the weights of the sum depend on the prefix, if this gains on validation sessions "
        "that they were not fitted on",
    )
    cold_by_text: bool = Field(
        default=True, description="score items without training interactions by text alone"
    )


class OptimSettings(SettingsTable):
    """Adam, one optimiser per network."""

    lr: float = Field(default=0.01, gt=0, description="learning rate")
    batch_size: int = Field(default=1024, ge=1, description="number of prefixes per step")
    decay: float = Field(
        default=0.75, gt=0, le=1, description="factor by which the learning rate of a network decays"
    )
    decay_every: int = Field(default=1, ge=1, description="epochs of a network between two decays")
    weight_decay: float = Field(default=0.0, ge=0, description="L2 penalty of Adam")


def parse_bytes(text: str) -> int:
    """Return the bytes of a size such as ``512MiB``, ``4GiB`` or ``1000000``.

    Raises:
        ValueError: the text is not a size.

    Example:
        >>> parse_bytes("1GiB")
        1073741824
    """
    try:
        return int(TypeAdapter(ByteSize).validate_python(text))
    except ValidationError:
        raise ValueError("use a size such as 512MiB or 4GiB") from None

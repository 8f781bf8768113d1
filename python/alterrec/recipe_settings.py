"""The tables of a recipe: every setting with its default, its limits and its description."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import (
    BaseModel,
    ByteSize,
    ConfigDict,
    Field,
    TypeAdapter,
    ValidationError,
    field_validator,
    model_validator,
)

from alterrec.errors import nearest
from alterrec.metrics import DEFAULT_METRICS, parse_metric

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


class SettingsTable(BaseModel):
    """One table of a recipe: strict types, unknown keys refused."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)


class RunSettings(SettingsTable):
    """Where and how a run executes; nothing here changes what is learned but the seed."""

    seed: int = Field(default=0, ge=0, description="seed of initialisation, order, draws and dropout")
    device: str = Field(default="cpu", description="torch device: cpu, cuda, cuda:1, mps")
    threads: int = Field(
        default=0, ge=0, description="threads of torch and of the native core; 0 = all cores"
    )
    precision: Literal["float32", "bfloat16"] = Field(
        default="float32",
        description="of encoders and products in training (automatic mixed precision); ranks are float32",
    )
    compile: bool = Field(default=False, description="compile session encoders with torch.compile")
    baselines: bool = Field(
        default=True, description="measure popularity, item-kNN and V-SKNN beside the model"
    )
    report: bool = Field(default=True, description="draw report.html, beside the other runs of the folder")
    metrics: tuple[str, ...] = Field(
        default=DEFAULT_METRICS,
        description="metrics to report, as mrr@10 or hits@5; hits@20, ndcg@20 and schedule.metric always are",
    )
    memory_budget: str = Field(
        default="",
        description="most memory of the process, e.g. 4GiB, kept by cutting scores; empty = no bound",
    )

    @field_validator("metrics", mode="before")
    @classmethod
    def _as_tuple(cls, value: Any) -> Any:
        return _as_tuple(value)

    @field_validator("metrics")
    @classmethod
    def _known_metrics(cls, names: tuple[str, ...]) -> tuple[str, ...]:
        for name in names:
            parse_metric(name)
        return names

    @field_validator("memory_budget")
    @classmethod
    def _readable(cls, text: str) -> str:
        if text:
            parse_bytes(text)
        return text


class DataSettings(SettingsTable):
    """What is read and what counts as a sample."""

    targets: Literal["last", "every"] = Field(
        default="last",
        description="targets in validation and test: the last item of a session, or every item",
    )
    exclude_seen: Literal["never", "always", "auto"] = Field(
        default="auto",
        description="leave the prefix's own items out of the candidates; auto: where fewer than 0.5 % of "
        "training targets repeat an item of their prefix",
    )
    prefixes: int = Field(
        default=4,
        ge=0,
        description="random prefixes a training session and epoch; 0 = every prefix, every epoch",
    )
    vectors: str = Field(
        default="", description="file with text vectors (npy, safetensors, parquet) instead of text"
    )
    text_fields: tuple[str, ...] = Field(
        default=(), description="text columns to encode; empty = all of them"
    )
    categories: tuple[str, ...] = Field(
        default=(),
        description="text columns whose values between commas are categories; empty = those called "
        "category, categories, brand or taxonomy",
    )

    @field_validator("text_fields", "categories", mode="before")
    @classmethod
    def _as_tuple(cls, value: Any) -> Any:
        return _as_tuple(value)


class ModelSettings(SettingsTable):
    """Sizes and starting values, shared by all networks of a system."""

    dim: int = Field(default=64, ge=1, description="width d of item and session vectors")
    layers: int = Field(default=2, ge=1, description="Transformer layers")
    heads: int = Field(default=2, ge=1, description="attention heads")
    inner: int = Field(
        default=0, ge=0, description="inner width of a Transformer's feed-forward nets; 0 = 4 dim"
    )
    max_len: int = Field(default=50, ge=1, description="last items of a prefix that an encoder reads")
    dropout: float = Field(
        default=0.2, ge=0, lt=1, description="dropout where a network does not set its own"
    )
    init: Literal["normal", "uniform"] = Field(
        default="normal",
        description="normal: tables and matrices N(0, init_std), norms at 1 and 0; "
        "uniform: every parameter within 1/sqrt(dim)",
    )
    init_std: float = Field(default=0.02, gt=0, description="standard deviation of the normal start")
    init_from: str = Field(
        default="",
        description="run folder of unisrec, or a .pth of its public code: training starts from its text "
        "adaptor and encoder; empty = from the model's own start",
    )
    faithful: bool = Field(
        default=False,
        description="repeat the faults of a baseline's public code, which its docstring names and mends",
    )

    @model_validator(mode="after")
    def _heads_divide(self) -> ModelSettings:
        if self.dim % self.heads:
            raise ValueError(f"dim is {self.dim}, heads is {self.heads}; allowed: heads that divide dim")
        return self


class NetworkSettings(SettingsTable):
    """What the ID and the text network choose on their own; empty = as in ``model`` and ``optim``."""

    session: str = Field(default="recency", description=f"session encoder: {', '.join(SESSION_ENCODERS)}")
    temperature: float | Literal["learned"] = Field(
        default="learned", description="scores are divided by it; learned = starts at sqrt(dim), then trained"
    )
    norm: bool = Field(default=True, description="LayerNorm over the item table")
    cosine: bool = Field(
        default=False, description="session and item vectors are brought to length 1 before their product"
    )
    input_dropout: float = Field(
        default=0.0,
        ge=0,
        lt=1,
        description="dropout on the item rows of a session as the encoders mean and weighted read them",
    )
    output_dropout: float = Field(
        default=0.0,
        ge=0,
        lt=1,
        description="dropout on item vectors as they are scored, not as they are read",
    )
    dropout: float | None = Field(default=None, ge=0, lt=1, description="dropout of this network")
    lr: float | None = Field(default=None, gt=0, description="learning rate of this network")
    decay_every: int | None = Field(
        default=None, ge=1, description="own epochs between two decays of its rate"
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
            raise ValueError("allowed: above 0, or 'learned'")
        return value


class IdSettings(NetworkSettings):
    """The ID network."""

    table_dropout: float = Field(default=0.2, ge=0, lt=1, description="dropout on the rows of the ID table")
    start: Literal["drawn", "pca", "projection"] = Field(
        default="drawn",
        description="start of the ID table: drawn as model.init says, or text vectors reduced to its width "
        "by their principal components or by a random projection",
    )


class TextSettings(NetworkSettings):
    """The text network."""

    dropout: float | None = Field(default=0.0, ge=0, lt=1, description="dropout of this network")
    encoder: str = Field(default="lsa", description="lsa, or a sentence-transformers model by name or path")
    projection: Literal["mlp", "mixture"] = Field(
        default="mlp",
        description="from text to item vectors: linear and ReLU, or UniSRec's mixture of experts",
    )
    experts: int = Field(default=8, ge=1, description="experts of the mixture")
    standardise: bool = Field(
        default=True, description="give every column of the text vectors mean 0 and deviation 1"
    )
    prompt: str = Field(default="", description="put before each text, for encoders trained with one")
    truncate_dim: int = Field(default=0, ge=0, description="leading columns of the encoder to keep; 0 = all")
    encode_batch: int = Field(default=64, ge=1, description="texts a step of the encoder")


class GruSettings(SettingsTable):
    """Recurrent session encoders (GRU4Rec)."""

    hidden: int = Field(default=0, ge=0, description="width of a GRU's hidden state; 0 = 2 dim")


class FrequencySettings(SettingsTable):
    """Session encoders with frequency filters (BSARec)."""

    alpha: float = Field(default=0.9, ge=0, le=1, description="weight of the filter beside attention")
    low: int = Field(
        default=3, ge=0, description="c: waves over a prefix up to c // 2 are low frequencies, others high"
    )


class FdsaSettings(SettingsTable):
    """What FDSA knows of an item besides its id."""

    features: Literal["text", "attributes"] = Field(
        default="text", description="what the second stream reads: text vectors, or data.categories"
    )


class UnisrecSettings(SettingsTable):
    """UniSRec's pretraining: sessions against next items and against themselves with something left out."""

    drop: float = Field(default=0.2, ge=0, lt=1, description="share of items, or texts, that are changed")
    item_share: float = Field(
        default=0.9, ge=0, le=1, description="share of batches that lose items; the others lose words"
    )
    sequence_weight: float = Field(
        default=0.001, ge=0, description="weight of sessions against themselves beside sessions against items"
    )


class WindowSettings(SettingsTable):
    """Candidates beside the target in hard-negative phases, from the teacher's ranked list."""

    first: int | float = Field(
        default=1, description="k1: first rank, from 1; below 1 a fraction of the catalogue"
    )
    last: int | float = Field(
        default=0.1, description="k2: last rank, included; below 1 a fraction of the catalogue"
    )
    sample: int = Field(
        default=0, ge=0, description="candidates drawn in all; 0 = as many as the window has ranks"
    )
    random_share: float = Field(
        default=0.5, ge=0, le=1, description="share of candidates drawn over the catalogue"
    )
    exclude_target: bool = Field(default=True, description="take the target out before ranks are counted")

    @field_validator("first", "last")
    @classmethod
    def _rank(cls, value: float) -> float:
        if value <= 0 or (value >= 1 and value != int(value)):
            raise ValueError("allowed: a rank (1, 2, ...) or a fraction between 0 and 1")
        return value


class PositivesSettings(SettingsTable):
    """Augmented positives of Eq. 4-5: the teacher's top items as further targets."""

    top: int = Field(default=0, ge=0, description="p: how many; 0 = none")
    weight: float = Field(default=0.5, ge=0, description="weight of each in the loss (beta)")
    teacher: Literal["other", "id"] = Field(
        default="other", description="whose top items: the other network's, or ID's"
    )
    as_samples: bool = Field(
        default=False,
        description="count them as samples of the batch and average them, as the authors' code does",
    )


class LossSettings(SettingsTable):
    """What is minimised; all choices but the default are for catalogues too large to score whole."""

    name: Literal["softmax", "gbce"] = Field(
        default="softmax", description="softmax cross-entropy, or gBCE, which needs random negatives"
    )
    logq: bool = Field(
        default=False, description="count random negatives so that they stand for the whole catalogue"
    )
    calibration: float = Field(default=0.75, ge=0, le=1, description="t of gBCE; 0 is plain BCE")


class GraphSettings(SettingsTable):
    """Graphs of sessions, for systems that read them."""

    steps: int = Field(default=1, ge=1, description="rounds of messages in the graph of a session (srgnn)")
    predecessors: int = Field(
        default=12,
        ge=1,
        description="most frequent predecessors of an item that the global graph links to it once more "
        "(hggnn)",
    )


class ScheduleSettings(SettingsTable):
    """Which network learns what and when, against what, and when to stop."""

    regime: Literal["alternate", "together", "none"] = Field(
        default="alternate",
        description="alternate: Algorithm 1; together: one network; none: nothing to train",
    )
    warmup: int = Field(default=2, ge=0, description="m_random: epochs of each network before alternation")
    gap: int = Field(default=1, ge=1, description="m_gap: epochs of one network before the other's turn")
    epochs: int = Field(default=12, ge=1, description="m_max: epochs in all, both networks together")
    patience: int = Field(
        default=3, ge=1, description="turns of every network without a better validation: stop"
    )
    metric: str = Field(
        default="ndcg@20", description="validation metric that chooses the best epoch, as ndcg@20 or hits@5"
    )
    objective: Literal["next", "cloze"] = Field(
        default="next", description="what is learned: the next item, or masked items of whole sessions"
    )
    pretrain: int = Field(
        default=0, ge=0, description="epochs of the system's own pretraining, before and besides the others"
    )
    freeze: tuple[str, ...] = Field(
        default=(), description="names of parameters, or their beginnings, that stay as pretraining left them"
    )
    warmup_negatives: Negatives = Field(default="full", description="candidates in the warm-up")
    negatives: Negatives = Field(default="window", description="candidates afterwards")

    @field_validator("freeze", mode="before")
    @classmethod
    def _as_tuple(cls, value: Any) -> Any:
        return _as_tuple(value)

    @field_validator("metric")
    @classmethod
    def _known_metric(cls, name: str) -> str:
        parse_metric(name)
        return name


class ClozeSettings(SettingsTable):
    """Which items are masked where ``schedule.objective`` is cloze."""

    last: float = Field(
        default=0.5, ge=0, le=1, description="share of samples in which the last item alone is masked"
    )
    ratio: float = Field(
        default=0.2, gt=0, le=1, description="chance of each item in the others, of which one always is"
    )


class S3RecSettings(SettingsTable):
    """What S3-Rec's pretraining masks and how it weighs its four tasks."""

    attributes: Literal["text", "categories", "auto"] = Field(
        default="text",
        description="what items are described by: their text vectors, their categories, or categories where "
        "there are any",
    )
    mask: float = Field(default=0.2, gt=0, lt=1, description="chance of an item to be masked")
    mask_last: bool = Field(default=False, description="mask the last item of a session always")
    aap: float = Field(
        default=1.0, ge=0, description="weight of associated attributes: those of the items that are seen"
    )
    mip: float = Field(default=0.2, ge=0, description="weight of masked items")
    map: float = Field(default=1.0, ge=0, description="weight of masked items' attributes")
    sp: float = Field(default=0.5, ge=0, description="weight of masked segments")


class FusionSettings(SettingsTable):
    """How the members' scores become one (Eq. 6)."""

    alpha: float = Field(default=0.5, ge=0, le=1, description="weight of ID; text has the rest")
    tune: bool = Field(default=True, description="choose alpha on validation, without retraining")
    neighbours: bool = Field(
        default=True, description="item-kNN as third member, weight chosen on validation"
    )
    cold_by_text: bool = Field(default=True, description="items without training are scored by text alone")


class OptimSettings(SettingsTable):
    """One Adam a network."""

    lr: float = Field(default=0.01, gt=0, description="learning rate")
    batch_size: int = Field(default=512, ge=1, description="prefixes a step")
    decay: float = Field(default=0.75, gt=0, le=1, description="factor on the rate of a network ...")
    decay_every: int = Field(default=1, ge=1, description="... after this many of its own epochs")
    weight_decay: float = Field(default=0.0, ge=0, description="Adam's L2 penalty")


def _as_tuple(value: Any) -> Any:
    """TOML knows lists alone."""
    return tuple(value) if isinstance(value, list) else value


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

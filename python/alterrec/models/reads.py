"""Which settings a system reads: one that it does not read is refused where a user gives it."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from typing import Any

from alterrec.errors import InputError, number_of
from alterrec.models.catalogue import MODELS, Entry, lookup, reads_text
from alterrec.recipe import ORIGINAL, Recipe, recipe_fields, resolve
from alterrec.recipe_settings import SESSION_ENCODERS, NetworkSettings

# Where and how a run executes, and what it is measured on.
_EVERY_RUN = (
    *("run.seed", "run.device", "run.threads", "run.memory_budget"),
    *("run.baselines", "run.report", "run.metrics"),
    *("data.targets", "data.exclude_seen", "data.vectors", "data.text_fields"),
    *("model.max_len", "schedule.metric"),
)
_TRAINING = (
    *("run.precision", "run.compile", "run.checkpoint_every", "data.prefixes", "data.half_life", "model.dim"),
    *("optim.batch_size", "optim.decay", "optim.weight_decay"),
    *("run.shard_items", "schedule.regime", "schedule.epochs", "schedule.patience", "model.continues"),
)
# Settings that make a system read others, and a value with which they do.
_SWITCHES: Sequence[tuple[str, Any]] = (
    *(("schedule.negatives", value) for value in ("random", "window")),
    *(("positives.top", 1), ("loss.name", "gbce"), ("schedule.warmup", 1), ("optim.decay", 0.5)),
    *(("schedule.pretrain", 1), ("schedule.objective", "cloze"), ("schedule.objective", "next")),
    *(("model.init", "normal"), ("text.projection", "mixture"), ("text.projection", "mlp")),
    *(("text.encoder", "all-MiniLM-L6-v2"), ("id.start", "pca"), ("data.vectors", "")),
    ("text.whiten", False),
    *((f"{table}.queries", value) for table in ("id", "text") for value in ("one", "both")),
    *((f"{table}.session", name) for table in ("id", "text") for name in SESSION_ENCODERS),
    *(("fdsa.features", "text"), ("s3rec.attributes", "text"), ("loss.name", "softmax")),
)


def keys_read(recipe: Recipe) -> set[str]:
    """Return the keys of a recipe that its run reads: a change of any other key changes nothing.

    Example:
        >>> from alterrec.recipe import resolve
        >>> "s3rec.mask" in keys_read(resolve("s3rec")), "s3rec.mask" in keys_read(resolve("sasrec"))
        (True, False)
    """
    entry = lookup(recipe.model_name)
    keys = set(_EVERY_RUN)
    if recipe.data.text_fields or any(recipe.value(key) != "text" for key in entry.text_unless):
        keys.add("data.categories")
    if entry.trains:
        keys.update(_TRAINING, entry.reads, *(_network_keys(entry, recipe, name) for name in entry.networks))
        keys.update(_item_keys(entry, recipe), _start_keys(entry, recipe), _schedule_keys(entry, recipe))
    return {key for key in recipe_fields() if key in keys or key.partition(".")[0] in keys}


def resolve_read(
    model: str, presets: Sequence[str] = ("best",), overrides: Mapping[str, Any] | None = None
) -> Recipe:
    """Resolve a recipe as :func:`alterrec.recipe.resolve` does, and refuse overrides that the run ignores.

    Raises:
        InputError: likewise, or a key that the system does not read; the message names the systems that do.

    Example:
        >>> resolve_read("sasrec", overrides={"s3rec.mask": 0.5})
        Traceback (most recent call last):
            ...
        alterrec.errors.InputError: sasrec does not read s3rec.mask; it is read by s3rec; leave the key out
    """
    recipe = resolve(model, presets, overrides)
    check_read(recipe, overrides or {})
    return recipe


def check_read(recipe: Recipe, overrides: Iterable[str]) -> None:
    """Raise InputError if the run of a recipe does not read a key that the user gives."""
    for key in unread(recipe, overrides):
        raise InputError(_message(recipe, key))
    entry = lookup(recipe.model_name)
    if entry.trains and recipe.schedule.regime != entry.regime:
        raise InputError(
            f"schedule.regime is {recipe.schedule.regime!r}, but {recipe.model_name} has "
            f"{number_of(len(entry.networks), 'network')}; use {entry.regime!r}"
        )


def unread(recipe: Recipe, keys: Iterable[str]) -> list[str]:
    """Return those of some keys that the run of a recipe does not read.

    Example:
        >>> unread(resolve("id_only"), ["optim.lr", "text.encoder"])
        ['text.encoder']
    """
    known = keys_read(recipe)
    return [key for key in keys if key not in known]


def settings_read(model: str, presets: Sequence[str], settings: Mapping[str, Any]) -> dict[str, Any]:
    """Return those of the settings of many systems that one of them reads.

    Example:
        >>> settings_read("popularity", ["best"], {"model.dim": 8, "run.threads": 1})
        {'run.threads': 1}
    """
    ignored = unread(resolve(model, presets, settings), settings)
    return {key: value for key, value in settings.items() if key not in ignored}


def check_settings(
    models: Collection[str],
    presets: Sequence[str],
    settings: Mapping[str, Any],
    searched: Mapping[str, Sequence[Any]] | None = None,
) -> None:
    """Refuse a setting, or a key that is searched, that none of some systems reads.

    Args:
        models: the systems.
        presets: their presets.
        settings: key -> value, the same for all.
        searched: key -> the values that are tried; a key is fine if it is read next to any value of another.

    Raises:
        InputError: the message names the systems that read the key.
    """
    first = {**settings, **{key: values[0] for key, values in (searched or {}).items()}}
    points = [
        first,
        *({**first, key: value} for key, values in (searched or {}).items() for value in values[1:]),
    ]
    recipes = [resolve(model, presets, point) for model in models for point in points]
    for key in first:
        if all(unread(recipe, [key]) for recipe in recipes):
            raise InputError(_message(recipes[0], key, models))


def _message(recipe: Recipe, key: str, models: Collection[str] = ()) -> str:
    presets = [preset for preset in recipe.presets if preset != ORIGINAL]
    readers = [model for model in MODELS if not unread(resolve(model, presets), [key])]
    switch = next(
        (f"{name}={value}" for name, value in _SWITCHES if not unread(_switched(recipe, name, value), [key])),
        "",
    )
    verb = "do" if len(models) > 1 else "does"
    return (
        f"{', '.join(models) or recipe.model_name} {verb} not read {key}"
        f"{f' unless {switch} is set' if switch else ''}; "
        f"it is read by {', '.join(readers) or 'no system by default'}; leave the key out"
    )


def _switched(recipe: Recipe, key: str, value: Any) -> Recipe:
    if key in unread(recipe, [key]):
        return recipe
    table, _, field = key.partition(".")
    settings = getattr(recipe, table).model_copy(update={field: value})
    return recipe.model_copy(update={table: settings})


def _encoder_reads(entry: Entry, recipe: Recipe, table: str) -> tuple[str, ...]:
    if entry.session_reads is not None:
        return entry.session_reads
    network: NetworkSettings = getattr(recipe, table)
    return () if network.queries == "items" else SESSION_ENCODERS[network.session]


def _network_keys(entry: Entry, recipe: Recipe, table: str) -> Iterator[str]:
    network: NetworkSettings = getattr(recipe, table)
    yield from (f"{table}.{field}" for field in ("temperature", "cosine", "output_dropout", "lr"))
    if network.lr is None:
        yield "optim.lr"
    if recipe.optim.decay < 1:
        yield f"{table}.decay_every"
        if network.decay_every is None:
            yield "optim.decay_every"
    if entry.session_reads is None:
        yield f"{table}.queries"
        if network.queries != "items":
            yield f"{table}.session"
    for key in _encoder_reads(entry, recipe, table):
        if key != "model.init":
            yield key if "." in key else f"{table}.{key}"
        if key == "dropout" and network.dropout is None:
            yield "model.dropout"


def _start_keys(entry: Entry, recipe: Recipe) -> Iterator[str]:
    encoders = [_encoder_reads(entry, recipe, table) for table in entry.networks]
    if not entry.own_start or any("model.init" in keys for keys in encoders):
        yield "model.init"
        if recipe.model.init == "normal":
            yield "model.init_std"


def _item_keys(entry: Entry, recipe: Recipe) -> Iterator[str]:
    """Yield the keys of item encoders and of text vectors."""
    if "id" in entry.items:
        yield from ("id.table_dropout", "id.norm", "id.start", "id.optimiser")
    if not reads_text(recipe):
        return
    yield "text.whiten"
    if not recipe.text.whiten:
        yield "text.standardise"
    if not recipe.data.vectors:
        yield from ("text.encoder", "text.truncate_dim")
        if recipe.text.encoder != "lsa":
            yield from ("text.prompt", "text.encode_batch")
    by_categories = any(recipe.value(key) == value for key, value in entry.text_unless.items())
    if "text" in entry.items and not by_categories:
        yield from ("text.projection", "text.dropout")
        yield from ("text.experts",) if recipe.text.projection == "mixture" else ("text.norm", "text.hidden")
        if recipe.text.dropout is None:
            yield "model.dropout"


def _schedule_keys(entry: Entry, recipe: Recipe) -> Iterator[str]:
    """Yield the keys of phases, of their losses and candidates, and of the sum of two networks."""
    plan = recipe.schedule
    if entry.pretrains:
        yield from ("schedule.pretrain", "schedule.freeze")
        if plan.pretrain:
            yield from entry.pretrains
    if plan.objective == "cloze":
        yield "cloze"
    if len(entry.networks) > 1:
        yield from ("schedule.gap", "fusion", "positives.top")
        if recipe.positives.top:
            yield "positives"
    if plan.objective == "next":
        yield from _candidate_keys(entry, recipe)


def _candidate_keys(entry: Entry, recipe: Recipe) -> Iterator[str]:
    plan, networks = recipe.schedule, len(entry.networks)
    one_vector = any(getattr(recipe, table).queries == "one" for table in entry.networks)
    yield from ("loss.name", "schedule.negatives")
    if networks > 1 or plan.warmup_negatives != plan.negatives:
        yield "schedule.warmup"
    if plan.warmup:
        yield "schedule.warmup_negatives"
    used = {plan.negatives, *([plan.warmup_negatives] if plan.warmup else [])}
    if recipe.loss.name == "gbce":
        yield "loss.calibration"
    elif "random" in used and one_vector:
        yield "loss.logq"
    if used != {"full"}:
        yield "window.sample"
    if "window" in used:
        yield from ("window.first", "window.last", "window.random_share", "window.pool")
        if one_vector:
            yield "window.exclude_target"
        if all(getattr(recipe, table).queries == "one" for table in entry.networks):
            yield "window.precision"
    if "random" in used and not recipe.window.sample:
        yield from ("window.first", "window.last")

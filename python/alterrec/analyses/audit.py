"""Audit a data set before training: look for faults of the splits and texts, and measure simple baselines.

Legend of shapes: T interactions, V items.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import combinations
from pathlib import Path

import numpy as np
import polars as pl
import torch
from numpy.typing import ArrayLike, NDArray
from scipy.spatial.distance import jensenshannon  # type: ignore[import-untyped]

from alterrec.analyses.audit_page import EXAMPLES, Audit, TextBenefit
from alterrec.analyses.audit_records import Checks, Copies, Drift, SimilarTexts, TimeOrder
from alterrec.analyses.audit_times import session_times
from alterrec.data.dataset import Dataset
from alterrec.data.readers import DataSource
from alterrec.data.repeats import SeenItems, seen_items
from alterrec.data.statistics import statistics
from alterrec.data.text import text_vectors
from alterrec.evaluation import saved
from alterrec.evaluation.choices import choose_scales, choose_system
from alterrec.evaluation.comparisons import standard_error
from alterrec.evaluation.evaluate import Protocol, Ranks, evaluate
from alterrec.evaluation.sign_flips import paired_differences
from alterrec.metrics import DEFAULT_METRICS, metric_values
from alterrec.models.catalogue import UNTRAINED, lookup
from alterrec.models.neighbours import Blend, ItemKnn, TextNeighbours, Untrained
from alterrec.recipe import resolve
from alterrec.report.tables import BASELINE_NAMES
from alterrec.results import Group, Metrics
from alterrec.sessions import SessionStore

# Two shorter sessions may well be equal by chance.
LONG = 4
# In shorter texts a single different word makes a different item.
MIN_WORDS = 5
DRAWS = 3

CHOSEN_BY, FOUND_BY = "ndcg@20", "hits@20"
# With this decay, items before the last one have practically no weight.
LAST_ONLY = 1e-9
TEXT_WEIGHTS = (0.0, 0.05, 0.1, 0.2, 0.4, 0.8, 1.6)
MAX_LEN = 50


def audit(
    data: str | Path | Dataset | None = None,
    *,
    text: Sequence[str] | None = None,
    text_encoder: str = "lsa",
    columns: Mapping[str, str] | None = None,
    drop_unknown: bool = False,
    format: str | None = None,
    locale: str | None = None,
    command: str = "",
    progress: Callable[[str], None] = lambda line: None,
) -> Audit:
    """Check a data set for leaks, duplicates, tied texts and drift, and measure what needs no training.

    Targets are the last items of test sessions, ranked among the whole catalogue. The rule for the session's
    own items is that of ``data.exclude_seen=auto``; metrics under the other rules are measured too. Settings
    of the neighbour systems are chosen on validation.

    Args:
        data: path of a folder or file (see docs/data.md), or a data set. Default: the built-in catalogue.
        text: names of the item columns to read as text. Default: chosen by their names and content.
        text_encoder: name of the text encoder, ``lsa`` (the default) or a sentence-transformers model.
        columns: our column name -> the name in the files. Default: the names are ours.
        drop_unknown: whether session rows of items that are not in ``items`` are dropped and counted.
            Default: they are an error.
        format: format of the data, a name from ``alterrec list formats``. Default: recognised by the files.
        locale: the part of a multilingual format to read, such as ``"FR"``, or ``"all"``. Default: None.
        command: the command that makes the audit, shown on its page. Default: none.
        progress: called with a line of text before each step. Default: nothing is called.

    Returns:
        The checks with their severity, the metrics of untrained rankings, and whether text can help.

    Raises:
        InputError: the data cannot be read.

    Example:
        >>> from alterrec.data.synthetic import synthetic_dataset
        >>> found = audit(synthetic_dataset(items=300, sessions=900))
        >>> list(found.baselines)[:4]
        ['popularity', 'recent popularity', 'last item', 'item-kNN']
        >>> list(found.baselines)[4:]
        ['co-visitation', 'V-SKNN', 'text neighbours', 'item-kNN + text']
    """
    source = DataSource(data, columns or {}, drop_unknown, format, locale)
    recipe = resolve(UNTRAINED[0], overrides={"data.text_fields": tuple(text or ())})
    dataset = source.read(recipe, progress)
    progress("checking sessions, timestamps and texts")
    found = check_data(dataset)
    seen, repeats = seen_items("auto", dataset.train, dataset.valid, "last")
    protocol = Protocol("last", seen, MAX_LEN, repeats=repeats)
    systems = dict(_baselines(dataset, protocol, progress))
    vectors = _vectors(dataset, text_encoder, progress)
    if vectors is not None:
        nearest = TextNeighbours(torch.from_numpy(np.array(vectors, np.float32)))
        nearest.scales = choose_scales(nearest, dataset.valid, protocol, CHOSEN_BY)
        progress("measuring text neighbours")
        blends = (Blend(systems["item-kNN"], nearest, weight) for weight in TEXT_WEIGHTS)
        systems["text neighbours"] = nearest
        systems["item-kNN + text"] = choose_system(blends, dataset.valid, protocol, CHOSEN_BY)
    ranks = {name: evaluate(system, dataset.test, protocol) for name, system in systems.items()}
    return Audit(
        name=dataset.name,
        fingerprint=dataset.fingerprint,
        statistics=statistics(dataset),
        checks=found,
        groups=_groups(dataset, ranks),
        by_seen={name: _by_seen(part) for name, part in ranks.items()},
        errors={name: _errors(part) for name, part in ranks.items()},
        text=None if vectors is None else _text_benefit(dataset, ranks, systems["item-kNN + text"]),
        text_encoder="given vectors" if dataset.vectors is not None else text_encoder,
        seen=seen,
        notes=dataset.notes,
        command=command,
    )


# Checks


def check_data(data: Dataset) -> Checks:
    """Look for what would spoil a comparison or make it look better than it is.

    Example:
        >>> from alterrec.data.synthetic import synthetic_dataset
        >>> found = check_data(synthetic_dataset(items=300, sessions=900))
        >>> [(each.earlier, each.later) for each in found.copies]
        [('train', 'valid'), ('train', 'test'), ('valid', 'test')]
    """
    pairs = combinations(("train", "valid", "test"), 2)
    targets = data.test.items[data.test.offsets[1:] - 1] if data.test.num_sessions else np.empty(0, np.int64)
    return Checks(
        copies=[copied_sessions(data, earlier, later) for earlier, later in pairs],
        order=time_order(data),
        times=session_times(data),
        alike=similar_texts(data.text.joined_texts(), targets) if data.text else None,
        drift=[drift(data, split) for split in ("valid", "test") if data.splits[split].num_sessions],
    )


def copied_sessions(data: Dataset, earlier: str, later: str) -> Copies:
    """Sessions of ``later`` that also occur in ``earlier``."""

    def keys(store: SessionStore) -> list[bytes]:
        return [store.session(row).tobytes() for row in range(store.num_sessions)]

    known = set(keys(data.splits[earlier]))
    store, names = data.splits[later], data.session_names.get(later, [])
    rows = [row for row, key in enumerate(keys(store)) if key in known]
    by_length = sorted(rows, key=lambda row: -int(store.lengths[row]))
    return Copies(
        earlier=earlier,
        later=later,
        sessions=len(rows),
        share=len(rows) / max(store.num_sessions, 1),
        long=sum(int(store.lengths[row]) >= LONG for row in rows),
        named=len(set(names) & set(data.session_names.get(earlier, []))),
        examples=[names[row] for row in by_length[:EXAMPLES]] if names else [],
    )


def time_order(data: Dataset) -> list[TimeOrder]:
    """Compare the times of validation and test with the end of training; empty without timestamps."""
    train_times = data.train.timestamps
    if train_times is None:
        return []
    ends = int(np.asarray(train_times).max())
    found = []
    for split in ("valid", "test"):
        store = data.splits[split]
        if store.timestamps is not None and store.num_sessions:
            times = np.asarray(store.timestamps)
            last, first = times[store.offsets[1:] - 1], times[store.offsets[:-1]]
            ended, begun = int((last <= ends).sum()), int((first <= ends).sum())
            found.append(TimeOrder(split, ended, begun, ended / store.num_sessions))
    return found


def similar_texts(texts: Sequence[str], targets: ArrayLike) -> SimilarTexts:
    """Find texts that are identical, have the same words, or differ in one word.

    Sums of word hashes represent multisets of words, so a catalogue of 100,000 items takes seconds.

    Example:
        >>> texts = ["Red Mug", "red, mug", "Mug red", "Mug red", "a b c d e", "a b c d f"]
        >>> found = similar_texts(texts, [2])
        >>> found.identical, found.same_words, found.one_word, found.targets
        (2, 4, 2, 1.0)
    """
    frame = pl.DataFrame({"item": np.arange(len(texts)), "text": list(texts)})
    counted = frame.filter(pl.col("text") != "").with_columns(same=pl.len().over("text"))
    identical = counted.filter(pl.col("same") > 1)
    groups = identical.group_by("text").len().sort(["len", "text"], descending=[True, False])
    words = (
        frame.with_columns(word=pl.col("text").str.to_lowercase().str.extract_all(r"\w+"))
        .explode("word")
        .drop_nulls("word")
        .select("item", own=pl.col("word").hash(seed=0))
    )
    sum_V, count_V = _hash_sums(words["item"].to_numpy(), words["own"].to_numpy(), len(texts))
    same = pl.DataFrame({"sum": sum_V, "words": count_V}).filter(pl.col("words") > 0)
    same_words = same.filter(pl.len().over("sum") > 1)
    near = _one_word_apart(words["item"].to_numpy(), words["own"].to_numpy(), sum_V, count_V)
    rows = near.unique("item", maintain_order=True).group_by("key", maintain_order=True).agg("item")
    pairs = [row for row in rows["item"].to_list() if len(row) > 1][:EXAMPLES]
    wanted = np.asarray(targets)
    return SimilarTexts(
        identical=len(identical),
        same_words=len(same_words),
        one_word=near["item"].n_unique(),
        targets=float(np.isin(wanted, identical["item"].to_numpy()).mean()) if len(wanted) else 0.0,
        groups=[(text, number) for text, number in groups.head(EXAMPLES).iter_rows()],
        near=[[texts[item] for item in row[:EXAMPLES]] for row in pairs],
    )


def drift(data: Dataset, split: str) -> Drift:
    """Distance of a split's item distribution from train's, and that of random train sessions."""
    store = data.splits[split]
    train_V = np.asarray(data.train.item_counts(), np.float64)
    sessions = data.train.num_sessions
    rng = np.random.default_rng(0)
    drawn = []
    for _ in range(DRAWS):
        rows = rng.choice(sessions, min(store.num_sessions, sessions // 2), replace=False)
        chosen_R = np.isin(np.arange(sessions), rows)
        items = data.train.items[np.repeat(chosen_R, data.train.lengths)]
        part_V = np.bincount(items, minlength=data.num_items)
        drawn.append(jensen_shannon(part_V, train_V - part_V))
    return Drift(split, jensen_shannon(store.item_counts(), train_V), float(np.mean(drawn)))


def jensen_shannon(first: ArrayLike, second: ArrayLike) -> float:
    """Jensen-Shannon distance of two distributions given as counts: 0 if equal, 1 if they share nothing.

    The square root of the divergence in bits (Endres and Schindelin 2003); 0 if all counts of one are 0.

    Example:
        >>> jensen_shannon([2, 2], [1, 1]), jensen_shannon([1, 0], [0, 3])
        (0.0, 1.0)
    """
    counts = np.asarray(first, np.float64), np.asarray(second, np.float64)
    return float(jensenshannon(*counts, base=2)) if all(each.sum() for each in counts) else 0.0


def _hash_sums(
    items: NDArray[np.int64], hashes: NDArray[np.uint64], size: int
) -> tuple[NDArray[np.uint64], NDArray[np.int64]]:
    """Sum of hashes (it wraps around) and number of words of each item; ``items`` is in ascending order."""
    counts = np.bincount(items, minlength=size)
    running = np.concatenate([np.zeros(1, np.uint64), np.cumsum(hashes, dtype=np.uint64)])
    stops = np.cumsum(counts)
    return running[stops] - running[stops - counts], counts


def _one_word_apart(
    items: NDArray[np.int64],
    hashes: NDArray[np.uint64],
    sum_V: NDArray[np.uint64],
    count_V: NDArray[np.int64],
) -> pl.DataFrame:
    """Rows (item, key): unchanged or without one of its words, the item has the words of another item."""
    long = count_V[items] >= MIN_WORDS
    complete = np.flatnonzero(count_V >= MIN_WORDS - 1)
    every = np.concatenate([items[long], complete])
    keys = np.concatenate([sum_V[items[long]] - hashes[long], sum_V[complete]])
    rows = pl.DataFrame({"item": every, "key": keys, "sum": sum_V[every]})
    return rows.filter(pl.col("sum").n_unique().over("key") > 1).select("item", "key")


# Baselines and text


def _baselines(
    dataset: Dataset, protocol: Protocol, progress: Callable[[str], None]
) -> Iterator[tuple[str, Untrained]]:
    """Non-neural baselines by displayed name, with settings chosen on validation."""
    for name in UNTRAINED:
        progress(f"measuring {name}")
        candidates = lookup(name).candidates(dataset.train)
        chosen = choose_system(candidates, dataset.valid, protocol, CHOSEN_BY)
        if isinstance(chosen, ItemKnn):
            last = ItemKnn(chosen.neighbours, dataset.num_items, LAST_ONLY)
            last.scales = choose_scales(last, dataset.valid, protocol, CHOSEN_BY)
            yield "last item", last
        yield BASELINE_NAMES[name], chosen


def _vectors(dataset: Dataset, encoder: str, progress: Callable[[str], None]) -> NDArray[np.floating] | None:
    if dataset.vectors is not None:
        return dataset.vectors
    if dataset.text is None or not any(map(any, dataset.text.fields.values())):
        return None
    progress(f"encoding item text with {encoder}")
    return text_vectors(dataset.text, encoder, say=progress)


def _by_seen(ranks: Ranks) -> dict[SeenItems, Metrics]:
    """Metrics by rule for the session's own items; 0 without targets."""
    found = ranks.metrics_by_rule()
    return {rule: views["score"] or dict.fromkeys(DEFAULT_METRICS, 0.0) for rule, views in found.items()}


def _groups(dataset: Dataset, ranks: Mapping[str, Ranks]) -> list[Group]:
    """Metrics of item-kNN and of text neighbours by popularity of the target."""
    names = {"neighbours": "item-kNN", "text": "text neighbours"}
    views = {view: ranks[name] for view, name in names.items() if name in ranks}
    masks = saved.popularity_groups(dataset.train_counts[ranks["item-kNN"].targets])
    groups = saved.group_metrics(
        masks, lambda where: {view: part.metrics(where=where) for view, part in views.items()}
    )
    return [Group(**group) for group in groups]


def _errors(ranks: Ranks) -> Metrics:
    """Return metric -> standard error over targets, which are one for each session."""
    values = {name: metric_values(*ranks.views["score"], name) for name in ranks.names}
    return {name: standard_error(values_N) for name, values_N in values.items()}


def _text_benefit(dataset: Dataset, ranks: Mapping[str, Ranks], blend: Untrained) -> TextBenefit:
    def values(name: str, metric: str) -> NDArray[np.float64]:
        return metric_values(*ranks[name].views["score"], metric)

    knn, text = values("item-kNN", FOUND_BY), values("text neighbours", FOUND_BY)
    popular = values("popularity", FOUND_BY)
    targets = ranks["item-kNN"].targets
    cold = ~dataset.trained[targets]
    has_text = _has_text(dataset)
    assert isinstance(blend, Blend)
    (gain,) = paired_differences(
        values("item-kNN + text", CHOSEN_BY)[:, None], values("item-kNN", CHOSEN_BY)[:, None]
    )
    return TextBenefit(
        items_with_text=float(has_text.mean()),
        both=float((knn * text).mean()),
        text_alone=float((text * (1 - knn)).mean()),
        counted_alone=float((knn * (1 - text)).mean()),
        popular_alone=float((popular * (1 - knn)).mean()),
        cold=float(cold.mean()),
        cold_with_text=float((cold & has_text[targets]).mean()),
        cold_found=float(text[cold].mean()) if cold.any() else 0.0,
        weight=blend.weight,
        gain=gain,
    )


def _has_text(dataset: Dataset) -> NDArray[np.bool_]:
    """Items that have a text, or a vector that replaces it, (V,) bool."""
    if dataset.vectors is not None:
        return np.asarray(np.any(np.asarray(dataset.vectors) != 0, axis=1))
    assert dataset.text is not None
    return np.array([bool(dataset.text.joined(item)) for item in range(dataset.num_items)])

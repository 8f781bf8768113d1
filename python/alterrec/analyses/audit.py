"""Look a data set over before anything is trained: what may be wrong, what is easy, whether text can help."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from alterrec.analyses.audit_checks import checks
from alterrec.analyses.audit_grades import TextReach
from alterrec.analyses.audit_page import Audit, Reach
from alterrec.data.dataset import Dataset
from alterrec.data.readers import DataSource
from alterrec.data.statistics import seen_excluded, statistics
from alterrec.data.text import text_vectors
from alterrec.evaluation import saved
from alterrec.evaluation.choose import choose_system
from alterrec.evaluation.evaluate import METRICS, Protocol, Ranks, evaluate
from alterrec.evaluation.significance import paired_differences
from alterrec.metrics import metric_values
from alterrec.models.catalogue import lookup
from alterrec.models.neighbours import Blend, ItemKnn, TextNeighbours, Untrained
from alterrec.recipe import resolve
from alterrec.report.tables import BASELINE_NAMES
from alterrec.results import Group

COUNTED = ("popularity", "itemknn", "vsknn")
CHOSEN_BY, FOUND = "ndcg@20", "hits@20"
# Decay by which all items of a prefix but the last one count nothing.
LAST_ALONE = 1e-9
WEIGHTS = (0.0, 0.05, 0.1, 0.2, 0.4, 0.8, 1.6)
LONGEST_READ = 50


def audit(
    data: str | Path | Dataset | None = None,
    *,
    text_encoder: str = "lsa",
    columns: Mapping[str, str] | None = None,
    drop_unknown: bool = False,
    format: str | None = None,
    command: str = "",
    progress: Callable[[str], None] = lambda line: None,
) -> Audit:
    """Look for leaks, copies, texts that tie and drift, and measure what needs no training.

    Targets are the last items of test sessions, ranked among the whole catalogue; items of the prefix are
    candidates unless fewer than 0.5 % of training targets repeat one (the rule ``auto``). Settings of
    neighbour systems are chosen on validation.

    Args:
        data: a folder (see docs/data.md), a data set, or None for the built-in catalogue.
        text_encoder: ``lsa`` or a sentence-transformers model.
        columns: our column name -> the files'.
        drop_unknown: drop session rows of items that are not in ``items``.
        format: format of the data, a name from ``alterrec list formats``; None recognises it.
        command: what makes it again, for the page.
        progress: called with a line for each thing that is begun.

    Raises:
        InputError: the data cannot be read.

    Example:
        >>> from alterrec.data.synthetic import synthetic_dataset
        >>> found = audit(synthetic_dataset(items=300, sessions=900))
        >>> [row.name for row in found.reach]
        ['popularity', 'last item', 'item-kNN', 'V-SKNN', 'text neighbours', 'item-kNN + text']
    """
    dataset = DataSource(data, columns or {}, drop_unknown, format).read(resolve(COUNTED[0]))
    progress("looking for copies, late sessions and texts that tie")
    found = checks(dataset)
    exclude_seen = seen_excluded("auto", dataset.train.repeat_share())
    protocol = Protocol("last", exclude_seen, LONGEST_READ)
    systems = dict(_counted(dataset, protocol, progress))
    vectors = _vectors(dataset, text_encoder, progress)
    if vectors is not None:
        text = TextNeighbours(torch.from_numpy(np.array(vectors, np.float32)))
        progress("measuring text neighbours")
        blends = (Blend(systems["item-kNN"], text, weight) for weight in WEIGHTS)
        systems["text neighbours"] = text
        systems["item-kNN + text"] = choose_system(blends, dataset.valid, protocol, CHOSEN_BY)
    ranks = {name: evaluate(system, dataset.test, protocol) for name, system in systems.items()}
    return Audit(
        name=dataset.name,
        fingerprint=dataset.fingerprint,
        statistics=statistics(dataset),
        checks=found,
        groups=_groups(dataset, ranks),
        reach=tuple(
            Reach(name, part.metrics() or dict.fromkeys(METRICS, 0.0)) for name, part in ranks.items()
        ),
        text=None if vectors is None else _text_reach(dataset, ranks, systems["item-kNN + text"]),
        text_encoder="given vectors" if dataset.vectors is not None else text_encoder,
        exclude_seen=exclude_seen,
        notes=dataset.notes,
        command=command,
    )


def _counted(
    dataset: Dataset, protocol: Protocol, progress: Callable[[str], None]
) -> Iterator[tuple[str, Untrained]]:
    """Systems that count, by the names that people read; settings chosen on validation."""
    for name in COUNTED:
        progress(f"measuring {name}")
        candidates = lookup(name).candidates
        assert candidates is not None
        chosen = choose_system(candidates(dataset.train), dataset.valid, protocol, CHOSEN_BY)
        if isinstance(chosen, ItemKnn):
            yield "last item", ItemKnn(chosen.neighbours, dataset.num_items, LAST_ALONE)
        yield BASELINE_NAMES[name], chosen


def _vectors(dataset: Dataset, encoder: str, progress: Callable[[str], None]) -> NDArray[np.floating] | None:
    if dataset.vectors is not None:
        return dataset.vectors
    if dataset.text is None or not any(map(any, dataset.text.fields.values())):
        return None
    progress(f"encoding item text with {encoder}")
    return text_vectors(dataset.text, encoder)


def _groups(dataset: Dataset, ranks: Mapping[str, Ranks]) -> list[Group]:
    """Targets by popularity: what item-kNN and text find of each group."""
    shown = {"neighbours": "item-kNN", "text": "text neighbours"}
    views = {view: ranks[name] for view, name in shown.items() if name in ranks}
    targets = next(iter(ranks.values())).targets
    masks = saved.popularity_groups(dataset.train_counts[targets])
    return [
        Group(**group)
        for group in saved.group_metrics(
            masks, lambda where: {view: part.metrics(where=where) for view, part in views.items()}
        )
    ]


def _text_reach(dataset: Dataset, ranks: Mapping[str, Ranks], blend: Untrained) -> TextReach:
    """What text finds that counting does not, and whether their sum gains by it."""

    def values(name: str, metric: str) -> NDArray[np.float64]:
        return metric_values(*ranks[name].views["score"], metric)

    counted, text = values("item-kNN", FOUND), values("text neighbours", FOUND)
    popular = values("popularity", FOUND)
    targets = ranks["item-kNN"].targets
    cold = ~dataset.trained[targets]
    worded = _worded(dataset)
    assert isinstance(blend, Blend)
    (gain,) = paired_differences(
        values("item-kNN + text", CHOSEN_BY)[:, None], values("item-kNN", CHOSEN_BY)[:, None]
    )
    return TextReach(
        items_with_text=float(worded.mean()),
        both=float((counted * text).mean()),
        text_alone=float((text * (1 - counted)).mean()),
        counted_alone=float((counted * (1 - text)).mean()),
        popular_alone=float((popular * (1 - counted)).mean()),
        cold=float(cold.mean()),
        cold_with_text=float((cold & worded[targets]).mean()),
        cold_found=float(text[cold].mean()) if cold.any() else 0.0,
        weight=blend.weight,
        gain=gain,
    )


def _worded(dataset: Dataset) -> NDArray[np.bool_]:
    """Items that have a text, or a vector in its place."""
    if dataset.vectors is not None:
        return np.asarray(np.any(np.asarray(dataset.vectors) != 0, axis=1))
    assert dataset.text is not None
    return np.array([bool(dataset.text.joined(item)) for item in range(dataset.num_items)])

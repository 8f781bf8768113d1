"""Measure a run on new sessions alone, such as those of the week after its training."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from alterrec.data.events import other_writing
from alterrec.data.tables import read_data_file
from alterrec.errors import InputError
from alterrec.evaluation import saved
from alterrec.evaluation.evaluate import evaluate
from alterrec.evaluation.lists import measure_lists
from alterrec.list_metrics import ListMetrics
from alterrec.manifest import check_manifest
from alterrec.metrics import parse_list_metric
from alterrec.models.growth import check_growth
from alterrec.record_json import to_json
from alterrec.results import TargetCounts
from alterrec.runs import records
from alterrec.runs.fit import set_up
from alterrec.runs.inputs import read_catalogue
from alterrec.runs.measure import with_metrics
from alterrec.runs.saved_model import SavedModel, load_model
from alterrec.runs.text_encoder import TextEncoder
from alterrec.serving.blocks import SessionSource
from alterrec.serving.growth import read_further, with_items
from alterrec.serving.sources import open_sessions
from alterrec.serving.tally import Tally
from alterrec.sessions import SessionStore

# What scores further items besides their texts: as `alterrec add-items` by default.
ID_ROWS: Literal["nearest"] = "nearest"
# The name of the new sessions among the splits of an evaluation.
NEW = "new"


def evaluate_sessions(
    run: str | Path,
    sessions: str | Path,
    *,
    items: str | Path | None = None,
    metrics: Sequence[str] | None = None,
    columns: Mapping[str, str] | None = None,
    listen: Callable[[str], None] = lambda line: None,
) -> dict[str, Any]:
    """Measure a saved run on a file of new sessions; no training data are needed.

    Items that neither the run nor ``items`` has are left out of the sessions and counted, so the metrics are
    those of the targets that are known. If the last item of each session is its target
    (``data.targets = last``), sessions whose last item is unknown are left out and counted, too: the item
    before it is not what the visitor chose last.

    Args:
        run: folder of a finished run.
        sessions: a file in any layout of :func:`~alterrec.serving.sources.open_sessions`.
        items: a CSV or Parquet file of items with their texts, of which those that the run does not know are
            candidates, too. They are added in memory as :func:`alterrec.serving.growth.add_items` adds them.
        metrics: names from ``alterrec list metrics``; default those of the run. ``diversity`` is left out,
            because it needs the texts of the data.
        columns: our column name -> the file's.
        listen: called with a sentence for everything that is left out.

    Returns:
        As :func:`alterrec.runs.measure.evaluate_run`, with the split ``new`` alone; ``errors``, the standard
        errors over sessions of each view; and ``dropped``, the counts of what was read and left out.

    Raises:
        InputError: the folder is not a finished run, the file cannot be read, a metric is unknown or needs
            texts, or no session has a target.
    """
    check_manifest(Path(run), contents=True)
    catalogue = read_catalogue(run)
    known = load_model(catalogue)
    recipe = known.recipe if metrics is None else with_metrics(known.recipe, metrics)
    set_up(recipe)
    if items is not None:
        known = _with_further(known, Path(items), columns or {}, listen)
        catalogue = catalogue._replace(vocabulary=known.vocabulary)
    names = _list_metrics(recipe.run.list_metrics, len(known.vocabulary), given=metrics is not None)
    with TemporaryDirectory(prefix="alterrec-") as folder:
        source = open_sessions(Path(sessions), catalogue, Path(folder), columns)
        only_last = recipe.data.targets == "last"
        store, tally = _stored(source, len(known.vocabulary), only_last=only_last)
    example = tally.examples.get("unknown item", "")
    for sentence in tally.sentences(
        source.name,
        source.unit,
        0,
        hint=other_writing(example, known.vocabulary) if example else "",
        no_user="" if source.has_users else " (no column user_id)",
    ):
        listen(sentence)
    targets = int((store.lengths >= 2).sum())
    if not targets:
        ends = " and ends with one of them" if only_last else ""
        raise InputError(
            f"{source.name}: no session has 2 or more items of the catalogue{ends}, so there is nothing to "
            f"predict; the first item of the catalogue is {known.vocabulary.item_ids[0]!r}"
        )
    lost = tally["unknown last item"]
    if lost:
        listen(f"{source.name}: sessions whose last item, the target, is unknown: {lost}")
    short = tally["sessions"] - targets - lost
    if short:
        listen(f"{source.name}: sessions with fewer than 2 known items, which have no target: {short}")
    ranks = evaluate(known.model, store, replace(known.protocol, metrics=recipe.metrics))
    counts_V = np.zeros(len(known.vocabulary), np.int64)
    counts = saved.read_items(known.path)["train_count"].to_numpy()
    counts_V[: len(counts)] = counts
    groups = saved.group_metrics(saved.popularity_groups(counts_V[ranks.targets]), ranks.all_metrics)
    cold = int((~known.trained[ranks.targets]).sum())
    lists = ListMetrics(names, len(known.vocabulary), train_counts=counts_V)
    return {
        NEW: ranks.all_metrics(),
        "by_seen": {NEW: ranks.metrics_by_rule()},
        "targets": {
            NEW: to_json(
                TargetCounts(len(ranks.targets), cold, int(ranks.repeated.sum()), ranks.tied_share())
            )
        },
        "groups": {NEW: groups},
        "lists": {NEW: measure_lists(known.model, store, known.protocol, lists)} if names else {},
        "errors": {NEW: records.session_errors(ranks, {})},
        "dropped": tally.counts,
    }


def _with_further(
    known: SavedModel, items: Path, columns: Mapping[str, str], listen: Callable[[str], None]
) -> SavedModel:
    """The run with the items of a file that it does not know."""
    file = read_data_file(items)
    check_growth(known.recipe, known.model, ID_ROWS)
    encoder = TextEncoder.read(known.path, known.recipe)
    # The other columns are those of the sessions.
    own = {name: theirs for name, theirs in columns.items() if name == "item_id" and theirs in file.columns}
    further = read_further(known, encoder, file, None, own, lambda event: listen(event.message))
    for note in further.notes:
        listen(note)
    listen(f"{items.name}: items that are new to the run: {len(further.ids)}")
    return with_items(known, further, ID_ROWS)


def _stored(source: SessionSource, num_items: int, *, only_last: bool) -> tuple[SessionStore, Tally]:
    """The sessions of a source that have a known item; with ``only_last``, whose last item is known."""
    items: list[NDArray[np.int64]] = []
    users: list[int] = []
    tally = Tally()
    for block in source.blocks():
        kept = np.flatnonzero(~block.ends_unknown) if only_last else np.arange(len(block.items))
        block.tally.add("unknown last item", len(block.items) - len(kept))
        items += [block.items[place] for place in kept.tolist()]
        users += [] if block.users is None else block.users[kept].tolist()
        tally.merge(block.tally)
    tally.merge(source.tally)
    lengths = np.fromiter(map(len, items), np.int64, len(items))
    sessions = np.repeat(np.arange(len(items)), lengths)
    flat = np.concatenate([*items, np.empty(0, np.int64)])
    own = np.repeat(np.array(users, np.int64), lengths) if users else None
    return SessionStore.from_arrays(sessions, flat, user_ids=own, num_items=num_items), tally


def _list_metrics(names: Sequence[str], num_items: int, *, given: bool) -> list[str]:
    """The metrics of lists that can be computed without the data of the training."""
    kept = []
    for name in names:
        kind, cutoff = parse_list_metric(name)
        if cutoff > num_items:
            raise InputError(f"metric {name} has a cutoff above the {num_items} items of the run")
        if kind != "diversity":
            kept.append(name)
        elif given:
            raise InputError(
                f"metric {name} needs the texts of the items; give the folder of the data as --data"
            )
    return kept

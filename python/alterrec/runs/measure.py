"""Measure a saved run on a data set with the same catalogue."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from alterrec import parallel
from alterrec.data.dataset import Dataset
from alterrec.data.readers import DataSource
from alterrec.errors import InputError
from alterrec.evaluation.evaluate import evaluate
from alterrec.manifest import check_manifest
from alterrec.metrics import standard_name
from alterrec.recipe import Recipe
from alterrec.record_json import to_json
from alterrec.runs import lists, records, saved_model
from alterrec.runs.fit import set_up
from alterrec.runs.inputs import read_catalogue
from alterrec.runs.saved_model import SavedModel
from alterrec.shards import Shard


def evaluate_run(
    run: str | Path,
    data: str | Path | Dataset | None = None,
    *,
    metrics: Sequence[str] | None = None,
    columns: Mapping[str, str] | None = None,
    drop_unknown: bool = False,
    format: str | None = None,
    locale: str | None = None,
    listen: Callable[[str], None] = lambda line: None,
) -> dict[str, Any]:
    """Measure a saved run on a data set with the same catalogue.

    Users are matched by their names, so the data may have them in another order. The contents of all files of
    the run are compared with its manifest first.

    Args:
        run: the folder of the run.
        data: a folder, a data set, or None for the built-in catalogue.
        metrics: names from ``alterrec list metrics``, such as ``recall@20`` and ``coverage@20``; default
            those of the run.
        columns, drop_unknown, format, locale: as for :func:`~alterrec.runs.fit.fit`.
        listen: called with remarks about the data.

    Returns:
        ``valid`` and ``test`` (view -> metric -> value), ``by_seen``, ``targets``, ``groups`` and ``lists``
        as in result.json.

    Raises:
        InputError: the folder is not a finished run, a file of it has changed, the catalogue is another, or a
            metric is unknown.
    """
    check_manifest(Path(run), contents=True)
    known = read_catalogue(Path(run))
    with parallel.joined_job(known.recipe.run.device) as job:
        divided = known.recipe.run.shard_items and job.world > 1
        saved = saved_model.load_model(known, Shard.own(len(known.vocabulary)) if divided else None)
        return _evaluated(
            run, saved, DataSource(data, columns or {}, drop_unknown, format, locale), metrics, listen
        )


def _evaluated(
    run: str | Path,
    saved: SavedModel,
    source: DataSource,
    metrics: Sequence[str] | None,
    listen: Callable[[str], None],
) -> dict[str, Any]:
    """Return what :func:`evaluate_run` returns, computed by all processes of a job."""
    recipe = saved.recipe if metrics is None else with_metrics(saved.recipe, metrics)
    set_up(recipe)
    dataset = source.read(recipe, listen)
    if dataset.vocabulary.item_ids != saved.vocabulary.item_ids:
        raise InputError(
            f"{run} was trained on {len(saved.vocabulary)} items, but {dataset.name} has {dataset.num_items} "
            "items, and they are not the same in the same order; give data with the items file of the "
            "training, by --data FOLDER"
        )
    if saved.users is not None and dataset.users is not None:
        dataset = dataset.with_users(saved.users)
    lists.check_lists(recipe.run.list_metrics, dataset)
    protocol = replace(saved.protocol, metrics=recipe.metrics)
    splits = {"valid": dataset.valid, "test": dataset.test}
    ranks = {split: evaluate(saved.model, store, protocol) for split, store in splits.items()}
    return {
        **{split: part.all_metrics() for split, part in ranks.items()},
        "by_seen": {split: part.metrics_by_rule() for split, part in ranks.items()},
        "targets": {split: to_json(records.target_counts(dataset, part)) for split, part in ranks.items()},
        "groups": {split: to_json(records.popularity_groups(dataset, part)) for split, part in ranks.items()},
        "lists": lists.measure(
            saved.model,
            recipe,
            dataset,
            protocol,
            recipe.run.list_metrics,
            lambda event: listen(event.message),
        ),
    }


def with_metrics(recipe: Recipe, names: Sequence[str]) -> Recipe:
    """Return a recipe with other metrics; InputError if a name is unknown."""
    try:
        known = tuple(standard_name(name) for name in names)
    except ValueError as error:
        raise InputError(f"metrics: {error}") from None
    return recipe.model_copy(update={"run": recipe.run.model_copy(update={"metrics": known})})

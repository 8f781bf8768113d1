"""The rankings of another system as a run folder, measured by our metrics and tie rules.

Legend of shapes: N targets, R listed items.
"""

from __future__ import annotations

import math
import time
from array import array
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import polars as pl
from numpy.typing import NDArray

from alterrec.analyses.run_page import RunReport, result
from alterrec.data.dataset import Dataset
from alterrec.data.readers import DataSource
from alterrec.data.repeats import SeenItems, repeat_distances, seen_items
from alterrec.errors import InputError
from alterrec.evaluation.evaluate import Counts, Protocol, Ranks
from alterrec.exports.rankings import query_ids
from alterrec.files import file_name, make_folder, reading, replace_together, write_json
from alterrec.manifest import MANIFEST, RESULT, write_manifest
from alterrec.metrics import parse_metric
from alterrec.models.reads import resolve_read
from alterrec.recipe import Recipe
from alterrec.record_json import to_json
from alterrec.results import SCHEMA, RunResult, TargetCounts
from alterrec.runs import model_files, records
from alterrec.runs.folder import RUNS, kind_of

# Rankings in memory: id of a query -> item id -> score.
Scores = Mapping[str, Mapping[str, float]]


def import_run(
    rankings: str | Path | Scores,
    data: str | Path | Dataset | None = None,
    *,
    name: str,
    out: str | Path | None = None,
    seed: int = 0,
    presets: Sequence[str] = ("best",),
    overrides: Mapping[str, Any] | None = None,
    columns: Mapping[str, str] | None = None,
    drop_unknown: bool = False,
    format: str | None = None,
    locale: str | None = None,
    listen: Callable[[str], None] = lambda line: None,
) -> RunReport:
    """Measure the rankings of another system, and write a run folder that ``compare`` reads.

    A query is a test session, by its id; with ``data.targets = every`` it is ``SESSION:POSITION``, where the
    position is the number of items before the target. Items are ranked by their scores, as trec_eval does;
    equal scores are a tie, and metrics are means over its orders. A target that is not listed counts as not
    found. If the items of the session are no candidates on these data, they are left out of the lists.
    If every target has a list of 20 items, the first 20 are kept (``top.parquet``), as those of a run that
    was trained; equal scores are in the order in which the items are listed.

    Args:
        rankings: path of a TREC run file, or a mapping: id of a query -> item id -> score, as ranx and
            ir-measures have it.
        data: path of a folder or file, or a :class:`~alterrec.data.dataset.Dataset`. Default: the built-in
            catalogue.
        name: name of the system.
        out: folder of the run, new or empty. Default: ``runs/NAME-DATA-seedSEED``.
        seed: tells apart several runs of one system, whose mean is compared. Default: 0.
        presets, overrides: those of the runs to compare with, as for :func:`alterrec.fit`; settings of the
            data and of ``run.metrics`` count. Default: ``best``, and none.
        columns, drop_unknown, format, locale: as for :func:`alterrec.fit`.
        listen: called with remarks about the data and the rankings.

    Returns:
        The results, as :func:`alterrec.result` does. The remarks are its warnings.

    Raises:
        InputError: the rankings have an item that is not in the data, an item twice or a score that is not
            finite, none of their queries is a test target, or ``out`` is not empty; nothing is written then.
    """
    began = time.perf_counter()
    if not name.strip():
        raise InputError("name is empty; give the name of the system, such as gru4rec")
    recipe = resolve_read("popularity", presets, dict(overrides or {}) | {"run.seed": seed})
    if recipe.run.list_metrics:
        raise InputError(
            f"metric {recipe.run.list_metrics[0]} is one of lists of recommendations, which are not "
            "imported; choose metrics of targets, such as ndcg@20"
        )
    if out is not None:
        _check_empty(Path(out))
    dataset = DataSource(data, columns or {}, drop_unknown, format, locale).read(recipe, listen)
    path = Path(out) if out else RUNS / f"{file_name(name)}-{file_name(dataset.name)}-seed{recipe.run.seed}"
    _check_empty(path)
    targets = _Targets.of(dataset, recipe)
    lists = _read_lists(rankings, targets, dataset)
    ranks = targets.ranks(lists, recipe)
    notes = list(_notes(lists, targets, ranks.rule, recipe))
    for note in notes:
        listen(note)
    protocol = Protocol(recipe.data.targets, ranks.rule, recipe.model.max_len, metrics=recipe.metrics)
    record = RunResult(
        schema=SCHEMA,
        model=name,
        seed=recipe.run.seed,
        imported_from="memory" if isinstance(rankings, Mapping) else Path(rankings).name,
        data=records.run_data(recipe, dataset, protocol),
        valid={"score": {}},
        test=ranks.all_metrics(),
        targets={"valid": TargetCounts(0), "test": records.target_counts(dataset, ranks)},
        by_seen={"test": ranks.metrics_by_rule()},
        groups={"test": records.popularity_groups(dataset, ranks)},
        errors=records.session_errors(ranks, {}),
        warnings=notes,
        seconds=round(time.perf_counter() - began, 3),
        versions={"alterrec": version("alterrec")},
        manifest=True,
    )
    make_folder(path)
    with replace_together(path, last=[MANIFEST, RESULT]) as new:
        make_folder(new)
        model_files.write_vocabulary(new, dataset)
        model_files.write_ranks(new, dataset, {"test": ranks})
        top = targets.top(lists, records.top_size(dataset, protocol))
        if top is not None:
            model_files.write_top(new, top)
        write_json(new / RESULT, to_json(record))
        write_manifest(new)
    return result(path)


class _Lists(NamedTuple):
    """Rankings of test targets.

    Attributes:
        query_R: target of each listed item.
        item_R: number of the item.
        score_R: its score.
        rank_R: its rank as the file has it; NaN if it has none.
        others: number of queries that are no test targets.
    """

    query_R: NDArray[np.int64]
    item_R: NDArray[np.int64]
    score_R: NDArray[np.float64]
    rank_R: NDArray[np.float64]
    others: int


@dataclass(frozen=True)
class _Targets:
    """The test targets of a data set.

    Attributes:
        dataset: the data set.
        seen: rule for the items of a prefix.
        samples: (N, 2) int64 session and position of each target.
        items: (N,) int64 the targets.
        repeated: (N,) bool, whether a target repeats an item of its prefix.
        queries: id of each target as a query.
    """

    dataset: Dataset
    seen: SeenItems
    samples: NDArray[np.int64]
    items: NDArray[np.int64]
    repeated: NDArray[np.bool_]
    queries: pl.Series

    @classmethod
    def of(cls, dataset: Dataset, recipe: Recipe) -> _Targets:
        store, kind = dataset.test, recipe.data.targets
        samples = store.prefixes(kind)
        if not len(samples):
            raise InputError(f"{dataset.name} has no test targets; give data with test sessions")
        places = store.offsets[samples[:, 0]] + samples[:, 1]
        names = pl.Series(dataset.session_names["test"], dtype=pl.String).gather(samples[:, 0])
        seen, _ = seen_items(recipe.data.exclude_seen, dataset.train, dataset.valid, kind)
        return cls(
            dataset,
            seen,
            samples,
            store.items.astype(np.int64)[places],
            repeat_distances(store)[places] > 0,
            query_ids(names, pl.Series(samples[:, 1]), kind),
        )

    def ranks(self, lists: _Lists, recipe: Recipe) -> Ranks:
        """Count the listed items above each target and those equal to it, under every rule."""
        everything = np.ones(len(lists.query_R), bool)
        kept = self._counts(lists, everything, np.ones(len(self.items), bool))
        excluded = self._counts(lists, ~self.are_seen(lists), ~self.repeated)
        by_rule: dict[SeenItems, dict[str, Counts]] = {
            "kept": {"score": kept},
            "excluded": {"score": excluded},
        }
        if self.seen == "repeats":
            # How likely a repeat is, is part of the other system's scores.
            by_rule["repeats"] = {"score": kept}
        return Ranks(by_rule, self.seen, self.samples, self.items, self.repeated, recipe.metrics)

    def _counts(self, lists: _Lists, listed_R: NDArray[np.bool_], candidate_N: NDArray[np.bool_]) -> Counts:
        """Return (greater, tied), each (N,); no item is tied where the target is not listed."""
        query_R, item_R, score_R = (each[listed_R] for each in lists[:3])
        total = len(self.items)
        target_N = np.full(total, -np.inf)
        own_R = item_R == self.items[query_R]
        target_N[query_R[own_R]] = score_R[own_R]
        target_N[~candidate_N] = -np.inf
        greater = np.bincount(query_R[score_R > target_N[query_R]], minlength=total)
        tied = np.bincount(query_R[score_R == target_N[query_R]], minlength=total)
        return greater.astype(np.int64), tied.astype(np.int64)

    def top(self, lists: _Lists, size: int) -> NDArray[np.int64] | None:
        """Return the first ``size`` items of the list of each target, (N, size); None if one has fewer."""
        listed_R = ~self.are_seen(lists) if self.seen == "excluded" else np.ones(len(lists.query_R), bool)
        query_R, item_R, score_R = (each[listed_R] for each in lists[:3])
        length_N = np.bincount(query_R, minlength=len(self.items))
        if size < 1 or length_N.min() < size:
            return None
        order_R = np.lexsort((-score_R, query_R))
        start_N = np.cumsum(length_N) - length_N
        found: NDArray[np.int64] = item_R[order_R][start_N[:, None] + np.arange(size)]
        return found

    def are_seen(self, lists: _Lists) -> NDArray[np.bool_]:
        """Return whether each listed item is one of its prefix."""
        store, length_N = self.dataset.test, self.samples[:, 1]
        query = np.repeat(np.arange(len(self.items)), length_N)
        place = np.arange(len(query)) - np.repeat(length_N.cumsum() - length_N, length_N)
        items = store.items.astype(np.int64)[store.offsets.astype(np.int64)[self.samples[query, 0]] + place]
        return np.isin(_keys(lists.query_R, lists.item_R, self.dataset), _keys(query, items, self.dataset))


def _keys(query: NDArray[np.int64], item: NDArray[np.int64], dataset: Dataset) -> NDArray[np.int64]:
    """Return one number for each pair of a query and an item."""
    return query * dataset.num_items + item


def _read_lists(rankings: str | Path | Scores, targets: _Targets, dataset: Dataset) -> _Lists:
    """Read rankings, and check their items and scores."""
    if isinstance(rankings, Mapping):
        source, rows = "the rankings", _rows_of_mapping(rankings)
    else:
        source, rows = str(rankings), _rows_of_file(Path(rankings))
    queries = {name: number for number, name in enumerate(targets.queries)}
    items = {name: number for number, name in enumerate(dataset.vocabulary.item_ids)}
    # Numbers of query and item, score, rank. Numbers up to 2**53 are exact.
    columns = array("d"), array("d"), array("d"), array("d")
    others: set[str] = set()
    for where, query, item, score, rank in rows:
        known = queries.get(query)
        if known is None:
            others.add(query)
            continue
        if item not in items:
            raise InputError(
                f"{source}{where}: the item {item!r} of {query!r} is not one of the {len(items)} items of "
                f"{dataset.name}; a system must rank the same catalogue. Leave such items out of its rankings"
            )
        if not math.isfinite(score):
            raise InputError(f"{source}{where}: the score of {item!r} is {score}; expected a finite number")
        for column, value in zip(columns, (known, items[item], score, rank), strict=True):
            column.append(value)
    query_R, item_R, score_R, rank_R = (np.array(column) for column in columns)
    query_R, item_R = query_R.astype(np.int64), item_R.astype(np.int64)
    if not len(query_R):
        if not others:
            raise InputError(
                f"{source}: it has no rankings; give those of the test targets of {dataset.name}"
            )
        raise InputError(
            f"{source}: none of its {len(others)} queries, such as {min(others)!r}, is a test target of "
            f"{dataset.name}, such as {targets.queries[0]!r}; name the queries as `alterrec export RUN --to "
            "trec` does"
        )
    found, count = np.unique(_keys(query_R, item_R, dataset), return_counts=True)
    if count.max() > 1:
        place, number = divmod(int(found[count.argmax()]), dataset.num_items)
        raise InputError(
            f"{source}: {targets.queries[place]!r} lists the item {dataset.vocabulary.item_ids[number]!r} "
            f"{count.max()} times; list each item once"
        )
    return _Lists(query_R, item_R, score_R, rank_R, len(others))


def _rows_of_mapping(rankings: Scores) -> Iterator[tuple[str, str, str, float, float]]:
    for query, scores in rankings.items():
        for item, score in scores.items():
            yield "", query, item, float(score), math.nan


def _rows_of_file(path: Path) -> Iterator[tuple[str, str, str, float, float]]:
    """Yield where, query, item, score and rank of each line of a TREC run file."""
    with reading(path, "give a TREC run file"), path.open("rb") as file:
        for number, line in enumerate(file, start=1):
            cells = line.split()
            if not cells:
                continue
            where = f" line {number}"
            if len(cells) != 6:
                raise InputError(
                    f"{path}{where} has {len(cells)} columns; expected the six of a TREC run file: query, "
                    "Q0, item, rank, score, name of the system"
                )
            try:
                score = float(cells[4])
            except ValueError:
                raise InputError(
                    f"{path}{where}: the score is {cells[4].decode('utf-8', 'replace')!r}; expected a number"
                ) from None
            rank = float(cells[3]) if cells[3].isdigit() else math.nan
            yield where, cells[0].decode(), cells[2].decode(), score, rank


def _notes(lists: _Lists, targets: _Targets, seen: SeenItems, recipe: Recipe) -> Iterator[str]:
    """Yield what is unusual about the rankings, as sentences."""
    total = len(targets.items)
    left_R = ~targets.are_seen(lists) if seen == "excluded" else np.ones(len(lists.query_R), bool)
    length_N = np.bincount(lists.query_R[left_R], minlength=total)
    missing = int((np.bincount(lists.query_R, minlength=total) == 0).sum())
    if lists.others:
        yield f"{lists.others} rankings are not of test targets of {targets.dataset.name}; they are not read"
    if missing:
        yield f"{missing} of {total} test targets have no ranking; they count as not found"
    dropped = int((~left_R).sum())
    if dropped:
        yield (
            f"{dropped} listed items are items of their session, which are no candidates on these data; they "
            "are left out"
        )
    deepest = max((parse_metric(name)[1] or targets.dataset.num_items for name in recipe.metrics), default=0)
    wanted = min(deepest, targets.dataset.num_items)
    short = int((length_N < wanted).sum()) - missing
    if short:
        yield (
            f"{short} rankings list fewer than {wanted} items, which the metrics look at; a target that is "
            "not listed counts as not found"
        )
    wrong = _contradicted(lists)
    if wrong:
        yield f"in {wrong} rankings the column of ranks contradicts the scores; the scores decide"


def _contradicted(lists: _Lists) -> int:
    """Return the number of queries in which an item has a better rank than one with a higher score."""
    order = np.lexsort((lists.rank_R, lists.query_R))
    same = np.diff(lists.query_R[order]) == 0
    wrong = same & (np.diff(lists.score_R[order]) > 0) & (np.diff(lists.rank_R[order]) > 0)
    return len(np.unique(lists.query_R[order][1:][wrong]))


def _check_empty(path: Path) -> None:
    if path.exists() and (not path.is_dir() or kind_of(path) != "empty"):
        raise InputError(f"{path} is not an empty folder; give a new one with --out")

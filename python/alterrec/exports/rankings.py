"""The test rankings of a run as TREC files, and as objects of ranx and ir-measures.

A test target is a query, whose only relevant document is the target.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Self

import numpy as np
import polars as pl

from alterrec.comparable import folder_name
from alterrec.errors import InputError, number_of
from alterrec.evaluation.saved import read_items, read_ranks, read_top
from alterrec.files import file_name, make_folder, replace_together
from alterrec.results import read_run

if TYPE_CHECKING:
    import ranx

QRELS, RUN = "qrels.trec", "run.trec"


@dataclass(frozen=True, repr=False)
class Rankings:
    """The first items of the ranking of each test target, as they are in ``top.parquet``.

    ``top.parquet`` has no scores, so the first of L items gets the score L and the last one 1. Items that
    are tied in the run are therefore in one of their orders here.

    Attributes:
        name: name of the run folder, the tag of the TREC file.
        targets: frame with the columns query_id and item_id, one row for each test target.
        lists: frame with the columns query_id, item_id, rank (from 1) and score, best items first.

    Example:
        >>> targets = pl.DataFrame({"query_id": ["anna", "ben"], "item_id": ["tent", "mug"]})
        >>> lists = pl.DataFrame({"query_id": ["anna", "anna", "ben"], "item_id": ["mug", "tent", "mug"],
        ...                       "rank": [1, 2, 1], "score": [2.0, 1.0, 2.0]})
        >>> rankings = Rankings("mine", targets, lists)
        >>> rankings
        Rankings('mine': 2 targets, 3 listed items)
        >>> rankings.to_dicts()
        ({'anna': {'tent': 1}, 'ben': {'mug': 1}}, {'anna': {'mug': 2.0, 'tent': 1.0}, 'ben': {'mug': 2.0}})
    """

    name: str
    targets: pl.DataFrame
    lists: pl.DataFrame

    def __repr__(self) -> str:
        targets, items = number_of(len(self.targets), "target"), number_of(len(self.lists), "listed item")
        return f"Rankings({self.name!r}: {targets}, {items})"

    @classmethod
    def of_run(cls, run: str | Path) -> Self:
        """Read the rankings of the test targets of a finished run; no model is loaded.

        Args:
            run: path of the run folder.

        Raises:
            InputError: the folder is not that of a finished run, it has no test targets, or its files are
                damaged.
        """
        path = Path(run)
        kind = read_run(path).result.data.targets
        ranks, items, top_NK = read_ranks(path).frame, read_items(path)["item_id"], read_top(path)
        if top_NK is None:
            raise InputError(
                f"{path} has no top.parquet, because its rankings were imported and some list fewer than 20 "
                "items, or an earlier version of alterrec wrote it; give a run with lists of 20 items"
            )
        if not len(ranks):
            raise InputError(f"{path} has no test targets; give a run on data with test sessions")
        if len(top_NK) != len(ranks) or top_NK.max(initial=0) >= len(items):
            raise InputError(
                f"top.parquet, ranks.parquet and vocabulary.parquet in {path} are of different runs; copy "
                "the folder again or repeat the run"
            )
        queries = query_ids(ranks["session_id"], ranks["position"], kind)
        targets, depth = top_NK.shape
        place = np.tile(np.arange(depth), targets)
        lists = {
            "query_id": queries.gather(np.repeat(np.arange(targets), depth)),
            "item_id": items.gather(top_NK.ravel()),
            "rank": place + 1,
            "score": (depth - place).astype(np.float64),
        }
        return cls(
            folder_name(path),
            pl.DataFrame({"query_id": queries, "item_id": ranks["target_id"]}),
            pl.DataFrame(lists),
        )

    def write(self, folder: str | Path) -> tuple[Path, Path]:
        """Write ``qrels.trec`` and ``run.trec``, and return their paths.

        Args:
            folder: is created; files of an earlier export are replaced.

        Raises:
            InputError: an id is empty or has white space, which separates the columns of TREC files, or the
                folder cannot be written to.
        """
        _check_ids("session", self.targets["query_id"])
        _check_ids("item", self.targets["item_id"])
        _check_ids("item", self.lists["item_id"])
        folder = make_folder(folder)
        with replace_together(folder) as new:
            make_folder(new)
            qrels = self.targets.select("query_id", pl.lit("0").alias("iteration"), "item_id", relevance=1)
            tag = pl.lit(file_name(self.name))
            run = self.lists.select("query_id", pl.lit("Q0"), "item_id", "rank", "score", tag.alias("tag"))
            for name, frame in ((QRELS, qrels), (RUN, run)):
                frame.write_csv(new / name, separator=" ", include_header=False, quote_style="never")
        return folder / QRELS, folder / RUN

    def to_dicts(self) -> tuple[dict[str, dict[str, int]], dict[str, dict[str, float]]]:
        """Return qrels and run as dicts of dicts, as ir-measures and pytrec_eval take them."""
        qrels = {query: {item: 1} for query, item in self.targets.iter_rows()}
        run: dict[str, dict[str, float]] = {query: {} for query in qrels}
        for query, item, score in self.lists.select("query_id", "item_id", "score").iter_rows():
            run[query][item] = score
        return qrels, run

    def to_ranx(self) -> tuple[ranx.Qrels, ranx.Run]:
        """Return qrels and run as objects of ranx.

        Raises:
            InputError: ranx is not installed.
        """
        try:
            import ranx
        except ImportError:
            raise InputError("ranx is not installed; run `pip install ranx`") from None
        qrels, run = self.to_dicts()
        return ranx.Qrels(qrels), ranx.Run(run, name=self.name)


def query_ids(session_ids: pl.Series, positions: pl.Series, targets: str) -> pl.Series:
    """Return the id of each target as a query: that of its session, or ``SESSION:POSITION``.

    Args:
        session_ids: session of each target.
        positions: number of items before each target.
        targets: the kind of targets, ``last`` or ``every``; with ``every`` a session has several.

    Example:
        >>> sessions, positions = pl.Series(["anna", "anna"]), pl.Series([1, 2])
        >>> query_ids(sessions, positions, "every").to_list()
        ['anna:1', 'anna:2']
    """
    if targets != "every":
        return session_ids
    return pl.select(pl.format("{}:{}", session_ids, positions)).to_series()


def _check_ids(kind: str, ids: pl.Series) -> None:
    wrong = ids.str.contains(r"\s") | (ids == "")
    if wrong.any():
        raise InputError(
            f"the {kind} id {ids[wrong.arg_max() or 0]!r} is empty or has white space, which separates the "
            "columns of TREC files. Replace it in the data, or use Rankings.to_dicts or Rankings.to_ranx, "
            "which take any text"
        )

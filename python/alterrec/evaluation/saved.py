"""Read a run's saved ranks and lists, and compute metrics of groups of targets; no model is loaded.

Legend: N targets, K places of a list, V items.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np
import polars as pl
from numpy.typing import ArrayLike, NDArray

from alterrec.errors import InputError, number_of
from alterrec.metrics import DEEPEST, metrics
from alterrec.stored import Kind, read_table

Mask = NDArray[np.bool_]

# Upper ends of the groups of targets by interactions in training (Figure 6) and by items before the target.
POPULARITY = (0, 5, 30, 100)
LENGTHS = (1, 2, 5, 10)
COLD = "cold"

_COLUMNS: dict[str, Kind] = {
    "split": "text",
    "session_id": "text",
    "position": "count",
    "target_id": "text",
    "train_count": "count",
    "greater_score": "count",
    "tied_score": "count",
}
# Kinds of further columns, by the start of their names.
_FURTHER: dict[str, Kind] = {
    f"{rule}{kind}_": "count" for rule in ("", "kept_", "excluded_") for kind in ("greater", "tied")
}
_FURTHER["repeated"] = "flag"


@dataclass(frozen=True, repr=False)
class SavedRanks:
    """How a run ranked the targets of one split.

    Attributes:
        frame: rows of ``ranks.parquet`` with session_id, position, target_id, train_count, repeated, and
            greater_VIEW and tied_VIEW for each view; and the same with kept_ and excluded_ before it. Runs of
            earlier versions have neither these nor ``repeated``.

    Example:
        >>> ranks = SavedRanks(pl.DataFrame({"greater_score": [0, 3], "tied_score": [1, 1]}))
        >>> ranks.views, ranks.metrics("score", ["mrr"]), ranks.metrics("score", ["mrr"], [False, True])
        (('score',), {'mrr': 0.625}, {'mrr': 0.25})
    """

    frame: pl.DataFrame

    def __repr__(self) -> str:
        return f"SavedRanks({number_of(len(self), 'target')}, views {', '.join(self.views)})"

    def __len__(self) -> int:
        return len(self.frame)

    @property
    def views(self) -> tuple[str, ...]:
        """The ranked views, ``score`` first."""
        return tuple(
            name.removeprefix("greater_") for name in self.frame.columns if name.startswith("greater_")
        )

    def column(self, name: str) -> NDArray[Any]:
        return self.frame[name].to_numpy()

    @property
    def knows_seen(self) -> bool:
        """Whether the ranks have counts with and without the items of the prefix."""
        return "kept_greater_score" in self.frame.columns

    @property
    def repeated(self) -> int | None:
        """Number of targets that repeat an item of their prefix; None in runs of earlier versions."""
        return int(self.frame["repeated"].sum()) if "repeated" in self.frame.columns else None

    def counts(
        self, view: str, rule: Literal["kept", "excluded"] | None = None
    ) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Return for each target the items above it and the items equal to it, itself included.

        ``rule`` says whether the items of the prefix are candidates; default: the rule of the run.
        """
        prefix = f"{rule}_" if rule else ""
        if (
            f"{prefix}greater_{view}" not in self.frame.columns
            or f"{prefix}tied_{view}" not in self.frame.columns
        ):
            raise InputError(
                f"ranks.parquet has no counts of the view {view}, which result.json has; the files are of "
                "different runs: copy the folder again or repeat the run"
            )
        return self.column(f"{prefix}greater_{view}"), self.column(f"{prefix}tied_{view}")

    def metrics(
        self,
        view: str,
        names: Sequence[str],
        where: ArrayLike | None = None,
        rule: Literal["kept", "excluded"] | None = None,
    ) -> dict[str, float]:
        """Compute metrics of a view over the targets ``where`` (default all); empty if there are none."""
        chosen = slice(None) if where is None else np.asarray(where, bool)
        greater, tied = (counts[chosen] for counts in self.counts(view, rule))
        return metrics(greater, tied, names) if len(greater) else {}

    def groups(self, masks: Mapping[str, Mask], names: Sequence[str]) -> list[dict[str, Any]]:
        """Compute name, count, share and metrics by view of each group that has a target."""
        return group_metrics(
            masks, lambda where: {view: self.metrics(view, names, where) for view in self.views}
        )


class ListStatistics(NamedTuple):
    """Coverage and popularity of the first ``length`` items of all rankings.

    Attributes:
        coverage: share of the catalogue that is in some list.
        popularity: mean number of training interactions of the listed items.
        target_popularity: mean number of training interactions of the targets.
    """

    length: int
    coverage: float
    popularity: float
    target_popularity: float

    @property
    def popularity_ratio(self) -> float | None:
        """Popularity of the lists relative to the targets; None if no target occurs in training."""
        return self.popularity / self.target_popularity if self.target_popularity else None


def read_ranks(run: Path, split: str = "test") -> SavedRanks:
    """Read the targets of a split from a run's ``ranks.parquet``.

    Raises:
        InputError: the file is missing or damaged.
    """
    path = run / "ranks.parquet"
    frame = read_table(path, _COLUMNS, _FURTHER)
    counts = [name for name in frame.columns if "greater_" in name or "tied_" in name]
    most = max((int(frame[name].to_numpy().max(initial=0)) for name in counts), default=0)
    if most > DEEPEST:
        raise InputError(
            f"{path} is damaged: {most} items above a target or equal to it are more than a catalogue has; "
            "copy it again or repeat the run"
        )
    return SavedRanks(frame.filter(pl.col("split") == split).drop("split"))


def read_items(run: Path) -> pl.DataFrame:
    """Read a run's catalogue: item_id, text, train_count, trained.

    Raises:
        InputError: the file is missing or damaged, or an item is in it twice.
    """
    path = run / "vocabulary.parquet"
    items = read_table(path, {"item_id": "text", "text": "text", "train_count": "count", "trained": "flag"})
    if items.is_empty() or items["item_id"].n_unique() < len(items):
        raise InputError(f"{path} is damaged: it has no items, or one twice; copy it again or repeat the run")
    return items


def read_top(run: Path) -> NDArray[np.int64] | None:
    """Read the first items (N, K) of the ranking of each test target, as row numbers of the catalogue.

    Rows are in the order of the test rows of ``ranks.parquet``. None if the run has no ``top.parquet``.
    """
    path = run / "top.parquet"
    if not path.exists():
        return None
    rows = read_table(path, {"items": "counts"})["items"]
    if rows.list.len().n_unique() > 1:
        raise InputError(f"{path} is damaged: its lists differ in length; copy it again or repeat the run")
    length = int(rows.list.len()[0]) if len(rows) else 0
    return np.array(rows.to_list(), np.int64).reshape(len(rows), length)


def list_statistics(
    top_NK: NDArray[np.int64], train_count_V: ArrayLike, target_count_N: ArrayLike
) -> ListStatistics | None:
    """Compute coverage and popularity of lists; None if they are empty.

    Example:
        Two lists contain three of four items; their entries occur 5, 1, 5 and 0 times in training.

        >>> list_statistics(np.array([[0, 1], [0, 2]]), [5, 1, 0, 9], [1, 3])
        ListStatistics(length=2, coverage=0.75, popularity=2.75, target_popularity=2.0)
    """
    counts_V = np.asarray(train_count_V)
    if not top_NK.size:
        return None
    return ListStatistics(
        top_NK.shape[1],
        len(np.unique(top_NK)) / len(counts_V),
        float(counts_V[top_NK].mean()),
        float(np.asarray(target_count_N).mean()),
    )


def group_metrics(
    masks: Mapping[str, Mask], views: Callable[[Mask], dict[str, dict[str, float]]]
) -> list[dict[str, Any]]:
    """Return name, count, share and ``views(mask)`` of each group that has a target."""
    return [
        {"name": name, "count": int(where.sum()), "share": float(where.mean()), "views": views(where)}
        for name, where in masks.items()
        if where.any()
    ]


def popularity_groups(train_counts: ArrayLike) -> dict[str, Mask]:
    """Group targets by their number of interactions in training; those without any are ``cold``.

    Example:
        >>> {name: where.tolist() for name, where in popularity_groups([0, 3, 500]).items() if where.any()}
        {'cold': [True, False, False], '1-5': [False, True, False], '>100': [False, False, True]}
    """
    named = _ranges(np.asarray(train_counts), (-1, *POPULARITY))
    return {COLD if name == "0" else name: where for name, where in named.items()}


def length_groups(positions: ArrayLike) -> dict[str, Mask]:
    """Group targets by the number of items before them.

    Example:
        >>> list(length_groups([1, 2, 3, 12]))
        ['1', '2', '3-5', '6-10', '>10']
    """
    return _ranges(np.asarray(positions), (0, *LENGTHS))


def cold_groups(targets: Sequence[str], items: pl.DataFrame) -> dict[str, Mask]:
    """Group targets by whether they occur in training (for the ID part) and have a text (for the text part).

    ``items`` is the catalogue of :func:`read_items`. If no item has a text (or vectors were given instead),
    targets are grouped by training alone.

    Example:
        >>> items = pl.DataFrame({"item_id": ["a", "b", "c"], "text": ["A", "", "C"],
        ...                       "trained": [True, True, False]})
        >>> {name: where.tolist() for name, where in cold_groups(["c", "b"], items).items()}
        {'trained, with text': [False, False], 'item-cold': [True, False], 'text-cold': [False, True]}
    """
    rows = pl.DataFrame({"item_id": list(targets)}, schema={"item_id": pl.String}).join(
        items.select("item_id", "text", "trained"), on="item_id", how="left", maintain_order="left"
    )
    if rows["trained"].null_count():
        raise InputError(
            "a target of ranks.parquet is not in vocabulary.parquet; the files are of different runs: copy "
            "the folder again or repeat the run"
        )
    trained, has_text = rows["trained"].to_numpy(), (rows["text"] != "").to_numpy()
    if not (items["text"] != "").any():
        return {"trained": trained, "item-cold": ~trained}
    return {"trained, with text": trained & has_text, "item-cold": ~trained, "text-cold": ~has_text}


def _ranges(values: NDArray[Any], edges: Sequence[int]) -> dict[str, Mask]:
    """Group values between edges (exclusive, inclusive), under names such as ``1-5``, ``6`` and ``>6``."""
    ends = pairwise(edges)
    named = {
        f"{high}" if low + 1 == high else f"{low + 1}-{high}": (values > low) & (values <= high)
        for low, high in ends
    }
    return named | {f">{edges[-1]}": values > edges[-1]}

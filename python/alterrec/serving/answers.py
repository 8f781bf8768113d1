"""Recommendations for blocks of sessions: by the model, or the most popular items where nothing is known."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from typing import TYPE_CHECKING

import numpy as np
import polars as pl
from numpy.typing import NDArray

from alterrec.data.events import other_writing
from alterrec.errors import InputError
from alterrec.evaluation.saved import read_items
from alterrec.serving.blocks import SessionBlock, SessionSource
from alterrec.serving.tally import Reason, Tally

if TYPE_CHECKING:
    from alterrec.runs.saved_model import SavedModel

MODEL, POPULAR = "model", "popular"
HEADER = "session_id,rank,item_id,score,source\n"
# If none of so many sessions has a known item, the ids are not those of the run.
SESSIONS_OF_ANOTHER_SHOP = 100


@dataclass(frozen=True)
class Answers:
    """The recommendations for a block of sessions.

    Attributes:
        rows: session_id, rank from 1, item_id, score and source: ``model``, or ``popular`` for sessions
            without a known item, whose score is the item's share of the training interactions. Sessions are
            in the order of the block.
        sessions: the ids of all sessions, also of those without rows.
        owners: (R,) number of the session of each row.
        tally: what was read, left out and answered in another way.
    """

    rows: pl.DataFrame
    sessions: pl.Series
    owners: NDArray[np.int64]
    tally: Tally

    def as_lines(self) -> pl.DataFrame:
        """Return a row for each session: session_id, source (null without items), items (item_id, score)."""
        lists = (
            self.rows.with_columns(session=self.owners)
            .group_by("session", maintain_order=True)
            .agg(pl.col("source").first(), pl.struct("item_id", "score").alias("items"))
        )
        numbered = pl.DataFrame({"session_id": self.sessions}).with_row_index("session")
        numbered = numbered.with_columns(pl.col("session").cast(pl.Int64))
        joined = numbered.join(lists, on="session", how="left", maintain_order="left").drop("session")
        return joined.with_columns(pl.col("items").fill_null([]))

    def text(self, suffix: str) -> str:
        """Return the recommendations as text: ``.csv`` without a header, or ``.jsonl``."""
        if suffix == ".csv":
            return self.rows.write_csv(include_header=False)
        return self.as_lines().write_ndjson()


class Recommending:
    """Recommend for blocks of sessions.

    Args:
        saved: the run.
        k: items for each session.
        exclude_seen: as for :meth:`~alterrec.runs.saved_model.SavedModel.recommend`.
        fallback: whether sessions without a known item get the most popular items; else they get none.

    Raises:
        InputError: ``k`` is out of range.
    """

    def __init__(
        self, saved: SavedModel, k: int, *, exclude_seen: bool | None = None, fallback: bool = True
    ) -> None:
        # Imports torch, which whoever has loaded a run has done.
        from alterrec.models.removed import removed_items

        saved.recommend_numbers([], k)
        self._saved, self.k, self._exclude_seen, self._fallback = saved, k, exclude_seen, fallback
        self._item_ids = pl.Series(saved.vocabulary.item_ids, dtype=pl.String)
        counts_V = read_items(saved.path)["train_count"].to_numpy().astype(np.int64)
        total = counts_V.sum()
        if (removed := removed_items(saved.model)) is not None:
            counts_V[removed.numpy()] = 0
        best = np.argsort(-counts_V, kind="stable")[:k]
        # An item that nobody has bought is not popular.
        self._popular = best[counts_V[best] > 0]
        self._shares = (counts_V[self._popular] / max(total, 1)).astype(np.float32)

    def answers(self, source: SessionSource | None, first: int = 0) -> Iterator[Answers]:
        """Yield the recommendations for the blocks of a source, from block number ``first`` on.

        The processes of a job answer one block each at a time. The first one reads them for all; the others
        have no source.

        Raises:
            InputError: a session cannot be read, there is none, or no session of the first block has a known
                item and there are 100 or more.
        """
        from alterrec import parallel

        blocks = iter(()) if source is None else source.blocks(first)

        def read() -> list[SessionBlock]:
            assert source is not None
            some = list(islice(blocks, parallel.job().world))
            if not number and not some:
                raise InputError(f"{source.name}: has no session; expected one at least")
            if not number:
                self._check_ids(source, some[0])
            return some

        number = first
        while some := parallel.from_first(read):
            number += len(some)
            mine = [some[turn] for turn in parallel.turns(len(some))]
            yield from parallel.in_order(lambda mine=mine: list(map(self.answer, mine)))  # type: ignore[misc]

    def answer(self, block: SessionBlock) -> Answers:
        """Return the recommendations for a block."""
        lengths = np.fromiter(map(len, block.items), np.int64, len(block.items))
        known = np.flatnonzero(lengths)
        ids = np.full((len(lengths), self.k), -1, np.int64)
        scores = np.full((len(lengths), self.k), -np.inf, np.float32)
        ids[known], scores[known] = self._saved.recommend_numbers(
            [block.items[place] for place in known.tolist()],
            self.k,
            None if block.users is None else block.users[known],
            exclude_seen=self._exclude_seen,
        )
        found = (ids[known] >= 0).sum(axis=1)
        tally = Tally(dict(block.tally.counts), dict(block.tally.examples))
        self._count(tally, "fewer", known[(found > 0) & (found < self.k)], block)
        self._count(tally, "none", known[found == 0], block)
        nothing = np.flatnonzero(lengths == 0)
        self._count(tally, "popular" if self._fallback else "left out", nothing, block)
        if self._fallback:
            ids[nothing, : len(self._popular)] = self._popular
            scores[nothing, : len(self._popular)] = self._shares
        owners, places = np.nonzero(ids >= 0)
        names = pl.Series("session_id", block.names, dtype=pl.String)
        source = pl.select(
            pl.when(pl.Series(lengths[owners] > 0)).then(pl.lit(MODEL)).otherwise(pl.lit(POPULAR))
        )
        rows = pl.DataFrame(
            {
                "session_id": names.gather(owners),
                "rank": places + 1,
                "item_id": self._item_ids.gather(ids[owners, places]),
                "score": scores[owners, places],
                "source": source.to_series(),
            }
        )
        return Answers(rows, names, owners, tally)

    def sentences(self, source: SessionSource, tally: Tally) -> list[str]:
        """Return what the user has to know about what was read, left out and answered in another way."""
        example = tally.examples.get("unknown item", "")
        hint = other_writing(example, self._saved.vocabulary) if example else ""
        no_user = "" if source.has_users else " (no column user_id)"
        return tally.sentences(source.name, source.unit, self.k, hint=hint, no_user=no_user)

    @staticmethod
    def _count(tally: Tally, reason: Reason, places: NDArray[np.int64], block: SessionBlock) -> None:
        if len(places):
            tally.add(reason, len(places), block.names[places[0]])

    def _check_ids(self, source: SessionSource, block: SessionBlock) -> None:
        if len(block.items) < SESSIONS_OF_ANOTHER_SHOP or any(map(len, block.items)):
            return
        vocabulary = self._saved.vocabulary
        example = (source.tally.examples | block.tally.examples).get("unknown item", "")
        raise InputError(
            f"{source.name}: none of the first {len(block.items)} sessions has an item of the catalogue, "
            f"whose first item is {vocabulary.item_ids[0]!r}; an item of the sessions is {example!r}"
            f"{other_writing(example, vocabulary)}; expected ids of the catalogue"
        )

"""The run that is served, and how another one takes its place."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import polars as pl
from numpy.typing import NDArray

from alterrec.errors import InputError, naming
from alterrec.evaluation.saved import read_items
from alterrec.files import is_panic
from alterrec.models.removed import removed_items
from alterrec.runs.recommendations import Recommendation
from alterrec.runs.saved_model import SavedModel, load


@dataclass(frozen=True, eq=False)
class ServedRun:
    """One loaded run, which never changes: a request is answered by the run that it began with.

    Attributes:
        name: name of its folder.
        model: its system with its catalogue.
        popular_V: (V,) item numbers, those with the most training interactions first.
        counts_V: (V,) training interactions of each item.
        loaded: when it was loaded, in UTC.
    """

    name: str
    model: SavedModel
    popular_V: NDArray[np.int64]
    counts_V: NDArray[np.int64]
    loaded: datetime
    _folded: pl.Series = field(repr=False)

    @classmethod
    def load(cls, folder: Path) -> ServedRun:
        """Load a run; raises as :func:`alterrec.load`."""
        # A link that is exchanged meanwhile does not mix two runs.
        folder = folder.resolve()
        model = load(folder)
        counts_V = read_items(folder)["train_count"].to_numpy().astype(np.int64)
        popular_V = np.argsort(-counts_V, kind="stable")
        ids = pl.Series(model.vocabulary.item_ids, dtype=pl.String)
        names = pl.DataFrame({"id": ids, "text": pl.Series(model.texts, dtype=pl.String)})[popular_V]
        folded = names.select(pl.concat_str("id", "text", separator="\n").str.to_lowercase()).to_series()
        return cls(folder.name, model, popular_V, counts_V, datetime.now(UTC), folded)

    def numbers(self, items: Sequence[str | int]) -> NDArray[np.int64]:
        """Return the number of each item, -1 for an unknown one."""
        return self.model.vocabulary.find([str(item) for item in items])

    def popular(
        self, k: int, exclude: Sequence[str | int] = (), only: Sequence[str | int] | None = None
    ) -> list[Recommendation]:
        """Return the ``k`` items with the most training interactions; scores are their shares of these.

        Items without any, and those that were removed from the catalogue, are left out.

        Args:
            k: number of items.
            exclude: ids of items that are left out.
            only: ids of the items that are allowed. Default: all.
        """
        allowed_V = np.full(len(self.counts_V), only is None)
        if only is not None:
            numbers = self.numbers(only)
            allowed_V[numbers[numbers >= 0]] = True
        numbers = self.numbers(exclude)
        allowed_V[numbers[numbers >= 0]] = False
        if (removed := removed_items(self.model.model)) is not None:
            allowed_V[removed.numpy()] = False
        allowed_V &= self.counts_V > 0
        chosen = self.popular_V[allowed_V[self.popular_V]][:k]
        return [
            Recommendation(
                self.model.vocabulary.item_ids[item],
                float(self.counts_V[item] / self.counts_V.sum()),
                self.model.texts[item],
            )
            for item in chosen.tolist()
        ]

    def search(self, words: str, limit: int) -> list[int]:
        """Return the numbers of items whose id or text contains every word, the most popular first.

        Upper and lower case are the same. Without words, all items are found. The item whose id is exactly
        ``words`` comes first.
        """
        found = pl.repeat(True, len(self._folded), eager=True)
        for word in words.lower().split():
            found = found & self._folded.str.contains(word, literal=True)
        numbers: list[int] = self.popular_V[found.arg_true().head(limit).to_numpy()].tolist()
        (exact,) = self.model.vocabulary.find([words.strip()]).tolist()
        if exact >= 0:
            numbers = [exact, *(number for number in numbers if number != exact)][:limit]
        return numbers


class LiveRun:
    """The run that answers now.

    Args:
        path: folder of a finished run, or a link to one; :meth:`reload` reads it again.

    Attributes:
        now: the loaded run.
        failure: why the last reload failed; empty if it did not.

    Raises:
        InputError: as :func:`alterrec.load`.
    """

    def __init__(self, path: str | Path) -> None:
        self._path = Path(path)
        self._reloading = threading.Lock()
        self.now = ServedRun.load(self._path)
        self.failure = ""

    def reload(self) -> bool:
        """Load the run that is now at the path and serve it; return whether that worked.

        The new run is loaded and has scored an item before it replaces the old one. If it cannot be loaded,
        the old one stays and ``failure`` says why.
        """
        with self._reloading:
            try:
                with naming(self._path):
                    self.now = ServedRun.load(self._path)
            # A run that is broken in a way that nobody thought of must not end the service.
            except BaseException as error:
                if not (isinstance(error, Exception) or is_panic(error)):
                    raise
                known = isinstance(error, InputError)
                self.failure = str(error) if known else f"{type(error).__name__}: {error}"
                return False
            self.failure = ""
            return True

"""A saved run, ready to recommend: external ids in, external ids out, no training data needed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from alterrec.errors import InputError
from alterrec.evaluation.evaluate import recommend_items
from alterrec.runs.saved_model import LoadedModel, load_model


class Recommendation(NamedTuple):
    """One recommended item: its external id, its score (higher is better) and its text."""

    item_id: str
    score: float
    text: str


@dataclass(frozen=True)
class SavedRun:
    """A trained system with its catalogue; made by :func:`load`."""

    path: Path
    loaded: LoadedModel

    def recommend(
        self,
        sessions: Sequence[Sequence[str]],
        k: int = 20,
        *,
        users: Sequence[str | None] | None = None,
        drop_unknown: bool = False,
    ) -> list[list[Recommendation]]:
        """The ``k`` best next items of each session, best first.

        Args:
            sessions: external item ids of each session, oldest first.
            k: items for each session.
            users: external user id of each session, None where it is not known; a system that reads no
                users passes over them. One who was not in training counts as not known.
            drop_unknown: pass over items that are not in the catalogue instead of raising.

        Returns:
            For each session ``k`` recommendations; an empty list for one without known items.

        Raises:
            InputError: an item is not in the catalogue, a session is empty, ``users`` are not one for each
                session, or ``k`` is out of range.

        Example:
            >>> import tempfile
            >>> from alterrec import fit, load
            >>> from alterrec.data.synthetic import synthetic_dataset
            >>> folder = Path(tempfile.mkdtemp()) / "run"
            >>> data = synthetic_dataset(items=300, sessions=500)
            >>> run = fit(data, "popularity", out=folder, overrides={"run.baselines": False})
            >>> (best,) = load(folder).recommend([data.vocabulary.item_ids[:2]], k=3)
            >>> len(best), best[0].score >= best[1].score
            (3, True)
        """
        vocabulary = self.loaded.vocabulary
        wanted: list[NDArray[np.int64]] = []
        for place, session in enumerate(sessions):
            if isinstance(session, str) or not len(session):
                raise InputError(f"session {place} is {session!r}; allowed: a list of one or more item ids")
            items = vocabulary.find(session) if drop_unknown else vocabulary.index(session)
            wanted.append(items[items >= 0])
        answers: list[list[Recommendation]] = [[] for _ in wanted]
        known = [place for place, items in enumerate(wanted) if items.size]
        user_S = self._user_numbers(users, len(wanted))
        ids, scores = self.recommend_numbers(
            [wanted[place] for place in known], k, None if user_S is None else user_S[known]
        )
        for place, items, values in zip(known, ids.tolist(), scores.tolist(), strict=True):
            answers[place] = [
                Recommendation(vocabulary.item_ids[item], score, self.loaded.texts[item])
                for item, score in zip(items, values, strict=True)
            ]
        return answers

    def _user_numbers(self, users: Sequence[str | None] | None, sessions: int) -> NDArray[np.int64] | None:
        if users is None:
            return None
        if isinstance(users, str) or len(users) != sessions:
            found = repr(users) if isinstance(users, str) else f"a list of {len(users)}"
            raise InputError(
                f"users is {found} for {sessions} sessions; allowed: a list with one user id for each, "
                "None where it is not known"
            )
        if self.loaded.users is None:
            return None
        # No user is called "".
        return self.loaded.users.find(["" if user is None else str(user) for user in users])

    def recommend_numbers(
        self, sessions: Sequence[NDArray[np.int64]], k: int, users: NDArray[np.int64] | None = None
    ) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
        """The ``k`` best next items of each session of item numbers: ids (S, k) and scores (S, k).

        ``users`` (S,) are numbers of ``loaded.users``, -1 where a user is not known.

        Raises:
            InputError: ``k`` is below 1 or above the candidates that a session leaves.
        """
        num_items = len(self.loaded.vocabulary)
        seen = 0
        if self.loaded.exclude_seen:
            seen = max((len(np.unique(items)) for items in sessions), default=0)
        if not 1 <= k <= num_items - seen:
            less = f" less {seen} that a session has seen" if seen else ""
            raise InputError(
                f"k is {k}; allowed: 1 to {num_items - seen} (a catalogue of {num_items} items{less})"
            )
        return recommend_items(self.loaded.model, sessions, k, self.loaded.protocol, num_items, users)


def load(run: str | Path) -> SavedRun:
    """The system of a run folder, as training left it.

    Raises:
        InputError: the folder is not that of a finished run.

    Example:
        >>> load("no/such/run")
        Traceback (most recent call last):
            ...
        alterrec.errors.InputError: no/such/run: no recipe.toml; allowed: the folder of a finished run
    """
    return SavedRun(Path(run), load_model(run))

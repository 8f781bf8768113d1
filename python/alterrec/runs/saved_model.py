"""Load the model of a run folder: recommend, score, find similar items, explain."""

from __future__ import annotations

import operator
from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from alterrec.data.repeats import RepeatModel, SeenItems
from alterrec.errors import InputError
from alterrec.evaluation.evaluate import SCORE_BYTES, Protocol
from alterrec.files import reading
from alterrec.models.base import Scorer, Tables
from alterrec.models.service_scores import ServiceScores
from alterrec.nn.losses import ScoreBuffer
from alterrec.ranking import top_ranked
from alterrec.recipe import Recipe
from alterrec.runs import explanations, requests, scoring, similar
from alterrec.runs.downloads import local_folder
from alterrec.runs.explanations import Explanation
from alterrec.runs.inputs import RunCatalogue, read_catalogue
from alterrec.runs.rebuild import StoredModel, check_device, shards_in
from alterrec.runs.recommendations import Recommendation, Recommendations, Scores, SimilarItems
from alterrec.runs.requests import ItemFilter, NumberFilter, Numbers
from alterrec.shards import Shard
from alterrec.tensor_files import read_tensors
from alterrec.vocabulary import Vocabulary


@dataclass(frozen=True, repr=False)
class SavedModel:
    """A trained system with its catalogue, as :func:`alterrec.load` returns it; it needs no training data.

    Load it once and use it from as many threads as you like: calls change nothing that others see, and give
    the same results as one after the other.

    A session can have any length. All parts of a score read its last ``model.max_len`` items (50 by default),
    like in training; which items it has seen (``exclude_seen``, the repeat component) is read from all of
    them.

    Attributes:
        trained: (V,) whether each item occurs in training.
        seen: rule for items already in the session: ``kept``, ``excluded`` or ``repeats``.
        repeats: the repeat component, with the rule ``repeats``.
        users: the users that the model knows; None if it reads no users, or knows them by number only.

    Example:
        >>> import tempfile
        >>> from alterrec import fit, load
        >>> from alterrec.data.synthetic import synthetic_dataset
        >>> folder = Path(tempfile.mkdtemp()) / "run"
        >>> data = synthetic_dataset(items=100, sessions=200)
        >>> quick = {"run.baselines": False, "run.report": False}
        >>> run = fit(data, "itemknn", out=folder, overrides=quick)
        >>> model = load(folder)
        >>> first, second, third = data.vocabulary.item_ids[:3]
        >>> (best,) = model.recommend([[first, second]], k=3, exclude=[third], exclude_seen=True)
        >>> len(best), third in [item.item_id for item in best]
        (3, False)
        >>> model.score([[first, second]], [best[0].item_id])[0][0] == best[0].score
        True
        >>> len(model.similar_items([first], k=5)[0])
        5
        >>> (explained,) = model.explain([first, second], k=1, exclude_seen=True).items
        >>> explained.item_id == best[0].item_id, round(sum(explained.parts.values()) - explained.score, 6)
        (True, 0.0)
    """

    path: Path
    recipe: Recipe
    vocabulary: Vocabulary
    texts: list[str]
    trained: NDArray[np.bool_]
    seen: SeenItems
    repeats: RepeatModel | None
    model: Scorer
    users: Vocabulary | None

    def __repr__(self) -> str:
        return f"SavedModel({self.recipe.model_name}, {len(self.vocabulary)} items, {str(self.path)!r})"

    def __getstate__(self) -> dict[str, Any]:
        """Return the fields, without what is computed from them."""
        return {field.name: getattr(self, field.name) for field in fields(self)}

    @cached_property
    def protocol(self) -> Protocol:
        """The evaluation protocol of the run."""
        return protocol_of(self.recipe, self.seen, self.repeats)

    def recommend(
        self,
        sessions: Sequence[Sequence[str | int]],
        k: int = 20,
        *,
        users: Sequence[str | int | None] | None = None,
        drop_unknown: bool = False,
        exclude_seen: bool | None = None,
        exclude: ItemFilter | None = None,
        only: ItemFilter | None = None,
    ) -> Recommendations:
        """Return the ``k`` best next items of each session, best first.

        Args:
            sessions: for each session a list of item ids as in your data, oldest first. An integer means its
                text.
            k: number of items for each session, 1 or more. Default: 20.
            users: one user id for each session, None or "" if it is unknown. Users who were not in training
                are treated as unknown; systems that read no users ignore this argument. Default: all unknown.
            drop_unknown: whether ids that are not in the catalogue, in sessions and in filters, are ignored
                and listed in ``unknown`` and ``unknown_in_filters`` of the result. Default: they are an
                error.
            exclude_seen: whether items of a session are never recommended for it. Default: as the run was
                evaluated. False: they are candidates, with the counted probability of a repeat if the run has
                the repeat component, else by their scores.
            exclude: item ids that are never recommended: one list for all sessions; or for each session a
                list, or None for none. Default: none.
            only: item ids that can be recommended, in the same form; an empty list allows no item. Default:
                all. Filters change no score.

        Returns:
            For each session ``k`` recommendations; fewer if filters and the session leave fewer candidates,
            and none if none of its items is known. ``to_polars()`` and ``to_pandas()`` make a frame of them.

        Raises:
            InputError: an item is not in the catalogue, an id is neither text nor an integer, a session is
                empty, ``users`` or a filter has another length than ``sessions``, or ``k`` is out of range.

        Example:
            >>> import tempfile
            >>> from alterrec import fit, load
            >>> from alterrec.data.synthetic import synthetic_dataset
            >>> folder = Path(tempfile.mkdtemp()) / "run"
            >>> data = synthetic_dataset(items=100, sessions=200)
            >>> quick = {"run.baselines": False, "run.report": False}
            >>> run = fit(data, "popularity", out=folder, overrides=quick)
            >>> (best,) = load(folder).recommend([data.vocabulary.item_ids[:2]], k=3)
            >>> len(best), best[0].score >= best[1].score
            (3, True)
        """
        numbers, unknown = requests.session_numbers(sessions, self.vocabulary, drop_unknown=drop_unknown)
        filters, strangers = [], []
        for name, values in (("exclude", exclude), ("only", only)):
            items, others = requests.filter_numbers(
                name, values, len(numbers), self.vocabulary, drop_unknown=drop_unknown
            )
            filters.append(items)
            strangers += others
        known = [place for place, items in enumerate(numbers) if items.size]
        user_S = requests.user_numbers(users, len(numbers), self.users)
        ids, scores = self.recommend_numbers(
            [numbers[place] for place in known],
            k,
            None if user_S is None else user_S[known],
            exclude_seen=exclude_seen,
            exclude=requests.rows_of(filters[0], known),
            only=requests.rows_of(filters[1], known),
        )
        lists: list[list[Recommendation]] = [[] for _ in numbers]
        for place, items, values in zip(known, ids.tolist(), scores.tolist(), strict=True):
            lists[place] = [
                Recommendation(self.vocabulary.item_ids[item], score, self.texts[item])
                for item, score in zip(items, values, strict=True)
                if item >= 0
            ]
        return Recommendations(lists, unknown, list(dict.fromkeys(strangers)))

    def score(
        self,
        sessions: Sequence[Sequence[str | int]],
        items: Sequence[str | int] | Sequence[Sequence[str | int]],
        *,
        users: Sequence[str | int | None] | None = None,
        drop_unknown: bool = False,
        exclude_seen: bool | None = None,
    ) -> Scores:
        """Return the scores of given items in each session, the same numbers as in :meth:`recommend`.

        Args:
            sessions: as in :meth:`recommend`.
            items: ids of the items: one list for all sessions, or one for each. All must be in the catalogue.
            users: as in :meth:`recommend`.
            drop_unknown: whether items of sessions that are not in the catalogue are ignored and listed in
                ``unknown`` of the result. Default: they are an error.
            exclude_seen: as in :meth:`recommend`; it decides whether the score of an item of the session is
                that of the repeat component. Items that are excluded have a score all the same; that of one
                that was removed from the catalogue is -inf.

        Returns:
            For each session the scores of its items, in the order of the items; none if no item of the
            session is known.

        Raises:
            InputError: as in :meth:`recommend`.

        Example:
            >>> import tempfile
            >>> from alterrec import fit, load
            >>> from alterrec.data.synthetic import synthetic_dataset
            >>> folder = Path(tempfile.mkdtemp()) / "run"
            >>> data = synthetic_dataset(items=100, sessions=200)
            >>> quick = {"run.baselines": False, "run.report": False}
            >>> run = fit(data, "popularity", out=folder, overrides=quick)
            >>> first, second = data.vocabulary.item_ids[:2]
            >>> load(folder).score([[first]], [first, second])
            Scores(1 session, 2 scores)
        """
        numbers, unknown = requests.session_numbers(sessions, self.vocabulary, drop_unknown=drop_unknown)
        asked, _ = requests.filter_numbers("items", items, len(numbers), self.vocabulary, drop_unknown=False)
        own = [asked] * len(numbers) if isinstance(asked, np.ndarray) else list(asked or [])
        for place, each in enumerate(own):
            if each is None:
                raise InputError(f"items[{place}] is None; expected a list of item ids")
        known = [place for place, session in enumerate(numbers) if session.size]
        user_S = requests.user_numbers(users, len(numbers), self.users)
        found = scoring.item_scores(
            self,
            [numbers[place] for place in known],
            [each for place in known if (each := own[place]) is not None],
            None if user_S is None else user_S[known],
            self._protocol_for(exclude_seen),
        )
        scores: list[list[float]] = [[] for _ in numbers]
        for place, values in zip(known, found, strict=True):
            scores[place] = values.tolist()
        names = [[self.vocabulary.item_ids[item] for item in each] for each in own if each is not None]
        return Scores(scores, names, unknown)

    def similar_items(
        self, items: Sequence[str | int], k: int = 20, *, by: str | None = None
    ) -> SimilarItems:
        """Return the ``k`` most similar items of each item, most similar first; ties in the order of items.

        Args:
            items: ids of the items to compare with.
            k: number of similar items of each, 1 or more. Default: 20.
            by: what is compared. ``id``, ``text`` or ``model`` (a system of one network): the cosine of the
                item vectors that are scored. ``both`` (ID and text are separate networks): the mean of the
                cosines of ``id`` and ``text``, with their weights in the score. ``neighbours``: how often
                items meet in sessions, as itemknn or co-visitation counts it. Default: ``both`` or ``model``,
                or what the run has.

        Returns:
            For each item ``k`` similar ones with their similarity as score; fewer if fewer are comparable:
            an item without training has no ID vector (``both`` uses its text), and one that never met
            another has no neighbours.

        Raises:
            InputError: an item is not in the catalogue, the run has no such similarity (popularity has none),
                or ``k`` is out of range.

        Example:
            >>> import tempfile
            >>> from alterrec import fit, load
            >>> from alterrec.data.synthetic import synthetic_dataset
            >>> folder = Path(tempfile.mkdtemp()) / "run"
            >>> data = synthetic_dataset(items=100, sessions=200)
            >>> quick = {"run.baselines": False, "run.report": False}
            >>> run = fit(data, "itemknn", out=folder, overrides=quick)
            >>> found = load(folder).similar_items(data.vocabulary.item_ids[:2], k=3)
            >>> found.by, len(found), len(found[0])
            ('neighbours', 2, 3)
        """
        numbers = requests.item_numbers(items, self.vocabulary)
        return similar.similar_items(self, numbers, self._checked_k(k), by)

    def explain(
        self,
        session: Sequence[str | int],
        items: Sequence[str | int] | None = None,
        *,
        k: int = 5,
        user: str | int | None = None,
        drop_unknown: bool = False,
        exclude_seen: bool | None = None,
    ) -> Explanation:
        """Return what each part contributed to the scores of items in a session, and from which of its items.

        A contribution is the score of a part times its weight; they add up to the score. The ID part of an
        item without training is computed from its text, and counts as text. With the repeat component, the
        contribution ``repeats`` is how much it changes the score of an item of the session.

        A part with several queries (docs/queries.md) is a mixture of what each item of the session and the
        session as a whole ask for; the share of a query is its responsibility
        ``w_j p_j(i) / sum(w p(i))``. The part ``neighbours`` is a sum over the items of the session; the
        share is that of the sum, of which the offset of the logarithm is the ``constant``.

        Args:
            session: item ids, oldest first.
            items: ids of the items to explain. Default: the ``k`` best.
            k: number of items, if they are not given. Default: 5.
            user: user id. Default: unknown.
            drop_unknown: whether items of the session that are not in the catalogue are ignored and listed in
                ``unknown`` of the result. Default: they are an error.
            exclude_seen: as in :meth:`recommend`.

        Returns:
            The explanation, with ``to_polars()`` and ``sources_to_polars()``. It has no items if no item of
            the session is known.

        Raises:
            InputError: as in :meth:`recommend`.

        Example:
            >>> import tempfile
            >>> from alterrec import fit, load
            >>> from alterrec.data.synthetic import synthetic_dataset
            >>> folder = Path(tempfile.mkdtemp()) / "run"
            >>> data = synthetic_dataset(items=100, sessions=200)
            >>> quick = {"run.baselines": False, "run.report": False}
            >>> run = fit(data, "popularity", out=folder, overrides=quick)
            >>> first = data.vocabulary.item_ids[0]
            >>> load(folder).explain([first], [first]).to_polars()["part"].to_list()
            ['model', 'repeats']
        """
        (numbers,), (unknown,) = requests.session_numbers(
            [session], self.vocabulary, drop_unknown=drop_unknown
        )
        user_1 = requests.user_numbers([user], 1, self.users)
        if items is None:
            k, chosen = self._checked_k(k), numbers
        else:
            chosen = requests.item_numbers(items, self.vocabulary)
        if not numbers.size:
            return Explanation([], unknown, "")
        if items is None:
            best = self.recommend_numbers([numbers], k, user_1, exclude_seen=exclude_seen)[0][0]
            chosen = best[best >= 0]
        names = [requests.id_text("session", item) for item in session]
        places = [place for place, known in enumerate(self.vocabulary.find(names) >= 0) if known]
        return explanations.explain(
            self, numbers, places, chosen, user_1, self._protocol_for(exclude_seen), unknown
        )

    def recommend_numbers(
        self,
        sessions: Sequence[Numbers],
        k: int,
        users: Numbers | None = None,
        *,
        exclude_seen: bool | None = None,
        exclude: NumberFilter | None = None,
        only: NumberFilter | None = None,
    ) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
        """Return the ``k`` best next items of each session of item numbers: ids (S, k) and scores (S, k).

        ``users`` (S,) are indices into ``self.users``, -1 where a user is unknown; the other arguments are
        those of :meth:`recommend` with item numbers. Where a session leaves fewer than ``k`` candidates, its
        last ids are -1 and their scores -inf.

        Raises:
            InputError: ``k`` is below 1, or larger than the catalogue.
        """
        k = self._checked_k(k)
        protocol = self._protocol_for(exclude_seen)
        return scoring.best_items(self, sessions, k, users, protocol, exclude=exclude, only=only)

    def tables(self) -> dict[str, Tables]:
        """Return the item tables of the networks, with memory for scores that no other call uses."""
        return {name: tables._replace(scores=ScoreBuffer()) for name, tables in self._tables.items()}

    @cached_property
    def _tables(self) -> dict[str, Tables]:
        with torch.inference_mode():
            return self.model.prepare()

    @cached_property
    def service_scores(self) -> ServiceScores | None:
        """The fast scores of a system of networks; None for another one."""
        with torch.inference_mode():
            return ServiceScores.of(self.model, self._tables, self.repeats)

    def unit_vectors(self) -> dict[str, Tensor]:
        """Return the scored item vectors (V, D) by network and block, with length 1."""
        return self._unit_vectors

    @cached_property
    def _unit_vectors(self) -> dict[str, Tensor]:
        return similar.unit_vectors(self)

    def _checked_k(self, k: Any) -> int:
        num_items = len(self.vocabulary)
        if isinstance(k, bool) or not hasattr(k, "__index__") or not 1 <= k <= num_items:
            raise InputError(f"k is {k!r}; expected 1 to {num_items} (a catalogue of {num_items} items)")
        return operator.index(k)

    def _protocol_for(self, exclude_seen: bool | None) -> Protocol:
        if exclude_seen is None:
            return self.protocol
        if exclude_seen:
            return replace(self.protocol, seen="excluded", repeats=None)
        return replace(self.protocol, seen="kept" if self.repeats is None else "repeats")


def protocol_of(
    recipe: Recipe, seen: SeenItems, repeats: RepeatModel | None, score_bytes: int = SCORE_BYTES
) -> Protocol:
    """Return the evaluation protocol of a recipe with ``data.exclude_seen`` resolved."""
    return Protocol(
        targets=recipe.data.targets,
        seen=seen,
        repeats=repeats,
        max_len=recipe.model.max_len,
        budget_bytes=score_bytes,
        device=recipe.run.device,
        metrics=recipe.metrics,
    )


def load(run: str | Path) -> SavedModel:
    """Load the system of a run folder; it needs no training data and unpickles nothing.

    Args:
        run: path of the folder of a finished run, which training printed last; or ``hf://USER/NAME``, a
            repository of the Hugging Face Hub that ``alterrec push`` wrote.

    Returns:
        The system with its catalogue, ready to recommend.

    Raises:
        InputError: the folder is not that of a finished run, a file is damaged, or the files are not those of
            one run.

    Example:
        >>> load("no/such/run")
        Traceback (most recent call last):
            ...
        alterrec.errors.InputError: no/such/run has no recipe.toml; give the folder of a finished run
    """
    return load_model(read_catalogue(local_folder(run)))


def load_model(known: RunCatalogue, shard: Shard | None = None) -> SavedModel:
    """Load the system of a run whose catalogue is read already; as :func:`load`.

    Args:
        known: the catalogue.
        shard: the rows of item tables that this process of a job keeps; None: all.
    """
    check_device(known.recipe.run.device)
    file = known.path / "model.safetensors"
    shards = {} if shard is None else shards_in(file, shard)
    stored = StoredModel(file, *read_tensors(file, shards=shards), shard)
    # What fails from here on fails because the files do not belong together.
    with reading(known.path):
        loaded = SavedModel(
            **known._asdict(),
            seen=stored.seen(),
            repeats=stored.repeats(),
            model=stored.model(known.recipe, known.trained),
        )
        # Scores of one item show what no check of shapes does, such as ids outside of a table.
        for _, scores_NV in scoring.by_batches(
            loaded, [np.zeros(1, np.int64)], None, loaded._protocol_for(exclude_seen=False)
        ):
            top_ranked(scores_NV, 1)
    return loaded

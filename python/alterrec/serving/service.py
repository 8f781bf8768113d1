"""Answer the requests of the HTTP service by the run that is loaded."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any, NamedTuple

from alterrec import __version__
from alterrec.errors import InputError, number_of
from alterrec.runs.explanations import Explanation
from alterrec.runs.recommendations import Recommendation, SimilarItems
from alterrec.serving import messages
from alterrec.serving.batching import Batcher, QueueFullError, Work
from alterrec.serving.guard import RefusedError
from alterrec.serving.limits import Limits
from alterrec.serving.live_run import LiveRun, ServedRun
from alterrec.serving.measures import Measures
from alterrec.serving.messages import ItemId


class _SessionRow(NamedTuple):
    """One session of a request, and what may be recommended for it."""

    session: Sequence[ItemId]
    user: ItemId | None
    exclude: Sequence[ItemId]
    only: Sequence[ItemId] | None


class _Recommended(NamedTuple):
    """The items for a session, the number of its unknown items, and whether the items are popular ones."""

    items: list[Recommendation]
    unknown: int
    popular: bool


@dataclass(frozen=True)
class _Recommend:
    """Recommend for sessions; those of requests with the same settings are one batch."""

    served: ServedRun
    k: int
    exclude_seen: bool | None

    def __call__(self, rows: Sequence[_SessionRow]) -> list[_Recommended]:
        asked = [row for row in rows if row.session]
        excluded = [row.exclude or None for row in asked]
        allowed = [row.only for row in asked]
        found = self.served.model.recommend(
            [row.session for row in asked],
            self.k,
            users=[row.user for row in asked],
            exclude=excluded if any(excluded) else None,
            only=allowed if any(only is not None for only in allowed) else None,
            exclude_seen=self.exclude_seen,
            drop_unknown=True,
        )
        answered = iter(zip(found, found.unknown, strict=True))
        return [self._with_popular(row, *(next(answered) if row.session else ([], []))) for row in rows]

    def _with_popular(
        self, row: _SessionRow, items: list[Recommendation], unknown: Sequence[str]
    ) -> _Recommended:
        """Return what was found for a session, or the most popular items if nothing in it is known."""
        if len(unknown) < len(row.session):
            return _Recommended(items, len(unknown), False)
        return _Recommended(self.served.popular(self.k, row.exclude, row.only), len(unknown), True)


@dataclass(frozen=True)
class _Similar:
    """Find items that are similar to others; those of requests with the same settings are one batch."""

    served: ServedRun
    k: int
    by: str | None

    def __call__(self, rows: Sequence[ItemId]) -> list[tuple[list[Recommendation], str]]:
        found: SimilarItems = self.served.model.similar_items(rows, self.k, by=self.by)
        return [(items, found.by) for items in found]


@dataclass(frozen=True)
class _Explain:
    """Explain the scores of items, one session after the other."""

    served: ServedRun

    def __call__(self, rows: Sequence[messages.ExplainRequest]) -> list[Explanation]:
        return [
            self.served.model.explain(
                row.session,
                row.items,
                user=row.user,
                exclude_seen=row.exclude_seen,
                drop_unknown=True,
            )
            for row in rows
        ]


class RecommendationService:
    """What the HTTP service answers, without HTTP.

    Args:
        live: the run that answers.
        limits: what a request may ask for. Default: :class:`Limits`.

    Attributes:
        live, limits: the arguments.
        measures: the counters.

    Example:
        >>> import tempfile
        >>> from pathlib import Path
        >>> from alterrec import fit
        >>> from alterrec.data.synthetic import synthetic_dataset
        >>> data = synthetic_dataset(items=300, sessions=500)
        >>> folder = Path(tempfile.mkdtemp()) / "run"
        >>> run = fit(data, "popularity", out=folder, overrides={"run.baselines": False})
        >>> service = RecommendationService(LiveRun(run.path))
        >>> asked = messages.RecommendRequest(sessions=[["no such item"]], k=3)
        >>> (answer,) = asyncio.run(service.recommend(asked)).sessions
        >>> answer.source, answer.unknown_items, len(answer.items)
        ('popular', 1, 3)
    """

    def __init__(self, live: LiveRun, limits: Limits | None = None) -> None:
        self.live = live
        self.limits = limits or Limits()
        self.measures = Measures(lambda: self._batcher.waiting)
        self._batcher = Batcher(
            batch=self.limits.batch, waiting=self.limits.waiting, observe=self.measures.batches.observe
        )
        self._note_run()

    async def recommend(self, asked: messages.RecommendRequest) -> messages.RecommendAnswer:
        """Recommend items for each session of a request."""
        served = self.live.now
        self._check("sessions", asked.sessions, self.limits.sessions)
        for place, session in enumerate(asked.sessions):
            self._check(f"sessions[{place}]", session, self.limits.items)
        self._check("exclude", asked.exclude, self.limits.items)
        self._check("only", asked.only or (), self.limits.items)
        users = [None] * len(asked.sessions) if asked.users is None else asked.users
        if len(users) != len(asked.sessions):
            sessions = number_of(len(asked.sessions), "session")
            raise InputError(
                f"users has {number_of(len(users), 'value')} for {sessions}; give one for each "
                "session, null where it is unknown"
            )
        rows = [
            _SessionRow(session, user, asked.exclude, asked.only)
            for session, user in zip(asked.sessions, users, strict=True)
        ]
        work = _Recommend(served, self._most(asked.k, served), asked.exclude_seen)
        found: Sequence[_Recommended] = await self._answers(work, rows)
        self.measures.unknown.inc(sum(each.unknown for each in found))
        self.measures.popular.inc(sum(each.popular for each in found))
        return messages.RecommendAnswer(
            run=served.name,
            sessions=[
                messages.SessionAnswer(
                    items=_scored(each.items, texts=asked.texts),
                    unknown_items=each.unknown,
                    source="popular" if each.popular else "model",
                )
                for each in found
            ],
        )

    async def similar(self, asked: messages.SimilarRequest) -> messages.SimilarAnswer:
        """Find the items that are most similar to each item of a request."""
        served = self.live.now
        self._check("items", asked.items, self.limits.sessions)
        known = [bool(number >= 0) for number in served.numbers(asked.items)]
        rows = [item for item, one in zip(asked.items, known, strict=True) if one]
        found = iter(await self._answers(_Similar(served, self._most(asked.k, served), asked.by), rows))
        answers = []
        for item, one in zip(asked.items, known, strict=True):
            items, by = next(found) if one else ([], "")
            answers.append(
                messages.SimilarToItem(
                    item_id=str(item), known=one, by=by, items=_scored(items, texts=asked.texts)
                )
            )
        return messages.SimilarAnswer(run=served.name, items=answers)

    async def explain(self, asked: messages.ExplainRequest) -> messages.ExplainAnswer:
        """Say where the scores of some items in a session come from."""
        served = self.live.now
        for name, values, most in (
            ("session", asked.session, self.limits.items),
            ("items", asked.items, self.limits.k),
        ):
            self._check(name, values, most)
            if not values:
                raise InputError(f"{name} is empty; give one item id or more")
        (found,) = await self._answers(_Explain(served), [asked])
        return messages.ExplainAnswer(
            run=served.name,
            items=[
                messages.ExplainedScore(
                    item_id=item.item_id,
                    score=item.score,
                    parts=item.parts,
                    sources={
                        part: [messages.SourceShare(**source._asdict()) for source in sources]
                        for part, sources in item.sources.items()
                    },
                )
                for item in found.items
            ],
            unknown_items=len(found.unknown),
            note=found.note,
        )

    def search(self, words: str, limit: int) -> messages.ItemsAnswer:
        """Find items by words of their id or text."""
        served = self.live.now
        names, texts = served.model.vocabulary.item_ids, served.model.texts
        return messages.ItemsAnswer(
            items=[
                messages.FoundItem(item_id=names[item], text=texts[item])
                for item in served.search(words, limit)
            ]
        )

    def health(self) -> messages.HealthAnswer:
        """Return which run answers, and whether the last reload worked."""
        served = self.live.now
        return messages.HealthAnswer(
            run=served.name,
            model=served.model.recipe.model_name,
            items=len(served.model.vocabulary),
            loaded=served.loaded,
            reload_failure=self.live.failure,
            version=__version__,
        )

    def reload(self) -> str:
        """Load the run again and return a line about it; requests are answered meanwhile.

        If the new run cannot be loaded, the old one stays.
        """
        done = self.live.reload()
        self.measures.reloads.labels("done" if done else "failed").inc()
        self._note_run()
        name = self.live.now.name
        if done:
            return f"reloaded; {name} answers now"
        return (
            f"error: {self.live.failure}; not reloaded: the run {name} that was loaded before still answers"
        )

    async def _answers(self, work: Work, rows: Sequence[Any]) -> Sequence[Any]:
        if not rows:
            return []
        try:
            async with asyncio.timeout(self.limits.seconds):
                return await self._batcher.submit(work, rows)
        except QueueFullError:
            raise RefusedError(
                HTTPStatus.SERVICE_UNAVAILABLE,
                f"{self._batcher.waiting} sessions wait already and at most {self.limits.waiting} may; try "
                "again in a second",
                {"Retry-After": "1"},
            ) from None
        except TimeoutError:
            raise RefusedError(
                HTTPStatus.GATEWAY_TIMEOUT,
                f"there was no answer within {self.limits.seconds:g} s, which is the limit; try again, or "
                "send fewer sessions in a request",
            ) from None

    def _check(self, name: str, values: Sequence[Any], most: int) -> None:
        if len(values) > most:
            raise InputError(f"{name} has {len(values):,} entries; this service takes {most:,} at most")

    def _most(self, k: int, served: ServedRun) -> int:
        """The number of items to look for: no more than there are."""
        if k > self.limits.k:
            raise InputError(f"k is {k:,}; this service takes 1 to {self.limits.k:,}")
        return min(k, len(served.model.vocabulary))

    def _note_run(self) -> None:
        self.measures.loaded.set(self.live.now.loaded.timestamp())
        self.measures.items.set(len(self.live.now.model.vocabulary))


def _scored(items: Sequence[Recommendation], *, texts: bool) -> list[messages.ScoredItem]:
    return [
        messages.ScoredItem(item_id=item.item_id, score=item.score, text=item.text if texts else None)
        for item in items
    ]

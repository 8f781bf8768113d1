"""Requests that arrive together are computed as one batch."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

from alterrec.errors import InputError

# From rows to one answer for each row. Functions that are equal are called once for the rows of all of them.
Work = Callable[[Sequence[Any]], Sequence[Any]]


class QueueFullError(Exception):
    """As many rows wait as may."""


@dataclass(eq=False)
class _Waiting:
    """The rows of one request, what is to be done with them, and the future of their answers."""

    work: Work
    rows: Sequence[Any]
    answers: asyncio.Future[Sequence[Any]]


class Batcher:
    """Compute the rows of requests in one thread, those that wait together as one batch.

    No request waits for others to arrive: a batch begins as soon as the one before it has ended, with all
    that came meanwhile. So a single request is computed at once, and batches grow with the load.

    Args:
        batch: rows in a batch, at most, unless one request has more.
        waiting: rows that may wait, at most.
        observe: function of the number of rows of each batch. Default: none.

    Example:
        >>> def double(rows):
        ...     return [2 * row for row in rows]
        >>> async def two_requests():
        ...     batcher = Batcher(batch=10, waiting=10)
        ...     return await asyncio.gather(batcher.submit(double, [1, 2]), batcher.submit(double, [5]))
        >>> asyncio.run(two_requests())
        [[2, 4], [10]]
    """

    def __init__(self, *, batch: int, waiting: int, observe: Callable[[int], None] | None = None) -> None:
        self._batch = batch
        self._most_waiting = waiting
        self._observe = observe
        self._queue: deque[_Waiting] = deque()
        self._rows_waiting = 0
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="alterrec-batches")
        self._work: asyncio.Task[None] | None = None

    @property
    def waiting(self) -> int:
        """Number of rows that wait."""
        return self._rows_waiting

    async def submit(self, work: Work, rows: Sequence[Any]) -> Sequence[Any]:
        """Return the answer of each row. If the call is cancelled while its rows wait, they are not computed.

        Args:
            work: what is done with the rows, in the thread. The rows of requests with equal work are given to
                it together, in the order in which they came.
            rows: the rows of one request.

        Raises:
            QueueFullError: the rows do not fit into the queue.
        """
        if self._rows_waiting + len(rows) > self._most_waiting:
            raise QueueFullError
        one = _Waiting(work, rows, asyncio.get_running_loop().create_future())
        self._queue.append(one)
        self._rows_waiting += len(rows)
        if self._work is None or self._work.done():
            self._work = asyncio.create_task(self._work_off())
        return await one.answers

    async def _work_off(self) -> None:
        loop = asyncio.get_running_loop()
        while batch := self._next_batch():
            if self._observe is not None:
                self._observe(sum(len(one.rows) for one in batch))
            answered = await loop.run_in_executor(self._thread, self._answer, batch)
            for one, answers in zip(batch, answered, strict=True):
                if one.answers.done():
                    continue
                if isinstance(answers, BaseException):
                    one.answers.set_exception(answers)
                else:
                    one.answers.set_result(answers)

    def _next_batch(self) -> list[_Waiting]:
        """Take the oldest request that still waits, and others with equal work, from the queue."""
        chosen: list[_Waiting] = []
        left: deque[_Waiting] = deque()
        size = 0
        for one in self._queue:
            if one.answers.done():
                self._rows_waiting -= len(one.rows)
            elif not chosen or (one.work == chosen[0].work and size + len(one.rows) <= self._batch):
                chosen.append(one)
                size += len(one.rows)
                self._rows_waiting -= len(one.rows)
            else:
                left.append(one)
        self._queue = left
        return chosen

    @classmethod
    def _answer(cls, batch: Sequence[_Waiting]) -> list[Sequence[Any] | BaseException]:
        try:
            answers = batch[0].work([row for one in batch for row in one.rows])
        except InputError as error:
            # One request is wrong; the others are answered.
            return [error] if len(batch) == 1 else [cls._answer([one])[0] for one in batch]
        except Exception as error:
            return [error] * len(batch)
        ends = [0]
        for one in batch:
            ends.append(ends[-1] + len(one.rows))
        return [answers[first:last] for first, last in pairwise(ends)]
